"""The pretrained models and region stores that shipped recipes name, tiny, at the recipes' paths."""

import hashlib
from pathlib import Path

import torch

from tests.tiny import (
    save_tiny_retrieval,
    tiny_encoder_config,
    tiny_pyramid_detector,
    tiny_text_config,
    tiny_tokenizer,
)
from tests.training.recipe_files import IMAGE_SIZE, SPLITS, drawn_scenes, of_split, sbu_url
from training.regions.store import RegionStoreWriter

NUM_OBJECTS, NUM_ATTRIBUTES = 5, 4  # of the region stores
REGIONS_AN_IMAGE, FEATURE_WIDTH = 3, 16
DETECTED = ("dog", "cat", "horse", "person", "log", "bench", "water", "snow", "grass", "ball", "bird", "car")


def write_models(root: Path) -> None:
    """The pretrained models that recipes name, tiny: text encoders, a language model, our captioner and detector."""
    from transformers import AutoModel, AutoModelForCausalLM

    tokenizer = tiny_tokenizer()
    for name in ("google-bert/bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"):
        AutoModel.from_config(tiny_encoder_config()).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    tokenizer = tiny_tokenizer(bos_token="[CLS]", eos_token="[SEP]")
    config = tiny_text_config(
        "llama", vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3, max_position_embeddings=256
    )
    for name in ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-Instruct"):
        AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    detector = root / "hub_cards" / "updown-detector-lite"
    model = tiny_pyramid_detector(id2label=dict(enumerate(("background", *DETECTED))))
    model.save_pretrained(detector)
    save_tiny_retrieval(root / "hub_cards" / "updown-retrieval-flickr8k", vision_config=model.config, pooling="mean")
    from modeling_updown import UpDownImageProcessor

    UpDownImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(detector)


def write_stores(folder: Path) -> None:
    """The stores that recipes name without a region source: converted or extracted ones, by the official ids."""
    numbers = [str(drawn.number) for drawn in drawn_scenes()]
    genome = [f"visual_genome-{number}" for number in numbers]
    cc3m = [f"pairs-{row}" for row in range(len(SPLITS["train"]))]
    sbu = [f"pairs4-{hashlib.md5(sbu_url(drawn).encode()).hexdigest()}" for drawn in of_split("train")]
    vizwiz = [f"VizWiz_{split}_{d.number:08d}.jpg" for split in ("train", "val") for d in of_split(split)]
    for name, ids in {
        **{f"{name}_36": numbers for name in ("coco", "visual_genome", "gqa", "flickr30k", "tags")},
        "coco_10_100": numbers,
        "coco_visual_genome_36": [*numbers, *genome],
        "vizwiz_vqa_36": vizwiz,
        "pretraining_captions": [*numbers, *genome, *cc3m, *sbu],
    }.items():
        write_store(folder / name, ids)


def write_store(folder: Path, ids: list[str]) -> None:
    """Random regions with the columns of a detector that was extracted with `--soft-labels`."""
    size, generator = (len(ids), REGIONS_AN_IMAGE), torch.Generator().manual_seed(0)
    corners = torch.rand(*size, 2, generator=generator) / 2
    regions = {
        "region_features": torch.randn(*size, FEATURE_WIDTH, generator=generator),
        "region_boxes": torch.cat([corners, corners + 0.3], dim=-1),
        "region_scores": torch.rand(*size, generator=generator) / 2 + 0.5,
        "object_ids": torch.randint(1, NUM_OBJECTS + 1, size, generator=generator),
        "object_probs": torch.rand(*size, NUM_OBJECTS + 1, generator=generator).softmax(dim=-1),
        "attribute_probs": torch.rand(*size, NUM_ATTRIBUTES + 1, generator=generator).softmax(dim=-1),
    }
    with RegionStoreWriter(folder, fingerprint={"backbone": "drawn"}) as writer:
        writer.append(ids, regions)
