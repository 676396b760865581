"""Training the detector: its loss, what the gradient reaches and what it leaves alone, and a captioner that owns one.

The losses themselves are in test_detection_losses.py. With `draw_seeds` the boxes drawn are fixed.
"""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from modeling_updown import UpDownDetector, UpDownForImageCaptioning
from modeling_updown.modeling_detector import caffe_name
from modeling_updown.resnet_updown import FrozenBatchNorm2d
from tests import tiny
from tests.tiny import noise_image, tiny_detector, tiny_detector_config, tiny_pyramid_detector

MAKERS: dict[str, Callable[..., UpDownDetector]] = {"caffe": tiny_detector, "pyramid": tiny_pyramid_detector}
BOTH = pytest.mark.parametrize("make", list(MAKERS.values()), ids=list(MAKERS))
LOSSES = {"proposal_objectness", "proposal_box", "region_class", "region_box", "region_attributes"}


def labelled_images() -> dict[str, torch.Tensor]:
    """Two images, three objects in one and one in the other; the smaller image is padded."""
    pixel_values, pixel_mask = torch.zeros(2, 3, 96, 128), torch.zeros(2, 96, 128, dtype=torch.bool)
    pixel_values[0], pixel_mask[0] = noise_image(96, 128)[0], True
    pixel_values[1, :, :64, :96], pixel_mask[1, :64, :96] = noise_image(64, 96, seed=1)[0], True
    boxes = torch.zeros(2, 3, 4)
    boxes[0] = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.5, 0.4, 0.95, 0.9], [0.0, 0.5, 0.3, 1.0]])
    boxes[1, 0] = torch.tensor([0.2, 0.2, 0.8, 0.9])
    return {
        "pixel_values": pixel_values,
        "pixel_mask": pixel_mask,
        "labels": torch.tensor([[3, 7, 3], [12, 0, 0]]),
        "true_boxes": boxes,
        "true_attributes": torch.tensor([[[1, 4], [0, 0], [2, 0]], [[5, 0], [0, 0], [0, 0]]]),
        "draw_seeds": torch.tensor([11, 12]),
    }


def one_image(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    return {name: value[row : row + 1] for name, value in batch.items()}


# ---- the loss


@BOTH
def test_loss_is_the_mean_of_the_images(make):
    """Each image's losses are the same alone and in the batch, whatever it is padded to; in training and evaluation."""
    model, batch = make(), labelled_images()
    with torch.no_grad():
        together, alone = model(**batch), [model(**one_image(batch, row)) for row in range(2)]
        training = model.train()(**batch)
    assert set(together.losses) == LOSSES
    for name, value in together.losses.items():
        expected = torch.stack([output.losses[name] for output in alone]).mean()
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=1e-4, msg=name)
        assert value > 0
        torch.testing.assert_close(training.losses[name], value)
    torch.testing.assert_close(together.loss, torch.stack(list(together.losses.values())).sum())
    assert together.region_mask is not None, "in evaluation the regions come as well"
    assert set(training.keys()) == {"loss", "losses"}


@BOTH
def test_draw_depends_on_the_seeds_alone(make):
    model, batch = make(region_batch_size=8, rpn_batch_size=8), labelled_images()
    with torch.no_grad():
        torch.manual_seed(1)
        first = model(**batch).loss
        torch.manual_seed(2)
        assert torch.equal(model(**batch).loss, first)
        swapped = {name: value.flip(0) for name, value in batch.items()}
        torch.testing.assert_close(model(**swapped).loss, first, atol=1e-4, rtol=1e-4)
        assert model(**(batch | {"draw_seeds": torch.tensor([13, 14])})).loss != first
        free = batch | {"draw_seeds": None}
        torch.manual_seed(1)
        drawn = model(**free).loss
        torch.manual_seed(1)
        assert torch.equal(model(**free).loss, drawn)
        torch.manual_seed(3)
        assert model(**free).loss != drawn


