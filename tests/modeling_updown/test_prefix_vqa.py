"""Answers by the prefix language model: likelihoods are those of each answer alone, written ones greedy by hand."""

import itertools
from typing import Any

import pytest
import torch
from transformers import AutoModelForVisualQuestionAnswering

from modeling_updown import UpDownPrefixLMForVisualQuestionAnswering
from modeling_updown.answer_prompts_updown import written_mask
from modeling_updown.compat_updown import checkpoint_activations

from ..tiny import seeded, tiny_prefix_lm_config, tiny_text_config

WIDTH, WORDS, EOS = 12, 20, 2
ANSWERS = torch.tensor([[9, 5, 2], [7, 2, 0], [2, 0, 0], [9, 6, 2], [7, 5, 9]])
REAL = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]]).bool()
IMAGE_INDEX = torch.tensor([2, 0, 0, 1])
VARIANTS: dict[str, Any] = {
    "gpt2": {},
    "llama": {"prefix_attention": "causal"},
    "qwen2": {"box_embedding": False},
}


def answerer(model_type: str = "gpt2", **changes: Any) -> UpDownPrefixLMForVisualQuestionAnswering:
    text = tiny_text_config(model_type, vocab_size=WORDS)
    fields = {"vision_config": None, "region_feature_size": WIDTH, "text_config": text, **changes}
    return seeded(UpDownPrefixLMForVisualQuestionAnswering, tiny_prefix_lm_config(**fields))


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> UpDownPrefixLMForVisualQuestionAnswering:
    return answerer(request.param, **VARIANTS[request.param])


def regions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(3, 5, 2, generator=generator) / 2
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[1, 3:] = False
    features = torch.randn(3, 5, WIDTH, generator=generator)
    return {
        "region_features": features,
        "region_boxes": torch.cat([corners, corners + 0.5], dim=-1),
        "region_mask": mask,
    }


def questions() -> dict[str, torch.Tensor]:
    """Four, of 5, 3, 5 and 1 words, padding on the left."""
    ids = torch.randint(4, WORDS, (4, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) >= torch.tensor([0, 2, 0, 4])[:, None]
    return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}


def alone(row: int) -> dict[str, torch.Tensor]:
    """One question and its image, without padding."""
    asked = questions()
    kept = {name: value[IMAGE_INDEX[row]][None] for name, value in regions().items()}
    real = kept["region_mask"][0]
    return {
        **{name: value[:, real] for name, value in kept.items()},
        "input_ids": asked["input_ids"][row][asked["attention_mask"][row].bool()][None],
    }


def one_by_one(model: Any, row: int, answer: torch.Tensor) -> float:
    """The log-likelihood of an answer to a question in a pass of its own."""
    inputs = alone(row)
    words = torch.cat([inputs.pop("input_ids")[0], answer])[None]
    labels = words.clone()
    labels[:, : -len(answer)] = -100
    return float(model(words, labels=labels, **inputs).label_log_probs.sum())


@pytest.mark.parametrize("at_once", [256, 9, 1])
def test_all_answers_together_are_each_alone(model: Any, at_once: int) -> None:
    inputs = {**questions(), **regions(), "image_index": IMAGE_INDEX}
    with torch.no_grad():
        found = model.score_answers(answer_ids=ANSWERS, answer_mask=REAL, answers_at_once=at_once, **inputs)
        expected = [[one_by_one(model, n, ANSWERS[k][REAL[k]]) for k in range(5)] for n in range(4)]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)
    order = torch.tensor([[3, 1], [0, 4], [2, 2], [4, 3]])  # answers of its own for each question
    own = model.score_answers(answer_ids=ANSWERS[order], answer_mask=REAL[order], **inputs)
    torch.testing.assert_close(own, found.gather(1, order), atol=1e-5, rtol=1e-5)
    mean = model.score_answers(answer_ids=ANSWERS, answer_mask=REAL, length_penalty=1.0, **inputs)
    torch.testing.assert_close(mean, found / torch.tensor([3, 2, 1, 3, 3]), atol=1e-5, rtol=1e-5)


def test_likelihoods_of_all_answers_of_two_tokens_sum_to_one() -> None:
    model = answerer()
    every = torch.tensor(list(itertools.product(range(WORDS), range(WORDS))))
    found = model.score_answers(answer_ids=every, **alone(0))
    assert found.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def greedy(model: Any, row: int, most: int) -> list[int]:
    """The likeliest next word again and again, each by a pass over all of them."""
    inputs, written = alone(row), []
    words = inputs.pop("input_ids")
    while len(written) < most and EOS not in written:
        best = int(model(words, **inputs).logits[0, -1].argmax())
        written.append(best)
        words = torch.cat([words, torch.tensor([[best]])], dim=1)
    return written


