"""Which of a detector's boxes become regions: the best of each class, or of all classes together, so many and so sure.

All over the threshold, but 10 to 100, or exactly 36. Each class is suppressed by itself (peteanderson80/
bottom-up-attention, `generate_tsv.py`), or the boxes of each region's best class together (the PyTorch port for
LXMERT), as `config.nms_per_class` says; slivers and near-duplicates of other classes go first where the config asks for
it. Boxes are pixels of the resized image. N boxes, C objects.
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
    """How many regions to keep, and how boxes suppress each other.

    smallest, most, threshold: all over `threshold`, but `smallest` to `most`.
    nms_thresholds: tried in order until `smallest` are left.
    plus_one: whether a box from pixel 3 to pixel 5 is 3 pixels wide.
    per_class: whether boxes suppress others of their class only.
    duplicate_iou: IoU over which a box goes beside a surer one, whatever their classes.
    smallest_share: 0..1, of the image's width and height; a box of a smaller side is a sliver and goes.
    of_any_class: a box is as sure as the sum of all classes' probabilities, not as that of its best class.
    """

    smallest: int
    most: int
    threshold: float
    nms_thresholds: list[float]
    plus_one: bool = False
    per_class: bool = False
    duplicate_iou: float | None = None
    smallest_share: float = 0.0
    of_any_class: bool = False

    @property
    def is_tidy(self) -> bool:
        """Whether slivers or near-duplicates go."""
        return self.duplicate_iou is not None or self.smallest_share > 0

    def confidence(self, probs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of probs (N, C + 1), background first: how sure each box is (N,), and its best class (N,), 1 .. C."""
        scores, best = probs[:, 1:].max(dim=1)
        return 1 - probs[:, 0] if self.of_any_class else scores, best + 1


def select_regions(
    boxes: torch.Tensor, probs: torch.Tensor, rule: SelectionRule, *, image_size: tuple[int, int]
) -> Selection:
    """The regions of an image as the rule has them.

    Where slivers or near-duplicates go, a box stands for its best class alone, so that it cannot come back as the
    second class of what a surer box shows; then fewer than `rule.smallest` may be left, but never none.

    Args:
        boxes: (N, 4) of the regions, or (N, C + 1, 4) of each class.
        probs: (N, C + 1), background first.
        image_size: height and width in pixels, of which `rule.smallest_share` is a share.
    """
    if not rule.is_tidy:
        return select_per_class(boxes, probs, rule) if rule.per_class else select_jointly(boxes, probs, rule)
    scores, object_ids = rule.confidence(probs)
    rows = tidy_rows(boxes_of_classes(boxes, object_ids), scores, rule, image_size=image_size)
    chosen = select_jointly(boxes[rows], probs[rows], rule)
    return Selection(rows[chosen.indices], chosen.scores, chosen.object_ids)


def tidy_rows(
    boxes: torch.Tensor, scores: torch.Tensor, rule: SelectionRule, *, image_size: tuple[int, int]
) -> torch.Tensor:
    """Which of the boxes (N, 4) are neither slivers nor near-duplicates of one with a higher score (N,): (K,).

    Where all are slivers, the least of them stays.
    """
    height, width = image_size
    shares = ((boxes[:, 2:] - boxes[:, :2]) / boxes.new_tensor([width, height])).amin(dim=1)
    rows = (shares >= rule.smallest_share).nonzero().flatten()
    if not len(rows):
        rows = shares.argmax()[None]
    if rule.duplicate_iou is None:
        return rows
    return rows[suppress(boxes[rows], scores[rows], threshold=rule.duplicate_iou, plus_one=rule.plus_one)]


def boxes_of_classes(boxes: torch.Tensor, object_ids: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4), or those of each class (N, C + 1, 4), of which one class (N,) is taken: (N, 4)."""
    return boxes if boxes.dim() == 2 else boxes[torch.arange(len(boxes), device=boxes.device), object_ids]


def best_of_first(probs: torch.Tensor, count: int) -> Selection:
    """The first `count` boxes in their order, each with the best class of probs (N, C + 1)."""
    scores, best = probs[:count, 1:].max(dim=1)
    return Selection(torch.arange(count, device=probs.device), scores, best + 1)


def join_selections(first: Selection, others: Selection) -> Selection:
    """Two selections as one; the indices of the others count from after the first."""
    return Selection(
        torch.cat([first.indices, len(first.indices) + others.indices]),
        torch.cat([first.scores, others.scores]),
        torch.cat([first.object_ids, others.object_ids]),
    )


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

    With `rule.per_class`, boxes of other best classes do not suppress each other. Where no threshold leaves enough, the
    best of the suppressed fill up (the port fails there). `rule.threshold` is applied last, and never leaves fewer than
    `rule.smallest`; the best come first.

    Args:
        boxes: (N, 4) of the regions, or (N, C + 1, 4) of each class.
        probs: (N, C + 1), background first.
    """
    scores, object_ids = rule.confidence(probs)
    chosen_boxes, groups = boxes_of_classes(boxes, object_ids), object_ids if rule.per_class else None
    smallest = min(rule.smallest, len(boxes))
    for nms_threshold in rule.nms_thresholds:
        kept = suppress(chosen_boxes, scores, threshold=nms_threshold, groups=groups, plus_one=rule.plus_one)
        if len(kept) >= smallest:
            break
    kept = fill_up(kept, scores, at_least=smallest)
    over = int((scores[kept] >= rule.threshold).sum())
    kept = kept[: min(max(over, smallest), rule.most)]
    return Selection(kept, scores[kept], object_ids[kept])
