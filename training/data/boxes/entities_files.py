"""The files of Flickr30k Entities (Plummer et al. 2015): sentences with marked phrases, and the boxes of their chains.

    Sentences/36979.txt --parse_sentence--> Sentence(text, phrases)
    Annotations/36979.xml --read_annotation--> boxes of each chain
    both --official_image--> EntityImage <--joined_image-- its record in one JSON of all

`EntitySource` reads either. Detection (`flickr30k_entities.py`) and grounding (`training/data/phrases/`) stand on it.

A chain is what several phrases of an image's five sentences name: "a man", "he", "the player". Nothing in an XML file
is followed: one with a document type, which could declare entities, is refused, and so is one of another size than
these files have.
"""

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from training.data.boxes.rows import ImageListing, LeftOut, pixel_boxes
from training.data.files import PathLike, read_json, read_lines
from training.data.splits import listed_splits

PHRASE = re.compile(r"\[/EN#(\S+) ([^\]]*)\]")
OPEN_MARK = "[/EN#"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
JSON_SUFFIXES = (".json", ".json.gz")
LARGEST_XML = 2**20  # bytes; the largest of the 31,783 has some 20,000
LARGEST_JSON = 2**30  # bytes, unpacked; that of 8,000 images has 19 million


@dataclass(frozen=True)
class Phrase:
    """A marked phrase: its words apart by blanks, its chain's id ("0": not visual), its kinds ("people"), and where in
    the sentence's text it starts."""

    text: str
    chain: str
    kinds: tuple[str, ...]
    start: int = 0


@dataclass(frozen=True)
class Sentence:
    """A caption without its marks, words apart by blanks, and its phrases in their order."""

    text: str
    phrases: tuple[Phrase, ...]


@dataclass
class EntityImage:
    """An image: its size in pixels, the boxes (N, 4) xyxy in pixels of each chain that has any, and its sentences."""

    image_id: str
    file_name: str
    width: Any
    height: Any
    boxes: dict[str, np.ndarray]
    sentences: list[Sentence] = field(default_factory=list)


def parse_sentence(line: str, *, source: PathLike = "a sentence") -> Sentence:
    """A line of a file in Sentences; ValueError for a mark that is not closed.

    >>> parse_sentence("[/EN#1/people A man] runs .")
    Sentence(text='A man runs .', phrases=(Phrase(text='A man', chain='1', kinds=('people',), start=0),))
    """
    phrases, text, end = [], "", 0
    for match in PHRASE.finditer(line):
        mark, words = match.groups()
        text += line[end : match.start()]
        chain, *kinds = mark.split("/")
        phrases.append(Phrase(words.strip(), chain, tuple(kinds), len(text) + len(words) - len(words.lstrip())))
        text, end = text + words, match.end()
    text += line[end:]
    if OPEN_MARK in text:
        raise ValueError(f"{source}: the mark of a phrase is not closed in {line[:120]!r}; it ends in ']'")
    return Sentence(text, tuple(phrases))


def read_sentences(path: PathLike) -> list[Sentence]:
    """The sentences of an image, one a line."""
    return [parse_sentence(line, source=path) for line in read_lines(path)]


def official_images(folder: PathLike) -> list[str]:
    """The ids of the images that have a file in Annotations; ValueError where there is none, or no Sentences."""
    found = sorted(path.stem for path in (Path(folder) / "Annotations").glob("*.xml"))
    if not found or not (Path(folder) / "Sentences").is_dir():
        raise ValueError(
            f"{folder} holds no Annotations/<image id>.xml beside Sentences/<image id>.txt; give the folder that the "
            "two lie in, or the joined JSON"
        )
    return found


def official_image(folder: PathLike, image_id: str) -> EntityImage:
    """An image from its two files; ValueError naming the one that is broken or absent."""
    image = read_annotation(Path(folder) / "Annotations" / f"{image_id}.xml")
    image.sentences = read_sentences(Path(folder) / "Sentences" / f"{image_id}.txt")
    return image


def read_annotation(path: Path) -> EntityImage:
    """The file name, size and boxes of an XML file, without sentences; ValueError naming the file and what is wrong."""
    root = _xml_root(path)
    file_name = _text(root, "filename", path)
    if Path(file_name).stem != path.stem:
        raise ValueError(f"{path} is about the image {file_name!r}; a file is called after its image")
    corners: dict[str, list[list[str | None]]] = {}
    for number, thing in enumerate(root.findall("object")):
        box = thing.find("bndbox")
        names = [name.text.strip() for name in thing.findall("name") if name.text]
        if not names:
            raise ValueError(f"{path}: object {number} names no chain")
        if box is not None:
            for name in names:
                corners.setdefault(name, []).append([box.findtext(corner) for corner in CORNERS])
    return EntityImage(
        image_id=path.stem,
        file_name=file_name,
        width=_pixels(root, "width", path),
        height=_pixels(root, "height", path),
        boxes={name: pixel_boxes(boxes, source=path, place=f"chain {name}") for name, boxes in corners.items()},
    )


