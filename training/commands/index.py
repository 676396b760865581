"""`updown index`: images, clips or a region store, and optionally texts -> an index for `updown search`."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.commands.extract import image_rows
from training.commands.extract_clips import seconds
from training.commands.shared import TRAINED_RETRIEVAL, add_command, exit_code, model_folder, quiet
from training.console import positive, say

if TYPE_CHECKING:
    from training.regions.store import RegionStore
    from training.search.embedding import Embedder

TABLE_SUFFIXES = {".jsonl", ".csv", ".tsv"}
CAPTION_FILES = ("karpathy", "coco", "flickr_tokens", "flickr30k_entities", "nocaps", "vizwiz")


def add_index(commands: Any) -> None:
    """`updown index`."""
    parser = add_command(
        commands,
        "index",
        run_index,
        summary="make images, clips and texts searchable; run again, it continues where it stopped",
        example="updown index photos/ --output index/\n"
        "  updown index photos/ --captions captions.jsonl --output index/     also index texts, to search by image\n"
        "  updown index clips/ --fps 2 --output index/       frames of videos: a search finds the clip and its second\n"
        "  updown extract photos/ --output regions/ --source MODEL            extract regions once, on several GPUs,\n"
        "  updown index regions/ --images photos/ --model MODEL --output index/   for fast re-ranking",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a folder of images and videos, a file, a list or table of paths of images (as `updown extract` takes "
        "them), or one region store, made by the model's own region source",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the index to write")
    add_retrieval_model(parser)
    parser.add_argument(
        "--images",
        dest="image_folder",
        type=Path,
        metavar="FOLDER",
        help="the folder of a region store's images, to show search results",
    )
    parser.add_argument("--photos", dest="image_folder", type=Path, help=argparse.SUPPRESS)  # its earlier name
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="texts: one per line (.txt), or a table with caption and optionally file_name (.jsonl, .csv, .tsv)",
    )
    parser.add_argument(
        "--captions-format", choices=CAPTION_FILES, metavar="NAME", help=f"or of a data set: {', '.join(CAPTION_FILES)}"
    )
    parser.add_argument("--captions-split", metavar="SPLIT", help="for a data set: the captions of this split")
    parser.add_argument(
        "--fps", type=seconds, default=1.0, metavar="X", help="of videos: X frames a second (%(default)g)"
    )
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images per batch (%(default)s)")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float16",
        help="the type of the stored vectors (%(default)s)",
    )


def add_retrieval_model(parser: argparse.ArgumentParser, *, default: str = "the trained one") -> None:
    """`--model` of `updown index` and `updown search`."""
    parser.add_argument("--model", metavar="DIR_OR_HUB_ID", help=f"a saved retrieval model (default: {default})")


def run_index(arguments: argparse.Namespace) -> int:
    """Add the vectors of every image, frame and text to an index."""
    store_folder = only_store(arguments.images)
    if arguments.image_folder and not store_folder:
        raise ValueError("--images is the folder of a region store's images: leave it out when indexing images")
    texts = read_texts(arguments.captions, format=arguments.captions_format, split=arguments.captions_split)

    from training.regions.store import RegionStore
    from training.search.clips import clips_by_id, index_clips, split_clips
    from training.search.embedding import Embedder, index_images, index_store, index_texts

    named, videos = ([], []) if store_folder else split_clips(arguments.images)
    rows, clips = image_rows(named) if named else None, clips_by_id(videos)
    store = RegionStore(store_folder) if store_folder else None
    folder = model_folder(arguments.model, default=TRAINED_RETRIEVAL)
    embedder = Embedder(*load_retrieval_model(folder), batch_size=arguments.batch_size)
    image_folder, paths = store_paths(store, arguments.image_folder) if store else row_paths(rows, clips)
    broken: list[str] = []
    with open_writer(arguments, embedder, store, model=folder, image_folder=image_folder) as writer:
        if store is not None:
            index_store(store, embedder, writer, paths=paths)
        if rows is not None:
            broken = index_images(rows, embedder, writer, paths=paths)
        if clips:
            broken += index_clips(clips, embedder, writer, paths=paths, fps=arguments.fps)
        index_texts(texts, embedder, writer)
        counts = {name: len(entries) for name, entries in writer.entries.items()}
        frames = sum("seconds" in entry for entry in writer.entries["photos"])
    if broken:
        head = f"{len(broken)} {'images or clips' if clips else 'images'} could not be read and were skipped:"
        say(head, *(f"  {line}" for line in broken), file=sys.stderr)
    of_clips = f" ({frames} of them frames of clips)" if frames else ""
    say(f"{arguments.output}: {counts['photos']} images{of_clips} and {counts['texts']} texts")
    return exit_code(len(broken), of=len(rows or ()) + len(clips) + len(store or ()))


def only_store(arguments: Sequence[str]) -> Path | None:
    """The region store if the only argument is one; raises `ValueError` for a store and further arguments."""
    stores = [Path(argument) for argument in arguments if (Path(argument) / "store.json").is_file()]
    if stores and len(arguments) > 1:
        raise ValueError(f"{stores[0]} is a region store: index it alone")
    return stores[0] if stores else None


def open_writer(
    arguments: argparse.Namespace,
    embedder: "Embedder",
    store: "RegionStore | None",
    *,
    model: str,
    image_folder: str | None,
) -> Any:
    """The writer of a new or existing index."""
    from training.search.embedding import check_store
    from training.search.index_files import IndexWriter, relative_place

    fingerprint = embedder.fingerprint()
    if store is not None:
        check_store(store, embedder)
        fingerprint["regions"] = store.fingerprint
    elif embedder.extractor is None:
        raise ValueError(f"the model {model} has no region source, so it takes no images: give a region store")
    output = arguments.output
    places = {
        "model": relative_place(model, output) if Path(model).is_dir() else model,
        "photo_folder": relative_place(image_folder, output) if image_folder else None,
        "region_store": relative_place(store.folder, output) if store is not None else None,
    }
    return IndexWriter(output, fingerprint=fingerprint, places=places, dtype=arguments.dtype)


def load_retrieval_model(folder: str) -> tuple[Any, Any]:
    """A saved retrieval model in float32, and its processor; raises `ValueError` for a model of another kind."""
    from transformers import AutoProcessor

    import modeling_updown
    from training.saved_models import check_kind, load_whole

    with quiet():
        config = check_kind(folder, [modeling_updown.UpDownFusionForImageTextRetrieval])
        kind = getattr(modeling_updown, (config.architectures or ["UpDownFusionForImageTextRetrieval"])[0])
        return load_whole(kind, folder).float(), AutoProcessor.from_pretrained(folder)


def row_paths(rows: Any, clips: Mapping[str, str] | None = None) -> tuple[str | None, dict[str, str | None]]:
    """The common folder of all images and clips, and id -> path in it, None for images inside a data set.

    Raises `ValueError` for an image or clip at a URL, and for one of each with the same id.
    """
    places = {
        image_id: None if (image or {}).get("bytes") else (image or {}).get("path")
        for batch in (rows.iter(batch_size=256) if rows is not None else ())
        for image_id, image in zip(batch["image_id"], batch["image"], strict=True)
    }
    clips = clips or {}
    twice = next((clip_id for clip_id in clips if clip_id in places), None)
    if twice is not None:
        raise ValueError(f"an image and a clip have the id {twice}: index them one by one")
    places |= clips
    far = next((place for place in places.values() if place and "://" in place), None)
    if far is not None:
        raise ValueError(f"an index holds local images and clips, and {far} is a URL: download it first")
    full = {image_id: os.path.abspath(place) for image_id, place in places.items() if place}
    if not full:
        return None, {}
    folder = os.path.commonpath([os.path.dirname(place) for place in full.values()])
    return folder, {image_id: Path(os.path.relpath(place, folder)).as_posix() for image_id, place in full.items()}


def store_paths(store: "RegionStore", folder: Path | None) -> tuple[str | None, dict[str, str | None]]:
    """The image folder, and the path in it of each image of a store: a file of that name, with any ending.

    Raises `ValueError` if there is no such folder or none of the images in it, where several files may be meant, and
    where they are other images than those of the store.
    """
    from training.data.files import IMAGE_SUFFIXES
    from training.regions.image_marks import changed_images, check_same_images, image_mark
    from training.regions.stored_images import find_name, names_by_stem

    if folder is None:
        return None, {}
    if not folder.is_dir():
        raise ValueError(f"there is no image folder {folder}")
    names = [path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    among, by_stem, cure = set(names), names_by_stem(names), "keep one of them there"
    paths = {
        image_id: find_name(image_id, among, by_stem=by_stem, place=str(folder), cure=cure)
        for image_id in store.image_ids
    }
    lost = [image_id for image_id, path in paths.items() if path is None]
    if len(lost) == len(paths):
        raise ValueError(f"none of the {len(paths)} images of {store.folder} is in {folder} (looked for {lost[0]})")
    found = {image_id: image_mark({"path": str(folder / path)}) for image_id, path in paths.items() if path}
    others = changed_images(list(found), list(found.values()), known=store.marks)
    check_same_images(others, of=len(found), place=store.folder, cure="name the folder of its images in --images")
    if lost:
        say(f"{len(lost)} images of {store.folder} are not in {folder}, such as {lost[0]}", file=sys.stderr)
    return str(folder), paths


def read_texts(
    path: Path | None, *, format: str | None = None, split: str | None = None
) -> list[tuple[str, str | None]]:
    """The texts of a file, each with the name or id of its image if the file has one.

    Raises `ValueError` for a file of another kind, or without texts.
    """
    if path is None:
        if format or split:
            raise ValueError("--captions-format and --captions-split need --captions: give that file too")
        return []

    from training.data.captions.formats import CAPTION_FORMATS
    from training.data.files import read_lines

    if format:
        loaded = CAPTION_FORMATS[format](path, split=split)
        return [(text, row["image_id"]) for row in loaded.remove_columns("image") for text in row["captions"]]
    if split:
        raise ValueError("--captions-split needs --captions-format: a list or table of texts has no splits")
    if path.suffix.lower() in TABLE_SUFFIXES:
        return table_texts(path)
    if path.suffix.lower() != ".txt":
        raise ValueError(
            f"{path} is neither a list (.txt) nor a table ({', '.join(sorted(TABLE_SUFFIXES))}): give its format with "
            f"--captions-format {{{','.join(CAPTION_FILES)}}}"
        )
    lines = read_lines(path)
    if lines and "#0\t" in lines[0]:
        raise ValueError(f"{path} looks like a token file of Flickr: add --captions-format flickr_tokens")
    if not lines:
        raise ValueError(f"{path} holds no text")
    return [(line, None) for line in lines]


def table_texts(path: Path) -> list[tuple[str, str | None]]:
    """The texts of a table: a column of captions (in JSONL also lists of them), and optionally one of image names."""
    from training.data.captions.formats import CAPTION_COLUMNS, IMAGE_COLUMNS
    from training.data.files import column, read_table

    rows = read_table(path)
    text_column = next((name for name in CAPTION_COLUMNS if name in rows[0]), None)
    if text_column is None:
        raise ValueError(f"{path} has no column {' or '.join(CAPTION_COLUMNS)}; it has {', '.join(rows[0])}")
    image_column = next((name for name in IMAGE_COLUMNS if name in rows[0]), None)
    texts: list[tuple[str, str | None]] = []
    for number, (captions, row) in enumerate(zip(column(rows, text_column, path), rows, strict=True)):
        image = row.get(image_column) if image_column else None
        for caption in captions if isinstance(captions, list) else [captions]:
            if not isinstance(caption, str):
                raise ValueError(f"{path}: a caption of record {number} is not text: {str(caption)[:80]}")
            texts += [(caption.strip(), None if image is None else str(image))] if caption.strip() else []
    if not texts:
        raise ValueError(f"{path} holds no text")
    return texts
