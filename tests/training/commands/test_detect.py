"""`updown detect`: lines, JSON, pictures, boxes of one's own, and mistakes in one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModel

from modeling_updown import UpDownDetector, UpDownImageProcessor, embed_names, open_regions
from tests import tiny
from training import cli

OBJECTS = {0: "background", **{i: f"thing{i}" for i in range(1, 13)}}
ATTRIBUTES = {0: "no attribute", 1: "red", 2: "blue", 3: "large", 4: "small", 5: "striped"}
LINE = re.compile(r"  (?:(\w+) )?(thing\d+) (\d\.\d\d) +at (\d+),(\d+) to (\d+),(\d+) pixels")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny detector whose classes have names."""
    folder = tmp_path_factory.mktemp("detector")
    tiny.tiny_pyramid_detector(id2label=OBJECTS, attribute_id2label=ATTRIBUTES).save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, max_regions=9).save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3, width=120, height=80).save(tmp_path / "street.png")
    return tmp_path / "street.png"


def run(*arguments: Any) -> int:
    return cli.main(["detect", *(str(argument) for argument in arguments)])


def found_in(model: Path, image: Path, **options: Any) -> Any:
    """What the detector says of the image, without the command."""
    detector, processor = UpDownDetector.from_pretrained(model), UpDownImageProcessor.from_pretrained(model)
    with torch.no_grad():
        return detector(**processor(str(image), return_tensors="pt"), **options)


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0 and "example:\n  updown detect street.jpg --draw" in capsys.readouterr().out


def test_each_region_has_a_line(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--model", model, "--threshold", 0) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{image}: 9 regions" and len(lines) == 9  # the processor keeps nine
    shown = [LINE.fullmatch(line) for line in lines]
    scores = [float(match[3]) for match in shown if match]
    assert len(scores) == 9 and scores == sorted(scores, reverse=True)
    output = found_in(model, image, max_regions=9)
    best = int(output.region_scores[0].argmax())
    assert shown[0] and shown[0][2] == OBJECTS[int(output.object_ids[0, best])]
    assert scores[0] == pytest.approx(float(output.region_scores[0, best]), abs=0.006)
    sides = [float(side) * size for side, size in zip(output.region_boxes[0, best], (120, 80) * 2, strict=True)]
    assert [int(shown[0][place]) for place in range(4, 8)] == pytest.approx(sides, abs=0.51)
    sure = float(output.attribute_scores[0, best]) >= 0.3
    assert (shown[0][1] == ATTRIBUTES[int(output.attribute_ids[0, best])]) == sure


def test_a_detector_on_nanodets_boxes(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = tiny.tiny_nanodet_detector(id2label=OBJECTS, attribute_id2label=ATTRIBUTES)
    detector.save_pretrained(tmp_path / "model")
    UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}, max_regions=9).save_pretrained(
        tmp_path / "model"
    )
    assert run(image, "--model", tmp_path / "model", "--threshold", 0) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{image}: 9 regions" and all(map(LINE.fullmatch, lines)) and len(lines) == 9


