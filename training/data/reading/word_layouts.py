"""Words that somebody else's OCR has read, in the layouts that data sets bring them in.

    file or folder --open_words--> image id -> words

| layout | whose | how it is known |
|---|---|---|
| Rosetta | TextVQA, TextCaps, ST-VQA in MMF | a file for all, `{"data": [{"image_id", "ocr_info": [{"word", ...}]}]}` |
| Read | Microsoft's, DocVQA | `recognitionResults`, or `analyzeResult` with `readResults`, a file an image |
| Textract | Amazon's, ST-VQA, InfographicVQA | `Blocks`, or lists `WORD`, `LINE`, a file an image |
| plain | anyone's | `[{"text", "box"}]`, or in pixels `{"width", "height", "words"}`, a file an image, or `{id: ...}` |
| folder of words | `training/regions/read_words.py` | `words.json` |

Boxes are xyxy; `corners`, four (x, y), may stand in place of a `box`. Rosetta's boxes are taken upright, as M4C takes
them (Hu et al. 2020). What cannot be a region is left out, as `checked_words` says.
"""

import os
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from processors.words_updown import Corners, Word, checked_words, word_in_box
from training.data.files import PathLike, id_text, read_json
from training.data.json_stream import stream_members
from training.data.reading.word_folder import MANIFEST, WordFolder

READ_SCORES = {"low": 0.5}  # Microsoft's older layout marks doubtful words alone, without a number
TEXTRACT_PERCENT = 100.0
LARGEST_FILE_BYTES = 2**27  # of one image's words, or of a plain file for all
ROSETTA_KEYS = {"left": ("top_left_x", "topLeftX"), "top": ("top_left_y", "topLeftY")}

Words = Mapping[str, Sequence[Word]]


