"""`updown index` and `updown search` of clips: a hit names the clip and its second, and an index goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_processor
from tests.video_files import write_colours, write_sound
from training import cli
from training.commands import index as index_command
from training.commands import search as search_command
from training.search.clips import clips_by_id, frame_at, split_clips
from training.search.index_files import read_index


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake model stands for whatever is loaded."""
    for command in (index_command, search_command):
        monkeypatch.setattr(command, "load_retrieval_model", lambda folder: (ColourModel(), colour_processor()))
    return retrieval_fake.model_folder(tmp_path / "model")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Two videos of 4 seconds, green but for a red second, and a blue image."""
    folder = tmp_path / "media"
    folder.mkdir()
    write_colours(folder / "early.mp4", red=range(4))
    write_colours(folder / "late.mp4", red=range(12, 16))
    Image.new("RGB", (32, 32), (0, 0, 255)).save(folder / "blue.png")
    return folder


def run(tmp_path: Path, *arguments: Any) -> int:
    options = ["--model", tmp_path / "model", "--output", tmp_path / "index"]
    return cli.main(["index", *(str(argument) for argument in [*arguments, *options])])


def vectors_by_id(tmp_path: Path) -> dict[str, list[float]]:
    table = read_index(tmp_path / "index")[1]["photos"]
    return {entry["id"]: row.tolist() for entry, row in zip(table.entries, np.asarray(table.embeddings), strict=True)}


def test_a_hit_names_the_clip_and_its_second(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, media, "--fps", 2) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'index'}: 17 images (16 of them frames of clips) and 0 texts\n"
    search = ["search", "red", "blue", "--index", str(tmp_path / "index"), "--top-k", "4"]
    assert cli.main([*search, "--output", str(tmp_path / "sheet.png")]) == 0
    shown = capsys.readouterr().out.splitlines()
    found = {line.split("  ")[-1] for line in shown[1:5]}
    assert found == {
        f"{media / name}.mp4 at {at} s" for name, at in zip(["early"] * 2 + ["late"] * 2, (0, 0.5, 3, 3.5), strict=True)
    }
    assert shown[7].endswith(str(media / "blue.png"))
    assert Image.open(tmp_path / "sheet_1.png").width > 1000
    assert cli.main([*search, "--json"]) == 0
    red, blue = json.loads(capsys.readouterr().out)
    assert {one["seconds"] for one in red["results"]} == {0, 0.5, 3, 3.5} and "seconds" not in blue["results"][0]
    assert red["results"][0]["id"].endswith(" s") and Path(red["results"][0]["path"]).parent == media


def test_an_index_of_clips_goes_on(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, media, "--fps", 2, "--batch-size", 3) == 0
    whole = vectors_by_id(tmp_path)
    shutil.rmtree(tmp_path / "index")
    assert run(tmp_path, media / "early.mp4", "--fps", 1, "--batch-size", 3) == 0
    assert len(vectors_by_id(tmp_path)) == 4
    (tmp_path / "other").mkdir()
    shutil.copyfile(media / "late.mp4", tmp_path / "other" / "early.mp4")
    assert run(tmp_path, tmp_path / "other" / "early.mp4") == 2
    assert "give it another folder, or index the same images again" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "index")
    assert run(tmp_path, media, "--fps", 1, "--batch-size", 3) == 0
    assert run(tmp_path, media, "--fps", 2, "--batch-size", 3) == 0
    continued = vectors_by_id(tmp_path)
    assert continued.keys() == whole.keys()
    for name, vector in whole.items():
        np.testing.assert_allclose(continued[name], vector, atol=1e-3)
    decoded: list[Any] = []
    monkeypatch.setattr(ColourModel, "get_image_features", decoded.append)
    assert run(tmp_path, media, "--fps", 2) == 0 and not decoded


def test_what_is_no_clip_is_skipped_and_said(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sound(media / "sound.mp4")
    assert run(tmp_path, media) == 1
    shown = capsys.readouterr()
    assert "1 images or clips could not be read and were skipped:" in shown.err and "holds sound only" in shown.err
    assert "9 images (8 of them frames of clips)" in shown.out
    assert run(tmp_path, "https://example.org/a.mp4") == 2
    assert "an index holds local images and clips, and https://example.org/a.mp4 is a URL" in capsys.readouterr().err
    assert run(tmp_path, media / "early.mp4", media) == 2
    assert "several clips have the name early.mp4: index the folders one by one" in capsys.readouterr().err


def test_arguments_are_images_or_clips(media: Path, tmp_path: Path) -> None:
    videos = [str(media / "early.mp4"), str(media / "late.mp4")]
    assert split_clips([str(media)]) == ([str(media)], videos)
    assert split_clips([*videos, str(media / "blue.png")]) == ([str(media / "blue.png")], videos)
    (media / "blue.png").unlink()
    assert split_clips([str(media)]) == ([], videos)
    assert clips_by_id(videos) == {"early.mp4": videos[0], "late.mp4": videos[1]}
    assert np.asarray(frame_at(videos[0], 0.75))[0, 0, 0] > 200 > np.asarray(frame_at(videos[0], 1.0))[0, 0, 0]
