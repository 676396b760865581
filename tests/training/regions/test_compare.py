"""Comparisons of stores and files: the figures of differences made by hand, matching against every assignment."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.regions.formats.foreign import ForeignImage, bua_row, foreign_images, lxmert_row, write_rows
from training.regions.compare import RegionsComparison, compare_regions, cosine_matrix, match_boxes
from training.regions.convert import convert_region_files, export_region_files
from training.regions.store import RegionStoreWriter

IMAGES = foreign_images()


def write_store(folder: Path, images: list[ForeignImage] = IMAGES, **changes: dict[str, Any]) -> Path:
    """A store of the images in float32; `changes` by column, then by image id."""
    with RegionStoreWriter(folder, fingerprint={}, feature_dtype=torch.float32) as writer:
        for image in images:
            columns = {
                "region_features": image.features,
                "region_boxes": image.scaled_boxes,
                "region_scores": image.object_scores,
                "object_ids": image.objects + 1,
                "image_size": np.array([image.height, image.width]),
            }
            columns |= {name: by_id[image.image_id] for name, by_id in changes.items() if image.image_id in by_id}
            writer.append([image.image_id], {name: value[None] for name, value in columns.items()})
    return folder


def compared(a: Path, b: Path, **options: Any) -> RegionsComparison:
    """The comparison, once it was seen that B and A differ by what A and B do."""
    found = compare_regions(a, b, **options)
    one_sided = ("only_in_a", "only_in_b", "num_photos", "num_regions")
    here, there = found.summary(), compare_regions(b, a, **options).summary()
    assert all(here[name] == there[name] for name in here if name not in one_sided and name != "broken")
    assert (here["only_in_a"], here["only_in_b"]) == (there["only_in_b"], there["only_in_a"])
    assert sorted(here["broken"]) == sorted(there["broken"])
    return found


def test_a_store_and_the_file_it_came_from_agree(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "val.tsv", [lxmert_row(image) for image in IMAGES])
    convert_region_files(path, output=tmp_path / "store")
    found = compared(path, tmp_path / "store")
    assert found.same and found.verdict() == "the same: all 4 images agree within 0.001 (boxes 0.001)"
    assert 0 < found.summary()["largest_feature_error"] < 5e-4  # of float16
    assert found.summary()["num_matched"] == 11 and found.summary()["num_other_classes"] == 0
    assert not compare_regions(path, tmp_path / "store", tolerance=0).same


def test_the_order_of_regions_does_not_matter(tmp_path: Path) -> None:
    turned = foreign_images()
    for image in turned:
        arrays = {name: value for name, value in vars(image).items() if isinstance(value, np.ndarray)}
        vars(image).update({name: value[::-1].copy() for name, value in arrays.items()})
    stores = write_store(tmp_path / "a"), write_store(tmp_path / "b", turned[::-1])
    found = compared(*stores, tolerance=0, box_tolerance=0)
    assert found.same and found.summary()["lowest_cosine"] == pytest.approx(1, abs=1e-6)


def test_differences_are_told_as_they_were_made(tmp_path: Path) -> None:
    features = IMAGES[2].features.copy()
    features[3, 1] += 0.25
    boxes = IMAGES[0].scaled_boxes.copy()
    boxes[1, 0] += 0.01  # 4 of 400 pixels
    scores = IMAGES[3].object_scores + np.float32(0.5)
    objects = IMAGES[1].objects + 2
    b = write_store(
        tmp_path / "b",
        region_features={"1002": features},
        region_boxes={"1000": boxes},
        region_scores={"1003": scores},
        object_ids={"1001": objects},
    )
    found = compared(write_store(tmp_path / "a"), b)
    by_id = {image.image_id: image for image in found.images}
    assert not found.same and len(found.differing) == 4
    assert by_id["1002"].feature_difference == pytest.approx(0.25, abs=1e-6)
    largest = max(1, abs(features[3, 1]), abs(IMAGES[2].features[3, 1]))
    assert by_id["1002"].feature_error == pytest.approx(0.25 / largest, abs=1e-6)
    one, other = features[3], IMAGES[2].features[3]
    assert by_id["1002"].cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-6)
    assert by_id["1000"].box_difference == pytest.approx(0.01, abs=1e-6)
    assert by_id["1000"].box_pixels == pytest.approx(4, abs=1e-3)
    assert by_id["1003"].score_difference == pytest.approx(0.5, abs=1e-6)
    assert by_id["1001"].num_other_classes == 1 and by_id["1001"].feature_difference == 0
    assert [image.image_id for image in found.images] == ["1001", "1003", "1002", "1000"]  # the worst first
    lines = found.lines(worst=2)
    assert lines[-1] == "different: 4 of 4 images do not agree within 0.001 (boxes 0.001)"
    assert lines[-4:-2] == ["worst images:", f"  {found.images[0].line()}"]
    assert found.images[0].line().endswith(", 1 of another class")
    assert compare_regions(tmp_path / "a", b, tolerance=1, box_tolerance=0.1).summary()["num_differing"] == 1


def test_images_and_regions_on_one_side_only(tmp_path: Path) -> None:
    fewer = ForeignImage(**{**vars(IMAGES[2]), "boxes": IMAGES[2].boxes[:3], "features": IMAGES[2].features[:3]})
    a = write_rows(tmp_path / "a.tsv", [bua_row(image) for image in IMAGES[:3]])
    b = write_rows(tmp_path / "b.tsv", [bua_row(IMAGES[3]), bua_row(fewer), bua_row(IMAGES[0]), bua_row(IMAGES[1])[:5]])
    found = compared(a, b)
    assert (found.only_in_a, found.only_in_b) == ([], ["1003"])
    assert [image.num_regions for image in found.images] == [(5, 3), (3, 3)] and found.images[0].num_matched == 3
    assert len(found.broken) == 1 and "b.tsv, line 4: it has 5 columns" in found.broken[0]
    lines = found.lines(worst=5)
    assert lines[:3] == [
        "images: 3 in A, 4 in B, 2 in both",
        "only in B: 1 (1003)",
        f"cannot be read: {found.broken[0]}",
    ]
    assert lines[-1] == (
        "different: 1 of 2 images do not agree within 0.001 (boxes 0.001); 1 images are on one side only; "
        "1 rows cannot be read"
    )


def test_a_database_agrees_with_itself(tmp_path: Path) -> None:
    """LMDB lets no file be opened twice at once."""
    pytest.importorskip("lmdb", reason="LMDB files need lmdb")
    export_region_files(write_store(tmp_path / "a"), output=tmp_path / "db", format="lmdb")
    assert compared(tmp_path / "db", tmp_path / "db", tolerance=0, box_tolerance=0).same


def test_nothing_in_common(tmp_path: Path) -> None:
    a = write_rows(tmp_path / "a.tsv", [bua_row(IMAGES[0])])
    b = write_rows(tmp_path / "b.tsv", [bua_row(IMAGES[1]), bua_row(IMAGES[1])])
    assert compared(a, b).verdict() == "different: 2 images are on one side only; 1 rows cannot be read"
    c = write_rows(tmp_path / "c.tsv", [bua_row(IMAGES[1])])
    assert (
        compared(a, c).verdict() == "different: A and B have no image in common; do they spell their ids the same way?"
    )


def test_other_widths_are_an_error(tmp_path: Path) -> None:
    a = write_rows(tmp_path / "a.tsv", [bua_row(IMAGES[0])])
    b = write_rows(tmp_path / "b.tsv", [bua_row(foreign_images(width=9)[0])])
    with pytest.raises(
        ValueError, match="image '1000' has features of width 8 in A and 9 in B: these are features of two detectors"
    ):
        compare_regions(a, b)


def test_a_stores_sizes_serve_the_other_side(tmp_path: Path) -> None:
    folder = tmp_path / "cocobu_att"
    for name in ("att", "box"):
        (tmp_path / f"cocobu_{name}").mkdir()
    for image in IMAGES:
        np.savez(folder / image.image_id, feat=image.features)
        np.save(tmp_path / "cocobu_box" / image.image_id, image.boxes)
    assert compared(write_store(tmp_path / "store"), folder).same


def brute_force_pairs(boxes: np.ndarray, others: np.ndarray) -> float:
    """The largest sum of IoUs that any pairing of boxes reaches, pairs below 0.5 counting nothing."""

    def overlap(one: np.ndarray, other: np.ndarray) -> float:
        sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
        shared = np.prod(sides.clip(0))
        areas = [np.prod(box[2:] - box[:2]) for box in (one, other)]
        found = shared / (sum(areas) - shared)
        return found if found >= 0.5 else 0.0

    return max(
        sum(overlap(boxes[row], others[column]) for row, column in enumerate(order))
        for order in itertools.permutations(range(len(others)), len(boxes))
    )


@pytest.mark.parametrize("seed", range(5))
def test_boxes_moved_a_little_are_matched_as_by_every_assignment(seed: int) -> None:
    draw = np.random.default_rng(seed)
    corners = draw.random((6, 2)) * 0.7
    boxes = np.concatenate([corners, corners + 0.05 + draw.random((6, 2)) * 0.25], axis=1).astype(np.float32)
    order = draw.permutation(6)
    others = (boxes + draw.normal(0, 0.003, boxes.shape)).astype(np.float32)[order]
    rows, columns = match_boxes(boxes, others, cosines=np.zeros((6, 6)))
    assert np.array_equal(order[columns], rows)
    found = [brute_force_pairs(boxes[[row]], others[[column]]) for row, column in zip(rows, columns, strict=True)]
    assert sum(found) == pytest.approx(brute_force_pairs(boxes, others), abs=1e-5)


def test_matching_of_boxes_found_twice_empty_ones_and_none() -> None:
    box, empty = [0.1, 0.1, 0.5, 0.5], [0.3, 0.3, 0.3, 0.3]
    boxes = np.array([box, empty, box], dtype=np.float32)
    features, others = np.eye(3)[[0, 1, 2]], np.eye(3)[[2, 0, 1]]
    rows, columns = match_boxes(
        boxes, np.array([box, box, empty], dtype=np.float32), cosines=cosine_matrix(features, others)
    )
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 2), (2, 0)]
    far = np.array([[0.6, 0.6, 0.9, 0.9]], dtype=np.float32)
    assert [pairs.tolist() for pairs in match_boxes(boxes, far, cosines=np.ones((3, 1)))] == [[], []]
    half = np.array([[0.1, 0.1, 0.5, 0.3]], dtype=np.float32)  # IoU 0.5 with the box it is half of
    assert len(match_boxes(np.array([box], dtype=np.float32), half, cosines=np.ones((1, 1)))[0]) == 1


def test_cosines_of_zeros_and_others() -> None:
    found = cosine_matrix(
        np.array([[0, 0], [3, 4]], dtype=np.float32), np.array([[0, 0], [4, 3], [-3, -4]], dtype=np.float32)
    )
    assert np.allclose(found, np.array([[1, 0, 0], [0, 0.96, -1]]))
