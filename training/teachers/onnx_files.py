"""Detectors in ONNX files: the session that runs one, its inputs and outputs in words, its class names."""

import os
from pathlib import Path
from typing import Any

from training.data.boxes.names import COCO_NAMES
from training.data.files import PathLike, read_lines


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
