"""The card's words for each kind of model, and the tables that it takes over: nothing is made up."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import AutoConfig, PreTrainedConfig

from modeling_updown import UpDownCaptioningConfig, UpDownDetectorConfig, UpDownGridConfig, UpDownImageProcessor
from tests.tiny import (
    save_tiny_captioner,
    save_tiny_retrieval,
    save_tiny_vqa,
    tiny_captioning_config,
    tiny_fusion_config,
    tiny_image,
    tiny_prefix_lm_config,
    tiny_pyramid_detector,
    tiny_vqa_config,
)
from training.publish.card import (
    ablation,
    built_in_tasks,
    evaluation_results,
    figures,
    kinds,
    metric_name,
    region_facts,
    template_for,
    template_path,
    text_origin,
    training_facts,
    word_facts,
    write_card,
)
from training.publish.push import auto_classes, custom_pipelines
from training.tasks import TASKS

TABLE: dict[str, Any] = {
    "title": "What each objective adds",
    "columns": ["objectives", "text to image, R@10 (x100)", "seeds"],
    "rows": [["ITC", 61.256, 3], ["ITC | ITM", None, 1]],
    "note": "Trained once each.",
    "commands": ["updown evaluate one.yaml", "updown evaluate two.yaml"],
}
RETRIEVAL = ["UpDownFusionForImageTextRetrieval"]


def card_of(config: PreTrainedConfig, folder: Path, **measured: Any) -> Any:
    """The card of a folder that holds nothing but a config of that class."""
    saved = {"auto_map": auto_classes(config), "custom_pipelines": custom_pipelines(config)}
    (folder / "config.json").write_text(json.dumps(saved))
    training = measured.pop("training", {})
    write_card(folder, config, repo_id="someone/tiny", evaluation=measured, training=training)
    card = ModelCard.load(folder / "README.md")
    assert not re.search(r"{{|{%|None|Undefined|\n\n\n\n", card.content)
    return card


def save_tiny_detector(folder: Path) -> Path:
    """A tiny detector's folder, with a processor for it."""
    tiny_pyramid_detector().save_pretrained(folder)
    UpDownImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder


def write_table(folder: Path, **changes: Any) -> Path:
    """An ablation's file, with changes; a changed None is left out."""
    table = {name: value for name, value in (TABLE | changes).items() if value is not None}
    (folder / "ablation.json").write_text(json.dumps(table))
    return folder / "ablation.json"


def test_word_facts_of_a_question_answerer(tmp_path: Path) -> None:
    answers = {number: f"answer {number}" for number in range(3129)}
    config = tiny_vqa_config(
        id2label=answers, num_glimpses=2, num_attention_layers=2, attention="multiply", scores_choices=True
    )
    facts = word_facts(config, tmp_path, model="UpDownForVisualQuestionAnswering")
    assert facts["Answers"] == "3,129" and facts["Attention"] == "question times region, gated tanh layers"
    assert facts["Glimpses"] == "2" and facts["Stacked attention"] == "2 layers"
    assert facts["Counting"] == "no part of its own"
    assert facts["Multiple choice"] == "given answers are scored by their words"
    measured = {"accuracy_x100": 41.234, "wups_0.9_x100": 45.0}
    assert figures({"metrics": measured}) == [("accuracy (x100)", "41.23"), ("WUPS@0.9 (x100)", "45.00")]


