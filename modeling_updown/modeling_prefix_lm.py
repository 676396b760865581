"""`Regions` -> words by a language model: regions stand as the prefix before the words of any Hugging Face causal LM.

    r_i = W LN(v_i) + W_b [x1, y1, x2, y2, width, height, area]         a region in the space of word embeddings
    L   = -sum_t log p(w_t | w_<t, r_1 .. r_R)                          Prefix-LM (Raffel et al. 2020, section 3.2.1;
                                                                        for images SimVLM, Wang et al. 2022)

Regions see each other, words see the regions and the words before them. No region sees a word, so the regions go
through the language model once an image and leave keys and values behind, which all captions and beams of the image
share. What trains of the language model is `config.tuning`: all, nothing (as Frozen, Tsimpoukelli et al. 2021) or
adapters of low rank (LoRA, Hu et al. 2022).
"""

import copy
import inspect
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    Cache,
    Conv1D,
    DynamicCache,
    PreTrainedModel,
)

from .arguments_updown import standard_forward
from .boxes_updown import box_geometry
from .compat_updown import (
    ADAPTER,
    CACHE,
    WRAPPED,
    adapted_layers,
    attention_of,
    checkpoints_layers,
    eager_attention,
    has_fixed_size,
    keep_as_loaded,
    keeps_a_state,
    one_cache,
    prefix_mask,
)
from .configuration_text_updown import UpDownPrefixLMConfig
from .generation_updown import ImageGenerationMixin, words_of_labels
from .linear_updown import float_type
from .losses_updown import IGNORED_LABEL, caption_loss
from .modeling_base import UpDownTopDownModel, loading_fault
from .modeling_captioning import IMAGE_INPUTS
from .outputs_updown import UpDownPrefixLMOutput
from .regions_updown import Regions, checked_index, optional_fields
from .time_updown import region_times

NEEDED = ("inputs_embeds", "position_ids", CACHE)
# fields of text configs that bound how far back a word sees; padded regions take their place there
SPANS = ("max_position_embeddings", "sliding_window", "attention_chunk_size", "window_size")


@dataclass
class Prefix:
    """The regions of P images as the language model takes them."""

    states: torch.Tensor  # (P, R, E)
    region_mask: torch.Tensor  # (P, R) bool
    region_boxes: torch.Tensor | None  # (P, R, 4)

    def of_rows(self, image_index: torch.Tensor) -> "Prefix":
        """Those of the images that image_index (N,) names, as of N images."""
        boxes = None if self.region_boxes is None else self.region_boxes[image_index]
        return Prefix(self.states[image_index], self.region_mask[image_index], boxes)


