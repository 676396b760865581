"""`Regions` and words -> one transformer over both: the fusion model, any Hugging Face text encoder with regions in it.

    r_i = LN(W_f f_i + b) + LN(W_b box_i + b) [+ LN(W_t time_i + b)] [+ image_k]    a region as an input embedding
    [CLS] words [SEP] r_1 .. r_R  ->  the text encoder                   (after UNITER, Chen et al. 2020, section 3.1)

or, with `config.region_embedding="uniter"`, LN(r_i) as there, to which the encoder's embedding layer adds nothing; with
"visualbert", r_i = W_f f_i + b alone (Li et al. 2019).

A pass sees words alone (exactly the text encoder's own pass), regions alone (after a [CLS]), or both. Regions have no
order: all stand at the text's first position, and where they are is given by their boxes. The heads are in
`modeling_retrieval.py`, `modeling_pretraining.py`, `modeling_fusion_vqa.py`, `modeling_grounding.py`,
`modeling_reasoning.py`, `modeling_multiple_choice.py`, `modeling_video.py` and `modeling_text_reading.py`.
"""

import inspect
from dataclasses import replace
from typing import Any, Self

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .arguments_updown import standard_forward
from .boxes_updown import box_geometry
from .compat_updown import eager_attention, padding_position
from .configuration_text_updown import UpDownFusionConfig
from .length_bucketing_updown import join_buckets, length_buckets, text_lengths
from .linear_updown import float_type
from .modeling_attention import TextRows
from .modeling_base import UpDownTopDownModel, loading_fault
from .outputs_updown import NotFiniteError, UpDownFusionOutput, check_finite
from .regions_updown import Regions, joined_rows, optional_fields

SAME = 1e-4  # rounding of float32 over many layers, of the largest number
STATES = "states of words"
NEEDED = ("inputs_embeds", "attention_mask", "position_ids")
REGION_TYPE = 1  # the token type of what is embedded already, where that is told apart


