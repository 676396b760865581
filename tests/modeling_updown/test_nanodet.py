"""NanoDet-Plus as the proposal model: the published graph's outputs, its boxes against slow twins, what never trains.

That a batch is each image alone, that given boxes have the features of proposals, and saving, are in test_detector.py.
"""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from modeling_updown import UpDownDetector, UpDownDetectorConfig
from modeling_updown.boxes_updown import pairwise_iou
from modeling_updown.nanodet_updown import (
    STRIDES,
    Cells,
    NanoDet,
    box_scores,
    cell_boxes,
    graph_names,
    normalised,
    pad_to_multiple,
    published_weights,
    top_cells,
)
from tests.modeling_updown.test_detector_training import labelled_images, one_image, trained_parts
from tests.shared_files import shared
from tests.tiny import noise_image, tiny_nanodet_config, tiny_nanodet_detector, tiny_pyramid_detector

PUBLISHED = "weights/nanodet_plus/nanodet-plus-m_416"
WHOLE = {"nanodet_channels": None, "nanodet_classes": 80, "region_feature_size": 32 + 96 + 80}


@pytest.fixture(scope="module")
def model() -> UpDownDetector:
    return tiny_nanodet_detector()


# ---- the network


class Graph:
    """The published graph, convolution by convolution, under its own names."""

    def __init__(self, weights: Mapping[str, torch.Tensor]):
        self.weights = weights

    def run(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight, bias = self.weights[f"convs.{name}.weight"], self.weights[f"convs.{name}.bias"]
        groups = len(weight) if "dw" in name else 1
        x = F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        return torch.where(x > 0, x, 0.1 * x) if "relu" in name else x

    def ghost(self, names: str, *inputs: torch.Tensor) -> torch.Tensor:
        first, cheap, second, last, wide, narrow = names.split()
        joined = torch.cat(inputs, dim=1)
        x = self.run(first, joined)
        x = self.run(second, torch.cat([x, self.run(cheap, x)], dim=1))
        return torch.cat([x, self.run(last, x)], dim=1) + self.run(narrow, self.run(wide, joined))

    def levels(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The backbone's maps at strides 8, 16, 32."""
        run, one, deep = self.run, 1, 161
        x, found = F.max_pool2d(run("convrelu_0", inputs, 2), 3, 2, 1), []
        for depth in (4, 8, 4):
            right = run(f"convrelu_{one + 1}", run(f"convdw_{deep + 1}", run(f"convrelu_{one}", x), 2))
            x = mixed(run(f"convrelu_{one + 2}", run(f"convdw_{deep}", x, 2)), right)
            one, deep = one + 3, deep + 2
            for _ in range(depth - 1):
                half = x.shape[1] // 2
                right = run(f"convrelu_{one + 1}", run(f"convdw_{deep}", run(f"convrelu_{one}", x[:, half:])))
                x = mixed(x[:, :half], right)
                one, deep = one + 2, deep + 1
            found.append(x)
        return found

    def outputs(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Logits of classes and distances at strides 8, 16, 32, 64."""
        run, ghost = self.run, self.ghost
        names = ("convrelu_39", "convrelu_37", "convrelu_36")
        c8, c16, c32 = (run(name, level) for name, level in zip(names, self.levels(inputs), strict=True))
        m16 = ghost("convrelu_38 convdwrelu_0 conv_60 convdw_181 convdw_182 conv_61", twice(c32), c16)
        p8 = ghost("convrelu_40 convdwrelu_1 conv_63 convdw_184 convdw_185 conv_64", twice(m16), c8)
        half = run("convrelu_41", run("convdwrelu_2", p8, 2))
        p16 = ghost("convrelu_42 convdwrelu_3 conv_67 convdw_188 convdw_189 conv_68", half, m16)
        half = run("convrelu_43", run("convdwrelu_4", p16, 2))
        p32 = ghost("convrelu_44 convdwrelu_5 conv_71 convdw_192 convdw_193 conv_72", half, c32)
        p64 = run("convrelu_46", run("convdwrelu_6", c32, 2)) + run("convrelu_45", run("convdwrelu_7", p32, 2))
        outputs = []
        for i, (level, last, end) in enumerate(
            zip((p8, p16, p32, p64), (54, 53, 52, 51), (77, 80, 83, 86), strict=True)
        ):
            x = run(f"convrelu_{47 + i}", run(f"convdwrelu_{8 + 2 * i}", level))
            outputs.append(run(f"conv_{end}", run(f"convrelu_{last}", run(f"convdwrelu_{9 + 2 * i}", x))))
        return outputs


def mixed(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The channels of both in turn."""
    return torch.stack([part[:, i] for i in range(left.shape[1]) for part in (left, right)], dim=1)


def twice(level: torch.Tensor) -> torch.Tensor:
    return F.interpolate(level, scale_factor=2, mode="bilinear", align_corners=False)


def graph_weights(nanodet: NanoDet) -> dict[str, torch.Tensor]:
    """A model's weights under the names of the published graph."""
    state = nanodet.state_dict()
    kinds = ("weight", "bias")
    return {
        f"convs.{theirs}.{kind}": state[f"{ours}.{kind}"] for ours, theirs in graph_names().items() for kind in kinds
    }


@torch.no_grad()
def test_the_network_is_the_published_graph() -> None:
    torch.manual_seed(0)
    nanodet = NanoDet(tiny_nanodet_config())
    weights = graph_weights(nanodet)
    assert len(weights) == len(nanodet.state_dict()) == 220
    inputs = torch.randn(2, 3, 64, 96)
    for found, expected in zip(nanodet.outputs(inputs)[1], Graph(weights).outputs(inputs), strict=True):
        assert expected.std() > 1e-3
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
    with torch.device("meta"):
        whole = NanoDet(tiny_nanodet_config(**WHOLE))
    assert sum(weight.numel() for weight in whole.parameters()) == 1_186_346


@torch.no_grad()
@pytest.mark.parametrize("photo", ["china.jpg", "chelsea.png"])
def test_outputs_are_those_of_the_published_model(photo: str) -> None:
    """The detector's own pixels, at a size that is padded on all sides, against onnxruntime on the same in BGR."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the published graph")
    image = Image.open(shared(f"data/photos/{photo}")).convert("RGB").resize((300, 220))
    detector = UpDownDetector(tiny_nanodet_config(**WHOLE)).eval()
    detector.load_proposal_weights(shared(f"{PUBLISHED}_torch.safetensors"))
    pixels = torch.tensor(list(image.tobytes()), dtype=torch.float32).view(1, 220, 300, 3)
    canvas = torch.zeros(1, 224, 320, 3)
    canvas[:, 2:222, 10:310] = pixels.flip(3)
    mean, std = torch.tensor([103.53, 116.28, 123.675]), torch.tensor([57.375, 57.12, 58.395])
    session = onnxruntime.InferenceSession(str(shared(f"{PUBLISHED}.onnx")))
    names = [f"{kind}{stride}" for stride in STRIDES for kind in ("cls", "dis")]
    published = session.run(names, {"data": ((canvas - mean) / std).permute(0, 3, 1, 2).contiguous().numpy()})
    cells = detector.proposals(pixels.permute(0, 3, 1, 2) / 255 * 2 - 1)
    assert cells.offset == (10, 2) and cells.scores.max() > 0.1
    scores = torch.cat([torch.from_numpy(part).flatten(2).transpose(1, 2) for part in published[::2]], dim=1)
    assert (cells.scores - scores).abs().max() < 1e-4
    boxes = []
    for part, stride in zip(published[1::2], STRIDES, strict=True):
        boxes.append(cell_boxes(torch.from_numpy(part).permute(0, 3, 1, 2), stride=stride))
    expected = (torch.cat(boxes, dim=1) - torch.tensor([10, 2, 10, 2])).clamp(min=0)
    expected = torch.minimum(expected, torch.tensor([300.0, 220, 300, 220]))
    assert (cells.boxes - expected).abs().max() < 1e-2  # pixels; a bin is up to 64 of them


# ---- pixels and boxes


def test_pixels_are_turned_into_nanodets() -> None:
    nanodet = NanoDet(tiny_nanodet_config(pixel_mean=[0.1, 0.2, 0.3], pixel_std=[0.4, 0.5, 0.6]))
    rgb = torch.tensor([200.0, 100.0, 0.0]) / 255
    seen = ((rgb - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])).view(1, 3, 1, 1)
    pixels = nanodet.pixels(seen)
    torch.testing.assert_close(pixels.flatten(), torch.tensor([0.0, 100.0, 200.0]), atol=1e-3, rtol=0)
    expected = [-103.53 / 57.375, (100 - 116.28) / 57.12, (200 - 123.675) / 58.395]
    torch.testing.assert_close(normalised(pixels).flatten(), torch.tensor(expected), atol=1e-4, rtol=0)
    padded, offset = pad_to_multiple(torch.ones(1, 3, 33, 60))
    assert padded.shape == (1, 3, 64, 64) and offset == (2, 15)
    assert padded.sum() == 3 * 33 * 60 and padded[0, 0, 15:48, 2:62].all()


def test_boxes_against_a_loop() -> None:
    logits = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(1)) * 3
    boxes = cell_boxes(logits, stride=16)
    for image, row, column in ((0, 0, 0), (1, 2, 3), (1, 1, 2)):
        sides = []
        for side in range(4):
            weights = logits[image, 8 * side : 8 * side + 8, row, column].exp()
            sides.append(float(sum(i * weights[i] for i in range(8)) / weights.sum()) * 16)
        expected = [column * 16 - sides[0], row * 16 - sides[1], column * 16 + sides[2], row * 16 + sides[3]]
        assert boxes[image, row * 4 + column].tolist() == pytest.approx(expected, abs=1e-3)


@torch.no_grad()
def test_padding_moves_neither_boxes_nor_regions(model: UpDownDetector) -> None:
    """An image of 60 x 100 is the middle of one of 64 x 128, black around it, whose boxes are clipped."""
    image = noise_image(60, 100)
    framed = torch.full((1, 3, 64, 128), -1.0)  # black
    framed[:, :, 2:62, 14:114] = image
    cells, whole = model.feature_maps(image), model.feature_maps(framed)
    assert cells.cells.offset == (14, 2) and whole.cells.offset == (0, 0)
    shift = torch.tensor([14.0, 2, 14, 2])
    moved = torch.minimum((whole.cells.boxes - shift).clamp(min=0), torch.tensor([100.0, 60, 100, 60]))
    torch.testing.assert_close(cells.cells.boxes, moved, atol=1e-3, rtol=0)
    box = torch.tensor([[20.0, 10, 80, 50], [0, 0, 100, 60]])
    found, expected = model.region_features(cells, [box]), model.region_features(whole, [box + shift])
    torch.testing.assert_close(found[:, :32], expected[:, :32], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found[:, :32], model.region_features(whole, [box])[:, :32], atol=1e-2)


def some_cells(count: int = 60, *, seed: int = 0) -> Cells:
    generator = torch.Generator().manual_seed(seed)
    corners = (torch.rand(1, count, 2, 2, generator=generator) * 64).sort(dim=2).values
    return Cells([], corners.flatten(2), torch.rand(1, count, 5, generator=generator), (0, 0))


def iou(box: torch.Tensor, other: torch.Tensor) -> float:
    return float(pairwise_iou(box[None], other[None]))


@pytest.mark.parametrize("training", [False, True])
def test_proposals_against_a_loop(training: bool) -> None:
    """The surest first, one suppression for all classes, small boxes left out before the cut."""
    numbers = {"proposals_before_nms": 30, "proposals_after_nms": 9}
    numbers |= {"train_proposals_before_nms": 40, "train_proposals_after_nms": 10}
    config = tiny_nanodet_config(min_proposal_side=5, rpn_nms_threshold=0.3, **numbers)
    cells = some_cells(200)
    order = sorted(range(200), key=lambda i: -float(cells.scores[0, i].max()))
    order = [i for i in order if (cells.boxes[0, i, 2:] - cells.boxes[0, i, :2]).min() >= 10]
    kept: list[int] = []
    for i in order[: 40 if training else 30]:
        if all(iou(cells.boxes[0, i], cells.boxes[0, k]) <= 0.3 for k in kept):
            kept.append(i)
    options: dict[str, Any] = {"config": config, "image_size": (64, 64), "resize_factor": 2.0, "training": training}
    boxes = top_cells(cells, 0, **options)
    most = 10 if training else 9
    assert len(kept) >= most and torch.equal(boxes, cells.boxes[0, kept[:most]])
    assert len(top_cells(cells, 0, at_least=25, **options)) == 25
    nothing = Cells([], torch.zeros(1, 3, 4), torch.ones(1, 3, 5), (0, 0))
    assert top_cells(nothing, 0, **options).tolist() == [[0, 0, 64, 64]]


def test_scores_against_a_loop() -> None:
    cells, boxes = some_cells(90), some_cells(40, seed=3).boxes[0]
    expected = torch.zeros(40, 5)
    for row, box in enumerate(boxes):
        best = 0.0
        for other, scores in zip(cells.boxes[0], cells.scores[0], strict=True):
            overlap = iou(box, other)
            if overlap >= 0.5 and overlap * float(scores.max()) > best:
                best, expected[row] = overlap * float(scores.max()), scores
    found = box_scores(cells, [boxes])
    assert torch.equal(found, expected)
    assert 0 < (expected.sum(dim=1) == 0).sum() < 40
    assert box_scores(cells, [torch.zeros(0, 4)]).shape == (0, 5)


@torch.no_grad()
def test_a_region_carries_its_scores(model: UpDownDetector) -> None:
    """The last of its feature, of a detected region, a given box and a cell alike; in 0..1."""
    image = noise_image(96, 128)
    group = model.feature_maps(image)
    output = model(image, grid_sizes=[2])
    boxes = torch.tensor([[0.0, 0, 64, 48], [3, 5, 90, 80]])
    expected = box_scores(group.cells, [boxes])
    torch.testing.assert_close(output.region_features[0, 0, -7:], expected[0])
    given = model(image, boxes=(boxes / torch.tensor([128, 96, 128, 96]))[None])
    torch.testing.assert_close(given.region_features[0, :, -7:], expected, atol=1e-5, rtol=0)
    scores = output.region_features[0, 4:, -7:]
    assert scores.max() > 0.5 and scores.min() >= 0 and scores.max() <= 1


# ---- training


@pytest.mark.parametrize("unfrozen_again", [False, True])
def test_nanodet_never_trains(unfrozen_again: bool) -> None:
    detector = tiny_nanodet_detector().train()
    if unfrozen_again:
        detector.requires_grad_(False)
        detector.unfreeze()
    output = detector(**labelled_images())
    assert set(output.losses) == {"region_class", "region_box", "region_attributes"}
    output.loss.backward()
    assert not any(weight.requires_grad or weight.grad is not None for weight in detector.proposals.parameters())
    parts = trained_parts(detector)
    stages = {part.rpartition(".")[2] for part in parts if part.startswith("backbone.backbone")}
    assert stages == {"layer2", "layer3", "layer4"}
    assert {"heads.object_score", "heads.box_deltas", "region_stage.hidden", "region_stage.output"} <= set(parts)
    assert all(gradient > 0 for gradient in parts.values()), parts


def test_losses_of_a_batch_and_a_few_steps() -> None:
    detector, batch = tiny_nanodet_detector(phrase_embedding_size=6), labelled_images()
    with torch.no_grad():
        together, alone = detector(**batch), [detector(**one_image(batch, row)) for row in range(2)]
    for name, value in together.losses.items():
        expected = torch.stack([output.losses[name] for output in alone]).mean()
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4, msg=name)
    batch["phrase_boxes"] = batch["true_boxes"][:, :2]
    batch["phrase_embeds"] = F.normalize(torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    batch["other_labels"] = torch.tensor([[[4], [0], [0]], [[1], [0], [0]]])
    detector.train()
    before = {name: weight.clone() for name, weight in detector.proposals.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(6):
        output = detector(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert "region_phrases" in output.losses and losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(weight, before[name]) for name, weight in detector.proposals.state_dict().items())


@torch.no_grad()
def test_autocast_moves_no_proposal(model: UpDownDetector) -> None:
    """The frozen network runs in float32 in training with mixed precision as well."""
    image = noise_image(96, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.proposals(image)
    assert torch.equal(found.boxes, model.proposals(image).boxes) and found.maps[0].dtype == torch.float32


# ---- weights and config


def test_published_weights_by_their_own_names(tmp_path: Any) -> None:
    detector, weights = tiny_nanodet_detector(), graph_weights(NanoDet(tiny_nanodet_config()))
    save_file({name: weight.contiguous() for name, weight in weights.items()}, tmp_path / "nanodet.safetensors")
    detector.load_proposal_weights(tmp_path / "nanodet.safetensors")
    assert all(torch.equal(weight, weights[name]) for name, weight in graph_weights(detector.proposals).items())
    with pytest.raises(ValueError, match=re.escape("holds body.stem.weight of NanoDet in (8, 3, 3, 3), not (24, 3")):
        UpDownDetector(tiny_nanodet_config(**WHOLE)).load_proposal_weights(tmp_path / "nanodet.safetensors")
    with pytest.raises(ValueError, match='only a detector with proposal_model="nanodet" takes weights of NanoDet'):
        tiny_pyramid_detector().load_proposal_weights(tmp_path / "nanodet.safetensors")
    del weights["convs.conv_60.bias"]
    with pytest.raises(
        ValueError, match=r"is not NanoDet-Plus-m: it lacks 1 weights, such as \['convs.conv_60.bias'\]"
    ):
        published_weights(weights, place="x")
    with pytest.raises(ValueError, match=r"holds 1 others, such as \['head.weight'\]"):
        published_weights({**weights, "head.weight": torch.zeros(1)}, place="x")


def test_all_published_weights_are_used() -> None:
    state = load_file(shared(f"{PUBLISHED}_torch.safetensors"))
    with torch.device("meta"):
        expected = {name: weight.shape for name, weight in NanoDet(tiny_nanodet_config(**WHOLE)).state_dict().items()}
    assert {name: weight.shape for name, weight in published_weights(state, place="x").items()} == expected
    assert len(state) == len(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joined_features": False}, "wants a timm backbone, joined_features=True and box_plus_one=False, not 'test_r"),
        ({"box_plus_one": True}, "wants a timm backbone, joined_features=True and box_plus_one=False"),
        ({"backbone": "caffe_resnet50"}, "wants a timm backbone, .* not 'caffe_resnet50'"),
        ({"nanodet_channels": [8, 8, 9, 8, 8]}, "must be five even widths"),
        ({"nanodet_channels": [8, 8]}, "must be five even widths"),
        ({"nanodet_classes": 0}, "nanodet_classes=0 1 or more"),
        ({"pixel_std": [1, 1, 0]}, "must be three numbers each, those of std above 0"),
    ],
)
def test_mistakes_in_the_config(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_nanodet_config(**changes)


def test_the_feature_holds_the_scores() -> None:
    with pytest.raises(ValueError, match="gives features of width 135, but config.region_feature_size is 128"):
        UpDownDetector(tiny_nanodet_config(region_feature_size=128))
    assert UpDownDetectorConfig().nanodet_channels is None and UpDownDetectorConfig().pixel_mean is None


def test_one_number_is_of_all_three_channels() -> None:
    config = tiny_nanodet_config(pixel_mean=0, pixel_std=0.25)
    assert (config.pixel_mean, config.pixel_std) == ([0, 0, 0], [0.25, 0.25, 0.25])
    with pytest.raises(ValueError, match="must be three numbers each, those of std above 0"):
        tiny_nanodet_config(pixel_std=0)
