"""Questions in pretraining: scores without labels, batches without questions, mistakes, and a head that question
answering takes over. Their loss by hand is in `test_pretraining.py`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_updown import UpDownFusionForVisualQuestionAnswering

from .test_fusion import texts
from .test_pretraining import batch, pretraining, questions
from .vqa_twin import gradients_of, images


@torch.no_grad()
def test_answers_without_labels() -> None:
    """The same scores from `forward` and from `answer`; nothing is learnt, nor of a model that answers nothing."""
    model, given = pretraining(objectives={"itc": 1, "qa": 1}), batch()
    labels = given.pop("answer_labels")
    words = {name: given.pop(name) for name in ("masked_input_ids", "labels", "masked_regions", "image_index")}
    index = {"image_index": words["image_index"]}
    output = model(**given, **index)
    assert output.loss is None and output.logits is None
    regions = {name: given[name] for name in ("region_features", "region_boxes", "region_mask")}
    asked = {name.removeprefix("question_"): given[name] for name in questions() if name in given}
    found = model.answer(**asked, **regions)
    torch.testing.assert_close(output.answer_logits, found, rtol=0, atol=0)
    ids = asked["input_ids"][1, None, :6]
    alone = model.answer(ids[ids != 0][None], **{name: value[:1] for name, value in regions.items()})
    torch.testing.assert_close(found[1:2], alone, atol=1e-5, rtol=1e-5)
    assert set(model(**given, **index, answer_labels=labels).losses) == {"itc", "qa"}
    assert pretraining(objectives={"itc": 1})(**given, **index, answer_labels=labels).answer_logits is None


def test_none_asked_or_none_answered() -> None:
    """0, with gradients of 0 for every weight that questions use: all processes take the same part in a step."""
    model, given = pretraining(objectives={"qa": 1}), batch()
    empty = {name: value[:0] for name, value in questions().items()}
    unknown = {"answer_labels": torch.zeros_like(given["answer_labels"])}
    used = set(gradients_of(model, model(**given).loss))
    for nothing in (empty, unknown):
        output = model(**(given | nothing))
        gradients = gradients_of(model, output.loss)
        assert output.loss.item() == 0 and len(output.answer_logits) == len(nothing["answer_labels"])
        assert set(gradients) == used and all(gradient.eq(0).all() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question_image_index": torch.tensor([0, 1, 3, 0])}, "one of 3 images for each of 4 texts"),
        ({"question_image_index": None}, "4 texts for 3 images"),
        ({"answer_labels": torch.zeros(4, 5)}, r"shape \(4, 5\), but must hold .* 6 answers to each of 4 questions"),
        ({"answer_labels": torch.zeros(5, 6)}, r"shape \(5, 6\)"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pretraining(objectives={"qa": 1})(**(batch() | changes))


def test_a_model_without_answers_says_so() -> None:
    with pytest.raises(ValueError, match=r"answers no questions: config.objectives .* leaves out 'qa'"):
        pretraining(objectives={"itc": 1}).answer(texts(), **images())


@torch.no_grad()
def test_answers_go_on_in_question_answering(tmp_path: Path) -> None:
    """The same names of weights, so equal scores without anything new."""
    model, given = pretraining(objectives={"itc": 1, "qa": 1}, answer_hidden_size=20), batch()
    model.save_pretrained(tmp_path)
    options = {"output_loading_info": True}
    answering, info = UpDownFusionForVisualQuestionAnswering.from_pretrained(tmp_path, **options)
    assert not info["missing_keys"] and answering.config.id2label == model.config.id2label
    asked = {"input_ids": given["question_input_ids"], "attention_mask": given["question_attention_mask"]}
    regions = {name: given[name] for name in ("region_features", "region_boxes", "region_mask")}
    logits = answering(**asked, **regions, image_index=given["question_image_index"]).logits
    torch.testing.assert_close(logits, model(**given).answer_logits, rtol=0, atol=0)
