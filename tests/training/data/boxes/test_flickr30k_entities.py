"""Flickr30k Entities as detection data: official files and joined JSON, rules by hand, and what files do wrong."""

import gzip
import json
import tarfile
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.boxes.entities_files import LARGEST_XML, parse_sentence, read_annotation
from training.data.boxes.flickr30k_entities import joined_names
from training.data.boxes.formats import load_detection
from training.data.boxes.noun_phrases import PhraseNames
from training.data.boxes.rows import DetectionData

OBJECTS = ["person", "man", "men", "player", "dog", "dogs,hounds", "shirt", "hat", "table", "people", "woman"]
ATTRIBUTES = ["red", "blue,navy", "small", "young", "wooden"]
NAMES = [line.split(",")[0] for line in OBJECTS]
Boxes = Mapping[str, Sequence[Sequence[int]]]  # of a chain, xyxy in pixels
SIZE = (500, 400)


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects_vocab.txt").write_text("\n".join(OBJECTS) + "\n")
    (folder / "attributes_vocab.txt").write_text("\n".join(ATTRIBUTES))
    return folder


def xml_of(name: str, boxes: Boxes, *, size: tuple[Any, Any] = SIZE) -> str:
    things = []
    for chain, corners in boxes.items():
        for box in corners:
            sides = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            things.append(f"<object><name>{chain}</name><bndbox>{sides}</bndbox></object>")
    things.append("<object><name>99</name><scene>1</scene><nobndbox>0</nobndbox></object>")
    width, height = size
    return (
        f"<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{''.join(things)}</annotation>"
    )


def write_image(folder: Path, image_id: str, boxes: Boxes, sentences: Sequence[str], **options: Any) -> None:
    for name in ("Annotations", "Sentences"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "Annotations" / f"{image_id}.xml").write_text(xml_of(f"{image_id}.jpg", boxes, **options))
    (folder / "Sentences" / f"{image_id}.txt").write_text("\n".join(sentences))


def read(folder: Path, **options: Any) -> DetectionData:
    return load_detection(
        "flickr30k_entities", annotations=folder, vocabulary=write_vocabulary(folder / "words"), **options
    )


def told(folder: Path, boxes: Boxes, *sentences: str, **options: Any) -> list[dict[str, Any]]:
    """The boxes of one image with their names as text; what is left out is warned of elsewhere."""
    write_image(folder, "1", boxes, sentences)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        row = read(folder, **options).rows[0]
    return [
        {
            "box": np.round(np.array(box) * np.tile(SIZE, 2)).astype(int).tolist(),
            "object": NAMES[own - 1],
            "others": [NAMES[i - 1] for i in others],
            "attributes": [ATTRIBUTES[i - 1].split(",")[0] for i in marks],
        }
        for box, own, others, marks in zip(
            row["boxes"], row["object_ids"], row["other_object_ids"], row["attribute_ids"], strict=True
        )
    ]


A, B, C = [0, 0, 200, 200], [250, 100, 450, 390], [10, 210, 200, 380]


def test_the_name_said_most_often_is_the_object_and_adjectives_are_joined(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        {"1": [A], "2": [B]},
        "[/EN#1/people A player] at [/EN#2/other a wooden table] .",
        "[/EN#1/people A young man] sits .",
        "[/EN#1/people The man] eats at [/EN#2/other a small table] .",
        "[/EN#1/people Someone] eats .",
        "Nobody is named .",
    )
    assert found == [
        {"box": A, "object": "man", "others": ["player"], "attributes": ["young"]},
        {"box": B, "object": "table", "others": [], "attributes": ["wooden", "small"]},
    ]


def test_of_names_said_as_often_the_first_is_the_object() -> None:
    said = [PhraseNames((4,), (2,)), PhraseNames((2, 9), (1, 2)), PhraseNames((7,), (), general=True), PhraseNames()]
    assert joined_names(said) == ((4, 2, 9), (2, 1))
    assert joined_names([], [PhraseNames((7,), (5,), general=True)]) == ((7,), (5,))
    assert joined_names([PhraseNames((7,), (), general=True)], [PhraseNames((3,))]) == ((3,), ())
    assert joined_names([PhraseNames((7,))], [PhraseNames((3,)), PhraseNames((3,))]) == ((7, 3), ())
    assert joined_names([]) == ((), ())


