"""`Regions` -> words: the Up-Down captioner (Anderson et al. 2018, section 3.2).

    x1_t = [h2_{t-1}, mean v, W_e word]      attention LSTM   (equation 2)
    a_i  = w_a^T tanh(W_va v_i + W_ha h1_t)  attention        (equations 3-5)
    x2_t = [v_hat, h1_t]                     language LSTM    (equation 6)
    p    = softmax(W_p h2_t + b)             words            (equation 7)

What does not change over time is computed once: W_va v and the mean region's share of the LSTM gates once per image
(not per caption or beam), the words' share of the gates in one product for a whole batch of captions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import Cache, CacheLayerMixin

from .arguments_updown import standard_forward
from .boxes_updown import box_geometry
from .compat_updown import CACHE, is_loaded, one_cache
from .configuration_updown import UpDownCaptioningConfig
from .generation_updown import ImageGenerationMixin, words_of_labels
from .linear_updown import float_type, step_product
from .losses_updown import IGNORED_LABEL, caption_loss
from .modeling_attention import TopDownAttention
from .modeling_base import UpDownTopDownModel
from .outputs_updown import UpDownCaptioningOutput
from .regions_updown import OPTIONAL, REQUIRED, Regions, optional_fields
from .rnn_updown import WordSteps, lstm_step, word_steps

IMAGE_INPUTS = ("pixel_values", "pixel_mask", *REQUIRED, *OPTIONAL)


@dataclass
class ImageContext:
    """What an image contributes to every step: P images, R regions."""

    keys: torch.Tensor  # W_va v (P, R, A)
    values: torch.Tensor  # (P, R, D)
    mask: torch.Tensor  # (P, R) bool
    gates: torch.Tensor  # the mean region's share of the attention LSTM's gates (P, 4H)
    boxes: torch.Tensor | None  # (P, R, 4)

    def index_select(self, images: torch.Tensor) -> "ImageContext":
        """The context of the images named by index (n,)."""
        keys, values, mask, gates = (
            field.index_select(0, images) for field in (self.keys, self.values, self.mask, self.gates)
        )
        boxes = None if self.boxes is None else self.boxes.index_select(0, images)
        return ImageContext(keys, values, mask, gates, boxes)


class LSTMState(CacheLayerMixin):
    """One LSTM's hidden state and memory cell, (N, H) each, as a cache layer that beams can reorder."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states, value_states
        self.num_words = 0
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, num_words: int = 1, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the state after `num_words` more words in place of the last one."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        self.num_words += num_words
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.num_words if self.is_initialized else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        super().reset()
        self.num_words = 0

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.keys, self.values = (x.repeat_interleave(repeats, dim=0) for x in (self.keys, self.values))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.keys, self.values = self.keys[indices], self.values[indices]

    def crop(self, max_length: int) -> None:
        raise RuntimeError("A recurrent state cannot be cropped to fewer words: run the captioner from the first word")


class CaptioningCache(Cache):
    """Both LSTMs' states and the images' context, made on the first call of `forward` and handed back to it.

    Beams change places inside one image only, so the context (one entry per image) is never reordered.
    """

    def __init__(self, context: ImageContext):
        super().__init__(layers=[LSTMState(), LSTMState()])
        self.context = context

    def states(self, num_rows: int, *, like: torch.Tensor, hidden_size: int) -> tuple[torch.Tensor, ...]:
        """(h1, c1, h2, c2), each (N, H); zeros before the first word."""
        if not self.layers[0].is_initialized:
            return (like.new_zeros(num_rows, hidden_size),) * 4
        return tuple(tensor for layer in self.layers for tensor in (layer.keys, layer.values))

    def store(self, state: tuple[torch.Tensor, ...], *, num_words: int) -> None:
        """Keep (h1, c1, h2, c2) after `num_words` more words."""
        for layer, hidden, cell in zip(self.layers, state[::2], state[1::2], strict=True):
            layer.update(hidden, cell, num_words=num_words)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows = self.layers[0].keys.shape[0]
        super().batch_select_indices(indices)
        images = torch.arange(rows, device=self.context.keys.device)[indices] // (rows // len(self.context.keys))
        self.context = self.context.index_select(images)


