"""Draws the regions of a detector: the image with its regions outlined and named, "red car 0.92", and their masks.

Image -> detector -> `named_regions` -> a picture like figure 2 of Anderson et al. 2018.
"""

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from .arguments_updown import with_old_names
from .drawing_boxes_updown import LINE, Box, colour_of, cover_masks, enlarged, shortened, write_labels
from .drawing_updown import check_picture
from .masks_updown import mask_of_region, paste_masks
from .outputs_updown import UpDownDetectorOutput

SURE_ATTRIBUTE = 0.3  # a less probable attribute is not written


def named_regions(output: UpDownDetectorOutput, config: Any, *, masks: bool = False) -> list[list[dict[str, Any]]]:
    """A detector's output -> for each image its regions, in the order of the output, without the cells.

    Each is a dict of `label`, `score`, `box` (four floats, xyxy in 0..1) and, if the detector has attributes,
    `attribute` and `attribute_score`; with `masks` also `mask`, a tensor (M, M) in 0..1 inside the box. `config` is the
    detector's, for the names. Raises `ValueError` for masks of a detector that makes none.
    """
    images = []
    named = output.region_mask if output.cell_mask is None else output.region_mask & ~output.cell_mask
    for image, mask in enumerate(named):
        regions = []
        for row in mask.nonzero().flatten().tolist():
            region = {
                "label": config.id2label[int(output.object_ids[image, row])],  # type: ignore[index]
                "score": output.region_scores[image, row].item(),  # type: ignore[index]
                "box": output.region_boxes[image, row].tolist(),
            }
            if output.attribute_ids is not None and output.attribute_scores is not None:
                region["attribute"] = config.attribute_id2label[int(output.attribute_ids[image, row])]
                region["attribute_score"] = output.attribute_scores[image, row].item()
            if masks:
                region["mask"] = mask_of_region(output, image, row)
            regions.append(region)
        images.append(regions)
    return images


def region_text(region: Mapping[str, Any]) -> str:
    """The label of a region.

    >>> region_text({"label": "car", "score": 0.92, "attribute": "red", "attribute_score": 0.8})
    'red car 0.92'
    """
    sure = region.get("attribute_score", 0.0) >= SURE_ATTRIBUTE
    return f"{region['attribute'] + ' ' if sure else ''}{region['label']} {region['score']:.2f}"


@with_old_names
def draw_regions(
    image: Any,
    regions: Sequence[Mapping[str, Any]],
    *,
    max_regions: int = 25,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Outline an image's regions, each in another colour and with its name; labels do not overlap.

    Args:
        image: a path, URL, bytes or PIL image.
        regions: of `named_regions`; the `max_regions` with the highest scores are drawn, the highest on top. Their
            masks, where they have any (`masks=True` there), are tinted and outlined in the colour of the box.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: without regions, or for a path at which no picture can be saved.

    >>> dog = {"label": "dog", "score": 0.9, "box": [0.1, 0.1, 0.6, 0.9]}
    >>> draw_regions(Image.new("RGB", (200, 100)), [dog]).size
    (1000, 500)
    """
    check_picture(path)
    if not regions:
        raise ValueError("there is no region to draw: lower the threshold")
    picture = enlarged(image)
    surest = sorted(regions, key=itemgetter("score"), reverse=True)[:max_regions]
    colours = [colour_of(place) for place in range(len(surest))]
    covered = [(r["mask"], r["box"], colour) for r, colour in zip(surest, colours, strict=True) if "mask" in r]
    for mask, box, colour in reversed(covered):
        cover_masks(picture, [mask_in_picture(mask, box, picture.size)], [colour])
    draw, boxes = ImageDraw.Draw(picture), [box_in_picture(region["box"], picture.size) for region in surest]
    for corners, colour in reversed(list(zip(boxes, colours, strict=True))):
        draw.rectangle(corners, outline=colour, width=LINE)
    labels = [region_text({**region, "label": shortened(region["label"])}) for region in surest]
    write_labels(picture, labels, boxes, colours)
    if path is not None:
        picture.save(path)
    return picture


def mask_in_picture(mask: Any, box: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """A mask (M, M) inside its box, xyxy in 0..1 -> (height, width) bool of a picture of that width and height."""
    inside = torch.as_tensor(mask).float()
    return paste_masks(inside[None], torch.tensor([list(box)]), height=size[1], width=size[0])[0].numpy()


def box_in_picture(box: Sequence[float], size: tuple[int, int]) -> Box:
    """A box, xyxy in 0..1 -> in pixels of a picture of that width and height, with sides that are not below 0.

    >>> box_in_picture([0.25, 0.5, 0.75, 1.0], (1000, 500))
    (250.0, 250.0, 750.0, 500.0)
    """
    left, top, right, bottom = (side * length for side, length in zip(box, (*size, *size), strict=True))
    return left, top, max(right, left), max(bottom, top)
