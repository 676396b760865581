"""Official files of clips as rows of captions, paragraphs, questions and choices, beside what their readers read."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.choices.formats import load_choices
from training.data.clips.moments import read_didemo
from training.data.clips.questions import read_activitynet_qa, read_next_qa, read_tgif_qa
from training.data.clips.task_rows import CAPTIONS, CHOICES, QUESTIONS
from training.data.files import format_reader
from training.data.splits import NoSuchSplitError
from training.tasks.captions import caption_rows
from training.tasks.questions import question_rows

OFFICIAL = "data/official_formats"


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_split_1k_a_is_a_row_a_clip() -> None:
    path = shared(f"{OFFICIAL}/msrvtt/MSRVTT_JSFUSION_test.csv")
    rows = caption_rows({"format": "msrvtt", "annotations": {"test": str(path)}}, split="test")
    assert len(rows) == 1000 and rows["image"] == [None] * 1000
    assert rows[0]["image_id"] == "video9770" and rows[0]["captions"] == ["a person is connecting something to system"]


def test_lists_choose_the_clips_of_1k_a(tmp_path: Path) -> None:
    videos = [{"video_id": f"video{number}", "split": "train"} for number in range(3)]
    said = [{"video_id": f"video{number}", "caption": f"a {number}"} for number in (2, 0, 1, 0)]
    data = {
        "format": "msrvtt",
        "annotations": str(written(tmp_path / "MSRVTT_data.json", {"videos": videos, "sentences": said})),
        "split_lists": {
            "train": str(written(tmp_path / "train.csv", "video_id\nvideo0\nvideo1\n")),
            "test": str(written(tmp_path / "test.csv", "key;vid_key;video_id;sentence\nret0;msr2;video2;its own\n")),
        },
    }
    train, test = (caption_rows(data, split=split) for split in ("train", "test"))
    assert dict(zip(train["image_id"], train["captions"], strict=True)) == {"video0": ["a 0", "a 0"], "video1": ["a 1"]}
    assert (test["image_id"], test["captions"]) == (["video2"], [["its own"]])
    with pytest.raises(NoSuchSplitError):
        caption_rows(data, split="val")


def test_paragraphs_are_all_sentences_of_a_clip() -> None:
    path = shared(f"{OFFICIAL}/didemo/test_data.json")
    rows = caption_rows({"format": "didemo", "annotations": {"test": str(path)}}, split="test")
    sentences = sorted(enumerate(read_didemo(path)), key=lambda one: (one[1]["clip_id"], one[0]))
    expected = {
        name: " ".join(one["caption"].strip() for _, one in own)
        for name, own in groupby(sentences, key=lambda one: one[1]["clip_id"])
    }
    assert {row["image_id"]: row["captions"] for row in rows} == {name: [text] for name, text in expected.items()}


def test_paragraphs_keep_the_order_of_the_file(tmp_path: Path) -> None:
    video = {"duration": 9, "timestamps": [[0, 4], [3, 9]], "sentences": [" First. ", "Then."]}
    path = written(tmp_path / "val_1.json", {"v_b": video, "v_a": video})
    rows = caption_rows({"format": "activitynet_captions", "annotations": {"test": str(path)}}, split="test")
    assert rows["image_id"] == ["v_b", "v_a"] and rows["captions"] == [["First. Then."]] * 2
    assert set(rows["split"]) == {"test"}  # what the recipe's key says, where the file says val


@pytest.mark.parametrize("kind", ["frameqa", "count"])
def test_open_questions_of_tgif_qa(kind: str) -> None:
    path = shared(f"{OFFICIAL}/tgif_qa/Test_{kind}_question.csv")
    rows = question_rows({"format": "tgif_qa", "annotations": {"test": str(path)}}, split="test")
    for row, own in zip(rows, read_tgif_qa(path), strict=True):
        assert (row["question_id"], row["image_id"]) == (own["question_id"], own["clip_id"])
        assert (row["question"], row["answer"]) == (own["question"].strip(), own["answer"])
        assert row["question_type"] == own["question_type"] and not row["choices"] and row["image"] is None


def test_questions_and_answers_of_activitynet_qa_by_split() -> None:
    files = {
        split: [shared(f"{OFFICIAL}/activitynet_qa/{split}_{of}.json") for of in "qa"] for split in ("val", "test")
    }
    data = {"format": "activitynet_qa", "questions": {}, "answers": {}}
    for split, (asked, answered) in files.items():
        data["questions"][split], data["answers"][split] = str(asked), str(answered)  # type: ignore[index]
    for split, (asked, answered) in files.items():
        own = read_activitynet_qa(asked, answers=answered)
        rows = question_rows(data, split=split)
        assert rows["answer"] == own["answer"] and rows["question_type"] == own["question_type"]
        assert rows["image_id"] == own["clip_id"]


def test_further_answers_of_next_oe() -> None:
    path, further = (shared(f"{OFFICIAL}/next_oe/{name}") for name in ("test.csv", "add_reference_answer_test.json"))
    data = {"format": "next_oe", "annotations": {"test": str(path)}, "reference_answers": {"test": str(further)}}
    rows = question_rows(data, split="test")
    assert rows["answers"] == read_next_qa(path, reference_answers=further)["answers"]
    assert max(map(len, rows["answers"])) == 2


@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("next_qa", "next_qa/val.csv"),
        ("tgif_qa", "tgif_qa/Test_action_question.csv"),
        ("tgif_qa", "tgif_qa/Test_transition_question.csv"),
    ],
)
def test_five_answers_are_items_of_multiple_choice(format: str, file: str) -> None:
    path = shared(f"{OFFICIAL}/{file}")
    data = load_choices(format, formats=CHOICES, annotations=path)
    texts = data.texts["text"][:]
    own = (read_next_qa if format == "next_qa" else read_tgif_qa)(path)
    for row, asked in zip(data.rows, own, strict=True):
        assert (row["item_id"], row["image_id"], row["group"]) == (asked["question_id"], *2 * (asked["clip_id"],))
        assert [texts[number] for number in row["context"]] == [asked["question"]]
        assert [texts[number] for number in row["candidates"]] == asked["choices"]
        assert (row["label"], row["question_type"]) == (asked["correct_choice"], asked["question_type"])


def test_options_are_those_of_the_readers(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="'msvd_qa' does not take prefix; its options are annotations, clips, video_map"
    ):
        format_reader(QUESTIONS, "msvd_qa", ["annotations", "prefix"], kind="VQA")
    with pytest.raises(ValueError, match="'vatex' needs annotations; its options are .*, language"):
        format_reader(CAPTIONS, "vatex", [], kind="caption")
    path = shared(f"{OFFICIAL}/tgif_qa/Test_count_question.csv")
    with pytest.raises(ValueError, match="Test_count_question.csv has questions without candidates.*choose task: vqa"):
        load_choices("tgif_qa", formats=CHOICES, annotations=path)
    twice = "video_id,sentence\nvideo1,a\nvideo1,b\n"
    with pytest.raises(ValueError, match="the image 'video1' is listed twice"):
        caption_rows({"format": "msrvtt", "annotations": str(written(tmp_path / "test.csv", twice))}, split="test")


def test_predictions_are_scored_without_the_clips(tmp_path: Path) -> None:
    asked = [{"id": 0, "video_id": 1, "question": "what eats?", "answer": "cat"}]
    data = {"format": "msvd_qa", "annotations": {"val": str(written(tmp_path / "val_qa.json", asked))}}
    gone = data | {"clips": str(tmp_path / "gone")}
    with pytest.raises(ValueError, match="there is no folder of clips"):
        question_rows(gone, split="val")
    assert question_rows(gone, split="val", images=False)["image_id"] == ["vid1"]
    names = written(tmp_path / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\n")
    assert question_rows(data | {"video_map": str(names)}, split="val")["image_id"] == ["-4wsuPCjDBc_5_15"]
