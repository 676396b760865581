"""Rows of VQA data sets: what is checked, what is left out and told, and how images are found."""

import warnings
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.training.data.questions.vqa_files import draw_images
from training.data.files import image_paths
from training.data.questions.rows import (
    VQA_FEATURES,
    VQA_SPLITS,
    Columns,
    NoSuchSplitError,
    in_chunks,
    official_image_paths,
    split_in,
    vqa_dataset,
    vqa_split,
)


def columns(size: int = 3, **fields: Any) -> dict[str, Any]:
    base = {
        "question_id": list(range(10, 10 + size)),
        "image_id": [f"image {i}" for i in range(size)],
        "question": [f"question {i}?" for i in range(size)],
        "split": ["train"] * size,
        "name": [f"{i}.png" for i in range(size)],
    }
    return {**base, **fields}


def rows_of(*chunks: Columns, images: Path | None = None, split: str | None = None) -> datasets.Dataset:
    return vqa_dataset(chunks, images=images, split=split, source="file.json")


def test_columns_that_are_not_given_are_empty() -> None:
    rows = rows_of(columns())
    assert dict(rows.features) == dict(VQA_FEATURES) and rows.column_names == list(VQA_FEATURES)
    assert rows[1] == {
        "question_id": "11",
        "image_id": "image 1",
        "image": None,
        "question": "question 1?",
        "answers": [],
        "answer": "",
        "question_type": "",
        "answer_type": "",
        "choices": [],
        "correct_choice": -1,
        "split": "train",
        "details": "",
    }


def test_chunks_are_joined_and_rows_become_chunks() -> None:
    made = ({"question_id": i, "image_id": i, "question": f"{i}?", "split": "val"} for i in range(7))
    chunks = list(in_chunks(made, 3))
    assert [chunk["question_id"] for chunk in chunks] == [[0, 1, 2], [3, 4, 5], [6]]
    assert rows_of(*chunks)["question"][:] == [f"{i}?" for i in range(7)]


def test_blank_questions_are_left_out_and_five_are_listed() -> None:
    asked = ["", " \n", "\t", "x?", "", "  ", " "]
    with pytest.warns(UserWarning, match="^file.json: 6 questions are empty and left out: 10, 11, 12, 14, 15, ...$"):
        rows = rows_of(columns(7, question=asked))
    assert rows["question_id"][:] == ["13"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": ["a?", None, "c?"]}, "have no text as 'question'"),
        ({"question": ["a?", 5, "c?"]}, "have no text as 'question'"),
        ({"question": ["a?", "\ud83d", "c?"]}, "have no text as 'question'"),
        ({"answers": [["a"], "b", ["c"]]}, "have no list of texts as 'answers'"),
        ({"answers": [["a"], [None], ["c"]]}, "have no list of texts as 'answers'"),
        ({"answers": [["a"], ["x", 5], ["c"]]}, "have no list of texts as 'answers'"),
        ({"answers": [["a"], None, []]}, "have no list of texts as 'answers'"),
        ({"answer": ["a", {}, ""]}, "have no text as 'answer'"),
        ({"question_type": ["a", 1, ""]}, "have no text as 'question_type'"),
        ({"choices": [["a"], "ab", ["b"]]}, "have no list of texts as 'choices'"),
        ({"choices": [["a"], [7], ["b"]]}, "have no list of texts as 'choices'"),
        ({"choices": [["a"]] * 3, "correct_choice": [0, 1, -1]}, "have a correct_choice outside of their choices"),
        ({"choices": [["a"]] * 3, "correct_choice": [0, -2, None]}, "have a correct_choice outside of their choices"),
        ({"choices": [["a"]] * 3, "correct_choice": [0, "0", None]}, "have a correct_choice outside of their choices"),
        ({"choices": [["a"]] * 3, "correct_choice": [0, 2**40, 0]}, "have a correct_choice outside of their choices"),
    ],
)
def test_a_question_that_cannot_be_used_is_left_out_and_told(fields: dict[str, Any], message: str) -> None:
    with pytest.warns(UserWarning, match=f"^file.json: 1 questions {message} and are left out: 11$"):
        assert rows_of(columns(**fields))["question_id"][:] == ["10", "12"]


def test_several_faults_are_each_told_once_over_all_chunks() -> None:
    one = columns(3, question=["", "b?", "c?"], answer=["x", 7, "z"])
    other = {**columns(2, question=["", "e?"]), "question_id": ["20", "21"]}
    with pytest.warns(UserWarning) as told:
        assert rows_of(one, other)["question_id"][:] == ["12", "21"]
    assert [str(warning.message) for warning in told] == [
        "file.json: 1 questions have no text as 'answer' and are left out: 11",
        "file.json: 2 questions are empty and left out: 10, 20",
    ]


def test_the_first_question_of_an_id_stays() -> None:
    asked = ["first?", "second?", "third?"]
    with pytest.warns(UserWarning, match="1 questions have an id that stood before and are left out: 7$"):
        rows = rows_of(columns(question_id=["7", 8, 7], question=asked))
    assert rows["question_id"][:] == ["7", "8"] and rows["question"][:] == asked[:2]


def test_answer_and_correct_choice_follow_from_each_other() -> None:
    given = columns(
        4,
        choices=[["a", "b"]] * 4,
        correct_choice=[1, None, -1, 0],
        answer=["", "b", "elsewhere", "A."],
    )
    rows = rows_of(given)
    assert rows["correct_choice"][:] == [1, 1, -1, 0]
    assert rows["answer"][:] == ["b", "b", "elsewhere", "A."]


