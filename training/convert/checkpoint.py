"""Other projects' checkpoints -> a folder that `from_pretrained` loads.

    updown convert-checkpoint captioning-pytorch model.safetensors --config options.json --output folder

One function per format (`training/convert/`) converts the source's tensors, each of which is used exactly once: the
error of a missing or unexpected tensor lists them all. Only tensors are unpickled.

Formats:
    captioning-pytorch: UpDownModel of ruotianluo/ImageCaptioning.pytorch.
    vqa-pytorch: `baseline0_newatt` and `baseline0` of hengyuan-hu/bottom-up-attention-vqa.
    frcnn-vg: the Visual Genome Faster R-CNN as ported to PyTorch for LXMERT (`modeling_frcnn.py`).
    detectron2-vg: the same detector as a detectron2 model (py-bottom-up-attention and related projects).
    uniter: ChenRocks/UNITER, pretrained or fine-tuned for questions, entailment, pairs of images, retrieval or
        expressions.
    visualbert: transformers' `VisualBertModel` or `VisualBertForPreTraining`.
    moment-detr: Moment-DETR of jayleicn/moment_detr, on given features of steps and words.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.convert.captioning import convert_captioning
from training.convert.detector import convert_detectron2, convert_frcnn
from training.convert.moment_detr import convert_moment_detr
from training.convert.uniter import convert_uniter
from training.convert.visualbert import convert_visualbert
from training.convert.vqa import convert_vqa
from training.convert.weights import ConvertedCheckpoint, Weights, flat_options, read_weights


def convert_checkpoint(
    format: str,
    weights: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
) -> ConvertedCheckpoint:
    """Convert a checkpoint, and save it if `output` is given.

    Args:
        format: a key of `FORMATS`.
        weights: a `.safetensors`, or a `.pth`, `.pt` or `.bin` that holds tensors and nothing else.
        config: the source's options, either flat or under `"config"`, with the vocabulary (index -> word) under
            `"vocab"`. Sizes that follow from the shapes of the weights may be left out.
        output: the folder to write.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an unknown format, a model of `UNFIT`, with the reason, a file that holds other objects, or
            weights that do not fit the format.
    """
    if format in UNFIT:
        raise ValueError(f"{format} cannot be converted: {UNFIT[format]}")
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
    "uniter": convert_uniter,
    "visualbert": convert_visualbert,
    "moment-detr": convert_moment_detr,
}

# Models of the same years that no class here computes, and what to do instead.
UNFIT = {
    "lxmert": "it has an encoder for words, one for regions and one across; it is a class of transformers, so ask it "
    "by updown ask --model unc-nlp/lxmert-vqa-uncased --regions DETECTOR",
    "vilbert": "its words and regions have a transformer each, which look at each other in some layers, while the "
    "fusion model has one for both; convert uniter or visualbert",
    "oscar": "it maps a region's feature and box together in one layer, and reads object names as words beside them, "
    "while the fusion model maps the two apart; convert uniter or visualbert",
}
