"""Answering by reading: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

A row is a question with its answers and the OCR words of its image: in the row itself, or among the image's regions in
a store (`reading.words: regions`), whose features are then the words' appearance. Of every way in which an answer can
be written from the vocabulary and the OCR words, one is learnt in every epoch, drawn by the seed
(`training/tasks/reading_targets.py`). With `model.reading_objects: false` no image is needed. Questions none of whose
answers can be written are not learnt, but scored.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from modeling_updown import UpDownProcessor, kept_words, ocr_inputs, pad_regions
from modeling_updown.reading_answers_updown import SPECIAL_ANSWERS
from processors.ocr_batching_updown import Words, split_lines, split_words
from processors.region_batching_updown import split_regions
from training.data.files import listed, read_lines
from training.data.reading.formats import READING_FORMATS, load_reading
from training.metrics.item_scores import item_scores
from training.recipe_sections import Recipe, key
from training.scenes.reading import read_reading_scenes
from training.tasks.build import build_on_text, load_by_split
from training.tasks.card_facts import decoding_facts, text_facts
from training.tasks.fusion import FUSION_READS, FusionTask, fusion_token_ids, withheld_regions
from training.tasks.reading_scores import FIGURES, metrics_of, reading_scores
from training.tasks.reading_targets import ReadingTargets, common_words, reading_targets
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.statements import IMAGE_FEATURES, rows_within
from training.text.word_pieces import train_word_pieces

FORMATS: dict[str, Callable[..., Dataset]] = {**READING_FORMATS, "scenes": read_reading_scenes}
BY_SPLIT = ("questions", "captions", "annotations", "images", "words", "tables", "num_scenes", "file_split")
SINGLE_PASS = ("classification", "lorra")


@dataclass
class ReadingSettings:
    """What is said of OCR words and of the vocabulary of answers.

    words: where the OCR words of an image come from: the rows of the `data`, or the `regions` of a store that carry a
        text; `none` gives the model none, as a control.
    vocabulary: a file of the words (of a model of a single pass, the answers) that can be written without being read,
        one a line; empty takes those of the training answers.
    min_count, top: without a file: those in the answers of so many questions, at most so many, the commonest first.
    """

    words: Literal["data", "regions", "none"] = "data"
    vocabulary: str = ""
    min_count: int = key(1, lowest=1, beside={"reading.vocabulary": ("",)})
    top: int = key(5000, lowest=1, beside={"reading.vocabulary": ("",)})


@dataclass
class ReadingRecipe(Recipe):
    """A recipe of reading.

    reading: what is said of OCR words and of the vocabulary of answers.
    """

    reading: ReadingSettings = field(default_factory=ReadingSettings)


@dataclass
class Asked:
    """Questions about prepared images: their rows, one row an image (None where no image is read), the image of each
    question (Q,), and the OCR words of each question's image, where the rows have them."""

    rows: Dataset
    images: Dataset | None
    image_of: np.ndarray
    words: list[list[dict[str, Any]]]

    def __len__(self) -> int:
        return len(self.rows)


