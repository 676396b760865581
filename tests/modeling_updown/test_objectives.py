"""The pretraining objectives against slow loops in float64, at the temperature's bounds, and with nothing to do."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from modeling_updown.losses_updown import (
    contrastive_loss,
    itc_loss,
    itm_loss,
    mlm_loss,
    momentum_itc_loss,
    mrc_ce_loss,
    mrc_kl_loss,
    mrfr_loss,
    prefix_lm_loss,
    qa_loss,
)

Rows = Sequence[list[float]]

OWNERS = [2, 0, 0, 3, 2, 0]  # image 1 has no text, image 0 has three
TEMPERATURES = [0.001, 0.07, 0.5]
MASK = [[True, False, True], [False, False, True]]


def embeddings(count: int, *, seed: int, width: int = 5) -> torch.Tensor:
    """(count, width) float64 of length 1."""
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    assert tensor.grad is not None
    return tensor.grad


def close(found: torch.Tensor, expected: float) -> None:
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(expected, abs=1e-6, rel=1e-9)


# -- the slow, obvious twins -----------------------------------------------------------------------------------------


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def log_softmax(scores: list[float]) -> list[float]:
    largest = max(scores)
    total = largest + math.log(sum(math.exp(score - largest) for score in scores))
    return [score - total for score in scores]


def slow_side(
    queries: Rows,
    keys: Rows,
    positives: Callable[[int, int], bool],
    temperature: float,
    *,
    teachers: Rows = (),
    alpha: float = 0.0,
) -> float:
    """Cross-entropy of each query with a positive key, averaged."""
    losses = []
    for q, query in enumerate(queries):
        right = [k for k in range(len(keys)) if positives(q, k)]
        if not right:
            continue
        log_probs = log_softmax([dot(query, key) / temperature for key in keys])
        loss = -(1 - alpha) * sum(log_probs[k] for k in right) / len(right)
        if alpha:
            teacher = log_softmax([dot(teachers[q], key) / temperature for key in keys])
            loss -= alpha * sum(math.exp(t) * p for t, p in zip(teacher, log_probs, strict=True))
        losses.append(loss)
    return sum(losses) / len(losses)


def slow_itc(images: Rows, texts: Rows, owners: list[int], temperature: float) -> float:
    to_text = slow_side(images, texts, lambda p, n: owners[n] == p, temperature)
    return (to_text + slow_side(texts, images, lambda n, p: owners[n] == p, temperature)) / 2


def slow_words(logits: Sequence[Rows], labels: Sequence[Sequence[int]]) -> float:
    losses = [
        -log_softmax(scores)[label]
        for row, row_labels in zip(logits, labels, strict=True)
        for scores, label in zip(row, row_labels, strict=True)
        if label != -100
    ]
    return sum(losses) / max(len(losses), 1)


def slow_regions(mask: list[list[bool]], loss: Callable[[int, int], float]) -> float:
    losses = [loss(b, r) for b, row in enumerate(mask) for r, masked in enumerate(row) if masked]
    return sum(losses) / max(len(losses), 1)


# -- ITC -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_itc_of_pairs(temperature: float) -> None:
    images, texts = embeddings(4, seed=0), embeddings(4, seed=1)
    expected = slow_itc(images.tolist(), texts.tolist(), [0, 1, 2, 3], temperature)
    close(itc_loss(images, texts, temperature=temperature), expected)
    learned = torch.tensor(temperature, dtype=torch.float64)
    close(itc_loss(images, texts, temperature=learned, owners=torch.arange(4)), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_itc_counts_every_caption_of_an_image_as_right(temperature: float) -> None:
    images, texts = embeddings(4, seed=0), embeddings(6, seed=1)
    expected = slow_itc(images.tolist(), texts.tolist(), OWNERS, temperature)
    close(itc_loss(images, texts, temperature=temperature, owners=torch.tensor(OWNERS)), expected)


def test_itc_by_hand() -> None:
    """Two images at right angles, each with a text equal to it: every softmax is e^(1/t) against e^0."""
    found = itc_loss(torch.eye(2).double(), torch.eye(2).double(), temperature=0.5)
    close(found, math.log(1 + math.exp(-2)))


def test_a_text_of_no_image_is_a_negative_only() -> None:
    images, texts = embeddings(2, seed=0), embeddings(3, seed=1)
    owners = [0, -1, 1]
    expected = slow_itc(images.tolist(), texts.tolist(), owners, 0.1)
    close(itc_loss(images, texts, temperature=0.1, owners=torch.tensor(owners)), expected)
    without = itc_loss(images, texts[[0, 2]], temperature=0.1)
    assert without.item() < expected


def test_itc_asks_for_owners_where_counts_differ() -> None:
    with pytest.raises(ValueError, match="4 images but 6 texts: name the image of each text in owners"):
        itc_loss(embeddings(4, seed=0), embeddings(6, seed=1), temperature=0.1)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_momentum_itc(temperature: float, alpha: float) -> None:
    """Six texts of four images, and a queue that holds another caption of image 13 and two strangers."""
    image_ids, text_ids = [12, 11, 13, 14], [13, 12, 12, 14, 13, 12]
    copies = embeddings(4, seed=2), embeddings(6, seed=3)
    image_keys = torch.cat([copies[0], embeddings(3, seed=4)])
    text_keys = torch.cat([copies[1], embeddings(3, seed=5)])
    image_key_ids, text_key_ids = [*image_ids, 20, 13, 21], [*text_ids, 20, 13, 21]
    images, texts = embeddings(4, seed=0), embeddings(6, seed=1)
    found = momentum_itc_loss(
        images,
        texts,
        image_keys=image_keys,
        text_keys=text_keys,
        image_ids=torch.tensor(image_ids),
        text_ids=torch.tensor(text_ids),
        image_key_ids=torch.tensor(image_key_ids),
        text_key_ids=torch.tensor(text_key_ids),
        temperature=temperature,
        momentum_image_embeds=copies[0] if alpha else None,
        momentum_text_embeds=copies[1] if alpha else None,
        alpha=alpha,
    )
    to_text = slow_side(
        images.tolist(),
        text_keys.tolist(),
        lambda q, k: image_ids[q] == text_key_ids[k],
        temperature,
        teachers=copies[0].tolist(),
        alpha=alpha,
    )
    to_image = slow_side(
        texts.tolist(),
        image_keys.tolist(),
        lambda q, k: text_ids[q] == image_key_ids[k],
        temperature,
        teachers=copies[1].tolist(),
        alpha=alpha,
    )
    close(found, (to_text + to_image) / 2)


def momentum_of(images: torch.Tensor, texts: torch.Tensor, **changes: Any) -> torch.Tensor:
    """`momentum_itc_loss` of pairs whose keys are the batch alone."""
    ids = torch.arange(len(images))
    arguments: dict[str, Any] = {"image_keys": images, "text_keys": texts, "image_ids": ids, "text_ids": ids}
    arguments |= {"image_key_ids": ids, "text_key_ids": ids, "temperature": 0.1, **changes}
    return momentum_itc_loss(images, texts, **arguments)


def test_momentum_itc_without_a_queue_is_itc() -> None:
    images, texts = embeddings(4, seed=0), embeddings(4, seed=1)
    close(momentum_of(images, texts), itc_loss(images, texts, temperature=0.1).item())


def test_momentum_keys_get_no_gradient() -> None:
    images, texts = embeddings(3, seed=0).requires_grad_(), embeddings(3, seed=1).requires_grad_()
    keys = {"image_keys": embeddings(3, seed=2).requires_grad_(), "text_keys": embeddings(3, seed=3).requires_grad_()}
    copies = {"momentum_image_embeds": keys["image_keys"], "momentum_text_embeds": keys["text_keys"]}
    momentum_of(images, texts, alpha=0.4, **keys, **copies).backward()
    assert gradient(images).abs().min() > 0 and gradient(texts).abs().min() > 0
    assert keys["image_keys"].grad is None and keys["text_keys"].grad is None


def test_momentum_itc_asks_for_the_copy() -> None:
    with pytest.raises(ValueError, match="alpha is above 0: give momentum_image_embeds and momentum_text_embeds"):
        momentum_of(embeddings(2, seed=0), embeddings(2, seed=1), alpha=0.4)


def test_contrastive_loss_leaves_out_keys_at_minus_infinity() -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf], [-math.inf] * 3], dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(logits, torch.tensor([[True, False, False], [False] * 3]))
    loss.backward()
    close(loss, math.log(1 + math.e))
    assert gradient(logits).isfinite().all() and gradient(logits)[1].abs().max() == 0


def test_contrastive_loss_takes_targets_as_they_are() -> None:
    logits, targets = random(2, 3), torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]], dtype=torch.float64)
    expected = sum(-dot(t, log_softmax(row)) for t, row in zip(targets.tolist(), logits.tolist(), strict=True)) / 2
    close(contrastive_loss(logits, torch.ones(2, 3, dtype=torch.bool), soft_targets=targets), expected)


@pytest.mark.parametrize("temperature", [0.001, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_itc_gradients_are_finite_at_the_temperature_bounds(temperature: float, dtype: torch.dtype) -> None:
    """The best and the worst batch there can be: right pairs alike or opposed, wrong pairs opposed or alike."""
    corners = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    for texts in (corners, -corners):
        images = corners.to(dtype).requires_grad_()
        others, learned = texts.to(dtype).requires_grad_(), torch.tensor(temperature, requires_grad=True)
        copies = {"momentum_image_embeds": images, "momentum_text_embeds": others}
        plain = itc_loss(images, others, temperature=learned)
        for loss in (plain, momentum_of(images, others, temperature=learned, alpha=0.4, **copies)):
            grads = torch.autograd.grad(loss, [images, others, learned])
            assert loss.dtype == torch.float32 and loss.isfinite() and all(grad.isfinite().all() for grad in grads)
    assert itc_loss(corners, -corners, temperature=temperature).item() == pytest.approx(
        2 / temperature + math.log1p(math.exp(-2 / temperature)), rel=1e-6
    )


def test_itc_of_one_pair_is_zero_with_zero_gradients() -> None:
    images, texts = embeddings(1, seed=0).requires_grad_(), embeddings(1, seed=1).requires_grad_()
    learned = torch.tensor(0.001, requires_grad=True)
    for loss in (itc_loss(images, texts, temperature=learned), momentum_of(images, texts, temperature=learned)):
        assert loss.item() == 0
        assert all(grad.abs().max() == 0 for grad in torch.autograd.grad(loss, [images, texts, learned]))


def test_itc_of_nothing_right_is_zero_with_zero_gradients() -> None:
    images, texts = embeddings(2, seed=0).requires_grad_(), embeddings(2, seed=1).requires_grad_()
    loss = itc_loss(images, texts, temperature=0.07, owners=torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0 and gradient(images).abs().max() == 0 and gradient(texts).abs().max() == 0
    assert itc_loss(images[:0], texts[:0], temperature=0.07).item() == 0


def test_autocast_does_not_round_similarities() -> None:
    images, texts = embeddings(8, seed=0).float(), embeddings(8, seed=1).float()
    exact = itc_loss(images, texts, temperature=0.001)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(itc_loss(images, texts, temperature=0.001), exact, rtol=0, atol=0)
        assert (images @ texts.T).dtype == torch.bfloat16  # which is what it would have done


def test_contrastive_gradients_are_those_of_the_formulas() -> None:
    images, texts = embeddings(3, seed=0).requires_grad_(), embeddings(4, seed=1).requires_grad_()
    learned = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    owners = torch.tensor([0, 0, 2, -1])
    assert torch.autograd.gradcheck(
        lambda v, t, tau: itc_loss(v, t, temperature=tau, owners=owners), (images, texts, learned)
    )
    keys = {"image_keys": embeddings(3, seed=2), "text_keys": embeddings(3, seed=3)}
    copies = {"momentum_image_embeds": embeddings(3, seed=4), "momentum_text_embeds": embeddings(3, seed=5)}
    assert torch.autograd.gradcheck(
        lambda v, t: momentum_of(v, t, alpha=0.4, temperature=0.5, **keys, **copies), (images, texts[:3])
    )


# -- ITM -------------------------------------------------------------------------------------------------------------


def test_itm_is_binary_cross_entropy() -> None:
    logits, labels = random(6), [1, 0, 0, 1, 0, 0]
    losses = [
        -math.log(1 / (1 + math.exp(-z if y else z))) for z, y in zip(logits.tolist(), labels, strict=True)
    ]  # p = sigmoid(z), 1 - p = sigmoid(-z)
    for kind in (torch.long, torch.bool, torch.float64):
        close(itm_loss(logits, torch.tensor(labels).to(kind)), sum(losses) / 6)


def test_itm_of_two_ways_is_that_of_their_difference() -> None:
    logits, labels = random(6, 2), torch.tensor([1, 0, 0, 1, 0, 0])
    close(itm_loss(logits, labels), slow_words([logits.tolist()], [labels.tolist()]))
    close(itm_loss(logits, labels.bool()), itm_loss(logits[:, 1] - logits[:, 0], labels).item())


@pytest.mark.parametrize("width", [(), (2,)])
def test_itm_of_no_pair_and_of_extreme_scores(width: tuple[int, ...]) -> None:
    logits = torch.zeros(0, *width, requires_grad=True)
    loss = itm_loss(logits, torch.zeros(0))
    loss.backward()
    assert loss.item() == 0
    logits = torch.full((2, *width), 1e4, dtype=torch.float16).requires_grad_()
    loss = itm_loss(logits, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite() and gradient(logits).isfinite().all()


def test_itm_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"logits have shape \(3, 1\) and labels \(3,\): give one log-odds, or two"):
        itm_loss(torch.zeros(3, 1), torch.zeros(3))


# -- words -----------------------------------------------------------------------------------------------------------


def test_mlm_is_the_mean_over_masked_words() -> None:
    logits, labels = random(2, 3, 5), [[-100, 4, 0], [2, -100, -100]]
    close(mlm_loss(logits, torch.tensor(labels)), slow_words(logits.tolist(), labels))
    uniform = mlm_loss(torch.zeros(2, 3, 5).double(), torch.tensor(labels))
    close(uniform, math.log(5))


def test_prefix_lm_scores_the_word_after() -> None:
    """An image of two regions, then a caption; another with a shorter one."""
    logits = random(2, 6, 5)
    labels = [[-100, -100, 3, 1, 4, 0], [-100, -100, 2, 0, -100, -100]]
    expected = slow_words([row[:-1] for row in logits.tolist()], [row[1:] for row in labels])
    close(prefix_lm_loss(logits, torch.tensor(labels)), expected)
    assert sum(label != -100 for row in labels for label in row[1:]) == 6  # the first word, too, is scored


@pytest.mark.parametrize("loss", [mlm_loss, prefix_lm_loss])
def test_no_word_to_guess(loss: Callable[..., torch.Tensor]) -> None:
    logits = torch.full((2, 3, 5), math.nan, requires_grad=True)
    found = loss(logits, torch.full((2, 3), -100))
    found.backward()
    assert found.item() == 0 and gradient(logits).abs().max() == 0


def test_words_that_are_not_scored_may_hold_anything() -> None:
    logits = random(1, 3, 5)
    labels = torch.tensor([[-100, 4, -100]])
    expected = mlm_loss(logits, labels).item()
    logits[0, [0, 2]] = torch.tensor([math.nan, math.inf], dtype=torch.float64)[:, None]
    logits.requires_grad_()
    found = mlm_loss(logits, labels)
    found.backward()
    close(found, expected)
    assert gradient(logits).isfinite().all() and gradient(logits)[0, [0, 2]].abs().max() == 0


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 2000, 3, dtype=torch.bfloat16)
    assert mlm_loss(logits, torch.zeros(1, 2000, dtype=torch.long)).item() == pytest.approx(math.log(3), abs=1e-5)


# -- regions ---------------------------------------------------------------------------------------------------------


def regions(*, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """logits and object_probs (2, 3, classes), the mask (2, 3) and the detector's confidence (2, 3)."""
    probs = (2 * random(2, 3, classes, seed=1)).softmax(dim=-1)
    return random(2, 3, classes), probs, torch.tensor(MASK), probs[..., 1:].amax(dim=-1)


