"""`pipeline("phrase-grounding")`: boxes are those of the model, phrases in their text, mistakes named; and the picture,
whose labels do not overlap."""

import itertools
import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from transformers import pipeline

from modeling_updown import UpDownFusionForGrounding, UpDownPhraseGroundingPipeline, draw_phrases, paste_masks
from modeling_updown.drawing_boxes_updown import COLOURS, OPACITY, place_labels, shared_area

from ..tiny import (
    save_tiny_fusion_vqa,
    save_tiny_grounding,
    tiny_grid,
    tiny_grounding,
    tiny_image,
    tiny_pyramid_config,
    tiny_tokenizer,
)

TEXT = "a brown dog runs through the grass"
PHRASES = ["a brown dog", "the grass"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> UpDownPhraseGroundingPipeline:
    folder = save_tiny_grounding(tmp_path_factory.mktemp("grounder"))
    return pipeline("phrase-grounding", model=str(folder), device="cpu")


@torch.no_grad()
def test_boxes_are_those_of_the_model(ground):
    """All phrases in one pass; the best boxes in pixels of the image."""
    assert type(ground) is UpDownPhraseGroundingPipeline and type(ground.model) is UpDownFusionForGrounding
    image = tiny_image(2)
    found = ground(image, TEXT, phrases=PHRASES, top_k=3)
    pixels = ground.image_processor(images=image, return_tensors="pt")
    spans = torch.tensor([[[1, 4], [6, 8]]])  # [CLS] a brown dog runs through the grass [SEP]
    output = ground.model(torch.tensor([tiny_tokenizer()(TEXT)["input_ids"]]), **pixels, phrase_spans=spans)
    assert [(one["phrase"], one["start"], one["end"]) for one in found] == [
        ("a brown dog", 0, 11),
        ("the grass", 25, 34),
    ]
    assert all("none_score" not in one for one in found)
    for number, one in enumerate(found):
        best = output.phrase_scores[0, number].argsort(descending=True)[:3]
        assert [box["score"] for box in one["boxes"]] == pytest.approx(output.phrase_scores[0, number, best].tolist())
        for box, region in zip(one["boxes"], best.tolist(), strict=True):
            sides = output.pred_boxes[0, number, region] * torch.tensor([80, 60, 80, 60])
            assert list(box["box"].values()) == pytest.approx(sides.tolist(), abs=0.51)
            assert list(box["box"]) == ["xmin", "ymin", "xmax", "ymax"]


@torch.no_grad()
def test_masks_are_those_of_the_best_regions(ground, tmp_path):
    """Where the region source makes masks they are the output's, pasted; another is refused by name."""
    source = tiny_pyramid_config(mask_head=True, mask_size=6, mask_hidden_size=4)
    folder = save_tiny_grounding(tmp_path, vision_config=source, region_feature_size=source.region_feature_size)
    masked = pipeline("phrase-grounding", model=str(folder), device="cpu")
    image = tiny_image(2)
    plain, found = (masked(image, TEXT, phrases=PHRASES, top_k=2, **more) for more in ({}, {"masks": True}))
    pixels = masked.image_processor(images=image, return_tensors="pt")
    spans = torch.tensor([[[1, 4], [6, 8]]])
    output = masked.model(torch.tensor([tiny_tokenizer()(TEXT)["input_ids"]]), **pixels, phrase_spans=spans)
    pasted = paste_masks(output.region_masks[0], output.region_boxes[0], height=60, width=80)
    for number, (one, other) in enumerate(zip(found, plain, strict=True)):
        best = output.phrase_scores[0, number].argsort(descending=True)[:2].tolist()
        for box, same, region in zip(one["boxes"], other["boxes"], best, strict=True):
            mask = box.pop("mask")
            assert box == same and mask.size == (80, 60) and mask.mode == "L"
            assert np.array_equal(np.asarray(mask) == 255, pasted[region].numpy())
    with pytest.raises(ValueError, match="makes no masks: leave masks out, or give it a mask head"):
        ground(image, TEXT, masks=True)


def test_a_model_may_say_that_nothing_is_meant(tmp_path):
    finder = pipeline("phrase-grounding", model=str(save_tiny_grounding(tmp_path, grounding_none=True)), device="cpu")
    found = finder(tiny_image(2), TEXT, phrases=PHRASES, top_k=1000)
    for one in found:
        assert 0 < one["none_score"] < 1
        assert one["none_score"] + sum(box["score"] for box in one["boxes"]) == pytest.approx(1, abs=1e-5)


def test_an_expression_is_the_whole_text(ground):
    image = tiny_image(1)
    (found,) = ground(image, "  the brown dog ")
    assert (found["phrase"], found["start"], found["end"]) == ("the brown dog", 2, 15) and len(found["boxes"]) == 1
    assert ground(image, "  the brown dog ", phrases="the brown dog") == [found]
    rows = [{"image": image, "text": TEXT, "phrases": PHRASES}, {"image": image, "text": "the brown dog"}]
    both = ground(rows)
    assert both[0] == ground(image, TEXT, phrases=PHRASES) and both[1][0]["boxes"] == ground(**rows[1])[0]["boxes"]


def test_a_file_an_array_and_pixels_give_the_same(ground, tmp_path):
    image = tiny_image(1)
    image.save(tmp_path / "photo.png")
    expected = ground(image, TEXT, phrases=[(2, 11)])
    assert expected[0]["phrase"] == "brown dog"
    assert ground(str(tmp_path / "photo.png"), TEXT, phrases=["brown dog"]) == expected
    assert ground(np.asarray(image), TEXT, phrases=["brown dog"])[0]["boxes"] == expected[0]["boxes"]


def test_what_is_cut_off_has_no_box(ground, caplog, monkeypatch):
    for name in ("transformers", "modeling_updown"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    text = "dog " * 70 + "grass"
    found = ground(tiny_image(0), text, phrases=["dog", "grass"])
    assert len(found[0]["boxes"]) == 1 and found[1]["boxes"] == []
    assert "is longer than the 64 tokens" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": ""}, "the text is empty"),
        ({"text": TEXT, "phrases": []}, "there is no phrase of"),
        ({"text": TEXT, "phrases": [" "]}, "is empty: give words of the text"),
        ({"text": TEXT, "phrases": ["two cats"]}, "the phrase 'two cats' is not in 'a brown dog"),
        ({"text": TEXT, "top_k": 0}, "top_k is 0"),
        ({"text": TEXT, "batch_size": 2}, "leave batch_size out"),
    ],
)
def test_mistakes(ground, arguments, message):
    with pytest.raises(ValueError, match=message):
        ground(tiny_image(0), **arguments)


