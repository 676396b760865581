"""The command line: `updown caption photo.jpg`, `updown ask photo.jpg "what is it?"` and their siblings.

Each command reads its arguments, calls one function of the package, and prints. What is heavy is imported inside the
commands, so that `--help` answers at once. A mistake of the user's ends in one sentence and exit code 2
(`UPDOWN_DEBUG=1` shows where it came from); images that cannot be read are named and passed over, with exit code 1.
"""

import argparse
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from training.commands.answers import add_build_answers
from training.commands.ask import add_ask
from training.commands.caption import add_caption
from training.commands.chat import add_chat
from training.commands.checkpoint import add_convert_checkpoint
from training.commands.choose import add_choose
from training.commands.compare import add_compare
from training.commands.demo import add_demo
from training.commands.describe import add_describe
from training.commands.detect import add_detect
from training.commands.entail import add_entail
from training.commands.evaluate import add_evaluate
from training.commands.extract import add_extract
from training.commands.find import add_find
from training.commands.ground import add_ground
from training.commands.index import add_index
from training.commands.push import add_push
from training.commands.read import add_read
from training.commands.regions import add_check_regions, add_convert_regions
from training.commands.search import add_search
from training.commands.shared import one_sentence
from training.commands.train import add_train
from training.commands.vocabulary import add_build_vocabulary
from training.console import PrintableFormatter, printable, printable_warning, say

EXAMPLES = """\
examples:
  updown caption photo.jpg                         one sentence on an image
  updown caption photos/ --num-beams 5             on every image of a folder
  updown caption photo.jpg --show-regions --draw look.png   where each word looked
  updown caption photo.jpg --words "cat|kitten" --num-captions 3   sentences that name it
  updown ask photo.jpg "how many dogs are there?" --draw look.png
  updown ask photo.jpg "what colour is it?" --choices red,green,blue
  updown chat photo.jpg                            a dialogue on an image
  updown demo                                      the trained captioner on a few images
  updown describe photo.jpg --draw described.png   a sentence and a box for each part
  updown detect photo.jpg --draw boxes.png         named, attributed boxes
  updown ground photo.jpg "the brown dog left of the boy" --draw found.png
  updown caption clip.mp4 --draw strip.png         a clip: when and where each word looked
  updown ask clip.mp4 "what is the dog doing?"     questions about a clip
  updown find clip.mp4 "the dog jumps" --draw timeline.png   its moment in a clip
  updown read sign.jpg --draw words.png            the words that are written in an image
  updown entail photo.jpg "people are outdoors" --model runs/entailment_snli_ve/best   does it follow?
  updown choose photo.jpg "where are they?" --choice "at a bar" --choice "at home" --model runs/multiple_choice_vcr/best
  updown extract photos/ --output regions/         region features, made once, for training
  updown index photos/ --captions captions.jsonl --output index/     make images, and texts, searchable
  updown search "two dogs on a beach" --index index/ --output sheet.jpg
  updown search photo.jpg --index index/           the texts that describe it; --similar: images like it
  updown train captioning/scenes --set train.epochs=1   a recipe by its name or its file
  updown evaluate captioning/scenes
  updown compare runs/vqa_daquar/best runs/vqa_daquar_blind/best     side by side, with intervals
  updown build-answers training/recipes/vqa/v2.yaml --min-count 9 --split train+val --output answers.json
  updown build-vocabulary data/visual_genome --drop abstract.txt --output data/vocabulary
  updown convert-checkpoint captioning-pytorch model.pth --config options.json --output converted/
  updown convert-regions trainval_36.tsv --output regions/
  updown check-regions regions/ trainval_36.tsv    do two stores or files hold the same regions?
  updown push runs/captioning/best my-name/my-captioner --dry-run --output published/

training, on as many processes as there are GPUs:
  accelerate launch -m training.train captioning/flickr8k

`updown COMMAND --help` tells what a command takes; UPDOWN_DEBUG=1 shows the traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 done except for some images, 2 a mistake or failure."""
    parsed = build_parser().parse_args(arguments)
    for name, value in vars(parsed).items():
        setattr(parsed, name, with_home(value))
    try:
        with notes_shown():
            return parsed.run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("UPDOWN_DEBUG") == "1":
            raise
        say(f"updown {parsed.command}: {one_sentence(error)}", file=sys.stderr)
        return 2


def with_home(value: Any) -> Any:
    """An argument with `~/` at its start as the home folder, which a shell leaves alone in `--output=~/regions`."""
    if isinstance(value, list):
        return [with_home(part) for part in value]
    if isinstance(value, str | Path) and str(value).startswith("~/"):
        return type(value)(os.path.expanduser(value))
    return value


@contextlib.contextmanager
def notes_shown() -> Iterator[None]:
    """With the notes of this package's own modules, and warnings, on stderr, as a terminal may have them."""
    logger, shown = logging.getLogger("training"), logging.StreamHandler()
    shown.setFormatter(PrintableFormatter())
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    usual, warnings.formatwarning = warnings.formatwarning, printable_warning
    try:
        yield
    finally:
        logger.removeHandler(shown)
        warnings.formatwarning = usual


class Parser(argparse.ArgumentParser):
    """Arguments may be file names that a shell put in for `*`, so what is said of them is made fit for a terminal."""

    def error(self, message: str) -> NoReturn:
        """As argparse does it."""
        super().error(printable(message))


class ShowVersion(argparse.Action):
    """`--version`, which imports the package only when it is asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the version and leave."""
        import modeling_updown

        say(f"updown {modeling_updown.__version__}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = Parser(
        prog="updown",
        description="Bottom-up and top-down attention for images: regions in, sentences and answers out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_caption(commands)
    add_ask(commands)
    add_chat(commands)
    add_choose(commands)
    add_demo(commands)
    add_describe(commands)
    add_detect(commands)
    add_entail(commands)
    add_extract(commands)
    add_find(commands)
    add_ground(commands)
    add_index(commands)
    add_read(commands)
    add_search(commands)
    add_train(commands)
    add_evaluate(commands)
    add_compare(commands)
    add_build_answers(commands)
    add_build_vocabulary(commands)
    add_convert_checkpoint(commands)
    add_convert_regions(commands)
    add_check_regions(commands)
    add_push(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
