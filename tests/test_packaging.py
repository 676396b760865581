"""What is installed: bounds, the lock and the table of tested releases agree, and the wheel holds what it should."""

import re
import runpy
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

import modeling_updown
from modeling_updown import UpDownGrid, UpDownGridConfig, versions_updown
from training import shipped

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL_BYTES = 60 * 10**6  # where files are not even compressed
PIN = re.compile(r"([a-z\d-]+)==([\w.]+)(?: ; (.+))?")


@pytest.fixture(scope="module")
def setup() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "setup.py"))


@pytest.fixture(scope="module")
def pins() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / ".ci" / "pins.py"))


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    """Normalized name -> version of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [PIN.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(found), "a line is no exact pin"
    return {pin[1]: pin[2] for pin in found if pin}


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def test_bounds(setup: dict[str, Any]) -> None:
    requirements = [*setup["REQUIRED"], *(line for extra in setup["EXTRAS"].values() for line in extra)]
    odd = [line for line in requirements if not re.fullmatch(r"[\w.-]+>=[\d.]+", line)]
    assert odd == ["transformers>=5.21,<5.25"]  # its minor releases break us
    assert set(setup["EXTRAS"]["all"]) == {line for extra in setup["EXTRAS"].values() for line in extra}


def test_the_lock_holds_everything_that_make_installs(
    setup: dict[str, Any], pins: dict[str, Any], lock: dict[str, str]
) -> None:
    lowest = pins["requirements"]("test")
    assert list(lowest) and set(lowest) <= set(lock)
    below = [name for name, version in lowest.items() if numbers(lock[name]) < numbers(version)]
    assert not below
    assert numbers("5.21") <= numbers(lock["transformers"]) < numbers("5.25")
    assert {"pyarrow", "regex", "pluggy"} <= set(lock)  # what those need in their turn


def test_pins_of_one_system_do_not_bind_another() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    bound = [line for line in lines if re.match("nvidia|cuda|triton", line)]
    assert bound and all(line.endswith(' ; sys_platform == "linux" and platform_machine == "x86_64"') for line in bound)


def test_the_oldest_versions_are_the_stated_bounds(pins: dict[str, Any]) -> None:
    oldest = pins["oldest"]()
    assert "transformers==5.21" in oldest and "numpy==2.0" in oldest and "pyyaml==6.0.2" in oldest
    assert len(oldest) == len(pins["requirements"]("test"))


def test_a_lock_is_written_as_it_is_read(pins: dict[str, Any]) -> None:
    text = pins["lock_text"]({"nvidia-cublas": "13.1", "torch": "2.14.1"})
    assert text.splitlines()[2].startswith("nvidia-cublas==13.1 ; sys_platform == ")
    assert text.splitlines()[3] == "torch==2.14.1"
    with pytest.raises(ValueError, match="holds no table"):
        pins["with_tested"]("nothing", dict.fromkeys(pins["requirements"](), "1.2.3"))


def test_what_is_called_tested_is_what_the_lock_holds(pins: dict[str, Any], lock: dict[str, str]) -> None:
    text = (ROOT / "modeling_updown" / "versions_updown.py").read_text(encoding="utf-8")
    assert pins["with_tested"](text, lock) == text


def test_one_warning_names_what_is_newer_than_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    tested = versions_updown.TESTED
    installed = {"torch": "2.99.0+cu130", "transformers": f"{tested['transformers']}.9", "numpy": "1.0"}
    monkeypatch.setattr(versions_updown, "installed_version", lambda name: installed.get(name, "0"))
    versions_updown.warn_of_newer_libraries.cache_clear()
    config = UpDownGridConfig(backbone="test_vit", image_size=32, grid_size=2, region_feature_size=8)
    try:
        with pytest.warns(UserWarning) as caught:
            UpDownGrid(config)
            UpDownGrid(config)
        told = [str(warning.message) for warning in caught if "has not been tested" in str(warning.message)]
        newer = f"torch 2.99.0+cu130 (tested: {tested['torch']})"
        assert told == [f"UpDown has not been tested with {newer}. Should something fail, install the tested release"]
        installed["torch"] = f"{tested['torch']}.7"
        versions_updown.warn_of_newer_libraries.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            versions_updown.warn_of_newer_libraries()
    finally:
        versions_updown.warn_of_newer_libraries.cache_clear()


def test_one_version(setup: dict[str, Any]) -> None:
    assert setup["version"]() == modeling_updown.__version__
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == modeling_updown.__version__
    shown = subprocess.run([sys.executable, "-m", "training.cli", "--version"], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, f"updown {modeling_updown.__version__}\n")


def test_the_wheel_holds_the_captioner_and_stays_small(setup: dict[str, Any]) -> None:
    placed = {file: folder for folder, files in setup["published_files"]() for file in files}
    captioner = "hub_cards/updown-captioning-flickr8k"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json"):
        assert placed[f"{captioner}/{name}"] == "share/updown/updown-captioning-flickr8k"
    assert placed["hub_cards/card_template.md"] == "share/updown"
    assert not [name for name in placed if name.endswith(".py") or (ROOT / name).is_symlink()]
    packaged = [
        path
        for package, patterns in setup["PACKAGE_DATA"].items()
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
    ]
    assert {"py.typed", "scenes.yaml", "skier.jpg"} <= {path.name for path in packaged}
    code = [path for package in setup["PACKAGES"] for path in (ROOT / package.replace(".", "/")).glob("*.py")]
    files = [ROOT / name for name in placed] + packaged + code
    assert sum(path.stat().st_size for path in files if path.is_file()) < LARGEST_WHEEL_BYTES


def test_what_a_wheel_brings_is_found_where_the_installer_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped.published("card_template.md") == ROOT / "hub_cards" / "card_template.md"
    recorded = metadata.PackagePath("../../share/updown/updown-captioning-flickr8k/config.json")
    recorded.dist = metadata.PathDistribution(tmp_path / "lib" / "site-packages" / "modeling_updown.dist-info")
    folder = tmp_path / "share" / "updown" / "updown-captioning-flickr8k"
    folder.mkdir(parents=True)
    monkeypatch.setattr(shipped, "CODE", tmp_path / "lib" / "site-packages")
    monkeypatch.setattr(metadata, "files", lambda name: [recorded] if name == "modeling-updown" else None)
    assert shipped.published("updown-captioning-flickr8k") == folder
    assert shipped.published("card_template.md") == tmp_path / "lib/site-packages/hub_cards/card_template.md"
    beside = tmp_path / "lib" / "site-packages" / "share" / "updown" / "card_template.md"
    beside.parent.mkdir(parents=True)
    beside.write_text("with pip install --target")
    assert shipped.published("card_template.md") == beside
