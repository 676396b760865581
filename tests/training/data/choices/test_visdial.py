"""VisDial's files in their documented layout, v0.9 and v1.0, and broken ones."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from training.data.choices.visdial import read_visdial

ANSWERS = ["yes", "no", "red", "two"]
QUESTIONS = ["is it big?", "what color?"]
TURNS: list[dict[str, Any]] = [
    {"question": 1, "answer": 2, "answer_options": [0, 2, 1], "gt_index": 1},
    {"question": 0, "answer": 1, "answer_options": [3, 0, 1]},
]
LAST: list[dict[str, Any]] = [{"question": 1, "answer": 2}, {"question": 0, "answer_options": [3, 0, 1]}]
DENSE = [{"image_id": 7, "round_id": 2, "gt_relevance": [0.0, 0.2, 1.0]}]


def written(folder: Path, turns: Any, **more: Any) -> Path:
    dialogue = {"image_id": 7, "caption": "a dog", "dialog": turns}
    content = {"data": {"dialogs": [dialogue], "questions": QUESTIONS, "answers": ANSWERS}, "split": "val2018", **more}
    path = folder / "visdial.json"
    path.write_text(json.dumps(content))
    return path


def read(folder: Path, turns: Any = TURNS, *, dense: Any = None, split: str = "val", **options: Any) -> Any:
    if dense is not None:
        options["relevance"] = folder / "dense.json"
        options["relevance"].write_text(json.dumps(dense))
    return read_visdial(written(folder, turns), split=split, **options)


def words(data: Any, numbers: list[int]) -> list[str]:
    return [data.texts["text"][number] for number in numbers]


def test_rounds_have_their_history_and_candidates(tmp_path: Path) -> None:
    data = read(tmp_path, dense=DENSE)
    first, second = data.rows
    assert (first["item_id"], second["item_id"], first["group"]) == ("7-1", "7-2", "7")
    assert words(data, first["context"]) == ["a dog", "what color?"]
    assert words(data, second["context"]) == ["a dog", "what color?", "red", "is it big?"]
    assert words(data, second["candidates"]) == ["two", "yes", "no"]
    assert (first["label"], second["label"]) == (1, 2)  # the second by its answer, as v0.9 has it in part
    assert first["relevance"] == [] and second["relevance"] == pytest.approx([0, 0.2, 1.0])


def test_rated_rounds_alone(tmp_path: Path) -> None:
    train = [{"image_id": 7, "round_id": 2, "relevance": [0.0, 0.2, 1.0]}]
    assert read(tmp_path, dense=train, rounds="rated").rows["item_id"][:] == ["7-2"]
    with pytest.raises(ValueError, match="rounds is 'rated', but there are no ratings"):
        read(tmp_path, rounds="rated")


def test_hidden_answers_and_rounds_without_candidates(tmp_path: Path) -> None:
    data = read(tmp_path, LAST)
    assert data.rows["item_id"][:] == ["7-2"] and data.rows["label"][:] == [-1]
    assert words(data, data.rows[0]["context"]) == ["a dog", "what color?", "red", "is it big?"]


def test_images_are_found_by_the_number_in_their_name(tmp_path: Path) -> None:
    place = tmp_path / "coco" / "val2014"
    place.mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(place / "COCO_val2014_000000000007.jpg")
    row = read(tmp_path, images=tmp_path / "coco").rows[0]
    assert row["image"].size == (8, 6) and row["image_id"] == "7"


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ({"question": 9}, "round 1: the question is number 9, but the file has 2 of them"),
        ({"answer": 4}, "round 1: candidate 1 is not the answer"),
        ({"answer_options": [0, 8, 1]}, "round 1: the candidate is number 8, but the file has 4"),
        ({"gt_index": 3}, "has the gt_index 3, which names none of its 3 candidates"),
        ({"gt_index": 0}, "candidate 0 is not the answer that the round was given"),
        ({"answer_options": [2]}, "gt_index 1, which names none of its 1 candidates"),
    ],
)
def test_rounds_that_do_not_fit_are_refused(tmp_path: Path, turn: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(tmp_path, [TURNS[0] | turn, TURNS[1]])


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dialogue of the split 'train'; it has val"):
        read(tmp_path, split="train")
    with pytest.raises(ValueError, match="the answer is not among its 2 candidates"):
        read(tmp_path, [{"question": 0, "answer": 0, "answer_options": [1, 2]}])
    with pytest.raises(ValueError, match="round 1 has no answer, though the dialogue goes on"):
        read(tmp_path, [{"question": 0}, TURNS[1]])
    with pytest.raises(ValueError, match="has 2 relevances of 3 candidates"):
        read(tmp_path, dense=[DENSE[0] | {"gt_relevance": [0, 1]}])
    with pytest.raises(ValueError, match=r"rates 1 rounds that .* does not have, such as \('8', 1\)"):
        read(tmp_path, dense=[DENSE[0] | {"image_id": 8, "round_id": 1}])
    with pytest.raises(ValueError, match="round 2 of image 7 is rated twice"):
        read(tmp_path, dense=DENSE * 2)
    with pytest.raises(ValueError, match="record 0 has no image_id, round_id and gt_relevance or relevance"):
        read(tmp_path, dense=[{"image_id": 7}])
    with pytest.raises(ValueError, match="has no data with dialogs"):
        (tmp_path / "other.json").write_text("[]")
        read_visdial(tmp_path / "other.json", split="val")
