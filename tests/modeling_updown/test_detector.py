"""The detector's regions: an image's are the same alone and in any batch, given boxes come back as given, every mistake
has one sentence. Its training is in test_detector_training.py.

The models of tests/tiny.py decide clearly: on these images no decision hangs on rounding.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoModelForObjectDetection, pipeline

from modeling_updown import UpDownDetector, UpDownDetectorConfig, UpDownImageProcessor, modeling_detector
from modeling_updown.boxes_updown import clip_boxes, decode_boxes
from tests.tiny import (
    noise_image,
    tiny_detector,
    tiny_detector_config,
    tiny_image,
    tiny_nanodet_detector,
    tiny_pyramid_config,
    tiny_pyramid_detector,
)

SIZES = [(96, 128), (128, 96), (64, 64), (96, 128), (160, 40)]
CLOSE = {"atol": 2e-3, "rtol": 1e-3}  # of features up to 30
BOX = {"atol": 1e-4, "rtol": 0}
MAKERS: dict[str, Callable[..., UpDownDetector]] = {
    "caffe": tiny_detector,
    "pyramid": tiny_pyramid_detector,
    "nanodet": tiny_nanodet_detector,
}


@pytest.fixture(scope="module")
def models() -> dict[str, UpDownDetector]:
    return {name: make() for name, make in MAKERS.items()}


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest, models: dict[str, UpDownDetector]) -> UpDownDetector:
    return models[request.param]


@pytest.fixture(scope="module")
def caffe(models: dict[str, UpDownDetector]) -> UpDownDetector:
    return models["caffe"]


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


def images(sizes: list[tuple[int, int]] = SIZES) -> list[torch.Tensor]:
    return [noise_image(height, width, seed=seed) for seed, (height, width) in enumerate(sizes)]


def padded(batch: list[torch.Tensor], *, filling: float = 7.0) -> dict[str, torch.Tensor]:
    """One batch of images of different sizes; what fills it up must not matter."""
    height, width = (max(image.shape[side] for image in batch) for side in (2, 3))
    pixel_values = torch.full((len(batch), 3, height, width), filling)
    pixel_mask = torch.zeros(len(batch), height, width, dtype=torch.bool)
    for row, image in enumerate(batch):
        pixel_values[row, :, : image.shape[2], : image.shape[3]] = image[0]
        pixel_mask[row, : image.shape[2], : image.shape[3]] = True
    return {"pixel_values": pixel_values, "pixel_mask": pixel_mask}


def check_same(batch: Any, row: int, alone: Any) -> None:
    """Row `row` of a batch is the image alone, and zeros after its regions."""
    count = alone.region_mask.shape[1]
    assert batch.region_mask[row].tolist() == [True] * count + [False] * (batch.region_mask.shape[1] - count)
    for name, expected in alone.items():
        found = batch[name][row]
        if expected.dtype in (torch.int64, torch.bool):
            assert torch.equal(found[:count], expected[0]), name
        else:
            torch.testing.assert_close(found[:count], expected[0], **(BOX if "boxes" in name else CLOSE), msg=name)
        assert not found[count:].any(), name


# ---- one image and many


@pytest.mark.parametrize("filling", [7.0, float("nan")])
def test_batch_is_each_image_alone(model, filling):
    batch = model(**padded(images(), filling=filling), score_threshold=0.5)
    for row, image in enumerate(images()):
        check_same(batch, row, model(image, score_threshold=0.5))
    counts = batch.region_mask.sum(dim=1).tolist()
    assert len(set(counts)) > 1, "the threshold should leave different numbers"


def test_images_of_one_size_need_no_mask(model):
    same = images([(96, 128)] * 3)
    batch = model(torch.cat(same))
    for row, image in enumerate(same):
        check_same(batch, row, model(image))
    masked = model(torch.cat(same), pixel_mask=torch.ones(3, 96, 128))  # any type that says yes
    for name, value in batch.items():
        assert torch.equal(masked[name], value), name


def test_order_of_the_batch_does_not_matter(model):
    forth, back = model(**padded(images())), model(**padded(images()[::-1]))
    for name in ("object_ids", "attribute_ids", "region_mask"):
        assert torch.equal(forth[name].flip(0), back[name])
    torch.testing.assert_close(forth.region_features.flip(0), back.region_features, **CLOSE)


def test_what_a_region_says_agrees(model):
    """Probabilities sum to 1, scores and ids are of the same class, boxes lie in the image."""
    output = model(noise_image(96, 128))
    rows = torch.arange(output.region_mask.shape[1])
    probs = output.object_probs[0]
    torch.testing.assert_close(probs.sum(dim=1), torch.ones(len(rows)))
    torch.testing.assert_close(probs, output.logits[0].softmax(dim=1))
    torch.testing.assert_close(probs[rows, output.object_ids[0]], output.region_scores[0])
    attributes = output.attribute_probs[0]
    torch.testing.assert_close(attributes.sum(dim=1), torch.ones(len(rows)))
    torch.testing.assert_close(attributes[rows, output.attribute_ids[0]], output.attribute_scores[0])
    assert (output.attribute_ids >= 1).all() and (output.object_ids >= 1).all()
    for boxes in (output.region_boxes, output.pred_boxes):
        assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[..., 2:] >= boxes[..., :2]).all()
    assert len(output.object_ids.unique()) > 1 and len(output.attribute_ids.unique()) > 1


def test_regressed_box_is_that_of_the_class(caffe):
    """Recomputed from the feature: the regression of the region's class, decoded and clipped."""
    output = caffe(noise_image(96, 128))
    _, deltas = caffe.heads(output.region_features[0])
    boxes = output.region_boxes[0] * torch.tensor([128.0, 96, 128, 96])
    own = deltas[torch.arange(len(boxes)), output.object_ids[0] - 1]
    decoded = decode_boxes(own, boxes, weights=(10, 10, 5, 5), plus_one=True)
    expected = clip_boxes(decoded, width=128, height=96, plus_one=True) / torch.tensor([128.0, 96, 128, 96])
    torch.testing.assert_close(output.pred_boxes[0], expected, **BOX)
    assert (output.pred_boxes - output.region_boxes).abs().max() > 0.01


