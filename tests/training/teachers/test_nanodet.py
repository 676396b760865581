"""NanoDet-Plus: outputs decoded by a slow loop, kinds of ONNX files told apart, boxes on photos, average precision."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from tests.shared_files import shared
from training.data.boxes.names import COCO_NAMES
from training.teachers import detectors, nanodet
from training.teachers.agreement import average_precision
from training.teachers.detectors import load_onnx_teacher
from training.teachers.fastestdet import FastestDetTeacher, is_fastestdet
from training.teachers.made_boxes import detect, folder_rows, keep_best
from training.teachers.nanodet import NanoDetTeacher, decode_nanodet, nanodet_pixels, nanodet_strides

NANODET = "weights/nanodet_plus/nanodet-plus-m_416.onnx"
BINS = 3


class Entry(NamedTuple):
    """An input or output of a graph."""

    name: str
    shape: Sequence[int | str]


class Session:
    """A stand-in for onnxruntime's: random maps of the size that the input asks for, which it keeps."""

    def __init__(self, outputs: Sequence[Entry], inputs: Sequence[Entry] = (Entry("data", ["n", 3, "h", "w"]),)):
        self.inputs, self.outputs = inputs, outputs
        self.pixels, self.given = np.zeros(0), {}

    def get_inputs(self) -> Sequence[Entry]:
        return self.inputs

    def get_outputs(self) -> Sequence[Entry]:
        return self.outputs

    def run(self, _: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        (self.pixels,) = inputs.values()
        height, width = self.pixels.shape[2:]
        draw = np.random.default_rng(0)
        for name, shape in self.outputs:
            stride = int(name[3:])
            rows, columns = math.ceil(height / stride), math.ceil(width / stride)
            scores = draw.random((1, int(shape[1]), rows, columns)) if name.startswith("cls") else None
            logits = 3 * draw.standard_normal((1, rows, columns, int(shape[-1]) if scores is None else 0))
            self.given[name] = (logits if scores is None else scores).astype(np.float32)
        return list(self.given.values())


def nanodet_session(*strides: int, classes: int = 2, bins: int = BINS) -> Session:
    pairs = [(Entry(f"cls{s}", [1, classes, "r", "c"]), Entry(f"dis{s}", [1, "r", "c", 4 * bins])) for s in strides]
    return Session([entry for pair in pairs for entry in pair])


def slowly_decoded(outputs: dict[str, np.ndarray], strides: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Boxes and class scores of every cell, one number at a time."""
    boxes, probs = [], []
    for stride in strides:
        scores, logits = outputs[f"cls{stride}"], outputs[f"dis{stride}"]
        for row in range(scores.shape[1]):
            for column in range(scores.shape[2]):
                sides = []
                for side in range(4):
                    weights = [math.exp(logits[row, column, side * BINS + k]) for k in range(BINS)]
                    sides.append(stride * sum(k * weight for k, weight in enumerate(weights)) / sum(weights))
                x, y = column * stride, row * stride
                boxes.append([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])
                probs.append([scores[number, row, column] for number in range(len(scores))])
    return boxes, probs


def test_outputs_are_decoded_as_by_a_slow_loop() -> None:
    session = nanodet_session(8, 32)
    session.run(None, {"data": np.zeros((1, 3, 32, 96))})
    outputs = {name: output[0] for name, output in session.given.items()}
    boxes, probs = decode_nanodet(outputs, strides=[8, 32])
    slow_boxes, slow_probs = slowly_decoded(outputs, [8, 32])
    assert boxes.shape == (4 * 12 + 1 * 3, 4) and probs.shape == (51, 2)
    assert torch.allclose(boxes, torch.tensor(slow_boxes), atol=1e-4)
    assert torch.equal(probs, torch.tensor(np.array(slow_probs)))


def test_a_certain_side_is_its_bin_times_the_stride() -> None:
    logits = torch.full((1, 2, 4, 8), -100.0)
    logits[0, 1, range(4), [1, 0, 7, 2]] = 100.0  # of the second cell, whose corner is (16, 0)
    outputs = {"cls16": np.ones((1, 1, 2), dtype=np.float32), "dis16": logits.view(1, 2, 32).numpy()}
    boxes, _ = decode_nanodet(outputs, strides=[16])
    assert boxes[1].tolist() == pytest.approx([0, 0, 128, 32])


@pytest.mark.parametrize("size", [(50, 20), (20, 50), (832, 416), (1, 900)])
def test_boxes_come_back_to_the_image(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair of cell and class over the threshold, by a slow loop, from the input's pixels to the image's."""
    session = nanodet_session(32)
    teacher = teacher_of(session, monkeypatch, names=["dog", "cat"], threshold=0.6)
    assert isinstance(teacher, NanoDetTeacher)
    found = teacher.detect(Image.new("RGB", size, "red"))
    width, height = (max(1, round(side * 416 / max(size))) for side in size)
    rows, columns = session.pixels.shape[2:]
    assert rows % 32 == columns % 32 == 0 and 0 <= rows - height < 32 and 0 <= columns - width < 32
    left, top = (columns - width) // 2, (rows - height) // 2
    expected = []
    boxes, probs = slowly_decoded({name: output[0] for name, output in session.given.items()}, [32])
    for (x1, y1, x2, y2), scores in zip(boxes, probs, strict=True):
        xs = [min(max((x - left) * size[0] / width, 0), size[0]) for x in (x1, x2)]
        ys = [min(max((y - top) * size[1] / height, 0), size[1]) for y in (y1, y2)]
        expected += [(xs[0], ys[0], xs[1], ys[1], score) for score in scores if score >= 0.6]
    assert len(found.labels) == len(expected) > 0 and set(found.labels) == {"dog", "cat"}
    assert torch.allclose(found.boxes, torch.tensor(expected)[:, :4], atol=2e-3)
    assert found.scores.tolist() == pytest.approx([row[4] for row in expected])
    assert found.probs is not None and found.probs.shape == (len(expected), 2)
    of_label = found.probs[range(len(expected)), [teacher.names.index(label) for label in found.labels]]
    assert torch.equal(of_label, found.scores)


def test_the_input_is_blue_green_red_with_a_black_border() -> None:
    pixels, offset, scale = nanodet_pixels(Image.new("RGB", (208, 100), (255, 0, 128)))
    assert pixels.shape == (1, 3, 224, 416) and pixels.dtype == np.float32
    assert offset.tolist() == [0, 12, 0, 12] and scale.tolist() == [2, 2, 2, 2]
    mean, deviation = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    inside = [(value - m) / d for value, m, d in zip((128, 0, 255), mean, deviation, strict=True)]
    assert pixels[0, :, 112, 200].tolist() == pytest.approx(inside, abs=1e-5)
    border = [-m / d for m, d in zip(mean, deviation, strict=True)]
    for row in (0, 11, 212, 223):
        assert pixels[0, :, row, 5].tolist() == pytest.approx(border, abs=1e-5)


class JoinedSession:
    """The outputs of another stand-in as the project's own export joins them, for an input of fixed size."""

    def __init__(self, pairs: Session, size: tuple[int, int]):
        self.pairs, self.size = pairs, size
        self.classes = int(pairs.outputs[0].shape[1])

    def get_inputs(self) -> Sequence[Entry]:
        return [Entry("data", [1, 3, *self.size])]

    def get_outputs(self) -> Sequence[Entry]:
        cells = sum(math.ceil(self.size[0] / s) * math.ceil(self.size[1] / s) for s in (8, 16, 32, 64))
        return [Entry("output", [1, cells, self.classes + 32])]

    def run(self, names: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.pairs.run(names, inputs)
        parts = []
        for stride in (8, 16, 32, 64):
            scores, logits = self.pairs.given[f"cls{stride}"][0], self.pairs.given[f"dis{stride}"][0]
            for row, column in np.ndindex(*logits.shape[:2]):
                parts.append(np.concatenate([scores[:, row, column], logits[row, column]]))
        return [np.stack(parts)[None]]


def test_one_joined_output_gives_the_same_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (90, 100), "blue")  # fills the height, and leaves a border on both sides
    pairs = nanodet_session(8, 16, 32, 64, classes=3, bins=8)
    pairs.inputs = [Entry("data", [1, 3, 96, 160])]
    names = ["dog", "cat", "bird"]
    expected = teacher_of(pairs, monkeypatch, names=names, threshold=0.9).detect(image)
    assert pairs.pixels.shape == (1, 3, 96, 160)
    joined = JoinedSession(pairs, (96, 160))
    teacher = teacher_of(joined, monkeypatch, names=names, threshold=0.9)
    assert isinstance(teacher, NanoDetTeacher) and teacher.strides == [8, 16, 32, 64]
    found = teacher.detect(image)
    assert found.labels == expected.labels and len(found.labels) > 20
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.scores, expected.scores)
    assert found.boxes[:, 2].max() <= 90 and found.boxes[:, 3].max() <= 100


def teacher_of(
    session: Any, monkeypatch: pytest.MonkeyPatch, *, names: Sequence[str] | None = None, threshold: float = 0.05
) -> NanoDetTeacher | FastestDetTeacher:
    """The teacher of a stand-in, as it would be loaded from a file."""
    monkeypatch.setattr(detectors, "open_onnx", lambda model: session)
    if names is not None:
        monkeypatch.setattr(nanodet, "class_names", lambda model, given: list(names))
    return load_onnx_teacher("model.onnx", threshold=threshold)


def test_kinds_are_told_apart_by_inputs_and_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    paired = teacher_of(nanodet_session(16, 8, classes=80), monkeypatch)
    assert isinstance(paired, NanoDetTeacher) and paired.strides == [8, 16] and paired.names == list(COCO_NAMES)
    fixed = Session([Entry("758", [1, 85, 22, 22])], [Entry("input.1", [1, 3, 352, 320])])
    fastestdet = teacher_of(fixed, monkeypatch)
    assert isinstance(fastestdet, FastestDetTeacher) and (fastestdet.height, fastestdet.width) == (352, 320)


@pytest.mark.parametrize(
    "outputs",
    [
        [Entry("logits", [1, 1000])],
        [Entry("cls8", [1, 80, "r", "c"])],
        [Entry("cls8", [1, 80, "r", "c"]), Entry("dis16", [1, "r", "c", 32])],
        [Entry("cls8", [1, 80, "r", "c"]), Entry("dis8", [1, "r", "c", 32]), Entry("masks", [1, 8])],
        [Entry("output", [1, 3598, 112])],  # as NanoDet's own export, but for an input of any size
        [Entry("map", [1, 85, 22, 22])],  # as FastestDet, but for an input of any size
    ],
)
def test_a_graph_that_is_neither_is_refused(outputs: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="model.onnx is neither NanoDet-Plus nor FastestDet") as refused:
        teacher_of(Session(outputs), monkeypatch)
    assert "the inputs data ['n', 3, 'h', 'w'] and the outputs " + outputs[0].name in str(refused.value)
    assert not nanodet_strides(Session(outputs)) and not is_fastestdet(Session(outputs))


def test_another_number_of_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="model.onnx scores 2 classes, but there are 80 class names; .* --names"):
        teacher_of(nanodet_session(8), monkeypatch)
    with pytest.raises(ValueError, match="is it an export of FastestDet"):
        FastestDetTeacher("model.onnx", session=nanodet_session(8))
    with pytest.raises(ValueError, match=r"the outputs 758 \[1, 85, 22, 22\]; NanoDet-Plus has pairs cls8, dis8"):
        NanoDetTeacher("model.onnx", session=Session([Entry("758", [1, 85, 22, 22])]))


