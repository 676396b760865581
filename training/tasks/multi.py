"""Several tasks, one model: a head for each part of a recipe, on one encoder that all of them train (Lu et al. 2020).

    recipes of the parts --their own tasks--> rows, inputs, loss, score of each --MultiTask--> the same verbs on all

A step is a batch of one part, made, learnt and scored by that part's own task; which part it is of, `sampling` says.
What is saved is a folder for each part, a whole model that nothing else belongs to, and the recipe that trains the part
by itself for as many steps: what its figures are compared with.
"""

import copy
import itertools
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import save_file
from transformers import PreTrainedConfig

from modeling_updown import UpDownFusionConfig, UpDownFusionModel
from training.recipe_sections import EvaluateRecipe, RegionsRecipe, TextRecipe
from training.regions.store import RegionStore
from training.tasks.card_facts import text_facts
from training.tasks.multi_model import ENCODER_FIELDS, OWN, MultiModel, share_encoder
from training.tasks.multi_recipe import FORMAT, PARTS, SOURCE_KEYS, TEXT_KEYS, MultiRecipe, check_recipe, part_recipes
from training.tasks.multi_sampling import parts_of_steps
from training.tasks.questions import question_rows
from training.tasks.spec import RUN_READS, Scored, TaskSpec

PART = "part"  # the input of a step that says which part it is of, by number


@dataclass
class Part:
    """A part of the run: its recipe as it was read, the task that is made of it, and the weight of its loss."""

    name: str
    recipe: Any
    task: Any
    weight: float

    def batches(self, number: int) -> Sequence[np.ndarray]:
        """The rows of every step of the part's pass of that number, as its own task draws them in an epoch."""
        return PARTS[self.recipe.task].batches(self.task, number)


