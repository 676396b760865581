"""Nothing that a file, a model or a server says reaches the terminal as a command of its own."""

import ast
import io
import json
import logging
import warnings
from pathlib import Path

import pytest

from tests import tiny
from tests.processors.test_image_download import server
from training import cli
from training.console import UNSAFE, printable, say, say_json

ROOT = Path(__file__).resolve().parents[2]
TITLE = "\x1b]0;owned\x07"  # retitles the window
# the checkers of what is published talk to their parent process over standard output
PRINTING = {"training/console.py", "training/publish/check.py"}


def test_text_is_shown_and_not_obeyed() -> None:
    for unsafe in ("\x1b[2J", "\x9b31m", "\r", "\n", "\x7f", "\u202e", "\u2028", "\udcff", "\0"):
        shown = printable(f"a{unsafe}b")
        assert UNSAFE.search(shown) is None and shown[0] == "a" and shown[-1] == "b" and "\\" in shown
    for safe in ("a dog", "café\t犬", "👩‍🚀 שלום", "C:\\photos"):
        assert printable(safe) == safe


def test_each_argument_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb", Path("c.jpg"), 3)
    assert capsys.readouterr().out == "a\\nb\nc.jpg\n3\n"
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", newline="")
    say("é 犬", file=latin)
    latin.flush()
    assert latin.buffer.getvalue() == "é \\u72ac\n".encode("latin-1")


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    content = {"query": f"a\x9b31m\n{TITLE}\u202e犬\udcff", "found": [1, 2]}
    say_json(content)
    shown = capsys.readouterr().out
    assert json.loads(shown) == content
    assert not any(UNSAFE.search(line) for line in shown.split("\n")) and "犬" in shown


def test_commands_print_by_say_alone() -> None:
    for path in (ROOT / "training").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert name in PRINTING or not prints, f"{name} prints at {prints}: use training.console.say"


def test_names_of_images_and_words_of_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "photos"
    images.mkdir()
    tiny.tiny_image(1).save(images / f"a{TITLE}.png")
    (images / f"b{TITLE}.png").write_bytes(b"no image")
    detector = tiny.tiny_detector()
    detector.config.id2label = dict.fromkeys(range(1, detector.config.num_labels), f"dog{TITLE}")
    detector.save_pretrained(tmp_path / "detector")
    tiny.tiny_processor().image_processor.save_pretrained(tmp_path / "detector")
    capsys.readouterr()
    assert cli.main(["detect", str(images), "--model", str(tmp_path / "detector"), "--threshold", "0"]) == 1
    shown = capsys.readouterr()
    assert "a\\x1b]0;owned\\x07.png: " in shown.out and "dog\\x1b]0;owned\\x07" in shown.out
    assert "skipped" in shown.err and "b\\x1b]0;owned\\x07.png is not an image" in shown.err
    assert not any(UNSAFE.search(line) for line in (shown.out + shown.err).split("\n"))


def test_answers_of_servers_and_names_in_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    with server({"/a.jpg": f"HTTP/{TITLE}\r\n\r\n".encode()}) as address:
        assert cli.main(["ask", f"{address}/a.jpg", "what is it?"]) == 2
    shown = capsys.readouterr().err
    assert "owned" in shown and UNSAFE.search(shown.rstrip("\n")) is None
    with pytest.raises(SystemExit):
        cli.main(["caption", "a.jpg", f"--{TITLE}"])
    shown = capsys.readouterr().err
    assert "unrecognized arguments: --\\x1b]0;owned" in shown and TITLE not in shown


def test_warnings_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), cli.notes_shown():
        warnings.simplefilter("always")
        logging.getLogger("training.data").warning("no image %s\nat all", TITLE)
        text = warnings.formatwarning(UserWarning(f"no image {TITLE}"), UserWarning, "files.py", 3)
    assert text == "UserWarning: no image \\x1b]0;owned\\x07\n"
    assert capsys.readouterr().err == "no image \\x1b]0;owned\\x07\nat all\n"
