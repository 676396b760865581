"""Score a saved model, or what something else wrote, with the official metrics: `updown evaluate RECIPE.yaml`.

An evaluation is three files: `evaluation.json` (figures, the command, seed, decoding; what the card shows),
`predictions.json` (captions in COCO's result layout, `[{"image_id", "caption"}]`, answers in VQA's, `[{"question_id",
"answer"}]`) and `item_scores.json` (what each image or question scored; what `updown compare` reads); `samples.json` is
there where several captions were drawn, `expressions.json` where people's boxes were described. Training's end
writes them beside the weights in its `best/`. `updown evaluate` writes them into the folder `--output`, and beside the
model that it scored only with `--save`.
"""

import logging
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset

from training.data.boxes.object_names import read_object_names
from training.data.files import read_json, write_json
from training.metrics.item_scores import write_item_scores
from training.recipe import read_recipe
from training.recipe_sections import Recipe, is_read
from training.tasks import TASKS, build_task
from training.tasks.spec import Scored, Task, TaskSpec

logger = logging.getLogger(__name__)
SAMPLES, EXPRESSIONS = "samples.json", "expressions.json"
WRITTEN_NOWHERE = "these figures are written nowhere: --output FOLDER keeps them, --save puts them beside the model"


def evaluate_recipe(
    recipe_path: str | Path,
    *,
    model: str | None = None,
    predictions: str | Path | None = None,
    split: str | None = None,
    num_beams: int | None = None,
    output: str | Path | None = None,
    changes: list[str] | None = None,
    java: bool = False,
    submission: str | Path | None = None,
    save: bool = False,
    objects: str | Path | None = None,
    num_samples: int | None = None,
) -> dict[str, Any]:
    """Score a recipe's best model, another model, or predictions of any origin, on a split of the recipe's data.

    Args:
        recipe_path: names the data, the split and the beams.
        model: a saved folder or Hub id; by default `best/` of the recipe's run.
        predictions: a file in COCO's result layout (captions) or VQA's (answers); no model is loaded then.
        split, num_beams: by default the recipe's `final_split` and `final_num_beams`.
        output: a file `.json` for what is returned, or a folder for it with the predictions and the scores of items.
        changes: to the recipe, such as `data.images=images`.
        java: SPICE as well; where Java is absent, `not_computed` says so.
        submission: a file for the answers, or captions, in the layout that the data set's organisers take.
        save: write the evaluation into the model's folder, in the place of the one there; a card shows it.
        objects: a COCO instances file with boxes of the split's images; what captions invent is scored too (CHAIR).
        num_samples: draw so many captions of each image, and score how they differ, and the best of them.

    Returns `evaluation.json`: `dataset`, `command` (which gives these figures again), `seed`, `decoding`, `metrics`
    (x100), `bad_endings_share`, `domains`, `not_computed` (name -> reason). Raises `ValueError` for what is unusable.
    """
    recipe = read_recipe(recipe_path, changes)
    split, beams = split or recipe.evaluate.final_split, beams_of(recipe, num_beams)
    boxes = read_objects(recipe, objects)
    check_samples(recipe, num_samples, predictions=predictions)
    options = {"--model": model, "--predictions": predictions, "--split": split, "--num-beams": num_beams}
    options |= {"--objects": objects, "--samples": num_samples}
    command = evaluate_command(recipe_path, options, changes=changes or [], java=java)
    if predictions is not None:
        if submission is not None or save:
            raise ValueError("--submission and --save are of a model: leave --predictions out")
        evaluation, scored = score_file(recipe, predictions, split=split, java=java, objects=boxes)
        evaluation["command"] = command
    else:
        folder = evaluated_folder(recipe, model, recipe_path=recipe_path, save=save)
        set_seed(recipe.seed)
        task = build_task(recipe, Accelerator())
        asked: dict[str, Any] = {"java": java, "submission": submission, "objects": boxes, "num_samples": num_samples}
        evaluation, scored = score_folder(task, folder, split=split, num_beams=beams, command=command, **asked)
        if not task.accelerator.is_main_process:
            return evaluation
        if save:
            write_evaluation(folder, evaluation, scored)
        elif output is None:
            logger.info(WRITTEN_NOWHERE)
    if output is not None:
        write_output(Path(output), evaluation, scored)
    return evaluation


