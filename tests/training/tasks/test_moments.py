"""Moments learnt from clips whose regions say what happens when; inputs, figures, controls, submission, mistakes."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownForMomentRetrieval
from tests.training.recipe_moments import write_moments
from tests.training.tiny_run import EVENTS, new_accelerator, tiny_moments_recipe, write_clips
from training.metrics.video.didemo import SEGMENTS, didemo
from training.metrics.video.temporal_map import temporal_grounding_map
from training.metrics.video.temporal_recall import temporal_grounding_recall
from training.recipe_sections import EvaluateRecipe, RegionsRecipe
from training.regions.store import RegionStoreWriter
from training.tasks import build_task
from training.tasks.moment_scores import (
    FoundMoment,
    clip_saliency,
    figures_of,
    moment_figures,
    ranked_segments,
    windows_inside,
)
from training.tasks.moments import ClipsRecipe, rated_pairs, salient_pairs

NUM_CLIPS = {"train": 120, "val": 12, "test": 24}
QUIET = {"moment_input_dropout": 0.0, "moment_dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments")
    write_clips(folder / "clips", folder / "store", num_clips=NUM_CLIPS)
    return folder


def recipe_for(folder: Path, **changes: Any) -> Any:
    train = {"epochs": 14, "batch_size": 24, "learning_rate": 4e-3, **changes.pop("train", {})}
    recipe = tiny_moments_recipe(folder, train=train, **changes)
    recipe.model |= {**QUIET, "moment_hidden_size": 32, **changes.get("model", {})}
    return recipe


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Any:
    task: Any = build_task(recipe_for(folder, output=str(folder / "unused")), new_accelerator())
    task.prepare()
    return task


def test_inputs_are_sentences_with_their_clips(prepared: Any, folder: Path) -> None:
    inputs = prepared.inputs(np.array([3, 0, 2]), epoch=0)
    lines = (folder / "clips" / "charades_sta_train.txt").read_text().splitlines()
    assert inputs["image_index"].tolist() == [1, 0, 1] and len(inputs["region_features"]) == 2  # two sentences a clip
    for row, line in enumerate((3, 0, 2)):
        said, text = lines[line].split("##")
        assert inputs["labels"][row, 0].tolist() == [float(number) for number in said.split()[1:]]
        ids = inputs["input_ids"][row][inputs["attention_mask"][row]]
        assert prepared.processor.tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert inputs["duration_seconds"].tolist() == [16.0, 16.0]
    pairs = inputs["saliency_labels"][:, 0]
    start, end = inputs["labels"][:, 0].unbind(-1)
    assert ((pairs[:, 0] >= start) & (pairs[:, 0] <= end)).all()
    assert ((pairs[:, 1] < start) | (pairs[:, 1] > end)).all()
    again = prepared.inputs(np.array([3, 0, 2]), epoch=0)
    assert all(torch.equal(value, again[name]) for name, value in inputs.items())
    other = prepared.inputs(np.array([3, 0, 2]), epoch=1)
    assert not torch.equal(inputs["saliency_labels"], other["saliency_labels"])


def test_the_loss_is_the_sum_over_sentences(prepared: Any) -> None:
    inputs = prepared.inputs(np.arange(5), epoch=0)
    model = prepared.model.eval()
    loss, count, parts = prepared.loss(model, inputs)
    assert count.item() == 5 and loss.item() == pytest.approx(5 * model(**inputs).loss.item())
    assert {"label", "span", "giou", "saliency", "alignment", "label_0"} <= {*parts}


def test_predictions_are_those_of_single_sentences(prepared: Any) -> None:
    prepared.accelerator = new_accelerator()
    asked, model = prepared.evaluation_moments("val"), prepared.model.eval()
    found = prepared.found(model, asked)
    assert len(found) == 24
    token_ids = prepared.encode_sentences(asked.rows["caption"][:])
    for place in (0, 7, 23):
        with torch.no_grad():
            output = model(**prepared.sentence_inputs(asked, token_ids, np.array([place])))
        (alone,) = prepared.read_output(model, output)
        np.testing.assert_allclose(found[place].windows, alone.windows, atol=1e-4)
        np.testing.assert_allclose(found[place].saliency, alone.saliency, atol=1e-4)
    scored = prepared.score(model, split="val", num_beams=1)
    windows = [own.windows for own in found]
    expected = temporal_grounding_recall(
        [own[:, :2].tolist() for own in windows],
        [spans[0] for spans in asked.rows["spans"][:]],
        scores=[own[:, 2].tolist() for own in windows],
    )
    assert scored.metrics["r1_iou_50"] == expected["r1_iou_50"] and scored.metrics["r5_iou_30"] == expected["r5_iou_30"]
    assert scored.metrics["mean_span_iou_x100"] == pytest.approx(100 * expected["mean_iou"])
    assert scored.items["r1_iou_70"]["values"] == expected["per_item"]["r1_iou_70"]
    assert len(scored.predictions[0]["saliency_scores"]) == 8


def test_clips_without_regions_are_left_out_with_one_warning(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_for(folder, output=str(tmp_path / "run"))
    (tmp_path / "charades_sta_train.txt").write_text(
        (folder / "clips" / "charades_sta_train.txt").read_text() + "absent 0.0 4.0##the dog jumps.\n"
    )
    recipe.data["annotations"]["train"] = str(tmp_path / "charades_sta_train.txt")
    recipe.data["durations"] = None
    task: Any = build_task(recipe, new_accelerator())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        task.prepare()
    said = [str(one.message) for one in told if "sentences are left out" in str(one.message)]
    assert said == ["1 sentences are left out, since 1 clips have no regions: absent"]
    inputs = task.inputs(np.arange(2), epoch=0)
    assert "duration_seconds" not in inputs and task.num_rows == 240  # eight steps say how long the clip is


def test_pairs_of_rated_clips_are_those_of_moment_detr() -> None:
    draw = np.random.default_rng(0)
    pairs = rated_pairs([3, 4, 7], [[1, 1, 1], [4, 4, 4], [0, 0, 2]], end=20.0, draw=draw)
    assert pairs[0] == [9.0, 15.0]  # the middles of clips 4 and 7
    assert pairs[1][0] in (7.0, 9.0, 15.0) and pairs[1][1] not in (7.0, 9.0, 15.0)
    assert len(rated_pairs([0, 1], [[2, 2, 2]] * 2, end=4.0, draw=draw)) == 0  # all alike, nothing beside them
    whole = {"spans": [[0.0, 9.0]], "relevant_clip_ids": [], "saliency_scores": []}
    assert salient_pairs(whole, end=8.0, draw=draw) == []


# -- figures -----------------------------------------------------------------------------------------------------------


def found_of(windows: list[list[float]], saliency: list[float] | None = None, seconds: float = 2.0) -> FoundMoment:
    count = len(saliency or [0])
    steps = seconds * np.stack([np.arange(count), np.arange(1, count + 1)], axis=1)
    return FoundMoment(np.array(windows).reshape(-1, 3), None if saliency is None else np.array(saliency), steps)


def row_of(name: str, spans: list[list[float]], duration: float | None = None, **said: Any) -> dict[str, Any]:
    return {"moment_id": name, "spans": spans, "duration_seconds": duration, **said}


def test_figures_of_didemo_are_its_evaluators() -> None:
    draw = np.random.default_rng(0)
    found, rows, ranked, times = [], [], [], []
    for number in range(12):
        scores = draw.random(len(SEGMENTS))
        windows = [[5.0 * a, 5.0 * (b + 1), s] for (a, b), s in zip(SEGMENTS, scores, strict=True)]
        chosen = [list(SEGMENTS[place]) for place in draw.integers(21, size=4)]
        found.append(found_of(windows))
        rows.append(row_of(str(number), [[5.0 * a, 5.0 * (b + 1)] for a, b in chosen]))
        ranked.append([SEGMENTS[place] for place in np.argsort(-scores)])
        times.append(chosen)
    figures, items = moment_figures(found, rows, format="didemo")
    expected = didemo(ranked, times)
    assert figures["rank1"] == expected["rank1"] and figures["rank5"] == expected["rank5"]
    assert figures["didemo_miou"] == expected["miou"] and items["rank5"]["values"] == expected["per_item"]["rank5"]


def test_segments_without_a_window_are_ranked_by_what_overlaps_them() -> None:
    order = ranked_segments(np.array([[6.0, 10.0, 0.9]]))
    assert order[0] == (1, 1) and sorted(order) == sorted(SEGMENTS) and order.index((0, 1)) < order.index((0, 5))
    assert ranked_segments(np.zeros((0, 3))) == list(SEGMENTS)


def test_figures_of_qvhighlights_are_its_evaluators() -> None:
    truth = {"relevant_clip_ids": [1, 2], "saliency_scores": [[4, 4, 2], [1, 3, 2]]}
    rows = [row_of("7", [[2.0, 6.0]], 10.0, **truth), row_of("9", [[0.0, 4.0]], 9.0, **truth)]
    found = [
        found_of([[2.0, 6.0, 0.9], [0.0, 4.0, 0.5]], [0.1, 0.9, 0.5, 0.2, 0.0]),
        found_of([[4.0, 12.0, 0.8]], [0.3, 0.2, 0.1, 0.5, 0.4]),
    ]
    figures, items = moment_figures(found, rows, format="qvhighlights")
    windows = [{"qid": "7", "pred_relevant_windows": [[2, 6, 0.9], [0, 4, 0.5]]}]
    windows += [{"qid": "9", "pred_relevant_windows": [[4, 9, 0.8]]}]  # cut at the clip's end
    for own, one in zip(windows, found, strict=True):
        own["pred_saliency_scores"] = one.saliency.tolist()
    windows[1]["pred_saliency_scores"].pop()  # 9 s hold four whole clips
    expected = temporal_grounding_map(
        windows,
        [
            {"qid": r["moment_id"], "duration": r["duration_seconds"], "relevant_windows": r["spans"], **truth}
            for r in rows
        ],
    )
    assert figures["map"] == expected["map"] and figures["r1_iou_50"] == expected["r1_50"] == 0.5
    assert figures["hl_map_very_good"] == expected["hl_map_very_good"] and figures["hit1_fair"] == expected["hit1_fair"]
    assert "map_long" not in figures and items["map"]["ids"] == ["7", "9"]  # no window is that long


def test_a_sentence_with_several_spans_is_scored_by_the_nearest() -> None:
    found = [found_of([[20.0, 30.0, 0.9], [0.0, 5.0, 0.8]])]
    figures, _ = moment_figures(found, [row_of("a", [[0.0, 5.0], [21.0, 30.0]])], format="charades_sta")
    assert figures["r1_iou_70"] == 1 and figures["mean_span_iou"] == pytest.approx(0.9)
    empty, _ = moment_figures([found_of([])], [row_of("a", [[0.0, 5.0]])], format="charades_sta")
    assert empty["r1_iou_30"] == 0 == empty["mean_span_iou"]
    assert windows_inside(found[0].windows, 25.0)[:, 1].tolist() == [25.0, 5.0]


def test_saliency_of_steps_is_given_to_clips_of_two_seconds() -> None:
    found = found_of([], [0.5, -1.0, 2.0], seconds=3.0)
    assert clip_saliency(found, 9.0) == [0.5, -1.0, -1.0, 2.0]
    assert clip_saliency(found, 12.0)[-1] == 2.0 and clip_saliency(found, 1.5) == [0.5]


def test_every_format_names_its_figures() -> None:
    assert next(iter(figures_of("qvhighlights"))) == "map" and next(iter(figures_of("activitynet_captions"))) != "map"


# -- submission and mistakes ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def highlights(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A new model and tiny files of QVHighlights, whose test split is hidden."""
    root = tmp_path_factory.mktemp("qvhighlights")
    (root / "data").mkdir()
    write_moments(root / "data")
    files = {
        split: str(root / f"data/qvhighlights/highlight_{split}_release.jsonl") for split in ("train", "val", "test")
    }
    recipe = tiny_moments_recipe(
        root,
        data={"format": "qvhighlights", "annotations": files},
        regions=RegionsRecipe(store=str(root / "runs/regions/qvhighlights_clips")),
        evaluate=EvaluateRecipe(metric="map", batch_size=3, final_split="val"),
        moments=ClipsRecipe(round_seconds=2.0),
    )
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def test_hidden_moments_are_written_for_the_organisers(highlights: Any, tmp_path: Path) -> None:
    highlights.accelerator = new_accelerator()
    highlights.check_submission("test")
    with pytest.raises(ValueError, match="the moments of test are hidden: score another split, or write"):
        highlights.score(highlights.model, split="test")
    scored = highlights.score_all(highlights.model, split="test", num_beams=1)
    assert not scored.metrics
    highlights.write_submission(scored, tmp_path / "hl_test_submission.jsonl", split="test")
    lines = [json.loads(line) for line in (tmp_path / "hl_test_submission.jsonl").read_text().splitlines()]
    assert [line["qid"] for line in lines] == [200, 201, 202, 203]
    for line in lines:
        assert len(line["pred_saliency_scores"]) == 75 and len(line["pred_relevant_windows"]) == 4
        assert all(number % 2 == 0 for window in line["pred_relevant_windows"] for number in window[:2])
    whole = highlights.score_all(highlights.model, split="val", num_beams=1)
    assert {"map", "map_x100", "hl_map_fair"} <= {*whole.metrics}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"evaluate": {"metric": "map"}}, "charades_sta is scored by r1_iou_30"),
        ({"regions": {"flips": True}}, "regions.crops and regions.flips are of images"),
        ({"train": {"withhold": "question"}}, "train.withhold is 'question', which moments have none of"),
        ({"model": {"moment_inputs": "features"}}, "reads given features of words: set it to states or embeddings"),
    ],
)
def test_what_moments_cannot_be_run_with_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    recipe = tiny_moments_recipe(tmp_path)
    for section, values in changes.items():
        for name, value in values.items():
            if section == "model":
                recipe.model[name] = value
            else:
                setattr(getattr(recipe, section), name, value)
    with pytest.raises(ValueError, match=told):
        build_task(recipe, new_accelerator())


