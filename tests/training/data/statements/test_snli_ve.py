"""SNLI-VE's JSONL, e-SNLI-VE's CSV and SNLI's own as they are; real files where they are at hand."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.shared_files import shared
from training.data.statements.snli_ve import read_esnlive, read_snli_ve

LINE = {"Flickr30K_ID": "22", "gold_label": "contradiction", "pairID": "22.jpg#2r1c", "sentence2": "A dog sleeps."}


def written(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_official_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "snli_ve_dev.jsonl", LINE, LINE | {"pairID": "22.jpg#2r1n", "gold_label": "neutral"})
    rows = read_snli_ve(path)
    first = {name: rows[0][name] for name in ("statement_id", "image_ids", "statement", "label", "split")}
    assert first == {
        "statement_id": "22.jpg#2r1c",
        "image_ids": ["22"],
        "statement": "A dog sleeps.",
        "label": "contradiction",
        "split": "val",
    }
    assert read_snli_ve(path, file_split="test")["split"][:] == ["test"] * 2


def test_snli_names_images_by_captions_and_one_file_may_hold_several_splits(tmp_path: Path) -> None:
    path = written(
        tmp_path / "snli.jsonl",
        {"captionID": "22.jpg#3", "gold_label": "neutral", "sentence1": "x", "sentence2": "A dog.", "fold": "train"},
        {"image": "7_a.jpg", "label": "entailment", "hypothesis": "A cat.", "fold": "dev"},
    )
    rows = read_snli_ve(path, split_column="fold")
    assert rows["image_ids"][:] == [["22"], ["7_a"]] and rows["split"][:] == ["train", "val"]
    assert read_snli_ve(path, split_column="fold", split="val")["statement"][:] == ["A cat."]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"sentence2": None}, "record 2 has none of sentence2, hypothesis"),
        ({"Flickr30K_ID": ""}, "record 2 has none of Flickr30K_ID, Flickr30kID, image, captionID"),
        ({"gold_label": None}, "record 2 has none of gold_label, label"),
    ],
)
def test_a_line_without_what_it_needs_is_named(tmp_path: Path, line: dict, told: str) -> None:
    path = written(tmp_path / "snli_ve_test.jsonl", LINE, LINE | line)
    with pytest.raises(ValueError, match=told):
        read_snli_ve(path)
    with pytest.raises(ValueError, match="record 1 has none of fold"):
        read_snli_ve(path, split_column="fold")


def test_real_files_load_as_they_are() -> None:
    rows = read_esnlive(shared("data/snli_ve/esnlive_dev.csv"))
    assert len(rows) == 14339 and {*rows["split"]} == {"val"}
    assert Counter(rows["label"]) == {"contradiction": 5643, "entailment": 5254, "neutral": 3442}
    few = shared("data/official_formats/mini_with_photos/visual_entailment/sample_pairs.jsonl")
    sample = read_snli_ve(few, images=few.parents[1] / "images" / "visual_entailment")
    assert {len(ids) for ids in sample["image_ids"]} == {1} and sample[0]["images"][0].width > 100


def test_the_rows_on_our_images() -> None:
    """As the recipe `entailment/snli_ve` reads them."""
    path = shared("data/snli_ve/flickr8k_subset.jsonl")
    rows = read_snli_ve(path, split_column="flickr8k_split", images=shared("data/flickr8k/images"))
    assert Counter(rows["split"]) == {"train": 5725, "val": 726, "test": 875}
    assert len({ids[0] for ids in rows["image_ids"]}) == 514
