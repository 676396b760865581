"""`updown index`: images, stores and texts of every kind, going on, and mistakes in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.training.search import retrieval_fake
from tests.training.search.retrieval_fake import ColourModel, colour_processor
from training import cli
from training.commands import index as index_command
from training.commands.extract import image_rows
from training.commands.index import read_texts, row_paths
from training.regions.image_marks import image_mark
from training.search.index_files import read_index


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The fake model stands for whatever is loaded; a folder named `other` holds another one."""
    monkeypatch.setattr(index_command, "load_retrieval_model", load_fake)
    for name in ("other", "blind"):
        retrieval_fake.model_folder(tmp_path / name)
    return retrieval_fake.model_folder(tmp_path / "model")


def load_fake(folder: str) -> tuple[Any, Any]:
    name = Path(folder).name
    return ColourModel(tint=float(name == "other"), owns_source=name != "blind"), colour_processor()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return retrieval_fake.save_colour_images(tmp_path / "photos")


def run(tmp_path: Path, *arguments: Any, model: str = "model") -> int:
    options = ["--model", tmp_path / model, "--output", tmp_path / "index"]
    return cli.main(["index", *(str(argument) for argument in [*arguments, *options])])


def table(tmp_path: Path, name: str = "photos") -> list[dict[str, Any]]:
    return sorted(read_index(tmp_path / "index")[1][name].entries, key=json.dumps)


# -- images ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_indexed_and_gone_on_with(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (images / "red1.png").read_bytes()
    (images / "red1.png").write_bytes(whole[:60])
    assert run(tmp_path, images, "--batch-size", 2) == 1
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'index'}: 8 images and 0 texts\n"
    assert "1 images could not be read and were skipped:\n  red1.png: " in shown.err
    (images / "red1.png").write_bytes(whole)
    assert run(tmp_path, images) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'index'}: 9 images and 0 texts\n"
    manifest, tables = read_index(tmp_path / "index")
    assert (manifest["model"], manifest["photo_folder"], manifest["region_store"]) == ("../model", "../photos", None)
    assert manifest["dtype"] == "float16" and tables["photos"].embeddings.shape == (9, 3)
    mark = image_mark({"path": str(images / "blue0.png")})
    assert table(tmp_path)[0] == {"id": "blue0.png", "path": "blue0.png", "mark": mark} and mark > 0
    retrieval_fake.colour_image("green").save(images / "red1.png")
    assert run(tmp_path, images) == 2
    message = (
        f"1 of 9 images are not those that the index {tmp_path / 'index'} holds under the same ids (red1.png): give"
    )
    assert message in capsys.readouterr().err


def test_images_of_several_folders_have_paths_in_the_common_one(images: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "deep").mkdir(parents=True)
    tiny.tiny_image().save(tmp_path / "more" / "deep" / "dog.jpg")
    folder, paths = row_paths(image_rows([str(images), str(tmp_path / "more" / "deep")]))
    assert (
        folder == str(tmp_path) and paths["dog.jpg"] == "more/deep/dog.jpg" and paths["red0.png"] == "photos/red0.png"
    )
    assert row_paths(image_rows([str(images)]))[0] == str(images)


def test_images_inside_a_data_set_have_no_path(images: Path, tmp_path: Path) -> None:
    from datasets import Dataset, Features, Image

    paths = [str(path) for path in sorted(images.iterdir())]
    Dataset.from_dict({"image": paths}, features=Features({"image": Image()})).save_to_disk(tmp_path / "saved")
    assert run(tmp_path, tmp_path / "saved") == 0
    assert [entry["path"] for entry in table(tmp_path)] == [None] * 9
    assert read_index(tmp_path / "index")[0]["photo_folder"] is None


