"""Image-text retrieval: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

Images and captions are compared (ITC) and matched (ITM); an image of a batch is a wrong one for the others' captions. A
split is scored by finding each caption's image among all and each image's captions among all; the best of each query
may be put in a new order by the match score (`evaluate.rerank`).
"""

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from modeling_updown import UpDownFusionConfig, UpDownProcessor
from modeling_updown.compat_updown import checkpoint_activations
from modeling_updown.modeling_captioning import IMAGE_INPUTS
from modeling_updown.momentum_updown import MomentumQueue
from training.data.captions.formats import CAPTION_FORMATS
from training.data.mirroring import tell_sides
from training.metrics.item_scores import item_scores
from training.metrics.retrieval.recall import fold_scores, retrieval_scores
from training.recipe_sections import Recipe
from training.regions.extract import random_crop
from training.tasks.build import (
    build_config,
    build_image_processor,
    build_on_pretrained_text,
    build_region_source,
    load_with_new_heads,
    source_fields,
)
from training.tasks.captioning import caption_rows, captioned_rows
from training.tasks.reranking import reranked
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.top_down import TopDownTask
from training.text.word_pieces import train_word_pieces

DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}
RANKING_NAMES = {
    **{f"r{most}": f"R@{most}" for most in (1, 5, 10)},
    "map": "mAP",
    "median_rank": "median rank",
    "mean_rank": "mean rank",
}
BEFORE = "itc_"  # stands before a metric's name where the match score has not put the best in order yet
SETTLED_BY_RECIPE = ("objectives", "match_by", "hard_negatives", "distillation")  # whatever the model of init_from had


@dataclass
class Embedded:
    """A split's images (P, E) and captions (N, E), of length 1, and the row of each caption's image (N,)."""

    images: torch.Tensor
    texts: torch.Tensor
    owners: np.ndarray


