"""The card of a published model: what it is, how to use it, and only figures that were measured.

It is rendered from `hub_cards/card_template.md`; every fact comes from the folder's own files: the config, the
processor, the generation config, and the `evaluation.json` that `updown evaluate` wrote.
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedConfig

from training.compare import table

LICENSE = "apache-2.0"
TEMPLATE = "hub_cards/card_template.md"
COMPARISONS = "comparisons.json"  # what `updown compare` wrote about the model and its variants
METRIC_NAMES = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "cider_d": "CIDEr-D",
    "cider_plain": "CIDEr without clipping",
    "meteor": "METEOR",
    "spice": "SPICE",
    "accuracy": "accuracy",
    "binary": "accuracy of yes-or-no and either-or questions",
    "open": "accuracy of open questions",
    "consistency": "consistency",
    "multiple_choice": "accuracy of multiple choice",
    "wups_0": "WUPS@0.0",
    "wups_0.9": "WUPS@0.9",
    "map": "mAP",
    "map_50": "AP50",
    "map_75": "AP75",
    "map_small": "mAP, small boxes",
    "map_medium": "mAP, medium boxes",
    "map_large": "mAP, large boxes",
    "mar_1": "recall, 1 box a photo",
    "mar_10": "recall, 10 boxes a photo",
    "mar_100": "recall, 100 boxes a photo",
    "mar_small": "recall, small boxes",
    "mar_medium": "recall, medium boxes",
    "mar_large": "recall, large boxes",
    "attribute_mean_ap": "AP50 of attributes, on true boxes",
    "attribute_weighted_mean_ap": "AP50 of attributes, on true boxes, weighted by frequency",
    "attribute_mean_ap_present": "AP50 of attributes that occur, on true boxes",
}
# tasks that transformers' own pipelines do, by the Auto class that they load a model with
BUILT_IN_TASKS = {"AutoModelForObjectDetection": "object-detection"}


def write_card(
    folder: Path,
    config: PreTrainedConfig,
    *,
    repo_id: str,
    evaluation: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    """Write `README.md` into a Hub folder; where `evaluation` or `training` is empty, the card says so."""
    saved = read_json(folder / "config.json")
    built_in = (BUILT_IN_TASKS[name] for name in saved.get("auto_map", {}) if name in BUILT_IN_TASKS)
    task = next(iter(saved.get("custom_pipelines", {})), None) or next(built_in, None)
    name = repo_id.split("/")[-1]
    card_data = ModelCardData(
        license=LICENSE,
        library_name="transformers",
        pipeline_tag=task,
        tags=["updown", config.model_type, "region-features", "bottom-up-top-down-attention"],
        model_name=name,
        eval_results=evaluation_results(evaluation, task=task) or None,
    )
    card = ModelCard.from_template(
        card_data,
        template_path=str(template_path()),
        name=name,
        repo_id=repo_id,
        task=task,
        license=LICENSE,
        model_type=config.model_type,
        region_facts=region_facts(config, folder),
        word_facts=word_facts(config, folder),
        evaluation=evaluation,
        training=training,
        figures=figures(evaluation),
        kinds=kinds(evaluation),
        comparisons=compared(folder / COMPARISONS),
    )
    card.save(folder / "README.md")


def template_path() -> Path:
    """The template: beside the code in a checkout, or where the installer put it."""
    above = Path(__file__).parents[1]
    name = Path(TEMPLATE).name
    listed = [Path(str(file.locate())) for file in installed_files() if file.name == name]
    places = [above / TEMPLATE, *listed, above / "share" / "updown" / name]  # the last with `pip install --target`
    found = [place for place in places if place.is_file()]
    if not found:
        raise FileNotFoundError(f"{TEMPLATE} is not installed: install the package again")
    return found[0].resolve()


def installed_files() -> list[metadata.PackagePath]:
    """What the installer put down for this package; nothing where the checkout is merely on PYTHONPATH."""
    try:
        return metadata.files("updown") or []
    except metadata.PackageNotFoundError:
        return []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content, empty where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def training_facts(folder: Path) -> dict[str, str]:
    """What the model was trained on, as name and value, from the recipe that lies in its folder or its run's folder."""
    recipes = [path for path in (folder / "recipe.yaml", folder.parent / "recipe.yaml") if path.is_file()]
    if not recipes:
        return {}
    recipe = yaml.safe_load(recipes[0].read_text(encoding="utf-8"))
    train = recipe.get("train", {})
    facts = {
        "Data": recipe.get("data_name") or recipe.get("data", {}).get("format"),
        "Objective": str(train.get("objective", "")).replace("_", "-"),
        "Epochs": train.get("epochs"),
        "Seed": recipe.get("seed"),
        "Started from": "a model trained before" if recipe.get("init_from") else None,
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def figures(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each figure's name, with its unit, and its value: `[("BLEU-4 (x100)", "21.30")]`.

    >>> figures({"metrics": {"bleu_4_x100": 21.3}})
    [('BLEU-4 (x100)', '21.30')]
    """
    return [(metric_name(key), f"{value:.2f}") for key, value in evaluation.get("metrics", {}).items()]


def kinds(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Accuracy by the kind of question, with how many there are; empty for other evaluations.

    >>> kinds({"domains": {"answers: number": {"accuracy_x100": 42.8, "questions": 10}}})
    [('answers: number', '42.80', '10')]
    """
    return [
        (name, f"{values['accuracy_x100']:.2f}", f"{values['questions']:,}")
        for name, values in (evaluation.get("domains") or {}).items()
        if {"accuracy_x100", "questions"} <= {*values}
    ]


def compared(path: Path) -> dict[str, Any]:
    """The comparison in a file of `updown compare`: its table and the commands; empty where there is no file."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not rows:
        return {}
    names = {metric: metric_name(metric) for row in rows for metric in row["metrics"]}
    commands = [f"# {row['name']}\n{row['command']}" for row in rows if row.get("command")]
    return {"table": table(rows, names=names), "commands": commands, "dataset": rows[0]["dataset"]}


def metric_name(key: str) -> str:
    """What the field calls the metric of a key such as `cider_d_x100`, with its unit."""
    metric = key.removesuffix("_x100")
    return METRIC_NAMES.get(metric, metric) + (" (x100)" if metric != key else "")


def evaluation_results(evaluation: Mapping[str, Any], *, task: str | None) -> list[EvalResult]:
    """The figures as the Hub's `model-index` lists them."""
    return [
        EvalResult(
            task_type=evaluation.get("task") or task or "other",
            dataset_type=evaluation["dataset"]["type"],
            dataset_name=evaluation["dataset"]["name"],
            dataset_split=evaluation["dataset"]["split"],
            metric_type=key.removesuffix("_x100"),
            metric_name=metric_name(key),
            metric_value=value,
        )
        for key, value in evaluation.get("metrics", {}).items()
    ]


def region_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """Where the model's regions come from, as name and value."""
    source = getattr(config, "vision_config", None)
    if source is None and hasattr(config, "backbone"):
        source = config
    if source is None:
        return {"Region source": f"none of its own: it takes region features of width {config.region_feature_size}"}
    facts = {"Region source": f"`{source.model_type}` on `{source.backbone}`"}
    if source.model_type == "updown_grid":
        grid = f"the cells of a {source.grid_size} x {source.grid_size} grid"
        levels = " + ".join(f"{level} x {level}" for level in source.pyramid_levels)
        facts["Regions a photo"] = f"{source.num_regions}: " + (
            grid if source.regions == "grid" else f"the boxes of a spatial pyramid, {levels}"
        )
    elif source.model_type == "updown_detector":
        few, many = source.min_regions, source.max_regions
        chosen = f"{few} to {many}: all whose best class is over {source.score_threshold}"
        facts |= {
            "Classes": f"{source.num_objects} objects, {source.num_attributes} attributes",
            "Regions a photo": f"the {many} surest" if few == many else chosen,
            "A region's box": {"proposal": "the proposal", "regressed": "regressed"}[source.region_boxes],
        }
    return facts | {"Width of a region's feature": str(source.region_feature_size), "Photo": photo_fact(folder)}


def photo_fact(folder: Path) -> str:
    """How the image processor sizes a photo."""
    saved = read_json(folder / "processor_config.json").get("image_processor")
    size = (saved or read_json(folder / "preprocessor_config.json")).get("size") or {}
    if "height" in size:
        return f"resized to {size['width']} x {size['height']} pixels, whatever its aspect ratio"
    if "shortest_edge" in size:
        longest = f", the longer to {size['longest_edge']} at most" if size.get("longest_edge") else ""
        return f"shorter side resized to {size['shortest_edge']} pixels{longest}, aspect ratio kept"
    return "as the processor's config says"


def word_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What the model can read and write, as name and value."""
    if config.model_type == "updown_vqa":
        return question_facts(config)
    saved = read_json(folder / "generation_config.json")
    facts = {}
    if getattr(config, "vocab_size", None):
        facts["Vocabulary"] = f"{config.vocab_size} words, special tokens included"
    if saved.get("num_beams"):
        facts["Beams by default"] = str(saved["num_beams"])
    longest = saved.get("max_new_tokens") or saved.get("max_length")
    if longest:
        facts["Longest text by default"] = f"{longest} tokens"
    return facts


def question_facts(config: PreTrainedConfig) -> dict[str, str]:
    """What a question answerer reads, how it looks and what it can answer, as name and value."""
    asked = {"concat": "question and region joined", "multiply": "question times region"}[config.attention]
    layers = {"gated_tanh": "gated tanh", "relu": "ReLU"}[config.activation]
    facts = {
        "Answers": f"{config.num_answers:,}",
        "Words of questions": f"{config.vocab_size:,}, special tokens included",
        "Longest question": f"{config.max_question_words} words; longer ones are cut",
        "Attention": f"{asked}, {layers} layers" + (" with weight normalisation" if config.weight_norm else ""),
        "Glimpses": str(config.num_glimpses),
    }
    if config.num_attention_layers > 1:
        facts["Stacked attention"] = f"{config.num_attention_layers} layers"
    counted = f"by the overlaps of the {config.counted_objects} strongest regions"
    facts["Counting"] = counted if config.counted_objects else "no part of its own"
    if config.scores_choices:
        facts["Multiple choice"] = "given answers are scored by their words"
    return facts
