"""`convert_checkpoint` for detectors: every tensor used once, conventions and names in their places, a folder that
works. Parity of `frcnn-vg` with its reference is in tests/modeling_updown/test_detector_parity.py.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModelForObjectDetection, pipeline

from modeling_updown import UpDownDetector, UpDownDetectorConfig
from modeling_updown.proposals_updown import cell_anchors
from tests.shared_files import shared
from tests.tiny import noise_image, tiny_detector, tiny_image
from training.cli import main
from training.convert.checkpoint import convert_checkpoint
from training.convert.detector import (
    ANCHOR_NAMES,
    CAFFE_HEADS,
    COUNTER,
    PORT_HEADS,
    in_our_order,
    port_config,
    source_names,
)

OBJECTS = [f"thing{i},other name" for i in range(1, 13)]
ATTRIBUTES = [f"kind{i}" for i in range(1, 6)]
NAMES: dict[str, Any] = {"objects": OBJECTS, "attributes": ATTRIBUTES}
ANCHORS = {"anchor_sizes": [[64, 128, 256, 512]]}
# a tiny detector with MILVLG's conventions, and the file that says so, as its project writes it
CAFFE_FIELDS: dict[str, Any] = {
    **ANCHORS,
    "min_proposal_side": 16,
    "box_weights": [1, 1, 1, 1],
    "max_box_growth": 62.5,
    "score_threshold": 0.3,
}
CAFFE_YAML = """
MODEL:
  META_ARCHITECTURE: "GeneralizedBUARCNN"
  PIXEL_MEAN: [102.9801, 115.9465, 122.7717]
  ANCHOR_GENERATOR:
    SIZES: [[4, 8, 16, 32]]
  RPN:
    PRE_NMS_TOPK_TEST: 200
    POST_NMS_TOPK_TEST: 40
  ROI_HEADS:
    NMS_THRESH_TEST: 0.3
  ROI_BOX_HEAD:
    POOLER_RESOLUTION: 7
    BBOX_REG_WEIGHTS: (1.0, 1.0, 1.0, 1.0)
  BUA:
    EXTRACTOR:
      MIN_BOXES: 4
      MAX_BOXES: 12
      CONF_THRESH: 0.3
INPUT:
  MIN_SIZE_TEST: 96
  MAX_SIZE_TEST: 160
"""
PORT_FIELDS: dict[str, Any] = {
    **ANCHORS,
    "anchor_style": "detectron2",
    "box_plus_one": False,
    "max_box_growth": 62.5,
    "min_proposal_side": 0,
    "filter_before_nms_cut": False,
    "region_boxes": "regressed",
    "nms_per_class": False,
    "nms_thresholds": [0.5, 0.6, 0.7],
    "attribute_background": False,
    "score_threshold": 0.0,
    "frozen_stages": 2,
    "min_regions": 5,
    "max_regions": 9,
}
PORT_OPTIONS: dict[str, Any] = {
    "rpn": {"pre_nms_topk_test": 200, "post_nms_topk_test": 40},
    "roi_box_head": {"pooler_resolution": 7},
    "min_detections": 5,
    "max_detections": 9,
    "input": {"min_size_test": 96, "max_size_test": 160},
}


def renamed(model: UpDownDetector, heads: dict[str, str]) -> dict[str, torch.Tensor]:
    """Our tensors under the source's names, in our order still."""
    state = model.state_dict()
    return {theirs: state[ours].clone() for ours, theirs in source_names(model, heads=heads).items()}


def milvlg_weights(model: UpDownDetector) -> dict[str, torch.Tensor]:
    """By hand: background first everywhere, a box for background, two scores an anchor, background's first."""
    weights = renamed(model, CAFFE_HEADS)
    generator = torch.Generator().manual_seed(0)
    for tensor in ("weight", "bias"):
        name = f"roi_heads.box_predictor.bbox_pred.{tensor}"
        weights[name] = torch.cat([torch.randn(4, *weights[name].shape[1:], generator=generator), weights[name]])
        name = f"proposal_generator.rpn_head.objectness_logits.{tensor}"
        background = torch.randn(weights[name].shape, generator=generator)
        weights[name] = torch.cat([background, background + weights[name]])
    weights[ANCHOR_NAMES[0]] = cell_anchors([64, 128, 256, 512], [0.5, 1.0, 2.0], style="caffe")
    return weights


