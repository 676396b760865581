"""The captions without images that a shipped recipe names, tiny, at the paths that it names."""

import gzip
from pathlib import Path

from tests.training.recipe_files import coco_captions, coco_images, everyday_captions, of_split, write_json


def write_texts(data: Path) -> None:
    """Captions of Flickr30k as text, packed, and those of the COCO images that are held, which are not to be learnt."""
    texts = data / "captions_text_only" / "flickr30k_train.txt.gz"
    texts.parent.mkdir()
    lines = [f"{drawn.number}\t{text}\n" for drawn in of_split("train") for text in everyday_captions(drawn)]
    texts.write_bytes(gzip.compress("".join(lines).encode()))
    held = of_split("test")
    captions = {"images": coco_images(held, karpathy_split="test"), "annotations": coco_captions(held)}
    write_json(data / "coco_subset" / "captions.json", captions)
