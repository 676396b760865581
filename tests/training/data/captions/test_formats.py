"""Caption readers: real files read as they are, hand-made ones of every format, and what users bring by mistake."""

import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from tests.shared_files import shared
from training.data.captions.formats import CAPTION_FORMATS, load_captions
from training.data.captions.rows import CAPTION_FEATURES

COLUMNS = ["image_id", "image", "captions", "split", "domain"]


def draw_images(folder: Path, names: list[str]) -> Path:
    """Images whose red value is their place in the list."""
    for red, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (red, 0, 0)).save(folder / name, format="PNG")
    return folder


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def coco(names: list[str], captions: list[tuple[int, str]], **fields: list[Any]) -> dict[str, Any]:
    """A COCO layout; `fields` are further fields of the images."""
    images = [
        {"id": 10 + i, "file_name": name, **{field: values[i] for field, values in fields.items()}}
        for i, name in enumerate(names)
    ]
    notes = [{"id": i, "image_id": 10 + owner, "caption": caption} for i, (owner, caption) in enumerate(captions)]
    return {"info": {}, "images": images, "annotations": notes}


THREE = coco(["a.png", "b.png", "c.png"], [(1, "a dog ."), (0, "a cat"), (1, " two dogs\n"), (2, "Ein Hühnerhof")])


@pytest.fixture
def coco_files(tmp_path: Path) -> dict[str, Path]:
    images = draw_images(tmp_path / "photos", ["a.png", "b.png", "c.png"])
    return {"annotations": write(tmp_path / "captions_val2017.json", THREE), "images": images}


def as_dict(rows: datasets.Dataset) -> dict[str, tuple[list[str], str]]:
    return dict(zip(rows["image_id"], zip(rows["captions"], rows["split"], strict=True), strict=True))


def test_coco_captions_are_joined_by_image(coco_files: dict[str, Path]) -> None:
    rows = load_captions("coco", **coco_files)
    assert rows.column_names == COLUMNS and dict(rows.features) == dict(CAPTION_FEATURES)
    assert rows["image_id"][:] == ["10", "11", "12"]
    assert rows["captions"][:] == [["a cat"], ["a dog .", "two dogs"], ["Ein Hühnerhof"]]
    assert set(rows["split"]) == {"val"} and set(rows["domain"]) == {""}
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 1, 2]


def test_no_image_is_opened_while_reading(coco_files: dict[str, Path]) -> None:
    for path in coco_files["images"].iterdir():
        path.write_bytes(b"no picture")
    assert len(load_captions("coco", **coco_files)) == 3


def test_without_an_image_folder_the_text_alone_is_there(coco_files: dict[str, Path]) -> None:
    rows = load_captions("coco", annotations=coco_files["annotations"])
    assert rows["image"][:] == [None, None, None] and rows["captions"][0] == ["a cat"]


@pytest.mark.parametrize(
    ("name", "file_split", "expected"),
    [
        ("captions_train2014.json", None, "train"),
        ("captions_val2014.json", None, "val"),
        ("nocaps_val_4500_captions.json", None, "val"),
        ("image_info_test2014.json", None, "test"),
        ("annotations_dev.json", None, "val"),
        ("coco_validation.json", None, "val"),
        ("the_latest_values.json", None, "train"),
        ("captions_train2014.json", "restval", "restval"),
    ],
)
def test_the_split_is_the_one_named_by_the_file(
    tmp_path: Path, name: str, file_split: str | None, expected: str
) -> None:
    rows = load_captions("coco", annotations=write(tmp_path / name, THREE), file_split=file_split)
    assert set(rows["split"]) == {expected}


def test_karpathys_split_of_an_image_comes_before_all_others(tmp_path: Path) -> None:
    content = coco(["a.jpg", "b.jpg", "c.jpg"], [(0, "a cat"), (1, "a lute"), (2, "a dog")])
    for image, fields in zip(
        content["images"], ({"karpathy_split": "test", "split": "train2017"}, {"karpathy_split": None}, {}), strict=True
    ):
        image.update(fields)
    path = write(tmp_path / "captions_val2017.json", content)
    assert load_captions("coco", annotations=path)["split"][:] == ["test", "val", "val"]
    assert load_captions("coco", annotations=path, file_split="train")["split"][:] == ["test", "train", "train"]


