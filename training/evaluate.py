"""Score a saved model, or what something else wrote, with the official metrics: `updown evaluate RECIPE.yaml`.

An evaluation is three files: `evaluation.json` (figures, the command, seed, decoding; what the card shows),
`predictions.json` (captions in COCO's result layout, `[{"image_id", "caption"}]`, answers in VQA's, `[{"question_id",
"answer"}]`) and `item_scores.json` (what each image or question scored; what `updown compare` reads). Training's end
writes them into the model's folder, and so does `updown evaluate RECIPE.yaml` on the recipe's own run. Any other
evaluation writes them into the folder `--output` and leaves the model's card alone, but for `--update-card`.
"""

import logging
import math
import shlex
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset

from training.data.files import read_json, write_json
from training.metrics.item_scores import write_item_scores
from training.metrics.vqa.exact_match import align_predictions
from training.recipe import read_recipe
from training.recipe_sections import Recipe
from training.tasks import build_task, check_recipe
from training.tasks.captioning import CaptioningTask, caption_figures, scored_captions
from training.tasks.captions import caption_rows, captioned_rows
from training.tasks.interface import Scored, Task
from training.tasks.vqa import VqaTask, answer_figures, question_rows, submission_kind
from training.tasks.vqa_scores import question_items, question_scores, scored_format

logger = logging.getLogger(__name__)


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
    update_card: bool = False,
) -> dict[str, Any]:
    """Score a recipe's best model, another model, or predictions of any origin, on a split of the recipe's data.

    The recipe's own model on its final split replaces the figures in its folder; others do where `update_card` says so.

    Args:
        recipe_path: names the data, the split and the beams.
        model: a saved folder or Hub id; by default `best/` of the recipe's run.
        predictions: a file in COCO's result layout (captions) or VQA's (answers); no model is loaded then.
        split, num_beams: by default the recipe's `final_split` and `final_num_beams`.
        output: a file `.json` for what is returned, or a folder for it with the predictions and the scores of items.
        changes: to the recipe, such as `data.images=images`.
        java: METEOR and SPICE as well; where Java is absent, `not_computed` says so.
        submission: a file for the answers, or captions, in the layout that the data set's organisers take.
        update_card: write the evaluation into the model's folder, whatever stands there.

    Returns what `evaluation.json` holds: `dataset`, `command` (which gives these figures again), `seed`, `decoding`,
    `metrics` (x100), `bad_endings_share`, `domains` (nocaps), `not_computed` (name -> reason). Raises `ValueError` for
    a recipe, a model, data or predictions that cannot be used.
    """
    recipe = read_recipe(recipe_path, changes)
    check_recipe(recipe)
    split = split or recipe.evaluate.final_split
    options = {"--model": model, "--predictions": predictions, "--split": split, "--num-beams": num_beams}
    command = evaluate_command(recipe_path, options, changes=changes or [], java=java)
    if predictions is not None:
        if submission is not None or update_card:
            raise ValueError("--submission and --update-card are of a model: leave --predictions out")
        evaluation, scored = score_file(recipe, predictions, split=split, java=java, recipe_path=recipe_path)
        evaluation["command"] = command
    else:
        folder = evaluated_folder(recipe, model, recipe_path=recipe_path, update_card=update_card)
        set_seed(recipe.seed)
        task = build_task(recipe, Accelerator())
        beams = num_beams or recipe.evaluate.final_num_beams
        evaluation, scored = score_folder(
            task, folder, split=split, num_beams=beams, command=command, java=java, submission=submission
        )
        if not task.accelerator.is_main_process:
            return evaluation
        as_trained = options == {**dict.fromkeys(options), "--split": recipe.evaluate.final_split} and not changes
        if update_card or (as_trained and evaluation["metrics"]):
            write_evaluation(folder, evaluation, scored)
        elif folder.is_dir():
            logger.info("the figures in %s stay as they are; --update-card writes these there", folder)
    if output is not None:
        write_output(Path(output), evaluation, scored)
    return evaluation


def write_output(path: Path, evaluation: dict[str, Any], scored: Scored) -> None:
    """Write an evaluation where `--output` says: the figures alone into a file `.json`, all of it into a folder."""
    if path.suffix == ".json":
        write_json(path, evaluation)
    else:
        write_evaluation(path, evaluation, scored)


def evaluated_folder(recipe: Recipe, model: str | None, *, recipe_path: str | Path, update_card: bool) -> Path:
    """The model's folder; `ValueError` where the recipe has not been trained, or where a card is to change that is not
    here.
    """
    folder = Path(model or Path(recipe.output) / "best")
    if model is None and not folder.is_dir():
        raise ValueError(f"{folder} is not there: train first (accelerate launch -m training.train {recipe_path})")
    if update_card and not folder.is_dir():
        raise ValueError(f"--update-card writes into the model's folder, and {folder} is none: name a folder here")
    return folder


