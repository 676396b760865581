"""`updown chat`: questions about one image and their answers in turn, typed, piped or given by `--ask`.

    image --load_speaker--> who answers; lines --questions_of--> question --reply--> `Turn` --print_turn | say_json

The image's regions are made once. What was said before is kept and shown, and given to the model where it has learnt to
read dialogues (`chat_models.py`); else the dialogue says that it is not read.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.commands.ask import check_questions
from training.commands.chat_models import DialogueChooser, Questioner, Turn, load_speaker, pointing_word
from training.commands.shared import USER_ERRORS, add_command, one_sentence
from training.console import say

PROMPT = "> "
LONGEST_LINE = 2000  # characters of a question
HELP = "ask about the image; /history shows what was said, /forget begins anew, /quit (or the end of input) leaves"
QUIT = ("/quit", "/exit", "/q")
NUM_UNSURE = 3  # answers shown where none is sure


def add_chat(commands: Any) -> None:
    """`updown chat`."""
    parser = add_command(
        commands,
        "chat",
        run_chat,
        summary="ask about an image, one question after the other",
        example='updown chat photo.jpg\n  updown chat photo.jpg --ask "is there a dog?" --ask "where is it?" --json',
    )
    parser.add_argument("image", metavar="IMAGE", help="a file or a URL")
    parser.add_argument(
        "--model",
        metavar="DIR_OR_HUB_ID",
        help="a saved question answerer, or a model of dialogues (default: the trained question answerer)",
    )
    parser.add_argument(
        "--regions", metavar="DIR_OR_HUB_ID", help="a detector for a model that has none of its own: a converted UNITER"
    )
    parser.add_argument(
        "--ask", action="append", metavar="QUESTION", help="ask this and leave; several are asked in turn"
    )
    parser.add_argument(
        "--candidates",
        type=Path,
        metavar="FILE",
        help="answers to choose from, one a line; models of dialogues need it",
    )
    parser.add_argument(
        "--caption",
        metavar="TEXT",
        help="what a dialogue begins with, for a model of dialogues (default: the trained captioner's sentence)",
    )
    parser.add_argument(
        "--sure",
        type=share,
        default=0.5,
        metavar="SCORE",
        help="an answer with a lower score is shown as unsure, beside the next ones (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each answer, and nothing else")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the attention of each answer: PICTURE_1.png and so on",
    )


def share(text: str) -> float:
    """The type of `--sure`: a number in 0..1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number in 0..1")


def run_chat(arguments: argparse.Namespace) -> int:
    """Answer question after question; 1 where some typed or piped ones could not be answered."""
    from modeling_updown import load_image
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_questions(arguments.ask or [])
    image = load_image(arguments.image)
    speaker = load_speaker(
        image,
        model=arguments.model,
        regions=arguments.regions,
        candidates=arguments.candidates,
        caption=arguments.caption,
        draws=bool(arguments.draw),
    )
    dialogue = Dialogue(speaker, image, arguments)
    if arguments.ask:
        for question in arguments.ask:
            dialogue.answer(question)
        return 0
    try:
        return dialogue.run()
    except KeyboardInterrupt:
        say("")  # the line that was begun
        raise


