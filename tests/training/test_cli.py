"""The command line: help that answers at once, one sentence for every mistake, and what each command prints."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.tiny import save_tiny_captioner, tiny_image
from training import cli
from training.commands import caption, demo, shared

COMMANDS = (
    *(
        "caption",
        "ask",
        "demo",
        "detect",
        "extract",
        "index",
        "search",
        "train",
        "evaluate",
        "compare",
        "build-answers",
        "build-vocabulary",
    ),
    *("convert-checkpoint", "convert-regions", "check-regions", "push"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny captioner."""
    return str(save_tiny_captioner(tmp_path_factory.mktemp("model")))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images, a broken one between them, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    tiny_image(1).save(folder / "a.jpg")
    tiny_image(2).save(folder / "c.png")
    (folder / "b.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "notes.txt").write_text("no image")
    return folder


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_help_is_instant_and_shows_examples() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run([sys.executable, "-m", "training.cli", "--help"], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3  # seconds of one core
    assert shown.returncode == 0 and all(command in shown.stdout for command in COMMANDS)
    assert "updown caption photo.jpg" in shown.stdout and "accelerate launch -m training.train" in shown.stdout
    imported = "import sys, training.cli; print(sorted({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", imported], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    assert f"example:\n  updown {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["portray"], "invalid choice: 'portray'"),
        (["caption"], "the following arguments are required: IMAGE"),
        (["caption", "a.jpg", "--num-beams", "0"], "'0' is not a whole number above 0"),
        (["extract", "a.jpg"], "the following arguments are required: --output"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_caption_prints_what_the_pipeline_says(
    model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import pipeline

    picture = tmp_path / "look.png"
    assert run("caption", images / "a.jpg", "--model", model, "--num-beams", 3, "--words", "--draw", picture) == 0
    first, *words, drawn = capsys.readouterr().out.splitlines()
    said = pipeline("image-to-text", model=model)(str(images / "a.jpg"), num_beams=3)[0]["generated_text"]
    assert first == f"{images / 'a.jpg'}: {said}"
    assert [line.split()[0] for line in words] == said.split()
    assert all(" on region " in line and line.endswith(" pixels") for line in words)
    assert drawn == f"  drawn: {picture}"
    with Image.open(picture) as image:
        assert min(image.size) > 100


def test_a_broken_image_is_named_and_the_rest_captioned(
    model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("caption", images, tmp_path / "none.jpg", "--model", model, "--draw", tmp_path / "look.png") == 1
    shown = capsys.readouterr()
    captions = [line for line in shown.out.splitlines() if not line.startswith("  drawn")]
    assert [line.split(": ")[0] for line in captions] == [str(images / "a.jpg"), str(images / "c.png")]
    assert len(shown.err.splitlines()) == 2
    assert "b.jpg is damaged or cut short" in shown.err and "there is no image at" in shown.err
    assert (tmp_path / "look_a.png").is_file() and (tmp_path / "look_c.png").is_file()
    assert run("caption", images / "b.jpg", "--model", model) == 2


def test_print_words_names_the_strongest_region(capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    result = {"words": ["a", "dog"], "region_weights": [[0.9, 0.1], [0.25, 0.75]], "region_boxes": boxes}
    caption.print_words(result, size=(200, 100))
    assert capsys.readouterr().out.splitlines() == [
        "  a               90% on region 0 at 0,0 to 100,100 pixels",
        "  dog             75% on region 1 at 100,0 to 200,100 pixels",
    ]


def test_demo_needs_no_download(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", "--model", model, "--output", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    for name in demo.DEMO_IMAGES:
        assert f"{name}: " in shown and (tmp_path / "out" / f"demo_{name}.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["caption", "a.jpg", "--model", "./none"],
            "there is no model folder ./none, and a Hub id is",
        ),
        (
            ["caption", "a.jpg", "--model", "{photos}"],
            "photos holds no config.json: give a folder",
        ),
        (["caption", "{empty}"], "empty holds no image"),
        (
            ["convert-checkpoint", "captioning-pytorch", "w.pth", "--config", "{text}", "--output", "o"],
            "not valid JSON",
        ),
        (["convert-checkpoint", "caffe", "w.pth", "--output", "o"], "unknown checkpoint format 'caffe'; known are"),
        (["evaluate", "none.yaml"], "none.yaml"),
        (["push", "{photos}", "someone/tiny"], "photos holds no config.json"),
        (["push", "{photos}", "someone/tiny", "--dry-run"], "add --output FOLDER"),
        (["extract", "{photos}/a.jpg", "{photos}/a.jpg", "--output", "o"], "several images have the id a.jpg"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], message: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"photos": images, "empty": tmp_path / "empty", "text": images / "notes.txt"}
    assert run(*[argument.format(**places) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err
    assert shown.err.startswith(f"updown {arguments[0]}: ") and shown.err.count("\n") == 1


def test_a_missing_model_of_ours_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none is absent.* --model .the folder hub_cards/none of .*or train one"):
        shared.model_folder(None, default=str(tmp_path / "none"))


def test_a_model_of_ours_is_named_without_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    captioner = shared.model_folder("updown-captioning-flickr8k")
    assert captioner == shared.model_folder(None) and Path(captioner, "config.json").is_file()
    monkeypatch.setattr("training.shipped.CODE", tmp_path)
    with pytest.raises(ValueError, match="an installed package contains only the captioner.*/updown-detector-lite"):
        shared.model_folder("updown-detector-lite")
    with pytest.raises(ValueError, match="there is no model folder updown-detector, and a Hub id is"):
        shared.model_folder("updown-detector")


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UPDOWN_DEBUG", "1")
    with pytest.raises(ValueError, match="holds no image"):
        run("caption", tmp_path)


def test_unexpected_errors_are_marked() -> None:
    assert shared.one_sentence(KeyError("x")) == "unexpected KeyError: 'x' (UPDOWN_DEBUG=1 shows where)"
    assert shared.one_sentence(ValueError("one\n  two")) == "one two"
    assert len(shared.one_sentence(ValueError("long " * 1000))) == shared.LONGEST_MESSAGE + len("...")


def test_extract_fills_a_store_and_goes_on(
    model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.regions.store import RegionStore

    store = tmp_path / "regions"
    assert run("extract", images, "--source", model, "--output", store, "--batch-size", 2) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{store}: the regions of 2 images\n" and "b.jpg" in shown.err
    assert RegionStore(store).batch(["a.jpg", "c.png"])["region_features"].shape == (2, 9, 96)
    assert run("extract", images / "a.jpg", "--source", model, "--output", store) == 0


def test_evaluate_prints_figures_with_their_units(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import training.evaluate

    asked: dict[str, Any] = {}

    def evaluated(recipe: str, **options: Any) -> dict[str, Any]:
        asked.update(options, recipe=recipe)
        dataset = {"name": "Flickr8k", "type": "flickr8k", "split": "test", "num_photos": 1000}
        return {"dataset": dataset, "metrics": {"bleu_4_x100": 21.345}, "not_computed": {"spice": "no Java"}}

    monkeypatch.setattr(training.evaluate, "evaluate_recipe", evaluated)
    options = ["--split", "test", "--model", "best", "--num-beams", "3", "--java", "--set", "seed=1"]
    assert run("evaluate", "recipe.yaml", *options) == 0
    given = {"split": "test", "model": "best", "num_beams": 3, "java": True, "changes": ["seed=1"]}
    assert asked == {
        "recipe": "recipe.yaml",
        "predictions": None,
        "output": None,
        "submission": None,
        "save": False,
        "objects": None,
        "num_samples": None,
        **given,
    }
    assert capsys.readouterr().out.splitlines() == [
        "Flickr8k test, 1000 images",
        "  bleu_4_x100         21.34",
        "  spice            not computed: no Java",
    ]


def test_convert_checkpoint_passes_the_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import training.convert.checkpoint

    asked: dict[str, Any] = {}

    def converted(format: str, weights: Path, **options: Any) -> SimpleNamespace:
        asked.update(options, format=format, weights=weights)
        return SimpleNamespace(model=SimpleNamespace(config=SimpleNamespace(model_type="updown_captioning")))

    monkeypatch.setattr(training.convert.checkpoint, "convert_checkpoint", converted)
    (tmp_path / "options.json").write_text(json.dumps({"config": {"rnn_size": 8}}))
    options = ["--config", tmp_path / "options.json", "--output", tmp_path / "out"]
    assert run("convert-checkpoint", "captioning-pytorch", "model.pth", *options) == 0
    assert asked == {
        "format": "captioning-pytorch",
        "weights": Path("model.pth"),
        "config": {"config": {"rnn_size": 8}},
        "output": tmp_path / "out",
    }
    assert f"updown caption IMAGE --model {tmp_path / 'out'}" in capsys.readouterr().out


def test_a_home_folder_is_found_in_an_argument(
    tmp_path: Path, images: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves `--output=~/x` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run("extract", images / "a.jpg", "--source", model, "--output=~/store") == 0
    assert (tmp_path / "home" / "store").is_dir() and not (tmp_path / "~").exists()
