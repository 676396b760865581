"""Several tasks train one model: the steps of a part alone, shared weights, folders that stand by themselves."""

import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from modeling_updown import UpDownProcessor
from tests.tiny import save_tiny_entailment, save_tiny_retrieval
from tests.training.tiny_run import (
    log_of,
    new_accelerator,
    tiny_grounding_recipe,
    tiny_multi_recipe,
    tiny_multiple_choice_recipe,
    tiny_retrieval_recipe,
    tiny_statements_recipe,
    tiny_vqa_recipe,
    train_here,
    train_in_processes,
)
from training.checkpoints import checkpoints
from training.compare import compare_models
from training.evaluate import evaluate_recipe
from training.publish.push import publish_folder, push
from training.recipe import read_recipe
from training.recipe_sections import Recipe, RegionsRecipe, TextRecipe, TrainRecipe
from training.regions.store import RegionStoreWriter
from training.tasks import build_task
from training.tasks.multi import check_width, learnt_texts
from training.tasks.spec import epoch_batches
from training.text.word_pieces import train_word_pieces
from training.train import Run

DATA = {"format": "scenes", "num_scenes": {"train": 12, "val": 4, "test": 4}, "image_size": 32}
STATEMENTS = {**DATA, "per_scene": 3}
FUSION_VQA = "UpDownFusionForVisualQuestionAnswering"


def statements(folder: Path, task: str = "entailment", **changes: Any) -> Recipe:
    return tiny_statements_recipe(folder, task=task, **{"data": STATEMENTS, **changes})


def questions(folder: Path) -> Recipe:
    fusion = tiny_grounding_recipe(folder)
    same = {name: getattr(fusion, name) for name in ("model", "regions", "text")}
    words = {"min_word_count": TrainRecipe.min_word_count, "max_words": 24}
    return tiny_vqa_recipe(folder, architecture=FUSION_VQA, data=DATA, train=words, **same)


def three(folder: Path, **changes: Any) -> Recipe:
    """Entailment, pairs and questions."""
    parts = {"entailment": statements(folder), "pairs": statements(folder, "pairs"), "questions": questions(folder)}
    return tiny_multi_recipe(folder, parts=parts, **changes)


def prepared(recipe: Recipe) -> Any:
    torch.manual_seed(0)  # which random regions are those of the store
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def step_inputs(task: Any, name: str) -> dict[str, torch.Tensor]:
    """The inputs of the first step on a part."""
    number = list(task.parts).index(name)
    return next(one for rows in task.batches(0) if (one := task.inputs(rows, epoch=0))["part"] == number)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict[str, float]]:
    """A run of three parts and its final figures."""
    recipe = three(tmp_path_factory.mktemp("multi"), train={"epochs": 1})
    return recipe, train_here(recipe)


@pytest.fixture(scope="module")
def ready(trained: tuple) -> Any:
    """The task of that run before its first step; tests leave it as it is."""
    return prepared(trained[0])


# -- steps -----------------------------------------------------------------------------------------------------------


def test_one_part_takes_the_steps_of_its_own_task(tmp_path: Path) -> None:
    """Weights, averaged ones, and losses to the last bit, with dropout."""
    settings = {"epochs": 2, "ema": 0.9}
    alone = statements(tmp_path, train=settings, output=str(tmp_path / "alone"))
    recipe = tiny_multi_recipe(tmp_path, train=settings, parts={"only": statements(tmp_path)})
    figures, expected = train_here(recipe), train_here(alone)
    assert log_of(recipe, "loss") == log_of(alone, "loss") == log_of(recipe, "only/loss")
    assert figures["only/accuracy_x100"] == figures["mean_x100"] == expected["accuracy_x100"]
    found, wanted = weights_of(tmp_path / "run/best/only"), weights_of(tmp_path / "alone/best")
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_epoch_is_a_pass_over_every_part_in_the_batches_of_each(trained: tuple, ready: Any) -> None:
    task = ready
    for epoch in range(2):
        drawn: dict[int, list[np.ndarray]] = {number: [] for number in range(3)}
        for rows in task.batches(epoch):
            passes, places = np.divmod(rows, task.num_rows)
            number = int(np.searchsorted(task.first_rows, places[0], side="right")) - 1
            assert set(passes.tolist()) == {epoch}
            drawn[number].append(places - task.first_rows[number])
        for number, part in enumerate(task.parts.values()):
            size = part.recipe.train.batch_size
            expected = epoch_batches(part.task.num_rows, batch_size=size, seed=0, epoch=epoch)
            assert np.array_equal(drawn[number], expected)
    steps = {name: len(log_of(trained[0], f"{name}/loss")) for name in task.parts}
    assert steps == task.planned_steps() and sum(steps.values()) == len(log_of(trained[0], "loss"))


