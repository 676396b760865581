"""DAQUAR: pairs of lines, the image taken out of the question, official lists and a validation split of our own."""

from collections import Counter
from pathlib import Path

import pytest

from tests.shared_files import shared
from tests.training.data.questions.vqa_files import draw_images, write
from training.data.questions.daquar import without_image
from training.data.questions.formats import load_vqa

PAIRS = """what is on the table in the image3 ?
book, scissor, papers
how many chairs are there in the image1 ?
4
what is the large object in the left side of the image3 ?
garbage_bin
"""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write(tmp_path / "train_images_list.txt", "image3\n")
    write(tmp_path / "test_images_list.txt", "image1\n")
    return write(tmp_path / "all_qa_pairs.txt", PAIRS)


def test_pairs_of_lines(pairs: Path, tmp_path: Path) -> None:
    images = draw_images(tmp_path / "photos", ["image1.png", "image3.jpg"])
    rows = load_vqa("daquar", pairs=pairs, images=images)
    assert rows["question_id"][:] == ["1", "2", "3"] and rows["image_id"][:] == ["image3", "image1", "image3"]
    assert rows["question"][:] == [
        "what is on the table?",
        "how many chairs are there?",
        "what is the large object in the left side of the image?",
    ]
    assert rows["answer"][:] == ["book, scissor, papers", "4", "garbage_bin"] and rows["answers"][1] == ["4"]
    assert rows["split"][:] == ["train", "test", "train"]
    assert [image.getpixel((0, 0))[0] for image in rows["image"]] == [1, 0, 1]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("what is the largest brown objects in this image3 ?", "what is the largest brown objects?"),
        ("how many blue towels are there in image688 ?", "how many blue towels are there?"),
        ("how many chairs are there on the image888 ?", "how many chairs are there on the image?"),
        ("what is to the left of the image168 in the image168 ?", "what is to the left of the image?"),
        ("what is dominant color of the image383?", "what is dominant color of the image?"),
        ("what is on the table image108 ?", "what is on the table image?"),
        ("what is in the 2 boxes in the image 12 ? ", "what is in the 2 boxes?"),
    ],
)
def test_the_image_leaves_the_question(question: str, expected: str) -> None:
    assert without_image(question) == expected


def test_the_last_image_a_question_names_is_meant(pairs: Path) -> None:
    write(pairs, "what is in image1 as in the image3 ?\ndoor\n")
    row = load_vqa("daquar", pairs=pairs)[0]
    assert row["image_id"] == "image3" and row["question"] == "what is in image as?"


def test_splits_without_lists_and_with_lists_elsewhere(pairs: Path, tmp_path: Path) -> None:
    alone = write(tmp_path / "elsewhere" / "qa.894.raw.test.txt", PAIRS)
    assert set(load_vqa("daquar", pairs=alone)["split"]) == {"test"}
    listed = load_vqa("daquar", pairs=alone, train_list=tmp_path / "test_images_list.txt", test_list=write(
        tmp_path / "mine.txt", "image3.jpg\n"
    ))  # fmt: skip
    assert listed["split"][:] == ["test", "train", "test"]
    with pytest.raises(ValueError, match="the image 'image3' is in the list of train too"):
        load_vqa("daquar", pairs=pairs, test_list=tmp_path / "train_images_list.txt")
    with pytest.warns(UserWarning, match="2 questions are on images in no list and are left out: 1, 3$"):
        write(tmp_path / "train_images_list.txt", "image77\n")
        assert load_vqa("daquar", pairs=pairs)["question_id"][:] == ["2"]


def test_the_held_out_images_are_the_same_whatever_the_order(tmp_path: Path) -> None:
    lines = [f"what is number {i} in the image{1 + i % 50} ?\nanswer{i}" for i in range(150)]
    val = {}
    for order, texts in (("forward", lines), ("backward", lines[::-1])):
        path = write(tmp_path / order / "train.txt", "\n".join(texts) + "\n")
        rows = load_vqa("daquar", pairs=path, val_share=0.2)
        val[order] = {image for image, split in zip(rows["image_id"], rows["split"], strict=True) if split == "val"}
        assert Counter(rows["split"]) == {"train": 120, "val": 30}
        assert load_vqa("daquar", pairs=path, val_share=0.2, split="val")["split"][:] == ["val"] * 30
    assert val["forward"] == val["backward"] and len(val["forward"]) == 10
    larger = load_vqa("daquar", pairs=tmp_path / "forward" / "train.txt", val_share=0.4, split="val")
    assert val["forward"] < set(larger["image_id"]), "a larger share holds a smaller one"


def test_daquar_with_faults(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"all_qa_pairs.txt has 5 lines, which are no pairs .* is it cut short\?"):
        load_vqa("daquar", pairs=write(pairs, PAIRS.rpartition("garbage")[0]))
    with pytest.warns(UserWarning, match="1 questions name no image and are left out: 1$"):
        assert len(load_vqa("daquar", pairs=write(pairs, PAIRS.replace("image3 ?\nbook", "image ?\nbook")))) == 2
    with pytest.warns(UserWarning, match="1 questions are empty and left out: 2$"):
        write(pairs, PAIRS.replace("how many chairs are there", " "))
        assert load_vqa("daquar", pairs=pairs)["question_id"][:] == ["1", "3"]
    with pytest.warns(UserWarning, match="1 questions have a blank line for an answer and are left out: 2$"):
        assert load_vqa("daquar", pairs=write(pairs, PAIRS.replace("\n4\n", "\n \n")))["question_id"][:] == ["1", "3"]
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"val_share is {share}, it must be at least 0 and below 1"):
            load_vqa("daquar", pairs=pairs, val_share=share)


def test_daquar_loads_as_it_is() -> None:
    folder = shared("data/daquar")
    rows = load_vqa("daquar", pairs=folder / "all_qa_pairs.txt", images=folder / "images", val_share=0.1)
    assert Counter(rows["split"]) == {"train": 6131, "val": 664, "test": 5673} and len(set(rows["image_id"])) == 1447
    assert not any("image1" in question or not question.endswith("?") for question in rows["question"])
    assert rows[0]["image_id"] == "image1" and rows[0]["answer"] == "garbage_bin"
    assert sum("," in answer for answer in rows["answer"]) == 1243
