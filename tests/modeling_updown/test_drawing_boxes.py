"""Masks in pictures against a loop over pixels, what is refused, and labels that cover no other."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageColor

from modeling_updown.drawing_boxes_updown import (
    COLOURS,
    LINE,
    OPACITY,
    colour_of,
    cover_masks,
    enlarged,
    place_labels,
    shared_area,
    write_labels,
)


def tinted(pixel: np.ndarray, colour: str) -> np.ndarray:
    """A pixel under a mask, by hand."""
    return pixel + (np.array(ImageColor.getrgb(colour)) - pixel) * OPACITY / 255


def covered_by_hand(picture: np.ndarray, mask: np.ndarray, colour: str) -> np.ndarray:
    """A picture (height, width, 3) with one mask: pixels of it that are less than `LINE` from another are its line."""
    made, (height, width) = picture.astype(float), mask.shape
    for row, column in itertools.product(range(height), range(width)):
        near = itertools.product(range(row - LINE, row + LINE + 1), range(column - LINE, column + LINE + 1))
        inside = all(0 <= y < height and 0 <= x < width and mask[y, x] for y, x in near)
        if mask[row, column]:
            made[row, column] = tinted(made[row, column], colour) if inside else ImageColor.getrgb(colour)
    return made


def test_masks_are_tinted_and_outlined_and_the_last_is_on_top() -> None:
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    masks = [np.zeros((24, 40), dtype=bool) for _ in range(4)]
    masks[0][:, :20] = True  # up to three sides of the picture
    masks[1][4:20, 10:35] = True
    masks[1][8:12, 18:22] = False  # with a hole
    masks[2][0, 0] = True  # masks[3] has no pixel
    picture = Image.fromarray(pixels)
    cover_masks(picture, masks, COLOURS[:4])
    expected = pixels.astype(float)
    for mask, colour in zip(masks, COLOURS, strict=False):
        expected = covered_by_hand(expected, mask, colour)
    assert np.abs(np.asarray(picture).astype(float) - expected).max() <= 2  # of three roundings
    outlined = np.asarray(picture)[4:7, 10:35]
    assert (outlined == ImageColor.getrgb(COLOURS[1])).all()


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a mask of shape \(9, 8\) does not fit a picture of 8 x 9 pixels"):
        cover_masks(Image.new("RGB", (9, 8)), [np.ones((9, 8), dtype=bool)], ["red"])


@pytest.mark.parametrize(("size", "large"), [((1, 1), (1000, 1000)), ((3000, 2), (1000, 1)), ((30, 60), (500, 1000))])
def test_images_become_as_large_as_a_picture(size: tuple[int, int], large: tuple[int, int]) -> None:
    assert enlarged(Image.new("L", size)).size == large


def test_no_label_covers_another() -> None:
    """Each has as many pixels of its colour as alone, in pictures whose boxes are all the same."""
    labels = ["a dog 0.91", "two\nlines 0.80", "", "x" * 60, "é ß 0.10", "car 0.5", "red car 0.4"]
    sizes = []
    for label, colour in zip(labels, COLOURS, strict=True):
        alone = Image.new("RGB", (1000, 500))
        write_labels(alone, [label], [(300, 200, 500, 300)], [colour])
        sizes.append((np.asarray(alone) == ImageColor.getrgb(colour)).all(axis=2).sum())
    picture = Image.new("RGB", (1000, 500))
    write_labels(picture, labels, [(300, 200, 500, 300)] * 7, COLOURS)
    found = [(np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=2).sum() for colour in COLOURS]
    assert found == sizes and colour_of(8) == COLOURS[1]


def test_labels_without_room_cover_as_little_as_they_can() -> None:
    places = place_labels([(0, 0, 30, 30)] * 3, [(30, 20)] * 3, size=(30, 40))
    pairs = [shared_area(*pair) for pair in itertools.combinations(places, 2)]
    assert sum(pairs) == pytest.approx(600) and all(place[2] <= 30 and place[3] <= 40 for place in places)
