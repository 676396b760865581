"""What tasks share: the options of their data, configs, backbone weights, and heads that start sensibly."""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

import modeling_updown
from modeling_updown import (
    UpDownDetectorConfig,
    UpDownGrid,
    UpDownGridConfig,
    UpDownImageProcessor,
)
from modeling_updown.configuration_tags_updown import TAG_KINDS, TaggedRegionsConfig, class_names
from modeling_updown.configuration_updown import region_source_config
from modeling_updown.heads_updown import REGION_SOURCES, heads_of
from modeling_updown.modeling_base import load_backbone as load_weights
from training.console import did_you_mean
from training.data.splits import NoSuchSplitError
from training.recipe_sections import Recipe, RegionsRecipe
from training.regions.store import RegionStore
from training.saved_models import load_whole
from training.text.word_pieces import pretrained_tokenizer

# no weight depends on these
CHANGEABLE = (
    *("trainable_stages", "region_dropout", "word_dropout", "output_dropout", "frozen_stages", "min_regions"),
    *("phrase_loss_weight", "phrase_temperature", "frozen_depthwise"),
    *("max_regions", "score_threshold", "nms_per_class", "nms_thresholds", "duplicate_iou", "min_region_side"),
    *("region_confidence", "dense_rank", "dense_nms_iou", "dense_box_weight"),
    "attribute_loss_weight",
    *("mask_loss_weight", "region_batch_size"),
    *("question_dropout", "attention_dropout", "answer_dropout", "region_feature_dropout", "tag_top_k"),
)

SPLIT_FILES = ("annotations", "questions", "folder", "table", "pairs", "region_descriptions")  # name rows, not images
TAGS = {f"{kind.name.removesuffix('_tags')}s": kind for kind in TAG_KINDS}  # `objects`, `attributes`
# into what regions a grid's map is cut, and which cells stand beside a detector's boxes
CUTS = ("regions", "grid_size", "grid_sizes", "image_scales", "pyramid_levels")

SOURCES: dict[str, Any] = {
    kind.model_type: getattr(modeling_updown, heads_of(kind.model_type)[0].model) for kind in REGION_SOURCES
}


def by_split(data: Mapping[str, Any], *, split: str, names: Sequence[str]) -> dict[str, Any]:
    """A recipe's `data` section for one split: the options `names` may be mappings by split.

    >>> by_split({"format": "coco", "annotations": {"train": "a.json", "val": "b.json"}}, split="val",
    ...          names=["annotations"])
    {'format': 'coco', 'annotations': 'b.json', 'split': 'val'}
    """
    options = {**data, "split": split}
    for name in names:
        if isinstance(options.get(name), dict):
            if split not in options[name]:
                raise ValueError(f"data.{name} names no split {split!r}; it has {', '.join(map(str, options[name]))}")
            options[name] = options[name][split]
    return options


DATA_CURE = (
    "nothing is downloaded by itself, so put the file there (training/README.md, 'Where the data come from', has the "
    "addresses) or name yours in the data section of the recipe"
)


def load_by_split(load: Callable[..., Any], data: Mapping[str, Any], *, split: str, names: Sequence[str]) -> Any:
    """What `load` reads for one split of a recipe's `data` section, where `by_split` finds its options.

    The key of a mapping of files names the split of its file, `{train: a.json, val: b.json, test: b.json}`, but where
    the rows of the file name several splits of their own. Raises `ValueError` with the cure where a file is not there.
    """
    options = by_split(data, split=split, names=names)
    try:
        return load(**options)
    except ValueError as error:
        if is_missing_file(error):
            raise ValueError(f"{error}; {DATA_CURE}") from error
        if not isinstance(error, NoSuchSplitError):
            raise
        by_key = any(isinstance(data.get(name), Mapping) for name in names if name in SPLIT_FILES)
        if not by_key or "file_split" in options or len(error.present) != 1:
            raise
    return load(**options, file_split=split.partition("+")[0])


def is_missing_file(error: BaseException | None) -> bool:
    """Whether an error was raised from that of a file that is not there."""
    while error is not None and not isinstance(error, FileNotFoundError):
        error = error.__cause__
    return error is not None


