"""The pretraining task: masks by (seed, epoch, image), figures equal to a hand count, every objective learns."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tasks.test_fusion import clip_recipe, write_clips
from tests.training.tiny_run import (
    differences,
    ending,
    log_of,
    new_accelerator,
    tiny_retrieval_recipe,
    train_here,
    train_in_processes,
)
from training.evaluate import evaluate_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe
from training.tasks import build_task
from training.tasks.pretraining import MasksRecipe

OBJECTIVES = {"itc": 1, "itm": 1, "mlm": 1, "mrfr": 1, "prefix_lm": 0.5}


def tiny_pretraining_recipe(folder: Path, *, objectives: dict[str, float] | None = None, **changes: Any) -> Recipe:
    """As for retrieval, with masked words, masked cells of the grid and the next word."""
    recipe = tiny_retrieval_recipe(folder, **{"task": "pretraining", **changes})
    recipe.model = {**recipe.model, "objectives": OBJECTIVES if objectives is None else objectives}
    return recipe


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict[str, float]]:
    """A tiny run of all objectives and its final figures."""
    recipe = tiny_pretraining_recipe(tmp_path_factory.mktemp("pretraining"), train={"epochs": 20})
    return recipe, train_here(recipe)


def test_every_objective_is_learnt(trained: tuple) -> None:
    recipe, metrics = trained
    for name, share in (("itc", 0.95), ("mlm", 0.85), ("prefix_lm", 0.85), ("mrfr", 0.6)):
        losses = log_of(recipe, name)
        assert np.mean(losses[-6:]) < share * losses[0], name
    assert max(log_of(recipe, "mlm_accuracy")) >= 0.1  # of some 300 pieces
    assert {"mlm_accuracy_x100", "feature_fit_x100", "rsum_x100", "itc_rsum_x100"} <= metrics.keys()


def test_masks_are_decided_by_seed_epoch_and_image(tmp_path: Path) -> None:
    task = prepared(tiny_pretraining_recipe(tmp_path))
    together, alone = task.inputs(np.array([3, 5]), epoch=1), task.inputs(np.array([5]), epoch=1)
    assert torch.equal(together["masked_regions"][1], alone["masked_regions"][0])
    length = alone["labels"].shape[1]
    assert torch.equal(together["labels"][2:, :length], alone["labels"])
    other = task.inputs(np.array([5]), epoch=2)
    assert not torch.equal(together["masked_regions"][1], other["masked_regions"][0]) or not torch.equal(
        other["labels"], alone["labels"]
    )


def test_special_tokens_and_padding_are_never_masked(tmp_path: Path) -> None:
    task = prepared(tiny_pretraining_recipe(tmp_path, masks=MasksRecipe(words=0.9)))
    inputs = task.inputs(np.arange(8), epoch=0)
    tokenizer = task.processor.tokenizer
    chosen = inputs["labels"] != -100
    special = torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id])
    assert not torch.isin(inputs["input_ids"][chosen], special).any()
    assert torch.equal(inputs["labels"][chosen], inputs["input_ids"][chosen])
    pieces = (~torch.isin(inputs["input_ids"], special)).sum()
    assert 0.8 < chosen.sum() / pieces < 1
    shown = inputs["masked_input_ids"][chosen]
    assert 0.7 < (shown == tokenizer.mask_token_id).float().mean() < 0.9


def test_blocks_of_a_grid_are_hidden_together(tmp_path: Path) -> None:
    recipe = tiny_pretraining_recipe(
        tmp_path, objectives={"mim": 1}, masks=MasksRecipe(regions=0.5, blocks=True), evaluate=fit_metric()
    )
    inputs = prepared(recipe).inputs(np.arange(6), epoch=0)
    assert inputs["masked_regions"].sum(dim=1).tolist() == [2] * 6  # of 2 x 2 cells


def test_hidden_regions_may_show_those_of_other_images(tmp_path: Path) -> None:
    recipe = tiny_pretraining_recipe(tmp_path, masks=MasksRecipe(regions=0.5, swapped=0.5, kept=0.5 - 1e-9))
    inputs = prepared(recipe).inputs(np.arange(6), epoch=0)
    hidden, seen, true = inputs["masked_regions"], inputs["seen_features"], inputs["region_features"]
    assert torch.equal(seen[~hidden], true[~hidden])
    same = (seen[hidden] == true[hidden]).all(dim=1)
    assert same.any() and not same.all()
    others = true.flatten(0, 1)
    assert all((others == row).all(dim=1).any() for row in seen[hidden][~same])


def fit_metric() -> EvaluateRecipe:
    return EvaluateRecipe(metric="feature_fit", batch_size=3)


def test_figures_are_those_of_a_count_by_hand(trained: tuple) -> None:
    recipe, metrics = trained
    task: Any = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    model.eval()
    rows = task.evaluation_rows("test")
    right = asked = error = spread = 0.0
    stored = task.images.batch(rows, np.arange(len(rows)), flipped=np.zeros(len(rows), dtype=bool))
    for start in range(0, len(rows), 3):  # batches as in the run: the variance is told from each batch's mean
        indices = np.arange(start, min(start + 3, len(rows)))
        images = {name: stored[name][indices] for name in ("region_features", "region_boxes", "region_mask")}
        words = task.tokenize([rows[int(i)]["captions"][0] for i in indices])
        given = {**images, **words, "image_ids": torch.from_numpy(indices), "image_index": torch.arange(len(indices))}
        masks = task.masks(given, epoch=2**31 - 1)
        with torch.no_grad():
            joint = model.fusion(
                masks["masked_input_ids"],
                attention_mask=words["attention_mask"],
                region_features=images["region_features"].masked_fill(masks["masked_regions"][..., None], 0),
                region_boxes=images["region_boxes"],
            )
        guesses = model.word_logits(joint.word_states).argmax(-1)
        told = model.feature_head(joint.region_states)
        for row, place in zip(*torch.nonzero(masks["labels"] != -100, as_tuple=True), strict=True):
            right, asked = right + float(guesses[row, place] == masks["labels"][row, place]), asked + 1
        mean = images["region_features"].flatten(0, 1).mean(dim=0)
        for row, place in zip(*torch.nonzero(masks["masked_regions"], as_tuple=True), strict=True):
            error += float((told[row, place] - images["region_features"][row, place]).square().sum())
            spread += float((images["region_features"][row, place] - mean).square().sum())
    assert metrics["mlm_accuracy_x100"] == pytest.approx(100 * right / asked)
    assert metrics["feature_fit_x100"] == pytest.approx(100 * (1 - error / spread), abs=1e-3)


def test_a_run_without_contrast_is_scored_by_what_it_learns(tmp_path: Path) -> None:
    recipe = tiny_pretraining_recipe(
        tmp_path,
        objectives={"mlm": 1},
        train={"max_steps": 1},
        evaluate=EvaluateRecipe(metric="mlm_accuracy", batch_size=3),
    )
    assert set(train_here(recipe)) == {"mlm_accuracy_x100"}


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"objectives": {"mlm": 1}}, "evaluate.metric is 'rsum', which needs itc"),
        ({"objectives": {"mlm": 1}, "evaluate": fit_metric()}, "which needs mrfr or mim"),
        ({"regions": RegionsRecipe(source={"backbone": "test_vit"})}, "name its folder in regions.store"),
        ({"objectives": {"itc": 1, "mrc_kl": 1}}, "have no object_probs, which mrc_kl learns: set regions.soft_labels"),
    ],
)
def test_mistakes_are_named_with_their_cure(changes: dict[str, Any], cure: str, tmp_path: Path) -> None:
    recipe = tiny_pretraining_recipe(tmp_path, **changes)
    if "regions" in changes:
        recipe.regions.source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
        recipe.regions.random_backbone = True
    with pytest.raises(ValueError, match=cure):
        prepared(recipe)


def test_whole_words_are_masked_together(tmp_path: Path) -> None:
    task = prepared(tiny_pretraining_recipe(tmp_path, masks=MasksRecipe(words=0.3, whole_words=True)))
    inputs = task.inputs(np.arange(12), epoch=0)
    pieces = [task.processor.tokenizer.convert_ids_to_tokens(row.tolist()) for row in inputs["input_ids"]]
    chosen = (inputs["labels"] != -100).tolist()
    for row, names in enumerate(pieces):
        for place in range(1, len(names)):
            if chosen[row][place - 1] and not names[place].startswith(("Ġ", "[")):
                assert chosen[row][place]


# -- masked words alone ----------------------------------------------------------------------------------------------


def masked_words_recipe(folder: Path, *, name: str = "run", train: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A model with no other head, on the scenes."""
    metric = EvaluateRecipe(metric="mlm_accuracy", batch_size=3, every_epochs=10)
    values: dict[str, Any] = {"objectives": {"mlm": 1}, "evaluate": metric, "output": str(folder / name), **changes}
    return tiny_pretraining_recipe(folder, architecture="UpDownFusionForMaskedLM", train=train, **values)


