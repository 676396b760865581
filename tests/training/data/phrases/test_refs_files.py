"""Refs files: the official record, every protocol and JSON, splits as in the official code, and what files do wrong."""

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.phrases import refs_files
from training.data.phrases.refs_files import Ref, RefSentence, read_refs, refs_of_split
from training.data.splits import NoSuchSplitError

RECORDS: list[dict[str, Any]] = [
    {
        "ref_id": 4,
        "ann_id": 71,
        "image_id": 5818,
        "category_id": 1,
        "split": "train",
        "file_name": "COCO_train2014_000000005818_4.jpg",
        "sent_ids": [9, 10],
        "sentences": [
            {"sent_id": 9, "sent": "the left dog", "raw": "The LEFT dog", "tokens": ["the", "left", "dog"]},
            {"sent_id": 10, "sent": "caf\u00e9 sign", "raw": "caf\u00e9 sign!", "tokens": ["caf\u00e9", "sign"]},
        ],
    },
    {
        "ref_id": 5,
        "ann_id": "8756_2",
        "image_id": 8756,
        "split": "testA",
        "sentences": [{"sent_id": 11, "sent": "sky", "tokens": ["sky"]}],
    },
]
REFS = [
    Ref(
        *("4", "5818", "71", "1", "COCO_train2014_000000005818_4.jpg", "train"),
        (RefSentence("9", "the left dog", "The LEFT dog"), RefSentence("10", "caf\u00e9 sign", "caf\u00e9 sign!")),
    ),
    Ref("5", "8756", "8756_2", "", "", "testA", (RefSentence("11", "sky", "sky"),)),
]


def write(folder: Path, content: Any, name: str = "refs(unc).p", *, protocol: int = 2) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def test_the_official_record_reads_as_its_json() -> None:
    path = shared("data/official_formats/refcoco/refs(unc).p")
    record = json.loads(shared("data/official_formats/refcoco/refs_unc_record0.json").read_text(encoding="utf-8"))[0]
    (ref,) = read_refs(path)
    assert read_refs(path.with_name("refs_unc_record0.json")) == [ref]
    assert [ref.ref_id, ref.image_id, ref.annotation_id, ref.category_id] == [
        str(record[key]) for key in ("ref_id", "image_id", "ann_id", "category_id")
    ]
    assert (ref.file_name, ref.split) == (record["file_name"], record["split"])
    assert [vars(sentence) for sentence in ref.sentences] == [
        {"sentence_id": str(own["sent_id"]), "text": own["sent"], "raw": own["raw"]} for own in record["sentences"]
    ]
    assert len(ref.sentences) == len(record["sent_ids"]) > 0


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    assert read_refs(write(tmp_path, RECORDS, protocol=protocol)) == REFS


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    content = (
        b"(lp0\n(dp1\nS'ref_id'\np2\nI4\nsS'ann_id'\np3\nL71L\nsS'image_id'\np4\nI5818\nsS'split'\np5\nS'val'\np6\ns"
        b"S'sentences'\np7\n(lp8\n(dp9\nS'sent_id'\np10\nI9\nsS'sent'\np11\nVcaf\\u00e9\np12\nsS'raw'\np13\n"
        b"S'caf\\xc3\\xa9'\np14\nsasa."
    )
    expected = Ref("4", "5818", "71", "", "", "val", (RefSentence("9", "caf\u00e9", "caf\u00e9"),))
    assert read_refs(write(tmp_path, content)) == [expected]


@pytest.mark.parametrize("name", ["refs(google).json", "refs(umd).p"])
def test_json_of_the_records(name: str, tmp_path: Path) -> None:
    for content in (
        json.dumps(RECORDS),
        json.dumps({"refs": RECORDS, "images": []}),
        "\ufeff \n" + json.dumps(RECORDS),
    ):
        assert read_refs(write(tmp_path, content.encode(), name)) == REFS
    lines = "\n".join(map(json.dumps, RECORDS))
    assert read_refs(write(tmp_path, lines.encode(), "refs.jsonl")) == REFS


def test_splits_are_those_of_the_official_code() -> None:
    words = ("train", "val", "test", "testA", "testB", "testAB", "testBC")
    refs = [Ref(str(i), "1", "1", "1", "", word, ()) for i, word in enumerate(words)]
    for split, expected in {
        "train": ["train"],
        "validation": ["val"],
        "train+val": ["train", "val"],
        "test": ["test", "testA", "testB", "testAB", "testBC"],
        "testA": ["testA", "testAB"],
        "testB": ["testB", "testAB", "testBC"],
        "testC": ["testBC"],
        "testAB": ["testAB"],
        "testC+train": ["train", "testBC"],
    }.items():
        assert [ref.split for ref in refs_of_split(refs, split)] == expected
    with pytest.raises(NoSuchSplitError, match=r"refs\.p has no ref of the split 'dev1'; it has test, testA") as error:
        refs_of_split(refs[2:4], "dev1", source="refs.p")
    assert error.value.present == {"test", "testA"}
    with pytest.raises(NoSuchSplitError):
        refs_of_split(refs[:2], "test")


