"""Clips on the command line: `updown caption`, `updown ask` and `updown find`; and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_updown import load_clip
from processors.clip_sampling_updown import ClipSampling
from tests import tiny
from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_processor
from tests.video_files import write_colours, write_sound, write_video
from training import cli
from training.commands import find as find_command
from training.commands.caption import print_words
from training.commands.clips import media_paths

QUESTION = "how many dogs are there?"


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video, an animated GIF and an image."""
    made = tmp_path_factory.mktemp("media")
    write_video(made / "clip.mp4", num_frames=8)
    frames = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in (0, 80, 160, 240)]
    frames[0].save(made / "moves.gif", save_all=True, append_images=frames[1:], duration=100)
    tiny.tiny_image(3).save(made / "still.png")
    return made


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 4 seconds, green but for the third one, which is red."""
    return write_colours(tmp_path_factory.mktemp("colours") / "clip.mp4", red=range(8, 12))


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_clips_and_images_are_captioned_together(
    folder: Path, captioner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look = tmp_path / "look.png"
    assert run("caption", folder, "--model", captioner, "--frames", 3, "--draw", look, "--show-regions") == 0
    shown = capsys.readouterr().out.splitlines()
    pipe = pipeline("image-to-text", model=str(captioner))
    for name in ("clip.mp4", "moves.gif", "still.png"):
        clip = load_clip(folder / name, ClipSampling(num_frames=3))
        said = pipe(clip if len(clip.frames) > 1 else str(folder / name))[0]["generated_text"]
        assert f"{folder / name}: {said}" in shown
        assert Image.open(tmp_path / f"look_{Path(name).stem}.png").width > 700
    lines = "\n".join(shown)
    of_clip, of_image = lines[: lines.index("moves.gif:")], lines[lines.index("still.png:") :]
    assert " s at " in of_clip and " on region " in of_image and " s at " not in of_image


def test_questions_are_asked_about_a_clip(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.save_tiny_vqa(tmp_path / "vqa", num_glimpses=2)
    vqa = pipeline("visual-question-answering", model=str(model))
    asked = ["ask", folder / "clip.mp4", QUESTION, "--model", model, "--top-k", 2]
    assert run(*asked, "--fps", 5, "--start", 0.2, "--draw", tmp_path / "look.png") == 0
    found = vqa(str(folder / "clip.mp4"), QUESTION, fps=5.0, start_seconds=0.2, top_k=2)
    expected = [QUESTION, *(f"  {one['answer']:<28} {one['score']:.3f}" for one in found)]
    assert capsys.readouterr().out.splitlines() == [*expected, f"  drawn: {tmp_path / 'look.png'}"]
    assert Image.open(tmp_path / "look.png").width > 1000


def test_a_moment_is_found_frame_by_frame(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(find_command, "load_retrieval_model", lambda folder: (ColourModel(), colour_processor()))
    monkeypatch.setattr(find_command, "is_moment_model", lambda folder: False)
    model = retrieval_fake.model_folder(tmp_path / "colours")
    asked = ["find", colours, "a red thing", "--model", model]
    assert run(*asked, "--draw", tmp_path / "time.png") == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "a red thing  (scored frame by frame by colours)"
    assert second.endswith(" from 2.0 to 3.0 s") and third == f"  drawn: {tmp_path / 'time.png'}"
    assert Image.open(tmp_path / "time.png").width > 1200
    assert run(*asked, "--json", "--fps", 4, "--top-k", 5) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(span["start"], span["end"]) for span in found["spans"]] == [(2.0, 3.0)]
    assert len(found["frame_scores"]) == len(found["seconds"]) == 16
    assert int(np.argmax(found["frame_scores"])) in range(8, 12)
    assert run(*asked, "--json", "--fps", 1, "--start", 1.1, "--end", 1.9) == 0
    (span,) = json.loads(capsys.readouterr().out)["spans"]  # nothing of what is outside of the part
    assert (span["start"], span["end"]) == (1.1, 1.9)


def test_a_moment_is_found_by_a_model_of_moments(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny.save_tiny_moments(tmp_path / "moments", vision_config=tiny.tiny_grid_config(), region_feature_size=96)
    finder = pipeline("moment-retrieval", model=str(model))
    assert run("find", colours, "a dog runs", "--model", model, "--top-k", 2) == 0
    spans = finder(str(colours), "a dog runs", top_k=2, fps=2.0, max_frames=256)
    lines = [f"  {span['score']:6.3f} from {span['start']:.1f} to {span['end']:.1f} s" for span in spans]
    assert capsys.readouterr().out.splitlines() == ["a dog runs  (found by moments)", *lines]
    assert run("find", colours, "a dog runs", "--model", model, "--draw", tmp_path / "time.png") == 0


def test_mistakes_end_in_one_sentence(
    folder: Path, captioner: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = write_sound(tmp_path / "sound.mp4")
    for arguments, message in (
        (["caption", sound, "--model", captioner], "holds sound only: give a file with a video stream"),
        (["caption", folder / "clip.mp4", "--start", 3, "--end", 1], "start_seconds is 3, which is not before"),
        (["caption", folder / "clip.mp4", "--model", captioner, "--start", 3], "lies outside of"),
        (["ask", sound, QUESTION], "holds sound only: give a file with a video stream"),
        (["find", folder / "still.png", "a dog"], "is an image, which has no moments: give a video or an animated GIF"),
        (["find", folder, "a dog"], "is a folder; give the path of one image or video in it"),
        (["ask", folder, QUESTION], "is a folder; give the path of one image or video in it"),
        (["find", folder / "clip.mp4", " "], "the sentence is empty: write what happens in the clip"),
        (["find", folder / "clip.mp4", "a dog", "--model", captioner], "UpDownForMomentRetrieval"),
        (["find", tmp_path / "gone.mp4", "a dog"], "there is no clip at"),
    ):
        assert run(*arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_words_look_where_the_picture_shows(capsys: pytest.CaptureFixture[str]) -> None:
    weights = torch.tensor([[0.4, 0.3, 0.25, 0.05]])
    result: dict[str, Any] = {"words": ["dog"], "region_weights": weights}
    result["region_boxes"] = torch.tensor([[0.0, 0.0, 0.25 * (region + 1), 1.0] for region in range(4)])
    print_words(result, size=(100, 10))
    assert capsys.readouterr().out == "  dog             40% on region 0 at 0,0 to 25,10 pixels\n"
    print_words(result | {"region_seconds": torch.tensor([0.0, 2.0, 2.0, 0.0])}, size=(100, 10))
    assert capsys.readouterr().out == "  dog             30% on region 1 at 2.0 s at 0,0 to 50,10 pixels\n"


def test_a_clip_is_not_grounded(folder: Path, captioner: Path, tmp_path: Path, capsys: Any) -> None:
    grounder = tiny.save_tiny_grounding(tmp_path / "grounder")
    assert run("caption", folder / "clip.mp4", "--model", captioner, "--ground", grounder) == 2
    assert "is a clip, and --ground finds boxes in an image: leave --ground out" in capsys.readouterr().err


def test_a_folder_gives_its_images_and_clips(folder: Path, tmp_path: Path) -> None:
    names = [Path(path).name for path in media_paths([str(folder), "other.png"])]
    assert names == ["clip.mp4", "moves.gif", "still.png", "other.png"]
    (tmp_path / "only.mp4").write_bytes(b"")
    assert media_paths([str(tmp_path)]) == [str(tmp_path / "only.mp4")]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        media_paths([str(tmp_path / "none")])
