"""Caption data sets in their official formats -> one `datasets.Dataset`, one row per image.

    annotation file + image folder --load_captions--> rows --training/tasks/captioning.py--> model inputs

COCO captions (Chen et al. 2015), Karpathy's splits (Karpathy and Fei-Fei 2015), Flickr8k (Hodosh et al. 2013),
Flickr30k (Young et al. 2014) and its Entities (Plummer et al. 2015), nocaps (Agrawal et al. 2019), VizWiz captions
(Gurari et al. 2020), anyone's folder of images with a table, and any Hub data set. Those for pretraining lie beside:
`pairs.py` (Conceptual Captions, SBU, LAION), `visual_genome.py` (region phrases), `texts.py` (captions without images);
`mixture.py` joins several. What needs more than files, the drawn scenes and a detector's tags,
`training/tasks/captioning.py` joins to these.

No image is opened here: whether it exists is asked of one listing per folder, and the `image` column decodes lazily.
"""

import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from training.data.boxes.entities_files import read_sentences
from training.data.captions.mixture import read_mixture
from training.data.captions.pairs import read_pairs
from training.data.captions.rows import CAPTION_FEATURES, caption_dataset
from training.data.captions.texts import read_texts
from training.data.captions.visual_genome import read_genome_regions
from training.data.csv_rows import TEXT_COLUMNS
from training.data.files import (
    Formats,
    PathLike,
    check_image_names,
    column,
    format_reader,
    id_text,
    list_column,
    read_json,
    read_lines,
    read_table,
    records,
    text_column,
)
from training.data.splits import SPLITS, split_in, split_name, wanted_splits

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "captions.jsonl", "captions.csv", "captions.tsv", "captions.txt")
IMAGE_COLUMNS = ("file_name", "image", "image_name", "filename")
CAPTION_COLUMNS = ("captions", "caption", "text", "comment")


def read_coco_captions(
    annotations: PathLike, *, images: PathLike | None = None, split: str | None = None, file_split: str | None = None
) -> datasets.Dataset:
    """COCO captions: `{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`.

    Args:
        annotations: the official JSON, for example `captions_val2017.json`; a test file without `annotations` gives
            rows without captions.
        images: folder the `file_name`s lie in; None gives rows without images, enough for metrics.
        split: keep only this split.
        file_split: the split of images that do not name their own in `karpathy_split`; by default that in the image's
            `split` (`train2017`), else in the file's name (`captions_val2017.json`: val), else train.
    """
    return _read_coco_layout(annotations, images=images, split=split, file_split=file_split, dropped=())


def read_nocaps(
    annotations: PathLike, *, images: PathLike | None = None, split: str | None = None, file_split: str | None = None
) -> datasets.Dataset:
    """nocaps: the COCO layout whose images carry a `domain` (in-domain, near-domain, out-domain).

    Arguments as for `read_coco_captions`; files of the public test set carry neither captions nor, at times, domains.
    """
    return _read_coco_layout(annotations, images=images, split=split, file_split=file_split, dropped=())


def read_vizwiz(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    dropped: Sequence[str] = ("is_rejected", "is_precanned"),
) -> datasets.Dataset:
    """VizWiz captions: the COCO layout whose annotations carry `is_rejected` and `is_precanned`.

    Args:
        dropped: captions with any of these flags are left out, as the official evaluation leaves them out (rejected
            work, and the fixed sentence for images too poor to describe). `()` keeps every caption.

    The other arguments are those of `read_coco_captions`.
    """
    return _read_coco_layout(annotations, images=images, split=split, file_split=file_split, dropped=dropped)


def read_karpathy(
    annotations: PathLike, *, images: PathLike | None = None, split: str | None = None, file_split: str | None = None
) -> datasets.Dataset:
    """Karpathy's split files: dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json.

    Args:
        annotations: the JSON, `{"images": [{"filename", "filepath", "split", "sentences": [{"raw", "tokens"}]}]}`.
        images: the image folder; images are looked for at `filepath/filename` in it, then at `filename`.
        split: keep only this split; the usual training set of COCO is `"train+restval"`.
        file_split: the split all rows belong to; by default each image's own.

    The `image_id` is the COCO id where there is one, else the image's name without its ending.
    """
    listed = records(read_json(annotations), "images", annotations)
    names = text_column(listed, "filename", annotations)
    folders = [image.get("filepath") or "" for image in listed]
    strange = next((folder for folder in folders if not isinstance(folder, str)), None)
    if strange is not None:
        raise ValueError(f"{annotations}: the filepath {strange!r:.60} is not text")
    captions = [
        [_sentence_text(sentence, annotations) for sentence in sentences]
        for sentences in list_column(listed, "sentences", annotations)
    ]
    return caption_dataset(
        image_ids=[id_text(p.get("cocoid", Path(name).stem)) for p, name in zip(listed, names, strict=True)],
        names=[os.path.join(place, name) for place, name in zip(folders, names, strict=True)],
        captions=captions,
        splits=[file_split] * len(listed) if file_split else column(listed, "split", annotations),
        images=images,
        split=split,
        source=annotations,
    )