def joined_records(path: PathLike) -> dict[str, dict[str, Any]]:
    """The records of a joined JSON, plain or packed by gzip, by their images' ids (the file name without ending).

    A list of objects: `filename`, `split`, `orig_width`, `orig_height` (pixels), `boxes` (chain -> boxes xyxy in 0..1,
    which are rounded to whole pixels, as the official files have them) and `sentences`, each with `tokens` and
    `phrases` of `phrase`, `chain` and `types`. `joined_image` reads one.

    Raises ValueError naming the file and record.
    """
    content = _read_packed_json(path)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path} is no list of images; is it the file of another format?")
    found: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(content):
        names = [record.get(key) for key in ("filename", "split")] if isinstance(record, dict) else [None]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path}: record {number} has no filename and split: {str(record)[:120]}")
        image_id = Path(record["filename"]).stem
        if found.setdefault(image_id, record) is not record:
            raise ValueError(f"{path}: the image {image_id!r} stands in it twice")
    return found


def joined_image(record: Mapping[str, Any], *, source: PathLike) -> EntityImage:
    """An image from its record of a joined JSON; ValueError naming the file and image."""
    name = record["filename"]
    try:
        size = np.array([record["orig_width"], record["orig_height"]], dtype=np.float64)
        if not np.isfinite(size).all() or not (size >= 1).all():
            raise ValueError(f"the size {size.tolist()} is no number of pixels")
        shares = {str(chain): parts for chain, parts in record["boxes"].items() if parts}
        boxes = {chain: pixel_boxes(parts, source=source, place=f"{name}, {chain}") for chain, parts in shares.items()}
        return EntityImage(
            image_id=Path(name).stem,
            file_name=name,
            width=record["orig_width"],
            height=record["orig_height"],
            boxes={chain: np.round(corners * np.concatenate([size, size])) for chain, corners in boxes.items()},
            sentences=[_joined_sentence(sentence) for sentence in record["sentences"]],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{source}: the record of {name} is no image with boxes and sentences: {error!r}") from error


def _joined_sentence(sentence: Mapping[str, Any]) -> Sentence:
    phrases: list[Phrase] = []
    tokens, first = sentence["tokens"], 0
    for part in sentence["phrases"]:
        if not isinstance(part["phrase"], str):
            raise ValueError(f"the phrase {part['phrase']!r} is not text")
        words = part["phrase"].split(" ")
        places = (i for i in range(first, len(tokens) - len(words) + 1) if tokens[i : i + len(words)] == words)
        first = next(places, -1)
        if first < 0:
            raise ValueError(f"the phrase {part['phrase']!r} does not follow in {' '.join(tokens)!r}")
        start = sum(len(token) + 1 for token in tokens[:first])
        phrases.append(Phrase(part["phrase"], str(part["chain"]), tuple(part["types"]), start))
        first += len(words)
    return Sentence(" ".join(tokens), tuple(phrases))


class EntitySource:
    """The images of the official folder, or of the joined JSON, each parsed when it is asked for.

    splits: the split of each image by its id; of the official folder every image is train. Raises `ValueError` as
    `official_images` and `joined_records` do, and reading an image as `official_image` and `joined_image` do.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        if str(path).endswith(JSON_SUFFIXES) and not Path(path).is_dir():
            self.records = joined_records(path)
            self.splits = {image_id: record["split"] for image_id, record in self.records.items()}
        else:
            self.splits = dict.fromkeys(official_images(path), "train")

    def file_name(self, image_id: str) -> str:
        return str(self.records[image_id]["filename"]) if self.records else f"{image_id}.jpg"

    def image(self, image_id: str) -> EntityImage:
        if self.records:
            return joined_image(self.records[image_id], source=self.path)
        return official_image(self.path, image_id)

    def listed(
        self, split_lists: PathLike | Mapping[str, PathLike] | None, *, images: PathLike | None, left_out: LeftOut
    ) -> list[ImageListing]:
        """The images with their splits, of `split_lists` where they are given; those in no list are `left_out`."""
        split_of = self.splits if split_lists is None else listed_splits(split_lists)
        unlisted = [image_id for image_id in self.splits if image_id not in split_of]
        if unlisted:
            left_out.add("images that are in no split list", f"image {unlisted[0]}", count=len(unlisted))
        return [
            ImageListing(image_id, self.file_name(image_id), images, split_of[image_id])
            for image_id in self.splits
            if image_id in split_of
        ]


def _read_packed_json(path: PathLike) -> Any:
    if Path(path).suffix != ".gz":
        return read_json(path)
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST_JSON + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot unpack {path}: {error}; copy it again") from error
    if len(content) > LARGEST_JSON:
        raise ValueError(f"{path} unpacks to more than {LARGEST_JSON} bytes; unpack it yourself if it is meant to")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({str(error)[:120]})") from error


class _PlainTree(ElementTree.TreeBuilder):
    """Builds an XML tree; a document type, which could declare entities that unfold without end, is refused."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called where the document type begins, before anything that it declares."""
        raise ValueError("it declares a document type, which no file of Flickr30k Entities does")


def _xml_root(path: Path) -> ElementTree.Element:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_XML + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LARGEST_XML:
        raise ValueError(f"{path} has more than {LARGEST_XML} bytes; no annotation of Flickr30k Entities does")
    try:
        return ElementTree.fromstring(content, parser=ElementTree.XMLParser(target=_PlainTree()))
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no XML annotation ({error}); copy it again") from error


def _text(root: ElementTree.Element, name: str, path: Path) -> str:
    text = (root.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"{path} has no {name}; is it an annotation of Flickr30k Entities?")
    return text


def _pixels(root: ElementTree.Element, name: str, path: Path) -> int:
    text = _text(root, f"size/{name}", path)
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"{path}: the {name} {text!r:.40} is no number of pixels")
    return int(text)
