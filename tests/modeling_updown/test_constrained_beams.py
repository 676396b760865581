"""Constrained beams against an exhaustive search of a tiny vocabulary: the same captions and log-probabilities."""

import functools
import itertools
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, GPT2Config
from transformers.generation import GenerateBeamDecoderOnlyOutput

from modeling_updown import UpDownPrefixLMConfig, UpDownPrefixLMForImageCaptioning
from tests import tiny
from tests.modeling_updown.test_required_words import holds

VOCAB_SIZE, LONGEST, BOS, END = 7, 4, 1, 2
ENOUGH_BEAMS = 400  # more than any state has captions, so that the search drops none
CONSTRAINTS: list[list[list[tuple[int, ...]]]] = [[[(4,)]], [[(4,), (5, 3)], [(6,)]], [[(3, 4, 3)]], [[(3, 3)], [(3,)]]]


@functools.cache
def tiny_writer(kind: str) -> Any:
    """A model of 7 words without a region source."""
    if kind == "captioner":
        model: Any = tiny.tiny_captioner(vocab_size=VOCAB_SIZE, vision_config=None, region_feature_size=12)
    else:
        text = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=VOCAB_SIZE, n_positions=32, initializer_range=0.5)
        config = UpDownPrefixLMConfig(text_config=text, region_feature_size=12, initializer_range=0.5)
        model = tiny.seeded(UpDownPrefixLMForImageCaptioning, config)
    model.generation_config.update(bos_token_id=BOS, eos_token_id=END, pad_token_id=0, max_new_tokens=LONGEST)
    return model


