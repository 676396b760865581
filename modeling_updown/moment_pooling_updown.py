"""A step of a clip as a sentence reads it: the regions that it names, and what has changed since the step before.

    q_h = W_q sum_t softmax_t(u_h . LN(t_t)) LN(t_t)                   what head h looks for, of the words t
    a_r = exp(s_r) / (1 + sum_r' exp(s_r')),  s_r = q_h . W_k LN(v_r) / sqrt(d)            where in the step it is
    f_c = W_o [sum_r a_r W_v LN(v_r)]_h                                what is there, and where
    [LN(f_c), LN(f_c - f_{c-1})]                                       the step, and its change

The weights are those of scaled dot products (Vaswani et al. 2017) with a further key whose score is 0 and whose value
is 0, so that a step without what the sentence names adds nothing. A mean over regions is the same for every sentence
and may have lost which of several objects moves. A change is small beside all that stands still, so it is normalised by
itself. P clips of R regions in C steps, N sentences of T words, r regions of the fullest step.
"""

import torch
from torch import nn

from .clip_steps_updown import ClipSteps, regions_by_step
from .configuration_moments_updown import MomentConfig
from .losses_updown import at_least_float32
from .modeling_attention import TextRows


class SentencePooling(nn.Module):
    """Multi-head attention of each sentence over the regions of each step; see the module's docstring.

    clip_size, text_size: widths of what comes in for each region and word.
    """

    def __init__(self, config: MomentConfig, *, clip_size: int, text_size: int):
        super().__init__()
        width, self.heads = config.moment_hidden_size, config.moment_num_heads
        self.norm_regions, self.norm_words = nn.LayerNorm(clip_size), nn.LayerNorm(text_size)
        self.word_scores = nn.Linear(text_size, self.heads)  # u
        self.query = nn.ModuleList(nn.Linear(text_size, width // self.heads) for _ in range(self.heads))  # W_q
        self.key, self.value = nn.Linear(clip_size, width), nn.Linear(clip_size, width)  # W_k, W_v
        self.output = nn.Linear(width, clip_size)  # W_o

    def forward(
        self, vectors: torch.Tensor, steps: ClipSteps, words: torch.Tensor, word_mask: torch.Tensor, rows: TextRows
    ) -> torch.Tensor:
        """The steps of each sentence's clip, (N, C, clip_size), 0 where a clip has fewer.

        vectors (P, R, clip_size) of regions, in the steps of P clips; words (N, T, text_size), word_mask (N, T) bool;
        rows: the clip of each sentence. What stands at padding is not read.
        """
        of_steps, places, real = regions_by_step(steps)
        shape = (*steps.mask.shape, int(places.max()) + 1)  # (P, C, r)
        at = (of_steps, places)
        seen = torch.zeros(shape, dtype=torch.bool, device=real.device)
        seen.view(-1, shape[-1])[at] = True
        regions = self.norm_regions(vectors[real])  # (G, clip_size)
        key, value = (self.by_step(layer(regions), at, shape) for layer in (self.key, self.value))
        query = rows.by_image(self.queries(words, word_mask))  # (P, S, heads, d), S sentences of a clip
        scores = torch.einsum("pshd,pcrhd->pschr", query.to(key.dtype), key) / key.shape[-1] ** 0.5
        scores = at_least_float32(scores).masked_fill(~seen[:, None, :, None], float("-inf"))
        nowhere = torch.zeros_like(scores[..., :1])
        weights = torch.cat([scores, nowhere], dim=-1).softmax(dim=-1)[..., :-1]
        found = torch.einsum("pschr,pcrhd->pschd", weights.to(value.dtype), value).flatten(3)
        return rows.by_text(self.output(found).masked_fill(~steps.mask[:, None, :, None], 0))

    def queries(self, words: torch.Tensor, word_mask: torch.Tensor) -> torch.Tensor:
        """What each head looks for, (N, heads, d), of the words (N, T, text_size) that are there."""
        words = self.norm_words(words.masked_fill(~word_mask[..., None], 0))
        scores = at_least_float32(self.word_scores(words)).masked_fill(~word_mask[..., None], float("-inf"))
        shares = scores.softmax(dim=1).to(words.dtype)  # (N, T, heads)
        read = (shares.transpose(1, 2) @ words).unbind(1)
        return torch.stack([query(own) for query, own in zip(self.query, read, strict=True)], dim=1)

    def by_step(
        self, vectors: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor], shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """Vectors (G, width) of regions at their places in their steps, (P, C, r, heads, d); 0 on padding."""
        whole = vectors.new_zeros(shape[0] * shape[1], shape[2], vectors.shape[-1])
        return whole.index_put(at, vectors).view(*shape, self.heads, -1)


class StepChanges(nn.Module):
    """Each step with its difference from the step before, each normalised by itself; of the first step 0.

    size: width of what comes in for each step.
    """

    def __init__(self, size: int):
        super().__init__()
        self.norm_steps, self.norm_changes = nn.LayerNorm(size), nn.LayerNorm(size)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """(N, C, D) -> (N, C, 2 D)"""
        changes = torch.diff(clips, dim=1, prepend=clips[:, :1])
        return torch.cat([self.norm_steps(clips), self.norm_changes(changes)], dim=-1)
