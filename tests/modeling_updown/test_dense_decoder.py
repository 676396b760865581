"""The LSTMs of dense captioning against plain loops: torch's own LSTM, and every context word by word."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from modeling_updown.dense_decoder_updown import WordLSTM, attention_rows, sentences_a_region
from modeling_updown.modeling_attention import TextRows

CONTEXTS = [
    *({"dense_context": kind} for kind in ("none", "early", "attention")),
    *({"dense_context": "late", "dense_fusion": fusion} for fusion in ("multiply", "sum", "concat")),
    {"dense_context": "late", "dense_context_region": "first"},
]
BOXES = [{"dense_box": kind} for kind in ("none", "shared", "twin")]


def test_states_are_those_of_torch() -> None:
    """A vector that is read with every word is an input beside the words; what is masked changes nothing."""
    torch.manual_seed(0)
    ours, theirs = WordLSTM(vector_size=3, word_size=4, hidden_size=5), nn.LSTM(7, 5, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.cat([ours.of_word.weight, ours.of_vector.weight], dim=1))
        theirs.weight_hh_l0.copy_(ours.of_state.weight)
        theirs.bias_ih_l0.copy_(ours.of_vector.bias)
        theirs.bias_hh_l0.zero_()
        words, vectors = torch.randn(6, 5, 4), torch.randn(6, 3)
        lengths = [5, 1, 3, 2, 5, 4]
        mask = torch.arange(5) < torch.tensor(lengths)[:, None]
        found = ours.states(ours.of_vector(vectors), words, mask)
        whole = ours.states(ours.of_vector(vectors), words, None)
        expected, _ = theirs(torch.cat([words, vectors[:, None].expand(-1, 5, -1)], dim=-1))
    torch.testing.assert_close(whole, expected)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row, :length], expected[row, :length])


def slow_lstm(lstm: Any, vector: torch.Tensor, word: torch.Tensor, state: Any) -> Any:
    """One step of one row, gate by gate."""
    hidden, cell = state
    gates = lstm.of_vector.weight @ vector + lstm.of_vector.bias + lstm.of_word.weight @ word
    return slow_gates(gates + lstm.of_state.weight @ hidden, cell)


def slow_gates(gates: torch.Tensor, cell: torch.Tensor) -> Any:
    size = len(cell)
    write, forget, new, read = (gates[place * size : (place + 1) * size] for place in range(4))
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(new)
    return torch.sigmoid(read) * torch.tanh(cell), cell


def slow_sentence(model: Any, regions: torch.Tensor, place: int, words: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (T, V) of one sentence of one region of one image (R, D), and the state that its box is read off."""
    decoder, config = model.decoder, model.config
    zeros = torch.zeros(config.hidden_size)
    first = second = location = (zeros, zeros)
    context = regions[0] if config.dense_context_region == "first" else regions.mean(dim=0)
    vector, logits = regions[place], []
    for token in words:
        word = model.embed_tokens.weight[token]
        early = config.dense_context == "early"
        first = slow_lstm(decoder.caption_lstm, torch.cat([vector, context]) if early else vector, word, first)
        if model.location_lstm is not None:
            location = slow_lstm(model.location_lstm, vector, word, location)
        read = first[0]
        if decoder.context_lstm is not None:
            second = slow_lstm(decoder.context_lstm, context, word, second)
            joined = {"multiply": first[0] * second[0], "sum": first[0] + second[0]}
            read = joined.get(config.dense_fusion, torch.cat([first[0], second[0]]))
        if decoder.attention is not None:
            attention = decoder.attention
            query = attention.project_query.weight @ first[0]
            scores = [
                attention.score.weight @ torch.tanh(attention.project_regions.weight @ v + query) for v in regions
            ]
            attended = torch.cat(scores).softmax(dim=0) @ regions
            both = torch.cat([attended, first[0], second[0]])
            second = slow_gates(decoder.language_lstm.weight @ both + decoder.language_lstm.bias, second[1])
            read = second[0]
        logits.append(model.lm_head.weight @ read + model.lm_head.bias)
    return torch.stack(logits), (first if model.location_lstm is None else location)[0]


@pytest.mark.parametrize(
    ("context", "box"), [*itertools.product(CONTEXTS[:3], BOXES), *((c, BOXES[2]) for c in CONTEXTS[3:])]
)
@torch.no_grad()
def test_every_word_and_box_by_hand(context: dict[str, Any], box: dict[str, Any]) -> None:
    from .test_dense_captioning import LENGTHS, OWNERS, PLACES, batch, describer, sentences

    model, given = describer(**context, **box), batch()
    words = sentences(LENGTHS)
    mask = torch.arange(words.shape[1]) < torch.tensor(LENGTHS)[:, None]
    rows = {"image_index": torch.tensor(OWNERS), "region_index": torch.tensor(PLACES)}
    output = model(words, attention_mask=mask, use_cache=False, **rows, **given)
    for row, (image, place, length) in enumerate(zip(OWNERS, PLACES, LENGTHS, strict=True)):
        real = given["region_features"][image][given["region_mask"][image]]
        logits, state = slow_sentence(model, real, place, words[row, :length].tolist())
        torch.testing.assert_close(output.logits[row, :length], logits, atol=1e-5, rtol=1e-5)
        start = given["region_boxes"][image, place]
        if model.box_deltas is None:
            torch.testing.assert_close(output.pred_boxes[row], start)
            continue
        shift_x, shift_y, grow_x, grow_y = model.box_deltas.weight @ state + model.box_deltas.bias
        width, height = start[2] - start[0], start[3] - start[1]
        x, y = (start[0] + start[2]) / 2 + width * shift_x / 10, (start[1] + start[3]) / 2 + height * shift_y / 10
        half = width * torch.exp(grow_x / 5) / 2, height * torch.exp(grow_y / 5) / 2
        moved = torch.stack([x - half[0], y - half[1], x + half[0], y + half[1]]).clamp(0, 1)
        torch.testing.assert_close(output.pred_boxes[row], moved, atol=1e-5, rtol=1e-5)


def test_rows_of_regions_and_their_sentences() -> None:
    rows = TextRows.of(torch.tensor([0, 1, 1]), num_texts=3, num_images=2, device="cpu")
    assert attention_rows(rows, 2).tolist() == [0, 1, 4, 5, 6, 7]  # two regions, so four sentences, an image
    assert sentences_a_region(6, 3) == 2
    for wrong in (5, 0):
        with pytest.raises(
            ValueError, match=f"^{wrong} rows of words for 3 regions: give the same number of sentences"
        ):
            sentences_a_region(wrong, 3)
