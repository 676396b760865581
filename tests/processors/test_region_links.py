"""Words that carry regions: tags in brackets, tokens, and the processor's `word_regions`."""

import pytest

from processors.region_links_updown import RegionLink, padded_links, plain_text, word_links
from tests.tiny import tiny_fusion_processor

TAGS = {"person1": [2], "two": [0, 3]}


def test_tags_become_words_that_carry_regions() -> None:
    text, links = plain_text("why do [two] look at [person1]?", TAGS)
    assert text == "why do two look at person1?"
    assert links == [RegionLink(7, 10, (0, 3)), RegionLink(19, 26, (2,))]
    assert [text[link.start : link.end] for link in links] == ["two", "person1"]
    assert plain_text("no tag", {}) == ("no tag", [])


def test_a_tag_without_a_region_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the tag \[cup1\], which names no region; .* \[person1\], \[two\]"):
        plain_text("where is [cup1]?", TAGS)
    with pytest.raises(ValueError, match="have the tags none"):
        plain_text("[person1]", {})


def test_every_piece_of_a_word_carries_its_regions() -> None:
    found = word_links([(0, 0), (0, 4), (4, 6), (6, 9), (0, 0)], [RegionLink(2, 6, (5,)), RegionLink(6, 9, (1, 4))])
    assert found == [[-1, -1], [5, -1], [5, -1], [1, 4], [-1, -1]]
    assert word_links([(0, 3)], []) == [[]]
    assert padded_links([[[1]], []], length=2, left=True) == [[[-1], [1]], [[-1], [-1]]]


def test_the_processor_links_the_tokens_of_its_texts() -> None:
    processor = tiny_fusion_processor()
    texts = ["is [person1] a dog?", "a dog"]
    made = processor(text=texts, tags=TAGS, padding=True, return_tensors="pt")
    plain = processor(text=["is person1 a dog?", "a dog"], padding=True, return_tensors="pt")
    assert made["input_ids"].equal(plain["input_ids"])
    links = made["word_regions"]
    assert links.shape == (*made["input_ids"].shape, 1)
    pieces = processor.tokenizer.convert_ids_to_tokens(made["input_ids"][0])
    linked = [piece for piece, own in zip(pieces, links[0, :, 0].tolist(), strict=True) if own == 2]
    assert "".join(piece.removeprefix("##") for piece in linked) == "person1"
    assert (links[1] == -1).all()
    one = processor(text="is [person1] a dog?", tags=TAGS, return_tensors="pt")
    assert one["word_regions"][0].equal(links[0][: one["input_ids"].shape[1]])
    each = processor(text=texts, tags=[{"person1": [7]}, {}], padding=True, return_tensors="pt")
    assert each["word_regions"].max() == 7


def test_other_numbers_of_tags_than_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="tags for 1 texts, but 2 texts"):
        tiny_fusion_processor()(text=["a", "b"], tags=[TAGS], padding=True)
