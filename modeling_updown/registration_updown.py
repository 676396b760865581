"""What `import modeling_updown` makes known to transformers, without importing a model until one is asked for.

`AutoModel.register(config, model)` takes classes, so `import modeling_updown` would import torch, timm and every model:
4.4 s for the captioner alone (torch takes 1.7 s, the module of `AutoModel` 2.7 s), where `import transformers` takes
0.6 s and this way 0.03 s (tests/benchmarks/import_time.py, two CPU cores). So names are entered instead, as those of
transformers' own models are: the tables of the Auto classes hold names, and a class is taken from the module
`transformers.models.<model type>` when its name is looked up; that module is the public door here. The tables lie in
modules that transformers imports late as well, so an import hook fills each of them once it is there. The private names
that this takes are used in this file alone (`compat_updown` imports torch); tests/modeling_updown/test_compat.py says
which one is gone.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .heads_updown import ARCHITECTURES, HEADS, PIPELINE_TYPE, PIPELINES

DOOR = "modeling_updown"
AUTO = "transformers.models.auto"
TOKENIZERS = {kind.model_type: kind.tokenizer for kind in ARCHITECTURES if kind.tokenizer}
IMAGE_PROCESSORS = {"torchvision": "UpDownImageProcessor", "pil": "UpDownImageProcessorPil"}  # by backend
VIDEO_PROCESSORS = {"torchvision": "UpDownVideoProcessor"}
INPUTS: dict[str, tuple[str, Mapping[str, Any]]] = {  # Auto module -> its table, and our names in it by model type
    f"{AUTO}.tokenization_auto": ("TOKENIZER_MAPPING", TOKENIZERS),
    f"{AUTO}.processing_auto": ("PROCESSOR_MAPPING", dict.fromkeys(TOKENIZERS, "UpDownProcessor")),
    f"{AUTO}.image_processing_auto": (
        "IMAGE_PROCESSOR_MAPPING",
        {kind.model_type: dict(IMAGE_PROCESSORS) for kind in ARCHITECTURES},
    ),
    f"{AUTO}.video_processing_auto": (
        "VIDEO_PROCESSOR_MAPPING",
        {kind.model_type: dict(VIDEO_PROCESSORS) for kind in ARCHITECTURES},
    ),
}
ALIASES = {"vqa": "visual-question-answering"}  # as transformers 4 had it


def register() -> None:
    """Enter our names in the modules of transformers that are there, and have those entered that come later."""
    for kind in ARCHITECTURES:
        sys.modules[f"transformers.models.{kind.model_type}"] = sys.modules[DOOR]
    sys.meta_path.insert(0, ImportHook())  # first: what is acted on imports files that are acted on in their turn
    for name, act in AFTER_IMPORT.items():
        if name in sys.modules:
            act(sys.modules[name])


class ImportHook(MetaPathFinder):
    """Finds the modules of `AFTER_IMPORT` where they lie, and has them loaded by `ThenActing`."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of such a module; None for any other, which is left to the finders after this one."""
        spec = PathFinder.find_spec(name, path, target) if name in AFTER_IMPORT else None
        if spec is not None and spec.loader is not None:
            spec.loader = ThenActing(spec.loader)
        return spec


class ThenActing(Loader):
    """Loads a module as its own loader does, which it leaves in its place, then calls `AFTER_IMPORT[name](module)`."""

    def __init__(self, loader: Loader):
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module and act on it."""
        module.__loader__ = module.__spec__.loader = self.loader  # type: ignore[union-attr]
        self.loader.exec_module(module)
        AFTER_IMPORT[module.__name__](module)


def enter_configs(module: Any) -> None:
    """Enter each config by its model type; all tables share these names."""
    module.CONFIG_MAPPING_NAMES.update({kind.model_type: kind.config for kind in ARCHITECTURES})


def enter_models(module: Any) -> None:
    """Enter each model in the table of its Auto class."""
    for head in HEADS:
        enter(getattr(module, head.auto.name)._model_mapping, {head.architecture.model_type: head.model})


def enter_inputs(module: Any) -> None:
    """Enter the classes that make the models' inputs."""
    table, names = INPUTS[module.__name__]
    enter(getattr(module, table), names)


def enter(table: Any, names: Mapping[str, Any]) -> None:
    """Enter names of classes by model type in a table of transformers, which looks them up by config."""
    table._reverse_config_mapping.update({k.config: k.model_type for k in ARCHITECTURES if k.model_type in names})
    table._model_mapping.update(names)


def hide_published_pipelines(module: Any) -> None:
    """Keep `pipeline()` from asking for `trust_remote_code=True` where the installed pipeline serves."""
    for kind in ARCHITECTURES:
        if module.__name__ == f"{DOOR}.{kind.config_file}":
            getattr(module, kind.config).custom_pipelines = PublishedPipelines()


class PublishedPipelines:
    """`config.custom_pipelines` where this package is installed: kept for saving, empty to whoever reads it.

    A published folder names its own pipeline file there, for users without this package. `pipeline()` would refuse that
    folder without `trust_remote_code=True`, although the installed pipeline does the same and is to be trusted.
    """

    def __get__(self, config: Any, owner: type | None = None) -> dict:
        return {}

    def __set__(self, config: Any, value: dict) -> None:
        config.__dict__["custom_pipelines"] = value


def register_pipelines(module: Any = None) -> None:
    """Enter our pipelines, and keep transformers 5 from redirecting those of their tasks that it dropped.

    Called for `transformers.pipelines` and for our own files, of which either may be the first: a file that is half
    imported, since it is what imports `transformers.pipelines`, is passed over and comes again itself.
    """
    import transformers
    from transformers import pipelines

    registry = pipelines.PIPELINE_REGISTRY
    for task, auto in PIPELINES.items():
        pipeline_class = getattr(importlib.import_module(f"{DOOR}.{auto.pipeline_file}"), auto.pipeline, None)
        if pipeline_class is not None and registry.supported_tasks.get(task, {}).get("impl") is not pipeline_class:
            registry.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=getattr(transformers, auto.name), type=PIPELINE_TYPE
            )
    registry.task_aliases.update(ALIASES)
    if getattr(pipelines._resolve_deprecated_task, "func", None) is not resolve_task:
        pipelines._resolve_deprecated_task = partial(resolve_task, pipelines._resolve_deprecated_task)


def resolve_task(redirect: Callable[[str], str], task: str) -> str:
    """The task itself where it is ours, else what transformers makes of it."""
    return task if task in PIPELINES or task in ALIASES else redirect(task)


AFTER_IMPORT: dict[str, Callable[[Any], None]] = {
    f"{AUTO}.configuration_auto": enter_configs,
    f"{AUTO}.modeling_auto": enter_models,
    **dict.fromkeys(INPUTS, enter_inputs),
    **{f"{DOOR}.{kind.config_file}": hide_published_pipelines for kind in ARCHITECTURES},
    "transformers.pipelines": register_pipelines,
    **{f"{DOOR}.{auto.pipeline_file}": register_pipelines for auto in PIPELINES.values()},
}
