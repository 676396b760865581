"""Images, regions and texts as vectors, and an index filled with them: resumable, broken images listed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_image, colour_processor
from training.commands.extract import image_rows
from training.regions.store import RegionStore
from training.search.embedding import Embedder, check_store, index_images, index_store, index_texts
from training.search.index_files import IndexWriter, read_index

NAMES = [f"{colour}{shade}.png" for colour in ("blue", "green", "red") for shade in range(3)]


def embedder(**options: Any) -> Embedder:
    return Embedder(ColourModel(**options), colour_processor(), batch_size=2)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return retrieval_fake.save_colour_images(tmp_path / "photos")


def opened(folder: Path, extractor: Embedder) -> IndexWriter:
    places = {"model": "m", "photo_folder": None, "region_store": None}
    return IndexWriter(folder, fingerprint=extractor.fingerprint(), places=places, dtype="float32")


def by_id(folder: Path) -> dict[str, np.ndarray]:
    table = read_index(folder)[1]["photos"]
    return dict(zip([entry["id"] for entry in table.entries], table.embeddings, strict=True))


# -- vectors ---------------------------------------------------------------------------------------------------------


def test_images_and_their_colour_are_near() -> None:
    made = embedder()
    vectors = made.regions_vectors(made.regions([colour_image(name) for name in ("red", "green", "blue")]))
    texts = made.text_vectors(["a red thing", "green", "a blue one", "red and green"])
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([vectors, texts]), axis=1), 1, atol=1e-6)
    half = 2**-0.5
    cosines = np.array([[1, 0, 0, half], [0, 1, 0, half], [0, 0, 1, 0]])
    np.testing.assert_allclose(vectors @ texts.T, cosines, atol=0.01)


def test_a_model_of_times_sees_an_image_at_second_0() -> None:
    model = tiny.tiny_retrieval(time_embedding="both")
    made = Embedder(model, colour_processor())
    sizes, seconds = (3, 5, model.config.region_feature_size), torch.zeros(3, 5)
    draw = torch.Generator().manual_seed(0)
    boxes = torch.tensor([0.1, 0.2, 0.6, 0.9]).expand(3, 5, 4)
    regions = {"region_features": torch.rand(sizes, generator=draw), "region_boxes": boxes}
    expected = model.get_image_features(**regions, region_seconds=seconds).detach().cpu().numpy()
    np.testing.assert_allclose(made.regions_vectors(regions), expected, atol=1e-6)


def test_texts_of_any_length_and_number_are_read() -> None:
    made = embedder()
    made.model.config.text_config = type("Text", (), {"max_position_embeddings": 12})()
    words = made.words(["red " * 400, "green"])
    assert words["input_ids"].shape == (2, 10)
    together = made.text_vectors(["red", "a small green thing and another", "blue"])
    apart = np.concatenate([made.text_vectors([text]) for text in ("red", "a small green thing and another", "blue")])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    with pytest.raises(ValueError, match="text 1 is empty: write what the image shows"):
        made.text_vectors(["red", " \n"])


def test_pairs_are_matched_in_batches() -> None:
    made = embedder()
    regions = made.regions([colour_image("red", level=level) for level in (0.2, 1.0, 0.6)])
    index, texts = [2, 0, 1, 1, 0], ["red", "a red", "red", "a big red thing", "red thing"]
    logits = made.match(texts, regions, image_index=index)
    one_by_one = [made.match([text], regions, image_index=[image])[0] for text, image in zip(texts, index, strict=True)]
    assert logits.dtype == np.float32 and logits.shape == (5,)
    np.testing.assert_allclose(logits, one_by_one, atol=1e-6)
    assert logits[2] > logits[0] > logits[1]  # the brighter
    assert made.match([], regions, image_index=[]).shape == (0,)


def test_the_fingerprint_is_that_of_all_weights() -> None:
    made = embedder().fingerprint()
    assert made == embedder().fingerprint()
    assert made["regions"]["backbone"] == "colours" and made["model"]["model_type"] == "updown_fusion"
    other = embedder(tint=0.25).fingerprint()
    assert other["model"]["weights"] != made["model"]["weights"] and other["regions"] == made["regions"]
    assert embedder(owns_source=False).fingerprint()["regions"] is None


# -- an index --------------------------------------------------------------------------------------------------------


def test_images_are_indexed_once_and_broken_ones_listed(images: Path, tmp_path: Path) -> None:
    made = embedder()
    (images / "broken.png").write_bytes((images / "red0.png").read_bytes()[:40])
    rows = image_rows([str(images)])
    with opened(tmp_path / "index", made) as writer:
        broken = index_images(rows, made, writer, paths={name: name for name in NAMES})
        assert len(broken) == 1 and broken[0].startswith("broken.png: ")
        assert len(index_images(rows, made, writer, paths={})) == 1  # tried again, the others passed over
    vectors = by_id(tmp_path / "index")
    assert sorted(vectors) == NAMES
    for name in NAMES:
        with Image.open(images / name) as image:
            expected = made.regions_vectors(made.regions([image.convert("RGB")]))[0]
        np.testing.assert_allclose(vectors[name], expected, atol=1e-6)
    assert all(entry["path"] == entry["id"] for entry in read_index(tmp_path / "index")[1]["photos"].entries)


def test_what_a_stopped_run_left_is_gone_on_with(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, calls = embedder(), []
    original = Embedder.regions_vectors

    def interrupted(self: Embedder, regions: Any) -> np.ndarray:
        calls.append(len(regions["region_mask"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, regions)

    monkeypatch.setattr(Embedder, "regions_vectors", interrupted)
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "index", made) as writer:
        index_images(image_rows([str(images)]), made, writer, paths={})
    assert len(by_id(tmp_path / "index")) == 4
    with opened(tmp_path / "index", made) as writer:
        assert index_images(image_rows([str(images)]), made, writer, paths={}) == []
    assert sorted(by_id(tmp_path / "index")) == NAMES and sum(calls[3:]) == 5


def test_an_image_without_numbers_is_listed(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = embedder()
    original = made.model.get_image_features

    def spoilt(**inputs: Any) -> torch.Tensor:
        vectors = original(**inputs)
        vectors[inputs["region_features"].mean(dim=(1, 2)) > 0.45] = torch.nan
        return vectors

    monkeypatch.setattr(made.model, "get_image_features", spoilt)
    with opened(tmp_path / "index", made) as writer:
        broken = index_images(image_rows([str(images)]), made, writer, paths={})
    lines = [f"{name}2.png: '{name}2.png' has a vector that holds NaN" for name in ("blue", "green", "red")]
    assert sorted(line.split(" or ")[0] for line in broken) == lines
    assert len(by_id(tmp_path / "index")) == 6


def test_a_store_is_indexed_as_its_images_are(images: Path, tmp_path: Path) -> None:
    made = embedder()
    store = RegionStore(retrieval_fake.save_colour_store(tmp_path / "store", images, model=made.model))
    check_store(store, made)
    for folder, source in (("a", made), ("b", embedder(owns_source=False))):
        with opened(tmp_path / folder, source) as writer:
            index_store(store, source, writer, paths={"red0.png": "red0.png"})
            index_store(store, source, writer)  # nothing is left to do
    with opened(tmp_path / "c", made) as writer:
        index_images(image_rows([str(images)]), made, writer, paths={})
    first, second, third = (by_id(tmp_path / folder) for folder in "abc")
    assert sorted(first) == sorted(second) == sorted(third) == NAMES
    for name in NAMES:
        np.testing.assert_allclose(first[name], third[name], atol=1e-3)  # stores keep float16
        assert (first[name] == second[name]).all()
    paths = {entry["id"]: entry["path"] for entry in read_index(tmp_path / "a")[1]["photos"].entries}
    assert paths["red0.png"] == "red0.png" and paths["red1.png"] is None


def test_a_store_of_another_source_is_refused(images: Path, tmp_path: Path) -> None:
    made = embedder()
    store = RegionStore(retrieval_fake.save_colour_store(tmp_path / "store", images, model=made.model))
    store.fingerprint["given_boxes"] = "0123456789abcdef"  # of images the model's detector finds boxes of its own
    with pytest.raises(ValueError, match="were not made as expected .given_boxes: stored '0123456789abcdef', expected"):
        check_store(store, made)
    store.fingerprint["given_boxes"] = None
    check_store(store, made)
    made.model.region_source.scale.mul_(2)
    with pytest.raises(ValueError, match="were not made as expected .weights: stored .* extract them again with this"):
        check_store(store, made)
    made.model.config.region_feature_size = 2048
    with pytest.raises(ValueError, match="have width 3 but the model expects 2048: extract them with the model's own"):
        check_store(store, made)


def test_a_model_without_a_source_takes_no_images(images: Path, tmp_path: Path) -> None:
    made = embedder(owns_source=False)
    sentence = "the model has no region source, so it takes no images: index a region store"
    with pytest.raises(ValueError, match=sentence):
        made.regions([colour_image("red")])
    with opened(tmp_path / "index", made) as writer, pytest.raises(ValueError, match=sentence):
        index_images(image_rows([str(images)]), made, writer, paths={})


def test_texts_belong_to_images_by_name(images: Path, tmp_path: Path) -> None:
    made = embedder()
    texts = [
        ("red", "red0.png"),
        ("a red thing", "red0"),
        ("red", "train/red1.png"),
        ("green", "gone.png"),
        ("blue", None),
    ]
    with opened(tmp_path / "index", made) as writer:
        index_images(image_rows([str(images)]), made, writer, paths={})
        index_texts([*texts, texts[0]], made, writer)
    with opened(tmp_path / "index", made) as writer:
        index_texts([*texts, ("blue", "blue0.png")], made, writer)
    table = read_index(tmp_path / "index")[1]["texts"]
    owners = ["red0.png", "red0.png", "red1.png", "gone.png", None, "blue0.png"]
    assert [entry["photo"] for entry in table.entries] == owners
    assert [entry["text"] for entry in table.entries] == ["red", "a red thing", "red", "green", "blue", "blue"]
    np.testing.assert_allclose(table.embeddings, made.text_vectors([e["text"] for e in table.entries]), atol=1e-6)


def test_a_stopped_run_ends_with_the_files_of_one_that_was_not(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are formed as if nothing were done, so that not even rounding tells them apart."""
    store = RegionStore(retrieval_fake.save_colour_store(tmp_path / "store", images, model=ColourModel()))
    texts: list[tuple[str, str | None]] = [
        (f"a {word} thing {'big ' * count}", None) for word in "ab" for count in (1, 4)
    ]
    sources: list[Any] = [
        lambda made, writer: index_images(image_rows([str(images)]), made, writer, paths={}),
        lambda made, writer: index_store(store, made, writer),
    ]
    for number, fill in enumerate(sources):
        made, whole, stopped = embedder(), tmp_path / f"whole{number}", tmp_path / f"stopped{number}"
        with opened(whole, made) as writer:
            fill(made, writer)
            index_texts(texts, made, writer)
        sizes: list[int] = []
        for name in ("regions_vectors", "text_vectors"):
            original = getattr(Embedder, name)
            monkeypatch.setattr(Embedder, name, stopping(original, sizes, after=2))
            with pytest.raises(KeyboardInterrupt), opened(stopped, made) as writer:
                fill(made, writer)
                index_texts(texts, made, writer)
            monkeypatch.setattr(Embedder, name, original)
        with opened(stopped, made) as writer:
            fill(made, writer)
            index_texts(texts, made, writer)
        for path in sorted(whole.glob("[!.]*")):
            assert path.read_bytes() == (stopped / path.name).read_bytes(), path.name
        assert len(sizes) >= 3


def stopping(original: Any, sizes: list[int], *, after: int) -> Any:
    """A method that is interrupted in its call number `after`."""
    calls: list[int] = []

    def method(self: Embedder, given: Any) -> np.ndarray:
        calls.append(len(given))
        sizes.append(len(given))
        if len(calls) == after:
            raise KeyboardInterrupt
        return original(self, given)

    return method


def test_a_store_of_other_images_is_not_added_to_an_index(images: Path, tmp_path: Path) -> None:
    made = embedder()
    store = RegionStore(retrieval_fake.save_colour_store(tmp_path / "store", images, model=ColourModel()))
    marked = {image_id: number + 1 for number, image_id in enumerate(store.image_ids)}
    store.image_marks = torch.tensor(list(marked.values()))
    with opened(tmp_path / "index", made) as writer:
        index_store(store, made, writer)
        assert {entry["id"]: entry["mark"] for entry in writer.entries["photos"]} == marked
        index_store(store, made, writer)
        store.image_marks[2] = 99
        with pytest.raises(
            ValueError, match=r"1 of 9 images are not those that the index .* \(blue2.png\): give another"
        ):
            index_store(store, made, writer)
