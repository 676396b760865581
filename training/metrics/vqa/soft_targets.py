"""The soft scores that a question's answers are trained towards, and the best score that a list of answers allows.

    answers of each question, AnswerVocabulary --soft_targets--> SoftTargets --dense--> labels (B, V)
    rows, AnswerVocabulary --answer_coverage--> Coverage

Anderson et al. 2018 (section 3.3) train each answer towards the share of annotators who gave it; the forms of that are
`processors.answer_text_updown.soft_score`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import torch

from processors.answer_text_updown import SOFT_SCORE_FORMS, soft_score
from training.data.questions.answer_vocabulary import AnswerVocabulary, Counted
from training.data.questions.answers import (
    answer_lists,
    counts_in_rows,
    distinct_texts,
    learned_answers,
    list_array,
    no_answers,
    text_array,
)

Form = Literal["leave_one_out", "table", "agree_of_three"]


@dataclass(frozen=True, eq=False)
class SoftTargets(Sequence[Any]):
    """Soft targets of Q questions, in three arrays: `targets[3]` is a question's (answer ids, scores in 0..1).

    Attributes:
        starts: (Q + 1,) where each question's entries begin.
        ids: (N,) answer ids, within a question in the order its annotators first gave them.
        scores: (N,) the score of each, 0..1.
        num_answers: V.

    >>> targets = soft_targets([["dog"] * 8 + ["cat", "puppy"], ["cat"]], AnswerVocabulary(["cat", "dog"]))
    >>> [ids.tolist() for ids, _ in targets], targets.dense([0, 1])
    ([[1, 0], [0]], tensor([[0.3000, 1.0000], [1.0000, 0.0000]]))
    """

    starts: np.ndarray
    ids: np.ndarray
    scores: np.ndarray
    num_answers: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, question: Any) -> Any:
        if isinstance(question, slice):
            return [self[number] for number in range(*question.indices(len(self)))]
        number = range(len(self))[question]  # negative ones, and IndexError
        entries = slice(self.starts[number], self.starts[number + 1])
        return self.ids[entries], self.scores[entries]

    def dense(self, questions: Sequence[int] | np.ndarray) -> torch.Tensor:
        """The labels of some questions, 0 for answers that nobody gave: (B, V) float32."""
        chosen = np.asarray(questions, dtype=np.int64)
        lengths = self.starts[chosen + 1] - self.starts[chosen]
        rows = np.repeat(np.arange(len(chosen)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        entries = np.repeat(self.starts[chosen], lengths) + within
        labels = np.zeros((len(chosen), self.num_answers), dtype=np.float32)
        labels[rows, self.ids[entries]] = self.scores[entries]
        return torch.from_numpy(labels)

    def best_scores(self) -> np.ndarray:
        """The score of each question's best answer, 0 where the vocabulary has none of its answers: (Q,)."""
        best = np.zeros(len(self))
        np.maximum.at(best, self.questions(), self.scores)
        return best

    def questions(self) -> np.ndarray:
        """The question of each entry: (N,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))


@dataclass(frozen=True)
class Coverage:
    """How far a vocabulary reaches, over the questions that have an answer.

    Attributes:
        num_questions: with an answer; those whose answers are hidden are not counted.
        answer_known: share whose one answer to learn (`learned_answers`) is in the vocabulary.
        any_known: share with at least one human answer in it.
        best_score: mean over questions of the best score an answer of it gets, leave-one-out: no model that answers
            from this vocabulary can have a higher accuracy.
    """

    num_questions: int
    answer_known: float
    any_known: float
    best_score: float


def soft_targets(
    answers: Any, vocabulary: AnswerVocabulary, *, form: Form = "leave_one_out", counted: Counted = "normalized"
) -> SoftTargets:
    """What each question's output is trained towards: the soft score of every answer that somebody gave.

    A question with a single answer, as most data sets but VQA's have, is trained towards it with score 1 in every form.
    Answers outside the vocabulary count as annotators and have no entry.

    Args:
        answers: of each question, the human answers: what `answer_lists` gives, or lists of texts.
        vocabulary: gives the ids.
        form: one of `soft_score`'s: `leave_one_out`, as VQA is scored; `table`, that of
            hengyuan-hu/bottom-up-attention-vqa, which with ten annotators gives the same numbers; `agree_of_three`.
        counted: `normalized`: answers that normalise to the same are one; `raw`: only answers written exactly as the
            vocabulary's count, as hengyuan-hu/bottom-up-attention-vqa does, which loses annotators who wrote "two".

    Raises:
        ValueError: for another `form` or `counted`.
    """
    if counted not in ("normalized", "raw"):
        raise ValueError(f"answers are counted 'normalized' or 'raw', not {counted!r}")
    if form not in SOFT_SCORE_FORMS:
        raise ValueError(f"form is {form!r}; it can be one of {', '.join(SOFT_SCORE_FORMS)}")
    lists = list_array(answers)
    lengths, codes, texts = distinct_texts(lists)
    ids = vocabulary.ids_of(texts, counted=counted)[codes]
    questions, ids, counts, _ = counts_in_rows(lengths, ids, num_ids=len(vocabulary))
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.bincount(questions, minlength=len(lengths)), out=starts[1:])
    scores = _scores(lengths[questions], counts, form=form)
    return SoftTargets(starts, ids.astype(np.int32), scores, num_answers=len(vocabulary))


def answer_coverage(rows: datasets.Dataset, vocabulary: AnswerVocabulary) -> dict[str, Coverage]:
    """How far a vocabulary reaches: over `"all"` questions, and over each `answer_type` there is, commonest first.

    Raises `ValueError` where no question has an answer.
    """
    codes, texts = learned_answers(rows)
    answered = codes >= 0
    if not answered.any():
        raise ValueError(no_answers(len(rows)))
    targets = soft_targets(answer_lists(rows), vocabulary)
    known = np.append(vocabulary.ids_of(texts), -1)[codes] >= 0  # the appended one is of hidden answers, code -1
    columns = (known, np.diff(targets.starts) > 0, targets.best_scores())
    types = text_array(rows, "answer_type").dictionary_encode()
    names, type_of = types.dictionary.to_pylist(), np.asarray(types.indices)
    groups = {"all": answered} | {
        names[number]: answered & (type_of == number)
        for number in np.argsort(-np.bincount(type_of[answered], minlength=len(names)), kind="stable")
        if names[number] and (answered & (type_of == number)).any()
    }
    return {
        name: Coverage(int(group.sum()), *(float(column[group].mean()) for column in columns))
        for name, group in groups.items()
    }


def _scores(num_annotators: np.ndarray, counts: np.ndarray, *, form: Form) -> np.ndarray:
    """The soft score of an answer that `counts` of `num_annotators` gave: both (N,) -> (N,)."""
    pairs, where = np.unique(num_annotators * 2**32 + counts, return_inverse=True)
    scores = [
        # nobody else could agree with a lone annotator
        1.0 if num_answers == 1 else soft_score(count, num_answers=num_answers, form=form)
        for num_answers, count in (divmod(pair, 2**32) for pair in pairs.tolist())
    ]
    return np.array(scores, dtype=np.float64)[where]