def test_region_facts_of_other_sources(tmp_path: Path) -> None:
    fields = {"backbone": "vit_tiny_patch16_224", "regions": "pyramid", "pyramid_levels": [1, 3]}
    owned = UpDownCaptioningConfig(vision_config=UpDownGridConfig(**fields))
    assert region_facts(owned, tmp_path)["Regions an image"] == "10: the boxes of a spatial pyramid, 1 x 1 + 3 x 3"
    for source, said in (
        (UpDownGridConfig(grid_sizes=[1, 7]), "50: the cells of a 1 x 1 grid and of a 7 x 7 grid"),
        (
            UpDownGridConfig(grid_size=7, image_scales=[0.5, 1]),
            "98: the cells of a 7 x 7 grid of the image at 0.5 of its size and of a 7 x 7 grid",
        ),
        (
            UpDownGridConfig(regions="pyramid", pyramid_levels=[1, 2], image_scales=[0.5, 1]),
            "10: the boxes of a spatial pyramid, 1 x 1 + 2 x 2, of the image at 0.5, 1 of its size",
        ),
        (
            UpDownDetectorConfig(grid_sizes=[1, 7]),
            "50 cells (1 x 1 and 7 x 7), then 10 to 100: all whose best class is over 0.2",
        ),
        (UpDownDetectorConfig(min_regions=36, max_regions=36), "the 36 surest"),
    ):
        assert region_facts(source, tmp_path)["Regions an image"] == said
    without = UpDownCaptioningConfig(region_feature_size=77)
    assert region_facts(without, tmp_path)["Region source"].endswith("region features of width 77")
    tags = {"object_tags": 1600, "attribute_tags": 400, "tag_top_k": 20}
    named = UpDownCaptioningConfig(vision_config=None, region_feature_size=77, **tags)
    expected = "of 1,600 objects and 400 attributes, the 20 likeliest, each of width 300"
    assert region_facts(named, tmp_path)["Names beside a region's feature"] == expected
    assert "Names beside a region's feature" not in region_facts(without, tmp_path)


def test_template_is_found_in_the_checkout() -> None:
    assert template_path().parts[-2:] == ("hub_cards", "card_template.md")


def test_every_model_of_every_task_has_the_card_of_its_task() -> None:
    for name, spec in TASKS.items():
        assert {template_for(model).name for model in spec.models} == {f"{name}_card.md"}
    assert template_for("UpDownGrid").name == template_for("").name == "card_template.md"
    untrained = tiny_fusion_config(architectures=["UpDownFusionModel"])
    assert list(word_facts(untrained, Path(), model="UpDownFusionModel")) == ["Text encoder", "Vocabulary"]
    assert word_facts(UpDownGridConfig(), Path(), model="UpDownGrid") == {}


def test_metrics_of_retrieval_and_pretraining_have_names() -> None:
    measured = {
        "i2t_r1_x100": 31.25,
        "t2i_r10_x100": 60.0,
        "i2t_map_x100": 20.5,
        "t2i_median_rank": 6.0,
        "i2t_mean_rank": 21.5,
        "rsum_x100": 300.123,
        "itc_t2i_r10_x100": 58.5,
        "itc_rsum_x100": 290.0,
        "mlm_accuracy_x100": 55.5,
        "feature_fit_x100": 12.0,
    }
    assert figures({"metrics": measured}) == [
        ("image to text, R@1 (x100)", "31.25"),
        ("text to image, R@10 (x100)", "60.00"),
        ("image to text, mAP (x100)", "20.50"),
        ("text to image, median rank", "6.00"),
        ("image to text, mean rank", "21.50"),
        ("sum of the six recalls (x100)", "300.12"),
        ("text to image, R@10, before re-ranking (x100)", "58.50"),
        ("sum of the six recalls, before re-ranking (x100)", "290.00"),
        ("masked words guessed (x100)", "55.50"),
        ("variance of masked regions' features explained (x100)", "12.00"),
    ]
    assert metric_name("map_50_x100") == "AP50 (x100)" and metric_name("cider") == "CIDEr"
    dataset = {"name": "Flickr8k", "type": "karpathy", "split": "test"}
    (result,) = evaluation_results({"dataset": dataset, "metrics": {"itc_i2t_r5_x100": 1.5}}, task="other")
    assert (result.metric_type, result.metric_name) == ("itc_i2t_r5", "image to text, R@5, before re-ranking (x100)")


