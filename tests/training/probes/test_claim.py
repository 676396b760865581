"""A claim's table: figures by hand, runs that stand, go on, fail or are refused, and the files that come along."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.training.tiny_run import log_of, tiny_recipe, train_here
from training.probes import claim as command
from training.probes.claim import PlannedRun, Stopwatch, main, measure, plan, train_apart
from training.probes.claim_table import row_figures
from training.probes.claims_file import CLAIMS, Claim, Row, read_claim
from training.recipe import read_recipe
from training.train import Run

IDS = ["a", "b", "c", "d"]
# row -> seed -> what each of the four images scored; BLEU of the corpus is no mean over images
SCORES: dict[str, dict[int, list[float]]] = {
    "cells": {0: [0.1, 0.2, 0.3, 0.4], 1: [0.3, 0.2, 0.1, 0.4]},
    "boxes, names": {0: [0.5, 0.2, 0.9, 0.4]},
}


def write_claim(folder: Path, content: Mapping[str, Any]) -> Path:
    """A claims file beside a tiny recipe, `tiny.yaml`."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = tiny_recipe(folder).as_dict()
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({"recipe": "tiny.yaml", **content}, sort_keys=False))
    return path


def two_rows(folder: Path, **changes: Any) -> Claim:
    content = {
        "title": "Cells and boxes",
        "metrics": ["cider", "bleu_4"],
        "seeds": [0, 1],
        "set": {"train.epochs": 1},
        "rows": {"cells": None, "boxes, names": {"seeds": [0], "set": {"model.hidden_size": 20}}},
    }
    return read_claim(write_claim(folder, {**content, **changes}))


def finish(run: PlannedRun, values: list[float], *, bleu: float = 0.2) -> str:
    """What a run leaves at its end."""
    recipe = run.row.run_recipe(run.output, run.seed)
    best = run.folder / "best"
    best.mkdir(parents=True)
    (run.folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.as_dict()))
    dataset = {"name": "Flickr8k", "type": "karpathy", "split": "test", "num_photos": len(values)}
    metrics = {"cider_x100": 100 * float(np.mean(values)), "bleu_4_x100": 100 * bleu}
    items = {"cider": {"ids": IDS[: len(values)], "values": values}}
    (best / "evaluation.json").write_text(json.dumps({"dataset": dataset, "metrics": metrics}))
    (best / "item_scores.json").write_text(json.dumps(items))
    return ""


def finish_as_scored(run: PlannedRun, watch: Stopwatch) -> str:
    return finish(run, SCORES[run.row.name][run.seed], bleu=0.2 + 0.1 * run.seed)


def no_training(run: PlannedRun, watch: Stopwatch) -> str:
    raise AssertionError(f"{run.folder} is trained")


def train_in_here(run: PlannedRun, watch: Stopwatch) -> str:
    train_here(run.row.run_recipe(run.output, run.seed))
    return ""


# -- the table -------------------------------------------------------------------------------------------------------


def test_figures_are_those_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = two_rows(tmp_path)
    output = tmp_path / "out"
    cells, boxes = measure(claim, output, plan(claim, output), command="the command", train=finish_as_scored)
    assert cells["metrics"]["cider"] == {"mean_x100": pytest.approx(25.0), "deviation_x100": pytest.approx(0.0)}
    # 20 and 30: mean 25, deviation sqrt((25 + 25) / 1)
    assert cells["metrics"]["bleu_4"] == {"mean_x100": 25.0, "deviation_x100": pytest.approx(50**0.5)}
    assert boxes["metrics"]["cider"] == {"mean_x100": pytest.approx(50.0), "deviation_x100": None}
    assert cells["seeds"] == [0, 1] and boxes["seeds"] == [0] and "differences" not in cells
    # the seeds of `cells` average to 0.2 each but for the last image, 0.4
    gains = np.array([0.5, 0.2, 0.9, 0.4]) - np.array([0.2, 0.2, 0.2, 0.4])
    drawn = np.random.default_rng(0).integers(4, size=(2000, 4))
    low, high = 100 * np.percentile([gains[sample].mean() for sample in drawn], (2.5, 97.5))
    assert boxes["differences"].keys() == {"cider"}  # BLEU is no mean over images
    found = boxes["differences"]["cider"]
    assert found["difference_x100"] == pytest.approx(25.0)
    assert found["interval_x100"] == pytest.approx([low, high], abs=0.006)
    text = (output / "table.md").read_text()
    assert "| cells | 0, 1 | 25.0 ± 0.0 | 25.0 ± 7.1 |" in text and "`the command`" in text
    assert f"| boxes, names | 0 | 50.0 | 20.0 | 0.0 | +25.00 ({low:+.2f} to {high:+.2f}) |" in text
    assert "CIDEr, difference to cells" in text and "Scored on Flickr8k test (4 images)." in text
    assert json.loads((output / "table.json").read_text())["rows"] == [cells, boxes]
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "finished" in line]) == 3
    assert any(line.startswith("[2/3] boxes, names, seed 0: finished, 0.0 minutes (CIDEr 50.0") for line in lines)


