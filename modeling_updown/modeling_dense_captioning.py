"""`Regions` -> a sentence and a box for each region: dense captioning (Johnson et al. 2016; Yang et al. 2017).

    h1_t = LSTM(v_r, W_e word)              the caption LSTM; v_r = the feature of the region that is described
    c    = the mean of the image's regions, or its first one
    none       p = softmax(W_p h1_t)                                    the region alone
    early      h1_t = LSTM([v_r, c], W_e word)                          Yang's early fusion
    late       p = softmax(W_p f(h1_t, LSTM(c, W_e word)))              Yang's late fusion: sum, product, both joined
    attention  p = softmax(W_p LSTM([v_hat_t, h1_t]))                   v_hat_t: top-down attention over all regions
    box        region r moved by W_d g_T: g_T = the state of the caption LSTM ("shared") or of a location LSTM ("twin",
               Yang's T-LSTM) after the last word                       joint inference of sentence and box
    score      sigmoid(w^T v_r): whether people would describe the region

A row is a sentence of a region, so one pass writes those of all regions of a batch of images. The LSTMs themselves are
in `dense_decoder_updown.py`, losses and the choice among sentences in `dense_captions_updown.py`.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import REGION_FIELDS, standard_forward
from .boxes_updown import box_geometry, decode_boxes
from .compat_updown import CACHE, is_loaded, one_cache
from .configuration_updown import UpDownCaptioningConfig
from .dense_captions_updown import (
    described_regions,
    kept_sentences,
    read_words,
    region_score_loss,
    sentence_box_loss,
    sentence_log_probs,
)
from .dense_decoder_updown import DenseCache, RegionContext, SentenceDecoder, SentenceRun, WordLSTM, last_word
from .generation_updown import ImageGenerationMixin, words_of_labels
from .linear_updown import float_type
from .losses_updown import IGNORED_LABEL, caption_loss
from .modeling_attention import TextRows
from .modeling_base import UpDownTopDownModel
from .modeling_captioning import IMAGE_INPUTS
from .outputs_updown import UpDownDenseCaptioningOutput, UpDownDenseCaptions
from .regions_updown import Regions, optional_fields

BOX_WEIGHTS = (10, 10, 5, 5)  # of the regression, as R-CNNs have them
MOST_GROWTH = 62.5  # of a side; exp of more would not be finite in half precision
OF_ROWS = ("image_index", "region_index")  # which region a row describes


class UpDownForDenseCaptioning(UpDownTopDownModel, ImageGenerationMixin):
    """A sentence for every region of an image; the equations are in the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images.
    Row m describes the region `region_index[m]` of the image `image_index[m]`; without them every real region of every
    image is described, in order. `generate` writes for these rows, `describe` also chooses among their boxes.

    Learns from labels (N, T), the input words, shifted here, -100 where not scored (or `shift_labels`, shifted
    already); box_labels (N, 4), each sentence's box, -1 where unknown; score_labels (P, R), 1 where people describe a
    region, 0 where not, -100 where that is not learnt.

    Example:

    >>> config = UpDownCaptioningConfig(vocab_size=20, region_feature_size=8, hidden_size=16, word_embedding_size=16)
    >>> model = UpDownForDenseCaptioning(config).eval()
    >>> regions = {"region_features": torch.randn(1, 2, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 2])}
    >>> out = model(torch.tensor([[1, 5, 6], [1, 7, 6]]), **regions)
    >>> out.logits.shape, out.pred_boxes.shape, out.region_logits.shape
    (torch.Size([2, 3, 20]), torch.Size([2, 4]), torch.Size([1, 2]))
    >>> model.describe(**regions, max_new_tokens=3, nms_iou=1.0).sequences.shape
    torch.Size([2, 4])
    """

    config_class = UpDownCaptioningConfig
    main_input_name = "input_ids"
    _is_stateful = True  # the state cannot be rolled back, so assisted decoding is refused
    _no_split_modules = ["UpDownGrid", "SentenceDecoder", "WordLSTM"]

    def __init__(self, config: UpDownCaptioningConfig):
        super().__init__(config)
        width, hidden = config.region_embedding_size or config.region_size, config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.word_embedding_size)  # W_e
        self.region_embedding: nn.Linear | None = None
        self.box_embedding: nn.Linear | None = None
        self.location_lstm: WordLSTM | None = None
        if config.region_embedding_size is not None:
            self.region_embedding = nn.Linear(config.region_size, width)
        if config.box_embedding:
            self.box_embedding = nn.Linear(7, width, bias=False)
        self.decoder = SentenceDecoder(config, width=width)
        if config.dense_box == "twin":
            self.location_lstm = WordLSTM(vector_size=width, word_size=config.word_embedding_size, hidden_size=hidden)
        self.box_deltas = nn.Linear(hidden, 4) if config.dense_box != "none" else None  # W_d
        self.region_score = nn.Linear(width, 1) if config.dense_score_weight else None  # w
        self.lm_head = nn.Linear(self.decoder.read_size, config.vocab_size)  # W_p
        self.build_region_tags()
        self.build_region_source()
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        super()._init_weights(module)
        gates = getattr(module, "of_vector", None) if isinstance(module, WordLSTM) else None
        if isinstance(module, SentenceDecoder):
            gates = module.language_lstm
        if gates is not None and not is_loaded(gates.bias):
            forget = slice(self.config.hidden_size, 2 * self.config.hidden_size)
            nn.init.constant_(gates.bias[forget], self.config.forget_gate_bias)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embed_tokens = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head = new_embeddings

    # -- regions ------------------------------------------------------------------------------------------------------

    def get_regions(self, *regions: Any, **fields: Any) -> Regions:
        """As the base class has it; `ValueError` for regions without boxes too, which is where sentences stand."""
        found = super().get_regions(*regions, **fields)
        if found.region_boxes is None:
            raise ValueError("Dense captioning says where its regions are: give region_boxes as well")
        return found

    def embed_regions(self, regions: Regions) -> torch.Tensor:
        """v of every region (P, R, W), 0 on padding."""
        config, mask = self.config, regions.region_mask[..., None]
        features = regions.region_features.to(float_type(self.decoder)).masked_fill(~mask, 0)  # may hold NaN there
        features = self.with_times(self.with_tags(features, regions), regions)
        if self.region_embedding is not None:
            features = self.region_embedding(features)
            if self.box_embedding is not None:
                geometry = box_geometry(regions.region_boxes).masked_fill(~mask, 0)  # (P, R, 7)
                features = features + self.box_embedding(geometry.to(features.dtype))
            features = features.relu()
        return F.dropout(features, config.region_dropout, self.training).masked_fill(~mask, 0)

    def image_vectors(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """c of each image (P, W), from its regions (P, R, W) and their mask (P, R)."""
        if self.config.dense_context_region == "first":
            return embedded[:, 0]
        share = mask.to(embedded.dtype) / mask.sum(dim=1, keepdim=True)
        return torch.bmm(share[:, None], embedded).squeeze(1)

    def encode_regions(
        self, regions: Regions, embedded: torch.Tensor, rows: tuple[torch.Tensor, torch.Tensor]
    ) -> RegionContext:
        """Everything that does not change over words; rows: image and place there (M,) of each described region."""
        decoder, mask, (images, places) = self.decoder, regions.region_mask, rows
        vectors = read = embedded[images, places]  # (M, W)
        context_gates = None
        if self.config.dense_context == "early":
            read = torch.cat([vectors, self.image_vectors(embedded, mask)[images]], dim=-1)
        if decoder.context_lstm is not None:
            context_gates = decoder.context_lstm.of_vector(self.image_vectors(embedded, mask))[images]
        return RegionContext(
            gates=decoder.caption_lstm.of_vector(read),
            context_gates=context_gates,
            location_gates=None if self.location_lstm is None else self.location_lstm.of_vector(vectors),
            boxes=regions.region_boxes[images, places],
            rows=TextRows.of(images, num_texts=len(images), num_images=len(mask), device=images.device),
            keys=None if decoder.attention is None else decoder.attention.project_regions(embedded),
            values=embedded,
            mask=mask,
        )

    def score_regions(self, embedded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """Log-odds that people would describe each region (P, R), the lowest number on padding; None without a head."""
        if self.region_score is None:
            return None
        logits = self.region_score(embedded).squeeze(-1)
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min)

    def begin(
        self, regions: Regions, image_index: torch.Tensor | None, region_index: torch.Tensor | None
    ) -> tuple[DenseCache, torch.Tensor | None]:
        """The cache before the first word of the named regions' sentences, and the scores of all regions (P, R)."""
        embedded = self.embed_regions(regions)
        rows = described_regions(regions.region_mask, image_index, region_index)
        cache = DenseCache(self.encode_regions(regions, embedded, rows), num_lstms=self.decoder.num_lstms)
        return cache, self.score_regions(embedded, regions.region_mask)

    # -- words and boxes ----------------------------------------------------------------------------------------------

    def embed_words(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None = None) -> torch.Tensor:
        """(...), or the word embedding's output (..., E) in its place, -> (..., E)."""
        words = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if self.config.word_embedding_relu:
            words = words.relu()
        return F.dropout(words, self.config.word_dropout, self.training)

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        region_index: torch.LongTensor | None = None,
        cache: DenseCache | None = None,
        labels: torch.LongTensor | None = None,
        box_labels: torch.FloatTensor | None = None,
        score_labels: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        past_key_values: DenseCache | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownDenseCaptioningOutput | tuple:
        """Score the next word after each of the given ones, place the sentence's box, and score the regions.

        input_ids (N, T), N a multiple of the M described regions, sentences of one next to each other; regions of P
        images as `get_regions` takes them, or the `cache` of an earlier call. image_index, region_index (M,): see the
        class, of labels too. attention_mask (N, T): a masked word leaves the states untouched.
        """
        targets = next_words(labels, kwargs.pop("shift_labels", None))
        use_cache = (self.config.use_cache if use_cache is None else use_cache) and targets is None
        cache, region_logits, boxes, deltas = one_cache(cache, past_key_values), None, None, None
        if fresh := cache is None:
            said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
            fields = optional_fields(kwargs | said)
            regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
            cache, region_logits = self.begin(regions, image_index, region_index)
        input_ids = words_of_labels(labels, self.config) if input_ids is inputs_embeds is None else input_ids
        words = self.embed_words(input_ids, inputs_embeds)  # (N, T, E)
        run = self.decoder(words, cache, attention_mask, skip=not use_cache)
        if fresh:
            boxes, deltas = self.place_boxes(words, run, cache.context, attention_mask)
        logits = self.score_words(run, logits_to_keep if targets is None else 0)
        losses, log_probs = self.losses_of(logits, targets)
        losses |= self.losses_of_regions((deltas, cache.context, box_labels), (region_logits, score_labels))
        return UpDownDenseCaptioningOutput(
            loss=self.weighted(losses),
            losses=losses or None,
            logits=logits,
            label_log_probs=log_probs,
            pred_boxes=boxes,
            region_logits=region_logits,
            hidden_states=(words, run.dense("h1"), run.dense("read")) if output_hidden_states else None,
            attentions=(run.dense("weights"),) if output_attentions and run.weights else None,
            **{CACHE: cache if use_cache else None},
        )

    def score_words(self, run: SentenceRun, logits_to_keep: int | torch.Tensor) -> torch.Tensor:
        """Scores of the next word after the last ones (N, kept, V); 0 keeps all."""
        states = F.dropout(run.dense("read"), self.config.output_dropout, self.training)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return self.lm_head(states[:, kept])

    def place_boxes(
        self, words: torch.Tensor, run: SentenceRun, context: RegionContext, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The box of each sentence (N, 4), inside the image, and the regression (N, 4) that moved it there."""
        start = context.of_sentences(context.boxes, len(words))
        if self.box_deltas is None:
            return start, None
        if self.location_lstm is None or context.location_gates is None:
            states = run.dense("h1")  # (N, T, H)
        else:
            mask = None if attention_mask is None else attention_mask.bool()
            states = self.location_lstm.states(context.of_sentences(context.location_gates, len(words)), words, mask)
        rows = torch.arange(len(words), device=words.device)
        deltas = self.box_deltas(states[rows, last_word(words, attention_mask)])
        wide = torch.promote_types(deltas.dtype, torch.float32)
        moved = decode_boxes(deltas.to(wide), start.to(wide), weights=BOX_WEIGHTS, max_growth=MOST_GROWTH)
        return moved.clamp(0, 1), deltas

    # -- losses -------------------------------------------------------------------------------------------------------

    def losses_of(
        self, logits: torch.Tensor, targets: torch.Tensor | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """The loss `words` of targets (N, T) and the log-probability of each, 0 where none is scored."""
        if targets is None:
            return {}, None
        log_probs = logits.float().log_softmax(dim=-1)
        loss = caption_loss(log_probs.flatten(0, 1), targets.flatten(), label_smoothing=self.config.label_smoothing)
        scored = targets != IGNORED_LABEL
        picked = log_probs.gather(-1, targets.masked_fill(~scored, 0)[..., None]).squeeze(-1)
        return {"words": loss}, picked.masked_fill(~scored, 0.0)

    def losses_of_regions(
        self,
        boxes: tuple[torch.Tensor | None, RegionContext, torch.Tensor | None],
        scores: tuple[torch.Tensor | None, torch.Tensor | None],
    ) -> dict[str, torch.Tensor]:
        """The losses `boxes` (of regression, regions, labels) and `scores` (of logits, labels), where there are labels.

        Raises `ValueError` for labels of another shape.
        """
        losses = {}
        (deltas, context, box_labels), (logits, score_labels) = boxes, scores
        if deltas is not None and box_labels is not None:
            check_labels(box_labels, deltas, "box_labels")
            start = context.of_sentences(context.boxes, len(deltas))
            losses["boxes"] = sentence_box_loss(deltas, start, box_labels, weights=BOX_WEIGHTS)
        if logits is not None and score_labels is not None:
            check_labels(score_labels, logits, "score_labels")
            losses["scores"] = region_score_loss(logits, score_labels)
        return losses

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """The sum of the losses of words, boxes and scores by their weights; None of none."""
        weights = {"words": 1.0, "boxes": self.config.dense_box_weight, "scores": self.config.dense_score_weight}
        parts = [weights[name] * loss for name, loss in losses.items()]
        return torch.stack(parts).sum() if parts else None

    # -- sentences ----------------------------------------------------------------------------------------------------

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        image_index: torch.Tensor | None = None,
        region_index: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the captioner's `generate`, with a row for each described region (see the class), not for each image.

        A prompt of one row begins every sentence. Raises `ValueError` as `forward` and the captioner's `generate` do.
        """
        if isinstance(inputs, torch.Tensor) and inputs.is_floating_point():
            if any(kwargs.get(name) is not None for name in ("pixel_values", "region_features")):
                raise ValueError("generate got images twice: by position and by name")
            kwargs["pixel_values"], inputs = inputs, None
        if any(kwargs.get(name) is not None for name in ("cache", "past_key_values")):
            return super().generate(inputs, *args, **kwargs)
        images = {name: kwargs.pop(name) for name in IMAGE_INPUTS if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if name not in REGION_FIELDS}
        with torch.no_grad():
            regions = self.get_regions(**images)
        rows = described_regions(regions.region_mask, image_index, region_index)
        named, images_of_rows = rows[0].unique(return_inverse=True)
        given = region_inputs(regions.of_rows(named))
        words = kwargs.pop("input_ids", None) if inputs is None else inputs
        if words is None and kwargs.get("inputs_embeds") is None:
            words = torch.full((len(rows[1]), 1), self.start_token(kwargs), device=regions.region_features.device)
        elif words is not None and len(words) == 1:
            words = words.expand(len(rows[1]), -1)
        return super().generate(words, *args, **given, image_index=images_of_rows, region_index=rows[1], **kwargs)

    def start_token(self, given: dict[str, Any]) -> int:
        """The token that every sentence starts with; `ValueError` without one."""
        config = given.get("generation_config") or self.generation_config
        token = given.get("bos_token_id", config.bos_token_id)
        if token is None:
            raise ValueError("this model names no start token: give input_ids, the words that sentences begin with")
        return int(token)

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, inputs_embeds: torch.FloatTensor | None = None, **kwargs: Any
    ) -> dict:
        """As transformers does it, without images once the cache holds their context."""
        inputs = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        if inputs.get(CACHE) is not None:
            for name in (*IMAGE_INPUTS, *OF_ROWS):
                inputs.pop(name, None)
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict]:
        """Repeat the words for beams and samples, never images or regions: `forward` takes S rows a region."""
        images = {name: kwargs.pop(name) for name in (*IMAGE_INPUTS, *OF_ROWS) if name in kwargs}
        input_ids, kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        return input_ids, {**kwargs, **images}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # `forward` makes its own cache of LSTM states

    @torch.no_grad()
    def describe(
        self,
        pixel_values: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        *,
        nms_iou: float | None = None,
        top_k: int | None = None,
        **kwargs: Any,
    ) -> UpDownDenseCaptions:
        """Sentences with their boxes, the best first, image after image.

        nms_iou: a sentence is left out whose box overlaps a better one's by more (by default `config.dense_nms_iou`; 1
        keeps all); top_k: so many of each image. Further arguments: the other fields of `Regions`, and settings of
        `generate`, such as `num_beams`. Raises `ValueError` as `generate`, `describe_all` and `kept_sentences` do.
        """
        fields = {name: kwargs.pop(name) for name in [*kwargs] if name in REGION_FIELDS}
        of_regions = optional_fields(fields)
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **of_regions)
        iou = self.config.dense_nms_iou if nms_iou is None else nms_iou
        return kept_sentences(self.describe_all(regions, **kwargs), nms_iou=iou, top_k=top_k)

    @torch.no_grad()
    def describe_all(self, regions: Regions, **generation: Any) -> UpDownDenseCaptions:
        """A sentence for every real region, in order, without a choice among their boxes.

        Raises `ValueError` for settings of `generate` that write several sentences a region, and for regions without
        the score that sentences are ranked by.
        """
        images, places = described_regions(regions.region_mask, None, None)
        given = region_inputs(regions)
        sequences = self.generate(**given, **generation, return_dict_in_generate=False)
        if len(sequences) != len(images):
            raise ValueError("one sentence a region is ranked and placed: leave num_return_sequences out")
        mask = read_words(sequences, self.generation_config.eos_token_id)
        targets = F.pad(sequences[:, 1:], (0, 1), value=IGNORED_LABEL).masked_fill(~mask, IGNORED_LABEL)
        output = self(sequences, **given, attention_mask=mask, shift_labels=targets, return_dict=True)
        log_probs = sentence_log_probs(output.label_log_probs, targets)
        scores = self.sentence_scores(regions, output.region_logits, log_probs)
        return UpDownDenseCaptions(sequences, output.pred_boxes, scores, log_probs, images, places)

    def sentence_scores(
        self, regions: Regions, region_logits: torch.Tensor | None, log_probs: torch.Tensor
    ) -> torch.Tensor:
        """What sentences of all real regions are ranked by (M,), 0..1, as `config.dense_rank` has it.

        region_logits (P, R) of the model's own score, log_probs (M,) per word. Raises `ValueError` where neither the
        model nor its regions have a score.
        """
        rank, likely = self.config.dense_rank, log_probs.exp()
        if rank == "words":
            return likely
        told = regions.region_scores if region_logits is None else region_logits.float().sigmoid()
        if told is None:
            raise ValueError(
                "sentences are ranked by the score of their region, which neither this model (dense_score_weight=0) "
                "nor its regions have: give region_scores, or set config.dense_rank to 'words'"
            )
        own = told[regions.region_mask].float()
        return own if rank == "region" else own * likely


def next_words(labels: torch.Tensor | None, shifted: torch.Tensor | None) -> torch.Tensor | None:
    """What is predicted after each word (N, T): labels (N, T) shifted by one, or as given already shifted.

    >>> next_words(torch.tensor([[1, 5, 2]]), None).tolist()
    [[5, 2, -100]]
    """
    if labels is None or shifted is not None:
        return shifted
    return F.pad(labels, (0, 1), value=IGNORED_LABEL)[..., 1:]


def region_inputs(regions: Regions) -> dict[str, Any]:
    """The fields of regions that `forward` and `generate` take."""
    return {name: regions[name] for name in IMAGE_INPUTS if name in regions}


def check_labels(labels: torch.Tensor, like: torch.Tensor, name: str) -> None:
    """`ValueError` for labels of another shape than the numbers that are learnt."""
    if labels.shape != like.shape:
        told = "a box for each sentence, -1 where it is unknown" if name == "box_labels" else "a number for each region"
        raise ValueError(f"{name} have shape {tuple(labels.shape)}, but must be {tuple(like.shape)}: {told}")
