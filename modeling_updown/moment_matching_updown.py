"""Which predicted span stands for which true one: the exact cheapest matching, one to one (Kuhn 1955).

    costs (Q, M) of Q queries and M true spans --cheapest_pairs--> min(Q, M) pairs

DETR (Carion et al. 2020) and Moment-DETR (Lei et al. 2021) match by `scipy.optimize.linear_sum_assignment`, whose pairs
these are; of several cheapest matchings one is taken. Shortest augmenting paths with potentials: O(n^2 m) for the
smaller side n, in plain numbers, since a sentence has few spans.
"""

import math
from collections.abc import Sequence

import torch

LARGEST_SIDE = 4096  # of a matrix of costs, above which the matching would take minutes


def cheapest_pairs(costs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """costs (Q, M) -> the rows, rising, and the columns of the cheapest pairs, both (min(Q, M),) int64.

    Each row and column is in one pair at most. Raises `ValueError` for costs that are no matrix, not all finite, or of
    more than 4,096 rows or columns.

    >>> [side.tolist() for side in cheapest_pairs(torch.tensor([[1.0, 2.0], [0.0, 5.0], [9.0, 9.0]]))]
    [[0, 1], [1, 0]]
    """
    if costs.dim() != 2 or max(costs.shape) > LARGEST_SIDE:
        raise ValueError(
            f"costs have shape {tuple(costs.shape)}, but must be (rows, columns), up to {LARGEST_SIDE} each"
        )
    if not bool(torch.isfinite(costs).all()):
        raise ValueError("costs hold NaN or infinity, so no matching is the cheapest: are the predictions finite?")
    wide = costs.shape[0] <= costs.shape[1]
    numbers = (costs if wide else costs.T).double().tolist()
    partners = _partners(numbers, costs.shape[1] if wide else costs.shape[0])
    pairs = [(row, column) if wide else (column, row) for row, column in enumerate(partners)]
    found = torch.tensor(sorted(pairs), dtype=torch.int64, device=costs.device).view(-1, 2)
    return found[:, 0], found[:, 1]


def _partners(costs: Sequence[Sequence[float]], num_columns: int) -> list[int]:
    """The column of each row of costs with at least as many columns as rows."""
    of_rows, of_columns = [0.0] * (len(costs) + 1), [0.0] * (num_columns + 1)  # potentials; column 0 is the start
    owners = [0] * (num_columns + 1)  # the row, from 1, that has each column; 0: none
    for row in range(1, len(costs) + 1):
        owners[0] = row
        _augment(costs, of_rows, of_columns, owners)
    found = [0] * len(costs)
    for column, owner in enumerate(owners[1:]):
        if owner:
            found[owner - 1] = column
    return found


def _augment(
    costs: Sequence[Sequence[float]], of_rows: list[float], of_columns: list[float], owners: list[int]
) -> None:
    """Give a column to the row `owners[0]`, along the shortest path over reduced costs (Dijkstra)."""
    columns = range(1, len(owners))
    nearest, before = [math.inf] * len(owners), [0] * len(owners)
    done, place = [False] * len(owners), 0
    while owners[place]:
        done[place], row = True, owners[place]
        step, following = math.inf, 0
        for column in columns:
            if done[column]:
                continue
            reduced = costs[row - 1][column - 1] - of_rows[row] - of_columns[column]
            if reduced < nearest[column]:
                nearest[column], before[column] = reduced, place
            if nearest[column] < step:
                step, following = nearest[column], column
        for column in range(len(owners)):
            if done[column]:
                of_rows[owners[column]] += step
                of_columns[column] -= step
            else:
                nearest[column] -= step
        place = following
    while place:
        owners[place], place = owners[before[place]], before[place]
