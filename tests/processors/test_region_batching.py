"""Regions of single images to one batch: against a loop, and against what users' own features look like."""

from typing import Any

import numpy as np
import pytest
import torch

from processors.region_batching_updown import check_regions, pad_regions, split_regions


def image_regions(count: int, *, width: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.random((count, 2, 2)).astype(np.float32)
    return {
        "region_features": rng.standard_normal((count, width)).astype(np.float32),
        "region_boxes": np.sort(corners, axis=1).reshape(count, 4),  # x1, y1 <= x2, y2
        "region_scores": rng.random(count).astype(np.float32),
    }


def changed(image: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**image, **values}


def with_value(image: dict[str, Any], name: str, row: Any, value: Any) -> dict[str, np.ndarray]:
    values = image[name].copy()
    values[row] = value
    return {**image, name: values}


def test_padding_equals_a_loop() -> None:
    images = [image_regions(count, seed=count) for count in (3, 1, 4)]
    batch = pad_regions(images)
    assert batch["region_mask"].tolist() == [[True] * 3 + [False], [True] + [False] * 3, [True] * 4]
    for index, image in enumerate(images):
        count = len(image["region_scores"])
        for name, values in image.items():
            assert batch[name].dtype == torch.float32
            assert np.array_equal(batch[name][index, :count].numpy(), values)
            assert not batch[name][index, count:].any()


def test_num_regions_keeps_the_best_in_their_order() -> None:
    image = changed(image_regions(5), region_scores=np.array([0.1, 0.9, 0.5, 0.9, 0.2], np.float32))
    batch = pad_regions([image, image_regions(2)], num_regions=3)
    assert torch.equal(batch["region_features"][0], torch.tensor(image["region_features"][[1, 2, 3]]))
    assert batch["region_scores"][0].tolist() == pytest.approx([0.9, 0.5, 0.9])
    assert batch["region_mask"].sum(1).tolist() == [3, 2]
    unscored = {name: values for name, values in image.items() if name != "region_scores"}
    assert torch.equal(
        pad_regions([unscored], num_regions=2)["region_boxes"][0], torch.tensor(image["region_boxes"][:2])
    )
    with pytest.raises(ValueError, match="num_regions is 0; keep at least one"):
        pad_regions([image], num_regions=0)


def test_masked_out_rows_are_dropped() -> None:
    image = image_regions(4)
    mask = np.array([False, True, False, True])
    broken_padding = with_value(changed(image, region_mask=mask), "region_features", 0, np.nan)
    check_regions([broken_padding])
    batch = pad_regions([broken_padding])
    assert batch["region_features"].shape == (1, 2, 5)
    assert np.array_equal(batch["region_boxes"][0].numpy(), image["region_boxes"][[1, 3]])


def test_split_is_the_opposite_of_pad() -> None:
    images = [image_regions(count, seed=count) for count in (2, 3)]
    batch = pad_regions(images)
    again = pad_regions(split_regions(batch))
    assert batch.keys() == again.keys()
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_torch_numpy_lists_and_half_precision() -> None:
    image = image_regions(3)
    expected = pad_regions([image])["region_features"]
    as_tensors = {name: torch.tensor(values) for name, values in image.items()}
    as_lists = {name: values.tolist() for name, values in image.items()}
    frozen = {name: values.copy() for name, values in image.items()}
    frozen["region_features"].flags.writeable = False
    for same in (as_tensors, as_lists, frozen):
        check_regions([same], feature_width=5)
        assert torch.equal(pad_regions([same])["region_features"], expected)
    half = {name: values.astype(np.float16) for name, values in image.items()}
    assert (pad_regions([half])["region_features"] - expected).abs().max() < 2e-3


def every_field(count: int, *, seed: int, clip: Any) -> dict[str, Any]:
    """An image with words, masks, seconds and its clip."""
    image, chance = image_regions(count, seed=seed), np.random.default_rng(seed)
    more = {"region_masks": chance.random((count, 3, 3)), "region_seconds": np.full(count, 1.5)}
    return image | more | {"region_texts": [f"w{seed}{place}" for place in range(count)], "clip_ids": clip}


def test_words_masks_seconds_and_clips_go_with_their_regions() -> None:
    images = [every_field(3, seed=1, clip="a"), every_field(2, seed=2, clip="b")]
    images[0]["region_mask"] = np.array([True, False, True])
    check_regions(images)
    batch = pad_regions(images)
    assert batch["region_texts"] == [["w10", "w12"], ["w20", "w21"]] and batch["clip_ids"] == ["a", "b"]
    assert np.allclose(batch["region_masks"][0].numpy(), images[0]["region_masks"][[0, 2]])
    assert batch["region_masks"].shape == (2, 2, 3, 3) and batch["region_seconds"].tolist() == [[1.5, 1.5]] * 2
    again = pad_regions(split_regions(batch))
    assert again["region_texts"] == batch["region_texts"] and again["clip_ids"] == batch["clip_ids"]
    assert torch.equal(again["region_masks"], batch["region_masks"])
    ragged = pad_regions([every_field(1, seed=1, clip=np.int64(7)), every_field(2, seed=2, clip=torch.tensor(9))])
    assert ragged["region_texts"] == [["w10", ""], ["w20", "w21"]] and ragged["clip_ids"].tolist() == [7, 9]


def test_words_of_the_best_regions_are_kept() -> None:
    image = every_field(4, seed=3, clip="a") | {"region_scores": np.array([0.1, 0.9, 0.2, 0.8])}
    batch = pad_regions([image], num_regions=2)
    assert batch["region_texts"] == [["w31", "w33"]] and batch["clip_ids"] == ["a"]
    del image["region_scores"]
    assert pad_regions([image], num_regions=3)["region_texts"] == [["w30", "w31", "w32"]]


def test_gradients_reach_features_given_as_tensors() -> None:
    features = torch.ones(2, 3, requires_grad=True)
    pad_regions([{"region_features": features, "region_boxes": torch.zeros(2, 4)}])["region_features"].sum().backward()
    assert features.grad is not None and features.grad.sum() == 6


def test_other_keys_and_missing_options_are_ignored() -> None:
    image = changed(image_regions(2), image_id="17", region_seconds=None, object_probs=np.ones((2, 7)))
    batch = pad_regions([image])
    assert set(batch) == {"region_features", "region_boxes", "region_scores", "object_probs", "region_mask"}
    assert batch["object_probs"].shape == (1, 2, 7)


GOOD = image_regions(3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (with_value(GOOD, "region_features", (2, 1), np.nan), "region_features of image 1, region 2 holds NaN"),
        (with_value(GOOD, "region_scores", 0, np.inf), "region_scores of image 1, region 0 holds NaN or infinity"),
        (
            with_value(GOOD, "region_boxes", 1, (10, 20, 300, 200)),
            r"box \[10.0, 20.0, 300.0, 200.0\] of image 1, region 1 is outside 0..1; divide x by the image's width",
        ),
        (with_value(GOOD, "region_boxes", 0, (-0.2, 0, 0.5, 1.1)), "region 0 is outside 0..1; clip them to the image"),
        (
            with_value(GOOD, "region_boxes", 2, (0.5, 0, 0.2, 1)),
            "region 2 ends before it begins; boxes are x1, y1, x2, y2",
        ),
        (
            with_value(changed(GOOD, region_mask=np.array([False, True, True])), "region_features", 2, np.nan),
            "image 1, region 2 holds NaN",
        ),
        ({name: values[:0] for name, values in GOOD.items()}, "image 1 has no region; give it one box over the whole"),
        (changed(GOOD, region_mask=np.zeros(3, bool)), "image 1 has no region"),
        (changed(GOOD, region_mask=np.ones(3)), r"region_mask of image 1 is float64 of shape \(3,\); expected bool"),
        (changed(GOOD, region_mask=np.ones(4, bool)), r"shape \(4,\); expected bool of shape \(3,\), True = real"),
        (
            changed(GOOD, region_boxes=np.zeros((2, 4))),
            r"region_boxes of image 1 has shape \(2, 4\); expected \(3, 4\)",
        ),
        (changed(GOOD, region_boxes=np.zeros((3, 5))), r"shape \(3, 5\); expected \(3, 4\)"),
        (
            changed(GOOD, region_features=np.zeros(3)),
            r"region_features of image 1 has shape \(3,\); expected \(3, width\)",
        ),
        (changed(GOOD, region_boxes=None), "image 1 has no region_boxes; regions need both"),
        (changed(GOOD, region_scores=None), "images 0 and 1 do not both have region_scores"),
        (image_regions(3, width=6), "region_features of images 0 and 1 have widths 5 and 6"),
        (changed(GOOD, region_texts=["a", "b"]), "region_texts of image 1 are not 3 strings"),
        (changed(GOOD, region_texts=["a", "b", None]), "region_texts of image 1 are not 3 strings"),
        (
            changed(GOOD, region_masks=np.ones((3, 2))),
            r"region_masks of image 1 has shape \(3, 2\); expected \(3, side",
        ),
        (changed(GOOD, clip_ids="a"), "images 0 and 1 do not both have clip_ids"),
    ],
)
def test_each_fault_is_one_sentence_with_its_place(image: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_regions([GOOD, image])


def test_features_of_another_detector() -> None:
    message = "width 1024 but the model expects 2048; were they extracted with another detector"
    with pytest.raises(ValueError, match=message):
        check_regions([image_regions(2, width=1024)], feature_width=2048)
    check_regions([image_regions(2, width=1024)], feature_width=1024)


def test_boxes_rounded_by_half_precision_pass() -> None:
    check_regions([with_value(GOOD, "region_boxes", 0, (-0.0004, 0, 1.0005, 1))])


def test_lists_of_images_are_asked_for() -> None:
    with pytest.raises(ValueError, match="one mapping; give a list"):
        pad_regions(GOOD)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="list of regions is empty"):
        pad_regions([])
