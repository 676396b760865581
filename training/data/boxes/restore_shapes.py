"""Images that a copy of a data set squashed into squares, in the shape that its annotations say they had.

    python -m training.data.boxes.restore_shapes --output data/flickr8k/images_restored \\
        --part "{format: flickr30k_entities, annotations: data/flickr8k/entities.json.gz, images: data/flickr8k/images,
                 vocabulary: data/visual_genome}"

Some copies of Flickr8k hold squares of 224 pixels. A detector learns people's true proportions only from images that
have them. Boxes in 0..1 stay as they are.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL.Image import Image as PilImage
from PIL.Image import Resampling
from tqdm.auto import tqdm
from transformers.image_utils import load_image

from training.console import one_line, say
from training.data.boxes.formats import load_detection
from training.data.boxes.vocabulary import part_of

QUALITY = 95  # of JPEG
SAME_SHAPE = 1.02  # ratio of two ratios of sides: below, an image is as it was


def restored(image: PilImage, *, width: int, height: int) -> PilImage:
    """An image stretched to the ratio of `width` to `height`, so that no side gets fewer pixels.

    >>> from PIL import Image
    >>> restored(Image.new("RGB", (224, 224)), width=500, height=375).size
    (299, 224)
    """
    change = (width / height) / (image.width / image.height)
    if 1 / SAME_SHAPE < change < SAME_SHAPE:
        return image
    size = (image.width * max(change, 1), image.height * max(1 / change, 1))
    return image.resize((round(size[0]), round(size[1])), Resampling.BICUBIC)


def restore_shapes(part: Mapping[str, Any], *, output: Path) -> tuple[int, int]:
    """Writes every image of a detection data set, in its stated shape and under its own name, as JPEG.

    Args:
        part: what `data:` of a recipe says, a format with its options, `images` among them.
        output: the new folder; images that are there already are left alone, so a broken run goes on.

    Returns:
        How many images were stretched, and how many there are.

    Raises:
        ValueError: for what `load_detection` raises, and for an image that cannot be read.
    """
    options = {name: value for name, value in part.items() if name != "format"}
    rows = load_detection(part["format"], **options).rows.cast_column("image", datasets.Image(decode=False))
    folder = os.path.abspath(options["images"])  # as `image_paths` makes the paths of the rows, links left as they are
    stretched = 0
    for row in tqdm(rows, desc="images", unit="image"):
        path = output / Path(row["image"]["path"]).relative_to(folder)
        try:
            image = load_image(row["image"]["path"]).convert("RGB")
        except (OSError, ValueError) as error:
            raise ValueError(f"image {row['image_id']!r} cannot be read: {one_line(error)}") from error
        shaped = restored(image, width=row["width"], height=row["height"])
        stretched += shaped is not image
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            shaped.save(partial, format="JPEG", quality=QUALITY)
            partial.replace(path)
    return stretched, len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 2 for what is wrong with its arguments or files."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.boxes.restore_shapes",
        description="Stretch images that were squashed into squares back to the shape that their annotations state.",
    )
    parser.add_argument(
        "--part", type=part_of, required=True, help="the data set, as `data:` of a recipe has it, with `images`"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the images")
    args = parser.parse_args(arguments)
    try:
        if not isinstance(args.part.get("format"), str) or "images" not in args.part:
            raise ValueError(f"--part needs a format and its images: {args.part}")
        stretched, count = restore_shapes(args.part, output=args.output)
    except (ValueError, OSError) as error:
        say(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    say(f"{stretched} of {count} images stretched to the shape they had, all in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
