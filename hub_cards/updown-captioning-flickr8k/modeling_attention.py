"""Top-down attention over regions (Anderson et al. 2018, equations 3-5).

Regions stand once per photo, queries once per row: N = P photos x S rows each (captions, beams, samples), rows of one
photo next to each other. Nothing of a region is ever copied per row.
"""

import torch
from torch import nn


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
        rows_per_photo: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Weigh each photo's regions for each of its rows.

        query (N, H), keys = W_va v (P, R, A), values (P, R, D), mask (P, R) -> v_hat (N, D), alpha (N, R).
        With `rows` (n,), query holds only those of the N = P x S rows, and so does what is returned.
        """
        query = self.project_query(query)
        if rows is None:
            query = query.view(keys.shape[0], -1, 1, keys.shape[-1])  # (P, S, 1, A)
            scores = self.score(torch.tanh(keys[:, None] + query)).squeeze(-1)  # (P, S, R)
            weights = masked_softmax(scores, mask[:, None]).to(values.dtype)
            return torch.bmm(weights, values).flatten(0, 1), weights.flatten(0, 1)
        photos = rows // rows_per_photo
        hidden = keys.index_select(0, photos).add_(query[:, None]).tanh_()  # (n, R, A), in place: nothing else holds it
        weights = masked_softmax(self.score(hidden).squeeze(-1), mask[photos]).to(values.dtype)  # (n, R)
        spread = weights.new_zeros(keys.shape[0] * rows_per_photo, keys.shape[1]).index_copy(0, rows, weights)
        attended = torch.bmm(spread.unflatten(0, (-1, rows_per_photo)), values)  # (P, S, D)
        return attended.flatten(0, 1).index_select(0, rows), weights


def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Softmax over the last dimension, exactly 0 where `mask` is False."""
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
