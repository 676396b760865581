"""Teachers: the output map of FastestDet decoded by hand, both kinds of teacher on images, and what is refused."""

import math
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

from tests.shared_files import shared
from training.teachers.detectors import TransformersTeacher, load_teacher
from training.teachers.fastestdet import FastestDetTeacher, decode_fastestdet


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number))


def test_a_map_is_decoded_as_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(8, 2, 3, generator=generator)  # three classes, two rows, three columns
    cells[0], cells[5:] = cells[0].sigmoid(), cells[5:].softmax(dim=0)
    boxes, scores, classes = decode_fastestdet(cells)
    assert boxes.shape == (6, 4)
    for row in range(2):
        for column in range(3):
            numbers, place = cells[:, row, column].tolist(), 3 * row + column
            x, y = (column + math.tanh(numbers[1])) / 3, (row + math.tanh(numbers[2])) / 2
            width, height = sigmoid(numbers[3]), sigmoid(numbers[4])
            corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
            assert boxes[place].tolist() == pytest.approx([min(max(side, 0), 1) for side in corners], abs=1e-6)
            assert scores[place].item() == pytest.approx(numbers[0] ** 0.6 * max(numbers[5:]) ** 0.4, abs=1e-6)
            assert classes[place].item() == numbers.index(max(numbers[5:]), 5) - 5


def test_a_certain_cell_is_a_box_in_its_middle() -> None:
    cells = torch.zeros(7, 2, 2)
    cells[:, 1, 0] = torch.tensor([1.0, math.atanh(0.5), math.atanh(0.5), 0.0, 0.0, 0.0, 1.0])
    boxes, scores, classes = decode_fastestdet(cells)
    assert boxes[2].tolist() == pytest.approx([0.0, 0.5, 0.5, 1.0])
    assert scores.tolist() == pytest.approx([0, 0, 1, 0]) and classes[2] == 1


@pytest.fixture(scope="module")
def yolos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector of transformers with random weights, and the image processor beside it."""
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[32, 32],
        num_detection_tokens=3,
        id2label={0: "dog", 1: "sofa"},
        label2id={"dog": 0, "sofa": 1},
    )
    folder = tmp_path_factory.mktemp("yolos")
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_a_detector_of_transformers_teaches(yolos: Path) -> None:
    images = [Image.new("RGB", (40, 20), "red"), Image.new("L", (30, 30))]
    first, second = TransformersTeacher(str(yolos))(images)
    assert first.boxes.shape == (len(first.scores), 4) and len(first.labels) == len(first.scores) > 0
    assert set(first.labels) <= {"dog", "sofa"}
    assert (first.boxes[:, 2:] <= torch.tensor([40, 20])).all() and len(second.labels) > 0
    (none,) = TransformersTeacher(str(yolos), threshold=0.999)(images[:1])
    assert none.boxes.shape == (0, 4) and none.labels == []


def test_an_onnx_teacher_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling-updown\[distill\]'"):
        load_teacher("FastestDet.onnx", names=None, threshold=0.5)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    for name in ("broken.onnx", "absent.onnx"):
        with pytest.raises(ValueError, match=f"{name} is not an ONNX model that onnxruntime can run"):
            FastestDetTeacher(tmp_path / name)


def test_names_of_another_model_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    with pytest.raises(ValueError, match="gives 85 numbers per cell, but 2 class names need 7; .* --names"):
        FastestDetTeacher(shared("weights/fastestdet/FastestDet.onnx"), names=tmp_path / "names.txt")


def test_fastestdet_sees_a_cat() -> None:
    pytest.importorskip("onnxruntime")
    teacher = FastestDetTeacher(shared("weights/fastestdet/FastestDet.onnx"))
    with Image.open(shared("data/photos/chelsea.png")) as image:
        (found,) = teacher([image])
    assert found.boxes.shape == (22 * 22, 4)
    assert found.labels[int(found.scores.argmax())] == "cat" and found.scores.max() > 0.8
