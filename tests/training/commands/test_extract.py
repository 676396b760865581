"""`updown extract`: what counts as images, which regions are kept, and several processes without a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from modeling_updown import UpDownDetector, UpDownImageProcessor
from tests import tiny
from tests.training.tiny_run import forget_accelerators, in_processes
from training import cli
from training.commands.extract import image_rows, listed_images
from training.regions.extract import source_fingerprint
from training.regions.store import RegionStore


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny detector."""
    folder = tmp_path_factory.mktemp("detector")
    tiny.tiny_pyramid_detector().save_pretrained(folder)
    UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96}).save_pretrained(folder)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three images and one in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "c.png", "more/d.jpg")):
        tiny.tiny_image(number, width=60 + 10 * number).save(folder / name)
    (folder / "notes.md").write_text("no image")
    return folder


def run(*arguments: Any) -> int:
    return cli.main(["extract", *(str(argument) for argument in arguments)])


def named(rows: Dataset) -> dict[str, str]:
    """File names of the images by their ids."""
    images = rows["image"][:]
    return {i: Path(image["path"]).name for i, image in zip(rows["image_id"], images, strict=True)}


# -- images ----------------------------------------------------------------------------------------------------------


def test_folders_and_files_are_images_by_their_names(images: Path) -> None:
    assert named(image_rows([str(images)])) == {name: name for name in ("a.jpg", "b.png", "c.png")}
    assert named(image_rows([str(images / "b.png"), str(images / "more")])) == {"b.png": "b.png", "d.jpg": "d.jpg"}


def test_a_list_names_images_beside_it(images: Path) -> None:
    (images / "some.txt").write_text(f"c.png\n\n  more/d.jpg \n{images / 'a.jpg'}\n")
    rows = image_rows([str(images / "some.txt")])
    assert rows["image_id"][:] == ["c.png", "d.jpg", "a.jpg"]
    assert [Path(image["path"]).is_file() for image in rows["image"]] == [True] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'file_name,image_id,caption\na.jpg,7,"one, two"\nmore/d.jpg,0,x\nb.png,,x\n'),
        ("t.tsv", "image_id\tfile_name\n7\ta.jpg\n0\tmore/d.jpg\n\tb.png\n"),
        (
            "t.jsonl",
            '{"file_name": "a.jpg", "image_id": 7}\n{"file_name": "more/d.jpg", "image_id": 0}\n{"file_name": "b.png"}',
        ),
    ],
)
def test_a_table_may_give_ids(images: Path, name: str, text: str) -> None:
    (images / name).write_text(text)
    expected = [("7", images / "a.jpg"), ("0", images / "more" / "d.jpg"), ("b.png", images / "b.png")]
    assert [(i, Path(path)) for i, path in listed_images(images / name)] == expected
    assert image_rows([str(images / name)])["image_id"][:] == ["7", "0", "b.png"]


@pytest.mark.parametrize("name", ["file_name", "image", "image_name", "filename", "photo", "path"])
def test_a_table_may_call_its_images_as_usual_and_repeat_them(images: Path, name: str) -> None:
    rows = f"{name},caption\na.jpg,one\nmore/d.jpg,two\na.jpg,three\n"
    (images / "t.csv").write_text(rows)
    assert listed_images(images / "t.csv") == [("a.jpg", str(images / "a.jpg")), ("d.jpg", str(images / "more/d.jpg"))]


def test_saved_data_sets_bring_their_images(images: Path, tmp_path: Path) -> None:
    paths = [str(images / name) for name in ("a.jpg", "more/d.jpg")]
    features = Features({"image": ImageFeature(), "image_id": Value("int64"), "text": Value("string")})
    rows = Dataset.from_dict({"image": paths, "image_id": [4, 9], "text": ["x", "y"]}, features=features)
    rows.save_to_disk(tmp_path / "numbered")
    rows.remove_columns(["image_id"]).save_to_disk(tmp_path / "plain")
    numbered, plain = (image_rows([str(tmp_path / name)]) for name in ("numbered", "plain"))
    assert numbered["image_id"][:] == ["4", "9"] and plain["image_id"][:] == ["0", "1"]
    assert set(numbered.column_names) == {"image_id", "image"} and numbered[0]["image"]["bytes"]
    together = image_rows([str(tmp_path / "numbered"), str(images / "b.png")])
    assert together["image_id"][:] == ["4", "9", "b.png"]
    assert together[2]["image"] == {"bytes": None, "path": str(images / "b.png")}


