"""The LSTMs that write a sentence of a region and place its box: what `modeling_dense_captioning` is made of.

    regions --UpDownForDenseCaptioning--> RegionContext --SentenceDecoder--> states that words are read off
                                                        --LocationLSTM--> states that boxes are read off

A row is a sentence of a region: N = M regions x S sentences, those of one region next to each other. What does not
change over words is computed once for a region (its share of the gates) or an image (keys and values of the attention).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Cache

from .configuration_updown import UpDownCaptioningConfig
from .linear_updown import step_product
from .modeling_attention import TextRows, TopDownAttention
from .modeling_captioning import LSTMState
from .rnn_updown import WordSteps, lstm_step, word_steps

State = tuple[torch.Tensor, torch.Tensor]  # hidden state and memory cell (n, H)


class WordLSTM(nn.Module):
    """An LSTM that reads the vector of an image or a region with every word: gates = W_v v + b + W_w word + W_h h.

    >>> WordLSTM(vector_size=3, word_size=2, hidden_size=4).of_vector(torch.zeros(1, 3)).shape
    torch.Size([1, 16])
    """

    def __init__(self, *, vector_size: int, word_size: int, hidden_size: int):
        super().__init__()
        self.of_vector = nn.Linear(vector_size, 4 * hidden_size)
        self.of_word = nn.Linear(word_size, 4 * hidden_size, bias=False)
        self.of_state = nn.Linear(hidden_size, 4 * hidden_size, bias=False)

    def states(self, gates: torch.Tensor, words: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The hidden state after every word (N, T, H), from zeros; a masked word leaves it untouched.

        gates (N, 4H): the vectors' share; words (N, T, E); mask (N, T) bool.
        """
        num_rows, num_words = words.shape[:2]
        steps = word_steps(mask, num_rows=num_rows, num_words=num_words, skip=True)
        if steps.skips:
            gates = gates.index_select(0, steps.order)
            mask = None if mask is None else mask.index_select(0, steps.order)
        of_words = self.of_word(steps.pack(words)).split(steps.num_rows)
        product, states = step_product(self.of_state, num_steps=num_words), []
        hidden = cell = gates.new_zeros(num_rows, self.of_state.in_features)
        for step, rows in enumerate(steps.num_rows):
            before = hidden[:rows], cell[:rows]
            after = lstm_step(gates[:rows] + of_words[step] + product(before[0]), before[1])
            hidden, cell = after if mask is None else kept_where(mask[:rows, step, None], [after], [before])[0]
            states.append(hidden)
        return steps.unpack(torch.cat(states))


@dataclass
class RegionContext:
    """What M described regions, of P images, contribute to every word."""

    gates: torch.Tensor  # v_r's share of the caption LSTM's gates (M, 4H)
    context_gates: torch.Tensor | None  # c's share of the context LSTM's (M, 4H)
    location_gates: torch.Tensor | None  # v_r's share of the location LSTM's (M, 4H)
    boxes: torch.Tensor  # (M, 4)
    rows: TextRows  # the image of each region
    keys: torch.Tensor | None  # W_va v (P, R, A)
    values: torch.Tensor  # (P, R, W)
    mask: torch.Tensor  # (P, R) bool

    def index_select(self, regions: torch.Tensor) -> "RegionContext":
        """The context of the described regions named by index (n,)."""
        images = self.rows.image_index.index_select(0, regions)
        rows = TextRows.of(images, num_texts=len(images), num_images=len(self.mask), device=images.device)
        gates, boxes = (part.index_select(0, regions) for part in (self.gates, self.boxes))
        context, location = (
            None if part is None else part.index_select(0, regions)
            for part in (self.context_gates, self.location_gates)
        )
        return RegionContext(gates, context, location, boxes, rows, self.keys, self.values, self.mask)

    def of_sentences(self, part: torch.Tensor, num_rows: int) -> torch.Tensor:
        """Something of each region (M, ...) once for each of its sentences (N, ...)."""
        return part.repeat_interleave(sentences_a_region(num_rows, len(self.gates)), dim=0)


