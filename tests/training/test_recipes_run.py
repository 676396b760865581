"""Every shipped recipe starts, takes 20 steps and is scored, on tiny files at the paths and in the layouts it names.

What is set is sizes and weights; what a recipe starts from, another one's run, is trained first.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.training.recipe_world import write_world
from tests.training.tiny_run import log_of, train_here
from training.recipe import read_recipe
from training.recipe_sections import Recipe
from training.shipped import RECIPES
from training.tasks import (
    captioning,
    dense_captioning,
    detection,
    entailment,
    grounding,
    moments,
    multiple_choice,
    pairs,
    vqa,
)

NAMES = sorted(f"{path.parent.name}/{path.stem}" for path in RECIPES.glob("*/*.yaml"))
STEPS = 20
SIZES: dict[str, Any] = {  # where a recipe gives the key a value of its own
    "data.num_scenes": {"train": 40, "val": 4, "test": 4},
    "data.image_size": 64,
    "regions.source.backbone": "test_resnet",
    "regions.source.image_size": 64,
    "regions.source.region_feature_size": 96,
    "regions.processor.size": {"height": 64, "width": 64},
    "model.hidden_size": 16,
    "model.answer_hidden_size": 16,
    "model.word_embedding_size": 16,
    "model.attention_size": 16,
    "model.region_embedding_size": 16,
    "model.projection_size": 16,
    "model.text_config.hidden_size": 32,
    "model.text_config.intermediate_size": 32,
    "model.text_config.num_hidden_layers": 1,
    "model.text_config.n_embd": 32,
    "model.text_config.n_layer": 1,
    "model.mask_hidden_size": 8,
    "model.moment_hidden_size": 16,
    "text.vocabulary_size": 300,
    "train.accumulation": 1,
    "train.image_size": 64,
    "train.momentum_queue": 8,
    "train.num_workers": 0,
}
PYRAMID = {
    "model.backbone": "test_resnet",
    "model.pyramid_size": 16,
    "model.head_size": 32,
    "model.rpn_hidden_size": 16,
    "model.frozen_stages": 2,
    "model.anchor_sizes": [[16], [32], [64], [128]],
    "model.region_batch_size": 16,
}
PHRASES = {"model.phrase_embedding_size": 32, "train.image_shapes": [[64, 80], [80, 64]]}
OF_A_PART = {"train.batch_size": 2, "evaluate.batch_size": 4}
OWN_SIZES: dict[str, dict[str, Any]] = {
    "detection/coco": {**PYRAMID, "model.region_feature_size": 32},
    "detection/flickr30k_entities": {**PYRAMID, **PHRASES, "model.region_feature_size": 32 + 96},
    "detection/lite": {**PYRAMID, **PHRASES, "model.region_feature_size": 32 + 96},
    "detection/lite_nanodet": {
        **PYRAMID,
        **PHRASES,
        "model.nanodet_channels": [4, 8, 8, 8, 4],
        "model.nanodet_classes": 6,
        "model.region_feature_size": 32 + 96 + 6,
    },
    "detection/coco_masks": {"model.mask_size": 8},
    "detection/scenes": {**PYRAMID, "model.region_feature_size": 32 + 96},
    "detection/scenes_masks": {**PYRAMID, "model.region_feature_size": 32 + 96, "model.mask_size": 8},
    "detection/lite_open": {**PYRAMID, **PHRASES, "model.region_feature_size": 32 + 96, "held_out.names": ["star"]},
    "detection/scenes_open": {
        **PYRAMID,
        "model.region_feature_size": 32 + 96,
        "model.phrase_embedding_size": 32,
        "held_out.names": ["red star", "star"],
    },
    "reading/scenes": {"data.image_size": 96},
    "moments/activitynet": {"model.moment_segments": 8, "model.moment_map_kernel": 3},
    "detection/visual_genome": {
        "model.backbone": "caffe_resnet50",
        "model.stem_channels": 8,
        "model.bottleneck_channels": 4,
        "model.res2_channels": 16,
        "model.region_feature_size": 128,
        "model.anchor_sizes": [[16, 32, 64]],
        "model.region_batch_size": 16,
    },
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which recipes find all that they name, and their runs lie."""
    folder = tmp_path_factory.mktemp("recipes")
    write_world(folder)
    return folder


