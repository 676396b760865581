"""One encoder in several models: what is shared, what is each one's own, and encoders that differ."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model, save_model

from tests.tiny import tiny_entailment, tiny_grounding, tiny_pairs, tiny_retrieval
from training.tasks.multi_model import MultiModel, share_encoder, shared_names

NO_SOURCE = {"vision_config": None, "region_feature_size": 16}


def two_parts(**changes: object) -> MultiModel:
    """Entailment, on whose encoder stands a model of pairs."""
    lead, other = tiny_entailment(**NO_SOURCE), tiny_pairs(**{**NO_SOURCE, **changes})
    share_encoder(other, lead)
    return MultiModel({"entailment": lead, "pairs": other})


def test_the_encoder_is_shared_and_the_places_of_images_are_not() -> None:
    model = two_parts()
    lead, other = model.parts["entailment"], model.parts["pairs"]
    shared = {name for name, _ in lead.fusion.named_parameters()}
    assert shared_names(model) == [f"fusion.{name}" for name, _ in lead.fusion.named_parameters()]
    own = {name for name, _ in other.fusion.named_parameters()} - shared
    assert own == {"region_embedding.of_images.weight"}
    names = [name for name, _ in model.named_parameters()]
    assert "parts.pairs.fusion.region_embedding.of_images.weight" in names
    assert not any(name.startswith("parts.entailment.fusion.") for name in names)  # each weight once, as `fusion.`


def test_a_model_keeps_what_it_says_when_it_leads() -> None:
    lead = tiny_retrieval().eval()
    ids, pixels = torch.tensor([[2, 7, 9]]), torch.rand(1, 3, 32, 32)
    other = tiny_grounding().eval()
    with torch.no_grad():
        before = lead.get_image_features(pixels)
        share_encoder(other, lead)
        assert torch.equal(lead.get_image_features(pixels), before)
        expected = lead.fusion(ids, pixels).pooler_output
        assert torch.equal(other.fusion(ids, pixels).pooler_output, expected)
    assert other.fusion.region_source is lead.fusion.region_source


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"region_dropout": 0.5}, "region_dropout"), ({"region_feature_size": 8}, "region_feature_size")],
)
def test_encoders_that_differ_are_refused(changes: dict, field: str) -> None:
    with pytest.raises(ValueError, match=f"config.{field} of UpDownFusionForImagePairs is .*: the encoders differ"):
        two_parts(**changes)


def test_shared_weights_are_saved_once_and_shared_again(tmp_path: Path) -> None:
    model, path = two_parts(), tmp_path / "model.safetensors"
    save_model(model, str(path))
    assert path.stat().st_size < 1.1 * sum(4 * weight.numel() for weight in model.parameters()) + 30_000
    other = two_parts()
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    load_model(other, path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert len(shared_names(other)) == len(shared_names(model)) > 10
