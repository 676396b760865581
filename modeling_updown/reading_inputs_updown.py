"""What answers are read off: OCR words as they are given, and question, objects and OCR words as they are embedded.

ocr_boxes, ocr_mask, ... --checked_ocr--> OcrWords --UpDownForTextReading.encode--> ReadingInputs --> answers
"""

from typing import Any, NamedTuple

import torch

from .compat_updown import is_traced
from .configuration_text_updown import UpDownFusionConfig

OCR_FIELDS = ("ocr_boxes", "ocr_mask", "ocr_input_ids", "ocr_characters", "ocr_features")
OCR_CURE = "make them with the model's processor, processor(words=...)"


class OcrWords(NamedTuple):
    """The OCR words of P images: boxes (P, W, 4), mask (P, W) bool, input_ids of pieces (P, W, K), characters
    (P, W, C) and features (P, W, D), where a model reads these."""

    boxes: torch.Tensor
    mask: torch.Tensor
    input_ids: torch.Tensor | None = None
    characters: torch.Tensor | None = None
    features: torch.Tensor | None = None


class ReadingInputs(NamedTuple):
    """What N answers are read off: question, then objects, then OCR words, L = T + R + W of them.

    embeds (N, L, H), mask (N, L) bool, kinds (N, L) token types, positions (N, L); image_index (N,): which of P images
    each is about; num_question: T, num_ocr: W. Boxes of objects (P, R, 4) and OCR words (P, W, 4), None without any.
    """

    embeds: torch.Tensor
    mask: torch.Tensor
    kinds: torch.Tensor
    positions: torch.Tensor
    image_index: torch.Tensor
    num_question: int
    num_ocr: int
    region_boxes: torch.Tensor | None = None
    ocr_boxes: torch.Tensor | None = None

    @property
    def ocr(self) -> torch.Tensor:
        """The OCR words among the embeds (N, W, H)."""
        return self.embeds[:, self.embeds.shape[1] - self.num_ocr :]

    @property
    def ocr_mask(self) -> torch.Tensor:
        """Which of them are there (N, W)."""
        return self.mask[:, self.mask.shape[1] - self.num_ocr :]

    def for_rows(self, rows: int) -> "ReadingInputs":
        """Those of several answers to each question, next to each other; `ValueError` for a number that does not fit.

        rows: of answers, a multiple of N.
        """
        each, odd = divmod(rows, len(self.mask))
        if odd or not each:
            raise ValueError(
                f"there are {rows} answers to {len(self.mask)} questions: give the same number of answers to every "
                "question, those of one question next to each other"
            )
        if each == 1:
            return self
        parts = (self.embeds, self.mask, self.kinds, self.positions, self.image_index)
        embeds, mask, kinds, positions, image_index = (part.repeat_interleave(each, dim=0) for part in parts)
        return self._replace(embeds=embeds, mask=mask, kinds=kinds, positions=positions, image_index=image_index)


def checked_ocr(config: UpDownFusionConfig, given: dict[str, Any], *, num_images: int | None) -> OcrWords | None:
    """The OCR words of P images where there are some, None without; given: `OCR_FIELDS` by name.

    num_images: P, where it is known. Raises `ValueError` for numbers that do not fit, for parts that the model reads
    and that are not given, and for words among the regions (`region_texts`) that are not given as OCR words.
    """
    boxes: Any = given.get("ocr_boxes")
    mask, *parts = (given.get(name) for name in OCR_FIELDS[1:])
    if boxes is None:
        if any(part is not None for part in (mask, *parts)):
            raise ValueError(f"OCR words have no ocr_boxes: {OCR_CURE}")
        if any(any(texts) for texts in given.get("region_texts") or ()):
            raise ValueError(f"region_texts hold words, but there are no ocr_boxes: {OCR_CURE}")
        return None
    images = len(boxes) if num_images is None else num_images
    if boxes.dim() != 3 or boxes.shape[-1] != 4 or len(boxes) != images:
        raise ValueError(f"ocr_boxes have shape {tuple(boxes.shape)}, but must be ({images} images, words, 4)")
    if boxes.shape[1] > config.reading_max_ocr:
        raise ValueError(
            f"there are {boxes.shape[1]} OCR words an image, but config.reading_max_ocr is {config.reading_max_ocr}: "
            "give fewer, the first ones in reading order"
        )
    mask = torch.ones_like(boxes[..., 0], dtype=torch.bool) if mask is None else mask.to(torch.bool)
    if mask.shape != boxes.shape[:2]:
        raise ValueError(f"ocr_mask has shape {tuple(mask.shape)}, but ocr_boxes {tuple(boxes.shape)}: one a word")
    reads = (config.reading_subwords, bool(config.reading_characters), config.reading_appearance)
    for name, part, is_read in zip(OCR_FIELDS[2:], parts, reads, strict=True):
        if is_read and part is None:
            raise ValueError(f"this model reads {name} of OCR words, which are not given: {OCR_CURE}")
        if is_read and part is not None and (part.dim() != 3 or part.shape[:2] != boxes.shape[:2] or not part.shape[2]):
            raise ValueError(
                f"{name} have shape {tuple(part.shape)}, but must be {tuple(boxes.shape[:2])} images and words, and "
                "something of each"
            )
    words = OcrWords(boxes, mask, *(part if is_read else None for part, is_read in zip(parts, reads, strict=True)))
    check_numbers(words, config)
    return words


def check_numbers(words: OcrWords, config: UpDownFusionConfig) -> None:
    """`ValueError` for real OCR words whose boxes or features are no numbers, and for features of another width."""
    features, width = words.features, config.region_feature_size
    if features is not None and features.shape[-1] != width:
        raise ValueError(
            f"ocr_features have width {features.shape[-1]}, but the model expects {width}; were they extracted with "
            "another detector?"
        )
    if is_traced() or words.boxes.is_meta:
        return
    for name, numbers in (("ocr_boxes", words.boxes), ("ocr_features", features)):
        if numbers is not None and not bool(numbers[words.mask].isfinite().all()):
            raise ValueError(f"{name} hold NaN or infinity: read the words of these images anew")