def test_what_a_machine_could_not_compute_is_left_out() -> None:
    evaluation = {
        "dataset": {"name": "Flickr8k", "split": "test", "num_photos": 2},
        "metrics": {"cider_x100": 40.0},
        "not_computed": {"spice_spacy": "spaCy is not there"},
    }
    runs = [{"evaluation": evaluation, "minutes": 2.0}]
    found = row_figures(runs, ["cider", "spice_spacy", "spice_spacy_color"])
    assert found == {"metrics": {"cider": {"mean_x100": 40.0, "deviation_x100": None}}, "minutes": 2.0}
    with pytest.raises(ValueError, match="rouge_l was not measured; the runs have cider"):
        row_figures(runs, ["rouge_l"])


def test_a_row_may_have_a_reference_of_its_own(tmp_path: Path) -> None:
    rows = {"cells": None, "boxes, names": {"seeds": [0], "set": {"model.hidden_size": 20}, "reference": "features"}}
    claim = two_rows(tmp_path, rows={**rows, "features": {"seeds": [0]}}, seeds=[0])
    output = tmp_path / "out"
    scores = {**{name: own[0] for name, own in SCORES.items()}, "features": [0.5, 0.5, 0.5, 0.5]}
    _, boxes, features = measure(
        claim, output, plan(claim, output), train=lambda run, watch: finish(run, scores[run.row.name])
    )
    assert boxes["differences"]["cider"]["difference_x100"] == pytest.approx(0.0)
    assert features["differences"]["cider"]["difference_x100"] == pytest.approx(25.0)
    assert ") to features |" in (output / "table.md").read_text()


def test_rows_on_other_data_are_shown_but_not_compared(tmp_path: Path) -> None:
    claim = two_rows(tmp_path, seeds=[0])
    output = tmp_path / "out"
    scores = {"cells": [0.1, 0.2], "boxes, names": [0.5, 0.2, 0.9, 0.4]}
    rows = measure(claim, output, plan(claim, output), train=lambda run, watch: finish(run, scores[run.row.name]))
    assert rows[1]["metrics"]["cider"]["mean_x100"] == pytest.approx(50.0) and "differences" not in rows[1]
    assert (
        "boxes, names was scored on Flickr8k test (4 images) and cells on Flickr8k test (2 images)"
        in rows[1]["errors"][0]
    )


