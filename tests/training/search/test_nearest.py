"""Nearest vectors: chunked search against one naive sort in float64, ties, and faiss against both."""

import sys
from typing import Any

import numpy as np
import pytest

from training.search import nearest
from training.search.nearest import FaissSearch, exact_top_k


def unit_vectors(number: int, *, width: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((number, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def naive_top_k(queries: np.ndarray, embeddings: np.ndarray, *, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """All scores in float64 and a stable sort of each row."""
    scores = queries.astype(np.float64) @ embeddings.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return np.take_along_axis(scores, rows, axis=1), rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("chunk_rows", [1, 7, 100, 1000, None])
def test_chunks_find_what_one_sort_finds(dtype: Any, chunk_rows: int | None) -> None:
    queries, embeddings = unit_vectors(9, seed=1), unit_vectors(333).astype(dtype)
    scores, rows = exact_top_k(queries, embeddings, top_k=12, chunk_rows=chunk_rows)
    expected_scores, expected = naive_top_k(queries, embeddings, top_k=12)
    assert (rows == expected).all() and scores.dtype == np.float32 and rows.dtype == np.int64
    np.testing.assert_allclose(scores, expected_scores, atol=1e-7)


@pytest.mark.parametrize("chunk_rows", [1, 3, 50, 64, None])
def test_ties_go_to_the_lower_row(chunk_rows: int | None) -> None:
    """Each of four vectors fifty times: the first copies are found, whatever the chunks."""
    embeddings = np.tile(unit_vectors(4), (50, 1))
    _, rows = exact_top_k(embeddings[:4], embeddings, top_k=20, chunk_rows=chunk_rows)
    assert rows.tolist() == [list(range(copy, 80, 4)) for copy in range(4)]


def test_ties_in_rounded_scores_are_decided_exactly() -> None:
    """Vectors that differ by less than a float32 dot product's rounding."""
    base = unit_vectors(1, width=256)[0]
    nudged = np.repeat(base[None].astype(np.float64), 500, axis=0)
    nudged[np.arange(500), np.arange(500) % 256] *= 1 + 1e-6
    embeddings = nudged.astype(np.float32)
    for chunk_rows in (17, 500):
        _, rows = exact_top_k(base[None], embeddings, top_k=30, chunk_rows=chunk_rows)
        scores = np.array([np.dot(row, base.astype(np.float64)) for row in embeddings.astype(np.float64)])
        assert set(rows[0]) <= set(np.flatnonzero(scores >= np.sort(scores)[-30] - 1e-15))


def test_edges() -> None:
    embeddings = unit_vectors(5)
    scores, rows = exact_top_k(embeddings[:2], embeddings, top_k=99)
    assert rows.shape == scores.shape == (2, 5) and (np.sort(rows, axis=1) == np.arange(5)).all()
    assert [part.shape for part in exact_top_k(embeddings[:0], embeddings, top_k=3)] == [(0, 3)] * 2
    assert [part.shape for part in exact_top_k(embeddings, embeddings[:0], top_k=3)] == [(5, 0)] * 2
    many = exact_top_k(np.repeat(embeddings[:1], nearest.QUERY_BLOCK + 1, axis=0), embeddings, top_k=1)[1]
    assert many.shape == (nearest.QUERY_BLOCK + 1, 1) and not many.any()
    spoilt = embeddings.copy()
    spoilt[2] = np.nan
    assert exact_top_k(embeddings[2:3], spoilt, top_k=4)[1][0].tolist()[-1:] != [2]
    with pytest.raises(ValueError, match="a query holds NaN or infinity"):
        exact_top_k(spoilt, embeddings, top_k=1)
    with pytest.raises(ValueError, match=r"queries of shape \(5, 23\) do not fit embeddings of width 24"):
        exact_top_k(embeddings[:, 1:], embeddings, top_k=1)


def test_memory_is_bounded(tmp_path: object) -> None:
    """Of a memory-mapped file only a chunk at a time is turned into float32."""
    tracemalloc = pytest.importorskip("tracemalloc")
    embeddings = np.lib.format.open_memmap(f"{tmp_path}/rows.npy", mode="w+", dtype=np.float16, shape=(200_000, 64))
    embeddings[:] = 0.125
    tracemalloc.start()
    _, rows = exact_top_k(unit_vectors(3, width=64), embeddings, top_k=5, chunk_rows=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert peak < 4e6  # bytes; all of it in float32 would be 51 MB


# -- faiss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_flat_faiss_equals_the_exact_search(dtype: Any) -> None:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    queries = unit_vectors(20, seed=1)
    embeddings = np.concatenate([unit_vectors(400), unit_vectors(30), unit_vectors(30)]).astype(dtype)  # with doubles
    search = FaissSearch(embeddings)
    for top_k in (1, 10, 50, 999):
        for found, exact in zip(
            search.top_k(queries, top_k=top_k), exact_top_k(queries, embeddings, top_k=top_k), strict=True
        ):
            assert (found == exact).all()
    assert search.recall(queries) == 1.0


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_approximate_faiss_states_its_recall(kind: str) -> None:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    centres = unit_vectors(40)
    embeddings = centres.repeat(50, axis=0) + 0.05 * unit_vectors(2000, seed=2)  # images come in kinds
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    search = FaissSearch(embeddings, kind=kind)
    queries = embeddings[::50] + 0.01 * unit_vectors(40, seed=3)
    scores, rows = search.top_k(queries, top_k=10)
    expected = [set(row) for row in naive_top_k(queries, embeddings, top_k=10)[1]]
    shares = [len(set(row) & wanted) / 10 for row, wanted in zip(rows, expected, strict=True)]
    assert search.recall(queries) == pytest.approx(np.mean(shares)) and np.mean(shares) > 0.9
    assert (np.diff(scores, axis=1) <= 0).all()


def test_faiss_that_finds_fewer_says_so() -> None:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    embeddings = unit_vectors(400)
    search = FaissSearch(embeddings, kind="ivf")
    search.index.nprobe = 1
    scores, rows = search.top_k(embeddings[:1], top_k=400)
    found = rows[0] >= 0
    assert 0 < found.sum() < 400 and rows[0, 0] == 0
    assert (rows[0][~found] == -1).all() and np.isneginf(scores[0][~found]).all()


def test_absent_faiss_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"this search needs faiss: pip install 'modeling-updown\[faiss\]', or"):
        FaissSearch(unit_vectors(3))


def test_strange_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown kind of faiss index 'lsh'; choose one of flat, ivf, hnsw"):
        FaissSearch(unit_vectors(3), kind="lsh")
    with pytest.raises(ValueError, match="there is no embedding to search"):
        FaissSearch(unit_vectors(0))
