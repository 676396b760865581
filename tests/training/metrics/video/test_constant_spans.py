"""Windows without a look at the clip, against loops over all of them."""

import numpy as np
import pytest

from training.metrics.video.constant_spans import found_by, grid_windows, middle_window, prior_windows


def iou(one: list[float], other: list[float]) -> float:
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    whole = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return shared / whole if whole else 0.0


def drawn_spans(number: int, *, seed: int = 0) -> list[np.ndarray]:
    """One to three spans a sentence, most of them early."""
    draw = np.random.default_rng(seed)
    return [np.sort(draw.random((draw.integers(1, 4), 2)) ** 2, axis=1) for _ in range(number)]


def slow_prior(spans: list[np.ndarray], segments: int, most: int, min_iou: float) -> list[list[float]]:
    windows = [[a / segments, b / segments] for a in range(segments) for b in range(a + 1, segments + 1)]
    missed, chosen = list(spans), []
    for _ in range(min(most, len(windows))):
        best, highest = None, -1
        for window in windows:
            count = sum(any(iou(window, span) >= min_iou for span in own.tolist()) for own in missed)
            if window not in chosen and count > highest:
                best, highest = window, count
        assert best is not None
        chosen.append(best)
        missed = [own for own in missed if not any(iou(best, span) >= min_iou for span in own.tolist())]
    return chosen


@pytest.mark.parametrize(("segments", "most", "min_iou"), [(1, 5, 0.5), (4, 3, 0.5), (6, 21, 0.7), (5, 4, 0.3)])
def test_the_prior_is_the_greedy_choice_of_a_slow_twin(segments: int, most: int, min_iou: float) -> None:
    spans = drawn_spans(40, seed=segments)
    found = prior_windows(spans, segments=segments, most=most, min_iou=min_iou)
    np.testing.assert_allclose(found, slow_prior(spans, segments, most, min_iou))
    assert len(found) == min(most, segments * (segments + 1) // 2) == len(np.unique(found, axis=0))


def test_many_sentences_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = drawn_spans(50, seed=3)
    whole = prior_windows(spans, segments=5, most=6)
    monkeypatch.setattr("training.metrics.video.constant_spans.SENTENCES_AT_ONCE", 7)
    np.testing.assert_array_equal(prior_windows(spans, segments=5, most=6), whole)


def test_a_sentence_is_found_by_any_of_its_spans() -> None:
    spans = [np.array([[0.0, 0.25], [0.75, 1.0]]), np.array([[0.25, 1.0]])]
    found = found_by(grid_windows(2), spans, min_iou=0.5)  # first half, whole, second half
    assert found.tolist() == [[True, False, True], [False, True, True]]


def test_the_middle_is_as_long_as_spans_are_on_average() -> None:
    spans = drawn_spans(30)
    lengths = [end - start for own in spans for start, end in own.tolist()]
    ((start, end),) = middle_window(spans)
    assert end - start == pytest.approx(sum(lengths) / len(lengths)) and start + end == pytest.approx(1)


def test_no_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="segments is 0: give into how many parts"):
        grid_windows(0)
