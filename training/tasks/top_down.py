"""What the tasks of top-down models share: a model with a processor, images as regions, splits that are scored."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import PreTrainedConfig

import modeling_updown
from modeling_updown import UpDownProcessor
from modeling_updown.modeling_captioning import IMAGE_INPUTS
from training.data.clips.task_rows import CAPTIONS, CHOICES, QUESTIONS
from training.recipe_sections import Recipe
from training.regions.extract import ImageRegions, ask_store
from training.saved_models import check_kind, load_whole, load_with_processor
from training.tasks.build import build_image_processor, change_region_source, override_config, owns_region_source
from training.tasks.spec import Scored
from training.text.word_vectors import start_tags_from_vectors


def check_clips(recipe: Recipe) -> None:
    """`ValueError` for clips that are not read from a store."""
    format = recipe.data.get("format")
    if format in {*CAPTIONS, *QUESTIONS, *CHOICES} and not recipe.regions.store:
        raise ValueError(
            f"data.format is {format!r}, whose clips are read from a store: extract them with `updown extract CLIPS "
            "--fps 2 --output FOLDER`, and name that folder in regions.store"
        )


class TopDownTask:
    """A recipe's data, model and processor; the verbs are the subclass's."""

    any_head = False  # whether `load` takes a model of the same type that lacks some of the heads
    model: Any
    processor: UpDownProcessor
    images: ImageRegions

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        check_clips(recipe)
        self.recipe, self.accelerator = recipe, accelerator
        self.stateful: list[torch.nn.Module] = []
        self.evaluated: dict[tuple[str, int], Any] = {}  # (split, max_images) -> what was prepared of it

    @property
    def model_class(self) -> Any:
        """The class that is trained, the recipe's `architecture`; a folder of another kind is not loaded."""
        return getattr(modeling_updown, self.recipe.architecture)

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The rows of a split that can be scored, or those of its first `max_images` images."""
        raise NotImplementedError

    def ask_store(self, rows: Dataset) -> None:
        """Meet what the recipe's store lacks of the training rows and of those that pick the best model, before
        anything costly is built; where the model owns a region source, it makes what is lacking."""
        recipe = self.recipe
        if recipe.init_from:
            with contextlib.suppress(OSError):  # what is no model at all is told where it is loaded
                check_kind(recipe.init_from, [self.model_class], any_head=True)
        if not recipe.regions.store or recipe.regions.source or recipe.regions.pretrained:
            return
        if recipe.init_from and owns_region_source(recipe.init_from):
            return
        ask_store(recipe.regions, self.rows_of_images(rows), flips=recipe.regions.flips)
        if recipe.evaluate.max_images:
            return  # the others need not be there
        try:
            ask_store(recipe.regions, self.rows_of_images(self.rows(recipe.evaluate.split)))
        except ValueError as error:
            raise ValueError(f"evaluate.split is {recipe.evaluate.split!r}: {error}") from error

    def rows(self, split: str) -> Dataset:
        """The rows of a split as the data have them, with `image_id` and `image`."""
        raise NotImplementedError

    def rows_of_images(self, rows: Dataset) -> Dataset:
        """Rows with the `image_id` and `image` of each image of the rows; here themselves."""
        return rows

    def check_evaluation(self) -> None:
        """Meet what is wrong with the splits to be scored, and extract their images, before the first epoch."""
        settings = self.recipe.evaluate
        for name, split, max_images in (
            ("split", settings.split, settings.max_images),
            ("final_split", settings.final_split, 0),
        ):
            try:
                self.evaluation_rows(split, max_images=max_images)
            except ValueError as error:
                raise ValueError(f"evaluate.{name} is {split!r}: {error}") from error

    def check_submission(self, split: str) -> None:
        """`ValueError` for a split whose predictions no organisers take; here any are taken."""

    def score_all(self, model: Any, *, split: str, num_beams: int) -> Scored:
        """As `score`, with a prediction for every row of the split."""
        return self.score(model, split=split, num_beams=num_beams)

    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """The metrics of a split; see `Task`."""
        raise NotImplementedError

    def load(self, folder: str | Path) -> tuple[Any, UpDownProcessor]:
        """The model (in float32) and processor of a saved folder or Hub id, from now on those of the task."""
        model, processor = load_with_processor(
            folder, self.model_class, UpDownProcessor, any_head=self.any_head, load=self.load_weights
        )
        self.adopt(model, processor)
        return model, processor

    def load_weights(self, folder: str | Path) -> Any:
        """The saved model, in float32; `ValueError` where it lacks weights."""
        return load_whole(self.model_class, str(folder), dtype=torch.float32)

    def start_from(self, folder: str) -> Any:
        """A saved model, with the recipe's dropout, number of trained stages and size of images; what its weights have
        settled stays what it is."""
        model, processor = self.load(folder)
        override_config(model.config, self.recipe.model, section="model")
        model.config.check_tags()
        if model.region_source is not None:
            change_region_source(model.region_source, processor.image_processor, self.recipe.regions)
        return model

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """Take the model as the task's: regions are made with its source, and words with this processor."""
        self.model, self.processor = model, processor
        self.evaluated = {}
        self.images = ImageRegions(
            self.recipe.regions, model.region_source, processor.image_processor, self.accelerator
        )
        for kind in model.config.tag_kinds:
            self.images.read_classes(
                kind.probs,
                getattr(model.config, kind.names),
                number=getattr(model.config, kind.name),
                needed="which the model's tags are made of: extract them with soft labels into another store",
            )
        if model.config.time_embedding:
            cure = "name a store of frames with their seconds, or leave it empty"
            self.images.read("region_seconds", needed=f"which model.time_embedding embeds: {cure}")

    def assembled(
        self, model: Any, tokenizer: Any, source: tuple[PreTrainedConfig | None, dict[str, torch.Tensor]]
    ) -> Any:
        """A new model with its region source's weights, from now on the task's; source: `build_region_source`'s."""
        vision_config, weights = source
        if model.region_source is not None:
            model.region_source.load_state_dict(weights)
        if self.recipe.regions.tag_vectors:
            start_tags_from_vectors(model, self.recipe.regions.tag_vectors)
        self.adopt(model, UpDownProcessor(build_image_processor(vision_config, self.recipe.regions), tokenizer))
        return model

    def set_trained(self) -> None:
        """Freeze and unfreeze the model's parts as the recipe says."""
        if self.recipe.regions.trained:
            self.model.unfreeze_regions()

    @property
    def padding_id(self) -> int:
        """The token that shorter texts of a batch are filled with."""
        return self.processor.tokenizer.pad_token_id

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each text's token ids."""
        raise NotImplementedError

    def word_inputs(self, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Token ids of N texts as `input_ids` and `attention_mask` (bool), (N, T)."""
        input_ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=self.padding_id)
        lengths = torch.tensor([len(row) for row in rows])
        return {"input_ids": input_ids, "attention_mask": torch.arange(input_ids.shape[1]) < lengths[:, None]}

    def image_inputs(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """Images by number as the model takes them; mirrored where `flipped` (P,) says so."""
        flipped = np.zeros(len(indices), dtype=bool) if flipped is None else flipped
        batch = self.images.batch(rows, indices, flipped=flipped)
        return {name: batch[name] for name in (*IMAGE_INPUTS, "region_seconds") if name in batch}

    def on_device(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inputs on the process's device."""
        return {name: tensor.to(self.accelerator.device) for name, tensor in inputs.items()}

    def save(self, model: Any, folder: Path) -> None:
        """Write model and processor as one `save_pretrained` folder."""
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
