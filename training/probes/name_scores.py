"""Models asked for names: each image's boxes scored by every name, for `training/probes/open_set.py`.

    rows + names + detector | grounding model --detector_scores | grounding_scores--> ScoredImage of each row

R regions of an image, N names, M true boxes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torchvision.ops import batched_nms
from tqdm.auto import tqdm

from modeling_updown.open_names_updown import name_scores
from modeling_updown.outputs_updown import check_detections, check_finite
from training.data.boxes.names import coco_id, covered_ids
from training.tasks.detection import SCORED, named_image

NMS_IOU = 0.5
MOST_OF_AN_IMAGE = 300  # detections, as LVIS counts them
LOWEST_SCORE = 1e-3  # of a detection


class ScoredImage(NamedTuple):
    """What a model makes of an image and N names.

    boxes: (R, N, 4) xyxy in 0..1, or (R, 1, 4) where a region has one box whatever the name; scores: (R, N) in 0..1;
    of_true: (M, N), how well each name fits each true box, on the model's own scale.
    """

    boxes: np.ndarray
    scores: np.ndarray
    of_true: np.ndarray

    def renamed(self, order: np.ndarray) -> "ScoredImage":
        """The same where name n stands for name `order[n]` (N,): a control by names that have nothing to do with it."""
        boxes = self.boxes if self.boxes.shape[1] == 1 else self.boxes[:, order]
        return ScoredImage(boxes, self.scores[:, order], self.of_true[:, order])

    def detections(self) -> dict[str, np.ndarray]:
        """The surest pairs of a region and a name after suppression within each name, as `detection_scores` takes them:
        `boxes`, `scores`, `object_ids` from 1.
        """
        regions, names = np.nonzero(self.scores >= LOWEST_SCORE)
        scores = self.scores[regions, names].astype(np.float64)
        boxes = self.boxes[regions, names if self.boxes.shape[1] > 1 else 0].astype(np.float64).reshape(-1, 4)
        tensors = (torch.from_numpy(np.ascontiguousarray(part)) for part in (boxes, scores, names))
        kept = batched_nms(*tensors, NMS_IOU)[:MOST_OF_AN_IMAGE].numpy()
        return {"boxes": boxes[kept], "scores": scores[kept], "object_ids": names[kept] + 1}


def name_columns(names: Sequence[str], id2label: Mapping[int, str]) -> list[list[int]]:
    """The classes of a detector that each name stands for: its own and the finer ones; empty where it has none.

    >>> name_columns(["dog", "unicorn"], {0: "background", 1: "cat", 2: "puppy", 3: "dog"})
    [[3, 2], []]
    """
    ids = {name: number for number, name in id2label.items() if number}
    covered = covered_ids(ids)
    own = [coco_id(name, ids) for name in names]
    return [[] if number is None else [number, *covered.get(number, [])] for number in own]


def detector_scores(
    detector: Any, image_processor: Any, rows: Dataset, *, name_embeds: torch.Tensor, columns: Sequence[Sequence[int]]
) -> Iterator[tuple[ScoredImage, ScoredImage]]:
    """Each row's image by its regions' likeness to names (N, E), and by the class scores of the same regions.

    rows: undecoded, with `boxes`; columns: of `name_columns`. A name's class score is the sum over its columns. How
    well a name fits a true box is its cosine, and its class score. Raises `ValueError` for a detector without phrases,
    and for an image that cannot be read.
    """
    device = next(detector.parameters()).device
    for row in tqdm(rows, desc="naming", unit="image"):
        inputs = image_processor([named_image(row)], return_tensors="pt").to(device)
        with torch.no_grad():
            output = detector(**inputs, **SCORED, name_embeds=name_embeds)
            true = described(detector, inputs, row["boxes"], name_embeds=name_embeds)
        check_detections(output, detector)
        boxes = output.pred_boxes[0][:, None].float().cpu().numpy()  # (R, 1, 4)
        classes = [scores_of_classes(part, columns) for part in (output, true)]
        cosines = true.name_logits[0] * detector.config.phrase_temperature
        asked = name_scores(output)[0].float().cpu().numpy()
        count = len(row["boxes"])
        yield (
            ScoredImage(boxes, asked, cosines.float().cpu().numpy()[:count]),
            ScoredImage(boxes, classes[0], classes[1][:count]),
        )


def described(detector: Any, inputs: Mapping[str, Any], boxes: Sequence[Any], **options: Any) -> Any:
    """What the detector makes of given boxes xyxy in 0..1, or where there are none of the whole image."""
    given = torch.tensor([list(boxes) or [[0.0, 0.0, 1.0, 1.0]]], device=inputs["pixel_values"].device)
    return detector(**inputs, boxes=given, return_dict=True, **options)


def scores_of_classes(output: Any, columns: Sequence[Sequence[int]]) -> np.ndarray:
    """The probabilities of one image's regions for each name, (R, N): 0 for a name that no class stands for."""
    probs = output.object_probs[0].float().cpu().numpy()  # (R, C + 1)
    return np.stack([probs[:, list(own)].sum(axis=1) for own in columns], axis=1)


def grounding_scores(
    model: Any, processor: Any, rows: Dataset, *, texts: Sequence[str], texts_at_a_time: int = 32
) -> Iterator[ScoredImage]:
    """Each row's image by a grounding model that owns a detector, which reads every name beside the image.

    A score is the region's probability for the name times the name's for the region (a softmax over each, of the same
    logits), or with `grounding_loss="binary"` the probability as it is; how well a name fits a true box is its logit.
    Raises `ValueError` for scores that are not finite, and for an image that cannot be read.
    """
    words = processor.tokenizer(list(texts), padding=True, return_tensors="pt")
    for row in tqdm(rows, desc="grounding", unit="image"):
        inputs = processor.image_processor([named_image(row)], return_tensors="pt").to(model.device)
        with torch.no_grad():
            found = model.region_source(**inputs, return_dict=True)
            true = described(model.region_source, inputs, row["boxes"])
            parts = [_grounded(model, words, regions, texts_at_a_time) for regions in (found, true)]
        (logits, scores, boxes), (of_true, _, _) = parts
        check_finite(logits, model, what="scores of regions")
        if model.config.grounding_loss != "binary":
            scores = scores * logits.softmax(dim=0)
        yield ScoredImage(
            boxes.permute(1, 0, 2).numpy(), scores.T.numpy(), of_true.T.numpy()[: len(row["boxes"])].astype(np.float64)
        )


def _grounded(
    model: Any, words: Mapping[str, torch.Tensor], regions: Any, texts_at_a_time: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and scores (N, R) and boxes (N, R, 4) of an image's regions for texts of one name each."""
    fields = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
    fields |= {name: regions[name] for name in ("object_probs", "attribute_probs") if regions.get(name) is not None}
    parts = []
    for start in range(0, len(words["input_ids"]), texts_at_a_time):
        batch = {name: part[start : start + texts_at_a_time].to(model.device) for name, part in words.items()}
        batch.pop("token_type_ids", None)
        index = torch.zeros(len(batch["input_ids"]), dtype=torch.long, device=model.device)
        output = model(**batch, **fields, image_index=index, return_dict=True)
        parts.append([part[:, 0].float().cpu() for part in (output.logits, output.phrase_scores, output.pred_boxes)])
    logits, scores, boxes = (torch.cat(part) for part in zip(*parts, strict=True))
    return logits, scores, boxes
