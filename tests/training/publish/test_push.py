"""What is published loads everywhere, says only what was measured, and costs nothing local when the upload breaks."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers.dynamic_module_utils import get_imports

import modeling_updown
from tests import fresh_python, tiny
from tests.training.publish.hub_stub import HubStub
from training.publish import check
from training.publish import push as publishing
from training.publish.check import drawn_image
from training.publish.push import check_published, is_same, outputs_here, publish_folder, push

# what published code may ask of a stranger's environment: the rest comes with these
ALLOWED_IMPORTS = {"torch", "torchvision", "timm", "transformers", "tokenizers", "safetensors", "numpy", "PIL"}
GUARDED_IMPORTS = {"clip_decoding_updown.py": {"av", "torchcodec"}}  # inside a try, for clips alone
EVALUATION = {
    "task": "image-to-text",
    "dataset": {"name": "Flickr8k", "type": "flickr8k", "split": "test", "num_photos": 1000},
    "command": "updown evaluate training/recipes/captioning/flickr8k.yaml",
    "seed": 0,
    "decoding": {"num_beams": 5},
    "metrics": {"bleu_4_x100": 21.34, "cider_d_x100": 55.018},
    "not_computed": {"spice": "Java is not installed"},
}


# the start of a program in which our package cannot be imported, and where that program finds `check`
BLOCKED = "import sys, check; sys.meta_path.insert(0, check.OwnPackageBlocker())\n"
STRANGER = {**os.environ, "PYTHONPATH": str(Path(check.__file__).parent)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny captioner as `save_pretrained` leaves it, with what training may leave beside it."""
    folder = tiny.save_tiny_captioner(tmp_path_factory.mktemp("saved"))
    (folder / "optimizer.bin").write_bytes(b"training state")
    return folder


@pytest.fixture(scope="module")
def published(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Hub folder, after a dry run: it has been loaded without our package, and compared."""
    return dry_run(saved, tmp_path_factory.mktemp("published") / "tiny")


@pytest.fixture(scope="module")
def published_vqa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub folder of a tiny question answerer, after a dry run."""
    folder = tiny.save_tiny_vqa(
        tmp_path_factory.mktemp("saved-vqa"), counted_objects=3, weight_norm=True, activation="relu"
    )
    return dry_run(folder, tmp_path_factory.mktemp("published-vqa") / "tiny")


@pytest.fixture(scope="module")
def saved_retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny retrieval model made of a text encoder in some folder; its tokenizer tells segments, as BERT's."""
    folder = tiny.save_tiny_retrieval(tmp_path_factory.mktemp("saved-retrieval"), objectives={"itc": 1, "itm": 1})
    tokenizer = tiny.tiny_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    modeling_updown.UpDownProcessor(tiny.tiny_fusion_processor().image_processor, tokenizer).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["_name_or_path"] = "/models/minilm"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "spiece.model").write_bytes(b"words")
    return folder


