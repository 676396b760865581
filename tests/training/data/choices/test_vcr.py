"""VCR's files in their documented layout: tags, labels, boxes and polygons, and broken ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.choices.formats import load_choices
from training.data.choices.vcr import object_words, read_vcr, tagged_text

OBJECTS = ["person", "person", "cup", "person"]
METADATA: dict[str, Any] = {
    "boxes": [[10, 20, 30, 40, 0.99], [0, 0, 100, 50, 0.9], [50, 0, 60, 10, 0.5], [90, 40, 100, 50, 0.4]],
    "segms": [
        [[[12, 20], [28, 20], [28, 38]]],
        [],
        [[[50, 0], [60, 10]]],
        [[[90, 40], [95, 45]], [[96, 46], [99, 49]]],
    ],
    "names": OBJECTS,
    "width": 100,
    "height": 50,
}
QUESTION: dict[str, Any] = {
    "annot_id": "val-0",
    "img_fn": "film/a.jpg",
    "metadata_fn": "film/a.json",
    "objects": OBJECTS,
    "question": ["Why", "is", [3], "smiling", "at", [0, 1], "?"],
    "answer_choices": [
        [[0], "told", "a", "joke", "."],
        ["No", "."],
        [[2], "is", "hers", "."],
        ["He", "did", "n't", "."],
    ],
    "rationale_choices": [[[0, 3], "smile", "."], ["Why", "?"], ["It", "is", "[", "so", "]", "."], ["(", "ha", ")"]],
    "answer_label": 2,
    "rationale_label": 0,
}
HIDDEN = {name: value for name, value in QUESTION.items() if not name.endswith("label")}


def written(folder: Path, *rows: dict[str, Any], name: str = "val.jsonl", **metadata: Any) -> Path:
    (folder / "images" / "film").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(folder / "images" / "film" / "a.jpg")
    (folder / "images" / "film" / "a.json").write_text(json.dumps(METADATA | metadata))
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(folder: Path, *rows: dict[str, Any], metadata: Any = None, **options: Any) -> Any:
    path = written(folder, *(rows or (QUESTION,)), **(metadata or {}))
    return read_vcr(path, images=folder / "images", **{"split": "val", **options})


def test_a_question_is_an_item_of_its_answers_and_one_of_its_rationales(tmp_path: Path) -> None:
    data = read(tmp_path)
    answers, rationales = data.rows
    texts = data.texts["text"][:]
    assert (answers["item_id"], rationales["item_id"]) == ("val-0-answer", "val-0-rationale")
    assert answers["group"] == rationales["group"] == "val-0" and answers["image_id"] == "film/a"
    assert [texts[number] for number in answers["context"]] == ["Why is Jessie smiling at Casey and Riley?"]
    assert [texts[number] for number in answers["candidates"]] == [
        *("Casey told a joke.", "No.", "cup is hers.", "He didn't."),
    ]
    assert [texts[number] for number in rationales["context"]][1] == "cup is hers."
    assert [texts[number] for number in rationales["candidates"]] == [
        *("Casey and Jessie smile.", "Why?", "It is [so].", "(ha)"),
    ]
    assert (answers["label"], rationales["label"]) == (2, 0) and answers["image"].size == (100, 50)
    assert np.allclose(answers["boxes"][0], [0.1, 0.4, 0.3, 0.8]) and answers["names"] == OBJECTS
    asked = data.texts[answers["context"][0]]
    found = [(asked["text"][link["start"] : link["end"]], link["objects"]) for link in asked["links"]]
    assert found == [("Jessie", [3]), ("Casey", [0]), ("Riley", [1])]


def test_hidden_labels_ask_for_rationales_after_every_answer(tmp_path: Path) -> None:
    path = written(tmp_path, HIDDEN, name="test.jsonl")
    rows = read_vcr(path, images=tmp_path / "images", split="test").rows
    assert rows["item_id"][:] == ["val-0-answer", *(f"val-0-rationale-{number}" for number in range(4))]
    assert rows["label"][:] == [-1] * 5
    assert [own[1] for own in rows["context"][1:]] == rows["candidates"][0]


def test_boxes_may_be_those_around_the_polygons(tmp_path: Path) -> None:
    boxes = np.array(read(tmp_path, polygons=True).rows[0]["boxes"]) * [100, 50, 100, 50]
    assert np.allclose(boxes, [[12, 20, 28, 38], [0, 0, 100, 50], [50, 0, 60, 10], [90, 40, 99, 49]], atol=1e-4)


def test_objects_are_named_as_released_or_otherwise(tmp_path: Path) -> None:
    assert object_words(OBJECTS, "names") == ["Casey", "Riley", "cup", "Jessie"]
    assert object_words(OBJECTS, "classes") == OBJECTS
    assert object_words(["person"] * 17, "names")[14:] == ["Quinn", "Casey", "Riley"]
    data = load_choices("vcr", annotations=written(tmp_path, QUESTION), images=tmp_path / "images", split="val",
                        naming="tags")  # fmt: skip
    assert data.texts["text"][0] == "Why is person3 smiling at person1 and person2?"
    with pytest.raises(ValueError, match="naming is 'numbers'; choose one of names, classes, tags"):
        read(tmp_path, naming="numbers")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"question": ["Is", [4], "?"]}, "a tag of object 4, but its image has 4 objects: a tag needs a region"),
        ({"question": ["Is", {}, "?"]}, "neither a word nor numbers of objects"),
        ({"question": ["Is", [], "?"]}, "neither a word nor numbers of objects"),
        ({"answer_choices": QUESTION["answer_choices"][:3]}, "has 3 answer_choices, not 4"),
        ({"rationale_choices": [*QUESTION["rationale_choices"], ["more"]]}, "has 5 rationale_choices, not 4"),
        ({"answer_choices": [[], *QUESTION["answer_choices"][1:]]}, "a text that is no list of words and tags"),
        ({"answer_label": 4}, "has the answer_label 4, not a number from 0 to 3"),
        ({"objects": OBJECTS[:3]}, "has 3 objects, but the metadata of its image 4 others"),
    ],
)
def test_questions_that_do_not_fit_are_refused(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(tmp_path, QUESTION | changes)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no question of the split 'train'; it has val"):
        read(tmp_path, split="train")
    with pytest.raises(ValueError, match="the item 'val-0-answer' stands in it twice"):
        read(tmp_path, QUESTION, QUESTION)
    with pytest.raises(ValueError, match="the box of object 2 is empty"):
        read(tmp_path, metadata={"boxes": [*METADATA["boxes"][:2], [5, 5, 5, 9, 1], METADATA["boxes"][3]]})
    with pytest.raises(ValueError, match="are not numbers as VCR has them"):
        read(tmp_path, metadata={"segms": []}, polygons=True)
    with pytest.raises(ValueError, match="4 boxes and 3 names"):
        read(tmp_path, metadata={"names": OBJECTS[:3]})
    with pytest.raises(ValueError, match="name their folder in metadata"):
        read_vcr(written(tmp_path, QUESTION), split="val")


def test_a_text_is_joined_as_it_is_written() -> None:
    assert (
        tagged_text(["Is", "n't", [0], "'s", "hat", ",", "50", "%", "?"], ["Pat"], "x").text == "Isn't Pat's hat, 50%?"
    )
