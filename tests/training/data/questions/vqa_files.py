"""Small question files in the official layouts, for the tests of training/data/vqa*.py."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

VQA_ANSWERS = {
    1000: ["yes"] * 9 + ["no"],
    1001: ["2"] * 6 + ["3"] * 4,
    2000: ["a cat", "cat"] * 5,
}


def write(path: Path, content: Any) -> Path:
    """Text as it is, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def draw_images(folder: Path, names: list[str]) -> Path:
    """Images whose red value is their place in the list."""
    for red, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (red, 0, 0)).save(folder / name, format="PNG")
    return folder


def answers(texts: list[str]) -> list[dict[str, Any]]:
    """Answers as VQA's annotations hold them."""
    return [
        {"answer": text, "answer_confidence": "yes", "answer_id": number} for number, text in enumerate(texts, start=1)
    ]


def vqa_questions(**header: Any) -> dict[str, Any]:
    """Three questions, two on image 1 and one on image 2, in the layout of VQA v2."""
    asked = {1000: "Is it red?", 1001: "How many dogs?", 2000: "What is this? "}
    return {
        "info": {"version": "2.0"},
        "data_type": "mscoco",
        "data_subtype": "val2014",
        **header,
        "questions": [
            {"image_id": question_id // 1000, "question": question, "question_id": question_id}
            for question_id, question in asked.items()
        ],
    }


def vqa_annotations(**header: Any) -> dict[str, Any]:
    """Their annotations, in another order."""
    types = {1000: ("is it", "yes/no"), 1001: ("how many", "number"), 2000: ("what is", "other")}
    return {
        "data_subtype": "val2014",
        "annotations": [
            {
                "question_id": question_id,
                "image_id": question_id // 1000,
                "question_type": types[question_id][0],
                "answer_type": types[question_id][1],
                "multiple_choice_answer": texts[0],
                "answers": answers(texts),
            }
            for question_id, texts in reversed(VQA_ANSWERS.items())
        ],
        **header,
    }


def gqa_question(question: str, answer: str | None, **fields: Any) -> dict[str, Any]:
    """A question in the layout of GQA; None for an answer that is hidden."""
    given = {} if answer is None else {"answer": answer, "fullAnswer": f"It is {answer}."}
    return {"question": question, "imageId": "n5", "isBalanced": True, **given, **fields}
