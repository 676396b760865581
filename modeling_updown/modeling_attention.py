"""Top-down attention over regions (Anderson et al. 2018, equations 3-5), and the layers of question answering.

Regions stand once per image, queries once per row: N = P images x S rows each (captions, beams, samples), rows of one
image next to each other; texts may also name their image (`TextRows`). Products with regions are made once per
image.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from .linear_updown import first_product, last_product, linear_layer, score_rows


class TopDownAttention(nn.Module):
    """a_i = w_a^T tanh(W_va v_i + W_ha h), alpha = softmax(a), v_hat = sum_i alpha_i v_i (equations 3-5).

    `bias=False` is the paper; ruotianluo's UpDownModel has a bias in each of the three products.

    Example:

    >>> attention = TopDownAttention(region_size=8, query_size=6, attention_size=4)
    >>> regions, mask = torch.randn(2, 3, 8), torch.tensor([[True, True, False], [True, True, True]])
    >>> attended, weights = attention(torch.randn(2, 6), attention.project_regions(regions), regions, mask)
    >>> attended.shape, weights[0, 2].item()
    (torch.Size([2, 8]), 0.0)
    """

    def __init__(self, *, region_size: int, query_size: int, attention_size: int, bias: bool = False):
        super().__init__()
        self.project_regions = nn.Linear(region_size, attention_size, bias=bias)  # W_va
        self.project_query = nn.Linear(query_size, attention_size, bias=bias)  # W_ha
        self.score = nn.Linear(attention_size, 1, bias=bias)  # w_a

    def forward(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor,
        *,
        rows: torch.Tensor | None = None,
        rows_per_image: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weigh each image's regions for each of its rows.

        query (N, H), keys = W_va v (P, R, A), values (P, R, D), mask (P, R) -> v_hat (N, D), alpha (N, R).
        With `rows` (n,), query holds only those of the N = P x S rows, and so does what is returned.
        """
        query = self.project_query(query)
        if rows is None:
            query = query.view(keys.shape[0], -1, 1, keys.shape[-1])  # (P, S, 1, A)
            scores = self.score(torch.tanh(keys[:, None] + query)).squeeze(-1)  # (P, S, R)
            weights = masked_softmax(scores, mask[:, None]).to(values.dtype)
            return torch.bmm(weights, values).flatten(0, 1), weights.flatten(0, 1)
        images = rows // rows_per_image
        hidden = keys.index_select(0, images).add_(query[:, None]).tanh_()  # (n, R, A), in place: nothing else holds it
        weights = masked_softmax(self.score(hidden).squeeze(-1), mask[images]).to(values.dtype)  # (n, R)
        spread = weights.new_zeros(keys.shape[0] * rows_per_image, keys.shape[1]).index_copy(0, rows, weights)
        attended = torch.bmm(spread.unflatten(0, (-1, rows_per_image)), values)  # (P, S, D)
        return attended.flatten(0, 1).index_select(0, rows), weights


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, exactly 0 where `mask` is False."""
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


class GatedLayer(nn.Module):
    """The paper's gated tanh, tanh(W x + b) * sigmoid(W' x + b') (equations 8-10), or relu(W x + b).

    Both products of the gated tanh are one layer; its first half is W.

    >>> layer = GatedLayer(3, 2, activation="gated_tanh")
    >>> layer(torch.zeros(1, 3)).shape, layer.linear.out_features
    (torch.Size([1, 2]), 4)
    """

    def __init__(
        self, in_size: int, out_size: int, *, activation: Literal["gated_tanh", "relu"], weight_norm: bool = False
    ):
        super().__init__()
        self.gated = activation == "gated_tanh"
        self.linear = linear_layer(in_size, (1 + self.gated) * out_size, weight_norm=weight_norm)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.activate(self.linear(inputs))

    def activate(self, products: torch.Tensor) -> torch.Tensor:
        """What follows the product: (..., 2 x out) -> (..., out) for the gated tanh."""
        if not self.gated:
            return products.relu()
        value, gate = products.chunk(2, dim=-1)
        return value.tanh() * gate.sigmoid()


@dataclass
class TextRows:
    """Which of P images each of N texts (texts, captions) belongs to.

    image_index (N,) int64; slot (N,): how many earlier texts belong to the same image; slots: the most texts of an
    image; regular: whether every image has `slots` texts, those of one image next to each other.
    """

    image_index: torch.Tensor
    slot: torch.Tensor
    num_images: int
    slots: int
    regular: bool

    @classmethod
    def of(cls, image_index: torch.Tensor | None, *, num_texts: int, num_images: int, device: Any) -> "TextRows":
        """From each text's image; without it, the same number of texts for every image, next to each other.

        Raises `ValueError` for numbers that do not fit.
        """
        if image_index is None:
            each, odd = divmod(num_texts, num_images)
            if odd or not each:
                raise ValueError(
                    f"{num_texts} texts for {num_images} images: give the same number of texts for every image, "
                    "those of one image next to each other, or name the image of each text in image_index"
                )
            rows = torch.arange(num_texts, device=device)
            return cls(rows // each, rows % each, num_images, each, regular=True)
        image_index = image_index.to(device, torch.long)
        if (
            image_index.shape != (num_texts,)
            or not num_texts
            or not 0 <= int(image_index.min()) <= int(image_index.max()) < num_images
        ):
            raise ValueError(f"image_index must name one of {num_images} images for each of {num_texts} texts")
        order = image_index.argsort(stable=True)
        counts = torch.bincount(image_index, minlength=num_images)
        starts = counts.cumsum(0) - counts
        slot = torch.empty_like(image_index)
        slot[order] = torch.arange(num_texts, device=device) - starts[image_index[order]]
        return cls(image_index, slot, num_images, int(counts.max()), regular=False)

    def of_images(self, images: torch.Tensor) -> torch.Tensor:
        """(P, ...) -> (N, ...)"""
        return images if self.regular and self.slots == 1 else images.index_select(0, self.image_index)

    def by_image(self, texts: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> (P, slots, ...), zero where an image has fewer texts."""
        if self.regular:
            return texts.unflatten(0, (self.num_images, self.slots))
        spread = texts.new_zeros(self.num_images, self.slots, *texts.shape[1:])
        return spread.index_put((self.image_index, self.slot), texts)

    def by_text(self, spread: torch.Tensor) -> torch.Tensor:
        """The way back: (P, slots, ...) -> (N, ...)"""
        return spread.flatten(0, 1) if self.regular else spread[self.image_index, self.slot]

    def products(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """images (P, M, K), texts (N, G, K) -> their products (N, G, M), without a copy of an image per text."""
        spread = self.by_image(texts)  # (P, S, G, K)
        products = torch.bmm(spread.flatten(1, 2), images.transpose(1, 2))  # (P, S x G, M)
        return self.by_text(products.unflatten(1, spread.shape[1:3]))


class QuestionAttention(nn.Module):
    """a_i = w_a^T f_a([v_i, q]), alpha = softmax(a) (the paper, section 3.3), for G glimpses.

    `attention="multiply"` is a_i = w_a^T (f_v(v_i) * f_q(q)), hengyuan-hu's. W [v, q] = W_v v + W_q q, so that the
    regions' product is made once per image however many questions are asked.

    Example:

    >>> layer = QuestionAttention(region_size=8, query_size=6, hidden_size=4, attention="concat", activation="relu")
    >>> rows = TextRows.of(None, num_texts=4, num_images=2, device="cpu")
    >>> keys, mask = layer.project_regions(torch.randn(2, 3, 8)), torch.tensor([[True, True, False], [True] * 3])
    >>> weights = layer(torch.randn(4, 6), keys, mask, rows)[0]
    >>> weights.shape, weights[0, 0, 2].item()
    (torch.Size([4, 1, 3]), 0.0)
    """

    def __init__(
        self,
        *,
        region_size: int,
        query_size: int,
        hidden_size: int,
        attention: Literal["concat", "multiply"],
        activation: Literal["gated_tanh", "relu"],
        weight_norm: bool = False,
        num_glimpses: int = 1,
    ):
        super().__init__()
        self.region_size, self.query_size = region_size, query_size
        self.multiplies = attention == "multiply"
        self.joint: GatedLayer | None = None
        self.of_region: GatedLayer | None = None
        self.of_query: GatedLayer | None = None
        if self.multiplies:
            self.of_region = GatedLayer(region_size, hidden_size, activation=activation, weight_norm=weight_norm)
            self.of_query = GatedLayer(query_size, hidden_size, activation=activation, weight_norm=weight_norm)
        else:
            self.joint = GatedLayer(
                region_size + query_size, hidden_size, activation=activation, weight_norm=weight_norm
            )
        self.score = linear_layer(hidden_size, num_glimpses, weight_norm=weight_norm)  # w_a

    def project_regions(self, features: torch.Tensor) -> torch.Tensor:
        """What of the score does not depend on the question: (P, R, D) -> (P, R, A)."""
        if self.of_region is not None:
            return self.of_region(features)
        assert self.joint is not None  # one of both is there
        return first_product(self.joint.linear, features, rest=self.query_size)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor, rows: TextRows, *, dropout: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """query (N, H), keys (P, R, A), mask (P, R) -> alpha and scores before the softmax, both (N, G, R).

        `dropout` is that of the hidden layer, in training.
        """
        scores = self.scores(query, keys, rows, dropout=dropout)
        weights = masked_softmax(scores.float(), rows.of_images(mask)[:, None])
        return weights.to(scores.dtype), scores

    def scores(self, query: torch.Tensor, keys: torch.Tensor, rows: TextRows, *, dropout: float = 0.0) -> torch.Tensor:
        """a (N, G, R)"""
        if self.of_query is not None:
            projected = self.of_query(query)  # (N, A)
            score = None if self.training and dropout else score_rows(self.score)  # (G, A)
            if score is not None:
                weighted = projected[:, None] * score  # (N, G, A)
                return rows.products(keys, weighted.to(keys.dtype)) + self.score.bias[:, None]
            hidden = rows.of_images(keys) * projected[:, None]  # (N, R, A)
        else:
            assert self.joint is not None  # one of both is there
            projected = last_product(self.joint.linear, query, rest=self.region_size)
            hidden = self.joint.activate(rows.of_images(keys) + projected[:, None])
        hidden = F.dropout(hidden, dropout, self.training)
        return self.score(hidden).transpose(1, 2)
