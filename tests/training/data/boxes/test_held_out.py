"""Names held out: their boxes are crowds, their phrases gone, everything else is as it was."""

from typing import Any

import numpy as np
import pytest

from training.data.boxes.held_out import hold_out, listed_names, nouns_of
from training.data.boxes.names import COCO_NAMES
from training.data.boxes.rows import DetectionData, ImageListing, detection_dataset, detection_row

LEFT, RIGHT, WHOLE, TOP = [0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 1], [0.6, 0.6, 0.9, 0.9]
OBJECTS = ["dog", "hot dog", "person", "man", "puppy", "chair", "red star"]


def data_of(*things: tuple[list[float], int, list[int], list[int]], phrases: Any = ()) -> DetectionData:
    """One image: of each thing its box, object, further names and attributes; phrases with their places."""
    boxes, objects, others, attributes = zip(*things, strict=True)
    row = detection_row(
        ImageListing("a", "a.jpg", None, "train"),
        size=(100, 50),
        boxes=np.asarray(boxes, dtype=np.float32),
        object_ids=list(objects),
        attribute_ids=list(attributes),
        other_object_ids=list(others),
        regions=[(text, np.asarray(place, dtype=np.float32)) for text, place in phrases],
        image_bytes=b"no image, which nobody opens",
    )
    return DetectionData(detection_dataset([row]), OBJECTS, ["red", "tall"], {3: [4]})


def test_the_lists_are_coco_classes_in_two_parts() -> None:
    base, novel = listed_names(["coco_base"]), listed_names(["coco_novel"])
    assert (len(base), len(novel)) == (48, 17) and not {*base} & {*novel}
    assert {*base, *novel} < {*COCO_NAMES} and "dog" in novel and "person" in base
    assert listed_names(["dog", "coco_novel", "dog", "wug"]) == ["dog", *(n for n in novel if n != "dog"), "wug"]


def test_boxes_of_held_out_names_are_crowds_and_all_else_stays() -> None:
    """By word, in any form, by further names and finer nouns; not by finer names that only the vocabulary lists."""
    things = [(LEFT, 1, [], [1]), (RIGHT, 2, [], []), (TOP, 3, [4], []), (TOP, 5, [], []), (LEFT, 6, [1], [])]
    data = data_of(*things)
    held, told = hold_out(data, ["dog"])
    row = held.rows.with_format(None).cast_column("image", data.rows.features["image"].__class__(decode=False))[0]
    assert row["crowd"] == [True, True, False, True, True]
    assert row["object_ids"] == [1, 2, 3, 5, 6] and row["other_object_ids"] == [[], [], [4], [], []]
    assert row["image"]["bytes"] == b"no image, which nobody opens" and np.allclose(row["boxes"][2], TOP)
    assert told.names == ["dog", "hot dog", "puppy"] and (told.num_boxes, told.num_phrases) == (4, 0)
    assert held.object_names == data.object_names and held.covered == data.covered
    held, told = hold_out(data, ["man"])  # a person's further name, which nobody said
    assert held.rows["crowd"][0] == [False] * 5 and held.rows["other_object_ids"][0][2] == []
    held, told = hold_out(data, ["person"])
    assert held.rows["crowd"][0] == [False, False, True, False, False] and told.names == ["person", "man"]
    held, told = hold_out(data, ["red"])  # attributes, and names that hold the word
    assert held.rows["crowd"][0] == [True, False, False, False, False] and told.names == ["red star", "red"]


def test_phrases_of_held_out_names_are_dropped_and_their_places_are_no_background() -> None:
    phrases = [("Two Dogs", RIGHT), ("a puppy", LEFT), ("a chair", TOP), ("a dog on a chair", WHOLE), ("dogma", TOP)]
    held, told = hold_out(data_of((LEFT, 1, [], []), (TOP, 6, [], []), phrases=phrases), ["dog"])
    row = held.rows.remove_columns(["image"])[0]
    assert [said["phrase"] for said in row["regions"]] == ["a chair", "dogma"]
    assert row["crowd"] == [True, False, True] and row["boxes"][2] == RIGHT  # the whole image is no thing's place
    assert row["object_ids"] == [1, 6, 1]
    assert row["attribute_ids"] == [[]] * 3 == row["other_object_ids"] == row["polygons"]
    assert (told.num_boxes, told.num_phrases) == (1, 3)


def test_nouns_have_their_plurals() -> None:
    assert {"knife", "knives", "bus", "buses"} <= {*nouns_of("knife"), *nouns_of("bus")}
    assert nouns_of("Red Star") == ["red stars", "red star"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "give one or more"),
        (["dog", " "], "none of them empty"),
        (["wug", "blick"], "nothing in the data is called wug, blick"),
    ],
)
def test_mistakes(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hold_out(data_of((LEFT, 1, [], [])), names)


def test_a_name_that_nothing_has_is_told() -> None:
    with pytest.warns(UserWarning, match="held out, but in no name and no phrase of the data: wug$"):
        hold_out(data_of((LEFT, 1, [], [])), ["dog", "wug"])
