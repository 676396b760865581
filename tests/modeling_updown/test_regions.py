"""`Regions` whole: every field goes with the others into rows of images, pairs, clips and regions, and into models."""

from dataclasses import fields
from typing import Any

import pytest
import torch

from modeling_updown import Regions
from modeling_updown.regions_updown import (
    check_fields,
    clip_rows,
    join_images,
    joined_rows,
    optional_fields,
    region_rows,
)

IMAGES, COUNT, WIDTH, SIDE = 4, 3, 10, 2


def whole(*, images: int = IMAGES, seed: int = 0) -> Regions:
    """Regions of some images with every field, the last region of every second image being padding."""
    chance = torch.Generator().manual_seed(seed)
    shape = (images, COUNT)
    mask = torch.ones(shape, dtype=torch.bool)
    mask[1::2, -1] = False
    corners = torch.rand(*shape, 2, 2, generator=chance).sort(dim=2).values
    return Regions(
        region_features=torch.randn(*shape, WIDTH, generator=chance),
        region_boxes=corners.flatten(2),
        region_mask=mask,
        region_scores=torch.rand(shape, generator=chance),
        object_probs=torch.rand(*shape, 5, generator=chance),
        attribute_probs=torch.rand(*shape, 4, generator=chance),
        region_seconds=torch.arange(images).float()[:, None].expand(shape) * 0.5,
        region_texts=[[f"word {image} {place}" for place in range(COUNT)] for image in range(images)],
        region_masks=torch.rand(*shape, SIDE, SIDE, generator=chance),
        region_images=torch.zeros(shape, dtype=torch.long),
        clip_ids=[f"clip {image // 2}" for image in range(images)],
    )


def one_region(regions: Regions, image: int, place: int) -> dict[str, Any]:
    """All that is said of one region: the slow twin's unit."""
    names = {field.name for field in fields(Regions)} - {"clip_ids", "region_images"}
    return {name: regions[name][image][place] for name in names}


def same(found: Any, expected: Any) -> bool:
    return torch.equal(found, expected) if isinstance(expected, torch.Tensor) else bool(found == expected)


@pytest.mark.parametrize("index", [[0, 1, 2, 3], [2, 2, 0], [3]])
def test_rows_of_an_image(index: list[int]) -> None:
    regions = whole()
    found = regions.of_rows(torch.tensor(index))
    for row, image in enumerate(index):
        for place in range(COUNT):
            expected = one_region(regions, image, place)
            assert all(same(value, expected[name]) for name, value in one_region(found, row, place).items())
    assert found.clip_ids == [regions.clip_ids[image] for image in index]
    numbered = Regions(**{**regions, "clip_ids": torch.tensor([7, 7, 9, 9])}).of_rows(torch.tensor(index))
    assert numbered.clip_ids.tolist() == [[7, 7, 9, 9][image] for image in index]


@pytest.mark.parametrize("index", [[[0, 1], [2, 3]], [[3, 3], [1, -1], [-1, 0]], [[2, 0, 1, -1]], [[1], [0]]])
def test_rows_of_several_images(index: list[list[int]]) -> None:
    regions, images = whole(), torch.tensor(index)
    found = regions.of_rows(images)
    assert found.region_features.shape == (len(index), len(index[0]) * COUNT, WIDTH)
    for row, several in enumerate(index):
        for slot, image in enumerate(several):
            for place in range(COUNT):
                here = slot * COUNT + place
                assert found.region_images[row, here] == slot
                if image < 0:
                    assert not found.region_mask[row, here]
                    continue
                expected = one_region(regions, image, place)
                assert all(same(value, expected[name]) for name, value in one_region(found, row, here).items())
    slim, none = joined_rows(regions, images)
    assert none is None and torch.equal(slim.region_mask, found.region_mask)
    assert torch.equal(slim.region_images, found.region_images) and slim.object_probs is None
    unjoined, index_of_one = joined_rows(regions, images[:, 0])
    assert unjoined is regions and torch.equal(index_of_one, images[:, 0])


def test_images_next_to_each_other_are_joined_without_a_copy() -> None:
    regions = whole()
    joined = join_images(regions, 2)
    by_index = regions.of_rows(torch.tensor([[0, 1], [2, 3]]))
    assert joined.keys() == by_index.keys() and all(same(joined[name], by_index[name]) for name in joined)
    for name in ("region_features", "region_masks", "object_probs", "region_mask"):
        assert joined[name].data_ptr() == regions[name].data_ptr()
    for wrong in (3, 0):
        with pytest.raises(ValueError, match=f"4 images cannot be joined as rows of {wrong}"):
            join_images(regions, wrong)