@BOTH
def test_weight_of_the_attributes(make):
    batch = labelled_images()
    with torch.no_grad():
        once, twice = (make(attribute_loss_weight=weight)(**batch) for weight in (0.5, 1.0))
    torch.testing.assert_close(2 * once.losses["region_attributes"], twice.losses["region_attributes"])
    torch.testing.assert_close(once.losses["region_class"], twice.losses["region_class"])


@BOTH
@torch.no_grad()
def test_attributes_may_be_unknown(make):
    model, batch = make().train(), labelled_images()
    known = model(**batch).losses
    batch.pop("true_attributes")
    unknown = model(**batch).losses
    assert unknown["region_attributes"] == 0
    assert all(torch.equal(unknown[name], known[name]) for name in LOSSES - {"region_attributes"})


@BOTH
@torch.no_grad()
def test_images_of_crowds_and_of_nothing(make):
    """A crowd that fills the image leaves no background to learn from; an image without objects is all background."""
    model, batch = make().train(), one_image(labelled_images(), 0)
    whole = torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])
    crowd = batch | {"labels": torch.tensor([[-1]]), "true_boxes": whole, "true_attributes": None}
    assert all(value == 0 for value in model(**crowd).losses.values())
    for labels in (torch.tensor([[0]]), torch.zeros(1, 0, dtype=torch.long)):
        nothing = crowd | {"labels": labels, "true_boxes": whole[:, : labels.shape[1]]}
        losses = model(**nothing).losses
        assert losses["proposal_objectness"] > 0 and losses["region_class"] > 0
        assert losses["proposal_box"] == losses["region_box"] == losses["region_attributes"] == 0


@BOTH
@torch.no_grad()
def test_further_names_and_phrases(make):
    """A batch's phrases are contrasted over all its images, of whatever size; further names change the class loss."""
    model, batch = make(phrase_embedding_size=6, phrase_loss_weight=2.0), labelled_images()
    plain = model(**batch)
    assert set(plain.losses) == LOSSES
    seen = plain.region_features.abs().sum(dim=-1) > 0  # a tiny stage may leave nothing of a region
    lengths = plain.phrase_embeds[plain.region_mask & seen].norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    others = torch.tensor([[[1, 2], [0, 0], [0, 0]], [[0, 0], [0, 0], [0, 0]]])
    named = model(**batch, other_object_ids=others).losses
    assert named["region_class"] < plain.losses["region_class"]
    torch.testing.assert_close(named["region_box"], plain.losses["region_box"])
    phrases = torch.nn.functional.normalize(torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    phrases[1, 1:] = 0  # the second image has one phrase
    said = {"phrase_boxes": batch["true_boxes"], "phrase_embeds": phrases}
    losses = model(**batch, **said).losses
    places = torch.stack(
        [model(**one_image(batch, i), boxes=batch["true_boxes"][i : i + 1, :n]).phrase_embeds[0, j]
         for i, n, j in ((0, 3, 0), (0, 3, 1), (0, 3, 2), (1, 1, 0))]
    )  # fmt: skip
    logits = places @ torch.cat([phrases[0], phrases[1, :1]]).T / model.config.phrase_temperature
    wanted = -(logits.log_softmax(dim=0).diag().mean() + logits.log_softmax(dim=1).diag().mean())
    torch.testing.assert_close(losses["region_phrases"], wanted, atol=1e-4, rtol=1e-4)
    silent = {name: torch.zeros_like(value) for name, value in said.items()}
    assert model(**batch, **silent).losses["region_phrases"] == 0


@torch.no_grad()
def test_padding_of_labels_may_hold_anything():
    model, batch = tiny_detector(), labelled_images()
    expected = model(**batch).loss
    batch["true_boxes"][1, 1:] = float("nan")
    assert torch.equal(model(**batch).loss, expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"true_boxes": None}, r"labels of shape \(2, 3\) need true_boxes of shape \(2, 3, 4\)"),
        ({"true_boxes": torch.zeros(2, 2, 4)}, r"labels of shape \(2, 3\) need true_boxes of shape \(2, 3, 4\)"),
        ({"labels": torch.tensor([3, 7])}, r"labels have shape \(2,\), not \(2 images, objects\)"),
        ({"labels": torch.ones(1, 3).long()}, r"labels have shape \(1, 3\), not \(2 images, objects\)"),
        ({"labels": torch.full((2, 3), 13)}, "labels hold the id 13, but the model knows 1 .. 12"),
        ({"true_attributes": torch.full((2, 3, 1), 6)}, "true_attributes hold the id 6, but the model knows 1 .. 5"),
        ({"true_attributes": torch.ones(2, 3).long()}, r"need true_attributes of shape \(2, 3, 'K'\), not \(2, 3\)"),
        (
            {"other_object_ids": torch.full((2, 3, 1), 13)},
            "other_object_ids hold the id 13, but the model knows 1 .. 12",
        ),
        ({"other_object_ids": torch.ones(2, 3).long()}, r"need other_object_ids of shape \(2, 3, 'K'\), not \(2, 3\)"),
        ({"phrase_boxes": torch.zeros(2, 3, 4)}, "set config.phrase_embedding_size"),
        ({"true_boxes": torch.full((2, 3, 4), 2.0)}, "true_boxes 0 of image 1, .*, leaves the image"),
        ({"true_boxes": torch.full((2, 3, 4), float("nan"))}, "true_boxes 0 of image 1, .*, is no number"),
        (
            {"true_boxes": torch.tensor([0.5, 0.5, 0.2, 0.9]).expand(2, 3, 4)},
            "true_boxes 0 of image 1, .* is not xyxy",
        ),
    ],
)
def test_mistakes_in_the_labels(given, message):
    with pytest.raises(ValueError, match=message):
        tiny_detector()(**(labelled_images() | given))