def test_attributes_look_at_the_class(caffe):
    """The head takes the feature and the embedding of the likeliest class, background included."""
    output = caffe(noise_image(96, 128))
    best = output.object_probs[0].argmax(dim=1)
    logits = caffe.heads.attributes(output.region_features[0], best)
    torch.testing.assert_close(output.attribute_probs[0], logits.softmax(dim=1), **CLOSE)
    other = caffe.heads.attributes(output.region_features[0], (best + 1) % 13).softmax(dim=1)
    assert (other - output.attribute_probs[0]).abs().max() > 0.05


@pytest.mark.parametrize("name", ["REGIONS_AT_A_TIME", "PYRAMID_REGIONS_AT_A_TIME"])
def test_regions_in_parts_are_the_same(model, monkeypatch, name):
    whole = model(noise_image(96, 128))
    monkeypatch.setattr(modeling_detector, name, 7)
    check_same(model(noise_image(96, 128)), 0, whole)


# ---- conventions


def test_one_convention_at_a_time_changes_the_outcome(caffe):
    """Each field of the config does what it says, on the same weights."""
    image = noise_image(96, 128)
    many = {"max_regions": 40, "score_threshold": 0.0}
    plain = caffe(image, **many)
    for change in (
        {"attribute_background": False},
        {"region_boxes": "regressed"},
        {"nms_per_class": False},
        {"region_pool": "align"},
        {"box_plus_one": False},
        {"anchor_style": "detectron2"},
        {"rpn_nms_threshold": 0.3},
        {"min_proposal_side": 40},
        {"box_weights": [1, 1, 1, 1]},
    ):
        changed = UpDownDetector(tiny_detector_config(**change)).eval()
        changed.load_state_dict(caffe.state_dict())
        output = changed(image, **many)
        same = all(torch.equal(value, plain[name]) for name, value in output.items())
        assert not same, change
        if change == {"attribute_background": False}:
            assert output.attribute_probs[..., 0].max() == 0
            torch.testing.assert_close(output.attribute_probs.sum(dim=-1), torch.ones(1, 40))
        if change == {"region_boxes": "regressed"}:
            assert torch.equal(output.region_boxes, output.pred_boxes)
        if change == {"min_proposal_side": 40}:
            sides = (output.region_boxes[..., 2:] - output.region_boxes[..., :2]) * torch.tensor([128, 96])
            assert sides.min() >= 39  # 40 pixels by Caffe's count


