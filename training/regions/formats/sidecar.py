"""Data that some formats lack and the user gives: sizes of images, an index, boxes, names of classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.data.files import PathLike, id_text, read_json
from training.regions.formats.record import checked_size


@dataclass(frozen=True)
class Labels:
    """Ids (from 1) of object classes and attributes by name, as VinVL's label file has them."""

    objects: Mapping[str, int]
    attributes: Mapping[str, int]


@dataclass(frozen=True)
class Sidecar:
    """Data that some files lack and the user gives.

    sizes: (height, width) in pixels by image id, for formats with boxes in pixels but without image sizes.
    index: HDF5: a JSON file `{"image id": row}`.
    boxes: feature folders without boxes: the folder of `ID.npy` boxes.
    labels: VinVL: ids of the names in its predictions.
    feature_type: formats of base64: a key of `FLOATS`, the type of their features; None: guessed from the bytes.
    """

    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    index: Path | None = None
    boxes: Path | None = None
    labels: Labels | None = None
    feature_type: str | None = None


def read_sizes(path: PathLike) -> dict[str, tuple[int, int]]:
    """(height, width) of images from JSON: `{"id": [height, width]}`, or `{"images": [{"id", "height", "width"}]}`.

    The second form is that of COCO's instance files and ruotianluo's `cocotalk.json`; its images get an entry by id and
    by file name. Raises `ValueError` naming the file.
    """
    content = read_json(path)
    try:
        if isinstance(content.get("images"), list):
            sizes: dict[str, tuple[int, int]] = {}
            for image in content["images"]:
                size = checked_size(image["height"], image["width"])
                names = [image[key] for key in ("id", "file_name", "file_path") if key in image]
                sizes |= dict.fromkeys([id_text(names[0]), *(Path(name).name for name in names[1:])], size)
            return sizes
        return {str(image_id): checked_size(*size) for image_id, size in content.items()}
    except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(
            f'{path} should hold sizes as {{"image id": [height, width]}} or '
            f'{{"images": [{{"id", "height", "width"}}]}}: {error}'
        ) from error


def read_labels(path: PathLike) -> Labels:
    """VinVL's label file, JSON with `label_to_idx` and `attribute_to_idx` (ids from 1); raises `ValueError`."""
    content = read_json(path)
    try:
        tables = [content["label_to_idx"], content.get("attribute_to_idx", {})]
        objects, attributes = ({str(name): int(index) for name, index in table.items()} for table in tables)
        if min([*objects.values(), *attributes.values()]) < 0:
            raise ValueError("an id is below 0")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path} should hold {{"label_to_idx": {{"dog": 1, ...}}}}: {error}') from error
    return Labels(objects, attributes)