def test_nanodet_on_photos() -> None:
    """Golden boxes, made by this code where it has the average precision that the weights' own README states."""
    pytest.importorskip("onnxruntime")
    teacher = load_onnx_teacher(shared(NANODET))
    for photo, label, score, box in (
        ("chelsea.png", "cat", 0.8534, [0.0, 0.0, 405.38, 297.49]),
        ("astronaut.png", "person", 0.6332, [16.49, 9.05, 362.15, 511.96]),
        ("motorcycle_left.png", "motorcycle", 0.8162, [116.03, 8.68, 683.88, 453.05]),
    ):
        with Image.open(shared(f"data/photos/{photo}")) as image:
            best = keep_best(teacher([image])[0], nms_iou=0.6, size=image.size)
        assert best.labels[0] == label and best.scores[0].item() == pytest.approx(score, abs=0.01)
        assert best.boxes[0].tolist() == pytest.approx(box, abs=2)
        assert best.probs is not None and best.probs[0].argmax() == COCO_NAMES.index(label)


def test_nanodet_agrees_with_real_boxes() -> None:
    """The README beside the weights states an AP50 of 54.1 on these 41 images."""
    pytest.importorskip("onnxruntime")
    teacher = load_onnx_teacher(shared(NANODET))
    folder = shared("data/coco_subset/images")
    real = json.loads(shared("data/coco_subset/instances.json").read_text())
    listed = json.loads(shared("data/coco_subset/captions.json").read_text())["images"]
    boxed = {note["image_id"] for note in real["annotations"]}
    tested = {image["file_name"]: image["id"] for image in listed if image["karpathy_split"] == "test"}
    rows = folder_rows(folder)
    rows = rows.select([row for row, name in enumerate(rows["image_id"]) if tested.get(name) in boxed])
    made = detect(rows, teacher, folder=folder, threshold=0.05, nms_iou=0.6)
    ids = {image["id"] for image in made["images"]}
    truth = [note for note in real["annotations"] if note["image_id"] in ids]
    figures = average_precision(made["annotations"], truth, images=made["images"], categories=made["categories"])
    assert len(ids) == 41
    assert figures == pytest.approx({"ap": 36.4, "ap50": 53.1}, abs=0.5)
