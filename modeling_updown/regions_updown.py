"""`Regions`, what flows between the two halves, and which of them a row of a top-down model reads.

Image -> region source or store -> `Regions` -> top-down model -> words, answers, scores. Shapes: B images, R regions,
D feature width; N rows of a model, K images or regions a row.

    a row reads                 its regions
    an image                    regions, or regions.of_rows(image_index) with image_index (N,)
    a pair of images            regions.of_rows(image_index) with image_index (N, 2), or join_images(regions, 2)
    a clip of frames            regions.of_rows(clip_rows(regions.clip_ids))
    a region of an image        regions.select(*region_rows(regions.region_mask))
    one of C candidates         those of its row: image_index.repeat_interleave(C, dim=0)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from transformers.utils import ModelOutput

from .compat_updown import is_traced

SHAPES: dict[str, tuple[str, ...]] = {  # of each field of tensors, after (B, R)
    "region_boxes": ("4",),
    "region_mask": (),
    "region_scores": (),
    "object_probs": ("classes",),
    "attribute_probs": ("classes",),
    "region_seconds": (),
    "region_masks": ("side", "side"),
    "region_images": (),
}
FINITE = ("region_features", "region_boxes", "region_seconds")  # what models compute with, so it must be


@dataclass
class Regions(ModelOutput):
    """The regions of B images, padded to R: the one currency between bottom-up and top-down.

    region_features (`torch.Tensor` of shape (B, R, D)): one vector per region.
    region_boxes (`torch.Tensor` of shape (B, R, 4)): xyxy in 0..1 of the image's width and height.
    region_mask (`torch.Tensor` of shape (B, R), bool): True = a real region.
    region_scores (`torch.Tensor` of shape (B, R), *optional*): the detector's confidence, 0..1.
    object_probs, attribute_probs (`torch.Tensor` of shape (B, R, classes + 1), *optional*): soft labels; index 0 is
        background / no attribute.
    region_seconds (`torch.Tensor` of shape (B, R), *optional*): when, for frames of a clip.
    region_texts (B lists of R strings, *optional*): the words in each region, "" where there are none.
    region_masks (`torch.Tensor` of shape (B, R, M, M), *optional*): each region's mask inside its box, 0..1.
    region_images (`torch.Tensor` of shape (B, R), int64, *optional*): which of a row's images a region is of, from 0.
    clip_ids (`torch.Tensor` of shape (B,) or B strings, *optional*): the clip that each image is a frame of.

    Example:

    >>> regions = Regions(torch.zeros(1, 2, 8), torch.tensor([[[0, 0, 1, 1], [0, 0, 0.5, 1]]]), torch.ones(1, 2).bool())
    >>> regions.region_features.shape
    torch.Size([1, 2, 8])
    """

    region_features: torch.Tensor = None  # type: ignore[assignment]  # transformers wants a default for all but one
    region_boxes: torch.Tensor = None  # type: ignore[assignment]
    region_mask: torch.Tensor = None  # type: ignore[assignment]
    region_scores: torch.Tensor | None = None
    object_probs: torch.Tensor | None = None
    attribute_probs: torch.Tensor | None = None
    region_seconds: torch.Tensor | None = None
    region_texts: Sequence[Sequence[str]] | None = None
    region_masks: torch.Tensor | None = None
    region_images: torch.Tensor | None = None
    clip_ids: torch.Tensor | Sequence[str] | None = None

    def of_rows(self, image_index: torch.Tensor) -> "Regions":
        """The regions of N rows: those of the image that image_index (N,) names, or of the K images of (N, K), joined.

        Joined regions stand in the order of their images, K x R a row, and `region_images` says which of them each is
        of; -1 stands for no image, as where a clip has fewer frames than another. Raises `ValueError` for other
        numbers, and for a row without any image.

        >>> images = Regions(torch.tensor([[[1.0]], [[2.0]], [[3.0]]]), None, torch.ones(3, 1).bool())
        >>> pairs = images.of_rows(torch.tensor([[0, 2], [1, -1]]))
        >>> pairs.region_features[0].flatten().tolist(), pairs.region_mask.tolist(), pairs.region_images.tolist()
        ([1.0, 3.0], [[True, True], [True, False]], [[0, 1], [0, 1]])
        """
        image_index = checked_index(image_index, self.region_features)
        if image_index.dim() == 1:
            return self._images(image_index)
        joined = join_images(self._images(image_index.clamp(min=0).flatten()), image_index.shape[1])
        found = (image_index >= 0).repeat_interleave(self.region_features.shape[1], dim=1)  # (N, K x R)
        first = image_index.gather(1, (image_index >= 0).byte().argmax(dim=1, keepdim=True)).squeeze(1)
        return replace(
            joined,
            region_mask=found if joined.region_mask is None else joined.region_mask.bool() & found,
            clip_ids=entries(self.clip_ids, first),
        )

    def select(self, image_index: torch.Tensor, region_index: torch.Tensor) -> "Regions":
        """The regions of N rows: of the image that image_index (N,) names, those of region_index (N, K) or (N,).

        Raises `ValueError` for an image or a region that is not there.

        >>> regions = Regions(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]]), None, torch.ones(2, 2).bool())
        >>> regions.select(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 1])).region_features.flatten().tolist()
        [3.0, 2.0, 4.0]
        """
        image_index = checked_index(image_index, self.region_features)
        places = region_index.to(image_index)
        places = places if places.dim() == 2 else places[:, None]  # (N, K)
        count = self.region_features.shape[1]
        if not is_traced() and (len(places) != len(image_index) or not ((places >= 0) & (places < count)).all()):
            raise ValueError(f"region_index must name, for each of {len(image_index)} rows, some of {count} regions")
        chosen: dict[str, Any] = {name: value[image_index[:, None], places] for name, value in self._tensors().items()}
        if self.region_texts is not None:
            rows = zip(image_index.tolist(), places.tolist(), strict=True)
            chosen["region_texts"] = [[self.region_texts[image][place] for place in row] for image, row in rows]
        return Regions(**chosen, clip_ids=entries(self.clip_ids, image_index))

    def for_lxmert(self) -> dict[str, torch.Tensor]:
        """What transformers' LXMERT takes: `visual_feats` (B, R, D), `visual_pos` (B, R, 4), `visual_attention_mask`.

        Boxes are xyxy in 0..1, as in its training (Tan and Bansal 2019); padding is 0 in all three, the mask (B, R) is
        int64, 1 = real. Raises `ValueError` for regions without boxes, or an image without any region.

        >>> regions = Regions(torch.ones(1, 2, 8), torch.ones(1, 2, 4), torch.tensor([[True, False]]))
        >>> {name: values.sum(dim=1).flatten().tolist()[0] for name, values in regions.for_lxmert().items()}
        {'visual_feats': 1.0, 'visual_pos': 1.0, 'visual_attention_mask': 1}
        """
        if self.region_boxes is None:
            raise ValueError("LXMERT embeds boxes: give these regions their region_boxes")
        features, mask = self._without_padding(self.region_features)
        boxes, _ = self._without_padding(self.region_boxes.to(features.dtype))
        return {"visual_feats": features, "visual_pos": boxes, "visual_attention_mask": mask}

    def for_visual_bert(self) -> dict[str, torch.Tensor]:
        """What transformers' VisualBERT takes: `visual_embeds` (B, R, D), `visual_attention_mask` and
        `visual_token_type_ids`, both (B, R) int64; the types are all 1.

        VisualBERT (Li et al. 2019) embeds no boxes. Padding is 0. Raises `ValueError` for an image without any region.

        >>> regions = Regions(torch.ones(1, 2, 8), None, torch.tensor([[True, False]]))
        >>> given = regions.for_visual_bert()
        >>> given["visual_embeds"].shape, given["visual_attention_mask"].tolist()
        (torch.Size([1, 2, 8]), [[1, 0]])
        """
        features, mask = self._without_padding(self.region_features)
        return {
            "visual_embeds": features,
            "visual_attention_mask": mask,
            "visual_token_type_ids": torch.ones_like(mask),
        }

    def _without_padding(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """values (B, R, n) with 0 on padding, whatever stands there, and the mask (B, R) int64."""
        mask = self.region_mask
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
        if not is_traced() and not mask.any(dim=1).all():
            empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
            raise ValueError(f"images {empty} of the batch have no region at all: region_mask is False everywhere")
        return values.masked_fill(~mask[..., None], 0), mask.long()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The fields of tensors (B, R, ...) that are there."""
        names = ("region_features", *SHAPES)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _images(self, image_index: torch.Tensor) -> "Regions":
        """Those of the images that image_index (N,) names."""
        chosen = {name: value.index_select(0, image_index) for name, value in self._tensors().items()}
        texts, clips = (entries(values, image_index) for values in (self.region_texts, self.clip_ids))
        return Regions(**chosen, region_texts=texts, clip_ids=clips)


