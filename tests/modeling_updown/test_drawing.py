"""The pictures of attention: the heat is where the weights are, bars are as long as scores, nonsense is refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_updown import draw_answer, draw_attention
from modeling_updown.boxes_updown import grid_boxes
from modeling_updown.drawing_updown import PALE_LIMIT, heat_map, image_pixels, light_regions, strongest_regions
from tests import tiny

CORNERS = np.array([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 0.75, 0.75], [0.0, 0.0, 1.0, 0.5]])


def one_result(num_words: int = 3, num_cells: int = 3, **changes: Any) -> dict[str, Any]:
    """A caption of `num_words` words, the first attending to the first cell alone, the second to the second, ..."""
    words = [f"word{place}" for place in range(num_words)]
    return {
        "generated_text": " ".join(words),
        "words": words,
        "region_weights": torch.eye(num_cells**2)[torch.arange(num_words) % num_cells**2],
        "region_boxes": grid_boxes(num_cells, num_cells),
    } | changes


def test_overlapping_boxes_add_up() -> None:
    """The brute-force twin: each pixel's centre, every box over it."""
    weights = np.array([0.5, 0.3, 0.2])
    heat = heat_map(weights, CORNERS, (8, 16))
    expected = np.zeros((8, 16))
    for y in range(8):
        for x in range(16):
            inside = [a <= (x + 0.5) / 16 < c and b <= (y + 0.5) / 8 < d for a, b, c, d in CORNERS]
            expected[y, x] = weights[inside].sum()
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-6)
    assert heat[0, 0] == pytest.approx(0.7)  # boxes 0 and 2
    assert heat[3, 5] == pytest.approx(1.0)  # all three
    assert heat[7, 0] == 0


def test_grid_is_smooth_and_in_place() -> None:
    boxes = grid_boxes(3, 4).numpy()  # 3 rows, 4 columns
    weights = np.zeros(12)
    weights[6] = 1.0  # row 1, column 2
    shuffled = np.random.default_rng(0).permutation(12)
    heat = heat_map(weights[shuffled], boxes[shuffled], (90, 120))
    assert np.unravel_index(heat.argmax(), heat.shape) == pytest.approx((45, 75), abs=2)
    assert heat[45, 75] == pytest.approx(1.0, abs=0.01)
    assert heat[:14].max() < 0.02  # a cell further up
    assert np.abs(np.diff(heat, axis=1)).max() < 0.1  # no steps between cells


@pytest.mark.parametrize("boxes", [grid_boxes(4, 4).numpy(), CORNERS, CORNERS[:1]])
def test_even_attention_is_pale(boxes: np.ndarray) -> None:
    """Even attention over a grid is 1 / PALE_LIMIT everywhere; over overlapping boxes the mean is."""
    heat = heat_map(np.full(len(boxes), 1 / len(boxes)), boxes, (64, 64))
    if len(boxes) == 16:
        np.testing.assert_allclose(heat, 1 / PALE_LIMIT, atol=1e-6)
    assert heat.max() <= 1


def test_light_follows_heat() -> None:
    pixels = np.full((2, 1, 3), 0.5, dtype=np.float32)
    dark, lit = light_regions(pixels, np.array([[0.0], [1.0]]))[:, 0]
    assert dark.max() == pytest.approx(0.225)
    assert lit.min() >= 0.5
    assert lit[0] > lit[2]  # warm


def test_each_word_has_its_panel() -> None:
    """Nine words on a white image: the brightest ninth of each panel is the cell that its word attends to."""
    image = Image.new("RGB", (300, 300), "white")
    picture = np.asarray(draw_attention(image, one_result(num_words=9)), dtype=float)
    panel = picture.shape[1] // 5
    assert picture.shape[:2] == (picture.shape[0], 1320)
    top = picture.shape[0] - round(110 * 2 * (2.4 + 0.3))  # where the first of two rows begins
    for place in range(1, 10):
        row, column = divmod(place, 5)
        cells = picture[top + row * 297 + 36 : top + row * 297 + 290, column * panel + 8 : (column + 1) * panel - 8]
        grid = cells[:252, :246].reshape(3, 84, 3, 82, 3).mean(axis=(1, 3, 4))
        assert grid.argmax() == place - 1


def test_words_are_cut_to_the_limit(tmp_path: Path) -> None:
    tall = draw_attention(tiny.tiny_image(), one_result(num_words=25), path=tmp_path / "attention.png")
    short = draw_attention(tiny.tiny_image(), one_result(num_words=25), max_words=4)
    assert Image.open(tmp_path / "attention.png").size == tall.size
    assert tall.width == short.width == 1320
    assert tall.height > 3 * short.height


def test_images_of_every_kind(tmp_path: Path) -> None:
    image = tiny.tiny_image()
    image.save(tmp_path / "photo.png")
    array = np.asarray(image)
    expected = array / 255
    for kind in (
        image,
        tmp_path / "photo.png",
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        (array / 255).astype(np.float32),
    ):
        np.testing.assert_allclose(image_pixels(kind), expected, atol=1 / 255)
    large = Image.new("RGB", (3000, 1000))
    assert image_pixels(large).shape == (176, 528, 3)
    assert large.size == (3000, 1000)
    assert image_pixels(np.full((4, 6), 128, dtype=np.uint8)).shape == (4, 6, 3)


