"""Captioning: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

Cross-entropy first (the paper, equation 11), then self-critical CIDEr-D (equations 12-14): captions are sampled, scored
against the photo's own captions, and their log-probability is pushed by how much they beat a baseline.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownForImageCaptioning,
    UpDownImageProcessor,
    UpDownProcessor,
    UpDownTokenizer,
    caption_token_ids,
)
from modeling_updown.losses_updown import self_critical_loss
from training.data.captioning import load_captions
from training.extract_regions import PhotoRegions
from training.metrics.caption import CiderD, caption_scores
from training.recipe import Recipe
from training.tasks.build import build_region_source, word_bias

CAPTIONS_PER_PHOTO = 5


@dataclass
class Scored:
    """What `score` returns: the split's metrics, and each photo's caption."""

    metrics: dict[str, float]
    predictions: list[dict[str, str]]
    domains: dict[str, dict[str, float]]


class CaptioningTask:
    """A recipe's data, model and processor, and the four verbs on them."""

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        self.recipe, self.accelerator = recipe, accelerator
        self.train_rows = self.rows(recipe.train.split)
        self.num_rows = len(self.train_rows)
        self.captions: list[list[str]] = [list(captions) for captions in self.train_rows["captions"]]
        uncaptioned = [i for i, captions in enumerate(self.captions) if not captions]
        if uncaptioned:
            raise ValueError(
                f"{len(uncaptioned)} training photos have no caption, such as "
                f"{self.train_rows[uncaptioned[0]]['image_id']}: give them captions or another split"
            )
        self.model, self.processor = self.load(recipe.init_from) if recipe.init_from else self.build()
        self.model.config.label_smoothing = recipe.train.label_smoothing
        if recipe.regions.trained:
            self.model.unfreeze_regions()
        self.photos = PhotoRegions(recipe, self.model, self.processor.image_processor, accelerator)
        self.token_ids = self.encode_captions()
        self.scorer: CiderD | None = None
        if recipe.train.objective == "self_critical":
            eos, pad = self.processor.tokenizer.eos_token_id, self.processor.tokenizer.pad_token_id
            references = [[row[1:].tolist() for row in rows] for rows in self.token_ids]
            self.scorer = CiderD.from_token_ids(references, end_token_id=eos, pad_token_id=pad)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row a photo of that split: image_id, image, captions, split, domain."""
        return load_captions(**{**self.recipe.data, "split": split})

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self) -> tuple[UpDownForImageCaptioning, UpDownProcessor]:
        """A new model and processor: a vocabulary from the training captions, random weights but for the backbone's."""
        recipe = self.recipe
        tokenizer = UpDownTokenizer.from_captions(
            itertools.chain.from_iterable(self.captions), min_count=recipe.train.min_word_count
        )
        vision_config, source_state = build_region_source(recipe.regions)
        config = UpDownCaptioningConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            unk_token_id=tokenizer.unk_token_id,
            vision_config=vision_config,
            **recipe.model,
        )
        model = UpDownForImageCaptioning(config)
        model.region_source.load_state_dict(source_state)
        model.lm_head.bias.data.copy_(word_bias(tokenizer, self.captions))
        generation = model.generation_config
        generation.num_beams, generation.max_new_tokens = recipe.evaluate.final_num_beams, recipe.train.max_words
        generation.do_sample, generation.max_length = False, None
        generation.suppress_tokens = sorted({config.pad_token_id, config.bos_token_id, config.unk_token_id})
        side = vision_config.image_size
        return model, UpDownProcessor(UpDownImageProcessor(size={"height": side, "width": side}), tokenizer)

    def load(self, folder: str | Path) -> tuple[UpDownForImageCaptioning, UpDownProcessor]:
        """The model and processor of a saved folder, in float32."""
        model = UpDownForImageCaptioning.from_pretrained(folder, dtype=torch.float32)
        return model, UpDownProcessor.from_pretrained(folder)

    def save(self, model: torch.nn.Module, folder: Path) -> None:
        """Write model and processor as one `save_pretrained` folder."""
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encode_captions(self) -> list[list[torch.Tensor]]:
        """Every training caption as BOS, words, EOS: a list a photo."""
        encoded = caption_token_ids(
            self.processor.tokenizer,
            list(itertools.chain.from_iterable(self.captions)),
            max_tokens=self.recipe.train.max_words,
        )
        lengths = encoded["attention_mask"].sum(dim=1).tolist()
        rows = iter([row[:length] for row, length in zip(encoded["input_ids"], lengths, strict=True)])
        return [list(itertools.islice(rows, len(captions))) for captions in self.captions]

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Photos (P) and, for cross-entropy, their captions (P x 5, T); the same for (indices, epoch) in any process."""
        draws = [np.random.default_rng([self.recipe.seed, epoch, int(index)]) for index in indices]
        flipped = np.array([self.recipe.regions.flips and draw.random() < 0.5 for draw in draws])
        inputs: dict[str, Any] = self.photos.batch(self.train_rows, indices, flipped=flipped)
        inputs["photo_index"] = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        if self.scorer is None:
            chosen = [self.chosen_captions(int(i), draw) for i, draw in zip(indices, draws, strict=True)]
            padding = self.processor.tokenizer.pad_token_id
            rows = list(itertools.chain.from_iterable(chosen))
            inputs["input_ids"] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
            lengths = torch.tensor([len(row) for row in rows])
            inputs["attention_mask"] = torch.arange(inputs["input_ids"].shape[1]) < lengths[:, None]
        return inputs

    def chosen_captions(self, index: int, draw: np.random.Generator) -> list[torch.Tensor]:
        """Five of a photo's captions: all where it has five, a draw where it has more, some twice where fewer."""
        rows = self.token_ids[index]
        if len(rows) > CAPTIONS_PER_PHOTO:
            return [rows[i] for i in draw.permutation(len(rows))[:CAPTIONS_PER_PHOTO]]
        return [rows[i % len(rows)] for i in range(CAPTIONS_PER_PHOTO)]

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, str]]:
        """Sum of the loss over words, the number of words, and what the progress bar shows."""
        photo_index = inputs.pop("photo_index")
        if self.scorer is not None:
            return self.self_critical(model, inputs, photo_index)
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
        self, model: torch.nn.Module, photos: dict[str, Any], photo_index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, str]]:
        """Sample captions, weigh them by reward minus baseline; the end token is a word of reward and loss."""
        sampled = self.sample(photos)  # (P * samples, T) with BOS
        samples = len(sampled) // len(photo_index)
        owner = photo_index.repeat_interleave(samples)
        rewards = torch.from_numpy(self.scorer.reward(sampled[:, 1:], owner)).float()
        advantage = (rewards - self.baseline(rewards, samples, photos, photo_index)).to(sampled.device)
        words = sampled[:, 1:]
        mask = words_until_end(words, self.processor.tokenizer.eos_token_id)
        output = model(
            input_ids=sampled[:, :-1], attention_mask=mask, shift_labels=words.masked_fill(~mask, -100), **photos
        )
        count = mask.sum()
        total = self_critical_loss(output.label_log_probs, advantage, mask) * count
        return total, count, {"reward": f"{100 * rewards.mean():.1f}", "words": f"{count / len(sampled):.1f}"}

    @torch.no_grad()
    def sample(self, photos: dict[str, Any]) -> torch.Tensor:
        """The captions to be weighed: drawn from the model, or its decoded beam (the paper's variant)."""
        settings = self.recipe.train
        decoding: dict[str, Any] = {"num_return_sequences": settings.samples_per_photo, **self.decoding()}
        if settings.baseline == "beam":
            decoding |= {"num_beams": settings.samples_per_photo, "do_sample": False}
        else:
            decoding |= {"num_beams": 1, "do_sample": True, "top_k": 0, "temperature": settings.sample_temperature}
        return self.decode(photos, **decoding)

    def baseline(
        self, rewards: torch.Tensor, samples: int, photos: dict[str, Any], photo_index: torch.Tensor
    ) -> torch.Tensor:
        """What each sample's reward is measured against, (P * samples,)."""
        kind = self.recipe.train.baseline
        by_photo = rewards.view(-1, samples)
        if kind == "greedy":
            greedy = self.decode(photos, num_beams=1, do_sample=False, **self.decoding())
            return torch.from_numpy(self.scorer.reward(greedy[:, 1:], photo_index)).float().repeat_interleave(samples)
        if kind == "beam":
            return by_photo.mean(dim=1).repeat_interleave(samples)
        others = (by_photo.sum(dim=1, keepdim=True) - by_photo) / max(1, samples - 1)
        return others.flatten()

    def decoding(self) -> dict[str, Any]:
        return {"max_new_tokens": self.recipe.train.max_words}

    @torch.no_grad()
    def decode(self, photos: dict[str, Any], **decoding: Any) -> torch.Tensor:
        """Captions with dropout off, (rows, T) with BOS; the model's mode is left as it was."""
        training = self.model.training
        self.model.eval()
        try:
            return self.model.generate(**photos, **decoding)
        finally:
            self.model.train(training)

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(
        self, model: torch.nn.Module, *, split: str, num_beams: int, max_photos: int = 0, java: bool = False
    ) -> Scored:
        """Caption a split, every process its share, and score it with the official metrics (per domain where named)."""
        model.eval()
        rows = self.rows(split)
        rows = rows.select(range(min(max_photos, len(rows)))) if max_photos else rows
        predictions = sorted(gather_object(list(self.captioned(model, rows, num_beams))), key=lambda row: row["row"])
        captions = [prediction.pop("caption") for prediction in predictions]
        references = [list(captions) for captions in rows["captions"]]
        domains = sorted(set(rows["domain"]) - {""})
        by_domain = {}
        for domain in domains:
            chosen = [i for i, name in enumerate(rows["domain"]) if name == domain]
            by_domain[domain] = summary([captions[i] for i in chosen], [references[i] for i in chosen])
        return Scored(
            summary(captions, references),
            [{"image_id": rows[i]["image_id"], "caption": caption} for i, caption in enumerate(captions)],
            by_domain,
        )

    def captioned(self, model: torch.nn.Module, rows: Dataset, num_beams: int) -> Iterator[dict[str, Any]]:
        """This process's share of the rows, each with its caption."""
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = np.arange(len(rows))[accelerator.process_index :: accelerator.num_processes]
        bar = tqdm(total=len(mine), desc=f"captioning, {num_beams} beams", disable=not accelerator.is_main_process)
        for start in range(0, len(mine), size):
            indices = mine[start : start + size]
            photos = self.photos.batch(rows, indices, flipped=np.zeros(len(indices), dtype=bool))
            photos = {name: tensor.to(accelerator.device) for name, tensor in photos.items()}
            with accelerator.autocast():
                ids = model.generate(**photos, num_beams=num_beams, do_sample=False, **self.decoding())
            captions = self.processor.batch_decode(ids, skip_special_tokens=True)
            yield from ({"row": int(i), "caption": text} for i, text in zip(indices, captions, strict=True))
            bar.update(len(indices))
        bar.close()


def words_until_end(words: torch.Tensor, end_token_id: int) -> torch.Tensor:
    """(N, T) -> (N, T) bool: True up to and with the first end token."""
    ended = (words == end_token_id).cumsum(dim=1)
    return (ended - (words == end_token_id).long()) == 0


def summary(captions: list[str], references: list[list[str]]) -> dict[str, float]:
    """The corpus values of `caption_scores`, without those of each photo."""
    return {name: value for name, value in caption_scores(captions, references).items() if name != "per_item"}
