"""What transformers' own common tests need to know to run on our processors.

With the test files of transformers laid in a folder of their own, and the checkout and this folder on PYTHONPATH
(`tests` itself is also the name of transformers' own package), run there
HF_HARNESS_PROC=common_spec:ProcSpec python -m pytest -q test_processors.py test_tokenizer.py
"""

from typing import Any

from modeling_updown.configuration_updown import UpDownCaptioningConfig
from processors import UpDownImageProcessor, UpDownImageProcessorPil, UpDownProcessor, UpDownTokenizer

CAPTIONS = [
    "a dog runs on the beach",
    "two men ride a wave",
    "the rain has stopped and the street is empty",
    "lower newer low hello world this is a test input string",
]


class ProcSpec:
    """The captioner's processor, and the tokenizer of a few captions."""

    config_class = UpDownCaptioningConfig
    image_processing_classes = {"torchvision": UpDownImageProcessor, "pil": UpDownImageProcessorPil}
    image_processor_kwargs: dict[str, Any] = {"size": {"height": 20, "width": 20}}
    processor_class = UpDownProcessor
    skip = {
        "test_backends_equivalence": (
            "takes an image from the Hub; test_image_processing.py compares the backends itself"
        )
    }

    @staticmethod
    def make_tokenizer() -> UpDownTokenizer:
        """A tokenizer of every word of `CAPTIONS`."""
        return UpDownTokenizer.from_captions(CAPTIONS, min_count=1)
