"""Answers -> the figures of their data set: which of `training/metrics/vqa/accuracy.py` a split is scored with.

VQA's accuracy where ten people answered each question; GQA's, A-OKVQA's, Visual7W's, POPE's and LXMERT's own; DAQUAR's
exact match and WUPS; exact match with the one answer elsewhere. Choices have their accuracy beside it. Questions about
clips: ActivityNet-QA's own, WUPS of NExT-OE, the squared error of TGIF-QA's counts.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from processors.answer_text_updown import normalize_answer, soft_score
from training.data.clips.question_types import ACTIVITYNET_TYPES, EXACT_TYPES
from training.data.files import read_json
from training.data.questions.answers import learned_answers
from training.data.questions.pope import asked_object
from training.data.questions.rows import vqa_split, vqa_splits
from training.metrics.item_scores import ItemScores, item_scores
from training.metrics.video.answers import activitynet_qa, tgif_count
from training.metrics.vqa import (
    aokvqa,
    aokvqa_questions,
    exact_match_accuracy,
    gqa,
    gqa_questions,
    visual7w,
    vqa_accuracy,
)
from training.metrics.vqa.pope import caption_answers, pope
from training.metrics.vqa.wups import wups

ANNOTATORS = 10  # of each question of VQA, OK-VQA and VizWiz, whose accuracy needs several
OF_THREE = "agree_of_three"
POPE_FORMATS = ("pope", "pope_questions")
METRICS = {
    "accuracy": "accuracy",
    "accuracy_agree_of_three": "accuracy, min(n/3, 1)",
    "binary": "accuracy of yes-or-no and either-or questions",
    "open": "accuracy of open questions",
    "consistency": "consistency",
    "multiple_choice": "accuracy of multiple choice",
    "precision": "precision of yes",
    "recall": "recall of yes",
    "f1": "F1 of yes",
    "yes_share": "share of yes",
    "wups_0": "WUPS@0.0",
    "wups_0.9": "WUPS@0.9",
    "free": "accuracy of ActivityNet-QA's free questions",
    "free_official": "the same by the official script's divisor",
    "mse": "mean squared error of counts",
}
ERRORS = ("mse",)  # figures that are no shares: lower is better, and nothing is times 100


def scored_format(data: Mapping[str, Any], split: str) -> str:
    """The format whose evaluation scores a split: a mixture's is that of its only part there, else none of its own."""
    if data["format"] != "mixture":
        return data["format"]
    wanted = vqa_splits(split, "split")
    parts = [part for part in data["parts"] if {vqa_split(w, "splits") for w in part.get("splits") or wanted} & wanted]
    return parts[0]["format"] if len(parts) == 1 else "mixture"


def question_scores(
    answers: Sequence[str], rows: Dataset, *, format: str, choices: Sequence[str] = (), targets: str = ""
) -> tuple[dict[str, float], dict[str, dict[str, float]], dict[str, str]]:
    """The figures of one answer (and, where a question has choices, one choice) a row of `VQA_FEATURES`.

    Args:
        answers: the answer to each question.
        rows: the questions; those whose answers are hidden are not scored.
        format: the data set's, which may have an evaluation of its own.
        choices: the choice of each question, "" where it has none; none at all scores no choice.
        targets: the recipe's `answers.scores`; with `agree_of_three`, min(n/3, 1) is scored beside the official
            accuracy where ten people answered each question.

    Returns:
        metrics: 0..1, and with `_x100` in the name 0..100, and `ERRORS`; empty where all answers are hidden.
        domains: kind of question -> its `accuracy_x100`.
        not_computed: metric -> why it is not there.
    """
    codes, texts = learned_answers(rows)
    known = np.flatnonzero(codes >= 0).tolist()
    if not known:
        return {}, {}, {"accuracy": "the answers of this split are hidden; its organisers score them"}
    rows = rows if len(known) == len(rows) else rows.select(known)
    answers, choices = [answers[i] for i in known], [choices[i] for i in known] if choices else []
    true = [texts[code] for code in codes[known]]
    metrics, domains, not_computed = SCORERS.get(format, score_accuracy)(answers, true, rows)
    if targets == OF_THREE and min(map(len, rows["answers"][:])) >= ANNOTATORS:
        metrics[f"accuracy_{OF_THREE}"] = vqa_accuracy(answers, rows["answers"][:], variant=OF_THREE)["accuracy"]
    metrics |= choice_accuracy(choices, rows)
    metrics.setdefault("accuracy", metrics.get("multiple_choice", math.nan))
    shares = {f"{name}_x100": 100 * value for name, value in metrics.items() if name not in ERRORS}
    return {**metrics, **shares}, domains, not_computed


