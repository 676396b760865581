"""Our own detector as a teacher: its boxes in pixels, alone as in a batch, and the folders that are refused."""

from pathlib import Path

import pytest
import torch

from modeling_updown import UpDownDetector, UpDownImageProcessor
from tests.tiny import save_tiny_captioner, tiny_image, tiny_pyramid_detector
from training.teachers.detectors import load_teacher
from training.teachers.updown_teacher import UpDownTeacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of a dog, a cat and ten other classes."""
    path = tmp_path_factory.mktemp("detector")
    names = {0: "background", 1: "dog", 2: "cat", **{number: f"object {number}" for number in range(3, 13)}}
    tiny_pyramid_detector(id2label=names).save_pretrained(path)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(path)
    return path


def test_a_folder_of_ours_is_told_from_one_of_transformers(folder: Path) -> None:
    teacher = load_teacher(str(folder), names=None, threshold=0.3)
    assert isinstance(teacher, UpDownTeacher) and teacher.threshold == 0.3
    assert teacher.names[:2] == ["dog", "cat"] and len(teacher.names) == 12


def test_boxes_are_those_of_the_detector_in_pixels(folder: Path) -> None:
    image = tiny_image(width=80, height=60)
    (found,) = UpDownTeacher(str(folder))([image])
    detector = UpDownDetector.from_pretrained(folder).eval()
    inputs = UpDownImageProcessor.from_pretrained(folder)([image], return_tensors="pt")
    with torch.no_grad():
        output = detector(**inputs, min_regions=1, score_threshold=0.0)
    kept = output.region_mask[0]
    assert len(found.labels) == int(kept.sum()) > 1
    for place, row in enumerate(kept.nonzero().flatten().tolist()):
        box = output.pred_boxes[0, row].tolist()
        pixels = [side * length for side, length in zip(box, (80, 60, 80, 60), strict=True)]
        assert found.boxes[place].tolist() == pytest.approx(pixels, abs=1e-3)
        assert found.labels[place] == detector.config.id2label[int(output.object_ids[0, row])]
        assert found.scores[place].item() == pytest.approx(output.region_scores[0, row].item(), abs=1e-6)
        assert found.probs is not None
        assert torch.allclose(found.probs[place], output.object_probs[0, row, 1:], atol=1e-6)


def test_alone_as_in_a_batch_and_nothing_under_the_threshold(folder: Path) -> None:
    images = [tiny_image(0, width=80, height=60), tiny_image(1, width=50, height=70)]
    together = UpDownTeacher(str(folder))(images)
    for image, batched in zip(images, together, strict=True):
        (alone,) = UpDownTeacher(str(folder))([image])
        assert alone.labels == batched.labels
        assert torch.allclose(alone.boxes, batched.boxes, atol=1e-2)
        middle = float(alone.scores.median())
        (surer,) = UpDownTeacher(str(folder), threshold=middle)([image])
        assert len(surer.labels) == int((alone.scores >= middle).sum()) and surer.scores.min() >= middle
    (nothing,) = UpDownTeacher(str(folder), threshold=1.0)(images[:1])
    assert nothing.boxes.shape == (0, 4) and nothing.labels == [] and nothing.probs is not None
    assert nothing.probs.shape == (0, 12)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no model folder"):
        UpDownTeacher(str(tmp_path / "absent" / "folder"))
    with pytest.raises(ValueError, match="holds a model of type 'updown_captioning'.*UpDownDetector"):
        UpDownTeacher(str(save_tiny_captioner(tmp_path / "captioner")))
