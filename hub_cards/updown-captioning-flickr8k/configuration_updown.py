"""Every number of every UpDown model: one config class a `model_type`.

Defaults are those of Anderson et al. 2018 ("Bottom-Up and Top-Down Attention for Image Captioning and Visual Question
Answering", the released code); what the reimplementations changed is a field of its own.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig


@strict
class UpDownGridConfig(PreTrainedConfig):
    r"""The grid region source: the cells (or a spatial pyramid of boxes) of a timm backbone's last map.

    backbone (`str`, defaults to `"resnet101"`):
        Any timm model name, CNN or ViT.
    image_size (`int`, defaults to 224):
        Side in pixels that the image processor gives photos; a ViT is built for it.
    regions (`"grid"` or `"pyramid"`, defaults to `"grid"`):
        `"grid"` averages the last map to `grid_size` x `grid_size` cells; `"pyramid"` pools the boxes of
        `pyramid_levels` from it with RoIAlign.
    grid_size (`int`, defaults to 10):
        Cells a side: 1 (mean vector), 7, 10 (the paper's ResNet baseline) or 14.
    pyramid_levels (`list[int]`, defaults to `[1, 2, 3]`):
        Boxes a side at each level: level n has n x n overlapping boxes, so 1 + 4 + 9 boxes by default.
    joined_levels (`list[int]`, defaults to `[]`):
        timm feature levels whose maps are joined to the last one, width by width, cell by cell.
    region_feature_size (`int`, defaults to 2048):
        Width D of one region's feature: the backbone's, plus that of the joined levels.
    trainable_stages (`int`, defaults to 0):
        How many of the backbone's last stages train once the model is unfrozen; 0 means all of them.
    """

    model_type = "updown_grid"

    backbone: str = "resnet101"
    image_size: int = 224
    regions: Literal["grid", "pyramid"] = "grid"
    grid_size: int = 10
    pyramid_levels: list[int] | None = None
    joined_levels: list[int] | None = None
    region_feature_size: int = 2048
    trainable_stages: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.pyramid_levels = [1, 2, 3] if self.pyramid_levels is None else list(self.pyramid_levels)
        self.joined_levels = [] if self.joined_levels is None else list(self.joined_levels)
        if self.grid_size < 1 or min(self.pyramid_levels, default=0) < 1:
            raise ValueError(
                f"grid_size={self.grid_size} and pyramid_levels={self.pyramid_levels} must be 1 or more, "
                "and a pyramid needs at least one level"
            )

    @property
    def hidden_size(self) -> int:
        return self.region_feature_size

    @property
    def num_regions(self) -> int:
        """Regions a photo: `grid_size` squared, or the boxes of all pyramid levels."""
        if self.regions == "grid":
            return self.grid_size**2
        return sum(level**2 for level in self.pyramid_levels or [])


# The configs a top-down model may own as its `vision_config`, by model_type.
REGION_SOURCE_CONFIGS = {"updown_grid": UpDownGridConfig}


@strict
class UpDownCaptioningConfig(PreTrainedConfig):
    r"""The captioner: an attention LSTM, top-down attention over regions, a language LSTM (the paper, section 3.2).

    vocab_size (`int`, defaults to 10010):
        Words V, specials included.
    region_feature_size (`int`, defaults to 2048):
        Width D of the regions that come in.
    hidden_size, word_embedding_size, attention_size (`int`, default to 1000, 1000, 512):
        Widths of both LSTMs, of the word embedding, and of the attention's hidden layer.
    region_embedding_size (`int`, *optional*):
        When given, regions and their mean pass Linear + ReLU + dropout to this width first (ruotianluo's UpDownModel
        uses 1000); the paper attends to the features as they come.
    box_embedding (`bool`, defaults to `False`):
        Add an embedding of the box geometry (corners, width, height, area) to the region embedding.
    word_embedding_relu (`bool`, defaults to `False`):
        ReLU after the word embedding (ruotianluo).
    attention_bias (`bool`, defaults to `False`):
        Biases in the attention's three products (ruotianluo).
    region_dropout, word_dropout, output_dropout (`float`, default to 0.0):
        Dropout of the region embedding, of the word embedding, and of the language LSTM's output (ruotianluo: 0.5).
    forget_gate_bias (`float`, defaults to 1.0), initializer_range (`float`, defaults to 0.01):
        Initialisation of the LSTMs' forget gates and of every weight matrix.
    label_smoothing (`float`, defaults to 0.0):
        Share of the target spread evenly over the other words.
    vision_config (`UpDownGridConfig`, *optional*):
        The region source the model owns; with it the model takes `pixel_values`.
    freeze_regions (`bool`, defaults to `True`):
        Whether the region source starts frozen (`model.unfreeze_regions()` trains it).
    unk_token_id (`int`, *optional*, defaults to 3):
        The unknown word, which `generate` never writes.
    """

    model_type = "updown_captioning"
    sub_configs = {"vision_config": AutoConfig}

    vocab_size: int = 10010
    region_feature_size: int = 2048
    hidden_size: int = 1000
    word_embedding_size: int = 1000
    attention_size: int = 512
    region_embedding_size: int | None = None
    box_embedding: bool = False
    word_embedding_relu: bool = False
    attention_bias: bool = False
    region_dropout: float | int = 0.0
    word_dropout: float | int = 0.0
    output_dropout: float | int = 0.0
    forget_gate_bias: float | int = 1.0
    initializer_range: float = 0.01
    label_smoothing: float | int = 0.0
    vision_config: Any = None
    freeze_regions: bool = True
    num_hidden_layers: int = 2
    num_attention_heads: int = 1
    use_cache: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    unk_token_id: int | None = 3

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vision_config, dict):  # first, since transformers hands settings down to it
            self.vision_config = region_source_config(self.vision_config)
        super().__post_init__(**kwargs)
        if self.vision_config is not None:
            self.region_feature_size = self.vision_config.region_feature_size
        if self.box_embedding and self.region_embedding_size is None:
            raise ValueError("box_embedding=True adds to the region embedding: give region_embedding_size as well")


def region_source_config(fields: dict) -> PreTrainedConfig:
    """The region-source config that `fields["model_type"]` names; the grid's where it names none."""
    fields = dict(fields)
    model_type = fields.pop("model_type", "updown_grid")
    if model_type not in REGION_SOURCE_CONFIGS:
        raise ValueError(f"vision_config names model_type {model_type!r}; known are {sorted(REGION_SOURCE_CONFIGS)}")
    return REGION_SOURCE_CONFIGS[model_type](**fields)