Figures = tuple[dict[str, float], dict[str, dict[str, float]], dict[str, str]]


def item_accuracies(answers: Sequence[str], rows: Dataset, *, format: str = "") -> list[float]:
    """Each answer's accuracy in 0..1, VQA's where there are ten annotators, else exact match; NaN for hidden ones.

    Answers to POPE's questions (`format`) are read as POPE reads them.
    """
    if format in POPE_FORMATS:
        return pope(answers, rows["answer"][:])["per_item"]
    codes, texts = learned_answers(rows)
    known = np.flatnonzero(codes >= 0).tolist()
    per_item = [math.nan] * len(answers)
    if known:
        chosen = rows if len(known) == len(rows) else rows.select(known)
        scores = _item_accuracies([answers[i] for i in known], [texts[code] for code in codes[known]], chosen)
        for place, score in zip(known, scores, strict=True):
            per_item[place] = score
    return per_item


def question_items(
    answers: Sequence[str], rows: Dataset, *, choices: Sequence[str], metrics: Mapping[str, float], format: str = ""
) -> ItemScores:
    """What each question scored, `accuracy` and `multiple_choice`, where the split's figure is the mean of that.

    The evaluations of some data sets score a question otherwise than VQA's accuracy or exact match do. Of POPE's
    questions (`format`) whether the answer is a yes is there as well, `yes_share`.
    """
    found = {"accuracy": item_accuracies(answers, rows, format=format)}
    if format in POPE_FORMATS:
        found["yes_share"] = [float(said) for said in pope(answers, rows["answer"][:])["said_yes"]]
    if f"accuracy_{OF_THREE}" in metrics:
        found[f"accuracy_{OF_THREE}"] = vqa_accuracy(answers, rows["answers"][:], variant=OF_THREE)["per_item"]
    if choices:
        taken = zip(choices, rows["choices"][:], rows["correct_choice"][:], strict=True)
        found["multiple_choice"] = [
            math.nan if number < 0 else float(choice == texts[number]) for choice, texts, number in taken
        ]
    entries = {name: item_scores(rows["question_id"][:], values) for name, values in found.items()}
    return {
        name: entry
        for name, entry in entries.items()
        if name in metrics and math.isclose(sum(entry["values"]) / len(entry["values"]), metrics[name], abs_tol=1e-5)
    }


def _item_accuracies(answers: list[str], true: list[str], rows: Dataset) -> list[float]:
    people = rows["answers"][:]
    if min(map(len, people)) >= ANNOTATORS:
        return vqa_accuracy(answers, people)["per_item"]
    return exact_match_accuracy(answers, true)["per_item"]


