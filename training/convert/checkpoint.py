"""Other projects' checkpoints -> a folder that `from_pretrained` loads.

    updown convert-checkpoint captioning-pytorch model.safetensors --config options.json --output folder

One function a format (`training/convert/`) turns the source's tensors into ours, and uses each of them exactly once:
whatever is missing or left over is an error that lists it. Nothing is ever unpickled.

Formats:
    captioning-pytorch: UpDownModel of ruotianluo/ImageCaptioning.pytorch.
    vqa-pytorch: `baseline0_newatt` and `baseline0` of hengyuan-hu/bottom-up-attention-vqa.
    frcnn-vg: the Visual Genome Faster R-CNN as ported to PyTorch for LXMERT (`modeling_frcnn.py`).
    detectron2-vg: the same detector as a detectron2 model (py-bottom-up-attention and its kin).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.convert.captioning import convert_captioning
from training.convert.detector import convert_detectron2, convert_frcnn
from training.convert.vqa import convert_vqa
from training.convert.weights import ConvertedCheckpoint, Weights, flat_options, read_weights


def convert_checkpoint(
    format: str,
    weights: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
) -> ConvertedCheckpoint:
    """Convert a checkpoint, and save it where `output` is given.

    Args:
        format: a key of `FORMATS`.
        weights: a `.safetensors`, or a `.pth`, `.pt` or `.bin` that holds tensors and nothing else.
        config: the source's options, either flat or under `"config"`, with the vocabulary (index -> word) under
            `"vocab"`. What the weights' shapes tell may be left out.
        output: the folder to write.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown format, a file that holds more than tensors, or weights that do not fit the format.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown checkpoint format {format!r}; known are {', '.join(sorted(FORMATS))}")
    converted = FORMATS[format](read_weights(weights), flat_options(config or {}))
    if output is not None:
        converted.save(output)
    return converted


# The names that `updown convert-checkpoint` takes.
FORMATS: dict[str, Callable[[Weights, Mapping[str, Any]], ConvertedCheckpoint]] = {
    "captioning-pytorch": convert_captioning,
    "vqa-pytorch": convert_vqa,
    "frcnn-vg": convert_frcnn,
    "detectron2-vg": convert_detectron2,
}