# ---- gradients


def trained_parts(model: torch.nn.Module) -> dict[str, float]:
    """Largest gradient of each part that has one."""
    parts: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            part = ".".join(name.split(".")[:3] if "backbone.backbone" in name else name.split(".")[:2])
            parts[part] = max(parts.get(part, 0.0), parameter.grad.abs().max().item())
    return parts


@pytest.mark.parametrize("unfrozen_again", [False, True])
def test_gradient_reaches_res4_but_not_the_frozen_stages(unfrozen_again):
    """As made, and after `requires_grad_(False)` and `unfreeze`: stem, res2, res3 and every norm stay as they are."""
    model = tiny_detector().train()
    if unfrozen_again:
        model.requires_grad_(False)
        model.unfreeze()
    model(**labelled_images()).loss.backward()
    parts = trained_parts(model)
    assert set(parts) >= {
        "backbone.res4", "region_stage.0", "region_stage.2", "proposals.conv", "proposals.objectness",
        "proposals.deltas", "heads.object_score", "heads.box_deltas", "heads.attribute_score", "heads.object_embedding",
    }  # fmt: skip
    assert not {"backbone.stem", "backbone.res2", "backbone.res3"} & set(parts)
    assert all(gradient > 0 for gradient in parts.values()), parts
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert len(norms) == 1 + 3 * 16 + 4  # stem, three in each block, four shortcuts
    assert not any(weight.requires_grad or weight.grad is not None for norm in norms for weight in norm.parameters())


@pytest.mark.parametrize("unfrozen_again", [False, True])
def test_gradient_reaches_the_last_stages_of_a_timm_backbone(unfrozen_again):
    model = tiny_pyramid_detector().train()
    if unfrozen_again:
        model.requires_grad_(False)
        model.unfreeze()
    model(**labelled_images()).loss.backward()
    parts = trained_parts(model)
    stages = {part.rpartition(".")[2] for part in parts if part.startswith("backbone.backbone")}
    assert stages == {"layer2", "layer3", "layer4"}  # two are frozen: the stem and layer1
    assert all(gradient > 0 for gradient in parts.values()), parts
    norms = [module for module in model.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(weight.requires_grad for norm in norms for weight in norm.parameters())


def test_depthwise_filters_may_stay_as_they_are():
    """The last stage of efficientnet-lite0: a filter a channel and its norms are frozen, the 1x1 convolutions learn."""
    model = tiny_pyramid_detector(
        backbone="tf_efficientnet_lite0", frozen_stages=7, frozen_depthwise=True, joined_features=True,
        region_feature_size=32 + 1280,
    ).train()  # fmt: skip
    model(**labelled_images()).loss.backward()
    last = model.backbone.backbone.blocks[-1][0]
    assert last.conv_dw.weight.grad is None and not last.conv_dw.weight.requires_grad
    assert last.conv_pw.weight.grad.abs().max() > 0 and last.conv_pwl.weight.grad.abs().max() > 0


@BOTH
def test_a_step_on_two_images_lowers_the_loss(make):
    model, batch = make().train(), labelled_images()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(2):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(model(**batch).loss.item())
    assert losses[0] > losses[1] > losses[2], losses
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), f"statistics of {name} moved"


