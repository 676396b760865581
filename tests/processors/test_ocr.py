"""OCR engines: their errors, tesseract's table by a program that plays it, and rapidocr where it is installed."""

import os
import stat
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from processors import ocr_updown
from processors.ocr_updown import ENGINES, RapidOcrEngine, corners_in, open_ocr, tesseract_words

HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
TABLE = "\n".join(
    [
        HEADER,
        "1\t1\t0\t0\t0\t0\t0\t0\t200\t100\t-1\t",
        "4\t1\t1\t1\t1\t0\t20\t10\t100\t20\t-1\t",
        "5\t1\t1\t1\t1\t1\t20\t10\t40\t20\t96.5\tMain",
        "5\t1\t1\t1\t1\t2\t70\t10\t50\t20\t40\tSt.",
        "5\t1\t1\t1\t1\t3\t130\t10\t10\t20\t95\t ",
    ]
)


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ValueError, match="there is no OCR engine 'easyocr'; choose one of rapidocr, tesseract"):
        open_ocr("easyocr")
    assert list(ENGINES) == ["rapidocr", "tesseract"]


def test_without_rapidocr_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr_updown, "rapidocr", None)
    with pytest.raises(ImportError, match=r"is not installed: pip install 'modeling-updown\[ocr\]'"):
        open_ocr()


def test_without_tesseract_the_error_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match=r"tesseract is not installed: .*\(tesseract-ocr\).*modeling-updown\[ocr\]"):
        open_ocr("tesseract")


def played_tesseract(folder: Path, script: str) -> str:
    """A folder whose program tesseract is a shell script."""
    program = folder / "tesseract"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_tesseracts_words_have_boxes_and_scores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text(TABLE, encoding="utf-8")
    says = f'if [ "$1" = --version ]; then echo "tesseract 5.3"; else cat > /dev/null; cat {tmp_path}/table.tsv; fi'
    monkeypatch.setenv("PATH", played_tesseract(tmp_path, says))
    engine = open_ocr("tesseract", min_score=0.3)
    words = engine(Image.new("L", (200, 100)))
    assert [word.text for word in words] == ["Main", "St."]
    assert words[0].box == pytest.approx((0.1, 0.1, 0.3, 0.3)) and words[0].score == pytest.approx(0.965)
    assert open_ocr("tesseract", min_score=0.5)(Image.new("L", (200, 100)))[-1].text == "Main"
    assert engine.fingerprint()["version"] == "tesseract 5.3"


def test_what_tesseract_says_is_told_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", played_tesseract(tmp_path, "cat > /dev/null; echo 'no model xyz' >&2; exit 1"))
    with pytest.raises(RuntimeError, match=r"tesseract failed \(no model xyz\): is the model of xyz installed"):
        open_ocr("tesseract", languages="xyz")(Image.new("L", (20, 10)))
    for odd in ("../eng", "eng;rm", "", "-l"):
        with pytest.raises(ValueError, match="write the names of tesseract's models"):
            open_ocr("tesseract", languages=odd)
    with pytest.raises(ValueError, match="tesseract's table has the columns 'oops'"):
        list(tesseract_words("oops\n", size=(2, 1)))
    assert list(tesseract_words(HEADER, size=(2, 1))) == []


class PlayedReader:
    """Plays rapidocr's reader: two lines, of which the second has lost a space, or nothing, or a failure."""

    def __init__(self, found: Any) -> None:
        self.found = found
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: np.ndarray, *, return_word_box: bool, **options: Any) -> Any:
        self.shapes.append(pixels.shape)
        if isinstance(self.found, Exception) and (return_word_box or not isinstance(self.found, IndexError)):
            raise self.found
        return two_lines(told=False) if isinstance(self.found, IndexError) else self.found


def square(left: float) -> list[list[float]]:
    return [[left, 10.0], [left + 10, 10.0], [left + 10, 30.0], [left, 30.0]]


def two_lines(*, told: bool = True) -> SimpleNamespace:
    places = [(0, 10, 27, 37), (0, 10, 20, 30)]
    texts = ("goup", "a bc")
    letters = tuple(
        tuple((letter, 0.9, square(left)) for letter, left in zip(text.replace(" ", ""), row, strict=False))
        for text, row in zip(texts, places, strict=True)
    )
    around = np.array([[[0, 10], [47, 10], [47, 30], [0, 30]]] * 2, dtype=np.float32)
    return SimpleNamespace(boxes=around, txts=texts, scores=(0.8, 0.7), word_results=letters if told else (None, None))


def engine_with(found: Any, **options: Any) -> RapidOcrEngine:
    engine = RapidOcrEngine.__new__(RapidOcrEngine)
    settings = {"min_score": 0.5, "by_word": True, "max_words": 500, **options}
    for name, value in settings.items():
        setattr(engine, name, value)
    engine._reader = PlayedReader(found)
    return engine


def test_words_of_a_line_with_a_lost_space() -> None:
    words = engine_with(two_lines())(Image.new("RGB", (100, 40)))
    assert [word.text for word in words] == ["go", "up", "a", "bc"]
    assert words[1].box == pytest.approx((0.27, 0.25, 0.47, 0.75)) and words[1].score == pytest.approx(0.9)
    lines = engine_with(two_lines(), by_word=False)(Image.new("RGBA", (100, 40)))
    assert [word.text for word in lines] == ["go up", "a bc"] and lines[0].score == pytest.approx(0.8)


def test_an_image_without_text_has_no_words() -> None:
    nothing = SimpleNamespace(boxes=None, txts=None, scores=None, word_results=())
    assert engine_with(nothing)(Image.new("L", (10, 10))) == []


def test_failures_of_rapidocr_are_told_with_a_cure() -> None:
    with pytest.raises(RuntimeError, match=r"rapidocr failed on an image \(KeyError: 'x'\): leave it out"):
        engine_with(KeyError("x"))(Image.new("L", (10, 10)))
    words = engine_with(IndexError("boxes"))(Image.new("RGB", (100, 40)))  # it lost count of its characters
    assert [word.text for word in words] == ["goup", "a", "bc"]


def test_corners_are_in_the_unit_square() -> None:
    assert corners_in([[10, 20]] * 4, size=(100, 40)) == ((0.1, 0.5),) * 4


@pytest.mark.skipif(ocr_updown.rapidocr is None, reason="needs rapidocr (pip install 'modeling-updown[ocr]')")
def test_drawn_words_are_read() -> None:
    image = Image.new("RGB", (400, 120), "white")
    ImageDraw.Draw(image).text((20, 30), "MAIN STREET 42", fill="black", font=ImageFont.load_default(size=40))
    engine = open_ocr(threads=1)
    words = engine(image)
    assert [word.text for word in words] == ["MAIN", "STREET", "42"]
    boxes = [word.box for word in words]
    assert all(one[2] <= other[0] + 0.02 for one, other in pairwise(boxes))
    assert engine.fingerprint()["engine"] == "rapidocr"
