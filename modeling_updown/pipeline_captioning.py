"""`pipeline("image-to-text")`: captions of images, as in transformers 4, with the attention of each word.

The whole flow: image -> image processor -> `generate` -> tokenizer -> `[{"generated_text": "a dog runs"}]`.
transformers 5 removed the task; importing `modeling_updown` or loading a published folder registers it.
"""

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList
from transformers.pipelines import Pipeline

from .compat_updown import pipeline_settings, pipeline_tools, prepared_settings
from .generation_updown import FiniteScores, users_lengths
from .pipeline_clips import (
    CLIP_SETTINGS,
    PIXELS,
    cast_pixels,
    join_media,
    media_inputs,
    number_of_media,
    regions_of_media,
    seconds_of_regions,
)
from .pipeline_images import (
    IMAGE_SETTINGS,
    ListedImage,
    ListedImages,
    are_several_images,
    batch_images,
    image_errors,
    image_loader,
    image_stream,
    save_parts,
    set_processor_parts,
)

GENERATE_ARGUMENTS = {*GenerationConfig().to_dict(), *inspect.signature(GenerationMixin.generate).parameters} - {"self"}


class UpDownImageToTextPipeline(Pipeline):
    """Captions images: returns a list `[{"generated_text": ...}]` for one image, a list of such lists for several.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image, an array or
    a tensor. Several images are a list, an array (P, ...) or rows `dataset[:3]`; or a `datasets.Dataset` with a column
    of images, a generator, any torch data set or a DataLoader of batches, for which an iterator is returned that keeps
    nothing in memory. Settings of `generate` that are not given are those of the model's `generation_config`.

    A clip gets one caption of the regions of its frames: the path, URL, bytes or open file of a video, the `Clip` of
    `load_clip`, or `{"video": frames}` with a list or folder of frames. `num_frames` (8), `fps`, `segments`,
    `start_seconds` and `end_seconds` choose its frames; with one of these a GIF is a clip, else its first frame. It
    takes PyAV: `pip install 'modeling-updown[video]'`.

    With `return_regions=True` each caption also has

    - `words`: the T words of the caption in the tokenizer's spelling, without special tokens;
    - `region_weights`: tensor (T, R), the attention over the regions when each word was generated, each row sums to 1;
    - `region_boxes`: tensor (R, 4), xyxy in 0..1 of the image's width and height;
    - of a clip `region_seconds`: tensor (R,), when each region is seen.

    With `return_log_probs=True` each caption also has `log_prob_per_word`: the model's own log-probability of it over
    its number of words, the end token is one, those of a prompt are none.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> captioner = pipeline("image-to-text", model="updown/captioning-flickr8k")  # doctest: +SKIP
    >>> captioner("dog.jpg", num_beams=5)  # doctest: +SKIP
    [{'generated_text': 'a brown dog is running through the grass'}]
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False
    _pipeline_calls_generate = True
    _default_generation_config = GenerationConfig(max_new_tokens=20)

    def __init__(self, *args: Any, generate_kwargs: Mapping[str, Any] | None = None, **kwargs: Any):
        super().__init__(*args, **{**(generate_kwargs or {}), **kwargs})  # defaults of every call
        set_processor_parts(self)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def __call__(self, inputs: Any = None, **kwargs: Any) -> Any:
        """Caption one image or several.

        Args:
            inputs: an image or several, as the class describes; `images=` is another name for it.
            prompt: the first words of every caption, such as `"a photo of"`.
            words: what every caption must name, such as `["cat|kitten", "dog"]`: one of the alternatives of each entry;
                `num_beams` are then those of each set of words so far (`constrained_beams_updown`).
            max_new_tokens, num_beams, num_return_sequences, do_sample, ...: settings of `generate`, also as a dict
                `generate_kwargs`. `max_length` includes BOS and the prompt.
            timeout: seconds for the download of an image.
            num_frames, fps, segments, max_frames, start_seconds, end_seconds, frame_rate: which frames of clips are
                taken, as `ClipSampling` and `load_clip` have it.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.
            return_regions: add `words`, `region_weights` and `region_boxes` to each caption.
            return_log_probs: add `log_prob_per_word` to each caption.
            return_token_ids: add `generated_token_ids`, a list with BOS, EOS and the prompt but without padding.
            batch_size, num_workers: images per batch (default 1), processes that load images (0).

        Raises:
            ValueError: if an image cannot be read, with its index from 0 if there are several, the model's scores
                are not finite, or a word that is asked for is not in the vocabulary.
            TypeError: without an image, or for an argument that neither the pipeline, the image processor nor
                `generate` has.
        """
        images = kwargs.pop("images", None) if inputs is None else inputs
        if images is None:
            raise TypeError(
                "there is no image to caption: give a path, a URL, a PIL image, an array or a list of these"
            )
        if isinstance(images, Mapping) and are_several_images(images.get("image")):
            images = batch_images(images)
        if are_several_images(images):
            return list(super().__call__(ListedImages(images), **kwargs))
        return super().__call__(image_stream(images), **kwargs)

    def _sanitize_parameters(
        self,
        prompt: str | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        return_regions: bool | None = None,
        return_token_ids: bool | None = None,
        return_log_probs: bool | None = None,
        words: Sequence[Any] | str | None = None,
        timeout: float | None = None,
        **settings: Any,
    ) -> tuple[dict, dict, dict]:
        named = (IMAGE_SETTINGS | CLIP_SETTINGS) & settings.keys()
        image_settings = {name: settings.pop(name) for name in named}
        unknown = sorted(settings.keys() - GENERATE_ARGUMENTS)
        twice = sorted(settings.keys() & (generate_kwargs or {}).keys())
        if unknown:
            raise TypeError(
                f"neither image-to-text nor generate has the argument {', '.join(unknown)}: is it misspelt?"
            )
        if twice:
            raise ValueError(f"{', '.join(twice)} is given both directly and in generate_kwargs: give it once")
        generation = {**(generate_kwargs or {}), **settings}
        steps: tuple[dict[str, Any], ...] = (
            {"prompt": prompt, "timeout": timeout, **image_settings},
            {
                "return_regions": return_regions,
                "return_log_probs": return_log_probs,
                "words": words,
                "generate_kwargs": generation or None,
            },
            {"return_token_ids": return_token_ids},
        )
        preprocess, forward, postprocess = (
            {name: value for name, value in step.items() if value is not None} for step in steps
        )
        return preprocess, forward, postprocess

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: Any,
        forward_params: Any,
        postprocess_params: Any,
    ) -> Any:
        """As in transformers, but images of different sizes are padded to one batch, with their mask."""
        loader = image_loader(
            inputs,
            self.preprocess,
            preprocess_params,
            num_workers=num_workers,
            batch_size=batch_size,
            collate_fn=join_media,
        )
        iterator = pipeline_tools().PipelineIterator
        outputs = iterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return iterator(outputs, self.postprocess, postprocess_params)

    def preprocess(self, input_: Any, prompt: str | None = None, **image_settings: Any) -> dict[str, torch.Tensor]:
        """An image or clip (or `ListedImage`) -> the pixels of `media_inputs`, and `input_ids` (1, T) of the prompt."""
        if isinstance(input_, ListedImage):
            with image_errors(input_.place):
                return self.preprocess(input_.image, prompt=prompt, **image_settings)
        inputs = media_inputs(self.image_processor, input_, **image_settings)
        if prompt:
            inputs |= self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            inputs |= with_start_token(inputs["input_ids"], self.model.config.bos_token_id)
        return inputs

    def _forward(
        self,
        input_tensors: dict[str, torch.Tensor],
        generate_kwargs: Mapping[str, Any] | None = None,
        return_regions: bool = False,
        return_log_probs: bool = False,
        words: Sequence[Any] | str | None = None,
    ) -> dict[str, torch.Tensor]:
        """-> `sequences` (B, S, T), S captions per image, with `return_regions` their weights and boxes, and with
        `return_log_probs` their `log_prob_per_word` (B, S)."""
        inputs = cast_pixels(input_tensors, self.model.dtype)
        num_images, prompt = number_of_media(inputs), inputs.get("input_ids")
        settings = self.generation_settings(generate_kwargs or {}, words=prompt)
        settings = prepared_settings(self, settings, return_dict_in_generate=True, output_attentions=return_regions)
        if not hasattr(self.model, "get_regions"):
            asked = {"return_regions": return_regions, "return_log_probs": return_log_probs, "words": bool(words)}
            self.check_foreign(is_clip="pixel_values_videos" in inputs, **asked)
            return {"sequences": per_image(self.model.generate(**inputs, **settings).sequences, num_images)}
        pixels = {name: inputs.pop(name) for name in PIXELS if name in inputs}
        timed = bool(getattr(self.model.config, "time_embedding", ""))
        regions = regions_of_media(self.model.get_regions, pixels, timed=timed)
        inputs |= regions
        output = self.model.generate(**inputs, **settings, required_words=words)
        captions = {"sequences": per_image(output.sequences, num_images)}
        if return_log_probs:
            prompt_length = 1 if prompt is None else prompt.shape[1]
            log_probs = log_prob_per_word(
                self.model, output.sequences, regions, prompt_length=prompt_length, end_token_ids=self.end_token_ids()
            )
            captions["log_prob_per_word"] = per_image(log_probs, num_images)
        if return_regions:
            weights = next_word_weights(output.attentions, output.sequences, getattr(output, "beam_indices", None))
            captions |= {
                "region_weights": per_image(weights, num_images),
                "region_boxes": regions.region_boxes,
                "region_mask": regions.region_mask,
            }
            if "pixel_values_videos" in pixels and regions.region_seconds is not None:
                captions["region_seconds"] = regions.region_seconds
        return captions

    def check_foreign(self, **asked: bool) -> None:
        """`ValueError` where something is asked for that a model of another library does not have."""
        kind = type(self.model).__name__
        if asked.pop("is_clip", False):
            raise ValueError(f"{kind} describes single images: give it one frame of the clip")
        if asked["return_regions"]:
            raise ValueError(f"{kind} has no attention over regions: leave out return_regions=True")
        name = next((name for name, wanted in asked.items() if wanted), None)
        if name is not None:
            raise ValueError(f"{kind} is no captioner of this package: leave out {name}")

    def generation_settings(self, given: Mapping[str, Any], *, words: torch.Tensor | None) -> dict[str, Any]:
        """The arguments of `generate` for a call: a given length replaces the model's, `stop_strings` get the
        tokenizer, and scores are checked to be finite.

        words: of the prompt (B, T).
        """
        settings = {"tokenizer": self.tokenizer, **given}
        options = {**pipeline_settings(self), **settings}
        settings |= users_lengths(options, num_words=1 if words is None else words.shape[1])
        finite = FiniteScores(self.model)
        settings["logits_processor"] = LogitsProcessorList([finite, *(options.get("logits_processor") or ())])
        return settings

    def postprocess(
        self, model_outputs: Mapping[str, torch.Tensor], return_token_ids: bool = False
    ) -> list[dict[str, Any]]:
        """The output of `_forward` for one image (B = 1) -> one dict per caption."""
        captions = []
        for number, sequence in enumerate(model_outputs["sequences"][0].tolist()):
            caption: dict[str, Any] = {
                "generated_text": self.tokenizer.decode(sequence, skip_special_tokens=True).strip()
            }
            if return_token_ids:
                caption["generated_token_ids"] = without_padding(sequence, self.end_token_ids())
            if "log_prob_per_word" in model_outputs:
                caption["log_prob_per_word"] = float(model_outputs["log_prob_per_word"][0, number])
            if "region_weights" in model_outputs:
                caption |= self.regions_of_words(sequence, number, model_outputs)
            captions.append(caption)
        return captions

    def regions_of_words(
        self, sequence: Sequence[int], number: int, model_outputs: Mapping[str, torch.Tensor]
    ) -> dict[str, Any]:
        """`words`, `region_weights` and `region_boxes` of one caption, without special tokens and padded regions."""
        special = set(self.tokenizer.all_special_ids)
        places = [place for place, token in enumerate(sequence) if place > 0 and token not in special]
        real = model_outputs["region_mask"][0]
        weights = model_outputs["region_weights"][0, number]  # (T - 1, R): of the words after the first
        return {
            "words": [self.tokenizer.decode([sequence[place]]).strip() for place in places],
            "region_weights": weights[[place - 1 for place in places]][:, real].float(),
            "region_boxes": model_outputs["region_boxes"][0][real].float(),
            **seconds_of_regions(model_outputs, 0, real),
        }

    def end_token_ids(self) -> list[int]:
        """The ids of the tokens that end a caption."""
        ends = self.model.generation_config.eos_token_id
        return [] if ends is None else ends if isinstance(ends, list) else [ends]


def with_start_token(input_ids: torch.Tensor, start_token_id: int | None) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of a prompt (1, T), with the start token of captions before it.

    Tokenizers of language models (GPT-2's, Qwen2's) do not add one.

    >>> [with_start_token(torch.tensor([ids]), 1)["input_ids"].tolist() for ids in ([7, 8], [1, 7])]
    [[[1, 7, 8]], [[1, 7]]]
    """
    if start_token_id is not None and not input_ids[:, :1].eq(start_token_id).any():
        input_ids = torch.cat([input_ids.new_full((len(input_ids), 1), start_token_id), input_ids], dim=1)
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def next_word_weights(
    attentions: Sequence[tuple[torch.Tensor, ...]], sequences: torch.Tensor, beam_indices: torch.Tensor | None
) -> torch.Tensor:
    """The attention over the regions for every word after the first: (N, T - 1, R).

    attentions: of each step of `generate`, (rows, words, R), the first step with the whole prompt; sequences (N, T);
    beam_indices (N, generated words): the row of each word's beam, -1 after the end, None without beams.
    """
    prompt = attentions[0][0]  # (rows, P, R)
    num_generated = sequences.shape[1] - prompt.shape[1]
    if beam_indices is None:
        beam_indices = torch.arange(len(sequences), device=sequences.device)[:, None].expand(-1, num_generated)
    rows = beam_indices.clamp(min=0)
    steps = [attentions[step][0][rows[:, step]] for step in range(num_generated)]
    return torch.cat(steps, dim=1)


