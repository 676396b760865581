"""R@n,IoU=m: the official figures, a slow twin, the evaluate module, paired intervals, and what is refused."""

import gzip
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.compare import difference
from training.metrics.item_scores import item_scores
from training.metrics.video import temporal_grounding_recall, temporal_recall
from training.metrics.video.spans import hull_iou
from training.metrics.video.temporal_recall import kept_windows

MODULE = Path(__file__).resolve().parents[4] / "training/metrics/video/updown_video.py"
Span = list[float]


@pytest.fixture(scope="module")
def golden() -> list[tuple[Any, Any]]:
    data = json.loads(gzip.decompress(shared("golden/metrics/temporal_grounding_recall.json.gz").read_bytes()))
    return list(zip(data["inputs"]["cases"], data["expected"]["cases"], strict=True))


def our_name(theirs: str) -> str:
    """`R@5,IoU=0.3` -> `r5_iou_30`."""
    recall, _, iou = theirs.removeprefix("R@").partition(",IoU=")
    return f"r{recall}_iou_{100 * float(iou):.6g}"


def test_every_figure_is_the_official_one(golden: list[tuple[Any, Any]]) -> None:
    for given, expected in golden:
        found = temporal_grounding_recall(**given)
        assert {name: found[our_name(name)] for name in expected["recall"]} == pytest.approx(
            expected["recall"], abs=1e-6
        )
        assert found["r5_iou_30_x100"] == pytest.approx(100 * expected["recall"]["R@5,IoU=0.3"], abs=1e-4)
        for own, true, official in zip(given["windows"], given["gt"], expected["iou_first_queries"], strict=False):
            assert hull_iou(np.array(own), np.array(true)) == pytest.approx(official, abs=1e-6)


def test_the_windows_kept_are_the_official_ones(golden: list[tuple[Any, Any]]) -> None:
    for given, expected in golden:
        for own, scores, official in zip(given["windows"], given["scores"], expected["nms_0.45_first5"], strict=False):
            order = np.argsort(scores, kind="stable")[::-1]
            ordered = np.array(own)[order][None]
            kept = kept_windows(ordered, np.ones(ordered.shape[:2], bool), max_iou=0.45, most=len(own))[0]
            assert order[kept[kept >= 0]].tolist() == official


def slow_hit(windows: list[Span], scores: list[float], true: Span, *, n: int, m: float) -> bool:
    """One query, one window at a time."""
    left, kept = sorted(range(len(scores)), key=lambda place: (scores[place], place)), []
    while left:
        best = left.pop()
        kept.append(best)
        left = [other for other in left if slow_iou(windows[best], windows[other]) <= m - 0.05]
    return any(slow_iou(windows[place], true) >= m for place in kept[:n])


def slow_iou(one: Span, other: Span) -> float:
    shared_seconds = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared_seconds / (one[1] - one[0] + other[1] - other[0] - shared_seconds)


def drawn(seed: int) -> tuple[list[list[Span]], list[list[float]], list[Span]]:
    """Queries of zero to nine windows of whole seconds, with scores of which many are equal."""
    draw = random.Random(seed)
    spans = [
        [[start, start + draw.randint(1, 8)] for start in draw.choices(range(9), k=draw.randint(0, 9))]
        for _ in range(60)
    ]
    scores = [[float(draw.randint(0, 3)) for _ in own] for own in spans]
    true = [[start, start + draw.randint(1, 8)] for start in draw.choices(range(9), k=60)]
    return spans, scores, true  # type: ignore[return-value]


