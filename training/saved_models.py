"""Which model a saved folder holds, asked before its weights are read into a class that they were not made for.

transformers reads whatever folder it is given into the class that is asked for: what the file lacks becomes random
numbers, and a captioner's folder becomes a question answerer that says anything.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

import modeling_updown
from modeling_updown.modeling_base import SAME_WEIGHTS
from training.data.files import listed


def check_kind(folder: str | Path, wanted: Sequence[type[Any]], *, any_head: bool = False) -> PreTrainedConfig:
    """The config of a saved folder or Hub id, which holds a model of one of these classes (or one made of it).

    Args:
        folder: its config names the class that was saved (`architectures`) and the model type.
        wanted: the classes that it may be read into.
        any_head: a model of the same type with other heads is as good, as a start for instance.

    Raises:
        ValueError: naming both, for a model of another type, or of another class.
        OSError: for a folder without a config, or with one that transformers does not know.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except ValueError as error:  # as transformers says that there is none, or one of a type that it does not know
        raise OSError(f"it holds no config of a model that is known ({' '.join(str(error).split())[:200]})") from error
    held = (config.architectures or [""])[0]
    kind = getattr(modeling_updown, held, None)
    for one in wanted:
        other = any({held, one.__name__} == heads for heads in SAME_WEIGHTS)  # whose outputs mean something else
        if config.model_type == one.config_class.model_type and (
            any_head or not isinstance(kind, type) or (issubclass(kind, one) and not other)
        ):
            return config
    names = " or ".join(f"{one.__name__} (type {one.config_class.model_type!r})" for one in wanted)
    raise ValueError(
        f"{folder} holds a model of type {config.model_type!r}{f' ({held})' if held else ''}, but {names} is wanted: "
        "name a folder of that kind"
    )


def no_config(folder: str | Path) -> str:
    """A sentence for a folder without a config, which names the folders of models in it, as a run has them.

    >>> no_config("photos")
    'photos holds no config.json: give a folder that model.save_pretrained wrote'
    """
    folder, wanted = Path(folder), "config.json"
    inside = [path.parent for pattern in ("*", "best", "best/*") for path in sorted(folder.glob(f"{pattern}/{wanted}"))]
    names = listed([str(path) for path in dict.fromkeys(inside)])
    cure = f"a folder of a model in it, {names}" if inside else "a folder that model.save_pretrained wrote"
    return f"{folder} holds no {wanted}: give {cure}"


def load_with_processor(
    folder: str | Path,
    kind: Any,
    processor: Any,
    *,
    any_head: bool = False,
    load: Callable[[str | Path], Any] | None = None,
) -> tuple[Any, Any]:
    """A task's model (in float32) and its processor from a saved folder or Hub id; the one way in for every task.

    Args:
        kind: the class of the model; processor: the class of the processor.
        any_head: see `check_kind`.
        load: reads the weights; by default `load_whole`.

    Raises:
        ValueError: where there is no model, one of another kind (naming both), or one that lacks weights.
    """
    name = str(folder)
    if not Path(folder).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise ValueError(f"there is no model folder {folder}: train the recipe that writes it first")
    if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
        raise ValueError(f"no model can be loaded: {no_config(folder)}")
    try:
        check_kind(folder, [kind], any_head=any_head)
        model = load_whole(kind, name, dtype=torch.float32) if load is None else load(folder)
        return model, processor.from_pretrained(folder)
    except OSError as error:
        raise ValueError(f"no model can be loaded from {folder}: {' '.join(str(error).split())}") from error


def saved_class(folder: str) -> str:
    """The class of the model in a folder or Hub id, as its config names it; "" where none can be read."""
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it is said where it is loaded
        return (AutoConfig.from_pretrained(folder).architectures or [""])[0]
    return ""


def load_whole(kind: Any, model: str, **options: Any) -> Any:
    """A model by its class or an Auto class; `ValueError` naming weights that are absent or have other shapes, and
    would be drawn at random."""
    loaded, info = kind.from_pretrained(model, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    loaded.check_whole(info)
    return loaded.eval()


def weights_mark(model: torch.nn.Module) -> str:
    """A hash of a model's weights and their names: 16 hexadecimal digits, the same on any device.

    >>> weights_mark(torch.nn.Identity())
    'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