@pytest.mark.parametrize(
    ("objectives", "told", "untold"),
    [
        (
            {"itc": 1, "itm": 1, "mlm": 1},
            ["compared at once; the best", "get_image_features", "model.match(", "updown search", "--rerank 20"],
            ["MLM"],
        ),
        ({"itc": 1, "itm": 0}, ["compared at once.", "get_text_features", "updown index"], ["match(", "rerank", "ITM"]),
        ({"itm": 1}, ["Tells how well", "model.match("], ["get_image_features", "pipeline(", "updown search", "ITC"]),
    ],
)
def test_card_of_a_retrieval_model_tells_what_it_has_learnt(
    tmp_path: Path, objectives: dict[str, float], told: list[str], untold: list[str]
) -> None:
    config = tiny_fusion_config(objectives=objectives, architectures=RETRIEVAL, pooling="mean")
    card = card_of(config, tmp_path)
    words = " ".join(card.content.split())
    assert all(text in words for text in told) and not any(text in words for text in untold)
    assert "| Text encoder | `bert`, 2 layers of width 32, 4 heads |" in card.text
    assert ("| width 16, from the mean of all states |" in card.text) == bool(objectives.get("itc"))
    assert "Its scores are no probabilities" in card.text and "no identification" in words
    assert card.data.tags == ["updown", "updown_fusion", "region-features", "image-text-retrieval"]
    task = "zero-shot-image-classification" if objectives.get("itc") else None
    assert card.data.pipeline_tag == task
    assert built_in_tasks(config, auto_classes(config)) == ([task] if task else [])


@pytest.mark.parametrize(
    ("name", "task", "told"),
    [
        ("UpDownFusionForPreTraining", None, "| Objectives | contrast of images and texts (ITC), matching"),
        ("UpDownFusionForMaskedLM", None, "processor.tokenizer.mask_token}"),
        ("UpDownFusionModel", None, "AutoModel.from_pretrained"),
        ("UpDownFusionForVisualQuestionAnswering", "visual-question-answering", "| Answers | 6 |"),
        (
            "UpDownFusionForGrounding",
            "zero-shot-object-detection",
            "the distribution of regions by IoU, from an IoU of",
        ),
        ("UpDownFusionForVisualEntailment", "visual-entailment", "| Classes | yes, no, 2, red, at the table, brown |"),
        ("UpDownFusionForMultipleChoice", "multiple-choice", "| Candidates are read | each with its context |"),
    ],
)
def test_cards_of_the_other_fusion_models(tmp_path: Path, name: str, task: str | None, told: str) -> None:
    card = card_of(tiny_fusion_config(architectures=[name]), tmp_path)
    assert card.data.pipeline_tag == task and told in card.text
    assert "one transformer" in card.text and "top-down attention (Anderson" not in card.text
    assert "| Vocabulary | 115 tokens, special ones included |" in card.text


def test_card_of_a_dense_captioner(tmp_path: Path) -> None:
    config = tiny_captioning_config(architectures=["UpDownForDenseCaptioning"], dense_context="late", dense_rank="both")
    card = card_of(config, tmp_path)
    assert card.data.pipeline_tag == "image-to-text"
    assert "| Context of a region | the mean of its regions, read by an LSTM of its own (multiply) |" in card.text
    assert "| Boxes | moved by an LSTM that reads the sentence |" in card.text
    assert 'pipeline("dense-captioning", model="someone/tiny"' in card.text


def test_figures_of_grounding_stand_by_type_of_phrase() -> None:
    domains = {"people": {"recall_1_x100": 61.5, "recall_5_x100": 80.0, "phrases": 5321}}
    found = [("type of phrase", "R@1 at IoU 0.5 (x100)", "phrases"), ("people", "61.50", "5,321")]
    classes = {"neutral": {"accuracy_x100": 40.25, "statements": 1434}}
    assert kinds({"domains": classes})[1:] == [("neutral", "40.25", "1,434")]
    assert kinds({"domains": domains}) == found and kinds({"domains": {"a": {"cider_x100": 1.0}}}) == []


@pytest.mark.parametrize(
    ("tuning", "told"),
    [
        ("full", "| all weights of the language model, no adapters |"),
        ("frozen", "its weights never trained |"),
        ("lora", "| adapters of rank 16 (LoRA) beside the language model's weights; loading them needs peft |"),
    ],
)
def test_card_of_a_prefix_language_model(tmp_path: Path, tuning: str, told: str) -> None:
    (tmp_path / "generation_config.json").write_text('{"num_beams": 3, "max_new_tokens": 12}')
    config = tiny_prefix_lm_config(tuning=tuning, architectures=["UpDownPrefixLMForImageCaptioning"])
    card = card_of(config, tmp_path)
    assert told in card.text and card.data.pipeline_tag == "image-to-text"
    assert "| Language model | `gpt2`, 2 layers of width 32, 4 heads |" in card.text
    assert "| Beams by default | 3 |\n| Longest text by default | 12 tokens |" in card.text
    assert ("timm, transformers and peft." in card.text) == (tuning == "lora")
    assert "stand as a prefix" in card.text
    answering = tiny_prefix_lm_config(tuning=tuning, architectures=["UpDownPrefixLMForVisualQuestionAnswering"])
    card = card_of(answering, tmp_path)
    assert told in card.text and card.data.pipeline_tag == "visual-question-answering"
    assert "| Answers | written, or the likeliest of given ones |" in card.text and "It always writes" in card.text
    config = tiny_prefix_lm_config(prefix_attention="causal")
    facts = word_facts(config, tmp_path, model="UpDownPrefixLMForImageCaptioning")
    assert facts["A region sees"].endswith("before it")