def build_region_source(regions: RegionsRecipe) -> tuple[PreTrainedConfig | None, dict[str, torch.Tensor]]:
    """The region source's config and weights, as the recipe's `regions` section says; none where there is only a store.

    Raises `ValueError` for fields the config does not know, an unknown backbone, weights that cannot be had.
    """
    if regions.store and not regions.source and not regions.pretrained:
        return None, {}
    if regions.pretrained:
        source = load_region_source(regions.pretrained)
        override_config(source.config, regions.source, section="regions.source", changeable=(*CHANGEABLE, *CUTS))
        return source.config, source.state_dict()
    if not regions.source:
        raise ValueError("regions.source is empty: give the fields of a region source's config, such as backbone")
    config = build_config(lambda **fields: region_source_config(fields), regions.source, section="regions.source")
    check_backbone(config)
    source = load_backbone(SOURCES[config.model_type](config), regions)
    return config, source.state_dict()


def source_fields(config: PreTrainedConfig | None, regions: RegionsRecipe) -> dict[str, Any]:
    """What a top-down model's config says of its regions: its own source, or how wide those of the store are; and tags.

    Raises `ValueError` where the store is not there, and for tags that its regions do not have.
    """
    if config is not None:
        return {"vision_config": config, **tag_fields(config, regions)}
    store = RegionStore(regions.store)
    return {"region_feature_size": store.feature_width, **tag_fields(store, regions)}


def tag_fields(source: PreTrainedConfig | RegionStore, regions: RegionsRecipe) -> dict[str, Any]:
    """Number and names of the classes of `regions.tags`, as the region source or the store has them.

    Raises `ValueError` for tags that are not known, or that the source or the store does not have.
    """
    unknown = [name for name in regions.tags if name not in TAGS]
    if unknown:
        raise ValueError(f"regions.tags names {unknown[0]!r}; it takes {', '.join(TAGS)}")
    if regions.tag_vectors and not regions.tags:
        raise ValueError("regions.tag_vectors are those of tags: set regions.tags as well, to [objects, attributes]")
    fields: dict[str, Any] = {}
    for name in regions.tags:
        kind = TAGS[name]
        if isinstance(source, RegionStore):
            number, names = source.num_classes(kind.probs), source.class_names.get(kind.probs)
            lack = f"the regions of {source.folder} have no {kind.probs}: extract them with soft labels"
        else:
            names = class_names(source, kind)
            number = len(names)
            lack = f"a {source.model_type!r} tells no {name}: take a detector that does as regions.pretrained"
        if not number:
            raise ValueError(f"regions.tags: {lack}, or leave {name} out")
        fields |= {kind.name: number, kind.names: names}
    return fields


def load_region_source(folder: str, *, key: str = "regions.pretrained") -> Any:
    """The detector or grid in a saved folder or Hub repository, or that of the top-down model there.

    Raises `ValueError` that names the recipe's `key` where there is none.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        if config.model_type in SOURCES:
            return load_whole(SOURCES[config.model_type], folder, dtype=torch.float32)
        kind = saved_class(config)
        if kind is None or config.vision_config is None:
            raise ValueError(
                f"{key}: {folder} holds {config.model_type!r} without a region source; "
                f"name a folder of {' or '.join(SOURCES)}, or of a model that owns one"
            )
        return load_with_new_heads(kind, folder).region_source
    except OSError as error:
        raise ValueError(f"{key}: {' '.join(str(error).split())}") from error


def load_with_new_heads(kind: Any, folder: str, **fields: Any) -> Any:
    """A saved model in float32 as a class of other heads than it was saved with, or with other fields of its config.

    Weights that the saved model did not have start at random, as those of another task's head do that have the names of
    ours and other shapes. Raises `ValueError` where the folder lacks one of its own or has it in another shape, and
    `RuntimeError` where the shape is due to `fields`.
    """
    other = saved_class(AutoConfig.from_pretrained(folder)) is not kind
    options = {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": other or not fields}
    model, info = kind.from_pretrained(folder, **options, **fields)
    lost = info["missing_keys"] & saved_names(folder) if info["missing_keys"] else set()
    encoder = f"{kind.base_model_prefix}."
    misfits = {misfit for misfit in info["mismatched_keys"] if not other or misfit[0].startswith(encoder)}
    model.check_whole({**info, "missing_keys": lost, "mismatched_keys": misfits})
    return model


def saved_class(config: PreTrainedConfig) -> Any:
    """The class of ours that a saved config names, or the first of its type where it names none; None for others'."""
    known = [head.model for head in heads_of(config.model_type)]
    named = [name for name in config.architectures or known if name in known]
    return getattr(modeling_updown, named[0]) if named else None