class PrefixCache(Cache):
    """Keys and values of the regions and of the words so far, for N rows; its length counts words, as `generate` does.

    text: the language model's own cache of the same layers, whose length counts the regions too.
    region_mask (N, R) bool and region_boxes (P, R, 4): what the later words have to know of the images.
    """

    def __init__(self, text: DynamicCache, region_mask: torch.Tensor, region_boxes: torch.Tensor | None):
        super().__init__(layers=text.layers)
        self.text, self.region_mask, self.region_boxes = text, region_mask, region_boxes

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.text.get_seq_length(layer_idx) - self.region_mask.shape[1]

    def repeated(self, repeats: int) -> "PrefixCache":
        """Another cache that holds each row so often; what is added to it is not added to this one."""
        text = copy.copy(self.text)
        text.layers = [copy.copy(layer) for layer in self.text.layers]
        cache = PrefixCache(text, self.region_mask, self.region_boxes)
        cache.batch_repeat_interleave(repeats)
        return cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.region_mask = self.region_mask.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows = torch.arange(len(self.region_mask), device=self.region_mask.device)
        super().batch_select_indices(indices)
        self.region_mask = self.region_mask[indices]
        if self.region_boxes is not None:
            self.region_boxes = self.region_boxes[rows[indices] // (len(rows) // len(self.region_boxes))]


class PrefixEmbedding(nn.Module):
    """A region's feature with its tags, normalised, its box geometry and its time, each mapped to the width of word
    embeddings and added."""

    def __init__(self, config: UpDownPrefixLMConfig, *, size: int):
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.region_size)
        self.of_features = nn.Linear(config.region_size, size)  # W
        self.of_boxes = nn.Linear(7, size, bias=False) if config.box_embedding else None  # W_b
        self.of_times = nn.Linear(config.time_size, size, bias=False) if config.time_embedding else None  # W_t

    def forward(self, regions: Regions) -> Prefix:
        """R regions of P images -> `Prefix`; a padded region may hold anything, even NaN."""
        padding = ~regions.region_mask[..., None]
        dtype = float_type(self.of_features)
        features = regions.region_features.to(dtype).masked_fill(padding, 0)
        states = self.of_features(self.norm(features))  # (P, R, E)
        if self.of_boxes is not None:
            if regions.region_boxes is None:
                raise ValueError("This model embeds boxes (config.box_embedding): give region_boxes as well")
            geometry = box_geometry(regions.region_boxes).masked_fill(padding, 0)  # (P, R, 7)
            states = states + self.of_boxes(geometry.to(dtype))
        if self.of_times is not None:
            times = region_times(regions.region_seconds, regions.region_mask, kind=str(self.config.time_embedding))
            states = states + self.of_times(times.to(dtype))
        states = F.dropout(states, self.config.region_dropout, self.training)
        return Prefix(states, regions.region_mask, regions.region_boxes)


