"""Polygons as masks: against a loop over the centres of cells, against pycocotools, in crops and mirrored."""

import json

import numpy as np
import pytest

from tests.shared_files import shared
from training.data.polygons import (
    EDGES_AT_A_TIME,
    checked_polygon,
    mirrored_polygons,
    polygons_in,
    rasterise,
    scaled_polygons,
)

CHANCE = np.random.default_rng(0)


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """The even-odd rule for one point, by a ray to the left."""
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (y1 <= y) != (y2 <= y) and x1 + (y - y1) / (y2 - y1) * (x2 - x1) <= x:
            odd = not odd
    return odd


def by_points(polygons: list[list[float]], *, height: int, width: int, box: tuple[float, ...]) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x = left + (column + 0.5) / width * (right - left)
            y = top + (row + 0.5) / height * (bottom - top)
            pairs = [list(zip(p[::2], p[1::2], strict=True)) for p in polygons]
            mask[row, column] = any(inside(x, y, corners) for corners in pairs)
    return mask


@pytest.mark.parametrize("case", range(12))
def test_cells_are_those_whose_centres_lie_inside(case: int) -> None:
    """Stars that cross themselves, several parts, corners outside of the image, boxes anywhere; some on centres."""
    chance = np.random.default_rng(case)
    polygons = [chance.uniform(-0.3, 1.3, size=2 * chance.integers(3, 9)).tolist() for _ in range(1 + case % 3)]
    if case % 2:
        polygons = [np.round(np.array(polygon) * 14).tolist() for polygon in polygons]
        polygons = [[side / 14 for side in polygon] for polygon in polygons]  # edges through centres of 7 x 7 cells
    first, last = np.sort(chance.uniform(0, 1, size=(2, 2)), axis=0)
    for box, size in (((0, 0, 1, 1), (7, 7)), ((*first, *last), (5, 9))):
        expected = by_points(polygons, height=size[0], width=size[1], box=box)
        assert np.array_equal(rasterise(polygons, height=size[0], width=size[1], box=box), expected)


def test_whole_box_and_touching_parts() -> None:
    square = [[0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75]]
    assert rasterise(square, height=8, width=8, box=(0.25, 0.25, 0.75, 0.75)).all()
    assert rasterise(square, height=4, width=4).sum() == 4
    halves = [[0, 0, 0.5, 0, 0.5, 1, 0, 1], [0.5, 0, 1, 0, 1, 1, 0.5, 1]]
    assert rasterise(halves, height=3, width=3).all(), "every cell is of one of two parts that touch"
    assert not rasterise([], height=3, width=3).any()
    assert not rasterise(square, height=3, width=3, box=(0.5, 0.5, 0.5, 0.7)).any(), "a line has no area"


def test_many_corners_go_through_in_parts() -> None:
    turns = np.linspace(0, 2 * np.pi, EDGES_AT_A_TIME + 100, endpoint=False)
    circle = np.stack([0.5 + np.cos(turns) / 2, 0.5 + np.sin(turns) / 2], axis=1).ravel()
    mask = rasterise([circle.tolist()], height=64, width=64)
    assert abs(mask.mean() - np.pi / 4) < 0.005


def test_crops_and_mirrors_show_the_same_pixels() -> None:
    polygons = [CHANCE.uniform(0, 1, size=10).tolist()]
    whole = rasterise(polygons, height=40, width=40)
    part = rasterise(polygons_in(polygons, [0.25, 0.5, 0.75, 1.0]), height=20, width=20)
    assert np.array_equal(part, whole[20:, 10:30])
    assert np.array_equal(rasterise(mirrored_polygons(polygons), height=40, width=40), whole[:, ::-1])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_of_coco_are_near_pycocotools() -> None:
    """Its fill draws the outline too, so masks differ at their edge: by less than 5 % of those over 400 pixels."""
    path = shared("data/coco_subset/instances.json")
    pycocotools = pytest.importorskip("pycocotools.mask")
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    notes = [note for note in content["annotations"] if note.get("segmentation") and note["area"] > 400][:60]
    overlaps = []
    for note in notes:
        width, height = sizes[note["image_id"]]
        polygons = scaled_polygons(note["segmentation"], size=(width, height), place="a note")
        mask = rasterise(polygons, height=height, width=width)
        parts = pycocotools.frPyObjects(note["segmentation"], height, width)
        theirs = pycocotools.decode(pycocotools.merge(parts)).astype(bool)
        overlaps.append((mask & theirs).sum() / (mask | theirs).sum())
    assert len(overlaps) == 60 and min(overlaps) > 0.95 and np.mean(overlaps) > 0.98


@pytest.mark.parametrize(
    "polygon", [[0, 0, 1, 1], [0, 0, 1, 0, 1], [0, 0, 1, 0, 1, float("nan")], "polygon", [[0, 0], [1, 0], [1, 1]], None]
)
def test_what_is_no_polygon_is_named(polygon: object) -> None:
    with pytest.raises(ValueError, match="is no polygon: give a flat list x1, y1"):
        checked_polygon(polygon)
    with pytest.raises(ValueError, match="a.json: record 3: .* is no polygon"):
        scaled_polygons([polygon], size=(10, 10), place="a.json: record 3")


def test_what_is_no_list_or_grid_is_named() -> None:
    with pytest.raises(ValueError, match="are no polygons; give a list"):
        scaled_polygons("box", size=(10, 10), place="a.json")
    for fault in ({"height": 0, "width": 3}, {"height": 3, "width": 3, "box": (0.5, 0, 0.2, 1)}):
        with pytest.raises(ValueError, match="are no grid"):
            rasterise([], **fault)
