"""The detection task: boxes that follow their image, labels, draws, and scores against hand-made detections."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from modeling_updown import UpDownDetector, UpDownImageProcessor
from modeling_updown.outputs_updown import UpDownDetectorOutput
from tests import tiny
from tests.training.tiny_run import config_fields, log_of, new_accelerator, tiny_detection_recipe, train_here
from training.data.mirroring import tell_sides
from training.evaluate import evaluate_recipe
from training.metrics.detection.average_precision import attribute_scores, detection_scores
from training.recipe_sections import Recipe
from training.scenes.draw import SIDES
from training.tasks import build_task
from training.tasks.detection import DetectionTask, repeated_images, shown_names
from training.tasks.detection_objects import image_objects, objects_in, pad_objects
from training.tasks.detection_recipe import check_recipe
from training.train import Run

SIZES = [(64, 48), (48, 64), (90, 60), (64, 64), (50, 100), (71, 53)]  # width, height
NAMES = ["red thing", "green thing", "blue thing"]


def painted_images(folder: Path, *, crowd: bool = False) -> str:
    """Black images with a red, a green and a blue rectangle, and the COCO file that tells where: its path."""
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    draw = np.random.default_rng(0)
    folder.mkdir()
    for number, (width, height) in enumerate(SIZES):
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        for channel in range(3):  # in three columns, so that none hides another
            left = width * channel // 3 + int(draw.integers(1, 4))
            top = int(draw.integers(0, height // 3))
            right, bottom = width * (channel + 1) // 3 - 1, top + int(draw.integers(height // 4, height // 2))
            pixels[top:bottom, left:right, channel] = 255
            notes.append(
                {
                    "id": len(notes) + 1,
                    "image_id": number,
                    "category_id": channel + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": int(crowd and channel == 2),
                    "attributes": [["wide"], [], ["wide", "bright"]][channel],
                }
            )
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
    content = {
        "images": images,
        "annotations": notes,
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES, start=1)],
        "attributes": [{"id": 1, "name": "wide"}, {"id": 2, "name": "bright"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return str(folder / "instances.json")


def painted_recipe(folder: Path, *, crowd: bool = False, **changes: Any) -> Recipe:
    path = painted_images(folder / "photos", crowd=crowd)
    data = {"format": "coco", "annotations": path, "images": str(folder / "photos"), "file_split": "train"}
    recipe = tiny_detection_recipe(folder, data=data, **changes)
    recipe.evaluate.split = recipe.evaluate.final_split = "train"
    return recipe


def prepared(recipe: Recipe) -> DetectionTask:
    task = build_task(recipe, new_accelerator())
    assert isinstance(task, DetectionTask)
    task.prepare()
    return task


def painted_box(levels: np.ndarray, channel: int) -> np.ndarray | None:
    """Where one channel of a picture (height, width, 3) in 0..1 shines alone: xyxy in pixels."""
    others = [other for other in range(3) if other != channel]
    ys, xs = np.nonzero((levels[..., channel] > 0.5) & (levels[..., others] < 0.5).all(axis=2))
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) if len(xs) else None


# -- inputs ----------------------------------------------------------------------------------------------------------


def test_boxes_follow_crops_and_flips(tmp_path: Path) -> None:
    """The slow twin finds each rectangle again in the pixels of the cropped, mirrored image."""
    recipe = painted_recipe(tmp_path)
    recipe.regions.crops = 0.3
    task = prepared(recipe)
    kept, lost, mirrored = 0, 0, set()
    for image in range(len(SIZES)):
        whole = np.asarray(Image.open(tmp_path / "photos" / f"{image}.png"))
        for epoch in range(12):
            seen, found = task.drawn_image(image, np.random.default_rng([epoch, image]))
            size = np.array([*seen.size, *seen.size])
            for channel in range(3):
                box = painted_box(np.asarray(seen) / 255, channel)
                share = (np.asarray(seen)[..., channel] > 0).sum() / (whole[..., channel] > 0).sum()
                rows = np.flatnonzero(found["object_ids"] == channel + 1)
                if box is None or share < 0.2:
                    assert len(rows) == 0
                    lost += 1
                elif share > 0.4:
                    assert found["boxes"][rows[0]] * size == pytest.approx(box, abs=1.0)
                    kept += 1
            centres = {int(i): box[0] for i, box in zip(found["object_ids"], found["boxes"], strict=True)}
            mirrored |= {centres[1] > centres[2]} if {1, 2} <= set(centres) else set()
    assert kept > 100 and lost > 10 and mirrored == {False, True}


def test_inputs_hold_each_images_boxes(tmp_path: Path) -> None:
    """Resized and padded images of several sizes: every label box frames its colour in the pixels."""
    task = prepared(painted_recipe(tmp_path))
    inputs = task.inputs(np.arange(len(SIZES)), epoch=3)
    mean, std = (torch.tensor(getattr(task.processor, name)).view(3, 1, 1) for name in ("image_mean", "image_std"))
    assert inputs["labels"].shape == (6, 3) and len({tuple(mask.sum(dim=(0,))) for mask in inputs["pixel_mask"]}) > 2
    for image in range(len(SIZES)):
        mask = inputs["pixel_mask"][image]
        height, width = int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())
        levels = (inputs["pixel_values"][image, :, :height, :width] * std + mean).permute(1, 2, 0).numpy()
        for label, box in zip(inputs["labels"][image].tolist(), inputs["true_boxes"][image].numpy(), strict=True):
            if label:
                expected = painted_box(levels, label - 1)
                assert box * [width, height, width, height] == pytest.approx(expected, abs=2.0)


def test_training_images_may_become_squares(tmp_path: Path) -> None:
    task = prepared(painted_recipe(tmp_path, train={"image_size": 48}))
    inputs = task.inputs(np.arange(3), epoch=0)
    assert inputs["pixel_values"].shape == (3, 3, 48, 48) and "pixel_mask" not in inputs
    assert task.processor.size.shortest_edge == 64  # what is saved and evaluated keeps the images' shapes


def test_training_images_may_take_the_shape_most_like_their_own(tmp_path: Path) -> None:
    """Wide, high and square images, each as large as its shape says; boxes frame their colours as before."""
    recipe: Any = painted_recipe(tmp_path, train={"image_shapes": [[48, 64], [64, 48], [56, 56]]})
    recipe.regions.crops = 1.0
    task = prepared(recipe)
    inputs = task.inputs(np.arange(len(SIZES)), epoch=0)
    seen = [tuple(int(mask.any(dim=d).sum()) for d in (1, 0)) for mask in inputs["pixel_mask"]]
    assert seen == [(48, 64), (64, 48), (48, 64), (56, 56), (64, 48), (48, 64)]
    mean, std = (torch.tensor(getattr(task.processor, name)).view(3, 1, 1) for name in ("image_mean", "image_std"))
    for image, (height, width) in enumerate(seen):
        levels = (inputs["pixel_values"][image, :, :height, :width] * std + mean).permute(1, 2, 0).numpy()
        for label, box in zip(inputs["labels"][image].tolist(), inputs["true_boxes"][image].numpy(), strict=True):
            assert box * [width, height, width, height] == pytest.approx(painted_box(levels, label - 1), abs=2.0)
    for shapes, size, message in (
        ([[48, 64]], 32, "train.image_size and train.image_shapes are both given"),
        ([[48]], 0, r"train.image_shapes is \[\[48\]\]: give lists of two"),
    ):
        recipe.train.image_shapes, recipe.train.image_size = shapes, size
        with pytest.raises(ValueError, match=message):
            check_recipe(recipe)


class NamesAsVectors:
    """In the place of a sentence encoder's vectors: one number of three is 1, by the colour that is named."""

    size = 3

    def __call__(self, phrases: Sequence[str]) -> torch.Tensor:
        return torch.eye(3)[[NAMES.index(phrase) for phrase in phrases]]


