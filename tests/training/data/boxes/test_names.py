"""Names that cover others: COCO's classes in a vocabulary, and the finer names of each."""

import pytest

from tests.shared_files import shared
from training.data.boxes.names import (
    COCO_NAMES,
    COUNTERPARTS,
    FINER_NAMES,
    WIDER_NAMES,
    coco_id,
    covered_ids,
    finer_names,
)
from training.data.boxes.visual_genome import read_vocabulary


def test_classes_are_cocos() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert set(COUNTERPARTS) | set(FINER_NAMES) | set(WIDER_NAMES) <= set(COCO_NAMES)


def test_a_finer_name_is_no_class_of_coco_and_no_other_classs_finer_name() -> None:
    """But for the words that mean two things: a "cab" of one class is never one of another."""
    owners: dict[str, list[str]] = {}
    for name in COCO_NAMES:
        for finer in finer_names(name):
            owners.setdefault(finer, []).append(name)
    assert {finer: names for finer, names in owners.items() if len(names) > 1} == {}
    assert not set(owners) & set(COCO_NAMES)


@pytest.mark.parametrize(
    ("name", "covered", "not_covered"),
    [
        ("person", ("man", "skier", "jockey", "baby"), ("people", "crowd", "couple", "men", "hand", "statue")),
        ("dog", ("puppy",), ("cat", "dogs", "stuffed animal")),
        ("car", ("taxi", "suv", "jeep"), ("truck", "bus", "wheel")),
        ("boat", ("ship", "canoe", "kayak"), ("boats", "oar", "dock")),
        ("potted plant", (), ("plant", "flower")),
        ("baseball glove", ("mitt",), ("glove",)),
        ("tv", ("monitor", "computer screen"), ("tv stand",)),
    ],
)
def test_only_what_cocos_annotators_would_have_called_so_is_covered(
    name: str, covered: tuple[str, ...], not_covered: tuple[str, ...]
) -> None:
    finer = finer_names(name)
    assert set(covered) <= set(finer) and not set(not_covered) & set(finer)


def test_ids_are_those_of_the_vocabulary_in_use() -> None:
    """A synonym of the class itself is no finer name, and a name the vocabulary lacks has no id."""
    ids = {"ball": 1, "soccer ball": 2, "television": 3, "tv": 3, "monitor": 4, "motorbike": 5, "dirt bike": 6}
    assert covered_ids(ids) == {1: [2], 3: [4]}
    assert [coco_id(name, ids) for name in ("sports ball", "tv", "motorcycle", "dog")] == [1, 3, None, None]


def test_visual_genome_has_a_name_for_all_of_coco_but_one() -> None:
    vocabulary = read_vocabulary(shared("data/vg_vocabulary/objects_vocab.txt"))
    assert [name for name in COCO_NAMES if coco_id(name, vocabulary.ids) is None] == ["potted plant"]
    covered = covered_ids(vocabulary.ids)
    person = covered[vocabulary.ids["person"]]
    assert len(person) == 51 and vocabulary.ids["umpire"] in person
    assert all(own not in ids and ids == sorted(set(ids)) for own, ids in covered.items())
    told = {finer for name in COCO_NAMES for finer in FINER_NAMES.get(name, "").split(",") if finer}
    assert {finer.strip() for finer in told} <= set(vocabulary.ids)  # they are Visual Genome's
