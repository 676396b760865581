"""NanoDet-Plus as a teacher (github.com/RangiLyu/nanodet), through onnxruntime.

    image --nanodet_pixels--> input --session--> class scores and distances --decode_nanodet--> boxes --> Detections

A box's sides are distances from its cell, each the mean of a distribution over bins (generalised focal loss, Li et al.
2020). Two layouts of the outputs are read:

- a pair per stride, `cls8` (1, C, rows, columns) and `dis8` (1, rows, columns, 4 * bins), for any size of input;
- that of the project's own export: one output (1, cells, C + 4 * 8) of the strides 8, 16, 32 and 64 joined, for an
  input of fixed size.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage

from training.data.files import PathLike
from training.teachers.detections import Detections
from training.teachers.onnx_files import class_names, open_onnx, signature

PAIRED_OUTPUT = re.compile(r"(cls|dis)(\d+)")
JOINED_STRIDES = (8, 16, 32, 64)
JOINED_BINS = 8
LONGER_SIDE = 416  # pixels, as in its training
MULTIPLE = 32  # the input's sides are multiples of it
MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
STD_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)
SIDES = 4

Size = tuple[int, int]  # height and width in pixels


class NanoDetTeacher:
    """The NanoDet-Plus detector in ONNX, on one core of the CPU.

    An image is scaled so that its longer side has 416 pixels, with a black border to multiples of 32; for an input of
    fixed size, so that it fills that as far as its shape allows. A cell gives a box of each class whose score reaches
    `threshold`, as in the reference implementation; they overlap, and are meant for non-maximum suppression per class
    (there at an IoU of 0.6).

    Args:
        model: the ONNX file.
        names: the class names, one per line in the order of the outputs; by default `coco.names` in the model's folder,
            or without one COCO's 80 names.
        threshold: lowest score of a box; at 0 every cell gives a box of every class.
        session: the opened model, if it is.

    Attributes:
        names: the C class names, which are the columns of `Detections.probs`.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is not such a model, or another number of names than classes.
    """

    def __init__(self, model: PathLike, *, names: PathLike | None = None, threshold: float = 0.05, session: Any = None):
        self.session = open_onnx(model) if session is None else session
        self.strides, self.size = nanodet_strides(self.session), fixed_size(self.session)
        if not self.strides:
            raise ValueError(
                f"{model} has {signature(self.session)}; NanoDet-Plus has pairs cls8, dis8 of outputs, or all of them "
                "in one output (1, cells, classes + 32)"
            )
        outputs = {output.name: output.shape for output in self.session.get_outputs()}
        paired = outputs.get(f"cls{self.strides[0]}")
        num_classes = paired[1] if paired else next(iter(outputs.values()))[-1] - SIDES * JOINED_BINS
        self.names = class_names(model, names)
        if len(self.names) != num_classes:
            raise ValueError(
                f"{model} scores {num_classes} classes, but there are {len(self.names)} class names; give the model's "
                "own list with --names"
            )
        self.input_name, self.threshold = self.session.get_inputs()[0].name, threshold

    def __call__(self, images: Sequence[PilImage]) -> list[Detections]:
        """The boxes over `threshold` of every image, before non-maximum suppression."""
        return [self.detect(image) for image in images]

    def detect(self, image: PilImage) -> Detections:
        """The boxes of one image, clipped to it, with the scores of all classes in `probs`."""
        pixels, offset, scale = nanodet_pixels(image, size=self.size)
        boxes, probs = decode_nanodet(self._outputs(pixels), strides=self.strides)
        size = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        boxes = ((boxes - offset) / scale).clamp(min=0).minimum(size)
        rows, classes = torch.nonzero(probs >= self.threshold, as_tuple=True)
        labels = [self.names[number] for number in classes.tolist()]
        return Detections(boxes[rows], probs[rows, classes], labels, probs[rows])

    def _outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """What `decode_nanodet` takes."""
        names = [output.name for output in self.session.get_outputs()]
        outputs = [output[0] for output in self.session.run(None, {self.input_name: pixels})]
        if len(outputs) > 1:
            return dict(zip(names, outputs, strict=True))
        return split_outputs(outputs[0], num_classes=len(self.names), size=pixels.shape[2:])


def nanodet_strides(session: Any) -> list[int]:
    """The strides of a NanoDet-Plus model, ascending; none for another model."""
    entries, outputs = session.get_inputs(), session.get_outputs()
    if len(entries) != 1 or len(entries[0].shape) != 4:
        return []
    found = [PAIRED_OUTPUT.fullmatch(output.name) for output in outputs]
    places = {(match[1], int(match[2])) for match in found if match}
    strides = sorted({stride for _, stride in places})
    if strides and len(places) == len(found) == 2 * len(strides):  # as many as strides of each kind, none beside them
        return strides
    size, shape = fixed_size(session), outputs[0].shape
    if size is None or len(outputs) != 1 or len(shape) != 3 or not isinstance(shape[2], int):
        return []
    cells = sum(rows * columns for rows, columns in map_sizes(size))
    return list(JOINED_STRIDES) if shape[1] == cells and shape[2] > SIDES * JOINED_BINS else []


def fixed_size(session: Any) -> Size | None:
    """Height and width of the input of a model that takes one size only."""
    height, width = session.get_inputs()[0].shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def map_sizes(size: Sequence[int]) -> list[Size]:
    """Rows and columns of the cells of each stride, for an input of this height and width."""
    return [(-(-size[0] // stride), -(-size[1] // stride)) for stride in JOINED_STRIDES]


def nanodet_pixels(image: PilImage, *, size: Size | None = None) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """An image -> the input (1, 3, H, W) in BGR, and (4,) what to subtract from boxes, then to divide them by.

    The scaled image lies in the middle of the input. The border is black before the mean is subtracted.

    Args:
        image: of any size and mode.
        size: the input's, if it is fixed.
    """
    longest = (LONGER_SIDE, LONGER_SIDE) if size is None else size
    ratio = min(longest[0] / image.height, longest[1] / image.width)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    rows, columns = size or (-(-side // MULTIPLE) * MULTIPLE for side in (height, width))
    left, top = (columns - width) // 2, (rows - height) // 2
    canvas = np.zeros((rows, columns, 3), dtype=np.float32)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    canvas[top : top + height, left : left + width] = np.asarray(resized, dtype=np.float32)[:, :, ::-1]
    canvas = (canvas - MEAN_BGR) / STD_BGR
    scale = torch.tensor([width / image.width, height / image.height] * 2)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]), torch.tensor([left, top] * 2), scale


def split_outputs(joined: np.ndarray, *, num_classes: int, size: Sequence[int]) -> dict[str, np.ndarray]:
    """The one output (cells, C + 32) of the project's own export as the pairs of outputs that it was joined of."""
    outputs, start = {}, 0
    for stride, (rows, columns) in zip(JOINED_STRIDES, map_sizes(size), strict=True):
        cells = joined[start : start + rows * columns].reshape(rows, columns, -1)
        outputs[f"cls{stride}"] = np.ascontiguousarray(cells[:, :, :num_classes].transpose(2, 0, 1))
        outputs[f"dis{stride}"] = np.ascontiguousarray(cells[:, :, num_classes:])
        start += rows * columns
    return outputs