def test_a_chain_with_several_boxes_names_each_in_singular(tmp_path: Path) -> None:
    found = told(tmp_path, {"1": [A, B]}, "[/EN#1/animals Two small dogs] run .")
    assert [(one["object"], one["attributes"]) for one in found] == [("dog", ["small"])] * 2
    assert told(tmp_path, {"1": [A]}, "[/EN#1/animals Two dogs] run .")[0]["object"] == "dogs"


def test_boxes_that_are_one_are_joined(tmp_path: Path) -> None:
    """What is said of one alone comes first; other things in the same place are other boxes."""
    near = [A[0], A[1], A[2] - 4, A[3]]  # IoU 0.98
    found = told(
        tmp_path,
        {"1": [A, B], "2": [near], "3": [A], "4": [[0, 0, 200, 170]]},  # the last with IoU 0.85
        "[/EN#1/people Two young people] , [/EN#2/people a player] in [/EN#3/clothing a red shirt] , "
        "[/EN#4/people a man] .",
    )
    assert [(one["object"], one["others"], one["box"]) for one in found] == [
        ("player", ["person"], A),
        ("person", [], B),
        ("shirt", [], A),
        ("man", [], [0, 0, 200, 170]),
    ]
    assert found[0]["attributes"] == ["young"]


def test_regions_hold_every_phrase_with_each_of_its_boxes(tmp_path: Path) -> None:
    """Known or not; chains without a box, scenes and what is not visual have none."""
    write_image(
        tmp_path,
        "1",
        {"1": [A, B], "2": [C]},
        [
            "[/EN#1/other Two zorbs] beside [/EN#2/animals a dog] .",
            "[/EN#7/other A box] in [/EN#0/notvisual the air] .",
        ],
    )
    rows = read(tmp_path).rows
    regions = [(region["phrase"], np.round(np.array(region["box"]) * 500).tolist()[0]) for region in rows[0]["regions"]]
    assert regions == [("Two zorbs", 0), ("Two zorbs", 250), ("a dog", 10)]
    assert [NAMES[i - 1] for i in rows[0]["object_ids"]] == ["dog"]
    regions = read(tmp_path, captions=True).rows[0]["regions"]
    assert [region["phrase"] for region in regions if region["box"] == [0, 0, 1, 1]] == [
        "Two zorbs beside a dog .",
        "A box in the air .",
    ]
    assert len(regions) == 5


def test_slivers_broken_boxes_and_copies_are_counted_in_one_warning(tmp_path: Path) -> None:
    boxes = {"1": [A, A, [0, 0, 3, 300], [0, 0, 400, 3], [40, 40, 40, 90], [9, 9, 5, 300]], "2": [B]}
    write_image(tmp_path, "1", boxes, ["[/EN#1/people men]"])
    with pytest.warns(UserWarning) as caught:
        rows = read(tmp_path).rows
    (message,) = [str(warning.message) for warning in caught]
    assert "2 boxes with a side below 4 pixels or 1% of the image's" in message
    assert "2 boxes that are empty, not finite or outside" in message
    assert "1 boxes that no phrase is about" in message and "1 copies of boxes that are one" in message
    assert np.allclose(rows[0]["boxes"], [[0, 0, 0.4, 0.5]]) and len(rows[0]["regions"]) == 2


def test_a_sliver_is_thin_in_pixels_or_as_a_share(tmp_path: Path) -> None:
    """Of an image 500 wide 5 pixels are one in a hundred, 4 are less; 4 of 400 down are enough."""
    boxes = {"1": [[0, 0, 5, 300]], "2": [[100, 0, 104, 300]], "3": [[0, 300, 300, 304]]}
    found = told(tmp_path, boxes, "[/EN#1/people a man] [/EN#2/people a woman] [/EN#3/other a table]")
    assert [one["object"] for one in found] == ["man", "table"]


def teacher(path: Path, *notes: tuple[Any, str, Sequence[float]]) -> Path:
    """A COCO file as pseudo_boxes.py writes it, on images of half the size."""
    names = sorted({name for _, name, _ in notes})
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 250, "height": 200} for i in {n[0] for n in notes}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [
            {"id": i, "image_id": image, "category_id": names.index(name) + 1, "bbox": box}
            for i, (image, name, box) in enumerate(notes)
        ],
    }
    path.write_text(json.dumps(content))
    return path


