"""Multiple choice: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

An item is an image, a context and candidates: the answers or rationales of a question (VCR), a round of a dialogue
(VisDial). All candidates of an item are scored in one pass. Words that carry objects of the image are linked to those
regions of the store that cover them best. A split is scored as its data set is: Q->A, QA->R and Q->AR
(`training/metrics/reasoning/vcr.py`), or the rank of the right answer and NDCG (`visdial.py`).
"""

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

from modeling_updown.choice_words_updown import (
    EncodedTexts,
    Tokens,
    candidate_of,
    context_of,
    context_room,
    kept_context,
    linked_regions,
    object_regions,
    padded_tokens,
)
from modeling_updown.compat_updown import padding_position
from modeling_updown.losses_updown import IGNORED_LABEL
from modeling_updown.outputs_updown import check_finite
from training.data.choices.formats import CHOICE_FORMATS, load_choices
from training.data.choices.rows import HIDDEN, ChoiceData
from training.data.choices.submission import check_submitted, write_submission
from training.data.clips.task_rows import CHOICES as CLIP_CHOICES
from training.data.files import listed
from training.scenes.choices import read_scene_choices
from training.tasks.build import load_by_split
from training.tasks.card_facts import text_facts
from training.tasks.choice_scores import METRICS, item_figures, split_figures
from training.tasks.choice_texts import encoded_texts
from training.tasks.fusion import FUSION_READS, FusionTask, withheld_regions
from training.tasks.multiple_choice_recipe import MultipleChoiceRecipe, check_recipe
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.vqa import question_groups

FORMATS: dict[str, Callable[..., ChoiceData]] = {
    **CHOICE_FORMATS,
    "scenes": read_scene_choices,
    **CLIP_CHOICES,
}
BY_SPLIT = ("annotations", "images", "metadata", "relevance", "num_scenes", "clips")
SUBMITTED = ("vcr", "visdial")
FIELDS = ("attention", "loss", "hidden_size", "activation", "dropout")  # of the config, after `choice_`


@dataclass
class Choices:
    """Items of prepared images: rows without their images, one row an image, each item's image, and the texts."""

    rows: Dataset
    images: Dataset
    image_of: np.ndarray
    texts: EncodedTexts

    def __len__(self) -> int:
        return len(self.rows)


