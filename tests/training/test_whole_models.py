"""No door of ours takes a model that lacks weights, and each names one: random ones in their place answer noise."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForImageTextToText, AutoModelForMaskedLM, pipeline

from modeling_updown import (
    UpDownFusionForImagePairs,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForVisualEntailment,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
    UpDownPrefixLMForImageCaptioning,
)
from tests.tiny import (
    drop_weights,
    rewrite_weights,
    save_tiny_captioner,
    save_tiny_retrieval,
    save_tiny_vqa,
    tiny_detector,
    tiny_encoder_config,
    tiny_entailment,
    tiny_fusion,
    tiny_fusion_processor,
    tiny_image,
    tiny_masked_lm,
    tiny_processor,
    tiny_text_config,
)
from tests.training.tiny_run import (
    new_accelerator,
    tiny_detection_recipe,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_vqa_recipe,
)
from training.cli import main
from training.tasks import build_task
from training.tasks.build import load_region_source, load_with_new_heads


def save_tiny_detector(folder: Path) -> Path:
    """`save_pretrained` of the Caffe-style detector and its image processor into one folder, which is returned."""
    tiny_detector().save_pretrained(folder)
    tiny_processor().image_processor.save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    tiny_image().save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def cut_short(folder: Path, name: str) -> None:
    """Halve a saved weight's first axis."""
    rewrite_weights(folder, lambda w: w | {name: w[name][: len(w[name]) // 2].clone()})


def damage_file(folder: Path, name: str) -> None:
    """Cut the file of weights short."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def remove_file(folder: Path, name: str) -> None:
    """Take the file of weights away."""
    (folder / "model.safetensors").unlink()


COMMANDS: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "caption": (save_tiny_captioner, "lm_head.weight", ["caption", "IMAGE", "--model", "MODEL"]),
    "ask": (save_tiny_vqa, "answers.weight", ["ask", "IMAGE", "what is it?", "--model", "MODEL"]),
    "detect": (save_tiny_detector, "heads.object_score.weight", ["detect", "IMAGE", "--model", "MODEL"]),
    "extract": (
        save_tiny_captioner,
        "region_source.backbone.bn1.running_mean",
        ["extract", "FOLDER", "--source", "MODEL", "--output", "OUT"],
    ),
    "index": (
        save_tiny_retrieval,
        "image_projection.weight",
        ["index", "FOLDER", "--model", "MODEL", "--output", "OUT"],
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (drop_weights, "{model} lacks 1 weight of .*{name}"),
        (cut_short, "{model} holds 1 weights? in other shapes .*{name}"),
        (damage_file, "the weights in {model} are damaged"),
        (remove_file, "({model} holds no weights, such as a|.*no file named) model.safetensors"),
    ],
    ids=["missing", "cut short", "damaged", "absent"],
)
def test_commands_refuse_a_model_without_its_weights(
    command: str, damage: Any, told: str, image: Path, tmp_path: Path, capsys: Any
) -> None:
    save, name, words = COMMANDS[command]
    model, out = save(tmp_path / "model"), tmp_path / "out"
    places = {"IMAGE": str(image), "FOLDER": str(tmp_path), "MODEL": str(model), "OUT": str(out)}
    arguments = [places.get(word, word) for word in words]
    assert main(arguments) == 0
    out.rename(tmp_path / "before") if out.exists() else None
    capsys.readouterr()
    damage(model, name)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("\n") == 1
    assert re.match(f"updown {command}: {told.format(model=model, name=name)}", printed.err)
    assert not out.exists()


PIPELINES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "image-to-text": (save_tiny_captioner, "language_lstm.weight"),
    "visual-question-answering": (save_tiny_vqa, "answers.bias"),
    "object-detection": (save_tiny_detector, "proposals.conv.weight"),
    "zero-shot-image-classification": (save_tiny_retrieval, "text_projection.weight"),
}


@pytest.mark.parametrize("task", PIPELINES)
def test_pipelines_refuse_a_model_without_its_weights(task: str, tmp_path: Path) -> None:
    save, name = PIPELINES[task]
    folder = save(tmp_path / "model")
    assert pipeline(task, model=str(folder))
    drop_weights(folder, name)
    with pytest.raises(ValueError, match=name) as caught:
        pipeline(task, model=str(folder))
    if task in ("image-to-text", "visual-question-answering"):
        assert str(caught.value).startswith(f"{folder} lacks 1 weight of") and "Traceback" not in str(caught.value)


def test_a_fusion_model_runs_in_no_pipeline_of_a_head_that_it_lacks(tmp_path: Path) -> None:
    tiny_fusion().save_pretrained(tmp_path)
    tiny_fusion_processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="lacks 4 weights of UpDownFusionForMaskedLM, such as word_head"):
        pipeline("fill-mask", model=str(tmp_path))


def test_a_built_model_runs_in_a_pipeline_whatever_it_was_loaded_from(tmp_path: Path) -> None:
    folder = save_tiny_captioner(tmp_path)
    drop_weights(folder, "lm_head.bias")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    captioner = pipeline("image-to-text", model=model, processor=tiny_processor())
    assert captioner(tiny_image())[0]["generated_text"]


def test_counts_of_batches_may_be_missing(image: Path, tmp_path: Path, capsys: Any) -> None:
    folder = save_tiny_captioner(tmp_path / "model")
    assert main(["caption", str(image), "--model", str(folder)]) == 0
    before = capsys.readouterr().out
    rewrite_weights(folder, lambda w: {name: tensor for name, tensor in w.items() if tensor.is_floating_point()})
    assert main(["caption", str(image), "--model", str(folder)]) == 0
    assert capsys.readouterr().out == before


def test_a_new_head_on_purpose_is_new_and_what_was_there_is_loaded(tmp_path: Path) -> None:
    fusion = tiny_fusion()
    fusion.save_pretrained(tmp_path)
    model, info = UpDownFusionForVisualQuestionAnswering.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] and not any(name.startswith("fusion.") for name in info["missing_keys"])
    for name, tensor in fusion.state_dict().items():
        assert torch.equal(model.fusion.state_dict()[name], tensor)


def test_training_adds_heads_but_takes_no_damaged_start(tmp_path: Path) -> None:
    tiny_fusion().save_pretrained(tmp_path / "fusion")
    model = load_with_new_heads(UpDownFusionForImageTextRetrieval, str(tmp_path / "fusion"))
    assert model.config.weight("itm") and hasattr(model, "match_head")
    only_itc = save_tiny_retrieval(tmp_path / "itc", objectives={"itc": 1.0})
    objectives = {"itc": 1.0, "itm": 1.0}
    model = load_with_new_heads(UpDownFusionForImageTextRetrieval, str(only_itc), objectives=objectives)
    assert hasattr(model, "match_head")
    for folder, name in (("fusion", "region_embedding"), ("itc", "text_projection.weight")):
        drop_weights(tmp_path / folder, name)
        with pytest.raises(ValueError, match=rf"lacks \d+ weights? .* such as .*{name}"):
            load_with_new_heads(UpDownFusionForImageTextRetrieval, str(tmp_path / folder), objectives=objectives)


def test_another_tasks_head_of_the_same_names_starts_anew_and_the_encoder_does_not(tmp_path: Path) -> None:
    """Entailment has three answers and pairs two; regions of another width are no matter of the head."""
    tiny_entailment(image_pairs="triplet").save_pretrained(tmp_path / "entailment")
    start = load_file(tmp_path / "entailment" / "model.safetensors")
    fields: dict[str, Any] = {"id2label": {0: "false", 1: "true"}, "num_images": 2}
    model = load_with_new_heads(UpDownFusionForImagePairs, str(tmp_path / "entailment"), **fields)
    weights = model.state_dict()
    assert len(weights["answers.bias"]) == 2
    encoder = [name for name in weights if name.startswith("fusion.text_model")]
    assert encoder and all(torch.equal(weights[name], start[name]) for name in encoder)
    with pytest.raises(ValueError, match="region_embedding"):
        load_with_new_heads(UpDownFusionForImagePairs, str(tmp_path / "entailment"), region_feature_size=9, **fields)
    with pytest.raises(RuntimeError):  # a head of the same task is not thrown away for the recipe's sake
        load_with_new_heads(UpDownFusionForVisualEntailment, str(tmp_path / "entailment"), **fields)


def test_a_pretrained_text_model_is_whole_but_for_what_is_not_used(tmp_path: Path) -> None:
    words = AutoModelForMaskedLM.from_config(tiny_encoder_config())  # which has no pooler
    words.save_pretrained(tmp_path)
    model = UpDownFusionModel.from_text_pretrained(str(tmp_path), region_feature_size=8)
    for name, tensor in model.text_model.state_dict().items():
        assert torch.equal(tensor, words.bert.state_dict()[name])
    drop_weights(tmp_path, "bert.encoder.layer.1.output.dense.bias")
    with pytest.raises(ValueError, match=r"lacks 1 weight of BertModel, such as encoder.layer.1.output.dense.bias"):
        UpDownFusionModel.from_text_pretrained(str(tmp_path), region_feature_size=8)


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    AutoModel.from_config(tiny_text_config("llama")).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks 1 weight of LlamaForCausalLM, such as lm_head.weight"):
        UpDownPrefixLMForImageCaptioning.from_text_pretrained(tmp_path, region_feature_size=8)


@pytest.mark.parametrize(
    ("recipe", "save", "name"),
    [
        (tiny_recipe, save_tiny_captioner, "attention_lstm_word.weight"),
        (tiny_vqa_recipe, save_tiny_vqa, "answers.bias"),
        (tiny_retrieval_recipe, save_tiny_retrieval, "match_head"),
        (tiny_detection_recipe, save_tiny_detector, "heads.attribute_score.bias"),
    ],
    ids=["captioning", "vqa", "retrieval", "detection"],
)
def test_no_task_scores_or_starts_from_a_damaged_model(recipe: Any, save: Any, name: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "model")
    task = build_task(recipe(tmp_path), new_accelerator())
    task.load(folder)
    drop_weights(folder, name)
    for take in (task.load, task.start_from):
        with pytest.raises(ValueError, match=rf"{folder} lacks \d weights? of .*, such as {name}"):
            take(str(folder))


def test_a_region_source_comes_from_a_model_of_any_head_but_whole(tmp_path: Path) -> None:
    tiny_masked_lm().save_pretrained(tmp_path)
    assert isinstance(load_region_source(str(tmp_path)), torch.nn.Module)
    drop_weights(tmp_path, "fusion.region_source.backbone.conv1")
    with pytest.raises(ValueError, match=r"lacks \d+ weights? .* such as fusion.region_source.backbone.conv1"):
        load_region_source(str(tmp_path))


def test_a_start_that_says_nothing_of_its_class_is_refused(tmp_path: Path) -> None:
    tiny_fusion().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match="names .'BertModel'. as the class of the model"):
        load_with_new_heads(UpDownFusionForImageTextRetrieval, str(tmp_path))
