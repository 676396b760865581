"""What the fusion model's config says of reading: how OCR words are embedded, and how an answer is written.

The config itself is in `configuration_text_updown.py`, the model in `modeling_text_reading.py`, which reads these
fields.
"""

from typing import Any, Literal

from transformers import PreTrainedConfig

COUNTS = ("reading_max_steps", "reading_max_ocr")


class ReadingConfig(PreTrainedConfig):
    r"""A config whose model may answer by reading; `UpDownForTextReading` has the equations.

    reading_head (`"pointer"`, `"classification"` or `"lorra"`, defaults to `"pointer"`):
        How an answer is made. `"pointer"`: word by word, each from the vocabulary or copied from an OCR word (M4C, Hu
        et al. 2020); `"classification"`: the same decoder run for one step, so that an answer is one entry of the
        vocabulary or one OCR word; `"lorra"`: one entry too, scored from the question and what it attends to among
        objects and OCR words, OCR words by their number in reading order (LoRRA, Singh et al. 2019).
    reading_objects (`bool`, defaults to `True`):
        Whether objects are read beside the OCR words. `False` is the form for documents and charts: it takes no
        regions, and leaves out those that are given.
    reading_question_layers (`int`, defaults to 0):
        Of a text encoder of its own that reads the question first, with the other fields of `text_config` and the same
        embeddings of words (M4C: 3); with `region_embedding="uniter"` alone. 0 embeds the question's words where all is
        read together.
    reading_max_steps (`int`, defaults to 12):
        The most words of an answer, its end among them.
    reading_max_ocr (`int`, defaults to 50):
        The most OCR words of an image, lines taken apart.
    reading_split_lines (`bool`, defaults to `True`):
        Whether an OCR line of several words is read as these, each with its part of the line's box, so that a word of
        it can be copied; `False`: as one, which is copied whole.
    reading_subwords (`bool`, defaults to `True`):
        Whether an OCR word is embedded by the mean of its pieces' embeddings in the text encoder.
    reading_characters (`""`, `"phoc"` or `"convolution"`, defaults to `"phoc"`):
        Whether, and how, it is embedded by its characters: their pyramidal histogram (Almazan et al. 2014), or learnt
        windows of five bytes, of which the largest answers are kept (after Kim et al. 2016).
    reading_appearance (`bool`, defaults to `False`):
        Whether it is embedded by its region's feature (M4C: `True`).
    reading_order (`bool`, defaults to `False`):
        Whether it is embedded by its number in reading order; with `reading_head="lorra"` it always is.
    reading_pointer_size (`int`, *optional*):
        Width in which decoding steps and OCR words are compared; by default the text encoder's.
    reading_dropout (`float`, defaults to 0.1):
        Of embedded OCR words.
    """

    reading_head: Literal["pointer", "classification", "lorra"] = "pointer"
    reading_objects: bool = True
    reading_question_layers: int = 0
    reading_max_steps: int = 12
    reading_max_ocr: int = 50
    reading_split_lines: bool = True
    reading_subwords: bool = True
    reading_characters: Literal["", "phoc", "convolution"] = "phoc"
    reading_appearance: bool = False
    reading_order: bool = False
    reading_pointer_size: int | None = None
    reading_dropout: float | int = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check_reading()

    def check_reading(self) -> None:
        """Raises `ValueError` for fields of reading that contradict each other or are out of their range."""
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.reading_pointer_size is not None and self.reading_pointer_size < 1:
            raise ValueError(f"reading_pointer_size={self.reading_pointer_size} must be 1 or more, or None")
        if not 0 <= self.reading_dropout < 1:
            raise ValueError(f"reading_dropout={self.reading_dropout} must be in 0..1, and below 1")
        if not (self.reading_subwords or self.reading_characters or self.reading_appearance):
            raise ValueError(
                "nothing says what an OCR word is: set reading_subwords, reading_characters or reading_appearance"
            )
        layers, form = self.reading_question_layers, getattr(self, "region_embedding", None)
        if layers < 0 or (layers and (form != "uniter" or self.reading_head == "lorra")):
            raise ValueError(
                f"reading_question_layers={layers} must be 0 or more; above 0 the question's states are read as they "
                f"are, which takes region_embedding='uniter' (this is {form!r}) and another reading_head than 'lorra'"
            )
