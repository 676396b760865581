"""The processor: one call for images, text and regions, and folders that load with and without this package."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from processors import UpDownImageProcessor, UpDownProcessor, UpDownTokenizer, pad_regions
from tests import fresh_python
from tests.tiny import tiny_fusion_processor, tiny_tokenizer

CHECKOUT = Path(__file__).resolve().parents[2]
IMAGE = Image.new("RGB", (40, 30), (255, 0, 0))

SAVE_SCRIPT = """
import sys
from processors import UpDownImageProcessor, UpDownProcessor, UpDownTokenizer
for public_class in (UpDownImageProcessor, UpDownProcessor, UpDownTokenizer):
    public_class.register_for_auto_class()
tokenizer = UpDownTokenizer.from_captions(["a dog runs"], min_count=1)
UpDownProcessor(UpDownImageProcessor(size={"height": 8, "width": 8}), tokenizer).save_pretrained(sys.argv[1])
"""

LOAD_SCRIPT = """
import json, sys
sys.modules.update({"processors": None, "modeling_updown": None})  # importing them fails, installed or not
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
folder, image = sys.argv[1:]
autos = (AutoProcessor, AutoTokenizer, AutoImageProcessor)
parts = [auto.from_pretrained(folder, trust_remote_code=True) for auto in autos]
regions = {"region_features": [[1.0, 2.0]], "region_boxes": [[0.0, 0.0, 1.0, 1.0]]}
inputs = parts[0](images=image, text="A dog!", regions=regions, return_tensors="pt")
print(json.dumps({
    "classes": [type(part).__name__ for part in parts],
    "padding_side": parts[1].padding_side,
    "inputs": {name: tensor.tolist() for name, tensor in inputs.items()},
    "caption": parts[0].decode([1, 4, 5, 6, 2], skip_special_tokens=True),
}))
"""


@pytest.fixture
def processor() -> UpDownProcessor:
    tokenizer = UpDownTokenizer.from_captions(["a dog runs"], min_count=1)
    return UpDownProcessor(UpDownImageProcessor(size={"height": 8, "width": 8}), tokenizer)


def regions_of(count: int) -> dict[str, np.ndarray]:
    boxes = np.tile(np.array([0.0, 0.0, 0.5, 1.0], np.float32), (count, 1))
    return {"region_features": np.arange(count * 3, dtype=np.float32).reshape(count, 3), "region_boxes": boxes}


def test_images_and_text_together(processor: UpDownProcessor) -> None:
    inputs = processor(images=[IMAGE, IMAGE], text=["a", "a dog"], padding=True, return_tensors="pt")
    assert list(inputs) == ["input_ids", "attention_mask", "pixel_values"]
    assert set(processor.model_input_names) == set(inputs)
    assert inputs.input_ids.tolist() == [[0, 1, 4], [1, 4, 5]]
    assert inputs.pixel_values[1, :, 0, 0].tolist() == [1.0, -1.0, -1.0]


def test_each_input_may_come_alone(processor: UpDownProcessor) -> None:
    assert list(processor(images=IMAGE, return_tensors="pt")) == ["pixel_values"]
    assert list(processor(text="a", return_tensors="pt")) == ["input_ids", "attention_mask"]
    regions = processor(regions=regions_of(2), return_tensors="pt")
    assert list(regions) == ["region_features", "region_boxes", "region_mask"]
    with pytest.raises(ValueError, match="nothing to process; give images, text, regions or OCR words"):
        processor()


def test_regions_of_one_image_many_images_or_a_batch(processor: UpDownProcessor) -> None:
    images = [regions_of(2), regions_of(3)]
    expected = pad_regions(images)
    many = processor(regions=images, return_tensors="pt")
    batch = processor(regions=expected, return_tensors="pt")
    for name, tensor in expected.items():
        assert torch.equal(many[name], tensor) and torch.equal(batch[name], tensor)
    assert many.region_mask.tolist() == [[True, True, False], [True, True, True]]
    alone = processor(regions=images[0], return_tensors="pt")
    assert torch.equal(alone.region_features[0], expected["region_features"][0, :2])
    assert isinstance(processor(regions=images, return_tensors="np").region_mask, np.ndarray)


def test_bad_regions_are_met_at_the_door(processor: UpDownProcessor) -> None:
    pixels: dict[str, Any] = {**regions_of(1), "region_boxes": [[0, 0, 320, 240]]}
    with pytest.raises(ValueError, match="image 0, region 0 is outside 0..1; divide x by the image's width"):
        processor(regions=pixels)


def test_captions_come_back_as_words(processor: UpDownProcessor) -> None:
    ids = torch.tensor([[1, 4, 5, 6, 2], [1, 4, 5, 2, 0]])
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["a dog runs", "a dog"]
    assert processor.decode(ids[1], skip_special_tokens=True) == "a dog"


def test_one_folder_holds_both_parts(processor: UpDownProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["processor_config.json", "tokenizer.json", "tokenizer_config.json"]
    tokenizer = UpDownTokenizer.from_pretrained(tmp_path)
    loaded = UpDownProcessor(UpDownImageProcessor.from_pretrained(tmp_path), tokenizer)
    first = processor(images=IMAGE, text="a dog", return_tensors="pt")
    second = loaded(images=IMAGE, text="a dog", return_tensors="pt")
    assert all(torch.equal(first[name], second[name]) for name in first)


def run_script(script: str, *arguments: Path, folder: Path, python_path: Path | None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = fresh_python.run(command, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_published_folder_loads_without_this_package(tmp_path: Path) -> None:
    """The classes' files lie in the folder, as on the Hub; a Python that cannot import this package loads them."""
    folder, image = tmp_path / "published", tmp_path / "photo.png"
    IMAGE.save(image)
    run_script(SAVE_SCRIPT, folder, folder=tmp_path, python_path=CHECKOUT)
    assert {path.name for path in folder.glob("*.py")} == {
        "image_processing_updown.py",
        "code_updown.py",
        "image_download_updown.py",
        "ocr_batching_updown.py",
        "processing_updown.py",
        "region_batching_updown.py",
        "region_links_updown.py",
        "tokenization_updown.py",
        "word_spaces_updown.py",
        "words_updown.py",
    }
    result = json.loads(run_script(LOAD_SCRIPT, folder, image, folder=tmp_path, python_path=None))
    assert result["classes"] == ["UpDownProcessor", "UpDownTokenizer", "UpDownImageProcessor"]
    assert result["padding_side"] == "left"
    assert result["caption"] == "a dog runs"
    assert result["inputs"]["input_ids"] == [[1, 4, 5]]
    assert result["inputs"]["region_features"] == [[[1.0, 2.0]]]
    assert [channel[0][0] for channel in result["inputs"]["pixel_values"][0]] == [1.0, -1.0, -1.0]


def test_tokenizer_of_word_pieces(tmp_path):
    """The processor saves and loads any tokenizer; words it has not seen are made of letters."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer("a brown zebra")["input_ids"]
    assert ids[0] == tokenizer.cls_token_id == 2 and ids[-1] == tokenizer.sep_token_id == 3
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a brown zebra"
    assert tokenizer.unk_token_id not in ids and len(ids) == 2 + 2 + 5
    tiny_fusion_processor().save_pretrained(tmp_path)
    loaded = UpDownProcessor.from_pretrained(tmp_path)
    assert loaded(text="a brown zebra")["input_ids"] == ids
    assert AutoTokenizer.from_pretrained(tmp_path)("a brown zebra")["input_ids"] == ids
