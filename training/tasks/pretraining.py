"""Pretraining on regions and words: what retrieval has, and what is masked, for `training/train.py`.

The objectives are those of `model.objectives`; masks are those of the recipe's `masks`, questions about the images
(`qa`) those of its `questions`. A split is scored by retrieval, where that is learnt, by each objective's own figure on
masks that are the same at every evaluation, and by the accuracy of its answers. A model for masked words alone learns
`mlm`.
"""

import dataclasses
import itertools
import math
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedConfig

from modeling_updown import UpDownDetectorConfig, UpDownProcessor
from modeling_updown.configuration_text_updown import DEFAULT_OBJECTIVES
from modeling_updown.losses_updown import IGNORED_LABEL
from modeling_updown.modeling_pretraining import (
    MASKED_REGIONS,
    REGION_ATTRIBUTES,
    REGION_CLASSES,
    REGION_FEATURES,
    SAID,
)
from modeling_updown.outputs_updown import check_finite
from processors.masking_updown import (
    askable_regions,
    corrupt_regions,
    mask_blocks,
    mask_regions,
    mask_words,
    word_starts,
)
from training.data.questions.answers import learned_answers
from training.recipe_sections import Recipe, key, own_values
from training.regions.store import RegionStore
from training.tasks import retrieval
from training.tasks.card_facts import OBJECTIVE_NAMES, objective_facts, text_facts
from training.tasks.pretraining_questions import (
    ACCURACY,
    QuestionsRecipe,
    TrainingQuestions,
    answer_accuracy,
    check_questions,
    questions_about,
)
from training.tasks.questions import Questions, question_rows, saved_answers, take_answers
from training.tasks.retrieval import RetrievalTask
from training.tasks.spec import Scored

FIGURES = {  # each higher for a better model
    "mlm_accuracy": "masked words guessed",
    "object_accuracy": "masked regions' class guessed",
    "attribute_accuracy": "masked regions' attribute guessed",
    "feature_fit": "variance of masked regions' features explained",
}
CLASSES = {"object_probs": "num_objects", "attribute_probs": "num_attributes"}  # columns of a store -> of the config
MASKED_WORDS = "UpDownFusionForMaskedLM"
EVALUATION_EPOCH = 2**31 - 1  # masks of an evaluation are drawn as those of this epoch


@dataclass
class MasksRecipe:
    """What pretraining hides.

    words: share of word pieces (Devlin et al. 2019). whole_words: all pieces of a word together.
    regions: share of regions. overlap: regions whose IoU with a hidden one is over it are hidden too, and none is asked
        for that a visible one overlaps so; 1 hides single regions.
    blocks: hide blocks of neighbouring cells, where the regions are a grid (Bao et al. 2022).
    swapped, kept: of the hidden regions, the share that shows a region of another image, or itself; the rest shows
        zeros.
    """

    words: float = key(0.15, lowest=0, below=1)
    whole_words: bool = False
    regions: float = key(0.15, lowest=0, below=1)
    overlap: float = key(0.4, lowest=0)
    blocks: bool = False
    swapped: float = key(0.0, lowest=0, below=1)
    kept: float = key(0.0, lowest=0, below=1)


@dataclass
class PretrainingRecipe(Recipe):
    """A recipe with `masks` and `questions`."""

    masks: MasksRecipe = field(default_factory=MasksRecipe)
    questions: QuestionsRecipe = field(default_factory=QuestionsRecipe)


