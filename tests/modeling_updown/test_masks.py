"""The mask head: pooled maps to masks, targets and pasting by slow loops, its loss and training, and bad input."""

import math

import numpy as np
import pytest
import torch

from modeling_updown import UpDownDetector, UpDownDetectorConfig
from modeling_updown.masks_updown import MaskHead, mask_loss, mask_targets, paste_masks
from tests.modeling_updown.test_detector_training import labelled_images
from tests.tiny import noise_image, tiny_detector, tiny_nanodet_detector, tiny_pyramid_detector

MAKERS = {"caffe": tiny_detector, "pyramid": tiny_pyramid_detector, "nanodet": tiny_nanodet_detector}
ALL = pytest.mark.parametrize("make", list(MAKERS.values()), ids=list(MAKERS))
SMALL = {"mask_head": True, "mask_size": 6, "mask_hidden_size": 8, "mask_convs": 1}


def labelled_masks() -> dict[str, torch.Tensor]:
    """`labelled_images` with masks of 8 x 8 cells: a triangle, a whole box, none, and the left half of a box."""
    masks = torch.full((2, 3, 8, 8), -1, dtype=torch.int8)
    masks[0, 0], masks[0, 1] = torch.ones(8, 8).tril(), 1
    masks[1, 0] = 0
    masks[1, 0, :, :4] = 1
    return labelled_images() | {"true_masks": masks}


# ---- targets and pasting, by loops


def bilinear(mask: np.ndarray, x: float, y: float) -> float:
    """The value at a point, in cells of the mask, where the centre of the first cell is 0.5; 0 beside the mask."""
    total = 0.0
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            weight = max(0.0, 1 - abs(x - 0.5 - column)) * max(0.0, 1 - abs(y - 0.5 - row))
            total += weight * mask[row, column]
    return total


def test_targets_are_means_of_four_points() -> None:
    chance = torch.Generator().manual_seed(3)
    masks = (torch.rand(4, 5, 5, generator=chance) > 0.4).to(torch.int8)
    corners = torch.rand(4, 2, generator=chance) * 20
    true_boxes = torch.cat([corners, corners + 4 + 20 * torch.rand(4, 2, generator=chance)], dim=1)
    boxes = true_boxes + 3 * torch.randn(4, 4, generator=chance)
    found, known = mask_targets(masks, true_boxes, boxes, size=4)
    assert known.all()
    for mask, true, box, target in zip(masks.numpy(), true_boxes.tolist(), boxes.tolist(), found.numpy(), strict=True):
        for row in range(4):
            for column in range(4):
                values = []
                for dy in (0.25, 0.75):
                    for dx in (0.25, 0.75):
                        x = box[0] + (column + dx) / 4 * (box[2] - box[0])
                        y = box[1] + (row + dy) / 4 * (box[3] - box[1])
                        x, y = ((p - true[i]) / (true[i + 2] - true[i]) * 5 for i, p in ((0, x), (1, y)))
                        values.append(bilinear(mask, x, y))
                if abs(np.mean(values) - 0.5) > 1e-4:
                    assert target[row, column] == (np.mean(values) >= 0.5)


def test_targets_in_the_true_box_are_its_mask() -> None:
    mask = torch.ones(8, 8).tril()[None]
    box = torch.tensor([[3.0, 5.0, 31.0, 17.0]])
    target, _ = mask_targets(mask, box, box, size=4)
    assert torch.equal(target[0], torch.ones(4, 4).tril())
    absent, known = mask_targets(torch.full((1, 8, 8), -1), box, box, size=4)
    assert not known.any() and not absent.any()
    none, known = mask_targets(torch.zeros(0, 8, 8), torch.zeros(0, 4), torch.zeros(0, 4), size=4)
    assert none.shape == (0, 4, 4) and known.shape == (0,)


