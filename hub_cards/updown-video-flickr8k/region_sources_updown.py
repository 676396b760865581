"""Which class makes the regions of a model that owns a region source: the one that its `vision_config` describes.

It is imported by its name when such a model is built. So the models import no region source, which imports what it
shares with them from `modeling_base`, and a published folder holds the code of the one that its model owns.
transformers copies the files that another one imports, which it reads off the text: `saving_updown` ends the copy of
this file in a published folder with the import of that region source.
"""

from typing import TYPE_CHECKING

from .compat_updown import optional_sibling
from .configuration_updown import REGION_SOURCES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def region_source_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    """The class of the region source with this config, a model's `vision_config`.

    Raises `ImportError` in the folder of a published model without its code.
    """
    file, name = REGION_SOURCES[config.model_type][1].split(".")
    module = optional_sibling(file, package=__package__)
    if module is None:
        raise ImportError(
            f"the code of this model has no {file}.py, which its region source ({config.model_type}) needs: install "
            "modeling-updown, or load a folder that `updown push` made of a model with this region source"
        )
    return getattr(module, name)


if TYPE_CHECKING:  # the region source of this folder's model, which is copied with this file
    from .modeling_detector import UpDownDetector
