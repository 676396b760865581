"""How much of what captions of moving scenes say is so, beside what a single frame tells.

    python -m training.probes.moving_facts all=runs/captioning_moving_scenes/best \\
        one=runs/captioning_moving_scenes_1/best

Reads `predictions.json` of evaluated captioners on clips of the same scenes, whatever frames each saw, and prints for
each how many captions are exact and which share of its facts is so, with the paired difference to the first
(`training/scenes/moving_facts.py`).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.console import one_line, say
from training.data.files import read_json, write_json
from training.scenes.moving_facts import CLIP_ID, KINDS, fact_scores, scene_of

COLUMNS = ("exact", "facts", *KINDS)
DRAWS = 2000  # of clips, for an interval


def read_captions(folder: Path) -> dict[str, str]:
    """Clip (its image_id without the frames that were kept) -> caption, of a folder's `predictions.json`.

    Raises `OSError` or `ValueError` for a folder without predictions of captions.
    """
    path = folder / "predictions.json"
    listed = read_json(path)
    keys = {"image_id", "caption"}
    if not isinstance(listed, list) or not all(isinstance(own, dict) and keys <= own.keys() for own in listed):
        raise ValueError(f"{path} holds no captions: name a folder that updown evaluate wrote for a captioner")
    captions = {}
    for own in listed:
        found = CLIP_ID.fullmatch(str(own["image_id"]))
        if found is None:
            raise ValueError(f"{path}: {own['image_id']!r:.80} is not the image_id of a moving scene")
        captions[f"moving-{found[1]}-{found[2]}-{found[3]}"] = str(own["caption"])
    if not captions:
        raise ValueError(f"{path} holds no caption")
    return captions


def facts_table(models: Mapping[str, Mapping[str, str]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Of each model's captions the `metrics` x100 and, beyond the first, `difference` of `exact`: mean, low and high of
    its 95 % interval over clips.

    Raises `ValueError` for models of different clips.
    """
    first, *_ = models.values()
    clips = sorted(first)
    scenes = [scene_of(clip) for clip in clips]
    rows: list[dict[str, Any]] = []
    picks = np.random.default_rng(seed).integers(len(clips), size=(DRAWS, len(clips)))
    exact: dict[str, np.ndarray] = {}
    for name, captions in models.items():
        if sorted(captions) != clips:
            raise ValueError(f"{name} has captions of other clips than {next(iter(models))}: evaluate all on one split")
        scores = fact_scores([captions[clip] for clip in clips], scenes)
        exact[name] = np.array(scores["exact"])
        told = {column: [score for score in scores[column] if score is not None] for column in COLUMNS}
        row: dict[str, Any] = {
            "name": name,
            "metrics": {column: 100 * float(np.mean(own)) for column, own in told.items() if own},
        }
        if rows:
            differences = 100 * (exact[name] - exact[rows[0]["name"]])
            low, high = np.percentile(differences[picks].mean(axis=1), [2.5, 97.5])
            row["difference"] = [float(differences.mean()), float(low), float(high)]
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of the table."""
    lines = [
        f"| captions | {' | '.join(COLUMNS)} | exact, difference to the first |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for row in rows:
        figures = [f"{row['metrics'][column]:.1f}" if column in row["metrics"] else "" for column in COLUMNS]
        told = "{:.1f} ({:.1f} to {:.1f})".format(*row["difference"]) if "difference" in row else ""
        lines.append(f"| {row['name']} | {' | '.join(figures)} | {told} |")
    return lines


def build_parser() -> argparse.ArgumentParser:
    """The parser of `python -m training.probes.moving_facts`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.probes.moving_facts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "evaluated", nargs="+", metavar="[NAME=]FOLDER", help="a folder with predictions.json: best/ of a run, say"
    )
    parser.add_argument("--seed", type=int, default=0, help="of intervals (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures")
    return parser


def run(arguments: argparse.Namespace) -> None:
    """Score, print the table, and write the figures with `--output`."""
    models = {}
    for entry in arguments.evaluated:
        name, _, folder = entry.rpartition("=")
        models[name or folder] = read_captions(Path(folder))
    rows = facts_table(models, seed=arguments.seed)
    say(*markdown(rows))
    if arguments.output:
        write_json(arguments.output, {"rows": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after an error of the user, which is printed on one line."""
    parsed = build_parser().parse_args(arguments)
    try:
        run(parsed)
    except (OSError, ValueError) as error:
        say(f"moving_facts: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
