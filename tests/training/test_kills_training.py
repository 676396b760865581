"""Kills at random moments, a few of those of `tests/benchmarks/kills_training.py`."""

import pytest

from tests.benchmarks import kills_training


def test_killed_runs_and_one_whose_checkpoint_was_cut_end_as_one_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert kills_training.main(["--kills", "2", "--truncations", "1", "--seed", "6"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("left alone: 1 x start of ") and " 18 x step of " in lines[0]
    assert [line.split()[1] for line in lines[1:4]] == ["start", "step", "scoring"]
    assert " cut to " in lines[3] and all(line.endswith(": the same end") for line in lines[1:4])
    assert lines[4] == "3 trials, 3 killed in the midst, 0 with another end"
