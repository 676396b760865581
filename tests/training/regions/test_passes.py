"""A batch in several passes: the regions of one pass, image by image, with every column that was asked for."""

from typing import Any

import pytest
import torch

from modeling_updown.clips_updown import images_at_once
from tests import tiny
from training.regions.passes import in_passes, join_passes

COLUMNS = ("region_features", "region_boxes", "region_mask", "region_scores", "object_ids", "object_probs", "absent")


@torch.no_grad()
def test_passes_give_the_regions_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = tiny.tiny_pyramid_detector(min_regions=1, max_regions=9, score_threshold=0.1), []
    torch.manual_seed(0)
    pixels = torch.rand(5, 3, 64, 96)
    monkeypatch.setattr(source, "forward", counted(source.forward, seen))
    several = in_passes(source, {"pixel_values": pixels}, columns=COLUMNS)
    assert seen == [2, 2, 1] and several.keys() == {*COLUMNS} - {"absent"}
    whole = source(pixel_values=pixels)
    mask = several["region_mask"]
    assert torch.equal(mask, whole["region_mask"]) and mask.shape[0] == 5
    for name in several.keys() - {"region_mask"}:
        torch.testing.assert_close(several[name][mask], whole[name][mask], atol=1e-5, rtol=1e-4)


def counted(forward: Any, seen: list[int]) -> Any:
    """A forward that writes down how many images each call has."""
    return Counted(forward, seen)


class Counted:
    """Calls a forward, and notes the images of each call."""

    def __init__(self, forward: Any, seen: list[int]):
        self.forward, self.seen = forward, seen

    def __call__(self, **inputs: Any) -> Any:
        self.seen.append(len(inputs["pixel_values"]))
        return self.forward(**inputs)


def test_options_and_other_inputs_reach_every_pass() -> None:
    found = in_passes(
        EchoSource(),
        {"pixel_values": torch.arange(3.0), "boxes": torch.arange(3.0)},
        columns=("sums", "region_mask"),
        k=2,
    )
    assert found["sums"].tolist() == [[0.0], [4.0], [8.0]]


class EchoSource:
    """Gives k times the sum of its inputs, and a mask."""

    def __call__(self, *, pixel_values: torch.Tensor, boxes: torch.Tensor, k: int) -> dict[str, torch.Tensor]:
        sums = (k * (pixel_values + boxes))[:, None]
        return {"sums": sums, "region_mask": torch.ones_like(sums).bool()}


def test_words_and_counts_are_padded() -> None:
    parts = [
        {"region_mask": torch.ones(1, 1).bool(), "region_texts": [["a"]]},
        {"region_mask": torch.ones(1, 3).bool(), "region_texts": [["b", "c", "d"]]},
    ]
    joined = join_passes(parts)
    assert joined["region_texts"] == [["a", "", ""], ["b", "c", "d"]] and joined["region_mask"].sum(dim=1).tolist() == [
        1,
        3,
    ]


def test_a_gpu_sees_more_at_once() -> None:
    assert (images_at_once(torch.device("cpu")), images_at_once(torch.device("cuda"))) == (2, 32)
