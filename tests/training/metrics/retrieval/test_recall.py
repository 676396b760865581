"""Recall, ranks and mAP of retrieval against the golden evaluators, brute-force twins and numbers by hand."""

import gzip
import itertools
import json
import math
import statistics
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import training.metrics.retrieval.recall as door
from tests.shared_files import shared
from training.metrics.retrieval.recall import (
    average_precision,
    fold_scores,
    rerank_scores,
    retrieval_scores,
    retrieval_scores_of_embeddings,
)
from training.metrics.vqa.exact_match import mean

MODULE = Path(__file__).resolve().parents[4] / "training/metrics/retrieval/updown_retrieval.py"
TIES = ("expected", "optimistic", "pessimistic", "average")


def golden(name: str) -> Any:
    return json.loads(gzip.decompress(shared(f"golden/metrics/{name}.json.gz").read_bytes()))


def golden_cases(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    data = golden(name)
    return list(zip(data["inputs"]["cases"], data["expected"]["cases"], strict=True))


def naive_orders(scores: Sequence[float], correct: set[int], ties: str) -> list[tuple[int, ...]]:
    """The rankings of the items, best first, that the rule allows; all are as likely."""
    items = range(len(scores))
    if ties == "expected":
        return [tuple(sorted(order, key=lambda item: -scores[item])) for order in itertools.permutations(items)]
    last = {"optimistic": lambda item: item not in correct, "pessimistic": lambda item: item in correct}[ties]
    return [tuple(sorted(items, key=lambda item: (-scores[item], last(item))))]


def naive_query(scores: Sequence[float], correct: set[int], *, ties: str, recall_at: Sequence[int]) -> dict[str, float]:
    """One query's numbers, one ranking at a time."""
    if ties == "average":
        ap = naive_query(scores, correct, ties="expected", recall_at=())["map"]
        ranks = {item: statistics.mean(naive_places(scores, item)) for item in correct}
        rank = min(ranks.values())
        found = {f"r{k}": float(rank - 1 < k if k > 1 else rank == 1) for k in recall_at}
        return found | {"rank": rank, "map": ap}
    totals: dict[str, list[float]] = {name: [] for name in (*(f"r{k}" for k in recall_at), "rank", "map")}
    for order in naive_orders(scores, correct, ties):
        rank = 1 + min(place for place, item in enumerate(order) if item in correct)
        totals["rank"].append(rank)
        totals["map"].append(average_precision(order, correct))
        for k in recall_at:
            totals[f"r{k}"].append(rank <= k)
    return {name: statistics.fmean(values) for name, values in totals.items()}


def naive_places(scores: Sequence[float], item: int) -> list[int]:
    """The places, from 1, that an item shares with its equals in a sorted list."""
    return [place for place, score in enumerate(sorted(scores, reverse=True), start=1) if score == scores[item]]


def naive_scores(similarity: np.ndarray, owners: np.ndarray, *, ties: str, recall_at: Sequence[int]) -> dict[str, Any]:
    rows, columns = similarity.tolist(), similarity.T.tolist()
    correct = [set(np.flatnonzero(owners == image).tolist()) for image in range(len(rows))]
    queries = {
        "i2t": [(row, correct) for row, correct in zip(rows, correct, strict=True) if correct],
        "t2i": [(column, {owner}) for column, owner in zip(columns, owners.tolist(), strict=True)],
    }
    scores: dict[str, Any] = {}
    for name, asked in queries.items():
        found = [naive_query(values, correct, ties=ties, recall_at=recall_at) for values, correct in asked]
        ranks = [numbers["rank"] for numbers in found]
        scores |= {f"{name}_median_rank": statistics.median(ranks), f"{name}_mean_rank": statistics.fmean(ranks)}
        for key in ("map", *(f"r{k}" for k in recall_at)):
            scores[f"{name}_{key}"] = statistics.fmean(numbers[key] for numbers in found)
    scores["rsum"] = sum(scores[f"{name}_r{k}"] for name in queries for k in recall_at)
    return scores


def sorted_ranks(similarity: np.ndarray, owners: np.ndarray) -> tuple[list[float], list[float]]:
    """Each image's and each text's rank by one argsort a query, for distinct scores."""
    images = []
    for image, row in enumerate(similarity):
        hits = np.flatnonzero(owners[np.argsort(-row)] == image)
        images.append(float(1 + hits[0]) if len(hits) else math.nan)
    texts = [
        float(1 + np.flatnonzero(np.argsort(-column) == owner)[0])
        for column, owner in zip(similarity.T, owners, strict=True)
    ]
    return images, texts


def without_items(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if name not in ("per_item", "per_fold")}


# -- golden figures ---------------------------------------------------------------------------------------------------


def test_several_captions_an_image_rank_as_in_vsepp() -> None:
    for given, expected in golden_cases("retrieval_5cap"):
        check_vsepp(given, expected)


def check_vsepp(given: dict[str, Any], expected: dict[str, Any]) -> None:
    images, texts = np.array(given["image_emb"]), np.array(given["caption_emb"])
    owners = np.arange(len(texts)) // (len(texts) // len(images))
    if given["kind"] in ("ties", "dup", "const"):  # its ranks follow numpy's unstable sort: ours enclose them
        low, high = (
            retrieval_scores_of_embeddings(images, texts, owners, ties=ties)["per_item"]
            for ties in ("optimistic", "pessimistic")
        )
        for name in ("i2t", "t2i"):
            theirs = 1 + np.array(expected[f"{name}_ranks0"])
            assert (low[f"{name}_rank"] <= theirs).all() and (theirs <= high[f"{name}_rank"]).all()
        return
    for scores in (retrieval_scores(images @ texts.T, owners), retrieval_scores_of_embeddings(images, texts, owners)):
        for name in ("i2t", "t2i"):
            theirs = expected[name]
            assert scores["per_item"][f"{name}_rank"] == [1 + rank for rank in expected[f"{name}_ranks0"]]
            assert [scores[f"{name}_r{k}_x100"] for k in (1, 5, 10)] == pytest.approx(
                [theirs[f"R{k}"] for k in (1, 5, 10)], abs=1e-12
            )
            assert math.floor(scores[f"{name}_median_rank"]) == theirs["medr"]
            assert scores[f"{name}_mean_rank"] == pytest.approx(theirs["meanr"], abs=1e-12)


def test_videos_rank_as_in_frozen_in_time_ties_included() -> None:
    for given, expected in golden_cases("video_retrieval"):
        check_frozen_in_time(given, expected)


def check_frozen_in_time(given: dict[str, Any], expected: dict[str, Any]) -> None:
    similarity = np.array(given["sims"]).T
    owners = np.arange(similarity.shape[1]) // given["queries_per_video"]
    for name, key, ties in (("t2v", "t2i", "optimistic"), ("v2t", "i2t", "average")):
        scores = retrieval_scores(similarity, owners, ties=ties, recall_at=(1, 5, 10, 50))
        theirs = expected[name]
        assert [scores[f"{key}_r{k}_x100"] for k in (1, 5, 10, 50)] == pytest.approx(
            [theirs[f"R{k}"] for k in (1, 5, 10, 50)], abs=1e-12
        )
        assert scores[f"{key}_median_rank"] == theirs["MedR"]
        assert scores[f"{key}_mean_rank"] == pytest.approx(theirs["MeanR"], abs=1e-12)


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_recall_of_ranks_2_7_and_12() -> None:
    similarity = np.tile(np.arange(15.0), (3, 1))
    owners = np.full(15, 3)  # a fourth image owns the wrong texts
    for image, rank in enumerate((2, 7, 12)):
        owners[15 - rank] = image
    similarity = np.concatenate([similarity, np.full((1, 15), -1.0)])
    scores = retrieval_scores(similarity, owners)
    assert scores["per_item"]["i2t_rank"][:3] == [2, 7, 12]
    # the fourth image, all of whose scores are equal, finds a text of its own for certain in the top 5 and 10
    others = [scores[f"i2t_r{k}"] * 4 - found for k, found in ((1, 12 / 15), (5, 1), (10, 1))]
    assert [value / 3 for value in others] == pytest.approx([0, 1 / 3, 2 / 3])


def test_scores_by_hand() -> None:
    similarity = [
        [0.9, 0.1, 0.8, 0.7, 0.2],  # owns texts 1 and 3: places 5 and 3
        [0.3, 0.2, 0.4, 0.1, 0.9],  # owns text 4: place 1
        [0.5, 0.6, 0.1, 0.8, 0.7],  # owns none
        [0.4, 0.3, 0.9, 0.2, 0.1],  # owns texts 0 and 2: places 2 and 1
    ]
    scores = retrieval_scores(similarity, [3, 0, 3, 0, 1])
    assert scores["per_item"]["i2t_rank"] == pytest.approx([3, 1, math.nan, 1], nan_ok=True)
    assert scores["per_item"]["t2i_rank"] == [3, 4, 1, 2, 1]
    assert scores["i2t_r1"] == 2 / 3 and scores["i2t_r5"] == 1 and scores["i2t_r1_x100"] == pytest.approx(200 / 3)
    assert scores["i2t_map"] == pytest.approx(((1 / 3 + 2 / 5) / 2 + 1 + 1) / 3)
    assert (scores["i2t_median_rank"], scores["i2t_mean_rank"]) == (1, 5 / 3)
    assert scores["t2i_r1"] == 0.4 and scores["t2i_r10_x100"] == 100
    assert scores["t2i_map"] == pytest.approx((1 / 3 + 1 / 4 + 1 + 1 / 2 + 1) / 5)
    assert scores["t2i_map_x100"] == 100 * scores["t2i_map"]
    assert scores["rsum"] == pytest.approx(2 / 3 + 1 + 1 + 0.4 + 1 + 1)
    assert scores["rsum_x100"] == 100 * scores["rsum"]
    assert not [name for name in scores if name.endswith("_rank_x100")]


def test_a_model_that_scores_everything_alike_gets_what_chance_would() -> None:
    owners = np.repeat(np.arange(20), 5)
    scores = retrieval_scores(np.ones((20, 100)), owners)
    assert scores["t2i_r1"] == pytest.approx(1 / 20) and scores["t2i_r10"] == pytest.approx(10 / 20)
    assert scores["t2i_mean_rank"] == pytest.approx(21 / 2)
    assert scores["t2i_map"] == pytest.approx(sum(1 / place for place in range(1, 21)) / 20)
    assert scores["i2t_r5"] == pytest.approx(1 - math.comb(95, 5) / math.comb(100, 5))
    assert scores["i2t_mean_rank"] == pytest.approx(101 / 6)
    assert retrieval_scores(np.ones((20, 100)), owners, ties="optimistic")["rsum_x100"] == 600
    assert retrieval_scores(np.ones((20, 100)), owners, ties="pessimistic")["rsum"] == 0


# -- brute-force twins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", TIES)
def test_scores_are_a_naive_twins_with_many_ties(ties: str) -> None:
    generator = np.random.default_rng(TIES.index(ties))
    for levels in [1, 2, 2, 3, 3, 3, 4, 6, 9] * 3:
        num_images, num_texts = generator.integers(1, 5), generator.integers(1, 6)
        similarity = generator.integers(0, levels, (num_images, num_texts)) / 4 - 1
        owners = generator.integers(0, num_images, num_texts)
        scores = retrieval_scores(similarity, owners, ties=ties, recall_at=(1, 2, 3, 7))
        twin = naive_scores(similarity, owners, ties=ties, recall_at=(1, 2, 3, 7))
        assert {name: scores[name] for name in twin} == pytest.approx(twin, abs=1e-12)


@pytest.mark.parametrize("lift", [0.0, 4.0])  # whether wrong ones stand before the correct ones, or hardly any
@pytest.mark.parametrize("most_texts", [3, 60])
def test_ranks_are_those_of_a_sort_for_each_query(
    most_texts: int, lift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(most_texts)
    texts_each = np.append(generator.integers(0, most_texts + 1, 39), 0)
    owners = generator.permutation(np.repeat(np.arange(40), texts_each))
    similarity = generator.standard_normal((40, len(owners)))
    similarity[owners, np.arange(len(owners))] += lift
    images, texts = sorted_ranks(similarity, owners)
    assert math.isnan(images[39])
    whole = retrieval_scores(similarity, owners)
    for part_bytes in (1, 5 * similarity[0].nbytes):
        monkeypatch.setattr(door, "PART_BYTES", part_bytes)
        scores = retrieval_scores(similarity, owners)
        assert scores["per_item"]["i2t_rank"] == pytest.approx(images, nan_ok=True)
        assert scores["per_item"]["t2i_rank"] == texts
        assert without_items(scores) == without_items(whole)
    correct = [set(np.flatnonzero(owners == image).tolist()) for image in range(40)]
    precisions = [average_precision(np.argsort(-row).tolist(), correct[image]) for image, row in enumerate(similarity)]
    assert whole["i2t_map"] == pytest.approx(mean(precisions), abs=1e-12)


def test_the_order_of_images_and_texts_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    similarity, owners = generator.integers(0, 5, (12, 30)) / 5, generator.integers(0, 12, 30)
    expected = without_items(retrieval_scores(similarity, owners))
    for _ in range(5):
        images, texts = generator.permutation(12), generator.permutation(30)
        shuffled = retrieval_scores(similarity[images][:, texts], np.argsort(images)[owners[texts]])
        assert without_items(shuffled) == pytest.approx(expected, abs=1e-12)


# -- what the scores may come as --------------------------------------------------------------------------------------


def test_any_kind_of_numbers_scores_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "CELLS_AT_ONCE", 50)  # two images of a transpose
    generator = np.random.default_rng(4)
    similarity, owners = generator.integers(-8, 8, (9, 20)), torch.from_numpy(generator.integers(0, 9, 20))
    expected = retrieval_scores(similarity.tolist(), owners.tolist())
    weights = torch.nn.Parameter(torch.from_numpy(similarity).float())
    kinds = [np.float16, np.float32, np.float64, np.int8]
    others: list[Any] = [
        *(similarity.astype(kind) for kind in kinds),
        np.asfortranarray(similarity),
        weights,
        weights.bfloat16(),
    ]
    for values in others:
        scores = retrieval_scores(values, owners)
        assert without_items(scores) == without_items(expected)


def test_pairs_that_are_ruled_out_come_last() -> None:
    similarity = np.array([[0.1, -math.inf, 0.3], [-math.inf, math.inf, 0.2]])
    scores = retrieval_scores(similarity, [0, 1, 1], ties="pessimistic")
    assert (scores["per_item"]["i2t_rank"], scores["per_item"]["t2i_rank"]) == ([2, 1], [1, 1, 2])
    assert (scores["per_item"]["i2t_r1"], scores["per_item"]["t2i_r1"]) == ([0, 1], [1, 1, 0])


def test_each_direction_may_have_scores_of_its_own() -> None:
    generator = np.random.default_rng(5)
    to_text, to_image = generator.standard_normal((7, 20)), generator.standard_normal((20, 7))
    owners = generator.integers(0, 7, 20)
    scores = retrieval_scores(to_text, owners, text_to_image=to_image)
    ranks = scores["per_item"]
    assert ranks["i2t_rank"] == pytest.approx(sorted_ranks(to_text, owners)[0], nan_ok=True)
    assert ranks["t2i_rank"] == sorted_ranks(to_image.T, owners)[1]
    one, same = (retrieval_scores(to_text, owners, text_to_image=other) for other in (None, to_text.T))
    assert without_items(one) == without_items(same)


def test_embeddings_score_as_their_products() -> None:
    generator = np.random.default_rng(6)
    images, texts = generator.standard_normal((31, 8)), generator.standard_normal((90, 8))
    owners = generator.integers(0, 30, 90)
    expected = retrieval_scores(images @ texts.T, owners)
    for chunk in (1, 7, 31, 1000, None):
        scores = retrieval_scores_of_embeddings(torch.from_numpy(images), texts, owners, chunk=chunk)
        assert without_items(scores) == without_items(expected)
        assert scores["per_item"]["i2t_rank"] == pytest.approx(expected["per_item"]["i2t_rank"], nan_ok=True)


def test_equal_embeddings_tie_wherever_they_stand() -> None:
    generator = np.random.default_rng(7)
    images, texts = (generator.standard_normal((count, 48)).astype(np.float32) for count in (301, 603))
    images[200:301], texts[300:600] = images[:101], texts[:300]
    owners = generator.integers(0, 301, 603)
    for chunk in (7, 300):
        one, other = (
            retrieval_scores_of_embeddings(images, texts, owners, chunk=chunk, ties=ties)["per_item"]
            for ties in ("optimistic", "pessimistic")
        )
        twins = np.flatnonzero((owners <= 100) | (owners >= 200))
        gaps = np.array(other["t2i_rank"]) - np.array(one["t2i_rank"])
        assert (gaps[twins] == 1).all() and not np.delete(gaps, twins).any()
        assert np.nanmax(np.array(other["i2t_rank"]) - np.array(one["i2t_rank"])) == 1


def test_products_of_embeddings_are_never_held_whole() -> None:
    generator = np.random.default_rng(8)
    images, texts = (generator.standard_normal((count, 4)).astype(np.float32) for count in (1500, 6000))
    owners = np.arange(6000) % 1500
    tracemalloc.start()
    try:
        retrieval_scores_of_embeddings(images, texts, owners, chunk=20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5e6 < 1500 * 6000


def test_folds_are_scored_apart() -> None:
    generator = np.random.default_rng(9)
    similarity, owners = generator.standard_normal((12, 40)), np.append(generator.integers(0, 12, 37), [0, 4, 8])
    other = generator.standard_normal((40, 12))
    folds = [(np.arange(first, first + 4), np.flatnonzero(owners // 4 == first // 4)) for first in (0, 4, 8)]
    apart = [
        retrieval_scores(
            similarity[np.ix_(images, texts)],
            owners[texts] - images[0],
            text_to_image=other[np.ix_(texts, images)],
            recall_at=(1, 2),
        )
        for images, texts in folds
    ]
    scores = fold_scores(similarity, owners, num_folds=3, text_to_image=other, recall_at=(1, 2))
    assert scores["per_fold"] == [without_items(fold) for fold in apart]
    for name, value in without_items(scores).items():
        assert value == pytest.approx(statistics.fmean(fold[name] for fold in apart), abs=1e-12)
    assert fold_scores(similarity, owners, num_folds=1)["rsum"] == retrieval_scores(similarity, owners)["rsum"]


# -- re-ranking -------------------------------------------------------------------------------------------------------


def naive_reranked(similarity: list[float], places: list[int], matches: list[float], weight: float) -> list[int]:
    """The columns, best first."""
    fused = {
        place: match + (weight * similarity[place] if weight else 0)
        for place, match in zip(places, matches, strict=True)
    }
    rest = [column for column in range(len(similarity)) if column not in fused]
    return [*sorted(fused, key=lambda place: -fused[place]), *sorted(rest, key=lambda column: -similarity[column])]


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reranked_scores_order_as_a_naive_twin(weight: float, scale: float, dtype: Any) -> None:
    generator = np.random.default_rng(10)
    similarity = (scale * generator.standard_normal((6, 50))).astype(dtype)
    places = np.argsort(-similarity, axis=1)[:, :20]
    matches = 10 * generator.standard_normal((6, 20))
    given = similarity.copy()
    scores = rerank_scores(similarity, places, matches, similarity_weight=weight)
    assert scores.dtype == dtype and (similarity == given).all()
    for row in range(6):
        assert len(set(scores[row].tolist())) == 50
        naive = naive_reranked(similarity[row].tolist(), places[row].tolist(), matches[row].tolist(), weight)
        assert np.argsort(-scores[row]).tolist() == naive
    kept = np.ones(scores.shape, bool)
    np.put_along_axis(kept, places, False, axis=1)
    assert (scores[kept] == similarity[kept]).all()


def test_reranking_lifts_what_matches_both_ways() -> None:
    similarity, owners = np.array([[0.9, 0.8, 0.1, 0.2], [0.7, 0.6, 0.3, 0.4]]), [1, 0, 1, 0]
    to_text = rerank_scores(similarity, [[0, 1], [0, 1]], torch.tensor([[-1.0, 1.0], [4.0, -4.0]]))
    to_image = rerank_scores(similarity.T, [[0, 1]] * 4, [[-1.0, 4.0], [1.0, -4.0], [0.0, 2.0], [2.0, 2.0]])
    scores = retrieval_scores(to_text, owners, text_to_image=to_image)
    assert (scores["i2t_r1"], scores["t2i_r1"]) == (1, 3.5 / 4)  # equal matches stay equal
    assert retrieval_scores(similarity, owners)["rsum"] < scores["rsum"]
    ruled_out = np.full((1, 3), -math.inf)
    assert np.argsort(-rerank_scores(ruled_out, [[2, 1]], [[0.5, -math.inf]])).tolist() == [[2, 1, 0]]
    assert rerank_scores(np.zeros((1, 2), np.float16), [[0]], [[1]]).dtype == np.float32


# -- ugly inputs ------------------------------------------------------------------------------------------------------


def test_ugly_scores_are_named() -> None:
    similarity = np.zeros((30, 70))
    similarity[17, 42] = math.nan
    with pytest.raises(ValueError, match=r"similarity\[17, 42\] is NaN"):
        retrieval_scores(similarity, np.zeros(70, int))
    with pytest.raises(ValueError, match=r"text_to_image\[42, 17\] is NaN"):
        retrieval_scores(np.zeros((30, 70)), np.zeros(70, int), text_to_image=similarity.T)
    with pytest.raises(ValueError, match=r"text_to_image has shape .30, 70. but similarity .30, 70."):
        retrieval_scores(np.zeros((30, 70)), np.zeros(70, int), text_to_image=similarity)
    for wrong in (np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0)), [["a"]], np.zeros((2, 2), complex)):
        with pytest.raises(ValueError, match=r"similarity has shape .* and holds .*; give numbers"):
            retrieval_scores(wrong, [0])
    with pytest.raises(ValueError, match="ties is 'fair'; it can be one of expected, optimistic, pessimistic, average"):
        retrieval_scores([[1.0]], [0], ties="fair")
    with pytest.raises(ValueError, match=r"recall_at is \[0\]"):
        retrieval_scores([[1.0]], [0], recall_at=[0])


def test_ugly_owners_are_named() -> None:
    similarity = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"text 1 belongs to image 2, which does not exist .2 such texts.*0 to 1"):
        retrieval_scores(similarity, [0, 2, -1])
    with pytest.raises(ValueError, match="names the images of 2 texts but there are 3"):
        retrieval_scores(similarity, [0, 1])
    for wrong in ([0.0, 1.0, 1.0], [[0, 1, 1]], [True, False, True]):
        with pytest.raises(ValueError, match=r"text_owner has shape .*; give whole numbers in 1 dimension"):
            retrieval_scores(similarity, wrong)


def test_ugly_embeddings_and_folds_are_named() -> None:
    images, texts = np.ones((4, 3)), np.ones((5, 3))
    texts[2, 1] = math.inf
    with pytest.raises(ValueError, match=r"text_embeds\[2\] holds NaN or infinity"):
        retrieval_scores_of_embeddings(images, texts, np.zeros(5, int))
    with pytest.raises(ValueError, match="image_embeds have width 3 but text_embeds 2"):
        retrieval_scores_of_embeddings(images, np.ones((5, 2)), np.zeros(5, int))
    with pytest.raises(ValueError, match="chunk is 0"):
        retrieval_scores_of_embeddings(images, np.ones((5, 3)), np.zeros(5, int), chunk=0)
    with pytest.raises(ValueError, match="4 images cannot be split into 3 equal folds"):
        fold_scores(images, [0, 1, 2], num_folds=3)
    with pytest.raises(ValueError, match="none of the images 2 to 3 has a text"):
        fold_scores(images, [0, 1, 1], num_folds=2)


def test_ugly_candidates_are_named() -> None:
    similarity = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"places .2, 1., match_scores .2, 2. and similarity .2, 3. do not fit"):
        rerank_scores(similarity, [[0], [1]], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"places\[1, 0\] is 3, but similarity has the columns 0 to 2"):
        rerank_scores(similarity, [[0], [3]], np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"places\[1\] names column 2 twice"):
        rerank_scores(similarity, [[0, 1], [2, 2]], np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"match_scores\[1, 0\] is nan"):
        rerank_scores(similarity, [[0], [1]], [[0.0], [math.nan]])
    with pytest.raises(ValueError, match=r"similarity\[0, 2\] is inf"):
        rerank_scores([[0, 0, math.inf]], [[0]], [[1.0]])


def test_the_evaluate_module_loads_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # before the folder of another module's test
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    metric = evaluate.load(str(MODULE), cache_dir=str(tmp_path))
    predictions, references = [[0.9, 0.4, 0.1], [0.2, 0.2, 0.3], [0.3, 0.1, 0.2]], [0, 1, 1]
    scores = metric.compute(predictions=predictions, references=references, ties="pessimistic")
    assert scores == without_items(retrieval_scores(np.array(predictions).T, references, ties="pessimistic"))
    assert scores["t2i_r1_x100"] == pytest.approx(100 / 3)
