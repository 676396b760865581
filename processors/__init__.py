"""Processors of images, text and regions for the models. `modeling_updown` re-exports the public names."""

from .image_processing_updown import UpDownImageProcessor, UpDownImageProcessorPil, load_image
from .processing_updown import UpDownProcessor
from .region_batching_updown import check_regions, pad_regions, split_regions
from .tokenization_updown import UpDownTokenizer, boundary_token_ids, caption_token_ids, count_words

__all__ = [
    "UpDownImageProcessor",
    "UpDownImageProcessorPil",
    "UpDownProcessor",
    "UpDownTokenizer",
    "boundary_token_ids",
    "caption_token_ids",
    "check_regions",
    "count_words",
    "load_image",
    "pad_regions",
    "split_regions",
]
