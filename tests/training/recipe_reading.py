"""What shipped recipes read of questions with OCR words, tiny, at the paths that they name."""

from pathlib import Path
from typing import Any

from PIL import Image

from tests.training.recipe_files import write_json
from tests.training.written_forms import written_questions

NUMBERS = {"train": 40, "val": 6, "test": 6}
RECEIPTS = 24
PIXELS = 100  # of a side of every image


def write_reading(data: Path) -> None:
    """The files of every split and data set."""
    for number, (split, count) in enumerate(NUMBERS.items()):
        questions = written_questions(count, seed=number)
        write_json(data / "reading" / f"{split}.json", questions)
        write_textvqa(data / "textvqa", split, questions)
        write_stvqa(data / "stvqa", split, questions)
        write_docvqa(data / "docvqa", split, questions)
        write_chartqa(data / "chartqa", split, questions)
    write_receipts(data / "sroie", written_questions(RECEIPTS, seed=9))


def write_textvqa(folder: Path, split: str, questions: list[dict[str, Any]]) -> None:
    """Ten answers a question, Rosetta's words, an image each."""
    records = [
        {**asked, "question_id": f"{split}{number}", "answers": asked["answers"] * 10, "set_name": split}
        for number, asked in enumerate(questions)
    ]
    write_json(folder / f"TextVQA_0.5.1_{split}.json", {"data": [without_words(record) for record in records]})
    write_json(folder / f"TextVQA_Rosetta_OCR_v0.2_{split}.json", {"data": list(map(rosetta_record, records))})
    write_images(folder / "train_images", [asked["image_id"] for asked in questions])


def write_stvqa(folder: Path, split: str, questions: list[dict[str, Any]]) -> None:
    """The file of task 3, words in the plain layout."""
    records = [
        {**without_words(asked), "question_id": number, "file_path": f"{asked['image_id']}.jpg", "set_name": split}
        for number, asked in enumerate(questions)
    ]
    write_json(folder / f"{split}_task_3.json", {"task_id": 3, "data": records})
    write_words(folder / "words", questions)
    write_images(folder, [asked["image_id"] for asked in questions])


def write_docvqa(folder: Path, split: str, questions: list[dict[str, Any]]) -> None:
    """The question file, words in the plain layout."""
    records = [
        {**without_words(asked), "questionId": number, "image": f"documents/{asked['image_id']}.png"}
        for number, asked in enumerate(questions)
    ]
    write_json(folder / f"{split}_v1.0.json", {"dataset_split": split, "data": records})
    write_words(folder / "ocr_results", questions)


def write_chartqa(folder: Path, split: str, questions: list[dict[str, Any]]) -> None:
    """The human and the augmented questions of a split, words in the plain layout."""
    for kind in ("human", "augmented"):
        records = [
            {"imgname": f"{asked['image_id']}.png", "query": asked["question"], "label": asked["answers"][0]}
            for asked in questions
        ]
        write_json(folder / split / f"{split}_{kind}.json", records)
    write_words(folder / "words", questions)


def write_receipts(folder: Path, questions: list[dict[str, Any]]) -> None:
    """Receipts whose lines are a name and a number each, a field asked for in each."""
    names = [f"{number:03d}" for number in range(len(questions))]
    for name, asked in zip(names, questions, strict=True):
        write_json(folder / "key" / f"{name}.json", {"company": asked["words"][0]["text"]})
        lines = []
        for word in asked["words"]:
            left, top, right, bottom = (round(PIXELS * edge) for edge in word["box"])
            sides = (left, top, right, top, right, bottom, left, bottom)
            lines.append(",".join([*map(str, sides), word["text"]]))
        (folder / "box").mkdir(exist_ok=True)
        (folder / "box" / f"{name}.csv").write_text("\n".join(lines))
    write_images(folder / "img", names)


def write_words(folder: Path, questions: list[dict[str, Any]]) -> None:
    """A file of words an image."""
    for asked in questions:
        write_json(folder / f"{asked['image_id']}.json", asked["words"])


def write_images(folder: Path, names: list[str]) -> None:
    """Plain images, `NAME.jpg`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (PIXELS, PIXELS), (5 * number, 90, 120)).save(folder / f"{name}.jpg")


def without_words(record: dict[str, Any]) -> dict[str, Any]:
    """A question without the words of its image."""
    return {name: value for name, value in record.items() if name != "words"}


def rosetta_record(record: dict[str, Any]) -> dict[str, Any]:
    """The words of a question's image as Rosetta's file has them."""
    words = []
    for word in record["words"]:
        left, top, right, bottom = word["box"]
        box = {"top_left_x": left, "top_left_y": top, "width": right - left, "height": bottom - top}
        words.append({"word": word["text"], "bounding_box": box})
    return {"image_id": record["image_id"], "ocr_info": words}
