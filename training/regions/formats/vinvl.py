"""VinVL's files (microsoft/scene_graph_benchmark; read by Oscar's oscar_tsv.py): a folder of TSV files.

`vinvl-tsv`:
    features.tsv: image_id, JSON {"num_boxes", "features": base64 of float32 (R, 2054)}; or the three columns image_id,
        num_boxes, base64. A row is 2048 features and 6 numbers of the box: x1, y1, x2, y2, width, height in 0..1.
    predictions.tsv: image_id, JSON {"image_h", "image_w", "num_boxes", "objects": [{"rect": x1 y1 x2 y2 in pixels,
        "class", "conf", "attributes", "attr_scores"}]}; the objects may hold the features too ("feature"), and then
        features.tsv may be absent.
    NAME.lineidx: the byte at which each line begins; imageid2idx.json: the line of each image.

The source is the folder or one of its TSV files. The last 6 numbers are taken as a box if they are consistent with one;
a store keeps the features without them. Rows of the two files are matched by id. The lineidx files are written but not
read, since a stale one gives wrong rows. Names of classes and attributes become ids with `Sidecar.labels`, else they
are left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.regions.formats.arrays import base64_text
from training.regions.formats.base import Entry, RegionFile, StoreImages
from training.regions.formats.record import (
    LONGEST_ROW,
    ImageRecord,
    box_numbers,
    checked_count,
    checked_size,
    image_size,
    normalised_boxes,
    pixel_boxes,
    size_of_boxes,
)
from training.regions.formats.sidecar import Labels, Sidecar
from training.regions.formats.tsv import lines_of, tsv_id

FEATURES, PREDICTIONS = "features.tsv", "predictions.tsv"
BOX_NUMBERS = 6
SAME_NUMBER = 1e-4
NONE = "__no_attribute__"


class VinvlTsv(RegionFile):
    """The format `vinvl-tsv`."""

    def __init__(self, path: Path, sidecar: Sidecar) -> None:
        folder = path if path.is_dir() else path.parent
        predictions = folder / PREDICTIONS
        super().__init__(path if path.is_file() else folder / FEATURES, sidecar)
        if not self.path.is_file():
            self.path = predictions
        if not self.path.is_file():
            raise ValueError(f"{folder} holds neither {FEATURES} nor {PREDICTIONS}")
        self.size = self.path.stat().st_size
        self._file = open(self.path, "rb")  # noqa: SIM115  open as long as the reader lives
        self._predictions_file: Any = None
        self._predictions: dict[str, tuple[int, int]] = {}
        if predictions.is_file() and predictions != self.path:
            self._predictions_file = open(predictions, "rb")  # noqa: SIM115
            self._predictions = {id_of(line): (start, len(line)) for _, start, line in lines_of(predictions)}

    def close(self) -> None:
        self._file.close()
        if self._predictions_file is not None:
            self._predictions_file.close()

    def entries(self) -> Iterator[Entry]:
        """Yield every line, of which only the id is decoded."""
        for number, start, line in lines_of(self.path):
            place, end = f"{self.path}, line {number}", start + len(line)
            if len(line) > LONGEST_ROW:
                yield Entry("", place, start, end, f"the line is longer than {LONGEST_ROW} bytes")
            else:
                image_id = id_of(line)
                yield Entry(image_id, place, (start, len(line)), end, None if image_id else "it has no image id")

    def decode(self, entry: Entry) -> ImageRecord:
        """Features of the line, boxes and classes of the image's prediction."""
        record = record_of(line_at(self._file, entry.key))
        if "features" in record:
            count = checked_count(record.get("num_boxes"))
            features = self.features(text_of(record, "features"), rows=count)
            found = self._predictions.get(entry.image_id)
            record = record_of(line_at(self._predictions_file, found)) if found else {}
        else:
            features = np.concatenate(
                [self.features(text_of(one, "feature"), rows=1, name="feature") for one in objects_of(record)]
            )
        if "objects" in record and len(objects_of(record)) != len(features):
            raise ValueError(f"it has {len(features)} feature vectors but {len(objects_of(record))} predicted objects")
        return self._image(entry.image_id, features, record)

    def _image(self, image_id: str, features: np.ndarray, prediction: dict[str, Any]) -> ImageRecord:
        """Features with or without box numbers (R, W), and the image's prediction or {} -> the image."""
        size = self.image_size(image_id)
        if {"image_h", "image_w"} <= set(prediction):
            size = checked_size(prediction["image_h"], prediction["image_w"])
        features, boxes = split_box_numbers(features)
        image: ImageRecord = {"region_features": features}
        if "objects" in prediction:
            rects = rects_of(objects_of(prediction))
            size = size or (size_of_boxes(rects, boxes) if boxes is not None else None)
            boxes = normalised_boxes(rects, size)
            image |= classes_of(objects_of(prediction), self.sidecar.labels)
        if boxes is None:
            raise ValueError(f"its features do not end in box numbers and {PREDICTIONS} has no objects of it")
        image["region_boxes"] = normalised_boxes(boxes, None)
        return image | ({"image_size": np.array(size, dtype=np.int32)} if size else {})


