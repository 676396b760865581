"""Shared by the commands: arguments, images named on the command line, models by folder, one-line error messages."""

import argparse
import contextlib
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from training.console import one_line
from training.data.files import IMAGE_SUFFIXES
from training.shipped import published

# folders of hub_cards; a wheel contains only the captioner
TRAINED_CAPTIONER = "updown-captioning-flickr8k"
TRAINED_DENSE = "updown-dense-captioning-flickr8k"
TRAINED_DETECTOR = "updown-detector-lite"
TRAINED_ENTAILMENT = "updown-entailment-flickr8k"
TRAINED_GROUNDING = "updown-grounding-flickr8k"
TRAINED_MOMENTS = "updown-moments-flickr8k"
TRAINED_RETRIEVAL = "updown-retrieval-flickr8k"
TRAINED_VIDEO = "updown-video-flickr8k"
TRAINED_VQA = "updown-vqa-daquar-flickr8k"
TRAINED = (
    *(TRAINED_CAPTIONER, TRAINED_DENSE, TRAINED_DETECTOR),
    *(TRAINED_ENTAILMENT, TRAINED_GROUNDING, TRAINED_MOMENTS, TRAINED_RETRIEVAL, TRAINED_VIDEO, TRAINED_VQA),
)
USER_ERRORS = (OSError, ValueError, TypeError, ImportError, SafetensorError)
LONGEST_MESSAGE = 600
WEIGHTS = ("*.safetensors", "*.bin")


def add_command(commands: Any, name: str, run: Any, *, summary: str, example: str) -> argparse.ArgumentParser:
    """The parser of a command, with a summary and an example in its help."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model` of the commands that describe images."""
    parser.add_argument("--model", metavar="DIR_OR_HUB_ID", help="a saved model (default: the trained captioner)")


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """What `updown train` and `python -m training.train` both take."""
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or a recipe that comes along: captioning/scenes")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a value, e.g. train.epochs=3"
    )
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU even where there is a GPU")


def one_sentence(error: Exception) -> str:
    """An error on one line; an error that a user cannot have caused is marked as unexpected."""
    message = one_line(error)
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "..."
    if isinstance(error, USER_ERRORS):
        return message or type(error).__name__
    return f"unexpected {type(error).__name__}: {message} (UPDOWN_DEBUG=1 shows where)"


def exit_code(broken: int, *, of: int) -> int:
    """0 if every image was read, 1 if some were not, 2 if none was."""
    if not broken:
        return 0
    return 2 if broken == of else 1


