"""What a teacher of the region detector returns: boxes, scores and class names of each image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL.Image import Image as PilImage


@dataclass(frozen=True)
class Detections:
    """A teacher's detections in one image: N boxes, best class and score of each, and if known of all C classes.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the image.
        scores: (N,) 0..1.
        labels: N class names.
        probs: (N, C) 0..1, the score of each of the teacher's `names` (a sigmoid each, so rows need not sum to 1); None
            where the teacher gives the best class alone.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: list[str]
    probs: torch.Tensor | None = None

    def select(self, rows: Sequence[int], labels: Sequence[str] | None = None) -> "Detections":
        """The boxes of the given rows, in that order, with other labels if given (one per chosen row)."""
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        return Detections(
            self.boxes[chosen],
            self.scores[chosen],
            [self.labels[row] for row in rows] if labels is None else list(labels),
            None if self.probs is None else self.probs[chosen],
        )


Teacher = Callable[[Sequence[PilImage]], list[Detections]]
