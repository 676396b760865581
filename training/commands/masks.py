"""Masks in `updown detect` and `updown ground`: whether there are any, a model's own detector with them, and JSON.

detector with a mask head --lend_masks--> a grounding model that owns the same detector without one
mask of a box or an image --mask_record--> COCO's run lengths, for --json
"""

import argparse
from collections.abc import Sequence
from typing import Any

HEAD = "masks."  # what the names of a mask head's weights begin with


def add_masks(parser: argparse.ArgumentParser, *, of: str) -> None:
    """`--masks` of a command that draws or writes boxes."""
    parser.add_argument(
        "--masks", action="store_true", help=f"{of}, into --draw and --json (run lengths); wants a mask head"
    )


def check_masks_shown(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for masks that are asked for and shown nowhere."""
    if arguments.masks and not (arguments.draw or arguments.json):
        raise ValueError("--masks are drawn or written: add --draw PICTURE.png, or --json FILE.json")


def check_mask_head(source: Any, *, cure: str) -> None:
    """Raises `ValueError` for a region source that makes no masks; cure: what to name in its place."""
    if getattr(source, "masks", None) is None:
        raise ValueError(
            f"there are no masks without a mask head, which this {'detector' if hasattr(source, 'heads') else 'grid'} "
            f"lacks: {cure}, or leave --masks out"
        )


def lend_masks(own: Any, other: Any, *, name: str) -> None:
    """Give a model's own detector the mask head of another one, which is the same but for its masks.

    A head that was trained alone (`train.objective: masks`) leaves the detector as it was, so that models which learnt
    its regions can take the masks of it. Raises `ValueError` where the two differ, or there is no head; name: of the
    other one.
    """
    from modeling_updown.configuration_masks_updown import MASK_FIELDS

    check_mask_head(
        other, cure=f"train one on the model's detector (detection/coco_masks), name that in place of {name}"
    )
    mine, theirs = ({k: v for k, v in one.state_dict().items() if not k.startswith(HEAD)} for one in (own, other))
    same = mine.keys() == theirs.keys() and all(
        value.shape == theirs[key].shape and value.float().equal(theirs[key].float().to(value.device))
        for key, value in mine.items()
    )
    if not same:
        raise ValueError(
            f"the model learnt the regions of its own detector, and {name} is another one: leave it out, or name that "
            "detector with a mask head trained on it alone (train.objective: masks)"
        )
    for field in MASK_FIELDS:
        setattr(own.config, field, getattr(other.config, field))
    own.masks = other.masks.to(own.device, own.dtype)


def mask_record(mask: Any) -> dict[str, Any]:
    """A mask (height, width), bool or a picture of 0 and 255, as COCO's run lengths: `size` and `counts`, a text.

    >>> import numpy as np
    >>> mask_record(np.array([[False, True], [False, True]]))
    {'size': [2, 2], 'counts': '22'}
    """
    import numpy as np

    from training.metrics.detection.masks import encode_masks

    found = encode_masks([np.asarray(mask) > 0])[0]
    return {"size": list(found["size"]), "counts": found["counts"].decode("ascii")}


def region_records(regions: Sequence[dict[str, Any]], *, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Regions of an image of that width and height with their masks, where they have any, as run lengths of it."""
    from modeling_updown.drawing_regions_updown import mask_in_picture

    return [
        {**region, "mask": mask_record(mask_in_picture(region["mask"], region["box"], size))}
        if "mask" in region
        else region
        for region in regions
    ]


def phrase_records(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a grounding pipeline found, with the masks of its boxes, where they have any, as run lengths."""
    return [
        {
            **phrase,
            "boxes": [{**one, "mask": mask_record(one["mask"])} if "mask" in one else one for one in phrase["boxes"]],
        }
        for phrase in found
    ]
