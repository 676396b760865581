"""The captioner's cache: it counts words, and beams reorder, select and repeat its rows."""

import pytest
import torch

from modeling_updown.modeling_captioning import CaptioningCache, ImageContext, LSTMState


def made_cache(images: int = 2, rows: int = 4) -> CaptioningCache:
    """Two images of two rows each; every number of a row or image is its index."""
    by_image = torch.arange(images).float()
    context = ImageContext(
        keys=by_image[:, None, None].expand(-1, 3, 5),
        values=by_image[:, None, None].expand(-1, 3, 6),
        mask=torch.ones(images, 3, dtype=torch.bool),
        gates=by_image[:, None].expand(-1, 8),
        boxes=None,
    )
    cache = CaptioningCache(context)
    state = torch.arange(rows).float()[:, None].expand(-1, 2)
    cache.store((state, state, state, state), num_words=3)
    return cache


class TestCache:
    def test_counts_words(self):
        cache = made_cache()
        assert cache.get_seq_length() == 3
        state = torch.zeros(4, 2)
        cache.store((state,) * 4, num_words=2)
        assert cache.get_seq_length() == 5
        assert cache.layers[0].get_mask_sizes(1) == (6, 0)
        cache.reset()
        assert cache.get_seq_length() == 0

    def test_beams_change_places_inside_an_image(self):
        cache = made_cache()
        cache.reorder_cache(torch.tensor([1, 1, 3, 2]))
        for layer in cache.layers:
            assert layer.keys[:, 0].tolist() == layer.values[:, 0].tolist() == [1, 1, 3, 2]
        assert cache.context.gates[:, 0].tolist() == [0, 1]

    def test_images_are_selected_with_their_rows(self):
        cache = made_cache()
        cache.batch_select_indices(torch.tensor([2, 3]))
        assert cache.layers[1].values[:, 0].tolist() == [2, 3]

    def test_rows_are_repeated(self):
        cache = made_cache()
        cache.batch_repeat_interleave(2)
        assert cache.layers[0].keys[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]

    def test_before_the_first_word(self):
        cache = CaptioningCache(made_cache().context)
        assert cache.get_seq_length() == 0 and cache.layers[0].get_max_length() == -1
        state = cache.states(4, like=torch.zeros(1), hidden_size=2)
        assert len(state) == 4 and all(tensor.shape == (4, 2) and tensor.eq(0).all() for tensor in state)

    def test_cannot_forget_single_words(self):
        with pytest.raises(RuntimeError, match="run the captioner from the first word"):
            LSTMState().crop(2)
