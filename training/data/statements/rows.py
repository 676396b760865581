"""The row of a data set of statements: one image or several, a sentence about them, and the class it belongs to.

    a reader of training/data/statements/formats.py, or training/scenes/statements.py --statement_dataset-->
    datasets.Dataset

What cannot be used is left out, and one warning counts it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from training.data.boxes.rows import LeftOut, dataset_of
from training.data.files import PathLike, all_texts, image_paths
from training.data.splits import split_in, split_name, wanted_splits

STATEMENT_FEATURES = datasets.Features(
    {
        "statement_id": datasets.Value("string"),
        "image_ids": datasets.List(datasets.Value("string")),
        "images": datasets.List(datasets.Image()),
        "statement": datasets.Value("string"),
        "label": datasets.Value("string"),
        "group": datasets.Value("string"),
        "split": datasets.Value("string"),
    }
)
ENTAILMENT = ("entailment", "neutral", "contradiction")
TRUTH = ("false", "true")


@dataclass(frozen=True)
class Statement:
    """A sentence about images, before these are looked for.

    statement_id: of the sentence with these images; names: the images' files, relative to the image folder; label: one
    of the classes; group: what statements of one sentence share, with which consistency is counted; images: their own
    bytes, where they lie in no file.
    """

    statement_id: str
    names: tuple[str, ...]
    text: Any
    label: Any
    split: str
    group: str = ""
    images: tuple[bytes, ...] = ()


def statement_dataset(
    statements: Sequence[Statement],
    *,
    labels: Sequence[str],
    images: PathLike | None,
    split: str | None,
    source: PathLike,
) -> datasets.Dataset:
    """Rows of `STATEMENT_FEATURES`; no image is opened.

    Args:
        statements: in the order of the rows.
        labels: the classes, compared without regard to case.
        images: the image folder; None where statements hold their images, or for rows without images.
        split: `"train"` or `"train+val"` keeps these, None keeps all.
        source: the file named in errors and warnings.

    Returns:
        A row a statement. Left out, with one warning that counts them: statements that are empty or no text, whose
        class is none of `labels` ("-" where people did not agree), whose id stood before, or one of whose images is
        missing.

    Raises:
        ValueError: where no statement can be used, an unknown split, and as `image_paths`; `NoSuchSplitError` where
            there is none of the wanted split.
    """
    left_out = LeftOut(source)
    present = {statement.split for statement in statements}
    wanted = wanted_splits(split, present=present, source=source) if split is not None else present
    own = [statement for statement in statements if statement.split in wanted]
    known = {label.casefold(): label for label in labels}
    seen: set[str] = set()
    kept = [one for one in own if not _fault(one, known, seen, left_out)]
    if images is not None:
        kept = _with_files(kept, images, left_out)
    left_out.warn()
    if not kept:
        raise ValueError(
            f"{source} has no statement{f' of the split {split!r}' if split else ''} that can be used: each needs a "
            f"text, its images and one of the classes {', '.join(labels)}"
        )
    return dataset_of((_row(one, known, in_files=images is not None) for one in kept), STATEMENT_FEATURES)


def file_word(path: PathLike, file_split: str | None) -> str:
    """The split of a file's rows: `file_split`, else the one that its name speaks of, else train.

    >>> file_word("snli_ve_dev.jsonl", None), file_word("pairs.jsonl", None), file_word("dev.json", "train")
    ('val', 'train', 'train')
    """
    return split_name(file_split or split_in(Path(path).name) or "train", path)


def first_key(record: Mapping[str, Any], keys: Sequence[str], *, place: str) -> Any:
    """The value of the first of the keys that a record has; `ValueError` naming the place where it has none."""
    found = next((record[key] for key in keys if record.get(key) not in (None, "")), None)
    if found is None:
        raise ValueError(f"{place} has none of {', '.join(keys)}: {str(dict(record))[:120]}")
    return found


def _fault(one: Statement, known: Mapping[str, str], seen: set[str], left_out: LeftOut) -> str:
    """Why a statement cannot be used, "" where it can."""
    fault = ""
    if not isinstance(one.text, str) or not one.text.strip() or not all_texts([one.text]):
        fault = "statements that are empty or no text"
    elif str(one.label).casefold() not in known:
        fault = f"statements whose class is none of {', '.join(known.values())}"
    elif one.statement_id in seen:
        fault = "statements whose id stood before"
    seen.add(one.statement_id)
    if fault:
        left_out.add(fault, one.statement_id)
    return fault


def _with_files(kept: Sequence[Statement], images: PathLike, left_out: LeftOut) -> list[Statement]:
    """Those whose images all lie in the folder, with paths in the place of names."""
    names = list(dict.fromkeys(name for one in kept for name in one.names))
    path_of = dict(zip(names, image_paths(names, images) if names else [], strict=True))
    found = []
    for one in kept:
        paths = [path_of[name] for name in one.names]
        if None in paths:
            left_out.add("statements of which an image is missing", one.statement_id)
            continue
        found.append(Statement(one.statement_id, tuple(map(str, paths)), one.text, one.label, one.split, one.group))
    return found


def _row(one: Statement, known: Mapping[str, str], *, in_files: bool) -> dict[str, Any]:
    stored: list[dict[str, Any] | None] = [{"bytes": content, "path": None} for content in one.images]
    if not one.images:
        stored = [{"bytes": None, "path": name} if in_files else None for name in one.names]
    return {
        "statement_id": one.statement_id,
        "image_ids": [Path(name).stem for name in one.names],
        "images": stored,
        "statement": one.text.strip(),
        "label": known[str(one.label).casefold()],
        "group": one.group or one.statement_id,
        "split": one.split,
    }
