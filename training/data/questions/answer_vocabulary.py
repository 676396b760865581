"""The answers a VQA model can give, how far they reach, and each question's soft targets over them.

    rows --build_answers--> AnswerVocabulary --write_answers / read_answers--> answers.json (a list, row = answer id)
    rows --answer_lists--> answers per question --soft_targets--> SoftTargets --dense--> labels (B, V)

Teney et al. 2017 (section 3.8) and Anderson et al. 2018 (section 3.3) keep the answers that are a VQA v2 question's
correct answer more than 8 times in train+val, 3,129 of them, and train each against the share of annotators who gave
it. Answers meet labels through one cleaning function, `processors.answer_text_updown.normalize_answer`. Texts are
cleaned and looked up once per distinct text, the rest is arithmetic on arrays, so 658,000 questions take seconds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from processors.answer_text_updown import SOFT_SCORE_FORMS, clean_answer, normalize_answer, soft_score
from training.data.files import PathLike, read_json, read_lines, write_json

LARGEST_FILE_BYTES = 2**26
NUM_NAMED = 5  # of faulty answers in an error

Form = Literal["leave_one_out", "table", "agree_of_three"]
Counted = Literal["normalized", "raw"]


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers of a model, in the order of its output's columns.

    Attributes:
        answers: V texts as the model gives them, no two of them equal once normalised. The empty text may be one: VQA
            v2's list has it, for answers such as "a" that normalise to nothing.
        counts: how many questions each is the answer of; empty where the list came from a file.

    Raises:
        ValueError: for no answer, one that is no text, answers that are there twice or are equal once normalised, and
            counts that are not one an answer.

    >>> AnswerVocabulary(["yes", "t-shirt"]).id_of("T shirt.")
    1
    """

    answers: Sequence[str]
    counts: Sequence[int] = ()

    def __post_init__(self) -> None:
        _check_answers(self.answers)
        if len(self.counts) not in (0, len(self.answers)):
            raise ValueError(f"{len(self.answers)} answers have {len(self.counts)} counts; give each its own, or none")

    def __len__(self) -> int:
        return len(self.answers)

    @cached_property
    def id_of_written(self) -> dict[str, int]:
        """Each answer's id, as it is written."""
        return {answer: number for number, answer in enumerate(self.answers)}

    @cached_property
    def id_of_normalized(self) -> dict[str, int]:
        """Each answer's id, normalised."""
        return {_normalized(answer): number for number, answer in enumerate(self.answers)}

    def id_of(self, answer: str) -> int | None:
        """The id of an answer in any spelling that normalises to the same; None where there is none."""
        return self.id_of_normalized.get(_normalized(answer))

    def ids_of(self, texts: Sequence[str], *, counted: Counted = "normalized") -> np.ndarray:
        """The id of each text, -1 where there is none: (len(texts),) int64.

        Args:
            counted: `normalized`, as `id_of`; `raw`, only texts that are written exactly as the vocabulary's are.
        """
        if counted == "raw":
            return np.array([self.id_of_written.get(text, -1) for text in texts], dtype=np.int64)
        known = self.id_of_normalized
        return np.array([known.get(_normalized(text), -1) for text in texts], dtype=np.int64)


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


