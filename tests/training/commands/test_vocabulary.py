"""`updown build-vocabulary`: Visual Genome's names, counted, joined and cleaned."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from training import cli
from training.data.boxes.raw_names import clean_vocabulary, count_raw_names
from training.data.boxes.visual_genome import read_vocabularies

REAL = Path(__file__).parents[4] / "shared" / "data" / "official_formats" / "visual_genome"
OBJECTS = {  # image -> the names of its boxes, as versions 1.2 and 1.0 of the file write them
    1: [{"names": ["Dog "]}, {"names": ["dogs."]}, {"names": ["thing"]}],
    2: [{"names": ["dog", "animal"]}, {"name": "sneakers"}, {"names": ["tennis  shoe"]}, {"names": [""]}],
    3: [{"names": ["sneaker"]}, {"names": ["thing"]}, {"names": ["thing"]}, {"names": ["red, blue"]}],
    4: [{"names": ["cat"]}],
}
ATTRIBUTES = {
    1: [{"names": ["dog"], "attributes": ["Brown", "wet"]}, {"names": ["dogs"]}],
    2: [{"names": ["dog"], "attributes": ["brown"]}, {"names": ["sneakers"], "attributes": ["grey"]}],
    3: [{"names": ["sneaker"], "attributes": ["gray"]}],
    4: [{"names": ["cat"], "attributes": ["wet"]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Visual Genome's two files."""
    where = tmp_path / "vg"
    where.mkdir()
    for kind, content in (("objects", OBJECTS), ("attributes", ATTRIBUTES)):
        (where / f"{kind}.json").write_text(
            json.dumps([{"image_id": image, kind: entries} for image, entries in content.items()])
        )
    return where


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_names_are_counted_box_by_box(folder: Path) -> None:
    names = count_raw_names(folder)
    assert names.num_images == 4
    assert names.objects == Counter(
        {"thing": 3, "dog": 2, "dogs": 1, "animal": 1, "sneakers": 1, "tennis shoe": 1, "sneaker": 1, "cat": 1}
    )
    assert names.attributes == Counter({"brown": 2, "wet": 2, "grey": 1, "gray": 1})
    assert count_raw_names(folder, images={"4"}).objects == Counter({"cat": 1})


def test_a_vocabulary_is_written_and_read_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synonyms = written(tmp_path / "alias.txt", "sneakers,sneaker", "sneaker,tennis shoe", "dog,dogs", "cow,cows")
    dropped = written(tmp_path / "abstract.txt", "# what no detector finds", "thing  # says nothing")
    greys = written(tmp_path / "greys.txt", "gray,grey")
    output = tmp_path / "vocabulary"
    options = ["--synonyms", synonyms, "--drop", dropped, "--attribute-synonyms", greys]
    assert run("build-vocabulary", folder, *options, "--objects", 3, "--attributes", 2, "--output", output) == 0
    assert (output / "objects_vocab.txt").read_text() == "dog,dogs\nsneaker,sneakers,tennis shoe\nanimal\n"
    assert (output / "attributes_vocab.txt").read_text() == "brown\ngray,grey\n"
    objects, attributes = read_vocabularies(output)
    assert (objects.ids["tennis shoe"], attributes.ids["grey"]) == (2, 2)
    report = json.loads((output / "vocabulary.json").read_text())
    assert report["objects"]["left_out"] == [
        {"name": "thing", "boxes": 3, "why": "dropped by --drop"},
        {"name": "cat", "boxes": 1, "why": "rarer than the ones kept"},
    ]
    assert report["objects"]["kept"][1] == {"names": ["sneaker", "sneakers", "tennis shoe"], "boxes": 3}
    assert report["objects"]["share_of_names"] == round(7 / 11, 4)
    assert report["attributes"]["left_out"] == [{"name": "wet", "boxes": 2, "why": "rarer than the ones kept"}]
    shown = capsys.readouterr().out
    assert "objects: 3 classes of 8 names, 63.6% of what boxes are called; the rarest stands at 1 boxes" in shown
    assert "from 4 images" in shown


def test_classes_are_those_of_a_slow_twin() -> None:
    counts = {f"name {number}": (number * 7919) % 23 + 1 for number in range(60)}
    synonyms = [tuple(f"name {number}" for number in range(start, start + 3)) for start in range(0, 30, 2)]
    found = clean_vocabulary(counts, size=20, synonyms=synonyms, dropped={"name 40"})
    groups = [{name} for name in counts]
    for line in synonyms:
        joined = [group for group in groups if group & set(line)]
        groups = [group for group in groups if not group & set(line)] + [set().union(*joined)]
    expected = sorted(
        (-sum(counts[name] for name in group), sorted(group)) for group in groups if "name 40" not in group
    )[:20]
    assert sorted(found.counts, reverse=True) == found.counts == [-count for count, _ in expected]
    assert len(found.lines[0]) == 31 and {"name 0", "name 30"} <= set(found.lines[0])
    assert found.share == sum(found.counts) / sum(counts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objects", 9], "objects: only 8 classes are there, and 9 are wanted"),
        (["--objects", 2, "--attributes", 5], "attributes: only 4 classes are there, and 5 are wanted"),
        (["--drop", "drop.txt"], "objects: the names to drop hold 'unicorn', which no box is called"),
        (["--drop-attributes", "drop.txt"], "attributes: the names to drop hold 'unicorn'"),
        (["--split-list", "list.txt"], "holds none of the images to count"),
        (["--output", "vg"], "--output is the folder that is read"),
    ],
)
def test_mistakes_end_in_one_sentence(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "drop.txt", "unicorn")
    written(tmp_path / "list.txt", "VG_100K/99.jpg")
    assert run("build-vocabulary", "vg", "--output", "out", "--objects", 2, "--attributes", 2, *options) == 2
    assert message in capsys.readouterr().err


def test_a_broken_file_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "attributes.json").write_text('[{"image_id": 1, "attributes": "red"}]')
    assert run("build-vocabulary", folder, "--objects", 2, "--attributes", 1, "--output", tmp_path / "out") == 2
    assert "attributes.json: record 0 has no list 'attributes' of objects" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data/official_formats: the official files' first records")
def test_the_official_files_are_counted_as_they_are(tmp_path: Path) -> None:
    names = count_raw_names(REAL)
    boxes = [
        name.lower().strip()
        for record in json.loads((REAL / "objects.json").read_text())
        for entry in record["objects"]
        for name in entry["names"]
    ]
    assert names.objects.total() == len(boxes) > 0 and names.objects.keys() == {*boxes}