def say_names(task: DetectionTask, *, most: int) -> None:
    """Every box of the task's images gets its name as a phrase."""
    columns = ("object_ids", "boxes")
    task.train_rows = [  # type: ignore[assignment]
        row | {"regions": [{"phrase": NAMES[i - 1], "box": b} for i, b in zip(*(row[c] for c in columns), strict=True)]}
        for row in task.train_rows
    ]
    task.phrase_vectors = NamesAsVectors()  # type: ignore[assignment]
    task.recipe.phrases.an_image = most


def test_phrases_follow_crops_and_flips_as_their_boxes_do(tmp_path: Path) -> None:
    """The place of a phrase is the box of the same name wherever it is seen; at most so many, each in some epoch."""
    task = prepared(painted_recipe(tmp_path))
    task.recipe.regions.crops = 0.3
    say_names(task, most=2)
    said = set()
    for image in range(len(SIZES)):
        for epoch in range(8):
            _, found = task.drawn_image(image, np.random.default_rng([epoch, image]))
            box_of = {NAMES[i - 1]: box for i, box in zip(found["object_ids"], found["boxes"], strict=True)}
            assert len(found["phrases"]) <= 2 and set(found["phrases"]) <= set(box_of)
            for phrase, place in zip(found["phrases"], found["phrase_boxes"], strict=True):
                assert np.array_equal(place, box_of[phrase])
            said |= {(image, phrase) for phrase in found["phrases"]}
    assert len(said) == 3 * len(SIZES)
    task.recipe.regions.crops = 1.0
    task.recipe.phrases.an_image = 8
    task.train_rows[1]["regions"] = []
    inputs = task.inputs(np.arange(3), epoch=0)
    assert inputs["phrase_embeds"].shape == (3, 3, 3) and inputs["phrase_boxes"].shape == (3, 3, 4)
    assert inputs["phrase_embeds"].sum(dim=(1, 2)).tolist() == [3, 0, 3]  # one vector a phrase, zeros where none is
    for image in (0, 2):
        numbers = inputs["phrase_embeds"][image].argmax(dim=1)
        own = inputs["true_boxes"][image][[(inputs["labels"][image] == n + 1).nonzero().item() for n in numbers]]
        assert torch.equal(inputs["phrase_boxes"][image], own)