def saved_names(folder: str) -> set[str]:
    """Names of the weights of the model that a folder says it holds, also as a class that keeps it as a part has them.

    Raises `ValueError` where the folder names none of our classes.
    """
    config = AutoConfig.from_pretrained(folder)
    kind = saved_class(config)
    if kind is None:
        raise ValueError(
            f"{folder}/config.json names {config.architectures} as the class of the model, which is not ours"
        )
    with torch.device("meta"):  # names without weights
        names = set(kind(config).state_dict())
    return names | {f"{kind.base_model_prefix}.{name}" for name in names}


def owns_region_source(folder: str) -> bool:
    """Whether the model in a saved folder or Hub repository makes its regions itself; False where none can be read."""
    try:
        return getattr(AutoConfig.from_pretrained(folder), "vision_config", None) is not None
    except (OSError, ValueError):
        return False  # what is wrong with it is told where it is loaded


def load_backbone(source: Any, regions: RegionsRecipe) -> Any:
    """A grid or detector with the weights of its backbone and of NanoDet, as the recipe's `regions` section says.

    Raises `ValueError` for weights that cannot be had or do not fit.
    """
    config = source.config
    check_proposal_weights(config, regions)
    if regions.random_backbone:
        return source
    if regions.proposal_weights:
        source.load_proposal_weights(regions.proposal_weights)
    if regions.weights and Path(regions.weights).is_dir():
        return load_saved_backbone(source, regions.weights)
    if regions.weights and not Path(regions.weights).is_file():
        raise ValueError(f"regions.weights: there is no file or folder {regions.weights}")
    try:
        source.load_backbone_weights(regions.weights or None)
    except OSError as error:
        raise ValueError(
            f"the weights of {config.backbone} cannot be had from the Hub ({' '.join(str(error).split())}): "
            "name a .safetensors file of them with regions.weights"
        ) from error
    return source


def check_proposal_weights(config: PreTrainedConfig, regions: RegionsRecipe) -> None:
    """`ValueError` where NanoDet's weights are missing, no file, or given to a region source without it."""
    file, wanted = regions.proposal_weights, getattr(config, "proposal_model", "") == "nanodet"
    if file and not wanted:
        raise ValueError(
            "regions.proposal_weights is given, but the region source proposes boxes by itself or has none: leave it "
            "empty, or make it a detector with proposal_model: nanodet"
        )
    if wanted and not regions.random_backbone and not Path(file).is_file():
        lack = f"there is no file {file}" if file else "proposal_model is nanodet, which is not trained here"
        raise ValueError(
            f"regions.proposal_weights: {lack}; name the .safetensors of NanoDet-Plus-m (training/README.md tells how "
            "it is made)"
        )


def load_saved_backbone(source: Any, folder: str) -> Any:
    """A grid or detector with the backbone of the detector, grid or model in a saved folder; all else is its own.

    Raises `ValueError` where there is none, or one of another kind.
    """
    saved = load_region_source(folder, key="regions.weights")
    wanted, found = source.config.backbone, saved.config.backbone
    if found.partition(".")[0] != wanted.partition(".")[0]:
        raise ValueError(f"regions.weights: {folder} has the backbone {found}, and regions.source asks for {wanted}")
    load_weights(timm_part(source), timm_part(saved).state_dict(), name=wanted, place=folder)
    return source


def timm_part(source: Any) -> Any:
    """The timm model in a grid or detector; `ValueError` for a Caffe-style backbone, which is none of timm's."""
    config = source.config
    if config.model_type == "updown_grid":
        return source.backbone
    if config.is_caffe_resnet:
        raise ValueError(
            f"regions.weights: {config.backbone} is no backbone of timm's: name a .safetensors, or take the whole "
            "detector with regions.pretrained"
        )
    return source.backbone.backbone


def check_backbone(config: PreTrainedConfig) -> None:
    """`ValueError` for a backbone that nobody knows."""
    if config.backbone.startswith("caffe_resnet"):
        return
    if not timm.is_model(config.backbone.split(".")[0]):
        similar = ", ".join(difflib.get_close_matches(config.backbone, timm.list_models(), n=5))
        raise ValueError(f"timm knows no backbone {config.backbone!r}" + (f"; it has {similar}" if similar else ""))