def test_pasted_pixels_are_bilinear_at_their_centres() -> None:
    chance = torch.Generator().manual_seed(5)
    masks = torch.rand(6, 4, 4, generator=chance)
    first = torch.rand(6, 2, generator=chance) * 0.6
    boxes = torch.cat([first, (first + 0.1 + 0.5 * torch.rand(6, 2, generator=chance)).clamp(max=1)], dim=1)
    boxes[5] = torch.tensor([0.5, 0.5, 0.5, 0.9])  # a line
    pasted = paste_masks(masks, boxes, height=11, width=17)
    assert not pasted[5].any()
    for mask, box, found in zip(masks.numpy(), boxes.tolist(), pasted, strict=True):
        for row in range(11):
            for column in range(17):
                x, y = (column + 0.5) / 17, (row + 0.5) / 11
                inside = box[0] <= x < box[2] and box[1] <= y < box[3]
                if not inside:
                    assert not found[row, column]
                    continue
                u, v = ((p - box[i]) / (box[i + 2] - box[i]) * 4 for i, p in ((0, x), (1, y)))
                value = bilinear(mask, min(max(u, 0.5), 3.5), min(max(v, 0.5), 3.5))
                if abs(value - 0.5) > 1e-5:
                    assert bool(found[row, column]) == (value >= 0.5)


def test_pasting_in_parts_and_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, boxes = torch.rand(5, 6, 6), torch.tensor([[0.1, 0.2, 0.9, 0.8]]).expand(5, 4)
    whole = paste_masks(masks, boxes, height=20, width=30)
    monkeypatch.setattr("modeling_updown.masks_updown.PASTED_AT_A_TIME", 700)
    assert torch.equal(paste_masks(masks, boxes, height=20, width=30), whole)
    with pytest.raises(ValueError, match=r"masks of shape \(5, 6, 5\).*take both from the same regions"):
        paste_masks(masks[..., :5], boxes, height=20, width=30)
    with pytest.raises(ValueError, match="give its height and width"):
        paste_masks(masks, boxes, height=0, width=30)


def test_loss_is_the_mean_of_known_masks() -> None:
    logits, targets = torch.randn(3, 2, 2), torch.randint(0, 2, (3, 2, 2)).float()
    expected = [
        -math.log(1 / (1 + math.exp(-x if t else x)))
        for x, t in zip(logits[:2].flatten(), targets[:2].flatten(), strict=True)
    ]
    found = mask_loss(logits, targets, torch.tensor([True, True, False]))
    assert found.item() == pytest.approx(sum(expected) / 8, abs=1e-6)
    logits.requires_grad_()
    nothing = mask_loss(logits, targets, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0 and not logits.grad.any(), "a graph all the same, for processes that wait for gradients"


def test_classes_may_have_masks_of_their_own() -> None:
    config = UpDownDetectorConfig(
        num_objects=3, mask_head=True, mask_class_agnostic=False, mask_size=4, mask_hidden_size=5
    )
    head, pooled = MaskHead(config, channels=2), torch.randn(2, 2, 2, 2)
    masks = [head(pooled, torch.tensor([own, own])) for own in (1, 2, 3)]
    assert torch.equal(head(pooled, torch.tensor([3, 1])), torch.stack([masks[2][0], masks[0][1]]))
    assert not torch.equal(masks[0], masks[1])


# ---- in the detector


@ALL
def test_every_region_has_its_mask(make) -> None:
    """Detected and given boxes have the same; in a padded batch as alone; and a detector without a head has none."""
    model = make(**SMALL)
    batch = {name: labelled_images()[name] for name in ("pixel_values", "pixel_mask")}
    with torch.no_grad():
        out = model(**batch)
        alone = [model(noise_image(96, 128)), model(noise_image(64, 96, seed=1))]
        given = model(**batch, boxes=out.region_boxes, box_mask=out.region_mask)
    assert out.region_masks.shape == (*out.region_mask.shape, 6, 6)
    assert ((out.region_masks > 0) & (out.region_masks < 1))[out.region_mask].all()
    for row, one in enumerate(alone):
        count = one.region_mask.shape[1]
        torch.testing.assert_close(out.region_masks[row, :count], one.region_masks[0], atol=1e-5, rtol=1e-5)
    real = out.region_mask
    torch.testing.assert_close(given.region_masks[real], out.region_masks[real], atol=1e-4, rtol=1e-4)
    assert make().masks is None and make()(noise_image(96, 128)).region_masks is None


def test_a_mask_is_that_of_the_regions_own_box() -> None:
    """By hand: RoIAlign of the region's box, as it is after regression, and the head."""
    model = tiny_pyramid_detector(**SMALL)
    pixels = noise_image(96, 128)
    with torch.no_grad():
        out = model(pixels)
        maps = model.feature_maps(pixels)
        box = out.region_boxes[0, 2] * torch.tensor([128.0, 96, 128, 96])
        roi = torch.cat([torch.zeros(1), box])[None]
        expected = model.mask_logits(maps, roi, out.object_ids[0, 2:3]).sigmoid()[0]
    torch.testing.assert_close(out.region_masks[0, 2], expected, atol=1e-6, rtol=1e-5)


@ALL
def test_masks_are_learnt_beside_the_rest_or_alone(make) -> None:
    model, batch = make(**SMALL).train(), labelled_masks()
    whole = model(**batch)
    with torch.no_grad():
        without = model(**labelled_images())
    assert set(whole.losses) == {*without.losses, "region_masks"}
    for name, loss in without.losses.items():
        torch.testing.assert_close(whole.losses[name].detach(), loss, msg=name)
    model.unfreeze_masks()
    alone = model(**batch)
    torch.testing.assert_close(alone.losses["region_masks"], whole.losses["region_masks"])
    assert set(alone.losses) == {"region_masks"}
    alone.loss.backward()
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None} == {"masks"}
    with pytest.raises(ValueError, match="nothing but the mask head trains, and there is no mask"):
        model(**labelled_images())


