"""What shipped recipes read of statements, tiny, at the paths that they name: SNLI-VE, e-SNLI-VE, NLVR2, NLVR."""

import csv
import json
from pathlib import Path
from typing import Any

from PIL import Image

from tests.tiny import save_tiny_retrieval
from tests.training.recipe_files import Drawn, drawn_scenes, link_images, of_split, write_lines

CLASSES = ("entailment", "neutral", "contradiction")
FILE_WORDS = {"train": "train", "val": "dev", "test": "test"}


def write_statements(data: Path) -> None:
    """The data, and the published model beside them that recipes start from."""
    write_snli_ve(data)
    write_nlvr2(data / "nlvr2")
    write_nlvr(data / "nlvr")
    folder = data.parent / "hub_cards" / "updown-retrieval-flickr8k"
    if not folder.exists():
        save_tiny_retrieval(folder)


def write_snli_ve(data: Path) -> None:
    """Official files by Flickr30k's ids, and one file of all splits on Flickr8k's images."""
    mixed = []
    for split, word in FILE_WORDS.items():
        lines, rows = [], []
        for drawn in of_split(split):
            for number, label in enumerate(CLASSES):
                text = f"{drawn.captions[number]}."
                pair = f"{drawn.number}.jpg#{number}r1{label[0]}"
                said = {"gold_label": label, "sentence1": drawn.captions[0], "sentence2": text, "pairID": pair}
                lines.append({"Flickr30K_ID": str(drawn.number), "captionID": f"{drawn.number}.jpg#{number}", **said})
                rows.append([len(rows), pair, f"{drawn.number}.jpg", text, label, "it is so, they say"])
                image = {"image": f"{drawn.number}.jpg", "flickr8k_split": split}
                mixed.append({**image, "hypothesis": text, "label": label, "official_split": "dev"})
        write_lines(data / "snli_ve" / f"snli_ve_{word}.jsonl", map(json.dumps, lines))
        with open(data / "snli_ve" / f"esnlive_{word}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["", "pairID", "Flickr30kID", "hypothesis", "gold_label", "explanation"])
            table.writerows(rows)
    write_lines(data / "snli_ve" / "flickr8k_subset.jsonl", map(json.dumps, mixed))
    images = data / "flickr30k" / "images"
    absent = [drawn.number for drawn in drawn_scenes() if not (images / f"{drawn.number}.jpg").exists()]
    link_images(images, {number: f"{number}.jpg" for number in absent})


def write_nlvr2(folder: Path) -> None:
    """Each scene with the next one: two pairs of a sentence, true and false."""
    for split, (word, name) in {"train": ("train", "train"), "val": ("dev", "dev"), "test": ("test1", "test1")}.items():
        scenes, lines = of_split(split), []
        for place, drawn in enumerate(scenes[:-1]):
            other = scenes[place + 1]
            for pair, (label, sides) in enumerate((("True", (drawn, other)), ("False", (other, drawn)))):
                identifier = f"{word}-{place}-{pair}-0"
                kept = {"directory": place % 3} if split == "train" else {}
                lines.append({"sentence": drawn.captions[0], "identifier": identifier, "label": label, **kept})
                where = folder / "images" / name / str(place % 3) if split == "train" else folder / "images" / name
                write_pngs(where, [f"{word}-{place}-{pair}-img{side}.png" for side in (0, 1)], sides)
        write_lines(folder / f"{name}.json", map(json.dumps, lines))


def write_pngs(folder: Path, names: list[str], sides: tuple[Drawn, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in zip(names, sides, strict=True):
        drawn.image.save(folder / name)


def write_nlvr(folder: Path) -> None:
    """Three boxes in one image, a presentation a scene, of which dev and test are there."""
    for split, word in (("train", "dev"), ("test", "test")):
        lines: list[dict[str, Any]] = []
        for drawn in of_split(split):
            for place, label in enumerate(("true", "false")):
                identifier = f"{drawn.number}-{place}"
                lines.append(
                    {"sentence": drawn.captions[0], "label": label, "identifier": identifier, "directory": "0"}
                )
                whole = Image.new("RGB", (400, 100), (128, 128, 128))
                for left in (0, 150, 300):
                    whole.paste(drawn.image.resize((100, 100)), (left, 0))
                (folder / "images").mkdir(parents=True, exist_ok=True)
                whole.save(folder / "images" / f"{word}-{identifier}-0.png")
        write_lines(folder / f"{word}.json", map(json.dumps, lines))
