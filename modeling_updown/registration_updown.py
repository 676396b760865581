"""What `import modeling_updown` tells transformers, at no cost until somebody asks.

Importing our models takes seconds (torch, timm), importing this package must not. So nothing is imported here; instead

1. the modules of transformers that keep the Auto tables are watched (`WATCHED`), since they load lazily themselves;
2. once such a module is there, a `Tripwire` stands in each of its tables (see `TABLES`);
3. the first lookup that may concern us (one of our configs or model types, or all entries) registers all our classes by
   the Auto classes' public `register` and takes the tripwires away: from then on all is as if done at once;
4. our pipelines, which are small, are registered as soon as `transformers.pipelines` is there.
"""

import importlib
import importlib.abc
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

TABLES = {
    "transformers.models.auto.configuration_auto": ["CONFIG_MAPPING"],
    "transformers.models.auto.modeling_auto": [
        "MODEL_MAPPING",
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
        "MODEL_FOR_OBJECT_DETECTION_MAPPING",
        "MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING",
        "MODEL_FOR_PRETRAINING_MAPPING",
        "MODEL_FOR_MASKED_LM_MAPPING",
        "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING",
    ],
    "transformers.models.auto.processing_auto": ["PROCESSOR_MAPPING"],
    "transformers.models.auto.tokenization_auto": ["TOKENIZER_MAPPING"],
    "transformers.models.auto.image_processing_auto": ["IMAGE_PROCESSOR_MAPPING"],
}

PIPELINES = {  # task -> our module and class, and the Auto class that loads its models
    "image-to-text": (
        "modeling_updown.pipeline_captioning",
        "UpDownImageToTextPipeline",
        "AutoModelForImageTextToText",
    ),
    "visual-question-answering": (
        "modeling_updown.pipeline_vqa",
        "UpDownVisualQuestionAnsweringPipeline",
        "AutoModelForVisualQuestionAnswering",
    ),
}
ALIASES = {"vqa": "visual-question-answering"}  # as transformers 4 had it


def register_classes() -> None:
    """Make the Auto classes know every class of ours."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageTextToText,
        AutoModelForObjectDetection,
        AutoModelForVisualQuestionAnswering,
        AutoProcessor,
        AutoTokenizer,
        PreTrainedTokenizerFast,
    )

    from processors import UpDownImageProcessor, UpDownImageProcessorPil, UpDownProcessor, UpDownTokenizer

    from .configuration_text_updown import UpDownFusionConfig, UpDownPrefixLMConfig
    from .configuration_updown import UpDownCaptioningConfig, UpDownDetectorConfig, UpDownGridConfig, UpDownVqaConfig
    from .modeling_captioning import UpDownForImageCaptioning
    from .modeling_detector import UpDownDetector
    from .modeling_grid import UpDownGrid
    from .modeling_prefix_lm import UpDownPrefixLMForImageCaptioning
    from .modeling_vqa import UpDownForVisualQuestionAnswering

    backends = {"torchvision": UpDownImageProcessor, "pil": UpDownImageProcessorPil}
    configs = (
        UpDownCaptioningConfig,
        UpDownDetectorConfig,
        UpDownFusionConfig,
        UpDownGridConfig,
        UpDownPrefixLMConfig,
        UpDownVqaConfig,
    )
    for config in configs:
        config.custom_pipelines = PublishedPipelines()
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoImageProcessor.register(config, image_processor_classes=dict(backends), exist_ok=True)
    AutoModel.register(UpDownGridConfig, UpDownGrid, exist_ok=True)
    AutoModel.register(UpDownDetectorConfig, UpDownDetector, exist_ok=True)
    AutoModelForObjectDetection.register(UpDownDetectorConfig, UpDownDetector, exist_ok=True)
    expect_in_pipelines("MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES", UpDownDetector)
    AutoModelForImageTextToText.register(UpDownCaptioningConfig, UpDownForImageCaptioning, exist_ok=True)
    AutoModelForImageTextToText.register(UpDownPrefixLMConfig, UpDownPrefixLMForImageCaptioning, exist_ok=True)
    AutoModelForVisualQuestionAnswering.register(UpDownVqaConfig, UpDownForVisualQuestionAnswering, exist_ok=True)
    for config in (UpDownCaptioningConfig, UpDownVqaConfig):
        AutoTokenizer.register(config, tokenizer_class=UpDownTokenizer, exist_ok=True)
        AutoProcessor.register(config, UpDownProcessor, exist_ok=True)
    for config in (UpDownFusionConfig, UpDownPrefixLMConfig):  # their words are any Hugging Face tokenizer's
        AutoTokenizer.register(config, tokenizer_class=PreTrainedTokenizerFast, exist_ok=True)
        AutoProcessor.register(config, UpDownProcessor, exist_ok=True)
    register_fusion()


def register_fusion() -> None:
    """The fusion model and its heads, of which each has an Auto class of its own."""
    from transformers import (
        AutoModel,
        AutoModelForMaskedLM,
        AutoModelForPreTraining,
        AutoModelForVisualQuestionAnswering,
        AutoModelForZeroShotImageClassification,
    )

    from .configuration_text_updown import UpDownFusionConfig
    from .modeling_fusion import UpDownFusionModel
    from .modeling_fusion_vqa import UpDownFusionForVisualQuestionAnswering
    from .modeling_pretraining import UpDownFusionForMaskedLM, UpDownFusionForPreTraining
    from .modeling_retrieval import UpDownFusionForImageTextRetrieval

    models = {
        AutoModel: UpDownFusionModel,
        AutoModelForMaskedLM: UpDownFusionForMaskedLM,
        AutoModelForPreTraining: UpDownFusionForPreTraining,
        AutoModelForVisualQuestionAnswering: UpDownFusionForVisualQuestionAnswering,
        AutoModelForZeroShotImageClassification: UpDownFusionForImageTextRetrieval,
    }
    for auto, model in models.items():
        auto.register(UpDownFusionConfig, model, exist_ok=True)
    expect_in_pipelines("MODEL_FOR_MASKED_LM_MAPPING_NAMES", UpDownFusionForMaskedLM)
    expect_in_pipelines("MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES", UpDownFusionForImageTextRetrieval)


def expect_in_pipelines(table: str, model: Any) -> None:
    """Enter a class where a pipeline of transformers' own looks up what it may run; it would warn of all others."""
    from transformers.models.auto import modeling_auto

    getattr(modeling_auto, table, {}).setdefault(model.config_class.model_type, model.__name__)


