"""The captioner against ruotianluo's UpDownModel, whose outputs on seeded weights are the golden figures.

Everything goes through `convert_checkpoint`. "nomask" has every region real, "mask" 2 to 6 of 7.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from modeling_updown import UpDownForImageCaptioning
from modeling_updown.losses_updown import self_critical_loss
from tests.shared_files import shared
from training.convert.captioning import captioning_weights
from training.convert.checkpoint import convert_checkpoint
from training.convert.weights import read_weights
from training.metrics.captioning.scores import CiderD

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
BOTH = pytest.mark.parametrize("tag", ["nomask", "mask"])
UNKNOWN = -1  # the last index is called UNK

# golden name -> (beams, what divides the sum of log-probabilities of n words, transformers' name for it, suppress UNK)
SEARCHES: dict[str, tuple[int, Callable[[int], float], dict[str, Any] | None, bool]] = {
    "beam3": (3, lambda words: 1.0, {"length_penalty": 0.0}, False),
    "beam5": (5, lambda words: 1.0, {"length_penalty": 0.0}, False),
    "beam5.avg0": (5, float, {"length_penalty": 1.0, "early_stopping": "never"}, False),
    "beam5.wu0.5": (5, lambda words: ((5 + words) / 6) ** 0.5, None, False),  # has no name in transformers
    "beam5.suppress_UNK": (5, lambda words: 1.0, {"length_penalty": 0.0}, True),
}
EVERY_SEARCH = pytest.mark.parametrize("search", SEARCHES)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared("golden/reference/captioner.safetensors"))


@pytest.fixture(scope="module")
def model() -> UpDownForImageCaptioning:
    options = json.loads(shared("golden/reference/captioner.json").read_text())
    weights = shared("golden/reference/captioner.safetensors")
    return convert_checkpoint("captioning-pytorch", weights, config=options).model


def images(golden: dict[str, torch.Tensor], tag: str) -> dict[str, torch.Tensor]:
    if tag == "nomask":
        return {"region_features": golden["in.att_feats"]}
    return {"region_features": golden["in.att_feats_masked"], "region_mask": golden["in.att_masks"].bool()}


def captions(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    words, real = golden["in.labels"].flatten(0, 1), golden["in.label_masks"].flatten(0, 1).bool()
    return {"input_ids": words, "attention_mask": real, "labels": words.masked_fill(~real, -100)}


@BOTH
def test_teacher_forced_log_probs_and_attention(golden, model, tag):
    inputs = captions(golden)["input_ids"][:, :-1]
    with torch.no_grad():
        output = model(inputs, **images(golden, tag), output_attentions=True)
    expected = golden[f"out.{tag}.tf.logprobs"]
    ran = expected.abs().sum(dim=-1) > 0  # the reference leaves zeros after the last word of the longest caption
    torch.testing.assert_close(output.logits.log_softmax(dim=-1)[ran], expected[ran], **TOLERANCE)
    attention = golden[f"out.{tag}.tf.attention"]  # cut to the largest number of real regions
    torch.testing.assert_close(
        output.attentions[0][..., : attention.shape[-1]][ran], attention[ran], atol=1e-5, rtol=1e-4
    )


@BOTH
def test_cross_entropy(golden, model, tag):
    with torch.no_grad():
        output = model(**captions(golden), **images(golden, tag))
    torch.testing.assert_close(output.loss, golden[f"out.{tag}.xe_loss"][0], **TOLERANCE)
    words_scored = captions(golden)["attention_mask"].sum(dim=1) - 1
    caption_losses = -output.label_log_probs.sum(dim=1) / words_scored
    torch.testing.assert_close(caption_losses, golden[f"out.{tag}.xe_loss_none"], **TOLERANCE)


@BOTH
def test_label_smoothing(golden, model, tag, monkeypatch):
    monkeypatch.setattr(model.config, "label_smoothing", 0.1)
    with torch.no_grad():
        loss = model(**captions(golden), **images(golden, tag)).loss
    torch.testing.assert_close(loss, golden[f"out.{tag}.label_smoothing_0.1_loss"][0], **TOLERANCE)


@BOTH
@pytest.mark.parametrize("skip_finished", [True, False])
def test_gradient_of_every_reference_parameter(golden, model, tag, skip_finished):
    """The converter is a differentiable map, so the loss has gradients in the reference's own parameters."""
    source = read_weights(shared("golden/reference/captioner.safetensors"))
    source = {name: value.requires_grad_() for name, value in source.items()}
    inputs = captions(golden) | images(golden, tag)
    if not skip_finished:
        inputs.pop("attention_mask")
    torch.func.functional_call(model, captioning_weights(source), kwargs=inputs).loss.backward()
    assert {f"model.{name}" for name in source} == {name for name in golden if name.startswith("model.")}
    for name, value in source.items():
        torch.testing.assert_close(value.grad, golden[f"grad.{tag}.{name}"], atol=1e-6, rtol=1e-3, msg=name)


