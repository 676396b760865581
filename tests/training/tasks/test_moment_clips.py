"""Moments of moving scenes and travelling cameras in the task: true spans beside the regions of every frame."""

import gzip
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.tiny_run import new_accelerator, tiny_moments_recipe
from training.data.clips.travelling_rows import read_travels
from training.data.splits import SPLITS
from training.recipe_sections import EvaluateRecipe, RegionsRecipe
from training.scenes.moving import make_moving_scene
from training.scenes.moving_texts import event_sentence
from training.tasks import build_task

SCENES = {"format": "moving_scenes", "num_scenes": {"train": 5, "val": 2, "test": 2}, "image_size": 32}
BOXES = ([0.02, 0.3, 0.2, 0.7], [0.7, 0.4, 0.95, 0.6], [0.4, 0.02, 0.5, 0.15])


def built(folder: Path, data: dict[str, Any], **train: Any) -> Any:
    """The task on those data, prepared; a map, and a random ViT whose regions lie in a store."""
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    recipe = tiny_moments_recipe(
        folder,
        data=data,
        regions=RegionsRecipe(source=source, random_backbone=True, store=str(folder / "strips")),
        evaluate=EvaluateRecipe(metric="r1_iou_50", batch_size=4),
        train={"questions_per_image": 2, "max_words": 24, **train},
    )
    recipe.model |= {"moment_head": "map", "moment_segments": 6, "moment_map_layers": 1, "moment_map_kernel": 3}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return built(tmp_path_factory.mktemp("moving"), SCENES)


def test_spans_are_the_events_of_the_graph(moving: Any) -> None:
    inputs = moving.inputs(np.arange(moving.num_rows), epoch=0)
    events = []
    for index in range(5):
        scene = make_moving_scene(index, seed=SPLITS.index("train"))
        events += [(index, event_sentence(scene, event), list(event.span)) for event in scene.events]
    assert inputs["image_index"].tolist() == [clip for clip, _, _ in events]
    assert inputs["labels"][:, 0].tolist() == [span for _, _, span in events]
    tokenizer = moving.processor.tokenizer
    for row, (_, text, _) in enumerate(events):
        ids = inputs["input_ids"][row][inputs["attention_mask"][row]]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert inputs["duration_seconds"].tolist() == [4.5] * 5
    seconds = torch.arange(18.0).repeat_interleave(4) / 4  # a 2 x 2 grid of every frame
    assert torch.equal(inputs["region_seconds"], seconds.expand(5, -1)) and inputs["region_mask"].all()


def test_sentences_of_a_clip_share_its_regions_in_groups(moving: Any) -> None:
    assert [group.tolist() for group in moving.groups[:3]] == [[0, 1], [2], [3, 4]] and moving.num_rows == 10
    inputs = moving.inputs(np.array([2, 1]), epoch=0)
    whole = moving.inputs(np.arange(10), epoch=0)
    assert inputs["image_index"].tolist() == [1, 1, 0] and len(inputs["region_features"]) == 2
    assert torch.equal(inputs["labels"], whole["labels"][[3, 4, 2]])
    assert not {"image", "image_id"} & {*moving.trained.rows.column_names}  # each strip stands once


def test_an_evaluation_scores_every_sentence(moving: Any) -> None:
    moving.accelerator = new_accelerator()
    scored = moving.score(moving.model, split="test")
    assert len(scored.predictions) == 6 and scored.items["r1_iou_50"]["ids"][0] == "moving-test-0-0-0"
    assert 0 <= scored.metrics["mean_span_iou"] <= 1 and len(scored.predictions[0]["windows"]) > 1
    assert all(0 <= start < end <= 4.5 for own in scored.predictions for start, end, _ in own["windows"])
    one = moving.evaluation_moments("test", max_images=1)
    assert len(one) == 3 and set(one.rows["clip_id"]) == {"moving-test-0-0"}


def test_the_control_of_a_single_frame_has_one_step_and_the_same_spans(moving: Any, tmp_path: Path) -> None:
    still = built(tmp_path, {**SCENES, "frames": 1})
    inputs, whole = (task.inputs(np.arange(10), epoch=0) for task in (still, moving))
    assert torch.equal(inputs["labels"], whole["labels"]) and inputs["duration_seconds"].tolist() == [4.5] * 5
    assert torch.equal(inputs["region_seconds"], torch.full((5, 4), 2.25))
    torch.testing.assert_close(inputs["region_features"], whole["region_features"][:, 36:40])
    output = still.model.eval()(**inputs)
    assert output.step_seconds.tolist() == [[[2.25, 4.5]]] * 15 and torch.isfinite(output.loss)


def test_a_camera_rests_in_the_spans_of_its_phrases(tmp_path: Path) -> None:
    draw, records = np.random.default_rng(0), []
    names = ("A man", "a dog", "a red ball")
    sentence = ["A", "man", "and", "a", "dog", "and", "a", "red", "ball"]
    for number in range(5):
        pixels = draw.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
        phrases = [{"phrase": name, "chain": str(i), "types": ["other"]} for i, name in enumerate(names)]
        records.append({"filename": f"{number}.jpg", "split": ("train", "train", "train", "val", "test")[number],
                        "orig_width": 80, "orig_height": 60, "boxes": {str(i): [box] for i, box in enumerate(BOXES)},
                        "sentences": [{"tokens": sentence, "phrases": phrases}]})  # fmt: skip
    path = tmp_path / "entities.json.gz"
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    data = {"format": "travelling", "annotations": str(path), "images": str(tmp_path), "side": 32}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task = built(tmp_path, data, questions_per_image=3)
        travels = read_travels(path, images=tmp_path, split="train", side=32)
    inputs = task.inputs(np.arange(task.num_rows), epoch=0)
    stops = [(clip, stop) for clip, travel in enumerate(travels) for stop in travel.stops]
    assert len(travels) == 3 == task.num_rows and inputs["image_index"].tolist() == [clip for clip, _ in stops]
    assert inputs["labels"][:, 0].tolist() == [[stop.start_seconds, stop.end_seconds] for _, stop in stops]
    ends = [travel.stops[-1].end_seconds for travel in travels]
    assert inputs["duration_seconds"].tolist() == ends
    last = inputs["region_seconds"].masked_fill(~inputs["region_mask"], 0).amax(dim=1)
    assert last.tolist() == [end - 0.25 for end in ends]
    single = task.evaluation_moments("test").rows
    assert len(single) >= 2 and set(single["caption"]) <= {name.lower() for name in names}