def test_a_teachers_boxes_are_added_where_nobody_drew_one(tmp_path: Path) -> None:
    """Where people's box overlaps by 0.5 it is not, whatever that is called; a thing of COCO has its finer names."""
    more = teacher(
        tmp_path / "more.json",
        ("1", "dog", [0, 0, 100, 51]),  # of the zorb's 200 x 200 pixels a little over half
        ("1", "dog", [0, 0, 100, 49]),  # a little less
        ("1", "person", [125, 100, 100, 90]),
        ("1", "dining table", [130, 10, 60, 60]),
        ("1", "kite", [130, 10, 60, 60]),  # not in the vocabulary
        ("1", "dog", [200, 10, 1, 60]),  # 2 of 500 pixels
    )
    found = told(tmp_path, {"1": [A], "2": [C]}, "[/EN#1/other A zorb] , [/EN#2/clothing a hat]", more_boxes=more)
    assert [(one["object"], one["others"]) for one in found] == [
        ("hat", []),
        ("dog", []),
        ("person", ["man", "player", "woman"]),
        ("table", []),
    ]
    assert found[1]["box"] == [0, 0, 200, 98]
    with pytest.raises(ValueError, match="more_boxes: .* is on none of the images; its ids are such as '2'"):
        told(tmp_path, {"1": [A]}, "[/EN#1/animals a dog]", more_boxes=teacher(more, ("2", "dog", [0, 0, 9, 9])))


def test_the_finer_names_of_the_vocabulary_are_told(tmp_path: Path) -> None:
    write_image(tmp_path, "1", {"1": [A]}, ["[/EN#1/animals a dog]"])
    data = read(tmp_path)
    assert data.covered == {1: [2, 4, 11]} and data.object_names == NAMES
    assert data.attribute_names == ["red", "blue", "small", "young", "wooden"]


# -- files ------------------------------------------------------------------------------------------------------------


def as_json(folder: Path, *, splits: Mapping[str, str]) -> list[dict[str, Any]]:
    """The joined JSON of an official folder, corners rounded to four digits as that of Flickr8k has them."""
    content = []
    for image_id, split in splits.items():
        image = read_annotation(folder / "Annotations" / f"{image_id}.xml")
        lines = (folder / "Sentences" / f"{image_id}.txt").read_text().split("\n")
        sides = np.tile([image.width, image.height], 2)
        content.append(
            {
                "filename": f"{image_id}.jpg",
                "split": split,
                "orig_width": image.width,
                "orig_height": image.height,
                "boxes": {chain: np.round(boxes / sides, 4).tolist() for chain, boxes in image.boxes.items()},
                "sentences": [
                    {
                        "tokens": parse_sentence(line).text.split(" "),
                        "phrases": [
                            {"phrase": phrase.text, "chain": phrase.chain, "types": list(phrase.kinds)}
                            for phrase in parse_sentence(line).phrases
                        ],
                    }
                    for line in lines
                ],
            }
        )
    return content


def test_official_files_and_joined_json_give_the_same_rows(tmp_path: Path) -> None:
    sentences = ["[/EN#1/people A young man] with [/EN#2/clothing a red hat] .", "[/EN#3/animals Dogs] run ."]
    write_image(tmp_path, "1", {"1": [A], "2": [[3, 5, 36, 77]], "3": [B, C]}, sentences)
    write_image(tmp_path, "2", {"1": [[1, 1, 333, 250]]}, ["[/EN#1/animals A dog] ."], size=(333, 251))
    write_image(tmp_path, "3", {"1": [A]}, ["[/EN#1/animals A dog] ."])
    for name, ids in (("train", ["2"]), ("val", ["1"]), ("test", [])):
        (tmp_path / f"{name}.txt").write_text("\n".join(ids))
    path = tmp_path / "joined.json.gz"
    path.write_bytes(gzip.compress(json.dumps(as_json(tmp_path, splits={"1": "val", "2": "train"})).encode()))
    with pytest.warns(UserWarning, match=r"1 images that are in no split list \(first: image 3\)"):
        official = read(tmp_path, split_lists=tmp_path, captions=True).rows
    joined = load_detection("flickr30k_entities", annotations=path, vocabulary=tmp_path / "words", captions=True).rows
    assert official[:] == joined[:] and official["split"][:] == ["val", "train"]
    assert official["width"][:] == [500, 333] and len(official[0]["regions"]) == 6
    only = load_detection("flickr30k_entities", annotations=path, vocabulary=tmp_path / "words", split="train")
    assert only.rows["image_id"][:] == ["2"]


