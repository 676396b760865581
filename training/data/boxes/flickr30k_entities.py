"""Flickr30k Entities (Plummer et al. 2015) as detection data: people's boxes, named through the phrases on them.

    Annotations, Sentences (or one JSON) --entities_files.py--> EntityImage
    phrases of a chain --noun_phrases.py--> names, attributes of its boxes --read_flickr30k_entities--> DetectionData

A chain is what several phrases of five sentences name, and it may have several boxes. Corners are whole pixels, taken
as they are written.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from modeling_updown.boxes_updown import pairwise_iou
from training.data.boxes.coco import read_coco_instances
from training.data.boxes.entities_files import EntityImage, EntitySource
from training.data.boxes.names import covered_ids
from training.data.boxes.noun_phrases import PhraseNames, PhraseReader
from training.data.boxes.rows import (
    UNUSABLE_BOXES,
    DetectionData,
    ImageListing,
    LeftOut,
    MarkedBox,
    check_sizes,
    clip_boxes,
    detection_dataset,
    image_size,
    keep_images,
    marked_row,
)
from training.data.boxes.visual_genome import read_vocabularies
from training.data.files import PathLike

SAME_IOU = 0.9  # of two boxes with a name in common: above, they are one
FREE_IOU = 0.5  # with any box of people: from here on a further box is left out
SMALLEST_PIXELS, SMALLEST_SHARE = 4, 0.01  # of a box's side, in pixels and of the image's side
ROUNDING = 1e-6  # of sides in 0..1, float32
WHOLE_IMAGE = np.array([0, 0, 1, 1], dtype=np.float32)


def read_flickr30k_entities(
    annotations: PathLike,
    *,
    vocabulary: PathLike,
    images: PathLike | None = None,
    split_lists: PathLike | Mapping[str, PathLike] | None = None,
    split: str | None = None,
    captions: bool = False,
    more_boxes: PathLike | None = None,
) -> DetectionData:
    """Flickr30k Entities: a box has the names that the phrases of its chain say, and their adjectives.

    Args:
        annotations: the folder with `Annotations/<image id>.xml` and `Sentences/<image id>.txt`, or a JSON of all of
            them (`entities_files.joined_records`), which may be packed (`.json.gz`).
        vocabulary: the folder of `objects_vocab.txt` and `attributes_vocab.txt` in Visual Genome's layout.
        images: the image folder; None gives rows without images. They may have another size than the file says.
        split_lists: the folder with `train.txt`, `val.txt` and `test.txt`, or list files by split; images in no list
            are left out. By default the JSON's own splits; of the official files every image is train.
        split: keep only these splits.
        captions: whether `regions` get the sentences too, each with the box of the whole image.
        more_boxes: a COCO instances file of a teacher's boxes on the same images, by image id
            (`training/teachers/pseudo_boxes.py`). A box is added where no box of people overlaps it by an IoU of 0.5 or
            more, whatever that is named; its category becomes an object as in the format `coco`.

    Returns:
        A row an image. The name that the phrases of a chain say most often (of equals the first) is the object of its
        boxes, every other one said is in `other_object_ids`; a general word ("someone") counts where nothing else is
        said. Where a chain has several boxes, each is one of what a plural says. Attributes are those of all phrases.
        Boxes that overlap by an IoU over 0.9 and share a name, or the name that covers theirs (man, player), are one
        box: what is said of it alone ("a man") comes before what is said of several ("two people"). Boxes without a
        known name are in `regions` alone, which holds every phrase with every one of its boxes. Left out, with one
        warning that counts: boxes with a side below 4 pixels or 1 % of the image's, boxes no phrase is about, unusable
        ones (`clip_boxes`), and the copies of those that are one.

    Raises:
        ValueError: naming file and record, for what is no such file; where no phrase names an object of the vocabulary.
    """
    objects, attributes = read_vocabularies(vocabulary)
    left_out = LeftOut(annotations)
    source = EntitySource(annotations)
    listed = source.listed(split_lists, images=images, left_out=left_out)
    kept = keep_images(listed, split=split, source=annotations)
    reader = _Reader(
        phrases=PhraseReader(objects, attributes),
        owner_of={finer: own for own, ids in covered_ids(objects.ids).items() for finer in ids},
        more=_boxes_by_image(more_boxes, vocabulary=vocabulary, image_ids={image.image_id for image in kept}),
        captions=captions,
        left_out=left_out,
    )
    sizes: dict[ImageListing, tuple[int, int]] = {}
    rows = detection_dataset(_rows(kept, source, reader, sizes))
    check_sizes(sizes, source=annotations)
    if not any(rows["object_ids"]):
        raise ValueError(f"no phrase of {annotations} names an object of {vocabulary}")
    left_out.warn()
    return DetectionData(rows, objects.names, attributes.names, covered_ids(objects.ids))


def _boxes_by_image(
    path: PathLike | None, *, vocabulary: PathLike, image_ids: Collection[str]
) -> dict[str, list[MarkedBox]]:
    """A COCO file's boxes by image id; ValueError where it is on none of the images."""
    if path is None:
        return {}
    rows = read_coco_instances(path, vocabulary=vocabulary, file_split="train").rows
    found = {}
    for row in rows.remove_columns("image"):
        if row["image_id"] in image_ids:
            columns = ("object_ids", "attribute_ids", "other_object_ids", "crowd")
            marks = zip(row["boxes"], *(row[name] for name in columns), strict=True)
            found[row["image_id"]] = [
                MarkedBox(np.asarray(box, dtype=np.float32), own, tuple(adjectives), tuple(others), crowd)
                for box, own, adjectives, others, crowd in marks
            ]
    if not found:
        raise ValueError(
            f"more_boxes: {path} is on none of the images; its ids are such as {rows[0]['image_id']!r}, theirs such as "
            f"{next(iter(image_ids))!r}"
        )
    return found


