"""The card of a published model: what it is, how to use it, and only figures that were measured.

It is rendered from `hub_cards/card_template.md` and what the model's task adds to it (`training/tasks/TASK_card.md`);
every fact comes from the folder's own files: the config, the processor, the generation config, the `evaluation.json` of
training or of `updown evaluate --save`, and tables of comparisons (`comparisons.json`, `ablation.json`).
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, Template
from transformers import PreTrainedConfig

from modeling_updown.heads_updown import HEADS
from training.compare import table
from training.data import files
from training.publish.card_markdown import as_markdown
from training.shipped import CODE, published
from training.tasks import TASKS
from training.tasks.card_facts import learnt, text_facts
from training.tasks.spec import TaskSpec

LICENSE = "apache-2.0"
TEMPLATE = "hub_cards/card_template.md"
COMPARISONS = "comparisons.json"  # what `updown compare` wrote about the model and its variants
ABLATION = "ablation.json"  # a table of what each part of the model adds; see `ablation`
METRIC_NAMES = {key: name for spec in TASKS.values() for key, name in spec.metrics.items()}
# what the Hub calls tasks of ours that it does not list
HUB_TAGS = {"dense-captioning": "image-to-text", "visual-multiple-choice": "multiple-choice"}
# kinds that figures are told apart by: what they are called, the figure, and what there is a number of
KINDS = (
    ("kind of question", "accuracy_x100", "questions"),
    ("type of phrase", "recall_1_x100", "phrases"),
    ("class", "accuracy_x100", "statements"),
)
# tasks that transformers' own pipelines do, by the Auto class that they load a model with
BUILT_IN_TASKS = {head.auto.name: head.auto.task for head in HEADS if head.auto.task and not head.auto.pipeline}


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
    classes = list(saved.get("auto_map", {}))
    task = next(iter([*built_in_tasks(config, classes), *saved.get("custom_pipelines", {})]), None)
    name = repo_id.split("/")[-1]
    card_data = ModelCardData(
        license=LICENSE,
        library_name="transformers",
        pipeline_tag=HUB_TAGS.get(task or "", task),
        tags=["updown", config.model_type, "region-features", *more_tags(config, classes)],
        model_name=name,
        eval_results=evaluation_results(evaluation, task=task) or None,
    )
    shown = as_markdown(evaluation)  # names of data sets and recipes are others' text
    references = list(saved.get("auto_map", {}).values())
    model = references[-1].split(".")[-1] if references else ""
    content = template_for(model).render(
        card_data=card_data.to_yaml(),
        name=name,
        repo_id=repo_id,
        task=task,
        model=model,
        learns=learnt(config),
        owns_source=getattr(config, "vision_config", None) is not None,
        license=LICENSE,
        model_type=config.model_type,
        requirements="torch, torchvision, timm"
        + (", transformers and peft" if needs_peft(config) else " and transformers"),
        region_facts=region_facts(config, folder),
        word_facts=word_facts(config, folder, model=model),
        evaluation=shown,
        training=as_markdown(training),
        figures=figures(shown),
        kinds=kinds(shown),
        comparisons=compared(folder / COMPARISONS),
        ablation=ablation(folder / ABLATION),
    )
    ModelCard(content).save(folder / "README.md")


def built_in_tasks(config: PreTrainedConfig, classes: Iterable[str]) -> list[str]:
    """The tasks that transformers' own pipelines do with a model of these Auto classes.

    Retrieval that has not learnt to compare (no ITC among its objectives) can only match, which no pipeline does.
    """
    tasks = [BUILT_IN_TASKS[name] for name in classes if name in BUILT_IN_TASKS]
    compares = not hasattr(config, "objectives") or "itc" in learnt(config)
    return [task for task in tasks if compares or task != "zero-shot-image-classification"]


def more_tags(config: PreTrainedConfig, classes: Iterable[str]) -> list[str]:
    """What else the Hub may find the model by."""
    if "AutoModelForZeroShotImageClassification" in classes:
        return ["image-text-retrieval"]
    return [] if hasattr(config, "text_config") else ["bottom-up-top-down-attention"]


def needs_peft(config: PreTrainedConfig) -> bool:
    """Whether the weights have adapters beside them that peft has to build."""
    return getattr(config, "tuning", None) == "lora"


def template_for(model: str) -> Template:
    """The template of the card of a class of models: that of the task that trains it (`training/tasks/TASK_card.md`,
    which says what is its own and extends the common one), else the common one."""
    spec, common = task_of(model), template_path()
    loader = FileSystemLoader([common.parent, CODE / "training" / "tasks"])
    return Environment(loader=loader).get_template(f"{spec.name}_card.md" if spec else common.name)


def template_path() -> Path:
    """The template: beside the code in a checkout, or where the installer put it."""
    found = published(Path(TEMPLATE).name)
    if not found.is_file():
        raise FileNotFoundError(f"{TEMPLATE} is not installed: install the package again")
    return found.resolve()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content, empty where there is no such file."""
    return files.read_json(path) if path.is_file() else {}


