"""Captions without images, to learn words from: text files and COCO's captions, less those of images to be scored.

    captions.txt(.gz), captions_val2017.json - images to leave out --read_texts--> rows without images
                                                                   --named_things.py--> what each row's captions name

Flickr30k (Young et al. 2014) holds Flickr8k's images, and COCO's val2017 those of Karpathy's test split: their captions
must not be learnt by a model that is scored on these images.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa

from training.data.captions.columns import joined_captions, joined_dataset
from training.data.files import (
    IMAGE_SUFFIXES,
    PathLike,
    all_texts,
    column,
    id_text,
    listed,
    read_json,
    read_lines,
    records,
    text_column,
)
from training.data.splits import split_name, wanted_splits

LARGEST_TEXT = 2**31  # bytes of an unpacked file
OWN_NUMBER = re.compile(r"(\d+)_[0-9a-f]{8,10}(?:_[a-z])?|(?:COCO_\w+_)?0*(\d+)")  # of Flickr and COCO, in file names
NAME_KEYS = ("file_name", "filename", "id", "cocoid")  # of an image, in COCO's and Karpathy's files
SPLIT_KEYS = ("karpathy_split", "split")
LEFT_OUT_KEYS = {"file", "split", "optional"}


class LeftOutImages(NamedTuple):
    """Images whose captions are not learnt: where they are listed, their `image_key`s, whether none need be there."""

    source: str
    keys: frozenset[str]
    optional: bool = False


def read_texts(
    texts: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    leave_out: Sequence[Any] = (),
    split: str | None = None,
    file_split: str = "train",
) -> datasets.Dataset:
    """Captions alone, a row for those of one image.

    Args:
        texts: a file, several, or a mapping of names to files. Each is one of: lines of `id<tab>caption` (as Flickr's
            token files, `1000092795.jpg#0<tab>caption`), of which those with the same id are one row; lines of a
            caption each, every one a row, of which `leave_out` can leave out none; COCO's captions (`.json`). Lines
            may be packed by gzip (`.gz`).
        leave_out: images whose captions are left out: ids or file names; or files that list some, a name or id a line,
            or JSON in COCO's or Karpathy's layout; or `{"file": ..., "split": "val+test"}`, the images of these splits
            (`karpathy_split` of an image, else its `split`), with `"optional": True` where the texts may be without
            them already. A name is the image of an id as `image_key` says.
        split: keep only this split.
        file_split: the split of all rows.

    Returns:
        Rows of `CAPTION_FEATURES` without images. Where there are several files, an id has the file's name (or its
        number, from 1) and a dash before it.

    Raises:
        ValueError: naming the file, for one that is none of these, holds no caption or more than `LARGEST_TEXT` bytes;
            for what of `leave_out` matches no text and is not optional, and where nothing is left.
        NoSuchSplitError: for another split than `file_split`.
    """
    files = _named_files(texts)
    own_split = split_name(file_split, "file_split")
    if split is not None:
        wanted_splits(split, present={own_split}, source=", ".join(map(str, files.values())))
    parts = {name: _pairs(path) for name, path in files.items()}
    kept = _without(parts, read_left_out(leave_out), files=files)
    several = len(files) > 1
    ids = [f"{name}-{image_id}" if several else image_id for name, pairs in kept.items() for image_id, _ in pairs]
    captions = [caption for pairs in kept.values() for _, caption in pairs]
    columns = (pa.chunked_array([pa.array(values, pa.large_string())]) for values in (ids, captions))
    return joined_dataset(joined_captions(*columns), split_of=own_split)


def image_key(name: Any) -> str:
    """What an image is known by in lists of all kinds: its number at Flickr or in COCO, else its name without ending.

    >>> [image_key(name) for name in ("1000268201_693b08cb0e.jpg", "COCO_val2014_000000000139.jpg", 139, "a/cat.png#2")]
    ['1000268201', '139', '139', 'cat']
    """
    path = Path(id_text(name).partition("#")[0])
    stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
    found = OWN_NUMBER.fullmatch(stem)
    return (found[1] or found[2]) if found else stem


def read_left_out(entries: Sequence[Any]) -> list[LeftOutImages]:
    """The images of each entry of `leave_out` (see `read_texts`); `ValueError` for an entry that is none."""
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence):
        entries = [entries]
    found = []
    for entry in entries:
        if isinstance(entry, Mapping):
            if "file" not in entry or not entry.keys() <= LEFT_OUT_KEYS:
                raise ValueError(f"leave_out has {dict(entry)}; write {{file: captions.json, split: test}}")
            images = _listed_images(entry["file"], split=entry.get("split"))
            found.append(images._replace(optional=bool(entry.get("optional"))))
        elif isinstance(entry, str) and (Path(entry).is_file() or Path(entry).suffix in (".json", ".txt")):
            found.append(_listed_images(entry, split=None))
        else:
            found.append(LeftOutImages(f"the id {entry!r} of leave_out", frozenset({image_key(entry)})))
    return found


def _named_files(texts: Any) -> dict[str, PathLike]:
    if isinstance(texts, Mapping):
        files = {str(name): path for name, path in texts.items()}
    elif isinstance(texts, Sequence) and not isinstance(texts, str):
        files = {str(number): path for number, path in enumerate(texts, start=1)}
    else:
        files = {"": texts}
    if not files:
        raise ValueError("texts names no file")
    return files


def _pairs(path: PathLike) -> list[tuple[str, str]]:
    """(image id, caption) of a file; `ValueError` where it holds none."""
    if Path(path).suffixes[-2:] == [".json", ".gz"]:
        raise ValueError(f"{path} is packed JSON, and only lines of text are read packed: unpack it (gunzip)")
    found = _coco_pairs(path) if Path(path).suffix == ".json" else _line_pairs(path)
    pairs = [(image_id, caption.strip()) for image_id, caption in found if caption.strip()]
    if not pairs:
        raise ValueError(f"{path} holds no caption; is it cut short?")
    if not all_texts(text for pair in pairs for text in pair):
        raise ValueError(f"{path} holds captions that are not text (halves of surrogate pairs); save it as UTF-8")
    return pairs


def _coco_pairs(path: PathLike) -> list[tuple[str, str]]:
    notes = records(read_json(path), "annotations", path)
    ids = [id_text(image_id) for image_id in column(notes, "image_id", path)]
    return list(zip(ids, text_column(notes, "caption", path), strict=True))


def _line_pairs(path: PathLike) -> Iterator[tuple[str, str]]:
    """Lines with an id and a tab, or of captions alone; `ValueError` for a mixture.

    The first line that holds something says which. Captions alone are `line-1`, `line-2`, ..., which are the ids of no
    image: a bare number would be COCO's.
    """
    with_ids: bool | None = None
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        if with_ids is None:
            with_ids = bool(tab)
        if with_ids != bool(tab) or (with_ids and not name.strip()):
            wanted = "id<tab>caption" if with_ids else "a caption alone, as in the lines before"
            raise ValueError(f"{path}, line {number}: expected {wanted}, found {line[:60]!r}")
        yield (Path(name.strip().partition("#")[0]).name, caption) if with_ids else (f"line-{number}", line)


def _text_of(path: PathLike) -> str:
    """The text of a file, unpacked where its name ends in `.gz`."""
    opened = gzip.open if Path(path).suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            content = file.read(LARGEST_TEXT + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); copy it again") from error
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > LARGEST_TEXT:
        raise ValueError(f"{path} unpacks to more than {LARGEST_TEXT} bytes; split it into several files")
    return text


def _listed_images(path: PathLike, *, split: str | None) -> LeftOutImages:
    """The images that a file lists, or those of the splits `"val+test"`."""
    if Path(path).suffix != ".json":
        if split:
            raise ValueError(f"leave_out: {path} lists names without splits; leave out its split")
        return LeftOutImages(str(path), frozenset(image_key(line.split()[0]) for line in read_lines(path)))
    content = read_json(path)
    if isinstance(content, list):
        names: Iterable[Any] = content
    else:
        images = records(content, "images", path)
        wanted = None if split is None else {split_name(word, path) for word in split.split("+")}
        chosen = [image for image in images if wanted is None or _split_of(image) in wanted]
        names = [image[key] for image in chosen for key in NAME_KEYS if image.get(key) is not None]
    keys = frozenset(image_key(name) for name in names)
    if not keys:
        raise ValueError(f"leave_out: {path} lists no image" + (f" of the split {split!r}" if split else ""))
    return LeftOutImages(str(path), keys)


def _split_of(image: Mapping[str, Any]) -> Any:
    return next((image[key] for key in SPLIT_KEYS if image.get(key) is not None), None)


def _without(
    parts: Mapping[str, list[tuple[str, str]]], left_out: Sequence[LeftOutImages], *, files: Mapping[str, PathLike]
) -> dict[str, list[tuple[str, str]]]:
    """The pairs of each file whose images are not left out.

    Raises `ValueError` for a list none of whose images has a text, since its ids are then written otherwise, and where
    no pair is left.
    """
    keys = {name: [image_key(image_id) for image_id, _ in pairs] for name, pairs in parts.items()}
    present = set().union(*keys.values())
    named = listed([str(path) for path in files.values()])
    for images in left_out:
        if not images.optional and present.isdisjoint(images.keys):
            raise ValueError(
                f"{images.source}: none of its images is among the texts of {named}: "
                f"there {listed(sorted(images.keys))}, here {listed(sorted(present))}; correct the ids, or write "
                "optional: true beside its file if these texts are known to be without its images"
            )
    dropped = frozenset().union(*(images.keys for images in left_out))
    kept = {
        name: [pair for pair, key in zip(pairs, keys[name], strict=True) if key not in dropped]
        for name, pairs in parts.items()
    }
    if not any(kept.values()):
        raise ValueError(f"leave_out leaves no text of {named}")
    return kept
