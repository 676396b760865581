"""Draws what a model made of a clip: when and where each word of a caption looked, and which moments a sentence means.

A result of `pipeline("image-to-text")` or `pipeline("visual-question-answering")` on a clip with `return_regions=True`,
or the scores and spans of a sentence -> a picture. The clip is the `Clip` that the pipeline was given.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from .drawing_retrieval_updown import empty_figure, finished, place_image, write
from .drawing_updown import (
    ANSWER_PANEL_INCHES,
    BAR_INCHES,
    BOX_COLOUR,
    OTHER_COLOUR,
    SHADE,
    check_picture,
    checked_regions,
    checked_weights,
    draw_bars,
    draw_panel,
    draw_panels,
    empty_panels,
    heat_map,
    image_pixels,
    light_regions,
    rendered,
)

STRIP_FRAMES = 10  # of a clip with more, so many are shown
SAME_SECOND = 1e-3  # seconds are kept in float32
TIMELINE_INCHES, THUMBNAILS, CURVE_INCHES = 12.0, 8, 1.6
GAP_INCHES = 0.1
HEAD_LETTERS, HEAD_LINES, LINE_INCHES = 6.5, 3, 0.27  # letters of a sentence per inch; lines at most; a line's height


def draw_clip_attention(
    clip: Any,
    result: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    max_words: int = 19,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the frames of a clip with its caption, and for each word the frame at which its attention is the strongest.

    The title of a word says the second of the frame that has the most attention of all, summed over its regions; in
    that frame the attended regions are lit as in `draw_attention`, and the one with the largest weight is outlined.

    Args:
        clip: with `frames` (images) and their `seconds`, as `load_clip` returns it.
        result: one caption of the pipeline with `return_regions=True`, or the list of them (the first is drawn).
        max_words: the largest number of words to draw.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: for a result without regions or seconds, one of another clip, or a path at which no picture can be
            saved.
        ImportError: if matplotlib is not installed.

    >>> from types import SimpleNamespace
    >>> clip = SimpleNamespace(frames=[Image.new("RGB", (64, 48))] * 2, seconds=np.array([0.0, 0.5]))
    >>> result = {"generated_text": "a dog", "words": ["a", "dog"], "region_weights": torch.eye(2),
    ...           "region_boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), "region_seconds": torch.tensor([0.0, 0.5])}
    >>> picture = draw_clip_attention(clip, result)
    """
    check_picture(path)
    result = result if isinstance(result, Mapping) else result[0]
    words, weights, boxes = checked_regions(result)
    numbers = frames_of_regions(clip, result)
    shown = spread(len(clip.frames), STRIP_FRAMES)
    titles = [f"{clip.seconds[number]:.1f} s" for number in shown]
    panels = [image_pixels(clip.frames[number]) for number in shown]
    strip = draw_panels(panels, titles, [None] * len(panels), caption=str(result.get("generated_text", "")))
    if not words:
        return saved(strip, path)
    places = [strongest_place(row, numbers) for row in weights[:max_words]]
    lit = [lit_frame(clip, row, boxes, numbers, frame) for row, (frame, _) in zip(weights, places, strict=False)]
    titles = [f"{word}  {clip.seconds[frame]:.1f} s" for word, (frame, _) in zip(words, places, strict=False)]
    looked = draw_panels(lit, titles, [boxes[region] for _, region in places], caption="")
    return saved(stacked([strip, looked]), path)


