"""Pads the region features of single images to one batch, and checks features that a user gives.

Used between a region store, or features of other projects, and a top-down model: one mapping per image -> `pad_regions`
-> `region_features`, `region_boxes`, `region_mask` of every model's `forward`.

One image is a mapping from these names to numpy arrays or torch tensors of R rows: `region_features` (R, D),
`region_boxes` (R, 4) xyxy in 0..1 of the image's width and height, and, if known, `region_mask` (R,) bool with True =
real region, `region_scores` (R,) confidences, `object_probs` (R, C), `attribute_probs` (R, A), `region_seconds` (R,),
`region_masks` (R, M, M), `region_texts`, R strings, and `clip_ids`, the clip that the image is a frame of: a number or
a string. Other keys are ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

REQUIRED_NAMES = ("region_features", "region_boxes")
COLUMNS = {  # name -> the dimensions after the R rows
    "region_features": ", width",
    "region_boxes": ", 4",
    "region_scores": "",
    "object_probs": ", classes",
    "attribute_probs": ", classes",
    "region_seconds": "",
    "region_masks": ", side, side",
}
TEXTS, CLIPS = "region_texts", "clip_ids"
BOX_SLACK = 1e-3  # boxes stored as float16 may stand this far outside 0..1


def pad_regions(regions: Sequence[Mapping[str, Any]], *, num_regions: int | None = None) -> dict[str, Any]:
    """Pads the regions of B images with zeros to one batch; masked-out rows of an image are dropped first.

    Args:
        regions: B mappings, one per image, as the module describes them.
        num_regions: keep at most this number of regions per image, in their order: those with the highest
            `region_scores`, or without scores the first.

    Returns:
        `region_features` (B, R, D) and `region_boxes` (B, R, 4) float32, `region_mask` (B, R) bool, and those of the
        optional names that the images have, float32; R is the largest count of the batch. `region_texts` are B lists of
        R strings, "" on padding, `clip_ids` a tensor (B,) of numbers or B strings.

    Raises:
        ValueError: for no image, an image without regions, a name that only some images have, or shapes that do not
            fit.

    >>> one = {"region_features": np.ones((1, 3)), "region_boxes": np.zeros((1, 4))}
    >>> two = {"region_features": np.ones((2, 3)), "region_boxes": np.zeros((2, 4))}
    >>> pad_regions([one, two])["region_mask"].tolist()
    [[True, False], [True, True]]
    """
    images = _checked_images(regions)
    if num_regions is not None:
        images = [_keep_best(image, num_regions) for image in images]
    counts = torch.tensor([len(image["region_boxes"]) for image in images])  # (B,)
    region_mask = torch.arange(int(counts.max())) < counts[:, None]  # (B, R)
    batch: dict[str, Any] = {}
    for name in images[0]:
        values = [image[name] for image in images]
        if name == CLIPS:
            batch[name] = values if isinstance(values[0], str) else torch.tensor(values)
        elif name == TEXTS:
            batch[name] = [[*texts, *[""] * (int(counts.max()) - len(texts))] for texts in values]
        else:
            batch[name] = pad_sequence(values, batch_first=True)
    batch["region_mask"] = region_mask.to(batch["region_features"].device)
    return batch


def check_regions(regions: Sequence[Mapping[str, Any]], *, feature_width: int | None = None) -> None:
    """Checks regions for faults that a model would not notice; masked-out rows may hold anything.

    Args:
        regions: B mappings, one per image, as the module describes them.
        feature_width: the D that the model expects, if known.

    Raises:
        ValueError: as `pad_regions`, and for features of another width, a value that is not finite, or a box that is
            not xyxy in 0..1. The message names the image and the region by their index from 0.
    """
    images = _checked_images(regions)
    width = images[0]["region_features"].shape[1]
    if feature_width is not None and width != feature_width:
        raise ValueError(
            f"region_features have width {width} but the model expects {feature_width}; "
            "were they extracted with another detector?"
        )
    for index, (image, given) in enumerate(zip(images, regions, strict=True)):
        real = _real_rows(given, index=index)  # rows of the given image
        for name, values in image.items():
            if name in (TEXTS, CLIPS):
                continue
            broken = ~torch.isfinite(values).flatten(1).all(1) if values.ndim > 1 else ~torch.isfinite(values)  # (R,)
            if broken.any():
                row = int(real[broken.cpu()][0])
                raise ValueError(f"{name} of image {index}, region {row} holds NaN or infinity; extract it again")
        _check_boxes(image["region_boxes"], index=index, real=real)


def split_regions(regions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The opposite of `pad_regions`: a padded batch (B, R, ...) as B mappings, each still with its `region_mask`."""
    names = [name for name in (*COLUMNS, TEXTS, CLIPS, "region_mask") if regions.get(name) is not None]
    return [{name: regions[name][index] for name in names} for index in range(len(regions["region_features"]))]


