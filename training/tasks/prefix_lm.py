"""Captioning by a language model with the regions as its prefix: the rows, loss and scores are those of captioning.

A pretrained language model brings its own tokenizer (`text.pretrained`); a new one, whose sizes are
`model.text_config`, has the words of the training captions.
"""

import dataclasses
import itertools
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from modeling_updown import UpDownTokenizer, boundary_token_ids
from modeling_updown.compat_updown import checkpoint_activations
from training.tasks import captioning
from training.tasks.build import build_on_text, build_region_source, source_fields
from training.tasks.captioning import CaptioningTask, set_generation
from training.tasks.card_facts import decoding_facts, text_facts

TUNING_NAMES = {
    "full": "all weights of the language model, no adapters",
    "frozen": "the language model is the pretrained one, its weights never trained",
    "lora": "adapters of rank {rank} (LoRA) beside the language model's weights; loading them needs peft",
}


class PrefixLMTask(CaptioningTask):
    """A recipe's data, model and processor, and the four verbs on them; see the module's docstring."""

    def set_trained(self) -> None:
        """As the base class has it; layers are made twice where the recipe would rather have memory than time."""
        super().set_trained()
        if self.recipe.train.gradient_checkpointing:
            checkpoint_activations(self.model)

    def build(self, captions: list[list[str]]) -> Any:
        """A new model: a pretrained language model, or a new one with the words of the training captions."""
        recipe = self.recipe
        source = build_region_source(recipe.regions)
        model, tokenizer = build_on_text(
            self.model_class,
            recipe,
            {**recipe.model, **source_fields(source[0], recipe.regions)},
            token_ids=boundary_token_ids,
            new_tokenizer=partial(
                UpDownTokenizer.from_captions,
                itertools.chain.from_iterable(captions),
                min_count=recipe.train.min_word_count,
            ),
            new_text_model="gpt2",
        )
        own = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
        set_generation(model, recipe, never=set() if recipe.text.pretrained else set(own))
        return self.assembled(model, tokenizer, source)


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What a prefix language model writes with and how, and how the regions stand before the words."""
    seen = {"full": "all regions of the image", "causal": "the regions before it"}[config.prefix_attention]
    return {
        **text_facts(config, role="Language model"),
        "A region sees": seen,
        "A region's box": "embedded and added" if config.box_embedding else "not read",
        "Tuning": TUNING_NAMES[config.tuning].format(rank=config.lora_rank),
        **decoding_facts(folder),
    }


SPEC = dataclasses.replace(
    captioning.SPEC,
    name="prefix_lm",
    task=PrefixLMTask,
    card_facts=card_facts,
    models=("UpDownPrefixLMForImageCaptioning",),
    reads=(
        *(key for key in captioning.SPEC.reads if not key.startswith("train.scheduled_sampling")),
        *("text.pretrained", "text.learning_rate", "train.gradient_checkpointing"),
    ),
)
