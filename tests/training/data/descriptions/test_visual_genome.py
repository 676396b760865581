"""Region descriptions of Visual Genome: boxes and phrases as the files have them, DenseCap's splits, broken files."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.data.boxes.rows import ImageListing
from training.data.boxes.visual_genome import genome_splits
from training.data.descriptions.formats import load_descriptions
from training.data.descriptions.rows import description_row, sentences_of_boxes, with_crowds

REGIONS = [
    {"region_id": 1, "x": 10, "y": 20, "width": 30, "height": 40, "phrase": " a clock "},
    {"region_id": 2, "x": 0, "y": 0, "width": 200, "height": 50, "phrase": "the sky"},
    {"region_id": 3, "x": 10, "y": 20, "width": 30, "height": 40, "phrase": "it is green"},
]


def write(folder: Path, *, regions: Any = None, images: Any = None, splits: Any = None) -> dict[str, Any]:
    """The official files of images 1 to 4; what the reader takes of them."""
    sizes = {"width": 100, "height": 80}
    own = [{"id": number, "regions": REGIONS} for number in (1, 2, 3, 4)]
    (folder / "region_descriptions.json").write_text(json.dumps(own if regions is None else regions))
    own = [{"image_id": number, **sizes} for number in (1, 2, 3, 4)]
    (folder / "image_data.json").write_text(json.dumps(own if images is None else images))
    given = {"train": [1, 2], "val": [3], "test": [4]} if splits is None else splits
    (folder / "densecap_splits.json").write_text(json.dumps(given))
    return {"annotations": folder, "split_lists": folder / "densecap_splits.json"}


def load(**options: Any) -> Any:
    return load_descriptions("visual_genome", **options)


def test_boxes_and_phrases(tmp_path: Path) -> None:
    """Clipped to the image; phrases of equal boxes stand together."""
    rows = load(**write(tmp_path), split="train")
    assert rows["image_id"][:] == ["1", "2"] and rows["split"][:] == ["train", "train"]
    row = rows[0]
    assert row["boxes"][0] == pytest.approx([0.1, 0.25, 0.4, 0.75]) and row["boxes"][1] == pytest.approx(
        [0, 0, 1, 0.625]
    )
    assert sentences_of_boxes(row) == [["a clock", "it is green"], ["the sky"]]
    assert load(**write(tmp_path), split="val+test")["image_id"][:] == ["3", "4"]
    assert [one["crowd"] for one in with_crowds([row])] == [[False, False]]
    lists = tmp_path / "lists"
    lists.mkdir()
    for split, number in (("train", 3), ("val", 1), ("test", 2)):
        (lists / f"{split}.txt").write_text(f"VG_100K/{number}.jpg xml/{number}.xml\n")
    with pytest.warns(UserWarning, match="left out 1 images that are in no split list"):
        assert load(annotations=tmp_path, split_lists=lists, split="train")["image_id"][:] == ["3"]
    assert load(annotations=tmp_path, split="train").num_rows == 4


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    strange = [
        {**REGIONS[0], "phrase": " "},
        {**REGIONS[0], "phrase": None},
        {**REGIONS[0], "width": 0},
        {**REGIONS[0], "x": 500},
        REGIONS[1],
    ]
    regions = [{"id": 1, "regions": strange}, {"id": 2, "regions": strange[:2]}, {"id": 9, "regions": REGIONS}]
    with pytest.warns(UserWarning) as caught:
        rows = load(**write(tmp_path, regions=regions), split="train")
    assert rows["image_id"][:] == ["1"] and rows[0]["captions"] == ["the sky"]
    told = str(caught[0].message)
    assert "6 regions without a phrase or a usable box" in told and "1 images without a described region" in told


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"regions": [{"id": 1, "regions": REGIONS}] * 2}, "the image '1' stands in it twice"),
        ({"regions": [{"regions": []}]}, "has neither 'image_id' nor 'id'"),
        ({"regions": [{"id": 1}]}, "regions"),
        ({"regions": []}, "describes no region of the images asked for"),
        ({"splits": {"train": [1], "val": [1]}}, "the image '1' is in train and in val"),
        ({"splits": {"train": [77]}}, "none of the 4 images of .* is in the lists"),
        ({"splits": [1, 2]}, "as DenseCap has it"),
        ({"splits": {"learn": [1]}}, "unknown split 'learn'"),
        ({"images": [{"image_id": 1, "width": 100, "height": 80}] * 2}, "stands in it twice"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, files: dict[str, Any], told: str) -> None:
    given = write(tmp_path, **files)
    with pytest.raises(ValueError, match=told), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(**given, split="train")


def test_rows_of_nothing_are_refused() -> None:
    image = ImageListing("7", "", None, "train")
    for sentences, told in (([], "nothing"), ([" "], "a blank sentence")):
        with pytest.raises(ValueError, match=f"the image '7' has a box of which {told} is said: give each box one"):
            description_row(image, described=[([0, 0, 1, 1], sentences)])


def test_the_real_files_load_as_they_are() -> None:
    """One record of Visual Genome, whose image DenseCap leaves out, and DenseCap's own lists."""
    formats = shared("data/official_formats")
    rows = load(annotations=formats / "visual_genome", split="train")
    assert rows.num_rows == 1 and len(rows[0]["boxes"]) == 3 and rows[0]["caption_boxes"] == [0, 1, 2]
    assert rows[0]["boxes"][0] == pytest.approx([421 / 800, 57 / 600, 503 / 800, 196 / 600])
    splits = genome_splits(formats / "densecap" / "densecap_splits.json")
    counts = {name: list(splits.values()).count(name) for name in ("train", "val", "test")}
    assert counts == {"train": 77398, "val": 5000, "test": 5000}
    with pytest.raises(ValueError, match="is in the lists"):
        load(annotations=formats / "visual_genome", split_lists=formats / "densecap" / "densecap_splits.json")
