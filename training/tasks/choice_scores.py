"""Figures of chosen candidates: items and the scores of their candidates -> metrics of the split, and of each item.

Questions with rationales are scored as VCR is, rounds of dialogues as VisDial is, questions of NExT-QA's types as that
is; all kinds by the share of items whose best candidate is right.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.data.choices.rows import HIDDEN
from training.metrics.item_scores import ItemScores, item_scores
from training.metrics.reasoning import vcr, visdial, visdial_ndcg
from training.metrics.video.answers import NEXTQA_GROUPS, NEXTQA_TYPES, nextqa_mc

METRICS = {
    "choice_accuracy": "accuracy of the best candidate",
    "q_to_a": "answers, Q->A",
    "qa_to_r": "rationales, QA->R",
    "q_to_ar": "both, Q->AR",
    "mrr": "mean reciprocal rank",
    "answer_r1": "right answer first, R@1",
    "answer_r5": "right answer among the first 5, R@5",
    "answer_r10": "right answer among the first 10, R@10",
    "mean_rank": "mean rank of the right answer",
    "ndcg": "NDCG",
    "acc_c": "accuracy of causal questions",
    "acc_t": "accuracy of temporal questions",
    "acc_d": "accuracy of descriptive questions",
}
VCR_FIGURES = ("q_to_a", "qa_to_r", "q_to_ar")
Rows = Sequence[Mapping[str, Any]]
Scores = Sequence[Sequence[float]]


def split_figures(rows: Rows, scores: Scores) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The figures of the items whose label is known, 0..1 and x100, and the accuracy of each kind of item.

    rows: `group`, `kind`, `label`, `relevance` and, where the data set has types, `question_type` of each item, whose
    accuracy is given too. Both are empty where all labels are hidden.
    """
    known = known_items(rows)
    if not known:
        return {}, {}
    hits = {place: float(np.argmax(scores[place]) == rows[place]["label"]) for place in known}
    figures = {"choice_accuracy": float(np.mean(list(hits.values())))}
    questions = question_places(rows, known)
    if questions:
        found = vcr_figures(rows, scores, questions)
        figures |= {name: found[name] for name in VCR_FIGURES}
    rounds = [place for place in known if rows[place]["kind"] == "round"]
    if rounds:
        dialogue = dialogue_figures(rows, scores, rounds)
        figures |= {"mrr": dialogue["mrr"], **{f"answer_r{k}": dialogue[f"recall_{k}"] for k in (1, 5, 10)}}
    rated = rated_rounds(rows, known)
    if rated:
        figures["ndcg"] = ndcg_figures(rows, scores, rated)["ndcg"]
    figures |= next_qa_figures(rows, hits)
    figures |= {f"{name}_x100": 100 * value for name, value in figures.items()}
    if rounds:
        figures["mean_rank"] = dialogue["mean_rank"]
    kinds = sorted({rows[place]["kind"] for place in known})
    domains = {}
    for kind in kinds:
        own = [hits[place] for place in known if rows[place]["kind"] == kind]
        domains[kind] = {"choice_accuracy_x100": 100 * float(np.mean(own)), "items": len(own)}
    return figures, {**(domains if len(kinds) > 1 else {}), **type_figures(rows, hits)}


def type_figures(rows: Rows, hits: Mapping[int, float]) -> dict[str, dict[str, float]]:
    """The accuracy of each type of question; hits: whether each item whose label is known is right, by its place."""
    types = {place: rows[place].get("question_type") for place in hits}
    found = {}
    for name in sorted({kind for kind in types.values() if kind}):
        own = [hit for place, hit in hits.items() if types[place] == name]
        found[f"questions: {name}"] = {"choice_accuracy_x100": 100 * float(np.mean(own)), "items": len(own)}
    return found


def next_qa_figures(rows: Rows, hits: Mapping[int, float]) -> dict[str, float]:
    """As `nextqa_mc` has them of causal, temporal and descriptive questions; nothing where other types are there."""
    types = {place: rows[place].get("question_type") for place in hits}
    if not types.keys() or any(kind not in NEXTQA_TYPES for kind in types.values()):
        return {}
    asked = [{"video": "", "qid": place, "type": kind, "answer": 1} for place, kind in types.items()]
    found = nextqa_mc(asked, {f"_{place}": int(hit) for place, hit in hits.items()})
    return {name: found[name] for name in NEXTQA_GROUPS.values() if name in found}