class PublishedPipelines:
    """`config.custom_pipelines` where this package is installed: kept for saving, empty to whoever reads it.

    A published folder names its own pipeline file there, for users without this package. `pipeline()` would refuse that
    folder without `trust_remote_code=True`, although the installed pipeline does the same and is to be trusted.
    """

    def __get__(self, config: Any, owner: type | None = None) -> dict:
        return {}

    def __set__(self, config: Any, value: dict) -> None:
        config.__dict__["custom_pipelines"] = value


class Tripwire(MutableMapping):
    """Stands in for the extra entries of one Auto table until somebody looks for ours.

    Lookups of other packages' entries pass: transformers' modules look up their own configs while they are imported,
    when ours could not be imported yet.
    """

    placed: list["Tripwire"] = []
    registering = False
    lock = threading.RLock()  # a second thread waits until all classes are registered

    def __init__(self, table: Any):
        self.table, self.entries = table, table._extra_content
        table._extra_content = self
        self.placed.append(self)

    def all_entries(self) -> dict:
        """The entries, ours among them."""
        with Tripwire.lock:
            if not Tripwire.registering and self.placed:
                Tripwire.registering = True  # `register` looks into the tables as well
                try:
                    register_classes()
                    Tripwire.take_away()
                finally:
                    Tripwire.registering = False
        return self.entries

    @classmethod
    def take_away(cls) -> None:
        for wire in cls.placed:
            wire.table._extra_content = wire.entries
        cls.placed.clear()

    def __getitem__(self, key: Any) -> Any:
        name = key if isinstance(key, str) else getattr(key, "__module__", "")
        ours = name.startswith(("updown_", "modeling_updown"))  # a model type, or a config class
        return (self.all_entries() if ours else self.entries)[key]

    def __iter__(self) -> Iterator:
        return iter(self.all_entries())

    def __len__(self) -> int:
        return len(self.all_entries())

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.entries[key]


def place_tripwires(module: ModuleType) -> None:
    """Guard the tables of one Auto module; where transformers keeps them otherwise, register at once."""
    tables = [getattr(module, name, None) for name in TABLES[module.__name__]]
    if not all(hasattr(table, "_extra_content") for table in tables):
        register_classes()
        return
    for table in tables:
        Tripwire(table)


def register_pipelines(pipelines: Any) -> None:
    """Enter our tasks, and keep transformers 5 from redirecting those of them that it dropped itself."""
    tasks, aliases = pipelines.PIPELINE_REGISTRY.supported_tasks, pipelines.PIPELINE_REGISTRY.task_aliases
    for task, (home, name, auto) in PIPELINES.items():
        ours = sys.modules.get(home)
        if ours is not None and not hasattr(ours, name):
            continue  # it is being imported and has just asked for `transformers.pipelines`: its own watch comes back
        pipeline_class = getattr(importlib.import_module(home), name)
        if tasks.get(task, {}).get("impl") is not pipeline_class:
            pipelines.PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=getattr(pipelines, auto), type="multimodal"
            )
    aliases.update(ALIASES)
    redirect = getattr(pipelines, "_resolve_deprecated_task", None)
    if redirect is not None and getattr(redirect, "func", None) is not resolve_task:
        pipelines._resolve_deprecated_task = partial(resolve_task, redirect)


def resolve_task(redirect: Callable[[str], str], task: str) -> str:
    """The task itself where it is ours, else what transformers makes of it."""
    return task if task in PIPELINES or task in ALIASES else redirect(task)


def register_pipelines_late(ours: Any) -> None:
    """Where our pipelines were imported before transformers', register once both are there."""
    register_pipelines(sys.modules["transformers.pipelines"])


WATCHED = dict.fromkeys(TABLES, place_tripwires) | {
    "transformers.pipelines": register_pipelines,
    **{home: register_pipelines_late for home, _, _ in PIPELINES.values()},
}


class Watcher(importlib.abc.MetaPathFinder):
    """Finds modules as everybody else does, and calls `WATCHED[name](module)` once such a module has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What the other finders give for a watched module, its loader made to tell us."""
        if name not in WATCHED:
            return None
        others = (finder for finder in sys.meta_path if not isinstance(finder, Watcher))
        specs = (finder.find_spec(name, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            if getattr(run, "func", None) is not run_and_tell:  # one loader may find many modules, as pytest's does
                spec.loader.exec_module = partial(run_and_tell, run)  # type: ignore[method-assign]
        return spec


def run_and_tell(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Run a module, then act on it if it is a watched one."""
    run(module)
    if module.__name__ in WATCHED:
        WATCHED[module.__name__](module)


def register() -> None:
    """Act on the watched modules that are there, and watch for the others."""
    for name, act in WATCHED.items():
        if name in sys.modules:
            act(sys.modules[name])
    sys.meta_path.insert(0, Watcher())
