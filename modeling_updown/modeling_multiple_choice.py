"""`Regions`, a context and candidates -> a score of each candidate, by the fusion model: VCR, visual dialogue.

    z_c = the state of [CLS] context [SEP] candidate c [SEP] and the regions, read together  (choice_attention="full")
    z_c = the mean state of candidate c, which sees context and regions, read once for all            ("shared")
    s_c = W_o dropout(LN(f(W z_c)))                    f is GELU, or ReLU (UNITER's VCR, Chen et al. 2020)
    p = softmax(s), or each candidate right or wrong by itself                                 (config.choice_loss)

With `config.region_links` a word may carry regions ("[person1]"): the mean of their embeddings, mapped, is added to
its own. All candidates of an item are scored in one call, equal to one by one; the passes are laid out in
`choice_layout_updown.py`, losses are in `choice_losses_updown.py`. N items may share P images, whose regions are
embedded once.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .choice_layout_updown import LAYOUTS, REGION_TYPE, Layout, Words, link_shares
from .choice_losses_updown import best_choice_loss, check_labels, each_choice_loss
from .compat_updown import eager_attention, is_traced, padding_position
from .configuration_text_updown import UpDownFusionConfig
from .modeling_attention import TextRows
from .modeling_fusion import SAME, UpDownFusionModel, UpDownFusionPreTrainedModel, additive, shares_of_regions
from .outputs_updown import UpDownMultipleChoiceOutput
from .regions_updown import joined_rows, optional_fields


class ChoiceScore(nn.Module):
    """The vector of each candidate (..., H) -> its scores (..., 1), or of wrong and right (..., 2)."""

    def __init__(self, config: UpDownFusionConfig):
        super().__init__()
        size = config.choice_hidden_size or 2 * config.hidden_size
        self.linear = nn.Linear(config.hidden_size, size)  # W
        self.norm = nn.LayerNorm(size, eps=config.head_norm_eps)
        self.score = nn.Linear(size, 2 if config.choice_loss == "binary" else 1)  # W_o
        self.activation, self.dropout = config.choice_activation, config.choice_dropout

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., H) -> (..., 1 or 2)"""
        hidden = self.linear(states)
        hidden = self.norm(hidden.relu() if self.activation == "relu" else F.gelu(hidden))
        return self.score(F.dropout(hidden, self.dropout, self.training))


class RegionLink(nn.Linear):
    """What a word gets of the regions that it is linked to; new weights are small, so that the word is still read."""


