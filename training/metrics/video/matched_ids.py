"""Predictions and annotations that name each other by an id, brought into one order; ids that do not match are errors.

    records of predictions + records of annotations --matched_predictions--> a prediction of each annotation

Ids are compared as text, so 12 and "12" are equal.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.data.files import id_text, listed


def matched_predictions(
    predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]], *, key: str
) -> list[Mapping[str, Any]]:
    """The prediction of each annotation, in the order of the annotations.

    Args:
        predictions, ground_truth: records with an id under `key`.

    Raises:
        ValueError: for no annotation, a record without an id, an id that stands twice, and ids that only one side has
            (up to five of them, and how many).

    >>> matched_predictions([{"qid": 2, "a": 1}, {"qid": 1, "a": 0}], [{"qid": "1"}, {"qid": "2"}], key="qid")[0]["a"]
    0
    """
    found, wanted = (
        record_ids(records, key=key, what=what)
        for records, what in ((predictions, "predictions"), (ground_truth, "ground_truth"))
    )
    check_same_ids(found, wanted)
    places = {name: place for place, name in enumerate(found)}
    return [predictions[places[name]] for name in wanted]


def record_ids(records: Sequence[Mapping[str, Any]], *, key: str, what: str) -> list[str]:
    """The id of every record as text; ValueError for no record, and one without an id or with one that stood before."""
    if not records:
        raise ValueError(f"{what} holds no record; give at least one")
    lacking = next((place for place, record in enumerate(records) if record.get(key) is None), None)
    if lacking is not None:
        raise ValueError(f"{what}[{lacking}] has no {key!r}: {str(dict(records[lacking]))[:120]}")
    ids = [id_text(record[key]) for record in records]
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} has the {key} {twice} twice; keep one record of each")
    return ids


def check_same_ids(found: Sequence[str], wanted: Sequence[str]) -> None:
    """ValueError where predictions and annotations are not of the same questions, naming up to five of each side."""
    known, there = set(wanted), set(found)
    absent, strange = [name for name in wanted if name not in there], [name for name in found if name not in known]
    faults = [
        f"{len(names)} {words}: {listed(names)}"
        for names, words in ((absent, "queries have no prediction"), (strange, "predictions have no query"))
        if names
    ]
    if faults:
        raise ValueError(f"{'; '.join(faults)}; predict every query of the split exactly once")