def test_the_loss_is_a_mean_of_the_images_by_weight() -> None:
    model, batch = tiny_pyramid_detector(**SMALL), labelled_masks()
    with torch.no_grad():
        together = model(**batch).losses["region_masks"]
        one = [model(**{k: v[row : row + 1] for k, v in batch.items()}).losses["region_masks"] for row in (0, 1)]
        model.config.mask_loss_weight = 3.0
        thrice = model(**batch).losses["region_masks"]
    torch.testing.assert_close(together, torch.stack(one).mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(thrice, 3 * together)


def test_a_few_steps_learn_a_mask() -> None:
    torch.manual_seed(0)
    model, batch = tiny_pyramid_detector(**(SMALL | {"mask_hidden_size": 16})).train(), labelled_masks()
    model.unfreeze_masks()
    optimizer = torch.optim.Adam(model.masks.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_saved_detector_gets_a_head_and_is_loaded_with_it(tmp_path) -> None:
    model = tiny_pyramid_detector()
    with torch.no_grad():
        before = model(noise_image(96, 128))
    with pytest.raises(ValueError, match=r"no mask head to train: give it one with add_masks"):
        model.unfreeze_masks()
    model.add_masks(mask_size=6, mask_hidden_size=8, mask_convs=0)
    with pytest.raises(ValueError, match="has a mask head already"):
        model.add_masks()
    model.save_pretrained(tmp_path)
    again = UpDownDetector.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        first, second = model(noise_image(96, 128)), again(noise_image(96, 128))
    torch.testing.assert_close(first.region_features, before.region_features)
    torch.testing.assert_close(first.region_masks, second.region_masks)
    assert first.region_masks.std() > 0


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"true_masks": torch.zeros(2, 3, 8, 7)},
            r"true_masks have shape \(2, 3, 8, 7\).*ask for \(2, 3, size, size\)",
        ),
        ({"true_masks": torch.zeros(2, 2, 8, 8)}, r"true_masks have shape \(2, 2, 8, 8\)"),
        ({"true_masks": torch.zeros(2, 3, 8)}, r"true_masks have shape \(2, 3, 8\)"),
        ({"true_masks": torch.full((2, 3, 8, 8), 255)}, "threshold them"),
        ({"labels": None}, "masks are learnt beside labels"),
    ],
)
def test_masks_of_other_sizes_are_named(changes, fault) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_pyramid_detector(**SMALL)(**(labelled_masks() | changes))


def test_masks_for_a_detector_without_a_head_are_named() -> None:
    with pytest.raises(ValueError, match="set config.mask_head, or leave them out"):
        tiny_pyramid_detector()(**labelled_masks())
    with pytest.raises(ValueError, match="train one, from config.mask_head=True"):
        tiny_pyramid_detector().mask_logits(None, torch.zeros(1, 5), torch.ones(1).long())


@pytest.mark.parametrize("fields", [{"mask_size": 7}, {"mask_size": 0}, {"mask_hidden_size": 0}, {"mask_convs": -1}])
def test_fields_out_of_range_are_named(fields) -> None:
    with pytest.raises(ValueError, match="mask_"):
        UpDownDetectorConfig(**fields)
