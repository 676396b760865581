"""Losses of the detector: boxes are matched to the image's objects, sampled in balance, and scored by four losses.

Ren et al. 2015 for proposals, classes and boxes; Anderson et al. 2018 for attributes, as their Caffe layers compute
them: a region may have several, whose cross-entropies are averaged. All functions are for one image; boxes are pixels
of the resized image. N boxes, M objects.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from .boxes_updown import box_area, encode_boxes, join_rois, pairwise_iou
from .configuration_updown import UpDownDetectorConfig
from .losses_updown import contrastive_loss
from .masks_updown import mask_loss, mask_targets
from .nanodet_updown import top_cells
from .proposals_updown import top_proposals

CROWD_OVERLAP = 0.5  # a box that is mostly inside a crowd is ignored
SAME_PLACE_IOU = 0.8  # boxes people drew twice around one thing
SAME_WORDS = 1e-3  # distance of the vectors of equal phrases, but for rounding
IGNORED = -1


@dataclass
class ImageObjects:
    """The true objects of an image.

    boxes (M, 4) pixels; object_ids (M,) int64, 1 .. C; attribute_ids (M, K) int64, 0 if there are fewer than K;
    crowd (N, 4) pixels: areas in which boxes do not count as background. other_ids (M, K) int64: further true names of
    each object, 0 if there are fewer. masks (M, S, S): of each object inside its box, 0 or 1; -1 where nobody drew one.
    """

    boxes: torch.Tensor
    object_ids: torch.Tensor
    attribute_ids: torch.Tensor
    crowd: torch.Tensor
    other_ids: torch.Tensor | None = None
    masks: torch.Tensor | None = None


@dataclass
class SampledBoxes:
    """Boxes sampled for training: indices of the positive ones, of the object of each, and of the negative ones."""

    positive: torch.Tensor
    target: torch.Tensor
    negative: torch.Tensor


@torch.no_grad()
def match_boxes(
    boxes: torch.Tensor,
    objects: ImageObjects,
    *,
    positive_iou: float,
    negative_iou: float,
    best_counts: bool,
    plus_one: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The object of each box (N, 4), (N,), and its label (N,): 1 = positive, 0 = negative, -1 = ignored.

    Positive at `positive_iou` and above, negative below `negative_iou`; with `best_counts` also the boxes that overlap
    some object as much as any box does.
    """
    label = torch.full((len(boxes),), IGNORED, dtype=torch.long, device=boxes.device)
    if not len(objects.boxes):
        label[:] = 0
        target = torch.zeros_like(label)
    else:
        overlap = pairwise_iou(_grown(boxes, plus_one), _grown(objects.boxes, plus_one))  # (N, M)
        best, target = overlap.max(dim=1)
        label[best < negative_iou] = 0
        if best_counts:
            highest = overlap.amax(dim=0)
            label[((overlap == highest) & (highest > 0)).any(dim=1)] = 1
        label[best >= positive_iou] = 1
    if len(objects.crowd):
        inside = torch.maximum(boxes[:, None, :2], objects.crowd[None, :, :2])
        outside = torch.minimum(boxes[:, None, 2:], objects.crowd[None, :, 2:])
        shared = (outside - inside).clamp(min=0).prod(dim=-1) / box_area(boxes)[:, None].clamp(min=1e-6)
        label[(label == 0) & (shared > CROWD_OVERLAP).any(dim=1)] = IGNORED
    return target, label


def _grown(boxes: torch.Tensor, plus_one: bool) -> torch.Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] + float(plus_one)], dim=1)


