"""GuessWhat?! in its documented layout (no official file is at hand): dialogues, objects, packed files, mistakes."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data.phrases import guesswhat
from training.data.phrases.formats import load_phrases

OBJECTS = [{"id": 10 + i, "category": "dog", "bbox": [20.0 * i, 10, 15, 30], "segment": [[1, 2]]} for i in range(4)]
QAS = [{"id": 1, "question": "is it a dog ?", "answer": "Yes"}, {"id": 2, "question": "On the left?", "answer": "N/A"}]


def game(number: int, image: int = 7, **changes: Any) -> dict[str, Any]:
    about = {"id": image, "width": 100, "height": 50, "file_name": f"COCO_val2014_{image:012d}.jpg", "coco_url": ""}
    return {
        "id": number,
        "object_id": 12,
        "status": "success",
        "image": about,
        "objects": OBJECTS,
        "qas": QAS,
        **changes,
    }


def write(folder: Path, games: list[Any], name: str = "guesswhat.valid.jsonl.gz") -> Path:
    content = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in games).encode()
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    return path


@pytest.mark.parametrize("name", ["guesswhat.valid.jsonl.gz", "guesswhat.valid.jsonl"])
def test_games_of_an_image_are_its_expressions(name: str, tmp_path: Path) -> None:
    lost = game(3, status="failure")
    other = game(2, qas=QAS[:1], object_id=10)
    path = write(tmp_path, [game(1), other, "", lost, game(4, image=8)], name)
    first, second = load_phrases("guesswhat", annotations=path, split="val")
    assert first["captions"] == ["is it a dog ? Yes On the left? N/A", "is it a dog ? Yes"]
    assert [row["image_id"] for row in (first, second)] == ["7", "8"] and first["split"] == "val"
    for (phrase,), place in zip(first["phrases"], (2, 0), strict=True):
        np.testing.assert_allclose(
            phrase["candidates"], [[0.2 * i, 0.2, 0.2 * i + 0.15, 0.8] for i in range(4)], atol=1e-6
        )
        assert phrase["boxes"] == [phrase["candidates"][place]]
    assert len(load_phrases("guesswhat", annotations=path, status=["failure"])[0]["captions"]) == 1
    with pytest.raises(ValueError, match="has no image of the split 'train'; it has val"):
        load_phrases("guesswhat", annotations=path, split="train")


def test_games_without_a_question_and_objects_outside_are_left_out(tmp_path: Path) -> None:
    outside = [*OBJECTS, {"id": 20, "bbox": [200, 0, 10, 10]}]
    path = write(tmp_path, [game(1, qas=[]), game(2, objects=outside)])
    with pytest.warns(UserWarning, match=r"1 games without a question \(first: line 1\); 1 candidates among boxes"):
        (row,) = load_phrases("guesswhat", annotations=path)
    assert len(row["phrases"][0][0]["candidates"]) == 4


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ([game(1), "{"], "line 2 is not valid JSON .*is it the file of another format"),
        (["[1]"], "line 1 is no game: it lacks image, objects, object_id, qas, status"),
        ([{"image_id": 7, "caption": "a dog"}], "line 1 is no game: it lacks image"),
        ([game(1, object_id=99)], r"line 1 \(game 1\) speaks of the object 99, which it does not list"),
        ([game(1, objects=[{"id": 12}])], "has an object without id or bbox"),
        ([{**game(1), "image": {"width": 3}}], "has no image with an id"),
        ([game(1, qas=[{"question": "is it?"}])], "has a question or an answer that is no text"),
        ([game(1, status="failure")], "holds no game of the status success"),
        ([game(1, objects=[{"id": 12, "bbox": ["a", 1, 2, 3]}])], "is not four numbers"),
    ],
)
def test_mistakes_are_named(games: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_phrases("guesswhat", annotations=write(tmp_path, games))


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, [game(i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="cannot read .*is it cut short"):
        load_phrases("guesswhat", annotations=path)
    with pytest.raises(ValueError, match="cannot read .*No such file"):
        load_phrases("guesswhat", annotations=tmp_path / "absent.jsonl.gz")
    monkeypatch.setattr(guesswhat, "LONGEST_LINE", 2000)
    with pytest.raises(ValueError, match="has a line of more than 2000 bytes; it needs a game a line"):
        load_phrases("guesswhat", annotations=write(tmp_path, [game(1, more="x" * 10**6)]))  # packed small
