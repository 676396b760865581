"""The data sets of captions that shipped recipes name, tiny and in their official layouts, at the recipes' paths."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets

from tests.training.recipe_files import (
    SHAPES,
    Drawn,
    coco_boxes,
    coco_captions,
    coco_images,
    coco_place,
    drawn_scenes,
    everyday_captions,
    link_images,
    of_split,
    sbu_url,
    ten_answers,
    write_json,
    write_lines,
)


def write_coco(data: Path) -> None:
    """COCO 2014 with Karpathy's splits, and the captions and boxes of 2017."""
    coco = data / "coco"
    link_images(coco, {drawn.number: "/".join(coco_place(drawn)) for drawn in drawn_scenes()})
    write_json(coco / "dataset_coco.json", karpathy(drawn_scenes(), name="coco"))
    write_lines(coco / "train_ids.txt", (str(drawn.number) for drawn in of_split("train")))
    categories = [{"supercategory": "shape", "id": 1 + i, "name": name} for i, name in enumerate(SHAPES)]
    for part, scenes in (("train2017", of_split("train")), ("val2017", of_split("val", "test"))):
        link_images(coco / part, {drawn.number: f"{drawn.number:012d}.jpg" for drawn in scenes})
        head = {"info": {"description": "COCO 2017 Dataset"}, "licenses": [], "images": coco_images(scenes)}
        captions = {**head, "annotations": coco_captions(scenes)}
        write_json(coco / "annotations" / f"captions_{part}.json", captions)
        boxes = {**head, "annotations": coco_boxes(scenes), "categories": categories}
        write_json(coco / "annotations" / f"instances_{part}.json", boxes)


def karpathy(scenes: Iterable[Drawn], *, name: str, restval: str = "restval") -> dict[str, Any]:
    """Karpathy's file: `dataset_coco.json`, `dataset_flickr8k.json`."""
    images = []
    for drawn in scenes:
        sentences = [
            {"tokens": text.split(), "raw": text, "imgid": drawn.number, "sentid": 5 * drawn.number + number}
            for number, text in enumerate(drawn.captions if name == "coco" else everyday_captions(drawn))
        ]
        record: dict[str, Any] = {"sentids": [s["sentid"] for s in sentences], "imgid": drawn.number}
        record |= {"sentences": sentences, "split": restval if drawn.split == "restval" else drawn.split}
        if name == "coco":
            folder, file_name = coco_place(drawn)
            record |= {"filepath": folder, "filename": file_name, "cocoid": drawn.number}
        else:
            record["filename"] = f"{drawn.number}.jpg"
        images.append(record)
    return {"images": images, "dataset": name}


def write_flickr(data: Path) -> None:
    """Flickr8k and Flickr30k in Karpathy's layout; of Flickr30k also the token file and the Entities."""
    names = {drawn.number: f"{drawn.number}.jpg" for drawn in drawn_scenes()}
    for name in ("flickr8k", "flickr30k"):
        link_images(data / name / "images", names)
        write_json(data / name / f"dataset_{name}.json", karpathy(drawn_scenes(), name=name, restval="train"))
    tokens = [f"{d.number}.jpg#{i}\t{text}" for d in drawn_scenes() for i, text in enumerate(d.captions)]
    write_lines(data / "flickr30k" / "results_20130124.token", tokens)
    entities = data / "flickr30k_entities"
    for split in ("train", "val", "test"):
        write_lines(entities / f"{split}.txt", (str(drawn.number) for drawn in of_split(split)))
    for drawn in drawn_scenes():
        marked = [
            f"[/EN#{drawn.number}/other {text.split()[0]}] {' '.join(text.split()[1:])}" for text in drawn.captions
        ]
        write_lines(entities / "Sentences" / f"{drawn.number}.txt", marked)


