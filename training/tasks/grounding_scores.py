"""The figures of the task grounding from what a model found of each phrase of a split.

    training/tasks/grounding.py --FoundPhrase--> phrase_scores --> metrics, scores of images, figures by type

Which there are depends on the rows: recall at K of all phrases with a box; the IoU of the best box of expressions, the
sentences that are one phrase; the accuracy among candidates; and, where some phrases have no referent, how well these
are told from the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from training.metrics.box_arrays import share_of, shared_and_joint_area
from training.metrics.grounding.candidates import candidate_accuracy, candidate_scores
from training.metrics.grounding.phrases import phrase_recall
from training.metrics.grounding.referents import referent_auc
from training.metrics.grounding.refexp import BOX_THRESHOLDS, refexp_iou
from training.metrics.item_scores import ItemScores, item_scores
from training.tasks.grounding_masks import PhraseMask

MERGED = "merged_"  # stands before the figures of the protocol of merged boxes
FIGURES = {
    **{f"recall_{k}": f"R@{k} at IoU 0.5" for k in (1, 5, 10)},
    "upper_bound": "upper bound of R@K",
    "pointing": "pointing accuracy",
}
EXPRESSION_FIGURES = {
    **{f"accuracy_{round(100 * least)}": f"Acc@{least:g} of expressions" for least in BOX_THRESHOLDS},
    "mean_iou": "mean IoU of expressions",
    "overall_iou": "overall IoU of expressions",
}
MORE_FIGURES = {
    "candidate_accuracy": "accuracy among candidates",
    "referent_auc": "AUC of having a referent",
}
EXPRESSION_ITEMS = ("accuracy_50", "mean_iou")  # the figures of expressions that are kept by image
NOTHING = (0.0, 0.0, 0.0, 0.0)  # the box of an expression of which nothing was found: a miss


class Ranked(NamedTuple):
    """The regions of a phrase, the best first.

    boxes: (R, 4), as they were moved, none of a phrase that was cut off its sentence; scores: (R,), 0..1; regions:
    (R, 4), as they were; sure: 0..1, that the phrase has a referent, or the best score of a model that does not say;
    mask: that of the best, if regions have masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    regions: np.ndarray
    sure: float
    mask: PhraseMask | None = None

    @classmethod
    def cut(cls, regions: np.ndarray) -> "Ranked":
        """Of a phrase that was cut off its sentence."""
        return cls(np.zeros((0, 4)), np.zeros(0), regions, 0.0)


class FoundPhrase(NamedTuple):
    """A phrase of a split, and what was found of it (as `Ranked` has it).

    true, candidates, kinds, polygons: its boxes, what they are to be chosen among, types, and true mask; whole:
    it is the whole sentence, an expression; owner: the row of its image.
    """

    boxes: np.ndarray
    scores: np.ndarray
    regions: np.ndarray
    sure: float
    mask: PhraseMask | None
    true: list[list[float]]
    candidates: list[list[float]]
    kinds: list[str]
    polygons: list[list[float]]
    text: str
    caption: str
    owner: int

    @classmethod
    def of(cls, ranked: Ranked, phrase: Mapping[str, Any], caption: str, *, owner: int) -> "FoundPhrase":
        """What was found of a phrase of a row of `PHRASE_FEATURES`."""
        text = caption[phrase["start"] : phrase["end"]]
        polygons = [polygon for own in phrase.get("polygons") or [] for polygon in own]
        said = (phrase["boxes"], phrase.get("candidates") or [], phrase["kinds"], polygons)
        return cls(*ranked, *said, text, caption, owner)

    @property
    def score(self) -> float:
        """Of the best box, 0 where there is none."""
        return float(self.scores[0]) if len(self.scores) else 0.0

    @property
    def whole(self) -> bool:
        """Whether it is a whole sentence."""
        return self.text == self.caption


def phrase_scores(
    found: Sequence[FoundPhrase], ids: Sequence[str], *, more: Mapping[str, float] | None = None
) -> tuple[dict[str, float], ItemScores, dict[str, dict[str, float]]]:
    """The figures of a split: metrics (each times 100 too), the scores of its images, and the figures by type.

    ids: of the images that the phrases' `owner` numbers; more: further metrics, those of masks. Raises
    `ValueError` where no phrase has a box.
    """
    shown = [phrase for phrase in found if phrase.true]
    if not shown:
        raise ValueError("no phrase of the split has a box to be found: score another split")
    scores = phrase_recall(
        [phrase.boxes for phrase in shown],
        [phrase.true for phrase in shown],
        types=[phrase.kinds for phrase in shown],
    )
    boxes, true = [phrase.boxes for phrase in shown], [phrase.true for phrase in shown]
    merged = phrase_recall(boxes, true, protocol="merge_boxes")
    bound = phrase_recall([phrase.regions for phrase in shown], true)["upper_bound"]
    metrics = {name: scores[name] for name in FIGURES} | {"region_upper_bound": bound}
    metrics |= {f"{MERGED}{name}": merged[name] for name in FIGURES}
    owners = [phrase.owner for phrase in shown]
    items = {name: item_scores(ids, scores["per_item"][name], owners=owners) for name in FIGURES}
    for figures, own in (expression_figures(shown, ids), candidate_figures(shown, ids)):
        metrics |= figures
        items |= own
    metrics |= more or {}
    domains = {
        kind: {f"{name}_x100": own[f"{name}_x100"] for name in FIGURES} | {"phrases": own["num_phrases"]}
        for kind, own in scores["per_type"].items()
    }
    if len(shown) < len(found):
        metrics["referent_auc"] = auc_of(found)
        for kind, by_type in domains.items():
            by_type |= auc_by_type([phrase for phrase in found if kind in phrase.kinds])
    return metrics | {f"{name}_x100": 100 * value for name, value in metrics.items()}, items, domains


