"""The prefix language model in training: new and pretrained language models, rewards, and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from tests import tiny
from tests.training.tiny_run import log_of, new_accelerator, tiny_recipe, train_here
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.tasks import build_task

SIZES = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 40}


def tiny_prefix_recipe(folder: Path, **changes: Any) -> Recipe:
    """Captions of scenes and regions as in `tiny_recipe`, a GPT-2 of two layers with the words of the captions."""
    recipe = tiny_recipe(folder, **{"task": "prefix_lm", **changes})
    recipe.model = {"text_config": SIZES}
    recipe.evaluate = EvaluateRecipe(final_num_beams=2)
    return recipe


def test_a_new_language_model_learns_and_writes(tmp_path: Path) -> None:
    recipe = tiny_prefix_recipe(tmp_path, train={"epochs": 8, "learning_rate": 3e-3})
    metrics = train_here(recipe)
    losses = log_of(recipe, "loss")
    assert losses[-1] < 0.75 * losses[0] and metrics["bleu_1_x100"] > 20
    folder = Path(recipe.output) / "best"
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["num_beams"] == 2 and generation["suppress_tokens"] == [0, 1, 3]  # padding, BOS, unknown
    assert all(row["caption"] for row in json.loads((folder / "predictions.json").read_text()))


def test_captions_are_rewarded_as_the_captioners_are(tmp_path: Path) -> None:
    first = tiny_prefix_recipe(tmp_path, train={"epochs": 2})
    train_here(first)
    settings = {"objective": "self_critical", "samples_per_image": 2, "max_steps": 2, "epochs": 1}
    second = tiny_prefix_recipe(tmp_path, train=settings, output=str(tmp_path / "rewarded"))
    second.model, second.init_from = {}, str(Path(first.output) / "best")
    train_here(second)
    assert len(log_of(second, "reward_x100")) == 2


def test_a_pretrained_language_model_brings_its_words_and_may_stay_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    tokenizer = tiny.tiny_tokenizer()
    special = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    model = tiny.tiny_prefix_lm().language_model
    model.config.vocab_size = len(tokenizer)
    model = type(model)(type(model.config)(**{**SIZES, "vocab_size": len(tokenizer), **special}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = tiny_prefix_recipe(tmp_path, text=TextRecipe(pretrained=str(folder)))
    recipe.model = {"tuning": "frozen"}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    trained = {name.split(".")[0] for name, weight in task.model.named_parameters() if weight.requires_grad}
    assert trained == {"prefix_embedding"} and len(task.processor.tokenizer) == len(tokenizer)


def test_layers_are_made_twice_where_the_recipe_wants_memory(tmp_path: Path) -> None:
    recipe = tiny_prefix_recipe(tmp_path, train={"gradient_checkpointing": True, "max_steps": 1})
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    assert task.model.is_gradient_checkpointing
    assert train_here(recipe)["bleu_1_x100"] >= 0


def test_captions_start_and_end_in_training_as_in_generation(tmp_path: Path) -> None:
    """A tokenizer without BOS, as Qwen2's, beside a language model whose config names other tokens."""
    folder = tmp_path / "text"
    tokenizer = tiny.tiny_tokenizer(cls_token=None, sep_token=None, pad_token=None, eos_token="[SEP]")
    assert (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id) == (None, None, 3)
    config = tiny.tiny_text_config("qwen2", vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=[3, 0])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    recipe = tiny_prefix_recipe(tmp_path, text=TextRecipe(pretrained=str(folder)))
    recipe.model = {"tuning": "frozen"}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    model, rows = task.model, task.inputs(np.arange(2), epoch=0)
    assert {int(row[0]) for row in rows["input_ids"]} == {3}
    for settings in (model.config, model.generation_config):
        assert (settings.bos_token_id, settings.eos_token_id, settings.pad_token_id) == (3, 3, 3)
    images = {name: rows[name] for name in ("region_features", "region_boxes", "region_mask")}
    assert model.generate(**images, max_new_tokens=2)[:, 0].tolist() == [3, 3]

    model.config.bos_token_id = 7  # a model of another home: what it generates with is what it is trained on
    assert {int(row[0]) for texts in task.encode_captions([["a dog"]]) for row in texts} == {7}


def test_mistakes_are_named_with_their_cure(tmp_path: Path) -> None:
    both = tiny_prefix_recipe(tmp_path, text=TextRecipe(pretrained="some/model"))
    nothing = tiny_prefix_recipe(tmp_path, text=TextRecipe(pretrained=str(tmp_path)))
    nothing.model = {}
    misspelt = tiny_prefix_recipe(tmp_path, text=TextRecipe(pretrained=str(tmp_path)))
    misspelt.model = {"tunning": "lora"}
    unknown = tiny_prefix_recipe(tmp_path)
    unknown.model = {"tunning": "lora"}
    bare = tiny_prefix_recipe(tmp_path, regions=RegionsRecipe())
    for recipe, cure in (
        (both, "model.text_config and text.pretrained are both given"),
        (nothing, "text.pretrained: no tokenizer in"),
        (misspelt, "unknown key 'tunning' in model"),
        (unknown, "unknown key 'tunning' in model; did you mean 'tuning'?"),
        (bare, "regions.source is empty"),
    ):
        with pytest.raises(ValueError, match=cure):
            build_task(recipe, new_accelerator()).prepare()
