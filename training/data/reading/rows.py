"""The row of a reading data set: that of a question (`training/data/questions/rows.py`) and the words in its image.

columns --vqa_dataset--> rows of questions; words by image id --with_words--> rows of READING_FEATURES
"""

import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import datasets
import pyarrow as pa

from processors.words_updown import Word, word_rows
from training.data.files import LISTED, PathLike, image_paths, listed
from training.data.questions.rows import VQA_FEATURES, Columns, ImageFinder, vqa_dataset
from training.data.reading.word_layouts import Words, open_words

WORD_FEATURES = datasets.List(
    {
        "text": datasets.Value("string"),
        "box": datasets.List(datasets.Value("float32"), length=4),
        "score": datasets.Value("float32"),
    }
)
READING_FEATURES = datasets.Features({**VQA_FEATURES, "words": WORD_FEATURES})


def reading_dataset(
    chunks: Iterable[Columns],
    *,
    images: PathLike | None,
    words: PathLike | Sequence[PathLike] | Words | None,
    split: str | None,
    source: PathLike,
    find_images: ImageFinder = image_paths,
) -> datasets.Dataset:
    """Rows of `READING_FEATURES`; no image is opened.

    Args:
        chunks, images, split, source, find_images: as for `vqa_dataset`.
        words: what `open_words` takes, or words by image id; None: no row has a word.

    Raises:
        ValueError: as `vqa_dataset` and `open_words`, and where none of the images has words.
    """
    rows = vqa_dataset(chunks, images=images, split=split, source=source, find_images=find_images)
    found = {} if words is None else words if isinstance(words, Mapping) else open_words(words)
    return with_words(rows, found, source=source, wanted=words is not None)


def with_words(rows: datasets.Dataset, words: Words, *, source: PathLike, wanted: bool = True) -> datasets.Dataset:
    """Rows of `VQA_FEATURES` with the column `words`, in reading order; one warning tells images without an entry.

    words: by image id, or by the last part of it. wanted: whether an image without an entry is told.
    """
    ids = rows["image_id"][:]
    places = {image_id: place for place, image_id in enumerate(dict.fromkeys(ids))}
    found = [words_of(image_id, words) for image_id in places]
    lacking = [image_id for image_id, own in zip(places, found, strict=True) if own is None]
    if wanted and lacking:
        if len(lacking) == len(found):
            raise ValueError(
                f"{source}: none of its {len(found)} images ({listed(lacking[:LISTED], len(lacking))}) has an entry of "
                "words; are the words of another split?"
            )
        told = listed(lacking[:LISTED], len(lacking))
        warnings.warn(f"{source}: {len(lacking)} of {len(found)} images have no entry of words: {told}", stacklevel=3)
    kind = READING_FEATURES.arrow_schema.field("words").type
    of_images = pa.array([word_rows(own or ()) for own in found], kind)
    column = of_images.take(pa.array([places[image_id] for image_id in ids]))
    table = rows.with_format("arrow")[:].append_column("words", column)
    return datasets.Dataset(
        table.cast(READING_FEATURES.arrow_schema),
        info=datasets.DatasetInfo(features=READING_FEATURES),
        fingerprint=secrets.token_hex(8),
    )


def words_of(image_id: str, words: Words) -> Sequence[Word] | None:
    """The words of an image by its id, or by the last part of it; None without an entry.

    >>> words_of("coco/7", {"7": []}), words_of("8", {"7": []})
    ([], None)
    """
    for name in (image_id, PurePosixPath(image_id).name):
        if name in words:
            return words[name]
    return None
