"""Runs that score by how like the sentence they are: as loops and retrieval's own vectors have it, and bad configs."""

import pytest
import torch
from transformers import BertConfig

from modeling_updown import UpDownForMomentRetrieval, UpDownFusionConfig, UpDownFusionForImageTextRetrieval
from modeling_updown.clip_steps_updown import steps_of
from modeling_updown.modeling_attention import TextRows
from modeling_updown.moment_map_updown import FoundMap
from modeling_updown.moment_similarity_updown import RunSimilarity

SEGMENTS = 4
BERT = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def config_of(**fields: object) -> UpDownFusionConfig:
    settings: dict = {
        "text_config": BertConfig(**BERT, initializer_range=0.4),
        "region_feature_size": 8,
        "projection_size": 12,
        "pooling": "mean",
        "initializer_range": 0.4,
        "moment_hidden_size": 16,
        "moment_num_heads": 2,
        "moment_head": "map",
        "moment_segments": SEGMENTS,
        "moment_similarity": True,
    }
    return UpDownFusionConfig(**(settings | fields))


def clips() -> dict[str, torch.Tensor]:
    """Two clips of four steps of 1 s, two regions each, and three sentences, two of the first."""
    draw = torch.Generator().manual_seed(0)
    seconds = torch.arange(4.0).repeat_interleave(2).expand(2, 8)
    return {
        "input_ids": torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0], [2, 5, 6, 3]]),
        "image_index": torch.tensor([0, 0, 1]),
        "region_features": torch.randn(2, 8, 8, generator=draw),
        "region_boxes": torch.rand(2, 8, 2, generator=draw).repeat(1, 1, 2) * 0.4 + torch.tensor([0, 0, 0.5, 0.5]),
        "region_seconds": seconds,
    }


def test_runs_gain_what_loops_say() -> None:
    draw = torch.Generator().manual_seed(3)
    vectors, texts = torch.randn(2, 4, 5, generator=draw), torch.randn(3, 5, generator=draw)
    steps = steps_of(torch.arange(4.0).expand(2, 4), torch.ones(2, 4).bool(), default_seconds=1.0)
    rows = TextRows.of(torch.tensor([0, 0, 1]), num_texts=3, num_images=2, device="cpu")
    found = FoundMap(torch.zeros(3, SEGMENTS, SEGMENTS), [])
    gained = RunSimilarity(SEGMENTS)(found, vectors, texts, steps.of_rows(rows.image_index), rows).logits.detach()
    for sentence, clip in enumerate((0, 0, 1)):
        like = [float(torch.cosine_similarity(vectors[clip, step], texts[sentence], dim=0)) for step in range(4)]
        for first in range(SEGMENTS):
            for last in range(SEGMENTS):
                run = like[first : last + 1]
                expected = 20 * (sum(run) / len(run) - sum(like) / 4) if run else 0.0
                assert float(gained[sentence, first, last]) == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_the_space_is_that_of_a_retrieval_model(tmp_path) -> None:
    """Weights go over by name, and each step's vector is what retrieval makes of its frame alone."""
    torch.manual_seed(0)
    retrieval = UpDownFusionForImageTextRetrieval(config_of(objectives={"itc": 1}, moment_similarity=False)).eval()
    retrieval.save_pretrained(tmp_path)
    model = UpDownForMomentRetrieval.from_pretrained(tmp_path, moment_similarity=True).eval()
    torch.nn.init.zeros_(model.moments.score.weight)
    torch.nn.init.zeros_(model.moments.score.bias)
    given = clips()
    found = model(**given, duration_seconds=torch.tensor([4.0, 4.0]))
    frames = {name: given[name].view(8, 2, -1) for name in ("region_features", "region_boxes")}
    compared = retrieval(given["input_ids"], **frames)
    like = compared.text_embeds @ compared.image_embeds.T  # (3, 8 frames)
    for sentence, clip in enumerate((0, 0, 1)):
        own = like[sentence, 4 * clip : 4 * clip + 4]
        expected = 20 * (own - own.mean())
        torch.testing.assert_close(found.logits[sentence].diagonal(), expected, atol=1e-4, rtol=1e-4)


def test_what_it_does_not_go_with_is_refused() -> None:
    for fields, said in (({"moment_head": "spans"}, "moment_similarity is of moment_head='map'"),
                         ({"moment_inputs": "embeddings"}, "with moment_inputs='states'"),
                         ({"pooling": "cls"}, "compares means of states, but pooling is 'cls'")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            config_of(**fields)
