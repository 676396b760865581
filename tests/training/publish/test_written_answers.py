"""Answers that are written, by a published model: loaded without our package it says the same, as its card does."""

import json
from pathlib import Path

from tests.tiny import save_tiny_prefix_vqa
from tests.training.publish.test_push import python_lines, run_as_stranger
from training.publish.push import is_same, outputs_here, publish_folder


def test_answers_that_are_written_give_a_stranger_the_same(tmp_path: Path) -> None:
    made, folder = tmp_path / "made", save_tiny_prefix_vqa(tmp_path / "saved")
    publish_folder(folder, made, repo_id="someone/tiny")
    config = json.loads((made / "config.json").read_text())
    name = "UpDownPrefixLMForVisualQuestionAnswering"
    assert config["auto_map"]["AutoModelForVisualQuestionAnswering"] == f"modeling_prefix_vqa.{name}"
    expected = outputs_here(folder)
    loaders, tasks = sorted(config["auto_map"]), list(expected["tasks"])
    run = run_as_stranger(
        f"import json\nprint(json.dumps(check.outputs_of({str(made)!r}, auto_classes={loaders!r}, tasks={tasks!r}, "
        "trust=True)))\n",
        tmp_path,
    )
    assert is_same(json.loads(run.stdout.splitlines()[-1]), expected) and tasks == ["visual-question-answering"]
    assert 0 < expected["tasks"]["visual-question-answering"][0]["score"] < 1
    lines = python_lines(made / "README.md").replace("someone/tiny", str(made))
    assert run_as_stranger(lines, tmp_path).stdout.count("score") > 3