def _rows(
    kept: Sequence[ImageListing], source: EntitySource, reader: "_Reader", sizes: dict[ImageListing, tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    for listing in kept:
        image = source.image(listing.image_id)
        sizes[listing] = image_size(listing, width=image.width, height=image.height, source=source.path)
        yield reader.row(listing, image, size=sizes[listing])


@dataclass
class _Reader:
    """Images into rows. owner_of: the object id that covers a finer one. more: a teacher's boxes by image."""

    phrases: PhraseReader
    owner_of: Mapping[int, int]
    more: Mapping[str, list[MarkedBox]]
    captions: bool
    left_out: LeftOut

    def row(self, listing: ImageListing, image: EntityImage, *, size: tuple[int, int]) -> dict[str, Any]:
        """A row of `DETECTION_FEATURES`."""
        boxes_of = {chain: self._usable(boxes, listing, size=size) for chain, boxes in image.boxes.items()}
        said: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        regions = []
        for sentence in image.sentences:
            if self.captions:
                regions.append((sentence.text, WHOLE_IMAGE))
            for phrase in sentence.phrases:
                if phrase.chain in boxes_of:
                    said.setdefault(phrase.chain, []).append((phrase.text, phrase.kinds))
                    regions += [(phrase.text, box) for box in boxes_of[phrase.chain]]
        told = [
            told
            for chain, boxes in boxes_of.items()
            for told in self._told(said.get(chain, ()), boxes, listing=listing, several=len(image.boxes[chain]) > 1)
        ]
        human = np.concatenate([np.zeros((0, 4), dtype=np.float32), *boxes_of.values()])
        boxes = [marked for box in self._merged(told, listing) if (marked := box.marked()) is not None]
        further = self._free(listing, human, size=size)
        return marked_row(listing, size=size, boxes=[*boxes, *further], regions=regions)

    def _usable(self, corners: np.ndarray, listing: ImageListing, *, size: tuple[int, int]) -> np.ndarray:
        """Boxes xyxy in pixels -> (N, 4) xyxy 0..1 without those that are no boxes, and without slivers."""
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        boxes, usable = clip_boxes(sides, sizes=np.asarray(size, dtype=np.float64))
        thin = usable & ~_wide(boxes, size=size)
        for reason, out in ((UNUSABLE_BOXES, ~usable), (SLIVERS, thin)):
            if out.any():
                self.left_out.add(reason, f"of image {listing.image_id}", count=int(out.sum()))
        return boxes[usable & ~thin]

    def _told(
        self, said: Sequence[tuple[str, tuple[str, ...]]], boxes: np.ndarray, *, listing: ImageListing, several: bool
    ) -> list["_ToldBox"]:
        """The boxes of a chain with what its phrases say."""
        if not said and len(boxes):
            self.left_out.add("boxes that no phrase is about", f"of image {listing.image_id}", count=len(boxes))
        names = [self.phrases.read(text, kinds=kinds, several=several) for text, kinds in said]
        names = [part for part in names if part.objects or part.attributes]
        return [_ToldBox(box, *([], names) if several else (names, [])) for box in boxes] if names else []

    def _free(self, listing: ImageListing, human: np.ndarray, *, size: tuple[int, int]) -> list[MarkedBox]:
        """The teacher's boxes that no box of people overlaps by `FREE_IOU`."""
        more = self.more.get(listing.image_id, [])
        if not more:
            return []
        boxes = np.stack([marked.box for marked in more])
        wide = _wide(boxes, size=size)
        if not wide.all():
            self.left_out.add(SLIVERS, f"of image {listing.image_id}", count=int((~wide).sum()))
        free = wide & (overlaps(boxes, human).max(axis=1, initial=0) < FREE_IOU)
        return [marked for marked, kept in zip(more, free, strict=True) if kept]

    def _merged(self, boxes: Sequence["_ToldBox"], listing: ImageListing) -> list["_ToldBox"]:
        """The boxes, of those that are one the first, with what is said of all."""
        kept: list[_ToldBox] = []
        if not boxes:
            return kept
        iou = overlaps(*[np.stack([told.box for told in boxes])] * 2)
        place_of: list[int] = []  # of the boxes kept, in `boxes`
        for number, told in enumerate(boxes):
            same = [i for i, place in enumerate(place_of) if iou[number, place] > SAME_IOU]
            twin = next((i for i in same if self._share_a_name(kept[i], told)), None)
            if twin is None:
                kept.append(told)
                place_of.append(number)
            else:
                kept[twin] = _ToldBox(kept[twin].box, kept[twin].alone + told.alone, kept[twin].among + told.among)
                self.left_out.add("copies of boxes that are one", f"of image {listing.image_id}")
        return kept

    def _share_a_name(self, first: "_ToldBox", second: "_ToldBox") -> bool:
        ours, theirs = (
            {name for own in told.objects() for name in (own, self.owner_of.get(own, own))} for told in (first, second)
        )
        return bool(ours & theirs)


@dataclass(frozen=True)
class _ToldBox:
    """A box xyxy 0..1 with what phrases say of it alone, and of it among several."""

    box: np.ndarray
    alone: list[PhraseNames]
    among: list[PhraseNames]

    def objects(self) -> set[int]:
        return {name for part in (*self.alone, *self.among) for name in part.objects}

    def marked(self) -> MarkedBox | None:
        """The box with its ids; None where no object of the vocabulary is named."""
        ids, attributes = joined_names(self.alone, self.among)
        return MarkedBox(self.box, ids[0], attributes, ids[1:]) if ids else None


SLIVERS = f"boxes with a side below {SMALLEST_PIXELS} pixels or {SMALLEST_SHARE:.0%} of the image's"


def joined_names(
    alone: Sequence[PhraseNames], among: Sequence[PhraseNames] = ()
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The object ids of what phrases say of one thing, the most often said first, and their attribute ids.

    A phrase's first name counts, its others come behind; general ones are taken where there are no others.

    Args:
        alone: what is said of the thing.
        among: what is said of several of which it is one, which comes behind.

    >>> joined_names([PhraseNames((3,), (7,)), PhraseNames((5, 4), ()), PhraseNames((5,), (6, 7))])
    ((5, 3, 4), (7, 6))
    """
    ranked = [*_ranked(alone, general=False), *_ranked(among, general=False)]
    ranked = ranked or [*_ranked(alone, general=True), *_ranked(among, general=True)]
    attributes = dict.fromkeys(name for phrase in (*alone, *among) for name in phrase.attributes)
    return tuple(dict.fromkeys(ranked)), tuple(attributes)


def _ranked(said: Sequence[PhraseNames], *, general: bool) -> list[int]:
    own = [phrase.objects for phrase in said if phrase.objects and phrase.general == general]
    counts = Counter(names[0] for names in own)  # in the order of their first mention
    return [*(name for name, _ in counts.most_common()), *(name for names in own for name in names[1:])]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes xyxy (N, 4) and (M, 4): (N, M)."""
    return pairwise_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()


def _wide(boxes: np.ndarray, *, size: tuple[int, int]) -> np.ndarray:
    """Whether both sides of boxes xyxy 0..1 (N, 4) are wide enough."""
    shares = boxes[:, 2:] - boxes[:, :2] + ROUNDING
    return ((shares >= SMALLEST_SHARE) & (shares * np.asarray(size) >= SMALLEST_PIXELS)).all(axis=1)
