"""The retrieval task: batches by (seed, epoch, image), recall equal to a hand computation, re-ranking, fine-tuning."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.tiny_run import log_of, new_accelerator, tiny_retrieval_recipe, train_here
from training.evaluate import evaluate_folder
from training.recipe import build_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.tasks import build_task
from training.tasks.reranking import best_places, reranked
from training.tasks.retrieval import clip_scores


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict[str, float]]:
    """A tiny run and its final figures."""
    recipe = tiny_retrieval_recipe(tmp_path_factory.mktemp("retrieval"), train={"epochs": 60, "learning_rate": 2e-3})
    recipe.evaluate.every_epochs = 20
    return recipe, train_here(recipe)


def prepared(recipe: Recipe) -> Any:
    """A task ready to train."""
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def test_training_brings_the_contrastive_loss_down(trained: tuple) -> None:
    recipe, metrics = trained
    losses = log_of(recipe, "itc")
    chance = (np.log(8) + np.log(16)) / 2  # 2.43, among 8 images with two captions each; four seeds end at 1.27 to 1.43
    assert losses[0] > chance and np.mean(losses[-6:]) < 0.75 * chance
    assert 0.6 < log_of(recipe, "itm")[-1] < 0.75  # near the entropy of one right pair among two or three
    assert metrics["i2t_r10_x100"] >= metrics["i2t_r5_x100"] >= metrics["i2t_r1_x100"]


def test_the_run_leaves_figures_and_the_best_caption_of_each_image(trained: tuple) -> None:
    recipe, metrics = trained
    folder = Path(recipe.output) / "best"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["metrics"] == metrics and evaluation["dataset"]["num_photos"] == 8
    assert evaluation["decoding"] == {"re-ranked": 3, "ITC's weight": 0.0}
    predictions = json.loads((folder / "predictions.json").read_text())
    assert np.mean([row["right"] for row in predictions]) * 100 == pytest.approx(metrics["i2t_r1_x100"])


def test_recall_is_that_of_every_image_against_every_caption_one_by_one(trained: tuple) -> None:
    recipe, metrics = trained
    task: Any = build_task(recipe, new_accelerator())
    model, processor = task.load(Path(recipe.output) / "best")
    model.eval()
    rows = task.evaluation_rows("test")
    captions = rows["captions"][:]
    texts = list(itertools.chain.from_iterable(captions))
    found = []
    with torch.no_grad():
        images = [model.get_image_features(**task.image_inputs(rows, np.array([row])))[0] for row in range(len(rows))]
        for text, owner in zip(texts, np.repeat(range(len(rows)), [len(own) for own in captions]), strict=True):
            words = processor.tokenizer(text, return_tensors="pt", truncation=True, max_length=14)
            words = model.get_text_features(words["input_ids"], words["attention_mask"])[0]
            scores = [float(image @ words) for image in images]
            found.append(sum(score > scores[owner] for score in scores) < 5)
    assert metrics["itc_t2i_r5_x100"] == pytest.approx(100 * np.mean(found), abs=100 / len(texts))


def test_reranking_orders_the_best_by_match_and_leaves_the_rest(trained: tuple) -> None:
    recipe, _ = trained
    task: Any = build_task(recipe, new_accelerator())
    model, processor = task.load(Path(recipe.output) / "best")
    model.eval()
    rows = task.evaluation_rows("val")
    captions = rows["captions"][:]
    texts = list(itertools.chain.from_iterable(captions))
    with torch.no_grad():
        embedded = task.embed(model, rows, captions)
        similarity = (embedded.images @ embedded.texts.T).numpy()
        texts_of_image, images_of_text = reranked(task, model, rows, captions, similarity)
        best = np.argsort(-similarity[2])[:3]
        words = processor.tokenizer([texts[i] for i in best], return_tensors="pt", padding=True)
        image = task.image_inputs(rows, np.array([2]))
        scores = model.match(words["input_ids"], words["attention_mask"], **image, image_index=torch.zeros(3).long())
    score_of = dict(zip(best.tolist(), scores.tolist(), strict=True))
    reordered = [score_of[place] for place in np.argsort(-texts_of_image[2])[:3].tolist()]
    assert all(before >= after - 1e-5 for before, after in itertools.pairwise(reordered))  # equal captions may change
    assert np.argsort(-texts_of_image[2])[3:].tolist() == np.argsort(-similarity[2])[3:].tolist()
    assert images_of_text.shape == (len(texts), len(rows))
    assert set(np.argsort(-images_of_text[5])[:3]) == set(np.argsort(-similarity[:, 5])[:3])


def test_reranking_looks_at_an_image_once_or_twice(trained: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many captions it is matched with: from pixels, looking is what takes the time."""
    recipe, _ = trained
    task: Any = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    rows, looked = task.evaluation_rows("val"), []
    captions = rows["captions"][:]
    look = task.image_inputs
    monkeypatch.setattr(task, "image_inputs", lambda rows, numbers: (looked.append(numbers), look(rows, numbers))[1])
    monkeypatch.setattr(recipe.evaluate, "batch_size", 4)  # the run is shared with the other tests
    similarity = np.random.default_rng(0).random((len(rows), sum(map(len, captions))))
    with torch.no_grad():
        reranked(task, model.eval(), rows, captions, similarity)
    images = np.concatenate(looked)
    assert set(images) == set(range(len(rows))) and len(images) < len(rows) + len(looked)


