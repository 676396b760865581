"""The linear probe for caption words: words, pooling, the regression, its scores, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Image

from tests.tiny import save_tiny_captioner, tiny_image
from training.metrics.retrieval.ranking import average_precision
from training.probes.word_probe import (
    commonest_words,
    content_words,
    fit_probe,
    main,
    pooled_features,
    pooled_regions,
    probe,
    sampled_means,
    word_labels,
    word_precisions,
    word_probe,
)
from training.regions.store import RegionStoreWriter

WORDS = {"dog": 0, "lake": 1, "red": 2}


def image_rows(count: int, *, first: int = 0, folder: Path | None = None) -> Dataset:
    """Images `0` .. whose captions say which of three words is true of them: bit n of their number."""
    ids = [str(number) for number in range(first, first + count)]
    said = [" ".join(word for word, bit in WORDS.items() if int(number) >> bit & 1) for number in ids]
    images = [str(folder / f"{number}.png") if folder else None for number in ids]
    columns = {"image_id": ids, "image": images, "captions": [[f"the {text}", "it is"] for text in said]}
    return Dataset.from_dict(columns).cast_column("image", Image())


def make_store(folder: Path, count: int, *, known: int) -> Path:
    """Two or three regions of width 8 an image: noise, and in the first of them the first `known` words."""
    generator = torch.Generator().manual_seed(known)
    with RegionStoreWriter(folder, fingerprint={"kind": "test"}) as writer:
        for number in range(count):
            features = torch.randn(1, 2 + number % 2, 8, generator=generator) / 2
            features[0, 0, :known] += torch.tensor([3.0 * (number >> bit & 1) for bit in range(known)])
            boxes = torch.tensor([0.0, 0, 1, 1]).repeat(1, features.shape[1], 1)
            writer.append([str(number)], {"region_features": features, "region_boxes": boxes})
    return folder


# -- words ------------------------------------------------------------------------------------------------------------


def test_words_are_counted_by_images() -> None:
    said = content_words([["A dog, a dog!", "The dog's lake"], ["a lake is here"], ["Zebra."]])
    assert said == [{"dog", "lake"}, {"lake"}, {"zebra"}]
    assert commonest_words(said, most=2) == ["lake", "dog"]  # of equal ones in the order of the alphabet
    assert word_labels(said, ["lake", "dog"]).tolist() == [[True, True], [True, False], [False, False]]


# -- features ---------------------------------------------------------------------------------------------------------


def test_pooling_leaves_padding_out() -> None:
    features = torch.tensor([[[-1.0, 2.0], [-3.0, 4.0], [0.0, 0.0]], [[5.0, 6.0], [0, 0], [0, 0]], [[9.0, 9.0]] * 3])
    mask = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    pooled = pooled_regions({"region_features": features, "region_mask": mask}, ["region_features"])
    assert pooled.tolist() == [[-2, 3, -1, 4], [5, 6, 5, 6], [0, 0, 0, 0]]


def test_stores_and_folders_stand_side_by_side(tmp_path: Path) -> None:
    for number in range(3):
        tiny_image(number).save(tmp_path / f"{number}.png")
    rows = image_rows(3, folder=tmp_path)
    store, folder = make_store(tmp_path / "store", 3, known=1), save_tiny_captioner(tmp_path / "captioner")
    alone, made = pooled_features(str(store), rows), pooled_features(str(folder), rows)
    assert alone.shape == (3, 16) and made.shape == (3, 192)
    both = pooled_features(f"{store}+{folder}", rows)
    assert np.array_equal(both, np.concatenate([alone, made], axis=1))
    with pytest.raises(ValueError, match="holds no object_probs"):
        pooled_features(str(store), rows, columns=["object_probs"])
    with pytest.raises(ValueError, match="is no region store"):
        pooled_features(str(folder), rows, columns=["object_probs"])
    with pytest.raises(ValueError, match="1 of the 4 images have no regions"):
        pooled_features(str(store), image_rows(4))


# -- the probe --------------------------------------------------------------------------------------------------------


def test_the_regression_is_at_the_minimum_of_each_word_alone() -> None:
    """Newton's method on one word of few features gives the same weights."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 3, generator=generator)
    labels = features[:, :1] + torch.randn(50, 4, generator=generator) > 0.5
    fits = list(fit_probe(features, labels, strengths=[0.3, 0.1], steps=100))
    assert [strength for strength, _, _ in fits] == [0.3, 0.1]
    for strength, weights, biases in fits:
        for word in range(4):
            expected = newton(features.double(), labels[:, word].double(), strength / 3)
            assert torch.allclose(torch.cat([biases[[word]], weights[:, word]]), expected.float(), atol=2e-3)


