"""The picture of a detector's regions: boxes where they are said to be, the surest on top, nonsense refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from modeling_updown import draw_regions, named_regions, open_regions
from modeling_updown.drawing_boxes_updown import COLOURS, OPACITY
from modeling_updown.drawing_regions_updown import region_text
from tests import tiny

WHITE = Image.new("RGB", (200, 100), "white")


def region(box: list[float], score: float = 0.9, **more: Any) -> dict[str, Any]:
    return {"label": "dog", "score": score, "box": box, **more}


def drawn_in(picture: Image.Image, colour: str) -> tuple[np.ndarray, ...]:
    """Rows and columns of the pixels of exactly that colour."""
    pixels = np.asarray(picture)
    return np.nonzero((pixels == ImageColor.getrgb(colour)).all(axis=2))


# -- names -----------------------------------------------------------------------------------------------------------


def test_regions_are_named_in_the_order_of_the_output() -> None:
    detector = tiny.tiny_detector()
    output = detector(torch.cat([tiny.noise_image(64, 96, seed=seed) for seed in (1, 2)]), score_threshold=0.6)
    output.region_mask[1, 2] = False
    images = named_regions(output, detector.config)
    assert [len(regions) for regions in images] == output.region_mask.sum(dim=1).tolist()
    for image, regions in enumerate(images):
        rows = output.region_mask[image].nonzero().flatten().tolist()
        for found, row in zip(regions, rows, strict=True):
            assert all(isinstance(side, float) for side in (found["score"], *found["box"]))
            assert found["label"] == f"object {int(output.object_ids[image, row])}"
            assert found["attribute"] == f"attribute {int(output.attribute_ids[image, row])}"
            assert found["score"] == output.region_scores[image, row].item()
            assert found["attribute_score"] == output.attribute_scores[image, row].item()
            assert found["box"] == output.region_boxes[image, row].tolist()


def test_a_detector_without_attributes_names_none() -> None:
    detector = tiny.tiny_detector(num_attributes=0)
    regions = named_regions(detector(tiny.noise_image(64, 64)), detector.config)[0]
    assert set(regions[0]) == {"label", "score", "box"} and region_text(regions[0]).startswith("object ")


def test_words_of_a_region() -> None:
    assert region_text(region([0, 0, 1, 1], 0.914)) == "dog 0.91"
    assert region_text(region([0, 0, 1, 1], attribute="brown", attribute_score=0.31)) == "brown dog 0.90"
    assert region_text(region([0, 0, 1, 1], attribute="brown", attribute_score=0.29)) == "dog 0.90"


def test_regions_have_their_masks_where_they_are_asked_for() -> None:
    fields = {"mask_head": True, "mask_size": 6, "mask_hidden_size": 8, "mask_convs": 1, "phrase_embedding_size": 8}
    detector = tiny.tiny_pyramid_detector(**fields)
    names = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = detector(tiny.noise_image(64, 96), name_embeds=names)
    (regions,) = named_regions(output, detector.config, masks=True)
    assert len(regions) > 2 and "mask" not in named_regions(output, detector.config)[0][0]
    masks = dict(zip((tuple(box) for box in output.region_boxes[0].tolist()), output.region_masks[0], strict=True))
    for found in (*regions, *open_regions(output, ["dog", "cat"], masks=True)[0]):
        assert found["mask"].equal(masks[tuple(found["box"])]) and found["mask"].shape == (6, 6)
    output.region_masks = None
    for ask in (
        lambda: named_regions(output, detector.config, masks=True),
        lambda: open_regions(output, ["a", "b"], masks=True),
    ):
        with pytest.raises(ValueError, match="this detector makes no masks: give it a mask head"):
            ask()


# -- picture ---------------------------------------------------------------------------------------------------------


def test_a_box_is_outlined_where_it_is() -> None:
    picture = draw_regions(WHITE, [region([0.2, 0.4, 0.7, 0.9])])
    assert picture.size == (1000, 500) and picture.mode == "RGB"
    rows, columns = drawn_in(picture, COLOURS[0])
    assert (columns.min(), columns.max() + 1) == pytest.approx((200, 700), abs=3)
    assert rows.max() + 1 == pytest.approx(450, abs=3)
    inside = np.asarray(picture)[240:430, 220:680]
    assert (inside == 255).all()  # an outline leaves the object to be seen
    above = np.asarray(picture)[160:198, 200:260]
    assert (above != 255).any()  # its name
    assert (np.asarray(picture)[:150] == 255).all()


def test_a_name_stands_below_where_the_image_ends_above_and_inside_where_it_ends_there_too() -> None:
    picture = np.asarray(draw_regions(WHITE, [region([0.2, 0.0, 0.7, 0.9])]))
    assert (picture[5:445, 210:260] == 255).all() and (picture[455:470, 210:260] != 255).any()
    picture = np.asarray(draw_regions(WHITE, [region([0.2, 0.0, 0.7, 1.0])]))
    assert (picture[10:20, 210:260] != 255).any()


def test_the_surest_are_drawn_and_the_surest_on_top() -> None:
    boxes = [[0.1, 0.2, 0.5, 0.8], [0.3, 0.2, 0.9, 0.8], [0.3, 0.2, 0.9, 0.8]]
    unsure, sure, surest = (region(box, score) for box, score in zip(boxes, (0.3, 0.6, 0.9), strict=True))
    picture = draw_regions(WHITE, [unsure, sure, surest], max_regions=2)
    assert picture == draw_regions(WHITE, [surest, sure])  # whatever their order was
    rows, _ = drawn_in(picture, COLOURS[0])
    assert len(rows) > 1000  # of two boxes in one place the surest is seen
    left = np.asarray(picture)[250:350, 90:110]
    assert (left == 255).all()  # the unsure one was left out


def test_masks_have_the_colours_of_their_boxes() -> None:
    left, lower = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], lower[2:] = 1, 1
    sure = region([0.2, 0.4, 0.6, 0.8], 0.9, mask=left)  # 200,200 to 600,400 in the picture
    unsure = region([0.7, 0.2, 0.9, 0.8], 0.5, mask=lower)  # 700,100 to 900,400
    picture = np.asarray(draw_regions(WHITE, [unsure, sure, region([0.0, 0.9, 0.1, 1.0], 0.1)])).astype(int)
    tints = [np.array(ImageColor.getrgb(colour)) for colour in COLOURS]
    shade = [255 + (tint - 255) * OPACITY / 255 for tint in tints]
    assert np.abs(picture[210:390, 210:390] - shade[0]).max() <= 1 and (picture[210:390, 405:590] == 255).all()
    assert np.abs(picture[260:390, 710:890] - shade[1]).max() <= 1 and (picture[110:240, 710:890] == 255).all()
    assert (picture[210:390, 398:400] == tints[0]).all() and (picture[250:252, 710:890] == tints[1]).all()
    assert (picture[460:490, 10:90] == 255).all()  # a region without a mask


def test_pictures_are_saved_as_their_suffix_says(tmp_path: Path) -> None:
    for name, kind in (("look.png", "PNG"), ("look.jpg", "JPEG")):
        picture = draw_regions(tiny.tiny_image(), [region([0.1, 0.1, 0.6, 0.9])], path=tmp_path / name)
        with Image.open(tmp_path / name) as saved:
            assert saved.format == kind and saved.size == picture.size == (1000, 750)
    with pytest.raises(ValueError, match="no picture can be saved as .*look.xyz"):
        draw_regions(WHITE, [region([0, 0, 1, 1])], path=tmp_path / "look.xyz")


@pytest.mark.parametrize("size", [(1, 1), (3000, 4), (4, 3000), (2500, 1500)])
def test_images_of_every_shape_are_drawn(size: tuple[int, int]) -> None:
    picture = draw_regions(Image.new("RGB", size, "white"), [region([0.0, 0.0, 1.0, 1.0])] * 9)
    assert max(picture.size) == pytest.approx(1000, abs=1) and min(picture.size) >= 1


def test_names_of_every_kind_are_written() -> None:
    for label in ("", "$5 $ _^ {", "Straßenbahn \u00e9", "a" * 300, "two\nlines"):
        assert draw_regions(WHITE, [{**region([0.9, 0.9, 1.0, 1.0]), "label": label}]).size == (1000, 500)


def test_no_region_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no region to draw: lower the threshold"):
        draw_regions(WHITE, [])