class RetrievalTask(TopDownTask):
    """A recipe's images and captions, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    default_objectives: tuple[str, ...] = ("itc", "itm")

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.momentum: MomentumQueue | None = None
        self.reranks = False  # between epochs the order is ITC's alone: matching costs a pass a pair
        self.settled: dict[str, Any] = {}

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions, token ids, the momentum copy."""
        recipe = self.recipe
        rows = self.rows(recipe.train.split)
        captions = rows["captions"][:]
        lacking = [image_id for image_id, texts in zip(rows["image_id"], captions, strict=True) if not texts]
        if lacking:
            raise ValueError(
                f"{len(lacking)} training images have no caption, such as {lacking[0]}: "
                "give them captions or another split"
            )
        self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build(captions)
        freeze_text(self.model, recipe.text.frozen_layers)
        if recipe.train.gradient_checkpointing:
            checkpoint_activations(self.model)
        if recipe.regions.trained:
            self.model.fusion.unfreeze_regions()
        self.check_evaluation()
        self.train_rows = self.images.prepare(rows, flips=recipe.regions.flips)
        self.num_rows = len(self.train_rows)
        self.sided = tell_sides(self.train_rows["captions"][:] if recipe.regions.flips else [[]] * self.num_rows)
        self.token_ids = self.encode_captions(self.train_rows["captions"][:])
        self.image_numbers = np.unique(self.train_rows["image_id"][:], return_inverse=True)[1]  # a mixture may repeat
        if recipe.train.momentum_queue:
            settings = recipe.train
            self.momentum = MomentumQueue(self.model, size=settings.momentum_queue, decay=settings.momentum_decay)
            self.stateful = [self.momentum.to(self.accelerator.device)]

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row an image of that split: image_id, image, captions, split, domain."""
        return caption_rows(self.recipe.data, split=split)

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The rows of a split that have captions to find and an image to look at."""
        key = (split, max_images)
        if key not in self.evaluated:
            rows = captioned_rows(self.rows(split), split=split)
            rows = rows.select(range(min(max_images, len(rows)))) if max_images else rows
            self.evaluated[key] = self.images.prepare(rows, warns=False)
            lost = len(rows) - len(self.evaluated[key])
            if lost:
                warnings.warn(
                    f"{lost} of the {len(rows)} images of {split} have no regions: the others alone are searched, "
                    "which is easier than the whole split",
                    stacklevel=2,
                )
        return self.evaluated[key]

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self, captions: list[list[str]]) -> Any:
        """A new model: a pretrained text encoder, or a new one with word pieces of the training captions."""
        recipe = self.recipe
        vision_config, source_state = build_region_source(recipe.regions)
        fields: dict[str, Any] = {
            "objectives": dict.fromkeys(self.default_objectives, 1.0),
            **self.head_fields(vision_config),
            **recipe.model,
            **source_fields(vision_config, recipe.regions),
        }
        if recipe.text.pretrained:
            model, tokenizer = build_on_pretrained_text(self.model_class, recipe, fields, special=["cls_token_id"])
        else:
            tokenizer = train_word_pieces(
                itertools.chain.from_iterable(captions), vocabulary_size=recipe.text.vocabulary_size
            )
            text = {"model_type": "bert", **(fields.pop("text_config", None) or {})}
            fields["text_config"] = {**text, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
            fields["cls_token_id"] = tokenizer.cls_token_id
            model = self.model_class(build_config(UpDownFusionConfig, fields, section="model"))
        if model.region_source is not None:
            model.region_source.load_state_dict(source_state)
        self.adopt(model, UpDownProcessor(build_image_processor(vision_config, recipe.regions), tokenizer))
        return model

    def head_fields(self, vision_config: PreTrainedConfig | None) -> dict[str, Any]:
        """Fields of the config that the regions settle, besides their width."""
        return {}

    def load(self, folder: str | Path) -> tuple[Any, UpDownProcessor]:
        """The model and processor of a saved folder; scores are re-ranked as the recipe says from now on."""
        self.reranks = True
        return super().load(folder)

    def load_weights(self, folder: str | Path) -> Any:
        """As the base class has it; a model of `init_from` gets the recipe's heads, of which some may be new."""
        if not self.settled:
            return super().load_weights(folder)
        return load_with_new_heads(self.model_class, str(folder), **self.settled)

    def start_from(self, folder: str) -> Any:
        """A saved fusion model, also one with other heads; those that `model.objectives` adds start new."""
        whole = self.recipe.model
        settled = {"objectives": dict.fromkeys(self.default_objectives, 1.0), **whole}
        self.settled = {name: value for name, value in settled.items() if name in SETTLED_BY_RECIPE}
        self.recipe.model = {name: value for name, value in whole.items() if name not in SETTLED_BY_RECIPE}
        self.any_head = True
        try:
            return super().start_from(folder)
        except RuntimeError as error:  # of other shapes; transformers has printed which
            raise ValueError(
                f"the heads of {folder} do not fit `model`: leave out what they have settled, such as match_by"
            ) from error
        finally:
            self.recipe.model, self.settled, self.reranks, self.any_head = whole, {}, False, False

    # -- inputs -------------------------------------------------------------------------------------------------------

    def tokenize(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (N, T), cut to `train.max_words` pieces and the special tokens."""
        tokenizer = self.processor.tokenizer
        longest = self.recipe.train.max_words + tokenizer.num_special_tokens_to_add()
        encoded = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def encode_captions(self, captions: list[list[str]]) -> list[list[torch.Tensor]]:
        """Captions as token ids: a list an image."""
        encoded = self.tokenize(list(itertools.chain.from_iterable(captions)))
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        rows = iter([row[:length] for row, length in zip(encoded["input_ids"], lengths, strict=True)])
        return [list(itertools.islice(rows, len(texts))) for texts in captions]

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and captions (N, T), `captions_per_image` of each.

        Flips, crops and captions are drawn by (seed, epoch, image), so any process that gets an image draws the same.
        An image whose captions tell left from right is never mirrored, and an image that the data repeat stands in a
        batch once: it would be a wrong one for its own captions.
        """
        indices = indices[np.sort(np.unique(self.image_numbers[indices], return_index=True)[1])]
        draws = [np.random.default_rng([self.recipe.seed, epoch, int(index)]) for index in indices]
        flipped = np.array([self.recipe.regions.flips and draw.random() < 0.5 for draw in draws])
        flipped &= ~self.sided[indices]
        smallest = self.recipe.regions.crops
        crops = np.stack([random_crop(draw, smallest) for draw in draws]) if smallest < 1 else None
        inputs: dict[str, Any] = self.images.batch(self.train_rows, indices, flipped=flipped, crops=crops)
        chosen = [self.chosen_captions(int(index), draw) for index, draw in zip(indices, draws, strict=True)]
        rows = list(itertools.chain.from_iterable(chosen))
        padding = self.processor.tokenizer.pad_token_id
        inputs["input_ids"] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in rows])
        inputs["attention_mask"] = (torch.arange(inputs["input_ids"].shape[1]) < lengths[:, None]).long()
        inputs["image_index"] = torch.from_numpy(np.repeat(np.arange(len(chosen)), [len(texts) for texts in chosen]))
        inputs["image_ids"] = torch.from_numpy(self.image_numbers[indices].astype(np.int64))
        return inputs

    def chosen_captions(self, index: int, draw: np.random.Generator) -> list[torch.Tensor]:
        """So many of an image's captions as the recipe says, or all where it has fewer."""
        rows = self.token_ids[index]
        return [rows[i] for i in draw.permutation(len(rows))[: self.recipe.train.captions_per_image]]

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """The weighted loss times the pairs it is a mean over, the number of pairs, and each objective's loss."""
        if self.momentum is not None:
            inputs = self.with_keys(inputs, inputs["image_ids"])
        output = model(return_loss=True, **inputs)
        pairs = torch.tensor(len(inputs["input_ids"]))
        shown = {name: loss.item() for name, loss in output.losses.items()} if output.losses else {}
        return output.loss * pairs, pairs, shown

    @torch.no_grad()
    def with_keys(self, inputs: dict[str, Any], image_ids: torch.Tensor) -> dict[str, Any]:
        """The inputs with the momentum copy's `keys`, its weights moved one step first."""
        assert self.momentum is not None  # the caller has seen it
        model = self.model
        self.momentum.follow(model)
        images = inputs
        if "pixel_values" in inputs:
            images = model.get_regions(inputs["pixel_values"], pixel_mask=inputs.get("pixel_mask"))
        keys = self.momentum.keys(
            {name: images[name] for name in ("region_features", "region_boxes", "region_mask")},
            inputs["input_ids"],
            inputs["attention_mask"],
            image_ids=image_ids,
            owners=inputs["image_index"],
            alpha=model.config.distillation,
        )
        return {**inputs, "keys": keys}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """Recall both ways, every process embedding its share; re-ranked where the recipe says so."""
        model.eval()
        settings = self.recipe.evaluate
        rows = self.evaluation_rows(split, max_images=max_images)
        captions = rows["captions"][:]
        embedded = self.embed(model, rows, captions)
        # in float64: products in float32 would give equal captions different last bits
        similarity = (embedded.images.double() @ embedded.texts.double().T).float().numpy()  # (P, N)
        metrics, per_query = self.scores(similarity, embedded.owners)
        ranked = similarity
        if settings.rerank and self.reranks and model.config.weight("itm"):
            before = {f"{BEFORE}{name}": value for name, value in metrics.items() if name.endswith("_x100")}
            ranked, images_of_text = reranked(self, model, rows, captions, similarity)
            metrics, per_query = self.scores(ranked, embedded.owners, images_of_text)
            metrics |= before
        texts = list(itertools.chain.from_iterable(captions))
        best = ranked.argmax(axis=1)
        predictions = [
            {"image_id": image_id, "caption": texts[place], "right": bool(embedded.owners[place] == row)}
            for row, (image_id, place) in enumerate(zip(rows["image_id"][:], best.tolist(), strict=True))
        ]
        items = {
            name: item_scores(rows["image_id"][:], values, owners=embedded.owners if name.startswith("t2i") else None)
            for name, values in per_query.items()
            if f"{name}_x100" in metrics
        }
        return Scored(metrics, predictions, {}, items)

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """The hundredfold metrics, median and mean ranks, and how many of each query were re-ranked."""
        settings = self.recipe.evaluate
        reranked = any(name.startswith(BEFORE) for name in scored.metrics)
        shown = {name: value for name, value in scored.metrics.items() if name.endswith(("_x100", "_rank"))}
        decoding = {"re-ranked": settings.rerank, "ITC's weight": settings.rerank_weight} if reranked else {}
        folds = {"folds": settings.folds} if settings.folds else {}
        return {"decoding": {**decoding, **folds}, "metrics": shown}

    def scores(
        self, texts_of_image: np.ndarray, owners: np.ndarray, images_of_text: np.ndarray | None = None
    ) -> tuple[dict[str, float], dict[str, list[float]]]:
        """`retrieval_scores` of (P, N), and (N, P) where that ranks images otherwise; over the recipe's folds.

        With what each query scored; folds have a search each, and no such scores.
        """
        folds = self.recipe.evaluate.folds
        if folds:
            found = fold_scores(texts_of_image, owners, num_folds=folds, text_to_image=images_of_text)
        else:
            found = retrieval_scores(texts_of_image, owners, text_to_image=images_of_text)
        return {name: value for name, value in found.items() if isinstance(value, float)}, found.get("per_item", {})

    def embed(self, model: Any, rows: Dataset, captions: list[list[str]]) -> Embedded:
        """Images and captions of a split, each process its share, together."""
        owners = np.repeat(np.arange(len(rows)), [len(texts) for texts in captions])
        texts = list(itertools.chain.from_iterable(captions))
        images = self.in_shares(len(rows), partial(self.image_features, model, rows), shown="images")
        words = self.in_shares(len(texts), partial(self.text_features, model, texts), shown="captions")
        return Embedded(images, words, owners)

    def image_features(self, model: Any, rows: Dataset, indices: np.ndarray) -> torch.Tensor:
        """Embeddings (n, E) of images by number."""
        return model.get_image_features(**self.image_inputs(rows, indices))

    def text_features(self, model: Any, texts: Sequence[str], indices: np.ndarray) -> torch.Tensor:
        """Embeddings (n, E) of captions by number."""
        words = self.tokenize([texts[i] for i in indices])
        return model.get_text_features(**{name: tensor.to(self.accelerator.device) for name, tensor in words.items()})

    def image_inputs(self, rows: Dataset, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Images as the model takes them, on its device."""
        images = self.images.batch(rows, indices, flipped=np.zeros(len(indices), dtype=bool))
        names = (*IMAGE_INPUTS, "region_seconds")
        return {name: tensor.to(self.accelerator.device) for name, tensor in images.items() if name in names}

    def in_shares(self, count: int, make: Callable[[np.ndarray], torch.Tensor], *, shown: str) -> torch.Tensor:
        """What `make` returns for the rows 0 .. count, (count, ...), every process making its share."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.array_split(np.arange(count), accelerator.num_processes)[accelerator.process_index]
        starts = tqdm(range(0, len(mine), size), desc=shown, disable=not accelerator.is_main_process, leave=False)
        made = [(mine[start : start + size], make(mine[start : start + size]).float().cpu()) for start in starts]
        whole: torch.Tensor | None = None
        for indices, part in gather_object(made):
            whole = part.new_empty(count, *part.shape[1:]) if whole is None else whole
            whole[indices] = part
        assert whole is not None  # there is a row in every split
        return whole


def freeze_text(model: Any, layers: int) -> None:
    """Leave the word embeddings and the first layers of the text encoder out of training; 0 trains all."""
    if not layers:
        return
    encoder = model.fusion.text_model
    stacks = [module for module in encoder.modules() if isinstance(module, torch.nn.ModuleList)]
    found = next((stack for stack in stacks if len(stack) == model.config.num_hidden_layers), None)
    if found is None or layers > len(found):
        raise ValueError(f"text.frozen_layers is {layers}, but the text encoder has {model.config.num_hidden_layers}")
    encoder.get_input_embeddings().requires_grad_(False)
    if hasattr(encoder, "embeddings"):
        encoder.embeddings.requires_grad_(False)
    for layer in found[:layers]:
        layer.requires_grad_(False)


RANKINGS = {
    f"{way}_{key}": f"{shown}, {name}" for way, shown in DIRECTIONS.items() for key, name in RANKING_NAMES.items()
}
NAMES = {**RANKINGS, "rsum": "sum of the six recalls"}
SPEC = TaskSpec(
    name="retrieval",
    task=RetrievalTask,
    hub_task="zero-shot-image-classification",
    counted="photos",
    models=("UpDownFusionForImageTextRetrieval",),
    formats=CAPTION_FORMATS,
    reads=(
        *(*LOOP_READS, "regions", "text", "train.captions_per_image", "train.max_words"),
        *("train.momentum_queue", "train.momentum_decay", "train.gradient_checkpointing"),
        *("evaluate.rerank", "evaluate.rerank_weight", "evaluate.folds"),
    ),
    objectives=("mixed",),  # by the weights of `model.objectives`
    metrics={**NAMES, **{f"{BEFORE}{key}": f"{name}, before re-ranking" for key, name in NAMES.items()}},
    best_by=("rsum", *(key for key in RANKINGS if not key.endswith("_rank"))),
)
