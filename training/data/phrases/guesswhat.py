"""GuessWhat?! (de Vries et al. 2017): dialogues about one object of an image, which the guesser finds among all.

    guesswhat.train.jsonl.gz --read_guesswhat--> rows of training/data/phrases/rows.py, with candidates

A dialogue's questions and answers are one expression; the objects of its image are the candidates.
"""

import gzip
import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import datasets

from training.data.boxes.rows import LeftOut
from training.data.files import PathLike, all_texts, id_text, records
from training.data.phrases.expressions import Expression, ExpressionImage, coco_place, expression_rows
from training.data.questions.rows import split_in
from training.data.splits import split_name, wanted_splits

GZIP_START = b"\x1f\x8b"
LONGEST_LINE = 2**24  # bytes of a game, with its polygons


def read_guesswhat(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    status: Collection[str] = ("success",),
) -> datasets.Dataset:
    """The games of a file, a row an image, each game an expression with the image's objects as candidates.

    Args:
        annotations: `guesswhat.train.jsonl.gz`, packed or not, a game a line: `{"id", "object_id", "status", "image":
            {"id", "width", "height", "file_name"}, "objects": [{"id", "bbox"}], "qas": [{"question", "answer"}]}`, with
            boxes as COCO's; read line by line.
        images: COCO's `train2014` and `val2014`, or the folder above them; None gives rows without images.
        split: keep only this split: a file has one.
        file_split: the split of the file; by default that in its name.
        status: the games to read, of `success`, `failure` and `incomplete`; the guesser's published figures are of
            successful ones.

    Returns:
        Rows of `PHRASE_FEATURES`: the text "Is it a person? No Is it red? Yes". Left out, with one warning that counts:
        games without a question, and what `expression_rows` leaves out.

    Raises:
        ValueError: naming file and line, for what is no such file, and as `expression_rows`.
        NoSuchSplitError: where the file is of another split.
    """
    word = split_name(file_split or split_in(Path(annotations).name) or "train", annotations)
    if split is not None:
        wanted_splits(split, present={word}, source=annotations)
    left_out = LeftOut(annotations)
    found: dict[str, ExpressionImage] = {}
    for number, line in enumerate(_lines(annotations), start=1):
        game, place = _game(line, f"{annotations}, line {number}")
        if game.get("status") not in status:
            continue
        image, text = _image(game["image"], word, place), _dialogue(game, place)
        if text:
            found.setdefault(image.image_id, image).expressions.append(_expression(game, text, place))
        else:
            left_out.add("games without a question", f"line {number}")
    if not found:
        raise ValueError(f"{annotations} holds no game of the status {', '.join(status)}; is it cut short?")
    return expression_rows(list(found.values()), folder=images, source=annotations, left_out=left_out)


def _lines(path: PathLike) -> Iterator[bytes]:
    """The lines of a file, packed by gzip or not; ValueError where it cannot be read or a line is no game's."""
    try:
        with open(path, "rb") as start:
            packed = start.read(len(GZIP_START)) == GZIP_START
        with gzip.open(path) if packed else open(path, "rb") as file:
            yield from _of_length(cast(BinaryIO, file), path)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {path}: {reason}; is it cut short?") from error


def _of_length(file: BinaryIO, path: PathLike) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise ValueError(f"{path} has a line of more than {LONGEST_LINE} bytes; it needs a game a line")
        if line.strip():
            yield line


def _game(line: bytes, place: str) -> tuple[dict[str, Any], str]:
    """A game and its place for errors; ValueError for a line that is none."""
    try:
        game = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid JSON ({str(error)[:80]}); is it the file of another format?") from error
    needed = ("image", "objects", "object_id", "qas", "status")
    lacking = needed if not isinstance(game, dict) else [key for key in needed if key not in game]
    if lacking:
        raise ValueError(f"{place} is no game: it lacks {', '.join(lacking)}; is it the file of another format?")
    return game, f"{place} (game {game.get('id')})"


def _image(image: Any, word: str, place: str) -> ExpressionImage:
    if not isinstance(image, Mapping) or not isinstance(image.get("id"), int):
        raise ValueError(f"{place} has no image with an id: {str(image)[:80]}")
    name = image.get("file_name") or f"COCO_train2014_{image['id']:012d}.jpg"  # looked for under COCO's other names too
    if not isinstance(name, str):
        raise ValueError(f"{place} has the image name {name!r:.60}, which is no text")
    return ExpressionImage(id_text(image["id"]), coco_place(name), word, image.get("width"), image.get("height"))


def _dialogue(game: dict[str, Any], place: str) -> str:
    pairs = records(game, "qas", place)
    said: list[Any] = [text for pair in pairs for text in (pair.get("question"), pair.get("answer"))]
    if not all_texts(said):
        raise ValueError(f"{place} has a question or an answer that is no text")
    return " ".join(text.strip() for text in said)


def _expression(game: dict[str, Any], text: str, place: str) -> Expression:
    boxes: dict[str, Sequence[float]] = {}
    for thing in records(game, "objects", place):
        if not isinstance(thing.get("bbox"), list) or thing.get("id") is None:
            raise ValueError(f"{place} has an object without id or bbox: {str(thing)[:80]}")
        boxes[id_text(thing["id"])] = thing["bbox"]
    true = boxes.get(id_text(game["object_id"]))
    if true is None:
        raise ValueError(f"{place} speaks of the object {game['object_id']!r:.60}, which it does not list")
    return Expression(text, true, candidates=list(boxes.values()))
