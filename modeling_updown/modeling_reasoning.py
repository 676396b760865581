"""`Regions` and a statement -> whether it holds: visual entailment of one image, and statements about several.

    z = [CLS] of statement and image read together
    s = W_o dropout(LN(GELU(W z)))                               classes: entailment, neutral, contradiction (SNLI-VE)
    s = W_o dropout(LN(GELU(W z))) + E w cos(P_v v, P_t t)       with `config.answer_similarity`; v and t: [CLS] or mean
                                                                 of image and statement, each read by itself; E: width

    pair              z_k = [CLS] of statement and image k,  s = W [z_1, .., z_K]                         (NLVR2)
    triplet           z = [CLS] of statement and all images in one pass,  s = W z
    pair_biattention  h_k = states of statement and image k,  a_k = attention of h_k over the h of the other images,
                      c_k = dropout(ReLU(F [a_k, h_k])),  u_k = sum softmax(ReLU(w c_k)) c_k,  s = W [u_1, .., u_K]

The heads of UNITER (Chen et al. 2020); regions carry which image of a pair they are of (`config.num_images`). The loss
is `class_loss` of `losses_updown.py`, by `config.problem_type`. N statements may share P images.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .compat_updown import is_loaded, is_traced
from .configuration_text_updown import UpDownFusionConfig
from .losses_updown import class_loss
from .modeling_attention import TextRows
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel, additive
from .modeling_fusion_vqa import cls_attention
from .outputs_updown import UpDownReasoningOutput
from .regions_updown import Regions, optional_fields


class UpDownFusionForVisualEntailment(UpDownFusionPreTrainedModel):
    """Whether an image entails a statement, is neutral to it or contradicts it; see the module's docstring.

    As many classes as `config.id2label` names. Takes `pixel_values` (with a region source of its own) or
    `region_features, region_boxes, region_mask` of P images, and N statements about them: one an image, S next to each
    other for every image, or as `image_index` says.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> labels = {0: "entailment", 1: "neutral", 2: "contradiction"}
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, id2label=labels)
    >>> model = UpDownFusionForVisualEntailment(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> out = model(torch.tensor([[2, 7, 9], [2, 8, 0]]), **regions, labels=torch.tensor([0, 2]))
    >>> out.logits.shape, out.loss.dim()
    (torch.Size([2, 3]), 0)
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        self.build_answers()
        if config.answer_similarity:  # projections under the names that retrieval's have
            self.image_projection = nn.Linear(config.hidden_size, config.projection_size, bias=False)
            self.text_projection = nn.Linear(config.hidden_size, config.projection_size, bias=False)
            self.of_similarity = nn.Linear(1, config.num_labels, bias=False)  # w
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        weight: Any = getattr(module, "weight", None)
        if module is getattr(self, "of_similarity", None) and not is_loaded(weight):
            nn.init.zeros_(weight)

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

    def similarity(self, texts: Mapping[str, Any], images: Regions, image_index: torch.Tensor | None) -> torch.Tensor:
        """Of N statements the cosine (N, 1) of each with its image, both read by themselves."""
        seen = {"region_embeds": images.region_features, "region_mask": images.region_mask}
        of_images = F.normalize(self.image_projection(self.fusion(**seen, return_dict=True).pooler_output), dim=-1)
        of_texts = F.normalize(self.text_projection(self.fusion(**texts, return_dict=True).pooler_output), dim=-1)
        sizes: Any = {"num_texts": len(of_texts), "num_images": len(of_images)}
        rows = TextRows.of(image_index, **sizes, device=of_texts.device)
        return (of_texts * rows.of_images(of_images)).sum(dim=-1, keepdim=True)

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
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownReasoningOutput | tuple:
        """Score every class for each statement.

        input_ids (N, T) with the tokenizer's special tokens, attention_mask (N, T), by default all but the padding
        token; regions of P images as `get_regions` takes them (with object_probs and attribute_probs, where the config
        has tags); image_index (N,): which image each statement is about, or (N, K): which K images together (-1:
        none). labels (N,): classes, -100 where there is none, or soft scores (N, C) in 0..1. ->
        `UpDownReasoningOutput`; attentions only where asked for, since showing them takes a slower attention. Raises
        `ValueError` for numbers that do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
        fields = optional_fields(kwargs | said)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        images, image_index = self.fusion.embedded_rows(regions, image_index)
        texts: Any = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        seen: Any = {"region_embeds": images.region_features, "region_mask": images.region_mask}
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        joint = self.fusion(**texts, **seen, **shown, image_index=image_index, return_dict=True)
        logits = self.answer_logits(joint.pooler_output)  # (N, C)
        if self.config.answer_similarity:
            alike = self.similarity(texts, images, image_index)
            logits = logits + self.of_similarity(alike * self.config.projection_size)
        attentions = None
        if joint.attentions:
            words, mask = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask), images.region_mask
            rows = TextRows.of(image_index, num_texts=len(words), num_images=len(mask), device=words.device)
            attentions = cls_attention(joint.attentions, words, rows.of_images(mask))
        return UpDownReasoningOutput(
            loss=statement_loss(self.config, logits, labels, kwargs.get("num_items_in_batch")),
            logits=logits,
            hidden_states=joint.hidden_states,
            attentions=attentions,
            region_boxes=images.region_boxes,
        )


class UpDownFusionForImagePairs(UpDownFusionPreTrainedModel):
    """Whether a statement about `config.num_images` images together is true; see the module's docstring.

    As many classes as `config.id2label` names. Takes `pixel_values` (with a region source of its own) or
    `region_features, region_boxes, region_mask` of P images, and N statements, each about K images: those next to each
    other, P = N x K, or as `image_index` (N, K) says.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> labels = {0: "false", 1: "true"}
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, id2label=labels, num_images=2)
    >>> model = UpDownFusionForImagePairs(config).eval()
    >>> regions = {"region_features": torch.randn(2, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4] * 2)}
    >>> left_and_right, swapped = (model(torch.tensor([[2, 7, 9]]), **regions, image_index=torch.tensor([pair])).logits
    ...                            for pair in ([0, 1], [1, 0]))
    >>> left_and_right.shape, bool((left_and_right != swapped).any())
    (torch.Size([1, 2]), True)
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        if config.num_images < 2:
            raise ValueError(f"num_images is {config.num_images}: statements about several images need 2 or more")
        self.fusion = UpDownFusionModel(config)
        self.others = OtherImages(config) if config.image_pairs == "pair_biattention" else None
        joined = 1 if config.image_pairs == "triplet" else config.num_images
        self.answers = nn.Linear(joined * config.hidden_size, config.num_labels)  # W
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
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownReasoningOutput | tuple:
        """Score every class for each statement.

        input_ids (N, T) with the tokenizer's special tokens, attention_mask (N, T), by default all but the padding
        token; regions of P images as `get_regions` takes them; image_index (N, K): the images of each statement in
        their order. labels (N,): classes, -100 where there is none, or soft scores (N, C) in 0..1. ->
        `UpDownReasoningOutput`. Raises `ValueError` for numbers that do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
        fields = optional_fields(kwargs | said)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        words = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask)
        config, index = self.config, self.images_of(image_index, len(words), regions)
        images = self.fusion.embedded(regions.of_rows(index))  # (N, K x R, ..)
        passes = images if config.image_pairs == "triplet" else apart(images, config.num_images)
        each = len(passes.region_mask) // len(words)  # passes of a statement
        words = words.repeat_interleave(each, dim=0)
        texts: Any = {"attention_mask": words}
        for name, values in (("input_ids", input_ids), ("inputs_embeds", inputs_embeds)):
            texts[name] = values if values is None else values.repeat_interleave(each, dim=0)
        seen: Any = {"region_embeds": passes.region_features, "region_mask": passes.region_mask}
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        joint = self.fusion(**texts, **seen, **shown, return_dict=True)
        read = joint.pooler_output
        if self.others is not None:
            read = self.others(joint.last_hidden_state, torch.cat([words, passes.region_mask], dim=1))
        logits = self.answers(read.reshape(len(index), -1))  # (N, C)
        attentions = None
        if joint.attentions:
            found = cls_attention(joint.attentions, words, passes.region_mask)
            attentions = tuple(layer.unflatten(0, (-1, each)).transpose(1, 2).flatten(2) / each for layer in found)
        return UpDownReasoningOutput(
            loss=statement_loss(config, logits, labels, kwargs.get("num_items_in_batch")),
            logits=logits,
            hidden_states=joint.hidden_states,
            attentions=attentions,
            region_boxes=images.region_boxes,
        )

    def images_of(self, image_index: torch.Tensor | None, num_texts: int, regions: Regions) -> torch.Tensor:
        """The images of each statement (N, K), by default those next to each other; `ValueError` for other numbers."""
        most, num_images = self.config.num_images, len(regions.region_features)
        if image_index is None:
            if num_images != num_texts * most:
                raise ValueError(
                    f"{num_images} images for {num_texts} statements about {most} images each: give these next to each "
                    "other, or name those of each statement in image_index"
                )
            return torch.arange(num_images, device=regions.region_features.device).view(num_texts, most)
        if image_index.shape != (num_texts, most):
            raise ValueError(
                f"image_index has shape {tuple(image_index.shape)}, but must be ({num_texts} statements, {most} images)"
            )
        if self.config.image_pairs != "triplet" and not is_traced() and bool((image_index < 0).any()):
            raise ValueError(
                f"image_index holds -1, but image_pairs={self.config.image_pairs!r} reads every image of a statement "
                "by itself: name them all, or use image_pairs='triplet'"
            )
        return image_index


class OtherImages(nn.Module):
    """What each pass, of a statement with one image, sees in those with the others: pair_biattention.

    UNITER's for two images; each of more looks at all others together.
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__()
        self.num_images = config.num_images
        self.looks = nn.ModuleList(OtherAttention(config) for _ in range(config.num_images))
        self.joins = nn.Linear(2 * config.hidden_size, config.hidden_size)  # F
        self.weighs = nn.Linear(config.hidden_size, 1)  # w
        self.dropout = config.image_pairs_dropout

    def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """states (N x K, L, H) with mask (N x K, L) bool -> (N, K, H)"""
        own = states.unflatten(0, (-1, self.num_images))  # (N, K, L, H)
        real = mask.unflatten(0, (-1, self.num_images))  # (N, K, L)
        read = []
        for place, look in enumerate(self.looks):
            rest = [other for other in range(self.num_images) if other != place]
            seen = look(own[:, place], own[:, rest].flatten(1, 2), real[:, rest].flatten(1, 2))
            joined = self.joins(torch.cat([seen, own[:, place]], dim=-1)).relu()
            joined = F.dropout(joined, self.dropout, self.training)  # (N, L, H)
            scores = self.weighs(joined).squeeze(-1).relu().float().masked_fill(~real[:, place], float("-inf"))
            read.append(torch.bmm(scores.softmax(dim=-1)[:, None].to(joined.dtype), joined).squeeze(1))
        return torch.stack(read, dim=1)


