"""A batch of images -> groups of one size without padding, and back: what `UpDownDetector.forward` takes and returns.

Here everything that a user hands in is checked, and a mistake named with the image and the row. Boxes come as 0..1 and
go on as pixels of the resized image. B images, R regions, M labelled objects, K attributes an object.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .boxes_updown import boxes_to_pixels
from .configuration_updown import UpDownDetectorConfig
from .detection_losses_updown import ImageObjects
from .outputs_updown import UpDownDetectorOutput, check_pixels
from .regions_updown import pad_regions_to

BOX_TOLERANCE = 1e-3


def box_tensors(
    boxes: Any, box_mask: Any, *, like: torch.Tensor, grid_sizes: Sequence[int] | None = None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Given boxes and their mask as tensors on the device of `like`; lists and arrays become tensors.

    Raises `ValueError` for what is no rectangle of numbers, such as lists of different lengths, and for cells that are
    asked for beside boxes.
    """
    if boxes is not None and grid_sizes:
        raise ValueError("boxes alone are the regions: leave grid_sizes out, and give cells as boxes before them")
    try:
        given = (None if value is None else torch.as_tensor(value, device=like.device) for value in (boxes, box_mask))
        return next(given), next(given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"boxes or box_mask: no rectangle of numbers ({error}): images with fewer boxes are padded, where box_mask "
            "is False"
        ) from error


def check_given(
    boxes: torch.Tensor | None,
    labels: torch.Tensor | None,
    attributes: torch.Tensor | None,
    *,
    num_images: int,
    config: UpDownDetectorConfig,
    others: torch.Tensor | None = None,
) -> None:
    """Raise a `ValueError` where given boxes (B, R, 4), labels (B, M), their attributes or `others`, their further
    names, cannot be of B images.
    """
    if boxes is not None and (boxes.dim() != 3 or boxes.shape[::2] != (num_images, 4)):
        raise ValueError(f"boxes have shape {tuple(boxes.shape)}, not ({num_images} images, boxes, 4)")
    if labels is not None and (labels.dim() != 2 or len(labels) != num_images):
        raise ValueError(f"labels have shape {tuple(labels.shape)}, not ({num_images} images, objects)")
    for name, ids, most in (
        ("labels", labels, config.num_objects),
        ("other_object_ids", others, config.num_objects),
        ("true_attributes", attributes, config.num_attributes),
    ):
        if ids is not None and ids.numel() and int(ids.max()) > most:
            raise ValueError(f"{name} hold the id {int(ids.max())}, but the model knows 1 .. {most}")


def image_number(part: tuple[int, Any]) -> int:
    """The first of a pair: what the images of a batch are sorted by."""
    return part[0]


