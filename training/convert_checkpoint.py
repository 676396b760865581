"""Other projects' checkpoints -> a folder that `from_pretrained` loads.

    updown convert-checkpoint captioning-pytorch model.safetensors --config options.json --output folder

One function a format turns the source's tensors into ours, and uses each of them exactly once: whatever is missing or
left over is an error that lists it. Nothing is ever unpickled.

Formats:
    captioning-pytorch: UpDownModel of ruotianluo/ImageCaptioning.pytorch (parity: tests/modeling_updown/
        test_captioning_parity.py). Its LSTM cells hold one matrix per side; ours hold one per thing that changes at
        the same pace (photo, word, state), so the columns are split and joined, and the two biases are added. It was
        fed the mean of the regions beside the regions; ours takes that mean itself.
"""

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedModel

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownForImageCaptioning,
    UpDownImageProcessor,
    UpDownProcessor,
    UpDownTokenizer,
)

Weights = dict[str, torch.Tensor]

NOT_WEIGHTS = ("in.", "out.", "grad.", "sc.")  # a golden file holds inputs and outputs beside the weights
WRAPPERS = ("model.", "module.")
DEFAULT_BEAMS, DEFAULT_WORDS = 5, 20
END_WORD, UNKNOWN_WORD = "<end>", "UNK"

# ours -> ruotianluo's, where a tensor is taken over as it is
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


@dataclass
class ConvertedCheckpoint:
    """A model with the source's weights and generation settings, and the processor with the source's vocabulary."""

    model: PreTrainedModel
    processor: UpDownProcessor

    def save(self, folder: str | Path) -> None:
        """Write everything `from_pretrained` wants into one folder."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def convert_checkpoint(
    format: str,
    weights: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
) -> ConvertedCheckpoint:
    """Convert a checkpoint, and save it where `output` is given.

    Args:
        format: a key of `FORMATS`.
        weights: a `.safetensors`, or a `.pth`, `.pt` or `.bin` that holds tensors and nothing else.
        config: the source's options, either flat or under `"config"`, with the vocabulary (index -> word) under
            `"vocab"`. What the weights' shapes tell may be left out.
        output: the folder to write.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown format, a file that holds more than tensors, or weights that do not fit the format.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown checkpoint format {format!r}; known are {', '.join(sorted(FORMATS))}")
    converted = FORMATS[format](read_weights(weights), flat_options(config or {}))
    if output is not None:
        converted.save(output)
    return converted


def flat_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a JSON, whether they stand in it flat or under its key `"config"`."""
    nested = config.get("config", {})
    return {**{name: value for name, value in config.items() if name != "config"}, **nested}


def read_weights(path: str | Path) -> Weights:
    """The tensors of a checkpoint by their name there, without the prefix that wraps them all, in float32.

    Raises `ValueError` where the file holds more than tensors, or is no checkpoint: it is never unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    weights = {name: value for name, value in loaded.items() if not str(name).startswith(NOT_WEIGHTS)}
    wrong = [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    if wrong or not weights:
        raise ValueError(f"{path} should hold the tensors of one model by name, but {wrong[:3] or 'it'} holds none")
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no complete safetensors file ({error}); download or write it again") from error


def _load_tensors_only(path: Path) -> dict[str, Any]:
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise ValueError(f"{path} should end in .safetensors, .pth, .pt or .bin")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged or holds Python objects beside tensors, which are never unpickled; where it was made, "
            "write its tensors alone: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not tensors by name; save model.state_dict() there")
    return loaded


def check_names(weights: Weights, expected: Sequence[str], *, format: str) -> None:
    """Raise a `ValueError` that lists every missing and every unexpected tensor."""
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise ValueError(
            f"these weights are not {format}: missing {', '.join(missing) or 'nothing'}; "
            f"unexpected {', '.join(unexpected) or 'nothing'}"
        )


def load_into(model: PreTrainedModel, weights: Weights) -> None:
    """Give a model all of its weights; a shape that does not fit is a `ValueError`."""
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's shapes do not fit together: {error}") from error


