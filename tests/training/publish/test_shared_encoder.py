"""Models of one encoder keep it on the disk once, and each loads as before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownFusionForVisualEntailment, UpDownProcessor
from tests.tiny import save_tiny_entailment, save_tiny_retrieval, tiny_image
from training.publish.push import push
from training.publish.shared_encoder import OWN, SHARED, main, share_encoder

KINDS = (UpDownFusionForImageTextRetrieval, UpDownFusionForVisualEntailment)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """A retrieval model, and an entailment model with the weights of its encoder but projections of its own."""
    first = save_tiny_retrieval(tmp_path / "retrieval")
    second = save_tiny_entailment(tmp_path / "entailment", answer_similarity=True)
    retrieval, entailment = (kind.from_pretrained(place) for kind, place in zip(KINDS, (first, second), strict=True))
    entailment.fusion.load_state_dict(retrieval.fusion.state_dict())
    entailment.save_pretrained(second)
    return [first, second]


def outputs(folder: Path, kind: Any) -> torch.Tensor:
    model = kind.from_pretrained(folder).eval()
    inputs = UpDownProcessor.from_pretrained(folder)(images=tiny_image(), text="a dog", return_tensors="pt")
    with torch.no_grad():
        out = model(**inputs)
    return out.logits_per_image if hasattr(out, "logits_per_image") else out.logits


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if not path.is_symlink())


def test_each_model_loads_as_before_from_fewer_bytes(folders: list[Path]) -> None:
    before = [outputs(folder, kind) for folder, kind in zip(folders, KINDS, strict=True)]
    sizes = [size_of(folder) for folder in folders]
    saved = share_encoder(folders)
    assert saved == sum(sizes) - sum(map(size_of, folders)) > 0.6 * min(sizes)
    assert (folders[1] / SHARED).is_symlink() and not (folders[1] / OWN).is_symlink()
    assert not (folders[0] / "model.safetensors").exists()
    moved = folders[0].parent.with_name("elsewhere")
    folders[0].parent.rename(moved)  # the link is a relative one
    for name, kind, expected in zip(("retrieval", "entailment"), KINDS, before, strict=True):
        _, told = kind.from_pretrained(moved / name, output_loading_info=True)
        assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
        assert torch.equal(outputs(moved / name, kind), expected)


def test_a_model_joins_folders_that_are_split_already(folders: list[Path], tmp_path: Path) -> None:
    third = save_tiny_retrieval(tmp_path / "third")
    model = KINDS[0].from_pretrained(third)
    model.fusion.load_state_dict(KINDS[0].from_pretrained(folders[0]).fusion.state_dict())
    model.save_pretrained(third)
    before, share = outputs(third, KINDS[0]), share_encoder(folders)
    kept = (folders[0] / SHARED).read_bytes()
    assert share > 0 and share_encoder([folders[0], third]) > 0
    assert (folders[0] / SHARED).read_bytes() == kept and (third / SHARED).is_symlink()
    assert torch.equal(outputs(third, KINDS[0]), before)
    with torch.no_grad():
        model.get_input_embeddings().weight += 1
    changed = tmp_path / "changed"
    model.save_pretrained(changed)
    with pytest.raises(ValueError, match="changed does not hold 1 of the .* weights .*: train it from there"):
        share_encoder([folders[0], changed])
    assert (changed / "model.safetensors").is_file()


def test_what_is_pushed_is_whole(folders: list[Path], tmp_path: Path) -> None:
    before = outputs(folders[1], KINDS[1])
    share_encoder(folders)
    push(folders[1], "someone/entailment", dry_run=True, output=tmp_path / "made")
    assert not any(path.is_symlink() for path in (tmp_path / "made").iterdir())
    assert torch.equal(outputs(tmp_path / "made", KINDS[1]), before)


def test_what_was_not_trained_together_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = save_tiny_retrieval(tmp_path / "first")
    other = save_tiny_entailment(tmp_path / "other")
    model = UpDownFusionForVisualEntailment.from_pretrained(other)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1
    model.save_pretrained(other)
    kept = (first / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="have too few weights in common"):
        share_encoder([first, other])
    assert (first / "model.safetensors").read_bytes() == kept and not (first / SHARED).exists()
    with pytest.raises(ValueError, match="two or more different folders"):
        share_encoder([first, first])
    with pytest.raises(ValueError, match="holds no config.json"):
        share_encoder([first, tmp_path])
    assert main([str(first), str(other)]) == 2
    assert "shared_encoder: " in capsys.readouterr().err
