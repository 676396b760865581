"""Phrase grounding on Flickr30k Entities (Plummer et al. 2015): recall at K, its upper bound, pointing accuracy.

    ranked boxes of each phrase + its true boxes and types --phrase_recall--> figures, by type too
    predictions of sentences + the official annotations --flickr30k_entities--> the same, in both protocols

A phrase ("three men") may have several true boxes: in the `any_box` protocol a box hits that overlaps any of them
enough, in `merge_boxes` one that overlaps the box around all of them. P phrases, N boxes of all phrases, K ranks.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from training.data.boxes.entities_files import Phrase, Sentence, parse_sentence
from training.data.files import listed
from training.metrics.box_arrays import check_units, joined_boxes, share_of, shared_and_joint_area, with_hundredfold

RECALL_AT = (1, 5, 10)
MIN_IOU = 0.5
PAIRS_AT_ONCE = 1 << 18  # bounds the memory
Protocol = Literal["any_box", "merge_boxes"]
SentenceId = tuple[str, int]


def flickr30k_entities(
    predictions: Iterable[Mapping[str, Any]],
    sentences: Mapping[str, Sequence[str | Sentence]],
    boxes: Mapping[str, Mapping[str, Any]],
    *,
    at: Sequence[int] = RECALL_AT,
    min_iou: float = MIN_IOU,
) -> dict[str, Any]:
    """Scores of phrases in both protocols, equal to MDETR's evaluator, which follows the official one in Matlab.

    Args:
        predictions: a record per sentence: `image_id`, `sentence_id` (from 0, of the image's sentences), and `boxes`:
            for each phrase that has true boxes, in their order, its ranked boxes xyxy (the best first, maybe none: a
            miss).
        sentences: image id -> its sentences, marked as in the official files ("[/EN#1/people A man] runs .") or parsed.
        boxes: image id -> chain -> its true boxes xyxy, in the same unit as the predictions. (`official_image` of
            `training/data/boxes/entities_files.py` reads an image's sentences and boxes.)
        at, min_iou: as in `phrase_recall`.

    Returns:
        `any_box` and `merge_boxes`, what `phrase_recall` returns of each; `phrases`: for each phrase scored, in the
        order of `per_item`, its `(image_id, sentence_id, phrase)`.

    Officially and here: a phrase without true boxes is not scored; one with several types counts for each; predictions
    of sentences without scored phrases are ignored, and of two for one sentence the first counts (each with a warning).

    Raises:
        ValueError: for a record without one of the three fields, a sentence with phrases but without predictions, one
            with boxes for another number of phrases, no phrase to score, and as `phrase_recall`.

    >>> sentences, true = {"7": ["[/EN#1/people A man] runs ."]}, {"7": {"1": [[0, 0, 10, 10], [20, 0, 30, 10]]}}
    >>> found = flickr30k_entities([{"image_id": "7", "sentence_id": 0, "boxes": [[[0, 0, 10, 9]]]}], sentences, true)
    >>> found["any_box"]["recall_1"], found["merge_boxes"]["recall_1"]
    (1.0, 0.0)
    """
    boxes = {str(image_id): {str(chain): true for chain, true in own.items()} for image_id, own in boxes.items()}
    scored = _scored_phrases(sentences, boxes)
    if not scored:
        raise ValueError("no phrase of the sentences has a box; do the ids of sentences and boxes belong together?")
    ranked = _predicted_of_sentences(predictions, scored)
    flat = [(sentence, phrase) for sentence, own in scored.items() for phrase in own]
    found = [part for sentence in scored for part in ranked[sentence]]
    true = [boxes[image_id][phrase.chain] for (image_id, _), phrase in flat]
    types = [phrase.kinds for _, phrase in flat]
    scores: dict[str, Any] = {
        protocol: phrase_recall(found, true, types=types, protocol=protocol, at=at, min_iou=min_iou)
        for protocol in get_args(Protocol)
    }
    return scores | {"phrases": [(*sentence, phrase.text) for sentence, phrase in flat]}


def phrase_recall(
    predictions: Sequence[Any],
    references: Sequence[Any],
    *,
    types: Sequence[Sequence[str]] | None = None,
    protocol: Protocol = "any_box",
    at: Sequence[int] = RECALL_AT,
    min_iou: float = MIN_IOU,
) -> dict[str, Any]:
    """Recall at K of phrases or expressions, its upper bound, and pointing accuracy.

    Args:
        predictions: for each phrase its boxes (n, 4) xyxy, the best first; one that has none is missed.
        references: for each phrase, in the same order, its true boxes (m, 4) xyxy, at least one, in the same unit.
        types: for each phrase the names of its types, maybe none.
        protocol: see the head of this file.
        at: the numbers of boxes K; fewer than K boxes are all of them.
        min_iou: the least IoU of a hit, above 0 and up to 1; an IoU equal to it is one.

    Returns:
        `recall_K` for each K: the share of phrases of whose first K boxes one hits; `upper_bound`: of all whose boxes
        one does; `pointing`: the share whose first box has its centre in a true box (edges included; in `merge_boxes`
        in the box around all). Each is in 0..1 and is there times 100 as `..._x100`. `num_phrases`; `per_type`: the
        same of each type's phrases; `per_item`: for each figure a list with 1.0 or 0.0 per phrase.

    Raises:
        ValueError: for different numbers of predictions, references and types or none, a phrase without true boxes, a
            true box without area, a box that is not four finite numbers, one side in pixels and the other in 0..1, K
            below 1, and an unknown protocol.

    >>> scores = phrase_recall([[[0, 0, 9, 1], [0, 0, 2, 2]]], [[[0, 0, 2, 2]]], types=[["people"]], at=[1, 2])
    >>> scores["recall_1"], scores["recall_2"], scores["per_type"]["people"]["upper_bound"]
    (0.0, 1.0, 1.0)
    """
    _check(predictions, references, types, at=at, min_iou=min_iou, protocol=protocol)
    boxes, counts = joined_boxes(predictions, "predictions")
    true, true_counts = joined_boxes(references, "references", has_area=True)
    if not true_counts.all():
        number = int((true_counts == 0).argmax())
        raise ValueError(f"references[{number}] has no true box; leave out phrases that have none")
    check_units(boxes, true)
    if protocol == "merge_boxes":
        true, true_counts = _merged(true, true_counts)
    best = _best_overlaps(boxes, counts, true, true_counts, at=at)  # (P, K + 1)
    pointing = _points_inside(boxes, counts, true, true_counts)
    hits = np.concatenate([best >= min_iou, pointing[:, None]], axis=1).astype(np.float64)  # (P, K + 2)
    names = [*(f"recall_{k}" for k in at), "upper_bound", "pointing"]
    members: dict[str, list[int]] = {}
    for number, own in enumerate(types or []):
        for name in [own] if isinstance(own, str) else own:
            members.setdefault(name, []).append(number)
    return _means(hits, names) | {
        "per_type": {name: _means(hits[own], names) for name, own in members.items()},
        "per_item": {name: column.tolist() for name, column in zip(names, hits.T, strict=True)},
    }


def _means(hits: np.ndarray, names: list[str]) -> dict[str, Any]:
    figures = dict(zip(names, hits.mean(axis=0).tolist(), strict=True))
    return {"num_phrases": len(hits)} | with_hundredfold(figures)


def _check(
    predictions: Sequence[Any],
    references: Sequence[Any],
    types: Sequence[Any] | None,
    *,
    at: Sequence[int],
    min_iou: float,
    protocol: str,
) -> None:
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol is {protocol!r}; choose {' or '.join(get_args(Protocol))}")
    if not len(at) or any(k < 1 for k in at) or len(set(at)) < len(at):
        raise ValueError(f"the numbers of boxes are {list(at)}; give at least one, each once and from 1")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou is {min_iou}; give an overlap above 0 and up to 1")
    lengths = [len(predictions), len(references), len(references if types is None else types)]
    if len(set(lengths)) > 1 or not lengths[0]:
        raise ValueError(
            f"there are predictions of {lengths[0]} phrases, true boxes of {lengths[1]} and types of {lengths[2]}; "
            "give one of each per phrase, in the same order"
        )


def _merged(boxes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box around each item's boxes (P, 4), and ones (P,)."""
    starts = counts.cumsum() - counts
    first, last = np.minimum.reduceat(boxes[:, :2], starts), np.maximum.reduceat(boxes[:, 2:], starts)
    return np.concatenate([first, last], axis=1), np.ones_like(counts)


def _best_overlaps(
    boxes: np.ndarray, counts: np.ndarray, true: np.ndarray, true_counts: np.ndarray, *, at: Sequence[int]
) -> np.ndarray:
    """The highest IoU of each phrase's first K boxes for each K, and of all of them: (P, K + 1)."""
    best = np.zeros(len(boxes))  # (N,)
    owners = np.repeat(np.arange(len(counts)), counts)
    repeats = true_counts[owners]  # true boxes that each box is compared with
    firsts = (true_counts.cumsum() - true_counts)[owners]
    blocks = np.flatnonzero(np.diff(repeats.cumsum() // PAIRS_AT_ONCE)) + 1
    for block in np.split(np.arange(len(boxes)), blocks) if len(boxes) else []:
        starts = repeats[block].cumsum() - repeats[block]
        places = np.arange(repeats[block].sum()) - np.repeat(starts - firsts[block], repeats[block])
        shared, joint = shared_and_joint_area(np.repeat(boxes[block], repeats[block], axis=0), true[places])
        best[block] = np.maximum.reduceat(share_of(shared, joint), starts)
    starts = counts.cumsum() - counts
    ranks = np.arange(len(boxes)) - np.repeat(starts, counts)
    result = np.zeros((len(counts), len(at) + 1))
    some = counts > 0
    if some.any():
        for column, k in enumerate((*at, len(boxes))):
            result[some, column] = np.maximum.reduceat(np.where(ranks < k, best, 0.0), starts[some])
    return result


def _points_inside(boxes: np.ndarray, counts: np.ndarray, true: np.ndarray, true_counts: np.ndarray) -> np.ndarray:
    """Whether the centre of each phrase's first box lies in one of its true boxes: (P,) bool."""
    inside = np.zeros(len(counts), dtype=bool)
    some = counts > 0
    if some.any():
        centres = np.full((len(counts), 2), np.nan)
        first = boxes[(counts.cumsum() - counts)[some]]
        centres[some] = (first[:, :2] + first[:, 2:]) / 2
        points = np.repeat(centres, true_counts, axis=0)  # (true boxes, 2)
        hit = ((points >= true[:, :2]) & (points <= true[:, 2:])).all(axis=1)
        inside = np.logical_or.reduceat(hit, true_counts.cumsum() - true_counts)
    return inside


def _scored_phrases(
    sentences: Mapping[str, Sequence[str | Sentence]], boxes: Mapping[str, Mapping[str, Any]]
) -> dict[SentenceId, list[Phrase]]:
    """The phrases with true boxes of each sentence that has any."""
    scored = {}
    for image_id, own in sentences.items():
        chains = {chain for chain, true in boxes.get(str(image_id), {}).items() if len(true)}
        for number, sentence in enumerate(own):
            parsed = parse_sentence(sentence) if isinstance(sentence, str) else sentence
            phrases = [phrase for phrase in parsed.phrases if phrase.chain in chains]
            if phrases:
                scored[str(image_id), number] = phrases
    return scored


def _predicted_of_sentences(
    predictions: Iterable[Mapping[str, Any]], scored: Mapping[SentenceId, Sequence[Phrase]]
) -> dict[SentenceId, Sequence[Any]]:
    """The ranked boxes of each scored sentence's phrases, checked."""
    found: dict[SentenceId, Sequence[Any]] = {}
    ignored, repeated = [], []
    for number, record in enumerate(predictions):
        lacking = [key for key in ("image_id", "sentence_id", "boxes") if key not in record]
        if lacking:
            raise ValueError(f"predictions[{number}] has no {listed(lacking)}; give image_id, sentence_id and boxes")
        sentence = str(record["image_id"]), _place(record["sentence_id"], number)
        if sentence not in scored:
            if len(record["boxes"]):
                ignored.append(sentence)
        elif sentence in found:
            repeated.append(sentence)
        else:
            found[sentence] = _fitting(record["boxes"], sentence, scored[sentence])
    missing = [sentence for sentence in scored if sentence not in found]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(scored)} sentences have phrases but no prediction ({listed(missing)}); give one "
            "for each, with no box where nothing is found"
        )
    for which, what in ((ignored, "without scored phrases are ignored"), (repeated, "predicted again are ignored")):
        if which:
            warnings.warn(f"predictions of {len(which)} sentences {what}: {listed(which)}", stacklevel=3)
    return found


def _place(sentence_id: Any, number: int) -> int:
    try:
        return int(sentence_id)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"predictions[{number}] has the sentence_id {sentence_id!r:.60}; give the sentence's place in its image"
        ) from error


def _fitting(boxes: Sequence[Any], sentence: SentenceId, phrases: Sequence[Phrase]) -> Sequence[Any]:
    if len(boxes) != len(phrases):
        raise ValueError(
            f"image {sentence[0]}, sentence {sentence[1]}: boxes of {len(boxes)} phrases, but {len(phrases)} of its "
            f"phrases have true boxes ({listed([phrase.text for phrase in phrases])}); give boxes for these, in order"
        )
    return boxes