def test_a_test_file_without_annotations_gives_rows_without_captions(tmp_path: Path) -> None:
    content = {"images": THREE["images"]}
    rows = load_captions("coco", annotations=write(tmp_path / "image_info_test2014.json", content))
    assert rows["captions"][:] == [[], [], []]
    with pytest.raises(ValueError, match="holds no caption"):
        load_captions("coco", annotations=write(tmp_path / "captions_val2014.json", content))


def test_nocaps_keeps_its_domains(tmp_path: Path) -> None:
    content = coco(["a.jpg", "b.jpg"], [(0, "a cat"), (1, "a lute")], domain=["in-domain", "out-domain"])
    rows = load_captions("nocaps", annotations=write(tmp_path / "nocaps_val_4500_captions.json", content))
    assert rows["domain"][:] == ["in-domain", "out-domain"]


def test_vizwiz_leaves_out_what_its_evaluation_leaves_out(tmp_path: Path) -> None:
    content = coco(["a.jpg", "b.jpg"], [(0, "a tin"), (0, "spam"), (1, "Quality issues are too severe"), (0, "a can")])
    for note, rejected, precanned in zip(content["annotations"], [0, 1, 0, 0], [0, 0, 1, 0], strict=True):
        note.update(is_rejected=bool(rejected), is_precanned=bool(precanned), text_detected=True)
    path = write(tmp_path / "val.json", content)
    with pytest.warns(UserWarning, match="1 of 2 images have no caption"):
        rows = load_captions("vizwiz", annotations=path)
    assert as_dict(rows) == {"10": (["a tin", "a can"], "val")}
    everything = load_captions("vizwiz", annotations=path, dropped=())
    assert [len(captions) for captions in everything["captions"]] == [3, 1]


def karpathy(splits: list[str], **fields: Any) -> dict[str, Any]:
    return {
        "dataset": "mini",
        "images": [
            {
                "filename": f"{i}.png",
                "split": split,
                "sentences": [{"raw": f"Image {i} .", "tokens": ["photo", str(i)]}, {"tokens": ["tokens", "only"]}],
                **fields,
            }
            for i, split in enumerate(splits)
        ],
    }