def port_weights(model: UpDownDetector) -> dict[str, torch.Tensor]:
    """By hand: background and "no attribute" last, with the norms' counters and the anchors."""
    weights = renamed(model, PORT_HEADS)
    predictor = "roi_heads.box_predictor."
    for layer in ("cls_score", "attr_score"):
        for tensor in ("weight", "bias"):
            first, others = weights[f"{predictor}{layer}.{tensor}"].split(
                [1, len(weights[f"{predictor}{layer}.{tensor}"]) - 1]
            )
            weights[f"{predictor}{layer}.{tensor}"] = torch.cat([others, first])
    name = f"{predictor}cls_embedding.weight"
    weights[name] = torch.cat([weights[name][1:], weights[name][:1]])
    weights[ANCHOR_NAMES[0]] = cell_anchors([64, 128, 256, 512], [0.5, 1.0, 2.0], style="detectron2")
    for name in [name for name in weights if name.endswith("norm.weight")]:
        weights[name.replace("norm.weight", COUNTER)] = torch.tensor(7)
    return weights


@pytest.fixture(scope="module")
def milvlg() -> tuple[UpDownDetector, dict[str, torch.Tensor]]:
    model = tiny_detector(**CAFFE_FIELDS)
    return model, milvlg_weights(model)


@pytest.fixture(scope="module")
def port() -> tuple[UpDownDetector, dict[str, torch.Tensor]]:
    model = tiny_detector(**PORT_FIELDS)
    return model, port_weights(model)


