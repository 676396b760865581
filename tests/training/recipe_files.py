"""Every data set that a shipped recipe names, tiny and in its official layout, at the paths that the recipes name.

    drawn scenes --write_data--> data/coco, data/flickr8k, ..., hub_cards, runs/regions, below one folder

A scene's number is its id: 1 to 40 train, 41 and 42 restval, 43 to 47 val, 48 to 52 test.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import torch
from PIL import Image

from tests.tiny import tiny_encoder_config, tiny_pyramid_detector, tiny_text_config, tiny_tokenizer
from tests.training.tiny_run import scene_questions
from training.regions.store import RegionStoreWriter
from training.scenes.draw import Scene, draw_scene, scene_captions

SPLITS = {"train": range(1, 41), "restval": range(41, 43), "val": range(43, 48), "test": range(48, 53)}
IMAGE_SIZE = 64
NUM_OBJECTS, NUM_ATTRIBUTES = 5, 4  # of the region stores
REGIONS_AN_IMAGE, FEATURE_WIDTH = 3, 16
COCO_KEYS = {"license": 1, "coco_url": "", "flickr_url": "", "date_captured": "2013-11-14 17:02:52"}


class Drawn(NamedTuple):
    """A scene with its number, split and image, five captions, and (question, kind of answer, answer)."""

    number: int
    split: str
    image: Image.Image
    scene: Scene
    captions: list[str]
    questions: list[tuple[str, str, str]]


@cache
def drawn_scenes() -> list[Drawn]:
    """All scenes in the order of their numbers."""
    found = []
    for split, numbers in SPLITS.items():
        for number in numbers:
            image, scene = draw_scene(number, seed=0, image_size=IMAGE_SIZE)
            found.append(Drawn(number, split, image, scene, scene_captions(scene), scene_questions(scene)))
    return found


def of_split(*splits: str) -> list[Drawn]:
    return [drawn for drawn in drawn_scenes() if drawn.split in splits]


def write_data(root: Path) -> None:
    """Everything that recipes read and no recipe makes."""
    pool = root / "pool"
    pool.mkdir(parents=True)
    for drawn in drawn_scenes():
        drawn.image.save(pool / f"{drawn.number}.jpg")
    data = root / "data"
    for write in (
        *(write_coco, write_flickr, write_nocaps, write_vizwiz, write_pairs, write_my_own, write_vqa, write_aokvqa),
        *(write_pope, write_gqa, write_lxmert, write_visual_genome, write_visual7w, write_daquar, write_pseudo_boxes),
    ):
        write(data)
    write_models(root)
    write_stores(root / "runs" / "regions")


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def link_images(folder: Path, names: Mapping[int, str]) -> None:
    """The images of those numbers in a folder, under names of its own."""
    pool = next(parent for parent in folder.parents if (parent / "pool").is_dir()) / "pool"
    for number, name in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(pool / f"{number}.jpg", folder / name)


def coco_place(drawn: Drawn) -> tuple[str, str]:
    """Folder and name of an image in COCO 2014."""
    part = "train2014" if drawn.split == "train" else "val2014"
    return part, f"COCO_{part}_{drawn.number:012d}.jpg"


def coco_images(scenes: Iterable[Drawn], *, names: str = "{:012d}.jpg", **keys: Any) -> list[dict[str, Any]]:
    """The list `images` of a file in COCO's layout."""
    size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
    return [{"id": d.number, "file_name": names.format(d.number), **size, **COCO_KEYS, **keys} for d in scenes]


def coco_captions(scenes: Iterable[Drawn], **keys: Any) -> list[dict[str, Any]]:
    """The list `annotations` of a captions file in COCO's layout."""
    return [
        {"image_id": drawn.number, "id": 10 * drawn.number + number, "caption": caption, **keys}
        for drawn in scenes
        for number, caption in enumerate(drawn.captions)
    ]


def coco_boxes(scenes: Iterable[Drawn], **keys: Any) -> list[dict[str, Any]]:
    """The list `annotations` of an instances file; the categories are `SHAPES`."""
    found = []
    for drawn in scenes:
        for number, (name, x, y, width, height) in enumerate(pixel_boxes(drawn)):
            box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0, "segmentation": []}
            ids = {"id": 10 * drawn.number + number, "image_id": drawn.number, "category_id": 1 + SHAPES.index(name)}
            found.append({**ids, **box, **keys})
    return found


SHAPES = ["circle", "square", "triangle", "diamond", "star"]


