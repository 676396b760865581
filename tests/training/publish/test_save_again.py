"""A published model that is loaded and saved again opens like the published one: with our package and without it."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, pipeline

import modeling_updown
from tests import fresh_python
from tests.tiny import (
    save_tiny_captioner,
    save_tiny_detecting_captioner,
    save_tiny_retrieval,
    save_tiny_vqa,
    tiny_captioner,
    tiny_detector,
    tiny_processor,
)
from training.publish import check
from training.publish import push as publishing
from training.publish.push import check_published, outputs_here, publish_folder

# Saves what lies in one folder into another, in an interpreter without our packages.
SAVE_AS_STRANGER = f"""
import sys
sys.path.insert(0, {str(Path(check.__file__).parent)!r})
from check import OwnPackageBlocker
sys.meta_path.insert(0, OwnPackageBlocker())
import transformers
auto, task, source, parts, whole = sys.argv[1:]
options = {{"trust_remote_code": True}}
getattr(transformers, auto).from_pretrained(source, **options).save_pretrained(parts)
transformers.AutoProcessor.from_pretrained(source, **options).save_pretrained(parts)
if task:
    transformers.pipeline(task, model=source, **options).save_pretrained(whole)
"""


def save_tiny_detector(folder: Path) -> Path:
    """`save_pretrained` of the detector and its image processor into one folder, which is returned."""
    tiny_detector().save_pretrained(folder)
    tiny_processor().image_processor.save_pretrained(folder)
    return folder


KINDS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "captioner": (save_tiny_captioner, "AutoModelForImageTextToText", "image-to-text"),
    "captioner with a detector": (save_tiny_detecting_captioner, "AutoModelForImageTextToText", "image-to-text"),
    "vqa": (save_tiny_vqa, "AutoModelForVisualQuestionAnswering", "visual-question-answering"),
    "retrieval": (save_tiny_retrieval, "AutoModelForZeroShotImageClassification", ""),
    "detector": (save_tiny_detector, "AutoModelForObjectDetection", ""),
}


@pytest.fixture(autouse=True)
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_published` loads in a fork without our package, see `fresh_python`."""
    monkeypatch.setattr(publishing, "subprocess", fresh_python)


@pytest.fixture(scope="module", params=KINDS)
def published(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The Hub folder of a tiny model, the Auto class that loads it and the pipeline of ours that runs it."""
    save, auto, task = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    publish_folder(save(folder / "saved"), folder / "published", repo_id="someone/tiny")
    return folder / "published", auto, task


def is_published_alike(found: Path, published: Path) -> None:
    """A folder has the code of another, its JSON names the same classes, and it gives the same outputs here."""
    assert {path.name for path in found.glob("*.py")} == {path.name for path in published.glob("*.py")}
    theirs, ours = (json.loads((folder / "config.json").read_text()) for folder in (published, found))
    for name in ("auto_map", "custom_pipelines"):
        assert ours[name] == theirs[name]
    assert outputs_here(found) == outputs_here(published)


def test_saved_again_with_our_package(published: tuple[Path, str, str], tmp_path: Path) -> None:
    source, auto, task = published
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    getattr(transformers, auto).from_pretrained(source).save_pretrained(parts)
    AutoProcessor.from_pretrained(source).save_pretrained(parts)
    is_published_alike(parts, source)
    if task:
        pipeline(task, model=str(source)).save_pretrained(whole)
        is_published_alike(whole, source)
        assert {path.name for path in whole.iterdir()} == {path.name for path in parts.iterdir()}
    found = whole if task else parts
    check_published(str(found), expected=outputs_here(source))
    for loads in (AutoConfig, AutoProcessor, AutoImageProcessor):  # here, but by the folder's own code
        loads.from_pretrained(found, trust_remote_code=True)


@pytest.mark.parametrize("published", ["vqa", "captioner with a detector"], indirect=True)  # in most places, most code
def test_saved_again_without_our_package(published: tuple[Path, str, str], tmp_path: Path) -> None:
    source, auto, task = published
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    command = [sys.executable, "-P", "-c", SAVE_AS_STRANGER, auto, task, str(source), str(parts), str(whole)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    run = fresh_python.run(command, cwd=tmp_path, env=environment)
    assert run.returncode == 0, run.stderr
    for found in (parts, whole):
        is_published_alike(found, source)
    check_published(str(whole), expected=outputs_here(source))


def test_a_model_that_was_never_published_brings_no_code(tmp_path: Path) -> None:
    folder = save_tiny_captioner(tmp_path / "saved")
    pipeline("image-to-text", model=str(folder)).save_pretrained(tmp_path / "again")
    assert not [*folder.glob("*.py"), *(tmp_path / "again").glob("*.py")]
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text())


def test_a_folder_with_the_pipeline_under_its_earlier_name(tmp_path: Path) -> None:
    """It loads with and without our package, and is saved again under the name of today."""
    source, again = tmp_path / "published", tmp_path / "again"
    publish_folder(save_tiny_captioner(tmp_path / "saved"), source, repo_id="someone/tiny")
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.replace("pipeline_captioning.", "pipeline_updown."))
    (source / "pipeline_captioning.py").rename(source / "pipeline_updown.py")
    check_published(str(source), expected=outputs_here(source))
    pipeline("image-to-text", model=str(source)).save_pretrained(again)
    assert (again / "pipeline_captioning.py").is_file() and not (again / "pipeline_updown.py").exists()
    named = json.loads((again / "config.json").read_text())["custom_pipelines"]["image-to-text"]["impl"]
    assert named == "pipeline_captioning.UpDownImageToTextPipeline"
    check_published(str(again), expected=outputs_here(source))


def test_a_model_saved_into_its_own_folder_keeps_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "published"
    publish_folder(save_tiny_captioner(tmp_path / "saved"), folder, repo_id="someone/tiny")
    before = {path.name: path.read_bytes() for path in folder.glob("*.py")}
    modeling_updown.UpDownForImageCaptioning.from_pretrained(folder).save_pretrained(folder)
    AutoProcessor.from_pretrained(folder).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.py")} == before


def test_code_names_no_repository(tmp_path: Path) -> None:
    """Loaded from the Hub, a config names its code with the repository in front."""
    model = tiny_captioner()
    model.config.auto_map = {"AutoConfig": "someone/tiny--configuration_updown.UpDownCaptioningConfig"}
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"] == {"AutoConfig": "configuration_updown.UpDownCaptioningConfig"}
    parts = [f"configuration_{part}_updown.py" for part in ("dense", "masks", "tags", "time")]
    assert sorted(path.name for path in tmp_path.glob("*.py")) == [
        *parts,
        "configuration_updown.py",
        "labels_updown.py",
    ]


def test_code_that_cannot_be_had_is_named(tmp_path: Path, caplog: Any) -> None:
    model = tiny_captioner()
    model.config.auto_map = {"AutoConfig": "their_own_file.Config"}
    model.save_pretrained(tmp_path)
    assert "lacks their_own_file, which its config.json names" in caplog.text
    shutil.rmtree(tmp_path)
