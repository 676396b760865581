"""A saved model -> the folder that stands on the Hub: weights, code, processor and a card with measured figures.

    save_pretrained folder --publish_folder--> Hub folder --check_published--> outputs compared --upload--> the Hub

The Hub folder loads without this package (`trust_remote_code=True`), with it, and through `pipeline`. Which classes
and tasks a config has stands in `modeling_updown.heads_updown`; where one config has several heads, the saved
`architectures` say which of them the folder holds.
Nothing local is changed before everything has been written and checked: a run that is cut short can be run again.
"""

import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedConfig

import modeling_updown
from modeling_updown.heads_updown import BASE, PIPELINE_TYPE, PIPELINES, heads_of
from modeling_updown.saving_updown import references_in, write_code
from training.checkpoints import replace_folder
from training.console import one_line
from training.data.files import write_json
from training.publish import check
from training.publish.card import ABLATION, COMPARISONS, built_in_tasks, training_facts, write_card
from training.saved_models import no_config

logger = logging.getLogger(__name__)

# files that are copied from a `save_pretrained` folder; training state and pickles are not
COPIED = (
    "*.safetensors",
    "*.safetensors.index.json",
    "generation_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",  # SentencePiece
    "*.jinja",
)
TABLES = (COMPARISONS, ABLATION)  # for the card, which shows them
MADE = ("*.py", "*config.json", "evaluation.json", "README.md", *TABLES)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    dry_run: bool = False,
    output: str | Path | None = None,
    private: bool = False,
    evaluation: str | Path | None = None,
    half: bool = False,
) -> Path | str:
    """Publish a `save_pretrained` folder, and check that the published model gives the same outputs.

    Args:
        folder: config, safetensors and processor of one model.
        repo_id: `name` or `organisation/name` on the Hub.
        dry_run: do everything except the upload.
        output: where the Hub folder is written; a dry run needs it. An earlier Hub folder of ours there is replaced,
            other files are an error.
        private: create a private repository if it does not exist yet.
        evaluation: a file in the layout of `updown evaluate`; by default `evaluation.json` in `folder`.
        half: publish the weights in float16, half the size; they load as the config's `dtype`, float32.

    Returns:
        The path of the Hub folder after a dry run, else the address of the commit.

    Raises:
        ValueError: if the folder, the id, the output or the evaluation is not valid, or the published model gives other
            outputs than the model in `folder`.
        ConnectionError: if the upload failed; the message names the finished folder.
    """
    check_repo_id(repo_id)
    if dry_run and output is None:
        raise ValueError("a dry run needs an output folder: add --output FOLDER")
    published = Path(output or Path(tempfile.mkdtemp(prefix="updown-push-")) / repo_id.split("/")[-1])
    with tempfile.TemporaryDirectory(prefix="updown-half-") as scratch:
        folder = halved(Path(folder), Path(scratch) / "half") if half else folder
        publish_folder(folder, published, repo_id=repo_id, evaluation=evaluation)
        expected = outputs_here(folder)
    check_published(str(published.resolve()), expected=expected)
    logger.info("loaded %s without this package: the same outputs", published)
    if dry_run:
        return published
    address, commit = upload(published, repo_id, private=private)
    check_published(repo_id, expected=expected, revision=commit)
    logger.info("loaded %s back from the Hub: the same outputs", repo_id)
    if output is None:
        shutil.rmtree(published.parent)
    return address


