"""Captions by the million as Arrow columns: one text a row, joined to the rows of training/data/captions/rows.py.

    image ids + texts, a row each --joined_captions--> one row an image
    image names + folder --find_images--> where each image lies, or null

Twelve million pairs (Conceptual 12M) would be 10 GB of Python strings and dicts; here they take what their text takes.
"""

import os
import secrets
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.captions.rows import CAPTION_FEATURES
from training.data.files import LISTED, PathLike, listed

ROWS_A_CHUNK = 100_000
DEEPEST_FOLDER = 3  # below the image folder: links that lead in a circle come to an end
NO_IMAGE_ENDINGS = (".json", ".txt", ".parquet")  # what download tools write beside every image
NAME = pa.large_string()  # more than 2 GB of text in a column
ENDING = r"\.[^./]*$"
FOLDERS = r"^.*/"
LEADING_ZEROS = r"^0+(\d)"


@dataclass(frozen=True)
class JoinedCaptions:
    """P images in the order in which they first stood, and their T texts, those of an image side by side.

    `starts` (P + 1,) int64: image p has the texts `starts[p]:starts[p + 1]`; `places` (P,): the image's file, or None
    where no images are given.
    """

    image_ids: pa.Array
    starts: np.ndarray
    texts: pa.ChunkedArray
    places: pa.Array | None = None


def joined_captions(
    image_ids: pa.ChunkedArray, texts: pa.ChunkedArray, *, images: PathLike | None = None, numbered: bool = False
) -> JoinedCaptions:
    """One entry for each id, with its texts in their order.

    Args:
        image_ids: (T,) large_string, the image's name or id.
        texts: (T,) large_string.
        images: the image folder, in which `find_images` looks for the ids; images that are not there are left out with
            one warning. None leaves no image out.
        numbered: as for `find_images`.

    Raises:
        ValueError: as `find_images`.
    """
    coded = image_ids.combine_chunks().dictionary_encode()
    ids, codes = coded.dictionary, coded.indices.to_numpy()  # (P,), (T,): ids are numbered as they first appear
    places = None
    if images is not None:
        places = find_images(ids, images, numbered=numbered)
        found = pc.is_valid(places).to_numpy(zero_copy_only=False)  # (P,)
        if not found.all():
            texts = texts.filter(pa.array(found[codes]))
            codes = (np.cumsum(found) - 1)[codes[found[codes]]]
            ids, places = ids.filter(pa.array(found)), places.drop_null()
    if len(ids) < len(codes):
        texts = texts.take(pa.array(np.argsort(codes, kind="stable")))
    starts = np.concatenate([[0], np.bincount(codes, minlength=len(ids)).cumsum()])
    return JoinedCaptions(ids, starts, texts, places)


def joined_dataset(joined: JoinedCaptions, *, split_of: str | Mapping[str, str]) -> datasets.Dataset:
    """Rows of `CAPTION_FEATURES`; no image is opened.

    Args:
        joined: the images.
        split_of: the split of all of them, or of each image id; one of `SPLITS`.
    """
    schema = CAPTION_FEATURES.arrow_schema
    chunks = [_chunk(joined, start, split_of=split_of) for start in range(0, len(joined.image_ids), ROWS_A_CHUNK)]
    return datasets.Dataset(
        pa.Table.from_batches(chunks, schema=schema),
        info=datasets.DatasetInfo(features=CAPTION_FEATURES),
        fingerprint=secrets.token_hex(8),  # one of the content would take several times its memory
    )


