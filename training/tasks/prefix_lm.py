"""Captioning by a language model with the regions as its prefix: the rows, loss and scores are those of captioning.

A pretrained language model brings its own tokenizer (`text.pretrained`); a new one, whose sizes are
`model.text_config`, has the words of the training captions.
"""

import dataclasses
import itertools
from typing import Any

from modeling_updown import (
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
    UpDownProcessor,
    UpDownTokenizer,
    boundary_token_ids,
)
from modeling_updown.compat_updown import checkpoint_activations
from training.tasks import captioning
from training.tasks.build import (
    BOUNDARIES,
    build_config,
    build_image_processor,
    build_on_pretrained_text,
    build_region_source,
    source_fields,
)
from training.tasks.captioning import CaptioningTask, set_generation


class PrefixLMTask(CaptioningTask):
    """A recipe's data, model and processor, and the four verbs on them; see the module's docstring."""

    def prepare(self) -> None:
        """As for captioning; layers are made twice where the recipe would rather have memory than time."""
        super().prepare()
        if self.recipe.train.gradient_checkpointing:
            checkpoint_activations(self.model)

    def build(self, captions: list[list[str]]) -> Any:
        """A new model: a pretrained language model, or a new one with the words of the training captions."""
        recipe = self.recipe
        vision_config, source_state = build_region_source(recipe.regions)
        fields = {**recipe.model, **source_fields(vision_config, recipe.regions)}
        never: set[int] = set()
        if recipe.text.pretrained:
            model, tokenizer = build_on_pretrained_text(self.model_class, recipe, fields, special=BOUNDARIES)
        else:
            tokenizer = UpDownTokenizer.from_captions(
                itertools.chain.from_iterable(captions), min_count=recipe.train.min_word_count
            )
            special = boundary_token_ids(tokenizer)
            text = {"model_type": "gpt2", **(fields.pop("text_config", None) or {})}
            fields["text_config"] = {**text, **special, "vocab_size": len(tokenizer)}
            model = UpDownPrefixLMForImageCaptioning(
                build_config(UpDownPrefixLMConfig, fields, section="model", **special)
            )
            never = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}
        if model.region_source is not None:
            model.region_source.load_state_dict(source_state)
        set_generation(model, recipe, never=never)
        self.adopt(model, UpDownProcessor(build_image_processor(vision_config, recipe.regions), tokenizer))
        return model


SPEC = dataclasses.replace(
    captioning.SPEC,
    name="prefix_lm",
    task=PrefixLMTask,
    models=("UpDownPrefixLMForImageCaptioning",),
    reads=(
        *(key for key in captioning.SPEC.reads if not key.startswith("train.scheduled_sampling")),
        *("text.pretrained", "text.learning_rate", "train.gradient_checkpointing"),
    ),
)
