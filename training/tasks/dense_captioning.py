"""Dense captioning: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

A row is an image with boxes and what people said of each. Regions of a store, a detector's own or people's boxes, learn
the sentences of the box that they overlap most, how far it is, and whether anybody would describe them. A split is
scored by DenseCap's mean average precision, and by the sentences of the regions nearest to people's boxes.
"""

import itertools
import warnings
from collections.abc import Callable, Sequence
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

from modeling_updown.boxes_updown import pairwise_iou
from modeling_updown.dense_captions_updown import kept_sentences
from modeling_updown.losses_updown import IGNORED_LABEL
from modeling_updown.outputs_updown import UpDownDenseCaptions
from training.data.descriptions.formats import DESCRIPTION_FORMATS, load_descriptions
from training.data.descriptions.rows import sentences_of_boxes
from training.data.mirroring import mirrored_boxes
from training.metrics.captioning.meteor_resources import meteor_folder
from training.metrics.captioning.scores import caption_scores
from training.metrics.dense_captioning.densecap import densecap_map
from training.metrics.item_scores import item_scores
from training.scenes.descriptions import read_scene_descriptions
from training.tasks.build import load_by_split
from training.tasks.captioning import CaptioningTask, beams
from training.tasks.captions import CaptionedTask
from training.tasks.card_facts import decoding_facts
from training.tasks.dense_captioning_recipe import DenseCaptioningRecipe, check_recipe
from training.tasks.spec import LOOP_READS, Scored, TaskSpec

FORMATS: dict[str, Callable[..., Dataset]] = {**DESCRIPTION_FORMATS, "scenes": read_scene_descriptions}
BY_SPLIT = ("annotations", "images", "num_scenes")
NOWHERE = -1.0  # in place of a true box that is not there
CHOICES = ("dense_rank", "dense_nms_iou")  # fields of the config that no weight depends on
WHOLE = (0.0, 0.0, 1.0, 1.0)
AT_TRUE_BOXES = ("meteor", "cider", "rouge_l", "bleu_1", "bleu_4")  # of the sentences nearest to people's boxes
FIGURES = {
    "dense_map": "mAP of dense captions",
    "dense_detmap": "mAP of their boxes alone",
    "true_box_meteor": "METEOR at people's boxes",
    "true_box_cider": "CIDEr at people's boxes",
    "true_box_rouge_l": "ROUGE-L at people's boxes",
    "true_box_bleu_1": "BLEU-1 at people's boxes",
    "true_box_bleu_4": "BLEU-4 at people's boxes",
    "sentences_an_image": "sentences an image",
}
MEANS = ("true_box_cider", "true_box_rouge_l")  # which are means over sentences


class Described(NamedTuple):
    """An image's sentences, the best first, and the sentence of the region nearest to each of its true boxes.

    boxes (n, 4), scores (n,), captions; nearest: a sentence a true box.
    """

    boxes: np.ndarray
    scores: list[float]
    captions: list[str]
    log_probs: list[float]
    nearest: list[str]