def sample_balanced(
    target: torch.Tensor, label: torch.Tensor, *, batch_size: int, generator: torch.Generator | None
) -> SampledBoxes:
    """Sample up to `batch_size` boxes, half of them positive if there are enough; the rest is negative."""
    positive = _shuffled((label == 1).nonzero().flatten(), generator)[: batch_size // 2]
    negative = _shuffled((label == 0).nonzero().flatten(), generator)[: batch_size - len(positive)]
    return SampledBoxes(positive, target[positive], negative)


def _shuffled(numbers: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return numbers[torch.randperm(len(numbers), generator=generator).to(numbers.device)]


def proposal_losses(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    anchors: torch.Tensor,
    *,
    objects: ImageObjects,
    image_size: tuple[int, int],
    config: UpDownDetectorConfig,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Objectness and regression of the anchors (N, 4): logits (N,), deltas (N, 4) -> two scalars, a mean each over the
    anchors sampled. Anchors that reach over the image's edge take no part, as in Caffe, unless all do, or unless they
    alone fit an object.
    """
    target, label = match_boxes(
        anchors,
        objects,
        positive_iou=config.rpn_positive_iou,
        negative_iou=config.rpn_negative_iou,
        best_counts=True,
        plus_one=config.box_plus_one,
    )
    last = anchors.new_tensor([image_size[1], image_size[0]]) - float(config.box_plus_one)
    inside = (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2:] <= last).all(dim=1)
    if inside.any():
        label[~inside & (label == 0)] = IGNORED
        has_inside = torch.zeros(len(objects.boxes) + 1, dtype=torch.bool, device=label.device)
        has_inside[target[inside & (label == 1)]] = True
        label[~inside & (label == 1) & has_inside[target]] = IGNORED  # an object only outer anchors fit keeps them
    sampled = sample_balanced(target, label, batch_size=config.rpn_batch_size, generator=generator)
    chosen = torch.cat([sampled.positive, sampled.negative])
    wanted = torch.zeros_like(logits[chosen])
    wanted[: len(sampled.positive)] = 1
    count = max(len(chosen), 1)
    objectness = F.binary_cross_entropy_with_logits(logits[chosen], wanted, reduction="sum") / count
    regression = encode_boxes(anchors[sampled.positive], objects.boxes[sampled.target], plus_one=config.box_plus_one)
    box = (
        F.smooth_l1_loss(deltas[sampled.positive], regression, beta=config.rpn_smooth_l1_beta, reduction="sum") / count
    )
    return {"proposal_objectness": objectness, "proposal_box": box}


def sample_regions(
    proposals: torch.Tensor,
    objects: ImageObjects,
    *,
    config: UpDownDetectorConfig,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, SampledBoxes]:
    """Sample from proposals (K, 4) and true boxes: the sampled boxes (N, 4), positives first, and their indices."""
    boxes = torch.cat([proposals, objects.boxes])
    iou = config.region_positive_iou
    target, label = match_boxes(
        boxes, objects, positive_iou=iou, negative_iou=iou, best_counts=False, plus_one=config.box_plus_one
    )
    sampled = sample_balanced(target, label, batch_size=config.region_batch_size, generator=generator)
    return boxes[torch.cat([sampled.positive, sampled.negative])], sampled


def region_losses(
    object_logits: torch.Tensor,
    deltas: torch.Tensor,
    boxes: torch.Tensor,
    *,
    sampled: SampledBoxes,
    objects: ImageObjects,
    config: UpDownDetectorConfig,
) -> dict[str, torch.Tensor]:
    """Class and regression losses of the sampled boxes (N, 4), positives first: logits (N, C + 1), deltas
    (N, C or 1, 4) -> two scalars, each a mean over the sampled boxes. An object of several names has the class loss
    -log of the sum of their probabilities; its box is regressed as that of the first.
    """
    count, positives = max(len(boxes), 1), len(sampled.positive)
    wanted = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    wanted[:positives] = objects.object_ids[sampled.target]
    classes = F.cross_entropy(object_logits, wanted, reduction="none")
    if objects.other_ids is not None and positives:
        named = any_name_loss(object_logits[:positives], wanted[:positives], objects.other_ids[sampled.target])
        classes = torch.cat([named, classes[positives:]])
    classes = classes.sum() / count
    row = torch.zeros_like(wanted[:positives]) if config.class_agnostic_boxes else wanted[:positives] - 1
    chosen = deltas[torch.arange(positives, device=boxes.device), row]
    regression = encode_boxes(
        boxes[:positives],
        objects.boxes[sampled.target],
        weights=config.box_weights,  # type: ignore[arg-type]
        plus_one=config.box_plus_one,
    )
    box = F.smooth_l1_loss(chosen, regression, beta=config.region_smooth_l1_beta, reduction="sum") / count
    return {"region_class": classes, "region_box": box}


def any_name_loss(logits: torch.Tensor, object_ids: torch.Tensor, other_ids: torch.Tensor) -> torch.Tensor:
    """-log of the summed probability of all true names: logits (N, C + 1), ids (N,) and (N, K), 0 = none -> (N,).

    >>> any_name_loss(torch.zeros(1, 4), torch.tensor([1]), torch.tensor([[2, 0]])).item()  # -log 2/4
    0.6931471824645996
    """
    true = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, other_ids, True)
    true[:, 0] = False
    true = true.scatter(1, object_ids[:, None], True)
    return logits.logsumexp(dim=1) - logits.masked_fill(~true, float("-inf")).logsumexp(dim=1)


def phrase_loss(
    region_embeds: torch.Tensor,
    phrase_embeds: torch.Tensor,
    *,
    boxes: torch.Tensor,
    images: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Symmetric InfoNCE of the places that phrases speak of and these phrases, a mean over both ways.

    Args:
        region_embeds: (P, E), the vector of the place of each phrase, of length 1.
        phrase_embeds: (P, E), of length 1.
        boxes, images: (P, 4) the places, and (P,) the number of the image each lies in. Phrases of one vector are
            each other's positives, and so are phrases of one place (IoU of `SAME_PLACE_IOU` and over).
        temperature: the divisor of cosines.

    Returns a scalar, 0 without phrases.
    """
    same_place = (pairwise_iou(boxes, boxes) >= SAME_PLACE_IOU) & (images[:, None] == images[None, :])
    words = phrase_embeds.float()
    exact = "donot_use_mm_for_euclid_dist"  # by products, equal vectors are up to 0.001 apart
    same_words = torch.cdist(words, words, compute_mode=exact) < SAME_WORDS
    positives = same_place | same_words | torch.eye(len(boxes), dtype=torch.bool, device=boxes.device)  # (P, P)
    logits = region_embeds.float() @ words.T / temperature
    return 0.5 * (contrastive_loss(logits, positives) + contrastive_loss(logits.T, positives.T))


def attribute_loss(logits: torch.Tensor, attribute_ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of several true attributes per region: logits (N, A + 1) and ids (N, K), 0 = none -> a scalar.

    Each region's attributes are averaged, then the regions that have any; 0 if none has (peteanderson80's
    SoftmaxWithLoss over 16 labels).

    >>> attribute_loss(torch.zeros(2, 4), torch.tensor([[1, 3], [0, 0]])).item()  # ln 4
    1.3862943649291992
    """
    known = attribute_ids > 0
    log_probs = F.log_softmax(logits, dim=-1).gather(1, attribute_ids.clamp(min=0))  # (N, K)
    per_region = -(log_probs * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return per_region.sum() / known.any(dim=1).sum().clamp(min=1)


def detector_losses(
    detector: Any,
    images: Any,
    objects: list[ImageObjects],
    *,
    resize_factors: list[float],
    seeds: list[int] | None,
) -> dict[str, torch.Tensor]:
    """The five losses of an `UpDownDetector`, each summed over n images of one size: four without attributes, two fewer
    where NanoDet proposes the boxes, one more where objects have masks, and that one alone where nothing but the mask
    head trains. Phrases are learnt over the whole batch, by `phrase_loss`.

    images: their `ImageMaps`; objects, resize_factors, seeds: one per image. Boxes are proposed, sampled and described
    in one pass; without seeds the draw depends on torch's random state.
    """
    config = detector.config
    losses: list[dict[str, torch.Tensor]] = []
    boxes, draws = [], []
    alone = detector.trains_masks_alone
    learnt = images.cells is None  # else NanoDet, which is frozen, found the boxes
    logits, deltas = detector.proposals(images.maps) if learnt else ([], [])
    anchors = detector.proposals.anchors(images.maps) if learnt else []
    for i, image in enumerate(objects):
        generator = None if seeds is None else torch.Generator().manual_seed(seeds[i])
        options: dict[str, Any] = {"image_size": images.size, "config": config}
        options_of_boxes = options | {"resize_factor": resize_factors[i], "training": True}
        if learnt:
            one_logits, one_deltas = [part[i] for part in logits], [part[i] for part in deltas]
            proposal = torch.cat(one_logits), torch.cat(one_deltas), torch.cat(anchors)
            if not alone:
                losses.append(proposal_losses(*proposal, objects=image, generator=generator, **options))
            proposed, _ = top_proposals(one_logits, one_deltas, anchors, **options_of_boxes)
        else:
            proposed = top_cells(images.cells, i, **options_of_boxes)
        sampled_boxes, sampled = sample_regions(proposed, image, config=config, generator=generator)
        boxes.append(sampled_boxes)
        draws.append(sampled)
    if not alone:
        losses += sampled_losses(detector, images, boxes, draws=draws, objects=objects)
    if any(image.masks is not None for image in objects):
        losses += mask_losses(detector, images, boxes, draws=draws, objects=objects)
    elif alone:
        raise ValueError("nothing but the mask head trains, and there is no mask: give true_masks, or unfreeze()")
    names = dict.fromkeys(name for part in losses for name in part)
    return {name: torch.stack([part[name] for part in losses if name in part]).sum() for name in names}


def sampled_losses(
    detector: Any, images: Any, boxes: list[torch.Tensor], *, draws: list[SampledBoxes], objects: list[ImageObjects]
) -> list[dict[str, torch.Tensor]]:
    """Class, box and attribute losses of the boxes sampled in each image, as `detector_losses` has them."""
    losses = []
    features_by_image = detector.features_by_image(images, boxes)
    for (own_boxes, features), image, sampled in zip(features_by_image, objects, draws, strict=True):
        object_logits, box_deltas = detector.heads(features)
        losses.append(
            region_losses(object_logits, box_deltas, own_boxes, sampled=sampled, objects=image, config=detector.config)
        )
        if detector.heads.has_attributes:
            logits = detector.heads.attributes(features[: len(sampled.target)], image.object_ids[sampled.target])
            loss = attribute_loss(logits, image.attribute_ids[sampled.target])
            losses[-1]["region_attributes"] = detector.config.attribute_loss_weight * loss
    return losses


def mask_losses(
    detector: Any, images: Any, boxes: list[torch.Tensor], *, draws: list[SampledBoxes], objects: list[ImageObjects]
) -> list[dict[str, torch.Tensor]]:
    """The masks' loss in the positive boxes sampled in each image, with its weight, as `detector_losses` has it.

    Arguments as for `sampled_losses`; of every image or of none masks are given.
    """
    config = detector.config
    positive = [own[: len(draw.target)] for own, draw in zip(boxes, draws, strict=True)]
    classes = [image.object_ids[draw.target] for image, draw in zip(objects, draws, strict=True)]
    logits = detector.mask_logits(images, join_rois(positive), torch.cat(classes))
    losses = []
    parts = logits.split([len(own) for own in positive])
    for own_logits, own, image, draw in zip(parts, positive, objects, draws, strict=True):
        masks, true_boxes = image.masks[draw.target], image.boxes[draw.target]  # type: ignore[index]
        loss = mask_loss(own_logits, *mask_targets(masks, true_boxes, own, size=config.mask_size))
        losses.append({"region_masks": config.mask_loss_weight * loss})
    return losses
