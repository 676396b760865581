"""Contact sheets: every image in its place with its rank and caption, whatever its shape, and nonsense refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modeling_updown import draw_found_images, draw_found_texts
from modeling_updown.drawing_retrieval_updown import DOTS_PER_INCH, MARGIN_INCHES, TILE_INCHES, tile_texts
from modeling_updown.drawing_updown import BOX_COLOUR
from tests import tiny

COLOURS = ["#ff0000", "#00ff00", "#0000ff", "#ff00ff", "#00ffff", "#800000", "#008000"]


def images(number: int, *, size: tuple[int, int] = (80, 60)) -> list[Image.Image]:
    return [Image.new("RGB", size, COLOURS[place]) for place in range(number)]


def results(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"rank": place + 1, "score": 0.9 - 0.1 * place, **more} for place in range(number)]


def places_of(picture: Image.Image, colour: str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels of about a colour."""
    wanted = np.array(Image.new("RGB", (1, 1), colour))[0, 0].astype(int)
    rows, columns = np.nonzero((np.abs(np.asarray(picture).astype(int) - wanted) < 12).all(axis=2))
    assert len(rows), f"nothing is {colour}"
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_images_stand_in_rows_of_five_in_their_order() -> None:
    sheet = draw_found_images(images(7), results(7), query="two dogs on a beach")
    found = [places_of(sheet, colour) for colour in COLOURS]
    for left, top, right, bottom in found:
        assert (right - left, bottom - top) == pytest.approx(
            (TILE_INCHES * DOTS_PER_INCH, TILE_INCHES * DOTS_PER_INCH * 0.75), abs=2
        )
    assert [left for left, *_ in found[:5]] == sorted({left for left, *_ in found[:5]})
    assert len({top for _, top, *_ in found[:5]}) == 1 and found[5][1] == found[6][1] > found[0][3]
    assert [left for left, *_ in found[5:]] == [left for left, *_ in found[:2]]
    head = np.asarray(sheet)[: found[0][1] - 2]
    assert (head != 255).any()  # the query
    below = np.asarray(sheet)[found[0][3] + 2 : found[0][3] + 30, found[0][0] : found[0][2]]
    assert (below != 255).any()  # rank and score
    assert sheet.mode == "RGB" and sheet.width == 1471


def test_without_a_query_images_begin_at_the_margin() -> None:
    sheet = draw_found_images(images(2), results(2))
    assert places_of(sheet, COLOURS[0])[:2] == pytest.approx([MARGIN_INCHES * DOTS_PER_INCH] * 2, abs=2)
    assert sheet.width == pytest.approx((2 * TILE_INCHES + 0.14 + 2 * MARGIN_INCHES) * DOTS_PER_INCH, abs=1)


def test_the_image_that_was_searched_with_stands_first_in_a_frame() -> None:
    sheet = draw_found_images(images(2), results(2), query_image=Image.new("RGB", (80, 60), "#c0c000"))
    frame, first = places_of(sheet, BOX_COLOUR), places_of(sheet, COLOURS[0])
    inside = places_of(sheet, "#c0c000")
    assert frame[0] < inside[0] < inside[2] < frame[2] < first[0]
    assert (frame[2] - frame[0]) == pytest.approx(TILE_INCHES * DOTS_PER_INCH, abs=8)


def test_captions_make_their_row_higher_and_are_cut() -> None:
    heights = [
        draw_found_images(images(2), results(2, captions=[text])).height
        for text in ("a dog", "a brown dog that runs through the grass", "a dog runs " * 10, "a dog runs " * 99)
    ]
    assert heights[0] < heights[1] < heights[2] == heights[3]
    assert tile_texts({"rank": 1, "score": 0.5, "captions": ["a dog runs " * 99]})[2][2].endswith(" ...")


def test_words_below_an_image() -> None:
    assert tile_texts({"rank": 3, "score": 0.416, "match": None, "id": "dog.jpg"}) == ("3", "0.42", ["dog.jpg"])
    assert tile_texts({"rank": 3, "score": -0.2, "match": 0.004, "captions": []}) == ("3", "-0.20   match 0%", [])


def test_an_image_that_cannot_be_read_leaves_its_place() -> None:
    shown = [None, *images(2)]
    sheet = draw_found_images(shown, results(3))
    left, _, right, _ = places_of(sheet, COLOURS[0])
    assert left == pytest.approx((MARGIN_INCHES + TILE_INCHES + 0.14) * DOTS_PER_INCH, abs=2)
    assert (np.asarray(sheet)[60:200, 60:200] != 255).any()
    assert draw_found_images([None], results(1)).height > 100 and right > left


@pytest.mark.parametrize("size", [(1, 1), (3000, 4), (4, 3000), (2500, 1500)])
def test_images_of_every_shape_are_shown_whole(size: tuple[int, int]) -> None:
    sheet = draw_found_images(images(3, size=size), results(3))
    left, top, right, bottom = places_of(sheet, COLOURS[1])
    assert right - left <= TILE_INCHES * DOTS_PER_INCH + 2 and bottom - top <= 1.25 * TILE_INCHES * DOTS_PER_INCH + 2
    assert draw_found_texts(images(1, size=size)[0], results(2, text="a dog")).width == 1161


def test_texts_stand_beside_their_image_with_bars() -> None:
    found = [
        {"rank": 1, "score": 0.2, "match": 1.0, "text": "a dog runs"},
        {"rank": 2, "score": 0.2, "match": 0.5, "text": "a cat sleeps " * 40},
        {"rank": 3, "score": -0.4, "text": ""},
    ]
    sheet = draw_found_texts(images(1)[0], found)
    image, best = (places_of(sheet, colour) for colour in (COLOURS[0], BOX_COLOUR))
    assert image[2] < best[0]
    grey = np.abs(np.asarray(sheet).astype(int) - [0xB9, 0xB4, 0xAD]).max(axis=2) < 3
    bar = int(grey.sum(axis=1).argmax())  # letters have grey edges, but no row is as full of them
    assert bar > best[3] and grey[bar].sum() == pytest.approx((best[2] - best[0]) / 2, abs=2)


def test_words_of_every_kind_are_written() -> None:
    for text in ("", "$5 $ _^ {", "Straßenbahn \u00e9", "犬", "a" * 300, "two\nlines", "\U0001f600"):
        assert draw_found_images(images(1), results(1, captions=[text]), query=text).height > 100
        assert draw_found_texts(images(1)[0], results(1, text=text)).height > 100


def test_pictures_are_saved_as_their_suffix_says(tmp_path: Path) -> None:
    for name, kind in (("sheet.png", "PNG"), ("sheet.jpg", "JPEG")):
        sheet = draw_found_images([tiny.tiny_image().convert("L")], results(1), path=tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            assert saved.format == kind and saved.size == sheet.size
    draw_found_texts(tiny.tiny_image(), results(1, text="a"), path=tmp_path / "texts.png")
    assert (tmp_path / "texts.png").is_file()


def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="0 images and 0 results: give one image for each, and at least one"):
        draw_found_images([], [])
    with pytest.raises(ValueError, match="2 images and 3 results"):
        draw_found_images(images(2), results(3))
    with pytest.raises(ValueError, match="there is no result to draw"):
        draw_found_texts(images(1)[0], [])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="drawing needs matplotlib: pip install matplotlib"):
        draw_found_images(images(1), results(1))
