"""Several fusion models as one: heads of their own on one and the same encoder.

    model of the first part --share_encoder--> those of the others --MultiModel--> the loop, checkpoints

Shared are the text encoder, the embedding of regions with their names, and the region source; not the vectors that tell
several images of a row apart (`num_images`), which are of the part whose rows have several.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from modeling_updown.configuration_tags_updown import TaggedRegionsConfig

# fields of the config that the weights or the passes of the encoder depend on
ENCODER_FIELDS = (
    *("text_config", "vision_config", "region_feature_size", "region_dropout", "region_embedding", "mask_embedding"),
    *("time_embedding", "cls_token_id", "pad_token_id", "pooler", "initializer_range"),
    *TaggedRegionsConfig.__annotations__,
)
OWN = "of_images"  # of the embedding of regions
# what a nested config says of the file that it was read from
OF_THE_FILE = ("architectures", "dtype", "transformers_version", "_name_or_path")


class MultiModel(nn.Module):
    """The models of several parts by name; `fusion`, the first one's, comes first, so that its weights go by that name.

    >>> import torch
    >>> model = MultiModel({"a": nn.Linear(2, 1, bias=False)})
    >>> [name for name, _ in model.named_parameters()], model("a", torch.ones(3, 2)).shape
    (['parts.a.weight'], torch.Size([3, 1]))
    """

    def __init__(self, models: Mapping[str, nn.Module]):
        super().__init__()
        self.fusion = getattr(next(iter(models.values())), "fusion", None)
        self.parts = nn.ModuleDict(models)

    def forward(self, part: str, *inputs: Any, **named: Any) -> Any:
        """What the model of that part makes of its inputs."""
        return self.parts[part](*inputs, **named)


def share_encoder(model: Any, lead: Any) -> None:
    """Put the encoder of the first part's model, `lead`, in the place of another one's, changed in place.

    Raises `ValueError` naming a field in which the encoders differ.
    """
    ours, theirs = (encoder_fields(one.config) for one in (lead, model))
    name = next((name for name in ours if ours[name] != theirs.get(name)), "")
    if name:
        raise ValueError(
            f"config.{name} of {type(model).__name__} is {theirs.get(name)}, and that of the shared encoder "
            f"{ours[name]}: the encoders differ, so start all parts from one"
        )
    replace_parts(model.fusion, lead.fusion, kept=("region_embedding",))
    replace_parts(model.fusion.region_embedding, lead.fusion.region_embedding, kept=(OWN,))


def encoder_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """What a config says of the encoder, fields of the text model and of the region source as `text_config.NAME`.

    >>> from modeling_updown import UpDownFusionConfig
    >>> fields = encoder_fields(UpDownFusionConfig(region_dropout=0.1))
    >>> fields["region_dropout"], fields["text_config.hidden_size"]
    (0.1, 768)
    """
    said: dict[str, Any] = {}
    for name, value in config.to_dict().items():
        if name in ENCODER_FIELDS and isinstance(value, dict):
            said |= {f"{name}.{key}": own for key, own in value.items() if key not in OF_THE_FILE}
        elif name in ENCODER_FIELDS:
            said[name] = value
    return said


def replace_parts(module: nn.Module, source: nn.Module, *, kept: tuple[str, ...]) -> None:
    """Let a module have the parts of another one, but for those of these names."""
    for name, part in source.named_children():
        if name not in kept:
            setattr(module, name, part)


def shared_names(model: MultiModel) -> list[str]:
    """The names of the weights that every part of a model has in common."""
    held = [{id(weight) for weight in part.parameters()} for part in model.parts.values()]
    common = set.intersection(*held)
    return [name for name, weight in model.named_parameters() if id(weight) in common]