def test_karpathy_splits_and_how_to_ask_for_them(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset.json", karpathy(["train", "restval", "val", "test", "train"]))
    rows = load_captions("karpathy", annotations=path)
    assert rows["split"][:] == ["train", "restval", "val", "test", "train"]
    assert rows["captions"][3] == ["Image 3 .", "tokens only"]
    assert load_captions("karpathy", annotations=path, split="train")["image_id"][:] == ["0", "4"]
    assert load_captions("karpathy", annotations=path, split="train+restval")["image_id"][:] == ["0", "1", "4"]
    with pytest.raises(ValueError, match="unknown split 'training'"):
        load_captions("karpathy", annotations=path, split="training")


def test_karpathy_coco_images_lie_in_the_folder_of_their_year_or_beside(tmp_path: Path) -> None:
    content = karpathy(["train", "val"], filepath="val2014")
    for cocoid, image in enumerate(content["images"], start=500):
        image["cocoid"] = cocoid
    path = write(tmp_path / "dataset_coco.json", content)
    draw_images(tmp_path / "coco" / "val2014", ["0.png", "1.png"])
    rows = load_captions("karpathy", annotations=path, images=tmp_path / "coco")
    assert rows["image_id"][:] == ["500", "501"] and rows[1]["image"].getpixel((0, 0))[0] == 1
    flat = draw_images(tmp_path / "flat", ["0.png", "1.png"])
    assert len(load_captions("karpathy", annotations=path, images=flat)) == 2


@pytest.mark.parametrize(("images", "num_captions"), [(5000, 25_010), (1000, 5000)])
def test_karpathy_test_splits_are_whole_without_their_images(tmp_path: Path, images: int, num_captions: int) -> None:
    """The sizes of COCO's 5k and Flickr30k's 1k: every caption in its order, though only a region store is there."""
    more = num_captions - 5 * images  # some images of COCO have six captions
    content = {
        "images": [
            {
                "filename": f"{i}.jpg",
                "cocoid": 100 + i,
                "split": "test",
                "sentences": [{"raw": f"caption {n} of image {i}"} for n in range(5 + (i < more))],
            }
            for i in range(images)
        ]
    }
    content["images"].append({"filename": "t.jpg", "split": "train", "sentences": [{"raw": "not scored"}]})
    path = write(tmp_path / "dataset.json", content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = load_captions("karpathy", annotations=path, split="test")
    assert rows["image_id"][:] == [str(100 + i) for i in range(images)]
    assert sum(map(len, rows["captions"])) == num_captions and len(rows["captions"][0]) == 5 + (more > 0)
    assert rows["captions"][images - 1] == [f"caption {n} of image {images - 1}" for n in range(5)]
    with pytest.warns(UserWarning, match=f"{images - 1} of {images} images are not in"):
        present = draw_images(tmp_path / "photos", ["0.jpg"])
        assert len(load_captions("karpathy", annotations=path, split="test", images=present)) == 1


TOKENS = "a.jpg#0\tA dog .\na.jpg#1\tTwo dogs .\nb.jpg#0\tA cat .\nc.jpg#0\tA line\u2028in two .\n\n"


def test_karpathy_sentences_without_words_are_named(tmp_path: Path) -> None:
    for sentence in ("a dog", {"sentid": 3}):
        path = write(tmp_path / "dataset.json", karpathy(["train"], sentences=[sentence]))
        with pytest.raises(ValueError, match="has neither 'raw' nor 'tokens': .*(a dog|sentid)"):
            load_captions("karpathy", annotations=path)


def test_flickr_tokens_take_the_lists_beside_them(tmp_path: Path) -> None:
    tokens = write(tmp_path / "Flickr8k.token.txt", TOKENS)
    assert load_captions("flickr_tokens", tokens=tokens)["split"][:] == ["train"] * 3
    write(tmp_path / "Flickr_8k.trainImages.txt", "b.jpg\n")
    write(tmp_path / "Flickr_8k.devImages.txt", "a.jpg\r\nc.jpg\r\n")
    rows = load_captions("flickr_tokens", tokens=tokens)
    expected = {"a": (["A dog .", "Two dogs ."], "val"), "b": (["A cat ."], "train")}
    assert as_dict(rows) == {**expected, "c": (["A line\u2028in two ."], "val")}
    with pytest.warns(UserWarning, match="1 images are in no split list"):
        rows = load_captions("flickr_tokens", tokens=tokens, split_lists={"test": write(tmp_path / "t.txt", "a\nb")})
    assert rows["image_id"][:] == ["a", "b"] and set(rows["split"]) == {"test"}


def test_flickr_tokens_without_a_tab_name_the_line(tmp_path: Path) -> None:
    tokens = write(tmp_path / "tokens.txt", "a.jpg#0\tA dog .\nb.jpg A cat .\n")
    with pytest.raises(ValueError, match="line 2: expected .* found 'b.jpg A cat .'"):
        load_captions("flickr_tokens", tokens=tokens)


def test_flickr30k_entities_lose_their_marks(tmp_path: Path) -> None:
    sentence = "[/EN#1/people A Texas A&M player] tries , [/EN#2/other/vehicles the red car] ."
    write(tmp_path / "36979.txt", f"{sentence}\nPlain .\n")
    rows = load_captions("flickr30k_entities", sentences=tmp_path)
    assert as_dict(rows) == {"36979": (["A Texas A&M player tries , the red car .", "Plain ."], "train")}
    with pytest.raises(ValueError, match="holds no <image id>.txt"):
        load_captions("flickr30k_entities", sentences=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("metadata.csv", 'file_name,caption\na.png,"a cat, asleep"\nb.png,a dog\na.png,a cat\n'),
        ("captions.txt", 'image,caption\na.png,"a cat, asleep"\nb.png,a dog\na.png,a cat\n'),
        (
            "captions.csv",
            "image_name| comment_number| comment\na.png| 0| a cat, asleep\nb.png|0|a dog\na.png|1|a cat\n",
        ),
        ("captions.tsv", "\ufefffile_name\ttext\na.png\ta cat, asleep\nb.png\ta dog\na.png\ta cat\n"),
        (
            "metadata.jsonl",
            '{"file_name": "a.png", "captions": ["a cat, asleep", "a cat"]}\n\n'
            '{"file_name": "b.png", "captions": "a dog"}',
        ),
    ],
)
def test_a_folder_of_images_with_a_table(tmp_path: Path, name: str, table: str) -> None:
    draw_images(tmp_path, ["a.png", "b.png"])
    write(tmp_path / name, table)
    rows = load_captions("folder", folder=tmp_path)
    assert as_dict(rows) == {"a.png": (["a cat, asleep", "a cat"], "train"), "b.png": (["a dog"], "train")}
    assert rows[1]["image"].getpixel((0, 0))[0] == 1


def test_a_table_may_name_ids_splits_domains_and_its_own_columns(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["x/a.png", "x/b.png"])
    lines = [
        {"foto": "x/a.png", "satz": "ein Hund", "image_id": 0, "split": "validation", "domain": "home"},
        {"foto": "x/b.png", "satz": "", "image_id": 8, "split": "test"},
    ]
    table = write(tmp_path / "mine.jsonl", "\n".join(map(json.dumps, lines)))
    options = {"folder": images, "table": table, "image_column": "foto", "caption_column": "satz"}
    rows = load_captions("folder", **options)
    assert as_dict(rows) == {"0": (["ein Hund"], "val"), "8": ([], "test")}
    assert rows["domain"][:] == ["home", ""]
    assert load_captions("folder", **options, split="test")["image_id"][:] == ["8"]
    with pytest.raises(ValueError, match="no column file_name or .*it has foto, satz, image_id, split, domain"):
        load_captions("folder", folder=images, table=table)


def test_a_local_imagefolder_or_parquet_through_the_hub_reader(tmp_path: Path) -> None:
    images = draw_images(tmp_path / "data" / "train", ["a.png", "b.png"])
    write(images / "metadata.csv", "file_name,text\na.png,a cat\nb.png,a dog\n")
    cache = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    try:
        options: dict[str, Any] = {"path": "imagefolder", "data_dir": str(tmp_path / "data")}
        rows = load_captions("hub", caption_column="text", **options)
        assert dict(rows.features) == dict(CAPTION_FEATURES)
        assert as_dict(rows) == {"train-0": (["a cat"], "train"), "train-1": (["a dog"], "train")}
        assert rows[1]["image"].getpixel((0, 0))[0] == 1
        with pytest.raises(ValueError, match="no column captions; it has image, text"):
            load_captions("hub", **options)
        with pytest.raises(ValueError, match="no image of the split 'test'; it has train"):
            load_captions("hub", caption_column="text", split="test", **options)
        doubled = datasets.concatenate_datasets([rows, rows]).remove_columns(["split", "domain"])
        doubled.to_parquet(tmp_path / "val.parquet")
        options = {"path": "parquet", "data_files": {"validation": str(tmp_path / "val.parquet")}}
        rows = load_captions("hub", image_id_column="image_id", split="val", **options)
        assert as_dict(rows) == {"train-0": (["a cat"] * 2, "val"), "train-1": (["a dog"] * 2, "val")}
        assert rows[1]["image"].getpixel((0, 0))[0] == 1
    finally:
        datasets.config.HF_DATASETS_CACHE = cache


@pytest.mark.parametrize(
    "name", ["/etc/photo.png", "../photo.png", "a/../../b.png", "C:\\\\b.png", "\\\\\\\\host\\\\b.png"]
)
def test_a_data_set_from_elsewhere_names_no_file_outside(name: str, tmp_path: Path) -> None:
    cache = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path / "cache"
    try:
        names = ["photos/a.png", "https://example.org/../b.png"]
        options: dict[str, Any] = {"path": "parquet", "data_files": {"train": str(tmp_path / "rows.parquet")}}
        rows = {"image": names, "captions": [["a cat"], ["a dog"]]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
        loaded = load_captions("hub", **options).cast_column("image", datasets.Image(decode=False))
        assert [image["path"] for image in loaded["image"]] == names
        rows = {"image": [*names, name], "captions": [["a cat"], ["a dog"], ["a man"]]}
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
        with pytest.raises(ValueError, match=r"in the column image leads out of the working folder; .*datasets.Image"):
            load_captions("hub", **options)
    finally:
        datasets.config.HF_DATASETS_CACHE = cache


def test_missing_images_are_listed_and_the_rest_used(coco_files: dict[str, Path]) -> None:
    (coco_files["images"] / "a.png").unlink()
    (coco_files["images"] / "c.png").unlink()
    with pytest.warns(UserWarning, match="2 of 3 images are not in .*: a.png, c.png"):
        rows = load_captions("coco", **coco_files)
    assert rows["image_id"][:] == ["11"] and rows[0]["image"].getpixel((0, 0))[0] == 1


def test_only_five_of_many_missing_images_are_listed(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(20)]
    path = write(tmp_path / "val.json", coco(names, [(i, "a cat") for i in range(20)]))
    with pytest.warns(UserWarning, match="19 of 20 images .*: 1.png, 2.png, 3.png, 4.png, 5.png, [.]{3}$"):
        load_captions("coco", annotations=path, images=draw_images(tmp_path / "photos", names[:1]))


def test_images_of_other_splits_need_not_be_there(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset.json", karpathy(["train", "val"]))
    images = draw_images(tmp_path / "photos", ["0.png"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_captions("karpathy", annotations=path, images=images, split="train")) == 1


def test_folders_without_the_images(coco_files: dict[str, Path], tmp_path: Path) -> None:
    path = coco_files["annotations"]
    with pytest.raises(ValueError, match="there is no image folder .*nowhere"):
        load_captions("coco", annotations=path, images=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file"):
        load_captions("coco", annotations=path, images=tmp_path / "empty")
    with pytest.raises(ValueError, match="none of the 3 images is in .*looked for a.png, b.png, c.png"):
        load_captions("coco", annotations=path, images=draw_images(tmp_path / "others", ["z.png"]))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "x/../../secret.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    images = draw_images(tmp_path / "photos", ["a.png", "../secret.png"])
    path = write(tmp_path / "val.json", coco(["a.png", name], [(0, "a cat"), (1, "a secret")]))
    with pytest.raises(ValueError, match="leads out of"):
        load_captions("coco", annotations=path, images=images)


def changed(**fields: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(THREE)), **fields}


@pytest.mark.filterwarnings("ignore:.*images it does not list:UserWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [{"id": 1,', r"val.json is not valid JSON \(line 1: .*\); is it cut short\?"),
        ([1, 2], "no list 'images', it holds list"),
        ({"questions": []}, "no list 'images', it holds the keys questions; is it the file of another format"),
        (changed(annotations=[]), "holds no caption"),
        (changed(annotations=[{"image_id": 10, "caption": "  "}]), "holds no caption"),
        (changed(annotations=[{"image_id": 10, "caption": 5}]), "caption of the image '10' is not text: .5."),
        (changed(annotations=[{"image_id": 10}]), "record 0 has no 'caption'"),
        (changed(annotations=["a cat"]), "record 0 of 'annotations' is no object: a cat"),
        (changed(images=[{"id": 10}]), "record 0 has no 'file_name'"),
        (changed(images=[{"id": 10, "file_name": 7}]), "the image name 7 is not text"),
        (changed(images=THREE["images"][:2] + THREE["images"][:1]), "the image '10' is listed twice"),
    ],
)
def test_spoiled_coco_files_give_one_clear_sentence(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_captions("coco", annotations=write(tmp_path / "val.json", content))


def test_ids_are_the_same_as_numbers_and_as_text(tmp_path: Path) -> None:
    content = changed(annotations=[{"image_id": str(10 + i), "caption": f"image {i}"} for i in range(3)])
    rows = load_captions("coco", annotations=write(tmp_path / "val.json", content))
    assert rows["captions"][:] == [["image 0"], ["image 1"], ["image 2"]]


def test_captions_of_unlisted_images_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "val.json", changed(images=THREE["images"][:2]))
    with pytest.warns(UserWarning, match="1 captions are of images it does not list"):
        assert len(load_captions("coco", annotations=path)) == 2


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read .*absent.json: No such file"):
        load_captions("coco", annotations=tmp_path / "absent.json")
    (tmp_path / "latin.json").write_bytes('{"images": "Hühner"}'.encode("latin-1"))
    with pytest.raises(ValueError, match="latin.json is not UTF-8 text"):
        load_captions("coco", annotations=tmp_path / "latin.json")


def test_tables_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load_captions("folder", folder=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no caption table; pass table="):
        load_captions("folder", folder=tmp_path)
    write(tmp_path / "captions.csv", "file_name,caption\n")
    with pytest.raises(ValueError, match="captions.csv holds no row"):
        load_captions("folder", folder=tmp_path)
    write(tmp_path / "captions.csv", 'file_name,caption\na.png,"' + 150_000 * "a dog ")
    with pytest.raises(ValueError, match="captions.csv, line 2: field larger .* quotation mark left open"):
        load_captions("folder", folder=tmp_path)
    write(tmp_path / "captions.csv", "file_name,caption\na.png\n")
    with pytest.raises(ValueError, match="record 0 has no 'caption'"):
        load_captions("folder", folder=tmp_path)
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.png"\n')
    with pytest.raises(ValueError, match="holds metadata.jsonl, captions.csv; pass table="):
        load_captions("folder", folder=tmp_path)
    with pytest.raises(ValueError, match="metadata.jsonl, line 1 is not valid JSON"):
        load_captions("folder", folder=tmp_path, table=tmp_path / "metadata.jsonl")


def test_ids_that_are_written_as_fractions(tmp_path: Path) -> None:
    """`1.0`, as a table of floats writes 1, is the image 1."""
    images = [{"id": 1.0, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    notes = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2.0, "caption": "a cat"}]
    path = write(tmp_path / "captions.json", json.dumps({"images": images, "annotations": notes}))
    rows = load_captions("coco", annotations=path)
    assert rows["image_id"] == ["1", "2"] and rows["captions"] == [["a dog"], ["a cat"]]
    image = {"filename": "COCO_1.jpg", "cocoid": 391895.0, "split": "val", "sentences": [{"raw": "a dog"}]}
    path = write(tmp_path / "dataset.json", json.dumps({"images": [image]}))
    assert load_captions("karpathy", annotations=path)["image_id"] == ["391895"]


def test_unknown_formats_and_options_list_what_there_is(coco_files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=f"unknown caption format 'csv'; choose one of {', '.join(CAPTION_FORMATS)}"):
        load_captions("csv")
    with pytest.raises(ValueError, match="'coco' does not take pictures; its options are annotations, images, split"):
        load_captions("coco", annotations=coco_files["annotations"], pictures="x")
    with pytest.raises(ValueError, match="'coco' needs annotations"):
        load_captions("coco")


def test_a_hundred_thousand_captions_take_a_moment(tmp_path: Path) -> None:
    """A sixth of COCO; a reader that opens images or looks for captions image by image takes minutes."""
    names = [f"{i:012d}.jpg" for i in range(20_000)]
    caption = "a man riding a wave on top of a surfboard in the ocean"
    path = write(tmp_path / "train.json", coco(names, [(i, caption) for i in range(len(names)) for _ in range(5)]))
    start = time.process_time()
    rows = load_captions("coco", annotations=path)
    assert time.process_time() - start < 5
    assert len(rows) == 20_000 and rows[19_999]["captions"] == [caption] * 5


def test_flickr8k_reads_the_same_from_both_of_its_files() -> None:
    folder = shared("data/flickr8k")
    rows = load_captions("karpathy", annotations=folder / "dataset_flickr8k.json", images=folder / "images")
    assert Counter(rows["split"]) == {"train": 6000, "val": 1000, "test": 1000}
    assert sum(map(len, rows["captions"])) == 40_000
    tokens = load_captions("flickr_tokens", tokens=folder / "Flickr8k.token.txt", images=folder / "images")
    assert as_dict(tokens) == as_dict(rows)
    assert rows[0]["image"].size == (224, 224)
    assert rows[0]["captions"][1] == "A girl going into a wooden building ."


def test_coco_files_read_as_they_are() -> None:
    rows = load_captions("coco", annotations=shared("data/official_formats/coco/captions_val2017.json"))
    assert len(rows) == 5000 and sum(map(len, rows["captions"])) == 25_014 and set(rows["split"]) == {"val"}
    folder = shared("data/coco_subset")
    with pytest.warns(UserWarning, match="124 of 542 images have no caption"):
        rows = load_captions("coco", annotations=folder / "captions.json", images=folder / "images")
    assert len(rows) == 418 and sum(map(len, rows["captions"])) == 2076 and rows[0]["image"].size == (343, 256)


def test_flickr30k_entities_read_as_they_are() -> None:
    folder = shared("data/official_formats/mini_with_photos")
    rows = load_captions(
        "flickr30k_entities",
        sentences=folder / "flickr30k/sentences",
        images=folder / "images/flickr30k",
        split_lists={"test": folder / "flickr30k/test.txt"},
    )
    assert sorted(rows["image_id"]) == ["1", "2", "3", "4945942737", "6338542128"]
    assert [len(captions) for captions in rows["captions"]] == [5] * 5
    assert rows[0]["captions"][1] == "A woman in black , seen from behind , sits next to a body of water ."
    assert rows[0]["image"].size == (333, 500)