def newton(features: torch.Tensor, labels: torch.Tensor, strength: float) -> torch.Tensor:
    """Bias and weights of a logistic regression of one word: mean of -log p + strength * sum of squared weights."""
    inputs = torch.cat([torch.ones(len(features), 1).double(), features], dim=1)
    held = 2 * strength * torch.diag(torch.tensor([0.0, *[1.0] * features.shape[1]]).double())
    solution = torch.zeros(inputs.shape[1]).double()
    for _ in range(30):
        probs = torch.sigmoid(inputs @ solution)
        slope = inputs.T @ (probs - labels) / len(labels) + held @ solution
        curve = (inputs * (probs * (1 - probs))[:, None]).T @ inputs / len(labels) + held
        solution = solution - torch.linalg.solve(curve, slope)
    return solution


@pytest.mark.parametrize("seed", range(3))
def test_precisions_are_those_of_single_rankings(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, labels = generator.random((30, 5)), generator.random((30, 5)) < 0.3
    labels[:, 2] = False
    found = word_precisions(scores, labels)
    for word in range(5):
        ranking = np.argsort(-scores[:, word]).tolist()
        expected = average_precision(ranking, np.flatnonzero(labels[:, word]).tolist())
        assert found[word] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(word_precisions(scores, np.zeros((30, 5), dtype=bool))).all()


def test_samples_scatter_around_the_mean_as_repeated_measurements_do() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random((400, 6)) < 0.3
    scores = labels + generator.normal(size=labels.shape)
    samples = sampled_means(scores, labels, seed=0, samples=100)
    again = [np.nanmean(word_precisions(*fresh_measurement(generator))) for _ in range(100)]
    assert samples.std() == pytest.approx(np.std(again), rel=0.35)
    assert samples.mean() == pytest.approx(np.nanmean(word_precisions(scores, labels)), abs=0.02)
    assert sampled_means(scores, labels, seed=0, samples=3).tolist() == samples[:3].tolist()


def fresh_measurement(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = generator.random((400, 6)) < 0.3
    return labels + generator.normal(size=labels.shape), labels


def test_features_that_never_change_teach_nothing() -> None:
    generator = np.random.default_rng(0)
    labels = {split: generator.random((40, 2)) < 0.5 for split in ("train", "val", "test")}
    features = {split: np.ones((40, 3), dtype=np.float32) for split in labels}
    figures, scores = probe(features, labels, steps=3)
    assert np.isfinite(scores).all() and scores.std(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert figures["width"] == 3


def test_features_that_know_more_words_score_higher(tmp_path: Path) -> None:
    for name, known in (("little", 1), ("much", 3)):
        make_store(tmp_path / name, 120, known=known)
    rows = {name: image_rows(40, first=first) for name, first in (("train", 0), ("val", 40), ("test", 80))}
    sources = {"little": str(tmp_path / "little"), "much": str(tmp_path / "much")}
    little, much = word_probe(sources, rows, num_words=3)
    assert little["per_word"].keys() == much["per_word"].keys() == WORDS.keys()
    assert little["per_word"]["dog"] > 90 and min(much["per_word"].values()) > 90 > little["per_word"]["red"]
    assert much["difference_x100"] == pytest.approx(much["map_x100"] - little["map_x100"])
    low, high = much["difference_interval_x100"]
    assert 0 < low < much["difference_x100"] < high
    silent = rows["test"].remove_columns("captions").add_column("captions", [["zzz"]] * 40)
    with pytest.raises(ValueError, match="is it one language"):
        word_probe(sources, {**rows, "test": silent}, num_words=3)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the drawn scenes, whose words colours and shapes are."""
    few = ["--set", "data.num_scenes={train: 30, val: 20, test: 20}", "--set", "data.image_size=64"]
    folder = save_tiny_captioner(tmp_path / "captioner")
    given = ["--recipe", "captioning/scenes", *few, "--words", "20", "--output", str(tmp_path / "probe.json")]
    assert main([f"tiny={folder}", *given]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| tiny | 192 | ")
    (row,) = json.loads((tmp_path / "probe.json").read_text())
    assert len(row["per_word"]) == 20 and 0 < row["map_x100"] < 100
    assert main([str(tmp_path / "nowhere"), *given]) == 2
    assert "word_probe: " in capsys.readouterr().err
