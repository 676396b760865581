"""Reads checkpoints without executing anything in them, and loads all their tensors into a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel

Weights = dict[str, torch.Tensor]

NOT_WEIGHTS = ("in.", "out.", "grad.", "sc.", "pre.")  # inputs and outputs in a golden file
WRAPPERS = ("model.", "module.")
OPTION_SECTIONS = ("config", "opt")


@dataclass
class ConvertedCheckpoint:
    """A model with the source's weights and settings, and the processor that prepares its inputs; None for a model that
    reads given features alone."""

    model: PreTrainedModel
    processor: Any

    def save(self, folder: str | Path) -> None:
        """Write everything that `from_pretrained` needs to one folder."""
        self.model.save_pretrained(folder)
        if self.processor is not None:
            self.processor.save_pretrained(folder)


def flat_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a JSON file, at its top level or under the key `"config"` (ruotianluo's: `"opt"`)."""
    sections = [config[key] for key in OPTION_SECTIONS if isinstance(config.get(key), Mapping)]
    flat = {name: value for name, value in config.items() if name not in OPTION_SECTIONS}
    return {name: value for section in (flat, *sections) for name, value in section.items()}


def number_option(options: Mapping[str, Any], *names: str, default: float) -> float:
    """The first of the named options that is given; raises `ValueError` naming one that is not a finite number."""
    name, value = next(((name, options[name]) for name in names if options.get(name) is not None), ("", default))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the option {name} is {value!r:.60}, which is not a number")
    return number


def words_by_index(vocabulary: Any, *, option: str) -> dict[int, str]:
    """Index -> word, from a list, `{index: word}`, `{word: index}`, or a pair of both, as in hengyuan-hu's dictionary.

    Raises `ValueError` naming the option for anything else.

    >>> words_by_index({"a": 1, "dog": 2}, option="vocab"), words_by_index(["a", "dog"], option="vocab")
    ({1: 'a', 2: 'dog'}, {0: 'a', 1: 'dog'})
    """
    if isinstance(vocabulary, Sequence) and len(vocabulary) == 2 and isinstance(vocabulary[0], Mapping):
        vocabulary = vocabulary[1]
    pairs = list(vocabulary.items() if isinstance(vocabulary, Mapping) else [])
    if isinstance(vocabulary, Sequence) and not isinstance(vocabulary, str):
        pairs = list(enumerate(vocabulary))
    if pairs and all(type(value) is int for _, value in pairs):
        pairs = [(index, word) for word, index in pairs]
    fits = all(isinstance(word, str) and str(index).isdecimal() for index, word in pairs)
    words = {int(index): word for index, word in pairs} if fits else {}
    if not words or len(words) < len(pairs):
        raise ValueError(
            f'the option {option} should name the words, {{"0": "a", ...}} or ["a", ...], it is '
            f"{str(vocabulary)[:60]!r}"
        )
    return dict(sorted(words.items()))


def read_weights(path: str | Path) -> Weights:
    """The tensors of a checkpoint by name, without a prefix common to all, in float32.

    Nothing else is unpickled: raises `ValueError` if the file holds other objects, or is not a checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file of weights in it, such as model.safetensors")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    loaded = _load_safetensors(path) if path.suffix == ".safetensors" else _load_tensors_only(path)
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    weights = {name: value for name, value in loaded.items() if not str(name).startswith(NOT_WEIGHTS)}
    wrong = [
        name for name, value in weights.items() if not isinstance(value, torch.Tensor) or not isinstance(name, str)
    ]
    if wrong or not weights:
        raise ValueError(f"{path} should hold the tensors of one model by name, but {wrong[:3] or 'it'} holds none")
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not a complete safetensors file ({error}); download or write it again") from error


def _load_tensors_only(path: Path) -> dict[str, Any]:
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise ValueError(f"{path} should end in .safetensors, .pth, .pt or .bin")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # reading a damaged pickle may raise anything
        raise ValueError(
            f"{path} is damaged or holds Python objects besides tensors, which are never unpickled; save only its "
            "tensors in the project it comes from: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        ) from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not tensors by name; save model.state_dict() there")
    return loaded


def check_names(weights: Weights, expected: Sequence[str], *, format: str) -> None:
    """Raises `ValueError` listing every missing and unexpected tensor, or those that are not finite."""
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise ValueError(
            f"these weights are not {format}: missing {', '.join(missing) or 'nothing'}; "
            f"unexpected {', '.join(unexpected) or 'nothing'}"
        )
    broken = [name for name in sorted(expected) if not torch.isfinite(weights[name]).all()]
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ValueError(
            f"these weights hold NaN or infinity in {', '.join(broken[:5])}{more}: the training diverged, or the "
            "file is damaged; use an earlier checkpoint, or download it again"
        )


def check_shapes(weights: Weights, shapes: Mapping[str, Sequence[int | None]], *, format: str) -> None:
    """Raises `ValueError` for a tensor of another shape than the one given, where None is any size from 1 on.

    For tensors that are added up or cut on their way, which a wrong shape would get through by broadcasting.
    """
    for name, shape in shapes.items():
        sizes = tuple(weights[name].shape)
        fits = len(sizes) == len(shape) and all(
            size == wanted or (wanted is None and size) for size, wanted in zip(sizes, shape, strict=True)
        )
        if not fits:
            wanted = " x ".join("any" if size is None else str(size) for size in shape)
            found = " x ".join(map(str, sizes)) or "a single number"
            raise ValueError(
                f"these weights are not {format}: {name} should be {wanted}, it is {found}; download the file again, "
                "or convert it as what it is"
            )


def load_into(model: PreTrainedModel, weights: Weights) -> None:
    """Load all weights into a model; raises `ValueError` for a shape that does not fit."""
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint's shapes do not fit together: {error}") from error
