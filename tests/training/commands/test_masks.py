"""Masks in `updown detect` and `updown ground`: JSON and pictures against the models' own, lent heads, and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.mask import decode
from transformers import AutoModel, pipeline

from modeling_updown import UpDownDetector, UpDownImageProcessor, embed_names, paste_masks
from tests import tiny
from training import cli
from training.commands.masks import lend_masks

MASKS: dict[str, Any] = {"mask_head": True, "mask_size": 6, "mask_hidden_size": 8, "mask_convs": 1}
TEXT = "a brown dog runs through the grass"


def without_masks(detector: Any) -> UpDownDetector:
    """The same detector without its mask head."""
    plain = tiny.tiny_pyramid_detector(phrase_embedding_size=detector.config.phrase_embedding_size)
    plain.load_state_dict({k: v for k, v in detector.state_dict().items() if not k.startswith("masks.")})
    return plain


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3, width=120, height=80).save(tmp_path / "street.png")
    return tmp_path / "street.png"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny detector that makes masks and learnt phrases."""
    folder = tmp_path_factory.mktemp("masks")
    tiny.tiny_pyramid_detector(**MASKS, phrase_embedding_size=32).save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, max_regions=9).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def grounder(detector: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grounding model on the same detector without masks."""
    folder = tmp_path_factory.mktemp("grounder")
    source = without_masks(UpDownDetector.from_pretrained(detector))
    fields = {"vision_config": source.config, "region_feature_size": source.config.region_feature_size}
    model: Any = tiny.tiny_grounding(**fields)
    model.region_source.load_state_dict(source.state_dict())
    model.save_pretrained(folder)
    processor: Any = tiny.tiny_fusion_processor()
    processor.image_processor = UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    processor.save_pretrained(folder)
    return folder


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_detect_writes_and_draws_the_masks(detector: Path, image: Path, tmp_path: Path) -> None:
    """Of its own regions, of given boxes, and of regions by other names."""
    model, processor = UpDownDetector.from_pretrained(detector), UpDownImageProcessor.from_pretrained(detector)
    encoder, written = tmp_path / "encoder", tmp_path / "found.json"
    AutoModel.from_config(tiny.tiny_encoder_config()).save_pretrained(encoder)
    tiny.tiny_tokenizer().save_pretrained(encoder)
    named = {"name_embeds": embed_names(["dog", "ocean"], str(encoder))}
    given = {"boxes": torch.tensor([[[0.25, 0.25, 0.75, 1.0]]])}
    for arguments, asked in (
        ([], {}),
        (["--box", "30,20,90,80"], given),
        (["--names", "dog", "ocean", "--encoder", encoder], named),
    ):
        with torch.no_grad():
            output = model(**processor(str(image), return_tensors="pt"), **asked, **processor.region_selection())
        true = paste_masks(output.region_masks[0], output.region_boxes[0], height=80, width=120).numpy()
        options = ["--threshold", 0, "--masks", "--json", written, "--draw", tmp_path / "drawn.png"]
        assert run("detect", image, "--model", detector, *arguments, *options) == 0
        found = json.loads(written.read_text())[str(image)]
        assert len(found) == len(true)
        for region in found:
            (place,) = [n for n, box in enumerate(output.region_boxes[0].tolist()) if np.allclose(box, region["box"])]
            assert (decode(region["mask"]) == true[place]).all() and region["mask"]["size"] == [80, 120]
    assert run("detect", image, "--model", detector, "--threshold", 0, "--json", written) == 0
    assert "mask" not in json.loads(written.read_text())[str(image)][0]


def test_ground_takes_the_masks_of_the_models_own_detector(
    detector: Path, grounder: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The boxes and scores stay as they are without masks."""
    written, plain = tmp_path / "found.json", tmp_path / "plain.json"
    asked = ["ground", image, TEXT, "--phrase", "a brown dog", "--phrase", "the grass", "--model", grounder]
    assert run(*asked, "--top-k", 2, "--json", plain, "--draw", tmp_path / "plain.png") == 0
    drawn = tmp_path / "drawn.png"
    assert run(*asked, "--top-k", 2, "--masks", "--regions", detector, "--json", written, "--draw", drawn) == 0
    ground = pipeline("phrase-grounding", model=str(grounder))
    lend_masks(ground.model.region_source, UpDownDetector.from_pretrained(detector), name="it")
    expected = ground(str(image), TEXT, phrases=["a brown dog", "the grass"], top_k=2, masks=True)
    found, without = (json.loads(path.read_text()) for path in (written, plain))
    for phrase, own, bare in zip(found, expected, without, strict=True):
        for one, its, other in zip(phrase["boxes"], own["boxes"], bare["boxes"], strict=True):
            assert (decode(one["mask"]) == (np.asarray(its["mask"]) > 0)).all()
            assert one["score"] == pytest.approx(other["score"]) and one["box"] == other["box"]
    assert Image.open(drawn).size == (1000, 667) and drawn.read_bytes() != (tmp_path / "plain.png").read_bytes()
    assert "drawn: " in capsys.readouterr().out


def test_mistakes_take_one_sentence(
    detector: Path, grounder: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder, fields in ((plain, {"phrase_embedding_size": 32}), (other, MASKS)):
        tiny.tiny_pyramid_detector(**fields).save_pretrained(folder)
        UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    shown = ["--draw", tmp_path / "drawn.png"]
    grid = tiny.save_tiny_grounding(tmp_path / "grid")
    for arguments, message in (
        (["detect", image, "--model", detector, "--masks"], "--masks are drawn or written: add --draw PICTURE.png"),
        (["ground", image, TEXT, "--model", grounder, "--masks"], "--masks are drawn or written: add --draw"),
        (["detect", image, "--model", plain, "--masks", *shown], "there are no masks without a mask head"),
        (
            ["ground", image, TEXT, "--model", grounder, "--masks", *shown],
            "which this detector lacks: name its detector",
        ),
        (["ground", image, TEXT, "--model", grid, "--masks", *shown], "a mask head, which this grid lacks"),
        (["ground", image, TEXT, "--model", grounder, "--regions", plain], "which this detector lacks: train one on"),
        (
            ["ground", image, TEXT, "--model", grounder, "--regions", other],
            "is another one: leave it out, or name that",
        ),
    ):
        assert run(*arguments) == 2, message
        said = capsys.readouterr()
        assert message in said.err and said.err.count("\n") == 1 and not said.out


def test_a_detector_that_differs_in_one_weight_is_another_one() -> None:
    other = tiny.tiny_pyramid_detector(**MASKS)
    own = without_masks(other)
    with torch.no_grad():
        other.heads.object_score.bias[0] += 1e-3
    with pytest.raises(ValueError, match="the model learnt the regions of its own detector, and MASKS is another one"):
        lend_masks(own, other, name="MASKS")
    assert own.masks is None and not own.config.mask_head
    with torch.no_grad():
        other.heads.object_score.bias[0] = own.heads.object_score.bias[0]
    lend_masks(own.half(), other.half(), name="MASKS")
    assert own.masks is not None and own.config.mask_size == 6 and own.masks.score.weight.dtype == torch.float16
