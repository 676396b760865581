"""`pipeline("phrase-grounding")`: where the phrases of a sentence are in an image, or what an expression refers to.

    image, text, phrases --preprocess--> pixels, tokens, spans --model--> scores and boxes --postprocess--> phrases
        with their best boxes

All phrases of a text are scored in one pass. transformers' own task "zero-shot-object-detection" takes these models
too, with a pass for each label.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from transformers.pipelines import Pipeline
from transformers.utils import logging

from .masks_updown import paste_masks
from .outputs_updown import check_finite
from .phrase_spans_updown import NO_SPAN, Span, phrase_places, token_spans
from .pipeline_images import IMAGE_SETTINGS, image_inputs, save_parts, set_processor_parts

logger = logging.get_logger(__name__)


class UpDownPhraseGroundingPipeline(Pipeline):
    """Finds the boxes of phrases.

    - `ground(image, "a boy and his dog", phrases=["a boy", "his dog"])`: for each phrase a dict of `phrase`, `start`
      and `end` (characters of the text) and `boxes`, its best boxes, each `{"score": 0..1, "box": {"xmin", "ymin",
      "xmax", "ymax"}}` in pixels of the image; of a model that learnt phrases without a referent
      (`config.grounding_none`) also `none_score`, how likely, 0..1, nothing in the image is the phrase's;
    - without `phrases` the whole text is one expression, "the dog left of the boy";
    - a list of such rows, `{"image", "text", "phrases"}`: a list of such lists.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image or an array.
    `pipeline(..., region_source=detector, image_processor=...)` gives a region source to a model that owns none, such
    as a converted UNITER.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> ground = pipeline("phrase-grounding", model="runs/grounding_flickr8k_entities/best")  # doctest: +SKIP
    >>> ground("photo.jpg", "a boy throws a ball", phrases=["a ball"])  # doctest: +SKIP
    [{'phrase': 'a ball', 'start': 13, 'end': 19, 'boxes': [{'score': 0.61, 'box': {'xmin': 212, 'ymin': 34, ...}}]}]
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
        if getattr(self.model.config, "model_type", "") != "updown_fusion" or not hasattr(self.model, "pairs"):
            raise ValueError(f"{type(self.model).__name__} grounds no phrases: load an UpDownFusionForGrounding")
        if self.model.region_source is None and self.region_source is None:
            raise ValueError(
                "this model reads regions and has no detector of its own: give the pipeline region_source=... and its "
                "image_processor=... (updown ground: --regions)"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, image: Any = None, text: str | None = None, phrases: Any = None, **kwargs: Any) -> Any:
        """Find the boxes of the phrases of a text.

        Args:
            image: an image, or a list of rows as the class describes.
            text: the sentence or expression; None if `image` holds rows.
            phrases: phrases of the text, as words of it or as pairs of characters; None takes the whole text.
            top_k: how many boxes of each phrase (default 1), the best first.
            masks: True gives each box its `mask` as well, a PIL image of mode "L" in the size of the image, 255 on the
                region as the detector found it; wants a region source with a mask head.
            timeout: seconds for the download of an image.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            ValueError: for an image that cannot be read, a text or phrase that is empty, a phrase that is not in the
                text, scores that are not finite, and masks of a region source that makes none.
            TypeError: without an image or a text, or for an unknown argument.
        """
        if kwargs.pop("batch_size", 1) != 1:
            raise ValueError("phrases of one text are found together, a text at a time: leave batch_size out")
        if text is None and isinstance(image, Sequence) and not isinstance(image, str | bytes):
            return [self(**row, **kwargs) for row in image]
        if isinstance(image, Mapping) and text is None:
            return self(**image, **kwargs)
        if image is None or not isinstance(text, str):
            raise TypeError("there is nothing to find: give image=... and text=..., a sentence or an expression")
        if not text.strip():
            raise ValueError("the text is empty: give a sentence, or an expression such as 'the dog left of the boy'")
        phrases = [phrases] if isinstance(phrases, str) else phrases
        whole: list[Span] = [(len(text) - len(text.lstrip()), len(text.rstrip()))]
        places = whole if phrases is None else phrase_places(text, phrases)
        if not places:
            raise ValueError(f"there is no phrase of {text!r} to find: give one or more, or leave phrases out")
        return super().__call__({"image": image, "text": text, "places": places}, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, timeout: float | None = None, masks: bool = False, **settings: Any
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS
        if unknown:
            raise TypeError(f"phrase-grounding has no argument {', '.join(sorted(unknown))}: is it misspelt?")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        preprocess = settings if timeout is None else {**settings, "timeout": timeout}
        return preprocess, {}, {"masks": masks} | ({} if top_k is None else {"top_k": top_k})

    def preprocess(self, input_: Mapping[str, Any], **image_settings: Any) -> dict[str, Any]:
        """A row -> `pixel_values`, `input_ids` and the `phrase_spans` of its places, and the row itself."""
        text, places = input_["text"], input_["places"]
        size = read_size(input_["image"], self.image_processor, image_settings.get("timeout"))
        inputs: dict[str, Any] = image_inputs(self.image_processor, size[0], **image_settings)
        longest = text_length(self.model.config.text_config, self.tokenizer)
        tokens = self.tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=longest)
        spans = token_spans(tokens["offset_mapping"], places)
        if NO_SPAN in spans:
            logger.warning(f"{text!r} is longer than the {longest} tokens that the model reads: what is cut has no box")
        inputs["input_ids"] = torch.tensor([tokens["input_ids"]])
        if self.model.config.grounding_score != "region":
            inputs["phrase_spans"] = torch.tensor([spans])
        elif len(places) > 1 or places != [(len(text) - len(text.lstrip()), len(text.rstrip()))]:
            raise ValueError("this model reads a text as one expression: leave phrases out, and give each as a text")
        return {"inputs": inputs, "text": text, "places": places, "spans": spans, "size": size[1]}

    def _forward(self, input_tensors: dict[str, Any]) -> dict[str, Any]:
        """-> the row with `scores` (K, R), `boxes` (K, R, 4) and, of a model that has them, `none` (K,)."""
        inputs = dict(input_tensors.pop("inputs"))
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        if self.region_source is not None:
            pixels = {name: inputs.pop(name) for name in ("pixel_values", "pixel_mask") if name in inputs}
            inputs |= self.region_source(**pixels, return_dict=True)
        output = self.model(**inputs)
        real = output.logits[0] > float("-inf")
        check_finite(output.logits[0][real], self.model, what="scores of regions")
        found = {"scores": output.phrase_scores[0], "boxes": output.pred_boxes[0]}
        if output.region_masks is not None:
            found |= {"region_masks": output.region_masks[0], "region_boxes": output.region_boxes[0]}
        if output.none_scores is not None:
            found["none"] = output.none_scores[0]
        return {**input_tensors, **found}

    def postprocess(
        self, model_outputs: Mapping[str, Any], top_k: int = 1, masks: bool = False
    ) -> list[dict[str, Any]]:
        """Scores and boxes -> one dict a phrase."""
        text, (width, height) = model_outputs["text"], model_outputs["size"]
        if masks and "region_masks" not in model_outputs:
            raise ValueError("the region source of this model makes no masks: leave masks out, or give it a mask head")
        found = []
        for number, (start, end) in enumerate(model_outputs["places"]):
            scores, boxes = model_outputs["scores"][number].float(), model_outputs["boxes"][number].float()
            cut = model_outputs["spans"][number] == NO_SPAN
            best = [] if cut else scores.argsort(descending=True, stable=True)[:top_k].tolist()
            pixels = boxes * torch.tensor([width, height, width, height])
            places = [
                {"score": scores[region].item(), "box": box_of(pixels[region].tolist())}
                | ({"mask": mask_image(model_outputs, region, width=width, height=height)} if masks else {})
                for region in best
                if scores[region] > 0  # padding has 0
            ]
            found.append({"phrase": text[start:end], "start": start, "end": end, "boxes": places})
            if "none" in model_outputs and not cut:
                found[-1]["none_score"] = model_outputs["none"][number].item()
        return found


