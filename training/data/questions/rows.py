"""The row of a visual question answering data set, and the one function that builds rows from columns.

    a reader of training/data/questions/ --columns, chunk by chunk--> question_table --vqa_dataset--> datasets.Dataset

One row a question. A question that cannot be used is left out and the rest goes on: every kind of fault is told in one
warning with the ids of up to five questions and how many there are.
"""

import os
import re
import secrets
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from training.data.files import LISTED, PathLike, all_texts, id_text, image_paths, listed
from training.data.splits import OTHER_WORDS, SPLITS, NoSuchSplitError

VQA_FEATURES = datasets.Features(
    {
        "question_id": datasets.Value("string"),
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "question": datasets.Value("string"),
        "answers": datasets.List(datasets.Value("string")),
        "answer": datasets.Value("string"),
        "question_type": datasets.Value("string"),
        "answer_type": datasets.Value("string"),
        "choices": datasets.List(datasets.Value("string")),
        "correct_choice": datasets.Value("int32"),
        "split": datasets.Value("string"),
        "details": datasets.Value("string"),
    }
)
VQA_SPLITS = (*SPLITS, "test-dev", "challenge")
HIDDEN_SPLITS = ("test", "test-dev", "challenge")  # those whose answers the organisers keep
OTHER_SPLIT_WORDS = {
    **OTHER_WORDS,
    "valid": "val",
    "minival": "val",  # LXMERT's cut of VQA v2's validation images, and what it trains on of them
    "nominival": "restval",
    **dict.fromkeys(("testdev", "test_dev"), "test-dev"),
    **dict.fromkeys(("test-std", "test_std", "teststd", "submission", "submit"), "test"),
}
SPLIT_WORD = re.compile(
    r"(?<![a-z])(?:test[-_]?dev|test[-_]?std|challenge|submission|submit|nominival|minival|restval|train|validation"
    r"|valid|val|dev|test)(?![a-z])"
)
COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})\.jpg")
COCO_EDITIONS = ("", "COCO_train2014_", "COCO_val2014_", "COCO_test2015_")
ROWS_A_CHUNK = 5_000

TABLE_SCHEMA = pa.schema(
    {
        **{name: VQA_FEATURES.arrow_schema.field(name).type for name in VQA_FEATURES if name != "image"},
        "name": pa.string(),
    }
)
LISTS = ("answers", "choices")
_KIND = {name: "no list of texts as" if name in LISTS else "no text as" for name in TABLE_SCHEMA.names}
DEFAULTS: dict[str, Any] = {"answers": [], "choices": [], "correct_choice": -1}

Columns = Mapping[str, Sequence[Any] | pa.Array]
ImageFinder = Callable[[Sequence[str], PathLike], list[str | None]]


class Faults:
    """Collects what is wrong with which questions, to tell each kind of fault in one warning."""

    def __init__(self, source: PathLike) -> None:
        self.source = source
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, fault: str, ids: Collection[str]) -> None:
        """Notes `fault`, such as "questions are empty and left out", for these questions; none is no fault."""
        if ids:
            self.counts[fault] = self.counts.get(fault, 0) + len(ids)
            examples = self.examples.setdefault(fault, [])
            examples.extend(islice(ids, LISTED - len(examples)))

    def warn(self) -> None:
        """Tells what was noted."""
        for fault, count in self.counts.items():
            warnings.warn(f"{self.source}: {count} {fault}: {listed(self.examples[fault], count)}", stacklevel=3)


