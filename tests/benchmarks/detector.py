"""The whole detector on an image of 600 x 900: ResNet-101, 300 proposals, 1,600 classes, in float32 and bfloat16.

    OMP_NUM_THREADS=2 python -m tests.benchmarks.detector [IMAGE ...]

Ours beside the same detector with obvious stages (nn.Conv2d, nn.BatchNorm2d, ReLU, torchvision's RoIPool, everything
on 300 maps of 14 x 14, as the references run it), in turns in one process, the fastest of each, and beside what the
PyTorch reference was measured to take (14 to 16 s where products of matrices ran at 52 GFLOP/s). Weights are random,
their norms set from the images, so that activations and decisions are of a trained network's size. "Same" counts the
regions of the obvious float32 detector that are found again: a box with IoU over 0.9, and of those the label. Memory is
the peak above what importing torch took, in a process of its own.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.ops import roi_pool

from modeling_updown import UpDownDetector, UpDownDetectorConfig
from modeling_updown.boxes_updown import pairwise_iou
from modeling_updown.resnet_updown import NormedConv2d
from tests.benchmarks.resnet_stage import ObviousResNet
from tests.benchmarks.yardstick import matrix_gflops

HEIGHT, WIDTH, REPEATS = 600, 900, 3
REFERENCE_SECONDS, REFERENCE_GFLOPS = 15.0, 52.0
SHARED_IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"
# the conventions of the PyTorch port, which was measured: 36 regions, one suppression over all classes
PORT: dict[str, Any] = {
    "min_proposal_side": 0,
    "box_plus_one": False,
    "region_boxes": "regressed",
    "nms_per_class": False,
    "nms_thresholds": [0.5, 0.6, 0.7],
    "min_regions": 36,
    "max_regions": 36,
    "score_threshold": 0.0,
}
MEANS = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)


class ObviousStage(nn.Module):
    """res5 as it is written, on pooled maps."""

    def __init__(self, stage: Any):
        super().__init__()
        self.stage = ObviousResNet(stage)

    def forward(self, feature_map: torch.Tensor, rois: torch.Tensor, *, output_size: int, spatial_scale: float) -> Any:
        return self.stage(roi_pool(feature_map, rois, output_size, spatial_scale))


def image_pixels(paths: list[str]) -> torch.Tensor:
    """Images (B, 3, 600, 900), BGR minus Caffe's means; drawn noise of several scales where there is no image."""
    if not paths:
        generator = torch.Generator().manual_seed(0)
        scales = [torch.randn(1, 3, 600 // s, 900 // s, generator=generator) for s in (4, 20, 100)]
        return 40 * sum(nn.functional.interpolate(scale, (HEIGHT, WIDTH), mode="bicubic") for scale in scales)
    images = [np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT))) for path in paths]
    return torch.stack([torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1).float() - MEANS for image in images])


def calibrated_detector(pixels: torch.Tensor) -> UpDownDetector:
    """The paper's detector, random, its norms set to what they meet on the images and its heads to decided answers."""
    torch.manual_seed(0)
    detector = UpDownDetector(UpDownDetectorConfig(**PORT)).eval()
    hooks = [
        module.norm.register_forward_pre_hook(set_statistics)
        for module in detector.modules()
        if isinstance(module, NormedConv2d)
    ]
    detector.requires_grad_(True)  # the plain way, on which norms are modules of their own
    maps = detector.feature_maps(pixels)
    boxes = torch.rand(24, 4) * torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT])
    boxes = torch.cat([torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])], dim=1)
    features = detector.region_features(maps, [boxes, *[boxes[:4]] * (len(pixels) - 1)])
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        decide(detector.proposals.conv, maps.maps[0].detach(), spread=1.0)
        hidden = torch.relu(detector.proposals.conv(maps.maps[0].detach()))
        decide(detector.proposals.objectness, hidden, spread=2.0)
        decide(detector.proposals.deltas, hidden, spread=0.2)
        detector.heads.object_score.weight.normal_()
        scores = detector.heads.object_score(features)
        detector.heads.object_score.weight *= 4 / scores.std()
        detector.heads.object_score.bias -= 4 * scores.mean(dim=0) / scores.std()
    return detector.requires_grad_(False)


