"""The data sets of questions that shipped recipes name, tiny and in their official layouts, at the recipes' paths."""

import json
from pathlib import Path
from typing import Any

from tests.training.recipe_files import (
    Drawn,
    coco_place,
    drawn_scenes,
    link_images,
    numbered_questions,
    of_split,
    ten_answers,
    write_json,
    write_lines,
)


def write_vqa(data: Path) -> None:
    """VQA v2, the multiple choice of VQA v1, and OK-VQA; the answers of VQA v2 and GloVe vectors."""
    for part, splits in (
        ("train2014", ("train",)),
        ("val2014", ("val",)),
        ("test-dev2015", ("test",)),
        ("test2015", ("test",)),
    ):
        asked = numbered_questions(of_split(*splits))
        head = {"info": {}, "license": {}, "data_type": "mscoco", "data_subtype": part}
        questions = [{"image_id": d.number, "question": text, "question_id": i} for i, d, text, _, _ in asked]
        opened = {**head, "task_type": "Open-Ended", "questions": questions}
        write_json(data / "vqa_v2" / f"v2_OpenEnded_mscoco_{part}_questions.json", opened)
        if "test" in part:
            continue
        write_json(data / "okvqa" / f"OpenEnded_mscoco_{part}_questions.json", opened)
        chosen = [
            {**q, "multiple_choices": choices(answer, 18)} for q, (*_, answer) in zip(questions, asked, strict=True)
        ]
        multiple = {**head, "task_type": "Multiple-Choice", "num_choices": 18, "questions": chosen}
        write_json(data / "vqa_v1" / f"MultipleChoice_mscoco_{part}_questions.json", multiple)
        notes = [vqa_annotation(*row) for row in asked]
        write_json(data / "vqa_v2" / f"v2_mscoco_{part}_annotations.json", {**head, "annotations": notes})
        write_json(data / "vqa_v1" / f"mscoco_{part}_annotations.json", {**head, "annotations": notes})
        known = [{**note, "question_type": "one", "answer_type": "other"} for note in notes]
        types = {"question_types": {"one": "Vehicles and Transportation"}}
        write_json(data / "okvqa" / f"mscoco_{part}_annotations.json", {**head, **types, "annotations": known})
    answers = sorted({answer for *_, answer in numbered_questions(of_split("train", "val"))})
    write_json(data / "vqa_v2" / "answers.json", answers)
    words = sorted(
        {word.strip("?") for _, _, text, _, _ in numbered_questions(drawn_scenes()) for word in text.lower().split()}
    )
    write_lines(data / "glove.6B.300d.txt", (f"{word}{f' 0.{number:02d}' * 300}" for number, word in enumerate(words)))


def write_knowledge(data: Path) -> None:
    """Sentences of knowledge, one a line."""
    write_lines(
        data / "knowledge" / "facts.txt", ("dogs are brown", "a wave is on the ocean", "a ball may be red", "yes")
    )


def vqa_annotation(question_id: int, drawn: Drawn, question: str, kind: str, answer: str) -> dict[str, Any]:
    """An annotation of VQA v2 and OK-VQA."""
    given = [
        {"answer": text, "raw_answer": text, "answer_confidence": "yes", "answer_id": number}
        for number, text in enumerate(ten_answers(answer), start=1)
    ]
    about = {
        "question_id": question_id,
        "image_id": drawn.number,
        "question_type": " ".join(question.lower().split()[:2]),
    }
    return {**about, "answer_type": kind, "multiple_choice_answer": answer, "answers": given}


def choices(answer: str, number: int) -> list[str]:
    """That many different choices, the right one first."""
    return [answer, *(f"choice {i}" for i in range(1, number))]


def write_pope(data: Path) -> None:
    """POPE's files of three samplings."""
    for name in ("random", "popular", "adversarial"):
        asked = [
            {"question_id": 2 * d.number + i, "image": f"COCO_val2014_{d.number:012d}.jpg", "label": label}
            | {"text": f"Is there a {thing} in the image?"}
            for d in of_split("test")
            for i, (thing, label) in enumerate(((d.scene.objects[0].name, "yes"), ("dog", "no")))
        ]
        write_lines(data / "pope" / f"coco_pope_{name}.json", map(json.dumps, asked))


