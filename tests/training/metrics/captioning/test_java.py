"""METEOR from its program's statistics, SPICE from its program's JSON, and what is said where either is missing."""

import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.metrics.captioning import java as java_metrics
from training.metrics.captioning.java import NotComputed, all_caption_scores, meteor, meteor_score, parse_spice, spice

CANDIDATES, REFERENCES = ["A dog runs.", "two cats ||| sleep"], [["The dog is running."], ["Cats sleep", "a cat"]]


def golden(name: str) -> Any:
    return json.loads(gzip.decompress(shared(f"golden/metrics/{name}.json.gz").read_bytes()))


def need_meteor() -> None:
    try:
        java_metrics._java(), java_metrics._jar(java_metrics.METEOR_JAR)
    except NotComputed as reason:
        pytest.skip(str(reason))


def program(folder: Path, text: str) -> str:
    """An executable that stands for Java."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("name", ["caption_coco1000", "caption_adversarial"])
def test_meteor_from_the_programs_statistics(name: str) -> None:
    expected = golden(name)["expected"]
    statistics = np.array([[float(number) for number in line.split()] for line in expected["meteor_stats"]])
    scores = [meteor_score(row) for row in statistics]
    assert scores == pytest.approx(expected["per_item"]["METEOR"], abs=1e-12)
    if "METEOR" in expected["corpus"]:
        assert meteor_score(statistics.sum(axis=0)) == pytest.approx(expected["corpus"]["METEOR"], abs=1e-12)


def test_meteor_by_hand() -> None:
    # Four words on both sides, all content words; two match exactly, in two chunks: P = R = F = 1/2.
    statistics = np.array([4, 4, 0, 0, 2, 2, 0, 0, *[0] * 12, 2, 2, 2], float)
    assert meteor_score(statistics) == pytest.approx(0.5 * (1 - 0.6 * 1))
    assert meteor_score(np.zeros(23)) == 0


def test_meteor_through_the_jar() -> None:
    need_meteor()
    data = golden("caption_adversarial")
    inputs, expected = data["inputs"], data["expected"]["per_item"]["METEOR"]
    few = slice(len(expected) // 2, len(expected) // 2 + 10)
    _, per_item = meteor(inputs["candidate"][few], inputs["references"][few])
    assert per_item == pytest.approx(expected[few], abs=1e-12)


def test_without_java_every_other_score_is_there_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_metrics, "find_spec", lambda name: None)
    scores = all_caption_scores(CANDIDATES, REFERENCES)
    assert scores["bleu_1"] > 0
    assert "pip install pycocoevalcap" in scores["not_computed"]["meteor"]
    assert "pip install pycocoevalcap" in scores["not_computed"]["spice"]
    assert "meteor" not in scores
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: Path("/nowhere/spice") / relative.name)
    assert "Java is not on the PATH" in all_caption_scores(CANDIDATES, REFERENCES)["not_computed"]["meteor"]


def test_spice_without_its_models_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: tmp_path / relative)
    monkeypatch.setattr(java_metrics, "_java", lambda: "java")
    with pytest.raises(NotComputed, match="stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar"):
        spice(CANDIDATES, REFERENCES)


def test_a_program_that_fails_hangs_or_babbles_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: tmp_path / relative.name)
    for text, message in (
        ("echo no memory >&2; exit 3", "exit status 3: no memory"),
        ("exec sleep 60", "did not finish in 1 seconds"),
        ("cat > /dev/null; echo 1 2 3", "printed 1 lines for 2 captions"),
    ):
        java = program(tmp_path, text)
        monkeypatch.setattr(java_metrics, "_java", lambda java=java: java)
        with pytest.raises(NotComputed, match=message):
            meteor(CANDIDATES, REFERENCES, timeout_seconds=1)
    monkeypatch.setattr(java_metrics, "_java", lambda: str(tmp_path / "absent"))
    with pytest.raises(NotComputed, match="could not be started"):
        meteor(CANDIDATES, REFERENCES)


def test_spice_runs_its_program_and_reads_its_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in program answers with what SPICE writes, if it is asked with the flags that newer Java needs."""
    for model in java_metrics.SPICE_MODELS:
        (tmp_path / model).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / model).touch()
    answer = json.dumps([spice_result(1, f=None), spice_result(0, f=0.5)])
    script = f"""if [ "$1" = -version ]; then echo 'openjdk version "17.0.1"' >&2; exit; fi
    [ "$1" = --add-opens=java.base/java.lang=ALL-UNNAMED ] || exit 9
    while [ "$1" != -out ]; do shift; done; echo '{answer}' > "$2" """
    java = program(tmp_path, script)
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: tmp_path / relative)
    monkeypatch.setattr(java_metrics, "_java", lambda: java)
    corpus, per_item = spice(CANDIDATES, REFERENCES)
    assert corpus["all"] == pytest.approx(0.4)
    assert (per_item[0]["color"], corpus["color"]) == (0.5, 0.5)
    assert math.isnan(per_item[1]["color"])
    monkeypatch.setattr(java_metrics, "meteor", lambda *_, timeout_seconds: (0.3, [0.2, 0.4]))
    scores = all_caption_scores(CANDIDATES, REFERENCES)
    assert scores["not_computed"] == {}
    assert (scores["spice"], scores["spice_x100"], scores["spice_color"]) == pytest.approx((0.4, 40, 0.5))
    assert (scores["meteor_x100"], scores["per_item"]["meteor"]) == (30, [0.2, 0.4])


def spice_result(image_id: int, *, f: float | None) -> dict[str, Any]:
    scores = {name: {"pr": f, "re": f, "f": f, "fn": 1, "numImages": 1, "fp": 1, "tp": 1} for name in ("Color", "Size")}
    return {"image_id": image_id, "scores": scores | {"All": {"pr": 0.4, "re": 0.4, "f": 0.4}}}


def test_spice_results_are_read_in_the_images_order() -> None:
    corpus, per_item = parse_spice([spice_result(1, f=None), spice_result(0, f=0.5)])
    assert [math.isnan(scores["size"]) for scores in per_item] == [False, True]
    assert math.isnan(corpus["relation"])
