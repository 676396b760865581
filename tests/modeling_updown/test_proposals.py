"""Anchors and proposals: Caffe's own figures, and slow twins written as lists and loops."""

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownDetectorConfig
from modeling_updown.boxes_updown import clip_boxes, decode_boxes
from modeling_updown.proposals_updown import ProposalNetwork, cell_anchors, grid_anchors, top_proposals
from tests.shared_files import shared
from tests.tiny import tiny_detector_config, tiny_pyramid_config

# the nine anchors that py-faster-rcnn prints for scales 8, 16, 32
CAFFE_ANCHORS = [
    [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
    [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
    [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
]  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared("golden/reference/bua_caffe.safetensors"))


def caffe_proposals(**changes: Any) -> UpDownDetectorConfig:
    """The original's numbers for testing."""
    return UpDownDetectorConfig(num_objects=2, num_attributes=2, **changes)


# ---- anchors


def test_caffe_anchors_are_those_of_the_original():
    assert cell_anchors([128, 256, 512], [0.5, 1.0, 2.0], style="caffe").tolist() == CAFFE_ANCHORS


def test_detectron2_anchors_are_exact_and_go_by_size():
    anchors = cell_anchors([64, 128], [0.5, 1.0, 2.0], style="detectron2")
    expected = []
    for size in (64, 128):
        for ratio in (0.5, 1.0, 2.0):
            width = size / math.sqrt(ratio)
            expected.append([-width / 2, -width * ratio / 2, width / 2, width * ratio / 2])
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_anchors_of_a_map_are_in_reading_order():
    cells = torch.tensor([[0.0, 0, 1, 1], [-1, -1, 2, 2]])
    made = grid_anchors(cells, height=2, width=3, stride=16)
    expected = [
        [16 * column + x1, 16 * row + y1, 16 * column + x2, 16 * row + y2]
        for row in range(2)
        for column in range(3)
        for x1, y1, x2, y2 in cells.tolist()
    ]
    assert made.tolist() == expected


def test_golden_anchors(golden):
    config = caffe_proposals()
    made = cell_anchors(config.anchor_sizes[0], config.anchor_ratios, style="caffe")
    assert made.tolist() == golden["anchors_4_8_16_32"].tolist()
    height, width = golden["rpn.cls_prob"].shape[-2:]
    everywhere = grid_anchors(made, height=height, width=width, stride=16)
    assert everywhere.tolist() == golden["rpn.all_anchors"].tolist()


@torch.no_grad()
def test_scores_and_regressions_stand_where_the_anchors_do():
    """Weights that let the cell's own value through: output a of cell (y, x) must come at y, x, a."""
    config = tiny_detector_config()
    network = ProposalNetwork(config, channels=1, strides=[16])
    for layer in (network.conv, network.objectness, network.deltas):
        layer.weight.zero_()
        layer.bias.zero_()
    network.conv.weight[0, 0, 1, 1] = 1
    network.objectness.weight[:, 0] = 1
    network.objectness.bias.copy_(torch.arange(9) / 100)
    network.deltas.weight[:, 0] = 1
    network.deltas.bias.copy_(torch.arange(36) / 100)
    cells = torch.arange(6.0).view(1, 1, 2, 3)
    (logits,), (deltas,) = network([cells])
    expected = torch.arange(6.0)[:, None] + torch.arange(9) / 100
    torch.testing.assert_close(logits[0], expected.flatten())
    expected = torch.arange(6.0)[:, None] + torch.arange(36) / 100
    torch.testing.assert_close(deltas[0], expected.view(-1, 4))
    (anchors,) = network.anchors([cells])
    assert anchors.shape == (54, 4)
    assert (anchors[9 * 4] - anchors[0]).tolist() == [16, 16, 16, 16]  # row 1, column 1


# ---- the original's proposal layer


def golden_layer(golden: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Its inputs in our order: of (1, 2A, h, w) the second A are the foreground's."""
    return {
        "logits": [golden["rpn.cls_prob"][0].chunk(2)[1].permute(1, 2, 0).flatten()],
        "deltas": [golden["rpn.bbox_pred"][0].permute(1, 2, 0).reshape(-1, 4)],
        "anchors": [golden["rpn.all_anchors"].float()],
    }


def test_golden_decoding(golden):
    (deltas,), (anchors,) = golden_layer(golden)["deltas"], golden_layer(golden)["anchors"]
    height, width, _ = golden["rpn.im_info"].tolist()
    boxes = clip_boxes(
        decode_boxes(deltas, anchors, plus_one=True), width=int(width), height=int(height), plus_one=True
    )
    torch.testing.assert_close(boxes, golden["rpn.decoded_clipped"], atol=1e-2, rtol=0)


def test_golden_proposals(golden):
    height, width, scale = golden["rpn.im_info"].tolist()
    boxes, scores = top_proposals(
        **golden_layer(golden),
        config=caffe_proposals(),
        image_size=(int(height), int(width)),
        resize_factor=scale,
    )
    torch.testing.assert_close(boxes, golden["rpn.proposals"], atol=1e-2, rtol=0)
    torch.testing.assert_close(scores, golden["rpn.scores"].flatten(), atol=1e-6, rtol=0)


# ---- against a slow twin


def overlap(first: list[float], second: list[float], plus_one: bool) -> float:
    extra = float(plus_one)
    width = min(first[2], second[2]) - max(first[0], second[0]) + extra
    height = min(first[3], second[3]) - max(first[1], second[1]) + extra
    shared_area = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + extra) * (box[3] - box[1] + extra) for box in (first, second)]
    return shared_area / (sum(areas) - shared_area)


def slow_proposals(maps: list[tuple], config: UpDownDetectorConfig, size: tuple[int, int], smallest: float) -> list:
    """(score, box, map) of one image, the best first: what `top_proposals` does, box by box."""
    extra = float(config.box_plus_one)
    survivors = []
    for level, (logits, deltas, anchors) in enumerate(maps):
        rows = []
        for score, delta, anchor in zip(logits.tolist(), deltas.tolist(), anchors.tolist(), strict=True):
            width, height = anchor[2] - anchor[0] + extra, anchor[3] - anchor[1] + extra
            growth = [min(d, math.log(config.max_box_growth or math.inf)) for d in delta[2:]]
            middle_x, middle_y = anchor[0] + (0.5 + delta[0]) * width, anchor[1] + (0.5 + delta[1]) * height
            half_x, half_y = 0.5 * width * math.exp(growth[0]), 0.5 * height * math.exp(growth[1])
            box = [middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y]
            last = [size[1] - extra, size[0] - extra] * 2
            rows.append((score, [min(max(side, 0), most) for side, most in zip(box, last, strict=True)]))
        if not config.filter_before_nms_cut:
            rows = sorted(rows, key=lambda row: -row[0])[: config.proposals_before_nms]
        large = [row for row in rows if min(row[1][2] - row[1][0], row[1][3] - row[1][1]) + extra >= smallest]
        rows = sorted(large, key=lambda row: -row[0])[: config.proposals_before_nms]
        kept: list[tuple] = []
        for score, box in rows:
            if all(overlap(box, other, config.box_plus_one) <= config.rpn_nms_threshold for _, other, _ in kept):
                kept.append((score, box, level))
        survivors += kept
    return sorted(survivors, key=lambda row: -row[0])[: config.proposals_after_nms]


def random_maps(num_maps: int, *, seed: int, anchors_a_map: int = 120) -> list[tuple]:
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for _ in range(num_maps):
        corners = torch.rand(anchors_a_map, 2, generator=generator) * 100 - 10
        sides = torch.rand(anchors_a_map, 2, generator=generator) * 40 + 4
        deltas = torch.randn(anchors_a_map, 4, generator=generator) * 0.3
        logits = torch.randn(anchors_a_map, generator=generator)
        maps.append((logits, deltas, torch.cat([corners, corners + sides], dim=1)))
    return maps


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("make", "num_maps", "changes"),
    [
        (tiny_detector_config, 1, {"rpn_nms_threshold": 0.3}),
        (tiny_detector_config, 1, {"proposals_before_nms": 50}),
        (tiny_pyramid_config, 4, {"rpn_nms_threshold": 0.4, "proposals_after_nms": 300}),
        (tiny_pyramid_config, 4, {"proposals_before_nms": 30, "min_proposal_side": 15}),
    ],
)
def test_against_slow_twin(make, num_maps, changes, seed):
    config, size, factor = make(**changes), (90, 110), 1.5
    maps = random_maps(num_maps, seed=seed)
    logits, deltas, anchors = map(list, zip(*maps, strict=True))
    boxes, scores = top_proposals(logits, deltas, anchors, config=config, image_size=size, resize_factor=factor)
    expected = slow_proposals(maps, config, size, config.min_proposal_side * factor)
    assert 10 < len(expected) == len(boxes)
    torch.testing.assert_close(scores, torch.tensor([score for score, _, _ in expected]))
    torch.testing.assert_close(boxes, torch.tensor([box for _, box, _ in expected]), atol=1e-3, rtol=0)


