"""Grounding from stored regions: all phrases of sentences in batches, beside a pass for each phrase.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.grounding

A model of MiniLM's size (6 layers of width 384) with random weights; sentences of 12 to 20 tokens with 2 to 4 phrases,
five about each image of 37 regions of width 768. Time is the process's own (CPU), so a busy machine changes it little.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from transformers import BertConfig

from modeling_updown import UpDownFusionConfig, UpDownFusionForGrounding

REGIONS, WIDTH, BATCH, AN_IMAGE = 37, 768, 50, 5
Sentences = dict[str, torch.Tensor]


def made_sentences(number: int) -> Sentences:
    """Token ids (N, 20), spans (N, 4, 2), and the regions of N / 5 images."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(12, 21, (number,), generator=draw)
    ids = torch.randint(1000, 30000, (number, 20), generator=draw)
    ids = ids.masked_fill(torch.arange(20) >= lengths[:, None], 0)
    starts = torch.tensor([1, 4, 7, 9]).expand(number, 4)
    spans = torch.stack([starts, starts + 2], dim=-1)
    spans = spans.masked_fill((torch.arange(4) >= torch.randint(2, 5, (number, 1), generator=draw))[..., None], -1)
    corners = torch.rand(number // AN_IMAGE, REGIONS, 2, generator=draw) / 2
    features = torch.randn(number // AN_IMAGE, REGIONS, WIDTH, generator=draw)
    boxes = torch.cat([corners, corners + 0.3], dim=-1)
    return {"input_ids": ids, "phrase_spans": spans, "region_features": features, "region_boxes": boxes}


@torch.no_grad()
def together(model: UpDownFusionForGrounding, sentences: Sentences) -> list[torch.Tensor]:
    """The scores (R,) of every phrase, 50 sentences at a time."""
    found: list[torch.Tensor] = []
    for start in range(0, len(sentences["input_ids"]), BATCH):
        spans = sentences["phrase_spans"][start : start + BATCH]
        images = slice(start // AN_IMAGE, (start + BATCH) // AN_IMAGE)
        regions = {name: sentences[name][images] for name in ("region_features", "region_boxes")}
        logits = model(sentences["input_ids"][start : start + BATCH], phrase_spans=spans, **regions).logits
        found += logits[spans[..., 0] >= 0]
    return found


@torch.no_grad()
def one_by_one(model: UpDownFusionForGrounding, sentences: Sentences) -> list[torch.Tensor]:
    """The same, a pass for each phrase, without padding."""
    found = []
    for number, (ids, spans) in enumerate(zip(sentences["input_ids"], sentences["phrase_spans"], strict=True)):
        image = slice(number // AN_IMAGE, number // AN_IMAGE + 1)
        regions = {name: sentences[name][image] for name in ("region_features", "region_boxes")}
        for span in spans[spans[:, 0] >= 0]:
            found.append(model(ids[ids > 0][None], phrase_spans=span[None, None], **regions).logits[0, 0])
    return found


def seconds_of(work: Callable[[], list[torch.Tensor]]) -> tuple[float, list[torch.Tensor]]:
    """CPU seconds of a call, and what it returns."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=1000, help="a multiple of 50")
    sentences = made_sentences(parser.parse_args().sentences)
    bert = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    model = UpDownFusionForGrounding(UpDownFusionConfig(text_config=bert, region_feature_size=WIDTH)).eval()
    together(model, {name: values[:BATCH] for name, values in sentences.items()})  # warms up
    (ours, found), (obvious, expected) = (seconds_of(partial(way, model, sentences)) for way in (together, one_by_one))
    apart = (torch.stack(found) - torch.stack(expected)).abs().max().item()
    number = len(sentences["input_ids"])
    print(f"{len(found)} phrases of {number} sentences, {torch.get_num_threads()} threads, scores within {apart:.1e}")
    print(f"together {ours:.1f} s, one by one {obvious:.1f} s of CPU: ratio {obvious / ours:.1f}")


if __name__ == "__main__":
    main()
