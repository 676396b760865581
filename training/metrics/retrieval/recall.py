"""Recall@K, ranks and mean average precision of image-text retrieval in both directions, by counting, not sorting.

    similarity (P, N) + text_owner (N,) ----------retrieval_scores----------------> i2t_r1 .. t2i_map, rsum
    embeddings (P, E), (N, E) + text_owner -------retrieval_scores_of_embeddings--> the same; P x N is never held
    similarity + match scores of each query's best k --rerank_scores--> a matrix that `retrieval_scores` takes

P images, N texts (any number per image, in any order), E embedding width. The queries of i2t are images, whose correct
items are all their texts; those of t2i are texts, whose correct item is their image. A correct item's rank is one more
than the number of items with a higher score, so the scores need not be sorted.

Equal scores are ordered by an explicit rule, `ties`: see `ranking.py`, which computes the metrics from the counts.
"""

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .ranking import RECALL_AT, RankedPairs, average_precision, average_precisions, check_rules, ranking_scores

__all__ = [
    "average_precision",
    "average_precisions",
    "fold_scores",
    "rerank_scores",
    "retrieval_scores",
    "retrieval_scores_of_embeddings",
]

THREADS = min(os.cpu_count() or 1, 4)
PART_BYTES = 2 << 20  # bytes of scores that one thread compares at a time: they fit the processor's cache
MOST_PART_ROWS = 255  # so that a column's count fits a byte
CELLS_AT_ONCE = 1 << 24  # cells of the product of embeddings, 12 bytes each, or of a transpose
FEW_CORRECT = 16  # a query with more correct items has its row sorted, instead of two passes per correct item
SPARSE = 16  # if at most one in 16 scores can precede a correct one, these are sorted instead
WORDS = 255  # words of eight flags that are summed at a time, so that no flag's count overflows its byte


class _CorrectCells(NamedTuple):
    """The correct columns of all rows, concatenated (n,); those of row r are columns[starts[r]:starts[r + 1]]."""

    columns: np.ndarray
    starts: np.ndarray

    def of_rows(self, first: int, last: int) -> tuple[slice, np.ndarray, np.ndarray]:
        """The slice of the pairs of rows first .. last - 1, each pair's row, counted from `first`, and its column."""
        pairs = slice(int(self.starts[first]), int(self.starts[last]))
        rows = np.repeat(np.arange(last - first), np.diff(self.starts[first : last + 1]))
        return pairs, rows, self.columns[pairs]


# -- scores -----------------------------------------------------------------------------------------------------------


def retrieval_scores(
    similarity: ArrayLike,
    text_owner: ArrayLike,
    *,
    text_to_image: ArrayLike | None = None,
    ties: str = "expected",
    recall_at: Sequence[int] = RECALL_AT,
) -> dict[str, Any]:
    """Recall@K, ranks and mAP of image to text (i2t) and text to image (t2i), with equal weight for each query.

    With distinct scores the ranks are those of VSE++ and frozen-in-time. VSE++ floors the median rank; it is not
    floored here (`math.floor` gives theirs).

    Args:
        similarity: (P, N), higher is more similar, any array or CPU tensor; -inf puts a pair last.
        text_owner: (N,) int, the row of the image that each text belongs to. An image without a text is not a query of
            i2t but is a candidate in t2i.
        text_to_image: (N, P), if the two directions have different scores, as after re-ranking (`rerank_scores`);
            `similarity` is then used only for image to text.
        ties: the rule for equal scores: expected, optimistic, pessimistic or average (`ranking.py`).
        recall_at: the K of the recalls.

    Returns:
        For each direction `i2t_`, `t2i_`: `r1`, `r5`, `r10` (share of queries with a correct item in the top K) and
        `map`, 0..1; `median_rank` and `mean_rank` of the first correct item, from 1. `rsum`, the sum of all recalls.
        Recalls, mAP and `rsum` also times 100 as `..._x100` (`rsum_x100` is the field's rsum, at most 600). `per_item`:
        `i2t_rank`, `i2t_r1`, .. `i2t_map` (P numbers each, NaN for an image without a text) and `t2i_...` (N).

    Raises:
        ValueError: for shapes that do not fit, a text whose image does not exist, a NaN score, an unknown rule.

    >>> scores = retrieval_scores([[0.9, 0.2, 0.3], [0.4, 0.8, 0.1]], [0, 1, 1])
    >>> scores["i2t_r1"], scores["t2i_r1_x100"], scores["t2i_mean_rank"]
    (1.0, 66.66666666666666, 1.3333333333333333)
    """
    check_rules(ties, recall_at)
    matrix = _matrix(similarity, "similarity")
    owners = _owners(text_owner, matrix.shape)
    correct_texts = _correct_texts(owners, len(matrix))
    if text_to_image is None:
        correct_scores = _comparable(matrix[owners, np.arange(len(owners))])
        in_rows, in_columns = _count(
            _row_blocks(matrix), correct_texts, column_scores=correct_scores, name="similarity"
        )
    else:
        other = _matrix(text_to_image, "text_to_image")
        if other.shape != matrix.shape[::-1]:
            raise ValueError(
                f"text_to_image has shape {other.shape} but similarity {matrix.shape}; give one row per text and one "
                "column per image (rerank_scores of similarity.T)"
            )
        correct_images = _CorrectCells(owners, np.arange(len(owners) + 1))
        in_rows, _ = _count(_row_blocks(matrix), correct_texts, column_scores=None, name="similarity")
        in_columns, _ = _count(_row_blocks(other), correct_images, column_scores=None, name="text_to_image")
    return _both_directions(correct_texts, in_rows, in_columns, ties=ties, recall_at=recall_at)


