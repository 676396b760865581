"""Average precision of detected objects and attributes, equal to the two official evaluators.

- COCO (Lin et al. 2014), through `pycocotools`: `coco_detection` takes COCO's own records, `detection_scores` our rows.
- Visual Genome (the evaluator released with Anderson et al. 2018), vectorised: `vg_detection` takes the contents of its
  detection files, `vg_object_scores` and `attribute_scores` our rows.

Our rows are those of `training.data.boxes.rows`, one per image; predictions are one dict per image, in the order of the
rows. Shapes: R regions of an image, C objects, A attributes, N boxes of all images.
"""

import contextlib
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from training.metrics.detection.scored_rows import (
    UNRANKED,
    LabelledBoxes,
    Record,
    Records,
    boxes_array,
    checked_ids,
    other_names,
    paired,
    predicted_boxes,
    predicted_objects,
    predicted_probs,
    true_boxes,
    true_of_row,
)
from training.metrics.detection.true_names import (
    FoundObjects,
    TrueNames,
    check_covered,
    cover,
    detections_of_probs,
    names_of_boxes,
    settle,
)

__all__ = ["attribute_scores", "coco_detection", "detection_scores", "vg_detection", "vg_object_scores"]

COCO_PRECISIONS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
COCO_RECALLS = ("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")
VG_OVERLAP = 0.5
MOST_OF_AN_IMAGE = 300
PAIRS_AT_ONCE = 1 << 20


# -- COCO -------------------------------------------------------------------------------------------------------------


def coco_detection(
    detections: Records, annotations: Records, *, images: Records, categories: Records
) -> dict[str, Any]:
    """COCO's average precision and recall of boxes, computed by `pycocotools` (which prints nothing here).

    Args:
        detections: `image_id`, `category_id`, `bbox` (x, y, width, height in pixels), `score`; at most 100 per image
            and category are counted.
        annotations: `image_id`, `category_id`, `bbox`, and if known `area` (of the mask, in pixels; by default that of
            the box; it decides what is small) and `iscrowd` (never counted as missed, nor detections in it as wrong).
            Their `id` is not used, because for pycocotools an id of 0 means no match.
        images, categories: each with its `id`.

    Returns:
        `map` (mean over overlaps 0.50 .. 0.95), `map_50`, `map_75`, `map_small` (below 32 pixels squared),
        `map_medium`, `map_large` (above 96), `mar_1`, `mar_10`, `mar_100` (recall with that number of detections),
        `mar_small`, `mar_medium`, `mar_large`, all 0..1; each times 100 under `..._x100`; and `per_class`: for each
        category id `map`, `map_50`, `map_75`, `mar_100` and `precision_50`, the precision at recalls 0, 0.01 .. 1.
        As officially, a number is -1 if there is nothing to find (under `..._x100` too).

    Raises:
        ValueError: for an unknown image or category, a repeated one, a score or box that is not a number.

    Example:
        >>> box = {"image_id": 7, "category_id": 3, "bbox": [10, 10, 50, 50]}
        >>> scores = coco_detection([box | {"score": 0.9}], [box], images=[{"id": 7}], categories=[{"id": 3}])
        >>> round(scores["map_x100"], 1), scores["map_large"]
        (100.0, -1.0)
    """
    image_ids, category_ids = _known_ids(images, "images"), _known_ids(categories, "categories")
    known = {"image_id": image_ids, "category_id": category_ids}
    truth = [_coco_record(record, known, f"annotations[{n}]") for n, record in enumerate(annotations)]
    found = [_coco_record(record, known, f"detections[{n}]") for n, record in enumerate(detections)]
    for number, (record, given) in enumerate(zip(found, detections, strict=True)):
        if given.get("score") is None or not np.isfinite(given["score"]):
            raise ValueError(f"detections[{number}] has score {given.get('score')!r}; {UNRANKED}")
        record |= {"score": float(given["score"]), "area": record["bbox"][2] * record["bbox"][3], "iscrowd": 0}
    return run_coco(found, truth, image_ids=image_ids, category_ids=category_ids)