def pixel_boxes(drawn: Drawn) -> list[tuple[str, float, float, float, float]]:
    """Name, x, y, width and height in pixels of every thing of a scene."""
    found = []
    for thing in drawn.scene.objects:
        x1, y1, x2, y2 = (IMAGE_SIZE * side for side in thing.box)
        found.append((thing.name, x1, y1, x2 - x1, y2 - y1))
    return found


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


def everyday_captions(drawn: Drawn) -> list[str]:
    """Captions of which questions can be made: five people agree on who does what, where."""
    who, what = WHO[drawn.number % len(WHO)], WHAT[drawn.number % len(WHAT)]
    return [f"A {adjective} {who} {what} ." for adjective in ("brown", "brown", "small brown", "brown", "happy")]


WHO = ("dog", "cat", "horse")
WHAT = ("runs through the grass", "jumps over a log in the snow", "sits on a wooden bench", "swims in the water")


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


def sbu_url(drawn: Drawn) -> str:
    return f"http://static.flickr.com/{drawn.number}/{drawn.number}_a.jpg"


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


def ten_answers(answer: str) -> list[str]:
    """What ten people say, seven of them the same."""
    return [answer] * 7 + ["maybe"] * 3


def numbered_questions(scenes: Iterable[Drawn]) -> list[tuple[int, Drawn, str, str, str]]:
    """(question id, scene, question, kind of answer, answer) of all questions."""
    return [
        (1000 * drawn.number + number, drawn, *question)
        for drawn in scenes
        for number, question in enumerate(drawn.questions)
    ]


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


def write_visual_genome(data: Path) -> None:
    """Objects, attributes, relationships, phrases and questions, the vocabularies and the split lists."""
    genome = data / "visual_genome"
    link_images(genome, {drawn.number: f"VG_100K/{drawn.number}.jpg" for drawn in drawn_scenes()})
    files: dict[str, list[dict[str, Any]]] = {name: [] for name in GENOME_FILES}
    for drawn in drawn_scenes():
        about = {"image_id": drawn.number, "image_url": f"https://cs.stanford.edu/VG_100K/{drawn.number}.jpg"}
        things = genome_objects(drawn)
        files["objects"].append({**about, "objects": things})
        coloured = [
            {**thing, "attributes": [made.colour]} for thing, made in zip(things, drawn.scene.objects, strict=True)
        ]
        files["attributes"].append({**about, "attributes": coloured})
        relations = [
            {
                "relationship_id": number,
                "predicate": predicate,
                "synsets": [],
                "subject": things[i],
                "object": things[j],
            }
            for number, (i, predicate, j) in enumerate(drawn.scene.relations)
        ]
        files["relationships"].append({"image_id": drawn.number, "relationships": relations})
        regions = [
            {"region_id": number, "image_id": drawn.number, "phrase": text, "x": 1, "y": 1, "width": 40, "height": 30}
            for number, text in enumerate(drawn.captions)
        ]
        files["region_descriptions"].append({"id": drawn.number, "regions": regions})
        size = {
            "width": IMAGE_SIZE,
            "height": IMAGE_SIZE,
            "coco_id": drawn.number if drawn.number % 2 else None,
            "flickr_id": 1,
        }
        files["image_data"].append({"image_id": drawn.number, "url": about["image_url"], **size})
        asked = [
            {
                "qa_id": i,
                "image_id": drawn.number,
                "question": text,
                "answer": f"{answer}.",
                "a_objects": [],
                "q_objects": [],
            }
            for i, _, text, _, answer in numbered_questions([drawn])
        ]
        files["question_answers"].append({"id": drawn.number, "qas": asked})
    for name, content in files.items():
        write_json(genome / f"{name}.json", content)
    for split in ("train", "val", "test"):
        lines = (f"VG_100K/{drawn.number}.jpg {drawn.number}" for drawn in of_split(split))
        write_lines(genome / f"{split}.txt", lines)
    write_lines(genome / "objects_vocab.txt", [*SHAPES[:-1], "star,stars"])
    write_lines(genome / "attributes_vocab.txt", sorted({t.colour for d in drawn_scenes() for t in d.scene.objects}))
    write_lines(genome / "relations_vocab.txt", ["left of", "right of", "above", "below", "inside"])


GENOME_FILES = (*("objects", "attributes", "relationships", "region_descriptions", "image_data", "question_answers"),)