def read_objects(recipe: Recipe, path: str | Path | None) -> dict[str, set[str]] | None:
    """Image id -> names of its boxes, of a COCO instances file; `ValueError` for a task that does not score by them."""
    if path is None:
        return None
    if not TASKS[recipe.task].scores_objects:
        able = ", ".join(name for name, other in TASKS.items() if other.scores_objects)
        raise ValueError(f"--objects is for a recipe of {able}, and this one is of the task {recipe.task}")
    return read_object_names(path)


def beams_of(recipe: Recipe, num_beams: int | None) -> int:
    """The number of beams that is asked for, or the recipe's; `ValueError` for one where none is used."""
    if num_beams is None:
        return recipe.evaluate.final_num_beams
    key, reads = "evaluate.final_num_beams", TASKS[recipe.task].keys_read(recipe.architecture)
    if not is_read(key, reads) or recipe.evaluate.answers == "rank":
        why = "ranks answers" if is_read(key, reads) else "writes nothing"
        raise ValueError(f"--num-beams is for what a model writes, and this recipe {why}: leave it out")
    return num_beams


def check_samples(recipe: Recipe, num_samples: int | None, *, predictions: str | Path | None) -> None:
    """`ValueError` where samples are asked for that cannot be drawn, or are too few to differ."""
    if num_samples is None:
        return
    if not TASKS[recipe.task].draws_samples:
        able = ", ".join(name for name, other in TASKS.items() if other.draws_samples)
        raise ValueError(f"--samples is for a recipe of {able}, and this one is of the task {recipe.task}")
    if predictions is not None:
        raise ValueError("--samples are drawn from a model: leave --predictions out")
    if num_samples < 2:
        raise ValueError(f"--samples is {num_samples}: draw at least 2 of each image, which can differ")


def write_output(path: Path, evaluation: dict[str, Any], scored: Scored) -> None:
    """Write an evaluation where `--output` says: the figures alone into a file `.json`, all of it into a folder."""
    if path.suffix == ".json":
        write_json(path, evaluation)
    else:
        write_evaluation(path, evaluation, scored)


def evaluated_folder(recipe: Recipe, model: str | None, *, recipe_path: str | Path, save: bool) -> Path:
    """The model's folder; `ValueError` where the recipe has not been trained, or where nothing can be saved."""
    folder = Path(model or Path(recipe.output) / "best")
    if model is None and not folder.is_dir():
        raise ValueError(f"{folder} is not there: train first (accelerate launch -m training.train {recipe_path})")
    if save and not folder.is_dir():
        raise ValueError(f"--save writes into the model's folder, and {folder} is none: name a folder here")
    return folder


def score_file(
    recipe: Recipe,
    predictions: str | Path,
    *,
    split: str,
    java: bool = False,
    objects: Mapping[str, Collection[str]] | None = None,
) -> tuple[dict[str, Any], Scored]:
    """Score a file of predictions of any origin on a split of the recipe's data, without any model or image.

    objects: image id -> names of its boxes, for a task that scores by them. Returns what `evaluation.json` holds, and
    the scores. Raises `ValueError` for a task without such files (see `TaskSpec.score_file`), and for a file that does
    not fit the split.
    """
    spec = TASKS[recipe.task]
    if spec.score_file is None:
        able = ", ".join(name for name, other in TASKS.items() if other.score_file)
        raise ValueError(f"--predictions is for a recipe of {able}, and this one is of the task {recipe.task}")
    boxes = {} if objects is None else {"objects": objects}
    scored, figures, rows = spec.score_file(recipe, predictions, split=split, **boxes)
    evaluation = {**dataset_facts(recipe, scored, split=split), "predictions": str(predictions), **figures}
    if spec.add_parsed:
        spec.add_parsed(evaluation, scored, rows)
    if java:
        check_java(spec)(evaluation, scored, rows)
    return evaluation, scored


def evaluate_folder(
    task: Task,
    folder: Path,
    *,
    split: str,
    num_beams: int,
    command: str = "",
) -> dict[str, Any]:
    """Score the folder's model and write the evaluation there, as training's end does."""
    evaluation, scored = score_folder(task, folder, split=split, num_beams=num_beams, command=command)
    if task.accelerator.is_main_process and folder.is_dir():
        write_evaluation(folder, evaluation, scored)
    return evaluation