def convert_captioning(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """ruotianluo's UpDownModel -> `UpDownForImageCaptioning`, with its vocabulary and its way of decoding.

    Options read: `vocab`, `drop_prob_lm` (0.5), `label_smoothing` (0), `max_length` or `seq_length` (20 words),
    `beam_size` (5), `suppress_UNK` (0; 1 forbids the word UNK, in every way of decoding).
    """
    check_names(weights, [*CAPTIONING_NAMES.values(), *CAPTIONING_LSTM_NAMES], format="captioning-pytorch")
    config = captioning_config(weights, options)
    words = captioning_words(options.get("vocab"), num_words=config.vocab_size - 1)
    unknown = next((index for index, word in words.items() if word == UNKNOWN_WORD), None)
    config.unk_token_id = unknown
    model = UpDownForImageCaptioning(config)
    load_into(model, captioning_weights(weights))
    model.eval()
    beams = int(options.get("beam_size") or DEFAULT_BEAMS)
    model.generation_config = GenerationConfig(
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        max_new_tokens=int(options.get("max_length") or options.get("seq_length") or DEFAULT_WORDS),
        num_beams=beams,
        length_penalty=0.0 if beams > 1 else None,  # a beam's score is the sum of its log-probabilities
        suppress_tokens=[unknown] if unknown is not None and int(options.get("suppress_UNK") or 0) else None,
    )
    roles = dict.fromkeys(("pad_token", "bos_token", "eos_token"), END_WORD)
    unknown_word = END_WORD if unknown is None else UNKNOWN_WORD
    tokenizer = UpDownTokenizer.from_vocabulary([END_WORD, *words.values()], unk_token=unknown_word, **roles)
    return ConvertedCheckpoint(model, UpDownProcessor(UpDownImageProcessor(), tokenizer))


def captioning_config(weights: Weights, options: Mapping[str, Any]) -> UpDownCaptioningConfig:
    """The sizes from the weights' shapes, the rest from the options; index 0 begins, ends and pads a caption."""
    dropout = float(options.get("drop_prob_lm", 0.5))
    region_embedding_size, region_feature_size = weights["att_embed.0.weight"].shape
    pooled_width = weights["fc_embed.0.weight"].shape[1]
    if pooled_width != region_feature_size:
        raise ValueError(
            f"this checkpoint takes a photo vector of width {pooled_width} beside regions of width "
            f"{region_feature_size}; only checkpoints whose photo vector is the regions' mean can be converted"
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
        label_smoothing=float(options.get("label_smoothing") or 0),
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )


def captioning_weights(source: Weights) -> Weights:
    """Our weights as a (linear, differentiable) function of ruotianluo's.

    att_lstm.weight_ih has the columns [h2, photo, word] and lang_lstm.weight_ih [v_hat, h1]; ours are
    attention_lstm_photo, attention_lstm_word, attention_lstm_state [h2, h1] and language_lstm [v_hat, h1, h2].
    """
    hidden, word = source["logit.weight"].shape[1], source["embed.0.weight"].shape[1]
    inputs = source["core.att_lstm.weight_ih"]
    if inputs.shape[1] != 2 * hidden + word:
        raise ValueError(
            f"core.att_lstm.weight_ih has {inputs.shape[1]} columns, not the {2 * hidden + word} of two states of "
            f"{hidden} and a word of {word}: is this another model of that project?"
        )
    from_state, from_photo, from_word = inputs.split([hidden, hidden, word], dim=1)
    return {
        **{ours: source[theirs] for ours, theirs in CAPTIONING_NAMES.items()},
        "attention_lstm_photo.weight": from_photo,
        "attention_lstm_photo.bias": source["core.att_lstm.bias_ih"] + source["core.att_lstm.bias_hh"],
        "attention_lstm_word.weight": from_word,
        "attention_lstm_state.weight": torch.cat([from_state, source["core.att_lstm.weight_hh"]], dim=1),
        "language_lstm.weight": torch.cat(
            [source["core.lang_lstm.weight_ih"], source["core.lang_lstm.weight_hh"]], dim=1
        ),
        "language_lstm.bias": source["core.lang_lstm.bias_ih"] + source["core.lang_lstm.bias_hh"],
    }


def captioning_words(vocabulary: Mapping[str, str] | None, *, num_words: int) -> dict[int, str]:
    """Index -> word for 1 .. `num_words`; without a vocabulary, the placeholders w1, w2, ... and a warning."""
    if vocabulary is None:
        warnings.warn(
            f"the options hold no vocabulary, so the words are called w1 .. w{num_words}; "
            'give one as {"vocab": {"1": "a", ...}}',
            stacklevel=2,
        )
        return {index: f"w{index}" for index in range(1, num_words + 1)}
    words = {int(index): word for index, word in vocabulary.items()}
    if sorted(words) != list(range(1, num_words + 1)):
        raise ValueError(
            f"the vocabulary names {len(words)} words but the weights have {num_words} beside the end token: "
            f"it must name the indices 1 to {num_words}"
        )
    return dict(sorted(words.items()))


# The names that `updown convert-checkpoint` takes.
FORMATS: dict[str, Callable[[Weights, Mapping[str, Any]], ConvertedCheckpoint]] = {
    "captioning-pytorch": convert_captioning,
}
