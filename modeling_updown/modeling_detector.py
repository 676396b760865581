"""image -> `Regions`: the bottom-up detector of Anderson et al. 2018, Faster R-CNN with objects and attributes.

    pixel_values --backbone--> maps --ProposalNetwork--> boxes --RoI pooling, region stage--> features --RegionHeads-->
    object and attribute probabilities, regressed boxes --selection--> Regions

With `config.proposal_model="nanodet"` a frozen NanoDet-Plus proposes the boxes, from whose maps they are pooled.
With `config.grid_sizes` the cells of the whole image are regions too: they go the same way as proposals, are all kept,
and come first.

Images of a batch are cut free of their padding and go through in groups of one size, so an image's regions are the same
alone and in any batch. Inside, boxes are pixels of the resized image; outside, 0..1. B images, R regions, N boxes of
one group, C objects, A attributes, D feature width.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .boxes_updown import (
    align_rois,
    box_means,
    boxes_from_pixels,
    boxes_to_pixels,
    clip_boxes,
    decode_boxes,
    grid_boxes,
    join_rois,
)
from .configuration_updown import UpDownDetectorConfig, check_grid_sizes
from .detection_training_updown import BatchLosses, Labels
from .detector_batch_updown import (
    box_tensors,
    checked_names,
    collect_images,
    given_boxes,
    images_by_size,
    resize_factors,
)
from .linear_updown import float_type
from .masks_updown import DetectorMasks, MaskHead, init_mask_head
from .modeling_base import UpDownPreTrainedModel, load_backbone
from .nanodet_updown import Cells, NanoDet, box_scores, published_weights, top_cells
from .outputs_updown import UpDownDetectorOutput
from .proposals_updown import ProposalNetwork, top_proposals
from .pyramid_updown import LastMapBackbone, PyramidBackbone, PyramidRegions
from .region_selection_updown import Selection, SelectionRule, best_of_first, join_selections, select_regions
from .resnet_updown import CAFFE_DEPTHS, CAFFE_STRIDE, CaffeResNet, FrozenBatchNorm2d, RegionStage, caffe_name

REGIONS_AT_A_TIME = 300  # an image's proposals; pooled 14 x 14 maps of 1,024 channels, in float32: 241 MB
PYRAMID_REGIONS_AT_A_TIME = 512  # pooled 14 x 14 maps of 128 channels, in float32: 51 MB
SMALLEST_SIDE = 32  # an image of fewer pixels is padded to it, or no cell would be left of the maps


def full_precision(tensor: torch.Tensor) -> contextlib.AbstractContextManager:
    """Without autocast where no gradient is asked for: which boxes there are, and what they are called, must not hang
    on rounding. In the C4 layout that costs little, since nine tenths of the work are the region stage's.
    """
    if torch.is_grad_enabled():
        return contextlib.nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)


class RegionHeads(nn.Module):
    """Region features (N, D) -> object logits (N, C + 1), regressions (N, C or 1, 4), attribute logits (N, A + 1), and
    vectors (N, E) in the space of a text encoder.
    """

    def __init__(self, config: UpDownDetectorConfig, *, width: int):
        super().__init__()
        classes = config.num_objects + 1
        self.object_score = nn.Linear(width, classes)
        self.box_deltas = nn.Linear(width, 4 * (1 if config.class_agnostic_boxes else config.num_objects))
        self.has_attributes = config.num_attributes > 0
        if self.has_attributes:
            self.object_embedding = nn.Embedding(classes, config.object_embedding_size)
            self.attribute_hidden = nn.Linear(width + config.object_embedding_size, config.attribute_hidden_size)
            self.attribute_score = nn.Linear(config.attribute_hidden_size, config.num_attributes + 1)
        self.has_phrases = config.phrase_embedding_size > 0
        if self.has_phrases:
            self.phrase_embedding = nn.Linear(width, config.phrase_embedding_size)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, D) -> object logits (N, C + 1) and regressions (N, C or 1, 4), in float32."""
        with full_precision(features):
            features = features.to(float_type(self.object_score))
            return self.object_score(features).float(), self.box_deltas(features).float().unflatten(1, (-1, 4))

    def attributes(self, features: torch.Tensor, object_ids: torch.Tensor) -> torch.Tensor:
        """Features (N, D) and the class of each, true or predicted, background included (N,) -> logits (N, A + 1)."""
        joined = torch.cat([features, self.object_embedding(object_ids)], dim=1)
        return self.attribute_score(F.relu(self.attribute_hidden(joined))).float()

    def phrases(self, features: torch.Tensor) -> torch.Tensor:
        """Features (N, D) -> vectors (N, E) of length 1."""
        return F.normalize(self.phrase_embedding(features).float(), dim=-1)


