"""Images on their way into a pipeline: columns, streams, padding to one size, and what reads them."""

import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

import modeling_updown
from modeling_updown.pipeline_images import image_column, image_loader, image_stream, join_images, stored_image
from tests import fresh_python, tiny

CHECKOUT = Path(modeling_updown.__file__).resolve().parents[1]
IMAGES = [tiny.tiny_image(seed) for seed in range(2)]


def test_joined_images_are_padded_on_the_right_and_below() -> None:
    wide = {"pixel_values": torch.ones(1, 3, 2, 5), "pixel_mask": torch.ones(1, 2, 5, dtype=torch.bool)}
    tall = {"pixel_values": torch.full((1, 3, 4, 1), 2.0), "pixel_mask": torch.ones(1, 4, 1, dtype=torch.bool)}
    words = {"input_ids": torch.tensor([[1, 7]])}
    joined = join_images([wide | words, tall | words])
    assert joined["pixel_values"][:, 0].tolist() == [
        [[1.0] * 5, [1.0] * 5, [0.0] * 5, [0.0] * 5],
        [[2.0, 0.0, 0.0, 0.0, 0.0]] * 4,
    ]
    assert torch.equal(joined["pixel_mask"], joined["pixel_values"][:, 0] > 0)
    assert joined["input_ids"].tolist() == [[1, 7], [1, 7]]
    assert torch.equal(join_images([wide])["pixel_values"], wide["pixel_values"])


def test_column_of_images_is_found_or_asked_for() -> None:
    images = [IMAGES[0]]
    two = datasets.Dataset.from_dict({"left": images, "right": images})
    with pytest.raises(ValueError, match=r"which of the columns \['left', 'right'\] holds the images"):
        image_column(two)
    assert next(iter(image_column(two.rename_column("right", "image"))))["bytes"] is not None
    assert list(image_column(datasets.Dataset.from_dict({"image": ["a.jpg", "b.jpg"]}))) == ["a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="holds the images"):
        image_column(datasets.Dataset.from_dict({"text": ["a"]}))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_input_is_prepared_once(num_workers: int, streamed: bool) -> None:
    """However many processes there are: several of them would each go through the whole stream."""
    inputs: Any = (number for number in range(5)) if streamed else list(range(5))
    loader = image_loader(inputs, pow, {"exp": 2}, num_workers=num_workers, batch_size=2, collate_fn=list)
    assert list(loader) == [[0, 1], [4, 9], [16]]


def test_one_image_is_no_stream() -> None:
    for image in (IMAGES[0], "dog.jpg", b"bytes", Path("dog.jpg"), torch.zeros(3, 4, 4), {"path": "dog.jpg"}):
        assert image_stream(image) is image
    assert [listed.place for listed in image_stream(iter(IMAGES))] == [0, 1]


def test_stored_images_are_unpacked() -> None:
    assert stored_image({"image": {"bytes": b"photo", "path": "a.jpg"}}) == b"photo"
    assert stored_image({"bytes": None, "path": "a.jpg"}) == "a.jpg"
    assert stored_image(IMAGES[0]) is IMAGES[0]
    with pytest.raises(ValueError, match='a row without an image: it needs "image", or "bytes" or "path"'):
        stored_image({"file": "a.jpg"})


@pytest.mark.parametrize("first", ["pipeline_images", "pipeline_vqa"])
def test_any_file_may_be_imported_first(first: str) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(CHECKOUT)!r})
import modeling_updown.{first}
from transformers.pipelines import PIPELINE_REGISTRY
print(*sorted(name for name, task in PIPELINE_REGISTRY.supported_tasks.items() if "UpDown" in str(task["impl"])))
"""
    run = fresh_python.run([sys.executable, "-I", "-c", code])
    assert run.returncode == 0, run.stderr
    expected = ["dense-captioning", "image-to-text", "moment-retrieval", "phrase-grounding", "text-reading"]
    expected += ["visual-entailment", "visual-multiple-choice", "visual-question-answering", "visual-reasoning"]
    assert run.stdout.split() == expected
