"""Sentences with the moments of a clip that they are about: Charades-STA, ActivityNet Captions, DiDeMo, QVHighlights.

    annotation file + folder of clips --read_charades_sta | read_activitynet_captions | read_didemo |
    read_qvhighlights--> rows of `rows.py`

Spans are [start, end] in seconds from the beginning of the clip.
"""

import re
from collections.abc import Iterator
from typing import Any

import datasets

from training.data.boxes.rows import LeftOut
from training.data.clips.rows import MOMENT_FEATURES, Row, clip_dataset, is_number, is_text, number_in, usable_spans
from training.data.files import PathLike, column, id_text, read_json, read_json_lines, read_lines, read_table
from training.data.json_stream import stream_records
from training.data.statements.rows import file_word

CHARADES_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+?)\s*##(.*)")
PIECE_SECONDS = 5  # of DiDeMo
PEOPLE = 3  # who rated QVHighlights' clips
CUT = re.compile(r"_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)$")  # from and to where a clip was cut, in QVHighlights' ids


def read_charades_sta(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    durations: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """Charades-STA's text files (Gao et al. 2017), `3MSZA 24.3 30.4##person turn a light on.` a line.

    Args:
        annotations: `charades_sta_train.txt` or `charades_sta_test.txt`.
        clips: the folder of Charades' videos, `3MSZA.mp4`; None reads none.
        durations: Charades' own table (`Charades_v1_train.csv`), whose `id` and `length` tell how long a clip is.
        split: keep only this split.
        file_split: the file's split where its name does not tell.

    Returns:
        Rows of `MOMENT_FEATURES` with one span each; `moment_id` is the number of the line, from 1. Left out, with one
        warning that counts them: spans that start after they end or lie outside of their clip, and empty sentences.

    Raises:
        ValueError: naming file and line, for one of another layout; and as `clip_dataset`.
    """
    word, left_out = file_word(annotations, file_split), LeftOut(annotations)
    seconds: dict[str, float] = {}
    if durations is not None:
        table = read_table(durations)
        pairs = zip(column(table, "id", durations), column(table, "length", durations), strict=True)
        seconds = {name: number_in(length, f"{durations}: the clip {name!r}") for name, length in pairs}
    rows: list[Row] = []
    for number, line in enumerate(read_lines(annotations), start=1):
        found = CHARADES_LINE.fullmatch(line)
        if found is None:
            raise ValueError(
                f"{annotations}, line {number} is no `CLIP START END##SENTENCE`: {line[:60]!r}; is it the file of "
                "another format?"
            )
        name, *ends, caption = found.groups()
        span = [number_in(end, f"{annotations}, line {number}") for end in ends]
        row = {"moment_id": str(number), "clip_id": name, "names": (name,), "split": word}
        rows += _moments(row, caption.strip(), [span], seconds.get(name), left_out)
    return clip_dataset(rows, MOMENT_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def read_activitynet_captions(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """ActivityNet Captions' JSON (Krishna et al. 2017): `duration`, `timestamps`, `sentences` by the video's id.

    Written after the documented layout; no real file was at hand.

    Args:
        annotations: `train.json`, `val_1.json` or `val_2.json`.
        clips: the folder of the videos, `v_QOlSCBRmfWY.mp4` (with or without `v_`).
        split, file_split: as for `read_charades_sta`.

    Returns:
        A row a sentence; `moment_id` is the id of the video and the sentence's number in it, from 0. Left out as by
        `read_charades_sta`.

    Raises:
        ValueError: for a file of another layout, unequal numbers of sentences and spans; and as `clip_dataset`.
    """
    content, word, left_out = read_json(annotations), file_word(annotations, file_split), LeftOut(annotations)
    if not isinstance(content, dict):
        raise ValueError(f"{annotations} holds no object of videos; is it the file of another format?")
    rows: list[Row] = []
    for name, video in content.items():
        place = f"{annotations}: the video {name!r}"
        if not isinstance(video, dict) or not is_number(video.get("duration")):
            raise ValueError(f"{place} has no duration in seconds; is it the file of another format?")
        captions, spans = video.get("sentences"), video.get("timestamps")
        if not isinstance(captions, list) or not isinstance(spans, list) or len(captions) != len(spans):
            raise ValueError(f"{place} needs sentences and timestamps, two lists of one length")
        names = (name, name.removeprefix("v_"))
        for number, (caption, span) in enumerate(zip(captions, spans, strict=True)):
            row = {"moment_id": f"{name}-{number}", "clip_id": name, "names": names, "split": word}
            rows += _moments(row, caption, [span], video["duration"], left_out)
    return clip_dataset(rows, MOMENT_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def read_didemo(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """DiDeMo's JSON (Hendricks et al. 2017): `description`, `video`, and `times`, the pieces of 5 s that people chose.

    Args:
        annotations: `train_data.json`, `val_data.json` or `test_data.json`.
        clips: the folder of the videos, by their `video` names, also with another ending.
        split, file_split: as for `read_charades_sta`.

    Returns:
        A row a description, with the span of every person: the pieces [s, e], both inclusive, are 5 s to 5 (e + 1)
        seconds (`didemo_pieces` goes back). `duration_seconds` is null: a video is up to 5 s shorter than its pieces.
        Left out as by `read_charades_sta`.

    Raises:
        ValueError: naming the record, for one of another layout; and as `clip_dataset`.
    """
    word, left_out = file_word(annotations, file_split), LeftOut(annotations)
    rows: list[Row] = []
    for number, record in enumerate(stream_records(annotations)):
        place = f"{annotations}: record {number}"
        name, times, pieces = (_field(record, key, place) for key in ("video", "times", "num_segments"))
        if not isinstance(name, str) or not is_number(pieces) or not _are_pieces(times):
            raise ValueError(f"{place} needs video, num_segments and times of two whole numbers each")
        row = {
            "moment_id": id_text(_field(record, "annotation_id", place)),
            "clip_id": name,
            "names": (name,),
            "split": word,
        }
        spans = [[PIECE_SECONDS * start, PIECE_SECONDS * (end + (end >= start))] for start, end in times]
        for own in _moments(row, record.get("description"), spans, PIECE_SECONDS * pieces, left_out):
            rows.append(own | {"duration_seconds": None})
    return clip_dataset(rows, MOMENT_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def didemo_pieces(spans: list[list[float]]) -> list[list[int]]:
    """The pieces of 5 s, both ends inclusive, of spans that `read_didemo` made, as the metric `didemo` takes them.

    >>> didemo_pieces([[20.0, 25.0], [0.0, 15.0]])
    [[4, 4], [0, 2]]
    """
    return [[round(start / PIECE_SECONDS), round(end / PIECE_SECONDS) - 1] for start, end in spans]


def read_qvhighlights(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """QVHighlights' JSONL (Lei et al. 2021): `qid`, `query`, `vid`, `duration`, and the truth where it is given.

    Args:
        annotations: `highlight_train_release.jsonl` and its like.
        clips: the folder of the videos, `NUsG9BgSes0_210.0_360.0.mp4`.
        split, file_split: as for `read_charades_sta`.

    Returns:
        A row a query, with its windows as `spans`, `relevant_clip_ids` (numbers of clips of 2 s) and `saliency_scores`
        (three people's ratings 0..4 of each); lists without an element where the truth is hidden.
        `source_start_seconds` and `source_end_seconds`: where the clip lies in the video that it was cut from. Left out
        as by `read_charades_sta`.

    Raises:
        ValueError: naming the record, for one of another layout, or with clips and ratings that do not fit each other;
            and as `clip_dataset`.
    """
    word, left_out = file_word(annotations, file_split), LeftOut(annotations)
    rows: list[Row] = []
    for number, record in enumerate(read_json_lines(annotations)):
        place = f"{annotations}: record {number}"
        name, qid, duration = (_field(record, key, place) for key in ("vid", "qid", "duration"))
        if not isinstance(name, str) or not is_number(duration):
            raise ValueError(f"{place} needs a text vid and a duration in seconds")
        numbers, ratings = record.get("relevant_clip_ids", []), record.get("saliency_scores", [])
        if not _are_ratings(numbers, ratings):
            raise ValueError(f"{place} needs relevant_clip_ids, and in saliency_scores three people's ratings of each")
        cut = CUT.search(name)
        row = {
            "moment_id": id_text(qid),
            "clip_id": name,
            "names": (name,),
            "split": word,
            "relevant_clip_ids": numbers,
            "saliency_scores": ratings,
            "source_start_seconds": float(cut[1]) if cut else None,
            "source_end_seconds": float(cut[2]) if cut else None,
        }
        rows += _moments(row, record.get("query"), record.get("relevant_windows"), duration, left_out)
    return clip_dataset(rows, MOMENT_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def _moments(row: Row, caption: Any, spans: Any, duration: float | None, left_out: LeftOut) -> Iterator[Row]:
    """The row with its caption and spans, or none where these cannot be used; spans None: they are hidden."""
    name = str(row["moment_id"])
    if not is_text(caption):
        left_out.add("sentences that are empty or no text", name)
        return
    usable = usable_spans(spans or [], duration=duration, left_out=left_out, example=name)
    if usable or spans is None:
        yield {
            "relevant_clip_ids": [],
            "saliency_scores": [],
            **row,
            "caption": caption,
            "spans": [list(span) for span in usable],
            "duration_seconds": None if duration is None else float(duration),
        }


def _field(record: dict[str, Any], key: str, place: str) -> Any:
    value = record.get(key)
    if value is None:
        raise ValueError(f"{place} has no {key!r}: {str(record)[:120]}; is it the file of another format?")
    return value


def _are_ratings(numbers: Any, ratings: Any) -> bool:
    """Whether two values are whole numbers and as many lists of three whole numbers."""
    whole = isinstance(numbers, list) and isinstance(ratings, list) and len(numbers) == len(ratings)
    return whole and all(
        type(number) is int and isinstance(own, list) and len(own) == PEOPLE and all(type(r) is int for r in own)
        for number, own in zip(numbers, ratings, strict=True)
    )


def _are_pieces(times: Any) -> bool:
    """Whether a value is a list of pairs of whole numbers."""
    return isinstance(times, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(piece) is int for piece in pair) for pair in times
    )
