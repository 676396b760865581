"""Damaged region stores and indexes: refused in one sentence, or read as they were; never other data, a crash, a hang.

The readers run in a process of their own, which tells of every damaged file how it went: an offset that leads out of a
mapped file ends the interpreter, and the test has to outlive that.
"""

import json
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.mutations import mutations
from training.regions.store import RegionStore, RegionStoreWriter
from training.search.index_files import IndexWriter, read_index

REPOSITORY = Path(__file__).resolve().parents[3]
SECONDS_A_FILE = 10
MOST_MEMORY = 2**31  # beyond what the process has: a damaged length must not be believed
STORE_FILES = {"store.json": 300, "shard-0-00000.arrow": 700}
STORE_FILES_OF_BEFORE = {"shard-0-00000.arrow": 400}
INDEX_FILES = {"index.json": 200, "photos.npy": 200, "photos.jsonl": 200, "texts.npy": 200, "texts.jsonl": 200}
MADE_BY: dict[str, Any] = {"fingerprint": {"model": {"weights": "abc"}}}
PLACES: dict[str, str | None] = {"model": "../model", "photo_folder": "../photos", "region_store": None}


def write_store(folder: Path) -> None:
    """Twelve images in two shards, with every kind of column."""
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder, fingerprint={"backbone": "resnet101"}, images_per_shard=8) as writer:
        for number in range(6):
            corners = torch.rand(2, 3, 2, 2, generator=draw).sort(dim=2).values  # (B, R, corner, side)
            writer.append(
                [f"image {2 * number}.jpg", f"ein Hündchen {number}"],
                {
                    "region_features": torch.randn(2, 3, 8, generator=draw),
                    "region_boxes": corners.flatten(2),
                    "region_scores": torch.rand(2, 3, generator=draw),
                    "object_ids": torch.randint(0, 9, (2, 3), generator=draw),
                    "image_size": torch.tensor([[300, 400], [30, 40]]),
                    "photo_mark": torch.tensor([number + 1, number + 2]),
                },
            )


def write_index(folder: Path) -> None:
    """Nine images and seven texts."""
    draw = np.random.default_rng(0)
    with IndexWriter(folder, **MADE_BY, places=PLACES) as writer:
        entries = [{"id": f"{number}.jpg", "path": f"{number}.jpg", "mark": number} for number in range(9)]
        writer.append("photos", draw.standard_normal((9, 8)).astype(np.float32), entries)
        texts = [{"text": f"läuft {number}\r\n", "photo": None} for number in range(7)]
        writer.append("texts", draw.standard_normal((7, 8)).astype(np.float32), texts)


def store_content(folder: Path) -> Any:
    """Everything that a store says of its images."""
    store = RegionStore(folder)
    batch = store.batch(range(len(store)), columns=store.column_names)
    numbers = [*batch.values(), store.image_sizes, store.image_marks]
    return store.image_ids, store.column_names, [tensor.numpy().tobytes() for tensor in numbers]


def index_content(folder: Path) -> Any:
    """Everything that an index holds."""
    tables = read_index(folder)[1]
    return {name: (list(table.entries), table.embeddings.tobytes()) for name, table in tables.items()}


def continue_store(folder: Path) -> None:
    """What a writer does at its opening."""
    RegionStoreWriter(folder, fingerprint={"backbone": "resnet101"}, images_per_shard=8).close()


def continue_index(folder: Path) -> None:
    IndexWriter(folder, **MADE_BY, places=PLACES).close()


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], Callable[[Path], None]]] = {
    "store": (write_store, store_content, continue_store),
    "index": (write_index, index_content, continue_index),
}


def as_of_before(folder: Path) -> None:
    """A store as it was written before there were checksums."""
    manifest = json.loads((folder / "store.json").read_text())
    for entry in manifest["shards"]:
        del entry["crc32"], entry["index_crc32"]
    (folder / "store.json").write_text(json.dumps(manifest))


def outcome(act: Callable[[Path], Any], folder: Path, *, expected: Any) -> str:
    """`refused` in a sentence of ours that names the place, `same` or `other` data, or what went wrong."""
    try:
        found = act(folder)
    except ValueError as error:
        ours = type(error) is ValueError and str(folder) in str(error) and "\n" not in str(error)
        return "refused" if ours else f"unlike us: {type(error).__name__}: {str(error)[:300]!r}"
    except Exception as error:
        return f"foreign: {type(error).__name__}: {str(error)[:300]!r}"
    return "same" if found == expected else "other"


def damage(kind: str, scratch: Path, files: dict[str, int], *, before: bool) -> None:
    """In the process of its own: one line of JSON for every damaged file, its number told before it is met."""
    write, content, go_on = KINDS[kind]
    write(scratch / "whole")
    if before:
        as_of_before(scratch / "whole")
    expected = content(scratch / "whole")
    for name, count in files.items():
        whole = (scratch / "whole" / name).read_bytes()
        for number, damaged in enumerate(mutations(whole, count=count, seed=len(name))):
            folder = scratch / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(scratch / "whole", folder)
            (folder / name).write_bytes(damaged)
            print(json.dumps([name, number]), end=" ", flush=True)
            signal.alarm(SECONDS_A_FILE)
            told = [outcome(content, folder, expected=expected)]
            if number % 3 == 0:
                told.append(outcome(go_on, folder, expected=None))
            signal.alarm(0)
            print(json.dumps(told), flush=True)


@pytest.mark.parametrize(
    ("kind", "files", "before"),
    [("store", STORE_FILES, False), ("store", STORE_FILES_OF_BEFORE, True), ("index", INDEX_FILES, False)],
    ids=["store", "store without checksums", "index"],
)
def test_damage_is_refused_in_a_sentence(tmp_path: Path, kind: str, files: dict[str, int], before: bool) -> None:
    command = [sys.executable, "-m", "tests.training.regions.test_fuzz_stores", kind, str(tmp_path), json.dumps(files)]
    done = subprocess.run(
        [*command, "before"] if before else command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"ended by {done.returncode} at {lines[-1:]}: {done.stderr[-2000:]}"
    decoder = json.JSONDecoder()
    told = []
    for line in lines:
        place, end = decoder.raw_decode(line)
        told += [(result, *place) for result in json.loads(line[end:])]
    counts = Counter(result for result, *_ in told)
    allowed = {"refused", "same"} | ({"other"} if before else set())  # without checksums, not all damage shows
    assert set(counts) <= allowed, [one for one in told if one[0] not in allowed][:10]
    assert len(lines) == sum(files.values()) and counts["refused"] > len(lines) / 2, counts


def main() -> None:
    """The process of its own."""
    kind, scratch, files, *rest = sys.argv[1:]
    warnings.simplefilter("ignore")  # of files that were cut short
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
    damage(kind, Path(scratch), json.loads(files), before=bool(rest))


if __name__ == "__main__":
    main()
