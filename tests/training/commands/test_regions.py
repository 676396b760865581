"""`updown convert-regions` and `updown check-regions` as a user types them: what is printed, and the exit codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.regions.formats import foreign
from tests.training.regions.formats.foreign import bua_row, foreign_images, lxmert_row, write_rows
from training import cli
from training.commands.regions import FORMAT_HELP
from training.regions.store import RegionStore

IMAGES = foreign_images()


def run(*arguments: Any) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def tsv(tmp_path: Path) -> Path:
    """LXMERT's file of four images."""
    return write_rows(tmp_path / "val.tsv", [lxmert_row(image) for image in IMAGES])


def test_in_and_out_and_compared(tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = tmp_path / "regions", tmp_path / "out.tsv"
    assert run("convert-regions", tsv, "--output", store, "--made-by", "py-bottom-up-attention 36") == 0
    assert capsys.readouterr().out == f"{store}: 4 images added\n"
    assert RegionStore(store).fingerprint == {"converted_from": "lxmert-tsv", "made_by": "py-bottom-up-attention 36"}
    assert run("convert-regions", tsv, "--output", store, "--made-by", "py-bottom-up-attention 36") == 0
    assert capsys.readouterr().out == f"{store}: 0 images added, 4 were in it already\n"
    assert run("convert-regions", store, "--to", "tsv", "--output", out) == 0
    lost = "region_scores, object_ids, attribute_ids, attribute_scores"
    assert capsys.readouterr().out == f"{out}: written as tsv (without {lost}, which it cannot hold)\n"
    assert run("check-regions", store, out) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "images: 4 in A, 4 in B, 4 in both"
    assert shown[-1] == "the same: all 4 images agree within 0.001 (boxes 0.001)"


def test_two_data_sets_share_a_store_under_ids_of_their_own(
    tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "regions"
    assert run("convert-regions", tsv, "--output", store) == 0
    for added, there in ((4, 0), (0, 4)):
        assert run("convert-regions", tsv, "--output", store, "--id-prefix", "visual_genome-") == 0
        assert f"{store}: {added} images added" in capsys.readouterr().out
        assert there == 4 - added
    ids = [image.image_id for image in IMAGES]
    read = RegionStore(store)
    assert sorted(read.image_ids) == sorted([*ids, *(f"visual_genome-{one}" for one in ids)])
    for one in ids:
        assert torch.equal(read[one]["region_features"], read[f"visual_genome-{one}"]["region_features"])
    assert run("convert-regions", store, "--to", "tsv", "--output", tmp_path / "out.tsv", "--id-prefix", "x") == 2
    assert "leave it out beside --to" in capsys.readouterr().err


def test_broken_rows_give_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "val.tsv", [bua_row(IMAGES[0]), bua_row(IMAGES[1])[:4], ["x"]])
    assert run("convert-regions", path, "--output", tmp_path / "store") == 1
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'store'}: 1 images added\n"
    listed = shown.err.split("2 rows are broken and were left out:\n")[1].splitlines()
    assert [line.split(":")[0] for line in listed] == [f"  {path}, line 2", f"  {path}, line 3"]
    path = write_rows(tmp_path / "none.tsv", [[*bua_row(IMAGES[0])[:5], "%"]] * 120)
    assert run("convert-regions", path, "--output", tmp_path / "other") == 2
    assert capsys.readouterr().err.count("not base64") == 100


def test_differing_regions_give_exit_code_1_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = foreign_images()
    moved[2].features = moved[2].features + np.float32(0.5)
    a, b = (
        write_rows(tmp_path / f"{name}.tsv", [bua_row(image) for image in images])
        for name, images in (("a", IMAGES), ("b", moved))
    )
    assert run("check-regions", a, b, "--worst", "1") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "different: 1 of 4 images do not agree within 0.001 (boxes 0.001)"
    assert shown[-2].startswith("  1002: 5 and 5 regions, 5 matched") and shown[-3] == "worst images:"
    assert run("check-regions", a, b, "--json", "--worst", "2") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["same"] is False and found["num_differing"] == 1 and len(found["worst"]) == 2
    assert found["worst"][0]["image_id"] == "1002"
    assert found["largest_feature_difference"] == pytest.approx(0.5, abs=1e-6)
    assert run("check-regions", a, b, "--tolerance", "0.6") == 0