def build_answers(
    rows: datasets.Dataset,
    *,
    min_count: int | None = None,
    top: int | None = None,
    spelling: Literal["normalized", "as_written"] = "normalized",
    order: Literal["count", "first_seen"] = "count",
) -> AnswerVocabulary:
    """The answers that are common among the questions' answers to learn (`learned_answers`), counted normalised.

    Args:
        rows: `answer` and `answers` of `VQA_FEATURES`, usually of train+val; questions without any answer are passed
            over.
        min_count: keep answers seen at least so often; 9 on VQA v2's train+val gives the 3,129 of Teney et al. 2017.
        top: keep so many; at the edge, equal counts are kept in alphabetical order.
        spelling: how the kept ones are written: `normalized` as VQA is scored, or `as_written`, each in its commonest
            spelling (then the alphabetically first), for evaluators that normalise nothing: GQA's "t-shirt" and
            DAQUAR's "book, scissor" would lose their marks.
        order: of the ids: `count`, most frequent first and equal counts in alphabetical order, or `first_seen`, the
            order of the rows, as hengyuan-hu/bottom-up-attention-vqa numbers them.

    Raises:
        ValueError: for both or neither of `min_count` and `top`, one below 1, no question with an answer, and where no
            answer is left.
    """
    _check_limits(min_count, top)
    written = _count_learned(rows)  # spelling -> questions, in the order they are first seen
    counts: Counter[str] = Counter()
    for text, count in written.items():
        counts[_normalized(text)] += count
    kept = sorted(counts, key=lambda answer: (-counts[answer], answer))[:top]
    kept = [answer for answer in kept if counts[answer] >= (min_count or 1)]
    if not kept:
        commonest, count = counts.most_common(1)[0]
        raise ValueError(
            f"no answer is seen {min_count} times; the commonest, {commonest!r}, is seen {count} times: lower the "
            "minimum, or take the top answers"
        )
    if order == "first_seen":
        chosen = set(kept)
        kept = [answer for answer in counts if answer in chosen]
    answers = kept if spelling == "normalized" else _commonest_spellings(kept, written)
    return AnswerVocabulary(answers, counts=[counts[answer] for answer in kept])


def answer_coverage(rows: datasets.Dataset, vocabulary: AnswerVocabulary) -> dict[str, Coverage]:
    """How far a vocabulary reaches: over `"all"` questions, and over each `answer_type` there is, commonest first.

    Raises `ValueError` where no question has an answer.
    """
    codes, texts = learned_answers(rows)
    answered = codes >= 0
    if not answered.any():
        raise ValueError(_no_answers(len(rows)))
    targets = soft_targets(answer_lists(rows), vocabulary)
    known = np.append(vocabulary.ids_of(texts), -1)[codes] >= 0  # the appended one is of hidden answers, code -1
    columns = (known, np.diff(targets.starts) > 0, targets.best_scores())
    types = _texts(rows, "answer_type").dictionary_encode()
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
    lists = _list_array(answers)
    lengths, codes, texts = _flat(lists)
    ids = vocabulary.ids_of(texts, counted=counted)[codes]
    questions, ids, counts, _ = _count_in_rows(lengths, ids, num_ids=len(vocabulary))
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.bincount(questions, minlength=len(lengths)), out=starts[1:])
    scores = _scores(lengths[questions], counts, form=form)
    return SoftTargets(starts, ids.astype(np.int32), scores, num_answers=len(vocabulary))


def answer_lists(rows: datasets.Dataset) -> pa.Array:
    """The human answers of each question, or its one `answer` where there are none; empty where that is hidden too.

    Args:
        rows: `answers` and `answer` of `VQA_FEATURES`.

    Returns:
        An Arrow list array of as many lists of texts, which `soft_targets` takes without making them Python lists.
    """
    given, single = _list_array(_columns(rows, "answers")), _texts(rows, "answer")
    named = pc.not_equal(pc.utf8_trim_whitespace(single), "")
    lonely = pc.and_(pc.equal(pc.list_value_length(given), 0), named)
    singles = pa.ListArray.from_arrays(pa.array(np.arange(len(single) + 1), pa.int32()), single)
    return pc.if_else(lonely, singles.cast(given.type), given)