def write_evaluation(folder: Path, evaluation: dict[str, Any], scored: Scored) -> None:
    """Write the files of an evaluation, of its parts in folders of their names; what the one before said of the
    model's training stays."""
    for name, part in scored.parts.items():
        write_evaluation(folder / name, evaluation["parts"][name], part)
    path = folder / "evaluation.json"
    before = read_json(path) if path.is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "predictions.json", scored.predictions)
    write_item_scores(folder, scored.items)
    for name, content in ((SAMPLES, scored.samples), (EXPRESSIONS, scored.expressions)):
        if content:
            write_json(folder / name, content)
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(path, evaluation | ({"training": before["training"]} if "training" in before else {}))


def score_folder(
    task: Task,
    folder: Path,
    *,
    split: str,
    num_beams: int,
    command: str = "",
    java: bool = False,
    submission: str | Path | None = None,
    objects: Mapping[str, Collection[str]] | None = None,
    num_samples: int | None = None,
) -> tuple[dict[str, Any], Scored]:
    """Load the folder's model in float32 and score it; returns what `evaluation.json` holds, and the scores."""
    spec = TASKS[task.recipe.task]
    add_java = check_java(spec) if java else None
    if submission and java:
        raise ValueError("--java compares with captions, which a submission is for want of: leave one of both out")
    if submission and (objects is not None or num_samples):
        raise ValueError("--objects and --samples are no part of a submission: leave them or --submission out")
    if submission and not spec.submits:
        raise ValueError(f"the task {spec.name} has nothing that is submitted: leave --submission out")
    if submission:
        task.check_submission(split)  # before hours of predictions
    model, _ = task.load(folder)
    model = model.to(task.accelerator.device)
    score = task.score_all if submission else task.score
    boxes = {} if objects is None else {"objects": objects}
    scored = score(model, split=split, num_beams=num_beams, **boxes)
    evaluation = said_of(task, scored, split=split, num_beams=num_beams, command=command)
    add_parsed = spec.add_parsed if evaluation["metrics"] else None  # nothing is scored where captions are hidden
    if add_parsed or add_java:
        rows = task.evaluation_rows(split)  # every process takes part
    if add_parsed and task.accelerator.is_main_process:
        add_parsed(evaluation, scored, rows)
    if add_java:
        add_java(evaluation, scored, rows)
    if num_samples:
        task.add_samples(evaluation, scored, model, split=split, num_samples=num_samples)
    if submission and task.accelerator.is_main_process:
        task.write_submission(scored, submission, split=split)
    return evaluation, scored


def said_of(task: Any, scored: Scored, *, split: str, num_beams: int, command: str) -> dict[str, Any]:
    """What `evaluation.json` says of scores, under `parts` of those of each part of a task that composes others."""
    parts = {
        name: said_of(task.parts[name].task, one, split=one.split, num_beams=num_beams, command=command)
        for name, one in scored.parts.items()
    }
    return {
        **dataset_facts(task.recipe, scored, split=split),
        "command": command,
        "seed": task.recipe.seed,
        **task.figures(scored, num_beams=num_beams),
        **({"parts": parts} if parts else {}),
    }


def check_java(spec: TaskSpec) -> Callable[[dict[str, Any], Scored, Dataset], None]:
    """What adds a task's figures that need Java; `ValueError` where it has none."""
    if spec.add_java is None:
        raise ValueError(f"the task {spec.name} has no metrics that need Java: leave --java out")
    return spec.add_java


def dataset_facts(recipe: Recipe, scored: Scored, *, split: str) -> dict[str, Any]:
    """What an evaluation says of its task and data, with the number of predictions."""
    spec, format = TASKS[recipe.task], recipe.data["format"]
    number = {f"num_{spec.counted}": len(scored.predictions)}
    number |= {f"num_{spec.counted}_{name}": value for name, value in scored.numbers.items()}
    return {
        "task": spec.hub_task,
        "dataset": {"name": recipe.data_name or format, "type": format, "split": split, **number},
    }


def evaluate_command(recipe_path: str | Path, options: dict[str, Any], *, changes: list[str], java: bool) -> str:
    """The command line that gives an evaluation again.

    >>> evaluate_command("mine.yaml", {"--split": "val", "--model": None}, changes=["seed=1"], java=True)
    'updown evaluate mine.yaml --split val --set seed=1 --java'
    """
    words = ["updown", "evaluate", str(recipe_path)]
    for name, value in options.items():
        words += [name, str(value)] if value is not None else []
    for change in changes:
        words += ["--set", change]
    return shlex.join([*words, *(["--java"] if java else [])])
