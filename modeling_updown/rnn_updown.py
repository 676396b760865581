"""LSTM and GRU steps, the rows that run at each step, and the GRU that encodes questions.

Shapes: N rows of words, T words, word width E, hidden width H.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .linear_updown import step_product


def lstm_step(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The LSTM's arithmetic after its products: gates (n, 4H) in torch's order (input, forget, cell, output), memory
    cell (n, H) -> hidden state and memory cell, (n, H) each.
    """
    write, forget, candidate, read = gates.chunk(4, dim=-1)
    cell = forget.sigmoid() * cell + write.sigmoid() * candidate.tanh()
    return read.sigmoid() * cell.tanh(), cell


def gru_step(from_word: torch.Tensor, from_state: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The GRU's arithmetic after its products (n, 3H) each, in torch's order (reset, update, candidate) -> (n, H)."""
    width = hidden.shape[-1]
    reset, update = (from_word[:, : 2 * width] + from_state[:, : 2 * width]).sigmoid().chunk(2, dim=-1)
    candidate = (from_word[:, 2 * width :] + reset * from_state[:, 2 * width :]).tanh()
    return candidate + update * (hidden - candidate)


@dataclass
class WordSteps:
    """The rows of each step: rows are sorted so that those of a step are the first ones of the step before.

    order (N,): the row at each place; num_rows: rows of each step; skips: whether any row ends before the last step;
    holes: whether a row has a masked word before its last real one.
    """

    order: torch.Tensor
    num_rows: list[int]
    skips: bool
    holes: bool = False

    def pack(self, dense: torch.Tensor) -> torch.Tensor:
        """(N, T, ...) -> (sum of num_rows, ...): the running rows of step 0, then those of step 1, ..."""
        if not self.skips:
            return dense.transpose(0, 1).flatten(0, 1)
        ordered = dense.index_select(0, self.order)
        return torch.cat([ordered[:rows, step] for step, rows in enumerate(self.num_rows)])

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """The inverse of `pack`: (sum of num_rows, ...) -> (N, T, ...), zero where a row did not run."""
        if not self.skips:
            return packed.unflatten(0, (len(self.num_rows), -1)).transpose(0, 1)
        step = torch.repeat_interleave(torch.tensor(self.num_rows)).to(self.order.device)
        row = torch.cat([self.order[:rows] for rows in self.num_rows])
        dense = packed.new_zeros(len(self.order), len(self.num_rows), *packed.shape[1:])
        return dense.index_put((row, step), packed)


def word_steps(attention_mask: torch.Tensor | None, *, num_rows: int, num_words: int, skip: bool) -> WordSteps:
    """Plan the steps of N rows of T words: with `skip`, a row stops after its last real word.

    The row count of a step is rounded up to one of eight sizes, since every new matrix shape needs a new plan.
    """
    if attention_mask is None or not skip:
        return WordSteps(torch.arange(num_rows), [num_rows] * num_words, skips=False)
    positions = torch.arange(1, num_words + 1, device=attention_mask.device)
    last = (attention_mask.bool() * positions).amax(dim=1)  # (N,): place of the last real word
    lengths, order = last.sort(descending=True, stable=True)
    grain = max(1, num_rows // 8)
    running = (lengths[:, None] >= positions).sum(dim=0).tolist()  # rows alive at each step
    rows = [min(num_rows, max(1, -(-alive // grain)) * grain) for alive in running]
    holes = bool((attention_mask.bool().sum(dim=1) < last).any())
    return WordSteps(order, rows, skips=min(rows) < num_rows, holes=holes)


class QuestionGRU(nn.Module):
    """A GRU that encodes a text as its last state; equal to `torch.nn.GRU` on each text without its padding.

    A row stops at its last word; the products of the words are computed at once for a whole batch.

    >>> gru = QuestionGRU(word_size=4, hidden_size=3)
    >>> gru(torch.randn(2, 5, 4), torch.tensor([5, 0]))[1].tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, *, word_size: int, hidden_size: int):
        super().__init__()
        self.word_gates = nn.Linear(word_size, 3 * hidden_size)
        self.state_gates = nn.Linear(hidden_size, 3 * hidden_size)

    def forward(self, words: torch.Tensor, lengths: torch.Tensor, initial: torch.Tensor | None = None) -> torch.Tensor:
        """words (N, T, E), of each row the first `lengths` (N,) of them; the state before them (N, H) -> (N, H)."""
        num_rows, num_words = words.shape[:2]
        if not num_words:  # texts without any word
            return words.new_zeros(num_rows, self.state_gates.in_features) if initial is None else initial
        places = torch.arange(num_words, device=words.device)
        steps = word_steps(places < lengths[:, None], num_rows=num_rows, num_words=num_words, skip=True)
        from_words = self.word_gates(steps.pack(words)).split(steps.num_rows)
        state = from_words[0].new_zeros(num_rows, self.state_gates.in_features) if initial is None else initial
        if steps.skips:
            state, lengths = state.index_select(0, steps.order), lengths.index_select(0, steps.order)
        running = (lengths[:, None] > places).sum(dim=0).tolist()  # fewer than the rows of a step, which are rounded up
        product = step_product(self.state_gates, num_steps=num_words)
        ended: list[torch.Tensor] = []
        for step, rows in enumerate(steps.num_rows):
            ended.append(state[rows:])
            state = state[:rows]
            after = gru_step(from_words[step], product(state), state)
            state = after if running[step] == rows else torch.where(lengths[:rows, None] > step, after, state)
        state = torch.cat([state, *reversed(ended)])
        return state.new_zeros(state.shape).index_copy(0, steps.order, state) if steps.skips else state

    def states_on_padding(self, padding: torch.Tensor, num_steps: int) -> torch.Tensor:
        """The states before any word and after 1 .. `num_steps` times the vector `padding` (E,): (num_steps + 1, H)."""
        from_word = self.word_gates(padding[None])
        states = [from_word.new_zeros(1, self.state_gates.in_features)]
        for _ in range(num_steps):
            states.append(gru_step(from_word, self.state_gates(states[-1]), states[-1]))
        return torch.cat(states)
