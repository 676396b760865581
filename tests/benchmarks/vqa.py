"""The full-size question answerer: questions a second, beside an obvious implementation and the PyTorch reference.

    OMP_NUM_THREADS=2 python tests/benchmarks/vqa.py
    OMP_NUM_THREADS=2 python tests/benchmarks/vqa.py --profile

25 million weights as hengyuan-hu/bottom-up-attention-vqa has them (36 regions of 2048, state 1024, 19,901 words, 3,129
answers, weight norm, attention by products), random weights, 128 questions at once. A training step is forward,
backward, the gradient's norm cut at 0.25 and Adamax. Questions have 14 words each, or 3 to 14 (6.4 on average, padded
on the left to 14 by the reference), the latter one an image or four. The obvious implementation (torch's GRU over the
padding, torch's own weight norm, an image's regions repeated for each of its questions) runs in the same process right
after ours. In bfloat16, training runs under autocast, evaluation with weights and regions of that type.

The reference's figures (full questions, float32) come from another machine, whose float32 matrix products ran at 52
GFLOP/s; the normalised ratio is divided by that of both machines' rates, ours measured here around each line. A full
question is 0.29 GFLOP forward and 0.72 with its gradient, so that those figures are 140 to 200 GFLOP/s, which the
yardstick does not explain: the obvious implementation, which does the reference's work here, is the fairer measure. The
last column is ours over the obvious one in float32.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modeling_updown import UpDownForVisualQuestionAnswering, UpDownVqaConfig
from tests.benchmarks.captioner import name, profile, seconds_of, yardsticks
from tests.benchmarks.yardstick import matrix_gflops

QUESTIONS, REGIONS, WIDTH, HIDDEN, ANSWERS, WORD, NUM_WORDS = 128, 36, 2048, 1024, 3129, 300, 14
ROWS, PAD = 19902, 19901
REFERENCE_GFLOPS, REFERENCE_TRAINING, REFERENCE_EVALUATION = 52.0, 195.0, 699.0  # training: 182 to 209
ATTENTION_DROPOUT, ANSWER_DROPOUT, LARGEST_GRADIENT = 0.2, 0.5, 0.25
LENGTHS, SHARES = range(3, 15), [3, 13, 24, 22, 14, 9, 6, 3.5, 2, 1.5, 1, 1]  # words, and % of questions


@dataclass
class Questions:
    """A batch: words (N, 14) left-padded, regions of P images, soft labels (N, A)."""

    words: torch.Tensor
    regions: torch.Tensor
    labels: torch.Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each figure, after one to warm up")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    arguments = parser.parse_args()
    batches = {
        "14 words": made_questions(full=True, images=QUESTIONS),
        "3-14 words": made_questions(full=False, images=QUESTIONS),
        "3-14 words, 4 an image": made_questions(full=False, images=QUESTIONS // 4),
    }
    if arguments.profile:
        for what, batch in batches.items():
            ours = Trainer(full_size_model())
            profile(f"training step, {what}", partial(ours.step, batch))
            profile(f"evaluation, {what}", partial(evaluate, ours.model, batch))
        return
    print(f"{torch.get_num_threads()} threads; matrix products of 2048-cubes in GFLOP/s: {yardsticks()}")
    columns = f"{'a second':>10}{'obvious':>10}{'ratio':>7}{'reference':>11}{'ratio':>7}{'GFLOP/s':>9}"
    print(f"{'':44}{columns}{'normalised':>12}{'of float32':>12}")
    plain: dict[str, float] = {}  # what the obvious implementation does in float32
    for dtype in (torch.float32, torch.bfloat16):
        trainers = [Trainer(model) for model in (full_size_model(), ObviousAnswerer())]
        for what, batch in batches.items():
            work = [partial(trainer.step, batch, dtype=dtype) for trainer in trainers]
            compare(f"training, {what}", work, REFERENCE_TRAINING, plain, repeats=arguments.repeats, dtype=dtype)
        models = [trainer.model.to(dtype).eval() for trainer in trainers]
        for what, batch in batches.items():
            work = [partial(evaluate, model, batch) for model in models]
            compare(f"evaluation, {what}", work, REFERENCE_EVALUATION, plain, repeats=arguments.repeats, dtype=dtype)


def made_questions(*, full: bool, images: int) -> Questions:
    """128 random questions; of 14 words each, or of lengths that come in the shares above, in random order."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(PAD, (QUESTIONS, NUM_WORDS), generator=generator)
    if not full:
        ends = (torch.tensor(SHARES).cumsum(0) * QUESTIONS / 100).round().long()
        lengths = LENGTHS[0] + torch.searchsorted(ends, torch.arange(QUESTIONS), right=True).clamp(max=len(LENGTHS) - 1)
        lengths = lengths[torch.randperm(QUESTIONS, generator=generator)]
        words[torch.arange(NUM_WORDS) < NUM_WORDS - lengths[:, None]] = PAD
    regions = torch.rand(images, REGIONS, WIDTH, generator=generator)
    answers = torch.randint(ANSWERS, (QUESTIONS, 3), generator=generator)
    labels = torch.zeros(QUESTIONS, ANSWERS).scatter(1, answers, torch.tensor([1.0, 0.6, 0.3]).expand(QUESTIONS, 3))
    return Questions(words, regions, labels)