def test_smallest_proposal_grows_with_the_image(caffe):
    """Caffe: 16 pixels of the image as it was before resizing (here 4)."""
    image = noise_image(96, 128)
    enlarged = caffe(image, image_sizes=torch.tensor([[12, 16]]))  # eight times
    sides = (enlarged.region_boxes[..., 2:] - enlarged.region_boxes[..., :2]) * torch.tensor([128, 96])
    assert sides.min() >= 31
    alone = caffe(image)
    assert ((alone.region_boxes[..., 2:] - alone.region_boxes[..., :2]) * torch.tensor([128, 96])).min() < 31


def test_one_box_for_all_classes():
    model = tiny_detector(class_agnostic_boxes=True)
    output = model(noise_image(96, 128))
    assert model.heads(output.region_features[0])[1].shape == (12, 1, 4)
    assert (output.pred_boxes - output.region_boxes).abs().max() > 0.01


def test_without_attributes():
    output = tiny_detector(num_attributes=0)(noise_image(64, 64))
    assert output.attribute_probs is None and output.attribute_ids is None
    assert output.object_ids.shape == (1, 12)


def test_half_precision_sees_the_same(model):
    half = UpDownDetector(model.config).eval()
    half.load_state_dict(model.state_dict())
    half = half.bfloat16()
    image = noise_image(96, 128)
    full = model(image)
    boxes = full.region_boxes
    expected, found = model(image, boxes=boxes), half(image.bfloat16(), boxes=boxes)
    assert found.region_features.dtype == torch.bfloat16 and found.region_boxes.dtype == torch.float32
    error = (found.region_features - expected.region_features).norm(dim=-1)
    assert (error <= 0.05 * expected.region_features.norm(dim=-1)).all()
    assert half(image.bfloat16()).region_mask.all()


# ---- how many


def test_how_many(model):
    image = noise_image(96, 128)
    assert model(image, score_threshold=1.1).region_mask.shape == (1, model.config.min_regions)
    assert model(image, score_threshold=1.1, min_regions=7).region_mask.shape == (1, 7)
    assert model(image, score_threshold=0.0, max_regions=9).region_mask.shape == (1, 9)
    assert model(image, min_regions=10, max_regions=10).region_mask.shape == (1, 10)
    over = model(image, score_threshold=0.6, min_regions=1, max_regions=40)
    assert 1 < over.region_mask.shape[1] < 40 and over.region_scores.min() >= 0.6


def test_more_may_be_asked_than_suppression_leaves():
    """At this threshold a handful of proposals is left; the best suppressed ones fill up."""
    model = tiny_detector(rpn_nms_threshold=0.01)
    image = noise_image(64, 64)
    few = model(image, min_regions=1, max_regions=40, score_threshold=0.0).region_mask.shape[1]
    assert few < 20
    output = model(image, min_regions=20, max_regions=20)
    assert output.region_mask.shape == (1, 20) and torch.isfinite(output.region_features).all()


# ---- given boxes


def some_boxes(count: int, *, seed: int = 0) -> torch.Tensor:
    corners = torch.rand(1, count, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=-2).values
    return corners.flatten(-2)  # (1, count, 4)


@pytest.mark.parametrize(
    "make",
    [
        tiny_detector,
        lambda: tiny_pyramid_detector(region_boxes="proposal"),
        lambda: tiny_nanodet_detector(region_boxes="proposal"),
    ],
)
def test_given_boxes_are_described_as_if_detected(make):
    """In the order given, here the other way round, unregressed, and with the features they had when detected."""
    model, image = make(), noise_image(96, 128)
    detected = model(image)
    described = model(image, boxes=detected.region_boxes.flip(1))
    torch.testing.assert_close(described.region_boxes, detected.region_boxes.flip(1), atol=1e-6, rtol=0)
    for name in ("region_features", "logits", "object_probs", "attribute_probs"):
        torch.testing.assert_close(described[name], detected[name].flip(1), **CLOSE, msg=name)
    best = described.object_probs[..., 1:].max(dim=-1)
    assert torch.equal(described.object_ids, best.indices + 1) and torch.equal(described.region_scores, best.values)


