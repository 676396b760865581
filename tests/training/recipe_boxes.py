"""The data sets of boxes that shipped recipes name, tiny and in their official layouts, at the recipes' paths."""

from pathlib import Path
from typing import Any

from tests.training.recipe_files import (
    IMAGE_SIZE,
    SHAPES,
    Drawn,
    coco_boxes,
    coco_images,
    drawn_scenes,
    link_images,
    numbered_questions,
    of_split,
    pixel_boxes,
    write_json,
    write_lines,
)


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
