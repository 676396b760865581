"""`pipeline("visual-question-answering")`: scored answers to questions about images, as in transformers 4.

    image, questions --preprocess--> pixels, words --model--> scores --postprocess--> [{"score": 0.93, "answer": "2"}]

transformers 5 removed the task; importing `modeling_updown` or loading a published folder registers it. An image's
regions are computed once for all questions about it: by the model's own region source, or by the one that is given,
for models without one and for transformers' own on regions, LXMERT and VisualBERT.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers.pipelines import Pipeline
from transformers.utils import logging

from .compat_updown import pipeline_tools
from .outputs_updown import check_finite
from .pipeline_clips import CLIP_SETTINGS, cast_pixels, media_inputs, regions_of_media, seconds_of_regions
from .pipeline_images import (
    IMAGE_SETTINGS,
    are_several_images,
    image_errors,
    image_loader,
    save_parts,
    set_processor_parts,
)
from .pipeline_questions import (
    ImageQuestionRows,
    ImageQuestions,
    KeptRegions,
    Question,
    batch_rows,
    check_lengths,
    checked_choices,
    checked_knowledge,
    checked_questions,
    join_questions,
    merged,
    question_list,
    question_stream,
)
from .pipeline_written_answers import answers_of
from .regions_updown import OPTIONAL, REQUIRED, Regions, entries

logger = logging.get_logger(__name__)

NUM_ANSWERS = 5  # by default, as in transformers 4
QUESTIONS_AT_ONCE = 256  # questions per forward pass: bounds the memory of attention
# transformers' own models on regions, by model type: what they take of `Regions`, and where a region's width stands
GIVEN_REGIONS: dict[str, Callable[[Regions], dict[str, torch.Tensor]]] = {
    "lxmert": Regions.for_lxmert,
    "visual_bert": Regions.for_visual_bert,
}
WIDTHS = {"lxmert": "visual_feat_dim", "visual_bert": "visual_embedding_dim"}
SCORES = {"visual_bert": partial(torch.softmax, dim=-1)}  # of one answer among all; the others' are sigmoids


class UpDownVisualQuestionAnsweringPipeline(Pipeline):
    """Answers questions about images: for each question a list of `{"score": 0..1, "answer": text}`, the best first.

    An image is any input of the image processor: a path, an http(s) URL, bytes, an open file, a PIL image, an array or
    a tensor. A clip, asked about as one, is the path, URL, bytes or open file of a video, the `Clip` of `load_clip`, or
    `{"video": frames}` (`video` also in rows); `num_frames` (8), `fps`, `segments`, `start_seconds` and `end_seconds`
    choose its frames; with one of these a GIF is a clip, else its first frame.

    - `vqa(image, question)`, `vqa({"image": image, "question": question})`: a list of answers;
    - one image and a list of questions, a list of images and one question, two lists of the same length (the first
      question about the first image, ...), a list of such dicts or rows `dataset[:3]`: a list of such lists. In
      transformers 4 two lists gave each question for each image; here that is
      `for question in questions: vqa(images, question)`;
    - a `datasets.Dataset` (or stream) with the columns `image` and `question`, a generator or torch data set of such
      dicts, or a data set or generator of images with one question, or a DataLoader of batches of either: an iterator
      that keeps nothing in memory.

    Scores of answers of the vocabulary are independent sigmoids. `choices=[...]`, or the `choices` of a row, ranks
    given answers instead: by the model's choice head (`config.scores_choices`; the scores are a softmax over the
    choices), else by the scores of the vocabulary, after the official normalisation of answers.

    A prefix language model writes its answers: those of its best beams, or it ranks the choices, which may be any
    texts. The score is the likelihood: exp of the log-likelihood over the number of tokens to the power of
    `config.answer_length_penalty`. `knowledge=[...]`, or the `knowledge` of a row, are sentences that such a model,
    or a fusion model, reads beside the question.

    With `return_regions=True` the best answer to each question also has

    - `region_weights`: tensor (G, R), the attention of each of G glimpses over the regions, each row sums to 1 (of the
      last layer of stacked attention; of a language model where it writes the answer's first word);
    - `region_boxes`: tensor (R, 4), xyxy in 0..1 of the image's width and height;
    - of a clip `region_seconds`: tensor (R,), when each region is seen.

    `pipeline(..., region_source=detector, image_processor=...)` gives a region source to a model that owns none, such
    as a converted UNITER, and to transformers' `LxmertForQuestionAnswering` and `VisualBertForQuestionAnswering`.
    `answers=[...]` names what the model scores, where its config does not, as LXMERT's does not. `ValueError` where the
    source's features are of another width, or where the number of names is another. `keep_regions=True` keeps the
    regions of the images asked about last, for a dialogue; not for a model that is trained meanwhile.

    Example:

    >>> import modeling_updown
    >>> from transformers import pipeline
    >>> vqa = pipeline("visual-question-answering", model="updown/vqa-daquar-flickr8k")  # doctest: +SKIP
    >>> vqa(image="dog.jpg", question="how many dogs are there?", top_k=2)  # doctest: +SKIP
    [{'score': 0.71, 'answer': '2'}, {'score': 0.16, 'answer': '1'}]
    """

    _load_processor = None
    _load_image_processor = None
    _load_tokenizer = None
    _load_feature_extractor = False
    _load_video_processor = False

    def __init__(
        self,
        *args: Any,
        region_source: Any = None,
        answers: Sequence[str] | None = None,
        keep_regions: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.kept = KeptRegions() if keep_regions else None
        num_scored = num_answers_scored(self.model.config)  # before the names are others
        if answers is not None:
            self.model.config.id2label = dict(enumerate(answers))
            self.model.config.label2id = {answer: number for number, answer in enumerate(answers)}
        self.region_source = None if region_source is None else region_source.to(self.device).eval()
        check_region_source(self.model, self.region_source)
        if not self.writes:
            check_answers(self.model, num_scored=num_scored)
        elif answers is not None:
            raise ValueError("this model writes its answers: leave answers out, or give choices=... to be ranked")
        set_processor_parts(self)
        if self.model.can_generate() and not self.writes:
            raise ValueError(
                f"{type(self.model).__name__} generates its answers, but this pipeline takes models that score them: "
                'a model that reads the words of an image answers in pipeline("text-reading")'
            )

    def __call__(self, image: Any = None, question: Any = None, **kwargs: Any) -> Any:
        """Answer one question or several.

        Args:
            image: an image, several, or rows of image and question, as the class describes.
            question: a question or a list of them; None if `image` holds the questions.
            top_k: the number of answers per question (default 5, or all choices).
            choices: the answers to choose from, for every question.
            knowledge: sentences beside every question, for a model that writes, or a fusion model.
            return_regions: add `region_weights` and `region_boxes` to the best answer.
            timeout: seconds for the download of an image.
            num_frames, fps, segments, max_frames, start_seconds, end_seconds, frame_rate: which frames of clips are
                taken, as `ClipSampling` and `load_clip` have it.
            padding, truncation: accepted as in transformers 4, without effect: padding does not change an answer, and
                questions are always truncated to the model's maximal length.
            do_rescale, do_normalize, size, ...: settings of the image processor, for this call.
            batch_size, num_workers: images per batch (default 1), processes that load images (0).

        Raises:
            ValueError: for an empty question; for choices that are empty, repeated or not in the vocabulary; for an
                image that cannot be read; each with its index from 0 if there are several. Also for scores that are
                not finite.
            TypeError: without an image or a question, for a question that is not text, or an unknown argument.
        """
        if image is None:
            raise TypeError("there is no image to ask about: give image=... (a path, a URL, a PIL image or an array)")
        question = question_list(question)
        if isinstance(image, Mapping) and are_several_images(image.get("image")):
            image = batch_rows(image, question)
        if are_several_images(image):
            check_lengths(image, question)
            images = ImageQuestionRows(image, question)
            return self.answer_all([images[place] for place in range(len(images))], **kwargs)
        stream = question_stream(image, question)
        if stream is not None:
            return super().__call__(stream, **kwargs)
        if not isinstance(question, list):
            return self.answer_all([checked_questions(image, question)], **kwargs)[0]
        rows = [checked_questions(image, text, place=place) for place, text in enumerate(question)]
        return self.answer_all([replace(row, place=None) for row in rows], **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor; `updown push` adds the code for use without this package."""
        save_parts(self, save_directory, **kwargs)

    def answer_all(self, rows: Sequence[ImageQuestions], **kwargs: Any) -> list[list[dict[str, Any]]]:
        """The answers of each row, in order; rows with the same image share its regions."""
        images, places = merged(rows)
        answers: list[Any] = [None] * len(rows)
        for place, found in zip(places, super().__call__(ImageQuestionRows(images), **kwargs), strict=True):
            answers[place] = found
        return answers

    def _sanitize_parameters(
        self,
        top_k: int | None = None,
        choices: Sequence[str] | None = None,
        knowledge: Sequence[str] | None = None,
        return_regions: bool | None = None,
        timeout: float | None = None,
        padding: Any = None,
        truncation: Any = None,
        **settings: Any,
    ) -> tuple[dict, dict, dict]:
        unknown = settings.keys() - IMAGE_SETTINGS - CLIP_SETTINGS
        if unknown:
            raise TypeError(
                f"visual-question-answering does not have the argument {', '.join(sorted(unknown))}: is it misspelt?"
            )
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        preprocess: dict[str, Any] = {"warned": set(), **settings}  # the warnings of this call
        if timeout is not None:
            preprocess["timeout"] = timeout
        if choices is not None:
            preprocess["choices"] = checked_choices(choices, name="choices")
        if knowledge is not None:
            preprocess["knowledge"] = checked_knowledge(knowledge, name="knowledge")
        forward = {} if return_regions is None else {"return_regions": return_regions}
        most = {} if top_k is None else {"top_k": top_k}
        return preprocess, {**forward, **most}, most

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: Any,
        forward_params: Any,
        postprocess_params: Any,
    ) -> Any:
        """As in transformers, but an item is an image with all its questions, and each question gets its answers."""
        loader = image_loader(
            inputs,
            self.preprocess,
            preprocess_params,
            num_workers=num_workers,
            batch_size=batch_size,
            collate_fn=join_questions,
        )
        outputs = pipeline_tools().PipelineIterator(loader, self.forward, forward_params)
        return pipeline_tools().PipelineChunkIterator(outputs, self.postprocess, postprocess_params)

    def preprocess(
        self,
        input_: ImageQuestions,
        choices: tuple[str, ...] = (),
        knowledge: tuple[str, ...] = (),
        warned: set[str] | None = None,
        **image_settings: Any,
    ) -> dict[str, Any]:
        """An image -> `image`, its `pixel_values` (1, 3, height, width) and mask, and its checked `questions`."""
        warned = set() if warned is None else warned
        asked = [replace(question, knowledge=knowledge or question.knowledge) for question in input_.questions]
        questions = [self.checked(question, choices, warned) for question in asked]
        with nullcontext() if input_.place is None else image_errors(input_.place):
            image = media_inputs(self.image_processor, input_.image, **image_settings)
        return {"photo": image, "questions": questions}

    def checked(self, question: Question, choices: tuple[str, ...], warned: set[str]) -> Question:
        """A question with its choices looked up; warns, once per call, of words that the model does not read.

        Raises `ValueError` for choices that the model cannot score.
        """
        check_knowledge(question, self.model)
        words = self.tokenizer(question.text, add_special_tokens=False, verbose=False)["input_ids"]
        most = self.max_words - (0 if self.writes else self.tokenizer.num_special_tokens_to_add())
        if len(words) > most and "long" not in warned:
            warned.add("long")
            logger.warning(
                f"{question.name} has {len(words)} words, of which the model reads the first {most}; "
                "further long ones are truncated without a warning"
            )
        if question.knowledge and not self.writes and "knowledge" not in warned:
            beside = self.tokenizer(" ".join(question.knowledge), add_special_tokens=False, verbose=False)["input_ids"]
            if len(words) + len(beside) > most:
                warned.add("knowledge")
                logger.warning(
                    f"{question.name} has {len(words) + len(beside)} words with its knowledge, of which the model "
                    f"reads the first {most}; further cut ones are not told"
                )
        if not set(words) - {self.tokenizer.unk_token_id, self.tokenizer.pad_token_id} and "unknown" not in warned:
            warned.add("unknown")
            logger.warning(
                f"{question.name} ({question.text[:40]!r}) has no word of the model's vocabulary, so only the image "
                "decides; further such ones are answered without a warning"
            )
        choices = choices or question.choices
        if not choices or self.writes or getattr(self.model.config, "scores_choices", False):
            return replace(question, choices=choices)
        normalize = answer_normalizer()
        ids = [self.answer_ids.get(text, self.answer_ids.get(normalize(text), -1)) for text in choices]
        absent = [text for text, number in zip(choices, ids, strict=True) if number < 0]
        if absent:
            raise ValueError(
                f"{question.name}: the choices {', '.join(map(repr, absent))} are not among the "
                f"{len(self.model.config.id2label)} answers of the model: leave them out, or use a model that scores "
                "choices by their words (config.scores_choices)"
            )
        return replace(question, choices=choices, answer_ids=tuple(ids))

    @property
    def writes(self) -> bool:
        """Whether the model writes its answers, and ranks given ones by their likelihood."""
        return hasattr(self.model, "write_answers")

    @cached_property
    def max_words(self) -> int:
        """The maximal number of tokens of a question, including special tokens such as [CLS]."""
        config = self.model.config
        positions = getattr(config.get_text_config(), "max_position_embeddings", self.tokenizer.model_max_length)
        return getattr(config, "max_question_words", None) or min(self.tokenizer.model_max_length, positions)

    @cached_property
    def answer_ids(self) -> dict[str, int]:
        """Answer -> row of the vocabulary, by its spelling and its normalised form; the first of equal ones counts."""
        written = {text: number for number, text in self.model.config.id2label.items()}
        normalize = answer_normalizer()
        normalized: dict[str, int] = {}
        for text, number in written.items():
            normalized.setdefault(normalize(text), number)
        return normalized | written

    def _forward(
        self, input_tensors: dict[str, Any], return_regions: bool = False, top_k: int | None = None
    ) -> dict[str, Any]:
        """-> `questions`, and for each in `found`: `scores` (A,) or (C,), with `return_regions` weights and boxes;
        where the model writes, its `answers` beside their scores."""
        images: Any = dict(input_tensors["photos"])  # what the model takes of them: pixels, or `Regions`
        questions = input_tensors["questions"]
        image_index = input_tensors["image_index"]  # (N,)
        if return_regions and not hasattr(self.model, "get_regions"):
            raise ValueError(
                f"{type(self.model).__name__} has no attention over regions: leave out return_regions=True"
            )
        images = self.seen(images)
        if self.writes:
            settings: Any = {"num_answers": top_k or NUM_ANSWERS, "return_regions": return_regions}
            parts = [slice(at, at + QUESTIONS_AT_ONCE) for at in range(0, len(questions), QUESTIONS_AT_ONCE)]
            written = [answers_of(self, images, questions[part], image_index[part], **settings) for part in parts]
            return {"found": [one for found in written for one in found], "questions": questions}
        shares = "image_index" in inspect.signature(self.model.forward).parameters
        found = []
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            part, index = (rows[start : start + QUESTIONS_AT_ONCE] for rows in (questions, image_index))
            inputs: dict[str, Any] = self.text_inputs(part)
            if shares:
                inputs |= {**images, "image_index": index}
            else:
                rows = {name: entries(values, index) for name, values in images.items()}
                form = GIVEN_REGIONS.get(self.model.config.model_type)
                inputs |= rows if form is None else form(Regions(**rows))
            if return_regions:
                inputs["output_attentions"] = True
            output = self.model(**inputs)
            logits = logits_of(output)
            if logits is not None:
                check_finite(logits, self.model, what="scores of answers")
            for row, question in enumerate(part):
                answered = {"scores": scores_of(question, output, row, scores=self.scores)}
                check_finite(answered["scores"], self.model, what="scores of choices")
                if return_regions:
                    real = images["region_mask"][index[row]]
                    answered["region_weights"] = output.attentions[-1][row][:, real].float()
                    answered["region_boxes"] = images["region_boxes"][index[row]][real].float()
                    answered |= seconds_of_regions(images, int(index[row]), real)
                found.append(answered)
        return {"found": found, "questions": questions}

    @property
    def scores(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """How the model's logits (A,) become scores, 0..1."""
        return SCORES.get(self.model.config.model_type, torch.sigmoid)

    def seen(self, images: dict[str, Any]) -> Any:
        """`looked_at` the images, or with `keep_regions` what was kept of them."""
        return self.looked_at(images) if self.kept is None else self.kept.of(images, self.looked_at)

    def looked_at(self, images: dict[str, Any]) -> Any:
        """Pixels of P images -> what the model takes of them: their `Regions`, or pixels where it has no regions."""
        source, owns_none = self.region_source, not hasattr(self.model, "get_regions")
        images = cast_pixels(images, (self.model if source is None else source).dtype)
        if source is None and owns_none and "pixel_values_videos" in images:
            raise ValueError(f"{type(self.model).__name__} reads single images: ask about one frame of the clip")
        if source is None and owns_none:
            return images
        timed = bool(getattr(self.model.config, "time_embedding", ""))
        return regions_of_media(self.regions_of_images, images, timed=timed)

    def regions_of_images(self, **pixels: torch.Tensor) -> Regions:
        """`pixel_values` (P, 3, height, width) and optionally `pixel_mask` -> the `Regions` of P images."""
        source = self.region_source
        if source is None:
            return self.model.get_regions(**pixels)
        made = source(**pixels, return_dict=True)
        fields = {name: made[name] for name in (*REQUIRED, *OPTIONAL) if made.get(name) is not None}
        fields["region_features"] = fields["region_features"].to(self.model.dtype)
        return self.model.get_regions(**fields) if hasattr(self.model, "get_regions") else Regions(**fields)

    def text_inputs(self, questions: Sequence[Question]) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (N, T); for choices without rows also `choice_input_ids`, `choice_mask`."""
        inputs = self.words([" ".join((question.text, *question.knowledge)) for question in questions])
        worded = [() if question.answer_ids else question.choices for question in questions]
        most = max(map(len, worded))
        if not most:
            return inputs
        texts = [text for choices in worded for text in (*choices, *[""] * (most - len(choices)))]
        counts = torch.tensor([len(choices) for choices in worded], device=self.device)
        return inputs | {
            "choice_input_ids": self.words(texts)["input_ids"].unflatten(0, (len(questions), most)),  # (N, C, T)
            "choice_mask": torch.arange(most, device=self.device) < counts[:, None],
        }

    def words(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Texts -> `input_ids` and `attention_mask`, (N, T); one unknown word for an empty text, as in training."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_words)["input_ids"]
        rows = [torch.tensor(ids or [self.tokenizer.unk_token_id]) for ids in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        input_ids = pad_sequence(rows, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        mask = torch.arange(input_ids.shape[1]) < lengths[:, None]
        return {"input_ids": input_ids.to(self.device), "attention_mask": mask.long().to(self.device)}

    def postprocess(self, model_outputs: dict[str, Any], top_k: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """The output of `_forward` for a batch of images -> the answers of each question in turn."""
        for question, found in zip(model_outputs["questions"], model_outputs["found"], strict=True):
            scores = found.pop("scores")
            names: Any = question.choices or found.pop("answers", self.model.config.id2label)
            most = top_k or (len(scores) if question.choices else NUM_ANSWERS)
            best = scores.topk(min(most, len(scores)))
            answers = [
                {"score": score, "answer": names[number]}
                for score, number in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]
            answers[0] |= found
            yield answers


def check_region_source(model: Any, source: Any) -> None:
    """`ValueError` for a model on regions that has no source, or one of another width."""
    config, name = model.config, type(model).__name__
    if source is None and config.model_type in GIVEN_REGIONS:
        raise ValueError(
            f"{name} reads regions and has no detector of its own: give the pipeline region_source=... and its "
            "image_processor=... (updown ask: --regions)"
        )
    takes = getattr(config, WIDTHS.get(config.model_type, "region_feature_size"), None)
    makes = None if source is None else source.config.region_feature_size
    if source is not None and takes != makes:
        raise ValueError(
            f"the region source makes features of width {makes}, but {name} takes {takes or 'no regions'}: give the "
            "detector whose features it was trained on"
        )


def check_knowledge(question: Question, model: Any) -> None:
    """`ValueError` for sentences beside a question of a model whose questions are a few words alone."""
    if question.knowledge and not hasattr(model.config, "text_config"):
        raise ValueError(
            f"{question.name} has knowledge beside it, which {type(model).__name__} does not read: leave it out, or "
            "use a prefix language model or a fusion model that learnt with it (data.knowledge)"
        )


def num_answers_scored(config: Any) -> int:
    """How many answers a model scores, by its config: LXMERT's has a field of its own, the others name each."""
    return int(getattr(config, "num_qa_labels", len(config.id2label or {})))


def check_answers(model: Any, *, num_scored: int) -> None:
    """`ValueError` where the model's config names fewer or more answers than the `num_scored` that it scores."""
    named = len(model.config.id2label or {})
    if num_scored != named:
        raise ValueError(
            f"{type(model).__name__} scores {num_scored} answers, but has names for {named}: give answers=[...], all "
            "of them in the order of their numbers (updown ask: --answers)"
        )


def logits_of(output: Any) -> torch.Tensor | None:
    """The scores of answers (N, A) before a sigmoid or softmax: as most models call them, or as LXMERT does."""
    logits = getattr(output, "logits", None)
    return getattr(output, "question_answering_score", None) if logits is None else logits


def scores_of(
    question: Question, output: Any, row: int, *, scores: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid
) -> torch.Tensor:
    """The scores, 0..1, of each answer of the vocabulary (A,), or of each of the question's choices (C,)."""
    if question.choices and not question.answer_ids:
        return output.choice_logits[row, : len(question.choices)].float().softmax(dim=0)
    logits: Any = logits_of(output)
    of_answers = scores(logits[row].float())
    return of_answers[list(question.answer_ids)] if question.answer_ids else of_answers


def answer_normalizer() -> Callable[[str], str]:
    """The official VQA normalisation, which is applied to the answers of vocabularies."""
    try:
        from .answer_text_updown import normalize_answer  # in a published folder
    except ImportError:
        from . import normalize_answer  # the installed package has it at its door
    return normalize_answer