def score_file(
    recipe: Recipe, predictions: str | Path, *, split: str, java: bool, recipe_path: str | Path
) -> tuple[dict[str, Any], Scored]:
    """Score a file of captions or answers on a split of the recipe's data; `ValueError` for another task's recipe."""
    if recipe.task == "vqa":
        return scored_answers(
            recipe.data, predictions, split=split, name=recipe.data_name, targets=recipe.answers.scores
        )
    if recipe.task != "captioning":
        raise ValueError(f"--predictions takes captions or answers, and {recipe_path} is of the task {recipe.task}")
    return scored_predictions(recipe.data, predictions, split=split, name=recipe.data_name, java=java)


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
    """Write the three files of an evaluation; what the one before said of the model's training stays."""
    path = folder / "evaluation.json"
    before = read_json(path) if path.is_file() else {}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "predictions.json", scored.predictions)
    write_item_scores(folder, scored.items)
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
) -> tuple[dict[str, Any], Scored]:
    """Load the folder's model in float32 and score it; returns what `evaluation.json` holds, and the scores."""
    if java and not isinstance(task, CaptioningTask):
        raise ValueError("METEOR and SPICE are metrics of captions: leave --java out")
    if submission and not isinstance(task, VqaTask | CaptioningTask):
        raise ValueError("captions and answers are submitted, and this recipe gives none: leave --submission out")
    if submission and java:
        raise ValueError("--java compares with captions, which a submission is for want of: leave one of both out")
    if submission and isinstance(task, VqaTask):
        submission_kind(task.recipe.data, split)  # before hours of answering
    model, _ = task.load(folder)
    model = model.to(task.accelerator.device)
    if submission and isinstance(task, CaptioningTask):
        scored = task.caption_all(model, split=split, num_beams=num_beams)
    else:
        scored = task.score(model, split=split, num_beams=num_beams)
    evaluation = {
        "task": task.hub_task,
        "dataset": dataset_facts(
            task.recipe.data,
            name=task.recipe.data_name,
            split=split,
            counted=task.counted,
            number=len(scored.predictions),
        ),
        "command": command,
        "seed": task.recipe.seed,
        **task.figures(scored, num_beams=num_beams),
    }
    if java and isinstance(task, CaptioningTask):
        rows = task.evaluation_rows(split)
        add_java_scores(evaluation, [row["caption"] for row in scored.predictions], rows)
    if submission and task.accelerator.is_main_process:
        if isinstance(task, VqaTask):
            task.write_submission(scored, submission, split=split)
        elif isinstance(task, CaptioningTask):
            task.write_submission(scored, submission)
    return evaluation, scored


def score_predictions(
    data: dict[str, Any], predictions: str | Path, *, split: str, name: str = "", java: bool = False
) -> dict[str, Any]:
    """Score a file in COCO's result layout against the captions of a data set, without any model or image.

    Args:
        data: a recipe's `data` section: `format` and the options of that format.
        predictions: `[{"image_id": 42, "caption": "a dog"}, ...]`, one entry for each image of the split that has
            captions; ids may be numbers or strings.
        split: the images to score.
        name: the data set's, as a card shows it.
        java: METEOR and SPICE as well.

    Raises:
        ValueError: naming ids that are missing, unknown or given twice, and for a file of another layout.
    """
    return scored_predictions(data, predictions, split=split, name=name, java=java)[0]


def scored_predictions(
    data: dict[str, Any], predictions: str | Path, *, split: str, name: str = "", java: bool = False
) -> tuple[dict[str, Any], Scored]:
    """As `score_predictions`, with the scores behind it."""
    without_images = {"images": None} if "images" in data else {}
    rows = captioned_rows(caption_rows({**data, **without_images}, split=split), split=split)
    captions = captions_of(read_predictions(predictions), rows["image_id"][:], source=predictions)
    scored = scored_captions(captions, rows)
    evaluation = {
        "task": "image-to-text",
        "dataset": dataset_facts(data, name=name, split=split, counted="photos", number=len(rows)),
        "predictions": str(predictions),
        **caption_figures(scored.metrics, scored.domains),
    }
    if java:
        add_java_scores(evaluation, captions, rows)
    return evaluation, scored


def score_answers(data: dict[str, Any], predictions: str | Path, *, split: str, name: str = "") -> dict[str, Any]:
    """Score a file of answers in VQA's, GQA's or A-OKVQA's result layout, without any model or image.

    Args:
        data: a recipe's `data` section.
        predictions: `[{"question_id": 42, "answer": "two"}, ...]`, or with `questionId` and `prediction`; beside it
            the `choice` where there are choices, as `predictions.json` has it. A question without an entry counts as
            wrong, an unknown one is ignored; one warning lists both.
        split, name: as for `score_predictions`.

    Raises:
        ValueError: for a file of another layout, or whose questions are none of the split's.
    """
    return scored_answers(data, predictions, split=split, name=name)[0]