def learned_answers(rows: datasets.Dataset) -> tuple[np.ndarray, list[str]]:
    """The one answer to learn of each question: its `answer`, or where that is blank the commonest of `answers`.

    Answers are compared normalised; of equally common ones the first given is taken, blank ones never are.

    Args:
        rows: `answer` and `answers` of `VQA_FEATURES`.

    Returns:
        codes: (Q,) positions in `texts`, -1 for a question without any answer.
        texts: distinct answers as they are written.
    """
    answers = _texts(rows, "answer").dictionary_encode()
    texts = answers.dictionary.to_pylist()
    blank = np.array([not text.strip() for text in texts], dtype=bool)
    codes = np.where(blank[np.asarray(answers.indices)], -1, np.asarray(answers.indices)).astype(np.int64)
    unnamed = np.flatnonzero(codes < 0)
    lists = _list_array(_columns(rows, "answers")).take(pa.array(unnamed))
    lengths, given, given_texts = _flat(lists)
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(_normalized(text), len(numbers)) if text.strip() else -1 for text in given_texts]
    questions, _, counts, first = _count_in_rows(lengths, np.array(ids, dtype=np.int64)[given], num_ids=len(numbers))
    order = np.lexsort((first, -counts, questions))
    questions, best = np.unique(questions[order], return_index=True)
    codes[unnamed[questions]] = len(texts) + given[first[order][best]]
    return codes, texts + given_texts