def training_facts(folder: Path) -> dict[str, str]:
    """What the model was trained on, as name and value, from the recipe that lies in its folder or its run's folder."""
    recipes = [path for path in (folder / "recipe.yaml", folder.parent / "recipe.yaml") if path.is_file()]
    if not recipes:
        return {}
    recipe = yaml.safe_load(recipes[0].read_text(encoding="utf-8"))
    train = recipe.get("train", {})
    objective = str(train.get("objective", "")).replace("_", "-")
    weights = (recipe.get("model") or {}).get("objectives") or read_json(folder / "config.json").get("objectives") or {}
    facts = {
        "Data": recipe.get("data_name") or recipe.get("data", {}).get("format"),
        "Captions without images": lone_captions(recipe.get("texts") or {}) if objective == "cross-entropy" else "",
        "Objective": "" if objective == "mixed" else objective,
        "Objectives": ", ".join(f"{weight:g} x {name.upper()}" for name, weight in weights.items() if weight),
        "Epochs": train.get("epochs"),
        "Seed": recipe.get("seed"),
        "Text model": text_origin((recipe.get("text") or {}).get("pretrained") or ""),
        "Started from": "a model trained before" if recipe.get("init_from") else None,
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def lone_captions(texts: Mapping[str, Any]) -> str:
    """What a recipe's section `texts` let a captioner learn beside images; the files by the names it gives them.

    >>> lone_captions({"data": {"format": "texts", "texts": {"coco": "data/captions.json"}}, "share": 0.5})
    '50 % of what it learnt (coco)'
    """
    data = texts.get("data") or {}
    files = data.get("texts")
    named = f" ({', '.join(map(str, files))})" if isinstance(files, Mapping) else ""
    return f"{100 * texts.get('share', 0.5):g} % of what it learnt{named}" if data else ""


def text_origin(pretrained: str) -> str:
    """Where a text model's weights came from, in words that mean something elsewhere: never a path of this machine.

    pretrained: a recipe's `text.pretrained`. A Hub id is shown as it is. Of a folder there is shown what its own
    config calls the model that it was made from (`_name_or_path`), where that is a Hub id, and else its kind alone.

    >>> text_origin("sentence-transformers/all-MiniLM-L6-v2")
    'started from `sentence-transformers/all-MiniLM-L6-v2`'
    """
    if not pretrained or is_hub_id(pretrained):
        return f"started from `{pretrained}`" if pretrained else ""
    config = read_json(Path(pretrained) / "config.json")
    kind = f"`{config['model_type']}`" if config.get("model_type") else "text model"
    own_name = config.get("_name_or_path") or ""
    named = f", which names `{own_name}` as its origin" if is_hub_id(own_name) else ""
    return f"started from a local copy of a pretrained {kind}{named}"


def is_hub_id(name: str) -> bool:
    """Whether a name can be NAME or OWNER/NAME on the Hub and is not a path, which begins with a folder that is here.

    >>> is_hub_id("bert-base-uncased"), is_hub_id("/models/bert"), is_hub_id("./bert"), is_hub_id("a/b/c")
    (True, False, False, False)
    """
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name.split("/")[0]).exists()


