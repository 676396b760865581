"""UNITER's three forms of statements about two images: scores and losses of its own code, and mistakes named."""

from pathlib import Path
from typing import Any

import pytest
import torch

from modeling_updown import UpDownFusionForImagePairs
from tests.training.convert.test_uniter import (  # noqa: F401 - golden and options are fixtures
    SIZE,
    assert_near,
    converted,
    converted_from,
    golden,
    inputs,
    layer,
    options,
    source,
)
from training.convert.uniter_pairs import pair_form

pytestmark = pytest.mark.filterwarnings("ignore:the options name none of the")
FORMS = {"paired": "pair", "triplet": "triplet", "paired_attn": "pair_biattention"}
NLVR2 = {"uniter.embeddings.token_type_embeddings.weight": (3, SIZE), **layer("nlvr2_output", 2 * SIZE, 2)}


def pairs_of(golden: dict[str, torch.Tensor], form: str) -> dict[str, torch.Tensor]:  # noqa: F811
    """The reference's batch as statements and twice as many images, each image's regions first in its row."""
    if form != "triplet":  # two rows a statement, one with each image
        given = inputs(golden, "nlvr2_paired")
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(given[name][::2], given[name][1::2])
            given[name] = given[name][::2]
        return given
    joint, kinds = inputs(golden, "nlvr2_triplet"), golden["in.nlvr2_triplet.img_type_ids"]
    given = {name: joint[name] for name in ("input_ids", "attention_mask")}
    chosen = [row.eq(kind).nonzero().flatten() for row in kinds for kind in (1, 2)]
    most = max(map(len, chosen))
    given["region_mask"] = torch.arange(most) < torch.tensor([len(places) for places in chosen])[:, None]
    for name in ("region_features", "region_boxes"):
        padded = joint[name].new_zeros(len(chosen), most, joint[name].shape[-1])
        for image, places in enumerate(chosen):
            padded[image, : len(places)] = joint[name][image // 2, places]
        given[name] = padded
    return given


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_scores_and_loss_are_those_of_the_reference(golden, options, form):  # noqa: F811
    model = converted(options, variant=f"nlvr2_{form}")
    assert type(model) is UpDownFusionForImagePairs and model.config.image_pairs == FORMS[form]
    assert model.config.id2label == {0: "false", 1: "true"}
    given, task = pairs_of(golden, form), "nlvr2_triplet" if form == "triplet" else "nlvr2_paired"
    output = model(**given, labels=golden[f"in.{task}.targets"])
    assert_near(output.logits, golden[f"out.nlvr2_{form}.scores"])
    assert_near(output.loss, golden[f"out.nlvr2_{form}.loss"].mean())
    order = torch.tensor([[4, 5], [0, 1]])
    assert_near(model(**at(given, [2, 0]), image_index=order).logits, golden[f"out.nlvr2_{form}.scores"][[2, 0]])


def at(given: dict[str, torch.Tensor], statements: list[int]) -> dict[str, torch.Tensor]:
    """The same images with these statements alone."""
    return {name: rows[statements] if name in ("input_ids", "attention_mask") else rows for name, rows in given.items()}


@torch.no_grad()
def test_what_each_image_sees_of_the_other_is_the_references(golden, options):  # noqa: F811
    model = converted(options, variant="nlvr2_paired_attn")
    given = pairs_of(golden, "paired_attn")
    caught: list[torch.Tensor] = []
    model.answers.register_forward_hook(lambda module, arguments, output: caught.append(arguments[0]))
    model(**given)
    pooled = [golden[f"out.nlvr2_paired_attn.pool_{side}"] for side in ("left", "right")]
    assert_near(caught[0], torch.cat(pooled, dim=1))


def test_the_form_is_read_off_the_weights(tmp_path: Path) -> None:
    pair = converted_from(source(**NLVR2), tmp_path).model
    assert pair.config.image_pairs == "pair" and pair.config.num_images == 2
    weights = source(**(NLVR2 | layer("nlvr2_output", SIZE, 2)))
    assert pair_form(weights) == "triplet"
    model = converted_from(weights, tmp_path).model
    kinds = weights["uniter.embeddings.token_type_embeddings.weight"]
    places = model.fusion.region_embedding.of_images.weight
    torch.testing.assert_close(places, torch.stack([torch.zeros(SIZE), kinds[2] - kinds[1]]))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"uniter.embeddings.token_type_embeddings.weight": (2, SIZE)}, "token_type_embeddings.weight should be 3 x 8"),
        ({"nlvr2_output.weight": (3, 2 * SIZE)}, "nlvr2_output.weight should be 2 x 16, it is 3 x 16"),
        ({"attn1.in_proj_weight": (3 * SIZE, SIZE)}, "missing attn1.in_proj_bias, attn1.out_proj.bias"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        converted_from(source(**(NLVR2 | changed)), tmp_path)
