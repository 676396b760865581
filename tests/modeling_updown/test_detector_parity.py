"""The detector against the Visual Genome Faster R-CNN as ported to PyTorch for LXMERT, on its golden figures.

Everything goes through `convert_checkpoint`. Two images, a padded batch of both, and an image on which every threshold
of suppression but one leaves too few boxes.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownDetector, UpDownImageProcessor, UpDownImageProcessorPil
from modeling_updown.proposals_updown import top_proposals
from tests.shared_files import shared
from training.convert.checkpoint import convert_checkpoint

IMAGES = pytest.mark.parametrize("image", ["img0", "img1"])
PIXEL = {"atol": 0.01, "rtol": 0}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
SIZES = {"600_1000": (600, 1000), "800_1333": (800, 1333), "600_1000_bgrpixels": (600, 1000)}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared("golden/reference/frcnn.safetensors"))


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return json.loads(shared("golden/reference/frcnn.json").read_text())


@pytest.fixture(scope="module")
def model(options: dict[str, Any]) -> UpDownDetector:
    return converted(options)


def converted(options: dict[str, Any]) -> UpDownDetector:
    names = {
        "objects": numbered("o", options["seed_cfg"]["nc"]),
        "attributes": numbered("a", options["seed_cfg"]["na"]),
    }
    path = shared("golden/reference/frcnn.safetensors")
    return convert_checkpoint("frcnn-vg", path, config={**options, **names}).model


def numbered(letter: str, count: int) -> list[str]:
    return [f"{letter}{i}" for i in range(1, count + 1)]


def reference_order(logits: torch.Tensor) -> torch.Tensor:
    """Ours has background first, theirs last."""
    return logits.roll(-1, dims=1)


@IMAGES
@torch.no_grad()
def test_feature_map(golden, model, image):
    maps = model.feature_maps(golden[f"in.{image}.pixel_values"])
    torch.testing.assert_close(maps.maps[0], golden[f"out.{image}.backbone.res4"], **CLOSE)


@IMAGES
@torch.no_grad()
def test_proposal_network(golden, model, image):
    maps = model.feature_maps(golden[f"in.{image}.pixel_values"])
    (logits,), (deltas,) = model.proposals(maps.maps)
    expected = golden[f"out.{image}.rpn.objectness"].permute(0, 2, 3, 1)
    torch.testing.assert_close(logits, expected.flatten(1), **CLOSE)
    expected = golden[f"out.{image}.rpn.deltas"].permute(0, 2, 3, 1).reshape(1, -1, 4)
    torch.testing.assert_close(deltas, expected, **CLOSE)
    if image == "img0":
        assert torch.equal(model.proposals.anchors(maps.maps)[0], golden["out.img0.rpn.anchors"])


@IMAGES
@torch.no_grad()
def test_proposals_and_their_features(golden, model, image):
    maps = model.feature_maps(golden[f"in.{image}.pixel_values"])
    (logits,), (deltas,) = model.proposals(maps.maps)
    boxes, scores = top_proposals(
        [logits[0]], [deltas[0]], model.proposals.anchors(maps.maps), config=model.config, image_size=maps.size
    )
    torch.testing.assert_close(boxes, golden[f"out.{image}.rpn.proposals.0"], **PIXEL)
    torch.testing.assert_close(scores, golden[f"out.{image}.rpn.proposal_logits.0"], **CLOSE)
    features = model.region_features(maps, [golden[f"out.{image}.rpn.proposals.0"]])
    torch.testing.assert_close(features, golden[f"out.{image}.roi.features"], **CLOSE)
    object_logits, box_deltas = model.heads(features)
    torch.testing.assert_close(reference_order(object_logits), golden[f"out.{image}.roi.obj_logits"], **CLOSE)
    torch.testing.assert_close(box_deltas.flatten(1), golden[f"out.{image}.roi.box_deltas"], **CLOSE)
    attributes = model.heads.attributes(features, object_logits.argmax(dim=1))
    torch.testing.assert_close(reference_order(attributes), golden[f"out.{image}.roi.attr_logits"], **CLOSE)


def check_regions(output: Any, golden: dict[str, torch.Tensor], tag: str, *, row: int = 0) -> None:
    """One image's regions are those of the reference, in its order; ids count from 0 there, from 1 here."""
    expected = {name: golden[f"out.{tag}.{name}"][0] for name in ("obj_ids", "attr_ids", "obj_probs", "attr_probs")}
    assert torch.equal(output.object_ids[row] - 1, expected["obj_ids"])
    assert torch.equal(output.attribute_ids[row] - 1, expected["attr_ids"])
    torch.testing.assert_close(output.region_scores[row], expected["obj_probs"], **CLOSE)
    torch.testing.assert_close(output.attribute_scores[row], expected["attr_probs"], **CLOSE)
    torch.testing.assert_close(output.region_features[row], golden[f"out.{tag}.roi_features"][0], **CLOSE)
    torch.testing.assert_close(output.region_boxes[row], golden[f"out.{tag}.normalized_boxes"][0], atol=1e-5, rtol=0)
    assert torch.equal(output.pred_boxes[row], output.region_boxes[row])  # the port's boxes are the regressed ones
    assert output.region_mask[row].all() and len(output.region_mask[row]) == len(expected["obj_ids"])