@pytest.mark.parametrize("ids", [["b", "a", "b", "b"], torch.tensor([5, 5, 2, 5]), ["x"] * 4, list("abcd")])
def test_frames_of_clips(ids: Any) -> None:
    """Frames in order, clips by their first one, and seconds that say when, beside padding."""
    regions = Regions(**{**whole(), "clip_ids": ids})
    rows = clip_rows(regions.clip_ids)
    names = ids.tolist() if isinstance(ids, torch.Tensor) else ids
    clips = list(dict.fromkeys(names))
    assert len(rows) == len(clips)
    joined = regions.of_rows(rows)
    for row, clip in enumerate(clips):
        frames = [frame for frame, name in enumerate(names) if name == clip]
        assert [frame for frame in rows[row].tolist() if frame >= 0] == frames
        real = joined.region_mask[row]
        seconds = [0.5 * frame for frame in frames for place in range(COUNT) if regions.region_mask[frame, place]]
        assert joined.region_seconds[row][real].tolist() == seconds
    found = joined.clip_ids.tolist() if isinstance(ids, torch.Tensor) else joined.clip_ids
    assert found == [names[row[0]] for row in rows.tolist()] == clips


def test_rows_of_a_region() -> None:
    """A row for each real region; several of an image; texts too."""
    regions = whole()
    image_index, region_index = region_rows(regions.region_mask)
    real = [(i, r) for i in range(IMAGES) for r in range(COUNT) if regions.region_mask[i, r]]
    assert list(zip(image_index.tolist(), region_index.tolist(), strict=True)) == real and len(real) == 10
    found = regions.select(image_index, region_index)
    for row, (image, place) in enumerate(real):
        expected = one_region(regions, image, place)
        assert all(same(value, expected[name]) for name, value in one_region(found, row, 0).items())
    assert found.region_mask.all() and found.region_features.shape == (10, 1, WIDTH)
    several = regions.select(torch.tensor([3, 0]), torch.tensor([[2, 0], [1, 1]]))
    for row, (image, places) in enumerate([(3, [2, 0]), (0, [1, 1])]):
        for slot, place in enumerate(places):
            expected = one_region(regions, image, place)
            assert all(same(value, expected[name]) for name, value in one_region(several, row, slot).items())
    assert several.clip_ids == ["clip 1", "clip 0"]


@pytest.mark.parametrize("index", [[[-1], [0]], [[0], [COUNT]], [[0]], [0, 1, 2]], ids=str)
def test_regions_that_are_not_there_are_refused(index: Any) -> None:
    with pytest.raises(ValueError, match=f"region_index must name, for each of 2 rows, some of {COUNT} regions"):
        whole().select(torch.tensor([0, 1]), torch.tensor(index))


def test_rows_belong_to_the_clip_of_their_first_frame() -> None:
    regions = whole()
    index = torch.tensor([[-1, 3], [1, -1]])
    assert regions.of_rows(index).clip_ids == ["clip 1", "clip 0"]
    with pytest.raises(ValueError, match="clip_ids are empty"):
        clip_rows([])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_any_whole_numbers_name_images(dtype: torch.dtype) -> None:
    regions, index = whole(), torch.tensor([3, 0])
    found, expected = regions.of_rows(index.to(dtype)), regions.of_rows(index)
    assert all(same(found[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="image_index"):
        regions.of_rows(torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("region_texts", ["abc"] * IMAGES, r"region_texts have 4 lists of \[3\] strings"),
        ("region_scores", [[0.5] * COUNT] * IMAGES, r"region_scores has shape \(\)"),
    ],
)
def test_other_kinds_of_fields_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fields(Regions(**{**whole(), name: value}))


@pytest.mark.parametrize(
    "index", [[4], [-1], [[0, 4]], [[-1, -1], [0, 1]], [[-2, 0]], [[[0]]], [], [0.5]], ids=lambda index: str(index)
)
def test_an_index_of_images_that_are_not_there_is_refused(index: Any) -> None:
    with pytest.raises(ValueError, match=r"image_index of shape \(.*\) must name, for each row, one of 4 images"):
        whole().of_rows(torch.tensor(index))


def test_optional_fields_of_what_was_given() -> None:
    given = {"region_texts": [["a"]], "region_scores": None, "logits": 1, "region_boxes": 2, "clip_ids": ["c"]}
    assert optional_fields(given) == {"region_texts": [["a"]], "clip_ids": ["c"]}
