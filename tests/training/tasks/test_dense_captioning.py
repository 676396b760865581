"""Dense captioning learns: on drawn scenes it needs the regions; its inputs, figures, controls and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown.boxes_updown import pairwise_iou
from tests.training.tiny_run import log_of, new_accelerator, tiny_dense_captioning_recipe, train_here
from training.data.descriptions.rows import sentences_of_boxes
from training.data.mirroring import mirrored_boxes
from training.evaluate import evaluate_recipe
from training.metrics.captioning.scores import caption_scores
from training.metrics.dense_captioning.densecap import densecap_map
from training.probes.written_expressions import read_written
from training.recipe_sections import EvaluateRecipe, RegionsRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import COLOURS, CORNERS, SIDES, scenes_dataset
from training.tasks import build_task
from training.tasks.dense_captioning import Described, expressions_of
from training.tasks.dense_captioning_recipe import MatchingRecipe

NUM_SCENES = {"train": 120, "val": 10, "test": 20}
WORDS = [*CORNERS, *COLOURS, *SIDES]
MOST = 12  # five shapes, as many boxes beside them, the whole image, padding


def scene_regions(folder: Path) -> None:
    """A region for each shape, a little to the lower right of it, one where nothing is, and the whole image.

    Features say shape, colour and size, with noise.
    """
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, number in NUM_SCENES.items():
            for scene in scenes_dataset(number, image_size=32, split=split).remove_columns("image"):
                features, boxes = torch.zeros(1, MOST, len(WORDS) + 1), torch.zeros(1, MOST, 4)
                mask = torch.zeros(1, MOST, dtype=torch.bool)
                for thing in [*scene["objects"], None, None]:
                    slot = int(mask.sum())
                    mask[0, slot] = True
                    if thing is None:
                        whole = slot == len(scene["objects"])
                        features[0, slot, -1] = float(whole)
                        boxes[0, slot] = torch.tensor([0.0, 0.0, 1.0, 1.0] if whole else [0.0, 0.4, 0.04, 0.6])
                        continue
                    said = [WORDS.index(thing[name]) for name in ("name", "colour", "size")]
                    features[0, slot, said] = 1
                    sides = torch.tensor(thing["box"])
                    shift = 0.1 * (sides[2] - sides[0])
                    boxes[0, slot] = (sides + shift).clamp(0, 1)
                features += 0.05 * torch.randn(features.shape, generator=draw)
                regions = {"region_features": features, "region_boxes": boxes, "region_mask": mask}
                writer.append([scene["image_id"]], {**regions, "region_scores": torch.rand(1, MOST, generator=draw)})


def scenes_recipe(folder: Path, *, name: str = "run", train: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A small late-fusion captioner on the scenes' regions."""
    settings = {"epochs": 12, "batch_size": 12, "captions_per_image": 6, "learning_rate": 1e-2, "warmup_steps": 5}
    model = {"hidden_size": 48, "word_embedding_size": 24, "region_embedding_size": 48, "initializer_range": 0.1}
    values: dict[str, Any] = {
        "output": str(folder / name),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "model": {**model, "box_embedding": True},
        "evaluate": EvaluateRecipe(batch_size=10, every_epochs=6, final_num_beams=2),
    }
    return tiny_dense_captioning_recipe(folder, train={**settings, **(train or {})}, **{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    scene_regions(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Any, dict[str, float]]:
    """A run and its final figures."""
    recipe = scenes_recipe(folder)
    return recipe, train_here(recipe)


def prepared(recipe: Any) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def test_it_learns_and_needs_the_regions(folder: Path, trained: tuple) -> None:
    """Shapes are described; boxes alone tell sizes, nothing at all tells what is commonest."""
    found = {"": trained[1]}
    for withheld in ("image", "regions"):
        recipe = scenes_recipe(folder, name=f"without-{withheld}", train={"withhold": withheld, "epochs": 4})
        found[withheld] = train_here(recipe)
    print({name: (one["dense_map_x100"], one["true_box_meteor_x100"]) for name, one in found.items()})
    assert found[""]["dense_map_x100"] > 50 and found[""]["true_box_meteor_x100"] > 40
    for withheld in ("image", "regions"):
        assert found[withheld]["dense_map_x100"] < found[""]["dense_map_x100"] - 20
        assert found[withheld]["true_box_meteor_x100"] < found[""]["true_box_meteor_x100"] - 10
    said = json.loads((folder / "without-regions" / "best" / "evaluation.json").read_text())
    assert said["withheld"] == "regions" and said["dataset"]["num_photos"] == 20
    texts = json.loads((folder / "without-regions" / "best" / "predictions.json").read_text())
    assert len({one["text"] for image in texts for one in image["sentences"]}) == 1


def test_boxes_move_and_scores_tell_where_nothing_is(trained: tuple) -> None:
    recipe, metrics = trained
    for name, share in (("loss_boxes", 0.6), ("loss_scores", 0.3), ("loss_words", 0.4)):
        losses = log_of(recipe, name)
        assert np.mean(losses[-5:]) < share * np.mean(losses[:5]), name
    assert metrics["dense_detmap_x100"] > 80


def test_a_saved_model_is_scored_as_at_the_end_of_its_run(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    evaluation = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path)
    best = Path(recipe.output) / "best"
    assert read_written(tmp_path / "expressions.json") == read_written(best / "expressions.json")
    assert evaluation["metrics"] == pytest.approx({name: metrics[name] for name in evaluation["metrics"]}, abs=1e-4)
    assert evaluation["decoding"]["num_beams"] == 2
    items = json.loads((tmp_path / "item_scores.json").read_text())
    cider = items["true_box_cider"]
    mean = np.average(cider["values"], weights=cider["weights"])
    assert 100 * mean == pytest.approx(metrics["true_box_cider_x100"], abs=1e-3)


def test_an_evaluation_may_choose_among_sentences_otherwise(trained: tuple, tmp_path: Path) -> None:
    """Every region has its sentence where none is left out for another's sake."""
    recipe, _ = trained
    kept = {}
    for overlap in (0.01, 1.0):
        changed = scenes_recipe(Path(recipe.output).parent, model={"dense_nms_iou": overlap})
        task: Any = build_task(changed, new_accelerator())
        model, _ = task.load(Path(recipe.output) / "best")
        kept[overlap] = task.score(model, split="test", num_beams=2).metrics["sentences_an_image"]
    assert kept[0.01] < kept[1.0]


def test_figures_are_those_of_the_metrics(trained: tuple) -> None:
    """From the predictions as they are: mAP of what is kept, captions' metrics of the regions nearest to true boxes."""
    recipe, _ = trained
    task: Any = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    scored = task.score(model, split="val", num_beams=1)
    rows = task.evaluation_rows("val")
    references = [
        {"boxes": [row["boxes"][place] for place in row["caption_boxes"]], "captions": row["captions"]}
        for row in rows.remove_columns("image")
    ]
    found = [
        {
            "boxes": [one["box"] for one in image["sentences"]],
            "scores": [one["score"] for one in image["sentences"]],
            "captions": [one["text"] for one in image["sentences"]],
        }
        for image in scored.predictions
    ]
    expected = densecap_map(found, references)
    assert scored.metrics["dense_map"] == pytest.approx(expected["map"], abs=2e-3)
    assert scored.metrics["dense_detmap"] == pytest.approx(expected["detmap"], abs=2e-3)
    nearest, wanted = [], []
    for number, row in enumerate(rows.remove_columns("image")):
        inputs = task.image_inputs(rows, np.array([number]))
        all_of = model.describe(**inputs, nms_iou=1.0, num_beams=1, max_new_tokens=8)
        texts = task.processor.batch_decode(all_of.sequences, skip_special_tokens=True)
        by_region = dict(zip(all_of.region_index.tolist(), texts, strict=True))
        overlaps = pairwise_iou(torch.tensor(row["boxes"]), inputs["region_boxes"][0][inputs["region_mask"][0]])
        nearest += [by_region[place] for place in overlaps.argmax(dim=1).tolist()]
        wanted += sentences_of_boxes(row)
    for name, value in caption_scores(nearest, wanted).items():
        if name in ("meteor", "cider", "bleu_1"):
            assert scored.metrics[f"true_box_{name}"] == pytest.approx(value, abs=1e-6)
    places = [(row["image_id"], box) for row in rows.remove_columns("image") for box in row["boxes"]]
    expected_texts = [(image_id, box, text.strip()) for (image_id, box), text in zip(places, nearest, strict=True)]
    assert [(one["image_id"], one["box"], one["expression"]) for one in scored.expressions] == expected_texts


def test_boxes_of_which_nothing_is_said_are_counted() -> None:
    found = [Described(np.zeros((0, 4)), [], [], [], ["a dog", ""]), Described(np.zeros((0, 4)), [], [], [], ["a cat"])]
    boxes = [[[0, 0, 1, 1], [0, 0, 0.5, 1]], [[0, 0.5, 1, 1]]]
    with pytest.warns(UserWarning, match="nothing was said of 1 of 3 true boxes"):
        written = expressions_of(found, ["7", "8"], boxes)
    assert written == [
        {"image_id": "7", "box": [0, 0, 1, 1], "expression": "a dog"},
        {"image_id": "8", "box": [0, 0.5, 1, 1], "expression": "a cat"},
    ]


def test_regions_learn_the_sentences_of_the_box_they_overlap(folder: Path) -> None:
    task = prepared(scenes_recipe(folder, name="inputs"))
    rows, tokenizer = task.train_rows, task.processor.tokenizer
    indices = np.array([3, 0, 5])
    inputs = task.inputs(indices, epoch=0)
    again = task.inputs(indices, epoch=0)
    assert all(torch.equal(again[name], values) for name, values in inputs.items())
    texts = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    assert len(set(inputs["image_index"].tolist())) == 3
    for text, image, place, box in zip(
        texts, inputs["image_index"], inputs["region_index"], inputs["box_labels"], strict=True
    ):
        row = rows[int(indices[image])]
        overlaps = pairwise_iou(inputs["region_boxes"][image, place][None], torch.tensor(row["boxes"]))[0]
        assert overlaps.max() >= 0.5 and text in sentences_of_boxes(row)[int(overlaps.argmax())]
        assert box.tolist() == pytest.approx(row["boxes"][int(overlaps.argmax())])
    for image, index in enumerate(indices.tolist()):
        best = pairwise_iou(inputs["region_boxes"][image], torch.tensor(rows[index]["boxes"])).amax(dim=1)
        wanted = torch.where(best >= 0.5, 1.0, torch.where(best < 0.3, 0.0, -100.0))
        wanted[~inputs["region_mask"][image]] = -100
        assert inputs["score_labels"][image].tolist() == wanted.tolist()
        assert (inputs["image_index"] == image).sum() == min(6, len(rows[index]["boxes"]))


def test_an_image_without_a_match_learns_of_its_best_region(folder: Path) -> None:
    recipe = scenes_recipe(folder, name="strict", matching=MatchingRecipe(iou=1.0, background_iou=0.01))
    task = prepared(recipe)
    task.true_boxes[2] = torch.tensor([[0.0, 0.0, 0.9, 0.9]])
    task.said_of[2] = np.zeros_like(task.said_of[2])
    inputs = task.inputs(np.array([2]), epoch=0)
    overlaps = pairwise_iou(inputs["region_boxes"][0], task.true_boxes[2])[:, 0]
    assert inputs["region_index"].tolist() == [int(overlaps.argmax())]


def test_mirrored_images_have_mirrored_boxes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepared(scenes_recipe(folder, name="mirrored"))
    plain = task.inputs(np.array([4]), epoch=0)
    task.recipe.regions.flips = True
    task.images.stores[True], task.images.names[True] = task.images.stores[False], task.images.names[False]
    own = task.image_inputs
    turned = mirrored_boxes(plain["region_boxes"][0])[None]
    monkeypatch.setattr(
        task, "image_inputs", lambda *a, **k: {**own(*a), "region_boxes": turned} if k["flipped"].any() else own(*a)
    )
    for epoch in range(8):
        inputs = task.inputs(np.array([4]), epoch=epoch)
        if torch.equal(inputs["region_boxes"], turned):
            break
    else:
        pytest.fail("no epoch shows the image mirrored")
    near = inputs["region_boxes"][0, inputs["region_index"]]
    assert (pairwise_iou(near, inputs["box_labels"]).diagonal() > 0.5).all()


def test_without_a_score_of_its_own_a_model_ranks_by_the_detectors(folder: Path) -> None:
    recipe = scenes_recipe(folder, name="scored")
    recipe.model |= {"dense_score_weight": 0}
    task = prepared(recipe)
    assert task.model.region_score is None
    found = task.score(task.model, split="val", num_beams=1, max_images=2)
    inputs = task.image_inputs(task.evaluation_rows("val", max_images=2), np.array([0]))
    best = inputs["region_scores"][0][inputs["region_mask"][0]].max().item()
    assert found.predictions[0]["sentences"][0]["score"] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"withhold": "text"}}, "which a described region has none of: set it to image, or to regions"),
        ({"matching": MatchingRecipe(iou=0.2)}, "matching.background_iou 0.3 is more than matching.iou 0.2"),
        ({"regions": RegionsRecipe()}, "name a folder for them in regions.store"),
        ({"evaluate": EvaluateRecipe(metric="cider")}, "evaluate.metric is 'cider'; the task dense_captioning takes"),
    ],
)
def test_recipes_that_cannot_be_run_are_refused(folder: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build_task(scenes_recipe(folder, **changes), new_accelerator())


def test_without_meteors_data_nothing_is_trained(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METEOR_FOLDER", str(tmp_path))
    with pytest.raises(ValueError, match="dense captions are scored by METEOR: "):
        prepared(scenes_recipe(folder, name="unscored"))
