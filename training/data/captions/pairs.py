"""Web-scale lists of (image, caption): Conceptual Captions 3M and 12M, SBU, LAION, and lists laid out like them.

    list of pairs --training/data/captions/pair_files.py--> Pairs --names of the images' files--> rows, one an image

The lists name images by their url. Nothing is downloaded here: what was downloaded lies in a folder, under names that
each tool makes in its own way (`IMAGE_NAMES`), and images that could not be had are simply not there.
"""

import hashlib
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.captions.columns import joined_captions, joined_dataset
from training.data.captions.pair_files import READERS, Pairs, pair_chunks
from training.data.files import PathLike
from training.data.splits import split_in, split_name, wanted_splits

URL_START = r"^[^/]*//[^/]*/"
URL_END = r"[?#].*$"


def read_pairs(
    pairs: PathLike | Sequence[PathLike],
    *,
    captions: PathLike | None = None,
    images: PathLike | None = None,
    named_by: str | None = None,
    columns: Mapping[str, str | int] | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """Lists of images with a caption each, one row an image; captions of one image are joined.

    Args:
        pairs: the list: `Train_GCC-training.tsv`, `cc12m.tsv`, `SBU_captioned_photo_dataset_urls.txt`,
            `sbu-captions-all.json`, JSON lists of ALBEF and BLIP, LAION's or img2dataset's JSONL or Parquet; a folder
            of these, or several files, which are taken as one.
        captions: SBU's second text file, `SBU_captioned_photo_dataset_captions.txt`.
        images: the folder of downloaded images, searched by `find_images`; rows whose image is not there are left out
            with one warning. None gives rows without images, for region stores made elsewhere.
        named_by: how an image's file is named, of `IMAGE_NAMES`; the name is also the `image_id`. By default the list's
            own column of names.
        columns: your name for the columns `caption`, `url` and `name`; in a .tsv without a header their number from 0.
        split: keep only this split.
        file_split: the split of all rows; by default the one the (first) file's name speaks of, else train.

    A row without a caption, or without the url or name its image's file is named by, is left out and counted, as the
    official lists have such holes: LAION's `TEXT` and `URL` may be null, and those of SBU and CC12M blank. Any other
    broken line is an error.

    Raises:
        ValueError: naming file and line, as `pair_chunks`; for an unknown `named_by`, an image folder without any of
            the images, and where no pair is left.
        NoSuchSplitError: where `split` is another one than that of the files.
    """
    paths = _pair_files(pairs)
    word = split_name(file_split or split_in(Path(paths[0]).stem) or "train", paths[0])
    if split is not None:
        wanted_splits(split, present={word}, source=paths[0])
    if named_by is not None and named_by not in IMAGE_NAMES:
        raise ValueError(f"named_by is {named_by!r}; choose one of {', '.join(IMAGE_NAMES)}")
    names, texts = _whole_rows(paths, captions=captions, named_by=named_by, columns=columns or {})
    joined = joined_captions(names, texts, images=images, numbered=named_by in NUMBERED)
    return joined_dataset(joined, split_of=word)


def _whole_rows(
    paths: Sequence[PathLike], *, captions: PathLike | None, named_by: str | None, columns: Mapping[str, str | int]
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The images' names and the captions of the rows that have both, (N,) large_string each."""
    names: list[pa.Array] = []
    texts: list[pa.Array] = []
    left_out: Counter[str] = Counter()
    num_rows = 0
    for path in paths:
        for chunk in pair_chunks(path, columns=columns, captions=captions):
            named = _image_names(chunk, named_by, first_row=num_rows, path=path)
            written, known = pc.not_equal(chunk.captions.fill_null(""), ""), pc.not_equal(named.fill_null(""), "")
            whole = pc.and_(written, known)
            names.append(named.filter(whole))
            texts.append(chunk.captions.filter(whole))
            left_out["caption"] += len(chunk.captions) - written.true_count
            left_out["url or name"] += written.true_count - whole.true_count
            num_rows += len(chunk.captions)
    for what, count in left_out.items():
        if count:
            warnings.warn(f"{paths[0]}: {count} of {num_rows} rows have no {what} and are left out", stacklevel=3)
    if not sum(map(len, names)):
        raise ValueError(f"{paths[0]} holds no pair of an image and a caption; is it cut short?")
    return pa.chunked_array(names), pa.chunked_array(texts)


def _pair_files(pairs: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """The files given, or those of a folder in the order of their names."""
    if not isinstance(pairs, str | Path) and isinstance(pairs, Sequence):
        if not pairs:
            raise ValueError("an empty list of pairs= is given; name at least one file")
        return list(pairs)
    if not Path(pairs).is_dir():
        return [pairs]  # type: ignore[list-item]
    files = sorted(path for path in Path(pairs).iterdir() if path.suffix in READERS)
    if len({path.suffix for path in files}) != 1:
        fault = "files of several kinds" if files else "no file"
        raise ValueError(f"the folder {pairs} holds {fault} of pairs ({', '.join(READERS)}); name the files themselves")
    return list(files)


def _image_names(pairs: Pairs, named_by: str | None, *, first_row: int, path: PathLike) -> pa.Array:
    """The name of each row's image, (N,) large_string, null where the row has no url or name."""
    source = "names" if named_by is None else NAMED_FROM[named_by]
    values = pairs.names if source == "names" else pairs.urls
    if values is None and source != "rows":
        cure = "say with named_by= how the images' files are named" if named_by is None else "give columns={...}"
        lacking = "file names" if source == "names" else "urls"
        raise ValueError(f"{path} has no column of {lacking}; {cure} ({', '.join(IMAGE_NAMES)})")
    rows = np.arange(first_row, first_row + len(pairs.captions))
    return pairs.names if named_by is None else IMAGE_NAMES[named_by](values, rows)


def _own_names(names: pa.Array, rows: np.ndarray) -> pa.Array:
    return names


def _row_numbers(values: pa.Array, rows: np.ndarray) -> pa.Array:
    return pa.array(rows).cast(pa.large_string())


def _thousands(values: pa.Array, rows: np.ndarray) -> pa.Array:
    return pa.array([f"{row // 1000:04d}/{row % 1000:03d}" for row in rows.tolist()], pa.large_string())


def _url_names(urls: pa.Array, rows: np.ndarray) -> pa.Array:
    return pc.replace_substring_regex(pc.replace_substring_regex(urls, URL_END, ""), r"^.*/", "")


def _url_paths(urls: pa.Array, rows: np.ndarray) -> pa.Array:
    paths = pc.replace_substring_regex(pc.replace_substring_regex(urls, URL_END, ""), URL_START, "")
    return pc.replace_substring(paths, "/", "_")


def _hashes(urls: pa.Array, rows: np.ndarray, *, digest: Callable[[bytes], str]) -> pa.Array:
    return pa.array([digest(url.encode()) if url else None for url in urls.to_pylist()], pa.large_string())


def _rows_and_checksums(urls: pa.Array, rows: np.ndarray) -> pa.Array:
    checksums = _hashes(urls, rows, digest=crc32)
    return pc.binary_join_element_wise(_row_numbers(urls, rows), checksums, pa.scalar("_", checksums.type))


def hexadecimal(content: bytes, *, kind: str) -> str:
    """A hash of hashlib (md5, sha1, sha256) as hexadecimal digits.

    >>> hexadecimal(b"http://static.flickr.com/1/a.jpg", kind="md5")[:8]
    'f91b51dd'
    """
    return hashlib.new(kind, content, usedforsecurity=False).hexdigest()


def crc32(content: bytes) -> str:
    """The CRC-32 checksum as a decimal number.

    >>> crc32(b"http://static.flickr.com/1/a.jpg")
    '1119920862'
    """
    return str(zlib.crc32(content))


# How the images' files may be named: from the rows' urls or names and numbers, (N,) each, to names without an ending.
IMAGE_NAMES: dict[str, Callable[[pa.Array, np.ndarray], pa.Array]] = {
    "name": _own_names,  # the list's own column: `file_name`, `image`, `key` (img2dataset), ...
    "row": _row_numbers,  # the row's number from 0, with or without zeros before it: img2dataset, 10,000 rows a shard
    "thousands": _thousands,  # 0012/345 for row 12,345: the images SBU's authors published
    "url_name": _url_names,  # what stands behind the last slash: torchvision's SBU
    "url_path": _url_paths,  # what stands behind the server, its slashes become underscores: SBU's own script
    "md5": partial(_hashes, digest=partial(hexadecimal, kind="md5")),
    "sha1": partial(_hashes, digest=partial(hexadecimal, kind="sha1")),
    "sha256": partial(_hashes, digest=partial(hexadecimal, kind="sha256")),
    "crc32": partial(_hashes, digest=crc32),  # ViLBERT and VOLTA; some 1,300 of CC3M's images were written over another
    "row_crc32": _rows_and_checksums,  # 12_1119920862: what later versions of that downloader write
}
# what each is made from
NAMED_FROM = {name: {"name": "names", "row": "rows", "thousands": "rows"}.get(name, "urls") for name in IMAGE_NAMES}
NUMBERED = ("row",)
