"""What is done of a long run of a teacher, on disk, so that a run that is killed loses one batch of images.

    batches of boxes --BoxJournal.add--> boxes.json.unfinished --BoxJournal (the next run)--> batches that are done

The file has a line per batch and, first, one with the settings of the run. Every line begins with its checksum; lines
from the first on that is cut short or damaged are dropped, and their batches made again.
"""

import json
import os
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.data.files import PathLike

CHECKSUM_DIGITS = 8


class BoxJournal:
    """The batches that a run, and the runs before it with the same settings, have made.

    Args:
        path: the journal's file; made with its folders where it is absent.
        settings: whatever decides the content of the batches, as JSON values.

    Attributes:
        made: batch number -> its content.

    Raises:
        ValueError: if the file holds batches of other settings, which are named.
    """

    def __init__(self, path: PathLike, settings: Mapping[str, Any]):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines, size = _whole_lines(self.path)
        if lines:
            self._check(lines[0], settings)
        self.made: dict[int, Any] = {record["batch"]: record["content"] for record in lines[1:]}
        self.file = open(self.path, "ab")  # noqa: SIM115 - open as long as the run
        self.file.truncate(size)
        self.lock = threading.Lock()
        if not lines:
            self._write(dict(settings))

    def add(self, batch: int, content: Any) -> None:
        """Keep a batch; when this returns, it is on the disk. Several threads may add at once."""
        with self.lock:
            self._write({"batch": batch, "content": content})

    def close(self) -> None:
        """Close the file, for a later run to go on from."""
        self.file.close()

    def remove(self) -> None:
        """Delete the file, once the result is written elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _check(self, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        names = [name for name in (*settings, *known) if known.get(name) != settings.get(name)]
        if names:
            pairs = ", ".join(f"{n} {known.get(n)!r}, now {settings.get(n)!r}" for n in dict.fromkeys(names))
            raise ValueError(
                f"{self.path} is the unfinished work of a run with other settings ({pairs}): give the same ones to go "
                "on, or delete the file to begin anew"
            )

    def _write(self, record: Mapping[str, Any]) -> None:
        text = json.dumps(record, ensure_ascii=False).encode()
        self.file.write(f"{zlib.crc32(text):0{CHECKSUM_DIGITS}x} ".encode() + text + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of the lines before the first broken one, and how many bytes they take."""
    lines: list[dict[str, Any]] = []
    size = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        text = line[CHECKSUM_DIGITS + 1 : -1]
        if not line.endswith(b"\n") or line[:CHECKSUM_DIGITS] != f"{zlib.crc32(text):0{CHECKSUM_DIGITS}x}".encode():
            break
        lines.append(json.loads(text))
        size += len(line)
    return lines, size