class DenseCache(Cache):
    """The states of the LSTMs and the regions' context, made on the first call of `forward` and handed back to it."""

    def __init__(self, context: RegionContext, *, num_lstms: int):
        super().__init__(layers=[LSTMState() for _ in range(num_lstms)])
        self.context = context

    def states(self, num_rows: int, *, hidden_size: int) -> list[State]:
        """The state of each LSTM, (N, H) twice; zeros before the first word."""
        if not self.layers[0].is_initialized:
            zeros = self.context.gates.new_zeros(num_rows, hidden_size)
            return [(zeros, zeros) for _ in self.layers]
        return [(layer.keys, layer.values) for layer in self.layers]

    def store(self, states: list[State], *, num_words: int) -> None:
        """Keep the states after `num_words` more words."""
        for layer, (hidden, cell) in zip(self.layers, states, strict=True):
            layer.update(hidden, cell, num_words=num_words)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows, regions = self.layers[0].keys.shape[0], len(self.context.gates)
        super().batch_select_indices(indices)
        self.context = self.context.index_select(
            torch.arange(rows, device=self.context.gates.device)[indices] // (rows // regions)
        )


@dataclass
class SentenceRun:
    """What the steps left behind: h1 and what words are read off (rows, H or 2H), and the weights (rows, R)."""

    steps: WordSteps
    h1: list[torch.Tensor]
    read: list[torch.Tensor]
    weights: list[torch.Tensor]

    def dense(self, name: str) -> torch.Tensor:
        """`h1`, `read` (N, T, H or 2H) or `weights` (N, T, R)."""
        return self.steps.unpack(torch.cat(getattr(self, name)))


class SentenceDecoder(nn.Module):
    """The caption LSTM, and that of the context or of language; the equations are in `modeling_dense_captioning`.

    width: of v_r, and of the regions that are attended.
    """

    def __init__(self, config: UpDownCaptioningConfig, *, width: int):
        super().__init__()
        self.hidden_size, self.fusion = config.hidden_size, config.dense_fusion
        kind, hidden = config.dense_context, config.hidden_size
        sizes = {"word_size": config.word_embedding_size, "hidden_size": hidden}
        self.caption_lstm = WordLSTM(vector_size=width * (1 + (kind == "early")), **sizes)
        self.context_lstm = WordLSTM(vector_size=width, **sizes) if kind == "late" else None
        self.attention: TopDownAttention | None = None
        self.language_lstm: nn.Linear | None = None
        if kind == "attention":
            self.attention = TopDownAttention(
                region_size=width,
                query_size=hidden,
                attention_size=config.attention_size,
                bias=config.attention_bias,
            )
            self.language_lstm = nn.Linear(width + 2 * hidden, 4 * hidden)  # gates from [v_hat, h1, h2]
        self.num_lstms = 1 + (kind in ("late", "attention"))
        self.read_size = hidden * (1 + (kind == "late" and config.dense_fusion == "concat"))

    def forward(
        self, words: torch.Tensor, cache: DenseCache, attention_mask: torch.Tensor | None, *, skip: bool
    ) -> SentenceRun:
        """Take the LSTMs over the words (N, T, E) from the cache's states; without `skip` the cache ends after them."""
        num_rows, num_words = words.shape[:2]
        context = cache.context
        each = sentences_a_region(num_rows, len(context.gates))
        mask = None if attention_mask is None else attention_mask[:, -num_words:].bool()
        steps = word_steps(mask, num_rows=num_rows, num_words=num_words, skip=skip)
        states, rows = cache.states(num_rows, hidden_size=self.hidden_size), attention_rows(context.rows, each)
        packed, read = steps.pack(words), [(self.caption_lstm, context.gates)]
        if self.context_lstm is not None and context.context_gates is not None:
            read.append((self.context_lstm, context.context_gates))
        vectors = [part.repeat_interleave(each, dim=0) for _, part in read]  # (N, 4H)
        if steps.skips:
            states = [(hidden[steps.order], cell[steps.order]) for hidden, cell in states]
            vectors = [part.index_select(0, steps.order) for part in vectors]
            rows = rows.index_select(0, steps.order.to(rows.device))
            mask = mask.index_select(0, steps.order) if mask is not None and steps.holes else None
        of_words = [lstm.of_word(packed).split(steps.num_rows) for lstm, _ in read]
        layers = [lstm.of_state for lstm, _ in read] + ([] if self.language_lstm is None else [self.language_lstm])
        products = [step_product(layer, num_steps=num_words) for layer in layers]

        run = SentenceRun(steps, [], [], [])
        for step, alive in enumerate(steps.num_rows):
            gates = [part[:alive] + own[step] for part, own in zip(vectors, of_words, strict=True)]
            before = [(hidden[:alive], cell[:alive]) for hidden, cell in states]
            states, weights = self.step(gates, before, context, products, rows=rows[:alive], each=each)
            if mask is not None and not mask[:alive, step].all():
                states = kept_where(mask[:alive, step, None], states, before)
            run.h1.append(states[0][0])
            run.read.append(self.joined([hidden for hidden, _ in states]))
            run.weights += [] if weights is None else [weights]
        if not skip:
            cache.store(states, num_words=num_words)
        return run

    def step(
        self,
        gates: list[torch.Tensor],
        states: list[State],
        context: RegionContext,
        products: list[Any],
        *,
        rows: torch.Tensor,
        each: int,
    ) -> tuple[list[State], torch.Tensor | None]:
        """One word on: gates (n, 4H) of each LSTM that reads words, the states -> the states, alpha (n, R)."""
        after = [
            lstm_step(given + product(hidden), cell)
            for given, product, (hidden, cell) in zip(gates, products, states, strict=False)
        ]
        if self.attention is None or context.keys is None:
            return after, None
        h1, (h2, c2) = after[0][0], states[1]
        attended, weights = self.attention(
            h1, context.keys, context.values, context.mask, rows=rows, rows_per_image=context.rows.slots * each
        )
        return [*after, lstm_step(products[1](torch.cat([attended, h1, h2], dim=-1)), c2)], weights

    def joined(self, hidden: list[torch.Tensor]) -> torch.Tensor:
        """What words are read off, (n, H or 2H), of the hidden states of the LSTMs."""
        if self.context_lstm is None:
            return hidden[-1]
        if self.fusion == "concat":
            return torch.cat(hidden, dim=-1)
        return hidden[0] * hidden[1] if self.fusion == "multiply" else hidden[0] + hidden[1]


