"""Times of regions in every top-down model, and the pooling of a clip's frames."""

import math
from typing import Any

import pytest
import torch

from modeling_updown import Regions, UpDownFusionConfig, UpDownVqaConfig
from modeling_updown.clip_pooling_updown import ClipPooling
from modeling_updown.time_updown import frame_numbers, frame_seconds, region_times, relative_positions, split_frames
from tests.tiny import (
    tiny_captioner,
    tiny_dense_captioner,
    tiny_entailment,
    tiny_fusion,
    tiny_fusion_vqa,
    tiny_grounding,
    tiny_masked_lm,
    tiny_multiple_choice,
    tiny_prefix_lm,
    tiny_prefix_vqa,
    tiny_pretraining,
    tiny_retrieval,
    tiny_vqa,
)

WIDTH, PER_FRAME = 8, 3
ALONE: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
MODELS = [
    *(tiny_captioner, tiny_dense_captioner, tiny_vqa, tiny_prefix_lm, tiny_prefix_vqa, tiny_fusion, tiny_fusion_vqa),
    *(tiny_retrieval, tiny_pretraining, tiny_masked_lm, tiny_grounding, tiny_entailment, tiny_multiple_choice),
]
OF_ROWS = (tiny_vqa, tiny_fusion, tiny_fusion_vqa, tiny_masked_lm, tiny_entailment, tiny_multiple_choice)


