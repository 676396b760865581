"""Visual7W pointing in its documented layout (the official file is not at hand): candidates, places, mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.phrases.formats import load_phrases

BOXES = [{"box_id": i, "name": "cup", "x": 10 * i, "y": 5, "width": 8, "height": 20} for i in range(1, 9)]


def pair(number: int, answer: int, *wrong: int, question: str = "Which cup is red?") -> dict[str, Any]:
    return {"qa_id": number, "question": question, "answer": answer, "multiple_choices": list(wrong), "type": "which"}


def write(folder: Path, pairs: list[Any], **changes: Any) -> Path:
    sizes = {"width": 100, "height": 50}
    images = [
        {"image_id": 7, "filename": "v7w_7.jpg", "split": "train", "qa_pairs": pairs, **sizes},
        {"image_id": 8, "filename": "v7w_8.jpg", "split": "val", "qa_pairs": [pair(99, 8, 1, 2, 3)], **sizes},
    ]
    path = folder / "dataset_v7w_pointing.json"
    path.write_text(json.dumps({"dataset": "visual7w-pointing", "boxes": BOXES, "images": images, **changes}))
    return path


def test_a_question_has_four_candidates_one_of_them_true(tmp_path: Path) -> None:
    pairs = [pair(i, 1, 2, 3, 4) for i in range(40)]
    (row,) = load_phrases("visual7w_pointing", annotations=write(tmp_path, pairs), split="train")
    assert row["captions"] == ["Which cup is red?"] * 40 and row["image_id"] == "7"
    places = []
    for (phrase,) in row["phrases"]:
        np.testing.assert_allclose(phrase["boxes"], [[0.1, 0.1, 0.18, 0.5]], atol=1e-6)
        lefts = [round(100 * box[0]) for box in phrase["candidates"]]
        assert sorted(lefts) == [10, 20, 30, 40]
        places.append(lefts.index(10))
        assert phrase["candidates"][places[-1]] == phrase["boxes"][0]
    assert set(places) == {0, 1, 2, 3} and max(map(places.count, range(4))) < 20
    (other,) = load_phrases("visual7w_pointing", annotations=tmp_path / "dataset_v7w_pointing.json", split="val")
    assert other["image_id"] == "8"


def test_sizes_are_those_of_the_images(tmp_path: Path) -> None:
    path = write(tmp_path, [pair(1, 1, 2, 3, 4)])
    content = json.loads(path.read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no width and height; .*give the image folder"):
        load_phrases("visual7w_pointing", annotations=path)
    (tmp_path / "images").mkdir()
    for name in ("v7w_7.jpg", "8.jpg"):  # Visual Genome's own name
        Image.new("RGB", (200, 50)).save(tmp_path / "images" / name)
    rows = load_phrases("visual7w_pointing", annotations=path, images=tmp_path / "images")
    np.testing.assert_allclose(rows[0]["phrases"][0][0]["boxes"], [[0.05, 0.1, 0.09, 0.5]], atol=1e-6)
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("pairs", "changes", "message"),
    [
        ([pair(1, 1, 2, 30)], {}, "a question of the image 7 speaks of the box '30', which the file's 'boxes' do not"),
        ([{**pair(1, 1, 2), "multiple_choices": None}], {}, "needs qa_id, question, answer and multiple_choices"),
        ([pair(1, 1)], {}, "needs qa_id"),
        ([pair(1, 1, 2, question=None)], {}, "needs qa_id"),  # type: ignore[arg-type]
        ([], {"boxes": [{"box_id": 1}]}, "record 0 has no 'x'"),
        ([], {"images": [{"image_id": 1}]}, "record 0 has no 'split'"),
        ([pair(1, 1, 2)], {"boxes": [{**box, "width": -1} for box in BOXES]}, "no expression of .* has a box"),
    ],
)
def test_mistakes_are_named(pairs: Any, changes: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_phrases("visual7w_pointing", annotations=write(tmp_path, pairs, **changes))


def test_telling_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset_v7w_telling.json"
    path.write_text(json.dumps({"images": [{"image_id": 1, "split": "train", "qa_pairs": []}]}))
    with pytest.raises(
        ValueError, match=r"has no 'boxes': give Visual7W's dataset_v7w_pointing\.json, not its telling"
    ):
        load_phrases("visual7w_pointing", annotations=path)
