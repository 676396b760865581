"""What a tiny trained model finds in a clip played backwards: other events by their order, the same by their kind."""

import numpy as np
import pytest
import torch

from modeling_updown import UpDownForMomentRetrieval, UpDownFusionConfig
from training.metrics.video.spans import temporal_iou

STEPS, EVENTS = 8, 4
WORDS = (*range(EVENTS), "first", "last")
IMAGE = [0.0, 0.0, 1.0, 1.0]


def draw_clips(number: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (P, 8, 5) of clips with two events, which events (P, 2), and their spans in steps (P, 2, 2), the first
    one first. A step says which event there is, or that there is none."""
    draw = np.random.default_rng(seed)
    features = 0.1 * draw.standard_normal((number, STEPS, EVENTS + 1))
    kinds = np.stack([draw.permutation(EVENTS)[:2] for _ in range(number)])
    spans = np.stack([np.sort(draw.permutation(STEPS + 1)[:4]).reshape(2, 2) for _ in range(number)])
    for clip in range(number):
        features[clip, :, EVENTS] += 1
        for kind, (start, end) in zip(kinds[clip], spans[clip], strict=True):
            features[clip, start:end, kind] += 1
            features[clip, start:end, EVENTS] -= 1
    return features, kinds, spans


def model_inputs(features: np.ndarray, words: np.ndarray) -> dict[str, torch.Tensor]:
    """Clips (P, 8, 5) with S sentences of one word each, numbers in `WORDS` (P, S)."""
    seconds = torch.arange(float(STEPS)).expand(len(features), STEPS)
    return {
        "region_features": torch.from_numpy(features).float(),
        "region_boxes": torch.tensor(IMAGE).expand(*seconds.shape, 4),
        "region_seconds": seconds,
        "duration_seconds": torch.full((len(features),), float(STEPS)),
        "text_features": torch.eye(len(WORDS))[torch.from_numpy(words.reshape(-1, 1))],
    }


def asked_of(kinds: np.ndarray) -> np.ndarray:
    """Both events of each clip, first and last, (P, 4)."""
    orders = np.tile([WORDS.index("first"), WORDS.index("last")], (len(kinds), 1))
    return np.concatenate([kinds, orders], axis=1)


@pytest.fixture(scope="module")
def model() -> UpDownForMomentRetrieval:
    """A map of eight segments, trained on clips that are played forwards."""
    torch.manual_seed(0)
    config = UpDownFusionConfig(
        region_feature_size=EVENTS + 1,
        moment_inputs="features",
        moment_text_size=len(WORDS),
        moment_head="map",
        moment_segments=STEPS,
        moment_hidden_size=32,
        moment_num_heads=4,
        moment_map_layers=2,
        moment_map_kernel=7,
        moment_input_dropout=0.0,
        moment_dropout=0.0,
    )
    model = UpDownForMomentRetrieval(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    features, kinds, spans = draw_clips(480, seed=1)
    words, truth = asked_of(kinds), np.concatenate([spans, spans], axis=1)  # (P, 4), (P, 4, 2)
    for step in range(200):
        some = np.arange(16 * step, 16 * (step + 1)) % len(features)
        labels = torch.from_numpy(truth[some].reshape(-1, 1, 2)).float()
        model(**model_inputs(features[some], words[some]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def found_spans(model: UpDownForMomentRetrieval, features: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The best span of each sentence, (P, S, 2) in steps."""
    output = model(**model_inputs(features, words))
    best = torch.stack([found[0, :2] for found in model.predict_spans(output, most=1)])
    return best.numpy().reshape(*words.shape, 2)


def hits(found: np.ndarray, spans: np.ndarray) -> float:
    """The share of found spans that overlap the true ones by half or more."""
    return float((temporal_iou(found, spans) >= 0.5).mean())


def test_backwards_the_first_event_is_another_and_each_event_the_same(model: UpDownForMomentRetrieval) -> None:
    features, kinds, spans = draw_clips(100, seed=2)
    words = asked_of(kinds)
    forwards = found_spans(model, features, words)
    backwards = STEPS - found_spans(model, features[:, ::-1].copy(), words)[..., ::-1]  # in the clip's own time
    for found in (forwards, backwards):
        assert hits(found[:, :2], spans) > 0.7  # what happens is found where it happens, either way
        assert hits(found[:, :2], spans[:, ::-1]) < 0.2
    assert hits(forwards[:, 2:], spans) > 0.9 and hits(forwards[:, 2:], spans[:, ::-1]) < 0.1
    assert hits(backwards[:, 2:], spans[:, ::-1]) > 0.9 and hits(backwards[:, 2:], spans) < 0.1