def find_images(names: pa.Array, folder: PathLike, *, numbered: bool = False) -> pa.Array:
    """The path of each image, null (and one warning naming up to five) where it is missing.

    A name is looked for among the files of `folder` and of the folders in it (`DEEPEST_FOLDER` deep): as a path below
    `folder`, as one without its ending, as a bare file name, and as one without its ending. So `00012` is found as
    `00012.jpg`, `00012.png`, `part 3/00012.webp` or `00012`; of several the first of these, and then of the alphabet.

    Args:
        names: (P,) large_string.
        folder: the image folder.
        numbered: the names are numbers, and zeros may stand before those of the files: `12` is `000000012.jpg`.

    Raises:
        ValueError: where the folder is absent or empty, or every image is missing.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"there is no image folder {folder}")
    files = pa.chunked_array(list(_file_chunks(Path(folder), "", depth=0)), NAME).combine_chunks()
    if not len(files):
        raise ValueError(f"the image folder {folder} holds no file")
    files = files.take(pc.array_sort_indices(files))
    places = pc.index_in(names, value_set=files)
    for key in _keys(files, numbered=numbered):
        if not places.null_count:
            break
        places = pc.coalesce(places, pc.index_in(names, value_set=key))
    _report_missing(names.filter(pc.is_null(places)), total=len(names), folder=folder)
    prefix = os.path.join(os.path.abspath(folder), "")
    return pc.binary_join_element_wise(pa.scalar(prefix, NAME), files.take(places), pa.scalar("", NAME))


def _keys(files: pa.Array, *, numbered: bool) -> Iterator[pa.Array]:
    """What the files may be called beside their paths, the closest first."""
    yield pc.replace_substring_regex(files, ENDING, "")
    bare = pc.replace_substring_regex(files, FOLDERS, "")
    yield bare
    stems = pc.replace_substring_regex(bare, ENDING, "")
    yield stems
    if numbered:
        yield pc.replace_substring_regex(stems, LEADING_ZEROS, r"\1")


def _file_chunks(root: Path, below: str, *, depth: int) -> Iterator[pa.Array]:
    """The files of a folder and of those in it, as paths below `root` with slashes, some at a time."""
    names: list[str] = []
    folders: list[str] = []
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(f"{below}{entry.name}/")
            elif not entry.name.endswith(NO_IMAGE_ENDINGS):
                names.append(f"{below}{entry.name}")
            if len(names) == ROWS_A_CHUNK:
                yield _as_text(names)
                names = []
    yield _as_text(names)
    if depth < DEEPEST_FOLDER:
        for folder in folders:
            yield from _file_chunks(root, folder, depth=depth + 1)


def _as_text(names: list[str]) -> pa.Array:
    """File names as Arrow text; one that is no UTF-8 is no name a list of pairs can hold."""
    try:
        return pa.array(names, NAME)
    except UnicodeEncodeError:
        return pa.array([name for name in names if name.isprintable()], NAME)


def _report_missing(missing: pa.Array, *, total: int, folder: PathLike) -> None:
    if not len(missing):
        return
    named = listed(missing[:LISTED].to_pylist(), len(missing))
    if len(missing) == total:
        raise ValueError(f"none of the {total} images is in {folder} (looked for {named}); is it the right folder?")
    warnings.warn(f"{len(missing)} of {total} images are not in {folder} and are left out: {named}", stacklevel=4)


def _chunk(joined: JoinedCaptions, start: int, *, split_of: str | Mapping[str, str]) -> pa.RecordBatch:
    """Up to `ROWS_A_CHUNK` rows from image `start` on."""
    schema = CAPTION_FEATURES.arrow_schema
    ids = joined.image_ids[start : start + ROWS_A_CHUNK].cast(pa.string())
    starts = joined.starts[start : start + len(ids) + 1]
    texts = joined.texts.slice(starts[0], starts[-1] - starts[0]).combine_chunks().cast(pa.string())
    captions = pa.ListArray.from_arrays(pa.array(starts - starts[0], pa.int32()), texts)
    splits = [split_of] * len(ids) if isinstance(split_of, str) else [split_of[i] for i in ids.to_pylist()]
    images = schema.field("image").type
    image = pa.nulls(len(ids), images)
    if joined.places is not None:
        paths = joined.places[start : start + len(ids)].cast(pa.string())
        image = pa.StructArray.from_arrays([pa.nulls(len(ids), pa.binary()), paths], fields=list(images))
    columns = {"image_id": ids, "image": image, "captions": captions, "split": pa.array(splits, pa.string())}
    columns["domain"] = pa.array([""] * len(ids), pa.string())
    return pa.RecordBatch.from_arrays(
        [columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema
    )