def images_by_size(
    pixel_values: torch.Tensor, pixel_mask: torch.Tensor | None
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The images of a batch by their size without padding: their numbers, and (n, 3, height, width).

    Raises `ValueError` for a batch of another shape, for an image without any pixel and for padding on another side.
    """
    check_pixels(pixel_values)
    if pixel_mask is None:
        yield list(range(len(pixel_values))), pixel_values
        return
    if pixel_mask.shape != (len(pixel_values), *pixel_values.shape[-2:]):
        raise ValueError(f"pixel_mask has shape {tuple(pixel_mask.shape)}, pixel_values {tuple(pixel_values.shape)}")
    mask = pixel_mask.bool()
    sizes = torch.stack([mask.any(dim=2).sum(dim=1), mask.any(dim=1).sum(dim=1)], dim=1).tolist()
    for height, width in sorted({tuple(size) for size in sizes}):
        images = [i for i, size in enumerate(sizes) if size == [height, width]]
        if not height:
            raise ValueError(f"images {images} of the batch have no pixel: pixel_mask is False everywhere")
        if not mask[images, :height, :width].all():
            raise ValueError(f"pixel_mask of images {images} is no rectangle from the upper left corner on")
        yield images, pixel_values[images, :, :height, :width]


def resize_factors(image_sizes: torch.Tensor | None, images: list[int], size: tuple[int, int]) -> list[float]:
    """By how much each image was enlarged; 1 where its size before is not known."""
    if image_sizes is None:
        return [1.0] * len(images)
    return [size[0] / float(image_sizes[i][0]) for i in images]


def image_objects(
    labels: torch.Tensor,
    boxes: torch.Tensor | None,
    attributes: torch.Tensor | None,
    *,
    image: int,
    size: tuple[int, int],
    others: torch.Tensor | None = None,
    masks: torch.Tensor | None = None,
) -> ImageObjects:
    """One image's labels (of B) without padding, boxes in pixels of the resized image, masks (B, M, S, S) as they are.

    Raises `ValueError` for tensors that are not (B, M), (B, M, 4), (B, M, K) and (B, M, K'), and for a box that is not
    xyxy 0..1.
    """
    if boxes is None or boxes.shape != (*labels.shape, 4):
        raise ValueError(f"labels of shape {tuple(labels.shape)} need true_boxes of shape {(*labels.shape, 4)}")
    for name, ids in (("true_attributes", attributes), ("other_object_ids", others)):
        if ids is not None and (ids.dim() != 3 or ids.shape[:2] != labels.shape):
            raise ValueError(
                f"labels of shape {tuple(labels.shape)} need {name} of shape {(*labels.shape, 'K')}, "
                f"not {tuple(ids.shape)}"
            )
    ids = labels[image]
    own = boxes[image].float().masked_fill((ids == 0)[:, None], 0)  # padding may hold anything
    in_pixels = boxes_to_pixels(checked_boxes(own, name="true_boxes", image=image), width=size[1], height=size[0])
    real = ids > 0
    attribute_ids = ids.new_zeros(int(real.sum()), 1) if attributes is None else attributes[image][real]
    other_ids = None if others is None else others[image][real]
    own_masks = None if masks is None else masks[image][real]
    return ImageObjects(in_pixels[real], ids[real], attribute_ids, in_pixels[ids < 0], other_ids, own_masks)


def image_phrases(
    boxes: torch.Tensor, embeds: torch.Tensor, *, image: int, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """One image's phrases (of B) without padding: places (P, 4) in pixels of the resized image, vectors (P, E).

    Raises `ValueError` for a box that is not xyxy 0..1.
    """
    real = embeds[image].abs().sum(dim=-1) > 0  # (P,)
    own = checked_boxes(boxes[image][real].float(), name="phrase_boxes", image=image)
    return boxes_to_pixels(own, width=size[1], height=size[0]), embeds[image][real]


def check_phrases(
    boxes: torch.Tensor | None, embeds: torch.Tensor | None, *, num_images: int, config: UpDownDetectorConfig
) -> None:
    """Raise a `ValueError` where phrases (B, P, 4) and (B, P, E) cannot be of B images and the model."""
    if boxes is None and embeds is None:
        return
    if not config.phrase_embedding_size:
        raise ValueError("phrases were given to a detector without them: set config.phrase_embedding_size")
    wanted = (num_images, "P", config.phrase_embedding_size)
    if embeds is None or embeds.dim() != 3 or embeds.shape[::2] != wanted[::2]:
        raise ValueError(f"phrase_boxes need phrase_embeds of shape {wanted}, not {_shape(embeds)}")
    if boxes is None or boxes.shape != (*embeds.shape[:2], 4):
        raise ValueError(
            f"phrase_embeds {_shape(embeds)} need phrase_boxes {(*embeds.shape[:2], 4)}, not {_shape(boxes)}"
        )


def check_asked(config: UpDownDetectorConfig) -> None:
    """Raise a `ValueError` for a detector that can be asked for no other names than its classes'."""
    if not config.phrase_embedding_size:
        raise ValueError(
            "this detector learnt no phrases (config.phrase_embedding_size is 0), so it cannot compare regions with "
            "other names than its own classes: train one with phrases.encoder, or take the light detector"
        )


def checked_names(name_embeds: torch.Tensor | None, *, like: torch.Tensor, config: UpDownDetectorConfig) -> Any:
    """The vectors of names (N, E), of length 1 and on the device of `like`; None for none.

    Raises `ValueError` for a detector that learnt no phrases, and for vectors of another encoder or that are none.
    """
    if name_embeds is None:
        return None
    check_asked(config)
    vectors = name_embeds.to(like.device, torch.float32)
    if vectors.dim() != 2 or not len(vectors) or vectors.shape[1] != config.phrase_embedding_size:
        raise ValueError(
            f"name_embeds have shape {tuple(vectors.shape)}, not (names, {config.phrase_embedding_size}): embed one "
            "name or more with the text encoder that the detector learnt phrases with"
        )
    lengths = vectors.norm(dim=1)
    wrong = ~torch.isfinite(lengths) | (lengths == 0)
    if wrong.any():
        raise ValueError(f"the vector of name {int(wrong.nonzero()[0])} is zero or no number: embed its name again")
    return vectors / lengths[:, None]


def _shape(tensor: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def given_boxes(
    boxes: torch.Tensor, box_mask: torch.Tensor | None, *, image: int, size: tuple[int, int]
) -> torch.Tensor:
    """One image's given boxes (R, 4) in 0..1 -> pixels of the resized image, without padding.

    Raises `ValueError` for tensors of another shape, for a box that is not xyxy in 0..1, and for no box at all.
    """
    if box_mask is not None and box_mask.shape != boxes.shape[:2]:
        raise ValueError(f"box_mask has shape {tuple(box_mask.shape)}, boxes {tuple(boxes.shape)}")
    own = boxes[image].float() if box_mask is None else boxes[image][box_mask[image].bool()].float()
    if not len(own):
        raise ValueError(
            f"image {image} of the batch has no box: give at least one, such as [0, 0, 1, 1] for the whole"
        )
    return boxes_to_pixels(checked_boxes(own, name="boxes", image=image), width=size[1], height=size[0])


def checked_boxes(own: torch.Tensor, *, name: str, image: int) -> torch.Tensor:
    """One image's boxes (R, 4), clipped to 0..1; a box without any area is a point or a line, and is kept.

    Raises `ValueError` naming the first box that is not xyxy, leaves the image or is no number.
    """
    outside = (own < -BOX_TOLERANCE).any(dim=1) | (own > 1 + BOX_TOLERANCE).any(dim=1)
    for wrong, fault in (
        (~torch.isfinite(own).all(dim=1), "is no number"),
        (outside, "leaves the image; boxes are xyxy in 0..1, so divide pixels by the image's width and height"),
        ((own[:, 2:] < own[:, :2]).any(dim=1), "is not xyxy: its right or lower side comes first"),
    ):
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"{name} {row} of image {image}, {[round(x, 4) for x in own[row].tolist()]}, {fault}")
    return own.clamp(0, 1)


def collect_images(parts: list[tuple[int, UpDownDetectorOutput]]) -> UpDownDetectorOutput:
    """Batches of one image, each with its number -> one batch in their order, empty where there is none.

    Images are padded with zeros to the most regions; padding is False in the mask.
    """
    if not parts:
        return UpDownDetectorOutput()
    images = [image for _, image in sorted(parts, key=image_number)]
    longest = max(image.region_mask.shape[1] for image in images)
    joined: dict[str, Any] = {
        name: torch.cat([pad_regions_to(image[name], longest) for image in images]) for name in images[0]
    }
    return UpDownDetectorOutput(**joined)


def mean_losses(losses: list[dict[str, torch.Tensor]], *, num_images: int) -> dict[str, torch.Tensor]:
    """Losses summed over the images of each group -> their means over all images of the batch."""
    return {name: torch.stack([part[name] for part in losses]).sum() / num_images for name in losses[0]}