def mask_image(found: Mapping[str, Any], region: int, *, width: int, height: int) -> Image.Image:
    """The mask of a region as an image of the given size, of mode "L": 255 on the region, 0 beside it."""
    mask, box = found["region_masks"][region : region + 1], found["region_boxes"][region : region + 1]
    pasted = paste_masks(mask.float(), box.float(), height=height, width=width)[0]
    return Image.fromarray((pasted.to(torch.uint8) * 255).cpu().numpy())


def box_of(corners: Sequence[float]) -> dict[str, int]:
    """Corners in pixels as transformers' pipelines have boxes.

    >>> box_of([1.2, 2.0, 30.6, 44.5])
    {'xmin': 1, 'ymin': 2, 'xmax': 31, 'ymax': 44}
    """
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), map(round, corners), strict=True))


def text_length(text_config: Any, tokenizer: Any) -> int:
    """How many tokens a text may have."""
    return min(getattr(text_config, "max_position_embeddings", 512), tokenizer.model_max_length, 512)


def read_size(image: Any, image_processor: Any, timeout: float | None) -> tuple[Any, tuple[int, int]]:
    """The image as read, and its width and height in pixels."""
    read = image_processor.fetch_images(image, timeout=timeout)
    if hasattr(read, "size") and not callable(read.size) and isinstance(read.size, tuple):
        return read, read.size
    height, width = (read.shape[-2:] if read.shape[0] in (1, 3, 4) else read.shape[:2])[:2]
    return read, (int(width), int(height))
