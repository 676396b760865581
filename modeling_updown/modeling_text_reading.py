"""`Regions`, OCR words and a question -> an answer, some of whose words are copied: M4C (Hu et al. 2020) on the fusion
model.

    question, objects r_1 .. r_R, OCR words o_1 .. o_W, steps d_1 .. d_S  ->  the text encoder  ->  z
    question, objects and OCR words see each other; step t sees all of them and the steps up to t
    s_t = [W_a z_dt + b_a, pointer(z_dt, z_o1 .. z_oW)]         a score of each answer word, then of each OCR word
    d_t+1 = what s_t chose, embedded

Objects are embedded as everywhere in the fusion model (`modeling_fusion.py`), OCR words, steps and the pointer as
`reading_layers_updown.py` has it. What is read does not change over steps, and is embedded once. With
`config.reading_head="lorra"` question, objects and OCR words are read apart instead, and an answer is one entry (LoRRA,
Singh et al. 2019):

    q = the question's vector;  v, o = objects and OCR words as the question attends to them
    s = W_o (f_q(q) * f_v([v, o]))                              a score of each answer, then of each place of OCR words

Answers are numbered as their vocabulary, `config.id2label`, whose first four entries are special
(`reading_answers_updown.py`), then as the OCR words of the image.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, GenerationConfig, GenerationMixin

from .arguments_updown import REGION_FIELDS, standard_forward
from .compat_updown import eager_attention, is_traced
from .configuration_text_updown import UpDownFusionConfig
from .losses_updown import IGNORED_LABEL
from .modeling_attention import TextRows
from .modeling_fusion import (
    REGION_TYPE,
    UpDownFusionModel,
    UpDownFusionPreTrainedModel,
    additive,
    causal_square,
    shares_of_regions,
)
from .outputs_updown import UpDownReadingOutput, check_finite_eagerly
from .reading_answers_updown import END, PADDING, SPECIAL_ANSWERS, START, UNKNOWN, ReadAnswer, joined_words, read_words
from .reading_inputs_updown import OCR_FIELDS, OcrWords, ReadingInputs, checked_ocr
from .reading_layers_updown import (
    NO_OCR,
    DynamicPointer,
    OcrEmbedding,
    PreviousEmbedding,
    SinglePassScores,
    mean_pieces,
)
from .reading_losses_updown import reading_loss, steps_before, targets_of
from .regions_updown import optional_fields

QUESTION_FIELDS = ("input_ids", "inputs_embeds", "attention_mask")
IMAGE_FIELDS = ("pixel_values", "region_features", "region_boxes", "region_mask", "pixel_mask")
READ_FIELDS = (*QUESTION_FIELDS, *IMAGE_FIELDS, *OCR_FIELDS)
GIVEN = {*READ_FIELDS, "image_index", "token_type_ids"}  # the last by tokenizers of BERT; a question has one type
SINGLE_PASS = ("classification", "lorra")
SHOWN = ("output_attentions", "output_hidden_states")


class AnswerGenerationConfig(GenerationConfig):
    """Settings of `generate` that are not taken from a model's config, whose `temperature` is that of retrieval."""

    @classmethod
    def from_model_config(cls, model_config: Any) -> GenerationConfig:
        """The defaults."""
        return cls()


