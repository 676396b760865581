"""Score a saved model, or a file of captions, with the official metrics: `updown evaluate RECIPE.yaml`.

Writes `evaluation.json` (figures, the command, seed, decoding; what the card shows) and `predictions.json` (COCO's
result layout) into the model's folder.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed

from training.data.captioning import load_captions
from training.metrics.caption import caption_scores
from training.recipe import read_recipe
from training.tasks.captioning import CaptioningTask

TASKS = {"captioning": CaptioningTask}


def evaluate_recipe(
    recipe_path: str | Path,
    *,
    model: str | None = None,
    split: str | None = None,
    num_beams: int | None = None,
    changes: list[str] | None = None,
) -> dict[str, Any]:
    """Score a recipe's best model (or the folder `model`) on its final split; returns what `evaluation.json` holds."""
    recipe = read_recipe(recipe_path, changes)
    folder = Path(model or Path(recipe.output) / "best")
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there: train first (accelerate launch -m training.train {recipe_path})")
    recipe.init_from = str(folder)
    set_seed(recipe.seed)
    task = TASKS[recipe.task](recipe, Accelerator())
    settings = recipe.evaluate
    return evaluate_folder(
        task, folder, split=split or settings.final_split, num_beams=num_beams or settings.final_num_beams
    )


def evaluate_folder(task: CaptioningTask, folder: Path, *, split: str, num_beams: int) -> dict[str, Any]:
    """Load the folder's model, score it, write `evaluation.json` and `predictions.json` there."""
    model, _ = task.load(folder)
    scored = task.score(model.to(task.accelerator.device), split=split, num_beams=num_beams)
    recipe = task.recipe
    evaluation = {
        "task": "image-to-text",
        "dataset": {
            "name": recipe.data_name or recipe.data["format"],
            "type": recipe.data["format"],
            "split": split,
            "num_photos": len(scored.predictions),
        },
        "command": shlex.join(["python", "-m", "training.train", *sys.argv[1:]]),
        "seed": recipe.seed,
        "decoding": {"num_beams": num_beams},
        "metrics": {name: value for name, value in scored.metrics.items() if name.endswith("_x100")},
        "domains": scored.domains,
        "not_computed": {},
    }
    if task.accelerator.is_main_process:
        (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1) + "\n")
        (folder / "predictions.json").write_text(json.dumps(scored.predictions, indent=0) + "\n")
    return evaluation