@pytest.fixture(scope="module")
def published_retrieval(saved_retrieval: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Hub folder, after a dry run."""
    return dry_run(saved_retrieval, tmp_path_factory.mktemp("found") / "tiny_retrieval")


@pytest.fixture(scope="module")
def published_prefix_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hub folder of a tiny prefix language model, after a dry run."""
    folder = tiny.save_tiny_prefix_lm(tmp_path_factory.mktemp("saved-prefix"))
    return dry_run(folder, tmp_path_factory.mktemp("written") / "tiny_prefix")


def dry_run(folder: Path, output: Path, **options: Any) -> Path:
    """`push` without the upload; the folder is loaded without our package in a fork, see `fresh_python`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "subprocess", fresh_python)
        assert push(folder, "someone/tiny", dry_run=True, output=output, **options) == output
    return output


def run_as_stranger(
    program: str, folder: Path, *, run: Callable[..., Any] = fresh_python.run
) -> subprocess.CompletedProcess[str]:
    """A program where our package cannot be imported, beside a `photo.jpg`; `run`: in a fork or a new interpreter."""
    drawn_image().save(folder / "photo.jpg", quality=95)
    modules = {"HF_MODULES_CACHE": str(folder / "modules")}
    done = run(
        [sys.executable, "-c", BLOCKED + program], cwd=folder, env=STRANGER | modules, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def python_lines(card: Path) -> str:
    """The program on a card."""
    return re.findall(r"```python\n(.*?)```", card.read_text(), flags=re.DOTALL)[0]


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
    code = {"pipeline_captioning.py", "modeling_grid.py", "image_processing_updown.py", "tokenization_updown.py"}
    assert weights_and_words | processors | code | {"README.md"} <= names
    assert not {"optimizer.bin", "__init__.py", "registration_updown.py"} & names
    assert not {"modeling_detector.py", "resnet_updown.py", "kernels_updown.py"} & names
    assert (published / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()


def test_half_weights_load_as_float32(saved: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(saved, run / "best")
    (run / "recipe.yaml").write_text("data_name: drawn scenes\nseed: 3\n")
    made = dry_run(run / "best", tmp_path / "tiny", half=True)
    full, half = load_file(saved / "model.safetensors"), load_file(made / "model.safetensors")
    assert {tensor.dtype for tensor in half.values() if tensor.is_floating_point()} == {torch.float16}
    loaded = modeling_updown.UpDownForImageCaptioning.from_pretrained(made)
    assert loaded.dtype == torch.float32
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, full[name], atol=1e-4, rtol=1e-3)
    assert "Data: drawn scenes" in (made / "README.md").read_text()


def test_every_class_is_named(published: Path) -> None:
    config = json.loads((published / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_updown.UpDownCaptioningConfig",
        "AutoModelForImageTextToText": "modeling_captioning.UpDownForImageCaptioning",
    }
    assert config["custom_pipelines"] == {
        "image-to-text": {
            "impl": "pipeline_captioning.UpDownImageToTextPipeline",
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
            assert roots <= ALLOWED_IMPORTS | {"huggingface_hub"} | GUARDED_IMPORTS.get(path.name, set()), path


def test_hub_folder_of_a_retrieval_model(saved_retrieval: Path, published_retrieval: Path) -> None:
    """Of the heads that the config has, the saved one alone is named; training's own files stay behind."""
    config = json.loads((published_retrieval / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_text_updown.UpDownFusionConfig",
        "AutoModel": "modeling_fusion.UpDownFusionModel",
        "AutoModelForZeroShotImageClassification": "modeling_retrieval.UpDownFusionForImageTextRetrieval",
    }
    assert config["custom_pipelines"] == {}
    assert config["text_config"]["_name_or_path"] == "" and config["text_config"]["hidden_size"] == 32
    before = json.loads((saved_retrieval / "tokenizer_config.json").read_text())
    assert json.loads((published_retrieval / "tokenizer_config.json").read_text()) == before
    code = {path.stem for path in published_retrieval.glob("*.py")}
    assert {"modeling_retrieval", "modeling_fusion", "losses_updown"} <= code
    trained_with = {"momentum_updown", "masking_updown", "modeling_pretraining", "modeling_fusion_vqa"}
    assert not code & {*trained_with, "pipeline_vqa", "tokenization_updown", "drawing_retrieval_updown"}
    assert (published_retrieval / "spiece.model").is_file() and (published_retrieval / "tokenizer.json").is_file()
    assert not any("/models/" in path.read_text() for path in published_retrieval.glob("*.[jm][sd]*"))


@pytest.mark.parametrize("kind", ["published_retrieval", "published_prefix_lm"])
def test_transformers_asks_for_no_unusual_library(kind: str, request: pytest.FixtureRequest) -> None:
    """`peft`, which adapters take, is imported where it is needed alone, so that the check of imports lets it pass."""
    for path in request.getfixturevalue(kind).glob("*.py"):
        roots = set(get_imports(path)) - set(sys.stdlib_module_names)
        assert roots <= ALLOWED_IMPORTS | {"huggingface_hub"}, path


def test_a_stranger_compares_and_matches(saved_retrieval: Path, published_retrieval: Path, tmp_path: Path) -> None:
    """The card's lines give what the model here gives."""
    lines = python_lines(published_retrieval / "README.md").replace("someone/tiny", str(published_retrieval))
    run = run_as_stranger(lines, tmp_path)
    similarity, match, chosen = map(ast.literal_eval, run.stdout.splitlines())
    processor = modeling_updown.UpDownProcessor.from_pretrained(saved_retrieval)
    model = modeling_updown.UpDownFusionForImageTextRetrieval.from_pretrained(saved_retrieval)
    sentences = ["two dogs on a beach", "a child plays with a ball"]
    inputs = processor(images=str(tmp_path / "photo.jpg"), text=sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
        assert inputs.pop("token_type_ids").shape == inputs["input_ids"].shape
        expected = model.match(**inputs).sigmoid()
    cosines = output.image_embeds @ output.text_embeds.T
    torch.testing.assert_close(torch.tensor(similarity), cosines[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(match), expected, atol=1e-5, rtol=0)
    scores = dict(zip(sentences, output.logits_per_image[0].softmax(0).tolist(), strict=True))
    assert is_same({found["label"]: found["score"] for found in chosen}, scores) and scores[chosen[0]["label"]] >= 0.5


@pytest.mark.parametrize("trust", [None, False, True])
def test_installed_package_chooses_with_and_without_the_flag(published_retrieval: Path, trust: bool | None) -> None:
    choose = transformers.pipeline(
        "zero-shot-image-classification", model=str(published_retrieval), trust_remote_code=trust
    )
    assert type(choose.model).__name__ == "UpDownFusionForImageTextRetrieval"
    assert {found["label"] for found in choose(drawn_image(), candidate_labels=["a", "b"])} == {"a", "b"}


def test_a_stranger_without_peft_captions_by_a_prefix(published_prefix_lm: Path, tmp_path: Path) -> None:
    config = json.loads((published_prefix_lm / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_text_updown.UpDownPrefixLMConfig",
        "AutoModelForImageTextToText": "modeling_prefix_lm.UpDownPrefixLMForImageCaptioning",
    }
    assert list(config["custom_pipelines"]) == ["image-to-text"]
    lines = python_lines(published_prefix_lm / "README.md").replace("someone/tiny", str(published_prefix_lm))
    run = run_as_stranger("sys.modules['peft'] = None\n" + lines, tmp_path, run=subprocess.run)
    describe = transformers.pipeline("image-to-text", model=str(published_prefix_lm))
    assert ast.literal_eval(run.stdout) == describe(str(tmp_path / "photo.jpg"))
    assert len(describe(drawn_image())[0]["generated_text"].split()) > 1


def test_the_other_fusion_heads_give_a_stranger_the_same(tmp_path: Path) -> None:
    """Published, and loaded without our package in one interpreter; the base model loads from each of them."""
    folders = {
        "AutoModelForVisualQuestionAnswering": tiny.save_tiny_fusion_vqa(tmp_path / "saved_vqa"),
        "AutoModelForZeroShotObjectDetection": tiny.save_tiny_grounding(tmp_path / "saved_grounding"),
        "AutoModelForSequenceClassification": tiny.save_tiny_entailment(tmp_path / "saved_entailment"),
        "AutoModelForNextSentencePrediction": tiny.save_tiny_pairs(tmp_path / "saved_pairs"),
        "AutoModelForMultipleChoice": tiny.save_tiny_multiple_choice(tmp_path / "saved_choices"),
    }
    for auto, model in (
        ("AutoModelForDocumentQuestionAnswering", tiny.tiny_reading(vision_config=tiny.tiny_grid_config())),
        ("AutoModelForVideoClassification", tiny.tiny_moments(vision_config=tiny.tiny_grid_config())),
        ("AutoModelForPreTraining", tiny.tiny_pretraining()),
        ("AutoModelForMaskedLM", tiny.tiny_masked_lm()),
    ):
        folders[auto] = tmp_path / f"saved_{auto}"
        model.save_pretrained(folders[auto])
        tiny.tiny_fusion_processor().save_pretrained(folders[auto])
    program, expected = "import json\n", []
    for auto, folder in folders.items():
        made = tmp_path / auto
        publish_folder(folder, made, repo_id="someone/tiny")
        loaders = sorted(json.loads((made / "config.json").read_text())["auto_map"])
        assert loaders == ["AutoConfig", "AutoModel", auto]
        expected.append(outputs_here(folder))
        options = f"auto_classes={loaders!r}, tasks={list(expected[-1]['tasks'])!r}, trust=True"
        program += f"print(json.dumps(check.outputs_of({str(made)!r}, {options})))\n"
    found = [json.loads(line) for line in run_as_stranger(program, tmp_path).stdout.splitlines()]
    assert is_same(found, expected)
    vqa, grounding, entailment, pairs, choices, reading, moments, pretraining, masked_lm = expected
    judged = entailment["tasks"]["visual-entailment"]
    assert [one["sequence"] for one in judged] == ["a red circle is there", "nothing is there"]
    assert sorted(judged[0]["labels"]) == ["contradiction", "entailment", "neutral"]
    assert sorted(pairs["tasks"]["visual-reasoning"]["labels"]) == ["false", "true"]
    assert len(choices["outputs"]["AutoModelForMultipleChoice"]["logits"]) == 2
    assert sorted(choices["tasks"]["visual-multiple-choice"]["labels"]) == ["a red circle", "two dogs"]
    assert list(grounding["tasks"]) == ["phrase-grounding", "zero-shot-object-detection"]
    assert [one["phrase"] for one in grounding["tasks"]["phrase-grounding"]] == ["a red circle", "a dog"]
    assert {one["label"] for one in grounding["tasks"]["zero-shot-object-detection"]} == {"a red circle", "a dog"}
    assert vqa["classes"]["AutoModelForVisualQuestionAnswering"] == "UpDownFusionForVisualQuestionAnswering"
    assert list(vqa["tasks"]) == ["visual-question-answering"] and not pretraining["tasks"] and not masked_lm["tasks"]
    assert len(moments["outputs"]["AutoModelForVideoClassification"]["pred_spans"]) == 20
    assert [len(spans) for spans in moments["tasks"]["moment-retrieval"]] == [5, 5]
    assert {"logits", "ocr_boxes"} <= {*reading["outputs"]["AutoModelForDocumentQuestionAnswering"]}
    made = pretraining["outputs"]["AutoModelForPreTraining"]
    assert {"image_embeds", "logits", "object_logits", "region_predictions", "match"} <= {*made}
    for outputs in (one["outputs"] for one in expected):
        assert len(outputs["AutoModel"]["pooler_output"]) == 32


def test_an_auto_class_without_its_weights_is_noticed(saved_retrieval: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved_retrieval, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["UpDownFusionForMaskedLM"]}))
    with pytest.raises(ValueError, match=r"lacks 4 weights of UpDownFusionForMaskedLM, such as word_head.*architectur"):
        push(folder, "someone/tiny", dry_run=True, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("architectures", "message"),
    [(None, "names nothing as the class"), (["BertModel"], "names BertModel as the class .* it must be one of UpDown")],
)
def test_a_head_that_is_not_named_is_refused(
    saved_retrieval: Path, tmp_path: Path, architectures: list[str] | None, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved_retrieval, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": architectures}))
    with pytest.raises(ValueError, match=message):
        publish_folder(folder, tmp_path / "out", repo_id="someone/tiny")


def test_an_ablation_goes_along(saved_retrieval: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved_retrieval, folder)
    table = {"title": "What each adds", "columns": ["objectives", "R@10"], "rows": [["ITC", 61.2]]}
    (folder / "ablation.json").write_text(json.dumps(table))
    for _ in range(2):  # a Hub folder with it is an earlier one of ours
        publish_folder(folder, tmp_path / "published", repo_id="someone/tiny")
    assert json.loads((tmp_path / "published" / "ablation.json").read_text()) == table
    assert "### What each adds" in (tmp_path / "published" / "README.md").read_text()
    (folder / "ablation.json").write_text(json.dumps(table | {"rows": [["ITC"]]}))
    with pytest.raises(ValueError, match="row 1 must be a list of 2 cells"):
        publish_folder(folder, tmp_path / "other", repo_id="someone/tiny")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("trust", [None, False, True])
def test_installed_package_loads_it_with_and_without_the_flag(saved: Path, published: Path, trust: bool | None) -> None:
    expected = transformers.pipeline("image-to-text", model=str(saved))(drawn_image())
    found = transformers.pipeline("image-to-text", model=str(published), trust_remote_code=trust)(drawn_image())
    assert found == expected and len(found[0]["generated_text"].split()) > 1
    for auto in ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer"):
        thing = getattr(transformers, auto).from_pretrained(published, trust_remote_code=trust)
        assert type(thing).__name__.startswith("UpDown")
        # without the flag the installed class, never the folder's; with it transformers may take either
        assert trust or isinstance(thing, getattr(modeling_updown, type(thing).__name__))


def test_the_cards_lines_run_for_a_stranger(published: Path, tmp_path: Path) -> None:
    lines = python_lines(published / "README.md")
    assert len(lines.strip().splitlines()) == 3
    run = run_as_stranger(lines.replace("someone/tiny", str(published)), tmp_path)
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
    assert {"pipeline_vqa", "pipeline_questions", "pipeline_images", "answer_text_updown", "counting_updown"} <= code
    assert not {"pipeline_captioning", "modeling_captioning", "drawing_updown", "registration_updown"} & code
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
    assert len(ask(drawn_image(), "is it?")) == 5


def test_a_stranger_asks_it(published_vqa: Path, tmp_path: Path) -> None:
    """The card's lines, and choices, which are looked up after the official normalisation."""
    lines = python_lines(published_vqa / "README.md")
    chosen = (
        'found = ask("photo.jpg", "is it?", choices=["Yes!", "Two"]); print({a["answer"]: a["score"] for a in found})'
    )
    run = run_as_stranger(lines.replace("someone/tiny", str(published_vqa)) + chosen, tmp_path)
    ask = transformers.pipeline("visual-question-answering", model=str(published_vqa))
    best, *others = ask(str(tmp_path / "photo.jpg"), "how many dogs are there?")
    first, *_, last = run.stdout.splitlines()
    assert is_same(ast.literal_eval(first), [best, *others][:3])
    scores = {answer["answer"]: answer["score"] for answer in ask(str(tmp_path / "photo.jpg"), "is it?", top_k=6)}
    assert is_same(ast.literal_eval(last), {"Yes!": scores["yes"], "Two": scores["2"]})


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
    assert EVALUATION["command"] in card.text and "1000 images, seed 0, num_beams 5." in card.text
    for fact in ("Data: Flickr8k", "Objective: self-critical", "Epochs: 2", "Seed: 3", "a model trained before"):
        assert fact in card.text
    kept = json.loads((tmp_path / "hub" / "evaluation.json").read_text())
    assert kept["metrics"] == EVALUATION["metrics"] and kept["training"]["Epochs"] == "2"
    publish_folder(tmp_path / "hub", tmp_path / "again", repo_id="someone/tiny")  # a Hub folder is a saved folder too
    assert (tmp_path / "again" / "README.md").read_text() == card.content


def test_a_difference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_same({"score": 0.50001, "words": ["a"]}, {"score": 0.50002, "words": ["a"]})
    assert not is_same({"score": 0.5}, {"score": 0.501}) and not is_same(["a"], ["a", "b"]) and not is_same(1, "1")
    found = {"classes": {}, "tasks": {"image-to-text": [{"generated_text": "a dog"}]}}
    loaded = subprocess.CompletedProcess([], 0, stdout="a note\n" + json.dumps(found), stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: loaded)
    check_published("folder", expected=found)
    with pytest.raises(
        ValueError, match="folder gives as outputs.tasks.image-to-text .*a dog.* but the model it was made from .*a cat"
    ):
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
    with pytest.raises(ValueError, match="holds a 'bert' model, which is not one of UpDown's"):
        publish_folder(folder, tmp_path / "out", repo_id="someone/bert")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"bleu_4_x100": float("nan")}}, "bleu_4_x100 is not a finite number"),
        ({"metrics": {"bleu_4_x100": "21.3"}}, "bleu_4_x100 is not a finite number"),
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
            command, cwd=Path(__file__).parents[3], env=os.environ | online, capture_output=True, text=True
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
    monkeypatch.setattr(publishing, "HfApi", BrokenHub)
    monkeypatch.setattr(publishing, "check_published", lambda model, **options: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConnectionError, match="failed .connection reset by peer.; .*tiny holds the finished folder"):
        push(saved, "someone/tiny")
    (kept,) = tmp_path.glob("updown-push-*/tiny")
    assert {path.name for path in kept.iterdir()} == {path.name for path in published.iterdir()}
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