def slow_ce(logits: Sequence[Rows], probs: Sequence[Rows], b: int, r: int) -> float:
    wanted = max(range(1, len(probs[b][r])), key=lambda k: probs[b][r][k])
    return -log_softmax(logits[b][r])[wanted]


def slow_kl(logits: Sequence[Rows], probs: Sequence[Rows], b: int, r: int) -> float:
    log_p = log_softmax(logits[b][r])
    return sum(q * (math.log(q) - p) for q, p in zip(probs[b][r], log_p, strict=True) if q > 0)


def slow_distance(first: list[float], second: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("loss", "slow"), [(mrc_ce_loss, slow_ce), (mrc_kl_loss, slow_kl)])
def test_masked_region_classification(loss: Callable[..., torch.Tensor], slow: Callable[..., float]) -> None:
    logits, probs, mask, confidence = regions()
    expected = slow_regions(MASK, lambda b, r: slow(logits.tolist(), probs.tolist(), b, r))
    close(loss(logits, probs, mask), expected)
    close(loss(logits, probs, mask, average_classes=True), expected / 4)
    weighed = slow_regions(MASK, lambda b, r: confidence[b, r].item() * slow(logits.tolist(), probs.tolist(), b, r))
    close(loss(logits, probs, mask, weights=confidence), weighed)
    assert torch.autograd.gradcheck(lambda z: loss(z, probs, mask, weights=confidence), logits.requires_grad_())


