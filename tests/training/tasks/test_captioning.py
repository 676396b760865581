"""The captioning task: its inputs, both losses against slow twins, and what its scores say."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown.losses_updown import self_critical_loss, smoothed_cross_entropy
from tests.training.tiny_run import new_accelerator, tiny_recipe, train_here
from training.metrics.captioning.scores import CiderD, bleu, rouge_l
from training.tasks import build_task
from training.tasks.captioning import CaptioningTask, check_recipe, words_until_end
from training.tasks.captioning_scores import bad_endings_share
from training.train import Run

IMAGES = np.array([3, 7, 11])


@pytest.fixture
def task(tmp_path: Path) -> CaptioningTask:
    return built(tmp_path)


def built(folder: Path, **options: Any) -> CaptioningTask:
    task = build_task(tiny_recipe(folder, **options), new_accelerator())
    task.prepare()
    return task


def rewarded(folder: Path, baseline: str = "greedy", **train: Any) -> CaptioningTask:
    settings = {"objective": "self_critical", "baseline": baseline, "samples_per_image": 3}
    return built(folder, train={**settings, **train})


def images_of(task: CaptioningTask) -> dict[str, Any]:
    inputs = task.inputs(IMAGES, epoch=0)
    inputs.pop("image_index")
    return inputs


def texts(task: CaptioningTask, rows: torch.Tensor) -> list[str]:
    """Token ids with BOS -> words and `END` for the end token, if it is there."""
    eos = task.processor.tokenizer.eos_token_id
    told = []
    for row in rows[:, 1:].tolist():
        words = row[: row.index(eos)] if eos in row else row
        told.append(" ".join([*map(str, words), *(["END"] if eos in row else [])]))
    return told


def twin_rewards(task: CaptioningTask, rows: torch.Tensor, owners: list[int]) -> list[float]:
    """CIDEr-D by way of text: document frequencies of all training captions, the end token a word."""
    references = [[" ".join(map(str, [*row[1:-1].tolist(), "END"])) for row in captions] for captions in task.token_ids]
    scorer = CiderD(references)
    return [float(scorer.score([text], [owner])[0]) for text, owner in zip(texts(task, rows), owners, strict=True)]


# -- inputs ----------------------------------------------------------------------------------------------------------


def test_inputs_hold_each_images_captions(task: CaptioningTask) -> None:
    inputs = task.inputs(IMAGES, epoch=0)
    assert inputs["image_index"].tolist() == IMAGES.tolist()
    assert inputs["region_features"].shape == (3, 4, 64) and inputs["region_features"].std() > 0.1
    words = task.processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    expected = [caption for image in IMAGES for caption in task.train_rows[int(image)]["captions"]]
    cut = [" ".join(caption.lower().rstrip(".").split()[:12]) for caption in expected]
    assert [caption.rstrip(".") for caption in words] == cut
    lengths = inputs["attention_mask"].sum(dim=1)
    ends = inputs["input_ids"][torch.arange(15), lengths - 1]
    assert (ends == task.processor.tokenizer.eos_token_id).all()


def test_flips_and_captions_depend_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe.regions.flips = True
    task = build_task(recipe, new_accelerator())
    task.prepare()
    together, alone = task.inputs(IMAGES, epoch=2), task.inputs(IMAGES[1:2], epoch=2)
    assert torch.equal(together["region_features"][1:2], alone["region_features"])
    sides = [task.inputs(np.array([3]), epoch=epoch)["region_features"] for epoch in range(12)]
    seen = {round(side.sum().item(), 3): side for side in sides}
    assert len(seen) == 2  # the image and its mirror image
    side = task.images.stores[True].batch([task.train_rows[3]["image_id"]], dtype=torch.float32)["region_features"]
    assert any(torch.equal(side, other) for other in seen.values())


def test_captions_are_repeated_or_drawn_to_five(task: CaptioningTask) -> None:
    rows = task.token_ids[0]
    task.token_ids[0] = rows[:2]
    few = task.chosen_captions(0, np.random.default_rng(0))
    assert [row is rows[i] for row, i in zip(few, (0, 1, 0, 1, 0), strict=True)] == [True] * 5
    task.token_ids[0] = rows + rows[:2]
    draws = [{id(row) for row in task.chosen_captions(0, np.random.default_rng(seed))} for seed in range(9)]
    assert set().union(*draws) == {id(row) for row in rows} and any(len(draw) < 5 for draw in draws)


def test_as_many_captions_are_learnt_as_the_recipe_says(tmp_path: Path) -> None:
    """Two of each image's five captions, drawn by seed, epoch and image."""
    task: Any = build_task(tiny_recipe(tmp_path, train={"captions_per_image": 2}), new_accelerator())
    task.prepare()
    inputs = task.inputs(IMAGES, epoch=0)
    assert len(inputs["input_ids"]) == 2 * len(IMAGES)
    for place, image in enumerate(IMAGES.tolist()):
        for slot, number in enumerate(drawn(task, image)):
            row, mask = (inputs[name][2 * place + slot] for name in ("input_ids", "attention_mask"))
            assert torch.equal(row[mask], task.token_ids[image][number])
    words = sum(len(task.token_ids[i][n]) - 1 for i in IMAGES.tolist() for n in drawn(task, i))
    assert task.loss(task.model, inputs)[1].item() == words


