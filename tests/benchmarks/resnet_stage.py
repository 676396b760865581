"""The detector's ResNet-101 on one image of 600 x 900: res4 map, and res5 on 300 regions, beside obvious ones.

    OMP_NUM_THREADS=2 python tests/benchmarks/resnet_stage.py
    OMP_NUM_THREADS=1 python tests/benchmarks/resnet_stage.py --processor-time    # on a machine that others use
    OMP_NUM_THREADS=2 python tests/benchmarks/resnet_stage.py --profile

Random weights and features; boxes of the anchors' sizes (64 to 512 pixels), thinned like proposals. The obvious
implementation is nn.Conv2d, nn.BatchNorm2d and ReLU on contiguous maps in float32, as in the references, and
torchvision's RoI pooling. It takes turns with ours in one process; the fastest run of each counts, and the machine's
rate of matrix products, measured before and after, stands above. Differences are the largest over the largest value;
memory is a fresh process's peak above what its imports took, weights and inputs included.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.ops import nms, roi_pool

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modeling_updown.resnet_updown import Bottleneck, CaffeResNet, NormedConv2d, RegionStage
from tests.benchmarks.yardstick import matrix_gflops

HEIGHT, WIDTH, REGIONS, POOLED, STRIDE = 600, 900, 300, 14, 16
ANCHOR_SIZES = (64, 128, 256, 512)

Work = Callable[[], torch.Tensor]


class ObviousConv2d(nn.Conv2d):
    """A convolution and its norm, one after the other."""

    def __init__(self, conv: NormedConv2d):
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(conv.out_channels)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.norm(super().forward(input))


class ObviousBottleneck(nn.Module):
    def __init__(self, block: Bottleneck):
        super().__init__()
        self.shortcut = None if block.shortcut is None else ObviousConv2d(block.shortcut)
        self.conv1, self.conv2, self.conv3 = (ObviousConv2d(conv) for conv in (block.conv1, block.conv2, block.conv3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.conv1(inputs))
        hidden = torch.relu(self.conv2(hidden))
        return torch.relu(self.conv3(hidden) + (inputs if self.shortcut is None else self.shortcut(inputs)))


class ObviousResNet(nn.Module):
    """Either part of the network, run as it is written."""

    def __init__(self, ours: CaffeResNet | RegionStage):
        super().__init__()
        blocks = [block for block in ours.modules() if isinstance(block, Bottleneck)]
        self.stem = ObviousConv2d(ours.stem.conv1) if isinstance(ours, CaffeResNet) else None
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.blocks = nn.Sequential(*(ObviousBottleneck(block) for block in blocks))
        self.load_state_dict(dict(zip(self.state_dict(), ours.state_dict().values(), strict=True)))
        self.eval()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.stem is None:
            return self.blocks(inputs).mean(dim=(2, 3))
        return self.blocks(self.pool(torch.relu(self.stem(inputs))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each, after one to warm up")
    parser.add_argument("--processor-time", action="store_true", help="count it instead of the time that passes")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    parser.add_argument("--memory-of", metavar="WORK", help="run one work only and print its peak memory in MB")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.memory_of:
        print_memory(arguments.memory_of)
    elif arguments.profile:
        profile()
    else:
        compare(arguments.repeats, clock=time.process_time if arguments.processor_time else time.perf_counter)


@torch.inference_mode()
def compare(repeats: int, *, clock: Callable[[], float]) -> None:
    """Times of every work beside its obvious twin."""
    print(f"{torch.get_num_threads()} threads; matrix products of 2048-cubes in GFLOP/s: {yardsticks()}")
    print(f"{'':34}{'seconds':>8}{'obvious':>9}{'ratio':>7}{'difference':>12}{'MB':>7}")
    works = all_works()
    for obvious, names in {
        "obvious res4": ("res4 float32", "res4 bfloat16"),
        "obvious res5": ("res5 float32", "res5 bfloat16"),
        "obvious pooling + res5": ("pooling + res5 float32", "pooling + res5 bfloat16"),
    }.items():
        times = dict.fromkeys((obvious, *names), float("inf"))
        outputs: dict[str, torch.Tensor] = {}
        for repeat in range(repeats + 1):
            for name in times:
                start = clock()
                outputs[name] = works[name]()
                if repeat:  # the first run builds the work
                    times[name] = min(times[name], clock() - start)
        print(f"{obvious:<34}{times[obvious]:>8.2f}{'':28}{memory_of(obvious):>7}")
        expected = outputs[obvious]
        for name in names:
            difference = (outputs[name].float() - expected).abs().max() / expected.abs().max()
            print(
                f"{name:<34}{times[name]:>8.2f}{times[obvious]:>9.2f}{times[obvious] / times[name]:>7.2f}"
                f"{difference:>12.1e}{memory_of(name):>7}",
                flush=True,
            )
    print(f"matrix products afterwards: {yardsticks()}")


def all_works() -> dict[str, Work]:
    """Each work by its name; its model and inputs are made on the first call."""
    return {
        f"{kind}{part}{suffix}": Lazy(kind, part, dtype)
        for part in ("res4", "res5", "pooling + res5")
        for kind, suffix, dtype in (
            ("obvious ", "", torch.float32),
            ("", " float32", torch.float32),
            ("", " bfloat16", torch.bfloat16),
        )
    }


class Lazy:
    """A work that builds itself when it is first run, always of the same random numbers."""

    def __init__(self, kind: str, part: str, dtype: torch.dtype):
        self.kind, self.part, self.dtype = kind, part, dtype
        self.work: Work | None = None

    def __call__(self) -> torch.Tensor:
        if self.work is None:
            self.work = self.build()
        return self.work()

    def build(self) -> Work:
        torch.manual_seed(0)
        model = self.model(CaffeResNet() if self.part == "res4" else RegionStage())
        torch.manual_seed(1)  # the twins draw differently many numbers
        if self.part == "res4":
            return partial(model, torch.randn(1, 3, HEIGHT, WIDTH).to(self.dtype))
        feature_map = torch.randn(1, 1024, -(-HEIGHT // STRIDE), -(-WIDTH // STRIDE) + 1).relu_()
        rois = proposals(REGIONS)
        if self.part == "res5":
            return partial(model, roi_pool(feature_map, rois, POOLED, 1 / STRIDE).to(self.dtype))
        if self.kind:
            return partial(pool_and_run, model, feature_map, rois)
        return partial(model, feature_map.to(self.dtype), rois)

    def model(self, ours: CaffeResNet | RegionStage) -> nn.Module:
        """Ours with random weights that keep the activations' size, or its obvious twin."""
        for name, tensor in ours.state_dict().items():
            if name.endswith(("bias", "mean")):
                tensor.normal_(std=0.1)
            elif tensor.dim() == 1:
                tensor.uniform_(0.5, 1.0)
            elif tensor.dim() == 4:
                tensor.normal_(std=tensor[0].numel() ** -0.5)
        return ObviousResNet(ours) if self.kind else ours.eval().to(self.dtype)


