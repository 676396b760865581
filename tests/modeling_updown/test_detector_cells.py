"""Cells beside a detector's boxes: each is what the same box is when given, they come first, and change no box.

What is joined of the last map is compared with a loop over the map's cells.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from modeling_updown import UpDownDetector, UpDownImageProcessor, named_regions
from modeling_updown.boxes_updown import grid_boxes, pairwise_iou
from modeling_updown.modeling_detector import cells_of_grids
from tests.tiny import (
    noise_image,
    tiny_captioner,
    tiny_detector,
    tiny_detector_config,
    tiny_pyramid_config,
    tiny_pyramid_detector,
)

from .test_detector import BOX, CLOSE, check_same, images, padded

GRIDS, NUM_CELLS = [1, 3], 10
HEAD = 32  # of the pyramid detector's features, before what is joined
MAKERS: dict[str, Callable[..., UpDownDetector]] = {"caffe": tiny_detector, "pyramid": tiny_pyramid_detector}


@pytest.fixture(scope="module")
def models() -> dict[str, UpDownDetector]:
    return {name: make(grid_sizes=GRIDS) for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest, models: dict[str, UpDownDetector]) -> UpDownDetector:
    return models[request.param]


@pytest.fixture(scope="module")
def pyramid(models: dict[str, UpDownDetector]) -> UpDownDetector:
    return models["pyramid"]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_cells_stand_before_the_regions_and_change_none(model):
    image = noise_image(96, 128)
    output, boxes_alone = model(image), model(image, grid_sizes=[])
    assert boxes_alone.cell_mask is None and output.region_mask.shape[1] == NUM_CELLS + boxes_alone.region_mask.shape[1]
    assert output.cell_mask.tolist() == [[True] * NUM_CELLS + [False] * boxes_alone.region_mask.shape[1]]
    assert model.config.num_cells == NUM_CELLS
    for name, expected in boxes_alone.items():
        found = output[name][:, NUM_CELLS:]
        if expected.dtype in (torch.int64, torch.bool):
            assert torch.equal(found, expected), name
        else:
            torch.testing.assert_close(found, expected, **(BOX if "boxes" in name else CLOSE), msg=name)


def test_a_cell_is_described_as_a_given_box_is(model):
    """Its feature but for what is joined, and then score, class and attribute as the heads read them off it."""
    image, cells = noise_image(96, 128), cells_of_grids(GRIDS)[None]
    output, given = model(image), model(image, boxes=cells)
    assert given.cell_mask is None and given.region_mask.shape[1] == NUM_CELLS
    torch.testing.assert_close(output.region_boxes[:, :NUM_CELLS], cells, **BOX)  # unmoved, also where others move
    width = HEAD if model.config.joined_features else None
    features = output.region_features[:, :NUM_CELLS]
    torch.testing.assert_close(features[..., :width], given.region_features[..., :width], **CLOSE)
    if width is None:
        for name in ("logits", "object_probs", "attribute_probs", "pred_boxes", "object_ids", "attribute_ids"):
            torch.testing.assert_close(output[name][:, :NUM_CELLS], given[name], **CLOSE, msg=name)
    logits, _ = model.heads(features[0])
    torch.testing.assert_close(output.logits[0, :NUM_CELLS], logits, **CLOSE)
    scores, best = logits.softmax(dim=1)[:, 1:].max(dim=1)
    torch.testing.assert_close(output.region_scores[0, :NUM_CELLS], scores, **CLOSE)
    assert torch.equal(output.object_ids[0, :NUM_CELLS], best + 1)
    attributes = model.heads.attributes(features[0], logits.argmax(dim=1)).softmax(dim=1)
    torch.testing.assert_close(output.attribute_probs[0, :NUM_CELLS], attributes, **CLOSE)


def slow_mean(feature_map: torch.Tensor, box: torch.Tensor, *, stride: int) -> torch.Tensor:
    """The mean of a map (D, h, w) over a pixel box: each of its cells by the area it shares with the box."""
    left, top, right, bottom = (box.double() / stride).tolist()
    total, area = torch.zeros(len(feature_map), dtype=torch.float64), 0.0
    for row in range(feature_map.shape[1]):
        for column in range(feature_map.shape[2]):
            height = min(bottom, row + 1) - max(top, row)
            width = min(right, column + 1) - max(left, column)
            if height > 0 and width > 0:
                total += height * width * feature_map[:, row, column].double()
                area += height * width
    return (total / area).float()


@pytest.mark.parametrize("size", [(96, 128), (100, 150), (224, 320), (20, 40)])
def test_joined_features_are_the_mean_of_the_cells_part_of_the_map(pyramid, size):
    image, grids = noise_image(*size), [1, 2, 7]
    output = pyramid(image, grid_sizes=grids)
    feature_map = pyramid.feature_maps(image).last[0]
    cells = cells_of_grids(grids) * torch.tensor([size[1], size[0], size[1], size[0]])
    expected = torch.stack([slow_mean(feature_map, cell, stride=32) for cell in cells])
    torch.testing.assert_close(output.region_features[0, : len(cells), HEAD:], expected, atol=1e-4, rtol=1e-4)


def test_joined_features_are_a_grids_where_the_map_divides(pyramid):
    """As `UpDownGrid` averages its map; of a given box the mean is over 6 x 6 points."""
    image = noise_image(224, 448)  # a map of 7 x 14
    feature_map = pyramid.feature_maps(image).last
    for side in (1, 7):
        expected = F.adaptive_avg_pool2d(feature_map, side)[0].flatten(1).T
        output = pyramid(image, grid_sizes=[side])
        torch.testing.assert_close(output.region_features[0, : side**2, HEAD:], expected, atol=1e-4, rtol=1e-4)
    whole = pyramid(image, boxes=[[[0, 0, 1, 1]]]).region_features[0, :, HEAD:]
    assert (whole - feature_map.mean(dim=(2, 3))).norm() > 0.02 * whole.norm()


def test_batch_is_each_image_alone(model):
    batch = model(**padded(images()), score_threshold=0.5)
    for row, image in enumerate(images()):
        check_same(batch, row, model(image, score_threshold=0.5))
    assert batch.cell_mask.sum(dim=1).tolist() == [NUM_CELLS] * len(images())
    assert len(set(batch.region_mask.sum(dim=1).tolist())) > 1


def test_cells_are_not_counted_among_the_regions(model):
    image = noise_image(96, 128)
    for least, most in ((1, 5), (5, 5), (12, 12)):
        output = model(image, min_regions=least, max_regions=most, score_threshold=0.0)
        assert output.region_mask.shape[1] == NUM_CELLS + most
    assert model(image, grid_sizes=[2], min_regions=3, max_regions=3).cell_mask[0].sum() == 4


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_tiny_images_have_all_cells(model, size):
    output = model(noise_image(*size))
    assert output.cell_mask.sum() == NUM_CELLS and output.region_mask.all()
    for name, value in output.items():
        assert torch.isfinite(value).all(), name
    torch.testing.assert_close(output.region_boxes[0, :NUM_CELLS], cells_of_grids(GRIDS), **BOX)


def test_half_precision(pyramid):
    half = UpDownDetector(pyramid.config).eval()
    half.load_state_dict(pyramid.state_dict())
    image = noise_image(96, 128)
    found, expected = half.bfloat16()(image.bfloat16()), pyramid(image)
    error = (found.region_features - expected.region_features)[:, :NUM_CELLS].norm(dim=-1)
    assert found.region_features.dtype == torch.bfloat16
    assert (error <= 0.05 * expected.region_features[:, :NUM_CELLS].norm(dim=-1)).all()


def test_detections_are_named_without_cells(model):
    """Neither the object-detection pipeline's boxes nor the names to draw hold a cell."""
    pixels = torch.cat([noise_image(96, 128, seed=0), noise_image(96, 128, seed=1)])
    output, boxes_alone = model(pixels), model(pixels, grid_sizes=[])
    processor = UpDownImageProcessor()
    for found, expected in zip(
        processor.post_process_object_detection(output),
        processor.post_process_object_detection(boxes_alone),
        strict=True,
    ):
        assert torch.equal(found["labels"], expected["labels"])
        torch.testing.assert_close(found["boxes"], expected["boxes"], **BOX)
    named, expected_names = named_regions(output, model.config), named_regions(boxes_alone, model.config)
    assert [[region["label"] for region in image] for image in named] == [
        [region["label"] for region in image] for image in expected_names
    ]


