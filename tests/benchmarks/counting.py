"""Counting on drawn scenes: a detector's regions against the cells of a grid, the paper's claim in small.

    python -m tests.benchmarks.counting [--scenes 3000] [--epochs 12] [--weights BACKBONE.safetensors]

Trains the detector of `detector_scenes.yaml`, then the same question answerer on its regions and on the 6 x 6 cells of
the same frozen backbone, each with and without counting-aware attention, by the recipes `vqa_scenes_regions.yaml` and
`vqa_scenes_grid.yaml`. Prints the accuracy on the test scenes of all questions and of each kind. Runs that are there
already (in `--output`) are not trained again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from training.recipe import read_recipe
from training.train import train

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "training" / "recipes"
WEIGHTS = ROOT.parent / "shared" / "weights" / "timm_tf_efficientnet_lite0.safetensors"
COUNTED = 10  # objects at most, as Zhang et al. 2018 have it


def run(recipe: str, output: Path, **changes: Any) -> dict[str, Any]:
    """Train a recipe into a folder, unless it was; its `evaluation.json`."""
    listed = [f"{key}={json.dumps(value)}" for key, value in {"output": str(output), **changes}.items()]
    if not (output / "best" / "evaluation.json").is_file():
        train(read_recipe(RECIPES / f"{recipe}.yaml", listed), cpu=True)
    return json.loads((output / "best" / "evaluation.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=3000, help="to train on")
    parser.add_argument("--epochs", type=int, default=12, help="of the question answerers")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="of efficientnet-lite0; without it, timm's")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "counting", help="for the runs")
    arguments = parser.parse_args()
    weights = {"regions.weights": str(arguments.weights)} if arguments.weights.is_file() else {}
    detector = arguments.output / "detector"
    found = run("detector_scenes", detector, **weights)["metrics"]
    print(f"detector: AP50 {found['map_50_x100']:.1f}")
    sources: dict[str, tuple[str, dict[str, Any]]] = {
        "grid": ("vqa_scenes_grid", weights),
        "regions": ("vqa_scenes_regions", {"regions.pretrained": str(detector / "best")}),
    }
    rows: dict[str, dict[str, float]] = {}
    for name, (recipe, changes) in sources.items():
        for counted in (0, COUNTED):
            title = f"{name}, counting" if counted else name
            evaluation = run(
                recipe,
                arguments.output / title.replace(", ", "_"),
                **{"regions.store": str(arguments.output / f"store_{name}"), "model.counted_objects": counted},
                **{"train.epochs": arguments.epochs, "data.num_scenes.train": arguments.scenes},
                **changes,
            )
            kinds = {kind: values["accuracy_x100"] for kind, values in evaluation["domains"].items()}
            rows[title] = {"all": evaluation["metrics"]["accuracy_x100"], **kinds}
    print_table(rows)


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """A line for each kind of question, a column for each model."""
    width = max(map(len, next(iter(rows.values()))))
    print(f"{'accuracy x100':<{width}}", *(f"{title:>18}" for title in rows))
    for kind in next(iter(rows.values())):
        print(f"{kind:<{width}}", *(f"{values.get(kind, float('nan')):18.1f}" for values in rows.values()))


if __name__ == "__main__":
    main()