def decode_nanodet(outputs: Mapping[str, np.ndarray], *, strides: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs for one image -> one box per cell, and its class scores.

    A side's distance from the cell's corner (column * stride, row * stride) is stride times the mean of its
    distribution over 0, 1 .. bins - 1.

    Args:
        outputs: for each stride `clsS` (C, rows, columns), scores 0..1, and `disS` (rows, columns, 4 * bins), logits
            of the left, top, right and bottom distance.
        strides: pixels of the input from cell to cell.

    Returns:
        boxes (N, 4) xyxy in pixels of the input and scores (N, C) of all cells: strides in order, row by row.
    """
    boxes, probs = [], []
    for stride in strides:
        scores = torch.from_numpy(outputs[f"cls{stride}"])  # (C, rows, columns)
        rows, columns = scores.shape[1:]
        logits = torch.from_numpy(outputs[f"dis{stride}"]).view(rows, columns, SIDES, -1)
        bins = torch.arange(logits.shape[-1], dtype=torch.float32)
        left, top, right, bottom = (stride * (logits.softmax(dim=-1) @ bins)).unbind(dim=-1)  # (rows, columns) each
        y, x = torch.meshgrid(stride * torch.arange(rows), stride * torch.arange(columns), indexing="ij")
        boxes.append(torch.stack([x - left, y - top, x + right, y + bottom], dim=-1).flatten(0, 1))
        probs.append(scores.flatten(1).T)
    return torch.cat(boxes), torch.cat(probs)