class UpDownForImageCaptioning(UpDownTopDownModel, ImageGenerationMixin):
    """The captioner: equations in the module's docstring, the paper's defaults, `generate` as transformers has it.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask`. There may be
    S rows of words per image (captions, beams): N = P x S, rows of one image next to each other.

    Example:

    >>> config = UpDownCaptioningConfig(vocab_size=20, region_feature_size=8, hidden_size=16, word_embedding_size=16)
    >>> model = UpDownForImageCaptioning(config).eval()
    >>> out = model(torch.tensor([[1, 5, 6]]), region_features=torch.randn(1, 4, 8), output_attentions=True)
    >>> out.logits.shape, out.attentions[0].sum(-1).round(decimals=4).tolist()
    (torch.Size([1, 3, 20]), [[1.0, 1.0, 1.0]])
    """

    config_class = UpDownCaptioningConfig
    main_input_name = "input_ids"
    accepts_loss_kwargs = True  # the loss is a mean over words, those of accumulated batches too
    _is_stateful = True  # the state cannot be rolled back, so assisted decoding is refused
    _no_split_modules = ["UpDownGrid", "TopDownAttention"]

    def __init__(self, config: UpDownCaptioningConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # so the Trainer counts the words that are scored: all but the first of a row
        width = config.region_embedding_size or config.region_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.word_embedding_size)  # W_e
        self.region_embedding: nn.Linear | None = None
        self.pooled_embedding: nn.Linear | None = None
        self.box_embedding: nn.Linear | None = None
        if config.region_embedding_size is not None:
            self.region_embedding = nn.Linear(config.region_size, width)
            self.pooled_embedding = nn.Linear(config.region_size, width)
        if config.box_embedding:
            self.box_embedding = nn.Linear(7, width, bias=False)
        gates = 4 * config.hidden_size  # input, forget, cell, output
        self.attention_lstm_photo = nn.Linear(width, gates)  # gates from the mean region
        self.attention_lstm_word = nn.Linear(config.word_embedding_size, gates, bias=False)  # gates from the word
        self.attention_lstm_state = nn.Linear(2 * config.hidden_size, gates, bias=False)  # gates from [h2, h1]
        self.attention = TopDownAttention(
            region_size=width,
            query_size=config.hidden_size,
            attention_size=config.attention_size,
            bias=config.attention_bias,
        )
        self.language_lstm = nn.Linear(width + 2 * config.hidden_size, gates)  # gates from [v_hat, h1, h2]
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)  # W_p
        self.scheduled_sampling_probability = 0.0  # set by the training loop, epoch by epoch
        self.build_region_tags()
        self.build_region_source()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        gates_of_lstm = module is self.attention_lstm_photo or module is self.language_lstm
        if gates_of_lstm and not is_loaded(module.bias):
            forget = slice(self.config.hidden_size, 2 * self.config.hidden_size)
            nn.init.constant_(module.bias[forget], self.config.forget_gate_bias)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embed_tokens = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head = new_embeddings

    def encode_images(self, regions: Regions) -> ImageContext:
        """Everything of an image that does not change over words; once per image."""
        config = self.config
        mask = regions.region_mask
        features = regions.region_features.to(float_type(self.attention_lstm_photo))  # (P, R, D)
        features = features.masked_fill(~mask[..., None], 0)  # a padded region may hold anything, even NaN
        features = self.with_times(self.with_tags(features, regions), regions)
        share = mask.to(features.dtype) / mask.sum(dim=1, keepdim=True)
        pooled = torch.bmm(share[:, None], features).squeeze(1)  # mean v (P, D)
        if self.region_embedding is not None and self.pooled_embedding is not None:
            features = self.region_embedding(features)
            if self.box_embedding is not None:
                if regions.region_boxes is None:
                    raise ValueError("This model embeds boxes (config.box_embedding): give region_boxes as well")
                geometry = box_geometry(regions.region_boxes).masked_fill(~mask[..., None], 0)  # (P, R, 7)
                features = features + self.box_embedding(geometry.to(features.dtype))
            features = F.dropout(features.relu(), config.region_dropout, self.training)
            pooled = F.dropout(self.pooled_embedding(pooled).relu(), config.region_dropout, self.training)
        keys = self.attention.project_regions(features)
        return ImageContext(keys, features, mask, self.attention_lstm_photo(pooled), regions.region_boxes)

    def embed_words(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None = None) -> torch.Tensor:
        """(...), or the word embedding's output (..., E) in its place, -> (..., E)."""
        words = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if self.config.word_embedding_relu:
            words = words.relu()
        return F.dropout(words, self.config.word_dropout, self.training)

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
        cache: CaptioningCache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: CaptioningCache | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownCaptioningOutput | tuple:
        """Score the next word after each of the given ones.

        input_ids (N, T); regions of P images as `get_regions` takes them (object_probs and attribute_probs where the
        config has tags, region_seconds where it has times), or an earlier call's `cache` (also `past_key_values`); N is
        a multiple of P. attention_mask (N, T): a masked word leaves the state untouched. labels (N, T): input words,
        shifted here, -100 where not scored (`shift_labels`: shifted), or in their place; -> `UpDownCaptioningOutput`.
        """
        config = self.config
        targets = kwargs.pop("shift_labels", None)
        if labels is not None and targets is None:
            targets = F.pad(labels, (0, 1), value=IGNORED_LABEL)[..., 1:]
        use_cache = (config.use_cache if use_cache is None else use_cache) and targets is None
        cache = one_cache(cache, past_key_values)
        if cache is None:
            said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
            fields = optional_fields(kwargs | said)
            regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
            cache = CaptioningCache(self.encode_images(regions))
        input_ids = words_of_labels(labels, config) if input_ids is inputs_embeds is None else input_ids
        words = self.embed_words(input_ids, inputs_embeds)  # (N, T, E)
        run = self.run_words(words, input_ids, cache, attention_mask, skip=not use_cache)
        loss = label_log_probs = None
        if targets is not None:
            loss, label_log_probs, logits = self.score_labels(run, targets, kwargs.get("num_items_in_batch"))
        else:
            hidden = run.dense("h2")
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(self.drop_output(hidden[:, kept]))
        return UpDownCaptioningOutput(
            loss=loss,
            logits=logits,
            label_log_probs=label_log_probs,
            hidden_states=(words, run.dense("h1"), run.dense("h2")) if output_hidden_states else None,
            attentions=(run.dense("weights"),) if output_attentions else None,
            region_boxes=cache.context.boxes if output_attentions else None,
            **{CACHE: cache if use_cache else None},
        )

    def run_words(
        self,
        words: torch.Tensor,
        input_ids: torch.Tensor | None,
        cache: CaptioningCache,
        attention_mask: torch.Tensor | None,
        *,
        skip: bool,
    ) -> "WordRun":
        """Take both LSTMs over the words (N, T, E) from the cache's state; without `skip` the cache ends after them."""
        num_rows, num_words = words.shape[:2]
        context = cache.context
        rows_per_image, odd = divmod(num_rows, len(context.keys))
        if odd or not rows_per_image:
            raise ValueError(
                f"{num_rows} rows of words for {len(context.keys)} images: "
                "give the same number of captions for every image, those of one image next to each other"
            )
        mask = None if attention_mask is None else attention_mask[:, -num_words:].bool()
        steps = word_steps(mask, num_rows=num_rows, num_words=num_words, skip=skip)
        image_gates = context.gates.repeat_interleave(rows_per_image, dim=0)  # (N, 4H)
        state = cache.states(num_rows, like=image_gates, hidden_size=self.config.hidden_size)
        if steps.skips:
            image_gates = image_gates.index_select(0, steps.order)
            state = tuple(tensor.index_select(0, steps.order) for tensor in state)
            mask = mask.index_select(0, steps.order) if mask is not None and steps.holes else None
        replaced = input_ids if self.training and self.scheduled_sampling_probability > 0 else None
        word_gates = () if replaced is not None else self.attention_lstm_word(steps.pack(words)).split(steps.num_rows)
        linears = (self.attention_lstm_state, self.language_lstm)
        products = tuple(step_product(linear, num_steps=num_words) for linear in linears)

        run = WordRun(steps, [], [], [])
        for step, rows in enumerate(steps.num_rows):
            here = steps.order[:rows] if steps.skips else None
            if replaced is None:
                gates = word_gates[step]
            else:
                gates = self.attention_lstm_word(self.sampled_words(replaced, run, step, rows))
            before = tuple(tensor[:rows] for tensor in state)
            state, weights = self.step(
                gates + image_gates[:rows], before, context, products, rows=here, rows_per_image=rows_per_image
            )
            if mask is not None and not mask[:rows, step].all():
                keep = mask[:rows, step, None]
                state = tuple(torch.where(keep, new, old) for new, old in zip(state, before, strict=True))
            run.append(state, weights)
        if not skip:
            cache.store(state, num_words=num_words)
        return run

    def step(
        self,
        gates: torch.Tensor,
        state: tuple[torch.Tensor, ...],
        context: ImageContext,
        products: tuple,
        *,
        rows: torch.Tensor | None,
        rows_per_image: int,
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """One word on: gates (n, 4H) of word and image, state (h1, c1, h2, c2) of (n, H) -> state, alpha (n, R)."""
        attention_state, language_gates = products
        h1, c1, h2, c2 = state
        h1, c1 = lstm_step(gates + attention_state(torch.cat([h2, h1], dim=-1)), c1)  # equation 2
        attended, weights = self.attention(
            h1, context.keys, context.values, context.mask, rows=rows, rows_per_image=rows_per_image
        )
        h2, c2 = lstm_step(language_gates(torch.cat([attended, h1, h2], dim=-1)), c2)  # equation 6
        return (h1, c1, h2, c2), weights

    def sampled_words(self, input_ids: torch.Tensor, run: "WordRun", step: int, rows: int) -> torch.Tensor:
        """Scheduled sampling (Bengio et al. 2015): some input words drawn from the last step's output. -> (rows, E)"""
        ordered = input_ids.index_select(0, run.steps.order.to(input_ids.device)) if run.steps.skips else input_ids
        words = ordered[:rows, step]
        if step > 0:
            with torch.no_grad():
                probabilities = self.lm_head(run.h2[-1][:rows]).float().softmax(dim=-1)
                drawn = torch.multinomial(probabilities, 1).squeeze(1)
            swap = torch.rand(rows, device=words.device) < self.scheduled_sampling_probability
            words = torch.where(swap, drawn, words)
        return self.embed_words(words)

    def drop_output(self, language_states: torch.Tensor) -> torch.Tensor:
        return F.dropout(language_states, self.config.output_dropout, self.training)

    def score_labels(
        self, run: "WordRun", targets: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss, log p(label) (N, T) and logits (N, T, V); scored packed, so finished captions cost nothing."""
        packed = run.steps.pack(targets)
        logits = self.lm_head(self.drop_output(torch.cat(run.h2)))  # (words run, V)
        log_probs = logits.float().log_softmax(dim=-1)
        scored = packed != IGNORED_LABEL
        loss = caption_loss(
            log_probs, packed, label_smoothing=self.config.label_smoothing, num_items_in_batch=num_items_in_batch
        )
        picked = log_probs.gather(1, packed.masked_fill(~scored, 0)[:, None]).squeeze(1).masked_fill(~scored, 0.0)
        return loss, run.steps.unpack(picked), run.steps.unpack(logits)

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, inputs_embeds: torch.FloatTensor | None = None, **kwargs: Any
    ) -> dict:
        """As transformers does it, without images once the cache holds their context."""
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        if inputs.get(CACHE) is not None:
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
        """Repeat the words for beams and samples, never the images: `forward` takes S rows an image."""
        images = {name: kwargs.pop(name) for name in IMAGE_INPUTS if name in kwargs}
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        return input_ids, {**kwargs, **images}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` makes its own cache of two LSTM states


@dataclass
class WordRun:
    """What the steps left behind: the states (rows, H) and weights (rows, R) of each step."""

    steps: WordSteps
    h1: list[torch.Tensor]
    h2: list[torch.Tensor]
    weights: list[torch.Tensor]

    def append(self, state: tuple[torch.Tensor, ...], weights: torch.Tensor) -> None:
        self.h1.append(state[0])
        self.h2.append(state[2])
        self.weights.append(weights)

    def dense(self, name: str) -> torch.Tensor:
        """`h1`, `h2` (N, T, H) or `weights` (N, T, R)."""
        return self.steps.unpack(torch.cat(getattr(self, name)))
