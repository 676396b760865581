"""Dense captions as numbers: suppression and losses by slow loops, which regions are described, where sentences end."""

import math
import random

import pytest
import torch

from modeling_updown.boxes_updown import pairwise_iou
from modeling_updown.dense_captions_updown import (
    described_regions,
    kept_sentences,
    read_words,
    region_score_loss,
    sentence_box_loss,
)
from modeling_updown.outputs_updown import UpDownDenseCaptions

WEIGHTS = (10, 10, 5, 5)


def drawn_sentences(number: int = 40, *, seed: int = 0) -> UpDownDenseCaptions:
    """Sentences of three images with boxes that overlap; many scores are equal."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, generator=draw) / 2
    sizes = 0.1 + torch.rand(number, 2, generator=draw) * 0.4
    return UpDownDenseCaptions(
        sequences=torch.arange(number)[:, None],
        boxes=torch.cat([corners, corners + sizes], dim=1),
        scores=torch.randint(0, 8, (number,), generator=draw) / 8,
        log_probs=-torch.rand(number, generator=draw),
        image_index=torch.randint(0, 3, (number,), generator=draw).sort().values,
        region_index=torch.arange(number),
    )


def slowly_kept(found: UpDownDenseCaptions, iou: float, top_k: int | None) -> list[int]:
    kept = []
    for image in range(3):
        own: list[int] = []
        mine = [i for i in range(len(found.scores)) if found.image_index[i] == image]
        for i in sorted(mine, key=lambda i: -found.scores[i].item()):
            if all(pairwise_iou(found.boxes[i, None], found.boxes[j, None]).item() <= iou for j in own):
                own.append(i)
        kept += own[:top_k]
    return kept


@pytest.mark.parametrize("iou", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("top_k", [None, 2])
def test_suppression_is_that_of_a_slow_loop(iou: float, top_k: int | None) -> None:
    for seed in range(5):
        found = drawn_sentences(seed=seed)
        kept = kept_sentences(found, nms_iou=iou, top_k=top_k)
        expected = slowly_kept(found, iou, top_k)
        assert kept.sequences[:, 0].tolist() == expected == kept.region_index.tolist()
        assert torch.equal(kept.boxes, found.boxes[expected]) and torch.equal(kept.log_probs, found.log_probs[expected])
        assert (iou == 1) <= (len(expected) == 40 or top_k is not None)


@pytest.mark.parametrize(
    ("iou", "top_k", "told"), [(0, None, "nms_iou is 0"), (1.2, None, "nms_iou is 1.2"), (1, 0, "top_k is 0")]
)
def test_numbers_out_of_range_are_refused(iou: float, top_k: int | None, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}, but must be"):
        kept_sentences(drawn_sentences(), nms_iou=iou, top_k=top_k)


def test_losses_are_those_of_slow_loops() -> None:
    draw = random.Random(0)
    start = [[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.4, 0.5]]
    true = [[0.2, 0.2, 0.6, 0.8], [-1.0] * 4, [0.3, 0.3, 0.4, 0.5]]
    deltas = [[draw.uniform(-2, 2) for _ in range(4)] for _ in start]
    total = 0.0
    for box, wanted, delta in zip(start, true, deltas, strict=True):
        if wanted[0] < 0:
            continue
        sizes = [box[2] - box[0], box[3] - box[1]]
        shifts = [((wanted[i] + wanted[i + 2]) - (box[i] + box[i + 2])) / 2 / sizes[i] for i in (0, 1)]
        growths = [math.log((wanted[i + 2] - wanted[i]) / sizes[i]) for i in (0, 1)]
        for value, target, weight in zip(delta, [*shifts, *growths], WEIGHTS, strict=True):
            off = abs(value - target * weight)
            total += off - 0.5 if off > 1 else off * off / 2
    found = sentence_box_loss(*map(torch.tensor, (deltas, start, true)), weights=WEIGHTS)
    assert found.item() == pytest.approx(total / 2, rel=1e-5)
    logits, labels = [[1.5, -0.3, 9.0], [0.2, -2.0, 7.0]], [[1.0, 0.0, -100.0], [0.0, 1.0, -100.0]]
    odds = [(1.5, 1), (-0.3, 0), (0.2, 0), (-2.0, 1)]
    each = [math.log(1 + math.exp(-x if y else x)) for x, y in odds]
    found = region_score_loss(torch.tensor(logits), torch.tensor(labels))
    assert found.item() == pytest.approx(sum(each) / 4, rel=1e-5)


def test_losses_of_nothing_are_zero_with_gradients_of_zero() -> None:
    deltas, logits = torch.ones(2, 4, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    nowhere = torch.full((2, 4), -1.0)
    loss = sentence_box_loss(deltas, nowhere.abs(), nowhere, weights=WEIGHTS)
    loss = loss + region_score_loss(logits, torch.full((1, 2), -100.0))
    loss.backward()
    assert loss.item() == 0 and not deltas.grad.any() and not logits.grad.any()  # type: ignore[union-attr]


def test_regions_are_named_or_all_are_described() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert [index.tolist() for index in described_regions(mask, None, None)] == [[0, 0, 1], [0, 1, 0]]
    both = described_regions(mask, torch.tensor([1, 0, 0]), torch.tensor([0, 1, 1]))
    assert [index.tolist() for index in both] == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("images", "places", "told"),
    [
        ([0, 1], None, "image_index names images alone: give region_index"),
        (None, [0, 0, 0], "region_index names 3 regions for 2 images"),
        (None, [0, 1], "a real one of the up to 2 regions of 2 images"),  # padding
        ([0, 2], [0, 0], "for each of 2 rows, a real one"),
        ([0, 0], [0, 2], "for each of 2 rows, a real one"),
        ([0, -1], [0, 0], "for each of 2 rows, a real one"),
        ([0], [0, 0], "for each of 2 rows, a real one"),
        ([], [], "for each of 0 rows"),
    ],
)
def test_regions_that_are_not_there_are_refused(images: list[int] | None, places: list[int] | None, told: str) -> None:
    mask = torch.tensor([[True, True], [True, False]])
    given = [None if index is None else torch.tensor(index, dtype=torch.long) for index in (images, places)]
    with pytest.raises(ValueError, match=told):
        described_regions(mask, *given)


def test_sentences_end_at_any_end_token() -> None:
    words = torch.tensor([[2, 5, 2, 5], [2, 5, 6, 7], [2, 9, 2, 0]])
    assert read_words(words, [2, 9]).tolist() == [[True, True, False, False], [True] * 4, [True, False, False, False]]
    assert read_words(words, None).all()
