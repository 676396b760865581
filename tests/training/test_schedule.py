"""Learning rates and scheduled sampling, number by number."""

from typing import Any

import pytest
import torch

from tests import tiny
from training.recipe_sections import TrainRecipe
from training.schedule import (
    PRETRAINED,
    build_optimizer,
    build_schedule,
    learning_rate_factor,
    scheduled_sampling_probability,
)

HALF_WAY_DOWN = 0.5 * (1 + 2**-0.5)  # of the cosine, at a quarter of the run


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        ("cosine", 0, 1.0),
        ("cosine", 10, HALF_WAY_DOWN),
        ("cosine", 20, 0.5),
        ("cosine", 40, 0.0),
        ("cosine", 50, 0.0),
        ("linear", 10, 0.75),
        ("linear", 39, 0.025),
        ("linear", 45, 0.0),
        ("step", 19, 1.0),
        ("step", 20, 0.8),
        ("step", 39, 0.8),
        ("step", 40, 0.64),
        ("constant", 39, 1.0),
    ],
)
def test_factors(schedule: Any, step: int, factor: float) -> None:
    settings = TrainRecipe(epochs=4, warmup_steps=0, schedule=schedule, decay=0.8, decay_epochs=2)
    assert learning_rate_factor(step, settings=settings, steps_per_epoch=10) == pytest.approx(factor)


def test_warm_up_rises_in_a_line_and_never_exceeds_the_schedule() -> None:
    settings = TrainRecipe(epochs=1, warmup_steps=4, schedule="linear")
    factors = [learning_rate_factor(step, settings=settings, steps_per_epoch=8) for step in range(8)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_a_run_of_so_many_steps_falls_by_steps() -> None:
    by_steps = TrainRecipe(epochs=9, warmup_steps=0, schedule="step", decay=0.1, decay_steps=7, decay_epochs=1)
    found = [learning_rate_factor(step, settings=by_steps, steps_per_epoch=2) for step in (0, 6, 7, 13, 14)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    for settings in (
        TrainRecipe(epochs=9, max_steps=10, warmup_steps=0, schedule="linear"),
        TrainRecipe(epochs=9, max_steps=10, warmup_steps=0, schedule="cosine"),
    ):
        factors = [learning_rate_factor(step, settings=settings, steps_per_epoch=2) for step in (0, 5, 10)]
        assert factors == pytest.approx([1, 0.5, 0])
    shorter = TrainRecipe(epochs=2, max_steps=100, warmup_steps=0, schedule="linear")
    assert learning_rate_factor(2, settings=shorter, steps_per_epoch=2) == pytest.approx(0.5)


def test_scheduled_sampling_rises_to_its_maximum() -> None:
    settings = TrainRecipe(objective="cross_entropy", scheduled_sampling_increase=0.05, scheduled_sampling_epochs=5)
    settings.scheduled_sampling_max = 0.12
    found = [scheduled_sampling_probability(settings, epoch) for epoch in (0, 4, 5, 9, 10, 99)]
    assert found == pytest.approx([0.05, 0.05, 0.1, 0.1, 0.12, 0.12])
    assert scheduled_sampling_probability(TrainRecipe(), 3) == 0.0
    settings.objective = "self_critical"
    assert scheduled_sampling_probability(settings, 3) == 0.0


class TwoParts(torch.nn.Module):
    """A model with a region source, a frozen layer, and a head with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.region_source = torch.nn.Linear(2, 2, bias=False)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)
        self.head = torch.nn.Linear(2, 3)


def test_the_region_source_has_its_own_rate_and_biases_do_not_decay() -> None:
    model = TwoParts()
    settings = TrainRecipe(learning_rate=0.1, region_learning_rate=0.01, weight_decay=0.3, warmup_steps=0)
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["betas"] == (0.9, 0.98)
    found = {
        (group["lr"], group["weight_decay"]): [tuple(weight.shape) for weight in group["params"]]
        for group in optimizer.param_groups
    }
    assert found == {(0.01, 0.3): [(2, 2)], (0.1, 0.3): [(3, 2)], (0.1, 0.0): [(3,)]}
    schedule = build_schedule(optimizer, settings, steps_per_epoch=1)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.005, 0.05, 0.05])


@pytest.mark.parametrize("build", [tiny.tiny_detector, tiny.tiny_pyramid_detector])
def test_a_detectors_backbone_has_the_rate_of_a_region_source(build: Any) -> None:
    detector = build(frozen_stages=0)
    detector.unfreeze()
    optimizer = build_optimizer(detector, TrainRecipe(learning_rate=0.1, region_learning_rate=0.01))
    slow = {id(weight) for group in optimizer.param_groups if group["lr"] == 0.01 for weight in group["params"]}
    names = {name: id(weight) in slow for name, weight in detector.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name, is_slow in names.items() if is_slow} == {"backbone"}
    new = {name for name, is_slow in names.items() if not is_slow}
    assert {"proposals.conv.weight", "heads.object_score.weight"} <= new
    assert {name.split(".")[1] for name in new if name.startswith("backbone.")} in (set(), {"lateral", "smooth"})
    captioner = tiny.tiny_captioner(vision_config=detector.config)
    sources = [name for name, _ in captioner.named_parameters() if name.startswith(PRETRAINED)]
    assert sources == [f"region_source.{name}" for name, _ in detector.named_parameters()]  # all of it is one there


@pytest.mark.parametrize("build", [tiny.tiny_prefix_lm, tiny.tiny_fusion], ids=["prefix_lm", "fusion"])
def test_a_pretrained_text_model_has_a_rate_of_its_own(build: Any) -> None:
    """The text encoder of a fusion model and the language model of a prefix LM; all the rest has the run's."""
    model = build()
    optimizer = build_optimizer(model, TrainRecipe(learning_rate=0.1), text_learning_rate=0.02)
    own = {id(weight) for group in optimizer.param_groups if group["lr"] == 0.02 for weight in group["params"]}
    names = {name for name, weight in model.named_parameters() if id(weight) in own}
    assert names == {name for name, _ in model.named_parameters() if name.startswith(("text_model", "language_model"))}
    assert len(names) > 5


def test_adapters_are_new_weights_beside_a_pretrained_text_model() -> None:
    pytest.importorskip("peft")
    model = tiny.tiny_prefix_lm()
    model.set_tuning("lora")
    optimizer = build_optimizer(model, TrainRecipe(learning_rate=0.1), text_learning_rate=0.02)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}
    assert any(".lora_" in name and weight.requires_grad for name, weight in model.named_parameters())


def test_other_optimisers_and_a_frozen_model() -> None:
    assert type(build_optimizer(TwoParts(), TrainRecipe(optimizer="adam"))) is torch.optim.Adam
    sgd = build_optimizer(TwoParts(), TrainRecipe(optimizer="sgd", momentum=0.7))
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.7
    with pytest.raises(ValueError, match="no trainable weight"):
        build_optimizer(TwoParts().requires_grad_(False), TrainRecipe())