@BOTH
def test_a_few_steps_learn_two_images(make):
    """After 40 steps the classes of the true boxes are known."""
    model, batch = make().train(), labelled_images()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    for step in range(40):
        loss = model(**(batch | {"draw_seeds": torch.tensor([step, step + 100])})).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
    given = {"boxes": batch["true_boxes"], "box_mask": batch["labels"] > 0}
    with torch.no_grad():
        found = model.eval()(batch["pixel_values"], pixel_mask=batch["pixel_mask"], **given)
    assert torch.equal(found.object_ids, batch["labels"])


def test_region_losses_reach_the_features_handed_on():
    """What a captioner does to the regions flows back into the backbone, from detected and from given boxes."""
    for given in ({}, {"boxes": torch.tensor([[[0.1, 0.1, 0.9, 0.9]]])}):
        model = tiny_detector()
        model(noise_image(96, 128), **given).region_features.square().sum().backward()
        parts = trained_parts(model)
        assert parts["backbone.res4"] > 0 and parts["region_stage.0"] > 0
        assert "backbone.res3" not in parts and "proposals.conv" not in parts


# ---- weights to begin with


def test_weights_of_a_timm_backbone(tmp_path):
    model = tiny_pyramid_detector()
    torch.manual_seed(5)
    source = timm.create_model("test_resnet", num_classes=10)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    model.load_backbone_weights(tmp_path / "weights.safetensors")
    for name, value in model.backbone.backbone.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="lacks .* weights of test_resnet, such as"):
        model.load_backbone_weights(tmp_path / "head.safetensors")


def test_weights_of_timms_resnet_fit_the_caffe_layout():
    """Every weight of backbone and region stage has its own in timm's ResNet-50, of the same shape."""
    with torch.device("meta"):
        theirs = {caffe_name(name): value.shape for name, value in timm.create_model("resnet50").state_dict().items()}
        config = tiny_detector_config(
            stem_channels=64, bottleneck_channels=64, res2_channels=256, region_feature_size=2048, stride_in_1x1=False
        )
        ours = UpDownDetector(config).state_dict()
    ours = {name: value.shape for name, value in ours.items() if name.startswith(("backbone.", "region_stage."))}
    assert {name: shape for name, shape in theirs.items() if "fc." not in name} == ours


def test_weights_of_another_layout(tmp_path):
    model = tiny_detector()
    save_file({"conv1.weight": torch.zeros(8, 3, 7, 7)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="strides in the 3x3 convolutions: set stride_in_1x1 to false"):
        model.load_backbone_weights(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="lacks .* weights of resnet50"):
        tiny_detector(stride_in_1x1=False).load_backbone_weights(tmp_path / "weights.safetensors")


# ---- a captioner that owns a detector


@pytest.fixture
def captioner() -> UpDownForImageCaptioning:
    made = tiny.tiny_captioner(vision_config=tiny_detector_config())
    made.region_source.load_state_dict(tiny_detector().state_dict())
    return made


@torch.no_grad()
def test_captions_from_pixels_are_those_from_features(captioner):
    batch = labelled_images()
    pixels = {name: batch[name] for name in ("pixel_values", "pixel_mask")}
    regions = tiny_detector()(**pixels)
    handed = {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}
    words = torch.tensor([[1, 5, 6, 7], [1, 9, 4, 8]])
    seen, told = captioner(words, **pixels), captioner(words, **handed)
    torch.testing.assert_close(seen.logits, told.logits, atol=1e-5, rtol=1e-5)
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 6}
    captions = captioner.generate(**pixels, **options)
    assert torch.equal(captions, captioner.generate(**handed, **options))
    for row in range(2):
        alone = noise_image(96, 128) if row == 0 else noise_image(64, 96, seed=1)
        logits = captioner(words[row : row + 1], pixel_values=alone).logits
        torch.testing.assert_close(seen.logits[row : row + 1], logits, atol=1e-3, rtol=1e-3)


