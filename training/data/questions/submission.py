"""Predictions as the files that evaluation servers take: VQA v2 (EvalAI), GQA, A-OKVQA, Visual7W.

    {question id: answer} --write_submission--> the file to upload

Every question of the split stands in a file exactly once, or the server refuses it: give `question_ids`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from training.data.files import PathLike, column, read_json, records, write_json
from training.data.json_stream import stream_members, stream_records
from training.data.questions.rows import as_paths, joined, listed

AOKVQA_KEYS = ("multiple_choice", "direct_answer")
QuestionId = str | int


def write_submission(
    kind: str, predictions: Mapping[Any, Any], path: PathLike, *, question_ids: Sequence[QuestionId] | None = None
) -> None:
    """Writes the upload file of a data set; it is there whole or not at all.

    Args:
        kind: a key of `SUBMISSIONS`, which tells what the file looks like.
        predictions: by question id (text or number), the answer; for `aokvqa` `{"multiple_choice": text,
            "direct_answer": text}`, either alone too; for `visual7w` also a list of answers, the likeliest first.
        path: the JSON file.
        question_ids: all questions of the split in the file's order, as `submission_ids` reads them from the official
            file or as the rows' column `question_id`; None writes the predictions as they come.

    An id is written as a number where `question_ids` has it as one, and for `vqa` and `visual7w`, whose files have
    numbers, also where it is the text of one.

    Raises:
        ValueError: for an unknown kind, a prediction that is no text, an id that stands twice, and questions without a
            prediction or predictions without a question (up to five ids, and how many).
    """
    if kind not in SUBMISSIONS:
        raise ValueError(f"unknown kind of submission {kind!r}; choose one of {', '.join(SUBMISSIONS)}")
    by_id = {str(question_id): value for question_id, value in predictions.items()}
    if len(by_id) < len(predictions):
        twice = next(str(i) for i in predictions if isinstance(i, int) and str(i) in predictions)
        raise ValueError(f"the question {twice} has two predictions, under its number and under its text")
    wanted = list(by_id) if question_ids is None else list(question_ids)
    _check_complete(by_id, wanted)
    content = SUBMISSIONS[kind]([(question_id, by_id[str(question_id)]) for question_id in wanted])
    write_json(path, content, indent=None)


def submission_ids(kind: str, questions: PathLike | Sequence[PathLike]) -> list[QuestionId]:
    """The question ids of the official question file (or several), of the type and in the order they stand in it.

    Args:
        kind: a key of `SUBMISSIONS`.
        questions: the file with a VQA v2 `questions` list, GQA's questions, A-OKVQA's, or Visual7W's (of the latter the
            test questions).

    Raises:
        ValueError: for an unknown kind, and a file of another format.
    """
    if kind not in SUBMISSIONS:
        raise ValueError(f"unknown kind of submission {kind!r}; choose one of {', '.join(SUBMISSIONS)}")
    paths = as_paths(questions)
    ids = [question_id for path in paths for question_id in _ids_in(kind, path)]
    strange = [question_id for question_id in ids if not isinstance(question_id, str | int)]
    if strange or not ids:
        fault = f"has the question id {strange[0]!r}" if strange else "holds no question"
        raise ValueError(f"{joined(paths)} {fault}; is it the file of another format?")
    return ids


def _ids_in(kind: str, path: PathLike) -> list[Any]:
    if kind == "gqa":
        return [question_id for question_id, _ in stream_members(path)]
    if kind == "aokvqa":
        return column(list(stream_records(path)), "question_id", path)
    if kind == "vqa":
        return column(records(read_json(path), "questions", path), "question_id", path)
    images = [image for image in records(read_json(path), "images", path) if image.get("split") == "test"]
    return [qa_id for image in images for qa_id in column(records(image, "qa_pairs", path), "qa_id", path)]


def _check_complete(by_id: Mapping[str, Any], wanted: Sequence[QuestionId]) -> None:
    known = {str(question_id) for question_id in wanted}
    if len(known) < len(wanted):
        seen: set[str] = set()
        twice = [str(i) for i in wanted if str(i) in seen or seen.add(str(i))]  # type: ignore[func-returns-value]
        raise ValueError(f"{len(twice)} question ids stand twice in the list of questions: {listed(twice)}")
    absent = [str(question_id) for question_id in wanted if str(question_id) not in by_id]
    strange = [question_id for question_id in by_id if question_id not in known]
    faults = [
        f"{len(ids)} {words}: {listed(ids)}"
        for ids, words in ((absent, "questions have no prediction"), (strange, "predictions have no question"))
        if ids
    ]
    if faults:
        raise ValueError(f"{'; '.join(faults)}; predict every question of the split exactly once")


def _vqa(pairs: Sequence[tuple[QuestionId, Any]]) -> list[dict[str, Any]]:
    """`[{"question_id": int, "answer": str}]`, as the evaluation server of VQA and OK-VQA takes it."""
    return [{"question_id": as_number(i), "answer": _answer(answer, i)} for i, answer in pairs]


def _gqa(pairs: Sequence[tuple[QuestionId, Any]]) -> list[dict[str, Any]]:
    """`[{"questionId": str, "prediction": str}]`; the ids are text, some begin with 0."""
    return [{"questionId": str(i), "prediction": _answer(answer, i)} for i, answer in pairs]


def _aokvqa(pairs: Sequence[tuple[QuestionId, Any]]) -> dict[str, dict[str, str]]:
    """`{question id: {"multiple_choice": str, "direct_answer": str}}`."""
    for question_id, given in pairs:
        if not isinstance(given, Mapping) or not given or not given.keys() <= set(AOKVQA_KEYS):
            raise ValueError(
                f'the prediction of the question {question_id} is {str(given)[:80]!r}; it needs {{"multiple_choice": '
                'text, "direct_answer": text}, or one of them'
            )
    return {str(i): {key: _answer(given[key], i) for key in AOKVQA_KEYS if key in given} for i, given in pairs}


def _visual7w(pairs: Sequence[tuple[QuestionId, Any]]) -> list[dict[str, Any]]:
    """`[{"qa_id": int, "candidates": [{"answer": str}]}]`, the likeliest first, as the toolkit's evaluate.py reads."""
    return [
        {
            "qa_id": as_number(i),
            "candidates": [{"answer": _answer(text, i)} for text in (given if isinstance(given, list) else [given])],
        }
        for i, given in pairs
    ]


SUBMISSIONS: dict[str, Callable[[Sequence[tuple[QuestionId, Any]]], Any]] = {
    "vqa": _vqa,
    "gqa": _gqa,
    "aokvqa": _aokvqa,
    "visual7w": _visual7w,
}


def as_number(question_id: QuestionId) -> QuestionId:
    """A text that is how a number is written, as that number."""
    text = str(question_id)
    return int(text) if text.isdecimal() and str(int(text)) == text else question_id


def _answer(answer: Any, question_id: QuestionId) -> str:
    if not isinstance(answer, str):
        raise ValueError(f"the prediction of the question {question_id} is no text: {str(answer)[:80]!r}")
    return answer