def test_expressions_without_a_word_are_left_out(tmp_path: Path) -> None:
    records = copy.deepcopy(RECORDS)
    records[0]["sentences"][1]["sent"] = records[1]["sentences"][0]["sent"] = " "
    with pytest.warns(UserWarning, match="2 expressions without a word are left out: 10, 11"):
        refs = read_refs(write(tmp_path, records))
    assert [[sentence.sentence_id for sentence in ref.sentences] for ref in refs] == [["9"], []]


class Carrier:
    """Pickles to a call of `open`, which would write a file."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.target, "w")


def test_files_that_carry_code_are_refused_by_name(tmp_path: Path) -> None:
    target = tmp_path / "written"
    path = write(tmp_path, [{**RECORDS[0], "sentences": [Carrier(str(target))]}])
    with pytest.raises(
        ValueError, match=r"refs\(unc\)\.p would load _?\w+\.open, which may carry code, and was not read"
    ):
        read_refs(path)
    with pytest.raises(ValueError, match=r"would load posix\.system"):
        read_refs(write(tmp_path, b"cposix\nsystem\n(S'true'\ntR."))
    assert not target.exists()


def test_files_that_are_no_refs_files(tmp_path: Path) -> None:
    whole = pickle.dumps(RECORDS, 4)
    for content, reason in (
        (whole[:-40], "is no pickle or is cut short"),
        (json.dumps(RECORDS).encode()[:-40], "is not valid JSON .*is it cut short"),
        (b"", "is empty; copy it again"),
        (b"\xff\xd8\xff\xe0JFIF", r"is no pickle \(byte 0\); is it the file of another format"),
        (b"{}", "has no list 'refs'"),
        ([], "holds no ref; copy it again"),
        (b"[]", "holds no ref; copy it again"),
        ({"refs": RECORDS}, "holds a dict and no list of refs"),
        (["train"], "record 0 is a str, not a ref"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_refs(write(tmp_path, content))
    with pytest.raises(ValueError, match="cannot read .*No such file"):
        read_refs(tmp_path / "absent.p")
    with pytest.raises(ValueError, match="cannot read .*directory"):
        read_refs(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, RECORDS)
    monkeypatch.setattr(refs_files, "LARGEST_FILE", path.stat().st_size)
    assert read_refs(path) == REFS
    monkeypatch.setattr(refs_files, "LARGEST_FILE", path.stat().st_size - 1)
    with pytest.raises(ValueError, match="has more than .* bytes, which no refs file has; give the refs file alone"):
        read_refs(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ref_id": None}, "record 1 has no id under ref_id"),
        ({"ref_id": True}, "record 1 has no id under ref_id"),
        ({"image_id": [1]}, "record 1 has no id under image_id"),
        ({"ann_id": 1.5}, "record 1 has no id under ann_id"),
        ({"split": 3}, "record 1 has no text under split"),
        ({"file_name": None}, "record 1 has no text under file_name"),
        ({"sentences": None}, "record 1 has no list of sentences"),
        ({"sentences": ["sky"]}, "record 1, sentence 0 is a str; it needs a sent_id and its text under sent"),
        ({"sentences": [{"sent_id": 1}]}, "record 1, sentence 0 has no text under sent"),
        ({"sentences": [{"sent": "sky"}]}, "record 1, sentence 0 has no id under sent_id"),
        ({"sentences": [{"sent": "sky\ud800", "sent_id": 1}]}, "record 1, sentence 0 has no text under sent"),
        ({"ref_id": "4"}, "the ref '4' stands in it twice"),
    ],
)
def test_records_that_lack_something_are_named(change: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        read_refs(write(tmp_path, [RECORDS[0], {**RECORDS[1], **change}]))


def test_lists_that_are_repeated_are_refused(tmp_path: Path) -> None:
    sentence = {"sent_id": 1, "sent": "sky"}
    shared_list = [sentence]
    for records in (
        [{**RECORDS[0], "sentences": shared_list}, {**RECORDS[1], "sentences": shared_list}],
        [{**RECORDS[0], "sentences": [sentence] * 1000}],
    ):
        with pytest.raises(ValueError, match="repeats the sentences of another or its own"):
            read_refs(write(tmp_path, records))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        equal = [{**RECORDS[0], "sentences": [dict(sentence)]}, {**RECORDS[1], "sentences": [dict(sentence)]}]
        assert len(read_refs(write(tmp_path, equal))) == 2
