"""Masks in the detection task: labels of rows, crops and mirrors, the head alone, scores, and bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownImageProcessor, paste_masks
from tests.tiny import tiny_pyramid_config, tiny_pyramid_detector
from tests.training.tiny_run import config_fields, new_accelerator, tiny_detection_recipe, train_here
from training.data.polygons import rasterise
from training.metrics.detection.masks import encode_masks
from training.scenes.boxes import read_scene_boxes
from training.tasks import build_task
from training.tasks.detection_masks import (
    add_mask_head,
    mask_labels,
    mask_metrics,
    masked_rows,
    mirrored_objects,
    pasted,
    prepare_masks,
)
from training.tasks.detection_objects import image_objects, objects_in

HEAD = {"mask_head": True, "mask_size": 6, "mask_hidden_size": 4, "mask_convs": 1}
MODEL = config_fields(tiny_pyramid_config(region_batch_size=16, rpn_batch_size=32)) | HEAD
DATA = read_scene_boxes(6, seed=3, image_size=64)
ROWS = DATA.rows.remove_columns(["image"])


def save_tiny_detector(folder: Path) -> None:
    tiny_pyramid_detector().save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)


def without_masks():
    return ROWS.map(lambda row: {"polygons": [[] for _ in row["boxes"]]}, features=ROWS.features)


def test_labels_are_the_outlines_inside_the_boxes() -> None:
    objects = [image_objects(row) for row in ROWS]
    objects[1]["polygons"][0], objects[2]["object_ids"][0] = [], -1
    labels = mask_labels(objects, most=9, size=12)
    assert labels.dtype == torch.int8 and labels.shape == (6, 9, 12, 12)
    for place, part in enumerate(objects):
        for row, (box, own) in enumerate(zip(part["boxes"], part["polygons"], strict=True)):
            if (place, row) in ((1, 0), (2, 0)):
                assert (labels[place, row] == -1).all(), "no mask is known, or it is a crowd's"
            else:
                assert np.array_equal(labels[place, row].numpy(), rasterise(own, height=12, width=12, box=box))
        assert (labels[place, len(part["boxes"]) :] == -1).all()
    areas = {name: [] for name in DATA.object_names}
    for part, masks in zip(objects, labels, strict=True):
        for number, mask in zip(part["object_ids"], masks, strict=False):
            if number > 0 and (mask >= 0).all():
                areas[DATA.object_names[number - 1]].append(mask.float().mean().item())
    means = {name: np.mean(own) for name, own in areas.items() if own}
    assert all(
        abs(means[name] - share) < 0.06 for name, share in {"square": 1, "circle": 0.785}.items() if name in means
    )


def test_masks_go_with_the_image_when_it_is_cropped_or_mirrored() -> None:
    part = np.array([0.1, 0.2, 0.9, 0.8])
    for row in ROWS:
        objects = image_objects(row)
        whole = np.stack([rasterise(own, height=60, width=60) for own in objects["polygons"]])
        turned = mirrored_objects(objects)["polygons"]
        assert all(
            np.array_equal(rasterise(own, height=60, width=60), mask[:, ::-1])
            for own, mask in zip(turned, whole, strict=True)
        )
        shown = objects_in(objects, part)
        kept = [i for i, own in enumerate(objects["object_ids"]) if own in shown["object_ids"]]
        assert len(shown["polygons"]) == len(shown["boxes"]) <= len(kept)
        for own in shown["polygons"]:
            mask = rasterise(own, height=36, width=48)
            assert any(np.array_equal(mask, one[12:48, 6:54]) for one in whole)


def test_the_head_alone_or_beside_the_rest_or_not_at_all() -> None:
    model = tiny_pyramid_detector()
    add_mask_head(model, {"num_attributes": 5})
    assert model.masks is None, "the recipe asks for none"
    assert prepare_masks(model, ROWS, objective="cross_entropy", asked=False) == 0
    with pytest.raises(ValueError, match="set model.mask_head to true"):
        prepare_masks(model, ROWS, objective="masks", asked=False)
    with pytest.raises(ValueError, match="model: .*mask_size"):
        add_mask_head(tiny_pyramid_detector(), HEAD | {"mask_size": "large"})
    add_mask_head(model, HEAD | {"num_attributes": 5})
    assert model.config.mask_size == 6 and model.masks.deconv.out_channels == 4
    model.unfreeze()
    assert prepare_masks(model, ROWS, objective="cross_entropy", asked=True) == 12
    assert model.heads.object_score.weight.requires_grad and not model.trains_masks_alone
    assert prepare_masks(model, ROWS, objective="masks", asked=True) == 12 and model.trains_masks_alone
    model.unfreeze()
    empty = without_masks()
    assert masked_rows(empty) == [] and masked_rows(ROWS) == list(range(6))
    assert prepare_masks(model, empty, objective="cross_entropy", asked=False) == 0
    assert not model.masks.score.weight.requires_grad and model.heads.object_score.weight.requires_grad
    for changes in ({"objective": "masks", "asked": False}, {"objective": "cross_entropy", "asked": True}):
        with pytest.raises(ValueError, match="no object of the data has one: set masks to true"):
            prepare_masks(model, empty, **changes)


def test_figures_of_perfect_masks() -> None:
    """The true masks themselves, but for the grid of 28 cells that they went through."""
    found = []
    for row in ROWS:
        boxes = np.array(row["boxes"], dtype=np.float32)
        masks = [rasterise(own, height=28, width=28, box=box) for own, box in zip(row["polygons"], boxes, strict=True)]
        made = pasted(torch.tensor(np.stack(masks)), torch.tensor(boxes), row)
        scores = np.linspace(0.9, 0.5, len(boxes))
        shown = {"masks": made, "mask_boxes": boxes, "true_masks": made, "object_ids": row["object_ids"]}
        found.append({"image_id": row["image_id"], "scores": scores, **shown})
    metrics = mask_metrics(found, ROWS, num_classes=len(DATA.object_names))
    assert metrics["mask_iou"] == metrics["mask_iou_given"] > 0.9 and metrics["mask_map_50"] == pytest.approx(
        1, abs=1e-6
    )
    assert 0.4 < metrics["mask_iou_box"] < 0.95 and metrics["mask_iou_x100"] == pytest.approx(100 * metrics["mask_iou"])
    boxes_alone = mask_metrics(found, ROWS, num_classes=0)
    assert "mask_map" not in boxes_alone and boxes_alone["mask_iou"] == metrics["mask_iou"]
    assert mask_metrics(found, without_masks(), num_classes=0)["mask_iou_x100"] == -1


def test_pasted_masks_have_the_size_of_their_row() -> None:
    made = pasted(torch.ones(1, 2, 2), torch.tensor([[0.0, 0.0, 1.0, 0.5]]), {"width": 6, "height": 4})
    expected = np.zeros((1, 4, 6), dtype=bool)
    expected[:, :2] = True
    assert made == encode_masks(expected)


def test_cocos_polygons_are_read_when_asked(tmp_path: Path) -> None:
    """In 0..1 of the image; those of a crowd and run lengths are not known; what is none is named with its record."""
    import json

    from training.data.boxes.coco import read_coco_instances

    corners = [10, 5, 50, 5, 50, 25]
    notes = [
        {"segmentation": [corners]},
        {"segmentation": {"size": [50, 100], "counts": [1, 4]}, "iscrowd": 1},
        {"segmentation": {"size": [50, 100], "counts": [1, 4]}},
        {"segmentation": []},
        {},
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 50}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 60, 30], **note} for note in notes],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    (own, *others) = read_coco_instances(path, masks=True).rows[0]["polygons"]
    assert np.allclose(own, [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]) and others == [[], [], [], []]
    assert read_coco_instances(path).rows[0]["polygons"] == [[]] * 5
    content["annotations"][4]["segmentation"] = [[1, 2, 3]]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="instances.json: record 4 of 'annotations': .* is no polygon"):
        read_coco_instances(path, masks=True)


def test_true_masks_lie_on_the_shapes_of_the_images_as_they_are_shown(tmp_path: Path) -> None:
    """Cropped and mirrored; a shape is far from the light ground, but for the ink of words."""
    task = build_task(tiny_detection_recipe(tmp_path, model=MODEL), new_accelerator())
    task.prepare()
    assert task.mask_cells == 12 and task.model.masks is not None
    inputs = task.inputs(np.arange(8), epoch=1)
    overlaps = []
    for place in range(8):
        shown = inputs["pixel_mask"][place] if "pixel_mask" in inputs else torch.ones(inputs["pixel_values"].shape[-2:])
        height, width = int(shown.any(dim=1).sum()), int(shown.any(dim=0).sum())
        pixels = inputs["pixel_values"][place, :, :height, :width]
        real = inputs["labels"][place] > 0
        masks, boxes = inputs["true_masks"][place][real].float(), inputs["true_boxes"][place][real]
        drawn = (pixels.amax(dim=(1, 2), keepdim=True) - pixels).amax(dim=0) > 0.5 * (pixels.max() - pixels.min())
        marked = paste_masks(masks, boxes, height=height, width=width).any(dim=0)
        if marked.any():
            overlaps.append(float((drawn & marked).sum() / marked.sum()))
    assert len(overlaps) >= 6 and np.mean(overlaps) > 0.8


def test_the_head_alone_learns_from_objects_of_other_names(tmp_path: Path) -> None:
    """A saved detector of other classes gets a head; only masks are scored, and only the head changes."""
    save_tiny_detector(tmp_path / "start")
    recipe = tiny_detection_recipe(tmp_path, model=HEAD, train={"objective": "masks", "epochs": 1, "max_steps": 2})
    recipe.init_from, recipe.evaluate.metric = str(tmp_path / "start"), "mask_iou"
    metrics = train_here(recipe)
    assert {"mask_iou_x100", "mask_iou_given_x100", "mask_iou_box_x100"} <= metrics.keys() and "map_x100" not in metrics
    start, end = (load_file(tmp_path / f"{name}/model.safetensors") for name in ("start", "run/best"))
    assert {name for name in end if name not in start} == {name for name in end if name.startswith("masks.")}
    assert all(torch.equal(end[name], weight) for name, weight in start.items())
    recipe.train.objective = "cross_entropy"
    with pytest.raises(ValueError, match="the classes of the split 'train'"):
        build_task(recipe, new_accelerator()).prepare()


def test_a_metric_of_masks_wants_a_head(tmp_path: Path) -> None:
    recipe = tiny_detection_recipe(tmp_path)
    recipe.evaluate.metric = "mask_iou"
    with pytest.raises(ValueError, match="the detector makes no masks: set model.mask_head to true"):
        build_task(recipe, new_accelerator()).prepare()
