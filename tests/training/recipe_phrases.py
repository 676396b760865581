"""What shipped recipes read of texts and phrases, tiny, at the paths that they name: captions alone, Entities, RefCOCO,
DenseCap's splits, Visual7W pointing, GuessWhat?!."""

import gzip
import json
import pickle
from pathlib import Path

from tests.training.recipe_files import (
    IMAGE_SIZE,
    SHAPES,
    coco_boxes,
    coco_captions,
    coco_images,
    coco_place,
    drawn_scenes,
    everyday_captions,
    link_images,
    of_split,
    pixel_boxes,
    write_json,
    write_lines,
)


def write_texts(data: Path) -> None:
    """Captions of Flickr30k as text, packed; of the COCO images that are held captions, not to be learnt, and boxes."""
    texts = data / "captions_text_only" / "flickr30k_train.txt.gz"
    texts.parent.mkdir()
    lines = [f"{drawn.number}\t{text}\n" for drawn in of_split("train") for text in everyday_captions(drawn)]
    texts.write_bytes(gzip.compress("".join(lines).encode()))
    held = of_split("test")
    captions = {"images": coco_images(held, karpathy_split="test"), "annotations": coco_captions(held)}
    write_json(data / "coco_subset" / "captions.json", captions)
    boxed = of_split("train", "test")
    categories = [{"id": 1 + number, "name": name} for number, name in enumerate(SHAPES)]
    images = coco_images(boxed, box_source="human")
    boxes = {"images": images, "annotations": coco_boxes(boxed), "categories": categories}
    write_json(data / "coco_subset" / "instances.json", boxes)


def write_descriptions(data: Path) -> None:
    """DenseCap's splits of Visual Genome's images."""
    splits = {split: [drawn.number for drawn in of_split(split)] for split in ("train", "val", "test")}
    write_json(data / "visual_genome" / "densecap_splits.json", splits)


def write_entities(data: Path) -> None:
    """Flickr30k Entities of Flickr8k's images as one JSON, a phrase a thing; a vocabulary; images in their shape."""
    records = [
        {
            "filename": f"{drawn.number}.jpg",
            "split": "train" if drawn.split == "restval" else drawn.split,
            "orig_width": IMAGE_SIZE,
            "orig_height": IMAGE_SIZE,
            "boxes": {str(i): [list(thing.box)] for i, thing in enumerate(drawn.scene.objects)},
            "sentences": [
                {
                    "tokens": f"A red {thing.name} is there .".split(),
                    "phrases": [{"phrase": f"A red {thing.name}", "chain": str(i), "types": ["other"]}],
                }
                for i, thing in enumerate(drawn.scene.objects)
            ],
        }
        for drawn in drawn_scenes()
    ]
    content = gzip.compress(json.dumps(records).encode())
    (data / "flickr8k" / "entities.json.gz").write_bytes(content)
    link_images(
        data / "flickr8k" / "images_restored", {drawn.number: f"{drawn.number}.jpg" for drawn in drawn_scenes()}
    )
    write_lines(data / "vocabulary" / "objects_vocab.txt", [*SHAPES, "person,people", "dog"])
    write_lines(data / "vocabulary" / "attributes_vocab.txt", ["red", "blue"])


def write_refcoco(data: Path) -> None:
    """RefCOCO: a ref for each thing, two expressions for each; the refs as the pickle that they come as."""
    refs, images = [], []
    for drawn in of_split("train", "val", "test"):
        size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
        images.append({"id": drawn.number, "file_name": coco_place(drawn)[1], **size})
        for number, (name, *_) in enumerate(pixel_boxes(drawn)):
            ref_id = 10 * drawn.number + number
            said = [
                {"sent_id": 2 * ref_id + i, "sent": f"{word} {name}", "raw": ""} for i, word in enumerate(("the", "a"))
            ]
            ids = {"ref_id": ref_id, "ann_id": ref_id, "image_id": drawn.number, "category_id": 1}
            split = "testA" if drawn.split == "test" else drawn.split
            refs.append({**ids, "split": split, "sentences": said, "file_name": coco_place(drawn)[1]})
    notes = coco_boxes(of_split("train", "val", "test"))
    write_json(data / "refcoco" / "instances.json", {"images": images, "annotations": notes, "categories": []})
    (data / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))


def write_densecap_splits(data: Path) -> None:
    """The lists of image ids by which DenseCap splits Visual Genome."""
    lists = {split: [drawn.number for drawn in of_split(split)] for split in ("train", "val", "test")}
    write_json(data / "visual_genome" / "densecap_splits.json", lists)


def write_pointing(data: Path) -> None:
    """Visual7W pointing: the boxes of a scene, and three beside each, of which the right one is asked for."""
    boxes, images = [], []
    for drawn in of_split("train", "val", "test"):
        pairs = []
        for number, (name, *box) in enumerate(pixel_boxes(drawn)):
            ids = [100 * drawn.number + 10 * number + i for i in range(4)]
            places = [box, *([10 * i, 10 * i, 12, 12] for i in range(3))]
            sides = [dict(zip(("x", "y", "width", "height"), place, strict=True)) for place in places]
            boxes += [{"box_id": own, "name": name, **side} for own, side in zip(ids, sides, strict=True)]
            asked = {"qa_id": ids[0], "question": f"Which {name} is there?", "type": "which"}
            pairs.append({**asked, "answer": ids[0], "multiple_choices": ids[1:]})
        about = {"image_id": drawn.number, "filename": f"v7w_{drawn.number}.jpg", "split": drawn.split}
        images.append({**about, "qa_pairs": pairs})
    content = {"dataset": "visual7w-pointing", "boxes": boxes, "images": images}
    write_json(data / "visual7w" / "dataset_v7w_pointing.json", content)


def write_guesswhat(data: Path) -> None:
    """GuessWhat?!: a game on each thing of a scene, packed, a file a split."""
    (data / "guesswhat").mkdir()
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        games = []
        for drawn in of_split(split):
            image = {"id": drawn.number, "width": IMAGE_SIZE, "height": IMAGE_SIZE, "file_name": coco_place(drawn)[1]}
            things = pixel_boxes(drawn)
            objects = [{"id": i, "category": kind, "bbox": box} for i, (kind, *box) in enumerate(things)]
            for i, (kind, *_) in enumerate(things):
                qas = [{"id": i, "question": f"Is it the {kind}?", "answer": "Yes"}]
                game = {"id": 10 * drawn.number + i, "object_id": i, "status": "success", "image": image, "qas": qas}
                games.append(json.dumps({**game, "objects": objects}))
        packed = gzip.compress("\n".join(games).encode())
        (data / "guesswhat" / f"guesswhat.{name}.jsonl.gz").write_bytes(packed)
