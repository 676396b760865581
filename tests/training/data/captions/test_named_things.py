"""What captions name in the words of a vocabulary: hand-written sentences, and the rules one by one."""

from pathlib import Path

import datasets
import pytest

from training.data.boxes.visual_genome import Vocabulary
from training.data.captions.formats import load_captions
from training.data.captions.named_things import MOST_REGIONS, ThingFinder, vocabulary_of, with_things

OBJECTS = (
    *("person", "man", "woman", "boy", "child", "dog", "dogs", "cat", "horse", "bird", "ball", "tennis ball", "shirt"),
    *("shorts", "hat", "glasses", "glass", "jeans", "tshirt,t-shirt", "sofa,couch", "table", "hill", "water", "beach"),
    *("orange", "swing", "wave", "light", "train", "train station", "hot dog", "family", "photo", "picture", "street"),
    *("knife", "sheep", "back", "black", "fire hydrant,hydrant", "pitcher's mound", "watch", "sign", "box"),
)
ATTRIBUTES = (
    *("black", "white", "brown", "orange", "light", "old", "young", "male", "small,little,tiny", "wooden,wood"),
    *("running", "sitting", "riding", "playing", "multi colored,multi-colored", "wet", "gray,grey", "striped"),
)


@pytest.fixture(scope="module")
def finder() -> ThingFinder:
    return ThingFinder(vocabulary_of(OBJECTS), vocabulary_of(ATTRIBUTES))


def told(finder: ThingFinder, caption: str) -> str:
    """The things as `2 small black dog, hill`: the number but for 1, the attributes, the name; 0 is several."""
    return ", ".join(
        " ".join([*([str(thing.number)] if thing.number != 1 else []), *thing.attributes, thing.name])
        for thing in finder.things_in(caption)
    )


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A black dog runs up a hill.", "black running dog, hill"),
        (
            "Two tiny black and white puppies sitting on a wooden table",
            "2 small black white young sitting dog, wooden table",
        ),
        ("An old man in a striped T-shirt and jeans is riding a horse .", "old man, striped tshirt, jeans, horse"),
        ("A boy in orange shorts plays with a tennis ball", "boy, orange shorts, tennis ball"),
        ("Several women wearing glasses and hats", "0 woman, glasses, 0 hat"),
        ("A man and a woman sit , a glass of water on the couch", "man, sitting woman, glass, water, sofa"),
        ("A multi-colored bird on a grey fire hydrant", "multi colored bird, gray fire hydrant"),
        ("people watch the dogs", "0 person, 0 dog"),
        ("A crowd of people on the street by the train station", "0 person, street, train station"),
        ("The wet wood table has an orange and a knife on it", "wet wooden table, orange, knife"),
        ("A picture of a cat", "cat"),
        ("A framed picture hangs over the sofa", "picture, sofa"),
        ("a man taking photos of a family of sheep", "man, family, sheep"),
        ("A dog swings from a rope beside a swing", "dog, swing"),
        ("A toddler on the beach", "young child, beach"),
        ("A group of surfers riding a wave", "0 riding person, wave"),
        ("A man wants to watch the light brown horses", "man, 0 brown horse"),
        ("The man's back is turned to the pitcher's mound", "pitcher's mound"),
        ("Ein Hund rennt über das Gras", ""),
        ("", ""),
        ("!!! , . 's", ""),
        ("DOG", "dog"),
    ],
)
def test_what_a_caption_names(finder: ThingFinder, caption: str, expected: str) -> None:
    assert told(finder, caption) == expected


def test_finer_nouns_name_what_the_vocabulary_has() -> None:
    """Of COCO's classes alone a woman is a person; with a name of her own she is not."""
    coco = ThingFinder(vocabulary_of(["person", "dog", "couch"]), vocabulary_of(["female", "young", "tan", "running"]))
    assert told(coco, "A girl and two golden retrievers on a sofa") == "young female person, 2 tan dog, couch"
    own = ThingFinder(vocabulary_of(["person", "girl"]), vocabulary_of(["female", "young"]))
    assert told(own, "A girl and a woman") == "girl, female person"


def test_synonyms_are_of_names_that_are_there() -> None:
    finder = ThingFinder(vocabulary_of(["couch"], {"settee": "couch", "pup": "dog"}), Vocabulary([], {}))
    assert told(finder, "a pup on two old settees") == "2 couch"


def test_the_things_of_an_image_are_those_of_all_captions(finder: ThingFinder) -> None:
    captions = ["Two dogs", "A black dog and a white dog on a hill", "a dog runs", "dogs, dogs, dogs", "a small hill"]
    assert finder.things_of(captions) == [
        ("dog", ("black", "running")),
        ("dog", ("white",)),
        ("hill", ("small",)),
        *[("dog", ())] * (MOST_REGIONS - 2),
    ]
    assert finder.things_of(["eight cats"]) == [("cat", ())] * MOST_REGIONS
    assert finder.things_of([]) == []


def test_equal_phrases_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = ThingFinder(vocabulary_of(OBJECTS), vocabulary_of(ATTRIBUTES))
    read, texts = finder.reader.read, []
    monkeypatch.setattr(finder.reader, "read", lambda text, **more: texts.append(text) or read(text, **more))
    captions = ["A black dog runs up a hill.", "A black dog sits by a cat", "Up a hill, a black dog"]
    told_once = [told(finder, caption) for caption in captions]
    assert texts == ["a black dog", "a hill", "a cat"]
    assert [told(finder, caption) for caption in captions] == told_once and len(texts) == 3
    assert told_once[0] == "black running dog, hill" and told_once[2] == "hill, black dog"


def test_rows_get_a_column_of_what_they_name(finder: ThingFinder, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("7\tA brown dog\n7\tA dog on a hill\n8\tnothing\n")
    rows = with_things(load_captions("texts", texts=str(tmp_path / "a.txt")), finder)
    assert isinstance(rows, datasets.Dataset) and rows["image_id"][:] == ["7", "8"]
    assert rows["things"][:] == [[{"name": "dog", "attributes": ["brown"]}, {"name": "hill", "attributes": []}], []]
