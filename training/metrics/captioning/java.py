"""METEOR and SPICE of captions, computed by the Java programs of `pycocoevalcap` (optional).

Both need Java and `pip install pycocoevalcap`; SPICE also needs Stanford CoreNLP 3.6.0 with its models in
`pycocoevalcap/spice/lib`. If one of these is missing, `NotComputed` is raised, and `all_caption_scores` returns the
other scores and the reason. METEOR (Denkowski and Lavie 2014) is version 1.5 with `-l en -norm`, SPICE (Anderson et al.
2016) version 1.0, as in the official evaluator, and so is the tokenisation of the captions.
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

import numpy as np

from .ptb_tokenizer import ptb_tokenize
from .scores import caption_scores, check_captions
from .unavailable import NotComputed

METEOR_JAR = Path("meteor/meteor-1.5.jar")
SPICE_JAR = Path("spice/spice-1.0.jar")
SPICE_MODELS = (Path("spice/lib/stanford-corenlp-3.6.0.jar"), Path("spice/lib/stanford-corenlp-3.6.0-models.jar"))
# SPICE's libraries use reflection on these packages, which Java forbids by default from version 16 on.
OPENED_PACKAGES = ("lang", "math", "util", "util.concurrent", "net", "text")
FIRST_JAVA_WITH_MODULES = 9

METEOR_ALPHA, METEOR_BETA, METEOR_GAMMA, METEOR_DELTA = 0.85, 0.2, 0.6, 0.75
METEOR_STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
METEOR_STATISTICS = 23
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
    """`caption_scores` and, if they can be computed, METEOR and SPICE.

    Returns:
        What `caption_scores` returns, with `meteor`, `spice` and `spice_object` .. `spice_size` in 0..1 (each also
        times 100 under `..._x100`, and per image in `per_item`); and `not_computed`: the name of each of `meteor` and
        `spice` that is missing -> the reason.
    """
    scores = caption_scores(candidates, references)
    columns: dict[str, tuple[float, list[float]]] = {}
    not_computed = {}
    try:
        columns["meteor"] = meteor(candidates, references, timeout_seconds=timeout_seconds)
    except NotComputed as reason:
        not_computed["meteor"] = str(reason)
    try:
        columns |= _spice_columns(*spice(candidates, references, timeout_seconds=timeout_seconds))
    except NotComputed as reason:
        not_computed["spice"] = str(reason)
    for name, (corpus, per_item) in columns.items():
        scores[name], scores[f"{name}_x100"], scores["per_item"][name] = corpus, 100 * corpus, per_item
    return scores | {"not_computed": not_computed}


def meteor(
    candidates: list[str], references: list[list[str]], *, timeout_seconds: float = 1800
) -> tuple[float, list[float]]:
    """METEOR in 0..1 of raw captions: the corpus value and one value per image.

    As in the official evaluator, the corpus value is computed from the summed statistics of the images; it is not the
    mean of their values.

    Raises:
        NotComputed: Java or `pycocoevalcap` is missing, or the program failed or took too long.
        ValueError, TypeError: as `caption_scores`.
    """
    check_captions(candidates, references)
    jar = _jar(METEOR_JAR)
    hypotheses = [text.replace("|||", "").replace("  ", " ") for text in ptb_tokenize(candidates)]
    tokenised = [ptb_tokenize(image) for image in references]
    lines = [" ||| ".join(["SCORE", *image, text]) for image, text in zip(tokenised, hypotheses, strict=True)]
    command = [_java(), "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    output = _run(command, "METEOR", folder=jar.parent, text="\n".join(lines) + "\n", timeout_seconds=timeout_seconds)
    statistics = [[float(number) for number in line.split()] for line in output.splitlines()]
    if len(statistics) != len(lines) or any(len(row) != METEOR_STATISTICS for row in statistics):
        raise NotComputed(f"METEOR printed {len(statistics)} lines for {len(lines)} captions: {output[:200]!r}")
    return meteor_score(np.sum(statistics, axis=0)), [meteor_score(np.array(row)) for row in statistics]


def meteor_score(statistics: np.ndarray) -> float:
    """METEOR 1.5 for English from the 23 numbers that its program prints for a caption, or from their sum.

    They are: the two lengths and numbers of function words (caption, reference); for each of the four stages the
    matched content words and function words of each (4 x 4); the chunks; and the matched words of each.
    """
    length, reference_length, function_words, reference_function_words = statistics[:4]
    content, reference_content, function, reference_function = statistics[4:20].reshape(4, 4).T
    chunks, matched, reference_matched = statistics[20:]
    precision = _meteor_share(content, function, length - function_words, function_words)
    recall = _meteor_share(
        reference_content, reference_function, reference_length - reference_function_words, reference_function_words
    )
    if precision == 0 or recall == 0:
        return 0.0
    mean = 1 / ((1 - METEOR_ALPHA) / precision + METEOR_ALPHA / recall)
    identical = matched == length and reference_matched == reference_length and chunks == 1
    fragmentation = 0.0 if identical else chunks / ((matched + reference_matched) / 2)
    return float(mean * (1 - METEOR_GAMMA * fragmentation**METEOR_BETA))


def _meteor_share(content: np.ndarray, function: np.ndarray, content_words: float, function_words: float) -> float:
    """Matched words of the four stages, (4,) content and (4,) function words, as a share of all words."""
    matched = METEOR_STAGE_WEIGHTS @ (METEOR_DELTA * content + (1 - METEOR_DELTA) * function)
    words = METEOR_DELTA * content_words + (1 - METEOR_DELTA) * function_words
    return float(matched / words) if words else 0.0


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