def test_only_phrases_that_are_learnt_keep_an_image_from_being_mirrored(tmp_path: Path) -> None:
    data = DetectionTask(painted_recipe(tmp_path), new_accelerator()).read("train")  # type: ignore[arg-type]
    said: list[Any] = [[]] * 2 + [[{"phrase": "a hand on the left", "box": [0.0, 0.0, 1.0, 1.0]}]] + [[]] * 3
    rows = data.rows.remove_columns(["regions"]).add_column("regions", said, feature=data.rows.features["regions"])
    data = replace(data, rows=rows)
    told = [list(tell_sides(shown_names(data, phrases=learnt))) for learnt in (True, False)]
    assert told == [[False, False, True, False, False, False], [False] * 6]


def test_a_detector_whose_phrases_are_not_learnt_keeps_their_map(tmp_path: Path) -> None:
    """Several processes would wait for its gradient."""
    recipe = painted_recipe(tmp_path)
    task = prepared(recipe)
    config = task.model.config
    config.phrase_embedding_size = 4
    UpDownDetector(config).save_pretrained(tmp_path / "start")
    task.processor.save_pretrained(tmp_path / "start")
    recipe.init_from, recipe.model = str(tmp_path / "start"), {}
    task = prepared(recipe)
    assert not any(weight.requires_grad for weight in task.model.heads.phrase_embedding.parameters())
    assert all(weight.requires_grad for weight in task.model.heads.object_score.parameters())


