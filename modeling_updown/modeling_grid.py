"""image -> `Regions` without a detector: the cells of a timm backbone's last map, or a pyramid of boxes over it.

The grid is the paper's ResNet baseline (section 4, "ResNet": the last map averaged to 10 x 10; 1 x 1, 7 x 7 and
14 x 14 are its variations). Several grids may stand one after the other, of one map or of the image at several sizes.
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
        for scale in config.image_scales or []:
            check_image_scale(self.backbone, scale)
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
        """pixel_values (B, 3, height, width), normalised as the backbone wants -> `Regions` of R cells or boxes, one of
        `config.scales` after the other.

        Raises `ValueError` for pixels of another shape, and where `pixel_mask` says that images were padded: cells
        would be of the padding.
        """
        check_pixels(pixel_values)
        if pixel_mask is not None and not is_traced() and not pixel_mask.all():
            raise ValueError(
                'a grid takes images of one size: give its image processor size={"height": ..., "width": ...}, '
                "or one image at a time"
            )
        scales = self.config.scales
        maps = {scale: self.feature_map(self.resized(pixel_values, scale)) for scale in dict(scales)}
        batch, width = maps[scales[0][0]].shape[:2]  # of each (B, D, h, w)
        if width != self.config.region_feature_size:
            raise ValueError(
                f"{self.config.backbone} gives features of width {width}, but config.region_feature_size is "
                f"{self.config.region_feature_size}: set it to {width}"
            )
        boxes = self.boxes().to(pixel_values.device).expand(batch, -1, -1)  # (B, R, 4)
        if self.config.regions == "grid":
            parts = [resize_map(maps[scale], (side, side)).flatten(2).transpose(1, 2) for scale, side in scales]
        else:
            pyramid = boxes[:, : boxes.shape[1] // len(maps)]
            parts = [pool_boxes(feature_map, pyramid) for feature_map in maps.values()]
        features = torch.cat(parts, dim=1)  # (B, R, D)
        mask = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        return Regions(features, boxes, mask)

    def boxes(self) -> torch.Tensor:
        """Where the regions of any image are: (R, 4)."""
        scales = self.config.scales
        if self.config.regions == "pyramid":
            return pyramid_boxes(self.config.pyramid_levels).repeat(len(dict(scales)), 1)
        return torch.cat([grid_boxes(side, side) for _, side in scales])

    def resized(self, pixel_values: torch.Tensor, scale: float) -> torch.Tensor:
        """pixel_values with both sides times `scale`, as Pillow resizes a picture: bicubic, averaged where it shrinks.

        Raises `ValueError` where the backbone takes images of one size only.
        """
        if scale == 1:
            return pixel_values
        check_image_scale(self.backbone, scale)
        size = [max(1, round(side * scale)) for side in pixel_values.shape[-2:]]
        resized = F.interpolate(pixel_values.float(), size=size, mode="bicubic", antialias=True)
        return resized.to(pixel_values.dtype)

    def feature_map(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The backbone's last map, with `config.joined_levels` beside it: (B, D, h, w)."""
        pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)  # convolutions run faster
        if not self.config.joined_levels:
            return as_map(self.backbone, self.backbone.forward_features(pixel_values))
        last, levels = self.backbone.forward_intermediates(pixel_values, indices=self.config.joined_levels)
        last = as_map(self.backbone, last)
        return torch.cat([last, *(resize_map(level, last.shape[-2:]) for level in levels)], dim=1)


def build_backbone(config: UpDownGridConfig) -> nn.Module:
    """The timm model without its classifier and pooling, with random weights.

    Raises `ValueError` where the images do not divide into its patches.
    """
    options = {"num_classes": 0, "global_pool": ""}
    try:
        backbone = timm.create_model(config.backbone, pretrained=False, img_size=config.image_size, **options)
    except TypeError:  # CNNs take images of any size and know no img_size
        return timm.create_model(config.backbone, pretrained=False, **options)
    patches = getattr(backbone, "patch_embed", None)
    side = max(getattr(patches, "patch_size", (1,)))
    whole = getattr(patches, "strict_img_size", True) or getattr(patches, "dynamic_img_pad", True)
    if not whole and config.image_size % side:
        lower = config.image_size // side * side
        raise ValueError(
            f"{config.backbone} looks at patches of {side} x {side} pixels, which do not fill images of image_size="
            f"{config.image_size}: set it to {lower or side} or {lower + side}"
        )
    return backbone


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


def check_image_scale(backbone: nn.Module, scale: float) -> None:
    """Raises `ValueError` for another size of the image than a ViT or Swin was built for."""
    if scale != 1 and hasattr(backbone, "patch_embed"):
        raise ValueError(
            f"{type(backbone).__name__} takes images of one size, so image_scales can only be 1, not {scale}: leave "
            "them out, or take a convolutional backbone"
        )


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
