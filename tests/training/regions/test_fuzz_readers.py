"""No damaged file ends the process, hangs, runs anything or shows a traceback: thousands of them, the same every time.

A reader may refuse a file with a `ValueError` that names it, or list and pass over what is broken in it. Each kind is
read in a process of its own (fuzz_batch.py), since a library in C may end one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

for library in ("h5py", "lmdb", "msgpack"):
    pytest.importorskip(library, reason=f"some of the damaged files need {library}")

REPOSITORY = Path(__file__).resolve().parents[3]
COUNT = 1000


@pytest.mark.parametrize("kinds", [("tsv", "vinvl", "lmdb", "hdf5", "npz"), ("recipes", "annotations")], ids=str)
def test_damaged_files_are_named_or_passed_over(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.training.regions.fuzz_batch", str(tmp_path), str(COUNT), *kinds]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, f"it ended with {ran.returncode}: {ran.stderr[-2000:]}"
    assert json.loads(ran.stdout.splitlines()[-1]) == []