class Dialogue:
    """A dialogue on one image: what was said, and how it is shown.

    arguments: `ask`, `json`, `draw` and `sure` of the command.
    """

    def __init__(self, speaker: Questioner | DialogueChooser, image: Any, arguments: argparse.Namespace):
        self.speaker, self.image, self.arguments = speaker, image, arguments
        self.typed = not arguments.ask and sys.stdin.isatty() and not arguments.json
        self.turns: list[Turn] = []
        self.asked = 0  # also before /forget
        self.told_pointing = False
        if not arguments.json:
            self.introduce()

    def introduce(self) -> None:
        """Say what the model reads, what the dialogue begins with, and how to leave."""
        say(self.speaker.note)
        if isinstance(self.speaker, DialogueChooser):
            say(f"caption: {self.speaker.caption}")
        if self.typed:
            say(HELP)

    def run(self) -> int:
        """Answer each line of the input; an error is told, and the dialogue goes on. 1 after one, else 0."""
        failed = False
        for line in lines_of_input(PROMPT if self.typed else ""):
            if line.lower() in QUIT:
                break
            if line.startswith("/"):
                self.command(line)
                continue
            try:
                check_questions([line])
                self.answer(line)
            except USER_ERRORS as error:
                say(f"updown chat: {one_sentence(error)}", file=sys.stderr)
                failed = True
        return int(failed and not self.typed)

    def command(self, line: str) -> None:
        """What begins with a slash."""
        if line == "/history":
            for turn in self.turns:
                say(f"{turn.question} {turn.answer}", file=sys.stderr if self.arguments.json else None)
        elif line == "/forget":
            self.turns.clear()
        else:
            say(HELP if line == "/help" else f"there is no command {line}; {HELP}", file=sys.stderr)

    def answer(self, question: str) -> None:
        """Ask the model, show what it says, draw it, and keep the turn."""
        turn = self.speaker.reply(question, self.turns)
        self.asked += 1
        if self.arguments.json:
            say(json.dumps(as_json(turn, number=self.asked, sure=self.arguments.sure)))
        else:
            self.tell_pointing(question)
            print_turn(turn, sure=self.arguments.sure, with_question=not self.typed)
        if self.arguments.draw:
            self.draw(turn)
        self.turns.append(turn)

    def tell_pointing(self, question: str) -> None:
        """Once, that "it" names nothing for a model that reads each question by itself."""
        word = pointing_word(question)
        if word and self.turns and not self.speaker.reads_history and not self.told_pointing:
            self.told_pointing = True
            say(f'(the model does not know what "{word}" was before: name it, as in "what colour is the dog?")')

    def draw(self, turn: Turn) -> None:
        """The attention of an answer, into a picture of its own where there may be several."""
        from modeling_updown import draw_answer

        path = self.arguments.draw
        if len(self.arguments.ask or ()) != 1:
            path = path.with_stem(f"{path.stem}_{self.asked}")
        draw_answer(self.image, turn.answers, question=turn.question, path=path)
        if not self.arguments.json:
            say(f"  drawn: {path}")


def lines_of_input(prompt: str) -> Iterator[str]:
    """The lines of standard input that hold something, typed at a prompt or piped, without a byte order mark.

    Raises `ValueError` for one of more than `LONGEST_LINE` characters, and for what is no text in the terminal's
    encoding.
    """
    if prompt:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives `input` its editing and history where there is one
    while True:
        try:
            line = input(prompt) if prompt else sys.stdin.readline(LONGEST_LINE + 1)
        except EOFError:
            say("")
            return
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the questions on standard input are no {error.encoding} text (byte {error.start}): save them as UTF-8"
            ) from error
        if not prompt and not line:
            return
        if len(line.rstrip("\n")) > LONGEST_LINE:
            raise ValueError(f"a question has more than {LONGEST_LINE} characters: ask something shorter")
        line = line.removeprefix("\ufeff").strip()
        if line:
            yield line


def as_json(turn: Turn, *, number: int, sure: float) -> dict[str, Any]:
    """A turn for `--json`: `turn` from 1, `question`, `answer`, `score`, `sure`, `answers`, `turns_read`."""
    answers = [{"answer": one["answer"], "score": round(one["score"], 4)} for one in turn.answers]
    best = turn.answers[0]
    said = {"turn": number, "question": turn.question, "answer": best["answer"], "score": round(best["score"], 4)}
    return {**said, "sure": best["score"] >= sure, "answers": answers, "turns_read": turn.turns_read}


def print_turn(turn: Turn, *, sure: float, with_question: bool) -> None:
    """Print the answer with its score, or where it is unsure the best ones.

    >>> print_turn(Turn("how many?", [{"answer": "2", "score": 0.7}]), sure=0.5, with_question=False)
    2 (0.70)
    >>> print_turn(Turn("how many?", [{"answer": "2", "score": 0.3}, {"answer": "1", "score": 0.2}]), sure=0.5,
    ...            with_question=False)
    not sure: 2 (0.30), 1 (0.20)
    """
    if with_question:
        say(turn.question)
    least = turn.answers[0]["score"] < sure
    shown = [f"{one['answer']} ({one['score']:.2f})" for one in turn.answers[: NUM_UNSURE if least else 1]]
    indent = "  " if with_question else ""
    say(f"{indent}{'not sure: ' if least else ''}{', '.join(shown)}")