def score_accuracy(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """VQA's accuracy where every question has ten annotators, else exact match with the one answer."""
    per_item = _item_accuracies(answers, true, rows)
    return {"accuracy": float(np.nanmean(per_item))}, by_type(per_item, rows), {}


def score_daquar(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """Exact match, and WUPS at 0.9 and 0 (Malinowski and Fritz 2014) where WordNet is there."""
    metrics, domains, not_computed = score_accuracy(answers, true, rows)
    pairs = list(zip(answers, true, strict=True))
    try:
        for threshold in (0.9, 0.0):
            metrics[f"wups_{threshold:g}"] = wups(pairs, threshold, form="daquar")["wups"]
    except (ImportError, OSError) as error:
        not_computed["wups"] = str(error)
    return metrics, domains, not_computed


def score_gqa(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """GQA's own evaluation (Hudson and Manning 2019), without the figures that need its choices files."""
    scores = gqa(dict(zip(rows["question_id"][:], answers, strict=True)), gqa_questions(rows))
    names = ("accuracy", "binary", "open", "consistency")
    domains = {f"structure: {name}": pick(found) for name, found in scores["per_structural_type"].items()}
    domains |= {f"about: {name}": pick(found) for name, found in scores["per_semantic_type"].items()}
    metrics = {name: scores[f"{name}_x100"] / 100 for name in names if not math.isnan(scores[f"{name}_x100"])}
    reason = "some questions that others entail were not asked: evaluate the file of all questions"
    return metrics, domains, {} if "consistency" in metrics else {"consistency": reason}


def score_aokvqa(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """A-OKVQA's direct answers, where questions have some; its multiple choice is scored with the other choices."""
    predictions = dict(zip(rows["question_id"][:], answers, strict=True))
    try:
        return {"accuracy": aokvqa(predictions, aokvqa_questions(rows))["accuracy"]}, {}, {}
    except ValueError as error:  # all of them are too difficult for direct answers, or have none
        return {}, {}, {"direct_answer": str(error)}


def score_visual7w(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """Visual7W's open answers; its multiple choice is scored with the other choices."""
    scores = visual7w(answers, true, question_types=rows["question_type"][:])
    return {"accuracy": scores["accuracy"]}, {n: pick(found) for n, found in scores["per_question_type"].items()}, {}


def score_lxmert_vqa(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """LXMERT's accuracy (Tan and Bansal 2019): the soft score that a question's label gives to the answer."""
    per_item = [
        soft_score([normalize_answer(text) for text in people].count(normalize_answer(answer)), form="table")
        for answer, people in zip(answers, rows["answers"][:], strict=True)
    ]
    return {"accuracy": float(np.mean(per_item))}, by_type(per_item, rows), {}


def score_pope(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """POPE's figures over all questions (Li et al. 2023), and of each sampling."""
    metrics = _pope_figures(answers, true)
    lacking = [name for name, value in metrics.items() if math.isnan(value)]
    kinds, domains = rows["question_type"][:], {}
    for kind in dict.fromkeys(filter(None, kinds)):
        chosen = [i for i, name in enumerate(kinds) if name == kind]
        found = _pope_figures([answers[i] for i in chosen], [true[i] for i in chosen])
        figures = {f"{name}_x100": 100 * value for name, value in found.items() if not math.isnan(value)}
        domains[f"sampling: {kind}"] = {**figures, "questions": len(chosen)}
    told = {name: value for name, value in metrics.items() if name not in lacking}
    return told, domains, dict.fromkeys(lacking, "divides by zero: no answer, or no label, is yes")


def score_activitynet_qa(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """ActivityNet-QA's own evaluation (Yu et al. 2019), of all questions and of each type."""
    ids, kinds = rows["question_id"][:], rows["question_type"][:]
    said = [{"question_id": name, "answer": answer} for name, answer in zip(ids, answers, strict=True)]
    truth = [
        {"question_id": name, "answer": answer, "type": ACTIVITYNET_TYPES.index(kind)}
        for name, answer, kind in zip(ids, true, kinds, strict=True)
    ]
    found = activitynet_qa(said, truth)
    metrics = {name: found[name] for name in ("accuracy", "free", "free_official") if not math.isnan(found[name])}
    domains = {
        f"questions: {kind}": {"accuracy_x100": found[f"{kind}_x100"], "questions": number}
        for kind, (_, number) in found["counts"].items()
    }
    return metrics, domains, {}


def score_next_oe(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """Exact match, and WUPS at 0.9 and 0 (Xiao et al. 2021) where WordNet is there: of each question the best of its
    reference answers, of counts and yes-or-no questions whether one is met.

    The official script reads words as pywsd lemmatises them, and none of its list of stop words; neither is done here,
    so its figures differ.
    """
    metrics, domains, not_computed = score_accuracy(answers, true, rows)
    try:
        for threshold in (0.9, 0.0):
            per_item = best_wups(answers, rows, threshold)
            metrics[f"wups_{threshold:g}"] = float(np.mean(per_item))
    except (ImportError, OSError) as error:
        return metrics, domains, not_computed | {"wups": str(error)}
    kinds = rows["question_type"][:]
    for kind in dict.fromkeys(filter(None, kinds)):
        own = [value for value, name in zip(per_item, kinds, strict=True) if name == kind]
        domains.setdefault(f"questions: {kind}", {})["wups_0_x100"] = 100 * float(np.mean(own))
    return metrics, domains, not_computed


def best_wups(answers: Sequence[str], rows: Dataset, threshold: float) -> list[float]:
    """The best WUPS of each answer to its question's reference answers; see `score_next_oe`."""
    references = [people or [answer] for people, answer in zip(rows["answers"], rows["answer"], strict=True)]
    pairs = [(answer, one) for answer, own in zip(answers, references, strict=True) for one in own]
    scores = iter(wups(pairs, threshold, form="next_oe")["per_item"])
    best = [max(next(scores) for _ in own) for own in references]
    return [
        float(answer in own) if kind in EXACT_TYPES else value
        for answer, own, kind, value in zip(answers, references, rows["question_type"], best, strict=True)
    ]


def score_tgif_qa(answers: list[str], true: list[str], rows: Dataset) -> Figures:
    """Exact match, and of counts the mean squared error (Jang et al. 2017), where every answer is a number."""
    metrics, domains, not_computed = score_accuracy(answers, true, rows)
    if set(rows["question_type"]) != {"count"}:
        return metrics, domains, not_computed
    strange = [answer for answer in answers if not answer.strip().isdecimal()]
    if strange:
        told = f"{len(strange)} of {len(answers)} answers are no whole number, such as {strange[0]!r}"
        return metrics, domains, not_computed | {"mse": told}
    error = tgif_count([int(answer) for answer in answers], [int(answer) for answer in true])["mse"]
    return metrics | {"mse": error}, domains, not_computed


def _pope_figures(answers: list[str], true: list[str]) -> dict[str, float]:
    found = pope(answers, true)
    return {name: found[name] for name in ("accuracy", "precision", "recall", "f1", "yes_share")}


SCORERS = {
    **dict.fromkeys(POPE_FORMATS, score_pope),
    "gqa": score_gqa,
    "aokvqa": score_aokvqa,
    "visual7w": score_visual7w,
    "daquar": score_daquar,
    "lxmert_vqa": score_lxmert_vqa,
    "activitynet_qa": score_activitynet_qa,
    "next_oe": score_next_oe,
    "tgif_qa": score_tgif_qa,
}


def choice_accuracy(choices: Sequence[str], rows: Dataset) -> dict[str, float]:
    """The share of questions whose right choice was taken, of those that have one; nothing where none has."""
    if not choices:
        return {}
    right = [
        choice == texts[number]
        for choice, texts, number in zip(choices, rows["choices"][:], rows["correct_choice"][:], strict=True)
        if number >= 0
    ]
    return {"multiple_choice": sum(right) / len(right)} if right else {}


def by_type(per_item: Sequence[float], rows: Dataset) -> dict[str, dict[str, float]]:
    """Accuracy by the kind of answer and of question, with how many there are; those without a name belong to none."""
    groups: dict[str, list[float]] = defaultdict(list)
    for column, title in (("answer_type", "answers"), ("question_type", "questions")):
        for value, name in zip(per_item, rows[column][:], strict=True):
            if name and not math.isnan(value):
                groups[f"{title}: {name}"].append(value)
    return {
        name: {"accuracy_x100": 100 * sum(values) / len(values), "questions": len(values)}
        for name, values in groups.items()
    }


def pick(found: Mapping[str, Any]) -> dict[str, float]:
    """A group's accuracy and number of questions."""
    return {"accuracy_x100": found["accuracy_x100"], "questions": found["questions"]}


def read_predicted_answers(path: str | Path, rows: Dataset, *, format: str) -> tuple[Any, dict[str, Any]]:
    """What `align_predictions` takes of a file of answers, and question id -> choice where it has some.

    POPE's questions (`format`) are also answered by a file of captions, as `caption_answers` says. Raises `ValueError`
    for a file that is neither a list nor A-OKVQA's mapping of question ids, and for a POPE question without an answer.
    """
    content = read_json(path)
    if format in POPE_FORMATS and isinstance(content, list):
        return _pope_answers(content, rows, source=path), {}
    if isinstance(content, dict):  # question id -> answer, or {"direct_answer", "multiple_choice"}
        both = {name: entry if isinstance(entry, dict) else {"direct_answer": entry} for name, entry in content.items()}
        choices = {name: entry["multiple_choice"] for name, entry in both.items() if "multiple_choice" in entry}
        return {name: entry.get("direct_answer", "") for name, entry in both.items()}, choices
    if not isinstance(content, list):
        raise ValueError(f'{path} is no list of answers: write [{{"question_id": 42, "answer": "two"}}, ...]')
    chosen = [entry for entry in content if isinstance(entry, dict) and "choice" in entry and "question_id" in entry]
    return content, {str(entry["question_id"]): entry["choice"] for entry in chosen}


def _pope_answers(content: list[Any], rows: Dataset, *, source: str | Path) -> dict[str, Any]:
    """Question id -> answer, of a file of answers or of captions of the images asked of."""
    entries = [entry for entry in content if isinstance(entry, dict)]
    columns = [rows[name][:] for name in ("question_id", "image_id", "question", "details")]
    captions = {str(entry["image_id"]): entry["caption"] for entry in entries if {"image_id", "caption"} <= {*entry}}
    if captions:
        answered, ids = captions, columns[1]
    else:
        answered = {str(e["question_id"]): e["answer"] for e in entries if {"question_id", "answer"} <= {*e}}
        ids = columns[0]
    lacking = [name for name in dict.fromkeys(ids) if not isinstance(answered.get(name), str)]
    if lacking:
        what = "captions of images" if captions else "answers to questions"
        raise ValueError(
            f"{source} lacks {len(lacking)} {what} that POPE asks of, such as {lacking[0]}: write one for each"
        )
    if captions:
        asked = [asked_object(details, question) for question, details in zip(*columns[2:], strict=True)]
        if "" in asked:
            raise ValueError(f"captions answer no {columns[2][asked.index('')]!r}: ask 'Is there a ...?'")
        return dict(zip(columns[0], caption_answers([captions[name] for name in ids], asked), strict=True))
    return answered
