"""FastestDet as a teacher (github.com/dog-qiuqiu/FastestDet): COCO's 80 classes in 1 MB, through onnxruntime.

image --FastestDetTeacher--> one map (5 + C, rows, columns) --decode_fastestdet--> a box per cell --> Detections
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from torchvision.ops import box_convert

from training.data.files import PathLike
from training.teachers.detections import Detections
from training.teachers.onnx_files import class_names, open_onnx, signature

FASTESTDET_OUTPUTS = 5  # numbers per cell before the class scores
MAP_DIMENSIONS = 4


class FastestDetTeacher:
    """The FastestDet detector in ONNX (80 classes of COCO in 1 MB).

    Args:
        model: the ONNX file; one input (1, 3, height, width), one output (1, 5 + classes, rows, columns).
        names: the class names, one per line in the order of the outputs; by default `coco.names` in the model's
            folder, or without one COCO's 80 names.
        session: the opened model, if it is.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is not such a model, or another number of names than classes.
    """

    def __init__(self, model: PathLike, *, names: PathLike | None = None, session: Any = None):
        self.session = open_onnx(model) if session is None else session
        if not is_fastestdet(self.session):
            raise ValueError(f"{model} has {signature(self.session)}; is it an export of FastestDet?")
        entry, result = self.session.get_inputs()[0], self.session.get_outputs()[0]
        self.input_name, (self.height, self.width) = entry.name, entry.shape[2:]
        self.names = class_names(model, names)
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
        probs = torch.from_numpy(cells[FASTESTDET_OUTPUTS:]).flatten(1).T  # (rows * columns, C)
        return Detections(boxes * size, scores, [self.names[number] for number in classes.tolist()], probs)


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


def is_fastestdet(session: Any) -> bool:
    """Whether a model has one image of fixed size as its input and one map as its output."""
    entries, results = session.get_inputs(), session.get_outputs()
    shapes = [entry.shape for entry in (*entries, *results)]
    one_each = len(entries) == len(results) == 1 and all(len(shape) == MAP_DIMENSIONS for shape in shapes)
    return one_each and all(isinstance(side, int) for side in (*shapes[0][2:], shapes[1][1]))
