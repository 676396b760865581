"""Image-text retrieval: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

Images and captions are compared (ITC) and matched (ITM); an image of a batch is a wrong one for the others' captions. A
split is scored by finding each caption's image among all and each image's captions among all; the best of each query
may be put in a new order by the match score (`evaluate.rerank`).
"""

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from transformers import PreTrainedConfig

from modeling_updown import UpDownProcessor
from modeling_updown.momentum_updown import REGION_INPUTS, MomentumQueue
from training.data.clips.task_rows import CAPTIONS as CLIP_CAPTIONS
from training.metrics.item_scores import item_scores
from training.metrics.retrieval.recall import fold_scores, retrieval_scores
from training.metrics.video.retrieval import video_retrieval
from training.recipe_sections import Recipe
from training.tasks.captions import FORMATS, CaptionedTask
from training.tasks.card_facts import objective_facts, text_facts
from training.tasks.fusion import FUSION_READS, FusionTask
from training.tasks.reranking import reranked
from training.tasks.spec import LOOP_READS, Scored, TaskSpec

DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}
RANKING_NAMES = {
    **{f"r{most}": f"R@{most}" for most in (1, 5, 10)},
    "map": "mAP",
    "median_rank": "median rank",
    "mean_rank": "mean rank",
}
CLIP_DIRECTIONS = {"t2v": "text to video", "v2t": "video to text"}
CLIP_RANKING_NAMES = {name: shown for name, shown in RANKING_NAMES.items() if name != "map"}
CLIP_RANKING_KEYS = (
    *(name for key in CLIP_RANKING_NAMES for name in ((key,) if key.endswith("_rank") else (key, f"{key}_x100"))),
)
BEFORE = "itc_"  # stands before a metric's name where the match score has not put the best in order yet


@dataclass
class Embedded:
    """A split's images (P, E) and captions (N, E), of length 1, and the row of each caption's image (N,)."""

    images: torch.Tensor
    texts: torch.Tensor
    owners: np.ndarray


