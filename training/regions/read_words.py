"""Many images -> an OCR engine -> a folder of their words, from which the words become regions.

    rows of images --read_words(engine)--> FOLDER/words.json, words-0.jsonl, ... --WordFolder--> image id -> words
    words --word_boxes--> extract_regions(boxes=...) --> a region store with region_texts

`words.json` says which engine read them; each process appends to a file of its own, one line an image. Resumable:
images whose id is there are skipped, and a line that was cut short is written again. Images that cannot be read are
listed and skipped. An image that differs from the one that was read under its id is an error.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm

from processors.words_updown import Word
from training.console import one_line
from training.data.files import PathLike, write_json
from training.data.reading.word_folder import FORMAT, MANIFEST, WordFolder
from training.regions.extract import changed_rows, marked_images, say_skipped, undecoded
from training.regions.image_marks import check_same_images
from training.regions.shards import lock_writer

OTHER_FOLDER = "give another folder, or delete that one to read its images again"


def read_words(
    images: Dataset,
    *,
    engine: Callable[[PilImage], list[Word]],
    output: PathLike,
    fingerprint: Mapping[str, Any],
    accelerator: Accelerator | None = None,
) -> list[str]:
    """Read the words of every image of the rows into the folder `output`, which is created if absent.

    Args:
        images: columns image_id (string) and image (a path, or `datasets.Image`).
        engine: image -> words, such as `open_ocr()`.
        fingerprint: what determines its words, `engine.fingerprint()`.
        accelerator: several processes share the rows.

    Returns:
        One line for each image that could not be read; it is skipped, and tried again by the next call.

    Raises:
        ValueError: if the folder holds words of another engine, other images under the same ids, or other files.
    """
    accelerator, folder = accelerator or Accelerator(), Path(output)
    rows = undecoded(images)
    ids = rows["image_id"][:]
    if accelerator.is_main_process:
        prepare_folder(folder, fingerprint)
    accelerator.wait_for_everyone()
    known = WordFolder(folder)
    check_engine(known, fingerprint)
    share = range(accelerator.process_index, len(rows), accelerator.num_processes)
    done = [row for row in share if ids[row] in known]
    others = gather_object(changed_rows(rows, done, known=known.marks))
    check_same_images(others, of=len(rows), place=str(folder), cure=OTHER_FOLDER)
    todo = [row for row in share if ids[row] not in known]
    broken: list[str] = []
    with WordWriter(folder, accelerator.process_index) as writer:
        for row in tqdm(todo, desc=f"words -> {folder}", unit="image", disable=not todo):
            for image_id, image, mark in marked_images(rows, [row], broken):
                try:
                    writer.add(image_id, engine(image), size=image.size, mark=mark)
                except (OSError, RuntimeError, ValueError) as error:
                    broken.append(f"{image_id}: {one_line(error)}")
    broken = gather_object(broken)
    if accelerator.is_main_process:
        say_skipped(broken)
    return broken


class WordWriter:
    """Appends to one process's file of a folder of words; a last line that was cut short is dropped first.

    Raises `RuntimeError` while another writer holds the same process index.
    """

    def __init__(self, folder: Path, process_index: int) -> None:
        self._lock = lock_writer(folder, process_index)
        path = folder / f"words-{process_index}.jsonl"
        self._file: BinaryIO = open(path, "ab")  # noqa: SIM115 - open as long as the run
        self._file.truncate(whole_bytes(path))

    def __enter__(self) -> "WordWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._lock.close()

    def add(self, image_id: str, words: list[Word], *, size: tuple[int, int], mark: int) -> None:
        """Keep an image's words; when this returns, they are on the disk. size: width and height in pixels."""
        told = [[word.text, [list(corner) for corner in word.corners], round(word.score, 6)] for word in words]
        record = {"image_id": image_id, "mark": mark, "size": list(size), "words": told}
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def prepare_folder(folder: Path, fingerprint: Mapping[str, Any]) -> None:
    """Make a folder of words where there is none; `ValueError` for one with other files."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).is_file():
        return
    if any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder} holds other files than words: give a new folder")
    write_json(folder / MANIFEST, {"format": FORMAT, "engine": dict(fingerprint)})


def check_engine(known: WordFolder, fingerprint: Mapping[str, Any]) -> None:
    """Raises `ValueError` naming what differs where other words would be read now."""
    now = json.loads(json.dumps(dict(fingerprint)))
    names = [name for name in dict.fromkeys([*now, *known.fingerprint]) if now.get(name) != known.fingerprint.get(name)]
    if names:
        pairs = ", ".join(f"{name} {known.fingerprint.get(name)!r}, now {now.get(name)!r}" for name in names)
        raise ValueError(f"the words in {known.folder} were read by another engine ({pairs}): {OTHER_FOLDER}")


def whole_bytes(path: Path) -> int:
    """The length of a file of lines without what is cut short at its end."""
    content = path.read_bytes()
    return content.rfind(b"\n") + 1
