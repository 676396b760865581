"""What cells beside the boxes cost the light detector: its forward on photos, one at a time, with and without them.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.cells [IMAGE ...]

Processor time, in turns in one process, the fastest of each image's runs, summed over the images.
"""

import argparse
import time
from pathlib import Path

import torch

from modeling_updown import UpDownDetector, UpDownImageProcessor

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 5
GRIDS = ([], [7], [1, 7], [14])


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", help="by default the five that come along")
    paths = parser.parse_args().images or sorted((ROOT / "training" / "demo_photos").glob("*.jpg"))
    folder = ROOT / "hub_cards" / "updown-detector-lite"
    detector = UpDownDetector.from_pretrained(folder, dtype=torch.float32).eval()
    processor = UpDownImageProcessor.from_pretrained(folder)
    totals = [0.0] * len(GRIDS)
    for path in paths:
        inputs = processor(str(path), return_tensors="pt")
        fastest = [float("inf")] * len(GRIDS)
        for _ in range(REPEATS):
            for place, grid_sizes in enumerate(GRIDS):
                start = time.process_time()  # of this process, whatever else the machine does
                detector(**inputs, grid_sizes=grid_sizes)
                fastest[place] = min(fastest[place], time.process_time() - start)
        totals = [total + seconds for total, seconds in zip(totals, fastest, strict=True)]
    print(f"{len(paths)} images, {torch.get_num_threads()} threads")
    for grid_sizes, total in zip(GRIDS, totals, strict=True):
        count = sum(side**2 for side in grid_sizes)
        print(
            f"{count:4} cells {grid_sizes!s:8} {total / len(paths):6.3f} s an image  {total / totals[0]:5.3f} x without"
        )


if __name__ == "__main__":
    main()