def check_repo_id(repo_id: str) -> None:
    """Raises `ValueError` unless `repo_id` is a valid name of a Hub repository."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} cannot be the name of a Hub repository: write NAME or OWNER/NAME") from error


def publish_folder(
    folder: str | Path, output: str | Path, *, repo_id: str, evaluation: str | Path | None = None
) -> None:
    """Write the Hub folder of a `save_pretrained` folder to `output`, renamed into place at the end."""
    folder, output = Path(folder), Path(output)
    config = load_config(folder)
    measured = read_evaluation(Path(evaluation) if evaluation else folder / "evaluation.json", needed=bool(evaluation))
    training = measured.get("training") or training_facts(folder)
    check_output(output, folder=folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
        made = Path(scratch) / "made"
        made.mkdir(mode=0o755)
        for path in copied_files(folder):
            shutil.copyfile(path, made / path.name)
        if measured:
            write_json(made / "evaluation.json", measured | {"training": training}, indent=2)
        for name in TABLES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        write_configs(folder, made, config)
        write_code(made, code_files(made, config), config=config)
        write_card(made, config, repo_id=repo_id, evaluation=measured, training=training)
        replace_folder(made, output)


def halved(folder: Path, output: Path) -> Path:
    """A copy of a saved model with float16 weights in its safetensors, and the unchanged `dtype` in its config."""
    load_config(folder)
    shutil.copytree(folder, output)
    recipe = folder.parent / "recipe.yaml"
    if recipe.is_file() and not (output / "recipe.yaml").exists():
        shutil.copyfile(recipe, output / "recipe.yaml")  # the card reads the training data from it
    for path in output.glob("*.safetensors"):
        weights = load_file(path)
        stored = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
        save_file(stored, path, metadata={"format": "pt"})
    return output


def load_config(folder: Path) -> PreTrainedConfig:
    """The config of a saved model of ours; raises `ValueError` for missing files, with the cure."""
    if not (folder / "config.json").is_file():
        raise ValueError(no_config(folder))
    if not list(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no .safetensors: only such weights are published, save the model again")
    if not (folder / "processor_config.json").is_file() and not (folder / "preprocessor_config.json").is_file():
        raise ValueError(f"{folder} holds no processor: call processor.save_pretrained with the same folder")
    config = AutoConfig.from_pretrained(folder)
    if not heads_of(config.model_type):
        raise ValueError(f"{folder} holds a {config.model_type!r} model, which is not one of UpDown's")
    named, known = config.architectures or [], sorted({head.model for head in heads_of(config.model_type)})
    if not set(named) & set(known) and (named or len(known) > 1):
        raise ValueError(
            f"{folder}/config.json names {' and '.join(named) or 'nothing'} as the class of the model (architectures), "
            f"but it must be one of {', '.join(known)}: save it with such a class's save_pretrained"
        )
    return config


def check_output(output: Path, *, folder: Path) -> None:
    """Raises `ValueError` if writing to `output` would delete files that this module has not written."""
    if output.resolve() == folder.resolve():
        raise ValueError(f"{output} is the model's own folder: give --output another one")
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"{output} is a file: give --output a folder")
    files = [path.name for path in output.iterdir() if path.is_file()]
    others = [path.name for path in output.iterdir() if not any(map(path.match, (*COPIED, *MADE))) or path.is_dir()]
    if others or (files and not {"config.json", "README.md"} <= set(files)):
        raise ValueError(f"{output} holds more than an earlier Hub folder ({(others or files)[0]}): give a new folder")


def copied_files(folder: Path) -> list[Path]:
    """The files that go to the Hub unchanged."""
    return sorted({path for pattern in COPIED for path in folder.glob(pattern) if path.is_file()})


def read_evaluation(path: Path, *, needed: bool = False) -> dict[str, Any]:
    """The measured figures, or {} if there is no file.

    Raises `ValueError` for a file of another layout than `updown evaluate`'s, or with a figure that is not finite.
    """
    if not path.is_file():
        if needed:
            raise ValueError(f"there is no evaluation at {path}: make one with `updown evaluate --save`")
        return {}
    try:
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        dataset, metrics = evaluation["dataset"], evaluation["metrics"]
        missing = [key for key in ("name", "type", "split") if key not in dataset]
        wrong = [key for key, value in metrics.items() if not is_figure(value)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not in the layout of `updown evaluate` ({error!r}): run it again") from error
    if missing or wrong:
        problems = [f"its dataset has no {key}" for key in missing] + [f"{key} is not a finite number" for key in wrong]
        raise ValueError(f"{path}: {', '.join(problems)}; run the evaluation again")
    return evaluation


def is_figure(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def auto_classes(config: PreTrainedConfig) -> dict[str, str]:
    """`auto_map` of a config: the Auto classes that load the saved model, as `file.Class`.

    Those are the Auto classes of the saved class (`config.architectures`; all, where none is named), and `AutoModel`
    where it loads what the saved class keeps as its base.

    >>> auto_classes(modeling_updown.UpDownCaptioningConfig())["AutoModelForImageTextToText"]
    'modeling_captioning.UpDownForImageCaptioning'
    >>> list(auto_classes(modeling_updown.UpDownFusionConfig(architectures=["UpDownFusionForMaskedLM"])))
    ['AutoConfig', 'AutoModel', 'AutoModelForMaskedLM']
    """
    saved = config.architectures or [head.model for head in heads_of(config.model_type)]
    found = {
        head.auto.name: f"{head.file}.{head.model}"
        for head in heads_of(config.model_type)
        if head.model in saved or head.auto == BASE
    }
    return {"AutoConfig": class_reference(type(config)), **dict(sorted(found.items()))}


def class_reference(kind: type) -> str:
    """A class as transformers names it in a folder: `file.Class`."""
    return f"{kind.__module__.split('.')[-1]}.{kind.__name__}"


def custom_pipelines(config: PreTrainedConfig) -> dict[str, dict[str, Any]]:
    """`config.custom_pipelines`: the tasks that our pipelines bring, with the Auto classes that load their models."""
    loaders = auto_classes(config)
    return {
        task: {"impl": f"{auto.pipeline_file}.{auto.pipeline}", "pt": [auto.name], "type": PIPELINE_TYPE}
        for task, auto in PIPELINES.items()
        if auto.name in loaders
    }


def tasks_of(config: PreTrainedConfig) -> list[str]:
    """The pipelines that a model runs in: ours, and those of transformers itself."""
    return [*custom_pipelines(config), *built_in_tasks(config, auto_classes(config))]


def write_configs(folder: Path, made: Path, config: PreTrainedConfig) -> None:
    """The JSON files that name classes, each with the `auto_map` that finds those classes in the folder."""
    content = without_origins(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    content |= {"auto_map": auto_classes(config), "custom_pipelines": custom_pipelines(config)}
    write_json(made / "config.json", content, indent=2)
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            write_json(made / name, with_auto_map(content), indent=2)


def without_origins(content: dict[str, Any]) -> dict[str, Any]:
    """A config's JSON without the names by which this machine knew the parts it was made of, which may be paths."""
    content = {key: without_origins(value) if isinstance(value, dict) else value for key, value in content.items()}
    return content | ({"_name_or_path": ""} if "_name_or_path" in content else {})


