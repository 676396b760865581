"""COCO instances (Lin et al. 2014) -> `DetectionData`, one row per image with its boxes.

    annotation files + image folders --read_coco_instances--> rows, names

The ids are a detector's: 0 the background, 1..C the classes in the order of their names; attributes likewise.

No image is opened here but for its header, where its annotation file does not tell its size, and of a few, to see
whether the file tells the right one.
"""

import os
from collections import ChainMap, Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.boxes.names import coco_id, covered_ids
from training.data.boxes.rows import (
    UNUSABLE_BOXES,
    DetectionData,
    ImageListing,
    LeftOut,
    MarkedBox,
    check_reach,
    check_sizes,
    clip_boxes,
    detection_dataset,
    image_size,
    keep_images,
    marked_row,
    pixel_boxes,
)
from training.data.boxes.visual_genome import clean_name, read_vocabularies
from training.data.files import PathLike, column, id_text, read_json, records
from training.data.polygons import scaled_polygons
from training.data.splits import split_in


def read_coco_instances(
    annotations: PathLike | Sequence[PathLike],
    *,
    images: PathLike | Sequence[PathLike] | None = None,
    split: str | None = None,
    file_split: str | None = None,
    split_file: PathLike | None = None,
    classes: Sequence[str] | None = None,
    labelled_by: str | None = None,
    vocabulary: PathLike | None = None,
    masks: bool = False,
) -> DetectionData:
    """COCO instances: `images`, `annotations` with `bbox` (x, y, width, height in pixels), `categories`.

    Our own extension: a list `attributes` of id and name at the top, and names of them in an annotation's `attributes`.
    A file is parsed whole, so the memory it takes for a moment is several times its size.

    Args:
        annotations: the JSON, or several that are joined: other images (train and val), or more boxes of the same
            images (pseudo-boxes beside real ones). Categories are the same where their names are, and all names stand
            in the first file, or in `classes`. Ids and file names must agree across files, sizes may differ.
        images: the image folder, or one for each file; None gives rows without images.
        split: keep only these splits.
        file_split: the split of images that do not name their own in `karpathy_split`; by default that in the image's
            `split` (`train2017`), else in the file's name, else train.
        split_file: a JSON whose images name Karpathy's splits, before all others: COCO captions or instances with
            `karpathy_split`, or his `dataset_coco.json`.
        classes: names of the categories to keep, in the order of their ids; by default all, in the order of COCO's ids.
        labelled_by: an image field (such as `box_source`) that is empty where nobody drew boxes. Images which no file
            has it of are left out: they would teach that all they show is background.
        vocabulary: the folder of `objects_vocab.txt` and `attributes_vocab.txt` in Visual Genome's layout, whose ids
            the boxes then have; the names that one covers are its `other_object_ids` (`training/data/boxes/names.py`).
            What it lacks is left out. Not with `classes`.
        masks: read the polygons of `segmentation` too; run lengths, as crowds have them, are passed over.

    Returns:
        Images in the files' order, those without boxes too. Unusable boxes (`clip_boxes`) and those of images the file
        does not list are left out, with one warning that counts them.

    Raises:
        ValueError: naming file and record, for what is no such file.
    """
    paths, folders = _files_and_folders(annotations, images)
    files = [_read_coco_file(path, masks=masks) for path in paths]
    names = _own_names(files, classes) if vocabulary is None else _vocabulary_names(files, vocabulary, classes)
    source = ", ".join(map(str, paths))
    karpathy = _karpathy_splits(split_file) if split_file is not None else {}
    listed = _listed_images(files, folders=folders, karpathy=karpathy, file_split=file_split)
    left_out = LeftOut(source)
    if labelled_by is not None:
        listed = _labelled_images(listed, files, field=labelled_by, left_out=left_out)
    kept = keep_images(listed, split=split, source=source)
    sizes = [file.sizes_of(kept) for file in files]
    boxes: dict[str, list[MarkedBox]] = {image.image_id: [] for image in kept}
    for file, own in zip(files, sizes, strict=True):
        _add_boxes(boxes, file, sizes=own, names=names, left_out=left_out)
    left_out.warn()
    size_of = ChainMap(*sizes)  # an image's size is that of the first file that lists it
    rows = detection_dataset(marked_row(i, size=size_of[i.image_id], boxes=boxes[i.image_id]) for i in kept)
    return DetectionData(rows, names.objects, names.attributes, names.covered)


