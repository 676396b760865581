"""Moment retrieval: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

A row is a sentence with the spans of a clip that it is about; a clip is its regions in a store, each with its seconds,
under the clip's id. Clips that are strips of frames (moving scenes, travelling cameras) are extracted into the store by
the recipe's region source. Clips that several sentences of a step are about are fetched once. Figures and their data
sets are in `moment_scores.py`; beside them belong runs with `train.withhold=image`, which learn where moments usually
lie, with `train.withhold=text`, which learn what in a clip is usually spoken of, and the spans that need no model:
`python -m training.probes.moments RECIPE`.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PreTrainedConfig

from modeling_updown import UpDownProcessor
from modeling_updown.outputs_updown import check_finite
from training.data.clips.formats import MOMENT_FORMATS, load_clips
from training.data.clips.submission import write_qvhighlights
from training.data.clips.travelling_rows import read_travelling_moments
from training.data.files import listed
from training.metrics.video.highlights import CLIP_SECONDS
from training.recipe_sections import Recipe, key
from training.scenes.moving_rows import read_moving_moments
from training.tasks.build import load_by_split
from training.tasks.card_facts import text_facts
from training.tasks.fusion import FUSION_READS, FusionTask
from training.tasks.moment_scores import (
    FIGURES,
    FoundMoment,
    clip_saliency,
    figures_of,
    moment_figures,
    windows_inside,
)
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.tasks.statements import IMAGE_FEATURES, rows_within
from training.tasks.vqa import question_groups

FORMATS: dict[str, Callable[..., Dataset]] = {
    **MOMENT_FORMATS,
    "moving_scenes": read_moving_moments,
    "travelling": read_travelling_moments,
}
BY_SPLIT = ("annotations", "clips", "durations", "file_split", "images", "num_scenes")
STRIP = ("image_id", "image")  # columns of rows whose clip is a strip of frames
SUBMITTED = "qvhighlights"
NOWHERE = -1.0  # in place of spans and pairs that are not there
SECONDS_NEEDED = "which moments are found by: name a store of clips, whose regions have their seconds"


@dataclass
class ClipsRecipe:
    """What is said of clips and found moments.

    duration_seconds: of clips whose rows say none, as DiDeMo's (30); 0 takes it from the steps of the clip.
    windows: how many windows of a sentence are kept for its figures; of DiDeMo all are.
    round_seconds: ends of windows are given at multiples of so many seconds, as QVHighlights' are (2); 0 leaves them.
    """

    duration_seconds: float = key(0.0, lowest=0)
    windows: int = key(10, lowest=1)
    round_seconds: float = key(0.0, lowest=0)


@dataclass
class MomentsRecipe(Recipe):
    """A recipe of moment retrieval.

    moments: what is said of clips and found moments.
    """

    moments: ClipsRecipe = field(default_factory=ClipsRecipe)


@dataclass
class Moments:
    """Sentences about prepared clips: their rows, one row a clip, and the clip of each sentence (N,)."""

    rows: Dataset
    clips: Dataset
    clip_of: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


class MomentsTask(FusionTask):
    """A recipe's sentences with moments, model and processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    recipe: MomentsRecipe

    def __init__(self, recipe: Recipe, accelerator: Accelerator):
        super().__init__(recipe, accelerator)
        metric, format = recipe.evaluate.metric, recipe.data["format"]
        if metric not in figures_of(format):
            raise ValueError(
                f"evaluate.metric is {metric!r}, but {format} is scored by {', '.join(figures_of(format))}: set it to "
                "one of these"
            )

    def prepare(self) -> None:
        """Everything training needs: sentences with their spans, model, regions, token ids."""
        recipe = self.recipe
        rows = with_spans(self.rows(recipe.train.split), split=recipe.train.split)
        self.ask_store(rows)
        self.model = self.start_from(recipe.init_from) if recipe.init_from else self.build_fusion(rows["caption"][:])
        self.set_trained()
        self.check_evaluation()
        self.trained = self.moments(rows)
        self.groups = question_groups(self.trained.clip_of, most=recipe.train.questions_per_image)
        self.num_rows = len(self.groups)
        self.token_ids = self.encode_sentences(self.trained.rows["caption"][:])
        said = ("spans", "relevant_clip_ids", "saliency_scores")
        self.said: dict[str, list[Any]] = {name: self.trained.rows[name][:] for name in said}
        self.said["spans"] = [distinct(spans) for spans in self.said["spans"]]  # several people may name the same

    # -- rows ---------------------------------------------------------------------------------------------------------

    def rows(self, split: str) -> Dataset:
        """One row a sentence of that split, as `MOMENT_FEATURES` or `CLIP_MOMENT_FEATURES` has it."""
        return moment_rows(self.recipe.data, split=split)

    def rows_of_images(self, rows: Dataset) -> Dataset:
        """A row a clip of the sentences."""
        return distinct_clips(rows)[0]

    def moments(self, rows: Dataset) -> Moments:
        """Sentences whose clip has regions; the others are left out, with one warning."""
        clips, clip_of = distinct_clips(rows)
        prepared = self.images.prepare(clips, warns=False)
        place = {clip_id: number for number, clip_id in enumerate(prepared["image_id"][:])}
        ids = clips["image_id"][:]
        kept_place = np.array([place.get(clip_id, -1) for clip_id in ids])[clip_of]
        kept = np.flatnonzero(kept_place >= 0)
        if len(kept) < len(rows):
            lost = [clip_id for clip_id in ids if clip_id not in place]
            warnings.warn(
                f"{len(rows) - len(kept)} sentences are left out, since {len(lost)} clips have no regions: "
                f"{listed(lost)}",
                stacklevel=2,
            )
            rows = rows.select(kept)
        strips = [name for name in STRIP if name in rows.column_names]  # `prepared` has each once
        return Moments(rows.remove_columns(strips), prepared, kept_place[kept])

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> Dataset:
        """The sentences of a split whose spans are known, or the first of them, about at most `max_images` clips."""
        return self.evaluation_moments(split, max_images=max_images).rows

    def evaluation_moments(self, split: str, *, max_images: int = 0) -> Moments:
        """The same, with their clips."""
        cached = (split, max_images)
        if cached not in self.evaluated:
            rows = with_spans(self.rows(split), split=split)
            if max_images:
                rows = rows.select(range(rows_within([[clip_id] for clip_id in rows["clip_id"][:]], max_images)))
            self.evaluated[cached] = self.moments(rows)
        return self.evaluated[cached]

    # -- model --------------------------------------------------------------------------------------------------------

    def adopt(self, model: Any, processor: UpDownProcessor) -> None:
        """As the base class has it; regions are read with their seconds.

        Raises `ValueError` for a model that reads given features of words, which these data have none of.
        """
        if model.config.moment_inputs == "features":
            raise ValueError(
                "the model reads given features of words (moment_inputs is 'features'), and these data have sentences: "
                "train one with moment_inputs: states or embeddings"
            )
        super().adopt(model, processor)
        self.images.read("region_seconds", needed=SECONDS_NEEDED)

    def settled_fields(self) -> dict[str, Any]:
        """The fields of the head, whatever the model of `init_from` was saved with or learnt."""
        own = {name: value for name, value in self.recipe.model.items() if name.startswith("moment_")}
        return {"objectives": {}, **own}

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encode_sentences(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """Each sentence's token ids; those of an empty text where the recipe withholds it."""
        return self.encode([""] * len(texts) if self.recipe.train.withhold == "text" else texts)

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Sentences with their clips, true spans in seconds, and pairs of seconds of which one is more salient.

        indices: of groups of `train.questions_per_image` sentences of a clip at most.
        """
        sentences = np.concatenate([self.groups[i] for i in indices])
        chosen = sentences.tolist()
        inputs = self.sentence_inputs(self.trained, self.token_ids, sentences)
        durations = inputs.get("duration_seconds")
        if durations is None:
            durations = inputs["region_seconds"].amax(dim=1)
        ends = durations[inputs["image_index"]].tolist()
        pairs = []
        for index, end in zip(chosen, ends, strict=True):
            draw = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            said = {name: values[index] for name, values in self.said.items()}
            pairs.append(salient_pairs(said, end=end, draw=draw))
        spans = [self.said["spans"][index] for index in chosen]
        return {**inputs, "labels": padded_pairs(spans), "saliency_labels": padded_pairs(pairs)}

    def sentence_inputs(
        self, asked: Moments, token_ids: Sequence[torch.Tensor], indices: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Sentences by number as the model takes them, each of their clips once."""
        shown, places = np.unique(asked.clip_of[indices], return_inverse=True)
        images = self.image_inputs(asked.clips, shown)
        if self.recipe.train.withhold == "image":  # when regions are seen, and where, is left
            images["region_features"] = torch.ones_like(images["region_features"])
        return {
            **images,
            **self.durations(asked, indices, places, images),
            **self.word_inputs([token_ids[i] for i in indices.tolist()]),
            "image_index": torch.from_numpy(places.reshape(-1).astype(np.int64)),
        }

    def durations(
        self, asked: Moments, indices: np.ndarray, places: np.ndarray, images: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """`duration_seconds` of the clips, none where no row says them; a clip lasts at least until its last region."""
        own = asked.rows[indices.tolist()]
        default = self.recipe.moments.duration_seconds or None
        said = [default if seconds is None else seconds for seconds in own["duration_seconds"]]
        if all(seconds is None for seconds in said):
            return {}
        if None in said:
            name = own["clip_id"][said.index(None)]
            raise ValueError(
                f"the clip {name!r} has no duration, but others have one: name the durations of all in the data, or "
                "set moments.duration_seconds"
            )
        last = images["region_seconds"].masked_fill(~images["region_mask"], 0).amax(dim=1)
        given = last.new_zeros(len(last))
        given[torch.from_numpy(places.reshape(-1))] = torch.tensor(said, dtype=last.dtype)
        return {"duration_seconds": torch.maximum(given, last)}

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """The loss times the sentences, their number, and the parts of the loss."""
        output = model(**inputs)
        count = torch.tensor(len(inputs["labels"]))
        return output.loss * count, count, {name: loss.item() for name, loss in output.losses.items()}

    # -- score --------------------------------------------------------------------------------------------------------

    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Find the moments of a split, every process its share, and score them as their data set is scored."""
        asked = self.evaluation_moments(split, max_images=max_images)
        found = self.found(model, asked)
        rows = asked.rows.to_list()
        metrics, items = moment_figures(found, rows, format=self.recipe.data["format"])
        return Scored(metrics, predictions_of(found, rows), {}, items)

    def score_all(self, model: Any, *, split: str, num_beams: int) -> Scored:
        """As `score`, with a prediction for every sentence; figures only where the spans of all are known."""
        rows = self.rows(split)
        if all(rows["spans"][:]):
            return self.score(model, split=split)
        asked = self.moments(rows)
        return Scored({}, predictions_of(self.found(model, asked), asked.rows.to_list()), {})

    @torch.no_grad()
    def found(self, model: Any, asked: Moments) -> list[FoundMoment]:
        """What the model finds for every sentence, in their order."""
        model.eval()
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        token_ids = self.encode_sentences(asked.rows["caption"][:])
        order = np.argsort(asked.clip_of, kind="stable")  # sentences of a clip next to each other
        mine = np.array_split(order, accelerator.num_processes)[accelerator.process_index]
        made: list[tuple[int, FoundMoment]] = []
        starts = range(0, len(mine), size)
        for start in tqdm(starts, desc="moments", disable=not accelerator.is_main_process, leave=False):
            chosen = mine[start : start + size]
            output = model(**self.on_device(self.sentence_inputs(asked, token_ids, chosen)))
            check_finite(output.span_scores, model, what="scores of spans")
            made += zip(chosen.tolist(), self.read_output(model, output), strict=True)
        return [own for _, own in sorted(gather_object(made), key=lambda one: one[0])]

    def read_output(self, model: Any, output: Any) -> list[FoundMoment]:
        """The windows and saliency of each sentence of a pass."""
        settings = self.recipe.moments
        options: dict[str, Any] = {"most": settings.windows, "round_seconds": settings.round_seconds or None}
        if self.recipe.data["format"] == "didemo":  # every segment is ranked
            options = {"max_iou": 1.0}
        found = []
        steps = output.step_seconds.float().cpu()
        for row, windows in enumerate(model.predict_spans(output, **options)):
            real = steps[row, :, 0] < steps[row, -1, 1]  # padding begins where the clip ends
            real[0] = True
            saliency = None if output.saliency_scores is None else output.saliency_scores[row].float().cpu()[real]
            parts = (windows.float().cpu().numpy(), None if saliency is None else saliency.numpy())
            found.append(FoundMoment(*parts, steps[row][real].numpy()))
        return found

    def figures(self, scored: Scored, *, num_beams: int = 1) -> dict[str, Any]:
        """The hundredfold metrics, and what was withheld."""
        shown = {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}
        withheld = self.recipe.train.withhold
        return {**({"withheld": withheld} if withheld else {}), "metrics": shown, "domains": scored.domains}

    def check_submission(self, split: str) -> None:
        """`ValueError` for data whose moments no organisers take."""
        format = self.recipe.data["format"]
        if format != SUBMITTED:
            raise ValueError(
                f"data.format is {format!r}, for which nobody takes moments: --submission is for {SUBMITTED}"
            )

    def write_submission(self, scored: Scored, path: str | Path, *, split: str) -> None:
        """Write the windows and saliency of all sentences as QVHighlights' server takes them."""
        kept = ("windows", "saliency_scores")
        said = {own["moment_id"]: {name: own[name] for name in kept if name in own} for own in scored.predictions}
        write_qvhighlights(said, path, rows=self.rows(split).to_list())


def moment_rows(data: Mapping[str, Any], *, split: str) -> Dataset:
    """The rows of a recipe's `data` section, whose options `BY_SPLIT` may be mappings by split."""
    return load_by_split(partial(load_clips, formats=FORMATS), data, split=split, names=BY_SPLIT)


def distinct_clips(rows: Dataset) -> tuple[Dataset, np.ndarray]:
    """One row a clip of the sentences (`image_id`, and its strip of frames as `image`, None where rows have none), and
    the clip of each sentence (N,)."""
    places: dict[str, int] = {}
    owners = [places.setdefault(clip_id, len(places)) for clip_id in rows["clip_id"][:]]
    if "image" in rows.column_names:
        first = np.unique(owners, return_index=True)[1]
        return rows.select(first).select_columns(list(STRIP)), np.array(owners)
    columns = {"image_id": list(places), "image": [None] * len(places)}
    return Dataset.from_dict(columns, features=IMAGE_FEATURES), np.array(owners)


def with_spans(rows: Dataset, *, split: str) -> Dataset:
    """The sentences whose spans are known; `ValueError` where there is none."""
    known = [number for number, spans in enumerate(rows["spans"][:]) if spans]
    if not known:
        raise ValueError(
            f"the moments of {split} are hidden: score another split, or write what its organisers score with updown "
            "evaluate --submission FILE"
        )
    return rows if len(known) == len(rows) else rows.select(known)


def distinct(spans: Sequence[Sequence[float]]) -> list[list[float]]:
    """Each span once, in their order.

    >>> distinct([[0.0, 5.0], [5.0, 9.0], [0.0, 5.0]])
    [[0.0, 5.0], [5.0, 9.0]]
    """
    return [list(span) for span in dict.fromkeys(map(tuple, spans))]


def padded_pairs(rows: Sequence[Sequence[Sequence[float]]]) -> torch.Tensor:
    """Pairs of numbers of N rows as (N, M, 2), -1 twice where a row has fewer; M is at least 1.

    >>> padded_pairs([[[0.0, 2.0]], []]).tolist()
    [[[0.0, 2.0]], [[-1.0, -1.0]]]
    """
    whole = torch.full((len(rows), max([1, *map(len, rows)]), 2), NOWHERE)
    for place, row in zip(whole, rows, strict=True):
        if row:
            place[: len(row)] = torch.tensor(row)
    return whole


def salient_pairs(said: Mapping[str, Any], *, end: float, draw: np.random.Generator) -> list[list[float]]:
    """Pairs of seconds, the first of which is the more salient, as Moment-DETR draws them: inside a span and outside.

    Where people rated clips of 2 s (QVHighlights), outside are those that nobody rated, and the clips rated best and
    worst are a pair too, if these differ. end: of the clip. No pair where nothing lies outside.

    >>> said = {"spans": [[2.0, 4.0]], "relevant_clip_ids": [], "saliency_scores": []}
    >>> [[inside, outside]] = salient_pairs(said, end=4.0, draw=np.random.default_rng(0))
    >>> 2 <= inside <= 4, outside < 2
    (True, True)
    """
    if said["relevant_clip_ids"]:
        return rated_pairs(said["relevant_clip_ids"], said["saliency_scores"], end=end, draw=draw)
    spans = np.array(said["spans"], dtype=float).clip(max=end)
    times = draw.uniform(0, end, size=64)
    outside = times[~((times[:, None] >= spans[:, 0]) & (times[:, None] <= spans[:, 1])).any(axis=1)]
    if not len(outside):
        return []
    start, stop = spans[draw.integers(len(spans))]
    return [[float(draw.uniform(start, stop)), float(outside[0])]]


def rated_pairs(
    numbers: Sequence[int], ratings: Sequence[Sequence[int]], *, end: float, draw: np.random.Generator
) -> list[list[float]]:
    """As `salient_pairs`, of clips of 2 s by number with three ratings each."""
    middles = CLIP_SECONDS * (np.arange(max(int(np.ceil(end / CLIP_SECONDS)), max(numbers) + 1)) + 0.5)
    middles = middles.clip(max=end)
    totals = np.array(ratings).sum(axis=1)
    best, worst = numbers[int(totals.argmax())], numbers[int(totals.argmin())]
    pairs = [[float(middles[best]), float(middles[worst])]] if totals.max() > totals.min() else []
    others = np.setdiff1d(np.arange(len(middles)), numbers)
    if len(others):
        pairs.append([float(middles[draw.choice(numbers)]), float(middles[draw.choice(others)])])
    return pairs


def predictions_of(found: Sequence[FoundMoment], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The windows of each sentence and, where its clip's duration is known, the saliency of each clip of 2 s."""
    predictions = []
    for own, row in zip(found, rows, strict=True):
        windows = windows_inside(own.windows, row["duration_seconds"])
        said = {name: row[name] for name in ("moment_id", "clip_id", "caption", "spans")}
        said["windows"] = [[round(number, 4) for number in window] for window in windows.tolist()]
        if own.saliency is not None and row["duration_seconds"] is not None:
            saliency = clip_saliency(own, row["duration_seconds"])
            said["saliency_scores"] = [round(number, 4) for number in saliency]
        predictions.append(said)
    return predictions


def check_recipe(recipe: Recipe) -> None:
    """`ValueError` for regions that are no store of clips, and for what cannot be withheld or read."""
    regions = recipe.regions
    if regions.crops < 1 or regions.flips:
        raise ValueError(
            "regions.crops and regions.flips are of images, and moments are read from clips: leave them out"
        )
    if recipe.train.withhold in ("question", "regions"):
        raise ValueError(
            f"train.withhold is {recipe.train.withhold!r}, which moments have none of: set it to text, or to image"
        )
    if recipe.model.get("moment_inputs") == "features":
        raise ValueError(
            "model.moment_inputs is 'features', which reads given features of words: set it to states or embeddings"
        )


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """How a model of moments reads a clip and finds spans, as a card says it."""
    read = {
        "states": "the text encoder's states of its regions",
        "embeddings": "the embeddings of its regions",
        "features": "given features",
    }
    runs = f"every run of {config.moment_segments} segments is scored"
    spans = f"{config.moment_queries} spans with saliency of each step"
    return {
        **text_facts(config),
        "A step of a clip is read by": f"{read[config.moment_inputs]}, pooled by {config.moment_pooling}",
        "Finds": spans if config.moment_head == "spans" else runs,
    }


SPEC = TaskSpec(
    name="moments",
    task=MomentsTask,
    hub_task="video-text-to-text",
    counted="sentences",
    models=("UpDownForMomentRetrieval",),
    formats=FORMATS,
    reads=(*LOOP_READS, *FUSION_READS, "train.questions_per_image", "train.withhold"),
    objectives=("mixed",),  # label, span and others, by `model.moment_loss_weights`; or the map
    metrics=FIGURES,
    best_by=tuple({"r1_iou_50": "", **FIGURES}),
    recipe=MomentsRecipe,
    check=check_recipe,
    card_facts=card_facts,
    submits=True,
)
