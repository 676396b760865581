"""Whether the detector can learn at all: eight real images by heart, AP50 above 0.9, from ImageNet weights.

    python -m tests.benchmarks.detector_overfit [IMAGES_FOLDER INSTANCES.json BACKBONE.safetensors]

By default the images of ../shared/data/coco_subset with the most boxes of a readable size. Prints AP50 every 50 steps
and stops above 0.9, or after 600 steps with exit code 1.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from training.recipe import read_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TrainRecipe
from training.tasks.detection import DetectionTask

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "detector_lite.yaml"
IMAGES, STEPS, EVERY, ENOUGH, SIDE, RATE = 8, 600, 50, 0.9, 256, 5e-4
LARGE_BOX = 0.02  # of the image's area


def overfit_recipe(annotations: str, images: str, weights: str) -> Recipe:
    """The light detector's recipe on one file of boxes, without chance in what is shown."""
    lite = read_recipe(RECIPE)
    data = {"format": "coco", "annotations": annotations, "images": images, "labelled_by": "box_source"}
    regions = RegionsRecipe(weights=weights, processor={"size": {"height": SIDE, "width": SIDE}})
    return Recipe(
        task="detection",
        output="unused",
        data=data,
        regions=regions,
        model={**lite.model, "frozen_stages": 4},
        train=TrainRecipe(split="train+val", batch_size=IMAGES),
        evaluate=EvaluateRecipe(split="train", final_split="val", metric="map_50", batch_size=IMAGES),
    )


def chosen_images(task: DetectionTask) -> list[int]:
    """The images with the most objects, all of which are large enough to be seen."""
    suitable = []
    for number, row in enumerate(task.train_rows.remove_columns(["image"])):
        boxes = np.asarray(row["boxes"]).reshape(-1, 4)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        if len(boxes) and (areas > LARGE_BOX).all() and not any(row["crowd"]):
            suitable.append((len(boxes), -number))
    return [-number for _, number in sorted(suitable, reverse=True)[:IMAGES]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="?", default=str(SHARED / "data/coco_subset/images"))
    parser.add_argument("annotations", nargs="?", default=str(SHARED / "data/coco_subset/instances.json"))
    parser.add_argument("weights", nargs="?", default=str(SHARED / "weights/timm_tf_efficientnet_lite0.safetensors"))
    arguments = parser.parse_args()
    if not Path(arguments.annotations).is_file():
        sys.exit(f"there is no {arguments.annotations}: name an image folder, its COCO instances and backbone weights")
    torch.manual_seed(0)
    recipe = overfit_recipe(arguments.annotations, arguments.images, arguments.weights)
    task = DetectionTask(recipe, Accelerator(cpu=True))
    task.prepare()
    images = chosen_images(task)
    rows = task.train_rows.select(images)
    truth = rows.remove_columns(["image"])
    task.evaluated["chosen"] = rows, truth
    boxes = sum(len(part) for part in truth["boxes"])
    print(f"{len(images)} images, {boxes} boxes, {torch.get_num_threads()} threads")
    optimizer = torch.optim.AdamW([p for p in task.model.parameters() if p.requires_grad], lr=RATE)
    start = time.perf_counter()
    for step in range(1, STEPS + 1):
        task.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, count, _ = task.loss(task.model, task.inputs(np.array(images), epoch=step))
        (loss / count).backward()
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % EVERY == 0:
            score = task.score(task.model, split="chosen").metrics["map_50"]
            seconds = time.perf_counter() - start
            print(
                f"step {step}: loss {float(loss.detach()) / int(count):.3f}, AP50 {score:.3f}, {seconds:.0f} s",
                flush=True,
            )
            if score > ENOUGH:
                return
    sys.exit(f"AP50 stayed below {ENOUGH}")


if __name__ == "__main__":
    main()
