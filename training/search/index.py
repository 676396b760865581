"""Search for images by text and for texts by image, in an index on disk or a `datasets.Dataset`.

    text --ImageIndex.search--> images     image --search_texts--> texts     image --search_similar--> images

The dot product of the vectors finds the nearest (ITC); with `rerank` the model then reads each of the best with the
query and orders them by its match score (ITM; both as in ALBEF, Li et al. 2021).
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Image, List, Value, concatenate_datasets
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm

from modeling_updown import load_image
from training.console import one_line
from training.data.files import PathLike
from training.regions.extract import image_of, undecoded
from training.regions.image_marks import UNKNOWN, changed_images, image_mark
from training.regions.store import RegionStore
from training.search.clips import frame_at
from training.search.embedding import Embedder, VectorSink, embed_images
from training.search.index_files import EmbeddingTable, check_fingerprint, known_mark, read_index, resolved_place
from training.search.nearest import FaissSearch, exact_top_k

RECALL_QUERIES = 100


@dataclass
class Found:
    """Results of a search, the best first.

    rows: rows of the data set (`ImageIndex.from_dataset`), else places in the index's images or texts.
    scores: cosine of query and result, -1..1.
    match_probs: the model's match probability, 0..1; None for results that were not re-ranked.
    unread: one line for each image that could not be read for re-ranking; such images follow the re-ranked ones.
    """

    rows: list[int]
    scores: list[float]
    match_probs: list[float | None]
    unread: list[str] = field(default_factory=list)


class ImageIndex:
    """Images, and optionally texts, as vectors that can be searched.

    Attributes:
        images, texts: their vectors (N, E) and entries; `texts` is empty if only images were indexed.
        broken: with `from_dataset`, one line for each image that could not be read and is not in the index.
    """

    def __init__(
        self, embedder: Embedder, images: EmbeddingTable, texts: EmbeddingTable | None = None, *, rows: Sequence[int]
    ) -> None:
        self.embedder, self.images = embedder, images
        self.texts = texts or EmbeddingTable(np.empty((0, images.embeddings.shape[1]), np.float32), [])
        self.rows = rows  # the number that `search` returns for each image
        self.image_folder: Path | None = None
        self.store_folder: Path | None = None
        self.regions_made_by: dict[str, Any] = {}
        self.dataset: Dataset | None = None
        self.broken: list[str] = []
        self._faiss_kind: str | None = None
        self._faiss: dict[str, FaissSearch] = {}

    @classmethod
    def open(
        cls,
        folder: PathLike,
        model: Any,
        processor: Any,
        *,
        image_folder: PathLike | None = None,
        batch_size: int = 32,
    ) -> "ImageIndex":
        """An index that `updown index` wrote, with the model that made it; the vectors are memory-mapped.

        image_folder: the folder of the images, if they have moved. Raises `ValueError` for an index of another model,
        one without an image, and a folder that is not an index.
        """
        manifest, tables = read_index(folder)
        embedder = Embedder(model, processor, batch_size=batch_size)
        check_fingerprint(manifest["fingerprint"], {"model": embedder.fingerprint()["model"]}, folder=folder)
        if "photos" not in tables:
            raise ValueError(f"the index {folder} holds no image yet: add some with `updown index`")
        widths = {table.embeddings.shape[1] for table in tables.values()}
        if len(widths) > 1:
            raise ValueError(f"the images and texts of the index {folder} differ in width: index them again")
        index = cls(embedder, tables["photos"], tables.get("texts"), rows=range(len(tables["photos"])))
        place = image_folder or (manifest["photo_folder"] and resolved_place(manifest["photo_folder"], folder))
        index.image_folder = Path(place) if place else None
        if manifest["region_store"]:
            index.store_folder = resolved_place(manifest["region_store"], folder)
            index.regions_made_by = manifest["fingerprint"].get("regions") or {}
        return index

    @classmethod
    def from_dataset(
        cls, dataset: Dataset, model: Any, processor: Any, *, image_column: str = "image", batch_size: int = 32
    ) -> "ImageIndex":
        """An index of a data set's images in memory; `dataset.select(index.search("two dogs").rows)` are the results.

        Images that cannot be read are listed in `broken` and left out. Raises `ValueError` if none can be read.
        """
        embedder = Embedder(model, processor, batch_size=batch_size)
        images = images_of_column(dataset, image_column)
        sink = VectorSink(embedder)
        broken = embed_images(images, sink)
        if not sink.kept:
            raise ValueError(f"none of the {len(dataset)} images can be read: {'; '.join(broken[:1]) or 'no row'}")
        kept = sorted((int(name), vector) for name, vector in sink.kept)
        rows = [row for row, _ in kept]
        table = EmbeddingTable(np.stack([vector for _, vector in kept]), [{"id": str(row)} for row in rows])
        index = cls(embedder, table, rows=rows)
        index.dataset, index.broken = images, broken
        return index

    # -- searching ---------------------------------------------------------------------------------------------------

    def search(self, text: str, *, top_k: int = 10, rerank: int = 0) -> Found:
        """The images nearest to a text; the first `rerank` of them are re-ordered by the model's match score."""
        found = self.nearest("photos", self.embedder.text_vectors([text]), top_k=max(top_k, rerank))
        if rerank:
            places = found.rows[:rerank]
            logits, found.unread = self.match_logits(text, places)
            found = reordered(found, logits)
        found = first(found, top_k)
        found.rows = [self.rows[place] for place in found.rows]
        return found

    def search_texts(self, image: PilImage, *, top_k: int = 10, rerank: int = 0) -> Found:
        """The indexed texts nearest to an image; `rerank` as in `search`.

        Raises `ValueError` if the index holds no text.
        """
        if not len(self.texts):
            raise ValueError(
                "the index holds no texts: index again with --captions FILE, or search for images (--similar)"
            )
        regions = self.embedder.regions([image])
        found = self.nearest("texts", self.embedder.regions_vectors(regions), top_k=max(top_k, rerank))
        if rerank:
            texts = [self.texts.entries[place]["text"] for place in found.rows[:rerank]]
            logits = self.embedder.match(texts, regions, image_index=[0] * len(texts))
            found = reordered(found, logits)
        return first(found, top_k)

    def search_similar(self, image: PilImage, *, top_k: int = 10) -> Found:
        """The images most similar to an image."""
        found = self.nearest("photos", self.embedder.regions_vectors(self.embedder.regions([image])), top_k=top_k)
        found.rows = [self.rows[place] for place in found.rows]
        return found

    def nearest(self, table: str, query: np.ndarray, *, top_k: int) -> Found:
        """The places of the vectors nearest to one query (1, E) in the table `photos` or `texts`."""
        kept = self.table(table)
        if self._faiss_kind is None:
            scores, rows = exact_top_k(query, kept.embeddings, top_k=top_k)
        else:
            scores, rows = self.faiss(table).top_k(query, top_k=top_k)
        places = rows[0][rows[0] >= 0].tolist()
        return Found(places, scores[0][: len(places)].tolist(), [None] * len(places))

    def table(self, name: str) -> EmbeddingTable:
        """The table `photos` or `texts`, by its name in the files of an index."""
        return {"photos": self.images, "texts": self.texts}[name]

    def use_faiss(self, kind: str = "flat") -> None:
        """Use faiss for the following searches; `kind` as for `FaissSearch`.

        Raises `ImportError` if it is not installed, and `ValueError` for an unknown kind.
        """
        self._faiss_kind, self._faiss = kind, {}
        self.faiss("photos")

    def faiss(self, table: str) -> FaissSearch:
        """The faiss index of the table `photos` or `texts`, built at its first use."""
        if table not in self._faiss:
            self._faiss[table] = FaissSearch(self.table(table).embeddings, kind=self._faiss_kind or "flat")
        return self._faiss[table]

    def faiss_recall(self, table: str) -> float:
        """The share, 0..1, of the exact top 10 of the table `photos` or `texts` that faiss finds.

        Measured on up to 100 queries, evenly sampled from the index itself: texts for images and images for texts if it
        has both, else images for images.
        """
        queries = (self.texts if table == "photos" and len(self.texts) else self.images).embeddings
        return self.faiss(table).recall(np.asarray(queries[:: max(1, len(queries) // RECALL_QUERIES)]))

    # -- images ------------------------------------------------------------------------------------------------------

    def image(self, place: int) -> PilImage:
        """The image at a place of `images`.

        Raises `OSError` or `ValueError` if it cannot be read, the index does not have its path, or the file is another
        image than the one indexed.
        """
        if self.dataset is not None:
            return image_of(self.dataset[self.rows[place]])
        path, entry = self.image_path(place), self.images.entries[place]
        image = load_image(path) if entry.get("seconds") is None else frame_at(path, float(entry["seconds"]))
        if known_mark(entry) not in (UNKNOWN, image_mark({"path": str(path)})):
            raise ValueError(f"{path} is another image than was indexed as {entry['id']!r}: index the images again")
        return image

    def image_path(self, place: int) -> Path:
        """The path of the image at a place of `images`.

        Raises `ValueError` if the index does not have it, or it is outside of the image folder.
        """
        entry = self.images.entries[place]
        path = entry.get("path")
        if not isinstance(path, str) or self.image_folder is None:
            raise ValueError(
                f"the index does not have the path of the image {entry['id']!r}: name its folder in --images"
            )
        joined = Path(os.path.normpath(self.image_folder / path))
        if not joined.is_relative_to(os.path.normpath(self.image_folder)):
            raise ValueError(f"the path {path!r} of the image {entry['id']!r} leads out of {self.image_folder}")
        return joined

    def captions(self, place: int) -> list[str]:
        """The indexed texts that belong to the image at a place of `images`."""
        return self.captions_of.get(self.images.entries[place]["id"], [])

    @property
    def captions_of(self) -> dict[str, list[str]]:
        """The indexed texts of each image by its id."""
        if not hasattr(self, "_captions_of"):
            self._captions_of: dict[str, list[str]] = {}
            for entry in self.texts.entries:
                if isinstance(entry.get("photo"), str):
                    self._captions_of.setdefault(entry["photo"], []).append(entry["text"])
        return self._captions_of

    @property
    def store(self) -> RegionStore | None:
        """The region store that was indexed; None if there was none, or it was removed.

        Raises `ValueError` if it was replaced by another one.
        """
        if not hasattr(self, "_store"):
            there = self.store_folder is not None and self.store_folder.is_dir()
            self._store = RegionStore(self.store_folder) if there else None  # type: ignore[arg-type]
            if self._store is not None:
                self._store.check_fingerprint(self.regions_made_by, on_mismatch="error")
        return self._store

    def stored_regions(self, store: RegionStore, places: Sequence[int]) -> dict[str, torch.Tensor]:
        """The regions of the images at some places; raises `ValueError` if the store does not hold one any more."""
        ids = [self.images.entries[place]["id"] for place in places]
        lost = next((image_id for image_id in ids if image_id not in store), None)
        if lost is not None:
            raise ValueError(f"the region store {store.folder} holds no image {lost!r} any more: index it again")
        marks = [known_mark(self.images.entries[place]) for place in places]
        others = changed_images(ids, marks, known=self.store_marks(store))
        if others:
            raise ValueError(
                f"the region store {store.folder} holds another image than was indexed as {others[0]!r}: index it again"
            )
        return self.embedder.stored_regions(store, ids)

    def store_marks(self, store: RegionStore) -> dict[str, int]:
        """The marks of a store's images, computed at the first use."""
        if not hasattr(self, "_store_marks"):
            self._store_marks = store.marks
        return self._store_marks

    def match_logits(self, text: str, places: Sequence[int]) -> tuple[np.ndarray, list[str]]:
        """Match logits (N,) of a text and the images at N places, NaN for images that cannot be read, and one line for
        each of these.
        """
        logits = np.full(len(places), np.nan, dtype=np.float32)
        unread: list[str] = []
        step = self.embedder.batch_size
        with tqdm(total=len(places), desc="re-ranking", unit="image", leave=False) as bar:
            for start in range(0, len(places), step):
                part = list(range(start, min(start + step, len(places))))
                if self.store is not None:
                    regions = self.stored_regions(self.store, [places[number] for number in part])
                else:
                    images, part = readable(self.image, places, part, unread)
                    regions = self.embedder.regions(images) if images else {}
                if part:
                    logits[part] = self.embedder.match([text] * len(part), regions, image_index=range(len(part)))
                bar.update(min(step, len(places) - start))
        return logits, unread


def readable(
    load: Callable[[int], PilImage], places: Sequence[int], chosen: Sequence[int], unread: list[str]
) -> tuple[list[PilImage], list[int]]:
    """The images that can be read, and their numbers; `unread` gets one line for each other one.

    load: place -> image; places: of all images; chosen: the numbers (indices of `places`) to load.
    """
    images, kept = [], []
    for number in chosen:
        try:
            images.append(load(places[number]))
        except (OSError, ValueError) as error:
            unread.append(one_line(error))
        else:
            kept.append(number)
    return images, kept


def reordered(found: Found, logits: np.ndarray) -> Found:
    """The results with the first n of N ordered by their match logits (n,); those with NaN and the others follow.

    >>> reordered(Found([7, 8, 9], [0.9, 0.8, 0.7], [None] * 3), np.array([-1.0, 1.0])).rows
    [8, 7, 9]
    """
    known = np.flatnonzero(~np.isnan(logits))
    best = known[np.argsort(-logits[known], kind="stable")].tolist()
    order = best + [place for place in range(len(found.rows)) if place not in set(best)]
    probs = dict(zip(best, torch.from_numpy(logits[best]).double().sigmoid().tolist(), strict=True))
    return Found(
        [found.rows[place] for place in order],
        [found.scores[place] for place in order],
        [probs.get(place) for place in order],
        found.unread,
    )


def first(found: Found, number: int) -> Found:
    """The first `number` results."""
    return Found(found.rows[:number], found.scores[:number], found.match_probs[:number], found.unread)


def images_of_column(dataset: Dataset, image_column: str) -> Dataset:
    """A data set's undecoded images as `image`, with the row number as `image_id`.

    Raises `ValueError` if it does not have the column.
    """
    if image_column not in dataset.column_names:
        raise ValueError(
            f"the data set has no column {image_column!r}; it has {', '.join(dataset.column_names)}: name yours in "
            "image_column"
        )
    images = dataset.select_columns([image_column]).cast_column(image_column, Image(decode=False))
    images = images if image_column == "image" else images.rename_column(image_column, "image")
    return undecoded(images.add_column("image_id", [str(row) for row in range(len(dataset))]))


def add_embeddings(
    dataset: Dataset,
    model: Any,
    processor: Any,
    *,
    image_column: str = "image",
    embedding_column: str = "image_embedding",
    batch_size: int = 32,
) -> Dataset:
    """The data set with a column of its images' vectors, of length 1, for `dataset.add_faiss_index`:

        rows = add_embeddings(dataset, model, processor)
        rows.add_faiss_index("image_embedding")
        query = Embedder(model, processor).text_vectors(["a dog"])[0]
        scores, nearest = rows.get_nearest_examples("image_embedding", query)

    Raises `ValueError` naming the first row whose image cannot be read, since every row needs a vector.
    """
    index = ImageIndex.from_dataset(dataset, model, processor, image_column=image_column, batch_size=batch_size)
    if index.broken:
        raise ValueError(f"the image of row {index.broken[0]}: take such rows out with dataset.select")
    vectors = index.images.embeddings
    features = Features({embedding_column: List(Value("float32"), length=vectors.shape[1])})
    column = Dataset.from_dict({embedding_column: vectors}, features=features)
    return concatenate_datasets([dataset, column], axis=1)
