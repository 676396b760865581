"""A recipe: the short YAML that says what to train, read into dataclasses. An unknown key is an error.

    recipes/TASK/DATASET.yaml --read_recipe--> Recipe --training/train.py--> runs/TASK_DATASET/

A recipe that names another one as its `base` says only what differs from it: sections are joined key by key, and what
stands in the recipe itself wins; a key without a value takes the base's away. A recipe whose `data` name a `format`
says all of its data, and one with an `architecture` of its own all of its `model`: nothing of the base's is left. So a
part of `task: multi`, whose `data` are other recipes, stands on the `recipe` that it names.

Each task declares the keys that it reads (its `SPEC`); another key with a value of its own is an error too
(`check_keys`), so that no key is passed over in silence.

Every key is documented in `recipe_sections.py`, those of a single task in that task's file. Values can be changed on
the command line: `--set train.epochs=3`.
"""

import dataclasses
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from training.console import did_you_mean
from training.data.files import read_text
from training.recipe_names import changed_name, with_new_names
from training.recipe_sections import Recipe, is_read, own_values, section_keys, sections_of
from training.shipped import RECIPES
from training.tasks import TASKS
from training.tasks.spec import RUN_READS, TaskSpec

PART_KEYS = ("recipe", "weight")  # of a part of a recipe; others are those of the recipe that it names
THE_RECIPE = "the recipe"  # as errors call what holds the sections
KIND_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", dict: "section", list: "list"}
LIMITS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "lowest": (operator.ge, "{} or more"),
    "above": (operator.gt, "above {}"),
    "highest": (operator.le, "at most {}"),
    "below": (operator.lt, "below {}"),
}