def test_masked_words_are_read_off_the_regions_and_scored_again(tmp_path: Path) -> None:
    """Captions of clips, `first a dog then a cat`: without seeing the regions a thing's name is a guess."""
    found = {}
    for blind in (True, False):
        folder = tmp_path / f"blind-{blind}"
        folder.mkdir()
        write_clips(folder, blind=blind)
        words: Any = {"task": "pretraining", "objectives": {"mlm": 1}, "time_embedding": True}
        recipe = clip_recipe(folder, **words)
        recipe.architecture, recipe.masks.words = "UpDownFusionForMaskedLM", 0.4
        recipe.model["text_config"] |= {"hidden_dropout_prob": 0.0, "initializer_range": 0.1}
        recipe.evaluate = EvaluateRecipe(metric="mlm_accuracy", split="train", final_split="train", every_epochs=16)
        recipe.train.epochs = 16
        found[blind] = train_here(recipe)["mlm_accuracy_x100"]
        again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=folder / "scores")
        assert again["metrics"] == {"mlm_accuracy_x100": found[blind]}
        assert log_of(recipe, "loss")[-1] < 0.3 * log_of(recipe, "loss")[0]
    assert found[False] > 97 and found[True] < 88  # of the words four in five are the same in all captions


def test_the_loss_of_masked_words_is_the_sum_over_them(tmp_path: Path) -> None:
    task = prepared(masked_words_recipe(tmp_path))
    task.model.eval()
    inputs = task.inputs(np.arange(4), epoch=0)
    total, count, _ = task.loss(task.model, inputs)
    expected, words = 0.0, 0
    for row, image in enumerate(inputs["image_index"].tolist()):
        regions = {name: inputs[name][image, None] for name in ("region_features", "region_boxes", "region_mask")}
        seen = inputs["attention_mask"][row]
        with torch.no_grad():
            logits = task.model(inputs["masked_input_ids"][row, None, seen], **regions).logits[0].double()
        for place in (inputs["labels"][row] != -100).nonzero().flatten().tolist():
            expected, words = expected - logits[place].log_softmax(0)[inputs["labels"][row, place]].item(), words + 1
    assert count.item() == words > 4 and total.item() == pytest.approx(expected, rel=1e-5)


def test_a_killed_run_of_masked_words_goes_on(tmp_path: Path) -> None:
    hard = {"epochs": 2, "checkpoint_steps": 2}
    recipe, killed = (masked_words_recipe(tmp_path, name=name, train=hard) for name in ("whole", "killed"))
    assert train_in_processes(recipe) == [0]
    assert train_in_processes(killed, kill="training.train:Run.train_step:3") == [-signal.SIGKILL]
    assert train_in_processes(killed) == [0]
    assert differences(ending(killed), ending(recipe)) == []


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"objectives": {"mlm": 1, "itc": 1, "mim": 2}}, "learns mlm alone: leave itc, mim out of model.objectives"),
        ({"evaluate": EvaluateRecipe()}, "evaluate.metric is 'rsum', but UpDownFusionForMaskedLM has mlm_accuracy"),
        ({"masks": MasksRecipe(words=0.2, regions=0.3, blocks=True)}, "leave masks.regions, masks.blocks out"),
    ],
)
def test_what_masked_words_alone_do_not_learn(tmp_path: Path, changes: dict[str, Any], cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        build_task(masked_words_recipe(tmp_path, **changes), new_accelerator())
