"""One image's predictions and true boxes as the evaluators take them: checked, in pixels, by label.

    predictions + rows --paired--> per image: predicted_boxes, predicted_objects | predicted_probs; true_of_row

Rows are those of `training.data.boxes.rows`. Shapes: R regions of an image, M true boxes, N boxes of all images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

ROW_COLUMNS = (
    *("image_id", "width", "height", "boxes", "object_ids", "other_object_ids"),
    *("attribute_ids", "crowd", "polygons"),
)
FARTHEST_OUTSIDE = 1.0  # of an image's side; boxes may be a little outside, boxes in pixels are far outside
PIXEL_DECIMALS = 3  # the error of float32 in 0..1 is less; official annotations have at most two decimals
UNRANKED = "every detection needs a finite score"

Record = Mapping[str, Any]
Records = Sequence[Record]


class LabelledBoxes(NamedTuple):
    """Boxes of all images: images (N,) from 0, classes (N,) from 1, boxes (N, 4) xyxy pixels; int, int and float.

    A box with several attributes is repeated for each.
    """

    images: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray


def paired(predictions: Records, rows: Any) -> list[tuple[str, Record, Record]]:
    """For each image the name of its prediction in errors, the prediction and the row."""
    if len(predictions) != len(rows):
        raise ValueError(f"{len(predictions)} predictions but {len(rows)} rows; pass one per image, in the same order")
    if not len(rows):
        raise ValueError("there are no rows to score")
    if hasattr(rows, "select_columns"):  # so that a datasets.Dataset does not decode images
        rows = rows.select_columns([name for name in ROW_COLUMNS if name in rows.column_names])
    pairs = []
    for number, (prediction, row) in enumerate(zip(predictions, rows, strict=True)):
        image_id = row.get("image_id", number)
        if str(prediction.get("image_id", image_id)) != str(image_id):
            raise ValueError(
                f"predictions[{number}] is of image {prediction['image_id']!r} but rows[{number}] of {image_id!r}; "
                "bring them into the same order"
            )
        pairs.append((f"predictions[{number}] (image {image_id})", prediction, row))
    return pairs


def part(prediction: Record, key: str, what: str) -> Any:
    """What a prediction has under a key; `ValueError` where it lacks it."""
    if key not in prediction:
        raise ValueError(f"{what} has no {key!r}; it has {', '.join(sorted(prediction)) or 'nothing'}")
    return prediction[key]


def predicted_boxes(prediction: Record, row: Record, what: str) -> np.ndarray:
    """The boxes (R, 4) of one image in pixels, checked."""
    return pixels(part(prediction, "boxes", what), row, f"{what}['boxes']")


def predicted_objects(prediction: Record, count: int, *, num_classes: int, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The object ids (R,) and scores (R,) of one image, checked."""
    ids = np.asarray(part(prediction, "object_ids", what))
    scores = np.asarray(part(prediction, "scores", what), dtype=np.float64)
    for name, values in (("object_ids", ids), ("scores", scores)):
        if values.shape != (count,):
            raise ValueError(
                f"{what}[{name!r}] has shape {values.shape}, but there are {count} boxes; give one per box"
            )
    if not np.isfinite(scores).all():
        raise ValueError(f"{what}['scores'] hold a number that is not finite; {UNRANKED}")
    return checked_ids(ids, highest=num_classes, what=f"{what}['object_ids']"), scores


def predicted_probs(prediction: Record, key: str, shape: tuple[int, int], *, what: str) -> np.ndarray:
    """Probabilities (R, classes + 1) of one image, checked."""
    probs = np.asarray(part(prediction, key, what))
    probs = probs.reshape(shape) if probs.size == 0 and not shape[0] else probs
    if probs.shape != shape:
        raise ValueError(f"{what}[{key!r}] has shape {probs.shape}; with {shape[0]} boxes it should have {shape}")
    if not np.isfinite(probs).all():
        raise ValueError(f"{what}[{key!r}] hold a number that is not finite; {UNRANKED}")
    return probs