def test_training_facts_say_what_was_learnt_without_images(tmp_path: Path) -> None:
    texts = {"data": {"format": "texts", "texts": {"flickr30k": "data/a.txt", "coco": "data/b.json"}}, "share": 0.4}
    for objective, share in (("cross_entropy", "40 % of what it learnt (flickr30k, coco)"), ("self_critical", None)):
        recipe = {"data_name": "Flickr8k", "texts": texts, "train": {"objective": objective}}
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        assert training_facts(tmp_path).get("Captions without images") == share


def test_training_facts_name_objectives_and_the_text_models_origin(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    recipe: dict[str, Any] = {
        "data_name": "Flickr8k",
        "init_from": "runs/before/best",
        "model": {"objectives": {"itc": 1, "itm": 0.5, "mlm": 0}},
        "text": {"pretrained": "sentence-transformers/all-MiniLM-L6-v2"},
        "train": {"objective": "mixed", "epochs": 3},
    }
    (run / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    assert training_facts(run / "best") == {
        "Data": "Flickr8k",
        "Objectives": "1 x ITC, 0.5 x ITM",
        "Epochs": "3",
        "Text model": "started from `sentence-transformers/all-MiniLM-L6-v2`",
        "Started from": "a model trained before",
    }
    del recipe["model"]["objectives"]  # then those that the task gave the config
    (run / "recipe.yaml").write_text(json.dumps(recipe))
    (run / "best" / "config.json").write_text('{"objectives": {"itc": 1.0, "itm": 1.0}}')
    assert training_facts(run / "best")["Objectives"] == "1 x ITC, 1 x ITM"


def test_a_text_models_folder_is_never_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs" / "minilm"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert text_origin("") == "" and text_origin("gpt2") == "started from `gpt2`"
    for name in ("runs/minilm", str(folder), "runs/deleted", "./minilm"):
        assert text_origin(name) == "started from a local copy of a pretrained text model"
    (folder / "config.json").write_text('{"model_type": "bert", "_name_or_path": "/models/bert"}')
    assert text_origin("runs/minilm") == "started from a local copy of a pretrained `bert`"
    (folder / "config.json").write_text('{"model_type": "bert", "_name_or_path": "nreimers/MiniLM"}')
    expected = "started from a local copy of a pretrained `bert`, which names `nreimers/MiniLM` as its origin"
    assert text_origin("runs/minilm") == text_origin(str(folder)) == expected


def test_an_ablation_stands_on_the_card(tmp_path: Path) -> None:
    write_table(tmp_path)
    dataset = {"name": "Flickr8k", "type": "karpathy", "split": "test", "num_photos": 1000}
    training = {"Data": "Flickr8k", "Text model": "started from `gpt2`"}
    measured = {"dataset": dataset, "metrics": {"t2i_r10_x100": 61.256}, "seed": 0, "training": training}
    card = card_of(tiny_fusion_config(architectures=RETRIEVAL), tmp_path, **measured)
    assert (
        "### What each objective adds\n\n"
        "| objectives | text to image, R@10 (x100) | seeds |\n| --- | --- | --- |\n"
        "| ITC | 61.26 | 3 |\n| ITC \\| ITM | - | 1 |\n\n"
        "Trained once each.\n\n"
        "```\nupdown evaluate one.yaml\nupdown evaluate two.yaml\n```\n\n## Limits"
    ) in card.text
    assert "- Text model: started from `gpt2`\n\nThe text model that it" in card.text
    write_table(tmp_path, note=None, commands=None)
    card = card_of(tiny_fusion_config(architectures=RETRIEVAL), tmp_path)
    assert "no figure to show.\n\n### What each" in card.text and "| ITC \\| ITM | - | 1 |\n\n## Limits" in card.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "must hold title, columns and rows"),
        ({"figures": [1]}, "must hold title, columns and rows, .* and nothing else"),
        ({"title": 7}, "title must be text, not .7"),
        ({"columns": ["a", 2, "c"]}, "columns must be text, not .'a', 2"),
        ({"commands": "updown evaluate"}, "commands must be text, not updown"),
        ({"note": ["once"]}, "note must be text"),
        ({"rows": []}, "holds an empty table"),
        ({"columns": []}, "holds an empty table"),
        ({"rows": [["a", 1, 2], ["b", 1]]}, "row 2 must be a list of 3 cells, one a column: .'b', 1"),
        ({"rows": ["abc"]}, "row 1 must be a list of 3 cells"),
        ({"rows": [["a", 1, float("nan")]]}, "row 1 holds nan, but a cell is text, a finite number or null"),
        ({"rows": [["a", 1, True]]}, "row 1 holds True"),
        ({"rows": [["a", 1, [2]]]}, "row 1 holds .2"),
    ],
)
def test_a_strange_ablation_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"ablation.json.*{message}"):
        ablation(write_table(tmp_path, **change))


