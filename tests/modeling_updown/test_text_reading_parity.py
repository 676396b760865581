"""M4C's transformer, pointer, earlier predictions, masks, loss and decoding against its own code, at tiny size."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig

from modeling_updown import UpDownForTextReading, UpDownFusionConfig
from modeling_updown.modeling_fusion import REGION_TYPE, additive, causal_square
from modeling_updown.reading_answers_updown import joined_words, read_words
from modeling_updown.reading_inputs_updown import ReadingInputs
from modeling_updown.reading_layers_updown import DynamicPointer, PreviousEmbedding
from modeling_updown.reading_losses_updown import reading_loss
from tests.shared_files import shared

CLOSE: dict[str, float] = {"atol": 1e-4, "rtol": 1e-4}
OURS = {  # names of M4C's weights -> ours
    "mmt.encoder": "fusion.text_model.encoder",
    "mmt.prev_pred_embeddings.position_embeddings": "previous.of_steps",
    "mmt.prev_pred_embeddings.token_type_embeddings": "previous.of_kinds",
    "mmt.prev_pred_embeddings.ans_layer_norm": "previous.norm_answers",
    "mmt.prev_pred_embeddings.ocr_layer_norm": "previous.norm_ocr",
    "mmt.prev_pred_embeddings.emb_layer_norm": "previous.norm_steps",
    "ocr_ptr_net": "pointer",
    "classifier.module": "answers",
}

Golden = tuple[dict[str, Any], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def golden() -> Golden:
    told = json.loads(shared("golden/reference/m4c_pointer.json").read_text())
    return told, load_file(shared("golden/reference/m4c_pointer.safetensors"))


def named_as_ours(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """M4C's tensors of a prefix by our names; of its five kinds of predictions, the two that there are."""
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith(prefix):
            continue
        name = name.removeprefix(prefix)
        theirs = next(start for start in OURS if name.startswith(start))
        ours = OURS[theirs] + name.removeprefix(theirs)
        found[ours] = tensor[:2] if ours == "previous.of_kinds.weight" else tensor
    return found


