"""A recipe: the short YAML that says what to train, read into dataclasses. An unknown key is an error.

    recipes/TASK/DATASET.yaml --read_recipe--> Recipe --training/train.py--> runs/TASK_DATASET/

A recipe that names another one as its `base` says only what differs from it: sections are joined key by key, and what
stands in the recipe itself wins; a key without a value takes the base's away. A recipe whose `data` name a `format`
says all of its data: nothing of the base's is left.

Each task declares the keys that it reads (`reads`, in its own file); another key with a value of its own is an error
too (`check_keys`), so that no key is passed over in silence.

Every key is documented in `recipe_sections.py`. Values can be changed on the command line: `--set train.epochs=3`.
"""

import dataclasses
import difflib
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from training.data.files import read_text
from training.recipe_names import changed_name, with_new_names
from training.recipe_sections import SECTIONS, Recipe
from training.shipped import RECIPES

KIND_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", dict: "section", list: "list"}
ONE_OR_MORE = (
    *("train.epochs", "train.batch_size", "train.accumulation", "train.max_words", "train.min_word_count"),
    *(
        "train.questions_per_image",
        "train.captions_per_image",
        "train.samples_per_image",
        "train.checkpoint_steps",
        "train.decay_epochs",
        "train.scheduled_sampling_epochs",
    ),
    *("evaluate.num_beams", "evaluate.final_num_beams", "evaluate.batch_size", "evaluate.every_epochs"),
)
ZERO_OR_MORE = (
    *("train.learning_rate", "train.region_learning_rate", "train.weight_decay", "train.warmup_steps"),
    *("train.clip_norm", "train.clip_value", "train.early_stopping", "train.num_workers", "evaluate.max_images"),
    *("train.image_size", "train.max_steps", "train.decay_steps", "answers.min_count", "answers.top"),
    *("train.momentum_queue", "text.frozen_layers", "text.learning_rate", "evaluate.rerank", "evaluate.rerank_weight"),
    *("evaluate.folds", "text.vocabulary_size", "masks.overlap"),
)
SHARES = (
    *("train.label_smoothing", "train.ema", "train.repeat_threshold", "train.scheduled_sampling_increase"),
    *("train.momentum_decay", "masks.words", "masks.regions", "masks.swapped", "masks.kept"),
)
# Keys that say nothing beside another key's value: (keys, the other key, the values beside which they are read).
READ_BESIDE: tuple[tuple[tuple[str, ...], str, tuple[Any, ...]], ...] = (
    (("train.momentum",), "train.optimizer", ("sgd",)),
    (("train.betas",), "train.optimizer", ("adamw", "adam", "adamax")),
    (("train.decay", "train.decay_epochs", "train.decay_steps"), "train.schedule", ("step",)),
    (("train.label_smoothing", "train.scheduled_sampling_increase"), "train.objective", ("cross_entropy",)),
    (
        ("train.samples_per_image", "train.baseline", "train.sample_temperature"),
        "train.objective",
        ("self_critical",),
    ),
    (("text.vocabulary_size",), "text.pretrained", ("",)),
    (("answers.min_count", "answers.top", "answers.spelling"), "answers.file", ("",)),
    (
        (
            *("regions.weights", "regions.pretrained", "text.pretrained", "text.vocabulary_size", "train.word_vectors"),
            *("answers.file", "answers.min_count", "answers.top", "answers.spelling", "train.min_word_count"),
        ),
        "init_from",
        ("",),
    ),
)


