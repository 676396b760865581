"""`Regions` and a question -> an answer, by the fusion model.

    z = [CLS] of question and image read together
    p = sigmoid(W_o dropout(LN(GELU(W z))))          answers, each by itself  (after LXMERT, Tan and Bansal 2019)

Labels, loss and what is returned are those of `modeling_vqa.py`; the head is also that of pretraining's objective `qa`
(`modeling_pretraining.py`), so a model that learnt these answers there starts with them. N questions may share P
images, whose regions are embedded once.
"""

from typing import Any

import torch

from .arguments_updown import standard_forward
from .configuration_text_updown import UpDownFusionConfig
from .losses_updown import answer_loss
from .modeling_attention import TextRows
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel, shares_of_regions
from .outputs_updown import UpDownVqaOutput
from .regions_updown import optional_fields


class UpDownFusionForVisualQuestionAnswering(UpDownFusionPreTrainedModel):
    """A question answerer on the fusion model; see the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    and N questions about them: one an image, S next to each other for every image, or as `image_index` says.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, id2label={0: "yes", 1: "no"})
    >>> model = UpDownFusionForVisualQuestionAnswering(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> out = model(torch.tensor([[2, 7, 9], [2, 8, 0]]), **regions, output_attentions=True)
    >>> out.logits.shape, len(out.attentions), out.attentions[0].sum(-1).round(decimals=4)[0].tolist()
    (torch.Size([2, 2]), 2, [1.0, 1.0])
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        self.build_answers()
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
        labels: torch.FloatTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownVqaOutput | tuple:
        """Score every answer to each question.

        input_ids (N, T) with the tokenizer's special tokens, attention_mask (N, T), by default all but the padding
        token; regions of P images as `get_regions` takes them (with object_probs and attribute_probs, where the config
        has tags); image_index (N,): which image each question asks about, or (N, K): which K images together (-1:
        none). labels (N, A): soft scores in 0..1. -> `UpDownVqaOutput`; attentions, of every layer and head, only where
        asked for, since showing them takes a slower attention. Raises `ValueError` for numbers that do not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        if kwargs.get("choice_input_ids") is not None:
            raise ValueError("This model scores no choices, only the answers of config.id2label")
        tags = {"object_probs": object_probs, "attribute_probs": attribute_probs}
        fields = optional_fields(kwargs | tags | {"region_seconds": region_seconds})
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        images, image_index = self.fusion.embedded_rows(regions, image_index)
        texts: Any = {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds, "image_index": image_index}
        seen: Any = {"region_embeds": images.region_features, "region_mask": images.region_mask}
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        joint = self.fusion(input_ids, **texts, **seen, **shown, return_dict=True)
        logits = self.answer_logits(joint.pooler_output)  # (N, A)
        attentions = None
        if output_attentions:
            words, mask = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask), images.region_mask
            rows = TextRows.of(image_index, num_texts=len(words), num_images=len(mask), device=words.device)
            attentions = cls_attention(joint.attentions, words, rows.of_images(mask))
        loss = None if labels is None else self.loss_of(logits, labels, kwargs.get("num_items_in_batch"))
        return UpDownVqaOutput(
            loss=loss,
            logits=logits,
            hidden_states=joint.hidden_states,
            attentions=attentions,
            region_boxes=images.region_boxes,
        )

    def loss_of(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Binary cross-entropy of every answer; `ValueError` for labels of another shape."""
        if labels.shape != logits.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, but must hold a soft score for each of "
                f"{logits.shape[1]} answers to each of {len(logits)} questions"
            )
        return answer_loss(logits, labels, num_items_in_batch=num_items_in_batch)


def cls_attention(
    attentions: tuple[torch.Tensor, ...], word_mask: torch.Tensor, region_mask: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Each layer's attention (N, heads, L, L) -> how the first token, [CLS], weighed the regions, (N, heads, R).

    Each head is scaled to sum to 1; exactly 0 on padding. word_mask (N, T), region_mask (N, R).
    """
    texts, first = torch.arange(len(word_mask), device=word_mask.device), word_mask.to(torch.uint8).argmax(dim=1)
    return tuple(
        shares_of_regions(layer[texts, :, first, word_mask.shape[1] :], region_mask[:, None]) for layer in attentions
    )