def test_uniters_figure_is_one_of_1601() -> None:
    logits, probs = random(1, 2, 1601), random(1, 2, 1601, seed=1).softmax(dim=-1)
    mask = torch.tensor([[True, True]])
    its_own = torch.nn.functional.kl_div(logits[mask].log_softmax(dim=-1), probs[mask], reduction="sum") / (2 * 1601)
    close(mrc_kl_loss(logits, probs, mask, average_classes=True), its_own.item())
    close(mrc_kl_loss(logits, probs, mask), 1601 * its_own.item())


def test_lxmerts_figure_is_every_region_weighed_by_confidence() -> None:
    logits, probs, _, confidence = regions()
    everything = torch.ones(2, 3, dtype=torch.bool)
    total = sum(
        confidence[b, r].item() * slow_ce(logits.tolist(), probs.tolist(), b, r) for b in range(2) for r in range(3)
    )
    close(mrc_ce_loss(logits, probs, everything, weights=confidence) / 0.15, total / 6 / 0.15)


def test_background_is_never_the_class_to_guess() -> None:
    probs = torch.tensor([[[0.9, 0.04, 0.06]]], dtype=torch.float64)
    logits = torch.tensor([[[0.0, 1.0, 3.0]]], dtype=torch.float64)
    expected = -log_softmax([0.0, 1.0, 3.0])[2]
    close(mrc_ce_loss(logits, probs, torch.tensor([[True]])), expected)


