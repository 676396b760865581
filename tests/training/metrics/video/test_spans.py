"""Spans as one array and their overlaps: numbers by hand, and what is refused."""

import numpy as np
import pytest

from training.metrics.video.spans import check_inside, check_seconds, hull_iou, joined_spans, temporal_iou


def test_spans_of_all_items_are_joined() -> None:
    spans, counts = joined_spans([[[0, 1], [2, 3.5]], [], [[4, 4]]], "windows")
    assert spans.tolist() == [[0, 1], [2, 3.5], [4, 4]] and counts.tolist() == [2, 0, 1]
    assert joined_spans([[[0, 1, -0.5]]], "windows", columns=3)[0].tolist() == [[0, 1, -0.5]]


def test_overlaps_by_hand() -> None:
    spans, others = np.array([[0.0, 10], [0, 10], [0, 10], [3, 3]]), np.array([[0.0, 10], [5, 15], [12, 20], [3, 3]])
    assert temporal_iou(spans, others).tolist() == [1, 1 / 3, 0, 0]
    assert hull_iou(spans, others).tolist() == [1, 1 / 3, -0.1, 0]


def test_two_overlaps_agree_where_spans_meet() -> None:
    draw = np.random.default_rng(0)
    spans, others = np.sort(draw.uniform(0, 9, size=(2, 500, 2)), axis=2)
    meet = hull_iou(spans, others) >= 0
    assert 100 < meet.sum() < 500
    assert np.allclose(temporal_iou(spans, others), hull_iou(spans, others).clip(min=0), atol=1e-12)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (
            [[[0, 1]], [[3, 2]]],
            r"windows\[1\] has the span \[3.0, 2.0\], which starts after it ends; give start and end",
        ),
        ([[[0, float("nan")]]], r"windows\[0\] has the span \[0.0, nan\], which holds no finite number"),
        ([[[0, 1, 2]]], r"windows\[0\] has spans of shape \(1, 3\); give a list of spans, 2 numbers each"),
        ([[0, 1]], r"windows\[0\] has spans of shape \(2,\)"),
        ([[["a", "b"]]], r"windows\[0\] holds no spans of 2 numbers"),
        ([[[0, 1], [2]]], r"windows\[0\] holds no spans of 2 numbers"),
    ],
)
def test_what_is_no_span_is_refused(spans: list[list[list[float]]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joined_spans(spans, "windows")


def test_spans_outside_of_their_clip_are_refused() -> None:
    spans, counts = joined_spans([[[0, 5]], [[0, 9], [3, 12]]], "windows")
    check_inside(spans, counts, np.array([5.0, 12]), what="windows")
    check_inside(spans, counts, np.array([5.0, 10]), what="windows", slack_seconds=2)
    with pytest.raises(ValueError, match=r"windows\[1\] has the span 3 to 12, outside of its clip of 10 seconds; are"):
        check_inside(spans, counts, np.array([5.0, 10]), what="windows")
    with pytest.raises(ValueError, match="windows of q2 has the span 3 to 12, outside"):
        check_inside(spans, counts, np.array([5.0, 10]), what="windows", names=["q1", "q2"])
    with pytest.raises(ValueError, match=r"windows\[0\] has the span -1 to 5, outside"):
        check_inside(np.array([[-1.0, 5]]), np.array([1]), np.array([9.0]), what="windows")


def test_parts_of_the_clip_are_told_from_seconds() -> None:
    shares, seconds = np.array([[0.1, 0.9]]), np.array([[3.0, 27]])
    check_seconds(seconds, seconds)
    check_seconds(shares, shares)
    check_seconds(shares[:0], seconds)
    with pytest.raises(ValueError, match="predicted spans end at 0.9 at the latest, but true ones at 27; give both in"):
        check_seconds(shares, seconds)
    with pytest.raises(ValueError, match="predicted spans end at 27 at the latest, but true ones at 0.9"):
        check_seconds(seconds, shares)
