"""Heads of one encoder share one file of weights, and each loads as before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownFusionForVisualEntailment, UpDownProcessor
from tests.tiny import save_tiny_entailment, save_tiny_retrieval, tiny_image
from training.publish.one_file import main, one_file


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A retrieval model and an entailment model with the weights of its encoder."""
    first, second = save_tiny_retrieval(tmp_path / "retrieval"), save_tiny_entailment(tmp_path / "entailment")
    retrieval = UpDownFusionForImageTextRetrieval.from_pretrained(first)
    entailment = UpDownFusionForVisualEntailment.from_pretrained(second)
    entailment.fusion.load_state_dict(retrieval.fusion.state_dict())
    entailment.save_pretrained(second)
    return [first, second]


def outputs(folder: Path, kind: Any) -> torch.Tensor:
    model = kind.from_pretrained(folder).eval()
    inputs = UpDownProcessor.from_pretrained(folder)(images=tiny_image(), text="a dog", return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs)
    return out.logits_per_image if hasattr(out, "logits_per_image") else out.logits


def test_each_model_loads_from_the_shared_file_as_before(folders: list[Path], recwarn: Any) -> None:
    kinds = (UpDownFusionForImageTextRetrieval, UpDownFusionForVisualEntailment)
    before = [outputs(folder, kind) for folder, kind in zip(folders, kinds, strict=True)]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in folders]
    saved = one_file(folders)
    assert (folders[1] / "model.safetensors").is_symlink()
    assert saved == sum(sizes) - (folders[0] / "model.safetensors").stat().st_size > 0.8 * min(sizes)
    after = [outputs(folder, kind) for folder, kind in zip(folders, kinds, strict=True)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    _, told = kinds[0].from_pretrained(folders[0], output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    assert one_file(folders) == 0  # again: nothing changes
    moved = folders[0].parent.with_name("elsewhere")
    folders[0].parent.rename(moved)
    assert torch.equal(outputs(moved / "entailment", kinds[1]), before[1])  # the link is a relative one


def test_what_was_not_trained_together_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = save_tiny_retrieval(tmp_path / "first")
    other = save_tiny_entailment(tmp_path / "other")
    model = UpDownFusionForVisualEntailment.from_pretrained(other)
    with torch.no_grad():
        model.fusion.text_model.embeddings.word_embeddings.weight[5, 0] += 1
    model.save_pretrained(other)
    kept = (first / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="only models that were trained together"):
        one_file([first, other])
    assert (first / "model.safetensors").read_bytes() == kept and not (other / "model.safetensors").is_symlink()
    with pytest.raises(ValueError, match="two or more different folders"):
        one_file([first, first])
    with pytest.raises(ValueError, match="holds no config.json"):
        one_file([first, tmp_path])
    assert main([str(first), str(other)]) == 2
    assert "one_file: " in capsys.readouterr().err