@pytest.fixture(params=["captioner", "prefix_lm"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny_writer(request.param)


@functools.cache
def tiny_regions() -> dict[str, torch.Tensor]:
    """Three regions of the first image, two of the second: its third one is padding that holds NaN."""
    generator = torch.Generator().manual_seed(0)
    features, corners = torch.randn(2, 3, 12, generator=generator), torch.rand(2, 3, 2, generator=generator) / 2
    features[1, 2] = float("nan")
    mask = torch.tensor([[True, True, True], [True, True, False]])
    return {"region_features": features, "region_boxes": torch.cat([corners, corners + 0.5], 2), "region_mask": mask}


@functools.cache
def all_captions(kind: str, image: int, prompt: tuple[int, ...] = (BOS,)) -> dict[tuple[int, ...], float]:
    """Every caption of up to four words after the prompt, and its log-probability; the longest need no end."""
    words = torch.tensor(list(itertools.product(range(VOCAB_SIZE), repeat=LONGEST)))
    input_ids = torch.cat([torch.tensor([prompt]).expand(len(words), -1), words], dim=1)
    regions = {name: value[image : image + 1] for name, value in tiny_regions().items()}
    with torch.no_grad():
        logits = tiny_writer(kind)(input_ids[:, :-1], **regions).logits[:, len(prompt) - 1 :]
    log_probs = logits.log_softmax(dim=-1).gather(2, words[..., None]).squeeze(2)
    found = {}
    for row, values in zip(words.tolist(), log_probs, strict=True):
        length = row.index(END) + 1 if END in row else LONGEST
        found[tuple(row[:length])] = values[:length].sum().item()
    return found


def best_by_hand(kind: str, image: int, constraints: Any, *, length_penalty: float) -> list[tuple[tuple, float]]:
    scores = {
        caption: log_prob / len(caption) ** length_penalty
        for caption, log_prob in all_captions(kind, image).items()
        if holds(caption, constraints)
    }
    return sorted(scores.items(), key=lambda scored: -scored[1])


def captions_in(sequences: torch.Tensor, prompt_length: int = 1) -> list[tuple[int, ...]]:
    rows = [row[prompt_length:] for row in sequences.tolist()]
    return [tuple(row[: row.index(END) + 1] if END in row else row) for row in rows]


def kind_of(model: Any) -> str:
    return "prefix_lm" if isinstance(model, UpDownPrefixLMForImageCaptioning) else "captioner"


# -- beams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, -1.0, 2.0])
@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_beams_find_what_an_exhaustive_search_finds(model: Any, constraints: Any, length_penalty: float) -> None:
    output = model.generate(
        **tiny_regions(),
        required_words=constraints,
        num_beams=ENOUGH_BEAMS,
        num_return_sequences=3,
        length_penalty=length_penalty,
        return_dict_in_generate=True,
    )
    assert isinstance(output, GenerateBeamDecoderOnlyOutput)
    found = list(zip(captions_in(output.sequences), output.sequences_scores.tolist(), strict=True))
    for image in range(2):
        wanted = best_by_hand(kind_of(model), image, constraints, length_penalty=length_penalty)[:3]
        for (caption, score), (right, log_prob) in zip(found[3 * image : 3 * image + 3], wanted, strict=True):
            assert caption == right and score == pytest.approx(log_prob, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("num_beams", [1, 2, 5])
def test_few_beams_hold_the_words_at_their_log_probability(model: Any, num_beams: int) -> None:
    """However few beams: every word in every caption, and scores that are those of the captions."""
    for constraints in ([[(a,), (b, c)], [(c,)]] for a, b, c in itertools.permutations((3, 4, 5))):
        output = model.generate(
            **tiny_regions(), required_words=constraints, num_beams=num_beams, return_dict_in_generate=True
        )
        for image, (caption, score) in enumerate(
            zip(captions_in(output.sequences), output.sequences_scores, strict=True)
        ):
            assert holds(caption, constraints)
            log_prob = all_captions(kind_of(model), image)[caption]
            assert score.item() == pytest.approx(log_prob / len(caption), abs=1e-5)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_batch_is_its_images_alone(model: Any, use_cache: bool) -> None:
    settings = {"required_words": [[(5,)], [(3, 6), (4,)]], "num_beams": 3, "use_cache": use_cache}
    together = model.generate(**tiny_regions(), **settings)
    for image in range(2):
        real = tiny_regions()["region_mask"][image]
        alone = {name: value[image : image + 1, real] for name, value in tiny_regions().items()}
        assert captions_in(model.generate(**alone, **settings)) == captions_in(together[image : image + 1])


def test_a_word_of_the_best_caption_changes_nothing(model: Any) -> None:
    """With one word of each image's best caption required, that caption is found, as without."""
    for image in range(2):
        regions = {name: value[image : image + 1] for name, value in tiny_regions().items()}
        settings = {"num_beams": 50, "return_dict_in_generate": True, "output_scores": True}
        free = model.generate(**regions, **settings, early_stopping="never")
        (caption,) = captions_in(free.sequences)
        assert caption[0] != END
        forced = model.generate(**regions, required_words=[[caption[0]]], **settings)
        assert captions_in(forced.sequences) == [caption]
        assert forced.sequences_scores.item() == pytest.approx(free.sequences_scores.item(), abs=1e-5)


def test_the_end_comes_after_the_words(model: Any) -> None:
    for caption in captions_in(model.generate(**tiny_regions(), required_words=[[(3,)], [(6,)]], num_beams=2)):
        assert END not in caption[:2] and {3, 6} <= {*caption}
    twins = captions_in(model.generate(**tiny_regions(), required_words=[[3], [6]], num_beams=2, eos_token_id=[END, 5]))
    assert all(END not in caption[:2] and {3, 6} <= {*caption} for caption in twins)


def test_a_prompt_counts(model: Any) -> None:
    """Its words are in the caption, so they need not be written again; padding before it is no word."""
    settings = {"num_beams": ENOUGH_BEAMS, "return_dict_in_generate": True, "length_penalty": 0.0}
    prompts = torch.tensor([[0, BOS, 4], [BOS, 3, 5]])
    mask = (prompts > 0).long()
    output = model.generate(
        prompts, attention_mask=mask, **tiny_regions(), required_words=[[(4, 6)], [(3,)]], **settings
    )
    first, second = captions_in(output.sequences, prompt_length=3)
    assert holds((4, *first), [[(4, 6)], [(3,)]]) and holds((3, 5, *second), [[(4, 6)]])
    by_hand = {
        caption: log_prob
        for caption, log_prob in all_captions(kind_of(model), 1, (BOS, 3, 5)).items()
        if holds(caption, [[(4, 6)]])
    }
    assert second == max(by_hand, key=lambda caption: by_hand[caption])
    assert output.sequences_scores[1].item() == pytest.approx(max(by_hand.values()), abs=1e-5)


def test_score_processors_apply_but_to_required_words(model: Any) -> None:
    required = [[(5,)]]
    suppressed = model.generate(**tiny_regions(), required_words=required, num_beams=2, suppress_tokens=[3, 4, 5])
    for caption in captions_in(suppressed):
        assert caption.count(5) == 1 and not {3, 4} & {*caption}
    sampled = {"do_sample": True, "top_k": 1, "num_return_sequences": 20}
    torch.manual_seed(0)
    assert all(5 in row for row in captions_in(model.generate(**tiny_regions(), required_words=required, **sampled)))
    none_twice = model.generate(**tiny_regions(), required_words=[[(6,)]], num_beams=3, no_repeat_ngram_size=1)
    assert all(len({*row}) == len(row) and 6 in row for row in captions_in(none_twice))


def test_what_generate_returns_can_be_followed(model: Any) -> None:
    """Scores, weights of regions and states are those of the beams that the captions went through."""
    wanted = {"output_scores": True, "output_attentions": True, "output_hidden_states": True, "output_logits": True}
    settings = {"required_words": [[(5,)], [(3,)]], "num_beams": 2, "num_return_sequences": 2, "length_penalty": 0.0}
    output = model.generate(**tiny_regions(), **settings, **wanted, return_dict_in_generate=True)
    assert output.sequences.tolist() == model.generate(**tiny_regions(), **settings).tolist()
    steps = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    assert torch.allclose(steps.sum(dim=1), output.sequences_scores, atol=1e-5)
    assert len(output.attentions) == len(output.scores) == len(output.logits) == len(output.hidden_states)
    regions = {name: value.repeat_interleave(2, dim=0) for name, value in tiny_regions().items()}
    whole = model(output.sequences[:, :-1], **regions, output_attentions=True).attentions[0]
    for number, rows in enumerate(output.beam_indices.tolist()):
        for step, row in enumerate(row for row in rows if row >= 0):
            assert torch.allclose(output.attentions[step][0][row, -1], whole[number, step], atol=1e-5)


def test_settings_come_from_any_config(model: Any) -> None:
    plain = {"required_words": [[(5,)]], "num_beams": 3, "num_return_sequences": 2}
    expected = model.generate(**tiny_regions(), **plain)
    config = GenerationConfig(
        num_beams=3, num_return_sequences=2, max_new_tokens=LONGEST, bos_token_id=BOS, eos_token_id=END, pad_token_id=0
    )
    words = torch.full((2, 1), BOS)
    assert torch.equal(model.generate(**tiny_regions(), required_words=[[5]], generation_config=config), expected)
    assert torch.equal(model.generate(words, config, **tiny_regions(), required_words=[[5]]), expected)
    assert config.num_beams == 3 and config.num_return_sequences == 2
    without = model.generate(**tiny_regions(), num_beams=3)
    assert torch.equal(model.generate(**tiny_regions(), num_beams=3, required_words=[]), without)


# -- samples ---------------------------------------------------------------------------------------------------------


def test_samples_hold_the_words_and_follow_the_seed(model: Any) -> None:
    settings = {"required_words": [[(5,), (3, 4)], [(6,)]], "do_sample": True, "top_k": 0, "num_return_sequences": 40}
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(captions_in(model.generate(**tiny_regions(), **settings)))
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 80
    assert all(holds(caption, settings["required_words"]) for caption in drawn[0] + drawn[2])
    assert len({*drawn[0][:40]}) > 8


def test_with_the_words_in_the_prompt_samples_follow_the_model() -> None:
    """Then every state is complete, one beam is plain sampling, and shares are the model's probabilities."""
    prompt = (BOS, 4)
    probs = all_captions("captioner", 0, prompt)
    regions = {name: value[:1] for name, value in tiny_regions().items()}
    torch.manual_seed(0)
    drawn = captions_in(
        tiny_writer("captioner").generate(
            torch.tensor([prompt]),
            **regions,
            required_words=[[4]],
            do_sample=True,
            top_k=0,
            num_return_sequences=4000,
        ),
        prompt_length=2,
    )
    for caption, log_prob in sorted(probs.items(), key=lambda item: -item[1])[:8]:
        share = torch.tensor(log_prob).exp().item()
        error = (share * (1 - share) / 4000) ** 0.5
        assert drawn.count(caption) / 4000 == pytest.approx(share, abs=4 * error)


# -- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"required_words": [[(3, 4)], [(5,)]], "max_new_tokens": 2},
            "the required words take 3 tokens, but a caption may have 2: raise max_new_tokens to 4 or more",
        ),
        ({"required_words": [[(3,)], [(END,)]]}, "hold the token that ends a caption: leave it out"),
        ({"required_words": [[(VOCAB_SIZE,)]]}, "token id 7, but the model scores 7 tokens"),
        ({"required_words": ["dog"]}, "give tokenizer= as well"),
        ({"required_words": [[3]], "streamer": object()}, "takes no streamer: leave streamer out"),
        ({"required_words": [[3]], "custom_generate": print}, "takes no custom_generate"),
        (
            {"required_words": [[3]], "max_new_tokens": 1, "num_return_sequences": 3},
            "fewer captions than asked for ended with all required words in them: raise max_new_tokens or num_beams",
        ),
    ],
)
def test_mistakes_name_their_cure(model: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(**tiny_regions(), **settings)


def test_a_caption_may_be_cut_right_after_its_words(model: Any) -> None:
    assert captions_in(model.generate(**tiny_regions(), required_words=[[(3, 4)]], max_new_tokens=2)) == [(3, 4)] * 2


def test_a_model_without_an_end_writes_to_the_last_word(model: Any) -> None:
    config = GenerationConfig(bos_token_id=BOS, pad_token_id=0, max_new_tokens=LONGEST, num_beams=2)
    own = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = None
    try:
        found = model.generate(**tiny_regions(), generation_config=config, required_words=[[5]])
    finally:
        model.generation_config.eos_token_id = own
    assert found.shape == (2, 1 + LONGEST) and (found == 5).any(dim=1).all()


def test_strings_to_stop_at_go_with_words() -> None:
    model, tokenizer = tiny.tiny_captioner(), tiny.tiny_processor().tokenizer
    pixels = tiny.tiny_processor()(images=[tiny.tiny_image(0)], return_tensors="pt").pixel_values
    settings = {"required_words": ["dog", "red|old"], "tokenizer": tokenizer, "max_new_tokens": 6, "num_beams": 2}
    (whole,) = tokenizer.batch_decode(model.generate(pixels, **settings), skip_special_tokens=True)
    assert "dog" in whole.split() and {"red", "old"} & {*whole.split()}
    for (stopped,) in (
        tokenizer.batch_decode(model.generate(pixels, **settings, stop_strings="dog"), skip_special_tokens=True),
    ):
        assert stopped.split().count("dog") == 1 and stopped.endswith("dog")
