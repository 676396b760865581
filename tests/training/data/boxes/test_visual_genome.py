"""Visual Genome: official records, both spellings of their keys, vocabularies, and what real files do wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.boxes.formats import load_detection
from training.data.boxes.rows import DetectionData
from training.data.boxes.visual_genome import clean_name, read_vocabulary

OBJECTS_VOCABULARY = "clock\nman\nstop sign,stopsign\ndog"  # the official files end without a newline too
ATTRIBUTES_VOCABULARY = "green\nwhite\ngray,grey\nblack and white\ntall\n"
RELATIONS_VOCABULARY = "on,on top of\nwearing, wears,wearing\n"
EVERYTHING = ("attributes", "relationships", "region_descriptions")


def thing(number: int, name: str, box: tuple[Any, ...] = (20, 10, 40, 30), **fields: Any) -> dict[str, Any]:
    x, y, w, h = box
    return {"object_id": number, "names": [name], "x": x, "y": y, "w": w, "h": h, "synsets": [], **fields}


def relation(subject: int, predicate: str, target: int) -> dict[str, Any]:
    return {"predicate": predicate, "subject": thing(subject, "man"), "object": thing(target, "clock"), "synsets": []}


def region(phrase: str, box: tuple[int, ...] = (0, 0, 100, 50)) -> dict[str, Any]:
    return {"region_id": 1, "phrase": phrase, **dict(zip(("x", "y", "width", "height"), box, strict=True))}


def genome() -> dict[str, Any]:
    """Two images of 200 x 100 pixels."""
    return {
        "image_data": [{"image_id": i, "width": 200, "height": 100, "url": f"VG_100K_2/{i}.jpg"} for i in (1, 2)],
        "objects": [
            {"image_id": 1, "objects": [thing(5, " Clock."), thing(6, "stopsign", (0, 0, 200, 100)), thing(7, "yolk")]},
            {"image_id": 2, "objects": [thing(8, "man", merged_object_ids=[88]), thing(9, "dog")]},
        ],
        "attributes": [
            {"image_id": 1, "attributes": [thing(5, "clock", attributes=["Green", "grey and tall", "green", "odd"])]},
            {"image_id": 2, "attributes": [thing(9, "dog", attributes=["black and white"]), thing(77, "man")]},
        ],
        "relationships": [
            {"image_id": 1, "relationships": [relation(5, "ON TOP OF", 6), relation(5, "on", 6), relation(7, "on", 5)]},
            {"image_id": 2, "relationships": [relation(88, "wears", 9), relation(8, "eats", 9)]},
        ],
        "region_descriptions": [{"id": 1, "regions": [region("the clock is green\n"), region("  "), region("a dog")]}],
    }


def write(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, records in content.items():
        (folder / f"{name}.json").write_text(records if isinstance(records, str) else json.dumps(records))
    words = (OBJECTS_VOCABULARY, ATTRIBUTES_VOCABULARY, RELATIONS_VOCABULARY)
    for name, text in zip(("objects", "attributes", "relations"), words, strict=True):
        (folder / f"{name}_vocab.txt").write_text(text)
    return folder


def read(folder: Path, content: dict[str, Any], **options: Any) -> DetectionData:
    write(folder / "vg", content)
    return load_detection("visual_genome", annotations=folder / "vg", vocabulary=folder / "vg", **options)


def test_objects_attributes_relations_and_regions_meet(tmp_path: Path) -> None:
    with pytest.warns(UserWarning) as told:
        data = read(tmp_path, genome(), parts=EVERYTHING)
    assert data.object_names == ["clock", "man", "stop sign", "dog"] and data.id2label[3] == "stop sign"
    assert data.attribute_id2label[3] == "gray"
    first, second = data.rows
    assert first["image_id"] == "1" and first["split"] == "train" and (first["width"], first["height"]) == (200, 100)
    assert np.allclose(first["boxes"], [[0.1, 0.1, 0.3, 0.4], [0.0, 0.0, 1.0, 1.0]]) and first["object_ids"] == [1, 3]
    assert first["attribute_ids"] == [[1, 3, 5], []] and first["crowd"] == [False, False]
    assert first["relations"] == [{"subject": 0, "object": 1, "predicate": "on"}]
    assert first["regions"] == [
        {"phrase": phrase, "box": [0, 0, 0.5, 0.5]} for phrase in ("the clock is green", "a dog")
    ]
    assert second["object_ids"] == [2, 4] and second["attribute_ids"] == [[], [4]]
    assert second["relations"] == [{"subject": 0, "object": 1, "predicate": "wearing"}]  # by a merged object's id
    assert second["regions"] == []
    assert [str(warning.message).partition("left out ")[2].split("; ") for warning in told] == [
        [
            "1 attributes whose name is not in the vocabulary (first: odd of image 1)",
            "1 relations whose predicate is not in the vocabulary (first: eats of image 2)",
            "1 regions without a phrase or a usable box (first: of image 1)",
            "1 objects whose name is not in the vocabulary (first: yolk of image 1)",
            "1 relations of objects that are left out (first: of image 1)",
        ]
    ]


def test_older_spellings_of_the_keys_read_the_same(tmp_path: Path) -> None:
    old = json.loads(json.dumps(genome()).replace('"image_id"', '"id"').replace('"object_id"', '"id"'))
    for image in old["objects"] + old["attributes"]:
        for entry in image.get("objects", []) + image.get("attributes", []):
            entry["name"] = entry.pop("names")[0]
    with pytest.warns(UserWarning):
        expected = read(tmp_path, genome(), parts=EVERYTHING)
    with pytest.warns(UserWarning):
        assert read(tmp_path, old, parts=EVERYTHING).rows[:] == expected.rows[:]


def test_parts_not_asked_for_are_not_read(tmp_path: Path) -> None:
    content = genome()
    content["relationships"] = content["region_descriptions"] = "no JSON"
    with pytest.warns(UserWarning, match="1 objects"):
        rows = read(tmp_path, content).rows
    assert rows["relations"][:] == [[], []] and rows["attribute_ids"][0] == [[1, 3, 5], []]
    content["attributes"] = "no JSON"
    with pytest.warns(UserWarning, match="1 objects"):
        data = read(tmp_path, content, parts=[])
    assert data.attribute_names == [] and data.rows["attribute_ids"][:] == [[[], []], [[], []]]
    for parts in (["region"], "attributes"):
        with pytest.raises(ValueError, match="give a list of attributes, relationships, region_descriptions"):
            read(tmp_path, content, parts=parts)


def test_adjectives_of_a_name_become_attributes(tmp_path: Path) -> None:
    """The first known name of several counts; "large" is common but no attribute of this vocabulary."""
    content = genome()
    names = [
        ["white  Dog"],
        ["large green man"],
        ["shiny dog"],
        ["tree", "white dog"],
        ["white tall stop sign"],
        [],
        ["."],
    ]
    content["objects"][0]["objects"] = [thing(i, "", names=own) for i, own in enumerate(names)]
    content["attributes"][0]["attributes"] = [thing(0, "dog", attributes=["tall", "white"])]
    with pytest.warns(UserWarning, match="4 objects whose name is not in the vocabulary .first: shiny dog of image 1"):
        row = read(tmp_path, content).rows[0]
    assert row["object_ids"] == [4, 2, 4] and row["attribute_ids"] == [[2, 5], [1], [2]]


def test_unusable_boxes_and_images_with_nothing_left(tmp_path: Path) -> None:
    content = genome()
    content["objects"][0]["objects"] = [
        thing(1, "dog", (-10, -10, 20, 20)),
        thing(2, "dog", (10, 10, 0, 10)),
        thing(3, "dog", (10, 10, -4, 10)),
        thing(4, "dog", (300, 10, 10, 10)),
        thing(5, "dog", (float("nan"), 10, 10, 10)),
    ]
    content["objects"][1]["objects"] = [thing(1, "tree")]
    with pytest.warns(
        UserWarning, match="4 boxes that are empty, not finite or outside .*1 images without a known obj"
    ):
        rows = read(tmp_path, content).rows
    assert np.allclose(rows["boxes"][:], [[[0, 0, 0.05, 0.1]]])
    content["objects"][0]["objects"][3]["x"] = "far"
    with pytest.raises(
        ValueError, match=r"objects.json: the box of record 3 of image 1 is not four numbers: \['far', 10"
    ):
        read(tmp_path, content)
    content["objects"][0]["objects"] = []
    with pytest.raises(ValueError, match=r"no object in .*objects.json has a name of .*objects_vocab.txt"):
        read(tmp_path, content)


def test_images_without_known_objects_stay_for_their_regions(tmp_path: Path) -> None:
    content = genome()
    content["objects"][0]["objects"] = []
    with pytest.warns(UserWarning, match="regions"):
        rows = read(tmp_path, content, parts=["region_descriptions"]).rows
    assert rows["image_id"][:] == ["1", "2"] and rows["boxes"][0] == [] and len(rows["regions"][0]) == 2


def test_split_lists_choose_images(tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for word, line in (("train", "VG_100K_2/2.jpg xml/2.xml"), ("val", "VG_100K/1.jpg xml/1.xml\n"), ("test", "")):
        (lists / f"{word}.txt").write_text(line)
    with pytest.warns(UserWarning, match="1 objects"):
        rows = read(tmp_path, genome(), split_lists=lists).rows
    assert rows["split"][:] == ["val", "train"]
    assert read(tmp_path, genome(), split_lists=lists, split="train").rows["image_id"][:] == ["2"]
    (lists / "mine.txt").write_text("2.jpg\n7.jpg\n8.jpg\n")
    with pytest.warns(
        UserWarning, match=r"1 images that are in no split list \(first: image 1\); 2 images of the split"
    ):
        rows = read(tmp_path, genome(), split_lists={"test": lists / "mine.txt"}).rows
    assert rows["split"][:] == ["test"] and rows["image_id"][:] == ["2"]
    (lists / "test.txt").write_text("VG_100K/1.jpg xml/1.xml")
    with pytest.raises(ValueError, match="test.txt: the image '1' is in the list of val too"):
        read(tmp_path, genome(), split_lists=lists)
    with pytest.raises(ValueError, match="cannot read .*train.txt"):
        read(tmp_path, genome(), split_lists=tmp_path / "nowhere")


def test_images_lie_in_either_folder(tmp_path: Path) -> None:
    for name, size in (("VG_100K/1.jpg", (200, 100)), ("VG_100K_2/2.jpg", (100, 50))):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", size).save(tmp_path / name)
    content = genome()
    content["image_data"][1].pop("width")  # then the image tells its size
    with pytest.warns(UserWarning, match="1 objects"):
        rows = read(tmp_path, content, images=tmp_path).rows
    assert [row["image"].size for row in rows] == [(200, 100), (100, 50)] and rows["width"][:] == [200, 100]
    assert np.allclose(rows[1]["boxes"][0], [0.2, 0.2, 0.6, 0.8])
    with pytest.raises(ValueError, match="image_data.json: the image '2' has no width and height"):
        read(tmp_path, content)
    (tmp_path / "VG_100K" / "1.jpg").unlink()
    with pytest.warns(UserWarning, match="1 of 2 images are not in .* 1.jpg"):
        assert read(tmp_path, content, images=tmp_path).rows["image_id"][:] == ["2"]
    flat = tmp_path / "VG_100K_2"
    Image.new("RGB", (200, 100)).save(flat / "1.jpg")
    with pytest.warns(UserWarning, match="1 objects"):
        assert len(read(tmp_path, content, images=flat).rows) == 2


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        (
            "objects",
            '[{"image_id": 1, "objects": []}, {"image_id": 2, "obj',
            "objects.json is not valid JSON .*cut short",
        ),
        ("objects", '[{"image_id": 1, "objects": []}', "is not valid JSON .line 1: Expecting ','"),
        ("objects", "", "objects.json is empty"),
        ("objects", {"image_id": 1}, "objects.json holds an object where a list is expected"),
        ("objects", [5], "objects.json: record 0 is no object: 5"),
        ("objects", [{"objects": []}], "objects.json: record 0 has neither 'image_id' nor 'id'"),
        ("objects", [{"image_id": 1, "regions": []}], "has no list 'objects', it holds the keys image_id, regions"),
        ("objects", [{"image_id": 1, "objects": [5]}], "record 0 of 'objects' is no object"),
        ("objects", [{"image_id": 1, "objects": []}] * 2, "objects.json: the image '1' stands in it twice"),
        ("image_data", [{"image_id": 1}] * 2, "image_data.json: the image '1' stands in it twice"),
        ("image_data", [], "image_data.json lists no image"),
        ("image_data", [{"image_id": 1, "width": 0, "height": 9}], "the image '1' has width 0 and height 9"),
        ("relationships", [{"image_id": 1, "relationships": [{"predicate": "on"}]}], "image '1' lacks a predicate"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, records: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {**genome(), name: records}, parts=EVERYTHING)


def test_images_that_objects_do_not_hold_are_counted(tmp_path: Path) -> None:
    content = genome()
    content["objects"] = content["objects"][1:]
    with pytest.warns(UserWarning, match=r"1 images that objects.json does not hold \(first: image 1\)"):
        assert read(tmp_path, content, parts=[]).rows["image_id"][:] == ["2"]


def test_strange_attributes_and_names_are_passed_over(tmp_path: Path) -> None:
    content = genome()
    content["attributes"][0]["attributes"] = [
        thing(5, "clock", attributes="green"),
        thing(6, "x", attributes=[None, 3, "tall"]),
        thing(7, "x", attributes=None),
    ]
    content["objects"][0]["objects"].append(thing(9, "x", names=7, merged_object_ids=3))
    with pytest.warns(UserWarning, match="2 objects"):
        assert read(tmp_path, content).rows["attribute_ids"][0] == [[1], [5]]


def test_vocabularies_keep_their_lines_as_ids(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    for ending in ("", "\n", "\r\n\n"):
        path.write_text("Racket,racquet, racket \nred.\nhot dog,hotdog" + ending)
        vocabulary = read_vocabulary(path)
        assert vocabulary.names == ["racket", "red", "hot dog"]
        assert vocabulary.ids == {"racket": 1, "racquet": 1, "red": 2, "hot dog": 3, "hotdog": 3}
    path.write_text("racket\nred\ntennis racket,Racket\n")
    with pytest.raises(ValueError, match="vocab.txt: 'racket' stands in line 1 and in line 3; leave it in one"):
        read_vocabulary(path)
    for text in ("racket\n\nred\n", "racket\n ,\nred\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="vocab.txt, line 2 has no name"):
            read_vocabulary(path)
    path.write_text("")
    with pytest.raises(ValueError, match="line 1 has no name"):
        read_vocabulary(path)


def test_names_are_compared_without_blanks_and_full_stop() -> None:
    assert [clean_name(name) for name in (" Stop Sign. ", "t-shirt", ". ", "dog .")] == [
        "stop sign",
        "t-shirt",
        "",
        "dog",
    ]


def test_the_real_vocabularies_have_their_numbers() -> None:
    folder = shared("data/vg_vocabulary")
    words = {name: read_vocabulary(folder / f"{name}_vocab.txt") for name in ("objects", "attributes", "relations")}
    assert [len(vocabulary.names) for vocabulary in words.values()] == [1600, 400, 20]
    assert words["objects"].ids["fridge"] == words["objects"].ids["refrigerator"]
    assert words["relations"].names[-1] == "swimming in" and words["relations"].ids["swimming"] == 20


def test_official_records_read_as_they_are() -> None:
    formats = shared("data/official_formats")
    with pytest.warns(UserWarning, match="108076 images of the split lists .*1 relations of objects that are left out"):
        data = load_detection(
            "visual_genome",
            annotations=formats / "visual_genome",
            vocabulary=shared("data/vg_vocabulary"),
            parts=EVERYTHING,
            images=formats / "mini_with_photos/images/vgqa",
            split_lists=formats / "visual_genome_splits",
        )
    (row,) = data.rows
    assert row["image"].size == (row["width"], row["height"]) == (800, 600) and row["split"] == "train"
    assert [data.id2label[i] for i in row["object_ids"]] == ["clock"]
    assert [data.attribute_id2label[i] for i in row["attribute_ids"][0]] == ["green", "tall"]
    assert np.allclose(row["boxes"], [[421 / 800, 91 / 600, 500 / 800, 430 / 600]])
    assert len(row["regions"]) == 3 and row["regions"][1]["phrase"] == "shade is along the street"
    assert row["relations"] == []
