"""NLVR2 (Suhr et al. 2019), statements about two photos, and NLVR (Suhr et al. 2017), about three drawn boxes.

    train.json (an object a line) + images --read_nlvr2 | read_nlvr--> rows of `rows.py`

The three boxes of NLVR lie side by side in one PNG, from which they are cut.
"""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from training.data.files import PathLike, image_paths, read_json_lines
from training.data.splits import split_name
from training.data.statements.rows import TRUTH, Statement, file_word, first_key, statement_dataset

ARRANGEMENTS = 6  # of the boxes of one NLVR statement
BOXES = ((0.0, 0.25), (0.375, 0.625), (0.75, 1.0))  # of the width of an NLVR image; grey lies between


def read_nlvr2(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """NLVR2's JSON, an object a line, as `train.json`, `dev.json`, `test1.json`.

    Args:
        annotations: `sentence`, `identifier` ("dev-850-0-1": split, set, pair and sentence), `label`, and in
            `train.json` the `directory` of the images.
        images: the folder of the images, `dev-850-0-img0.png` and `-img1.png`, themselves or in those directories.
        split, file_split: as for `read_snli_ve`.

    Returns:
        Rows of `STATEMENT_FEATURES` with two images; of one `group` are the pairs of one sentence, as the official
        consistency has it. Without a `label`, as in the hidden test, a row is left out.

    Raises:
        ValueError: naming file and line, for an identifier of another layout; as `statement_dataset`.
    """
    word, statements = file_word(annotations, file_split), []
    for number, record in enumerate(read_json_lines(annotations), start=1):
        place = f"{annotations}: record {number}"
        identifier = str(first_key(record, ["identifier"], place=place))
        parts = identifier.split("-")
        if len(parts) != 4:
            raise ValueError(f"{place} has the identifier {identifier!r}, not split-set-pair-sentence: is it NLVR2's?")
        folder = Path(str(record["directory"])) if record.get("directory") not in (None, "") else Path()
        names = tuple(str(folder / f"{'-'.join(parts[:3])}-img{side}.png") for side in (0, 1))
        group = "-".join([parts[0], parts[1], parts[3]])
        text = first_key(record, ["sentence"], place=place)
        statements.append(Statement(identifier, names, text, record.get("label"), word, group))
    return statement_dataset(statements, labels=TRUTH, images=images, split=split, source=annotations)


def read_nlvr(
    annotations: PathLike,
    *,
    images: PathLike,
    split: str | None = None,
    file_split: str | None = None,
    val_share: float = 0.0,
) -> datasets.Dataset:
    """NLVR's JSON, an object a line, as `train.json`, `dev.json`, `test.json`.

    Args:
        annotations: `sentence`, `identifier` ("1572-0": presentation and place), `label`, `directory`.
        images: the folder of the PNGs, `dev-1572-0-0.png` to `-5.png`, themselves or in those directories; every
            arrangement that is there is a row.
        split, file_split: as for `read_snli_ve`.
        val_share: 0..1 of the presentations of a file that is train become the split val, whole, so that no arrangement
            of a statement is in both: the last ones in the order of a hash of their number.

    Returns:
        Rows of `STATEMENT_FEATURES` with three images, cut from the PNG; of one `group` are all of a presentation.

    Raises:
        ValueError: for a `val_share` outside of 0..1, a PNG that cannot be read; as `statement_dataset`.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share is {val_share}, it must be at least 0 and below 1")
    word, given = file_word(annotations, file_split), read_json_lines(annotations)
    places = [f"{annotations}: record {number}" for number in range(1, len(given) + 1)]
    identifiers = [str(first_key(r, ["identifier"], place=p)) for r, p in zip(given, places, strict=True)]
    held_out: set[str] = set()
    if word == "train" and val_share:
        presentations = sorted({name.partition("-")[0] for name in identifiers}, key=_hash)
        held_out = set(presentations[len(presentations) - round(val_share * len(presentations)) :])
    prefix = _file_prefix(annotations)
    statements = []
    for record, place, identifier in zip(given, places, identifiers, strict=True):
        group = identifier.partition("-")[0]
        own = "val" if group in held_out else word
        text = first_key(record, ["sentence"], place=place)
        for number in range(ARRANGEMENTS):
            name = str(Path(str(record.get("directory", ""))) / f"{prefix}-{identifier}-{number}.png")
            statements.append(Statement(f"{identifier}-{number}", (name,), text, record.get("label"), own, group))
    there = _present(statements, images)
    wanted = None if split is None else {split_name(word, annotations) for word in split.split("+")}
    cut = [_cut(one, path) for one, path in there if wanted is None or one.split in wanted]
    found = cut or [one for one, _ in there]
    return statement_dataset(found, labels=TRUTH, images=None, split=split, source=annotations)


def _file_prefix(path: PathLike) -> str:
    """How the names of the images of a file begin: its own name, `dev` of `dev.json`."""
    return Path(path).stem.partition("_")[0]


def _present(statements: list[Statement], images: PathLike) -> list[tuple[Statement, str]]:
    """Each statement whose image is there with its path; `ValueError` where none is."""
    names = [one.names[0] for one in statements]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of six arrangements, one may be all that is kept
        paths = image_paths(names, images)
    return [(one, path) for one, path in zip(statements, paths, strict=True) if path is not None]


def _cut(one: Statement, path: str) -> Statement:
    """The statement with its three boxes as images of their own."""
    try:
        with Image.open(path) as file:
            whole = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {path} cannot be read ({error}): copy it again, or take it out") from error
    contents = []
    for left, right in BOXES:
        stored = io.BytesIO()
        whole.crop((round(left * whole.width), 0, round(right * whole.width), whole.height)).save(stored, format="PNG")
        contents.append(stored.getvalue())
    stem = Path(path).stem
    names = tuple(f"{stem}-box{number}" for number in range(len(BOXES)))
    return Statement(one.statement_id, names, one.text, one.label, one.split, one.group, tuple(contents))


def _hash(name: str) -> Any:
    return hashlib.sha256(name.encode()).digest()