def test_a_store_is_indexed(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = retrieval_fake.save_colour_store(tmp_path / "regions", images, model=ColourModel())
    (images / "red0.png").rename(images / "red0.jpg")  # an id is a whole file name
    assert run(tmp_path, store, "--images", images) == 0
    assert "1 images of" in capsys.readouterr().err
    manifest, _ = read_index(tmp_path / "index")
    assert (manifest["photo_folder"], manifest["region_store"]) == ("../photos", "../regions")
    paths = {entry["id"]: entry["path"] for entry in table(tmp_path)}
    assert paths["red0.png"] is None and paths["red1.png"] == "red1.png"
    assert run(tmp_path, store, "--images", images, model="blind") == 2  # its weights are others


def test_images_of_a_store_are_those_it_was_made_of(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marks = [image_mark({"path": str(path)}) for path in sorted(images.iterdir())]
    store = retrieval_fake.save_colour_store(tmp_path / "regions", images, model=ColourModel(), marks=marks)
    retrieval_fake.colour_image("blue").save(images / "red0.png")
    assert run(tmp_path, store, "--images", images) == 2
    assert f"1 of 9 images are not those that {store} holds under the same ids (red0.png)" in capsys.readouterr().err


def test_names_that_fit_two_images_are_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrieval_fake.colour_image("red").save(images / "red0.jpg")
    (tmp_path / "t.csv").write_text("file_name,caption\nred0.png,red\nred1,red\n")
    assert run(tmp_path, images, "--captions", tmp_path / "t.csv") == 0
    assert [entry["photo"] for entry in table(tmp_path, "texts")] == ["red0.png", "red1.png"]
    (tmp_path / "t.csv").write_text("file_name,caption\nred0,red\n")
    capsys.readouterr()
    assert run(tmp_path, images, "--captions", tmp_path / "t.csv") == 2
    assert "the image 'red0' may be any of 'red0.jpg', 'red0.png' in the index" in capsys.readouterr().err


def test_a_model_without_a_source_takes_a_store(images: Path, tmp_path: Path) -> None:
    store = retrieval_fake.save_colour_store(tmp_path / "regions", images, model=ColourModel())
    assert run(tmp_path, store, model="blind") == 0
    manifest, _ = read_index(tmp_path / "index")
    assert manifest["fingerprint"]["regions"]["backbone"] == "colours" and manifest["photo_folder"] is None


# -- texts -----------------------------------------------------------------------------------------------------------


def test_texts_of_a_list_and_of_tables(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("a red thing\n\n  green \n")
    assert run(tmp_path, images, "--captions", tmp_path / "list.txt") == 0
    (tmp_path / "t.jsonl").write_text(
        '{"file_name": "red0.png", "captions": ["red", "a red thing", " "]}\n{"file_name": "x", "captions": ["blue"]}\n'
    )
    assert run(tmp_path, images, "--captions", tmp_path / "t.jsonl") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{tmp_path / 'index'}: 9 images and 5 texts"
    pairs = [(entry["text"], entry["photo"]) for entry in read_index(tmp_path / "index")[1]["texts"].entries]
    red = ("red", "red0.png")
    assert pairs == [("a red thing", None), ("green", None), red, ("a red thing", "red0.png"), ("blue", "x")]
    (tmp_path / "t.csv").write_text("caption\nred\ngreen\n")
    assert read_texts(tmp_path / "t.csv") == [("red", None), ("green", None)]


def test_texts_of_a_data_set(tmp_path: Path) -> None:
    sentences = [{"raw": "a red thing", "tokens": []}, {"raw": "red", "tokens": []}]
    images = [
        {"filename": "red0.png", "split": "test", "sentences": sentences},
        {"filename": "green0.png", "split": "train", "sentences": sentences[:1]},
    ]
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"images": images}))
    assert read_texts(path, format="karpathy", split="test") == [("a red thing", "red0"), ("red", "red0")]
    assert len(read_texts(path, format="karpathy")) == 3
    with pytest.raises(
        ValueError, match=r"dataset.json is neither a list .* give its format with --captions-format .karp"
    ):
        read_texts(path)


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["{photos}", "--captions-split", "test"],
            "--captions-format and --captions-split need --captions: give that file",
        ),
        (["{photos}", "--captions", "{list}", "--captions-split", "test"], "--captions-split needs --captions-format"),
        (["{photos}", "--captions", "{tokens}"], "looks like a token file of Flickr: add --captions-format flickr_tok"),
        (["{photos}", "--captions", "{blank}"], "blank.txt holds no text"),
        (
            ["{photos}", "--captions", "{csv}"],
            "t.csv has no column captions or caption or text or comment; it has name",
        ),
        (["{photos}", "--captions", "gone.txt"], "cannot read gone.txt: No such file"),
        (["{photos}", "--images", "{photos}"], "--images is the folder of a region store's images: leave it out"),
        (["{store}", "{photos}"], "regions is a region store: index it alone"),
        (["{store}", "--images", "{empty}"], "none of the 9 images of"),
        (["{store}", "--images", "gone"], "there is no image folder gone"),
        (["{empty}"], "empty holds no image"),
        (["https://example.org/dog.jpg"], "an index holds local images and clips, and https://example.org/dog.jpg"),
    ],
)
def test_mistakes_end_in_one_sentence(
    arguments: list[str], sentence: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"list": "a\nb\n", "tokens": "a.jpg#0\ta dog\n", "blank": "\n \n"}
    places = {name: tmp_path / f"{name}.txt" for name in texts}
    for name, text in texts.items():
        places[name].write_text(text)
    (tmp_path / "t.csv").write_text("name\na\n")
    (tmp_path / "empty").mkdir()
    store = retrieval_fake.save_colour_store(tmp_path / "regions", images, model=ColourModel())
    places |= {"photos": images, "store": store, "csv": tmp_path / "t.csv", "empty": tmp_path / "empty"}
    assert run(tmp_path, *(argument.format(**places) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("updown index: ") and shown.err.count("\n") == 1
    assert sentence in shown.err and not (tmp_path / "index").exists()


def test_another_model_is_refused(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, images) == 0
    capsys.readouterr()
    assert run(tmp_path, images, model="other") == 2
    assert f"the index {tmp_path / 'index'} was made with another model (weights: stored" in capsys.readouterr().err
    assert run(tmp_path, images, model="blind") == 2
    assert "blind has no region source, so it takes no images: give a region store" in capsys.readouterr().err
    store = retrieval_fake.save_colour_store(tmp_path / "regions", images, model=ColourModel())
    assert run(tmp_path, store) == 2
    assert "was made with photo_folder ../photos, not None" in capsys.readouterr().err
    model = ColourModel()
    model.region_source.scale.mul_(2)  # type: ignore[union-attr,operator]
    strange = retrieval_fake.save_colour_store(tmp_path / "strange", images, model=model)
    assert run(tmp_path, strange) == 2
    assert "strange were not made as expected (weights: stored" in capsys.readouterr().err


def test_a_folder_of_broken_images(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in images.iterdir():
        path.write_bytes(b"no image")
    assert run(tmp_path, images) == 2
    assert "9 images could not be read and were skipped:" in capsys.readouterr().err


def test_models_that_compare_nothing(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    captioner = tiny.save_tiny_captioner(tmp_path / "captioner")
    with pytest.raises(ValueError, match="UpDownForImageCaptioning.*, but UpDownFusionForImageTextRetrieval .* is w"):
        index_command.load_retrieval_model(str(captioner))
