"""`updown build-answers`: a recipe's questions -> the answer vocabulary of a model."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.commands.shared import add_command
from training.console import positive, say

NUM_SHOWN = 10


def add_build_answers(commands: Any) -> None:
    """`updown build-answers`."""
    parser = add_command(
        commands,
        "build-answers",
        run_build_answers,
        summary="list the most common answers of a recipe's questions, and print how many questions they cover",
        example="updown build-answers vqa/v2 --split train+val --min-count 9 --output answers.json",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="names the data: a YAML file, or one that comes along")
    parser.add_argument("--output", type=json_path, required=True, metavar="FILE.json", help="the list to write")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument(
        "--min-count", type=positive, metavar="N", help="keep answers seen at least N times; 9 gives VQA v2's 3,129"
    )
    limit.add_argument("--top", type=positive, metavar="N", help="keep the N most common answers")
    parser.add_argument(
        "--split", help="the questions to count, such as train+val (default: those that the recipe trains on)"
    )
    parser.add_argument(
        "--as-written",
        action="store_true",
        help="keep each answer's most common spelling, not the normalised one: for GQA and DAQUAR (exact match)",
    )
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a value of the recipe")


def json_path(text: str) -> Path:
    """The type of `--output`: a path that ends in .json."""
    if Path(text).suffix.lower() != ".json":
        raise argparse.ArgumentTypeError(f"{text!r} is not a FILE.json")
    return Path(text)


def run_build_answers(arguments: argparse.Namespace) -> int:
    """Count the answers, write the list, and print its coverage."""
    from training.data.knowledge import question_data
    from training.data.questions.answer_vocabulary import build_answers, write_answers
    from training.metrics.vqa.soft_targets import answer_coverage
    from training.recipe import read_recipe
    from training.tasks import TASKS
    from training.tasks.vqa import question_rows
    from training.tasks.vqa_recipe import VqaRecipe

    recipe = read_recipe(arguments.recipe, arguments.set)
    if not isinstance(recipe, VqaRecipe):
        able = " or ".join(name for name, spec in TASKS.items() if issubclass(spec.recipe, VqaRecipe))
        raise ValueError(f"{arguments.recipe} is of the task {recipe.task}, which has no answers; take one of {able}")
    split = arguments.split or recipe.train.split
    rows = question_rows(question_data(recipe.data), split=split, images=False)
    vocabulary = build_answers(
        rows,
        min_count=arguments.min_count,
        top=arguments.top,
        spelling="as_written" if arguments.as_written else "normalized",
    )
    coverage = answer_coverage(rows, vocabulary)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_answers(arguments.output, vocabulary)
    say(f"{arguments.output}: {len(vocabulary):,} answers, each seen at least {min(vocabulary.counts):,} times")
    hidden = len(rows) - coverage["all"].num_questions
    say(f"from the {len(rows):,} questions of {split}" + (f", {hidden:,} of them without any answer" * bool(hidden)))
    print_coverage(coverage)
    print_commonest(vocabulary)
    return 0


def print_coverage(coverage: Mapping[str, Any]) -> None:
    """One line for all questions and one for each type of answer."""
    width = max(map(len, coverage))
    say(f"  {'':<{width}}  questions  answer listed  any human answer listed  highest accuracy")
    for name, reached in coverage.items():
        say(
            f"  {name:<{width}}{reached.num_questions:>11,}{reached.answer_known:>15.1%}{reached.any_known:>25.1%}"
            f"{reached.best_score:>18.1%}"
        )


def print_commonest(vocabulary: Any) -> None:
    """The most and least common answers, with their counts."""
    pairs = zip(vocabulary.answers, vocabulary.counts, strict=True)
    shown = [f"{answer or 'nothing'} ({count:,})" for answer, count in pairs]
    say(f"commonest: {'; '.join(shown[:NUM_SHOWN])}")
    if len(shown) > NUM_SHOWN:
        say(f"rarest: {'; '.join(shown[NUM_SHOWN:][-NUM_SHOWN:])}")
