"""Questions about clips: real files, the documented layouts where none is at hand, and broken ones."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.clips.questions import read_activitynet_qa, read_msrvtt_qa, read_next_qa, read_tgif_qa
from training.data.splits import NoSuchSplitError

OFFICIAL = "data/official_formats"


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def records(path: Path, delimiter: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


# -- TGIF-QA ----------------------------------------------------------------------------------------------------------

TGIF = [
    *("Test_action", "Test_count", "Test_frameqa", "Test_transition"),
    *("Total_action", "Total_count", "Train_action", "Train_count"),
]


@pytest.mark.parametrize("name", TGIF)
def test_tgif_qa_as_it_is(name: str) -> None:
    path = shared(f"{OFFICIAL}/tgif_qa/{name}_question.csv")
    rows, given = read_tgif_qa(path), records(path, "\t")
    part, _, kind = name.lower().partition("_")
    assert len(rows) == len(given) == 100 and set(rows["split"]) == {None if part == "total" else part}
    for row, record in zip(rows, given, strict=True):
        assert (row["question_id"], row["clip_id"]) == (record["vid_id"], record["gif_name"])
        assert row["question"] == record["question"]
        if kind in ("action", "transition"):
            assert row["choices"] == [record[f"a{number}"] for number in range(1, 6)]
            assert (
                row["correct_choice"] == int(record["answer"])
                and row["answer"] == row["choices"][row["correct_choice"]]
            )
        else:
            assert (row["answer"], row["answers"], row["choices"]) == (record["answer"], [record["answer"]], [])
    if kind == "frameqa":
        assert Counter(rows["question_type"]) == {"object": 32, "number": 19, "color": 39, "location": 10}
    else:
        assert set(rows["question_type"]) == {kind}


HEAD = "gif_name\tquestion\ta1\ta2\ta3\ta4\ta5\tanswer\tvid_id\tkey\n"


def test_files_of_tgif_qa_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "g.gif").touch()
    line = "g\twhat ?\ta\tb\tc\td\te\t{}\t{}\t1\n"
    path = written(tmp_path / "Total_action_question.csv", HEAD + line.format(4, "ACTION1"))
    (row,) = read_tgif_qa(path, clips=tmp_path, file_split="test", split="test")
    assert row["clip"] == str(tmp_path / "g.gif") and row["answer"] == "e"
    with pytest.raises(NoSuchSplitError, match="holds the questions of all splits; take the Train_ and Test_ files"):
        read_tgif_qa(path, split="train")
    for answer, name, message in (
        ("x", "ACTION1", "the question 'ACTION1' has the answer 'x', not the number of a candidate"),
        ("1", "OTHER1", "the vid_id 'OTHER1' is none of ACTION, TRANS, COUNT, FRAMEQA and a number"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tgif_qa(written(tmp_path / "Test_a.csv", HEAD + line.format(answer, name)))
    two = HEAD + line.format(7, "ACTION1") + line.format(1, "ACTION2") + line.format(1, "ACTION2")
    with pytest.warns(
        UserWarning, match="1 questions whose right answer is none of the candidates .*; 1 questions whose id"
    ):
        assert len(read_tgif_qa(written(tmp_path / "Test_b.csv", two))) == 1


# -- NExT-QA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_next_qa_as_it_is(split: str) -> None:
    path = shared(f"{OFFICIAL}/next_qa/{split}.csv")
    rows, given = read_next_qa(path), records(path, ",")
    assert len(rows) == 100 and set(rows["split"]) == {split}
    for row, record in zip(rows, given, strict=True):
        assert row["question_id"] == f"{record['video']}_{record['qid']}" and row["question_type"] == record["type"]
        assert row["choices"] == [record[f"a{number}"] for number in range(5)]
        assert row["correct_choice"] == int(record["answer"])


def test_videos_of_next_qa_lie_in_vidor(tmp_path: Path) -> None:
    path, video_map = shared(f"{OFFICIAL}/next_qa/val.csv"), shared(f"{OFFICIAL}/next_qa/map_vid_vidorID.json")
    where = json.loads(video_map.read_text())
    for name in {record["video"] for record in records(path, ",")}:
        (tmp_path / where[name]).parent.mkdir(exist_ok=True)
        (tmp_path / f"{where[name]}.mp4").touch()
    rows = read_next_qa(path, clips=tmp_path, video_map=video_map)
    assert rows["clip"] == [str(tmp_path / f"{where[name]}.mp4") for name in rows["clip_id"]]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_next_oe_as_it_is(split: str) -> None:
    path = shared(f"{OFFICIAL}/next_oe/{split}.csv")
    rows, given = read_next_qa(path), records(path, ",")
    assert len(rows) == 100 and rows["answers"] == [[record["answer"]] for record in given]
    assert not any(rows["choices"]) and rows["answer"] == [record["answer"] for record in given]
    if split == "test":
        further = shared(f"{OFFICIAL}/next_oe/add_reference_answer_test.json")
        more = json.loads(further.read_text())
        wider = read_next_qa(path, reference_answers=further)["answers"]
        expected = [more.get(record["video"], {}).get(record["qid"]) for record in given]
        assert [own[1] if len(own) > 1 else None for own in wider] == expected and any(expected)


def test_files_of_next_qa_that_do_not_fit(tmp_path: Path) -> None:
    head, line = "video,frame_count,question,answer,qid,type,a0,a1,a2,a3,a4\n", "7,9,why,1,0,CW,a,b,c,d,e\n"
    other = written(tmp_path / "map.json", {"8": "0101/8"})
    with pytest.raises(ValueError, match=r"map.json names no video of the questions \(7\)"):
        read_next_qa(written(tmp_path / "val.csv", head + line), video_map=other)
    with pytest.raises(ValueError, match="the question '7_0' has not all of a0, a1, a2, a3, a4; is the line cut short"):
        read_next_qa(written(tmp_path / "val.csv", head + line.removesuffix(",d,e\n") + "\n"))


# -- ActivityNet-QA ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_activitynet_qa_as_it_is(split: str) -> None:
    asked, answered = (shared(f"{OFFICIAL}/activitynet_qa/{split}_{part}.json") for part in "qa")
    rows = read_activitynet_qa(asked, answers=answered)
    questions, answers = json.loads(asked.read_text()), json.loads(answered.read_text())
    by_id = {record["question_id"]: record for record in answers}
    assert rows["question_id"] == [record["question_id"] for record in questions] and set(rows["split"]) == {split}
    assert rows["answer"] == [by_id[name]["answer"] for name in rows["question_id"]]
    assert rows["clip_id"] == [record["video_name"] for record in questions]
    number = [record["type"] for record in answers].index(3)
    assert rows["question_type"][rows["question_id"].index(answers[number]["question_id"])] == "yes_no"
    assert set(read_activitynet_qa(asked)["answer"]) == {None}


def test_questions_and_answers_of_different_splits_are_refused() -> None:
    asked = shared(f"{OFFICIAL}/activitynet_qa/val_q.json")
    answered = shared(f"{OFFICIAL}/activitynet_qa/test_a.json")
    with pytest.raises(
        ValueError,
        match=r"do not match: 100 questions without an answer \(v_.*, \.\.\.\), 100 answers without a question",
    ):
        read_activitynet_qa(asked, answers=answered)


def test_faulty_answers_of_activitynet_qa(tmp_path: Path) -> None:
    (tmp_path / "v_a.mp4").touch()
    asked = written(tmp_path / "val_q.json", [{"video_name": "a", "question": "is it", "question_id": "v_a_1"}])
    good = {"answer": "no", "type": 8, "question_id": "v_a_1"}
    (row,) = read_activitynet_qa(asked, answers=written(tmp_path / "val_a.json", [good]), clips=tmp_path)
    assert (row["question_type"], row["clip"]) == ("other", str(tmp_path / "v_a.mp4"))
    with pytest.raises(ValueError, match="the question 'v_a_1' has the type 9, not a number from 0 to 8"):
        read_activitynet_qa(asked, answers=written(tmp_path / "val_a.json", [good | {"type": 9}]))
    with pytest.warns(UserWarning, match="answers that are no text"), pytest.raises(ValueError, match="holds no row"):
        read_activitynet_qa(asked, answers=written(tmp_path / "val_a.json", [good | {"answer": 3}]))


# -- MSVD-QA and MSRVTT-QA --------------------------------------------------------------------------------------------

ASKED = [{"id": 0, "video_id": 1, "question": "what eats?", "answer": "cat", "category_id": 14}]


def test_msrvtt_qa_and_msvd_qa_in_the_documented_layout(tmp_path: Path) -> None:
    path = written(tmp_path / "val_qa.json", ASKED)
    for name in ("video1.mp4", "-4wsuPCjDBc_5_15.avi"):
        (tmp_path / name).touch()
    (row,) = read_msrvtt_qa(path, clips=tmp_path)
    assert (row["question_id"], row["answer"], row["question_type"], row["split"]) == ("0", "cat", "what", "val")
    assert row["clip"] == str(tmp_path / "video1.mp4") and row["clip_id"] == "video1"
    names = written(tmp_path / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\n")
    (row,) = read_msrvtt_qa(path, prefix="vid", video_map=names, clips=tmp_path)
    assert row["clip"] == str(tmp_path / "-4wsuPCjDBc_5_15.avi") and row["clip_id"] == "-4wsuPCjDBc_5_15"
    other = written(tmp_path / "other.txt", "x vid2\n")
    with pytest.raises(ValueError, match="other.txt does not name the video 'vid1', of which"):
        read_msrvtt_qa(path, prefix="vid", video_map=other)
    with pytest.raises(ValueError, match="line 1 is no name and number of a video"):
        read_msrvtt_qa(path, prefix="vid", video_map=written(tmp_path / "bad.txt", "vid2\n"))
    with pytest.raises(ValueError, match="record 0 has no 'answer'"):
        read_msrvtt_qa(written(tmp_path / "x.json", [{"id": 0, "video_id": 1, "question": "what"}]))