def _checked_images(regions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(regions, Mapping):
        raise ValueError("regions are one mapping; give a list with one mapping per image")
    images = [_real_regions(image, index=index) for index, image in enumerate(regions)]
    if not images:
        raise ValueError("the list of regions is empty; give at least one image")
    for index, image in enumerate(images):
        if image.keys() != images[0].keys():
            odd = sorted(image.keys() ^ images[0].keys())
            raise ValueError(f"images 0 and {index} do not both have {', '.join(odd)}; give them to all images or none")
        for name in image.keys() & COLUMNS.keys():
            values = image[name]
            if values.shape[1:] != images[0][name].shape[1:]:
                widths = f"{images[0][name].shape[-1]} and {values.shape[-1]}"
                raise ValueError(f"{name} of images 0 and {index} have widths {widths}; extract them with one detector")
    return images


def _real_regions(image: Mapping[str, Any], *, index: int) -> dict[str, Any]:
    real = _real_rows(image, index=index)
    if not len(real):
        raise ValueError(f"image {index} has no region; give it one box over the whole image or leave the image out")
    rows = len(image["region_features"])
    found: dict[str, Any] = {}
    for name, columns in COLUMNS.items():
        if image.get(name) is None:
            continue
        values = _float_tensor(image[name])
        fits = values.ndim == 1 + columns.count(",") and len(values) == rows
        if not fits or (name == "region_boxes" and values.shape[1] != 4):
            raise ValueError(f"{name} of image {index} has shape {tuple(values.shape)}; expected ({rows}{columns})")
        found[name] = values if len(real) == rows else values[real]
    if image.get(TEXTS) is not None:
        texts = list(image[TEXTS])
        if len(texts) != rows or not all(isinstance(text, str) for text in texts):
            raise ValueError(f'region_texts of image {index} are not {rows} strings, "" where nothing is read')
        found[TEXTS] = [texts[row] for row in real.tolist()]
    if image.get(CLIPS) is not None:
        clip = image[CLIPS]
        found[CLIPS] = clip if isinstance(clip, str) else int(clip)
    return found


def _real_rows(image: Mapping[str, Any], *, index: int) -> torch.Tensor:
    for name in REQUIRED_NAMES:
        if image.get(name) is None:
            raise ValueError(f"image {index} has no {name}; regions need both {' and '.join(REQUIRED_NAMES)}")
    rows = len(image["region_features"])
    if image.get("region_mask") is None:
        return torch.arange(rows)
    mask = image["region_mask"]
    mask = mask if isinstance(mask, torch.Tensor) else torch.tensor(np.asarray(mask))
    if mask.dtype != torch.bool or mask.shape != (rows,):
        kind = str(mask.dtype).removeprefix("torch.")
        raise ValueError(
            f"region_mask of image {index} is {kind} of shape {tuple(mask.shape)}; "
            f"expected bool of shape ({rows},), True = real region"
        )
    return mask.nonzero()[:, 0].cpu()


def _float_tensor(values: Any) -> torch.Tensor:
    # torch.tensor copies, which read-only memory-mapped arrays need
    return values.float() if isinstance(values, torch.Tensor) else torch.tensor(np.asarray(values), dtype=torch.float32)


def _keep_best(image: dict[str, Any], num_regions: int) -> dict[str, Any]:
    if num_regions < 1:
        raise ValueError(f"num_regions is {num_regions}; keep at least one region per image")
    if len(image["region_boxes"]) <= num_regions:
        return image
    kept = torch.arange(num_regions)
    if "region_scores" in image:
        best_first = image["region_scores"].argsort(descending=True, stable=True)
        kept = best_first[:num_regions].sort().values
    chosen = {name: values[kept] if name in COLUMNS else values for name, values in image.items()}
    if TEXTS in image:
        chosen[TEXTS] = [image[TEXTS][row] for row in kept.tolist()]
    return chosen


def _check_boxes(boxes: torch.Tensor, *, index: int, real: torch.Tensor) -> None:
    outside = ((boxes < -BOX_SLACK) | (boxes > 1 + BOX_SLACK)).any(1)  # (R,)
    if outside.any():
        row = int(outside.nonzero()[0, 0])
        cure = "divide x by the image's width and y by its height" if boxes.max() > 2 else "clip them to the image"
        raise ValueError(f"{_box_text(boxes, index, real, row)} is outside 0..1; {cure}")
    turned = (boxes[:, 2:] < boxes[:, :2]).any(1)  # (R,)
    if turned.any():
        row = int(turned.nonzero()[0, 0])
        raise ValueError(f"{_box_text(boxes, index, real, row)} ends before it begins; boxes are x1, y1, x2, y2")


def _box_text(boxes: torch.Tensor, index: int, real: torch.Tensor, row: int) -> str:
    corners = [round(value, 4) for value in boxes[row].tolist()]
    return f"the box {corners} of image {index}, region {int(real[row])}"
