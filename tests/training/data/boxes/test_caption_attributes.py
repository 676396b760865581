"""Attributes from captions: what a caption says of which class, and which of an image's boxes get it."""

from collections import Counter

import pytest

from tests.shared_files import shared
from training.data.boxes.caption_attributes import (
    ATTRIBUTES,
    CLASS_NOUNS,
    attributes_of_boxes,
    labels_by_captions,
    mentions_in,
    plural_of,
)
from training.data.boxes.names import COCO_NAMES
from training.data.captions.formats import load_captions

CASES = [
    ("a brown dog runs with two white cats", [("dog", False, "brown running"), ("cat", True, "white")]),
    ("A black and white dog", [("dog", False, "black white")]),
    ("A small, brown and tan dog is wet .", [("dog", False, "brown small tan wet")]),
    ("a tan colored dog", [("dog", False, "tan")]),
    ("The two fluffy puppies are sleeping", [("dog", True, "furry lying young")]),
    ("little girl", [("person", False, "female young")]),
    ("a brown haired boy", [("person", False, "male young")]),
    ("a young blond man in a red shirt", [("person", False, "blond male young")]),
    ("black men and a large crowd", [("person", True, "male"), ("person", True, "")]),
    ("smiling women sit on a wooden bench", [("person", True, "female sitting smiling"), ("bench", False, "wooden")]),
    ("a hockey player", [("person", False, "hockey")]),
    ("kicks a yellow soccer ball", [("sports ball", False, "soccer yellow")]),
    ("the red football", [("sports ball", False, "football red")]),
    ("a dirt bike rider passes a blue dirt bike", [("person", False, ""), ("motorcycle", False, "blue")]),
    ("old people riding brown horses", [("person", True, "old riding"), ("horse", True, "brown")]),
    ("the red dog house at the train station", []),
    ("horse riding", [("horse", False, "")]),
    ("a parked car, red", [("car", False, "parked")]),
    ("a red car parked here", [("car", False, "parked red")]),
    ("a hot dog on a large dining table", [("hot dog", False, ""), ("dining table", False, "large")]),
    ("The doggedly brown Carpet", []),
    ("", []),
    ("狗 🐕 ,,, and and", []),
]


@pytest.mark.parametrize(("caption", "expected"), CASES, ids=[caption[:30] or "empty" for caption, _ in CASES])
def test_what_a_caption_says_of_which_class(caption: str, expected: list[tuple[str, bool, str]]) -> None:
    found = mentions_in(caption, COCO_NAMES)
    assert [(one.label, one.plural, " ".join(sorted(one.attributes))) for one in found] == expected


def test_classes_that_are_not_of_coco_are_found_by_their_name() -> None:
    (mention,) = mentions_in("three red fire trucks", ["fire truck"])
    assert (mention.label, mention.plural, mention.attributes) == ("fire truck", True, {"red"})
    assert mentions_in("a red fire truck", ["truck"])[0].attributes == {"red"}


def test_the_one_box_of_a_class_gets_what_enough_captions_say() -> None:
    captions = ["A brown dog.", "A brown and white dog", "A tan dog", "A brown dog", "A dog"]
    # of four mentions with a colour: brown 3, white 1, tan 1; a third is needed
    assert attributes_of_boxes(["dog"], [1.0], captions) == [["brown"]]
    assert attributes_of_boxes(["dog"], [1.0], captions[1:3]) == [["white", "brown", "tan"]]


def test_man_against_woman_is_decided_by_the_majority_or_not_at_all() -> None:
    assert attributes_of_boxes(["person"], [1.0], ["a man", "a woman", "a man"]) == [["male"]]
    assert attributes_of_boxes(["person"], [1.0], ["a man", "a woman"]) == [[]]


def test_of_several_boxes_all_get_what_is_said_of_all() -> None:
    labels, areas = ["dog", "dog", "person", "person"], [4.0, 3.0, 9.0, 9.0]
    captions = ["Two brown dogs and two men", "Dogs run past a man and a man"]
    assert attributes_of_boxes(labels, areas, captions) == [["brown", "running"]] * 2 + [["male"]] * 2
    assert attributes_of_boxes(["person"] * 2, [1.0, 1.0], ["two boys and a man"]) == [["male"]] * 2
    assert attributes_of_boxes(["dog"] * 2, [1.0, 1.0], ["two brown dogs", "a black dog and a brown dog"]) == [[], []]
    assert attributes_of_boxes(["dog"], [1.0], ["two brown dogs"]) == [["brown"]]


def test_the_background_gets_nothing() -> None:
    assert attributes_of_boxes(["person"] * 3, [10.0, 5.0, 1.0], ["two girls"]) == [["young", "female"]] * 2 + [[]]


def test_a_caption_on_one_means_the_box_far_larger_than_the_others() -> None:
    assert attributes_of_boxes(["dog"] * 3, [1.0, 9.0, 3.0], ["a wet dog"]) == [[], ["wet"], []]
    assert attributes_of_boxes(["dog"] * 2, [9.0, 4.0], ["a wet dog"]) == [[], []]


def test_images_without_boxes_or_captions() -> None:
    assert attributes_of_boxes([], [], ["a wet dog"]) == []
    assert attributes_of_boxes(["dog"], [0.0], []) == [[]]
    assert attributes_of_boxes(["unicorn"], [1.0], ["a white unicorn"]) == [["white"]]


def test_animals_are_what_the_captions_name() -> None:
    labels = ["cow", "dog", "person", "giraffe"]
    assert labels_by_captions(labels, ["A puppy runs", "a man"]) == ["dog", "dog", "person", "dog"]
    assert labels_by_captions(labels, ["a dog and a cow"]) == ["cow", "dog", "person", None]
    assert labels_by_captions(labels, ["nothing"]) == [None, None, "person", None]
    assert labels_by_captions(labels, []) == labels


def test_plurals() -> None:
    nouns = ("boy", "puppy", "box", "bus", "couch", "person", "computer mouse", "sheep", "skis")
    expected = ["boys", "puppies", "boxes", "buses", "couches", "people", "computer mice", "sheep", "skis"]
    assert [plural_of(noun) for noun in nouns] == expected


def test_lists_hold_together() -> None:
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == 42
    assert set(CLASS_NOUNS) <= set(COCO_NAMES)
    nouns = Counter(noun.strip() for text in CLASS_NOUNS.values() for noun in text.split(","))
    assert max(nouns.values()) == 1, "a noun that names two classes"


def test_attributes_occur_in_real_captions() -> None:
    rows = load_captions("karpathy", annotations=shared("data/flickr8k/dataset_flickr8k.json"), split="train")
    said = Counter(
        name
        for captions in rows["captions"][:600]
        for caption in captions
        for mention in mentions_in(caption, COCO_NAMES)
        for name in mention.attributes
    )
    assert set(ATTRIBUTES) - set(said) <= {"pink", "basketball", "hockey"}
    assert (said["young"], said["brown"], said["running"]) == (1132, 148, 195)
