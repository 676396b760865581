"""Our own region detector as a teacher: a large `UpDownDetector` can draw the boxes that a small one learns."""

from collections.abc import Sequence

import torch
from PIL.Image import Image as PilImage

from modeling_updown import UpDownDetector, UpDownImageProcessor
from modeling_updown.outputs_updown import UpDownDetectorOutput, check_detections
from training.saved_models import load_with_processor
from training.teachers.detections import Detections


class UpDownTeacher:
    """Any `UpDownDetector`, by folder or Hub name; runs on a GPU if there is one.

    Boxes are the regressed ones of each region's class, as they are scored (`pred_boxes`), at most the detector's
    `max_regions` an image.

    Args:
        model: a `save_pretrained` folder with weights and image processor, or a Hub id of one.
        threshold: boxes of a lower score are left out.

    Attributes:
        names: the C class names without the background, which are the columns of `Detections.probs`.

    Raises:
        ValueError: where there is no such model, or it lacks weights.
    """

    def __init__(self, model: str, *, threshold: float = 0.0):
        detector, self.processor = load_with_processor(model, UpDownDetector, UpDownImageProcessor)
        self.detector = detector.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.threshold = threshold
        id2label = self.detector.config.id2label
        self.names = [id2label[number] for number in range(1, len(id2label))]

    @torch.no_grad()
    def __call__(self, images: Sequence[PilImage]) -> list[Detections]:
        """The detector's boxes over `threshold`, best first, in pixels of each image."""
        inputs = self.processor(list(images), return_tensors="pt").to(self.detector.device)
        # no region is kept for the sake of a least number, and cells are no objects
        output = self.detector(**inputs, min_regions=1, score_threshold=self.threshold, grid_sizes=[])
        check_detections(output, self.detector)
        return [self._of_one(output, place, image) for place, image in enumerate(images)]

    def _of_one(self, output: UpDownDetectorOutput, place: int, image: PilImage) -> Detections:
        scores = output.region_scores[place]  # type: ignore[index]
        kept = output.region_mask[place] & (scores >= self.threshold)
        boxes, probs = output.pred_boxes[place][kept], output.object_probs[place][kept]  # type: ignore[index]
        ids = output.object_ids[place][kept].tolist()  # type: ignore[index]
        size = torch.tensor([image.width, image.height] * 2)
        labels = [self.names[number - 1] for number in ids]
        return Detections(boxes.cpu().float() * size, scores[kept].cpu().float(), labels, probs[:, 1:].cpu().float())