def test_logits_without_background() -> None:
    logits, probs, mask, _ = regions()
    known, rescaled = probs.tolist(), (probs[..., 1:] / probs[..., 1:].sum(dim=-1, keepdim=True)).tolist()
    logits = logits[..., 1:]
    expected = slow_regions(
        MASK, lambda b, r: -log_softmax(logits[b, r].tolist())[max(range(3), key=lambda k: known[b][r][k + 1])]
    )
    close(mrc_ce_loss(logits, probs, mask), expected)
    expected = slow_regions(MASK, lambda b, r: slow_kl(logits.tolist(), rescaled, b, r))
    close(mrc_kl_loss(logits, probs, mask), expected)
    all_background = torch.zeros_like(probs)
    all_background[..., 0] = 1
    close(mrc_kl_loss(logits, all_background, mask), 0.0)


def test_a_model_of_the_detectors_own_opinion_costs_nothing() -> None:
    probs = regions()[1]
    close(mrc_kl_loss(probs.log(), probs, torch.tensor(MASK)), 0.0)
    sure = torch.eye(4).double()[None]  # q of 0 adds nothing, where its logarithm is not finite
    close(mrc_kl_loss(torch.zeros(1, 4, 4).double(), sure, torch.ones(1, 4, dtype=torch.bool)), math.log(4))


