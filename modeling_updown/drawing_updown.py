"""What a captioner looked at, as a picture: the photo, then once more for every word with the attended regions lit.

The last, optional hop of the flow: a result of `pipeline("image-to-text")` with `return_regions=True` -> a picture, in
the manner of figures 1 and 5 of Anderson et al. 2018.
"""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from processors import load_photo

PANEL_INCHES = 2.4  # width of one panel
DOTS_PER_INCH = 110
MAX_COLUMNS = 5
SHADE = 0.45  # how much of the photo's own light is left where nothing is attended
PALE_LIMIT = 2.0  # heat is scaled to its own maximum, but at least to this many times even attention
HEAT_COLOUR = np.array([1.0, 0.62, 0.11])
BOX_COLOUR = "#ff9d1c"


def draw_attention(
    photo: Any,
    result: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    max_words: int = 19,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw where the captioner looked for each word: the photo under its caption, then a panel for every word.

    The photo is bright and warm where the attention lies and dim elsewhere; the region that weighs most is outlined.
    Cells of a grid become a smooth map, overlapping boxes are painted one over the other. Brightness is relative to the
    word's own maximum; attention spread evenly over all regions stays half dark.

    Args:
        photo: what was captioned: a path, URL, bytes, PIL image, or an array (H, W, 3) or (3, H, W).
        result: one caption of the pipeline with `return_regions=True`, or the list of them (the first is drawn).
        max_words: words drawn at most.
        path: where to save the picture as well; the suffix says the format.

    Raises:
        ValueError: a result without regions, or weights and boxes that do not fit each other.
        ImportError: matplotlib is not installed.

    >>> result = {"generated_text": "a dog", "words": ["a", "dog"], "region_weights": torch.full((2, 1), 1.0),
    ...           "region_boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}
    >>> draw_attention(Image.new("RGB", (64, 48)), result).width
    792
    """
    result = result if isinstance(result, Mapping) else result[0]
    words, weights, boxes = checked_regions(result)
    pixels = photo_pixels(photo)
    words, weights = words[:max_words], weights[:max_words]
    panels = [pixels, *(light_regions(pixels, heat_map(row, boxes, pixels.shape[:2])) for row in weights)]
    titles = ["", *words]
    strongest = [None, *(boxes[row.argmax()] for row in weights)]
    picture = draw_panels(panels, titles, strongest, caption=str(result.get("generated_text", " ".join(words))))
    if path is not None:
        picture.save(path)
    return picture


def checked_regions(result: Mapping[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """`words` (T), `region_weights` (T, R) and `region_boxes` (R, 4) of a result."""
    missing = [name for name in ("words", "region_weights", "region_boxes") if name not in result]
    if missing:
        raise ValueError(f"the result has no {', '.join(missing)}: call the pipeline with return_regions=True")
    words = list(result["words"])
    weights = torch.as_tensor(result["region_weights"]).float().cpu().numpy()
    boxes = torch.as_tensor(result["region_boxes"]).float().cpu().numpy()
    if not len(boxes) or boxes.shape[1:] != (4,) or weights.shape != (len(words), len(boxes)):
        raise ValueError(
            f"{len(words)} words with region_weights {weights.shape} and region_boxes {boxes.shape} do not fit: "
            "expected (words, regions) and (regions, 4)"
        )
    if not (np.isfinite(weights).all() and np.isfinite(boxes).all()):
        raise ValueError("region_weights or region_boxes hold NaN or infinity: was the model trained and loaded whole?")
    return words, weights, boxes


def photo_pixels(photo: Any) -> np.ndarray:
    """A photo as (h, w, 3) in 0..1, small enough for a panel."""
    if isinstance(photo, np.ndarray | torch.Tensor):
        levels = photo if isinstance(photo, np.ndarray) else photo.cpu().numpy()
        if levels.ndim == 3 and levels.shape[-1] not in (3, 4) and levels.shape[0] in (3, 4):
            levels = levels.transpose(1, 2, 0)
        if levels.dtype != np.uint8:
            levels = (levels.astype(np.float32) * (255 if levels.max() <= 1 else 1)).clip(0, 255).astype(np.uint8)
        photo = Image.fromarray(levels)
    photo = load_photo(photo)
    side = round(2 * PANEL_INCHES * DOTS_PER_INCH)
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(photo, dtype=np.float32) / 255


def heat_map(weights: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weights (R,) of boxes (R, 4) spread over a photo of `size` (height, width): 0..1.

    Each pixel has the weights of all boxes over it; even attention everywhere would be 1 / `PALE_LIMIT` of full light.
    """
    height, width = size
    columns, rows = (len(np.unique(boxes[:, side].round(4))) for side in (0, 1))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if columns * rows == len(boxes) and math.isclose(areas.sum(), 1, abs_tol=0.01):  # a grid: one cell a place
        order = np.lexsort((boxes[:, 0], boxes[:, 1]))
        cells = Image.fromarray(weights[order].reshape(rows, columns).astype(np.float32))
        heat = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
    else:
        heat = np.zeros(size, dtype=np.float32)
        for weight, (left, top, right, bottom) in zip(weights, boxes * [width, height, width, height], strict=True):
            heat[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] += weight
    even = weights.sum() * areas.sum() / len(boxes)  # the mean heat, had every region the same weight
    return (heat / max(heat.max(), PALE_LIMIT * even, 1e-12)).clip(0, 1)


def light_regions(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The photo (h, w, 3), dim and grey where `heat` (h, w) is 0, bright and warm where it is 1."""
    heat = heat[..., None]
    grey = pixels.mean(axis=-1, keepdims=True)
    dim = SHADE * (0.5 * grey + 0.5 * pixels)
    warm = 1 - (1 - pixels) * (1 - 0.35 * HEAT_COLOUR)  # a screen of the heat's colour over the photo
    return dim * (1 - heat) + warm * heat


def draw_panels(
    panels: Sequence[np.ndarray], titles: Sequence[str], boxes: Sequence[np.ndarray | None], *, caption: str
) -> Image.Image:
    """Panels side by side in rows, each with its title and its outlined box (0..1), under the caption."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("draw_attention needs matplotlib: pip install matplotlib") from error
    height, width = panels[0].shape[:2]
    columns = min(len(panels), MAX_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    panel_height = PANEL_INCHES * height / width + 0.3  # inches, with the title
    lines = textwrap.wrap(caption, width=22 * columns) or [""]
    head = 0.02 + 0.3 * len(lines)
    figure = Figure(figsize=(columns * PANEL_INCHES, rows * panel_height + head), dpi=DOTS_PER_INCH, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    total = figure.get_figheight()
    figure.text(0.012, 1 - 0.1 / total, "\n".join(lines), va="top", fontsize=15, fontweight="bold", parse_math=False)
    for place, (panel, title, box) in enumerate(zip(panels, titles, boxes, strict=True)):
        row, column = divmod(place, columns)
        bottom = 1 - (head + (row + 1) * panel_height) / total
        axes = figure.add_axes((
            (column + 0.02) / columns, bottom + 0.02 / total, 0.96 / columns, (panel_height - 0.32) / total
        ))  # fmt: skip
        draw_panel(axes, panel, title, box)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def draw_panel(axes: Any, panel: np.ndarray, title: str, box: np.ndarray | None) -> None:
    """One photo with its title, and an outlined box where one is given."""
    from matplotlib.patches import Rectangle

    height, width = panel.shape[:2]
    axes.imshow(panel.clip(0, 1), aspect="auto", extent=(0, width, height, 0), interpolation="lanczos")
    axes.set_axis_off()
    axes.set_title(title, fontsize=13, pad=4, parse_math=False)
    if box is not None:
        left, top, right, bottom = box * [width, height, width, height]
        outline = Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2, edgecolor=BOX_COLOUR)
        axes.add_patch(outline)