def test_draws_depend_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    recipe.regions.crops, recipe.train.image_size = 0.4, 64
    task = prepared(recipe)
    together, alone = task.inputs(np.array([4, 1, 5]), epoch=2), task.inputs(np.array([1]), epoch=2)
    count = int((alone["labels"][0] != 0).sum())
    assert torch.equal(together["pixel_values"][1:2], alone["pixel_values"])
    assert torch.equal(together["true_boxes"][1, :count], alone["true_boxes"][0, :count])
    assert together["draw_seeds"][1] == alone["draw_seeds"][0]
    again = task.inputs(np.array([1]), epoch=3)
    assert not torch.equal(again["pixel_values"], alone["pixel_values"])
    assert again["draw_seeds"][0] != alone["draw_seeds"][0]
    recipe.seed = 1
    assert not torch.equal(task.inputs(np.array([1]), epoch=2)["pixel_values"], alone["pixel_values"])


def test_labels_are_padded_and_crowds_marked(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path, crowd=True)
    recipe.regions.crops, recipe.regions.flips = 1.0, False
    inputs = prepared(recipe).inputs(np.array([0, 1]), epoch=0)
    assert inputs["labels"].tolist() == [[1, 2, -1]] * 2
    assert inputs["true_attributes"].tolist() == [[[1, 0], [0, 0], [1, 2]]] * 2
    few = {"boxes": np.array([[0.0, 0.0, 0.5, 1.0]]), "object_ids": np.array([7]), "attribute_ids": [[]]}
    none = {"boxes": np.zeros((0, 4)), "object_ids": np.array([]), "attribute_ids": []}
    two = {"boxes": np.full((2, 4), 0.25), "object_ids": np.array([1, -1]), "attribute_ids": [[3, 4, 5], []]}
    padded = pad_objects([few, none, two])
    assert padded["labels"].tolist() == [[7, 0], [0, 0], [1, -1]]
    assert padded["true_boxes"].tolist() == [
        [[0.0, 0.0, 0.5, 1.0], [0.0] * 4],
        [[0.0] * 4] * 2,
        [[0.25] * 4] * 2,
    ]
    assert padded["true_attributes"][2].tolist() == [[3, 4, 5], [0, 0, 0]]


def test_a_crop_keeps_what_is_seen_enough_of_and_every_crowd() -> None:
    row = {
        "boxes": [[0.0, 0.0, 0.4, 0.4], [0.1, 0.1, 0.3, 0.9], [0.0, 0.0, 1.0, 1.0], [0.6, 0.6, 0.9, 0.9]],
        "object_ids": [1, 2, 3, 4],
        "attribute_ids": [[1], [2], [], []],
        "other_object_ids": [[5], [], [], []],
        "crowd": [False, False, True, True],
    }
    found = objects_in(image_objects(row), np.array([0.0, 0.0, 0.2, 0.4]))
    assert found["object_ids"].tolist() == [1, -1]  # half of 1 is seen, 0.19 of 2, of the first crowd 0.08
    assert found["boxes"] == pytest.approx(np.array([[0.0, 0.0, 1.0, 1.0]] * 2))
    assert found["attribute_ids"] == [[1], []]
    found = objects_in(image_objects(row), np.array([0.2, 0.0, 1.0, 0.8]))
    assert found["object_ids"].tolist() == [1, 2, -1, -1]
    assert found["boxes"][1] == pytest.approx([0.0, 0.125, 0.125, 1.0])


def test_rare_classes_are_shown_more_often() -> None:
    """Gupta et al. 2019: sqrt(threshold / share), of an image's rarest class, its fraction by chance."""
    ids = [[1]] * 96 + [[1, 2]] * 3 + [[3, 1]]
    times = np.bincount(repeated_images(ids, threshold=0.09, seed=0), minlength=100)
    assert times[:96].tolist() == [1] * 96 and times[99] == 3  # sqrt(0.09 / 0.01) = 3
    assert set(times[96:99]) <= {1, 2}
    many = [[1]] * 9000 + [[2]] * 1000
    times = np.bincount(repeated_images(many, threshold=0.225, seed=1), minlength=10_000)
    assert times[:9000].tolist() == [1] * 9000 and times[9000:].mean() == pytest.approx(1.5, abs=0.05)
    assert repeated_images(many, threshold=0.0, seed=0).tolist() == list(range(10_000))
    assert repeated_images([[], [5, 5], []], threshold=0.9, seed=0).tolist() in ([0, 1, 2], [0, 1, 1, 2])
    assert (repeated_images(many, threshold=0.3, seed=1) == repeated_images(many, threshold=0.3, seed=1)).all()