class PretrainingTask(RetrievalTask):
    """A recipe's images and captions, model and processor, and the four verbs on them; see the module's docstring."""

    default_objectives: tuple[str, ...] = DEFAULT_OBJECTIVES

    recipe: PretrainingRecipe

    def __init__(self, recipe: PretrainingRecipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.starts: torch.Tensor | None = None
        self.asked: TrainingQuestions | None = None
        self.known_answers: list[str] = []  # of the model of `init_from`

    def prepare(self) -> None:
        """As for retrieval; what the recipe asks for must fit its objectives, its regions and its grid."""
        super().prepare()
        if self.asked is not None:
            self.take_questions(self.asked)
        metric, weight = self.recipe.evaluate.metric, self.weight
        needed = {
            ACCURACY: ("qa",),
            "mlm_accuracy": ("mlm",),
            "object_accuracy": REGION_CLASSES,
            "attribute_accuracy": REGION_ATTRIBUTES,
            "feature_fit": REGION_FEATURES,
        }
        if not any(weight(name) for name in needed.get(metric, ("itc",))):
            asked = " or ".join(needed.get(metric, ("itc",)))
            raise ValueError(f"evaluate.metric is {metric!r}, which needs {asked} in model.objectives")
        if any(weight(name) for name in MASKED_REGIONS) and not self.recipe.regions.store:
            raise ValueError("masked regions are predicted as they lie in a store: name its folder in regions.store")

    def join(self, rows: Dataset) -> None:
        """The questions about the training images, where the model is to answer some."""
        settings, objectives = self.recipe.questions, self.recipe.model.get("objectives") or {}
        if objectives.get("qa"):
            self.asked = TrainingQuestions(settings, rows, split=self.recipe.train.split)
        elif idle := [f"questions.{name}" for name in own_values(settings)]:
            verb = "says" if len(idle) == 1 else "say"
            warnings.warn(f"{', '.join(idle)} {verb} nothing: model.objectives leave out qa", stacklevel=3)

    def take_questions(self, asked: TrainingQuestions) -> None:
        """Join the questions to the images that have regions, encode them, and mirror no image whose sides they ask."""
        ids = np.array(self.train_rows["image_id"][:])
        self.accelerator.print(asked.told(ids.tolist(), split=self.recipe.train.split))
        self.image_names = np.unique(ids).tolist()  # by number
        self.question_ids = self.encode(asked.rows["question"][:])
        if self.recipe.regions.flips:
            self.sided |= np.isin(ids, sorted(asked.sided_images()))

    def check_evaluation(self) -> None:
        """As the base class has it; those that pick the best model must be questions with known answers."""
        super().check_evaluation()
        if self.asked is None:
            return
        settings = self.recipe.evaluate
        for name, split, most in (
            ("split", settings.split, settings.max_images),
            ("final_split", settings.final_split, 0),
        ):
            try:
                asked = self.evaluation_questions(split, max_images=most)
            except ValueError as error:
                raise ValueError(f"evaluate.{name} is {split!r}: questions.data: {error}") from error
            told = len(asked) and (learned_answers(asked.rows)[0] >= 0).any()
            if not told and name == "split" and settings.metric == ACCURACY:
                raise ValueError(
                    f"evaluate.metric is {ACCURACY!r}, but no question about the images of evaluate.split {split!r} "
                    "has a known answer: name such questions in questions.data, or choose another metric"
                )
            if not told:
                self.accelerator.print(f"no {ACCURACY} of {split}: no question about its images has a known answer")

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; classes and attributes that are learnt are read from the store as well."""
        super().adopt(model, processor)
        cure = "set regions.soft_labels and another store, or leave that objective out"
        learnt = False
        for column, _, forms in SAID:
            soft = next((name for name in forms if self.weight(name)), None)
            if soft:
                learnt = True
                self.images.read(column, needed=f"which {soft} learns: {cure}")
        if learnt and model.config.mrc_weights == "confidence":
            cure = "name another store, or set it to even"
            self.images.read("region_scores", needed=f"which model.mrc_weights counts by: {cure}")

    def weight(self, objective: str) -> float:
        """How much the model learns an objective; 0 for one that it has no head for."""
        return self.model.config.weight(objective)

    def head_fields(self, vision_config: PreTrainedConfig | None) -> dict[str, Any]:
        """As many classes and attributes as the detector has, or as the store's soft labels have."""
        if isinstance(vision_config, UpDownDetectorConfig):
            return {name: getattr(vision_config, name) for name in CLASSES.values()}
        if vision_config is None:
            store = RegionStore(self.recipe.regions.store)
            return {name: number for column, name in CLASSES.items() if (number := store.num_classes(column))}
        return {}

    def build(self, captions: list[list[str]]) -> Any:
        """As for retrieval; the words and answers of the questions are there too, answers by their frequency."""
        if self.asked is None:
            return super().build(captions)
        texts = itertools.chain(itertools.chain.from_iterable(captions), self.asked.rows["question"][:])
        model = self.build_fusion(texts, id2label=dict(enumerate(self.asked.vocabulary.answers)))
        take_answers(model, self.asked.vocabulary, known=[], bias=self.asked.bias)
        return model

    def start_from(self, folder: str) -> Any:
        """As for retrieval; of the answers of the questions, those that the model knows keep their weights."""
        if self.asked is None:
            return super().start_from(folder)
        self.known_answers, answers = saved_answers(folder), self.asked.vocabulary
        model = super().start_from(folder)
        kept = take_answers(model, answers, known=self.known_answers, bias=self.asked.bias)
        self.accelerator.print(f"{kept} of the {len(answers)} answers start with the weights of {folder}")
        return model

    def settled_fields(self) -> dict[str, Any]:
        """As the base class has it, and the answers: the model's own, where it has some."""
        fields = super().settled_fields()
        if self.asked is None:
            return fields
        sizes = {name: value for name, value in self.recipe.model.items() if name == "answer_hidden_size"}
        answers = self.known_answers or self.asked.vocabulary.answers
        return {**fields, **sizes, "id2label": dict(enumerate(answers))}

    # -- inputs -------------------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """As for retrieval, and masks and questions, drawn image by image by (seed, epoch, image)."""
        inputs = super().inputs(indices, epoch=epoch)
        inputs |= self.masks(inputs, epoch=epoch)
        return inputs if self.asked is None else inputs | self.questions(inputs["image_ids"].tolist(), epoch=epoch)

    def questions(self, images: list[int], *, epoch: int) -> dict[str, torch.Tensor]:
        """M questions about the images of a batch and the soft scores of their answers (M, A); M may be 0.

        images: their numbers.
        """
        asked, seed = self.asked, self.recipe.seed
        assert asked is not None  # the caller has seen it
        drawn = [
            asked.drawn(self.image_names[image], most=self.recipe.questions.per_image, seeds=(seed, epoch, image))
            for image in images
        ]
        chosen = np.concatenate(drawn)
        nothing = torch.full((0, 1), self.padding_id)
        words = (
            self.word_inputs([self.question_ids[number] for number in chosen])
            if len(chosen)
            else {"input_ids": nothing, "attention_mask": nothing.bool()}
        )
        return {
            **{f"question_{name}": value for name, value in words.items()},
            "question_image_index": torch.from_numpy(np.repeat(np.arange(len(images)), list(map(len, drawn)))),
            "answer_labels": asked.targets.dense(chosen),
        }

    def model_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs with their masks, as the model takes them."""
        return inputs

    def masks(self, inputs: dict[str, Any], *, epoch: int) -> dict[str, torch.Tensor]:
        """`masked_input_ids` and `labels`; `masked_regions`, `asked_regions` and, where it differs, `seen_features`."""
        weight, found = self.weight, {}
        image_ids, owners = inputs["image_ids"].tolist(), inputs["image_index"]
        chances = [mask_chance(self.recipe.seed, epoch, image) for image in image_ids]
        if weight("mlm"):
            words = [
                self.masked_words(inputs["input_ids"][owners == place], chance) for place, chance in enumerate(chances)
            ]
            found["masked_input_ids"] = torch.cat([ids for ids, _ in words])
            found["labels"] = torch.cat([labels for _, labels in words])
        if any(weight(name) for name in MASKED_REGIONS):
            real, boxes = inputs["region_mask"], inputs["region_boxes"]
            hidden = [
                self.hidden_regions(real[place, None], boxes[place, None], chance)
                for place, chance in enumerate(chances)
            ]
            found["masked_regions"] = torch.cat(hidden)
            overlap = self.recipe.masks.overlap
            found["asked_regions"] = askable_regions(found["masked_regions"], real, boxes, overlap=overlap)
            if self.recipe.masks.swapped or self.recipe.masks.kept:
                found["seen_features"] = corrupt_regions(
                    inputs["region_features"],
                    found["masked_regions"],
                    generator=chances[0],
                    region_mask=real,
                    swapped=self.recipe.masks.swapped,
                    kept=self.recipe.masks.kept,
                )
        return found

    def masked_words(self, input_ids: torch.Tensor, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """One image's captions (S, T) with some pieces hidden, and those pieces."""
        tokenizer = self.processor.tokenizer
        if self.starts is None:
            self.starts = word_starts(tokenizer)
        special = torch.tensor([number for number in tokenizer.all_special_ids if number != tokenizer.unk_token_id])
        return mask_words(
            input_ids,
            ~torch.isin(input_ids, special),
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            generator=chance,
            probability=self.recipe.masks.words,
            word_starts=self.starts[input_ids] if self.recipe.masks.whole_words else None,
        )

    def hidden_regions(self, real: torch.Tensor, boxes: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
        """Which of one image's regions (1, R) are hidden: blocks of a grid's cells, or regions with their overlaps."""
        settings = self.recipe.masks
        if not settings.blocks:
            return mask_regions(real, boxes, generator=chance, probability=settings.regions, overlap=settings.overlap)
        side = math.isqrt(real.shape[1])
        smallest = max(1, round(settings.regions * real.shape[1] / 2))  # two blocks or more
        return mask_blocks(
            real, grid_size=(side, side), generator=chance, probability=settings.regions, smallest_block=smallest
        )

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int, max_images: int = 0) -> Scored:
        """As for retrieval where that is learnt, the share of masked pieces and regions that were guessed, and the
        accuracy of the answers to the split's questions."""
        model.eval()
        learns = any(self.weight(name) for name in ("mlm", *MASKED_REGIONS))
        figures = self.guessed(model, self.evaluation_rows(split, max_images=max_images)) if learns else {}
        items: dict[str, Any] = {}
        if self.weight("qa") and self.recipe.questions.data:
            accuracy, items = self.answered(model, self.evaluation_questions(split, max_images=max_images), split=split)
            figures |= accuracy
        if not self.weight("itc"):
            rows = self.evaluation_rows(split, max_images=max_images)
            return Scored(figures, [{"image_id": image_id} for image_id in rows["image_id"][:]], {}, items)
        scored = super().score(model, split=split, num_beams=num_beams, max_images=max_images)
        return Scored({**scored.metrics, **figures}, scored.predictions, scored.domains, {**scored.items, **items})

    def evaluation_questions(self, split: str, *, max_images: int = 0) -> Questions:
        """The questions about the images of a split that are scored."""
        key = (f"questions of {split}", max_images)
        if key not in self.evaluated:
            rows = question_rows(self.recipe.questions.data, split=split, images=False)
            self.evaluated[key] = questions_about(rows, self.evaluation_rows(split, max_images=max_images))
        return self.evaluated[key]

    def answered(self, model: Any, asked: Questions, *, split: str) -> tuple[dict[str, float], dict[str, Any]]:
        """`qa_accuracy` of the best answers, every process giving its share, and what each question scored."""
        if not len(asked):
            return {}, {}
        token_ids = self.encode(asked.rows["question"][:])
        best = self.in_shares(len(asked), partial(self.best_answers, model, asked, token_ids), shown="questions")
        answers = [model.config.id2label[number] for number in best.long().tolist()]
        return answer_accuracy(answers, asked.rows, settings=self.recipe.questions, split=split)

    def best_answers(
        self, model: Any, asked: Questions, token_ids: list[torch.Tensor], indices: np.ndarray
    ) -> torch.Tensor:
        """The number of the best answer to each of some questions, (n,)."""
        places, image_index = np.unique(asked.image_of[indices], return_inverse=True)
        given = {
            **self.image_inputs(asked.images, places),
            **self.word_inputs([token_ids[number] for number in indices]),
            "image_index": torch.from_numpy(image_index),
        }
        return model.answer(**self.on_device(given)).argmax(dim=-1)

    def guessed(self, model: Any, rows: Dataset) -> dict[str, float]:
        """`mlm_accuracy`, `object_accuracy` and `attribute_accuracy`, 0..1; `feature_fit`, variance explained."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.arange(len(rows))[accelerator.process_index :: accelerator.num_processes]
        sums = torch.zeros(len(FIGURES), 2, dtype=torch.float64)  # right and asked; error and variance
        for start in range(0, len(mine), size):
            sums += self.guesses(model, rows, mine[start : start + size])
        right, asked = torch.stack(list(gather_object([sums]))).sum(dim=0).T.tolist()
        shares = {name: a / b for name, a, b in zip(FIGURES, right, asked, strict=True) if b}
        if "feature_fit" in shares:
            shares["feature_fit"] = 1 - shares["feature_fit"]
        return shares | {f"{name}_x100": 100 * value for name, value in shares.items()}

    def guesses(self, model: Any, rows: Dataset, indices: np.ndarray) -> torch.Tensor:
        """(4, 2): of a few images, what was guessed right of how much, for each of `FIGURES`."""
        captions = rows[indices.tolist()]["captions"]
        images = self.images.batch(rows, indices, flipped=np.zeros(len(indices), dtype=bool))
        words = self.tokenize([texts[0] for texts in captions])
        given = {**images, **words, "image_ids": torch.from_numpy(indices), "image_index": torch.arange(len(indices))}
        given |= self.masks(given, epoch=EVALUATION_EPOCH)
        del given["image_ids"]
        labels, asked = given.pop("labels", None), given.pop("asked_regions", None)
        output = model(**self.on_device(self.model_inputs(given)))
        for name in ("logits", *(logits for _, logits, _ in SAID), "region_predictions"):
            if output.get(name) is not None:
                check_finite(output[name], model, what="guesses at masked words and regions")
        sums = torch.zeros(len(FIGURES), 2, dtype=torch.float64)
        if labels is not None and output.logits is not None:
            hidden = labels != IGNORED_LABEL
            sums[0] = torch.tensor([(output.logits.argmax(-1).cpu() == labels)[hidden].sum(), hidden.sum()])
        for place, (said, scores, _) in enumerate(SAID, start=1):
            if asked is not None and scores in output:
                true = images[said][asked][:, 1:].argmax(-1)
                right = output[scores].cpu()[asked][:, 1:].argmax(-1) == true
                sums[place] = torch.tensor([right.sum(), len(true)])
        if asked is not None and "region_predictions" in output:
            features = images["region_features"]
            error = (output.region_predictions.cpu()[asked] - features[asked]).square().sum()
            spread = (features[asked] - features[images["region_mask"]].mean(dim=0)).square().sum()
            sums[3] = torch.stack([error, spread])
        return sums


class MaskedLMTask(PretrainingTask):
    """Masked words alone, by a model that has no other head."""

    default_objectives = ("mlm",)

    def make_momentum(self) -> None:
        """None: there is nothing to contrast."""

    def weight(self, objective: str) -> float:
        """1 for masked words, whatever the config names."""
        return float(objective == "mlm")

    def model_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The masked words as `input_ids`."""
        kept = {name: value for name, value in inputs.items() if name not in ("masked_input_ids", "image_ids")}
        return {**kept, "input_ids": inputs["masked_input_ids"]}

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over masked words, and their number."""
        words = (inputs["labels"] != IGNORED_LABEL).sum()
        return model(**self.model_inputs(inputs)).loss * words, words, {}


def check_recipe(recipe: PretrainingRecipe) -> None:
    """`ValueError` for questions that cannot be learnt, and for what a model for masked words alone does not do."""
    if recipe.architecture != MASKED_WORDS:
        if (recipe.model.get("objectives") or {}).get("qa"):
            check_questions(recipe)
        return
    unasked = [f"questions.{name}" for name in own_values(recipe.questions)]
    if unasked:
        raise ValueError(f"{MASKED_WORDS} answers no questions: leave {', '.join(unasked)} out")
    others = [name for name, weight in (recipe.model.get("objectives") or {}).items() if weight and name != "mlm"]
    if others:
        raise ValueError(f"{MASKED_WORDS} learns mlm alone: leave {', '.join(others)} out of model.objectives")
    if recipe.evaluate.metric != "mlm_accuracy":
        raise ValueError(f"evaluate.metric is {recipe.evaluate.metric!r}, but {MASKED_WORDS} has mlm_accuracy alone")
    idle = [f"masks.{name}" for name in own_values(recipe.masks) if name not in ("words", "whole_words")]
    if idle:
        raise ValueError(f"{MASKED_WORDS} hides no regions: leave {', '.join(idle)} out")


def mask_chance(seed: int, epoch: int, image: int) -> torch.Generator:
    """The generator of one image's masks in one epoch."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch, image]).generate_state(1)[0]))


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a pretrained model reads, and has learnt with the heads that it was saved with, as a card says it."""
    heads = OBJECTIVE_NAMES if "UpDownFusionForPreTraining" in (config.architectures or []) else ("mlm",)
    answers = {"Answers": f"{config.num_answers:,}"} if "qa" in heads and config.weight("qa") else {}
    return {**text_facts(config), **objective_facts(config, heads), **answers}


SPEC = dataclasses.replace(
    retrieval.SPEC,
    name="pretraining",
    task=PretrainingTask,
    card_facts=card_facts,
    models=("UpDownFusionForPreTraining", MASKED_WORDS),
    task_with={MASKED_WORDS: MaskedLMTask},
    reads=retrieval.COMMON_READS,
    reads_with={"UpDownFusionForPreTraining": retrieval.CONTRAST_READS},
    recipe=PretrainingRecipe,
    check=check_recipe,
    metrics={**retrieval.SPEC.metrics, **FIGURES, ACCURACY: "accuracy of answers"},
    best_by=(*retrieval.SPEC.best_by, *FIGURES, ACCURACY),
)
