"""Nearest-neighbour search among vectors: exact in bounded memory, or with faiss if installed and requested.

    queries (Q, E) + embeddings (N, E) --exact_top_k | FaissSearch.top_k--> scores (Q, K), rows (Q, K)

All vectors have length 1, so their dot product is their cosine. A matrix product finds the candidates, which are scored
again in float64, row by row, so that results do not depend on the size of a chunk or the number of threads: equal
vectors have equal scores, and of equal scores the lower row comes first.
"""

from typing import Any

import numpy as np

CHUNK_NUMBERS = 2**23  # float32 numbers of embeddings and scores in memory at a time: 32 MiB
QUERY_BLOCK = 1024
FAISS_KINDS = ("flat", "ivf", "hnsw")
HNSW_NEIGHBOURS = 32
HNSW_SEARCHED = 256
IVF_IMAGES_PER_LIST = 39  # faiss warns below this number of training vectors per list
IVF_PROBED_SHARE = 1 / 8


def exact_top_k(
    queries: np.ndarray, embeddings: np.ndarray, *, top_k: int, chunk_rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The K rows nearest to each query, K = min(`top_k`, N).

    Args:
        queries: (Q, E) of length 1.
        embeddings: (N, E) of length 1, float16 or float32, also memory-mapped; read chunk by chunk, once per 1024
            queries.
        chunk_rows: rows per chunk; by default as many as fit into 32 MiB.

    Returns:
        scores (Q, K) float32, the highest first, and rows (Q, K) int64; ties by the lower row.

    Raises:
        ValueError: widths that differ, or a query that holds NaN or infinity.

    >>> scores, rows = exact_top_k(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), top_k=2)
    >>> rows.tolist()
    [[1, 0], [0, 2]]
    """
    queries = checked_queries(queries, width=embeddings.shape[1])
    top_k = min(top_k, len(embeddings))
    blocks = [queries[start : start + QUERY_BLOCK] for start in range(0, len(queries), QUERY_BLOCK)]
    found = [block_top_k(block, embeddings, top_k=top_k, chunk_rows=chunk_rows) for block in blocks]
    scores, rows = ([part[side] for part in found] for side in (0, 1))
    empty = (0, top_k)
    return np.concatenate([np.empty(empty, np.float32), *scores]), np.concatenate([np.empty(empty, np.int64), *rows])


def block_top_k(
    queries: np.ndarray, embeddings: np.ndarray, *, top_k: int, chunk_rows: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """`exact_top_k` of one block of queries."""
    number, width = queries.shape
    rows_at_once = chunk_rows or max(1, CHUNK_NUMBERS // (number + width))
    best = [(np.empty(0), np.empty(0, dtype=np.int64))] * number
    for start in range(0, len(embeddings) if top_k else 0, rows_at_once):
        part = np.asarray(embeddings[start : start + rows_at_once], dtype=np.float32)  # (n, E)
        rough = queries @ part.T  # (Q, n)
        for query in range(number):
            rows = candidates(rough[query], best[query][0], top_k=top_k, width=width)
            scores = row_scores(queries[query], part[rows])
            best[query] = merged(best[query], (scores, start + rows), top_k=top_k)
    return (
        np.array([scores for scores, _ in best], dtype=np.float32).reshape(number, top_k),
        np.array([rows for _, rows in best], dtype=np.int64).reshape(number, top_k),
    )


def candidates(rough: np.ndarray, best: np.ndarray, *, top_k: int, width: int) -> np.ndarray:
    """The rows of a chunk that may be in the top K, given their float32 scores (n,) and the best exact scores so far.

    The rounding error of a float32 dot product of unit vectors of `width` is less than the slack.
    """
    slack = rounding_slack(width)
    rough = np.where(np.isnan(rough), -np.inf, rough)  # NaN in a manipulated file
    floor = -np.inf if len(best) < top_k else best[-1] - slack
    if len(rough) > top_k:
        floor = max(floor, np.partition(rough, len(rough) - top_k)[len(rough) - top_k] - 2 * slack)
    return np.flatnonzero(rough >= floor)


def rounding_slack(width: int) -> float:
    """An upper bound of the rounding error of a float32 dot product of two unit vectors of `width`."""
    return width * 2.0**-23


def row_scores(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Dot products (n,) of a query (E,) with rows (n, E) in float64, each row summed separately."""
    return (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)