def test_a_model_reads_cells_and_boxes(models):
    """From pixels, and from what the detector returned: the same words, of 10 cells and 4 to 12 boxes."""
    detector = models["pyramid"]
    captioner = tiny_captioner(vision_config=detector.config)
    captioner.region_source.load_state_dict(detector.state_dict())
    pixels = torch.cat([noise_image(96, 128, seed=0), noise_image(96, 128, seed=1)])
    regions = captioner.get_regions(pixels)
    assert regions.region_mask[:, :NUM_CELLS].all() and regions.region_mask.shape[1] == NUM_CELLS + 12
    words = captioner.generate(pixel_values=pixels, max_new_tokens=6)
    assert torch.equal(captioner.generate(**detector(pixels), max_new_tokens=6), words)
    read = captioner(pixel_values=pixels, input_ids=words, output_attentions=True)
    assert read.attentions[0].shape[-1] == NUM_CELLS + 12
    boxes_alone = captioner(**detector(pixels, grid_sizes=[]), input_ids=words)
    assert (read.logits - boxes_alone.logits).abs().max() > 0.01


def test_training_does_not_see_cells(model):
    labels, boxes = torch.tensor([[1, 2]]), torch.tensor([[[0.1, 0.1, 0.5, 0.6], [0.3, 0.2, 0.9, 0.9]]])
    given = {"pixel_values": noise_image(96, 128), "labels": labels, "true_boxes": boxes}
    seeds = torch.tensor([3])
    with_cells, without = (model(**given, draw_seeds=seeds, grid_sizes=sides) for sides in (GRIDS, []))
    assert torch.equal(with_cells.loss, without.loss)


