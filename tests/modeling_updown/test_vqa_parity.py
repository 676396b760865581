"""The question answerer against hengyuan-hu's two models, whose outputs on seeded weights are the golden figures.

Everything goes through `convert_checkpoint`. They match to some 3e-6; 1e-5 is asked for.
"""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownForVisualQuestionAnswering, UpDownTokenizer
from modeling_updown.modeling_attention import TextRows
from tests.shared_files import shared
from training.convert.checkpoint import convert_checkpoint
from training.convert.vqa import vqa_names

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
VARIANTS = {"baseline0_newatt": "multiply", "baseline0": "concat"}

pytestmark = pytest.mark.filterwarnings("ignore:the options name none of the")


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads(shared("golden/reference/vqa.json").read_text())


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared("golden/reference/vqa.safetensors"))


@pytest.fixture(scope="module")
def model(variant) -> UpDownForVisualQuestionAnswering:
    weights = shared("golden/reference/vqa.safetensors")
    return convert_checkpoint("vqa-pytorch", weights, config={"variant": variant}).model


def inputs(golden: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"input_ids": golden["in.q"], "region_features": golden["in.v"]}


def test_settings_are_the_references(golden, model, variant, described):
    config, dims = model.config, described["dims"]
    assert config.attention == VARIANTS[variant]
    assert (config.vocab_size, config.pad_token_id) == (dims["ntoken"] + 1, dims["ntoken"])
    assert (config.region_feature_size, config.hidden_size) == (dims["v"], dims["hid"])
    assert config.answer_hidden_size == len(golden[f"{variant}.model.classifier.main.0.weight_v"])
    assert (config.num_answers, config.max_question_words) == (dims["ans"], dims["T"])
    assert (config.activation, config.weight_norm, config.reads_padding) == ("relu", True, True)
    assert config.attention_dropout == (0.2 if variant == "baseline0_newatt" else 0.0)
    assert config.answer_dropout == 0.5
    assert config.region_dropout == config.word_dropout == config.question_dropout == 0.0


@torch.no_grad()
def test_every_stage(golden, model, variant):
    """Question, attention before and after the softmax, attended regions, answers."""
    outputs = model(**inputs(golden), output_hidden_states=True)
    question = outputs.hidden_states[0]
    torch.testing.assert_close(question, golden[f"{variant}.out.q_emb"], **TOLERANCE)
    attend, regions = model.attention[0], golden["in.v"]
    mask = torch.ones(regions.shape[:2], dtype=torch.bool)
    rows = TextRows.of(None, num_texts=len(regions), num_images=len(regions), device="cpu")
    weights, scores = attend(question, attend.project_regions(regions), mask, rows)
    torch.testing.assert_close(scores.transpose(1, 2), golden[f"{variant}.out.attention_logits"], **TOLERANCE)
    torch.testing.assert_close(weights, outputs.attentions[0], rtol=0, atol=0)
    torch.testing.assert_close(weights.transpose(1, 2), golden[f"{variant}.out.attention"], **TOLERANCE)
    # the reference calls v_emb what the attended regions add up to
    torch.testing.assert_close((weights @ regions)[:, 0], golden[f"{variant}.out.v_emb"], **TOLERANCE)
    torch.testing.assert_close(outputs.logits, golden[f"{variant}.out.logits"], **TOLERANCE)


@torch.no_grad()
def test_answers_and_their_soft_score(golden, model, variant):
    logits = model(**inputs(golden)).logits
    answers = logits.argmax(dim=1)
    assert answers.tolist() == golden[f"{variant}.out.pred"].tolist()
    scores = golden["in.labels"].gather(1, answers[:, None]).squeeze(1)
    torch.testing.assert_close(scores, golden[f"{variant}.out.score"], rtol=0, atol=0)


def test_loss_and_the_gradient_of_every_reference_parameter(golden, model, variant):
    model.zero_grad()
    loss = model(**inputs(golden), labels=golden["in.labels"]).loss
    loss.backward()
    torch.testing.assert_close(loss.detach(), golden[f"{variant}.out.loss"][0], **TOLERANCE)
    names = vqa_names(VARIANTS[variant])
    theirs = {name for name in golden if name.startswith(f"{variant}.grad.")}
    assert {f"{variant}.grad.{name}" for name in names.values()} == theirs
    ours = dict(model.named_parameters())
    assert sorted(ours) == sorted(names)
    for name, parameter in ours.items():
        expected = golden[f"{variant}.grad.{names[name]}"]
        torch.testing.assert_close(parameter.grad, expected, **TOLERANCE, msg=lambda text, name=name: f"{name}: {text}")


@torch.no_grad()
def test_padding_on_either_side(golden, model, variant):
    """The reference pads on the left; words come first here, with their mask or without."""
    words, pad = golden["in.q"], model.config.pad_token_id
    lengths = (words != pad).sum(dim=1)
    assert lengths.min() < words.shape[1]
    right = torch.full_like(words, pad)
    for row, length in enumerate(lengths.tolist()):
        right[row, :length] = words[row, words.shape[1] - length :]
    for question in ({"input_ids": right}, {"input_ids": right, "attention_mask": right != pad}):
        logits = model(**inputs(golden) | question).logits
        torch.testing.assert_close(logits, golden[f"{variant}.out.logits"], **TOLERANCE)


def test_question_words(described):
    """Its tokenizer, and its padding to so many words on the left."""
    tokenizer = UpDownTokenizer.from_question_vocabulary(described["question_vocab"])
    questions = [row["question"] for row in described["question_tokens"]]
    ids = [row["ids"] for row in described["question_tokens"]]
    assert questions
    assert tokenizer(questions).input_ids == ids
    padded = tokenizer(questions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    ntoken = len(described["question_vocab"])
    assert padded.tolist() == [[ntoken] * (described["dims"]["T"] - len(row)) + row for row in ids]
