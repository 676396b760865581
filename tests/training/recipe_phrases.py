"""What shipped recipes read of texts and phrases, tiny, at the paths that they name: captions alone, Entities."""

import gzip
import json
from pathlib import Path

from tests.training.recipe_files import (
    IMAGE_SIZE,
    SHAPES,
    coco_boxes,
    coco_captions,
    coco_images,
    drawn_scenes,
    everyday_captions,
    link_images,
    of_split,
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