def test_saved_and_loaded(pyramid, tmp_path: Path):
    pyramid.save_pretrained(tmp_path)
    loaded = UpDownDetector.from_pretrained(tmp_path)
    assert (loaded.config.grid_sizes, loaded.config.num_cells) == (GRIDS, NUM_CELLS)
    check_same(loaded(noise_image(96, 128)), 0, pyramid(noise_image(96, 128)))


def test_cells_of_grids_are_in_reading_order():
    torch.testing.assert_close(
        cells_of_grids([1, 2, 1]), torch.cat([grid_boxes(1, 1), grid_boxes(2, 2), grid_boxes(1, 1)])
    )
    assert cells_of_grids(None).shape == (0, 4)


@pytest.mark.parametrize("sides", [[0], [7, -1], [65], [True]])
def test_mistakes(pyramid, sides: list[Any]):
    message = r"grid_sizes=\[.*\] must be cells a side of each grid, 1 to 64, such as \[1, 7\]"
    with pytest.raises(ValueError, match=message):
        pyramid(noise_image(64, 64), grid_sizes=sides)
    if sides != [True]:
        with pytest.raises(ValueError, match=message):
            tiny_detector_config(grid_sizes=sides)


def test_cells_beside_given_boxes_are_refused(pyramid):
    """Those of the call, which would be left out; boxes alone are the regions whatever the config's cells."""
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 1.0]]])
    with pytest.raises(ValueError, match="boxes alone are the regions: leave grid_sizes out"):
        pyramid(noise_image(64, 64), boxes=boxes, grid_sizes=[2])
    assert pyramid(noise_image(64, 64), boxes=boxes, grid_sizes=[]).region_mask.shape == (1, 1)


