"""Tags: the names of a region's objects and attributes as vectors beside its feature, for every top-down model.

    t_i = sum_c p(c | i) E_c        over the classes without background      r_i = [v_i, t_i, t'_i]

A detector says of a region not only how it looks but also what it may be called (Anderson et al. 2018, section 3.1);
the names anchor regions and words in one space (Oscar, Li et al. 2020; VinVL, Zhang et al. 2021), here softly, by the
class probabilities p. E may start from word vectors, so that a class that no caption showed still has a meaning.

Tags are joined to the feature, not added to it. Before a linear layer both are the same, [W W'] [v, t] = W v + W' t,
and a captioner without region embedding attends to features as they are, which a sum would overwrite.
"""

import torch
from torch import nn

from .compat_updown import is_traced
from .configuration_tags_updown import TaggedRegionsConfig, TagKind
from .linear_updown import float_type

TAG_STD = 0.3  # of new vectors of classes: about that of GloVe's


class TagEmbedding(nn.Linear):
    """A vector for each class, a column of `weight` (E, C): probabilities (..., C) -> their mean vector (..., E)."""

    def __init__(self, num_classes: int, size: int):
        super().__init__(num_classes, size, bias=False)

    def reset_parameters(self) -> None:
        """New vectors, as a model's `_init_weights` draws them too."""
        nn.init.normal_(self.weight, std=TAG_STD)


class RegionTags(nn.Module):
    """Joins to each region's feature the mean vectors of its likely objects and attributes.

    Either part may be absent: a region with a feature of zeros has its tags alone, as those made of words; one whose
    probabilities are zeros (or all background) has tags of zeros.

    Example:

    >>> config = TaggedRegionsConfig(object_tag_names=["cat", "dog"], tag_embedding_size=3)
    >>> tags = RegionTags(config)
    >>> tags.embeddings["object_tags"].weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
    >>> probs = torch.tensor([[[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]]])  # background first
    >>> tags(torch.ones(1, 2, 1), torch.ones(1, 2).bool(), object_probs=probs).tolist()
    [[[1.0, 0.25, 1.0, 2.0], [1.0, 0.0, 0.0, 0.0]]]
    """

    def __init__(self, config: TaggedRegionsConfig):
        super().__init__()
        self.config, self.kinds = config, config.tag_kinds
        self.embeddings = nn.ModuleDict(
            {kind.name: TagEmbedding(getattr(config, kind.name), config.tag_embedding_size) for kind in self.kinds}
        )

    def forward(
        self,
        features: torch.Tensor,
        region_mask: torch.Tensor,
        object_probs: torch.Tensor | None = None,
        attribute_probs: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """features (P, R, D), region_mask (P, R) bool, probabilities (P, R, C + 1) with the background first ->
        (P, R, D + E), or D + 2 E with tags of both kinds; on padding the features as they are and tags of zeros.

        In training all features of an image are dropped with the config's probability. Raises `ValueError` for
        probabilities that are absent, of another number of classes, or not finite.
        """
        given = {"object_probs": object_probs, "attribute_probs": attribute_probs}
        tags = [self.tag(kind, given[kind.probs], ~region_mask[..., None]) for kind in self.kinds]
        if self.training and self.config.region_feature_dropout:
            kept = torch.rand(len(features), 1, 1, device=features.device) >= self.config.region_feature_dropout
            features = torch.where(kept, features, torch.zeros_like(features))
        return torch.cat([features, *tags], dim=-1)

    def tag(self, kind: TagKind, probs: torch.Tensor | None, gaps: torch.Tensor) -> torch.Tensor:
        """The tag of one kind (P, R, E), from probs (P, R, C + 1); gaps (P, R, 1): where there is no region."""
        embedding, top_k = self.embeddings[kind.name], self.config.tag_top_k
        probs = checked_probs(kind, probs, gaps, num_classes=embedding.in_features)[..., 1:]  # type: ignore[arg-type]
        probs = probs.to(float_type(embedding))
        if 0 < top_k < probs.shape[-1]:
            likeliest, classes = probs.topk(top_k, dim=-1)
            probs = torch.zeros_like(probs).scatter(-1, classes, likeliest)
        return embedding(probs)


def checked_probs(kind: TagKind, probs: torch.Tensor | None, gaps: torch.Tensor, *, num_classes: int) -> torch.Tensor:
    """The probabilities (P, R, C + 1) with zeros on padding, where anything may stand; `ValueError` as `RegionTags`."""
    if probs is None:
        raise ValueError(
            f"This model reads the names of each region's {kind.name.removesuffix('_tags')}s (config.{kind.name}), but "
            f"the regions have no {kind.probs}: extract them with `updown extract --soft-labels` (a recipe's "
            "regions.soft_labels), or give zeros for regions without names"
        )
    if probs.shape[-1] != num_classes + 1:
        raise ValueError(
            f"{kind.probs} are of {probs.shape[-1] - 1} classes and the background, but config.{kind.name} is "
            f"{num_classes}: were they made by another detector?"
        )
    probs = probs.masked_fill(gaps, 0)
    if not is_traced() and not probs.is_meta and not probs.sum(dim=-1, dtype=torch.float32).isfinite().all():
        raise ValueError(f"{kind.probs} of some region hold NaN or infinity: extract these regions anew")
    return probs