def draw_clip_answer(
    clip: Any,
    answers: Sequence[Mapping[str, Any]],
    *,
    question: str = "",
    max_answers: int = 5,
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw the frames of a clip with the attention of an answer, the mean of its glimpses, and the answers.

    Each frame is lit where the attention is, relative to its maximum in the whole clip; the region with the largest
    weight is outlined.

    Args:
        clip: with `frames` (images) and their `seconds`, as `load_clip` returns it.
        answers: the pipeline's answers to one question, with `return_regions=True`.
        question: the title of the picture.
        max_answers: the largest number of answers to draw.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: for answers without regions or seconds, those of another clip, or a path at which no picture can be
            saved.
        ImportError: if matplotlib is not installed.
    """
    check_picture(path)
    if isinstance(answers, Mapping) or not answers:
        raise ValueError("draw_clip_answer takes the pipeline's answers to one question, a list of dicts")
    weights, boxes = checked_weights(answers[0], kind="glimpses")
    numbers, mean, answers = frames_of_regions(clip, answers[0]), weights.mean(axis=0), answers[:max_answers]
    shares = np.bincount(numbers, weights=mean, minlength=len(clip.frames))  # the attention of each frame
    best, region = strongest_place(mean, numbers)
    shown = sorted({*spread(len(clip.frames), STRIP_FRAMES - 1), best})
    size = image_pixels(clip.frames[0]).shape[:2]
    inches = {"panel_inches": ANSWER_PANEL_INCHES, "last_inches": BAR_INCHES * len(answers)}
    figure, axes = empty_panels(len(shown) + 1, size, caption=question, **inches)
    for place, frame in enumerate(shown):
        lit = lit_frame(clip, mean, boxes, numbers, frame, share=shares[frame] / max(shares[best], 1e-12))
        title = f"{clip.seconds[frame]:.1f} s   {shares[frame]:.0%}"
        draw_panel(axes[place], lit, title, [boxes[region]] if frame == best else [])
    draw_bars(axes[-1], answers)
    return saved(rendered(figure), path)


def draw_moments(
    clip: Any,
    found: Mapping[str, Any],
    *,
    sentence: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Image.Image:
    """Draw a timeline: thumbnails over time, the score of each moment as a curve, and the spans shaded, the best bold.

    Args:
        clip: with `frames` (images), their `seconds` and `end_seconds`, as `load_clip` returns it; of a part of a clip
            (`part_seconds`) the timeline is the part's.
        found: `spans`, mappings of `start` and `end` in seconds and `score`, the best first; and optionally
            `frame_scores`, a number for each frame of the clip.
        sentence: the title of the picture.
        path: also save the picture here, in the format of the suffix.

    Raises:
        ValueError: for another number of scores than frames, or a path at which no picture can be saved.
        ImportError: if matplotlib is not installed.
    """
    check_picture(path)
    scores = found.get("frame_scores")
    if scores is not None and len(scores) != len(clip.frames):
        raise ValueError(f"{len(scores)} frame_scores and {len(clip.frames)} frames: give the clip that was searched")
    width = TIMELINE_INCHES / THUMBNAILS
    height = width * min(clip.frames[0].height / clip.frames[0].width, 1.25)
    start, end = seconds_looked_at(clip)
    head = textwrap.wrap(sentence, int(TIMELINE_INCHES * HEAD_LETTERS), max_lines=HEAD_LINES, placeholder=" ...")
    top = 0.5 + LINE_INCHES * max(len(head) - 1, 0)
    figure = empty_figure(TIMELINE_INCHES + 2 * GAP_INCHES, top + height + CURVE_INCHES + 0.5)
    write(figure, GAP_INCHES, GAP_INCHES, "\n".join(head), fontsize=15, fontweight="bold")
    for place in range(THUMBNAILS):  # of the frame that is on the screen in the middle of its place
        middle = start + (place + 0.5) / THUMBNAILS * (end - start)
        frame = max(int(np.searchsorted(clip.seconds, middle, side="right")) - 1, 0)
        place_image(figure, clip.frames[frame], (GAP_INCHES + place * width, top, width - 0.04, height))
    total = figure.get_figheight()
    across = TIMELINE_INCHES / figure.get_figwidth()
    box = (GAP_INCHES / figure.get_figwidth(), 0.38 / total, across, CURVE_INCHES / total)
    draw_curve(figure.add_axes(box), clip, found["spans"], scores)
    return finished(figure, path)


def draw_curve(axes: Any, clip: Any, spans: Sequence[Mapping[str, Any]], scores: Sequence[float] | None) -> None:
    """Draw the spans, shaded, with their seconds, and the scores of frames as steps over them."""
    start, end = seconds_looked_at(clip)
    axes.set_xlim(start, end)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter("{x:g}")  # short, so that the outermost fit on the picture
    for place, span in reversed(list(enumerate(spans))):
        colour = OTHER_COLOUR if place else BOX_COLOUR
        axes.axvspan(span["start"], span["end"], color=colour, alpha=0.3 if place else 0.5, linewidth=0)
        if not place:
            label = f"{span['start']:.1f} to {span['end']:.1f} s"
            middle = (span["start"] + span["end"]) / 2
            axes.text(middle, 0.93, label, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=11)
    if scores is not None:
        axes.step([*clip.seconds, end], [*scores, scores[-1]], where="post", color="black", linewidth=1.5)


def seconds_looked_at(clip: Any) -> tuple[float, float]:
    """Start and end of the part of a clip that was looked at, by default of all of it."""
    part: tuple[float, float] | None = getattr(clip, "part_seconds", None)
    return part or (0.0, float(clip.end_seconds))


def frames_of_regions(clip: Any, result: Mapping[str, Any]) -> np.ndarray:
    """The number of the frame (R,) that each region of a result was seen in; `ValueError` where the clip is another."""
    seconds = result.get("region_seconds")
    if seconds is None:
        raise ValueError("the result has no region_seconds: call the pipeline on a clip with return_regions=True")
    values = np.asarray(torch.as_tensor(seconds).cpu(), dtype=np.float64)
    distances = np.abs(values[:, None] - np.asarray(clip.seconds, dtype=np.float64))  # (R, F)
    if values.shape != (len(result["region_boxes"]),) or (distances.min(axis=1) > SAME_SECOND * (1 + values)).any():
        raise ValueError("the result's region_seconds are not those of the clip's frames: give the clip of the result")
    return distances.argmin(axis=1)


def strongest_place(weights: np.ndarray, numbers: np.ndarray) -> tuple[int, int]:
    """The frame with the most attention, and the region with the largest weight there; weights, numbers (R,).

    >>> strongest_place(np.array([0.4, 0.3, 0.25, 0.05]), np.array([0, 1, 1, 0]))
    (1, 1)
    """
    frame = int(np.bincount(numbers, weights=weights).argmax())
    return frame, int(np.where(numbers == frame, weights, -1.0).argmax())


def lit_frame(
    clip: Any, weights: np.ndarray, boxes: np.ndarray, numbers: np.ndarray, frame: int, *, share: float = 1.0
) -> np.ndarray:
    """A frame (h, w, 3), lit where its regions have weight; `share` 0..1 dims the light."""
    pixels, here = image_pixels(clip.frames[frame]), numbers == frame
    if not here.any():
        return SHADE * pixels
    return light_regions(pixels, share * heat_map(weights[here], boxes[here], pixels.shape[:2]))


def spread(number: int, most: int) -> list[int]:
    """At most so many of `number` places, evenly spread.

    >>> spread(3, 5), spread(9, 3)
    ([0, 1, 2], [0, 4, 8])
    """
    return list(range(number)) if number <= most else np.linspace(0, number - 1, most).round().astype(int).tolist()


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other on white."""
    whole = Image.new("RGB", (max(one.width for one in pictures), sum(one.height for one in pictures)), "white")
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole


def saved(picture: Image.Image, path: str | os.PathLike[str] | None) -> Image.Image:
    """The picture, which is also saved if a path is given."""
    if path is not None:
        picture.save(path)
    return picture