def test_images_that_cannot_be_told_apart_or_found(images: Path, tmp_path: Path) -> None:
    (images / "more" / "a.jpg").write_bytes((images / "a.jpg").read_bytes())
    cure = "several images have the id a.jpg: extract the folders one by one, or give a table with image_id"
    with pytest.raises(ValueError, match=cure):
        image_rows([str(images), str(images / "more")])
    (images / "t.csv").write_text("file_name,image_id\na.jpg,1\nmore/a.jpg,2\n")
    assert len(image_rows([str(images / "t.csv")])) == 2
    (images / "t.csv").write_text("file_name,image_id\na.jpg,1\nb.png,1\n")
    with pytest.raises(ValueError, match="several images have the id 1"):
        image_rows([str(images / "t.csv")])
    (images / "t.csv").write_text("foto\na.jpg\n")
    with pytest.raises(ValueError, match="t.csv has no column file_name or image or .* or path; it has foto"):
        image_rows([str(images / "t.csv")])
    (images / "t.csv").write_text("image_id,path\n1,a.jpg\n2\n")
    with pytest.raises(ValueError, match="t.csv: record 1 has no 'path'"):
        image_rows([str(images / "t.csv")])
    (images / "none.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="none.txt lists no image"):
        image_rows([str(images / "none.txt")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        image_rows([str(tmp_path / "empty")])
    texts = Dataset.from_dict({"text": ["x"]})
    texts.save_to_disk(tmp_path / "texts")
    with pytest.raises(ValueError, match="texts has no column image; it has text"):
        image_rows([str(tmp_path / "texts")])
    DatasetDict({"train": texts}).save_to_disk(tmp_path / "splits")
    with pytest.raises(ValueError, match="splits holds the splits of a data set: name one of the folders in it"):
        image_rows([str(tmp_path / "splits")])


# -- the command -----------------------------------------------------------------------------------------------------


def test_a_detectors_regions_are_extracted_from_a_list(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "c.png").write_bytes(b"no image")
    (images / "some.txt").write_text("a.jpg\nc.png\nmore/d.jpg\nb.png\n")
    store = tmp_path / "regions"
    assert run(images / "some.txt", "--source", model, "--output", store, "--batch-size", 2) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{store}: the regions of 3 images\n"
    assert "1 images could not be read and were skipped:\n  c.png: " in shown.err
    found = RegionStore(store)
    assert sorted(found.image_ids) == ["a.jpg", "b.png", "d.jpg"] and found.feature_width == 128
    assert found["d.jpg"]["image_size"].tolist() == [60, 90]
    tiny.tiny_image(8).save(images / "c.png")
    assert run(images / "some.txt", "--source", model, "--output", store) == 0
    assert len(RegionStore(store)) == 4


def test_another_folder_with_the_same_names_is_refused(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for number, name in enumerate(("a.jpg", "b.png", "new.png")):
        tiny.tiny_image(20 + number).save(other / name)
    (other / "b.png").write_bytes((images / "b.png").read_bytes())  # a copy is the same image
    store = tmp_path / "regions"
    assert run(images, "--source", model, "--output", store) == 0
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    capsys.readouterr()
    assert run(other, "--source", model, "--output", store) == 2
    message = (
        f"1 of 3 images are not those that the store {store} holds under the same ids (a.jpg): give another folder"
    )
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before
    (other / "a.jpg").unlink()
    assert run(other, "--source", model, "--output", store) == 0
    assert sorted(RegionStore(store).image_ids) == ["a.jpg", "b.png", "c.png", "new.png"]


def test_images_inside_a_data_set_are_known_by_content_too(model: Path, images: Path, tmp_path: Path) -> None:
    paths = [str(images / name) for name in ("a.jpg", "b.png")]
    features = Features({"image": ImageFeature(), "image_id": Value("string")})
    rows = Dataset.from_dict({"image": paths, "image_id": ["a.jpg", "b.png"]}, features=features)
    rows.save_to_disk(tmp_path / "saved")
    store = tmp_path / "regions"
    assert run(tmp_path / "saved", "--source", model, "--output", store) == 0
    assert run(images, "--source", model, "--output", store) == 0  # the same files, in a folder
    assert len(RegionStore(store)) == 3 and (RegionStore(store).image_marks > 0).all()
    tiny.tiny_image(33).save(images / "a.jpg")
    Dataset.from_dict({"image": paths, "image_id": ["a.jpg", "b.png"]}, features=features).save_to_disk(
        tmp_path / "new"
    )
    assert run(tmp_path / "new", "--source", model, "--output", store) == 2


def test_the_selection_is_an_option(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--min-regions", 3, "--max-regions", 5, "--score-threshold", 0.999]
    assert run(images, "--source", model, "--output", tmp_path / "few", *few, "--soft-labels") == 0
    store = RegionStore(tmp_path / "few")
    assert set(store.num_regions.tolist()) <= {3, 4, 5} and "object_probs" in store.column_names
    assert (store.fingerprint["min_regions"], store.fingerprint["score_threshold"]) == (3, 0.999)
    capsys.readouterr()
    for options, sentence in (
        (
            ["--soft-labels"],
            "has another fingerprint (min_regions: stored 3, expected 4; max_regions: stored 5, expected 12",
        ),
        (few, "keeps soft labels: extract with them, or give another folder"),
        (["--min-regions", 99], "min_regions 99 is more than max_regions 12: set the other one too"),
    ):
        assert run(images, "--source", model, "--output", tmp_path / "few", *options) == 2
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 1 and told[0].startswith("updown extract: ") and sentence in told[0]
    assert run(images, "--source", model, "--output", tmp_path / "cells", "--grid-sizes", "1,2", *few) == 0
    cells = RegionStore(tmp_path / "cells")
    assert cells.fingerprint["grid_sizes"] == [1, 2] and (cells.num_regions >= 5 + 3).all()
    torch.testing.assert_close(cells["a.jpg"]["region_boxes"][0].float(), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    for sides in ("1,x", "-1", "0,7"):
        with pytest.raises(SystemExit):
            run(images, "--source", model, "--output", tmp_path / "no", f"--grid-sizes={sides}")
        assert "is no list of cells a side: write 7, or 1,7 for two grids, or 0" in capsys.readouterr().err
    grid = tiny.save_tiny_captioner(tmp_path / "captioner")
    assert run(images, "--source", grid, "--output", tmp_path / "grid", "--max-regions", 5) == 2
    assert "a grid has neither a region selection nor soft labels" in capsys.readouterr().err


def test_a_source_saved_in_half_precision(model: Path, images: Path, tmp_path: Path) -> None:
    UpDownDetector.from_pretrained(model).bfloat16().save_pretrained(tmp_path / "half")
    UpDownImageProcessor.from_pretrained(model).save_pretrained(tmp_path / "half")
    assert run(images, "--source", tmp_path / "half", "--output", tmp_path / "store") == 0
    source = UpDownDetector.from_pretrained(tmp_path / "half", dtype=torch.float32)  # as recipes load it
    found = RegionStore(tmp_path / "store").fingerprint
    assert source_fingerprint(source, flipped=False)["weights"] == found["weights"]


def test_lower_precision_is_an_option(model: Path, images: Path, tmp_path: Path) -> None:
    for kind in ("no", "bf16"):
        assert run(images, "--source", model, "--output", tmp_path / kind, "--mixed-precision", kind) == 0
        forget_accelerators()
    exact, rough = (RegionStore(tmp_path / kind)["b.png"]["region_features"].float() for kind in ("no", "bf16"))
    assert exact.shape[1] == rough.shape[1] == 128
    assert rough.norm(dim=1).mean() == pytest.approx(exact.norm(dim=1).mean().item(), rel=0.1)


def test_processes_without_a_gpu_share_the_images(model: Path, images: Path, tmp_path: Path) -> None:
    """As `torchrun --nproc_per_node 2 -m training.cli extract ...` starts them."""
    for number in range(9):
        Image.new("RGB", (40, 30), (25 * number, 0, 90)).save(images / f"{number}.png")
    arguments = ["extract", str(images), "--source", str(model), "--output", str(tmp_path / "store")]
    assert in_processes(main_or_die, arguments, num_processes=2) == [0, 0]
    assert len(RegionStore(tmp_path / "store")) == 12
    shares = [json.loads((tmp_path / "store" / name).read_text())["shards"] for name in ("store.json", "store-1.json")]
    assert [sum(shard["photos"] for shard in share) for share in shares] == [6, 6]


def main_or_die(arguments: list[str]) -> None:
    """The command line in a process of its own, whose exit code is that of the command."""
    code = cli.main(arguments)
    if code:
        raise SystemExit(code)
