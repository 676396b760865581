"""Draws search results: a contact sheet of ranked images, or an image and its ranked texts.

Text or image -> `UpDownFusionForImageTextRetrieval` -> ranked images or texts -> picture.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .arguments_updown import with_old_names
from .drawing_updown import BOX_COLOUR, DOTS_PER_INCH, EMPTY_COLOUR, OTHER_COLOUR, check_picture, rendered

TILE_INCHES = 2.5  # width of one tile
SHAPES = (0.66, 1.25)  # limits of a tile's height over its width, which is the images' median
GAP_INCHES = 0.14
MARGIN_INCHES = 0.16
MOST_COLUMNS = 5
LINE_INCHES = 0.175  # height of a line of a caption
CAPTION_LINES, CAPTION_LETTERS = 3, 34
HEAD_LETTERS = 7  # letters of the query per inch
TEXT_LETTERS, TEXT_LINES = 66, 3
LIST_INCHES = 6.2
PALE_TEXT = "#6f6a64"
Tile = tuple[Image.Image | None, str, str, list[str]]  # image, rank, scores, lines of the caption
Box = tuple[float, float, float, float]  # left, top, width, height in inches from the figure's upper left corner


@with_old_names
def draw_found_images(
    images: Sequence[Image.Image | None],
    results: Sequence[Mapping[str, Any]],
    *,
    query: str = "",
    query_image: Image.Image | None = None,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the found images on one sheet, the best first, five per row.

    Args:
        images: the found images; the tile of a None stays empty.
        results: one mapping per image: `rank` (from 1), `score` (-1..1), `match` (0..1, *optional*), and the text below
            the image: the first of its `captions`, else its `id` (both *optional*).
        query: the text of the search, drawn as the title.
        query_image: or the image of the search, drawn first.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: without images, for different numbers of images and results, or a path at which no picture can be
            saved.
        ImportError: if matplotlib is not installed.

    >>> sheet = draw_found_images([Image.new("RGB", (64, 48))] * 7, [{"rank": n, "score": 0.5} for n in range(1, 8)])
    >>> sheet.width
    1471
    """
    check_picture(path)
    if not results or len(images) != len(results):
        raise ValueError(f"{len(images)} images and {len(results)} results: give one image for each, and at least one")
    tiles: list[Tile] = [(image, *tile_texts(result)) for image, result in zip(images, results, strict=True)]
    if query_image is not None:
        tiles.insert(0, (query_image, "", "searched for", []))
    columns = min(len(tiles), MOST_COLUMNS)
    width = 2 * MARGIN_INCHES + columns * TILE_INCHES + (columns - 1) * GAP_INCHES
    head = textwrap.wrap(query, width=int(width * HEAD_LETTERS))
    head_height = MARGIN_INCHES + 0.34 * len(head)
    shapes = [image.height / image.width for image, *_ in tiles if image is not None] or [0.75]
    size = (TILE_INCHES, TILE_INCHES * float(np.clip(np.median(shapes), *SHAPES)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [size[1] + 0.32 + LINE_INCHES * max(len(tile[3]) for tile in row) + GAP_INCHES for row in rows]
    figure = empty_figure(width, head_height + sum(heights))
    write(figure, MARGIN_INCHES, MARGIN_INCHES, "\n".join(head), fontsize=17, fontweight="bold")
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            left = MARGIN_INCHES + column * (TILE_INCHES + GAP_INCHES)
            draw_tile(figure, tile, box=(left, head_height + sum(heights[:number]), *size))
    return finished(figure, path)


def draw_tile(figure: Any, tile: Tile, *, box: Box) -> None:
    """Draw one image in a box, and below it its rank, scores and caption; an image without a rank is framed."""
    image, rank, scores, caption = tile
    left, top, _, height = box
    place_image(figure, image, box, frame=None if rank else BOX_COLOUR)
    below = top + height + 0.07
    write(figure, left, below, rank, fontsize=12, fontweight="bold")
    write(figure, left + 0.12 * len(rank) + (0.07 if rank else 0), below + 0.02, scores, color=PALE_TEXT)
    write(figure, left, below + 0.23, "\n".join(caption))


@with_old_names
def draw_found_texts(
    image: Image.Image, results: Sequence[Mapping[str, Any]], *, path: str | os.PathLike[str] | None = None
) -> Image.Image:
    """Draw an image and the texts that were found for it, the best first.

    Args:
        image: the image of the search.
        results: one mapping per text: `rank` (from 1), `score` (-1..1), `match` (0..1, *optional*) and `text`. The
            length of a bar is the match if there is one, else the score.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: without texts, or for a path at which no picture can be saved.
        ImportError: if matplotlib is not installed.

    >>> result = {"rank": 1, "score": 0.31, "match": 0.9, "text": "a dog runs"}
    >>> draw_found_texts(Image.new("RGB", (64, 48)), [result]).width
    1161
    """
    check_picture(path)
    if not results:
        raise ValueError("there is no result to draw")
    texts = [textwrap.wrap(str(r["text"]), TEXT_LETTERS, max_lines=TEXT_LINES, placeholder=" ...") for r in results]
    heights = [0.34 + 0.2 * max(len(lines), 1) for lines in texts]
    image_width = 4.0
    image_height = min(max(image_width * image.height / image.width, 0.3), 1.4 * image_width)
    figure = empty_figure(
        image_width + LIST_INCHES + 2.26 * MARGIN_INCHES, max(image_height, sum(heights)) + 2 * MARGIN_INCHES
    )
    place_image(figure, image, (MARGIN_INCHES, MARGIN_INCHES, image_width, image_height), background="white")
    left, top = image_width + 2.26 * MARGIN_INCHES, MARGIN_INCHES
    bar = LIST_INCHES - 2.6
    for result, lines, height in zip(results, texts, heights, strict=True):
        rank, scores, _ = tile_texts(result)
        best = result is results[0]
        write(figure, left, top, rank, fontsize=12, fontweight="bold")
        write(figure, left + 0.38, top + 0.01, "\n".join(lines), fontsize=11, fontweight="bold" if best else "normal")
        below = top + 0.2 * max(len(lines), 1) + 0.05
        share = result.get("match")
        share = min(max(result["score"] if share is None else share, 0.0), 1.0)
        fill(figure, (left + 0.38, below + 0.03, bar, 0.08), EMPTY_COLOUR)
        if share:
            fill(figure, (left + 0.38, below + 0.03, bar * share, 0.08), BOX_COLOUR if best else OTHER_COLOUR)
        write(figure, left + 0.5 + bar, below - 0.02, scores, color=PALE_TEXT)
        top += height
    return finished(figure, path)


def tile_texts(result: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """A result's rank, its scores, and the lines of its caption.

    >>> tile_texts({"rank": 2, "score": 0.414, "match": 0.973, "captions": ["a dog", "a cat"]})
    ('2', '0.41   match 97%', ['a dog'])
    """
    match = result.get("match")
    scores = f"{result['score']:.2f}" + ("" if match is None else f"   match {match:.0%}")
    captions = result.get("captions") or [str(result.get("id", ""))]
    caption = textwrap.wrap(captions[0], CAPTION_LETTERS, max_lines=CAPTION_LINES, placeholder=" ...")
    return str(result["rank"]), scores, caption


def empty_figure(width: float, height: float) -> Any:
    """A white figure of a size in inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("drawing needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Any, left: float, top: float, text: str, **style: Any) -> None:
    """Draw text with its upper left corner at a point in inches from the figure's upper left corner."""
    width, height = figure.get_size_inches()
    style = {"fontsize": 9.5, "va": "top", "linespacing": 1.25, "parse_math": False} | style
    figure.text(left / width, 1 - top / height, text, **style)


def fill(figure: Any, box: Box, colour: str, *, frame: str | None = None) -> None:
    """Draw a filled box behind the images; with `frame`, an empty box of that colour in front of them."""
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    across, down = figure.get_size_inches()
    figure.add_artist(
        Rectangle(
            (left / across, 1 - (top + height) / down),
            width / across,
            height / down,
            transform=figure.transFigure,
            facecolor="none" if frame else colour,
            edgecolor=frame or "none",
            linewidth=3,
            zorder=5 if frame else -1,
        )
    )


def place_image(
    figure: Any,
    image: Image.Image | None,
    box: Box,
    *,
    background: str = EMPTY_COLOUR,
    frame: str | None = None,
) -> None:
    """Draw a whole image in the middle of a box, optionally with a frame."""
    left, top, width, height = box
    fill(figure, box, background)
    if image is None:
        write(figure, left + width / 2, top + height / 2, "cannot be read", ha="center", va="center", color=PALE_TEXT)
    else:
        scale = min(width / image.width, height / image.height)
        shown = (max(image.width * scale, 0.02), max(image.height * scale, 0.02))  # inches
        pixels = (max(round(shown[0] * DOTS_PER_INCH), 1), max(round(shown[1] * DOTS_PER_INCH), 1))
        small = image.convert("RGB").resize(pixels, Image.Resampling.LANCZOS)
        across, down = figure.get_size_inches()
        corner = (left + (width - shown[0]) / 2, top + (height - shown[1]) / 2)
        axes = figure.add_axes(
            (corner[0] / across, 1 - (corner[1] + shown[1]) / down, shown[0] / across, shown[1] / down)
        )
        axes.imshow(np.asarray(small), aspect="auto", interpolation="nearest")
        axes.set_axis_off()
    if frame is not None:
        fill(figure, box, "none", frame=frame)


def finished(figure: Any, path: str | os.PathLike[str] | None) -> Image.Image:
    """The picture, which is also saved if a path is given."""
    picture = rendered(figure)
    if path is not None:
        picture.save(path)
    return picture