class RegionEmbedding(nn.Module):
    """Feature (with tags), box geometry and, if asked for, time of a region, each mapped and normalised by itself, then
    added, and a vector of its image's place where a row has several; with `config.region_embedding="uniter"` the sum is
    normalised as well, with "visualbert" the mapped feature is all."""

    def __init__(self, config: UpDownFusionConfig, *, size: int):
        super().__init__()
        eps = getattr(config.text_config, "layer_norm_eps", 1e-12)
        self.config = config
        self.of_features = nn.Linear(config.region_size, size)  # W_f
        self.of_boxes: nn.Linear | None = None
        if config.region_embedding != "visualbert":
            self.norm_features = nn.LayerNorm(size, eps=eps)
            self.of_boxes = nn.Linear(7, size)  # W_b
            self.norm_boxes = nn.LayerNorm(size, eps=eps)
        self.of_times: nn.Linear | None = None
        self.norm_times: nn.LayerNorm | None = None
        if config.time_embedding:
            self.of_times = nn.Linear(config.time_size, size)  # W_t
            self.norm_times = nn.LayerNorm(size, eps=eps)
        self.of_images = nn.Embedding(config.num_images, size) if config.num_images > 1 else None
        self.norm = nn.LayerNorm(size, eps=eps) if config.region_embedding == "uniter" else None
        self.of_masked = nn.Embedding(1, config.region_size) if config.mask_embedding else None

    def hidden(self, features: torch.Tensor) -> torch.Tensor:
        """What stands in place of masked regions (..., D + tags), with the learnt vector that says that they are."""
        return features if self.of_masked is None else features + self.of_masked.weight[0].to(features.dtype)

    def forward(
        self,
        features: torch.Tensor,
        boxes: torch.Tensor | None,
        times: torch.Tensor | None = None,
        images: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """features with tags (P, R, D + tags), boxes (P, R, 4), times (P, R, 32 or 64), which image of its row each
        region is of, images (P, R), by default the first -> (P, R, size)"""
        dtype = float_type(self.of_features)
        features = F.dropout(features.to(dtype), self.config.region_dropout, self.training)
        embedded = self.of_features(features)
        if self.of_boxes is not None:
            if boxes is None:
                raise ValueError("This model embeds boxes: give region_boxes as well")
            embedded = self.norm_features(embedded)
            embedded = embedded + self.norm_boxes(self.of_boxes(box_geometry(boxes).to(dtype)))
        if self.of_times is not None and self.norm_times is not None and times is not None:
            embedded = embedded + self.norm_times(self.of_times(times.to(dtype)))
        if self.of_images is not None:
            places = torch.zeros_like(features[..., 0], dtype=torch.long) if images is None else images
            embedded = embedded + self.of_images(places).to(dtype)
        if self.norm is None:
            return embedded
        return F.dropout(self.norm(embedded), self.config.text_config.hidden_dropout_prob, self.training)


class Prediction(nn.Module):
    """Linear, GELU, LayerNorm: the layer before what is predicted of a token (BERT's)."""

    def __init__(self, hidden_size: int, size: int, *, eps: float = 1e-5):
        super().__init__()
        self.linear = nn.Linear(hidden_size, size)
        self.norm = nn.LayerNorm(size, eps=eps)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., H) -> (..., size)"""
        return self.norm(nn.functional.gelu(self.linear(states)))


class UpDownFusionPreTrainedModel(UpDownTopDownModel):
    """What the fusion model and its heads share; a head keeps the model as `self.fusion`."""

    config_class = UpDownFusionConfig
    base_model_prefix = "fusion"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # flash attention takes no 4-D mask
    _no_split_modules = ["UpDownGrid", "RegionEmbedding"]

    @classmethod
    def from_text_pretrained(cls, name_or_dir: str, **fields: Any) -> Self:
        """A model whose text encoder has the weights of a pretrained one, all else new.

        name_or_dir: a folder or Hub id whose `config.json` names an encoder, or a fusion model, whose encoder is taken
        (say for regions of another width); weights are read from safetensors alone and no code of the folder is run.
        fields: of `UpDownFusionConfig`, such as `region_feature_size`. Raises `ValueError` where weights are missing.
        """
        encoder, info = AutoModel.from_pretrained(
            name_or_dir,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
        missing = set(info["missing_keys"])
        if isinstance(encoder, UpDownFusionModel):
            encoder, within = encoder.text_model, "text_model."
            missing = {name.removeprefix(within) for name in missing if name.startswith(within)}
        model = cls(UpDownFusionConfig(text_config=encoder.config, **fields))
        fusion: Any = getattr(model, "fusion", model)
        wanted = fusion.text_model.state_dict()
        fault = loading_fault(encoder, {**info, "missing_keys": missing & wanted.keys()})
        if fault:
            raise ValueError(fault)
        loaded = {name: tensor for name, tensor in encoder.state_dict().items() if name in wanted}
        fusion.text_model.load_state_dict(loaded)
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        word_bias = getattr(module, "word_bias", None)
        if word_bias is not None:
            nn.init.zeros_(word_bias)

    def build_answers(self) -> None:
        """The head of answers, under the same names in pretraining (`qa`) and in question answering."""
        config = self.config
        size = config.answer_hidden_size or 2 * config.hidden_size
        self.before_answers = Prediction(config.hidden_size, size, eps=config.head_norm_eps)
        self.answers = nn.Linear(size, config.num_labels)  # W_o; as many as `config.id2label` names

    def answer_logits(self, states: torch.Tensor) -> torch.Tensor:
        """The joint vector of question and image (N, H) -> a score of every answer (N, A)."""
        return self.answers(F.dropout(self.before_answers(states), self.config.answer_dropout, self.training))

    def resize_token_embeddings(self, *arguments: Any, **named: Any) -> Any:
        """As transformers has it; where words have a bias (`config.word_bias`), that of new words is 0."""
        embeddings = super().resize_token_embeddings(*arguments, **named)
        head: Any = getattr(self, "word_head", None)
        bias = getattr(head, "word_bias", None)
        if bias is not None:
            more = embeddings.num_embeddings - len(bias)
            head.word_bias = nn.Parameter(F.pad(bias.detach(), (0, more)), requires_grad=bias.requires_grad)
        return embeddings

    def get_input_embeddings(self) -> Any:
        fusion: Any = getattr(self, "fusion", self)
        return fusion.text_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        fusion: Any = getattr(self, "fusion", self)
        fusion.text_model.set_input_embeddings(value)


class UpDownFusionModel(UpDownFusionPreTrainedModel):
    """One transformer over words and regions; see the module's docstring.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> model = UpDownFusionModel(UpDownFusionConfig(text_config=bert, region_feature_size=8)).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> out = model(torch.tensor([[2, 7, 9], [2, 8, 0]]), **regions)  # two texts about one image
    >>> out.word_states.shape, out.region_states.shape, out.pooler_output.shape
    (torch.Size([2, 3, 16]), torch.Size([2, 4, 16]), torch.Size([2, 16]))
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.text_model: Any = AutoModel.from_config(config.text_config)
        check_encoder(self.text_model)
        if getattr(self.text_model, "pooler", None) is not None:
            self.text_model.pooler = None  # the joint vector is read off the states themselves
        size = self.text_model.get_input_embeddings().embedding_dim
        self.region_embedding = RegionEmbedding(config, size=size)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        if config.region_embedding == "uniter":
            self.text_model.embeddings.register_forward_hook(keep_regions, with_kwargs=True)
        self.build_region_tags()
        self.build_region_source()
        self.post_init()
        check_passes(self)

    def freeze_as_made(self) -> None:
        """As the base class has it; `from_pretrained`, which calls it, builds models without weights to check."""
        super().freeze_as_made()
        check_passes(self)

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        region_embeds: torch.Tensor | None = None,
        image_index: torch.LongTensor | None = None,
        causal_words: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownFusionOutput | tuple:
        """Run the transformer over words, regions or both.

        input_ids (N, T), or their embeddings `inputs_embeds` (N, T, H); attention_mask (N, T), by default all but the
        padding token; regions of P images as `get_regions` takes them, or `region_embeds` (P, R, H), what
        `embed_regions` made of them, with `region_mask`; image_index (N,): which image each text goes with, by default
        N / P texts next to each other for every image, or (N, K): which K images together, their regions joined (-1:
        none). causal_words: words see the regions and earlier words alone, and regions each other (Prefix-LM).
        -> `UpDownFusionOutput`. Raises `ValueError` for numbers that do not fit.
        """
        has_words = input_ids is not None or inputs_embeds is not None
        if region_embeds is None and (pixel_values is not None or region_features is not None):
            tags = {"object_probs": object_probs, "attribute_probs": attribute_probs}
            fields = optional_fields(kwargs | tags | {"region_seconds": region_seconds})
            regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
            images, image_index = self.embedded_rows(regions, image_index)
        elif region_embeds is not None:
            images, image_index = joined_rows(Regions(region_embeds, region_boxes, region_mask), image_index)
        elif not has_words:
            raise ValueError("There is nothing to read: give input_ids, regions or pixel_values, or both")
        else:
            images = Regions()  # none
        region_embeds, region_boxes, region_mask = images.region_features, images.region_boxes, images.region_mask
        texts = (input_ids, inputs_embeds, attention_mask)
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        with eager_attention(self.text_model, output_attentions):
            output, mask, num_words = self.read(texts, (region_embeds, region_mask, image_index), causal_words, **shown)
        states, together = output.last_hidden_state, has_words and region_embeds is not None
        return UpDownFusionOutput(
            pooler_output=self.pool(states, mask, by="cls" if together else self.config.pooling),
            last_hidden_state=states,
            word_states=states[:, :num_words],
            region_states=None if region_embeds is None else states[:, num_words:],
            hidden_states=output.hidden_states if output_hidden_states else None,
            attentions=output.attentions if output_attentions else None,
            region_boxes=region_boxes,
        )

    def embed_regions(self, regions: Regions) -> torch.Tensor:
        """`Regions` of P images -> the encoder's input embeddings (P, R, H); 0 on padding, whatever stands there."""
        return self.embed_vectors(replace(regions, region_features=self.with_tags(regions.region_features, regions)))

    def embed_vectors(self, regions: Regions) -> torch.Tensor:
        """As `embed_regions`, of regions whose features have been joined by their tags."""
        gaps = ~regions.region_mask[..., None]
        boxes: Any = regions.region_boxes
        boxes = boxes if boxes is None else boxes.masked_fill(gaps, 0)
        times = self.times_of(regions)
        features, images = regions.region_features.masked_fill(gaps, 0), regions.region_images
        embedded = self.region_embedding(features, boxes, times, images)
        return embedded.masked_fill(gaps, 0)

    def embedded(self, regions: Regions) -> Regions:
        """The same with `embed_regions` in the place of their features."""
        return replace(regions, region_features=self.embed_regions(regions))

    def embedded_rows(self, regions: Regions, image_index: torch.Tensor | None) -> tuple[Regions, Any]:
        """Embedded regions as rows read them: `joined_rows`; where `config.num_images` are told apart, each region
        with the place of its image in its row. Raises `ValueError` for more images a row than these.
        """
        if self.config.num_images == 1 or image_index is None or image_index.dim() != 2:
            regions, image_index = self.rows_in_time(regions, image_index)
            return joined_rows(self.embedded(regions), image_index)
        if image_index.shape[1] > self.config.num_images:
            raise ValueError(
                f"image_index names {image_index.shape[1]} images a row, but config.num_images is "
                f"{self.config.num_images}: give fewer, or make a model that tells more apart"
            )
        return self.embedded(regions.of_rows(image_index)), None

    def read(self, texts: Any, images: Any, causal: bool, **flags: Any) -> tuple[Any, torch.Tensor, int]:
        """What `read_words` or `read_both` reads, where it saves time in buckets of texts of about the same length."""
        input_ids, inputs_embeds, attention_mask = texts
        region_embeds, region_mask, image_index = images
        if region_embeds is not None and region_mask is None:
            region_mask = region_embeds.new_ones(region_embeds.shape[:2], dtype=torch.bool)
        whole = any(flags.values()) or (input_ids is None and inputs_embeds is None)
        buckets = [] if whole else length_buckets(self.word_mask(*texts))
        words = (input_ids, inputs_embeds, attention_mask)
        if buckets:
            return self.read_buckets(buckets, words, (region_embeds, region_mask, image_index), causal)
        if region_embeds is None:
            return self.read_words(*words, causal, **flags)
        return self.read_both(*words, region_embeds, region_mask, image_index, causal, **flags)

    def read_words(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        causal: bool,
        **flags: bool,
    ) -> tuple[Any, torch.Tensor, int]:
        """Words alone: the text encoder's own pass, its mask (N, T), and T."""
        mask = self.word_mask(input_ids, inputs_embeds, attention_mask)
        tokens: dict[str, Any] = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": inputs_embeds}
        seen = mask if not causal else additive(mask[:, None, None] & causal_square(mask), self.dtype)
        return self.text_model(attention_mask=seen, return_dict=True, **tokens, **flags), mask, mask.shape[1]

    def read_both(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        region_embeds: torch.Tensor,
        region_mask: torch.Tensor,
        image_index: torch.Tensor | None,
        causal: bool,
        **flags: Any,
    ) -> tuple[Any, torch.Tensor, int]:
        """Words (or a [CLS]) and regions in one pass: the encoder's output, its mask (N, L), and T."""
        if input_ids is None and inputs_embeds is None:
            input_ids = region_mask.new_full((len(region_mask), 1), self.config.cls_token_id, dtype=torch.long)
            attention_mask = torch.ones_like(input_ids)
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        word_mask = self.word_mask(input_ids, inputs_embeds, attention_mask)
        rows = TextRows.of(
            image_index, num_texts=len(inputs_embeds), num_images=len(region_embeds), device=inputs_embeds.device
        )
        regions = rows.of_images(region_embeds).to(inputs_embeds.dtype)
        mask = torch.cat([word_mask, rows.of_images(region_mask)], dim=1)  # (N, L)
        num_words = word_mask.shape[1]
        seen = mask[:, None, None]  # (N, 1, 1, L)
        if causal:
            allowed = mask.new_ones(mask.shape[1], mask.shape[1])
            allowed[:num_words, :num_words] = causal_square(word_mask)
            allowed[num_words:, :num_words] = False  # the image is the prefix: it sees no word
            seen = seen & allowed
        positions = self.positions(input_ids, word_mask)  # (N, T)
        first = positions.gather(1, word_mask.to(torch.uint8).argmax(dim=1, keepdim=True))  # of words, not of padding
        if self.config.region_embedding == "uniter":
            kinds = torch.zeros_like(mask, dtype=torch.long)
            kinds[:, num_words:] = REGION_TYPE
            flags = {**flags, "token_type_ids": kinds}
        output = self.text_model(
            inputs_embeds=torch.cat([inputs_embeds, regions], dim=1),
            attention_mask=additive(seen.expand(-1, -1, mask.shape[1], -1), inputs_embeds.dtype),
            position_ids=torch.cat([positions, first.expand(-1, regions.shape[1])], dim=1),
            return_dict=True,
            **flags,
        )
        return output, mask, num_words

    def read_buckets(
        self, buckets: list[torch.Tensor], texts: tuple[Any, ...], images: tuple[Any, ...], causal: bool
    ) -> tuple[Any, torch.Tensor, int]:
        """As `read_words` or `read_both`, a pass for each bucket of texts, cut to its longest; 0 on what is cut."""
        region_embeds, region_mask, image_index = images
        mask = words = self.word_mask(*texts)
        rows: Any = None
        if region_embeds is not None:
            numbers = {"num_texts": len(words), "num_images": len(region_embeds)}
            rows = TextRows.of(image_index, **numbers, device=words.device)
            mask = torch.cat([words, rows.of_images(region_mask)], dim=1)
        states, lengths = [], text_lengths(words)
        for bucket in buckets:
            ids, embeds, seen = (part if part is None else part[bucket, : lengths[bucket[-1]]] for part in texts)
            if rows is None:
                output, _, _ = self.read_words(ids, embeds, seen, causal)
            else:
                owners = rows.image_index[bucket]
                output, _, _ = self.read_both(ids, embeds, seen, region_embeds, region_mask, owners, causal)
            states.append(output.last_hidden_state)
        return BaseModelOutput(last_hidden_state=join_buckets(states, buckets, words)), mask, words.shape[1]

    def word_mask(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(N, T) bool: True = a word; by default all but the padding token."""
        words = input_ids if input_ids is not None else inputs_embeds
        if words is None or (input_ids is not None and input_ids.dim() != 2):
            raise ValueError("input_ids must be of shape (texts, words)")
        if attention_mask is None:
            if input_ids is None:
                return words.new_ones(words.shape[:2], dtype=torch.bool)
            mask = input_ids != self.config.pad_token_id
            return mask | ~mask.any(dim=1, keepdim=True)  # a text of padding alone is read as it stands
        if attention_mask.shape != words.shape[:2]:
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}, but the texts have {tuple(words.shape[:2])}: "
                "one entry a word"
            )
        return attention_mask.bool()

    def positions(self, input_ids: torch.Tensor | None, word_mask: torch.Tensor) -> torch.Tensor:
        """Where each word stands, (N, T), as the text encoder counts by itself.

        RoBERTa and its kin count from the number after their padding's, and words alone.
        """
        numbers = torch.arange(word_mask.shape[1], device=word_mask.device).expand(word_mask.shape)
        padding = padding_position(self.text_model)
        if padding is None:
            return numbers
        if input_ids is None:
            return numbers + padding + 1
        words = (input_ids != padding).long()
        return words.cumsum(dim=1) * words + padding

    def pool(self, states: torch.Tensor, mask: torch.Tensor, *, by: str) -> torch.Tensor:
        """States (N, L, H) -> one vector (N, H), by "cls" (through the pooler, if there is one) or "mean"."""
        if by == "mean":
            return mean_state(states, mask)
        first = first_state(states, mask)
        return first if self.pooler is None else self.pooler(first).tanh()


def keep_regions(embeddings: nn.Module, args: tuple, given: dict[str, Any], embedded: torch.Tensor) -> torch.Tensor:
    """A hook of BERT's embedding layer: regions come out of it as they went in, words embedded (N, L, H).

    Regions are what `token_type_ids` call so beside `inputs_embeds`.
    """
    kinds, states = given.get("token_type_ids"), given.get("inputs_embeds")
    if kinds is None or states is None:
        return embedded
    return torch.where((kinds == REGION_TYPE)[..., None], states.to(embedded), embedded)


def check_encoder(text_model: PreTrainedModel) -> None:
    """`ValueError` for a text model that cannot run over regions."""
    taken = inspect.signature(text_model.forward).parameters
    missing = [name for name in NEEDED if name not in taken]
    try:
        missing += [] if isinstance(text_model.get_input_embeddings(), nn.Embedding) else ["word embeddings"]
    except NotImplementedError:
        missing += ["word embeddings"]
    if missing or getattr(text_model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"text_config is a {text_model.config.model_type!r}, which does not take {', '.join(missing or NEEDED)}: "
            "choose an encoder such as bert, roberta, distilbert or modernbert"
        )


@torch.no_grad()
def check_passes(model: UpDownFusionModel) -> None:
    """`ValueError` for a text encoder that reads words otherwise beside regions than alone, or that padding reaches.

    Tested on three words and two regions: words beside padding alone are read as without it, and so are words and
    regions. Weights that are not there yet (on "meta"), or that a GPU or half precision rounds, are not tested; those
    that are not finite are an error of their own.
    """
    exact = (torch.float32, torch.float64)
    if any(w.device.type != "cpu" or not w.numel() or w.dtype not in exact for w in model.text_model.parameters()):
        return
    training = model.text_model.training
    model.text_model.eval()
    try:
        found = _differences(model)
    except NotFiniteError:
        raise
    except Exception as error:  # whatever an encoder raises that was not made for this
        found = {f"it fails over words and regions: {' '.join(str(error).split())[:200]}": float("inf")}
    finally:
        model.text_model.train(training)
    wrong = next((what for what, difference in found.items() if not difference <= SAME), None)
    if wrong is not None:
        for weight in model.text_model.parameters():
            check_finite(weight, model, what=STATES)
        raise ValueError(
            f"text_config is a {model.config.text_config.model_type!r}, which cannot read regions beside words "
            f"({wrong}): choose an encoder such as bert, roberta, distilbert or modernbert"
        )


def _differences(model: UpDownFusionModel) -> dict[str, float]:
    """How far the states of two readings that should be one are apart, of the largest state; by what would be wrong."""
    embeddings, padding = model.get_input_embeddings(), model.config.pad_token_id
    device, size = embeddings.weight.device, embeddings.embedding_dim
    last = [number for number in range(embeddings.num_embeddings) if number != padding][-2:]
    words = torch.tensor([[model.config.cls_token_id, *last]], device=device)
    padded = torch.tensor([[*words[0].tolist(), padding, padding]], device=device)
    seen = torch.tensor([[True, True, True, False, False]], device=device)
    regions = torch.linspace(-1, 1, 4 * size, device=device).sin().view(1, 4, size)
    real = torch.tensor([[True, True, False, False]], device=device)
    flags: Any = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
    alone = model(words, **flags).last_hidden_state
    check_finite(alone, model, what=STATES)
    both = model(words, region_embeds=regions[:, :2], region_mask=real[:, :2], **flags).last_hidden_state
    images = {"region_embeds": regions.expand(2, -1, -1), "region_mask": torch.cat([real, torch.zeros_like(real)])}
    wide = model(padded.expand(2, -1), attention_mask=seen.expand(2, -1), **images, **flags)
    both_padded = torch.cat([wide.word_states[:1, :3], wide.region_states[:1, :2]], dim=1)
    return {
        "it reads words otherwise than alone": _apart(wide.word_states[1:, :3], alone),
        "padding changes what it reads": _apart(both_padded, both),
    }


def _apart(states: torch.Tensor, expected: torch.Tensor) -> float:
    return ((states - expected).abs().max() / expected.abs().max()).item()


def first_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States (N, T, H) -> those of the first token that is there (N, H), wherever padding stands; mask (N, T ..)."""
    first = mask.to(torch.uint8).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), first]


