"""Images, regions and texts -> vectors by a retrieval model, and an index on disk filled with them.

    images --region source--> regions --Embedder.regions_vectors--> (P, E)      texts --Embedder.text_vectors--> (N, E)
    images | region store | texts --index_images, index_store, index_texts--> IndexWriter

Resumable: what the index holds already is passed over, and a run that was killed ends with the files of one that was
not. A broken image is listed and skipped, the rest indexed. Another image under an id of the index is refused.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from PIL.Image import Image as PilImage
from tqdm.auto import tqdm

from training.regions.extract import RegionMaker, like_sized_batches, marked_images, other_rows, undecoded
from training.regions.image_marks import UNKNOWN, other_images, refuse_other_images
from training.regions.store import RegionStore
from training.regions.stored_images import named_alike, named_among, plain_name
from training.search.index_files import IndexWriter, known_mark

REGION_INPUTS = ("region_features", "region_boxes", "region_mask")
OTHER_INDEX = "give another --output, or delete that index and index again"
T = TypeVar("T")
FIRST_POSITIONS = 2  # RoBERTa and its kin count positions from 2


class Embedder:
    """A retrieval model with its processor: images, regions and texts in, vectors and match scores out.

    Args:
        model: `UpDownFusionForImageTextRetrieval`, or any with its `get_image_features`, `get_text_features`, `match`.
        processor: of images and texts, such as `UpDownProcessor`.
        batch_size: images, texts or pairs at a time.
    """

    def __init__(self, model: Any, processor: Any, *, batch_size: int = 32) -> None:
        accelerator = Accelerator()
        self.model, self.processor, self.batch_size = model.to(accelerator.device).eval(), processor, batch_size
        self.device = accelerator.device
        self.maker: RegionMaker | None = None
        if model.region_source is not None:
            self.maker = RegionMaker(
                model.region_source,
                processor.image_processor,
                accelerator=accelerator,
                flipped=False,
                soft_labels=False,
            )
            self.maker.select(None)

    def fingerprint(self) -> dict[str, Any]:
        """What makes the vectors: `model`, its type and a hash of all its weights, and `regions`, as region stores have
        it; None where the model owns no region source.
        """
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        made_by = {"model_type": self.model.config.model_type, "weights": digest.hexdigest()[:16]}
        return {"model": made_by, "regions": self.maker.fingerprint() if self.maker else None}

    @torch.no_grad()
    def regions(self, images: Sequence[PilImage]) -> dict[str, torch.Tensor]:
        """The regions of P images: `region_features` (P, R, D), `region_boxes` (P, R, 4), `region_mask` (P, R).

        Raises `ValueError` where the model owns no region source.
        """
        if self.maker is None:
            raise ValueError("the model owns no region source, so it takes no images: index a store of regions")
        return inputs_of(self.maker.regions(list(images)))

    @torch.no_grad()
    def regions_vectors(self, regions: Mapping[str, torch.Tensor]) -> np.ndarray:
        """The regions of P images -> vectors (P, E) of length 1, float32."""
        inputs = {name: value.to(self.device) for name, value in inputs_of(regions).items()}
        return self.model.get_image_features(**inputs).float().cpu().numpy()

    @torch.no_grad()
    def text_vectors(self, texts: Sequence[str]) -> np.ndarray:
        """N > 0 texts -> vectors (N, E) of length 1, float32; a text is read as far as the model reads."""
        parts = [
            self.model.get_text_features(**self.words(texts[start : start + self.batch_size])).float().cpu()
            for start in range(0, len(texts), self.batch_size)
        ]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def match(
        self, texts: Sequence[str], regions: Mapping[str, torch.Tensor], *, image_index: Sequence[int]
    ) -> np.ndarray:
        """Log-odds (N,) float32 that each text and its image belong together, N of any number.

        image_index: N rows of the images whose regions are given (P, R, ...).
        """
        odds = [np.empty(0, dtype=np.float32)]
        for start in range(0, len(texts), self.batch_size):
            images, inverse = np.unique(image_index[start : start + self.batch_size], return_inverse=True)
            chosen = {name: value[images].to(self.device) for name, value in inputs_of(regions).items()}
            owners = torch.from_numpy(inverse).to(self.device)
            words = self.words(texts[start : start + self.batch_size])
            odds.append(self.model.match(**words, **chosen, image_index=owners).float().cpu().numpy())
        return np.concatenate(odds)

    def words(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (N, T); `ValueError` for a text of blanks alone."""
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
    """What models take of a region source's output or a region store's batch."""
    return {name: regions[name] for name in REGION_INPUTS}


