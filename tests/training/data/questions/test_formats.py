"""The door to all VQA formats, questions made of captions and of scenes, and mixtures of data sets."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from tests.training.data.questions.vqa_files import draw_images, gqa_question, vqa_annotations, vqa_questions, write
from training.data.questions.formats import VQA_FORMATS, load_vqa
from training.data.questions.rows import VQA_FEATURES
from training.data.splits import NoSuchSplitError


@pytest.fixture
def parts(tmp_path: Path) -> list[dict[str, Any]]:
    """VQA v2 (val), GQA (train) and a table whose ids and images are called as those of VQA v2."""
    table = "question_id,image_id,image,question,answer,split\n1000,1,one.png,Who?,Ada,train\n2,2,two.png,Why?,so,val\n"
    return [
        {
            "format": "vqa_v2",
            "questions": write(tmp_path / "val2014_questions.json", vqa_questions()),
            "annotations": write(tmp_path / "val2014_annotations.json", vqa_annotations()),
        },
        {
            "format": "gqa",
            "questions": write(
                tmp_path / "train_balanced_questions.json",
                {str(i): gqa_question(f"{i}?", "cat", imageId="1") for i in (1000, 7, 8, 9)},
            ),
        },
        {"format": "table", "table": write(tmp_path / "mine.csv", table)},
    ]


def test_unknown_formats_and_options_list_what_there_is() -> None:
    with pytest.raises(ValueError, match=f"unknown VQA format 'vqa'; choose one of {', '.join(VQA_FORMATS)}"):
        load_vqa("vqa")
    with pytest.raises(ValueError, match="VQA format 'gqa' does not take annotations; its options are questions, choi"):
        load_vqa("gqa", questions="q.json", annotations="a.json")
    with pytest.raises(ValueError, match="VQA format 'daquar' needs pairs"):
        load_vqa("daquar")


@pytest.mark.parametrize("format", VQA_FORMATS)
def test_every_format_takes_a_split_and_images(format: str) -> None:
    reader = VQA_FORMATS[format]
    options = inspect.signature(reader).parameters
    assert options["split"].default is None and options["images"].default is None
    text = inspect.getdoc(getattr(reader, "func", reader)) or ""
    assert text.endswith(".") or ":" in text, "the options are documented"


def test_a_mixture_is_its_parts_in_their_order(parts: list[dict[str, Any]]) -> None:
    rows = load_vqa("mixture", parts=parts)
    assert dict(rows.features) == dict(VQA_FEATURES) and rows.column_names == list(VQA_FEATURES)
    assert rows["question_id"][:] == [
        *("1000", "1001", "2000"),
        *("gqa-1000", "gqa-7", "gqa-8", "gqa-9"),
        *("table-1000", "table-2"),
    ]
    assert rows["image_id"][:] == ["1", "1", "2", *["visual_genome-1"] * 4, "table-1", "table-2"]
    assert rows["split"][:] == ["val"] * 3 + ["train"] * 5 + ["val"] and rows["answer"][3] == "cat"


def test_image_ids_do_not_depend_on_the_split_and_may_be_shared(parts: list[dict[str, Any]]) -> None:
    val = load_vqa("mixture", parts=parts, split="val")
    assert val["question_id"][:] == ["1000", "1001", "2000", "2"] and val["image_id"][:] == ["1", "1", "2", "table-2"]
    shared_ids = [{**part, "image_ids": "mine"} for part in parts]
    assert load_vqa("mixture", parts=shared_ids, split="val")["image_id"][:] == ["1", "1", "2", "2"]
    named = [*parts[:2], {**parts[2], "image_ids": "coco", "prefix": "my"}]
    rows = load_vqa("mixture", parts=named)
    assert rows["question_id"][-2:] == ["my-1000", "my-2"] and rows["image_id"][-2:] == ["1", "2"]
    twice = load_vqa("mixture", parts=[parts[0]] * 3)
    assert twice["question_id"][::3] == ["1000", "vqa_v2-1000", "vqa_v23-1000"] and set(twice["image_id"]) == {"1", "2"}


def test_parts_take_part_in_their_splits(parts: list[dict[str, Any]]) -> None:
    assert set(load_vqa("mixture", parts=[{**parts[2], "splits": "train+test"}])["split"]) == {"train"}
    parts[2]["splits"] = ["train"]
    assert load_vqa("mixture", parts=parts, split="val")["question_id"][:] == ["1000", "1001", "2000"]
    assert load_vqa("mixture", parts=parts)["split"][:] == ["val"] * 3 + ["train"] * 5
    assert set(load_vqa("mixture", parts=parts, split="train+val")["split"]) == {"train", "val"}
    with pytest.raises(NoSuchSplitError, match="no part of the mixture has the split 'test'"):
        load_vqa("mixture", parts=parts, split="test")


def test_a_share_and_a_limit_are_drawn_by_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "train.json", {str(i): gqa_question(f"{i}?", "cat") for i in range(100)})
    drawn = {}
    for seed in (0, 1):
        part = {"format": "gqa", "questions": path, "share": 0.3}
        drawn[seed] = load_vqa("mixture", parts=[part], seed=seed)["question_id"][:]
        assert drawn[seed] == load_vqa("mixture", parts=[part], seed=seed)["question_id"][:]
        assert len(drawn[seed]) == 30 and drawn[seed] == sorted(drawn[seed], key=int)
        assert len(load_vqa("mixture", parts=[{**part, "limit": 7}], seed=seed)) == 7
        assert len(load_vqa("mixture", parts=[{**part, "limit": 1000}], seed=seed)) == 30
    assert drawn[0] != drawn[1]
    assert len(load_vqa("mixture", parts=[{"format": "gqa", "questions": path, "limit": 1000}])) == 100


def test_images_of_a_mixture(parts: list[dict[str, Any]], tmp_path: Path) -> None:
    coco = draw_images(tmp_path / "coco", [f"COCO_val2014_{i:012d}.jpg" for i in (1, 2)])
    mine = draw_images(tmp_path / "mine", ["unused.png", "unused2.png", "one.png", "two.png"])
    rows = load_vqa("mixture", parts=[parts[0], {**parts[2], "images": mine}], images=coco)
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 0}, r"part 2 of the mixture \(gqa\): share is 0 and limit 1; a share lies in 0..1"),
        ({"share": "half"}, "share is half"),
        ({"limit": 0}, "limit 0"),
        ({"limit": 2.5}, "limit 2.5"),
        ({"split": "train"}, r"name its splits as splits: \[train\]"),
        ({"splits": ["trian"]}, "unknown split 'trian'"),
        ({"format": "gaq"}, r"part 2 of the mixture \(gaq\): unknown VQA format 'gaq'"),
        ({"question": "q"}, "'gqa' does not take question"),
        ({"questions": "absent.json"}, r"part 2 of the mixture \(gqa\): cannot read absent.json"),
    ],
)
def test_faults_of_a_part_name_it(parts: list[dict[str, Any]], change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_vqa("mixture", parts=[parts[0], {**parts[1], **change}, parts[2]])


@pytest.mark.parametrize("wrong", [[], {}, "gqa", ["gqa"], [{"questions": "q.json"}], None])
def test_parts_that_are_none(wrong: Any) -> None:
    with pytest.raises(ValueError, match="parts of a mixture is a list of data sets"):
        load_vqa("mixture", parts=wrong)


def caption_table(tmp_path: Path) -> dict[str, Any]:
    images = draw_images(tmp_path / "captioned", [f"{i}.png" for i in range(12)])
    colours, names = ("red", "blue", "black"), ("dog", "cat", "horse", "car")
    lines = [
        {"file_name": f"{i}.png", "captions": [f"a {colours[i % 3]} {names[i % 4]} in the snow"] * 5, "split": "train"}
        for i in range(12)
    ]
    write(images / "captions.jsonl", "\n".join(map(json.dumps, lines)))
    return {"format": "folder", "folder": images}


def test_questions_made_of_captions(tmp_path: Path) -> None:
    captions = caption_table(tmp_path)
    rows = load_vqa("captions", captions=captions, split="train", per_image=4)
    assert rows.column_names == list(VQA_FEATURES) and set(rows["split"]) == {"train"}
    assert len(set(rows["question_id"])) == len(rows) > 12
    reds = [int(name.removesuffix(".png")) for name in rows["image_id"]]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == reds, "every question has its own image"
    assert all(answer in answers for answer, answers in zip(rows["answer"], rows["answers"], strict=True))
    again = load_vqa("captions", captions=captions, split="train", per_image=4)
    assert rows["question"][:] == again["question"][:]
    mixed = load_vqa("mixture", parts=[{"format": "captions", "captions": captions}], split="train")
    assert set(mixed["image_id"]) <= {f"{i}.png" for i in range(12)}


def test_questions_on_real_captions() -> None:
    folder = shared("data/flickr8k")
    captions = {"format": "karpathy", "annotations": folder / "dataset_flickr8k.json", "images": folder / "images"}
    rows = load_vqa("captions", captions=captions, split="val", per_image=3)
    assert len(set(rows["image_id"])) > 900 and len(rows) > 2000 and rows[0]["image"].size == (224, 224)
    assert set(rows["answer_type"]) == {"yes/no", "number", "other"}


def test_captions_of_which_no_question_can_be_made(tmp_path: Path) -> None:
    table = write(tmp_path / "captions.csv", "file_name,caption\n1.jpg,zzz\n")
    captions = {"format": "folder", "folder": tmp_path, "table": table}
    draw_images(tmp_path, ["1.jpg"])
    with pytest.raises(ValueError, match="no question can be made of the captions of these 1 images"):
        load_vqa("captions", captions=captions)
