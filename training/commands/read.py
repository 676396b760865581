"""`updown read`: the words that are written in images, with their boxes; and the words and answers of `ask --read`."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.shared import (
    add_command,
    check_output_file,
    exit_code,
    image_paths,
    load_pipeline,
    one_sentence,
    picture_path,
)
from training.console import say

ENGINES = ("rapidocr", "tesseract")  # of `processors.ocr_updown`, which is not imported before it is needed


def add_read(commands: Any) -> None:
    """`updown read`."""
    parser = add_command(
        commands,
        "read",
        run_read,
        summary="read the words that are written in images",
        example="updown read sign.jpg --draw words.png\n"
        "  updown read receipts/ --output words/    once for training, resumable: data.words=words/",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder of images, or a URL")
    add_engine(parser)
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the words; with several images, into PICTURE_name.png for each",
    )
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write the words of every image, boxes in 0..1")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="keep the words of image files in a folder for training; those that are there are not read again",
    )


def add_engine(parser: Any) -> None:
    """`--engine` and `--words`: where the words of an image come from."""
    parser.add_argument("--engine", choices=ENGINES, help="the OCR engine (default: rapidocr)")
    parser.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help="words that somebody else's OCR has read, in a layout of training/README.md: a file of one image's words, "
        "or a file or folder of several images' by their names",
    )


def run_read(arguments: argparse.Namespace) -> int:
    """Read the words of each image; one that cannot be read is reported and skipped."""
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_output_file(arguments.json)
    paths = image_paths(arguments.images)
    if arguments.output is not None:
        return keep_words(paths, arguments)
    read = word_reader(arguments, paths)
    broken, found = 0, {}
    drawn: set[Path] = set()
    for path in paths:
        try:
            image, words = read(path)
        except (OSError, ValueError, RuntimeError) as error:
            say(f"updown read: skipped {path}: {one_sentence(error)}", file=sys.stderr)
            broken += 1
            continue
        found[path] = words
        print_words(path, words, size=image.size)
        if arguments.draw and words:
            picture = picture_path(arguments.draw, path, alone=len(paths) == 1, taken=drawn)
            draw_words(image, words, path=picture)
            say(f"  drawn: {picture}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return exit_code(broken, of=len(paths))


def keep_words(paths: Sequence[str], arguments: argparse.Namespace) -> int:
    """`--output`: the words of image files in a folder, named by the files without their endings.

    Raises `ValueError` for words that are brought, for URLs, and for two files of one name.
    """
    if arguments.words is not None or arguments.draw is not None or arguments.json is not None:
        raise ValueError("--output keeps what an engine reads: leave --words, --draw and --json out")
    names = [Path(path).stem for path in paths]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None or not all(Path(path).is_file() for path in paths):
        fault = "a URL or a missing file is given" if repeated is None else f"two images are called {repeated}"
        raise ValueError(f"{fault}, and words are kept by the names of image files: give other files")

    import datasets

    from modeling_updown import open_ocr
    from training.regions.read_words import read_words

    engine = open_ocr(arguments.engine or ENGINES[0])
    rows = datasets.Dataset.from_dict({"image_id": names, "image": [str(path) for path in paths]})
    broken = read_words(rows, engine=engine, output=arguments.output, fingerprint=engine.fingerprint())
    say(f"the words of {len(paths) - len(broken)} images are in {arguments.output}")
    return exit_code(len(broken), of=len(paths))


def word_reader(
    arguments: argparse.Namespace, paths: Sequence[str]
) -> Callable[[str], tuple[Any, list[dict[str, Any]]]]:
    """Path of an image -> the image and its words, by the engine or out of the file of `--words`.

    Raises `ImportError` without the engine, `ValueError` for both, and for words that cannot be read.
    """
    if arguments.words is None:
        from modeling_updown import open_ocr

        return EngineReader(open_ocr(arguments.engine or ENGINES[0]))
    if arguments.engine is not None:
        raise ValueError("--words brings the words, so no engine reads them: leave --engine out")
    return BroughtWords(arguments.words, alone=len(paths) == 1)


class EngineReader:
    """Path of an image -> the image and the words that an OCR engine reads."""

    def __init__(self, engine: Callable[[Any], Sequence[Any]]):
        self.engine = engine

    def __call__(self, path: str) -> tuple[Any, list[dict[str, Any]]]:
        """Raises what `load_image` and the engine raise."""
        from modeling_updown import load_image
        from processors.words_updown import word_rows

        image = load_image(path)
        return image, word_rows(self.engine(image))


class BroughtWords:
    """Path of an image -> the image and its words out of a file, by the name of the image; alone: of one image, whose
    words may be the whole file."""

    def __init__(self, source: Path, *, alone: bool):
        from training.data.reading.word_layouts import open_words, small_json, words_in

        self.source = source
        self.words: Mapping[str, Sequence[Any]] | None = None
        self.own: Sequence[Any] = ()
        try:
            self.words = open_words(source)
        except ValueError:
            if not alone or source.is_dir():
                raise
            self.own = words_in(small_json(source), place=str(source))

    def __call__(self, path: str) -> tuple[Any, list[dict[str, Any]]]:
        """Raises `ValueError` for an image without an entry, and what `load_image` raises."""
        from modeling_updown import load_image
        from processors.words_updown import word_rows
        from training.data.reading.rows import words_of

        own = self.own if self.words is None else words_of(Path(path).stem, self.words)
        if own is None:
            raise ValueError(f"{self.source} has no words of an image {Path(path).stem}")
        return load_image(path), word_rows(own)


def print_words(path: str, words: Sequence[Mapping[str, Any]], *, size: tuple[int, int]) -> None:
    """One line a word, with its box in pixels of an image of `size` (width, height)."""
    say(f"{path}: {len(words)} words")
    width, height = size
    for word in words:
        left, top, right, bottom = word["box"]
        place = f"{left * width:.0f},{top * height:.0f} to {right * width:.0f},{bottom * height:.0f}"
        say(f"  {word['text']:<28} {word['score']:.3f} at {place} pixels")


def draw_words(image: Any, words: Sequence[Mapping[str, Any]], *, path: Path) -> None:
    """Outline words, each with its text."""
    from modeling_updown import draw_regions

    regions = [{"label": word["text"], "score": word.get("score", 1.0), "box": word["box"]} for word in words]
    draw_regions(image, regions, max_regions=len(regions), path=path)


def answer_by_reading(arguments: argparse.Namespace) -> int:
    """`updown ask --read`: answer each question from the words of the image, and with `--draw` show the copied ones.

    Raises `ValueError` without a model, and for options of models that do not read.
    """
    from modeling_updown.drawing_updown import check_picture

    names = ("answers", "top_k", "choices", "knowledge", "knowledge_model")
    odd = [name for name in names if getattr(arguments, name) is not None]
    if odd:
        raise ValueError(f"--{odd[0].replace('_', '-')} is not for --read, whose answers are written: leave it out")
    if arguments.model is None:
        raise ValueError("--read needs --model, a model that reads: train one (updown train reading/scenes)")
    check_picture(arguments.draw)
    pipe = load_pipeline("text-reading", arguments.model, regions=arguments.regions)
    image, words = word_reader(arguments, [arguments.image])(arguments.image)
    found = pipe(image, arguments.questions, words=words)
    for number, (question, own) in enumerate(zip(arguments.questions, found, strict=True), start=1):
        say(question)
        say(f"  {own['answer']:<28} {own['score']:.3f}")
        copied = [word for word in own["words"] if word["box"] is not None]
        if arguments.draw and copied:
            one = len(arguments.questions) == 1
            picture = arguments.draw if one else arguments.draw.with_stem(f"{arguments.draw.stem}_{number}")
            draw_words(image, copied, path=picture)
            say(f"  drawn: {picture}")
    return 0