def retrieval_scores_of_embeddings(
    image_embeds: ArrayLike,
    text_embeds: ArrayLike,
    text_owner: ArrayLike,
    *,
    chunk: int | None = None,
    ties: str = "expected",
    recall_at: Sequence[int] = RECALL_AT,
) -> dict[str, Any]:
    """`retrieval_scores` of the dot products of embeddings, in chunks of images, without the whole P x N matrix.

    Embeddings are not normalised here. Products are summed in float64 and rounded to float32: float32 matrix products
    give equal embeddings different last bits, depending on their position, which would order equal scores arbitrarily.

    Args:
        image_embeds: (P, E) numbers, any array or CPU tensor.
        text_embeds: (N, E).
        text_owner: (N,) int, the row of the image that each text belongs to.
        chunk: images at a time; chunk x N scores take 12 bytes each; None takes about 200 MB.
        ties, recall_at: as in `retrieval_scores`.

    Returns:
        As `retrieval_scores`, independent of the chunk.

    Raises:
        ValueError: as `retrieval_scores`; also for different widths, an embedding that is not finite, a chunk below 1.

    >>> retrieval_scores_of_embeddings([[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.0, 1.0]], [0, 1])["rsum"]
    5.5
    """
    check_rules(ties, recall_at)
    images, texts = _embeddings(image_embeds, "image_embeds"), _embeddings(text_embeds, "text_embeds")
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"image_embeds have width {images.shape[1]} but text_embeds {texts.shape[1]}; are both of the same model?"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}; at least one image must be scored at a time")
    correct_texts = _correct_texts(_owners(text_owner, (len(images), len(texts))), len(images))
    rows = chunk or max(1, CELLS_AT_ONCE // len(texts))
    correct_scores = _correct_products(images, texts, correct_texts, rows=rows)
    blocks = _product_blocks(images, texts, correct_texts, correct_scores=correct_scores, rows=rows)
    by_text = np.empty_like(correct_scores)
    by_text[correct_texts.columns] = correct_scores
    in_rows, in_columns = _count(blocks, correct_texts, column_scores=by_text, name="similarity")
    return _both_directions(correct_texts, in_rows, in_columns, ties=ties, recall_at=recall_at)


def fold_scores(
    similarity: ArrayLike,
    text_owner: ArrayLike,
    *,
    num_folds: int = 5,
    text_to_image: ArrayLike | None = None,
    ties: str = "expected",
    recall_at: Sequence[int] = RECALL_AT,
) -> dict[str, Any]:
    """The mean of `retrieval_scores` over folds: 5 x 1k of COCO's 5,000 test images (Karpathy and Fei-Fei 2015).

    Fold f holds the f-th of `num_folds` equal runs of images, in the given order, and the texts of these images.

    Args:
        num_folds: the number of folds.
        similarity, text_owner, text_to_image, ties, recall_at: as in `retrieval_scores`.

    Returns:
        As `retrieval_scores`, each number the mean over the folds, and instead of `per_item` a list `per_fold`.

    Raises:
        ValueError: as `retrieval_scores`; also for images that cannot be split evenly, or a fold without any text.

    >>> fold_scores([[0.9, 0.2, 0.3], [0.4, 0.8, 0.1]], [0, 1, 1], num_folds=2)["t2i_r1"]
    1.0
    """
    matrix = _matrix(similarity, "similarity")
    owners = _owners(text_owner, matrix.shape)
    other = None if text_to_image is None else _matrix(text_to_image, "text_to_image")
    if num_folds < 1 or len(matrix) % num_folds:
        raise ValueError(f"{len(matrix)} images cannot be split into {num_folds} equal folds; give another num_folds")
    size = len(matrix) // num_folds
    per_fold = []
    for first in range(0, len(matrix), size):
        images, texts = slice(first, first + size), np.flatnonzero(owners // size == first // size)
        if not len(texts):
            raise ValueError(f"none of the images {first} to {first + size - 1} has a text; give fewer num_folds")
        scores = retrieval_scores(
            np.take(matrix[images], texts, axis=1),
            owners[texts] - first,
            text_to_image=None if other is None else other[texts, images],
            ties=ties,
            recall_at=recall_at,
        )
        per_fold.append({name: value for name, value in scores.items() if name != "per_item"})
    means = {name: math.fsum(scores[name] for scores in per_fold) / num_folds for name in per_fold[0]}
    return means | {"per_fold": per_fold}


def rerank_scores(
    similarity: ArrayLike, places: ArrayLike, match_scores: ArrayLike, *, similarity_weight: float = 0.0
) -> np.ndarray:
    """Scores that order each query's re-ranked candidates first, the best match first, and then the others as before.

    So a joint encoder that scores only the best k pairs (ITM) refines the ranking of a dual encoder (ITC), as in ALBEF
    (Li et al. 2021). For image to text give (P, N) scores and columns of texts; for text to image their transpose and
    columns of images, and pass the result to `retrieval_scores` as `text_to_image`.

    Args:
        similarity: (Q, C), one row per query, one column per candidate; -inf puts a candidate last.
        places: (Q, k) int, the columns of the candidates that were matched, each once per row.
        match_scores: (Q, k), higher matches better: logits or probabilities.
        similarity_weight: the factor of `similarity`, which is added to the match scores; 0 ranks only by the match.
            Candidates with equal sums stay equal.

    Returns:
        (Q, C), float32 if `similarity` has 32 bits or fewer, else float64. The other items keep their scores; those of
        the candidates are whole steps above the best of the row, and only their order has a meaning.

    Raises:
        ValueError: for shapes that do not fit, a place that does not exist or is twice in a row, a NaN or +inf score.

    >>> rerank_scores([[0.9, 0.8, 0.1]], [[0, 1]], [[-2.0, 3.0]]).round(1).tolist()
    [[1.9, 2.9, 0.1]]
    """
    matrix, columns = _matrix(similarity, "similarity"), _integers(places, "places", ndim=2)
    matches = _matrix(match_scores, "match_scores").astype(np.float64)
    if columns.shape != matches.shape or len(columns) != len(matrix):
        raise ValueError(
            f"places {columns.shape}, match_scores {matches.shape} and similarity {matrix.shape} do not fit; give one "
            "row per query, and one match score per place"
        )
    _check_places(columns, num_columns=matrix.shape[1])
    small = matrix.dtype.kind == "f" and matrix.dtype.itemsize <= 4
    ranked = np.array(matrix, dtype=np.float32 if small else np.float64, order="C")
    for name, values in (("similarity", ranked), ("match_scores", matches)):
        if not values.max(initial=-math.inf) < math.inf:  # NaN too
            row, column = np.argwhere(np.isnan(values) | (values == math.inf))[0]
            raise ValueError(f"{name}[{row}, {column}] is {values[row, column]}; a score must be a number, or -inf")
    if similarity_weight:
        matches += np.take_along_axis(ranked, columns, axis=1).astype(np.float64) * similarity_weight
    best = ranked.max(axis=1, keepdims=True)
    best[~np.isfinite(best)] = 0
    step = np.maximum(1, 4 * np.spacing(np.abs(best)))  # a step that the type can represent at this magnitude
    np.put_along_axis(ranked, columns, best + step * _levels(matches), axis=1)
    return ranked


def _both_directions(
    correct_texts: _CorrectCells, in_rows: np.ndarray, in_columns: np.ndarray, *, ties: str, recall_at: Sequence[int]
) -> dict[str, Any]:
    """The result of `retrieval_scores`, from [better, at_least] of each image's texts and of each text's image."""
    num_images, num_texts = len(correct_texts.starts) - 1, len(correct_texts.columns)
    images = np.repeat(np.arange(num_images), np.diff(correct_texts.starts))
    directions = {
        "i2t": (RankedPairs(images, *in_rows), num_images),
        "t2i": (RankedPairs(np.arange(num_texts), *in_columns), num_texts),
    }
    scores: dict[str, Any] = {}
    ranks: dict[str, list[float]] = {}
    for name, (pairs, num_queries) in directions.items():
        numbers, per_query = ranking_scores(pairs, num_queries=num_queries, ties=ties, recall_at=recall_at)
        scores |= {f"{name}_{key}": value for key, value in numbers.items()}
        ranks |= {f"{name}_{key}": values for key, values in per_query.items()}
    scores["rsum"] = math.fsum(scores[f"{name}_r{k}"] for name in directions for k in recall_at)
    hundredfold = {f"{name}_x100": 100 * value for name, value in scores.items() if not name.endswith("_rank")}
    return scores | hundredfold | {"per_item": ranks}


# -- counting ---------------------------------------------------------------------------------------------------------


def _count(
    blocks: Iterable[tuple[int, np.ndarray]], correct: _CorrectCells, *, column_scores: np.ndarray | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Count the scores that are better and those that are at least as good, along the rows and down the columns.

    Args:
        blocks: (first row, block (b, C)), which together are the whole matrix (Q, C).
        own: the correct columns of each row.
        column_scores: (C,), the score that those of each column are compared with; None: columns are not counted.
        name: the name of the matrix in the error about a NaN.

    Returns:
        int64 [better, at_least] of each pair of `correct` along its row (2, n), and of each column (2, C or 0).
    """
    in_rows = np.empty((2, len(correct.columns)), np.int64)
    in_columns = np.zeros((2, 0 if column_scores is None else len(column_scores)), np.int64)
    with ThreadPoolExecutor(THREADS) as pool:
        for first, block in blocks:
            part_rows = max(1, min(MOST_PART_ROWS, PART_BYTES // (block.shape[1] * block.itemsize)))
            ends = np.linspace(0, len(block), THREADS + 1).astype(int).tolist()
            spans = [range(start, stop, part_rows) for start, stop in itertools.pairwise(ends) if start < stop]
            work = partial(
                _count_span, block, first, correct=correct, column_scores=column_scores, in_rows=in_rows, name=name
            )
            for counts in pool.map(work, spans):
                in_columns += counts
    return in_rows, in_columns


def _count_span(
    block: np.ndarray,
    first: int,
    span: range,
    *,
    correct: _CorrectCells,
    column_scores: np.ndarray | None,
    in_rows: np.ndarray,
    name: str,
) -> np.ndarray:
    """One thread's share of `_count`: the rows `span` of a block, in steps.

    Writes the counts of these rows' pairs into `in_rows` and returns the counts of the columns, (2, C or 0).
    """
    width = block.shape[1]
    # one buffer for all comparisons, since allocating memory takes as long as they do; past `width` it stays False
    room = np.zeros((span.step, -(-width // (8 * WORDS)) * 8 * WORDS), bool)
    in_columns = np.zeros((2, 0 if column_scores is None else width), np.int64)
    for start in span:
        part = np.ascontiguousarray(_comparable(block[start : min(start + span.step, span.stop)]))
        if np.isnan(part.max()):
            row, column = np.argwhere(np.isnan(part))[0]
            place = f"{name}[{first + start + row}, {column}]"
            raise ValueError(f"{place} is NaN; every pair needs a score (-inf puts it last)")
        flags = room[: len(part)]
        pairs, rows, columns = correct.of_rows(first + start, first + start + len(part))
        in_rows[:, pairs] = _count_along_rows(part, rows, columns, flags=flags)
        if column_scores is not None:
            for counts, compare in zip(in_columns, (np.greater, np.greater_equal), strict=True):
                compare(part, column_scores, out=flags[:, :width])
                counts += flags[:, :width].view(np.uint8).sum(axis=0, dtype=np.uint8)
    return in_columns


def _count_along_rows(part: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, flags: np.ndarray) -> np.ndarray:
    """[better, at_least] (2, n) of the pairs (row, column), whose rows ascend, each among the scores of its row.

    `flags` is a buffer for comparisons, (b, a multiple of 8 WORDS), False past the width of `part`.
    """
    scores, found = part[rows, columns], flags[:, : part.shape[1]]
    starts = np.searchsorted(rows, np.arange(len(part) + 1))
    lengths = np.diff(starts)
    lowest = np.full(len(part), math.inf, part.dtype)
    np.minimum.at(lowest, rows, scores)
    np.greater_equal(part, lowest[:, None], out=found)
    sparse = np.count_nonzero(flags) * SPARSE <= part.size
    counts = np.empty((2, len(rows)), np.int64)
    for row in np.flatnonzero(lengths > (0 if sparse else FEW_CORRECT)):
        pairs, kept = slice(starts[row], starts[row + 1]), part[row].compress(found[row])
        kept.sort()
        for number, side in enumerate(("right", "left")):
            counts[number, pairs] = len(kept) - kept.searchsorted(scores[pairs], side=side)
    if not sparse:
        few = lengths[rows] <= FEW_CORRECT
        ordinal = (np.arange(len(rows)) - starts[rows])[few]
        counts[:, few] = _count_each(part, rows[few], scores[few], ordinal=ordinal, flags=flags)
    return counts


def _count_each(
    part: np.ndarray, rows: np.ndarray, scores: np.ndarray, *, ordinal: np.ndarray, flags: np.ndarray
) -> np.ndarray:
    """`_count_along_rows` by comparing all rows at once with their first score, with their second, ...

    `ordinal` numbers the scores of a row from 0.
    """
    correct = np.full((len(part), int(ordinal.max(initial=-1)) + 1), math.inf, part.dtype)
    correct[rows, ordinal] = scores
    counts = np.empty((2, *correct.shape), np.int64)
    words = flags.view(np.uint64).reshape(len(part), -1, WORDS)
    for column in range(correct.shape[1]):
        for number, compare in enumerate((np.greater, np.greater_equal)):
            compare(part, correct[:, column : column + 1], out=flags[:, : part.shape[1]])
            bytewise = words.sum(axis=2).view(np.uint8)  # eight counts in a word, faster than single flags
            counts[number, :, column] = bytewise.sum(axis=1, dtype=np.int64)
    return counts[:, rows, ordinal]


def _correct_products(images: np.ndarray, texts: np.ndarray, correct: _CorrectCells, *, rows: int) -> np.ndarray:
    """The score of each pair of `correct` (n,) float32, computed for the texts of `rows` images at a time."""
    scores = np.empty(len(correct.columns), np.float32)
    for start in range(0, len(scores), max(rows, 1 << 12)):
        pairs = slice(start, start + max(rows, 1 << 12))
        owners = np.searchsorted(correct.starts, np.arange(len(scores))[pairs], side="right") - 1
        scores[pairs] = np.einsum("ne,ne->n", images[owners], texts[correct.columns[pairs]])
    return scores


def _row_blocks(matrix: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The whole matrix if its rows are contiguous, else (for a transpose) copies of some rows at a time."""
    rows = len(matrix) if matrix.flags.c_contiguous else max(1, CELLS_AT_ONCE // matrix.shape[1])
    for first in range(0, len(matrix), rows):
        yield first, np.ascontiguousarray(matrix[first : first + rows])


def _product_blocks(
    images: np.ndarray, texts: np.ndarray, correct: _CorrectCells, *, correct_scores: np.ndarray, rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The scores of some images at a time, (first, block (b, N) float32)."""
    for first in range(0, len(images), rows):
        block = (images[first : first + rows] @ texts.T).astype(np.float32)
        pairs, owners, columns = correct.of_rows(first, first + len(block))
        block[owners, columns] = correct_scores[pairs]  # so that a correct pair equals itself, without another rounding
        yield first, block


# -- inputs -----------------------------------------------------------------------------------------------------------


def _array(values: Any) -> np.ndarray:
    """The values as an array, without a copy if possible; a tensor may require a gradient, or be bfloat16."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() and values.element_size() == 2 else values
    return np.asarray(values)


def _matrix(values: Any, name: str) -> np.ndarray:
    matrix = _array(values)
    if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "fiub":
        raise ValueError(f"{name} has shape {matrix.shape} and holds {matrix.dtype}; give numbers, one row per query")
    return matrix


def _comparable(scores: np.ndarray) -> np.ndarray:
    """The scores as float32 or float64, which represent every number of the narrower types exactly."""
    return scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)


def _embeddings(values: Any, name: str) -> np.ndarray:
    embeddings = _matrix(values, name).astype(np.float64)
    if not np.isfinite(embeddings).all():
        row = int(np.argwhere(~np.isfinite(embeddings))[0, 0])
        raise ValueError(f"{name}[{row}] holds NaN or infinity; embed it again, or leave it out")
    return embeddings


def _integers(values: Any, name: str, *, ndim: int) -> np.ndarray:
    numbers = _array(values)
    if numbers.ndim != ndim or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has shape {numbers.shape} and holds {numbers.dtype}; give whole numbers in {ndim} dimension(s)"
        )
    return numbers.astype(np.int64)


def _owners(text_owner: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`text_owner` as int64 (N,), checked against the numbers of images and texts."""
    owners = _integers(text_owner, "text_owner", ndim=1)
    num_images, num_texts = shape
    if len(owners) != num_texts:
        raise ValueError(
            f"text_owner names the images of {len(owners)} texts but there are {num_texts}; give one per text"
        )
    absent = np.flatnonzero((owners < 0) | (owners >= num_images))
    if len(absent):
        raise ValueError(
            f"text {absent[0]} belongs to image {owners[absent[0]]}, which does not exist ({len(absent)} such texts): "
            f"images are numbered 0 to {num_images - 1}; leave out texts without an image"
        )
    return owners


def _correct_texts(owners: np.ndarray, num_images: int) -> _CorrectCells:
    columns = np.argsort(owners, kind="stable")
    return _CorrectCells(columns, np.searchsorted(owners[columns], np.arange(num_images + 1)))


def _check_places(columns: np.ndarray, *, num_columns: int) -> None:
    """Raises `ValueError` if a place (Q, k) does not exist, or is twice in its row."""
    wrong = np.argwhere((columns < 0) | (columns >= num_columns))
    if len(wrong):
        row, place = wrong[0]
        raise ValueError(
            f"places[{row}, {place}] is {columns[row, place]}, but similarity has the columns 0 to {num_columns - 1}"
        )
    ascending = np.sort(columns, axis=1)
    twice = np.argwhere(ascending[:, 1:] == ascending[:, :-1])
    if len(twice):
        row, place = twice[0]
        raise ValueError(f"places[{row}] names column {ascending[row, place]} twice; match each candidate once")


def _levels(scores: np.ndarray) -> np.ndarray:
    """The dense rank (Q, k) int64 of each row's scores, from 1 for the lowest; equal scores have equal ranks."""
    order = np.argsort(scores, axis=1)
    ascending = np.take_along_axis(scores, order, axis=1)
    higher = ascending[:, 1:] != ascending[:, :-1]
    levels = np.ones(scores.shape, np.int64)
    levels[:, 1:] += np.cumsum(higher, axis=1)
    ranked = np.empty_like(levels)
    np.put_along_axis(ranked, order, levels, axis=1)
    return ranked
