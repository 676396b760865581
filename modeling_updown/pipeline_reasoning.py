"""`pipeline("visual-entailment")`, `pipeline("visual-reasoning")`: whether statements hold of an image, or of several.

    image, text --preprocess--> pixels, tokens --model--> scores of classes --postprocess--> labels, the likeliest first

Results are laid out as those of transformers' "zero-shot-classification".
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.pipelines import Pipeline
from transformers.utils import logging

from .outputs_updown import check_finite
from .pipeline_images import IMAGE_SETTINGS, image_inputs, join_images, save_parts, set_processor_parts

logger = logging.get_logger(__name__)
MODELS = ("UpDownFusionForVisualEntailment", "UpDownFusionForImagePairs")


class UpDownVisualReasoningPipeline(Pipeline):
    """Says whether statements hold.

    - `entails("photo.jpg", "two dogs are running")`: a dict of `sequence` (the statement), `labels`, the likeliest
      first, and `scores`, their probabilities in 0..1;
    - `entails("photo.jpg", ["a dog runs", "a cat sleeps"])`: a list of such dicts, in one pass over one reading of the
      image;
    - `holds(["left.jpg", "right.jpg"], "both images show a dog")`: a statement about several images, as many as the
      model reads together (`config.num_images`);
    - a list of such rows, `{"image", "text"}`: a list of such results.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image or an array.
    `pipeline(..., region_source=detector, image_processor=...)` gives a region source to a model that owns none, such
    as a converted UNITER.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> entails = pipeline("visual-entailment", model="runs/entailment_snli_ve/best")  # doctest: +SKIP
    >>> entails("photo.jpg", "people are outdoors")  # doctest: +SKIP
    {'sequence': 'people are outdoors', 'labels': ['entailment', 'neutral', 'contradiction'], 'scores': [0.9, ...]}
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, *args: Any, region_source: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.region_source = None if region_source is None else region_source.to(self.device).eval()
        set_processor_parts(self)
        kind = type(self.model).__name__
        if kind not in MODELS:
            raise ValueError(f"{kind} does not do {self.task}: give an {' or '.join(MODELS)}")
        self.num_images = self.model.config.num_images if kind == MODELS[1] else 1
        if self.model.region_source is None and self.region_source is None:
            raise ValueError(
                "this model reads regions and has no detector of its own: give the pipeline region_source=... and its "
                "image_processor=..."
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, image: Any = None, text: Any = None, **kwargs: Any) -> Any:
        """Judge one statement or several about an image, or about several images together.

        Args:
            image: an image, or as many as the model reads together; or a list of rows as the class describes.
            text: the statement, or a list of them; None if `image` holds rows.
            timeout: seconds for the download of an image.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            ValueError: for an image that cannot be read, another number of images than the model reads, an empty
                statement, and scores that are not finite.
            TypeError: without an image or a statement, or for an unknown argument.
        """
        if kwargs.pop("batch_size", 1) != 1:
            raise ValueError("statements of one image are judged together, an image at a time: leave batch_size out")
        if text is None and isinstance(image, Mapping):
            return self(**image, **kwargs)
        if text is None and isinstance(image, Sequence) and not isinstance(image, str | bytes):
            return [self(**checked_row(row, place), **kwargs) for place, row in enumerate(image)]
        texts = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else []
        if image is None or not texts or not all(isinstance(one, str) for one in texts):
            raise TypeError("there is nothing to judge: give image=... and text=..., a statement or a list of them")
        if not all(one.strip() for one in texts):
            raise ValueError("a statement is empty: write what may hold, such as 'two dogs are running'")
        found = super().__call__({"images": self.images_in(image), "texts": texts}, **kwargs)
        return found[0] if isinstance(text, str) else found

    def images_in(self, image: Any) -> list[Any]:
        """The images of one row; `ValueError` for another number than the model reads together."""
        several = isinstance(image, list | tuple)
        images = list(image) if several else [image]
        if len(images) != self.num_images:
            kind = type(self.model).__name__
            raise ValueError(
                f"{len(images)} images are given, but this {kind} reads {self.num_images} together: give as "
                "many beside each statement (updown entail: the first, others by --with)"
            )
        return images

    def _sanitize_parameters(self, timeout: float | None = None, **settings: Any) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS
        if unknown:
            raise TypeError(f"{self.task} has no argument {', '.join(sorted(unknown))}: is it misspelt?")
        return (settings if timeout is None else {**settings, "timeout": timeout}), {}, {}

    def preprocess(self, input_: Mapping[str, Any], **image_settings: Any) -> dict[str, Any]:
        """A row -> `pixel_values`, `input_ids` and `attention_mask` of its statements, and these."""
        texts = input_["texts"]
        read = [image_inputs(self.image_processor, image, **image_settings) for image in input_["images"]]
        inputs: dict[str, Any] = join_images(read)
        longest = min(
            getattr(self.model.config.text_config, "max_position_embeddings", 512), self.tokenizer.model_max_length
        )
        tokens = self.tokenizer(texts, truncation=True, max_length=longest, padding=True, return_tensors="pt")
        whole = self.tokenizer(texts, return_length=True, verbose=False)["length"]
        if max(whole) > longest:
            logger.warning(f"a statement has {max(whole)} tokens; the model reads {longest}: the rest is cut")
        inputs |= {name: tokens[name] for name in ("input_ids", "attention_mask")}
        return {"inputs": inputs, "texts": texts}

    def _forward(self, input_tensors: dict[str, Any]) -> dict[str, Any]:
        """-> the row with `scores` (statements, classes) in 0..1."""
        inputs = dict(input_tensors.pop("inputs"))
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        if self.region_source is not None:
            pixels = {name: inputs.pop(name) for name in ("pixel_values", "pixel_mask") if name in inputs}
            inputs |= self.region_source(**pixels, return_dict=True)
        if self.num_images > 1:
            texts = len(inputs["input_ids"])
            inputs["image_index"] = torch.arange(self.num_images).expand(texts, -1).to(inputs["input_ids"].device)
        logits = self.model(**inputs).logits.float()
        check_finite(logits, self.model, what="scores of statements")
        several = self.model.config.problem_type == "multi_label_classification"
        return {**input_tensors, "scores": logits.sigmoid() if several else logits.softmax(dim=-1)}

    def postprocess(self, model_outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Scores -> a dict a statement."""
        names, found = self.model.config.id2label, []
        for text, scores in zip(model_outputs["texts"], model_outputs["scores"], strict=True):
            order = scores.argsort(descending=True, stable=True).tolist()
            ranked = {"labels": [names[place] for place in order], "scores": scores[order].tolist()}
            found.append({"sequence": text, **ranked})
        return found


def checked_row(row: Any, place: int) -> Mapping[str, Any]:
    """A row of several; `TypeError` that names its place for what is none."""
    if not isinstance(row, Mapping) or not {"image", "text"} <= {*row}:
        raise TypeError(f"row {place} is no row: give text=..., or rows {{'image': ..., 'text': ...}}")
    return row