def vqa_dataset(
    chunks: Iterable[Columns],
    *,
    images: PathLike | None,
    split: str | None,
    source: PathLike,
    find_images: ImageFinder = image_paths,
) -> datasets.Dataset:
    """Rows of `VQA_FEATURES`; no image is opened.

    Args:
        chunks: the columns as `question_table` takes them; a small file's are one chunk, `[columns]`.
        images: image folder; questions whose image is missing there are left out with one warning, and None gives rows
            whose `image` is None.
        split: `"train"` or `"train+val"` keeps these, None keeps all.
        source: the file named in errors and warnings.
        find_images: how the images are looked for; `official_image_paths` also knows the other names that images of
            COCO and Visual Genome go by.

    Raises:
        ValueError: as `question_table` and `image_paths`.
    """
    table = question_table(chunks, split=split, source=source)
    if images is None:
        return with_images(table, pa.nulls(len(table), VQA_FEATURES.arrow_schema.field("image").type))
    names = pc.unique(table["name"])
    paths = pa.array(find_images(names.to_pylist(), images), pa.string())
    column = paths.take(pc.index_in(table["name"], value_set=names))  # (questions,) path, null where it is missing
    found = pc.is_valid(column)
    return with_images(table.filter(found), _as_images(column.filter(found)))


def question_table(chunks: Iterable[Columns], *, split: str | None, source: PathLike) -> pa.Table:
    """Checks and joins columns: a table of `TABLE_SCHEMA` (`VQA_FEATURES` with the image's `name` for the `image`).

    Args:
        chunks: equally long columns `question_id`, `image_id` (text or numbers), `question`, `split`, and any other of
            `TABLE_SCHEMA`; what is not given is empty. An `answer` that is "" becomes the text of the
            `correct_choice`, and a `correct_choice` that is None or -1 the place of the `answer` in the `choices`.
        split, source: as for `vqa_dataset`.

    Left out with a warning: questions that are empty or no text, that have answers or choices that are no text, whose
    `correct_choice` is outside of their choices, and those whose id stood before. Choices that stand twice are kept
    once. Where the column `choices` is given, questions without any are told.

    Raises:
        NoSuchSplitError: where there is no question of the wanted split.
        ValueError: for an unknown split, and where no question is left.
    """
    faults = Faults(source)
    tables = [_chunk_table(columns, source=source, faults=faults) for columns in chunks]
    table = pa.concat_tables(tables) if tables else TABLE_SCHEMA.empty_table()
    if not len(table):
        faults.warn()
        raise ValueError(f"{source} holds no question that can be used; is it cut short?")
    if split is not None:
        present = pc.unique(table["split"]).to_pylist()
        wanted = vqa_splits(split, source)
        if not wanted & set(present):
            told = f"{source} has no question of the split {split!r}; it has {', '.join(sorted(present))}"
            raise NoSuchSplitError(told, present=present)
        table = table.filter(pc.is_in(table["split"], value_set=pa.array(sorted(wanted))))
    table = _without_repeats(table, faults)
    faults.warn()
    return table


def with_images(table: pa.Table, images: pa.Array | pa.ChunkedArray) -> datasets.Dataset:
    """A `question_table` as a data set whose `image` column is `images`: structs of `bytes` and `path`, or null."""
    columns = {name: images if name == "image" else table[name] for name in VQA_FEATURES}
    return datasets.Dataset(
        pa.table(columns, schema=VQA_FEATURES.arrow_schema),
        info=datasets.DatasetInfo(features=VQA_FEATURES),
        fingerprint=secrets.token_hex(8),  # one of the content would take several times its memory
    )


def official_image_paths(names: Sequence[str], folder: PathLike) -> list[str | None]:
    """`image_paths` for data sets whose image names are the same everywhere: also looked for in the sub-folders.

    An image of COCO is found as `COCO_val2014_000000000042.jpg` and as `000000000042.jpg`, one of Visual7W with and
    without `v7w_`, each as .jpg and .png, in `folder` and in the folders directly in it (`val2014`, `VG_100K_2`).
    """
    places = _places_by_name(folder)
    known = [
        next((places[other] for other in _other_names(os.path.basename(name)) if other in places), name)
        for name in names
    ]
    return image_paths(known, folder)


def vqa_split(word: str, source: PathLike) -> str:
    """Our name of a split (`validation` is val, `testdev` is test-dev); ValueError for a word that is none."""
    name = OTHER_SPLIT_WORDS.get(word, word) if isinstance(word, str) else None
    if name is None or name not in VQA_SPLITS:
        raise ValueError(f"{source}: unknown split {word!r}; the splits are {', '.join(VQA_SPLITS)}")
    return name