def test_repeated_images_are_drawn_anew_each_time(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path, train={"image_size": 48})
    recipe.regions.crops = 0.4
    task = prepared(recipe)
    task.image_numbers = np.array([2, 2])
    pixels = task.inputs(np.array([0, 1]), epoch=0)["pixel_values"]
    assert not torch.equal(pixels[0], pixels[1])


# -- loss ------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_over_images_of_each_alone(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    task = prepared(recipe)
    task.model.train()
    numbers = np.arange(4)
    total, count, shown = task.loss(task.model, task.inputs(numbers, epoch=0))
    alone = [task.loss(task.model, task.inputs(numbers[i : i + 1], epoch=0)) for i in range(4)]
    assert count.item() == 4 and total.item() == pytest.approx(sum(part[0].item() for part in alone), rel=1e-4)
    for name in ("proposal_objectness", "proposal_box", "region_class", "region_box", "region_attributes"):
        assert shown[name] == pytest.approx(sum(part[2][name] for part in alone) / 4, rel=1e-3)


def test_the_loss_falls_on_drawn_scenes_and_objects_are_found(tmp_path: Path) -> None:
    rates = {"learning_rate": 2e-3, "region_learning_rate": 2e-3, "schedule": "constant"}
    recipe = tiny_detection_recipe(tmp_path, train=rates)
    recipe.regions.crops, recipe.regions.flips = 1.0, False
    accelerator = new_accelerator()
    task = build_task(recipe, accelerator)
    task.prepare()
    run = Run(recipe, task, accelerator)
    run.model.train()
    inputs = task.inputs(np.arange(4), epoch=0)
    before = task.model.eval()(**{name: inputs[name] for name in ("pixel_values", "pixel_mask")}, max_regions=40)
    run.model.train()
    losses = [run.train_step([inputs])["loss"] for _ in range(40)]
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    after = task.model.eval()(**{name: inputs[name] for name in ("pixel_values", "pixel_mask")}, max_regions=40)
    assert true_class_share(after, inputs["labels"]) > true_class_share(before, inputs["labels"])


def true_class_share(output: UpDownDetectorOutput, labels: torch.Tensor) -> float:
    """The share of the regions whose best class, background aside, is a class of their image."""
    classes = output.object_probs[..., 1:].argmax(dim=-1) + 1  # type: ignore[index]
    known = (classes[..., None] == labels[:, None]).any(dim=-1)
    return (known & output.region_mask).sum().item() / output.region_mask.sum().item()


# -- scores ----------------------------------------------------------------------------------------------------------