def expression_figures(shown: Sequence[FoundPhrase], ids: Sequence[str]) -> tuple[dict[str, float], ItemScores]:
    """The figures of the phrases that are whole sentences, and those kept by image; none where most phrases are parts.

    Of several true boxes that with the largest IoU counts.
    """
    whole = [phrase for phrase in shown if phrase.whole]
    if 2 * len(whole) < len(shown):
        return {}, {}  # a caption that is one phrase, among thousands that are not
    best = [phrase.boxes[0].tolist() if len(phrase.boxes) else NOTHING for phrase in whole]
    scores = refexp_iou(best, [nearest(box, phrase.true) for box, phrase in zip(best, whole, strict=True)])
    iou = np.array(scores["per_item"]["iou"])
    values = {"accuracy_50": (iou >= 0.5).astype(np.float64).tolist(), "mean_iou": iou.tolist()}
    owners = [phrase.owner for phrase in whole]
    items = {name: item_scores(ids, values[name], owners=owners) for name in EXPRESSION_ITEMS}
    return {name: scores[name] for name in EXPRESSION_FIGURES}, items


def candidate_figures(shown: Sequence[FoundPhrase], ids: Sequence[str]) -> tuple[dict[str, float], ItemScores]:
    """The accuracy of the phrases that have candidates, by image too; none where there are none."""
    asked = [phrase for phrase in shown if phrase.candidates]
    if not asked:
        return {}, {}
    found = candidate_accuracy(
        [chosen_among(phrase) for phrase in asked],
        [phrase.candidates for phrase in asked],
        [phrase.true for phrase in asked],
    )
    name, owners = "candidate_accuracy", [phrase.owner for phrase in asked]
    return {name: found[name]}, {name: item_scores(ids, found["per_item"][name], owners=owners)}


def chosen_among(phrase: FoundPhrase) -> np.ndarray:
    """The score of each candidate of a phrase, (C,); 0 of a phrase that was cut off."""
    regions = phrase.regions[: len(phrase.scores)]
    return candidate_scores(regions, phrase.scores, np.asarray(phrase.candidates, dtype=np.float64))


def auc_of(found: Sequence[FoundPhrase]) -> float:
    """How well the phrases with a referent are told from those without."""
    return referent_auc([phrase.sure for phrase in found], [bool(phrase.true) for phrase in found])


def auc_by_type(found: Sequence[FoundPhrase]) -> dict[str, float]:
    """The same of the phrases of a type; none where all have a referent."""
    without = [phrase for phrase in found if not phrase.true]
    return {"referent_auc_x100": 100 * auc_of(found)} if without else {}


def nearest(box: Sequence[float], true: Sequence[Sequence[float]]) -> list[float]:
    """Of true boxes that with the largest IoU with a box, the first of equal ones.

    >>> nearest([0, 0, 1, 1], [[0, 0, 0.2, 1], [0, 0, 0.5, 1]])
    [0.0, 0.0, 0.5, 1.0]
    """
    boxes = np.asarray(true, dtype=np.float64)
    overlaps = share_of(*shared_and_joint_area(boxes, np.asarray(box, dtype=np.float64)))
    return boxes[overlaps.argmax()].tolist()


def predictions_of(found: Sequence[FoundPhrase], ids: Sequence[str]) -> list[dict[str, Any]]:
    """What was found of each phrase: its best box (xyxy in 0..1), the score, and whether it is right.

    A phrase without a referent is never right, and says so: `referent` is how sure the model is that it has one, where
    some phrases have none; `choice` is the candidate chosen, where there are any.
    """
    shown = [phrase for phrase in found if phrase.true]
    hits = iter(phrase_recall([p.boxes for p in shown], [p.true for p in shown], at=[1])["per_item"]["recall_1"])
    rows = []
    for phrase in found:
        row = {
            "image_id": ids[phrase.owner],
            "caption": phrase.caption,
            "phrase": phrase.text,
            "types": phrase.kinds,
            "box": [round(float(side), 4) for side in phrase.boxes[0]] if len(phrase.boxes) else [],
            "score": round(phrase.score, 4),
            "right": bool(phrase.true and next(hits)),
        }
        if len(shown) < len(found):
            row |= {"has_referent": bool(phrase.true), "referent": round(phrase.sure, 4)}
        if phrase.candidates:
            scores = chosen_among(phrase)
            row["choice"] = phrase.candidates[int(scores.argmax())] if scores.max() > 0 else []
        rows.append(row)
    return rows
