"""The files that VCR's and VisDial's organisers take."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from training.data.choices.submission import check_submitted, write_submission

VCR: list[dict[str, Any]] = [
    {"item_id": "test-0-answer", "group": "test-0", "kind": "answer", "scores": [0.0, 0.0, 0.0, 0.0]},
    *(
        {"item_id": f"test-0-rationale-{i}", "group": "test-0", "kind": "rationale", "scores": [float(i), 0, 0, 0]}
        for i in range(4)
    ),
]


def test_vcr_is_a_table_of_probabilities(tmp_path: Path) -> None:
    check_submitted("vcr", VCR, split="test")
    write_submission("vcr", VCR, tmp_path / "out" / "vcr.csv")
    with open(tmp_path / "out" / "vcr.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    names = [f"answer_{i}" for i in range(4)]
    names += [f"rationale_conditioned_on_a{a}_{i}" for a in range(4) for i in range(4)]
    assert list(row) == ["annot_id", *names] and row["annot_id"] == "test-0"
    assert [float(row[name]) for name in names[:8]] == [0.25] * 8
    assert float(row["rationale_conditioned_on_a2_0"]) == pytest.approx(0.711235, abs=1e-6)  # e^2 / (e^2 + 3)


def test_a_question_without_all_its_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'test-0' has scores of answer, .* but the organisers want"):
        write_submission("vcr", VCR[:4], tmp_path / "vcr.csv")
    assert not (tmp_path / "vcr.csv").exists()
    labelled = [{**VCR[0], "item_id": "val-0-answer"}, {**VCR[1], "item_id": "val-0-rationale"}]
    with pytest.raises(ValueError, match="the split 'val' has its labels"):
        check_submitted("vcr", labelled, split="val")


def test_visdial_is_a_list_of_ranks(tmp_path: Path) -> None:
    rows = [{"item_id": "7-10", "group": "7", "kind": "round", "scores": [0.5, 2.0, 0.5, 1.0]}]
    check_submitted("visdial", rows, split="val")
    write_submission("visdial", rows, tmp_path / "ranks.json")
    content = json.loads((tmp_path / "ranks.json").read_text())
    assert content == [{"image_id": 7, "round_id": 10, "ranks": [3, 1, 4, 2]}]
    with pytest.raises(ValueError, match="'scene-1' has no numbers of an image and a round"):
        write_submission("visdial", [rows[0] | {"item_id": "scene-1"}], tmp_path / "ranks.json")
    with pytest.raises(ValueError, match="nobody takes choices of the format 'scenes'"):
        write_submission("scenes", rows, tmp_path / "ranks.json")
