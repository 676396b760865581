"""LSTM and GRU steps, which rows run when, and weight gradients made once a batch, beside plain torch."""

import pytest
import torch
from torch import nn

from modeling_updown.kernels_updown import StepLinear
from modeling_updown.rnn_updown import QuestionGRU, gru_step, lstm_step, word_steps


def test_lstm_step_is_torchs():
    torch.manual_seed(0)
    cell = nn.LSTMCell(5, 3)
    inputs, h, c = torch.randn(4, 5), torch.randn(4, 3), torch.randn(4, 3)
    gates = inputs @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
    torch.testing.assert_close(lstm_step(gates, c), cell(inputs, (h, c)))


def test_gru_step_is_torchs():
    torch.manual_seed(0)
    cell = nn.GRUCell(5, 3)
    inputs, h = torch.randn(4, 5), torch.randn(4, 3)
    products = inputs @ cell.weight_ih.T + cell.bias_ih, h @ cell.weight_hh.T + cell.bias_hh
    torch.testing.assert_close(gru_step(*products, h), cell(inputs, h))


class Chain(nn.Module):
    """h <- tanh(W [x_t, h]) over the steps of x (N, T, E), by `StepLinear` or by plain autograd."""

    def forward(self, weight: torch.Tensor, inputs: torch.Tensor, *, once: bool) -> torch.Tensor:
        product = StepLinear(weight) if once else lambda x: x @ weight.T
        h = inputs.new_zeros(len(inputs), len(weight))
        for step in inputs.unbind(dim=1):
            h = product(torch.cat([step, h], dim=-1)).tanh()
        return h


