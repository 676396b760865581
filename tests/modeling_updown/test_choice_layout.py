"""How the passes of multiple choice are laid out, token by token."""

import pytest
import torch

from modeling_updown.choice_layout_updown import Words, lay_out_full, lay_out_shared, link_shares


def words(mask: list) -> Words:
    """Words whose embedding is their number."""
    real = torch.tensor(mask, dtype=torch.bool)
    return Words(torch.arange(1.0, 1 + real.numel()).view(*real.shape, 1), real, torch.zeros_like(real).long())


CONTEXT = words([[1, 1, 0]])
CHOICES = words([[[1, 0], [1, 1]]])
REGIONS, REAL = torch.tensor([[[9.0], [0.0]]]), torch.tensor([[True, False]])


def test_a_pass_for_each_candidate() -> None:
    layout = lay_out_full(CONTEXT, CHOICES, REGIONS, REAL, start=2)
    assert layout.embeds.squeeze(-1).tolist() == [[1, 2, 3, 1, 2, 9, 0], [1, 2, 3, 3, 4, 9, 0]]
    assert layout.seen[:, 0, 0].int().tolist() == [[1, 1, 0, 1, 0, 1, 0], [1, 1, 0, 1, 1, 1, 0]]
    assert layout.positions.tolist() == [[2, 3, 3, 4, 4, 2, 2], [2, 3, 3, 4, 5, 2, 2]]
    assert layout.kinds.tolist() == [[0, 0, 0, 0, 0, 1, 1]] * 2 and layout.regions == slice(5, 7)
    assert layout.readers.tolist() == [[[1, 0, 0, 0, 0, 0, 0]]] * 2


def test_a_pass_for_all_candidates() -> None:
    layout = lay_out_shared(CONTEXT, CHOICES, REGIONS, REAL, start=0)
    assert layout.embeds.squeeze(-1).tolist() == [[1, 2, 3, 9, 0, 1, 3, 4]]
    known = [1, 1, 0, 1, 0]
    assert layout.seen[0, 0].int().tolist() == [
        *[[*known, 0, 0, 0]] * 5,
        [*known, 1, 0, 0],
        *[[*known, 0, 1, 1]] * 2,
    ]
    assert layout.positions.tolist() == [[0, 1, 1, 0, 0, 2, 2, 3]]
    assert layout.readers.tolist() == [[[0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0.5, 0.5]]]
    assert layout.kinds.tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]] and layout.regions == slice(3, 5)


def test_links_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\), but must be \(1 items, words, regions of a word\)"):
        link_shares(torch.zeros(1, 2, dtype=torch.long), REAL)
    with pytest.raises(ValueError, match="word 0 of item 0 is linked to region 1, but its image has 1 regions"):
        link_shares(torch.tensor([[[1]]]), REAL)
    with pytest.raises(ValueError, match="linked to region -2"):
        link_shares(torch.tensor([[[-2]]]), REAL)
