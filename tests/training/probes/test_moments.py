"""Moments without a model: figures against loops, of every format's durations, the command with an evaluated model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.metrics.item_scores import write_item_scores
from training.metrics.video.constant_spans import grid_windows, prior_windows
from training.metrics.video.temporal_recall import temporal_grounding_recall
from training.probes.moments import constant_moments, main, rows_with_durations, spans_of
from training.recipe import read_recipe

SCENES = ["--set", "data.num_scenes={train: 60, val: 4, test: 20}", "--set", "data.image_size=32"]


def drawn_rows(number: int, *, seed: int) -> list[dict[str, Any]]:
    """A span each, in clips of 10 s or 20 s, most of them early."""
    draw = np.random.default_rng(seed)
    rows = []
    for place in range(number):
        seconds = float(draw.choice([10, 20]))
        span = np.sort(draw.random(2) ** 2) * seconds
        rows.append({"moment_id": f"{seed}-{place}", "spans": [span.tolist()], "duration_seconds": seconds})
    return rows


def recall_of(windows: np.ndarray, rows: list[dict[str, Any]], *, min_iou: float = 0.5) -> float:
    """R@1 of one window (2,) a sentence, or the same for all, in 0..1 of the clip."""
    hit = 0
    for window, row in zip(np.broadcast_to(windows, (len(rows), 2)), rows, strict=True):
        (start, end), (first, last) = row["spans"][0], window * row["duration_seconds"]
        shared = max(0.0, min(end, last) - max(start, first))
        hit += shared >= min_iou * (end - start + last - first - shared)
    return hit / len(rows)


def test_figures_are_those_of_loops() -> None:
    rows, training = drawn_rows(60, seed=1), drawn_rows(80, seed=0)
    found = constant_moments(rows, training, format="charades_sta", segments=4, draws=200)
    windows = grid_windows(4)
    best = max(windows.tolist(), key=lambda window: recall_of(np.array(window), training))
    middle = np.mean([(row["spans"][0][1] - row["spans"][0][0]) / row["duration_seconds"] for row in training]) / 2
    assert found["prior"][0]["r1_iou_50"] == pytest.approx(recall_of(np.array(best), rows))
    assert found["middle"][0]["r1_iou_50"] == pytest.approx(recall_of(np.array([0.5 - middle, 0.5 + middle]), rows))
    assert found["middle"][0]["r5_iou_50"] == found["middle"][0]["r1_iou_50"]  # there is one
    for name in ("r1_iou_50", "r1_iou_70"):
        expected = np.mean([recall_of(window, rows, min_iou=int(name[-2:]) / 100) for window in windows])
        assert found["random"][0][name] == pytest.approx(expected, abs=0.02)
        assert np.mean(found["random"][1][name]["values"]) == pytest.approx(found["random"][0][name])
    prior = prior_windows([spans_of(row) for row in training], segments=4, most=10)
    expected = temporal_grounding_recall(
        [prior * row["duration_seconds"] for row in rows], [row["spans"][0] for row in rows], at=(5,)
    )
    assert found["prior"][0]["r5_iou_50"] == expected["r5_iou_50"]


def test_the_same_seed_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn_rows(20, seed=1)
    first, again, other = (
        constant_moments(rows, rows, format="travelling", segments=8, draws=3, seed=seed)["random"][0]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_didemo_is_ranked_over_all_segments() -> None:
    """Everyone names the first piece: the prior ranks it first, random ones by chance, 1 of 21."""
    rows = [{"moment_id": str(n), "spans": [[0.0, 5.0]] * 4, "duration_seconds": 30.0} for n in range(30)]
    found = constant_moments(rows, rows, format="didemo", segments=6, draws=40)
    assert found["prior"][0]["rank1"] == found["prior"][0]["didemo_miou"] == 1
    assert found["random"][0]["rank1"] == pytest.approx(1 / 21, abs=0.02)
    assert found["random"][0]["rank5"] == pytest.approx(5 / 21, abs=0.04)


def test_a_clip_without_a_duration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "charades_sta_test.txt"
    path.write_text("AO8RW 0.0 6.9##a person is putting a book on a shelf.\n")
    changes = [f"data.annotations={path}", "data.durations=null"]
    with pytest.raises(ValueError, match="the clip 'AO8RW' has no duration: name the durations in the data"):
        rows_with_durations(read_recipe("moments/charades_sta", changes), "test")  # type: ignore[arg-type]
    recipe: Any = read_recipe("moments/charades_sta", [*changes, "moments.duration_seconds=30"])
    assert rows_with_durations(recipe, "test")[0]["duration_seconds"] == 30


def test_the_command_prints_a_line_for_each_and_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["moments/moving_scenes", *SCENES, "--draws", "4"]
    assert main([*arguments, "--output", str(tmp_path / "a.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = json.loads((tmp_path / "a.json").read_text())
    assert [line.split("|")[1].strip() for line in lines] == ["windows", "---", "random", "middle", "prior"]
    assert said["num_sentences"] == 60 and said["segments"] == 18 and said["split"] == "test"
    prior = said["rows"][2]["metrics"]["r1_iou_50"]
    assert f"{prior:.1f}" == lines[4].split("|")[3].strip() and prior > said["rows"][0]["metrics"]["r1_iou_50"]
    recipe: Any = read_recipe("moments/moving_scenes", SCENES[1::2])
    ids = [row["moment_id"] for row in rows_with_durations(recipe, "test")]
    write_item_scores(tmp_path, {"r1_iou_50": {"ids": ids, "values": [1.0] * len(ids)}})
    (tmp_path / "evaluation.json").write_text(json.dumps({"dataset": {}, "metrics": {"r1_iou_50_x100": 100.0}}))
    assert main([*arguments, "--evaluated", f"best={tmp_path}"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| best |") and f"+{100 - prior:.2f} (" in last


def test_mistakes_are_told_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vqa/moving_scenes"]) == 2
    assert "vqa/moving_scenes is a recipe of vqa: name one of moments" in capsys.readouterr().err
    assert main(["moments/moving_scenes", *SCENES, "--segments", "500"]) == 2
    assert "segments is 500: cut clips into 1 to 128 parts" in capsys.readouterr().err
    assert main(["moments/moving_scenes", *SCENES, "--evaluated", str(tmp_path)]) == 2
    assert "holds no evaluation.json" in capsys.readouterr().err
