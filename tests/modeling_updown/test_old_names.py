"""Arguments under the names they had before: taken for those of today, with a warning; both names are refused."""

from typing import Any

import pytest
import torch

import processors
from modeling_updown import draw_found_texts
from modeling_updown.arguments_updown import take_old_names
from tests.tiny import tiny_image

from . import test_fusion_vqa, test_pretraining
from .test_retrieval import OWNERS, batch_of_five, retrieval


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (retrieval(), batch_of_five()),
        (test_fusion_vqa.answerer(), test_fusion_vqa.batch()),
        (test_pretraining.pretraining(), test_pretraining.batch()),
    ],
    ids=lambda made: type(made).__name__,
)
@torch.no_grad()
def test_forward_takes_the_index_of_before(model: Any, batch: dict[str, Any]) -> None:
    given = {name: value for name, value in batch.items() if name in (*NAMES, "input_ids")}
    expected = model.eval()(**given, image_index=batch["image_index"], return_dict=True)
    with pytest.warns(DeprecationWarning, match="^photo_index is now called image_index$"):
        found = model(**given, photo_index=batch["image_index"], return_dict=True)
    assert found.logits is not None and torch.equal(found.logits, expected.logits)
    with pytest.raises(TypeError, match="photo_index is the earlier name of image_index: give image_index alone"):
        model(**given, photo_index=batch["image_index"], image_index=batch["image_index"])


@torch.no_grad()
def test_ids_and_match_of_before() -> None:
    model, batch = retrieval(), batch_of_five()
    index, ids = batch.pop("image_index"), torch.tensor([7, 8, 9])
    torch.manual_seed(0)
    expected = model(**batch, labels=ids[OWNERS], image_ids=ids).loss
    torch.manual_seed(0)
    with pytest.warns(DeprecationWarning, match="^photo_ids is now called image_ids$"):
        assert torch.equal(model(**batch, labels=ids[OWNERS], photo_ids=ids).loss, expected)
    with pytest.warns(DeprecationWarning, match="^photo_index is now called image_index$"):
        odds = model.match(**batch, photo_index=index)
    assert torch.equal(odds, model.match(**batch, image_index=index))


def test_what_is_taken_is_gone() -> None:
    kwargs = {"photo_index": [1], "other": 2}
    with pytest.warns(DeprecationWarning, match="^photo_index is now called image_index$"):
        take_old_names(kwargs, ("image_index",))
    assert kwargs == {"image_index": [1], "other": 2}
    kwargs = {"photo_index": None, "photo_ids": [3]}
    take_old_names(kwargs, ("image_index",))
    assert kwargs == {"photo_ids": [3]}  # which this `forward` never took


NAMES = ("region_features", "region_boxes", "region_mask")


def test_the_warning_is_shown_at_the_line_of_the_caller() -> None:
    """Python shows a `DeprecationWarning` only where it is of the code that a user runs."""
    model, batch = retrieval(), batch_of_five()
    index = batch.pop("image_index")
    with pytest.warns(DeprecationWarning, match="^photo_index is now called image_index$") as warned:
        model(**batch, photo_index=index)
        model.match(**batch, photo_index=index)
    assert [warning.filename for warning in warned] == [__file__, __file__]


def test_an_image_may_be_called_as_before() -> None:
    image = tiny_image()
    results = [{"rank": 1, "text": "a dog", "score": 0.3}]
    expected = draw_found_texts(image, results)
    with pytest.warns(DeprecationWarning, match="^photo is now called image$") as warned:
        found = draw_found_texts(photo=image, results=results)
    assert warned[0].filename == __file__ and found.tobytes() == expected.tobytes()
    with pytest.raises(TypeError, match="photo is the earlier name of image: give image alone"):
        draw_found_texts(image=image, photo=image, results=results)
    with pytest.warns(DeprecationWarning, match="load_photo is now called load_image"):
        assert processors.load_photo is processors.load_image