def test_the_threshold_hides_unsure_regions(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = found_in(model, image, max_regions=9).region_scores[0]
    threshold = float(scores.sort(descending=True).values[2:4].mean())  # between the third and the fourth
    assert run(image, "--model", model, "--threshold", threshold) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{image}: 3 regions"
    assert run(image, "--model", model, "--threshold", 1.1, "--draw", image.with_name("boxes.png")) == 0
    assert capsys.readouterr().out == f"{image}: 0 regions\n"
    assert not image.with_name("boxes.png").exists()  # there was nothing to draw


def test_json_holds_every_images_regions(model: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.png"
    tiny.tiny_image(4, width=60, height=90).save(other)
    assert run(image, other, "--model", model, "--threshold", 0, "--json", tmp_path / "regions.json") == 0
    content = json.loads((tmp_path / "regions.json").read_text())
    assert list(content) == [str(image), str(other)]
    output = found_in(model, image, max_regions=9)
    order = output.region_scores[0].argsort(descending=True).tolist()
    assert [region["label"] for region in content[str(image)]] == [OBJECTS[int(output.object_ids[0, i])] for i in order]
    for region, i in zip(content[str(image)], order, strict=True):
        assert set(region) == {"label", "score", "box", "attribute", "attribute_score"}
        assert region["box"] == pytest.approx(output.region_boxes[0, i].tolist(), abs=1e-5)
        assert region["attribute"] == ATTRIBUTES[int(output.attribute_ids[0, i])]
        assert region["attribute_score"] == pytest.approx(float(output.attribute_scores[0, i]), abs=1e-5)


def test_pictures_are_written(model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--model", model, "--threshold", 0, "--draw", tmp_path / "look.png") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  drawn: {tmp_path / 'look.png'}"
    with Image.open(tmp_path / "look.png") as picture:
        assert picture.size == pytest.approx((1000, 667), abs=1)
    tiny.tiny_image(4).save(tmp_path / "b.png")
    assert run(image, tmp_path / "b.png", "--model", model, "--threshold", 0, "--draw", tmp_path / "look.jpg") == 0
    assert (tmp_path / "look_street.jpg").is_file() and (tmp_path / "look_b.jpg").is_file()


def test_given_boxes_are_named_in_their_order(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = ["60,10,120,80", "0,0,30,40", "30,20,90,60"]
    arguments = [part for box in boxes for part in ("--box", box)]
    assert run(image, "--model", model, *arguments, "--threshold", 0.99, "--json", tmp_path / "r.json") == 0
    shown = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()[1:]]
    assert [",".join(match.groups()[3:]) for match in shown if match] == boxes  # however unsure their names are
    given = torch.tensor([[[float(side) for side in box.split(",")] for box in boxes]])
    output = found_in(model, image, boxes=given / torch.tensor([120, 80, 120, 80]))
    content = json.loads((tmp_path / "r.json").read_text())[str(image)]
    assert [region["label"] for region in content] == [OBJECTS[int(i)] for i in output.object_ids[0]]
    assert [region["score"] for region in content] == pytest.approx(output.region_scores[0].tolist(), abs=1e-5)
    assert content[1]["box"] == pytest.approx([0, 0, 0.25, 0.5], abs=1e-6)


@pytest.mark.parametrize("box", ["10,20,30", "10,20,5,40", "a,b,c,d", "10,20,30,20", ""])
def test_a_box_that_is_none_is_refused(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("a.jpg", "--box", box)
    assert stopped.value.code == 2
    assert "is not a box: write left,top,right,bottom in pixels" in capsys.readouterr().err


def test_a_box_outside_the_image_is_told_in_pixels(
    model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for box in ("10,20,121,40", "-5,0,20,20"):
        assert run(image, "--model", model, f"--box={box}") == 2
        expected = f"updown detect: skipped {image}: the box {box} is outside of the image of 120 x 80 pixels\n"
        assert capsys.readouterr().err == expected


def test_a_broken_image_is_named_and_the_rest_detected(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.png").write_bytes(image.read_bytes()[:60])
    assert run(tmp_path / "cut.png", image, tmp_path / "gone.png", "--model", model) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{image}: ") and len(shown.err.splitlines()) == 2
    assert f"updown detect: skipped {tmp_path / 'cut.png'}: " in shown.err and "there is no image at" in shown.err
    assert run(tmp_path / "cut.png", "--model", model) == 2


def test_images_of_strange_shapes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, size in {"dot.png": (1, 1), "long.png": (3000, 4), "tall.png": (4, 3000)}.items():
        Image.new("RGB", size, "red").save(tmp_path / name)
    assert run(tmp_path, "--model", model, "--threshold", 0, "--draw", tmp_path / "drawn.png") in (0, 1)
    shown = capsys.readouterr()
    told = [line.split(": ")[0] for line in shown.out.splitlines() if line.endswith(" regions")]
    refused = [line.split(": ")[1].removeprefix("skipped ") for line in shown.err.splitlines()]
    assert sorted(told + refused) == [str(tmp_path / name) for name in ("dot.png", "long.png", "tall.png")]
    assert str(tmp_path / "dot.png") in told and (tmp_path / "drawn_dot.png").is_file()


def test_models_that_find_no_objects(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = tiny.save_tiny_captioner(tmp_path / "captioner")
    assert run(image, "--model", captioner) == 2
    expected = f"updown detect: {captioner} holds a grid, which finds no objects: name a detector with --model\n"
    assert capsys.readouterr().err == expected
    monkeypatch.setattr("training.commands.detect.TRAINED_DETECTOR", str(tmp_path / "absent"))
    assert run(image) == 2
    assert "absent is absent, since an installed package contains only the captioner" in capsys.readouterr().err
    assert run(image, "--model", tmp_path / "none") == 2
    assert "there is no model folder" in capsys.readouterr().err


def test_a_detector_saved_in_half_precision(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    UpDownDetector.from_pretrained(model).bfloat16().save_pretrained(tmp_path / "half")
    UpDownImageProcessor.from_pretrained(model).save_pretrained(tmp_path / "half")
    assert run(image, "--model", tmp_path / "half", "--threshold", 0) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_a_captioners_own_detector_will_do(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "captioner"
    model: Any = tiny.tiny_captioner(vision_config=tiny.tiny_pyramid_config(id2label=OBJECTS))
    model.region_source.load_state_dict(tiny.tiny_pyramid_detector().state_dict())
    processor = tiny.tiny_processor()
    processor.image_processor = UpDownImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    for part in (model, processor):
        part.save_pretrained(folder)
    assert run(image, "--model", folder, "--threshold", 0) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 4 and " thing" in lines[1]


def test_regions_are_named_by_any_names(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The likeliest of the names by an encoder, as `open_regions` has them; what is missing is said."""
    asked, encoder = tmp_path / "asked", tmp_path / "encoder"
    tiny.tiny_pyramid_detector(phrase_embedding_size=32).save_pretrained(asked)
    UpDownImageProcessor.from_pretrained(model).save_pretrained(asked)
    AutoModel.from_config(tiny.tiny_encoder_config()).save_pretrained(encoder)
    tiny.tiny_tokenizer().save_pretrained(encoder)
    names = ["brown dog", "ocean"]
    options = ("--names", *names, "--encoder", encoder, "--threshold", 0, "--json", tmp_path / "found.json")
    assert run(image, "--model", asked, *options) == 0
    output = found_in(asked, image, max_regions=9, name_embeds=embed_names(names, str(encoder)))
    found = json.loads((tmp_path / "found.json").read_text())[str(image)]
    assert found == open_regions(output, names)[0] and {region["label"] for region in found} <= {*names}
    assert "9 regions" in capsys.readouterr().out
    assert run(image, "--model", asked, "--box", "10,10,60,60", *options) == 0
    assert "1 regions" in capsys.readouterr().out
    for arguments, message in (
        ((asked, "--names", "dog", "cat"), "--names and --encoder belong together"),
        ((asked, "--encoder", encoder), "--names and --encoder belong together"),
        ((asked, "--names", "dog", "--encoder", encoder), "give two names or more"),
        ((model, "--names", "dog", "cat", "--encoder", encoder), "this detector learnt no phrases"),
    ):
        assert run(image, "--model", *arguments) != 0
        assert message in capsys.readouterr().err
