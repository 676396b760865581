"""Question files on the images of COCO: VQA v1, v2 and OK-VQA, A-OKVQA, and LXMERT's copies of VQA v2 and GQA.

    question file (+ annotation file) --read_vqa_v2 | read_aokvqa | read_lxmert_*--> rows of `rows.py`

VQA (Antol et al. 2015; Goyal et al. 2017), its abstract scenes and its multiple choice, OK-VQA (Marino et al. 2019) and
A-OKVQA (Schwenk et al. 2022) in their own files; LXMERT (Tan and Bansal 2019) gives each answer its soft score.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.files import PathLike, column, id_text, read_json, records
from training.data.json_stream import stream_members, stream_records
from training.data.questions.rows import (
    COCO_NAME,
    HIDDEN_SPLITS,
    ROWS_A_CHUNK,
    Faults,
    as_paths,
    id_field,
    in_chunks,
    joined,
    listed,
    official_image_paths,
    split_in,
    text_column,
    vqa_dataset,
    vqa_split,
)

ANSWER_FIELDS = ("answer", "raw_answer")
NO_ANNOTATION = pa.table(
    {
        **{name: [""] for name in ("question_id", "image_id", "answer", "question_type", "answer_type", "details")},
        "answers": pa.array([[]], pa.list_(pa.string())),
    }
).select(("question_id", "image_id", "answers", "answer", "question_type", "answer_type", "details"))
POINTS_A_VOTE = 0.3  # LXMERT's soft scores: 0.3, 0.6, 0.9 for one, two, three of ten annotators, 1.0 for four and more


def read_vqa_v2(
    questions: PathLike | Sequence[PathLike],
    *,
    annotations: PathLike | Sequence[PathLike] | None = None,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    answer_field: str = "answer",
) -> datasets.Dataset:
    """The official files of VQA v1, VQA v2, their abstract scenes and OK-VQA, which share their layout.

    Args:
        questions: `OpenEnded_mscoco_*_questions.json`, or several; of VQA v1 also `MultipleChoice_mscoco_*`, whose 18
            answers become the `choices`.
        annotations: `mscoco_*_annotations.json`, or several; None where the answers are hidden (test, test-dev).
        images: the image folder, with or without sub-folders such as `train2014`; images may be named as in COCO 2014
            (`COCO_val2014_000000000042.jpg`) or as in 2017 (`000000000042.jpg`).
        split: keep only this split.
        file_split: the split of the whole file; by default what its `data_subtype` says (`val2014`), else its name.
        answer_field: OK-VQA's answers are stemmed for its evaluation (`answer`); `raw_answer` is what people wrote.

    Returns:
        Rows with the ten `answers`, `answer` the file's `multiple_choice_answer`, `question_type` (of OK-VQA its
        category's name) and `answer_type`. `details` holds `answer_ids` where these do not tell the answers apart,
        which changes the official accuracy.

    Questions without an annotation and annotations without a question are left out and listed in a warning, but
    questions of test, test-dev and challenge are kept, with hidden answers.

    Raises:
        ValueError: for files that are broken, of another format, or do not belong together.
    """
    if answer_field not in ANSWER_FIELDS:
        raise ValueError(f"answer_field is {answer_field!r}; the files have {' and '.join(ANSWER_FIELDS)}")
    paths = as_paths(questions)
    asked = pa.concat_tables([_questions(path, file_split=file_split) for path in paths], promote_options="default")
    if annotations is not None:
        notes_paths = as_paths(annotations)
        notes = pa.concat_tables([_annotations(path, answer_field=answer_field) for path in notes_paths])
        asked = _annotated(asked, notes, questions=joined(paths), annotations=joined(notes_paths))
    return vqa_dataset(
        ({name: batch[name] for name in batch.schema.names} for batch in asked.to_batches(ROWS_A_CHUNK)),
        images=images,
        split=split,
        source=joined(paths),
        find_images=official_image_paths,
    )


def read_aokvqa(
    annotations: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """A-OKVQA: `aokvqa_v1p0_{train,val,test}.json`, a list of questions with four choices and ten direct answers.

    Args:
        annotations: the file, or several.
        images: the folder with COCO's images of 2017 or 2014, with or without sub-folders.
        split: keep only this split.
        file_split: the split of the whole file; by default each record names its own.

    Returns:
        Rows whose `answer` is the correct choice; neither it nor the ten `answers` is known in the test file. `details`
        holds `difficult_direct_answer`: the official evaluation asks these questions by multiple choice alone.
    """
    paths = as_paths(annotations)
    return vqa_dataset(
        in_chunks(row for path in paths for row in _aokvqa_rows(path, file_split=file_split)),
        images=images,
        split=split,
        source=joined(paths),
        find_images=official_image_paths,
    )


def read_lxmert_vqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """LXMERT's VQA v2: a list of `{"img_id", "question_id", "sent", "label": {answer: soft score}}`.

    Args:
        questions: `train.json`, `nominival.json`, `minival.json` or `test.json`, or several.
        images: the folder with COCO's images, with or without sub-folders.
        split: keep only this split.
        file_split: the split of the whole file; by default its name's (nominival is restval, minival is val).

    Returns:
        Rows whose `answers` hold each answer as often as annotators gave it, up to four times: the soft scores of the
        table form are the file's. `answer` is the one with the highest score, "" where the label is empty.
    """
    return _read_lxmert(questions, votes=_votes, images=images, split=split, file_split=file_split)


def read_lxmert_gqa(
    questions: PathLike | Sequence[PathLike],
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """LXMERT's GQA: the layout of its VQA v2 with one answer a question; arguments as for `read_lxmert_vqa`.

    The files are `train.json`, `valid.json`, `testdev.json` and `submit.json`. GQA's own metrics need its own files.
    """
    return _read_lxmert(questions, votes=list, images=images, split=split, file_split=file_split)


def file_word(path: PathLike, file_split: str | None) -> str:
    """The split of a file: the one given, else the one its name speaks of, else train."""
    return file_split or split_in(Path(path).stem) or "train"


def _questions(path: PathLike, *, file_split: str | None) -> pa.Table:
    """The columns of a question file."""
    content = read_json(path)
    asked = records(content, "questions", path)
    kind, part = str(content.get("data_type", "mscoco")), str(content.get("data_subtype", ""))
    image_ids = [id_text(image_id) for image_id in column(asked, "image_id", path)]
    columns = {
        "question_id": list(map(id_text, column(asked, "question_id", path))),
        "image_id": image_ids,
        "question": [question.get("question") for question in asked],
        "name": [_image_name(image_id, kind=kind, part=part) for image_id in image_ids],
        "split": [vqa_split(file_split or split_in(part) or file_word(path, None), path)] * len(asked),
    }
    if asked and "multiple_choices" in asked[0]:
        columns["choices"] = [question.get("multiple_choices") for question in asked]
    return pa.table({name: text_column(values, name) for name, values in columns.items()})


def _image_name(image_id: str, *, kind: str, part: str) -> str:
    """The name the official code gives an image: `COCO_val2014_000000000042.jpg`, test-dev's in COCO_test2015."""
    if not image_id.isdecimal():
        return f"{image_id}.jpg"
    part = part.replace("test-dev", "test") or "val2014"
    if kind == "mscoco":
        return f"COCO_{part}_{int(image_id):012d}.jpg"
    return f"{kind}_{part}_{int(image_id):012d}.png"


