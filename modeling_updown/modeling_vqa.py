"""`Regions` and a question -> an answer: the paper's second model (Anderson et al. 2018, section 3.3).

    q     = GRU(words)                                    question
    a_i   = w_a^T f_a([v_i, q]), alpha = softmax(a)       attention
    h     = f_q(q) * f_v(sum_i alpha_i v_i)               question and image together
    p     = sigmoid(W_o f_o(h))                           answers, each by itself

f is the gated tanh. hengyuan-hu/bottom-up-attention-vqa replaced it by weight-normed ReLUs and the attention by
w_a^T (f_v(v_i) * f_q(q)); both are fields of the config. N questions may share P images: products with an image's
regions are made once, whatever is asked about it.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .boxes_updown import box_geometry
from .compat_updown import is_loaded
from .configuration_updown import UpDownVqaConfig
from .counting_updown import ObjectCounter, RisingFunction
from .linear_updown import NormedLinear, float_type, linear_layer
from .losses_updown import IGNORED_LABEL, answer_loss
from .modeling_attention import GatedLayer, QuestionAttention, TextRows
from .modeling_base import UpDownTopDownModel
from .outputs_updown import UpDownVqaOutput, check_finite_eagerly
from .regions_updown import Regions, joined_rows, optional_fields
from .rnn_updown import QuestionGRU
from .tags_updown import TagEmbedding
from .time_updown import frame_numbers

WORD_STD = 0.3  # of new word vectors: about that of GloVe's


class UpDownForVisualQuestionAnswering(UpDownTopDownModel):
    """The question answerer: equations in the module's docstring, the paper's defaults.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    and N questions about them: one an image, S next to each other for every image, or as `image_index` says.

    Example:

    >>> config = UpDownVqaConfig(vocab_size=20, id2label={0: "yes", 1: "no"}, region_feature_size=8, hidden_size=16)
    >>> model = UpDownForVisualQuestionAnswering(config).eval()
    >>> out = model(torch.tensor([[4, 5, 0], [4, 6, 7]]), region_features=torch.randn(1, 4, 8))
    >>> out.logits.shape, out.attentions[0].sum(-1).round(decimals=4).tolist()
    (torch.Size([2, 2]), [[1.0], [1.0]])
    """

    config_class = UpDownVqaConfig
    main_input_name = "input_ids"
    _no_split_modules = ["UpDownGrid", "QuestionAttention"]

    def __init__(self, config: UpDownVqaConfig):
        super().__init__(config)
        width, hidden = config.region_size, config.hidden_size
        answer_size = config.answer_hidden_size or hidden
        shared: dict[str, Any] = {"activation": config.activation, "weight_norm": config.weight_norm}
        self.embed_tokens = nn.Embedding(config.vocab_size, config.word_embedding_size, padding_idx=config.pad_token_id)
        self.question_gru = QuestionGRU(word_size=config.word_embedding_size, hidden_size=hidden)
        self.attention = nn.ModuleList(
            QuestionAttention(
                region_size=width,
                query_size=hidden,
                hidden_size=hidden,
                attention=config.attention,
                num_glimpses=config.num_glimpses,
                **shared,
            )
            for _ in range(config.num_attention_layers)
        )
        attended = config.num_glimpses * width
        self.next_query = nn.ModuleList(  # what a layer of attention found, added to the question of the next one
            GatedLayer(attended, hidden, **shared) for _ in range(config.num_attention_layers - 1)
        )
        self.of_question = GatedLayer(hidden, hidden, **shared)  # f_q
        self.of_photo = GatedLayer(attended, hidden, **shared)  # f_v
        self.before_answers = GatedLayer(hidden, answer_size, **shared)  # f_o
        self.answers = linear_layer(answer_size, config.num_answers, weight_norm=config.weight_norm)  # W_o
        self.counter: ObjectCounter | None = None
        self.of_counts: nn.Linear | None = None
        if config.counted_objects:
            self.counter = ObjectCounter(num_objects=config.counted_objects)
            self.of_counts = nn.Linear(config.counted_objects + 1, hidden)
        self.of_choice: GatedLayer | None = None
        self.choice_score: nn.Linear | None = None
        if config.scores_choices:
            self.of_choice = GatedLayer(hidden, hidden, **shared)
            self.choice_score = nn.Linear(hidden, 1)
        self.build_region_tags()
        self.build_region_source()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        if isinstance(module, TagEmbedding):
            module.reset_parameters()
        elif isinstance(module, nn.Linear | NormedLinear):
            std = self.config.initializer_range or 1 / math.sqrt(3 * module.in_features)
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
            if isinstance(module, NormedLinear) and not is_loaded(module.gain):
                module.gain.copy_(module.weight.norm())
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=WORD_STD)
            if module.padding_idx is not None and not is_loaded(module.weight):
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, RisingFunction):
            nn.init.ones_(module.slopes)

    @torch.no_grad()
    def fold_weight_norm(self) -> None:
        """Put plain layers of the same outputs in the place of normed ones (`config.weight_norm`, which becomes False).

        Adapters (peft) find plain layers alone: to tune a weight-normed model with them, fold it first.
        """
        normed = [(name, layer) for name, layer in self.named_modules() if isinstance(layer, NormedLinear)]
        for name, layer in normed:
            parent, _, own_name = name.rpartition(".")
            setattr(self.get_submodule(parent), own_name, layer.folded())
        self.config.weight_norm = False

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embed_tokens = value

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
        image_index: torch.LongTensor | None = None,
        choice_input_ids: torch.LongTensor | None = None,
        choice_mask: torch.BoolTensor | None = None,
        labels: torch.FloatTensor | None = None,
        correct_choice: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownVqaOutput | tuple:
        """Score every answer to each question.

        input_ids (N, T), padded on either side; attention_mask (N, T), by default all but `config.pad_token_id`;
        regions of P images as `get_regions` takes them (with object_probs and attribute_probs, where the config has
        tags); image_index (N,): which image each question asks about, or (N, K): which K images together (-1: none).
        labels (N, A): soft scores in 0..1. choice_input_ids (N, C, T): the words of C answers to choose from,
        choice_mask (N, C): True = a choice; correct_choice (N,): the right one, -100 for none.
        -> `UpDownVqaOutput`; attentions are always there, since they cost nothing. Raises `ValueError` for numbers that
        do not fit.
        """
        config = self.config
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
        fields = optional_fields(kwargs | said)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        regions, image_index = self.rows_in_time(regions, image_index)
        values = self.region_values(regions)  # once an image, whatever is asked about it
        regions, image_index = joined_rows(replace(regions, region_features=values), image_index)
        question = self.read(input_ids, inputs_embeds, attention_mask)  # q (N, H)
        rows = TextRows.of(
            image_index, num_texts=len(question), num_images=len(regions.region_mask), device=question.device
        )
        joint, attentions, counts = self.attend(
            F.dropout(question, config.question_dropout, self.training), regions, rows
        )
        before = F.dropout(self.before_answers(joint), config.answer_dropout, self.training)
        logits = self.answers(before)  # (N, A)
        choice_logits = None if choice_input_ids is None else self.choose(joint, choice_input_ids, choice_mask)
        return UpDownVqaOutput(
            loss=self.total_loss(logits, labels, choice_logits, correct_choice, kwargs.get("num_items_in_batch")),
            logits=logits,
            choice_logits=choice_logits,
            hidden_states=(question, joint) if output_hidden_states else None,
            attentions=attentions,
            counts=counts,
            region_boxes=regions.region_boxes,
        )

    def read(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Texts (N, T), or their word vectors (N, T, E), -> the GRU's last state (N, H); masked words are not there."""
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        if input_ids is not None:
            words = self.embed_tokens(input_ids.long())  # tokenizers make floats of questions without any word
        else:
            words = inputs_embeds
        if attention_mask is not None:
            mask = attention_mask.bool()
        elif input_ids is not None and config.pad_token_id is not None:
            mask = input_ids != config.pad_token_id
        else:
            mask = words.new_ones(words.shape[:2], dtype=torch.bool)
        if mask.shape != words.shape[:2]:
            raise ValueError(
                f"attention_mask has shape {tuple(mask.shape)}, but the questions have {tuple(words.shape[:2])}: "
                "one entry a word"
            )
        first = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, : config.max_question_words]  # words, then gaps
        lengths = mask.sum(dim=1).clamp(max=config.max_question_words)
        words = words.gather(1, first[..., None].expand(-1, -1, words.shape[-1]))
        words = F.dropout(words, config.word_dropout, self.training)
        initial = None
        if config.reads_padding:
            padding = words.new_zeros(words.shape[-1])
            if config.pad_token_id is not None:
                number = torch.tensor([config.pad_token_id], device=words.device)
                padding = self.embed_tokens(number)[0].detach()  # zero, and never trained
            states = self.question_gru.states_on_padding(padding, config.max_question_words)
            initial = states.index_select(0, config.max_question_words - lengths)
        return self.question_gru(words, lengths, initial)

    def attend(
        self, question: torch.Tensor, regions: Regions, rows: TextRows
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor | None]:
        """q (N, H) and P images -> h (N, H), the weights of every layer of attention (N, G, R), counts (N, K + 1).

        The regions' features are what `region_values` makes of them.
        """
        features, mask = regions.region_features, regions.region_mask
        query, attentions, dropout = question, [], self.config.attention_dropout
        layer: Any  # a QuestionAttention
        for place, layer in enumerate(self.attention):
            weights, scores = layer(query, layer.project_regions(features), mask, rows, dropout=dropout)
            attentions.append(weights)
            pooled = rows.products(features.transpose(1, 2), weights.to(features.dtype))
            attended = pooled.flatten(1)  # v_hat (N, G x D)
            if place < len(self.next_query):
                query = query + self.next_query[place](attended)
        joint = self.of_question(query) * self.of_photo(attended)
        counts = None
        if self.counter is not None and self.of_counts is not None:
            counts = self.counted(scores[:, 0], regions, rows)
            joint = joint + self.of_counts(counts.to(joint.dtype)).relu()
        return joint, tuple(attentions), counts

    def counted(self, scores: torch.Tensor, regions: Regions, rows: TextRows) -> torch.Tensor:
        """Scores of regions (N, R) and P images -> counts (N, K + 1); of a clip the mean of its frames' counts."""
        if regions.region_images is not None and regions.region_seconds is None:
            raise ValueError("This model counts by boxes (config.counted_objects), so in one image at a time")
        if regions.region_boxes is None:
            raise ValueError("This model counts by boxes (config.counted_objects): give region_boxes as well")
        counter: Any = self.counter
        real, boxes = rows.of_images(regions.region_mask), rows.of_images(regions.region_boxes)
        check_finite_eagerly(scores.masked_fill(~real, 0), self, what="scores of regions to count")
        if regions.region_seconds is None:
            return counter(scores, boxes, real)
        numbers = rows.of_images(frame_numbers(regions.region_seconds, regions.region_mask))  # (N, R)
        counts = num_frames = scores.new_zeros(len(scores), 1)
        for frame in range(int(numbers.max()) + 1):
            here = numbers == frame
            seen = here.any(dim=1, keepdim=True)  # (N, 1)
            counts = counts + counter(scores, boxes, here).masked_fill(~seen, 0)
            num_frames = num_frames + seen
        return counts / num_frames

    def region_values(self, regions: Regions) -> torch.Tensor:
        """What is attended to: features (P, R, D), of length 1, with tags, times and boxes where the config says so."""
        config, gaps = self.config, ~regions.region_mask[..., None]
        features = regions.region_features.to(float_type(self.embed_tokens))
        features = features.masked_fill(gaps, 0)  # a padded region may hold anything, even NaN
        if config.normalize_regions:
            features = F.normalize(features, dim=-1)
        features = self.with_tags(F.dropout(features, config.region_dropout, self.training), regions)
        features = self.with_times(features, regions)
        if not config.box_embedding:
            return features
        if regions.region_boxes is None:
            raise ValueError("This model reads boxes (config.box_embedding): give region_boxes as well")
        geometry = box_geometry(regions.region_boxes).masked_fill(gaps, 0)  # (P, R, 7)
        return torch.cat([features, geometry.to(features.dtype)], dim=-1)

    def choose(
        self, joint: torch.Tensor, choice_input_ids: torch.Tensor, choice_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """h (N, H) and the words of C choices (N, C, T) -> a score of each (N, C), -inf where there is none."""
        if self.of_choice is None or self.choice_score is None:
            raise ValueError("This model scores no choices: train one with config.scores_choices=True")
        choices = self.read(choice_input_ids.flatten(0, 1)).unflatten(0, choice_input_ids.shape[:2])  # (N, C, H)
        scores = self.choice_score(joint[:, None] * self.of_choice(choices)).squeeze(-1).float()
        return scores if choice_mask is None else scores.masked_fill(~choice_mask.bool(), float("-inf"))

    def total_loss(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        choice_logits: torch.Tensor | None,
        correct_choice: torch.Tensor | None,
        num_items_in_batch: torch.Tensor | int | None,
    ) -> torch.Tensor | None:
        """The losses of answers and choices; None without labels."""
        losses = []
        if labels is not None:
            if labels.shape != logits.shape:
                raise ValueError(
                    f"labels have shape {tuple(labels.shape)}, but must hold a soft score for each of "
                    f"{logits.shape[1]} answers to each of {len(logits)} questions"
                )
            losses.append(answer_loss(logits, labels, num_items_in_batch=num_items_in_batch))
        if correct_choice is not None:
            if choice_logits is None:
                raise ValueError("correct_choice says which choice is right: give choice_input_ids as well")
            total = F.cross_entropy(choice_logits, correct_choice, ignore_index=IGNORED_LABEL, reduction="sum")
            count = (correct_choice != IGNORED_LABEL).sum().clamp(min=1)
            losses.append(total / (count if num_items_in_batch is None else num_items_in_batch))
        return torch.stack(losses).sum() if losses else None