def read_recipe(path: str | Path, changes: list[str] | None = None) -> Recipe:
    """The recipe in a file, or of a name (see `recipe_path`), with changes such as `train.epochs=3` applied.

    Raises `ValueError` naming the file for an unknown key, a missing one, a value of the wrong kind or range.
    """
    path = recipe_path(path)
    content = read_content(path)
    try:
        for change in changes or []:
            _apply_change(content, changed_name(change))
        content = _with_home(with_new_names(content))
        sections = {name: _build(kind, content.pop(name, None) or {}, name) for name, kind in SECTIONS.items()}
        recipe = _build(Recipe, {**content, **sections}, "the recipe")
        _check_ranges(recipe)
        return recipe
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_content(path: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe's file, joined with those of the recipe that it names as its `base`.

    path: of a file; above: the recipes that led to it. A `base` is a path relative to that file, or the name of a
    recipe that comes along. Raises `ValueError` for a file that is no recipe, and for recipes that stand on each other.
    """
    if path.resolve() in above:
        raise ValueError(f"{path} stands on itself: its base, or that of its base, is {path}")
    try:
        content = yaml.load(read_text(path), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no keys; see the recipes in training/recipes/")
    content = with_new_names(content, source=f"{path}: ")
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ValueError(f"{path}: base is {base!r}, but must be the path or the name of a recipe")
    beside = path.parent / base
    found = beside if beside.is_file() else recipe_path(base)
    below = read_content(found, above=(*above, path.resolve()))
    if isinstance(content.get("data"), dict) and "format" in content["data"]:
        below.pop("data", None)
    return joined(below, content)


def joined(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; a value of `own` wins, and a key without a value takes what the base has away.

    >>> joined({"train": {"epochs": 3, "seed": 1}, "text": {"a": 1}}, {"train": {"epochs": 5}, "text": None})
    {'train': {'epochs': 5, 'seed': 1}}
    """
    both = {key: value for key, value in {**base, **own}.items() if value is not None or key not in base}
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            both[key] = joined(base[key], value)
    return both


def check_keys(recipe: Recipe, readers: Mapping[str, Iterable[str]]) -> None:
    """`ValueError` for a key that has a value of its own and that the recipe's task does not read.

    A key that would be read beside another value of another key (`momentum` with another optimiser) is a warning.

    Args:
        recipe: its `task` is one of the readers.
        readers: task -> the keys that it reads, `train.epochs`; a section's name stands for all of its keys.
    """
    given = [key for key in section_keys() if value_of(recipe, key) != default_of(key)]
    idle = [key for key in given if not is_read(key, readers[recipe.task])]
    if idle:
        told = []
        for key in idle:
            others = [task for task, keys in readers.items() if is_read(key, keys)]
            told.append(f"{key} (read by {', '.join(others)})")
        raise ValueError(f"the task {recipe.task} does not read {', '.join(told)}: leave {key_or_keys(idle)} out")
    for keys, other, values in READ_BESIDE:
        passed_over = [key for key in keys if key in given and is_read(other, readers[recipe.task])]
        if passed_over and value_of(recipe, other) not in values:
            warnings.warn(
                f"{', '.join(passed_over)} of the recipe says nothing, since {other} is "
                f"{value_of(recipe, other)!r}: it is read where that is {' or '.join(map(repr, values))}",
                stacklevel=2,
            )


def key_or_keys(keys: list[str]) -> str:
    """The pronoun for one key or several."""
    return "it" if len(keys) == 1 else "them"


def is_read(key: str, reads: Iterable[str]) -> bool:
    """Whether a key, or its whole section, is among those that are read; what stands in no section always is.

    >>> is_read("masks.words", ["masks"]), is_read("train.ema", ["train.epochs"]), is_read("init_from", [])
    (True, False, True)
    """
    return "." not in key or bool({key, key.split(".")[0]} & {*reads})


def section_keys() -> list[str]:
    """Every key of every section: `regions.source`, ..., `evaluate.max_images`."""
    return [f"{name}.{entry.name}" for name, kind in SECTIONS.items() for entry in dataclasses.fields(kind)]


def value_of(recipe: Recipe, key: str) -> Any:
    """A recipe's value of a key such as `train.epochs` or `init_from`."""
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def default_of(key: str) -> Any:
    """The value of a section's key in a recipe that does not name it."""
    section, name = key.split(".")
    return getattr(SECTIONS[section](), name)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where no known name is like this one.

    >>> did_you_mean("epoch", ["epochs", "ema"]), did_you_mean("lr", ["epochs"])
    ("; did you mean 'epochs'?", '')
    """
    similar = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {similar[0]!r}?" if similar else ""


def recipe_path(name: str | Path) -> Path:
    """A recipe's file: a path, or the bare name of a recipe that comes along, such as `captioning/scenes`.

    The names before there were folders, `captioning_scenes`, still work. Raises `ValueError` with the names that are
    meant where there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {f"{recipe.parent.name}/{recipe.stem}": recipe for recipe in RECIPES.glob("*/*.yaml")}
    flat = {flat_name(own_name): own_name for own_name in known}
    own_name = flat.get(path.stem, str(name))
    if own_name in known:
        return known[own_name]
    wanted = "/".join(path.with_suffix("").parts[-2:])
    meant = did_you_mean(wanted, known) or f"; those that come along are {', '.join(sorted(known))}"
    raise ValueError(f"{name} is not there, nor does a recipe of that name come along{meant}")


def flat_name(name: str) -> str:
    """What a recipe was called before there were folders, and its run's folder is still.

    >>> flat_name("captioning/scenes"), flat_name("detection/lite")
    ('captioning_scenes', 'detector_lite')
    """
    task, _, dataset = name.partition("/")
    return f"{'detector' if task == 'detection' else task}_{dataset}"


def changed_keys(before: dict[str, Any], after: dict[str, Any], *, prefix: str = "") -> list[str]:
    """The keys whose values differ between two `Recipe.as_dict`, sections as `train.epochs`.

    >>> changed_keys({"seed": 0, "train": {"epochs": 1, "ema": 0}}, {"seed": 0, "train": {"epochs": 2, "ema": 0}})
    ['train.epochs']
    """
    changed = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed += changed_keys(old, new, prefix=f"{prefix}{key}.")
        elif old != new:
            changed.append(prefix + key)
    return changed


def _apply_change(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise ValueError(f"--set {change}: write KEY=VALUE, for example train.epochs=3")
    *parents, last = key.split(".")
    for parent in parents:
        if content.get(parent) is None:  # absent, or a key without a value
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise ValueError(f"--set {change}: {parent} is a value, not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {change}: {value!r} is no YAML value") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML as `yaml.safe_load` reads it; a key that stands twice in a section is an error: the first would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A section; `yaml.YAMLError` that names the line of a repeated key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                place = f"line {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"the key {key.value!r} stands twice in one section, again in {place}")
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _with_home(content: Any) -> Any:
    """A recipe's values with `~/` at the start of a path as the home folder, as a shell has it."""
    if isinstance(content, dict):
        return {key: _with_home(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_home(value) for value in content]
    return os.path.expanduser(content) if isinstance(content, str) else content


def _build(kind: type, content: dict[str, Any], name: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be a section of keys, not {content!r}")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    unknown = [key for key in content if key not in fields]
    if unknown:
        guess = did_you_mean(unknown[0], fields) + also_elsewhere(unknown[0], name)
        taken = "" if guess and name in SECTIONS else f"; it takes {', '.join(fields)}"  # a long list would hide it
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))} in {name}{taken}{guess}")
    required = [key for key, entry in fields.items() if entry.default is entry.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    return kind(**{key: _checked(f"{name}: {key}", fields[key].type, value) for key, value in content.items()})


def also_elsewhere(key: Any, section: str) -> str:
    """Where a key that a section does not have is one of another section's: `; there is train.epochs`."""
    places = [name for name in section_keys() if name.split(".")[1] == key and name.split(".")[0] != section]
    return f"; there is {' and '.join(places)}" if places else ""


def _checked(name: str, wanted: Any, value: Any) -> Any:
    choices = getattr(wanted, "__args__", ()) if getattr(wanted, "__origin__", None) is Literal else ()
    if value is False and "no" in choices:
        return "no"  # YAML reads a bare no as false
    if choices and value not in choices:
        raise ValueError(
            f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}" + did_you_mean(value, choices)
        )
    if wanted is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError as error:
            raise ValueError(f"{name} is {value!r}, which is no number") from error
    if wanted is str and value is None:
        return ""  # YAML reads a key without a value as null
    kind = getattr(wanted, "__origin__", wanted)  # dict[str, Any] -> dict
    if kind is dict and value is None:
        return {}
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ValueError(f"{name} is {value!r}, which is no {KIND_NAMES[kind]}")
    return value


def _check_ranges(recipe: Recipe) -> None:
    """`ValueError` for numbers that no run can use."""
    train = recipe.train
    if not recipe.output.strip():
        raise ValueError("output is empty: name the run's folder, such as runs/captioning")
    if not recipe.data.get("format"):
        raise ValueError("data lacks format, such as `format: folder` for your own images")
    for lowest, keys in ((1, ONE_OR_MORE), (0, ZERO_OR_MORE + SHARES)):
        for section, name in (key.split(".") for key in keys):
            value = getattr(getattr(recipe, section), name)
            if not value >= lowest:
                raise ValueError(f"{section}: {name} is {value}, but must be {lowest} or more")
            if f"{section}.{name}" in SHARES and value >= 1:
                raise ValueError(f"{section}: {name} is {value}, but must be below 1")
    if not 0 <= recipe.regions.min_share <= 1:
        raise ValueError(f"regions: min_share is {recipe.regions.min_share}, but must be in 0..1")
    if not 0 < recipe.regions.crops <= 1:
        raise ValueError(f"regions: crops is {recipe.regions.crops}, but must be above 0 and at most 1")
    if len(train.betas) != 2:
        raise ValueError(f"train: betas is {train.betas}, but must be two numbers")
    if train.objective == "self_critical" and train.baseline != "greedy" and train.samples_per_image < 2:
        raise ValueError(
            f"train: baseline {train.baseline!r} compares samples of an image: raise samples_per_image to 2"
        )