def test_odd_results_are_drawn() -> None:
    image = tiny.tiny_image()
    wordless = one_result(num_words=0, generated_text="")
    assert draw_attention(image, wordless).width == 264
    assert draw_attention(image, [one_result(1, generated_text="a $5 dog $ _^ \u00e9")]).width == 528
    listed = one_result(2)
    listed |= {name: listed[name].tolist() for name in ("region_weights", "region_boxes")}
    assert draw_attention(image, listed) == draw_attention(image, one_result(2))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"region_boxes": torch.zeros(4, 4)}, r"3 words with region_weights \(3, 9\) and region_boxes \(4, 4\)"),
        ({"region_weights": torch.full((3, 9), torch.nan)}, "NaN or infinity"),
        ({"words": ["a"]}, "1 words with region_weights"),
    ],
)
def test_misfits_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw_attention(tiny.tiny_image(), one_result(**changes))


def test_result_without_regions_is_refused() -> None:
    with pytest.raises(ValueError, match="has no words, region_weights, region_boxes: call .* return_regions=True"):
        draw_attention(tiny.tiny_image(), [{"generated_text": "a dog"}])


def test_absent_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="drawing needs matplotlib: pip install matplotlib"):
        draw_attention(tiny.tiny_image(), one_result())


def some_answers(weights: torch.Tensor, boxes: torch.Tensor | None = None, **scores: Any) -> list[dict[str, Any]]:
    """Answers with their scores, the first with the regions of `weights` (G, R), cells of a 3 x 3 grid by default."""
    answers: list[dict[str, Any]] = [{"answer": name, "score": score} for name, score in scores.items()]
    answers[0] |= {"region_weights": weights, "region_boxes": grid_boxes(3, 3) if boxes is None else boxes}
    return answers


def test_each_glimpse_has_its_panel() -> None:
    """Two glimpses on a white image: the plain image, the cell that each looks at, and the bars."""
    weights = torch.eye(9)[[2, 6]]
    image = Image.new("RGB", (300, 300), "white")
    picture = np.asarray(draw_answer(image, some_answers(weights, yes=0.75, no=0.25), question="is it?"), dtype=float)
    assert picture.shape[1] == 4 * 374  # 3.4 inches of 110 dots each
    panels = picture[75 : 75 + 354, :].reshape(354, 4, 374, 3)[:, :3, 10:364]  # (height, panel, width, 3)
    cells = panels.reshape(3, 118, 3, 3, 118, 3).mean(axis=(1, 4, 5))  # (row, panel, column)
    assert cells[:, 0].min() > 250  # nothing over the image itself
    assert [cells[:, panel].argmax() for panel in (1, 2)] == [2, 6]


def test_bars_are_as_long_as_scores() -> None:
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    answers = some_answers(torch.ones(1, 1), whole, yes=0.75, no=0.25, maybe=1.5, never=-0.1)
    picture = np.asarray(draw_answer(Image.new("RGB", (300, 200)), answers, max_answers=4), dtype=int)
    bars = picture[:, 2 * 374 :]
    coloured = (np.abs(bars - [255, 157, 28]).sum(axis=2) < 9).sum(axis=1).max()  # the best answer's, in pixels
    grey = (np.abs(bars - [185, 180, 173]).sum(axis=2) < 9).sum(axis=1)
    lengths = [row for row, before in zip(grey[1:], grey[:-1], strict=True) if row > before + 20 or row < before - 20]
    full = 0.96 * 0.96 * 374
    assert coloured / full == pytest.approx(0.75, abs=0.02)
    assert [length / full for length in lengths if length] == pytest.approx([0.25, 1.0], abs=0.02)


def test_strongest_regions_are_outlined() -> None:
    assert strongest_regions(np.array([0.2, 0.3, 0.1, 0.4])).tolist() == [3, 1, 0]
    assert strongest_regions(np.full(49, 1 / 49)).tolist() == [0, 1, 2]
    assert strongest_regions(np.array([0.02, 0.98])).tolist() == [1]
    assert strongest_regions(np.array([1.0])).tolist() == [0]


def test_odd_answers_are_drawn(tmp_path: Path) -> None:
    image = tiny.tiny_image()
    long = some_answers(torch.eye(9)[:7], None, **{"$x_^ " * 30: 1.0, "\U0001f642": 0.0})
    drawn = draw_answer(image, long, question="why? " * 100 + "\U0001f642 $_", path=tmp_path / "answer.jpg")
    assert drawn.width == 5 * 374  # nine panels in two rows
    with Image.open(tmp_path / "answer.jpg") as saved:
        assert saved.size == drawn.size
    one = some_answers(torch.eye(9)[:1], yes=1.0)
    for width, height in ((3000, 3), (3, 3000), (1, 1)):
        picture = draw_answer(Image.new("RGB", (width, height)), one)
        assert picture.width == 3 * 374 and 60 < picture.height < 1000
    listed = [{**one[0], "region_weights": torch.eye(9)[:1].tolist()}]
    assert draw_answer(image, listed) == draw_answer(image, one)


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([], "takes the pipeline's answers to one question, a list of dicts"),
        ({"answer": "yes", "score": 1.0}, "takes the pipeline's answers to one question"),
        ([[{"answer": "yes", "score": 1.0}]], "takes the pipeline's answers to one question"),
        ([{"answer": "yes", "score": 1.0}], "has no region_weights, region_boxes: call .* return_regions=True"),
        (some_answers(torch.ones(2, 8), yes=1.0), r"2 glimpses with region_weights \(2, 8\) and region_boxes \(9, 4\)"),
        (some_answers(torch.ones(9), yes=1.0), r"9 glimpses with region_weights \(9,\)"),
        (some_answers(torch.full((1, 9), torch.inf), yes=1.0), "NaN or infinity"),
    ],
)
def test_what_is_no_answer_is_refused(answers: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        draw_answer(tiny.tiny_image(), answers)