def clip(num_frames: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Regions of one clip, PER_FRAME of each of its frames, half a second apart."""
    draw = torch.Generator().manual_seed(seed)
    count = num_frames * PER_FRAME
    corner = torch.rand(1, count, 2, generator=draw) / 2
    return {
        "region_features": torch.randn(1, count, WIDTH, generator=draw),
        "region_boxes": torch.cat([corner, corner + 0.4], dim=-1),
        "region_mask": torch.ones(1, count, dtype=torch.bool),
        "region_seconds": 3 + torch.arange(num_frames).repeat_interleave(PER_FRAME)[None] / 2,
    }


def batched(clips: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Clips of different lengths as one batch, NaN where a field of numbers is padded."""
    most = max(one["region_mask"].shape[1] for one in clips)
    padded: dict[str, list[torch.Tensor]] = {name: [] for name in clips[0]}
    for one in clips:
        for name, value in one.items():
            empty = False if name == "region_mask" else float("nan")
            rest = value.new_full((1, most - value.shape[1], *value.shape[2:]), empty)
            padded[name].append(torch.cat([value, rest], dim=1))
    return {name: torch.cat(values) for name, values in padded.items()}


def numbers_of(make: Any, model: Any, regions: dict[str, Any], **more: Any) -> torch.Tensor:
    """What a model says of a batch of clips, one row a clip."""
    rows = len(next(iter(more.values()))) if more else len(regions["region_features"])
    ids = torch.tensor([[2, 7, 9]]).expand(rows, -1)
    with torch.no_grad():
        if make is tiny_retrieval or make is tiny_pretraining:
            return model.get_image_features(**regions)
        if make is tiny_dense_captioner:
            return model.embed_regions(model.get_regions(**regions))
        if make is tiny_multiple_choice:
            return model(ids, choice_input_ids=ids[:, None].repeat(1, 2, 1), **regions, **more).logits
        if make is tiny_grounding:
            return model(ids, phrase_spans=torch.tensor([[[1, 2]]]).expand(rows, -1, -1), **regions).phrase_scores[:, 0]
        if make is tiny_fusion:
            return model(ids, **regions, **more).pooler_output
        return model(input_ids=ids, **regions, **more).logits


@pytest.mark.parametrize("make", MODELS)
def test_an_image_is_a_clip_of_one_frame(make: Any) -> None:
    """Without times the second of the frame is not read; relative to itself it is 0, whenever it was."""
    one = clip(1)
    image = {name: value for name, value in one.items() if name != "region_seconds"}
    plain = make(**ALONE)
    assert torch.equal(numbers_of(make, plain, one), numbers_of(make, plain, image))
    relative = make(**ALONE, time_embedding="relative")
    at_start = numbers_of(make, relative, one | {"region_seconds": torch.zeros(1, PER_FRAME)})
    assert torch.equal(numbers_of(make, relative, one), at_start)
    seconds = make(**ALONE, time_embedding="seconds")
    later = one | {"region_seconds": one["region_seconds"] + 4.3}
    assert not torch.allclose(numbers_of(make, seconds, one), numbers_of(make, seconds, later), atol=1e-5)
    with pytest.raises(ValueError, match=r"embeds times \(config.time_embedding\): give region_seconds as well"):
        numbers_of(make, relative, image)


@pytest.mark.parametrize("kind", ["relative", "both"])
@pytest.mark.parametrize("make", MODELS)
def test_clips_of_different_lengths_equal_each_alone(make: Any, kind: str) -> None:
    model = make(**ALONE, time_embedding=kind)
    clips = [clip(3, seed=1), clip(1, seed=2), clip(5, seed=3)]
    together = numbers_of(make, model, batched(clips))
    for row, one in enumerate(clips):
        alone = numbers_of(make, model, one)[0]
        torch.testing.assert_close(together[row][tuple(map(slice, alone.shape))], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
def test_the_order_of_frames_matters_where_times_are_read(make: Any) -> None:
    forward = clip(4)
    backward = forward | {"region_seconds": forward["region_seconds"].flip(1)}
    timed, plain = make(**ALONE, time_embedding="relative"), make(**ALONE)
    assert not torch.allclose(numbers_of(make, timed, forward), numbers_of(make, timed, backward), atol=1e-5)
    assert torch.equal(numbers_of(make, plain, forward), numbers_of(make, plain, backward))


@pytest.mark.parametrize("make", OF_ROWS)
def test_frames_joined_by_their_index_are_the_clip(make: Any) -> None:
    """Frames as images of their own and `image_index` (N, K): times are relative to the row, not to the frame."""
    whole, model = clip(3), make(**ALONE, time_embedding="both")
    frames = {name: value.unflatten(1, (3, PER_FRAME)).squeeze(0) for name, value in whole.items()}
    joined = numbers_of(make, model, frames, image_index=torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(joined, numbers_of(make, model, whole), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [tiny_captioner, tiny_prefix_lm])
def test_captions_of_clips_are_written(make: Any) -> None:
    """`generate` hands the seconds on; a batch writes what each clip alone has, word by word."""
    model, clips = make(**ALONE, time_embedding="relative"), [clip(3, seed=1), clip(2, seed=2)]
    rows = [model.generate(**one, max_new_tokens=6, num_beams=2, min_new_tokens=6)[0] for one in clips]
    together = model.generate(**batched(clips), max_new_tokens=6, num_beams=2, min_new_tokens=6)
    assert torch.equal(together, torch.stack(rows))
    with pytest.raises(ValueError, match="give region_seconds as well"):
        model.generate(**{name: value for name, value in clips[0].items() if name != "region_seconds"})


def test_old_configs_load() -> None:
    """A flag said whether seconds were read."""
    assert [UpDownFusionConfig(time_embedding=old).time_embedding for old in (True, False)] == ["seconds", ""]
    saved = UpDownFusionConfig(time_embedding=True).to_dict() | {"time_embedding": True}
    assert UpDownFusionConfig.from_dict(saved).time_embedding == "seconds"
    assert UpDownFusionConfig.from_dict(saved | {"time_embedding": False}).time_size == 0
    assert UpDownVqaConfig(time_embedding="both", region_feature_size=10).region_size == 10 + 64
    with pytest.raises(Exception, match="time_embedding"):
        UpDownFusionConfig(time_embedding="minutes")


def test_times_number_by_number() -> None:
    """Each sine and cosine by hand; 0 on padding, whatever stands there."""
    seconds, mask = torch.tensor([[2.0, 5.0, float("nan"), 3.5]]), torch.tensor([[True, True, False, True]])
    found = region_times(seconds, mask, kind="both")
    for place, second in ((0, 2.0), (1, 5.0), (3, 3.5)):
        share = (second - 2.0) / 3.0
        angles = [2 * math.pi * second / 10_000 ** (k / 15) for k in range(16)]
        turns = [math.pi * k * share for k in range(1, 17)]
        expected = [
            wave(angle) for angle_list in (angles, turns) for wave in (math.sin, math.cos) for angle in angle_list
        ]
        torch.testing.assert_close(found[0, place], torch.tensor(expected), atol=1e-4, rtol=0)
    assert not found[0, 2].any()
    torch.testing.assert_close(relative_positions(seconds, mask), torch.tensor([[0.0, 1.0, 0.0, 0.5]]))


class TestFrames:
    def test_frames_are_split_by_their_second(self) -> None:
        """In whatever order regions stand, and with padding between them; beside a plain loop."""
        draw = torch.Generator().manual_seed(0)
        seconds = torch.randint(0, 4, (5, 9), generator=draw) / 2
        mask = torch.rand(5, 9, generator=draw) < 0.7
        mask[:, 3] = True
        states = torch.randn(5, 9, 2, generator=draw)
        numbers = frame_numbers(seconds.masked_fill(~mask, float("nan")), mask)
        frames, frame_mask, has_frame = split_frames(states, numbers)
        when, place = frame_seconds(seconds, numbers, has_frame), 0
        for row in range(5):
            for number, second in enumerate(sorted(set(seconds[row][mask[row]].tolist()))):
                mine = states[row][mask[row] & (seconds[row] == second)]
                assert torch.equal(frames[place][frame_mask[place]], mine)
                assert has_frame[row, number] and when[row, number] == second
                place += 1
        assert place == len(frames) == has_frame.sum()
        assert frame_numbers(None, mask).eq(torch.where(mask, 0, -1)).all()

    @pytest.mark.parametrize("pooling", ["mean", "attention"])
    def test_pooling_beside_a_loop_over_frames(self, pooling: str) -> None:
        model = tiny_retrieval(**ALONE, clip_pooling=pooling)
        whole = clip(4)
        with torch.no_grad():
            if pooling == "attention":
                model.clip_pooling.frame_score.weight.normal_(std=5.0)
            alone = []
            for frame in range(4):
                part = slice(frame * PER_FRAME, (frame + 1) * PER_FRAME)
                alone.append(model.get_image_features(**{name: value[:, part] for name, value in whole.items()})[0])
            vectors = torch.stack(alone)  # (F, E)
            weights = torch.ones(4) / 4
            if pooling == "attention":
                weights = (vectors @ model.clip_pooling.frame_score.weight[0]).softmax(dim=0)
            expected = sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))
            expected = expected / expected.norm()
            torch.testing.assert_close(model.get_image_features(**whole)[0], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("pooling", ["mean", "attention", "transformer"])
    def test_life_of_a_pooled_clip(self, pooling: str) -> None:
        """An image is one frame of it, padding reaches nothing, and only the transformer reads an order."""
        model = tiny_retrieval(**ALONE, clip_pooling=pooling)
        one = clip(1)
        image = {name: value for name, value in one.items() if name != "region_seconds"}
        assert torch.equal(numbers_of(tiny_retrieval, model, one), numbers_of(tiny_retrieval, model, image))
        clips = [clip(3, seed=1), clip(1, seed=2), clip(5, seed=3)]
        together = numbers_of(tiny_retrieval, model, batched(clips))
        alone = torch.cat([numbers_of(tiny_retrieval, model, one) for one in clips])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        backward = clips[0] | {"region_seconds": clips[0]["region_seconds"].flip(1)}
        same = torch.allclose(numbers_of(tiny_retrieval, model, backward)[0], alone[0], atol=1e-5)
        assert same == (pooling != "transformer")

    def test_gradients_reach_every_weight_of_the_transformer(self) -> None:
        model = tiny_retrieval(**ALONE, clip_pooling="transformer", clip_layers=2).train()
        clips = batched([clip(3, seed=1), clip(2, seed=2)])
        model(torch.tensor([[2, 7, 9], [2, 8, 3]]), **clips, return_loss=True).loss.backward()
        pooling: Any = model.clip_pooling
        assert isinstance(pooling, ClipPooling) and len(pooling.layers) == 2
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in pooling.parameters())
        assert all(weight.grad.any() for name, weight in pooling.named_parameters() if name.endswith("weight"))

    def test_saved_and_loaded(self, tmp_path: Any) -> None:
        model, whole = tiny_retrieval(**ALONE, clip_pooling="transformer"), clip(3)
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert torch.equal(again.get_image_features(**whole), model.get_image_features(**whole))
        wider = type(model).from_pretrained(tmp_path, clip_layers=2)  # a layer more than the file has
        assert all(weight.isfinite().all() for weight in wider.clip_pooling.parameters())

    def test_numbers_of_heads_that_do_not_divide_are_refused(self) -> None:
        with pytest.raises(ValueError, match="clip_heads=3 must divide projection_size=256"):
            UpDownFusionConfig(clip_pooling="transformer", clip_heads=3)


def test_regions_keep_their_seconds_as_rows() -> None:
    whole = clip(2)
    frames = Regions(**{name: value.unflatten(1, (2, PER_FRAME)).squeeze(0) for name, value in whole.items()})
    assert torch.equal(frames.of_rows(torch.tensor([[0, 1]])).region_seconds, whole["region_seconds"])
