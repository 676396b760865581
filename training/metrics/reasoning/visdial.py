"""Visual dialogue (Das et al. 2017): where the right answer stands among the candidates, and NDCG over all of them.

    scores of the candidates of each round + which one is right --visdial--> MRR, R@1, R@5, R@10, mean rank
    the same + how relevant people found each candidate         --visdial_ndcg--> NDCG

Equal to the official evaluator (`visdialch/metrics.py` of the challenge's starter code) up to its float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.reasoning.vcr import score_table

RECALL_AT = (1, 5, 10)


def visdial(
    scores: Any,
    gt_index: Any,
    *,
    ndcg_scores: Any = None,
    ndcg_relevance: Any = None,
    at: Sequence[int] = RECALL_AT,
) -> dict[str, Any]:
    """Mean reciprocal rank, recall at K and mean rank of the right answers; NDCG too, where relevances are given.

    Args:
        scores: (N, C) a score of each candidate of each round, or (dialogues, rounds, C). Of equal scores the earlier
            candidate stands first (the official order of these is undefined).
        gt_index: (N,) or (dialogues, rounds): the place of the right answer among the candidates, from 0.
        ndcg_scores, ndcg_relevance: as `visdial_ndcg` takes them.
        at: the numbers of ranks K.

    Returns:
        `mrr` and `recall_K` in 0..1, each also times 100 as `..._x100`; `mean_rank`, from 1 (lower is better);
        `per_item`: `rank` of each round, and `ndcg` of each rated one; with relevances `ndcg` and `ndcg_x100`.

    Raises:
        ValueError: for scores of other shapes or that are not finite, and an index that names no candidate (that of a
            hidden answer is -1).

    >>> found = visdial([[0.1, 0.7, 0.2], [0.3, 0.2, 0.1]], [2, 0])
    >>> found["mrr"], found["recall_1"], found["mean_rank"], found["per_item"]["rank"]
    (0.75, 0.5, 1.5, [2, 1])
    """
    right = np.asarray(gt_index).reshape(-1)
    ranks = ranks_of(_flat(scores))
    if len(right) != len(ranks):
        raise ValueError(f"{len(ranks)} rounds have scores and {len(right)} a right answer: give one of each a round")
    wrong = ~((right >= 0) & (right < ranks.shape[1]))
    if right.dtype.kind not in "iu" or wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"the right answer of round {row} is number {right[row]}, but there are {ranks.shape[1]} candidates, "
            "from 0; rounds whose answer is hidden cannot be scored, leave them out"
        )
    own = ranks[np.arange(len(ranks)), right]
    figures = {"mrr": float((1 / own).mean()), **{f"recall_{k}": float((own <= k).mean()) for k in at}}
    items: dict[str, list[Any]] = {"rank": own.tolist()}
    if ndcg_scores is not None or ndcg_relevance is not None:
        rated = visdial_ndcg(ndcg_scores, ndcg_relevance)
        figures["ndcg"], items["ndcg"] = rated["ndcg"], rated["per_item"]["ndcg"]
    hundredfold = {f"{name}_x100": 100 * value for name, value in figures.items()}
    return figures | hundredfold | {"mean_rank": float(own.mean()), "per_item": items}


def visdial_ndcg(scores: Any, relevance: Any) -> dict[str, Any]:
    """Normalised discounted cumulative gain over the K best candidates, K being how many have any relevance.

    DCG_K = sum over the first K of relevance / log2(rank + 1), over that of the ideal order.

    Args:
        scores: (N, C) a score of each candidate of each rated round; of equal ones the earlier stands first.
        relevance: (N, C) the share of people who found it right, 0..1.

    Returns:
        `ndcg` in 0..1, the mean over rounds, and `ndcg_x100`; both NaN where a round has no relevant candidate, as
        officially. `per_item`: `ndcg` of each round, NaN where it has none.

    Raises:
        ValueError: for different shapes, no round, and relevances that are not in 0..1.

    >>> visdial_ndcg([[3.0, 2.0, 1.0]], [[0.0, 1.0, 0.0]])["ndcg"]
    0.0
    >>> visdial_ndcg([[1.0, 2.0, 3.0]], [[0.0, 0.5, 1.0]])["ndcg"]
    1.0
    """
    table, rated = score_table(scores, what="scores of rated rounds"), score_table(relevance, what="relevances")
    if table.shape != rated.shape:
        raise ValueError(f"scores have shape {table.shape}, relevances {rated.shape}: give one of each a candidate")
    if rated.min() < 0 or rated.max() > 1:
        raise ValueError("relevances must be in 0..1: the share of people who found a candidate right")
    counted = np.arange(table.shape[1]) < (rated != 0).sum(axis=1, keepdims=True)  # (N, C), by rank
    discount = counted / np.log2(np.arange(table.shape[1]) + 2)
    found = np.take_along_axis(rated, best_first(table), axis=1)
    ideal = -np.sort(-rated, axis=1)
    gain, best = (found * discount).sum(axis=1), (ideal * discount).sum(axis=1)
    values = np.divide(gain, best, out=np.full(len(best), np.nan), where=best > 0)
    mean = float(values.mean())
    return {"ndcg": mean, "ndcg_x100": 100 * mean, "per_item": {"ndcg": values.tolist()}}


def best_first(scores: np.ndarray) -> np.ndarray:
    """The order of candidates (N, C) by falling score, of equal ones the earlier first."""
    return np.argsort(-scores, axis=1, kind="stable")


def ranks_of(scores: np.ndarray) -> np.ndarray:
    """The rank of each candidate, from 1: (N, C).

    >>> ranks_of(np.array([[0.5, 0.9, 0.5]])).tolist()
    [[2, 1, 3]]
    """
    order = best_first(scores)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, order.shape[1] + 1)[None], axis=1)
    return ranks


def _flat(scores: Any) -> np.ndarray:
    """Scores (..., C) -> (N, C)."""
    table = np.asarray(scores)
    return score_table(table.reshape(-1, table.shape[-1]) if table.ndim > 2 else table, what="scores of rounds")