def build_config(
    kind: Callable[..., PreTrainedConfig], fields: Mapping[str, Any], *, section: str, **more: Any
) -> PreTrainedConfig:
    """`kind(**fields, **more)`; `ValueError` for one of the recipe's fields that the config does not have."""
    try:
        config = kind(**{**more, **fields})
    except StrictDataclassError as error:
        raise ValueError(f"{section}: {' '.join(str(error).split())}") from error
    check_fields(type(config), fields, section=section)
    return config


def check_fields(kind: type, fields: Mapping[str, Any], *, section: str) -> None:
    """`ValueError` for a field that a config class does not have: the class itself would take it without a word."""
    known = config_fields(kind)
    unknown = [name for name in fields if name not in known and name != "model_type"]
    if unknown:
        told = did_you_mean(unknown[0], known) or f"; it takes {', '.join(known)}"
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))} in {section}{told}")


def config_fields(kind: type) -> list[str]:
    """The fields that our own config classes give a config, in their order; those of every config are transformers'."""
    ours = [base for base in kind.__mro__ if not issubclass(PreTrainedConfig, base)]
    named = dict.fromkeys(name for base in ours for name in vars(base).get("__annotations__", {}))
    fields = {field.name for field in dataclasses.fields(kind)}
    return [name for name in named if name in fields]


def override_config(
    config: PreTrainedConfig, fields: Mapping[str, Any], *, section: str, changeable: Sequence[str] = CHANGEABLE
) -> None:
    """Set a loaded model's fields to the recipe's; `ValueError` for one that its weights have settled, or whose value
    the config does not take.
    """
    for name, value in fields.items():
        check_fields(type(config), {name: value}, section=section)
        found = getattr(config, name, None)
        if found != value and name not in changeable:
            raise ValueError(f"{section}: {name} is {value!r}, but the model of init_from has {found!r}: leave it out")
        try:
            setattr(config, name, value)
        except StrictDataclassError as error:
            raise ValueError(f"{section}: {' '.join(str(error).split())}") from error
    if isinstance(config, UpDownDetectorConfig | UpDownGridConfig):
        config.check()  # what was set one by one must go together
    if isinstance(config, TaggedRegionsConfig):
        config.check_tags()


def change_region_source(source: Any, processor: UpDownImageProcessor, regions: RegionsRecipe) -> None:
    """Set a loaded region source and its image processor to the recipe's `source` and `processor`.

    A grid on a backbone that reads images of any size may be given another `image_size`, which is its images' size too.
    Raises `ValueError` for what the weights have settled and for a field that no image processor has.
    """
    resizable = isinstance(source, UpDownGrid) and not hasattr(source.backbone, "patch_embed")  # not a ViT
    changeable = (*CHANGEABLE, "image_size") if resizable else CHANGEABLE
    override_config(source.config, regions.source, section="regions.source", changeable=changeable)
    fields = dict(regions.processor)
    if "image_size" in regions.source:
        fields = {"size": {"height": source.config.image_size, "width": source.config.image_size}} | fields
    check_processor_fields(fields)
    changed = UpDownImageProcessor(**fields)
    for name in fields:
        setattr(processor, name, getattr(changed, name))
    follow_pixels(source.config, processor)


def check_processor_fields(fields: Mapping[str, Any]) -> None:
    """`ValueError` for a field that no image processor has."""
    unknown = sorted(name for name in fields if not hasattr(UpDownImageProcessor, name))
    if unknown:
        known = [name for name in dir(UpDownImageProcessor) if not name.startswith("_")]
        raise ValueError(
            f"unknown key {', '.join(map(repr, unknown))} in regions.processor" + did_you_mean(unknown[0], known)
        )


