"""Counting from attention: the number of different objects in the attended boxes (Zhang, Hare, Prugel-Bennett 2018).

Softmax attention averages the attended regions, so two cats give the same result as one. This layer uses the attention
before the softmax and the overlap of the boxes: overlapping regions are the same object (section 4.2 of "Learning to
Count Objects in Natural Images for Visual Question Answering"), and regions with the same relations to all others are
counted once. Its output is an additional input of the answers in `modeling_vqa.py`.
"""

import torch
from torch import nn

from .boxes_updown import pairwise_iou

PIECES = 16  # pieces of each piecewise linear function, as in the paper


class RisingFunction(nn.Module):
    """A learnt piecewise linear function that rises from f(0) = 0 to f(1) = 1 (equation 3 of the paper's section 4).

    >>> RisingFunction()(torch.tensor([0.0, 0.25, 1.0])).tolist()
    [0.0, 0.25, 1.0]
    """

    def __init__(self) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.ones(PIECES))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(...) in 0..1 -> (...) in 0..1"""
        slopes = self.slopes.abs()
        slopes = slopes / slopes.sum().clamp(min=1e-12)
        heights = torch.cat([slopes.new_zeros(1), slopes.cumsum(0)])  # at the ends of the pieces
        place = values.clamp(0, 1) * PIECES
        piece = place.detach().long().clamp(max=PIECES - 1)
        return heights[piece] + (place - piece) * slopes[piece]


class ObjectCounter(nn.Module):
    """Scores of regions and their boxes -> confidences of 0 .. K objects.

    Untrained, it counts exactly if every attention is 0 or 1 and boxes are either equal or disjoint; training adapts
    its eight functions to values in between.

    Example: two copies of one box and a disjoint one are two objects.

    >>> box, other = [0.0, 0.0, 0.4, 0.4], [0.6, 0.6, 1.0, 1.0]
    >>> counter = ObjectCounter(num_objects=3)
    >>> counts = counter(torch.full((1, 3), 50.0), torch.tensor([[box, box, other]]), torch.ones(1, 3).bool())
    >>> counts.round(decimals=2).tolist()
    [[0.0, 0.0, 1.0, 0.0]]
    """

    def __init__(self, *, num_objects: int):
        super().__init__()
        self.num_objects = num_objects
        self.functions = nn.ModuleList(RisingFunction() for _ in range(8))

    def forward(self, scores: torch.Tensor, boxes: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """scores before the softmax (N, R), boxes xyxy (N, R, 4), mask (N, R) -> (N, K + 1)"""
        attention, distance = self.strongest(scores.float(), boxes.float(), mask)
        within, apart, alike, like_pair, like_distance, sure_attention, sure_distance, confidence = self.functions
        pairs = attention[:, :, None] * attention[:, None]  # A (N, K, K)
        edges = within(pairs) * apart(distance)  # without those inside one object
        pattern = like_pair(pairs) * like_distance(distance)  # X: how a region lies to all others
        difference = (pattern[:, :, None] - pattern[:, None]).abs()  # (N, K, K, K)
        same = alike(1 - (attention[:, :, None] - attention[:, None]).abs()) * alike(1 - difference).prod(dim=-1)
        scale = 1 / same.sum(dim=-1)  # (N, K): one over how many regions see the same object
        total = (edges * scale[:, :, None] * scale[:, None]).sum(dim=(1, 2)) + (scale * within(attention.square())).sum(
            1
        )
        count = (total + 1e-20).sqrt().clamp(max=self.num_objects)[:, None]  # K objects have K x K edges, own included
        numbers = torch.arange(self.num_objects + 1, device=count.device)
        nearest = (1 - (count - numbers).abs()).clamp(min=0)  # (N, K + 1): between its two whole numbers
        sure = (sure_attention(attention) - 0.5).abs().mean(dim=1) + (sure_distance(distance) - 0.5).abs().mean(
            dim=(1, 2)
        )
        return nearest * confidence(sure)[:, None]

    def strongest(
        self, scores: torch.Tensor, boxes: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention (N, K) in 0..1 and 1 - IoU (N, K, K) of the K regions with the highest scores; 0 if fewer."""
        scores, boxes = scores.masked_fill(~mask, float("-inf")), boxes.masked_fill(~mask[..., None], 0)
        if scores.shape[1] < self.num_objects:
            lacking = self.num_objects - scores.shape[1]
            scores = nn.functional.pad(scores, (0, lacking), value=float("-inf"))
            boxes = nn.functional.pad(boxes, (0, 0, 0, lacking))
        top, places = scores.topk(self.num_objects, dim=1)
        chosen = boxes.gather(1, places[..., None].expand(-1, -1, 4))
        return top.sigmoid(), 1 - pairwise_iou(chosen, chosen)
