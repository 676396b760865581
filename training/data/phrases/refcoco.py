"""RefCOCO, RefCOCO+ and RefCOCOg (Kazemzadeh et al. 2014, Yu et al. 2016, Mao et al. 2016), RefCLEF: expressions.

    refs(unc).p | refs(google).p | refs(umd).p | a JSON of the same + instances.json --read_refcoco--> rows

The refs say which annotation an expression speaks of (`refs_files.py`), the instances where that is. Google's split of
RefCOCOg is one of things, so an image may be in several of its splits; UNC's and UMD's are of images.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import datasets

from training.data.boxes.rows import LeftOut
from training.data.files import PathLike, id_text
from training.data.json_stream import stream_members
from training.data.phrases.expressions import Expression, ExpressionImage, coco_place, expression_rows, polygons_of
from training.data.phrases.refs_files import Ref, read_refs, refs_of_split


def read_refcoco(
    annotations: PathLike,
    instances: PathLike,
    *,
    images: PathLike | None = None,
    split: str | None = None,
    polygons: bool = False,
) -> datasets.Dataset:
    """The refs of a file, a row an image and split, an expression each sentence of a ref.

    Args:
        annotations: the refs file, as `read_refs` takes it; nothing in it is executed.
        instances: the `instances.json` beside it, or COCO's own (`instances_train2014.json`), read as a stream.
        images: the image folder: COCO's `train2014` or the folder above it, RefCLEF's `saiapr_tc-12`; None gives rows
            without images.
        split: keep only this split, as the official code names them: `train`, `val`, `testA`, `testB`, `test`, ...
            (`refs_of_split`).
        polygons: read the polygons of the annotations too, which takes several times the memory.

    Returns:
        Rows of `PHRASE_FEATURES`; `split` is the file's own word. Left out, with one warning that counts: refs without
        an expression, and what `expression_rows` leaves out.

    Raises:
        ValueError: as `read_refs` and `expression_rows`; for refs whose annotation or image the instances lack.
        NoSuchSplitError: where no ref is of the split.
    """
    refs = read_refs(annotations)
    kept = refs if split is None else refs_of_split(refs, split, source=annotations)
    left_out = LeftOut(annotations)
    silent = [ref for ref in kept if not ref.sentences]
    if silent:
        left_out.add("refs without an expression", f"ref {silent[0].ref_id}", count=len(silent))
    kept = [ref for ref in kept if ref.sentences]
    notes, records = _instances(instances, kept, polygons=polygons)
    found = _joined(kept, notes, records)
    return expression_rows(found, folder=images, source=annotations, left_out=left_out)


def _instances(
    path: PathLike, refs: Iterable[Ref], *, polygons: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The annotations and the images of refs by id; ValueError for refs that lack theirs."""
    wanted = {ref.annotation_id: ref for ref in refs}
    image_ids = {ref.image_id for ref in wanted.values()}
    notes: dict[str, dict[str, Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    for key, record in stream_members(path, inside=("images", "annotations")):
        if key not in ("images", "annotations"):
            continue
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}: {key!r} holds {str(record)[:60]!r}, no object; is it the file of another format?"
            )
        own_id = id_text(record.get("id"))
        if key == "images" and own_id in image_ids:
            records[own_id] = {name: record.get(name) for name in ("file_name", "width", "height")}
        elif key == "annotations" and own_id in wanted:
            notes[own_id] = _note(record, f"{path}: the annotation {own_id}", polygons=polygons)
    _check_found(path, wanted, notes, records)
    return notes, records


def _note(record: Mapping[str, Any], place: str, *, polygons: bool) -> dict[str, Any]:
    """What is kept of an annotation: its image, its box, and its polygons if asked for."""
    shapes = polygons_of(record.get("segmentation"), place=place) if polygons else []
    return {"image_id": id_text(record.get("image_id")), "bbox": record.get("bbox"), "polygons": shapes}


def _check_found(
    path: PathLike,
    wanted: Mapping[str, Ref],
    notes: Mapping[str, dict[str, Any]],
    records: Mapping[str, dict[str, Any]],
) -> None:
    """ValueError where the instances are those of other refs, or an annotation is of another image."""
    cure = f"give the instances.json that belongs to the refs (RefCOCO's boxes are of COCO's train2014), not {path}"
    absent = [ref for note_id, ref in wanted.items() if note_id not in notes]
    if absent:
        ref = absent[0]
        raise ValueError(
            f"{len(absent)} of {len(wanted)} refs speak of annotations that are not there, such as {ref.annotation_id} "
            f"of ref {ref.ref_id}: {cure}"
        )
    for note_id, ref in wanted.items():
        if notes[note_id]["image_id"] != ref.image_id:
            raise ValueError(
                f"the annotation {note_id} is of the image {notes[note_id]['image_id']}, but ref {ref.ref_id} says "
                f"{ref.image_id}: {cure}"
            )
        if ref.image_id not in records or not isinstance(records[ref.image_id]["file_name"], str):
            raise ValueError(f"the image {ref.image_id} of ref {ref.ref_id} is not listed with its file name: {cure}")


def _joined(
    refs: Iterable[Ref], notes: Mapping[str, dict[str, Any]], records: Mapping[str, dict[str, Any]]
) -> list[ExpressionImage]:
    """The images in the order of their first refs, one a split, with their expressions."""
    found: dict[tuple[str, str], ExpressionImage] = {}
    for ref in refs:
        record, note = records[ref.image_id], notes[ref.annotation_id]
        image = found.setdefault(
            (ref.image_id, ref.split),
            ExpressionImage(
                ref.image_id, coco_place(record["file_name"]), ref.split, record["width"], record["height"]
            ),
        )
        image.expressions.extend(
            Expression(sentence.text, note["bbox"], polygons=note["polygons"]) for sentence in ref.sentences
        )
    return list(found.values())
