"""Draws the regions of a detector: the image with its regions outlined and named, "red car 0.92".

Image -> detector -> `named_regions` -> a picture like figure 2 of Anderson et al. 2018.
"""

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from PIL import Image

from processors import load_image

from .arguments_updown import with_old_names
from .drawing_updown import check_picture
from .outputs_updown import UpDownDetectorOutput

PICTURE_PIXELS = 1000  # the longer side of the picture
DOTS_PER_INCH = 100
# Okabe and Ito's colours, which colour-blind readers can distinguish
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
SURE_ATTRIBUTE = 0.3  # a less probable attribute is not written


def named_regions(output: UpDownDetectorOutput, config: Any) -> list[list[dict[str, Any]]]:
    """A detector's output -> for each image its regions, in the order of the output, without the cells.

    Each is a dict of `label`, `score`, `box` (four floats, xyxy in 0..1) and, if the detector has attributes,
    `attribute` and `attribute_score`. `config` is the detector's, for the names.
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
    """Outline an image's regions, each in another colour and with its name.

    Args:
        image: a path, URL, bytes or PIL image.
        regions: of `named_regions`; the `max_regions` with the highest scores are drawn, the highest on top.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: without regions, or for a path at which no picture can be saved.
        ImportError: if matplotlib is not installed.

    >>> dog = {"label": "dog", "score": 0.9, "box": [0.1, 0.1, 0.6, 0.9]}
    >>> draw_regions(Image.new("RGB", (200, 100)), [dog]).size
    (1000, 500)
    """
    check_picture(path)
    if not regions:
        raise ValueError("there is no region to draw: lower the threshold")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("draw_regions needs matplotlib: pip install matplotlib") from error
    pixels = np.asarray(load_image(image))
    height, width = pixels.shape[:2]
    scale = PICTURE_PIXELS / max(height, width) / DOTS_PER_INCH
    figure = Figure(figsize=(max(width * scale, 0.1), max(height * scale, 0.1)), dpi=DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(pixels, aspect="auto", extent=(0, width, height, 0), interpolation="lanczos")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    surest = sorted(regions, key=itemgetter("score"), reverse=True)[:max_regions]
    for place, region in reversed(list(enumerate(surest))):
        outline_region(axes, region, colour=COLOURS[place % len(COLOURS)], size=(width, height))
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if path is not None:
        picture.save(path)
    return picture


def outline_region(axes: Any, region: Mapping[str, Any], *, colour: str, size: tuple[int, int]) -> None:
    """Draw one box and its name, inside if there is no room above; `size` is the image's width and height."""
    from matplotlib.patches import Rectangle

    width, height = size
    left, top, right, bottom = np.asarray(region["box"]) * [width, height, width, height]
    axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2, edgecolor=colour))
    above = top > 0.05 * height
    axes.text(
        min(max(left, 0), 0.85 * width),
        top if above else top + 0.005 * height,
        region_text(region),
        va="bottom" if above else "top",
        fontsize=10,
        color="black",
        parse_math=False,
        bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
    )
