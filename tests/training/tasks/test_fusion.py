"""What the tasks of fusion models share: seconds of regions in training and evaluation, and what a store may lack."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed

from tests.training.tiny_run import new_accelerator, tiny_retrieval_recipe, train_here
from training.evaluate import evaluate_folder
from training.recipe_sections import EvaluateRecipe, RegionsRecipe
from training.regions.store import RegionStoreWriter
from training.tasks import build_task

THINGS = ("dog", "cat", "bird")
COPIES = {"train": 16, "val": 1, "test": 1}  # of each of the six orders of two things


def write_clips(folder: Path, *, seconds: bool = True, blind: bool = False, **columns: torch.Tensor) -> None:
    """Clips of two things, one after the other, and captions of their order, which the regions' seconds alone tell.

    The regions of a clip stand in a random order. blind: all regions look the same. columns: more of each clip's
    regions, (1, 2, ...).
    """
    draw = torch.Generator().manual_seed(0)
    images, captions = [], []
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, copies in COPIES.items():
            for (one, other), copy in itertools.product(itertools.permutations(range(3), 2), range(copies)):
                name = f"{split}-{THINGS[one]}-{THINGS[other]}-{copy}"
                shuffled = torch.randperm(2, generator=draw)
                features = torch.ones(2, 8) if blind else 2 * torch.eye(8)[[one, other]]
                regions = {
                    "region_features": features[shuffled][None],
                    "region_boxes": torch.tensor([[[0.0, 0, 1, 1]] * 2]),
                }
                regions |= columns
                if seconds:
                    regions["region_seconds"] = (torch.tensor([1.0, 9.0]) + torch.rand(2, generator=draw))[shuffled][
                        None
                    ]
                writer.append([name], regions)
                images.append({"id": name, "file_name": f"{name}.jpg", "split": split})
                captions.append({"image_id": name, "caption": f"first a {THINGS[one]} then a {THINGS[other]}"})
    (folder / "clips.json").write_text(json.dumps({"images": images, "annotations": captions}))


def clip_recipe(folder: Path, *, task: str = "retrieval", **changes: Any) -> Any:
    """A recipe on the clips in a folder, by contrast alone; changes: to fields of the model."""
    recipe = tiny_retrieval_recipe(
        folder,
        task=task,
        data={"format": "coco", "annotations": str(folder / "clips.json")},
        regions=RegionsRecipe(store=str(folder / "store")),
        train={"epochs": 12, "batch_size": 12, "captions_per_image": 1},
        evaluate=EvaluateRecipe(metric="rsum", batch_size=4, every_epochs=12),
    )
    recipe.model |= {"objectives": {"itc": 1}, **changes}
    return recipe


def test_captions_of_an_order_are_learnt_from_the_seconds_of_regions(tmp_path: Path) -> None:
    """Without seconds the two orders of a pair are one and the same clip: one of both is right."""
    write_clips(tmp_path)
    found = {}
    for timed in (False, True):
        recipe = clip_recipe(tmp_path, time_embedding=timed)
        recipe.output = str(tmp_path / f"timed-{timed}")
        found[timed] = train_here(recipe)
        task: Any = build_task(recipe, new_accelerator())
        again = evaluate_folder(task, Path(recipe.output) / "best", split="test", num_beams=1)
        assert again["metrics"] == found[timed]
    assert found[False]["i2t_r1_x100"] == pytest.approx(50) and found[True]["i2t_r1_x100"] == pytest.approx(100)


def test_seconds_that_are_not_there_are_named_with_their_cure(tmp_path: Path) -> None:
    write_clips(tmp_path, seconds=False)
    recipe = clip_recipe(tmp_path, time_embedding=True)
    task: Any = build_task(recipe, new_accelerator())
    with pytest.raises(ValueError, match="store have no region_seconds, which model.time_embedding embeds: name a st"):
        task.prepare()
    recipe.regions = RegionsRecipe(source={"backbone": "test_vit", "image_size": 32}, random_backbone=True)
    with pytest.raises(ValueError, match="pixels have no region_seconds, which model.time_embedding embeds"):
        build_task(recipe, new_accelerator()).prepare()


def test_the_momentum_copy_sees_the_seconds_too(tmp_path: Path) -> None:
    write_clips(tmp_path)
    recipe = clip_recipe(tmp_path, time_embedding=True)
    recipe.train.momentum_queue = 8
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    task.model.eval()
    inputs = task.inputs(np.arange(6), epoch=0)
    keys = task.with_keys(inputs, inputs["image_ids"])["keys"]
    images = {name: inputs[name] for name in ("region_features", "region_boxes", "region_mask", "region_seconds")}
    assert torch.allclose(keys["momentum_image_embeds"], task.model.get_image_features(**images), atol=1e-6)


@pytest.mark.parametrize(("objective", "number"), [("mrc_ce", "num_objects"), ("mra_kl", "num_attributes")])
def test_classes_and_attributes_are_learnt_from_the_store(tmp_path: Path, objective: str, number: str) -> None:
    """The loss is that of the store's probabilities, with as many classes as it has; a wrong one is told apart."""
    probs = {
        "object_probs": torch.tensor([0.125, 0.625, 0.25]),
        "attribute_probs": torch.tensor([0.25, 0.125, 0.125, 0.5]),
    }
    write_clips(tmp_path, **{name: one.expand(1, 2, -1) for name, one in probs.items()})
    recipe = clip_recipe(tmp_path, task="pretraining", objectives={objective: 1})
    figure = {"mrc_ce": "object_accuracy", "mra_kl": "attribute_accuracy"}[objective]
    recipe.evaluate.metric, recipe.masks.overlap = figure, 1.0
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    said = probs["object_probs" if objective == "mrc_ce" else "attribute_probs"]
    assert getattr(task.model.config, number) == len(said) - 1
    task.model.eval()
    inputs = task.inputs(np.arange(8), epoch=0)
    output = task.model(**task.model_inputs({name: value for name, value in inputs.items() if name != "image_ids"}))
    logits = output.object_logits if objective == "mrc_ce" else output.attribute_logits
    asked = inputs["asked_regions"][inputs["image_index"]]
    log_p = logits[asked].double().log_softmax(dim=-1)
    wanted = -log_p[:, said[1:].argmax() + 1] if objective == "mrc_ce" else (said * (said.log() - log_p)).sum(dim=-1)
    assert output.losses[objective].item() == pytest.approx(wanted.mean().item(), rel=1e-5)
    head = task.model.object_head if objective == "mrc_ce" else task.model.attribute_head
    for guess in range(1, len(said)):
        with torch.no_grad():
            head[-1].bias.copy_(100.0 * torch.nn.functional.one_hot(torch.tensor(guess), len(said)))
        scored = task.score(task.model, split="val", num_beams=1).metrics
        assert scored == {figure: float(guess == said[1:].argmax() + 1), f"{figure}_x100": 100 * scored[figure]}


@pytest.mark.parametrize("confidence", [0.0, 0.25, 1.0])
def test_masked_regions_count_by_the_confidence_in_the_store(tmp_path: Path, confidence: float) -> None:
    """Of regions of one confidence the loss is that share of the loss of all alike."""
    probs = torch.tensor([0.1, 0.6, 0.3]).expand(1, 2, 3)
    write_clips(tmp_path, object_probs=probs, region_scores=torch.full((1, 2), confidence))
    losses = []
    for weights in ("even", "confidence"):
        recipe = clip_recipe(tmp_path, task="pretraining", objectives={"mrc_kl": 1}, mrc_weights=weights)
        recipe.evaluate.metric, recipe.masks.overlap = "object_accuracy", 1.0
        set_seed(0)
        task: Any = build_task(recipe, new_accelerator())
        task.prepare()
        task.model.eval()
        losses.append(task.loss(task.model, task.inputs(np.arange(8), epoch=0))[0].item())
    assert losses[0] > 0.1 and losses[1] == pytest.approx(confidence * losses[0], rel=1e-5)
