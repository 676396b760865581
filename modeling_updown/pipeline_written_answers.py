"""The half of the question pipeline for models that write: prompts -> written answers, or given ones by likelihood.

    questions --answer_prompts_updown--> prompts --write_answers | score_answers--> answers with their likelihoods

`pipeline_vqa.py` reads images and questions, and calls `answers_of` with a batch of them.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers.utils import logging

from .answer_prompts_updown import answer_ids, left_padded, prompt_ids, right_padded, written_texts
from .outputs_updown import check_finite
from .pipeline_clips import seconds_of_regions
from .pipeline_questions import Question
from .regions_updown import Regions

logger = logging.get_logger(__name__)


@torch.no_grad()
def answers_of(
    pipeline: Any,
    regions: Regions,
    questions: Sequence[Question],
    image_index: torch.Tensor,
    *,
    num_answers: int,
    return_regions: bool,
) -> list[dict[str, Any]]:
    """For each of N questions its `answers`, or None where it has choices, and their `scores` in 0..1.

    Args:
        pipeline: with a model that writes, and its tokenizer.
        regions: of P images; image_index (N,): the image of each question.
        num_answers: how many are written for a question without choices.
        return_regions: add `region_weights` (1, R) and `region_boxes` (R, 4), without padding.
    """
    model, tokenizer = pipeline.model, pipeline.tokenizer
    prompts, cut = prompt_ids(
        [question.text for question in questions],
        tokenizer,
        model.config,
        knowledge=[question.knowledge for question in questions],
    )
    if model.config.knowledge_sentences and not any(question.knowledge for question in questions):
        logger.warning_once(
            f"the model learnt with {model.config.knowledge_sentences} sentences beside each question and has none: "
            "give knowledge=[...] (updown ask: --knowledge)"
        )
    if cut["knowledge"]:
        logger.warning(
            f"the knowledge beside {cut['knowledge']} of {len(questions)} questions is longer than the "
            f"{model.config.max_knowledge_words} tokens that the model reads: its end is cut"
        )
    words = {name: ids.to(pipeline.device) for name, ids in left_padded(prompts, padding=padding_of(model)).items()}
    given = {name: regions[name] for name in regions if name != "region_texts"}
    inputs = {**words, **given, "image_index": image_index.to(pipeline.device)}
    found: list[dict[str, Any]] = [{} for _ in questions]
    open_rows = [row for row, question in enumerate(questions) if not question.choices]
    if open_rows:
        written, scores = model.write_answers(**rows_of(inputs, open_rows), num_answers=num_answers)
        for place, row in enumerate(open_rows):
            found[row] = distinct(written_texts(written[place], tokenizer, model.config), scores[place])
    for row in set(range(len(questions))) - {*open_rows}:
        found[row] = {"scores": choice_scores(pipeline, rows_of(inputs, [row]), questions[row].choices)}
    for one in found:
        check_finite(one["scores"], model, what="likelihoods of answers")
    return with_regions(model, inputs, regions, found) if return_regions else found


def rows_of(inputs: dict[str, torch.Tensor], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """The inputs of some of the questions; the images stay all of them."""
    return {
        name: values[list(rows)] if name in ("input_ids", "attention_mask", "image_index") else values
        for name, values in inputs.items()
    }


def distinct(texts: Sequence[str], scores: torch.Tensor) -> dict[str, Any]:
    """Written answers, each text once, with the score of its best spelling; scores (K,) log-likelihoods, best first.

    >>> found = distinct(["a dog", "a dog", "dog"], torch.tensor([0.5, 0.25, 0.125]).log())
    >>> found["answers"], found["scores"]
    (['a dog', 'dog'], tensor([0.5000, 0.1250]))
    """
    first = {text: place for place, text in reversed(list(enumerate(texts)))}
    places = sorted(first.values())
    return {"answers": [texts[place] for place in places], "scores": scores[places].exp().cpu()}


def choice_scores(pipeline: Any, inputs: dict[str, torch.Tensor], choices: Sequence[str]) -> torch.Tensor:
    """The likelihood (C,) of each choice of one question."""
    model = pipeline.model
    ids, mask = right_padded(answer_ids(choices, pipeline.tokenizer, model.config), padding=padding_of(model))
    scores = model.score_answers(
        inputs.pop("input_ids"),
        ids.to(pipeline.device),
        answer_mask=mask.to(pipeline.device),
        **inputs,
    )
    return scores[0].exp().cpu()


def padding_of(model: Any) -> int:
    """The token that shorter rows are filled with."""
    return model.config.pad_token_id or 0


def with_regions(
    model: Any, inputs: dict[str, torch.Tensor], regions: Regions, found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The answers with how the regions were weighed where the first word of each is written."""
    weights = model(**inputs, output_attentions=True, logits_to_keep=1).attentions[0][:, -1].float()  # (N, R)
    for row, image in enumerate(inputs["image_index"].tolist()):
        real = regions["region_mask"][image]
        total = weights[row, real].sum().clamp(min=math.ulp(1.0))
        found[row]["region_weights"] = (weights[row, real] / total)[None]
        found[row]["region_boxes"] = regions["region_boxes"][image][real].float()
        found[row] |= seconds_of_regions(regions, image, real)
    return found