def read_flickr_tokens(
    tokens: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    split_lists: Mapping[str, PathLike] | None = None,
) -> datasets.Dataset:
    """The original Flickr8k and Flickr30k token files: lines of `name.jpg#0<tab>caption`.

    Args:
        tokens: `Flickr8k.token.txt` or `results_20130124.token`.
        images: the image folder, None for rows without images.
        split: keep only this split.
        split_lists: list files by split, `{"train": ..., "val": ..., "test": ...}`, one image name a line with or
            without its ending. By default the `*trainImages.txt`, `*devImages.txt`, `*testImages.txt` beside the
            token file; where there are none, every image is train. Images in no list are left out.
    """
    captions_of: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(tokens), start=1):
        name, tab, caption = line.partition("\t")
        if not tab:
            raise ValueError(f"{tokens}, line {number}: expected 'name.jpg#0<tab>caption', found {line[:60]!r}")
        captions_of.setdefault(name.partition("#")[0], []).append(caption)
    splits = _listed_splits(captions_of, _split_lists_beside(tokens) if split_lists is None else split_lists)
    names = list(splits)
    return caption_dataset(
        image_ids=[Path(name).stem for name in names],
        names=names,
        captions=[captions_of[name] for name in names],
        splits=list(splits.values()),
        images=images,
        split=split,
        source=tokens,
    )


def read_flickr30k_entities(
    sentences: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    split_lists: Mapping[str, PathLike] | None = None,
) -> datasets.Dataset:
    """Flickr30k Entities: a folder of `<image id>.txt`, one caption a line, phrases marked `[/EN#1/people A man]`.

    Arguments as for `read_flickr_tokens` (`sentences` is the folder; without `split_lists` every image is train).
    The marks are taken off; the detection format of the same name (`training/data/boxes/`) reads them.
    """
    files = sorted(Path(sentences).glob("*.txt"))
    if not files:
        raise ValueError(f"{sentences} holds no <image id>.txt; give the Sentences folder of Flickr30k Entities")
    captions_of = {f"{file.stem}.jpg": [sentence.text for sentence in read_sentences(file)] for file in files}
    splits = _listed_splits(captions_of, split_lists or {})
    return caption_dataset(
        image_ids=[Path(name).stem for name in splits],
        names=list(splits),
        captions=[captions_of[name] for name in splits],
        splits=list(splits.values()),
        images=images,
        split=split,
        source=sentences,
    )


