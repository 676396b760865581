"""Files of clips, spans that can be used, questions that can be used."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.boxes.rows import LeftOut
from training.data.clips.rows import (
    CLIP_CAPTION_FEATURES,
    clip_dataset,
    clip_paths,
    number_in,
    question_row,
    span_fault,
    usable_spans,
)
from training.data.splits import NoSuchSplitError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def test_clips_are_found_by_their_names_with_any_ending(tmp_path: Path) -> None:
    touched(tmp_path, "a_60.0_210.0.mp4", "b.mov.avi", "c.webm", "c.txt", "0101/d.mp4", "e.MP4", "f.mp4", "f.avi")
    names = [("a_60.0_210.0",), ("b.mov",), ("c.gif",), ("0101/d",), ("sub/e",), ("v_c", "c"), ("f.mp4",), ("f",)]
    found = [str(Path(path or "").relative_to(tmp_path)) for path in clip_paths(names, tmp_path)]
    assert found == ["a_60.0_210.0.mp4", "b.mov.avi", "c.webm", "0101/d.mp4", "e.MP4", "c.webm", "f.mp4", "f.avi"]


def test_real_clips_are_found(tmp_path: Path) -> None:
    for path in shared("data/video").glob("msvd_*.avi"):
        shutil.copyfile(path, tmp_path / path.name.removeprefix("msvd_"))
    (path,) = clip_paths([("UXs3eq68ZjE_250_255",)], tmp_path)
    assert path is not None and Path(path).stat().st_size == 1_202_122


def test_missing_clips_are_told(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.txt")
    with pytest.warns(UserWarning, match="2 clips are not in .* and are left out: b, c"):
        assert [path is None for path in clip_paths([("a",), ("b",), ("c",), ("c",)], tmp_path)] == [False, *[True] * 3]
    with pytest.raises(ValueError, match=r"none of the clips is in .* \(looked for b, c\); is it the right folder"):
        clip_paths([("b",), ("c",)], tmp_path)
    with pytest.raises(ValueError, match="there is no folder of clips"):
        clip_paths([("a",)], tmp_path / "none")
    for name in ("../a", "/etc/a", "x/../../a", "file://a"):
        with pytest.raises(ValueError, match="leads out of"):
            clip_paths([(name,)], tmp_path)


@pytest.mark.parametrize(
    ("span", "duration", "fault"),
    [
        ([0, 5], None, ""),
        ([5, 5], 9, ""),
        ([0, 11], 9, ""),  # rounding
        ([0, 11.5], 9, "lie outside of their clip"),
        ([9, 10], 9, "lie outside of their clip"),
        ([-1, 3], None, "lie outside of their clip"),
        ([4, 3], None, "start after they end"),
        ([4, float("nan")], None, "are not two numbers"),
        ([True, 3], None, "are not two numbers"),
        ([1, 2, 3], None, "are not two numbers"),
        (None, None, "are not two numbers"),
        (["0", "1"], None, "are not two numbers"),
    ],
)
def test_faults_of_spans(span: Any, duration: float | None, fault: str) -> None:
    assert span_fault(span, duration) == fault


def test_usable_spans_end_with_their_clip_and_others_are_counted() -> None:
    left_out = LeftOut("file")
    spans = usable_spans([[0, 10], [3, 2], [7, 6], [20, 30]], duration=9.5, left_out=left_out, example="q7")
    assert spans == [(0.0, 9.5)]
    with pytest.warns(
        UserWarning, match=r"file: left out 2 spans that start after they end \(first: q7: \[3, 2\]\); 1 "
    ):
        left_out.warn()


def test_numbers_in_tables() -> None:
    assert number_in("24.30", "here") == 24.3
    for text in ("x", None, "nan"):
        with pytest.raises(ValueError, match="here has .* where a number is expected"):
            number_in(text, "here")


def test_questions_that_cannot_be_used_are_counted() -> None:
    left_out, seen = LeftOut("file"), set[str]()
    good = {"question_id": "1", "question": "what?", "choices": ["a", "b"], "correct_choice": 1}
    row = question_row(good, left_out=left_out, seen=seen)
    assert row is not None and (row["answer"], row["answers"]) == ("b", ["b"])
    hidden = question_row(good | {"question_id": "2", "correct_choice": -1}, left_out=left_out, seen=seen)
    assert hidden is not None and (hidden["answer"], hidden["answers"]) == (None, [])
    for change in ({}, {"question_id": "3", "question": " "}, {"question_id": "4", "correct_choice": 2}):
        assert question_row(good | change, left_out=left_out, seen=seen) is None
    assert question_row({"question_id": "5", "question": "x", "answers": [3]}, left_out=left_out, seen=seen) is None
    assert sorted(left_out.counts.values()) == [1, 1, 2]


def test_rows_of_a_split_with_their_files(tmp_path: Path) -> None:
    rows = [{"clip_id": n, "names": (n,), "captions": ["x"], "split": s} for n, s in (("a", "train"), ("b", "test"))]
    given: Any = {"source": "file", "left_out": LeftOut("file")}
    data = clip_dataset(rows, CLIP_CAPTION_FEATURES, clips=touched(tmp_path, "b.mp4"), split="test", **given)
    assert data["clip"] == [str(tmp_path / "b.mp4")] and data["source_start_seconds"] == [None]
    with pytest.raises(NoSuchSplitError, match="file has no image of the split 'val'"):
        clip_dataset(rows, CLIP_CAPTION_FEATURES, clips=None, split="val", **given)
    with pytest.raises(ValueError, match="file holds no row that can be used"):
        clip_dataset([], CLIP_CAPTION_FEATURES, clips=None, split=None, **given)
