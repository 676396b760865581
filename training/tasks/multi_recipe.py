"""What a recipe of several tasks says: its parts, how they are drawn, and what they have to have in common.

    data: {format: recipes, parts: {statements: {recipe: entailment/scenes, weight: 1, train: {batch_size: 32}}, ...}}

`training/recipe.py` reads the recipe of each part, on which the keys beside `recipe` and `weight` stand as on a `base`.
The first part makes the shared model; `check_recipe` gives it, and what is of the whole run, to the others.
"""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import nn

import modeling_updown
from training.recipe_sections import Recipe, TextRecipe, key, own_values
from training.tasks import entailment, grounding, multiple_choice, pairs, pretraining, retrieval, vqa
from training.tasks.multi_model import ENCODER_FIELDS
from training.tasks.spec import RUN_READS, TaskSpec

PARTS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        *(entailment.SPEC, grounding.SPEC, multiple_choice.SPEC, pairs.SPEC, pretraining.SPEC, retrieval.SPEC),
        vqa.SPEC,
    )
}
FORMAT = "recipes"
# what the region source is made of; stores, mirrored images and crops may be each part's own
SOURCE_KEYS = (
    *("source", "weights", "proposal_weights", "pretrained", "random_backbone", "tags", "tag_vectors", "trained"),
    "processor",
)
TEXT_KEYS = tuple(entry.name for entry in fields(TextRecipe))


@dataclass
class SamplingRecipe:
    """Which part a step is of. An epoch has as many steps as one pass over every part.

    by: `proportional` sees every row of every part once an epoch, in a random order of parts; `round_robin` takes the
        parts in turn, so that small ones are seen more often; `annealed` draws a part in proportion to the steps of a
        pass over it to a power that changes from epoch to epoch (Stickland and Murray 2019: from 1, as `proportional`,
        to 0.2, almost alike).
    first_power, last_power: that of the first epoch and of epoch `epochs`, linear between them.
    epochs: how many epochs that takes; `last_power` holds after them. 0 takes `train.epochs`.
    """

    by: Literal["proportional", "round_robin", "annealed"] = "proportional"
    first_power: float = key(1.0, lowest=0, beside={"sampling.by": ("annealed",)})
    last_power: float = key(0.2, lowest=0, beside={"sampling.by": ("annealed",)})
    epochs: int = key(0, lowest=0, beside={"sampling.by": ("annealed",)})


@dataclass
class MultiRecipe(Recipe):
    """A recipe with `sampling`, whose `data` are the recipes of its parts.

    regions, text: with any value of its own the whole section stands in the place of that of every part. model: fields
    of the shared encoder, for all parts. init_from: for all parts; without it, the first part's.
    """

    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)


def part_recipes(recipe: Recipe) -> dict[str, Any]:
    """Name -> recipe of each part, in their order."""
    return {name: entry["recipe"] for name, entry in recipe.data["parts"].items()}


def check_recipe(recipe: MultiRecipe) -> None:
    """Give every part what is shared; `ValueError` for parts that cannot be trained together, naming them."""
    unknown = sorted(recipe.data.keys() - {"format", "parts"})
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r} in data; the recipes of {FORMAT!r} stand in parts")
    heads = sorted(recipe.model.keys() - {*ENCODER_FIELDS})
    if heads:
        raise ValueError(
            f"model.{heads[0]} is no field of the shared encoder: set it in the model of a part "
            f"(data.parts.NAME.model.{heads[0]})"
        )
    if recipe.sampling.by == "annealed" and not recipe.sampling.epochs:
        recipe.sampling.epochs = recipe.train.epochs
    lead_name, lead = next(iter(part_recipes(recipe).items()))
    for name, entry in recipe.data["parts"].items():
        check_entry(name, entry["weight"])
        part = entry["recipe"]
        check_architecture(name, part)
        take_shared(part, recipe)
        if part is not lead:
            check_agreement({lead_name: lead, name: part})
            take_encoder(part, lead)
        try:
            PARTS[part.task].settle(part)
        except ValueError as error:
            raise ValueError(f"data.parts.{name}: {error}") from error


def check_entry(name: Any, weight: Any) -> None:
    """`ValueError` for a name that no folder can have, and for a weight that is no number above 0."""
    if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", str(name)) or hasattr(nn.ModuleDict(), str(name)):
        raise ValueError(
            f"data.parts.{name}: call the part by a letter and then letters, digits, - and _, which its folder is "
            "called by, and not as an attribute of torch.nn.ModuleDict"
        )
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight <= 0:
        raise ValueError(f"data.parts.{name}: weight is {weight!r}, but must be a number above 0; leave a part out")


def check_architecture(name: str, part: Recipe) -> None:
    """`ValueError` for a part whose model is none on the fusion model."""
    models = PARTS[part.task].models
    architecture = part.architecture or models[0]
    cures = [model for model in models if getattr(modeling_updown, model).base_model_prefix == "fusion"]
    if architecture in cures:
        return
    raise ValueError(
        f"data.parts.{name}: {architecture} has no encoder to share: set architecture: {' or '.join(cures)}"
    )


def take_shared(part: Recipe, recipe: Recipe) -> None:
    """Set a part's keys that the recipe says for all; those of the whole run are left at their defaults."""
    part.seed = recipe.seed
    part.init_from = recipe.init_from or part.init_from
    for section in ("regions", "text"):
        if own_values(getattr(recipe, section)):
            setattr(part, section, copy.deepcopy(getattr(recipe, section)))
    part.model = {**part.model, **copy.deepcopy(recipe.model)}
    for run_key in RUN_READS:
        section, _, name = run_key.partition(".")
        default = type(getattr(part, section))()
        setattr(getattr(part, section), name, getattr(default, name))


def check_agreement(parts: Mapping[str, Recipe]) -> None:
    """`ValueError` where the second of two parts asks for another encoder than the first, naming the key."""
    (lead_name, lead), (name, part) = parts.items()
    asked: dict[str, tuple[Any, Any, Any]] = {"init_from": (lead.init_from, part.init_from, "")}
    for section, names in (("regions", SOURCE_KEYS), ("text", TEXT_KEYS)):
        ours, theirs = getattr(lead, section), getattr(part, section)
        for last in names:
            default = getattr(type(theirs)(), last)
            asked[f"{section}.{last}"] = (getattr(ours, last), getattr(theirs, last), default)
    for last in ENCODER_FIELDS:
        if last in part.model:
            asked[f"model.{last}"] = (lead.model.get(last), part.model[last], None)
    for full_name, (ours, theirs, default) in asked.items():
        if theirs not in (ours, default):
            section = full_name.partition(".")[0]
            raise ValueError(
                f"the parts {lead_name} and {name} share one encoder, but {full_name} is {ours!r} in one and "
                f"{theirs!r} in the other: set {section} beside `data`, for all parts, or in {name} as in {lead_name}"
            )


def take_encoder(part: Recipe, lead: Recipe) -> None:
    """Set what a part leaves to the first one of the encoder."""
    part.init_from = lead.init_from
    for section, names in (("regions", SOURCE_KEYS), ("text", TEXT_KEYS)):
        for last in names:
            setattr(getattr(part, section), last, copy.deepcopy(getattr(getattr(lead, section), last)))
    part.model |= {name: copy.deepcopy(value) for name, value in lead.model.items() if name in ENCODER_FIELDS}