def drawn(task: Any, image: int) -> list[int]:
    """The numbers of the two captions of an image that epoch 0 draws."""
    return np.random.default_rng([task.recipe.seed, 0, image]).permutation(5)[:2].tolist()


# -- cross-entropy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_the_sum_over_words_and_ends(tmp_path: Path, smoothing: float) -> None:
    task = built(tmp_path, train={"label_smoothing": smoothing})
    task.model.eval()
    total, count, shown = task.loss(task.model, task.inputs(IMAGES, epoch=0))
    inputs = task.inputs(IMAGES, epoch=0)
    expected, words = 0.0, 0
    for image in range(3):
        for caption in range(5):
            row = inputs["input_ids"][5 * image + caption][inputs["attention_mask"][5 * image + caption]]
            features = {name: inputs[name][image : image + 1] for name in ("region_features", "region_boxes")}
            log_probs = task.model(input_ids=row[None, :-1], **features).logits[0].log_softmax(dim=-1)
            expected += smoothed_cross_entropy(log_probs, row[1:], label_smoothing=smoothing).sum().item()
            words += len(row) - 1
    assert count.item() == words and shown == {}
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_scheduled_sampling_feeds_the_models_own_words(task: CaptioningTask) -> None:
    task.model.train()
    word = task.processor.tokenizer.convert_tokens_to_ids("red")
    with torch.no_grad():
        task.model.lm_head.weight.zero_()
        task.model.lm_head.bias.fill_(-1e4)[word] = 1e4  # the model says red whatever it sees
    hidden: dict[Any, torch.Tensor] = {}
    for probability in (0.0, 1.0):
        task.model.scheduled_sampling_probability = probability
        inputs = task.inputs(IMAGES, epoch=0)
        ids = inputs["input_ids"][:, :-1]
        regions = {name: inputs[name] for name in ("region_features", "region_boxes", "region_mask")}
        run = {"output_hidden_states": True, "use_cache": False}
        hidden[probability] = task.model(input_ids=ids, **regions, **run).hidden_states[-1]
        task.model.scheduled_sampling_probability = 0.0
        reds = torch.full_like(ids, word)
        reds[:, 0] = ids[:, 0]
        hidden["reds"] = task.model(input_ids=reds, **regions, **run).hidden_states[-1]
    assert torch.allclose(hidden[1.0], hidden["reds"], atol=1e-6)
    assert not torch.allclose(hidden[0.0], hidden["reds"], atol=1e-3)


# -- self-critical ---------------------------------------------------------------------------------------------------