@pytest.mark.parametrize("loss", [mrc_ce_loss, mrc_kl_loss])
def test_classes_that_do_not_fit(loss: Callable[..., torch.Tensor]) -> None:
    logits, probs, mask, _ = regions()
    with pytest.raises(
        ValueError, match="logits have 2 classes but the detector's probabilities 4: give the model as many"
    ):
        loss(logits[..., :2], probs, mask)
    with pytest.raises(ValueError, match="logits have 4 classes but the detector's probabilities 3"):
        loss(logits, probs[..., 1:], mask)


def test_masked_region_feature_regression() -> None:
    predicted, target = random(2, 3, 5), random(2, 3, 5, seed=1)
    summed = slow_regions(MASK, lambda b, r: slow_distance(predicted[b, r].tolist(), target[b, r].tolist()))
    close(mrfr_loss(predicted, target, torch.tensor(MASK), average_width=False), summed)
    close(mrfr_loss(predicted, target, torch.tensor(MASK)), summed / 5)
    mean_square = torch.nn.functional.mse_loss(predicted[torch.tensor(MASK)], target[torch.tensor(MASK)])
    close(mrfr_loss(predicted, target, torch.tensor(MASK)), mean_square.item())
    assert torch.autograd.gradcheck(lambda p: mrfr_loss(p, target, torch.tensor(MASK)), predicted.requires_grad_())


