"""Recipes made of recipes: what holds for all parts, what is each one's own, and parts that do not fit."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from training.recipe import build_recipe, read_recipe
from training.recipe_sections import TrainRecipe
from training.tasks.multi_recipe import part_recipes

FRESH: dict[str, Any] = {  # not from the model of grounding/scenes, as the recipes are
    "init_from": "",
    "regions": {"pretrained": "runs/detector_scenes/best"},
    "text": {"vocabulary_size": 400},
    "model": {"text_config": {"hidden_size": 96, "num_hidden_layers": 3}},
}
ENTAILS, PAIRS = {"recipe": "entailment/scenes", **FRESH}, {"recipe": "pairs/scenes", **FRESH}


def content(parts: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"task": "multi", "output": "runs/x", "data": {"format": "recipes", "parts": parts}, **keys}


def test_parts_are_recipes_with_changes_of_their_own() -> None:
    changed = {**ENTAILS, "weight": 2, "train": {"batch_size": 8}, "data": {"num_scenes": {"train": 5}}}
    recipe = build_recipe(content({"small": changed, "pairs": PAIRS}))
    small, pairs = part_recipes(recipe).values()
    assert recipe.data["parts"]["small"]["weight"] == 2 and recipe.data["parts"]["pairs"]["weight"] == 1
    assert (small.train.batch_size, small.data["num_scenes"]["train"], small.data["num_scenes"]["val"]) == (8, 5, 200)
    assert (pairs.train.batch_size, pairs.model["image_pairs"]) == (64, "pair_biattention")
    assert small.train.epochs == TrainRecipe.epochs  # of the run, which is not the part's


def test_what_stands_beside_the_parts_is_for_all_of_them() -> None:
    keys: dict[str, Any] = {"seed": 7, "text": {"vocabulary_size": 99}, "model": {"region_dropout": 0.25}}
    keys["regions"] = {"store": "elsewhere"}
    parts = {"questions": {"recipe": "vqa/scenes_fusion"}, "pairs": PAIRS}
    with pytest.raises(ValueError, match="questions and pairs share one encoder, but regions.pretrained is ''"):
        build_recipe(content(parts))
    with pytest.raises(ValueError, match="model.text_config is .* set model beside `data`, for all parts"):
        build_recipe(content(parts, regions={"store": "elsewhere"}))
    keys["model"]["text_config"] = {"hidden_size": 32}
    for part in part_recipes(build_recipe(content(parts, **keys))).values():
        assert (part.seed, part.text.vocabulary_size, part.model["region_dropout"]) == (7, 99, 0.25)
        assert (part.regions.store, part.regions.source, part.regions.pretrained) == ("elsewhere", {}, "")
        assert part.model["text_config"] == {"hidden_size": 32}


def test_a_part_takes_from_the_first_what_it_does_not_say() -> None:
    second = {**PAIRS, "regions": {"pretrained": None, "store": "mine"}, "text": None, "model": {"text_config": None}}
    first, part = part_recipes(build_recipe(content({"a": ENTAILS, "b": second}))).values()
    assert part.regions.pretrained == first.regions.pretrained == "runs/detector_scenes/best"
    assert part.text == first.text and part.model["text_config"] == first.model["text_config"]
    assert part.regions.store == "mine"


def test_a_kept_recipe_holds_every_part_and_reads_back(tmp_path: Path) -> None:
    recipe = build_recipe(content({"a": {**ENTAILS, "weight": 0.5}, "b": PAIRS}, sampling={"by": "annealed"}))
    assert recipe.sampling.epochs == recipe.train.epochs == 10  # as the run began, whatever is added later
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    again = read_recipe(path)
    assert again == recipe and again.data["parts"]["a"]["recipe"].data["format"] == "scenes"


def test_the_recipe_of_a_part_may_lie_beside_the_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("base: entailment/scenes\ntrain: {batch_size: 5}\n")
    (tmp_path / "several.yaml").write_text(
        yaml.safe_dump(content({"a": {"recipe": "own.yaml"}, "b": {"recipe": "pairs/scenes"}}))
    )
    (tmp_path / "further").mkdir()
    (tmp_path / "further/on.yaml").write_text("base: ../several.yaml\noutput: runs/y\n")
    for name in ("several.yaml", "further/on.yaml"):
        assert [part.train.batch_size for part in part_recipes(read_recipe(tmp_path / name)).values()] == [5, 64]


MISTAKES: dict[str, dict[str, Any]] = {
    "data lacks parts": content({}),
    "data.parts.a: it lacks recipe": content({"a": {"weight": 1}}),
    "data.parts.a: entailment/scene is not there": content({"a": {"recipe": "entailment/scene"}}),
    "data.parts.a: the task captioning can be no part": content({"a": {"recipe": "captioning/scenes"}}),
    "data.parts.a: the task multi can be no part": content({"a": {"recipe": "multi/scenes"}}),
    "data.parts.a: train.epochs of a part is that of the whole run": content(
        {"a": {**ENTAILS, "train": {"epochs": 3}}}
    ),
    "data.parts.a: seed of a part is that of the whole run": content({"a": {**ENTAILS, "seed": 3}}),
    "data.parts.a: unknown key 'epoch' in train": content({"a": {**ENTAILS, "train": {"epoch": 3}}}),
    "data.parts.a: weight is 0, but must be a number above 0": content({"a": {**ENTAILS, "weight": 0}}),
    "data.parts.a: weight is 'much'": content({"a": {**ENTAILS, "weight": "much"}}),
    "data.parts.a: weight is inf": content({"a": {**ENTAILS, "weight": float("inf")}}),
    "data.parts.a.b: call the part by a letter": content({"a.b": ENTAILS}),
    "data.parts.items: call the part by a letter": content({"items": ENTAILS}),
    "data.parts.training: call the part by a letter": content({"training": ENTAILS}),
    "data.parts.a/b: call the part by a letter": content({"a/b": ENTAILS}),
    "data.parts.a: unknown key 'wieght'; did you mean 'weight'?": content({"a": {**ENTAILS, "wieght": 2}}),
    "data.parts.a: UpDownForVisualQuestionAnswering has no encoder to share: set architecture: UpDownFusionForVisual": (
        content({"a": {"recipe": "vqa/scenes_grid"}})
    ),
    "unknown key 'part' in data": {**content({}), "data": {"format": "recipes", "part": 1, "parts": {"a": ENTAILS}}},
    "model.answer_dropout is no field of the shared encoder": content({"a": ENTAILS}, model={"answer_dropout": 0.1}),
    "the parts a and b share one encoder, but text.vocabulary_size is 400 in one and 99": (
        content({"a": ENTAILS, "b": {**PAIRS, "text": {"vocabulary_size": 99}}})
    ),
    "the parts a and b share one encoder, but init_from is '' in one and 'c' in the other": (
        content({"a": ENTAILS, "b": {**PAIRS, "init_from": "c"}})
    ),
    "data.parts.a: regions.crops is 0.5": content({"a": ENTAILS}, regions={"crops": 0.5, "store": "x"}),
    "the task multi does not read train.batch_size": content({"a": ENTAILS}, train={"batch_size": 8}),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_parts_that_do_not_fit_are_refused(sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        build_recipe(MISTAKES[sentence])
    assert sentence in str(caught.value)
