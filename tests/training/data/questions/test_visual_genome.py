"""GQA, Visual7W and Visual Genome's questions: the layouts as they are, filters, and files with faults."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from tests.training.data.questions.vqa_files import draw_images, gqa_question, vqa_questions, write
from training.data.questions.formats import load_vqa

TYPES = {"structural": "query", "semantic": "obj", "detailed": "objThisC"}
READ_BY_EVALUATOR = {
    "types": TYPES,
    "groups": {"global": None, "local": "10-chair_on"},
    "entailed": ["0000"],
    "equivalent": ["0001"],
    "semantic": [{"operation": "select", "dependencies": [], "argument": "chair (5)"}],
}


def gqa_file(path: Path) -> Path:
    binary = {**READ_BY_EVALUATOR, "types": {**TYPES, "structural": "verify"}}
    return write(
        path,
        {
            "0001": gqa_question(
                "What is on the chair?", "cat", **READ_BY_EVALUATOR, annotations={"answer": {"0": "5"}}
            ),
            "0002": gqa_question("Is it red?", "no", **{**binary, "isBalanced": False}),
        },
    )


def test_gqa(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["images/n5.jpg"])
    rows = load_vqa("gqa", questions=gqa_file(tmp_path / "val_all_questions.json"), images=images)
    assert rows["question_id"][:] == ["0001", "0002"] and rows["image_id"][:] == ["n5", "n5"]
    assert rows["answers"][:] == [["cat"], ["no"]] and rows["answer"][:] == ["cat", "no"]
    assert rows["question_type"][:] == ["query", "verify"] and rows["answer_type"][:] == ["open", "binary"]
    assert set(rows["split"]) == {"val"} and rows[0]["image"].size == (8, 6)
    assert json.loads(rows[0]["details"]) == {**READ_BY_EVALUATOR, "isBalanced": True}
    balanced = load_vqa("gqa", questions=tmp_path / "val_all_questions.json", balanced=True, details=False)
    assert balanced["question_id"][:] == ["0001"] and balanced["details"][:] == [""]


def test_gqa_choices_are_kept_for_its_evaluation(tmp_path: Path) -> None:
    choices = {"0001": {"valid": ["cat", "dog"], "plausible": ["cat"]}, "9": {"valid": [], "plausible": []}}
    path = write(tmp_path / "val_choices.json", choices)
    rows = load_vqa("gqa", questions=gqa_file(tmp_path / "q.json"), choices=path, details=False)
    assert [json.loads(text or "{}") for text in rows["details"]] == [choices["0001"], {}]
    with pytest.raises(ValueError, match="is no choices file of GQA: it needs 'valid' and 'plausible'"):
        load_vqa("gqa", questions=tmp_path / "q.json", choices=tmp_path / "q.json")


def test_gqa_questions_in_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "train_all_questions"
    for number in (0, 2, 10):
        write(folder / f"train_all_questions_{number}.json", {f"{number:04d}": gqa_question("What?", "cat")})
    rows = load_vqa("gqa", questions=folder)
    assert rows["question_id"][:] == ["0000", "0002", "0010"] and set(rows["split"]) == {"train"}
    hidden = write(tmp_path / "challenge_all_questions.json", {"7": gqa_question("What?", None)})
    rows = load_vqa("gqa", questions=[folder, hidden])
    assert rows["split"][:] == ["train"] * 3 + ["challenge"] and rows["answers"][3] == [] and rows["answer"][3] == ""
    with pytest.raises(ValueError, match="empty holds no .json file; give the folder of GQA's question files"):
        (tmp_path / "empty").mkdir()
        load_vqa("gqa", questions=tmp_path / "empty")
    with pytest.raises(ValueError, match="an empty list of files is given"):
        load_vqa("gqa", questions=[])


def test_gqa_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "testdev_balanced_questions.json"
    twice = '{"1": ' + json.dumps(gqa_question("a?", "x")) + ', "1": ' + json.dumps(gqa_question("b?", "y")) + "}"
    with pytest.warns(UserWarning, match="1 questions have an id that stood before and are left out: 1$"):
        assert load_vqa("gqa", questions=write(path, twice))["question"][:] == ["a?"]
    with pytest.warns(UserWarning, match="1 questions have no list of texts as 'answers' and are left out: 2"):
        content = {"1": gqa_question("a?", "x"), "2": {**gqa_question("b?", "x"), "answer": 5}}
        assert load_vqa("gqa", questions=write(path, content))["question_id"][:] == ["1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (vqa_questions(), "the question 'info' has no 'imageId'"),
        ({"a": [1]}, r"'a' is no question but '\[1\]'; is it the file of another format\?"),
        ([{}], "holds a list where an object is expected"),
        ({"1": {"question": "a?"}}, "the question '1' has no 'imageId'"),
        ('{"1": {"question": ', "is not valid JSON .* is it cut short"),
        ({}, "holds no question that can be used; is it cut short"),
    ],
)
def test_files_that_are_not_gqas(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_vqa("gqa", questions=write(tmp_path / "testdev_balanced_questions.json", content))


def visual7w(*pairs: dict[str, Any], split: str = "train") -> dict[str, Any]:
    image = {"image_id": 42, "filename": "v7w_42.jpg", "split": split, "qa_pairs": list(pairs)}
    return {"dataset": "visual7w-telling", "images": [image]}


def telling(qa_id: int, **fields: Any) -> dict[str, Any]:
    wrong = ["A dog.", "A cow.", "A hen."]
    return {
        "image_id": 42,
        "qa_id": qa_id,
        "question": "What is it?",
        "answer": "A cat.",
        "multiple_choices": wrong,
        "type": "what",
        **fields,
    }


def test_visual7w(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["v7w_42.jpg"])
    path = write(tmp_path / "dataset_v7w_telling.json", visual7w(*map(telling, range(400))))
    rows = load_vqa("visual7w", annotations=path, images=images)
    assert len(rows) == 400 and rows["question_id"][7] == "7" and rows["image_id"][7] == "42"
    for choices, correct in zip(rows["choices"], rows["correct_choice"], strict=True):
        assert choices[correct] == "A cat." and choices[:correct] + choices[correct + 1 :] == [
            "A dog.",
            "A cow.",
            "A hen.",
        ]
    places = Counter(rows["correct_choice"])
    assert set(places) == {0, 1, 2, 3} and min(places.values()) > 70, "the right answer stands in every place alike"
    assert rows["correct_choice"][:3] == load_vqa("visual7w", annotations=path)["correct_choice"][:3]
    assert set(rows["question_type"]) == {"what"} and set(rows["answer"]) == {"A cat."}
    assert rows["answers"][0] == ["A cat."] and rows[0]["image"].size == (8, 6)


def test_visual7w_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    given = visual7w(telling(1, multiple_choices=[]), telling(2, multiple_choices=["A cat.", "A dog."]), telling(3))
    with pytest.warns(UserWarning) as told:
        rows = load_vqa("visual7w", annotations=write(path, given))
    assert [str(warning.message).removeprefix(f"{path}: ") for warning in told] == [
        "1 questions have a choice twice, which is kept once: 2",
        "1 questions have no choices and can only be answered openly: 1",
    ]
    assert (
        rows["choices"][0] == []
        and rows["correct_choice"][0] == -1
        and sorted(rows["choices"][1]) == ["A cat.", "A dog."]
    )
    with pytest.warns(UserWarning, match="1 questions have no list of texts as 'choices' and are left out: 1"):
        given = visual7w(telling(1, multiple_choices="abc"), telling(2))
        assert len(load_vqa("visual7w", annotations=write(path, given))) == 1
    for content, message in (
        (visual7w(telling(1, answer=1404000)), "this is Visual7W pointing; give dataset_v7w_telling.json"),
        (visual7w(telling(1), split="trian"), "unknown split 'trian'"),
        ({"images": [{"image_id": 1}]}, "has no list 'qa_pairs', it holds the keys image_id"),
        (vqa_questions(), "has no list 'images', it holds the keys info, data_type, data_subtype, questions"),
    ):
        with pytest.raises(ValueError, match=message):
            load_vqa("visual7w", annotations=write(path, content))


def genome(*images: tuple[int, list[tuple[int, str, str]]]) -> list[dict[str, Any]]:
    return [
        {"id": image, "qas": [{"qa_id": i, "image_id": image, "question": q, "answer": a} for i, q, a in pairs]}
        for image, pairs in images
    ]


GENOME = genome(
    (4, [(1, "What is it?", "A teddy bear."), (2, "What color?", "Purple.")]), (5, [(3, "Where?", "On the floor.")])
)


def test_visual_genome_and_its_filters(tmp_path: Path) -> None:
    path = write(tmp_path / "question_answers.json", GENOME)
    images = draw_images(tmp_path / "vg", ["VG_100K/4.jpg", "VG_100K_2/5.jpg"])
    rows = load_vqa("visual_genome_qa", question_answers=path, images=images)
    assert rows["question_id"][:] == ["1", "2", "3"] and rows["image_id"][:] == ["4", "4", "5"]
    assert rows["answer"][:] == ["A teddy bear.", "Purple.", "On the floor."] and rows["answers"][1] == ["Purple."]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 0, 1] and set(rows["split"]) == {"train"}
    for name, answers in (("a.json", ["teddy bear", "on floor"]), ("b.json", {"on floor": 0, "teddy bear": 1})):
        kept = load_vqa("visual_genome_qa", question_answers=path, answers=write(tmp_path / name, answers))
        assert kept["question_id"][:] == ["1", "3"]
    with pytest.raises(ValueError, match="holds no question that can be used"):
        load_vqa("visual_genome_qa", question_answers=path, answers=write(tmp_path / "a.txt", "blue\n"))


def test_visual_genome_on_images_of_a_split(tmp_path: Path) -> None:
    path = write(tmp_path / "question_answers.json", GENOME)
    names = write(tmp_path / "photos.txt", "VG_100K_2/5.jpg xml/5.xml\n99.jpg\n")
    assert load_vqa("visual_genome_qa", question_answers=path, image_list=names)["question_id"][:] == ["3"]
    coco = write(tmp_path / "v2_train2014_questions.json", vqa_questions())  # COCO's images 1 and 2
    with pytest.raises(ValueError, match="names images by COCO's ids; give image_data=image_data.json"):
        load_vqa("visual_genome_qa", question_answers=path, image_list=coco)
    sizes = [{"image_id": 4, "coco_id": 2}, {"image_id": 5, "coco_id": None}, {"image_id": 6, "coco_id": 1}]
    image_data = write(tmp_path / "image_data.json", sizes)
    rows = load_vqa("visual_genome_qa", question_answers=path, image_list=coco, image_data=image_data)
    assert rows["question_id"][:] == ["1", "2"]
    lists = {"val": write(tmp_path / "val.txt", "VG_100K/4.jpg\n"), "test": write(tmp_path / "test.txt", "9\n")}
    rows = load_vqa("visual_genome_qa", question_answers=path, split_lists=lists, split="val")
    assert rows["question_id"][:] == ["1", "2"] and set(rows["split"]) == {"val"}
    with pytest.raises(ValueError, match="the image '4' is in the list of val too"):
        load_vqa("visual_genome_qa", question_answers=path, split_lists={**lists, "train": lists["val"]})


def test_visual_genome_with_faults(tmp_path: Path) -> None:
    path = tmp_path / "question_answers.json"
    for content, message in (
        ({"qas": []}, "holds an object where a list is expected"),
        ([{"id": 4, "regions": []}], "has no list 'qas', it holds the keys id, regions"),
        ([{"id": 4, "qas": [{"question": "a?"}]}], "a question of record 0 has no 'qa_id'"),
    ):
        with pytest.raises(ValueError, match=message):
            load_vqa("visual_genome_qa", question_answers=write(path, content))
    with pytest.warns(UserWarning, match="1 questions have no list of texts as 'answers' and are left out: 1"):
        spoiled = genome((4, [(1, "a?", None), (2, "b?", "b")]))  # type: ignore[list-item]
        assert len(load_vqa("visual_genome_qa", question_answers=write(path, spoiled))) == 1


def test_real_files_of_gqa_and_visual_genome_load_as_they_are() -> None:
    folder = shared("data/official_formats/mini_with_photos")
    rows = load_vqa("gqa", questions=folder / "gqa/question_dir", images=folder / "images/gqa")
    assert rows["question_id"][:] == ["202218649", "20240871"] and rows["image_id"][:] == ["n578564", "n166008"]
    assert rows["answer"][:] == ["picture", "yes"] and rows["question_type"][:] == ["query", "logical"]
    assert len(json.loads(rows[1]["details"])["semantic"]) == 5 and rows[0]["image"].size[0] > 100
    assert load_vqa("gqa", questions=folder / "gqa/questions.json")["answer"][:] == ["picture"]
    assert load_vqa("gqa", questions=folder / "gqa/question_dir", balanced=True)["question_id"][:] == ["202218649"]
    genome_file = shared("data/official_formats/visual_genome/question_answers.json")
    rows = load_vqa("visual_genome_qa", question_answers=genome_file, images=folder / "images/vgqa")
    assert len(rows) == 8 and rows[0]["answer"] == "Sailboats." and rows[0]["image"].size[0] > 100
    labels = shared("data/official_formats/vqav2/lxmert_trainval_ans2label.json")
    rows = load_vqa("visual_genome_qa", question_answers=folder / "vgqa/question_answers.json", answers=labels)
    gqa_labels = shared("data/official_formats/gqa/lxmert_trainval_label2ans.json")
    few = load_vqa("visual_genome_qa", question_answers=folder / "vgqa/question_answers.json", answers=gqa_labels)
    assert few["answer"][:] == ["Sailboats.", "Purple.", "Glass.", "A teddy bear.", "Empty."]
    assert rows["answer"][:4] == ["Sailboats.", "Purple.", "Glass.", "A teddy bear."] and len(rows) == 6
