"""`updown ask`: answers questions about an image or a clip, and draws the attention of each answer."""

import argparse
import os
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.clips import add_frames, is_clip, load_media, sampling_of
from training.commands.read import add_engine, answer_by_reading
from training.commands.shared import (
    TRAINED_RETRIEVAL,
    TRAINED_VQA,
    add_command,
    is_image,
    load_pipeline,
    model_folder,
    open_pipeline,
    quiet,
)
from training.console import positive, say
from training.data.files import read_json


def add_ask(commands: Any) -> None:
    """`updown ask`."""
    parser = add_command(
        commands,
        "ask",
        run_ask,
        summary="answer questions about an image or a clip",
        example='updown ask dogs.jpg "how many dogs are there?" "what colour is the ball?" --draw look.png\n'
        '  updown ask clip.mp4 "what is the dog doing?" --frames 12 --draw look.png\n'
        '  updown ask sign.jpg "what does the sign say?" --read --model runs/reading_scenes/best',
    )
    parser.add_argument("image", metavar="IMAGE", help="an image or a clip: a file or a URL")
    parser.add_argument("questions", nargs="+", metavar="QUESTION", help="in quotes; several are answered one by one")
    parser.add_argument(
        "--model", metavar="DIR_OR_HUB_ID", help="a saved model (default: the trained question answerer)"
    )
    parser.add_argument(
        "--regions",
        metavar="DIR_OR_HUB_ID",
        help="a detector for a model that has none of its own: a converted UNITER, transformers' LXMERT or VisualBERT",
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE.json",
        help='what such a model answers, where its config does not say: ["yes", ...] or {"yes": 0, ...}',
    )
    parser.add_argument(
        "--top-k", type=positive, metavar="K", help="answers to each question (default: 5, or all choices)"
    )
    parser.add_argument(
        "--choices",
        nargs="+",
        metavar="A,B,C",
        help="rank these answers only; separated by commas, or each one per argument",
    )
    parser.add_argument(
        "--knowledge",
        type=Path,
        metavar="FACTS.txt",
        help="sentences, one a line (.jsonl: objects with text), of which the nearest stand beside each question",
    )
    parser.add_argument(
        "--knowledge-model",
        metavar="DIR_OR_HUB_ID",
        help="the retrieval model that finds them (default: the trained one)",
    )
    parser.add_argument(
        "--read", action="store_true", help="answer from the words that are written in the image, by a model that reads"
    )
    add_engine(parser)
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the attention; with several questions, into PICTURE_1.png and so on",
    )
    add_frames(parser)


def run_ask(arguments: argparse.Namespace) -> int:
    """Answer each question, and draw the attention with `--draw`."""
    from modeling_updown import draw_answer, draw_clip_answer
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    check_questions(arguments.questions)
    if arguments.read:
        return answer_by_reading(arguments)
    if arguments.engine is not None or arguments.words is not None:
        raise ValueError("--engine and --words are of the words in the image: give --read as well")
    if arguments.knowledge is None and arguments.knowledge_model is not None:
        raise ValueError("--knowledge-model finds sentences of --knowledge, which is not given: name the file as well")
    image, questions = load_media(arguments.image, sampling_of(arguments)), arguments.questions
    answerer = load_answerer(arguments.model, regions=arguments.regions, answers=arguments.answers)
    choices = None if arguments.choices is None else split_choices(arguments.choices)
    options = {"top_k": arguments.top_k, "choices": choices, "return_regions": bool(arguments.draw)}
    one = len(questions) == 1
    if arguments.knowledge is not None:
        found = answerer(rows_with_knowledge(arguments, image, answerer.model.config), **options)
    else:
        found = [answerer(image, questions[0], **options)] if one else answerer(image, questions, **options)
    for number, (question, answers) in enumerate(zip(questions, found, strict=True), start=1):
        print_answers(question, answers)
        if arguments.draw:
            picture = arguments.draw if one else arguments.draw.with_stem(f"{arguments.draw.stem}_{number}")
            draw = draw_clip_answer if is_clip(image) else draw_answer
            draw(image, answers, question=question, path=picture)
            say(f"  drawn: {picture}")
    return 0


def names_image(text: str) -> bool:
    """Whether words that should say something are the path or URL of an image, which a file name with blanks is too."""
    return is_image(text) and (not set(text) & set(string.whitespace) or os.path.isfile(text))


def check_questions(questions: Sequence[str]) -> None:
    """Raises `ValueError` if a question is an image."""
    for question in questions:
        if names_image(question):
            raise ValueError(
                f"{question} is an image, not a question, and questions are asked about one image: run the command "
                f"once for each image"
            )


def rows_with_knowledge(arguments: argparse.Namespace, image: Any, config: Any) -> list[dict[str, Any]]:
    """The questions as rows, each with the sentences of `--knowledge` that are nearest to it.

    As many as the model learnt with, by its config; where that names none, as many as recipes take.
    """
    from training.data.knowledge import Knowledge
    from training.search.knowledge import FactSearch

    model = model_folder(arguments.knowledge_model, default=TRAINED_RETRIEVAL)
    learnt = getattr(config, "knowledge_sentences", None)
    number = learnt or Knowledge.sentences
    if learnt == 0:
        say("the model learnt without sentences of knowledge: its answers may be worse beside them", file=sys.stderr)
    with quiet():
        facts = FactSearch(Knowledge(str(arguments.knowledge), model, number))
    beside = facts.nearest(arguments.questions)
    pairs = zip(arguments.questions, beside, strict=True)
    return [{"image": image, "question": question, "knowledge": sentences} for question, sentences in pairs]


def load_answerer(model: str | None, *, regions: str | None = None, answers: Path | None = None, **more: Any) -> Any:
    """The visual-question-answering pipeline of a model; raises `ValueError` for a model of another task.

    regions: a detector for a model without one; answers: a JSON file that names them, where the config does not; more:
    arguments of the pipeline.
    """
    folder = model_folder(model, default=TRAINED_VQA)
    if answers is not None:
        more["answers"] = read_answers(answers)
    with quiet():
        load = open_pipeline if is_given_regions(folder) else load_pipeline
    return load("visual-question-answering", folder, regions=regions, **more)


def is_given_regions(folder: str) -> bool:
    """Whether a folder or Hub id holds a model on regions of transformers' own, LXMERT or VisualBERT."""
    from transformers import AutoConfig

    from modeling_updown.pipeline_vqa import GIVEN_REGIONS

    try:
        return AutoConfig.from_pretrained(folder).model_type in GIVEN_REGIONS
    except (OSError, ValueError):  # what is wrong with it is said by `check_kind`
        return False


def read_answers(path: Path) -> list[str]:
    """The answers in the order of their numbers, from a JSON list or `{answer: number}`; raises `ValueError`."""
    from training.convert.vqa import words_from_0

    return words_from_0(read_json(path), option="--answers")


def split_choices(arguments: Sequence[str]) -> list[str]:
    """The answers to choose from: a single argument is split at its commas, several are one answer each.

    >>> split_choices(["red, blue,green"]), split_choices(["on the table, left", "under it"])
    (['red', 'blue', 'green'], ['on the table, left', 'under it'])
    """
    return [part.strip() for part in arguments[0].split(",")] if len(arguments) == 1 else list(arguments)


def print_answers(question: str, answers: Sequence[Mapping[str, Any]]) -> None:
    """Print the question, and one line per answer with its score (0..1)."""
    say(question)
    for answer in answers:
        say(f"  {answer['answer']:<28} {answer['score']:.3f}")
