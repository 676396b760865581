"""VQA v1, v2, OK-VQA, A-OKVQA and LXMERT's files: the layouts as they are, and files that do not belong together."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from tests.training.data.questions.vqa_files import (
    VQA_ANSWERS,
    answers,
    draw_images,
    vqa_annotations,
    vqa_questions,
    write,
)
from training.data.questions.formats import load_vqa


@pytest.fixture
def vqa(tmp_path: Path) -> dict[str, Path]:
    return {
        "questions": write(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", vqa_questions()),
        "annotations": write(tmp_path / "v2_mscoco_val2014_annotations.json", vqa_annotations()),
    }


def test_questions_meet_their_annotations(vqa: dict[str, Path], tmp_path: Path) -> None:
    images = draw_images(tmp_path / "coco" / "val2014", [f"COCO_val2014_{i:012d}.jpg" for i in (1, 2)])
    rows = load_vqa("vqa_v2", **vqa, images=images.parent)
    assert rows["question_id"][:] == ["1000", "1001", "2000"] and rows["image_id"][:] == ["1", "1", "2"]
    assert rows["question"][:] == ["Is it red?", "How many dogs?", "What is this?"]
    assert rows["answers"][:] == list(VQA_ANSWERS.values())
    assert rows["answer"][:] == ["yes", "2", "a cat"]
    assert rows["question_type"][:] == ["is it", "how many", "what is"]
    assert rows["answer_type"][:] == ["yes/no", "number", "other"]
    assert set(rows["split"]) == {"val"} and set(rows["details"]) == {""} and rows["choices"][:] == [[]] * 3
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 0, 1]


@pytest.mark.parametrize(
    ("part", "kind", "image"),
    [
        ("train2014", "mscoco", "COCO_train2014_000000000001.jpg"),
        ("test-dev2015", "mscoco", "COCO_test2015_000000000001.jpg"),
        ("val2015", "abstract_v002", "abstract_v002_val2015_000000000001.png"),
    ],
)
def test_images_are_called_as_the_official_code_calls_them(tmp_path: Path, part: str, kind: str, image: str) -> None:
    path = write(tmp_path / "q.json", vqa_questions(data_subtype=part, data_type=kind))
    images = draw_images(tmp_path / "photos", ["unused.jpg", image])
    with pytest.warns(UserWarning, match="1 of 2 images"):
        rows = load_vqa("vqa_v2", questions=path, images=images)
    assert len(rows) == 2 and rows[0]["image"].getpixel((0, 0))[0] == 1


def test_hidden_answers_are_empty(tmp_path: Path) -> None:
    path = write(tmp_path / "q.json", vqa_questions(data_subtype="test-dev2015"))
    rows = load_vqa("vqa_v2", questions=path)
    assert rows["answers"][:] == [[]] * 3 and rows["answer"][:] == [""] * 3 and set(rows["split"]) == {"test-dev"}


def test_several_files_and_a_split_of_them(vqa: dict[str, Path], tmp_path: Path) -> None:
    hidden = vqa_questions(data_subtype="test2015")
    for question in hidden["questions"]:
        question["question_id"] += 50_000
    questions = [vqa["questions"], write(tmp_path / "test.json", hidden)]
    rows = load_vqa("vqa_v2", questions=questions, annotations=[vqa["annotations"]])
    assert rows["split"][:] == ["val"] * 3 + ["test"] * 3 and [len(a) for a in rows["answers"]] == [10, 10, 10, 0, 0, 0]
    assert load_vqa("vqa_v2", questions=questions, split="test")["question_id"][:] == ["51000", "51001", "52000"]
    rows = load_vqa("vqa_v2", **vqa, file_split="restval")
    assert set(rows["split"]) == {"restval"}


def test_eighteen_choices_of_vqa_v1(tmp_path: Path) -> None:
    content = vqa_questions()
    for question in content["questions"]:
        question["multiple_choices"] = [str(i) for i in range(17)] + ["yes"]
    rows = load_vqa(
        "vqa_v2",
        questions=write(tmp_path / "q.json", content),
        annotations=write(tmp_path / "a.json", vqa_annotations()),
    )
    assert [len(choices) for choices in rows["choices"]] == [18] * 3 and rows["correct_choice"][:] == [17, 2, -1]


def test_okvqa_has_categories_and_stemmed_answers(tmp_path: Path) -> None:
    notes = vqa_annotations(question_types={"four": "Sports and Recreation"})  # stands behind the annotations
    for note in notes["annotations"]:
        del note["multiple_choice_answer"]
        note["question_type"] = "four" if note["question_id"] == 1000 else "twelve"
        note["answers"] = [{"answer": "race", "raw_answer": "racing", "answer_id": 1}]
    files = {
        "questions": write(tmp_path / "OpenEnded_mscoco_val2014_questions.json", vqa_questions()),
        "annotations": write(tmp_path / "mscoco_val2014_annotations.json", notes),
    }
    rows = load_vqa("vqa_v2", **files)
    assert rows["question_type"][:] == ["Sports and Recreation", "twelve", "twelve"] and rows["answer"][:] == [""] * 3
    assert rows["answers"][0] == ["race"]
    assert load_vqa("vqa_v2", **files, answer_field="raw_answer")["answers"][0] == ["racing"]
    with pytest.raises(ValueError, match="answer_field is 'stem'; the files have answer and raw_answer"):
        load_vqa("vqa_v2", **files, answer_field="stem")


def test_answer_ids_that_do_not_tell_answers_apart_are_kept(vqa: dict[str, Path]) -> None:
    notes = vqa_annotations()
    for answer in notes["annotations"][0]["answers"]:
        del answer["answer_id"]
    notes["annotations"][1]["answers"][1]["answer_id"] = 1
    write(vqa["annotations"], notes)
    details = load_vqa("vqa_v2", **vqa)["details"][:]
    assert details[0] == "" and json.loads(details[1])["answer_ids"][:3] == ["1", "1", "3"]
    assert json.loads(details[2])["answer_ids"] == ["None"] * 10


def test_what_does_not_match_is_listed_and_the_rest_used(vqa: dict[str, Path]) -> None:
    questions, notes = vqa_questions(), vqa_annotations()
    questions["questions"].append({"image_id": 3, "question": "Who?", "question_id": 3000})
    strays = [{"question_id": 90 + i, "image_id": 9, "answers": answers(["x"])} for i in range(6)]
    twice = {**notes["annotations"][0], "answers": answers(["other"])}
    notes["annotations"] += [*strays, twice]
    next(note for note in notes["annotations"] if note["question_id"] == 1001)["image_id"] = 77
    write(vqa["questions"], questions), write(vqa["annotations"], notes)
    with pytest.warns(UserWarning) as told:
        rows = load_vqa("vqa_v2", **vqa)
    file, notes_file = vqa["questions"], vqa["annotations"]
    assert [str(warning.message) for warning in told] == [
        f"{file}: 1 annotations of {notes_file} have a question id that stood before, left out: 2000",
        f"{file}: 1 questions have no annotation in {notes_file} and are left out: 3000",
        f"{file}: 6 annotations of {notes_file} belong to no question and are left out: 90, 91, 92, 93, 94, ...",
        f"{file}: 1 questions have another image than their annotation in {notes_file}, left out: 1001",
    ]
    assert rows["question_id"][:] == ["1000", "2000"] and rows["answers"][1] == VQA_ANSWERS[2000]


def test_files_of_different_splits_are_refused(vqa: dict[str, Path]) -> None:
    notes = vqa_annotations()
    for note in notes["annotations"]:
        note["question_id"] += 10**6
    write(vqa["annotations"], notes)
    with pytest.raises(
        ValueError, match=r"no annotation of .* \(question ids 1002000, 1001001, 1001000\) belongs to a"
    ):
        load_vqa("vqa_v2", **vqa)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("questions", '{"questions": [{"question_id": 1', "is not valid JSON .*cut short"),
        ("annotations", '{"annotations": [{"question_id": 1', "is not valid JSON .*cut short"),
        ("questions", [], "has no list 'questions', it holds list"),
        ("questions", vqa_annotations(), "has no list 'questions', it holds the keys data_subtype, annotations"),
        (
            "annotations",
            vqa_questions(),
            "no list 'annotations' with anything in it, it holds the keys info, data_type",
        ),
        ("annotations", [], "holds a list where an object is expected"),
        ("annotations", {"annotations": []}, "no list 'annotations' with anything"),
        ("annotations", {"annotations": ["yes"]}, "record 0 of 'annotations' is no object: yes"),
        ("annotations", {"a": 1, "annotations": [{"answers": []}]}, "record 0 of 'annotations' has no 'question_id'"),
        ("questions", {"questions": [{"image_id": 1}]}, "record 0 has no 'question_id'"),
        ("questions", {"questions": []}, "no annotation of .* belongs to a question"),
    ],
)
def test_spoiled_files_give_one_clear_sentence(vqa: dict[str, Path], file: str, content: Any, message: str) -> None:
    write(vqa[file], content)
    with pytest.raises(ValueError, match=message):
        load_vqa("vqa_v2", **vqa)


@pytest.mark.parametrize("spoiled", ["yes", None, 7, ["yes"], [{"raw_answer": "yes"}], [{"answer": None}]])
def test_an_answer_that_is_no_text_costs_one_question(vqa: dict[str, Path], spoiled: Any) -> None:
    notes = vqa_annotations()
    notes["annotations"][0]["answers"] = spoiled
    write(vqa["annotations"], notes)
    with pytest.warns(UserWarning, match="1 questions have no list of texts as 'answers' and are left out: 2000"):
        assert load_vqa("vqa_v2", **vqa)["question_id"][:] == ["1000", "1001"]


def test_a_large_file_is_read_as_columns(tmp_path: Path) -> None:
    """A forty-fourth of VQA v2's training questions; the whole of them takes 12 seconds of a core and 0.9 GB."""
    asked = [{"image_id": i // 5, "question": "What is this?", "question_id": i} for i in range(10_000)]
    notes = [
        {"question_id": i, "image_id": i // 5, "multiple_choice_answer": "cat", "answers": answers(["cat"] * 10)}
        for i in reversed(range(10_000))
    ]
    questions = write(tmp_path / "q_train2014.json", {"questions": asked})
    annotations = write(tmp_path / "a.json", {"annotations": notes})
    start = time.process_time()
    rows = load_vqa("vqa_v2", questions=questions, annotations=annotations)
    assert time.process_time() - start < 4
    assert len(rows) == 10_000 and rows[9_999]["answers"] == ["cat"] * 10 and rows[9_999]["image_id"] == "1999"


def aokvqa(question_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "split": "val",
        "image_id": 42,
        "question_id": question_id,
        "question": "What is it?",
        "choices": ["cat", "dog", "cow", "hen"],
        "correct_choice_idx": 1,
        "direct_answers": ["dog"] * 10,
        "difficult_direct_answer": False,
        "rationales": ["It barks."] * 3,
        **fields,
    }


def test_aokvqa(tmp_path: Path) -> None:
    test = {key: value for key, value in aokvqa("c").items() if key not in ("correct_choice_idx", "direct_answers")}
    content = [aokvqa("a"), aokvqa("b", difficult_direct_answer=True), {**test, "split": "test"}]
    images = draw_images(tmp_path / "coco" / "val2017", ["000000000042.jpg"])
    rows = load_vqa("aokvqa", annotations=write(tmp_path / "aokvqa_v1p0_val.json", content), images=images.parent)
    assert rows["question_id"][:] == ["a", "b", "c"] and rows["split"][:] == ["val", "val", "test"]
    assert rows["correct_choice"][:] == [1, 1, -1] and rows["answer"][:] == ["dog", "dog", ""]
    assert rows["answers"][:] == [["dog"] * 10] * 2 + [[]] and rows["choices"][2] == ["cat", "dog", "cow", "hen"]
    assert [json.loads(text)["difficult_direct_answer"] for text in rows["details"]] == [False, True, False]
    assert rows[0]["image"].size == (8, 6) and rows["image_id"][0] == "42"


def test_aokvqa_with_faults(tmp_path: Path) -> None:
    content = [aokvqa("a", correct_choice_idx=4), aokvqa("b", choices=[], correct_choice_idx=None), aokvqa("c")]
    path = write(tmp_path / "aokvqa_v1p0_train.json", content)
    with pytest.warns(UserWarning) as told:
        rows = load_vqa("aokvqa", annotations=path)
    assert [str(warning.message).removeprefix(f"{path}: ") for warning in told] == [
        "1 questions have no choices and can only be answered openly: b",
        "1 questions have a correct_choice outside of their choices and are left out: a",
    ]
    assert rows["question_id"][:] == ["b", "c"] and rows["correct_choice"][:] == [-1, 1]
    with pytest.raises(ValueError, match="holds an object where a list is expected; is it the file of another format"):
        load_vqa("aokvqa", annotations=write(tmp_path / "q.json", vqa_questions()))
    with pytest.raises(ValueError, match="record 0 has no 'image_id'"):
        load_vqa("aokvqa", annotations=write(tmp_path / "q.json", [{"question_id": "a"}]))


def lxmert(question_id: Any, img_id: str, label: Any, **fields: Any) -> dict[str, Any]:
    return {"question_id": question_id, "img_id": img_id, "sent": "What is it?", "label": label, **fields}


def test_lxmert_scores_become_votes(tmp_path: Path) -> None:
    content = [
        lxmert(1, "COCO_val2014_000000000042", {"net": 1, "mesh": 0.3}, answer_type="other", question_type="what"),
        lxmert(2, "COCO_val2014_000000000042", {"a": 0.6, "b": 0.9, "c": 1.0}),
        lxmert(3, "COCO_val2014_000000000042", {}),
    ]
    images = draw_images(tmp_path / "coco", ["val2014/COCO_val2014_000000000042.jpg"])
    rows = load_vqa("lxmert_vqa", questions=write(tmp_path / "nominival.json", content), images=images)
    assert rows["answers"][:] == [["net"] * 4 + ["mesh"], ["a"] * 2 + ["b"] * 3 + ["c"] * 4, []]
    assert rows["answer"][:] == ["net", "c", ""] and set(rows["split"]) == {"restval"}
    assert rows["image_id"][0] == "42" and rows["answer_type"][0] == "other"


def test_lxmert_votes_give_its_scores_back() -> None:
    from processors.answer_text_updown import soft_scores
    from training.data.questions.coco import _votes

    label = {"one": 0.3, "two": 0.6, "three": 0.9, "four": 1.0}
    assert soft_scores(_votes(label), form="table") == pytest.approx(label)


def test_lxmert_gqa_has_one_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "testdev.json", [lxmert("02930152", "n578564", {"pipe": 1.0})])
    row = load_vqa("lxmert_gqa", questions=path)[0]
    assert row["question_id"] == "02930152" and row["image_id"] == "n578564" and row["split"] == "test-dev"
    assert row["answers"] == ["pipe"] and row["answer"] == "pipe"
    hidden = [{"question_id": "1", "img_id": "n5", "sent": "Who?"}]
    assert load_vqa("lxmert_gqa", questions=write(tmp_path / "submit.json", hidden))["answers"][:] == [[]]
    for label in ("pipe", {"pipe": "1"}, {"pipe": float("nan")}, {"pipe": -1}):
        with pytest.raises(ValueError, match="record 0: its label is no answer with a score: .*pipe"):
            load_vqa("lxmert_gqa", questions=write(path, [lxmert("1", "n5", label)]))


def test_real_files_of_vqa_and_aokvqa_load_as_they_are() -> None:
    folder = shared("data/official_formats/mini_with_photos")
    rows = load_vqa(
        "vqa_v2",
        questions=folder / "vqav2/questions.json",
        annotations=folder / "vqav2/annotations.json",
        images=folder / "images/vqav2",
    )
    assert rows["question_id"][:] == ["458752000", "458752001", "458752002"] and set(rows["split"]) == {"train"}
    assert rows["answers"][0].count("net") == 6 and rows[0]["image"].size[0] > 100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = shared("data/official_formats/aokvqa/aokvqa_v1p0_val_1record.json")
        row = load_vqa("aokvqa", annotations=path)[0]
    assert row["answer"] == "cigarette" and row["correct_choice"] == 3 and row["image_id"] == "461751"


def test_ids_that_are_written_as_fractions(tmp_path: Path) -> None:
    """`1.0`, as a table of floats writes 1, is the question and the image 1."""
    asked = {"data_subtype": "val2014", "questions": [{"question_id": 1.0, "image_id": 42.0, "question": "what?"}]}
    note = {"question_id": 1, "image_id": 42, "answers": [{"answer": "dog", "answer_id": 1}]}
    rows = load_vqa(
        "vqa_v2",
        questions=write(tmp_path / "questions.json", asked),
        annotations=write(tmp_path / "annotations.json", {"annotations": [note]}),
    )
    assert (rows["question_id"][:], rows["image_id"][:], rows["answers"][:]) == (["1"], ["42"], [["dog"]])
    record = {"question_id": "a", "image_id": 7.0, "question": "what?", "split": "val", "choices": ["x", "y"]}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "000000000007.jpg").touch()
    path = write(tmp_path / "aokvqa.json", [record])
    assert load_vqa("aokvqa", annotations=path, images=tmp_path / "photos")["image_id"][:] == ["7"]
