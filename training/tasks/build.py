"""What tasks share when they build a model: its region source with backbone weights, and a head that starts sensibly."""

import itertools

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from modeling_updown import UpDownGrid
from modeling_updown.configuration_updown import region_source_config
from training.recipe import RegionsRecipe


def build_region_source(regions: RegionsRecipe) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
    """The region source's config and weights, as the recipe's `regions` section says."""
    if not regions.source:
        raise ValueError("regions.source is empty: give the fields of a region source's config, such as backbone")
    config = region_source_config(regions.source)
    source = UpDownGrid(config)
    if not regions.random_backbone:
        source.load_backbone_weights(regions.weights or None)
    return config, source.state_dict()


def word_bias(tokenizer: PreTrainedTokenizerBase, captions: list[list[str]]) -> torch.Tensor:
    """Each word's log-frequency in the captions (V,): an output layer that starts from it need not learn it."""
    counts = torch.full((len(tokenizer),), 1e-3)
    texts = list(itertools.chain.from_iterable(captions))
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = torch.tensor(list(itertools.chain.from_iterable(ids)))
    counts += torch.bincount(found, minlength=len(tokenizer))
    counts[tokenizer.eos_token_id] += len(texts)
    return (counts / counts.sum()).log()