def full_size_model() -> UpDownForVisualQuestionAnswering:
    """hengyuan-hu's sizes, random weights."""
    torch.manual_seed(0)
    config = UpDownVqaConfig(
        vocab_size=ROWS,
        pad_token_id=PAD,
        num_answers=ANSWERS,
        word_embedding_size=WORD,
        hidden_size=HIDDEN,
        answer_hidden_size=2 * HIDDEN,
        activation="relu",
        weight_norm=True,
        attention="multiply",
        reads_padding=True,
        attention_dropout=ATTENTION_DROPOUT,
        answer_dropout=ANSWER_DROPOUT,
    )
    return UpDownForVisualQuestionAnswering(config)


class ObviousAnswerer(nn.Module):
    """The reference's equations as one would first write them down."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(ROWS, WORD, padding_idx=PAD)
        self.gru = nn.GRU(WORD, HIDDEN, batch_first=True)
        self.region, self.query = normed(WIDTH, HIDDEN), normed(HIDDEN, HIDDEN)
        self.score = normed(HIDDEN, 1)
        self.of_question, self.of_photo = normed(HIDDEN, HIDDEN), normed(WIDTH, HIDDEN)
        self.before, self.answers = normed(HIDDEN, 2 * HIDDEN), normed(2 * HIDDEN, ANSWERS)

    def forward(self, words: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        """words (N, 14), regions (P, R, D) -> scores of the answers (N, A)."""
        regions = regions.repeat_interleave(len(words) // len(regions), dim=0)
        question = self.gru(self.embed(words))[0][:, -1]
        hidden = self.region(regions).relu() * self.query(question).relu()[:, None]  # (N, R, H)
        weights = self.score(F.dropout(hidden, ATTENTION_DROPOUT, self.training)).softmax(dim=1)
        attended = (weights * regions).sum(dim=1)
        joint = self.of_question(question).relu() * self.of_photo(attended).relu()
        return self.answers(F.dropout(self.before(joint).relu(), ANSWER_DROPOUT, self.training))

    def loss(self, batch: Questions) -> torch.Tensor:
        logits = self(batch.words, batch.regions).float()
        return F.binary_cross_entropy_with_logits(logits, batch.labels) * ANSWERS


def normed(columns: int, rows: int) -> nn.Module:
    """A layer with one length for its whole matrix."""
    return weight_norm(nn.Linear(columns, rows), dim=None)  # type: ignore[arg-type]  # None: over all of it


class Trainer:
    """A model with its optimiser."""

    def __init__(self, model: Any):
        self.model = model.train()
        self.optimizer = torch.optim.Adamax(model.parameters())

    def step(self, batch: Questions, *, dtype: torch.dtype = torch.float32) -> None:
        """Forward, backward, clip, update."""
        self.model.train()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            if isinstance(self.model, ObviousAnswerer):
                loss = self.model.loss(batch)
            else:
                loss = self.model(batch.words, region_features=batch.regions, labels=batch.labels).loss
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()


@torch.no_grad()
def evaluate(model: Any, batch: Questions) -> None:
    """The best answer to each question."""
    model.eval()
    regions = batch.regions.to(model.answers.bias.dtype)
    if isinstance(model, ObviousAnswerer):
        logits = model(batch.words, regions)
    else:
        logits = model(batch.words, region_features=regions).logits
    assert logits.argmax(dim=1).shape == (QUESTIONS,)


def compare(
    what: str,
    work: Sequence[Callable[[], None]],
    reference: float,
    plain: dict[str, float],
    *,
    repeats: int,
    dtype: torch.dtype,
) -> None:
    """Time ours and the obvious one by turns; the fastest run of each counts."""
    for run in work:
        run()
    gflops = [matrix_gflops()]
    seconds = [[seconds_of(run) for run in work] for _ in range(repeats)]
    gflops.append(matrix_gflops())
    ours, obvious = (QUESTIONS / min(column) for column in zip(*seconds, strict=True))
    rate, ratio, in_float32 = sum(gflops) / 2, ours / reference, plain.setdefault(what, obvious)
    print(
        f"{f'{what}, {name(dtype)}':<44}{ours:>10.1f}{obvious:>10.1f}{ours / obvious:>7.2f}{reference:>11.1f}"
        f"{ratio:>7.2f}{rate:>9.0f}{ratio * REFERENCE_GFLOPS / rate:>12.2f}{ours / in_float32:>12.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
