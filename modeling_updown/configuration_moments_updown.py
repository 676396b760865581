"""What the fusion model's config says of moment retrieval: which spans of a clip a sentence is about.

The config itself is in `configuration_text_updown.py`, the model in `modeling_video.py`, which reads these fields.
"""

from typing import Any, Literal

from .configuration_time_updown import TimedRegionsConfig

LOSS_WEIGHTS = {"span": 10.0, "giou": 1.0, "label": 4.0, "saliency": 1.0, "alignment": 0.02}
COST_WEIGHTS = {"span": 10.0, "giou": 1.0, "label": 4.0}
MOST_SEGMENTS = 128  # whose map has 16,384 cells


class MomentConfig(TimedRegionsConfig):
    r"""A config whose model may find moments; `UpDownForMomentRetrieval` has the equations.

    moment_head (`"spans"` or `"map"`, defaults to `"spans"`):
        A set of spans with saliency (Moment-DETR, Lei et al. 2021), or a score of every run of segments (2D-TAN, Zhang
        et al. 2020).
    moment_inputs (`"states"`, `"embeddings"` or `"features"`, defaults to `"states"`):
        What is read of each step of a clip. `"states"`: the fusion model's states of its regions, read by themselves;
        `"embeddings"`: their input embeddings alone, which takes no pass of the transformer. Words are the fusion
        model's states then. `"features"`: their features as they are, beside given features of words
        (`moment_text_size`); such a model has no text encoder, as Moment-DETR has none.
    moment_text_size (`int`, *optional*):
        Width of the given features of words, with `"features"` alone.
    moment_pooling (`"mean"`, `"attention"` or `"sentence"`, defaults to `"mean"`):
        How the regions of a step become one vector: their mean, weighed by a learnt score, or by the attention of the
        sentence, whose steps are its own then.
    moment_changes (`bool`, defaults to `False`):
        Whether the head reads of each step also how it differs from the one before, each normalised by itself.
    moment_similarity (`bool`, defaults to `False`):
        Map, by `"states"`: whether runs also score by how like the sentence they are in the space in which a retrieval
        model compares images and texts (`projection_size`; `pooling` must be `"mean"`).
    moment_step_seconds (`float`, defaults to 2.0):
        How long the only step of a clip lasts whose duration is not given, and each bin of `moment_span_loss`
        `"cross_entropy"`.
    moment_hidden_size, moment_num_heads, moment_ffn_size (`int`, default to 256, 8, 1024):
        Width of the head, heads of its attention, width of its feed-forward layers.
    moment_encoder_layers, moment_decoder_layers, moment_queries (`int`, default to 2, 2, 10):
        Spans: layers, and how many spans are predicted.
    moment_input_layers, moment_input_dropout, moment_dropout (default to 2, 0.5, 0.1):
        Layers that project steps and words into the head, their dropout, and that of the head's layers.
    moment_pre_norm (`bool`, defaults to `False`):
        Spans: whether each branch is normalised before it instead of each sum after it.
    moment_text_positions (`int`, defaults to 0):
        Spans: how many places of words have a learnt position; with 0 words have none.
    moment_span_loss (`"l1"` or `"cross_entropy"`, defaults to `"l1"`), moment_bins (`int`, defaults to 75):
        Spans: centre and width by L1 and gIoU, or start and end as one of so many bins each.
    moment_background_weight, moment_saliency_margin (`float`, default to 0.1, 0.2):
        Spans: weight of the queries that stand for no span, and the hinge of saliency.
    moment_alignment_size, moment_temperature (default to 64, 0.07):
        Spans: width in which queries are contrasted with words (0: they are not), and the temperature.
    moment_alignment_padding (`bool`, defaults to `False`):
        Spans: sum the similarities of padding words too, as Moment-DETR's code does.
    moment_auxiliary_losses (`bool`, defaults to `True`):
        Spans: whether the decoder's earlier layers learn as well.
    moment_loss_weights, moment_cost_weights (`dict[str, float]`, *optional*):
        Spans: weights of `span`, `giou`, `label`, `saliency` and `alignment` in the loss, and of the first three in
        matching; those that are not named have Moment-DETR's.
    moment_segments (`int`, defaults to 16):
        Map: segments of equal length of a clip; every run of them is scored.
    moment_map_layers, moment_map_kernel (`int`, default to 4, 5):
        Map: convolutions over it, and their odd width.
    moment_map_iou (`list[float]`, defaults to `[0.5, 1.0]`):
        Map: IoUs with a true span that are learnt as 0 and as 1.
    moment_nms_iou (`float`, defaults to 0.5):
        Map: of runs that overlap by more the best alone is kept.
    """

    moment_head: Literal["spans", "map"] = "spans"
    moment_inputs: Literal["states", "embeddings", "features"] = "states"
    moment_text_size: int | None = None
    moment_pooling: Literal["mean", "attention", "sentence"] = "mean"
    moment_changes: bool = False
    moment_similarity: bool = False
    moment_step_seconds: float | int = 2.0
    moment_hidden_size: int = 256
    moment_num_heads: int = 8
    moment_ffn_size: int = 1024
    moment_encoder_layers: int = 2
    moment_decoder_layers: int = 2
    moment_queries: int = 10
    moment_input_layers: int = 2
    moment_input_dropout: float | int = 0.5
    moment_dropout: float | int = 0.1
    moment_pre_norm: bool = False
    moment_text_positions: int = 0
    moment_span_loss: Literal["l1", "cross_entropy"] = "l1"
    moment_bins: int = 75
    moment_background_weight: float | int = 0.1
    moment_saliency_margin: float | int = 0.2
    moment_alignment_size: int = 64
    moment_temperature: float | int = 0.07
    moment_alignment_padding: bool = False
    moment_auxiliary_losses: bool = True
    moment_loss_weights: dict[str, float | int] | None = None
    moment_cost_weights: dict[str, float | int] | None = None
    moment_segments: int = 16
    moment_map_layers: int = 4
    moment_map_kernel: int = 5
    moment_map_iou: list[float | int] | None = None
    moment_nms_iou: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.moment_loss_weights = LOSS_WEIGHTS | (self.moment_loss_weights or {})
        self.moment_cost_weights = COST_WEIGHTS | (self.moment_cost_weights or {})
        self.moment_map_iou = [0.5, 1.0] if self.moment_map_iou is None else list(self.moment_map_iou)
        self.check_moments()

    def check_moments(self) -> None:
        """Raises `ValueError` for fields of moments that contradict each other or are out of their range."""
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if (self.moment_inputs == "features") != (self.moment_text_size is not None):
            raise ValueError(
                f"moment_inputs={self.moment_inputs!r} and moment_text_size={self.moment_text_size} do not go "
                "together: given features of words (a width) are read with moment_inputs='features' alone"
            )
        if self.moment_hidden_size % self.moment_num_heads or self.moment_hidden_size % 2:
            raise ValueError(
                f"moment_hidden_size={self.moment_hidden_size} must be even and a multiple of "
                f"moment_num_heads={self.moment_num_heads}"
            )
        if min(self.moment_step_seconds, self.moment_temperature) <= 0:
            raise ValueError(
                f"moment_step_seconds={self.moment_step_seconds} and moment_temperature={self.moment_temperature} must "
                "be above 0"
            )
        self._check_weights()
        self._check_map()

    def _check_weights(self) -> None:
        for name, known in (("moment_loss_weights", LOSS_WEIGHTS), ("moment_cost_weights", COST_WEIGHTS)):
            weights = getattr(self, name)
            unknown = sorted(weights.keys() - known.keys())
            if unknown or min(weights.values()) < 0:
                raise ValueError(f"{name}={weights} must name {', '.join(known)}, each with a weight of 0 or more")

    def _check_map(self) -> None:
        lowest_and_highest = self.moment_map_iou or []
        if self.moment_segments > MOST_SEGMENTS or not self.moment_map_kernel % 2:
            raise ValueError(
                f"moment_segments={self.moment_segments} must be {MOST_SEGMENTS} at most, and moment_map_kernel="
                f"{self.moment_map_kernel} odd"
            )
        if len(lowest_and_highest) != 2 or not 0 <= lowest_and_highest[0] < lowest_and_highest[1] <= 1:
            raise ValueError(f"moment_map_iou={lowest_and_highest} must be two IoUs that rise, in 0..1")
        if self.moment_similarity and (self.moment_head != "map" or self.moment_inputs != "states"):
            raise ValueError(
                f"moment_similarity is of moment_head='map' with moment_inputs='states', not of {self.moment_head!r} "
                f"with {self.moment_inputs!r}"
            )
        if not 0 < self.moment_nms_iou <= 1:
            raise ValueError(f"moment_nms_iou={self.moment_nms_iou} must be above 0 and at most 1, as an IoU is")


COUNTS = (
    *("moment_hidden_size", "moment_num_heads", "moment_ffn_size", "moment_encoder_layers", "moment_decoder_layers"),
    *("moment_queries", "moment_input_layers", "moment_bins", "moment_segments", "moment_map_layers"),
    "moment_map_kernel",
)
