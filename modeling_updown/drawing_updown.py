"""Draws the attention of a model: the image, and a panel with the attended regions lit for each word of a caption or
for an answer.

A result of `pipeline("image-to-text")` or `pipeline("visual-question-answering")` with `return_regions=True` -> a
picture like figures 1, 5 and 6 of Anderson et al. 2018.
"""

import importlib.util
import io
import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from processors import load_image

from .arguments_updown import with_old_names

PANEL_INCHES = 2.4  # width of one panel
ANSWER_PANEL_INCHES = 3.4  # width of a panel of an answer
TALLEST = 2.0  # largest height of a panel over its width; a taller image is drawn narrower
DOTS_PER_INCH = 110
MAX_COLUMNS = 5
SHADE = 0.45  # the brightness of the image without attention
PALE_LIMIT = 2.0  # heat is scaled to its maximum, but at least to this multiple of uniform attention
HEAT_COLOUR = np.array([1.0, 0.62, 0.11])
BOX_COLOUR = "#ff9d1c"
OTHER_COLOUR = "#b9b4ad"  # bars of answers that are not the best
EMPTY_COLOUR = "#efece8"
MOST_OUTLINED = 3
OUTLINED_SHARE = 0.5  # further regions with at least this share of the largest weight are outlined
BAR_INCHES = 0.45
LONGEST_ANSWER = 30