def figures(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each figure's name, with its unit, and its value: `[("BLEU-4 (x100)", "21.30")]`.

    >>> figures({"metrics": {"bleu_4_x100": 21.3}})
    [('BLEU-4 (x100)', '21.30')]
    """
    return [(metric_name(key), f"{value:.2f}") for key, value in evaluation.get("metrics", {}).items()]


def kinds(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Titles, and a row of figures for each kind of question or type of phrase; empty for other evaluations.

    >>> kinds({"domains": {"answers: number": {"accuracy_x100": 42.8, "questions": 10}}})
    [('kind of question', 'accuracy (x100)', 'questions'), ('answers: number', '42.80', '10')]
    """
    domains = evaluation.get("domains") or {}
    for title, metric, number in KINDS:
        rows = [
            (name, f"{values[metric]:.2f}", f"{values[number]:,}")
            for name, values in domains.items()
            if {metric, number} <= {*values}
        ]
        if rows:
            return [(title, metric_name(metric), number), *rows]
    return []


def compared(path: Path) -> dict[str, Any]:
    """The comparison in a file of `updown compare`: its table and the commands; empty where there is no file."""
    rows = as_markdown(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
    if not rows:
        return {}
    names = {metric: metric_name(metric) for row in rows for metric in row["metrics"]}
    commands = [f"# {row['name']}\n{row['command']}" for row in rows if row.get("command")]
    return {"table": table(rows, names=names), "commands": commands, "dataset": rows[0]["dataset"]}


def ablation(path: Path) -> dict[str, Any]:
    """The table in a file about what each part of the model adds; empty where there is no file.

    The file holds `{"title": "What each objective adds", "columns": ["objectives", "R@1 (x100)"], "rows": [["ITC",
    31.2], ...], "note": "Trained once each, seed 0.", "commands": ["updown evaluate ..."]}`: a cell is text, a number
    or null (not measured); note and commands may be left out.

    Returns:
        `title`, `table` (Markdown; numbers with decimals get two), `note` and `commands`.

    Raises:
        ValueError: for another layout, naming the file and the row.
    """
    if not path.is_file():
        return {}
    content = files.read_json(path)
    known = {"title", "columns", "rows", "note", "commands"}
    if not isinstance(content, dict) or not {"title", "columns", "rows"} <= {*content} <= known:
        raise ValueError(f"{path} must hold title, columns and rows, maybe note and commands, and nothing else")
    content = {"note": "", "commands": [], **content}
    for key, texts in (("title", [content["title"]]), ("note", [content["note"]])):
        check_texts(path, key, texts)
    for key in ("columns", "commands"):
        check_texts(path, key, content[key])
    check_rows(path, content["rows"], width=len(content["columns"]))
    lines = [content["columns"], ["---"] * len(content["columns"]), *content["rows"]]
    return {
        "title": " ".join(content["title"].split()),
        "table": "\n".join(f"| {' | '.join(map(cell_text, line))} |" for line in lines),
        "note": content["note"].strip(),
        "commands": content["commands"],
    }


def check_texts(path: Path, key: str, texts: Any) -> None:
    """`ValueError` where what stands under a key is not text throughout."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: {key} must be text, not {str(texts)[:80]}")


def check_rows(path: Path, rows: Any, *, width: int) -> None:
    """`ValueError` where a table has nothing in it, or a row another number of cells than columns, or a strange one."""
    if not width or not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds an empty table: give it one column and one row at least")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != width:
            raise ValueError(f"{path}: row {number} must be a list of {width} cells, one a column: {str(row)[:80]}")
        strange = [cell for cell in row if not is_cell(cell)]
        if strange:
            raise ValueError(
                f"{path}: row {number} holds {str(strange[0])[:80]}, but a cell is text, a finite number or null"
            )


def is_cell(value: Any) -> bool:
    """Whether a value can stand in a table."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, str | int) and not isinstance(value, bool))


def cell_text(value: Any) -> str:
    """A cell as Markdown.

    >>> cell_text(31.25), cell_text(7), cell_text(None), cell_text("a | b")
    ('31.25', '7', '-', 'a \\\\| b')
    """
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "\\|")


def metric_name(key: str) -> str:
    """What the field calls the metric of a key, with its unit.

    >>> metric_name("cider_d_x100"), metric_name("t2i_median_rank"), metric_name("itc_t2i_r1_x100")
    ('CIDEr-D (x100)', 'text to image, median rank', 'text to image, R@1, before re-ranking (x100)')
    """
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
    tags = tag_facts(config)
    if source is None:
        width = config.region_feature_size
        return {"Region source": f"none of its own: it takes region features of width {width}", **tags}
    facts = {"Region source": f"`{source.model_type}` on `{source.backbone}`", **tags}
    if source.model_type == "updown_grid":
        facts["Regions an image"] = f"{source.num_regions}: {grid_fact(source)}"
    elif source.model_type == "updown_detector":
        few, many = source.min_regions, source.max_regions
        chosen = f"{few} to {many}: all whose best class is over {source.score_threshold}"
        grids = " and ".join(f"{side} x {side}" for side in source.grid_sizes or [])
        cells = f"{source.num_cells} cells ({grids}), then " if grids else ""
        facts |= {
            "Classes": f"{source.num_objects} objects, {source.num_attributes} attributes",
            "Regions an image": cells + (f"the {many} surest" if few == many else chosen),
            "A region's box": {"proposal": "the proposal", "regressed": "regressed"}[source.region_boxes],
        }
        if source.proposal_model == "nanodet":
            facts["Boxes proposed by"] = (
                "NanoDet-Plus-m (https://github.com/RangiLyu/nanodet, Copyright 2020-2021 RangiLyu, Apache-2.0), "
                "learnt from COCO's train2017 and not trained further, its weights among this model's"
            )
    return facts | {"Width of a region's feature": str(source.region_feature_size), "Image": image_fact(folder)}


def grid_fact(source: PreTrainedConfig) -> str:
    """What the regions of a grid source are."""
    if source.regions == "grid":
        grids = " and of ".join(
            f"a {side} x {side} grid" + (f" of the image at {scale:g} of its size" if scale != 1 else "")
            for scale, side in source.scales
        )
        return f"the cells of {grids}"
    levels = " + ".join(f"{level} x {level}" for level in source.pyramid_levels)
    factors = ", ".join(f"{scale:g}" for scale in source.image_scales or [])
    return f"the boxes of a spatial pyramid, {levels}" + (f", of the image at {factors} of its size" if factors else "")


def tag_facts(config: PreTrainedConfig) -> dict[str, str]:
    """The names that the model reads beside each region's feature; nothing of a model without tags."""
    kinds = getattr(config, "tag_kinds", [])
    numbers = [f"{getattr(config, kind.name):,} {kind.name.removesuffix('_tags')}s" for kind in kinds]
    likeliest = f", the {config.tag_top_k} likeliest" if kinds and config.tag_top_k else ""
    size = f", each of width {config.tag_embedding_size}" if kinds else ""
    return {"Names beside a region's feature": f"of {' and '.join(numbers)}{likeliest}{size}"} if kinds else {}


def image_fact(folder: Path) -> str:
    """How the image processor sizes an image."""
    saved = read_json(folder / "processor_config.json").get("image_processor")
    size = (saved or read_json(folder / "preprocessor_config.json")).get("size") or {}
    if "height" in size:
        return f"resized to {size['width']} x {size['height']} pixels, whatever its aspect ratio"
    if "shortest_edge" in size:
        longest = f", the longer to {size['longest_edge']} at most" if size.get("longest_edge") else ""
        return f"shorter side resized to {size['shortest_edge']} pixels{longest}, aspect ratio kept"
    return "as the processor's config says"


def word_facts(config: PreTrainedConfig, folder: Path, *, model: str) -> dict[str, str]:
    """What a model of that class can read and write, as name and value: what its task says of it."""
    spec = task_of(model)
    if spec is not None:
        return spec.card_facts(config, folder)
    return text_facts(config) if hasattr(config, "text_config") else {}


def task_of(model: str) -> TaskSpec | None:
    """The task that trains models of a class; None for a class that no task trains."""
    return next((spec for spec in TASKS.values() if model in spec.models), None)
