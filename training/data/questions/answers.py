"""The answers of question rows as arrays: all that people gave, and the one to learn.

    rows --answer_lists--> answers of each question        rows --learned_answers--> (code of its answer, texts)

Texts are cleaned and looked up once per distinct text, the rest is arithmetic on arrays, so 658,000 questions take
seconds.
"""

from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from processors.answer_text_updown import clean_answer, normalize_answer


def answer_lists(rows: datasets.Dataset) -> pa.Array:
    """The human answers of each question, or its one `answer` where there are none; empty where that is hidden too.

    Args:
        rows: `answers` and `answer` of `VQA_FEATURES`.

    Returns:
        An Arrow list array of as many lists of texts, which `soft_targets` takes without making them Python lists.
    """
    given, single = list_array(_column(rows, "answers")), text_array(rows, "answer")
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
    answers = text_array(rows, "answer").dictionary_encode()
    texts = answers.dictionary.to_pylist()
    blank = np.array([not text.strip() for text in texts], dtype=bool)
    codes = np.where(blank[np.asarray(answers.indices)], -1, np.asarray(answers.indices)).astype(np.int64)
    unnamed = np.flatnonzero(codes < 0)
    lists = list_array(_column(rows, "answers")).take(pa.array(unnamed))
    lengths, given, given_texts = distinct_texts(lists)
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(normalized(text), len(numbers)) if text.strip() else -1 for text in given_texts]
    questions, _, counts, first = counts_in_rows(lengths, np.array(ids, dtype=np.int64)[given], num_ids=len(numbers))
    order = np.lexsort((first, -counts, questions))
    questions, best = np.unique(questions[order], return_index=True)
    codes[unnamed[questions]] = len(texts) + given[first[order][best]]
    return codes, texts + given_texts


def normalized(text: str) -> str:
    """As predictions and human answers are normalised to be compared; of one text it is worked out once."""
    return normalize_answer(clean_answer(text))


def text_array(rows: datasets.Dataset, name: str) -> pa.Array:
    """A column of texts, missing ones empty."""
    return pc.fill_null(_column(rows, name).combine_chunks(), "")


def list_array(answers: Any) -> pa.Array:
    """Lists of texts as one Arrow array; a missing list is an empty one."""
    if not isinstance(answers, pa.Array | pa.ChunkedArray):
        answers = pa.array(answers, type=pa.list_(pa.string()))
    answers = answers.combine_chunks() if isinstance(answers, pa.ChunkedArray) else answers
    return pc.fill_null(answers, pa.scalar([], type=answers.type)) if answers.null_count else answers


def distinct_texts(lists: pa.Array) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The length of each list (Q,), a code of each text in them (N,), and the distinct texts the codes stand for."""
    lengths = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    encoded = pc.fill_null(lists.flatten(), "").dictionary_encode()
    return lengths, np.asarray(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def counts_in_rows(
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


def no_answers(num_questions: int) -> str:
    return f"none of the {num_questions} questions has an answer; test files hide them: take train or val"


def _column(rows: datasets.Dataset, name: str) -> pa.ChunkedArray:
    return rows.select_columns([name]).with_format("arrow")[:][name]
