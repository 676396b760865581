"""The one public door of UpDown: image -> `Regions` -> words, answers, scores.

`import modeling_updown` makes transformers know our classes and pipelines (`registration_updown`) and exports the names
below, the processors' among them. A name is imported when it is first used, so the import itself costs next to nothing.

>>> import modeling_updown
>>> modeling_updown.UpDownGridConfig(grid_size=7).num_regions
49
"""

# ruff: noqa: F401 - the imports under TYPE_CHECKING show type checkers and editors what HOMES holds

import importlib
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import heads_updown, registration_updown

if TYPE_CHECKING:
    from processors import (
        Clip,
        ClipSampling,
        UpDownImageProcessor,
        UpDownImageProcessorPil,
        UpDownProcessor,
        UpDownTokenizer,
        UpDownVideoProcessor,
        boundary_token_ids,
        caption_token_ids,
        check_regions,
        check_times,
        choose_frames,
        kept_words,
        load_clip,
        load_image,
        load_image_or_clip,
        ocr_inputs,
        open_clip,
        pad_regions,
        split_lines,
    )
    from processors.answer_text_updown import normalize_answer
    from processors.ocr_updown import open_ocr
    from processors.words_updown import Word, checked_words, word_in_box, word_regions

    from .clips_updown import clip_regions
    from .configuration_text_updown import UpDownFusionConfig, UpDownPrefixLMConfig
    from .configuration_updown import UpDownCaptioningConfig, UpDownDetectorConfig, UpDownGridConfig, UpDownVqaConfig
    from .drawing_clips_updown import draw_clip_answer, draw_clip_attention, draw_moments
    from .drawing_phrases_updown import draw_phrases
    from .drawing_regions_updown import draw_regions, named_regions
    from .drawing_retrieval_updown import draw_found_images, draw_found_texts
    from .drawing_updown import draw_answer, draw_attention
    from .masks_updown import paste_masks
    from .modeling_captioning import UpDownForImageCaptioning
    from .modeling_dense_captioning import UpDownForDenseCaptioning
    from .modeling_detector import UpDownDetector
    from .modeling_fusion import UpDownFusionModel
    from .modeling_fusion_vqa import UpDownFusionForVisualQuestionAnswering
    from .modeling_grid import UpDownGrid
    from .modeling_grounding import UpDownFusionForGrounding
    from .modeling_multiple_choice import UpDownFusionForMultipleChoice
    from .modeling_prefix_lm import UpDownPrefixLMForImageCaptioning
    from .modeling_prefix_vqa import UpDownPrefixLMForVisualQuestionAnswering
    from .modeling_pretraining import UpDownFusionForMaskedLM, UpDownFusionForPreTraining
    from .modeling_reasoning import UpDownFusionForImagePairs, UpDownFusionForVisualEntailment
    from .modeling_retrieval import UpDownFusionForImageTextRetrieval
    from .modeling_text_reading import UpDownForTextReading
    from .modeling_video import UpDownForMomentRetrieval
    from .modeling_vqa import UpDownForVisualQuestionAnswering
    from .open_names_updown import embed_names, open_regions
    from .outputs_updown import (
        Regions,
        UpDownCaptioningOutput,
        UpDownDenseCaptioningOutput,
        UpDownDenseCaptions,
        UpDownDetectorOutput,
        UpDownFusionOutput,
        UpDownGroundingOutput,
        UpDownMaskedLMOutput,
        UpDownMomentOutput,
        UpDownMultipleChoiceOutput,
        UpDownPrefixLMOutput,
        UpDownPreTrainingOutput,
        UpDownReadingOutput,
        UpDownReasoningOutput,
        UpDownRetrievalOutput,
        UpDownVqaOutput,
    )
    from .pipeline_captioning import UpDownImageToTextPipeline
    from .pipeline_dense_captioning import UpDownDenseCaptioningPipeline
    from .pipeline_grounding import UpDownPhraseGroundingPipeline
    from .pipeline_moments import UpDownMomentRetrievalPipeline
    from .pipeline_multiple_choice import UpDownMultipleChoicePipeline
    from .pipeline_reading import UpDownTextReadingPipeline
    from .pipeline_reasoning import UpDownVisualReasoningPipeline
    from .pipeline_vqa import UpDownVisualQuestionAnsweringPipeline

__version__ = "0.1.0"

HOMES = {  # public name -> the module it is imported from
    **{name: f"modeling_updown.{file}" for name, file in heads_updown.files_of_classes().items()},
    "clip_regions": "modeling_updown.clips_updown",
    "draw_answer": "modeling_updown.drawing_updown",
    "draw_attention": "modeling_updown.drawing_updown",
    "draw_clip_answer": "modeling_updown.drawing_clips_updown",
    "draw_clip_attention": "modeling_updown.drawing_clips_updown",
    "draw_moments": "modeling_updown.drawing_clips_updown",
    "draw_found_images": "modeling_updown.drawing_retrieval_updown",
    "draw_found_texts": "modeling_updown.drawing_retrieval_updown",
    "draw_phrases": "modeling_updown.drawing_phrases_updown",
    "draw_regions": "modeling_updown.drawing_regions_updown",
    "embed_names": "modeling_updown.open_names_updown",
    "named_regions": "modeling_updown.drawing_regions_updown",
    "open_regions": "modeling_updown.open_names_updown",
    "paste_masks": "modeling_updown.masks_updown",
    "UpDownDenseCaptions": "modeling_updown.outputs_updown",
    "Clip": "processors",
    "ClipSampling": "processors",
    "UpDownImageProcessor": "processors",
    "UpDownImageProcessorPil": "processors",
    "UpDownProcessor": "processors",
    "UpDownTokenizer": "processors",
    "UpDownVideoProcessor": "processors",
    "boundary_token_ids": "processors",
    "caption_token_ids": "processors",
    "check_regions": "processors",
    "check_times": "processors",
    "choose_frames": "processors",
    "kept_words": "processors",
    "load_clip": "processors",
    "load_image": "processors",
    "load_image_or_clip": "processors",
    "normalize_answer": "processors.answer_text_updown",
    "ocr_inputs": "processors",
    "open_clip": "processors",
    "open_ocr": "processors.ocr_updown",
    **dict.fromkeys(("Word", "checked_words", "word_in_box", "word_regions"), "processors.words_updown"),
    "pad_regions": "processors",
    "split_lines": "processors",
}

OLD_NAMES = {"load_photo": "load_image", "draw_found_photos": "draw_found_images"}  # before -> now

__all__ = list(HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name on its first use; one that has a new name now works on, with a `DeprecationWarning`."""
    if name in OLD_NAMES:
        warnings.warn(f"{name} is now called {OLD_NAMES[name]}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[__name__], OLD_NAMES[name])
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are {', '.join(sorted(HOMES))}")
    value = getattr(importlib.import_module(HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *HOMES})


def check_processors() -> None:
    """Refuse to work with somebody else's package or file named `processors`, which Python would import for ours.

    Raises `ImportError` with the path of the intruder.
    """
    loaded = sys.modules.get("processors")
    spec = getattr(loaded, "__spec__", None) if loaded else find_spec("processors")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if any((Path(folder) / "processing_updown.py").is_file() for folder in folders):
        return
    ours = Path(__file__).resolve().parent.parent
    found = "there is none" if spec is None else f"Python finds {spec.origin or folders[0]}, which is not UpDown's"
    raise ImportError(
        f"modeling_updown needs its own package `processors`, but {found}: rename or uninstall that one, "
        f"put {ours} before it on PYTHONPATH, or reinstall modeling-updown"
    )


check_processors()
registration_updown.register()
