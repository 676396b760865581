"""The vocabulary of the names that occur: what counts, what is kept, and the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.data.boxes.formats import load_detection
from training.data.boxes.names import COCO_NAMES, coco_id
from training.data.boxes.visual_genome import read_vocabularies
from training.data.boxes.vocabulary import cut_vocabulary, main

OBJECTS = ["tree,trees", "skier", "person,human", "puppy", "dog", "cow", "llama", "table", "lake"]
ATTRIBUTES = ["red", "small,little", "gray,grey"]


def write_entities(path: Path, phrases: list[str], *, split: str = "train") -> Path:
    """An image of each phrase, said of one box."""
    content = [
        {
            "filename": f"{split}{number}.jpg",
            "split": split,
            "orig_width": 100,
            "orig_height": 80,
            "boxes": {"1": [[0, 0, 0.5, 0.5]]},
            "sentences": [
                {"tokens": part.split(), "phrases": [{"phrase": part, "chain": "1", "types": ["other"]}]}
                for part in phrase.split(";")
            ],
        }
        for number, phrase in enumerate(phrases)
    ]
    path.write_text(json.dumps(content))
    return path


def write_coco(path: Path, *categories: str) -> Path:
    names = list(dict.fromkeys(categories))
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 80}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": names.index(name), "bbox": [i, 0, 9, 9]}
            for i, name in enumerate(categories)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def parts(tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "objects_vocab.txt").write_text("\n".join(OBJECTS))
    (tmp_path / "words" / "attributes_vocab.txt").write_text("\n".join(ATTRIBUTES))
    phrases = ["a llama", "a small llama", "a tree;a little red puppy", "a puppy", "a gray tree", "a dog"]
    return [
        {"format": "flickr30k_entities", "annotations": write_entities(tmp_path / "a.json", phrases)},
        {"format": "coco", "annotations": write_coco(tmp_path / "b.json", "person", "person", "dog", "dining table")},
    ]


def test_names_that_occur_are_kept_in_their_order_with_their_synonyms(
    parts: list[dict[str, Any]], tmp_path: Path
) -> None:
    """A further name that was said counts, the finer ones of COCO's classes do not; COCO's 80 stay."""
    options: dict[str, Any] = {"vocabulary": tmp_path / "words", "output": tmp_path / "cut"}
    objects, attributes = cut_vocabulary(parts, min_count=2, **options)
    lines = (tmp_path / "cut" / "objects_vocab.txt").read_text().splitlines()
    added = [name for name in COCO_NAMES if name not in ("person", "dog", "cow", "dining table")]
    assert lines == ["tree,trees", "person,human", "puppy", "dog", "cow", "llama", "table", *added]
    assert (tmp_path / "cut" / "attributes_vocab.txt").read_text() == "small,little\n"
    present = {name: count for name, count in objects.items() if count}
    assert present == dict.fromkeys(("tree", "person", "puppy", "dog", "llama"), 2) | {"table": 1}
    assert dict(attributes) == {"small": 2}
    ids, _ = read_vocabularies(tmp_path / "cut")
    assert None not in [coco_id(name, ids.ids) for name in COCO_NAMES]


def test_only_the_split_is_counted(parts: list[dict[str, Any]], tmp_path: Path) -> None:
    """Or a part's own."""
    write_entities(tmp_path / "a.json", ["a lake"] * 3, split="val")
    options: dict[str, Any] = {"vocabulary": tmp_path / "words", "min_count": 3, "output": tmp_path / "cut"}
    with pytest.raises(ValueError, match="has no image of the split 'train'"):
        cut_vocabulary(parts, **options)
    write_entities(tmp_path / "a.json", ["a red lake", "a red lake", "a lake"], split="val")
    with pytest.raises(ValueError, match=r"no name of .*attributes_vocab.txt occurs in 3 boxes; lower --min-count"):
        cut_vocabulary([{**parts[0], "split": "val"}, parts[1]], **options)
    assert not (tmp_path / "cut").exists()
    write_entities(tmp_path / "a.json", ["a red lake"] * 3, split="val")
    objects, _ = cut_vocabulary([{**parts[0], "split": "val"}, parts[1]], **options)
    assert objects["lake"] == 3 and objects["person"] == 2


def test_the_command_writes_and_tells(
    parts: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--part={json.dumps({**part, 'annotations': str(part['annotations'])})}" for part in parts]
    words = ["--vocabulary", str(tmp_path / "words"), "--min-count", "2", "--output"]
    assert main([*given, *words, str(tmp_path / "cut")]) == 0
    told = capsys.readouterr().out
    assert "83 objects in 11 places: " in told and "1 attributes in 2 places: small 2" in told
    assert "kept for COCO, though rarer: airplane, " in told and "table" in told
    before = (tmp_path / "cut" / "objects_vocab.txt").read_bytes()
    again = ["--vocabulary", str(tmp_path / "cut"), "--min-count", "2", "--output", str(tmp_path / "twice")]
    assert main([*given, *again]) == 0  # cutting what is cut changes nothing
    assert (tmp_path / "twice" / "objects_vocab.txt").read_bytes() == before


def test_boxes_without_attributes_have_a_vocabulary_without(
    parts: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file of attributes is empty; boxes are read by it, and it can be cut again."""
    part = {**parts[1], "annotations": str(parts[1]["annotations"])}
    words, cut, again = (tmp_path / name for name in ("words", "cut", "again"))
    assert main([f"--part={json.dumps(part)}", f"--vocabulary={words}", "--min-count=1", f"--output={cut}"]) == 0
    assert "no box has one of the attributes: attributes_vocab.txt is empty" in capsys.readouterr().out
    assert (cut / "attributes_vocab.txt").read_bytes() == b""
    for told in (parts[1], {**parts[0], "split": "train"}):
        data = load_detection(**told, vocabulary=cut)
        assert data.attribute_names == [] and data.attribute_id2label == {0: "no attribute"}
        assert len(data.object_names) == 80 and not any(any(ids) for ids in data.rows["attribute_ids"])
    assert main([f"--part={json.dumps(part)}", f"--vocabulary={cut}", "--min-count=1", f"--output={again}"]) == 0
    assert (again / "objects_vocab.txt").read_bytes() == (cut / "objects_vocab.txt").read_bytes()
    (cut / "objects_vocab.txt").write_bytes(b"")  # objects there must be
    with pytest.raises(ValueError, match="objects_vocab.txt, line 1 has no name"):
        load_detection(**parts[1], vocabulary=cut)


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ("{format: coco, annotations: nowhere.json}", "cannot read nowhere.json"),
        ("{annotations: a.json}", "a part needs a format"),
        ("{format: cocoa}", "unknown detection format 'cocoa'"),
        ("{format: coco, annotations: a.json, vocabulary: words}", "the vocabulary is one for all parts"),
    ],
)
def test_parts_that_do_wrong_are_told(
    tmp_path: Path, part: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--part", part, "--vocabulary", str(tmp_path), "--output", str(tmp_path / "cut")]
    assert main(arguments) == 2 and fault in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path)]) == 2 and "choose another" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["coco", "[1]", "{a: ", "3"])
def test_parts_that_are_none(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--part", part, "--vocabulary", "words", "--output", "cut"])
    assert "write {format: coco, annotations: a.json}" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert "flickr30k_entities" in told and "--min-count" in told