@BOTH
def test_greedy(golden, model, tag):
    expected = golden[f"out.{tag}.greedy.seq"]
    output = model.generate(
        **images(golden, tag),
        num_beams=1,
        max_new_tokens=expected.shape[1],
        return_dict_in_generate=True,
        output_scores=True,
        output_attentions=True,
    )
    words = output.sequences[:, 1:]
    assert torch.equal(F.pad(words, (0, expected.shape[1] - words.shape[1])), expected)
    steps = words.shape[1]
    running = F.pad(words == 0, (1, 0))[:, :-1].cumsum(dim=1) == 0  # the reference stores zeros after the end
    log_probs = torch.stack(output.scores, dim=1).log_softmax(dim=-1)
    reference = golden[f"out.{tag}.greedy.logprobs_full"][:, :steps]
    torch.testing.assert_close(log_probs[running], reference[running], **TOLERANCE)
    chosen = log_probs.gather(2, words[..., None]).squeeze(2) * running
    torch.testing.assert_close(chosen, golden[f"out.{tag}.greedy.logprobs"][:, :steps], **TOLERANCE)
    attention = golden[f"out.{tag}.greedy.attention"][:, :steps]
    weights = torch.cat([step for (step,) in output.attentions], dim=1)[..., : attention.shape[-1]]
    torch.testing.assert_close(weights, attention, atol=1e-5, rtol=1e-4)


class NextWord:
    """log p of every next word after a prefix, for one image; each prefix is run once, without a cache."""

    def __init__(self, model: UpDownForImageCaptioning, image: dict[str, torch.Tensor], suppressed: int | None):
        self.model, self.image, self.suppressed = model, image, suppressed
        self.known: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, prefixes: list[tuple[int, ...]]) -> list[np.ndarray]:
        new = [prefix for prefix in prefixes if prefix not in self.known]
        if new:
            with torch.no_grad():
                logits = self.model(torch.tensor([[0, *prefix] for prefix in new]), **self.image).logits[:, -1]
            log_probs = logits.log_softmax(dim=-1)
            if self.suppressed is not None:
                log_probs[:, self.suppressed] -= 1000
            self.known.update(zip(new, log_probs.double().numpy(), strict=True))
        return [self.known[prefix] for prefix in prefixes]


def slow_beam_search(
    next_word: NextWord, *, beams: int, num_words: int, divisor: Callable[[int], float], refill: bool
) -> list[tuple[float, tuple[int, ...]]]:
    """Beam search by lists. With `refill`, the places of captions that end go to the next best running ones
    (transformers); without, only what is left of the best `beams` candidates runs on (the reference: an ended caption
    keeps its place at -1000)."""
    table, done = [(0.0, ())], []
    for step in range(1, num_words + 1):
        candidates = [
            (score + float(log_prob), (*words, word))
            for (score, words), log_probs in zip(table, next_word([words for _, words in table]), strict=True)
            for word, log_prob in enumerate(log_probs)
        ]
        candidates.sort(reverse=True)
        last = step == num_words
        done += [(score / divisor(step), words) for score, words in candidates[:beams] if last or words[-1] == 0]
        reachable = candidates[: 2 * beams if refill else beams]
        table = [(score, words) for score, words in reachable if words[-1] != 0][:beams]
        if not table:
            break
    return sorted(done, reverse=True)[:beams]


def searched(golden, model, tag, search, *, refill: bool) -> Iterator[list[tuple[float, tuple[int, ...]]]]:
    beams, divisor, _, suppress = SEARCHES[search]
    inputs = images(golden, tag)
    suppressed = model.config.vocab_size + UNKNOWN if suppress else None
    for image in range(len(inputs["region_features"])):
        alone = {name: tensor[image : image + 1] for name, tensor in inputs.items()}
        next_word = NextWord(model, alone, suppressed)
        num_words = golden[f"out.{tag}.{search}.seq"].shape[-1]
        yield slow_beam_search(next_word, beams=beams, num_words=num_words, divisor=divisor, refill=refill)


def padded(found: list[tuple[float, tuple[int, ...]]], num_words: int) -> list[list[int]]:
    return [[*words, *[0] * (num_words - len(words))] for _, words in found]


