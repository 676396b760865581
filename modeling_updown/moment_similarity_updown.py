"""How much more a run of segments is like a sentence than its clip is, in the space in which retrieval compares them.

    z_c = W_v f_c / |W_v f_c|,  t = W_t s / |W_t s|      step c and the sentence as retrieval pools their states
    l_s = the z_c . t of segment s, by how long each step lies in it
    score_ab += k (mean(l_a .. l_b) - mean(l_1 .. l_S))

W_v and W_t are `image_projection` and `text_projection`, which `init_from` takes from a retrieval model: which of
several events is meant is then known before the map has learnt anything; when it begins and ends is the map's.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .clip_steps_updown import ClipSteps
from .losses_updown import at_least_float32
from .modeling_attention import TextRows
from .moment_map_updown import FoundMap, segment_means

FIRST_SCALE = 20.0  # k of new weights: the inverse of ITC's usual temperature


class RunSimilarity(nn.Module):
    """Adds to the logits of a map; see the module's docstring.

    num_segments: S.
    """

    def __init__(self, num_segments: int):
        super().__init__()
        self.num_segments = num_segments
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))  # k

    def forward(
        self, found: FoundMap, vectors: torch.Tensor, texts: torch.Tensor, steps: ClipSteps, rows: TextRows
    ) -> FoundMap:
        """found of N sentences; vectors (P, C, E) of the steps of P clips, texts (N, E); steps of N clips."""
        texts_of_clips = rows.by_image(F.normalize(texts, dim=-1))  # (P, sentences of a clip, E)
        likeness = torch.einsum("psd,pcd->psc", texts_of_clips, F.normalize(vectors, dim=-1))
        segments = segment_means(rows.by_text(likeness)[..., None], steps, self.num_segments).squeeze(-1)  # (N, S)
        segments = at_least_float32(segments)
        runs = run_means(segments) - segments.mean(dim=1)[:, None, None]
        valid = torch.ones_like(runs, dtype=torch.bool).triu()
        logits = found.logits + (self.scale * runs).masked_fill(~valid, 0).to(found.logits.dtype)
        return found._replace(logits=logits)


def run_means(segments: torch.Tensor) -> torch.Tensor:
    """The mean of the segments (N, S) of every run (N, S, S), anything where a run starts after it ends.

    >>> run_means(torch.tensor([[1.0, 3.0, 8.0]])).triu().tolist()
    [[[1.0, 2.0, 4.0], [0.0, 3.0, 5.5], [0.0, 0.0, 8.0]]]
    """
    sums = F.pad(segments.cumsum(dim=1), (1, 0))  # (N, S + 1)
    places = torch.arange(segments.shape[1], device=segments.device)
    lengths = (places[None] - places[:, None] + 1).clamp(min=1)
    return (sums[:, None, 1:] - sums[:, :-1, None]) / lengths