@with_old_names
def draw_attention(
    image: Any,
    result: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    max_words: int = 19,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the attention of each word: the image with its caption, and one panel per word.

    The image is bright and warm where the attention is and dim elsewhere; the region with the largest weight is
    outlined. Cells of a grid become a smooth map, overlapping boxes add up. Brightness is relative to the maximum of
    the word; uniform attention over all regions is half dark.

    Args:
        image: the captioned image: a path, URL, bytes, PIL image, or an array (H, W, 3) or (3, H, W).
        result: one caption of the pipeline with `return_regions=True`, or the list of them (the first is drawn).
        max_words: the largest number of words to draw.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: for a result without regions, weights and boxes that do not fit each other, or a path at which no
            picture can be saved.
        ImportError: if matplotlib is not installed.

    >>> result = {"generated_text": "a dog", "words": ["a", "dog"], "region_weights": torch.full((2, 1), 1.0),
    ...           "region_boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}
    >>> 780 < draw_attention(Image.new("RGB", (64, 48)), result).width < 800  # by matplotlib's version
    True
    """
    check_picture(path)
    result = result if isinstance(result, Mapping) else result[0]
    words, weights, boxes = checked_regions(result)
    pixels = image_pixels(image)
    words, weights = words[:max_words], weights[:max_words]
    panels = [pixels, *(light_regions(pixels, heat_map(row, boxes, pixels.shape[:2])) for row in weights)]
    titles = ["", *words]
    strongest = [None, *(boxes[row.argmax()] for row in weights)]
    picture = draw_panels(panels, titles, strongest, caption=str(result.get("generated_text", " ".join(words))))
    if path is not None:
        picture.save(path)
    return picture


@with_old_names
def draw_answer(
    image: Any,
    answers: Sequence[Mapping[str, Any]],
    *,
    question: str = "",
    max_answers: int = 5,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the attention of an answer: the question, the image, the attended regions lit, and the answers.

    There is one panel per glimpse, lit as in `draw_attention`; the region with the largest weight is outlined, and
    thinly up to two more with at least half of it. The last panel has one bar per answer, as long as its score (0..1).

    Args:
        image: the image of the question: a path, URL, bytes, PIL image, or an array (H, W, 3) or (3, H, W).
        answers: the pipeline's answers to one question, with `return_regions=True`.
        question: the title of the picture.
        max_answers: the largest number of answers to draw.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: for answers without regions, weights and boxes that do not fit each other, or a path at which no
            picture can be saved.
        ImportError: if matplotlib is not installed.

    >>> answers = [{"answer": "2", "score": 0.7, "region_weights": torch.full((1, 1), 1.0),
    ...             "region_boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]])}]
    >>> draw_answer(Image.new("RGB", (64, 48)), answers, question="how many?").width
    1122
    """
    check_picture(path)
    if isinstance(answers, Mapping) or not answers or not all(isinstance(answer, Mapping) for answer in answers):
        raise ValueError("draw_answer takes the pipeline's answers to one question, a list of dicts: pick one list")
    weights, boxes = checked_weights(answers[0], kind="glimpses")
    pixels, answers = image_pixels(image), answers[:max_answers]
    figure, axes = empty_panels(
        len(weights) + 2,
        pixels.shape[:2],
        caption=question,
        panel_inches=ANSWER_PANEL_INCHES,
        last_inches=BAR_INCHES * len(answers),
    )
    draw_panel(axes[0], pixels, "", [])
    titles = ["attention"] if len(weights) == 1 else [f"glimpse {number + 1}" for number in range(len(weights))]
    for place, (title, row) in enumerate(zip(titles, weights, strict=True), start=1):
        lit = light_regions(pixels, heat_map(row, boxes, pixels.shape[:2]))
        draw_panel(axes[place], lit, title, boxes[strongest_regions(row)])
    draw_bars(axes[-1], answers)
    picture = rendered(figure)
    if path is not None:
        picture.save(path)
    return picture


def check_picture(path: str | os.PathLike[str] | None) -> None:
    """Checks, before the work begins, that a picture can be drawn and saved at `path` (None: not saved).

    Raises:
        ValueError: for a suffix of no picture format that can be written, or a folder that does not exist.
        ImportError: if matplotlib is not installed.
    """
    if path is None:
        return
    path = Path(path)
    if not can_be_saved(path.suffix):
        raise ValueError(f"no picture can be saved as {path}: name it with the ending .png, .jpg or .webp")
    if path.is_dir() or not path.parent.is_dir():
        fault = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ValueError(f"{fault}: name a file in an existing folder for the picture")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("drawing needs matplotlib: pip install matplotlib")


def can_be_saved(suffix: str) -> bool:
    """Whether Pillow can write colour pictures with a suffix.

    >>> can_be_saved(".png"), can_be_saved(".PDF"), can_be_saved(".xyz"), can_be_saved(".xbm")
    (True, True, False, False)
    """
    kind = Image.registered_extensions().get(suffix.lower())
    try:
        Image.new("RGB", (8, 8)).save(io.BytesIO(), format=kind)
    except Exception:  # a format that Pillow only reads, one without colours, or no format
        return False
    return kind is not None


def strongest_regions(weights: np.ndarray) -> np.ndarray:
    """The regions, of R, to outline, the strongest first.

    >>> strongest_regions(np.array([0.1, 0.5, 0.26, 0.14])).tolist()
    [1, 2]
    """
    order = np.argsort(-weights, kind="stable")[:MOST_OUTLINED]
    return order[weights[order] >= OUTLINED_SHARE * weights[order[0]]]


def checked_regions(result: Mapping[str, Any]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """`words` (T), `region_weights` (T, R) and `region_boxes` (R, 4) of a caption."""
    words = list(result.get("words", []))
    weights, boxes = checked_weights(result, kind="words")
    return words, weights, boxes


def checked_weights(result: Mapping[str, Any], *, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """`region_weights` (N, R) of N words or glimpses, and `region_boxes` (R, 4)."""
    needed = (*(("words",) if kind == "words" else ()), "region_weights", "region_boxes")
    missing = [name for name in needed if name not in result]
    if missing:
        raise ValueError(f"the result has no {', '.join(missing)}: call the pipeline with return_regions=True")
    weights = torch.as_tensor(result["region_weights"]).float().cpu().numpy()
    boxes = torch.as_tensor(result["region_boxes"]).float().cpu().numpy()
    number = len(result["words"]) if kind == "words" else len(weights)
    if not len(boxes) or boxes.shape[1:] != (4,) or weights.shape != (number, len(boxes)):
        raise ValueError(
            f"{number} {kind} with region_weights {weights.shape} and region_boxes {boxes.shape} do not fit: "
            f"expected ({kind}, regions) and (regions, 4)"
        )
    if not (np.isfinite(weights).all() and np.isfinite(boxes).all()):
        raise ValueError("region_weights or region_boxes hold NaN or infinity: was the model trained and loaded whole?")
    return weights, boxes


def image_pixels(image: Any) -> np.ndarray:
    """An image as (h, w, 3) in 0..1, small enough for a panel."""
    if isinstance(image, np.ndarray | torch.Tensor):
        levels = image if isinstance(image, np.ndarray) else image.cpu().numpy()
        if levels.ndim == 3 and levels.shape[-1] not in (3, 4) and levels.shape[0] in (3, 4):
            levels = levels.transpose(1, 2, 0)
        if levels.dtype != np.uint8:
            levels = (levels.astype(np.float32) * (255 if levels.max() <= 1 else 1)).clip(0, 255).astype(np.uint8)
        image = Image.fromarray(levels)
    image = load_image(image)
    side = round(2 * PANEL_INCHES * DOTS_PER_INCH)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.float32) / 255


def heat_map(weights: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weights (R,) of boxes (R, 4) as a map over an image of `size` (height, width): 0..1.

    Each pixel is the sum of the weights of the boxes that cover it; uniform attention is 1 / `PALE_LIMIT`.
    """
    height, width = size
    columns, rows = (len(np.unique(boxes[:, side].round(4))) for side in (0, 1))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if columns * rows == len(boxes) and math.isclose(areas.sum(), 1, abs_tol=0.01):  # a grid
        order = np.lexsort((boxes[:, 0], boxes[:, 1]))
        cells = Image.fromarray(weights[order].reshape(rows, columns).astype(np.float32))
        heat = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
    else:
        heat = np.zeros(size, dtype=np.float32)
        for weight, (left, top, right, bottom) in zip(weights, boxes * [width, height, width, height], strict=True):
            heat[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] += weight
    even = weights.sum() * areas.sum() / len(boxes)  # the mean heat of equal weights
    return (heat / max(heat.max(), PALE_LIMIT * even, 1e-12)).clip(0, 1)


def light_regions(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image (h, w, 3), dim and grey where `heat` (h, w) is 0, bright and warm where it is 1."""
    heat = heat[..., None]
    grey = pixels.mean(axis=-1, keepdims=True)
    dim = SHADE * (0.5 * grey + 0.5 * pixels)
    warm = 1 - (1 - pixels) * (1 - 0.35 * HEAT_COLOUR)  # a screen of the heat's colour over the image
    return dim * (1 - heat) + warm * heat


def draw_panels(
    panels: Sequence[np.ndarray], titles: Sequence[str], boxes: Sequence[np.ndarray | None], *, caption: str
) -> Image.Image:
    """A picture of panels in rows, each with its title and outlined box (0..1), under the caption."""
    figure, axes = empty_panels(len(panels), panels[0].shape[:2], caption=caption)
    for place, panel, title, box in zip(axes, panels, titles, boxes, strict=True):
        draw_panel(place, panel, title, [] if box is None else [box])
    return rendered(figure)


def empty_panels(
    number: int,
    size: tuple[int, int],
    *,
    caption: str,
    panel_inches: float = PANEL_INCHES,
    last_inches: float = 0.0,
) -> tuple[Any, list[Any]]:
    """A figure with its caption, and the axes of `number` panels of the shape of an image of `size` (height, width).

    With `last_inches` the last panel is not an image, but fills the width of its place and has this height.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install matplotlib") from error
    shape = size[0] / size[1]
    panel_width = min(1, TALLEST / shape)  # of the place
    image_height = max(panel_inches * panel_width * shape, 0.05)
    panel_height = max(image_height, last_inches) + 0.3  # inches, with the title
    columns = min(number, MAX_COLUMNS)
    rows = math.ceil(number / columns)
    lines = textwrap.wrap(caption, width=round(22 * columns * panel_inches / PANEL_INCHES)) or [""]
    head = 0.02 + 0.3 * len(lines)
    figure = Figure(figsize=(columns * panel_inches, rows * panel_height + head), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    total = figure.get_figheight()
    figure.text(0.012, 1 - 0.1 / total, "\n".join(lines), va="top", fontsize=15, fontweight="bold", parse_math=False)
    axes = []
    for place in range(number):
        row, column = divmod(place, columns)
        top = 1 - (head + row * panel_height + 0.3) / total
        last = last_inches and place == number - 1
        height, width = (last_inches, 1.0) if last else (image_height, panel_width)
        left = (column + 0.02 + 0.96 * (1 - width) / 2) / columns
        axes.append(
            figure.add_axes((left, top - (height - 0.02) / total, 0.96 * width / columns, (height - 0.02) / total))
        )
    return figure, axes


def rendered(figure: Any) -> Image.Image:
    """A figure's pixels."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # an emoji is drawn as a box
        figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")


def draw_panel(axes: Any, panel: np.ndarray, title: str, boxes: Sequence[np.ndarray] | np.ndarray) -> None:
    """Draw one image with its title and outlined boxes, the first of them bold."""
    from matplotlib.patches import Rectangle

    height, width = panel.shape[:2]
    axes.imshow(panel.clip(0, 1), aspect="auto", extent=(0, width, height, 0), interpolation="lanczos")
    axes.set_axis_off()
    axes.set_title(title, fontsize=13, pad=4, parse_math=False)
    for place, box in enumerate(boxes):
        left, top, right, bottom = box * [width, height, width, height]
        style = {"linewidth": 1, "linestyle": "--"} if place else {"linewidth": 2}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=BOX_COLOUR, **style))


def draw_bars(axes: Any, answers: Sequence[Mapping[str, Any]]) -> None:
    """Draw one bar per answer, as long as its score, the best in the colour of the attention."""
    axes.set_xlim(0, 1)
    axes.set_ylim(len(answers), 0)
    axes.set_axis_off()
    for place, answer in enumerate(answers):
        colour = OTHER_COLOUR if place else BOX_COLOUR
        axes.barh(place + 0.72, 0.96, left=0.04, height=0.3, color=EMPTY_COLOUR)
        axes.barh(place + 0.72, 0.96 * min(max(answer["score"], 0.0), 1.0), left=0.04, height=0.3, color=colour)
        weight = "normal" if place else "bold"
        name = str(answer["answer"])
        name = name if len(name) <= LONGEST_ANSWER else name[: LONGEST_ANSWER - 3] + "..."
        style = {"fontsize": 13, "fontweight": weight, "va": "center", "parse_math": False}
        axes.text(0.04, place + 0.34, name, **style)
        axes.text(1.0, place + 0.34, f"{answer['score']:.2f}", ha="right", **style)
