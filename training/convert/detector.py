"""Published Visual Genome detectors -> `UpDownDetector`, with the conventions of their code.

`frcnn-vg` is the Faster R-CNN that HuggingFace ported to PyTorch for LXMERT (`modeling_frcnn.py`, 1600-400-20).
`detectron2-vg` are its detectron2 forms: airsplay/py-bottom-up-attention, whose names and conventions are the same, and
MILVLG/bottom-up-attention.pytorch, with Caffe's conventions: background first, two scores per anchor, +1 boxes.

Their configuration files are read unchanged (YAML or JSON, upper or lower case). Rows of the class and attribute layers
are put into our order, background and "no attribute" first; anchors in the file are checked against those of the
configuration. Parity: tests/modeling_updown/test_detector_parity.py.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from modeling_updown import UpDownDetector, UpDownDetectorConfig, UpDownImageProcessor
from modeling_updown.proposals_updown import cell_anchors
from training.convert.weights import ConvertedCheckpoint, Weights, check_names, load_into

DEPTH_OF_BLOCKS = {6: "50", 23: "101", 36: "152"}  # blocks of res4 -> layers
ANCHOR_NAMES = (
    "proposal_generator.anchor_generator.cell_anchors.0",
    "proposal_generator.anchor_generator.anchors.cell_anchors.0",
)
COUNTER = "norm.num_batches_tracked"  # absent from files of frozen norms
BGR_MEAN = [102.9801, 115.9465, 122.7717]
OBJECTNESS = "proposal_generator.rpn_head.objectness_logits"
ANCHOR_DELTAS = "proposal_generator.rpn_head.anchor_deltas"

# our name -> theirs, for layers that are copied unchanged
SHARED_LAYERS = {
    "proposals.conv": "proposal_generator.rpn_head.conv",
    "proposals.deltas": ANCHOR_DELTAS,
}
PREDICTOR = "roi_heads.box_predictor."
# the five layers of the heads: LXMERT's and airsplay's names, and MILVLG's
PORT_HEADS = {"classes": "cls_embedding", "hidden": "fc_attr", "attributes": "attr_score"}
CAFFE_HEADS = {"classes": "cls_embed", "hidden": "attr_linear1", "attributes": "attr_linear2"}


def convert_frcnn(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """LXMERT's Faster R-CNN -> `UpDownDetector`.

    Options: its configuration file, `objects` and `attributes` (lists of names), and `channel_order`. The port
    subtracts the BGR means from RGB pixels, which loses accuracy, since the weights are Caffe's; here pixels are BGR.
    `"channel_order": "rgb"` reproduces the port's features.
    """
    return _convert(weights, options, heads=PORT_HEADS, format="frcnn-vg")


def convert_detectron2(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """A detectron2 form of the Visual Genome detector -> `UpDownDetector`; the form is recognised by tensor names."""
    is_caffe = f"{PREDICTOR}attr_linear1.weight" in weights
    scores, deltas = (weights.get(f"{layer}.bias", torch.empty(0)) for layer in (OBJECTNESS, ANCHOR_DELTAS))
    if is_caffe and 2 * len(scores) != len(deltas):  # two scores and four deltas per anchor
        raise ValueError(
            "these weights have MILVLG's names but not Caffe's two scores per anchor: of that project's detectors, "
            "bua-caffe-* can be converted, bua-d2-* cannot"
        )
    return _convert(weights, options, heads=CAFFE_HEADS if is_caffe else PORT_HEADS, format="detectron2-vg")


def _convert(
    weights: Weights, options: Mapping[str, Any], *, heads: Mapping[str, str], format: str
) -> ConvertedCheckpoint:
    options = lower_keys(options)
    is_caffe = heads is CAFFE_HEADS
    weights = {name: value for name, value in weights.items() if not name.endswith(COUNTER)}
    anchors = [weights.pop(name) for name in ANCHOR_NAMES if name in weights]
    if f"{PREDICTOR}cls_score.weight" not in weights or "backbone.stem.conv1.weight" not in weights:
        check_names(weights, [f"{PREDICTOR}cls_score.weight", "backbone.stem.conv1.weight"], format=format)
    try:
        config = (caffe_config if is_caffe else port_config)(weights, options)
    except (TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"the configuration file holds a value of another type than {format}'s ({error})") from error
    model = UpDownDetector(config)
    names = source_names(model, heads=heads)
    check_names(weights, list(names.values()), format=format)
    _check_anchors(anchors, config)
    ours = {name: weights[theirs] for name, theirs in names.items()}
    load_into(model, {**_counters(model), **in_our_order(ours, background_first=is_caffe, config=config)})
    return ConvertedCheckpoint(model.eval(), image_processor(options, config))


def lower_keys(options: Any) -> Any:
    """Nested options with every key in lower case, since the projects differ in their case."""
    if isinstance(options, Mapping):
        return {str(key).lower(): lower_keys(value) for key, value in options.items()}
    return options


def source_names(model: UpDownDetector, *, heads: Mapping[str, str]) -> dict[str, str]:
    """Our tensor -> theirs, for every tensor except the norms' counters."""
    layers = {
        **SHARED_LAYERS,
        "proposals.objectness": OBJECTNESS,
        "heads.object_score": f"{PREDICTOR}cls_score",
        "heads.box_deltas": f"{PREDICTOR}bbox_pred",
        "heads.object_embedding": PREDICTOR + heads["classes"],
        "heads.attribute_hidden": PREDICTOR + heads["hidden"],
        "heads.attribute_score": PREDICTOR + heads["attributes"],
    }
    names = {}
    for name in model.state_dict():
        if name.endswith(COUNTER):
            continue
        layer, _, tensor = name.rpartition(".")
        if name.startswith("region_stage."):
            names[name] = "roi_heads.res5." + name.removeprefix("region_stage.")
        else:
            names[name] = f"{layers[layer]}.{tensor}" if layer in layers else name
    return names


