"""Length bucketing: splits a batch's texts into buckets of similar length, so that a CPU processes little padding.

Captions are short and of different lengths, and a batch is padded to its longest. The saving was measured only on a
CPU, so on other devices a batch is not split.
"""

import torch
from torch.nn import functional as F

BUCKET_ROWS, MOST_BUCKETS = 32, 4  # the smallest number of texts in a bucket, and the largest number of buckets
WORTHWHILE = 0.8  # buckets must reduce the positions of a batch, words and padding, to this share


def length_buckets(mask: torch.Tensor) -> list[torch.Tensor]:
    """The rows of each bucket, the shortest texts first; [] if splitting is not worthwhile.

    mask (N, T) bool, True = a word.

    >>> mask = torch.arange(12) < torch.tensor([12, 3] * 64)[:, None]
    >>> [len(rows) for rows in length_buckets(mask)], length_buckets(mask[:50]), length_buckets(mask[:, :3])
    ([32, 32, 32, 32], [], [])
    """
    if mask.device.type != "cpu" or len(mask) < 2 * BUCKET_ROWS or torch.compiler.is_compiling():
        return []
    lengths = text_lengths(mask)
    buckets = list(lengths.argsort(stable=True).tensor_split(min(len(mask) // BUCKET_ROWS, MOST_BUCKETS)))
    read = sum(len(rows) * int(lengths[rows[-1]]) for rows in buckets)
    return buckets if read <= WORTHWHILE * mask.numel() else []


def text_lengths(mask: torch.Tensor) -> torch.Tensor:
    """The position of the last word of each text, from 1, (N,); T for a text without words. mask (N, T).

    >>> text_lengths(torch.tensor([[True, True, False], [False, True, True], [False, False, False]])).tolist()
    [2, 3, 3]
    """
    return mask.shape[1] - mask.flip(1).to(torch.uint8).argmax(dim=1)


def join_buckets(states: list[torch.Tensor], buckets: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """States of all texts in their original order, (N, T + R, H), 0 on padding that was cut off.

    states: of each bucket of n rows, its texts truncated to their longest t, (n, t + R, H); mask (N, T).
    """
    lengths, longest, parts = text_lengths(mask), mask.shape[1], []
    for rows, read in zip(buckets, states, strict=True):
        length = int(lengths[rows[-1]])
        words, regions = read.split([length, read.shape[1] - length], dim=1)
        parts.append(torch.cat([F.pad(words, (0, 0, 0, longest - length)), regions], dim=1))
    return torch.cat(parts)[torch.cat(buckets).argsort()]
