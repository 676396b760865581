"""Processors of images, text and regions for the models. `modeling_updown` re-exports the public names."""

import warnings
from typing import Any

from .clip_loading_updown import Clip, check_times, load_clip, load_image_or_clip, open_clip
from .clip_sampling_updown import ClipSampling, choose_frames
from .image_processing_updown import UpDownImageProcessor, UpDownImageProcessorPil, load_image
from .ocr_batching_updown import kept_words, ocr_inputs, split_lines
from .processing_updown import UpDownProcessor
from .region_batching_updown import check_regions, pad_regions, split_regions
from .tokenization_updown import UpDownTokenizer, boundary_token_ids, caption_token_ids, count_words
from .video_processing_updown import UpDownVideoProcessor

__all__ = [
    "Clip",
    "ClipSampling",
    "UpDownImageProcessor",
    "UpDownImageProcessorPil",
    "UpDownProcessor",
    "UpDownTokenizer",
    "UpDownVideoProcessor",
    "boundary_token_ids",
    "caption_token_ids",
    "check_regions",
    "check_times",
    "choose_frames",
    "count_words",
    "kept_words",
    "load_clip",
    "load_image",
    "load_image_or_clip",
    "ocr_inputs",
    "open_clip",
    "pad_regions",
    "split_lines",
    "split_regions",
]


def __getattr__(name: str) -> Any:
    """A name that was public before, with a `DeprecationWarning`."""
    if name == "load_photo":
        warnings.warn("load_photo is now called load_image", DeprecationWarning, stacklevel=2)
        return load_image
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
