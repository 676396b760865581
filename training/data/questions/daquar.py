"""DAQUAR (Malinowski and Fritz 2014): questions on indoor images of NYU Depth v2, a text file of lines in pairs.

    qa_pairs.txt + image lists --read_daquar--> rows of training/data/questions/rows.py

    what is on the left side of the white oven in the image1 ?
    garbage_bin

Which image is meant stands in the question and is taken out of it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.files import PathLike, read_lines, read_text
from training.data.questions.coco import file_word
from training.data.questions.rows import Faults, in_chunks, official_image_paths, vqa_dataset

IMAGE = re.compile(r"\bimage\s*(\d+)\b")
CLOSING = re.compile(r"(?:\s+in(?:\s+(?:the|this))?\s+image\s*\d+)?\s*\?*\s*$")
LISTS = {"train": "train_images_list.txt", "test": "test_images_list.txt"}


def read_daquar(
    pairs: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    train_list: PathLike | None = None,
    test_list: PathLike | None = None,
    val_share: float = 0.0,
) -> datasets.Dataset:
    """DAQUAR's pairs of lines, question and answer.

    Args:
        pairs: `all_qa_pairs.txt`, or the file of one split (`qa.894.raw.train.txt`).
        images: the folder with `image1.jpg` (or .png), ...
        split: keep only this split.
        file_split: the split of every image, where there are no lists; by default the one the file's name speaks of.
        train_list, test_list: the official image lists, `image3` a line; by default `train_images_list.txt` and
            `test_images_list.txt` beside the pairs. Where there is neither, every image is of the split in the name of
            the pairs' file. Images in no list are left out with a warning.
        val_share: 0..1 of the training images become the split val: the last ones in the order of a hash of their
            names, the same on every machine. DAQUAR itself has no validation split.

    Returns:
        Rows with one of the `answers`, the same as `answer`, as the file writes it: several things are one answer
        ("book, scissor, papers"), and words of one thing are joined by underscores. `question_id` is the number of the
        pair in the file, from 1; `image_id` is `image33`. "... in the image33 ?" becomes "...?", and where the image
        stands elsewhere ("in the left side of the image47 ?") it is "the image".

    Raises:
        ValueError: for an odd number of lines, and a `val_share` outside of 0..1.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share is {val_share}, it must be at least 0 and below 1")
    split_of = _listed_splits(pairs, train_list=train_list, test_list=test_list)
    faults = Faults(pairs)
    rows = list(_rows(pairs, word=file_word(pairs, file_split), split_of=split_of, faults=faults))
    faults.warn()
    if val_share:
        _hold_out(rows, share=val_share)
    return vqa_dataset(in_chunks(rows), images=images, split=split, source=pairs, find_images=official_image_paths)


def without_image(question: str) -> str:
    """The question without its image's number.

    >>> without_image("what is under the table in the image33 ?")
    'what is under the table?'
    >>> without_image("what is in the left side of the image47 ?")
    'what is in the left side of the image?'
    """
    words = IMAGE.sub("image", CLOSING.sub("", question)).strip()
    return words and f"{words}?"


def _listed_splits(
    pairs: PathLike, *, train_list: PathLike | None, test_list: PathLike | None
) -> dict[str, str] | None:
    """The split of each image, None where there are no lists."""
    lists = {"train": train_list, "test": test_list}
    for word, name in LISTS.items():
        beside = Path(pairs).with_name(name)
        if lists[word] is None and beside.is_file():
            lists[word] = beside
    if not any(lists.values()):
        return None
    split_of: dict[str, str] = {}
    for word, path in lists.items():
        for name in read_lines(path) if path is not None else []:
            if split_of.setdefault(Path(name).stem, word) != word:
                raise ValueError(f"{path}: the image {name!r} is in the list of {split_of[Path(name).stem]} too")
    return split_of


def _rows(pairs: PathLike, *, word: str, split_of: dict[str, str] | None, faults: Faults) -> Iterator[dict[str, Any]]:
    lines = read_text(pairs).rstrip().split("\n")
    if len(lines) % 2:
        raise ValueError(f"{pairs} has {len(lines)} lines, which are no pairs of question and answer; is it cut short?")
    for number, (question, answer) in enumerate(zip(lines[::2], lines[1::2], strict=True), start=1):
        mentions = IMAGE.findall(question)
        image = f"image{mentions[-1]}" if mentions else ""
        if not image:
            faults.add("questions name no image and are left out", [str(number)])
        elif split_of is not None and image not in split_of:
            faults.add("questions are on images in no list and are left out", [str(number)])
        elif not answer.strip():
            faults.add("questions have a blank line for an answer and are left out", [str(number)])
        else:
            yield {
                "question_id": str(number),
                "image_id": image,
                "name": f"{image}.jpg",
                "question": without_image(question),
                "answers": [answer.strip()],
                "answer": answer.strip(),
                "split": word if split_of is None else split_of[image],
            }


def _hold_out(rows: Sequence[dict[str, Any]], *, share: float) -> None:
    """Moves the questions of the last `share` of the training images to the split val."""
    images = sorted({row["image_id"] for row in rows if row["split"] == "train"}, key=_hash)
    held_out = set(images[len(images) - round(share * len(images)) :])
    for row in rows:
        if row["split"] == "train" and row["image_id"] in held_out:
            row["split"] = "val"


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
