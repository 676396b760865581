"""VSR's lines: labels, relations, images that are not there, broken lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.pair_tests.vsr import read_vsr


def statement(image: str, label: Any, *, relation: Any = "on top of") -> dict[str, Any]:
    record = {"image": image, "image_link": "http://a.b/c", "caption": "The cat is on the bus.", "label": label}
    votes = {"annotator_id": 1, "vote_true_validator_id": [2], "vote_false_validator_id": []}
    return {**record, "relation": relation, **votes}


def written(folder: Path, *records: Any) -> Path:
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, records)))
    return folder / "test.jsonl"


def test_statements_are_true_or_false(tmp_path: Path, images: Path) -> None:
    file = written(tmp_path, statement("2.png", 1), statement("0.png", 0, relation="left of"), statement("gone.png", 1))
    with pytest.warns(UserWarning, match="left out 1 pairs whose image is not there"):
        found = read_vsr(file, images=images)
    assert found.labels.tolist() == [True, False] and found.kinds == ["on top of", "left of"]
    assert [found.paths[place].name for place in found.images] == ["2.png", "0.png"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (statement("0.png", 2), "statement 0 has the label 2, which is neither 0 nor 1"),
        (statement("0.png", True), "statement 0 has the label True"),
        (statement("0.png", "1"), "statement 0 has the label '1'"),
        (statement("0.png", 1, relation=None), "statement 0 lacks 'relation'"),
        ({"image": "0.png"}, "statement 0 lacks 'caption'"),
        (statement("gone.png", 1), "can be scored on .*: 1 pairs whose image is not there"),
    ],
)
def test_broken_lines_are_refused(record: Any, message: str, tmp_path: Path, images: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_vsr(written(tmp_path, record), images=images)
