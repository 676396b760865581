"""Tiny files of VCR and VisDial in their documented layouts, on the drawn scenes of `recipe_files.py`."""

import json
from pathlib import Path
from typing import Any

from tests.training.recipe_files import IMAGE_SIZE, Drawn, coco_place, link_images, of_split, write_json

ANSWERS = ["yes", "no", "it is red", "maybe two", "a star", "blue", "on the left", "nothing"]
QUESTIONS = ["is it red ?", "how many are there ?", "what is it ?"]
ROUNDS = 3


def write_choices(data: Path) -> None:
    """`vcr/` and `visdial/` below the data folder, whose images lie in `coco/` too."""
    write_vcr(data / "vcr")
    write_visdial(data / "visdial")


def write_vcr(folder: Path) -> None:
    """Two questions an image; the test set hides its labels."""
    for split in ("train", "val", "test"):
        rows: list[dict[str, Any]] = []
        for drawn in of_split(split):
            write_metadata(folder / "vcr1images", drawn)
            rows += [vcr_question(drawn, split, number=len(rows) + place) for place in range(2)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_metadata(folder: Path, drawn: Drawn) -> None:
    """An image of a film, and its metadata beside it: boxes with a score, polygons, names."""
    link_images(folder, {drawn.number: f"film/{drawn.number}.jpg"})
    corners = [[IMAGE_SIZE * side for side in thing.box] for thing in drawn.scene.objects]
    content = {
        "boxes": [[*box, 0.9] for box in corners],
        "segms": [[[[x1, y1], [x2, y1], [x2, y2]]] for x1, y1, x2, y2 in corners],
        "names": names_of(drawn),
        "width": IMAGE_SIZE,
        "height": IMAGE_SIZE,
    }
    write_json(folder / "film" / f"{drawn.number}.json", content)


def names_of(drawn: Drawn) -> list[str]:
    """The first thing of a scene passes for a person."""
    return ["person", *(thing.name for thing in drawn.scene.objects[1:])]


def vcr_question(drawn: Drawn, split: str, *, number: int) -> dict[str, Any]:
    """A line of a file."""
    last = len(drawn.scene.objects) - 1
    choices: list[list[Any]] = [[[0], "is", word, "."] for word in ("red", "blue", "small")]
    row = {
        "annot_id": f"{split}-{number}",
        "img_fn": f"film/{drawn.number}.jpg",
        "img_id": f"{split}-{drawn.number}",
        "metadata_fn": f"film/{drawn.number}.json",
        "movie": "film",
        "objects": names_of(drawn),
        "question": ["Why", "does", sorted({0, last}), "look", "at", [last], "?"],
        "answer_choices": [*choices, [[last], "is", "large", "."]],
        "rationale_choices": [["It", "is", "clear", "."], *choices],
    }
    return row if split == "test" else {**row, "answer_label": number % 4, "rationale_label": (number + 1) % 4}


def write_visdial(folder: Path) -> None:
    """A dialogue an image; of the test set the last round alone has candidates, whose answer is hidden."""
    for split in ("train", "val", "test"):
        scenes = of_split(split)
        dialogues = [dialogue_of(drawn, hidden=split == "test") for drawn in scenes]
        data = {"dialogs": dialogues, "questions": QUESTIONS, "answers": ANSWERS}
        write_json(folder / f"visdial_1.0_{split}.json", {"version": "1.0", "split": split, "data": data})
        rated = [
            {"image_id": drawn.number, "round_id": 1 + place % ROUNDS, "gt_relevance": [1.0, 0.4, 0, 0, 0, 0]}
            for place, drawn in enumerate(scenes)
        ]
        if split == "val":
            write_json(folder / "visdial_1.0_val_dense_annotations.json", rated)
        if split == "train":
            sampled = [{**row, "relevance": row.pop("gt_relevance")} for row in rated]
            write_json(folder / "visdial_1.0_train_dense_sample.json", sampled)
        if split != "train":  # those of train are COCO's, which lie below `coco/`
            name = f"VisualDialog_{split}2018"
            link_images(folder, {drawn.number: f"{name}/{name}_{drawn.number:012d}.jpg" for drawn in scenes})
        assert all(coco_place(drawn)[0] == "train2014" for drawn in of_split("train"))


def dialogue_of(drawn: Drawn, *, hidden: bool) -> dict[str, Any]:
    """A dialogue in VisDial's layout."""
    turns: list[dict[str, Any]] = []
    for place in range(ROUNDS):
        answer = (drawn.number + place) % len(ANSWERS)
        options = [(answer + 3 * step) % len(ANSWERS) for step in range(6)]
        turn: dict[str, Any] = {"question": place, "answer": answer}
        if not hidden:
            turn |= {"answer_options": options[place:] + options[:place], "gt_index": -place % 6}
        elif place == ROUNDS - 1:
            turn = {"question": place, "answer_options": options}
        turns.append(turn)
    return {"image_id": drawn.number, "caption": drawn.captions[0], "dialog": turns}
