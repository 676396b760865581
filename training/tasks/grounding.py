"""Phrase grounding: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

A row is an image with its sentences; the phrases of a sentence are read in one pass with the regions of the image, each
learns which of these it speaks of and how far they are from its boxes. A split is scored as Flickr30k Entities is, by
the ranked boxes of each phrase; where rows have them, expressions also by the IoU of their best box, candidates by the
one chosen, and phrases without a referent by how well they are told apart (`training/tasks/grounding_scores.py`), and
by masks where rows and regions have them (`training/tasks/grounding_masks.py`).
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from modeling_updown.outputs_updown import check_finite
from modeling_updown.phrase_spans_updown import NO_SPAN, token_spans
from training.data.mirroring import mirrored_boxes, tell_sides
from training.data.phrases.formats import PHRASE_FORMATS, load_phrases
from training.recipe_sections import Recipe
from training.scenes.expressions import read_scene_phrases
from training.tasks.build import load_by_split
from training.tasks.captions import CaptionedTask
from training.tasks.card_facts import text_facts
from training.tasks.fusion import FUSION_READS, FusionTask
from training.tasks.grounding_masks import COLUMN, MaskedPhrase, best_mask, mask_figures, read_masks
from training.tasks.grounding_masks import FIGURES as MASK_FIGURES
from training.tasks.grounding_scores import (
    EXPRESSION_FIGURES,
    FIGURES,
    MERGED,
    MORE_FIGURES,
    FoundPhrase,
    Ranked,
    phrase_scores,
    predictions_of,
)
from training.tasks.spec import LOOP_READS, Scored, TaskSpec

FORMATS: dict[str, Callable[..., Dataset]] = {**PHRASE_FORMATS, "scenes": read_scene_phrases}
BY_SPLIT = ("annotations", "instances", "images", "num_scenes", "none_share")
NOWHERE = -1.0  # in place of true boxes that are not there
FIELDS = ("score", "hidden_size", "loss", "iou", "box_weight", "dropout", "none")  # of the config, after `grounding_`


class Sentence(NamedTuple):
    """A sentence as token ids (T,), its phrases' tokens (K, 2), and their true boxes, K lists."""

    ids: torch.Tensor
    spans: torch.Tensor
    boxes: list[list[list[float]]]


