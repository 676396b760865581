"""ruotianluo/ImageCaptioning.pytorch's UpDownModel -> `UpDownForImageCaptioning` (`captioning-pytorch`).

Its LSTM cells have one matrix for the input and one for the state; ours have one each for the image, the word and the
states, so the columns are split and joined, and the two biases are added. Its input includes the mean of the regions;
our model computes that mean. Parity: tests/modeling_updown/test_captioning_parity.py.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from transformers import GenerationConfig

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownForImageCaptioning,
    UpDownImageProcessor,
    UpDownProcessor,
    UpDownTokenizer,
)
from training.convert.weights import (
    ConvertedCheckpoint,
    Weights,
    check_names,
    load_into,
    number_option,
    words_by_index,
)

DEFAULT_BEAMS, DEFAULT_WORDS = 5, 20
END_WORD, UNKNOWN_WORD = "<end>", "UNK"

# ours -> ruotianluo's, for tensors that are copied unchanged
CAPTIONING_NAMES = {
    "embed_tokens.weight": "embed.0.weight",
    "region_embedding.weight": "att_embed.0.weight",
    "region_embedding.bias": "att_embed.0.bias",
    "pooled_embedding.weight": "fc_embed.0.weight",
    "pooled_embedding.bias": "fc_embed.0.bias",
    "attention.project_regions.weight": "ctx2att.weight",
    "attention.project_regions.bias": "ctx2att.bias",
    "attention.project_query.weight": "core.attention.h2att.weight",
    "attention.project_query.bias": "core.attention.h2att.bias",
    "attention.score.weight": "core.attention.alpha_net.weight",
    "attention.score.bias": "core.attention.alpha_net.bias",
    "lm_head.weight": "logit.weight",
    "lm_head.bias": "logit.bias",
}
CAPTIONING_LSTM_NAMES = [
    f"core.{cell}.{tensor}"
    for cell in ("att_lstm", "lang_lstm")
    for tensor in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
]


def convert_captioning(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """ruotianluo's UpDownModel -> `UpDownForImageCaptioning`, with its vocabulary and decoding settings.

    Options read: `vocab` or `ix_to_word`, `drop_prob_lm` (0.5), `label_smoothing` (0), `max_length` or `seq_length` (20
    words), `beam_size` (5), `suppress_UNK` (0; 1 suppresses the word UNK in decoding).
    """
    check_names(weights, [*CAPTIONING_NAMES.values(), *CAPTIONING_LSTM_NAMES], format="captioning-pytorch")
    config = captioning_config(weights, options)
    vocabulary = options.get("vocab") or options.get("ix_to_word")
    words = captioning_words(vocabulary, num_words=config.vocab_size - 1)
    unknown = next((index for index, word in words.items() if word == UNKNOWN_WORD), None)
    config.unk_token_id = unknown
    model = UpDownForImageCaptioning(config)
    load_into(model, captioning_weights(weights))
    model.eval()
    beams = max(int(number_option(options, "beam_size", default=DEFAULT_BEAMS)), 1)
    most_words = int(number_option(options, "max_length", "seq_length", default=DEFAULT_WORDS))
    never_unknown = unknown is not None and number_option(options, "suppress_UNK", default=0) > 0
    model.generation_config = GenerationConfig(
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        max_new_tokens=most_words or DEFAULT_WORDS,
        num_beams=beams,
        length_penalty=0.0 if beams > 1 else None,  # a beam's score is the sum of its log-probabilities
        suppress_tokens=[unknown] if never_unknown else None,
    )
    roles = dict.fromkeys(("pad_token", "bos_token", "eos_token"), END_WORD)
    unknown_word = END_WORD if unknown is None else UNKNOWN_WORD
    tokenizer = UpDownTokenizer.from_vocabulary([END_WORD, *words.values()], unk_token=unknown_word, **roles)
    return ConvertedCheckpoint(model, UpDownProcessor(UpDownImageProcessor(), tokenizer))


def captioning_config(weights: Weights, options: Mapping[str, Any]) -> UpDownCaptioningConfig:
    """The sizes from the shapes of the weights, the rest from the options; index 0 begins, ends and pads captions."""
    dropout = number_option(options, "drop_prob_lm", default=0.5)
    region_embedding_size, region_feature_size = weights["att_embed.0.weight"].shape
    pooled_width = weights["fc_embed.0.weight"].shape[1]
    if pooled_width != region_feature_size:
        raise ValueError(
            f"this checkpoint takes an image vector of width {pooled_width} and regions of width "
            f"{region_feature_size}; only checkpoints whose image vector is the regions' mean can be converted"
        )
    return UpDownCaptioningConfig(
        vocab_size=weights["embed.0.weight"].shape[0],
        word_embedding_size=weights["embed.0.weight"].shape[1],
        region_feature_size=region_feature_size,
        region_embedding_size=region_embedding_size,
        hidden_size=weights["logit.weight"].shape[1],
        attention_size=weights["ctx2att.weight"].shape[0],
        word_embedding_relu=True,
        attention_bias=True,
        region_dropout=dropout,
        word_dropout=dropout,
        output_dropout=dropout,
        label_smoothing=number_option(options, "label_smoothing", default=0),
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def captioning_weights(source: Weights) -> Weights:
    """Our weights as a (linear, differentiable) function of ruotianluo's.

    att_lstm.weight_ih has the columns [h2, image, word] and lang_lstm.weight_ih [v_hat, h1]; ours are
    attention_lstm_photo, attention_lstm_word, attention_lstm_state [h2, h1] and language_lstm [v_hat, h1, h2].
    """
    hidden, word = source["logit.weight"].shape[1], source["embed.0.weight"].shape[1]
    inputs = source["core.att_lstm.weight_ih"]
    if inputs.shape[1] != 2 * hidden + word:
        raise ValueError(
            f"core.att_lstm.weight_ih has {inputs.shape[1]} columns, not the {2 * hidden + word} of two states of "
            f"{hidden} and a word of {word}: is this another model of that project?"
        )
    from_state, from_image, from_word = inputs.split([hidden, hidden, word], dim=1)
    return {
        **{ours: source[theirs] for ours, theirs in CAPTIONING_NAMES.items()},
        "attention_lstm_photo.weight": from_image,
        "attention_lstm_photo.bias": source["core.att_lstm.bias_ih"] + source["core.att_lstm.bias_hh"],
        "attention_lstm_word.weight": from_word,
        "attention_lstm_state.weight": torch.cat([from_state, source["core.att_lstm.weight_hh"]], dim=1),
        "language_lstm.weight": torch.cat(
            [source["core.lang_lstm.weight_ih"], source["core.lang_lstm.weight_hh"]], dim=1
        ),
        "language_lstm.bias": source["core.lang_lstm.bias_ih"] + source["core.lang_lstm.bias_hh"],
    }


def captioning_words(vocabulary: Any, *, num_words: int) -> dict[int, str]:
    """Index -> word for 1 .. `num_words`; without a vocabulary, the placeholders w1, w2, ... and a warning.

    A list holds the words from index 1 or, if it is one longer, from the end token.
    """
    if vocabulary is None:
        warnings.warn(
            f"the options hold no vocabulary, so the words are called w1 .. w{num_words}; "
            'give one as {"vocab": {"1": "a", ...}} or under "ix_to_word", as its data file has it',
            stacklevel=2,
        )
        return {index: f"w{index}" for index in range(1, num_words + 1)}
    words = words_by_index(vocabulary, option="vocab")
    if isinstance(vocabulary, list) and len(words) == num_words:
        words = {index + 1: word for index, word in words.items()}
    words = {index: word for index, word in words.items() if index}
    if sorted(words) != list(range(1, num_words + 1)):
        raise ValueError(
            f"the vocabulary names {len(words)} words but the weights have {num_words} besides the end token: "
            f"it must name the indices 1 to {num_words}"
        )
    return dict(sorted(words.items()))
