"""Seconds of regions as numbers that a model reads: one home for every top-down model.

    seconds    sin, cos(2 pi t / p_k)    p_k from 1 to 10,000 seconds in equal ratios, k = 0 .. 15
    relative   sin, cos(pi k u)          u = (t - first) / (last - first) of the row's regions, k = 1 .. 16

The captioner and the question answerer join them to a region's feature, which before a linear layer is adding an
embedding; the fusion model and the prefix language model add a linear map of them. A row's regions of one second are
one frame of its clip: `frame_numbers` and `split_frames` tell frames apart for pooling, as CLIP4Clip (Luo et al. 2021,
section 3.3) pools the vectors of frames. An image is a clip of one frame.
"""

import torch

from .configuration_time_updown import TIME_WAVES


def time_features(seconds: torch.Tensor) -> torch.Tensor:
    """(...) -> (..., 32): sines and cosines of periods from 1 to about 10,000 seconds.

    >>> time_features(torch.tensor([0.0, 1.0]))[:, [0, 16]].round(decimals=3).abs().tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    """
    periods = 10_000 ** (torch.arange(TIME_WAVES, device=seconds.device) / (TIME_WAVES - 1))
    angles = 2 * torch.pi * (seconds.float()[..., None] / periods % 1)  # whole turns would only cost digits
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def position_features(positions: torch.Tensor) -> torch.Tensor:
    """Positions (...) in 0..1 -> (..., 32): sines and cosines of 1 to 16 half turns, so that 0 and 1 are far apart.

    >>> position_features(torch.tensor([0.0, 1.0]))[:, [0, 16]].round(decimals=3).abs().tolist()
    [[0.0, 1.0], [0.0, 1.0]]
    >>> position_features(torch.tensor([0.0, 1.0]))[:, 16].tolist()
    [1.0, -1.0]
    """
    waves = torch.arange(1, TIME_WAVES + 1, device=positions.device)
    angles = torch.pi * positions.float()[..., None] * waves
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def relative_positions(seconds: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Seconds (P, R) -> where each lies between the first and last of its row, 0..1; 0 in a row of one second.

    mask (P, R) bool: True = a real region; on padding, where anything may stand, 0.

    >>> relative_positions(torch.tensor([[4.0, 8.0, 5.0, 99.0], [7.0, 7.0, 0.0, 0.0]]),
    ...                    torch.tensor([[True, True, True, False], [True, True, False, False]])).tolist()
    [[0.0, 1.0, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    seconds = seconds.float()
    first = seconds.masked_fill(~mask, torch.inf).amin(dim=1, keepdim=True)
    last = seconds.masked_fill(~mask, -torch.inf).amax(dim=1, keepdim=True)
    length = last - first
    positions = (seconds - first) / torch.where(length > 0, length, 1)
    return positions.masked_fill(~mask, 0)


def region_times(seconds: torch.Tensor | None, mask: torch.Tensor, *, kind: str) -> torch.Tensor:
    """What a model reads of seconds (P, R): (P, R, 32), or 64 numbers for both kinds, float32; 0 on padding.

    mask (P, R) bool: True = a real region. kind: `config.time_embedding`, "seconds", "relative" or "both". Raises
    `ValueError` without seconds.
    """
    if seconds is None:
        raise ValueError("This model embeds times (config.time_embedding): give region_seconds as well")
    seconds = seconds.masked_fill(~mask, 0)
    parts = []
    if kind in ("seconds", "both"):
        parts.append(time_features(seconds))
    if kind in ("relative", "both"):
        parts.append(position_features(relative_positions(seconds, mask)))
    return torch.cat(parts, dim=-1).masked_fill(~mask[..., None], 0)


def frame_numbers(seconds: torch.Tensor | None, mask: torch.Tensor) -> torch.Tensor:
    """Which frame of its row each region is of, by its second: (P, R) int64 from 0 in time's order, -1 on padding.

    seconds (P, R); without any, each row is one frame. mask (P, R) bool: True = a real region.

    >>> frame_numbers(torch.tensor([[2.0, 0.5, 2.0, 0.0]]), torch.tensor([[True, True, True, False]])).tolist()
    [[1, 0, 1, -1]]
    """
    if seconds is None:
        return mask.long() - 1
    sorted_seconds, order = seconds.masked_fill(~mask, torch.inf).sort(dim=1)
    later = (sorted_seconds[:, 1:] > sorted_seconds[:, :-1]).long().cumsum(dim=1)
    numbers = torch.zeros_like(order).scatter(1, order, torch.cat([torch.zeros_like(order[:, :1]), later], dim=1))
    return numbers.masked_fill(~mask, -1)


def split_frames(states: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The frames of P rows as rows of their own, without padding between them.

    Args:
        states: (P, R, H), of the regions of each row.
        numbers: (P, R) int64, which frame each is of, as `frame_numbers` has it.

    Returns:
        states (G, r, H) and mask (G, r) of the G frames, row by row in time's order, 0 and False on padding; and which
        frames a row has, (P, F) bool, whose G True entries are those frames in order.
    """
    rows, places = (numbers >= 0).nonzero(as_tuple=True)  # (n,)
    most = int(numbers.max()) + 1
    keys = rows * most + numbers[rows, places]
    order = keys.argsort(stable=True)
    found, counts = keys[order].unique_consecutive(return_counts=True)  # (G,)
    groups = torch.arange(len(found), device=keys.device).repeat_interleave(counts)  # (n,)
    within = torch.arange(len(keys), device=keys.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    frames = states.new_zeros(len(found), int(counts.max()), states.shape[-1])
    mask = torch.zeros(frames.shape[:2], dtype=torch.bool, device=keys.device)
    frames = frames.index_put((groups, within), states[rows[order], places[order]])
    mask[groups, within] = True
    has_frame = torch.zeros(len(numbers) * most, dtype=torch.bool, device=keys.device)
    has_frame[found] = True
    return frames, mask, has_frame.view(len(numbers), most)


def frame_seconds(seconds: torch.Tensor | None, numbers: torch.Tensor, has_frame: torch.Tensor) -> torch.Tensor:
    """The second of each frame (P, F), 0 where a row has none, from those of regions (P, R) and their frames."""
    found = torch.zeros(has_frame.shape, device=has_frame.device)
    if seconds is None:
        return found
    real = numbers >= 0
    rows = real.nonzero(as_tuple=True)[0]
    return found.index_put((rows, numbers[real]), seconds[real].float())