def test_more_mistakes(ground, tmp_path):
    with pytest.raises(TypeError, match="give image=... and text="):
        ground(tiny_image(0))
    with pytest.raises(TypeError, match="no argument topk"):
        ground(tiny_image(0), TEXT, topk=2)
    parts = {"tokenizer": tiny_tokenizer(), "image_processor": ground.image_processor, "device": "cpu"}
    blind = tiny_grounding(vision_config=None, region_feature_size=96)
    with pytest.raises(ValueError, match="no detector of its own: give the pipeline region_source"):
        UpDownPhraseGroundingPipeline(blind, **parts)
    answers = save_tiny_fusion_vqa(tmp_path)
    with pytest.raises(ValueError, match="lacks .* of UpDownFusionForGrounding"):
        pipeline("phrase-grounding", model=str(answers), device="cpu")


@torch.no_grad()
def test_a_model_of_expressions_on_a_given_source(ground):
    """As a converted UNITER: regions of a grid that is given, one expression a text."""
    fields = {"grounding_score": "region", "grounding_hidden_size": 0, "grounding_box_weight": 0}
    model = tiny_grounding(vision_config=None, region_feature_size=96, **fields)
    parts = {"tokenizer": tiny_tokenizer(), "image_processor": ground.image_processor, "device": "cpu"}
    found = UpDownPhraseGroundingPipeline(model, **parts, region_source=tiny_grid())(tiny_image(0), "a brown dog")
    regions = tiny_grid()(ground.image_processor(images=tiny_image(0), return_tensors="pt")["pixel_values"])
    output = model(torch.tensor([tiny_tokenizer()("a brown dog")["input_ids"]]), **regions)
    assert found[0]["boxes"][0]["score"] == pytest.approx(output.phrase_scores.max().item())
    with pytest.raises(ValueError, match="reads a text as one expression: leave phrases out"):
        UpDownPhraseGroundingPipeline(model, **parts, region_source=tiny_grid())(tiny_image(0), TEXT, phrases=PHRASES)


