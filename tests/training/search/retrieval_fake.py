"""A retrieval model that sees nothing but colour, so that every search has an obvious answer.

An image's vector is its mean red, green and blue, a text's the mean colour of the words it knows; what matches best is
the brightest image (so that re-ranking changes the order), or for texts the longest.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from modeling_updown import Regions, UpDownImageProcessor, UpDownProcessor, UpDownTokenizer
from modeling_updown.boxes_updown import grid_boxes
from tests.tiny import IMAGE_SIDE
from training.regions.extract import source_fingerprint
from training.regions.store import RegionStoreWriter

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}
GRID = {
    "backbone": "colours",
    "image_size": IMAGE_SIDE,
    "regions": "grid",
    "grid_size": 2,
    "joined_levels": [],
    "grid_sizes": None,
    "image_scales": None,
}


class ColourSource(torch.nn.Module):
    """Four cells, each with its mean red, green and blue in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale: torch.Tensor
        self.config = SimpleNamespace(model_type="updown_grid", pyramid_levels=[], **GRID)
        self.register_buffer("scale", torch.tensor(0.5))

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None = None) -> Regions:
        cells = torch.nn.functional.adaptive_avg_pool2d(pixel_values, 2).flatten(2).mT  # (B, 4, 3)
        number = len(pixel_values)
        boxes = grid_boxes(2, 2).expand(number, 4, 4)
        return Regions(cells * self.scale + 0.5, boxes, torch.ones(number, 4, dtype=torch.bool))


class ColourModel(torch.nn.Module):
    """The methods of `UpDownFusionForImageTextRetrieval` that searching calls; `tint` makes another model."""

    def __init__(self, *, tint: float = 0.0, owns_source: bool = True) -> None:
        super().__init__()
        self.words: torch.Tensor
        self.config = SimpleNamespace(model_type="updown_fusion", region_feature_size=3)
        self.region_source = ColourSource() if owns_source else None
        words = colour_processor().tokenizer.get_vocab()
        table = torch.zeros(max(words.values()) + 1, 3)
        for word, colour in COLOURS.items():
            table[words[word]] = torch.tensor(colour)
        self.register_buffer("words", table + tint)

    def get_image_features(
        self, region_features: torch.Tensor, region_boxes: torch.Tensor, region_mask: torch.Tensor
    ) -> torch.Tensor:
        weights = region_mask[..., None].float()
        mean = (region_features * weights).sum(dim=1) / weights.sum(dim=1)  # (P, 3)
        return torch.nn.functional.normalize(mean + 1e-3, dim=1)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mean = (self.words[input_ids] * attention_mask[..., None]).sum(dim=1)
        return torch.nn.functional.normalize(mean + 1e-3, dim=1)

    def match(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        region_features: torch.Tensor,
        region_boxes: torch.Tensor,
        region_mask: torch.Tensor,
        image_index: torch.Tensor,
    ) -> torch.Tensor:
        brightness = region_features.amax(dim=2).mean(dim=1)  # (P,)
        return 4 * brightness[image_index] - 3 + 0.1 * (attention_mask.sum(dim=1) - 3)


def colour_processor() -> UpDownProcessor:
    """Images of 64 x 64, and the words of colours, sizes and things."""
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    words = ["a big red thing", "a small green thing", "one blue thing and another"]
    image_processor = UpDownImageProcessor(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return UpDownProcessor(image_processor, UpDownTokenizer.from_captions(words, min_count=1))


def colour_image(colour: str, *, level: float = 1.0, white: float = 0.0) -> Image.Image:
    """An image of one colour, as bright as `level` (0..1), mixed with a share of white."""
    mixed = [(1 - white) * part + white for part in COLOURS[colour]]
    return Image.new("RGB", (40, 30), tuple(round(255 * level * part) for part in mixed))


def save_colour_images(folder: Path, *, shades: int = 3) -> Path:
    """`red0.png`, `red1.png`, ... of each colour in the folder, ever brighter and paler; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        for shade in range(shades):
            image = colour_image(colour, level=(shade + 1) / shades, white=0.3 * shade / shades)
            image.save(folder / f"{colour}{shade}.png")
    return folder


def save_colour_store(folder: Path, images: Path, *, model: ColourModel, marks: Sequence[int] = ()) -> Path:
    """The regions of a folder's images, made by the model's own source; returns the folder of the store."""
    paths = sorted(images.iterdir())
    inputs = colour_processor()(images=[str(path) for path in paths], return_tensors="pt")
    source: Any = model.region_source
    with RegionStoreWriter(folder, fingerprint=source_fingerprint(source, flipped=False)) as writer:
        known = {"photo_mark": torch.tensor(marks)} if marks else {}
        writer.append([path.name for path in paths], {**source(**inputs), **known})
    return folder


def model_folder(folder: Path) -> Path:
    """A folder that looks like a saved model's; tests put `ColourModel` in its place."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder
