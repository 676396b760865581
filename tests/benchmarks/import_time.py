"""Seconds until a Python process has imported UpDown, beside torch and transformers, each in processes of their own.

python tests/benchmarks/import_time.py
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

STATEMENTS = {
    "python alone": "pass",
    "torch": "import torch",
    "transformers": "import transformers",
    "transformers with what a captioner derives from": "from transformers import GenerationMixin, PreTrainedModel",
    "the public door": "import modeling_updown",
    "its captioner": "from modeling_updown import UpDownForImageCaptioning",
    "its processor": "from modeling_updown import UpDownProcessor",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="processes for each line; the fastest counts")
    repeats = parser.parse_args().repeats
    for name, statement in STATEMENTS.items():
        print(f"{best_seconds(statement, repeats):6.2f} s  {name}: {statement}")


def best_seconds(statement: str, repeats: int) -> float:
    """Wall-clock seconds of the fastest of a few processes that run the statement and end."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True, cwd=Path(__file__).parents[2])
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
