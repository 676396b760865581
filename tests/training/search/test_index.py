"""Searching an index, on disk and of a data set: what is found, re-ranked, drawn on images that may be gone."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image

from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_image, colour_processor
from training.commands.extract import image_rows
from training.regions.store import RegionStore
from training.search.embedding import Embedder, index_images, index_store, index_texts
from training.search.index import ImageIndex, add_embeddings
from training.search.index_files import IndexWriter

TEXTS = [("a red thing", "red0.png"), ("a small green thing", "green1.png"), ("red", "red0.png"), ("blue", None)]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return retrieval_fake.save_colour_images(tmp_path / "photos")


def build(folder: Path, images: Path, *, store: Path | None = None, texts: Any = TEXTS) -> Path:
    """An index beside its images."""
    made = Embedder(ColourModel(), colour_processor(), batch_size=4)
    places = {"model": "m", "photo_folder": "../photos", "region_store": f"../{store.name}" if store else None}
    with IndexWriter(folder, fingerprint=made.fingerprint(), places=places) as writer:
        if store:
            index_store(RegionStore(store), made, writer)
        else:
            names = {path.name: path.name for path in images.iterdir()}
            index_images(image_rows([str(images)]), made, writer, paths=names)
        index_texts(texts, made, writer)
    return folder


def opened(folder: Path, **options: Any) -> ImageIndex:
    return ImageIndex.open(folder, ColourModel(), colour_processor(), **options)


@pytest.fixture
def index(tmp_path: Path, images: Path) -> ImageIndex:
    return opened(build(tmp_path / "index", images), batch_size=2)


def names_of(index: ImageIndex, rows: list[int]) -> list[str]:
    return [index.images.entries[row]["id"].removesuffix(".png") for row in rows]


# -- an index on disk ------------------------------------------------------------------------------------------------


def test_a_text_finds_the_purest_images(index: ImageIndex) -> None:
    for colour in ("red", "green", "blue"):
        found = index.search(f"a {colour} thing", top_k=4)
        assert names_of(index, found.rows)[:3] == [f"{colour}0", f"{colour}1", f"{colour}2"]
        assert found.scores == sorted(found.scores, reverse=True) and found.match_probs == [None] * 4
        assert found.scores[0] == pytest.approx(1, abs=1e-2) and found.scores[3] < 0.5
    assert len(index.search("red", top_k=99).rows) == 9


def test_reranking_reads_the_best_anew(index: ImageIndex) -> None:
    """The fake model matches the brightest best: level (n + 1) / 3, log-odds 4 * level - 3 + 0.1 * (words - 3)."""
    found = index.search("red", top_k=4, rerank=2)
    assert names_of(index, found.rows)[:3] == ["red1", "red0", "red2"]
    words = len(index.embedder.processor.tokenizer("red")["input_ids"])
    logits = [4 * level - 3 + 0.1 * (words - 3) for level in (2 / 3, 1 / 3)]
    assert found.match_probs[:2] == pytest.approx([1 / (1 + np.exp(-value)) for value in logits], abs=0.02)
    assert found.match_probs[2:] == [None, None] and found.unread == []
    assert names_of(index, index.search("red", top_k=1, rerank=3).rows) == ["red2"]
    assert len(index.search("red", top_k=2, rerank=99).rows) == 2


def test_an_image_finds_texts(index: ImageIndex) -> None:
    found = index.search_texts(colour_image("red"), top_k=3)
    assert [index.texts.entries[row]["text"] for row in found.rows[:2]] == ["a red thing", "red"]  # a tie: the first
    found = index.search_texts(colour_image("red"), top_k=3, rerank=2)
    assert index.texts.entries[found.rows[0]]["text"] == "a red thing"  # the longer
    assert found.match_probs[0] > found.match_probs[1] and found.match_probs[2] is None  # type: ignore[operator]


def test_an_image_finds_images_like_it(index: ImageIndex) -> None:
    found = index.search_similar(colour_image("green", level=0.5), top_k=3)
    assert names_of(index, found.rows) == ["green0", "green1", "green2"]


def test_images_know_their_captions_and_place(index: ImageIndex, images: Path) -> None:
    place = index.search("red", top_k=1).rows[0]
    assert index.captions(place) == ["a red thing", "red"] and index.image_path(place) == images / "red0.png"
    with Image.open(images / "red0.png") as image:
        assert index.image(place) == image.convert("RGB")
    assert index.captions(index.search("blue", top_k=1).rows[0]) == []


def test_both_move_together_and_images_alone(index: ImageIndex, images: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for name in ("photos", "index"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert opened(tmp_path / "moved" / "index").image(0).size == (40, 30)
    (tmp_path / "moved" / "photos").rename(tmp_path / "elsewhere")
    gone = opened(tmp_path / "moved" / "index")
    found = gone.search("red", top_k=5, rerank=3)
    assert names_of(gone, found.rows)[:3] == ["red0", "red1", "red2"] and found.match_probs == [None] * 5
    assert len(found.unread) == 3 and "there is no image at" in found.unread[0]
    again = opened(tmp_path / "moved" / "index", image_folder=tmp_path / "elsewhere")
    assert names_of(again, again.search("red", rerank=3).rows)[:3] == ["red2", "red1", "red0"]


def test_unread_images_stand_behind_those_read(index: ImageIndex, images: Path) -> None:
    (images / "red1.png").write_bytes(b"no image")
    found = index.search("red", top_k=4, rerank=3)
    assert names_of(index, found.rows)[:3] == ["red2", "red0", "red1"]
    assert [prob is None for prob in found.match_probs] == [False, False, True, True]
    assert len(found.unread) == 1 and "red1.png is not an image" in found.unread[0]


def test_an_image_replaced_since_it_was_indexed_is_not_read_for_it(index: ImageIndex, images: Path) -> None:
    colour_image("blue").save(images / "red1.png")
    found = index.search("red", top_k=4, rerank=3)
    assert names_of(index, found.rows)[:3] == ["red2", "red0", "red1"] and len(found.unread) == 1
    assert "red1.png is another image than was indexed as 'red1.png': index the images again" in found.unread[0]


def test_regions_of_an_image_replaced_in_the_store_are_not_read_for_it(images: Path, tmp_path: Path) -> None:
    store = retrieval_fake.save_colour_store(tmp_path / "store", images, model=ColourModel())
    index = opened(build(tmp_path / "index", images, store=store))
    index.images.entries = [{**entry, "mark": 7} for entry in index.images.entries]
    assert len(index.search("red", top_k=3, rerank=3).rows) == 3  # the store knows no marks
    index._store_marks = dict.fromkeys(index.store_marks(index.store), 7) | {"red0.png": 8}  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"store holds another image than was indexed as 'red0.png': index it again"):
        index.search("red", top_k=3, rerank=3)


def test_regions_of_candidates_come_from_the_store(images: Path, tmp_path: Path) -> None:
    store = retrieval_fake.save_colour_store(tmp_path / "store", images, model=ColourModel())
    index = opened(build(tmp_path / "index", images, store=store))
    for image in images.iterdir():
        image.unlink()
    found = index.search("red", top_k=3, rerank=3)
    assert names_of(index, found.rows) == ["red2", "red1", "red0"] and found.unread == []
    with pytest.raises(ValueError, match="does not have the path of the image 'red2.png': name its folder in --images"):
        index.image_path(found.rows[0])
    gone = opened(tmp_path / "index")
    store.rename(tmp_path / "old")
    assert gone.search("red", top_k=3, rerank=3).match_probs == [None] * 3
    model = ColourModel()
    model.region_source.scale.mul_(2)  # type: ignore[union-attr,operator]
    retrieval_fake.save_colour_store(store, retrieval_fake.save_colour_images(images), model=model)
    with pytest.raises(ValueError, match="store were not made as expected .weights"):
        opened(tmp_path / "index").search("red", rerank=3)
    assert len(opened(tmp_path / "index").search("red").rows) == 9  # which needs no regions


def test_a_store_that_lost_an_image(images: Path, tmp_path: Path) -> None:
    model = ColourModel()
    store = retrieval_fake.save_colour_store(tmp_path / "store", images, model=model)
    build(tmp_path / "index", images, store=store)
    (images / "red1.png").unlink()
    store.rename(tmp_path / "old")
    retrieval_fake.save_colour_store(store, images, model=model)
    with pytest.raises(ValueError, match="store holds no image 'red1.png' any more: index it again"):
        opened(tmp_path / "index").search("red", rerank=3)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_faiss_finds_the_same(index: ImageIndex, kind: str) -> None:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    exact = [index.search("a red thing", rerank=3), index.search_texts(colour_image("blue"))]
    index.use_faiss(kind)
    assert [index.search("a red thing", rerank=3), index.search_texts(colour_image("blue"))] == exact
    assert index.faiss_recall("photos") == index.faiss_recall("texts") == 1.0


def test_absent_faiss_is_named_only_where_it_is_asked_for(index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert index.search("red").rows
    with pytest.raises(ImportError, match=r"pip install 'modeling-updown\[faiss\]'"):
        index.use_faiss()


def test_refusals(index: ImageIndex, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was made with another model .weights: stored .*: use that one, or index"):
        ImageIndex.open(tmp_path / "index", ColourModel(tint=0.5), colour_processor())
    plain = opened(build(tmp_path / "plain", images, texts=[]))
    with pytest.raises(ValueError, match="the index holds no texts: index again with --captions FILE, or search for"):
        plain.search_texts(colour_image("red"))
    with pytest.raises(ValueError, match="text 0 is empty"):
        index.search("  ")
    for path in ("../secret.png", "/etc/passwd", "a/../../secret.png"):
        index.images.entries = [{"id": "a", "path": path}]
        with pytest.raises(ValueError, match="leads out of"):
            index.image(0)
    made = Embedder(ColourModel(), colour_processor())
    places = {"model": None, "photo_folder": None, "region_store": None}
    IndexWriter(tmp_path / "empty", fingerprint=made.fingerprint(), places=places).close()
    with pytest.raises(ValueError, match="empty holds no image yet: add some with `updown index`"):
        opened(tmp_path / "empty")


# -- a data set ------------------------------------------------------------------------------------------------------


def colours_dataset(images: Path, **more: Any) -> Dataset:
    paths = sorted(str(path) for path in images.iterdir())
    rows = Dataset.from_dict({"picture": paths, "name": [Path(path).stem for path in paths], **more})
    return rows.cast_column("picture", ImageFeature())


def test_found_rows_select_from_the_data_set(images: Path) -> None:
    rows = colours_dataset(images)
    index = ImageIndex.from_dataset(rows, ColourModel(), colour_processor(), image_column="picture", batch_size=2)
    assert rows.select(index.search("a green thing", top_k=3).rows)["name"][:] == ["green0", "green1", "green2"]
    assert rows.select(index.search("green", top_k=3, rerank=3).rows)["name"][:] == ["green2", "green1", "green0"]
    assert rows.select(index.search_similar(colour_image("blue"), top_k=1).rows)["name"][:] == ["blue0"]
    assert index.image(4).size == (40, 30) and index.broken == []


def test_rows_count_images_that_cannot_be_read(images: Path) -> None:
    (images / "blue1.png").write_bytes(b"no image")
    rows = colours_dataset(images)
    index = ImageIndex.from_dataset(rows, ColourModel(), colour_processor(), image_column="picture")
    assert index.rows == [0, 2, 3, 4, 5, 6, 7, 8] and len(index.broken) == 1 and index.broken[0].startswith("1: ")
    found = index.search("red", top_k=3, rerank=3)
    assert [rows["name"][row] for row in found.rows] == ["red2", "red1", "red0"]
    with pytest.raises(ValueError, match=r"the image of row 1: .*: take such rows out with dataset.select"):
        add_embeddings(rows, ColourModel(), colour_processor(), image_column="picture")


def test_data_sets_without_images(images: Path) -> None:
    with pytest.raises(ValueError, match="has no column 'image'; it has picture, name: name yours in image_column"):
        ImageIndex.from_dataset(colours_dataset(images), ColourModel(), colour_processor())
    for path in images.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(ValueError, match="none of the 9 images can be read: "):
        ImageIndex.from_dataset(colours_dataset(images), ColourModel(), colour_processor(), image_column="picture")


def test_a_column_of_vectors(images: Path) -> None:
    rows = colours_dataset(images)
    model, processor = ColourModel(), colour_processor()
    wider = add_embeddings(rows, model, processor, image_column="picture", batch_size=4)
    assert wider.column_names == ["picture", "name", "image_embedding"] and len(wider) == 9
    vectors = np.array(wider["image_embedding"][:])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    query = Embedder(model, processor).text_vectors(["a red thing"])[0]
    assert wider["name"][int(np.argmax(vectors @ query))] == "red0"
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    wider.add_faiss_index("image_embedding")
    _, nearest = wider.get_nearest_examples("image_embedding", query, k=3)
    assert nearest["name"] == ["red0", "red1", "red2"]
