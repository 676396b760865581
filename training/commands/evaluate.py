"""`updown evaluate`: a recipe's figures for a model, or for captions or answers that something else wrote."""

import argparse
from collections.abc import Mapping
from typing import Any

from training.commands.shared import add_command
from training.console import positive, say


def add_evaluate(commands: Any) -> None:
    """`updown evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        run_evaluate,
        summary="score a model, or captions that something else wrote, as a recipe says",
        example="updown evaluate captioning/flickr8k --split val",
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", help="names the data and the metrics: a YAML file, or one that comes along"
    )
    parser.add_argument("--model", metavar="DIR", help="the model to score (default: the best one of the recipe's run)")
    parser.add_argument("--predictions", metavar="FILE.json", help="score these captions or answers and no model")
    parser.add_argument("--submission", metavar="FILE.json", help="write what is said as the organisers take it")
    parser.add_argument("--split", help="the part of the data (default: the recipe's final split)")
    parser.add_argument("--num-beams", type=positive, metavar="K", help="default: the recipe's final_num_beams")
    parser.add_argument("--java", action="store_true", help="the official SPICE too, which needs Java")
    parser.add_argument(
        "--objects",
        metavar="FILE.json",
        help="COCO instances with boxes of the images: also score which objects captions invent (CHAIR)",
    )
    parser.add_argument(
        "--samples",
        type=positive,
        metavar="N",
        help="also draw N captions an image, and score how they differ (distinct n-grams, mBLEU, self-CIDEr) and the "
        "CIDEr of the best",
    )
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument(
        "--output",
        metavar="FILE.json|FOLDER",
        help="write the figures to a file, or to a folder with what each image or question scored (updown compare)",
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="write the figures beside the model's weights, where its card takes them from",
    )
    parser.add_argument("--update-card", dest="save", action="store_true", help=argparse.SUPPRESS)  # its name before


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score, and print the figures."""
    from training.evaluate import evaluate_recipe

    evaluation = evaluate_recipe(
        arguments.recipe,
        model=arguments.model,
        predictions=arguments.predictions,
        split=arguments.split,
        num_beams=arguments.num_beams,
        output=arguments.output,
        changes=arguments.set,
        java=arguments.java,
        submission=arguments.submission,
        save=arguments.save,
        objects=arguments.objects,
        num_samples=arguments.samples,
    )
    print_figures(evaluation)
    return 0


def print_figures(evaluation: Mapping[str, Any]) -> None:
    """Each figure on a line, and what was not computed with its reason."""
    dataset = evaluation["dataset"]
    numbers = [
        f"{value} {name.removeprefix('num_').replace('photos', 'images').replace('_', ' ')}"
        for name, value in dataset.items()
        if name.startswith("num_")
    ]
    say(f"{dataset['name']} {dataset['split']}, {', '.join(numbers)}")
    width = max([16, *map(len, evaluation["metrics"])])
    for name, value in evaluation["metrics"].items():
        say(f"  {name:<{width}} {value:8.2f}")
    for name, values in evaluation.get("domains", {}).items():
        for number in ("questions", "statements"):
            if number in values:
                say(f"    {name:<30} {values['accuracy_x100']:8.2f} of {values[number]} {number}")
    for name, reason in evaluation.get("not_computed", {}).items():
        say(f"  {name:<{width}} not computed: {reason}")
