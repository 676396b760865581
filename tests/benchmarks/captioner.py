"""The full-size captioner: photos and captions a second, beside the PyTorch reference implementation.

    OMP_NUM_THREADS=2 python tests/benchmarks/captioner.py
    OMP_NUM_THREADS=2 python tests/benchmarks/captioner.py --profile

52 million weights (region embedding 1000, 36 regions of 2048, 9,487 words and the end), 16 words a caption, random
weights, no caption ends early, CIDEr excluded. The reference's figures come from another machine, so each ratio is also
given after dividing both by their machine's rate of matrix products, measured here in the same run.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modeling_updown import UpDownCaptioningConfig, UpDownForImageCaptioning
from tests.benchmarks.yardstick import matrix_gflops

REGIONS, WIDTH, NUM_WORDS, CAPTIONS_A_PHOTO = 36, 2048, 16, 5
REFERENCE_GFLOPS = {torch.float32: 52.0, torch.bfloat16: 176.0}
# (beams, photos) -> photos a second; photos -> captions a second, forward and backward, in float32
REFERENCE_GENERATION = {(1, 1): 9.0, (1, 10): 36.5, (1, 50): 88.0, (5, 1): 3.1, (5, 10): 9.8, (5, 50): 12.9}
REFERENCE_TRAINING = {10: 20.0, 50: 34.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2, help="timed runs of each line, after one to warm up")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    arguments = parser.parse_args()
    model = full_size_model()
    if arguments.profile:
        profile("beam 5, 50 photos", partial(generate, model, photos=50, beams=5))
        profile("cross-entropy, 50 x 5 captions", partial(train_step, model, photos=50))
        return
    gflops = {dtype: matrix_gflops(dtype) for dtype in REFERENCE_GFLOPS}
    rates = ", ".join(f"{name(dtype)} {rate:.0f}" for dtype, rate in gflops.items())
    print(f"{torch.get_num_threads()} threads; matrix products of 2048-cubes in GFLOP/s: {rates}")
    print(f"{'':44}{'a second':>9}{'reference':>11}{'ratio':>7}{'ratio by yardstick':>20}")
    for (beams, photos), reference in REFERENCE_GENERATION.items():
        seconds = best_seconds(partial(generate, model, photos=photos, beams=beams), arguments.repeats)
        what = f"beam {beams}" if beams > 1 else "greedy"
        show(f"{what}, {photos} photos", photos / seconds, reference, gflops[torch.float32])
    for photos, reference in REFERENCE_TRAINING.items():
        for dtype in REFERENCE_GFLOPS:
            seconds = best_seconds(partial(train_step, model, photos=photos, dtype=dtype), arguments.repeats)
            rate = photos * CAPTIONS_A_PHOTO / seconds
            show(f"cross-entropy, {photos} x 5 captions, {name(dtype)}", rate, reference, gflops[torch.float32])


def full_size_model() -> UpDownForImageCaptioning:
    """ruotianluo's sizes, random weights."""
    torch.manual_seed(0)
    config = UpDownCaptioningConfig(
        vocab_size=9488,
        region_embedding_size=1000,
        word_embedding_relu=True,
        attention_bias=True,
        region_dropout=0.5,
        word_dropout=0.5,
        output_dropout=0.5,
        bos_token_id=0,
        eos_token_id=0,
        unk_token_id=None,
        initializer_range=0.03,
    )
    return UpDownForImageCaptioning(config)


def generate(model: UpDownForImageCaptioning, *, photos: int, beams: int) -> None:
    model.eval()
    features = torch.randn(photos, REGIONS, WIDTH)
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": NUM_WORDS, "eos_token_id": None}
    captions = model.generate(region_features=features, **settings)
    assert captions.shape == (photos, NUM_WORDS + 1)


def train_step(model: UpDownForImageCaptioning, *, photos: int, dtype: torch.dtype = torch.float32) -> None:
    model.train()
    features = torch.randn(photos, REGIONS, WIDTH)
    words = torch.randint(1, 9488, (photos * CAPTIONS_A_PHOTO, NUM_WORDS + 1))
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model(words[:, :-1], region_features=features, labels=words[:, :-1], shift_labels=words[:, 1:]).loss
    loss.backward()


def best_seconds(work: Callable[[], None], repeats: int) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def show(what: str, rate: float, reference: float, gflops: float) -> None:
    """One line; the reference ran in float32 throughout, so its float32 yardstick is the one to divide by."""
    ratio = rate / reference
    by_yardstick = ratio * REFERENCE_GFLOPS[torch.float32] / gflops
    print(f"{what:<44}{rate:>9.1f}{reference:>11.1f}{ratio:>7.2f}{by_yardstick:>20.2f}", flush=True)


def profile(what: str, work: Callable[[], None]) -> None:
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    print(f"\n{what}\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=10)}")


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
