"""VinVL's TSV files in every shape that is about, made by hand, and rows that are broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.regions.formats.foreign import (
    ForeignImage,
    assert_image,
    damaged,
    every_image_or_value_error,
    foreign_images,
    in_base64,
    prediction,
    six_numbers,
    vinvl_labels,
    write_lines,
    write_vinvl,
)
from training.regions.formats import open_region_file
from training.regions.formats.base import RegionFile
from training.regions.formats.record import ImageRecord
from training.regions.formats.sidecar import Sidecar, read_labels
from training.regions.formats.vinvl import split_box_numbers

IMAGES = foreign_images()


def images_of(file: RegionFile) -> dict[str, ImageRecord]:
    return {entry.image_id: file.image(entry) for entry in file.entries()}


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("box_numbers", [True, False])
def test_features_and_predictions(tmp_path: Path, columns: int, box_numbers: bool) -> None:
    folder = write_vinvl(tmp_path / "vinvl", IMAGES, columns=columns, box_numbers=box_numbers)
    sidecar = Sidecar(labels=read_labels(vinvl_labels(tmp_path / "labels.json")))
    for path in (folder, folder / "features.tsv"):
        read = images_of(open_region_file(path, sidecar=sidecar))
        assert list(read) == [image.image_id for image in IMAGES]
        for image in IMAGES:
            assert_image(read[image.image_id], image, classes=True)


def test_without_labels_the_names_are_left_out(tmp_path: Path) -> None:
    read = images_of(open_region_file(write_vinvl(tmp_path / "vinvl", IMAGES)))["1002"]
    assert set(read) == {"region_features", "region_boxes", "region_scores", "image_size"}
    assert np.abs(read["region_scores"] - IMAGES[2].object_scores).max() < 1e-7


def test_features_alone_hold_their_boxes(tmp_path: Path) -> None:
    folder = write_vinvl(tmp_path / "vinvl", IMAGES)
    (folder / "predictions.tsv").unlink()
    sizes = {image.image_id: (image.height, image.width) for image in IMAGES}
    read = images_of(open_region_file(folder, sidecar=Sidecar(sizes=sizes)))
    for image in IMAGES:
        assert_image(read[image.image_id], image)
    assert "image_size" not in images_of(open_region_file(folder))["1000"]


def test_the_size_follows_from_both_kinds_of_boxes(tmp_path: Path) -> None:
    """As tools/test_sg_net.py writes its predictions, without image_h and image_w."""
    folder = write_vinvl(tmp_path / "vinvl", IMAGES)
    rows = [
        (image.image_id, json.dumps({"objects": prediction(image)["objects"], "relations": None})) for image in IMAGES
    ]
    write_lines(folder / "predictions.tsv", rows)
    read = images_of(open_region_file(folder))
    for image in IMAGES:
        assert_image(read[image.image_id], image)


def test_predictions_that_hold_the_features(tmp_path: Path) -> None:
    rows = []
    for image in IMAGES:
        record = prediction(image)
        for one, vector in zip(record["objects"], image.features, strict=True):
            one["feature"] = in_base64(vector)
        rows.append((image.image_id, json.dumps(record)))
    write_lines(tmp_path / "predictions.tsv", rows)
    for path in (tmp_path, tmp_path / "predictions.tsv"):
        read = images_of(open_region_file(path))
        for image in IMAGES:
            assert_image(read[image.image_id], image)


def test_a_stale_lineidx_does_not_matter(tmp_path: Path) -> None:
    folder = write_vinvl(tmp_path / "vinvl", IMAGES)
    for name in ("features.lineidx", "predictions.lineidx"):
        (folder / name).write_text("0\n17\n")
    assert_image(images_of(open_region_file(folder))["1003"], IMAGES[3])


def test_box_numbers_are_told_by_being_a_box() -> None:
    image = IMAGES[2]
    numbers = six_numbers(image)
    for six in (numbers, numbers[:, [0, 1, 2, 3, 5, 4]]):  # width first, height first
        features, boxes = split_box_numbers(np.concatenate([image.features, six], axis=1))
        assert np.array_equal(features, image.features) and boxes is not None
        assert np.array_equal(boxes, numbers[:, :4])
    for other in (image.features, np.concatenate([image.features, numbers * 2], axis=1), numbers):
        features, boxes = split_box_numbers(other)
        assert boxes is None and features is other


def test_damaged_bytes_are_named_not_fatal(tmp_path: Path) -> None:
    folder = write_vinvl(tmp_path / "vinvl", IMAGES)
    paths = [folder / "features.tsv", folder / "predictions.tsv"]
    contents = [path.read_bytes() for path in paths]
    for seed in range(200):
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(damaged(content, seed))
        every_image_or_value_error(open_region_file(folder))


def features_row(image: ForeignImage, **changes: Any) -> tuple[str, str]:
    full = np.concatenate([image.features, six_numbers(image)], axis=1)
    return image.image_id, json.dumps({"num_boxes": len(full), "features": in_base64(full)} | changes)


def prediction_row(image: ForeignImage, **changes: Any) -> tuple[str, str]:
    return image.image_id, json.dumps(prediction(image) | changes)


IMAGE = IMAGES[0]
NAMELESS = [{**one, "class": "unicorn"} for one in prediction(IMAGE)["objects"]]


@pytest.mark.parametrize(
    ("features", "predicted", "message"),
    [
        (
            (IMAGE.image_id, '{"num_boxes": 3, "fea'),
            prediction_row(IMAGE),
            "second column is not valid JSON .*cut short",
        ),
        ((IMAGE.image_id,), prediction_row(IMAGE), "second column is not valid JSON"),
        ((IMAGE.image_id, "[]"), prediction_row(IMAGE), "second column is not a JSON object"),
        ((IMAGE.image_id, "[" * 100_000), prediction_row(IMAGE), "second column is not valid JSON"),
        (features_row(IMAGE, num_boxes=4), prediction_row(IMAGE), "its features are 168 bytes"),
        (features_row(IMAGE, num_boxes=None), prediction_row(IMAGE), "its number of boxes is None"),
        (features_row(IMAGE, features="A"), prediction_row(IMAGE), "its features are not base64"),
        (features_row(IMAGE), prediction_row(IMAGE, objects=[]), "it has no predicted objects"),
        (features_row(IMAGE), prediction_row(IMAGE, objects=[{}] * 3), "its objects lack rects"),
        (
            features_row(IMAGE),
            prediction_row(IMAGE, objects=prediction(IMAGE)["objects"][:2]),
            "it has 3 feature vectors but 2 predicted objects",
        ),
        (features_row(IMAGE), prediction_row(IMAGE, image_h=10), "reaches outside an image of 400 x 10 pixels"),
        (
            features_row(IMAGE),
            prediction_row(IMAGE, objects=NAMELESS),
            "object or attribute 'unicorn' is not among the",
        ),
        (
            features_row(IMAGE, features=in_base64(IMAGE.features)),
            ("9", "{}"),
            "its features do not end in box numbers and",
        ),
    ],
)
def test_broken_rows(tmp_path: Path, features: Any, predicted: Any, message: str) -> None:
    write_lines(tmp_path / "features.tsv", [features])
    write_lines(tmp_path / "predictions.tsv", [predicted])
    sidecar = Sidecar(labels=read_labels(vinvl_labels(tmp_path / "labels.json")))
    file = open_region_file(tmp_path, format="vinvl-tsv", sidecar=sidecar)
    (entry,) = file.entries()
    with pytest.raises(ValueError, match=message):
        file.image(entry)