class MultipleChoiceTask(FusionTask):
    """A recipe's items, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: MultipleChoiceRecipe

    def __init__(self, recipe: MultipleChoiceRecipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.read_splits: dict[str, ChoiceData] = {}
        self.longest_candidate = 0

    def prepare(self) -> None:
        """Everything training needs: items, model, regions, token ids."""
        recipe = self.recipe
        data = self.data_of(recipe.train.split)
        self.ask_store(data.rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build_fusion(data.texts["text"])
        self.set_trained()
        self.check_evaluation()
        self.trained = self.choices(ChoiceData(self.learnt_rows(data.rows), data.texts))
        self.groups = question_groups(self.trained.image_of, most=recipe.train.questions_per_image)
        self.num_rows = len(self.groups)

    def check_evaluation(self) -> None:
        """As the base class has it; the items that pick the best model, and those of the end, have labels."""
        super().check_evaluation()
        settings = self.recipe.evaluate
        first = self.evaluation_rows(settings.split, max_images=settings.max_images)
        check_labelled(first, split=f"evaluate.split {settings.split!r}")
        last = self.evaluation_rows(settings.final_split)
        check_labelled(last, split=f"evaluate.final_split {settings.final_split!r}")

    # -- rows ---------------------------------------------------------------------------------------------------------

    def data_of(self, split: str) -> ChoiceData:
        """The rows and texts of a split."""
        if split not in self.read_splits:
            load = partial(load_choices, formats=FORMATS)
            self.read_splits[split] = load_by_split(load, self.recipe.data, split=split, names=BY_SPLIT)
        return self.read_splits[split]

    def rows(self, split: str) -> Dataset:
        """One row an item of that split, as `CHOICE_FEATURES` has it."""
        return self.data_of(split).rows

    def learnt_rows(self, rows: Dataset) -> Dataset:
        """The items that something is learnt of; `ValueError` where there is none."""
        if self.recipe.choices.learn_relevance:
            kept, lack = [i for i, own in enumerate(rows["relevance"]) if any(own)], "relevances of its candidates"
        else:
            kept, lack = [i for i, label in enumerate(rows["label"]) if label != HIDDEN], "a label that is not hidden"
        if not kept:
            raise ValueError(
                f"train.split is {self.recipe.train.split!r}, of whose {len(rows)} items none has {lack}: choose "
                "another split, or another file of its annotations"
            )
        return rows if len(kept) == len(rows) else rows.select(kept)

    def choices(self, data: ChoiceData) -> Choices:
        """Items whose images have regions, with their texts; the others are left out, with one warning."""
        rows = data.rows
        ids, first, image_of = np.unique(np.array(rows["image_id"][:]), return_index=True, return_inverse=True)
        images = self.images.prepare(rows.select_columns(["image_id", "image"]).select(first), warns=False)
        rows = rows.remove_columns("image")
        if len(images) < len(ids):
            place = {image_id: number for number, image_id in enumerate(images["image_id"][:])}
            places = np.array([place.get(image_id, -1) for image_id in ids.tolist()])
            kept = np.flatnonzero(places[image_of] >= 0)
            lost = [image_id for image_id in ids.tolist() if image_id not in place]
            warnings.warn(
                f"{len(rows) - len(kept)} items are left out, since their {len(lost)} images have no regions: "
                f"{listed(lost)}",
                stacklevel=2,
            )
            rows, image_of = rows.select(kept), places[image_of[kept]]
        texts = encoded_texts(data.texts, self.processor.tokenizer, max_words=self.recipe.train.max_words)
        self.tell_cut_contexts(rows, texts)
        return Choices(rows, images, image_of, texts)

    def tell_cut_contexts(self, rows: Dataset, texts: EncodedTexts) -> None:
        """One warning for all contexts that are too long."""
        longest, lengths = self.longest_context(texts), texts.lengths
        pairs = zip(rows["context"], rows["kind"], strict=True)
        cut = sum(len(kept_context(own, lengths, kind=kind, longest=longest)) < len(own) for own, kind in pairs)
        if cut:
            warnings.warn(
                f"{cut} of {len(rows)} contexts are longer than {longest} word pieces: they are read without their "
                "oldest rounds",
                stacklevel=2,
            )

    def longest_context(self, texts: EncodedTexts) -> int:
        """How many tokens of a context are read: `choices.context_words`, or as many as fit beside any candidate."""
        padding, asked = padding_position(self.model.fusion.text_model), self.recipe.choices.context_words
        return context_room(self.model.config.text_config, texts.lengths, padding=padding, asked=asked)

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The items of a split, or those of its first `max_images` images."""
        return self.evaluation_choices(split, max_images=max_images).rows

    def evaluation_choices(self, split: str, *, max_images: int = 0) -> Choices:
        """The same, with their images."""
        key = (split, max_images)
        if key not in self.evaluated:
            data = self.data_of(split)
            rows = data.rows
            if max_images:
                ids = rows["image_id"][:]
                chosen = set(list(dict.fromkeys(ids))[:max_images])
                rows = rows.select([i for i, image_id in enumerate(ids) if image_id in chosen])
            self.evaluated[key] = self.choices(ChoiceData(rows, data.texts))
        return self.evaluated[key]

    def settled_fields(self) -> dict[str, Any]:
        """The fields of the head, whatever the model of `init_from` was saved with or learnt."""
        named = [f"choice_{field}" for field in FIELDS] + ["region_links"]
        return {"objectives": {}, **{name: self.recipe.model[name] for name in named if name in self.recipe.model}}

    # -- inputs -------------------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and N items about them, `questions_per_image` of each at most, with labels (N,) or (N, C)."""
        groups = [self.groups[index] for index in indices]
        chosen = np.concatenate(groups)
        places = np.array([self.trained.image_of[group[0]] for group in groups])
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        rows = self.trained.rows[chosen.tolist()]
        for place, item in enumerate(chosen.tolist()):
            draw = np.random.default_rng([self.recipe.seed, epoch, item])
            kept = drawn_candidates(rows, place, most=self.recipe.choices.per_item, draw=draw)
            label, own = rows["label"][place], rows["relevance"][place]
            rows["candidates"][place] = [rows["candidates"][place][number] for number in kept]
            rows["relevance"][place] = [own[number] for number in kept] if own else []
            rows["label"][place] = kept.index(label) if label in kept else HIDDEN
        inputs = self.item_inputs(self.trained, rows, places, owners)
        return {**inputs, "labels": self.labels(rows)}

    def labels(self, rows: dict[str, list[Any]]) -> torch.Tensor:
        """The right candidates (N,), or how right each is (N, C)."""
        if not self.recipe.choices.learn_relevance:
            return torch.tensor([IGNORED_LABEL if label == HIDDEN else label for label in rows["label"]])
        most = max(map(len, rows["candidates"]))
        return torch.tensor([[*own, *[0.0] * (most - len(own))] for own in rows["relevance"]], dtype=torch.float32)

    def item_inputs(
        self, choices: Choices, rows: dict[str, list[Any]], places: np.ndarray, owners: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Items as the model takes them: words and candidates, which regions words carry, and their images.

        places: the images by number (P,); owners (N,): the image of each item among these.
        """
        texts, tokenizer = choices.texts, self.processor.tokenizer
        special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
        longest, asked = self.longest_context(texts), self.recipe.train.withhold != "question"
        kinds, most = rows["kind"], max(map(len, rows["candidates"]))
        contexts = [
            context_of(own if asked else [], texts, kind=kind, longest=longest, special=special)
            for own, kind in zip(rows["context"], kinds, strict=True)
        ]
        candidates = [
            [candidate_of(number, texts, kind=kind, separator=special[1]) for number in own]
            + [Tokens([], [], [])] * (most - len(own))
            for own, kind in zip(rows["candidates"], kinds, strict=True)
        ]
        flat = [tokens for own in candidates for tokens in own]
        before, own = (padded_tokens(part, padding=self.padding_id) for part in (contexts, flat))
        inputs = self.image_inputs(choices.images, places)
        typed = self.model.config.region_embedding == "uniter" and self.model.config.text_config.type_vocab_size > 3
        made = {"input_ids": before["ids"], "attention_mask": before["mask"]}
        made |= {"choice_input_ids": own["ids"], "choice_attention_mask": own["mask"]}
        made |= {"token_type_ids": before["kinds"], "choice_token_type_ids": own["kinds"]} if typed else {}
        if self.model.config.region_links and self.recipe.train.withhold != "image":
            regions = object_regions(rows["boxes"], inputs, owners)
            made["word_regions"] = linked_regions(contexts, regions, length=before["ids"].shape[1])
            spread = [known for known in regions for _ in range(most)]
            made["choice_word_regions"] = linked_regions(flat, spread, length=own["ids"].shape[1])
        each = {name: part.unflatten(0, (-1, most)) for name, part in made.items() if name.startswith("choice_")}
        return {**inputs, **made, **each, "image_index": torch.from_numpy(owners.astype(np.int64))}

    def image_inputs(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """Images by number as pixels or regions; one and the same region for all where the recipe withholds them."""
        if self.recipe.train.withhold != "image":
            return super().image_inputs(rows, indices, flipped=flipped)
        return withheld_regions(self.model.config, len(indices))

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over items, and their number."""
        items = torch.tensor(len(inputs["labels"]))
        return model(**inputs).loss * items, items, {}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """Choose for every item of a split, every process its share, and score it as its data set is scored.

        Items whose label is hidden are not scored; `ValueError` where it is hidden of all.
        """
        check_labelled(self.evaluation_rows(split, max_images=max_images), split=f"the split {split!r}")
        return self.scored(model, split=split, max_images=max_images)

    def score_all(self, model: Any, *, split: str, num_beams: int) -> Scored:
        """As `score`; figures are those of the items with a label, none where all are hidden."""
        return self.scored(model, split=split)

    @torch.no_grad()
    def scored(self, model: Any, *, split: str, max_images: int = 0) -> Scored:
        """The predictions of a split, and the figures of those items whose label is known."""
        model.eval()
        choices = self.evaluation_choices(split, max_images=max_images)
        found = sorted(gather_object(self.chosen(model, choices)))
        scores = [own for _, own in found]
        rows = choices.rows.select_columns(
            ["item_id", "group", "kind", "image_id", "label", "relevance", "question_type"]
        ).to_list()
        metrics, domains = split_figures(rows, scores)
        return Scored(metrics, predictions_of(rows, scores), domains, item_figures(rows, scores))

    def chosen(self, model: Any, choices: Choices) -> list[tuple[int, list[float]]]:
        """This process's share of the items: number, and the score of each candidate."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        order = np.argsort(choices.image_of, kind="stable")  # items of an image next to each other
        mine = np.array_split(order, accelerator.num_processes)[accelerator.process_index]
        made: list[tuple[int, list[float]]] = []
        starts = range(0, len(mine), size)
        for start in tqdm(starts, desc="choosing", disable=not accelerator.is_main_process, leave=False):
            chosen = mine[start : start + size]
            rows = choices.rows[chosen.tolist()]
            places, owners = np.unique(choices.image_of[chosen], return_inverse=True)
            logits = model(**self.on_device(self.item_inputs(choices, rows, places, owners))).logits.float().cpu()
            for place, item in enumerate(chosen.tolist()):
                own = logits[place, : len(rows["candidates"][place])]
                check_finite(own, model, what="scores of candidates")
                made.append((item, own.tolist()))
        return made

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """The hundredfold metrics and the mean rank, also of each kind of item, and what was withheld."""
        shown = {name: value for name, value in scored.metrics.items() if name.endswith(("_x100", "_rank"))}
        withheld = self.recipe.train.withhold
        return {**({"withheld": withheld} if withheld else {}), "metrics": shown, "domains": scored.domains}

    def check_submission(self, split: str) -> None:
        """`ValueError` where nobody takes choices for these data, or these items cannot be handed in."""
        format = self.recipe.data["format"]
        if format not in SUBMITTED:
            raise ValueError(
                f"data.format is {format!r}, for which nobody takes choices: --submission is for "
                f"{' and '.join(SUBMITTED)}"
            )
        check_submitted(format, self.rows(split).select_columns(["item_id", "group", "kind"]).to_list(), split=split)

    def write_submission(self, scored: Scored, path: str | Path, *, split: str) -> None:
        """Write the choices as the data set's organisers take them."""
        write_submission(self.recipe.data["format"], scored.predictions, path)


def object_rows(**options: Any) -> Dataset:
    """The images of a recipe's `data`, each once, with the boxes of their objects (`updown extract --boxes`).

    `image_id`, `image`, `boxes` xyxy in 0..1 and `crowd` (none is one).
    """
    rows = load_choices(formats=FORMATS, **options).rows.select_columns(["image_id", "image", "boxes"])
    _, first = np.unique(np.array(rows["image_id"][:]), return_index=True)
    rows = rows.select(sorted(first.tolist()))
    return rows.add_column("crowd", [[False] * len(boxes) for boxes in rows["boxes"]])


def check_labelled(rows: Dataset, *, split: str) -> None:
    """`ValueError` for rows whose labels are all hidden."""
    if max(rows["label"][:]) == HIDDEN:
        raise ValueError(
            f"the labels of {split} are hidden: score another split, or write what its organisers score with updown "
            "evaluate --submission FILE"
        )


def drawn_candidates(rows: dict[str, list[Any]], place: int, *, most: int, draw: np.random.Generator) -> list[int]:
    """The candidates of an item that training reads: the right one, those with relevance, and others drawn; 0: all."""
    number = len(rows["candidates"][place])
    if not most or most >= number:
        return list(range(number))
    label, relevance = rows["label"][place], rows["relevance"][place]
    right = [i for i in range(number) if i == label or (relevance and relevance[i] > 0)]
    right.sort(key=lambda i: i != label)  # the label first, should all not fit
    others = draw.permutation([i for i in range(number) if i not in right]).tolist()
    return sorted([*right, *others][:most])


def predictions_of(rows: Sequence[dict[str, Any]], scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """What was chosen of each item, the score of every candidate, and where it is known whether it is right."""
    found = []
    for row, own in zip(rows, scores, strict=True):
        best = int(np.argmax(own))
        said = {name: row[name] for name in ("item_id", "group", "kind", "image_id")}
        right = {} if row["label"] == HIDDEN else {"right": best == row["label"]}
        found.append({**said, "choice": best, **right, "scores": [round(score, 4) for score in own]})
    return found


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """How a model of multiple choice reads and what it learns, as a card says it."""
    read = {"full": "each with its context", "shared": "context and regions once, candidates apart from each other"}
    learnt = {"softmax": "the best of an item's candidates", "binary": "each candidate right or wrong by itself"}
    return {
        **text_facts(config),
        "Candidates are read": read[config.choice_attention],
        "Learns": learnt[config.choice_loss],
        "Words carry regions": "yes" if config.region_links else "no",
    }


SPEC = TaskSpec(
    name="multiple_choice",
    task=MultipleChoiceTask,
    hub_task="multiple-choice",
    counted="items",
    models=("UpDownFusionForMultipleChoice",),
    formats=FORMATS,
    reads=(*LOOP_READS, *FUSION_READS, "train.questions_per_image", "train.withhold"),
    objectives=("cross_entropy",),
    metrics=METRICS,
    best_by=("choice_accuracy", "q_to_ar", "mrr", "ndcg"),
    recipe=MultipleChoiceRecipe,
    check=check_recipe,
    card_facts=card_facts,
    submits=True,
)