class VectorSink:
    """Takes regions as a `RegionStoreWriter` does, and hands their vectors on: into an index, or kept in memory."""

    def __init__(self, embedder: Embedder, *, writer: IndexWriter | None = None) -> None:
        self.embedder, self.writer = embedder, writer
        self.paths: dict[str, str | None] = {}
        self.kept: list[tuple[str, np.ndarray]] = []

    def append(self, image_ids: Sequence[str], regions: Mapping[str, torch.Tensor]) -> None:
        """P images by id; `ValueError` where their vectors are no numbers."""
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
    """Every image's vector into a sink, images of like sizes together; returns one line for each that cannot be read.

    images: columns image_id (string) and image (a path, or `datasets.Image`); those whose id is in `skip` are left out.
    """
    embedder = sink.embedder
    if embedder.maker is None:
        raise ValueError("the model owns no region source, so it takes no images: index a store of regions")
    rows = undecoded(images)
    ids = rows["image_id"][:]
    done = {row for row, image_id in enumerate(ids) if image_id in (skip or set())}
    todo = len(rows) - len(done)
    embedder.maker.broken = []
    with torch.no_grad(), tqdm(total=todo, desc="images", unit="image", disable=not todo) as bar:
        for indices in like_sized_batches(rows, range(len(rows)), batch_size=embedder.batch_size, done=done):
            readable = list(marked_images(rows, indices, embedder.maker.broken))
            embedder.maker.add(sink, readable)  # type: ignore[arg-type]  # all it asks of a writer is `append`
            bar.update(len(indices))
    return embedder.maker.broken


def index_images(
    images: Dataset, embedder: Embedder, writer: IndexWriter, *, paths: Mapping[str, str | None]
) -> list[str]:
    """Add the images that an index lacks; returns one line for each that cannot be read.

    images: columns image_id (string) and image. paths: each one's, relative to the index's image folder, or None.

    Raises `ValueError` where the index holds other images of the same ids.
    """
    sink = VectorSink(embedder, writer=writer)
    sink.paths = dict(paths)
    known, rows = marks_in(writer), undecoded(images)
    others = other_rows(rows, range(len(rows)), known=known)
    refuse_other_images(others, of=len(rows), place=f"the index {writer.folder}", cure=OTHER_INDEX)
    return embed_images(rows, sink, skip=set(known))


def marks_in(writer: IndexWriter) -> dict[str, int]:
    """The mark of each indexed image's content by its id, 0 where it is not known."""
    return {entry["id"]: known_mark(entry) for entry in writer.entries["photos"]}


def unfinished(things: Sequence[T], *, batch_size: int, done: Collection[T]) -> Iterator[list[T]]:
    """Batches of what is not done, formed as if nothing were: a run that goes on computes what it would have at first.

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

    paths: of each image, relative to the index's image folder; an image without one can be found, but not shown.

    Raises `ValueError` where the index holds other images of the same ids.
    """
    sink = VectorSink(embedder, writer=writer)
    sink.paths = dict(paths or {})
    known, marks = marks_in(writer), store.marks
    others = other_images(list(marks), list(marks.values()), known=known)
    refuse_other_images(others, of=len(store), place=f"the index {writer.folder}", cure=OTHER_INDEX)
    todo = len(marks.keys() - known.keys())
    with tqdm(total=todo, desc="images", unit="image", disable=not todo) as bar:
        for ids in unfinished(store.image_ids, batch_size=embedder.batch_size, done=known):
            found = torch.tensor([marks[image_id] for image_id in ids])
            sink.append(ids, {**store.batch(ids, dtype=torch.float32), "photo_mark": found})
            bar.update(len(ids))


def check_store(store: RegionStore, embedder: Embedder) -> None:
    """`ValueError` where a store's regions were not made by the model's own region source, or do not fit it."""
    expected = embedder.model.config.region_feature_size
    if store.feature_width != expected:
        raise ValueError(
            f"the regions in {store.folder} have width {store.feature_width} but the model expects {expected}: "
            "extract them with the model's own detector or grid"
        )
    if embedder.maker is not None:
        store.check_fingerprint(embedder.maker.fingerprint(), on_mismatch="error")


def index_texts(texts: Sequence[tuple[str, str | None]], embedder: Embedder, writer: IndexWriter) -> None:
    """Add the texts that an index lacks, each with the name or id of its image where that is known.

    An image's name is matched with the ids of the index, also without its ending. Raises `ValueError` where it then
    fits several of them.
    """
    ids = {entry["id"] for entry in writer.entries["photos"]}
    alike, place, cure = named_alike(sorted(ids)), f"the index {writer.folder}", "name it as the index does"
    meant = {}
    for image in {image for _, image in texts if image is not None}:
        found = named_among(image, ids, alike=alike, place=place, cure=cure)
        meant[image] = found or named_among(plain_name(image), ids, alike=alike, place=place, cure=cure) or image
    owned = [(text, None if image is None else meant[image]) for text, image in texts]
    done = {(entry["text"], entry.get("photo")) for entry in writer.entries["texts"]}
    todo = len(set(owned) - done)
    with tqdm(total=todo, desc="texts", unit="text", disable=not todo) as bar:
        for part in unfinished(list(dict.fromkeys(owned)), batch_size=embedder.batch_size, done=done):
            entries = [{"text": text, "photo": image} for text, image in part]
            writer.append("texts", embedder.text_vectors([text for text, _ in part]), entries)
            bar.update(len(part))
