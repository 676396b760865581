"""Every number of the UpDown models: one config class a `model_type`.

Those that stand on a Hugging Face text model have theirs in `configuration_text_updown.py`.

Defaults are those of Anderson et al. 2018 ("Bottom-Up and Top-Down Attention for Image Captioning and Visual Question
Answering", the released code); what the reimplementations changed is a field of its own.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_dense_updown import DescribedRegionsConfig
from .configuration_masks_updown import MaskConfig
from .configuration_time_updown import TimedRegionsConfig
from .labels_updown import LabelledConfig

LARGEST_GRID_SIZE, LARGEST_IMAGE_SCALE = 64, 16  # 4,096 cells; 256 times the pixels


def check_grid_sizes(grid_sizes: Sequence[int]) -> None:
    """Raises `ValueError` for a grid without a cell, or of more cells than a model could read."""
    wrong = [side for side in grid_sizes if isinstance(side, bool) or not 1 <= side <= LARGEST_GRID_SIZE]
    if wrong:
        raise ValueError(
            f"grid_sizes={list(grid_sizes)} must be cells a side of each grid, 1 to {LARGEST_GRID_SIZE}, such as [1, 7]"
        )


@strict
class UpDownGridConfig(PreTrainedConfig):
    r"""The grid region source: the cells (or a spatial pyramid of boxes) of a timm backbone's last map.

    backbone (`str`, defaults to `"resnet101"`):
        Any timm model name, CNN or ViT.
    image_size (`int`, defaults to 224):
        Side in pixels that the image processor gives images; a ViT is built for it.
    regions (`"grid"` or `"pyramid"`, defaults to `"grid"`):
        `"grid"` averages the last map to `grid_size` x `grid_size` cells; `"pyramid"` pools the boxes of
        `pyramid_levels` from it with RoIAlign.
    grid_size (`int`, defaults to 10):
        Cells a side: 1 (mean vector), 7, 10 (the paper's ResNet baseline) or 14.
    grid_sizes (`list[int]`, *optional*):
        Cells a side of several grids, in the place of `grid_size`: `[7, 14]` gives 49 cells and then 196, of one map.
        Not for a pyramid.
    image_scales (`list[float]`, *optional*):
        The image is also seen at other sizes: a factor of its sides for each grid. `[0.5, 1.0]` gives `grid_size` x
        `grid_size` cells of the image at half its size, then as many of the image as it is; with `grid_sizes=[7, 14]`
        7 x 7 cells of the one and 14 x 14 of the other; a pyramid is pooled from each. Not for a ViT.
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
    grid_sizes: list[int] | None = None
    image_scales: list[float | int] | None = None
    pyramid_levels: list[int] | None = None
    joined_levels: list[int] | None = None
    region_feature_size: int = 2048
    trainable_stages: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.pyramid_levels = [1, 2, 3] if self.pyramid_levels is None else list(self.pyramid_levels)
        self.joined_levels = [] if self.joined_levels is None else list(self.joined_levels)
        self.check()

    def check(self) -> None:
        """Raises `ValueError` for fields that contradict each other or are out of their range."""
        if self.grid_size < 1 or min(self.pyramid_levels or [], default=0) < 1:
            raise ValueError(
                f"grid_size={self.grid_size} and pyramid_levels={self.pyramid_levels} must be 1 or more, "
                "and a pyramid needs at least one level"
            )
        check_grid_sizes(self.grid_sizes or [])
        if self.regions == "pyramid" and self.grid_sizes:
            raise ValueError(
                f'grid_sizes={self.grid_sizes} are cells, of which regions="pyramid" has none: leave them out ([] '
                'where a saved grid has some), or set regions to "grid"; boxes a side are pyramid_levels'
            )
        if any(not 0 < scale <= LARGEST_IMAGE_SCALE for scale in self.image_scales or []):
            raise ValueError(
                f"image_scales={self.image_scales} must be factors over 0, of {LARGEST_IMAGE_SCALE} at most: of the "
                "sides of the image, such as [0.5, 1.0]"
            )
        if self.grid_sizes and self.image_scales and len(self.grid_sizes) != len(self.image_scales):
            raise ValueError(
                f"grid_sizes={self.grid_sizes} and image_scales={self.image_scales} go together, one grid for each "
                "scale: give lists of one length, or grid_size for the same grid at every scale"
            )

    @property
    def scales(self) -> list[tuple[float, int]]:
        """The factor of the image's sides and the cells a side of each grid, in the order of the regions."""
        factors = self.image_scales or [1.0] * len(self.grid_sizes or [1])
        return list(zip(factors, self.grid_sizes or [self.grid_size] * len(factors), strict=True))

    @property
    def hidden_size(self) -> int:
        return self.region_feature_size

    @property
    def num_regions(self) -> int:
        """Regions an image: the cells of every grid, or the boxes of all pyramid levels at every scale of the image."""
        if self.regions == "grid":
            return sum(side**2 for _, side in self.scales)
        return len({scale for scale, _ in self.scales}) * sum(level**2 for level in self.pyramid_levels or [])


@strict
class UpDownDetectorConfig(MaskConfig):
    r"""The bottom-up detector: Faster R-CNN with objects and attributes (the paper, section 3.1).

    Every convention in which the original Caffe code and its ports differ is one field; defaults are the original's.
    Object ids are 1 .. C with 0 = background, attribute ids 1 .. A with 0 = no attribute, whatever a checkpoint's own
    order was (the converters sort that out).

    num_objects, num_attributes (`int`, default to 1600, 400):
        C and A, without background and without "no attribute"; taken from `id2label`, `attribute_id2label` where given.
    id2label, attribute_id2label (`dict`, *optional*):
        Names of the objects, 1 .. C, and attributes, 1 .. A; 0 is "background" and "no attribute", named or not.
    backbone (`str`, defaults to `"caffe_resnet101"`):
        `caffe_resnet50`, `caffe_resnet101` or `caffe_resnet152`: the C4 layout, one map of stride 16, the last stage on
        each region. Any other name is a timm backbone with a feature pyramid and two fully connected layers.
    stem_channels, bottleneck_channels, res2_channels, num_groups (`int`, default to 64, 64, 256, 1):
        Widths of the Caffe-style ResNet.
    stride_in_1x1 (`bool`, defaults to `True`):
        Whether a stage's stride stands in its first 1x1 convolution (Caffe) or in the 3x3 (torchvision).
    region_stage_stride, region_stage_dilation (`int`, default to 1, 2):
        Of the last stage, which runs on each region.
    frozen_stages (`int`, defaults to 3):
        How many first stages of the backbone never train (3: conv1, res2, res3); all its norms are frozen anyway.
    frozen_depthwise (`bool`, defaults to `False`):
        Whether the depthwise filters of a timm backbone never train either: a few hundredths of its weights, whose
        gradient takes most of the time that a CPU spends on training such a backbone.
    pyramid_levels (`list[int]`, defaults to `[2, 3, 4]`):
        timm feature levels that the pyramid joins (strides 8, 16, 32 of most backbones); one coarser level is added.
    pyramid_size, head_size (`int`, default to 128, 768):
        Channels of every pyramid level, and width of both fully connected layers.
    joined_features (`bool`, defaults to `False`):
        With a timm backbone: join the mean of its last map under the box to the layers' vector; both together are the
        region's feature, and what classes, boxes and attributes are read from.
    region_feature_size (`int`, defaults to 2048):
        Width D of one region's feature.
    anchor_sizes (`list[list[int]]`, defaults to `[[64, 128, 256, 512]]`), anchor_ratios (`list[float]`):
        Sides in pixels of the resized image, for each map; height over width (0.5, 1, 2).
    anchor_style (`"caffe"` or `"detectron2"`, defaults to `"caffe"`):
        Caffe's anchors are rounded, sorted by ratio, centred at 7.5 + 16 i; detectron2's are exact, sorted by size,
        centred at 16 i.
    proposal_model (`"rpn"` or `"nanodet"`, defaults to `"rpn"`):
        What proposes boxes: a network learnt with the detector, or NanoDet-Plus (`nanodet_updown.py`), learnt from COCO
        and never trained here. Regions are then pooled from NanoDet's pyramid, and its class scores of the box join
        their features after the mean of the last map (D = `head_size` + that map's channels + `nanodet_classes`): wants
        a timm backbone, `joined_features=True` and `box_plus_one=False`. Of the fields of proposals,
        `rpn_nms_threshold`, `min_proposal_side` and the numbers before and after suppression hold for it as well;
        pyramid, anchors and the training of the proposal network do not.
    nanodet_channels (`list[int]`, defaults to `[24, 116, 232, 464, 96]`), nanodet_classes (`int`, defaults to 80):
        Widths of NanoDet's stem, three stages and pyramid, and its classes: those of NanoDet-Plus-m.
    pixel_mean, pixel_std (`list[float]` or `float`, default to `[0.5, 0.5, 0.5]`):
        Mean and standard deviation of the image processor, which NanoDet turns into its own; a number is of all three.
    box_plus_one (`bool`, defaults to `True`):
        Whether a box from pixel 3 to pixel 5 is 3 pixels wide (Caffe) or 2.
    max_box_growth (`float`, *optional*):
        Largest factor by which regression may enlarge a box's side (detectron2: 62.5); the original has none.
    rpn_hidden_size, rpn_nms_threshold, proposals_before_nms, proposals_after_nms (default to 512, 0.7, 6000, 300):
        The proposal network, and how many of its boxes go on; `train_proposals_before_nms`, `..._after_nms` (12000,
        2000) are those of training.
    min_proposal_side (`int`, defaults to 16), filter_before_nms_cut (`bool`, defaults to `True`):
        Smaller proposals are dropped, before the cut to `proposals_before_nms` (Caffe) or after it (detectron2). Caffe
        multiplies the side by the image's resize factor, which `forward` knows where it is given `image_sizes`.
    region_pool (`"pool"` or `"align"`, defaults to `"pool"`), region_pool_size (`int`, defaults to 14):
        Quantised RoIPool or RoIAlign, and its cells a side.
    box_weights (`list[float]`, defaults to `[10, 10, 5, 5]`), class_agnostic_boxes (`bool`, defaults to `False`):
        Scale of the regression targets; one regressed box a region instead of one a class.
    region_boxes (`"proposal"` or `"regressed"`, defaults to `"proposal"`):
        Which box a region has; its feature is always that of the proposal.
    nms_per_class (`bool`, defaults to `True`), nms_thresholds (`list[float]`, defaults to `[0.3]`):
        Non-maximum suppression of each class by itself, or once over the boxes of each region's best class; thresholds
        are tried in order until `min_regions` are left.
    min_regions, max_regions, score_threshold (default to 10, 100, 0.2):
        Every region whose best class is over the threshold, but at least and at most so many; 36 and 36 is the fixed
        variant. Cells are not counted.
    region_confidence (`"class"` or `"object"`, defaults to `"class"`):
        How sure a region is: the probability of its best class, or that it is any object, the sum of all classes',
        where many names mean the same (man, person, guy). The latter wants `nms_per_class=False` or `duplicate_iou`.
    duplicate_iou (`float`, *optional*), min_region_side (`float`, defaults to 0.0):
        Boxes that are no regions: those that overlap a surer box by more than this IoU, whatever the classes of both;
        those whose width or height is under this share of the image's. Both look at the box that the region would
        have. With either of them a box stands for its best class alone, the surest regions come first, and where too
        few boxes are left there are fewer than `min_regions` (one at least). By default none is left out.
    grid_sizes (`list[int]`, *optional*):
        The image's cells are regions too, before the others: `[1, 7]` gives the whole image, then 7 x 7 cells in
        reading order, then the detected regions, so that R is `num_cells` and `min_regions` to `max_regions`. A cell is
        described as a given box is: its feature, score, class and attribute; its box stays as it is. What
        `joined_features` adds is the exact mean of its part of the last map.
    attribute_background (`bool`, defaults to `True`):
        Whether "no attribute" takes part in the attributes' softmax (Caffe) or is left out of it (the PyTorch port).
    object_embedding_size, attribute_hidden_size (`int`, default to 256, 512):
        The attribute head: an embedding of the object class joins the region's feature, then one hidden layer.
    rpn_batch_size, region_batch_size, rpn_positive_iou, rpn_negative_iou, region_positive_iou (64, 64, 0.7, 0.3, 0.5):
        Training: anchors and regions drawn an image, half of them positive, and what counts as positive or negative.
    rpn_smooth_l1_beta, region_smooth_l1_beta, attribute_loss_weight (default to 1/9, 1, 0.5):
        Training: where smooth L1 turns linear (Caffe's sigma is beta to the power -1/2), and the attributes' weight.
    phrase_embedding_size (`int`, defaults to 0):
        Width of the text encoder's vectors that regions are compared with: a linear map of a region's feature is its
        vector in that space (`phrase_embeds`), trained to be nearest to the phrases said of it. 0 does without.
    phrase_loss_weight, phrase_temperature (default to 1.0, 0.07):
        Training: weight of the contrast of regions and phrases, and the divisor of their cosines.
    mask_head, mask_size, mask_class_agnostic, ... :
        A mask of each region, as `MaskConfig` has it.
    held_out_names (`list[str]`, *optional*):
        Names that training held out, for open sets; absent or empty where it held out none.
    """

    model_type = "updown_detector"
    label_fields = {"num_objects": ("id2label", "background"), "num_attributes": ("attribute_id2label", "no attribute")}
    keys_to_ignore_at_inference = ["region_features", "object_probs", "attribute_probs", "losses"]

    num_objects: int = 1600
    num_attributes: int = 400
    attribute_id2label: Any = None
    backbone: str = "caffe_resnet101"
    stem_channels: int = 64
    bottleneck_channels: int = 64
    res2_channels: int = 256
    num_groups: int = 1
    stride_in_1x1: bool = True
    region_stage_stride: int = 1
    region_stage_dilation: int = 2
    frozen_stages: int = 3
    frozen_depthwise: bool = False
    pyramid_levels: list[int] | None = None
    pyramid_size: int = 128
    head_size: int = 768
    joined_features: bool = False
    region_feature_size: int = 2048
    anchor_sizes: list[list[int]] | None = None
    anchor_ratios: list[float] | None = None
    anchor_style: Literal["caffe", "detectron2"] = "caffe"
    proposal_model: Literal["rpn", "nanodet"] = "rpn"
    nanodet_channels: list[int] | None = None
    nanodet_classes: int = 80
    pixel_mean: list[float | int] | float | int | None = None
    pixel_std: list[float | int] | float | int | None = None
    box_plus_one: bool = True
    max_box_growth: float | int | None = None
    rpn_hidden_size: int = 512
    rpn_nms_threshold: float | int = 0.7
    proposals_before_nms: int = 6000
    proposals_after_nms: int = 300
    train_proposals_before_nms: int = 12000
    train_proposals_after_nms: int = 2000
    min_proposal_side: float | int = 16
    filter_before_nms_cut: bool = True
    region_pool: Literal["pool", "align"] = "pool"
    region_pool_size: int = 14
    box_weights: list[float | int] | None = None
    class_agnostic_boxes: bool = False
    region_boxes: Literal["proposal", "regressed"] = "proposal"
    nms_per_class: bool = True
    nms_thresholds: list[float | int] | None = None
    min_regions: int = 10
    max_regions: int = 100
    score_threshold: float | int = 0.2
    region_confidence: Literal["class", "object"] = "class"
    duplicate_iou: float | int | None = None
    min_region_side: float | int = 0.0
    grid_sizes: list[int] | None = None
    attribute_background: bool = True
    object_embedding_size: int = 256
    attribute_hidden_size: int = 512
    rpn_batch_size: int = 64
    region_batch_size: int = 64
    rpn_positive_iou: float | int = 0.7
    rpn_negative_iou: float | int = 0.3
    region_positive_iou: float | int = 0.5
    rpn_smooth_l1_beta: float | int = 1 / 9
    region_smooth_l1_beta: float | int = 1.0
    attribute_loss_weight: float | int = 0.5
    phrase_embedding_size: int = 0
    phrase_loss_weight: float | int = 1.0
    phrase_temperature: float | int = 0.07
    held_out_names: list[str] | None = None
    initializer_range: float = 0.01

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None:  # type: ignore[has-type]
            self.id2label = {0: "background", **{i: f"object {i}" for i in range(1, self.num_objects + 1)}}
        super().__post_init__(**kwargs)
        if self.attribute_id2label is None:
            names = {i: f"attribute {i}" for i in range(1, self.num_attributes + 1)}
            self.attribute_id2label = {0: "no attribute", **names}
        self.attribute_id2label = {int(i): name for i, name in self.attribute_id2label.items()}
        self.pyramid_levels = [2, 3, 4] if self.pyramid_levels is None else list(self.pyramid_levels)
        self.anchor_sizes = [[64, 128, 256, 512]] if self.anchor_sizes is None else self.anchor_sizes
        if self.proposal_model == "nanodet":  # else their configs stay as they were
            self.nanodet_channels = [24, 116, 232, 464, 96] if self.nanodet_channels is None else self.nanodet_channels
            self.pixel_mean, self.pixel_std = (
                [0.5] * 3 if value is None else value if isinstance(value, list) else [value] * 3
                for value in (self.pixel_mean, self.pixel_std)
            )
        self.anchor_ratios = [0.5, 1.0, 2.0] if self.anchor_ratios is None else self.anchor_ratios
        self.box_weights = [10, 10, 5, 5] if self.box_weights is None else self.box_weights
        self.nms_thresholds = [0.3] if self.nms_thresholds is None else self.nms_thresholds
        self.check()

    def check(self) -> None:
        """Raises `ValueError` for fields that contradict each other or are out of their range."""
        if not 1 <= self.min_regions <= self.max_regions:
            raise ValueError(
                f"min_regions={self.min_regions} and max_regions={self.max_regions} must be 1 or more, in this order"
            )
        if self.proposal_model == "nanodet":
            self.check_nanodet()
        maps = 1 if self.is_caffe_resnet else len(self.pyramid_levels or []) + 1
        if self.proposal_model == "rpn" and len(self.anchor_sizes or []) != maps:
            raise ValueError(
                f"{self.backbone} has {maps} maps, but anchor_sizes={self.anchor_sizes} are not as many lists"
            )
        if len({len(sizes) for sizes in self.anchor_sizes or []}) != 1:
            raise ValueError(f"anchor_sizes={self.anchor_sizes} must give every map as many sizes")
        if not self.nms_thresholds or list(self.nms_thresholds) != sorted(self.nms_thresholds):
            raise ValueError(f"nms_thresholds={self.nms_thresholds} must rise: they are tried until enough is left")
        if len(self.box_weights or []) != 4:
            raise ValueError(f"box_weights={self.box_weights} must be four: x, y, width, height")
        if self.region_confidence == "object" and self.nms_per_class and self.duplicate_iou is None:
            raise ValueError('region_confidence="object" wants nms_per_class=False or a duplicate_iou')
        if self.duplicate_iou is not None and not 0 < self.duplicate_iou <= 1:
            raise ValueError(f"duplicate_iou={self.duplicate_iou} must be an IoU over 0, of 1 at most, or absent")
        if not 0 <= self.min_region_side < 1:
            raise ValueError(
                f"min_region_side={self.min_region_side} must be a share of the image's sides, 0 to below 1"
            )
        self.check_masks()
        check_grid_sizes(self.grid_sizes or [])

    def check_nanodet(self) -> None:
        """Raises `ValueError` for fields with which NanoDet cannot propose boxes."""
        if self.is_caffe_resnet or not self.joined_features or self.box_plus_one:
            raise ValueError(
                'proposal_model="nanodet" wants a timm backbone, joined_features=True and box_plus_one=False, '
                f"not {self.backbone!r}, {self.joined_features} and {self.box_plus_one}"
            )
        widths = self.nanodet_channels or []
        if len(widths) != 5 or any(width < 2 or width % 2 for width in widths) or self.nanodet_classes < 1:
            raise ValueError(
                f"nanodet_channels={widths} must be five even widths, of stem, three stages and pyramid, and "
                f"nanodet_classes={self.nanodet_classes} 1 or more"
            )
        mean, std = cast(list[list[float]], [self.pixel_mean or [], self.pixel_std or []])
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"pixel_mean={mean} and pixel_std={std} must be three numbers each, those of std above 0")

    @property
    def num_cells(self) -> int:
        """How many cells come before an image's detected regions."""
        return sum(side**2 for side in self.grid_sizes or [])

    @property
    def num_cell_anchors(self) -> int:
        """Anchors of a cell of each map."""
        return len((self.anchor_sizes or [[]])[0]) * len(self.anchor_ratios or [])

    @property
    def is_caffe_resnet(self) -> bool:
        """Whether the backbone is the C4 layout of the original."""
        return self.backbone.startswith("caffe_resnet")

    @property
    def hidden_size(self) -> int:
        return self.region_feature_size