def scored_answers(
    data: dict[str, Any], predictions: str | Path, *, split: str, name: str = "", targets: str = ""
) -> tuple[dict[str, Any], Scored]:
    """As `score_answers`, with the scores behind it; `targets` is a recipe's `answers.scores`."""
    rows = question_rows(data, split=split, images=False)
    ids = rows["question_id"][:]
    said, choice_of = read_predicted_answers(predictions)
    try:
        aligned = align_predictions(said, ids)
    except ValueError as error:
        raise ValueError(f"{predictions}: {error}") from error
    strange = next((i for i, text in zip(ids, aligned.predictions, strict=True) if not isinstance(text, str)), None)
    if strange is not None:
        raise ValueError(f"{predictions}: the answer to question {strange} is no text; write it in quotation marks")
    if aligned.problems():
        warnings.warn(aligned.problems(), stacklevel=2)
    choices = [choice_of.get(question_id, "") for question_id in ids] if choice_of else []
    answers, format = list(aligned.predictions), scored_format(data, split)
    metrics, domains, not_computed = question_scores(answers, rows, format=format, choices=choices, targets=targets)
    said_of = [{"question_id": name, "answer": answer} for name, answer in zip(ids, answers, strict=True)]
    scored = Scored(metrics, said_of, domains, question_items(answers, rows, choices=choices, metrics=metrics))
    evaluation = {
        "task": "visual-question-answering",
        "dataset": dataset_facts(data, name=name, split=split, counted="questions", number=len(rows)),
        "predictions": str(predictions),
        **answer_figures(metrics, domains, not_computed),
    }
    return evaluation, scored


def read_predicted_answers(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """What `align_predictions` takes of a file of answers, and question id -> choice where it has some.

    Raises `ValueError` for a file that is neither a list nor A-OKVQA's mapping of question ids.
    """
    content = read_json(path)
    if isinstance(content, dict):  # question id -> answer, or {"direct_answer", "multiple_choice"}
        both = {name: entry if isinstance(entry, dict) else {"direct_answer": entry} for name, entry in content.items()}
        choices = {name: entry["multiple_choice"] for name, entry in both.items() if "multiple_choice" in entry}
        return {name: entry.get("direct_answer", "") for name, entry in both.items()}, choices
    if not isinstance(content, list):
        raise ValueError(f'{path} is no list of answers: write [{{"question_id": 42, "answer": "two"}}, ...]')
    chosen = [entry for entry in content if isinstance(entry, dict) and "choice" in entry and "question_id" in entry]
    return content, {str(entry["question_id"]): entry["choice"] for entry in chosen}


def read_predictions(path: str | Path) -> list[tuple[str, str]]:
    """(image_id, caption) of every entry of a file in COCO's result layout; `ValueError` for another layout."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise ValueError(f'{path} is no list of predictions: write [{{"image_id": 42, "caption": "a dog"}}, ...]')
    for number, entry in enumerate(content):
        fine = isinstance(entry, dict) and isinstance(entry.get("caption"), str)
        if not fine or not isinstance(entry.get("image_id"), str | int):
            raise ValueError(f"{path}: entry {number} lacks an image_id or a caption: {str(entry)[:120]}")
    return [(str(entry["image_id"]), entry["caption"]) for entry in content]


def captions_of(predictions: Sequence[tuple[str, str]], image_ids: Sequence[str], *, source: Any) -> list[str]:
    """The predictions in the order of the ids; `ValueError` listing ids that are missing, unknown or there twice.

    >>> captions_of([("7", "a cat"), ("3", "a dog")], ["3", "7"], source="captions.json")
    ['a dog', 'a cat']
    """
    caption_of, times = dict(predictions), Counter(image_id for image_id, _ in predictions)
    faults = {
        "caption given twice": [image_id for image_id, count in times.items() if count > 1],
        "caption missing": [image_id for image_id in image_ids if image_id not in times],
        "image unknown": sorted(set(times) - set(image_ids)),
    }
    told = [f"{len(ids)} x {fault}: {', '.join(ids[:5])}" for fault, ids in faults.items() if ids]
    if told:
        raise ValueError(f"the images of {source} are not those of the split ({'; '.join(told)})")
    return [caption_of[image_id] for image_id in image_ids]


def dataset_facts(data: dict[str, Any], *, name: str, split: str, counted: str, number: int) -> dict[str, Any]:
    """What an evaluation says of its data, with the number of what was `counted`, images or questions."""
    return {"name": name or data["format"], "type": data["format"], "split": split, f"num_{counted}": number}


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


def add_java_scores(evaluation: dict[str, Any], captions: list[str], rows: Dataset) -> None:
    """METEOR and SPICE into an evaluation, or why they could not be computed."""
    from training.metrics.captioning.java import all_caption_scores

    scores = all_caption_scores(captions, rows["captions"][:])
    scaled = {name: value for name, value in scores.items() if name.endswith("_x100")}
    evaluation["metrics"] |= {name: value for name, value in scaled.items() if not math.isnan(value)}
    evaluation["not_computed"] = scores["not_computed"]