def test_small_parts_go_on_into_further_passes(tmp_path: Path) -> None:
    small = statements(tmp_path, train={"batch_size": 27})
    recipe = tiny_multi_recipe(tmp_path, parts={"large": statements(tmp_path), "small": small})
    recipe.sampling.by = "round_robin"
    task = prepared(recipe)
    steps = [rows // task.num_rows for epoch in range(2) for rows in task.batches(epoch)]
    assert [int(passes[0]) for passes in steps[1::2]] == [*range(len(steps) // 2)]  # a step a pass of the small one
    assert max(int(passes[0]) for passes in steps[::2]) == 1


def test_a_step_on_one_part_moves_the_encoder_of_all_and_no_other_head(trained: tuple) -> None:
    task = prepared(trained[0])
    task.recipe.train.weight_decay = 0.5
    run = Run(task.recipe, task, task.accelerator)
    before = {name: weight.detach().clone() for name, weight in task.model.named_parameters()}
    run.train_step([step_inputs(task, "pairs")])
    moved = {name for name, weight in task.model.named_parameters() if not torch.equal(weight, before[name])}
    assert any(name.startswith("fusion.text_model.") for name in moved)
    assert {name.split(".")[1] for name in moved if name.startswith("parts.")} == {"pairs"}
    head, other = (task.model.parts[name].fusion for name in ("entailment", "questions"))
    assert head.text_model is other.text_model and head.region_source is other.region_source


def test_a_part_counts_by_its_weight(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ready
    task.model.eval()
    inputs = step_inputs(task, "questions")
    once, count, shown = task.loss(task.model, dict(inputs))
    monkeypatch.setattr(task.parts["questions"], "weight", 2.5)
    more, again, same = task.loss(task.model, dict(inputs))
    assert more.item() == pytest.approx(2.5 * once.item()) and again == count
    assert shown == same == {"questions/loss": pytest.approx(once.item() / count.item())}


def test_a_killed_run_ends_with_the_weights_of_one_never_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 2, "checkpoint_steps": 2, "ema": 0.9}
    runs, logs = {}, []
    for name in ("whole", "killed"):
        parts = {"a": statements(tmp_path), "b": statements(tmp_path, "pairs")}
        recipe = tiny_multi_recipe(tmp_path, parts=parts, train=settings, output=str(tmp_path / name))
        recipe.sampling.by = "annealed"
        if name == "killed":
            with monkeypatch.context() as patch:
                patch.setattr(Run, "train_step", dying(Run.train_step, after=5))
                with pytest.raises(RuntimeError, match="killed"):
                    train_here(recipe)
        train_here(recipe)
        newest = checkpoints(tmp_path / name / "checkpoints")[-1]
        files = [*newest.glob("*.safetensors"), *(tmp_path / name / "best").glob("*/model.safetensors")]
        runs[name] = {f"{path.parent.name}/{path.name}": load_file(path) for path in files}
        logs.append((tmp_path / name / "log.jsonl").read_bytes())
    assert len(runs["whole"]) == 5 and runs["whole"].keys() == runs["killed"].keys() and logs[0] == logs[1]
    for name, weights in runs["whole"].items():
        assert all(torch.equal(weights[key], runs["killed"][name][key]) for key in weights), name


def dying(step: Any, *, after: int) -> Any:
    """`Run.train_step` that fails once it has been called so often."""
    calls = itertools.count()

    def train_step(self: Run, pieces: list) -> dict[str, float]:
        if next(calls) == after:
            raise RuntimeError("killed")
        return step(self, pieces)

    return train_step


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Heads that a step does not train have no gradient, for which no process waits."""
    losses = []
    for number in (1, 2):
        parts = {"a": statements(tmp_path), "b": statements(tmp_path, "pairs")}
        for part in parts.values():
            part.model["text_config"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
            part.model["image_pairs_dropout"] = 0.0
        output = str(tmp_path / str(number))
        recipe = tiny_multi_recipe(tmp_path, parts=parts, train={"max_steps": 6, "epochs": 1}, output=output)
        if number == 1:
            train_here(recipe)
        else:
            assert train_in_processes(recipe, num_processes=2) == [0, 0]
        losses.append(log_of(recipe, "loss"))
    assert len(losses[0]) == 6 and losses[1] == pytest.approx(losses[0], abs=1e-4)


# -- the shared model ------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_that_of_all_parts_texts(ready: Any) -> None:
    task = ready
    texts = [list(learnt_texts(part.task)) for part in task.parts.values()]
    expected = train_word_pieces(itertools.chain.from_iterable(texts), vocabulary_size=320).get_vocab()
    assert all(part.task.processor.tokenizer.get_vocab() == expected for part in task.parts.values())
    assert expected != train_word_pieces(texts[0], vocabulary_size=320).get_vocab()


def test_every_task_can_be_a_part(tmp_path: Path) -> None:
    """In the order of a recipe whose first part reads several images."""
    recipe = tiny_multi_recipe(
        tmp_path,
        parts={
            "pairs": statements(tmp_path, "pairs"),
            "choices": tiny_multiple_choice_recipe(tmp_path, data={**DATA, "asks": "commonsense"}),
            "phrases": tiny_grounding_recipe(tmp_path, data=DATA),
            "captions": tiny_retrieval_recipe(tmp_path, data=DATA),
            "masked": tiny_retrieval_recipe(tmp_path, task="pretraining", data=DATA),
            "questions": questions(tmp_path),
        },
    )
    recipe.data["parts"]["masked"]["recipe"].model["objectives"] = {"itc": 1, "mlm": 1}
    task = prepared(recipe)
    for name, part in task.parts.items():
        total, count, _ = task.loss(task.model, step_inputs(task, name))
        assert total.isfinite() and count > 0
        assert part.task.model.fusion.text_model is task.model.fusion.text_model
    assert task.parts["captions"].task.model.config.projection_size == 16  # its own head's


def test_a_saved_model_gives_every_part_its_encoder_and_the_heads_that_it_has(tmp_path: Path) -> None:
    folder = save_tiny_retrieval(tmp_path / "saved")
    same = {"regions": RegionsRecipe(store=str(tmp_path / "own")), "text": TextRecipe(), "model": {}}
    data = {**STATEMENTS, "image_size": 64}
    parts = {"a": statements(tmp_path, **same, data=data), "b": tiny_retrieval_recipe(tmp_path, **same, data=data)}
    parts["b"].data.pop("per_scene")
    task = prepared(tiny_multi_recipe(tmp_path, parts=parts, init_from=str(folder)))
    saved, found = weights_of(folder), task.model.parts["b"].state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in saved.items())
    assert task.model.parts["a"].fusion.text_model is task.model.parts["b"].fusion.text_model


def test_stores_of_other_widths_are_refused(tmp_path: Path) -> None:
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
        writer.append(["1"], {"region_features": torch.ones(1, 1, 4), "region_boxes": boxes})
    recipes = [statements(tmp_path, regions=RegionsRecipe(store=str(tmp_path / name))) for name in ("a", "store")]
    model = SimpleNamespace(config=SimpleNamespace(vision_config=None, region_feature_size=8))
    lead, part = (SimpleNamespace(name=n, recipe=r, task=None) for n, r in zip("ab", recipes, strict=True))
    lead.task = SimpleNamespace(model=model)
    with pytest.raises(ValueError, match="the parts a and b share one encoder, but the regions of .* have width 4"):
        check_width(part, lead)  # type: ignore[arg-type]


# -- what is left ----------------------------------------------------------------------------------------------------


def test_every_part_is_a_whole_model_on_the_same_weights(trained: tuple) -> None:
    best = Path(trained[0].output) / "best"
    found = {name: weights_of(best / name) for name in ("entailment", "pairs", "questions")}
    shared = [name for name in found["entailment"] if name.startswith("fusion.")]
    assert len(shared) > 20
    for name in shared:
        assert torch.equal(found["entailment"][name], found["pairs"][name])
        assert torch.equal(found["entailment"][name], found["questions"][name])
    model, info = AutoModelForSequenceClassification.from_pretrained(best / "entailment", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = UpDownProcessor.from_pretrained(best / "entailment")(text=["a red star"], return_tensors="pt")
    regions = {"region_features": torch.ones(1, 2, 64), "region_boxes": torch.tensor([[[0, 0, 0.5, 1.0]] * 2])}
    assert model(**inputs, **regions).logits.shape == (1, 3)


def test_each_part_is_scored_as_by_its_own_recipe(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    best = Path(recipe.output) / "best"
    evaluation = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "again")
    assert evaluation["metrics"] == metrics and evaluation["dataset"]["num_predictions_pairs"] > 0
    own = {}
    for name, metric in (("entailment", "accuracy"), ("pairs", "accuracy"), ("questions", "accuracy")):
        by_itself = evaluate_recipe(best / name / "recipe.yaml", model=str(best / name), output=tmp_path / name)
        own[name] = by_itself["metrics"]
        assert {f"{name}/{key}": value for key, value in own[name].items()}.items() <= metrics.items()
        _, row = compare_models({"alone": tmp_path / name, "together": best / name})
        assert row["differences"][metric] == {"difference_x100": 0.0, "interval_x100": [0.0, 0.0]}
    chosen = [own[name]["accuracy_x100"] for name in own]
    assert metrics["mean_x100"] == pytest.approx(sum(chosen) / 3)
    assert json.loads((tmp_path / "again/pairs/evaluation.json").read_text())["metrics"] == own["pairs"]


def test_the_part_alone_is_trained_for_as_many_steps(trained: tuple) -> None:
    best = Path(trained[0].output) / "best"
    alone = read_recipe(best / "pairs" / "recipe.yaml")
    assert alone.task == "pairs" and alone.output == f"{trained[0].output}_alone/pairs"
    train_here(alone)
    assert len(log_of(alone, "loss")) == len(log_of(trained[0], "pairs/loss"))
    _, row = compare_models({"alone": Path(alone.output) / "best", "together": best / "pairs"})
    assert {"accuracy", "consistency"} == row["differences"].keys()


def test_a_part_is_published_and_the_folder_of_all_names_its_parts(trained: tuple, tmp_path: Path) -> None:
    best = Path(trained[0].output) / "best"
    publish_folder(best / "pairs", tmp_path / "hub", repo_id="someone/pairs")
    assert (tmp_path / "hub/README.md").is_file()
    assert weights_of(tmp_path / "hub").keys() == weights_of(best / "pairs").keys()
    for folder in (best, best.parent):
        with pytest.raises(
            ValueError, match=r"holds no config.json: give a folder of a model in it, .*best/entailment"
        ):
            push(folder, "someone/all", dry_run=True, output=tmp_path / "all")


def test_a_split_without_the_metric_of_a_part_is_told(trained: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    task = prepared(trained[0])
    monkeypatch.setattr(task.parts["pairs"].recipe.evaluate, "metric", "balance")
    with pytest.warns(UserWarning, match="data.parts.pairs: the split 'val' has no balance, so that the parts have no"):
        assert math.isnan(task.score(task.model, split="val", num_beams=1).metrics["mean"])


def test_a_folder_that_lacks_a_part_is_refused(trained: tuple, tmp_path: Path) -> None:
    task: Any = build_task(trained[0], new_accelerator())
    folder = save_tiny_entailment(tmp_path / "one")
    with pytest.raises(
        ValueError, match=r"one holds no folder entailment, which is a part of the recipe: name the best"
    ):
        task.load(folder)


def test_a_part_without_rows_for_every_process_is_refused(tmp_path: Path) -> None:
    parts = {"a": statements(tmp_path), "b": statements(tmp_path, "pairs", train={"batch_size": 2})}
    recipe = tiny_multi_recipe(tmp_path, parts=parts, train={"accumulation": 3})
    with pytest.raises(
        ValueError, match=r"data.parts.b: 2 rows a step leave some of 1 processes x 3 pieces without any"
    ):
        prepared(recipe)
