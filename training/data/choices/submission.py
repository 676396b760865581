"""Chosen candidates as the files that the organisers of VCR and VisDial take.

    predictions --write_submission("vcr")--> a CSV: annot_id, answer_0 .. 3, rationale_conditioned_on_a0_0 .. a3_3
    predictions --write_submission("visdial")--> a JSON list: image_id, round_id, ranks of the candidates

A prediction has `item_id`, `group`, `kind` and the `scores` of its candidates.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.data.choices.vcr import NUM_CHOICES
from training.data.files import PathLike, write_atomically, write_json

CONDITIONS = [f"rationale_conditioned_on_a{number}" for number in range(NUM_CHOICES)]
Rows = Sequence[Mapping[str, Any]]


def check_submitted(format: str, rows: Rows, *, split: str) -> None:
    """`ValueError` for items of VCR whose rationales were not read after each of the four answers.

    Those of a split with labels are read after the right answer alone, and the organisers score hidden ones.
    """
    if format == "vcr" and not any(row["item_id"].endswith("-rationale-0") for row in rows):
        raise ValueError(
            f"the split {split!r} has its labels, and VCR's organisers score those of its test set: name another split"
        )


def write_submission(format: str, predictions: Rows, path: PathLike) -> None:
    """Write the upload file of a data set (`vcr` or `visdial`); it is there whole or not at all.

    Raises `ValueError` for another format, for a question of VCR without all of its five items, and for a round whose
    image id or number is none.
    """
    writers = {"vcr": write_vcr, "visdial": write_visdial}
    if format not in writers:
        raise ValueError(f"nobody takes choices of the format {format!r}; choose one of {', '.join(writers)}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    writers[format](predictions, path)


def write_vcr(predictions: Rows, path: PathLike) -> None:
    """VCR's CSV: of each question the probability of each answer, and of each rationale after each answer."""
    questions: dict[str, dict[str, list[float]]] = {}
    for row in predictions:
        last = row["item_id"].removeprefix(row["group"])
        name = "answer" if last == "-answer" else f"rationale_conditioned_on_a{last.rpartition('-')[2]}"
        questions.setdefault(row["group"], {})[name] = probabilities(row["scores"])
    names = ["answer", *CONDITIONS]
    incomplete = next((group for group, own in questions.items() if own.keys() != set(names)), None)
    if incomplete is not None:
        raise ValueError(
            f"the question {incomplete!r} has scores of {', '.join(sorted(questions[incomplete]))}, but the organisers "
            "want those of its answers and of its rationales after each of the four"
        )
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["annot_id", *(f"{name}_{number}" for name in names for number in range(NUM_CHOICES))])
    for group, own in questions.items():
        table.writerow([group, *(f"{value:.6f}" for name in names for value in own[name])])
    write_atomically(Path(path), text.getvalue().encode())


def write_visdial(predictions: Rows, path: PathLike) -> None:
    """VisDial's JSON: of each round the rank of each candidate, from 1."""
    found = []
    for row in predictions:
        image, _, number = row["item_id"].rpartition("-")
        if not (image.isdecimal() and number.isdecimal()):
            raise ValueError(f"the round {row['item_id']!r} has no numbers of an image and a round, as VisDial's have")
        order = np.argsort(-np.asarray(row["scores"]), kind="stable")
        ranks = np.empty(len(order), dtype=int)
        ranks[order] = np.arange(1, len(order) + 1)
        found.append({"image_id": int(image), "round_id": int(number), "ranks": ranks.tolist()})
    write_json(path, found, indent=None)


def probabilities(scores: Sequence[float]) -> list[float]:
    """A softmax.

    >>> probabilities([0.0, 0.0])
    [0.5, 0.5]
    """
    weights = np.exp(np.asarray(scores) - max(scores))
    return (weights / weights.sum()).tolist()