@dataclass(frozen=True)
class _Names:
    """The names of a data set's ids, and the ids of the files' categories and attributes by their names.

    categories: of those that are read. covered: the finer ids of an object id. of_vocabulary: not the files' own names.
    """

    objects: list[str]
    attributes: list[str]
    categories: Mapping[str, int]
    attribute_ids: Mapping[str, int]
    covered: dict[int, list[int]]
    of_vocabulary: bool


@dataclass(frozen=True)
class _CocoFile:
    """A COCO file: image records by id, names in the order of COCO's ids, a column per field.

    polygons: as the file has them, None where there are none or they are not read.
    """

    path: PathLike
    images: dict[str, dict[str, Any]]
    object_names: list[str]
    attribute_names: list[str]
    owners: list[str]
    categories: list[str]
    boxes: np.ndarray  # (all boxes, 4) x, y, width, height in pixels
    attributes: list[list[str]]
    crowd: list[bool]
    polygons: list[Any]

    def sizes_of(self, images: Sequence[ImageListing]) -> dict[str, tuple[int, int]]:
        """Width and height of those of the images that the file lists, by id."""
        records = {image: self.images[image.image_id] for image in images if image.image_id in self.images}
        sizes = {
            image: image_size(image, width=record.get("width"), height=record.get("height"), source=self.path)
            for image, record in records.items()
        }
        check_sizes(sizes, source=self.path)
        return {image.image_id: size for image, size in sizes.items()}


def _files_and_folders(
    annotations: PathLike | Sequence[PathLike], images: PathLike | Sequence[PathLike] | None
) -> tuple[list[PathLike], list[PathLike | None]]:
    """The annotation files, and the image folder of each."""
    paths = [annotations] if isinstance(annotations, str | os.PathLike) else list(annotations)
    folders: list[Any] = (
        [images] * len(paths) if images is None or isinstance(images, str | os.PathLike) else list(images)
    )
    if not paths or len(folders) != len(paths):
        raise ValueError(f"{len(paths)} annotation files with {len(folders)} image folders; give one for each, or one")
    return paths, folders


def _read_coco_file(path: PathLike, *, masks: bool) -> _CocoFile:
    content = read_json(path)
    listed = records(content, "images", path)
    images = {id_text(image_id): record for image_id, record in zip(column(listed, "id", path), listed, strict=True)}
    if len(images) < len(listed):
        twice = Counter(id_text(record["id"]) for record in listed).most_common(1)[0][0]
        raise ValueError(f"{path}: the image {twice!r} is listed twice")
    column(listed, "file_name", path)
    category_of = _named_ids(content, "categories", path)
    has_attributes = "attributes" in content
    attribute_names = list(_named_ids(content, "attributes", path).values()) if has_attributes else []
    notes = records(content, "annotations", path) if "annotations" in content else []  # none in a public test file
    category_ids = [id_text(category_id) for category_id in column(notes, "category_id", path)]
    unknown = next((i for i, category_id in enumerate(category_ids) if category_id not in category_of), None)
    if unknown is not None:
        raise ValueError(
            f"{path}: record {unknown} of 'annotations' has the category_id {category_ids[unknown]}, which its "
            "'categories' do not list"
        )
    return _CocoFile(
        path=path,
        images=images,
        object_names=list(category_of.values()),
        attribute_names=attribute_names,
        owners=[id_text(image_id) for image_id in column(notes, "image_id", path)],
        categories=[category_of[category_id] for category_id in category_ids],
        boxes=pixel_boxes(column(notes, "bbox", path), source=path, place="'annotations'"),
        attributes=_attributes_of(notes, known=set(attribute_names), path=path)
        if has_attributes
        else [[]] * len(notes),
        crowd=[bool(note.get("iscrowd")) for note in notes],
        polygons=[note.get("segmentation") if masks else None for note in notes],
    )


def _named_ids(content: dict[str, Any], key: str, path: PathLike) -> dict[str, str]:
    """The names under `key` by their ids (as text), in the order of the ids."""
    entries = records(content, key, path)
    ids, names = [id_text(own) for own in column(entries, "id", path)], column(entries, "name", path)
    strange = next((i for i in ids if not i.isdecimal()), next((n for n in names if not isinstance(n, str)), None))
    if strange is not None:
        raise ValueError(f"{path}: {key!r} needs whole numbers as ids and text as names, it has {strange!r}")
    for field, values in (("id", ids), ("name", names)):
        for value, times in Counter(values).items():
            if times > 1:
                raise ValueError(f"{path}: the {field} {value!r} stands {times} times in {key!r}; make it unique")
    return dict(sorted(zip(ids, names, strict=True), key=_number_of))