def in_our_order(weights: Weights, *, background_first: bool, config: UpDownDetectorConfig) -> Weights:
    """The weights with background and "no attribute" first in every layer that has them; one objectness per anchor."""
    ordered = dict(weights)
    if background_first:
        if not config.class_agnostic_boxes:
            for tensor in ("weight", "bias"):  # theirs has a background box too
                ordered[f"heads.box_deltas.{tensor}"] = ordered[f"heads.box_deltas.{tensor}"][4:]
    else:
        for layer in ("heads.object_score", "heads.attribute_score"):
            for tensor in ("weight", "bias"):
                ordered[f"{layer}.{tensor}"] = ordered[f"{layer}.{tensor}"].roll(1, dims=0)
        ordered["heads.object_embedding.weight"] = ordered["heads.object_embedding.weight"].roll(1, dims=0)
    for tensor in ("weight", "bias"):
        name = f"proposals.objectness.{tensor}"
        # Caffe's softmax of two is the sigmoid of their difference
        if len(ordered[name]) == 2 * config.num_cell_anchors:
            background, foreground = ordered[name].chunk(2)
            ordered[name] = foreground - background
    return ordered


def _counters(model: UpDownDetector) -> Weights:
    return {name: value for name, value in model.state_dict().items() if name.endswith(COUNTER)}


def _check_anchors(stored: Sequence[torch.Tensor], config: UpDownDetectorConfig) -> None:
    made = cell_anchors(config.anchor_sizes[0], config.anchor_ratios, style=config.anchor_style)  # type: ignore[index, arg-type]
    for anchors in stored:
        if anchors.shape != made.shape or not torch.allclose(anchors, made, atol=1e-3):
            raise ValueError(
                f"the checkpoint's anchors are not those of sizes {config.anchor_sizes} and ratios "
                f"{config.anchor_ratios}: give its configuration file with --config"
            )