def vqa_splits(split: str, source: PathLike) -> set[str]:
    """Our names of the splits in `"train+val"`."""
    return {vqa_split(word, source) for word in split.split("+")}


def split_in(name: str) -> str | None:
    """The split a file's name, or a field such as `val2014`, speaks of; None where it speaks of none.

    >>> split_in("v2_OpenEnded_mscoco_test-dev2015_questions"), split_in("nominival"), split_in("questions")
    ('test-dev', 'restval', None)
    """
    found = SPLIT_WORD.search(name.lower())
    return vqa_split(found.group(), name) if found else None


def in_chunks(rows: Iterable[Mapping[str, Any]], size: int = ROWS_A_CHUNK) -> Iterator[Columns]:
    """Rows with the same keys as columns for `vqa_dataset`, a chunk at a time."""
    rows = iter(rows)
    for chunk in iter(lambda: list(islice(rows, size)), []):
        yield {name: [row[name] for row in chunk] for name in chunk[0]}


def field(record: Mapping[str, Any], key: str, *, place: str) -> Any:
    """A field a record must have; ValueError naming the place ("questions.json: record 7") where it has none."""
    value = record.get(key)
    if value is None:
        raise ValueError(f"{place} has no {key!r}: {str(record)[:120]}")
    return value


def id_field(record: Mapping[str, Any], key: str, *, place: str) -> str:
    """An id that a record must have, as `id_text` writes it; ValueError naming the place where it has none."""
    return id_text(field(record, key, place=place))