def test_what_the_user_gives_beside_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = foreign.write_vinvl(tmp_path / "vinvl", IMAGES)
    labels = foreign.vinvl_labels(tmp_path / "labels.json")
    store = tmp_path / "store"
    assert run("convert-regions", folder, "--labels", labels, "--dtype", "float32", "--output", store) == 0
    one = RegionStore(store)["1003"]
    assert one["object_ids"].tolist() == (IMAGES[3].objects + 1).tolist()
    assert torch.equal(one["region_features"], torch.from_numpy(IMAGES[3].features))
    path = foreign.write_hdf5(tmp_path / "val36.hdf5", IMAGES)
    index = (tmp_path / "val36_imgid2idx.json").rename(tmp_path / "rows.json")
    assert run("convert-regions", path, "--index", index, "--output", tmp_path / "other") == 0
    assert run("convert-regions", store, "--to", "att-box", "--output", tmp_path / "bu") == 0
    sizes = (tmp_path / "bu" / "sizes.json").rename(tmp_path / "sizes.json")
    (tmp_path / "bu" / "box").rename(tmp_path / "elsewhere")
    given = ["--sizes", sizes, "--boxes", tmp_path / "elsewhere"]
    assert run("check-regions", tmp_path / "bu", store, *given) == 0
    assert run("check-regions", tmp_path / "bu", tmp_path / "bu") == 1
    assert "name the folder of their ID.npy with --boxes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert-regions", "{tsv}", "--output", "{new}", "--format", "caffe"], "unknown format 'caffe'"),
        (["convert-regions", "{new}", "--output", "{new}"], "there is no file or folder"),
        (
            ["convert-regions", "{store}", "--output", "{new}"],
            "is a region store already; to write it in another format",
        ),
        (["convert-regions", "{store}", "--to", "caffe", "--output", "{new}"], "unknown format 'caffe'"),
        (["convert-regions", "{store}", "{store}", "--to", "tsv", "--output", "{new}"], "name one SOURCE"),
        (["convert-regions", "{tsv}", "--to", "npz", "--output", "{new}"], "is not a region store"),
        (["convert-regions", "{empty}", "--format", "tsv", "--output", "{new}"], "empty.tsv holds no image"),
        (["convert-regions", "{tsv}", "--sizes", "{empty}", "--output", "{new}"], "empty.tsv is not valid JSON"),
        (["check-regions", "{tsv}", "{new}"], "there is no file or folder"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], message: str, tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.tsv").touch()
    run("convert-regions", tsv, "--output", tmp_path / "store")
    capsys.readouterr()
    places = {"tsv": tsv, "new": tmp_path / "new", "store": tmp_path / "store", "empty": tmp_path / "empty.tsv"}
    assert run(*[argument.format(**places) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err.splitlines()[-1]
    assert shown.err.splitlines()[-1].startswith(f"updown {arguments[0]}: ")


@pytest.mark.parametrize("value", ["-1", "much", "nan", "inf"])
def test_tolerances_are_numbers(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("check-regions", "a", "b", f"--tolerance={value}")
    assert f"'{value}' is not a number >= 0" in capsys.readouterr().err


def test_the_help_names_every_format() -> None:
    from training.regions.formats import FORMATS

    assert FORMAT_HELP.replace(" or ", ", ").split(", ") == list(FORMATS)


def test_a_store_is_verified(tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "regions"
    assert run("convert-regions", tsv, "--output", store) == 0
    capsys.readouterr()
    assert run("check-regions", store, "--verify") == 0
    known, verdict = capsys.readouterr().out.splitlines()
    assert known.startswith("4 of 4 images have an id but no mark of their content (converted from files, or")
    assert verdict == f"{store}: 4 images, every byte is what was written"
    manifest = json.loads((store / "store.json").read_text())
    checksum = manifest["shards"][0].pop("crc32")
    (store / "store.json").write_text(json.dumps(manifest))
    assert run("check-regions", store, "--verify", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(store),
        "num_photos": 4,
        "num_marked": 0,
        "has_checksums": False,
        "faults": [],
        "sound": True,
    }
    manifest["shards"][0]["crc32"] = checksum ^ 1
    (store / "store.json").write_text(json.dumps(manifest))
    assert run("check-regions", store, "--verify") == 1
    damaged, verdict = capsys.readouterr().out.splitlines()
    assert damaged.startswith(f"the shard {store}/shard-0-00000.arrow is damaged")
    assert verdict == f"{store}: 1 damaged shards"
    assert run("check-regions", tsv, "--verify") == 2


def test_one_store_and_nothing_to_do(tmp_path: Path, tsv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([tsv], [tsv, tsv, "--verify"]):
        assert run("check-regions", *arguments) == 2
        assert "give A and B to compare them, or one region store and --verify" in capsys.readouterr().err
