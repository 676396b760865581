"""Formats of clips by their names."""

import inspect
import json
from pathlib import Path

import pytest

from training.data.clips.formats import (
    CLIP_CAPTION_FORMATS,
    CLIP_QUESTION_FORMATS,
    MOMENT_FORMATS,
    Readers,
    load_clips,
)
from training.data.clips.rows import CLIP_QUESTION_FEATURES


def test_unknown_formats_and_options_are_named() -> None:
    with pytest.raises(
        ValueError, match="unknown clip format 'tacos'; choose one of charades_sta, activitynet_captions"
    ):
        load_clips("tacos", formats=MOMENT_FORMATS)
    with pytest.raises(ValueError, match="the clip format 'msvd_qa' does not take prefix; its options are annotations"):
        load_clips("msvd_qa", formats=CLIP_QUESTION_FORMATS, annotations="a.json", prefix="x")


@pytest.mark.parametrize("formats", [CLIP_CAPTION_FORMATS, CLIP_QUESTION_FORMATS, MOMENT_FORMATS])
def test_every_reader_takes_clips_and_splits(formats: Readers) -> None:
    for reader in formats.values():
        assert {"clips", "split", "file_split"} <= inspect.signature(reader).parameters.keys()


def test_msvd_qa_has_names_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "test_qa.json"
    path.write_text(json.dumps([{"id": 5, "video_id": 1301, "question": "who?", "answer": "man"}]))
    rows = load_clips("msvd_qa", formats=CLIP_QUESTION_FORMATS, annotations=path)
    assert rows["clip_id"] == ["vid1301"] and rows.features == CLIP_QUESTION_FEATURES
    assert load_clips("msrvtt_qa", formats=CLIP_QUESTION_FORMATS, annotations=path)["clip_id"] == ["video1301"]
