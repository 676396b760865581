"""What a captioner's `generate` and `forward` take beyond what transformers has: images by position, one prompt for all
images, required words, strings to stop at with a tokenizer of words, labels alone.

It stands between the user and `GenerationMixin`, for the captioners (`modeling_captioning`, `modeling_prefix_lm`).
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationMixin, LogitsProcessor, StoppingCriteria, StoppingCriteriaList

from .arguments_updown import REGION_FIELDS
from .compat_updown import CachedGenerationMixin
from .constrained_beams_updown import constrained_settings
from .losses_updown import IGNORED_LABEL
from .outputs_updown import check_finite

POSITIONAL = list(inspect.signature(GenerationMixin.generate).parameters)[2:]  # after the words
LENGTHS = {"max_length": "max_new_tokens", "min_length": "min_new_tokens"}


class ImageGenerationMixin(CachedGenerationMixin):
    """`generate` for models whose main input are words, but which people hand images first."""

    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, required_words: Any = None, **kwargs: Any
    ) -> Any:
        """As `GenerationMixin.generate`; `inputs` may be `pixel_values` (P, 3, height, width) as well as words (N, T).

        A prompt of one row begins the captions of all P images. `stop_strings` need `tokenizer=`, as everywhere. All
        that a region source returns may be given, `generate(**detector(pixel_values))`: fields of it that this model
        does not read are left out. A length that the user gives wins over the model's own.

        required_words: a list of constraints that every caption meets (`required_words_updown.required_token_ids`):
        `["cat|kitten", "dog"]` with `tokenizer=`, or the token ids of each one's alternatives. The search is
        `constrained_beams_updown.ConstrainedBeamSearch`; `num_beams` are those of each of its states.

        Raises `ValueError` for images given twice, and for words that no caption can hold.
        """
        read = inspect.signature(self.forward).parameters  # type: ignore[attr-defined]
        kwargs = {name: value for name, value in kwargs.items() if name in read or name not in REGION_FIELDS}
        if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
            if inputs.dim() != 4:
                raise ValueError(
                    f"generate got floats of shape {tuple(inputs.shape)} first: give pixel_values "
                    "(images, 3, height, width), or region_features by their name"
                )
            if any(kwargs.get(name) is not None for name in ("pixel_values", "region_features")):
                raise ValueError("generate got images twice: by position and by name")
            kwargs["pixel_values"], inputs = inputs, None
        for name in ("input_ids", "attention_mask"):
            if kwargs.get(name) is not None:
                kwargs[name] = for_all_images(kwargs[name], kwargs)
        words = kwargs.get("input_ids") if inputs is None else inputs
        kwargs |= users_lengths(kwargs, num_words=1 if words is None else words.shape[1])
        if words is None and self.device.type == "meta":  # transformers would put the first word where the weights are
            inputs = first_words(self, kwargs)
        if required_words is not None and (not isinstance(required_words, Sequence) or len(required_words)):
            positional = dict(zip(POSITIONAL, args, strict=False))
            kwargs = constrained_settings(self, required_words, {**positional, **kwargs, **stop_settings(self, kwargs)})
            return super().generate(for_all_images(inputs, kwargs), **kwargs)
        if stops := stop_settings(self, kwargs):
            kwargs = {**kwargs, **stops, "tokenizer": None}
        return super().generate(for_all_images(inputs, kwargs), *args, **kwargs)


def stop_settings(model: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `generate` that stop at strings, where there are some and a `tokenizer`; else none."""
    strings, tokenizer = given.get("stop_strings") or model.generation_config.stop_strings, given.get("tokenizer")
    if not strings or tokenizer is None:
        return {}
    criteria = [*(given.get("stopping_criteria") or ()), StopAtStrings(tokenizer, strings)]
    return {"stop_strings": None, "stopping_criteria": StoppingCriteriaList(criteria)}


class StopAtStrings(StoppingCriteria):
    """Ends a caption once one of the strings stands in what was written after the prompt.

    transformers' own takes tokens apart into characters, which a tokenizer of whole words has no way to spell.
    """

    def __init__(self, tokenizer: Any, stop_strings: str | Sequence[str]):
        self.tokenizer = tokenizer
        self.stop_strings = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
        self.prompt_length: int | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """(N, T) words so far -> (N,) bool, True = done."""
        if self.prompt_length is None:  # first asked after the first word
            self.prompt_length = input_ids.shape[1] - 1
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :], skip_special_tokens=True)
        done = [any(string in text for string in self.stop_strings) for text in texts]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]


class FiniteScores(LogitsProcessor):
    """Stops `generate` at the first word whose scores are no numbers, which it would make some word of."""

    def __init__(self, model: Any):
        self.model = model

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores (N, V) as they are; words that are ruled out have -inf, but never all."""
        check_finite(scores.amax(dim=-1), self.model, what="scores of words")
        return scores


def users_lengths(given: Mapping[str, Any], *, num_words: int) -> dict[str, Any]:
    """What makes the lengths that a user gave to `generate` win over new tokens of the model's own config, which would
    win over them there. num_words: those before the first new one.
    """
    settings: dict[str, Any] = {
        new_tokens: None
        for length, new_tokens in LENGTHS.items()
        if given.get(length) is not None and given.get(new_tokens) is None
    }
    if given.get("generation_config") is not None:
        config = settings["generation_config"] = copy.deepcopy(given["generation_config"])
        for length, new_tokens in LENGTHS.items():
            value = getattr(config, length, None)
            if value and getattr(config, new_tokens, None) is None:
                setattr(config, new_tokens, max(value - num_words, 0))
                setattr(config, length, None)
    return settings


def first_words(model: Any, given: Mapping[str, Any]) -> torch.Tensor | None:
    """The start token of each image's caption (P, 1), beside the images; None where images or the token are absent."""
    images = next((given[name] for name in ("pixel_values", "region_features") if given.get(name) is not None), None)
    config = given.get("generation_config") or model.generation_config
    token = given.get("bos_token_id", config.bos_token_id)
    if images is None or token is None or given.get("inputs_embeds") is not None:
        return None
    return torch.full((len(images), 1), token, dtype=torch.long, device=images.device)


def for_all_images(words: Any, images: Mapping[str, Any]) -> Any:
    """Words (1, T), or their mask, once for each of the P images, (P, T); several rows stay as they are."""
    given = next((images[name] for name in ("pixel_values", "region_features") if images.get(name) is not None), ())
    if isinstance(words, torch.Tensor) and words.dim() == 2 and len(words) == 1 < len(given):
        return words.expand(len(given), -1)
    return words


def words_of_labels(labels: torch.Tensor | None, config: Any) -> Any:
    """The words (N, T) that labels (N, T) were made of, for a `forward` that got labels alone.

    A label that is not scored is the start token where it comes first, else padding. Raises `ValueError` without any.

    >>> from transformers import PreTrainedConfig
    >>> words_of_labels(torch.tensor([[-100, 5, 2, -100]]), PreTrainedConfig(bos_token_id=1, pad_token_id=0)).tolist()
    [[1, 5, 2, 0]]
    """
    if labels is None:
        raise ValueError("Give input_ids: the words so far, at least the one that every caption starts with")
    words = labels.clone()
    words[:, :1] = words[:, :1].masked_fill(words[:, :1] == IGNORED_LABEL, config.bos_token_id or 0)
    return words.masked_fill(words == IGNORED_LABEL, config.pad_token_id or 0)
