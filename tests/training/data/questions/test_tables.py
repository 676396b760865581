"""Anyone's questions: tables beside folders of images, and data sets that `datasets.load_dataset` reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.training.data.questions.vqa_files import draw_images, write
from training.data.questions.formats import load_vqa
from training.data.questions.rows import VQA_FEATURES
from training.data.splits import NoSuchSplitError


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[None]:
    """What `load_dataset` makes of local files goes with the test."""
    before, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, tmp_path / "cache"
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", 'file_name,question,answers\na.png,"Red, or blue?",red|red | blue\nb.png,How many?,2\n'),
        ("questions.tsv", "\ufeffimage\tquestion\tanswers\na.png\tRed, or blue?\tred|red|blue\nb.png\tHow many?\t2\n"),
        (
            "vqa.jsonl",
            '{"image": "a.png", "question": "Red, or blue?", "answers": ["red", "red", "blue"]}\n'
            '{"image": "b.png", "question": "How many?", "answers": 2}\n',
        ),
        (
            "questions.json",
            [
                {
                    "image": "a.png",
                    "question": "Red, or blue?",
                    "answers": [{"answer": a} for a in ("red", "red", "blue")],
                },
                {"image": "b.png", "question": "How many?", "answers": [2]},
            ],
        ),
    ],
)
def test_a_folder_of_images_with_a_table(tmp_path: Path, name: str, table: Any) -> None:
    draw_images(tmp_path, ["a.png", "b.png"])
    write(tmp_path / name, table)
    rows = load_vqa("folder", folder=tmp_path)
    assert rows["question"][:] == ["Red, or blue?", "How many?"]
    assert rows["answers"][:] == [["red", "red", "blue"], ["2"]]
    assert rows["question_id"][:] == ["1", "2"] and rows["image_id"][:] == ["a.png", "b.png"]
    assert rows["answer"][:] == ["", ""] and set(rows["split"]) == {"train"}
    assert rows[1]["image"].getpixel((0, 0))[0] == 1


def test_a_table_may_name_everything_in_its_own_words(tmp_path: Path) -> None:
    lines = [
        {"foto": "x/a.png", "frage": "Was?", "antwort": "Hund", "auswahl": "Katze|Hund", "id": 7, "teil": "validation"},
        {"foto": "x/b.png", "frage": "Wer?", "antwort": None, "auswahl": ["Ada", "Bo"], "id": "8", "teil": None},
    ]
    table = write(tmp_path / "meine_test.jsonl", "\n".join(map(json.dumps, lines)))
    images = draw_images(tmp_path / "photos", ["x/a.png", "x/b.png"])
    names = {"image": "foto", "question": "frage", "answer": "antwort", "choices": "auswahl", "question_id": "id"}
    rows = load_vqa("table", table=table, images=images, columns={**names, "split": "teil"})
    assert rows["question_id"][:] == ["7", "8"] and rows["split"][:] == ["val", "test"]
    assert rows["choices"][:] == [["Katze", "Hund"], ["Ada", "Bo"]] and rows["correct_choice"][:] == [1, -1]
    assert rows["answer"][:] == ["Hund", ""] and rows["answers"][:] == [["Hund"], []]
    assert load_vqa("folder", folder=images, table=table, columns=names, split="test")["question_id"][:] == ["7", "8"]
    assert load_vqa("table", table=table, columns=names, file_split="train")["image"][:] == [None, None]
    for columns, message in (
        ({"foto": "image"}, "'foto' is none of image, image_id, question_id, question"),
        ({**names, "image": "bild"}, "there is no 'bild'; the table has foto, frage, antwort, auswahl, id, teil"),
        ({"question": "frage"}, "has no column for the image's name; it has foto, .*name yours with columns="),
        ({"image": "foto"}, "has no column question; it has foto, .*name yours with columns="),
    ):
        with pytest.raises(ValueError, match=message):
            load_vqa("table", table=table, columns=columns)


def test_ids_types_and_choices_of_a_table(tmp_path: Path) -> None:
    table = write(
        tmp_path / "q.csv",
        "question_id,image_id,image,question,answers,answer,question_type,answer_type,choices,correct_choice\n"
        "9,42,a.png,What?,cat|cat,cat,what,other,dog|cat,1\n,43,b.png,Who?,,,who,other,ada|bo,\n",
    )
    rows = load_vqa("table", table=table)
    assert rows["question_id"][:] == ["9", "2"] and rows["image_id"][:] == ["42", "43"]
    assert rows["answers"][:] == [["cat", "cat"], []] and rows["correct_choice"][:] == [1, -1]
    assert rows["question_type"][:] == ["what", "who"] and rows["answer_type"][:] == ["other", "other"]


def test_tables_with_faults(tmp_path: Path) -> None:
    table = tmp_path / "q.jsonl"
    rows = [
        {"image": "a.png", "question": "What?", "answer": "cat", "choices": ["cat", "dog"], "correct_choice": 5},
        {"image": "b.png", "question": "What?", "answer": True},
        {"image": "c.png", "question": "", "answer": "cat"},
        {"image": "d.png", "question": "What?", "answer": 2.5, "choices": ["2.5", "3"]},
    ]
    write(table, "\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning) as told:
        kept = load_vqa("table", table=table)
    assert [str(warning.message).removeprefix(f"{table}: ") for warning in told] == [
        "2 questions have no choices and can only be answered openly: 2, 3",
        "1 questions have no list of texts as 'answers' and are left out: 2",
        "1 questions have a correct_choice outside of their choices and are left out: 1",
        "1 questions are empty and left out: 3",
    ]
    assert kept["question_id"][:] == ["4"] and kept["answer"][:] == ["2.5"] and kept["correct_choice"][:] == [0]
    for content, message in (
        ('{"image": "a.png"\n', "line 1 is not valid JSON"),
        ('{"image": null, "question": "a?"}\n', "row 1 names no image"),
        ('{"image": "../a.png", "question": "a?"}\n', "leads out of"),
    ):
        with pytest.raises(ValueError, match=message):
            load_vqa("table", table=write(table, content), images=draw_images(tmp_path / "photos", ["z.png"]))
    with pytest.raises(ValueError, match="q.json holds no row"):
        load_vqa("table", table=write(tmp_path / "q.json", []))


def test_folders_with_faults(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load_vqa("folder", folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no table of questions; pass table="):
        load_vqa("folder", folder=tmp_path)
    write(tmp_path / "vqa.csv", "image,question\n"), write(tmp_path / "questions.csv", "image,question\n")
    with pytest.raises(ValueError, match="holds questions.csv, vqa.csv; pass table="):
        load_vqa("folder", folder=tmp_path)


@pytest.mark.usefixtures("cache")
def test_a_local_imagefolder_through_the_hub_reader(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "data" / "train", ["a.png", "b.png", "c.png"])
    write(images / "metadata.csv", "file_name,ask,reply\na.png,What?,a cat\nb.png,,a dog\nc.png,Who?,2\n")
    options = {
        "path": "imagefolder",
        "data_dir": str(tmp_path / "data"),
        "columns": {"question": "ask", "answer": "reply"},
    }
    with pytest.warns(UserWarning, match="1 questions are empty and left out: train-1$|no text as 'question'"):
        rows = load_vqa("hub", **options)
    assert dict(rows.features) == dict(VQA_FEATURES) and rows.column_names == list(VQA_FEATURES)
    assert rows["question_id"][:] == ["train-0", "train-2"] and rows["image_id"][:] == ["train-0", "train-2"]
    assert rows["answer"][:] == ["a cat", "2"] and rows["answers"][:] == [["a cat"], ["2"]]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 2]
    with pytest.raises(NoSuchSplitError, match="imagefolder has no question of the split 'test'; it has train"):
        load_vqa("hub", **options, split="test")
    with pytest.raises(ValueError, match="has no column question; it has image, ask, reply"):
        load_vqa("hub", path="imagefolder", data_dir=str(tmp_path / "data"))


@pytest.mark.usefixtures("cache")
def test_local_parquet_through_the_hub_reader(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict(
        {
            "question_id": [3, 4],
            "image_id": [42, 42],
            "question": ["What?", "Who?"],
            "answers": [[{"answer": "cat", "answer_id": 1}], [{"answer": "Ada", "answer_id": 1}]],
            "answer_type": [1, 0],
            "photo": ["b.png", "a.png"],
        },
    ).cast_column("answer_type", datasets.ClassLabel(names=["number", "other"]))
    made.to_parquet(tmp_path / "valid.parquet")
    made.to_parquet(tmp_path / "train.parquet")
    images = draw_images(tmp_path / "photos", ["a.png", "b.png"])
    files = {word: str(tmp_path / f"{word[:5]}.parquet") for word in ("valid", "train")}
    options = {"path": "parquet", "data_files": files, "images": images, "columns": {"image": "photo"}}
    rows = load_vqa("hub", split="val", **options)
    assert rows["question_id"][:] == ["3", "4"] and rows["image_id"][:] == ["42", "42"]
    assert rows["answers"][:] == [["cat"], ["Ada"]] and rows["answer_type"][:] == ["other", "number"]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [1, 0] and set(rows["split"]) == {"val"}
    with pytest.warns(UserWarning, match="1 of 2 images are not in"):
        (images / "b.png").unlink()
        assert load_vqa("hub", split="train", **options)["question_id"][:] == ["4"]


@pytest.mark.usefixtures("cache")
def test_a_data_set_from_elsewhere_names_no_file_outside(tmp_path: Path) -> None:
    rows = {"question": ["What?", "Who?"], "photo": ["a.png", "../../b.png"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    options: dict[str, Any] = {"path": "parquet", "data_files": str(tmp_path / "train.parquet")}
    with pytest.raises(
        ValueError, match=r"'../../b.png' in the column photo leads out of the working folder; .*images="
    ):
        load_vqa("hub", **options, columns={"image": "photo"})