def _annotations(path: PathLike, *, answer_field: str) -> pa.Table:
    """The columns of an annotation file, and the position it gives each question's image."""
    keys: list[str] = []
    categories: dict[str, str] = {}
    chunks = []
    for chunk in in_chunks(_annotation_rows(path, answer_field, keys=keys, categories=categories)):
        chunks.append(pa.table({name: text_column(values, name) for name, values in chunk.items()}))
    if not chunks:
        raise ValueError(
            f"{path} has no list 'annotations' with anything in it, it holds the keys {', '.join(keys)}; is it the "
            "file of another format?"
        )
    notes = pa.concat_tables(chunks)
    if categories:
        kinds = [categories.get(kind, kind) for kind in notes["question_type"].to_pylist()]
        place = notes.schema.get_field_index("question_type")
        notes = notes.set_column(place, "question_type", pa.array(kinds, pa.string()))
    return notes


def _annotation_rows(
    path: PathLike, answer_field: str, *, keys: list[str], categories: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """A row an annotation; the file's other keys are noted, and the names OK-VQA gives its numbered categories."""
    for number, (key, value) in enumerate(stream_members(path, inside=("annotations",))):
        if key != "annotations":
            keys.append(key)
            if key == "question_types" and isinstance(value, dict):
                categories.update(value)
            continue
        place = f"{path}: record {number - len(keys)} of 'annotations'"
        if not isinstance(value, dict):
            raise ValueError(f"{place} is no object: {str(value)[:120]}")
        answers, ids = _answers(value.get("answers", []), answer_field)
        yield {
            "question_id": id_field(value, "question_id", place=place),
            "image_id": id_text(value.get("image_id", "")),  # not every copy of the files has it
            "answers": answers,
            "answer": value.get("multiple_choice_answer", ""),
            "question_type": value.get("question_type", ""),
            "answer_type": value.get("answer_type", ""),
            "details": "" if len(set(ids)) == len(ids) else json.dumps({"answer_ids": ids}),
        }


def _answers(given: Any, answer_field: str) -> tuple[list[Any] | None, list[str]]:
    """The answers and their ids as text; None for what is no list of answers."""
    try:
        return [answer[answer_field] for answer in given], [id_text(answer.get("answer_id")) for answer in given]
    except (KeyError, TypeError, AttributeError):
        return None, []


def _annotated(asked: pa.Table, notes: pa.Table, *, questions: str, annotations: str) -> pa.Table:
    """The questions with the annotation of their id and image, and those whose answers are hidden."""
    faults = Faults(questions)
    row_of: dict[str, int] = {}
    for row, question_id in enumerate(notes["question_id"].to_pylist()):
        if row_of.setdefault(question_id, row) != row:
            faults.add(f"annotations of {annotations} have a question id that stood before, left out", [question_id])
    ids = asked["question_id"].to_pylist()
    rows = np.array([row_of.get(question_id, -1) for question_id in ids])
    unasked = row_of.keys() - set(ids)
    if len(unasked) == len(row_of):
        raise ValueError(
            f"no annotation of {annotations} (question ids {listed(row_of)}) belongs to a question of {questions} "
            f"({listed(ids)}); give the annotations of the same data set and split"
        )
    notes = pa.concat_tables([notes, NO_ANNOTATION.cast(notes.schema)]).combine_chunks()
    found = notes.take(rows % len(notes))  # -1 is the last row, the one without answers
    hidden = pc.is_in(asked["split"], value_set=pa.array(HIDDEN_SPLITS)).to_numpy()
    silent = (rows < 0) & ~hidden
    image = found["image_id"].fill_null("")
    other = pc.and_(pc.not_equal(image, ""), pc.not_equal(image, asked["image_id"])).to_numpy()
    strange = (rows >= 0) & other
    faults.add(f"questions have no annotation in {annotations} and are left out", _chosen(ids, silent))
    faults.add(f"annotations of {annotations} belong to no question and are left out", sorted(unasked))
    faults.add(f"questions have another image than their annotation in {annotations}, left out", _chosen(ids, strange))
    faults.warn()
    for name in NO_ANNOTATION.schema.names:
        if name not in ("question_id", "image_id"):
            asked = asked.append_column(name, found[name])
    return asked.filter(pa.array(~silent & ~strange))


def _chosen(ids: Sequence[str], marks: np.ndarray) -> list[str]:
    return [ids[row] for row in np.flatnonzero(marks).tolist()]


def _aokvqa_rows(path: PathLike, *, file_split: str | None) -> Iterator[dict[str, Any]]:
    for number, record in enumerate(stream_records(path)):
        place = f"{path}: record {number}"
        image_id = id_field(record, "image_id", place=place)
        difficult = record.get("difficult_direct_answer")
        yield {
            "question_id": id_field(record, "question_id", place=place),
            "image_id": image_id,
            "name": f"{image_id:0>12}.jpg" if image_id.isdecimal() else f"{image_id}.jpg",
            "question": record.get("question"),
            "answers": record.get("direct_answers", []),
            "answer": "",
            "choices": record.get("choices", []),
            "correct_choice": record.get("correct_choice_idx"),
            "split": file_split or record.get("split") or file_word(path, None),
            "details": "" if difficult is None else json.dumps({"difficult_direct_answer": difficult}),
        }


def _read_lxmert(
    questions: PathLike | Sequence[PathLike],
    *,
    votes: Callable[[Mapping[str, float]], list[str]],
    images: PathLike | None,
    split: str | None,
    file_split: str | None,
) -> datasets.Dataset:
    paths = as_paths(questions)
    return vqa_dataset(
        in_chunks(row for path in paths for row in _lxmert_rows(path, votes=votes, file_split=file_split)),
        images=images,
        split=split,
        source=joined(paths),
        find_images=official_image_paths,
    )


def _lxmert_rows(
    path: PathLike, *, votes: Callable[[Mapping[str, float]], list[str]], file_split: str | None
) -> Iterator[dict[str, Any]]:
    word = file_word(path, file_split)
    for number, record in enumerate(stream_records(path)):
        place = f"{path}: record {number}"
        stem = id_field(record, "img_id", place=place)
        coco = COCO_NAME.fullmatch(f"{stem}.jpg")
        label = record.get("label", {})
        if not isinstance(label, dict) or not all(isinstance(s, int | float) and s >= 0 for s in label.values()):
            raise ValueError(f"{place}: its label is no answer with a score: {str(label)[:120]}")
        yield {
            "question_id": id_field(record, "question_id", place=place),
            "image_id": str(int(coco.group(1))) if coco else stem,  # as the official files of VQA name the image
            "name": f"{stem}.jpg",
            "question": record.get("sent"),
            "answers": votes(label),
            "answer": max(label, key=label.__getitem__, default=""),
            "question_type": record.get("question_type", ""),
            "answer_type": record.get("answer_type", ""),
            "split": word,
        }


def _votes(label: Mapping[str, float]) -> list[str]:
    """Each answer as often as it was given, four times for the full score."""
    return [answer for answer, score in label.items() for _ in range(4 if score >= 1 else round(score / POINTS_A_VOTE))]