def id_of(line: bytes) -> str:
    """The first column."""
    return line.partition(b"\t")[0].decode("utf-8", "replace").strip()


def line_at(file: Any, key: tuple[int, int]) -> bytes:
    """A line by the byte where it starts and its length."""
    start, length = key
    file.seek(start)
    return file.read(length)


def record_of(line: bytes) -> dict[str, Any]:
    """The fields of a line other than its id, as one mapping; raises `ValueError` if it is damaged."""
    fields = line.rstrip(b"\r\n").split(b"\t")
    if len(fields) == 3 and not fields[1].startswith(b"{"):
        return {"num_boxes": checked_count(fields[1]), "features": fields[2]}
    try:
        record = json.loads(fields[1])
    except (IndexError, ValueError, RecursionError) as error:
        raise ValueError(f"its second column is not valid JSON ({str(error)[:80]}); is the row cut short?") from None
    if not isinstance(record, dict):
        raise ValueError("its second column is not a JSON object")
    return record


def text_of(record: dict[str, Any], name: str) -> bytes | str:
    """A field of base64; raises `ValueError` if it is absent or not text."""
    value = record.get(name)
    if not isinstance(value, bytes | str):
        raise ValueError(f"its {name} are {value!s:.40}, not base64")
    return value


def objects_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The predicted objects; raises `ValueError` if there is none."""
    objects = record.get("objects")
    if not isinstance(objects, list) or not objects or not all(isinstance(one, dict) for one in objects):
        raise ValueError("it has no predicted objects")
    return objects


def rects_of(objects: list[dict[str, Any]]) -> np.ndarray:
    """(R, 4) pixel boxes; raises `ValueError` for an object without one."""
    try:
        rects = np.array([one["rect"] for one in objects], dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its objects lack rects of four numbers ({error})") from None
    return rects


def split_box_numbers(features: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Features (R, D + 6) -> features (R, D) and boxes 0..1 (R, 4), if the last 6 numbers are those of a box; else the
    features and None.

    The 6 numbers are x1, y1, x2, y2 and the box's two sides, width or height first.
    """
    numbers = features[:, -BOX_NUMBERS:]
    if features.shape[1] <= BOX_NUMBERS or not np.isfinite(numbers).all():
        return features, None
    sides = numbers[:, 2:4] - numbers[:, :2]
    inside = (numbers > -SAME_NUMBER).all() and (numbers < 1 + SAME_NUMBER).all()
    same = any(np.abs(numbers[:, 4:] - order).max() < SAME_NUMBER for order in (sides, sides[:, ::-1]))
    return (features[:, :-BOX_NUMBERS], numbers[:, :4]) if inside and same else (features, None)


