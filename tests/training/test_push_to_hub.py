"""What is published loads everywhere, says only what was measured, and costs nothing local when the upload breaks."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import modeling_updown
from tests.tiny import save_tiny_captioner, save_tiny_vqa, tiny_vqa_config
from tests.training.hub_stub import HubStub
from training import load_back, push_to_hub
from training.load_back import drawn_photo
from training.model_card import figures, region_facts, template_path, word_facts
from training.push_to_hub import check_published, is_same, publish_folder, push

# what published code may ask of a stranger's environment: the rest comes with these
ALLOWED_IMPORTS = {"torch", "torchvision", "timm", "transformers", "tokenizers", "safetensors", "numpy", "PIL"}
EVALUATION = {
    "task": "image-to-text",
    "dataset": {"name": "Flickr8k", "type": "flickr8k", "split": "test", "num_photos": 1000},
    "command": "updown evaluate training/recipes/captioning_flickr8k.yaml",
    "seed": 0,
    "decoding": {"num_beams": 5},
    "metrics": {"bleu_4_x100": 21.34, "cider_d_x100": 55.018},
    "not_computed": {"spice": "Java is not installed"},
}


# the start of a program in which our package cannot be imported, and where that program finds `load_back`
BLOCKED = "import sys, load_back; sys.meta_path.insert(0, load_back.OwnPackageBlocker())\n"
STRANGER = {**os.environ, "PYTHONPATH": str(Path(load_back.__file__).parent)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny captioner as `save_pretrained` leaves it, with what training may leave beside it."""
    folder = save_tiny_captioner(tmp_path_factory.mktemp("saved"))
    (folder / "optimizer.bin").write_bytes(b"training state")
    return folder


