"""Moment-DETR's own numbers: outputs, positions, matching, losses, gradients and windows of its released code.

Each variant is made by `updown convert-checkpoint moment-detr` from the reference's weights and options.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from modeling_updown import UpDownForMomentRetrieval
from modeling_updown.moment_layers_updown import sine_positions
from modeling_updown.moment_losses_updown import (
    label_loss,
    match_queries,
    saliency_loss,
    span_costs,
    span_losses,
)
from modeling_updown.moment_spans_updown import (
    centre_width,
    generalized_span_iou,
    span_iou,
    span_overlap,
    start_end,
)
from tests.shared_files import shared
from training.convert.checkpoint import convert_checkpoint
from training.convert.moment_detr import joint_projections, moment_names

GOLDEN = "golden/reference/moment_detr"
VARIANTS = ("base", "txtpos", "noaux", "prenorm", "ce")
RANKED = VARIANTS[:-1]  # of ce the reference ranks no windows
CLIP_SECONDS = 2.0
LOSSES = {"loss_span": "span", "loss_giou": "giou", "loss_label": "label", "loss_contrastive_align": "alignment"}


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return json.loads(shared(f"{GOLDEN}.json").read_text())


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(shared(f"{GOLDEN}.safetensors"))


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, *, atol: float = 5e-5) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-5, atol=atol)


def weights_of(golden: dict[str, torch.Tensor], facts: dict[str, Any], variant: str) -> dict[str, torch.Tensor]:
    """The state dict that a variant has, by the reference's names."""
    prefix = facts["variants"][variant]["weights"].split(" ")[0]
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def models(
    golden: dict[str, torch.Tensor], facts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, UpDownForMomentRetrieval]:
    """Each variant, converted, saved and loaded again."""
    folder, made = tmp_path_factory.mktemp("moment_detr"), {}
    for variant in VARIANTS:
        path = folder / f"{variant}.safetensors"
        save_file(weights_of(golden, facts, variant), path)
        options = facts["config"] | facts["variants"][variant]["options_changed"]
        convert_checkpoint("moment-detr", path, config={"config": options}, output=folder / variant)
        made[variant] = UpDownForMomentRetrieval.from_pretrained(folder / variant)
    return made


def named(variant: str, name: str) -> str:
    return name if variant == "base" else f"{variant}.{name}"