def boxed(words: str, *corners: int, score: float = 0.5) -> dict:
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return {"phrase": words, "boxes": [{"score": score, "box": box}]}


@pytest.mark.parametrize("boxes", [[(100, 80, 300, 200)] * 14, [(0, 0, 400, 300)] * 9, [(390, 290, 400, 300)] * 5])
def test_labels_do_not_overlap(boxes):
    sizes = [(90 + 10 * (number % 4), 26) for number in range(len(boxes))]
    places = place_labels(boxes, sizes, size=(400, 300))
    assert all(shared_area(*pair) == 0 for pair in itertools.combinations(places, 2))
    for (left, top, right, bottom), (width, height) in zip(places, sizes, strict=True):
        assert (right - left, bottom - top) == pytest.approx((width, height))
        assert left >= 0 and top >= 0 and right <= 400.001 and bottom <= 300.001


def test_labels_stand_at_their_boxes_where_there_is_room():
    places = place_labels([(50, 50, 150, 150), (200, 0, 300, 40)], [(60, 20), (60, 20)], size=(400, 300))
    assert places == [(50, 30, 110, 50), (200, 40, 260, 60)]


def test_a_picture_smaller_than_its_labels_is_drawn_all_the_same(tmp_path):
    found = [boxed("a very long phrase indeed that nobody would say", 0, 0, 9, 9)] * 8
    assert draw_phrases(Image.new("RGB", (10, 200)), found).size == (50, 1000)


def test_the_picture(tmp_path):
    """Boxes in the phrases' colours, in pixels of the picture, under labels of the same colour."""
    found = [boxed("a dog", 20, 30, 60, 90), boxed("nothing", 0, 0, 9, 9), boxed("a cat", 120, 10, 190, 90, score=0.25)]
    found[1]["boxes"] = []
    picture = draw_phrases(Image.new("RGB", (200, 100), "white"), found, path=tmp_path / "found.png")
    assert picture.size == (1000, 500) and Image.open(tmp_path / "found.png").size == (1000, 500)
    assert picture.getpixel((100, 300)) == (230, 159, 0) and picture.getpixel((950, 300)) == (86, 180, 233)
    with pytest.raises(ValueError, match="no phrase has a box"):
        draw_phrases(Image.new("RGB", (9, 9)), found[1:2])
    with pytest.raises(ValueError, match="name it with the ending"):
        draw_phrases(Image.new("RGB", (9, 9)), found, path=tmp_path / "found.xyz")


def test_masks_in_the_picture_have_the_colours_of_their_boxes():
    """Small ones on top; masks of other boxes than the first are not drawn; masks of another image are refused."""
    found = [boxed("a dog", 20, 30, 60, 90), boxed("a field", 0, 0, 200, 100)]
    for phrase, (left, top, right, bottom) in zip(found, [(20, 30, 60, 90), (0, 20, 150, 100)], strict=True):
        mask = np.zeros((100, 200), dtype=np.uint8)
        mask[top:bottom, left:right] = 255
        phrase["boxes"][0]["mask"] = Image.fromarray(mask)
    found[0]["boxes"].append({"score": 0.1, "box": found[1]["boxes"][0]["box"], "mask": found[1]["boxes"][0]["mask"]})
    picture = np.asarray(draw_phrases(Image.new("RGB", (200, 100), "white"), found)).astype(int)
    dog, field = (np.array(ImageColor.getrgb(colour)) for colour in COLOURS[:2])
    shade = [255 + (colour - 255) * OPACITY / 255 for colour in (dog, field)]
    assert np.abs(picture[300:380, 400:700] - shade[1]).max() <= 1
    on_top = shade[1] + (dog - shade[1]) * OPACITY / 255
    assert np.abs(picture[200:400, 120:280] - on_top).max() <= 1
    assert (picture[110:140, 800:950] == 255).all() and (picture[200:400, 748:750] == field).all()
    with pytest.raises(ValueError, match="the mask of 'a dog' has 200 x 100 pixels and the image 100 x 100"):
        draw_phrases(Image.new("RGB", (100, 100)), found)
