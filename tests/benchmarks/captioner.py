"""The full-size captioner: images and captions a second, beside an obvious implementation and the PyTorch reference.

    OMP_NUM_THREADS=2 python tests/benchmarks/captioner.py
    OMP_NUM_THREADS=2 python tests/benchmarks/captioner.py --profile

52 million weights (region embedding 1000, 36 regions of 2048, 9,487 words and the end), 16 words a caption, random
weights, no caption ends early, CIDEr excluded. The obvious implementation (torch's LSTM cells, an image's regions
repeated for each of its captions and beams, every step's product on its own) runs in the same process right after ours.
The reference's figures come from another machine, so the rate of float32 matrix products, measured here around each
line, stands beside that machine's.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modeling_updown import UpDownCaptioningConfig, UpDownForImageCaptioning
from tests.benchmarks.yardstick import matrix_gflops

REGIONS, WIDTH, HIDDEN, ROWS, NUM_WORDS, CAPTIONS_AN_IMAGE = 36, 2048, 1000, 9488, 16, 5
REFERENCE_GFLOPS = {torch.float32: 52.0, torch.bfloat16: 176.0}
# (beams, images) -> images a second; images -> captions a second, forward and backward, in float32
REFERENCE_GENERATION = {(1, 1): 9.0, (1, 10): 36.5, (1, 50): 88.0, (5, 1): 3.1, (5, 10): 9.8, (5, 50): 12.9}
REFERENCE_TRAINING = {10: 20.0, 50: 34.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1, 10, 50], help="batch sizes out of 1, 10 and 50")
    parser.add_argument("--repeats", type=int, default=2, help="timed runs of each figure, after one to warm up")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    arguments = parser.parse_args()
    ours, obvious = full_size_model(), ObviousCaptioner()
    if arguments.profile:
        profile("beam 5, 50 images", partial(generate, ours, images=50, beams=5))
        profile("cross-entropy, 50 x 5 captions", partial(train_step, ours, images=50))
        return
    print(f"{torch.get_num_threads()} threads; matrix products of 2048-cubes in GFLOP/s: {yardsticks()}")
    print(f"{'':42}{'a second':>9}{'obvious':>9}{'ratio':>7}{'reference':>11}{'ratio':>7}{'GFLOP/s':>9}")
    for (beams, images), reference in REFERENCE_GENERATION.items():
        if images in arguments.images:
            what = f"beam {beams}, {images} images" if beams > 1 else f"greedy, {images} images"
            work = [partial(generate, model, images=images, beams=beams) for model in (ours, obvious)]
            compare(what, work, images, reference=reference, repeats=arguments.repeats)
    for images, reference in REFERENCE_TRAINING.items():
        for dtype in REFERENCE_GFLOPS if images in arguments.images else ():
            what = f"cross-entropy, {images} x {CAPTIONS_AN_IMAGE} captions, {name(dtype)}"
            work = [partial(train_step, model, images=images, dtype=dtype) for model in (ours, obvious)]
            compare(what, work, images * CAPTIONS_AN_IMAGE, reference=reference, repeats=arguments.repeats)


def full_size_model() -> UpDownForImageCaptioning:
    """ruotianluo's sizes, random weights."""
    torch.manual_seed(0)
    config = UpDownCaptioningConfig(
        vocab_size=ROWS,
        hidden_size=HIDDEN,
        region_embedding_size=HIDDEN,
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


class ObviousCaptioner(nn.Module):
    """The equations as one would first write them down; same sizes, same dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(ROWS, HIDDEN)
        self.region, self.pooled = nn.Linear(WIDTH, HIDDEN), nn.Linear(WIDTH, HIDDEN)
        self.key, self.query, self.score = nn.Linear(HIDDEN, 512), nn.Linear(HIDDEN, 512), nn.Linear(512, 1)
        self.attention_lstm = nn.LSTMCell(3 * HIDDEN, HIDDEN)
        self.language_lstm = nn.LSTMCell(2 * HIDDEN, HIDDEN)
        self.logit = nn.Linear(HIDDEN, ROWS)

    def images(self, features: torch.Tensor, rows_per_image: int) -> list[torch.Tensor]:
        """Pooled vector, regions and their keys, repeated for each row of an image."""
        pooled, regions = (self.pooled(features.mean(dim=1)).relu(), self.region(features).relu())
        pooled, regions = self.drop(pooled), self.drop(regions)
        return [x.repeat_interleave(rows_per_image, dim=0) for x in (pooled, regions, self.key(regions))]

    def step(
        self, words: torch.Tensor, images: list[torch.Tensor], state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """log p of the next word (rows, V), and the state after this one."""
        (pooled, regions, keys), (h1, c1, h2, c2) = images, state
        word = self.drop(self.embed(words).relu())
        h1, c1 = self.attention_lstm(torch.cat([h2, pooled, word], dim=1), (h1, c1))
        weights = self.score(torch.tanh(keys + self.query(h1)[:, None])).squeeze(2).softmax(dim=1)
        attended = torch.bmm(weights[:, None], regions).squeeze(1)
        h2, c2 = self.language_lstm(torch.cat([attended, h1], dim=1), (h2, c2))
        return self.logit(self.drop(h2)).log_softmax(dim=1), (h1, c1, h2, c2)

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5, self.training)

    def loss(self, words: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        images = self.images(features, CAPTIONS_AN_IMAGE)
        state: tuple[torch.Tensor, ...] = (features.new_zeros(len(words), HIDDEN),) * 4
        log_probs = []
        for step in range(NUM_WORDS):
            scores, state = self.step(words[:, step], images, state)
            log_probs.append(scores)
        return F.nll_loss(torch.stack(log_probs, dim=1).flatten(0, 1).float(), words[:, 1:].flatten())

    @torch.no_grad()
    def search(self, features: torch.Tensor, beams: int) -> torch.Tensor:
        """Beam search in which nothing ends; one beam is greedy."""
        images = self.images(features, beams)
        state: tuple[torch.Tensor, ...] = (features.new_zeros(len(features) * beams, HIDDEN),) * 4
        captions = torch.zeros(len(features) * beams, 1, dtype=torch.long)
        totals = torch.full((len(features), beams), -1e9)
        totals[:, 0] = 0
        first_rows = torch.arange(len(features))[:, None] * beams
        for _ in range(NUM_WORDS):
            log_probs, state = self.step(captions[:, -1], images, state)
            candidates = (totals.view(-1, 1) + log_probs).view(len(features), -1)
            totals, chosen = candidates.topk(beams, dim=1)
            rows = (first_rows + chosen // ROWS).flatten()
            captions = torch.cat([captions[rows], (chosen % ROWS).view(-1, 1)], dim=1)
            state = tuple(tensor[rows] for tensor in state)
        return captions.view(len(features), beams, -1)[:, 0]


def generate(model: Any, *, images: int, beams: int) -> None:
    """Captions of 16 words for random images."""
    model.eval()
    features = torch.randn(images, REGIONS, WIDTH)
    if isinstance(model, ObviousCaptioner):
        captions = model.search(features, beams)
    else:
        settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": NUM_WORDS, "eos_token_id": None}
        captions = model.generate(region_features=features, **settings)
    assert captions.shape == (images, NUM_WORDS + 1)


def train_step(model: Any, *, images: int, dtype: torch.dtype = torch.float32) -> None:
    """Cross-entropy of random captions, forward and backward."""
    model.train()
    features = torch.randn(images, REGIONS, WIDTH)
    words = torch.randint(1, ROWS, (images * CAPTIONS_AN_IMAGE, NUM_WORDS + 1))
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        if isinstance(model, ObviousCaptioner):
            loss = model.loss(words, features)
        else:
            shifted = {"labels": words[:, :-1], "shift_labels": words[:, 1:]}
            loss = model(words[:, :-1], region_features=features, **shifted).loss
    loss.backward()


def compare(what: str, work: Sequence[Callable[[], None]], count: int, *, reference: float, repeats: int) -> None:
    """Time ours and the obvious one on `count` images or captions, by turns; the fastest run of each counts."""
    for run in work:
        run()
    gflops = [matrix_gflops()]
    seconds = [[seconds_of(run) for run in work] for _ in range(repeats)]
    gflops.append(matrix_gflops())
    ours, obvious = (count / min(column) for column in zip(*seconds, strict=True))
    print(
        f"{what:<42}{ours:>9.1f}{obvious:>9.1f}{ours / obvious:>7.2f}{reference:>11.1f}{ours / reference:>7.2f}"
        f"{sum(gflops) / 2:>9.0f}",
        flush=True,
    )


def seconds_of(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def yardsticks() -> str:
    """This machine's rates beside those of the reference's."""
    return ", ".join(
        f"{name(dtype)} {matrix_gflops(dtype):.0f} (the reference's machine: {theirs:.0f})"
        for dtype, theirs in REFERENCE_GFLOPS.items()
    )


def profile(what: str, work: Callable[[], None]) -> None:
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        work()
    print(f"\n{what}\n{profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=10)}")


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
