"""What a tiny trained answerer says of a clip played backwards: other answers about order, the same about objects."""

import numpy as np
import pytest
import torch

from modeling_updown import UpDownForVisualQuestionAnswering, UpDownVqaConfig

FRAMES, COLOURS = 5, 3
FIRST, LAST = 1, 2  # words, and behind them a word of each colour: is it there?
ANSWERS = ("red", "green", "blue", "yes", "no")
WORDS = LAST + 1 + COLOURS
IMAGE = [0.0, 0.0, 1.0, 1.0]


def draw_clips(number: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (P, 5, 4) of clips of five frames, of which two show a colour and the others nothing, and the two
    colours (P, 2), the first one first."""
    draw = np.random.default_rng(seed)
    features = 0.1 * draw.standard_normal((number, FRAMES, COLOURS + 1))
    colours = np.stack([draw.permutation(COLOURS)[:2] for _ in range(number)])
    for clip in range(number):
        kinds = np.full(FRAMES, COLOURS)
        kinds[np.sort(draw.permutation(FRAMES)[:2])] = colours[clip]
        features[clip, np.arange(FRAMES), kinds] += 1
    return features, colours


def model_inputs(features: np.ndarray, word: int) -> dict[str, torch.Tensor]:
    """Clips with a question of one word."""
    number = len(features)
    return {
        "input_ids": torch.full((number, 1), word),
        "region_features": torch.from_numpy(features.copy()).float(),
        "region_boxes": torch.tensor(IMAGE).expand(number, FRAMES, 4),
        "region_seconds": torch.arange(float(FRAMES)).expand(number, FRAMES),
    }


def true_answers(colours: np.ndarray, word: int) -> np.ndarray:
    """The number of the answer to a question about each clip, (P,)."""
    if word in (FIRST, LAST):
        return colours[:, word - FIRST]
    there = (colours == word - LAST - 1).any(axis=1)
    return np.where(there, ANSWERS.index("yes"), ANSWERS.index("no"))


@pytest.fixture(scope="module")
def model() -> UpDownForVisualQuestionAnswering:
    """Trained on clips that are played forwards."""
    torch.manual_seed(0)
    config = UpDownVqaConfig(
        vocab_size=WORDS,
        id2label=dict(enumerate(ANSWERS)),
        hidden_size=64,
        word_embedding_size=16,
        region_feature_size=COLOURS + 1,
        vision_config=None,
        time_embedding="relative",
        initializer_range=0.3,
    )
    model = UpDownForVisualQuestionAnswering(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=400)
    features, colours = draw_clips(640, seed=1)
    for step in range(400):
        some = np.random.default_rng(step).integers(0, len(features), 16)
        asked = [model_inputs(features[some], word) for word in range(1, WORDS)]
        inputs = {name: torch.cat([one[name] for one in asked]) for name in asked[0]}
        numbers = np.concatenate([true_answers(colours[some], word) for word in range(1, WORDS)])
        model(**inputs, labels=torch.eye(len(ANSWERS))[torch.from_numpy(numbers)]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


@torch.no_grad()
def answers(model: UpDownForVisualQuestionAnswering, features: np.ndarray, word: int) -> np.ndarray:
    """The numbers of its answers, (P,)."""
    return model(**model_inputs(features, word)).logits.argmax(dim=-1).numpy()


def test_backwards_answers_about_order_turn_round_and_those_about_objects_stay(
    model: UpDownForVisualQuestionAnswering,
) -> None:
    features, colours = draw_clips(200, seed=2)
    for word in range(1, WORDS):
        forwards, backwards = (answers(model, clips, word) for clips in (features, features[:, ::-1]))
        assert (forwards == true_answers(colours, word)).mean() > 0.9
        if word in (FIRST, LAST):
            assert (backwards == true_answers(colours[:, ::-1], word)).mean() > 0.9
            assert (backwards != forwards).mean() > 0.9
        else:
            assert (backwards == forwards).mean() > 0.95