def test_minutes_add_up_over_starts(tmp_path: Path) -> None:
    claim = two_rows(tmp_path)
    run = plan(claim, tmp_path / "out")[0]
    first = Stopwatch(run)
    first.started -= 120
    assert first.note() == pytest.approx(2.0, abs=0.1)
    assert Stopwatch(run).earlier == 0  # there is no run yet: it begins from the start
    run.folder.mkdir(parents=True)
    second = Stopwatch(run)
    second.started -= 60
    assert second.note("stopped") == pytest.approx(3.0, abs=0.1)
    assert run.noted() == {"minutes": pytest.approx(3.0, abs=0.1), "error": "stopped"}


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_and_a_finished_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in its second epoch, it ends with the log and the figures of one that was not."""
    content = {"metrics": ["cider"], "set": {"train.checkpoint_steps": 2}, "rows": {"cells": None}}
    claim = read_claim(write_claim(tmp_path, content))
    output = tmp_path / "out"
    runs = plan(claim, output)
    step, done = Run.train_step, []

    def killed(self: Run, pieces: Any) -> Any:
        if len(done) == 9:
            raise KeyboardInterrupt
        done.append(pieces)
        return step(self, pieces)

    monkeypatch.setattr(Run, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(claim, output, runs, train=train_in_here)
    assert runs[0].state() == "begun" and not runs[0].result().get("evaluation")
    monkeypatch.setattr(Run, "train_step", step)
    row = measure(claim, output, runs, train=train_in_here)[0]
    whole = train_here(
        read_recipe(tmp_path / "tiny.yaml", ["train.checkpoint_steps=2", f"output={tmp_path / 'whole'}"])
    )
    recipe = runs[0].row.run_recipe(output, 0)
    assert len(log_of(recipe, "loss")) == 12
    assert row["metrics"]["cider"]["mean_x100"] == whole["cider_x100"] and not row["errors"]
    assert runs[0].state() == "finished"
    assert measure(claim, output, runs, train=no_training)[0]["metrics"] == row["metrics"]


def test_a_failing_run_is_listed_and_stops_no_other(tmp_path: Path) -> None:
    claim = two_rows(tmp_path)
    output = tmp_path / "out"
    runs = plan(claim, output)
    assert [(run.row.name, run.seed) for run in runs] == [("cells", 0), ("boxes, names", 0), ("cells", 1)]
    cells, boxes = measure(
        claim,
        output,
        runs,
        train=lambda run, watch: (
            "the disk is full" if (run.row.name, run.seed) == ("cells", 0) else finish_as_scored(run, watch)
        ),
    )
    assert cells["errors"] == ["seed 0: the disk is full"] and cells["seeds"] == [1]
    assert boxes["differences"]["cider"]["difference_x100"] == pytest.approx(25.0)
    assert "Failed:\n\n- cells, seed 0: the disk is full\n" in (output / "table.md").read_text()
    cells, _ = measure(claim, output, runs, train=finish_as_scored)  # the cause is gone
    assert cells["errors"] == [] and cells["seeds"] == [0, 1] and "Failed" not in (output / "table.md").read_text()


def test_a_run_without_an_end_is_no_success(tmp_path: Path) -> None:
    claim = two_rows(tmp_path)
    rows = measure(claim, tmp_path / "out", plan(claim, tmp_path / "out"), train=lambda run, watch: "")
    assert rows[1]["errors"][0].startswith("seed 0: ended without an evaluation") and rows[1]["metrics"] == {}


def test_a_row_that_changed_since_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    claim = two_rows(tmp_path)
    measure(claim, output, plan(claim, output), train=finish_as_scored)
    rows = {"cells": None, "boxes, names": {"seeds": [0], "set": {"model.hidden_size": 22, "train.num_workers": 1}}}
    changed = two_rows(tmp_path, rows=rows)
    cells, boxes = measure(changed, output, plan(changed, output), train=no_training)
    place = output / "boxes_names" / "0"
    cure = (
        f"{place} holds a run with another model.hidden_size: delete that folder to train it again, or choose another"
    )
    assert boxes["errors"][0].startswith(f"seed 0: {cure}") and boxes["metrics"] == {}
    assert cells["metrics"] and not cells["errors"]
    assert cure in capsys.readouterr().out
    recipe = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    recipe["train"]["learning_rate"] = 1.0
    path = write_claim(tmp_path, {"rows": {"cells": {"set": {"train.epochs": 1}}}})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    assert "another train.learning_rate" in plan(read_claim(path), output)[0].state()
    (output / "cells" / "0" / "recipe.yaml").unlink()
    assert "holds figures without the recipe.yaml" in plan(read_claim(path), output)[0].state()


def test_the_table_keeps_what_other_calls_trained(tmp_path: Path) -> None:
    claim = two_rows(tmp_path)
    output = tmp_path / "out"
    measure(claim, output, plan(claim, output), train=finish_as_scored)
    more = plan(claim, output, names=["boxes, names"], seeds=[7])
    assert [(run.row.name, run.seed) for run in more] == [("boxes, names", 7)]
    cells, boxes = measure(claim, output, more, train=lambda run, watch: finish(run, [0.1, 0.2, 0.1, 0.2]))
    assert cells["seeds"] == [0, 1] and boxes["seeds"] == [0, 7]
    # 50 and 15 of the two seeds, and cells' 25: the items averaged first give the same mean
    assert boxes["differences"]["cider"]["difference_x100"] == pytest.approx(7.5)


def test_training_apart_says_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(command, "PROGRAM", "stand_in")
    run = plan(two_rows(tmp_path / "claim"), tmp_path / "out")[0]
    (tmp_path / "stand_in.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert train_apart(run, Stopwatch(run), more=["--cpu"]) == ""
    printed = run.log.read_text()
    assert "'seed=0'" in printed and "'train.epochs=1'" in printed and printed.endswith("'--cpu']\n")
    (tmp_path / "stand_in.py").write_text("import sys\nprint('stand_in: no such image')\nprint('bye')\nsys.exit(2)\n")
    assert train_apart(run, Stopwatch(run)) == "no such image"
    (tmp_path / "stand_in.py").write_text("raise SystemExit(9)\n")  # the log still has what the start before said
    assert train_apart(run, Stopwatch(run)) == f"ended with exit code 9; see {run.log}"


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_lists_and_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_rows(tmp_path)
    output = tmp_path / "out"
    arguments = [str(tmp_path / "mine.yaml"), "--output", str(output), "--set", "train.batch_size=6"]
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "boxes, names, seed 0: new\n" in shown and not output.exists()
    # the row's own settings come last, and win
    assert "--set train.epochs=1 --set train.batch_size=6 --set model.hidden_size=20 --set seed=0" in shown
    monkeypatch.setattr(command, "train_apart", lambda run, watch, more: finish_as_scored(run, watch))
    assert main(arguments) == 0
    assert "+25.00" in capsys.readouterr().out
    monkeypatch.setattr(command, "train_apart", lambda run, watch, more: "no images")
    assert main([*arguments, "--rows", "cells", "--seeds", "3"]) == 1
    assert main([*arguments, "--rows", "boxes, names"]) == 0  # the failure is of another row
    capsys.readouterr()
    assert main([*arguments, "--rows", "cell"]) == 2
    assert capsys.readouterr().err == "claim: there is no row 'cell'; did you mean 'cells'?\n"
    assert main(["flickr8k_captionin", "--output", str(output)]) == 2
    assert "did you mean 'flickr8k_captioning'?" in capsys.readouterr().err


def test_stopping_ends_with_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_rows(tmp_path)
    monkeypatch.setattr(command, "train_apart", lambda run, watch, more: command.stop())
    assert main([str(tmp_path / "mine.yaml"), "--output", str(tmp_path / "out")]) == 130
    assert "the same command goes on" in capsys.readouterr().err


# -- claims files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rows": {}}, "holds no rows"),
        ({"rows": {"a": None}, "metric": ["cider"]}, "unknown key 'metric' in the file; did you mean 'metrics'?"),
        ({"rows": {"a": {"recipes": "x"}}}, "unknown key 'recipes' in row 'a'; did you mean 'recipe'?"),
        ({"rows": {"a": 3}}, "row 'a' is 3, and must be a section of recipe, set, seeds, reference"),
        ({"rows": {"a": None}, "recipe": None}, "row 'a' has no recipe"),
        ({"rows": {"a": {"set": {"seed": 3}}}}, "row 'a' sets seed: seeds stand in `seeds`"),
        ({"rows": {"a": None}, "set": {"output": "x"}}, "the file sets output"),
        ({"rows": {"a": {"set": ["train.epochs=3"]}}}, "row 'a': set is ['train.epochs=3'], and must be a section"),
        ({"rows": {"a": {"seeds": [0, 0]}}}, "row 'a': seeds is [0, 0], and must be a list of different whole numbers"),
        ({"rows": {"a": {"seeds": []}}}, "row 'a': seeds is []"),
        ({"rows": {"a": {"set": {"train.epoch": 3}}}}, "row 'a': "),
        ({"rows": {"7 x 7": None, "7, x 7": None}}, "the rows '7 x 7' and '7, x 7' have the same folder, '7_x_7'"),
        ({"rows": {"a": None, "b": {"recipe": "vqa/daquar"}}}, "several tasks, 'a' of captioning and 'b' of vqa"),
        ({"rows": {"a": None}, "metrics": ["cidr"]}, "the task captioning has no metric 'cidr'; did you mean 'cider'?"),
        ({"rows": {"a": None}, "reference": "b"}, "there is no row 'b'; there are a"),
        ({"rows": {"a": None}, "base": "7x7 cells"}, "its base 7x7 cells is not there, nor does a claims file of that"),
        ({"rows": {"a": None}, "base": ["b"]}, "base is ['b'], but must be the path or the name of a claims file"),
        ({"rows": {"a": None}, "base": "mine.yaml"}, "take the `base` out of one of them"),
        ({"rows": {}, "base": "tiny.yaml"}, "tiny.yaml: unknown key "),
    ],
)  # fmt: skip
def test_files_that_make_no_table(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_claim(write_claim(tmp_path, content))
    assert message in str(caught.value) and "mine.yaml" in str(caught.value)


def test_rows_of_a_base_are_joined_by_name(tmp_path: Path) -> None:
    """Those of the base come first, each with what the file changes; a row or a setting without a value goes."""
    rows = {
        "cells": {"seeds": [0, 1], "set": {"train.epochs": 1, "model.hidden_size": 20}},
        "boxes": {"recipe": "tiny.yaml", "reference": "cells"},
        "people": None,
    }
    common = {"train.batch_size": 6, "train.num_workers": 1}
    write_claim(tmp_path / "below", {"title": "Below", "metrics": ["bleu_4"], "set": common, "rows": rows})
    own = {
        "base": "below/mine.yaml",
        "title": "Above",
        "set": {"train.num_workers": None, "train.learning_rate": 0.1},
        "rows": {"more": {"seeds": [3]}, "people": None, "cells": {"seeds": [2], "set": {"train.epochs": 2}}},
    }
    claim = read_claim(write_claim(tmp_path, own))
    assert (claim.title, claim.metrics) == ("Above", ("bleu_4",))
    changes = ("train.batch_size=6", "train.learning_rate=0.1")
    above, below = (str(folder / "tiny.yaml") for folder in (tmp_path, tmp_path / "below"))
    assert claim.rows == (
        Row("cells", above, (*changes, "train.epochs=2", "model.hidden_size=20"), (2,), "cells"),
        Row("boxes", below, changes, (0,), "cells"),
        Row("more", above, changes, (3,), "cells"),
    )


def test_the_three_tables_of_flickr8k_have_the_same_rows() -> None:
    captions, retrieval, counting = map(read_claim, ("flickr8k_captioning", "flickr8k_retrieval", "vqa_counting"))
    common = "data.images=data/flickr8k/images_restored"
    reset = ("regions.pretrained=''", "regions.tags=[]", "regions.soft_labels=false")  # the recipe's own, of detectors
    for row, other, last in zip(captions.rows, retrieval.rows, counting.rows, strict=False):
        assert row.name == other.name == last.name and row.seeds == other.seeds == last.seeds
        assert row.changes == (common, *row.changes[1:]) and other.changes[:2] == (common, "regions.pretrained=''")
        own = [change for change in last.changes if change not in reset]
        assert row.changes[1:] == other.changes[2:] == tuple(own[2:])
    assert len(captions.rows) == len(retrieval.rows) == 20 and [row.name for row in counting.rows[20:]] == [
        "without the image"
    ]
    told = [change.partition("=")[0] for change in counting.rows[20].changes if change not in reset]
    assert told == ["data_name", "data", "regions.source", "regions.store", "train.withhold"]
    assert {row.recipe for row in counting.rows} == {"vqa/daquar_flickr8k"} and counting.metrics == ("accuracy",)


@pytest.mark.parametrize("path", sorted(CLAIMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_that_come_along(path: Path) -> None:
    """Each opens with its command, and says where every row's regions come from."""
    head = path.read_text().splitlines()[0]
    assert head.startswith(f"# python -m training.probes.claim {path.stem} --output runs/")
    claim = read_claim(path.stem)
    stores: dict[str, dict[str, Any]] = {}
    for row in claim.rows:
        regions = row.run_recipe(Path("out"), row.seeds[0]).as_dict()["regions"]
        made = {key: regions[key] for key in ("source", "weights", "pretrained", "soft_labels")}
        assert regions["store"] and bool(regions["source"]) != ("people" in regions["store"])
        assert stores.setdefault(regions["store"], made) == made, "one store, two sources"
    assert {row.reference for row in claim.rows} == {"7x7 cells, ImageNet"}
    assert len({row.folder for row in claim.rows}) == len(claim.rows) >= {"flickr8k_shares": 5}.get(path.stem, 20)
