"""What the tasks on statements about images share: rows -> inputs -> loss -> score; each has one image or several.

A step's rows are statements; images that several of them are about are fetched once. With `train.withhold` models
learn, and are scored, without the images or without the words; with `evaluate.shuffle_images` a trained one is scored
beside wrong images: what the images add.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from datasets import Dataset, DatasetInfo, Features, Image, Value, concatenate_datasets

from modeling_updown import UpDownProcessor
from modeling_updown.outputs_updown import check_finite
from training.data.files import listed
from training.data.mirroring import tell_sides
from training.data.statements.formats import load_statements
from training.recipe_sections import Recipe
from training.saved_models import saved_class
from training.tasks.build import load_by_split
from training.tasks.fusion import FUSION_READS, FusionTask, withheld_regions
from training.tasks.spec import LOOP_READS, Scored

BY_SPLIT = ("annotations", "images", "num_scenes", "file_split")
STATEMENT_READS = (*LOOP_READS, *FUSION_READS, "train.withhold", "evaluate.shuffle_images")
IMAGE_FEATURES = Features({"image_id": Value("string"), "image": Image()})
ROWS_A_CHUNK = 1000


@dataclass
class Statements:
    """Statements about prepared images: their rows, one row an image, and the images of each statement (N, K)."""

    rows: Dataset
    images: Dataset
    image_of: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class StatementsTask(FusionTask):
    """A recipe's statements, model and processor, and the four verbs on them; a task names its classes and figures.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.

    labels: the classes, in the order of a new model's outputs.
    formats: the readers of the task's data.
    head: the config's fields of the task's head, which a recipe settles whatever `init_from` was saved with.
    """

    labels: tuple[str, ...]
    formats: Mapping[str, Callable[..., Dataset]]
    head: tuple[str, ...]

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.num_images = 1  # of a statement

    def prepare(self) -> None:
        """Everything training needs: statements, model, regions, token ids."""
        recipe = self.recipe
        if recipe.evaluate.shuffle_images:
            raise ValueError(
                "evaluate.shuffle_images scores a trained model beside wrong images: train without it, and give it to "
                "updown evaluate"
            )
        rows = self.rows(recipe.train.split)
        self.num_images = images_each(rows)
        self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build_fusion(rows["statement"][:])
        self.set_trained()
        self.check_evaluation()
        flips = recipe.regions.flips
        self.trained = self.statements(rows, flips=flips)
        self.num_rows = len(self.trained)
        texts = self.trained.rows["statement"][:]
        self.sided = tell_sides([[text] for text in texts]) if flips else np.zeros(self.num_rows, dtype=bool)
        self.token_ids = self.encode_statements(texts)
        self.targets = self.label_ids(self.trained.rows)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row a statement of that split, as `STATEMENT_FEATURES` has it."""
        return statement_rows(self.recipe.data, split=split, formats=self.formats)

    def rows_of_images(self, rows: Dataset) -> Dataset:
        """A row an image of the statements."""
        return distinct_images(rows)[0]

    def statements(self, rows: Dataset, *, flips: bool = False) -> Statements:
        """Statements all of whose images have regions; the others are left out, with one warning."""
        images, image_of = distinct_images(rows)
        prepared = self.images.prepare(images, flips=flips, warns=False)
        if len(prepared) == len(images):
            return Statements(rows, prepared, image_of)
        place = {image_id: number for number, image_id in enumerate(prepared["image_id"][:])}
        ids = images["image_id"][:]
        kept_place = np.array([place.get(image_id, -1) for image_id in ids])[image_of]  # (N, K)
        kept = np.flatnonzero((kept_place >= 0).all(axis=1))
        lost = [image_id for image_id in ids if image_id not in place]
        warnings.warn(
            f"{len(rows) - len(kept)} statements are left out, since {len(lost)} images have no regions: "
            f"{listed(lost)}",
            stacklevel=2,
        )
        if not len(kept):
            raise ValueError("no statement has regions of all of its images: extract these (regions.store)")
        return Statements(rows.select(kept), prepared, kept_place[kept])

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The statements of a split, or the first of them, about at most `max_images` images."""
        return self.evaluation_statements(split, max_images=max_images).rows

    def evaluation_statements(self, split: str, *, max_images: int = 0) -> Statements:
        """The same, with their images."""
        key = (split, max_images)
        if key not in self.evaluated:
            rows = self.rows(split)
            if images_each(rows) != self.num_images:
                raise ValueError(
                    f"the statements of {split} are about {images_each(rows)} images each, but the model reads "
                    f"{self.num_images}: score it on data of its own kind"
                )
            if max_images:
                rows = rows.select(range(rows_within(rows["image_ids"][:], max_images)))
            self.evaluated[key] = self.statements(rows)
        return self.evaluated[key]

    # -- model --------------------------------------------------------------------------------------------------------

    def new_fields(self) -> dict[str, Any]:
        """The fields of a new head's config that the data settle."""
        return {"id2label": dict(enumerate(self.labels))}

    def head_fields(self, vision_config: Any) -> dict[str, Any]:
        """As the base class has it: those of the head."""
        return self.new_fields()

    def settled_fields(self) -> dict[str, Any]:
        """The head, where the model of `init_from` was saved with another."""
        if saved_class(self.recipe.init_from) == self.recipe.architecture:
            return {}
        own = {name: value for name, value in self.recipe.model.items() if name in self.head}
        return {"objectives": {}, **self.new_fields(), **own}

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; the classes are those of the model. `ValueError` for a model of other classes."""
        super().adopt(model, processor)
        self.names = [str(name) for _, name in sorted(model.config.id2label.items())]
        if sorted(name.casefold() for name in self.names) != sorted(self.labels):
            raise ValueError(
                f"the model's classes are {', '.join(self.names)}, and those of the data {', '.join(self.labels)}: "
                "name the model's in the data, or train a new one"
            )

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encode_statements(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each statement's token ids; those of an empty text where the recipe withholds it."""
        return self.encode([""] * len(texts) if self.recipe.train.withhold == "text" else texts)

    def label_ids(self, rows: Dataset) -> torch.Tensor:
        """The class of each statement (N,), as the model numbers them."""
        number = {name.casefold(): place for place, name in enumerate(self.names)}
        return torch.tensor([number[label] for label in rows["label"][:]])

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Statements with their images, and their classes (N,).

        Images are mirrored by (seed, epoch, statement), but for those whose statements tell left from right.
        """
        draws = [np.random.default_rng([self.recipe.seed, epoch, int(index)]).random() < 0.5 for index in indices]
        flipped = np.array(draws) & ~self.sided[indices] & self.recipe.regions.flips
        labels = self.targets[torch.from_numpy(np.asarray(indices))]
        if self.model.config.problem_type == "multi_label_classification":
            labels = torch.nn.functional.one_hot(labels, len(self.names)).float()
        asked = self.statement_inputs(self.trained, self.token_ids, indices, flipped=flipped)
        return {**asked, "labels": labels}

    def statement_inputs(
        self, asked: Statements, token_ids: Sequence[torch.Tensor], indices: np.ndarray, *, flipped: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Statements by number as the model takes them, each of their images once; mirrored where flipped (N,) says."""
        sides = 2 * asked.image_of[indices] + flipped[:, None]  # (N, K): an image, as it is or mirrored
        shown, places = np.unique(sides, return_inverse=True)
        index = torch.from_numpy(places.reshape(sides.shape))
        return {
            **self.image_inputs(asked.images, shown // 2, flipped=shown % 2 == 1),
            **self.word_inputs([token_ids[i] for i in indices.tolist()]),
            "image_index": index if self.num_images > 1 else index[:, 0],
        }

    def image_inputs(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """As the base class has it; one and the same region for all where the recipe withholds images."""
        if self.recipe.train.withhold != "image":
            return super().image_inputs(rows, indices, flipped=flipped)
        return withheld_regions(self.model.config, len(indices))

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over statements, and their number."""
        output = model(**inputs, num_items_in_batch=1)
        return output.loss, torch.tensor(len(inputs["labels"])), {}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Judge the statements of a split, every process its share, and score them as their data set is scored."""
        model.eval()
        asked = self.evaluation_statements(split, max_images=max_images)
        shown = with_other_images(asked, seed=self.recipe.seed) if self.recipe.evaluate.shuffle_images else asked
        token_ids = self.encode_statements(asked.rows["statement"][:])
        judge = partial(self.probabilities, model, shown, token_ids)
        chances = self.in_shares(len(asked), judge, shown="statements")  # (N, C)
        best = chances.argmax(dim=1)
        found = [self.names[place].casefold() for place in best.tolist()]
        scored = self.scored(found, asked)
        true = asked.rows["label"][:]
        scored.predictions = [
            {"statement_id": name, "label": label, "score": round(chance, 4), "right": label == wanted}
            for name, label, chance, wanted in zip(
                asked.rows["statement_id"][:], found, chances.amax(dim=1).tolist(), true, strict=True
            )
        ]
        return scored

    def scored(self, found: Sequence[str], asked: Statements) -> Scored:
        """The figures of one class for each statement, without the predictions."""
        raise NotImplementedError

    def probabilities(
        self, model: Any, asked: Statements, token_ids: Sequence[torch.Tensor], indices: np.ndarray
    ) -> torch.Tensor:
        """The probability of each class (n, C) of the statements of those numbers."""
        unflipped = np.zeros(len(indices), dtype=bool)
        inputs = self.statement_inputs(asked, token_ids, indices, flipped=unflipped)
        logits = model(**self.on_device(inputs)).logits.float()
        check_finite(logits, model, what="scores of statements")
        return logits.softmax(dim=-1)

    def figures(self, scored: Scored, *, num_beams: int = 1) -> dict[str, Any]:
        """The hundredfold metrics, also of each class, and what was withheld or shuffled."""
        said: dict[str, Any] = {}
        if self.recipe.train.withhold:
            said["withheld"] = self.recipe.train.withhold
        if self.recipe.evaluate.shuffle_images:
            said["images"] = "shuffled"
        shown = {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}
        return {**said, "metrics": shown, "domains": scored.domains}


def statement_rows(data: Mapping[str, Any], *, split: str, formats: Mapping[str, Callable[..., Dataset]]) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split.

    The splits of `train+val` may lie in different files.
    """
    apart = any(isinstance(data.get(name), Mapping) and split not in data[name] for name in BY_SPLIT)
    load = partial(load_statements, formats=formats)
    words = split.split("+") if apart else [split]
    return concatenate_datasets([load_by_split(load, data, split=word, names=BY_SPLIT) for word in words])


def images_each(rows: Dataset) -> int:
    """How many images each statement is about; `ValueError` where that differs."""
    numbers = sorted({len(ids) for ids in rows["image_ids"][:]})
    if len(numbers) != 1:
        raise ValueError(f"statements are about {' or '.join(map(str, numbers))} images: keep those of one number")
    return numbers[0]


def distinct_images(rows: Dataset) -> tuple[Dataset, np.ndarray]:
    """One row (`image_id`, undecoded `image`) an image of the statements, and the images of each statement (N, K)."""
    places: dict[str, int] = {}
    parts: list[pa.Array] = []
    owners: list[int] = []
    for batch in rows.select_columns(["image_ids", "images"]).with_format("arrow").iter(batch_size=ROWS_A_CHUNK):
        lists, stored = (batch[name].combine_chunks() for name in ("image_ids", "images"))
        ids, fresh = lists.flatten().to_pylist(), []
        for place, image_id in enumerate(ids):
            if image_id not in places:
                places[image_id] = len(places)
                fresh.append(place)
            owners.append(places[image_id])
        parts.append(stored.flatten().take(pa.array(fresh, pa.int64())))
    ids_array = pa.array(list(places), pa.string())
    table = pa.table([ids_array, pa.chunked_array(parts)], schema=IMAGE_FEATURES.arrow_schema)
    images = Dataset(table, info=DatasetInfo(features=IMAGE_FEATURES))
    return images, np.array(owners).reshape(len(rows), -1)


def rows_within(image_ids: Sequence[Sequence[str]], most: int) -> int:
    """How many of the first rows are about at most so many images; at least one.

    >>> rows_within([["a", "b"], ["b", "a"], ["a", "c"]], 2)
    2
    """
    seen: set[str] = set()
    for number, ids in enumerate(image_ids):
        seen |= {*ids}
        if len(seen) > most and number:
            return number
    return len(image_ids)


def with_other_images(asked: Statements, *, seed: int) -> Statements:
    """The same statements, each image in the place of another: a shuffle in which none keeps its own.

    Raises `ValueError` for fewer than two images.
    """
    count = len(asked.images)
    if count < 2:
        raise ValueError("evaluate.shuffle_images needs two images or more: there is no other one to show")
    order = np.random.default_rng(seed).permutation(count)
    other = np.empty(count, dtype=np.int64)
    other[order] = np.roll(order, 1)  # one ring through all
    return Statements(asked.rows, asked.images, other[asked.image_of])


def check_recipe(recipe: Recipe) -> None:
    """`ValueError` for crops, which may lack what a statement is about, and for what cannot be withheld."""
    if recipe.regions.crops < 1:
        raise ValueError(f"regions.crops is {recipe.regions.crops}: statements are about whole images, leave it out")
    if recipe.train.withhold == "question":
        raise ValueError("train.withhold is 'question', which statements are none: set it to text, or to image")