def mean_state(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States (N, L, H) -> their mean where mask (N, L) is True, (N, H); 0 where nothing is."""
    share = mask.to(states.dtype) / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.bmm(share[:, None], states).squeeze(1)


def causal_square(mask: torch.Tensor) -> torch.Tensor:
    """(T, T) bool: True where word `row` may see word `column`."""
    length = mask.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()


def additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A bool mask, True = seen, as what every attention adds to its scores: 0 or the lowest number."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def region_attention(
    attentions: tuple[torch.Tensor, ...], region_mask: torch.Tensor, *, num_words: int
) -> tuple[torch.Tensor, ...]:
    """Each layer's attention (N, heads, L, L) of words then regions -> how each word weighed the regions, (N, T, R).

    The mean over heads, scaled so that every word's weights sum to 1; exactly 0 on padding. region_mask (N, R).
    """
    mask = region_mask[:, None]
    return tuple(shares_of_regions(layer[:, :, :num_words, num_words:].mean(dim=1), mask) for layer in attentions)


def shares_of_regions(weights: torch.Tensor, region_mask: torch.Tensor) -> torch.Tensor:
    """Weights (N, ..., R) scaled to sum to 1 over the regions, exactly 0 on padding; region_mask (N, 1, R).

    Whoever looks away from all of them is shown to weigh them evenly.
    """
    weights = weights.masked_fill(~region_mask, 0)
    total = weights.sum(dim=-1, keepdim=True)
    even = (region_mask / region_mask.sum(dim=-1, keepdim=True)).to(weights.dtype)
    return torch.where(total > 0, weights / total.clamp(min=torch.finfo(weights.dtype).tiny), even)