class UpDownPrefixLMForImageCaptioning(UpDownTopDownModel, ImageGenerationMixin):
    """Captions images with any Hugging Face causal language model; see the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask`. There may be
    S rows of words per image (captions, beams): N = P x S, rows of one image next to each other.

    Example:

    >>> from transformers import GPT2Config
    >>> gpt2 = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=30, bos_token_id=1, eos_token_id=2)
    >>> config = UpDownPrefixLMConfig(text_config=gpt2, region_feature_size=8)
    >>> model = UpDownPrefixLMForImageCaptioning(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> out = model(torch.tensor([[1, 5, 6], [1, 7, 8]]), **regions, output_attentions=True)
    >>> out.logits.shape, out.attentions[0].shape
    (torch.Size([2, 3, 30]), torch.Size([2, 3, 4]))
    """

    config_class = UpDownPrefixLMConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = True  # the loss is a mean over words, those of accumulated batches too
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["UpDownGrid", "PrefixEmbedding"]

    def __init__(self, config: UpDownPrefixLMConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # so the Trainer counts the words that are scored: all but the first of a row
        if language_model is None:  # in the type of the other weights, whatever the text config's own was
            language_model = AutoModelForCausalLM.from_config(config.text_config, dtype=torch.get_default_dtype())
        check_language_model(language_model, prefix_attention=config.prefix_attention)
        self.language_model: Any = language_model
        size = self.language_model.get_input_embeddings().weight.shape[1]
        self.prefix_embedding = PrefixEmbedding(config, size=size)
        self.build_region_tags()
        self.build_region_source()
        self.tune()
        self.post_init()

    # -- weights ------------------------------------------------------------------------------------------------------

    @classmethod
    def from_text_pretrained(
        cls, name_or_dir: str | Path, *, dtype: torch.dtype = torch.float32, **fields: Any
    ) -> Self:
        """A model whose language model has the weights of a pretrained one, all else new; in evaluation mode.

        name_or_dir: a folder or Hub id whose `config.json` names a causal language model; weights are read from
        safetensors alone and no code of the folder is run. fields: of `UpDownPrefixLMConfig`, such as
        `region_feature_size` or `tuning`. Raises `OSError` where there are no such weights, `ValueError` where some are
        missing.
        """
        language_model, info = AutoModelForCausalLM.from_pretrained(
            name_or_dir, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        fault = loading_fault(language_model, info)
        if fault:
            raise ValueError(fault)
        attention = attention_of(language_model)
        model = cls(UpDownPrefixLMConfig(text_config=language_model.config, **fields), language_model=language_model)
        if attention_of(language_model) != attention:
            language_model.set_attn_implementation(attention)  # the outer config has unset it
        return model.to(dtype).eval()

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As the base class does it.

        Raises `ValueError` for another `tuning` than the saved one's: names of weights depend on whether they have
        adapters, and those not found would be drawn at random.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        if any(WRAPPED in key for key in (*info["missing_keys"], *info["unexpected_keys"])):
            raise ValueError(
                f"{model.name_or_path} was saved with another `tuning` than {model.config.tuning!r}: load it as it is "
                f"and call model.set_tuning({model.config.tuning!r})"
            )
        return (model, info) if output_loading_info else model

    def freeze_as_made(self) -> None:
        """Freeze the region source and the language model, as the config says."""
        super().freeze_as_made()
        self.freeze_language_model()

    def set_tuning(self, tuning: str) -> None:
        """Choose what of the language model trains: "full", "frozen" or "lora", as in the config, which is changed.

        Adapters that are there are merged into the weights first; with "lora" new ones begin, which change nothing yet.
        """
        if self.config.tuning == "lora":
            self.merge_adapters()
        self.config.tuning = tuning
        self.tune()

    def tune(self) -> None:
        """Add adapters to the language model and freeze it, as `config.tuning` says."""
        if self.config.tuning == "lora":
            add_adapters(self.language_model, self.config)
        self.freeze_language_model()

    def freeze_language_model(self) -> None:
        """Leave out of training what of the language model `config.tuning` leaves out."""
        for name, weight in self.language_model.named_parameters():
            trains = self.config.tuning == "full" or (self.config.tuning == "lora" and ADAPTER in name)
            weight.requires_grad_(trains)

    def merge_adapters(self) -> None:
        """Add the adapters' products to the weights they stand beside and take them away; from now on `tuning` is
        "full", and neither this model nor its folder needs peft. Nothing happens where there are none.
        """
        if self.config.tuning != "lora":
            return
        for name, layer in adapted_layers(self.language_model):
            layer.merge(safe_merge=True)
            parent, _, own_name = name.rpartition(".")
            setattr(self.language_model.get_submodule(parent), own_name, layer.get_base_layer())
        del self.language_model.peft_config
        self.config.tuning = "full"
        self.tune()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    # -- regions and words --------------------------------------------------------------------------------------------

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        cache: PrefixCache | DynamicCache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: PrefixCache | DynamicCache | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> UpDownPrefixLMOutput | tuple:
        """Score the next word after each of the given ones.

        input_ids (N, T), or labels alone; regions of P images as `get_regions` takes them (with object_probs and
        attribute_probs, where the config has tags), or an earlier call's `cache` (also `past_key_values`);
        image_index (N,): the image of each row, by default N / P rows next to each other for every image.
        attention_mask (N, T), or with that cache of all words so far: a masked word leaves no trace. labels (N, T):
        input words, shifted here, -100 where not scored (`shift_labels`: shifted); -> `UpDownPrefixLMOutput`.
        """
        targets = kwargs.get("shift_labels")
        if labels is not None and targets is None:
            targets = F.pad(labels, (0, 1), value=IGNORED_LABEL)[..., 1:]
        use_cache = (self.config.use_cache if use_cache is None else use_cache) and targets is None
        words = self.embed_words(input_ids, inputs_embeds, labels)  # (N, T, E)
        images: Any = one_cache(cache, past_key_values)
        if not isinstance(images, PrefixCache):
            said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
            fields = optional_fields(kwargs | said)
            regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
            images = self.read_regions(regions, images, num_rows=len(words), image_index=image_index)
        with eager_attention(self.language_model, output_attentions):
            shown = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
            logits, hidden_states, attentions = self.run_words(
                words, images, attention_mask, **shown, logits_to_keep=logits_to_keep if targets is None else 0
            )
        loss, label_log_probs = self.score_labels(logits, targets, kwargs.get("num_items_in_batch"))
        return UpDownPrefixLMOutput(
            loss=loss,
            logits=logits,
            label_log_probs=label_log_probs,
            hidden_states=hidden_states,
            attentions=attentions,
            region_boxes=images.region_boxes if output_attentions else None,
            **{CACHE: images if use_cache and isinstance(images, PrefixCache) else None},
        )

    def embed_words(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N, T), or word embeddings (N, T, E) or labels (N, T) in its place, -> (N, T, E)."""
        if inputs_embeds is not None:
            return inputs_embeds
        return self.get_input_embeddings()(words_of_labels(labels, self.config) if input_ids is None else input_ids)

    def read_regions(
        self,
        regions: Regions,
        empty: DynamicCache | None = None,
        *,
        num_rows: int,
        image_index: torch.Tensor | None = None,
    ) -> Prefix | PrefixCache:
        """Take the regions through the language model, once an image; the cache has their keys and values for N rows.

        empty: the cache to fill, such as `generate` makes it; image_index: as in `forward`. Where layers checkpoint
        gradients and so keep no keys and values, the regions are embedded only.
        """
        features = self.with_tags(regions.region_features, regions)
        prefix = self.prefix_embedding(replace(regions, region_features=features))
        index = None if image_index is None else checked_rows(image_index, prefix.states, num_rows=num_rows)
        rows_per_image = check_rows(num_rows, len(prefix.states)) if index is None else 1
        if checkpoints_layers(self.language_model):
            return prefix if index is None else prefix.of_rows(index)
        text = DynamicCache(config=self.language_model.config.get_text_config(decoder=True)) if empty is None else empty
        if has_fixed_size(text) or text.get_seq_length() > 0:
            raise ValueError(
                f"the cache is a {type(text).__name__} that has no room for regions before the words: leave it "
                "out, and any cache_implementation of fixed size too"
            )
        mask = self.seen_mask(prefix.states, prefix.region_mask, num_regions=prefix.states.shape[1])
        self.language_model.base_model(
            inputs_embeds=prefix.states,
            attention_mask=mask,
            position_ids=places(prefix.region_mask),
            use_cache=True,
            **{CACHE: text},
        )
        cache = PrefixCache(text, prefix.region_mask, prefix.region_boxes)
        if index is not None:
            cache.batch_select_indices(index)
        elif rows_per_image > 1:
            cache.batch_repeat_interleave(rows_per_image)
        return cache

    def run_words(
        self,
        words: torch.Tensor,
        images: Prefix | PrefixCache,
        attention_mask: torch.Tensor | None,
        *,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        logits_to_keep: int | torch.Tensor,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None, tuple[torch.Tensor, ...] | None]:
        """The language model over words (N, T, E): after the cache, which then holds them too, or with the regions in
        one pass. -> logits, hidden states and region weights, as in `UpDownPrefixLMOutput`.
        """
        num_rows, num_words = words.shape[:2]
        num_regions = images.region_mask.shape[1]
        inputs: dict[str, Any] = {"inputs_embeds": words, "logits_to_keep": logits_to_keep}
        if isinstance(images, PrefixCache):
            length = images.get_seq_length() + num_words
            mask = torch.cat([images.region_mask, word_mask(attention_mask, words, length=length)], dim=1)
            inputs |= {"attention_mask": mask.long(), CACHE: images.text, "use_cache": True}
        else:
            rows_per_image = num_rows // len(images.states)
            states, regions = (x.repeat_interleave(rows_per_image, dim=0) for x in (images.states, images.region_mask))
            states = torch.cat([states, words], dim=1)  # (N, R + T, E)
            mask = torch.cat([regions, word_mask(attention_mask, words, length=num_words)], dim=1)
            inputs |= {"inputs_embeds": states, "logits_to_keep": num_words, "use_cache": False}
            inputs["attention_mask"] = self.seen_mask(states, mask, num_regions=num_regions)
        check_length(mask.shape[1], num_regions, self.language_model.config.get_text_config(decoder=True))
        inputs["position_ids"] = places(mask)[:, -inputs["inputs_embeds"].shape[1] :]
        output = self.language_model(
            **inputs, output_attentions=output_attentions, output_hidden_states=output_hidden_states
        )
        hidden_states, attentions = output.hidden_states, None
        if output_hidden_states and isinstance(images, Prefix):
            hidden_states = tuple(states[:, num_regions:] for states in hidden_states)
        if output_attentions:
            attentions = (region_weights(output.attentions, num_regions, num_words=num_words),)
        return output.logits, hidden_states, attentions

    def seen_mask(self, states: torch.Tensor, mask: torch.Tensor, *, num_regions: int) -> torch.Tensor:
        """Which of the regions and words (N, L) each of them sees, as the language model's attention takes it: the
        padding alone (N, L) where it is causal throughout, else (N, 1, L, L) with every region in each region's view.
        """
        if self.config.prefix_attention == "causal":
            return mask.long()
        config = self.language_model.config.get_text_config(decoder=True)
        return prefix_mask(config, states, mask, num_first=num_regions)

    def score_labels(
        self, logits: torch.Tensor, targets: torch.Tensor | None, num_items_in_batch: torch.Tensor | int | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """logits (N, T, V), the next word of each (N, T) or -100 -> the loss and log p(label) (N, T), or neither."""
        if targets is None:
            return None, None
        log_probs = logits.float().log_softmax(dim=-1)
        loss = caption_loss(
            log_probs.flatten(0, 1),
            targets.flatten(),
            label_smoothing=self.config.label_smoothing,
            num_items_in_batch=num_items_in_batch,
        )
        scored = targets != IGNORED_LABEL
        picked = log_probs.gather(2, targets.masked_fill(~scored, 0)[..., None]).squeeze(2)
        return loss, picked.masked_fill(~scored, 0.0)

    # -- generate -----------------------------------------------------------------------------------------------------

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, inputs_embeds: torch.FloatTensor | None = None, **kwargs: Any
    ) -> dict:
        """As transformers does it, without images once the cache holds their keys and values."""
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        if isinstance(inputs.get(CACHE), PrefixCache):
            for name in IMAGE_INPUTS:
                inputs.pop(name, None)
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict]:
        """Repeat the words for beams and samples, never the images: `forward` takes S rows an image.

        Pixels become regions here, so that the region source runs once an image without a cache too.
        """
        images = {name: kwargs.pop(name) for name in IMAGE_INPUTS if name in kwargs}
        if images.get("pixel_values") is not None and not isinstance(kwargs.get(CACHE), PrefixCache):
            regions = self.get_regions(**images)
            images = {name: regions[name] for name in IMAGE_INPUTS if name in regions}
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        return input_ids, {**kwargs, **images}


def check_language_model(language_model: PreTrainedModel, *, prefix_attention: str) -> None:
    """Refuse what cannot have regions in front: `ValueError` that says why."""
    name, config = type(language_model).__name__, language_model.config.get_text_config(decoder=True)
    taken = inspect.signature(language_model.forward).parameters
    missing = [argument for argument in NEEDED if argument not in taken]
    if missing:
        raise ValueError(
            f"{name} takes no {' and no '.join(missing)}, so regions cannot stand before its words: choose another "
            "language model as text_config, such as GPT-2, Llama, Qwen2 or OPT"
        )
    if keeps_a_state(language_model):
        raise ValueError(
            f"{name} reads words into a state, which padded regions would enter: choose a text_config whose layers all "
            "attend, such as GPT-2, Llama, Qwen2 or OPT"
        )
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if encoder and not getattr(config, "is_decoder", True):
        raise ValueError(f"{name} sees the words to come: set is_decoder=True in text_config, or choose another")
    buffers = language_model.named_buffers()
    if prefix_attention == "full" and any(key.endswith(".bias") and buffer.dim() == 4 for key, buffer in buffers):
        raise ValueError(
            f"{name} has a causal mask of its own, so its regions cannot see each other: "
            'set prefix_attention="causal", or choose another text_config'
        )


def check_rows(num_rows: int, num_images: int) -> int:
    """How many rows of words each image has; `ValueError` where that is no whole number."""
    rows_per_image, odd = divmod(num_rows, num_images)
    if odd or not rows_per_image:
        raise ValueError(
            f"{num_rows} rows of words for {num_images} images: "
            "give the same number of captions for every image, those of one image next to each other"
        )
    return rows_per_image


def checked_rows(image_index: torch.Tensor, images: torch.Tensor, *, num_rows: int) -> torch.Tensor:
    """image_index (N,) as int64; `ValueError` where it does not name one of the images (P, ...) for each of N rows."""
    index = checked_index(image_index, images)
    if index.shape != (num_rows,):
        raise ValueError(
            f"image_index has shape {tuple(index.shape)}, but must name the image of each of {num_rows} rows"
        )
    return index


def check_length(length: int, num_regions: int, text_config: Any) -> None:
    """`ValueError` where regions and words are more than the language model sees at once."""
    spans = {name: getattr(text_config, name, None) for name in SPANS}
    name, most = min(((name, span) for name, span in spans.items() if span), key=itemgetter(1), default=("", length))
    if length > most:
        raise ValueError(
            f"{num_regions} regions and {length - num_regions} words are more than the {most} that the language model "
            f"sees: give fewer of them, or a text_config with a larger {name}"
        )


def places(mask: torch.Tensor) -> torch.Tensor:
    """Positions that count what is real alone: (N, L) bool -> (N, L), padding where it stands.

    >>> places(torch.tensor([[True, False, True, True]])).tolist()
    [[0, 0, 1, 2]]
    """
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def word_mask(attention_mask: torch.Tensor | None, words: torch.Tensor, *, length: int) -> torch.Tensor:
    """The mask (N, length) bool of all words so far, all True where none is given."""
    if attention_mask is None:
        return torch.ones(len(words), length, dtype=torch.bool, device=words.device)
    if attention_mask.shape != (len(words), length):
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, but with those in the cache there are "
            f"{len(words)} rows of {length} words: give it for all of them"
        )
    return attention_mask.bool()


def region_weights(
    attentions: tuple[torch.Tensor | None, ...] | None, num_regions: int, *, num_words: int
) -> torch.Tensor:
    """How the regions were weighed for each word: the last layer's attention (N, heads, L, regions and words), a mean
    over heads, scaled to sum to 1 over the regions -> (N, T, R).
    """
    last = next((layer for layer in reversed(attentions or ()) if layer is not None), None)
    if last is None:
        raise ValueError("the language model gives out no attention weights: leave out output_attentions")
    weights = last[:, :, -num_words:, :num_regions].float().mean(dim=1)  # (N, T, R)
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def add_adapters(language_model: PreTrainedModel, config: UpDownPrefixLMConfig) -> None:
    """Put LoRA adapters beside the language model's layers; only they train. They change nothing at first.

    Raises `ImportError` without peft, `ValueError` where no layer has one of the names in `lora_target_modules`.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError("adapters (tuning='lora') need peft: pip install 'modeling-updown[lora]'") from error
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # any number serves
        lora_dropout=config.lora_dropout,
        target_modules=config.lora_target_modules or "all-linear",
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in language_model.modules()),  # GPT-2's own layer
    )
    inject_adapter_in_model(settings, language_model)
    for name, weight in language_model.named_parameters():
        if ADAPTER in name:  # peft has drawn them; the language model would draw both factors anew
            keep_as_loaded(weight)
