"""Adding a task as training/README.md says: a counting model with data format, metric, recipe and card is put into a
copy of the product, and trained, scored and published there. Three files that were there before change, a line or two
each; all else is new files, those of tests/training/trial_task."""

import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import fresh_python
from training.scenes.draw import draw_scene

ROOT = Path(__file__).resolve().parents[2]
TRIAL = Path(__file__).with_name("trial_task")
PRODUCT = ("modeling_updown", "processors", "training")
HEAD = (
    'Head("UpDownForImageCounting", "modeling_counting", FUSION, COUNTS, "UpDownCountingOutput", "modeling_counting"),'
)
# file -> a text there, and what takes its place
EDITS = {
    "modeling_updown/heads_updown.py": (
        ("\nHEADS = (", '\nCOUNTS = AutoClass("AutoModelForImageClassification", "image-classification")\n\nHEADS = ('),
        ("\n)\n\nPIPELINE_TYPE", f"\n    {HEAD}\n)\n\nPIPELINE_TYPE"),
    ),
    "modeling_updown/__init__.py": (
        (
            "    from .modeling_detector",
            "    from .modeling_counting import UpDownCountingOutput, UpDownForImageCounting\n"
            "    from .modeling_detector",
        ),
    ),
    "training/tasks/__init__.py": (
        ("    captioning,\n", "    captioning,\n    counting,\n"),
        ("(captioning.SPEC, ", "(captioning.SPEC, counting.SPEC, "),
    ),
}
MOST_FILES_CHANGED = 4
SPLITS = {"train": 24, "val": 8, "test": 10}
COMMANDS = (
    "train counting/scenes --set train.max_steps=6 --set train.batch_size=8",
    "evaluate counting/scenes --split val --output measured",
    "push runs/counting_scenes/best your-name/counter --dry-run --output published",
)
LIMITS = "It counts what was counted in its training images, up to the largest count there"

# each line is a command line of `updown`; the exit codes are printed last
RUN_COMMANDS = """
import json, sys
from pathlib import Path
from training.cli import main
codes = [main(line.split()) for line in json.loads(sys.argv[1])]
import modeling_updown, transformers
model = transformers.AutoModelForImageClassification.from_pretrained("runs/counting_scenes/best")
at_door = modeling_updown.UpDownForImageCounting is type(model)
facts = {"at_door": at_door, "from": modeling_updown.__file__, "labels": model.config.id2label}
print(json.dumps({"codes": codes, **facts}))
"""


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product with the trial task in it."""
    copy = tmp_path_factory.mktemp("product")
    for folder in PRODUCT:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "demo_photos"))
    (copy / "hub_cards").mkdir()
    for name in ("hub_cards/card_template.md", "setup.py"):
        shutil.copyfile(ROOT / name, copy / name)
    for path in TRIAL.rglob("*"):
        target = copy / path.relative_to(TRIAL)
        if path.is_file() and "__pycache__" not in path.parts:
            assert not target.exists(), "a file of the trial task takes the place of one of the product"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for name, edits in EDITS.items():
        text = (copy / name).read_text(encoding="utf-8")
        for before, after in edits:
            assert text.count(before) == 1, f"{name} has changed: {before!r} stands there {text.count(before)} times"
            text = text.replace(before, after)
        (copy / name).write_text(text, encoding="utf-8")
    write_scenes(copy / "data" / "scene_counts")
    return copy


def write_scenes(folder: Path) -> None:
    """Drawn scenes and `counts.jsonl`."""
    folder.mkdir(parents=True)
    rows = []
    for seed, (split, number) in enumerate(SPLITS.items()):
        for index in range(number):
            image, scene = draw_scene(index, seed=seed, image_size=64)
            image.save(folder / f"{split}-{index}.png")
            rows.append({"image": f"{split}-{index}.png", "count": len(scene.objects), "split": split})
    (folder / "counts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run_commands(product: Path, *lines: str) -> tuple[dict[str, Any], str]:
    """Runs `updown` command lines in the copy; returns what `RUN_COMMANDS` prints last, and all that was said."""
    environment = {**os.environ, "PYTHONPATH": str(product), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN_COMMANDS, json.dumps(lines)]
    ran = fresh_python.run(command, cwd=product, env=environment)
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return json.loads(ran.stdout.strip().splitlines()[-1]), said


def changed_files(product: Path) -> list[str]:
    """The product's files that the copy holds with another content, as `git diff --stat` lists them."""
    names = [path.relative_to(product) for path in product.rglob("*") if path.is_file() and "runs" not in path.parts]
    held = [name for name in names if (ROOT / name).is_file() and "__pycache__" not in name.parts]
    return sorted(str(name) for name in held if (product / name).read_bytes() != (ROOT / name).read_bytes())


def test_a_new_task_takes_new_files_and_a_few_lines(product: Path) -> None:
    found, said = run_commands(product, *COMMANDS, "train counting/scenes --set counts.msot=7")
    assert found["codes"] == [0, 0, 0, 2], said
    assert "unknown key 'msot' in counts; did you mean 'most'?" in " ".join(said.split())
    assert found["at_door"] and Path(found["from"]).is_relative_to(product)
    assert found["labels"] == {str(count): str(count) for count in range(6)}
    check_figures(product / "measured", product / "data" / "scene_counts" / "counts.jsonl")
    card = (product / "published" / "README.md").read_text(encoding="utf-8")
    assert "| mean absolute error of counts |" in card and "| counts that are right (x100) |" in card
    assert LIMITS in card and "| Counts | 0 to 5 |" in card and 'pipeline("image-classification"' in card
    changed = changed_files(product)
    print(f"{len(changed)} files of the product change: {', '.join(changed)}")
    assert changed == sorted(EDITS) and len(changed) <= MOST_FILES_CHANGED
    packages = runpy.run_path(str(product / "setup.py"))["PACKAGES"]
    assert {"training.data.counts", "training.metrics.counting"} <= {*packages}


def added_lines(before: str, after: str) -> list[str]:
    """The lines that an edit adds."""
    return [line.strip() for line in after.splitlines() if line.strip() and line not in before.splitlines()]


def check_figures(measured: Path, table: Path) -> None:
    """The figures of an evaluation are those of its predictions, computed anew."""
    true = {row["image"]: row["count"] for row in map(json.loads, table.read_text(encoding="utf-8").splitlines())}
    evaluation = json.loads((measured / "evaluation.json").read_text(encoding="utf-8"))
    predictions = json.loads((measured / "predictions.json").read_text(encoding="utf-8"))
    assert len(predictions) == SPLITS["val"] == evaluation["dataset"]["num_photos"]
    errors = [abs(found["count"] - true[found["image_id"]]) for found in predictions]
    right = [round(found["count"]) == true[found["image_id"]] for found in predictions]
    assert evaluation["metrics"] == {
        "count_error": pytest.approx(sum(errors) / len(errors), abs=1e-6),
        "count_accuracy_x100": pytest.approx(100 * sum(right) / len(right)),
    }
    assert 0 < evaluation["metrics"]["count_error"] < 5


def test_the_readme_names_the_trial_task_as_it_is() -> None:
    text = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    files = {str(path.relative_to(TRIAL)) for path in TRIAL.rglob("*.*") if path.suffix != ".pyc"}
    assert set(re.findall(r"tests/training/trial_task/([\w/.]+\.\w+)", text)) == files
    lines = {line for edits in EDITS.values() for before, after in edits for line in added_lines(before, after)}
    assert all(name in text for name in EDITS) and all(line in text for line in lines)
    assert all(f"`updown {command}`" in text for command in COMMANDS)
