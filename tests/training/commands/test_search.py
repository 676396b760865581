"""`updown search`: lines, JSON and sheets of what was found, images that are gone, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests import tiny
from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_processor
from training import cli
from training.commands import index as index_command
from training.commands import search as search_command


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """An index of nine images and three texts, made by the fake model; the folder `other` holds another one."""
    for command in (index_command, search_command):
        monkeypatch.setattr(command, "load_retrieval_model", load_fake)
    retrieval_fake.model_folder(tmp_path / "other")
    model = retrieval_fake.model_folder(tmp_path / "model")
    images = retrieval_fake.save_colour_images(tmp_path / "photos")
    rows = [("red0.png", "a red thing"), ("red0.png", "red"), ("blue1.png", "a blue thing")]
    lines = [json.dumps({"file_name": name, "caption": text}) for name, text in rows]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    options = ["--captions", tmp_path / "captions.jsonl", "--model", model, "--output", tmp_path / "index"]
    assert cli.main(["index", str(images), *map(str, options)]) == 0
    capsys.readouterr()
    return tmp_path / "index"


def load_fake(folder: str) -> tuple[Any, Any]:
    return ColourModel(tint=float(Path(folder).name == "other")), colour_processor()


def run(index: Path, *arguments: Any) -> int:
    return cli.main(["search", *(str(argument) for argument in arguments), "--index", str(index)])


# -- what is found ---------------------------------------------------------------------------------------------------


def test_images_for_a_text(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(index, "a red thing", "--top-k", 2) == 0
    images = tmp_path / "photos"
    lines = ["a red thing", f"    1   1.000  {images / 'red0.png'}", "    2   0.99"]
    shown = capsys.readouterr().out.splitlines()
    assert [line[: len(start)] for line, start in zip(shown, lines, strict=True)] == lines
    assert shown[2].endswith(str(images / "red1.png"))
    assert run(index, "red", "green", "--top-k", 1, "--rerank", 3) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in shown] == [
        "red",
        str(images / "red2.png"),
        "green",
        str(images / "green2.png"),
    ]
    assert "  match  " in shown[1] and "%  " in shown[1]
    assert run(index, "red", "--top-k", 3, "--rerank", 1) == 0
    assert capsys.readouterr().out.count("  match  -   ") == 2


def test_texts_and_images_for_an_image(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "photos" / "blue1.png"
    assert run(index, image, "--top-k", 1) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == str(image) and second.endswith("  a blue thing")
    assert run(index, image, "--top-k", 2, "--similar") == 0
    assert "1.000" in (shown := capsys.readouterr().out) and shown.splitlines()[1].endswith("blue1.png")


def test_json_holds_what_is_known(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(tmp_path / "photos" / "red2.png")
    assert run(index, "red", image, "--top-k", 2, "--rerank", 2, "--json") == 0
    words, texts = json.loads(capsys.readouterr().out)
    assert (words["query"], words["found"], texts["query"], texts["found"]) == ("red", "photos", image, "texts")
    first, second = words["results"]
    assert set(first) == {"rank", "score", "match", "id", "path", "captions"} and (first["rank"], second["rank"]) == (
        1,
        2,
    )
    assert (first["id"], second["id"]) == ("red1.png", "red0.png") and second["captions"] == ["a red thing", "red"]
    assert first["path"] == str(tmp_path / "photos" / "red1.png") and 0 < second["match"] < first["match"] < 1
    assert texts["results"][0]["text"] == "a red thing" and texts["results"][0]["photo"] == "red0.png"
    assert run(index, "red", "--top-k", 1, "--json") == 0
    assert "match" not in json.loads(capsys.readouterr().out)[0]["results"][0]


def test_sheets_are_drawn(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, image = tmp_path / "sheet.jpg", tmp_path / "photos" / "red0.png"
    assert run(index, "red", "--output", sheet) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"  drawn: {sheet}"
    with Image.open(sheet) as picture:
        assert picture.width == 1471 and picture.format == "JPEG"
    assert run(index, image, "red", "--json", "--output", tmp_path / "both.png") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) and shown.err.count("  drawn: ") == 2
    assert run(index, image, "--similar", "--output", tmp_path / "like.png") == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"both_1.png", "both_2.png", "like.png"}


def test_images_that_are_gone_are_named(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos" / "red0.png").unlink()
    assert run(index, "red", "--rerank", 3, "--top-k", 3, "--output", tmp_path / "sheet.png") == 1
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-2].endswith("red0.png")  # behind those that were read
    assert shown.err.count("there is no image at") == 2
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert run(index, "red", "--rerank", 9) == 1
    assert "9 images could not be read:" in (shown := capsys.readouterr()).err and "  and 4 more\n" in shown.err
    assert run(index, "green", "--rerank", 3, "--images", tmp_path / "elsewhere") == 0
    assert run(index, "green", "--rerank", 3, "--photos", tmp_path / "elsewhere") == 0


def test_faiss_says_what_it_misses(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    assert run(index, "red") == 0
    exact = capsys.readouterr()
    assert run(index, "red", "--faiss") == 0
    assert capsys.readouterr() == exact
    assert run(index, "red", "--faiss", "hnsw") == 0
    shown = capsys.readouterr()
    assert shown.out == exact.out
    assert shown.err == "faiss hnsw finds 100.0% of the 10 nearest images (measured on this index)\n"


def test_a_real_model_from_images_to_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing fake: what is printed is what the model says of each pair; regions from images and from a store."""
    monkeypatch.undo()
    model_folder = tiny.save_tiny_retrieval(tmp_path / "tiny")
    (tmp_path / "some").mkdir()
    for seed in range(5):
        tiny.tiny_image(seed).save(tmp_path / "some" / f"{seed}.png")
    (tmp_path / "texts.txt").write_text("\n".join(tiny.CAPTIONS))
    assert (
        cli.main([*map(str, ["extract", tmp_path / "some", "--source", model_folder, "--output", tmp_path / "r"])]) == 0
    )
    options = ["--captions", tmp_path / "texts.txt", "--model", model_folder, "--batch-size", 2, "--dtype", "float32"]
    for source, output in ((tmp_path / "some", tmp_path / "a"), (tmp_path / "r", tmp_path / "b")):
        assert cli.main([*map(str, ["index", source, *options, "--output", output])]) == 0
    capsys.readouterr()

    model, processor = tiny.tiny_retrieval(), tiny.tiny_fusion_processor()
    images = processor(images=[str(tmp_path / "some" / f"{seed}.png") for seed in range(5)], return_tensors="pt")
    words = processor(text=tiny.CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        cosines = model.get_image_features(**images) @ model.get_text_features(**words).T  # (5, 4)
        regions = model.get_regions(**images)
        one = processor(text=tiny.CAPTIONS[1:2], return_tensors="pt")
        every = {name: value.repeat(5, 1) for name, value in one.items()}
        matches = model.match(**every, **regions, image_index=torch.arange(5)).sigmoid()
    for folder, tolerance in ((tmp_path / "a", 1e-5), (tmp_path / "b", 2e-3)):
        assert run(folder, tiny.CAPTIONS[1], "--rerank", 5, "--json") == 0
        results = json.loads(capsys.readouterr().out)[0]["results"]
        assert [result["id"] for result in results] == [f"{int(row)}.png" for row in matches.argsort(descending=True)]
        for result in results:
            row = int(result["id"][0])
            assert result["score"] == pytest.approx(float(cosines[row, 1]), abs=tolerance)
            assert result["match"] == pytest.approx(float(matches[row]), abs=tolerance)
        assert run(folder, tmp_path / "some" / "3.png", "--json", "--top-k", 4) == 0
        found = [result["text"] for result in json.loads(capsys.readouterr().out)[0]["results"]]
        assert found == [tiny.CAPTIONS[row] for row in cosines[3].argsort(descending=True)]


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([" "], "the query is empty: write what the image shows"),
        (["gone.jpg"], "there is no image at gone.jpg"),
        (["red", "--similar"], "--similar finds images similar to an image, and 'red' is a text: leave it out"),
        (
            ["{photo}", "--similar", "--rerank", "5"],
            "--rerank compares texts with images, --similar images with images",
        ),
        (["red", "--model", "{other}"], "was made with another model (weights: stored"),
        (["red", "--model", "gone"], "there is no model folder gone"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], sentence: str, index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"photo": tmp_path / "photos" / "red0.png", "other": tmp_path / "other"}
    assert run(index, *(argument.format(**places) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("updown search: ") and shown.err.count("\n") == 1
    assert sentence in shown.err


def test_an_index_without_its_model_texts_or_itself(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").rename(tmp_path / "moved")
    assert run(index, "red") == 2
    sentence = f"the model that made the index is not at {tmp_path / 'model'} any more: give it with --model"
    assert sentence in capsys.readouterr().err
    assert run(index, "red", "--model", tmp_path / "moved") == 0
    assert run(tmp_path / "photos", "red") == 2
    assert (
        "photos is not an index (it has no index.json): make one with `updown index IMAGES`" in capsys.readouterr().err
    )
    manifest = json.loads((index / "index.json").read_text())
    manifest["tables"]["texts"] = {"rows": 0, "bytes": 0}
    (index / "index.json").write_text(json.dumps(manifest))
    assert run(index, tmp_path / "photos" / "red0.png", "--model", tmp_path / "moved") == 2
    assert "the index holds no texts: index again with --captions FILE" in capsys.readouterr().err
    (index / "index.json").write_text(json.dumps({**manifest, "model": None}))
    assert run(index, "red") == 2
    assert "does not record its model: give it with --model" in capsys.readouterr().err


def test_an_image_that_cannot_be_read_is_named_and_the_others_searched_for(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    red = tmp_path / "photos" / "red0.png"
    (tmp_path / "cut.png").write_bytes(red.read_bytes()[:40])
    sheet = tmp_path / "sheet.png"
    assert run(index, "gone.jpg", red, tmp_path / "cut.png", "red", "--top-k", 1, "--output", sheet) == 1
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if not line.startswith("  ")] == [str(red), "red"]
    first, second = shown.err.splitlines()
    assert first.startswith("updown search: skipped: there is no image at gone.jpg")
    assert second.startswith(f"updown search: skipped: {tmp_path / 'cut.png'} is")
    assert {path.name for path in tmp_path.glob("sheet*")} == {"sheet_2.png", "sheet_4.png"}  # as they were given
    assert run(index, "gone.jpg", "lost.jpg") == 2
    assert "updown search: there is no image at lost.jpg" in capsys.readouterr().err


def test_wrong_usage(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in ((["red", "--top-k", "0"], "'0' is not a whole number above 0"), (["--json"], "QUERY")):
        with pytest.raises(SystemExit):
            run(index, *arguments)
        assert sentence in capsys.readouterr().err


def test_the_kinds_of_faiss_are_those_of_the_search() -> None:
    from training.search.nearest import FAISS_KINDS

    assert search_command.FAISS_KINDS == FAISS_KINDS