def test_given_boxes_keep_their_order_and_number(model):
    """Also small ones, one twice, one over another, more than `max_regions`; whatever the config's boxes are."""
    boxes = some_boxes(30)
    boxes[:, 3] = boxes[:, 4]
    boxes[:, 5] = torch.tensor([0.2, 0.3, 0.2001, 0.3001])
    output = model(noise_image(96, 128), boxes=boxes)
    assert output.region_mask.shape == (1, 30) and output.region_mask.all()
    torch.testing.assert_close(output.region_boxes, boxes, atol=1e-6, rtol=0)
    torch.testing.assert_close(output.region_features[:, 3], output.region_features[:, 4], **CLOSE)
    assert torch.isfinite(output.region_features).all()


def test_given_boxes_may_be_lists_or_arrays(model):
    pixels = torch.cat([noise_image(96, 128), noise_image(96, 128).flip(3)])
    boxes = [[[0.1, 0.2, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]], [[0.3, 0.3, 0.6, 0.6], [0.0, 0.0, 0.0, 0.0]]]
    mask = [[True, True], [True, False]]
    expected = model(pixels, boxes=torch.tensor(boxes), box_mask=torch.tensor(mask)).region_features
    assert torch.equal(model(pixels, boxes=boxes, box_mask=mask).region_features, expected)
    assert torch.equal(model(pixels, boxes=np.array(boxes), box_mask=np.array(mask)).region_features, expected)
    with pytest.raises(
        ValueError, match="boxes or box_mask: no rectangle of numbers .*images with fewer boxes are padded"
    ):
        model(pixels, boxes=[boxes[0], boxes[1][:1]])
    with pytest.raises(ValueError, match=r"boxes have shape \(2, 4\), not \(2 images, boxes, 4\)"):
        model(pixels, boxes=boxes[0])


def test_given_boxes_of_a_batch(model):
    given = [some_boxes(count, seed=count) for count in (5, 2, 7, 3, 1)]
    boxes, mask = torch.full((5, 7, 4), float("nan")), torch.zeros(5, 7, dtype=torch.bool)
    for row, own in enumerate(given):
        boxes[row, : own.shape[1]], mask[row, : own.shape[1]] = own[0], True
    batch = model(**padded(images()), boxes=boxes, box_mask=mask)
    for row, (image, own) in enumerate(zip(images(), given, strict=True)):
        check_same(batch, row, model(image, boxes=own))


def test_a_point_and_a_line_are_described(model):
    """A box without area is what lies there."""
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.1, 0.2, 0.9, 0.2], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    output = model(noise_image(96, 128), boxes=boxes)
    assert torch.isfinite(output.region_features).all() and torch.equal(output.region_boxes, boxes)


def test_boxes_a_hair_outside_are_clipped(model):
    output = model(noise_image(96, 128), boxes=torch.tensor([[[-0.0005, 0.0, 1.0005, 1.0]]]))
    assert output.region_boxes.tolist() == [[[0, 0, 1, 1]]]


# ---- extreme images


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2), (20, 20)])
def test_tiny_images_have_a_region(model, size):
    output = model(noise_image(*size))
    assert output.region_mask.shape[1] >= 1 and output.region_mask.all()
    for name, value in output.items():
        assert torch.isfinite(value).all(), name
    assert output.region_boxes.min() >= 0 and output.region_boxes.max() <= 1


def test_tiny_and_large_images_in_one_batch(model):
    batch = images([(1, 1), (96, 128), (1, 50)])
    output = model(**padded(batch))
    for row, image in enumerate(batch):
        check_same(output, row, model(image))


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return made


def test_panorama_takes_little_memory(model):
    """20,000 pixels wide: nothing is larger than the first map, 8 or 32 channels at half the size."""
    image = noise_image(32, 20_000)
    with LargestTensor() as seen:
        output = model(image)
    assert output.region_mask.all() and torch.isfinite(output.region_features).all()
    assert seen.largest <= 32 * 16 * 10_000 * 4


