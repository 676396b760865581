"""Boxes of many items as one checked array, and how much boxes overlap; float64, xyxy, no +1.

    lists of boxes --joined_boxes--> boxes of all items (N, 4), number of each item's (P,)
    boxes, others --shared_and_joint_area--> intersections and unions

N boxes, P items (expressions, phrases, images). Boxes may be in any unit, the same on both sides: IoU does not change
where an image is stretched.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np

BoxFormat = Literal["xyxy", "xywh", "xcycwh"]
# Coordinates in 0..1 of the image lie in this range, even of boxes that reach out of it; those in pixels go beyond.
SHARES = (-1.0, 2.0)
FEWEST_PIXELS = 32.0


def joined_boxes(
    items: Sequence[Any], what: str, *, box_format: BoxFormat = "xyxy", has_area: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of all items in one array.

    Args:
        items: for each item its boxes, (n, 4) numbers; an item may have none.
        what: the items' name in errors.
        box_format: what the four numbers are: corners (`xyxy`), the first corner and the size (`xywh`), or the centre
            and the size (`xcycwh`).
        has_area: refuse boxes without area.

    Returns:
        Boxes (N, 4) float64 xyxy, item after item, and the number of each item's boxes (P,).

    Raises:
        ValueError: for another format, and for boxes that are not four finite numbers each, or have a negative size.

    >>> joined_boxes([[[1, 2, 3, 4]], []], "predictions", box_format="xywh")
    (array([[1., 2., 4., 6.]]), array([1, 0]))
    """
    if box_format not in get_args(BoxFormat):
        raise ValueError(f"box_format is {box_format!r}; choose {', '.join(get_args(BoxFormat))}")
    parts = [_numbers(boxes, f"{what}[{number}]") for number, boxes in enumerate(items)]
    counts = np.array([len(part) for part in parts], dtype=np.int64)
    given = np.concatenate([np.zeros((0, 4)), *parts])
    boxes = given.copy()
    if box_format == "xcycwh":
        boxes[:, :2] -= given[:, 2:] / 2
    if box_format != "xyxy":
        boxes[:, 2:] += boxes[:, :2]
    with np.errstate(invalid="ignore"):
        sizes = boxes[:, 2:] - boxes[:, :2] if box_format == "xyxy" else given[:, 2:]
        wrong = ~np.isfinite(boxes).all(axis=1) | ~(sizes >= 0).all(axis=1)
        wrong |= has_area & ~(sizes > 0).all(axis=1)
    if wrong.any():
        place = int(wrong.argmax())
        owner = int(np.searchsorted(counts.cumsum(), place, side="right"))
        cure = f"give finite {box_format} with a {'positive' if has_area else 'non-negative'} width and height"
        raise ValueError(f"{what}[{owner}] has the box {given[place].tolist()}; {cure}")
    return boxes, counts


def check_units(predicted: np.ndarray, true: np.ndarray) -> None:
    """ValueError where one of two sets of boxes (N, 4) and (M, 4) is in 0..1 and the other in pixels."""
    sides = [boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)] for boxes in (predicted, true)]
    if not all(len(boxes) for boxes in sides):
        return
    shares = [bool(boxes.min() >= SHARES[0] and boxes.max() <= SHARES[1]) for boxes in sides]
    if shares[0] != shares[1] and max(boxes.max() for boxes in sides) > FEWEST_PIXELS:
        ranges = [f"{boxes.min():.4g} to {boxes.max():.4g}" for boxes in sides]
        raise ValueError(
            f"predicted boxes go from {ranges[0]} but true boxes from {ranges[1]}; give both in pixels or both in 0..1"
        )


def shared_and_joint_area(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The areas of intersection and union of boxes (..., 4) and (..., 4), which broadcast.

    >>> shared_and_joint_area(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 3, 1]]))
    (array([1.]), array([3.]))
    """
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    return shared, area(boxes) + area(others) - shared


def area(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) -> (...): width times height."""
    return (boxes[..., 2:] - boxes[..., :2]).prod(axis=-1)


def share_of(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part` over `whole`, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def with_hundredfold(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures in 0..1 and each times 100, under `NAME_x100`."""
    return figures | {f"{name}_x100": 100 * value for name, value in figures.items()}


def threshold_names(thresholds: Iterable[float], stem: str) -> dict[str, float]:
    """`{stem_50: 0.5}`: the figures' names of overlaps; ValueError for none, or one that is not above 0 and up to 1."""
    names = {f"{stem}_{100 * threshold:.6g}": float(threshold) for threshold in thresholds}
    if not names or not all(0 < threshold <= 1 for threshold in names.values()):
        raise ValueError(f"the thresholds are {list(names.values())}; give overlaps above 0 and up to 1")
    return names


def _numbers(boxes: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} holds no boxes of four numbers ({error}); give a list of them") from error
    array = array.reshape(0, 4) if array.size == 0 and array.ndim else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{what} has boxes of shape {array.shape}; give a list of boxes, four numbers each")
    return array
