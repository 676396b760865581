"""image -> `Regions` without a detector: the cells of a timm backbone's last map, or a pyramid of boxes over it.

The grid is the paper's ResNet baseline (section 4, "ResNet": the last map averaged to 10 x 10; 1 x 1, 7 x 7 and
14 x 14 are its variations).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .boxes_updown import grid_boxes, pool_boxes, pyramid_boxes
from .compat_updown import is_traced
from .configuration_updown import UpDownGridConfig
from .modeling_base import UpDownPreTrainedModel, load_backbone
from .outputs_updown import check_pixels
from .regions_updown import Regions


class UpDownGrid(UpDownPreTrainedModel):
    """Any timm CNN or ViT as a region source.

    Example:

    >>> config = UpDownGridConfig(backbone="tf_efficientnet_lite0", grid_size=7, region_feature_size=1280)
    >>> regions = UpDownGrid(config)(torch.zeros(1, 3, 224, 224))
    >>> regions.region_features.shape, regions.region_boxes[0, -1].tolist()[2:]
    (torch.Size([1, 49, 1280]), [1.0, 1.0])
    """

    config_class = UpDownGridConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["backbone"]

    def __init__(self, config: UpDownGridConfig):
        super().__init__(config)
        self.backbone: Any = build_backbone(config)  # a timm model: more than nn.Module promises
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):  # a deep stack of convolutions dies out under one small spread
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def load_backbone_weights(self, weights: str | Path | None = None) -> None:
        """Load timm's weights for the backbone: a `.safetensors` file, or the Hub's (`weights=None`, needs a network).

        Raises `ValueError` where the file does not fit the backbone; classifier weights are passed over.
        """
        if weights is None:
            state = timm.create_model(self.config.backbone, pretrained=True, num_classes=0).state_dict()
        else:
            state = load_file(weights)
        load_backbone(self.backbone, state, name=self.config.backbone, place=weights)

    def unfreeze(self) -> None:
        """Train the last `config.trainable_stages` stages of the backbone (0: all of it)."""
        if not self.config.trainable_stages:
            self.requires_grad_(True)
            return
        self.requires_grad_(False)
        for module in last_stages(self.backbone, self.config.trainable_stages):
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> "UpDownGrid":
        """Training mode never reaches the backbone: its normalisation and drop-path stay as in evaluation."""
        super().train(mode)
        self.backbone.eval()
        return self

    @standard_forward
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """pixel_values (B, 3, height, width), normalised as the backbone wants -> `Regions` of R cells or boxes.

        Raises `ValueError` for pixels of another shape, and where `pixel_mask` says that images were padded: cells
        would be of the padding.
        """
        check_pixels(pixel_values)
        if pixel_mask is not None and not is_traced() and not pixel_mask.all():
            raise ValueError(
                'a grid takes images of one size: give its image processor size={"height": ..., "width": ...}, '
                "or one image at a time"
            )
        feature_map = self.feature_map(pixel_values)  # (B, D, h, w)
        batch, width = feature_map.shape[:2]
        if width != self.config.region_feature_size:
            raise ValueError(
                f"{self.config.backbone} gives features of width {width}, but config.region_feature_size is "
                f"{self.config.region_feature_size}: set it to {width}"
            )
        boxes = self.boxes().to(feature_map.device).expand(batch, -1, -1)  # (B, R, 4)
        if self.config.regions == "grid":
            features = resize_map(feature_map, (self.config.grid_size,) * 2).flatten(2).transpose(1, 2)  # (B, R, D)
        else:
            features = pool_boxes(feature_map, boxes)
        mask = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        return Regions(features, boxes, mask)

    def boxes(self) -> torch.Tensor:
        """Where the regions of any image are: (R, 4)."""
        if self.config.regions == "pyramid":
            return pyramid_boxes(self.config.pyramid_levels)
        return grid_boxes(self.config.grid_size, self.config.grid_size)

    def feature_map(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The backbone's last map, with `config.joined_levels` beside it: (B, D, h, w)."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # convolutions run faster
        if not self.config.joined_levels:
            return as_map(self.backbone, self.backbone.forward_features(pixel_values))
        last, levels = self.backbone.forward_intermediates(pixel_values, indices=self.config.joined_levels)
        last = as_map(self.backbone, last)
        return torch.cat([last, *(resize_map(level, last.shape[-2:]) for level in levels)], dim=1)


def build_backbone(config: UpDownGridConfig) -> nn.Module:
    """The timm model without its classifier and pooling, with random weights."""
    options = {"num_classes": 0, "global_pool": ""}
    try:
        return timm.create_model(config.backbone, pretrained=False, img_size=config.image_size, **options)
    except TypeError:  # CNNs take images of any size and know no img_size
        return timm.create_model(config.backbone, pretrained=False, **options)


def as_map(backbone: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """A ViT's tokens (B, 1 + N, D) without its prefix, or a CNN's map, -> (B, D, h, w).

    Raises `ValueError` where the tokens are no square.
    """
    if features.dim() == 4:
        channels_last = features.shape[-1] == backbone.num_features != features.shape[1]  # as Swin gives them
        return features.permute(0, 3, 1, 2) if channels_last else features
    tokens = features[:, getattr(backbone, "num_prefix_tokens", 0) :]
    side = round(tokens.shape[1] ** 0.5)
    if side * side != tokens.shape[1]:
        raise ValueError(f"{tokens.shape[1]} tokens of {type(backbone).__name__} form no square grid")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def resize_map(feature_map: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """(B, D, h, w) -> (B, D, *size): averaged where it shrinks, bilinear where it grows."""
    if tuple(feature_map.shape[-2:]) == tuple(size):
        return feature_map
    if feature_map.shape[-2] >= size[0] and feature_map.shape[-1] >= size[1]:
        return F.adaptive_avg_pool2d(feature_map, (size[0], size[1]))
    return F.interpolate(feature_map, size=list(size), mode="bilinear", align_corners=False)


def last_stages(backbone: Any, count: int) -> list[nn.Module]:
    """The last `count` stages of a timm backbone, and whatever follows them (final convolution and norm)."""
    children = dict(backbone.named_children())
    parts = dict.fromkeys(info["module"].split(".")[0] for info in backbone.feature_info)  # layer1, ... or blocks
    stages = [children[part] for part in parts if part in children]
    if len(stages) == 1:
        stages = list(stages[0].children())
    tail = [children[name] for name in ("conv_head", "bn2", "norm", "norm_pre", "fc_norm") if name in children]
    return [*stages[-count:], *tail]
