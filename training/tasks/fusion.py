"""What the tasks of fusion models share: the text encoder with its tokenizer, heads that may be new, rows in shares.

A model is built on a pretrained text encoder (`text.pretrained`), or on a new one (`model.text_config`) with word
pieces of the training texts. A model of `init_from` may have been trained with other heads: the recipe's are new then.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from modeling_updown.compat_updown import checkpoint_activations
from training.recipe_sections import Recipe
from training.tasks.build import build_on_text, build_region_source, load_with_new_heads, source_fields
from training.tasks.top_down import TopDownTask
from training.text.word_pieces import train_word_pieces

FUSION_READS = ("regions", "text", "train.max_words", "train.gradient_checkpointing", "train.frozen_encoder")
# Whatever the model of init_from had:
SETTLED_BY_RECIPE = (
    *("objectives", "match_by", "hard_negatives", "match_share", "distillation"),
    *("time_embedding", "clip_pooling", "clip_layers", "clip_heads"),
)


class FusionTask(TopDownTask):
    """A recipe's data, fusion model and processor; the verbs are the subclass's.

    default_objectives: what a model learns whose recipe names no `model.objectives`.
    """

    default_objectives: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        self.settled: dict[str, Any] = {}
        self.shared_texts: Sequence[str] = ()  # of other tasks, whose words a new vocabulary is to have too

    # -- model --------------------------------------------------------------------------------------------------------

    def build_fusion(self, texts: Iterable[str], **fields: Any) -> Any:
        """A new model; without a pretrained text encoder its word pieces are those of `texts`.

        fields: of the model's config, beside those of the recipe.
        """
        recipe = self.recipe
        texts = itertools.chain(texts, self.shared_texts)
        source = build_region_source(recipe.regions)
        model, tokenizer = build_on_text(
            self.model_class,
            recipe,
            {
                "objectives": dict.fromkeys(self.default_objectives, 1.0),
                **self.head_fields(source[0]),
                **recipe.model,
                **source_fields(source[0], recipe.regions),
                **fields,
            },
            token_ids=fusion_token_ids,
            new_tokenizer=partial(train_word_pieces, texts, vocabulary_size=recipe.text.vocabulary_size),
            new_text_model="bert",
        )
        return self.assembled(model, tokenizer, source)

    def head_fields(self, vision_config: PreTrainedConfig | None) -> dict[str, Any]:
        """Fields of the config that the regions settle, besides their width."""
        return {}

    def settled_fields(self) -> dict[str, Any]:
        """The fields of the config that the recipe settles, whatever the model of `init_from` was saved with."""
        fields = {"objectives": dict.fromkeys(self.default_objectives, 1.0), **self.recipe.model}
        return {name: value for name, value in fields.items() if name in SETTLED_BY_RECIPE}

    def load_weights(self, folder: str | Path) -> Any:
        """As the base class has it; a model of `init_from` gets the recipe's heads, of which some may be new."""
        if not self.settled:
            return super().load_weights(folder)
        return load_with_new_heads(self.model_class, str(folder), **self.settled)

    def start_from(self, folder: str) -> Any:
        """A saved fusion model, also one with other heads; those that it lacks start new."""
        whole, self.settled = self.recipe.model, self.settled_fields()
        self.recipe.model = {name: value for name, value in whole.items() if name not in self.settled}
        self.any_head = True
        try:
            return super().start_from(folder)
        except RuntimeError as error:  # of other shapes; transformers has printed which
            raise ValueError(
                f"the heads of {folder} do not fit `model`: leave out what they have settled, such as match_by"
            ) from error
        finally:
            self.recipe.model, self.settled, self.any_head = whole, {}, False

    def set_trained(self) -> None:
        """As the base class has it; the recipe may freeze the encoder, or layers of the text encoder alone, or have all
        made twice.

        Raises `ValueError` for an encoder frozen at random weights, or beside a trained region source.
        """
        super().set_trained()
        freeze_text(self.model, self.recipe.text.frozen_layers)
        if self.recipe.train.frozen_encoder:
            freeze_encoder(self.model, self.recipe)
        if self.recipe.train.gradient_checkpointing:
            checkpoint_activations(self.model)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encode(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each text's token ids, cut to `train.max_words` pieces and the special tokens."""
        if not texts:
            return []
        tokenizer = self.processor.tokenizer
        longest = self.recipe.train.max_words + tokenizer.num_special_tokens_to_add()
        encoded = tokenizer(list(texts), truncation=True, max_length=longest)
        return [torch.tensor(ids) for ids in encoded["input_ids"]]

    def tokenize(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (N, T)."""
        return self.word_inputs(self.encode(texts))

    # -- score --------------------------------------------------------------------------------------------------------

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


def fusion_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The fields of a fusion model's config that its tokenizer settles."""
    return {name: getattr(tokenizer, name) for name in ("cls_token_id", "pad_token_id")}


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


def freeze_encoder(model: Any, recipe: Recipe) -> None:
    """Leave the fusion model's encoder out of training; `ValueError` where some of it has learnt nothing.

    `text.pretrained` settles the text encoder alone: the embedding of regions beside it would stay at random weights.
    """
    if not recipe.init_from:
        raise ValueError("train.frozen_encoder keeps random weights: name a trained model in init_from")
    if recipe.regions.trained:
        raise ValueError("train.frozen_encoder beside regions.trained: leave one of them out")
    model.fusion.requires_grad_(False)


def withheld_regions(config: PreTrainedConfig, number: int) -> dict[str, torch.Tensor]:
    """What stands in for the images that `train.withhold=image` withholds: one and the same region, the whole image.

    `region_features` (number, 1, D), `region_boxes` (number, 1, 4), and no object or attribute where the model reads
    these.
    """
    unnamed = {kind.probs: torch.zeros(number, 1, getattr(config, kind.name) + 1) for kind in config.tag_kinds}
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(number, 1, 4)
    return {"region_features": torch.ones(number, 1, config.region_feature_size), "region_boxes": whole, **unnamed}
