"""Steps as a sentence reads them: equal to plain loops, blind to padding, and which of two objects is meant."""

import torch
from torch.nn import functional as F

from modeling_updown import UpDownForMomentRetrieval, UpDownFusionConfig
from modeling_updown.clip_steps_updown import ClipSteps, steps_of
from modeling_updown.modeling_attention import TextRows
from modeling_updown.moment_pooling_updown import SentencePooling, StepChanges
from training.metrics.video.spans import temporal_iou

CLIP_SIZE, TEXT_SIZE, HEADS, WIDTH = 6, 10, 2, 8
CONFIG = UpDownFusionConfig(moment_hidden_size=WIDTH, moment_num_heads=HEADS)


def made_pooling() -> SentencePooling:
    """With weights large enough for attention that is far from even."""
    torch.manual_seed(0)
    pooling = SentencePooling(CONFIG, clip_size=CLIP_SIZE, text_size=TEXT_SIZE).double()
    for weight in pooling.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return pooling


def two_clips() -> tuple[torch.Tensor, ClipSteps, torch.Tensor, torch.Tensor, TextRows]:
    """Clips of three steps (of 2, 1 and 1 regions) and of one step (of 3), and three sentences, two of the second."""
    draw = torch.Generator().manual_seed(1)
    vectors = torch.randn(2, 4, CLIP_SIZE, generator=draw, dtype=torch.float64)
    seconds = torch.tensor([[2.0, 0.0, 4.0, 0.0], [1.0, 1.0, 1.0, 9.0]])
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    words = torch.randn(3, 3, TEXT_SIZE, generator=draw, dtype=torch.float64)
    word_mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    rows = TextRows.of(torch.tensor([1, 0, 1]), num_texts=3, num_images=2, device="cpu")
    return vectors, steps_of(seconds, mask, default_seconds=2.0), words, word_mask, rows


def pooled_by_loops(pooling: SentencePooling, regions: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """One step: regions (r, clip_size) as one sentence of words (T, text_size) reads them, (clip_size,)."""
    words = F.layer_norm(words, (TEXT_SIZE,), pooling.norm_words.weight, pooling.norm_words.bias)
    regions = F.layer_norm(regions, (CLIP_SIZE,), pooling.norm_regions.weight, pooling.norm_regions.bias)
    found, size = [], WIDTH // HEADS
    for head in range(HEADS):
        shares = torch.tensor([float(pooling.word_scores(word)[head].detach()) for word in words]).double().softmax(0)
        query = pooling.query[head](sum(share * word for share, word in zip(shares, words, strict=True)))
        part = slice(head * size, (head + 1) * size)
        scores = [(query @ pooling.key(region)[part] / size**0.5).exp() for region in regions]
        values = [score * pooling.value(region)[part] for score, region in zip(scores, regions, strict=True)]
        found.append(sum(values) / (1 + sum(scores)))
    return pooling.output(torch.cat(found))


@torch.no_grad()
def test_pooling_is_that_of_loops():
    pooling, (vectors, steps, words, word_mask, rows) = made_pooling(), two_clips()
    found = pooling(vectors, steps, words, word_mask, rows)
    assert found.shape == (3, 3, CLIP_SIZE)
    for sentence, clip in enumerate(rows.image_index.tolist()):
        own = words[sentence, word_mask[sentence]]
        for step in range(3):
            regions = vectors[clip, steps.of_regions[clip] == step]
            expected = pooled_by_loops(pooling, regions, own) if len(regions) else torch.zeros(CLIP_SIZE).double()
            torch.testing.assert_close(found[sentence, step], expected, atol=1e-6, rtol=1e-6)


def test_padding_is_never_read():
    pooling, (vectors, steps, words, word_mask, rows) = made_pooling(), two_clips()
    expected = pooling(vectors, steps, words, word_mask, rows).detach()
    vectors[1, 3], words[~word_mask] = torch.nan, torch.nan
    found = pooling(vectors, steps, words, word_mask, rows)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in pooling.parameters())


