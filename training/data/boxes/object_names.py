"""What each image of a COCO instances file shows, by the names of its boxes: what CHAIR holds captions against.

instances.json --read_object_names--> image id -> names
"""

from training.data.files import PathLike, column, id_text, read_json, records


def read_object_names(annotations: PathLike) -> dict[str, set[str]]:
    """Image id -> the names of the categories of its boxes, of every image that has one.

    An image without any box is left out, since nobody may have drawn boxes in it.

    Args:
        annotations: COCO instances, `{"annotations": [{"image_id", "category_id"}], "categories": [{"id", "name"}]}`.

    Raises:
        ValueError: for a file of another layout, a category that is not listed, and a file without boxes.
    """
    content = read_json(annotations)
    listed, boxes = records(content, "categories", annotations), records(content, "annotations", annotations)
    names = dict(zip(column(listed, "id", annotations), column(listed, "name", annotations), strict=True))
    found: dict[str, set[str]] = {}
    owners, categories = column(boxes, "image_id", annotations), column(boxes, "category_id", annotations)
    for owner, category in zip(owners, categories, strict=True):
        if category not in names:
            raise ValueError(f"{annotations}: the boxes of image {owner} have an unlisted category_id {category!r:.40}")
        found.setdefault(id_text(owner), set()).add(str(names[category]).strip().lower())
    if not found:
        raise ValueError(f"{annotations} holds no boxes: name a file of COCO's instances layout")
    return found
