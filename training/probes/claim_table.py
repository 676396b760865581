"""The table of a claim: what its finished runs say, in Markdown and JSON.

evaluations and item scores of a row's runs --row_figures--> mean, deviation over seeds --compared--> differences
"""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from training.compare import described, difference, markdown, shown
from training.metrics.item_scores import ItemScores
from training.probes.claims_file import Claim

NOTE = (
    "Figures are means over the seeds, with their standard deviation (n - 1) where there are several. Differences are "
    "those of the items' scores averaged over the seeds of each row, with 95 % intervals of a paired bootstrap over "
    "items (images, or questions): chance of the seeds is not in them. Minutes are those of a whole run, regions, "
    "training and scoring, on this machine."
)

Entry = dict[str, Any]


def row_figures(runs: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> Entry:
    """Mean and deviation over a row's finished runs, each with `evaluation` and `minutes`.

    Returns `metrics`: metric -> `mean_x100`, `deviation_x100` (n - 1; None for one run), and `minutes`, their mean over
    the runs whose time is known (None without one). A metric that the runs' machine could not compute (`not_computed`:
    SPICE by spaCy, say, and its parts) is left out. Raises `ValueError` for another metric that was not measured, and
    for runs on different data.
    """
    data = {described(run["evaluation"]) for run in runs}
    if len(data) > 1:
        raise ValueError(f"its runs were scored on different data: {' and '.join(sorted(data))}")
    figures = {}
    lacking = tuple(name for run in runs for name in run["evaluation"].get("not_computed", {}))
    for metric in metrics:
        values = [run["evaluation"]["metrics"].get(f"{metric}_x100") for run in runs]
        if None in values and metric.startswith(lacking):
            continue
        if None in values:
            measured = ", ".join(name.removesuffix("_x100") for name in runs[0]["evaluation"]["metrics"])
            raise ValueError(f"{metric} was not measured; the runs have {measured}")
        figures[metric] = {"mean_x100": mean(values), "deviation_x100": stdev(values) if len(values) > 1 else None}
    minutes = [run["minutes"] for run in runs if run["minutes"] is not None]
    return {"metrics": figures, "minutes": mean(minutes) if minutes else None}


def mean_items(scores: Sequence[ItemScores], metric: str) -> Entry | None:
    """The scores of items averaged over runs (entries of `item_scores.json`); None where a run has none of the metric.

    Raises `ValueError` for runs that were scored on different items.

    >>> mean_items([{"cider": {"ids": ["a", "b"], "values": [1.0, 0.0]}},
    ...             {"cider": {"ids": ["b", "a"], "values": [0.5, 2.0]}}], "cider")
    {'ids': ['a', 'b'], 'values': [1.5, 0.25]}
    """
    if not scores or not all(metric in own for own in scores):
        return None
    first, *_ = entries = [own[metric] for own in scores]
    columns = [dict(zip(own["ids"], zip(own["values"], weights_of(own), strict=True), strict=True)) for own in entries]
    if any(column.keys() != columns[0].keys() for column in columns):
        raise ValueError(f"the runs of different seeds were scored on different images or questions ({metric})")
    if any(column[item][1] != columns[0][item][1] for column in columns for item in column):
        raise ValueError(f"the runs of different seeds were scored on different captions ({metric})")
    values = [mean(column[item][0] for column in columns) for item in first["ids"]]
    return {**first, "values": values}


def weights_of(entry: Mapping[str, Any]) -> list[Any]:
    """How much each item counts; 1 where nothing is said of it."""
    return entry.get("weights", [1] * len(entry["ids"]))


def claim_rows(claim: Claim, runs: Mapping[str, Sequence[Mapping[str, Any]]], *, seed: int = 0) -> list[Entry]:
    """All rows of the table.

    Args:
        claim: its rows and metrics.
        runs: row -> its runs, each with `seed`, `folder`, `error` ("" without one), `minutes` (None where unknown) and,
            where it is finished, `evaluation` and `items`.
        seed: of the bootstrap.

    Returns:
        For each row `name`, `recipe`, `set`, `reference`, `seeds` of its finished runs, `runs` (without evaluation and
        items), `errors`, what `row_figures` returns, `data` and, where both rows have finished runs, `differences`:
        metric -> difference to the reference row and interval.
    """
    done = {row.name: [run for run in runs[row.name] if run.get("evaluation")] for row in claim.rows}
    found = []
    for row in claim.rows:
        own = done[row.name]
        told = [f"seed {run['seed']}: {run['error']}" for run in runs[row.name] if run["error"]]
        entry: Entry = {"name": row.name, "recipe": row.recipe, "set": list(row.changes), "reference": row.reference}
        entry |= {"seeds": [run["seed"] for run in own], "runs": [run_facts(run) for run in runs[row.name]]}
        entry |= {"errors": told, "metrics": {}, "minutes": None}
        try:
            if own:
                entry |= row_figures(own, claim.metrics) | {"data": described(own[0]["evaluation"])}
            if own and row.reference != row.name and done[row.reference]:
                entry["differences"] = differences(
                    own, done[row.reference], claim.metrics, names=(row.name, row.reference), seed=seed
                )
        except ValueError as error:
            entry["errors"].append(str(error))
        found.append(entry)
    return found


def run_facts(run: Mapping[str, Any]) -> Entry:
    """A run without what its own folder holds, but with its figures."""
    kept = {name: run[name] for name in ("seed", "folder", "minutes", "error")}
    return kept | ({"metrics": run["evaluation"]["metrics"]} if run.get("evaluation") else {})


def differences(
    own: Sequence[Mapping[str, Any]],
    reference: Sequence[Mapping[str, Any]],
    metrics: Sequence[str],
    *,
    names: Sequence[str],
    seed: int,
) -> Entry:
    """Of each metric that is a mean over items: a row's difference to its reference, and the 95 % interval.

    Raises `ValueError` where both were not scored on the same items.
    """
    data = [described(runs[0]["evaluation"]) for runs in (own, reference)]
    if data[0] != data[1]:
        raise ValueError(f"{names[0]} was scored on {data[0]} and {names[1]} on {data[1]}: give both the same data")
    found = {}
    for metric in metrics:
        scores, others = (mean_items([run["items"] for run in runs], metric) for runs in (own, reference))
        if scores is not None and others is not None:
            found[metric] = difference(scores, others, seed=seed, names=names)
    return found


def claim_markdown(claim: Claim, rows: Sequence[Entry], *, command: str) -> str:
    """The table with its title, command, notes and errors."""
    compared = [metric for metric in claim.metrics if any(metric in row.get("differences", {}) for row in rows)]
    titles = [claim.labels[metric] for metric in claim.metrics]
    usual = claim.rows[0].reference if len({row.reference for row in claim.rows}) == 1 else ""
    heads = [f"{claim.labels[metric]}, difference to {usual or 'the reference'}" for metric in compared]
    lines = [["row", "seeds", *titles, "minutes", *heads]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        figures = [with_deviation(row["metrics"].get(metric)) for metric in claim.metrics]
        minutes = "" if row["minutes"] is None else f"{row['minutes']:.1f}"
        gains = [gain(row, metric, names_reference=not usual) for metric in compared]
        lines.append([row["name"], ", ".join(map(str, row["seeds"])), *figures, minutes, *gains])
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    data = ", ".join(dict.fromkeys(row["data"] for row in rows if "data" in row))
    errors = [f"- {row['name']}, {error}" for row in rows for error in row["errors"]]
    parts = [f"# {claim.title}", f"`{command}`", *([f"Scored on {data}."] if data else []), markdown(cells), NOTE]
    return "\n\n".join([*parts, *(["Failed:", "\n".join(errors)] if errors else [])]) + "\n"


def with_deviation(figure: Mapping[str, Any] | None) -> str:
    """A mean, and the deviation where there is one.

    >>> with_deviation({"mean_x100": 55.24, "deviation_x100": 0.4}), with_deviation(None)
    ('55.2 ± 0.4', 'not measured')
    """
    if figure is None:
        return "not measured"
    spread = figure["deviation_x100"]
    return f"{figure['mean_x100']:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def gain(row: Mapping[str, Any], metric: str, *, names_reference: bool) -> str:
    """A row's difference with its interval, behind it the reference where rows have several; "" where there is none."""
    found = row.get("differences", {}).get(metric)
    if found is None:
        return ""
    return shown(found) + (f" to {row['reference']}" if names_reference else "")