def generated(golden, model, tag, search) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences (images, beams, words) and scores (images, beams) of `generate`."""
    beams, _, settings, suppress = SEARCHES[search]
    expected = golden[f"out.{tag}.{search}.seq"]
    output = model.generate(
        **images(golden, tag),
        **settings,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=expected.shape[-1],
        suppress_tokens=[model.config.vocab_size + UNKNOWN] if suppress else None,
        return_dict_in_generate=True,
        output_scores=True,
    )
    words = output.sequences[:, 1:]
    words = F.pad(words, (0, expected.shape[-1] - words.shape[1]))
    return words.view_as(expected), output.sequences_scores.view(expected.shape[:2])


@BOTH
@EVERY_SEARCH
def test_reference_beam_search_on_our_steps(golden, model, tag, search):
    """The reference's own search, with its shrinking table, run on our step distributions, gives its captions."""
    expected, scores = golden[f"out.{tag}.{search}.seq"], golden[f"out.{tag}.{search}.scores"]
    for image, found in enumerate(searched(golden, model, tag, search, refill=False)):
        assert padded(found, expected.shape[-1]) == expected[image].tolist()
        found_scores = torch.tensor([score for score, _ in found])
        torch.testing.assert_close(found_scores, scores[image], **TOLERANCE)


@BOTH
@pytest.mark.parametrize("search", [name for name, (*_, settings, _) in SEARCHES.items() if settings])
def test_generate_beam_search(golden, model, tag, search):
    """`generate` equals the slow search that refills; it equals the golden captions in every image where refilling
    changes nothing, and its best caption is the golden one in every image."""
    words, scores = generated(golden, model, tag, search)
    expected = golden[f"out.{tag}.{search}.seq"]
    shrunk = searched(golden, model, tag, search, refill=False)
    for image, found in enumerate(searched(golden, model, tag, search, refill=True)):
        assert words[image].tolist() == padded(found, expected.shape[-1])
        torch.testing.assert_close(scores[image], torch.tensor([score for score, _ in found]), **TOLERANCE)
        if padded(next(shrunk), expected.shape[-1]) == words[image].tolist():
            assert torch.equal(words[image], expected[image])
            torch.testing.assert_close(scores[image], golden[f"out.{tag}.{search}.scores"][image], **TOLERANCE)
        assert torch.equal(words[image, 0], expected[image, 0])


@pytest.fixture(scope="module")
def self_critical(golden) -> dict[str, torch.Tensor]:
    """Samples of the reference (drawn with its dropout on): log p of each word, and the mask with the end token."""
    words = golden["sc.sample_seq"]
    log_probs = golden["sc.sample_logprobs_full"].gather(2, words[..., None]).squeeze(2)
    mask = F.pad(words > 0, (1, 0), value=True)[:, :-1]
    return {"words": words, "log_probs": log_probs, "mask": mask}


def test_self_critical_rewards(golden, self_critical):
    """CIDEr-D on token ids, the end token a word of its own; the baseline is the greedy caption of the same image."""
    num_images = len(golden["sc.greedy_seq"])
    references = [golden[f"sc.gts.{image}"].tolist() for image in range(num_images)]
    scorer = CiderD.from_token_ids(references, end_token_id=0)
    samples = len(self_critical["words"]) // num_images
    owners = torch.arange(num_images).repeat_interleave(samples)
    scores = scorer.reward(self_critical["words"], owners)
    np.testing.assert_allclose(scores, golden["sc.scores_abs"].numpy(), atol=1e-4)
    greedy = scorer.reward(golden["sc.greedy_seq"], torch.arange(num_images))
    np.testing.assert_allclose(scores - greedy.repeat(samples), golden["sc.reward_scst"][:, 0].numpy(), atol=1e-4)


def test_self_critical_loss(golden, self_critical):
    log_probs, mask = self_critical["log_probs"], self_critical["mask"]
    rewards = golden["sc.reward_scst"]
    for given in (rewards, rewards[:, 0]):  # one reward a word, or one a caption
        loss = self_critical_loss(log_probs, given, mask)
        torch.testing.assert_close(loss, golden["sc.loss_scst_mean"][0], **TOLERANCE)
    alone = [
        self_critical_loss(log_probs[n : n + 1], rewards[n : n + 1], mask[n : n + 1]) for n in range(len(log_probs))
    ]
    torch.testing.assert_close(torch.stack(alone), golden["sc.loss_scst_none"], **TOLERANCE)


def test_self_critical_loss_with_the_other_samples_as_baseline(golden, self_critical):
    scores = golden["sc.scores_abs"].view(-1, golden["sc.new_self_critical_reward"].shape[1])
    rewards = scores - (scores.sum(dim=1, keepdim=True) - scores) / (scores.shape[1] - 1)
    loss = self_critical_loss(self_critical["log_probs"], rewards.flatten(), self_critical["mask"])
    torch.testing.assert_close(loss, golden["sc.loss_new_self_critical_mean"][0], **TOLERANCE)