class GroundingTask(FusionTask, CaptionedTask):
    """A recipe's images with sentences, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        if recipe.train.withhold == "image" and not recipe.regions.store:
            raise ValueError("train.withhold keeps the boxes of regions alone: name a store of them in regions.store")

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions, token ids."""
        recipe = self.recipe
        rows = self.training_rows()
        self.ask_store(rows)
        texts = itertools.chain.from_iterable(rows["captions"][:])
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build_fusion(texts)
        self.set_trained()
        self.check_evaluation()
        self.take_rows(rows)

    def rows(self, split: str) -> Dataset:
        """One row an image of that split, as `PHRASE_FEATURES` has it."""
        return grounding_rows(self.recipe.data, split=split)

    def take_rows(self, rows: Dataset) -> None:
        """Prepare the training rows: their images' regions, and their sentences as token ids."""
        flips = self.recipe.regions.flips
        self.train_rows = self.images.prepare(rows, flips=flips)
        self.num_rows = len(self.train_rows)
        self.sided = tell_sides(self.train_rows["captions"][:] if flips else [[]] * self.num_rows)
        self.check_referents(self.train_rows["phrases"])
        self.sentences = self.encoded(self.train_rows)

    def check_referents(self, phrases: Iterable[Any]) -> None:
        """`ValueError` for phrases without a referent that the model could not learn."""
        config = self.model.config
        if config.grounding_none or config.grounding_loss == "binary":
            return
        absent = sum(not phrase["boxes"] for row in phrases for own in row for phrase in own)
        if absent:
            raise ValueError(
                f"{absent} training phrases have no referent, which this model does not learn: set "
                "model.grounding_none: true, or model.grounding_loss: binary, or leave them out"
            )

    def settled_fields(self) -> dict[str, Any]:
        """The fields of the head, whatever the model of `init_from` was saved with or learnt."""
        named = [f"grounding_{field}" for field in FIELDS]
        return {"objectives": {}, **{name: self.recipe.model[name] for name in named if name in self.recipe.model}}

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encoded(self, rows: Dataset) -> list[list[Sentence]]:
        """The sentences of each image; those of an empty text where the recipe withholds them."""
        captions, phrases = rows["captions"][:], rows["phrases"][:]
        texts = list(itertools.chain.from_iterable(captions))
        withheld = self.recipe.train.withhold == "text"
        tokenizer = self.processor.tokenizer
        longest = self.recipe.train.max_words + tokenizer.num_special_tokens_to_add()
        read = [""] * len(texts) if withheld else texts
        tokens = tokenizer(read, truncation=True, max_length=longest, return_offsets_mapping=True)
        found = []
        parts = zip(tokens["input_ids"], tokens["offset_mapping"], itertools.chain.from_iterable(phrases), strict=True)
        for ids, offsets, own in parts:
            whole = [(0, len(ids))] * len(own)
            spans = whole if withheld else token_spans(offsets, [(phrase["start"], phrase["end"]) for phrase in own])
            found.append(Sentence(torch.tensor(ids), torch.tensor(spans), [phrase["boxes"] for phrase in own]))
        every = iter(found)
        return [list(itertools.islice(every, len(own))) for own in captions]

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and N sentences about them, `captions_per_image` of each, with the true boxes of their phrases.

        Images are mirrored by (seed, epoch, image), boxes with them, but for those whose texts tell left from right.
        """
        draws, flips = self.draws(indices, epoch=epoch), self.recipe.regions.flips
        flipped = np.array([flips and draw.random() < 0.5 for draw in draws]) & ~self.sided[indices]
        most = self.recipe.train.captions_per_image
        chosen = [
            [self.sentences[index][i] for i in draw.permutation(len(self.sentences[index]))[:most]]
            for index, draw in zip(indices.tolist(), draws, strict=True)
        ]
        owners = np.repeat(np.arange(len(chosen)), [len(own) for own in chosen])
        sentences = list(itertools.chain.from_iterable(chosen))
        labels = padded([padded([true_boxes(boxes) for boxes in sentence.boxes]) for sentence in sentences])
        return {
            **self.image_inputs(self.train_rows, indices, flipped=flipped),
            **self.sentence_inputs(sentences, owners),
            "labels": mirrored(labels, torch.from_numpy(flipped[owners])),
        }

    def sentence_inputs(self, sentences: Sequence[Sentence], owners: np.ndarray) -> dict[str, torch.Tensor]:
        """Sentences as token ids, their phrases' spans (N, K, 2), and the image of each (N,)."""
        return {
            **self.word_inputs([sentence.ids for sentence in sentences]),
            "phrase_spans": padded([sentence.spans for sentence in sentences]),
            "image_index": torch.from_numpy(owners.astype(np.int64)),
        }

    def image_inputs(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """As the base class has it; where the recipe withholds images, regions have their boxes alone.

        Their features are all the same, and no name is likely: what is learnt is where such phrases usually are.
        """
        inputs = super().image_inputs(rows, indices, flipped=flipped)
        if self.recipe.train.withhold == "image":
            inputs["region_features"] = torch.ones_like(inputs["region_features"])
            for name in ("object_probs", "attribute_probs"):
                if name in inputs:
                    inputs[name] = torch.zeros_like(inputs[name])
        return inputs

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """The loss times the phrases it is a mean over, the number of phrases, and the parts of the loss."""
        output = model(**inputs)
        phrases = (inputs["phrase_spans"][..., 0] != NO_SPAN[0]).sum().cpu()
        return output.loss * phrases, phrases, {name: loss.item() for name, loss in output.losses.items()}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """Recall at 1, 5 and 10 of the boxes of each phrase in both protocols, by type too; every process a share."""
        model.eval()
        rows = self.evaluation_rows(split, max_images=max_images)
        read = read_masks(self.images, rows)
        try:
            found = self.grounded(model, rows)
        finally:
            if read:
                del self.images.columns[COLUMN]  # training has no use for them
        masked = [MaskedPhrase(phrase.mask, phrase.polygons, phrase.owner) for phrase in found]
        metrics, items, domains = phrase_scores(
            found, rows["image_id"][:], more=mask_figures(masked, rows, self.images)
        )
        return Scored(metrics, predictions_of(found, rows["image_id"][:]), domains, items)

    def grounded(self, model: Any, rows: Dataset) -> list[FoundPhrase]:
        """What the model finds of every phrase of the rows, in their order."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        sentences, phrases, captions = self.encoded(rows), rows["phrases"][:], rows["captions"][:]
        mine = np.array_split(np.arange(len(rows)), accelerator.num_processes)[accelerator.process_index]
        starts = range(0, len(mine), size)
        made: list[tuple[int, list[Ranked]]] = []
        for start in tqdm(starts, desc="images", disable=not accelerator.is_main_process, leave=False):
            made += self.ground_images(model, rows, mine[start : start + size], sentences)
        found = []
        for image, results in sorted(gather_object(made), key=lambda one: one[0]):
            own = [(text, p) for text, row in zip(captions[image], phrases[image], strict=True) for p in row]
            found += [FoundPhrase.of(r, p, text, owner=image) for r, (text, p) in zip(results, own, strict=True)]
        return found

    @torch.no_grad()
    def ground_images(
        self, model: Any, rows: Dataset, indices: np.ndarray, sentences: Sequence[Sequence[Sentence]]
    ) -> list[tuple[int, list[Ranked]]]:
        """For each image by number, what is found of each of its phrases."""
        chosen = [sentences[index] for index in indices.tolist()]
        owners = np.repeat(np.arange(len(chosen)), [len(own) for own in chosen])
        texts = list(itertools.chain.from_iterable(chosen))
        inputs = {**self.image_inputs(rows, indices), **self.sentence_inputs(texts, owners)}
        output = model(**self.on_device(inputs))
        real = output.logits > float("-inf")
        check_finite(output.logits[real], model, what="scores of regions")
        found: list[tuple[int, list[Ranked]]] = [(index, []) for index in indices.tolist()]
        for text, (sentence, owner) in enumerate(zip(texts, owners.tolist(), strict=True)):
            there = real[text, 0]
            regions = output.region_boxes[owner][there].float().cpu().numpy()
            for phrase, span in enumerate(sentence.spans.tolist()):
                if tuple(span) == NO_SPAN:
                    found[owner][1].append(Ranked.cut(regions))
                    continue
                order = output.logits[text, phrase][there].argsort(descending=True, stable=True)
                boxes = output.pred_boxes[text, phrase][there][order].float().cpu().numpy()
                scores = output.phrase_scores[text, phrase][there][order].float().cpu().numpy()
                none = output.none_scores
                sure = float(scores[0]) if none is None else 1 - none[text, phrase].item()
                mask = best_mask(output, owner, int(there.nonzero()[order[0]]))
                found[owner][1].append(Ranked(boxes, scores, regions[order.cpu().numpy()], sure, mask))
        return found

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """The hundredfold metrics, also of each type of phrase, and what was withheld."""
        shown = {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}
        withheld = self.recipe.train.withhold
        return {**({"withheld": withheld} if withheld else {}), "metrics": shown, "domains": scored.domains}


def grounding_rows(data: dict[str, Any], *, split: str) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split."""
    return load_by_split(partial(load_phrases, formats=FORMATS), data, split=split, names=BY_SPLIT)


def true_boxes(boxes: Sequence[Sequence[float]]) -> torch.Tensor:
    """The true boxes of a phrase, (M, 4); one that is nowhere in the place of none.

    >>> true_boxes([]).tolist()
    [[-1.0, -1.0, -1.0, -1.0]]
    """
    return torch.tensor(boxes or [[NOWHERE] * 4])


def padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors of different sizes in all but their last dimension as one, -1 where a tensor ends.

    >>> padded([torch.tensor([[1, 2]]), torch.tensor([[3, 4], [5, 6]])]).tolist()
    [[[1, 2], [-1, -1]], [[3, 4], [5, 6]]]
    """
    shape = [max(row.shape[side] for row in rows) for side in range(rows[0].dim())]
    whole = rows[0].new_full((len(rows), *shape), -1)
    for place, row in zip(whole, rows, strict=True):
        place[tuple(slice(side) for side in row.shape)] = row
    return whole


def mirrored(boxes: torch.Tensor, flipped: torch.Tensor) -> torch.Tensor:
    """True boxes (N, K, M, 4) of texts whose images are mirrored where flipped (N,) says so; -1 stays.

    >>> mirrored(torch.tensor([[[[0.0, 0.0, 0.25, 1.0], [-1.0, -1.0, -1.0, -1.0]]]]), torch.tensor([True])).tolist()
    [[[[0.75, 0.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]]]]
    """
    turned = flipped[:, None, None, None] & (boxes != NOWHERE).any(dim=-1, keepdim=True)
    return torch.where(turned, mirrored_boxes(boxes), boxes)


def check_recipe(recipe: Recipe) -> None:
    """`ValueError` for crops, which may lack what a phrase speaks of, and for what cannot be withheld."""
    if recipe.regions.crops < 1:
        raise ValueError(f"regions.crops is {recipe.regions.crops}: phrases speak of whole images, leave it out")
    if recipe.train.withhold in ("question", "regions"):
        withheld = recipe.train.withhold
        raise ValueError(f"train.withhold is {withheld!r}, which phrases have none of: set it to text, or to image")
    if recipe.model.get("grounding_score") == "region":
        raise ValueError(
            "model.grounding_score is 'region', which reads one expression a text: the phrases of a sentence need "
            "concat or multiply"
        )


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a grounding model reads and learns, as a card says it."""
    read = {"concat": "phrase and region joined", "multiply": "phrase times region", "region": "the region alone"}
    learnt = {
        "kl": "the distribution of regions by IoU",
        "cross_entropy": "the region with the largest IoU",
        "binary": "each region by itself",
    }
    moved = f"weight {config.grounding_box_weight:g}" if config.grounding_box_weight else "none"
    return {
        **text_facts(config),
        "Score": f"from {read[config.grounding_score]}",
        "Learns": f"{learnt[config.grounding_loss]}, from an IoU of {config.grounding_iou:g} on",
        "Regression of boxes": moved,
        **(
            {"Phrases without a referent": "told by a learnt region beside the image's"}
            if config.grounding_none
            else {}
        ),
    }


SPEC = TaskSpec(
    name="grounding",
    task=GroundingTask,
    hub_task="zero-shot-object-detection",
    counted="phrases",
    models=("UpDownFusionForGrounding",),
    formats=FORMATS,
    reads=(*LOOP_READS, *FUSION_READS, "train.captions_per_image", "train.withhold"),
    objectives=("mixed",),  # regions and boxes, by `model.grounding_box_weight`
    metrics={
        **FIGURES,
        "region_upper_bound": "upper bound of R@K by the regions as they are",
        **{f"{MERGED}{name}": f"{title}, boxes of a phrase merged" for name, title in FIGURES.items()},
        **EXPRESSION_FIGURES,
        **MORE_FIGURES,
        **MASK_FIGURES,
    },
    best_by=tuple({"recall_1": "", **FIGURES, **EXPRESSION_FIGURES, **MORE_FIGURES, **MASK_FIGURES}),
    check=check_recipe,
    card_facts=card_facts,
)