def test_batches_are_decided_by_seed_epoch_and_image(tmp_path: Path) -> None:
    task = prepared(tiny_retrieval_recipe(tmp_path, train={"captions_per_image": 1}))
    together = task.inputs(np.array([3, 5]), epoch=1)
    alone = task.inputs(np.array([5]), epoch=1)
    own = together["input_ids"][1][together["attention_mask"][1].bool()]
    assert own.tolist() == alone["input_ids"][0].tolist()
    assert together["image_index"].tolist() == [0, 1]
    assert together["image_ids"].tolist() == task.image_numbers[[3, 5]].tolist()
    assert len(task.inputs(np.array([3, 5, 3]), epoch=1)["image_ids"]) == 2  # an image once a batch
    drawn = [task.inputs(np.array([3]), epoch=epoch)["input_ids"][0].tolist() for epoch in range(8)]
    assert len({tuple(row) for row in drawn}) > 1


def test_several_captions_of_an_image_stand_next_to_each_other(tmp_path: Path) -> None:
    task = prepared(tiny_retrieval_recipe(tmp_path, train={"captions_per_image": 3}))
    inputs = task.inputs(np.array([0, 1]), epoch=0)
    assert inputs["image_index"].tolist() == [0, 0, 0, 1, 1, 1]
    texts = task.processor.tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    known = [" ".join(text.lower().split()) for text in task.train_rows[1]["captions"]]
    assert all(any(text.strip()[:20] in " ".join(one.split()) for one in known) for text in texts[3:])


def test_a_momentum_queue_gives_wrong_pairs_of_earlier_batches(tmp_path: Path) -> None:
    task = prepared(tiny_retrieval_recipe(tmp_path, train={"momentum_queue": 10, "momentum_decay": 0.5}))
    task.model.train()
    first = task.with_keys(task.inputs(np.array([0, 1, 2]), epoch=0), torch.tensor([0, 1, 2]))["keys"]
    assert first["image_key_ids"].tolist() == [0, 1, 2] and first["text_key_ids"].tolist() == [0, 0, 1, 1, 2, 2]
    second = task.with_keys(task.inputs(np.array([2, 3, 4]), epoch=0), torch.tensor([2, 3, 4]))["keys"]
    assert second["image_key_ids"].tolist() == [2, 3, 4, 0, 1, 2]
    assert second["text_key_ids"].tolist() == [2, 2, 3, 3, 4, 4, 0, 0, 1, 1, 2, 2]
    third = task.with_keys(task.inputs(np.array([5, 6, 7]), epoch=0), torch.tensor([5, 6, 7]))["keys"]
    assert sorted(third["text_key_ids"].tolist()[6:]) == [1, 1, 2, 2, 2, 2, 3, 3, 4, 4]  # the oldest two are gone
    torch.testing.assert_close(third["image_keys"].norm(dim=1), torch.ones(len(third["image_keys"])))


