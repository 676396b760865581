"""A folder of words that an OCR engine has read: image id -> words, read from the disk when they are asked for.

    FOLDER/words.json  {"format": "updown-words", "engine": {...}}
    FOLDER/words-0.jsonl  {"image_id", "mark", "size": [width, height], "words": [[text, four corners, score], ...]}

`training/regions/read_words.py` writes it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from processors.words_updown import MAX_WORDS, Word, checked_words
from training.data.files import PathLike, read_json

FORMAT = "updown-words"
MANIFEST = "words.json"
LONGEST_LINE = 2**22  # bytes, of one image's words


class WordFolder(Mapping[str, list[Word]]):
    """The words of images that `read_words` wrote: image id -> words, read from the disk when they are asked for.

    Attributes:
        fingerprint: of the engine that read them.
        marks: image id -> the mark of the image's content (`image_marks.py`), 0 where it is not known.

    Raises:
        ValueError: for a folder that holds none, and for lines that are broken, but for the last one of a file.
    """

    def __init__(self, folder: PathLike) -> None:
        self.folder = Path(folder)
        manifest = read_json(self.folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise ValueError(f"{self.folder / MANIFEST} is no list of {FORMAT}; name a folder that read_words wrote")
        self.fingerprint: dict[str, Any] = manifest.get("engine") or {}
        self.marks: dict[str, int] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        for path in sorted(self.folder.glob("words-*.jsonl")):
            for start, record in lines_of(path):
                self._places[record["image_id"]] = (path, start)
                self.marks[record["image_id"]] = int(record.get("mark") or 0)

    def __getitem__(self, image_id: str) -> list[Word]:
        path, start = self._places[image_id]
        with open(path, "rb") as file:
            file.seek(start)
            return words_of_record(json.loads(file.readline(LONGEST_LINE)), path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(first byte, record) of every line of a file of words; what is cut short at its end is passed over."""
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST_LINE:
                    raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE} bytes: is it of words?")
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number} is not valid JSON: delete it to read its image again"
                ) from error
            if not isinstance(record, dict) or not isinstance(record.get("image_id"), str):
                raise ValueError(f"{path}, line {number} has no image_id: delete it to read its image again")
            yield start, record
            start += len(line)


def words_of_record(record: Mapping[str, Any], path: Path) -> list[Word]:
    """The words of one line; `ValueError` naming the file and the image where they are not as `WordWriter` writes."""
    try:
        words = [
            Word(str(text), tuple((float(x), float(y)) for x, y in corners), float(score))
            for text, corners, score in record["words"]
        ]
        fits = all(len(word.corners) == 4 for word in words)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"{path}: the words of {record.get('image_id')!r} are broken: delete its line to read it again"
        )
    return checked_words(words, max_words=MAX_WORDS, source=f"{path}: {record['image_id']}")