REGION_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "mrc_ce": mrc_ce_loss,
    "mrc_kl": mrc_kl_loss,
    "mrfr": mrfr_loss,
    "weighed": lambda logits, probs, mask: mrc_kl_loss(logits, probs, mask, weights=probs[..., 0]),
}


@pytest.mark.parametrize("name", REGION_LOSSES)
@pytest.mark.parametrize("case", ["some masked", "all masked", "none masked"])
def test_padded_regions_may_hold_nan(name: str, case: str) -> None:
    loss = REGION_LOSSES[name]
    logits, probs, mask, _ = regions()
    real = torch.tensor([[True, True, True], [True, False, True]])
    mask = {"some masked": mask, "all masked": real, "none masked": torch.zeros_like(mask)}[case]
    expected = loss(logits, probs, mask).item()
    logits = logits.masked_fill(~real[..., None], math.nan).requires_grad_()
    probs = probs.masked_fill(~real[..., None], math.nan).requires_grad_()
    found = loss(logits, probs, mask)
    found.backward()
    close(found, expected)
    assert math.isfinite(expected) and (expected == 0) == (case == "none masked")
    assert gradient(logits).isfinite().all() and (gradient(logits).abs().sum(dim=-1) > 0).equal(mask)
    assert probs.grad is None  # what the detector says is a constant


def test_region_losses_of_half_precision_are_float32() -> None:
    logits, probs, mask, _ = regions()
    for loss in REGION_LOSSES.values():
        found = loss(logits.half(), probs.half(), mask)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(loss(logits, probs, mask).item(), abs=3e-3)


# -- questions -------------------------------------------------------------------------------------------------------

# of three questions with an answer, one is sure, one has two, one has answers that sum to less than 1; one has none
ANSWER_SCORES = [[0.0, 1.0, 0.0, 0.0], [0.9, 0.0, 0.6, 0.0], [0.0, 0.0, 0.0, 0.0], [0.3, 0.3, 0.0, 0.1]]


def test_answers_are_learnt_by_their_shares() -> None:
    """-sum of q log p a question, the mean of what drawing one answer by its score and learning that comes to."""
    logits, labels = 3 * random(4, 4), torch.tensor(ANSWER_SCORES)
    losses, drawn = [], []
    for scores, row in zip(ANSWER_SCORES, logits.tolist(), strict=True):
        if sum(scores):
            log_probs = log_softmax(row)
            losses.append(-sum(score / sum(scores) * p for score, p in zip(scores, log_probs, strict=True)))
            share = [score / sum(scores) for score in scores]
            drawn.append(sum(q * slow_words([[row]], [[answer]]) for answer, q in enumerate(share)))
    close(qa_loss(logits, labels.double()), sum(losses) / 3)
    close(qa_loss(logits, labels.double()), sum(drawn) / 3)
    sure = torch.nn.functional.cross_entropy(logits[:1], torch.tensor([1]))
    close(qa_loss(logits[:1], labels[:1]), sure.item())
    assert torch.autograd.gradcheck(lambda z: qa_loss(z, labels.double()), logits.requires_grad_())


def test_questions_without_a_known_answer_have_no_part() -> None:
    """Whatever their scores: no number that is none reaches the loss or a gradient; without any other it is 0."""
    labels = torch.tensor(ANSWER_SCORES)
    logits = random(4, 4).float()
    expected = qa_loss(logits, labels).item()
    logits[2] = math.nan
    logits.requires_grad_()
    found = qa_loss(logits, labels)
    found.backward()
    assert found.item() == expected and gradient(logits).isfinite().all()
    assert (gradient(logits).abs().sum(dim=-1) > 0).tolist() == [True, True, False, True]
    nothing = logits[2:3].detach().requires_grad_()
    loss = qa_loss(nothing, labels[2:3])
    loss.backward()
    assert loss.item() == 0 and gradient(nothing).eq(0).all() and qa_loss(logits[:0], labels[:0]).item() == 0


def test_answers_of_half_precision_are_learnt_in_float32() -> None:
    logits, labels = random(4, 4), torch.tensor(ANSWER_SCORES)
    found = qa_loss(logits.half(), labels.half())
    assert found.dtype == torch.float32 and found.item() == pytest.approx(qa_loss(logits, labels).item(), abs=3e-3)