class Oracle:
    """In the place of a detector: what it finds on an image depends on the image's mean alone."""

    def __init__(self, config: Any):
        self.config = config

    def eval(self) -> "Oracle":
        return self

    def __call__(
        self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, boxes: torch.Tensor | None = None, **options: Any
    ) -> UpDownDetectorOutput:
        """Squares as large as a scene's shapes, the last of them padding by chance; or what is said of given boxes."""
        images = len(pixel_values)
        levels = [pixel_values[i][:, pixel_mask[i]].mean().item() for i in range(images)]
        found = boxes if boxes is not None else torch.zeros(images, 90, 4)
        count = found.shape[1]
        mask = torch.ones(images, count, dtype=torch.bool)
        probs = torch.zeros(images, count, self.config.num_attributes + 1)
        ids, scores = torch.ones(images, count, dtype=torch.long), torch.zeros(images, count)
        for i, level in enumerate(levels):
            draw = np.random.default_rng(int(1e6 * abs(level)))
            probs[i] = torch.from_numpy(draw.dirichlet(np.ones(probs.shape[-1]), count))
            if boxes is None:
                assert options == {"min_regions": 1, "max_regions": 100, "score_threshold": 0.01, "grid_sizes": []}
                side = draw.choice(list(SIDES.values()), (count, 1))
                corner = draw.uniform(0, 1 - side, (count, 2))
                found[i] = torch.from_numpy(np.concatenate([corner, corner + side], axis=1))
                mask[i, -1] = draw.random() < 0.5
            ids[i] = torch.from_numpy(draw.integers(1, self.config.num_objects + 1, count))
            scores[i] = torch.from_numpy(draw.random(count))
        return UpDownDetectorOutput(
            region_mask=mask, pred_boxes=found, region_scores=scores, object_ids=ids, attribute_probs=probs
        )


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_scores_are_those_of_the_metrics_on_each_images_detections(tmp_path: Path, batch_size: int) -> None:
    recipe = tiny_detection_recipe(tmp_path)
    recipe.evaluate.batch_size = batch_size
    task = prepared(recipe)
    oracle = Oracle(task.model.config)
    scored = task.score(oracle, split="val")
    rows, truth = task.evaluation_rows("val")
    found, described = [], []
    for row in rows:
        inputs = task.processor(row["image"]["bytes"], return_tensors="pt")
        output: Any = oracle(**inputs, min_regions=1, max_regions=100, score_threshold=0.01, grid_sizes=[])
        kept = output.region_mask[0]
        found.append(
            {
                "boxes": output.pred_boxes[0][kept],
                "scores": output.region_scores[0][kept],
                "object_ids": output.object_ids[0][kept],
            }
        )
        true = torch.tensor(row["boxes"])[None]
        of_true: Any = oracle(**inputs, boxes=true)
        described.append({"boxes": true[0], "attribute_probs": of_true.attribute_probs[0]})
    config = task.model.config
    expected = detection_scores(found, truth, num_classes=config.num_objects)
    assert expected["mar_100"] > 0
    for name in ("map", "map_50", "mar_10", "map_50_x100"):
        assert scored.metrics[name] == pytest.approx(expected[name])
    of_attributes = attribute_scores(described, truth, num_attributes=config.num_attributes)
    assert scored.metrics["attribute_mean_ap"] == pytest.approx(of_attributes["mean_ap"]) and of_attributes["mean_ap"]
    assert [part["image_id"] for part in scored.predictions] == rows["image_id"][:]
    assert scored.predictions[3]["object_ids"] == found[3]["object_ids"].tolist()
    assert np.allclose(scored.predictions[3]["boxes"], found[3]["boxes"], atol=1e-5)
    few = task.score(oracle, split="val", max_images=3)
    assert few.predictions == scored.predictions[:3]


@torch.no_grad()
def test_names_that_cover_others_are_scored_by_the_sum_of_their_probabilities(tmp_path: Path) -> None:
    """Class 1 covers 2: a box whose probability is split over both is a detection of class 1 at their sum."""
    task = prepared(tiny_detection_recipe(tmp_path))
    task.model.eval()
    task.evaluation_rows("val")
    task.covered["val"] = {1: [2]}
    rows, truth = task.evaluation_rows("val")
    kept = [part | {"object_probs": None} for part in task.detected(task.model, rows)]
    with_probs = list(task.detected(task.model, rows, probs=True))
    assert [part["boxes"].tolist() for part in kept] == [part["boxes"].tolist() for part in with_probs]
    options: dict[str, Any] = {"num_classes": task.model.config.num_objects, "covered": {1: [2]}}
    given = [{name: part[name] for name in ("boxes", "object_probs")} for part in with_probs]
    expected = detection_scores(given, truth, **options)
    assert task.score(task.model, split="val").metrics["map_50_x100"] == expected["map_50_x100"]


