"""Comparing evaluated models: differences, their intervals, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.cli import main
from training.compare import bootstrap_means, compare_models, table

DATASET = {"name": "DAQUAR", "type": "daquar", "split": "test", "num_questions": 400}


def evaluated(folder: Path, name: str, accuracies: list[float], **changes: Any) -> Path:
    """A folder as `updown evaluate` leaves it."""
    (folder / name / "best").mkdir(parents=True)
    accuracy = 100 * sum(accuracies) / len(accuracies)
    evaluation = {"dataset": DATASET, "command": f"updown evaluate {name}.yaml", "metrics": {"accuracy_x100": accuracy}}
    predictions = [{"question_id": str(i), "answer": "a", "accuracy": value} for i, value in enumerate(accuracies)]
    (folder / name / "best" / "evaluation.json").write_text(json.dumps({**evaluation, **changes}))
    (folder / name / "best" / "predictions.json").write_text(json.dumps(predictions))
    return folder / name / "best"


def test_a_difference_and_its_interval(tmp_path: Path) -> None:
    """A model that is right on 40 more of 400 questions is better beyond luck; half of them would not settle it."""
    plain = [1.0] * 80 + [0.0] * 320
    better = [1.0] * 120 + [0.0] * 280
    swapped = [0.0] * 10 + [1.0] * 70 + [1.0] * 12 + [0.0] * 308  # wins 12, loses 10
    folders = {name: evaluated(tmp_path, name, values) for name, values in
               {"plain": plain, "better": better, "swapped": swapped}.items()}  # fmt: skip
    first, second, third = compare_models(folders)
    assert "difference_x100" not in first
    assert second["difference_x100"] == pytest.approx(10.0)
    # 40 gains among 400 differences: standard error 100 * sqrt(0.1 * 0.9 / 400) = 1.5
    assert second["interval_x100"] == pytest.approx([10 - 1.96 * 1.5, 10 + 1.96 * 1.5], abs=0.35)
    assert third["difference_x100"] == pytest.approx(0.5)
    assert third["interval_x100"][0] < 0 < third["interval_x100"][1]


def test_the_bootstrap_is_of_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_means(values, seed=3).tolist() == bootstrap_means(values, seed=3).tolist()
    assert bootstrap_means(values, seed=3).std() == pytest.approx(values.std() / 50**0.5, rel=0.1)


def test_models_without_accuracies_stand_side_by_side(tmp_path: Path) -> None:
    """Captions have no accuracy of their own: the table shows the metrics and no interval."""
    folders = {name: evaluated(tmp_path, name, [1.0, 0.0]) for name in ("a", "b")}
    for folder in folders.values():
        (folder / "predictions.json").write_text('[{"image_id": "1", "caption": "a dog"}]')
    rows = compare_models(folders)
    assert "difference_x100" not in rows[1]
    assert table(rows).splitlines()[-1] == "| b | 50.00 |  |"


def test_only_shared_metrics_stand_in_the_table(tmp_path: Path) -> None:
    one = evaluated(tmp_path, "one", [1.0, 0.0], metrics={"accuracy_x100": 50.0, "wups_0.9_x100": 60.0})
    two = evaluated(tmp_path, "two", [1.0, 1.0])
    assert table(compare_models({"one": one, "two": two})).splitlines()[0] == (
        "| model | accuracy_x100 | difference (95 % interval) |"
    )


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = evaluated(tmp_path, "one", [1.0, 0.0])
    other = evaluated(tmp_path, "other", [1.0, 0.0], dataset={**DATASET, "split": "val"})
    longer = evaluated(tmp_path, "longer", [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="two folders or more"):
        compare_models({"one": one})
    with pytest.raises(ValueError, match=r"other was evaluated on DAQUAR val .* and one on DAQUAR test"):
        compare_models({"one": one, "other": other})
    with pytest.raises(ValueError, match="longer and one answered different questions"):
        compare_models({"one": one, "longer": longer})
    with pytest.raises(ValueError, match=r"nothing holds no evaluation.json: run updown evaluate first"):
        compare_models({"one": one, "nothing": tmp_path / "nothing"})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = evaluated(tmp_path, "one", [1.0, 0.0]), evaluated(tmp_path, "two", [1.0, 1.0])
    output = tmp_path / "comparisons.json"
    assert main(["compare", str(one), f"second={two}", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| one | 50.00 |") and lines[3].startswith("| second | 100.00 | +50.00 (")
    assert [row["name"] for row in json.loads(output.read_text())] == ["one", "second"]
    assert main(["compare", str(one)]) == 2
