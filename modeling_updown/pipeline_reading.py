"""`pipeline("text-reading")`: questions about an image that are answered by reading the words in it.

    image, questions, OCR words --preprocess--> pixels, tokens, words --model--> numbers --postprocess--> answers with
        the boxes of their copied words

The words come from an OCR engine that the pipeline is given, or with the call. transformers' own task
"document-question-answering" is for other models: it reads a span of words and takes the image processor's OCR.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers.pipelines import Pipeline

from .pipeline_grounding import read_size, text_length
from .pipeline_images import IMAGE_SETTINGS, image_inputs, save_parts, set_processor_parts

Words = Sequence[Mapping[str, Any]]


class UpDownTextReadingPipeline(Pipeline):
    """Answers questions by reading.

    - `read(image, "what does the sign say?")`: a dict of `answer`, `score` (0..1), and `words`, those of the answer,
      each `{"text", "box"}`: xyxy in 0..1 where an OCR word was copied, None of the vocabulary;
    - `read(image, [question, ...])`: a list of such dicts, of one image whose words are read once;
    - a list of rows `{"image", "question", "words"}`: a list of results.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image or an array;
    None where the words are given and the model reads no objects (`config.reading_objects`). The OCR words are `words`,
    a list of `{"text", "box"}` with boxes in 0..1 in reading order (or of `Word`), or what the engine reads:
    `pipeline(..., ocr=open_ocr())`, any function of a PIL image. `pipeline(..., region_source=detector,
    image_processor=...)` gives a region source to a model that owns none.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> read = pipeline("text-reading", model="runs/reading_scenes/best")  # doctest: +SKIP
    >>> words = [{"text": "STOP", "box": [0.2, 0.3, 0.6, 0.5]}]  # doctest: +SKIP
    >>> read("sign.jpg", "what does the sign say?", words=words)  # doctest: +SKIP
    {'answer': 'STOP', 'score': 0.93, 'words': [{'text': 'STOP', 'box': [0.2, 0.3, 0.6, 0.5]}]}
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(
        self, *args: Any, region_source: Any = None, ocr: Callable[[Any], Sequence[Any]] | None = None, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.region_source = None if region_source is None else region_source.to(self.device).eval()
        self.ocr = ocr
        set_processor_parts(self)
        if not hasattr(self.model, "read"):
            raise ValueError(f"{type(self.model).__name__} reads no words: load an UpDownForTextReading")
        config = self.model.config
        if config.reading_appearance:
            raise ValueError(
                "this model reads features of OCR words (config.reading_appearance), which a pipeline has none of: "
                "call the model with those of a store of regions"
            )
        if config.reading_objects and self.model.region_source is None and self.region_source is None:
            raise ValueError(
                "this model reads regions and has no detector of its own: give the pipeline region_source=... and its "
                "image_processor=... (updown ask --read: --regions)"
            )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, image: Any = None, question: Any = None, words: Any = None, **kwargs: Any) -> Any:
        """Answer one question or several about an image.

        Args:
            image: an image, None, or a list of rows, as the class describes.
            question: a question or a list of them; None if `image` holds rows.
            words: the OCR words of the image; None has them read.
            num_beams: of the search for an answer (default 1).
            timeout: seconds for the download of an image.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            ValueError: for an image or OCR words that cannot be read, an empty question, and scores that are not
                finite.
            TypeError: without a question, for one that is not text, and for an unknown argument.
        """
        if kwargs.pop("batch_size", 1) != 1:
            raise ValueError("the questions about an image are answered together: leave batch_size out")
        if question is None and isinstance(image, Sequence) and not isinstance(image, str | bytes):
            return [self(**row, **kwargs) for row in image]
        if isinstance(image, Mapping) and question is None:
            return self(**image, **kwargs)
        questions = [question] if isinstance(question, str) else question
        if not isinstance(questions, Sequence) or not questions or not all(isinstance(one, str) for one in questions):
            raise TypeError("there is nothing to answer: give question=..., a text or a list of texts")
        if not all(one.strip() for one in questions):
            raise ValueError("a question is empty: give it in words, such as 'what does the sign say?'")
        if image is None and (words is None or self.model.config.reading_objects):
            raise ValueError("there is no image to read: give image=... (a path, a URL, a PIL image or an array)")
        found = super().__call__({"image": image, "questions": list(questions), "words": words}, **kwargs)
        return found[0] if isinstance(question, str) else found

    def _sanitize_parameters(
        self, num_beams: int | None = None, timeout: float | None = None, **settings: Any
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS
        if unknown:
            raise TypeError(f"text-reading has no argument {', '.join(sorted(unknown))}: is it misspelt?")
        if num_beams is not None and num_beams < 1:
            raise ValueError(f"num_beams is {num_beams}, but must be at least 1")
        preprocess = settings if timeout is None else {**settings, "timeout": timeout}
        return preprocess, {} if num_beams is None else {"num_beams": num_beams}, {}

    def preprocess(self, input_: Mapping[str, Any], **image_settings: Any) -> dict[str, Any]:
        """An image with its questions -> the model's arguments, and the texts of its OCR words."""
        config, image, words = self.model.config, input_["image"], input_["words"]
        if image is not None:
            image = read_size(image, self.image_processor, image_settings.get("timeout"))[0]
        if words is None:
            words = self.words_in(image)
        words = given_words(words, config)
        longest = text_length(config.text_config, self.tokenizer)
        tokens = self.tokenizer(
            input_["questions"], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        inputs: dict[str, Any] = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        inputs |= reading_tools()[1]([words], self.tokenizer)
        if config.reading_objects:
            inputs |= image_inputs(self.image_processor, image, **image_settings)
        inputs["image_index"] = torch.zeros(len(input_["questions"]), dtype=torch.long)
        return {"inputs": inputs, "texts": [word["text"] for word in words]}

    def words_in(self, image: Any) -> Sequence[Any]:
        """What the OCR engine reads in an image; `ValueError` without one."""
        if self.ocr is None:
            raise ValueError(
                "this pipeline has no OCR engine: give it ocr=open_ocr() (pip install 'modeling-updown[ocr]'), or the "
                "words of the image with words=[...]"
            )
        return self.ocr(as_picture(image))

    def _forward(self, input_tensors: dict[str, Any], **generation: Any) -> dict[str, Any]:
        """-> the `answers` to the questions."""
        inputs = dict(input_tensors["inputs"])
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
            if self.region_source is not None:
                pixels = {name: inputs.pop(name) for name in ("pixel_values", "pixel_mask") if name in inputs}
                inputs |= self.region_source(**pixels, return_dict=True)
        found = self.model.read([input_tensors["texts"]], **inputs, **generation)
        return {"answers": [{"answer": own.answer, "score": own.score, "words": copies(own.words)} for own in found]}

    def postprocess(self, model_outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answers, one dict a question."""
        return model_outputs["answers"]


def copies(words: Sequence[Any]) -> list[dict[str, Any]]:
    """The words of an answer, each with its text and, where it is copied, its box."""
    return [{"text": word.text, "box": None if word.box is None else [*word.box]} for word in words]


def given_words(words: Sequence[Any], config: Any) -> list[dict[str, Any]]:
    """OCR words, mappings or `Word`, as the model reads them, lines taken apart where its config says so.

    Raises `ValueError` as `kept_words`.
    """
    kept_words, _, split_lines = reading_tools()
    rows = [
        own if isinstance(own, Mapping) else {"text": own.text, "box": list(own.box), "score": own.score}
        for own in words
    ]
    return kept_words(split_lines(rows) if config.reading_split_lines else rows, most=config.reading_max_ocr)


def as_picture(image: Any) -> Any:
    """An image that was read, as the PIL image that OCR engines take."""
    if hasattr(image, "convert"):
        return image
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(torch.as_tensor(image))


def reading_tools() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """`kept_words`, `ocr_inputs` and `split_lines` of the processors."""
    try:
        from .ocr_batching_updown import kept_words, ocr_inputs, split_lines  # in a published folder
    except ImportError:
        from . import kept_words, ocr_inputs, split_lines  # the installed package has them at its door
    return kept_words, ocr_inputs, split_lines