def test_maps_do_not_suppress_each_other():
    one_map = random_maps(1, seed=0)[0]
    config = tiny_pyramid_config(proposals_after_nms=1000, rpn_nms_threshold=0.1)
    lists = [[part] for part in one_map]
    alone, _ = top_proposals(*lists, config=config, image_size=(90, 110))
    twice, _ = top_proposals(*[part * 2 for part in lists], config=config, image_size=(90, 110))
    assert len(twice) == 2 * len(alone) < 2 * 120
    assert torch.equal(twice[::2], alone) and torch.equal(twice[1::2], alone)


def test_too_few_are_filled_up_with_the_best_suppressed():
    box = torch.tensor([[10.0, 10.0, 40.0, 40.0]]).expand(6, 4)
    logits = torch.tensor([0.1, 0.6, 0.3, 0.5, 0.2, 0.4])
    arguments = {"config": tiny_detector_config(), "image_size": (90, 110)}
    maps = ([logits], [torch.zeros(6, 4)], [box])
    assert top_proposals(*maps, **arguments)[1].tolist() == pytest.approx([0.6])
    assert top_proposals(*maps, at_least=3, **arguments)[1].tolist() == pytest.approx([0.6, 0.5, 0.4])
    assert len(top_proposals(*maps, at_least=30, **arguments)[0]) == 6


