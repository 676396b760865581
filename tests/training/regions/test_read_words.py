"""Words of many images: resumed, told where they cannot be read, and turned into regions with text and confidence."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL.Image import Image

from modeling_updown import UpDownImageProcessor
from processors.words_updown import Word, word_in_box
from tests import tiny
from tests.training.tiny_run import new_accelerator
from training.regions.extract import extract_regions
from training.regions.given_boxes import word_boxes
from training.regions.read_words import WordFolder, read_words
from training.regions.store import RegionStore

from .test_extract import image_folder, rows_of

HALF = (0.0, 0.0, 0.5, 1.0)
FINGERPRINT = {"engine": "played", "version": "1"}


class PlayedEngine:
    """Reads as many words as its call's number, from 0; fails at the calls that are named."""

    def __init__(self, *, fails: tuple[int, ...] = ()) -> None:
        self.fails, self.calls = fails, 0

    def __call__(self, image: Image) -> list[Word]:
        number, self.calls = self.calls, self.calls + 1
        if number in self.fails:
            raise RuntimeError("played failure")
        return [word_in_box(f"wörd {number} {place}", HALF, score=0.5) for place in range(number)]


def read(folder: Path, output: Path, engine: PlayedEngine, **options: Any) -> list[str]:
    given: dict[str, Any] = {"fingerprint": FINGERPRINT, "accelerator": new_accelerator(), **options}
    return read_words(rows_of(folder), engine=engine, output=output, **given)


def test_words_are_read_once_and_a_run_is_resumed(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=4, broken=(2,))
    first = PlayedEngine(fails=(1,))
    broken = read(folder, tmp_path / "words", first)
    assert first.calls == 3 and len(broken) == 2 and "1.png: played failure" in broken
    assert sorted(WordFolder(tmp_path / "words")) == ["0.png", "3.png"]
    second = PlayedEngine()
    assert len(read(folder, tmp_path / "words", second)) == 1 and second.calls == 1  # only what failed
    words = WordFolder(tmp_path / "words")
    assert {name: len(words[name]) for name in words} == {"0.png": 0, "3.png": 2, "1.png": 0}
    assert words["3.png"][1] == word_in_box("wörd 2 1", HALF, score=0.5) and all(words.marks.values())


def test_a_line_that_was_cut_short_is_read_again(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=3)
    read(folder, tmp_path / "words", PlayedEngine())
    path = tmp_path / "words" / "words-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert len(WordFolder(tmp_path / "words")) == 2
    again = PlayedEngine()
    read(folder, tmp_path / "words", again)
    assert again.calls == 1 and len(WordFolder(tmp_path / "words")) == 3
    assert path.read_bytes().startswith(whole[: whole.rstrip().rfind(b"\n") + 1])


def test_another_engine_and_other_images_are_refused(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=2)
    read(folder, tmp_path / "words", PlayedEngine())
    with pytest.raises(ValueError, match=r"were read by another engine \(version '1', now '2'\): give another folder"):
        read(folder, tmp_path / "words", PlayedEngine(), fingerprint={**FINGERPRINT, "version": "2"})
    (folder / "0.png").write_bytes((folder / "1.png").read_bytes())
    with pytest.raises(ValueError, match=r"1 of 2 images are not those that .* holds under the same ids \(0.png\)"):
        read(folder, tmp_path / "words", PlayedEngine())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="holds other files than words: give a new folder"):
        read(folder, tmp_path / "other", PlayedEngine())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ("[1]", "line 1 has no image_id"),
        ('{"image_id": "a", "words": [["x", [[0, 0]], 1]]}', "the words of 'a' are broken"),
        ('{"image_id": "a", "words": 3}', "the words of 'a' are broken"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "words.json").write_text(json.dumps({"format": "updown-words", "engine": {}}))
    (tmp_path / "words-0.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        WordFolder(tmp_path)["a"]
    (tmp_path / "words.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match="is no list of updown-words"):
        WordFolder(tmp_path)


def test_words_become_regions_of_a_store(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "photos", num_images=3)
    words = {
        "0.png": [word_in_box("stop", HALF, score=0.75), word_in_box("出口", (0.5, 0.5, 1, 1), score=0.5)],
        "1.png": [],
        "2.png": [word_in_box("שלום", HALF)],
    }
    boxes = word_boxes(words, objects={"2.png": [[0.0, 0.0, 0.25, 0.25]]})
    options: dict[str, Any] = {
        "source": tiny.tiny_pyramid_detector(),
        "image_processor": UpDownImageProcessor(size={"height": 64, "width": 64}),
        "output": tmp_path / "store",
        "accelerator": new_accelerator(),
    }
    assert extract_regions(rows_of(folder), boxes=boxes, batch_size=3, **options) == []
    store = RegionStore(tmp_path / "store")
    one, none, mixed = (store[name] for name in ("0.png", "1.png", "2.png"))
    assert one["region_texts"] == ["", "stop", "出口"] and one["region_scores"].tolist()[1:] == [0.75, 0.5]
    assert one["region_boxes"][1].tolist() == pytest.approx(HALF) and none["region_texts"] == [""]
    assert mixed["region_texts"] == ["", "", "שלום"] and mixed["region_scores"].tolist()[2] == 1
    changed = {**words, "2.png": [word_in_box("hello", HALF)]}
    with pytest.raises(ValueError, match="given_boxes"):
        extract_regions(
            rows_of(folder), boxes=word_boxes(changed, objects={"2.png": [[0.0, 0.0, 0.25, 0.25]]}), **options
        )