def run_coco(
    detections: Records,
    annotations: Records,
    *,
    image_ids: Iterable[int],
    category_ids: Iterable[int],
    sizes: Mapping[int, Record] | None = None,
) -> dict[str, Any]:
    """What `coco_detection` returns, of pycocotools' own records; with `sizes`, the `height` and `width` of each image,
    masks are compared, `segmentation` as run lengths, in the place of boxes.
    """
    from pycocotools.cocoeval import COCOeval  # imported here, so that `updown --help` is fast

    with contextlib.redirect_stdout(io.StringIO()):
        images = [{"id": image_id, **(sizes or {}).get(image_id, {})} for image_id in image_ids]
        truth, found = (_coco_index(records, images, category_ids) for records in (annotations, detections))
        evaluator = COCOeval(truth, found, "segm" if sizes else "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    corpus = dict(zip((*COCO_PRECISIONS, *COCO_RECALLS), evaluator.stats.tolist(), strict=True))
    hundredfold = {f"{name}_x100": 100 * value if value >= 0 else -1.0 for name, value in corpus.items()}
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # (10 overlaps, 101 recalls, categories), any area, 100
    recall = evaluator.eval["recall"][:, :, 0, -1]
    ids = sorted(category_ids)
    per_class = {ids[place]: _coco_class(precision[:, :, place], recall[:, place]) for place in range(len(ids))}
    return corpus | hundredfold | {"per_class": per_class}


def _coco_class(precision: np.ndarray, recall: np.ndarray) -> dict[str, Any]:
    """One category's metrics from its precision (10, 101) and recall (10,) at overlaps 0.50, 0.55 .. 0.95."""
    averages = precision.mean(axis=1)  # all -1 if the category has nothing to find
    return {
        "map": float(averages.mean()),
        "map_50": float(averages[0]),
        "map_75": float(averages[5]),
        "mar_100": float(recall.mean()),
        "precision_50": precision[0].tolist(),
    }


def _coco_index(records: Records, images: Records, category_ids: Iterable[int]) -> Any:
    """pycocotools' index of records, built without its `loadRes`, which fails without any detection."""
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = {
        "images": list(images),
        "categories": [{"id": category_id} for category_id in category_ids],
        "annotations": [{**record, "id": number} for number, record in enumerate(records, start=1)],
    }
    index.createIndex()
    return index


def _coco_record(record: Record, known: dict[str, dict[int, int]], what: str) -> dict[str, Any]:
    """The checked fields of one annotation or detection that pycocotools reads."""
    for key, ids in known.items():
        if record.get(key) not in ids:
            raise ValueError(f"{what} has {key} {record.get(key)!r}, which is not among the given ones; add it to them")
    box = np.asarray(record.get("bbox"), dtype=np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0).any():
        raise ValueError(f"{what} has bbox {record.get('bbox')!r}; give x, y, width, height in pixels")
    area = float(box[2] * box[3] if record.get("area") is None else record["area"])
    place: dict[str, Any] = {key: record[key] for key in known}
    return place | {"bbox": box.tolist(), "area": area, "iscrowd": int(record.get("iscrowd") or 0)}


def _known_ids(records: Records, what: str) -> dict[Any, int]:
    """Id -> its place; raises `ValueError` if there are no ids, or one is repeated."""
    places: dict[Any, int] = {}
    for number, record in enumerate(records):
        if places.setdefault(record["id"], number) != number:
            raise ValueError(f"{what}[{number}] has id {record['id']!r} again; give each once")
    if not places:
        raise ValueError(f"there are no {what} to score")
    return places


# -- Visual Genome ----------------------------------------------------------------------------------------------------


def vg_detection(
    images: Records,
    object_detections: Mapping[Any, Sequence[Any]],
    *,
    attribute_detections: Mapping[Any, Sequence[Any]],
    num_classes: int,
    num_attributes: int,
) -> dict[str, dict[str, Any]]:
    """Visual Genome's average precision at 0.5 of objects and attributes, from the contents of the official files.

    Equal to `vg_eval` and `vg.py` of bottom-up-attention, including their peculiarities: pixels are inclusive (+1 in
    widths), a hit overlaps by more than 0.5, a detection is compared with the box it overlaps most even if that one is
    matched already, AP is the area under the whole precision-recall curve, and a class without ground truth or
    detections has AP 0 and is part of the mean. Where the official code is undefined or crashes: detections of equal
    score keep their order; a class without detections has no threshold; an image that is not in `images` is an error.

    Args:
        images: `id`, `boxes` (xyxy pixels), `classes` (an id per box) and `attributes` (a list of ids per box).
        object_detections, attribute_detections: for each class id (an int, or a string as JSON has it) a list of
            [image id, score, x1, y1, x2, y2].
        num_classes, num_attributes: their numbers including background and "no attribute", as in the official code.

    Returns:
        The results of `vg_average_precision` under `object` and `attribute`.

    Raises:
        ValueError: for a repeated or unknown image, an id out of range, a score or box that is not a number.
    """
    image_places = {str(image_id): place for image_id, place in _known_ids(images, "images").items()}
    scores = {}
    for name, column, found, total in (
        ("object", "classes", object_detections, num_classes),
        ("attribute", "attributes", attribute_detections, num_attributes),
    ):
        parts = []
        for place, image in enumerate(images):
            what = f"images[{place}]"
            boxes = boxes_array(image["boxes"], f"{what}['boxes']")
            parts.append(true_boxes(place, boxes, image[column], num_classes=total - 1, what=f"{what}['{column}']")[0])
        detections, confidences = _file_detections(found, image_places, num_classes=total - 1, what=name)
        scores[name] = vg_average_precision(detections, confidences, truth=_concatenated(parts), num_classes=total - 1)
    return scores


def vg_average_precision(
    detections: LabelledBoxes,
    scores: np.ndarray,
    *,
    truth: LabelledBoxes,
    num_classes: int,
    crowd: np.ndarray | None = None,
) -> dict[str, Any]:
    """Average precision of each class and their means, as `vg_detection` describes, for boxes of all images.

    Args:
        detections, scores: N boxes and their scores (N,).
        truth: the ground truth's M boxes.
        num_classes: classes are 1..num_classes.
        crowd: (M,) bool, True = a box that is never counted as missed, nor are detections that overlap it most counted
            as wrong (Pascal's "difficult"); Visual Genome has none.

    Returns:
        `mean_ap` over all classes, `weighted_mean_ap` (weighted by the boxes of each class), `mean_ap_present` over
        classes with ground truth, all 0..1 and 0 if there is no ground truth; each times 100 under `..._x100`;
        `thresholds`, the score of each class with the best F1, or for classes with less than two boxes or a threshold
        of 0 `mean_threshold`, the mean of the others; and `per_class`: for each class id `ap`, `npos` (boxes), `n_det`.
    """
    if num_classes < 1:
        raise ValueError("there is no class to score; does the number of classes include the background?")
    crowd = np.zeros(len(truth.images), dtype=bool) if crowd is None else crowd
    order = np.lexsort((-scores, detections.classes))  # stable: by class, the highest score first
    hits, counted = _hits(LabelledBoxes(*(values[order] for values in detections)), truth, crowd)
    ranked = scores[order]
    num_boxes = np.bincount(truth.classes[~crowd], minlength=num_classes + 1)[1:]
    found = np.bincount(detections.classes, minlength=num_classes + 1)[1:]
    ends = np.cumsum(found)
    precisions, thresholds = np.zeros(num_classes), np.zeros(num_classes)
    for label in np.flatnonzero((num_boxes > 0) & (found > 0)):
        chosen = slice(ends[label] - found[label], ends[label])
        precisions[label], best = _class_precision(hits[chosen], counted[chosen], int(num_boxes[label]))
        thresholds[label] = ranked[chosen][best] if num_boxes[label] > 1 else 0
    return _vg_summary(precisions, thresholds, num_boxes, found)


def _vg_summary(
    precisions: np.ndarray, thresholds: np.ndarray, num_boxes: np.ndarray, found: np.ndarray
) -> dict[str, Any]:
    """AP, best threshold, boxes and detections of each class, (C,) each -> the result of `vg_average_precision`."""
    present = num_boxes > 0
    means = {
        "mean_ap": float(precisions.mean()),
        "weighted_mean_ap": float(np.average(precisions, weights=num_boxes)) if present.any() else 0.0,
        "mean_ap_present": float(precisions[present].mean()) if present.any() else 0.0,
    }
    chosen = thresholds != 0
    mean_threshold = float(thresholds[chosen].mean()) if chosen.any() else 0.0
    counts = zip(precisions.tolist(), num_boxes.tolist(), found.tolist(), strict=True)
    return {
        **means,
        **{f"{name}_x100": 100 * value for name, value in means.items()},
        "mean_threshold": mean_threshold,
        "thresholds": np.where(chosen, thresholds, mean_threshold).tolist(),
        "per_class": {label: {"ap": ap, "npos": n, "n_det": d} for label, (ap, n, d) in enumerate(counts, start=1)},
    }


def _class_precision(hits: np.ndarray, counted: np.ndarray, num_boxes: int) -> tuple[float, int]:
    """The area under one class's precision-recall curve, and the index of the detection with the best F1."""
    hit = np.cumsum(hits)
    recall, precision = hit / num_boxes, hit / np.maximum(np.cumsum(counted), 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    with np.errstate(invalid="ignore"):
        half_f1 = np.nan_to_num(precision * recall / (precision + recall))  # 0 / 0 before the first hit
    return float(envelope[hits].sum() / num_boxes), int(half_f1.argmax())


def _hits(detections: LabelledBoxes, truth: LabelledBoxes, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections, sorted by score, are hits, and which are counted (those of a crowd are not): (N,) bool each.

    Each detection is compared only with the box it overlaps most, so the hit is the first detection of a box, and
    detections can be judged independently.
    """
    nearest, overlap = _nearest(detections, truth)
    close = np.flatnonzero(overlap > VG_OVERLAP)
    in_crowd = crowd[nearest[close]]
    hits, counted = np.zeros(len(nearest), dtype=bool), np.ones(len(nearest), dtype=bool)
    counted[close[in_crowd]] = False
    real = close[~in_crowd]
    hits[real[np.unique(nearest[real], return_index=True)[1]]] = True
    return hits, counted


def _nearest(detections: LabelledBoxes, truth: LabelledBoxes) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the box of its image and class that it overlaps most (the first of equals) and the overlap.

    Both (N,); an overlap of -1 if there is no such box.
    """
    highest = max((int(boxes.classes.max()) for boxes in (detections, truth) if len(boxes.classes)), default=0) + 1
    keys = truth.images * highest + truth.classes
    order = np.argsort(keys, kind="stable")
    wanted = detections.images * highest + detections.classes
    first, last = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
    nearest, overlap = np.zeros(len(wanted), dtype=np.int64), np.full(len(wanted), -1.0)
    rivals = np.flatnonzero(last > first)
    counts = (last - first)[rivals]
    blocks = np.cumsum(counts) // PAIRS_AT_ONCE  # bounds the memory
    for block in np.split(np.arange(len(rivals)), np.flatnonzero(np.diff(blocks)) + 1):
        if not len(block):
            continue
        starts = np.cumsum(counts[block]) - counts[block]
        owner = np.repeat(np.arange(len(block)), counts[block])  # (P,) pairs
        places = np.arange(len(owner)) - starts[owner] + first[rivals[block]][owner]
        pairs = _pixel_overlaps(detections.boxes[rivals[block]][owner], truth.boxes[order[places]])
        best = np.maximum.reduceat(pairs, starts)
        candidates = np.where(pairs == best[owner], places, len(keys))
        nearest[rivals[block]] = order[np.minimum.reduceat(candidates, starts)]
        overlap[rivals[block]] = best
    return nearest, overlap


def _pixel_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of paired boxes, xyxy in inclusive pixels: (P, 4) and (P, 4) -> (P,)."""
    shared = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2]) + 1
    shared_area = np.maximum(shared, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) + (others[:, 2:] - others[:, :2] + 1).prod(axis=1)
    return shared_area / (areas - shared_area)


def _file_detections(
    found: Mapping[Any, Sequence[Any]], image_places: dict[str, int], *, num_classes: int, what: str
) -> tuple[LabelledBoxes, np.ndarray]:
    """Lists of [image id, score, x1, y1, x2, y2] by class -> all boxes, and their scores (N,)."""
    for key, lines in found.items():
        wrong = [line for line in lines if len(line) != 6 or str(line[0]) not in image_places]
        if wrong:
            wanted = "[id of one of images, score, x1, y1, x2, y2]"
            raise ValueError(f"{what}_detections[{key!r}] hold {wrong[0]!r}; give {wanted}")
    flat = list(itertools.chain.from_iterable(itertools.chain.from_iterable(found.values())))
    scores, *sides = np.array([flat[place::6] for place in range(1, 6)], dtype=np.float64)
    if not np.isfinite(scores).all():
        place = 6 * int(np.isfinite(scores).argmin())
        raise ValueError(f"{what}_detections hold {flat[place : place + 6]!r}; {UNRANKED}")
    images = np.array([image_places[str(image_id)] for image_id in flat[::6]], dtype=np.int64)
    labels = np.repeat([int(key) for key in found], [len(lines) for lines in found.values()])
    labels = checked_ids(labels, highest=num_classes, what=f"{what}_detections")
    return LabelledBoxes(images, labels, boxes_array(np.stack(sides, axis=1), f"{what}_detections")), scores


# -- our rows ---------------------------------------------------------------------------------------------------------


def detection_scores(
    predictions: Records,
    rows: Records,
    *,
    num_classes: int,
    covered: Mapping[int, Sequence[int]] | None = None,
    max_per_image: int = MOST_OF_AN_IMAGE,
    nms_iou: float = 0.5,
) -> dict[str, Any]:
    """COCO's metrics for predictions on rows of `training.data.boxes.rows`, in the same order.

    A box may have several right names, and a name may cover others: `true_names.py` states the two rules by which they
    count. A detector of such names is scored by `detection_scores(found, rows, num_classes=config.num_objects,
    covered=data.covered)`, where `data` is the `DetectionData` of the rows and each of `found` has a region's
    `object_probs` beside its box.

    Args:
        predictions: one dict per image: `boxes` (R, 4) xyxy 0..1, `scores` (R,), `object_ids` (R,) from 1 to
            `num_classes`, as arrays, lists or tensors on the CPU; or `object_probs` (R, num_classes + 1), background
            first, in place of the last two: then each region is a detection of every object. Optionally `image_id`,
            which must be the row's.
        rows: `image_id`, `width`, `height`, `boxes`, `object_ids` and, where there are any, `crowd` and
            `other_object_ids`, a list of further right names per box; a list of dicts or a `datasets.Dataset`, whose
            images are not read. A repeated image is scored twice.
        num_classes: object ids are 1..num_classes.
        covered: of an object id, the ids of the finer names that it covers.
        max_per_image: with `object_probs`, how many of an image's detections count after suppression (LVIS: 300).
        nms_iou: the overlap above which the less sure of two detections of one object is left out: with `object_probs`
            for every object, else for covering names, whose detections come from several.

    Returns:
        As `coco_detection`, with object ids under `per_class`. Since rows have no masks, the area of the box decides
        what is small, medium or large; COCO's figures use the area of the mask.

    Raises:
        ValueError: for predictions and rows that do not match, boxes in pixels, scores that are not numbers, ids out of
            range.

    Example:
        >>> row = {"image_id": "7", "width": 200, "height": 100, "boxes": [[0, 0, 0.5, 1]], "object_ids": [2]}
        >>> scores = detection_scores([{"boxes": [[0, 0, 0.5, 0.8]], "scores": [0.9], "object_ids": [2]}], [row],
        ...                           num_classes=2)
        >>> round(scores["map_x100"], 1), round(scores["map_50_x100"], 1)
        (70.0, 100.0)
    """
    covered = covered or {}
    check_covered(covered, num_classes=num_classes)
    detections: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    pairs = paired(predictions, rows)
    for image, (what, prediction, row) in enumerate(pairs, start=1):
        truth, crowd = true_of_row(image, row, "object_ids", num_classes)
        names = names_of_boxes(truth.classes, other_names(row, num_classes, what=what), covered)
        found = _found_objects(
            *(prediction, row, covered), what=what, num_classes=num_classes, most=max_per_image, nms_iou=nms_iou
        )
        detections += _coco_detections(image, settle(found, truth.boxes, names, crowd))
        annotations += _coco_truth(image, truth.boxes, names, crowd)
    images, categories = range(1, len(pairs) + 1), range(1, num_classes + 1)
    return run_coco(detections, annotations, image_ids=images, category_ids=categories)


def _found_objects(
    prediction: Record,
    row: Record,
    covered: Mapping[int, Sequence[int]],
    *,
    what: str,
    num_classes: int,
    most: int,
    nms_iou: float,
) -> FoundObjects:
    """One image's detections in pixels, those of covering names among them."""
    boxes = predicted_boxes(prediction, row, what)
    if "object_probs" in prediction and "object_ids" not in prediction:
        probs = predicted_probs(prediction, "object_probs", (len(boxes), num_classes + 1), what=what)
        return detections_of_probs(boxes, probs, covered, most=most, nms_iou=nms_iou)
    ids, scores = predicted_objects(prediction, len(boxes), num_classes=num_classes, what=what)
    found = FoundObjects(boxes, ids, scores)
    return cover(found, covered, nms_iou=nms_iou) if covered else found


def vg_object_scores(
    predictions: Records, rows: Records, *, num_classes: int, max_per_image: int = 400, offset_pixels: float = 1.0
) -> dict[str, Any]:
    """Visual Genome's average precision of objects at 0.5, for predictions on our rows, in the same order.

    Args:
        predictions: as for `detection_scores`; or with `object_probs` (R, num_classes + 1), background first, in place
            of `object_ids` and `scores`: then each region is a detection of every object.
        rows: as for `detection_scores`.
        num_classes: object ids are 1..num_classes.
        max_per_image: the number of detections per image that count, those with the highest scores of all classes (and
            all that equal the last), as in the released code.
        offset_pixels: added to the coordinates of detections. The released code adds 1 to detections but not to the
            ground truth, and its published figures include that; 0 measures without it.

    Returns:
        As `vg_average_precision`. Boxes of a crowd are not missed, nor are detections that overlap them wrong. Unlike
        in the released code, scores are not rounded to three decimals, which would make the order arbitrary.

    Raises:
        ValueError: as `detection_scores`.
    """
    columns = ("object_ids", "object_probs")
    return _vg_scores(predictions, rows, columns=columns, classes=num_classes, most=max_per_image, offset=offset_pixels)


def attribute_scores(
    predictions: Records, rows: Records, *, num_attributes: int, max_per_image: int = 400, offset_pixels: float = 1.0
) -> dict[str, Any]:
    """Visual Genome's average precision of attributes at 0.5, for predictions on our rows, in the same order.

    The published figures (mean 7.8, weighted 27.8) are for the ground truth's boxes: predict on those to compare with
    them, and on the detector's own boxes to measure the whole task.

    Args:
        predictions: one dict per image: `boxes` (R, 4) xyxy 0..1 and `attribute_probs` (R, num_attributes + 1), "no
            attribute" first; each region is a detection of every attribute.
        rows: as for `detection_scores`, and `attribute_ids`, one list per box; 0, "no attribute", is ignored.
        num_attributes: attribute ids are 1..num_attributes.
        max_per_image, offset_pixels: as for `vg_object_scores`.

    Returns:
        As `vg_average_precision`.

    Raises:
        ValueError: as `detection_scores`.
    """
    columns, classes = ("attribute_ids", "attribute_probs"), num_attributes
    return _vg_scores(predictions, rows, columns=columns, classes=classes, most=max_per_image, offset=offset_pixels)


def _vg_scores(
    predictions: Records, rows: Records, *, columns: tuple[str, str], classes: int, most: int, offset: float
) -> dict[str, Any]:
    """The scores of objects or attributes, from the columns of the true ids and of the predicted probabilities."""
    if most < 1:
        raise ValueError(f"max_per_image is {most}; give at least 1")
    found, scores, true, crowds = [], [], [], []
    for place, (what, prediction, row) in enumerate(paired(predictions, rows)):
        boxes = predicted_boxes(prediction, row, what) + offset
        if columns[0] == "object_ids" and "object_ids" in prediction:
            ids, ranks = predicted_objects(prediction, len(boxes), num_classes=classes, what=what)
            chosen = regions = _highest(ranks, most)
            labels = ids[chosen]
        else:
            ranks = predicted_probs(prediction, columns[1], (len(boxes), classes + 1), what=what)[:, 1:].ravel()
            chosen = _highest(ranks, most)
            chosen = chosen[ranks[chosen] > 0]
            regions, labels = chosen // classes, chosen % classes + 1
        found.append(LabelledBoxes(np.full(len(chosen), place), labels, boxes[regions]))
        scores.append(ranks[chosen].astype(np.float64))
        truth, crowd = true_of_row(place, row, columns[0], classes)
        true.append(truth)
        crowds.append(crowd)
    detections, truth, crowd = _concatenated(found), _concatenated(true), np.concatenate(crowds)
    return vg_average_precision(detections, np.concatenate(scores), truth=truth, num_classes=classes, crowd=crowd)


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """The indices of the `count` highest scores (N,), and of all that equal the last of them."""
    lowest = np.partition(scores, -count)[-count] if len(scores) > count else -np.inf
    return np.flatnonzero(scores >= lowest)


def _concatenated(parts: Sequence[LabelledBoxes]) -> LabelledBoxes:
    return LabelledBoxes(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _coco_records(image: int, boxes: np.ndarray, ids: np.ndarray, crowd: np.ndarray) -> list[dict[str, Any]]:
    """Pixel boxes xyxy (N, 4), object ids (N,), crowd (N,) -> pycocotools' records."""
    sides = boxes[:, 2:] - boxes[:, :2]
    corners_and_sides = np.concatenate([boxes[:, :2], sides], axis=1).tolist()
    columns = zip(corners_and_sides, ids.tolist(), sides.prod(axis=1).tolist(), crowd.tolist(), strict=True)
    return [
        {"image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(in_crowd)}
        for box, label, area, in_crowd in columns
    ]


def _coco_detections(image: int, found: FoundObjects) -> list[dict[str, Any]]:
    """Detections as pycocotools' records."""
    records = _coco_records(image, found.boxes, found.ids, np.zeros(len(found.ids), dtype=bool))
    return [record | {"score": score} for record, score in zip(records, found.scores.tolist(), strict=True)]


def _coco_truth(image: int, boxes: np.ndarray, names: TrueNames, crowd: np.ndarray) -> list[dict[str, Any]]:
    """True boxes (M, 4) as pycocotools' records, one for each name that a box is of."""
    owners = np.repeat(np.arange(len(crowd)), [len(own) for own in names.right])
    ids = np.array([i for own in names.right for i in sorted(own)], dtype=np.int64)
    return _coco_records(image, boxes[owners], ids, crowd[owners])
