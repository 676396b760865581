"""Clips with captions: MSR-VTT, MSVD, VATEX.

annotation file + folder of clips --read_msrvtt | read_msvd | read_vatex--> rows of `rows.py`
"""

import gzip
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import datasets

from training.data.boxes.rows import LeftOut
from training.data.clips.rows import (
    CLIP_CAPTION_FEATURES,
    Row,
    clip_dataset,
    is_number,
    number_in,
    texts_of,
    without_suffix,
)
from training.data.files import PathLike, column, read_json, read_lines, read_table, records, text_column
from training.data.json_stream import stream_records
from training.data.splits import split_name
from training.data.statements.rows import file_word

CUT = re.compile(r"_(\d+)_(\d+)$")  # from and to which second a clip was cut
MSRVTT_WORDS = {"validate": "val"}
MSVD_COLUMNS = ("VideoID", "Start", "End", "Description")
Language = Literal["en", "zh"]
VATEX_KEYS = {"en": "enCap", "zh": "chCap"}
MOST_BYTES = 1 << 30  # of an unpacked file


def read_msrvtt(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split_lists: Mapping[str, PathLike] | None = None,
    split: str | None = None,
    file_split: str | None = None,
) -> datasets.Dataset:
    """MSR-VTT (Xu et al. 2016): its `videodatainfo` JSON, or the table of the split 1k-A (`MSRVTT_JSFUSION_test.csv`).

    Args:
        annotations: `train_val_videodatainfo.json`, `MSRVTT_data.json` (written after the documented layout; none was
            at hand), or a CSV with `video_id` and `sentence`.
        clips: the folder of the videos, `video9770.mp4`.
        split_lists: tables with a `video_id` by split, `{"train": "MSRVTT_train.9k.csv", "test":
            "MSRVTT_JSFUSION_test.csv"}`, in place of the JSON's own splits; videos of one with a `sentence` have that
            sentence alone, and those in no list are left out.
        split: keep only this split.
        file_split: the split of a CSV whose name does not tell.

    Returns:
        Rows of `CLIP_CAPTION_FEATURES`, one a video, in the order of the file, of a CSV one a line.

    Raises:
        ValueError: for a file of another layout, captions of a video that is not listed, a video in two lists, and as
            `clip_dataset`.
    """
    left_out = LeftOut(annotations)
    if Path(annotations).suffix.lower() == ".csv":
        word, table = file_word(annotations, file_split), read_table(annotations, text_columns={"sentence"})
        names, texts = (text_column(table, key, annotations) for key in ("video_id", "sentence"))
        rows = [_row(name, text, word, left_out) for name, text in zip(names, texts, strict=True)]
    else:
        rows = _videodatainfo(annotations, split_lists, left_out)
    kept = [row for row in rows if row["captions"]]
    return clip_dataset(kept, CLIP_CAPTION_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def read_msvd(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    language: str = "English",
) -> datasets.Dataset:
    """MSVD (Chen and Dolan 2011), clips that are named after their video and seconds, `mv89psg6zh4_33_46`.

    Args:
        annotations: a JSON list of `id` and `caption` (one or a list; also packed, `.json.gz`), or, written after the
            documented layout, the corpus' own CSV (`VideoID`, `Start`, `End`, `Language`, `Description`) or text file
            (`AllVideoDescriptions.txt`: a clip's name and a caption a line).
        clips: the folder of the videos, `mv89psg6zh4_33_46.avi`.
        split, file_split: as for `read_msrvtt`; MSVD's files tell no split.
        language: of the captions in the CSV.

    Returns:
        Rows of `CLIP_CAPTION_FEATURES`, one a clip.

    Raises:
        ValueError: as for `read_msrvtt`.
    """
    word, left_out = file_word(annotations, file_split), LeftOut(annotations)
    suffix = Path(annotations).suffix.lower()
    captions: dict[str, list[str]] = {}
    if suffix == ".csv":
        table = [row for row in read_table(annotations) if row.get("Language", language) == language]
        columns = [column(table, key, annotations) for key in MSVD_COLUMNS]
        pairs = [("_".join([name, start, end]), text) for name, start, end, text in zip(*columns, strict=True)]
    elif suffix == ".txt":
        parts = [line.partition(" ") for line in read_lines(annotations) if not line.startswith("#")]
        pairs = [(name, text) for name, _, text in parts]
    else:
        pairs = [_named_captions(record, annotations) for record in _records(annotations)]
    for name, given in pairs:
        captions.setdefault(without_suffix(name), []).extend(texts_of(given, left_out=left_out, example=name))
    rows = [_row(name, own, word, left_out) | _seconds(name) for name, own in captions.items() if own]
    return clip_dataset(rows, CLIP_CAPTION_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def read_vatex(
    annotations: PathLike,
    *,
    clips: PathLike | None = None,
    split: str | None = None,
    file_split: str | None = None,
    language: Language = "en",
) -> datasets.Dataset:
    """VATEX (Wang et al. 2019): a JSON list of `videoID`, `enCap` and `chCap`, ten captions each.

    Written after the documented layout; no real file was at hand.

    Args:
        annotations: `vatex_training_v1.0.json` and its like; of the private test, rows have no captions.
        clips: the folder of the clips, `Ptf_2VRj-V0_000122_000132.mp4`.
        split, file_split: as for `read_msrvtt` ("training" is train).
        language: en or zh.

    Returns:
        Rows of `CLIP_CAPTION_FEATURES`, one a clip.

    Raises:
        ValueError: for an unknown language, and as for `read_msrvtt`.
    """
    if language not in get_args(Language):
        raise ValueError(f"language is {language!r}; choose {', '.join(get_args(Language))}")
    stem = Path(annotations).name.replace("training", "train")
    word, left_out, rows = file_word(stem, file_split), LeftOut(annotations), []
    for number, record in enumerate(stream_records(annotations)):
        name = record.get("videoID")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{annotations}: record {number} has no videoID; is it the file of another format?")
        hidden = not {*VATEX_KEYS.values()} & record.keys()
        row = _row(name, [] if hidden else record.get(VATEX_KEYS[language]), word, left_out) | _seconds(name)
        rows += [row] if hidden or row["captions"] else []
    return clip_dataset(rows, CLIP_CAPTION_FEATURES, clips=clips, split=split, source=annotations, left_out=left_out)


def _videodatainfo(path: PathLike, split_lists: Mapping[str, PathLike] | None, left_out: LeftOut) -> list[Row]:
    """The rows of MSR-VTT's JSON, with `videos` and `sentences`."""
    content = read_json(path)
    videos, sentences = (records(content, key, path) for key in ("videos", "sentences"))
    names = text_column(videos, "video_id", path)
    captions: dict[str, list[Any]] = {name: [] for name in names}
    for owner, text in zip(text_column(sentences, "video_id", path), column(sentences, "caption", path), strict=True):
        if owner not in captions:
            raise ValueError(f"{path} has a caption of the video {owner!r}, which is not among its videos")
        captions[owner].append(text)
    lists = None if split_lists is None else _listed(split_lists)
    rows = []
    for name, video in zip(names, videos, strict=True):
        times = {
            f"source_{key}_seconds": float(video[f"{key} time"])
            for key in ("start", "end")
            if is_number(video.get(f"{key} time"))
        }
        if lists is None:
            word = str(video.get("split", "train"))
            rows.append(_row(name, captions[name], split_name(MSRVTT_WORDS.get(word, word), path), left_out) | times)
        elif name in lists:
            word, own = lists[name]
            rows.append(_row(name, own or captions[name], word, left_out) | times)
    return rows


def _listed(split_lists: Mapping[str, PathLike]) -> dict[str, tuple[str, list[str]]]:
    """Split and, where the table has a sentence, the captions of every video in the lists."""
    found: dict[str, tuple[str, list[str]]] = {}
    for word, path in split_lists.items():
        table, name = read_table(path, text_columns={"sentence"}), split_name(word, path)
        for video, row in zip(text_column(table, "video_id", path), table, strict=True):
            if video in found:
                raise ValueError(f"{path}: the video {video!r} is listed twice (in {found[video][0]} before)")
            found[video] = name, [row["sentence"]] if row.get("sentence") else []
    return found


def _row(name: str, captions: Any, word: str, left_out: LeftOut) -> Row:
    texts = texts_of(captions, left_out=left_out, example=name)
    return {"clip_id": name, "names": (name,), "captions": texts, "split": word}


def _seconds(name: str) -> Row:
    """From where to where a clip was cut, which its name tells.

    >>> _seconds("Ptf_2VRj-V0_000122_000132")
    {'source_start_seconds': 122.0, 'source_end_seconds': 132.0}
    """
    cut = CUT.search(without_suffix(name))
    keys = ("source_start_seconds", "source_end_seconds")
    return {key: number_in(value, name) for key, value in zip(keys, cut.groups(), strict=True)} if cut else {}


def _records(path: PathLike) -> list[dict[str, Any]]:
    """The objects of a JSON list, which may be packed by gzip."""
    if Path(path).suffix.lower() != ".gz":
        return list(stream_records(path))
    try:
        with gzip.open(path) as file:
            packed = file.read(MOST_BYTES + 1)
        if len(packed) > MOST_BYTES:
            raise ValueError(f"{path} unpacks to over {MOST_BYTES >> 30} GiB; unpack it, and read the JSON itself")
        content = json.loads(packed)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no packed JSON ({error}); is it cut short?") from error
    if not isinstance(content, list) or not all(isinstance(record, dict) for record in content):
        raise ValueError(f"{path} holds no list of objects; is it the file of another format?")
    return content


def _named_captions(record: Mapping[str, Any], path: PathLike) -> tuple[str, Any]:
    name = record.get("id")
    if not isinstance(name, str) or "caption" not in record:
        raise ValueError(f"{path} has a record without id and caption: {str(dict(record))[:120]}")
    return name, record["caption"]
