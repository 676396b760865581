"""SPICE of captions, computed by the Java program of `pycocoevalcap` (optional).

It needs Java, `pip install pycocoevalcap`, and Stanford CoreNLP 3.6.0 with its models in `pycocoevalcap/spice/lib`. If
one of these is missing, `NotComputed` is raised, and `all_caption_scores` returns the other scores and the reason.
SPICE (Anderson et al. 2016) is version 1.0, as in the official evaluator, and so is the tokenisation of the captions.
"""

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .cider import check_captions
from .ptb_tokenizer import ptb_tokenize
from .scores import caption_scores
from .unavailable import NotComputed

SPICE_JAR = Path("spice/spice-1.0.jar")
SPICE_MODELS = (Path("spice/lib/stanford-corenlp-3.6.0.jar"), Path("spice/lib/stanford-corenlp-3.6.0-models.jar"))
# SPICE's libraries use reflection on these packages, which Java forbids by default from version 16 on.
OPENED_PACKAGES = ("lang", "math", "util", "util.concurrent", "net", "text")
FIRST_JAVA_WITH_MODULES = 9

SPICE_CATEGORIES = {
    "All": "all",
    "Object": "object",
    "Attribute": "attribute",
    "Relation": "relation",
    "Color": "color",
    "Cardinality": "cardinality",
    "Size": "size",
}


def all_caption_scores(
    candidates: list[str], references: list[list[str]], *, timeout_seconds: float = 1800
) -> dict[str, Any]:
    """`caption_scores` and, if it can be computed, SPICE.

    Returns:
        What `caption_scores` returns, with `spice` and `spice_object` .. `spice_size` in 0..1 (each also times 100
        under `..._x100`, and per image in `per_item`); if it is missing, `not_computed` has `spice` -> the reason.
    """
    scores = caption_scores(candidates, references)
    try:
        columns = _spice_columns(*spice(candidates, references, timeout_seconds=timeout_seconds))
    except NotComputed as reason:
        columns = {}
        scores["not_computed"]["spice"] = str(reason)
    for name, (corpus, per_item) in columns.items():
        scores[name], scores[f"{name}_x100"], scores["per_item"][name] = corpus, 100 * corpus, per_item
    return scores


def spice(
    candidates: list[str], references: list[list[str]], *, timeout_seconds: float = 1800
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """SPICE in 0..1 of raw captions: for the corpus and for each image a dict of categories to F-scores.

    Categories are `all`, `object`, `attribute`, `relation`, `color`, `cardinality` and `size`. An image without
    reference tuples of a category has NaN there, and the corpus value is the mean of the others.

    Raises:
        NotComputed: Java, `pycocoevalcap` or Stanford CoreNLP is missing, or the program failed or took too long.
        ValueError, TypeError: as `caption_scores`.
    """
    check_captions(candidates, references)
    jar, java = _jar(SPICE_JAR), _java()
    missing = [model.name for model in SPICE_MODELS if not (jar.parents[1] / model).exists()]
    if missing:
        raise NotComputed(
            f"SPICE needs {' and '.join(missing)} in pycocoevalcap/spice/lib: take them from Stanford CoreNLP 3.6.0 "
            "(stanford-corenlp-full-2015-12-09.zip), or run pycocoevalcap's Spice once with a network"
        )
    rows = zip(ptb_tokenize(candidates), references, strict=True)
    items = [{"image_id": i, "test": test, "refs": ptb_tokenize(refs)} for i, (test, refs) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        captions_file, scores_file = Path(folder) / "captions.json", Path(folder) / "scores.json"
        captions_file.write_text(json.dumps(items))
        command = [java, *_open_packages(java), "-Xmx8G", "-jar", str(jar), str(captions_file)]
        command += ["-out", str(scores_file), "-subset", "-silent"]
        _run(command, "SPICE", folder=jar.parent, text="", timeout_seconds=timeout_seconds)
        if not scores_file.exists():
            raise NotComputed("SPICE ended without writing its scores")
        return parse_spice(json.loads(scores_file.read_text()))


def parse_spice(results: Sequence[dict[str, Any]]) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The F-scores in the SPICE program's JSON: the corpus means and one dict per image, in the order of `image_id`."""
    per_item = []
    for result in sorted(results, key=_image_id):
        scores = {ours: result["scores"].get(theirs, {}).get("f") for theirs, ours in SPICE_CATEGORIES.items()}
        per_item.append({name: math.nan if value is None else float(value) for name, value in scores.items()})
    return spice_means(per_item), per_item


def spice_means(per_item: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every category over the images that have it; NaN if there is no such image."""
    means = {}
    for name in SPICE_CATEGORIES.values():
        known = [scores[name] for scores in per_item if not math.isnan(scores[name])]
        means[name] = math.fsum(known) / len(known) if known else math.nan
    return means


def _image_id(result: dict[str, Any]) -> int:
    return int(result["image_id"])


def _spice_columns(corpus: dict[str, float], per_item: list[dict[str, float]]) -> dict[str, tuple[float, list[float]]]:
    """`spice` and `spice_object` ..: the corpus value and the values per image."""
    return {
        "spice" if name == "all" else f"spice_{name}": (value, [scores[name] for scores in per_item])
        for name, value in corpus.items()
    }


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise NotComputed("Java is not on the PATH; install a Java runtime (version 8 or later)")
    return java


def _open_packages(java: str) -> list[str]:
    """The flags that allow SPICE's libraries reflection on Java's packages; empty for versions without modules."""
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    version = answer.split('"')[1] if '"' in answer else "1.8"
    if int(version.split(".")[0].split("-")[0]) < FIRST_JAVA_WITH_MODULES:
        return []
    return [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED_PACKAGES]


def _jar(relative: Path) -> Path:
    """The path of a file inside the installed `pycocoevalcap`, which is not imported."""
    spec = find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / relative).exists():
            return Path(folder) / relative
    raise NotComputed(f"{relative.name} was not found; pip install pycocoevalcap, which contains it")


def _run(command: list[str], name: str, *, folder: Path, text: str, timeout_seconds: float) -> str:
    """Run a program; returns its output. Raises `NotComputed` after a failure or the timeout."""
    try:
        done = subprocess.run(
            command, cwd=folder, input=text, capture_output=True, text=True, encoding="utf-8",
            timeout=timeout_seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotComputed(f"{name} did not finish in {timeout_seconds:g} seconds and was stopped") from None
    except OSError as error:
        raise NotComputed(f"{name} could not be started: {error}") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-3:]
        raise NotComputed(f"{name} ended with exit status {done.returncode}: {' / '.join(words)}")
    return done.stdout