@torch.no_grad()
def log_prob_per_word(
    model: Any,
    sequences: torch.Tensor,
    regions: Mapping[str, torch.Tensor],
    *,
    prompt_length: int,
    end_token_ids: Sequence[int],
) -> torch.Tensor:
    """The model's log-probability of captions (N, T) after a prompt, over their numbers of words (N,), end included.

    It is the model's own, whatever they were written with: no processor, temperature or length penalty changes it.
    regions: of P images, N a multiple of P.
    """
    read = inspect.signature(model.forward).parameters
    words = sequences[:, 1:]
    ends = torch.isin(words, words.new_tensor(list(end_token_ids)))
    ends[:, : prompt_length - 1] = False
    scored = ends.cumsum(dim=1) - ends.long() == 0
    scored[:, : prompt_length - 1] = False
    output = model(
        input_ids=sequences[:, :-1],
        shift_labels=words.masked_fill(~scored, -100),
        **{name: value for name, value in regions.items() if name in read},
    )
    return output.label_log_probs.sum(dim=1) / scored.sum(dim=1).clamp(min=1)


def per_image(tensor: torch.Tensor, num_images: int) -> torch.Tensor:
    """(B * S, ...) -> (B, S, ...), S captions per image."""
    return tensor.unflatten(0, (num_images, -1))


def without_padding(sequence: Sequence[int], end_token_ids: Iterable[int]) -> list[int]:
    """The tokens up to and including the first end token, not counting BOS."""
    ends = set(end_token_ids)
    last = next((place for place, token in enumerate(sequence) if place > 0 and token in ends), len(sequence))
    return list(sequence[: last + 1])
