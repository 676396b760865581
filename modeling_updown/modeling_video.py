"""`Regions` with seconds and a sentence -> the spans of a clip that the sentence is about.

    regions of a clip --clip_steps_updown--> a vector for each step of time --+
    words --the fusion model, words alone--> a state for each word -----------+--> `MomentSet` or `MomentMap` --> spans

Regions and words are read apart, and meet in the head alone, as in Moment-DETR (Lei et al. 2021) and 2D-TAN (Zhang et
al. 2020): a clip of many frames is then read once for all of its sentences, and what retrieval has learnt of regions
and words by themselves is where training starts. With `config.moment_pooling="sentence"` they meet one layer earlier,
where the regions of a step are pooled: each sentence weighs them itself (`moment_pooling_updown.py`). With
`config.moment_inputs="features"` the head stands alone on given features of steps and words, which is Moment-DETR
itself; `updown convert-checkpoint moment-detr` makes such a model.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from .arguments_updown import standard_forward
from .clip_steps_updown import ClipSteps, pooled_steps, regions_by_step, steps_of
from .compat_updown import is_traced
from .configuration_text_updown import UpDownFusionConfig
from .modeling_attention import TextRows
from .modeling_fusion import UpDownFusionModel, UpDownFusionPreTrainedModel, mean_state
from .moment_layers_updown import InputProjection, MomentLayer
from .moment_map_updown import MomentMap
from .moment_pooling_updown import SentencePooling, StepChanges
from .moment_set_updown import FoundSet, MomentSet, SpanLayers
from .moment_similarity_updown import FIRST_SCALE, RunSimilarity
from .moment_spans_updown import ranked_spans, rounded_spans
from .outputs_updown import UpDownMomentOutput
from .regions_updown import Regions, optional_fields

NOWHERE = -1.0  # in place of spans and pairs that are not there
SLACK_SECONDS = 2.0  # a true span may reach so far behind its clip, as rounding has it; it ends with it then


class UpDownForMomentRetrieval(UpDownFusionPreTrainedModel):
    """Moment retrieval on the fusion model; see the module's docstring.

    Takes regions of P clips with `region_seconds`, or frames as images whose clips `image_index` (N, frames) joins, and
    N sentences about them: one a clip, S next to each other for every clip, or as `image_index` (N,) says. An image is
    a clip of one frame.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, moment_hidden_size=16, moment_queries=3)
    >>> model = UpDownForMomentRetrieval(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> seconds = torch.tensor([[0.0, 0.0, 2.0, 4.0]])  # three steps of 2 s
    >>> out = model(torch.tensor([[2, 7, 9, 3]]), region_seconds=seconds, **regions)
    >>> out.pred_spans.shape, out.saliency_scores.shape, out.step_seconds.tolist()
    (torch.Size([1, 3, 2]), torch.Size([1, 3]), [[[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]]])
    >>> [tuple(found.shape) for found in model.predict_spans(out)]  # start, end, score
    [(3, 3)]
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        given = config.moment_inputs == "features"
        if given and (config.vision_config is not None or config.tag_kinds):
            raise ValueError(
                "moment_inputs='features' reads regions as they are given: leave vision_config and tags out, or use "
                "'embeddings'"
            )
        self.fusion = None if given else UpDownFusionModel(config)
        text_size: Any = config.moment_text_size if given else config.hidden_size
        clip_size = config.region_feature_size
        if self.fusion is not None:
            states = config.moment_inputs == "states"
            clip_size = config.hidden_size if states else self.get_input_embeddings().embedding_dim
        self.step_score = nn.Linear(clip_size, 1) if config.moment_pooling == "attention" else None
        self.sentence_pooling: SentencePooling | None = None
        if config.moment_pooling == "sentence":
            self.sentence_pooling = SentencePooling(config, clip_size=clip_size, text_size=text_size)
        self.step_changes = StepChanges(clip_size) if config.moment_changes else None
        kind = MomentSet if config.moment_head == "spans" else MomentMap
        step_size = 2 * clip_size if config.moment_changes else clip_size
        self.moments: Any = kind(config, clip_size=step_size, text_size=text_size)
        self.run_similarity: RunSimilarity | None = None
        if config.moment_similarity:
            self.image_projection = nn.Linear(clip_size, config.projection_size, bias=False)
            self.text_projection = nn.Linear(text_size, config.projection_size, bias=False)
            self.run_similarity = RunSimilarity(config.moment_segments)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As the base class has it; the layers of the head as DETR's (Glorot and Bengio 2010), and convolutions of the
        map for the ReLU after them (He et al. 2015), without which little would get through them."""
        super()._init_weights(module)
        if isinstance(module, RunSimilarity):
            nn.init.constant_(module.scale, FIRST_SCALE)
        if isinstance(module, InputProjection | SentencePooling | MomentLayer | SpanLayers | MomentMap):
            for part in module.modules():
                if isinstance(part, nn.Linear):
                    nn.init.xavier_uniform_(part.weight)
                elif isinstance(part, nn.Conv2d):
                    nn.init.kaiming_normal_(part.weight, nonlinearity="relu")

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return None if self.fusion is None else self.fusion.region_source

    def get_input_embeddings(self) -> Any:
        """Those of the text encoder; None where features of words are given."""
        return None if self.fusion is None else super().get_input_embeddings()

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        text_features: torch.FloatTensor | None = None,
        text_mask: torch.BoolTensor | None = None,
        duration_seconds: torch.FloatTensor | None = None,
        labels: torch.FloatTensor | None = None,
        saliency_labels: torch.FloatTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownMomentOutput | tuple:
        """Find the spans of each clip that its sentence is about.

        input_ids (N, T) with special tokens, attention_mask (N, T), by default all but padding; or, with
        `moment_inputs="features"`, text_features (N, T, `moment_text_size`) and text_mask (N, T). Regions of P clips as
        `get_regions` takes them, with region_seconds (P, R) from the beginning of the clip, or (P,) of images that are
        frames; duration_seconds (P,), of clips, by default as `steps_of` has it. labels (N, M, 2): true spans in
        seconds, -1 twice where a sentence has fewer; saliency_labels (N, K, 2): seconds of a moment that is meant and
        of one that is less, -1 twice for none. Raises `ValueError` for numbers that do not fit.
        """
        frames = region_seconds if region_seconds is not None and region_seconds.dim() == 1 else None
        said = {"object_probs": object_probs, "attribute_probs": attribute_probs}
        fields = optional_fields(kwargs | said | {"region_seconds": region_seconds if frames is None else None})
        words, word_mask = self.read_words(input_ids, inputs_embeds, attention_mask, text_features, text_mask)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        regions, index = joined_frames(regions, frames, image_index, images=pixel_values is not None)
        rows = TextRows.of(index, num_texts=len(words), num_images=len(regions.region_mask), device=words.device)
        found, steps = self.find(rows, regions, duration_seconds, words, word_mask)
        is_set = isinstance(found, FoundSet)
        last = found.layers[-1] if is_set else found
        spans, scores = self.moments.in_seconds(last, steps)
        losses = None if labels is None else self.losses_of(found, steps, word_mask, labels, saliency_labels)
        return UpDownMomentOutput(
            loss=None if losses is None else self.moments.weighted(losses),
            losses=losses,
            logits=last.logits,
            pred_spans=spans,
            span_scores=scores,
            span_predictions=last.spans if is_set else None,
            saliency_scores=found.saliency.masked_fill(~steps.mask, float("-inf")) if is_set else None,
            step_seconds=torch.stack([steps.starts, steps.ends], dim=-1),
            hidden_states=asked_states(found.states, output_hidden_states),
            attentions=tuple(found.weights) if output_attentions and is_set else None,
        )

    # -- what is read -------------------------------------------------------------------------------------------------

    def read_words(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        text_features: torch.Tensor | None,
        text_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The words of N texts as the head takes them, (N, T, size), and which are there, (N, T) bool."""
        if self.fusion is None:
            return self.given_words(input_ids, inputs_embeds, text_features, text_mask)
        if text_features is not None or (input_ids is None) == (inputs_embeds is None):
            raise ValueError(
                "There is no sentence, or two: give either input_ids or inputs_embeds (and text_features to a model "
                "with moment_inputs='features' alone)"
            )
        mask = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask)
        check_texts(mask)
        texts: Any = {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        return self.fusion(input_ids, **texts, return_dict=True).word_states, mask

    def given_words(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        text_features: torch.Tensor | None,
        text_mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `read_words`, of given features, which are 0 on padding then."""
        size = self.config.moment_text_size
        if text_features is None or input_ids is not None or inputs_embeds is not None:
            raise ValueError(
                "There is no sentence: this model has no text encoder (moment_inputs='features'), so give features of "
                "words in text_features and leave input_ids out"
            )
        if text_features.dim() != 3 or text_features.shape[-1] != size or not text_features.shape[1]:
            raise ValueError(
                f"text_features have shape {tuple(text_features.shape)}, but the model expects (texts, words, {size})"
            )
        mask = torch.ones_like(text_features[..., 0], dtype=torch.bool) if text_mask is None else text_mask.bool()
        if mask.shape != text_features.shape[:2]:
            raise ValueError(
                f"text_mask has shape {tuple(mask.shape)}, but text_features are of {tuple(text_features.shape[:2])} "
                "texts and words"
            )
        check_texts(mask)
        features = text_features.masked_fill(~mask[..., None], 0)
        if not is_traced() and not features.is_meta and not bool(features.isfinite().all()):
            raise ValueError("text_features hold NaN or infinity: extract the features of these words anew")
        return features.to(self.dtype), mask

    def pool_rows(
        self,
        rows: TextRows,
        vectors: torch.Tensor,
        steps: ClipSteps,
        words: torch.Tensor,
        word_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Regions of P clips (P, R, size) -> the steps of the clip of each of N sentences as the head takes them,
        (N, C, size)."""
        if self.sentence_pooling is not None:
            clips = self.sentence_pooling(vectors, steps, words, word_mask, rows)
        else:
            clips = rows.of_images(self.pool_steps(vectors, steps))
        return clips if self.step_changes is None else self.step_changes(clips)

    def pool_steps(self, vectors: torch.Tensor, steps: ClipSteps) -> torch.Tensor:
        """Regions of P clips (P, R, size) -> their steps, each pooled without a sentence, (P, C, size)."""
        scores = None if self.step_score is None else self.step_score(vectors).squeeze(-1)
        return pooled_steps(vectors, steps, scores)

    def read_regions(
        self, regions: Regions, durations: torch.Tensor | None
    ) -> tuple[torch.Tensor, ClipSteps, torch.Tensor | None]:
        """The regions of P clips as `config.moment_inputs` has them, (P, R, size), the steps that they make, and, of
        `"states"`, the vector of each step as retrieval pools it, (P, C, H)."""
        if regions.region_seconds is None:
            raise ValueError(
                "Moments are spans of time: give region_seconds, when each region is seen, in seconds from the "
                "beginning of its clip"
            )
        steps = steps_of(
            regions.region_seconds,
            regions.region_mask,
            durations,
            default_seconds=float(self.config.moment_step_seconds),
        )
        vectors = regions.region_features.to(self.dtype)
        if self.fusion is not None:
            vectors = self.fusion.embed_regions(regions)
        if self.config.moment_inputs == "states":
            return self.states_of_steps(vectors, steps)
        return vectors, steps, None

    def states_of_steps(self, embeds: torch.Tensor, steps: ClipSteps) -> tuple[torch.Tensor, ClipSteps, torch.Tensor]:
        """As `read_regions`, of embedded regions (P, R, E): the fusion model's states, each step read by itself.

        0 on padding.
        """
        fusion: Any = self.fusion
        rows, places, real = regions_by_step(steps)
        there = steps.mask.flatten()  # (P x C,)
        rows = (there.cumsum(0) - 1)[rows]  # among the steps that there are
        shape = (int(there.sum()), int(places.max()) + 1)
        seen = torch.zeros(shape, dtype=torch.bool, device=real.device)
        seen[rows, places] = True
        grouped = embeds.new_zeros(*shape, embeds.shape[-1]).index_put((rows, places), embeds[real])
        output = fusion(region_embeds=grouped, region_mask=seen, return_dict=True)
        states, pooled = output.region_states, output.pooler_output
        vectors = states.new_zeros(*real.shape, states.shape[-1])
        vectors = vectors.index_put(real.nonzero(as_tuple=True), states[rows, places])
        whole = pooled.new_zeros(*steps.mask.shape, pooled.shape[-1])
        return vectors, steps, whole.index_put(steps.mask.nonzero(as_tuple=True), pooled)

    # -- what is found ------------------------------------------------------------------------------------------------

    def find(
        self,
        rows: TextRows,
        regions: Regions,
        durations: torch.Tensor | None,
        words: torch.Tensor,
        word_mask: torch.Tensor,
    ) -> tuple[Any, ClipSteps]:
        """What the head finds for N sentences in regions of P clips, and the steps of the clip of each."""
        vectors, clip_steps, whole = self.read_regions(regions, durations)
        steps = clip_steps.of_rows(rows.image_index)
        clips = self.pool_rows(rows, vectors, clip_steps, words, word_mask)
        found = self.moments(clips.to(words.dtype), steps, words, word_mask)
        if self.run_similarity is not None:
            images = self.image_projection(whole)
            texts = self.text_projection(mean_state(words, word_mask))
            found = self.run_similarity(found, images, texts, steps, rows)
        return found, steps

    # -- what is learnt -----------------------------------------------------------------------------------------------

    def losses_of(
        self,
        found: Any,
        steps: ClipSteps,
        word_mask: torch.Tensor,
        labels: torch.Tensor,
        saliency_labels: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """The losses of the head; `ValueError` for labels that are no spans of their clips."""
        wanted, there = checked_labels(labels, steps)
        if not isinstance(found, FoundSet):
            return self.moments.losses(found, steps, wanted, there)
        pairs = None
        if saliency_labels is not None:
            moments, given = checked_pairs(saliency_labels, steps)
            pairs = steps.at(moments.flatten(1)).view(moments.shape).masked_fill(~given[..., None], -1)
        return self.moments.losses(found, steps, wanted, there, word_mask=word_mask, pairs=pairs)

    # -- what is told -------------------------------------------------------------------------------------------------

    def predict_spans(
        self,
        output: UpDownMomentOutput,
        *,
        most: int | None = None,
        max_iou: float | None = None,
        round_seconds: float | None = None,
    ) -> list[torch.Tensor]:
        """The spans that the model finds for each sentence as rows [start, end, score], the best first.

        Args:
            output: of `forward`.
            most: how many at most; None gives all.
            max_iou: spans that overlap a better one by more are left out; by default `config.moment_nms_iou` of a map,
                and of a set, whose queries are matched one to one, all are kept.
            round_seconds: ends are given at multiples of so many seconds, as QVHighlights' windows are (2).

        Returns:
            N tensors (n, 3): seconds from the beginning of the clip, and how likely the span is meant, 0..1.
        """
        if max_iou is None and self.config.moment_head == "map":
            max_iou = float(self.config.moment_nms_iou)
        spans: Any = output.pred_spans
        if round_seconds is not None:
            durations: Any = output.step_seconds[:, -1, 1]  # type: ignore[index]
            spans = rounded_spans(spans, durations[:, None].expand(spans.shape[:2]), seconds=round_seconds)
        scores: Any = output.span_scores
        return [ranked_spans(*own, max_iou=max_iou, most=most) for own in zip(spans, scores, strict=True)]


def with_seconds(regions: Regions, frames: torch.Tensor | None, *, images: bool) -> Regions:
    """Regions of P images with the seconds of these, frames (P,); without any they are at 0 where they are `images`.

    Raises `ValueError` for another number of seconds than images.
    """
    mask = regions.region_mask
    if frames is None and images and regions.region_seconds is None:
        frames = torch.zeros(len(mask), device=mask.device)
    if frames is None:
        return regions
    if len(frames) != len(mask) or not (is_traced() or bool(frames.isfinite().all())):
        raise ValueError(
            f"region_seconds of {len(frames)} frames must be finite numbers, one for each of {len(mask)} images"
        )
    return replace(regions, region_seconds=frames.to(mask.device)[:, None].expand(mask.shape))


def asked_states(states: list[torch.Tensor], asked: Any) -> tuple[Any, ...] | None:
    """All states where `asked` is True; of a list of places those alone, None at the others; None for none.

    >>> asked_states([torch.zeros(1), torch.ones(1)], [-1])
    (None, tensor([1.]))
    """
    if not asked:
        return None
    places = range(len(states))
    kept = set(places) if asked is True else {places[place] for place in asked}
    return tuple(state if place in kept else None for place, state in enumerate(states))


def joined_frames(
    regions: Regions, frames: torch.Tensor | None, image_index: torch.Tensor | None, *, images: bool
) -> tuple[Regions, torch.Tensor | None]:
    """Regions of images whose clips `image_index` (N, frames) joins as N clips, and no index then; others as they are.

    frames (P,): the second of each image; images: whether regions were made of images, which need one.
    """
    if image_index is None or image_index.dim() != 2:
        return with_seconds(regions, frames, images=images), image_index
    clips = with_seconds(regions, frames, images=False).of_rows(image_index)
    clips.region_images = None  # frames of one clip are told apart by their seconds
    return clips, None


def check_texts(word_mask: torch.Tensor) -> None:
    """`ValueError` for a text without any word; word_mask (N, T) bool."""
    if is_traced() or word_mask.is_meta:
        return
    empty = (~word_mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"texts {empty} of the batch have no word at all: leave them out, or say what is looked for")


def checked_labels(labels: torch.Tensor, steps: ClipSteps) -> tuple[torch.Tensor, torch.Tensor]:
    """True spans (N, M, 2) in seconds, inside their clips, 0 in place of -1, and which there are (N, M) bool.

    Raises `ValueError` for another shape, spans that start after they end, and those outside of their clips.
    """
    if labels.dim() != 3 or labels.shape[0] != len(steps.mask) or labels.shape[-1] != 2:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, but must be ({len(steps.mask)} sentences, spans, 2): starts and "
            "ends in seconds, -1 twice where a sentence has fewer"
        )
    spans, durations = labels.to(steps.starts), steps.durations[:, None]
    there = ~(spans == NOWHERE).all(dim=-1)
    start, end = spans.unbind(-1)
    inside = (start >= 0) & (start <= durations) & (end <= durations + SLACK_SECONDS)
    _refuse(there & ~(start <= end), spans, "which starts after it ends or is no number: give start, then end")
    _refuse(there & ~inside, spans, "which lies outside of its clip: give seconds from the beginning of the clip")
    return torch.minimum(spans, durations[..., None]).masked_fill(~there[..., None], 0), there


def checked_pairs(pairs: torch.Tensor, steps: ClipSteps) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of seconds (N, K, 2), and which there are (N, K) bool; `ValueError` for those that are none of the clip."""
    if pairs.dim() != 3 or pairs.shape[0] != len(steps.mask) or pairs.shape[-1] != 2:
        raise ValueError(
            f"saliency_labels have shape {tuple(pairs.shape)}, but must be ({len(steps.mask)} sentences, pairs, 2): "
            "seconds of a moment that is meant and of one that is less, -1 twice for none"
        )
    seconds = pairs.to(steps.starts)
    there = ~(seconds == NOWHERE).all(dim=-1)
    inside = ((seconds >= 0) & (seconds <= steps.durations[:, None, None])).all(dim=-1)
    _refuse(there & ~inside, seconds, "of saliency, which lies outside of its clip: give seconds from its beginning")
    return seconds, there


def _refuse(wrong: torch.Tensor, spans: torch.Tensor, told: str) -> None:
    """`ValueError` for the first wrong one of the spans (N, M, 2); wrong (N, M) bool."""
    if is_traced() or wrong.is_meta or not bool(wrong.any()):
        return
    row, place = wrong.nonzero()[0].tolist()
    numbers = ", ".join(f"{number:g}" for number in spans[row, place].tolist())
    raise ValueError(f"sentence {row} of the batch has the span [{numbers}], {told}")
