"""What noun phrases name: a table of phrases written for it, and what phrases do wrong."""

from collections.abc import Sequence

import pytest

from training.data.boxes.noun_phrases import PhraseNames, PhraseReader, singulars, split_phrase
from training.data.boxes.visual_genome import Vocabulary


def vocabulary(*lines: str) -> Vocabulary:
    ids = {name: number for number, line in enumerate(lines, start=1) for name in line.split(",")}
    return Vocabulary([line.split(",")[0] for line in lines], ids)


OBJECTS = vocabulary(
    *("person", "man", "men", "people", "woman", "girl", "little girl", "boy", "player", "soccer player", "group"),
    *("dog", "dogs", "puppy", "cat", "animal", "vehicle", "car", "truck", "fire truck", "bike", "dirt bike", "train"),
    *("shirt", "tshirt,t-shirt,t shirt", "jeans", "jean", "shoe", "shoes", "glasses", "glass", "clothing", "suit"),
    *("swimsuit", "hat", "hair", "hand", "mouth", "wall", "building", "tree", "trees", "rock", "pole", "orange"),
    *(
        "ball",
        "hot dog",
        "racket,racquet",
        "tennis racket,tennis racquet",
        "band",
        "crowd",
        "statue",
        "pants",
        "couple",
        "bus",
    ),
    *("cyclist", "railing", "water", "knife", "leaf", "bench", "motorcycle", "collar"),
)
ATTRIBUTES = vocabulary(
    *("red", "blue", "black", "white", "brown", "black and white", "tan", "light blue", "gray,grey", "blond", "blonde"),
    *("young", "little", "small", "large", "long", "short", "long sleeved,long sleeve", "striped", "wooden", "brick"),
    *("running", "smiling", "swimming", "snow-covered,snow covered", "open", "metal", "rock", "baby", "back", "bald"),
    *("soccer", "colorful", "multi colored,multi-colored", "stainless steel"),
)
READER = PhraseReader(OBJECTS, ATTRIBUTES)


def read(text: str, kinds: Sequence[str] = (), *, several: bool = False) -> tuple[list[str], list[str]]:
    found = READER.read(text, kinds=kinds, several=several)
    return [OBJECTS.names[i - 1] for i in found.objects], [ATTRIBUTES.names[i - 1] for i in found.attributes]


@pytest.mark.parametrize(
    ("text", "objects", "attributes"),
    [
        ("A dog", "dog", ""),
        ("the small brown dog", "dog", "small brown"),
        ("a black and white cat", "cat", "black_and_white black white"),
        ("one brown , black and white puppy", "puppy", "brown black_and_white black white"),
        ("a light blue t-shirt", "tshirt", "light_blue blue"),
        ("his grey tee shirt", "shirt", "gray"),  # no name of the vocabulary is "tee shirt"
        ("a long sleeve striped shirt", "shirt", "long_sleeved striped"),
        ("a short haired dog", "dog", ""),  # the hair is short
        ("a red collared dog", "dog", ""),  # the collar is red
        ("a blond-haired boy", "boy", "blond"),
        ("red-and-white hat", "hat", "red white"),
        ("a rust-colored dog", "dog", ""),
        ("blond-hair", "hair", "blond"),
        ("a fire truck", "fire_truck truck", ""),
        ("a dirt bike", "dirt_bike", ""),  # which is no bike
        ("a hot dog", "hot_dog", ""),
        ("a tennis racquet", "tennis_racket racket", ""),
        ("a soccer player", "soccer_player player", ""),
        ("a soccer ball", "ball", "soccer"),
        ("a swim suit", "swimsuit", ""),
        ("a little girl", "girl", "little"),  # "little girl" is a name of the vocabulary, too
        ("the young woman 's left hand", "hand", ""),
        ("the side of a brick building", "building", "brick"),
        ("a pair of blue jeans", "jeans", "blue"),
        ("an open mouth", "mouth", "open"),
        ("his mouth open", "mouth", ""),
        ("a snow covered tree", "tree", "snow-covered"),
        ("running shoes", "shoes", ""),  # which do not run
        ("a running dog", "dog", "running"),
        ("a rock climber", "person", ""),
        ("a golden retriever", "dog", ""),
        ("an orange", "orange", ""),
        ("a statue of a man", "statue", ""),
        ("a man in red", "man", ""),
        ("a man with a hat", "man", ""),
        ("near the wooden bench", "bench", "wooden"),
        ("the back of a bus", "bus", ""),
        ("handrail", "railing", ""),
        ("two of the dogs", "dogs", ""),
        ("player number 12", "", ""),  # "number" is the head, and no name of this vocabulary
        ('a man " in " a hat', "man", ""),
    ],
)
def test_a_phrase_names_its_head_and_its_adjectives(text: str, objects: str, attributes: str) -> None:
    expected = [[name.replace("_", " ") for name in names.split()] for names in (objects, attributes)]
    assert list(read(text)) == expected


