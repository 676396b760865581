"""Question files on the images of Visual Genome: GQA, Visual7W, and Visual Genome's own questions.

    question files --read_gqa | read_visual7w | read_visual_genome_qa--> rows of training/data/questions/rows.py

GQA (Hudson and Manning 2019) has 22 million questions, of which 1.7 million are balanced; its files are read as a
stream. Visual7W (Zhu et al. 2016) asks with four choices. Visual Genome (Krishna et al. 2017) has 1.7 million free
answers, with which VQA v2 is commonly augmented.
"""

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.files import PathLike, id_text, read_json, read_lines, records
from training.data.json_stream import stream_members, stream_records
from training.data.questions.answer_vocabulary import read_answers
from training.data.questions.coco import file_word
from training.data.questions.rows import (
    as_paths,
    field,
    id_field,
    in_chunks,
    joined,
    official_image_paths,
    vqa_dataset,
    vqa_split,
)
from training.data.splits import listed_splits

READ_BY_EVALUATOR = ("types", "groups", "entailed", "equivalent", "semantic", "isBalanced")
NUMBERS = re.compile(r"\d+")


def read_gqa(
    questions: PathLike | Sequence[PathLike],
    *,
    choices: PathLike | None = None,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    balanced: bool = False,
    details: bool = True,
) -> datasets.Dataset:
    """GQA's official question files, `{question id: {"question", "imageId", "answer", "types", ...}}`.

    Args:
        questions: a file (`val_balanced_questions.json`), several, or a folder of files (`train_all_questions`).
        choices: `val_choices.json` with the valid and plausible answers of each question, which two of the official
            metrics need; kept in `details` as `valid` and `plausible`.
        images: the image folder.
        split: keep only this split.
        file_split: the split of all the files; by default the one each file's name speaks of.
        balanced: leave out the questions that are not balanced, as the official scores do.
        details: keep what only the official evaluation reads; False saves most of the memory of train_all's 14 million
            questions, which it never scores.

    Returns:
        Rows with one of the `answers`, the same as `answer`, none in test files; `question_type` is the structural
        type (query, verify, logical, choose, compare) and `answer_type` what the official scores call open (query) or
        binary; `details` is a JSON object with `READ_BY_EVALUATOR`.
    """
    paths = [path for given in as_paths(questions) for path in _json_files(given)]
    known = {} if choices is None else _choices_of(choices)
    rows = (
        row
        for path in paths
        for row in _gqa_rows(path, word=file_word(path, file_split), known=known, details=details)
        if row.pop("balanced") or not balanced
    )
    return vqa_dataset(
        in_chunks(rows),
        images=images,
        split=split,
        source=joined(as_paths(questions)),
        find_images=official_image_paths,
    )


def read_visual7w(
    annotations: PathLike, *, images: PathLike | None = None, split: str | None = None, file_split: str | None = None
) -> datasets.Dataset:
    """Visual7W telling: `dataset_v7w_telling.json`, `{"images": [{"image_id", "filename", "split", "qa_pairs"}]}`.

    Args:
        annotations: the file.
        images: the image folder (`v7w_2358144.jpg`, or Visual Genome's own `2358144.jpg`).
        split: keep only this split.
        file_split: the split all rows belong to; by default each image's own.

    Returns:
        Rows with four `choices`: the three wrong ones of the file and, at a place that follows from the question's id,
        the right one, which is also the `answer`. `question_type` is what, where, when, who, why or how.
    """
    listed = records(read_json(annotations), "images", annotations)
    return vqa_dataset(
        in_chunks(_visual7w_rows(listed, annotations, file_split=file_split)),
        images=images,
        split=split,
        source=annotations,
        find_images=official_image_paths,
    )


def read_visual_genome_qa(
    question_answers: PathLike,
    *,
    answers: PathLike | None = None,
    image_list: PathLike | None = None,
    image_data: PathLike | None = None,
    split_lists: Mapping[str, PathLike] | None = None,
    images: PathLike | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """Visual Genome's questions: `question_answers.json`, `[{"id", "qas": [{"qa_id", "question", "answer"}]}]`.

    Args:
        question_answers: the file.
        answers: an answer vocabulary, as `read_answers` takes it; questions whose answer is none of it, after the
            official normalisation of both, are left out.
        images: keep the questions on these images only: a text list of image names, or a VQA question file, whose COCO
            ids are looked up through `image_data`. Meant against questions on the images one validates on.
        image_data: `image_data.json`, which gives an image's `coco_id`.
        split_lists: list files by split, `{"train": ...}`, with an image name first in each line; images in no list are
            left out. By default every image is train.
        images: the folder that holds `VG_100K` and `VG_100K_2`, or the images themselves.
        split: keep only this split.

    Returns:
        Rows with one of the `answers`, the same as `answer`, as the file writes it ("Sailboats.").
    """
    known = None if answers is None else read_answers(answers)
    kept = None if image_list is None else _image_ids(image_list, image_data)
    split_of = None if split_lists is None else listed_splits(split_lists, name_of=vqa_split)
    rows = (
        row
        for row in _genome_rows(question_answers, split_of=split_of, kept=kept)
        if known is None or known.id_of(str(row["answer"])) is not None
    )
    return vqa_dataset(
        in_chunks(rows), images=images, split=split, source=question_answers, find_images=official_image_paths
    )


def _json_files(path: PathLike) -> list[PathLike]:
    """The file, or the JSON files of a folder in the order of their numbers."""
    if not Path(path).is_dir():
        return [path]
    files = sorted(Path(path).glob("*.json"), key=_numbered)
    if not files:
        raise ValueError(f"the folder {path} holds no .json file; give the folder of GQA's question files")
    return list(files)


def _numbered(path: Path) -> list[Any]:
    return [*map(int, NUMBERS.findall(path.stem)), path.stem]


def _choices_of(path: PathLike) -> dict[str, dict[str, list[str]]]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(value, dict) and {"valid", "plausible"} <= value.keys() for value in content.values()
    ):
        raise ValueError(f"{path} is no choices file of GQA: it needs 'valid' and 'plausible' for each question id")
    return {key: {"valid": value["valid"], "plausible": value["plausible"]} for key, value in content.items()}


