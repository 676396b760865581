"""RefCOCO as rows: refs joined with their instances, splits of things and of images, polygons, and files that do not
belong together."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.phrases.formats import load_phrases
from training.data.splits import NoSuchSplitError

SIZE = (200, 100)


def ref(number: int, image: int, split: str, *texts: str, note: Any = None) -> dict[str, Any]:
    sentences = [{"sent_id": 10 * number + i, "sent": text, "raw": text} for i, text in enumerate(texts)]
    about = {"ref_id": number, "ann_id": 100 + number if note is None else note, "image_id": image, "split": split}
    name = f"COCO_train2014_{image:012d}_{number}.jpg"  # the ref's own, which no image has
    return {**about, "category_id": 1, "file_name": name, "sentences": sentences}


REFS = [
    ref(1, 7, "train", "the left dog", " brown dog "),
    ref(2, 7, "val", "dog on the right"),
    ref(3, 8, "train", "a hat"),
    ref(4, 9, "testA", "man"),
    ref(5, 9, "testB", "his cup"),
]


def note(number: int, image: int, box: list[float], **fields: Any) -> dict[str, Any]:
    x, y, width, height = box
    polygon = [x, y, x + width, y, x, y + height]
    return {"id": number, "image_id": image, "bbox": box, "segmentation": [polygon], "category_id": 1, **fields}


NOTES = [
    note(101, 7, [20, 10, 60, 50]),
    note(102, 7, [120, 10, 60, 50]),
    note(103, 8, [0, 0, 200, 100], segmentation={"counts": [1, 2], "size": [100, 200]}, iscrowd=1),
    note(104, 9, [50, 50, 100, 50]),
    note(105, 9, [150, 0, 50, 20]),
    note(999, 7, [0, 0, 5, 5], segmentation="of no ref, so never looked at"),
]


def write(folder: Path, *, refs: Any = REFS, notes: Any = NOTES, images: Any = (7, 8, 9, 10)) -> dict[str, Any]:
    """The files, and the options that read them."""
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    sizes = {"width": SIZE[0], "height": SIZE[1]}
    listed = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", **sizes} for i in images]
    content = {"info": {}, "images": listed, "annotations": notes, "categories": [{"id": 1, "name": "dog"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return {"annotations": folder / "refs(unc).p", "instances": folder / "instances.json"}


def told(rows: Any) -> list[tuple[str, str, list[tuple[str, list[list[int]]]]]]:
    """Of each row the image, the split, and its expressions with their boxes in pixels."""
    found = []
    for row in rows:
        own = []
        for text, (phrase,) in zip(row["captions"], row["phrases"], strict=True):
            assert (phrase["start"], phrase["end"]) == (0, len(text)) and phrase["candidates"] == []
            own.append((text, np.round(np.array(phrase["boxes"]) * np.tile(SIZE, 2)).astype(int).tolist()))
        found.append((row["image_id"], row["split"], own))
    return found


def test_refs_are_joined_with_their_boxes(tmp_path: Path) -> None:
    options = write(tmp_path)
    left, right = [[20, 10, 80, 60]], [[120, 10, 180, 60]]
    train = ("7", "train", [("the left dog", left), ("brown dog", left)])
    assert told(load_phrases("refcoco", split="train", **options)) == [
        train,
        ("8", "train", [("a hat", [[0, 0, 200, 100]])]),
    ]
    everything = told(load_phrases("refcoco", **options))  # an image of two splits is a row of each
    assert [row[:2] for row in everything] == [
        ("7", "train"),
        ("7", "val"),
        ("8", "train"),
        ("9", "testA"),
        ("9", "testB"),
    ]
    assert everything[:2] == [train, ("7", "val", [("dog on the right", right)])]
    assert [row[1] for row in told(load_phrases("refcoco", split="testB", **options))] == ["testB"]
    assert len(load_phrases("refcoco", split="test", **options)) == 2
    with pytest.raises(NoSuchSplitError, match="has no ref of the split 'testC'; it has testA, testB, train, val"):
        load_phrases("refcoco", split="testC", **options)


def test_polygons_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    options = write(tmp_path)
    plain, shaped = (load_phrases("refcoco", split="train", polygons=asked, **options) for asked in (False, True))
    assert told(plain) == told(shaped)
    assert all(p["polygons"] == [] for row in plain for own in row["phrases"] for p in own)
    (first,), (second,) = shaped[0]["phrases"]
    np.testing.assert_allclose(first["polygons"], [[[0.1, 0.1, 0.4, 0.1, 0.1, 0.6]]], atol=1e-6)
    assert second["polygons"] == first["polygons"] and shaped[1]["phrases"][0][0]["polygons"] == []  # run lengths
    notes = [*NOTES[1:], note(101, 7, [20, 10, 60, 50], segmentation=[[1, 2, 3]])]
    with pytest.raises(ValueError, match="annotation 101 has a segmentation that is no list of polygons"):
        load_phrases("refcoco", polygons=True, **write(tmp_path, notes=notes))


@pytest.mark.parametrize("place", [".", "train2014"])
def test_images_lie_in_cocos_folder_or_above_it(place: str, tmp_path: Path) -> None:
    options = write(tmp_path)
    (tmp_path / "coco" / place).mkdir(parents=True)
    for number in (7, 9):
        Image.new("RGB", SIZE).save(tmp_path / "coco" / place / f"COCO_train2014_{number:012d}.jpg")
    with pytest.warns(UserWarning, match="1 of 3 images are not in .*COCO_train2014_000000000008"):
        rows = load_phrases("refcoco", images=tmp_path / "coco", **options)
    assert [row["image_id"] for row in rows] == ["7", "7", "9", "9"] and rows[0]["image"].size == SIZE


def test_refclef_has_ids_of_its_own(tmp_path: Path) -> None:
    refs = [{**ref(1, 8756, "train", "sky", note="8756_2"), "file_name": "8756_2.jpg"}]
    options = write(tmp_path, refs=refs, notes=[note("8756_2", 8756, [0, 0, 200, 40])], images=())  # type: ignore[arg-type]
    content = json.loads(options["instances"].read_text())
    content["images"] = [{"id": 8756, "file_name": "8756.jpg", "width": 200, "height": 100}]
    options["instances"].write_text(json.dumps(content))
    assert told(load_phrases("refcoco", **options)) == [("8756", "train", [("sky", [[0, 0, 200, 40]])])]


def test_what_cannot_be_used_is_left_out_and_told(tmp_path: Path) -> None:
    refs = [*REFS[:2], ref(3, 8, "train", " "), ref(6, 7, "train", "far away"), REFS[3]]
    notes = [*NOTES, note(106, 7, [300, 10, 20, 20])]
    with pytest.warns(UserWarning) as seen:
        rows = load_phrases("refcoco", split="train", **write(tmp_path, refs=refs, notes=notes))
    texts = [str(one.message) for one in seen]
    assert "1 expressions without a word are left out" in texts[0]
    assert "1 refs without an expression (first: ref 3)" in texts[1]
    assert "1 expressions whose boxes that are empty, not finite or outside their image (first: 'far away'" in texts[1]
    assert [row[:2] for row in told(rows)] == [("7", "train")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"notes": NOTES[1:]}, "1 of 5 refs speak of annotations that are not there, such as 101 of ref 1: give the"),
        ({"notes": [note(101, 8, [0, 0, 9, 9]), *NOTES[1:]]}, "annotation 101 is of the image 8, but ref 1 says 7"),
        ({"images": (7, 9)}, "the image 8 of ref 3 is not listed with its file name: give the instances.json"),
        ({"notes": [{**NOTES[0], "bbox": [1, 2, 3]}, *NOTES[1:]]}, "is not four numbers"),
        ({"notes": ["box"]}, "'annotations' holds 'box', no object"),
        ({"notes": [{**own, "bbox": [0.1, 0.1, 0.5, 0.5]} for own in NOTES]}, "all 6 boxes lie in 0..1"),
        ({"refs": [{**REFS[0], "sentences": [len]}]}, r"would load \w+\.len, which may carry code, and was not read"),
        ({"refs": [{"image": 7}]}, "record 0 has no list of sentences; is it a refs file"),
        ({"refs": "of another format"}, "holds a str and no list of refs; is it the file of another format"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_phrases("refcoco", **write(tmp_path, **changes))


def test_the_real_record(tmp_path: Path) -> None:
    """The official pickle, whose instances stand in a file that is not at hand: its layout, of the record's ids."""
    path = shared("data/official_formats/refcoco/refs(unc).p")
    record = json.loads(path.with_name("refs_unc_record0.json").read_text())[0]
    options = write(tmp_path, notes=[note(record["ann_id"], record["image_id"], [20, 10, 60, 50])], images=(581857,))
    (row,) = load_phrases("refcoco", **{**options, "annotations": path})
    assert row["captions"] == [own["sent"] for own in record["sentences"]] and row["image_id"] == "581857"