class RetrievalTask(FusionTask, CaptionedTask):
    """A recipe's images and captions, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    warns_of_lost = False
    default_objectives: tuple[str, ...] = ("itc", "itm")

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.momentum: MomentumQueue | None = None
        self.reranks = False  # between epochs the order is ITC's alone: matching costs a pass a pair

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions, token ids, the momentum copy."""
        recipe = self.recipe
        rows = self.training_rows()
        self.ask_store(rows)
        self.join(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build(rows["captions"][:])
        self.set_trained()
        self.check_evaluation()
        self.take_rows(rows)
        self.image_numbers = np.unique(self.train_rows["image_id"][:], return_inverse=True)[1]  # a mixture may repeat
        self.make_momentum()

    def join(self, rows: Dataset) -> None:
        """Read what else is learnt of the training images, before there is a model; here nothing is."""

    def make_momentum(self) -> None:
        """The momentum copy and its queue, where the recipe asks for them."""
        settings = self.recipe.train
        if settings.momentum_queue:
            self.momentum = MomentumQueue(self.model, size=settings.momentum_queue, decay=settings.momentum_decay)
            self.stateful = [self.momentum.to(self.accelerator.device)]

    def check_lost(self, lost: int, *, of: int, split: str) -> None:
        """One warning where a split is searched without some of its images."""
        if lost:
            warnings.warn(
                f"{lost} of the {of} images of {split} have no regions: the others alone are searched, "
                "which is easier than the whole split",
                stacklevel=2,
            )

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self, captions: list[list[str]]) -> Any:
        """A new model: a pretrained text encoder, or a new one with word pieces of the training captions."""
        return self.build_fusion(itertools.chain.from_iterable(captions))

    def load(self, folder: str | Path) -> tuple[Any, UpDownProcessor]:
        """The model and processor of a saved folder; scores are re-ranked as the recipe says from now on."""
        self.reranks = True
        return super().load(folder)

    def start_from(self, folder: str) -> Any:
        """As the base class has it, ranking by ITC alone until it is loaded again."""
        model = super().start_from(folder)
        self.reranks = False
        return model

    # -- inputs -------------------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and captions (N, T), `captions_per_image` of each.

        An image that the data repeat stands in a batch once: it would be a wrong one for its own captions.
        """
        indices = indices[np.sort(np.unique(self.image_numbers[indices], return_index=True)[1])]
        draws = self.draws(indices, epoch=epoch)
        inputs = self.drawn_images(indices, draws)
        chosen = [self.chosen_captions(int(index), draw) for index, draw in zip(indices, draws, strict=True)]
        inputs |= self.word_inputs(list(itertools.chain.from_iterable(chosen)))
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
            {name: images[name] for name in REGION_INPUTS if name in images},
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
        figures = {name: value for name, value in found.items() if isinstance(value, float)}
        if self.recipe.data["format"] in CLIP_CAPTIONS and not folds:
            figures |= clip_scores(texts_of_image, owners, images_of_text=images_of_text)
        return figures, found.get("per_item", {})

    def embed(self, model: Any, rows: Dataset, captions: list[list[str]]) -> Embedded:
        """Images and captions of a split, each process its share, together."""
        owners = np.repeat(np.arange(len(rows)), [len(texts) for texts in captions])
        texts = list(itertools.chain.from_iterable(captions))
        images = self.in_shares(len(rows), partial(self.image_features, model, rows), shown="images")
        words = self.in_shares(len(texts), partial(self.text_features, model, texts), shown="captions")
        return Embedded(images, words, owners)

    def image_features(self, model: Any, rows: Dataset, indices: np.ndarray) -> torch.Tensor:
        """Embeddings (n, E) of images by number."""
        return model.get_image_features(**self.on_device(self.image_inputs(rows, indices)))

    def text_features(self, model: Any, texts: Sequence[str], indices: np.ndarray) -> torch.Tensor:
        """Embeddings (n, E) of captions by number."""
        return model.get_text_features(**self.on_device(self.tokenize([texts[i] for i in indices])))


def clip_scores(
    texts_of_clip: np.ndarray, owners: np.ndarray, *, images_of_text: np.ndarray | None = None
) -> dict[str, float]:
    """`video_retrieval` of (P, N), and of (N, P) where that ranks clips otherwise: recalls and ranks in the field's
    terms, with its rules for equal scores. owners: the row of each text's clip (N,), rising."""
    counts = np.bincount(owners, minlength=len(texts_of_clip)).tolist()
    by_text = texts_of_clip.T if images_of_text is None else images_of_text
    found = {
        "t2v": video_retrieval(by_text, queries_per_video=counts),
        "v2t": video_retrieval(texts_of_clip.T, queries_per_video=counts),
    }
    return {f"{way}_{key}": found[way][f"{way}_{key}"] for way in CLIP_DIRECTIONS for key in CLIP_RANKING_KEYS}


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a retrieval model reads and how it compares, as a card says it; its class has no other heads."""
    return {**text_facts(config), **objective_facts(config, ("itc", "itm"))}


RANKINGS = {
    f"{way}_{key}": f"{shown}, {name}" for way, shown in DIRECTIONS.items() for key, name in RANKING_NAMES.items()
}
CLIP_RANKINGS = {
    f"{way}_{key}": f"{shown}, {name}, of clips"
    for way, shown in CLIP_DIRECTIONS.items()
    for key, name in CLIP_RANKING_NAMES.items()
}
COMMON_READS = (*LOOP_READS, *FUSION_READS, "train.captions_per_image")
CONTRAST_READS = (
    *("train.momentum_queue", "train.momentum_decay"),
    *("evaluate.rerank", "evaluate.rerank_weight", "evaluate.folds"),
)
NAMES = {**RANKINGS, "rsum": "sum of the six recalls", **CLIP_RANKINGS}
SPEC = TaskSpec(
    name="retrieval",
    task=RetrievalTask,
    hub_task="zero-shot-image-classification",
    counted="photos",
    models=("UpDownFusionForImageTextRetrieval",),
    formats=FORMATS,
    reads=(*COMMON_READS, *CONTRAST_READS),
    objectives=("mixed",),  # by the weights of `model.objectives`
    metrics={**NAMES, **{f"{BEFORE}{key}": f"{name}, before re-ranking" for key, name in NAMES.items()}},
    best_by=("rsum", *(key for key in RANKINGS if not key.endswith("_rank"))),
    card_facts=card_facts,
)
