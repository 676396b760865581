"""Comparing evaluated models: differences, their intervals, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny_run import tiny_recipe, tiny_retrieval_recipe, tiny_vqa_recipe, train_here
from training.cli import main
from training.commands.compare import named_folders
from training.compare import compare_models, table
from training.metrics.item_scores import item_scores

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
    with pytest.raises(ValueError, match="at least two folders"):
        compare_models({"one": one})
    with pytest.raises(ValueError, match=r"other was evaluated on DAQUAR val .* and one on DAQUAR test"):
        compare_models({"one": one, "other": other})
    with pytest.raises(ValueError, match="longer and one were evaluated on different questions"):
        compare_models({"one": one, "longer": longer})
    with pytest.raises(
        ValueError, match=r"nothing holds no evaluation.json: run updown evaluate with --save or --output FOLDER first"
    ):
        compare_models({"one": one, "nothing": tmp_path / "nothing"})


def scored_items(folder: Path, name: str, items: dict[str, Any], **metrics: float) -> Path:
    """A folder as `updown evaluate` leaves it, with the scores of its items."""
    where = evaluated(folder, name, [1.0], metrics={f"{key}_x100": 100 * value for key, value in metrics.items()})
    (where / "predictions.json").write_text('[{"image_id": "1", "caption": "a dog"}]')
    (where / "item_scores.json").write_text(json.dumps(items))
    return where


def test_captions_are_compared_by_every_metric_that_is_a_mean_over_images(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    ids = [str(number) for number in range(200)]
    one, gain = draw.random(200), draw.normal(0.1, 0.5, size=200)
    backwards = range(199, -1, -1)  # the images of the other file come in another order
    folders = {
        "one": scored_items(tmp_path, "one", {"cider_d": {"ids": ids, "values": one.tolist()}}, cider_d=one.mean()),
        "two": scored_items(
            tmp_path,
            "two",
            {"cider_d": {"ids": [ids[i] for i in backwards], "values": [float(one[i] + gain[i]) for i in backwards]}},
            cider_d=(one + gain).mean(),
        ),
    }
    first, second = compare_models(folders)
    assert "differences" not in first and second["compared"] == "cider_d"
    assert second["difference_x100"] == pytest.approx(100 * gain.mean(), abs=0.01)
    error = 196 * gain.std() / 200**0.5
    middle = 100 * gain.mean()
    assert second["interval_x100"] == pytest.approx([middle - error, middle + error], abs=0.1 * error)
    assert table([first, second]).splitlines()[0] == "| model | cider_d_x100 | difference (95 % interval) |"


def test_the_captions_of_an_image_are_drawn_together(tmp_path: Path) -> None:
    """Five captions that look at one image are no five witnesses: the interval is that of the images."""
    won = [1.0] * 30 + [0.0] * 70
    ids, weights = [str(number) for number in range(100)], [5] * 100
    entry = {"ids": ids, "weights": weights}
    folders = {
        name: scored_items(tmp_path, name, {"t2i_r1": {**entry, "values": values}}, t2i_r1=sum(values) / 100)
        for name, values in {"none": [0.0] * 100, "some": won}.items()
    }
    found = compare_models(folders)[1]
    error = 196 * (0.3 * 0.7 / 100) ** 0.5
    assert found["interval_x100"] == pytest.approx([30 - error, 30 + error], abs=1.0)
    other = scored_items(tmp_path, "other", {"t2i_r1": {**entry, "weights": [4] * 100, "values": won}}, t2i_r1=0.3)
    with pytest.raises(ValueError, match="other and none were scored on different captions"):
        compare_models({"none": folders["none"], "other": other})


def test_a_weighted_mean_is_that_of_the_figure(tmp_path: Path) -> None:
    owners = [0, 0, 0, 1]
    entries = [
        item_scores(["a", "b"], values, owners=owners) for values in ([0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0])
    ]
    folders = {str(i): scored_items(tmp_path, str(i), {"t2i_r1": entry}, t2i_r1=0.0) for i, entry in enumerate(entries)}
    assert compare_models(folders)[1]["difference_x100"] == 50.0  # two of four captions, not a third of an image


def test_several_metrics_have_a_table_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = ["1", "2"]
    for name, values in {"one": [0.0, 0.0], "two": [1.0, 1.0]}.items():
        items = {metric: {"ids": ids, "values": values} for metric in ("rouge_l", "cider_d")}
        scored_items(tmp_path, name, items, rouge_l=values[0], cider_d=values[0])
    assert main(["compare", str(tmp_path / "one" / "best"), str(tmp_path / "two" / "best")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| model | rouge_l_x100 | cider_d_x100 | difference of cider_d_x100 (95 % interval) |",
        "| --- | --- | --- | --- |",
        "| one | 0.00 | 0.00 |  |",
        "| two | 100.00 | 100.00 | +100.00 (+100.00 to +100.00) |",
        "",
        "| difference to one | two |",
        "| --- | --- |",
        "| rouge_l_x100 | +100.00 (+100.00 to +100.00) |",
        "| cider_d_x100 | +100.00 (+100.00 to +100.00) |",
    ]


@pytest.mark.parametrize("content", ["[]", '{"cider": 3}', '{"cider": {"ids": ["1"], "values": [1, 2]}}'])
def test_scores_of_another_layout_are_refused(tmp_path: Path, content: str) -> None:
    one = scored_items(tmp_path, "one", {}, cider=0.0)
    (one / "item_scores.json").write_text(content)
    with pytest.raises(ValueError, match="item_scores.json holds no scores of items: write it again"):
        compare_models({"one": one, "two": one})


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["exp1/ok/best", "exp2/ok/best"], ["exp1/ok", "exp2/ok"]),
        (["exp1/ok/best", "exp2/other/best"], ["ok", "other"]),
        (["a/x/best", "a/y/best", "b/x/best"], ["a/x", "a/y", "b/x"]),
        (["a/best", "b/a/best"], ["a", "b/a"]),
        (["best", "x"], ["best", "x"]),
        (["me=a/best", "a/best"], ["me", "a"]),
    ],
)
def test_folders_are_named_by_what_tells_them_apart(given: list[str], names: list[str]) -> None:
    assert list(named_folders(given)) == names


def test_folders_given_twice_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (["a/best", "a/best"], ["x=a", "x=b"], ["a=b", "a"]):
        with pytest.raises(ValueError, match="twice|same name"):
            named_folders(given)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1" / "best").mkdir(parents=True)
    assert named_folders(["lr=0.1/best", "b"]) == {"lr=0.1": "lr=0.1/best", "b": "b"}


@pytest.mark.parametrize("task", ["captioning", "retrieval", "vqa"])
def test_a_run_leaves_what_is_compared(tmp_path: Path, task: str) -> None:
    """The means of the items are the figures, metric by metric."""
    build: Any = {"captioning": tiny_recipe, "retrieval": tiny_retrieval_recipe, "vqa": tiny_vqa_recipe}[task]
    recipe = build(tmp_path, train={"max_steps": 2})
    figures = train_here(recipe)
    best = Path(recipe.output) / "best"
    items = json.loads((best / "item_scores.json").read_text())
    assert (
        set(items)
        == {
            "captioning": {"rouge_l", "cider", "cider_d", "cider_plain"},
            "retrieval": {f"{way}_{name}" for way in ("i2t", "t2i") for name in ("r1", "r5", "r10", "map")},
            "vqa": {"accuracy"},
        }[task]
    )
    for name, entry in items.items():
        mean = np.average(entry["values"], weights=entry.get("weights"))
        assert 100 * mean == pytest.approx(figures[f"{name}_x100"], abs=1e-3)
    row = compare_models({"one": best, "two": best})[1]
    assert set(row["differences"]) == set(items) and row["interval_x100"] == [0, 0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = evaluated(tmp_path, "one", [1.0, 0.0]), evaluated(tmp_path, "two", [1.0, 1.0])
    output = tmp_path / "comparisons.json"
    assert main(["compare", str(one), f"second={two}", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| one | 50.00 |") and lines[3].startswith("| second | 100.00 | +50.00 (")
    assert [row["name"] for row in json.loads(output.read_text())] == ["one", "second"]
    assert main(["compare", str(one)]) == 2
