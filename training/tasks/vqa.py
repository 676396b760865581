"""Question answering: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

Every answer of the vocabulary is its own yes-or-no question, trained towards the share of annotators who gave it (the
paper, section 3.3). A step's rows are groups of questions about one image, so that its regions are fetched and
projected once. The model is the paper's, or a fusion model, which may start from one that learnt otherwise, or
a prefix language model, which writes its answers (`written_answers.py`).
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from modeling_updown import (
    UpDownForVisualQuestionAnswering,
    UpDownPrefixLMConfig,
    UpDownProcessor,
    UpDownTokenizer,
    UpDownVqaConfig,
)
from modeling_updown.losses_updown import IGNORED_LABEL
from modeling_updown.outputs_updown import check_finite
from training.data.files import listed
from training.data.knowledge import knowledge_of, question_data, tell_cut
from training.data.questions.answer_vocabulary import AnswerVocabulary
from training.data.questions.answers import learned_answers
from training.data.questions.submission import write_submission
from training.metrics.vqa.exact_match import align_predictions
from training.metrics.vqa.scores import (
    ERRORS,
    METRICS,
    item_accuracies,
    question_items,
    question_scores,
    read_predicted_answers,
    scored_format,
)
from training.recipe_sections import own_values
from training.saved_models import saved_class
from training.search.knowledge import FactSearch
from training.tasks import prefix_lm
from training.tasks.build import build_config, build_region_source, source_fields
from training.tasks.card_facts import text_facts
from training.tasks.fusion import FUSION_READS, FusionTask
from training.tasks.questions import (
    FORMATS,
    Questions,
    answer_bias,
    answer_targets,
    listed_answers,
    mentions_sides,
    question_rows,
    saved_answers,
    take_answers,
)
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.top_down import TopDownTask
from training.tasks.vqa_recipe import VqaRecipe, check_recipe
from training.tasks.vqa_submission import submission_kind, submitted
from training.tasks.written_answers import WRITTEN_READS, WrittenAnswersTask
from training.text.word_vectors import start_from_vectors


class VqaTask(TopDownTask):
    """A recipe's questions, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: VqaRecipe

    def __init__(self, recipe: VqaRecipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.not_computed: dict[str, str] = {}
        self.num_beams = 1  # of a model that writes
        self.facts: FactSearch | None = None
        self.new_heads: dict[str, Any] = {}  # of a model of `init_from` that answered no questions

    def prepare(self) -> None:
        """Everything training needs: questions, answers, model, regions, token ids, soft targets."""
        recipe = self.recipe
        rows = self.rows(recipe.train.split)
        self.ask_store(rows)
        self.model = self.first_model(rows)
        self.set_trained()
        self.check_evaluation()
        self.trained = self.questions(rows, flips=recipe.regions.flips)
        self.token_ids = self.encode_questions(self.trained)
        self.targets = self.soft_targets(self.trained.rows)
        if not len(self.targets.ids):
            raise ValueError(
                f"none of the {len(rows)} questions of train.split {recipe.train.split!r} has an answer that the model "
                "can give: choose another split, or a list of answers that fits them"
            )
        groups = question_groups(self.trained.image_of, most=recipe.train.questions_per_image)
        self.groups = self.learnt_groups(groups)
        self.num_rows = len(self.groups)
        self.sided = mentions_sides(self.trained) if recipe.regions.flips else np.zeros(len(rows), dtype=bool)
        self.choices = self.encode_choices(self.trained.rows) if self.scores_choices else []
        self.correct_choices = np.array(self.trained.rows["correct_choice"][:], dtype=np.int64)

    def check_evaluation(self) -> None:
        """As the base class has it; the questions that pick the best model have what `evaluate.metric` needs."""
        super().check_evaluation()
        settings = self.recipe.evaluate
        rows = self.evaluation_rows(settings.split, max_images=settings.max_images)
        answered = (learned_answers(rows)[0] >= 0).any()
        if not answered or (settings.metric == "multiple_choice" and max(rows["correct_choice"][:]) < 0):
            lacking = "a choice that is known to be right" if answered else "an answer that is not hidden"
            raise ValueError(
                f"evaluate.split is {settings.split!r}, of whose questions none has {lacking}: choose a split whose "
                f"{settings.metric} can be told"
            )

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row a question of that split, as `VQA_FEATURES` has it."""
        return question_rows(question_data(self.recipe.data), split=split)

    def questions(self, rows: Dataset, *, flips: bool = False) -> Questions:
        """Questions whose images have regions; the others are left out, with one warning."""
        ids, first, image_of = np.unique(np.array(rows["image_id"][:]), return_index=True, return_inverse=True)
        images = self.images.prepare(rows.select_columns(["image_id", "image"]).select(first), flips=flips, warns=False)
        if len(images) < len(ids):
            place = {image_id: number for number, image_id in enumerate(images["image_id"][:])}
            kept_place = np.array([place.get(image_id, -1) for image_id in ids.tolist()])
            kept = np.flatnonzero(kept_place[image_of] >= 0)
            lost = [image_id for image_id in ids.tolist() if image_id not in place]
            warnings.warn(
                f"{len(rows) - len(kept)} questions are left out, since their {len(lost)} images have no regions: "
                f"{listed(lost)}",
                stacklevel=2,
            )
            return Questions(rows.select(kept), images, kept_place[image_of[kept]])
        return Questions(rows, images, image_of)

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The questions of a split, or those about its first `max_images` images."""
        return self.evaluation_questions(split, max_images=max_images).rows

    def evaluation_questions(self, split: str, *, max_images: int = 0) -> Questions:
        """The same, with their images."""
        key = (split, max_images)
        if key not in self.evaluated:
            rows = self.rows(split)
            if max_images:
                ids = rows["image_id"][:]
                chosen = set(list(dict.fromkeys(ids))[:max_images])
                rows = rows.select([i for i, image_id in enumerate(ids) if image_id in chosen])
            self.evaluated[key] = self.questions(rows)
        return self.evaluated[key]

    # -- model --------------------------------------------------------------------------------------------------------

    def first_model(self, rows: Dataset) -> Any:
        """The model that training starts from: that of `init_from` with its own answers, or a new one."""
        if not self.recipe.init_from:
            return self.build(rows)
        idle = [f"answers.{name}" for name in own_values(self.recipe.answers) if name != "scores"]
        if idle:
            warnings.warn(f"{', '.join(idle)} of the recipe says nothing: init_from has its own answers", stacklevel=2)
        return self.start_from(self.recipe.init_from)

    @property
    def scores_choices(self) -> bool:
        """Whether the model has a head for given answers; without one they are chosen by the vocabulary's scores."""
        return getattr(self.model.config, "scores_choices", False)

    def build(self, rows: Dataset) -> Any:
        """A new model: words and answers from the training questions, random weights but for the backbone's."""
        recipe = self.recipe
        answers = self.answer_vocabulary(rows)
        choices = rows["choices"][:] if recipe.model.get("scores_choices") else []
        tokenizer = UpDownTokenizer.from_questions(
            rows["question"][:],
            min_count=recipe.train.min_word_count,
            max_words=recipe.model.get("max_question_words", UpDownVqaConfig.max_question_words),
            texts=[choice for texts in choices for choice in texts],
        )
        source = build_region_source(recipe.regions)
        config = build_config(
            UpDownVqaConfig,
            recipe.model,
            section="model",
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            id2label=dict(enumerate(answers.answers)),
            **source_fields(source[0], recipe.regions),
        )
        model: Any = UpDownForVisualQuestionAnswering(config)
        if recipe.train.word_vectors:
            start_from_vectors(model, tokenizer, recipe.train.word_vectors)
        model.answers.bias.data.copy_(answer_bias(rows, answers))
        return self.assembled(model, tokenizer, source)

    def answer_vocabulary(self, rows: Dataset) -> AnswerVocabulary:
        """The answers of the recipe's file, or the common ones of the training questions."""
        return listed_answers(rows, self.recipe.answers)

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; the answers are those of the model."""
        super().adopt(model, processor)
        self.region_feature_size = model.config.region_feature_size
        self.vocabulary = AnswerVocabulary(list(model.config.id2label.values()))

    # -- inputs -------------------------------------------------------------------------------------------------------

    def learnt_groups(self, groups: list[np.ndarray]) -> list[np.ndarray]:
        """The groups of questions that something is learnt of; here all, since no answer may be right too."""
        return groups

    def encode_questions(self, asked: Questions) -> list[torch.Tensor]:
        """Each question's token ids, with the sentences beside it; of an empty text where the recipe withholds it."""
        questions = asked.rows["question"][:]
        texts = [""] * len(questions) if self.recipe.train.withhold == "question" else questions
        return self.encode_asked(texts, self.knowledge_beside(asked))

    def encode_asked(self, texts: Sequence[str], knowledge: Sequence[Sequence[str]]) -> list[torch.Tensor]:
        """The token ids of questions, and of the sentences beside each where there are some."""
        if not knowledge:
            return self.encode(texts)
        joined = [" ".join((text, *known)) for text, known in zip(texts, knowledge, strict=True)]
        whole = self.processor.tokenizer(joined, verbose=False)["input_ids"]
        return tell_cut(self.encode(joined), whole, most=self.recipe.train.max_words)

    def knowledge_beside(self, asked: Questions) -> list[list[str]]:
        """The sentences beside each question; an empty list where the recipe has no knowledge."""
        knowledge = knowledge_of(self.recipe.data)
        if knowledge is None:
            return []
        with self.accelerator.main_process_first():  # it keeps the vectors of the sentences
            self.facts = self.facts or FactSearch(knowledge, batch_size=self.recipe.evaluate.batch_size)
        ids = np.array(asked.images["image_id"][:])[asked.image_of].tolist()
        return self.facts.nearest(asked.rows["question"][:], asked.images, ids)

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each text's word ids, cut to the model's length; one unknown word where there is none."""
        if not texts:
            return []
        tokenizer = self.processor.tokenizer
        encoded = tokenizer(list(texts), add_special_tokens=False, truncation=True)["input_ids"]
        return [torch.tensor(ids or [tokenizer.unk_token_id]) for ids in encoded]

    def soft_targets(self, rows: Dataset) -> Any:
        """What each question is trained towards, over the model's answers."""
        return answer_targets(rows, self.vocabulary, form=self.recipe.answers.scores)

    def encode_choices(self, rows: Dataset) -> list[list[torch.Tensor]]:
        """The word ids of each question's choices."""
        choices = rows["choices"][:]
        ids = iter(self.encode([choice for texts in choices for choice in texts]))
        return [[next(ids) for _ in texts] for texts in choices]

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and N questions about them, with their soft targets (N, A).

        Images are mirrored by (seed, epoch, group), but for those whose questions tell left from right.
        """
        groups = [self.groups[index] for index in indices]
        sided = np.array([self.sided[group].any() for group in groups])
        draws = [np.random.default_rng([self.recipe.seed, epoch, int(index)]).random() < 0.5 for index in indices]
        flipped = np.array(draws) & ~sided & self.recipe.regions.flips
        places = np.array([self.trained.image_of[group[0]] for group in groups])
        owners = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        return {
            **self.image_inputs(self.trained.images, places, flipped=flipped),
            **self.learnt_inputs(np.concatenate(groups), owners, epoch=epoch),
        }

    def learnt_inputs(self, chosen: np.ndarray, owners: np.ndarray, *, epoch: int) -> dict[str, torch.Tensor]:
        """Questions by number (N,), about the images `owners` (N,) of the batch, and what is learnt of them."""
        return {
            **self.word_inputs([self.token_ids[i] for i in chosen]),
            "image_index": torch.from_numpy(owners),
            "labels": self.targets.dense(chosen),
            **(self.choice_inputs([self.choices[i] for i in chosen]) if self.choices else {}),
            **(self.correct_choice(chosen) if self.choices else {}),
        }

    def image_inputs(
        self, rows: Dataset, indices: np.ndarray, *, flipped: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        """Images by number as pixels or regions; one and the same region for all where the recipe withholds them.

        It is no zero, since the product of question and image would then be zero too, and ReLUs would never learn.
        """
        if self.recipe.train.withhold == "image":
            same = torch.ones(len(indices), 1, self.region_feature_size)
            whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(indices), 1, 4)
            config = self.model.config
            unnamed = {
                kind.probs: torch.zeros(len(indices), 1, getattr(config, kind.name) + 1) for kind in config.tag_kinds
            }
            return {"region_features": same, "region_boxes": whole, **unnamed}
        return super().image_inputs(rows, indices, flipped=flipped)

    def choice_inputs(self, choices: Sequence[Sequence[torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Choices as `choice_input_ids` (N, C, T) and `choice_mask` (N, C); at least one place a question."""
        most = max(1, max(map(len, choices)))
        nothing = torch.tensor([self.processor.tokenizer.unk_token_id])
        rows = [row for texts in choices for row in [*texts, *[nothing] * (most - len(texts))]]
        input_ids = self.word_inputs(rows)["input_ids"]
        counts = torch.tensor([len(texts) for texts in choices])
        mask = torch.arange(most) < counts.clamp(min=1)[:, None]
        return {"choice_input_ids": input_ids.unflatten(0, (len(choices), most)), "choice_mask": mask}

    def correct_choice(self, chosen: np.ndarray) -> dict[str, torch.Tensor]:
        """The right choice of each question, -100 where there is none."""
        correct = self.correct_choices[chosen]
        return {"correct_choice": torch.from_numpy(np.where(correct < 0, IGNORED_LABEL, correct))}

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over questions, and their number."""
        output = model(**inputs, num_items_in_batch=1)
        return output.loss, torch.tensor(len(inputs["labels"])), {}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Answer a split, every process its share of the images, and score it as its data set is scored."""
        model.eval()
        self.num_beams = num_beams
        asked = self.evaluation_questions(split, max_images=max_images)
        found = gather_object(list(self.answered(model, asked)))
        answers = sorted(found, key=lambda answer: answer["row"])
        texts = [answer["answer"] for answer in answers]
        format = scored_format(self.recipe.data, split)
        correct = item_accuracies(texts, asked.rows, format=format)
        predictions = [
            {"question_id": question_id}
            | {name: answer[name] for name in ("answer", "score", "choice") if name in answer}
            | ({} if math.isnan(accuracy) else {"accuracy": accuracy})
            for question_id, answer, accuracy in zip(asked.rows["question_id"][:], answers, correct, strict=True)
        ]
        choices = [answer.get("choice", "") for answer in answers]
        metrics, domains, self.not_computed = question_scores(
            texts, asked.rows, format=format, choices=choices, targets=self.recipe.answers.scores
        )
        items = question_items(texts, asked.rows, choices=choices, metrics=metrics, format=format)
        return Scored(metrics, predictions, domains, items)

    def answered(self, model: Any, asked: Questions) -> Iterator[dict[str, Any]]:
        """This process's share of the questions: row, best answer and its score in 0..1."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.arange(len(asked.images))[accelerator.process_index :: accelerator.num_processes]
        order = np.argsort(asked.image_of, kind="stable")
        starts = np.searchsorted(asked.image_of[order], np.arange(len(asked.images) + 1))
        token_ids, choices = self.encode_questions(asked), asked.rows["choices"][:]
        with tqdm(total=len(mine), desc="answering", unit="image", disable=not accelerator.is_main_process) as bar:
            for first in range(0, len(mine), size):
                places = mine[first : first + size]
                questions = [order[starts[place] : starts[place + 1]] for place in places]
                rows = np.concatenate(questions)
                inputs = {
                    **self.image_inputs(asked.images, places),
                    **self.word_inputs([token_ids[row] for row in rows]),
                    "image_index": torch.from_numpy(np.repeat(np.arange(len(places)), list(map(len, questions)))),
                }
                yield from self.best_answers(model, inputs, rows, [choices[row] for row in rows])
                bar.update(len(places))

    def best_answers(
        self, model: Any, inputs: dict[str, torch.Tensor], rows: np.ndarray, choices: list[list[str]]
    ) -> Iterator[dict[str, Any]]:
        """The best answer to each question, and the best of its choices where it has some."""
        scores_choices = self.scores_choices and any(choices)
        if scores_choices:
            inputs |= self.choice_inputs([self.encode(texts) for texts in choices])
        output = model(**self.on_device(inputs))
        check_finite(output.logits, model, what="scores of answers")
        probabilities = output.logits.float().sigmoid().cpu()
        for place, (row, texts) in enumerate(zip(rows.tolist(), choices, strict=True)):
            best = int(probabilities[place].argmax())
            found = {"row": row, "answer": self.vocabulary.answers[best], "score": float(probabilities[place, best])}
            if texts and scores_choices:
                chances = output.choice_logits[place, : len(texts)]
                check_finite(chances, model, what="scores of choices")
                found["choice"] = texts[int(chances.argmax())]
            elif texts:
                found["choice"] = texts[best_choice(probabilities[place], self.vocabulary.ids_of(texts))]
            yield found

    def figures(self, scored: Scored, *, num_beams: int = 1) -> dict[str, Any]:
        """What an evaluation says: the hundredfold metrics, also of each kind of question, and what was withheld."""
        withheld = self.recipe.train.withhold
        figures = {**self.decoding(), **answer_figures(scored.metrics, scored.domains, self.not_computed)}
        return {"withheld": withheld, **figures} if withheld else figures

    def decoding(self) -> dict[str, Any]:
        """What an evaluation says of how answers were found; nothing where each has a score."""
        return {}

    def check_submission(self, split: str) -> None:
        """`ValueError` where nobody takes answers to the questions of a split."""
        submission_kind(self.recipe.data, split)

    def write_submission(self, scored: Scored, path: str | Path, *, split: str) -> None:
        """Write the answers as the data set's organisers take them; `ValueError` where nobody takes any."""
        kind = submission_kind(self.recipe.data, split)
        write_submission(kind, {found["question_id"]: submitted(found, kind) for found in scored.predictions}, path)


class FusionVqaTask(FusionTask, VqaTask):
    """The same with a fusion model, whose words are those of its text encoder."""

    def first_model(self, rows: Dataset) -> Any:
        """As the base class has it; a model of `init_from` with other heads gets the answers of the training questions.

        Of one that learnt answers in pretraining (`qa`), those that are also among these keep their weights.
        """
        folder = self.recipe.init_from
        if not folder or saved_class(folder) == self.recipe.architecture:
            return super().first_model(rows)
        answers = self.answer_vocabulary(rows)
        known = saved_answers(folder)
        self.new_heads = {"id2label": dict(enumerate(known or answers.answers))}
        model = self.start_from(folder)
        kept = take_answers(model, answers, known=known, bias=answer_bias(rows, answers))
        self.vocabulary = answers
        if known:
            self.accelerator.print(f"{kept} of the {len(answers)} answers start with the weights of {folder}")
        return model

    def settled_fields(self) -> dict[str, Any]:
        """The answers, where the model of `init_from` was saved with other heads."""
        sizes = {name: value for name, value in self.recipe.model.items() if name == "answer_hidden_size"}
        return {**sizes, **self.new_heads} if self.new_heads else {}

    def build(self, rows: Dataset) -> Any:
        """A new model: answers, and words without a pretrained text encoder, are those of the training questions."""
        answers = self.answer_vocabulary(rows)
        model = self.build_fusion(rows["question"][:], id2label=dict(enumerate(answers.answers)))
        model.answers.bias.data.copy_(answer_bias(rows, answers))
        return model


class PrefixVqaTask(WrittenAnswersTask, VqaTask):
    """The same with a prefix language model, which writes its answers."""

    def first_model(self, rows: Dataset) -> Any:
        """As the base class has it; a captioner of `init_from` gets the answers of the training questions."""
        folder = self.recipe.init_from
        if not folder or saved_class(folder) == self.recipe.architecture:
            return super().first_model(rows)
        self.any_head = True
        try:
            model = self.start_from(folder)
        finally:
            self.any_head = False
        self.vocabulary = self.answer_vocabulary(rows)
        model.config.id2label = dict(enumerate(self.vocabulary.answers))
        return model

    def build(self, rows: Dataset) -> Any:
        """A new model: answers, and words without a pretrained language model, are those of the training questions."""
        return self.build_writer(rows["question"][:], self.answer_vocabulary(rows))


def answer_figures(
    metrics: dict[str, float], domains: dict[str, dict[str, float]], not_computed: dict[str, str]
) -> dict[str, Any]:
    """What an evaluation says of answers: the hundredfold metrics, also by kind of question, and what is not there."""
    shown = {name: value for name, value in metrics.items() if name.endswith("_x100") or name in ERRORS}
    return {"metrics": shown, "domains": domains, "not_computed": not_computed}


def question_groups(image_of: np.ndarray, *, most: int) -> list[np.ndarray]:
    """The questions (Q,) of each image, in groups of at most `most`.

    >>> [group.tolist() for group in question_groups(np.array([0, 1, 0, 0]), most=2)]
    [[0, 2], [3], [1]]
    """
    order = np.argsort(image_of, kind="stable")
    by_image = np.split(order, np.flatnonzero(np.diff(image_of[order])) + 1)
    return [group[start : start + most] for group in by_image for start in range(0, len(group), most)]


def best_choice(probabilities: torch.Tensor, ids: np.ndarray) -> int:
    """The likeliest of choices by their ids in the vocabulary; -1 is not in it and comes last.

    >>> best_choice(torch.tensor([0.1, 0.7, 0.2]), np.array([-1, 2, 0]))
    1
    """
    scores = [float(probabilities[number]) if number >= 0 else -1.0 for number in ids.tolist()]
    return max(range(len(scores)), key=scores.__getitem__)


def score_answers(recipe: VqaRecipe, predictions: str | Path, *, split: str) -> tuple[Scored, dict[str, Any], Dataset]:
    """Score a file of answers in VQA's, GQA's or A-OKVQA's result layout, without any model or image.

    predictions: `[{"question_id": 42, "answer": "two"}, ...]`, or with `questionId` and `prediction`; beside it the
    `choice` where there are choices, as `predictions.json` has it; to POPE's questions captions too. A question without
    an entry counts as wrong (of POPE it is refused), an unknown one is ignored; one warning lists both. Returns scores,
    what an evaluation says of them, and the rows. Raises `ValueError` for a file of another layout, or whose questions
    are none of the split's.
    """
    rows = question_rows(question_data(recipe.data), split=split, images=False)
    ids = rows["question_id"][:]
    format = scored_format(recipe.data, split)
    said, choice_of = read_predicted_answers(predictions, rows, format=format)
    try:
        aligned = align_predictions(said, ids)
    except ValueError as error:
        raise ValueError(f"{predictions}: {error}") from error
    strange = next((i for i, text in zip(ids, aligned.predictions, strict=True) if not isinstance(text, str)), None)
    if strange is not None:
        raise ValueError(f"{predictions}: the answer to question {strange} is no text; write it in quotation marks")
    if aligned.problems():
        warnings.warn(aligned.problems(), stacklevel=2)
    choices = [choice_of.get(question_id, "") for question_id in ids] if choice_of else []
    answers = list(aligned.predictions)
    metrics, domains, not_computed = question_scores(
        answers, rows, format=format, choices=choices, targets=recipe.answers.scores
    )
    said_of = [{"question_id": name, "answer": answer} for name, answer in zip(ids, answers, strict=True)]
    items = question_items(answers, rows, choices=choices, metrics=metrics, format=format)
    scored = Scored(metrics, said_of, domains, items)
    return scored, answer_figures(metrics, domains, not_computed), rows


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a question answerer reads, how it looks and what it can answer, as name and value."""
    if config.model_type == UpDownPrefixLMConfig.model_type:
        return {**prefix_lm.card_facts(config, folder), "Answers": "written, or the likeliest of given ones"}
    if hasattr(config, "text_config"):
        return {**text_facts(config), "Answers": f"{config.num_answers:,}"}
    asked = {"concat": "question and region joined", "multiply": "question times region"}[config.attention]
    layers = {"gated_tanh": "gated tanh", "relu": "ReLU"}[config.activation]
    facts = {
        "Answers": f"{config.num_answers:,}",
        "Words of questions": f"{config.vocab_size:,}, special tokens included",
        "Longest question": f"{config.max_question_words} words; longer ones are cut",
        "Attention": f"{asked}, {layers} layers" + (" with weight normalisation" if config.weight_norm else ""),
        "Glimpses": str(config.num_glimpses),
    }
    if config.num_attention_layers > 1:
        facts["Stacked attention"] = f"{config.num_attention_layers} layers"
    counted = f"by the overlaps of the {config.counted_objects} strongest regions"
    facts["Counting"] = counted if config.counted_objects else "no part of its own"
    if config.scores_choices:
        facts["Multiple choice"] = "given answers are scored by their words"
    return facts


SPEC = TaskSpec(
    name="vqa",
    task=VqaTask,
    hub_task="visual-question-answering",
    counted="questions",
    models=(
        *("UpDownForVisualQuestionAnswering", "UpDownFusionForVisualQuestionAnswering"),
        "UpDownPrefixLMForVisualQuestionAnswering",
    ),
    task_with={
        "UpDownFusionForVisualQuestionAnswering": FusionVqaTask,
        "UpDownPrefixLMForVisualQuestionAnswering": PrefixVqaTask,
    },
    formats=FORMATS,
    reads=(*LOOP_READS, "regions", "train.questions_per_image", "train.withhold"),
    reads_with={
        "UpDownForVisualQuestionAnswering": ("train.word_vectors", "train.min_word_count"),
        "UpDownFusionForVisualQuestionAnswering": FUSION_READS,
        "UpDownPrefixLMForVisualQuestionAnswering": WRITTEN_READS,
    },
    recipe=VqaRecipe,
    check=check_recipe,
    card_facts=card_facts,
    objectives=("binary_cross_entropy",),
    objectives_with={"UpDownPrefixLMForVisualQuestionAnswering": ("cross_entropy",)},
    metrics=METRICS,
    best_by=("accuracy", "multiple_choice"),
    score_file=score_answers,
    submits=True,
)