def sizes_from_weights(weights: Weights) -> dict[str, Any]:
    """The settings that follow from the shapes: backbone, widths, number of classes."""
    blocks = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("backbone.res4."))
    if blocks not in DEPTH_OF_BLOCKS:
        raise ValueError(f"res4 has {blocks} blocks; a ResNet has {', '.join(map(str, DEPTH_OF_BLOCKS))}")
    classes, feature_size = weights[f"{PREDICTOR}cls_score.weight"].shape
    box_rows = len(weights[f"{PREDICTOR}bbox_pred.weight"])
    bottleneck, _, *_ = weights["backbone.res2.0.conv1.weight"].shape
    return {
        "backbone": f"caffe_resnet{DEPTH_OF_BLOCKS[blocks]}",
        "stem_channels": len(weights["backbone.stem.conv1.weight"]),
        "bottleneck_channels": bottleneck,
        "res2_channels": len(weights["backbone.res2.0.conv3.weight"]),
        "num_groups": bottleneck // weights["backbone.res2.0.conv2.weight"].shape[1],
        "region_feature_size": feature_size,
        "rpn_hidden_size": len(weights["proposal_generator.rpn_head.conv.weight"]),
        "num_objects": classes - 1,
        "class_agnostic_boxes": box_rows == 4 and classes > 2,
    }


def labels(options: Mapping[str, Any], *, num_objects: int, num_attributes: int) -> dict[str, Any]:
    """`id2label` and `attribute_id2label` from the options `objects` and `attributes`; else placeholders, warned of.

    A name is the text before the first comma of `stop sign,stopsign`. Raises `ValueError` for a wrong number of names.
    """
    made: dict[str, Any] = {}
    for option, key, count, none in (
        ("objects", "id2label", num_objects, "background"),
        ("attributes", "attribute_id2label", num_attributes, "no attribute"),
    ):
        names = options.get(option)
        if names is None:
            warnings.warn(
                f"no names of {option} were given, so they are called {option[:-1]} 1 .. {count}; "
                f"give the vocabulary file with --{option}",
                stacklevel=2,
            )
            names = [f"{option[:-1]} {i}" for i in range(1, count + 1)]
        if len(names) != count:
            raise ValueError(f"the vocabulary names {len(names)} {option} but the weights have {count}")
        made[key] = {0: none, **{i: str(name).split(",")[0].strip() for i, name in enumerate(names, start=1)}}
    return made


def port_config(weights: Weights, options: Mapping[str, Any]) -> UpDownDetectorConfig:
    """LXMERT's (and airsplay's) conventions, with the numbers of their configuration file or the published ones."""
    rpn, roi, box = (_section(options, name) for name in ("rpn", "roi_heads", "roi_box_head"))
    resnets, anchors = _section(options, "resnets"), _section(options, "anchor_generator")
    sizes = sizes_from_weights(weights)
    num_attributes = len(weights[f"{PREDICTOR}attr_score.weight"]) - 1
    thresholds = roi.get("nms_thresh_test", [0.5, 0.6, 0.7])
    return UpDownDetectorConfig(
        **sizes,
        **labels(options, num_objects=sizes["num_objects"], num_attributes=num_attributes),
        object_embedding_size=weights[f"{PREDICTOR}cls_embedding.weight"].shape[1],
        attribute_hidden_size=len(weights[f"{PREDICTOR}fc_attr.weight"]),
        stride_in_1x1=bool(resnets.get("stride_in_1x1", True)),
        frozen_stages=int(_section(options, "backbone").get("freeze_at", 2)),
        anchor_style="detectron2",
        anchor_sizes=[list(anchors.get("sizes", [[64, 128, 256, 512]])[0])],
        anchor_ratios=list(anchors.get("aspect_ratios", [[0.5, 1.0, 2.0]])[0]),
        box_plus_one=False,
        max_box_growth=62.5,
        rpn_nms_threshold=float(rpn.get("nms_thresh", 0.7)),
        proposals_before_nms=int(rpn.get("pre_nms_topk_test", 6000)),
        proposals_after_nms=int(rpn.get("post_nms_topk_test", 300)),
        min_proposal_side=float(_section(options, "proposal_generator").get("min_size", 0)),
        filter_before_nms_cut=False,
        region_pool="pool",
        region_pool_size=int(box.get("pooler_resolution", 14)),
        box_weights=_numbers(box.get("bbox_reg_weights", [10.0, 10.0, 5.0, 5.0])),
        region_boxes="regressed",
        nms_per_class=False,
        nms_thresholds=_numbers(thresholds),
        min_regions=int(options.get("min_detections", 36)),
        max_regions=int(options.get("max_detections", 36)),
        score_threshold=0.0,  # the port reads a threshold but does not use it
        attribute_background=False,
    )