def test_images_are_found_and_absent_ones_left_out(tmp_path: Path) -> None:
    for image_id in ("1", "2"):
        write_image(tmp_path, image_id, {"1": [A]}, ["[/EN#1/animals a dog]"])
    (tmp_path / "images").mkdir()
    Image.new("RGB", (50, 40)).save(tmp_path / "images" / "2.jpg")
    with pytest.warns(UserWarning, match=r"1 of 2 images are not in .* left out: 1\.jpg"):
        rows = read(tmp_path, images=tmp_path / "images").rows
    assert rows["image_id"][:] == ["2"] and rows[0]["image"].size == (50, 40) and rows[0]["width"] == 500


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (BOMB, "declares a document type"),
        (BOMB.encode("utf-16"), "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        ("<annotation>&undefined;</annotation>", "is no XML annotation"),
        ("", "is no XML annotation"),
        ("\x00\x01", "is no XML annotation"),
        (b"\xff\xfe\x00", "is no XML annotation"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "is no XML annotation"),
        ("<a>" * 5000, "is no XML annotation"),
        (" " * (LARGEST_XML + 1), f"more than {LARGEST_XML} bytes"),
        ("<annotation/>", "has no filename"),
        ("<annotation><filename>2.jpg</filename></annotation>", "is about the image '2.jpg'"),
        ("<annotation><filename>1.jpg</filename></annotation>", "has no size/width"),
        (xml_of("1.jpg", {"1": [A]}, size=(-5, 3)), "the width '-5' is no number of pixels"),
        (xml_of("1.jpg", {"1": [A]}, size=(5, "9" * 30)), "is no number of pixels"),
        (xml_of("1.jpg", {"1": [["x", 1, 2, 3]]}), "the box of record 0 of chain 1 is not four numbers"),
        (xml_of("1.jpg", {"1": [A]}).replace("<ymax>200</ymax>", ""), "no phrase of .* names an object"),
        (xml_of("1.jpg", {"": [A]}), "object 0 names no chain"),
        (xml_of("1.jpg", {}), "no phrase of .* names an object"),
    ],
)
def test_broken_xml_is_named(tmp_path: Path, content: str | bytes, fault: str) -> None:
    write_image(tmp_path, "1", {}, ["[/EN#1/animals a dog]"])
    path = tmp_path / "Annotations" / "1.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings(), pytest.raises(ValueError, match=fault) as caught:
        warnings.simplefilter("ignore", UserWarning)
        read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "fault"),
    [("[/EN#1/animals a dog", "the mark of a phrase is not closed"), ("a dog", "no phrase of .* names an object")],
)
def test_sentences_that_mark_nothing(tmp_path: Path, line: str, fault: str) -> None:
    write_image(tmp_path, "1", {"1": [A]}, [line])
    with warnings.catch_warnings(), pytest.raises(ValueError, match=fault):
        warnings.simplefilter("ignore", UserWarning)
        read(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no Annotations/<image id>.xml beside Sentences"):
        read(tmp_path)
    write_image(tmp_path, "1", {"1": [A]}, ["[/EN#1/animals a dog]"])
    (tmp_path / "Sentences" / "1.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*1\.txt"):
        read(tmp_path)


GOOD = {
    "filename": "1.jpg",
    "split": "train",
    "orig_width": 500,
    "orig_height": 400,
    "boxes": {"1": [[0, 0, 0.4, 0.5]]},
    "sentences": [{"tokens": ["a", "dog"], "phrases": [{"phrase": "a dog", "chain": "1", "types": ["animals"]}]}],
}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({}, "is no list of images"),
        ([], "is no list of images"),
        ([3], "record 0 has no filename and split"),
        ([{**GOOD, "split": None}], "record 0 has no filename and split"),
        ([GOOD, GOOD], "the image '1' stands in it twice"),
        ([{**GOOD, "split": "holiday"}], "unknown split 'holiday'"),
        ([{**GOOD, "orig_width": 0}], "is no number of pixels"),
        ([{**GOOD, "orig_width": "wide"}], "the record of 1.jpg is no image"),
        ([{**GOOD, "boxes": {"1": [[0, 0, 1]]}}], "not four numbers"),
        ([{**GOOD, "boxes": [1]}], "the record of 1.jpg is no image"),
        ([{**GOOD, "sentences": [{"tokens": ["a"]}]}], "the record of 1.jpg is no image"),
        ([{**GOOD, "sentences": [{"tokens": [1], "phrases": []}]}], "the record of 1.jpg is no image"),
        ([{**GOOD, "boxes": {"1": [[None, 0, 0.4, 0.5]]}}], "no phrase of .* names an object"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: Any, fault: str) -> None:
    path = tmp_path / "entities.json"
    path.write_text(json.dumps(content))
    words = write_vocabulary(tmp_path / "words")
    with warnings.catch_warnings(), pytest.raises(ValueError, match=fault) as caught:
        warnings.simplefilter("ignore", UserWarning)
        load_detection("flickr30k_entities", annotations=path, vocabulary=words)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"not packed", gzip.compress(b"[" * 99)[:20], gzip.compress(b"{")],
    ids=["plain", "cut short", "no JSON"],
)
def test_broken_packed_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "entities.json.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"entities\.json\.gz"):
        load_detection("flickr30k_entities", annotations=path, vocabulary=write_vocabulary(tmp_path / "words"))


