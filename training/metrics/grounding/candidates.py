"""Choosing among boxes: Visual7W's pointing questions (Zhu et al. 2016), GuessWhat?!'s guesser (de Vries et al. 2017).

scores of regions + candidates --candidate_scores--> a score of each candidate --candidate_accuracy--> accuracy
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.box_arrays import joined_boxes, share_of, shared_and_joint_area, with_hundredfold


def candidate_scores(regions: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The score of each candidate: of all regions the largest product of the region's score and their IoU.

    Args:
        regions: (R, 4) xyxy, as they were scored (not moved), in the candidates' unit.
        scores: (R,), 0 or more.
        candidates: (C, 4) xyxy.

    Where the candidates are regions themselves, that with the best score is chosen.

    >>> regions, scores = np.array([[0, 0, 2, 2], [4, 0, 6, 2.0]]), np.array([0.4, 0.6])
    >>> candidate_scores(regions, scores, np.array([[0, 0, 2, 2], [4, 0, 6, 1.0], [8, 0, 9, 1]])).tolist()
    [0.4, 0.3, 0.0]
    """
    if not len(regions):
        return np.zeros(len(candidates))
    overlaps = share_of(*shared_and_joint_area(candidates[:, None], regions))  # (C, R)
    return (overlaps * scores).max(axis=1)


def candidate_accuracy(scores: Sequence[Any], candidates: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
    """The share of expressions whose best candidate is a true box.

    Args:
        scores: for each expression a score of each candidate, 0 or more; of equal ones the first counts, and where none
            is above 0 nothing is chosen: a miss.
        candidates: for each expression its candidates (C, 4).
        references: for each expression its true boxes (m, 4), each one of the candidates. A candidate with the same
            four numbers as a true one is right, too: nothing tells the two apart.

    Returns:
        `candidate_accuracy` in 0..1, and times 100 as `..._x100`; `chance`, the accuracy of choosing blindly;
        `per_item`: `candidate_accuracy`, 1.0 or 0.0 for each expression.

    Raises:
        ValueError: for different numbers of anything or none, and a true box that is no candidate.

    >>> boxes = [[0, 0, 1, 1], [2, 0, 3, 1]]
    >>> found = candidate_accuracy([[0.2, 0.6], [0.0, 0.0]], [boxes, boxes], [[boxes[1]], [boxes[0]]])
    >>> found["candidate_accuracy"], found["chance"], found["per_item"]["candidate_accuracy"]
    (0.5, 0.5, [1.0, 0.0])
    """
    if not len(scores) == len(candidates) == len(references) or not len(scores):
        raise ValueError(
            f"{len(scores)} lists of scores, {len(candidates)} of candidates and {len(references)} of true boxes; give "
            "one of each per expression"
        )
    hits, chances = [], []
    for number, (own, boxes, true) in enumerate(zip(scores, candidates, references, strict=True)):
        given, _ = joined_boxes([boxes], f"candidates of expression {number}", has_area=True)
        right = {tuple(box) for box in joined_boxes([true], "references", has_area=True)[0].tolist()}
        marks = np.array([tuple(box) in right for box in given.tolist()])
        values = np.asarray(own, dtype=np.float64)
        if values.shape != (len(given),) or not right <= {tuple(box) for box in given.tolist()} or not right:
            raise ValueError(
                f"expression {number} has {len(values)} scores, {len(given)} candidates and the true boxes "
                f"{sorted(right)}; give a score a candidate, and true boxes that are among them"
            )
        hits.append(float(bool(values.max() > 0 and marks[values.argmax()])))
        chances.append(float(marks.mean()))
    figures = {"candidate_accuracy": float(np.mean(hits)), "chance": float(np.mean(chances))}
    return with_hundredfold(figures) | {"per_item": {"candidate_accuracy": hits}}