# ---- slivers and near-duplicates


def overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """The IoU of every two of an image's boxes (1, R, 4): (R * (R - 1) / 2,)."""
    return pairwise_iou(boxes[0], boxes[0])[torch.triu(torch.ones(2 * (boxes.shape[1],)), diagonal=1).bool()]


def tidied(**changes: Any) -> UpDownDetector:
    """The pyramid detector with other fields, its weights drawn as without them."""
    plain = tiny_pyramid_detector()
    model = UpDownDetector(tiny_pyramid_config(**changes)).eval()
    model.load_state_dict(plain.state_dict())
    return model


@pytest.mark.parametrize("per_class", [True, False])
def test_near_duplicates_go_whatever_their_classes(per_class):
    """Also the regressed boxes of different classes; as many regions are left where there are enough boxes."""
    many = {"min_regions": 8, "max_regions": 12, "score_threshold": 0.0}
    image = noise_image(96, 128)
    assert overlaps(tidied(nms_per_class=per_class)(image, **many).region_boxes).max() > 0.3
    output = tidied(duplicate_iou=0.2, nms_per_class=per_class)(image, **many)
    assert overlaps(output.region_boxes).max() <= 0.2 + 1e-4 and output.region_mask.shape[1] == 12
    assert torch.equal(output.region_boxes, output.pred_boxes)
    scores = output.region_scores[0].tolist()
    assert scores == sorted(scores, reverse=True)
    assert torch.equal(output.object_ids[0], output.object_probs[0, :, 1:].argmax(dim=1) + 1)


def test_one_suppression_for_all_classes_leaves_no_near_duplicate():
    """`nms_per_class=False` with regressed boxes: nothing over its threshold, unless `min_regions` asks for more."""
    image = noise_image(96, 128)
    few = {"min_regions": 1, "max_regions": 40, "score_threshold": 0.0}
    assert overlaps(tidied()(image, **few).region_boxes).max() > 0.5
    jointly = tidied(nms_per_class=False)
    alone = jointly(image, **few)
    assert overlaps(alone.region_boxes).max() <= 0.5 + 1e-4
    filled = jointly(image, **(few | {"min_regions": alone.region_mask.shape[1] + 5}))
    assert overlaps(filled.region_boxes).max() > 0.5


def test_slivers_go():
    image, share = noise_image(96, 128), 0.15
    many = {"min_regions": 6, "max_regions": 40, "score_threshold": 0.0}
    for fields in ({}, {"region_boxes": "proposal"}):
        plain = tidied(**fields)(image, **many)
        sides = plain.region_boxes[..., 2:] - plain.region_boxes[..., :2]
        assert sides.min() < share
        output = tidied(min_region_side=share, **fields)(image, **many)
        sides = output.region_boxes[..., 2:] - output.region_boxes[..., :2]
        assert sides.min() >= share - 1e-6 and output.region_mask.shape[1] >= 6


def test_where_all_boxes_are_slivers_the_least_of_them_stays():
    output = tidied(min_region_side=0.999)(noise_image(96, 128), min_regions=4)
    assert output.region_mask.tolist() == [[True]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duplicate_iou": 0}, "duplicate_iou=0 must be an IoU over 0, of 1 at most, or absent"),
        ({"duplicate_iou": 1.5}, "duplicate_iou=1.5 must be"),
        ({"min_region_side": 1.0}, "min_region_side=1.0 must be a share of the image's sides, 0 to below 1"),
        ({"min_region_side": -0.1}, "min_region_side=-0.1 must be"),
        ({"duplicate_iou": "0.7"}, "duplicate_iou"),
    ],
)
def test_mistakes_in_the_config(changes, message):
    with pytest.raises(Exception, match=message):
        tiny_pyramid_config(**changes)