def written(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    return folder / "model.safetensors"


def check_equal(converted: UpDownDetector, expected: UpDownDetector, *, but: tuple[str, ...] = ()) -> None:
    """The same settings, bar the names, and the same regions of an image."""
    labels = ("id2label", "label2id", "attribute_id2label")
    ours, theirs = converted.config.to_dict(), expected.config.to_dict()
    different = {name for name in ours if name not in labels and ours[name] != theirs.get(name)}
    assert different <= set(but), {name: (ours[name], theirs.get(name)) for name in different}
    image = noise_image(160, 192)
    with torch.no_grad():
        found, wanted = converted(image), expected(image)
    assert torch.equal(found.object_ids, wanted.object_ids) and torch.equal(found.attribute_ids, wanted.attribute_ids)
    for name in ("region_boxes", "pred_boxes", "region_scores", "object_probs", "attribute_probs"):
        torch.testing.assert_close(found[name], wanted[name], atol=1e-4, rtol=1e-4, msg=name)
    torch.testing.assert_close(found.region_features, wanted.region_features, atol=1e-3, rtol=1e-3)


# ---- the published detector


def published() -> dict[str, torch.Tensor]:
    entries = json.loads(shared("golden/published_shapes/frcnn_r101_1600_400.json").read_text())
    return {entry["name"]: torch.empty(entry["shape"], device="meta") for entry in entries["state_dict"]}


def published_options() -> dict[str, Any]:
    text = shared("golden/published_shapes/frcnn-vg-finetuned.config.yaml").read_text()
    words = {
        name: shared(f"data/vg_vocabulary/{name}_vocab.txt").read_text().splitlines()
        for name in ("objects", "attributes")
    }
    return {**yaml.safe_load(text), **words}


@pytest.mark.parametrize("with_file", [True, False])
def test_published_names_are_covered(with_file):
    """Nothing missing, nothing unexpected, every shape as in the full-size model: ResNet-101, 1,600 and 400."""
    source = published()
    assert source.pop(ANCHOR_NAMES[0]).shape[1:] == (4,)
    counters = [name for name in source if name.endswith(COUNTER)]
    assert len(counters) == len([name for name in source if name.endswith("norm.weight")]) > 0
    for name in counters:
        source.pop(name)
    options = published_options() if with_file else {}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        config = port_config(source, options)
    said = [str(warning.message) for warning in warned]
    if with_file:
        assert not said
    else:
        assert said[0].startswith("no names of objects were given, so they are called object 1 .. 1600; give the voc")
        assert said[1].startswith("no names of attributes were given, so they are called attribute 1 .. 400")
    with torch.device("meta"):
        model = UpDownDetector(config)
    names = source_names(model, heads=PORT_HEADS)
    assert sorted(names.values()) == sorted(source)
    ours = in_our_order({name: source[theirs] for name, theirs in names.items()}, background_first=False, config=config)
    expected = {name: value.shape for name, value in model.state_dict().items() if not name.endswith(COUNTER)}
    assert {name: value.shape for name, value in ours.items()} == expected
    counted = sum(value.numel() for name, value in source.items() if "running_" not in name)
    assert model.num_parameters() == counted
    if with_file:
        assert config.id2label[1] == "yolk" and config.attribute_id2label[1] == "gray"
        assert config.attribute_id2label[2] == "multi colored"  # of several spellings the first


def test_published_settings():
    """What the published file says, and what it leaves to the code, is in the config."""
    source = published()
    config = port_config(source, published_options())
    with pytest.warns(UserWarning):
        bare = port_config(source, {})
    for made in (config, bare):
        assert (made.backbone, made.num_objects, made.num_attributes) == ("caffe_resnet101", 1600, 400)
        assert (made.min_regions, made.max_regions, made.nms_thresholds) == (36, 36, [0.5, 0.6, 0.7])
        assert (made.proposals_before_nms, made.proposals_after_nms, made.rpn_nms_threshold) == (6000, 300, 0.7)
        assert (made.anchor_style, made.anchor_sizes) == ("detectron2", [[64, 128, 256, 512]])
        assert (made.box_weights, made.max_box_growth, made.box_plus_one) == ([10, 10, 5, 5], 62.5, False)
        assert (made.region_boxes, made.nms_per_class, made.attribute_background) == ("regressed", False, False)
        assert (made.region_pool_size, made.region_stage_dilation, made.frozen_stages) == (14, 2, 2)
        assert (made.object_embedding_size, made.attribute_hidden_size, made.rpn_hidden_size) == (256, 512, 512)


# ---- the two families, made by hand


def test_milvlg(milvlg, tmp_path):
    model, weights = milvlg
    options = yaml.safe_load(CAFFE_YAML)
    converted = convert_checkpoint("detectron2-vg", written(weights, tmp_path), config={**options, **NAMES})
    check_equal(converted.model, model, but=("train_proposals_before_nms", "train_proposals_after_nms"))
    processor = converted.processor
    assert dict(processor.size) == {"shortest_edge": 96, "longest_edge": 160}
    assert (processor.channel_order, processor.exact_resize, processor.do_rescale) == ("bgr", True, False)
    assert processor.region_selection() == {"min_regions": 4, "max_regions": 12, "score_threshold": 0.3}


@pytest.mark.parametrize("format", ["frcnn-vg", "detectron2-vg"])
def test_port(port, tmp_path, format):
    """airsplay's detectron2 has the same names as the port for LXMERT."""
    model, weights = port
    converted = convert_checkpoint(format, written(weights, tmp_path), config={**PORT_OPTIONS, **NAMES})
    check_equal(converted.model, model, but=("train_proposals_before_nms", "train_proposals_after_nms"))
    upper = json.loads(json.dumps(PORT_OPTIONS).upper())
    again = convert_checkpoint(format, tmp_path / "model.safetensors", config={**upper, **NAMES})
    assert again.model.config.to_dict() == converted.model.config.to_dict()


def test_names_stand_where_the_rows_do(milvlg, tmp_path):
    converted = convert_checkpoint("detectron2-vg", written(milvlg[1], tmp_path), config=NAMES)
    config = converted.model.config
    assert config.id2label == {0: "background", **{i: f"thing{i}" for i in range(1, 13)}}
    assert config.attribute_id2label == {0: "no attribute", **{i: f"kind{i}" for i in range(1, 6)}}
    assert config.label2id["thing12"] == 12
    with pytest.raises(ValueError, match="the vocabulary names 11 objects but the weights have 12"):
        convert_checkpoint("detectron2-vg", tmp_path / "model.safetensors", config=NAMES | {"objects": OBJECTS[1:]})
    with pytest.raises(ValueError, match="the vocabulary names 6 attributes but the weights have 5"):
        attributes = [*ATTRIBUTES, "more"]
        convert_checkpoint("detectron2-vg", tmp_path / "model.safetensors", config=NAMES | {"attributes": attributes})


def test_one_box_for_all_classes(tmp_path):
    model = tiny_detector(**CAFFE_FIELDS, class_agnostic_boxes=True)
    weights = milvlg_weights(model)
    for tensor in ("weight", "bias"):  # theirs has four rows as well, and none for background
        name = f"roi_heads.box_predictor.bbox_pred.{tensor}"
        weights[name] = weights[name][4:]
    options = yaml.safe_load(CAFFE_YAML)
    converted = convert_checkpoint("detectron2-vg", written(weights, tmp_path), config={**options, **NAMES})
    check_equal(converted.model, model, but=("train_proposals_before_nms", "train_proposals_after_nms"))


# ---- the folder


def test_folder_detects(milvlg, tmp_path):
    options = {**yaml.safe_load(CAFFE_YAML), **NAMES}
    folder = tmp_path / "folder"
    converted = convert_checkpoint("detectron2-vg", written(milvlg[1], tmp_path), config=options, output=folder)
    image = tiny_image(width=400, height=240)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert processor.region_selection() == {"min_regions": 4, "max_regions": 12, "score_threshold": 0.3}
    assert processor.to_dict() == converted.processor.to_dict()
    inputs = processor(image, return_tensors="pt")
    assert inputs.pixel_values.shape == (1, 3, 96, 160)
    model = AutoModelForObjectDetection.from_pretrained(folder)
    with torch.no_grad():
        output, expected = model(**inputs), converted.model(**inputs)
    assert torch.equal(output.object_ids, expected.object_ids)
    torch.testing.assert_close(output.region_features, expected.region_features, atol=1e-3, rtol=1e-3)
    found = pipeline("object-detection", model=str(folder))(image, threshold=0.0)
    assert len(found) == output.region_mask.shape[1] >= 4
    best = int(output.region_scores[0].argmax())
    assert found[0]["label"] == f"thing{int(output.object_ids[0, best])}"
    box = output.pred_boxes[0, best] * torch.tensor([400, 240, 400, 240])
    assert list(found[0]["box"].values()) == box.int().tolist()


def test_command(port, tmp_path):
    """`updown convert-checkpoint` with a YAML file and both vocabulary files."""
    written(port[1], tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(PORT_OPTIONS))
    (tmp_path / "objects.txt").write_text("\n".join(OBJECTS) + "\n")
    (tmp_path / "attributes.txt").write_text("\n".join(ATTRIBUTES) + "\n")
    options = ["--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "out")]
    options += ["--objects", str(tmp_path / "objects.txt"), "--attributes", str(tmp_path / "attributes.txt")]
    assert main(["convert-checkpoint", "frcnn-vg", str(tmp_path / "model.safetensors"), *options]) == 0
    config = UpDownDetectorConfig.from_pretrained(tmp_path / "out")
    assert (config.min_regions, config.id2label[3], config.attribute_id2label[5]) == (5, "thing3", "kind5")


# ---- what does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.res4.5.conv2.weight": None}, "missing backbone.res4.5.conv2.weight; unexpected nothing"),
        ({"mask_head.weight": torch.zeros(1)}, "missing nothing; unexpected mask_head.weight"),
        ({"roi_heads.box_predictor.cls_score.weight": None}, "not frcnn-vg: missing .*cls_score.weight"),
        ({"backbone.res4.6.conv2.weight": torch.zeros(1)}, "res4 has 7 blocks; a ResNet has 6, 23, 36"),
        ({"roi_heads.box_predictor.fc_attr.weight": torch.zeros(16, 9)}, "shapes do not fit together"),
        ({ANCHOR_NAMES[0]: torch.zeros(12, 4)}, "anchors are not those of sizes .*: give its configuration file"),
    ],
)
def test_weights_that_do_not_fit(port, tmp_path, change, message):
    weights = {name: value for name, value in (port[1] | change).items() if value is not None}
    with pytest.raises(ValueError, match="(?s)" + message):
        convert_checkpoint("frcnn-vg", written(weights, tmp_path), config={**PORT_OPTIONS, **NAMES})


def test_milvlgs_other_detectors_are_refused(milvlg, tmp_path):
    """Its bua-d2 models share the names but not the conventions."""
    name = "proposal_generator.rpn_head.objectness_logits"
    changed = {f"{name}.{tensor}": milvlg[1][f"{name}.{tensor}"][:12] for tensor in ("weight", "bias")}
    with pytest.raises(ValueError, match=r"bua-caffe-\* can be converted, bua-d2-\* cannot"):
        convert_checkpoint("detectron2-vg", written(milvlg[1] | changed, tmp_path), config=NAMES)
