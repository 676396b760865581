"""Teachers of the region detector: images -> boxes, scores and class names by pretrained detectors.

    images --Teacher--> Detections --training/teachers/pseudo_boxes.py--> a COCO instances file

A teacher is any callable from images to `Detections`: FastestDet (github.com/dog-qiuqiu/FastestDet, a detector of the
80 classes of COCO in 1 MB) through onnxruntime, or any object detector of transformers.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from torchvision.ops import box_convert

from training.data.files import PathLike, read_lines

FASTESTDET_OUTPUTS = 5  # numbers per cell before the class scores


@dataclass(frozen=True)
class Detections:
    """A teacher's detections in one image: `boxes` (N, 4) xyxy in pixels, `scores` (N,) 0..1, N class `labels`."""

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: list[str]


Teacher = Callable[[Sequence[PilImage]], list[Detections]]


class FastestDetTeacher:
    """The FastestDet detector in ONNX, on one core of the CPU.

    Args:
        model: the ONNX file; one input (1, 3, height, width), one output (1, 5 + classes, rows, columns).
        names: the class names, one per line in the order of the outputs; by default `coco.names` in the model's folder.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is not such a model, or another number of names than classes.
    """

    def __init__(self, model: PathLike, *, names: PathLike | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError("an ONNX teacher needs onnxruntime: pip install 'modeling-updown[distill]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(
                os.fspath(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exception classes have no common base
            raise ValueError(f"{model} is not an ONNX model that onnxruntime can run: {error}") from error
        entry, result = self.session.get_inputs()[0], self.session.get_outputs()[0]
        if len(entry.shape) != 4 or len(result.shape) != 4 or not all(isinstance(n, int) for n in entry.shape[2:]):
            raise ValueError(f"{model} takes {entry.shape} and gives {result.shape}; is it an export of FastestDet?")
        self.input_name, (self.height, self.width) = entry.name, entry.shape[2:]
        self.names = read_lines(Path(model).with_name("coco.names") if names is None else names)
        if result.shape[1] != FASTESTDET_OUTPUTS + len(self.names):
            raise ValueError(
                f"{model} gives {result.shape[1]} numbers per cell, but {len(self.names)} class names need "
                f"{FASTESTDET_OUTPUTS + len(self.names)}; give the model's own list with --names"
            )

    def __call__(self, images: Sequence[PilImage]) -> list[Detections]:
        """The boxes of all cells of every image, unfiltered."""
        return [self.detect(image) for image in images]

    def detect(self, image: PilImage) -> Detections:
        """The boxes of one image, resized to the input's size without keeping its shape, as in the model's training;
        bicubic interpolation agrees best with real boxes."""
        resized = image.convert("RGB").resize((self.width, self.height), Image.Resampling.BICUBIC)
        bgr = np.asarray(resized, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1) / 255
        cells = self.session.run(None, {self.input_name: np.ascontiguousarray(bgr[None])})[0][0]
        boxes, scores, classes = decode_fastestdet(torch.from_numpy(cells))
        size = torch.tensor([image.width, image.height] * 2)
        return Detections(boxes * size, scores, [self.names[number] for number in classes.tolist()])


def decode_fastestdet(cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output map of one image -> one box per cell.

    The box's centre is tanh(output) cells from the cell's corner, its sides are sigmoid(output) times the image's; the
    score is objectness^0.6 times the best class's probability^0.4, as in the reference implementation.

    Args:
        cells: (5 + C, rows, columns): objectness 0..1, x, y, width, height, and C class probabilities.

    Returns:
        boxes (rows * columns, 4) xyxy in 0..1, scores (rows * columns,), classes (rows * columns,) from 0.
    """
    _, rows, columns = cells.shape
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    class_probs, classes = cells[FASTESTDET_OUTPUTS:].max(dim=0)  # (rows, columns)
    centre_x, centre_y = (x + cells[1].tanh()) / columns, (y + cells[2].tanh()) / rows
    boxes = torch.stack([centre_x, centre_y, cells[3].sigmoid(), cells[4].sigmoid()], dim=-1).flatten(0, 1)
    scores = cells[0] ** 0.6 * class_probs**0.4
    return box_convert(boxes, "cxcywh", "xyxy").clamp(0, 1), scores.flatten(), classes.flatten()


class TransformersTeacher:
    """Any object detector of transformers, by Hub name or folder; runs on a GPU if there is one.

    Args:
        model: the argument of `pipeline("object-detection", model=...)`.
        threshold: boxes of a lower score are left out.
    """

    def __init__(self, model: str, *, threshold: float = 0.0):
        from transformers import pipeline

        self.pipeline = pipeline("object-detection", model=model)
        self.threshold = threshold

    def __call__(self, images: Sequence[PilImage]) -> list[Detections]:
        """The pipeline's boxes over `threshold`."""
        found = self.pipeline(list(images), threshold=self.threshold, batch_size=len(images))
        return [
            Detections(
                boxes=torch.tensor(
                    [[box["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for box in boxes],
                    dtype=torch.float32,
                ).view(-1, 4),
                scores=torch.tensor([box["score"] for box in boxes], dtype=torch.float32),
                labels=[box["label"] for box in boxes],
            )
            for boxes in found
        ]


def load_teacher(teacher: str, *, names: PathLike | None, threshold: float) -> Teacher:
    """A `FastestDetTeacher` for an ONNX file, else a `TransformersTeacher`."""
    if teacher.endswith(".onnx"):
        return FastestDetTeacher(teacher, names=names)
    return TransformersTeacher(teacher, threshold=threshold)
