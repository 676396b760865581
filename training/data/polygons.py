"""Polygons -> masks: of an object inside its box, as a detector learns it, or of a whole image, as metrics compare it.

    polygons of a row (COCO's, RefCOCO's, the drawn scenes') --rasterise--> grid of cells, True = of the object

A cell is of a polygon if its centre is inside by the even-odd rule, and of an object if it is of any of its polygons
(COCO joins the parts of an object that another one hides). A polygon is a flat list x1, y1, x2, y2, ... of three
corners or more, in 0..1 of the image; corners may lie outside of it.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

POLYGONS = datasets.List(datasets.List(datasets.List(datasets.Value("float32"))))  # of each box, a list of polygons
Polygons = Sequence[Sequence[float]]
FEWEST_NUMBERS = 6  # of a polygon: a triangle
EDGES_AT_A_TIME = 4096  # times the rows of a grid: bounds the memory
WHOLE = (0.0, 0.0, 1.0, 1.0)


def rasterise(polygons: Polygons, *, height: int, width: int, box: Sequence[float] | np.ndarray = WHOLE) -> np.ndarray:
    """The cells of a grid over a box that are of an object: (height, width) bool.

    Args:
        polygons: of the object; none gives an empty mask.
        height, width: cells of the grid, rows and columns.
        box: xyxy in 0..1 of the image; by default the whole image, whose pixels are then the cells.

    Raises `ValueError` for a grid without cells, a box that is none, and what is no polygon.

    >>> rasterise([[0, 0, 1, 0, 0, 1]], height=4, width=4).astype(int).tolist()
    [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    """
    left, top, right, bottom = (float(side) for side in box)
    if height < 1 or width < 1 or not (left <= right and top <= bottom):
        raise ValueError(f"{height} x {width} cells over the box {[left, top, right, bottom]} are no grid")
    mask = np.zeros((height, width), dtype=bool)
    if left == right or top == bottom:
        return mask
    rows = top + (np.arange(height) + 0.5) / height * (bottom - top)  # y of the centres
    columns = left + (np.arange(width) + 0.5) / width * (right - left)
    for polygon in polygons:
        corners = checked_polygon(polygon).reshape(-1, 2)
        mask |= _inside(corners, rows, columns)
    return mask


def _inside(corners: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which points of a grid lie inside a closed line through corners (E, 2), by the even-odd rule: (rows, columns).

    A point is inside if a ray to the left crosses the line an odd number of times; an edge crosses the rows from its
    upper end on, without its lower end, so that a corner counts once.
    """
    ends = np.roll(corners, -1, axis=0)
    crossings = np.zeros((len(rows), len(columns) + 1), dtype=np.int64)  # by the first column to the right of each
    for start in range(0, len(corners), EDGES_AT_A_TIME):
        one, other = corners[start : start + EDGES_AT_A_TIME], ends[start : start + EDGES_AT_A_TIME]
        crosses = (one[:, 1, None] <= rows) != (other[:, 1, None] <= rows)  # (E, rows)
        edge, row = np.nonzero(crosses)
        share = (rows[row] - one[edge, 1]) / (other[edge, 1] - one[edge, 1])
        places = one[edge, 0] + share * (other[edge, 0] - one[edge, 0])
        np.add.at(crossings, (row, np.searchsorted(columns, places, side="left")), 1)
    return crossings[:, :-1].cumsum(axis=1) % 2 == 1


def checked_polygon(polygon: Any) -> np.ndarray:
    """A polygon's numbers (2 E,) float64; `ValueError` for what is none."""
    try:
        numbers = np.asarray(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or len(numbers) < FEWEST_NUMBERS or len(numbers) % 2 or not np.isfinite(numbers).all():
        raise ValueError(
            f"{str(polygon)[:60]} is no polygon: give a flat list x1, y1, x2, y2, ... of three corners or more"
        )
    return numbers


def scaled_polygons(polygons: Any, *, size: Sequence[float], place: str) -> list[list[float]]:
    """An annotation's polygons in pixels of an image of `size` (width, height) -> in 0..1.

    Raises `ValueError` naming the `place` for what are no polygons.
    """
    if not isinstance(polygons, list):
        raise ValueError(f"{place}: {str(polygons)[:60]} are no polygons; give a list of them")
    scaled = []
    for polygon in polygons:
        try:
            numbers = checked_polygon(polygon)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        scaled.append((numbers.reshape(-1, 2) / np.asarray(size, dtype=np.float64)).ravel().tolist())
    return scaled


def polygons_in(polygons: Polygons, part: Sequence[float] | np.ndarray) -> list[list[float]]:
    """Polygons of an image in 0..1 of a part of it, xyxy in 0..1; what lies outside stays, beyond 0..1.

    >>> polygons_in([[0.5, 0, 1, 0, 1, 1]], [0.5, 0, 1, 1])
    [[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]]
    """
    corner, side = np.asarray(part[:2], dtype=np.float64), np.asarray(part[2:], dtype=np.float64) - part[:2]
    return [((np.reshape(polygon, (-1, 2)) - corner) / side).ravel().tolist() for polygon in polygons]


def mirrored_polygons(polygons: Polygons) -> list[list[float]]:
    """Polygons of the image mirrored left to right.

    >>> mirrored_polygons([[0, 0, 0.25, 0, 0, 1]])
    [[1.0, 0.0, 0.75, 0.0, 1.0, 1.0]]
    """
    return [(np.reshape(polygon, (-1, 2)) * (-1.0, 1.0) + (1.0, 0.0)).ravel().tolist() for polygon in polygons]