def read_recipe(path: str | Path, changes: list[str] | None = None) -> Recipe:
    """The recipe in a file, or of a name (see `recipe_path`), with changes such as `train.epochs=3` applied.

    Raises `ValueError` naming the file for an unknown key, a missing one, a value of the wrong kind or range.
    """
    path = recipe_path(path)
    content = read_content(path)
    try:
        for change in changes or []:
            _apply_change(content, changed_name(change))
        return build_recipe(_with_home(with_new_names(content)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def build_recipe(content: dict[str, Any]) -> Recipe:
    """The recipe that a file's content describes, of its task's class, and with what it leaves to its task.

    Raises `ValueError` for an unknown key, one that the task does not read, and a value of the wrong kind or range. A
    section of another task is left out where all of its values are the defaults, as older runs wrote them.
    """
    if {"task", "output", "data"} - {*content}:
        _build(Recipe, content, THE_RECIPE)  # says what is missing
    spec, sections = spec_of(content["task"]), all_sections()
    if spec.parts:
        content = {**content, "data": with_parts(content["data"], spec)}
    built = {name: _build(kind, content.get(name) or {}, name) for name, kind in sections.items()}
    own = sections_of(spec.recipe)
    rest = {name: value for name, value in content.items() if name not in sections}
    recipe = _build(spec.recipe, {**rest, **{name: built[name] for name in own}}, THE_RECIPE)
    if not recipe.output.strip():
        raise ValueError("output is empty: name the run's folder, such as runs/captioning")
    if not recipe.data.get("format"):
        raise ValueError("data lacks format, such as `format: folder` for your own images")
    spec.settle(recipe)
    given = [f"{name}.{key}" for name, section in built.items() for key in own_values(section)]
    check_keys(spec, recipe.architecture, given)
    return recipe


def read_content(path: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe's file, joined with those of the recipe that it names as its `base`.

    path: of a file; above: the recipes that led to it. A `base`, or the `recipe` of a part, is a path relative to that
    file, or the name of a recipe that comes along. Raises `ValueError` for a file that is no recipe, and for recipes
    that stand on each other.
    """
    if path.resolve() in above:
        circle = " -> ".join(map(str, [*above, path.resolve()]))
        raise ValueError(f"{path} is its own base ({circle}): take the `base` out of one of them")
    content = read_keys(path)
    if content is None:
        raise ValueError(f"{path} holds no keys; see the recipes in training/recipes/")
    content = with_parts_beside(with_new_names(content, source=f"{path}: "), path)
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ValueError(f"{path}: base is {base!r}, but must be the path or the name of a recipe")
    beside = path.parent / base
    try:
        found = beside if beside.is_file() else recipe_path(base)
    except ValueError as error:
        raise ValueError(f"{path}: its base {error}") from error
    return changed(read_content(found, above=(*above, path.resolve())), content)


def changed(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A recipe's content on that of its base: `joined`, but for data and models that are another's."""
    lost = {"data"} if isinstance(own.get("data"), dict) and "format" in own["data"] else set()
    lost |= {"model"} if "architecture" in own else set()  # fields of another class
    return joined({key: value for key, value in base.items() if key not in lost}, own)


def with_parts_beside(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A recipe's content, in which parts whose files lie beside its own name them by their whole path."""
    data = content.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("parts"), dict):
        return content
    parts = data["parts"]
    found = {name: entry for name, entry in parts.items() if isinstance(entry, dict)}
    found = {name: entry for name, entry in found.items() if isinstance(entry.get("recipe"), str)}
    found = {name: {**entry, "recipe": str(path.parent / entry["recipe"])} for name, entry in found.items()}
    beside = {name: entry for name, entry in found.items() if Path(entry["recipe"]).is_file()}
    return {**content, "data": {**data, "parts": {**parts, **beside}}}


def with_parts(data: Any, spec: TaskSpec) -> Any:
    """The `data` of a recipe that is made of others, with each part's recipe read (`Recipe`) and its weight.

    Raises `ValueError` naming the part for one that cannot be read, is of a task that is none of `spec.parts`, or sets
    what is of the whole run.
    """
    if not isinstance(data, dict) or not isinstance(data.get("parts"), dict) or not data["parts"]:
        raise ValueError("data lacks parts: name them, such as `parts: {entailment: {recipe: entailment/scenes}}`")
    built = {}
    for name, entry in data["parts"].items():
        try:
            built[name] = _build_part(entry, spec)
        except ValueError as error:
            raise ValueError(f"data.parts.{name}: {error}") from error
    return {**data, "parts": built}


def _build_part(entry: Any, spec: TaskSpec) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("recipe"), str | dict):
        raise ValueError(
            "it lacks recipe, such as `recipe: entailment/scenes`; other keys change that recipe, and `weight` is that "
            "of its loss"
        )
    own = {key: value for key, value in entry.items() if key not in PART_KEYS}
    meant = next((key for key in own if key not in all_sections() and did_you_mean(key, PART_KEYS)), None)
    if meant is not None:
        raise ValueError(f"unknown key {meant!r}{did_you_mean(meant, PART_KEYS)}")
    of_the_run = [key for key in ("task", "output", "seed") if key in own]
    for section in ("train", "evaluate"):
        given = own[section] if isinstance(own.get(section), dict) else {}
        of_the_run += [f"{section}.{key}" for key in given if f"{section}.{key}" in RUN_READS]
    if of_the_run:
        raise ValueError(f"{', '.join(of_the_run)} of a part is that of the whole run: set it beside `data`")
    recipe = entry["recipe"]
    content = changed(recipe if isinstance(recipe, dict) else read_content(recipe_path(recipe)), own)
    if content.get("task") not in spec.parts:
        raise ValueError(f"the task {content.get('task')} can be no part; {', '.join(spec.parts)} can")
    return {"recipe": build_recipe(_with_home(with_new_names(content))), "weight": entry.get("weight", 1.0)}


def read_keys(path: Path) -> dict[str, Any] | None:
    """A YAML file's keys and values, None where it holds none; `ValueError` for what is no YAML, or repeats a key."""
    try:
        content = yaml.load(read_text(path), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    return content if isinstance(content, dict) else None


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


def spec_of(task: Any) -> TaskSpec:
    """What a task declares; `ValueError` for one that there is not."""
    if str(task) not in TASKS:
        raise ValueError(f"unknown task {task!r}; choose one of {', '.join(TASKS)}" + did_you_mean(task, TASKS))
    return TASKS[task]


def check_keys(spec: TaskSpec, architecture: str, given: Iterable[str]) -> None:
    """`ValueError` naming those of the `given` keys that a task with that model does not read, and who reads them."""
    idle = [key for key in given if not is_read(key, spec.keys_read(architecture))]
    if idle:
        named = ", ".join(f"{key} (read by {', '.join(readers(key))})" for key in idle)
        pronoun = "it" if len(idle) == 1 else "them"
        raise ValueError(f"the task {spec.name} does not read {named}: leave {pronoun} out")


def readers(key: str) -> list[str]:
    """The tasks that read a key, each with the models that it is read with where those are not all of its own."""
    found = []
    for name, spec in TASKS.items():
        models = [model for model in spec.models if is_read(key, spec.keys_read(model))]
        if models:
            found.append(name if len(models) == len(spec.models) else f"{name} with {' or '.join(models)}")
    return found


def all_sections() -> dict[str, type[Any]]:
    """Every section that some task's recipe has: name -> dataclass."""
    return {name: kind for spec in TASKS.values() for name, kind in sections_of(spec.recipe).items()}


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
    is_old_name = str(path.parent) == "." or path.parent.name == RECIPES.name  # a wrong path of one's own is none
    own_name = flat.get(path.stem, "") if is_old_name else ""
    own_name = own_name or str(name)
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
    return f"{TASKS[task].runs or task if task in TASKS else task}_{dataset}"


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
        taken = "" if guess and name != THE_RECIPE else f"; it takes {', '.join(fields)}"  # a long list would hide it
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))} in {name}{taken}{guess}")
    required = [key for key, entry in fields.items() if entry.default is entry.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    values = {key: _checked(f"{name}: {key}", fields[key].type, value) for key, value in content.items()}
    for key, value in values.items():
        _check_limits(f"{name}: {key}", value, fields[key].metadata.get("limits", {}))
    return kind(**values)


def _check_limits(name: str, value: Any, limits: Mapping[str, float]) -> None:
    """`ValueError` for a value that is outside of the limits of its key (see `recipe_sections.key`), or not finite."""
    if "length" in limits and len(value) != limits["length"]:
        raise ValueError(f"{name} is {value}, but must be a list of {limits['length']}")
    bounds = {bound: limit for bound, limit in limits.items() if bound in LIMITS}
    if not all(LIMITS[bound][0](value, limit) for bound, limit in bounds.items()):
        asked = " and ".join(LIMITS[bound][1].format(limit) for bound, limit in bounds.items())
        raise ValueError(f"{name} is {value}, but must be {asked}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}, but must be a finite number")


def also_elsewhere(key: Any, section: str) -> str:
    """Where a key that a section does not have is one of another section's: `; there is train.epochs`."""
    places = [
        name for name in section_keys(all_sections()) if name.split(".")[1] == key and name.split(".")[0] != section
    ]
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
