"""Teachers of the region detector: images -> boxes, scores and class names by pretrained detectors.

    images --Teacher--> Detections --training/teachers/pseudo_boxes.py--> a COCO instances file

A teacher is any callable from images to `Detections`: NanoDet-Plus (`nanodet.py`) or FastestDet (`fastestdet.py`) in
ONNX, a detector of ours (`updown_teacher.py`), or any object detector of transformers.
"""

import contextlib
from collections.abc import Sequence

import torch
from PIL.Image import Image as PilImage
from transformers import AutoConfig

from modeling_updown import UpDownDetectorConfig
from training.data.files import PathLike
from training.teachers.detections import Detections, Teacher
from training.teachers.fastestdet import FastestDetTeacher, is_fastestdet
from training.teachers.nanodet import NanoDetTeacher, nanodet_strides
from training.teachers.onnx_files import open_onnx, signature
from training.teachers.updown_teacher import UpDownTeacher


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
    """The teacher of a file, a folder or a Hub name.

    Args:
        teacher: an ONNX file (`load_onnx_teacher`); else a model saved by `UpDownDetector` (an `UpDownTeacher`) or by
            a detector of transformers (a `TransformersTeacher`), told apart by the type in its config.
        names: of an ONNX model, see there.
        threshold: boxes of a lower score are left out; FastestDet gives all the same.

    Raises:
        ImportError: for an ONNX file without onnxruntime.
        ValueError: for a file or folder that is no such model.
    """
    if teacher.endswith(".onnx"):
        return load_onnx_teacher(teacher, names=names, threshold=threshold)
    if saved_model_type(teacher) == UpDownDetectorConfig.model_type:
        return UpDownTeacher(teacher, threshold=threshold)
    return TransformersTeacher(teacher, threshold=threshold)


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


def saved_model_type(folder: str) -> str:
    """The model type in the config of a folder or Hub id; "" where none can be read."""
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it is said where it is loaded
        return str(AutoConfig.from_pretrained(folder).model_type)
    return ""