def reader(golden: Golden) -> UpDownForTextReading:
    told, tensors = golden
    sizes = told["config"]
    bert = BertConfig(
        vocab_size=20,
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["ff"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = UpDownFusionConfig(
        text_config=bert,
        region_embedding="uniter",
        id2label=dict(enumerate(told["vocabulary"])),
        reading_objects=False,
        reading_max_steps=100,
        reading_pointer_size=sizes["qk"],
    )
    model = UpDownForTextReading(config).eval()
    weights = named_as_ours(tensors, "model.")
    missing, strange = model.load_state_dict(weights, strict=False)
    assert not strange and all(name.startswith(("fusion.text_model.emb", "fusion.region", "ocr")) for name in missing)
    return model


def inputs_of(golden: Golden) -> ReadingInputs:
    """What the reference embeds as it is: question, objects and OCR words, of which none is embedded again."""
    told, tensors = golden
    parts = [tensors[f"in.{name}_emb"] for name in ("txt", "obj", "ocr")]
    counts = [tensors[f"in.{name}"] for name in ("text_len", "obj_num", "ocr_num")]
    masks = [torch.arange(part.shape[1]) < count[:, None] for part, count in zip(parts, counts, strict=True)]
    embeds, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)
    numbers = torch.zeros(mask.shape, dtype=torch.long)
    sizes: Any = {"num_question": told["config"]["txt"], "num_ocr": told["config"]["ocr"]}
    return ReadingInputs(embeds, mask, numbers + REGION_TYPE, numbers, torch.arange(len(mask)), **sizes)


def test_scores_loss_and_states_of_a_taught_pass(golden: Golden) -> None:
    told, tensors = golden
    model, encoded = reader(golden), inputs_of(golden)
    targets, previous = tensors["in.targets"], tensors["in.train_prev_inds"]
    torch.testing.assert_close(
        (targets > 0).any(dim=-1).float(), tensors["in.train_loss_mask"]
    )  # as `forward` reads it
    out = model(encoded=encoded, decoder_input_ids=previous, labels=targets, output_hidden_states=True)
    vocabulary = told["config"]["vocab"]
    torch.testing.assert_close(out.logits[..., :vocabulary], tensors["out.train.fixed_scores"], **CLOSE)
    real = encoded.ocr_mask[:, None].expand(-1, previous.shape[1], -1)
    copies, expected = out.logits[..., vocabulary:], tensors["out.train.ocr_scores"]
    torch.testing.assert_close(copies[real], expected[real], **CLOSE)
    torch.testing.assert_close(copies[~real], expected[~real], atol=0.01, rtol=0)
    torch.testing.assert_close(out.loss, tensors["out.train.loss"], **CLOSE)
    torch.testing.assert_close(out.hidden_states[-1], tensors["out.train.mmt_seq_output"], **CLOSE)
    torch.testing.assert_close(out.hidden_states[0], tensors["out.train.encoder_inputs"], **CLOSE)


def test_gradients_of_the_loss(golden: Golden) -> None:
    _, tensors = golden
    model = reader(golden)
    previous = tensors["in.train_prev_inds"]
    model(encoded=inputs_of(golden), decoder_input_ids=previous, labels=tensors["in.targets"]).loss.backward()
    expected = named_as_ours(tensors, "grad.")
    weights = dict(model.named_parameters())
    assert expected
    for name, gradient in expected.items():
        torch.testing.assert_close(weights[name].grad, gradient, msg=lambda told, name=name: f"{name}: {told}", **CLOSE)


def test_greedy_decoding_step_by_step(golden: Golden) -> None:
    """The reference reads all its steps anew and never stops; it may also write padding and the unknown word."""
    told, tensors = golden
    model, encoded, steps = reader(golden), inputs_of(golden), told["config"]["steps"]
    chosen = torch.ones(len(encoded.mask), 1, dtype=torch.long)
    for _ in range(steps):
        scores = model(encoded=encoded, decoder_input_ids=chosen).logits
        chosen = torch.cat([chosen, scores[:, -1:].argmax(dim=-1)], dim=1)
    torch.testing.assert_close(chosen[:, :-1], tensors["out.greedy.prev_inds"])
    torch.testing.assert_close(chosen[:, 1:], tensors["out.greedy.argmax"])
    torch.testing.assert_close(scores, tensors["out.greedy.scores"], atol=0.01, rtol=1e-4)


def test_generate_writes_the_reference_answers(golden: Golden) -> None:
    told, tensors = golden
    model, encoded = reader(golden), inputs_of(golden)
    sequences = model.generate(encoded=encoded, max_new_tokens=told["config"]["steps"], suppress_tokens=None)
    for row, (numbers, asked, expected) in enumerate(
        zip(sequences[:, 1:].tolist(), told["answers"], told["greedy_answers"], strict=True)
    ):
        count = int(tensors["in.ocr_num"][row])
        boxes = [(0.1 * place, 0.0, 0.1 * place + 0.1, 1.0) for place in range(count)]
        words = read_words(numbers, model.config.id2label, asked["tokens"][:count], boxes)
        assert joined_words(words) == expected["answer"]
        assert ["VOCAB" if word.place is None else "OCR" for word in words] == expected["source"]
        assert all(word.box == boxes[word.place] for word in words if word.place is not None)


def test_pointer_alone(golden: Golden) -> None:
    told, tensors = golden
    pointer = DynamicPointer(size=told["config"]["hidden"], pointer_size=told["config"]["qk2"])
    pointer.load_state_dict({name: tensors[f"pointer.model.{name}"] for name in pointer.state_dict()})
    query, key, mask = (tensors[f"pointer.in.{name}"] for name in ("query", "key", "mask"))
    scores = pointer(query, key, mask.bool())
    real = mask.bool()[:, None].expand_as(scores)
    torch.testing.assert_close(scores[real], tensors["pointer.out.scores"][real], **CLOSE)
    torch.testing.assert_close(scores[~real], tensors["pointer.out.scores"][~real], atol=0.01, rtol=0)
    one = pointer(query[:, :1], key, mask.bool())[:, 0]
    torch.testing.assert_close(one, tensors["pointer.out.scores_one_step"], atol=0.01, rtol=1e-4)


def test_earlier_predictions_alone(golden: Golden) -> None:
    told, tensors = golden
    layer = PreviousEmbedding(size=told["config"]["hidden"], max_steps=100, eps=1e-12)
    weights = named_as_ours(tensors, "model.")
    layer.load_state_dict({name: weights[f"previous.{name}"] for name in layer.state_dict()})
    found = layer(tensors["prev.in.prev_inds"], tensors["prev.in.ans_emb"], tensors["prev.in.ocr_emb"])
    torch.testing.assert_close(found, tensors["prev.out.dec_emb"], **CLOSE)


def test_masks_and_loss_alone(golden: Golden) -> None:
    _, tensors = golden
    causal = tensors["causal.out.mask"]
    torch.testing.assert_close(causal_square(causal), causal.bool())
    assert additive(causal.bool(), torch.float32).eq(0).equal(causal.bool())
    scores, targets, mask = (tensors[f"bce.in.{name}"] for name in ("scores", "targets", "mask"))
    for name, chosen in (
        ("loss", mask.bool()),
        ("loss_all_masked", torch.zeros_like(mask).bool()),
        ("loss_none_masked", torch.ones_like(mask).bool()),
    ):
        torch.testing.assert_close(reading_loss(scores, targets, chosen), tensors[f"bce.out.{name}"], **CLOSE)
