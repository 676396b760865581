"""What the tables of cards say of saved models, where several tasks say the same; each name with its value."""

from collections.abc import Collection
from pathlib import Path

from transformers import PreTrainedConfig

from training.data.files import read_json

OBJECTIVE_NAMES = {
    "itc": "contrast of images and texts (ITC)",
    "itm": "matching of image and text (ITM)",
    "wra": "alignment of words and regions by optimal transport (WRA)",
    "mlm": "masked words (MLM)",
    "mrc_ce": "masked regions' class (MRC, hard labels)",
    "mrc_kl": "masked regions' class (MRC, soft labels)",
    "mra_ce": "masked regions' attribute (MRA, hard labels)",
    "mra_kl": "masked regions' attribute (MRA, soft labels)",
    "mrfr": "masked regions' features (MRFR)",
    "mim": "masked cells' features (MIM)",
    "prefix_lm": "the next word (Prefix-LM)",
    "qa": "questions about the images (QA)",
}


def decoding_facts(folder: Path) -> dict[str, str]:
    """How the saved model in a folder writes by default."""
    path = folder / "generation_config.json"
    saved = read_json(path) if path.is_file() else {}
    facts = {"Beams by default": str(saved["num_beams"])} if saved.get("num_beams") else {}
    longest = saved.get("max_new_tokens") or saved.get("max_length")
    return facts | ({"Longest text by default": f"{longest} tokens"} if longest else {})


def text_facts(config: PreTrainedConfig, *, role: str = "Text encoder") -> dict[str, str]:
    """The kind and size of the text model that a model stands on."""
    size = f"{config.num_hidden_layers} layers of width {config.hidden_size}, {config.num_attention_heads} heads"
    return {
        role: f"`{config.text_config.model_type}`, {size}",
        "Vocabulary": f"{config.vocab_size:,} tokens, special ones included",
    }


def learnt(config: PreTrainedConfig) -> list[str]:
    """The objectives of a fusion model that weigh something; empty for other models."""
    return [name for name, weight in (getattr(config, "objectives", None) or {}).items() if weight]


def objective_facts(config: PreTrainedConfig, objectives: Collection[str]) -> dict[str, str]:
    """What a fusion model has learnt of these objectives."""
    found = [name for name in learnt(config) if name in objectives]
    facts = {}
    if "itc" in found:
        pooled = {"cls": "the first token's state", "mean": "the mean of all states"}[config.pooling]
        facts["Embeddings of images and texts"] = f"width {config.projection_size}, from {pooled}"
    if found:
        facts["Objectives"] = ", ".join(OBJECTIVE_NAMES[name] for name in found)
    return facts