class UpDownForTextReading(UpDownFusionPreTrainedModel, GenerationMixin):
    """Answers by reading, on the fusion model; see the module's docstring.

    Takes `pixel_values` (with a region source of its own) or `region_features, region_boxes, region_mask` of P images,
    their OCR words as `processor(words=...)` makes them, none or some an image, and N questions: one an image, S next
    to each other for every image, or as `image_index` says. With `config.reading_objects=False` it takes no regions.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, num_answers=9, reading_objects=False, reading_max_steps=4)
    >>> model = UpDownForTextReading(config).eval()
    >>> words = {"ocr_boxes": torch.tensor([[[0, 0, 0.5, 0.1], [0.5, 0, 1, 0.1]]])}
    >>> words |= {"ocr_input_ids": torch.tensor([[[5], [6]]]), "ocr_characters": torch.tensor([[[98], [99]]])}
    >>> model(torch.tensor([[2, 7, 9]]), **words, labels=torch.tensor([[9, 10, 2]])).logits.shape  # 9 and 10 are copies
    torch.Size([1, 3, 11])
    >>> [answer] = model.read([["main", "street"]], input_ids=torch.tensor([[2, 7, 9]]), **words, num_beams=2)
    >>> type(answer).__name__, 0 < answer.score < 1
    ('ReadAnswer', True)
    """

    generation_config_class = AnswerGenerationConfig

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        size, width = config.hidden_size, self.get_input_embeddings().embedding_dim
        if width != size:
            raise ValueError(
                f"text_config is a {config.text_config.model_type!r} whose words are {width} wide and whose states are "
                f"{size}, but answers are read and written in one width: choose an encoder such as bert or roberta"
            )
        check_vocabulary(config)
        self.ocr_embedding = OcrEmbedding(config, size=size)
        self.question_model: Any = question_encoder(config) if config.reading_question_layers else None
        if config.reading_head == "lorra":
            self.single_pass = SinglePassScores(config, size=size)
        else:
            eps = getattr(config.text_config, "layer_norm_eps", 1e-12)
            self.answers = nn.Linear(size, config.num_labels)  # W_a
            self.previous = PreviousEmbedding(size=size, max_steps=config.reading_max_steps, eps=eps)
            self.pointer = DynamicPointer(size=size, pointer_size=config.reading_pointer_size or size)
        self.post_init()
        self.freeze_as_made()
        self.set_generation()

    def set_generation(self) -> None:
        """What `generate` does where nothing else is said, here or in a saved generation config."""
        self.generation_config = GenerationConfig(
            pad_token_id=PADDING,
            bos_token_id=START,
            eos_token_id=END,
            suppress_tokens=[PADDING, START, UNKNOWN],
            max_new_tokens=self.max_steps,
            use_cache=False,
        )

    def freeze_as_made(self) -> None:
        """As the base class has it; a model that reads no objects trains no embedding of them."""
        super().freeze_as_made()
        if not self.config.reading_objects:
            self.fusion.region_embedding.requires_grad_(False)

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

    @property
    def max_steps(self) -> int:
        """The most words of an answer."""
        return 1 if self.config.reading_head in SINGLE_PASS else self.config.reading_max_steps

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
        ocr_boxes: torch.FloatTensor | None = None,
        ocr_mask: torch.BoolTensor | None = None,
        ocr_input_ids: torch.LongTensor | None = None,
        ocr_characters: torch.LongTensor | None = None,
        ocr_features: torch.FloatTensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        encoded: ReadingInputs | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownReadingOutput | tuple:
        """Score every entry of the vocabulary and every OCR word at each step of an answer.

        input_ids (N, T) with special tokens, attention_mask (N, T), by default all but padding; regions of P images as
        `get_regions` takes them; ocr_boxes (P, W, 4) with ocr_mask (P, W), by default all, ocr_input_ids (P, W, K),
        ocr_characters (P, W, C) and ocr_features (P, W, D), those that the config reads; image_index (N,). Or
        `encoded`, what `encode` made of them. decoder_input_ids (N, S): what was chosen before each step, the start
        first; by default of the labels, else the start alone. labels (N, S): the numbers of the answer with its end,
        -100 where nothing is learnt; or (N, S, V + W): how right each entry is, 0..1, no step learnt without one above
        0. Raises `ValueError` for numbers that do not fit.
        """
        if encoded is None:
            said = {"object_probs": object_probs, "attribute_probs": attribute_probs, "region_seconds": region_seconds}
            question = (input_ids, inputs_embeds, attention_mask)
            images = (pixel_values, region_features, region_boxes, region_mask, pixel_mask)
            words = (ocr_boxes, ocr_mask, ocr_input_ids, ocr_characters, ocr_features)
            given: dict[str, Any] = dict(zip(READ_FIELDS, (*question, *images, *words), strict=True))
            encoded = self.encode(**{**optional_fields(kwargs | said), **given}, image_index=image_index)
        previous = self.previous_steps(decoder_input_ids, labels, encoded)
        encoded = encoded.for_rows(len(previous))
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        if self.config.reading_head == "lorra":
            logits, states, weights = self.score_apart(encoded)
        else:
            logits, states, weights = self.score_steps(encoded, previous, **shown)
        check_finite_eagerly(logits, self, what="scores of answers")
        return UpDownReadingOutput(
            loss=None if labels is None else self.loss_of(logits, labels),
            logits=logits,
            hidden_states=states if output_hidden_states else None,
            attentions=weights if output_attentions else None,
            region_boxes=encoded.region_boxes,
            ocr_boxes=encoded.ocr_boxes,
        )

    # -- what is read -------------------------------------------------------------------------------------------------

    def encode(self, **given: Any) -> ReadingInputs:
        """Embedded question, objects and OCR words of N questions, which no step changes.

        given: the arguments of `forward`. Raises `ValueError` for numbers that do not fit.
        """
        embeds, mask, positions = self.embed_question(*(given.get(name) for name in QUESTION_FIELDS))
        regions = None
        if self.config.reading_objects:
            images = (given.get(name) for name in IMAGE_FIELDS)
            regions = self.fusion.embedded(self.get_regions(*images, **optional_fields(given)))
        num_images = None if regions is None else len(regions.region_mask)
        words = checked_ocr(self.config, given, num_images=num_images)
        if num_images is None:
            num_images = len(mask) if words is None else len(words.mask)
        rows = self.rows_of(given.get("image_index"), num_texts=len(mask), num_images=num_images)
        read, seen = [embeds], [mask]
        if regions is not None:
            read.append(rows.of_images(regions.region_features))
            seen.append(rows.of_images(regions.region_mask))
        if words is not None:
            read.append(rows.of_images(self.embed_ocr(words)))
            seen.append(rows.of_images(words.mask))
        whole = torch.cat([part.to(embeds.dtype) for part in read], dim=1)
        kinds = torch.full(whole.shape[:2], REGION_TYPE, device=whole.device)
        if self.question_model is None:
            kinds[:, : mask.shape[1]] = 0
        first = positions.gather(1, mask.to(torch.uint8).argmax(dim=1, keepdim=True))  # where regions stand as well
        return ReadingInputs(
            whole,
            torch.cat(seen, dim=1),
            kinds,
            torch.cat([positions, first.expand(-1, whole.shape[1] - mask.shape[1])], dim=1),
            rows.image_index,
            num_question=mask.shape[1],
            num_ocr=0 if words is None else words.mask.shape[1],
            region_boxes=None if regions is None else regions.region_boxes,
            ocr_boxes=None if words is None else words.boxes,
        )

    def embed_question(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The question's words (N, T, H), their mask and positions (N, T).

        States of words read alone, where the question has an encoder of its own, or is read apart (LoRRA).
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds")
        mask = self.fusion.word_mask(input_ids, inputs_embeds, attention_mask)
        positions = self.fusion.positions(input_ids, mask)
        if self.question_model is not None:
            embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
            read = self.question_model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions)
            return read.last_hidden_state, mask, positions
        if self.config.reading_head == "lorra":
            texts: Any = {"attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
            return self.fusion(input_ids, **texts, return_dict=True).word_states, mask, positions
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        return embeds, mask, positions

    def embed_ocr(self, words: OcrWords) -> torch.Tensor:
        """OCR words of P images -> (P, W, H), 0 on padding."""
        pieces = None
        if words.input_ids is not None and self.config.reading_subwords:
            padding = self.config.pad_token_id
            pieces = mean_pieces(self.get_input_embeddings(), words.input_ids, padding=padding)
        return self.ocr_embedding(
            words.boxes, words.mask, pieces=pieces, characters=words.characters, features=words.features
        )

    def rows_of(self, image_index: torch.Tensor | None, *, num_texts: int, num_images: int) -> TextRows:
        """Which image each question is about; `ValueError` for several images a question."""
        if image_index is not None and image_index.dim() != 1:
            raise ValueError(
                f"image_index has shape {tuple(image_index.shape)}, but text is read off one image a question: name "
                "the image of each, (questions,)"
            )
        return TextRows.of(image_index, num_texts=num_texts, num_images=num_images, device=self.device)

    def previous_steps(
        self, chosen: torch.Tensor | None, labels: torch.Tensor | None, encoded: ReadingInputs
    ) -> torch.Tensor:
        """What was chosen before each step (N, S), from that itself or from labels; `ValueError` for other numbers."""
        if chosen is None and labels is not None and labels.dim() == 2:
            chosen = steps_before(labels, start=START)
        if chosen is None:
            if labels is not None and labels.dim() == 3 and labels.shape[1] > 1:
                raise ValueError("labels of several steps need decoder_input_ids: what was chosen before each step")
            chosen = torch.full((len(encoded.mask), 1), START, device=encoded.mask.device)
        if chosen.dim() != 2 or not 1 <= chosen.shape[1] <= self.max_steps:
            raise ValueError(
                f"an answer of shape {tuple(chosen.shape)} must be (answers, steps), of 1 to {self.max_steps} steps "
                "(config.reading_max_steps; a single pass has one)"
            )
        most = self.config.num_labels + encoded.num_ocr
        if not (is_traced() or chosen.is_meta) and not bool(((chosen >= 0) & (chosen < most)).all()):
            raise ValueError(
                f"decoder_input_ids name {int(chosen.max())}, but there are {self.config.num_labels} entries of the "
                f"vocabulary and {encoded.num_ocr} OCR words"
            )
        return chosen

    # -- what is answered ---------------------------------------------------------------------------------------------

    def score_steps(
        self, encoded: ReadingInputs, previous: torch.Tensor, **flags: Any
    ) -> tuple[torch.Tensor, Any, tuple[torch.Tensor, ...] | None]:
        """Scores (N, S, V + W), and the encoder's states and glances of each layer, where asked for."""
        steps, length = previous.shape[1], encoded.mask.shape[1]
        written = self.previous(previous, self.answers.weight, encoded.ocr).to(encoded.embeds.dtype)
        seen = F.pad(encoded.mask[:, None], (0, steps)).repeat(1, length + steps, 1)  # (N, L + S, L + S)
        seen[:, length:, length:] = causal_square(previous)
        first = encoded.positions.gather(1, encoded.mask.to(torch.uint8).argmax(dim=1, keepdim=True))
        more = {}
        if self.config.region_embedding == "uniter":
            more["token_type_ids"] = F.pad(encoded.kinds, (0, steps), value=REGION_TYPE)
        with eager_attention(self.fusion.text_model, flags.get("output_attentions")):
            output = self.fusion.text_model(
                inputs_embeds=torch.cat([encoded.embeds, written], dim=1),
                attention_mask=additive(seen[:, None], encoded.embeds.dtype),
                position_ids=torch.cat([encoded.positions, first.expand(-1, steps)], dim=1),
                return_dict=True,
                **more,
                **flags,
            )
        states = output.last_hidden_state
        copies = self.pointer(states[:, length:], states[:, length - encoded.num_ocr : length], encoded.ocr_mask)
        logits = torch.cat([self.answers(states[:, length:]), copies], dim=-1)
        weights = None
        if flags.get("output_attentions"):
            weights = tuple(self.glances(layer, encoded) for layer in output.attentions)
        return logits, output.hidden_states, weights

    def glances(self, attention: torch.Tensor, encoded: ReadingInputs) -> torch.Tensor:
        """A layer's attention (N, heads, L + S, L + S) -> how objects and OCR words were weighed (N, S, R + W)."""
        first, length = encoded.num_question, encoded.mask.shape[1]
        weights = attention[:, :, length:, first:length].mean(dim=1)
        return shares_of_regions(weights, encoded.mask[:, None, first:]).nan_to_num(0.0)

    def score_apart(self, encoded: ReadingInputs) -> tuple[torch.Tensor, Any, tuple[torch.Tensor, ...] | None]:
        """As `score_steps`, by LoRRA: scores (N, 1, V + W), the question's states, one layer of glances."""
        first, last = encoded.num_question, encoded.mask.shape[1] - encoded.num_ocr
        words, mask = encoded.embeds[:, :first], encoded.mask
        query = self.fusion.pool(words, mask[:, :first], by=self.config.pooling)
        objects = encoded.embeds[:, first:last], mask[:, first:last]
        scores, weights = self.single_pass(query, objects, (encoded.ocr, encoded.ocr_mask))
        count = self.config.num_labels
        copies = scores[:, count : count + encoded.num_ocr] + (~encoded.ocr_mask).to(scores.dtype) * NO_OCR
        logits = torch.cat([scores[:, :count], copies], dim=-1)[:, None]
        glances = shares_of_regions(weights[:, None], mask[:, None, first:]).nan_to_num(0.0)
        return logits, (words,), (glances,)

    def loss_of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """That of answers by number (N, S) or of soft scores (N, S, V + W); `ValueError` for other labels."""
        labels = labels.to(logits.device)
        if labels.dim() == 2 and not labels.is_floating_point() and labels.shape == logits.shape[:2]:
            most = logits.shape[-1]
            if not (is_traced() or labels.is_meta) and not bool(
                ((labels < most) & ((labels >= 0) | (labels == IGNORED_LABEL))).all()
            ):
                raise ValueError(f"labels must be in 0..{most - 1}, vocabulary and OCR words, or -100 for nothing")
            return reading_loss(logits, targets_of(labels, size=most), labels != IGNORED_LABEL)
        if labels.shape != logits.shape or not labels.is_floating_point():
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, but must be the numbers of {tuple(logits.shape[:2])} "
                f"answers and steps, or scores {tuple(logits.shape)} of every entry and OCR word"
            )
        return reading_loss(logits, labels, (labels > 0).any(dim=-1))

    # -- answers ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, encoded: ReadingInputs | None = None, **kwargs: Any
    ) -> Any:
        """Write answers: the start, then numbers of the vocabulary and of OCR words, (N, 1 + S); see `read` for words.

        As `GenerationMixin.generate`, for the arguments of `forward`; `inputs` are the questions' input_ids (N, T).
        What is read is embedded once for all steps, beams and samples. Greedy search takes the best score of each step;
        beams add up the logarithms of the scores' softmax. Raises `ValueError` as `forward` does.
        """
        if inputs is not None:
            if inputs.is_floating_point() or kwargs.get("input_ids") is not None:
                raise ValueError("give the questions once, as input_ids, and images by their name, as pixel_values")
            kwargs["input_ids"] = inputs
        names = GIVEN | REGION_FIELDS
        given = {name: kwargs.pop(name) for name in [*kwargs] if name in names}
        encoded = self.encode(**given) if encoded is None else encoded
        start = torch.full((len(encoded.mask), 1), START, device=encoded.mask.device)
        return super().generate(start, *args, encoded=encoded, **kwargs)

    def prepare_inputs_for_generation(
        self, input_ids: torch.LongTensor, encoded: ReadingInputs | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """What `forward` takes of the answers so far, input_ids (N, S)."""
        flags: dict[str, Any] = {name: kwargs[name] for name in SHOWN if name in kwargs}
        return {"decoder_input_ids": input_ids, "encoded": encoded, **flags}

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # a text encoder keeps none: each step reads anew

    def compute_transition_scores(
        self,
        sequences: torch.Tensor,
        scores: tuple[torch.Tensor, ...],
        beam_indices: torch.Tensor | None = None,
        normalize_logits: bool = False,
    ) -> torch.Tensor:
        """As transformers has it, of V + W scores a step: (N, S), 0 after the end of a beam."""
        stacked = torch.stack(scores, dim=1)  # (N x beams, S, V + W)
        stacked = stacked.log_softmax(dim=-1) if normalize_logits else stacked
        chosen = sequences[:, 1:]
        steps = torch.arange(chosen.shape[1], device=chosen.device)
        if beam_indices is None:
            return stacked[torch.arange(len(chosen), device=chosen.device)[:, None], steps, chosen]
        beams = beam_indices[:, : len(steps)]
        return stacked[beams.clamp(min=0), steps, chosen].masked_fill(beams < 0, 0)

    @torch.no_grad()
    def read(self, ocr_texts: Sequence[Sequence[str]], **kwargs: Any) -> list[ReadAnswer]:
        """Answers as words: of N questions one `ReadAnswer` each, with the boxes of copied words.

        ocr_texts: the texts of the OCR words of P images, in the order of `ocr_boxes`. kwargs: of `generate`. A score
        is the product of the softmax of each step's choice, its end among them. Raises `ValueError` as `generate` does,
        and for several answers a question.
        """
        names = GIVEN | REGION_FIELDS
        encoded = self.encode(**{name: kwargs.pop(name) for name in [*kwargs] if name in names})
        sequences = self.generate(encoded=encoded, **kwargs, return_dict_in_generate=False)
        if len(sequences) != len(encoded.mask):
            raise ValueError("one answer a question is read: leave num_return_sequences out")
        log_probs = self(encoded=encoded, decoder_input_ids=sequences[:, :-1], return_dict=True).logits
        log_probs = log_probs.float().log_softmax(dim=-1).gather(-1, sequences[:, 1:, None]).squeeze(-1)
        ends = (sequences[:, 1:] == END).cumsum(dim=1)
        real = (ends == 0) | ((ends == 1) & (sequences[:, 1:] == END))
        likely = (log_probs * real).sum(dim=1).exp().tolist()
        texts, boxes = self.copied(encoded, ocr_texts)
        answers = []
        for numbers, image, score in zip(sequences[:, 1:].tolist(), encoded.image_index.tolist(), likely, strict=True):
            words = read_words(numbers, self.config.id2label, texts[image], boxes[image])
            answers.append(ReadAnswer(joined_words(words), score, words))
        return answers

    def copied(self, encoded: ReadingInputs, ocr_texts: Sequence[Sequence[str]]) -> tuple[list[Any], list[Any]]:
        """Texts and boxes of the OCR words of each image; `ValueError` for texts of another number of images."""
        images = len(encoded.mask) if encoded.ocr_boxes is None else len(encoded.ocr_boxes)
        if encoded.ocr_boxes is None:
            return [[]] * images, [[]] * images
        if len(ocr_texts) != images or any(isinstance(texts, str) for texts in ocr_texts):
            raise ValueError(
                f"ocr_texts are {len(ocr_texts)} lists of texts, but there are OCR words of {images} images"
            )
        return [*ocr_texts], encoded.ocr_boxes.tolist()


def question_encoder(config: UpDownFusionConfig) -> Any:
    """The text encoder that reads the question alone, of as many layers as the config says, without words of its own:
    it is given those of the fusion model."""
    text = copy.deepcopy(config.text_config)
    text.num_hidden_layers = config.reading_question_layers
    encoder: Any = AutoModel.from_config(text)
    encoder.set_input_embeddings(nn.Identity())
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def check_vocabulary(config: UpDownFusionConfig) -> None:
    """`ValueError` for a vocabulary that has no answer beside its special entries."""
    if config.num_labels <= len(SPECIAL_ANSWERS):
        raise ValueError(
            f"the vocabulary of answers, id2label, has {config.num_labels} entries: give {', '.join(SPECIAL_ANSWERS)} "
            "first, which are special whatever they are called, then one answer or more"
        )
