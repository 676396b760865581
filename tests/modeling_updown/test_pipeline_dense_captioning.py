"""`pipeline("dense-captioning")`: sentences are those of the model, boxes in pixels, mistakes named; and the
picture, whose labels do not overlap."""

import itertools
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_updown import UpDownDenseCaptioningPipeline, UpDownForDenseCaptioning, draw_phrases
from modeling_updown.drawing_boxes_updown import place_labels, shared_area
from modeling_updown.drawing_phrases_updown import label_of
from training.commands.describe import labelled

from ..tiny import save_tiny_captioner, save_tiny_dense_captioner, tiny_image, tiny_processor


@pytest.fixture(scope="module")
def describe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_tiny_dense_captioner(tmp_path_factory.mktemp("describer"))
    return pipeline("dense-captioning", model=str(folder), device="cpu")


@torch.no_grad()
def test_sentences_are_those_of_the_model(describe: Any) -> None:
    """The best first, boxes in pixels of an image of 80 x 60."""
    assert type(describe) is UpDownDenseCaptioningPipeline and type(describe.model) is UpDownForDenseCaptioning
    image = tiny_image(2)
    pixels = describe.image_processor(images=image, return_tensors="pt")["pixel_values"]
    expected = describe.model.describe(pixels, num_beams=2, nms_iou=1.0, top_k=5)
    found = describe(image, num_beams=2, nms_iou=1.0, top_k=5)
    assert len(found) == 5
    texts = tiny_processor().batch_decode(expected.sequences, skip_special_tokens=True)
    assert [one["text"] for one in found] == texts
    assert [one["score"] for one in found] == pytest.approx(expected.scores.tolist())
    assert [one["log_prob_per_word"] for one in found] == pytest.approx(expected.log_probs.tolist())
    for one, box in zip(found, expected.boxes, strict=True):
        assert list(one["box"]) == ["xmin", "ymin", "xmax", "ymax"]
        sides = box * torch.tensor([80, 60, 80, 60])
        assert list(one["box"].values()) == pytest.approx(sides.tolist(), abs=0.51)
    assert len(describe(image, nms_iou=1.0)) == 9 >= len(describe(image))


def test_several_images_and_files_give_the_same(describe: Any, tmp_path: Any) -> None:
    images = [tiny_image(0), tiny_image(1)]
    images[0].save(tmp_path / "photo.png")
    both = describe([str(tmp_path / "photo.png"), images[1]])
    assert both == [describe(images[0]), describe(images[1])]
    describe.save_pretrained(tmp_path / "saved")
    again = pipeline("dense-captioning", model=str(tmp_path / "saved"), device="cpu")
    assert again(images[0]) == both[0]


@pytest.mark.parametrize(
    ("image", "arguments", "error", "told"),
    [
        (None, {}, TypeError, "there is no image to describe"),
        (tiny_image(0), {"top_p_k": 3}, TypeError, "dense-captioning has no argument top_p_k"),
        (tiny_image(0), {"top_k": 0}, ValueError, "top_k is 0, but must be at least 1"),
        (tiny_image(0), {"nms_iou": 2}, ValueError, "nms_iou is 2"),
        (tiny_image(0), {"batch_size": 4}, ValueError, "leave batch_size out"),
        ([tiny_image(0), "absent.png"], {}, ValueError, "image 1"),
    ],
)
def test_mistakes_are_named(describe: Any, image: Any, arguments: dict[str, Any], error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        describe(image, **arguments)


def test_models_of_another_kind_are_refused(tmp_path: Any) -> None:
    captioner = save_tiny_captioner(tmp_path / "captioner")
    with pytest.raises(ValueError, match="lacks .* weights? of UpDownForDenseCaptioning|describes no regions"):
        pipeline("dense-captioning", model=str(captioner))
    blind = save_tiny_dense_captioner(tmp_path / "blind", vision_config=None, region_feature_size=96)
    with pytest.raises(ValueError, match="has no region source of its own"):
        pipeline("dense-captioning", model=str(blind))


def test_scores_that_are_no_numbers_are_refused(tmp_path: Any) -> None:
    describe = pipeline("dense-captioning", model=str(save_tiny_dense_captioner(tmp_path)), device="cpu")
    with torch.no_grad():
        describe.model.region_score.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="makes scores of sentences that are no numbers"):
        describe(tiny_image(0))


def test_labels_do_not_overlap() -> None:
    """Twelve sentences on boxes that lie over each other."""
    boxes = [{"xmin": 10 + i, "ymin": 20 + i, "xmax": 200 + i, "ymax": 150 + i} for i in range(12)]
    found = [{"text": f"a brown dog {i}", "score": 0.5, "box": box} for i, box in enumerate(boxes)]
    picture = draw_phrases(Image.new("RGB", (400, 300)), labelled(found))
    assert picture.size == (1000, 750) and len(picture.getcolors(1000000)) > 12
    sizes = [(9 * len(label_of(one)), 26) for one in labelled(found)]
    corners = [[2.5 * side for side in box.values()] for box in boxes]
    places = place_labels(corners, sizes, size=picture.size)
    assert not any(shared_area(*pair) for pair in itertools.combinations(places, 2))
