"""Region phrases of Visual Genome as captions: splits, draws, and none of the COCO images that are scored on."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.captions import visual_genome
from training.data.captions.formats import load_captions
from training.data.captions.rows import CAPTION_FEATURES
from training.data.captions.visual_genome import read_genome_regions
from training.data.splits import NoSuchSplitError

PHRASES = {
    "1": ["a clock is green", "shade on the street ", "a man in sneakers"],
    "2": ["a red car"],
    "61512": ["grass"] * 2 + [f"phrase {i}" for i in range(8)],
    "713542": ["a dog on a couch", "  "],
}
COCO_IDS = {"1": None, "2": 11169, "61512": 391895, "713542": 204311}


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def regions_file(path: Path, phrases: dict[str, list[Any]] = PHRASES) -> Path:
    return write(
        path,
        [
            {"id": int(i), "regions": [{"region_id": n, "phrase": p, "x": 1} for n, p in enumerate(texts)]}
            for i, texts in phrases.items()
        ],
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    images = [{"image_id": int(i), "coco_id": coco, "flickr_id": None} for i, coco in COCO_IDS.items()]
    return {
        "region_descriptions": regions_file(tmp_path / "region_descriptions.json"),
        "image_data": write(tmp_path / "image_data.json", images),
    }


@pytest.mark.filterwarnings("ignore:.*1 phrases are blank:UserWarning")
def test_every_phrase_is_a_caption_in_its_order(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (1, 1000):
        monkeypatch.setattr(visual_genome, "IMAGES_A_CHUNK", chunk)
        rows = load_captions("visual_genome_regions", region_descriptions=files["region_descriptions"])
        assert dict(rows.features) == dict(CAPTION_FEATURES) and rows["image_id"][:] == list(PHRASES)
        assert rows["captions"][:] == [[p.strip() for p in texts if p.strip()] for texts in PHRASES.values()]
        assert set(rows["split"]) == {"train"} and set(rows["image"]) == {None}


@pytest.mark.filterwarnings("ignore:.*1 phrases are blank:UserWarning")
def test_some_phrases_of_an_image_are_drawn_by_the_seed(files: dict[str, Any], tmp_path: Path) -> None:
    path = files["region_descriptions"]
    drawn = [read_genome_regions(path, per_image=3, seed=seed)["captions"][2] for seed in range(20)]
    assert all(len(texts) == 3 and texts == sorted(texts, key=PHRASES["61512"].index) for texts in drawn)
    assert len({tuple(texts) for texts in drawn}) > 10 and {text for texts in drawn for text in texts} == set(
        PHRASES["61512"]
    )
    assert read_genome_regions(path, per_image=3, seed=4)["captions"][2] == drawn[4]
    alone = regions_file(tmp_path / "alone.json", {"61512": PHRASES["61512"]})
    assert read_genome_regions(alone, per_image=3, seed=4)["captions"][0] == drawn[4]
    assert read_genome_regions(path, per_image=3)["captions"][1] == ["a red car"]
    with pytest.raises(ValueError, match="per_image is 0"):
        read_genome_regions(path, per_image=0)


@pytest.mark.filterwarnings("ignore:.*1 phrases are blank:UserWarning")
def test_images_that_coco_scores_on_are_left_out(files: dict[str, Any], tmp_path: Path) -> None:
    splits = {11169: "val", 391895: "restval", 204311: "test"}
    karpathy = {"images": [{"cocoid": i, "split": word, "filename": "x"} for i, word in splits.items()]}
    lists = {
        "dataset_coco.json": (karpathy, ["1", "61512"]),
        "captions_val2017.json": ({"images": [{"id": 391895}]}, ["1", "2", "713542"]),
        "karpathy_val_images.txt": ("val2014/COCO_val2014_000000011169.jpg 11169\n", ["1", "61512", "713542"]),
        "ids.txt": ("11169\n000000204311.jpg\n", ["1", "61512"]),
    }
    for name, (content, left) in lists.items():
        assert read_genome_regions(**files, exclude=write(tmp_path / name, content))["image_id"][:] == left, name
    both = [tmp_path / "captions_val2017.json", tmp_path / "ids.txt"]
    assert read_genome_regions(**files, exclude=both)["image_id"][:] == ["1"]
    with pytest.raises(ValueError, match="give image_data=image_data.json"):
        read_genome_regions(files["region_descriptions"], exclude=both)
    with pytest.raises(ValueError, match="line 2: expected a COCO file name or id first, found 'dog.jpg'"):
        read_genome_regions(**files, exclude=write(tmp_path / "wrong.txt", "11169\ndog.jpg\n"))
    with pytest.raises(ValueError, match="names no COCO image"):
        read_genome_regions(**files, exclude=write(tmp_path / "none.txt", "\n"))
    with pytest.raises(ValueError, match="an image has neither 'cocoid' nor 'id'"):
        read_genome_regions(**files, exclude=write(tmp_path / "flickr.json", {"images": [{"filename": "a.jpg"}]}))
    files["image_data"] = write(tmp_path / "no_coco.json", [{"image_id": 1}])
    with pytest.raises(ValueError, match="no_coco.json gives no image a 'coco_id'"):
        read_genome_regions(**files, exclude=both)


@pytest.mark.filterwarnings("ignore:.*phrases are blank:UserWarning")
def test_splits_are_those_of_the_lists(files: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "VG_100K/1.jpg xml/1.xml\nVG_100K_2/713542.jpg xml/713542.xml\n")
    write(tmp_path / "val.txt", "VG_100K/2.jpg xml/2.xml\n")
    write(tmp_path / "test.txt", "VG_100K/9.jpg xml/9.xml\n")
    path = files["region_descriptions"]
    rows = read_genome_regions(path, split_lists=tmp_path)
    assert dict(zip(rows["image_id"], rows["split"], strict=True)) == {"1": "train", "2": "val", "713542": "train"}
    assert read_genome_regions(path, split_lists=tmp_path, split="val")["image_id"][:] == ["2"]
    lists = {"train": tmp_path / "train.txt", "dev": tmp_path / "val.txt"}
    assert read_genome_regions(path, split_lists=lists, split="train+val")["split"][:] == ["train", "val", "train"]
    with pytest.raises(NoSuchSplitError, match="has no image of the split 'test'; it has train, val"):
        read_genome_regions(path, split_lists=lists, split="test")
    with pytest.raises(NoSuchSplitError, match="it has train"):
        read_genome_regions(path, split="val")
    with pytest.raises(ValueError, match="holds no phrase of the images asked for"):
        read_genome_regions(path, split_lists=tmp_path, split="test")
    with pytest.raises(ValueError, match="the image '1' is in the list of train too"):
        read_genome_regions(path, split_lists={**lists, "test": tmp_path / "train.txt"})


@pytest.mark.filterwarnings("ignore:.*phrases are blank:UserWarning")
def test_images_lie_in_either_folder(files: dict[str, Any], tmp_path: Path) -> None:
    for red, name in enumerate(("VG_100K/2.jpg", "VG_100K_2/1.jpg", "VG_100K_2/61512.jpg")):
        (tmp_path / "vg" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (80 * red, 0, 0)).save(tmp_path / "vg" / name, format="PNG")
    with pytest.warns(UserWarning, match="1 of 4 images are not in .*: 713542"):
        rows = read_genome_regions(files["region_descriptions"], images=tmp_path / "vg")
    assert rows["image_id"][:] == ["1", "2", "61512"]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [80, 0, 160]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": 1, "regions": [{"phrase": 5}]}], "a region of the image 1 has no 'phrase' of text: .*5"),
        ([{"id": 1, "regions": [{}]}], "a region of the image 1 has no 'phrase'"),
        ([{"regions": []}], "record 0 has neither 'image_id' nor 'id'"),
        ([{"id": 1, "qas": []}], "the image 1 has no list 'regions'"),
        ([{"id": 1, "regions": [{"phrase": "a"}]}] * 2, "the image '1' stands in it twice"),
        ([], "holds no phrase"),
        ('[{"id": 1, "regions": [{"phra', r"is not valid JSON \(line 1"),
        ({"images": []}, "holds an object where a list is expected"),
    ],
)
def test_spoiled_files_give_one_clear_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_genome_regions(write(tmp_path / "region_descriptions.json", content))


def test_blank_phrases_are_counted(tmp_path: Path) -> None:
    path = regions_file(tmp_path / "r.json", {"1": ["a", " ", ""], "2": [], "3": ["b"]})
    with pytest.warns(UserWarning, match="2 phrases are blank and 1 images have none, they are left out"):
        assert read_genome_regions(path)["captions"][:] == [["a"], ["b"]]


def test_real_records_and_lists() -> None:
    folder = shared("data/official_formats/visual_genome")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = read_genome_regions(folder / "region_descriptions.json")
        assert rows["image_id"][:] == ["1"] and [len(texts) for texts in rows["captions"]] == [3]
        lists = shared("data/official_formats/visual_genome_splits")
        rows = read_genome_regions(folder / "region_descriptions.json", split_lists=lists)
        assert rows["split"][:] == ["train"]
    scored = [shared(f"data/official_formats/karpathy_coco/karpathy_{word}_images.txt") for word in ("val", "test")]
    assert len(visual_genome._coco_ids(scored)) == 10_000