def kept_where(mask: torch.Tensor, after: list[State], before: list[State]) -> list[State]:
    """The states after a word where mask (n, 1) is True, else those before it."""
    return [
        (torch.where(mask, hidden, old_hidden), torch.where(mask, cell, old_cell))
        for (hidden, cell), (old_hidden, old_cell) in zip(after, before, strict=True)
    ]


def sentences_a_region(num_rows: int, num_regions: int) -> int:
    """How many of the N rows of words each described region has; `ValueError` where that does not divide."""
    each, odd = divmod(num_rows, num_regions)
    if odd or not each:
        raise ValueError(
            f"{num_rows} rows of words for {num_regions} regions: give the same number of sentences for every region, "
            "those of one region next to each other, or name the regions in image_index and region_index"
        )
    return each


def attention_rows(rows: TextRows, each: int) -> torch.Tensor:
    """The place of each of N sentences among P images x (slots x S), as `TopDownAttention` counts rows."""
    first = (rows.image_index * rows.slots + rows.slot) * each  # (M,)
    return (first[:, None] + torch.arange(each, device=first.device)).flatten()


def last_word(words: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """The place of the last real word of each row (N,) of words (N, T, E).

    >>> last_word(torch.zeros(2, 3, 1), torch.tensor([[1, 1, 0], [1, 1, 1]])).tolist()
    [1, 2]
    """
    num_rows, num_words = words.shape[:2]
    if attention_mask is None:
        return torch.full((num_rows,), num_words - 1, device=words.device)
    places = torch.arange(num_words, device=words.device)
    return (attention_mask[:, -num_words:].bool() * places).amax(dim=1)
