"""A dense captioner that is published: loaded without our package it says the same, and the lines of its card run."""

import json
from pathlib import Path

from tests.tiny import save_tiny_dense_captioner
from tests.training.publish.test_push import python_lines, run_as_stranger
from training.publish.push import is_same, outputs_here, publish_folder


def test_a_dense_captioner_gives_a_stranger_the_same(tmp_path: Path) -> None:
    """Published, and loaded without our package: the Auto class, the pipeline, and the lines of the card."""
    made = tmp_path / "made"
    folder = save_tiny_dense_captioner(tmp_path / "saved")
    publish_folder(folder, made, repo_id="someone/tiny")
    config = json.loads((made / "config.json").read_text())
    assert config["auto_map"]["AutoModelForMultimodalLM"] == "modeling_dense_captioning.UpDownForDenseCaptioning"
    assert list(config["custom_pipelines"]) == ["dense-captioning"]
    expected = outputs_here(folder)
    loaders, tasks = sorted(config["auto_map"]), list(expected["tasks"])
    run = run_as_stranger(
        f"import json\nprint(json.dumps(check.outputs_of({str(made)!r}, auto_classes={loaders!r}, tasks={tasks!r}, "
        "trust=True)))\n",
        tmp_path,
    )
    assert is_same(json.loads(run.stdout.splitlines()[-1]), expected)
    assert tasks == ["dense-captioning"] and len(expected["tasks"]["dense-captioning"]) > 1
    found = expected["outputs"]["AutoModelForMultimodalLM"]
    assert len(found["pred_boxes"]) == 8 and {"logits", "region_logits"} <= found.keys()
    lines = python_lines(made / "README.md").replace("someone/tiny", str(made))
    assert run_as_stranger(lines, tmp_path).stdout.count("log_prob_per_word") > 2
