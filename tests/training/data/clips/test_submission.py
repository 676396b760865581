"""The file that QVHighlights' server takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.clips.moments import read_qvhighlights
from training.data.clips.submission import write_qvhighlights
from training.metrics.video import temporal_grounding_map

ROWS = [{"moment_id": "7", "caption": "x", "clip_id": "a_0.0_150.0", "duration_seconds": 150.0}]
GOOD: dict[str, Any] = {"windows": [[0.0, 4.0, 0.2], [6.0, 9.5, 0.9]], "saliency_scores": [0.5, -1.0]}


def test_lines_are_as_the_official_sample_has_them(tmp_path: Path) -> None:
    write_qvhighlights({"7": GOOD}, tmp_path / "out" / "hl_val_submission.jsonl", rows=ROWS)
    (line,) = (tmp_path / "out" / "hl_val_submission.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "qid": 7,
        "query": "x",
        "vid": "a_0.0_150.0",
        "pred_relevant_windows": [[6.0, 9.5, 0.9], [0.0, 4.0, 0.2]],
        "pred_saliency_scores": [0.5, -1.0],
    }


def test_what_is_written_is_what_the_evaluator_reads(tmp_path: Path) -> None:
    annotations = shared("data/official_formats/qvhighlights/highlight_val_release.jsonl")
    rows = read_qvhighlights(annotations)
    predictions = {row["moment_id"]: {"windows": [[*span, 1.0] for span in row["spans"]]} for row in rows}
    write_qvhighlights(predictions, tmp_path / "hl_val_submission.jsonl", rows=rows)
    found, truth = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (tmp_path / "hl_val_submission.jsonl", annotations)
    )
    assert temporal_grounding_map(found, truth)["r1_95"] == 1 and len(found) == 100


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({}, "1 queries have no prediction: 7; predict every query"),
        ({"7": GOOD, "8": GOOD}, "1 predictions have no query: 8"),
        ({"7": {}}, "predictions have nothing; give windows, saliency_scores, or both"),
        ({"7": {"spans": []}}, "predictions have spans; give windows"),
        ({"7": {"windows": []}}, "the prediction of 7 has no windows"),
        ({"7": {"windows": [[4, 3, 1]]}}, r"the prediction of 7 has the window \[4, 3, 1\]; windows are three finite"),
        ({"7": {"windows": [[4, 160, 1]]}}, "start before they end and lie in their clip of 150 s"),
        ({"7": {"windows": [[0, 4]]}}, "windows are three finite numbers"),
        ({"7": {"windows": [[0, 4, float("nan")]]}}, "windows are three finite numbers"),
        ({"7": {"saliency_scores": [0.0, float("inf")]}}, "the saliency scores of 7 are not all finite numbers"),
    ],
)
def test_nothing_is_written_of_what_the_server_would_refuse(predictions: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_qvhighlights(predictions, tmp_path / "out.jsonl", rows=ROWS)
    assert not list(tmp_path.iterdir())