class ReadingTask(FusionTask):
    """A recipe's questions, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: ReadingRecipe

    def prepare(self) -> None:
        """Everything training needs: questions that can be answered, model, regions, token ids, targets."""
        recipe = self.recipe
        rows = self.rows(recipe.train.split)
        if not recipe.init_from and self.reads_objects:
            self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build(rows)
        self.set_trained()
        self.check_evaluation()
        self.trained = self.asked(rows)
        self.take_targets()
        self.token_ids = self.encode_questions(self.trained.rows)

    @property
    def reads_objects(self) -> bool:
        """Whether images are needed: those of the model, or before there is one what the recipe says."""
        if getattr(self, "model", None) is not None:
            return self.model.config.reading_objects
        return self.recipe.model.get("reading_objects", True)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row a question of that split, as `READING_FEATURES` has it."""
        return load_by_split(partial(load_reading, formats=FORMATS), self.recipe.data, split=split, names=BY_SPLIT)

    def rows_of_images(self, rows: Dataset) -> Dataset:
        """A row an image of the questions."""
        return distinct_images(rows)[0]

    def asked(self, rows: Dataset) -> Asked:
        """Questions whose images have regions, where these are read; the others are left out with one warning."""
        images, image_of = distinct_images(rows)
        if not self.reads_objects:
            return Asked(rows, None, image_of, self.words_of(rows))
        prepared = self.images.prepare(images, warns=False)
        place = {image_id: number for number, image_id in enumerate(prepared["image_id"][:])}
        found = np.array([place.get(image_id, -1) for image_id in images["image_id"][:]])[image_of]  # (Q,)
        kept = np.flatnonzero(found >= 0)
        if not len(kept):
            raise ValueError("no question has regions of its image: extract these (regions.store)")
        if len(kept) < len(rows):
            lost = [image_id for image_id in images["image_id"][:] if image_id not in place]
            told = f"{len(rows) - len(kept)} questions are left out, since {len(lost)} images have no regions"
            warnings.warn(f"{told}: {listed(lost)}", stacklevel=2)
            rows = rows.select(kept)
        return Asked(rows, prepared, found[kept], self.words_of(rows))

    def words_of(self, rows: Dataset) -> list[list[dict[str, Any]]]:
        """The OCR words of each question that the model is given; none where the data do not bring them.

        Raises `ValueError` where none of the rows has any.
        """
        if self.recipe.reading.words != "data":
            return [[]] * len(rows)
        ids, words = rows["image_id"][:], rows["words"][:]
        if not any(words):
            raise ValueError(
                "the data have no OCR words: name their file or folder in data.words, take those of a store with "
                "region_texts (reading.words: regions), or set reading.words to none"
            )
        of_images: dict[str, list[dict[str, Any]]] = {}
        for image_id, own in zip(ids, words, strict=True):
            if image_id not in of_images:
                of_images[image_id] = self.kept(own)
        return [of_images[image_id] for image_id in ids]

    def kept(self, words: Words) -> list[dict[str, Any]]:
        """The OCR words of an image that the model reads, lines taken apart where its config says so."""
        config = self.model.config
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # which images have more is no news in training
            return kept_words(split_lines(words) if config.reading_split_lines else words, most=config.reading_max_ocr)

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The questions of a split, or the first of them, about at most `max_images` images."""
        return self.evaluation_asked(split, max_images=max_images).rows

    def evaluation_asked(self, split: str, *, max_images: int = 0) -> Asked:
        """The same, with their images; `ValueError` where the answers are hidden."""
        name = (split, max_images)
        if name not in self.evaluated:
            rows = self.rows(split)
            if not any(rows["answers"][:]):
                raise ValueError(f"the answers of {split} are hidden: score another split")
            if max_images:
                rows = rows.select(range(rows_within([[own] for own in rows["image_id"][:]], max_images)))
            self.evaluated[name] = self.asked(rows)
        return self.evaluated[name]

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self, rows: Dataset) -> Any:
        """A new model, whose vocabulary is the recipe's file or that of the training answers."""
        words = [word["text"] for own in rows["words"][:] for word in own]
        texts, fields = [*rows["question"][:], *words], {"id2label": dict(enumerate(self.vocabulary(rows)))}
        if self.reads_objects:
            return self.build_fusion(texts, **fields)
        recipe = self.recipe
        model, tokenizer = build_on_text(
            self.model_class,
            recipe,
            {"objectives": {}, **recipe.model, **fields},
            token_ids=fusion_token_ids,
            new_tokenizer=partial(train_word_pieces, texts, vocabulary_size=recipe.text.vocabulary_size),
            new_text_model="bert",
        )
        self.model = model  # which reads no objects, as `adopt` asks
        return self.assembled(model, tokenizer, (None, {}))

    def vocabulary(self, rows: Dataset) -> list[str]:
        """The special entries and what else a new model can write; `ValueError` without anything."""
        settings, whole = self.recipe.reading, self.recipe.model.get("reading_head") in SINGLE_PASS
        if settings.vocabulary:
            own = [word for word in read_lines(settings.vocabulary) if word not in SPECIAL_ANSWERS]
            found = [*SPECIAL_ANSWERS, *dict.fromkeys(own)]
        else:
            found = common_words(rows["answers"][:], most=settings.top, min_count=settings.min_count, whole=whole)
        if len(found) == len(SPECIAL_ANSWERS):
            raise ValueError("the vocabulary of answers is empty: lower reading.min_count, or name reading.vocabulary")
        return found

    def settled_fields(self) -> dict[str, Any]:
        """Of the model of `init_from` everything stays but what it learnt before; it reads already."""
        return {}

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; a model without objects needs no images, and one of words in a store their texts.

        Raises `ValueError` for a model whose OCR words have an appearance that the recipe does not give.
        """
        if model.config.reading_objects:
            super().adopt(model, processor)
        else:
            self.model, self.processor, self.evaluated = model, processor, {}
        of_regions = self.recipe.reading.words == "regions"
        if of_regions and not model.config.reading_objects:
            raise ValueError("reading.words is regions, but model.reading_objects is false: take the words of the data")
        if model.config.reading_appearance and not of_regions:
            raise ValueError(
                "model.reading_appearance reads features of OCR words: set reading.words to regions, and name a store "
                "of regions with region_texts"
            )
        if of_regions:
            self.images.read("region_texts", needed="which OCR words are read from: set reading.words to data")

    # -- inputs -------------------------------------------------------------------------------------------------------

    def take_targets(self) -> None:
        """What is learnt of each training question; those without an answer that can be written are left out."""
        made = self.all_targets(self.trained)
        kept = [number for number, target in enumerate(made) if target is not None]
        if not kept:
            raise ValueError("no training answer can be written from the vocabulary and the OCR words: see `reading`")
        if len(kept) < len(made):
            told = f"{len(made) - len(kept)} of {len(made)} training questions are left out: none of their answers can"
            warnings.warn(f"{told} be written from the vocabulary and the OCR words", stacklevel=2)
        self.learnt = np.array(kept)
        self.targets: list[ReadingTargets] = [target for target in made if target is not None]
        self.num_rows = len(kept)

    def all_targets(self, asked: Asked) -> list[ReadingTargets | None]:
        """What is learnt of each question; None where no answer can be written."""
        config = self.model.config
        numbers = {word: number for number, word in config.id2label.items() if number >= len(SPECIAL_ANSWERS)}
        options: dict[str, Any] = {"size": config.num_labels, "whole": config.reading_head in SINGLE_PASS}
        pairs = zip(asked.rows["answers"][:], self.words_of_all(asked), strict=True)
        return [reading_targets(own, [word["text"] for word in read], numbers, **options) for own, read in pairs]

    def words_of_all(self, asked: Asked) -> list[list[dict[str, Any]]]:
        """The OCR words of each question, those among the regions too; none where images are withheld."""
        if self.recipe.train.withhold == "image":
            return [[] for _ in range(len(asked))]
        if self.recipe.reading.words != "regions" or asked.images is None:
            return asked.words
        found: list[list[dict[str, Any]]] = []
        for start in range(0, len(asked.images), self.recipe.evaluate.batch_size):
            places = np.arange(start, min(start + self.recipe.evaluate.batch_size, len(asked.images)))
            found += self.objects_and_words(asked.images, places)[1]
        return [[{"text": word["text"]} for word in found[place]] for place in asked.image_of.tolist()]

    def encode_questions(self, rows: Dataset) -> list[torch.Tensor]:
        """Each question's token ids; those of an empty text where the recipe withholds it."""
        questions = rows["question"][:]
        return self.encode([""] * len(questions) if self.recipe.train.withhold == "question" else questions)

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Questions with their images and OCR words, and what is learnt of one way of writing each answer."""
        chosen = self.learnt[indices]
        inputs = self.question_inputs(self.trained, self.token_ids, chosen)
        size = self.model.config.num_labels + inputs["ocr_boxes"].shape[1]
        parts = []
        for index in indices.tolist():
            draw = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            parts.append(self.targets[index].drawn(draw, size=size, steps=self.model.max_steps))
        scores, before = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
        steps = int((scores > 0).any(dim=-1).any(dim=0).sum())  # what nobody learns is not run
        return {**inputs, "labels": scores[:, :steps], "decoder_input_ids": before[:, :steps]}

    def question_inputs(
        self, asked: Asked, token_ids: Sequence[torch.Tensor], indices: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Questions by number as the model takes them, each with the objects and OCR words of its image."""
        regions: dict[str, torch.Tensor] = {}
        words: Sequence[Words] = [asked.words[index] for index in indices.tolist()]
        if asked.images is not None:
            regions, found = self.objects_and_words(asked.images, asked.image_of[indices])
            words = found if self.recipe.reading.words == "regions" else words
        if self.recipe.train.withhold == "image":
            words = [[] for _ in words]
            regions = withheld_regions(self.model.config, len(indices)) if regions else {}
        return {**regions, **self.word_inputs([token_ids[i] for i in indices.tolist()]), **self.ocr(words)}

    def objects_and_words(
        self, images: Dataset, places: np.ndarray
    ) -> tuple[dict[str, torch.Tensor], list[list[dict[str, Any]]]]:
        """Regions of the images at those places, without those that carry a text, and these as OCR words.

        An image whose regions all carry one keeps them as objects too.
        """
        batch: dict[str, Any] = self.image_inputs(images, places)
        if "region_texts" not in batch:
            return batch, []
        objects, words = [], []
        for own in split_regions(batch):
            real = {name: part[own["region_mask"]] for name, part in own.items() if isinstance(part, torch.Tensor)}
            texts = [
                text for text, there in zip(own["region_texts"], own["region_mask"].tolist(), strict=True) if there
            ]
            others, read = split_words({**real, "region_texts": texts})
            objects.append(others if len(others["region_features"]) else real)
            words.append(self.kept(read))
        return pad_regions(objects), words

    def ocr(self, words: Sequence[Words]) -> dict[str, torch.Tensor]:
        """OCR words as the model takes them; where no image has any one place that is empty, so that what reads them is
        part of every step."""
        config = self.model.config
        made = ocr_inputs(words, self.processor.tokenizer)
        if made:
            return {name: part for name, part in made.items() if name != "ocr_features" or config.reading_appearance}
        shape, empty = (len(words), 1), torch.zeros(len(words), 1, 1, dtype=torch.long)
        made = {"ocr_boxes": torch.zeros(*shape, 4), "ocr_mask": torch.zeros(shape, dtype=torch.bool)}
        made |= {"ocr_input_ids": empty + config.pad_token_id, "ocr_characters": empty}
        if config.reading_appearance:
            made["ocr_features"] = torch.zeros(*shape, config.region_feature_size)
        return made

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """The loss times the steps that it is a mean over, and their number."""
        output = model(**inputs)
        steps = (inputs["labels"] > 0).any(dim=-1).sum().cpu()
        return output.loss * steps, steps, {}

    # -- score --------------------------------------------------------------------------------------------------------

    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Answer the questions of a split, every process its share, and score the answers by every metric."""
        asked = self.evaluation_asked(split, max_images=max_images)
        found = self.read(model, asked, num_beams=num_beams)
        answers = [own["answer"] for own in found]
        metrics, domains, per_item = reading_scores(answers, asked.rows, format=self.recipe.data["format"])
        ids = asked.rows["question_id"][:]
        items = {name: item_scores(ids, values) for name, values in per_item.items()}
        writable = sum(target is not None for target in self.all_targets(asked))  # the bound of every answer
        numbers = {"questions": len(asked), "writable": writable}
        return Scored(metrics, found, domains, items, {**numbers, "copied": sum(any(own["copied"]) for own in found)})

    @torch.no_grad()
    def read(self, model: Any, asked: Asked, *, num_beams: int) -> list[dict[str, Any]]:
        """The answer to each question in their order: `question_id`, `answer`, `score` and `copied`, the box of each of
        its words, None of the vocabulary."""
        model.eval()
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        token_ids, ids = self.encode_questions(asked.rows), asked.rows["question_id"][:]
        words = self.words_of_all(asked)
        mine = np.array_split(np.arange(len(asked)), accelerator.num_processes)[accelerator.process_index]
        made: list[tuple[int, dict[str, Any]]] = []
        for start in tqdm(
            range(0, len(mine), size), desc="answers", disable=not accelerator.is_main_process, leave=False
        ):
            chosen = mine[start : start + size]
            inputs = self.on_device(self.question_inputs(asked, token_ids, chosen))
            texts = [[word["text"] for word in words[index]] for index in chosen.tolist()]
            for index, own in zip(chosen.tolist(), model.read(texts, **inputs, num_beams=num_beams), strict=True):
                boxes = [None if word.box is None else [round(corner, 4) for corner in word.box] for word in own.words]
                told = {"question_id": ids[index], "answer": own.answer, "score": round(own.score, 4), "copied": boxes}
                made.append((index, told))
        return [own for _, own in sorted(gather_object(made), key=lambda one: one[0])]

    def figures(self, scored: Scored, *, num_beams: int = 1) -> dict[str, Any]:
        """The hundredfold metrics, how many answers copy a word, and what was withheld."""
        shown = {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}
        withheld = self.recipe.train.withhold
        said = {"withheld": withheld} if withheld else {}
        return {**said, "num_beams": num_beams, **scored.numbers, "metrics": shown, "domains": scored.domains}


def distinct_images(rows: Dataset) -> tuple[Dataset, np.ndarray]:
    """One row (`image_id`, undecoded `image`) an image of the questions, and the image of each question (Q,)."""
    places: dict[str, int] = {}
    owners = np.array([places.setdefault(image_id, len(places)) for image_id in rows["image_id"][:]])
    first = np.unique(owners, return_index=True)[1]
    return rows.select(first).select_columns(list(IMAGE_FEATURES)), owners


def check_recipe(recipe: Recipe) -> None:
    """`ValueError` for crops and mirrored images, whose text cannot be read, for what cannot be withheld, and for the
    metric of another data set."""
    regions = recipe.regions
    if regions.crops < 1 or regions.flips:
        raise ValueError("regions.crops and regions.flips cut and mirror what is to be read: leave them out")
    if recipe.train.withhold in ("text", "regions"):
        raise ValueError(
            f"train.withhold is {recipe.train.withhold!r}, which questions have none of: set it to question or image"
        )
    known = metrics_of(str(recipe.data.get("format")))
    if recipe.evaluate.metric not in known:
        raise ValueError(
            f"evaluate.metric is {recipe.evaluate.metric!r}, which data of the format {recipe.data.get('format')!r} "
            f"are not scored by: choose one of {', '.join(known)}"
        )


def card_facts(config: PreTrainedConfig, folder: Any) -> dict[str, str]:
    """How a model of reading embeds OCR words and writes answers, as a card says it."""
    parts: Iterable[tuple[str, Any]] = (
        ("pieces", config.reading_subwords),
        ("histogram of characters", config.reading_characters == "phoc"),
        ("learnt characters", config.reading_characters == "convolution"),
        ("appearance", config.reading_appearance),
    )
    writes = {
        "pointer": f"word by word, up to {config.reading_max_steps}, from the vocabulary or copied",
        "classification": "in one step, from the vocabulary or copied",
        "lorra": "in a single pass over what the question attends to",
    }
    return {
        **text_facts(config),
        "OCR words are embedded by": ", ".join([*(name for name, is_read in parts if is_read), "box"]),
        "Objects": "read beside the OCR words" if config.reading_objects else "not read",
        "Answers": writes[config.reading_head],
        "Vocabulary of answers": f"{config.num_labels - len(SPECIAL_ANSWERS):,} beside the OCR words",
        **decoding_facts(folder),
    }


SPEC = TaskSpec(
    name="reading",
    task=ReadingTask,
    hub_task="document-question-answering",
    counted="questions",
    models=("UpDownForTextReading",),
    formats=FORMATS,
    reads=(*LOOP_READS, *FUSION_READS, "train.withhold", "evaluate.num_beams", "evaluate.final_num_beams"),
    objectives=("binary_cross_entropy",),
    metrics=FIGURES,
    best_by=tuple(FIGURES),
    recipe=ReadingRecipe,
    check=check_recipe,
    card_facts=card_facts,
)