@pytest.fixture(scope="module")
def inputs(golden: dict[str, torch.Tensor], facts: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The reference's batch: three clips of 12, 7 and 9 steps of 2 s, and a sentence of each."""
    steps = golden["in.src_vid_mask"].bool()
    windows = [row["relevant_windows"] for row in facts["metas"]]
    labels = torch.full((len(windows), max(map(len, windows)), 2), -1.0)
    for row, spans in enumerate(windows):
        labels[row, : len(spans)] = torch.tensor(spans)
    pairs = torch.stack([golden["in.saliency_pos_labels"], golden["in.saliency_neg_labels"]], dim=-1)
    return {
        "region_features": golden["in.src_vid"],
        "region_mask": steps,
        "region_seconds": CLIP_SECONDS * torch.arange(steps.shape[1]).expand(steps.shape),
        "duration_seconds": torch.tensor([float(row["duration"]) for row in facts["metas"]]),
        "text_features": golden["in.src_txt"],
        "text_mask": golden["in.src_txt_mask"].bool(),
        "labels": labels,
        "saliency_labels": CLIP_SECONDS * pairs,
    }


def found_by(model: UpDownForMomentRetrieval, inputs: dict[str, torch.Tensor]) -> tuple[Any, Any, torch.Tensor]:
    """What the head finds, the steps and the words' mask."""
    words, mask = model.read_words(None, None, None, inputs["text_features"], inputs["text_mask"])
    regions = model.get_regions(None, *(inputs.get(f"region_{name}") for name in ("features", "boxes", "mask")))
    regions.region_seconds = inputs["region_seconds"]
    read, steps, _ = model.read_regions(regions, inputs["duration_seconds"])
    clips = model.pool_steps(read, steps)
    return model.moments(clips, steps, words, mask), steps, mask


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_those_of_the_reference(golden, models, inputs, variant):
    model, real = models[variant], inputs["region_mask"]
    output = model(**inputs, output_hidden_states=True)
    assert_near(output.logits, golden[named(variant, "out.pred_logits")])
    theirs = golden[named(variant, "out.pred_spans")]
    assert_near(output.span_predictions, theirs.view(output.span_predictions.shape))
    saliency = golden[named(variant, "out.saliency_scores")]
    assert_near(output.saliency_scores[real], saliency[real])
    assert output.saliency_scores[~real].eq(float("-inf")).all()
    assert_near(output.hidden_states[0], golden[named(variant, "out.transformer.src")])
    assert_near(output.hidden_states[-1], golden[named(variant, "out.transformer.memory")])


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_and_projections_are_those_of_the_reference(golden, facts, models, inputs, variant):
    found, steps, _ = found_by(models[variant], inputs)
    first = found.layers[0]
    auxiliary = named(variant, "out.aux_outputs.0.")
    if f"{auxiliary}pred_logits" in golden:
        assert_near(first.logits, golden[f"{auxiliary}pred_logits"])
        assert_near(first.spans, golden[f"{auxiliary}pred_spans"].view(first.spans.shape))
    assert_near(found.saliency, golden[named(variant, "out.saliency_scores")])  # padding too
    if named(variant, "out.proj_queries") not in golden:
        assert found.word_embeds is None and first.embeds is None
        return
    assert_near(found.layers[-1].embeds, golden[named(variant, "out.proj_queries")])
    assert_near(found.word_embeds, golden[named(variant, "out.proj_txt_mem")])
    weights = weights_of(golden, facts, variant)  # the projection that no loss reads is not kept
    root, count = "contrastive_align_projection_vid", steps.mask.shape[1]
    projected = found.states[-1][:, :count] @ weights[f"{root}.weight"].T + weights[f"{root}.bias"]
    assert_near(F.normalize(projected, dim=-1), golden[named(variant, "out.proj_vid_mem")])


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_positions_are_those_of_the_reference(golden, models, inputs, variant):
    _, steps, _ = found_by(models[variant], inputs)
    theirs = golden[named(variant, "out.pos_vid")]
    ours = sine_positions(2 * torch.pi * steps.ends / steps.durations[:, None], theirs.shape[-1])
    assert_near(ours, theirs)
    padding = ~golden[named(variant, "out.transformer.key_padding_mask")]
    assert torch.equal(torch.cat([steps.mask, inputs["text_mask"]], dim=1), padding)
    of_words = golden[named(variant, "out.transformer.pos")][:, steps.mask.shape[1] :]
    head = models[variant].moments
    if head.word_positions is None:
        assert not of_words.any()
    else:
        assert_near(head.word_positions(head.text_projection(inputs["text_features"])), of_words)


@pytest.mark.parametrize("variant", VARIANTS)
def test_matching_is_that_of_the_reference(golden, models, inputs, variant):
    model = models[variant]
    with torch.no_grad():
        found, steps, _ = found_by(model, inputs)
    there = (inputs["labels"] >= 0).all(dim=-1)
    targets = model.moments.targets(inputs["labels"].clamp(min=0), steps)
    compared = 0
    for name, layer in (("last", found.layers[-1]), ("aux0", found.layers[0])):
        if named(variant, f"out.cost.{name}.0") not in golden:
            continue
        costs = model.moments.costs(layer, targets)
        row, query, span = model.moments.matched(layer, targets, there)
        for clip in range(len(there)):
            assert_near(costs[clip][:, there[clip]], golden[named(variant, f"out.cost.{name}.{clip}")])
            assert torch.equal(query[row == clip], golden[named(variant, f"out.match.{name}.{clip}.pred")])
            assert torch.equal(span[row == clip], golden[named(variant, f"out.match.{name}.{clip}.target")])
            compared += 1
    assert compared == (3 if variant == "noaux" else 6)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_spans_to_learn_are_those_of_the_reference(golden, models, inputs, variant):
    _, steps, _ = found_by(models[variant], inputs)
    targets = models[variant].moments.targets(inputs["labels"].clamp(min=0), steps)
    name = "in.span_labels_ce" if variant == "ce" else "in.span_labels"
    for row in range(3):
        theirs = golden[f"{name}.{row}"]
        assert_near(targets[row, : len(theirs)], theirs)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_those_of_the_reference(golden, facts, models, inputs, variant):
    output, expected = models[variant](**inputs), facts["variants"][variant]["losses_value"]
    compared = {"loss_saliency": output.losses["saliency"]}
    for theirs, ours in LOSSES.items():
        for end in ("", "_0"):
            if f"{ours}{end}" in output.losses:
                compared[f"{theirs}{end}"] = output.losses[f"{ours}{end}"]
    for name, value in compared.items():
        assert value.item() == pytest.approx(expected[name], abs=1e-4, rel=1e-5), name
    left = {name for name in expected.keys() - compared.keys() if not name.startswith("class_error")}
    assert all(expected[name] == 0 for name in left) and left <= {"loss_giou", "loss_giou_0"}  # of bins
    assert len(output.losses) == len(compared)
    assert output.loss.item() == pytest.approx(facts["variants"][variant]["loss_total"], rel=1e-5)


@pytest.mark.parametrize("variant", RANKED)
def test_wrong_classes_are_those_of_the_reference(facts, models, inputs, variant):
    """The reference's `class_error`: percent of the matched queries that are taken for background."""
    with torch.no_grad():
        found, steps, _ = found_by(models[variant], inputs)
    there = (inputs["labels"] >= 0).all(dim=-1)
    targets = models[variant].moments.targets(inputs["labels"].clamp(min=0), steps)
    row, query, _ = models[variant].moments.matched(found.layers[-1], targets, there)
    wrong = found.layers[-1].logits[row, query].argmax(dim=-1).float().mean() * 100
    assert wrong.item() == pytest.approx(facts["variants"][variant]["losses_value"]["class_error"], abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_the_reference(golden, models, inputs, variant):
    model = models[variant]
    model.zero_grad()
    model(**inputs).loss.backward()
    ours = {name.removeprefix("moments."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    root = named(variant, "grad.")
    theirs = {name.removeprefix(root): value for name, value in golden.items() if name.startswith(root)}
    names = {other: own for own, other in moment_names(golden_names(model), texts=True).items()}
    joint = {other: own for own, other in joint_projections(golden_names(model)).items()}
    compared = 0
    for name, value in theirs.items():
        attention, _, part = name.partition(".in_proj_")
        if part:
            value_of = [ours[f"{joint[attention]}.{third}.{part}"] for third in ("query", "key", "value")]
            assert_near(torch.cat(value_of), value, atol=1e-4)
        else:
            assert_near(ours[names[name]], value, atol=1e-4)
        compared += 1
    assert compared >= 8


def golden_names(model: UpDownForMomentRetrieval) -> dict[str, torch.Tensor]:
    """The names of the reference's weights of layers that are numbered, as the model has them."""
    config, empty = model.config, torch.empty(0)
    counts = {
        "transformer.encoder.layers": config.moment_encoder_layers,
        "transformer.decoder.layers": config.moment_decoder_layers,
        "input_vid_proj": config.moment_input_layers,
        "input_txt_proj": config.moment_input_layers,
    }
    names = {f"{root}.{number}.x": empty for root, count in counts.items() for number in range(count)}
    return names | {"contrastive_align_projection_txt.weight": empty, "transformer.encoder.norm.weight": empty}


@torch.no_grad()
@pytest.mark.parametrize("variant", RANKED)
def test_windows_are_those_of_the_reference(facts, models, inputs, variant):
    model = models[variant]
    output = model(**inputs)
    theirs = facts["variants"][variant]
    for ours, windows in zip(model.predict_spans(output), theirs["ranked_windows"], strict=True):
        assert_near(ours, torch.tensor(windows), atol=1.5e-4)  # of four digits
    found = model.predict_spans(output, round_seconds=CLIP_SECONDS)
    for ours, windows in zip(found, theirs["ranked_windows_processed"], strict=True):
        assert_near(ours, torch.tensor(windows), atol=1.5e-4)


# -- functions alone ---------------------------------------------------------------------------------------------------


def test_span_functions_are_those_of_the_reference(golden):
    ours, others = golden["spans.in.a_xx"], golden["spans.in.b_xx"]
    assert_near(centre_width(ours), golden["spans.out.a_cxw"])
    assert_near(centre_width(others), golden["spans.out.b_cxw"])
    assert_near(start_end(golden["spans.in.cxw"]), golden["spans.out.xx"])
    iou, union = span_iou(ours, others)
    assert_near(iou, golden["spans.out.iou"])
    assert_near(union, golden["spans.out.union"])
    assert_near(generalized_span_iou(ours, others), golden["spans.out.giou"])
    lengths = others[:, 1] - others[:, 0]
    share = span_overlap(ours, others) / lengths
    assert_near(share, golden["spans.out.intersection_over_b"])


def test_the_matcher_is_that_of_the_reference(golden, facts):
    """No target, more targets than queries, one, three."""
    logits, spans = golden["matcher.in.pred_logits"], golden["matcher.in.pred_spans"]
    given = [golden[f"matcher.in.spans.{row}"] for row in range(len(logits))]
    wanted, there = torch.zeros(4, 7, 2), torch.zeros(4, 7, dtype=torch.bool)
    for row, own in enumerate(given):
        wanted[row, : len(own)], there[row, : len(own)] = own, True
    distance, apart = span_costs(spans, wanted)
    options = facts["config"]
    likely = logits.softmax(dim=-1)[..., :1]
    costs = options["set_cost_span"] * distance + options["set_cost_giou"] * apart - options["set_cost_class"] * likely
    matched = row_of, query, span = match_queries(costs, there)
    for row in range(4):
        assert_near(costs[row][:, there[row]], golden[f"matcher.out.{row}.cost"])
        assert torch.equal(query[row_of == row], golden[f"matcher.out.{row}.pred"])
        assert torch.equal(span[row_of == row], golden[f"matcher.out.{row}.target"])
    losses = span_losses(spans, wanted, matched)
    assert_near(losses["span"], golden["matcher.out.loss_span"])
    assert_near(losses["giou"], golden["matcher.out.loss_giou"])
    label = label_loss(logits, matched, background_weight=options["eos_coef"])
    assert_near(label, golden["matcher.out.loss_label"])


@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_saliency_is_that_of_the_reference(golden, margin):
    pairs = torch.stack([golden["saliency.in.pos"], golden["saliency.in.neg"]], dim=-1)
    ours = saliency_loss(golden["saliency.in.scores"], pairs, margin=margin)
    assert_near(ours, golden[f"saliency.out.loss_margin{margin}"])


def test_sine_positions_are_those_of_the_reference(golden):
    counts = golden["position.in.mask"].cumsum(dim=1)
    assert_near(sine_positions(counts, 32), golden["position.out.plain"])
    share = counts / (counts[:, -1:] + 1e-6)
    assert_near(sine_positions(2 * torch.pi * share, 32), golden["position.out.normalized"])


# -- conversion --------------------------------------------------------------------------------------------------------


def refused(weights: dict[str, torch.Tensor], folder: Path, **options: Any) -> str:
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError) as caught:
        convert_checkpoint("moment-detr", folder / "model.safetensors", config=options)
    return str(caught.value)


def test_weights_and_options_that_do_not_fit_are_named(golden, facts, tmp_path):
    weights, options = weights_of(golden, facts, "base"), facts["config"]
    assert "no matrix query_embed.weight" in refused({"x": torch.zeros(2)}, tmp_path)
    assert "unexpected more" in refused(weights | {"more": torch.zeros(2)}, tmp_path, **options)
    lacking = {name: value for name, value in weights.items() if name != "saliency_proj.bias"}
    assert "missing saliency_proj.bias" in refused(lacking, tmp_path, **options)
    assert "has 2 outputs: it is 'l1'" in refused(weights, tmp_path, **options | {"span_loss_type": "ce"})
    assert "set it to 'l1' or 'ce'" in refused(weights, tmp_path, **options | {"span_loss_type": "l2"})
    assert "a multiple of moment_num_heads=5" in refused(weights, tmp_path, **options | {"nheads": 5})
    broken = weights | {"class_embed.bias": torch.tensor([float("nan"), 0.0])}
    assert "NaN or infinity in class_embed.bias" in refused(broken, tmp_path, **options)
    name = "transformer.encoder.layers.0.self_attn.in_proj_bias"
    assert f"{name} should be 96, it is 95" in refused(weights | {name: weights[name][1:].clone()}, tmp_path, **options)
