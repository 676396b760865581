"""A warning for half precision where it is slow: processors without instructions for it imitate it, 50 times slower.

accelerator --warn_of_slow_precision--> a line with the cure, on the main process
"""

import sys
import time

import torch
from accelerate import Accelerator

from training.console import say

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BEARABLE = 2.0  # times as slow as float32; processors with instructions for it take 0.3 to 1
ROWS, WIDTH = 128, 512  # a product of 67 million operations: 1 ms in float32, 0.2 s where bf16 is imitated


def warn_of_slow_precision(accelerator: Accelerator, *, cure: str) -> None:
    """Say how much slower a CPU multiplies in the accelerator's half precision than in float32, where it does.

    Nothing is changed: the precision is what the recipe or the option says. `cure` is what turns it off, such as
    `--set train.mixed_precision=no`.
    """
    precision = accelerator.mixed_precision
    if accelerator.device.type != "cpu" or precision not in HALVES or not accelerator.is_main_process:
        return
    times = slowdown(HALVES[precision])
    if times > BEARABLE:
        say(
            f"warning: this processor multiplies {times:.0f} times slower in {precision} than in float32, which is "
            f"also more exact: {cure}",
            file=sys.stderr,
        )


def slowdown(dtype: torch.dtype) -> float:
    """Seconds of a matrix product in `dtype` over those in float32."""
    return product_seconds(dtype) / product_seconds(torch.float32)


def product_seconds(dtype: torch.dtype) -> float:
    """The shortest time of three products of matrices on the CPU; of one, where that takes long."""
    left, right = (torch.ones(shape, dtype=dtype) for shape in ((ROWS, WIDTH), (WIDTH, WIDTH)))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
        if seconds[-1] > 0.1:
            break  # imitated: a second look would tell no more
    return min(seconds)
