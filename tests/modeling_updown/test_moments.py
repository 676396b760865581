"""Moment retrieval: both heads on the fusion model; a batch is its rows, steps are what their regions say, mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForVideoClassification

from modeling_updown import UpDownForMomentRetrieval, UpDownFusionConfig
from modeling_updown.clip_steps_updown import pooled_steps, steps_of
from modeling_updown.moment_map_updown import run_maxima, segment_means
from tests.tiny import save_tiny_moments, tiny_fusion_config, tiny_grid_config, tiny_moments

FORMS: dict[str, dict[str, Any]] = {
    "states": {},
    "embeddings": {"moment_inputs": "embeddings", "moment_pooling": "attention"},
    "bins": {"moment_span_loss": "cross_entropy", "moment_bins": 8, "moment_pre_norm": True},
    "positions": {"moment_text_positions": 9, "moment_alignment_size": 0, "moment_inputs": "embeddings"},
    "map": {"moment_head": "map"},
    "sentence": {"moment_pooling": "sentence", "moment_changes": True},
    "map_sentence": {"moment_head": "map", "moment_inputs": "embeddings", "moment_pooling": "sentence"},
    "map_changes": {"moment_head": "map", "moment_inputs": "embeddings", "moment_changes": True},
    "map_embeddings": {"moment_head": "map", "moment_inputs": "embeddings"},
}
LABELS = torch.tensor([[[0.0, 3.0], [4.0, 7.0]], [[1.0, 2.0], [-1.0, -1.0]], [[0.0, 2.0], [-1.0, -1.0]]])


def clips() -> dict[str, torch.Tensor]:
    """Three clips of 4, 2 and 1 steps, of two regions each and one, and a sentence of each."""
    draw = torch.Generator().manual_seed(0)
    seconds = torch.tensor([[0.0, 0, 2, 2, 4, 4, 6, 6], [0.0, 0, 1.5, 1.5, 9, 9, 9, 9], [0.0, 9, 9, 9, 9, 9, 9, 9]])
    mask = torch.arange(8) < torch.tensor([8, 4, 1])[:, None]
    corners = torch.rand(3, 8, 2, generator=draw) / 2
    return {
        "input_ids": torch.tensor([[2, 9, 8, 7, 3], [2, 11, 3, 0, 0], [12, 0, 0, 0, 0]]),
        "region_features": torch.randn(3, 8, 12, generator=draw),
        "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
        "region_mask": mask,
        "region_seconds": seconds,
    }


def row_of(inputs: dict[str, torch.Tensor], row: int, *, regions: int, words: int) -> dict[str, torch.Tensor]:
    """One clip and its sentence without padding."""
    cut = {name: value[row : row + 1, :regions] for name, value in inputs.items() if name != "input_ids"}
    return {**cut, "input_ids": inputs["input_ids"][row : row + 1, :words]}


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, *, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_rows(form):
    model, inputs = tiny_moments(**FORMS[form]), clips()
    for name in ("region_features", "region_boxes", "region_seconds"):  # padding may hold anything
        inputs[name][~inputs["region_mask"]] = float("nan")
    whole = model(**inputs, output_attentions=True)
    for row, (regions, words, steps) in enumerate(((8, 5, 4), (4, 3, 2), (1, 1, 1))):
        alone = model(**row_of(inputs, row, regions=regions, words=words), output_attentions=True)
        assert_near(whole.logits[row], alone.logits[0])
        assert_near(whole.pred_spans[row], alone.pred_spans[0])
        assert_near(whole.span_scores[row], alone.span_scores[0])
        assert_near(whole.step_seconds[row, :steps], alone.step_seconds[0])
        if whole.saliency_scores is None:
            continue
        assert_near(whole.saliency_scores[row, :steps], alone.saliency_scores[0])
        assert whole.saliency_scores[row, steps:].eq(float("-inf")).all()
        for weights, own in zip(whole.attentions, alone.attentions, strict=True):
            assert_near(weights[row, :, :steps], own[0])
            assert not weights[row, :, steps:].any()
            assert_near(weights.sum(dim=-1), torch.ones(weights.shape[:2]))


@torch.no_grad()
@pytest.mark.parametrize("form", ["states", "embeddings", "map", "sentence", "map_sentence"])
def test_the_order_of_regions_says_nothing(form):
    model, inputs = tiny_moments(**FORMS[form]), clips()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    shuffled = {name: value if name == "input_ids" else value[:, order] for name, value in inputs.items()}
    assert_near(model(**shuffled).logits, model(**inputs).logits)


@torch.no_grad()
@pytest.mark.parametrize("form", ["states", "map"])
def test_when_a_step_is_says_something(form):
    """Reversed in time, a clip has other spans; the same regions at other places would be told alike otherwise."""
    model, inputs = tiny_moments(**FORMS[form]), clips()
    turned = {**inputs, "region_seconds": 6 - inputs["region_seconds"], "duration_seconds": torch.tensor([8.0, 8, 8])}
    turned["region_seconds"][~inputs["region_mask"]] = 0
    first = model(**{**inputs, "duration_seconds": torch.tensor([8.0, 8, 8])})
    assert (model(**turned).span_scores[0] - first.span_scores[0]).abs().max() > 1e-3


@torch.no_grad()
def test_every_step_is_read_by_itself():
    model, inputs = tiny_moments(), clips()
    regions = model.get_regions(*(None, *(inputs[f"region_{name}"] for name in ("features", "boxes", "mask"))))
    regions.region_seconds = inputs["region_seconds"]
    read, steps, _ = model.read_regions(regions, None)
    vectors = model.pool_steps(read, steps)
    for clip in range(3):
        for step in range(int(steps.mask[clip].sum())):
            own = steps.of_regions[clip] == step
            alone = model.fusion(
                region_features=inputs["region_features"][clip : clip + 1, own],
                region_boxes=inputs["region_boxes"][clip : clip + 1, own],
            )
            assert_near(vectors[clip, step], alone.region_states[0].mean(dim=0))


@torch.no_grad()
@pytest.mark.parametrize("form", ["states", "map", "sentence"])
def test_frames_as_images_are_a_clip(form):
    """Four frames of two regions, joined by image_index, give what one row of eight regions gives."""
    model, inputs = tiny_moments(**FORMS[form]), row_of(clips(), 0, regions=8, words=5)
    frames = {name: value.view(4, 2, *value.shape[2:]) for name, value in inputs.items() if name != "input_ids"}
    index = torch.arange(4)[None]
    joined = model(inputs["input_ids"], **frames, image_index=index)
    assert_near(joined.logits, model(**inputs).logits)
    order = torch.tensor([[3, 0, 2, 1]])  # in whatever order they are named
    assert_near(model(inputs["input_ids"], **frames, image_index=order).logits, joined.logits)
    missing = model(inputs["input_ids"], **frames, image_index=torch.tensor([[0, 1, -1, -1]]))
    assert_near(missing.step_seconds, torch.tensor([[[0.0, 2.0], [2.0, 4.0]]]))


@torch.no_grad()
@pytest.mark.parametrize("form", ["states", "map"])
def test_an_image_is_a_clip_of_one_frame(form):
    fields = {**FORMS[form], "vision_config": tiny_grid_config()}
    model = tiny_moments(**fields)
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    words = torch.tensor([[2, 9, 8, 3]])
    alone = model(words, pixel_values=pixels[:1])
    assert alone.step_seconds.tolist() == [[[0.0, 2.0]]]
    regions = model.get_regions(pixels)
    first = {"region_features": regions.region_features[:1], "region_boxes": regions.region_boxes[:1]}
    assert_near(model(words, **first, region_seconds=torch.zeros(1, 9)).logits, alone.logits)
    frames = {"pixel_values": pixels, "image_index": torch.tensor([[0, 1, 2]])}
    clip = model(words, **frames, region_seconds=torch.tensor([0.0, 3.0, 6.0]))
    assert clip.step_seconds.tolist() == [[[0.0, 3.0], [3.0, 6.0], [6.0, 9.0]]]
    given = {
        "region_features": regions.region_features.reshape(1, 27, -1),
        "region_boxes": regions.region_boxes.reshape(1, 27, 4),
    }
    seconds = torch.tensor([0.0, 3.0, 6.0]).repeat_interleave(9)[None]
    assert_near(model(words, **given, region_seconds=seconds).logits, clip.logits)
    with pytest.raises(ValueError, match="give region_seconds"):  # frames are not all at 0
        model(words, **frames)
    with pytest.raises(ValueError, match="region_seconds of 2 frames must be finite numbers, one for each of 3 images"):
        model(words, **frames, region_seconds=torch.tensor([0.0, 3.0]))


@torch.no_grad()
@pytest.mark.parametrize("form", ["states", "map", "sentence"])
def test_sentences_share_a_clip(form):
    model, inputs = tiny_moments(**FORMS[form]), clips()
    sentences = torch.tensor([[2, 9, 3], [2, 11, 3], [2, 7, 3], [2, 8, 3]])
    index = torch.tensor([1, 0, 1, 2])
    regions = {name: value for name, value in inputs.items() if name != "input_ids"}
    shared = model(sentences, **regions, image_index=index)
    for row, clip in enumerate(index.tolist()):
        own = {name: value[clip : clip + 1] for name, value in regions.items()}
        assert_near(shared.logits[row], model(sentences[row : row + 1], **own).logits[0])


# -- the map -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_map_is_that_of_loops():
    model, inputs = tiny_moments(**FORMS["map_embeddings"]), row_of(clips(), 0, regions=8, words=5)
    head, output = model.moments, model(**inputs)
    words, _ = model.read_words(inputs["input_ids"], None, None, None, None)
    regions = model.get_regions(*(None, *(inputs[f"region_{name}"] for name in ("features", "boxes", "mask"))))
    regions.region_seconds = inputs["region_seconds"]
    read, steps, _ = model.read_regions(regions, None)
    vectors = model.pool_steps(read, steps)
    segments = head.clip_projection(vectors)[0]  # four steps of 2 s are four segments
    text = head.of_text(head.text_projection(words)[0].mean(dim=0))
    states = torch.zeros(4, 4, 32)
    for first in range(4):
        for last in range(first, 4):
            joint = head.of_runs(segments[first : last + 1].amax(dim=0)) * text
            states[first, last] = joint / joint.norm()
    below = torch.ones(4, 4).tril(-1).bool()
    for layer in head.convolutions:
        states = F.conv2d(states.permute(2, 0, 1)[None], layer.weight, layer.bias, padding=1).relu()[0].permute(1, 2, 0)
        states[below] = 0
    logits = head.score(states).squeeze(-1)
    assert_near(output.logits[0][~below], logits[~below])
    assert output.logits[0][below].eq(torch.finfo(torch.float32).min).all()
    spans = [[2.0 * first, 2.0 * (last + 1)] for first in range(4) for last in range(first, 4)]
    assert output.pred_spans[0].tolist() == spans
    assert_near(output.span_scores[0], logits[~below].sigmoid())


def test_segments_are_means_over_time():
    draw = torch.Generator().manual_seed(0)
    seconds, durations = torch.tensor([[0.7, 1.0, 2.9, 4.0]]), torch.tensor([5.0])
    steps = steps_of(seconds, torch.ones(1, 4).bool(), durations, default_seconds=1.0)
    vectors = torch.randn(1, 4, 3, generator=draw)
    fine = torch.stack([vectors[0, steps.at(torch.tensor([[time]]))[0, 0]] for time in torch.arange(0.005, 5, 0.01)])
    for count in (1, 3, 5):
        expected = torch.stack([part.mean(dim=0) for part in fine.tensor_split(count)])
        assert_near(segment_means(vectors, steps, count)[0], expected, atol=0.03)
    assert torch.equal(run_maxima(vectors)[0, 1, 3], vectors[0, 1:4].amax(dim=0))


# -- what is learnt and told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_the_spans_of_a_few_clips(form):
    torch.manual_seed(0)
    quiet = {"moment_input_dropout": 0.0, "moment_dropout": 0.0}
    model, inputs = tiny_moments(**FORMS[form], **quiet), clips()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    pairs = torch.tensor([[[1.0, 7.5]], [[1.0, 2.5]], [[-1.0, -1.0]]])
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        output = model(**inputs, labels=LABELS, saliency_labels=pairs)
        first = output.loss.item() if first is None else first
        output.loss.backward()
        optimizer.step()
    assert output.loss.item() < 0.6 * first
    used = {name for name, weight in model.named_parameters() if weight.grad is not None}
    unused = {name for name, _ in model.named_parameters()} - used
    assert all(name.startswith("fusion.") for name in unused)
    best = model.predict_spans(model.eval()(**inputs), most=1)[1][0]
    overlap = min(best[1].item(), 2.0) - max(best[0].item(), 1.0)
    assert form.startswith("map") or overlap > 0.3


@torch.no_grad()
def test_spans_are_ranked_suppressed_and_rounded():
    model, inputs = tiny_moments(**FORMS["map"]), clips()
    output = model(**inputs)
    everything = model.predict_spans(output, max_iou=1.0)
    assert [len(found) for found in everything] == [10, 10, 10]
    kept = model.predict_spans(output)  # by config.moment_nms_iou
    assert all(1 <= len(found) < 10 for found in kept)
    for found, every in zip(kept, everything, strict=True):
        assert torch.equal(found[0], every[0]) and found[:, 2].tolist() == sorted(found[:, 2].tolist(), reverse=True)
    assert [len(found) for found in model.predict_spans(output, most=2, max_iou=1.0)] == [2, 2, 2]
    rounded = model.predict_spans(output, round_seconds=4.0)[0]
    assert set(rounded[:, :2].flatten().tolist()) <= {0.0, 4.0, 8.0}


@torch.no_grad()
def test_spans_stay_in_their_clip():
    model, inputs = tiny_moments(), clips()
    model.moments.spans.layers[-1].bias += 4  # wide, centred at the end
    output = model(**inputs)
    ends = output.step_seconds[:, -1:, 1]
    assert (output.pred_spans[..., 1] == ends).all() and (output.pred_spans >= 0).all()
    assert (output.pred_spans[..., 0] < ends).all()


def test_gradients_of_half_precision_are_finite():
    model, inputs = tiny_moments(), clips()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**inputs, labels=LABELS).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    for form in ("states", "map", "sentence"):
        half = tiny_moments(**FORMS[form]).to(torch.bfloat16)
        with torch.no_grad():
            output = half(**clips())
        assert output.span_scores.isfinite().all() and output.pred_spans.dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize("form", ["bins", "map", "sentence"])
def test_a_saved_model_is_loaded_by_its_auto_class(form, tmp_path: Path):
    folder = save_tiny_moments(tmp_path / "saved", **FORMS[form])
    loaded = AutoModelForVideoClassification.from_pretrained(folder)
    assert type(loaded) is UpDownForMomentRetrieval
    inputs = clips()
    assert torch.equal(loaded(**inputs).pred_spans, tiny_moments(**FORMS[form])(**inputs).pred_spans)


# -- mistakes --------------------------------------------------------------------------------------------------------


def without(inputs: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs.items() if name not in names}


def changed(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**clips(), name: value}


MISTAKES: dict[str, dict[str, torch.Tensor]] = {
    "There is no sentence, or two": without(clips(), "input_ids"),
    "with moment_inputs='features' alone": {**clips(), "text_features": torch.zeros(3, 2, 4)},
    r"texts \[1\] of the batch have no word at all": {
        **clips(),
        "attention_mask": torch.tensor([[True] * 5, [False] * 5, [True] * 5]),
    },
    "Moments are spans of time: give region_seconds": without(clips(), "region_seconds"),
    r"images \[2\] of the batch have no region at all": changed(
        "region_mask", torch.arange(8) < torch.tensor([8, 4, 0])[:, None]
    ),
    "holds NaN or infinity in region_seconds": changed("region_seconds", torch.full((3, 8), float("nan"))),
    "has regions from -1 to -1 s": changed("region_seconds", -torch.ones(3, 8)),
    "clip 0 of the batch lasts 5 s, but has regions from 0 to 6 s": {
        **clips(),
        "duration_seconds": torch.tensor([5.0, 9, 9]),
    },
    r"has the span \[3, 2\], which starts after it ends": {**clips(), "labels": torch.tensor([[[3.0, 2.0]]] * 3)},
    r"sentence 1 of the batch has the span \[0, 7\], which lies outside of its clip": {
        **clips(),
        "labels": torch.tensor([[[0.0, 7.0]]] * 3),
    },
    r"has the span \[-2, 1\], which lies outside": {**clips(), "labels": torch.tensor([[[-2.0, 1.0]]] * 3)},
    r"has the span \[nan, 1\]": {**clips(), "labels": torch.tensor([[[float("nan"), 1.0]]] * 3)},
    r"labels have shape \(3, 2\)": {**clips(), "labels": torch.zeros(3, 2)},
    r"saliency_labels have shape \(2, 1, 2\)": {
        **clips(),
        "labels": LABELS,
        "saliency_labels": torch.zeros(2, 1, 2),
    },
    "of saliency, which lies outside of its clip": {
        **clips(),
        "labels": LABELS,
        "saliency_labels": torch.tensor([[[0.0, 99.0]]] * 3),
    },
    "image_index must name one of 3 images": {**clips(), "image_index": torch.tensor([0, 1, 3])},
}


@pytest.mark.parametrize("told", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_cure(told):
    with pytest.raises(ValueError, match=told) as caught:
        tiny_moments()(**MISTAKES[told])
    assert "\n" not in str(caught.value)


def test_mistakes_of_single_forms_are_named():
    given = tiny_moments(moment_inputs="features", moment_text_size=4)
    regions, words = without(clips(), "input_ids"), torch.zeros(3, 2, 4)
    assert given(**regions, text_features=words).pred_spans.shape == (3, 5, 2)
    for told, more in {
        "this model has no text encoder": {"input_ids": clips()["input_ids"]},
        "the model expects (texts, words, 4)": {"text_features": words[..., :3]},
        "text_mask has shape (3, 3)": {"text_features": words, "text_mask": torch.ones(3, 3).bool()},
        "texts [0, 1, 2] of the batch have no word": {"text_features": words, "text_mask": torch.zeros(3, 2).bool()},
        "text_features hold NaN or infinity": {"text_features": words / 0},
    }.items():
        with pytest.raises(ValueError) as caught:
            given(**regions, **more)
        assert told in str(caught.value)
    with pytest.raises(ValueError, match="ends in bin 3 of 2 s, but config.moment_bins is 3"):
        tiny_moments(moment_span_loss="cross_entropy", moment_bins=3)(**clips(), labels=LABELS)
    with pytest.raises(ValueError, match="a text has 5 words, but config.moment_text_positions is 2"):
        tiny_moments(moment_text_positions=2)(**clips())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"moment_queries": 0}, "moment_queries=0 must be 1 or more"),
        ({"moment_inputs": "features"}, "do not go together"),
        ({"moment_text_size": 4}, "do not go together"),
        ({"moment_hidden_size": 30}, "must be even and a multiple of moment_num_heads=8"),
        ({"moment_step_seconds": 0.0}, "must be above 0"),
        ({"moment_loss_weights": {"spans": 1.0}}, "must name span, giou, label, saliency, alignment"),
        ({"moment_cost_weights": {"span": -1.0}}, "each with a weight of 0 or more"),
        ({"moment_segments": 129}, "must be 128 at most"),
        ({"moment_map_kernel": 4}, "odd"),
        ({"moment_map_iou": [0.7, 0.5]}, "two IoUs that rise"),
        ({"moment_nms_iou": 0.0}, "above 0 and at most 1"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        UpDownFusionConfig(**fields)


def test_given_features_take_no_region_source():
    with pytest.raises(ValueError, match="leave vision_config and tags out"):
        UpDownForMomentRetrieval(tiny_fusion_config(moment_inputs="features", moment_text_size=4))


def test_pooling_is_that_of_the_steps():
    """What `pool_steps` gives of embeddings is `pooled_steps` of them."""
    model, inputs = tiny_moments(**FORMS["embeddings"]), clips()
    regions = model.get_regions(*(None, *(inputs[f"region_{name}"] for name in ("features", "boxes", "mask"))))
    regions.region_seconds = inputs["region_seconds"]
    read, steps, _ = model.read_regions(regions, None)
    vectors = model.pool_steps(read, steps)
    embeds = model.fusion.embed_regions(regions)
    assert_near(vectors, pooled_steps(embeds, steps, model.step_score(embeds).squeeze(-1)))