def test_the_momentum_copy_follows_the_model(tmp_path: Path) -> None:
    task = prepared(tiny_retrieval_recipe(tmp_path, train={"momentum_queue": 4, "momentum_decay": 0.75}))
    own, copied = task.model.image_projection.weight, task.momentum.copy.image_projection.weight
    before = copied.clone()
    with torch.no_grad():
        own += 1
    task.momentum.follow(task.model)
    torch.testing.assert_close(copied, before + 0.25)
    assert not any(parameter.requires_grad for parameter in task.momentum.parameters())


def test_a_run_with_a_momentum_queue_trains_and_its_folder_holds_the_model_alone(tmp_path: Path) -> None:
    recipe = tiny_retrieval_recipe(tmp_path, train={"momentum_queue": 12, "max_steps": 3})
    train_here(recipe)
    task: Any = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    assert not [name for name in model.state_dict() if "copy" in name or "queue" in name]


def test_frozen_layers_stay_as_they_were(tmp_path: Path) -> None:
    task = prepared(tiny_retrieval_recipe(tmp_path, text=TextRecipe(vocabulary_size=320, frozen_layers=1)))
    encoder = task.model.fusion.text_model
    assert not any(parameter.requires_grad for parameter in encoder.embeddings.parameters())
    assert [layer.attention.self.query.weight.requires_grad for layer in encoder.encoder.layer] == [False, True]


def test_a_frozen_encoder_stays_as_it_was_and_the_rest_learns(trained: tuple, tmp_path: Path) -> None:
    recipe, _ = trained
    start = str(Path(recipe.output) / "best")
    changed = tiny_retrieval_recipe(
        tmp_path, init_from=start, train={"frozen_encoder": True, "max_steps": 2}, model={"objectives": {"itc": 1}}
    )
    train_here(changed)
    before, after = (
        load_file(Path(folder) / "best" / "model.safetensors") for folder in (recipe.output, changed.output)
    )
    own = {name for name in after if not name.startswith("fusion.")}
    assert own and all(torch.equal(before[name], after[name]) for name in after.keys() - own)
    assert not torch.equal(before["text_projection.weight"], after["text_projection.weight"])


def test_a_frozen_encoder_needs_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen_encoder keeps random weights: name a trained model in init_from"):
        prepared(tiny_retrieval_recipe(tmp_path, train={"frozen_encoder": True}))


def test_a_pretrained_text_encoder_is_not_enough_for_a_frozen_one(trained: tuple, tmp_path: Path) -> None:
    """The embedding of regions would stay at random weights without a word."""
    text = TextRecipe(pretrained=str(Path(trained[0].output) / "best"))
    recipe = tiny_retrieval_recipe(tmp_path, train={"frozen_encoder": True}, text=text)
    del recipe.model["text_config"]
    with pytest.raises(ValueError, match="frozen_encoder keeps random weights: name a trained model in init_from"):
        prepared(recipe)


def test_gradient_checkpointing_and_folds_run(tmp_path: Path) -> None:
    evaluate = EvaluateRecipe(metric="t2i_r1", batch_size=3, folds=2)
    recipe = tiny_retrieval_recipe(tmp_path, train={"max_steps": 1, "gradient_checkpointing": True}, evaluate=evaluate)
    metrics = train_here(recipe)
    assert 0 <= metrics["t2i_r10_x100"] <= 100 and metrics["t2i_r5_x100"] == 100  # of four images a fold


def test_a_model_of_another_objective_is_a_start(trained: tuple, tmp_path: Path) -> None:
    recipe, _ = trained
    start = str(Path(recipe.output) / "best")
    fine = tiny_retrieval_recipe(
        tmp_path, init_from=start, regions=RegionsRecipe(store=recipe.regions.store), model={"objectives": {"itc": 1}}
    )
    task = prepared(fine)
    assert not hasattr(task.model, "match_head") and task.model.config.objectives == {"itc": 1}
    assert not task.reranks  # a start is not yet a result


