"""The answers a VQA model can give.

    rows --build_answers--> AnswerVocabulary --write_answers / read_answers--> answers.json (a list, row = answer id)

Teney et al. 2017 (section 3.8) and Anderson et al. 2018 (section 3.3) keep the answers that are a VQA v2 question's
correct answer more than 8 times in train+val, 3,129 of them. What each question is trained towards over them is
`training/metrics/vqa/soft_targets.py`'s. Answers meet labels through one cleaning function,
`processors.answer_text_updown.normalize_answer`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np

from training.data.files import PathLike, read_json, read_lines, write_json
from training.data.questions.answers import learned_answers, no_answers, normalized

LARGEST_FILE_BYTES = 2**26
NUM_NAMED = 5  # of faulty answers in an error

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
        return {normalized(answer): number for number, answer in enumerate(self.answers)}

    def id_of(self, answer: str) -> int | None:
        """The id of an answer in any spelling that normalises to the same; None where there is none."""
        return self.id_of_normalized.get(normalized(answer))

    def ids_of(self, texts: Sequence[str], *, counted: Counted = "normalized") -> np.ndarray:
        """The id of each text, -1 where there is none: (len(texts),) int64.

        Args:
            counted: `normalized`, as `id_of`; `raw`, only texts that are written exactly as the vocabulary's are.
        """
        if counted == "raw":
            return np.array([self.id_of_written.get(text, -1) for text in texts], dtype=np.int64)
        known = self.id_of_normalized
        return np.array([known.get(normalized(text), -1) for text in texts], dtype=np.int64)


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
        counts[normalized(text)] += count
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
        places.setdefault(normalized(answer), []).append(number)
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


def _count_learned(rows: datasets.Dataset) -> dict[str, int]:
    """Each answer to learn, as written, and its questions, in the order they are first seen."""
    codes, texts = learned_answers(rows)
    seen, first, counts = np.unique(codes[codes >= 0], return_index=True, return_counts=True)
    if not len(seen):
        raise ValueError(no_answers(len(rows)))
    order = np.argsort(first)
    written: Counter[str] = Counter()  # a text may have two codes
    for code, count in zip(seen[order].tolist(), counts[order].tolist(), strict=True):
        written[texts[code]] += count
    return written


def _commonest_spellings(kept: Sequence[str], written: Mapping[str, int]) -> list[str]:
    spellings: dict[str, str] = {}
    for text in sorted(written, key=lambda text: (-written[text], text)):
        spellings.setdefault(normalized(text), text.strip())
    return [spellings[answer] for answer in kept]