@pytest.mark.parametrize(
    ("text", "kinds", "one_box", "several_boxes"),
    [
        ("two men", ("people",), ["men"], ["man"]),
        ("a group of men", ("people",), ["men", "group"], ["man"]),
        ("a group", ("people",), ["group"], ["person"]),
        ("a band", ("people",), ["people"], ["person"]),  # of musicians, not around a hat
        ("three wrestlers", ("people",), ["people"], ["person"]),
        ("a wrestler", ("people",), ["person"], ["person"]),
        ("others", ("people",), ["people"], ["person"]),
        ("a llama", ("animals",), ["animal"], ["animal"]),
        ("two dogs", ("animals",), ["dogs"], ["dog"]),
        ("two puppies", ("animals",), ["puppy"], ["puppy"]),
        ("blue jeans", ("clothing",), ["jeans"], ["jeans"]),  # a jean is none of several jeans
        ("her glasses", ("clothing",), ["glasses"], ["glasses"]),
        ("red and white", ("clothing",), ["clothing"], ["clothing"]),
        ("orange", ("clothing",), ["clothing"], ["clothing"]),
        ("orange", ("other",), ["orange"], ["orange"]),
        ("a man and a woman", ("people",), ["people"], ["person"]),
        ("a boy and girl", ("people",), ["people"], ["person"]),
        ("a dog and a cat", ("animals",), ["dog", "cat"], []),  # which box is which, nobody says
        ("a shirt and hat", ("clothing",), ["shirt", "hat"], []),
        ("trees and rocks", ("other",), ["trees", "rock"], []),
        ("leaves", ("other",), ["leaf"], ["leaf"]),
        ("knives", ("other",), ["knife"], ["knife"]),
    ],
)
def test_several_boxes_are_one_thing_each(
    text: str, kinds: tuple[str, ...], one_box: list[str], several_boxes: list[str]
) -> None:
    assert read(text, kinds)[0] == one_box
    assert read(text, kinds, several=True)[0] == several_boxes


def test_people_have_no_colour_but_their_hair() -> None:
    assert read("a black man") == (["man"], []) and read("a bald white man")[1] == ["bald"]
    assert read("a blonde girl")[1] == ["blonde"] and read("a young blond woman")[1] == ["young", "blond"]
    assert read("two black dogs", several=True)[1] == ["black"]


def test_what_is_general_says_so() -> None:
    """A name of the kind alone, or of a person by their trade, gives way to a name that somebody said."""
    assert READER.read("a climber", kinds=("people",)).general
    assert READER.read("the other", kinds=("people",)).general
    assert not READER.read("a person", kinds=("people",)).general
    assert not READER.read("a greyhound", kinds=("animals",)).general


@pytest.mark.parametrize(
    "text",
    ["", " ", "the", "two", ", , ,", "of", "of of of", "and", "a of", "'s", "the 's", "in", "-", "--", "7", "the ´"],
)
def test_phrases_over_bad_words_name_nothing(text: str) -> None:
    for several in (False, True):
        assert READER.read(text, several=several) == PhraseNames()
        assert READER.read(text, kinds=("scene", "nonsense"), several=several) == PhraseNames()


def test_words_of_any_script_and_length_are_passed_over() -> None:
    assert read("a 犬") == ([], []) and read("a dog\u2028犬") == ([], [])
    assert read("a " + "very " * 2000 + "small dog") == (["dog"], ["small"])
    assert read("small-" * 500 + "dog") == (["dog"], ["small"])


def test_heads_of_phrases() -> None:
    (head,) = split_phrase(["three", "large", "piles", "of", "red", "bricks"])
    assert head.words == ("red", "bricks") and head.amount == "piles"
    nouns = {"cup", "saucer"}
    assert [h.words for h in split_phrase(["a", "cup", "and", "saucer"], nouns=nouns)] == [("cup",), ("saucer",)]
    assert [h.words for h in split_phrase(["a", "tall", "and", "cup"], nouns=nouns)] == [("tall", "and", "cup")]


def test_singulars() -> None:
    expected = {"dogs": "dog", "women": "woman", "people": "person", "buses": "bus", "wolves": "wolf", "geese": "goose"}
    assert {plural: singulars(plural)[0] for plural in expected} == expected
    assert [singulars(word) for word in ("grass", "dress", "bus", "stairs", "scissors", "dog")] == [[]] * 6