class UpDownFusionForMultipleChoice(UpDownFusionPreTrainedModel):
    """Multiple choice on the fusion model; see the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    and N items about them: one an image, S next to each other for every image, or as `image_index` says.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> model = UpDownFusionForMultipleChoice(UpDownFusionConfig(text_config=bert, region_feature_size=8)).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> candidates = torch.tensor([[[3, 7, 3], [3, 8, 3], [3, 9, 3]]])  # [SEP] word [SEP], three of them
    >>> out = model(torch.tensor([[2, 7, 9]]), choice_input_ids=candidates, labels=torch.tensor([1]), **regions)
    >>> out.logits.shape, out.loss.shape
    (torch.Size([1, 3]), torch.Size([]))
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        size = self.get_input_embeddings().embedding_dim
        self.region_link = RegionLink(size, size, bias=False) if config.region_links else None
        self.choice_score = ChoiceScore(config)
        self.post_init()
        self.check_layout()

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RegionLink):
            nn.init.normal_(module.weight, std=self.config.initializer_range / module.in_features**0.5)

    def freeze_as_made(self) -> None:
        """As the base class has it; `from_pretrained`, which calls it, builds models without weights to check."""
        super().freeze_as_made()
        self.check_layout()

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        choice_input_ids: torch.LongTensor | None = None,
        choice_attention_mask: torch.Tensor | None = None,
        choice_mask: torch.BoolTensor | None = None,
        word_regions: torch.LongTensor | None = None,
        choice_word_regions: torch.LongTensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        choice_token_type_ids: torch.LongTensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownMultipleChoiceOutput | tuple:
        """Score every candidate of each item.

        input_ids (N, T): [CLS] and the context; choice_input_ids (N, C, U): what follows it, [SEP] candidate [SEP];
        their masks, by default all but the padding token; choice_mask (N, C): candidates that are there, by default
        those with a word. Without choice_input_ids each text is a candidate by itself: input_ids (N, C, T), as in
        transformers, or (N, T), one an item. word_regions (N, T, K), choice_word_regions (N, C, U, K): the regions that
        each word carries, by number, -1 for none. Token types, by default 0, as `check_kinds` has them. Regions of P
        images as `get_regions` takes them; image_index (N,) or (N, images). labels (N,): the right candidates, -100
        where hidden; or (N, C): how right each one is, 0..1. Raises `ValueError` for numbers that do not fit.
        """
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
        fields = optional_fields(kwargs | said)
        given: Any = (input_ids, inputs_embeds, attention_mask, token_type_ids, word_regions)
        own: Any = (choice_input_ids, None, choice_attention_mask, choice_token_type_ids, choice_word_regions)
        if choice_input_ids is None:
            own, given = whole_texts(*given), None
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        regions, image_index = self.fusion.rows_in_time(regions, image_index)
        images, image_index = joined_rows(self.fusion.embedded(regions), image_index)
        items = len(own[0] if own[0] is not None else own[1])
        rows = TextRows.of(image_index, num_texts=items, num_images=len(images.region_mask), device=self.device)
        seen: Any = (rows.of_images(images.region_features), rows.of_images(images.region_mask))
        context, choices, mask = self.embed_items(given, own, choice_mask, *seen)
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        scores, output, layout = self.read(context, choices, *seen, **shown)
        logits = scores[..., -1].masked_fill(~mask, float("-inf"))  # (N, C)
        return UpDownMultipleChoiceOutput(
            loss=None if labels is None else self.loss_of(scores, labels.to(logits.device), mask),
            logits=logits,
            hidden_states=output.hidden_states if output_hidden_states else None,
            attentions=self.glances(output.attentions, layout, seen[1], mask) if output_attentions else None,
            region_boxes=images.region_boxes,
        )

    def embed_items(
        self, context: Any, choices: Any, choice_mask: Any, regions: torch.Tensor, region_mask: torch.Tensor
    ) -> tuple[Words, Words, torch.Tensor]:
        """Embedded contexts (none: of no word) and candidates, and which candidates are there (N, C)."""
        found = self.embed_choices(choices, regions, region_mask)
        before = self.embed_words(context, regions, region_mask) if context else no_words(found)
        mask = found.mask.any(dim=2) if choice_mask is None else choice_mask.to(found.mask.device).bool()
        check_choices(before, found, mask)
        return before, found, mask

    def embed_words(self, texts: Any, regions: torch.Tensor, region_mask: torch.Tensor) -> Words:
        """Texts (N, T) as `forward` takes them, with embedded regions (N, R, E) -> embedded words."""
        input_ids, inputs_embeds, attention_mask, kinds, links = texts
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        mask = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask)
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if links is not None:
            embeds = embeds + self.linked(links, regions, region_mask)
        if kinds is None:
            return Words(embeds, mask, torch.zeros_like(mask, dtype=torch.long))
        check_kinds(kinds, mask, uniter=self.config.region_embedding == "uniter")
        return Words(embeds, mask, kinds.to(mask.device))

    def embed_choices(self, texts: Any, regions: torch.Tensor, region_mask: torch.Tensor) -> Words:
        """The same of candidates (N, C, U): their words, with masks and types (N, C, U)."""
        input_ids, inputs_embeds, attention_mask, kinds, links = texts
        words = input_ids if inputs_embeds is None else inputs_embeds
        if words is None or words.dim() != (3 if inputs_embeds is None else 4) or 0 in words.shape:
            shape = None if words is None else tuple(words.shape)
            raise ValueError(f"candidates have shape {shape}, but must be (items, candidates, words)")
        if attention_mask is None and input_ids is not None:
            attention_mask = input_ids != self.config.pad_token_id
        flat = [part if part is None else part.flatten(1, 2) for part in (input_ids, inputs_embeds)]
        seen, types = (part if part is None else part.flatten(1) for part in (attention_mask, kinds))
        links = links if links is None else links.flatten(1, 2)
        found = self.embed_words((*flat, seen, types, links), regions, region_mask)
        return Words(*(part.unflatten(1, words.shape[1:3]) for part in found))

    def linked(self, links: torch.Tensor, regions: torch.Tensor, region_mask: torch.Tensor) -> torch.Tensor:
        """What words linked to regions get of them, (N, T, E); links (N, T, K)."""
        if self.region_link is None:
            raise ValueError(
                "this model links no words to regions (config.region_links): leave word_regions and "
                "choice_word_regions out, or make a model with region_links=True"
            )
        shares = link_shares(links, region_mask).to(regions.dtype)  # (N, T, R)
        return self.region_link(torch.bmm(shares, regions))

    def read(
        self, context: Words, choices: Words, regions: torch.Tensor, region_mask: torch.Tensor, **flags: Any
    ) -> tuple[torch.Tensor, Any, Layout]:
        """Scores (N, C, 1 or 2), the text encoder's output, and how its passes are laid out."""
        padding = padding_position(self.fusion.text_model)
        start = 0 if padding is None else padding + 1
        regions = regions.to(choices.embeds.dtype)
        layout = LAYOUTS[self.config.choice_attention](context, choices, regions, region_mask, start=start)
        check_length(layout, self.config.text_config)
        more = {"token_type_ids": layout.kinds} if self.config.region_embedding == "uniter" else {}
        length = layout.embeds.shape[1]
        with eager_attention(self.fusion.text_model, flags.get("output_attentions")):
            output = self.fusion.text_model(
                inputs_embeds=layout.embeds,
                attention_mask=additive(layout.seen.expand(-1, -1, length, -1), layout.embeds.dtype),
                position_ids=layout.positions,
                return_dict=True,
                **more,
                **flags,
            )
        states = torch.bmm(layout.readers.to(output.last_hidden_state.dtype), output.last_hidden_state)  # (B, G, H)
        if self.fusion.pooler is not None:
            states = self.fusion.pooler(states).tanh()
        return self.choice_score(states).reshape(*choices.mask.shape[:2], -1), output, layout

    def loss_of(self, scores: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """That of `config.choice_loss`; `ValueError` for other labels."""
        if not (is_traced() or labels.is_meta):
            check_labels(labels, mask)
        if self.config.choice_loss == "binary":
            return each_choice_loss(scores, labels, mask)
        return best_choice_loss(scores.squeeze(-1), labels, mask)

    def glances(self, attentions: Any, layout: Layout, region_mask: torch.Tensor, mask: torch.Tensor) -> Any:
        """How each candidate weighed the regions (N, C, R), the mean over heads, in every layer."""
        readers = layout.readers
        found = (torch.bmm(readers.to(each.dtype), each.mean(dim=1))[..., layout.regions] for each in attentions)
        return tuple(shares_of_regions(each.reshape(*mask.shape, -1), region_mask[:, None]) for each in found)

    @torch.no_grad()
    def check_layout(self) -> None:
        """`ValueError` for a text encoder by which candidates that share their context are not read as each alone.

        Tested on two candidates; weights that are not there yet, or that a GPU or half precision rounds, are not.
        """
        exact = (torch.float32, torch.float64)
        weights = list(self.parameters())
        if self.config.choice_attention == "full" or any(
            w.device.type != "cpu" or w.dtype not in exact or not w.numel() for w in weights
        ):
            return
        training = self.training
        self.eval()
        size = self.get_input_embeddings().embedding_dim
        numbers = torch.linspace(-1, 1, 10 * size, dtype=weights[0].dtype).sin().view(10, size)
        mask, kinds = torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2, dtype=torch.long)
        context = Words(numbers[None, :2], mask, kinds)
        both = Words(numbers[2:6].view(1, 2, 2, size), mask.expand(2, 2)[None], kinds.expand(2, 2)[None])
        seen = (numbers[None, 6:8], mask)
        together = self.read(context, both, *seen)[0]
        alone = [self.read(context, Words(*(part[:, i : i + 1] for part in both)), *seen)[0] for i in range(2)]
        self.train(training)
        apart = (together - torch.cat(alone, dim=1)).abs().max() / together.abs().max().clamp(min=1e-6)
        if apart > SAME:
            raise ValueError(
                f"text_config is a {self.config.text_config.model_type!r}, by which candidates that share their "
                "context are not read as each alone: use choice_attention='full', or an encoder such as bert"
            )


