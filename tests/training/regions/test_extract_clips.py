"""Clips into a store: seconds of frames, resuming after a kill, several processes, frames with nothing new."""

import itertools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_updown import ClipSampling, UpDownImageProcessor, load_clip
from tests import tiny
from tests.benchmarks.kills_extraction import difference as files_differ
from tests.training.tiny_run import in_processes, new_accelerator, new_process
from tests.video_files import levels_of, write_video
from training import cli
from training.data.clips.sources import NamedClip, clips_in, listed_clips, named_clips
from training.regions import extract_clips as module
from training.regions.clips import batch_of_clips, clips_in_store
from training.regions.extract_clips import ClipFrame, FrameChoice, batches, decoded_ahead, extract_clips
from training.regions.store import RegionStore

FPS = FrameChoice(ClipSampling(fps=5.0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, of which one has another size, a folder of frames and a still image."""
    folder = tmp_path_factory.mktemp("clips")
    for name, count in (("a.mp4", 20), ("b.avi", 7)):
        write_video(folder / name, num_frames=count)
    write_video(folder / "c.mkv", num_frames=12, width=48)
    (folder / "d").mkdir()
    for number in range(3):
        Image.fromarray(levels_of(number)).save(folder / "d" / f"{number}.png")
    Image.fromarray(levels_of(9)).save(folder / "e.png")
    return folder


def extract(folder: str, output: str, fps: str = "5", die_after: str = "") -> None:
    """An extraction by a tiny grid; with `die_after` its process is killed after so many batches."""
    if die_after:
        kill_after(int(die_after))
    extract_clips(
        named_clips([folder]),
        source=tiny.tiny_grid(),
        image_processor=UpDownImageProcessor(size={"height": 64, "width": 64}),
        output=output,
        choice=FrameChoice(ClipSampling(fps=float(fps)), frame_rate=5.0),
        batch_size=4,
        accelerator=new_accelerator(),
    )


def kill_after(count: int) -> None:
    """Have this process killed by SIGKILL when it begins another batch than the first `count`."""
    numbers, add = itertools.count(), module.ClipExtractor.add

    module.ClipExtractor.add = lambda self, *rest: (  # type: ignore[method-assign,assignment]
        os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == count else add(self, *rest)
    )


def test_frames_have_their_seconds_and_their_clips(clips: Path, tmp_path: Path) -> None:
    extract(str(clips), str(tmp_path / "store"))
    store = RegionStore(tmp_path / "store")
    found = clips_in_store(store)
    assert {name: len(frames) for name, frames in found.items()} == {
        "a.mp4": 10,
        "b.avi": 4,
        "c.mkv": 6,
        "d": 3,
        "e.png": 1,
    }
    assert store.image_ids[found["a.mp4"][3]] == "a.mp4#000006" and store.fingerprint["frames_of_clips"]["fps"] == 5.0
    batch = batch_of_clips(store, ["e.png", "a.mp4"], clips=found)
    assert batch.region_features.shape == (2, 90, 96) and batch.region_mask.sum(dim=1).tolist() == [9, 90]
    np.testing.assert_allclose(batch.region_seconds[1, ::9], np.arange(10) / 5, atol=1e-6)
    source, frame = tiny.tiny_grid(), load_clip(clips / "a.mp4", ClipSampling(num_frames=100)).frames[6]
    pixels = UpDownImageProcessor(size={"height": 64, "width": 64})(frame, return_tensors="pt").pixel_values
    with torch.no_grad():
        alone = source(pixels).region_features[0]
    assert torch.allclose(batch.region_features[1, 27:36], alone, atol=2e-3 * float(alone.abs().max()))
    with pytest.raises(KeyError, match="clip 'z.mp4' is not in the store .* of 5 clips; extract it too"):
        batch_of_clips(store, ["z.mp4"])


def test_the_end_after_three_kills_is_that_of_an_undisturbed_run(clips: Path, tmp_path: Path) -> None:
    extract(str(clips), str(tmp_path / "whole"))
    held = []
    for number in ("1", "3", "5"):  # those that were done before are counted too
        process: Any = new_process(extract, str(clips), str(tmp_path / "killed"), "5", number)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        held.append(len(RegionStore(tmp_path / "killed")))
    assert held == [4, 12, 18]
    extract(str(clips), str(tmp_path / "killed"))
    assert files_differ(tmp_path / "whole", tmp_path / "killed") == ""


def test_a_finished_store_is_left_alone(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract(str(clips), str(tmp_path / "store"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    monkeypatch.setattr(module.ClipExtractor, "clip_frames", lambda self, clips: pytest.fail("decoded again"))
    extract(str(clips), str(tmp_path / "store"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before
    with pytest.raises(
        ValueError, match="another fingerprint .frames_of_clips: stored .*'fps': 5.0.* use another folder"
    ):
        extract(str(clips), str(tmp_path / "store"), "2")


def test_several_processes_share_the_clips(clips: Path, tmp_path: Path) -> None:
    extract(str(clips), str(tmp_path / "one"))
    assert in_processes(extract, str(clips), str(tmp_path / "two"), num_processes=2) == [0, 0]
    one, two = (RegionStore(tmp_path / name) for name in ("one", "two"))
    assert sorted(one.image_ids) == sorted(two.image_ids)
    shares = [json.loads((tmp_path / "two" / name).read_text())["shards"] for name in ("store.json", "store-1.json")]
    assert [sum(shard["photos"] for shard in part) for part in shares] == [17, 7]  # clips 1, 3, 5 and 2, 4


def test_frames_with_nothing_new_are_skipped(tmp_path: Path) -> None:
    frames = [levels_of(1)] * 4 + [levels_of(9)] * 3 + [levels_of(1)] * 3
    (tmp_path / "clip").mkdir()
    for number, levels in enumerate(frames):
        Image.fromarray(levels).save(tmp_path / "clip" / f"{number}.png")
    choice = FrameChoice(ClipSampling(num_frames=10), skip_below=0.05)
    found = extract_clips(
        [NamedClip("x", str(tmp_path / "clip"))],
        source=tiny.tiny_grid(),
        image_processor=UpDownImageProcessor(size={"height": 64, "width": 64}),
        output=tmp_path / "store",
        choice=choice,
    )
    assert RegionStore(tmp_path / "store").image_ids == [f"x#{place:06d}" for place in (0, 4, 7, 9)]
    assert (found.num_frames, found.num_skipped, found.broken) == (4, 6, [])


def test_a_clip_that_cannot_be_read_costs_no_other(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_text("no video " * 99)
    (tmp_path / "list.csv").write_text(
        f"clip,clip_id,start_seconds,end_seconds\nbad.mp4,,,\n{clips / 'a.mp4'},part,1,1.5\n{clips / 'b.avi'},,9,\n"
    )
    assert listed_clips(tmp_path / "list.csv")[1] == NamedClip("part", str(clips / "a.mp4"), 1.0, 1.5)
    tiny.tiny_grid().save_pretrained(tmp_path / "grid")
    UpDownImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "grid")
    arguments = ["extract", tmp_path / "list.csv", "--source", tmp_path / "grid", "--output", tmp_path / "store"]
    assert cli.main([*map(str, arguments), "--fps", "10"]) == 1
    shown = capsys.readouterr()
    assert "the regions of 5 frames of 3 clips, 5 of them new, " in shown.out
    assert "bad.mp4: " in shown.err and "b.avi: the span from 9 s to its end lies outside of " in shown.err
    assert clips_in_store(RegionStore(tmp_path / "store")).keys() == {"part"}
    (tmp_path / "list.csv").write_text(f"clip,clip_id,start_seconds,end_seconds\n{clips / 'a.mp4'},part,0,1\n")
    assert cli.main([*map(str, arguments), "--fps", "10"]) == 2
    assert "1 of 1 clips are not those that the store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", "1"], "--seed draws a random frame of each of --segments"),
        (["--start", "3", "--end", "1"], "start_seconds is 3, which is not before end_seconds, 1"),
    ],
)
def test_options_that_contradict_are_refused(
    clips: Path, tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["extract", str(clips), "--output", str(tmp_path / "no"), *options]) == 2
    assert told in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_folders_say_what_their_clips_are(clips: Path, tmp_path: Path) -> None:
    assert [path.name for path in clips_in(clips)] == ["a.mp4", "b.avi", "c.mkv", "d", "e.png"]
    assert clips_in(clips / "d") == [clips / "d"]  # frames alone are one clip
    with pytest.raises(ValueError, match="holds no clip .* and no folder of frames"):
        clips_in(tmp_path)
    with pytest.raises(ValueError, match="several clips have the id a.mp4: extract the folders one by one"):
        named_clips([str(clips), str(clips / "a.mp4")])
    (tmp_path / "t.csv").write_text("clip,start_seconds\na.mp4,soon\n")
    with pytest.raises(ValueError, match="t.csv has 'soon' as start_seconds, which is no number of seconds"):
        listed_clips(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("film\na.mp4\n")
    with pytest.raises(ValueError, match="u.csv has no column clip or video or file_name or path; it has film"):
        listed_clips(tmp_path / "u.csv")


def test_batches_of_large_frames_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(8, 4)] * 5 + [(16, 8)] * 3 + [(64, 64)] * 2
    frames = [ClipFrame(f"a#{n}", "a", float(n), Image.new("RGB", size), 0) for n, size in enumerate(sizes)]
    monkeypatch.setattr(module, "BATCH_BYTES", 2 * 16 * 8 * 4)
    assert [len(batch) for batch in batches(iter(frames), 4)] == [4, 1, 2, 1, 1, 1]
    assert [len(batch) for batch in batches(iter(frames), 1)] == [1] * 10


def test_a_thread_hands_over_errors_and_ends() -> None:
    with pytest.raises(ZeroDivisionError):
        list(decoded_ahead(1 // (3 - number) for number in range(9)))
    endless = decoded_ahead(itertools.count())
    assert [next(endless) for _ in range(5)] == [0, 1, 2, 3, 4]
    endless.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "clip-decoding"]