@dataclass
class ImageMaps:
    """The maps of n images of one size: those that regions are pooled from, the backbone's last map where that joins
    the features, and what NanoDet found, where it proposes the boxes.
    """

    maps: list[torch.Tensor]
    last: torch.Tensor | None
    size: tuple[int, int]
    cells: Cells | None = None


class UpDownDetector(DetectorMasks, UpDownPreTrainedModel):
    """The bottom-up detector.

    Example:

    >>> config = UpDownDetectorConfig(
    ...     backbone="caffe_resnet50", stem_channels=8, bottleneck_channels=4, res2_channels=16, rpn_hidden_size=16,
    ...     region_feature_size=128, num_objects=20, num_attributes=9, min_regions=36, max_regions=36)
    >>> regions = UpDownDetector(config).eval()(torch.zeros(1, 3, 112, 160))
    >>> regions.region_features.shape, regions.object_probs.shape
    (torch.Size([1, 36, 128]), torch.Size([1, 36, 21]))
    """

    config_class = UpDownDetectorConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _no_split_modules = ["CaffeResNet", "PyramidBackbone", "RegionStage", "LastMapBackbone", "NanoDet"]

    def __init__(self, config: UpDownDetectorConfig):
        super().__init__(config)
        if config.is_caffe_resnet:
            width = self._build_caffe()
        elif config.proposal_model == "nanodet":
            width = self._build_on_nanodet()
        else:
            width = self._build_pyramid()
        self.heads = RegionHeads(config, width=width)
        self.masks: MaskHead | None = self.new_mask_head() if config.mask_head else None
        self.post_init()
        self.freeze_stages()

    def _build_caffe(self) -> int:
        config = self.config
        number = config.backbone.removeprefix("caffe_resnet")
        if number not in CAFFE_DEPTHS:
            raise ValueError(f"there is no backbone {config.backbone!r}; the Caffe-style ones are 50, 101 and 152")
        res2, res3, res4, res5 = CAFFE_DEPTHS[number]
        shared = {"num_groups": config.num_groups, "stride_in_1x1": config.stride_in_1x1}
        self.backbone: Any = CaffeResNet(
            depths=(res2, res3, res4),
            stem_channels=config.stem_channels,
            bottleneck_channels=config.bottleneck_channels,
            out_channels=config.res2_channels,
            **shared,
        )
        channels = 4 * config.res2_channels
        self.proposals: Any = ProposalNetwork(config, channels=channels, strides=[CAFFE_STRIDE])
        self.region_stage: Any = RegionStage(
            depth=res5,
            in_channels=channels,
            bottleneck_channels=8 * config.bottleneck_channels,
            out_channels=2 * channels,
            stride=config.region_stage_stride,
            dilation=config.region_stage_dilation,
            **shared,
        )
        self._check_feature_size(2 * channels)
        return 2 * channels

    def _build_pyramid(self) -> int:
        config = self.config
        self.backbone = PyramidBackbone(
            config.backbone, levels=config.pyramid_levels, channels=config.pyramid_size, joined=config.joined_features
        )
        self.proposals = ProposalNetwork(config, channels=config.pyramid_size, strides=self.backbone.strides)
        self.region_stage = PyramidRegions(
            channels=config.pyramid_size, pool_size=config.region_pool_size, width=config.head_size
        )
        width = config.head_size + config.joined_features * self.backbone.last_channels
        self._check_feature_size(width)
        return width

    def _build_on_nanodet(self) -> int:
        config = self.config
        self.backbone = LastMapBackbone(config.backbone)
        self.proposals = NanoDet(config)
        self.region_stage = PyramidRegions(
            channels=config.nanodet_channels[-1], pool_size=config.region_pool_size, width=config.head_size
        )
        width = config.head_size + self.backbone.last_channels + config.nanodet_classes
        self._check_feature_size(width)
        return width

    def _check_feature_size(self, width: int) -> None:
        if width != self.config.region_feature_size:
            raise ValueError(
                f"{self.config.backbone} gives features of width {width}, but config.region_feature_size is "
                f"{self.config.region_feature_size}: set it to {width}"
            )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):  # a deep stack of convolutions dies out under one small spread
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, ProposalNetwork):
            for part in (module.conv, module.objectness, module.deltas):
                nn.init.normal_(part.weight, std=self.config.initializer_range)
        elif isinstance(module, RegionHeads):
            nn.init.normal_(module.box_deltas.weight, std=self.config.initializer_range / 10)
        elif isinstance(module, MaskHead):
            init_mask_head(module)

    def load_backbone_weights(self, weights: str | Path | None = None) -> None:
        """Load ImageNet weights of timm: a `.safetensors` file, or the Hub's (`weights=None`).

        A Caffe-style backbone takes those of timm's ResNet of that depth, region stage included; their strides stand in
        the 3x3 convolutions. Raises `ValueError` where the file does not fit.
        """
        config = self.config
        name = config.backbone.removeprefix("caffe_")
        state = (
            timm.create_model(name, pretrained=True, num_classes=0).state_dict()
            if weights is None
            else load_file(weights)
        )
        if not config.is_caffe_resnet:
            load_backbone(self.backbone.backbone, state, name=name, place=weights)
        elif config.stride_in_1x1:
            raise ValueError(f"{name}'s weights have their strides in the 3x3 convolutions: set stride_in_1x1 to false")
        else:
            state = {caffe_name(theirs): value for theirs, value in state.items()}
            load_backbone(self, state, name=name, place=weights, parts=("backbone.", "region_stage."))

    def load_proposal_weights(self, weights: str | Path) -> None:
        """Load the published weights of NanoDet-Plus-m, a `.safetensors` with the names of its graph.

        Raises `ValueError` where the file is not that, or where this detector proposes boxes by itself.
        """
        if self.config.proposal_model != "nanodet":
            raise ValueError('only a detector with proposal_model="nanodet" takes weights of NanoDet')
        state = published_weights(load_file(weights), place=weights)
        load_backbone(self.proposals, state, name="NanoDet", place=weights)

    def freeze_stages(self) -> None:
        """Leave `config.frozen_stages` first stages and every norm of the backbone out of training;
        depthwise filters too if `config.frozen_depthwise` says so, and NanoDet.
        """
        if isinstance(self.proposals, NanoDet):
            self.proposals.requires_grad_(False)
        self.backbone.freeze_at(self.config.frozen_stages)
        if self.config.frozen_depthwise:
            for module in self.backbone.modules():
                if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
                    module.requires_grad_(False)

    def freeze_as_made(self) -> None:
        """Frozen are the norms and the backbone's first stages."""
        self.unfreeze()

    def unfreeze(self) -> None:
        """Train all that ever trains: everything but the first stages, the norms, and NanoDet."""
        self.requires_grad_(True)
        for module in self.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.requires_grad_(False)
        self.freeze_stages()

    def train(self, mode: bool = True) -> "UpDownDetector":
        """Training mode never reaches the backbone: its norms stay as in evaluation."""
        super().train(mode)
        self.backbone.eval()
        return self

    # -- the way of a batch -------------------------------------------------------------------------------------------

    @standard_forward
    def forward(
        self,
        pixel_values: torch.Tensor,
        pixel_mask: torch.Tensor | None = None,
        boxes: torch.Tensor | Sequence[Any] | None = None,
        box_mask: torch.Tensor | Sequence[Any] | None = None,
        labels: torch.Tensor | None = None,
        true_boxes: torch.Tensor | None = None,
        true_attributes: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        draw_seeds: torch.Tensor | None = None,
        other_object_ids: torch.Tensor | None = None,
        phrase_boxes: torch.Tensor | None = None,
        phrase_embeds: torch.Tensor | None = None,
        true_masks: torch.Tensor | None = None,
        min_regions: int | None = None,
        max_regions: int | None = None,
        score_threshold: float | None = None,
        grid_sizes: Sequence[int] | None = None,
        name_embeds: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Detect the regions of B images, or describe given boxes; with `labels`, the loss.

        Args:
            pixel_values, pixel_mask: (B, 3, height, width) as the image processor makes them, and (B, height, width)
                bool, True on the image; padding lies to the right and below.
            boxes: (B, R, 4) xyxy in 0..1, lists and arrays too: these alone, no cells, are the regions, unregressed.
            box_mask: (B, R) bool, True = a real box; all where absent.
            labels, true_boxes, true_attributes, other_object_ids, phrase_boxes, phrase_embeds, true_masks, draw_seeds:
                `Labels`.
            image_sizes: (B, 2) height and width before resizing, with which Caffe's smallest proposal grows.
            min_regions, max_regions, score_threshold, grid_sizes: instead of those of the config; [] for no cells.
            name_embeds: (N, E), any names as the text encoder of the phrases embeds them, for `name_logits`.

        Returns `UpDownDetectorOutput`; in training with `labels` its losses. Raises `ValueError` for what is not so.
        """
        rule = self._selection_rule(min_regions, max_regions, score_threshold)
        cells = cells_of_grids(self.config.grid_sizes if grid_sizes is None else grid_sizes)
        boxes, box_mask = box_tensors(boxes, box_mask, like=pixel_values, grid_sizes=grid_sizes)
        said = (labels, true_boxes, true_attributes, other_object_ids, phrase_boxes, phrase_embeds, draw_seeds)
        labelled = Labels(*said, true_masks)
        asked = checked_names(name_embeds, like=pixel_values, config=self.config)
        labelled.check(boxes, num_images=len(pixel_values), config=self.config)
        losses = None if labels is None else BatchLosses(self, labelled)
        parts: list[tuple[int, UpDownDetectorOutput]] = []
        for images, pixels in list(images_by_size(pixel_values, pixel_mask)):
            group = self.feature_maps(pixels)
            factors = resize_factors(image_sizes, images, group.size)
            if losses is not None:
                losses.add(group, images, resize_factors=factors)
                if self.training:
                    continue
            if boxes is None:
                found = self._detect(group, rule=rule, factors=factors, cells=cells)
            else:
                found = self._describe(group, [given_boxes(boxes, box_mask, image=i, size=group.size) for i in images])
            parts += zip(images, found, strict=True)
        return self._completed(collect_images(parts), losses=losses, asked=asked, num_images=len(pixel_values))

    def _completed(
        self,
        output: UpDownDetectorOutput,
        *,
        losses: BatchLosses | None,
        asked: torch.Tensor | None,
        num_images: int,
    ) -> UpDownDetectorOutput:
        """The output of a batch with its losses, and with the logits of the names asked for, (N, E)."""
        if asked is not None and output.phrase_embeds is not None:
            output.name_logits = output.phrase_embeds @ asked.T / self.config.phrase_temperature  # (B, R, N)
        if losses is not None:
            losses.put_into(output, num_images=num_images)
        return output

    def _selection_rule(self, smallest: int | None, most: int | None, threshold: float | None) -> SelectionRule:
        config = self.config
        smallest = config.min_regions if smallest is None else smallest
        most = config.max_regions if most is None else most
        if not 0 < smallest <= most:
            raise ValueError(f"min_regions={smallest} and max_regions={most} must be 1 or more, in this order")
        return SelectionRule(
            smallest,
            most,
            config.score_threshold if threshold is None else threshold,
            config.nms_thresholds,
            plus_one=config.box_plus_one,
            per_class=config.nms_per_class,
            duplicate_iou=config.duplicate_iou,
            smallest_share=config.min_region_side,
            of_any_class=config.region_confidence == "object",
        )

    def feature_maps(self, pixel_values: torch.Tensor) -> ImageMaps:
        """n images of one size without padding (n, 3, height, width) -> their maps."""
        size = (pixel_values.shape[-2], pixel_values.shape[-1])
        cells = self.proposals(pixel_values) if self.config.proposal_model == "nanodet" else None
        # TensorFlow's padding shifts the maps of sides that are no multiple of the stride by up to half a cell
        stride = 1 if self.config.is_caffe_resnet else self.backbone.last_stride
        missing_rows, missing_columns = (max(SMALLEST_SIDE - side, -side % stride) for side in size)
        if missing_rows or missing_columns:
            pixel_values = F.pad(pixel_values, (0, missing_columns, 0, missing_rows))
        if self.config.is_caffe_resnet:
            with full_precision(pixel_values):
                return ImageMaps([self.backbone(pixel_values)], None, size)
        if cells is not None:
            return ImageMaps(cells.maps, self.backbone(pixel_values), size, cells)
        maps, last = self.backbone(pixel_values)
        return ImageMaps(maps, last, size)

    def _proposed(self, group: ImageMaps, *, factors: list[float], at_least: int) -> list[torch.Tensor]:
        """The proposals (K, 4) of each image of the group, in pixels."""
        options: dict[str, Any] = {"config": self.config, "image_size": group.size, "at_least": at_least}
        if group.cells is not None:
            return [top_cells(group.cells, i, resize_factor=factor, **options) for i, factor in enumerate(factors)]
        with full_precision(group.maps[0]) if self.config.is_caffe_resnet else contextlib.nullcontext():
            logits, deltas = self.proposals(group.maps)
        anchors = self.proposals.anchors(group.maps)
        return [
            top_proposals(
                [part[i] for part in logits], [part[i] for part in deltas], anchors, resize_factor=factor, **options
            )[0]
            for i, factor in enumerate(factors)
        ]

    def _detect(
        self, group: ImageMaps, *, rule: SelectionRule, factors: list[float], cells: torch.Tensor
    ) -> Iterator[UpDownDetectorOutput]:
        """The cells (K, 4) in 0..1 and the selected regions of each image of the group, as batches of one."""
        proposed = self._proposed(group, factors=factors, at_least=rule.smallest)
        num_cells, (height, width) = len(cells), group.size
        cells = boxes_to_pixels(cells.to(proposed[0]), width=width, height=height)
        everything = [torch.cat([cells, boxes]) for boxes in proposed]
        for place, (boxes, features) in enumerate(self.features_by_image(group, everything, num_cells=num_cells)):
            object_logits, box_deltas = self.heads(features)
            probs = object_logits.detach().softmax(dim=-1)
            candidates = (
                boxes if self.config.region_boxes == "proposal" else self._regressed(box_deltas, boxes, group.size)
            )
            with torch.no_grad():
                chosen = select_regions(candidates[num_cells:].detach(), probs[num_cells:], rule, image_size=group.size)
                chosen = join_selections(best_of_first(probs, num_cells), chosen)
            output = self._image_output(
                chosen, boxes, features, object_logits, box_deltas, size=group.size, unmoved=num_cells
            )
            if num_cells:
                output.cell_mask = (chosen.indices < num_cells)[None]
            yield self.with_masks(output, group, place)

    def _describe(self, group: ImageMaps, given: list[torch.Tensor]) -> Iterator[UpDownDetectorOutput]:
        """Features, classes and attributes of given boxes, in the order given, as batches of one."""
        for place, (boxes, features) in enumerate(self.features_by_image(group, given)):
            object_logits, box_deltas = self.heads(features)
            everything = best_of_first(object_logits.softmax(dim=-1), len(boxes))
            output = self._image_output(
                everything, boxes, features, object_logits, box_deltas, size=group.size, unmoved=len(boxes)
            )
            yield self.with_masks(output, group, place)

    def _image_output(
        self,
        chosen: Selection,
        boxes: torch.Tensor,
        features: torch.Tensor,
        object_logits: torch.Tensor,
        box_deltas: torch.Tensor,
        *,
        size: tuple[int, int],
        unmoved: int,
    ) -> UpDownDetectorOutput:
        """The chosen regions of one image, boxes in 0..1, as a batch of one; the first `unmoved` keep their boxes."""
        config, rows = self.config, chosen.indices
        object_logits, boxes = object_logits[rows], boxes[rows]
        regressed = self._regressed(box_deltas[rows], boxes, size)  # (R, C + 1, 4)
        pred_boxes = regressed[torch.arange(len(rows), device=rows.device), chosen.object_ids]
        relative, relative_pred = (boxes_from_pixels(b, width=size[1], height=size[0]) for b in (boxes, pred_boxes))
        moved = relative if config.region_boxes == "proposal" else relative_pred
        output = UpDownDetectorOutput(
            region_features=features[rows][None],
            region_boxes=torch.cat([relative[:unmoved], moved[unmoved:]])[None],
            region_mask=torch.ones(1, len(rows), dtype=torch.bool, device=rows.device),
            region_scores=chosen.scores[None],
            object_probs=object_logits.softmax(dim=-1)[None],
            object_ids=chosen.object_ids[None],
            logits=object_logits[None],
            pred_boxes=relative_pred[None],
        )
        if self.heads.has_phrases:
            output.phrase_embeds = self.heads.phrases(features[rows])[None]
        if self.heads.has_attributes:
            logits = self.heads.attributes(features[rows], object_logits.argmax(dim=-1))
            if not config.attribute_background:
                logits = logits.index_fill(1, torch.zeros(1, dtype=torch.long, device=logits.device), float("-inf"))
            output.attribute_probs = logits.softmax(dim=-1)[None]
            scores, best = output.attribute_probs[..., 1:].max(dim=-1)
            output.attribute_ids, output.attribute_scores = best + 1, scores
        return output

    def _regressed(self, box_deltas: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Regressions (N, C or 1, 4) of pixel boxes (N, 4) -> each class's (N, C + 1, 4); background's is the box."""
        config = self.config
        decoded = decode_boxes(
            box_deltas,
            boxes[:, None],
            weights=config.box_weights,  # type: ignore[arg-type]
            plus_one=config.box_plus_one,
            max_growth=config.max_box_growth,
        )
        decoded = clip_boxes(decoded, width=size[1], height=size[0], plus_one=config.box_plus_one)
        return torch.cat([boxes[:, None], decoded.expand(-1, config.num_objects, -1)], dim=1)

    def features_by_image(
        self, group: ImageMaps, boxes: list[torch.Tensor], *, num_cells: int = 0
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Boxes (N, 4) and region features (N, D), image by image."""
        features = self.region_features(group, boxes, num_cells=num_cells)
        yield from zip(boxes, features.split([len(part) for part in boxes]), strict=True)

    def region_features(self, group: ImageMaps, boxes: list[torch.Tensor], *, num_cells: int = 0) -> torch.Tensor:
        """Pixel boxes of each image of the group -> region features (N, D), in chunks that bound the memory.

        The first `num_cells` boxes of each image are cells, to which the exact mean of the last map is joined; other
        boxes have the mean over 6 x 6 points.
        """
        rois = join_rois(boxes)
        chunks = rois.split(REGIONS_AT_A_TIME if self.config.is_caffe_resnet else PYRAMID_REGIONS_AT_A_TIME)
        features = torch.cat([self._region_vectors(group, chunk) for chunk in chunks])
        if group.last is None:
            return features
        is_cell = torch.cat([torch.arange(len(part), device=rois.device) < num_cells for part in boxes])
        mean = box_means(group.last, rois, stride=self.backbone.last_stride, exact=is_cell if num_cells else None)
        joined = [features, mean.to(features.dtype)]
        if group.cells is not None:
            joined.append(box_scores(group.cells, boxes).to(features.dtype))
        return torch.cat(joined, dim=1)

    def _region_vectors(self, group: ImageMaps, rois: torch.Tensor) -> torch.Tensor:
        config, rois = self.config, self.on_maps(group, rois)
        if not config.is_caffe_resnet:
            return self.region_stage(group.maps, rois, self.proposals.strides)
        options = {"output_size": config.region_pool_size, "spatial_scale": 1 / CAFFE_STRIDE}
        if config.region_pool == "pool":
            return self.region_stage(group.maps[0], rois.float(), **options)
        return self.region_stage(align_rois(group.maps[0], rois, **options))


def cells_of_grids(grid_sizes: Sequence[int] | None) -> torch.Tensor:
    """The cells of grids of so many cells a side, grid by grid, each in reading order: (K, 4) in 0..1.

    Raises `ValueError` for what is no list of sides of 1 or more.

    >>> cells_of_grids([1, 2]).tolist()[:2]
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]
    """
    sides = list(grid_sizes or [])
    check_grid_sizes(sides)
    return torch.cat([torch.zeros(0, 4), *(grid_boxes(side, side) for side in sides)])
