"""Several question data sets as one: VQA v2 with Visual Genome's questions, say.

parts, each with the options of load_vqa --read_mixture--> their rows in one data set, one row a question
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.data.files import Formats, PathLike
from training.data.mixture_parts import part_rows
from training.data.questions.rows import VQA_FEATURES, vqa_splits
from training.data.splits import NoSuchSplitError

# Formats whose data sets call the same image by the same id.
IMAGE_IDS = {
    **dict.fromkeys(("vqa_v2", "lxmert_vqa", "aokvqa", "pope"), "coco"),
    **dict.fromkeys(("gqa", "lxmert_gqa", "visual7w", "visual_genome_qa"), "visual_genome"),
    **{format: format for format in ("daquar", "scenes")},
}
PART_KEYS = ("format", "splits", "share", "limit", "prefix", "image_ids")


@dataclass
class _Part:
    """A part of a mixture: its number from 1, its rows, what the recipe says of it, and whose image ids it has."""

    number: int
    rows: datasets.Dataset
    options: Mapping[str, Any]
    image_ids: str


def read_mixture(
    parts: Sequence[Mapping[str, Any]],
    *,
    formats: Formats,
    images: PathLike | None = None,
    split: str | None = None,
    seed: int = 0,
) -> datasets.Dataset:
    """Several data sets as one, in the order of the parts.

    Args:
        parts: the options of `load_vqa` of each, `{"format": "vqa_v2", ...}`, and beside them, each optional:
            `splits` (`["train"]`: it takes part in these alone), `share` (0..1 of its questions, drawn by `seed`),
            `limit` (so many questions at most), `prefix` (for its ids) and `image_ids`.
        formats: the function of each format.
        images: the image folder of the parts that name none.
        split: keep only this split; parts that do not have it are passed over.
        seed: another seed draws other shares.

    Question ids that stood in an earlier part get the `prefix` (by default the format's name) and a dash before them.
    Image ids get one wherever a part's images are not those of the first part, so that regions stored under an id never
    belong to another image, whatever split is read: `visual_genome-4` behind COCO's image 4. Formats on the same images
    (`IMAGE_IDS`) share ids; parts with the same `image_ids`, a word of yours, do so too.

    Raises:
        ValueError: naming the part, for what its reader raises, an unknown key, a share or limit that is none.
        NoSuchSplitError: where no part has the split.
    """
    if not isinstance(parts, Sequence) or not parts or not all(isinstance(p, Mapping) and "format" in p for p in parts):
        raise ValueError('parts of a mixture is a list of data sets, [{"format": "vqa_v2", ...}, ...]')
    image_ids = _image_ids(parts)
    loaded = []
    where: Any = {"formats": formats, "images": images, "split": split}
    for number, options in enumerate(parts, start=1):
        try:
            _check_draw(options)
            rows = part_rows(options, kind="VQA", part_keys=PART_KEYS, splits_in=vqa_splits, **where)
        except ValueError as error:
            raise ValueError(f"part {number} of the mixture ({options['format']}): {error}") from error
        if rows is not None:
            loaded.append(_Part(number, rows, options, image_ids[number - 1]))
    if not loaded:
        raise NoSuchSplitError(f"no part of the mixture has the split {split!r}")
    named = _with_own_ids(loaded, first_image_ids=image_ids[0])
    return datasets.concatenate_datasets(
        [
            _drawn(rows, part.options, rng=np.random.default_rng((seed, part.number)))
            for rows, part in zip(named, loaded, strict=True)
        ]
    )


def _image_ids(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose image ids each part has: a word that parts on the same images share."""
    found: list[str] = []
    for number, part in enumerate(parts, start=1):
        own = part["format"] if part["format"] not in found else f"{part['format']}{number}"
        found.append(str(part.get("image_ids", IMAGE_IDS.get(part["format"], own))))
    return found


def _check_draw(part: Mapping[str, Any]) -> None:
    share, limit = part.get("share", 1.0), part.get("limit", 1)
    if not isinstance(share, int | float) or not 0 < share <= 1 or type(limit) is not int or limit < 1:
        raise ValueError(f"share is {share} and limit {limit}; a share lies in 0..1, a limit is a number of questions")


def _drawn(rows: datasets.Dataset, part: Mapping[str, Any], *, rng: np.random.Generator) -> datasets.Dataset:
    """The part's share of its questions, in their order."""
    size = min(max(round(part.get("share", 1.0) * len(rows)), 1), part.get("limit", len(rows)))
    return rows if size == len(rows) else rows.select(np.sort(rng.permutation(len(rows))[:size]))


def _with_own_ids(parts: Sequence[_Part], *, first_image_ids: str) -> list[datasets.Dataset]:
    """The parts' rows with ids that no other part has."""
    taken: list[pa.ChunkedArray] = []
    found = []
    for part in parts:
        rows = part.rows
        word = part.options.get("prefix", part.options["format"])
        for prefix in ("", f"{word}-", f"{word}{part.number}-"):
            ids = pc.binary_join_element_wise(prefix, _column(part.rows, "question_id"), "")
            if not any(pc.any(pc.is_in(ids, value_set=other)).as_py() for other in taken):
                break
        taken.append(ids)
        if prefix:
            rows = _replaced(rows, "question_id", ids)
        if part.image_ids != first_image_ids:
            ids = pc.binary_join_element_wise(f"{part.image_ids}-", _column(rows, "image_id"), "")
            rows = _replaced(rows, "image_id", ids)
        found.append(rows)
    return found


def _column(rows: datasets.Dataset, name: str) -> pa.ChunkedArray:
    return rows.with_format("arrow")[name][:]


def _replaced(rows: datasets.Dataset, name: str, values: pa.ChunkedArray) -> datasets.Dataset:
    added = rows.remove_columns(name).add_column(name, values.to_pylist(), feature=VQA_FEATURES[name])
    return added.select_columns(list(VQA_FEATURES))