REQUIRED = ("region_features", "region_boxes", "region_mask")
OPTIONAL = tuple(field.name for field in fields(Regions) if field.name not in REQUIRED)


def optional_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the arguments given to a `forward`, the optional fields of `Regions`."""
    return {name: given[name] for name in OPTIONAL if given.get(name) is not None}


def join_images(regions: Regions, num_images: int) -> Regions:
    """Every `num_images` images next to each other as one row of their regions, without a copy of a tensor.

    Raises `ValueError` where that does not divide the images.

    >>> regions = Regions(torch.tensor([[[1.0]], [[2.0]], [[3.0]], [[4.0]]]))
    >>> join_images(regions, 2).region_features.flatten(1).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
    """
    count = regions.region_features.shape[1]
    rows, odd = divmod(len(regions.region_features), max(num_images, 1))
    if odd or num_images < 1:
        raise ValueError(f"{len(regions.region_features)} images cannot be joined as rows of {num_images} each")
    joined: dict[str, Any] = {
        name: value.unflatten(0, (rows, num_images)).flatten(1, 2) for name, value in regions._tensors().items()
    }
    places = torch.arange(num_images, device=regions.region_features.device).repeat_interleave(count)
    joined["region_images"] = places.expand(rows, -1)
    if regions.region_texts is not None:
        groups = (regions.region_texts[start : start + num_images] for start in range(0, rows * num_images, num_images))
        joined["region_texts"] = [[text for texts in group for text in texts] for group in groups]
    return Regions(**joined, clip_ids=None if regions.clip_ids is None else regions.clip_ids[::num_images])


def joined_rows(regions: Regions, image_index: torch.Tensor | None) -> tuple[Regions, Any]:
    """Regions and image_index (N,) as models read them: with image_index (N, K) features, boxes and masks of the K
    images of each row, joined, and no index, since every row has regions of its own then.
    """
    if image_index is None or image_index.dim() != 2:
        return regions, image_index
    return Regions(regions.region_features, regions.region_boxes, regions.region_mask).of_rows(image_index), None


def region_rows(region_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A row for each real region of region_mask (B, R): its image (N,) and its place there (N,), in their order.

    >>> [index.tolist() for index in region_rows(torch.tensor([[True, False], [True, True]]))]
    [[0, 1, 1], [0, 0, 1]]
    """
    image_index, region_index = region_mask.nonzero(as_tuple=True)
    return image_index, region_index


