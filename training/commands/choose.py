"""`updown choose`: ranks given answers to a question about an image."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.commands.entail import add_trained_model, print_ranked
from training.commands.shared import add_command, check_output_file, load_pipeline
from training.console import positive

TASK = "visual-multiple-choice"
KINDS = ("answer", "rationale", "round")


def add_choose(commands: Any) -> None:
    """`updown choose`."""
    parser = add_command(
        commands,
        "choose",
        run_choose,
        summary="rank given answers to a question about an image",
        example='updown choose photo.jpg "where are they?" --choice "at a bar" --choice "at school" --model '
        "runs/multiple_choice_vcr/best\n"
        '  updown choose photo.jpg "why is [person1] smiling?" --box person1=10,20,110,300 --choice "it is fun" ...',
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument("question", metavar="QUESTION", help="in quotes")
    parser.add_argument(
        "--choice", action="append", required=True, metavar="ANSWER", help="an answer to choose; given several times"
    )
    parser.add_argument(
        "--before",
        action="append",
        default=[],
        metavar="TEXT",
        help="a text that is read before the question: of a dialogue its caption, questions and answers in turn; may "
        "be given several times",
    )
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="what is chosen (default: %(default)s)")
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        type=named_box,
        metavar="NAME=X1,Y1,X2,Y2",
        help="the box, in pixels, of a word that stands in brackets in a text; may be given several times",
    )
    add_trained_model(parser, recipes="multiple_choice/vcr or multiple_choice/visdial")
    parser.add_argument("--top-k", type=positive, metavar="K", help="how many answers to show (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write answers and scores")


def named_box(text: str) -> tuple[str, tuple[float, ...]]:
    """The type of `--box`.

    >>> named_box("person1=10,20,110,300")
    ('person1', (10.0, 20.0, 110.0, 300.0))
    """
    name, _, numbers = text.partition("=")
    name = name.strip()
    try:
        corners = tuple(float(number) for number in numbers.split(","))
    except ValueError:
        corners = ()
    if not name or len(corners) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=X1,Y1,X2,Y2")
    return name, corners


def check_given(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for one answer alone, a name with two boxes, and a box that no text names in brackets."""
    if len(arguments.choice) < 2:
        raise ValueError("there is one answer, of which nothing is chosen: give two or more, each by a --choice")
    names = [name for name, _ in arguments.box]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"--box {twice} is given twice: give each name one box")
    said = " ".join([arguments.question, *arguments.before, *arguments.choice])
    unread = next((name for name in names if f"[{name}]" not in said), None)
    if unread is not None:
        bare = re.sub(r"\W", "", unread) or "person1"
        raise ValueError(
            f"--box {unread} is named in no text: write [{bare}] in brackets in the question or an answer, and "
            f"--box {bare}=X1,Y1,X2,Y2, or leave it out"
        )


def run_choose(arguments: argparse.Namespace) -> int:
    """Rank the answers, print each with its score, and write them with `--json`."""
    check_output_file(arguments.json)
    check_given(arguments)
    chooser = load_pipeline(TASK, arguments.model, regions=arguments.regions)
    texts: str | Sequence[str] = [*arguments.before, arguments.question] if arguments.before else arguments.question
    options = {"kind": arguments.kind, "top_k": arguments.top_k, "boxes": dict(arguments.box) or None}
    found = chooser(arguments.image, texts, choices=arguments.choice, **options)
    print_ranked([found])
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0
