"""OCR engines: an image -> its words, each with text, confidence and corners. Every engine is one call.

    words = open_ocr("rapidocr")(image)   # a list of `Word`

`RapidOcrEngine` runs PP-OCR in ONNX by the package rapidocr, whose wheel holds the models (extra `ocr`);
`TesseractEngine` runs the program tesseract where it is installed. Both take a PIL image and return words as
`checked_words` leaves them.
"""

import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .word_spaces_updown import Character, split_at_gaps
from .words_updown import MAX_WORDS, Word, checked_words, word_in_box

try:
    import rapidocr
except ImportError:  # an extra; `check_rapidocr` names it where an image is to be read
    rapidocr = None

LANGUAGES = re.compile(r"[A-Za-z][A-Za-z_]*(?:\+[A-Za-z][A-Za-z_]*)*")
TESSERACT_SECONDS = 300
TSV_FIELDS = ("level", "left", "top", "width", "height", "conf", "text")
WORD_LEVEL = "5"  # of tesseract's table, whose other rows are pages, blocks, paragraphs and lines


class RapidOcrEngine:
    """PP-OCR by rapidocr: detection of lines, their direction, and recognition, on the CPU.

    Args:
        min_score: lines with a lower confidence are left out, 0..1.
        by_word: give words; False: whole lines, with their spaces.
        max_words: of an image, the most confident ones.
        threads: of the CPU; None: all.

    Spaces that the recogniser has missed are mended where the gap between two characters is as wide as one.

    Raises:
        ImportError: without rapidocr or onnxruntime.
    """

    name = "rapidocr"

    def __init__(
        self, *, min_score: float = 0.5, by_word: bool = True, max_words: int = MAX_WORDS, threads: int | None = None
    ) -> None:
        check_rapidocr()
        self.min_score, self.by_word, self.max_words = min_score, by_word, max_words
        threads = -1 if threads is None else threads
        names = ("intra_op_num_threads", "inter_op_num_threads")
        options = {f"EngineConfig.onnxruntime.{name}": threads for name in names}
        self._reader = rapidocr.RapidOCR(params={"Global.log_level": "error", **options})

    def fingerprint(self) -> dict[str, Any]:
        """What determines the words of an image."""
        version = getattr(rapidocr, "__version__", "") or _version("rapidocr")
        settings = {"min_score": self.min_score, "by_word": self.by_word, "max_words": self.max_words}
        return {"engine": self.name, "version": version, **settings}

    def __call__(self, image: Image.Image) -> list[Word]:
        """The words of an image in reading order; none where nothing is read."""
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]  # (height, width, 3), blue first as OpenCV has it
        found = self._read(np.ascontiguousarray(pixels))
        if getattr(found, "txts", None) is None or found.boxes is None:
            return []
        lines = list(zip(found.boxes, found.txts, found.scores, strict=True))
        # the characters are told of all lines or of none
        told = found.word_results if len(found.word_results) == len(lines) else [()] * len(lines)
        words: list[Word] = []
        for (corners, text, score), characters in zip(lines, told, strict=True):
            line = Word(str(text), corners_in(corners, size=image.size), float(score))
            words += self._of_line(line, characters, size=image.size)
        return checked_words(words, max_words=self.max_words)

    def _read(self, pixels: np.ndarray) -> Any:
        """What rapidocr returns; without the characters' boxes where it cannot bring them together with the lines.

        Raises `RuntimeError` where it fails, whatever its libraries raise.
        """
        options: dict[str, Any] = {"text_score": self.min_score, "return_single_char_box": True}
        try:
            try:
                return self._reader(pixels, return_word_box=True, **options)
            except IndexError:
                return self._reader(pixels, return_word_box=False, **options)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"rapidocr failed on an image ({reason[:200]}): leave it out, or convert it") from error

    def _of_line(self, line: Word, characters: Sequence[Any], *, size: tuple[int, int]) -> list[Word]:
        """The words of a line, or the line with its spaces mended."""
        told = [
            Character(str(one), corners_in(around, size=size), float(score)) for one, score, around in characters or ()
        ]
        words = split_at_gaps(line, told, size=size)
        if self.by_word:
            return words
        return [Word(" ".join(word.text for word in words), line.corners, line.score)]