def set_statistics(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """A norm's running statistics := those of what comes in."""
    x = inputs[0].detach()
    norm.running_mean.copy_(x.mean(dim=(0, 2, 3)))  # type: ignore[operator, union-attr]
    norm.running_var.copy_(x.var(dim=(0, 2, 3)))  # type: ignore[operator, union-attr]


def decide(conv: nn.Conv2d, inputs: torch.Tensor, *, spread: float) -> None:
    """Random weights that give outputs of that spread."""
    conv.weight.normal_()
    conv.weight *= spread / conv(inputs).std()


def obvious_twin(detector: UpDownDetector) -> UpDownDetector:
    """The same detector with obvious stages."""
    twin = UpDownDetector(detector.config).eval().requires_grad_(False)
    twin.load_state_dict(detector.state_dict())
    twin.backbone, twin.region_stage = ObviousResNet(twin.backbone), ObviousStage(twin.region_stage)
    return twin


def same_share(found: Any, expected: Any) -> tuple[float, float]:
    """Which share of the expected regions is found again, and which share of those with the same label."""
    boxes, labels, total = 0, 0, 0
    for image in range(len(expected.region_mask)):
        theirs, ours = expected.region_mask[image], found.region_mask[image]
        overlap, match = pairwise_iou(
            expected.region_boxes[image][theirs], found.region_boxes[image][ours].float()
        ).max(1)
        again = overlap > 0.9
        same = expected.object_ids[image][theirs] == found.object_ids[image][ours][match]
        boxes, labels, total = boxes + int(again.sum()), labels + int((again & same).sum()), total + len(again)
    return boxes / total, labels / max(boxes, 1)


@torch.inference_mode()
def run(detector: UpDownDetector, pixels: torch.Tensor, dtype: torch.dtype) -> Any:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        return detector(pixels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*")
    parser.add_argument("--memory-of", choices=("float32", "bfloat16"), help="print the peak of one run only")
    arguments = parser.parse_args()
    paths = arguments.images or [str(path) for path in sorted(SHARED_IMAGES.glob("*.jpg"))]
    if arguments.memory_of:
        before = peak_megabytes()
        detector = UpDownDetector(UpDownDetectorConfig(**PORT)).eval()
        run(detector, image_pixels(paths)[:1], getattr(torch, arguments.memory_of))
        print(peak_megabytes() - before)
        return
    pixels = image_pixels(paths)
    detector = calibrated_detector(pixels)
    works = {
        "obvious float32": (obvious_twin(detector), torch.float32),
        "ours float32": (detector, torch.float32),
        "ours bfloat16": (detector, torch.bfloat16),
    }
    times, outputs = dict.fromkeys(works, float("inf")), {}
    yard = matrix_gflops()
    for _ in range(REPEATS):
        for name, (model, dtype) in works.items():
            start = time.perf_counter()
            run(model, pixels[:1], dtype)
            times[name] = min(times[name], time.perf_counter() - start)
    for name, (model, dtype) in works.items():
        outputs[name] = run(model, pixels, dtype)
    yard = max(yard, matrix_gflops())
    count = int(outputs["obvious float32"].region_mask.sum())
    print(
        f"{torch.get_num_threads()} threads, products of matrices at {yard:.0f} GFLOP/s; "
        f"{count} regions of {len(pixels)} images"
    )
    normalised = REFERENCE_SECONDS * REFERENCE_GFLOPS / yard
    for name, seconds in times.items():
        boxes, labels = same_share(outputs[name], outputs["obvious float32"])
        print(
            f"{name:16} {seconds:6.2f} s  {times['obvious float32'] / seconds:5.2f} x the obvious one  "
            f"{normalised / seconds:5.2f} x the reference's, normalised  same boxes {boxes:.1%}, labels {labels:.1%}"
        )
    for dtype in ("float32", "bfloat16"):
        command = [sys.executable, "-m", "tests.benchmarks.detector", "--memory-of", dtype, *paths]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"peak memory {dtype}: {peak} MB")


def peak_megabytes() -> int:
    """This process's peak, from /proc, since getrusage counts what a parent process held."""
    (line,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(line) // 1024


if __name__ == "__main__":
    main()
