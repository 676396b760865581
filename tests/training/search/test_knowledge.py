"""The sentences nearest to questions and images: against a brute-force twin, kept beside their file, and mistakes."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from tests.tiny import save_tiny_captioner, save_tiny_retrieval, tiny_image
from training.data.knowledge import Knowledge
from training.search import knowledge as searched
from training.search.embedding import Embedder
from training.search.knowledge import FactSearch, read_vectors

FACTS = ["a brown dog runs", "two men ride a wave", "people are sitting at a table", "a ball is red", "the ocean"]
QUESTIONS = ["is there a brown dog?", "where are the people sitting?", "how many men ride?"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_retrieval(tmp_path_factory.mktemp("retrieval"))


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    (tmp_path / "facts.txt").write_text("\n".join(FACTS))
    return tmp_path / "facts.txt"


def embedded(search: FactSearch, texts: list[str]) -> np.ndarray:
    return np.concatenate([search.embedder.text_vectors([text]) for text in texts])


def test_the_nearest_sentences_are_those_of_all_cosines(model: Path, facts: Path) -> None:
    search = FactSearch(Knowledge(str(facts), str(model), 2))
    cosines = embedded(search, QUESTIONS) @ embedded(search, FACTS).T
    expected = [[FACTS[place] for place in np.argsort(-row, kind="stable")[:2]] for row in cosines]
    assert search.nearest([*QUESTIONS, QUESTIONS[0], " "]) == [*expected, expected[0], []]
    assert len(FactSearch(Knowledge(str(facts), str(model), 9)).nearest(QUESTIONS[:1])[0]) == len(FACTS)


def test_images_may_be_what_sentences_are_near_to(model: Path, facts: Path) -> None:
    photos = [tiny_image(seed) for seed in range(3)]
    rows = datasets.Dataset.from_dict({"image_id": ["a", "b", "c"], "image": photos}).cast_column(
        "image", datasets.Image()
    )
    for by in ("image", "both"):
        search = FactSearch(Knowledge(str(facts), str(model), 3, by))
        found = search.nearest(QUESTIONS, rows, ["b", "a", "b"])
        seen = search.embedder.regions_vectors(search.embedder.regions([photos[1], photos[0], photos[1]]))
        queries = seen + (embedded(search, QUESTIONS) if by == "both" else 0)
        cosines = queries @ embedded(search, FACTS).T
        assert found == [[FACTS[place] for place in np.argsort(-row, kind="stable")[:3]] for row in cosines]
        assert set(search.image_vectors) == {"a", "b"}  # nobody asked about the third


def test_sentences_are_embedded_once_for_a_file_and_a_model(
    model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = FactSearch(Knowledge(str(facts), str(model)))
    (kept,) = tmp_path.glob("facts.txt.*.safetensors")
    embeddings = []
    embed = Embedder.text_vectors
    monkeypatch.setattr(
        Embedder, "text_vectors", lambda self, texts: embeddings.append(len(texts)) or embed(self, texts)
    )
    assert np.array_equal(FactSearch(Knowledge(str(facts), str(model))).vectors, first.vectors) and embeddings == []
    kept.write_bytes(kept.read_bytes()[:200])  # a copy that was cut short
    assert np.array_equal(FactSearch(Knowledge(str(facts), str(model))).vectors, first.vectors) and embeddings == [5]
    facts.write_text("\n".join([*FACTS[:4], "snow is white"]))
    assert not np.allclose(FactSearch(Knowledge(str(facts), str(model))).vectors[4], first.vectors[4])
    assert embeddings == [5, 5] and read_vectors(kept, marks={}, number=5) is None


def test_a_folder_that_cannot_be_written_costs_time_alone(
    model: Path, facts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searched, "write_atomically", refuse)
    with pytest.warns(UserWarning, match="cannot be written .Read-only.: sentences are embedded in every run"):
        assert len(FactSearch(Knowledge(str(facts), str(model))).vectors) == 5


def refuse(path: Path, content: bytes) -> None:
    raise OSError(30, "Read-only")


def test_models_that_find_nothing_are_named(facts: Path, tmp_path: Path) -> None:
    matching = save_tiny_retrieval(tmp_path / "matching", objectives={"itm": 1.0})
    captioner = save_tiny_captioner(tmp_path / "captioner")
    for folder, cure in (
        (tmp_path / "gone", "the model that finds sentences: there is no model folder .*gone"),
        (captioner, r"holds a model of type 'updown_captioning' .* is wanted"),
        (matching, "compares no embeddings"),
    ):
        with pytest.raises(ValueError, match=cure) as caught:
            FactSearch(Knowledge(str(facts), str(folder)))
        assert str(caught.value).startswith("data.knowledge: ") and "\n" not in str(caught.value)