def test_stores_and_models_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path / "images", fingerprint={}) as writer:
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 2, 4)
        for split, number in NUM_CLIPS.items():
            for clip in range(number):
                writer.append([f"{split}{clip}"], {"region_features": torch.ones(1, 2, 5), "region_boxes": boxes})
    recipe = recipe_for(folder, output=str(tmp_path / "run"), regions=RegionsRecipe(store=str(tmp_path / "images")))
    task: Any = build_task(recipe, new_accelerator())
    with pytest.raises(ValueError, match="have no region_seconds, which moments are found by: name a store of clips"):
        task.prepare()
    task = build_task(recipe_for(folder, output=str(tmp_path / "run")), new_accelerator())
    with pytest.raises(ValueError, match="for which nobody takes moments: --submission is for qvhighlights"):
        task.check_submission("test")


def test_a_saved_model_goes_on_with_another_head(prepared: Any, folder: Path, tmp_path: Path) -> None:
    prepared.save(prepared.model, tmp_path / "saved")
    recipe = recipe_for(folder, output=str(tmp_path / "run"))
    recipe.init_from, recipe.text.vocabulary_size = str(tmp_path / "saved"), 8000
    recipe.model = {"moment_head": "map", "moment_segments": 4, "moment_map_layers": 1}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    assert type(task.model) is UpDownForMomentRetrieval and task.model.config.moment_head == "map"
    assert task.model.config.moment_hidden_size == 32
    ours, theirs = task.model.fusion.state_dict(), prepared.model.fusion.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert len(EVENTS) == 4 and task.inputs(np.arange(2), epoch=0)["labels"].shape == (2, 1, 2)
