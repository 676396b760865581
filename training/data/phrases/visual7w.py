"""Visual7W pointing (Zhu et al. 2016): questions "which ...?" whose answer is one of four boxes.

    dataset_v7w_pointing.json --read_visual7w_pointing--> rows of training/data/phrases/rows.py, with candidates

Its questions with answers in words, Visual7W telling, are `training/data/questions/visual_genome.py`'s.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from training.data.files import PathLike, column, id_text, read_json, records, text_column
from training.data.phrases.expressions import Expression, ExpressionImage, expression_rows
from training.data.splits import split_name, wanted_splits

SIDES = ("x", "y", "width", "height")


def read_visual7w_pointing(
    annotations: PathLike, *, images: PathLike | None = None, split: str | None = None
) -> datasets.Dataset:
    """The questions of a file, a row an image, each question an expression with its four boxes as candidates.

    Args:
        annotations: `dataset_v7w_pointing.json`, `{"boxes": [{"box_id", "x", "y", "width", "height"}], "images":
            [{"image_id", "filename", "split", "qa_pairs": [{"qa_id", "question", "answer", "multiple_choices"}]}]}`,
            whose answer and choices are ids of boxes.
        images: the image folder (`v7w_2358144.jpg`, or Visual Genome's own `2358144.jpg`); needed where images have no
            width and height in the file, as in the official one.
        split: keep only these splits.

    Returns:
        Rows of `PHRASE_FEATURES`; the right candidate stands at a place that follows from the question's id. Left out
        as by `expression_rows`.

    Raises:
        ValueError: naming file and question, for what is no such file, and for Visual7W telling; as `expression_rows`.
        NoSuchSplitError: where no image is of the split.
    """
    content = read_json(annotations)
    listed = records(content, "images", annotations)
    words = [split_name(word, annotations) for word in text_column(listed, "split", annotations)]
    if isinstance(content, dict) and "boxes" not in content:
        raise ValueError(f"{annotations} has no 'boxes': give Visual7W's dataset_v7w_pointing.json, not its telling")
    boxes = _boxes(records(content, "boxes", annotations), annotations)
    wanted = set(words) if split is None else wanted_splits(split, present=set(words), source=annotations)
    ids = [id_text(image_id) for image_id in column(listed, "image_id", annotations)]
    found = []
    for image_id, word, image in zip(ids, words, listed, strict=True):
        if word in wanted:
            name = image.get("filename") or f"v7w_{image_id}.jpg"
            own = [
                _expression(pair, boxes, f"{annotations}: a question of the image {image_id}")
                for pair in records(image, "qa_pairs", annotations)
            ]
            found.append(ExpressionImage(image_id, name, word, image.get("width"), image.get("height"), own))
    return expression_rows(found, folder=images, source=annotations)


def _boxes(listed: Sequence[dict[str, Any]], path: PathLike) -> dict[str, list[Any]]:
    ids = [id_text(box_id) for box_id in column(listed, "box_id", path)]
    sides = [column(listed, side, path) for side in SIDES]
    return {box_id: list(box) for box_id, *box in zip(ids, *sides, strict=True)}


def _expression(pair: Mapping[str, Any], boxes: Mapping[str, list[Any]], place: str) -> Expression:
    """A question; ValueError where it lacks its text, its id, or a box."""
    question, wrong = pair.get("question"), pair.get("multiple_choices")
    if not isinstance(question, str) or not isinstance(wrong, list) or not wrong or pair.get("qa_id") is None:
        raise ValueError(f"{place} needs qa_id, question, answer and multiple_choices: {str(pair)[:120]}")
    asked = [id_text(pair.get("answer")), *map(id_text, wrong)]
    absent = next((box_id for box_id in asked if box_id not in boxes), None)
    if absent is not None:
        raise ValueError(f"{place} speaks of the box {absent!r:.60}, which the file's 'boxes' do not have")
    right = zlib.crc32(id_text(pair["qa_id"]).encode()) % len(asked)  # so that no place is the right one
    order = [*asked[1 : right + 1], asked[0], *asked[right + 1 :]]
    return Expression(question, boxes[asked[0]], candidates=[boxes[box_id] for box_id in order])