def test_choices_that_stand_twice_are_kept_once() -> None:
    given = columns(choices=[["a", "a", "b", "c"], ["a", "b"], ["b", "a", "b"]], correct_choice=[3, 0, 2])
    with pytest.warns(UserWarning, match="2 questions have a choice twice, which is kept once: 10, 12$"):
        rows = rows_of(given)
    assert rows["choices"][:] == [["a", "b", "c"], ["a", "b"], ["b", "a"]]
    assert rows["correct_choice"][:] == [2, 0, 0] and rows["answer"][:] == ["c", "a", "b"]


def test_questions_without_choices_among_others_are_told() -> None:
    with pytest.warns(UserWarning, match="1 questions have no choices and can only be answered openly: 11$"):
        rows = rows_of(columns(choices=[["a"], [], ["b"]], answers=[["a"], ["b"], []]))
    assert rows["choices"][:] == [["a"], [], ["b"]] and rows["answers"][1] == ["b"]


def test_splits_and_their_other_words() -> None:
    given = columns(5, split=["train", "validation", "testdev", "test-std", "challenge"])
    assert rows_of(given)["split"][:] == ["train", "val", "test-dev", "test", "challenge"]
    assert rows_of(given, split="test_dev+dev")["question_id"][:] == ["11", "12"]
    with pytest.raises(
        NoSuchSplitError, match="file.json has no question of the split 'restval'; it has challenge, te"
    ):
        rows_of(given, split="restval")
    message = f"unknown split 'trian'; the splits are {', '.join(VQA_SPLITS)}"
    with pytest.raises(ValueError, match=message):
        rows_of(columns(split=["trian"] * 3))
    with pytest.raises(ValueError, match=message):
        rows_of(columns(), split="trian")
    with pytest.raises(ValueError, match=r"unknown split \"\['train'\]\""):
        rows_of(columns(split=[["train"]] * 3))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("v2_OpenEnded_mscoco_train2014_questions", "train"),
        ("MultipleChoice_mscoco_test-dev2015_questions", "test-dev"),
        ("OpenEnded_abstract_v002_val2015_questions", "val"),
        ("testdev_balanced_questions", "test-dev"),
        ("submission_all_questions", "test"),
        ("challenge_all_questions", "challenge"),
        ("train_all_questions_7", "train"),
        ("aokvqa_v1p0_val", "val"),
        ("minival", "val"),
        ("nominival", "restval"),
        ("valid", "val"),
        ("qa.894.raw.test", "test"),
        ("dataset_v7w_telling", None),
        ("trainval", None),
        ("latest", None),
    ],
)
def test_the_split_a_name_speaks_of(name: str, split: str | None) -> None:
    assert split_in(name) == split
    assert split is None or vqa_split(split, name) == split


def test_no_question_is_an_error() -> None:
    with pytest.raises(ValueError, match="file.json holds no question that can be used; is it cut short?"):
        rows_of()
    with pytest.warns(UserWarning, match="3 questions are empty"), pytest.raises(ValueError, match="holds no question"):
        rows_of(columns(question=["", "", ""]))


def test_images_are_looked_up_once_each_and_missing_ones_left_out(tmp_path: Path) -> None:
    images = draw_images(tmp_path, ["0.png", "2.png"])
    given = columns(5, name=["0.png", "1.png", "2.png", "1.png", "0.png"])
    with pytest.warns(UserWarning, match="1 of 3 images are not in .*: 1.png"):
        rows = rows_of(given, images=images)
    assert rows["question_id"][:] == ["10", "12", "14"]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 1, 0]


def test_images_of_other_splits_need_not_be_there(tmp_path: Path) -> None:
    images = draw_images(tmp_path, ["0.png"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(rows_of(columns(2, split=["train", "val"]), images=images, split="train")) == 1


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("COCO_val2014_000000000042.jpg", "000000000042.jpg"),
        ("COCO_val2014_000000000042.jpg", "val2017/000000000042.jpg"),
        ("000000000042.jpg", "train2014/COCO_train2014_000000000042.jpg"),
        ("000000000042.jpg", "COCO_test2015_000000000042.jpg"),
        ("v7w_42.jpg", "VG_100K_2/42.jpg"),
        ("42.jpg", "VG_100K/42.jpg"),
        ("image42.jpg", "image42.png"),
        ("abstract_v002_val2015_000000000042.png", "abstract_v002_val2015_000000000042.png"),
    ],
)
def test_official_images_are_found_under_the_names_they_go_by(tmp_path: Path, asked: str, there: str) -> None:
    draw_images(tmp_path, [there, "other.jpg"])
    assert official_image_paths([asked], tmp_path) == [str(tmp_path / there)]


def test_only_official_images_are_looked_for_elsewhere(tmp_path: Path) -> None:
    draw_images(tmp_path, ["there/a.jpg", "b.jpg"])
    with pytest.warns(UserWarning, match="1 of 2 images are not in"):
        assert image_paths(["a.jpg", "b.jpg"], tmp_path) == [None, str(tmp_path / "b.jpg")]
    assert official_image_paths(["a.jpg"], tmp_path) == [str(tmp_path / "there" / "a.jpg")]
    draw_images(tmp_path, ["there/b.jpg", "about/b.jpg", "about/a.jpg"])
    assert official_image_paths(["b.jpg", "a.jpg"], tmp_path) == [
        str(tmp_path / "b.jpg"),
        str(tmp_path / "about/a.jpg"),
    ]
    with pytest.raises(ValueError, match="none of the 1 images is in"):
        official_image_paths(["c.jpg"], tmp_path)
    with pytest.raises(ValueError, match="there is no image folder"):
        official_image_paths(["c.jpg"], tmp_path / "nowhere")