def read_answers(path: PathLike) -> AnswerVocabulary:
    """The answer vocabulary in a file.

    Args:
        path: a JSON list of answers (what `write_answers` writes, LXMERT's `trainval_label2ans.json`), a JSON object
            answer -> id (LXMERT's `trainval_ans2label.json`), or a `.txt` with an answer a line, blank lines passed
            over.

    Raises:
        ValueError: naming the file, for one that is none of these or larger than 64 MB, ids that are not 0..V-1, and
            what `AnswerVocabulary` refuses.
    """
    path = Path(path)
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise ValueError(f"{path} is a pickle, which may run anything when read: write its list as JSON (json.dump)")
    if path.is_file() and path.stat().st_size > LARGEST_FILE_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, too many for a list of answers; is it that file?")
    content = read_lines(path) if path.suffix.lower() == ".txt" else read_json(path)
    try:
        return AnswerVocabulary(_in_order(content) if isinstance(content, dict) else content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_answers(path: PathLike, vocabulary: AnswerVocabulary) -> None:
    """Write the answers as a JSON list, the row of each its id; the file is either whole or not there."""
    write_json(path, list(vocabulary.answers))


def _normalized(text: str) -> str:
    """As predictions and human answers are normalised to be compared; of one text it is worked out once."""
    return normalize_answer(clean_answer(text))


def _check_answers(answers: Any) -> None:
    if not isinstance(answers, list | tuple):
        raise ValueError(f"a vocabulary is a list of answers, not {str(answers)[:80]!r}")
    if not answers:
        raise ValueError("there is no answer in the list")
    strange = next((number for number, answer in enumerate(answers) if not isinstance(answer, str)), None)
    if strange is not None:
        raise ValueError(f"answer {strange} is {str(answers[strange])[:80]!r}, which is no text")
    places: dict[str, list[int]] = {}
    for number, answer in enumerate(answers):
        places.setdefault(_normalized(answer), []).append(number)
    doubles = [numbers for numbers in places.values() if len(numbers) > 1]
    if doubles:
        named = "; ".join(
            " = ".join(f"{answers[number]!r} (id {number})" for number in numbers[:NUM_NAMED])
            for numbers in doubles[:NUM_NAMED]
        )
        more = ", ..." if len(doubles) > NUM_NAMED else ""
        raise ValueError(
            f"of {len(answers)} answers, {len(doubles)} stand there more than once, as written or normalised: "
            f"{named}{more}; keep one of each"
        )


def _in_order(id_of: Mapping[str, Any]) -> list[str]:
    """The answers of a mapping answer -> id, by id."""
    strange = next(((answer, number) for answer, number in id_of.items() if type(number) is not int), None)
    if strange is not None:
        raise ValueError(f"the id of {strange[0]!r} is {str(strange[1])[:80]!r}, which is no whole number")
    if sorted(id_of.values()) != list(range(len(id_of))):
        raise ValueError(f"the ids of the {len(id_of)} answers are not 0 to {len(id_of) - 1}, each once")
    return sorted(id_of, key=lambda answer: id_of[answer])


def _check_limits(min_count: int | None, top: int | None) -> None:
    if (min_count is None) == (top is None):
        raise ValueError("give one of min_count (9 for VQA v2's 3,129 answers) and top, the number of answers to keep")
    for name, limit in (("min_count", min_count), ("top", top)):
        if limit is not None and limit < 1:
            raise ValueError(f"{name} is {limit}, but must be 1 or more")


def _no_answers(num_questions: int) -> str:
    return f"none of the {num_questions} questions has an answer; test files hide them: take train or val"


def _count_learned(rows: datasets.Dataset) -> dict[str, int]:
    """Each answer to learn, as written, and its questions, in the order they are first seen."""
    codes, texts = learned_answers(rows)
    seen, first, counts = np.unique(codes[codes >= 0], return_index=True, return_counts=True)
    if not len(seen):
        raise ValueError(_no_answers(len(rows)))
    order = np.argsort(first)
    written: Counter[str] = Counter()  # a text may have two codes
    for code, count in zip(seen[order].tolist(), counts[order].tolist(), strict=True):
        written[texts[code]] += count
    return written


def _commonest_spellings(kept: Sequence[str], written: Mapping[str, int]) -> list[str]:
    spellings: dict[str, str] = {}
    for text in sorted(written, key=lambda text: (-written[text], text)):
        spellings.setdefault(_normalized(text), text.strip())
    return [spellings[answer] for answer in kept]


def _columns(rows: datasets.Dataset, name: str) -> pa.ChunkedArray:
    return rows.select_columns([name]).with_format("arrow")[:][name]


def _texts(rows: datasets.Dataset, name: str) -> pa.Array:
    """A column of texts, missing ones empty."""
    return pc.fill_null(_columns(rows, name).combine_chunks(), "")


def _list_array(answers: Any) -> pa.Array:
    """Lists of texts as one Arrow array; a missing list is an empty one."""
    if not isinstance(answers, pa.Array | pa.ChunkedArray):
        answers = pa.array(answers, type=pa.list_(pa.string()))
    answers = answers.combine_chunks() if isinstance(answers, pa.ChunkedArray) else answers
    return pc.fill_null(answers, pa.scalar([], type=answers.type)) if answers.null_count else answers


def _flat(lists: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The length of each list (Q,), a code of each text in them (N,), and the distinct texts the codes stand for."""
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    encoded = pc.fill_null(lists.flatten(), "").dictionary_encode()
    return lengths, np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def _count_in_rows(
    lengths: np.ndarray, ids: np.ndarray, *, num_ids: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How often each id is in each row, ids below 0 passed over.

    Returns (row, id, count, position of the first one in `ids`), each (N,), ordered by that position.
    """
    known = np.flatnonzero(ids >= 0)
    keys = np.repeat(np.arange(len(lengths)), lengths)[known] * max(num_ids, 1) + ids[known]
    keys, first, counts = np.unique(keys, return_index=True, return_counts=True)
    order = np.argsort(first)
    row, id_in_row = np.divmod(keys[order], max(num_ids, 1))
    return row, id_in_row, counts[order], known[first[order]]


def _scores(num_annotators: np.ndarray, counts: np.ndarray, *, form: Form) -> np.ndarray:
    """The soft score of an answer that `counts` of `num_annotators` gave: both (N,) -> (N,)."""
    pairs, where = np.unique(num_annotators * 2**32 + counts, return_inverse=True)
    scores = [
        # nobody else could agree with a lone annotator
        1.0 if num_answers == 1 else soft_score(count, num_answers=num_answers, form=form)
        for num_answers, count in (divmod(pair, 2**32) for pair in pairs.tolist())
    ]
    return np.array(scores, dtype=np.float64)[where]
