"""DocVQA, InfographicVQA, SROIE and ChartQA: real files where they are at hand, else files in the documented layout."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.reading.documents import receipt_split
from training.data.reading.formats import load_reading
from training.metrics.reading import anls, chartqa_relaxed_accuracy, copied_answers

from .test_word_layouts import READ, TEXTRACT_WORD, write


def test_real_records_of_docvqa() -> None:
    path = shared("data/official_formats/docvqa/docvqa_2records.json")
    rows = load_reading("docvqa", questions=path)
    assert rows["question_id"][:] == ["337", "49153"] and rows["split"][:] == ["train", "val"]
    assert rows["image_id"][:] == ["xnbl0037_1", "pybv0228_81"] and rows["answers"][:] == [["1/8/93"], ["0.28"]]
    assert rows["question_type"][:] == ["handwritten", "figure/diagram"]
    assert json.loads(rows[0]["details"]) == {"question_types": ["handwritten", "form"]}
    assert anls(["1/8/93", "0.29"], rows["answers"][:])["per_item"] == [1, 0.75]


def test_docvqas_words_lie_beside_in_microsofts_layout(tmp_path: Path) -> None:
    """In the documented layout: no real file of words is at hand."""
    record = {
        "questionId": 1,
        "question": "who?",
        "image": "documents/ab_1.png",
        "answers": ["Sir"],
        "data_split": "val",
    }
    write(tmp_path / "ab_1.json", READ)
    questions = write(tmp_path.parent / f"{tmp_path.name}.json", {"data": [record]})
    rows = load_reading("docvqa", questions=questions, words=tmp_path)
    assert [word["text"] for word in rows[0]["words"]] == ["Dear", "Sir"] and rows["split"][:] == ["val"]


def test_infographicvqas_form(tmp_path: Path) -> None:
    """In the documented layout: no real file is at hand."""
    record = {
        "questionId": 98313,
        "question": "how much?",
        "image_local_name": "37313.jpeg",
        "image_url": "https://images.example/x.jpg",
        "ocr_output_file": "37313.json",
        "answers": ["42%"],
    }
    content = {"dataset_name": "infographicVQA", "dataset_split": "val", "data": [record]}
    (tmp_path / "ocr").mkdir()
    write(tmp_path / "ocr" / "37313.json", {"PAGE": [], "LINE": [], "WORD": [TEXTRACT_WORD]})
    rows = load_reading("infographicvqa", questions=write(tmp_path / "questions.json", content), words=tmp_path / "ocr")
    assert rows["split"][:] == ["val"] and rows["image_id"][:] == ["37313"]
    assert rows[0]["words"][0]["text"] == "42%" and rows[0]["words"][0]["score"] == pytest.approx(0.9)


def test_real_charts() -> None:
    folder = shared("data/chartqa")
    files = [folder / "test_human.json", folder / "test_augmented.json"]
    rows = load_reading("chartqa", questions=files, images=folder / "png")
    assert len(rows) == 201 and len(set(rows["image_id"][:])) == 120
    assert set(rows["question_type"][:]) == {"human", "augmented"} and set(rows["split"][:]) == {"test"}
    assert rows[0]["answers"] == ["Staying alert and taking precautions"] and rows[0]["image"].size[0] > 100
    assert chartqa_relaxed_accuracy(rows["answer"][:], rows["answers"][:])["accuracy"] == 1


def test_charts_have_their_tables_and_augmented_questions(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "one.csv").write_text('Year,"Sales, net"\n2019,3.5\n\n2020,4\n', encoding="utf-8")
    records = [
        {"imgname": "one.png", "query": "how much in 2020?", "label": 4},
        {"imgname": "two.png", "query": "which?", "label": ["a", "b"]},
    ]
    path = write(tmp_path / "train_augmented.json", records)
    rows = load_reading("chartqa", questions=path, tables=tmp_path / "tables")
    assert json.loads(rows[0]["details"])["table"] == [["Year", "Sales, net"], ["2019", "3.5"], ["2020", "4"]]
    assert rows["details"][1] == "" and rows["answers"][:] == [["4"], ["a", "b"]]
    assert rows["question_id"][:] == ["train-augmented-0", "train-augmented-1"]
    with pytest.raises(ValueError, match="there is no folder of tables"):
        load_reading("chartqa", questions=path, tables=tmp_path / "absent")
    (tmp_path / "tables" / "two.csv").write_text("x" * 70_000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"two\.csv has 70000 characters"):
        load_reading("chartqa", questions=path, tables=tmp_path / "tables")
    with pytest.raises(ValueError, match="holds a dict, not a list of questions"):
        load_reading("chartqa", questions=write(tmp_path / "test.json", {}))


@pytest.mark.filterwarnings("ignore:.*1 words lie outside of the image")
def test_real_receipts() -> None:
    folder = shared("data/sroie")
    rows = load_reading("sroie", folder=folder)
    assert len(set(rows["image_id"][:])) == 120 and set(rows["split"][:]) == {"train", "val", "test"}
    first = next(row for row in rows if row["question_id"] == "005-total")
    with Image.open(folder / "img" / "005.jpg") as image:
        width, height = image.size
    line = (folder / "box" / "005.csv").read_text(encoding="utf-8").splitlines()[0].split(",", 8)
    lines = load_reading("sroie", folder=folder, by_word=False, fields=["total"])
    of_line = next(row for row in lines if row["image_id"] == "005")["words"][0]
    assert of_line["text"] == line[8].strip()
    left, top = int(line[0]) / width, int(line[1]) / height
    assert of_line["box"][:2] == pytest.approx([left, top], abs=1e-6) and first["words"][0]["box"][0] == pytest.approx(
        left
    )
    texts = [[word["text"] for word in words] for words in rows["words"]]
    bound = copied_answers(rows["answers"][:], texts, max_steps=40)
    assert 0.5 < bound["copied"] < 1  # the words can write more than half of the fields


def receipts(folder: Path, *, line: str = "10,20,60,20,60,40,10,40,ACME, LTD") -> Path:
    for name in ("img", "key", "box"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(folder / "img" / "017.jpg")
    write(folder / "key" / "017.json", {"company": "ACME, LTD", "total": " ", "date": 3})
    (folder / "box" / "017.csv").write_text(f"{line}\n\n", encoding="utf-8")
    return folder


def test_receipts_by_hand(tmp_path: Path) -> None:
    rows = load_reading("sroie", folder=receipts(tmp_path))
    assert rows["question_type"][:] == ["company"] and rows["split"][:] == ["val"]
    assert [word["text"] for word in rows[0]["words"]] == ["ACME,", "LTD"]
    assert rows[0]["words"][0]["box"] == pytest.approx([0.1, 0.25, 0.1 + 0.5 * 5 / 9, 0.5])
    assert [receipt_split(name) for name in ("000", "6", "X51-7", "8", "none")] == ["train"] * 2 + [
        "val",
        "test",
        "train",
    ]


@pytest.mark.parametrize("line", ["10,20,60,20,60,40,10,ACME", "a,b,c,d,e,f,g,h,ACME", "ACME"])
def test_lines_that_are_no_quadrilateral_are_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"017\.csv, line 1 is no quadrilateral of eight numbers and a text"):
        load_reading("sroie", folder=receipts(tmp_path, line=line))


def test_what_receipts_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no key/\*\.json"):
        load_reading("sroie", folder=tmp_path)
    folder = receipts(tmp_path)
    with pytest.raises(ValueError, match=r"fields are \['tax'\]; choose some of company, date"):
        load_reading("sroie", folder=folder, fields=["tax"])
    (folder / "img" / "017.jpg").unlink()
    with pytest.raises(ValueError, match=r"there is no image img/017\.jpg"):
        load_reading("sroie", folder=folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": [{}]}, "record 0 has no 'image'"),
        ({}, "has no list 'data'"),
        ({"data": [3]}, "record 0 of 'data' is no"),
    ],
)
def test_broken_question_files_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_reading("docvqa", questions=write(tmp_path / "train.json", content))