def classes_of(objects: list[dict[str, Any]], labels: Labels | None) -> ImageRecord:
    """`region_scores`, and with labels `object_ids`, `attribute_ids` and `attribute_scores`, of predicted objects."""
    image: ImageRecord = {}
    try:
        if all("conf" in one for one in objects):
            image["region_scores"] = np.array([one["conf"] for one in objects], dtype=np.float32)
        if labels is None:
            return image
        if all("class" in one for one in objects):
            image["object_ids"] = np.array([labels.objects[one["class"]] for one in objects], dtype=np.int32)
        if all("attributes" in one for one in objects):
            best = [best_attribute(one, labels) for one in objects]
            image["attribute_ids"] = np.array([attribute for attribute, _ in best], dtype=np.int32)
            image["attribute_scores"] = np.array([score for _, score in best], dtype=np.float32)
    except KeyError as error:
        raise ValueError(
            f"its object or attribute {error} is not among the labels: are they of this detector?"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"its predicted objects hold invalid values ({error})") from None
    return image


def best_attribute(one: dict[str, Any], labels: Labels) -> tuple[int, float]:
    """The id and score of an object's strongest attribute; (0, 0) where it has none."""
    names = one["attributes"]
    scores = one.get("attr_scores") or [1.0] * len(names)
    ranked = [
        (float(score), labels.attributes[name]) for name, score in zip(names, scores, strict=True) if name != NONE
    ]
    score, attribute = max(ranked, default=(0.0, 0))
    return attribute, score


def write_vinvl(images: StoreImages, output: Path) -> None:
    """Images -> a folder of the format `vinvl-tsv`; class and attribute names where labels were given."""
    output.mkdir()
    names = {
        kind: {index: name for name, index in table.items()}
        for kind, table in (vars(images.labels) if images.labels else {}).items()
    }
    index: dict[str, int] = {}
    starts: dict[str, list[int]] = {FEATURES: [], PREDICTIONS: []}
    with open(output / FEATURES, "wb") as features_file, open(output / PREDICTIONS, "wb") as predictions_file:
        for row, (image_id, image) in enumerate(images):
            features = np.concatenate([image["region_features"], box_numbers(image["region_boxes"])], axis=1)
            record = {"num_boxes": len(features), "features": base64_text(features, "<f4")}
            for file, name, content in (
                (features_file, FEATURES, record),
                (predictions_file, PREDICTIONS, prediction_of(image, names)),
            ):
                starts[name].append(file.tell())
                file.write(f"{tsv_id(image_id)}\t{json.dumps(content)}\n".encode())
            index[image_id] = row
    for name, offsets in starts.items():
        lines = "".join(f"{offset}\n" for offset in offsets)
        (output / name).with_suffix(".lineidx").write_text(lines, encoding="ascii")
    (output / "imageid2idx.json").write_text(json.dumps(index), encoding="utf-8")


def prediction_of(image: ImageRecord, names: dict[str, dict[int, str]]) -> dict[str, Any]:
    """An image's record in predictions.tsv."""
    height, width = image_size(image)
    objects: list[dict[str, Any]] = [{"rect": box} for box in pixel_boxes(image).tolist()]
    for region, one in enumerate(objects):
        if "object_ids" in image and "objects" in names:
            one["class"] = name_of(names["objects"], int(image["object_ids"][region]))
        if "region_scores" in image:
            one["conf"] = float(image["region_scores"][region])
        if "attribute_ids" in image and "attributes" in names:
            attribute = int(image["attribute_ids"][region])
            one["attributes"] = [name_of(names["attributes"], attribute)] if attribute else []
            scores = image.get("attribute_scores", np.ones(len(objects)))
            one["attr_scores"] = [float(scores[region])] if attribute else []
    return {"image_h": height, "image_w": width, "num_boxes": len(objects), "objects": objects}


def name_of(names: dict[int, str], index: int) -> str:
    """The name of an id; raises `ValueError` if the labels have no name for it."""
    if index not in names:
        raise ValueError(f"the labels have no name for the id {index}: are they of the detector that made the store?")
    return names[index]
