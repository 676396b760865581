"""Items of multiple choice: texts once, links to objects, and what does not fit together."""

from dataclasses import replace

import pytest

from processors.region_links_updown import RegionLink
from training.data.boxes.rows import ImageListing
from training.data.choices.rows import ChoiceItem, ChoiceText, choice_data

IMAGE = ImageListing("7", "", None, "train")
TAGGED = ChoiceText("is Casey here?", (RegionLink(3, 8, (0,)),))
YES, NO = ChoiceText("yes"), ChoiceText("no")
BOX = [0.0, 0.0, 0.5, 1.0]
ITEM = ChoiceItem("7-answer", "7", "answer", IMAGE, (TAGGED,), (YES, NO), 1, boxes=[BOX], names=["person"])


def test_texts_stand_once_and_rows_name_them() -> None:
    other = replace(ITEM, item_id="7-rationale", kind="rationale", context=(TAGGED, NO), candidates=(NO, YES), label=0)
    data = choice_data([ITEM, other], source="here")
    assert data.texts["text"][:] == ["is Casey here?", "yes", "no"]
    assert data.texts[0]["links"] == [{"start": 3, "end": 8, "objects": [0]}] and data.texts[1]["links"] == []
    assert data.rows["context"][:] == [[0], [0, 2]] and data.rows["candidates"][:] == [[1, 2], [2, 1]]
    assert data.rows[0]["boxes"] == [BOX] and data.rows[0]["names"] == ["person"] and data.rows[0]["label"] == 1


def test_the_same_words_with_other_links_are_another_text() -> None:
    plain = replace(ITEM, item_id="b", context=(ChoiceText("is Casey here?"),))
    assert len(choice_data([ITEM, plain], source="here").texts) == 4


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "guess"}, "is of the kind 'guess'; choose one of answer, rationale, round"),
        ({"candidates": (YES,)}, "has 1 candidates and 1 texts before them"),
        ({"context": ()}, "has 2 candidates and 0 texts before them"),
        ({"label": 2}, "has the label 2, which names none of its 2 candidates"),
        ({"relevance": (1.0,)}, "has 1 relevances of 2 candidates"),
        ({"relevance": (1.0, 2.0)}, "has a relevance that is not in 0..1"),
        ({"names": ()}, "has 1 boxes and 0 names"),
        ({"boxes": (), "names": ()}, "the tag 'Casey' of object 0, but its image has 0 objects: a tag needs a region"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        choice_data([replace(ITEM, **changes)], source="here")


def test_ids_stand_once_and_there_is_an_item() -> None:
    with pytest.raises(ValueError, match="here: the item '7-answer' stands in it twice"):
        choice_data([ITEM, ITEM], source="here")
    with pytest.raises(ValueError, match="here has no item to choose for"):
        choice_data([], source="here")
