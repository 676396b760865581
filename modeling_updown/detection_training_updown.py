"""What a detector learns of a batch: its labels and phrases, taken apart by image, and its losses, put together again.

    Labels of B images --BatchLosses.add, a group of one size at a time--> losses --BatchLosses.means--> `output.losses`

The losses are `detection_losses_updown.py`'s. B images, M labelled objects, P phrases, E width of a phrase's vector.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .configuration_updown import UpDownDetectorConfig
from .detection_losses_updown import detector_losses, phrase_loss
from .detector_batch_updown import check_given, check_phrases, image_objects, image_phrases, mean_losses
from .masks_updown import check_true_masks


@dataclass
class Labels:
    """The labels of B images as `UpDownDetector.forward` takes them; None for those that are not given.

    labels: (B, M) object ids 1 .. C; 0 pads, -1 marks a crowd that is never background.
    true_boxes: (B, M, 4) xyxy in 0..1, of the labels.
    true_attributes: (B, M, K) attribute ids 1 .. A, 0 pads.
    other_object_ids: (B, M, K) further true names of the labelled objects, ids 1 .. C, 0 pads: any of them is right.
    phrase_boxes, phrase_embeds: (B, P, 4) xyxy in 0..1, and (B, P, E) of length 1: what is said of which place, as the
        vectors of a text encoder; a vector of zeros pads.
    draw_seeds: (B,) int64: the draw of training boxes depends on it alone; else on torch's random state.
    true_masks: (B, M, S, S) 0 or 1, the mask of each labelled object inside its box; -1 for one without, and padding.
    """

    labels: torch.Tensor | None
    true_boxes: torch.Tensor | None
    true_attributes: torch.Tensor | None
    other_object_ids: torch.Tensor | None
    phrase_boxes: torch.Tensor | None
    phrase_embeds: torch.Tensor | None
    draw_seeds: torch.Tensor | None
    true_masks: torch.Tensor | None = None

    def check(self, boxes: torch.Tensor | None, *, num_images: int, config: UpDownDetectorConfig) -> None:
        """Raise a `ValueError` where these, or given boxes (B, R, 4), cannot be of B images and the model."""
        options: dict[str, Any] = {"num_images": num_images, "config": config}
        check_given(boxes, self.labels, self.true_attributes, others=self.other_object_ids, **options)
        check_phrases(self.phrase_boxes, self.phrase_embeds, **options)
        check_true_masks(self.true_masks, self.labels, config=config)
        if self.labels is None and (self.phrase_boxes is not None or self.other_object_ids is not None):
            raise ValueError(
                "phrases and other_object_ids are learnt beside labels: give labels and true_boxes as well"
            )


class BatchLosses:
    """The losses of a batch, whose images come in groups of one size."""

    def __init__(self, detector: Any, labels: Labels):
        self.detector, self.given = detector, labels
        self.losses: list[dict[str, torch.Tensor]] = []
        self.said: list[tuple[torch.Tensor, ...]] = []  # of each group's phrases: see `places_and_phrases`

    def add(self, group: Any, images: list[int], *, resize_factors: list[float]) -> None:
        """The losses of a group: its `ImageMaps`, and the numbers of its images in the batch."""
        given = self.given
        objects = [
            image_objects(
                given.labels,  # type: ignore[arg-type]
                given.true_boxes,
                given.true_attributes,
                others=given.other_object_ids,
                masks=given.true_masks,
                image=image,
                size=group.size,
            )
            for image in images
        ]
        seeds = None if given.draw_seeds is None else [int(given.draw_seeds[image]) for image in images]
        self.losses.append(detector_losses(self.detector, group, objects, resize_factors=resize_factors, seeds=seeds))
        if given.phrase_boxes is not None and given.phrase_embeds is not None:
            self.said.append(self.places_and_phrases(group, images))

    def places_and_phrases(self, group: Any, images: list[int]) -> tuple[torch.Tensor, ...]:
        """Of all phrases of a group: vectors of their places and of themselves (P, E), boxes (P, 4), images (P,)."""
        boxes, embeds = self.given.phrase_boxes, self.given.phrase_embeds
        phrases = [image_phrases(boxes, embeds, image=image, size=group.size) for image in images]  # type: ignore[arg-type]
        places = self.detector.heads.phrases(self.detector.region_features(group, [own for own, _ in phrases]))
        numbers = [image for image, (own, _) in zip(images, phrases, strict=True) for _ in own]
        return (
            places,
            torch.cat([vectors for _, vectors in phrases]),
            torch.cat([own for own, _ in phrases]),
            torch.tensor(numbers, dtype=torch.long, device=places.device),
        )

    def means(self, *, num_images: int) -> dict[str, torch.Tensor]:
        """Each loss, with its weight, as a mean over the images of the batch; that of phrases as one over phrases."""
        config = self.detector.config
        means = mean_losses(self.losses, num_images=num_images)
        if self.said:
            places, embeds, boxes, images = (torch.cat(parts) for parts in zip(*self.said, strict=True))
            temperature = float(config.phrase_temperature)
            loss = phrase_loss(places, embeds, boxes=boxes, images=images, temperature=temperature)
            means["region_phrases"] = config.phrase_loss_weight * loss
        return means

    def put_into(self, output: Any, *, num_images: int) -> None:
        """Set `losses`, the means, and `loss`, their sum, of the detector's output."""
        output.losses = self.means(num_images=num_images)
        output.loss = torch.stack(list(output.losses.values())).sum()
