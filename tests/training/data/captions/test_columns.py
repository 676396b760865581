"""Captions as Arrow columns against plain dicts, and images found whatever their folder and ending."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from training.data.captions import columns as caption_columns
from training.data.captions.columns import find_images, joined_captions, joined_dataset
from training.data.captions.rows import CAPTION_FEATURES


def text(values: list[str]) -> pa.ChunkedArray:
    """Text in chunks of three."""
    return pa.chunked_array([values[i : i + 3] for i in range(0, len(values), 3)], pa.large_string())


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def found(folder: Path, *names: str, numbered: bool = False) -> list[str | None]:
    """Where the images lie, relative to the folder."""
    paths = find_images(pa.array(names, pa.large_string()), folder, numbered=numbered).to_pylist()
    return [path and Path(path).relative_to(folder).as_posix() for path in paths]


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_rows_are_those_of_a_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(caption_columns, "ROWS_A_CHUNK", chunk)
    draw = random.Random(0)
    rows = [(f"p{draw.randrange(20)}", f"text {i}") for i in range(60)]
    folder = touch(tmp_path, *(f"p{i}.jpg" for i in range(0, 20, 3)))
    ids, texts = text([i for i, _ in rows]), text([t for _, t in rows])
    plain: dict[str, list[str]] = {}
    for image_id, caption in rows:
        plain.setdefault(image_id, []).append(caption)
    splits = {image_id: "train" if len(image_id) == 2 else "val" for image_id in plain}
    dataset = joined_dataset(joined_captions(ids, texts), split_of=splits)
    assert dict(zip(dataset["image_id"], dataset["captions"], strict=True)) == plain
    assert dataset["image_id"][:] == list(plain) and dataset["split"][:] == list(splits.values())
    assert dict(dataset.features) == dict(CAPTION_FEATURES) and set(dataset["image"][:]) == {None}
    with pytest.warns(UserWarning, match="images are not in .* and are left out: p"):
        joined = joined_captions(ids, texts, images=folder)
    kept = {image_id: texts for image_id, texts in plain.items() if int(image_id[1:]) % 3 == 0}
    dataset = joined_dataset(joined, split_of="test").with_format("arrow")[:].to_pylist()
    assert {row["image_id"]: row["captions"] for row in dataset} == kept and {row["split"] for row in dataset} == {
        "test"
    }
    assert [row["image"]["path"] for row in dataset] == [str(folder / f"{row['image_id']}.jpg") for row in dataset]


def test_images_are_found_by_path_name_and_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "deep/b.png", "deep/er/c", "training/12", "1.tar/d.x.webp")
    names = ("a.jpg", "a", "b", "deep/b", "b.png", "deep/er/c", "c", "training/12", "12", "d.x", "1.tar/d.x")
    places = ("a.jpg", "a.jpg", *["deep/b.png"] * 3, *["deep/er/c"] * 2, *["training/12"] * 2, *["1.tar/d.x.webp"] * 2)
    assert found(tmp_path, *names) == list(places)


def test_the_closest_name_wins_and_then_the_alphabet(tmp_path: Path) -> None:
    touch(tmp_path, "x.png", "x.jpg", "z/x", "b/y.jpg", "a/y.jpg", "y.json", "y.txt", "y.parquet")
    assert found(tmp_path, "x", "y", "z/x", "x.png") == ["x.jpg", "a/y.jpg", "z/x", "x.png"]


def test_numbers_may_have_zeros_before_them(tmp_path: Path) -> None:
    touch(tmp_path, "00000/000000000.jpg", "00000/000000012.jpg", "00001/000010000.jpg", "00007.png")
    names = ("0", "12", "10000", "7")
    places = ["00000/000000000.jpg", "00000/000000012.jpg", "00001/000010000.jpg", "00007.png"]
    assert found(tmp_path, *names, numbered=True) == places
    with pytest.raises(ValueError, match="none of the 4 images is in .*looked for 0, 12, 10000, 7"):
        found(tmp_path, *names)


def test_no_name_leads_out_of_the_folder_and_no_link_in_circles(tmp_path: Path) -> None:
    images = touch(tmp_path / "photos", "a.jpg")
    touch(tmp_path, "secret.jpg")
    (images / "again").symlink_to(images)
    with pytest.warns(UserWarning, match="2 of 3 images are not in"):
        assert found(images, "a", "../secret.jpg", str(tmp_path / "secret.jpg")) == ["a.jpg", None, None]


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no image folder .*nowhere"):
        found(tmp_path / "nowhere", "a")
    with pytest.raises(ValueError, match="holds no file"):
        found(touch(tmp_path, "a.json"), "a")


def test_only_five_missing_images_are_listed(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="9 of 10 images are not in .*: 1, 2, 3, 4, 5, [.]{3}$"):
        found(touch(tmp_path, "0"), *map(str, range(10)))
