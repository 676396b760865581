"""Words as regions: what is kept, cut and told, in any writing, and how they become fields of regions."""

import math
import warnings

import pytest
import torch

from modeling_updown import Regions
from processors.words_updown import (
    MAX_WORDS,
    Word,
    checked_words,
    clean_text,
    word_in_box,
    word_regions,
    word_rows,
    words_of_rows,
)

SOMEWHERE = (0.25, 0.25, 0.5, 0.5)


def test_a_rotated_words_box_is_around_its_corners() -> None:
    turned = Word("up", ((0.5, 0.75), (0.5, 0.25), (0.75, 0.25), (0.75, 0.75)), 0.5)  # read from below
    assert turned.box == (0.5, 0.25, 0.75, 0.75)
    assert checked_words([turned]) == [turned]


def test_writing_of_every_kind_is_kept_as_it_is() -> None:
    texts = ["שלום", "سلام", "出口", "にほん", "한국", "ไทย", "é", "क्ष", "می\u200cخواهم", "№5€"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checked_words([word_in_box(text, SOMEWHERE) for text in texts])
    assert [word.text for word in found] == texts


def test_blanks_and_what_is_not_written_go() -> None:
    assert clean_text("\ufeff two\u00a0\n words\u200e\ud800\x07 ") == "two words"
    assert clean_text("\u200b\x00") == ""


def test_what_cannot_be_a_region_is_left_out_and_told() -> None:
    words = [
        word_in_box("in", SOMEWHERE),
        word_in_box("", SOMEWHERE),
        word_in_box(" \t", SOMEWHERE),
        word_in_box("outside", (1.1, 0.2, 1.4, 0.3)),
        word_in_box("flat", (0.1, 0.2, 0.1, 0.3)),
        word_in_box("nan", (math.nan, 0, 1, 1)),
        word_in_box("inf", SOMEWHERE, score=math.inf),
        word_in_box("half", (0.75, -0.5, 1.5, 0.5), score=7),
    ]
    with pytest.warns(UserWarning) as caught:
        found = checked_words(words, source="page 3")
    assert [str(warning.message) for warning in caught] == [
        "page 3: 2 words have no text and are left out; 2 words lie outside of the image and are left out; "
        "2 words have numbers that are not finite and are left out"
    ]
    assert [word.text for word in found] == ["in", "half"]
    assert found[1].box == (0.75, 0, 1, 0.5) and found[1].score == 1


def test_of_too_many_words_the_most_confident_are_kept_in_their_order() -> None:
    scores = [0.5, 0.9, 0.1, 0.9, 0.5]
    words = [word_in_box(str(place), SOMEWHERE, score=score) for place, score in enumerate(scores)]
    with pytest.warns(UserWarning, match="the image: 5 words are more than 3, of which the most confident are kept"):
        assert [word.text for word in checked_words(words, max_words=3)] == ["0", "1", "3"]
    with pytest.warns(UserWarning, match=f"900 words are more than {MAX_WORDS}"):
        assert len(checked_words([word_in_box("a", SOMEWHERE)] * 900)) == 500
    with pytest.raises(ValueError, match="max_words is 0"):
        checked_words([], max_words=0)


def test_an_image_without_words_has_none() -> None:
    assert checked_words([]) == []
    assert word_regions([[]])["region_boxes"].shape == (1, 0, 4)


def test_rows_hold_text_box_and_score() -> None:
    words = [word_in_box("go", SOMEWHERE, score=0.5), word_in_box("on", (0, 0, 1, 1))]
    assert word_rows(words)[0] == {"text": "go", "box": [0.25, 0.25, 0.5, 0.5], "score": 0.5}
    assert words_of_rows(word_rows(words)) == words


def test_regions_of_several_images_are_padded_and_fit_regions() -> None:
    words = [
        [word_in_box("go", SOMEWHERE, score=0.5), word_in_box("on", (0, 0, 1, 1))],
        [],
        [word_in_box("x", SOMEWHERE)],
    ]
    fields = word_regions(words)
    assert fields["region_texts"] == [["go", "on"], ["", ""], ["x", ""]]
    assert fields["region_mask"].tolist() == [[True, True], [False, False], [True, False]]
    assert fields["region_scores"].tolist() == [[0.5, 1], [0, 0], [1, 0]]
    assert fields["region_boxes"][0, 0].tolist() == [0.25, 0.25, 0.5, 0.5] and not fields["region_boxes"][1].any()
    regions = Regions(region_features=torch.zeros(3, 2, 1), **fields)
    assert regions.of_rows(torch.tensor([2, 0])).region_texts == [["x", ""], ["go", "on"]]