def _number_of(id_and_name: tuple[str, str]) -> int:
    return int(id_and_name[0])


def _attributes_of(notes: Sequence[dict[str, Any]], *, known: Collection[str], path: PathLike) -> list[list[str]]:
    names = [note.get("attributes") or [] for note in notes]
    for record, own in enumerate(names):
        if not isinstance(own, list) or not all(isinstance(name, str) and name in known for name in own):
            raise ValueError(
                f"{path}: record {record} of 'annotations' has the attributes {own!r}; give a list of names that stand "
                "in the file's own list 'attributes'"
            )
    return names


def _joined_names(
    files: Sequence[_CocoFile], *, kind: str, names: Sequence[list[str]], chosen: Sequence[str] | None = None
) -> list[str]:
    """The names of the first file that has any, or the chosen ones; ValueError where the files do not agree."""
    if chosen is None:
        first = next((i for i, own in enumerate(names) if own), 0)
        for file, own in zip(files, names, strict=True):
            extra = [name for name in own if name not in names[first]]
            if extra:
                cure = "; name those to read with classes=[...]" if kind == "category" else ""
                raise ValueError(f"{file.path}: the {kind} {extra[0]!r} is none of {files[first].path}{cure}")
        return names[first]
    present = {name for own in names for name in own}
    absent = [name for name in chosen if name not in present]
    if absent or len(set(chosen)) < len(chosen):
        fault = f"is no category of {files[0].path}" if absent else "stands twice in classes"
        raise ValueError(f"the class {(absent or [n for n in chosen if list(chosen).count(n) > 1])[0]!r} {fault}")
    return list(chosen)


def _own_names(files: Sequence[_CocoFile], classes: Sequence[str] | None) -> _Names:
    """The files' own names, in the order of their ids."""
    objects = _joined_names(files, kind="category", names=[file.object_names for file in files], chosen=classes)
    attributes = _joined_names(files, kind="attribute", names=[file.attribute_names for file in files])
    categories, marks = ({name: i for i, name in enumerate(names, start=1)} for names in (objects, attributes))
    return _Names(objects, attributes, categories, marks, covered={}, of_vocabulary=False)


def _vocabulary_names(files: Sequence[_CocoFile], folder: PathLike, classes: Sequence[str] | None) -> _Names:
    """A vocabulary's names; ValueError where none of the files' categories is among them."""
    if classes is not None:
        raise ValueError("give classes or vocabulary, not both; a vocabulary may be of these classes alone")
    objects, attributes = read_vocabularies(folder)
    present = dict.fromkeys(name for file in files for name in file.object_names)
    categories = {name: own for name in present if (own := coco_id(clean_name(name), objects.ids)) is not None}
    if present and not categories:
        told = f"no category of {files[0].path} is in the vocabulary of {folder}, such as {next(iter(present))!r}"
        raise ValueError(f"{told}; cut one with `python -m training.data.boxes.vocabulary`, or leave vocabulary out")
    marked = dict.fromkeys(name for file in files for name in file.attribute_names)
    marks = {name: attributes.ids[clean_name(name)] for name in marked if clean_name(name) in attributes.ids}
    return _Names(objects.names, attributes.names, categories, marks, covered_ids(objects.ids), of_vocabulary=True)


def _karpathy_splits(path: PathLike) -> dict[str, str]:
    """Split by image id, from a file of COCO's layout with `karpathy_split` or Karpathy's with `cocoid` and `split`."""
    images = records(read_json(path), "images", path)
    found = {
        id_text(i.get("cocoid", i.get("id"))): i.get("split" if "cocoid" in i else "karpathy_split") for i in images
    }
    named = {image_id: word for image_id, word in found.items() if word}
    if not named:
        raise ValueError(f"{path} names no split: its images need 'karpathy_split', or 'cocoid' and 'split'")
    return named