class TesseractEngine:
    """The program tesseract, where it is installed.

    Args:
        languages: of its models, "eng" or several as "eng+deu".
        min_score: words with a lower confidence are left out, 0..1.
        max_words: of an image, the most confident ones.

    Raises:
        ImportError: where the program is not found.
        ValueError: for languages that are not written as above.
    """

    name = "tesseract"

    def __init__(self, *, languages: str = "eng", min_score: float = 0.0, max_words: int = MAX_WORDS) -> None:
        found = shutil.which("tesseract")
        if found is None:
            raise ImportError(
                "the program tesseract is not installed: install it from your system's packages (tesseract-ocr), or "
                "take the engine rapidocr: pip install 'modeling-updown[ocr]'"
            )
        if not LANGUAGES.fullmatch(languages):
            raise ValueError(f"languages is {languages!r}; write the names of tesseract's models as eng or eng+deu")
        self._program, self.languages, self.min_score, self.max_words = found, languages, min_score, max_words

    def fingerprint(self) -> dict[str, Any]:
        """What determines the words of an image."""
        told = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=False)
        version = (told.stdout or told.stderr).split("\n", 1)[0].strip()
        settings = {"languages": self.languages, "min_score": self.min_score, "max_words": self.max_words}
        return {"engine": self.name, "version": version, **settings}

    def __call__(self, image: Image.Image) -> list[Word]:
        """The words of an image in reading order; none where nothing is read.

        Raises:
            RuntimeError: with what tesseract wrote where it fails, such as a model that is not installed.
        """
        png = io.BytesIO()
        image.convert("RGB").save(png, format="PNG", compress_level=1)
        command = [self._program, "stdin", "stdout", "-l", self.languages, "tsv"]
        try:
            done = subprocess.run(
                command, input=png.getvalue(), capture_output=True, check=False, timeout=TESSERACT_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"tesseract took over {TESSERACT_SECONDS} s for an image: give a smaller one") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[0]
            raise RuntimeError(f"tesseract failed ({said[:200]}): is the model of {self.languages} installed?")
        table = done.stdout.decode("utf-8", "replace")
        words = (word for word in tesseract_words(table, size=image.size) if word.score >= self.min_score)
        return checked_words(words, max_words=self.max_words)


Engine = RapidOcrEngine | TesseractEngine
ENGINES: dict[str, Callable[..., Engine]] = {"rapidocr": RapidOcrEngine, "tesseract": TesseractEngine}


def open_ocr(name: str = "rapidocr", **options: Any) -> Engine:
    """An OCR engine by its name: rapidocr or tesseract.

    Args:
        options: those of its class.

    Raises:
        ValueError: for an unknown name.
        ImportError: where it is not installed, with the command that installs it.
    """
    if name not in ENGINES:
        raise ValueError(f"there is no OCR engine {name!r}; choose one of {', '.join(ENGINES)}")
    return ENGINES[name](**options)


def check_rapidocr() -> None:
    """Raises `ImportError` with the command that installs rapidocr and onnxruntime where one is absent."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        absent = "onnxruntime"
    else:
        absent = "" if rapidocr is not None else "rapidocr"
    if absent:
        raise ImportError(
            f"words in images are read by rapidocr and onnxruntime, and {absent} is not installed: "
            "pip install 'modeling-updown[ocr]'"
        )


def tesseract_words(table: str, *, size: tuple[int, int]) -> Iterator[Word]:
    """The words of tesseract's TSV output; size: width and height of the image in pixels.

    Raises `ValueError` for a table without the columns of one.
    """
    header, *rows = table.splitlines() or [""]
    names = header.split("\t")
    if not set(TSV_FIELDS) <= set(names):
        raise ValueError(f"tesseract's table has the columns {header[:120]!r}; it needs {', '.join(TSV_FIELDS)}")
    for line in rows:
        row = dict(zip(names, line.split("\t"), strict=False))
        if row.get("level") != WORD_LEVEL or float(row["conf"]) < 0 or not row.get("text", "").strip():
            continue
        left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
        box = (left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1])
        yield word_in_box(row["text"], box, score=float(row["conf"]) / 100)


def corners_in(corners: Any, *, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Four corners in pixels -> in 0..1; size: width and height of the image in pixels.

    >>> corners_in([[0, 0], [50, 0], [50, 20], [0, 20]], size=(100, 40))
    ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.5))
    """
    return tuple((float(x) / size[0], float(y) / size[1]) for x, y in corners)


def _version(package: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
