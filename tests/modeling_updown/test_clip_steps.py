"""Steps of clips against a loop over seconds; padding and its numbers are never read."""

import pytest
import torch

from modeling_updown.clip_steps_updown import pooled_steps, regions_by_step, steps_of

NAN = float("nan")
SECONDS = torch.tensor([[4.0, 0.5, 4.0, 2.0, 0.5, 2.0], [7.0, 3.0, NAN, NAN, 3.0, 3.0], [1.0, NAN, NAN, NAN, NAN, NAN]])
MASK = torch.tensor([[True] * 6, [True, True, False, False, True, True], [True] + [False] * 5])


def steps(**options):
    return steps_of(SECONDS, MASK, default_seconds=2.0, **options)


def test_steps_are_the_distinct_seconds_in_their_order():
    found = steps()
    for clip in range(3):
        times = sorted(set(SECONDS[clip][MASK[clip]].tolist()))
        assert found.mask[clip].sum() == len(times)
        assert found.starts[clip][: len(times)].tolist() == times
        for region, second in enumerate(SECONDS[clip].tolist()):
            expected = times.index(second) if MASK[clip, region] else found.mask.shape[1]
            assert found.of_regions[clip, region] == expected


def test_steps_tile_the_clip():
    found = steps()
    assert found.durations.tolist() == [5.75, 11.0, 3.0]  # a mean step more, or the default of one step
    assert found.ends.tolist() == [[2.0, 4.0, 5.75], [7.0, 11.0, 11.0], [3.0, 3.0, 3.0]]
    longer = steps(durations=torch.tensor([6.0, 7.0, 1.0]))
    assert longer.ends.tolist() == [[2.0, 4.0, 6.0], [7.0, 7.0, 7.0], [1.0, 1.0, 1.0]]
    assert longer.at(torch.tensor([[0.0, 0.6, 5.9], [2.0, 6.9, 7.0], [0.0, 0.9, 1.0]])).tolist() == [
        [0, 0, 2],
        [0, 0, 1],
        [0, 0, 0],
    ]


@pytest.mark.parametrize("weighed", [False, True])
def test_vectors_are_pooled_by_step(weighed):
    vectors = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0)).masked_fill(~MASK[..., None], NAN)
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).masked_fill(~MASK, NAN) if weighed else None
    found, pooled = steps(), pooled_steps(vectors, steps(), scores)
    for clip in range(3):
        for step in range(found.mask.shape[1]):
            members = found.of_regions[clip] == step
            if not members.any():
                assert not pooled[clip, step].any()
                continue
            own = vectors[clip][members]
            weights = scores[clip][members].softmax(0) if weighed else torch.full((len(own),), 1 / len(own))
            torch.testing.assert_close(pooled[clip, step], (weights[:, None] * own).sum(dim=0))


def test_every_region_has_a_place_in_its_step():
    found = steps()
    rows, places, real = regions_by_step(found)
    assert torch.equal(real, MASK)
    width = found.mask.shape[1]
    own = [(clip * width + int(found.of_regions[clip, region])) for clip, region in MASK.nonzero().tolist()]
    assert rows.tolist() == own
    assert len({*zip(rows.tolist(), places.tolist(), strict=True)}) == len(own)
    for row in set(own):
        assert sorted(places[rows == row].tolist()) == list(range(own.count(row)))


@pytest.mark.parametrize(
    ("seconds", "durations", "told"),
    [
        ([[-1.0, 0.0]], None, "has regions from -1 to 0 s"),
        ([[0.0, 4.0]], [3.0], "clip 0 of the batch lasts 3 s, but has regions from 0 to 4 s"),
        ([[0.0, 0.0]], [0.0], "lasts 0 s"),
        ([[0.0, 4.0]], [NAN], "lasts nan s"),
        ([[0.0, 4.0]], [5.0, 6.0], "there are 1 clips: give a number each"),
    ],
)
def test_seconds_outside_of_the_clip_are_refused(seconds, durations, told):
    given = None if durations is None else torch.tensor(durations)
    with pytest.raises(ValueError, match=told):
        steps_of(torch.tensor(seconds), torch.ones(1, 2).bool(), given, default_seconds=2.0)
