"""The regions of a clip as steps of time: all regions with the same seconds are one step, pooled to one vector.

    region_seconds (P, R) --steps_of--> ClipSteps --pooled_steps--> a vector for each step (P, C, D)

A step lasts until the next one begins, the first begins with the clip, the last ends with it: steps tile the clip. P
clips, R regions, C steps of the longest clip.
"""

from typing import NamedTuple

import torch

from .compat_updown import is_traced
from .losses_updown import at_least_float32


class ClipSteps(NamedTuple):
    """The steps of P clips.

    of_regions (P, R) int64: the step of each region, C for padding. mask (P, C) bool: True = a step. starts, ends
    (P, C): seconds; those of padding are the clip's end. durations (P,): seconds.
    """

    of_regions: torch.Tensor
    mask: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    durations: torch.Tensor

    def of_rows(self, rows: torch.Tensor) -> "ClipSteps":
        """Those of the clips that rows (N,) name."""
        return ClipSteps(*(part.index_select(0, rows) for part in self))

    def at(self, seconds: torch.Tensor) -> torch.Tensor:
        """The step at each of the seconds (P, K) -> (P, K) int64; before the first it is the first.

        >>> steps = steps_of(torch.tensor([[0.0, 2.0, 4.0]]), torch.ones(1, 3).bool(), default_seconds=2.0)
        >>> steps.at(torch.tensor([[0.5, 2.0, 5.9]])).tolist()
        [[0, 1, 2]]
        """
        starts = self.starts.masked_fill(~self.mask, float("inf"))
        return (torch.searchsorted(starts, seconds.to(starts).contiguous(), right=True) - 1).clamp(min=0)


def steps_of(
    region_seconds: torch.Tensor,
    region_mask: torch.Tensor,
    durations: torch.Tensor | None = None,
    *,
    default_seconds: float,
) -> ClipSteps:
    """The steps of P clips by the seconds of their regions (P, R), in the order of time.

    region_mask (P, R) bool: every clip has a region. durations (P,): seconds of each clip, by default one step more
    than the last one's: the mean distance of its steps, or `default_seconds` for a clip of one step. Raises
    `ValueError` for seconds before the clip, and for a clip that ends before its last step.

    >>> steps = steps_of(torch.tensor([[4.0, 0.0, 4.0]]), torch.ones(1, 3).bool(), default_seconds=2.0)
    >>> steps.of_regions.tolist(), steps.starts.tolist(), steps.ends.tolist()
    ([[1, 0, 1]], [[0.0, 4.0]], [[4.0, 8.0]])
    """
    seconds = at_least_float32(region_seconds).masked_fill(~region_mask, float("inf"))
    ordered, order = seconds.sort(dim=1)
    later = (ordered[:, 1:] != ordered[:, :-1]).long()
    ranks = torch.cat([torch.zeros_like(order[:, :1]), later.cumsum(dim=1)], dim=1)  # (P, R), padding is one more
    counts = ranks.masked_fill(ordered.isinf(), -1).amax(dim=1) + 1  # (P,)
    most = int(counts.max())
    index = torch.empty_like(order).scatter(1, order, ranks).masked_fill(~region_mask, most)
    starts = seconds.new_zeros(len(seconds), most + 1).scatter(1, index, seconds)[:, :most]
    mask = torch.arange(most, device=index.device) < counts[:, None]
    last = starts.gather(1, (counts - 1)[:, None]).squeeze(1)
    if durations is None:
        distance = (last - starts[:, 0]) / (counts - 1).clamp(min=1)
        durations = last + torch.where(counts > 1, distance, default_seconds)
    durations = durations.to(starts)
    _check_seconds(starts[:, 0], last, durations)
    starts = torch.where(mask, starts, durations[:, None])
    ends = torch.cat([starts[:, 1:], durations[:, None]], dim=1)
    return ClipSteps(index, mask, starts, ends, durations)


def _check_seconds(first: torch.Tensor, last: torch.Tensor, durations: torch.Tensor) -> None:
    if is_traced() or first.is_meta:
        return
    if durations.shape != last.shape:
        raise ValueError(
            f"duration_seconds have shape {tuple(durations.shape)}, but there are {len(last)} clips: give a number each"
        )
    wrong = ~((first >= 0) & (last <= durations) & (durations > 0) & durations.isfinite())
    if bool(wrong.any()):
        clip = int(wrong.nonzero()[0])
        raise ValueError(
            f"clip {clip} of the batch lasts {durations[clip].item():g} s, but has regions from {first[clip].item():g} "
            f"to {last[clip].item():g} s: give region_seconds from the beginning of the clip, and duration_seconds "
            "that hold them"
        )


def pooled_steps(vectors: torch.Tensor, steps: ClipSteps, scores: torch.Tensor | None = None) -> torch.Tensor:
    """The vectors (P, R, D) of each step's regions as one, (P, C, D); 0 where a clip has fewer steps.

    Their mean, or weighed by the softmax of the regions' scores (P, R) within the step. What stands at padding is not
    read.

    >>> steps = steps_of(torch.tensor([[0.0, 0.0, 2.0]]), torch.ones(1, 3).bool(), default_seconds=2.0)
    >>> pooled_steps(torch.tensor([[[1.0], [3.0], [7.0]]]), steps).tolist()
    [[[2.0], [7.0]]]
    """
    places = torch.arange(steps.mask.shape[1], device=vectors.device)
    members = steps.of_regions[:, None] == places[:, None]  # (P, C, R)
    if scores is None:
        weights = members / members.sum(dim=-1, keepdim=True).clamp(min=1)
    else:
        weights = at_least_float32(scores)[:, None].masked_fill(~members, float("-inf")).softmax(dim=-1)
        weights = weights.masked_fill(~members, 0)  # NaN where a step has no region
    padding = (steps.of_regions == len(places))[..., None]
    return torch.bmm(weights.to(vectors.dtype), vectors.masked_fill(padding, 0))


def regions_by_step(steps: ClipSteps) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where each of the G real regions stands where every step is a row of its own, and back.

    -> the step among all of P x C, its place in it, both (G,) int64, and which regions these are, (P, R) bool.

    >>> steps = steps_of(torch.tensor([[2.0, 0.0, 2.0]]), torch.ones(1, 3).bool(), default_seconds=2.0)
    >>> [part.tolist() for part in regions_by_step(steps)[:2]]
    [[1, 0, 1], [0, 0, 1]]
    """
    count = steps.mask.shape[1]
    real = steps.of_regions < count
    clips = torch.arange(len(steps.of_regions), device=real.device)[:, None]
    rows = (clips * count + steps.of_regions)[real]  # (G,)
    order = rows.argsort(stable=True)
    ordered = rows[order]
    first = torch.searchsorted(ordered, ordered)  # where the run of each row begins
    places = torch.empty_like(rows).scatter(0, order, torch.arange(len(rows), device=rows.device) - first)
    return rows, places, real