def test_a_broken_ablation_is_refused(tmp_path: Path) -> None:
    assert ablation(tmp_path / "ablation.json") == {}
    (tmp_path / "ablation.json").write_text('{"title": "What each')
    with pytest.raises(ValueError, match=r"ablation.json is not valid JSON .line 1"):
        ablation(tmp_path / "ablation.json")
    (tmp_path / "ablation.json").write_text("[1]")
    with pytest.raises(ValueError, match="must hold title"):
        ablation(tmp_path / "ablation.json")


def test_names_that_others_gave_stay_words(tmp_path: Path) -> None:
    """A data set's name, a reason and a command cannot add a heading, an image, a link, a cell or a fence."""
    name = "Pets\n# Owned ![x](http://evil.example/a.png) <img src=x onerror=y> | cell \x1b[2J"
    measured = {
        "dataset": {"name": name, "type": "pets", "split": "test", "num_photos": 3},
        "metrics": {"bleu_4_x100": 21.3},
        "not_computed": {"spice": name},
        "domains": {name: {"accuracy_x100": 40.0, "questions": 2}},
        "command": "updown evaluate x.yaml\n```\n# Owned",
    }
    (tmp_path / "comparisons.json").write_text(
        json.dumps([{"name": name, "dataset": {"name": name, "split": "test"}, "metrics": {"accuracy_x100": 40.0}}])
    )
    config = UpDownCaptioningConfig(vision_config=UpDownGridConfig())
    card = card_of(config, tmp_path, **measured, training={"Data": name, "Text model": "started from `a/b`"})
    body = card.content.split("\n---\n", 1)[1]
    quoted = r"Pets # Owned !\[x\](http://evil.example/a.png) &lt;img src=x onerror=y&gt; \| cell \[2J"
    assert body.count(quoted) == 6 and name not in body and "<img" not in body and "\x1b" not in body
    assert not re.search(r"^# Owned", body.replace("'''\n# Owned", ""), flags=re.MULTILINE)
    assert "started from `a/b`" in body and body.count("```") % 2 == 0
    assert card.data.eval_results[0].dataset_name == name  # in the header, where it is quoted


@pytest.mark.parametrize(
    "save", [save_tiny_captioner, save_tiny_vqa, save_tiny_retrieval, save_tiny_detector], ids=lambda f: f.__name__
)
def test_the_example_of_a_card_runs_as_written(
    save: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder in the place of the repository, with an image of that name in the working folder."""
    model, page = save(tmp_path / "model"), tmp_path / "page"
    page.mkdir()
    card = card_of(AutoConfig.from_pretrained(model), page)
    (block,) = re.findall(r"(?ms)^```python\n(.*?)^```", card.text)
    tiny_image(1).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("someone/tiny", str(model)), "README.md", "exec"), {})