def test_a_match_head_keeps_what_it_matches_by(trained: tuple, tmp_path: Path) -> None:
    """A model without one may start either way."""
    recipe, _ = trained
    start = str(Path(recipe.output) / "best")
    regions = RegionsRecipe(store=recipe.regions.store)
    other = tiny_retrieval_recipe(tmp_path, init_from=start, regions=regions, model={"match_by": "product"})
    with pytest.raises(ValueError, match=r"do not fit `model`: leave out what they have settled, such as match_by"):
        prepared(other)
    itc = tiny_retrieval_recipe(tmp_path, init_from=start, regions=regions, model={"objectives": {"itc": 1}})
    task = prepared(itc)
    task.save(task.model, tmp_path / "itc")
    other.init_from = str(tmp_path / "itc")
    model = prepared(other).model
    assert model.config.match_by == "product" and model.match_head.in_features == model.config.projection_size


def test_scores_of_a_folder_are_reranked_as_the_recipe_says(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    task: Any = build_task(recipe, new_accelerator())
    again = evaluate_folder(task, Path(recipe.output) / "best", split="test", num_beams=1)
    assert again["metrics"] == pytest.approx(metrics)


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"evaluate": EvaluateRecipe(metric="cider_d")}, "evaluate.metric is 'cider_d'; the task retrieval takes rsum"),
        ({"train": {"objective": "cross_entropy"}}, "the task retrieval takes mixed"),
        ({"model": {"objectives": {"itx": 1}}}, "objectives names itx; known are itc"),
        ({"text": TextRecipe(pretrained="no/such folder/at all")}, "text.pretrained"),
        ({"text": TextRecipe(vocabulary_size=320, frozen_layers=9)}, "frozen_layers is 9, but the text encoder has 2"),
    ],
)
def test_mistakes_are_named_with_their_cure(changes: dict[str, Any], cure: str, tmp_path: Path) -> None:
    recipe = tiny_retrieval_recipe(tmp_path, **changes)
    if "text" in changes and changes["text"].pretrained:
        recipe.model = {}
    with pytest.raises(ValueError, match=cure.replace("(", r"\(")):
        prepared(recipe)


def test_best_places_are_stable_on_ties() -> None:
    assert best_places(np.array([[0.5, 0.9, 0.5, 0.1]]), 3).tolist() == [[1, 0, 2]]


def test_clips_are_scored_in_the_terms_of_their_field() -> None:
    """Ranks by hand; of equal scores the right clip is first for a text, and a clip's text gets the mean place."""
    owners = np.array([0, 0, 1, 2])
    texts_of_clip = np.array([[0.9, 0.2, 0.1, 0.0], [0.5, 0.4, 0.3, 0.3], [0.1, 0.4, 0.6, 0.3]])
    found = clip_scores(texts_of_clip, owners)
    assert (found["t2v_r1"], found["t2v_r5_x100"], found["t2v_median_rank"]) == (0.5, 100.0, 1.5)
    assert found["t2v_mean_rank"] == (1 + 3 + 2 + 1) / 4
    assert (found["v2t_r1"], found["v2t_mean_rank"]) == (1 / 3, (1 + 3.5 + 3) / 3)
    turned = clip_scores(texts_of_clip, owners, images_of_text=np.eye(3)[owners])  # each text finds its clip
    assert turned["t2v_r1"] == 1 and turned["v2t_r1"] == found["v2t_r1"]


@pytest.mark.parametrize(
    ("task", "format"), [("retrieval", "msrvtt"), ("vqa", "tgif_qa"), ("multiple_choice", "next_qa")]
)
def test_clips_want_a_store(task: str, format: str, tmp_path: Path) -> None:
    recipe = build_recipe({"task": task, "output": str(tmp_path), "data": {"format": format, "annotations": "a.csv"}})
    with pytest.raises(
        ValueError, match=f"data.format is '{format}', whose clips .* name that folder in regions.store"
    ):
        build_task(recipe, new_accelerator())