@IMAGES
@torch.no_grad()
def test_regions(golden, model, image):
    output = model(golden[f"in.{image}.pixel_values"])
    check_regions(output, golden, image)
    height, width = golden[f"in.{image}.sizes"][0].tolist()
    scale_y, scale_x = golden[f"in.{image}.scales_yx"][0].tolist()
    raw = output.region_boxes * torch.tensor([width * scale_x, height * scale_y] * 2)
    torch.testing.assert_close(raw, golden[f"out.{image}.boxes"], **PIXEL)
    assert output.attribute_probs[..., 0].max() == 0  # "no attribute" has no share in the port
    torch.testing.assert_close(output.object_probs.sum(dim=-1), torch.ones(1, raw.shape[1]))


@torch.no_grad()
def test_thresholds_are_tried_until_enough_is_left(golden, options):
    """More regions are wanted than the first thresholds leave (`nms_tried`)."""
    changed = json.loads(json.dumps(options))
    fallback = options["fallback_config"]
    changed["config"]["ROI_HEADS"]["NMS_THRESH_TEST"] = fallback["NMS_THRESH_TEST"]
    changed["config"] |= {name: fallback[name] for name in ("MIN_DETECTIONS", "MAX_DETECTIONS")}
    model = converted(changed)
    assert model.config.min_regions == fallback["MIN_DETECTIONS"]
    assert model.config.nms_thresholds == fallback["NMS_THRESH_TEST"]
    assert [enough for _, enough, _ in options["nms_tried"]["img0_fallback"]].index(True) > 0
    output = model(golden["in.img0.pixel_values"])
    check_regions(output, golden, "img0_fallback")


@torch.no_grad()
def test_padded_batch_is_each_image_alone(golden, model):
    """The reference's own batch is wrong, and we differ from it on purpose: padding takes part in the smaller image's
    proposals there, which gives it other regions than alone, and boxes are divided by the other image's size. Of the
    larger image, which has no padding, all but those divided boxes is the same."""
    sizes = golden["in.batch2.sizes"].tolist()
    pixel_values = golden["in.batch2.pixel_values"]
    mask = torch.zeros(len(sizes), *pixel_values.shape[-2:], dtype=torch.bool)
    for row, (height, width) in enumerate(sizes):
        mask[row, :height, :width] = True
    padded = [not image.all() for image in mask]
    assert any(padded) and not all(padded)
    output = model(pixel_values, pixel_mask=mask)
    for row, image in enumerate(("img0", "img1")):
        check_regions(output, golden, image, row=row)
        alone = golden[f"out.{image}.obj_ids"][0]
        assert torch.equal(golden["out.batch2.obj_ids"][row], alone) != padded[row]
        if not padded[row]:
            theirs, ours = golden["out.batch2.normalized_boxes"][row], golden[f"out.{image}.normalized_boxes"][0]
            assert (theirs - ours).abs().max() > 0.01


# ---- preprocessing


@pytest.mark.parametrize("tag", SIZES)
@pytest.mark.parametrize("backend", [UpDownImageProcessor, UpDownImageProcessorPil])
@IMAGES
def test_preprocessing(golden, options, backend, tag, image):
    """To 1e-3 of a grey level: bilinear in float32 without smoothing, then the means, for pixels in both orders."""
    shortest, longest = SIZES[tag]
    processor = backend(
        size={"shortest_edge": shortest, "longest_edge": longest},
        exact_resize=True,
        do_rescale=False,
        channel_order="bgr" if tag.endswith("bgrpixels") else "rgb",
        image_mean=options["config"]["MODEL"]["PIXEL_MEAN"],
        image_std=options["config"]["MODEL"]["PIXEL_STD"],
    )
    batch = processor(shared(f"data/photos/{options['images'][image]['file']}"), return_tensors="pt")
    pixels = batch.pixel_values[0]
    height, width = golden[f"pre.{tag}.{image}.sizes"][0].tolist()
    assert pixels.shape == (3, height, width) and batch.pixel_mask.shape == (1, height, width)
    assert batch.pixel_mask.all()
    side = golden[f"pre.{tag}.{image}.crop_tl"].shape[-1]
    middle = pixels[:, height // 2 : height // 2 + side, width // 2 : width // 2 + side]
    for name, crop in (("tl", pixels[:, :side, :side]), ("mid", middle), ("br", pixels[:, -side:, -side:])):
        torch.testing.assert_close(crop, golden[f"pre.{tag}.{image}.crop_{name}"], atol=1e-3, rtol=0)
    expected = options["images"][image][f"pre_{tag}"]
    np.testing.assert_allclose(pixels.double().mean(dim=(1, 2)), expected["channel_mean"], atol=1e-3)
    assert pixels.double().std(correction=0).item() == pytest.approx(expected["std"], abs=1e-2)


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_converted_processor(options, order):
    """BGR, as the weights were trained, unless the port's own mix is asked for."""
    config, counts = options["config"], options["seed_cfg"]
    names = {"objects": numbered("o", counts["nc"]), "attributes": numbered("a", counts["na"])}
    choice = {} if order == "bgr" else {"channel_order": order}
    path = shared("golden/reference/frcnn.safetensors")
    processor = convert_checkpoint("frcnn-vg", path, config={**options, **names, **choice}).processor
    assert processor.channel_order == order and processor.exact_resize and not processor.do_rescale
    edges = {"shortest_edge": config["INPUT"]["MIN_SIZE_TEST"], "longest_edge": config["INPUT"]["MAX_SIZE_TEST"]}
    assert dict(processor.size) == edges
    wanted = {"min_regions": config["MIN_DETECTIONS"], "max_regions": config["MAX_DETECTIONS"]}
    assert processor.region_selection() == {**wanted, "score_threshold": 0.0}
    assert list(processor.image_mean) == config["MODEL"]["PIXEL_MEAN"]
