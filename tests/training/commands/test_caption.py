"""`updown caption` with words that must be there, several captions and samples; the rest stands in `test_cli.py`."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import pipeline, set_seed

from tests import tiny
from training import cli
from training.data.captions.phrase_places import noun_phrase_places


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny captioner."""
    return tiny.save_tiny_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "dog.png"
    tiny.tiny_image(3).save(path)
    return path


def run(*arguments: Any) -> int:
    return cli.main(["caption", *(str(argument) for argument in arguments)])


def lines_of(image: Path, captions: list[dict[str, Any]]) -> list[str]:
    return [f"{image}: {one['generated_text']} ({one['log_prob_per_word']:.2f} per word)" for one in captions]


def test_captions_hold_the_words(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioner = pipeline("image-to-text", model=str(model))
    assert run(image, "--model", model, "--words", "dog|ball", "--words", "old table", "--num-beams", 2) == 0
    (line,) = capsys.readouterr().out.splitlines()
    said = captioner(str(image), words=["dog|ball", "old table"], num_beams=2)[0]["generated_text"]
    assert line == f"{image}: {said}"
    assert "old table" in said and {"dog", "ball"} & {*said.split()}


def test_several_captions_have_their_log_probability(
    model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captioner = pipeline("image-to-text", model=str(model))
    assert run(image, "--model", model, "--num-captions", 3) == 0
    best = captioner(str(image), num_beams=3, num_return_sequences=3, return_log_probs=True)
    assert capsys.readouterr().out.splitlines() == lines_of(image, best)
    assert run(image, "--model", model, "--num-captions", 2, "--num-beams", 4, "--words", "ball") == 0
    settings = {"num_beams": 4, "num_return_sequences": 2, "return_log_probs": True}
    with_word = captioner(str(image), words="ball", **settings)
    assert capsys.readouterr().out.splitlines() == lines_of(image, with_word)
    assert all("ball" in one["generated_text"].split() for one in with_word)


def test_samples_follow_the_seed(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captioner = pipeline("image-to-text", model=str(model))
    asked = [image, "--model", model, "--words", "dog", "--num-captions", 3, "--sample", "--temperature", 0.7]
    shown = []
    for seed in (0, 0, 1):
        assert run(*asked, "--seed", seed) == 0
        shown.append(capsys.readouterr().out.splitlines())
    set_seed(0)
    settings = {"num_beams": 1, "num_return_sequences": 3, "do_sample": True, "top_k": 0, "temperature": 0.7}
    drawn = captioner(str(image), words=["dog"], return_log_probs=True, **settings)
    assert shown[0] == shown[1] == lines_of(image, drawn) != shown[2]
    assert all("dog" in line.split() for lines in shown for line in lines)


def test_the_earlier_name_of_show_regions(model: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--model", model, "--show-regions") == 0
    now = capsys.readouterr()
    assert run(image, "--model", model, "--words") == 0
    before = capsys.readouterr()
    assert before.out == now.out and " on region " in now.out and now.err == ""
    assert "--words without a word is now called --show-regions" in before.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--words", "dogs"],
            "the model's vocabulary has no word 'dogs', so no caption can hold it: name another form",
        ),
        (["--words", "dog|"], "in which there is no word"),
        (["--temperature", "0.5"], "--temperature changes what --sample draws: add --sample, or leave --temperature"),
        (["--seed", "0"], "--seed changes what --sample draws: add --sample, or leave --seed out"),
        (["--num-beams", "2", "--num-captions", "3"], "--num-beams 2 finds no 3 captions: raise it to 3, leave it out"),
        (["--words", "b.jpg"], "b.jpg is an image, and --words takes a word that captions hold: put images before"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], message: str, model: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(image, "--model", model, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("temperature", ["0", "-1", "nan", "inf", "warm"])
def test_a_temperature_is_above_zero(temperature: str, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(image, "--sample", "--temperature", temperature)
    assert stopped.value.code == 2 and f"'{temperature}' is not a number above 0" in capsys.readouterr().err


def test_what_a_caption_names_is_found(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grounder = tiny.save_tiny_grounding(tmp_path / "grounder")
    ground, captioner = pipeline("phrase-grounding", model=str(grounder)), pipeline("image-to-text", model=str(model))
    said = captioner(str(image), words=["dog", "old table"])[0]["generated_text"]
    places = noun_phrase_places(said)
    assert places
    expected = [f"{image}: {said}"]
    for one in ground(str(image), said, phrases=places):
        x1, y1, x2, y2 = one["boxes"][0]["box"].values()
        expected += [f"  {one['phrase']}", f"    {one['boxes'][0]['score']:.3f} at {x1},{y1} to {x2},{y2} pixels"]
    asked = [image, "--model", model, "--words", "dog", "--words", "old table", "--ground", grounder]
    picture = tmp_path / "found.png"
    assert run(*asked, "--draw", picture) == 0
    assert capsys.readouterr().out.splitlines() == [*expected, f"  drawn: {picture}"]
    assert max(Image.open(picture).size) == 1000
    assert run("--model", model, "--ground", image, image) == 2
    assert "is an image, and --ground takes a model: put images before --ground" in capsys.readouterr().err
