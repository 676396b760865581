"""Texts read in buckets of a length: what one padded pass gives, and less padding."""

from typing import Any

import pytest
import torch

from modeling_updown import UpDownFusionModel, length_bucketing_updown

from .test_fusion import ENCODERS, fusion, texts, uneven
from .vqa_twin import gradients_of


@pytest.fixture(params=ENCODERS)
def model(request) -> UpDownFusionModel:
    return fusion(text_config=ENCODERS[request.param])


class TestLengthBuckets:
    """A CPU reads texts of a length together: the same states and gradients as in one padded pass, and less padding."""

    MANY = [12, 3, 4, 9, 3, 5, 4, 12, 3]
    OWNERS = torch.tensor([0, 1, 2, 2, 1, 0, 0, 1, 2])

    @pytest.fixture(autouse=True)
    def small_buckets(self, monkeypatch):
        monkeypatch.setattr(length_bucketing_updown, "BUCKET_ROWS", 2)

    @staticmethod
    def in_one_pass(model: UpDownFusionModel, **given: Any) -> Any:
        """Asking for hidden states keeps a batch whole."""
        return model(**given, output_hidden_states=True)

    @pytest.mark.parametrize("causal", [False, True])
    def test_equal_one_pass(self, model, causal):
        ids = texts(model.config, self.MANY)
        mask, batch = ids != model.config.pad_token_id, uneven()
        words: Any = {"input_ids": ids, "causal_words": causal}
        embeds = {"inputs_embeds": model.get_input_embeddings()(ids).detach(), "attention_mask": mask}
        kinds = [words, words | batch | {"image_index": self.OWNERS}]
        if model.config.text_config.model_type != "roberta":  # of embeddings it counts the padding too
            kinds.append(embeds | batch | {"image_index": self.OWNERS})
        for given in kinds:
            found, expected = model(**given), self.in_one_pass(model, **given)
            assert found.last_hidden_state.shape == expected.last_hidden_state.shape
            there = [(found.word_states[mask], expected.word_states[mask])]
            there += [(found.pooler_output, expected.pooler_output)]
            if "region_mask" in given:
                seen = batch["region_mask"][self.OWNERS]
                there += [(found.region_states[seen], expected.region_states[seen])]
            for ours, theirs in there:
                torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=2e-6)
            assert found.word_states[~mask][found.word_states[~mask].eq(0).all(dim=-1)].numel()  # what is cut is 0
            losses = [sum(part.square().sum() for part in parts) for parts in zip(*there, strict=True)]
            ours, theirs = (gradients_of(model, loss) for loss in losses)
            assert ours.keys() == theirs.keys()
            for name, gradient in ours.items():
                torch.testing.assert_close(gradient, theirs[name], atol=2e-4, rtol=2e-4, msg=name)

    def read(self, model: UpDownFusionModel, monkeypatch, ids: torch.Tensor) -> list[tuple[int, ...]]:
        """Shapes of what the text encoder reads of these."""
        shapes: list[tuple[int, ...]] = []
        whole = model.read_words

        def noted(*given: Any, **asked: Any) -> Any:
            shapes.append(tuple(given[0].shape))
            return whole(*given, **asked)

        monkeypatch.setattr(model, "read_words", noted)
        model(ids)
        return shapes

    def test_what_is_read(self, monkeypatch):
        """Nine texts of 3 to 12 words in four passes, the shortest first; 59 places of 108."""
        shapes = self.read(fusion(), monkeypatch, texts(None, self.MANY))
        assert shapes == [(3, 3), (2, 4), (2, 9), (2, 12)]

    @pytest.mark.parametrize("lengths", [[12, 12, 12, 11, 12, 12], [12, 3, 5]])
    def test_one_pass_where_buckets_gain_nothing(self, lengths, monkeypatch):
        assert self.read(fusion(), monkeypatch, texts(None, lengths)) == [(len(lengths), 12)]

    def test_left_padding_stays_whole(self, monkeypatch):
        assert self.read(fusion(), monkeypatch, texts(None, self.MANY).flip(1)) == [(9, 12)]
