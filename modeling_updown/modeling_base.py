"""What every UpDown model shares: weight initialisation, and "pixels or regions in, `Regions` out".

A top-down model either owns a region source (`config.vision_config`), and then takes `pixel_values`, or is handed
`region_features, region_boxes, region_mask` that a source or a store made earlier. Both ways give equal results.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .arguments_updown import REGION_FIELDS
from .compat_updown import is_traced, loading_pipeline
from .configuration_updown import UpDownGridConfig
from .outputs_updown import not_finite
from .region_sources_updown import region_source_class
from .regions_updown import FINITE, OPTIONAL, Regions, check_fields, optional_fields
from .saving_updown import without_origin, write_code_again
from .tags_updown import RegionTags, TagEmbedding
from .time_updown import region_times
from .versions_updown import warn_of_newer_libraries

# What a new norm holds, a batch norm its statistics too.
NEW_NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0}

# Tasks whose pipelines are ours and refuse a model with a `loading_fault` themselves: transformers would wrap an error
# out of `from_pretrained` in two tracebacks.
CHECKING_PIPELINES = (
    "image-to-text",
    "visual-question-answering",
    "phrase-grounding",
    "dense-captioning",
    "visual-entailment",
    "visual-reasoning",
    "visual-multiple-choice",
    "moment-retrieval",
    "text-reading",
)

# Heads with the same weights, whose outputs mean different things: answers, and whether a statement holds; what a
# language model writes after regions alone, and after a question as well.
SAME_WEIGHTS = (
    {"UpDownFusionForVisualQuestionAnswering", "UpDownFusionForVisualEntailment"},
    {"UpDownPrefixLMForImageCaptioning", "UpDownPrefixLMForVisualQuestionAnswering"},
)


class UpDownPreTrainedModel(PreTrainedModel):
    """Weight initialisation and the flags that transformers asks for."""

    config_class = UpDownGridConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    input_modalities: tuple[str, ...] = ("image", "text")
    loading_fault = ""
    supports_gradient_checkpointing = False
    _supports_sdpa = False
    _supports_flash_attn = False
    accepts_loss_kwargs = False  # losses are means over a batch: transformers' Trainer averages accumulated batches
    _keys_to_ignore_on_load_missing = [r"num_batches_tracked$"]  # no output depends on it, and some savers drop it

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As transformers does it, and what `__init__` froze is frozen: transformers makes loaded weights trainable.

        Weights that the folder lacks are drawn at random, with transformers' warning: a head may be new on purpose. A
        pipeline has no such purpose: raises `ValueError` for a model that one asks for and that is not whole. Raises
        `ValueError` for a damaged file of weights, in a pipeline `SafetensorError`, which transformers does not wrap.
        """
        task = loading_pipeline()
        more = {"ignore_mismatched_sizes": True} if task else {}  # to be named here as well, in one sentence
        try:
            model, info = super().from_pretrained(*args, output_loading_info=True, **(kwargs | more))
        except SafetensorError as error:
            place = args[0] if args else kwargs.get("pretrained_model_name_or_path")
            message = f"the weights in {place} are damaged ({error}): copy or save the model again"
            raise (SafetensorError if task else ValueError)(message) from error
        for module in reversed(list(model.modules())):  # the whole after its parts, as in `__init__`
            if isinstance(module, UpDownPreTrainedModel):
                module.freeze_as_made()
        if task in CHECKING_PIPELINES:
            model.loading_fault = loading_fault(model, info)
        elif task:
            model.check_whole(info)
        return (model, info) if output_loading_info else model

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any):
        warn_of_newer_libraries()
        super().__init__(config, *args, **kwargs)

    def save_pretrained(self, save_directory: Any, is_main_process: bool = True, **kwargs: Any) -> None:
        """As transformers does it; beside a model that was published its code is written again."""
        if getattr(self.config, "auto_map", None):
            self.config.auto_map = without_origin(self.config.auto_map)
            self.config.custom_pipelines = without_origin(vars(self.config).get("custom_pipelines") or {})
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process:
            write_code_again(save_directory, self.config, origin=self.name_or_path)

    def check_whole(self, info: Mapping[str, Any]) -> None:
        """Raises `ValueError` naming weights that were not loaded; info: `from_pretrained`'s `output_loading_info`."""
        fault = loading_fault(self, info)
        if fault:
            raise ValueError(fault)

    def freeze_as_made(self) -> None:
        """Leave out of training what `__init__` leaves out of it."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, TagEmbedding):
            module.reset_parameters()
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if isinstance(getattr(module, "bias", None), torch.Tensor):
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            for name, value in NEW_NORM.items():
                if getattr(module, name, None) is not None:
                    nn.init.constant_(getattr(module, name), value)  # leaves alone what a checkpoint has filled
        refill = getattr(module, "init_non_persistent_buffers", None)
        if callable(refill):
            refill()  # timm's tables, such as Swin's, that no checkpoint holds


def loading_fault(model: PreTrainedModel, info: Mapping[str, Any]) -> str:
    """What a folder lacks of a model, in one sentence, or which other one it holds; "" where it was loaded whole."""
    place, kind = model.name_or_path or "the checkpoint", type(model).__name__
    cure = "copy or save the model again, or correct `architectures` in its config.json"
    missing, strange = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    number = len(missing or strange)
    weights = f"{number} weight{'s' if number > 1 else ''}"
    if missing:
        return f"{place} lacks {weights} of {kind}, such as {missing[0]}, which would be drawn at random: {cure}"
    if strange:
        name, theirs, ours = strange[0]
        shapes = f"{tuple(theirs)} rather than {tuple(ours)}"
        return f"{place} holds {weights} in other shapes than {kind} has them, such as {name} in {shapes}: {cure}"
    saved = (model.config.architectures or [kind])[0]
    if saved != kind and any({saved, kind} <= heads for heads in SAME_WEIGHTS):
        return f"{place} holds an {saved}, whose outputs are not those of {kind}: load it for its own task"
    return ""


def load_backbone(
    module: nn.Module, state: Mapping[str, torch.Tensor], *, name: str, place: Any, parts: tuple[str, ...] = ("",)
) -> None:
    """Fill a module, or those `parts` of it, with a backbone's weights; what else `state` holds is passed over.

    name, place: of the backbone and of its weights, for errors. Raises `ValueError` for weights that are missing or
    have another shape.
    """
    ours = {key: tensor for key, tensor in module.state_dict().items() if key.startswith(parts)}
    missing = [key for key in ours if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"{place} lacks {len(missing)} weights of {name}, such as {missing[:3]}")
    strange = [key for key, tensor in ours.items() if key in state and state[key].shape != tensor.shape]
    if strange:
        theirs, expected = tuple(state[strange[0]].shape), tuple(ours[strange[0]].shape)
        raise ValueError(f"{place} holds {strange[0]} of {name} in {theirs}, not {expected}: name its own weights")
    module.load_state_dict({key: tensor for key, tensor in state.items() if key in ours}, strict=False)


class UpDownTopDownModel(UpDownPreTrainedModel):
    """A model on regions: owns a region source where its config has one, and checks regions at the door.

    region_tags: joins the names of objects and attributes to the features; None where its config has no tags.
    """

    region_tags: RegionTags | None

    def build_region_tags(self) -> None:
        """Make `self.region_tags` where the config has tags."""
        self.region_tags = RegionTags(self.config) if self.config.tag_kinds else None

    def with_tags(self, features: torch.Tensor, regions: Regions) -> torch.Tensor:
        """features (P, R, D) of the regions, joined by their tags where the config has some, (P, R, D + tags)."""
        if self.region_tags is None:
            return features
        return self.region_tags(features, regions.region_mask, regions.object_probs, regions.attribute_probs)

    def times_of(self, regions: Regions) -> torch.Tensor | None:
        """What the model reads of the regions' seconds (P, R, 32 or 64); None where the config embeds no times."""
        kind = self.config.time_embedding
        return region_times(regions.region_seconds, regions.region_mask, kind=kind) if kind else None

    def with_times(self, features: torch.Tensor, regions: Regions) -> torch.Tensor:
        """features (P, R, D) of the regions, joined by their times where the config has some, (P, R, D + times)."""
        times = self.times_of(regions)
        return features if times is None else torch.cat([features, times.to(features.dtype)], dim=-1)

    def rows_in_time(self, regions: Regions, image_index: torch.Tensor | None) -> tuple[Regions, Any]:
        """Regions and image_index as they are; where times are relative to a row's first and last, and image_index
        (N, K) names the frames of each row, the rows' joined regions, and no index."""
        if self.config.time_embedding not in ("relative", "both") or image_index is None or image_index.dim() != 2:
            return regions, image_index
        return regions.of_rows(image_index), None

    def build_region_source(self) -> None:
        """Make `self.region_source` from `config.vision_config`, frozen if `config.freeze_regions`."""
        vision_config = self.config.vision_config
        self.region_source = None if vision_config is None else region_source_class(vision_config)(vision_config)
        UpDownTopDownModel.freeze_as_made(self)

    def freeze_as_made(self) -> None:
        """Freeze the region source where the config says so."""
        if self.config.freeze_regions:
            self.freeze_regions()

    def freeze_regions(self) -> None:
        """Leave the region source out of training (the paper's way)."""
        source = getattr(self, "region_source", None)  # heads of the fusion model ask before it is there
        if source is not None:
            source.requires_grad_(False)

    def unfreeze_regions(self) -> None:
        """Train the region source end to end with the model; normalisation statistics stay as they are."""
        if self.region_source is None:
            raise ValueError("This model owns no region source: set config.vision_config to train one with it")
        self.region_source.unfreeze()
        self.config.freeze_regions = False

    def get_regions(
        self,
        pixel_values: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        **fields: Any,
    ) -> Regions:
        """`Regions` of B images, from pixels (B, 3, height, width) or as given; missing masks are all True.

        pixel_mask (B, height, width) bool is True on the image where images of different sizes were padded. fields:
        the others of `Regions`, which go with them, before what the region source says of its own; what only a detector
        returns is left out. Raises `ValueError` where neither or both are given, for a field of another shape, where an
        image has no region at all, or where a real region is not finite; `TypeError` for other names.
        """
        unknown = sorted(fields.keys() - REGION_FIELDS)
        if unknown:
            raise TypeError(f"get_regions takes no argument {unknown[0]!r}: Regions have {', '.join(OPTIONAL)}")
        fields = optional_fields(fields)
        if pixel_values is not None and region_features is None:
            if self.region_source is None:
                raise ValueError(
                    "This model owns no region source, so it cannot take pixel_values: "
                    "extract region_features first, or load a model whose config has a vision_config"
                )
            made = self.region_source(pixel_values, pixel_mask=pixel_mask, return_dict=True)
            if broken_regions(made) is not None:
                if not pixel_values.isfinite().all():
                    raise ValueError("pixel_values hold NaN or infinity: make them with the model's image processor")
                raise not_finite(self, "region features")
            if not fields:
                return made
            given = replace(made, **fields)
        elif region_features is None or pixel_values is not None:
            raise ValueError("Give either pixel_values or region_features (with region_boxes and region_mask)")
        else:
            mask = self._checked_mask(region_features, region_mask)
            given = Regions(region_features, region_boxes, mask, **fields)
        check_fields(given)
        broken = broken_regions(given)
        if broken is not None:
            image, region = broken.nonzero()[0].tolist()
            of_image = {name: given[name][image, region] for name in FINITE if name in given}
            names = [name for name, numbers in of_image.items() if not numbers.isfinite().all()]
            raise ValueError(
                f"region {region} of image {image} of the batch (and {int(broken.sum()) - 1} more) holds NaN or "
                f"infinity in {' and '.join(names)}: extract these regions anew"
            )
        return given

    def _checked_mask(self, region_features: torch.Tensor, region_mask: torch.Tensor | None) -> torch.Tensor:
        expected = self.config.region_feature_size
        if region_features.dim() == 3 and not region_features.shape[1]:
            raise ValueError("region_features hold no region at all: every image needs one or more")
        if region_features.dim() != 3 or region_features.shape[-1] != expected:
            raise ValueError(
                f"region_features have shape {tuple(region_features.shape)} but the model expects (images, regions, "
                f"{expected}); were they extracted with another detector?"
            )
        if region_mask is None:
            return region_features.new_ones(region_features.shape[:2], dtype=torch.bool)
        region_mask = region_mask.to(torch.bool)
        if region_mask.shape != region_features.shape[:2]:
            raise ValueError(
                f"region_mask has shape {tuple(region_mask.shape)} but region_features have "
                f"{tuple(region_features.shape[:2])} images and regions"
            )
        if not is_traced() and not region_mask.any(dim=-1).all():
            empty = (~region_mask.any(dim=-1)).nonzero().flatten().tolist()
            raise ValueError(f"images {empty} of the batch have no region at all: region_mask is False everywhere")
        return region_mask


def broken_regions(regions: Regions) -> torch.Tensor | None:
    """Which real regions hold NaN or infinity, (B, R) bool, or None where none does; padding may hold anything.

    A sum is not finite where one of its numbers is not, at a fraction of the work. None while a compiler or exporter
    traces, which cannot follow where numbers decide.
    """
    if is_traced() or regions.region_features.is_meta:
        return None
    total = sum_of_regions(regions.region_features)  # (B, R)
    for numbers in (regions.region_boxes, regions.region_seconds):
        total = total if numbers is None else total + sum_of_regions(numbers)
    broken = regions.region_mask & ~total.isfinite()
    return broken if broken.any() else None


def sum_of_regions(numbers: torch.Tensor) -> torch.Tensor:
    """(B, R) or (B, R, n) -> (B, R), in float32 at least."""
    numbers = numbers.detach() if numbers.dim() > 2 else numbers.detach()[..., None]
    return numbers.sum(dim=-1, dtype=torch.promote_types(numbers.dtype, torch.float32))