def read_folder(
    folder: PathLike,
    *,
    table: PathLike | None = None,
    image_column: str | None = None,
    caption_column: str | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """Your own images: a folder and a CSV, TSV or JSONL table; several rows of one image are joined.

    Args:
        folder: the image folder; the table names images relative to it.
        table: the table; by default the one of `TABLE_NAMES` lying in the folder.
        image_column: column with the image's name, by default the first found of `IMAGE_COLUMNS`.
        caption_column: column with a caption (in JSONL also a list of captions), by default of `CAPTION_COLUMNS`.
        split: keep only this split; the table's `split` column names it, train where there is none.
        file_split: the split all rows belong to.

    In a table of two columns, image and caption, commas that nobody quoted belong to the caption; in others they are an
    error that names the line.

    A column `image_id` is taken as it stands; else the id is the image's name as the table writes it. A column
    `domain` is kept.
    """
    if not os.path.isdir(folder):
        raise ValueError(f"there is no folder {folder}")
    path = Path(table) if table is not None else _table_in(folder)
    rows = read_table(path, text_columns={*TEXT_COLUMNS, *([caption_column] if caption_column else [])})
    image_column = _choose_column(rows, image_column, IMAGE_COLUMNS, path)
    caption_column = _choose_column(rows, caption_column, CAPTION_COLUMNS, path)
    images: dict[str, dict[str, Any]] = {}
    names = text_column(rows, image_column, path)
    for name, caption, row in zip(names, column(rows, caption_column, path), rows, strict=True):
        image = images.setdefault(name, {"captions": [], "row": row})
        image["captions"].extend(caption if isinstance(caption, list) else [caption])
    firsts = [image["row"] for image in images.values()]
    return caption_dataset(
        image_ids=[
            name if row.get("image_id") in (None, "") else id_text(row["image_id"])
            for name, row in zip(images, firsts, strict=True)
        ],
        names=list(images),
        captions=[image["captions"] for image in images.values()],
        splits=[file_split or row.get("split") or "train" for row in firsts],
        domains=[row.get("domain") or "" for row in firsts],
        images=folder,
        split=split,
        source=path,
    )


def read_hub(
    path: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    data_dir: str | None = None,
    data_files: str | list[str] | dict[str, str] | None = None,
    image_column: str = "image",
    caption_column: str = "captions",
    image_id_column: str | None = None,
    split: str | None = None,
) -> datasets.Dataset:
    """Any data set `datasets.load_dataset` reads: a Hub id, or `imagefolder`, `parquet`, ... on local files.

    Args:
        path, name, revision, data_dir, data_files: passed to `datasets.load_dataset`.
        image_column, caption_column: the columns with the image (an image, or a path below the working folder) and with
            its caption or list of captions.
        image_id_column: the column with the image's id; rows that share an id are joined. By default every row is
            one image and its id is `<split>-<row number>`.
        split: keep only this split; `validation` and `dev` are called val.
    """
    loaded = datasets.load_dataset(path, name=name, revision=revision, data_dir=data_dir, data_files=data_files)
    split_of = {key: split_name(split_in(str(key)) or str(key), path) for key in loaded}
    wanted = wanted_splits(split, present=set(split_of.values()), source=path) if split else set(SPLITS)
    columns = {"image": image_column, "captions": caption_column}
    parts = [
        _map_hub_split(loaded[key], split=name, columns=columns, image_id_column=image_id_column)
        for key, name in split_of.items()
        if name in wanted
    ]
    return datasets.concatenate_datasets(parts)


CAPTION_FORMATS: dict[str, Callable[..., datasets.Dataset]] = {
    "coco": read_coco_captions,
    "karpathy": read_karpathy,
    "flickr_tokens": read_flickr_tokens,
    "flickr30k_entities": read_flickr30k_entities,
    "nocaps": read_nocaps,
    "vizwiz": read_vizwiz,
    "folder": read_folder,
    "hub": read_hub,
    "pairs": read_pairs,
    "visual_genome_regions": read_genome_regions,
    "texts": read_texts,
    "mixture": read_mixture,
}


def load_captions(format: str, *, formats: Formats = CAPTION_FORMATS, **options: Any) -> datasets.Dataset:
    """Reads a caption data set by the name of its format, as recipes do.

    Args:
        format: a key of `formats`.
        formats: the function of each format, which a mixture may name too.
        options: the keyword arguments of that format's function; every one has `split`, which keeps one split
            (`"train"`) or several (`"train+restval"`).

    Returns:
        One row per image: `image_id` (str), `image` (`datasets.Image`, None without an image folder), `captions`
        (list of str, empty where the file holds none), `split` (train, val, test or restval), `domain` (str).

    Raises:
        ValueError: for an unknown format or option, a broken file, no caption, no image, an unknown split.
    """
    return format_reader(formats, format, options, kind="caption")(**options)


def _read_coco_layout(
    annotations: PathLike, *, images: PathLike | None, split: str | None, file_split: str | None, dropped: Sequence[str]
) -> datasets.Dataset:
    content = read_json(annotations)
    listed = records(content, "images", annotations)
    image_ids = [id_text(image_id) for image_id in column(listed, "id", annotations)]
    captions_of: dict[str, list[str]] = {image_id: [] for image_id in image_ids}
    notes = records(content, "annotations", annotations) if "annotations" in content else []
    notes = [note for note in notes if not any(note.get(flag) for flag in dropped)]
    strays = 0
    owners = [id_text(image_id) for image_id in column(notes, "image_id", annotations)]
    for image_id, caption in zip(owners, column(notes, "caption", annotations), strict=True):
        if image_id in captions_of:
            captions_of[image_id].append(caption)
        else:
            strays += 1
    if strays:
        warnings.warn(
            f"{annotations}: {strays} captions are of images it does not list, they are left out", stacklevel=3
        )
    from_name = split_in(Path(annotations).stem) or "train"
    return caption_dataset(
        image_ids=image_ids,
        names=column(listed, "file_name", annotations),
        captions=[captions_of[image_id] for image_id in image_ids],
        splits=[
            image.get("karpathy_split") or file_split or split_in(str(image.get("split", ""))) or from_name
            for image in listed
        ],
        domains=[image.get("domain") or "" for image in listed],
        images=images,
        split=split,
        source=annotations,
    )


def _sentence_text(sentence: Any, path: PathLike) -> str:
    if not isinstance(sentence, dict) or not sentence.keys() & {"raw", "tokens"}:
        raise ValueError(f"{path}: a sentence has neither 'raw' nor 'tokens': {str(sentence)[:120]}")
    if "raw" in sentence:
        return sentence["raw"]
    tokens = sentence["tokens"]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ValueError(f"{path}: the tokens of a sentence are no list of words: {str(tokens)[:120]}")
    return " ".join(tokens)


def _split_lists_beside(tokens: PathLike) -> dict[str, Path]:
    folder = Path(tokens).parent
    found = {word: sorted(folder.glob(f"*{word}Images.txt")) for word in ("train", "dev", "test")}
    return {word: files[0] for word, files in found.items() if files}


def _listed_splits(names: Collection[str], split_lists: Mapping[str, PathLike]) -> dict[str, str]:
    """The split of each image name, in the order of `names`; every image is train where there are no lists."""
    if not split_lists:
        return dict.fromkeys(names, "train")
    split_of_stem = {Path(line).stem: word for word, path in split_lists.items() for line in read_lines(path)}
    listed = {name: split_of_stem[Path(name).stem] for name in names if Path(name).stem in split_of_stem}
    if len(listed) < len(names):
        warnings.warn(f"{len(names) - len(listed)} images are in no split list and are left out", stacklevel=3)
    return listed


def _table_in(folder: PathLike) -> Path:
    found = [Path(folder) / name for name in TABLE_NAMES if (Path(folder) / name).is_file()]
    if len(found) != 1:
        fault = f"holds {', '.join(path.name for path in found)}" if found else "has no caption table"
        raise ValueError(f"{folder} {fault}; pass table=..., or put exactly one of {', '.join(TABLE_NAMES)} into it")
    return found[0]


def _choose_column(rows: Sequence[Mapping[str, Any]], name: str | None, usual: Sequence[str], path: PathLike) -> str:
    candidates = usual if name is None else (name,)
    chosen = next((candidate for candidate in candidates if candidate in rows[0]), None)
    if chosen is None:
        raise ValueError(
            f"{path} has no column {' or '.join(candidates)}; it has {', '.join(rows[0])} "
            "(name yours with image_column= and caption_column=)"
        )
    return chosen


def _map_hub_split(
    part: datasets.Dataset, *, split: str, columns: Mapping[str, str], image_id_column: str | None
) -> datasets.Dataset:
    """One split of a Hub data set under our columns; rows that share an id become one; images stay undecoded."""
    needed = [*columns.values(), *([image_id_column] if image_id_column else [])]
    absent = [name for name in needed if name not in part.column_names]
    if absent:
        raise ValueError(
            f"the data set has no column {', '.join(absent)}; it has {', '.join(part.column_names)} "
            "(name yours with image_column=, caption_column= and image_id_column=)"
        )
    ids = (
        [id_text(i) for i in part[image_id_column][:]]
        if image_id_column
        else [f"{split}-{i}" for i in range(len(part))]
    )
    first_row_of: dict[str, int] = {}
    captions_of: dict[str, list[str]] = {}
    for row, (image_id, texts) in enumerate(zip(ids, part[columns["captions"]][:], strict=True)):
        first_row_of.setdefault(image_id, row)
        captions_of.setdefault(image_id, []).extend(texts if isinstance(texts, list) else [texts])
    cure = "write names relative to it, or make it a column of images (datasets.Image)"
    check_image_names(part, columns["image"], cure=cure)
    images = part.select_columns(columns["image"])
    if columns["image"] != "image":
        images = images.rename_column(columns["image"], "image")
    words = caption_dataset(
        image_ids=list(captions_of),
        names=list(captions_of),
        captions=list(captions_of.values()),
        splits=[split] * len(captions_of),
        images=None,
        split=None,
        source="the data set",
    )
    kept = images.select([first_row_of[image_id] for image_id in words["image_id"]]).cast_column(
        "image", datasets.Image()
    )
    rows = datasets.concatenate_datasets([words.remove_columns("image"), kept], axis=1)
    return rows.select_columns(list(CAPTION_FEATURES))
