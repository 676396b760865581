"""A momentum copy of a retrieval model, and a queue of its embeddings: more negatives than in one batch.

    copy <- m copy + (1 - m) model                     before every step           (He et al. 2020, equation 2)
    keys  = the copy's embeddings of this batch, then those of the batches before  (ALBEF, Li et al. 2021, section 3.2)

The training task owns it and passes `keys` to the model's `forward`; it is not saved with the model.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .losses_updown import gather_rows

REGION_INPUTS = ("region_features", "region_boxes", "region_mask", "region_seconds", "object_probs", "attribute_probs")


class MomentumQueue(nn.Module):
    """The copy and its queue of `size` images and `size` texts.

    size: of the queue, 65,536 in ALBEF; 0: only the copy. decay: m, 0.995 in ALBEF.
    Buffers: `image_queue`, `text_queue` (size, E), and the image ids (size,) of their rows, -1 for empty ones.
    """

    def __init__(self, model: Any, *, size: int, decay: float = 0.995):
        super().__init__()
        self.size, self.decay = size, decay
        source, model.fusion.region_source = model.fusion.region_source, None  # regions are computed once, by the model
        self.copy: Any = copy.deepcopy(model).eval().requires_grad_(False)
        model.fusion.region_source = source
        width = model.config.projection_size
        self.image_queue = nn.Buffer(torch.zeros(size, width))
        self.text_queue = nn.Buffer(torch.zeros(size, width))
        self.image_ids = nn.Buffer(torch.full((size,), -1))
        self.text_ids = nn.Buffer(torch.full((size,), -1))
        self.pushed = nn.Buffer(torch.zeros(2, dtype=torch.long))  # images and texts, ever

    @torch.no_grad()
    def follow(self, model: Any) -> None:
        """Update the copy: m copy + (1 - m) model."""
        own = dict(model.named_parameters())
        for name, parameter in self.copy.named_parameters():
            parameter.lerp_(own[name].to(parameter.dtype), 1 - self.decay)

    @torch.no_grad()
    def keys(
        self,
        regions: Mapping[str, Any],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        image_ids: torch.Tensor,
        owners: torch.Tensor,
        alpha: float = 0.0,
    ) -> dict[str, Any]:
        """The keys of `momentum_itc_loss` for this process's batch, which is then added to the queue.

        regions: `REGION_INPUTS` of P images, the last three where the model reads them; input_ids, attention_mask
        (N, T); image_ids (P,): the images' numbers in the data set; owners (N,): the row of each text's image.
        Collective: every process calls it with its share of the batch.
        """
        named = {name: regions[name] for name in REGION_INPUTS if name in regions}
        images = self.copy.get_image_features(**named).float()
        texts = self.copy.get_text_features(input_ids, attention_mask).float()
        text_ids = image_ids[owners]
        all_images, all_texts = gather_rows(images), gather_rows(texts)
        all_image_ids, all_text_ids = gather_rows(image_ids), gather_rows(text_ids)
        kept_images, kept_texts = self.image_ids >= 0, self.text_ids >= 0
        keys = {
            "image_keys": torch.cat([all_images, self.image_queue[kept_images]]),
            "text_keys": torch.cat([all_texts, self.text_queue[kept_texts]]),
            "image_key_ids": torch.cat([all_image_ids, self.image_ids[kept_images]]),
            "text_key_ids": torch.cat([all_text_ids, self.text_ids[kept_texts]]),
            "image_ids": image_ids,
            "text_ids": text_ids,
            "momentum_image_embeds": images,
            "momentum_text_embeds": texts,
            "alpha": alpha,
        }
        self.push(0, self.image_queue, self.image_ids, all_images, all_image_ids)
        self.push(1, self.text_queue, self.text_ids, all_texts, all_text_ids)
        return keys

    def push(
        self, side: int, queue: torch.Tensor, ids: torch.Tensor, embeds: torch.Tensor, new_ids: torch.Tensor
    ) -> None:
        """Write embeddings into one side's queue (0 images, 1 texts), replacing the oldest."""
        if not self.size:
            return
        order = new_ids.argsort(stable=True)[-self.size :]  # independent of the process that had the image
        embeds, new_ids = embeds[order], new_ids[order]
        places = (self.pushed[side] + torch.arange(len(embeds), device=embeds.device)) % self.size
        queue[places], ids[places] = embeds, new_ids
        self.pushed[side] += len(embeds)
