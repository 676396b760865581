"""Image <-> text: matching and retrieval on the fusion model.

    s_ij = v_i . t_j              two passes, image and text apart: fast, and all pairs at once   (ITC)
    z    = [CLS] of both together, log-odds = w . z + b: slower and surer, for the best candidates (ITM)

(or, with `config.match_by="product"`, z = v'_i * t'_j of the same two vectors, each made in the presence of the other.)
v and t are the passes' vectors (`config.pooling`), projected and scaled to length 1. Losses are `itc_loss` and
`itm_loss` of `losses_updown.py` (after ALBEF, Li et al. 2021, sections 3.2 and 3.3). Over several processes every image
is compared with the texts of all.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward, take_old_names
from .clip_pooling_updown import ClipPooling
from .compat_updown import is_loaded, is_traced
from .configuration_text_updown import UpDownFusionConfig
from .losses_updown import gather_owners, gather_rows, itc_loss, itm_loss, momentum_itc_loss, unique_image_rows
from .modeling_attention import TextRows
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel, mean_state, region_attention
from .outputs_updown import UpDownFusionOutput, UpDownRetrievalOutput, check_finite_eagerly
from .regions_updown import Regions, optional_fields
from .time_updown import frame_numbers, frame_seconds, split_frames


class UpDownFusionForImageTextRetrieval(UpDownFusionPreTrainedModel):
    """Finds images for texts and texts for images: embeddings to search by, and a match score to re-rank the best.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    and N texts.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, projection_size=16)
    >>> model = UpDownFusionForImageTextRetrieval(config).eval()
    >>> regions = {"region_features": torch.randn(2, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4] * 2)}
    >>> texts = torch.tensor([[2, 7, 9], [2, 8, 0], [2, 5, 5]])
    >>> model(texts, **regions).logits_per_image.shape
    torch.Size([2, 3])
    >>> model.match(texts, image_index=torch.tensor([0, 0, 1]), **regions).shape
    torch.Size([3])
    """

    _no_split_modules = ["UpDownGrid", "RegionEmbedding"]
    of_wrong_pairs: tuple[str, ...] = ("itm",)  # objectives that need wrong pairs beside the right ones

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        if config.weight("itc"):
            self.image_projection = nn.Linear(config.hidden_size, config.projection_size, bias=False)
            self.text_projection = nn.Linear(config.hidden_size, config.projection_size, bias=False)
            self.temperature = nn.Parameter(torch.tensor(float(config.temperature)))
            self.clip_pooling = ClipPooling(config) if config.clip_pooling else None
        if config.weight("itm"):
            by_product = config.match_by == "product"
            self.match_head = nn.Linear(config.projection_size if by_product else config.hidden_size, 1)
        self.build_heads()
        self.post_init()

    def build_heads(self) -> None:
        """More heads, for the classes that learn more."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.config.weight("itc") and not is_loaded(self.temperature):
            nn.init.constant_(self.temperature, self.config.temperature)
        weight: Any = getattr(module, "weight", None)
        if is_loaded(weight):
            return
        if module is getattr(self, "match_head", None) and self.config.match_by == "product":
            nn.init.constant_(weight, 5 / self.config.projection_size)  # a cosine of 1 is a log-odds of 5
        if any(module is getattr(self, name, None) for name in ("image_projection", "text_projection")):
            nn.init.eye_(weight)  # a pretrained sentence encoder's own space is where comparing starts

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
        image_index: torch.LongTensor | None = None,
        image_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        return_loss: bool | None = None,
        keys: dict[str, Any] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownRetrievalOutput | tuple:
        """Compare every image with every text; with labels or `return_loss`, the losses too.

        input_ids (N, T), attention_mask (N, T); regions of P images as `get_regions` takes them. labels (N,), or
        image_index (N,): the image each text belongs to, by default N / P texts next to each other for every image.
        image_ids (P,): each image's number in the data set, by which one that several processes hold is known to be
        one; labels are such numbers then. keys: the momentum copy's embeddings, as `MomentumQueue.keys` makes them.
        With `output_attentions` each text is read together with its own image as well. -> `UpDownRetrievalOutput`.
        """
        owners = image_index if labels is None else rows_of(labels, image_ids)
        tags = {"object_probs": object_probs, "attribute_probs": attribute_probs}
        fields = optional_fields(kwargs | tags | {"region_seconds": region_seconds})
        images = self.images(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        if input_ids is None:
            raise ValueError("There is no text to compare with: give input_ids (and attention_mask)")
        image_embeds = self.project_images(images)
        text_embeds = self.get_text_features(input_ids, attention_mask)
        scaled = image_embeds @ text_embeds.T / self.bounded_temperature().to(image_embeds.dtype)  # (P, N)
        self.check_numbers(scaled, "scores of images and texts")
        losses: dict[str, torch.Tensor] = {}
        if labels is not None or return_loss:
            rows = self.rows(owners, input_ids, images)
            losses = self.pair_losses(
                *(input_ids, attention_mask, images, rows),
                image_embeds=image_embeds,
                text_embeds=text_embeds,
                keys=keys,
                image_ids=image_ids,
            )
        return UpDownRetrievalOutput(
            loss=self.weighted(losses),
            losses=losses or None,
            logits=scaled,
            logits_per_image=scaled,
            logits_per_text=scaled.T,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            attentions=self.word_attention(input_ids, attention_mask, images, owners) if output_attentions else None,
            region_boxes=images.region_boxes if output_attentions else None,
        )

    # -- the two ways to score -----------------------------------------------------------------------------------

    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        region_seconds: torch.Tensor | None = None,
        **fields: Any,
    ) -> torch.Tensor:
        """P images, or their regions with all their fields -> embeddings (P, E) of length 1."""
        fields["region_seconds"] = region_seconds
        return self.project_images(
            self.images(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        )

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """N texts (N, T) -> embeddings (N, E) of length 1."""
        self.check_objective("itc", "compares no embeddings")
        joint = self.fusion(input_ids, attention_mask=attention_mask, return_dict=True).pooler_output
        embeddings = F.normalize(self.text_projection(joint), dim=-1)
        self.check_numbers(embeddings, "embeddings of texts")
        return embeddings

    def match(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        region_seconds: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        photo_index: torch.Tensor | None = None,
        **fields: Any,
    ) -> torch.Tensor:
        """Log-odds (N,) that each text and its image belong together; arguments as for `forward`; `photo_index` was
        `image_index`."""
        given = {"image_index": image_index, "photo_index": photo_index}
        take_old_names(given, ("image_index",))
        fields["region_seconds"] = region_seconds
        images = self.images(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        owners = self.rows(given["image_index"], input_ids, images).image_index
        odds = self.match_logits(input_ids, attention_mask, images, owners)
        self.check_numbers(odds, "log-odds of pairs")
        return odds

    def bounded_temperature(self) -> torch.Tensor:
        """The learnt temperature between its bounds; outside of them its gradient still leads back."""
        config = self.config
        return (
            self.temperature
            + (self.temperature.clamp(config.min_temperature, config.max_temperature) - self.temperature).detach()
        )

    # -- passes -----------------------------------------------------------------------------------------------------

    def images(
        self,
        pixel_values: torch.Tensor | None,
        region_features: torch.Tensor | None,
        region_boxes: torch.Tensor | None,
        region_mask: torch.Tensor | None,
        pixel_mask: torch.Tensor | None = None,
        region_seconds: torch.Tensor | None = None,
        **fields: Any,
    ) -> Regions:
        """Regions of P images whose `region_features` are the encoder's input embeddings (P, R, H), made once."""
        fields["region_seconds"] = region_seconds
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        return self.fusion.embedded(regions)

    def get_regions(self, *arguments: Any, **named: Any) -> Regions:
        """As the fusion model has it."""
        return self.fusion.get_regions(*arguments, **named)

    def project_images(self, images: Regions) -> torch.Tensor:
        """(P, E) of length 1, from a pass over the regions alone, or one for each frame (`config.clip_pooling`)."""
        self.check_objective("itc", "compares no embeddings")
        if self.clip_pooling is None:
            embeddings = self.project_alone(images.region_features, images.region_mask)
        else:
            numbers = frame_numbers(images.region_seconds, images.region_mask)
            states, mask, has_frame = split_frames(images.region_features, numbers)
            vectors = self.project_alone(states, mask)  # (G, E)
            frames = vectors.new_zeros(*has_frame.shape, vectors.shape[-1])  # (P, F, E)
            frames[has_frame] = vectors
            seconds = frame_seconds(images.region_seconds, numbers, has_frame)
            embeddings = self.clip_pooling(frames, has_frame, seconds)
        self.check_numbers(embeddings, "embeddings of images")
        return embeddings

    def project_alone(self, region_embeds: torch.Tensor, region_mask: torch.Tensor) -> torch.Tensor:
        """Embedded regions (P, R, H), their mask (P, R) -> (P, E) of length 1, each row in a pass of its own."""
        joint = self.fusion(region_embeds=region_embeds, region_mask=region_mask, return_dict=True).pooler_output
        return F.normalize(self.image_projection(joint), dim=-1)

    def check_numbers(self, numbers: torch.Tensor, what: str) -> None:
        """`ValueError` for numbers that would rank as if they were some; training looks at its loss instead."""
        if not self.training:
            check_finite_eagerly(numbers, self, what=what)

    def read_together(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        image_index: torch.Tensor,
        **more: Any,
    ) -> UpDownFusionOutput:
        """Each text with its image in one pass."""
        return self.fusion(
            input_ids,
            attention_mask=attention_mask,
            region_embeds=images.region_features,
            region_mask=images.region_mask,
            image_index=image_index,
            return_dict=True,
            **more,
        )

    def word_attention(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        owners: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        """How each word of each text weighed its image's regions where both are read together, (N, T, R) a layer."""
        rows = self.rows(owners, input_ids, images)
        joint = self.read_together(input_ids, attention_mask, images, rows.image_index, output_attentions=True)
        mask = rows.of_images(images.region_mask)
        return region_attention(joint.attentions or (), mask, num_words=input_ids.shape[1])

    def match_logits(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, images: Regions, image_index: torch.Tensor
    ) -> torch.Tensor:
        """(N,) log-odds of each text with the image that `image_index` names."""
        self.check_objective("itm", "scores no pairs")
        joint = self.read_together(input_ids, attention_mask, images, image_index)
        return self.match_of(joint, input_ids, attention_mask, images, image_index)

    def match_of(
        self,
        joint: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        image_index: torch.Tensor,
    ) -> torch.Tensor:
        """(N,) log-odds of pairs that were read together."""
        if self.config.match_by == "cls":
            return self.match_head(joint.pooler_output).squeeze(-1)
        words = mean_state(joint.word_states, self.fusion.word_mask(input_ids, None, attention_mask))
        regions = mean_state(joint.region_states, images.region_mask.index_select(0, image_index))
        texts = F.normalize(self.text_projection(words), dim=-1)
        image_vectors = F.normalize(self.image_projection(regions), dim=-1)
        return self.match_head(texts * image_vectors * self.config.projection_size).squeeze(-1)

    def rows(self, owners: torch.Tensor | None, input_ids: torch.Tensor, images: Regions) -> TextRows:
        """Which image each text belongs to."""
        return TextRows.of(
            owners, num_texts=len(input_ids), num_images=len(images.region_mask), device=input_ids.device
        )

    def check_objective(self, name: str, lack: str) -> None:
        """`ValueError` where the head of an objective is not there."""
        if not self.config.weight(name):
            raise ValueError(
                f"This model {lack}: config.objectives {self.config.objectives} leaves out {name!r}; take or train one "
                "whose objectives name it"
            )

    # -- losses -----------------------------------------------------------------------------------------------------

    def pair_losses(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        rows: TextRows,
        *,
        image_embeds: torch.Tensor | None,
        text_embeds: torch.Tensor | None,
        keys: dict[str, Any] | None,
        image_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`itc` over the batch of all processes (and the momentum queue), `itm` over this process's."""
        losses, similarity = {}, None
        if image_embeds is not None and text_embeds is not None:
            losses["itc"] = self.contrast(image_embeds, text_embeds, rows.image_index, keys, image_ids)
            similarity = (image_embeds.float() @ text_embeds.float().T).detach()  # (P, N)
        if any(self.config.weight(name) for name in self.of_wrong_pairs):
            losses |= self.matching(input_ids, attention_mask, images, rows, similarity)
        return losses

    def contrast(
        self,
        image_embeds: torch.Tensor,
        text_embeds: torch.Tensor,
        owners: torch.Tensor,
        keys: dict[str, Any] | None,
        image_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """ITC, each image of all processes once given `image_ids`; with `keys` against the momentum copy's."""
        temperature = self.bounded_temperature().float()
        if keys is not None:
            return momentum_itc_loss(image_embeds.float(), text_embeds.float(), temperature=temperature, **keys)
        images, texts = gather_rows(image_embeds.float()), gather_rows(text_embeds.float())
        if image_ids is None:
            owners = gather_owners(owners, len(image_embeds))
        else:
            text_ids = image_ids.index_select(0, owners)
            kept, owners = unique_image_rows(gather_rows(image_ids), gather_rows(text_ids))
            images = images.index_select(0, kept)
        return itc_loss(images, texts, temperature=temperature, owners=owners)

    def matching(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        rows: TextRows,
        similarity: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """`itm`: every right pair, a wrong image for every text, and a wrong text for every image.

        similarity (P, N) as ITC sees it; the wrong ones are hard where the config says so and ITC is learnt. With
        `config.match_share` below 1 only such a share of the images, and of the texts those of these images.
        """
        owners = rows.image_index
        if self.config.hard_negatives and similarity is not None:
            wrong_image, wrong_text = hard_negatives(
                similarity, owners, temperature=self.bounded_temperature().float().detach()
            )
        else:
            wrong_image, wrong_text = random_negatives(rows.num_images, owners)
        images_too = some_images(rows.num_images, self.config.match_share, device=owners.device)
        own = torch.isin(owners, images_too).nonzero().squeeze(1)
        wrong_image, wrong_text = wrong_image[own], wrong_text[images_too]
        texts = torch.cat([own, own[wrong_image >= 0], wrong_text[wrong_text >= 0]])
        image_rows = torch.cat([owners[own], wrong_image[wrong_image >= 0], images_too[wrong_text >= 0]])
        labels = torch.zeros(len(texts), device=owners.device)
        labels[: len(own)] = 1
        mask = None if attention_mask is None else attention_mask.index_select(0, texts)
        pairs = (input_ids.index_select(0, texts), mask, images, image_rows)
        return self.joint_losses(self.read_together(*pairs), labels, *pairs)

    def joint_losses(self, joint: Any, labels: torch.Tensor, *pairs: Any) -> dict[str, torch.Tensor]:
        """What is learnt of right pairs (label 1) and wrong ones (0) that were read together."""
        return {"itm": itm_loss(self.match_of(joint, *pairs).float(), labels)} if self.config.weight("itm") else {}

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The sum of the losses, each times its weight; None without any."""
        if not losses:
            return None
        return torch.stack([self.config.weight(name) * loss for name, loss in losses.items()]).sum()


def rows_of(labels: torch.Tensor, image_ids: torch.Tensor | None) -> torch.Tensor:
    """The row of each text's image, (N,): `labels` themselves or, where images have numbers, where theirs stands.

    Raises `ValueError` for a number that no image has.

    >>> rows_of(torch.tensor([40, 7, 40]), torch.tensor([7, 40]))
    tensor([1, 0, 1])
    """
    if image_ids is None:
        return labels
    same = labels[:, None] == image_ids[None, :]  # (N, P)
    if not is_traced() and not same.any(dim=1).all():
        lost = labels[~same.any(dim=1)][0].item()
        raise ValueError(f"labels name image {lost}, but image_ids, the images of the batch, do not")
    return same.long().argmax(dim=1)


def some_images(num_images: int, share: float, *, device: torch.device) -> torch.Tensor:
    """The rows of a share of the images, at least one, in order; all for a share of 1, without drawing anything.

    >>> some_images(3, 1.0, device=torch.device("cpu")), len(some_images(96, 0.25, device=torch.device("cpu")))
    (tensor([0, 1, 2]), 24)
    """
    if share >= 1:
        return torch.arange(num_images, device=device)
    kept = max(round(share * num_images), 1)
    return torch.randperm(num_images, device=device)[:kept].sort().values


@torch.no_grad()
def hard_negatives(
    similarity: torch.Tensor,
    owners: torch.Tensor,
    *,
    temperature: torch.Tensor | float,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A wrong image for each text and a wrong text for each image, the likelier the more similar (ALBEF, section 3.2).

    similarity (P, N) of unit-length embeddings, owners (N,) int64. Drawn from softmax(similarity / temperature) with
    matches at 0, by the largest of logits plus Gumbel noise: that is the same distribution, and nothing underflows
    however unlike the wrong ones are. Drawn on the generator's device.

    Returns:
        image_of_text (N,) and text_of_image (P,) int64; -1 where all there is belongs together, as in a batch of one
        image.
    """
    logits = similarity.float() / torch.as_tensor(temperature, device=similarity.device).float()  # (P, N)
    logits = logits.clamp(min=torch.finfo(logits.dtype).min)  # a similarity of -inf still comes before a match
    images = torch.arange(len(logits), device=logits.device)
    logits = logits.masked_fill(images[:, None] == owners[None, :], -torch.inf)
    return _drawn(logits.T, generator), _drawn(logits, generator)


def random_negatives(
    num_images: int, owners: torch.Tensor, *, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `hard_negatives`, every wrong image and every wrong text being as likely as another.

    >>> random_negatives(2, torch.tensor([0, 1, 1]))[0]
    tensor([1, 0, 0])
    """
    alike = torch.zeros(num_images, len(owners), device=owners.device)
    return hard_negatives(alike, owners, temperature=1.0, generator=generator)


def _drawn(logits: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """One column of each row (Q, K), drawn from the row's softmax -> (Q,); -1 where a row holds nothing but -inf."""
    if not logits.numel():
        return torch.full((len(logits),), -1, device=logits.device)
    waits = torch.empty(logits.shape, device=logits.device if generator is None else generator.device)
    noise = -waits.exponential_(generator=generator).clamp(min=torch.finfo(waits.dtype).tiny).log()
    best, column = (logits + noise.to(logits.device)).max(dim=1)
    return column.masked_fill(best == -torch.inf, -1)