@torch.no_grad()
def test_a_written_answer_is_greedy_by_hand_and_its_score_its_likelihood(model: Any) -> None:
    inputs = {**questions(), **regions(), "image_index": IMAGE_INDEX}
    ids, scores = model.write_answers(**inputs, decoding={"max_new_tokens": 3})
    for row in range(4):
        real = ids[row, 0][written_mask(ids[row, 0], model.config)]
        assert real.tolist() == greedy(model, row, 3)
        assert float(scores[row, 0]) == pytest.approx(one_by_one(model, row, real), abs=1e-5)
    assert len({tuple(row) for row in ids[:, 0].tolist()}) > 1  # else this would prove little


@torch.no_grad()
def test_several_answers_are_those_of_the_beams_the_likeliest_first() -> None:
    model = answerer(answer_length_penalty=1.0)
    inputs = {**questions(), **regions(), "image_index": IMAGE_INDEX}
    ids, scores = model.write_answers(**inputs, num_answers=4, decoding={"max_new_tokens": 2})
    every = torch.tensor([[a, b] for a in range(WORDS) for b in range(WORDS) if a != EOS] + [[EOS, 0]])
    real = written_mask(every, model.config)
    likely = model.score_answers(answer_ids=every, answer_mask=real, **inputs).topk(4, dim=1)
    assert ids.shape == (4, 4, 2) and bool((scores[:, :-1] >= scores[:, 1:]).all())
    wide, best = model.write_answers(**inputs, num_answers=4, decoding={"max_new_tokens": 2, "num_beams": WORDS})
    torch.testing.assert_close(best, likely.values, atol=1e-5, rtol=1e-5)  # so many beams lose nothing
    assert wide[:, 0].tolist() == every[likely.indices[:, 0]].tolist()


def test_rows_by_image_index_are_those_of_their_images() -> None:
    """With keys and values of the regions, and with layers that are made twice, whose gradients are the same."""
    model = answerer()
    asked, images = questions(), regions()
    labels = asked["input_ids"].masked_fill(asked["attention_mask"] == 0, -100)
    gradients = []
    for checkpoints in (False, True):
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpoints:
            checkpoint_activations(model)
        model.zero_grad()
        output = model(**asked, **images, image_index=IMAGE_INDEX, labels=labels)
        output.loss.backward()
        gradients.append(model.prefix_embedding.of_features.weight.grad.clone())
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        model.score_answers(answer_ids=ANSWERS, **asked, **images, image_index=IMAGE_INDEX)
    model.eval()
    taken = {name: value[IMAGE_INDEX] for name, value in images.items()}
    torch.testing.assert_close(
        model(**asked, **images, image_index=IMAGE_INDEX).logits, model(**asked, **taken).logits, atol=1e-5, rtol=1e-5
    )


def test_what_cannot_be_compared_is_named() -> None:
    model, asked, images = answerer(), questions(), {**regions(), "image_index": IMAGE_INDEX}
    right = {"input_ids": asked["input_ids"].flip(1), "attention_mask": asked["attention_mask"].flip(1)}
    for inputs, answers, mask, cure in (
        (right, ANSWERS, None, "pad the questions on the left"),
        (asked, ANSWERS[0], None, r"answer_ids have shape \(3,\)"),
        (asked, ANSWERS.expand(3, 5, 3), None, r"or \(4 questions, answers, tokens\)"),
        (asked, ANSWERS, REAL[:2], r"answer_mask \(4, 2, 3\)"),
        (asked, ANSWERS, torch.zeros(5, 3), "an answer has no token"),
    ):
        with pytest.raises(ValueError, match=cure):
            model.score_answers(answer_ids=answers, answer_mask=mask, **inputs, **images)
    with pytest.raises(ValueError, match="image_index has shape .3,., but must name the image of each of 4 rows"):
        model(**asked, **regions(), image_index=IMAGE_INDEX[:3])


def test_a_saved_model_is_whole(tmp_path: Any) -> None:
    model = answerer(id2label={0: "yes", 1: "no"}, question_prompt="q: {question} a:", answer_length_penalty=0.5)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path)
    assert type(loaded) is UpDownPrefixLMForVisualQuestionAnswering and loaded.config.id2label == {0: "yes", 1: "no"}
    assert (loaded.config.question_prompt, loaded.config.answer_length_penalty) == ("q: {question} a:", 0.5)
    inputs = {**questions(), **regions(), "image_index": IMAGE_INDEX, "answer_ids": ANSWERS, "answer_mask": REAL}
    torch.testing.assert_close(loaded.score_answers(**inputs), model.score_answers(**inputs), rtol=0, atol=0)
