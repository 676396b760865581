"""Clips with captions: real files, the documented layouts where none is at hand, and broken ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.clips import captions
from training.data.clips.captions import read_msrvtt, read_msvd, read_vatex
from training.data.splits import NoSuchSplitError


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# -- MSR-VTT ----------------------------------------------------------------------------------------------------------

INFO = {
    "videos": [
        {"video_id": "video0", "split": "train", "start time": 137.72, "end time": 149.44},
        {"video_id": "video1", "split": "validate"},
        {"video_id": "video2", "split": "test"},
    ],
    "sentences": [
        {"video_id": "video1", "caption": "b"},
        {"video_id": "video0", "caption": "a"},
        {"video_id": "video0", "caption": " "},
        {"video_id": "video2", "caption": "c"},
        {"video_id": "video1", "caption": "d"},
    ],
}


def test_the_split_1k_a_as_it_is() -> None:
    path = shared("data/official_formats/msrvtt/MSRVTT_JSFUSION_test.csv")
    rows = read_msrvtt(path)
    assert len(rows) == 1000 and set(rows["split"]) == {"test"} and len(set(rows["clip_id"])) == 1000
    lines = [line.split(";") for line in path.read_text().splitlines()[1:]]
    assert [(row["clip_id"], row["captions"]) for row in rows] == [(line[2], [line[3]]) for line in lines]


def test_videodatainfo_in_the_documented_layout(tmp_path: Path) -> None:
    for name in ("video0.mp4", "video1.mp4", "video2.mp4"):
        (tmp_path / name).touch()
    path = written(tmp_path / "videodatainfo.json", INFO)
    with pytest.warns(UserWarning, match=r"left out 1 captions that are empty or no text \(first: video0\)"):
        rows = read_msrvtt(path, clips=tmp_path)
    assert rows["captions"] == [["a"], ["b", "d"], ["c"]] and rows["split"] == ["train", "val", "test"]
    assert (rows[0]["source_start_seconds"], rows[0]["source_end_seconds"]) == (137.72, 149.44)
    assert rows["clip"] == [str(tmp_path / f"video{number}.mp4") for number in range(3)]


@pytest.mark.filterwarnings("ignore:.*left out 1 captions")
def test_lists_give_the_splits_in_place_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "MSRVTT_data.json", INFO)
    lists = {
        "train": written(tmp_path / "MSRVTT_train.9k.csv", "video_id\nvideo2\n"),
        "test": written(tmp_path / "MSRVTT_JSFUSION_test.csv", "key;vid_key;video_id;sentence\nr0;m1;video1;e, f\n"),
    }
    rows = read_msrvtt(path, split_lists=lists)
    assert rows["clip_id"] == ["video1", "video2"] and rows["captions"] == [["e, f"], ["c"]]
    assert rows["split"] == ["test", "train"] and read_msrvtt(path, split_lists=lists, split="train")["captions"] == [
        ["c"]
    ]
    with pytest.raises(ValueError, match=r"the video 'video1' is listed twice \(in test before\)"):
        read_msrvtt(path, split_lists={"test": lists["test"], "train": lists["test"]})
    with pytest.raises(NoSuchSplitError):
        read_msrvtt(lists["test"], split="train")


def test_captions_of_no_video_are_refused(tmp_path: Path) -> None:
    content = INFO | {"sentences": [{"video_id": "video9", "caption": "x"}]}
    with pytest.raises(ValueError, match="has a caption of the video 'video9', which is not among its videos"):
        read_msrvtt(written(tmp_path / "a.json", content))
    with pytest.raises(ValueError, match="has no list 'videos'"):
        read_msrvtt(written(tmp_path / "b.json", {"sentences": []}))


# -- MSVD -------------------------------------------------------------------------------------------------------------


def test_msvd_as_it_is() -> None:
    path = shared("data/video/msvd_captions.json.gz")
    rows, given = read_msvd(path), json.loads(gzip.decompress(path.read_bytes()))
    own = {record["id"].removesuffix(".avi"): 0 for record in given}
    for record in given:
        count = len(record["caption"]) if isinstance(record["caption"], list) else 1
        own[record["id"].removesuffix(".avi")] += count
    assert dict(zip(rows["clip_id"], map(len, rows["captions"]), strict=True)) == own
    seconds = zip(rows["source_start_seconds"], rows["source_end_seconds"], strict=True)
    cuts = zip(rows["clip_id"], seconds, strict=True)
    assert all(name.endswith(f"_{start:g}_{end:g}") for name, (start, end) in cuts)


def test_msvd_in_its_own_layouts(tmp_path: Path) -> None:
    header = "VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n"
    lines = 'mv8,33,46,1,clean,20,English,"A cat, a dog"\nmv8,33,46,2,clean,9,German,Eine Katze\n'
    lines += "mv8,50,60,3,x,1,English,B\n"
    table = read_msvd(written(tmp_path / "corpus.csv", header + lines))
    assert table["clip_id"] == ["mv8_33_46", "mv8_50_60"] and table["captions"] == [["A cat, a dog"], ["B"]]
    german = read_msvd(tmp_path / "corpus.csv", language="German", file_split="test")
    assert german["captions"] == [["Eine Katze"]] and german["split"] == ["test"]
    text = "# of the corpus\n-4wsu_5_15 a squirrel eats\n-4wsu_5_15 it eats a nut\nmv8_33_46 x\n"
    rows = read_msvd(written(tmp_path / "AllVideoDescriptions.txt", text))
    assert rows["captions"] == [["a squirrel eats", "it eats a nut"], ["x"]]
    assert rows["source_start_seconds"] == [5, 33] and rows["clip_id"][0] == "-4wsu_5_15"


def test_broken_files_of_msvd_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="has a record without id and caption"):
        read_msvd(written(tmp_path / "a.json", [{"id": "x"}]))
    packed = tmp_path / "b.json.gz"
    packed.write_bytes(gzip.compress(b'[{"id": "a_1_2.avi", "caption": "x"}]')[:-9])
    with pytest.raises(ValueError, match="is no packed JSON"):
        read_msvd(packed)
    packed.write_bytes(b"[]")
    with pytest.raises(ValueError, match="cannot read .*b.json.gz: Not a gzipped file"):
        read_msvd(packed)
    packed.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(ValueError, match="holds no list of objects"):
        read_msvd(packed)
    monkeypatch.setattr(captions, "MOST_BYTES", 1)
    with pytest.raises(ValueError, match="unpacks to over"):
        read_msvd(packed)


# -- VATEX ------------------------------------------------------------------------------------------------------------


def test_vatex_in_the_documented_layout(tmp_path: Path) -> None:
    content = [{"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": ["a", "b"], "chCap": ["c"]}]
    path = written(tmp_path / "vatex_training_v1.0.json", content)
    (row,) = read_vatex(path)
    assert (row["captions"], row["split"]) == (["a", "b"], "train") and row["source_end_seconds"] == 132
    assert read_vatex(path, language="zh")["captions"] == [["c"]]
    hidden = read_vatex(written(tmp_path / "vatex_private_test.json", [{"videoID": "x_000001_000002"}]))
    assert hidden["captions"] == [[]] and hidden["split"] == ["test"]
    with pytest.raises(ValueError, match="language is 'de'; choose en, zh"):
        read_vatex(path, language="de")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="record 0 has no videoID"):
        read_vatex(written(tmp_path / "x.json", [{"id": 1}]))
