"""scored boxes of a photo -> the regions to keep: non-maximum suppression, then 10 to 100 over a threshold, or 36.

Two ways, as `config.nms_per_class` says: each class suppressed by itself (peteanderson80/bottom-up-attention,
`generate_tsv.py`), or the boxes of each region's best class together (the PyTorch port for LXMERT). Boxes are pixels of
the resized photo; N boxes, C classes beside background at index 0.
"""

from dataclasses import dataclass

import torch

from .boxes_updown import fill_up, suppress

FEWEST_CANDIDATES, MOST_CANDIDATES = 256, 4096  # pairs of box and class to begin with


@dataclass
class Selection:
    """Which regions were kept: indices (R,) of the boxes, their confidence (R,), and the class it is of (R,)."""

    indices: torch.Tensor
    scores: torch.Tensor
    object_ids: torch.Tensor


@dataclass
class SelectionRule:
    """How many regions to keep: all over `threshold`, but `smallest` to `most`; and how boxes suppress each other."""

    smallest: int
    most: int
    threshold: float
    nms_thresholds: list[float]
    plus_one: bool = False


def select_per_class(boxes: torch.Tensor, probs: torch.Tensor, rule: SelectionRule) -> Selection:
    """Suppress each class by itself; a region's confidence is that of its best class that survived.

    Where more than `rule.smallest` and at most `rule.most` regions reach the threshold they keep the order of the
    boxes, otherwise the best come first, as in the original.

    Args:
        boxes: (N, 4) of the regions, or (N, C + 1, 4) of each class.
        probs: (N, C + 1), background first.
    """
    smallest = min(rule.smallest, len(boxes))
    for nms_threshold in rule.nms_thresholds:
        scores, object_ids = surviving_scores(boxes, probs, rule, nms_threshold=nms_threshold)
        if int((scores > 0).sum()) >= smallest:
            break
    over = (scores >= rule.threshold).nonzero().flatten()
    if smallest <= len(over) <= rule.most:
        chosen = over
    else:
        order = _best_first(scores, probs)
        chosen = order[: smallest if len(over) < smallest else rule.most]
    missing = scores[chosen] <= 0  # fewer survived than must be kept: the best of the suppressed fill up
    best, best_id = probs[chosen, 1:].max(dim=1)
    return Selection(
        chosen,
        torch.where(missing, best, scores[chosen]),
        torch.where(missing, best_id + 1, object_ids[chosen]),
    )


def surviving_scores(
    boxes: torch.Tensor, probs: torch.Tensor, rule: SelectionRule, *, nms_threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """For every box the probability of its best class that no better box of that class suppresses, and that class.

    Exact for every box that `rule` can choose; the score of others may be 0. A pair of box and class is suppressed by
    better pairs only, so the best pairs are taken first, and more of them until all over the threshold and
    `rule.smallest` boxes are there, or more boxes than `rule.most`: of the 480,000 pairs of 300 boxes and 1,600
    classes, hundreds, and never all of them because the classes are equally likely.
    """
    foreground = probs[:, 1:]
    smallest, most = min(rule.smallest, len(boxes)), min(rule.most, len(boxes) - 1)
    over = int((foreground >= rule.threshold).sum())
    count = min(max(over, FEWEST_CANDIDATES), MOST_CANDIDATES)
    while True:
        count = min(count, foreground.numel())
        score, pair = foreground.flatten().topk(count)
        box, label = pair // foreground.shape[1], pair % foreground.shape[1]
        candidates = boxes[box] if boxes.dim() == 2 else boxes[box, label + 1]
        kept = suppress(candidates, score, threshold=nms_threshold, groups=label, plus_one=rule.plus_one)
        kept = kept[score[kept].argsort(stable=True)]  # rising, so that the best is written last
        scores = foreground.new_zeros(len(boxes)).scatter_reduce(0, box[kept], score[kept], "amax")
        found = int((scores > 0).sum())
        if found > most or (count >= over and found >= smallest) or count == foreground.numel():
            break
        count *= 4
    is_best = score[kept] == scores[box[kept]]
    object_ids = box.new_zeros(len(boxes))
    object_ids[box[kept][is_best]] = label[kept][is_best] + 1
    return scores, object_ids


def _best_first(scores: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
    """All boxes by surviving score, then the suppressed ones by their best probability."""
    fallback = probs[:, 1:].amax(dim=1)
    return torch.where(scores > 0, scores + 1, fallback).argsort(descending=True, stable=True)


def select_jointly(boxes: torch.Tensor, probs: torch.Tensor, rule: SelectionRule) -> Selection:
    """Suppress the boxes of all regions' best classes together, by the first threshold that leaves enough.

    Where none leaves enough, the best of the suppressed fill up (the port fails there). `rule.threshold` is applied
    last, and never leaves fewer than `rule.smallest`; the best come first.

    Args:
        boxes: (N, 4) of the regions, or (N, C + 1, 4) of each class.
        probs: (N, C + 1), background first.
    """
    scores, best = probs[:, 1:].max(dim=1)
    object_ids = best + 1
    chosen_boxes = boxes if boxes.dim() == 2 else boxes[torch.arange(len(boxes), device=boxes.device), object_ids]
    smallest = min(rule.smallest, len(boxes))
    for nms_threshold in rule.nms_thresholds:
        kept = suppress(chosen_boxes, scores, threshold=nms_threshold, plus_one=rule.plus_one)
        if len(kept) >= smallest:
            break
    kept = fill_up(kept, scores, at_least=smallest)
    over = int((scores[kept] >= rule.threshold).sum())
    kept = kept[: min(max(over, smallest), rule.most)]
    return Selection(kept, scores[kept], object_ids[kept])