@pytest.fixture(scope="module")
def published(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Hub folder, after a dry run: it has been loaded without our package, and compared."""
    output = tmp_path_factory.mktemp("published") / "tiny"
    assert push(saved, "someone/tiny", dry_run=True, output=output) == output
    return output


@pytest.fixture(scope="module")
def published_vqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub folder of a tiny question answerer, after a dry run."""
    folder = save_tiny_vqa(tmp_path_factory.mktemp("saved-vqa"), counted_objects=3, weight_norm=True, activation="relu")
    return Path(
        push(folder, "someone/tiny-vqa", dry_run=True, output=tmp_path_factory.mktemp("published-vqa") / "tiny")
    )


def edited(folder: Path, target: Path, **evaluation: Any) -> Path:
    """A copy of a folder with an evaluation of its own."""
    shutil.copytree(folder, target)
    (target / "evaluation.json").write_text(json.dumps(EVALUATION | evaluation))
    return target


def test_hub_folder_is_flat_and_whole(saved: Path, published: Path) -> None:
    assert all(path.is_file() for path in published.iterdir())
    names = {path.name for path in published.iterdir()}
    weights_and_words = {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"}
    processors = {"processor_config.json", "tokenizer_config.json"}
    code = {"pipeline_updown.py", "modeling_grid.py", "image_processing_updown.py", "tokenization_updown.py"}
    assert weights_and_words | processors | code | {"README.md"} <= names
    assert not {"optimizer.bin", "__init__.py", "registration_updown.py"} & names
    assert (published / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_half_weights_load_as_float32(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved, run / "best")
    (run / "recipe.yaml").write_text("data_name: drawn scenes\nseed: 3\n")
    made = push(run / "best", "someone/tiny", dry_run=True, output=tmp_path / "tiny", half=True)
    full, half = load_file(saved / "model.safetensors"), load_file(Path(made) / "model.safetensors")
    assert {tensor.dtype for tensor in half.values() if tensor.is_floating_point()} == {torch.float16}
    loaded = modeling_updown.UpDownForImageCaptioning.from_pretrained(made)
    assert loaded.dtype == torch.float32
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, full[name], atol=1e-4, rtol=1e-3)
    assert "Data: drawn scenes" in (Path(made) / "README.md").read_text()


def test_every_class_is_named(published: Path) -> None:
    config = json.loads((published / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_updown.UpDownCaptioningConfig",
        "AutoModelForImageTextToText": "modeling_captioning.UpDownForImageCaptioning",
    }
    assert config["custom_pipelines"] == {
        "image-to-text": {
            "impl": "pipeline_updown.UpDownImageToTextPipeline",
            "pt": ["AutoModelForImageTextToText"],
            "type": "multimodal",
        }
    }
    processor = json.loads((published / "processor_config.json").read_text())
    assert processor["auto_map"] == {"AutoProcessor": "processing_updown.UpDownProcessor"}
    assert processor["image_processor"]["auto_map"]["AutoImageProcessor"][1].endswith(".UpDownImageProcessor")
    tokenizer = json.loads((published / "tokenizer_config.json").read_text())
    assert tokenizer["auto_map"] == {"AutoTokenizer": [None, "tokenization_updown.UpDownTokenizer"]}


def test_published_code_asks_for_nothing_unusual(published: Path) -> None:
    for path in published.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, path
                names = [] if node.level else [node.module or ""]
            roots = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
            assert roots <= ALLOWED_IMPORTS | {"huggingface_hub"}, path


@pytest.mark.parametrize("trust", [None, False, True])
def test_installed_package_loads_it_with_and_without_the_flag(saved: Path, published: Path, trust: bool | None) -> None:
    expected = transformers.pipeline("image-to-text", model=str(saved))(drawn_photo())
    found = transformers.pipeline("image-to-text", model=str(published), trust_remote_code=trust)(drawn_photo())
    assert found == expected and len(found[0]["generated_text"].split()) > 1
    for auto in ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer"):
        thing = getattr(transformers, auto).from_pretrained(published, trust_remote_code=trust)
        assert type(thing).__name__.startswith("UpDown")
        # without the flag the installed class, never the folder's; with it transformers may take either
        assert trust or isinstance(thing, getattr(modeling_updown, type(thing).__name__))


def test_the_cards_lines_run_for_a_stranger(published: Path, tmp_path: Path) -> None:
    lines = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), flags=re.DOTALL)[0]
    assert len(lines.strip().splitlines()) == 3
    drawn_photo().save(tmp_path / "photo.jpg", quality=95)
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED + lines.replace("someone/tiny", str(published))],
        cwd=tmp_path,
        env=STRANGER | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[{'generated_text': '")


def test_kinds_of_question_and_comparisons_stand_on_the_card(published_vqa: Path, tmp_path: Path) -> None:
    """A comparison goes along with the model, is shown, and does not keep the folder from being written again."""
    folder = tmp_path / "model"
    shutil.copytree(published_vqa, folder)
    dataset = {"name": "DAQUAR", "type": "daquar", "split": "test", "num_questions": 10}
    figures = {"dataset": dataset, "metrics": {"accuracy_x100": 30.0}, "command": "updown evaluate a.yaml", "seed": 0}
    kinds = {"answers: number": {"accuracy_x100": 42.5, "questions": 4}}
    (folder / "evaluation.json").write_text(json.dumps({**figures, "domains": kinds}))
    blind = {**figures, "metrics": {"accuracy_x100": 20.0}, "difference_x100": -10.0, "interval_x100": [-12.0, -8.5]}
    (folder / "comparisons.json").write_text(json.dumps([{"name": "this", **figures}, {"name": "blind", **blind}]))
    for _ in range(2):
        publish_folder(folder, tmp_path / "published", repo_id="me/answerer")
    card = (tmp_path / "published" / "README.md").read_text()
    assert "| answers: number | 42.50 | 4 |" in card and ", 10 questions, seed 0." in card
    assert "| model | accuracy (x100) | difference (95 % interval) |" in card
    assert "| blind | 20.00 | -10.00 (-12.00 to -8.50) |" in card and "# blind\nupdown evaluate a.yaml" in card


def test_hub_folder_of_a_question_answerer(published_vqa: Path) -> None:
    config = json.loads((published_vqa / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_updown.UpDownVqaConfig",
        "AutoModelForVisualQuestionAnswering": "modeling_vqa.UpDownForVisualQuestionAnswering",
    }
    assert config["custom_pipelines"] == {
        "visual-question-answering": {
            "impl": "pipeline_vqa.UpDownVisualQuestionAnsweringPipeline",
            "pt": ["AutoModelForVisualQuestionAnswering"],
            "type": "multimodal",
        }
    }
    code = {path.stem for path in published_vqa.glob("*.py")}
    assert {"pipeline_vqa", "pipeline_questions", "pipeline_photos", "answer_text_updown", "counting_updown"} <= code
    assert not {"pipeline_updown", "modeling_captioning", "drawing_updown", "registration_updown"} & code
    card = ModelCard.load(published_vqa / "README.md")
    assert card.data.pipeline_tag == "visual-question-answering"
    for fact in (
        "| Answers | 6 |",
        "| Words of questions | 29, special tokens included |",
        "| Longest question | 14 words; longer ones are cut |",
        "| Attention | question and region joined, ReLU layers with weight normalisation |",
        "| Glimpses | 1 |",
        "| Counting | by the overlaps of the 3 strongest regions |",
    ):
        assert fact in card.text
    assert not re.search(r"{{|{%|None|Undefined", card.content)


@pytest.mark.parametrize("trust", [None, False, True])
def test_installed_package_asks_it_with_and_without_the_flag(published_vqa: Path, trust: bool | None) -> None:
    ask = transformers.pipeline("visual-question-answering", model=str(published_vqa), trust_remote_code=trust)
    assert type(ask) is modeling_updown.UpDownVisualQuestionAnsweringPipeline
    assert len(ask(drawn_photo(), "is it?")) == 5


def test_a_stranger_asks_it(published_vqa: Path, tmp_path: Path) -> None:
    """The card's lines, and choices, which are looked up after the official normalisation."""
    lines = re.findall(r"```python\n(.*?)```", (published_vqa / "README.md").read_text(), flags=re.DOTALL)[0]
    chosen = (
        'found = ask("photo.jpg", "is it?", choices=["Yes!", "Two"]); print({a["answer"]: a["score"] for a in found})'
    )
    drawn_photo().save(tmp_path / "photo.jpg", quality=95)
    run = subprocess.run(
        [sys.executable, "-c", BLOCKED + lines.replace("someone/tiny-vqa", str(published_vqa)) + chosen],
        cwd=tmp_path,
        env=STRANGER | {"HF_MODULES_CACHE": str(tmp_path / "modules")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    ask = transformers.pipeline("visual-question-answering", model=str(published_vqa))
    best, *others = ask(str(tmp_path / "photo.jpg"), "how many dogs are there?")
    first, *_, last = run.stdout.splitlines()
    assert is_same(ast.literal_eval(first), [best, *others][:3])
    scores = {answer["answer"]: answer["score"] for answer in ask(str(tmp_path / "photo.jpg"), "is it?", top_k=6)}
    assert is_same(ast.literal_eval(last), {"Yes!": scores["yes"], "Two": scores["2"]})


def test_word_facts_of_a_question_answerer(tmp_path: Path) -> None:
    answers = {number: f"answer {number}" for number in range(3129)}
    config = tiny_vqa_config(
        id2label=answers, num_glimpses=2, num_attention_layers=2, attention="multiply", scores_choices=True
    )
    facts = word_facts(config, tmp_path)
    assert facts["Answers"] == "3,129" and facts["Attention"] == "question times region, gated tanh layers"
    assert facts["Glimpses"] == "2" and facts["Stacked attention"] == "2 layers"
    assert facts["Counting"] == "no part of its own"
    assert facts["Multiple choice"] == "given answers are scored by their words"
    measured = {"accuracy_x100": 41.234, "wups_0.9_x100": 45.0}
    assert figures({"metrics": measured}) == [("accuracy (x100)", "41.23"), ("WUPS@0.9 (x100)", "45.00")]


def test_card_of_a_model_without_figures(published: Path) -> None:
    card = ModelCard.load(published / "README.md")
    assert "has not been evaluated" in card.text and "model-index" not in card.content
    assert card.data.eval_results is None and card.data.pipeline_tag == "image-to-text"
    assert "9: the cells of a 3 x 3 grid" in card.text and "resized to 64 x 64 pixels" in card.text
    assert "Not recorded in this folder." in card.text
    assert not re.search(r"{{|{%|None|Undefined", card.content)


def test_card_shows_exactly_what_was_measured(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    train = {"objective": "self_critical", "epochs": 2}
    recipe = {"data_name": "Flickr8k", "seed": 3, "train": train, "init_from": "runs/before"}
    (run / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    publish_folder(edited(saved, run / "best"), tmp_path / "hub", repo_id="someone/tiny")
    card = ModelCard.load(tmp_path / "hub" / "README.md")
    results = {result.metric_type: result for result in card.data.eval_results or []}
    assert {name: result.metric_value for name, result in results.items()} == {"bleu_4": 21.34, "cider_d": 55.018}
    assert results["bleu_4"].dataset_name == "Flickr8k" and results["bleu_4"].dataset_split == "test"
    assert "| BLEU-4 (x100) | 21.34 |\n| CIDEr-D (x100) | 55.02 |" in card.text
    assert "| SPICE | not computed: Java is not installed |" in card.text
    assert EVALUATION["command"] in card.text and "1000 photos, seed 0, num_beams 5." in card.text
    for fact in ("Data: Flickr8k", "Objective: self-critical", "Epochs: 2", "Seed: 3", "a model trained before"):
        assert fact in card.text
    kept = json.loads((tmp_path / "hub" / "evaluation.json").read_text())
    assert kept["metrics"] == EVALUATION["metrics"] and kept["training"]["Epochs"] == "2"
    publish_folder(tmp_path / "hub", tmp_path / "again", repo_id="someone/tiny")  # a Hub folder is a saved folder too
    assert (tmp_path / "again" / "README.md").read_text() == card.content


def test_region_facts_of_other_sources(tmp_path: Path) -> None:
    fields = {"backbone": "vit_tiny_patch16_224", "regions": "pyramid", "pyramid_levels": [1, 3]}
    owned = modeling_updown.UpDownCaptioningConfig(vision_config=modeling_updown.UpDownGridConfig(**fields))
    assert region_facts(owned, tmp_path)["Regions a photo"] == "10: the boxes of a spatial pyramid, 1 x 1 + 3 x 3"
    without = modeling_updown.UpDownCaptioningConfig(region_feature_size=77)
    assert region_facts(without, tmp_path)["Region source"].endswith("region features of width 77")


def test_template_is_found_in_the_checkout() -> None:
    assert template_path().parts[-2:] == ("hub_cards", "card_template.md")


def test_a_difference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_same({"score": 0.50001, "words": ["a"]}, {"score": 0.50002, "words": ["a"]})
    assert not is_same({"score": 0.5}, {"score": 0.501}) and not is_same(["a"], ["a", "b"]) and not is_same(1, "1")
    found = {"classes": {}, "tasks": {"image-to-text": [{"generated_text": "a dog"}]}}
    loaded = subprocess.CompletedProcess([], 0, stdout="a note\n" + json.dumps(found), stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: loaded)
    check_published("folder", expected=found)
    with pytest.raises(ValueError, match="folder gives .*a dog.* but the model it was made from .*a cat"):
        check_published("folder", expected={"classes": {}, "tasks": {"image-to-text": [{"generated_text": "a cat"}]}})


def test_a_folder_that_does_not_load_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback ...\nImportError: no processors")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(ValueError, match="folder does not load without this package: ImportError: no processors"):
        check_published("folder", expected={"classes": {}, "tasks": {}})


@pytest.mark.parametrize("name", ["modeling_updown", "processors.tokenization_updown", "training"])
def test_the_check_runs_without_our_package(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"{BLOCKED}import {name}"], env=STRANGER, capture_output=True, text=True
    )
    assert run.returncode == 1 and f"the published code imports {name.split('.')[0]}, which others" in run.stderr


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("config.json", "holds no config.json: give a folder that model.save_pretrained wrote"),
        ("model.safetensors", "holds no .safetensors"),
        ("processor_config.json", "holds no processor: call processor.save_pretrained"),
    ],
)
def test_incomplete_folders_are_refused(saved: Path, tmp_path: Path, removed: str, message: str) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(saved, folder)
    (folder / removed).unlink()
    with pytest.raises(ValueError, match=message):
        push(folder, "someone/tiny", dry_run=True, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_peoples_models_are_refused(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(saved, folder)
    transformers.BertConfig().save_pretrained(folder)
    with pytest.raises(ValueError, match="holds a 'bert' model, which is none of UpDown's"):
        publish_folder(folder, tmp_path / "out", repo_id="someone/bert")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"bleu_4_x100": float("nan")}}, "bleu_4_x100 is no figure"),
        ({"metrics": {"bleu_4_x100": "21.3"}}, "bleu_4_x100 is no figure"),
        ({"dataset": {"name": "Flickr8k"}}, "its dataset has no type, its dataset has no split"),
        ({"metrics": [21.3]}, "not in the layout"),
    ],
)
def test_dubious_figures_are_refused(saved: Path, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        publish_folder(edited(saved, tmp_path / "model", **change), tmp_path / "out", repo_id="someone/tiny")
    assert not (tmp_path / "out").exists()


def test_nothing_else_is_overwritten(saved: Path, published: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is the model's own folder"):
        publish_folder(saved, saved, repo_id="someone/tiny")
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds more than an earlier Hub folder .chapter.tex."):
        publish_folder(saved, other, repo_id="someone/tiny")
    assert [path.name for path in other.iterdir()] == ["chapter.tex"]
    earlier = tmp_path / "earlier"
    shutil.copytree(published, earlier)
    (earlier / "old_updown.py").write_text("")
    publish_folder(saved, earlier, repo_id="someone/tiny")
    assert {path.name for path in earlier.iterdir()} == {path.name for path in published.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == {"thesis", "earlier"}  # no scratch folder stays


def test_wrong_arguments(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write NAME or OWNER/NAME"):
        push(saved, "a/b/c", dry_run=True, output=tmp_path / "out")
    with pytest.raises(ValueError, match="add --output FOLDER"):
        push(saved, "someone/tiny", dry_run=True)
    with pytest.raises(ValueError, match="there is no evaluation at nowhere.json"):
        push(saved, "someone/tiny", dry_run=True, output=tmp_path / "out", evaluation="nowhere.json")


def test_upload_and_load_back(saved: Path, tmp_path: Path) -> None:
    """`updown push` in a process of its own: huggingface_hub reads where the Hub is when it is first imported."""
    command = [sys.executable, "-m", "training.cli", "push", str(saved), "someone/tiny"]
    command += ["--output", str(tmp_path / "kept")]
    with HubStub() as stub:
        online = {"HF_ENDPOINT": stub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_stub", "NO_PROXY": "127.0.0.1"}
        online |= {"HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}
        run = subprocess.run(
            command, cwd=Path(__file__).parents[2], env=os.environ | online, capture_output=True, text=True
        )
    assert run.returncode == 0, run.stderr
    assert "loaded someone/tiny back from the Hub: the same outputs" in run.stderr
    assert run.stdout == f"published: {stub.address}/someone/tiny/commit/{stub.last_commit}\n"
    assert stub.files == {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}


class BrokenHub:
    """Takes the name of a repository, and breaks off when files come."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> SimpleNamespace:
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, **arguments: Any) -> None:
        raise ConnectionResetError("connection reset\nby peer")


def test_broken_upload_loses_nothing(
    saved: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    monkeypatch.setattr(push_to_hub, "HfApi", BrokenHub)
    monkeypatch.setattr(push_to_hub, "check_published", lambda model, **options: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConnectionError, match="failed .connection reset by peer.; .*tiny holds the finished folder"):
        push(saved, "someone/tiny")
    (kept,) = tmp_path.glob("updown-push-*/tiny")
    assert {path.name for path in kept.iterdir()} == {path.name for path in published.iterdir()}
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