# ---- mistakes


SMALL: dict[str, Any] = {"pixel_values": torch.zeros(2, 3, 64, 64)}
EMPTY, SHIFTED = torch.ones(2, 2, 64, 64, dtype=torch.bool)
EMPTY[1], SHIFTED[0, :5] = False, False
BOXES = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(2, 2, 4).clone()


def wrong_box(*box: float) -> torch.Tensor:
    boxes = BOXES.clone()
    boxes[1, 1] = torch.tensor(box)
    return boxes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pixel_values": torch.zeros(3, 64, 64)}, r"shape \(3, 64, 64\), not \(images, 3, height, width\)"),
        ({"pixel_values": torch.zeros(1, 1, 64, 64)}, r"shape \(1, 1, 64, 64\).*make them with the model's image proc"),
        ({"pixel_values": torch.zeros(2, 3, 0, 64)}, r"shape \(2, 3, 0, 64\)"),
        ({"pixel_mask": torch.ones(2, 64, 60)}, r"pixel_mask has shape \(2, 64, 60\), pixel_values \(2, 3, 64, 64\)"),
        ({"pixel_mask": EMPTY}, r"images \[1\] of the batch have no pixel: pixel_mask is False everywhere"),
        ({"pixel_mask": SHIFTED}, r"pixel_mask of images \[0\] is no rectangle from the upper left corner on"),
        ({"boxes": wrong_box(0.1, 0.1, 1.2, 0.5)}, r"boxes 1 of image 1, \[0.1, 0.1, 1.2, 0.5\], leaves the image"),
        ({"boxes": wrong_box(10, 10, 50, 60)}, "leaves the image; boxes are xyxy in 0..1, so divide pixels by"),
        ({"boxes": wrong_box(-0.2, 0, 0.5, 0.5)}, "boxes 1 of image 1, .* leaves the image"),
        ({"boxes": wrong_box(0.5, 0.1, 0.2, 0.5)}, "is not xyxy: its right or lower side comes first"),
        ({"boxes": wrong_box(0.1, 0.1, float("nan"), 0.5)}, "boxes 1 of image 1, .*nan.*, is no number"),
        ({"boxes": wrong_box(0.1, 0.1, float("inf"), 0.5)}, "is no number"),
        ({"boxes": torch.zeros(2, 0, 4)}, "image 0 of the batch has no box: give at least one, such as"),
        ({"boxes": BOXES, "box_mask": torch.tensor([[1, 1], [0, 0]]).bool()}, "image 1 of the batch has no box"),
        ({"boxes": BOXES, "box_mask": torch.ones(2, 3)}, r"box_mask has shape \(2, 3\), boxes \(2, 2, 4\)"),
        ({"boxes": BOXES[0]}, r"boxes have shape \(2, 4\), not \(2 images, boxes, 4\)"),
        ({"boxes": BOXES[:1]}, r"boxes have shape \(1, 2, 4\), not \(2 images, boxes, 4\)"),
        ({"boxes": BOXES[..., :3]}, r"not \(2 images, boxes, 4\)"),
        ({"min_regions": 5, "max_regions": 4}, "min_regions=5 and max_regions=4 must be 1 or more, in this order"),
        ({"min_regions": 0}, "min_regions=0 .* must be 1 or more"),
    ],
)
def test_mistakes_are_named(caffe, given, message):
    with pytest.raises(ValueError, match=message):
        caffe(**(SMALL | given))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_regions": 20, "max_regions": 10}, "min_regions=20 and max_regions=10 must be 1 or more, in this order"),
        ({"anchor_sizes": [[16], [32]]}, r"caffe_resnet50 has 1 maps, but anchor_sizes=\[\[16\], \[32\]\]"),
        ({"nms_thresholds": [0.7, 0.5]}, r"nms_thresholds=\[0.7, 0.5\] must rise"),
        ({"box_weights": [1, 1]}, r"box_weights=\[1, 1\] must be four"),
        ({"backbone": "caffe_resnet18"}, "no backbone 'caffe_resnet18'; the Caffe-style ones are 50, 101 and 152"),
        ({"region_feature_size": 2048}, "gives features of width 128, .* is 2048: set it to 128"),
        ({"region_boxes": "both"}, "region_boxes"),
    ],
)
def test_mistakes_in_the_config(changes, message):
    with pytest.raises(Exception, match=message):
        UpDownDetector(tiny_detector_config(**changes))


