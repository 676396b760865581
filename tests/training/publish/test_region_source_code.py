"""A published folder holds the code of the region source that its model owns, and of no other; and no kernels."""

from pathlib import Path

import pytest

import modeling_updown
from modeling_updown import kernels_updown, region_sources_updown
from modeling_updown.configuration_updown import REGION_SOURCES
from modeling_updown.saving_updown import write_code
from tests import fresh_python
from tests.tiny import (
    save_tiny_detecting_captioner,
    tiny_captioning_config,
    tiny_detector_config,
    tiny_fusion_config,
    tiny_grid_config,
    tiny_prefix_lm_config,
    tiny_vqa_config,
)
from training.publish import push as publishing
from training.publish.push import outputs_here, push

# a file of heads -> what makes the config of a tiny model of it
CONFIGS = {
    "modeling_captioning": tiny_captioning_config,
    "modeling_vqa": tiny_vqa_config,
    "modeling_retrieval": tiny_fusion_config,
    "modeling_pretraining": tiny_fusion_config,
    "modeling_fusion_vqa": tiny_fusion_config,
    "modeling_prefix_lm": tiny_prefix_lm_config,
}
# what the detector alone needs
DETECTOR_CODE = {
    *("modeling_detector", "detector_batch_updown", "proposals_updown", "pyramid_updown", "resnet_updown"),
    "nanodet_updown",
}


@pytest.mark.parametrize("head", CONFIGS)
def test_code_of_the_owned_region_source_alone(head: str, tmp_path: Path) -> None:
    sources = {"grid": tiny_grid_config(), "detector": tiny_detector_config(), "none": None}
    code = {}
    for name, source in sources.items():
        (tmp_path / name).mkdir()
        write_code(tmp_path / name, [head], config=CONFIGS[head](vision_config=source, region_feature_size=8))
        code[name] = {path.stem for path in (tmp_path / name).iterdir()}
    assert code["grid"] - code["none"] == {"modeling_grid"} and not code["none"] & DETECTOR_CODE
    assert code["detector"] >= DETECTOR_CODE and "modeling_grid" not in code["detector"]
    assert all("kernels_updown" not in names and "region_sources_updown" in names for names in code.values())


def test_a_captioner_with_a_detector_runs_without_our_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`push` compares: without the kernels, which the folder does not hold, the outputs are those with them here."""
    folder = save_tiny_detecting_captioner(tmp_path / "saved")
    monkeypatch.setattr(publishing, "subprocess", fresh_python)
    made = Path(push(folder, "someone/tiny", dry_run=True, output=tmp_path / "tiny"))
    assert {path.stem for path in made.glob("*.py")} >= DETECTOR_CODE
    assert not (made / "kernels_updown.py").exists() and not (made / "modeling_grid.py").exists()
    monkeypatch.setattr(kernels_updown, "stage_means", None)
    with pytest.raises(TypeError, match="not callable"):  # so the kernels are what runs here
        outputs_here(folder)


def test_code_without_the_region_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert region_sources_updown.region_source_class(tiny_grid_config()) is modeling_updown.UpDownGrid
    monkeypatch.setattr(region_sources_updown, "optional_sibling", lambda name, *, package: None)
    with pytest.raises(ImportError, match="no modeling_grid.py, which its region source .updown_grid. needs"):
        region_sources_updown.region_source_class(tiny_grid_config())
    for config, reference in REGION_SOURCES.values():
        file, name = reference.split(".")
        kind = getattr(modeling_updown, name)
        assert kind.config_class is config and kind.__module__.endswith(f".{file}")
