"""A run's folder: one run at a time, of one recipe, and nothing of others' is replaced."""

import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
import yaml

from tests.training.tiny_run import log_of, new_accelerator, tiny_recipe, train_here
from training.checkpoints import checkpoints
from training.recipe_sections import Recipe
from training.run_folder import ClaimedOutput, check_output, how_to_go_on, keep_recipe
from training.tasks import TASKS
from training.tasks.captioning_recipe import CaptioningRecipe
from training.train import main


def bare_recipe(output: Path) -> Recipe:
    """A recipe of which only the output matters."""
    recipe = CaptioningRecipe(task="captioning", output=str(output), data={"format": "folder"})
    TASKS["captioning"].settle(recipe)
    return recipe


def recipe_file(recipe: Recipe) -> Path:
    path = Path(recipe.output).with_name("mine.yaml")
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    return path


def ids(recipe: Recipe) -> list[str]:
    return [path.name for path in checkpoints(Path(recipe.output) / "checkpoints")]


# -- one run at a time -----------------------------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    with ClaimedOutput(recipe, new_accelerator()):
        assert main([str(recipe_file(recipe)), "--cpu"]) == 2
        told = capsys.readouterr().err.splitlines()
        assert told == [
            f"training.train: another run trains into {recipe.output}: wait until it ends, or choose another output"
        ]
        assert [path.name for path in Path(recipe.output).iterdir()] == [".writer-0.lock"]
    train_here(recipe)
    assert len(log_of(recipe, "loss")) == 6


def test_a_lock_ends_with_its_process_though_loader_workers_live_on(tmp_path: Path) -> None:
    recipe, accelerator = bare_recipe(tmp_path / "run"), new_accelerator()
    with ClaimedOutput(recipe, accelerator):
        keep_recipe(recipe, accelerator)
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
    try:
        with ClaimedOutput(recipe, accelerator):
            assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_a_folder_in_which_nothing_came_to_stand_is_removed(tmp_path: Path) -> None:
    recipe = bare_recipe(tmp_path / "run")
    with pytest.raises(ValueError, match="no data"), ClaimedOutput(recipe, new_accelerator()):
        raise ValueError("no data")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run" / "store").mkdir(parents=True)
    with ClaimedOutput(recipe, new_accelerator()):
        assert (tmp_path / "run" / ".writer-0.lock").is_file()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["store"]


# -- what no run made ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["best", "checkpoints"])
def test_a_folder_that_no_run_made_is_left_alone(tmp_path: Path, name: str) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    kept = tmp_path / "run" / name / "config.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(ValueError, match=f"run holds {name}, which no run wrote and training would replace: move it"):
        train_here(recipe)
    assert kept.read_text() == "mine"
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_what_a_run_made_is_replaced(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.rename(tmp_path / path.name)
    train_here(recipe)  # from its beginning
    (tmp_path / "run" / ".writer-0.lock").unlink()  # as of a folder that was copied without hidden files
    check_output(recipe)


def test_a_best_model_that_was_deleted_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Of a run that is over, and of one that would go on with a score that no model has."""
    recipe = tiny_recipe(tmp_path, train={"epochs": 1, "schedule": "constant"})
    train_here(recipe)
    shutil.rmtree(tmp_path / "run" / "best")
    cure = f"run/best, the best model of this run, was deleted: put it back, or delete {recipe.output} to start over"
    for epochs in (1, 2):
        recipe.train.epochs = epochs
        with pytest.raises(ValueError, match=cure):
            train_here(recipe)
    shutil.rmtree(tmp_path / "run")
    train_here(recipe)
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()


def test_a_mistake_beside_a_run_is_the_mistake_and_no_other_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    path = recipe_file(recipe)
    for change, sentence in {
        "model.hiden_size=24": "unknown key 'hiden_size' in model; did you mean 'hidden_size'?",
        "architecture=UpDownForImageCaptions": "the task captioning takes UpDownForImageCaptioning; did you mean",
        "evaluate.metric=cider_e": "evaluate.metric is 'cider_e'; the task captioning takes cider_d",
    }.items():
        assert main([str(path), "--cpu", "--set", change]) == 2
        assert sentence in capsys.readouterr().err
    assert main([str(path), "--cpu", "--set", "model.hidden_size=32"]) == 2
    assert "holds a run with another model.hidden_size: choose another output" in capsys.readouterr().err


# -- more epochs -----------------------------------------------------------------------------------------------------


def test_an_ended_run_is_given_more_epochs_and_ends_as_a_longer_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"epochs": 1, "schedule": "step", "decay_epochs": 1}
    recipe, longer = (tiny_recipe(tmp_path, train=settings, output=str(tmp_path / name)) for name in ("run", "long"))
    longer.train.epochs = 3
    train_here(longer)
    train_here(recipe)
    train_here(recipe)
    assert "the run is over and is scored again; to train on, raise train.epochs (it is 1)" in capsys.readouterr().out
    assert main([str(recipe_file(recipe)), "--cpu", "--set", "train.epochs=3"]) == 0
    assert (tmp_path / "run" / "log.jsonl").read_text() == (tmp_path / "long" / "log.jsonl").read_text()
    newest = [tmp_path / name / "checkpoints" / "step-00000018-epoch-0003" for name in ("run", "long")]
    assert newest[0].is_dir() and len({(path / "manifest.json").read_text() for path in newest}) == 1
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["train"]["epochs"] == 3
    recipe.train.epochs = 2
    with pytest.raises(ValueError, match="holds a run of 3 epochs: train.epochs can only be raised"):
        train_here(recipe)


def test_a_run_that_cannot_be_given_more_epochs_says_what_can_be_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    path = recipe_file(recipe)
    assert main([str(path), "--cpu", "--set", "train.epochs=2"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    cure = f"--set init_from={recipe.output}/best --set output=ANOTHER_FOLDER"
    assert told.endswith(
        f"run holds a run of 1 epochs, whose cosine schedule depends on that number; to train on, start from its "
        f"best model: {cure}"
    )
    changes = cure.replace("ANOTHER_FOLDER", str(tmp_path / "more")).split()
    assert main([str(path), "--cpu", "--set", "train.epochs=2", *changes]) == 0
    assert (tmp_path / "more" / "best" / "model.safetensors").is_file()


def test_a_run_that_stopped_early_is_given_more_patience(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 3, "learning_rate": 0.0, "early_stopping": 1})
    train_here(recipe)
    assert ids(recipe)[-1] == "step-00000012-epoch-0002"
    train_here(recipe)
    assert "to train on, raise train.early_stopping (it is 1; 0 never stops early)" in capsys.readouterr().out
    recipe.train.early_stopping = 0
    train_here(recipe)
    assert ids(recipe)[-1] == "step-00000018-epoch-0003"


def test_a_run_of_so_many_steps_has_its_own_cure() -> None:
    recipe = bare_recipe(Path("runs/a"))
    recipe.train.schedule = "constant"
    assert how_to_go_on(recipe) == "to train on, raise train.epochs (it is 10)"
    recipe.train.max_steps = 8
    assert "init_from=runs/a/best" in how_to_go_on(recipe)
