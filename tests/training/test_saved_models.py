"""A folder of another kind of model is named, by every task and command that would read it, and nothing is written."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import modeling_updown
from tests import tiny
from tests.training.tiny_run import (
    new_accelerator,
    tiny_dense_captioning_recipe,
    tiny_detection_recipe,
    tiny_grounding_recipe,
    tiny_moments_recipe,
    tiny_multi_recipe,
    tiny_multiple_choice_recipe,
    tiny_reading_recipe,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_statements_recipe,
    tiny_vqa_recipe,
)
from training.cli import main as updown
from training.recipe_sections import Recipe, RegionsRecipe
from training.tasks import TASKS, build_task


def save_detector(folder: Path) -> Path:
    tiny.tiny_pyramid_detector().save_pretrained(folder)
    return folder


SAVED = {
    "UpDownForImageCaptioning": tiny.save_tiny_captioner,
    "UpDownForVisualQuestionAnswering": tiny.save_tiny_vqa,
    "UpDownDetector": save_detector,
    "UpDownPrefixLMForImageCaptioning": tiny.save_tiny_prefix_lm,
    "UpDownPrefixLMForVisualQuestionAnswering": tiny.save_tiny_prefix_vqa,
    "UpDownFusionForImageTextRetrieval": tiny.save_tiny_retrieval,
    "UpDownFusionForVisualQuestionAnswering": tiny.save_tiny_fusion_vqa,
    "UpDownFusionForGrounding": tiny.save_tiny_grounding,
    "UpDownForDenseCaptioning": tiny.save_tiny_dense_captioner,
    "UpDownFusionForVisualEntailment": tiny.save_tiny_entailment,
    "UpDownFusionForImagePairs": tiny.save_tiny_pairs,
    "UpDownFusionForMultipleChoice": tiny.save_tiny_multiple_choice,
    "UpDownForMomentRetrieval": tiny.save_tiny_moments,
    "UpDownForTextReading": tiny.save_tiny_reading,
}
TAKES = {
    "captioning": ["UpDownForImageCaptioning"],
    "dense_captioning": ["UpDownForDenseCaptioning"],
    "detection": ["UpDownDetector"],
    "entailment": ["UpDownFusionForVisualEntailment"],
    "grounding": ["UpDownFusionForGrounding"],
    "moments": ["UpDownForMomentRetrieval"],
    "multi": [],  # a folder of folders: see tasks/test_multi.py
    "multiple_choice": ["UpDownFusionForMultipleChoice"],
    "pairs": ["UpDownFusionForImagePairs"],
    "prefix_lm": ["UpDownPrefixLMForImageCaptioning"],
    "pretraining": [],
    "reading": ["UpDownForTextReading"],
    "retrieval": ["UpDownFusionForImageTextRetrieval"],
    "vqa": ["UpDownForVisualQuestionAnswering"],
}
RECIPES: dict[str, Any] = {
    "captioning": tiny_recipe,
    "dense_captioning": tiny_dense_captioning_recipe,
    "detection": tiny_detection_recipe,
    "entailment": tiny_statements_recipe,
    "grounding": tiny_grounding_recipe,
    "moments": tiny_moments_recipe,
    "multi": tiny_multi_recipe,
    "multiple_choice": tiny_multiple_choice_recipe,
    "pairs": tiny_statements_recipe,
    "prefix_lm": tiny_recipe,
    "pretraining": tiny_retrieval_recipe,
    "reading": tiny_reading_recipe,
    "retrieval": tiny_retrieval_recipe,
    "vqa": tiny_vqa_recipe,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved folder of each kind of model, by the name of its class."""
    where = tmp_path_factory.mktemp("saved")
    return {name: save(where / name) for name, save in SAVED.items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def recipe_of(task: str, folder: Path) -> Recipe:
    return RECIPES[task](folder, task=task, model={})


@pytest.mark.parametrize("task", [name for name, spec in TASKS.items() if not spec.parts])
def test_evaluating_a_folder_of_another_kind_names_both_and_writes_nothing(
    tmp_path: Path, folders: dict[str, Path], task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_of(task, tmp_path).as_dict()))
    wanted = getattr(modeling_updown, TASKS[task].models[0])
    for name, folder in folders.items():
        if name in TAKES[task]:
            continue
        before = contents(folder)
        output = tmp_path / "figures.json"
        assert updown(["evaluate", str(path), "--model", str(folder), "--output", str(output)]) == 2
        told = capsys.readouterr().err
        assert f"holds a model of type '{tiny_type(folder)}' ({name}), but {wanted.__name__} (type " in told
        assert wanted.config_class.model_type in told
        assert contents(folder) == before and not output.exists()


def tiny_type(folder: Path) -> str:
    """The model type that a folder's config names."""
    (found,) = re.findall(r'^  "model_type": "(\w+)"', (folder / "config.json").read_text(), flags=re.MULTILINE)
    return found


ON_FUSION = (
    *("entailment", "grounding", "moments", "multi", "multiple_choice", "pairs", "pretraining", "reading", "retrieval"),
)


@pytest.mark.parametrize("task", TASKS)
def test_training_from_a_folder_of_another_kind_names_both(tmp_path: Path, folders: dict[str, Path], task: str) -> None:
    for name, folder in folders.items():
        fusion = task in ON_FUSION and (
            "Fusion" in name or name in ("UpDownForMomentRetrieval", "UpDownForTextReading")
        )  # a start for other heads
        if name in TAKES[task] or fusion:
            continue
        recipe = recipe_of(task, tmp_path)
        recipe.init_from, recipe.model = str(folder), {}
        recipe.regions = RegionsRecipe(store="" if task == "detection" else str(tmp_path / "store"))
        built = build_task(recipe, new_accelerator())
        with pytest.raises(ValueError, match=rf"{name} holds a model of type .* \({name}\), but .* is wanted: name a"):
            built.prepare()


@pytest.mark.parametrize(
    ("command", "takes"),
    [
        ("caption", ["UpDownForImageCaptioning", "UpDownPrefixLMForImageCaptioning"]),
        ("ask", [f"{start}ForVisualQuestionAnswering" for start in ("UpDown", "UpDownFusion", "UpDownPrefixLM")]),
        ("index", ["UpDownFusionForImageTextRetrieval"]),
        ("ground", ["UpDownFusionForGrounding"]),
        ("describe", ["UpDownForDenseCaptioning"]),
    ],
)
def test_a_command_names_a_folder_of_another_kind(
    tmp_path: Path, folders: dict[str, Path], command: str, takes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "photo.png"
    tiny.tiny_image().save(path)
    more = {
        "caption": [],
        "describe": [],
        "ask": ["what?"],
        "ground": ["a dog"],
        "index": ["--output", str(tmp_path / "index")],
    }[command]
    for name in set(folders) - set(takes):
        assert updown([command, str(path), *more, "--model", str(folders[name])]) == 2
        assert f"({name}), but {takes[0]} (type '" in capsys.readouterr().err
        assert not (tmp_path / "index").exists()
