"""`pipeline("visual-multiple-choice")`: which of the given answers to a question about an image is right.

    image, context, choices --preprocess--> pixels, tokens --model--> scores --postprocess--> choices, the best first

Texts are laid out as in training (`choice_words_updown.py`), the choices of a question are scored together, and results
are laid out as those of transformers' "zero-shot-classification".
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.pipelines import Pipeline
from transformers.utils import logging

from .choice_words_updown import (
    KIND_TYPES,
    EncodedTexts,
    Tokens,
    candidate_of,
    context_of,
    context_room,
    kept_context,
    linked_regions,
    object_regions,
    padded_tokens,
)
from .compat_updown import padding_position
from .outputs_updown import check_finite
from .pipeline_grounding import read_size
from .pipeline_images import IMAGE_SETTINGS, image_inputs, save_parts, set_processor_parts
from .pipeline_questions import KeptRegions, checked_choices
from .regions_updown import OPTIONAL, REQUIRED

logger = logging.get_logger(__name__)

MODEL = "UpDownFusionForMultipleChoice"
CHOICES_AT_ONCE = 128  # in one pass: bounds the memory of attention; scores are those of each choice by itself
SIDES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = {"image", "text", "choices"}


class UpDownMultipleChoicePipeline(Pipeline):
    """Ranks given answers.

    - `choose("photo.jpg", "what is the man holding?", choices=["a ball", "a phone"])`: a dict of `sequence` (the
      text), `labels`, the choices with the likeliest first, and `scores`, their softmax: how the choices compare with
      each other, 1 in sum whether or not any of them is right;
    - several texts are read one after the other: a question and its answer, whose reason is to be chosen
      (`kind="rationale"`, VCR), or a caption, questions and answers in turn and the last question (`kind="round"`,
      visual dialogue), of which the oldest rounds are left out where the model cannot read all of it;
    - words that name regions, for a model that learnt it (`config.region_links`): `choose(image, "why does [person1]
      smile?", choices=[...], boxes={"person1": (x1, y1, x2, y2)})`, corners in pixels of the image or a dict of `xmin`,
      `ymin`, `xmax`, `ymax`; each carries the region that covers its box best;
    - a list of such rows, `{"image", "text", "choices"}`: a list of such results.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image or an array.
    `pipeline(..., region_source=detector, image_processor=...)` gives a region source to a model that owns none, such
    as a converted UNITER. `keep_regions=True` keeps the regions of the image asked about last, for a dialogue.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> choose = pipeline("visual-multiple-choice", model="runs/multiple_choice_vcr/best")  # doctest: +SKIP
    >>> choose("photo.jpg", "where are they?", choices=["at a bar", "at a school"])  # doctest: +SKIP
    {'sequence': 'where are they?', 'labels': ['at a school', 'at a bar'], 'scores': [0.8, 0.2]}
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, *args: Any, region_source: Any = None, keep_regions: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.region_source = None if region_source is None else region_source.to(self.device).eval()
        set_processor_parts(self)
        self.kept = KeptRegions() if keep_regions else None
        if type(self.model).__name__ != MODEL:
            raise ValueError(f"{type(self.model).__name__} does not do {self.task}: give an {MODEL}")
        if self.model.region_source is None and self.region_source is None:
            raise ValueError(
                "this model reads regions and has no detector of its own: give the pipeline region_source=... and its "
                "image_processor=... (updown choose: --regions)"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, image: Any = None, text: Any = None, choices: Any = None, **kwargs: Any) -> Any:
        """Rank the choices of one question.

        Args:
            image: an image; or a row or a list of rows as the class describes.
            text: the question, or the texts before the choices in their order; None if `image` holds rows.
            choices: the answers to choose from, each once.
            kind: what is chosen, `answer` (default), `rationale` or `round` of a dialogue.
            boxes: of each word that stands in brackets in a text, its box in pixels.
            top_k: how many choices to return, the best (default: all).
            timeout: seconds for the download of an image.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            OSError, ValueError: for an image that cannot be read.
            ValueError: for texts or choices that are empty or repeated, another kind, a word in brackets without a box,
                a box without an area, and scores that are not finite.
            TypeError: without an image, a text or choices, or for an unknown argument.
        """
        if kwargs.pop("batch_size", 1) != 1:
            raise ValueError("the choices of one question are scored together, one at a time: leave batch_size out")
        if text is None and isinstance(image, Mapping):
            return self(**checked_row(image, None), **kwargs)
        if text is None and isinstance(image, Sequence) and not isinstance(image, str | bytes):
            return [self(**checked_row(row, place), **kwargs) for place, row in enumerate(image)]
        texts = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
        if image is None or not texts or not all(isinstance(one, str) for one in texts) or choices is None:
            raise TypeError("there is nothing to choose: give image=..., text=... and choices=[...]")
        if not all(one.strip() for one in texts):
            raise ValueError("a text is empty: ask something, such as 'what is it?'")
        row = {"image": image, "texts": texts, "choices": checked_choices(choices, name="choices"), "sequence": text}
        return super().__call__(row, **kwargs)

    def _sanitize_parameters(
        self,
        kind: str | None = None,
        boxes: Mapping[str, Any] | None = None,
        top_k: int | None = None,
        timeout: float | None = None,
        **settings: Any,
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS
        if unknown:
            raise TypeError(f"{self.task} has no argument {', '.join(sorted(unknown))}: is it misspelt?")
        if kind is not None and kind not in KIND_TYPES:
            raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KIND_TYPES)}")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        given = {**settings, "kind": kind, "boxes": boxes, "timeout": timeout}
        preprocess = {name: value for name, value in given.items() if value is not None}
        return preprocess, {}, {} if top_k is None else {"top_k": top_k}

    def preprocess(
        self,
        input_: Mapping[str, Any],
        kind: str = "answer",
        boxes: Mapping[str, Any] | None = None,
        **image_settings: Any,
    ) -> dict[str, Any]:
        """A row -> pixels, its context and choices as `Tokens`, and the boxes (M, 4) of what its words carry."""
        read, size = read_size(input_["image"], self.image_processor, image_settings.get("timeout"))
        texts, choices = input_["texts"], list(input_["choices"])
        if boxes and not self.model.config.region_links:
            raise ValueError("this model links no words to regions (config.region_links): leave boxes out")
        encoded = self.encoded([*texts, *choices], boxes)
        longest = context_room(
            self.model.config.text_config,
            encoded.lengths[len(texts) :],
            padding=padding_position(self.model.fusion.text_model),
        )
        context = list(range(len(texts)))
        told = int(encoded.lengths[context].sum()) + len(context)
        if told > longest:
            left_out = len(context) - len(kept_context(context, encoded.lengths, kind=kind, longest=longest))
            lost = f"{left_out} of its texts are left out" if left_out else "its end is cut"
            logger.warning(f"the texts before the choices have {told} tokens; the model reads {longest}: {lost}")
        special = (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        asked = context_of(context, encoded, kind=kind, longest=longest, special=special)
        numbers = range(len(texts), len(texts) + len(choices))
        return {
            "pixels": image_inputs(self.image_processor, read, **image_settings),
            "context": asked,
            "candidates": [candidate_of(number, encoded, kind=kind, separator=special[1]) for number in numbers],
            "boxes": parts_of_sides(boxes or {}, size),
            "choices": choices,
            "sequence": input_["sequence"],
        }

    def encoded(self, texts: Sequence[str], boxes: Mapping[str, Any] | None) -> EncodedTexts:
        """The texts as tokens without special ones, with the number of the box that each token carries."""
        options: dict[str, Any] = {"add_special_tokens": False, "truncation": True, "max_length": self.longest_text}
        whole = max(map(len, self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]))
        if whole > self.longest_text:
            logger.warning(f"a text has {whole} tokens; the model reads {self.longest_text} of it: the rest is cut")
        links: dict[int, list[list[int]]] = {}
        if self.model.config.region_links:
            found = self.linked(texts, boxes or {}, options)
            for place, (own, ids) in enumerate(zip(found["word_regions"], found["input_ids"], strict=True)):
                links[place] = [[number for number in word if number >= 0] for word in own[: len(ids)]]
        else:
            found = self.tokenizer(list(texts), **options)
        tokens = [own or [self.tokenizer.unk_token_id] for own in found["input_ids"]]
        links = {place: own for place, own in links.items() if any(own)}
        return EncodedTexts(
            np.concatenate([np.array(own, dtype=np.int32) for own in tokens]), np.cumsum([0, *map(len, tokens)]), links
        )

    def linked(self, texts: Sequence[str], boxes: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Texts whose words in brackets are looked up among the boxes; `ValueError` for one that has no box."""
        if self.processor is None:
            raise ValueError("this model links words to regions, by its processor: give the pipeline processor=...")
        tags = {name: [number] for number, name in enumerate(boxes)}
        unread = next((name for name in boxes if not any(f"[{name}]" in text for text in texts)), None)
        if unread is not None:
            logger.warning(f"the box of {unread!r} is not read, since no text names it in brackets: write [{unread}]")
        try:
            return self.processor(text=list(texts), tags=tags, **options)
        except ValueError as error:
            raise ValueError(
                f"{error}: give its box in pixels, boxes={{'person1': (x1, y1, x2, y2)}} (updown choose: --box), "
                "or write it without brackets"
            ) from error

    @property
    def longest_text(self) -> int:
        """How many tokens of one text are read, so that a context and a choice have room together."""
        positions = getattr(self.model.config.text_config, "max_position_embeddings", 2**20)
        return min(self.tokenizer.model_max_length, max(positions // 2 - 3, 1))

    def _forward(self, input_tensors: dict[str, Any]) -> dict[str, Any]:
        """-> the row with `scores` (C,), a softmax over its choices."""
        pixels = input_tensors.pop("pixels")
        regions = self.seen(pixels) if self.kept is None else self.kept.of(pixels, self.seen)
        context, candidates = input_tensors["context"], input_tensors["candidates"]
        placed = {name: regions[name].cpu() for name in ("region_boxes", "region_mask")}
        known = object_regions([input_tensors["boxes"]], placed, np.zeros(1, dtype=int))
        asked = self.words([context], known, "")
        parts = []
        for start in range(0, len(candidates), CHOICES_AT_ONCE):
            own = candidates[start : start + CHOICES_AT_ONCE]
            given = {name: value[None] for name, value in self.words(own, known * len(own), "choice_").items()}
            parts.append(self.model(**regions, **asked, **given).logits[0].float())
        logits = torch.cat(parts)
        check_finite(logits, self.model, what="scores of choices")
        return {**input_tensors, "scores": logits.softmax(dim=0)}

    def seen(self, pixels: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The image's regions, as the model takes them."""
        source = self.model.region_source if self.region_source is None else self.region_source
        made = source(**{**pixels, "pixel_values": pixels["pixel_values"].to(source.dtype)}, return_dict=True)
        fields = {name: made[name] for name in (*REQUIRED, *OPTIONAL) if made.get(name) is not None}
        return {**fields, "region_features": fields["region_features"].to(self.model.dtype)}

    def words(self, rows: Sequence[Tokens], known: Sequence[Sequence[int]], prefix: str) -> dict[str, torch.Tensor]:
        """Tokens of texts as the model's arguments, whose names begin with `prefix`; known: the region of each box."""
        config = self.model.config
        made = padded_tokens(rows, padding=self.tokenizer.pad_token_id)
        found = {f"{prefix}input_ids": made["ids"], f"{prefix}attention_mask": made["mask"]}
        if config.region_embedding == "uniter" and config.text_config.type_vocab_size > 3:
            found[f"{prefix}token_type_ids"] = made["kinds"]
        if config.region_links:
            found[f"{prefix}word_regions"] = linked_regions(rows, known, length=made["ids"].shape[1])
        return {name: value.to(self.device) for name, value in found.items()}

    def postprocess(self, model_outputs: Mapping[str, Any], top_k: int | None = None) -> dict[str, Any]:
        """Scores -> the choices, the best first."""
        scores, choices = model_outputs["scores"], model_outputs["choices"]
        order = scores.argsort(descending=True, stable=True)[:top_k].tolist()
        ranked = {"labels": [choices[place] for place in order], "scores": scores[order].tolist()}
        return {"sequence": model_outputs["sequence"], **ranked}


def parts_of_sides(boxes: Mapping[str, Any], size: tuple[int, int]) -> list[list[float]]:
    """Boxes by name, corners in pixels of an image of `size` (width, height), as xyxy in 0..1.

    Raises `ValueError` for a box that is no four numbers, or has no area inside of the image.

    >>> parts_of_sides({"person1": (10, 0, 20, 40), "cup": {"xmin": 0, "ymin": 0, "xmax": 5, "ymax": 40}}, (20, 40))
    [[0.5, 0.0, 1.0, 1.0], [0.0, 0.0, 0.25, 1.0]]
    """
    found = []
    for name, box in boxes.items():
        try:
            corners = [float(box[side]) for side in (SIDES if isinstance(box, Mapping) else range(4))]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"the box of {name!r} is no xmin, ymin, xmax and ymax: {str(box)[:80]}") from error
        own = [min(max(corner / size[place % 2], 0.0), 1.0) for place, corner in enumerate(corners)]
        if not (own[0] < own[2] and own[1] < own[3]):
            raise ValueError(
                f"the box of {name!r}, {str(box)[:80]}, has no area inside of the image of {size[0]} x {size[1]} pixels"
            )
        found.append(own)
    return found


def checked_row(row: Any, place: int | None) -> Mapping[str, Any]:
    """A row of several, or the only one; `TypeError` that names its place for what is none."""
    if not isinstance(row, Mapping) or not {*row} >= COLUMNS:
        name = "this" if place is None else f"row {place}"
        raise TypeError(f"{name} is no row: give text=... and choices=[...], or rows of image, text and choices")
    return row