@pytest.mark.parametrize("cells", [1 << 20, 20])
def test_it_equals_a_loop(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_recall, "CELLS_AT_ONCE", cells)
    windows, scores, true = drawn(0)
    found = temporal_grounding_recall(windows, true, scores=scores, at=[1, 3], thresholds=[0.3, 0.5])
    for n in (1, 3):
        for m in (0.3, 0.5):
            slow = [slow_hit(*own, n=n, m=m) for own in zip(windows, scores, true, strict=True)]
            assert found["per_item"][f"r{n}_iou_{100 * m:g}"] == list(map(float, slow)) and 5 < sum(slow) < 60
    first = [
        slow_iou(own[max(range(len(own)), key=lambda i: (s[i], i))], t) if own else 0.0
        for own, s, t in zip(windows, scores, true, strict=True)
    ]
    assert found["per_item"]["mean_iou"] == pytest.approx(first) and found["mean_iou"] == pytest.approx(np.mean(first))


def test_without_scores_the_first_is_the_best_and_without_suppression_all_stay() -> None:
    windows, true = [[[0, 10], [1, 10], [20, 30]]], [[20, 30]]
    assert temporal_grounding_recall(windows, true, at=[1, 2, 3])["r2_iou_50"] == 1  # the second is left out
    found = temporal_grounding_recall(windows, true, at=[1, 2, 3], nms_margin=None)
    assert (found["r1_iou_50"], found["r2_iou_50"], found["r3_iou_50"]) == (0, 0, 1)


def test_models_are_compared_in_pairs_of_queries() -> None:
    windows, scores, true = drawn(1)
    ids = [str(number) for number in range(len(true))]
    ours, exact = (
        item_scores(ids, temporal_grounding_recall(own, true, scores=given)["per_item"]["r1_iou_50"])
        for own, given in ((windows, scores), ([[span] for span in true], None))
    )
    found = difference(exact, ours, seed=0, names=("exact", "ours"))
    low, high = found["interval_x100"]
    assert found["difference_x100"] == pytest.approx(100 - 100 * np.mean(ours["values"]), abs=0.01)
    assert 0 < low < found["difference_x100"] < high <= 100


def test_what_cannot_be_scored_is_refused() -> None:
    good: Any = {"windows": [[[0, 5]]], "gt": [[0, 5]], "scores": [[1.0]]}
    for change, message in (
        ({"gt": [[5, 0]]}, r"gt\[0\] has the span \[5.0, 0.0\], which starts after it ends"),
        ({"windows": [[[5, 0]]]}, r"windows\[0\] has the span \[5.0, 0.0\], which starts after it ends"),
        ({"gt": [[0, 5], [0, 5]]}, "1 queries have windows and 2 a true span"),
        ({"gt": [], "windows": []}, "0 queries have windows and 0 a true span"),
        ({"scores": [[1.0, 2.0]]}, "query 0 has 2 scores for 1 windows"),
        ({"scores": []}, "0 queries have scores and 1 windows"),
        ({"scores": [[float("nan")]]}, "a score is not a finite number"),
        ({"durations": [4.0]}, r"gt\[0\] has the span 0 to 5, outside of its clip of 4 seconds"),
        ({"durations": [5.0], "windows": [[[0, 8]]]}, r"windows\[0\] has the span 0 to 8, outside of its clip of 5"),
        ({"durations": [5.0, 5.0]}, "durations must be the seconds of the clips of all 1 queries"),
        (
            {"windows": [[[0, 0.5]]]},
            "predicted spans end at 0.5 at the latest, but true ones at 5; give both in seconds",
        ),
        ({"at": [0]}, r"at is \[0\]; give at least one number of windows"),
        ({"thresholds": [50]}, "give overlaps above 0 and up to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            temporal_grounding_recall(**good | change)


def test_the_evaluate_module_loads_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # before the folder of another module's test
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    metric = evaluate.load(str(MODULE), cache_dir=str(tmp_path))
    windows, scores, true = drawn(2)
    found = [{"windows": own, "scores": given} for own, given in zip(windows, scores, strict=True)]
    expected = temporal_grounding_recall(windows, true, scores=scores)
    measured = metric.compute(predictions=found, references=true)
    assert measured == {name: value for name, value in expected.items() if name != "per_item"}
