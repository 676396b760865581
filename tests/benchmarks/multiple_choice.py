"""Multiple choice from stored regions: all candidates of an item in one pass, beside a pass for each candidate.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.multiple_choice

A model of MiniLM's size (6 layers of width 384) with random weights and `choice_attention="shared"`: VCR's four answers
of about 10 tokens to a question of 15, and the hundred answers of about 5 to a round of dialogue whose history has 80.
Regions: 36 of width 768. Beside it the same with `choice_attention="full"`, where each candidate is read with its
context. Time is the process's own (CPU), so a busy machine changes it little.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from transformers import BertConfig

from modeling_updown import UpDownFusionConfig, UpDownFusionForMultipleChoice

REGIONS, WIDTH = 36, 768
SHAPES = {"VCR": (4, 15, (6, 14)), "dialogue": (100, 80, (3, 9))}  # candidates, tokens of a context, of a candidate
Items = dict[str, torch.Tensor]


def made_items(number: int, candidates: int, words: int, lengths: tuple[int, int]) -> Items:
    """Token ids (N, T) and (N, C, U), and the regions of N images."""
    draw = torch.Generator().manual_seed(0)
    own = torch.randint(1000, 30000, (number, candidates, lengths[1]), generator=draw)
    sizes = torch.randint(lengths[0], lengths[1] + 1, (number, candidates, 1), generator=draw)
    corners = torch.rand(number, REGIONS, 2, generator=draw) / 2
    return {
        "input_ids": torch.randint(1000, 30000, (number, words), generator=draw),
        "choice_input_ids": own.masked_fill(torch.arange(lengths[1]) >= sizes, 0),
        "region_features": torch.randn(number, REGIONS, WIDTH, generator=draw),
        "region_boxes": torch.cat([corners, corners + 0.3], dim=-1),
    }


@torch.no_grad()
def together(model: UpDownFusionForMultipleChoice, items: Items) -> torch.Tensor:
    """Scores (N, C), an item at a time."""
    number = len(items["input_ids"])
    return torch.cat([model(**{name: part[i : i + 1] for name, part in items.items()}).logits for i in range(number)])


@torch.no_grad()
def one_by_one(model: UpDownFusionForMultipleChoice, items: Items) -> torch.Tensor:
    """The same, a pass for each candidate, without padding."""
    found = []
    for i in range(len(items["input_ids"])):
        given = {name: items[name][i : i + 1] for name in ("input_ids", "region_features", "region_boxes")}
        own = [ids[ids > 0][None, None] for ids in items["choice_input_ids"][i]]
        found.append(torch.cat([model(**given, choice_input_ids=ids).logits for ids in own], dim=1))
    return torch.cat(found)


def seconds_of(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """CPU seconds of a call, and what it returns."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=8)
    number = parser.parse_args().items
    bert = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    fields = {"text_config": bert, "region_feature_size": WIDTH}
    shared = UpDownFusionForMultipleChoice(UpDownFusionConfig(**fields, choice_attention="shared")).eval()
    full = UpDownFusionForMultipleChoice(UpDownFusionConfig(**fields)).eval()
    for name, (candidates, words, lengths) in SHAPES.items():
        items = made_items(number, candidates, words, lengths)
        together(shared, {key: part[:1] for key, part in items.items()})  # warms up
        (ours, found), (obvious, expected) = (seconds_of(partial(way, shared, items)) for way in (together, one_by_one))
        whole, _ = seconds_of(partial(together, full, items))
        apart = (found - expected).abs().max().item()
        print(
            f"{name}: {candidates} candidates of {number} items, {torch.get_num_threads()} threads: shared context "
            f"{1000 * ours / number:.0f} ms an item, one by one {1000 * obvious / number:.0f} ms: {obvious / ours:.1f} "
            f"times as fast; scores within {apart:.1e}; each with its context, one batch {1000 * whole / number:.0f} ms"
        )


if __name__ == "__main__":
    main()
