"""`pipeline("moment-retrieval")`: the spans of a clip that a sentence is about.

clip --frames--> pixels --region source--> `Regions` with seconds --+
sentences --tokenizer--> words ------------------------------------+--> model --> [{"start", "end", "score"}, ...]
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.pipelines import Pipeline

from .pipeline_clips import CLIP_SETTINGS, PIXELS, as_clip, cast_pixels, clip_pixels, loaded_media, regions_of_media
from .pipeline_images import IMAGE_SETTINGS, image_inputs, save_parts, set_processor_parts


class UpDownMomentRetrievalPipeline(Pipeline):
    """Finds moments: for a clip and a sentence a list of `{"start", "end", "score"}`, the best first.

    `start` and `end` are seconds from the beginning of the clip, `score` in 0..1 is how likely the span is meant. A
    clip is the path, URL, bytes or open file of a video or an animated GIF, the `Clip` of `load_clip`, or
    `{"video": frames}` with a list or folder of frames. For several sentences about it there is a list of such lists;
    the clip is read once. The part of a clip that `start_seconds` and `end_seconds` name is read as a clip of its own,
    and all spans lie in it.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> finder = pipeline("moment-retrieval", model="runs/moments_scenes/best")  # doctest: +SKIP
    >>> finder("clip.mp4", "the dog jumps", top_k=1)  # doctest: +SKIP
    [{'start': 2.0, 'end': 4.5, 'score': 0.81}]
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        set_processor_parts(self)

    def __call__(self, video: Any = None, sentences: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """Find the moments of a clip.

        Args:
            video: a clip, as the class describes.
            sentences: a sentence or a list of them.
            top_k: spans of each sentence at most (default 5).
            num_frames, fps, segments, max_frames, start_seconds, end_seconds, frame_rate: which frames are taken, as
                `ClipSampling` and `load_clip` have it; by default one each `config.moment_step_seconds`.
            timeout: seconds for the download of a clip.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.

        Raises:
            ValueError: for an empty sentence, a clip that cannot be read, or a span outside of it.
            TypeError: without a clip or a sentence, or for an unknown argument.
        """
        if video is None or sentences is None:
            raise TypeError("give a clip and a sentence: finder('clip.mp4', 'the dog jumps')")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("a sentence is empty or no text: say what happens, such as 'the dog jumps'")
        found = super().__call__({"clip": video, "sentences": texts}, **kwargs)
        return found[0] if isinstance(sentences, str) else found

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def _sanitize_parameters(
        self, top_k: int | None = None, timeout: float | None = None, **settings: Any
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS - CLIP_SETTINGS
        if unknown:
            raise TypeError(
                f"moment-retrieval does not have the argument {', '.join(sorted(unknown))}: is it misspelt?"
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        timed = {} if timeout is None else {"timeout": timeout}
        return {**settings, **timed}, {}, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, input_: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        """A clip and S sentences -> the pixels of its frames, `input_ids` (S, T), and when the clip ends."""
        step = {"fps": 1.0 / float(self.model.config.moment_step_seconds)}
        loaded, rest = loaded_media(input_["clip"], settings, rule=step, animated=True)
        if hasattr(loaded, "frames"):
            pixels = clip_pixels(self.image_processor, loaded, **rest)
            start, end = loaded.part_seconds or (0.0, loaded.end_seconds)
            seconds = torch.as_tensor(loaded.seconds - start).float()[None]
            pixels |= {"frame_seconds": seconds.clamp(min=0), "duration_seconds": torch.tensor([float(end - start)])}
        else:
            pixels, start = as_clip(image_inputs(self.image_processor, loaded, **rest)), 0.0
        longest = min(self.tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
        words = self.tokenizer(
            input_["sentences"], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        tokens = {"input_ids": words["input_ids"], "attention_mask": words["attention_mask"]}
        return {**pixels, **tokens, "start_seconds": start}

    def _forward(self, input_tensors: Mapping[str, Any]) -> dict[str, Any]:
        """-> the model's `output` for S sentences about one clip, or the part of it from `start_seconds` on."""
        inputs = cast_pixels(dict(input_tensors), self.model.dtype)
        start = inputs.pop("start_seconds")
        regions = regions_of_media(
            self.model.get_regions, {name: inputs.pop(name) for name in PIXELS if name in inputs}
        )
        regions.region_images = None  # frames of one clip are told apart by their seconds
        return {"output": self.model(**inputs, **regions, return_dict=True), "start_seconds": start}

    def postprocess(self, model_outputs: Mapping[str, Any], top_k: int = 5) -> list[list[dict[str, float]]]:
        """-> the spans of each sentence."""
        ranked: Sequence[torch.Tensor] = self.model.predict_spans(model_outputs["output"], most=top_k)
        names, first = ("start", "end", "score"), model_outputs["start_seconds"]
        rows = [[(start + first, end + first, score) for start, end, score in spans.tolist()] for spans in ranked]
        return [[dict(zip(names, row, strict=True)) for row in spans] for spans in rows]