def test_images_without_any_box_are_scored_too(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    path = Path(recipe.data["annotations"])
    content = json.loads(path.read_text())
    content["annotations"] = [note for note in content["annotations"] if note["image_id"] != 2]
    path.write_text(json.dumps(content))
    task = prepared(recipe)
    scored = task.score(task.model, split="train")
    assert len(scored.predictions) == 6 and 0 <= scored.metrics["map_50"] <= 1
    inputs = task.inputs(np.array([2]), epoch=0)
    assert inputs["labels"].tolist() == [[0]]
    total, _, _ = task.loss(task.model.train(), inputs)
    assert torch.isfinite(total)


def test_a_recipe_trains_and_is_evaluated(tmp_path: Path) -> None:
    recipe = tiny_detection_recipe(tmp_path, train={"epochs": 1, "repeat_threshold": 0.9}, data_name="drawn scenes")
    trained = train_here(recipe)
    assert len(log_of(recipe, "region_class")) == len(log_of(recipe, "loss")) > 6  # rare shapes come again
    best = tmp_path / "run" / "best"
    evaluation = json.loads((best / "evaluation.json").read_text())
    assert evaluation["task"] == "object-detection" and evaluation["metrics"] == trained
    assert evaluation["dataset"] == {"name": "drawn scenes", "type": "scenes", "split": "test", "num_photos": 8}
    assert {"map_x100", "map_50_x100", "attribute_mean_ap_x100"} <= set(trained)
    predictions = json.loads((best / "predictions.json").read_text())
    assert len(predictions) == 8 and set(predictions[0]) == {"image_id", "boxes", "scores", "object_ids"}
    detector, processor = UpDownDetector.from_pretrained(best), UpDownImageProcessor.from_pretrained(best)
    assert detector.config.id2label[1] == "circle" and detector.config.attribute_id2label[0] == "no attribute"
    assert processor.region_selection() == {"min_regions": 4, "max_regions": 12, "score_threshold": 0.2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict()))
    again = evaluate_recipe(tmp_path / "recipe.yaml")
    assert again["metrics"] == pytest.approx(trained) and again["command"].endswith("recipe.yaml --split test")
    other = evaluate_recipe(tmp_path / "recipe.yaml", model=str(best), split="val")
    assert other["dataset"]["split"] == "val" and other["metrics"] != trained
    with pytest.raises(ValueError, match="the task detection has no metrics that need Java: leave --java out"):
        evaluate_recipe(tmp_path / "recipe.yaml", java=True)
    with pytest.raises(ValueError, match="is for a recipe of captioning, prefix_lm, vqa, and .* task detection"):
        evaluate_recipe(tmp_path / "recipe.yaml", predictions=best / "predictions.json")


def test_a_saved_detector_goes_on(tmp_path: Path) -> None:
    recipe = tiny_detection_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    recipe.init_from, recipe.output = str(tmp_path / "run" / "best"), str(tmp_path / "tuned")
    recipe.model = {"frozen_stages": 4, "max_regions": 9}
    recipe.regions.processor = {"size": {"shortest_edge": 40, "longest_edge": 80}}
    task = prepared(recipe)
    assert dict(task.processor.size) == {"shortest_edge": 40, "longest_edge": 80}
    trained = {name for name, weight in task.model.named_parameters() if weight.requires_grad}
    assert not any(".backbone.layer1" in name or ".backbone.layer3" in name for name in trained)
    assert any(".backbone.layer4" in name for name in trained) and any(name.startswith("heads.") for name in trained)
    recipe.model = {"head_size": 99}
    with pytest.raises(ValueError, match="head_size is 99, but the model of init_from has 32: leave it out"):
        prepared(recipe)


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_classes_that_do_not_fit_the_model_are_named(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    folder = tmp_path / "detector"
    tiny.tiny_pyramid_detector(num_objects=5, num_attributes=2).save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    recipe.init_from, recipe.model = str(folder), {}
    sentence = (
        r"the classes of the split 'train' \(3\) are not those of the model \(5\), number 1 is 'red thing' and "
        "'object 1': give the same list to both"
    )
    with pytest.raises(ValueError, match=sentence):
        prepared(recipe)
    names = dict(enumerate(["background", *NAMES]))
    tiny.tiny_pyramid_detector(id2label=names, num_attributes=2).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"the attributes .* number 1 is 'wide' and 'attribute 1'"):
        prepared(recipe)
    words = {0: "no attribute", 1: "wide", 2: "bright"}
    tiny.tiny_pyramid_detector(id2label=names, attribute_id2label=words).save_pretrained(folder)
    assert prepared(recipe).num_rows == 6


