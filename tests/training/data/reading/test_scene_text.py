"""TextVQA, TextCaps, ST-VQA, OCR-VQA and VizWiz-VQA: files written in their documented layouts, none being at hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.training.data.questions.vqa_files import draw_images
from training.data.reading.formats import READING_FORMATS, load_reading
from training.data.reading.rows import READING_FEATURES
from training.data.reading.scene_text import read_stvqa_dictionary
from training.metrics.reading import answerability, copied_answers

from .test_word_layouts import ROSETTA, write

TEXTVQA = {
    "dataset_type": "train",
    "data": [
        {
            "question": "what street is it?",
            "image_id": "a1",
            "question_id": 34602,
            "answers": ["main st"] * 9 + ["main street"],
            "set_name": "train",
        },
        {"question": "and here?", "image_id": "b2", "question_id": 34603, "answers": ["x"] * 10, "set_name": "train"},
    ],
}


def test_textvqa_has_its_words(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["train_images/a1.jpg", "train_images/b2.jpg"])
    questions = write(tmp_path / "TextVQA_0.5.1_train.json", TEXTVQA)
    words = write(tmp_path / "rosetta.json", ROSETTA)
    with pytest.warns(UserWarning, match="1 of 2 images have no entry of words: b2"):
        rows = load_reading("textvqa", questions=questions, images=images, words=words)
    assert rows.features == READING_FEATURES
    assert rows["question_id"][:] == ["34602", "34603"] and rows["split"][:] == ["train"] * 2
    assert [word["text"] for word in rows[0]["words"]] == ["Main", "St"] and rows[1]["words"] == []
    assert rows[0]["words"][0]["box"] == pytest.approx([0.1, 0.2, 0.4, 0.3]) and rows[0]["words"][0]["score"] == 1
    assert rows[0]["image"].size and len(rows[0]["answers"]) == 10
    bound = copied_answers(rows["answers"][:], [[word["text"] for word in own] for own in rows["words"]])
    assert bound["copied"] == 0.5 and bound["per_item"]["answer"] == ["main st", ""]


def test_textvqas_test_file_hides_its_answers(tmp_path: Path) -> None:
    record = {"question": "what?", "image_id": "a1", "question_id": 1, "set_name": "test"}
    rows = load_reading("textvqa", questions=write(tmp_path / "TextVQA_0.5.1_test.json", {"data": [record]}))
    assert rows["split"][:] == ["test"] and rows["answers"][:] == [[]] and rows["words"][:] == [[]]


def test_words_of_another_split_are_an_error(tmp_path: Path) -> None:
    record = {"question": "what?", "image_id": "z", "question_id": 1}
    questions = write(tmp_path / "TextVQA_0.5.1_val.json", {"data": [record]})
    with pytest.raises(ValueError, match=r"none of its 1 images \(z\) has an entry of words"):
        load_reading("textvqa", questions=questions, words=write(tmp_path / "rosetta.json", ROSETTA))
    assert load_reading("textvqa", questions=questions)["split"][:] == ["val"]


def test_textcaps_has_a_row_an_image(tmp_path: Path) -> None:
    captions = ["a sign says main st", "a street sign"]
    records = [
        {"image_id": "a1", "caption_id": number, "caption_str": text, "reference_strs": captions, "set_name": "val"}
        for number, text in enumerate(captions)
    ]
    path = write(tmp_path / "TextCaps_0.1_val.json", {"data": records})
    rows = load_reading("textcaps", captions=path, words=write(tmp_path / "rosetta.json", ROSETTA))
    assert len(rows) == 1 and rows[0]["answers"] == captions and rows[0]["question"] == "what does the image show?"
    assert load_reading("textcaps", captions=path, question="caption it")[0]["question"] == "caption it"


def stvqa(task: int, **more: Any) -> dict[str, Any]:
    record = {
        "question": "what is written?",
        "file_path": "coco-text/COCO_train2014_1.jpg",
        "file_name": "COCO_train2014_1.jpg",
        "set_name": "train",
        "dataset": "coco-text",
        "question_id": task,
        "answers": ["stop"],
        **more,
    }
    return {"task_name": f"task {task}", "task_id": task, "data": [record]}


def test_stvqas_tasks_and_dictionaries(tmp_path: Path) -> None:
    draw_images(tmp_path / "photos" / "coco-text", ["COCO_train2014_1.jpg"])
    first = write(tmp_path / "train_task_1.json", stvqa(1, dictionary=["go", "stop", "exit"]))
    second = write(tmp_path / "train_task_2.json", {**stvqa(2), "dictionary": ["go", "stop", "go", ""]})
    third = write(tmp_path / "train_task_3.json", stvqa(3))
    words = write(tmp_path / "words.json", {"COCO_train2014_1": [{"text": "STOP", "box": [0, 0, 1, 1]}]})
    rows = load_reading("stvqa", questions=first, images=tmp_path / "photos", words=words)
    assert rows[0]["choices"] == ["go", "stop", "exit"] and json.loads(rows[0]["details"]) == {"task": "1"}
    assert rows[0]["image_id"] == "coco-text/COCO_train2014_1" and rows[0]["words"][0]["text"] == "STOP"
    open_ended = load_reading("stvqa", questions=[second, third])
    assert open_ended["choices"][:] == [[], []] and open_ended["answers"][:] == [["stop"], ["stop"]]
    assert read_stvqa_dictionary(second) == ["go", "stop"]
    (tmp_path / "dictionary.txt").write_text("stop\n\ngo\nstop\n", encoding="utf-8")
    assert read_stvqa_dictionary(tmp_path / "dictionary.txt") == ["stop", "go"]
    with pytest.raises(ValueError, match="holds no dictionary"):
        read_stvqa_dictionary(third)


def test_ocrvqa_has_covers_of_books(tmp_path: Path) -> None:
    content = {
        "0123": {
            "imageURL": "http://images.example/0123.gif",
            "questions": ["Who wrote this book?", "Is it a cook book?"],
            "answers": ["A. Writer", "No"],
            "split": 3,
        },
        "0124": {"imageURL": "x", "questions": ["What is the title?"], "answers": ["Tea"], "split": 1},
    }
    images = draw_images(tmp_path / "photos", ["0123.gif", "0124.jpg"])
    path = write(tmp_path / "dataset.json", content)
    rows = load_reading("ocrvqa", annotations=path, images=images)
    assert rows["question_id"][:] == ["0123-0", "0123-1", "0124-0"] and rows["split"][:] == ["test", "test", "train"]
    assert rows["answers"][:] == [["A. Writer"], ["No"], ["Tea"]]
    content["0124"]["split"] = 4
    with pytest.raises(ValueError, match="0124 has 1 questions, 1 answers and the split 4"):
        load_reading("ocrvqa", annotations=write(path, content))


def test_vizwiz_says_what_cannot_be_answered(tmp_path: Path) -> None:
    people = [{"answer": "unanswerable", "answer_confidence": "yes"}] * 7 + [{"answer": "a can"}] * 3
    content = [
        {
            "image": "VizWiz_val_0.jpg",
            "question": "What is it?",
            "answers": people,
            "answerable": 0,
            "answer_type": "other",
        },
        {"image": "VizWiz_val_1.jpg", "question": "And it?", "answers": [{"answer": "tea"}] * 10, "answerable": 1},
    ]
    rows = load_reading("vizwiz_vqa", annotations=write(tmp_path / "val.json", content))
    assert rows["split"][:] == ["val"] * 2 and rows["answer"][:] == ["unanswerable", ""]
    assert rows[0]["answers"].count("unanswerable") == 7 and rows["image_id"][:] == ["VizWiz_val_0", "VizWiz_val_1"]
    labels = [json.loads(details)["answerable"] for details in rows["details"]]
    assert answerability([0.25, 0.75], labels)["average_precision"] == 1
    hidden = write(tmp_path / "test.json", [{"image": "VizWiz_test_0.jpg", "question": "What?"}])
    assert load_reading("vizwiz_vqa", annotations=hidden)[0]["details"] == ""


@pytest.mark.parametrize(
    ("format", "option", "content", "message"),
    [
        ("textvqa", "questions", {"questions": []}, "has no list 'data' with a record"),
        ("textvqa", "questions", {"data": [3]}, "record 0 of data is no object"),
        ("textvqa", "questions", {"data": [{"question": "x", "question_id": 1}]}, "record 0 has no 'image_id'"),
        ("textcaps", "captions", {"data": [{}]}, "record 0 has no 'image_id'"),
        ("stvqa", "questions", {"data": [{"question_id": 1}]}, "record 0 has no 'file_name'"),
        ("stvqa", "questions", [], "has no list 'data'"),
        ("ocrvqa", "annotations", {"1": 3}, "1 is no object"),
        ("vizwiz_vqa", "annotations", [{"question": "x"}], "record 0 has no 'image'"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, format: str, option: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_reading(format, **{option: write(tmp_path / "train.json", content)})


def test_unknown_formats_and_options_are_named() -> None:
    with pytest.raises(ValueError, match="unknown reading format 'textvq'; choose one of textvqa, textcaps"):
        load_reading("textvq")
    with pytest.raises(ValueError, match="the reading format 'sroie' does not take images"):
        load_reading("sroie", folder="x", images="y")
    assert isinstance(READING_FORMATS, Mapping)