class DenseCaptioningTask(CaptioningTask):
    """A recipe's images with described boxes, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: DenseCaptioningRecipe  # type: ignore[assignment]

    def __init__(self, recipe: DenseCaptioningRecipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)  # type: ignore[arg-type]
        if not recipe.regions.store:
            raise ValueError(
                "dense captioning matches regions with people's boxes before the model sees them: name a folder for "
                "them in regions.store"
            )

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions, token ids."""
        recipe = self.recipe
        rows = self.training_rows()
        self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build(rows["captions"][:])
        self.model.config.label_smoothing = recipe.train.label_smoothing
        self.set_trained()
        self.check_evaluation()
        self.take_rows(rows)

    def adopt(self, model: Any, processor: Any) -> None:
        """As the base class has it, choosing among sentences as the recipe says, where it does; a model without scores
        of its own reads those of the store."""
        super().adopt(model, processor)
        for name in CHOICES:
            setattr(model.config, name, self.recipe.model.get(name, getattr(model.config, name)))
        if model.region_score is None and model.config.dense_rank != "words":
            self.images.read("region_scores", needed="which sentences are ranked by: extract them with a detector")

    def rows(self, split: str) -> Dataset:
        """One row an image of that split, as `DESCRIPTION_FEATURES` has it."""
        return description_rows(self.recipe.data, split=split)

    def take_rows(self, rows: Dataset) -> None:
        """Prepare the training rows: their images' regions, and their sentences as token ids."""
        super().take_rows(rows)
        self.true_boxes = [torch.tensor(boxes) for boxes in self.train_rows["boxes"][:]]
        self.said_of = [np.asarray(places) for places in self.train_rows["caption_boxes"][:]]

    def check_evaluation(self) -> None:
        """As the base class has it; `ValueError` without METEOR's data, of which mAP is made."""
        check_meteor()
        CaptionedTask.check_evaluation(self)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P), N sentences of their regions, a box for each, and what is learnt of every region's score.

        `train.captions_per_image` boxes of an image are drawn by (seed, epoch, image), of each a region that matches it
        and a sentence. Images are mirrored, boxes with them, but for those whose sentences tell left from right.
        """
        draws, flips = self.draws(indices, epoch=epoch), self.recipe.regions.flips
        flipped = np.array([flips and draw.random() < 0.5 for draw in draws]) & ~self.sided[indices]
        images = self.image_inputs(self.train_rows, indices, flipped=flipped)
        mask, chosen = images["region_mask"], []
        scores = torch.full(mask.shape, float(IGNORED_LABEL))  # (P, R)
        for row, (index, draw) in enumerate(zip(indices.tolist(), draws, strict=True)):
            true = mirrored_boxes(self.true_boxes[index]) if flipped[row] else self.true_boxes[index]
            best, which = matched(images["region_boxes"][row][mask[row]], true)
            scores[row, : len(best)] = self.score_labels(best)
            for place, box in self.drawn_regions(best, which, draw):
                texts = np.flatnonzero(self.said_of[index] == box)
                chosen.append((row, place, self.token_ids[index][draw.choice(texts)], true[box]))
        owners, places, sentences, boxes = zip(*chosen, strict=True)
        labels = torch.stack(boxes)
        return {
            **self.withheld(images),
            **self.word_inputs(sentences),
            "image_index": torch.tensor(owners),
            "region_index": torch.tensor(places),
            "box_labels": labels if self.recipe.train.withhold != "regions" else torch.full_like(labels, NOWHERE),
            "score_labels": scores,
        }

    def drawn_regions(
        self, best: torch.Tensor, which: torch.Tensor, draw: np.random.Generator
    ) -> list[tuple[int, int]]:
        """`train.captions_per_image` boxes of an image, each with one of the regions that match it: (region, box)."""
        fits = best >= self.recipe.matching.iou
        if not fits.any():
            fits[best.argmax()] = True
        boxes = draw.permutation(which[fits].unique().numpy())[: self.recipe.train.captions_per_image].tolist()
        return [(int(draw.choice((fits & (which == box)).nonzero().flatten().numpy())), box) for box in boxes]

    def score_labels(self, best: torch.Tensor) -> torch.Tensor:
        """What regions (R,) learn of whether people describe them, by their largest IoU."""
        labels = torch.full(best.shape, float(IGNORED_LABEL))
        labels[best < self.recipe.matching.background_iou] = 0.0
        labels[best >= self.recipe.matching.iou] = 1.0
        return labels

    def withheld(self, images: dict[str, Any]) -> dict[str, Any]:
        """The inputs of images without what the recipe withholds.

        Without the `image` regions have their boxes alone: features are all the same, and no name is likely. Without
        the `regions` each box is the whole image as well: what is learnt is what people say of anything.
        """
        if not self.recipe.train.withhold:
            return images
        changed = {**images, "region_features": torch.ones_like(images["region_features"])}
        changed |= {name: torch.zeros_like(images[name]) for name in images if name.endswith("_probs")}
        if self.recipe.train.withhold == "regions":
            changed["region_boxes"] = torch.tensor(WHOLE).expand_as(images["region_boxes"]).clone()
        return changed

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """The loss times the words it is a mean over, their number, and the parts of the loss."""
        input_ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        targets = input_ids[:, 1:].masked_fill(~mask[:, 1:], IGNORED_LABEL)
        output = model(input_ids=input_ids[:, :-1], attention_mask=mask[:, 1:], shift_labels=targets, **inputs)
        words = (targets != IGNORED_LABEL).sum()
        return output.loss * words, words, {f"loss_{name}": loss.item() for name, loss in output.losses.items()}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0, objects: Any = None) -> Scored:
        """DenseCap's mAP of the sentences that are kept, and captions' metrics of those nearest to people's boxes.

        Every process describes a share of the images.
        """
        check_meteor()
        model.eval()
        rows = self.evaluation_rows(split, max_images=max_images)
        found = self.described(model, rows, num_beams=num_beams)
        boxes, sentences = rows["boxes"][:], [sentences_of_boxes(row) for row in rows.remove_columns("image")]
        predictions = [{"boxes": one.boxes, "scores": one.scores, "captions": one.captions} for one in found]
        metrics = dense_figures(predictions, boxes, sentences)
        scores = caption_scores(
            [text for one in found for text in one.nearest], list(itertools.chain.from_iterable(sentences))
        )
        metrics |= {f"true_box_{name}": scores[name] for name in AT_TRUE_BOXES}
        metrics |= {f"{name}_x100": 100 * value for name, value in metrics.items()}
        metrics["sentences_an_image"] = float(np.mean([len(one.captions) for one in found]))
        ids, owners = rows["image_id"][:], np.repeat(np.arange(len(found)), [len(own) for own in boxes])
        items = {
            name: item_scores(ids, scores["per_item"][name.removeprefix("true_box_")], owners=owners) for name in MEANS
        }
        return Scored(metrics, predictions_of(found, ids), {}, items, expressions=expressions_of(found, ids, boxes))

    def described(self, model: Any, rows: Dataset, *, num_beams: int) -> list[Described]:
        """What the model says of every image of the rows, in their order."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.array_split(np.arange(len(rows)), accelerator.num_processes)[accelerator.process_index]
        made: list[tuple[int, Described]] = []
        starts = range(0, len(mine), size)
        for start in tqdm(starts, desc="describing", disable=not accelerator.is_main_process, leave=False):
            chosen = mine[start : start + size]
            made += zip(chosen.tolist(), self.describe_images(model, rows, chosen, num_beams=num_beams), strict=True)
        return [found for _, found in sorted(gather_object(made), key=lambda one: one[0])]

    @torch.no_grad()
    def describe_images(self, model: Any, rows: Dataset, indices: np.ndarray, *, num_beams: int) -> list[Described]:
        """What the model says of each of those images."""
        images = self.on_device(self.image_inputs(rows, indices))
        regions = model.get_regions(**self.withheld(images))
        found = model.describe_all(regions, **beams(num_beams, self.recipe.evaluate), **self.decoding(model))
        starts = images["region_boxes"][images["region_mask"]].float()  # (N, 4)
        if self.recipe.train.withhold == "regions":
            found.boxes = starts
        found = UpDownDenseCaptions(**{name: values.cpu() for name, values in found.items()})
        texts = self.processor.batch_decode(found.sequences, skip_special_tokens=True)
        number = torch.arange(len(texts))
        kept = kept_sentences(
            UpDownDenseCaptions(**{**found, "sequences": number[:, None]}), nms_iou=model.config.dense_nms_iou
        )
        described = []
        for image, true in enumerate(rows[indices.tolist()]["boxes"]):
            own, best = number[found.image_index == image], kept.image_index == image
            near = pairwise_iou(torch.tensor(true), starts.cpu()[own]).argmax(dim=1)
            described.append(
                Described(
                    boxes=kept.boxes[best].double().numpy(),
                    scores=kept.scores[best].tolist(),
                    captions=[texts[place].strip() for place in kept.sequences[best, 0].tolist()],
                    log_probs=kept.log_probs[best].tolist(),
                    nearest=[texts[place].strip() for place in own[near].tolist()],
                )
            )
        return described

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """The hundredfold metrics, how sentences were decoded, and what was withheld."""
        shown = {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}
        shown["sentences_an_image"] = scored.metrics["sentences_an_image"]
        withheld = self.recipe.train.withhold
        decoding = {
            name: value for name, value in beams(num_beams, self.recipe.evaluate).items() if name != "do_sample"
        }
        return {**({"withheld": withheld} if withheld else {}), "decoding": decoding, "metrics": shown}