def test_gradient_made_once_is_autograds():
    torch.manual_seed(0)
    weight, inputs = torch.randn(3, 5).double(), torch.randn(4, 6, 2).double()
    gradients = []
    for once in (True, False):
        w, x = weight.clone().requires_grad_(), inputs.clone().requires_grad_()
        Chain()(w, x, once=once).square().sum().backward()
        gradients.append((w.grad, x.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_gradient_made_once_passes_gradcheck():
    torch.manual_seed(0)
    weight = torch.randn(3, 5).double().requires_grad_()
    inputs = torch.randn(2, 3, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda w, x: Chain()(w, x, once=True), (weight, inputs), atol=1e-6)


def test_gradient_with_rows_that_leave():
    """Steps of 4, 2 and 1 rows, the weight used elsewhere as well, and inputs without a gradient."""
    torch.manual_seed(0)
    weight, steps = torch.randn(3, 5).double(), [torch.randn(rows, 5).double() for rows in (4, 2, 1)]
    gradients = []
    for once in (True, False):
        w = weight.clone().requires_grad_()
        product = StepLinear(w) if once else lambda x, w=w: x @ w.T
        loss = sum(product(step).square().sum() for step in steps) + w.sum()
        loss.backward()
        gradients.append(w.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


def test_weight_is_cast_once_under_autocast():
    weight = torch.randn(3, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = StepLinear(weight)
        output = product(torch.randn(4, 5)) + product(torch.randn(4, 5))
    assert product.weight.dtype == output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def lengths_to_mask(lengths: list[int], words: int) -> torch.Tensor:
    return torch.arange(words) < torch.tensor(lengths)[:, None]


class TestWordSteps:
    def test_rows_leave_as_they_end(self):
        steps = word_steps(lengths_to_mask([2, 4, 1], 4), num_rows=3, num_words=4, skip=True)
        assert (steps.order.tolist(), steps.num_rows) == ([1, 0, 2], [3, 2, 1, 1])
        assert steps.skips and not steps.holes

    def test_row_counts_take_eight_sizes(self):
        lengths = torch.randint(1, 20, (250,), generator=torch.Generator().manual_seed(0)).tolist()
        steps = word_steps(lengths_to_mask(lengths, 20), num_rows=250, num_words=20, skip=True)
        alive = [sum(length > step for length in lengths) for step in range(20)]
        assert all(rows >= running for rows, running in zip(steps.num_rows, alive, strict=True))
        assert len(set(steps.num_rows)) <= 9
        assert steps.num_rows == sorted(steps.num_rows, reverse=True)

    @pytest.mark.parametrize("mask", [None, torch.ones(2, 3), lengths_to_mask([1, 3], 3)])
    def test_every_row_runs_unless_told_to_skip(self, mask):
        assert word_steps(mask, num_rows=2, num_words=3, skip=False).num_rows == [2, 2, 2]

    def test_masked_words_before_the_last_are_holes(self):
        mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
        assert word_steps(mask, num_rows=2, num_words=3, skip=True).holes

    def test_pack_and_unpack(self):
        mask = lengths_to_mask([2, 4, 1, 3], 4)
        dense = torch.arange(4 * 4 * 2.0).view(4, 4, 2) + 1
        steps = word_steps(mask, num_rows=4, num_words=4, skip=True)
        packed = steps.pack(dense)
        assert len(packed) == sum(steps.num_rows) == 10
        torch.testing.assert_close(steps.unpack(packed), dense * mask[..., None])
        everything = word_steps(None, num_rows=4, num_words=4, skip=True)
        torch.testing.assert_close(everything.unpack(everything.pack(dense)), dense)


QUESTION_LENGTHS = {
    "one": [3],
    "all the same": [6, 6, 6],
    "mixed": [1, 6, 3, 2, 5],
    "none the longest": [2, 4, 1],
    "forty": [1 + row % 6 for row in range(40)],
}


def both_grus() -> tuple[QuestionGRU, nn.GRU]:
    """Ours and torch's with the same weights: words of 5, a state of 7."""
    ours, torchs = QuestionGRU(word_size=5, hidden_size=7), nn.GRU(5, 7, batch_first=True)
    layers = {"ih_l0": ours.word_gates, "hh_l0": ours.state_gates}
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(getattr(torchs, f"weight_{name}"))
            layer.bias.copy_(getattr(torchs, f"bias_{name}"))
    return ours, torchs


class TestQuestionGRU:
    @pytest.mark.parametrize("lengths", QUESTION_LENGTHS.values(), ids=QUESTION_LENGTHS)
    @pytest.mark.parametrize("with_state", [False, True])
    def test_equals_torchs_on_packed_texts(self, lengths, with_state):
        """Last states, and the gradients of words, of the state before them, of weights and biases."""
        ours, torchs = both_grus()
        rows, results = len(lengths), []
        given, before, weighed = torch.randn(rows, 6, 5), torch.randn(rows, 7), torch.randn(rows, 7)
        for gru in (ours, torchs):
            words, state = given.clone().requires_grad_(), before.clone().requires_grad_()
            if gru is ours:
                last = ours(words, torch.tensor(lengths), state if with_state else None)
            else:
                packed = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
                last = torchs(packed, state[None] if with_state else None)[1][0]
            (last * weighed).sum().backward()
            tensors = dict(gru.named_parameters())
            names = (
                ["word_gates.weight", "word_gates.bias", "state_gates.weight", "state_gates.bias"]
                if gru is ours
                else ["weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0"]
            )
            results.append((last, words.grad, state.grad, *(tensors[name].grad for name in names)))
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        with torch.no_grad():  # without gradients its products are made another way
            found = ours(given, torch.tensor(lengths), before if with_state else None)
        torch.testing.assert_close(found, results[0][0].detach(), atol=1e-6, rtol=1e-5)

    def test_texts_without_words_keep_the_state_before_them(self):
        ours, _ = both_grus()
        words, before = torch.randn(3, 4, 5), torch.randn(3, 7)
        last = ours(words, torch.tensor([0, 4, 0]), before)
        assert torch.equal(last[[0, 2]], before[[0, 2]])
        torch.testing.assert_close(last[1], ours(words[1:2], torch.tensor([4]), before[1:2])[0])
        assert ours(words, torch.zeros(3, dtype=torch.long)).eq(0).all()
        assert ours(words[:, :0], torch.zeros(3, dtype=torch.long)).eq(0).all()
        assert torch.equal(ours(words[:, :0], torch.zeros(3, dtype=torch.long), before), before)

    def test_what_stands_after_the_last_word_is_not_read(self):
        ours, _ = both_grus()
        words, lengths = torch.randn(5, 6, 5), torch.tensor([1, 6, 3, 2, 5])
        noise = words.masked_fill((torch.arange(6) >= lengths[:, None])[..., None], float("nan"))
        torch.testing.assert_close(ours(noise, lengths), ours(words, lengths), rtol=0, atol=0)

    @pytest.mark.parametrize("lengths", [[3, 3, 3], [0, 6, 4]])
    def test_states_on_padding(self, lengths):
        """Padding in front, read once for all rows, equals torch's GRU over the padding of each."""
        ours, torchs = both_grus()
        words, padding = torch.randn(3, 6, 5), torch.randn(5)
        states = ours.states_on_padding(padding, 6)
        assert states.shape == (7, 7) and states[0].eq(0).all()
        found = ours(words, torch.tensor(lengths), states[6 - torch.tensor(lengths)])
        for row, length in enumerate(lengths):
            text = torch.cat([padding.expand(6 - length, 5), words[row, :length]])
            torch.testing.assert_close(found[row], torchs(text[None])[1][0, 0], atol=1e-6, rtol=1e-5)