@cache
def shipped(name: str) -> Recipe:
    """The recipe as it comes along, which is not to be changed."""
    return read_recipe(name)


@cache
def makers() -> dict[str, str]:
    """Folder of a model that a run leaves -> the recipe of that run."""
    return {f"{shipped(name).output}/best": name for name in NAMES}


def value_at(content: Mapping[str, Any], key: str) -> Any:
    """The value of `train.epochs` in nested mappings, None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None  # type: ignore[assignment]
    return content


def tiny(name: str) -> Recipe:
    """The shipped recipe with small sizes and random weights."""
    given = shipped(name).as_dict()
    default = Recipe(task="", output="", data={}).as_dict()
    sizes = {key: value for key, value in SIZES.items() if value_at(given, key) != value_at(default, key)}
    if given["train"]["word_vectors"]:
        del sizes["model.word_embedding_size"]  # as wide as GloVe's
    sizes |= {"train.max_steps": STEPS, **OF_A_PART, **OWN_SIZES.get(name, {})}
    parts = value_at(given, "data.parts") or []
    if given["task"] == "multi":  # what is each part's own
        sizes = {key: value for key, value in sizes.items() if key not in OF_A_PART}
        for part, entry in parts.items():
            data = [key for key in SIZES if key.startswith("data.") and value_at(entry["recipe"], key) is not None]
            own = {**OF_A_PART, **{key: SIZES[key] for key in data}}
            sizes |= {f"data.parts.{part}.{key}": value for key, value in own.items()}
        return read_recipe(name, [f"{key}={json.dumps(value)}" for key, value in sizes.items()])
    if any("num_images" in part for part in parts):
        sizes["data.parts"] = [{**part, "num_images": 4} if "num_images" in part else part for part in parts]
    if value_at(given, "regions.source.backbone") or given["task"] == "detection":
        sizes["regions.random_backbone"] = True
    return read_recipe(name, [f"{key}={json.dumps(value)}" for key, value in sizes.items()])


def texts_in(content: Any) -> Iterator[str]:
    """Every text in nested lists and mappings."""
    if isinstance(content, str):
        yield content
    for value in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from texts_in(value)


def train_once(name: str) -> Recipe:
    """Train a recipe in the working folder, after those whose runs it names."""
    recipe = tiny(name)
    if not (Path(recipe.output) / "best" / "evaluation.json").exists():
        for text in texts_in(recipe.as_dict()):
            if text in makers():
                train_once(makers()[text])
        train_here(recipe)
    return recipe


@pytest.mark.filterwarnings("error:.*have no regions")
@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_trains_and_is_scored(name: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    recipe = train_once(name)
    losses = log_of(recipe, "loss")
    assert len(losses) == STEPS and all(map(math.isfinite, losses))
    metrics = json.loads((Path(recipe.output) / "best" / "evaluation.json").read_text())["metrics"]
    assert metrics and all(map(math.isfinite, metrics.values()))


def formats_in(content: Any) -> Iterator[str]:
    """Every format that `data` and `texts` name, those of their parts included."""
    if isinstance(content, Mapping) and "format" in content:
        yield content["format"]
    for value in content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ():
        yield from formats_in(value)


@pytest.mark.parametrize(
    ("tasks", "formats"),
    [
        (("captioning", "pretraining", "prefix_lm", "retrieval"), captioning.FORMATS),
        (("vqa",), vqa.FORMATS),
        (("detection",), detection.FORMATS),
        (("grounding",), grounding.FORMATS),
        (("dense_captioning",), dense_captioning.FORMATS),
        (("entailment",), entailment.FORMATS),
        (("pairs",), pairs.FORMATS),
        (("moments",), moments.FORMATS),
        (("multiple_choice",), multiple_choice.FORMATS),
    ],
)
def test_every_format_of_data_has_a_recipe(tasks: tuple[str, ...], formats: Mapping[str, Any]) -> None:
    used = {found for name in NAMES if name.startswith(tasks) for found in formats_in(shipped(name).as_dict())}
    assert formats.keys() <= used


@pytest.mark.parametrize("name", NAMES)
def test_the_header_says_what_to_expect(name: str) -> None:
    header = [line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert re.search("measured|expect|figures", " ".join(header), flags=re.IGNORECASE)