class OtherAttention(nn.Module):
    """Multi-head attention of tokens over those of other passes (Vaswani et al. 2017)."""

    def __init__(self, config: UpDownFusionConfig):
        super().__init__()
        width = config.hidden_size
        self.heads, self.dropout = config.num_attention_heads, config.image_pairs_dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, others: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """states (N, L, H) over others (N, M, H) where mask (N, M) is True -> (N, L, H)"""
        parts = (self.query(states), self.key(others), self.value(others))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = additive(mask[:, None, None], query.dtype)  # (N, 1, 1, M)
        dropped = self.dropout if self.training else 0.0
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=dropped)
        return self.output(found.transpose(1, 2).flatten(2))


def apart(images: Regions, num_images: int) -> Regions:
    """Joined regions of N rows (N, K x R, ..) as those of N x K images (N x K, R, ..).

    >>> both = Regions(torch.arange(4.0).view(1, 4, 1), None, torch.ones(1, 4).bool())
    >>> apart(both, 2).region_features.flatten(1).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    parts = (images.region_features, images.region_boxes, images.region_mask)
    return Regions(
        *(None if part is None else part.unflatten(1, (num_images, -1)).flatten(0, 1) for part in parts)  # type: ignore[arg-type]
    )


def statement_loss(
    config: UpDownFusionConfig,
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    num_items_in_batch: torch.Tensor | int | None,
) -> torch.Tensor | None:
    """`class_loss` by `config.problem_type`; without one, classes (N,) learn by cross-entropy, soft scores (N, C) each
    by itself, and one output is a number. None without labels; `ValueError` for labels of another shape.
    """
    if labels is None:
        return None
    kind = config.problem_type
    if kind is None:
        single = "regression" if logits.shape[1] == 1 else "single_label_classification"
        kind = "multi_label_classification" if labels.shape == logits.shape and logits.shape[1] > 1 else single
    wanted = (len(logits),) if kind == "single_label_classification" else tuple(logits.shape)
    number = kind == "regression" and labels.numel() == logits.numel()
    if tuple(labels.shape) != wanted and not number:
        told = "one class each" if kind == "single_label_classification" else f"{logits.shape[1]} scores each"
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but {kind} of {len(logits)} statements wants {wanted}: {told}"
        )
    if kind == "single_label_classification" and not (is_traced() or labels.is_meta):
        odd = labels[(labels != -100) & ((labels < 0) | (labels >= logits.shape[1]))]
        if len(odd):
            raise ValueError(
                f"labels hold {int(odd[0])}, but the model has {logits.shape[1]} classes: "
                f"{', '.join(map(str, (config.id2label or {}).values()))}"
            )
    return class_loss(logits, labels, problem_type=kind, num_items_in_batch=num_items_in_batch)
