"""How fast this machine multiplies matrices: the yardstick that figures of different machines are divided by.

python tests/benchmarks/yardstick.py
"""

import time

import torch

SIDE, REPEATS = 2048, 5


def matrix_gflops(dtype: torch.dtype = torch.float32) -> float:
    """The best of a few products of two 2048-cubes, in 10^9 operations a second, with torch's current threads."""
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best / 1e9


def main() -> None:
    print(f"matrix products of {SIDE} cubes, {torch.get_num_threads()} threads")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"{str(dtype).removeprefix('torch.')}: {matrix_gflops(dtype):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