def description_rows(data: dict[str, Any], *, split: str) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split."""
    return load_by_split(partial(load_descriptions, formats=FORMATS), data, split=split, names=BY_SPLIT)


def matched(region_boxes: torch.Tensor, true_boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions (R, 4) and true boxes (M, 4) -> the largest IoU of each region, and the true box it is with, both (R,).

    >>> boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]])
    >>> [numbers.tolist() for numbers in matched(torch.tensor([[0.5, 0.0, 1.0, 0.5]]), boxes)]
    [[0.5], [1]]
    """
    best, which = pairwise_iou(region_boxes.float(), true_boxes.float()).max(dim=1)
    return best, which


def check_meteor() -> None:
    """`ValueError` with the cure where METEOR's data are not there."""
    try:
        meteor_folder()
    except OSError as error:
        raise ValueError(f"dense captions are scored by METEOR: {error}") from error


def dense_figures(
    predictions: Sequence[dict[str, Any]], boxes: Sequence[Sequence[Any]], sentences: Sequence[Sequence[Sequence[str]]]
) -> dict[str, float]:
    """DenseCap's mAP with and without captions; every sentence of a true box is one of its references."""
    references = [
        {
            "boxes": [box for box, texts in zip(own, said, strict=True) for _ in texts],
            "captions": list(itertools.chain.from_iterable(said)),
        }
        for own, said in zip(boxes, sentences, strict=True)
    ]
    scores = densecap_map(predictions, references)
    return {"dense_map": scores["map"], "dense_detmap": scores["detmap"]}