def _gqa_rows(
    path: PathLike, *, word: str, known: Mapping[str, dict[str, list[str]]], details: bool
) -> Iterator[dict[str, Any]]:
    for question_id, record in stream_members(path):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}: {question_id!r} is no question but {str(record)[:60]!r}; is it the file of another format?"
            )
        image_id = id_field(record, "imageId", place=f"{path}: the question {question_id!r}")
        types = record.get("types")
        structural = types.get("structural", "") if isinstance(types, dict) else ""
        answer = record.get("answer", "")
        kept = {key: record[key] for key in READ_BY_EVALUATOR if key in record} if details else {}
        kept.update(known.get(question_id, {}))
        yield {
            "question_id": question_id,
            "image_id": image_id,
            "name": f"{image_id}.jpg",
            "question": record.get("question"),
            "answers": [answer] if "answer" in record else [],
            "answer": answer,
            "question_type": structural,
            "answer_type": structural and ("open" if structural == "query" else "binary"),
            "split": word,
            "details": json.dumps(kept, separators=(",", ":")) if kept else "",
            "balanced": record.get("isBalanced", True),
        }


def _visual7w_rows(
    images: Sequence[dict[str, Any]], path: PathLike, *, file_split: str | None
) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(images):
        image_id = id_field(image, "image_id", place=f"{path}: record {number} of 'images'")
        for pair in records(image, "qa_pairs", path):
            place = f"{path}: a question of the image {image_id}"
            question_id, answer = id_field(pair, "qa_id", place=place), pair.get("answer")
            if isinstance(answer, int):
                raise ValueError(
                    f"{place} has the answer {answer}, a box: this is Visual7W pointing; give dataset_v7w_telling.json"
                )
            wrong = pair.get("multiple_choices") or []
            listed = isinstance(wrong, list)
            row = (
                zlib.crc32(question_id.encode()) % (len(wrong) + 1) if listed else 0
            )  # so that no place is the right one
            mixed = [*wrong[:row], answer, *wrong[row:]] if listed else wrong
            yield {
                "question_id": question_id,
                "image_id": image_id,
                "name": image.get("filename") or f"v7w_{image_id}.jpg",
                "question": pair.get("question"),
                "answers": [answer],
                "answer": answer,
                "question_type": pair.get("type", ""),
                "choices": mixed if wrong else [],
                "correct_choice": row if wrong else -1,
                "split": file_split or field(image, "split", place=place),
            }


def _genome_rows(
    path: PathLike, *, split_of: Mapping[str, str] | None, kept: frozenset[str] | None
) -> Iterator[dict[str, Any]]:
    for number, image in enumerate(stream_records(path)):
        image_id = id_text(image.get("image_id", image.get("id")))
        if (kept is not None and image_id not in kept) or (split_of is not None and image_id not in split_of):
            continue
        for pair in records(image, "qas", path):
            answer = pair.get("answer")
            yield {
                "question_id": id_field(pair, "qa_id", place=f"{path}: a question of record {number}"),
                "image_id": image_id,
                "name": f"{image_id}.jpg",
                "question": pair.get("question"),
                "answers": [answer],
                "answer": answer,
                "split": "train" if split_of is None else split_of[image_id],
            }


def _image_ids(path: PathLike, image_data: PathLike | None) -> frozenset[str]:
    """The Visual Genome ids of the images a list, or a VQA question file, names."""
    if Path(path).suffix != ".json":
        return frozenset(Path(line.split()[0]).stem for line in read_lines(path))
    if image_data is None:
        raise ValueError(f"{path} names images by COCO's ids; give image_data=image_data.json to look them up")
    asked = {id_text(question.get("image_id")) for question in records(read_json(path), "questions", path)}
    return frozenset(
        id_text(image.get("image_id", image.get("id")))
        for image in stream_records(image_data)
        if id_text(image.get("coco_id")) in asked
    )