@pytest.mark.parametrize(("make", "whole"), [(tiny_detector_config, [0, 0, 2, 1]), (tiny_pyramid_config, [0, 0, 3, 2])])
def test_image_of_a_few_pixels_is_one_proposal(make, whole):
    logits, deltas, anchors = (list(part) for part in zip(*random_maps(1, seed=0), strict=True))
    boxes, scores = top_proposals(logits, deltas, anchors, config=make(), image_size=(2, 3))
    assert boxes.tolist() == [whole] and scores.tolist() == [0]


@pytest.mark.filterwarnings("ignore:overflow")
def test_regressions_that_are_no_numbers_are_dropped():
    """An untrained network may give anything; an infinite box is the whole image."""
    maps = ([torch.tensor([3.0, 2.0, 1.0])], [torch.zeros(3, 4)], [torch.tensor([[8.0, 8.0, 40.0, 40.0]]).expand(3, 4)])
    maps[1][0][0, 0] = float("nan")
    maps[1][0][1, 2:] = 1000.0  # exp overflows
    boxes, scores = top_proposals(*maps, config=tiny_detector_config(), image_size=(90, 110))
    assert scores.tolist() == [2, 1]
    assert boxes[0].tolist() == [0, 0, 109, 89]
    assert boxes[1].tolist() == [8, 8, 41, 41]  # the +1 of Caffe's decoding


def test_training_keeps_as_many_as_training_wants():
    config = tiny_detector_config(rpn_nms_threshold=1.0)  # nothing is suppressed
    logits, deltas, anchors = (list(part) for part in zip(*random_maps(1, seed=0, anchors_a_map=400), strict=True))
    arguments = {"config": config, "image_size": (90, 110)}
    assert len(top_proposals(logits, deltas, anchors, **arguments)[0]) == config.proposals_after_nms == 40
    boxes, _ = top_proposals(logits, deltas, anchors, training=True, **arguments)
    assert len(boxes) == config.train_proposals_after_nms == 80
    assert not boxes.requires_grad
