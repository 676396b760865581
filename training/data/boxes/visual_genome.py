"""Visual Genome (Krishna et al. 2017) as the bottom-up detector takes it: 1,600 objects, 400 attributes, 20 relations.

    objects.json, attributes.json, relationships.json, region_descriptions.json, image_data.json
    + vocabularies + split lists + VG_100K, VG_100K_2 --read_visual_genome--> DetectionData

Names are matched as Anderson et al. 2018 do (data/genome/setup_vg.py and lib/datasets/vg.py of their code): in lower
case, without blanks and a final full stop; a name led by common adjectives ("white dog") is the object with these
attributes; attributes joined by "and" are several. Their reader stretches a box that clipping leaves empty to the whole
image; here it is left out.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.data.boxes.rows import (
    UNUSABLE_BOXES,
    DetectionData,
    ImageListing,
    LeftOut,
    check_sizes,
    clip_boxes,
    detection_dataset,
    detection_row,
    image_size,
    keep_images,
    pixel_boxes,
)
from training.data.files import PathLike, id_text, read_json, read_text, records
from training.data.json_stream import stream_records
from training.data.splits import listed_splits, split_name

PARTS = ("attributes", "relationships", "region_descriptions")
OBJECTS_FILE, ATTRIBUTES_FILE = "objects_vocab.txt", "attributes_vocab.txt"
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2")
OBJECT_BOX = ("x", "y", "w", "h")
REGION_BOX = ("x", "y", "width", "height")
# The adjectives that setup_vg.py takes off an object's name.
COMMON_ADJECTIVES = frozenset(
    {
        *("black", "blue", "brown", "dark", "gray", "green", "grey", "large", "long", "metal", "orange", "pink", "red"),
        *("silver", "small", "tall", "white", "wooden", "yellow"),
    }
)


@dataclass(frozen=True)
class Vocabulary:
    """Names with their synonyms: `names[i]` has the id i + 1, and `ids` gives the id of every name and synonym."""

    names: list[str]
    ids: dict[str, int]


def read_visual_genome(
    annotations: PathLike,
    *,
    vocabulary: PathLike,
    parts: Sequence[str] = ("attributes",),
    images: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> DetectionData:
    """Visual Genome, versions 1.0 to 1.4 (older keys: `id` for `image_id` and `object_id`, `name` for `names`).

    The files are large (objects.json about 400 MB, region_descriptions.json more). They are read one after the other, a
    record at a time.

    Args:
        annotations: the folder with `objects.json`, `image_data.json` and the file of each part.
        vocabulary: the folder with `objects_vocab.txt` and, where the parts need them, `attributes_vocab.txt` and
            `relations_vocab.txt`: a class a line, `name,synonym,synonym`.
        parts: what to read beside the objects, of `PARTS`; the detector of Anderson et al. needs the attributes alone.
        images: the folder that holds `VG_100K` and `VG_100K_2`, or the images themselves; None gives rows without
            images.
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, or list files by split; lines such as
            `VG_100K/713542.jpg xml/713542.xml`. Images in no list are left out; without lists every image is train.
        split: keep only these splits.
        file_split: the split of every image, where there are no lists; by default train.

    Returns:
        Images in the order of `objects.json`. Left out, with one warning that counts: objects, attributes and relations
        whose name is not in its vocabulary, unusable boxes (`clip_boxes`), relations of objects left out, and images
        with nothing left. Predicates are written as the first name in their line of the vocabulary.

    Raises:
        ValueError: naming file and record, for what is no such file; for a vocabulary that holds a name twice, an image
            in two lists, and where no object is in the vocabulary.
    """
    strange = [part for part in parts if part not in PARTS]
    if strange or isinstance(parts, str):
        raise ValueError(f"parts={parts!r} of Visual Genome: give a list of {', '.join(PARTS)}")
    folder, words = Path(annotations), Path(vocabulary)
    objects = read_vocabulary(words / OBJECTS_FILE)
    attributes = read_attributes(words / ATTRIBUTES_FILE) if "attributes" in parts else Vocabulary([], {})
    left_out = LeftOut(folder)
    sizes = image_sizes(folder / "image_data.json")
    split_of = listed_splits(split_lists) if split_lists is not None else dict.fromkeys(sizes, file_split or "train")
    listed = listed_images(list(sizes), images=images, split_of=split_of, left_out=left_out)
    kept = keep_images(listed, split=split, source=folder / "image_data.json")
    reader = _Reader(folder, kept, sizes, objects=objects, attributes=attributes, left_out=left_out)
    if "attributes" in parts:
        reader.read_attributes()
    if "relationships" in parts:
        reader.read_relations(read_vocabulary(words / "relations_vocab.txt"))
    if "region_descriptions" in parts:
        reader.read_regions()
    rows = detection_dataset(reader.rows())
    if not reader.num_known_objects:
        raise ValueError(f"no object in {folder / 'objects.json'} has a name of {words / 'objects_vocab.txt'}")
    left_out.warn()
    return DetectionData(rows, objects.names, attributes.names)


def read_vocabulary(path: PathLike) -> Vocabulary:
    """A vocabulary file: a class a line, `name,synonym,synonym`, with or without a newline at the end.

    Raises:
        ValueError: naming the line, for one without a name (it would shift the ids) and for a name of two lines.
    """
    names: list[str] = []
    ids: dict[str, int] = {}
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        synonyms = [name for name in map(clean_name, line.split(",")) if name]
        if not synonyms:
            raise ValueError(f"{path}, line {number} has no name; a line is an id, so name its class or remove it")
        names.append(synonyms[0])
        for name in synonyms:
            if ids.setdefault(name, number) != number:
                raise ValueError(f"{path}: {name!r} stands in line {ids[name]} and in line {number}; leave it in one")
    return Vocabulary(names, ids)


def read_vocabularies(folder: PathLike) -> tuple[Vocabulary, Vocabulary]:
    """The vocabularies of objects and attributes in a folder: `objects_vocab.txt`, `attributes_vocab.txt`."""
    return read_vocabulary(Path(folder) / OBJECTS_FILE), read_attributes(Path(folder) / ATTRIBUTES_FILE)


def read_attributes(path: PathLike) -> Vocabulary:
    """A vocabulary file of attributes, as `read_vocabulary` reads it; an empty file says that there are none."""
    return read_vocabulary(path) if read_text(path).strip() else Vocabulary([], {})


def clean_name(name: str) -> str:
    """A name as it is compared: lower case, without surrounding blanks and a final full stop."""
    return name.lower().strip().removesuffix(".").strip()


class _Reader:
    """The images kept and what the files read so far say of them; `rows` reads objects.json and joins all."""

    def __init__(
        self,
        folder: Path,
        images: Sequence[ImageListing],
        sizes: Mapping[str, tuple[Any, Any]],
        *,
        objects: Vocabulary,
        attributes: Vocabulary,
        left_out: LeftOut,
    ) -> None:
        self.folder = folder
        self.images = {image.image_id: image for image in images}
        source = folder / "image_data.json"
        self.sizes = {
            image_id: image_size(image, width=sizes[image_id][0], height=sizes[image_id][1], source=source)
            for image_id, image in self.images.items()
        }
        check_sizes({image: self.sizes[image_id] for image_id, image in self.images.items()}, source=source)
        self.objects, self.attributes, self.left_out = objects, attributes, left_out
        self.num_known_objects = 0
        self.attributes_of: dict[str, dict[str, list[int]]] = {}  # image id -> object id -> attribute ids
        self.relations_of: dict[str, list[tuple[str, str, str]]] = {}  # image id -> subject, object id and predicate
        self.regions_of: dict[str, tuple[list[str], np.ndarray]] = {}  # image id -> phrases, boxes xyxy 0..1

    def read_attributes(self) -> None:
        """attributes.json: also of objects that objects.json does not hold, which stay unused."""
        for image_id, entries in self._entries("attributes.json", key="attributes"):
            found = {_object_id(entry): self._attribute_ids(entry.get("attributes"), image_id) for entry in entries}
            self.attributes_of[image_id] = {object_id: ids for object_id, ids in found.items() if ids}

    def read_relations(self, predicates: Vocabulary) -> None:
        """relationships.json: predicates of the vocabulary, with the ids of their two objects."""
        for image_id, entries in self._entries("relationships.json", key="relationships"):
            relations = self.relations_of[image_id] = []
            for entry in entries:
                predicate, subject, target = (entry.get(key) for key in ("predicate", "subject", "object"))
                if not isinstance(predicate, str) or not isinstance(subject, dict) or not isinstance(target, dict):
                    raise ValueError(
                        f"{self.folder / 'relationships.json'}: a relationship of the image {image_id!r} lacks a "
                        f"predicate, a subject or an object: {str(entry)[:120]}"
                    )
                number = predicates.ids.get(clean_name(predicate))
                if number is None:
                    self._skip("relations whose predicate is not in the vocabulary", predicate, image_id)
                else:
                    relations.append((_object_id(subject), _object_id(target), predicates.names[number - 1]))

    def read_regions(self) -> None:
        """region_descriptions.json: phrases with their boxes."""
        for image_id, entries in self._entries("region_descriptions.json", key="regions"):
            boxes, usable = self._boxes("region_descriptions.json", image_id, entries, keys=REGION_BOX)
            phrases = [phrase.strip() if isinstance(phrase := entry.get("phrase"), str) else "" for entry in entries]
            kept = [i for i, phrase in enumerate(phrases) if phrase and usable[i]]
            if len(kept) < len(entries):
                reason = "regions without a phrase or a usable box"
                self.left_out.add(reason, f"of image {image_id}", count=len(entries) - len(kept))
            self.regions_of[image_id] = ([phrases[i] for i in kept], boxes[kept])

    def rows(self) -> Iterator[dict[str, Any]]:
        """objects.json: a row for each image that has a known object or a region."""
        seen = set()
        for image_id, entries in self._entries("objects.json", key="objects"):
            seen.add(image_id)
            row = self._row(self.images[image_id], entries)
            if row["boxes"] or row["regions"]:
                self.num_known_objects += len(row["boxes"])
                yield row
            else:
                self.left_out.add("images without a known object", f"image {image_id}")
        unseen = [image_id for image_id in self.images if image_id not in seen]
        if unseen:
            self.left_out.add("images that objects.json does not hold", f"image {unseen[0]}", count=len(unseen))

    def _row(self, image: ImageListing, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
        image_id = image.image_id
        boxes, usable = self._boxes("objects.json", image_id, entries, keys=OBJECT_BOX)
        known_attributes = self.attributes_of.pop(image_id, {})
        object_ids: list[int] = []
        attribute_ids: list[list[int]] = []
        kept: list[int] = []
        row_of: dict[str, int] = {}
        for i, entry in enumerate(entries):
            object_id, adjectives = self._object_and_adjectives(entry)
            if object_id is None:
                self._skip("objects whose name is not in the vocabulary", ", ".join(entry_names(entry)), image_id)
            elif not usable[i]:
                self._skip(UNUSABLE_BOXES, f"object {_object_id(entry)}", image_id)
            else:
                merged = entry.get("merged_object_ids")
                own_ids = [_object_id(entry), *map(id_text, merged if isinstance(merged, list) else [])]
                stated = [i for own_id in own_ids for i in known_attributes.get(own_id, [])]
                row_of.update(dict.fromkeys(own_ids, len(kept)))
                kept.append(i)
                object_ids.append(object_id)
                attribute_ids.append(list(dict.fromkeys([*adjectives, *stated])))
        phrases, phrase_boxes = self.regions_of.pop(image_id, ([], np.empty((0, 4))))
        return detection_row(
            image,
            size=self.sizes[image_id],
            boxes=boxes[kept],
            object_ids=object_ids,
            attribute_ids=attribute_ids,
            relations=self._relations(image_id, row_of),
            regions=zip(phrases, phrase_boxes, strict=True),
        )

    def _entries(self, file_name: str, *, key: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Id and list of each image kept; ValueError where one stands in the file twice."""
        path = self.folder / file_name
        seen: set[str] = set()
        for number, record in enumerate(stream_records(path)):
            image_id = _image_id(record, number=number, path=path)
            if image_id in seen:
                raise ValueError(f"{path}: the image {image_id!r} stands in it twice")
            if image_id in self.images:
                seen.add(image_id)
                yield image_id, records(record, key, path)

    def _boxes(
        self, file_name: str, image_id: str, entries: Sequence[dict[str, Any]], *, keys: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The entries' boxes xyxy 0..1 (N, 4) and whether they are usable (N,)."""
        numbers = [[entry.get(key) for key in keys] for entry in entries]
        pixels = pixel_boxes(numbers, source=self.folder / file_name, place=f"image {image_id}")
        return clip_boxes(pixels, sizes=np.asarray(self.sizes[image_id], dtype=np.float64))

    def _object_and_adjectives(self, entry: dict[str, Any]) -> tuple[int | None, list[int]]:
        """Object id and attribute ids of an entry's first known name; None where no name is known."""
        for name in map(clean_name, entry_names(entry)):
            if name in self.objects.ids:
                return self.objects.ids[name], []
            *adjectives, noun = name.split() or [""]
            if noun in self.objects.ids and COMMON_ADJECTIVES.issuperset(adjectives):
                return self.objects.ids[noun], [self.attributes.ids[a] for a in adjectives if a in self.attributes.ids]
        return None, []

    def _attribute_ids(self, names: Any, image_id: str) -> list[int]:
        ids: list[int] = []
        for text in map(clean_name, entry_texts(names)):
            for name in [text] if text in self.attributes.ids else text.split(" and "):
                if name.strip() in self.attributes.ids:
                    ids.append(self.attributes.ids[name.strip()])
                else:
                    self._skip("attributes whose name is not in the vocabulary", name, image_id)
        return ids

    def _relations(self, image_id: str, row_of: Mapping[str, int]) -> list[tuple[int, int, str]]:
        relations = self.relations_of.pop(image_id, [])
        known = [
            (row_of[subject], row_of[target], predicate)
            for subject, target, predicate in relations
            if subject in row_of and target in row_of
        ]
        if len(known) < len(relations):
            reason = "relations of objects that are left out"
            self.left_out.add(reason, f"of image {image_id}", count=len(relations) - len(known))
        return list(dict.fromkeys(known))

    def _skip(self, reason: str, example: Any, image_id: str) -> None:
        self.left_out.add(reason, f"{example} of image {image_id}")


def image_sizes(path: Path) -> dict[str, tuple[Any, Any]]:
    """Width and height of each image as image_data.json writes them."""
    sizes: dict[str, tuple[Any, Any]] = {}
    for number, record in enumerate(stream_records(path)):
        image_id = _image_id(record, number=number, path=path)
        if image_id in sizes:
            raise ValueError(f"{path}: the image {image_id!r} stands in it twice")
        sizes[image_id] = (record.get("width"), record.get("height"))
    return sizes


def genome_splits(split_lists: PathLike | Mapping[str, PathLike]) -> dict[str, str]:
    """The split of every image by its id: of DenseCap's JSON `{"train": [1, 2], "val": [3]}`, or as `listed_splits`.

    Raises `ValueError` for another JSON, and for an image in the lists of two splits.
    """
    if isinstance(split_lists, Mapping) or Path(split_lists).suffix != ".json":
        return listed_splits(split_lists)
    content = read_json(split_lists)
    lists = content.items() if isinstance(content, dict) else ()
    if not lists or not all(isinstance(ids, list) for _, ids in lists):
        raise ValueError(
            f"{split_lists} is no split file: it needs a list of image ids under train, val and test, as DenseCap "
            "has it"
        )
    found: dict[str, str] = {}
    for word, ids in lists:
        name = split_name(word, split_lists)
        for image_id in map(id_text, ids):
            if found.setdefault(image_id, name) != name:
                raise ValueError(f"{split_lists}: the image {image_id!r} is in {found[image_id]} and in {name}")
    return found


def listed_images(
    image_ids: Sequence[str],
    *,
    images: PathLike | None,
    split_of: Mapping[str, str],
    left_out: LeftOut,
) -> list[ImageListing]:
    """The images with the split their list gives them and the place the image folder has them at."""
    places = {} if images is None else _image_places(images)
    known = set(image_ids)
    unlisted = [image_id for image_id in image_ids if image_id not in split_of]
    absent = [image_id for image_id in split_of if image_id not in known]
    for reason, ids in (
        ("images that are in no split list", unlisted),
        ("images of the split lists that image_data.json does not hold", absent),
    ):
        if ids:
            left_out.add(reason, f"image {ids[0]}", count=len(ids))
    return [
        ImageListing(image_id, places.get(f"{image_id}.jpg", f"{image_id}.jpg"), images, split_of[image_id])
        for image_id in image_ids
        if image_id in split_of
    ]


def _image_places(images: PathLike) -> dict[str, str]:
    """Where in the image folder each file of `IMAGE_FOLDERS` lies; no image is in both."""
    folders = [name for name in IMAGE_FOLDERS if os.path.isdir(os.path.join(images, name))]
    return {name: f"{folder}/{name}" for folder in folders for name in os.listdir(os.path.join(images, folder))}


def _image_id(record: dict[str, Any], *, number: int, path: Path) -> str:
    image_id = record.get("image_id", record.get("id"))
    if image_id is None:
        raise ValueError(f"{path}: record {number} has neither 'image_id' nor 'id': {str(record)[:120]}")
    return id_text(image_id)


def _object_id(entry: dict[str, Any]) -> str:
    return id_text(entry.get("object_id", entry.get("id")))


def entry_names(entry: dict[str, Any]) -> list[str]:
    """What an object of objects.json or attributes.json is called, in any of the file's versions."""
    return entry_texts(next((entry[key] for key in ("names", "object_names", "name") if entry.get(key)), None))


def entry_texts(value: Any) -> list[str]:
    """The texts in a list, or the one that stands alone; what else stands there is passed over."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