def write_nocaps(data: Path) -> None:
    """nocaps' validation file: COCO's layout with domains, images named as Open Images names them."""
    scenes = of_split("test")
    images = coco_images(scenes, names="{:016x}.jpg")
    for image, domain in zip(images, ("in-domain", "near-domain", "out-domain", "in-domain", "in-domain"), strict=True):
        image |= {"domain": domain, "open_images_id": image["file_name"].removesuffix(".jpg")}
    link_images(data / "nocaps" / "val", {image["id"]: image["file_name"] for image in images})
    content = {"images": images, "annotations": coco_captions(scenes), "licenses": [], "info": {}}
    write_json(data / "nocaps" / "nocaps_val_4500_captions.json", content)


def write_vizwiz(data: Path) -> None:
    """VizWiz captions, some of them rejected, and VizWiz questions with ten answers each."""
    for split in ("train", "val"):
        scenes, names = of_split(split), f"VizWiz_{split}_{{:08d}}.jpg"
        files = {drawn.number: names.format(drawn.number) for drawn in scenes}
        link_images(data / "vizwiz" / split, files)
        notes = coco_captions(scenes, is_precanned=False, is_rejected=False, text_detected=False)
        notes[0]["is_rejected"] = True
        content = {"info": {}, "images": coco_images(scenes, names=names), "annotations": notes}
        write_json(data / "vizwiz" / "annotations" / f"{split}.json", content)
        asked = [
            {
                "image": files[drawn.number],
                "question": question,
                "answers": [{"answer": text, "answer_confidence": "yes"} for text in ten_answers(answer)],
                "answer_type": kind,
                "answerable": 1,
            }
            for drawn in scenes
            for question, kind, answer in drawn.questions
        ]
        write_json(data / "vizwiz_vqa" / "Annotations" / f"{split}.json", asked)


def write_pairs(data: Path) -> None:
    """Conceptual Captions and SBU, with images as img2dataset and as a hash of the url name them."""
    scenes = of_split("train")
    write_lines(data / "cc3m" / "Train_GCC-training.tsv", (f"{d.captions[0]}\thttp://a.org/{d.number}" for d in scenes))
    link_images(data / "cc3m" / "images", {d.number: f"00000/{row:09d}.jpg" for row, d in enumerate(scenes)})
    urls = {drawn.number: sbu_url(drawn) for drawn in scenes}
    lists = {"image_urls": list(urls.values()), "user_ids": [f"u{number}" for number in urls]}
    write_json(data / "sbu" / "sbu-captions-all.json", {**lists, "captions": [d.captions[1] for d in scenes]})
    link_images(data / "sbu" / "images", {n: f"{hashlib.md5(url.encode()).hexdigest()}.jpg" for n, url in urls.items()})


def write_my_own(data: Path) -> None:
    """A folder with a table and Parquet files, of captions and of questions."""
    scenes = of_split("train", "val", "test")
    names = {drawn.number: f"{drawn.number}.jpg" for drawn in scenes}
    link_images(data / "my_images", names)
    rows = [f'{names[d.number]},"{text}",{d.split}' for d in scenes for text in d.captions]
    write_lines(data / "my_images" / "captions.csv", ["file_name,caption,split", *rows])
    link_images(data / "my_questions", names)
    rows = [f"{names[d.number]},{question},{answer},{d.split}" for d in scenes for question, _, answer in d.questions]
    write_lines(data / "my_questions" / "questions.csv", ["image,question,answer,split", *rows])
    for split in ("train", "val", "test"):
        found = of_split(split)
        columns = {"image": [d.image for d in found], "captions": [d.captions for d in found]}
        write_parquet(data / "my_captions", split, columns)
        asked = [(d.image, question, answer) for d in found for question, _, answer in d.questions]
        write_parquet(
            data / "my_hub_questions",
            split,
            dict(zip(("image", "question", "answer"), zip(*asked, strict=True), strict=True)),
        )


def write_parquet(folder: Path, split: str, columns: Mapping[str, Any]) -> None:
    """A split with a column of images, named as the Hub names splits."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = datasets.Dataset.from_dict({name: list(values) for name, values in columns.items()})
    name = "validation" if split == "val" else split
    rows.cast_column("image", datasets.Image()).to_parquet(folder / f"{name}.parquet")
