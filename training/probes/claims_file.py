"""A claims file: which recipes, with which changes and seeds, make the rows of one table.

    probes/claims/NAME.yaml --read_claim--> Claim --claim.py--> a run for each row and seed

title: what the table shows.
recipe: a recipe's path or name, of every row that names none of its own.
set: changes to the recipes of all rows, `regions.source: {...}`, as `--set` takes them; `null` empties a key.
metrics: what the table shows, `cider`, without `_x100`; of those with scores of single items it shows differences too.
reference: the row that the others are compared with; by default the first.
seeds: of every row that has none of its own; by default 0.
rows: name -> what is its own of `recipe`, `set` (joined with the common one, key by key), `seeds` and `reference`.
base: another claims file, a path relative to this one or the name of one that comes along, with which this one is
    joined as recipes are: `set` key by key, rows by name (new ones last); a row or a key without a value takes away
    what the base has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from training.console import did_you_mean
from training.recipe import joined, read_keys, read_recipe
from training.recipe_sections import Recipe
from training.tasks import TASKS

CLAIMS = Path(__file__).parent / "claims"
ROW_KEYS = ("recipe", "set", "seeds", "reference")
KEYS = ("base", "title", "metrics", *ROW_KEYS, "rows")
OURS = ("seed", "output")  # which the row's runs settle


@dataclass(frozen=True)
class Row:
    """One row of the table: a recipe with changes, trained once for each seed; `reference` is what it is compared
    with."""

    name: str
    recipe: str
    changes: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str

    @property
    def folder(self) -> str:
        """The name of the folder of its runs.

        >>> Row("7x7 cells, ImageNet", "", (), (), "").folder
        '7x7_cells_imagenet'
        """
        return "_".join(re.findall(r"[a-z0-9]+", self.name.lower()))

    def run_changes(self, output: Path, seed: int) -> list[str]:
        """All that a run changes of the recipe, each as `--set` takes it."""
        return [*self.changes, f"seed={seed}", f"output={flow(str(output / self.folder / str(seed)))}"]

    def run_recipe(self, output: Path, seed: int) -> Recipe:
        """The recipe of the run of a seed, below the folder `output`; `ValueError` naming the row."""
        try:
            return read_recipe(self.recipe, self.run_changes(output, seed))
        except ValueError as error:
            raise ValueError(f"row {self.name!r}: {error}") from error


@dataclass(frozen=True)
class Claim:
    """A table to be measured; `labels`: metric -> its name on cards."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    labels: Mapping[str, str]

    def row(self, name: str) -> Row:
        """The row of a name; `ValueError` where there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            names = [row.name for row in self.rows]
            raise ValueError(
                f"there is no row {name!r}" + (did_you_mean(name, names) or f"; there are {', '.join(names)}")
            )
        return found


def read_claim(name: str | Path, *, changes: Sequence[str] = ()) -> Claim:
    """The claim in a file, or of the name of one that comes along, such as `flickr8k_captioning`.

    changes: to all rows, such as `train.max_steps=20`; they come after the file's common ones and before a row's own.

    Raises `ValueError` for an unknown key, a recipe that cannot be read as a row changes it, rows of several tasks, and
    a metric or a reference that there is not.
    """
    path = claim_path(name)
    content = read_content(path)
    if not isinstance(content.get("rows"), dict) or not content["rows"]:
        raise ValueError(f"{path} holds no rows: write `rows:` and below it each row's name and what is its own")
    try:
        common = _settings(content, "the file")
        rows = tuple(
            _row(str(name), own, content, changes=(*common, *changes)) for name, own in content["rows"].items()
        )
        task = _check_rows(rows)
        metrics = content.get("metrics") or [TASKS[task].best_by[0]]
        _check_metrics(metrics, task)
        claim = Claim(str(content.get("title") or path.stem), tuple(metrics), rows, TASKS[task].metrics)
        for row in rows:
            claim.row(row.reference)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return claim


def read_content(path: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a claims file, joined with those of the one that it names as its `base`; recipes that lie beside a
    file are named by their whole paths.

    above: the files that led to it. Raises `ValueError` for an unknown key, a base that there is not, and for files
    that stand on each other.
    """
    if path.resolve() in above:
        circle = " -> ".join(map(str, [*above, path.resolve()]))
        raise ValueError(f"{path} is its own base ({circle}): take the `base` out of one of them")
    content = read_keys(path) or {}
    rows = content.get("rows")
    try:
        _check_keys(content, KEYS, "the file")
        base = content.pop("base", None)
        below = {} if base is None else read_content(_base_path(base, path), above=(*above, path.resolve()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for part in (content, *(rows.values() if isinstance(rows, dict) else ())):
        if isinstance(part, dict) and isinstance(part.get("recipe"), str) and (path.parent / part["recipe"]).is_file():
            part["recipe"] = str(path.parent / part["recipe"])
    return joined(below, content)


def _base_path(base: Any, path: Path) -> Path:
    if not isinstance(base, str):
        raise ValueError(f"base is {base!r}, but must be the path or the name of a claims file")
    beside = path.parent / base
    try:
        return beside if beside.is_file() else claim_path(base)
    except ValueError as error:
        raise ValueError(f"its base {error} (the row that others are compared with is `reference`)") from error


def claim_path(name: str | Path) -> Path:
    """A claims file by its path, or by the name of one that comes along; `ValueError` where there is neither."""
    known = {path.stem: path for path in CLAIMS.glob("*.yaml")}
    if Path(name).is_file():
        return Path(name)
    if str(name) in known:
        return known[str(name)]
    raise ValueError(
        f"{name} is not there, nor does a claims file of that name come along"
        + (did_you_mean(Path(name).stem, known) or f"; those that come along are {', '.join(sorted(known))}")
    )


def flow(value: Any) -> str:
    """A value as YAML on one line.

    >>> flow({"grid_size": 7, "weights": None}), flow(1e-5), flow("no")
    ('{grid_size: 7, weights: null}', '1.0e-05', "'no'")
    """
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20)
    return text.strip().removesuffix("...").strip()


def _row(name: str, own: Any, common: Mapping[str, Any], *, changes: Sequence[str]) -> Row:
    own = {} if own is None else own
    if not isinstance(own, dict):
        raise ValueError(f"row {name!r} is {own!r}, and must be a section of {', '.join(ROW_KEYS)}")
    _check_keys(own, ROW_KEYS, f"row {name!r}")
    recipe = own.get("recipe") or common.get("recipe")
    if not isinstance(recipe, str):
        raise ValueError(f"row {name!r} has no recipe: name one there, or one for all rows")
    return Row(
        name=name,
        recipe=recipe,
        changes=(*changes, *_settings(own, f"row {name!r}")),
        seeds=_seeds(own.get("seeds", common.get("seeds", [0])), name),
        reference=str(own.get("reference") or common.get("reference") or next(iter(common["rows"]))),
    )


def _settings(given: Mapping[str, Any], place: str) -> list[str]:
    """The section `set` as changes of a recipe, `train.epochs=3`."""
    settings = given.get("set") or {}
    if not isinstance(settings, dict):
        raise ValueError(f"{place}: set is {settings!r}, and must be a section of keys such as `train.epochs: 3`")
    refused = [key for key in OURS if key in settings]
    if refused:
        raise ValueError(f"{place} sets {', '.join(refused)}: seeds stand in `seeds`, folders follow the rows")
    return [f"{key}={flow(value)}" for key, value in settings.items()]


def _seeds(given: Any, name: str) -> tuple[int, ...]:
    seeds = given if isinstance(given, list) else [given]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError(f"row {name!r}: seeds is {given!r}, and must be a list of different whole numbers from 0")
    return tuple(seeds)


def _check_rows(rows: Sequence[Row]) -> str:
    """The task of the rows; `ValueError` for several, for rows of one folder, and for a recipe that cannot be read."""
    folders: dict[str, str] = {}
    tasks: dict[str, str] = {}
    for row in rows:
        other = folders.setdefault(row.folder, row.name)
        if not row.folder or other != row.name:
            raise ValueError(f"the rows {other!r} and {row.name!r} have the same folder, {row.folder!r}: rename one")
        tasks.setdefault(row.run_recipe(Path(), row.seeds[0]).task, row.name)
    if len(tasks) > 1:
        told = " and ".join(f"{name!r} of {task}" for task, name in tasks.items())
        raise ValueError(f"the rows are of several tasks, {told}: give each task a file of its own")
    return next(iter(tasks))


def _check_metrics(metrics: Any, task: str) -> None:
    known = TASKS[task].metrics
    if not isinstance(metrics, list) or not metrics:
        raise ValueError(f"metrics is {metrics!r}, and must be a list of {', '.join(known)}")
    for metric in metrics:
        if metric not in known:
            raise ValueError(
                f"the task {task} has no metric {metric!r}" + (did_you_mean(metric, known) or f"; it has {[*known]}")
            )


def _check_keys(given: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    unknown = [key for key in given if key not in known]
    if unknown:
        told = did_you_mean(unknown[0], known) or f"; it takes {', '.join(known)}"
        raise ValueError(f"unknown key {unknown[0]!r} in {place}{told}")
