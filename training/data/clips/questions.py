"""Questions about clips: TGIF-QA, NExT-QA, ActivityNet-QA, MSVD-QA and MSRVTT-QA.

annotation files + folder of clips --read_tgif_qa | read_next_qa | read_activitynet_qa | read_msrvtt_qa--> rows of
`rows.py`
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from training.data.boxes.rows import LeftOut
from training.data.clips.question_types import ACTIVITYNET_TYPES, FRAMEQA_TYPES
from training.data.clips.rows import CLIP_QUESTION_FEATURES, Row, clip_dataset, question_row
from training.data.files import PathLike, column, id_text, listed, read_json, read_lines, read_table, text_column
from training.data.json_stream import stream_records
from training.data.splits import NoSuchSplitError
from training.data.statements.rows import file_word

TGIF_KINDS = {"ACTION": "action", "TRANS": "transition", "COUNT": "count", "FRAMEQA": "frameqa"}
TGIF_CHOICES, NEXT_CHOICES = [f"a{number}" for number in range(1, 6)], [f"a{number}" for number in range(5)]


def read_tgif_qa(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """TGIF-QA's tables (Jang et al. 2017), separated by tabs: repeated actions, transitions, counts, single frames.

    Args:
        annotations: `Train_action_question.csv`, `Test_count_question.csv` and their like; of which of the four kinds a
            file is stands in its rows (`vid_id`). A `Total_...` file has the questions of all splits and does not say
            which: its rows have no split.
        clips: the folder of the GIFs.
        split: keep only this split.
        file_split: the file's split where its name does not tell.

    Returns:
        Rows of `CLIP_QUESTION_FEATURES`: actions and transitions with five `choices`, counts and frames with an
        `answer`; `question_type` is action, transition, count, or of frames object, number, color or location.

    Raises:
        ValueError: for a file of another layout, and as `clip_dataset`; `NoSuchSplitError` for a split of a `Total_`
            file.
    """
    table, left_out, seen = read_table(annotations), LeftOut(annotations), set[str]()
    whole = Path(annotations).name.lower().startswith("total") and file_split is None
    if whole and split is not None:
        raise NoSuchSplitError(f"{annotations} holds the questions of all splits; take the Train_ and Test_ files")
    word = None if whole else file_word(annotations, file_split)
    ids, clip_names, answers, _ = (
        text_column(table, k, annotations) for k in ("vid_id", "gif_name", "answer", "question")
    )
    rows = []
    for name, clip, answer, record in zip(ids, clip_names, answers, table, strict=True):
        kind = TGIF_KINDS.get(name.rstrip("0123456789"))
        if kind is None:
            raise ValueError(f"{annotations}: the vid_id {name!r} is none of {', '.join(TGIF_KINDS)} and a number")
        row = {"question_id": name, "clip_id": clip, "names": (clip,), "question": record["question"], "split": word}
        if kind in ("action", "transition"):
            row |= _candidates(record, TGIF_CHOICES, answer, f"{annotations}: the question {name!r}")
        else:
            row |= {"answer": answer, "answers": [answer]}
        if kind == "frameqa":
            kind = _type_name(record.get("type"), FRAMEQA_TYPES, f"{annotations}: the question {name!r}")
        rows.append(question_row(row | {"question_type": kind}, left_out=left_out, seen=seen))
    return _dataset(rows, clips=clips, split=split, source=annotations, left_out=left_out)


def read_next_qa(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    video_map: PathLike | None = None,
    reference_answers: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """NExT-QA's tables (Xiao et al. 2021): multiple choice (columns `a0` to `a4`) or, without these, open answers.

    Args:
        annotations: `train.csv`, `val.csv` or `test.csv`.
        clips: the folder of the videos, `4010069381.mp4`, or with `video_map` of VidOR's folders.
        video_map: `map_vid_vidorID.json`, which says where a video lies in VidOR (`0101/2909445186`).
        reference_answers: of open answers, `add_reference_answer_test.json`, a further right one for some.
        split, file_split: as for `read_tgif_qa`.

    Returns:
        Rows of `CLIP_QUESTION_FEATURES`; `question_id` is `VIDEO_QID` as in the official result file, `question_type`
        as the file has it (CW, CH, TN, TP, TC, DC, DL, DO).

    Raises:
        ValueError: for a file of another layout, a map or further answers of other videos; and as `clip_dataset`.
    """
    table, word = read_table(annotations), file_word(annotations, file_split)
    left_out, seen = LeftOut(annotations), set[str]()
    videos, numbers, answers, questions, types = (
        text_column(table, key, annotations) for key in ("video", "qid", "answer", "question", "type")
    )
    folders = _object(video_map, videos, key="video")
    further = _object(reference_answers, videos, key="video")
    rows = []
    for number, record in enumerate(table):
        video = videos[number]
        name = f"{video}_{numbers[number]}"
        row = {
            "question_id": name,
            "clip_id": video,
            "names": tuple(dict.fromkeys((str(folders.get(video, video)), video))),
            "question": questions[number],
            "question_type": types[number],
            "split": word,
        }
        if NEXT_CHOICES[0] in record:
            row |= _candidates(record, NEXT_CHOICES, answers[number], f"{annotations}: the question {name!r}")
        else:
            other = (further.get(video) or {}).get(numbers[number])
            row |= {"answer": answers[number], "answers": [answers[number], *([other] if other else [])]}
        rows.append(question_row(row, left_out=left_out, seen=seen))
    return _dataset(rows, clips=clips, split=split, source=annotations, left_out=left_out)


def read_activitynet_qa(
    questions: PathLike,
    *,
    answers: PathLike | None = None,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """ActivityNet-QA's two files (Yu et al. 2019), questions and answers, that share `question_id`.

    Args:
        questions: `val_q.json`, a list of `video_name`, `question`, `question_id`.
        answers: `val_a.json`, a list of `answer`, `type` (0..8), `question_id`; None for questions without answers.
        clips: the folder of the videos, `v_1QIUV7WYKXg.mp4` (with or without `v_`).
        split, file_split: as for `read_tgif_qa`.

    Returns:
        Rows of `CLIP_QUESTION_FEATURES` in the order of the questions; `question_type` is the name of the type.

    Raises:
        ValueError: for files of another layout, ids that only one of them has; and as `clip_dataset`.
    """
    asked, word = list(stream_records(questions)), file_word(questions, file_split)
    left_out, seen = LeftOut(questions), set[str]()
    ids = [id_text(value) for value in column(asked, "question_id", questions)]
    given: dict[str, dict[str, Any]] = {}
    if answers is not None:
        records = list(stream_records(answers))
        given = {id_text(i): record for i, record in zip(column(records, "question_id", answers), records, strict=True)}
        _check_same_ids(ids, given, questions, answers)
    rows = []
    for name, video, record in zip(ids, text_column(asked, "video_name", questions), asked, strict=True):
        row = {
            "question_id": name,
            "clip_id": video,
            "names": (f"v_{video}", video),
            "question": record.get("question"),
            "split": word,
        }
        if name in given:
            place = f"{answers}: the question {name!r}"
            row |= {
                "answers": [given[name].get("answer")],
                "question_type": _type_name(given[name].get("type"), ACTIVITYNET_TYPES, place),
            }
        rows.append(question_row(row, left_out=left_out, seen=seen))
    return _dataset(rows, clips=clips, split=split, source=questions, left_out=left_out)


def read_msrvtt_qa(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    prefix: str = "video",
    video_map: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """MSRVTT-QA's and MSVD-QA's JSON (Xu et al. 2017): a list of `id`, `video_id`, `question`, `answer`.

    Written after the documented layout; no real file was at hand.

    Args:
        annotations: `train_qa.json`, `val_qa.json` or `test_qa.json`.
        clips: the folder of the videos.
        prefix: what stands before the number of a video in its file's name: `video` (MSRVTT-QA) or `vid` (MSVD-QA).
        video_map: MSVD-QA's `youtube_mapping.txt`, a line `-4wsuPCjDBc_5_15 vid1` a video, whose first words are then
            the ids of clips, as in MSVD's captions.
        split, file_split: as for `read_tgif_qa`.

    Returns:
        Rows of `CLIP_QUESTION_FEATURES`; `question_type` is the question's first word (what, who, how, when, where).

    Raises:
        ValueError: for a file of another layout, a video that the map lacks; and as `clip_dataset`.
    """
    records, word = list(stream_records(annotations)), file_word(annotations, file_split)
    left_out, seen = LeftOut(annotations), set[str]()
    named = _youtube_names(video_map) if video_map is not None else {}
    rows = []
    ids, videos, answers = (column(records, key, annotations) for key in ("id", "video_id", "answer"))
    for number, video, answer, record in zip(ids, videos, answers, records, strict=True):
        own = f"{prefix}{id_text(video).removeprefix(prefix)}"
        if video_map is not None and own not in named:
            raise ValueError(f"{video_map} does not name the video {own!r}, of which {annotations} asks")
        question = record.get("question")
        row = {
            "question_id": id_text(number),
            "clip_id": named.get(own, own),
            "names": (named[own], own) if own in named else (own,),
            "question": question,
            "answers": [answer],
            "question_type": question.split()[0].lower() if isinstance(question, str) and question.split() else None,
            "split": word,
        }
        rows.append(question_row(row, left_out=left_out, seen=seen))
    return _dataset(rows, clips=clips, split=split, source=annotations, left_out=left_out)


def _dataset(
    rows: list[Row | None], *, clips: PathLike | None, split: str | None, source: PathLike, left_out: LeftOut
) -> datasets.Dataset:
    usable = [row for row in rows if row is not None]
    return clip_dataset(usable, CLIP_QUESTION_FEATURES, clips=clips, split=split, source=source, left_out=left_out)


def _candidates(record: Mapping[str, Any], keys: list[str], answer: str, place: str) -> Row:
    """The candidates of a question and the number of the right one, which a table has as text."""
    choices = [record.get(key) for key in keys]
    if any(choice is None for choice in choices):
        raise ValueError(f"{place} has not all of {', '.join(keys)}; is the line cut short?")
    if not answer.strip().isdecimal():
        raise ValueError(f"{place} has the answer {answer!r:.40}, not the number of a candidate, from 0")
    return {"choices": choices, "correct_choice": int(answer)}


def _type_name(value: Any, names: tuple[str, ...], place: str) -> str:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"{place} has the type {value!r:.40}, not a number from 0 to {len(names) - 1}")
    return names[number]


def _object(path: PathLike | None, videos: list[str], *, key: str) -> dict[str, Any]:
    """A JSON object by video; {} without a path, `ValueError` for one of other videos."""
    if path is None:
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or not content.keys() & set(videos):
        raise ValueError(
            f"{path} names no {key} of the questions ({listed(videos)}); is it of another data set or split?"
        )
    return content


def _youtube_names(path: PathLike) -> dict[str, str]:
    pairs = [line.split() for line in read_lines(path)]
    wrong = next((number for number, pair in enumerate(pairs, start=1) if len(pair) != 2), None)
    if wrong is not None:
        raise ValueError(f"{path}, line {wrong} is no name and number of a video, `-4wsuPCjDBc_5_15 vid1`")
    return {number: name for name, number in pairs}


def _check_same_ids(ids: list[str], given: Mapping[str, Any], questions: PathLike, answers: PathLike) -> None:
    known = set(ids)
    absent, strange = [name for name in ids if name not in given], [name for name in given if name not in known]
    if absent or strange:
        faults = [
            f"{len(names)} {words} ({listed(names)})"
            for names, words in ((absent, "questions without an answer"), (strange, "answers without a question"))
            if names
        ]
        raise ValueError(f"{questions} and {answers} do not match: {', '.join(faults)}; are both of the same split?")
