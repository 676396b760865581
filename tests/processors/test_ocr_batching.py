"""OCR words as arguments of a model: what is kept, how texts are taken apart, ugly words."""

from typing import Any

import numpy as np
import pytest
import torch

from processors.ocr_batching_updown import MOST_BYTES, kept_words, ocr_inputs, split_lines, split_words
from tests.tiny import tiny_fusion_processor

WHOLE = [0.0, 0.0, 1.0, 1.0]


def word(text: str, box: Any = WHOLE, **more: Any) -> dict[str, Any]:
    return {"text": text, "box": box, **more}


def test_words_of_two_images_side_by_side():
    tokenizer = tiny_fusion_processor().tokenizer
    images = [[word("dog", [0, 0, 0.5, 0.25]), word("brown grass")], [word("é")]]
    inputs = ocr_inputs(images, tokenizer)
    assert inputs["ocr_mask"].tolist() == [[True, True], [True, False]]
    assert inputs["ocr_boxes"].tolist() == [[[0, 0, 0.5, 0.25], WHOLE], [WHOLE, [0, 0, 0, 0]]]
    ids = [tokenizer(own["text"], add_special_tokens=False)["input_ids"] for words in images for own in words]
    found = inputs["ocr_input_ids"][inputs["ocr_mask"]].tolist()
    for own, expected in zip(found, ids, strict=True):
        assert own == [*expected, *[tokenizer.pad_token_id] * (len(own) - len(expected))]
    assert inputs["ocr_characters"][1, 0, :3].tolist() == [0xC3 + 1, 0xA9 + 1, 0]
    assert not inputs["ocr_characters"][1, 1].any()


def test_the_processor_takes_words_of_one_image_or_of_each():
    processor = tiny_fusion_processor()
    one = processor(words=[word("dog")], text="a dog", return_tensors="pt")
    each = processor(words=[[word("dog")], []], text=["a dog", "a dog"], return_tensors="pt")
    assert one["ocr_boxes"].shape == (1, 1, 4) and each["ocr_mask"].tolist() == [[True], [False]]
    assert "ocr_boxes" not in processor(words=[[], []], text="a dog", return_tensors="pt")


def test_features_travel_with_their_words():
    words = [word("a", feature=np.arange(3)), word("b", feature=torch.ones(3))]
    inputs = ocr_inputs([[], words], tiny_fusion_processor().tokenizer)
    assert inputs["ocr_features"].tolist() == [[[0, 0, 0], [0, 0, 0]], [[0, 1, 2], [1, 1, 1]]]
    with pytest.raises(ValueError, match="some OCR words have a feature and others none"):
        ocr_inputs([[*words, word("c")]], tiny_fusion_processor().tokenizer)


def test_what_is_no_word_in_the_image_is_left_out():
    words = [word(""), word("  "), word("out", [1.2, 0, 1.4, 1]), word("thin", [0.5, 0.5, 0.5, 0.9]), word(" in ")]
    assert kept_words(words) == [word("in")]
    assert kept_words([word("edge", [-0.5, 0.2, 1.5, 0.8])]) == [word("edge", [0.0, 0.2, 1.0, 0.8])]
    assert kept_words([]) == []


def test_five_hundred_words_are_cut_and_said():
    with pytest.warns(UserWarning, match="500 OCR words, of which the first 50 are read"):
        kept = kept_words([word(str(number)) for number in range(500)])
    assert [own["text"] for own in kept] == [str(number) for number in range(50)]


def test_of_words_with_scores_the_most_confident_are_kept_in_their_order():
    words = [{**word(str(number)), "score": score} for number, score in enumerate((0.2, 0.9, 0.5, 0.9))]
    with pytest.warns(UserWarning, match="4 OCR words, of which the most confident 3 are read"):
        assert [own["text"] for own in kept_words(words, most=3)] == ["1", "2", "3"]


def test_lines_are_taken_apart_with_what_is_said_of_them():
    line = {"text": " ACME  Ltd. 12", "box": [0.1, 0.2, 0.5, 0.4], "score": 0.5, "feature": [1.0]}
    found = split_lines([word("one"), line])
    assert [own["text"] for own in found] == ["one", "ACME", "Ltd.", "12"] and found[0] == word("one")
    starts, ends = zip(*(own["box"][::2] for own in found[1:]), strict=True)
    assert starts == pytest.approx([0.1, 0.1 + 0.4 * 5 / 12, 0.1 + 0.4 * 10 / 12])
    assert ends == pytest.approx([0.1 + 0.4 * 4 / 12, 0.1 + 0.4 * 9 / 12, 0.5])
    assert all(own["score"] == 0.5 and own["feature"] == [1.0] and own["box"][1::2] == [0.2, 0.4] for own in found[1:])


def test_long_words_and_other_scripts_are_bounded():
    texts = ["x" * 10_000, "停車場", "مرحبا", "🛑"]
    inputs = ocr_inputs([[word(text) for text in texts]], tiny_fusion_processor().tokenizer)
    assert inputs["ocr_characters"].shape == (1, 4, MOST_BYTES) and inputs["ocr_input_ids"].shape[2] <= 8
    assert inputs["ocr_characters"].max() <= 256
    assert (inputs["ocr_characters"] > 0).any(dim=-1).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"text": "a"}, "give a text and a box"),
        ({"box": WHOLE}, "give a text and a box"),
        (word("a", [0, 0, 1]), "give a text and a box"),
        (word("a", [0, 0, float("nan"), 1]), "that rise"),
        (word("a", [0.5, 0, 0.2, 1]), "that rise"),
        (word("a", [10, 10, 200, 60]), "which is in pixels"),
    ],
)
def test_wrong_words_are_named(wrong, told):
    with pytest.raises(ValueError, match=f"OCR word 1.*{told}"):
        kept_words([word("a"), wrong])


def test_words_among_regions_are_taken_out():
    regions = {
        "region_features": np.arange(6.0).reshape(3, 2),
        "region_boxes": np.array([WHOLE, [0, 0, 0.5, 0.5], [0.5, 0, 1, 1]]),
        "region_scores": np.array([0.9, 0.8, 0.7]),
        "region_texts": ["", "STOP", " "],
        "clip_ids": "clip",
    }
    objects, [own] = split_words(regions)
    assert objects["region_features"].tolist() == [[0, 1], [4, 5]] and objects["region_scores"].tolist() == [0.9, 0.7]
    assert objects["clip_ids"] == "clip" and "region_texts" not in objects
    assert own["text"] == "STOP" and own["score"] == 0.8 and own["feature"].tolist() == [2, 3]
    without = {name: values for name, values in regions.items() if name != "region_texts"}
    assert split_words(without) == (without, [])