class WordFiles(Mapping[str, list[Word]]):
    """A folder with a JSON file an image, `ID.json`: image id -> words, read when they are asked for."""

    def __init__(self, folder: PathLike) -> None:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(".json"))
        if not names:
            raise ValueError(f"{folder} holds no .json file of words: name a folder with one file an image")
        self._paths = {Path(name).stem: Path(folder) / name for name in names}

    def __getitem__(self, image_id: str) -> list[Word]:
        path = self._paths[image_id]
        return words_in(small_json(path), place=str(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def open_words(path: PathLike | Sequence[PathLike]) -> Words:
    """The words of images by their ids.

    Args:
        path: a folder with a file an image, a folder that `read_words` wrote, Rosetta's or a plain JSON for all
            images, or several of these, of which the first that knows an image counts.

    Raises:
        ValueError: for what is absent, broken or in none of the layouts.
    """
    if not isinstance(path, str | os.PathLike):
        return ChainMap(*(open_words(one) for one in path))  # type: ignore[arg-type]
    if os.path.isdir(path):
        return WordFolder(path) if (Path(path) / MANIFEST).is_file() else WordFiles(path)
    with open_text(path) as file:
        start = file.read(1 << 16)
    if '"ocr_info"' in start or '"ocr_tokens"' in start or '"data"' in start[:1000]:
        return dict(rosetta_words(path))
    content = small_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; words of several images are {{id: [words]}}")
    return {id_text(name): words_in(own, place=f"{path}: {name}") for name, own in content.items()}


def rosetta_words(path: PathLike) -> Iterator[tuple[str, list[Word]]]:
    """(image id, words) of every image of Rosetta's JSON, one at a time."""
    for key, record in stream_members(path, inside=("data",)):
        if key != "data":
            continue
        if not isinstance(record, dict) or record.get("image_id") is None:
            raise ValueError(f"{path}: a record of data has no image_id: {str(record)[:120]}")
        image_id = id_text(record["image_id"])
        place = f"{path}: {image_id}"
        listed = record.get("ocr_info") or []
        yield image_id, checked_words([rosetta_word(own, place=place) for own in objects(listed, place)], source=place)


def rosetta_word(record: Mapping[str, Any], *, place: str) -> Word:
    """A word of Rosetta's: `word` and `bounding_box` with the upper left corner, width and height in 0..1."""
    box = record.get("bounding_box")
    try:
        left, top = (next(box[key] for key in keys if key in box) for keys in ROSETTA_KEYS.values())  # type: ignore[index,operator]
        sides = (float(left), float(top), float(left) + float(box["width"]), float(top) + float(box["height"]))  # type: ignore[index]
        return word_in_box(str(record.get("word", "")), sides, score=float(record.get("confidence", 1.0)))
    except (KeyError, TypeError, ValueError, StopIteration, RuntimeError):
        raise ValueError(f"{place}: this word has no bounding_box of numbers: {str(record)[:120]}") from None


def words_in(content: Any, *, place: str) -> list[Word]:
    """The words of one image, in any layout but Rosetta's; `ValueError` naming the place where it is none."""
    if isinstance(content, dict) and ("recognitionResults" in content or "analyzeResult" in content):
        found = read_layout(content, place)
    elif isinstance(content, dict) and {"Blocks", "WORD", "LINE"} & content.keys():
        found = textract_layout(content, place)
    elif isinstance(content, list) or (isinstance(content, dict) and "words" in content):
        found = plain_layout(content, place)
    else:
        layout = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{place} holds {layout[:200]}, words in no layout that is known: see training/README.md")
    return checked_words(found, source=place)


def read_layout(content: Mapping[str, Any], place: str) -> list[Word]:
    """Microsoft's Read: pages of lines of words, each with four corners in the page's unit; the first page counts."""
    pages = content.get("recognitionResults") or (content.get("analyzeResult") or {}).get("readResults") or []
    found = []
    for page in objects(pages, place)[:1]:
        size = page_size(page, place)
        for line in objects(page.get("lines") or [], place):
            for record in objects(line.get("words") or [], place):
                sides = numbers(record.get("boundingBox"), 8, place)
                corners = tuple((sides[i] / size[0], sides[i + 1] / size[1]) for i in range(0, 8, 2))
                told = record.get("confidence", 1.0)
                score = READ_SCORES.get(told.lower(), 1.0) if isinstance(told, str) else float(told)
                found.append(Word(str(record.get("text", "")), corners, score))
    return found


def textract_layout(content: Mapping[str, Any], place: str) -> list[Word]:
    """Amazon's Textract: blocks of the type WORD, with a polygon or a box in 0..1 and a confidence in percent."""
    blocks = objects(content.get("Blocks") or content.get("WORD") or [], place)
    found = []
    for block in blocks:
        if block.get("BlockType", "WORD") != "WORD":
            continue
        shape = block.get("Geometry") or {}
        corners = textract_corners(shape, place)
        score = float(block.get("Confidence", TEXTRACT_PERCENT)) / TEXTRACT_PERCENT
        found.append(Word(str(block.get("Text", "")), corners, score))
    return found


def textract_corners(shape: Mapping[str, Any], place: str) -> Corners:
    """The four corners of Textract's `Geometry`, those of its polygon where that has four."""
    polygon = shape.get("Polygon") or []
    try:
        if len(polygon) == 4:
            return tuple((float(corner["X"]), float(corner["Y"])) for corner in polygon)
        left, top, width, height = (float(shape["BoundingBox"][name]) for name in ("Left", "Top", "Width", "Height"))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{place}: this Geometry has neither a polygon nor a box: {str(shape)[:120]}") from None
    return word_in_box("", (left, top, left + width, top + height)).corners


def plain_layout(content: Any, place: str) -> list[Word]:
    """A list of words with `text`, `box` or `corners`, and optionally `score`; in pixels where a size is given."""
    size, listed = (1.0, 1.0), content
    if isinstance(content, dict):
        size = page_size(content, place) if "width" in content else size
        listed = content["words"]
    found = []
    for record in objects(listed, place):
        if "corners" in record:
            pairs = record["corners"] if isinstance(record["corners"], list) else []
            flat = numbers([side for pair in pairs if isinstance(pair, list) for side in pair], 8, place)
        else:
            left, top, right, bottom = numbers(record.get("box"), 4, place)
            flat = [left, top, right, top, right, bottom, left, bottom]
        corners = tuple((flat[i] / size[0], flat[i + 1] / size[1]) for i in range(0, 8, 2))
        found.append(Word(str(record.get("text", "")), corners, numbers([record.get("score", 1.0)], 1, place)[0]))
    return found


def page_size(page: Mapping[str, Any], place: str) -> tuple[float, float]:
    """Width and height of a page, positive; `ValueError` naming the place without them."""
    width, height = numbers([page.get("width"), page.get("height")], 2, place)
    if not (width > 0 and height > 0):
        raise ValueError(f"{place}: the page is {width} x {height}; give its width and height")
    return width, height


def numbers(values: Any, count: int, place: str) -> list[float]:
    """So many numbers; `ValueError` naming the place where they are others."""
    if isinstance(values, list) and len(values) == count and all(type(value) in (int, float) for value in values):
        return [float(value) for value in values]
    raise ValueError(f"{place}: {str(values)[:80]} should be {count} numbers")


def objects(values: Any, place: str) -> list[dict[str, Any]]:
    """A list of JSON objects; `ValueError` naming the place where it is none."""
    if isinstance(values, list) and all(isinstance(value, dict) for value in values):
        return values
    raise ValueError(f"{place}: {str(values)[:80]} should be a list of objects")


def small_json(path: PathLike) -> Any:
    """The JSON in a file of at most `LARGEST_FILE_BYTES`."""
    if os.path.isfile(path) and os.path.getsize(path) > LARGEST_FILE_BYTES:
        raise ValueError(f"{path} is larger than {LARGEST_FILE_BYTES >> 20} MiB: give a folder with one file an image")
    return read_json(path)


def open_text(path: PathLike) -> Any:
    """An open text file; `ValueError` where it cannot be read."""
    try:
        return open(path, encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
