"""`Regions` -> how many objects an image shows, by the fusion model.

    z = [CLS] of a pass over the regions alone
    p = softmax(W z + b)                             a class a count: 0, 1, ..., A - 1

Words are not read: what the transformer sees of an image is its regions and the [CLS] before them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from .arguments_updown import output_flags
from .configuration_text_updown import UpDownFusionConfig
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel


@dataclass
class UpDownCountingOutput(ModelOutput):
    """What the counting model returns of B images.

    loss (`torch.Tensor` of shape (), *optional*): mean cross-entropy of the true counts.
    logits (`torch.Tensor` of shape (B, A)): log-odds of each count, before the softmax.
    expected_counts (`torch.Tensor` of shape (B,)): the mean count under these probabilities.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    expected_counts: torch.Tensor | None = None


class UpDownForImageCounting(UpDownFusionPreTrainedModel):
    """Counts the objects of an image; `config.id2label` names the counts, from 0 upwards.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of B images.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, id2label={0: "0", 1: "1", 2: "2"})
    >>> boxes = torch.tensor([[[0, 0, 0.5, 1]] * 4])
    >>> UpDownForImageCounting(config)(region_features=torch.randn(1, 4, 8), region_boxes=boxes).logits.shape
    torch.Size([1, 3])
    """

    main_input_name = "pixel_values"

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        self.counts = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

    def forward(
        self,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> UpDownCountingOutput | tuple:
        """Count; regions as `get_regions` takes them, labels (B,) the true counts. -> `UpDownCountingOutput`."""
        flags = output_flags(self, kwargs, None, None, return_dict)
        images = (pixel_values, region_features, region_boxes, region_mask, pixel_mask, region_seconds)
        logits = self.counts(self.fusion(None, *images, return_dict=True).pooler_output)  # (B, A)
        numbers = torch.arange(logits.shape[1], device=logits.device, dtype=torch.float32)
        output = UpDownCountingOutput(
            loss=None if labels is None else F.cross_entropy(logits.float(), labels),
            logits=logits,
            expected_counts=logits.float().softmax(dim=-1) @ numbers,
        )
        return output if flags.as_dict else output.to_tuple()