def test_every_map_has_as_many_sizes():
    with pytest.raises(ValueError, match="must give every map as many sizes"):
        tiny_pyramid_config(anchor_sizes=[[16, 32], [32], [64], [128]])


# ---- in the ecosystem


def test_config_knows_its_names(tmp_path):
    config = UpDownDetectorConfig(
        id2label={0: "background", 1: "dog", 2: "cat"}, attribute_id2label={0: "no attribute", 1: "red"}
    )
    assert (config.num_objects, config.num_attributes, config.num_labels) == (2, 1, 3)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.to_diff_dict().keys() == config.to_diff_dict().keys()
    assert loaded.id2label[2] == "cat" and loaded.attribute_id2label == {0: "no attribute", 1: "red"}
    paper = UpDownDetectorConfig()
    assert (paper.num_objects, paper.num_attributes, paper.num_cell_anchors) == (1600, 400, 12)
    assert paper.id2label[0] == "background" and paper.label2id["object 1600"] == 1600


def save(model: UpDownDetector, folder: Path) -> Path:
    """The detector with names and a processor, as a user would keep it."""
    model.save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}, min_regions=3).save_pretrained(folder)
    return folder


def test_saved_and_loaded(model, tmp_path):
    folder, image = save(model, tmp_path), noise_image(96, 128)
    for auto in (UpDownDetector, AutoModel, AutoModelForObjectDetection):
        loaded = auto.from_pretrained(folder)
        assert type(loaded) is UpDownDetector and not loaded.training
        assert loaded.config.to_dict() | {"_name_or_path": ""} == model.config.to_dict()
        check_same(loaded(image), 0, model(image))


def test_object_detection_pipeline(model, tmp_path):
    """transformers' own pipeline: names, scores, and whole pixels of the image as it was."""
    finder = pipeline("object-detection", model=str(save(model, tmp_path)))
    image = tiny_image(width=300, height=200)
    found = finder(image, threshold=0.0)
    inputs = finder.image_processor(image, return_tensors="pt")
    output = finder.model(**inputs)
    assert inputs.pixel_values.shape == (1, 3, 96, 144)
    expected = sorted(output.region_scores[0].tolist(), reverse=True)
    assert [round(one["score"], 4) for one in found] == [round(score, 4) for score in expected]
    best = int(output.region_scores[0].argmax())
    assert found[0]["label"] == finder.model.config.id2label[int(output.object_ids[0, best])]
    corners = (output.pred_boxes[0, best] * torch.tensor([300, 200, 300, 200])).int().tolist()
    assert list(found[0]["box"].values()) == corners
    for one in found:
        box = one["box"]
        assert 0 <= box["xmin"] <= box["xmax"] <= 300 and 0 <= box["ymin"] <= box["ymax"] <= 200
    assert len(finder([image, image], threshold=0.0)) == 2
    assert finder(image, threshold=1.0) == []


def test_tuple_and_output_hold_the_same(model):
    image = noise_image(64, 64)
    for ours, expected in zip(model(image, return_dict=False), model(image).values(), strict=True):
        assert torch.equal(ours, expected)


def test_red_and_blue_are_told_apart(model, tmp_path):
    """The order of channels reaches the features: a red image in the wrong order is a blue one."""
    features = {}
    for order in ("rgb", "bgr"):
        processor = UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}, channel_order=order)
        for colour in ("red", "blue"):
            inputs = processor(Image.new("RGB", (64, 64), colour), return_tensors="pt")
            whole = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
            features[order, colour] = model(**inputs, boxes=whole).region_features
    torch.testing.assert_close(features["rgb", "red"], features["bgr", "blue"])
    assert not torch.allclose(features["rgb", "red"], features["bgr", "red"], atol=0.1)
