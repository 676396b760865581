"""Texts of multiple choice as token ids: what is cut, and what carries objects."""

from processors.region_links_updown import RegionLink
from tests.tiny import tiny_tokenizer
from training.data.boxes.rows import dataset_of
from training.data.choices.rows import TEXT_FEATURES
from training.tasks.choice_texts import encoded_texts


def test_texts_are_cut_and_words_carry_objects() -> None:
    link = RegionLink(2, 5, (4, 1))
    rows = [
        {"text": "a dog runs", "links": [{"start": link.start, "end": link.end, "objects": list(link.regions)}]},
        {"text": "", "links": []},
        {"text": "a a a a a a a", "links": []},
    ]
    texts = encoded_texts(dataset_of(rows, TEXT_FEATURES), tiny_tokenizer(), max_words=5)
    ids, objects = texts.tokens_of(0)
    pieces = tiny_tokenizer().convert_ids_to_tokens(ids)
    assert [piece for piece, own in zip(pieces, objects, strict=True) if own] == ["dog"]
    assert objects[1] == [4, 1] and texts.tokens_of(1) == ([1], [[]])  # no word is the unknown one
    assert texts.lengths.tolist()[2] == 5 and len(texts) == 3
