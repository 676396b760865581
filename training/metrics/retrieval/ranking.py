"""Recall, ranks and average precision from counts, with an explicit rule for equal scores.

    for each correct item, the numbers of items with higher and with equal scores --ranking_scores--> R@K, ranks, mAP

`recall.py` counts. Equal scores are not ordered by the sort algorithm but by one of four rules, `ties`:

- "expected" (default): every number is its expectation over all orders of equal scores (McSherry and Najork, ECIR
  2008), so that a model that gives all items the same score gets the chance level;
- "optimistic": correct items come before wrong ones of the same score (text to video in frozen-in-time);
- "pessimistic": correct items come after wrong ones of the same score, the lower bound;
- "average": the rank of a query is the mean of the places that its best correct item shares with all equal scores; R@1
  requires rank 1, R@K a rank below K + 1 (video to text in frozen-in-time). mAP is that of "expected".
"""

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["RECALL_AT", "TIES", "RankedPairs", "average_precision", "average_precisions", "ranking_scores"]

TIES = ("expected", "optimistic", "pessimistic", "average")
RECALL_AT = (1, 5, 10)


class RankedPairs(NamedTuple):
    """Correct (query, item) pairs of all queries, in any order; each (n,) int64.

    `queries` is the query of each pair, from 0; `better` the number of items with a higher score for that query,
    `at_least` the number with an equal or higher score, including this item.
    """

    queries: np.ndarray
    better: np.ndarray
    at_least: np.ndarray


class _TieGroups(NamedTuple):
    """The pairs sorted by query and score, with counts of their groups of equal scores; each (n,) int64."""

    queries: np.ndarray
    better: np.ndarray  # items before the group
    ordinal: np.ndarray  # of this pair among the query's correct items, from 1
    before: np.ndarray  # correct items before the group
    right: np.ndarray  # correct items in the group
    wrong: np.ndarray  # wrong items in the group


def average_precision(ranking: Iterable[Hashable], relevant: Collection[Hashable]) -> float:
    """AP = 1/M sum_k Prec@k rel_k over one ranking, M the number of relevant items; NaN if there are none.

    Args:
        ranking: item ids, the best first, each once. It may be truncated: a missing relevant item adds 0.
        relevant: the ids of the relevant items.

    Raises:
        ValueError: if an item is twice in the ranking.

    >>> average_precision("abcd", {"b", "c"})
    0.5833333333333333
    """
    wanted, seen = set(relevant), set()
    precisions: list[float] = []
    for place, item in enumerate(ranking, start=1):
        if item in seen:
            raise ValueError(f"item {item!r} is twice in the ranking (again at place {place}); rank each once")
        seen.add(item)
        if item in wanted:
            precisions.append((len(precisions) + 1) / place)
    return math.fsum(precisions) / len(wanted) if wanted else math.nan


def average_precisions(pairs: RankedPairs, *, ties: str = "expected") -> np.ndarray:
    """`average_precision` of all queries from counts: (queries that have a pair,), in the order of the queries.

    A query's pairs are all its relevant items; equal scores are ordered by the rule `ties` (see the module).

    >>> average_precisions(RankedPairs(np.array([0, 0]), np.array([1, 2]), np.array([2, 3]))).round(4).tolist()
    [0.5833]
    """
    check_rules(ties, RECALL_AT)
    return _average_precisions(_tie_groups(pairs), ties)


