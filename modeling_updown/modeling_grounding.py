"""`Regions` and phrases -> which region each phrase speaks of, by the fusion model.

    [CLS] words [SEP] r_1 .. r_R  ->  states, in one pass for all phrases of a sentence
    p_k = the mean state of the words of phrase k, v_r = the state of region r
    h_kr = LN(GELU(W [p_k, v_r]))                     or LN(GELU(W_p p_k) * GELU(W_v v_r)) (BAN's, Kim et al. 2018)
    s_kr = w^T h_kr,  box_kr = region r moved by W_d h_kr                     (the detector's regression)
    s_k0 = w^T h_k0 of a learnt state v_0: phrase k speaks of no region       (with `config.grounding_none`)

With `config.grounding_score="region"` an expression is read as a whole and h_r = LN(GELU(W v_r)), or v_r itself: the
referring-expression heads of UNITER (Chen et al. 2020). Losses are in `grounding_losses_updown.py`; N texts may share P
images, whose regions are embedded once.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .boxes_updown import decode_boxes
from .compat_updown import is_traced
from .configuration_text_updown import UpDownFusionConfig
from .grounding_losses_updown import (
    best_region_loss,
    box_loss,
    each_region_loss,
    has_box,
    overlap_loss,
    phrase_overlaps,
)
from .linear_updown import first_product, last_product
from .modeling_attention import TextRows
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel, mean_state, region_attention
from .outputs_updown import UpDownGroundingOutput
from .regions_updown import Regions, optional_fields

BOX_WEIGHTS = (10, 10, 5, 5)  # of the regression, as R-CNNs have them
MOST_GROWTH = 62.5  # of a side; exp of more would not be finite in half precision
NO_PHRASE = -1
LOSSES = {"cross_entropy": best_region_loss, "kl": overlap_loss, "binary": each_region_loss}


class PairStates(nn.Module):
    """States of phrases (N, K, H) and regions (N, R, H) -> h (N, K, R, size), see the module's docstring."""

    def __init__(self, config: UpDownFusionConfig):
        super().__init__()
        width, hidden = config.hidden_size, config.grounding_hidden_size
        self.form, self.width, self.dropout = config.grounding_score, width, config.grounding_dropout
        self.size = width if hidden is None or not hidden else hidden
        self.of_phrase: nn.Linear | None = None
        self.linear: nn.Linear | None = None
        self.norm: nn.LayerNorm | None = None
        if hidden == 0:  # region states as they are
            return
        if self.form == "multiply":
            self.of_phrase = nn.Linear(width, self.size)  # W_p
        self.linear = nn.Linear(2 * width if self.form == "concat" else width, self.size)  # W, W_v
        self.norm = nn.LayerNorm(self.size, eps=config.head_norm_eps)

    def forward(self, phrases: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """phrases (N, K, H), regions (N, R, H) -> (N, K, R, size); K is 1 where phrases are not read"""
        if self.linear is None or self.norm is None:
            pairs = regions[:, None]
        elif self.form == "concat":
            phrase = first_product(self.linear, phrases, rest=self.width)  # (N, K, size)
            region = last_product(self.linear, regions, rest=self.width)  # (N, R, size)
            pairs = self.norm(F.gelu(phrase[:, :, None] + region[:, None]))
        elif self.of_phrase is not None:
            pairs = self.norm(F.gelu(self.of_phrase(phrases))[:, :, None] * F.gelu(self.linear(regions))[:, None])
        else:
            pairs = self.norm(F.gelu(self.linear(regions)))[:, None]
        return F.dropout(pairs, self.dropout, self.training)


class UpDownFusionForGrounding(UpDownFusionPreTrainedModel):
    """Phrase grounding and referring expressions on the fusion model; see the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    and N texts about them: one an image, S next to each other for every image, or as `image_index` says.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> model = UpDownFusionForGrounding(UpDownFusionConfig(text_config=bert, region_feature_size=8)).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> spans = torch.tensor([[[1, 3], [4, 5]]])  # two phrases of a sentence, by their first token and their end
    >>> out = model(torch.tensor([[2, 7, 9, 8, 5, 3]]), phrase_spans=spans, **regions)
    >>> out.logits.shape, out.pred_boxes.shape, out.phrase_scores.sum(dim=-1).round(decimals=4).tolist()
    (torch.Size([1, 2, 4]), torch.Size([1, 2, 4, 4]), [[1.0, 1.0]])
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        self.pairs = PairStates(config)
        self.score = nn.Linear(self.pairs.size, 1)  # w
        self.box_deltas = nn.Linear(self.pairs.size, 4) if config.grounding_box_weight else None  # W_d
        self.none_state = nn.Embedding(1, config.hidden_size) if config.grounding_none else None  # v_0
        self.post_init()

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

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
        phrase_spans: torch.LongTensor | None = None,
        labels: torch.FloatTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownGroundingOutput | tuple:
        """Score every region for each phrase, and move it to where the phrase's box should be.

        input_ids (N, T) with special tokens, attention_mask (N, T), by default all but padding; regions of P images as
        `get_regions` takes them; image_index (N,) or (N, images) as for the fusion model. phrase_spans (N, K, 2): the
        first token of each phrase and the one after its last, -1 where a text has fewer; without them each text is one
        expression. labels (N, K, M, 4): their true boxes, xyxy in 0..1, -1 where there are fewer. Raises `ValueError`.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
        fields = optional_fields(kwargs | said)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        images, image_index = self.fusion.embedded_rows(regions, image_index)
        texts: Any = {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds, "image_index": image_index}
        seen: Any = {"region_embeds": images.region_features, "region_mask": images.region_mask}
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        words = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask)
        spans = checked_spans(phrase_spans, words, whole=self.config.grounding_score == "region")
        joint = self.fusion(input_ids, **texts, **seen, **shown, return_dict=True)
        rows = TextRows.of(image_index, num_texts=len(words), num_images=len(images.region_mask), device=words.device)
        mask = rows.of_images(images.region_mask)
        boxes = rows.of_images(images.region_boxes).masked_fill(~mask[..., None], 0)
        phrases = phrase_states(joint.word_states, words, spans)  # (N, K, H)
        pairs = self.pairs(phrases, joint.region_states)  # (N, K, R, ..)
        logits = self.score(pairs).squeeze(-1).masked_fill(~mask[:, None], float("-inf"))  # (N, K, R)
        none = self.none_logits(phrases)  # (N, K)
        deltas = None if self.box_deltas is None else self.box_deltas(pairs)  # (N, K, R, 4)
        losses = None if labels is None else self.losses_of(logits, deltas, (boxes, mask), spans, labels, none=none)
        return UpDownGroundingOutput(
            loss=None if losses is None else self.weighted(losses),
            losses=losses,
            logits=logits,
            **self.probabilities(logits, none),
            pred_boxes=moved_boxes(deltas, boxes, logits.shape[1]),
            hidden_states=joint.hidden_states,
            attentions=joint.attentions and region_attention(joint.attentions, mask, num_words=words.shape[1]),
            region_boxes=images.region_boxes,
            region_masks=images.region_masks,
        )

    def get_regions(self, *regions: Any, **fields: Any) -> Regions:
        """As the base class has it; `ValueError` for regions without boxes too."""
        found = super().get_regions(*regions, **fields)
        if found.region_boxes is None:
            raise ValueError("Grounding says where its regions are: give region_boxes as well")
        return found

    def none_logits(self, phrases: torch.Tensor) -> torch.Tensor | None:
        """phrases (N, K, H) -> a score that each speaks of no region (N, K); None where the model has none."""
        if self.none_state is None:
            return None
        state = self.none_state.weight[None].expand(len(phrases), -1, -1)  # (N, 1, H)
        return self.score(self.pairs(phrases, state))[:, :, 0, 0]

    def probabilities(self, logits: torch.Tensor, none: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """How likely each region is the phrase's, 0..1: alone with "binary", else among all; and that none is.

        logits (N, K, R), none (N, K) -> `phrase_scores` (N, K, R) and, where there is `none`, `none_scores` (N, K).
        """
        if none is not None:
            scores = torch.cat([logits, none[..., None]], dim=-1).softmax(dim=-1)  # (N, K, R + 1)
            return {"phrase_scores": scores[..., :-1], "none_scores": scores[..., -1]}
        alone = self.config.grounding_loss == "binary"
        return {"phrase_scores": logits.sigmoid() if alone else logits.softmax(dim=-1)}

    def losses_of(
        self,
        logits: torch.Tensor,
        deltas: torch.Tensor | None,
        regions: tuple[torch.Tensor, torch.Tensor],
        phrase_spans: torch.Tensor | None,
        labels: torch.Tensor,
        *,
        none: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """The loss of `config.grounding_loss`, `regions`, and that of the boxes; `ValueError` for other labels.

        regions: boxes (N, R, 4) and mask (N, R); labels (N, K, M, 4); none (N, K): scores that a phrase has no region.
        """
        config, (boxes, mask) = self.config, regions
        if labels.dim() != 4 or labels.shape[:2] != logits.shape[:2] or labels.shape[-1] != 4 or not labels.shape[2]:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, but must be ({logits.shape[0]} texts, {logits.shape[1]} "
                "phrases, boxes, 4): the true boxes of each phrase, -1 where it has fewer"
            )
        there = torch.ones_like(labels[:, :, 0, 0], dtype=torch.bool)
        if phrase_spans is not None:
            there = phrase_spans[..., 0] != NO_PHRASE
        boxed = there & has_box(labels).any(dim=-1)
        overlaps, _ = phrase_overlaps(boxes, labels, mask)
        scored, found = (logits, overlaps), mask
        if none is not None:
            scored, found = with_none(logits, overlaps, mask, none=none, without=there & ~boxed)
        form: Any = {"learnt": boxed if config.grounding_loss != "binary" and none is None else there}
        loss = LOSSES[config.grounding_loss](*scored, found, lowest_iou=config.grounding_iou, **form)
        losses = {"regions": loss}
        if deltas is not None:
            given: Any = {"learnt": boxed, "weights": BOX_WEIGHTS, "lowest_iou": config.grounding_iou}
            losses["boxes"] = box_loss(deltas, boxes, labels, mask, **given)
        return losses

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of the regions and that of the boxes, by its weight."""
        boxes = losses.get("boxes")
        return losses["regions"] if boxes is None else losses["regions"] + self.config.grounding_box_weight * boxes


def with_none(
    logits: torch.Tensor, overlaps: torch.Tensor, mask: torch.Tensor, *, none: torch.Tensor, without: torch.Tensor
) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Logits and IoUs (N, K, R) and the mask (N, R) with one region more, which the phrases without a referent fit.

    none (N, K): its logits; without (N, K) bool.

    >>> given = [torch.zeros(1, 2, 1), torch.tensor([[[0.7], [0.0]]]), torch.tensor([[True]])]
    >>> none = {"none": torch.ones(1, 2), "without": torch.tensor([[False, True]])}
    >>> (logits, overlaps), mask = with_none(*given, **none)
    >>> logits.tolist(), overlaps.tolist(), mask.tolist()
    ([[[0.0, 1.0], [0.0, 1.0]]], [[[0.699999988079071, 0.0], [0.0, 1.0]]], [[True, True]])
    """
    logits = torch.cat([logits, none[..., None]], dim=-1)
    overlaps = torch.cat([overlaps, without[..., None].to(overlaps.dtype)], dim=-1)
    return (logits, overlaps), F.pad(mask, (0, 1), value=True)


def checked_spans(phrase_spans: torch.Tensor | None, words: torch.Tensor, *, whole: bool) -> torch.Tensor | None:
    """Spans (N, K, 2) on the device of the words (N, T) bool; None for none.

    Raises `ValueError` for spans that are none of the words, or that a model of whole expressions is given.
    """
    if phrase_spans is None:
        return None
    if whole:
        raise ValueError(
            "grounding_score='region' scores a text as one expression: leave phrase_spans out, or give every phrase as "
            "a text of its own"
        )
    shape, spans = tuple(phrase_spans.shape), phrase_spans.to(words.device)
    if len(shape) != 3 or shape[0] != len(words) or shape[2] != 2 or not shape[1]:
        raise ValueError(
            f"phrase_spans have shape {shape}, but must be ({len(words)} texts, phrases, 2): the first token of each "
            "phrase and the one after its last"
        )
    if is_traced() or spans.is_meta:
        return spans
    start, end = spans.unbind(-1)
    none = (start == NO_PHRASE) & (end == NO_PHRASE)
    fits = (start >= 0) & (start < end) & (end <= words.shape[1]) & span_members(spans, words).any(dim=-1)
    wrong = ~(none | fits)
    if wrong.any():
        text, phrase = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"phrase {phrase} of text {text} spans the tokens {spans[text, phrase].tolist()}, but the text has "
            f"{int(words[text].sum())}: give its first token and the one after its last, or -1 twice for none"
        )
    return spans


def span_members(phrase_spans: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Spans (N, K, 2) and the words that are there (N, T) -> the words of each phrase (N, K, T) bool.

    >>> span_members(torch.tensor([[[1, 3], [-1, -1]]]), torch.ones(1, 4).bool()).int().tolist()
    [[[0, 1, 1, 0], [0, 0, 0, 0]]]
    """
    places = torch.arange(words.shape[1], device=words.device)
    start, end = phrase_spans[..., :1], phrase_spans[..., 1:]  # (N, K, 1)
    return (places >= start) & (places < end) & words[:, None]


def phrase_states(states: torch.Tensor, words: torch.Tensor, phrase_spans: torch.Tensor | None) -> torch.Tensor:
    """States of words (N, T, H) -> their mean over each phrase (N, K, H), 0 for -1; without spans over the text."""
    if phrase_spans is None:
        return mean_state(states, words)[:, None]
    members = span_members(phrase_spans, words)
    share = members.to(states.dtype) / members.sum(dim=-1, keepdim=True).clamp(min=1)
    return torch.bmm(share, states)


def moved_boxes(deltas: torch.Tensor | None, boxes: torch.Tensor, num_phrases: int) -> torch.Tensor:
    """Boxes (N, R, 4) moved for each phrase by deltas (N, K, R, 4), inside the image: (N, K, R, 4), xyxy in 0..1.

    Without deltas they stay where they are.
    """
    if deltas is None:
        return boxes[:, None].expand(-1, num_phrases, -1, -1)
    wide = torch.promote_types(deltas.dtype, torch.float32)
    start = boxes[:, None].to(wide)
    return decode_boxes(deltas.to(wide), start, weights=BOX_WEIGHTS, max_growth=MOST_GROWTH).clamp(0, 1)