def test_captioner_trains_through_the_detector(captioner):
    """Frozen as made; after `unfreeze_regions` the words reach res4 but never the frozen stages and norms."""
    batch = labelled_images()
    inputs = {"input_ids": torch.tensor([[1, 5, 6, 7], [1, 9, 4, 8]])}
    inputs |= {"labels": inputs["input_ids"], "pixel_values": batch["pixel_values"], "pixel_mask": batch["pixel_mask"]}
    captioner.train()(**inputs).loss.backward()
    assert all(parameter.grad is None for parameter in captioner.region_source.parameters())
    captioner.unfreeze_regions()
    captioner(**inputs).loss.backward()
    parts = trained_parts(captioner.region_source)
    assert set(parts) == {"backbone.res4", "region_stage.0", "region_stage.1", "region_stage.2"}
    assert all(gradient > 0 for gradient in parts.values())
    norms = [module for module in captioner.modules() if isinstance(module, FrozenBatchNorm2d)]
    assert not any(weight.requires_grad for norm in norms for weight in norm.parameters())


def test_captioner_with_a_detector_is_saved_whole(captioner, tmp_path):
    captioner.save_pretrained(tmp_path)
    loaded = UpDownForImageCaptioning.from_pretrained(tmp_path)
    assert type(loaded.region_source) is UpDownDetector
    assert loaded.config.vision_config.anchor_sizes == [[16, 32, 64]] and loaded.region_source.config.max_regions == 12
    image, words = noise_image(96, 128), torch.tensor([[1, 5, 6]])
    with torch.no_grad():
        expected = captioner(words, pixel_values=image).logits
        torch.testing.assert_close(loaded(words, pixel_values=image).logits, expected)


def test_phrases_and_further_names_want_labels():
    batch = labelled_images()
    given = (
        {"other_object_ids": torch.ones(2, 3, 1).long()},
        {"phrase_boxes": batch["true_boxes"], "phrase_embeds": torch.ones(2, 3, 6)},
    )
    for more in given:
        with pytest.raises(ValueError, match="are learnt beside labels"):
            tiny_detector(phrase_embedding_size=6)(batch["pixel_values"], **more)


@pytest.mark.parametrize(
    ("boxes", "embeds", "message"),
    [
        (torch.zeros(2, 3, 4), None, r"phrase_boxes need phrase_embeds of shape \(2, 'P', 6\), not None"),
        (torch.zeros(2, 3, 4), torch.ones(2, 3, 5), r"phrase_embeds of shape \(2, 'P', 6\), not \(2, 3, 5\)"),
        (None, torch.ones(2, 3, 6), r"phrase_embeds \(2, 3, 6\) need phrase_boxes \(2, 3, 4\), not None"),
        (torch.zeros(2, 2, 4), torch.ones(2, 3, 6), r"need phrase_boxes \(2, 3, 4\), not \(2, 2, 4\)"),
        (torch.full((2, 3, 4), 2.0), torch.ones(2, 3, 6), "phrase_boxes 0 of image 1, .*, leaves the image"),
    ],
)
def test_mistakes_in_the_phrases(boxes, embeds, message):
    with pytest.raises(ValueError, match=message):
        tiny_detector(phrase_embedding_size=6)(**labelled_images(), phrase_boxes=boxes, phrase_embeds=embeds)