def as_paths(paths: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """One path or several as a list; ValueError for an empty one."""
    found = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not found:
        raise ValueError("an empty list of files is given; name at least one")
    return found


def joined(paths: Sequence[PathLike]) -> str:
    """The files as an error names them."""
    return " and ".join(map(str, paths))


def text_column(values: Sequence[Any] | pa.Array, name: str) -> pa.Array:
    """Values as the Arrow array of a column of `TABLE_SCHEMA`, null where one is no text or no list of texts."""
    kind = TABLE_SCHEMA.field(name).type
    if isinstance(values, pa.Array):
        return values
    if name in LISTS:
        plain = set(map(type, values)) <= {list} and all_texts(chain.from_iterable(values))
        return pa.array(values if plain else [value if _is_list_of_texts(value) else None for value in values], kind)
    plain = all_texts(values)
    return pa.array(values if plain else [value if _is_text(value) else None for value in values], kind)


def _chunk_table(columns: Columns, *, source: PathLike, faults: Faults) -> pa.Table:
    by_hand = ("question_id", "image_id", "split", *(("answer", "choices") if "choices" in columns else ()))
    rows = {name: _as_list(values) if name in by_hand else values for name, values in columns.items()}
    for name in ("question_id", "image_id"):
        rows[name] = list(map(id_text, rows[name]))
    rows["split"] = list(map(str, rows["split"]))
    our_name = {word: vqa_split(word, source) for word in set(rows["split"])}
    rows["split"] = [our_name[word] for word in rows["split"]]
    size = len(rows["question_id"])
    if "choices" in rows:
        rows = _with_checked_choices(rows, faults)
    else:
        rows.pop("correct_choice", None)
    empty = {name: pa.scalar(DEFAULTS.get(name, ""), TABLE_SCHEMA.field(name).type) for name in TABLE_SCHEMA.names}
    table = pa.table(
        {
            name: pa.array(rows[name], pa.int32())
            if name == "correct_choice" and name in rows
            else text_column(rows[name], name)
            if name in rows
            else pa.repeat(empty[name], size)
            for name in TABLE_SCHEMA.names
        },
        schema=TABLE_SCHEMA,
    )
    return _usable(table, faults)


def _as_list(values: Sequence[Any] | pa.Array) -> list[Any]:
    return values.to_pylist() if isinstance(values, pa.Array) else list(values)


def _usable(table: pa.Table, faults: Faults) -> pa.Table:
    """The rows without a null, and with a question that is not blank."""
    for name in TABLE_SCHEMA.names:
        if table[name].null_count:
            what = (
                "a correct_choice outside of their choices" if name == "correct_choice" else f"{_KIND[name]} {name!r}"
            )
            table = _filtered(table, pc.is_valid(table[name]), f"questions have {what} and are left out", faults)
    asked = pc.utf8_trim_whitespace(table["question"])
    table = table.set_column(table.schema.get_field_index("question"), TABLE_SCHEMA.field("question"), asked)
    return _filtered(table, pc.not_equal(asked, ""), "questions are empty and left out", faults)


def _filtered(table: pa.Table, keep: pa.ChunkedArray, fault: str, faults: Faults) -> pa.Table:
    faults.add(fault, table["question_id"].filter(pc.invert(keep)).to_pylist())
    return table.filter(keep)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and all_texts(value)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _with_checked_choices(rows: Mapping[str, Sequence[Any]], faults: Faults) -> dict[str, Sequence[Any]]:
    """Choices once each, `correct_choice` a row of them or None, and the two ways to tell the answer brought together.

    Choices that are no list of texts stay as they are.
    """
    ids = rows["question_id"]
    answers = list(rows.get("answer") or [""] * len(ids))
    correct = list(rows.get("correct_choice") or [-1] * len(ids))
    choices = list(rows["choices"])
    repeated, unchosen = [], []
    for i, given in enumerate(choices):
        row = -1 if correct[i] is None else correct[i]
        if not _is_list_of_texts(given):
            correct[i] = -1
            continue
        choices[i] = list(dict.fromkeys(given))
        if len(choices[i]) < len(given):
            repeated.append(ids[i])
        if not given:
            unchosen.append(ids[i])
        if type(row) is not int or not -1 <= row < len(given):
            correct[i] = None
        elif row >= 0:
            correct[i] = choices[i].index(given[row])
            answers[i] = answers[i] or given[row]
        else:
            correct[i] = choices[i].index(answers[i]) if answers[i] in given else -1
    faults.add("questions have a choice twice, which is kept once", repeated)
    faults.add("questions have no choices and can only be answered openly", unchosen)
    return {**rows, "answer": answers, "choices": choices, "correct_choice": correct}


def _without_repeats(table: pa.Table, faults: Faults) -> pa.Table:
    """The first question of each id."""
    ids = table["question_id"]
    if pc.count_distinct(ids).as_py() == len(ids):
        return table
    seen: set[str] = set()
    first = []
    for question_id in ids.to_pylist():
        first.append(question_id not in seen)
        seen.add(question_id)
    return _filtered(
        table, pa.chunked_array([first]), "questions have an id that stood before and are left out", faults
    )


def _as_images(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = VQA_FEATURES.arrow_schema.field("image").type
    structs = [
        pa.StructArray.from_arrays([pa.nulls(len(chunk), pa.binary()), chunk], fields=list(kind))
        for chunk in paths.chunks
    ]
    return pa.chunked_array(structs, kind)


def _places_by_name(folder: PathLike) -> dict[str, str]:
    """Where each file lies, relative to `folder`: in it, or in a folder directly in it."""
    if not os.path.isdir(folder):
        raise ValueError(f"there is no image folder {folder}")
    with os.scandir(folder) as entries:
        sub_folders = sorted(entry.name for entry in entries if entry.is_dir())
    places: dict[str, str] = {}
    for place in ("", *sub_folders):
        for name in os.listdir(os.path.join(folder, place)):
            places.setdefault(name, os.path.join(place, name))
    return places


def _other_names(name: str) -> list[str]:
    """The names an image goes by, its own first."""
    names = [name]
    number = COCO_NAME.fullmatch(name)
    if number:
        names += [f"{edition}{number.group(1)}.jpg" for edition in COCO_EDITIONS]
    if name.startswith("v7w_"):
        names.append(name.removeprefix("v7w_"))
    stem, _ = os.path.splitext(name)
    return [*names, f"{stem}.jpg", f"{stem}.png"]
