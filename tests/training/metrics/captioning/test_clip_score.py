"""CLIPScore by a slow twin, with a CLIP of transformers and with our retrieval model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from tests.tiny import tiny_fusion_processor, tiny_image, tiny_retrieval
from training.metrics.captioning.clip_score import ClipScorer, clip_score

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CAPTIONS = ["a dog runs", "two cats"]
REFERENCES = [["a dog", "a brown dog runs fast"], ["cats"]]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipScorer:
    """A CLIP of random weights whose tokens are letters."""
    folder: Path = tmp_path_factory.mktemp("clip")
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=60)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": len(tokens), "max_position_embeddings": 60, "bos_token_id": 52, "eos_token_id": 53}
    config = CLIPConfig(
        text_config=sizes | words, vision_config=sizes | {"image_size": 32, "patch_size": 16}, projection_dim=8
    )
    torch.manual_seed(0)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return ClipScorer(CLIPModel(config), CLIPProcessor(CLIPImageProcessor(**size), tokenizer), name="tiny CLIP")


@pytest.fixture(scope="module")
def images() -> list[Any]:
    return [tiny_image(seed) for seed in (1, 2)]


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=-1))


def test_a_clip_scores_as_the_formulas_say(clip: ClipScorer, images: list[Any]) -> None:
    found = clip_score(images, CAPTIONS, clip, references=REFERENCES)
    for number, (image, caption, references) in enumerate(zip(images, CAPTIONS, REFERENCES, strict=True)):
        texts = [f"A photo depicts {text}" for text in (caption, *references)]
        with torch.no_grad():
            outputs = [
                clip.model(**clip.processor(images=image, text=text, truncation=True, return_tensors="pt"))
                for text in texts
            ]
        said, *human = [output.text_embeds[0] for output in outputs]
        score = 2.5 * max(cosine(outputs[0].image_embeds[0], said), 0)
        nearest = max(0, *(cosine(said, other) for other in human))
        assert found["per_item"]["clip_score"][number] == pytest.approx(score, abs=1e-6)
        harmonic = 2 * score * nearest / (score + nearest) if score + nearest else 0
        assert found["per_item"]["ref_clip_score"][number] == pytest.approx(harmonic, abs=1e-6)
    assert found["scorer"] == "tiny CLIP"
    assert found["clip_score_x100"] == pytest.approx(100 * np.mean(found["per_item"]["clip_score"]))


def test_batches_score_as_single_images(clip: ClipScorer, images: list[Any]) -> None:
    alone = ClipScorer(clip.model, clip.processor, batch_size=1)
    together = clip_score(images, CAPTIONS, clip, references=REFERENCES)["per_item"]
    for name, values in clip_score(images, CAPTIONS, alone, references=REFERENCES)["per_item"].items():
        assert values == pytest.approx(together[name], abs=1e-6)
    assert alone.name == "CLIPModel"


def test_our_retrieval_model_scores_too(images: list[Any]) -> None:
    scorer = ClipScorer(tiny_retrieval(), tiny_fusion_processor(), name="ours", prefix="")
    found = clip_score(images, CAPTIONS, scorer)
    inputs = scorer.processor(images=images, text=CAPTIONS, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = scorer.model(**inputs)
    cosines = (output.image_embeds * output.text_embeds).sum(dim=-1)
    assert found["per_item"]["clip_score"] == pytest.approx((2.5 * cosines.clamp(min=0)).tolist(), abs=1e-5)
    assert found["scorer"] == "ours" and "ref_clip_score" not in found


class Planted:
    """A model and processor in one, whose vectors are planted: images and texts are their own vectors."""

    config, device, name_or_path = None, "cpu", "planted"

    class tokenizer:  # noqa: N801
        model_max_length = 9

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> dict[str, torch.Tensor]:
        return {"vectors": torch.tensor([json.loads(item) for item in (images or text)], dtype=torch.float32)}

    def eval(self) -> None:
        """It has no dropout."""

    def get_image_features(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors

    get_text_features = get_image_features


def test_planted_vectors() -> None:
    planted = ClipScorer(Planted(), Planted(), prefix="")
    found = clip_score(
        ["[2, 0]", "[1, 0]", "[1, 0]"],
        ["[3, 4]", "[-1, 0]", "[1, 0]"],
        planted,
        references=[["[0, 1]", "[1, 0]"], ["[-1, 0]"], ["[-5, 0]"]],
    )
    assert found["per_item"]["clip_score"] == pytest.approx([2.5 * 0.6, 0, 2.5])
    assert found["per_item"]["ref_clip_score"] == pytest.approx([2 * 1.5 * 0.8 / 2.3, 0, 0])
    assert found["scorer"] == "planted"
    with pytest.raises(ValueError, match="planted embeds into NaN or infinity"):
        clip_score(["[NaN, 1]"], ["[1, 0]"], planted)


def test_what_cannot_be_scored_is_refused(clip: ClipScorer, images: list[Any]) -> None:
    with pytest.raises(ValueError, match="2 images but 1 captions"):
        clip_score(images, ["a dog"], clip)
    with pytest.raises(ValueError, match="0 images"):
        clip_score([], [], clip)
    with pytest.raises(ValueError, match="at least one human caption for each image"):
        clip_score(images, CAPTIONS, clip, references=[["a dog"], []])
    with pytest.raises(TypeError, match=r"references\[0\] is one string; pass a list"):
        clip_score(images, CAPTIONS, clip, references=["a dog", "cats"])
    with pytest.raises(TypeError, match="candidates is one string"):
        clip_score(images, "ab", clip)
    with pytest.raises(ValueError, match="a Linear has no get_image_features"):
        ClipScorer(torch.nn.Linear(1, 1), None)