def whole_texts(input_ids: Any, inputs_embeds: Any, attention_mask: Any, kinds: Any, links: Any) -> tuple[Any, ...]:
    """Texts that are candidates by themselves, (N, T) or (N, C, T), as candidates (N, C, T)."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give either input_ids or inputs_embeds")
    single = input_ids.dim() == 2 if input_ids is not None else inputs_embeds.dim() == 3
    parts = (input_ids, inputs_embeds, attention_mask, kinds, links)
    return tuple(part[:, None] if single and part is not None else part for part in parts)


def no_words(choices: Words) -> Words:
    """The context of candidates (N, C, U) that have none: words (N, 0)."""
    return Words(*(part[:, 0, :0] for part in choices))


def check_choices(context: Words, choices: Words, mask: torch.Tensor) -> None:
    """`ValueError` for another number of contexts than of items, or for items without a candidate."""
    if len(context.mask) != len(choices.mask):
        raise ValueError(
            f"there are {len(context.mask)} contexts and candidates of {len(choices.mask)} items: give one context an "
            "item"
        )
    if mask.shape != choices.mask.shape[:2]:
        raise ValueError(
            f"choice_mask has shape {tuple(mask.shape)}, but there are {tuple(choices.mask.shape[:2])} items and "
            "candidates: one entry a candidate"
        )
    if not (is_traced() or mask.is_meta) and not bool(mask.any(dim=1).all()):
        item = int((~mask.any(dim=1)).nonzero()[0])
        raise ValueError(f"item {item} has no candidate: give each item one or more")


def check_kinds(kinds: torch.Tensor, words: torch.Tensor, *, uniter: bool) -> None:
    """`ValueError` for token types that are not read: kinds, words (N, T).

    With `region_embedding="uniter"` words may have any but 1, which is that of regions (its VCR: 0 for questions, 2 for
    answers, 3 for rationales); else all have 0.
    """
    if kinds.shape != words.shape:
        raise ValueError(f"token types have shape {tuple(kinds.shape)}, but the words {tuple(words.shape)}: one a word")
    if is_traced() or kinds.is_meta:
        return
    if uniter and bool((kinds.to(words.device) == REGION_TYPE)[words].any()):
        raise ValueError("token type 1 is that of regions: give words another one, such as 0")
    if not uniter and bool(kinds.any()):
        raise ValueError("token types other than 0 are read with region_embedding='uniter' alone: leave them out")


def check_length(layout: Layout, text_config: Any) -> None:
    """`ValueError` for words beyond the last position that the text encoder has."""
    most = getattr(text_config, "max_position_embeddings", None)
    if most is None or is_traced() or layout.positions.is_meta or layout.positions.shape[1] <= most // 2:
        return
    longest = int(layout.positions.max()) + 1
    if longest > most:
        raise ValueError(
            f"context and candidate have {longest} words together, but the text encoder reads {most}: cut the context, "
            "say its oldest rounds"
        )
