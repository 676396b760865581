"""CHAIR: how many of the objects that captions name are not in their images (Rohrbach et al. 2018).

    captions --mentions--> objects of each; boxes and human captions --> objects that are there --chair--> the shares

Equal to the official script (LisaAnne/Hallucination, `utils/chair.py`); `chair_words.py` says which words count.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

from training.metrics.captioning.chair_words import Variant, mentions, objects_named


def chair(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    objects: Sequence[Collection[str]],
    *,
    variant: Variant = "official",
) -> dict[str, Any]:
    """The shares of captions, and of objects named in them, that their images do not show.

    An object is there if it has a box or if a human caption names it.

    Args:
        captions: raw captions.
        references: for each caption its image's human captions; empty where there are none, which leaves the boxes.
        objects: for each caption the names of its image's boxes; others than COCO's 80 and their synonyms do not count.
        variant: `official` reads captions as the published script does, which never finds "bus"; `corrected` finds
            words as they stand and their plurals (`training/metrics/captioning/chair_words.py`).

    Returns:
        `chair_s`: share of captions with such an object; `chair_i`: share of such mentions among all, with repetition,
        NaN where no caption names an object; `recall`: objects that are there and named, each once a caption, over
        those that are there (Maxlinn's port); all 0..1. `counts`: `captions`, `hallucinated_captions`, `mentions`,
        `hallucinated_mentions`. `per_item`: for each caption `chair_s`, `chair_i` (0 without mentions), `recall` (NaN
        where nothing is there), `objects`, `hallucinated` (pairs of word and object), `hallucinated_places` (of words
        of `treebank_tokenize`), `words`.

    Raises:
        ValueError: for columns of different lengths, no caption, and an unknown variant.
        TypeError: for one string in the place of a list of captions or names, and a caption that is no string.

    Example:
        >>> scores = chair(["a dog on a bench", "two cats"], [["a dog sits"], ["cats asleep"]], [["dog"], ["cat"]])
        >>> scores["chair_s"], round(scores["chair_i"], 4)
        (0.5, 0.3333)
    """
    _check_lists(captions, references, objects)
    rows = zip(captions, references, objects, strict=True)
    per_item = [_of_one(caption, texts, names, variant=variant) for caption, texts, names in rows]
    hallucinated = sum(len(item["hallucinated"]) for item in per_item)
    named = sum(len(item["objects"]) for item in per_item)
    there = sum(item["there"] for item in per_item)
    found = sum(item.pop("found") for item in per_item)
    wrong = sum(item["chair_s"] for item in per_item)
    for item in per_item:
        del item["there"]
    return {
        "chair_s": wrong / len(captions),
        "chair_i": hallucinated / named if named else math.nan,
        "recall": found / there if there else math.nan,
        "counts": {
            "captions": len(captions),
            "hallucinated_captions": int(wrong),
            "mentions": named,
            "hallucinated_mentions": hallucinated,
        },
        "per_item": per_item,
    }


def objects_there(references: Sequence[str], names: Collection[str], *, variant: Variant = "official") -> set[str]:
    """COCO's objects that an image shows: those of its boxes, and those that its human captions name.

    >>> sorted(objects_there(["a man rides"], ["horse"]))
    ['horse', 'person']
    """
    named = (mentions(text, variant=variant).objects for text in references)
    return objects_named(names, variant=variant).union(*named)


def _check_lists(captions: Sequence[str], references: Sequence[Any], objects: Sequence[Any]) -> None:
    """`ValueError` for different lengths or none; `TypeError` where a string would be read letter by letter."""
    if not len(captions) == len(references) == len(objects) or not len(captions):
        raise ValueError(
            f"{len(captions)} captions, references of {len(references)} and boxes of {len(objects)}: pass one or more "
            "captions, and for each the human captions and the names of the boxes of its image"
        )
    if isinstance(captions, str):
        raise TypeError("captions is one string; pass a list with one caption per image")
    for number, caption in enumerate(captions):
        if not isinstance(caption, str):
            raise TypeError(f"captions[{number}] is a {type(caption).__name__}, not a string")
    for name, column in (("references", references), ("objects", objects)):
        place = next((place for place, one in enumerate(column) if isinstance(one, str)), None)
        if place is not None:
            raise TypeError(f"{name}[{place}] is one string; pass a list for each caption, even if it holds only one")


def _of_one(caption: str, references: Sequence[str], names: Collection[str], *, variant: Variant) -> dict[str, Any]:
    there = objects_there(references, names, variant=variant)
    said = mentions(caption, variant=variant)
    wrong = [number for number, name in enumerate(said.objects) if name not in there]
    found = len(there.intersection(said.objects))
    return {
        "chair_s": float(bool(wrong)),
        "chair_i": len(wrong) / len(said.objects) if said.objects else 0.0,
        "recall": found / len(there) if there else math.nan,
        "objects": [*said.objects],
        "hallucinated": [(said.named[number], said.objects[number]) for number in wrong],
        "hallucinated_places": [said.places[number] for number in wrong],
        "words": [*said.words],
        "there": len(there),
        "found": found,
    }