def build_on_text(
    model_class: Any,
    recipe: Recipe,
    fields: Mapping[str, Any],
    *,
    token_ids: Callable[[Any], dict[str, int]],
    new_tokenizer: Callable[[], PreTrainedTokenizerBase],
    new_text_model: str,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """A new model on the recipe's text model, and that text model's tokenizer.

    The text model is the pretrained one of `text.pretrained`, or a new one of `model.text_config`.

    Args:
        model_class: of the fusion model or the prefix language model.
        recipe: its `text` and `model` sections are read.
        fields: of the model's config.
        token_ids: tokenizer -> the fields of the config that it settles, such as `cls_token_id`.
        new_tokenizer: makes the tokenizer of a new text model.
        new_text_model: the `model_type` of a new text model that `model.text_config` does not name.

    Raises:
        ValueError: a field that the config does not have; `model.text_config` beside `text.pretrained`; a text model
            that cannot be loaded or used.
    """
    kind, pretrained = model_class.config_class, recipe.text.pretrained
    check_fields(kind, recipe.model, section="model")
    if not pretrained:
        tokenizer = new_tokenizer()
        special = token_ids(tokenizer)
        text = {"model_type": new_text_model, **(fields.get("text_config") or {}), **special}
        fields = {**fields, **special, "text_config": {**text, "vocab_size": len(tokenizer)}}
        return model_class(build_config(kind, {}, section="model", **fields)), tokenizer
    if "text_config" in fields:
        raise ValueError("model.text_config and text.pretrained are both given: the pretrained model has its own")
    tokenizer = pretrained_tokenizer(pretrained)
    try:
        return model_class.from_text_pretrained(pretrained, **fields, **token_ids(tokenizer)), tokenizer
    except (OSError, ValueError) as error:
        raise ValueError(f"text.pretrained: {' '.join(str(error).split())}") from error


def build_image_processor(config: PreTrainedConfig | None, regions: RegionsRecipe) -> UpDownImageProcessor:
    """Images as the region source's backbone was trained on them (or as its saved processor has them), with the
    recipe's own fields where it gives some.

    A grid's images have its `image_size`; a detector's keep their shape, and its processor keeps how many regions the
    config selects. Raises `ValueError` for a field that no image processor has.
    """
    fields = dict(regions.processor)
    check_processor_fields(fields)
    if regions.pretrained:
        processor = UpDownImageProcessor.from_pretrained(regions.pretrained, **fields)
    else:
        prepared = {} if config is None else default_preparation(config)
        if regions.weights and Path(regions.weights).is_dir():  # as the backbone there was trained
            saved = UpDownImageProcessor.from_pretrained(regions.weights)
            prepared |= {"image_mean": list(saved.image_mean), "image_std": list(saved.image_std)}
        processor = UpDownImageProcessor(**{**prepared, **fields})
    if isinstance(config, UpDownDetectorConfig):
        for name in ("min_regions", "max_regions", "score_threshold"):
            setattr(processor, name, getattr(config, name))
        follow_pixels(config, processor)
    return processor


def follow_pixels(config: PreTrainedConfig, processor: UpDownImageProcessor) -> None:
    """Tell a detector with NanoDet the mean and standard deviation of its images.

    Raises `ValueError` for images in BGR, which its timm backbone does not read either.
    """
    if getattr(config, "proposal_model", "") != "nanodet":
        return
    if processor.channel_order != "rgb":
        raise ValueError("regions.processor: NanoDet and timm's backbones read RGB: set channel_order to rgb")
    config.pixel_mean, config.pixel_std = list(processor.image_mean), list(processor.image_std)


def default_preparation(config: PreTrainedConfig) -> dict[str, Any]:
    """Size, mean and standard deviation of images for a region source: those that its backbone was trained with."""
    settings: dict[str, Any] = {}
    trained_as = timm.get_pretrained_cfg(config.backbone.removeprefix("caffe_"))
    if trained_as is not None:
        settings |= {"image_mean": list(trained_as.mean), "image_std": list(trained_as.std)}
    if isinstance(config, UpDownDetectorConfig):
        return settings | {"size": {"shortest_edge": 600, "longest_edge": 1000}}
    return settings | {"size": {"height": config.image_size, "width": config.image_size}}


def word_bias(tokenizer: PreTrainedTokenizerBase, captions: list[list[str]]) -> torch.Tensor:
    """Each word's log-frequency in the captions (V,): an output layer that starts from it need not learn it."""
    counts = torch.full((len(tokenizer),), 1e-3)
    texts = list(itertools.chain.from_iterable(captions))
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = torch.tensor(list(itertools.chain.from_iterable(ids)))
    counts += torch.bincount(found, minlength=len(tokenizer))
    counts[tokenizer.eos_token_id] += len(texts)
    return (counts / counts.sum()).log()
