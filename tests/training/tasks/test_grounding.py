"""Grounding learns: on drawn scenes it needs both words and image; its inputs, figures, controls and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownFusionForGrounding
from modeling_updown.boxes_updown import pairwise_iou
from modeling_updown.phrase_spans_updown import phrase_places, token_spans
from tests.training.tiny_run import log_of, new_accelerator, tiny_grounding_recipe, train_here
from training.data.phrases.formats import load_phrases
from training.evaluate import evaluate_recipe
from training.metrics.grounding.phrases import phrase_recall
from training.probes import grounding as probe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import COLOURS, CORNERS, scenes_dataset
from training.scenes.expressions import read_scene_phrases
from training.tasks import build_task
from training.tasks.grounding import FORMATS

NUM_SCENES = {"train": 120, "val": 16, "test": 24}
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
QUIET = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.1}
WIDTH = len(CORNERS) + len(COLOURS) + 1
MOST = 8  # shapes of a scene, and the whole image


def scene_regions(folder: Path) -> None:
    """A region for each shape, a little beside it, and the whole image: features say shape and colour, with noise."""
    draw = torch.Generator().manual_seed(0)
    with RegionStoreWriter(folder / "store", fingerprint={}) as writer:
        for split, number in NUM_SCENES.items():
            for scene in scenes_dataset(number, image_size=32, split=split).remove_columns("image"):
                features, boxes = torch.zeros(1, MOST, WIDTH), torch.zeros(1, MOST, 4)
                mask = torch.zeros(1, MOST, dtype=torch.bool)
                things = scene["objects"]
                for place in torch.randperm(len(things) + 1, generator=draw).tolist():
                    slot = int(mask.sum())
                    mask[0, slot] = True
                    if place == len(things):
                        features[0, slot, -1], boxes[0, slot] = 1, torch.tensor([0.0, 0.0, 1.0, 1.0])
                        continue
                    thing = things[place]
                    features[0, slot, [*CORNERS].index(thing["name"])] = 1
                    features[0, slot, len(CORNERS) + [*COLOURS].index(thing["colour"])] = 1
                    sides = torch.tensor(thing["box"])
                    shift = 0.1 * (sides[2] - sides[0]) * (torch.rand(2, generator=draw) - 0.5)
                    boxes[0, slot] = (sides + shift.repeat(2)).clamp(0, 1)
                features += 0.05 * torch.randn(features.shape, generator=draw)
                regions = {"region_features": features, "region_boxes": boxes, "region_mask": mask}
                writer.append([scene["image_id"]], regions)


def scenes_recipe(folder: Path, *, name: str = "run", train: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A BERT of two layers on the scenes' regions."""
    settings = {"epochs": 24, "batch_size": 24, "captions_per_image": 3, "learning_rate": 4e-3, "warmup_steps": 10}
    values: dict[str, Any] = {
        "output": str(folder / name),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "model": {"text_config": {**SIZES, **QUIET}, "initializer_range": 0.1},
        "evaluate": EvaluateRecipe(metric="recall_1", batch_size=10, every_epochs=12),
    }
    return tiny_grounding_recipe(folder, train={**settings, **(train or {})}, **{**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grounding")
    scene_regions(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, dict[str, float]]:
    """A run and its final figures."""
    recipe = scenes_recipe(folder)
    return recipe, train_here(recipe)


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def test_it_learns_and_needs_words_and_image(folder: Path, trained: tuple) -> None:
    found = {"": trained[1]["recall_1_x100"]}
    for withheld in ("image", "text"):
        recipe = scenes_recipe(folder, name=f"without-{withheld}", train={"withhold": withheld, "epochs": 8})
        found[withheld] = train_here(recipe)["recall_1_x100"]
    print(found)
    assert found[""] > 85 and found["image"] < 65 and found["text"] < 65
    assert found[""] > max(found["image"], found["text"]) + 25


def test_boxes_move_towards_the_true_ones(trained: tuple, folder: Path) -> None:
    recipe, metrics = trained
    losses = log_of(recipe, "boxes")
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert metrics["upper_bound_x100"] >= metrics["recall_1_x100"] and metrics["region_upper_bound_x100"] > 95
    assert metrics["pointing_x100"] > 80


def test_a_saved_model_is_scored_as_at_the_end_of_its_run(trained: tuple, tmp_path: Path, folder: Path) -> None:
    """Its figures are those of its predictions, by the metric itself, and stand by type."""
    recipe, metrics = trained
    again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "scores")
    assert again["metrics"] == metrics and again["task"] == "zero-shot-object-detection"
    rows = json.loads((tmp_path / "scores" / "predictions.json").read_text())
    truth = read_scene_phrases(NUM_SCENES["test"], image_size=32, split="test")
    phrases = [
        (text[phrase["start"] : phrase["end"]], phrase)
        for row in truth
        for text, own in zip(row["captions"], row["phrases"], strict=True)
        for phrase in own
    ]
    assert [row["phrase"] for row in rows] == [words for words, _ in phrases]
    best = phrase_recall([[row["box"]] for row in rows], [phrase["boxes"] for _, phrase in phrases])
    assert best["recall_1_x100"] == pytest.approx(metrics["recall_1_x100"], abs=1.0)  # boxes are rounded there
    assert again["dataset"]["num_phrases"] == len(phrases) == sum(own["phrases"] for own in again["domains"].values())
    assert set(again["domains"]) == {"attribute", "number", "relation"}
    items = json.loads((tmp_path / "scores" / "item_scores.json").read_text())["recall_1"]
    mean = np.average(items["values"], weights=items["weights"])
    assert 100 * mean == pytest.approx(metrics["recall_1_x100"], abs=1e-3)


def test_other_losses_and_forms_train(folder: Path) -> None:
    for number, fields in enumerate(
        (
            {"grounding_loss": "cross_entropy", "grounding_score": "multiply"},
            {"grounding_loss": "binary", "grounding_box_weight": 0},
        )
    ):
        recipe = scenes_recipe(folder, name=f"form-{number}", train={"max_steps": 8})
        recipe.model |= fields
        metrics = train_here(recipe)
        losses = log_of(recipe, "loss")
        assert losses[-1] < losses[0] and 0 <= metrics["recall_1_x100"] <= 100
        model = UpDownFusionForGrounding.from_pretrained(Path(recipe.output) / "best")
        assert all(getattr(model.config, name) == value for name, value in fields.items())


def test_expressions_without_a_referent_are_told_apart(folder: Path) -> None:
    """A learnt region takes what is said of nothing; figures of expressions and of referents are scored with it."""
    recipe = scenes_recipe(folder, name="none", train={"captions_per_image": 5, "epochs": 20})
    recipe.data |= {"expressions": 5, "none_share": 0.3}
    recipe.model |= {"grounding_none": True}
    recipe.evaluate.metric = "referent_auc"
    metrics = train_here(recipe)
    assert metrics["referent_auc_x100"] > 62 and metrics["accuracy_50_x100"] > 70
    shares = [metrics[f"accuracy_{least}_x100"] for least in (25, 50, 60, 70, 80, 90)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < metrics["mean_iou_x100"] < shares[0]
    rows = json.loads((Path(recipe.output) / "best" / "predictions.json").read_text())
    absent = [row for row in rows if not row["has_referent"]]
    assert 0.15 < len(absent) / len(rows) < 0.45 and not any(row["right"] for row in absent)
    shown = [row["right"] for row in rows if row["has_referent"]]
    assert 100 * np.mean(shown) == pytest.approx(metrics["accuracy_50_x100"])
    own = json.loads((Path(recipe.output) / "best" / "evaluation.json").read_text())["domains"]
    assert {"attribute", "relation", "place"} <= set(own) and "referent_auc_x100" in own["attribute"]


def test_phrases_without_a_referent_need_a_model_that_learns_them(folder: Path) -> None:
    recipe = scenes_recipe(folder)
    recipe.data |= {"expressions": 5, "none_share": 0.3}
    with pytest.raises(
        ValueError, match=r"\d+ training phrases have no referent, .* set model.grounding_none: true, or"
    ):
        prepared(recipe)
    recipe.data["none_share"] = {"train": 0, "val": 0.3, "test": 0.3}  # scored, though not learnt
    task = prepared(recipe)
    score = task.score(task.model, split="val", num_beams=1)
    assert 0 <= score.metrics["referent_auc"] <= 1
    recipe.data["none_share"], recipe.model["grounding_loss"] = 0.3, "binary"
    labels = prepared(recipe).inputs(np.arange(12), epoch=0)["labels"]
    assert labels[:, 0].eq(-1).all(dim=-1).all(dim=-1).any()


def test_candidates_are_scored_by_their_regions(folder: Path) -> None:
    """Each phrase's own boxes and the whole image to choose from: the choice is that of the best overlap."""
    task = prepared(scenes_recipe(folder))
    rows = task.evaluation_rows("val")
    changed = [
        [[{**phrase, "candidates": [*phrase["boxes"], [0.0, 0.0, 1.0, 1.0]]} for phrase in own] for own in sentences]
        for sentences in rows["phrases"]
    ]
    task.evaluated["val", 0] = rows.remove_columns("phrases").add_column(
        "phrases", changed, feature=rows.features["phrases"]
    )
    found = task.grounded(task.model, task.evaluated["val", 0])
    right = []
    for phrase in found:
        regions = torch.from_numpy(phrase.regions)
        overlaps = pairwise_iou(torch.tensor(phrase.candidates), regions) * torch.from_numpy(phrase.scores)
        right.append(phrase.candidates[int(overlaps.amax(dim=1).argmax())] in phrase.true)
    score = task.score(task.model, split="val", num_beams=1)
    assert score.metrics["candidate_accuracy"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


def test_inputs_are_sentences_with_their_phrases(folder: Path) -> None:
    """Spans are the phrases' words, labels their boxes; mirrored images have mirrored boxes."""
    recipe = scenes_recipe(folder)
    task = prepared(recipe)
    inputs = task.inputs(np.arange(6), epoch=0)
    tokenizer, seen = task.processor.tokenizer, 0
    for number, image in enumerate(inputs["image_index"].tolist()):
        row = task.train_rows[image]
        ids = inputs["input_ids"][number]
        text = tokenizer.decode(ids[inputs["attention_mask"][number]], skip_special_tokens=True).strip()
        place = row["captions"].index(text)
        for phrase, span, boxes in zip(
            row["phrases"][place], inputs["phrase_spans"][number].tolist(), inputs["labels"][number], strict=False
        ):
            words = row["captions"][place][phrase["start"] : phrase["end"]]
            assert tokenizer.decode(ids[slice(*span)]).strip() == words
            torch.testing.assert_close(boxes[: len(phrase["boxes"])], torch.tensor(phrase["boxes"]))
            assert boxes[len(phrase["boxes"]) :].eq(-1).all()
            seen += 1
    assert seen == (inputs["phrase_spans"][..., 0] >= 0).sum() > 10
    assert torch.equal(task.inputs(np.arange(6), epoch=0)["input_ids"], inputs["input_ids"])


def test_withheld_images_leave_boxes_alone_and_withheld_texts_no_words(folder: Path) -> None:
    whole = prepared(scenes_recipe(folder)).inputs(np.arange(4), epoch=0)
    blind = prepared(scenes_recipe(folder, train={"withhold": "image"})).inputs(np.arange(4), epoch=0)
    assert blind["region_features"].eq(1).all() and torch.equal(blind["region_boxes"], whole["region_boxes"])
    mute = prepared(scenes_recipe(folder, train={"withhold": "text"})).inputs(np.arange(4), epoch=0)
    assert mute["input_ids"].shape[1] == 2 and torch.equal(mute["labels"], whole["labels"])
    there = mute["phrase_spans"][..., 0] >= 0
    assert torch.equal(there, whole["phrase_spans"][..., 0] >= 0)
    assert mute["phrase_spans"][there].tolist() == [[0, 2]] * int(there.sum())


def test_phrases_cut_off_their_sentence_are_missed(folder: Path) -> None:
    task = prepared(scenes_recipe(folder, train={"max_words": 4}))
    spans = task.inputs(np.arange(8), epoch=0)["phrase_spans"]
    assert (spans[:, 0] >= 0).all() and (spans[:, 1] == -1).any()
    found = task.grounded(task.model, task.evaluation_rows("val"))
    assert 0 < sum(not len(phrase.boxes) for phrase in found) < len(found)
    assert all(len(phrase.regions) and phrase.true for phrase in found)


def test_a_start_from_other_heads(folder: Path, trained: tuple, tmp_path: Path) -> None:
    """A model of grounding, with another form of the loss, and one that has learnt something else."""
    recipe = scenes_recipe(folder, name="again", init_from=str(Path(trained[0].output) / "best"))
    recipe.model = {"grounding_loss": "binary"}
    recipe.text = TextRecipe()
    task = prepared(recipe)
    assert task.model.config.grounding_loss == "binary"
    best = UpDownFusionForGrounding.from_pretrained(Path(trained[0].output) / "best")
    torch.testing.assert_close(task.model.score.weight, best.score.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": RegionsRecipe(store="x", crops=0.5)}, "regions.crops is 0.5: phrases speak of whole images"),
        ({"train": {"withhold": "question"}}, "phrases have none of: set it to text, or to image"),
        ({"train": {"withhold": "image"}, "regions": RegionsRecipe()}, "name a store of them in regions.store"),
        ({"model": {"grounding_score": "region"}}, "reads one expression a text"),
    ],
)
def test_recipes_that_cannot_be_run(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_task(scenes_recipe(folder, **changes), new_accelerator())


def test_formats_and_their_mistakes() -> None:
    rows = load_phrases("scenes", formats=FORMATS, num_scenes=30, split="val", image_size=32)
    kinds = [kind for row in rows for own in row["phrases"] for phrase in own for kind in phrase["kinds"]]
    assert {"attribute", "number", "relation"} <= set(kinds)
    for row in rows:
        for text, own in zip(row["captions"], row["phrases"], strict=True):
            for phrase in own:
                words = text[phrase["start"] : phrase["end"]]
                assert words.startswith(("the ", "two ", "three ")) and (words == text) >= (
                    "relation" in phrase["kinds"]
                )
    with pytest.raises(ValueError, match="flickr30k_entitis.*flickr30k_entities"):
        load_phrases("flickr30k_entitis", formats=FORMATS)


def test_baselines_stand_beside_the_model(
    trained: tuple, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole image, the regions in the order of the store, and the evaluation, in one table."""
    recipe, metrics = trained
    path = Path(recipe.output) / "recipe.yaml"
    sources = ["whole=grid:1", f"regions={folder / 'store'}"]
    more = ["--recipe", str(path), "--evaluated", f"model={Path(recipe.output) / 'best'}"]
    assert probe.main([*sources, *more, "--output", str(tmp_path / "figures.json")]) == 0
    printed = capsys.readouterr().out
    assert "| model | " in printed and "R@1 minus that of whole" in printed and "| R@1 | " in printed
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["whole", "regions", "model"]
    assert rows[0]["metrics"]["recall_1_x100"] < 5 and rows[1]["metrics"]["upper_bound_x100"] > 95
    assert rows[2]["metrics"]["recall_1_x100"] == pytest.approx(metrics["recall_1_x100"])
    assert rows[2]["difference"]["difference_x100"] > 80
    assert probe.main(["grid:1", "--recipe", "vqa/scenes_grid"]) == 2
    assert "is a recipe of vqa: name one of grounding" in capsys.readouterr().err


def test_phrases_are_found_in_their_text() -> None:
    text = "A woman and a man hold a red ball"
    assert phrase_places(text, ["a man", "A woman", "ball"]) == [(12, 17), (0, 7), (29, 33)]
    for phrase, message in ((" ", "is empty"), ("two men", "'two men' is not in"), ((3, 90), "characters 3 to 90")):
        with pytest.raises(ValueError, match=message):
            phrase_places(text, [phrase])
    offsets = [(0, 0), (0, 1), (2, 7), (8, 11), (12, 13), (14, 17), (0, 0)]
    assert token_spans(offsets, [(12, 17), (0, 7), (29, 33)]) == [(4, 6), (1, 3), (-1, -1)]