def genome_objects(drawn: Drawn) -> list[dict[str, Any]]:
    """The objects of an image in Visual Genome's `objects.json`."""
    return [
        {
            "object_id": 100 * drawn.number + number,
            "names": [name],
            "synsets": [f"{name}.n.01"],
            "merged_object_ids": [],
            **dict(zip(("x", "y", "w", "h"), map(round, box), strict=True)),
        }
        for number, (name, *box) in enumerate(pixel_boxes(drawn))
    ]


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


def write_pseudo_boxes(data: Path) -> None:
    """Boxes with attributes, human ones and those of a teacher, as `detection/lite` reads them."""
    categories = [{"id": 1 + number, "name": name} for number, name in enumerate(SHAPES)]
    attributes = [{"id": 1 + number, "name": name} for number, name in enumerate(("red", "blue"))]
    parts = {"coco_subset_attributes": ("train", "val", "test"), "flickr8k": ("restval",), "daquar": ("restval",)}
    for name, splits in parts.items():
        found = of_split(*splits)
        images, notes = coco_images(found, box_source="human"), coco_boxes(found, attributes=["red"])
        if name == "coco_subset_attributes":
            for image, drawn in zip(images, found, strict=True):
                image["karpathy_split"] = drawn.split
            link_images(data / "coco_subset" / "images", {i["id"]: i["file_name"] for i in images})
        elif name == "flickr8k":
            for image in images:
                image["file_name"] = f"{image['id']}.jpg"
        else:
            for image in images:
                image["file_name"] = f"image{image['id']}.jpg"
        content = {"images": images, "annotations": notes, "categories": categories, "attributes": attributes}
        write_json(data / "pseudo" / f"{name}.json", content)


def write_models(root: Path) -> None:
    """The pretrained models that recipes name, tiny: text encoders, a language model, our captioner and detector."""
    from transformers import AutoModel, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    for name in ("google-bert/bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"):
        AutoModel.from_config(tiny_encoder_config()).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    name = "HuggingFaceTB/SmolLM2-135M"
    tokenizer = tiny_tokenizer(bos_token="[CLS]", eos_token="[SEP]")
    config = tiny_text_config("llama", vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3)
    AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
    tokenizer.save_pretrained(root / name)
    detector = root / "hub_cards" / "updown-detector-lite"
    tiny_pyramid_detector(id2label=dict(enumerate(("background", *DETECTED)))).save_pretrained(detector)
    from modeling_updown import UpDownImageProcessor

    UpDownImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(detector)


DETECTED = ("dog", "cat", "horse", "person", "log", "bench", "water", "snow", "grass", "ball", "bird", "car")


def write_stores(folder: Path) -> None:
    """The stores that recipes name without a region source: converted or extracted ones, by the official ids."""
    numbers = [str(drawn.number) for drawn in drawn_scenes()]
    genome = [f"visual_genome-{number}" for number in numbers]
    cc3m = [f"pairs-{row}" for row in range(len(SPLITS["train"]))]
    sbu = [f"pairs4-{hashlib.md5(sbu_url(drawn).encode()).hexdigest()}" for drawn in of_split("train")]
    vizwiz = [f"VizWiz_{split}_{d.number:08d}.jpg" for split in ("train", "val") for d in of_split(split)]
    for name, ids in {
        **{f"{name}_36": numbers for name in ("coco", "visual_genome", "gqa", "flickr30k", "tags")},
        "coco_10_100": numbers,
        "coco_visual_genome_36": [*numbers, *genome],
        "vizwiz_vqa_36": vizwiz,
        "pretraining_captions": [*numbers, *genome, *cc3m, *sbu],
    }.items():
        write_store(folder / name, ids)


def write_store(folder: Path, ids: list[str]) -> None:
    """Random regions with the columns of a detector that was extracted with `--soft-labels`."""
    size, generator = (len(ids), REGIONS_AN_IMAGE), torch.Generator().manual_seed(0)
    corners = torch.rand(*size, 2, generator=generator) / 2
    regions = {
        "region_features": torch.randn(*size, FEATURE_WIDTH, generator=generator),
        "region_boxes": torch.cat([corners, corners + 0.3], dim=-1),
        "region_scores": torch.rand(*size, generator=generator) / 2 + 0.5,
        "object_ids": torch.randint(1, NUM_OBJECTS + 1, size, generator=generator),
        "object_probs": torch.rand(*size, NUM_OBJECTS + 1, generator=generator).softmax(dim=-1),
        "attribute_probs": torch.rand(*size, NUM_ATTRIBUTES + 1, generator=generator).softmax(dim=-1),
    }
    with RegionStoreWriter(folder, fingerprint={"backbone": "drawn"}) as writer:
        writer.append(ids, regions)
