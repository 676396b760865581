"""Formats of multiple choice by their names."""

import pytest

from training.data.choices.formats import CHOICE_FORMATS, load_choices


def test_unknown_formats_and_options_are_named() -> None:
    assert set(CHOICE_FORMATS) == {"vcr", "visdial"}
    with pytest.raises(ValueError, match="unknown multiple choice format 'gqa'; choose one of vcr, visdial"):
        load_choices("gqa")
    with pytest.raises(ValueError, match="the multiple choice format 'vcr' does not take folder"):
        load_choices("vcr", annotations="a", folder="b")