def test_the_joined_json_of_flickr8k_reads_as_it_is() -> None:
    """8,000 images, of which the validation split; regions beside a plain count of the file's phrases and boxes."""
    path = shared("data/flickr8k/entities.json.gz")
    options = {"annotations": path, "vocabulary": shared("data/vg_vocabulary"), "split": "val"}
    with pytest.warns(UserWarning, match="580 copies of boxes that are one"):
        data = load_detection("flickr30k_entities", **options)
    with gzip.open(path, "rt", encoding="utf-8") as file:
        images = {Path(image["filename"]).stem: image for image in json.load(file) if image["split"] == "val"}
    rows = data.rows.remove_columns("image")
    assert rows["image_id"][:] == list(images) and len(images) == 1000
    for row in rows:
        image = images[row["image_id"]]
        phrases = [phrase for sentence in image["sentences"] for phrase in sentence["phrases"]]
        expected = [(p["phrase"], box) for p in phrases for box in image["boxes"].get(p["chain"], [])]
        assert [region["phrase"] for region in row["regions"]] == [phrase for phrase, _ in expected]
        found = np.array([region["box"] for region in row["regions"]]).reshape(-1, 4)
        assert np.abs(found - np.array([box for _, box in expected]).reshape(-1, 4)).max(initial=0) < 1e-3
    assert sum(map(len, rows["boxes"][:])) == 6_281 and len(data.object_names) == 1600


def test_official_files_read_as_they_are(tmp_path: Path) -> None:
    """300 of the official pairs of files, and the same images of the joined JSON: the same rows."""
    with tarfile.open(shared("data/flickr8k/flickr30k_entities_official.tar.xz")) as archive:
        for member in islice(archive, 600):
            archive.extract(member, tmp_path, filter="data")
    folder = tmp_path / "flickr30k_entities"
    ids = {path.stem for path in (folder / "Annotations").iterdir()}
    with gzip.open(shared("data/flickr8k/entities.json.gz"), "rt", encoding="utf-8") as file:
        images = [{**one, "filename": f"{number}.jpg"} for one in json.load(file) if (number := _flickr_id(one)) in ids]
    path = tmp_path / "entities.json"
    path.write_text(json.dumps([{**image, "split": "train"} for image in images]))
    options = {"vocabulary": shared("data/vg_vocabulary"), "captions": True}
    with pytest.warns(UserWarning, match="copies of boxes that are one"):
        official = load_detection("flickr30k_entities", annotations=folder, **options).rows
        joined = load_detection("flickr30k_entities", annotations=path, **options).rows
    rows = {row["image_id"]: row for row in joined}
    assert len(official) == len(rows) == len(ids) == 300
    assert all(row == rows[row["image_id"]] for row in official)


def _flickr_id(image: Mapping[str, Any]) -> str:
    return str(image["filename"]).partition("_")[0]