def ranking_scores(
    pairs: RankedPairs, *, num_queries: int, ties: str = "expected", recall_at: Sequence[int] = RECALL_AT
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Recalls, ranks and mAP over the queries that have a correct item.

    Args:
        pairs: all correct pairs of all queries, at least one.
        num_queries: the number of queries, including those without a correct item.
        ties: the rule for equal scores (see the module).
        recall_at: the K of the recalls.

    Returns:
        `r<K>` for each K and `map`, 0..1, `median_rank` and `mean_rank` of the first correct item, from 1; and for
        each query its `rank`, `r<K>` and `map`, NaN if it has no correct item.

    Raises:
        ValueError: for an unknown rule, or a K below 1.
    """
    check_rules(ties, recall_at)
    groups = _tie_groups(pairs)
    first = groups.ordinal == 1
    best = _TieGroups(*(values[first] for values in groups))
    ranks = _first_ranks(best, ties)
    found = {f"r{k}": _found(best, ranks, top_k=k, ties=ties) for k in recall_at}
    precisions = _average_precisions(groups, ties)
    scores = {name: float(values.mean()) for name, values in found.items()}
    scores["median_rank"], scores["mean_rank"] = float(np.median(ranks)), float(ranks.mean())
    scores["map"] = float(precisions.mean())
    per_query = {"rank": ranks, **found, "map": precisions}
    return scores, {name: _of_all(values, best.queries, num_queries) for name, values in per_query.items()}


def _of_all(values: np.ndarray, queries: np.ndarray, num_queries: int) -> list[float]:
    """Values of some queries as a list for all, NaN for the others."""
    whole = np.full(num_queries, math.nan)
    whole[queries] = values
    return whole.tolist()


def check_rules(ties: str, recall_at: Sequence[int]) -> None:
    """Raises `ValueError` for an unknown rule, no K, or a K below 1."""
    if ties not in TIES:
        raise ValueError(f"ties is {ties!r}; it can be one of {', '.join(TIES)}")
    if not recall_at or any(k < 1 for k in recall_at):
        raise ValueError(f"recall_at is {list(recall_at)}; give at least one K, from 1")


def _tie_groups(pairs: RankedPairs) -> _TieGroups:
    order = np.lexsort((pairs.better, pairs.queries))
    queries, better, at_least = (values[order] for values in pairs)
    new_query = np.diff(queries, prepend=-1) != 0
    new_group = new_query | (np.diff(better, prepend=-1) != 0)
    places = np.arange(len(order))
    start_of_query = np.maximum.accumulate(np.where(new_query, places, 0))
    start_of_group = np.maximum.accumulate(np.where(new_group, places, 0))
    group = np.cumsum(new_group) - 1
    right = np.bincount(group)[group]
    return _TieGroups(
        queries=queries,
        better=better,
        ordinal=places - start_of_query + 1,
        before=start_of_group - start_of_query,
        right=right,
        wrong=at_least - better - right,
    )


def _first_ranks(best: _TieGroups, ties: str) -> np.ndarray:
    """The rank of each query's first correct item, from 1; `best`: each query's pair with the highest score."""
    ahead = {  # wrong items before the first correct one within its group
        "expected": best.wrong / (best.right + 1),
        "optimistic": 0 * best.wrong,
        "pessimistic": best.wrong,
        "average": (best.wrong + best.right - 1) / 2,
    }
    return (1 + best.better + ahead[ties]).astype(np.float64)


def _found(best: _TieGroups, ranks: np.ndarray, *, top_k: int, ties: str) -> np.ndarray:
    """Whether each query has a correct item in its top K, 0 or 1; for "expected" the probability of it."""
    if ties == "average":
        return (ranks == 1 if top_k == 1 else ranks < top_k + 1).astype(np.float64)
    if ties != "expected":
        return (ranks <= top_k).astype(np.float64)
    found = (best.better < top_k).astype(np.float64)
    tied = np.flatnonzero((best.wrong > 0) & (best.better < top_k))
    drawn, wrong = top_k - best.better[tied], best.wrong[tied]
    equal = wrong + best.right[tied]
    missed = np.ones(len(tied))
    for draw in range(min(top_k, int(equal.max(initial=0)))):  # all that are drawn are wrong
        left = np.maximum(equal - draw, 1)
        missed *= np.where(draw < drawn, np.maximum(wrong - draw, 0) / left, 1)
    found[tied] = 1 - missed
    return found


def _average_precisions(groups: _TieGroups, ties: str) -> np.ndarray:
    place = groups.better + groups.ordinal - groups.before  # as if the correct ones came first in their group
    if ties == "pessimistic":
        place = place + groups.wrong
    precisions = groups.ordinal / place
    if ties in ("expected", "average"):
        tied = groups.wrong > 0
        precisions[tied] = _expected_precisions(_TieGroups(*(values[tied] for values in groups)))
    first = np.flatnonzero(groups.ordinal == 1)
    return np.add.reduceat(precisions, first) / np.diff(first, append=len(precisions))


def _expected_precisions(groups: _TieGroups) -> np.ndarray:
    """The expected precision at each pair's place, over all orders of its T equal scores (McSherry and Najork).

    At the k-th of the group's places precision is (before + 1 + (k - 1)(right - 1)/(T - 1)) / (better + k) if a correct
    item is there. Its mean over k takes sums of 1/(better + k), differences of harmonic numbers.
    """
    equal = groups.right + groups.wrong
    last = groups.better + equal
    # in extended precision where NumPy has it, since late differences are small
    harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, int(last.max(initial=0)) + 1, dtype=np.longdouble))])
    inverse_places = harmonic[last] - harmonic[groups.better]
    others = equal - (groups.better + 1) * inverse_places  # sum over k of (k - 1)/(better + k)
    total = (groups.before + 1) * inverse_places + (groups.right - 1) / (equal - 1) * others
    return (total / equal).astype(np.float64)