def pool_and_run(model: nn.Module, feature_map: torch.Tensor, rois: torch.Tensor) -> torch.Tensor:
    return model(roi_pool(feature_map, rois, POOLED, 1 / STRIDE))


def proposals(count: int) -> torch.Tensor:
    """Regions (count, 5), as many of each size as of another, overlapping by 0.7 at most."""
    kept = []
    for size in ANCHOR_SIZES:
        ratio = torch.tensor([0.5, 1.0, 2.0])[torch.randint(3, (4000,))]
        sides = size * torch.stack([ratio.rsqrt(), ratio.sqrt()], dim=1) * (0.2 * torch.randn(4000, 2)).exp()
        centre = torch.rand(4000, 2) * torch.tensor([WIDTH, HEIGHT])
        boxes = torch.cat([centre - sides / 2, centre + sides / 2], dim=1).clamp(min=0)
        boxes = boxes.minimum(torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]))
        kept.append(boxes[nms(boxes, torch.rand(4000), 0.7)][: count // len(ANCHOR_SIZES)])
    boxes = torch.cat(kept)[torch.randperm(count)]
    return torch.cat([torch.zeros(count, 1), boxes], dim=1)


def yardsticks() -> str:
    return ", ".join(f"{dtype} {matrix_gflops(dtype):.0f}" for dtype in (torch.float32, torch.bfloat16))


def memory_of(name: str) -> str:
    """Peak memory of a work in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@torch.inference_mode()
def print_memory(name: str) -> None:
    before = peak_memory()
    all_works()[name]()
    print(peak_memory() - before)


def peak_memory() -> int:
    """This process's, in MB; from /proc, since getrusage counts what a parent process held."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(line) // 1024


@torch.inference_mode()
def profile() -> None:
    for name, work in all_works().items():
        if name.startswith("obvious"):
            continue
        work()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            work()
        print(f"\n{name}\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=10)}")


if __name__ == "__main__":
    main()