def with_auto_map(content: dict[str, Any]) -> dict[str, Any]:
    """A processor's or tokenizer's JSON with the classes of ours that it names, nested parts included."""
    content = {key: with_auto_map(value) if isinstance(value, dict) else value for key, value in content.items()}
    auto_map: dict[str, Any] = {}
    if is_own_name(content.get("processor_class")) and "tokenizer_class" not in content:
        auto_map["AutoProcessor"] = class_reference(getattr(modeling_updown, content["processor_class"]))
    if is_own_name(content.get("image_processor_type")):
        kind = getattr(modeling_updown, content["image_processor_type"])
        twin = getattr(modeling_updown, f"{kind.__name__}Pil", kind)
        auto_map["AutoImageProcessor"] = [class_reference(twin), class_reference(kind)]  # [without torchvision, with]
    if is_own_name(content.get("tokenizer_class")):
        auto_map["AutoTokenizer"] = [None, class_reference(getattr(modeling_updown, content["tokenizer_class"]))]
    return content | {"auto_map": auto_map} if auto_map else content


def is_own_name(name: Any) -> bool:
    """Whether a class name in a JSON file is that of a class of ours."""
    return isinstance(name, str) and name in modeling_updown.HOMES


def code_files(made: Path, config: PreTrainedConfig) -> list[str]:
    """The files, without `.py`, that the JSON files of a Hub folder name."""
    named = {entry["impl"] for entry in custom_pipelines(config).values()}
    for path in made.glob("*config.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for part in (content, content.get("image_processor") or {}):
            named |= set(references_in(part.get("auto_map", {})))
    return sorted({reference.split(".")[0] for reference in named})


def outputs_here(folder: str | Path) -> dict[str, Any]:
    """The outputs of the model in a folder with this package imported, which the published model must reproduce."""
    config = AutoConfig.from_pretrained(folder)
    return check.outputs_of(str(folder), auto_classes=sorted(auto_classes(config)), tasks=tasks_of(config))


def check_published(model: str, *, expected: dict[str, Any], revision: str | None = None) -> None:
    """Load a Hub folder or repository in an interpreter without this package, and compare its outputs.

    Raises `ValueError` if it does not load, or its outputs differ from `expected` (numbers by more than 1e-4).
    """
    loaders = [name for name in expected["classes"] if not name.endswith("Processor")]  # processors are always loaded
    command = [sys.executable, "-P", check.__file__, model, "--auto-classes", *loaders]
    command += ["--tasks", *expected["tasks"]] + (["--revision", revision] if revision else [])
    with tempfile.TemporaryDirectory(prefix="updown-check-") as empty:
        environment = {**os.environ, "HF_MODULES_CACHE": empty}  # so that code of an earlier check is not used
        run = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"{model} does not load without this package: {reason}")
    found = json.loads(run.stdout.strip().splitlines()[-1])
    if not is_same(found, expected):
        place, one, other = first_difference(found, expected)
        raise ValueError(f"{model} gives as {place} {one}, but the model it was made from {other}")


def first_difference(found: Any, expected: Any, *, place: str = "outputs") -> tuple[str, Any, Any]:
    """The place of the first difference of two unequal JSON values, and both values there.

    >>> first_difference({"tasks": {"a": 1, "b": 2}}, {"tasks": {"a": 1, "b": 3}}, place="found")
    ('found.tasks.b', 2, 3)
    """
    if isinstance(found, dict) and isinstance(expected, dict) and found.keys() == expected.keys():
        key = next(key for key in found if not is_same(found[key], expected[key]))
        return first_difference(found[key], expected[key], place=f"{place}.{key}")
    return place, found, expected


def is_same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal, numbers to 1e-4 or, if large, to a relative 1e-6."""
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-4)
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(is_same(found[key], expected[key]) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_same, found, expected))
    return bool(found == expected)


def upload(published: Path, repo_id: str, *, private: bool) -> tuple[str, str]:
    """Upload a Hub folder as one commit; returns its URL and its id.

    Raises `ConnectionError` naming the folder, which is kept, if the upload fails.
    """
    logger.info("%s is ready; uploading it to %s", published, repo_id)
    api = HfApi()
    try:
        repository = api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository.repo_id, folder_path=published, commit_message="Publish the model with its code and card"
        )
    except Exception as error:  # its class depends on the HTTP library of huggingface_hub
        raise ConnectionError(
            f"the upload to {repo_id} failed ({one_line(error, limit=300)}); {published} holds the finished "
            "folder: log in with `hf auth login` or set HF_TOKEN if that is the reason, and push again"
        ) from error
    return commit.commit_url, commit.oid
