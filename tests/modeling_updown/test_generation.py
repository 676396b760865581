"""What the captioners take by position, in one row or alone: each equals the same thing said in full."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from modeling_updown.generation_updown import words_of_labels
from tests import tiny

IMAGES = [tiny.tiny_image(seed) for seed in range(3)]
LABELS = torch.tensor([[1, 5, 6, 2], [1, 5, 2, -100], [1, 9, 2, -100]])


@pytest.fixture(scope="module", params=[tiny.tiny_captioner, tiny.tiny_prefix_lm])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    return tiny.tiny_processor()(images=IMAGES, return_tensors="pt").pixel_values


def test_images_by_position(model: Any, pixel_values: torch.Tensor) -> None:
    expected = model.generate(pixel_values=pixel_values, max_new_tokens=5)
    assert len({tuple(row) for row in expected.tolist()}) > 1
    assert torch.equal(model.generate(pixel_values, max_new_tokens=5), expected)
    config = GenerationConfig(max_new_tokens=5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    assert torch.equal(model.generate(pixel_values, config), expected)
    with pytest.raises(ValueError, match="generate got images twice: by position and by name"):
        model.generate(pixel_values, pixel_values=pixel_values)
    with pytest.raises(ValueError, match=r"floats of shape \(3, 64, 64\) first: give pixel_values \(images, 3"):
        model.generate(pixel_values[0])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2, "num_return_sequences": 2}])
def test_one_prompt_goes_with_all_images(model: Any, pixel_values: torch.Tensor, settings: dict[str, Any]) -> None:
    processor = tiny.tiny_processor()
    one = processor(images=IMAGES, text="two men", return_tensors="pt")
    three = processor(images=IMAGES, text=["two men"] * 3, return_tensors="pt")
    expected = model.generate(**three, max_new_tokens=5, **settings)
    assert torch.equal(model.generate(**one, max_new_tokens=5, **settings), expected)
    regions = {name: value for name, value in model.get_regions(pixel_values).items() if value is not None}
    assert torch.equal(model.generate(one.input_ids, **regions, max_new_tokens=5, **settings), expected)
    alone = model.generate(three.input_ids, pixel_values=pixel_values[:1], max_new_tokens=5, **settings)
    assert len(alone) == len(expected)  # three captions of one image, as before
    with pytest.raises(ValueError, match="2 rows of words for 3 images"):
        model.generate(three.input_ids[:2], pixel_values=pixel_values, max_new_tokens=5)


def test_labels_alone_are_their_words(model: Any, pixel_values: torch.Tensor) -> None:
    words = LABELS.masked_fill(LABELS == -100, 0)
    expected = model(words, pixel_values=pixel_values, labels=LABELS)
    found = model(pixel_values=pixel_values, labels=LABELS)
    assert torch.allclose(found.loss, expected.loss) and found.loss > 0
    assert torch.allclose(found.logits[0], expected.logits[0])
    with_start_token = LABELS.clone()
    with_start_token[:, 0] = -100
    assert torch.allclose(model(pixel_values=pixel_values, labels=with_start_token).loss, expected.loss)
    assert words_of_labels(with_start_token, model.config).tolist() == words.tolist()
    with pytest.raises(ValueError, match="Give input_ids: the words so far, at least the one that every caption"):
        model(pixel_values=pixel_values)


def test_strings_to_stop_at_need_a_tokenizer(model: Any, pixel_values: torch.Tensor) -> None:
    tokenizer = tiny.tiny_processor().tokenizer
    whole = model.generate(pixel_values, max_new_tokens=5)
    second = tokenizer.decode(whole[0, 2])
    for stop in (second, [second]):
        stopped = model.generate(pixel_values[:1], max_new_tokens=5, stop_strings=stop, tokenizer=tokenizer)
        first = tokenizer.decode(whole[0, 1])
        assert stopped.tolist() == whole[:1, : 2 if second in first else 3].tolist()
    with pytest.raises(ValueError, match="could not locate a tokenizer"):
        model.generate(pixel_values[:1], stop_strings=second)


@pytest.mark.parametrize(
    "make", [tiny.tiny_captioner, tiny.tiny_prefix_lm, tiny.tiny_vqa, tiny.tiny_grid, tiny.tiny_detector]
)
def test_pixels_of_another_shape(make: Any) -> None:
    model = make()
    words = {} if make in (tiny.tiny_grid, tiny.tiny_detector) else {"input_ids": torch.tensor([[1, 5]])}
    for shape, cure in (
        ((3, 64, 64), r"give pixel_values\[None\] for one image"),
        ((1, 1, 64, 64), "make them with the model's image processor"),
        ((1, 1, 3, 64, 64), "make them with the model's image processor"),
    ):
        with pytest.raises(ValueError, match=rf"pixel_values have shape .*, not \(images, 3, height, width\): {cure}"):
            model(pixel_values=torch.zeros(shape), **words)


def test_the_users_length_wins_over_the_models_own(model: Any, pixel_values: torch.Tensor) -> None:
    own = model.generation_config.max_new_tokens
    model.generation_config.max_new_tokens = 9
    try:
        settings = {"pixel_values": pixel_values, "min_length": 0, "suppress_tokens": [2]}  # no caption ends early
        assert model.generate(**settings).shape[1] == 1 + 9
        assert model.generate(**settings, max_length=5).shape[1] == 5
        config = GenerationConfig(max_length=6, bos_token_id=1, eos_token_id=2, pad_token_id=0)
        assert model.generate(**settings, generation_config=config).shape[1] == 6
        assert config.max_length == 6 and config.max_new_tokens is None
    finally:
        model.generation_config.max_new_tokens = own


@tiny.WHOLE_MODELS_ON_DISK
def test_weights_on_disk_write_the_same(model: Any, pixel_values: torch.Tensor, tmp_path: Path) -> None:
    expected = model.generate(pixel_values, max_new_tokens=5)
    model.save_pretrained(tmp_path / "model")
    offloaded = type(model).from_pretrained(
        tmp_path / "model", device_map={"": "disk"}, offload_folder=str(tmp_path / "disk")
    )
    assert offloaded.device.type == "meta"
    assert torch.equal(offloaded.generate(pixel_values, max_new_tokens=5), expected)