def image_paths(arguments: Sequence[str]) -> list[str]:
    """Files and URLs unchanged, and each folder's images sorted by name.

    Raises `ValueError` for a folder without images.
    """
    paths = []
    for argument in arguments:
        if not Path(argument).is_dir():
            paths.append(argument)
            continue
        inside = sorted(str(path) for path in Path(argument).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            raise ValueError(f"{argument} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        paths += inside
    return paths


def is_image(text: str) -> bool:
    """Whether an argument is an image's path or URL rather than words.

    >>> is_image("dog.jpg"), is_image("https://example.org/a"), is_image("two dogs on a beach")
    (True, True, False)
    """
    return (
        text.startswith(("http://", "https://"))
        or os.path.splitext(text)[1].lower() in IMAGE_SUFFIXES
        or os.path.isfile(text)
    )


def picture_path(picture: Path, image: str, *, alone: bool, taken: set[Path]) -> Path:
    """The path of an image's picture: `look.png`, or `look_dog.png` if there are several images.

    taken: the pictures drawn before, to which this one is added; a second `dog` gets `look_dog_2.png`.
    """
    stem = picture.stem if alone else f"{picture.stem}_{Path(image).stem}"
    path, number = picture.with_stem(stem), 2
    while path in taken:
        path, number = picture.with_stem(f"{stem}_{number}"), number + 1
    taken.add(path)
    return path


def check_output_file(path: Path | None) -> None:
    """Raises `ValueError` if a file cannot be written, before the work begins."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        fault = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ValueError(f"{fault}: name a file in an existing folder")


def model_folder(model: str | None, *, default: str = TRAINED_CAPTIONER) -> str:
    """The given model (a folder, a Hub id, or the name of a folder of `hub_cards/`), or the default.

    Raises `ValueError` for a model that does not exist, with the ways to get one.
    """
    if model is None or (Path(model).name == model and not Path(model).is_dir()):
        ours = published(model or default)
        if (ours / "config.json").is_file():
            return str(ours)
        if model is None or model in TRAINED:
            raise ValueError(
                f"{ours.name} is absent, since an installed package contains only the captioner: name a model with "
                f"--model (the folder hub_cards/{ours.name} of the project's repository, another folder or a Hub id), "
                "or train one (updown train RECIPE)"
            )
    if not Path(model).is_dir() and (model.count("/") != 1 or model.startswith((".", "/", "~")) or model.endswith("/")):
        raise ValueError(f"there is no model folder {model}, and a Hub id is written OWNER/NAME")
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        from training.saved_models import no_config

        raise ValueError(no_config(model))
    return model


def check_weights(folder: str) -> None:
    """Raises `ValueError` for a model folder without weights, for which a pipeline shows two tracebacks."""
    if Path(folder).is_dir() and not any(any(Path(folder).glob(pattern)) for pattern in WEIGHTS):
        raise ValueError(f"{folder} holds no weights, such as a model.safetensors: copy or save the model again")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Disable transformers' progress bars and log messages."""
    from transformers.utils import logging as notes

    notes.set_verbosity_error()
    notes.disable_progress_bar()
    yield


def load_pipeline(task: str, model: str | None, *, regions: str | None = None, **more: Any) -> Any:
    """The pipeline of one of our tasks; raises `ValueError` for a model of another task.

    model: by default the trained captioner; regions: a detector for a model without one; more: arguments of the
    pipeline.
    """
    folder = model_folder(model)

    import modeling_updown
    from modeling_updown.heads_updown import models_for
    from training.saved_models import check_kind

    with quiet():
        config = check_kind(folder, [getattr(modeling_updown, name) for name in models_for(task)])
    check_without_source(config, regions)
    return open_pipeline(task, folder, regions=regions, **more)


def open_pipeline(task: str, folder: str, *, regions: str | None = None, **more: Any) -> Any:
    """The same of a model whose kind is known to be right."""
    from transformers import pipeline

    with quiet():
        check_weights(folder)
    if regions is not None:
        more["region_source"], more["image_processor"] = load_region_source(regions, flag="--regions")
    with quiet():
        return pipeline(task, model=folder, **more)


def check_without_source(config: Any, regions: str | None) -> None:
    """`ValueError` for `--regions` beside a model that owns a region source, whose regions are those that it learnt."""
    if regions is not None and getattr(config, "vision_config", None) is not None:
        raise ValueError(
            f"this model owns the region source that it was trained on, and would read other regions of {regions}: "
            "leave --regions out"
        )


def load_region_source(
    model: str | None, *, default: str = TRAINED_CAPTIONER, flag: str = "--source"
) -> tuple[Any, Any]:
    """A saved region source, or the region source of a saved model, and its image processor; flag: that names it."""
    folder = model_folder(model, default=default)

    from transformers import AutoConfig, AutoImageProcessor, PreTrainedModel

    import modeling_updown
    from training.saved_models import load_whole

    with quiet():
        config = AutoConfig.from_pretrained(folder)
        kind = getattr(modeling_updown, (config.architectures or [""])[0], None)
        if not inspect.isclass(kind) or not issubclass(kind, PreTrainedModel):
            raise ValueError(f"{folder} does not hold an UpDown model, but {config.architectures}")
        loaded = load_whole(kind, folder)
        source = getattr(loaded, "region_source", loaded)
        if source is None:
            raise ValueError(f"the model in {folder} has no region source: name one with {flag}")
        return source, AutoImageProcessor.from_pretrained(folder)
