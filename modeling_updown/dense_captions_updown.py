"""Dense captions as numbers: which regions are described, losses of boxes and scores, the choice among sentences.

    region_mask --described_regions--> rows, a region each --the model--> sentences --kept_sentences--> the best ones

M described regions, N sentences, P images, R regions an image; boxes are xyxy in 0..1, -1 in place of an unknown one.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from .boxes_updown import encode_boxes, suppress
from .compat_updown import is_traced
from .losses_updown import IGNORED_LABEL, at_least_float32
from .outputs_updown import UpDownDenseCaptions
from .regions_updown import region_rows


def described_regions(
    region_mask: torch.Tensor, image_index: torch.Tensor | None, region_index: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image (M,) and the place there (M,) of each described region: every real one where none is named.

    region_mask (P, R) bool. Without image_index the M regions are shared out evenly, the first M / P to the first
    image. Raises `ValueError` for regions that are not there.

    >>> mask = torch.tensor([[True, False], [True, True]])
    >>> [index.tolist() for index in described_regions(mask, None, None)]
    [[0, 1, 1], [0, 0, 1]]
    >>> [index.tolist() for index in described_regions(mask, None, torch.tensor([0, 1]))]
    [[0, 1], [0, 1]]
    """
    if region_index is None:
        if image_index is not None:
            raise ValueError("image_index names images alone: give region_index, the region of each row, as well")
        return region_rows(region_mask)
    places, num_images = region_index.to(region_mask.device, torch.long), len(region_mask)
    if image_index is None:
        each, odd = divmod(len(places), num_images)
        if odd or not each:
            raise ValueError(
                f"region_index names {len(places)} regions for {num_images} images: give as many for every image, or "
                "image_index as well"
            )
        images = torch.arange(num_images, device=places.device).repeat_interleave(each)
    else:
        images = image_index.to(places)
    if is_traced() or region_mask.is_meta:
        return images, places
    count = region_mask.shape[1]
    fits = images.shape == places.shape == (len(places),) and len(places) > 0
    inside = fits and bool(((images >= 0) & (images < num_images) & (places >= 0) & (places < count)).all())
    if not inside or not region_mask[images, places].all():
        raise ValueError(
            f"image_index and region_index must name, for each of {len(places)} rows, a real one of the up to {count} "
            f"regions of {num_images} images"
        )
    return images, places


def sentence_box_loss(
    deltas: torch.Tensor, boxes: torch.Tensor, box_labels: torch.Tensor, *, weights: Sequence[float]
) -> torch.Tensor:
    """Smooth L1 of the regression from the regions' boxes to the true ones: a sum over four numbers, a mean over the
    sentences whose box is known; 0 where none is.

    deltas, boxes, box_labels (N, 4); weights: of the regression. Returns a scalar, in float32 at least.

    >>> same = torch.tensor([[0.0, 0.0, 0.5, 0.5]])
    >>> sentence_box_loss(torch.ones(1, 4), same, same, weights=[10, 10, 5, 5]).item()  # 4 x 1/2
    2.0
    """
    known = (box_labels >= 0).all(dim=-1)
    found, start = at_least_float32(deltas[known]), at_least_float32(boxes[known])
    wanted = encode_boxes(start, box_labels[known].to(start.dtype), weights=weights).to(found.dtype)
    total = F.smooth_l1_loss(found, wanted, reduction="sum")
    return total / known.sum().clamp(min=1)


def region_score_loss(logits: torch.Tensor, score_labels: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of whether people describe a region, a mean over the regions that are learnt.

    logits (P, R), score_labels (P, R): 1, 0, or -100 where a region is not learnt. Returns a scalar, in float32 at
    least, 0 where none is learnt.

    >>> round(region_score_loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, -100.0]])).item(), 4)  # ln 2
    0.6931
    """
    learnt = score_labels != IGNORED_LABEL
    chosen = at_least_float32(logits[learnt])
    wanted = score_labels[learnt].to(chosen.dtype)
    total = F.binary_cross_entropy_with_logits(chosen, wanted, reduction="sum")
    return total / learnt.sum().clamp(min=1)


def read_words(sequences: torch.Tensor, end_token_ids: int | Sequence[int] | None) -> torch.Tensor:
    """The words of sentences (N, T) that lead to the next one: (N, T) bool, False from the first end token on.

    >>> read_words(torch.tensor([[1, 5, 2, 0], [1, 5, 6, 7]]), 2).tolist()
    [[True, True, False, False], [True, True, True, True]]
    """
    ends = [end_token_ids] if isinstance(end_token_ids, int) else list(end_token_ids or [])
    ended = torch.isin(sequences, sequences.new_tensor(ends))
    ended[:, 0] = False  # the start token, which some models end with as well
    return ended.cumsum(dim=1) == 0


def sentence_log_probs(label_log_probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each word (N, T), 0 where none is scored -> the mean a word of each sentence (N,)."""
    return label_log_probs.sum(dim=1) / (targets != IGNORED_LABEL).sum(dim=1).clamp(min=1)


def kept_sentences(found: UpDownDenseCaptions, *, nms_iou: float, top_k: int | None = None) -> UpDownDenseCaptions:
    """The sentences whose box overlaps no better one's of their image by more than `nms_iou`, the best first, image
    after image, and of these the first `top_k` of each image. Equal scores keep their order.

    Raises `ValueError` for an overlap that is none and a number below 1.
    """
    if not 0 < nms_iou <= 1:
        raise ValueError(f"nms_iou is {nms_iou}, but must be above 0 and at most 1, as an IoU is")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, but must be at least 1")
    order = found.scores.argsort(descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), 0, -1, device=order.device)  # distinct, so that no tie is left to chance
    boxes = found.boxes.double()
    kept = suppress(boxes, ranks.double(), threshold=nms_iou, groups=found.image_index)
    kept = kept[found.image_index[kept].argsort(stable=True)]
    if top_k is not None:
        images = found.image_index[kept]
        places = torch.arange(len(kept), device=kept.device) - torch.searchsorted(images, images)
        kept = kept[places < top_k]
    return UpDownDenseCaptions(**{name: values.index_select(0, kept) for name, values in found.items()})