def write_aokvqa(data: Path) -> None:
    """A-OKVQA; its test file has neither the right choice nor direct answers."""
    for split in ("train", "val", "test"):
        records = []
        for question_id, drawn, question, _, answer in numbered_questions(of_split(split)):
            record: dict[str, Any] = {"split": split, "image_id": drawn.number, "question_id": f"q{question_id}"}
            record |= {"question": question, "choices": choices(answer, 4), "difficult_direct_answer": False}
            if split != "test":
                record |= {"correct_choice_idx": 0, "direct_answers": ten_answers(answer), "rationales": ["so"] * 3}
            records.append(record)
        write_json(data / "aokvqa" / f"aokvqa_v1p0_{split}.json", records)


def write_gqa(data: Path) -> None:
    """GQA's balanced questions; the submission file has no answers."""
    for name, split in (
        ("train_balanced", "train"),
        ("val_balanced", "val"),
        ("testdev_balanced", "test"),
        ("submission_all", "test"),
    ):
        records = {}
        for question_id, drawn, question, kind, answer in numbered_questions(of_split(split)):
            record: dict[str, Any] = {"question": question, "imageId": str(drawn.number), "isBalanced": True}
            if name != "submission_all":
                structural = "verify" if kind == "yes/no" else "query"
                record |= {"answer": answer, "fullAnswer": f"It is {answer}.", "semantic": [], "semanticStr": ""}
                record |= {"types": {"detailed": "exist", "semantic": "obj", "structural": structural}}
                record |= {"entailed": [], "equivalent": [f"0{question_id}"], "groups": {"global": None, "local": "1"}}
            records[f"0{question_id}"] = record
        write_json(data / "gqa" / f"{name}_questions.json", records)


def write_lxmert(data: Path) -> None:
    """LXMERT's copies of VQA v2 and GQA with their answers."""
    files = (("train", "train"), ("nominival", "restval"), ("minival", "val"), ("test", "test"))
    for name, split in files:
        records: list[dict[str, Any]] = []
        for question_id, drawn, question, kind, answer in numbered_questions(of_split(split)):
            place = coco_place(drawn)[1].removesuffix(".jpg")
            record = {"img_id": place, "question_id": question_id, "sent": question, "question_type": "what"}
            label = {"answer_type": kind, "label": {answer: 1, "maybe": 0.9}}
            records.append(record if split == "test" else {**record, **label})
        write_json(data / "lxmert" / "vqa" / f"{name}.json", records)
    for name, split in (("train", "train"), ("valid", "val"), ("testdev", "test"), ("submit", "test")):
        records = []
        for question_id, drawn, question, _, answer in numbered_questions(of_split(split)):
            record = {"img_id": str(drawn.number), "question_id": f"0{question_id}", "sent": question}
            records.append({**record, "label": {} if name == "submit" else {answer: 1.0}})
        write_json(data / "lxmert" / "gqa" / f"{name}.json", records)
    answers = sorted({answer for *_, answer in numbered_questions(of_split("train", "val"))})
    for name in ("vqa", "gqa"):
        write_json(data / "lxmert" / name / "trainval_label2ans.json", answers)


def write_visual7w(data: Path) -> None:
    """Visual7W telling."""
    images = []
    for drawn in of_split("train", "val", "test"):
        pairs = [
            {
                "qa_id": question_id,
                "image_id": drawn.number,
                "question": question,
                "answer": f"{answer}.",
                "multiple_choices": choices(answer, 4)[1:],
                "type": question.lower().split()[0],
            }
            for question_id, _, question, _, answer in numbered_questions([drawn])
        ]
        images.append(
            {"image_id": drawn.number, "filename": f"v7w_{drawn.number}.jpg", "split": drawn.split, "qa_pairs": pairs}
        )
    write_json(data / "visual7w" / "dataset_v7w_telling.json", {"dataset": "visual7w-telling", "images": images})


def write_daquar(data: Path) -> None:
    """DAQUAR's pairs of lines and lists of images; a tenth of the training images is held out for validation."""
    scenes = of_split("train", "restval", "val", "test")
    link_images(data / "daquar" / "images", {drawn.number: f"image{drawn.number}.jpg" for drawn in scenes})
    lines = []
    for drawn in scenes:
        for question, _, answer in drawn.questions:
            lines += [f"{question.lower().strip('?')} in the image{drawn.number} ?", answer.replace(" ", "_")]
    write_lines(data / "daquar" / "all_qa_pairs.txt", lines)
    for split, found in (("train", scenes[:47]), ("test", scenes[47:])):
        write_lines(data / "daquar" / f"{split}_images_list.txt", (f"image{drawn.number}" for drawn in found))
