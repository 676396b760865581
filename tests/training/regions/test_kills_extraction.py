"""A few kills of `kills_extraction.py`: extraction and indexing end as if nobody had disturbed them."""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.kills_extraction import cut_newest, difference, draw_images, extract, index, kills


@pytest.mark.parametrize("work", [extract, index])
def test_the_end_after_a_kill_is_that_of_an_undisturbed_run(work: Any, tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", count=24)
    told = list(kills(work, images, tmp_path, count=2, seed=5))
    assert [fault for _, _, fault in told] == ["", ""]
    assert len(list((tmp_path / "killed").glob("[!.]*"))) >= 2


def test_a_difference_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photos.npy").write_bytes(bytes(100))
        (tmp_path / name / ".lock").write_bytes(name.encode())
    assert difference(tmp_path / "a", tmp_path / "b") == ""
    assert cut_newest(tmp_path / "b", random.Random(1)) == "photos.npy"
    assert difference(tmp_path / "a", tmp_path / "b") == "differs: photos.npy"
    (tmp_path / "b" / "photos.npy").unlink()
    assert difference(tmp_path / "a", tmp_path / "b") == "only in one: photos.npy"