def item_figures(rows: Rows, scores: Scores) -> ItemScores:
    """What each question or dialogue scored, for intervals: the groups are what a bootstrap resamples."""
    known = known_items(rows)
    if not known:
        return {}
    names = list(dict.fromkeys(rows[place]["group"] for place in known))
    number = {name: place for place, name in enumerate(names)}
    owners = [number[rows[place]["group"]] for place in known]
    hits = [float(np.argmax(scores[place]) == rows[place]["label"]) for place in known]
    items: ItemScores = {"choice_accuracy": item_scores(names, hits, owners=owners)}
    questions = question_places(rows, known)
    if questions:
        found = vcr_figures(rows, scores, questions)["per_item"]
        items |= {name: item_scores([*questions], found[name]) for name in VCR_FIGURES}
    rounds = [place for place in known if rows[place]["kind"] == "round"]
    if rounds:
        ranks = dialogue_figures(rows, scores, rounds)["per_item"]["rank"]
        own = [number[rows[place]["group"]] for place in rounds]
        items["mrr"] = item_scores(names, [1 / rank for rank in ranks], owners=own)
    return items


def known_items(rows: Rows) -> list[int]:
    """The places of the items whose label is known."""
    return [place for place, row in enumerate(rows) if row["label"] != HIDDEN]


def question_places(rows: Rows, known: Sequence[int]) -> dict[str, dict[str, int]]:
    """Of each question of VCR with known labels, where its answers and its rationales stand.

    Raises `ValueError` where one of both is lacking, or stands twice.
    """
    found: dict[str, dict[str, int]] = {}
    for place in known:
        kind, group = rows[place]["kind"], rows[place]["group"]
        if kind in ("answer", "rationale") and not rows[place].get("question_type"):  # VCR's, which has no types
            own = found.setdefault(group, {})
            if kind in own:
                raise ValueError(f"the question {group!r} has two items of its {kind}s: their ids do not match")
            own[kind] = place
    lacking = next((group for group, own in found.items() if len(own) < 2), None)
    if lacking is not None:
        told = "rationales" if "answer" in found[lacking] else "answers"
        raise ValueError(f"the question {lacking!r} has no item of its {told}: the ids of both do not match")
    return found


def vcr_figures(rows: Rows, scores: Scores, questions: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """As `vcr` has them, of the questions in their order."""
    places = {kind: [own[kind] for own in questions.values()] for kind in ("answer", "rationale")}
    answers, rationales = ([scores[place] for place in places[kind]] for kind in ("answer", "rationale"))
    right, reason = ([rows[place]["label"] for place in places[kind]] for kind in ("answer", "rationale"))
    return vcr(answers, rationales, right, reason)


def dialogue_figures(rows: Rows, scores: Scores, rounds: Sequence[int]) -> dict[str, Any]:
    """As `visdial` has them, of those rounds."""
    return visdial(equal_rows([scores[place] for place in rounds]), [rows[place]["label"] for place in rounds])


def ndcg_figures(rows: Rows, scores: Scores, rated: Sequence[int]) -> dict[str, Any]:
    """As `visdial_ndcg` has them, of those rounds."""
    relevance = equal_rows([rows[place]["relevance"] for place in rated], filler=0.0)
    return visdial_ndcg(equal_rows([scores[place] for place in rated]), relevance)


def rated_rounds(rows: Rows, known: Sequence[int]) -> list[int]:
    """The rounds with relevances, of which one that finds no candidate relevant is left out, with one warning."""
    rated = [place for place in known if rows[place]["relevance"]]
    kept = [place for place in rated if any(rows[place]["relevance"])]
    if len(kept) < len(rated):
        warnings.warn(
            f"{len(rated) - len(kept)} of {len(rated)} rated rounds have no relevant candidate, so their NDCG is no "
            "number: they are left out of it",
            stacklevel=3,
        )
    return kept


def equal_rows(rows: Sequence[Sequence[float]], *, filler: float | None = None) -> list[list[float]]:
    """Rows as long as the longest, shorter ones filled: scores with one below all others.

    >>> equal_rows([[1.0, 2.0], [0.5]])
    [[1.0, 2.0], [0.5, -0.5]]
    """
    most = max(map(len, rows))
    lowest = min(map(min, rows)) - 1 if filler is None else filler
    assert math.isfinite(lowest)  # scores were checked where they were made
    return [[*row, *[lowest] * (most - len(row))] for row in rows]
