"""What each image of a COCO instances file shows, by the names of its boxes: what CHAIR holds captions against.

instances.json --read_object_names--> image id -> names
"""

from training.data.files import PathLike, column, id_text, read_json, records


def read_object_names(annotations: PathLike, *, labelled_by: str = "box_source") -> dict[str, set[str]]:
    """Image id -> the names of the categories of its boxes, of every image in which boxes were drawn.

    Args:
        annotations: COCO instances, `{"images": [{"id"}], "annotations": [{"image_id", "category_id"}], "categories":
            [{"id", "name"}]}`.
        labelled_by: an image field that is empty where nobody drew boxes, where the file has it: such images are left
            out. In a file without it all images count, as in COCO's, where a few show none of the 80 objects.

    Raises:
        ValueError: for a file of another layout, a category that is not listed, and a file without boxes.
    """
    content = read_json(annotations)
    listed, boxes = records(content, "categories", annotations), records(content, "annotations", annotations)
    names = dict(zip(column(listed, "id", annotations), column(listed, "name", annotations), strict=True))
    images = records(content, "images", annotations)
    marked = [image for image in images if image.get(labelled_by)] or images
    found: dict[str, set[str]] = {id_text(image_id): set() for image_id in column(marked, "id", annotations)}
    owners, categories = column(boxes, "image_id", annotations), column(boxes, "category_id", annotations)
    for owner, category in zip(owners, categories, strict=True):
        if category not in names:
            raise ValueError(f"{annotations}: the boxes of image {owner} have an unlisted category_id {category!r:.40}")
        if (image_id := id_text(owner)) in found:
            found[image_id].add(str(names[category]).strip().lower())
    if not any(found.values()):
        raise ValueError(f"{annotations} holds no boxes: name a file of COCO's instances layout")
    return found