@torch.no_grad()
def test_a_step_without_what_is_named_adds_nothing():
    """A key that the sentence turns away from leaves the step as if it had no region: the output's bias."""
    pooling, (vectors, steps, words, word_mask, rows) = made_pooling(), two_clips()
    for query in pooling.query:
        query.weight.zero_()
        query.bias.fill_(100.0)
    pooling.key.weight.zero_()
    pooling.key.bias.fill_(-100.0)
    found = pooling(vectors, steps, words, word_mask, rows)
    assert torch.allclose(found[0, 0], pooling.output.bias) and torch.allclose(found[1, 2], pooling.output.bias)


def test_changes_are_differences_normalised_by_themselves():
    steps = torch.tensor([[[1.0, 3.0], [1.0, 3.0], [1.5, 3.0], [1.0, 3.0]]])
    found = StepChanges(2)(steps).detach()[0]
    assert torch.allclose(found[:, :2], torch.tensor([-1.0, 1.0]), atol=1e-3)
    assert torch.allclose(found[:, 2:], torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]]), atol=1e-3)


# -- what is learnt ----------------------------------------------------------------------------------------------------

NUM_OBJECTS, STEPS = 3, 8


def moving_objects(number: int, *, seed: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Clips of two of three objects, each a region a step; one moves by 0.1 a step in steps 1 to 3, the other in steps
    5 to 7, and a sentence a clip, which names one of them. -> inputs, spans (N, 1, 2) in seconds."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.zeros(number, STEPS, 2, NUM_OBJECTS + 1)
    for clip in range(number):
        for place, thing in enumerate(torch.randperm(NUM_OBJECTS, generator=draw)[:2].tolist()):
            features[clip, :, place, thing] = 1.0
    moves = torch.zeros(2, STEPS)
    moves[0, 1:4], moves[1, 5:8] = 0.1, 0.1
    features[..., -1] = torch.rand(number, 1, 2, generator=draw) + moves.cumsum(dim=1).T
    asked = torch.randint(2, (number,), generator=draw)
    seconds = torch.arange(float(STEPS)).repeat_interleave(2).expand(number, -1)
    inputs = {
        "region_features": features.flatten(1, 2),
        "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(number, 2 * STEPS, 4),
        "region_seconds": seconds,
        "duration_seconds": torch.full((number,), float(STEPS)),
        "text_features": features[torch.arange(number), 0, asked, :NUM_OBJECTS][:, None],
    }
    return inputs, torch.tensor([[1.0, 4.0], [5.0, 8.0]])[asked][:, None]


def hits_of(pooling: str) -> float:
    """The share of sentences about new clips whose found span overlaps the true one by half, after some training."""
    torch.manual_seed(0)
    config = UpDownFusionConfig(
        region_feature_size=NUM_OBJECTS + 1,
        moment_inputs="features",
        moment_text_size=NUM_OBJECTS,
        moment_head="map",
        moment_pooling=pooling,
        moment_changes=True,
        moment_segments=STEPS,
        moment_hidden_size=32,
        moment_num_heads=4,
        moment_map_layers=2,
        moment_map_kernel=3,
        moment_input_dropout=0.0,
        moment_dropout=0.0,
    )
    model = UpDownForMomentRetrieval(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for step in range(150):
        inputs, spans = moving_objects(24, seed=step)
        model(**inputs, labels=spans).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    inputs, spans = moving_objects(200, seed=1000)
    with torch.no_grad():
        found = torch.stack([own[0, :2] for own in model.eval().predict_spans(model(**inputs), most=1)])
    return float((temporal_iou(found.numpy(), spans[:, 0].numpy()) >= 0.5).mean())


def test_a_sentence_finds_what_its_own_object_does():
    """Both objects move alike; a mean over regions has lost which of them it is that moves."""
    assert hits_of("sentence") > 0.95
    assert 0.4 < hits_of("mean") < 0.65
