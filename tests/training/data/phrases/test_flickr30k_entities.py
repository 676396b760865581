"""Flickr30k Entities as grounding data: official files and joined JSON, where phrases stand, what is left out."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from tests.training.data.boxes.test_flickr30k_entities import SIZE, A, B, C, as_json, write_image
from training.data.boxes.entities_files import joined_image, parse_sentence
from training.data.boxes.rows import ImageListing
from training.data.phrases.formats import load_phrases
from training.data.phrases.rows import GroundedPhrase, phrase_row

SENTENCES = [
    "[/EN#1/people A man] and [/EN#2/people/other another man] in [/EN#0/notvisual front] of [/EN#4/scene a lake] .",
    "Nobody is here .",
    "[/EN#3/animals Dogs] run .",
]


def read(path: Path, **options: Any) -> Any:
    return load_phrases("flickr30k_entities", annotations=path, **options)


def told(row: dict[str, Any]) -> list[tuple[str, list[tuple[str, list[str], list[list[int]]]]]]:
    """Sentences with their phrases' words, kinds and boxes in pixels."""
    return [
        (
            text,
            [
                (
                    text[phrase["start"] : phrase["end"]],
                    phrase["kinds"],
                    np.round(np.array(phrase["boxes"]) * np.tile(SIZE, 2)).astype(int).tolist(),
                )
                for phrase in own
            ],
        )
        for text, own in zip(row["captions"], row["phrases"], strict=True)
    ]


def test_phrases_stand_where_they_are_marked_with_all_their_boxes(tmp_path: Path) -> None:
    """Phrases without a box, and sentences without such a phrase, are not there."""
    write_image(tmp_path, "1", {"1": [A], "2": [B], "3": [B, C]}, SENTENCES)
    write_image(tmp_path, "2", {}, ["[/EN#1/people A man] ."])
    (row,) = read(tmp_path)
    assert told(row) == [
        (
            "A man and another man in front of a lake .",
            [("A man", ["people"], [A]), ("another man", ["people", "other"], [B])],
        ),
        ("Dogs run .", [("Dogs", ["animals"], [B, C])]),
    ]
    assert row["phrases"][0][1]["start"] == 10 and row["image_id"] == "1" and row["image"] is None


def test_official_files_and_joined_json_give_the_same_rows(tmp_path: Path) -> None:
    write_image(tmp_path, "1", {"1": [A], "2": [B], "3": [B, C]}, SENTENCES)
    write_image(tmp_path, "2", {"1": [C]}, ["[/EN#1/animals A woman 's man] sees [/EN#1/people man] ."])
    for name, ids in (("train", ["2"]), ("val", ["1"]), ("test", [])):
        (tmp_path / f"{name}.txt").write_text("\n".join(ids))
    path = tmp_path / "joined.json.gz"
    path.write_bytes(gzip.compress(json.dumps(as_json(tmp_path, splits={"1": "val", "2": "train"})).encode()))
    official, joined = read(tmp_path, split_lists=tmp_path), read(path)
    assert official[:] == joined[:] and official["split"][:] == ["val", "train"]
    assert [p["start"] for p in joined[1]["phrases"][0]] == [0, 20]
    assert read(path, split="train")["image_id"][:] == ["2"]


def test_unusable_boxes_are_left_out_with_a_warning(tmp_path: Path) -> None:
    outside = [600, 10, 700, 50]
    write_image(tmp_path, "1", {"1": [A, outside], "2": [outside]}, ["[/EN#1/people A man] with [/EN#2/other a hat] ."])
    with pytest.warns(UserWarning, match=r"left out 1 phrases whose boxes that are empty.*first: of image 1"):
        (row,) = read(tmp_path)
    assert told(row) == [("A man with a hat .", [("A man", ["people"], [A])])]


def test_mistakes_are_named(tmp_path: Path) -> None:
    write_image(tmp_path, "1", {}, ["[/EN#1/people A man] ."])
    with pytest.raises(ValueError, match="no phrase of .* has a box; is it the file of another data set"):
        read(tmp_path)
    record = {"filename": "1.jpg", "orig_width": 10, "orig_height": 10, "boxes": {}}
    phrases = [{"phrase": "a man", "chain": 1, "types": []}, {"phrase": "a dog", "chain": 1, "types": []}]
    record["sentences"] = [{"tokens": ["a", "dog", "and", "a", "man"], "phrases": phrases}]
    with pytest.raises(ValueError, match="the phrase 'a dog' does not follow in 'a dog and a man'"):
        joined_image(record, source="entities.json")
    listing = ImageListing("1", "1.jpg", None, "train")
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    for phrases in (
        [],
        [GroundedPhrase(0, 9, box)],
        [GroundedPhrase(0, 3, box[:0])],
        [GroundedPhrase(3, 3, box)],
        [GroundedPhrase(0, 3, box, absent=True)],
        [GroundedPhrase(0, 3, box, candidates=box / 2)],
        [GroundedPhrase(0, 3, box, polygons=[[[0, 0, 1, 0, 1, 1]]] * 2)],
    ):
        cure = "give each sentence phrases of its words|give those of each, or none"
        with pytest.raises(ValueError, match=f"the image '1' has .*({cure})"):
            phrase_row(listing, sentences=[("a man", phrases)])


def test_words_before_a_mark_and_blanks_in_it_count() -> None:
    found = parse_sentence("So [/EN#1/people  a man ] and [/EN#2/other it] .")
    assert found.text == "So  a man  and it ."
    assert [found.text[p.start : p.start + len(p.text)] for p in found.phrases] == ["a man", "it"]


def test_real_phrases_stand_where_the_file_says() -> None:
    """Of 300 images: the first word that the file gives, and the numbers of phrases with boxes."""
    path = shared("data/flickr8k/entities.json.gz")
    with gzip.open(path) as file:
        records = json.load(file)[::27]
    seen = 0
    for record in records:
        image = joined_image(record, source=path)
        for sentence, given in zip(image.sentences, record["sentences"], strict=True):
            for phrase, part in zip(sentence.phrases, given["phrases"], strict=True):
                before = given["tokens"][: part["first_word"]]
                assert sentence.text[: phrase.start].split() == before
                seen += 1
    assert len(records) > 290 and seen > 4000
