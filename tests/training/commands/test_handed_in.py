"""What people hand to the commands: pictures' names found wrong before the work, images on bad servers, images as
questions, detectors of NaN."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_updown import draw_answer, draw_attention, draw_found_images, draw_found_texts, draw_regions
from tests import tiny
from tests.processors.test_image_download import answer, server
from training import cli
from training.commands.shared import picture_path
from training.regions.store import RegionStore


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny.tiny_image(3).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    tiny.tiny_detector().save_pretrained(folder)
    tiny.tiny_processor().image_processor.save_pretrained(folder)
    return folder


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


# ---- pictures


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        ("look.xyz", "no picture can be saved as {folder}/look.xyz: name it with the ending .png, .jpg or .webp"),
        ("look", "no picture can be saved as {folder}/look: name it"),
        ("gone/look.png", "there is no folder {folder}/gone: name a file in an existing folder"),
        ("made.png", "{folder}/made.png is a folder: name a file"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["caption", "{image}", "--model", "{folder}/nothing", "--draw"],
        ["ask", "{image}", "what is it?", "--model", "{folder}/nothing", "--draw"],
        ["detect", "{image}", "--model", "{folder}/nothing", "--draw"],
        ["search", "{image}", "--index", "{folder}/nothing", "--output"],
    ],
)
def test_a_picture_is_checked_before_the_work(
    command: list[str], picture: str, sentence: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model and the index are not there, and nobody gets so far as to say so."""
    (image.parent / "made.png").mkdir()
    words = [word.format(image=image, folder=image.parent) for word in command]
    assert run(*words, image.parent / picture) == 2
    assert capsys.readouterr().err.startswith(f"updown {command[0]}: {sentence.format(folder=image.parent)}")


def test_the_json_of_detect_is_checked_before_the_work(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, fault in (("gone/found.json", "there is no folder"), (".", "is a folder")):
        assert run("detect", image, "--model", image.parent / "nothing", "--json", image.parent / place) == 2
        assert fault in capsys.readouterr().err


def test_drawing_functions_check_first(tmp_path: Path) -> None:
    """Before they look at what is to be drawn, here nothing."""
    for draw in (
        lambda path: draw_attention("gone.jpg", {}, path=path),
        lambda path: draw_answer("gone.jpg", [], path=path),
        lambda path: draw_regions("gone.jpg", [], path=path),
        lambda path: draw_found_images([], [], path=path),
        lambda path: draw_found_texts(Image.new("RGB", (9, 9)), [], path=path),
    ):
        with pytest.raises(ValueError, match="no picture can be saved as"):
            draw(tmp_path / "look.xyz")
        with pytest.raises(ValueError, match="there is no folder .*gone"):
            draw(tmp_path / "gone" / "look.png")


def test_images_of_one_name_have_a_picture_each() -> None:
    taken: set[Path] = set()
    named = [
        picture_path(Path("out/look.png"), image, alone=False, taken=taken)
        for image in ("a/dog.jpg", "b/dog.jpg", "c/cat.jpg", "c/dog.png")
    ]
    assert [path.name for path in named] == ["look_dog.png", "look_dog_2.png", "look_cat.png", "look_dog_3.png"]
    assert picture_path(Path("out/look.png"), "dog.jpg", alone=True, taken=set()) == Path("out/look.png")


# ---- images


def test_an_image_among_the_questions(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image.parent / "cat").write_bytes(image.read_bytes())
    for second in ("cat.png", "https://example.org/cat", image.parent / "cat"):
        assert run("ask", image, second, "what is it?") == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(
            f"updown ask: {second} is an image, not a question, and questions are asked about one"
        )


def test_a_question_that_ends_like_an_image(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.save_tiny_vqa(tmp_path / "vqa")
    assert run("ask", image, "is there a dog in dog.png", "--model", model, "--top-k", 1) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_one_bad_server_does_not_lose_the_other_images(
    detector: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad: dict[str, Any] = {
        "/garbage.png": b"\x16\x03garbage\r\n\r\n",
        "/away.png": answer("302 Found", b"", "Location: file:///etc/passwd"),
        "/short.png": answer("200 OK", b"123", length=99),
        "/good.png": answer("200 OK", image.read_bytes()),
    }
    with server(bad) as address:
        urls = [address + path for path in bad]
        assert run("detect", *urls, image, "--model", detector, "--threshold", 0) == 1
        shown = capsys.readouterr()
        found = [line for line in shown.out.splitlines() if not line.startswith("  ")]
        assert [line.rsplit(": ", 1)[0] for line in found] == [urls[3], str(image)]
        assert [line.split(" cannot")[0] for line in shown.err.splitlines() if "skipped" in line] == [
            f"updown detect: skipped {url}: {url}" for url in urls[:3]
        ]
        assert "unexpected" not in shown.err
        assert run("extract", *urls, image, "--source", detector, "--output", tmp_path / "regions") == 1
    assert set(RegionStore(tmp_path / "regions").image_ids) == {"good.png", "dog.png"}
    assert "3 images could not be read and were skipped" in capsys.readouterr().err


# ---- detectors that make no numbers


@pytest.mark.parametrize(
    ("layer", "what", "posted"),
    [
        ("heads.object_score", "scores of regions", "scores of regions"),
        ("heads.box_deltas", "regressed boxes", "boxes of regions"),
        ("heads.attribute_score", "scores of attributes", None),
    ],
)
def test_a_detector_of_nan(
    layer: str, what: str, posted: str | None, detector: Path, image: Path, tmp_path: Path, capsys: Any
) -> None:
    model: Any = tiny.tiny_detector()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.startswith(layer):
                weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    processor = tiny.tiny_processor().image_processor
    processor.save_pretrained(tmp_path / "nan")
    capsys.readouterr()
    assert run("detect", image, "--model", tmp_path / "nan") == 2
    shown = capsys.readouterr()
    assert shown.out == "" and f"{tmp_path / 'nan'} makes {what} that are no numbers" in shown.err
    if posted is None:  # the pipeline of transformers tells no attributes
        return
    detect = pipeline("object-detection", model=str(tmp_path / "nan"), device="cpu")
    with pytest.raises(ValueError, match=f"the detector makes {posted} that are not numbers"):
        detect(str(image))
    sound = pipeline("object-detection", model=str(detector), device="cpu")
    assert sound(str(image), threshold=0.0)
    with pytest.raises(TypeError):  # transformers' own pipeline takes no rows, and drops none
        sound({"image": [Image.open(io.BytesIO(image.read_bytes()))] * 2})
