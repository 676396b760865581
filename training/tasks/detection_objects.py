"""The objects of detection's images, on their way to a model: a row's, those seen in a part of it, a padded batch.

row --image_objects--> objects --objects_in--> objects --pad_objects, pad_phrases--> the detector's labels
"""

from typing import Any

import numpy as np
import torch

from training.data.polygons import polygons_in
from training.text.phrase_vectors import PhraseVectors

LISTS = ("attribute_ids", "other_ids")
VISIBLE_SHARE = 0.3  # of an object, for it to count in a crop


def image_objects(row: dict[str, Any]) -> dict[str, Any]:
    """The objects of a row: `boxes` (N, 4), `object_ids` (N,) with -1 for a crowd, `attribute_ids` and `other_ids`, N
    lists.
    """
    ids = np.asarray(row["object_ids"], dtype=np.int64)
    ids[np.asarray(row["crowd"], dtype=bool)] = -1
    return {
        "boxes": np.asarray(row["boxes"], dtype=np.float32).reshape(-1, 4),
        "object_ids": ids,
        "attribute_ids": list(row["attribute_ids"]),
        "other_ids": list(row["other_object_ids"]),
        "polygons": list(row.get("polygons", [[]] * len(row["boxes"]))),
    }


def objects_in(objects: dict[str, Any], part: np.ndarray) -> dict[str, Any]:
    """The objects of which enough is seen in a part (4,) of the image, their boxes clipped to it and in 0..1 of it;
    and so the phrases' places.

    Of a crowd anything is enough: nothing in it may count as background.
    """
    share = np.where(objects["object_ids"] < 0, 0.0, VISIBLE_SHARE)
    boxes, kept = boxes_in(objects["boxes"], part, share=share)
    shown = {"boxes": boxes, "object_ids": objects["object_ids"][kept]}
    shown |= {name: [objects[name][i] for i in kept] for name in LISTS if name in objects}
    if "polygons" in objects:
        shown["polygons"] = [polygons_in(objects["polygons"][i], part) for i in kept]
    if "phrases" in objects:
        places, kept = boxes_in(objects["phrase_boxes"], part, share=VISIBLE_SHARE)
        shown |= {"phrase_boxes": places, "phrases": [objects["phrases"][i] for i in kept]}
    return shown


def boxes_in(boxes: np.ndarray, part: np.ndarray, *, share: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Of boxes (N, 4) those of whose area more than `share` is seen in a part (4,) of the image: clipped to it and in
    0..1 of it (M, 4), and their numbers (M,).
    """
    size = np.tile(part[2:] - part[:2], 2)
    clipped = np.clip((boxes - np.tile(part[:2], 2)) / size, 0, 1)
    seen = np.prod((clipped[:, 2:] - clipped[:, :2]) * size[:2], axis=1)
    kept = np.flatnonzero(seen > share * np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return clipped[kept].astype(np.float32), kept


def drawn_phrases(row: dict[str, Any], draw: np.random.Generator, *, most: int) -> dict[str, Any]:
    """`phrases` of a row, at most so many, drawn by chance, and `phrase_boxes` (P, 4), their places."""
    said = row["regions"]
    chosen = draw.permutation(len(said))[:most]
    return {
        "phrases": [said[i]["phrase"] for i in chosen],
        "phrase_boxes": np.asarray([said[i]["box"] for i in chosen], dtype=np.float32).reshape(-1, 4),
    }


def pad_objects(objects: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Images' objects as the detector's labels: `labels` (P, N), `true_boxes` (P, N, 4), `true_attributes` (P, N, K),
    and `other_object_ids` (P, N, K') where an object has several names.

    >>> pad_objects([{"boxes": np.zeros((0, 4)), "object_ids": np.array([]), "attribute_ids": []}])["labels"].shape
    torch.Size([1, 1])
    """
    most = max(1, *(len(part["object_ids"]) for part in objects), 1)
    widest = max([1, *(len(ids) for part in objects for ids in part["attribute_ids"])])
    labels = torch.zeros(len(objects), most, dtype=torch.long)
    boxes = torch.zeros(len(objects), most, 4)
    attributes = torch.zeros(len(objects), most, widest, dtype=torch.long)
    for place, part in enumerate(objects):
        count = len(part["object_ids"])
        labels[place, :count] = torch.from_numpy(np.asarray(part["object_ids"], dtype=np.int64))
        boxes[place, :count] = torch.from_numpy(np.asarray(part["boxes"], dtype=np.float32))
        for row, ids in enumerate(part["attribute_ids"]):
            attributes[place, row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    padded = {"labels": labels, "true_boxes": boxes, "true_attributes": attributes}
    most_names = max((len(ids) for part in objects for ids in part.get("other_ids", [])), default=0)
    if most_names:
        padded["other_object_ids"] = others = torch.zeros(len(objects), most, most_names, dtype=torch.long)
        for place, part in enumerate(objects):
            for row, ids in enumerate(part["other_ids"]):
                others[place, row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return padded


def pad_phrases(objects: list[dict[str, Any]], vectors: PhraseVectors) -> dict[str, torch.Tensor]:
    """Images' phrases as the detector's: `phrase_boxes` (P, N, 4) and `phrase_embeds` (P, N, E), zeros where there is
    none.
    """
    most = max(1, *(len(part["phrases"]) for part in objects), 1)
    boxes, embeds = torch.zeros(len(objects), most, 4), torch.zeros(len(objects), most, vectors.size)
    for place, part in enumerate(objects):
        count = len(part["phrases"])
        boxes[place, :count] = torch.from_numpy(part["phrase_boxes"])
        embeds[place, :count] = vectors(part["phrases"])
    return {"phrase_boxes": boxes, "phrase_embeds": embeds}
