"""A folder whose code is links to the source, as those in hub_cards: it loads, and saving into it changes no source."""

from pathlib import Path

import pytest
from transformers import AutoProcessor

import modeling_updown
from modeling_updown.saving_updown import code_file
from tests import fresh_python
from tests.tiny import save_tiny_captioner
from training.publish import push as publishing
from training.publish.push import check_published, outputs_here, publish_folder

GENERATED = "region_sources_updown.py"  # is no copy: it names the region source of the folder's model


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """The Hub folder of a tiny captioner, with links for the copies of code."""
    folder = tmp_path / "linked"
    publish_folder(save_tiny_captioner(tmp_path / "saved"), folder, repo_id="someone/tiny")
    for path in folder.glob("*.py"):
        if path.name != GENERATED:
            path.unlink()
            path.symlink_to(source_of(path))
    return folder


def source_of(path: Path) -> Path:
    found = code_file(path.stem)
    assert found is not None
    return found


def save_again(folder: Path) -> None:
    """Load the model and the processor of a folder, and save both into it."""
    modeling_updown.UpDownForImageCaptioning.from_pretrained(folder).save_pretrained(folder)
    AutoProcessor.from_pretrained(folder).save_pretrained(folder)


def test_it_loads_without_our_package(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "subprocess", fresh_python)
    check_published(str(linked), expected=outputs_here(linked))


def test_saving_into_it_keeps_links_and_source(linked: Path) -> None:
    before = {path.name: path.resolve() for path in linked.glob("*.py")}
    content = {name: path.read_bytes() for name, path in before.items()}
    save_again(linked)
    assert {path.name: path.resolve() for path in linked.glob("*.py")} == before
    assert {name: path.read_bytes() for name, path in before.items()} == content


@pytest.mark.parametrize("name", ["boxes_updown.py", "image_download_updown.py", GENERATED])
def test_links_to_other_source_are_replaced(name: str, linked: Path, tmp_path: Path) -> None:
    """As where the package that saves is not the checkout that the links lead to."""
    other = tmp_path / name
    other.write_text("# somebody's source\n")
    (linked / name).unlink()
    (linked / name).symlink_to(other)
    save_again(linked)
    assert other.read_text() == "# somebody's source\n"
    assert not (linked / name).is_symlink()
    assert (linked / name).read_text().startswith(source_of(linked / name).read_text())