class MultiTask:
    """A recipe's parts with their tasks, one model with a head for each, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: MultiRecipe
    model: MultiModel

    def __init__(self, recipe: MultiRecipe, accelerator: Accelerator):
        self.recipe, self.accelerator = recipe, accelerator
        self.stateful: list[torch.nn.Module] = []
        self.parts: dict[str, Part] = {}
        for name, own in part_recipes(recipe).items():
            spec = PARTS[own.task]
            for sentence in spec.idle_keys(own):
                warnings.warn(f"{name}: {sentence}", stacklevel=2)
            given = copy.deepcopy(own)
            given.train.gradient_checkpointing = recipe.train.gradient_checkpointing
            given.train.frozen_encoder = recipe.train.frozen_encoder
            given.evaluate.max_images = recipe.evaluate.max_images
            task = spec.task_with.get(own.architecture, spec.task)(given, accelerator)
            self.parts[name] = Part(name, own, task, float(recipe.data["parts"][name]["weight"]))

    # -- rows and model -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything training needs, part after part; the encoder of the first is that of all."""
        lead, *others = self.parts.values()
        settings = lead.recipe
        if not settings.init_from and not settings.text.pretrained:
            lead.task.shared_texts = [text for part in others for text in learnt_texts(part.task)]
        lead.task.prepare()
        for part in others:
            check_width(part, lead)
            with tempfile.TemporaryDirectory() as folder:
                part.task.recipe = started(part, lead, folder=Path(folder))
                part.task.prepare()
            part.task.recipe.init_from = ""  # what was there is gone, and learnt
            try:
                share_encoder(part.task.model, lead.task.model)
            except ValueError as error:
                raise ValueError(f"data.parts.{part.name}: {error}") from error
        self.model = MultiModel({name: part.task.model for name, part in self.parts.items()})
        self.stateful = [module for part in self.parts.values() for module in part.task.stateful]
        self.count_rows()
        self.tell_steps()

    def count_rows(self) -> None:
        """How many rows all parts have, where those of each begin, and how many steps a pass over each takes."""
        rows = [part.task.num_rows for part in self.parts.values()]
        self.num_rows = sum(rows)
        self.first_rows = np.cumsum([0, *rows[:-1]])
        first = {name: part.batches(0) for name, part in self.parts.items()}
        needed = self.accelerator.num_processes * self.recipe.train.accumulation
        for name, batches in first.items():
            most = max(map(len, batches), default=0)
            if most < needed:
                raise ValueError(
                    f"data.parts.{name}: {most} rows a step leave some of {self.accelerator.num_processes} processes x "
                    f"{self.recipe.train.accumulation} pieces without any: raise its train.batch_size or lower "
                    "train.accumulation"
                )
        self.sizes = [len(batches) for batches in first.values()]
        self.drawn = [np.zeros(len(rows), dtype=int)]  # before each epoch: how many steps each part has had

    def tell_steps(self) -> None:
        """Print how many steps the run plans for each part."""
        steps = self.planned_steps()
        for (name, part), size in zip(self.parts.items(), self.sizes, strict=True):
            passes = steps[name] / size
            self.accelerator.print(
                f"{name}: {part.task.num_rows} rows, {steps[name]} of the run's {sum(steps.values())} steps, "
                f"{passes:.1f} passes"
            )

    def parts_of(self, epoch: int) -> np.ndarray:
        """The number of the part of each step of an epoch."""
        return parts_of_steps(self.sizes, self.recipe.sampling, seed=self.recipe.seed, epoch=epoch)

    def planned_steps(self) -> dict[str, int]:
        """How many steps the whole run has for each part, if nothing stops it early."""
        train = self.recipe.train
        most = train.max_steps or train.epochs * sum(self.sizes)
        planned = np.concatenate([self.parts_of(epoch) for epoch in range(train.epochs)])[:most]
        counts = np.bincount(planned, minlength=len(self.parts))
        return dict(zip(self.parts, counts.tolist(), strict=True))

    # -- inputs -------------------------------------------------------------------------------------------------------

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The rows of every step of an epoch, each step's of one part, by numbers that `inputs` takes apart again.

        A part goes on through its passes from epoch to epoch. A row's number is `num_rows` times the pass, plus where
        the part's rows begin, plus its own.
        """
        while len(self.drawn) <= epoch:
            before = self.parts_of(len(self.drawn) - 1)
            self.drawn.append(self.drawn[-1] + np.bincount(before, minlength=len(self.sizes)))
        drawn, parts, found = self.drawn[epoch].copy(), list(self.parts.values()), []
        passes: dict[tuple[int, int], Sequence[np.ndarray]] = {}
        for number in self.parts_of(epoch).tolist():
            key = (number, int(drawn[number]) // self.sizes[number])
            if key not in passes:
                passes[key] = parts[number].batches(key[1])
            rows = passes[key][int(drawn[number]) % self.sizes[number]]
            found.append(key[1] * self.num_rows + self.first_rows[number] + rows)
            drawn[number] += 1
        return found

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """What the part's task makes of rows by the numbers of `batches`, in their pass, and which part it is.

        epoch: of the run; chance in the inputs is decided by the part's own pass.
        """
        passes, places = np.divmod(np.asarray(indices), self.num_rows)
        number = int(np.searchsorted(self.first_rows, places[0], side="right")) - 1
        part = list(self.parts.values())[number]
        rows = places - self.first_rows[number]
        return {**part.task.inputs(rows, epoch=int(passes[0])), PART: torch.tensor(number)}

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """What the part's task says, its loss times the part's weight; what is logged goes by the part's name."""
        number = int(inputs[PART])
        part = list(self.parts.values())[number]
        own = {name: value for name, value in inputs.items() if name != PART}
        head: Any = partial(model, part.name)
        total, count, shown = part.task.loss(head, own)
        shown = {"loss": total.item() / max(int(count), 1), **shown}
        return total * part.weight, count, {f"{part.name}/{name}": value for name, value in shown.items()}

    # -- score --------------------------------------------------------------------------------------------------------

    def split_of(self, part: Part, split: str) -> str:
        """What a part calls a split: `val` and `test` are its `evaluate.split` and `final_split`, others for all."""
        own = part.recipe.evaluate
        return {EvaluateRecipe.split: own.split, EvaluateRecipe.final_split: own.final_split}.get(split, split)

    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """Every part's metrics by its name, and the mean of those by which each part's recipe picks its best model."""
        scored = Scored({}, [], {})
        chosen = []
        for name, part in self.parts.items():
            own_split = self.split_of(part, split)
            one = part.task.score(model.parts[name], split=own_split, num_beams=num_beams, max_images=max_images)
            one.split = own_split
            scored.parts[name] = one
            scored.metrics |= {f"{name}/{metric}": value for metric, value in one.metrics.items()}
            scored.predictions += [{PART: name, **prediction} for prediction in one.predictions]
            scored.domains |= {f"{name}/{domain}": values for domain, values in one.domains.items()}
            scored.items |= {f"{name}/{metric}": values for metric, values in one.items.items()}
            scored.numbers[name] = len(one.predictions)
            metric = part.recipe.evaluate.metric
            chosen.append(one.metrics.get(metric, float("nan")))
            if not math.isfinite(chosen[-1]):
                warnings.warn(
                    f"data.parts.{name}: the split {own_split!r} has no {metric}, so that the parts have no mean: set "
                    "the part's evaluate.metric to another one",
                    stacklevel=2,
                )
        mean = sum(chosen) / len(chosen)
        scored.metrics |= {"mean": mean, "mean_x100": 100 * mean}
        return scored

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """The hundredfold metrics that each part's evaluation has, by the part's name, and their mean."""
        shown = {"mean_x100": scored.metrics["mean_x100"]}
        for name, one in scored.parts.items():
            said = self.parts[name].task.figures(one, num_beams=num_beams)
            shown |= {f"{name}/{metric}": value for metric, value in said["metrics"].items()}
        return {"metrics": shown}

    # -- folders ------------------------------------------------------------------------------------------------------

    def save(self, model: Any, folder: Path) -> None:
        """Write a folder for each part: its model and processor, and the recipe of the part alone."""
        for name, part in self.parts.items():
            part.task.save(model.parts[name], folder / name)
            content = yaml.safe_dump(self.alone(part).as_dict(), sort_keys=False)
            (folder / name / "recipe.yaml").write_text(content, encoding="utf-8")

    def alone(self, part: Part) -> Any:
        """The recipe that trains a part by itself, as this run does, for as many steps as it plans for the part."""
        recipe = copy.deepcopy(part.recipe)
        for run_key in RUN_READS:
            section, _, name = run_key.partition(".")
            setattr(getattr(recipe, section), name, copy.copy(getattr(getattr(self.recipe, section), name)))
        recipe.output = f"{self.recipe.output}_alone/{part.name}"
        recipe.train.max_steps = max(self.planned_steps()[part.name], 1)
        recipe.train.epochs = -(-recipe.train.max_steps // len(part.batches(0)))
        return recipe

    def load(self, folder: str | Path) -> tuple[Any, Any]:
        """The models of a folder's parts, in float32, and their processors by name, from now on those of the task."""
        processors = {}
        for name, part in self.parts.items():
            if not (Path(folder) / name).is_dir():
                raise ValueError(
                    f"{folder} holds no folder {name}, which is a part of the recipe: name the best/ of its run; the "
                    f"model of one part is scored by a recipe of that part (task: {part.recipe.task})"
                )
            processors[name] = part.task.load(Path(folder) / name)[1]
        self.model = MultiModel({name: part.task.model for name, part in self.parts.items()})
        return self.model, processors

    def evaluation_rows(self, split: str) -> Any:
        """The rows of a split that can be scored, by part."""
        return {name: part.task.evaluation_rows(self.split_of(part, split)) for name, part in self.parts.items()}


def check_width(part: Part, lead: Part) -> None:
    """`ValueError` where a part's store holds regions of another width than the first part's model reads."""
    config, store = lead.task.model.config, part.recipe.regions.store
    if config.vision_config is not None or not store:
        return
    width = RegionStore(store).feature_width
    if width != config.region_feature_size:
        raise ValueError(
            f"the parts {lead.name} and {part.name} share one encoder, but the regions of {store} have width {width} "
            f"and those of {lead.recipe.regions.store} width {config.region_feature_size}: name stores of one source"
        )


def started(part: Part, lead: Part, *, folder: Path) -> Any:
    """The recipe by which a part's task starts on the encoder of the first part's model.

    folder: an empty one, into which the encoder is written with the config that the part's head has. Where both start
    from one saved model, which has the encoder and maybe the head, it stays empty.
    """
    recipe = copy.deepcopy(part.task.recipe)
    if recipe.init_from:
        return recipe
    config, fusion = lead.task.model.config, lead.task.model.fusion
    own = {name: value for name, value in recipe.model.items() if name not in ENCODER_FIELDS}
    shared = {name: getattr(config, name) for name in ENCODER_FIELDS}
    head = part.task.head_fields(config.vision_config)
    made = UpDownFusionConfig(**copy.deepcopy({**shared, **head, **own}), architectures=[UpDownFusionModel.__name__])
    weights = {name: weight.contiguous() for name, weight in fusion.state_dict().items() if OWN not in name.split(".")}
    made.save_pretrained(folder)  # not the model's, which writes in the first process alone
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    lead.task.processor.save_pretrained(folder)
    recipe.init_from, recipe.model = str(folder), own
    for section, kind, names in (("regions", RegionsRecipe, SOURCE_KEYS), ("text", TextRecipe, TEXT_KEYS)):
        for name in names:
            if name != "trained":  # which a step on any part needs
                setattr(getattr(recipe, section), name, getattr(kind(), name))
    return recipe


def learnt_texts(task: Any) -> Iterator[str]:
    """The texts of a task's training rows that a new vocabulary is made of, as the task itself takes them."""
    return TEXTS[task.recipe.task](task)


def captions_of(task: Any) -> Iterator[str]:
    """The captions of a task's training images, and the questions about them where it learns some."""
    recipe = task.recipe
    yield from itertools.chain.from_iterable(task.rows(recipe.train.split)["captions"][:])
    if recipe.task == "pretraining" and (recipe.model.get("objectives") or {}).get("qa"):
        yield from question_rows(recipe.questions.data, split=recipe.train.split, images=False)["question"][:]


def column_of(task: Any, *, column: str) -> Iterator[str]:
    """A column of a task's training rows."""
    yield from task.rows(task.recipe.train.split)[column][:]


def choices_of(task: Any) -> Iterator[str]:
    """The texts of a split of multiple choice."""
    yield from task.data_of(task.recipe.train.split).texts["text"]


TEXTS: dict[str, Callable[[Any], Iterator[str]]] = {
    **dict.fromkeys(("entailment", "pairs"), partial(column_of, column="statement")),
    **dict.fromkeys(("retrieval", "pretraining", "grounding"), captions_of),
    "multiple_choice": choices_of,
    "vqa": partial(column_of, column="question"),
}


def batches_of(task: MultiTask, epoch: int) -> Sequence[np.ndarray]:
    """The rows of every step of an epoch of a run of several parts."""
    return task.batches(epoch)


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What an encoder without a head reads, as a card says it; the model of a part has the card of its own task."""
    return text_facts(config)


SPEC = TaskSpec(
    name="multi",
    task=MultiTask,
    hub_task="feature-extraction",
    counted="predictions",
    models=("UpDownFusionModel",),
    formats={FORMAT: part_recipes},
    reads=(*RUN_READS, "train.objective", "evaluate.metric", "regions", "text"),
    objectives=("mixed",),  # each part's own
    metrics={"mean": "mean of the parts' metrics"},
    best_by=("mean",),
    recipe=MultiRecipe,
    check=check_recipe,
    card_facts=card_facts,
    batches=batches_of,
    parts=PARTS,
)
