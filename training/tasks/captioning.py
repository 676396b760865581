"""Captioning: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

Cross-entropy first (the paper, equation 11), then self-critical training (equations 12-14), with CIDEr-D or other
rewards: captions are sampled, scored against the image's own captions, and their log-probability is pushed by how much
they beat a baseline.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import LogitsProcessorList, PreTrainedConfig

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownTokenizer,
    boundary_token_ids,
    caption_token_ids,
)
from modeling_updown.generation_updown import FiniteScores
from modeling_updown.losses_updown import self_critical_loss
from training.data.files import write_json
from training.data.questions.submission import as_number
from training.metrics.captioning.rewards import CaptionRewards
from training.metrics.captioning.scores import ONE_IMAGE
from training.recipe_sections import EvaluateRecipe, Recipe
from training.regions.extract import join_padded
from training.tasks.build import (
    build_config,
    build_region_source,
    source_fields,
    word_bias,
)
from training.tasks.captioning_recipe import CaptioningRecipe, check_rewards, check_texts
from training.tasks.captioning_scores import (
    SPICE_PARTS,
    add_diversity,
    add_java_scores,
    add_parsed_scores,
    caption_figures,
    captions_of,
    read_predictions,
    scored_captions,
)
from training.tasks.captions import FORMATS, CaptionedTask, boxed_rows, caption_rows, captioned_rows
from training.tasks.card_facts import decoding_facts
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.text_rows import TextRows


class CaptioningTask(CaptionedTask):
    """A recipe's data, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: CaptioningRecipe

    def __init__(self, recipe: CaptioningRecipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.scorer: CaptionRewards | None = None
        self.texts: TextRows | None = None

    def prepare(self) -> None:
        """Everything training needs: rows, model, regions, token ids, the rewards' references."""
        recipe = self.recipe
        rows = self.training_rows()
        self.ask_store(rows)
        if recipe.texts.data and recipe.train.objective == "cross_entropy":
            self.texts = TextRows(recipe)
        captions = [*rows["captions"], *(self.texts.captions if self.texts else ())]
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build(captions)
        self.model.config.label_smoothing = recipe.train.label_smoothing
        self.set_trained()
        self.check_evaluation()
        self.take_rows(rows)
        if self.texts is not None:
            self.texts.prepare(self.model.config, num_images=len(self.train_rows))
            self.num_rows += self.texts.num_rows
        if recipe.train.objective == "self_critical":
            references = [[row[1:].tolist() for row in rows] for rows in self.token_ids]
            bounds = self.bounds
            self.scorer = CaptionRewards(
                references,
                recipe.train.rewards,
                end_token_id=bounds["eos_token_id"],
                pad_token_id=bounds["pad_token_id"],
            )

    def check_evaluation(self) -> None:
        """As the base class has it; CIDEr can pick the best of models that caption two images or more."""
        super().check_evaluation()
        settings = self.recipe.evaluate
        images = self.evaluation_rows(settings.split, max_images=settings.max_images)
        if len(images) == 1 and settings.metric.startswith("cider"):
            raise ValueError(
                f"evaluate.split is {settings.split!r} with one image alone, and evaluate.metric is "
                f"{settings.metric!r}: {ONE_IMAGE}, or choose another metric"
            )

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self, captions: list[list[str]]) -> Any:
        """A new model: a vocabulary from the training captions, random weights but for the backbone's."""
        recipe = self.recipe
        tokenizer = UpDownTokenizer.from_captions(
            itertools.chain.from_iterable(captions), min_count=recipe.train.min_word_count
        )
        source = build_region_source(recipe.regions)
        config = build_config(
            UpDownCaptioningConfig,
            recipe.model,
            section="model",
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            unk_token_id=tokenizer.unk_token_id,
            **source_fields(source[0], recipe.regions),
        )
        model: Any = self.model_class(config)
        model.lm_head.bias.data.copy_(word_bias(tokenizer, captions))
        set_generation(model, recipe, never={config.pad_token_id, config.bos_token_id, config.unk_token_id})
        return self.assembled(model, tokenizer, source)

    def start_from(self, folder: str) -> Any:
        """A saved model, as the base class has it, writing with the recipe's beams."""
        model = super().start_from(folder)
        model.generation_config.update(**beams(self.recipe.evaluate.final_num_beams, self.recipe.evaluate))
        return model

    # -- inputs -------------------------------------------------------------------------------------------------------

    @property
    def bounds(self) -> dict[str, int]:
        """BOS, EOS and padding of captions, in rows, rewards and what the model writes: the model config's."""
        return boundary_token_ids(self.processor.tokenizer, config=self.model.config)

    @property
    def padding_id(self) -> int:
        """The padding of captions."""
        return self.bounds["pad_token_id"]

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each caption as BOS, words, EOS."""
        encoded = caption_token_ids(
            self.processor.tokenizer, texts, max_tokens=self.recipe.train.max_words, config=self.model.config
        )
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        return [row[:length] for row, length in zip(encoded["input_ids"], lengths, strict=True)]

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) and, for cross-entropy, `captions_per_image` of each one's captions (N, T).

        Rows after those of images are texts; their regions stand after those of images.
        """
        of_texts = indices >= len(self.train_rows)
        parts, chosen = [], []
        for rows, make in ((indices[~of_texts], self.image_rows), (indices[of_texts], self.text_rows)):
            if len(rows):
                images, captions = make(rows, epoch=epoch)
                parts.append(images)
                chosen += captions
        inputs = {
            name: join_padded([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in parts[0]
        }
        ordered = np.concatenate([indices[~of_texts], indices[of_texts]])
        inputs["image_index"] = torch.from_numpy(ordered.astype(np.int64))
        return inputs | (self.word_inputs(chosen) if self.scorer is None else {})

    def image_rows(self, indices: np.ndarray, *, epoch: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Images by number, as drawn for an epoch, and the chosen captions of all."""
        draws = self.draws(indices, epoch=epoch)
        images = self.drawn_images(indices, draws)
        if self.scorer is not None:
            return images, []
        return images, [
            row for i, draw in zip(indices, draws, strict=True) for row in self.chosen_captions(int(i), draw)
        ]

    def text_rows(self, indices: np.ndarray, *, epoch: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Texts by the numbers of their rows: their regions, and the chosen captions of all."""
        assert self.texts is not None  # no row has such a number otherwise
        draws = self.draws(indices, epoch=epoch)
        texts = self.texts.texts_of(indices.tolist(), epoch=epoch)
        chosen = [
            caption
            for text, draw in zip(texts, draws, strict=True)
            for caption in self.drawn_captions(self.texts.captions[text], draw)
        ]
        return self.texts.batch(texts, draws), self.encode(chosen)

    def chosen_captions(self, index: int, draw: np.random.Generator) -> list[torch.Tensor]:
        """`train.captions_per_image` of an image's captions."""
        return self.drawn_captions(self.token_ids[index], draw)

    def drawn_captions(self, captions: Sequence[Any], draw: np.random.Generator) -> list[Any]:
        """`train.captions_per_image` of the captions: drawn where there are more, some twice where there are fewer."""
        wanted = self.recipe.train.captions_per_image
        if len(captions) > wanted:
            return [captions[i] for i in draw.permutation(len(captions))[:wanted]]
        return [captions[i % len(captions)] for i in range(wanted)]

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over words, the number of words, and what else is logged."""
        image_index = inputs.pop("image_index")
        if self.scorer is not None:
            return self.self_critical(model, inputs, image_index)
        input_ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
        targets = input_ids[:, 1:].masked_fill(~mask[:, 1:], -100)
        output = model(
            input_ids=input_ids[:, :-1],
            attention_mask=mask[:, 1:],
            shift_labels=targets,
            num_items_in_batch=1,
            **inputs,
        )
        return output.loss, (targets != -100).sum(), {}

    def self_critical(
        self, model: torch.nn.Module, images: dict[str, Any], image_index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sample captions, weigh them by reward minus baseline; the end token is a word of reward and loss.

        Dropout is off while words are drawn and while they are weighed, so that both are of one policy.
        """
        images = self.regions_once(images)
        sampled = self.sample(images)  # (P * samples, T) with BOS
        samples = len(sampled) // len(image_index)
        owner = image_index.repeat_interleave(samples)
        each = self.each_reward(sampled, owner)
        rewards = self.reward(each)
        advantage = (rewards - self.baseline(rewards, samples, images, image_index)).to(sampled.device)
        words = sampled[:, 1:]
        mask = words_until_end(words, self.bounds["eos_token_id"])
        model.eval()
        output = model(
            input_ids=sampled[:, :-1], attention_mask=mask, shift_labels=words.masked_fill(~mask, -100), **images
        )
        model.train()
        count = mask.sum()
        total = self_critical_loss(output.label_log_probs, advantage, mask) * count
        shown = {f"reward_{name}_x100": 100 * float(values.mean()) for name, values in each.items()}
        return total, count, {"reward_x100": 100 * rewards.mean().item(), **shown, "words": count.item() / len(sampled)}

    @torch.no_grad()
    def regions_once(self, images: dict[str, Any]) -> dict[str, Any]:
        """Pixels -> regions, so that samples, baseline and loss share them; a source in training needs the pixels."""
        if "pixel_values" not in images or self.recipe.regions.trained:
            return images
        regions = self.model.get_regions(**images)
        names = ("region_features", "region_boxes", *(kind.probs for kind in self.model.config.tag_kinds))
        return {**{name: regions[name].float() for name in names}, "region_mask": regions.region_mask}

    @torch.no_grad()
    def sample(self, images: dict[str, Any]) -> torch.Tensor:
        """The captions to be weighed: drawn from the model, or its decoded beam (the paper's variant).

        Drawn from all words, the unknown word too: a word that is never drawn is never pushed down, so probability
        would drift to it until the gradient is that of another policy.
        """
        settings = self.recipe.train
        decoding: dict[str, Any] = {"num_return_sequences": settings.samples_per_image, "no_repeat_ngram_size": 0}
        decoding |= self.decoding(self.model)
        if settings.baseline == "beam":
            decoding |= {"num_beams": settings.samples_per_image, "do_sample": False}
        else:
            decoding |= {"num_beams": 1, "do_sample": True, "top_k": 0, "suppress_tokens": []}
            decoding["temperature"] = settings.sample_temperature
        return self.decode(images, **decoding)

    def baseline(
        self, rewards: torch.Tensor, samples: int, images: dict[str, Any], image_index: torch.Tensor
    ) -> torch.Tensor:
        """What each sample's reward is measured against, (P * samples,)."""
        kind = self.recipe.train.baseline
        by_image = rewards.view(-1, samples)
        if kind == "greedy":
            free = {"num_beams": 1, "do_sample": False, "no_repeat_ngram_size": 0}
            greedy = self.decode(images, **free, **self.decoding(self.model))
            return self.reward(self.each_reward(greedy, image_index)).repeat_interleave(samples)
        if kind == "beam":
            return by_image.mean(dim=1).repeat_interleave(samples)
        others = (by_image.sum(dim=1, keepdim=True) - by_image) / max(1, samples - 1)
        return others.flatten()

    def each_reward(self, sequences: torch.Tensor, image_index: torch.Tensor) -> dict[str, np.ndarray]:
        """The metrics (N,) of `train.rewards` of token ids (N, T), BOS first, against captions of their images (N,)."""
        assert self.scorer is not None  # `prepare` makes it for this objective
        return self.scorer.each(sequences[:, 1:], image_index)

    def reward(self, each: dict[str, np.ndarray]) -> torch.Tensor:
        """Their weighted sum (N,)."""
        assert self.scorer is not None
        return torch.from_numpy(self.scorer.total(each)).float()

    def decoding(self, model: Any) -> dict[str, Any]:
        """What every way to decode shares; a model whose scores of words are no numbers is refused."""
        return {
            "max_new_tokens": self.recipe.train.max_words,
            "logits_processor": LogitsProcessorList([FiniteScores(model)]),
        }

    @torch.no_grad()
    def decode(self, images: dict[str, Any], **decoding: Any) -> torch.Tensor:
        """Captions with dropout off, (rows, T) with BOS; the model's mode is left as it was."""
        training = self.model.training
        self.model.eval()
        try:
            return self.model.generate(**images, **decoding)
        finally:
            self.model.train(training)

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(
        self,
        model: Any,
        *,
        split: str,
        num_beams: int,
        max_images: int = 0,
        objects: Mapping[str, Collection[str]] | None = None,
    ) -> Scored:
        """Caption a split, every process its share, and score it with the official metrics (per domain where named).

        objects: image id -> names of its boxes; images with boxes are then captioned as well, and scored by CHAIR.
        """
        if objects is None:
            rows = self.evaluation_rows(split, max_images=max_images)
        else:
            rows = self.images.prepare(boxed_rows(self.rows(split), objects, split=split))
        return scored_captions(self.captions(model, rows, num_beams=num_beams), rows, objects=objects)

    @torch.no_grad()
    def score_all(self, model: Any, *, split: str, num_beams: int) -> Scored:
        """Caption every image of a split, those whose captions are hidden too; what has captions is scored.

        Raises `ValueError` for images that cannot be captioned, since organisers want a caption of each.
        """
        wanted = self.rows(split)
        rows = self.images.prepare(wanted)
        lost = sorted({*wanted["image_id"]} - {*rows["image_id"]})
        if lost:
            raise ValueError(
                f"{len(lost)} of the {len(wanted)} images of {split!r} have no regions, such as {lost[0]}, and a "
                "submission needs a caption of each: make their regions, or mend the images"
            )
        return scored_captions(self.captions(model, rows, num_beams=num_beams), rows)

    @torch.no_grad()
    def add_samples(
        self, evaluation: dict[str, Any], scored: Scored, model: Any, *, split: str, num_samples: int
    ) -> None:
        """Draw captions of each image from the model's words as they are likely, and add how they differ.

        Images without human captions have none drawn, since CIDEr's document frequencies are those of the human ones.
        """
        rows = self.evaluation_rows(split)
        drawing: dict[str, Any] = {"do_sample": True, "top_k": 0, "temperature": 1.0}
        repeats = self.recipe.evaluate.no_repeat_ngram_size
        more = {"num_beams": 1, "num_return_sequences": num_samples, "no_repeat_ngram_size": repeats}
        model.eval()
        evaluation["samples"] = {"num_samples": num_samples, **drawing}
        add_diversity(evaluation, scored, self.written(model, rows, drawing | more, name="sampling"), rows)

    def captions(self, model: Any, rows: Dataset, *, num_beams: int) -> list[str]:
        """A caption of each row, every process making its share."""
        model.eval()
        decoding = beams(num_beams, self.recipe.evaluate)
        return [texts[0] for texts in self.written(model, rows, decoding, name=f"captioning, {num_beams} beams")]

    def written(self, model: Any, rows: Dataset, decoding: dict[str, Any], *, name: str) -> list[list[str]]:
        """The captions of each row, every process making its share; `name` stands beside the progress."""
        found = gather_object(list(self.captioned(model, rows, decoding, name=name)))
        return [prediction["captions"] for prediction in sorted(found, key=itemgetter("row"))]

    def write_submission(self, scored: Scored, path: str | Path, *, split: str) -> None:
        """Write the captions as COCO's, nocaps' and VizWiz' evaluation servers take them.

        That is `[{"image_id": 42, "caption": "a dog"}]`, where ids that are numbers are written as numbers.
        """
        write_json(path, [{**row, "image_id": as_number(row["image_id"])} for row in scored.predictions], indent=None)

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """What an evaluation says: the hundredfold metrics, for each domain too, and how captions were decoded."""
        decoding = beams(num_beams, self.recipe.evaluate)
        said = {key: value for key, value in decoding.items() if key != "do_sample"}
        if not said["no_repeat_ngram_size"]:
            del said["no_repeat_ngram_size"]  # forbids nothing
        return {
            "decoding": said,
            **caption_figures(scored.metrics, scored.domains),
        }

    def captioned(self, model: Any, rows: Dataset, decoding: dict[str, Any], *, name: str) -> Iterator[dict[str, Any]]:
        """This process's share of the rows, each with its captions."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.arange(len(rows))[accelerator.process_index :: accelerator.num_processes]
        with tqdm(total=len(mine), desc=name, disable=not accelerator.is_main_process) as bar:
            for start in range(0, len(mine), size):
                indices = mine[start : start + size]
                images = self.on_device(self.image_inputs(rows, indices))
                ids = model.generate(**images, **decoding, **self.decoding(model))
                texts = self.processor.batch_decode(ids, skip_special_tokens=True)
                each = len(texts) // len(indices)
                yield from (
                    {"row": int(i), "captions": texts[place * each : (place + 1) * each]}
                    for place, i in enumerate(indices)
                )
                bar.update(len(indices))


def beams(num_beams: int, settings: EvaluateRecipe) -> dict[str, Any]:
    """Greedy or beam decoding as `generate` takes it; the length penalty means something to beams alone."""
    decoding: dict[str, Any] = {"num_beams": num_beams, "do_sample": False}
    decoding["no_repeat_ngram_size"] = settings.no_repeat_ngram_size
    return decoding | ({"length_penalty": settings.length_penalty} if num_beams > 1 else {})


def set_generation(model: Any, recipe: Recipe, *, never: set[int]) -> None:
    """Let a new model's `generate` write as the recipe's final evaluation does, without the words `never`."""
    generation = model.generation_config
    generation.update(**beams(recipe.evaluate.final_num_beams, recipe.evaluate))
    generation.max_new_tokens, generation.max_length = recipe.train.max_words, None
    generation.suppress_tokens = sorted(never)


def words_until_end(words: torch.Tensor, end_token_id: int) -> torch.Tensor:
    """(N, T) -> (N, T) bool: True up to and with the first end token.

    >>> words_until_end(torch.tensor([[5, 2, 0], [5, 6, 7]]), 2).tolist()
    [[True, True, False], [True, True, True]]
    """
    ended = (words == end_token_id).cumsum(dim=1)
    return (ended - (words == end_token_id).long()) == 0


def score_captions(
    recipe: Recipe,
    predictions: str | Path,
    *,
    split: str,
    objects: Mapping[str, Collection[str]] | None = None,
) -> tuple[Scored, dict[str, Any], Dataset]:
    """Score a file in COCO's result layout against the captions of a recipe's data, without any model or image.

    predictions: `[{"image_id": 42, "caption": "a dog"}, ...]`, one entry for each image of the split that has captions
    or, with `objects` (image id -> names of its boxes), boxes; ids may be numbers or strings. Returns the scores, what
    an evaluation says of them, and the rows. Raises `ValueError` naming ids that are missing, unknown or given twice,
    and for a file of another layout.
    """
    without_images = {"images": None} if "images" in recipe.data else {}
    rows = caption_rows({**recipe.data, **without_images}, split=split)
    rows = captioned_rows(rows, split=split) if objects is None else boxed_rows(rows, objects, split=split)
    captions = captions_of(read_predictions(predictions), rows["image_id"][:], source=predictions)
    scored = scored_captions(captions, rows, objects=objects)
    return scored, caption_figures(scored.metrics, scored.domains), rows


def check_recipe(recipe: CaptioningRecipe) -> None:
    """`ValueError` for a single sample of an image that is to be compared with others, and as `check_texts` and
    `check_rewards`."""
    check_texts(recipe)
    check_rewards(recipe.train.rewards)
    train = recipe.train
    if train.objective == "self_critical" and train.baseline != "greedy" and train.samples_per_image < 2:
        raise ValueError(
            f"train: baseline {train.baseline!r} compares samples of an image: raise samples_per_image to 2"
        )


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a captioner writes with, as a card says it."""
    return {"Vocabulary": f"{config.vocab_size} words, special tokens included", **decoding_facts(folder)}


SPEC = TaskSpec(
    name="captioning",
    task=CaptioningTask,
    hub_task="image-to-text",
    counted="photos",
    models=("UpDownForImageCaptioning",),
    formats=FORMATS,
    reads=(
        *(*LOOP_READS, "regions", "train.label_smoothing", "train.max_words"),
        *("train.min_word_count", "train.samples_per_image", "train.baseline", "train.sample_temperature"),
        "train.rewards",
        "train.captions_per_image",
        *("train.scheduled_sampling_increase", "train.scheduled_sampling_epochs", "train.scheduled_sampling_max"),
        *("evaluate.num_beams", "evaluate.final_num_beams", "evaluate.length_penalty"),
        "evaluate.no_repeat_ngram_size",
    ),
    recipe=CaptioningRecipe,
    check=check_recipe,
    card_facts=card_facts,
    objectives=("cross_entropy", "self_critical"),
    metrics={
        **{f"bleu_{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)},
        "rouge_l": "ROUGE-L",
        "cider": "CIDEr",
        "cider_d": "CIDEr-D",
        "cider_plain": "CIDEr without clipping",
        "meteor": "METEOR",
        "spice": "SPICE",
        "spice_spacy": "SPICE by spaCy",
        **{f"spice_spacy_{name}": f"SPICE by spaCy, {called}" for name, called in SPICE_PARTS.items()},
        "chair_s": "CHAIRs",
        "chair_i": "CHAIRi",
        "chair_recall": "recall of objects",
        "chair_s_corrected": "CHAIRs, corrected",
        "chair_i_corrected": "CHAIRi, corrected",
        "chair_recall_corrected": "recall of objects, corrected",
        **{f"div_{n}": f"Div-{n} of samples" for n in (1, 2)},
        **{f"mbleu_{n}": f"mBLEU-{n} of samples" for n in (1, 2, 3, 4)},
        "self_cider": "self-CIDEr of samples",
        "oracle_cider": "CIDEr-D of the best sample",
        "sample_cider": "CIDEr-D of samples",
        "distinct_words": "words in all samples",
    },
    best_by=("cider_d", "cider", "cider_plain", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"),
    score_file=score_captions,
    submits=True,
    add_java=add_java_scores,
    add_parsed=add_parsed_scores,
    scores_objects=True,
    draws_samples=True,
)