def true_of_row(place: int, row: Record, column: str, num_classes: int) -> tuple[LabelledBoxes, np.ndarray]:
    """One row's M labelled boxes in pixels, and which of them are a crowd (M,)."""
    what = f"the row of image {row.get('image_id', place)}"
    boxes = pixels(row["boxes"], row, f"{what}: boxes")
    truth, owners = true_boxes(place, boxes, row[column], num_classes=num_classes, what=f"{what}: {column}")
    given = row.get("crowd")
    crowd = np.zeros(len(boxes), dtype=bool) if given is None else np.asarray(given, dtype=bool)
    if crowd.shape != (len(boxes),):
        raise ValueError(f"{what}: crowd has {len(crowd)} values, but there are {len(boxes)} boxes; give one per box")
    return truth, crowd[owners]


def other_names(row: Record, num_classes: int, *, what: str) -> list[list[int]]:
    """The other right names of each box of a row, checked; none where the row has no `other_object_ids`."""
    given = row.get("other_object_ids")
    if given is None:
        return [[] for _ in row["boxes"]]
    if len(given) != len(row["boxes"]):
        raise ValueError(f"{what}: other_object_ids of {len(given)} boxes, but there are {len(row['boxes'])}")
    what = f"{what}: other_object_ids"
    return [checked_ids(np.array(own, dtype=np.int64), highest=num_classes, what=what).tolist() for own in given]


def true_boxes(
    place: int, boxes: np.ndarray, labels: Sequence[Any], *, num_classes: int, what: str
) -> tuple[LabelledBoxes, np.ndarray]:
    """An image's true boxes, repeated for each label (an id or a list of ids per box), and the index of each box."""
    if len(labels) != len(boxes):
        raise ValueError(f"{what} are {len(labels)}, but there are {len(boxes)} boxes; give one per box")
    # a list of attributes may be padded by 0, "no attribute", and may hold one twice
    chosen = [sorted({int(i) for i in label} - {0}) if np.ndim(label) else [label] for label in labels]
    owners = np.repeat(np.arange(len(boxes)), [len(label) for label in chosen])
    ids = checked_ids(np.array([i for label in chosen for i in label]), highest=num_classes, what=what)
    return LabelledBoxes(np.full(len(owners), place), ids, boxes[owners]), owners


def checked_ids(ids: np.ndarray, *, highest: int, what: str) -> np.ndarray:
    """Ids (N,) as int64; raises `ValueError` if one is not a whole number from 1 to the highest."""
    whole = ids.astype(np.int64)
    wrong = (whole != ids) | (whole < 1) | (whole > highest)
    if wrong.any():
        raise ValueError(f"{what} holds {ids[wrong][0]}, but ids go from 1 to {highest}; was another vocabulary used?")
    return whole


def pixels(boxes: Any, row: Record, what: str) -> np.ndarray:
    """Boxes in 0..1 (N, 4) -> pixels of the row's image, rounded to remove the error of float32."""
    boxes = boxes_array(boxes, what)
    size = np.array([row["width"], row["height"]] * 2, dtype=np.float64)
    if not (size >= 1).all():
        raise ValueError(f"{what}: the image's size is {row['width']} x {row['height']} pixels; give its true size")
    if len(boxes) and (boxes.min() < -FARTHEST_OUTSIDE or boxes.max() > 1 + FARTHEST_OUTSIDE):
        raise ValueError(f"{what} go from {boxes.min():.4g} to {boxes.max():.4g}; give xyxy in 0..1 of the image")
    return np.round(boxes * size, PIXEL_DECIMALS)


def boxes_array(boxes: Any, what: str) -> np.ndarray:
    """Boxes xyxy (N, 4) as float64, checked."""
    array = np.asarray(boxes, dtype=np.float64)
    array = array.reshape(0, 4) if array.size == 0 else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{what} have shape {array.shape}; give x1, y1, x2, y2 for each")
    wrong = ~np.isfinite(array).all(axis=1) | (array[:, 2:] < array[:, :2]).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{what} hold {array[row].tolist()} at {row}; give finite x1 <= x2 and y1 <= y2")
    return array
