"""Spans of a clip by the scores of its frames, against an exhaustive search."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from training.search.moments import best_run, best_spans


@pytest.mark.parametrize("seed", range(20))
def test_the_best_span_is_that_of_an_exhaustive_search(seed: int) -> None:
    draw = np.random.default_rng(seed)
    number = int(draw.integers(1, 9))
    scores, seconds = draw.normal(size=number), np.sort(draw.random(number) * 9)
    end = float(seconds[-1]) + 0.5
    lengths = np.diff(seconds, append=end)
    mean = (scores * lengths).sum() / lengths.sum()
    runs = list(combinations_with_replacement(range(number), 2))
    sums = [((scores - mean) * lengths)[first : last + 1].sum() for first, last in runs]
    (span,) = best_spans(scores, seconds, end=end)
    first, last = runs[int(np.argmax(sums))] if max(sums) > 1e-6 else (0, number - 1)
    assert (span["start"], span["end"]) == pytest.approx((seconds[first], np.append(seconds[1:], end)[last]))
    part = slice(first, last + 1)
    assert span["score"] == pytest.approx((scores[part] * lengths[part]).sum() / lengths[part].sum(), abs=1e-5)


def test_further_spans_do_not_overlap_and_are_above_the_mean() -> None:
    scores = np.array([0.9, 0.1, 0.8, 0.8, 0.1, 0.1, 0.6, 0.1])  # the second frame lies between better ones
    spans = best_spans(scores, np.arange(8.0), end=8.0, most=9)
    assert [(span["start"], span["end"]) for span in spans] == [(0.0, 4.0), (6.0, 7.0)]
    assert all(span["score"] > scores.mean() for span in spans)


def test_a_clip_of_one_frame_is_its_own_moment() -> None:
    assert best_spans(np.array([0.3]), np.array([0.0]), end=2.0, most=2) == [{"start": 0.0, "end": 2.0, "score": 0.3}]
    assert best_run(np.array([-np.inf, -np.inf])) is None
