"""Embeds images, regions and texts with a retrieval model, and adds the vectors to an index on disk.

    images --region source--> regions --Embedder.regions_vectors--> (P, E)      texts --Embedder.text_vectors--> (N, E)
    images | region store | texts --index_images, index_store, index_texts--> IndexWriter

Resumable: items in the index are skipped, and a run that was killed and started again writes the same files as an
uninterrupted one. Unreadable images are listed and skipped. An image that differs from the one indexed under its id is
an error.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm

from training.regions.extract import RegionExtractor, batches_by_size, changed_rows, marked_images, undecoded
from training.regions.image_marks import UNKNOWN, changed_images, check_same_images
from training.regions.store import RegionStore
from training.regions.stored_images import find_name, names_by_stem, stem_of
from training.saved_models import weights_mark
from training.search.index_files import IndexWriter, known_mark

REGION_INPUTS = ("region_features", "region_boxes", "region_mask", "object_probs", "attribute_probs")
OTHER_INDEX = "give another --output, or delete that index and index again"
T = TypeVar("T")
FIRST_POSITIONS = 2  # RoBERTa and related models number positions from 2


class Embedder:
    """A retrieval model with its processor: maps images, regions and texts to vectors and match scores.

    Args:
        model: `UpDownFusionForImageTextRetrieval`, or a model with its `get_image_features`, `get_text_features` and
            `match`.
        processor: of images and texts, such as `UpDownProcessor`.
        batch_size: images, texts or pairs per batch.
    """

    def __init__(self, model: Any, processor: Any, *, batch_size: int = 32) -> None:
        accelerator = Accelerator()
        self.model, self.processor, self.batch_size = model.to(accelerator.device).eval(), processor, batch_size
        self.device = accelerator.device
        self.tag_columns = [kind.probs for kind in getattr(model.config, "tag_kinds", ())]
        self.extractor: RegionExtractor | None = None
        if model.region_source is not None:
            self.extractor = RegionExtractor(
                model.region_source,
                processor.image_processor,
                accelerator=accelerator,
                flipped=False,
                soft_labels=bool(self.tag_columns),
            )
            self.extractor.select(None)

    def fingerprint(self) -> dict[str, Any]:
        """`model`: the model's type and a hash of its weights; `regions`: the fingerprint of its region source, as in a
        region store, None if it has none.
        """
        made_by = {"model_type": self.model.config.model_type, "weights": weights_mark(self.model)}
        return {"model": made_by, "regions": self.extractor.fingerprint() if self.extractor else None}

    @torch.no_grad()
    def regions(self, images: Sequence[PilImage]) -> dict[str, torch.Tensor]:
        """The regions of P images: `region_features` (P, R, D), `region_boxes` (P, R, 4), `region_mask` (P, R), and
        what the model's tags are made of.

        Raises `ValueError` if the model has no region source.
        """
        if self.extractor is None:
            raise ValueError("the model has no region source, so it takes no images: index a region store")
        return inputs_of(self.extractor.regions(list(images)))

    def stored_regions(self, store: RegionStore, image_ids: Sequence[str]) -> dict[str, torch.Tensor]:
        """The same of images of a region store."""
        return store.batch(
            image_ids, dtype=torch.float32, columns=["region_features", "region_boxes", *self.tag_columns]
        )

    @torch.no_grad()
    def regions_vectors(self, regions: Mapping[str, torch.Tensor]) -> np.ndarray:
        """The regions of P images -> vectors (P, E) of length 1, float32."""
        return self.model.get_image_features(**self.timed(inputs_of(regions))).float().cpu().numpy()

    def timed(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Regions of images on the model's device, for a model that embeds times with their second, 0."""
        if getattr(self.model.config, "time_embedding", ""):
            inputs = {**inputs, "region_seconds": torch.zeros(inputs["region_features"].shape[:2])}
        return {name: value.to(self.device) for name, value in inputs.items()}

    @torch.no_grad()
    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """N > 0 texts -> vectors (N, E) of length 1, float32; texts are truncated to the model's maximal length."""
        parts = [
            self.model.get_text_features(**self.words(texts[start : start + self.batch_size])).float().cpu()
            for start in range(0, len(texts), self.batch_size)
        ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def match(
        self, texts: Sequence[str], regions: Mapping[str, torch.Tensor], *, image_index: Sequence[int]
    ) -> np.ndarray:
        """Match logits (N,) float32 of N texts and their images; N may be larger than `batch_size`.

        image_index: the row of each text's image in the regions (P, R, ...).
        """
        logits = [np.empty(0, dtype=np.float32)]
        for start in range(0, len(texts), self.batch_size):
            images, inverse = np.unique(image_index[start : start + self.batch_size], return_inverse=True)
            chosen = self.timed({name: value[images] for name, value in inputs_of(regions).items()})
            owners = torch.from_numpy(inverse).to(self.device)
            words = self.words(texts[start : start + self.batch_size])
            logits.append(self.model.match(**words, **chosen, image_index=owners).float().cpu().numpy())
        return np.concatenate(logits)

    def words(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (N, T); raises `ValueError` for an empty or blank text."""
        empty = next((place for place, text in enumerate(texts) if not text.strip()), None)
        if empty is not None:
            raise ValueError(f"text {empty} is empty: write what the image shows")
        positions = getattr(getattr(self.model.config, "text_config", None), "max_position_embeddings", None)
        longest = min(self.processor.tokenizer.model_max_length, (positions or 10**6) - FIRST_POSITIONS)
        inputs = self.processor(
            text=list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return {name: inputs[name].to(self.device) for name in ("input_ids", "attention_mask")}


def inputs_of(regions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model inputs in a region source's output or a region store's batch."""
    return {name: regions[name] for name in REGION_INPUTS if regions.get(name) is not None}


class VectorSink:
    """Takes regions like a `RegionStoreWriter`, and adds their vectors to an index or keeps them in memory."""

    def __init__(self, embedder: Embedder, *, writer: IndexWriter | None = None) -> None:
        self.embedder, self.writer = embedder, writer
        self.paths: dict[str, str | None] = {}
        self.kept: list[tuple[str, np.ndarray]] = []

    def append(self, image_ids: Sequence[str], regions: Mapping[str, torch.Tensor]) -> None:
        """Add P images by id; raises `ValueError` if a vector holds NaN or infinity."""
        vectors = self.embedder.regions_vectors(regions)
        if self.writer is not None:
            marks = regions["photo_mark"].tolist() if "photo_mark" in regions else [UNKNOWN] * len(image_ids)
            entries = [
                {"id": image_id, "path": self.paths.get(image_id)} | ({"mark": mark} if mark else {})
                for image_id, mark in zip(image_ids, marks, strict=True)
            ]
            self.writer.append("photos", vectors, entries)
            return
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise ValueError(f"image {image_ids[bad[0]]!r} has a vector that holds NaN or infinity")
        self.kept += list(zip(image_ids, vectors, strict=True))


def embed_images(images: Dataset, sink: VectorSink, *, skip: set[str] | None = None) -> list[str]:
    """Add every image's vector to a sink, in batches of similar size; returns one line per image that cannot be read.

    images: columns image_id (string) and image (a path, or `datasets.Image`); those whose id is in `skip` are left out.
    """
    embedder = sink.embedder
    if embedder.extractor is None:
        raise ValueError("the model has no region source, so it takes no images: index a region store")
    rows = undecoded(images)
    ids = rows["image_id"][:]
    done = {row for row, image_id in enumerate(ids) if image_id in (skip or set())}
    todo = len(rows) - len(done)
    embedder.extractor.broken = []
    with torch.no_grad(), tqdm(total=todo, desc="images", unit="image", disable=not todo) as bar:
        for indices in batches_by_size(rows, range(len(rows)), batch_size=embedder.batch_size, done=done):
            readable = list(marked_images(rows, indices, embedder.extractor.broken))
            embedder.extractor.add(sink, readable)  # type: ignore[arg-type]  # it calls only `append`
            bar.update(len(indices))
    return embedder.extractor.broken


def index_images(
    images: Dataset, embedder: Embedder, writer: IndexWriter, *, paths: Mapping[str, str | None]
) -> list[str]:
    """Add the images that an index lacks; returns one line for each that cannot be read.

    images: columns image_id (string) and image. paths: id -> path relative to the index's image folder, or None.

    Raises `ValueError` if the index holds other images under the same ids.
    """
    sink = VectorSink(embedder, writer=writer)
    sink.paths = dict(paths)
    known, rows = marks_in(writer), undecoded(images)
    others = changed_rows(rows, range(len(rows)), known=known)
    check_same_images(others, of=len(rows), place=f"the index {writer.folder}", cure=OTHER_INDEX)
    return embed_images(rows, sink, skip=set(known))


def marks_in(writer: IndexWriter) -> dict[str, int]:
    """Id -> mark of each indexed image, 0 if unknown."""
    return {entry["id"]: known_mark(entry) for entry in writer.entries["photos"]}


def unfinished(things: Sequence[T], *, batch_size: int, done: Collection[T]) -> Iterator[list[T]]:
    """Batches of the things that are not done; done ones are removed after batching, so that a resumed run computes
    bit for bit what an uninterrupted one does.

    >>> list(unfinished("abcdef", batch_size=2, done="abd"))
    [['c'], ['e', 'f']]
    """
    for start in range(0, len(things), batch_size):
        batch = [thing for thing in things[start : start + batch_size] if thing not in done]
        if batch:
            yield batch


def index_store(
    store: RegionStore, embedder: Embedder, writer: IndexWriter, *, paths: Mapping[str, str | None] | None = None
) -> None:
    """Add the images of a region store that an index lacks.

    paths: id -> path relative to the index's image folder; an image without one can be found, but not shown.

    Raises `ValueError` if the index holds other images under the same ids.
    """
    sink = VectorSink(embedder, writer=writer)
    sink.paths = dict(paths or {})
    known, marks = marks_in(writer), store.marks
    others = changed_images(list(marks), list(marks.values()), known=known)
    check_same_images(others, of=len(store), place=f"the index {writer.folder}", cure=OTHER_INDEX)
    todo = len(marks.keys() - known.keys())
    with tqdm(total=todo, desc="images", unit="image", disable=not todo) as bar:
        for ids in unfinished(store.image_ids, batch_size=embedder.batch_size, done=known):
            found = torch.tensor([marks[image_id] for image_id in ids])
            sink.append(ids, {**embedder.stored_regions(store, ids), "photo_mark": found})
            bar.update(len(ids))


def check_store(store: RegionStore, embedder: Embedder) -> None:
    """Raises `ValueError` if a store's regions have another width, lack the probabilities that the model's tags are
    made of, or were made by another region source."""
    config = embedder.model.config
    for kind in getattr(config, "tag_kinds", ()):
        store.check_classes(kind.probs, getattr(config, kind.names), number=getattr(config, kind.name))
    expected = config.region_feature_size
    if store.feature_width != expected:
        raise ValueError(
            f"the regions in {store.folder} have width {store.feature_width} but the model expects {expected}: "
            "extract them with the model's own detector or grid"
        )
    if embedder.extractor is not None:
        store.check_fingerprint(embedder.extractor.fingerprint(), on_mismatch="error")


def index_texts(texts: Sequence[tuple[str, str | None]], embedder: Embedder, writer: IndexWriter) -> None:
    """Add the texts that an index lacks, each with the name or id of its image, None if unknown.

    An image's name is matched with the ids of the index, also without its suffix. Raises `ValueError` if several match.
    """
    ids = {entry["id"] for entry in writer.entries["photos"]}
    by_stem, place, cure = names_by_stem(sorted(ids)), f"the index {writer.folder}", "name it as the index does"
    meant = {}
    for image in {image for _, image in texts if image is not None}:
        found = find_name(image, ids, by_stem=by_stem, place=place, cure=cure)
        meant[image] = found or find_name(stem_of(image), ids, by_stem=by_stem, place=place, cure=cure) or image
    owned = [(text, None if image is None else meant[image]) for text, image in texts]
    done = {(entry["text"], entry.get("photo")) for entry in writer.entries["texts"]}
    todo = len(set(owned) - done)
    with tqdm(total=todo, desc="texts", unit="text", disable=not todo) as bar:
        for part in unfinished(list(dict.fromkeys(owned)), batch_size=embedder.batch_size, done=done):
            entries = [{"text": text, "photo": image} for text, image in part]
            writer.append("texts", embedder.text_vectors([text for text, _ in part]), entries)
            bar.update(len(part))
