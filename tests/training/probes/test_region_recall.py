"""Where sources look: boxes of folders, stores, teachers and fixed ones, and the command on Flickr30k Entities."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL.Image import Image as PilImage

from modeling_updown import UpDownImageProcessor
from tests.shared_files import shared
from tests.tiny import save_tiny_captioner, tiny_detector, tiny_image
from training.probes import region_boxes
from training.probes.named_boxes import entity_boxes, names_of, recipe_boxes
from training.probes.region_boxes import region_extractor, source_boxes
from training.probes.region_recall import main, region_recall
from training.probes.sources import named_sources
from training.regions.store import RegionStoreWriter
from training.scenes.boxes import read_scene_boxes
from training.teachers.detectors import Detections

LEFT, WHOLE = [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]
FIFTH = [0.2, 0.2, 0.4, 0.4]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        tiny_image(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def rows(images: Path) -> Dataset:
    columns = {"image_id": ["0", "1", "2"], "image": [str(images / f"{number}.png") for number in range(3)]}
    return Dataset.from_dict(columns).cast_column("image", Image())


@pytest.fixture
def entities(tmp_path: Path) -> Path:
    """Three images, two of them of the test split: a man twice named in the first, a dog and a lake in the second."""
    sentences = [
        [("1", "A man", ["people"]), ("2", "a red hat", ["clothing"])],
        [("1", "a tall Man", ["people", "other"]), ("0", "the left", ["notvisual"])],
    ]
    others = [[("7", "a dog", ["animals"]), ("8", "the water", ["scene"])]]
    records = [
        record("0.png", "test", {"1": [LEFT], "2": [FIFTH]}, sentences),
        record("1.png", "test", {"7": [WHOLE, LEFT], "9": [FIFTH]}, others),
        record("2.png", "train", {"1": [LEFT] * 20, "2": [FIFTH]}, sentences),
    ]
    path = tmp_path / "entities.json.gz"
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    return path


def record(name: str, split: str, boxes: dict[str, Any], sentences: list[Any]) -> dict[str, Any]:
    keys = ("chain", "phrase", "types")
    said = [
        {
            "tokens": " ".join(text for _, text, _ in phrases).split(),
            "phrases": [dict(zip(keys, phrase, strict=True)) for phrase in phrases],
        }
        for phrases in sentences
    ]
    size = {"orig_width": 80, "orig_height": 60}
    return {"filename": name, "split": split, "boxes": boxes, "sentences": said, **size}


def save_detector(folder: Path) -> Path:
    tiny_detector().save_pretrained(folder)
    UpDownImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


# -- sources ----------------------------------------------------------------------------------------------------------


def test_fixed_boxes_need_no_image(rows: Dataset) -> None:
    found = source_boxes("grid:2", rows.remove_columns("image"), most=10)
    assert len(found) == 3 and found[1]["boxes"].tolist()[1] == [0.5, 0, 1, 0.5]
    assert source_boxes("pyramid:1,2", rows, most=10)[0]["boxes"].shape == (5, 4)
    assert source_boxes("grid:1,2", rows, most=10)[0]["boxes"].shape == (5, 4)
    with pytest.raises(ValueError, match="grid:x: write the number of cells"):
        source_boxes("grid:x", rows, most=10)


def test_a_detector_keeps_as_many_regions_as_are_asked_for(rows: Dataset, tmp_path: Path) -> None:
    folder = save_detector(tmp_path / "detector")
    found = source_boxes(str(folder), rows, most=7, batch_size=2)
    assert [len(own["boxes"]) for own in found] == [7, 7, 7]
    model, processor = tiny_detector(), UpDownImageProcessor(size={"height": 64, "width": 64})
    with torch.no_grad():
        pixels = processor([rows[2]["image"]], return_tensors="pt")
        alone = model(**pixels, min_regions=7, max_regions=7, score_threshold=0.2)
    assert np.allclose(found[2]["boxes"], alone.region_boxes[0].numpy(), atol=1e-5)
    assert np.allclose(found[2]["scores"], alone.region_scores[0].numpy(), atol=1e-5)
    assert region_extractor(str(folder), most=7).selection["max_regions"] == 7
    assert "max_regions" not in region_extractor(str(folder)).selection  # the model's own number


def test_a_model_with_a_grid_and_a_store_of_it_look_at_the_same_cells(rows: Dataset, tmp_path: Path) -> None:
    folder = save_tiny_captioner(tmp_path / "captioner")
    cells = source_boxes("grid:3", rows, most=5)
    assert all(
        np.allclose(a["boxes"], b["boxes"]) for a, b in zip(source_boxes(str(folder), rows, most=5), cells, strict=True)
    )
    with RegionStoreWriter(tmp_path / "store", fingerprint={"kind": "test"}) as writer:
        for place, image_id in enumerate(("2", "1", "0")):
            regions = {"region_features": torch.ones(1, 2, 4), "region_boxes": torch.tensor([[LEFT, WHOLE]])}
            writer.append([image_id], {**regions, "region_scores": torch.tensor([[0.1, 0.5]]) + place / 10})
    stored = source_boxes(str(tmp_path / "store"), rows, most=5)
    assert stored[0]["boxes"].tolist() == [LEFT, WHOLE]
    assert np.allclose(stored[0]["scores"], [0.3, 0.7]) and np.allclose(stored[2]["scores"], [0.1, 0.5])


def test_a_store_that_lacks_an_image_is_refused(rows: Dataset, tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path / "store", fingerprint={"kind": "test"}) as writer:
        writer.append(["0"], {"region_features": torch.ones(1, 1, 4), "region_boxes": torch.tensor([[WHOLE]])})
    with pytest.raises(ValueError, match="2 of the 3 images have no regions"):
        source_boxes(str(tmp_path / "store"), rows, most=5)


def see(images: Sequence[PilImage]) -> list[Detections]:
    """A stand-in teacher: two cows on each other, a dog there too, and one that overlaps them by 2/3, in pixels."""
    boxes = torch.tensor([[0.0, 0, 40, 60], [0, 0, 40, 58], [0, 0, 40, 60], [0, 0, 40, 40]])
    return [Detections(boxes, torch.tensor([0.2, 0.9, 0.4, 0.5]), ["cow", "cow", "dog", "dog"]) for _ in images]


def test_a_teacher_is_suppressed_within_its_classes_and_a_box_of_two_is_one(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(region_boxes, "load_teacher", lambda name, **_: asked.append(name) or see)
    found = source_boxes("teacher:any/detr", rows, most=5)
    assert source_boxes("x/FastestDet.onnx", rows, most=5)[0]["boxes"].shape == (2, 4)
    assert asked == ["any/detr", "x/FastestDet.onnx"]
    assert np.allclose(found[0]["boxes"], [[0, 0, 0.5, 58 / 60], [0, 0, 0.5, 2 / 3]]) and np.allclose(
        found[0]["scores"], [0.9, 0.5]
    )


def test_a_broken_image_is_named(rows: Dataset, images: Path, tmp_path: Path) -> None:
    (images / "1.png").write_bytes(b"no image")
    folder = save_tiny_captioner(tmp_path / "captioner")
    with pytest.raises(ValueError, match="image '1' cannot be read"):
        source_boxes(str(folder), rows, most=5)
    with pytest.raises(ValueError, match="nowhere"):
        source_boxes(str(tmp_path / "nowhere"), rows, most=5)


def test_names_of_sources(tmp_path: Path) -> None:
    assert named_sources(["a=grid:7", "grid:7"]) == {"a": "grid:7", "grid:7": "grid:7"}
    (tmp_path / "x=1").mkdir()
    assert named_sources([str(tmp_path / "x=1")]) == {str(tmp_path / "x=1"): str(tmp_path / "x=1")}
    with pytest.raises(ValueError, match="each name once"):
        named_sources(["a=grid:7", "a=grid:8"])


# -- boxes ------------------------------------------------------------------------------------------------------------


def test_boxes_of_entities_have_names_types_and_counts(entities: Path, images: Path) -> None:
    data = entity_boxes(entities, images=images, split="test")
    assert data.rows["image_id"][:] == ["0", "1"]
    assert data.names == [[["man"], ["hat"]], [["dog"], ["dog"], []]]
    assert data.types == [[["people"], ["clothing"]], [["animals"], ["animals"], []]]
    assert data.training_counts == {"man": 20, "hat": 1}
    groups = data.groups(data.rows)
    assert groups["training boxes of the name"] == [[["20-99"], ["1-19"]], [["0"], ["0"], []]]
    assert data.first(1).types == data.types[:1] and len(data.first(1).rows) == 1


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"{}"), gzip.compress(b'[{"filename": "a"}]')],
    ids=["plain", "no list", "no image"],
)
def test_another_file_is_no_entities(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(content)
    with pytest.raises(ValueError, match="a.json.gz"):
        entity_boxes(tmp_path / "a.json.gz", images=None, split="test")


def test_the_official_files_say_the_same_as_the_joined_ones(entities: Path, tmp_path: Path) -> None:
    """The three images of the JSON, written as their authors write them, in pixels."""
    for name in ("Annotations", "Sentences"):
        (tmp_path / name).mkdir()
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for own in json.loads(gzip.decompress(entities.read_bytes())):
        stem = Path(own["filename"]).stem
        splits[own["split"]].append(stem)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(annotation(own))
        lines = [" ".join(marked(phrase) for phrase in sentence["phrases"]) for sentence in own["sentences"]]
        (tmp_path / "Sentences" / f"{stem}.txt").write_text("\n".join(lines))
    for name, ids in splits.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(ids))
    joined = entity_boxes(entities, images=None, split="test")
    official = entity_boxes(tmp_path, images=None, split="test", split_lists=tmp_path)
    assert official.rows["boxes"][:] == joined.rows["boxes"][:]
    assert (official.names, official.types) == (joined.names, joined.types)
    assert official.training_counts == joined.training_counts
    with pytest.raises(ValueError, match="--split-lists"):
        entity_boxes(tmp_path, images=None, split="test")


def annotation(own: dict[str, Any]) -> str:
    boxes = [(chain, np.array(box) * [80, 60, 80, 60]) for chain, boxes in own["boxes"].items() for box in boxes]
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = [
        f"<object><name>{chain}</name><bndbox>"
        + "".join(f"<{corner}>{side:.0f}</{corner}>" for corner, side in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for chain, box in boxes
    ]
    size = "<size><width>80</width><height>60</height><depth>3</depth></size>"
    return f"<annotation><filename>{own['filename']}</filename>{size}{''.join(objects)}</annotation>"


def marked(phrase: dict[str, Any]) -> str:
    return f"[/EN#{phrase['chain']}/{'/'.join(phrase['types'])} {phrase['phrase']}]"


def test_boxes_of_a_recipe_have_the_names_of_their_objects() -> None:
    few = ["data.num_scenes={train: 3, val: 2, test: 2}", "data.image_size=32"]
    data = recipe_boxes("detection/scenes", split="val", changes=few)
    direct = read_scene_boxes(2, image_size=32, split="val")
    assert data.rows["boxes"][:] == direct.rows["boxes"][:] and data.names == names_of(direct)
    assert not data.types and sum(data.training_counts.values()) > 0
    with pytest.raises(ValueError, match="recipe of the task captioning"):
        recipe_boxes("captioning/scenes", split="val", changes=[])


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_the_figures(
    entities: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "--entities",
        str(entities),
        "--images",
        str(images),
        "--at",
        "1",
        "9",
        "--output",
        str(tmp_path / "r.json"),
    ]
    assert main(["whole=pyramid:1", "pyramid:1,2", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    # LEFT overlaps the whole image by 0.5; the four boxes of 2/3 of a side add nothing to FIFTH
    assert lines[2].startswith("| whole | 1.0 | 60.0 (")
    assert "| type: people | 1 | 100.0 (100.0 to 100.0) | 100.0 (100.0 to 100.0) |" in lines
    figures = json.loads((tmp_path / "r.json").read_text())
    assert figures["num_images"] == 2 and figures["sources"][1]["regions"] == 5
    assert figures["sources"][1]["differences"]["recall_9"]["difference_x100"] == 0
    assert main(["grid:7", "--entities", str(tmp_path / "none.json")]) == 2
    assert "region_recall: cannot read" in capsys.readouterr().err


def test_the_recall_of_the_first_boxes_of_real_images() -> None:
    """As measured before this command was written: a pyramid of 14 boxes reaches 30.2 % of 2,162 boxes."""
    folder = shared("data/flickr8k")
    data = entity_boxes(folder / "entities.json.gz", images=None, split="test").first(300)
    found = region_recall({"pyramid": "pyramid:1,2,3", "large": "pyramid:1,2,3,4,5", "cells": "grid:7"}, data)
    assert found[0]["recall"]["all"]["num_boxes"] == 2162
    people = found[0]["recall"]["type"]["people"]  # of the first type of a box's first phrase
    assert people["num_boxes"] == 670
    assert [round(row["recall"]["all"]["recall_100_x100"], 1) for row in found] == [30.2, 40.6, 2.6]
    low, high = found[1]["differences"]["recall_100"]["interval_x100"]
    assert low < found[1]["differences"]["recall_100"]["difference_x100"] < high