def predictions_of(found: Sequence[Described], ids: Sequence[str]) -> list[dict[str, Any]]:
    """What is said of each image: sentences with their boxes (xyxy in 0..1) and scores, the best first."""
    return [
        {
            "image_id": image_id,
            "sentences": [
                {
                    "text": text,
                    "box": [round(float(side), 4) for side in box],
                    "score": round(score, 4),
                    "log_prob_per_word": round(likely, 4),
                }
                for text, box, score, likely in zip(one.captions, one.boxes, one.scores, one.log_probs, strict=True)
            ],
        }
        for image_id, one in zip(ids, found, strict=True)
    ]


def expressions_of(
    found: Sequence[Described], ids: Sequence[str], boxes: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """What is said of people's boxes, for `training/probes/written_expressions.py`; without those that nothing is said
    of, which are counted in a warning.
    """
    written = [
        {"image_id": image_id, "box": list(box), "expression": text}
        for image_id, one, own in zip(ids, found, boxes, strict=True)
        for box, text in zip(own, one.nearest, strict=True)
    ]
    said = [one for one in written if one["expression"]]
    if len(said) < len(written):
        warnings.warn(f"nothing was said of {len(written) - len(said)} of {len(written)} true boxes", stacklevel=2)
    return said


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a dense captioner reads and learns, as a card says it."""
    image = {"mean": "the mean of its regions", "first": "its first region"}[config.dense_context_region]
    context = {
        "none": "none",
        "early": f"{image}, joined with the region's vector",
        "late": f"{image}, read by an LSTM of its own ({config.dense_fusion})",
        "attention": "top-down attention over all regions",
    }
    moved = {
        "none": "not moved",
        "shared": "moved by the last state of the sentence",
        "twin": "moved by an LSTM that reads the sentence",
    }
    return {
        "Context of a region": context[config.dense_context],
        "Boxes": moved[config.dense_box],
        "Sentences are ranked by": {
            "region": "the region's score",
            "words": "their probability a word",
            "both": "the region's score times their probability a word",
        }[config.dense_rank],
        "Overlap from which one sentence is kept": f"{config.dense_nms_iou:g}",
        "Vocabulary": f"{config.vocab_size} words, special tokens included",
        **decoding_facts(folder),
    }


SPEC = TaskSpec(
    name="dense_captioning",
    task=DenseCaptioningTask,
    hub_task="image-to-text",
    counted="photos",
    models=("UpDownForDenseCaptioning",),
    formats=FORMATS,
    reads=(
        *(*LOOP_READS, "regions", "train.label_smoothing", "train.max_words", "train.min_word_count"),
        *("train.captions_per_image", "train.withhold", "evaluate.num_beams", "evaluate.final_num_beams"),
        *("evaluate.length_penalty", "evaluate.no_repeat_ngram_size"),
    ),
    recipe=DenseCaptioningRecipe,
    check=check_recipe,
    card_facts=card_facts,
    objectives=("cross_entropy",),
    metrics=FIGURES,
    best_by=("dense_map", "dense_detmap", *(name for name in FIGURES if name.startswith("true_box"))),
)
