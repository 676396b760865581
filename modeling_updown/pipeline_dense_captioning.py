"""`pipeline("dense-captioning")`: sentences on the parts of an image, each with its box.

    image --preprocess--> pixels --model.describe--> sentences, boxes, scores --postprocess--> dicts, the best first

All regions of an image are described in one batch; several images are taken one after the other.
"""

import inspect
import os
from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
from transformers.pipelines import Pipeline

from .generation_updown import FiniteScores
from .outputs_updown import check_finite
from .pipeline_grounding import box_of, read_size
from .pipeline_images import (
    IMAGE_SETTINGS,
    are_several_images,
    image_errors,
    image_inputs,
    save_parts,
    set_processor_parts,
)

GENERATE_ARGUMENTS = {*GenerationConfig().to_dict(), *inspect.signature(GenerationMixin.generate).parameters} - {"self"}


class UpDownDenseCaptioningPipeline(Pipeline):
    """Describes the parts of an image: a list of dicts, the best first; of several images a list of such lists.

    Each dict has `text`, `score` (0..1, what sentences are ranked by), `log_prob_per_word` (its end is a word) and
    `box`, `{"xmin", "ymin", "xmax", "ymax"}` in pixels of the image. An image is any input of the image processor: a
    path, an http(s) URL, bytes, an open file, a PIL image or an array.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> describe = pipeline("dense-captioning", model="runs/dense_captioning_flickr8k/best")  # doctest: +SKIP
    >>> describe("photo.jpg", top_k=1)  # doctest: +SKIP
    [{'text': 'a brown dog', 'score': 0.71, 'log_prob_per_word': -0.4, 'box': {'xmin': 31, 'ymin': 40, ...}}]
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        set_processor_parts(self)
        if not hasattr(self.model, "describe"):
            raise ValueError(f"{type(self.model).__name__} describes no regions: load an UpDownForDenseCaptioning")
        if self.model.region_source is None:
            raise ValueError(
                "this model reads regions and has no region source of its own: give its describe() region_features, or "
                "train one with regions.pretrained"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, image: Any = None, **kwargs: Any) -> Any:
        """Describe the parts of an image, or of each of several.

        Args:
            image: an image, or a list of them.
            top_k: so many sentences at most (default: all that are kept).
            nms_iou: of sentences whose boxes overlap by more the best alone is kept (default: the model's); 1 keeps
                one for every region.
            num_beams, max_new_tokens, ...: settings of `generate`.
            timeout: seconds for the download of an image.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            ValueError: for an image that cannot be read, with its index from 0 if there are several, for numbers out of
                range, and scores that are not finite.
            TypeError: without an image, or for an unknown argument.
        """
        if kwargs.pop("batch_size", 1) != 1:
            raise ValueError("all regions of an image are a batch, an image at a time: leave batch_size out")
        if image is None:
            raise TypeError("there is no image to describe: give a path, a URL, a PIL image, an array or a list")
        if not are_several_images(image):
            return super().__call__({"image": image}, **kwargs)
        found = []
        for number, one in enumerate(image):
            with image_errors(number):
                found.append(super().__call__({"image": one}, **kwargs))
        return found

    def _sanitize_parameters(
        self, top_k: int | None = None, nms_iou: float | None = None, timeout: float | None = None, **settings: Any
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS - GENERATE_ARGUMENTS
        if unknown:
            raise TypeError(f"dense-captioning has no argument {', '.join(sorted(unknown))}: is it misspelt?")
        of_images = {name: value for name, value in settings.items() if name in IMAGE_SETTINGS}
        forward: dict[str, Any] = {name: value for name, value in settings.items() if name not in IMAGE_SETTINGS}
        forward |= {name: value for name, value in (("top_k", top_k), ("nms_iou", nms_iou)) if value is not None}
        return of_images if timeout is None else {**of_images, "timeout": timeout}, forward, {}

    def preprocess(self, input_: Mapping[str, Any], **image_settings: Any) -> dict[str, Any]:
        """An image -> `pixel_values` (1, 3, height, width), and its own width and height in pixels."""
        image, size = read_size(input_["image"], self.image_processor, image_settings.get("timeout"))
        return {"inputs": image_inputs(self.image_processor, image, **image_settings), "size": size}

    def _forward(self, input_tensors: dict[str, Any], **settings: Any) -> dict[str, Any]:
        """-> the sentences of the image, as `model.describe` has them."""
        inputs = dict(input_tensors["inputs"])
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        finite = [FiniteScores(self.model), *(settings.pop("logits_processor", None) or ())]
        found = self.model.describe(**inputs, **settings, logits_processor=LogitsProcessorList(finite))
        check_finite(found.scores, self.model, what="scores of sentences")
        return {"found": found, "size": input_tensors["size"]}

    def postprocess(self, model_outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Sentences -> one dict each."""
        found, (width, height) = model_outputs["found"], model_outputs["size"]
        texts = self.tokenizer.batch_decode(found["sequences"], skip_special_tokens=True)
        corners = found["boxes"].float() * torch.tensor([width, height, width, height])
        numbers = zip(texts, found["scores"].tolist(), found["log_probs"].tolist(), corners.tolist(), strict=True)
        return [
            {"text": text.strip(), "score": score, "log_prob_per_word": likely, "box": box_of(box)}
            for text, score, likely, box in numbers
        ]
