"""One processor for all inputs of a top-down model: images or regions, and text.

`processor(images=image, text=prompt, return_tensors="pt")` makes the arguments of `generate`, and
`processor.batch_decode(ids, skip_special_tokens=True)` decodes its output.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack
from transformers.tokenization_utils_base import TextInput

from .code_updown import write_code
from .image_processing_updown import write_image_code
from .ocr_batching_updown import MOST_WORDS, kept_words, ocr_inputs, split_lines
from .region_batching_updown import check_regions, pad_regions, split_regions
from .region_links_updown import padded_links, plain_text, word_links


class UpDownProcessor(ProcessorMixin):
    """An image processor and a tokenizer, saved in and loaded from one folder.

    Any Hugging Face tokenizer can be used; captioners trained here use `UpDownTokenizer`.

    Example:
        >>> from modeling_updown import UpDownImageProcessor, UpDownTokenizer
        >>> tokenizer = UpDownTokenizer.from_captions(["a dog runs"], min_count=1)
        >>> processor = UpDownProcessor(UpDownImageProcessor(), tokenizer)
        >>> regions = {"region_features": [[0.5, 1.0]], "region_boxes": [[0.0, 0.0, 1.0, 1.0]]}
        >>> inputs = processor(text="a dog", regions=regions, return_tensors="pt")
        >>> {name: tuple(tensor.shape) for name, tensor in inputs.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'input_ids': (1, 3), 'attention_mask': (1, 3), 'region_features': (1, 1, 2), 'region_boxes': (1, 1, 4),
         'region_mask': (1, 1)}
    """

    def __init__(self, image_processor: Any, tokenizer: Any, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as transformers does; the processor of a published model is saved with its code."""
        if write_image_code(self.image_processor, save_directory):
            write_code(__file__, save_directory)
            self.auto_map = {"AutoProcessor": f"{Path(__file__).stem}.{type(self).__name__}"}
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    def __call__(
        self,
        images: ImageInput | None = None,
        text: TextInput | list[TextInput] | None = None,
        regions: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        tags: Mapping[str, Sequence[int]] | Sequence[Mapping[str, Sequence[int]]] | None = None,
        words: Sequence[Any] | None = None,
        max_words: int = MOST_WORDS,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature:
        """Makes a model's arguments from images, text and regions, at least one of which must be given.

        Args:
            images: an image or a list of images, each a path, URL, bytes, PIL image or array.
            text: a prompt or a list of prompts; several of different length need `padding=True`.
            regions: the regions of one image, of a list of images, or a batch (B, R, ...) as a detector returns it;
                the names are those of `region_batching_updown`.
            tags: which regions the words in brackets of a text carry, {"person1": [0]} for "is [person1] here?"; of a
                list of prompts one for all, or a list.
            words: the OCR words of one image, or a list of those of each image, as `ocr_batching_updown` has them; the
                lines of several words are taken apart.
            max_words: as many OCR words of an image are read, those that `kept_words` says; a model's
                `config.reading_max_ocr`.
            kwargs: arguments of the image processor and the tokenizer, such as `return_tensors="pt"`.

        Returns:
            `pixel_values` (and `pixel_mask`) for images; `input_ids` and `attention_mask` for text, with tags
            `word_regions` (prompts, tokens, regions of a token; -1 for none) as well; `region_features`,
            `region_boxes`, `region_mask` and the optional region names for regions; `ocr_boxes`, `ocr_mask`,
            `ocr_input_ids` and `ocr_characters` for OCR words, nothing where there are none.

        Raises:
            ValueError: if nothing is given, for a tag that names no region, and as `load_image`, `check_regions` and
                `kept_words`.
        """
        if images is None and text is None and regions is None and words is None:
            raise ValueError("there is nothing to process; give images, text, regions or OCR words")
        features: dict[str, Any] = {}
        if tags is not None:
            text, features["word_regions"] = self._linked(text, tags, kwargs)
        if images is not None or text is not None:
            features.update(super().__call__(images=images, text=text, **kwargs))
        if regions is not None:
            each_image = _images(regions)
            check_regions(each_image)
            features.update(pad_regions(each_image))
        if words is not None:
            each_words = [words] if words and isinstance(words[0], Mapping) else words
            kept = [kept_words(split_lines(own), most=max_words) for own in each_words]
            features.update(ocr_inputs(kept, self.tokenizer))
        return_tensors: Any = kwargs.get("return_tensors")
        return BatchFeature(features, tensor_type=return_tensors)

    def _linked(self, text: Any, tags: Any, kwargs: Mapping[str, Any]) -> tuple[Any, list[list[list[int]]]]:
        """The text without brackets, and the regions of each token of each prompt."""
        texts = [text] if isinstance(text, str) else list(text or [])
        each = [tags] * len(texts) if isinstance(tags, Mapping) else list(tags)
        if not texts or len(each) != len(texts):
            raise ValueError(f"there are tags for {len(each)} texts, but {len(texts)} texts: give one of both each")
        found = [plain_text(one, own) for one, own in zip(texts, each, strict=True)]
        options = {name: value for name, value in kwargs.items() if name != "return_tensors"}
        plain = [words for words, _ in found]
        tokens = self.tokenizer(plain, return_offsets_mapping=True, **options)
        offsets = tokens["offset_mapping"]
        links = [word_links(own, spans) for own, (_, spans) in zip(offsets, found, strict=True)]
        made = padded_links(links, length=max(map(len, links)))
        return (plain[0] if isinstance(text, str) else plain), made


def _images(regions: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if not isinstance(regions, Mapping):
        return regions
    batched = getattr(regions.get("region_features"), "ndim", 2) == 3
    return split_regions(regions) if batched else [regions]
