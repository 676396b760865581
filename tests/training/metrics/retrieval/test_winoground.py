"""Winoground's scores: by hand, as a loop over the authors' definitions, ties, and mistakes."""

import itertools

import numpy as np
import pytest

from training.metrics.retrieval.winoground import CHANCE_X100, winoground

# captions x images of one example -> text, image, group
TABLE = (
    ([[0.9, 0.1], [0.2, 0.8]], (True, True, True)),
    ([[0.9, 0.8], [0.2, 0.7]], (False, True, False)),  # caption 0 fits image 1 better than caption 1 does
    ([[0.9, 0.2], [0.8, 0.7]], (True, False, False)),  # image 0 fits caption 1 better than image 1 does
    ([[0.1, 0.9], [0.8, 0.2]], (False, False, False)),
    ([[0.5, 0.5], [0.1, 0.9]], (True, False, False)),  # a tie of images
    ([[0.5, 0.1], [0.5, 0.9]], (False, True, False)),  # a tie of captions
    ([[0.5, 0.5], [0.5, 0.5]], (False, False, False)),
)


def by_loop(scores: np.ndarray) -> list[tuple[bool, bool, bool]]:
    """c0_i0 and so on, as the paper writes them."""
    found = []
    for (c0_i0, c0_i1), (c1_i0, c1_i1) in scores.tolist():
        text = c0_i0 > c1_i0 and c1_i1 > c0_i1
        image = c0_i0 > c0_i1 and c1_i1 > c1_i0
        found.append((text, image, text and image))
    return found


def test_a_table_by_hand() -> None:
    kinds = ["Object", "Object", "Relation", "Relation", "Both", "Both", "Both"]
    found = winoground([scores for scores, _ in TABLE], kinds=kinds)
    for place, name in enumerate(("text", "image", "group")):
        assert found["per_item"][name] == [right[place] for _, right in TABLE]
    assert found["all"]["text_x100"] == pytest.approx(300 / 7) and found["all"]["image_x100"] == pytest.approx(300 / 7)
    assert found["all"]["group_x100"] == pytest.approx(100 / 7) and found["all"]["num_ties"] == 3
    assert found["kinds"]["Object"]["text_x100"] == 50 and found["kinds"]["Object"]["group_x100"] == 50
    assert found["kinds"]["Both"]["num_examples"] == 3 and list(found["kinds"]) == ["Object", "Relation", "Both"]
    low, high = found["all"]["text_interval_x100"]
    assert 0 <= low < 300 / 7 < high <= 100


def test_it_is_the_loop_and_chance_is_chance() -> None:
    scores = np.random.default_rng(0).random((20_000, 2, 2))
    found = winoground(scores, kinds=["Object"] * len(scores))
    looped = by_loop(scores)
    assert list(zip(*found["per_item"].values(), strict=True)) == looped
    for name, chance in CHANCE_X100.items():
        assert found["all"][f"{name}_x100"] == pytest.approx(chance, abs=1)
    # of the 24 orders of four scores that differ
    orders = np.array(list(itertools.permutations(range(4)))).reshape(-1, 2, 2)
    exact = winoground(orders, kinds=["a"] * 24)["all"]
    assert [exact[f"{name}_x100"] for name in CHANCE_X100] == pytest.approx(list(CHANCE_X100.values()))


def test_the_same_image_twice_scores_nothing() -> None:
    """Why withholding images is no control here."""
    words = np.repeat(np.random.default_rng(1).random((50, 2, 1)), 2, axis=2)
    found = winoground(words, kinds=["a"] * 50)["all"]
    assert found["text_x100"] == found["image_x100"] == found["group_x100"] == 0 and found["num_ties"] == 50


@pytest.mark.parametrize(
    ("scores", "kinds", "message"),
    [
        (np.zeros((0, 2, 2)), [], "scores have shape"),
        (np.zeros((2, 4)), ["a", "a"], "scores have shape"),
        (np.zeros((2, 2, 2)), ["a"], "for 1 kinds"),
        ([[[0, 1], [2, float("nan")]]], ["a"], "example 0 has a score that is no number"),
    ],
)
def test_mistakes_are_named(scores: object, kinds: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        winoground(scores, kinds=kinds)  # type: ignore[arg-type]
