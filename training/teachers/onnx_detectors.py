"""Teachers in ONNX, on one core of the CPU: NanoDet-Plus and FastestDet, told apart by their inputs and outputs.

    model.onnx --load_onnx_teacher--> NanoDetTeacher | FastestDetTeacher;  images --teacher--> Detections

- NanoDet-Plus (github.com/RangiLyu/nanodet): a pair of outputs per stride, `cls8` (1, C, rows, columns) and `dis8`
  (1, rows, columns, 4 x bins). A box's sides are distances from its cell, each the mean of a distribution over bins
  (generalised focal loss, Li et al. 2020).
- FastestDet (github.com/dog-qiuqiu/FastestDet): one output (1, 5 + C, rows, columns) for an input of fixed size.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as PilImage
from torchvision.ops import box_convert

from training.data.files import PathLike, read_lines
from training.teachers.coco_classes import COCO_NAMES
from training.teachers.detections import Detections

FASTESTDET_OUTPUTS = 5  # numbers per cell before the class scores
NANODET_OUTPUT = re.compile(r"(cls|dis)(\d+)")
NANODET_LONGER_SIDE = 416  # pixels, as in its training
NANODET_MULTIPLE = 32  # the input's sides are multiples of it
NANODET_MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
NANODET_STD_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)
SIDES = 4


class NanoDetTeacher:
    """The NanoDet-Plus detector in ONNX.

    An image is scaled so that its longer side has 416 pixels, with a black border to multiples of 32. A cell gives a
    box of each class whose score reaches `threshold`, as in the reference implementation; they overlap, and are meant
    for non-maximum suppression per class at an IoU of 0.6.

    Args:
        model: the ONNX file, or an opened session of it.
        names: the class names, one per line in the order of the outputs; by default `coco.names` in the model's folder,
            or without one COCO's 80 names.
        threshold: lowest score of a box; at 0 every cell gives a box of every class.

    Attributes:
        names: the C class names, which are the columns of `Detections.probs`.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is not such a model, or another number of names than classes.
    """

    def __init__(self, model: PathLike, *, names: PathLike | None = None, threshold: float = 0.05, session: Any = None):
        self.session = open_onnx(model) if session is None else session
        self.strides = nanodet_strides(self.session)
        if not self.strides:
            raise ValueError(f"{model} has {signature(self.session)}; NanoDet-Plus has pairs cls8, dis8 of outputs")
        num_classes = self.session.get_outputs()[0].shape[1]
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
        pixels, offset, scale = nanodet_pixels(image)
        outputs = self.session.run(None, {self.input_name: pixels})
        named = {entry.name: output[0] for entry, output in zip(self.session.get_outputs(), outputs, strict=True)}
        boxes, probs = decode_nanodet(named, strides=self.strides)
        size = torch.tensor([image.width, image.height] * 2, dtype=torch.float32)
        boxes = ((boxes - offset) / scale).clamp(min=0).minimum(size)
        rows, classes = torch.nonzero(probs >= self.threshold, as_tuple=True)
        labels = [self.names[number] for number in classes.tolist()]
        return Detections(boxes[rows], probs[rows, classes], labels, probs[rows])


def nanodet_pixels(image: PilImage) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """An image -> the input (1, 3, H, W) in BGR, and (4,) what to subtract from boxes, then to divide them by.

    The scaled image lies in the middle of the input. The border is black before the mean is subtracted.
    """
    ratio = NANODET_LONGER_SIDE / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    columns, rows = (-(-side // NANODET_MULTIPLE) * NANODET_MULTIPLE for side in (width, height))
    left, top = (columns - width) // 2, (rows - height) // 2
    canvas = np.zeros((rows, columns, 3), dtype=np.float32)
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    canvas[top : top + height, left : left + width] = np.asarray(resized, dtype=np.float32)[:, :, ::-1]
    canvas = (canvas - NANODET_MEAN_BGR) / NANODET_STD_BGR
    scale = torch.tensor([width / image.width, height / image.height] * 2)
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]), torch.tensor([left, top] * 2), scale


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


def nanodet_strides(session: Any) -> list[int]:
    """The strides of a NanoDet-Plus model, ascending; none for another model."""
    found = [NANODET_OUTPUT.fullmatch(entry.name) for entry in session.get_outputs()]
    places = {(match[1], int(match[2])) for match in found if match}
    strides = sorted({stride for _, stride in places})
    paired = all((kind, stride) in places for kind in ("cls", "dis") for stride in strides)
    return strides if paired and len(places) == len(found) == 2 * len(strides) else []


class FastestDetTeacher:
    """The FastestDet detector in ONNX (80 classes of COCO in 1 MB).

    Args:
        model: the ONNX file; one input (1, 3, height, width), one output (1, 5 + classes, rows, columns).
        names: the class names, one per line in the order of the outputs; by default `coco.names` in the model's
            folder, or without one COCO's 80 names.

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
    one_each = len(entries) == len(results) == 1 and all(len(shape) == SIDES for shape in shapes)
    return one_each and all(isinstance(side, int) for side in (*shapes[0][2:], shapes[1][1]))


def load_onnx_teacher(
    model: PathLike, *, names: PathLike | None = None, threshold: float = 0.05
) -> NanoDetTeacher | FastestDetTeacher:
    """The teacher of an ONNX file, by the inputs and outputs of its graph.

    Raises:
        ImportError: without onnxruntime.
        ValueError: for a file that is neither model; its inputs and outputs are named.
    """
    session = open_onnx(model)
    if nanodet_strides(session):
        return NanoDetTeacher(model, names=names, threshold=threshold, session=session)
    if is_fastestdet(session):
        return FastestDetTeacher(model, names=names, session=session)
    raise ValueError(f"{model} is neither NanoDet-Plus nor FastestDet: it has {signature(session)}")


def open_onnx(model: PathLike) -> Any:
    """An onnxruntime session on one core of the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("an ONNX teacher needs onnxruntime: pip install 'modeling-updown[distill]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(os.fspath(model), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes have no common base
        raise ValueError(f"{model} is not an ONNX model that onnxruntime can run: {error}") from error


def signature(session: Any) -> str:
    """The inputs and outputs of a model in words, with their shapes."""
    lists = (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    return " and ".join(
        f"the {kind} " + ", ".join(f"{entry.name} {entry.shape}" for entry in entries) for kind, entries in lists
    )


def class_names(model: PathLike, names: PathLike | None) -> list[str]:
    """The lines of `names`, else of `coco.names` in the model's folder, else COCO's 80 names."""
    beside = Path(model).with_name("coco.names")
    if names is None and not beside.exists():
        return list(COCO_NAMES)
    return read_lines(beside if names is None else names)