def test_data_without_attributes_fits_a_detector_that_knows_some(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    path = Path(recipe.data["annotations"])
    content = json.loads(path.read_text())
    content.pop("attributes")
    content["annotations"] = [{**note, "attributes": []} for note in content["annotations"]]
    path.write_text(json.dumps(content))
    folder = tmp_path / "detector"
    tiny.tiny_pyramid_detector(id2label=dict(enumerate(["background", *NAMES]))).save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    recipe.init_from, recipe.model = str(folder), {}
    task = prepared(recipe)
    total, _, shown = task.loss(task.model.train(), task.inputs(np.arange(3), epoch=0))
    assert torch.isfinite(total) and shown["region_attributes"] == 0
    assert not any(name.startswith("attribute") for name in task.score(task.model, split="train").metrics)


def test_what_a_detection_recipe_cannot_be_run_with(tmp_path: Path) -> None:
    for section, values, sentence in (
        ("regions", {"store": "regions"}, "a detector is trained on pixels: leave regions.store empty"),
        ("regions", {"source": {"backbone": "resnet18"}}, "fields stand in model: leave regions.source empty"),
        ("regions", {"pretrained": "detector"}, "goes on from init_from: leave regions.pretrained empty"),
        (
            "evaluate",
            {"metric": "cider_d"},
            "the task detection takes map, map_50, map_75",
        ),
        ("evaluate", {"split": "dev"}, "data.num_scenes names no split 'dev'; it has train, val, test"),
    ):
        recipe = tiny_detection_recipe(tmp_path)
        for name, value in values.items():
            setattr(getattr(recipe, section), name, value)
        with pytest.raises(ValueError, match=sentence):
            prepared(recipe)
    recipe = tiny_detection_recipe(tmp_path)
    recipe.model = {**recipe.model, "head_sise": 3}
    with pytest.raises(ValueError, match="unknown key 'head_sise' in model; did you mean 'head_size'"):
        prepared(recipe)
    recipe.model = config_fields(tiny.tiny_pyramid_config(head_size=16))
    with pytest.raises(ValueError, match="region_feature_size is 128: set it to 112"):
        prepared(recipe)
    recipe.init_from = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no model folder .*nowhere: train the recipe that writes it first"):
        prepared(recipe)


def test_a_folder_of_another_model_is_no_detector(tmp_path: Path) -> None:
    recipe = tiny_detection_recipe(tmp_path)
    recipe.init_from = str(tiny.save_tiny_captioner(tmp_path / "captioner"))
    with pytest.raises(
        ValueError, match="captioner holds a model of type 'updown_captioning' .* UpDownDetector .* is w"
    ):
        prepared(recipe)


def test_data_without_a_box_or_with_a_broken_image(tmp_path: Path) -> None:
    recipe = painted_recipe(tmp_path)
    path = tmp_path / "photos" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    task = prepared(recipe)
    with pytest.raises(ValueError, match=r"image '1' cannot be read \(.*1\.png.*\): take it out of the data"):
        task.inputs(np.array([0, 1]), epoch=0)
    with pytest.raises(ValueError, match=r"image '1' cannot be read"):
        task.score(task.model, split="train")
    annotations = Path(recipe.data["annotations"])
    content = json.loads(annotations.read_text())
    annotations.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match="the split 'train' has no box"):
        prepared(recipe)