def merged(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], *, top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `top_k` best of two lists of (scores, rows), the best first, ties by the lower row."""
    scores, rows = (np.concatenate(sides) for sides in zip(first, second, strict=True))
    order = np.lexsort((rows, -scores))[:top_k]
    return scores[order], rows[order]


def checked_queries(queries: np.ndarray, *, width: int) -> np.ndarray:
    """Queries (Q, E) in float32; raises `ValueError` if their width differs, or they hold NaN or infinity."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != width:
        raise ValueError(
            f"queries of shape {queries.shape} do not fit embeddings of width {width}: make them with the same model"
        )
    if not np.isfinite(queries).all():
        raise ValueError("a query holds NaN or infinity: was the model trained and loaded whole?")
    return queries


class FaissSearch:
    """The same search with faiss, whose indices are in memory and use all cores.

    Args:
        embeddings: (N, E) of length 1; faiss keeps them in float32, `4 * N * E` bytes.
        kind: `flat` compares with every row and gives the results of `exact_top_k`; `ivf` compares with the rows of the
            nearest cells (of about 4 sqrt(N) cells), `hnsw` searches a graph of neighbours. These two may miss results:
            `recall` measures how many they find.

    Raises:
        ImportError: faiss is not installed.
        ValueError: for an unknown kind, or without embeddings.

    Reference: Douze et al. 2024, *The Faiss library*.
    """

    def __init__(self, embeddings: np.ndarray, *, kind: str = "flat") -> None:
        if kind not in FAISS_KINDS:
            raise ValueError(f"unknown kind of faiss index {kind!r}; choose one of {', '.join(FAISS_KINDS)}")
        if not len(embeddings):
            raise ValueError("there is no embedding to search")
        faiss = imported_faiss()
        self.embeddings, self.kind = embeddings, kind
        number, width = embeddings.shape
        if kind == "flat":
            self.index = faiss.IndexFlatIP(width)
        elif kind == "hnsw":
            self.index = faiss.IndexHNSWFlat(width, HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efSearch = HNSW_SEARCHED
        else:
            lists = max(1, min(round(4 * number**0.5), number // IVF_IMAGES_PER_LIST))
            self.index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
            self.index.nprobe = max(1, round(lists * IVF_PROBED_SHARE))
            step = max(1, number // (256 * lists))  # faiss samples as many, but from an array in memory
            self.index.train(np.ascontiguousarray(embeddings[::step], dtype=np.float32))
        rows_at_once = max(1, CHUNK_NUMBERS // width)
        for start in range(0, number, rows_at_once):
            self.index.add(np.ascontiguousarray(embeddings[start : start + rows_at_once], dtype=np.float32))

    def top_k(self, queries: np.ndarray, *, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `exact_top_k`; if `ivf` or `hnsw` find fewer, the last rows are -1 and their scores -inf."""
        queries = checked_queries(queries, width=self.embeddings.shape[1])
        top_k = min(top_k, len(self.embeddings))
        scores = np.full((len(queries), top_k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), top_k), -1, dtype=np.int64)
        if not len(queries):
            return scores, rows
        rough, near = self.index.search(queries, top_k)
        for query, (vector, floor) in enumerate(zip(queries, rough[:, -1], strict=True)):
            kept = self.within(vector, float(floor)) if self.kind == "flat" else near[query][near[query] >= 0]
            nothing = (np.empty(0), np.empty(0, dtype=np.int64))
            found = merged((row_scores(vector, self.embeddings[kept]), kept), nothing, top_k=top_k)
            scores[query, : len(found[0])], rows[query, : len(found[1])] = found
        return scores, rows

    def within(self, query: np.ndarray, floor: float) -> np.ndarray:
        """All rows that may have a score of at least `floor`, since faiss breaks ties arbitrarily."""
        slack = 2 * rounding_slack(len(query))
        return self.index.range_search(query[None], floor - slack)[2].astype(np.int64)

    def recall(self, queries: np.ndarray, *, top_k: int = 10) -> float:
        """The share, 0..1, of the exact top K of the queries (Q, E) that this search finds."""
        exact = exact_top_k(queries, self.embeddings, top_k=top_k)[1]
        found = self.top_k(queries, top_k=top_k)[1]
        return float(np.mean([np.isin(wanted, got).mean() for wanted, got in zip(exact, found, strict=True)]))


def imported_faiss() -> Any:
    """The faiss library; raises `ImportError` with the extra to install."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "this search needs faiss: pip install 'modeling-updown[faiss]', or search without it"
        ) from error
    return faiss