# The configs a top-down model may own as its `vision_config`, by model_type, each with the file and class of its model.
REGION_SOURCES: dict[str, tuple[type[PreTrainedConfig], str]] = {
    "updown_grid": (UpDownGridConfig, "modeling_grid.UpDownGrid"),
    "updown_detector": (UpDownDetectorConfig, "modeling_detector.UpDownDetector"),
}


@strict
class UpDownCaptioningConfig(DescribedRegionsConfig):
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
    object_tags, attribute_tags, ..., time_embedding:
        Names of objects and attributes, and times, joined to each region's feature, as `TimedRegionsConfig` has them.
    vision_config (`UpDownGridConfig` or `UpDownDetectorConfig`, *optional*):
        The region source the model owns; with it the model takes `pixel_values`.
    freeze_regions (`bool`, defaults to `True`):
        Whether the region source starts frozen (`model.unfreeze_regions()` trains it).
    unk_token_id (`int`, *optional*, defaults to 3):
        The unknown word, which `generate` never writes.
    dense_context, dense_context_region, dense_fusion, dense_box, ...:
        Of `UpDownForDenseCaptioning` alone, as `DescribedRegionsConfig` has them.
    """

    model_type = "updown_captioning"
    keys_to_ignore_at_inference = [
        "past_key_values",
        "cache",
        "label_log_probs",
        "hidden_states",
        "attentions",
        "region_boxes",
    ]
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


@strict
class UpDownVqaConfig(TimedRegionsConfig, LabelledConfig):
    r"""The question answerer: question GRU, top-down attention, sigmoid answers (the paper, section 3.3).

    vocab_size (`int`, defaults to 10000):
        Words of questions V, specials included.
    num_answers (`int`, defaults to 3129):
        Answers A; taken from `id2label` where given.
    max_question_words (`int`, defaults to 14):
        Longer questions are cut there.
    region_feature_size (`int`, defaults to 2048):
        Width D of the regions that come in.
    word_embedding_size, hidden_size (`int`, default to 300, 512):
        Widths of the word embedding (GloVe's), and of the GRU and every layer after it.
    answer_hidden_size (`int`, *optional*):
        Width before the answers, `hidden_size` where not given (hengyuan-hu: twice as much).
    activation (`"gated_tanh"` or `"relu"`, defaults to `"gated_tanh"`):
        tanh(W x + b) * sigmoid(W' x + b') (the paper), or relu(W x + b) (hengyuan-hu).
    weight_norm (`bool`, defaults to `False`):
        Every layer after the GRU is a direction times one learnt length (Salimans and Kingma 2016; hengyuan-hu).
    attention (`"concat"` or `"multiply"`, defaults to `"concat"`):
        Score f([v, q]) (the paper; hengyuan-hu's `baseline0`) or f(v) * f(q) (hengyuan-hu's `baseline0_newatt`).
    reads_padding (`bool`, defaults to `False`):
        The GRU runs over zero vectors first, until `max_question_words` are full, as left-padded questions make it
        (hengyuan-hu); otherwise it starts with the first word.
    word_dropout, question_dropout, region_dropout, attention_dropout, answer_dropout (`float`, default to 0.0):
        Of the word vectors, the GRU's last state, the region features, the joint layer of the attention (hengyuan-hu:
        0.2) and the layer before the answers (hengyuan-hu: 0.5).
    normalize_regions (`bool`, defaults to `False`):
        Scale every region's feature to length 1 (Teney et al. 2018, section 3.2).
    box_embedding (`bool`, defaults to `False`):
        Join the box geometry (corners, width, height, area) to each region's feature.
    num_glimpses (`int`, defaults to 1):
        Attention heads, each weighing the regions its own way; their vectors are joined (Fukui et al. 2016).
    num_attention_layers (`int`, defaults to 1):
        Stacked attention: what the first layer found is added to the question that the next one asks (Yang et al.
        2016).
    counted_objects (`int`, defaults to 0):
        Counting-aware attention over the overlaps of so many strongest regions (Zhang et al. 2018, who take 10); 0
        leaves it out.
    scores_choices (`bool`, defaults to `False`):
        A second head that scores given answers by their words (multiple choice).
    initializer_range (`float`, *optional*):
        Standard deviation of new weight matrices; by default 1 / sqrt(3 x inputs), as torch's own layers have it.
    object_tags, attribute_tags, ..., time_embedding, vision_config, freeze_regions:
        As for the captioner.
    """

    model_type = "updown_vqa"
    label_fields = {"num_answers": ("id2label", None)}
    keys_to_ignore_at_inference = ["choice_logits", "hidden_states", "attentions", "counts", "region_boxes"]
    sub_configs = {"vision_config": AutoConfig}

    vocab_size: int = 10000
    num_answers: int = 3129
    max_question_words: int = 14
    region_feature_size: int = 2048
    word_embedding_size: int = 300
    hidden_size: int = 512
    answer_hidden_size: int | None = None
    activation: Literal["gated_tanh", "relu"] = "gated_tanh"
    weight_norm: bool = False
    attention: Literal["concat", "multiply"] = "concat"
    reads_padding: bool = False
    word_dropout: float | int = 0.0
    question_dropout: float | int = 0.0
    region_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    answer_dropout: float | int = 0.0
    normalize_regions: bool = False
    box_embedding: bool = False
    num_glimpses: int = 1
    num_attention_layers: int = 1
    counted_objects: int = 0
    scores_choices: bool = False
    initializer_range: float | None = None
    vision_config: Any = None
    freeze_regions: bool = True
    num_hidden_layers: int = 1
    num_attention_heads: int = 1
    tie_word_embeddings: bool = False
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vision_config, dict):  # first, since transformers hands settings down to it
            self.vision_config = region_source_config(self.vision_config)
        if self.id2label is None:  # type: ignore[has-type]
            self.id2label = {i: f"answer {i}" for i in range(self.num_answers)}
        super().__post_init__(**kwargs)
        self.num_attention_heads = self.num_glimpses
        if self.vision_config is not None:
            self.region_feature_size = self.vision_config.region_feature_size
        self._check()

    def _check(self) -> None:
        answers = list(self.id2label.values())
        if not answers:
            raise ValueError("id2label holds no answer: build a vocabulary of answers first (updown build-answers)")
        if len(set(answers)) < len(answers):
            twice = sorted({answer for answer in answers if answers.count(answer) > 1})[:5]
            raise ValueError(f"id2label holds answers twice ({', '.join(map(repr, twice))}): keep each once")
        for name in ("max_question_words", "num_glimpses", "num_attention_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.counted_objects < 0:
            raise ValueError(f"counted_objects={self.counted_objects} must be 0 (no counting) or more")

    @property
    def region_size(self) -> int:
        """Width of a region as the attention sees it: its feature, tags, time and box geometry."""
        return super().region_size + self.time_size + (7 if self.box_embedding else 0)


def region_source_config(fields: dict) -> PreTrainedConfig:
    """The region-source config that `fields["model_type"]` names; the grid's where it names none."""
    fields = dict(fields)
    model_type = fields.pop("model_type", "updown_grid")
    if model_type not in REGION_SOURCES:
        raise ValueError(f"vision_config names model_type {model_type!r}; known are {sorted(REGION_SOURCES)}")
    return REGION_SOURCES[model_type][0](**fields)