def _listed_images(
    files: Sequence[_CocoFile],
    *,
    folders: Sequence[PathLike | None],
    karpathy: Mapping[str, str],
    file_split: str | None,
) -> list[ImageListing]:
    """Every image once, as the first file that lists it has it, but for `karpathy_split`, which any file may have."""
    marked = {i: word for file in files for i, record in file.images.items() if (word := record.get("karpathy_split"))}
    marked.update(karpathy)
    images: dict[str, ImageListing] = {}
    for file, folder in zip(files, folders, strict=True):
        from_name = split_in(Path(file.path).stem) or "train"
        for image_id, record in file.images.items():
            name = record["file_name"]
            word = marked.get(image_id) or file_split or split_in(str(record.get("split", ""))) or from_name
            first = images.setdefault(image_id, ImageListing(image_id, name, folder, word))
            if os.path.basename(str(first.name)) != os.path.basename(str(name)):
                raise ValueError(
                    f"{file.path}: the image {image_id!r} is {name!r}, but {first.name!r} in a file before; files that "
                    "are joined need the same ids for the same images"
                )
    return list(images.values())


def _labelled_images(
    images: Sequence[ImageListing], files: Sequence[_CocoFile], *, field: str, left_out: LeftOut
) -> list[ImageListing]:
    labelled = {image_id for file in files for image_id, record in file.images.items() if record.get(field)}
    if not labelled:
        raise ValueError(f"{left_out.source}: no image has the field {field!r} that labelled_by names")
    for image in images:
        if image.image_id not in labelled:
            left_out.add(f"images without {field!r}", f"image {image.image_id}")
    return [image for image in images if image.image_id in labelled]


def _add_boxes(
    boxes: dict[str, list[MarkedBox]],
    file: _CocoFile,
    *,
    sizes: Mapping[str, tuple[int, int]],
    names: _Names,
    left_out: LeftOut,
) -> None:
    """Adds a file's boxes of the images in `sizes` to those of the files before."""
    for record, owner in enumerate(file.owners):
        if owner not in file.images:
            left_out.add("boxes of images the file does not list", f"record {record} of 'annotations' in {file.path}")
    chosen = [i for i, owner in enumerate(file.owners) if owner in sizes and file.categories[i] in names.categories]
    _count_unknown(file, sizes=sizes, names=names, left_out=left_out)
    if not chosen:
        return
    owner_sizes = np.asarray([sizes[file.owners[i]] for i in chosen], dtype=np.float64)
    check_reach(file.boxes[chosen], sizes=owner_sizes, owners=[file.owners[i] for i in chosen], source=file.path)
    corners, usable = clip_boxes(file.boxes[chosen], sizes=owner_sizes)
    for record, box, fit in zip(chosen, corners, usable, strict=True):
        if fit:
            own = names.categories[file.categories[record]]
            known = dict.fromkeys(name for name in file.attributes[record] if name in names.attribute_ids)
            marks = tuple(dict.fromkeys(names.attribute_ids[name] for name in known))
            others = tuple(names.covered.get(own, ()))
            polygons = _polygons_of(file, record, size=sizes[file.owners[record]])
            boxes[file.owners[record]].append(MarkedBox(box, own, marks, others, file.crowd[record], polygons))
        else:
            left_out.add(UNUSABLE_BOXES, f"record {record} of 'annotations' in {file.path}")


def _polygons_of(file: _CocoFile, record: int, *, size: tuple[int, int]) -> list[list[float]]:
    """An annotation's polygons in 0..1; none of a crowd, and of a mask that is given as run lengths."""
    polygons = file.polygons[record]
    if not polygons or file.crowd[record] or isinstance(polygons, dict):
        return []
    return scaled_polygons(polygons, size=size, place=f"{file.path}: record {record} of 'annotations'")


def _count_unknown(file: _CocoFile, *, sizes: Mapping[str, tuple[int, int]], names: _Names, left_out: LeftOut) -> None:
    """Counts what a vocabulary lacks; `classes` leaves out on purpose."""
    if not names.of_vocabulary:
        return
    for i, owner in enumerate(file.owners):
        if owner in sizes and file.categories[i] not in names.categories:
            left_out.add("boxes whose category is not in the vocabulary", f"{file.categories[i]} of image {owner}")
        for name in file.attributes[i] if owner in sizes else ():
            if name not in names.attribute_ids:
                left_out.add("attributes whose name is not in the vocabulary", f"{name} of image {owner}")
