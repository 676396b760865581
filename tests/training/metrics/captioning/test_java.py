"""SPICE from its program's JSON, and what is said where the program is missing or fails."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from training.metrics.captioning import java as java_metrics
from training.metrics.captioning.java import NotComputed, all_caption_scores, parse_spice, spice

CANDIDATES, REFERENCES = ["A dog runs.", "two cats ||| sleep"], [["The dog is running."], ["Cats sleep", "a cat"]]


def program(folder: Path, text: str) -> str:
    """An executable that stands for Java."""
    path = folder / "java"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_without_java_every_other_score_is_there_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_metrics, "find_spec", lambda name: None)
    scores = all_caption_scores(CANDIDATES, REFERENCES)
    assert scores["bleu_1"] > 0
    assert "pip install pycocoevalcap" in scores["not_computed"]["spice"]
    assert "spice" not in scores
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: Path("/nowhere") / relative)
    monkeypatch.setattr(java_metrics, "SPICE_MODELS", ())
    assert "Java is not on the PATH" in all_caption_scores(CANDIDATES, REFERENCES)["not_computed"]["spice"]


def test_spice_without_its_models_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: tmp_path / relative)
    monkeypatch.setattr(java_metrics, "_java", lambda: "java")
    with pytest.raises(NotComputed, match="stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar"):
        spice(CANDIDATES, REFERENCES)


def test_a_program_that_fails_hangs_or_says_nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(java_metrics, "SPICE_MODELS", ())
    monkeypatch.setattr(java_metrics, "_open_packages", lambda java: [])
    (tmp_path / "spice").mkdir()
    monkeypatch.setattr(java_metrics, "_jar", lambda relative: tmp_path / relative)
    for text, message in (
        ("echo no memory >&2; exit 3", "exit status 3: no memory"),
        ("exec sleep 60", "did not finish in 1 seconds"),
        ("cat > /dev/null", "ended without writing its scores"),
    ):
        java = program(tmp_path, text)
        monkeypatch.setattr(java_metrics, "_java", lambda java=java: java)
        with pytest.raises(NotComputed, match=message):
            spice(CANDIDATES, REFERENCES, timeout_seconds=1)
    monkeypatch.setattr(java_metrics, "_java", lambda: str(tmp_path / "absent"))
    with pytest.raises(NotComputed, match="could not be started"):
        spice(CANDIDATES, REFERENCES)


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
    scores = all_caption_scores(CANDIDATES, REFERENCES)
    assert "spice" not in scores["not_computed"]
    assert (scores["spice"], scores["spice_x100"], scores["spice_color"]) == pytest.approx((0.4, 40, 0.5))
    assert scores["per_item"]["spice_color"][0] == 0.5


def spice_result(image_id: int, *, f: float | None) -> dict[str, Any]:
    scores = {name: {"pr": f, "re": f, "f": f, "fn": 1, "numImages": 1, "fp": 1, "tp": 1} for name in ("Color", "Size")}
    return {"image_id": image_id, "scores": scores | {"All": {"pr": 0.4, "re": 0.4, "f": 0.4}}}


def test_spice_results_are_read_in_the_images_order() -> None:
    corpus, per_item = parse_spice([spice_result(1, f=None), spice_result(0, f=0.5)])
    assert [math.isnan(scores["size"]) for scores in per_item] == [False, True]
    assert math.isnan(corpus["relation"])