def test_the_reward_is_a_weighted_sum(tmp_path: Path) -> None:
    """Each metric by way of text, and their sum, in the advantage and in the log."""
    weights = {"cider_d": 1, "bleu_4": 0.5, "rouge_l": 2.0}
    task = rewarded(tmp_path, "mean_of_others", rewards=weights)
    rows = torch.stack([task.token_ids[3][0][:6], task.token_ids[7][1][:6]])
    each = task.each_reward(rows, torch.tensor([3, 11]))
    references = [[" ".join(map(str, [*row[1:-1].tolist(), "END"])) for row in task.token_ids[i]] for i in (3, 11)]
    said = texts(task, rows)
    twins = {
        "cider_d": twin_rewards(task, rows, [3, 11]),
        "bleu_4": bleu(said, references)[1][3],
        "rouge_l": rouge_l(said, references)[1],
    }
    assert list(each) == list(weights)
    for name, values in each.items():
        assert values == pytest.approx(twins[name], abs=1e-9)
    total = [sum(weights[name] * twins[name][row] for name in weights) for row in range(2)]
    assert task.reward(each).tolist() == pytest.approx(total, abs=1e-5)
    _, _, shown = task.loss(task.model, task.inputs(IMAGES, epoch=0))
    parts = {name: shown[f"reward_{name}_x100"] for name in weights}
    assert shown["reward_x100"] == pytest.approx(sum(weights[name] * part for name, part in parts.items()), abs=1e-3)
    assert parts["rouge_l"] > 0


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ({"cider_dd": 1}, "train.rewards has no metric 'cider_dd'; choose of cider_d, .*; did you mean 'cider_d'?"),
        ({"spice": 1}, "train.rewards has no metric 'spice'; choose of cider_d, cider, cider_plain, bleu_1"),
        ({"bleu_4": "much"}, "train.rewards.bleu_4 is 'much', but must be a number of 0 or more"),
        ({"bleu_4": True}, "train.rewards.bleu_4 is True, but must be a number"),
        ({"bleu_4": -1}, "train.rewards.bleu_4 is -1, but must be a number of 0 or more"),
        ({"bleu_4": 0}, "train.rewards weighs nothing: give a metric a weight above 0"),
        ({}, "train.rewards weighs nothing"),
    ],
)
def test_rewards_that_are_none(tmp_path: Path, rewards: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_recipe(tiny_recipe(tmp_path, train={"objective": "self_critical", "rewards": rewards}))


@pytest.mark.parametrize("baseline", ["greedy", "mean_of_others", "beam"])
def test_advantages_are_those_of_a_slow_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: str) -> None:
    task = rewarded(tmp_path, baseline)
    with torch.no_grad():
        task.model.lm_head.weight *= 20  # so that beams are of different words
    weighed: dict[str, torch.Tensor] = {}

    def note(log_probs: torch.Tensor, rewards: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weighed.update(log_probs=log_probs, rewards=rewards, mask=mask)
        return self_critical_loss(log_probs, rewards, mask)

    sampled: list[torch.Tensor] = []
    decode = task.decode

    def decode_and_note(*arguments: Any, **options: Any) -> torch.Tensor:
        sampled.append(decode(*arguments, **options))
        return sampled[-1]

    monkeypatch.setattr(task, "decode", decode_and_note)
    monkeypatch.setattr("training.tasks.captioning.self_critical_loss", note)
    task.model.train()
    total, count, shown = task.loss(task.model, task.inputs(IMAGES, epoch=0))
    assert task.model.training
    rows = sampled[0]
    owners = [int(image) for image in IMAGES for _ in range(3)]
    rewards = twin_rewards(task, rows, owners)
    if baseline == "greedy":
        greedy = twin_rewards(task, sampled[1], IMAGES.tolist())
        expected = [reward - greedy[i // 3] for i, reward in enumerate(rewards)]
    elif baseline == "beam":
        expected = [reward - sum(rewards[i // 3 * 3 :][:3]) / 3 for i, reward in enumerate(rewards)]
    else:
        expected = [reward - (sum(rewards[i // 3 * 3 :][:3]) - reward) / 2 for i, reward in enumerate(rewards)]
    assert weighed["rewards"].tolist() == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, expected)) > 0.01
    for name in ("reward_x100", "reward_cider_d_x100"):
        assert shown[name] == pytest.approx(100 * sum(rewards) / 9, abs=1e-3)
    by_hand = 0.0
    for row, advantage in enumerate(expected):  # the model has no dropout, so its log-probabilities can be made again
        length = int(weighed["mask"][row].sum())
        features = {name: value[row // 3][None] for name, value in images_of(task).items()}
        ids = rows[row : row + 1, : length + 1]
        log_probs = task.model(input_ids=ids[:, :-1], **features).logits[0].log_softmax(dim=-1)
        by_hand -= advantage * log_probs.gather(1, ids[0, 1:, None]).sum().item()
    assert total.item() == pytest.approx(by_hand, abs=1e-4)
    assert count.item() == weighed["mask"].sum().item()


def test_a_caption_that_was_cut_has_no_end_token_in_its_reward(tmp_path: Path) -> None:
    task = rewarded(tmp_path)
    reference = task.token_ids[3][0]
    whole, cut = reference[None], reference[None, :-1]
    rewards = [task.reward(task.each_reward(rows, torch.tensor([3]))).item() for rows in (whole, cut)]
    assert rewards == pytest.approx([*twin_rewards(task, whole, [3]), *twin_rewards(task, cut, [3])], abs=1e-5)
    assert rewards[0] > rewards[1] + 0.1


def test_samples_are_drawn_from_all_words(tmp_path: Path) -> None:
    task = rewarded(tmp_path, samples_per_image=40)
    unknown = task.processor.tokenizer.unk_token_id
    torch.manual_seed(0)
    rows = task.sample(images_of(task))
    assert len(rows) == 120 and len(set(map(tuple, rows.tolist()))) > 60 and rows.shape[1] <= 13
    with torch.no_grad():
        task.model.lm_head.bias[unknown] = 50.0
    assert set(task.sample(images_of(task))[:, 1:].flatten().tolist()) == {unknown}
    greedy = task.decode(images_of(task), num_beams=1, do_sample=False, **task.decoding(task.model))
    assert unknown not in greedy[:, 1:].flatten().tolist()


def test_reward_training_makes_the_rewarded_caption_likelier(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1, "learning_rate": 3e-2, "batch_size": 8})
    train_here(recipe)
    tuned = copy.deepcopy(recipe)
    tuned.init_from, tuned.output = str(tmp_path / "run" / "best"), str(tmp_path / "tuned")
    tuned.model = {}
    tuned.train.objective, tuned.train.baseline, tuned.train.samples_per_image = "self_critical", "mean_of_others", 16
    tuned.train.learning_rate, tuned.train.schedule = 1e-2, "constant"
    accelerator = new_accelerator()
    task = build_task(tuned, accelerator)
    task.prepare()
    scorer: Any = OneWord(task.processor.tokenizer.convert_tokens_to_ids("red"))
    task.scorer = scorer
    run = Run(tuned, task, accelerator)
    run.model.train()
    rewards = [run.train_step([task.inputs(IMAGES, epoch=0)])["reward_x100"] for _ in range(25)]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 30


class OneWord:
    """A reward of 1 for every caption that has the word."""

    def __init__(self, word: int):
        self.word = word

    def each(self, sequences: torch.Tensor, image_index: torch.Tensor) -> dict[str, np.ndarray]:
        return {"word": (sequences == self.word).any(dim=1).double().numpy()}

    def total(self, each: dict[str, np.ndarray]) -> np.ndarray:
        return each["word"]


def test_words_count_up_to_the_end_token() -> None:
    words = torch.tensor([[5, 2, 2, 7], [2, 5, 5, 5], [5, 6, 7, 8]])
    assert words_until_end(words, 2).sum(dim=1).tolist() == [2, 1, 4]


# -- models ----------------------------------------------------------------------------------------------------------


def test_a_new_model_starts_from_word_frequencies(task: CaptioningTask) -> None:
    words = [word for rows in task.token_ids for row in rows for word in row[1:].tolist()]
    probabilities = task.model.lm_head.bias.exp()
    eos = task.processor.tokenizer.eos_token_id
    share = sum(len(rows) for rows in task.token_ids) / len(words)
    assert probabilities[eos].item() == pytest.approx(share, rel=0.2)  # captions were cut, frequencies were not
    assert probabilities.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert task.model.generation_config.suppress_tokens == [0, 1, 3]
    assert task.processor.image_processor.image_mean == (0.5, 0.5, 0.5)  # as this backbone was trained


def test_a_saved_model_starts_the_next_stage(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    best = str(tmp_path / "run" / "best")
    recipe.init_from, recipe.model, recipe.regions.store = best, {"output_dropout": 0.3}, ""
    recipe.regions.source, recipe.regions.trained = {"trainable_stages": 2}, True
    task = build_task(recipe, new_accelerator())
    task.prepare()
    assert task.model.config.output_dropout == 0.3
    trained = {name for name, weight in task.model.region_source.named_parameters() if weight.requires_grad}
    assert {name.split(".")[2] for name in trained if ".blocks." in name} == {"4", "5"}
    inputs = task.inputs(IMAGES, epoch=0)
    assert inputs["pixel_values"].shape == (3, 3, 32, 32)
    total, count, _ = task.loss(task.model, inputs)
    assert math.isfinite(total.item() / count.item())
    recipe.model = {"hidden_size": 99}
    with pytest.raises(ValueError, match="hidden_size is 99, but the model of init_from has 24: leave it out"):
        build_task(recipe, new_accelerator()).prepare()


# -- scores ----------------------------------------------------------------------------------------------------------


def test_scores_hold_the_share_of_bad_endings(task: CaptioningTask, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["a man with a", "a dog runs.", "two of the", "a cat on a mat", "a bus in", "red", "blue", "a sofa"]
    monkeypatch.setattr(
        task, "captioned", lambda *_, name: ({"row": i, "captions": [text]} for i, text in enumerate(words))
    )
    scored = task.score(task.model, split="val", num_beams=1)
    assert scored.metrics["bad_endings_share"] == 3 / 8 == bad_endings_share(words)
    assert [row["caption"] for row in scored.predictions] == words
    assert scored.predictions[0]["image_id"] == task.evaluation_rows("val")[0]["image_id"]
    assert scored.domains == {}


def test_a_score_of_the_first_images_only(task: CaptioningTask) -> None:
    few = task.score(task.model, split="val", num_beams=1, max_images=3)
    every = task.score(task.model, split="val", num_beams=1)
    assert few.predictions == every.predictions[:3] and len(every.predictions) == 8


def test_words_that_may_not_repeat_bind_what_is_scored_and_not_what_is_sampled(tmp_path: Path) -> None:
    task = rewarded(tmp_path)
    red = task.processor.tokenizer.convert_tokens_to_ids("red")
    with torch.no_grad():
        task.model.lm_head.bias[red] = 1e4  # the model says red whatever it sees

    def longest_run(caption: str) -> int:
        return max(len(list(same)) for word, same in itertools.groupby(caption.split()) if word == "red")

    free = task.score(task.model, split="val", num_beams=2)
    assert "no_repeat_ngram_size" not in task.figures(free, num_beams=2)["decoding"]
    task.recipe.evaluate.no_repeat_ngram_size = 2
    bound = task.score(task.model, split="val", num_beams=2)
    assert task.figures(bound, num_beams=2)["decoding"]["no_repeat_ngram_size"] == 2
    runs = [[longest_run(row["caption"]) for row in scored.predictions] for scored in (free, bound)]
    assert set(runs[0]) == {12} and set(runs[1]) == {2}
    task.model.generation_config.no_repeat_ngram_size = 2  # as a folder of such a recipe saves it
    assert set(task.sample(images_of(task))[:, 1:].flatten().tolist()) == {red}
    assert set(task.score(task.model, split="val", num_beams=1).metrics) == set(bound.metrics)
    task.recipe.evaluate.no_repeat_ngram_size = 0
    assert task.score(task.model, split="val", num_beams=2).predictions == free.predictions


def test_reward_training_makes_regions_of_pixels_once(tmp_path: Path) -> None:
    task = rewarded(tmp_path)
    side = task.model.config.vision_config.image_size
    pixels = torch.rand(2, 3, side, side)
    regions = task.regions_once({"pixel_values": pixels})
    expected = task.model.region_source(pixels)
    torch.testing.assert_close(regions["region_features"], expected.region_features)
    torch.testing.assert_close(regions["region_boxes"], expected.region_boxes)
    assert regions["region_mask"].all() and task.regions_once(regions) is regions
    task.recipe.regions.trained = True  # a source in training needs the pixels themselves
    assert set(task.regions_once({"pixel_values": pixels})) == {"pixel_values"}