def clip_rows(clip_ids: torch.Tensor | Sequence[Any]) -> torch.Tensor:
    """A row for each clip: the frames of it (C, F) in their order, clips by their first frame, -1 where one has fewer.

    Raises `ValueError` without any frame.

    >>> clip_rows(["b", "a", "b"]).tolist()
    [[0, 2], [1, -1]]
    """
    ids = clip_ids.tolist() if isinstance(clip_ids, torch.Tensor) else clip_ids
    frames: dict[Any, list[int]] = {}
    for frame, clip in enumerate(ids):
        frames.setdefault(clip, []).append(frame)
    if not frames:
        raise ValueError("clip_ids are empty: a row needs one frame or more")
    most = max(map(len, frames.values()))
    return torch.tensor([[*places, *[-1] * (most - len(places))] for places in frames.values()])


def entries(values: Any, index: torch.Tensor) -> Any:
    """Those of a tensor or a list that index (N,) names; None of None."""
    if values is None:
        return None
    if isinstance(values, torch.Tensor):
        return values.index_select(0, index.to(values.device))
    return [values[place] for place in index.tolist()]


def checked_index(image_index: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """image_index (N,) or (N, K) as int64 on the device of the images' features (B, ...).

    Raises `ValueError` where it names images that are not there, or none in a row.
    """
    num_images, index = len(images), image_index.long()
    numbers = not image_index.is_floating_point() and image_index.dtype != torch.bool
    fits = numbers and index.dim() in (1, 2) and index.numel() > 0
    if fits and not is_traced():
        rows = index if index.dim() == 2 else index[:, None]
        least = -1 if index.dim() == 2 else 0
        fits = bool((rows >= least).all() and (rows < num_images).all() and (rows >= 0).any(dim=1).all())
    if not fits:
        raise ValueError(
            f"image_index of shape {tuple(index.shape)} must name, for each row, one of {num_images} images, or "
            "several as (rows, images), of which -1 is none"
        )
    return index.to(images.device)


def check_fields(regions: Regions) -> None:
    """Raises `ValueError` naming a field that does not hold something for every image and region of the features."""
    if is_traced():
        return
    images, count = regions.region_features.shape[:2]
    for name, rest in SHAPES.items():
        value = getattr(regions, name)
        if value is None:
            continue
        shape = tuple(getattr(value, "shape", ()))  # that of a list is none
        sizes = set(zip(rest, shape[2:], strict=False))  # one of each name, and a number is what it says
        fits = len(shape) == 2 + len(rest) and shape[:2] == (images, count) and len(sizes) == len(set(rest))
        if not fits or any(size.isdigit() and int(size) != given for size, given in sizes):
            wanted = ", ".join(map(str, (images, count, *rest)))
            raise ValueError(f"{name} has shape {shape}, but the region_features ask for ({wanted})")
    texts, clips = regions.region_texts, regions.clip_ids
    if texts is not None and (len(texts) != images or any(isinstance(row, str) or len(row) != count for row in texts)):
        raise ValueError(
            f"region_texts have {len(texts)} lists of {sorted({len(row) for row in texts})} strings, but the "
            f'region_features are of {images} images of {count} regions: one string a region, "" where nothing is read'
        )
    if clips is not None and len(clips) != images:
        raise ValueError(f"clip_ids name a clip for {len(clips)} images, but the region_features are of {images}")


def pad_regions_to(values: torch.Tensor, longest: int) -> torch.Tensor:
    """(B, R, ...) -> (B, longest, ...), with zeros."""
    missing = longest - values.shape[1]
    return torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1) if missing else values
