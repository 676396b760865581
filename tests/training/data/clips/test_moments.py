"""Sentences with moments: the real files of official formats, and files that are broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.clips.moments import (
    didemo_pieces,
    read_activitynet_captions,
    read_charades_sta,
    read_didemo,
    read_qvhighlights,
)
from training.metrics.video import didemo, temporal_grounding_map
from training.metrics.video.didemo import SEGMENTS

OFFICIAL = "data/official_formats"


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# -- Charades-STA -----------------------------------------------------------------------------------------------------


def test_charades_sta_as_it_is() -> None:
    path = shared(f"{OFFICIAL}/charades_sta/charades_sta_test_first60.txt")
    rows = read_charades_sta(path)
    assert len(rows) == 60 and set(rows["split"]) == {"test"} and set(rows["clip"]) == {None}
    assert (rows[0]["clip_id"], rows[0]["spans"], rows[0]["duration_seconds"]) == ("3MSZA", [[24.3, 30.4]], None)
    lines = path.read_text().splitlines()
    assert [f"{row['clip_id']} {row['spans'][0][0]} {row['spans'][0][1]}##{row['caption']}" for row in rows] == lines


def test_charades_sta_with_clips_and_their_lengths(tmp_path: Path) -> None:
    path = written(
        tmp_path / "charades_sta_train.txt", "A 1.0 5.5##x y.\nA 4.0 3.0##z.\nB 9 12##u.\nB 0 12##v.\nA 0 1##\n"
    )
    lengths = written(tmp_path / "Charades_v1_train.csv", "id,subject,length\nA,x,30.5\nB,y,8.0\n")
    (tmp_path / "A.mp4").touch()
    with pytest.warns(
        UserWarning,
        match=r"left out 1 spans that start after they end \(first: 2: \[4.0, 3.0\]\); 2 spans that lie outside of "
        r"their clip \(first: 3: \[9.0, 12.0\]\); 1 sentences that are empty or no text \(first: 5\)",
    ):
        (row,) = read_charades_sta(path, clips=tmp_path, durations=lengths)
    assert row["clip"] == str(tmp_path / "A.mp4") and row["duration_seconds"] == 30.5 and row["moment_id"] == "1"
    assert row["spans"] == [[1.0, 5.5]] and row["split"] == "train"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 2 is no `CLIP START END##SENTENCE`: 'A 1.0##x'"):
        read_charades_sta(written(tmp_path / "a.txt", "A 1 2##x\nA 1.0##x\n"))
    with pytest.raises(ValueError, match="line 1 has 'one' where a number is expected"):
        read_charades_sta(written(tmp_path / "b.txt", "A one 2##x\n"))
    with (
        pytest.warns(UserWarning, match="start after"),
        pytest.raises(ValueError, match="holds no row that can be used"),
    ):
        read_charades_sta(written(tmp_path / "c.txt", "A 3 2##x\n"))


# -- ActivityNet Captions ---------------------------------------------------------------------------------------------

VIDEO = {"duration": 30.0, "timestamps": [[0.5, 9], [20, 31], [40, 50], [9, 3]], "sentences": [" A.", "B.", "C.", "D."]}


def test_activitynet_captions_in_the_documented_layout(tmp_path: Path) -> None:
    (tmp_path / "abc.mkv").touch()
    path = written(tmp_path / "val_1.json", {"v_abc": VIDEO})
    with pytest.warns(
        UserWarning, match="left out 1 spans that lie outside .*v_abc-2.*; 1 spans that start after .*v_abc-3"
    ):
        rows = read_activitynet_captions(path, clips=tmp_path)
    assert rows["moment_id"] == ["v_abc-0", "v_abc-1"] and rows["caption"] == [" A.", "B."]
    assert rows["spans"] == [[[0.5, 9.0]], [[20.0, 30.0]]] and rows["clip"] == [str(tmp_path / "abc.mkv")] * 2
    assert set(rows["split"]) == {"val"} and set(rows["duration_seconds"]) == {30.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([VIDEO], "holds no object of videos"),
        ({"v": [1]}, "the video 'v' has no duration in seconds"),
        ({"v": VIDEO | {"sentences": ["A."]}}, "the video 'v' needs sentences and timestamps, two lists of one length"),
        ({"v": VIDEO | {"timestamps": None}}, "needs sentences and timestamps"),
    ],
)
def test_other_layouts_of_activitynet_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_activitynet_captions(written(tmp_path / "train.json", content))


# -- DiDeMo -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_didemo_as_it_is(split: str) -> None:
    path = shared(f"{OFFICIAL}/didemo/{split}_data.json")
    rows, given = read_didemo(path), json.loads(path.read_text())
    assert len(rows) == len(given) == 100 and set(rows["split"]) == {split}
    assert [didemo_pieces(spans) for spans in rows["spans"]] == [record["times"] for record in given]
    assert rows["moment_id"] == [str(record["annotation_id"]) for record in given]
    assert rows["spans"][0][0] == [5.0 * given[0]["times"][0][0], 5.0 * given[0]["times"][0][1] + 5]
    scores = didemo([SEGMENTS] * 100, [didemo_pieces(spans) for spans in rows["spans"]])  # 21 fits short videos too
    assert 0 < scores["rank1"] < scores["rank5"] < 1


def test_pieces_that_a_video_does_not_have_are_left_out(tmp_path: Path) -> None:
    record = {"video": "a.mov", "num_segments": 5, "annotation_id": 7, "description": "x"}
    path = written(tmp_path / "train_data.json", [record | {"times": [[0, 0], [5, 5], [3, 2]]}])
    with pytest.warns(UserWarning, match="1 spans that lie outside .*; 1 spans that start after"):
        (row,) = read_didemo(path)
    assert row["spans"] == [[0.0, 5.0]] and row["duration_seconds"] is None
    with pytest.raises(ValueError, match="record 0 needs video, num_segments and times of two whole numbers each"):
        read_didemo(written(tmp_path / "b.json", [record | {"times": [[0.5, 1]]}]))
    with pytest.raises(ValueError, match="record 0 has no 'times'"):
        read_didemo(written(tmp_path / "c.json", [record]))


# -- QVHighlights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train_release", "val_release", "test_release", "test_with_gt"])
def test_qvhighlights_as_it_is(name: str) -> None:
    path = shared(f"{OFFICIAL}/qvhighlights/highlight_{name}.jsonl")
    rows, given = read_qvhighlights(path), [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == len(given) == 100 and set(rows["split"]) == {name.partition("_")[0]}
    for row, record in zip(rows, given, strict=True):
        assert row["spans"] == record.get("relevant_windows", [])
        assert row["relevant_clip_ids"] == record.get("relevant_clip_ids", [])
        assert row["saliency_scores"] == record.get("saliency_scores", [])
        assert (row["moment_id"], row["caption"]) == (str(record["qid"]), record["query"])
        assert f"_{row['source_start_seconds']}_{row['source_end_seconds']}" in record["vid"]


def test_rows_of_qvhighlights_are_what_the_metric_takes() -> None:
    rows = read_qvhighlights(shared(f"{OFFICIAL}/qvhighlights/highlight_val_release.jsonl"))
    truth = [
        {"qid": row["moment_id"], "duration": row["duration_seconds"], "relevant_windows": row["spans"]} for row in rows
    ]
    found = [{"qid": own["qid"], "pred_relevant_windows": [[*w, 1] for w in own["relevant_windows"]]} for own in truth]
    scores = temporal_grounding_map(found, truth)
    assert scores["r1_95"] == 1 and 0.95 < scores["map"] < 1  # the eleventh true window cannot be found


QUERY = {
    "qid": 1,
    "query": "x",
    "vid": "a_0.0_150.0",
    "duration": 150,
    "relevant_windows": [[0, 4], [9, 3], [148, 160]],
    "relevant_clip_ids": [0],
    "saliency_scores": [[1, 2, 3]],
}


def test_faulty_records_of_qvhighlights(tmp_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="1 spans that start after they end .*; 1 spans that lie outside of their clip"
    ):
        (row,) = read_qvhighlights(written(tmp_path / "val.jsonl", json.dumps(QUERY)))
    assert row["spans"] == [[0.0, 4.0]]
    for change, message in (
        ({"saliency_scores": []}, "record 0 needs relevant_clip_ids, and in saliency_scores three people's ratings"),
        ({"saliency_scores": [[1, 2]]}, "three people's ratings"),
        ({"vid": None}, "record 0 has no 'vid'"),
        ({"duration": "150"}, "record 0 needs a text vid and a duration in seconds"),
    ):
        with pytest.raises(ValueError, match=message):
            read_qvhighlights(written(tmp_path / "val.jsonl", json.dumps(QUERY | change)))
