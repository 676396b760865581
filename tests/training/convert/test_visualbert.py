"""`visualbert`: states and heads of transformers' own classes on random weights, folders that load, mistakes named."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import VisualBertConfig, VisualBertForPreTraining, VisualBertForQuestionAnswering, VisualBertModel

from modeling_updown import Regions, UpDownFusionForPreTraining, UpDownFusionModel
from training.convert.checkpoint import convert_checkpoint

WORDS, WIDTH, PLACES = 30, 10, 20
OPTIONS = {"num_attention_heads": 4}
pytestmark = pytest.mark.filterwarnings("ignore:the options name none of the")


def source(kind: Any, **changed: Any) -> Any:
    """A model of transformers' with every weight and bias drawn at random, tied ones once."""
    fields: dict[str, Any] = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    fields |= {"num_attention_heads": 4, "visual_embedding_dim": WIDTH, "max_position_embeddings": PLACES}
    model = kind(VisualBertConfig(**(fields | changed))).eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
    return model


def converted(model: Any, folder: Path, **options: Any) -> Any:
    model.save_pretrained(folder / "theirs")
    path = folder / "theirs" / "model.safetensors"
    return convert_checkpoint("visualbert", path, config=OPTIONS | options, output=folder / "ours").model


def batch() -> tuple[torch.Tensor, torch.Tensor, Regions]:
    """Three texts of 6, 4 and 5 words with 4, 2 and 3 regions."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, WORDS, (3, 6), generator=draw)
    words = torch.arange(6) < torch.tensor([6, 4, 5])[:, None]
    real = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    boxes = torch.rand(3, 4, 4, generator=draw)
    return ids.masked_fill(~words, 0), words, Regions(torch.randn(3, 4, WIDTH, generator=draw), boxes, real)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_encoder_is_that_of_transformers(tmp_path) -> None:
    theirs = source(VisualBertModel)
    converted(theirs, tmp_path)
    ours = UpDownFusionModel.from_pretrained(tmp_path / "ours")
    ids, words, regions = batch()
    expected = theirs(ids, attention_mask=words.long(), **regions.for_visual_bert(), output_hidden_states=True)
    found = ours(ids, attention_mask=words, **regions, output_hidden_states=True)
    real = torch.cat([words, regions.region_mask], dim=1)
    for layer, states in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert_near(layer[real], states[real])
    assert_near(found.pooler_output, expected.pooler_output)
    without_boxes = Regions(regions.region_features, None, regions.region_mask)
    assert_near(ours(ids, attention_mask=words, **without_boxes).pooler_output, expected.pooler_output)
    alone = theirs(ids, attention_mask=words.long())
    assert_near(ours(ids, attention_mask=words).last_hidden_state[words], alone.last_hidden_state[words])


@torch.no_grad()
def test_masked_words_and_matching_too(tmp_path) -> None:
    theirs = source(VisualBertForPreTraining)
    ours = converted(theirs, tmp_path)
    assert isinstance(ours, UpDownFusionForPreTraining) and ours.config.objectives == {"itm": 1.0, "mlm": 1.0}
    ids, words, regions = batch()
    expected = theirs(ids, attention_mask=words.long(), **regions.for_visual_bert())
    output = ours(ids, attention_mask=words, **regions, output_hidden_states=True)
    assert_near(output.logits[words], expected.prediction_logits[:, :6][words])
    boxless = Regions(regions.region_features, None, regions.region_mask)
    assert_near(ours(ids, attention_mask=words, **boxless).logits, ours(ids, attention_mask=words, **regions).logits)
    scores = expected.seq_relationship_logits
    assert_near(ours.match(ids, words, **regions), scores[:, 0] - scores[:, 1])


def test_what_does_not_fit_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"head of a task \(cls.weight\).*updown ask --model FOLDER --regions"):
        converted(source(VisualBertForQuestionAnswering, num_labels=3), tmp_path)
    weights = {name: value.clone() for name, value in source(VisualBertModel).state_dict().items()}
    save_file(weights | {"additional_layer.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(ValueError, match=r"not visualbert: missing nothing; unexpected visual_bert\.additional_layer"):
        convert_checkpoint("visualbert", tmp_path / "more.safetensors", config=OPTIONS)
    weights.pop("embeddings.visual_projection.bias")
    save_file(weights, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"missing visual_bert\.embeddings\.visual_projection\.bias"):
        convert_checkpoint("visualbert", tmp_path / "less.safetensors", config=OPTIONS)


def damaged(folder: Path, changed: Mapping[str, torch.Tensor | None], **options: Any) -> Any:
    """A pretrained model converted from a file in which some tensors are others, or are not there."""
    weights = {**source(VisualBertForPreTraining).state_dict(), **changed}
    kept = {name: value.clone() for name, value in weights.items() if value is not None}
    save_file(kept, folder / "changed.safetensors")
    return convert_checkpoint("visualbert", folder / "changed.safetensors", config=OPTIONS | options).model


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("visual_bert.embeddings.visual_projection.bias", (1,)),
        ("visual_bert.embeddings.visual_projection.weight", (WIDTH * 32,)),
        ("visual_bert.embeddings.visual_position_embeddings.weight", (PLACES * 32,)),
        ("visual_bert.embeddings.visual_token_type_embeddings.weight", (64,)),
        ("visual_bert.embeddings.token_type_embeddings.weight", (1, 32)),
        ("visual_bert.embeddings.word_embeddings.weight", ()),
        ("visual_bert.encoder.layer.0.intermediate.dense.weight", ()),
        ("cls.seq_relationship.weight", ()),
    ],
)
def test_a_tensor_of_another_shape_is_refused_by_its_name(tmp_path, name, shape) -> None:
    """The first, third and fourth would go on by broadcasting."""
    with pytest.raises(ValueError, match=f"not visualbert: {name} should be .*, it is .*download"):
        damaged(tmp_path, {name: torch.zeros(shape)})


def test_missing_tensors_and_layers_are_named(tmp_path) -> None:
    layer = "visual_bert.encoder.layer"
    with pytest.raises(ValueError, match=rf"missing {layer}\.0\.intermediate\.dense\.weight; unexpected nothing"):
        damaged(tmp_path, {f"{layer}.0.intermediate.dense.weight": None})
    last = {name: None for name in source(VisualBertForPreTraining).state_dict() if name.startswith(f"{layer}.1.")}
    assert damaged(tmp_path, last).config.text_config.num_hidden_layers == 1
    with pytest.raises(ValueError, match="have 1 layers, but the option num_hidden_layers is 2: is the file cut"):
        damaged(tmp_path, last, num_hidden_layers=2)


def test_files_of_older_transformers_hold_a_buffer_of_positions(tmp_path) -> None:
    places = {"visual_bert.embeddings.position_ids": torch.arange(PLACES)[None]}
    assert torch.equal(
        damaged(tmp_path, places).fusion.pooler.weight,
        source(VisualBertForPreTraining).visual_bert.pooler.dense.weight,
    )


def test_words_have_one_bias(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"decoder\.bias differs from cls\.predictions\.bias"):
        damaged(tmp_path, {"cls.predictions.decoder.bias": torch.ones(WORDS)})


@pytest.mark.parametrize(
    ("name", "reason"),
    [("lxmert", "ask it by updown ask"), ("vilbert", "a transformer each"), ("oscar", "box together")],
)
def test_models_that_no_class_computes_are_refused_with_the_reason(name, reason) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be converted: .*{reason}"):
        convert_checkpoint(name, "model.safetensors")
