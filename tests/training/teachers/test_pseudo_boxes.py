"""Made boxes: what is written of a teacher's boxes, real boxes described, thresholds, the command line, FastestDet."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.shared_files import shared
from training.data.boxes.caption_attributes import ATTRIBUTES
from training.data.boxes.formats import load_detection
from training.data.captions.formats import load_captions
from training.teachers.agreement import best_threshold
from training.teachers.coco_classes import COCO_CATEGORIES, COCO_IDS
from training.teachers.detections import Detections
from training.teachers.fastestdet import FastestDetTeacher
from training.teachers.made_boxes import detect, folder_rows, keep_best
from training.teachers.pseudo_boxes import describe_boxes, main

DOG = {"image_id": 1, "category_id": 18, "bbox": [10.0, 10.0, 20.0, 20.0]}


def see(images: Sequence[Image.Image]) -> list[Detections]:
    """A stand-in teacher: in every image a cow over the left half, twice, a sofa, and something under the threshold."""
    found = []
    for image in images:
        width, height = image.size
        boxes = [[-5, 0, width / 2, height], [0, 0, width / 2, height - 1], [1, 1, 4, 4], [0, 0, 9, 9]]
        scores = torch.tensor([0.9, 0.8, 0.7, 0.2])
        found.append(Detections(torch.tensor(boxes), scores, ["cow", "cow", "sofa", "person"]))
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (40, 20), "red").save(folder / "b.png")
    Image.new("L", (10, 30)).save(folder / "more" / "a.JPG", format="JPEG")
    (folder / "notes.txt").write_text("no image")
    return folder


def captions_file(folder: Path, **captions: str) -> Path:
    path = folder / "captions.json"
    images = [{"id": number, "file_name": "b.png", "karpathy_split": "test"} for number in captions]
    notes = [{"image_id": number, "caption": text} for number, text in captions.items()]
    path.write_text(json.dumps({"images": images, "annotations": notes}))
    return path


def instances_file(folder: Path, *notes: dict[str, Any], name: str = "instances.json") -> Path:
    path = folder / name
    images = [{"id": 1, "file_name": "b.png", "width": 40, "height": 20, "date": "today"}]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": notes, "categories": categories}))
    return path


def test_boxes_of_a_folder(images: Path) -> None:
    content = detect(folder_rows(images), see, folder=images, threshold=0.6, batch_size=1)
    assert [(image["id"], image["file_name"], image["width"], image["height"]) for image in content["images"]] == [
        ("b.png", "b.png", 40, 20),
        ("more/a.JPG", "more/a.JPG", 10, 30),
    ]
    assert content["images"][0]["box_source"] == "teacher"
    first = content["annotations"][0]
    assert first == {
        "id": 1,
        "image_id": "b.png",
        "category_id": COCO_CATEGORIES["cow"],
        "bbox": [0.0, 0.0, 20.0, 20.0],
        "area": 400.0,
        "iscrowd": 0,
        "score": 0.9,
        "attributes": [],
    }
    assert [(note["image_id"], note["category_id"]) for note in content["annotations"]] == [
        ("b.png", 21),
        ("b.png", COCO_CATEGORIES["couch"]),
        ("more/a.JPG", 21),
        ("more/a.JPG", 63),
    ]
    assert content["attributes"][0] == {"id": 1, "name": ATTRIBUTES[0]} and len(content["categories"]) == 80
    assert content == detect(folder_rows(images), see, folder=images, threshold=0.6, batch_size=7)


def test_captions_give_attributes_and_correct_animals(images: Path, tmp_path: Path) -> None:
    rows = load_captions("coco", annotations=captions_file(tmp_path, **{"12": "A wet dog on a sofa"}), images=images)
    content = detect(rows, see, folder=images)
    assert content["images"][0]["id"] == 12 and content["images"][0]["image_id"] == "12"
    dog, couch = content["annotations"]
    assert (dog["category_id"], dog["attributes"]) == (COCO_CATEGORIES["dog"], ["wet"])
    assert (couch["category_id"], couch["attributes"]) == (COCO_CATEGORIES["couch"], [])


def test_made_boxes_are_read_as_a_detection_data_set(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(detect(folder_rows(images), see, folder=images)))
    rows = load_detection("coco", annotations=path, images=images).rows
    assert [len(boxes) for boxes in rows["boxes"]] == [2, 2]
    assert rows["boxes"][0][0] == pytest.approx([0, 0, 0.5, 1])


def test_broken_images_are_listed_and_skipped(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "a.png").write_bytes(b"cut")
    content = detect(folder_rows(images), see, folder=images, batch_size=1)
    assert [image["file_name"] for image in content["images"]] == ["b.png", "more/a.JPG"]
    assert "1 images could not be read and were skipped:\n  a.png" in capsys.readouterr().err
    for path in (images / "b.png", images / "more" / "a.JPG"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the images can be read"):
        detect(folder_rows(images), see)


def test_numbers_in_names_are_the_ids(tmp_path: Path) -> None:
    for name in ("000000000009.jpg", "000000000025.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert [image["id"] for image in detect(folder_rows(tmp_path), see, folder=tmp_path)["images"]] == [9, 25]
    Image.new("RGB", (8, 8)).save(tmp_path / "9.png")
    ids = [image["id"] for image in detect(folder_rows(tmp_path), see, folder=tmp_path)["images"]]
    assert ids == ["000000000009.jpg", "000000000025.jpg", "9.png"]


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        folder_rows(tmp_path)
    with pytest.raises(ValueError, match="there is no image folder"):
        folder_rows(tmp_path / "absent")


def test_other_classes_are_left_out_or_refused(images: Path) -> None:
    with pytest.warns(UserWarning, match="4 boxes are of classes outside the categories: cow"):
        content = detect(folder_rows(images), see, categories={"couch": 3})
    assert {note["category_id"] for note in content["annotations"]} == {3}
    with pytest.raises(ValueError, match="none of the teacher's classes .*cow.* is a category"):
        detect(folder_rows(images), see, categories={"unicorn": 1})


def test_the_better_of_two_boxes_of_a_class_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [5, 5, 5.5, 9], [8, 8, 99, 99]])
    found = Detections(boxes, torch.tensor([0.5, 0.9, 0.6, 0.9, 0.3]), ["a", "a", "b", "a", "b"])
    kept = keep_best(found, nms_iou=0.5, size=(12, 11))
    assert kept.labels == ["a", "b", "b"] and kept.scores.tolist() == pytest.approx([0.9, 0.6, 0.3])
    assert kept.boxes.tolist() == [[0, 0, 10, 9], [0, 0, 10, 9], [8, 8, 12, 11]]
    assert len(keep_best(found, nms_iou=1.0, size=(12, 11)).labels) == 4
    nothing = keep_best(Detections(torch.zeros(0, 4), torch.zeros(0), []), nms_iou=0.5, size=(12, 11))
    assert nothing.boxes.shape == (0, 4) and nothing.labels == []


def test_real_boxes_are_described(tmp_path: Path) -> None:
    crowd = {**DOG, "category_id": 1, "bbox": [0, 0, 40, 20], "iscrowd": 1}
    boxes = instances_file(tmp_path, DOG, {**DOG, "category_id": 1, "id": 7}, crowd)
    content = describe_boxes(boxes, captions_file(tmp_path, **{"1": "A man with a black dog"}))
    assert [note["attributes"] for note in content["annotations"]] == [["black"], ["male"], []]
    assert content["annotations"][1]["id"] == 7
    assert content["images"][0]["karpathy_split"] == "test" and content["images"][0]["date"] == "today"
    assert len(content["attributes"]) == len(ATTRIBUTES)


@pytest.mark.parametrize("bbox", [[1, 2, 3], "1 2 3 4", [1, 2, 3, None], {"x": 1}])
def test_broken_boxes_are_named(tmp_path: Path, bbox: Any) -> None:
    boxes = instances_file(tmp_path, DOG, {**DOG, "bbox": bbox})
    with pytest.raises(ValueError, match=r"instances.json: record 1 of 'annotations' has the bbox"):
        describe_boxes(boxes, captions_file(tmp_path, **{"1": "A dog"}))


def test_files_of_different_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share no image id"):
        describe_boxes(instances_file(tmp_path, DOG), captions_file(tmp_path, **{"2": "A dog"}))


def test_the_threshold_of_the_best_f1() -> None:
    far = {**DOG, "bbox": [100.0, 100.0, 20.0, 20.0]}
    made = [
        {**DOG, "score": 0.9},
        {**DOG, "score": 0.8},  # the real box is taken
        {**far, "bbox": [101.0, 100.0, 20.0, 20.0], "score": 0.7},
        {**far, "category_id": 1, "score": 0.6},
        {**DOG, "image_id": 2, "score": 0.5},
    ]
    real = [DOG, far, {**DOG, "image_id": 2, "iscrowd": 1}, {**DOG, "image_id": 3}]
    # at 0.7: two of three right, two of three found; at 0.9: one of one, one of three
    best = best_threshold(made, real)
    assert best == pytest.approx({"threshold": 0.7, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
    with pytest.raises(ValueError, match="there is no box to compare"):
        best_threshold([], real)


def test_describe_and_compare_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes, captions = instances_file(tmp_path, {**DOG, "score": 0.5}), captions_file(tmp_path, **{"1": "A wet dog"})
    output = tmp_path / "new" / "described.json"
    assert main(["describe", str(boxes), "--annotations", str(captions), "--output", str(output)]) == 0
    assert json.loads(output.read_text())["annotations"][0]["attributes"] == ["wet"]
    assert "1 images, 1 boxes, 1.00 per image, 1 of them with attributes" in capsys.readouterr().out
    assert main(["compare", str(boxes), str(output)]) == 0
    assert capsys.readouterr().out == (
        "1 images  threshold 0.500  precision 1.000  recall 1.000  f1 1.000  ap 100.0  ap50 100.0\n"
    )
    assert main(["compare", str(boxes), str(output), "--without", "karpathy_split=test"]) == 2
    assert capsys.readouterr().err.startswith("pseudo_boxes compare: there is no box to compare")
    assert main(["compare", str(boxes), str(output), "--without", "karpathy_splt=test"]) == 2
    assert "--without karpathy_splt: no image of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["compare", str(boxes), str(output), "--without", "karpathy_split"])
    assert "write FIELD=VALUE" in capsys.readouterr().err


def test_mistakes_end_in_one_sentence(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["detect", str(images), "--teacher", "absent.onnx", "--output", str(images / "boxes.json")]
    assert main([*common, "--format", "coco"]) == 2
    assert "--format and --annotations belong together" in capsys.readouterr().err
    for wrong in (["--threshold", "2"], ["--batch-size", "0"], ["--format", "scenes"]):
        with pytest.raises(SystemExit):
            main([*common, *wrong])
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m training.teachers.pseudo_boxes compare boxes.json instances.json" in capsys.readouterr().out


def test_categories_are_those_of_coco() -> None:
    assert len(COCO_CATEGORIES) == len(COCO_IDS) == 80
    assert COCO_CATEGORIES["person"] == 1 and COCO_CATEGORIES["stop sign"] == 13
    assert COCO_CATEGORIES["toothbrush"] == 90
    listed = json.loads(shared("data/coco_subset/instances.json").read_text())["categories"]
    assert {record["name"]: record["id"] for record in listed} == COCO_CATEGORIES


@pytest.fixture(scope="module")
def fastestdet_on_the_test_images() -> dict[str, Any]:
    pytest.importorskip("onnxruntime")
    teacher = FastestDetTeacher(shared("weights/fastestdet/FastestDet.onnx"))
    images = json.loads(shared("data/coco_subset/captions.json").read_text())["images"]
    tested = {image["file_name"] for image in images if image["karpathy_split"] == "test"}
    folder = shared("data/coco_subset/images")
    rows = folder_rows(folder)
    rows = rows.select([row for row, name in enumerate(rows["image_id"]) if name in tested])
    return detect(rows, teacher, folder=folder, threshold=0.01)


def test_fastestdet_on_the_first_image(fastestdet_on_the_test_images: dict[str, Any]) -> None:
    content = fastestdet_on_the_test_images
    image = content["images"][0]
    best = content["annotations"][0]
    assert (len(content["images"]), image["file_name"], image["width"]) == (53, "000000000042.jpg", 343)
    assert (best["image_id"], best["category_id"]) == (42, COCO_CATEGORIES["tennis racket"])
    assert best["bbox"] == pytest.approx([260.82, 0.69, 45.32, 60.74], abs=0.5)
    assert best["score"] == pytest.approx(0.5765, abs=0.01)


def test_fastestdet_agrees_with_real_boxes(fastestdet_on_the_test_images: dict[str, Any]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    keys = ("image_id", "category_id", "bbox", "score")
    found = [{key: note[key] for key in keys} for note in fastestdet_on_the_test_images["annotations"]]
    with contextlib.redirect_stdout(io.StringIO()):
        real = coco.COCO(str(shared("data/coco_subset/instances.json")))
        scores = cocoeval.COCOeval(real, real.loadRes(found), "bbox")
        scores.params.imgIds = [image["id"] for image in fastestdet_on_the_test_images["images"]]
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    assert scores.stats[1] == pytest.approx(0.334, abs=0.01)  # AP50