def caffe_config(weights: Weights, options: Mapping[str, Any]) -> UpDownDetectorConfig:
    """MILVLG's conventions, which are Caffe's, with the numbers of its configuration file or the published ones."""
    model = _section(options, "model") or options
    extractor = _section(_section(model, "bua"), "extractor")
    box, rpn = _section(model, "roi_box_head"), _section(model, "rpn")
    sizes = sizes_from_weights(weights)
    num_attributes = len(weights[f"{PREDICTOR}attr_linear2.weight"]) - 1
    return UpDownDetectorConfig(
        **sizes,
        **labels(options, num_objects=sizes["num_objects"], num_attributes=num_attributes),
        object_embedding_size=weights[f"{PREDICTOR}cls_embed.weight"].shape[1],
        attribute_hidden_size=len(weights[f"{PREDICTOR}attr_linear1.weight"]),
        max_box_growth=62.5,
        box_weights=_numbers(box.get("bbox_reg_weights", [1.0, 1.0, 1.0, 1.0])),
        region_pool_size=int(box.get("pooler_resolution", 14)),
        rpn_nms_threshold=float(rpn.get("nms_thresh", 0.7)),
        proposals_before_nms=int(rpn.get("pre_nms_topk_test", 6000)),
        proposals_after_nms=int(rpn.get("post_nms_topk_test", 300)),
        min_regions=int(extractor.get("min_boxes", 10)),
        max_regions=int(extractor.get("max_boxes", 100)),
        score_threshold=float(extractor.get("conf_thresh", 0.2)),
    )


def _numbers(value: Any) -> list[float]:
    """One number or several, also as the text `(1.0, 1.0)`, which YAML makes of detectron2's tuples."""
    if isinstance(value, str):
        value = [part for part in value.strip("()[] ").split(",") if part.strip()]
    return [float(part) for part in value] if isinstance(value, list | tuple) else [float(value)]


def _section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = options.get(name)
    return found if isinstance(found, Mapping) else {}


def image_processor(options: Mapping[str, Any], config: UpDownDetectorConfig) -> UpDownImageProcessor:
    """The image processor of the checkpoint's code, except for its mix of channel orders."""
    inputs, model = _section(options, "input"), _section(options, "model") or options
    is_caffe = config.anchor_style == "caffe"
    return UpDownImageProcessor(
        size={
            "shortest_edge": int(inputs.get("min_size_test", 600 if is_caffe else 800)),
            "longest_edge": int(inputs.get("max_size_test", 1000 if is_caffe else 1333)),
        },
        exact_resize=True,
        channel_order=str(options.get("channel_order", "bgr")),
        do_rescale=False,
        image_mean=_numbers(model.get("pixel_mean", BGR_MEAN)),
        image_std=_numbers(model.get("pixel_std", [1.0, 1.0, 1.0])),
        min_regions=config.min_regions,
        max_regions=config.max_regions,
        score_threshold=config.score_threshold,
    )
