"""The command line: `updown caption photo.jpg` and its siblings.

Each command reads its arguments, calls one function of the package, and prints. What is heavy is imported inside the
commands, so that `--help` answers at once. A mistake of the user's ends in one sentence and exit code 2
(`UPDOWN_DEBUG=1` shows where it came from); photos that cannot be read are named and passed over, with exit code 1.
"""

import argparse
import contextlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TRAINED_CAPTIONER = Path(__file__).parents[1] / "hub_cards" / "updown-captioning-flickr8k"
# these come inside scikit-image itself, no download
DEMO_PHOTOS = {
    "motorcycle": "motorcycle_left.png",
    "camera": "camera.png",
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
USER_ERRORS = (OSError, ValueError, TypeError, ImportError)
LONGEST_MESSAGE = 600

EXAMPLES = """\
examples:
  updown caption photo.jpg                         one sentence on a photo
  updown caption photos/ --num-beams 5             on every photo of a folder
  updown caption photo.jpg --words --draw look.png where each word looked
  updown demo                                      the trained captioner on a few photos
  updown extract photos/ --output regions/         region features, made once, for training
  updown evaluate training/recipes/captioning_flickr8k.yaml
  updown convert-checkpoint captioning-pytorch model.pth --config options.json --output converted/
  updown push runs/captioning/best my-name/my-captioner --dry-run --output published/

training, on as many processes as there are GPUs:
  accelerate launch -m training.train training/recipes/captioning_flickr8k.yaml

`updown COMMAND --help` tells what a command takes; UPDOWN_DEBUG=1 shows the traceback of an error.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 done except for some photos, 2 a mistake or failure."""
    parsed = build_parser().parse_args(arguments)
    try:
        with notes_shown():
            return parsed.run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("UPDOWN_DEBUG") == "1":
            raise
        print(f"updown {parsed.command}: {one_sentence(error)}", file=sys.stderr)
        return 2


@contextlib.contextmanager
def notes_shown() -> Iterator[None]:
    """With the notes of this package's own modules on stderr."""
    logger, shown = logging.getLogger("training"), logging.StreamHandler()
    logger.addHandler(shown)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(shown)


def one_sentence(error: Exception) -> str:
    """An error on one line; what no user can have caused is marked as such."""
    message = " ".join(str(error).split())
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "..."
    if isinstance(error, USER_ERRORS):
        return message or type(error).__name__
    return f"unexpected {type(error).__name__}: {message} (UPDOWN_DEBUG=1 shows where)"


def build_parser() -> argparse.ArgumentParser:
    """Every command with its arguments."""
    parser = argparse.ArgumentParser(
        prog="updown",
        description="Bottom-up and top-down attention for photos: regions in, sentences out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_caption(commands)
    add_demo(commands)
    add_extract(commands)
    add_evaluate(commands)
    add_convert_checkpoint(commands)
    add_push(commands)
    return parser


def add_command(commands: Any, name: str, run: Any, *, summary: str, example: str) -> argparse.ArgumentParser:
    """One command's parser, with a summary and an example in its help."""
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
    """`--model`, which the commands that describe photos share."""
    parser.add_argument("--model", metavar="DIR_OR_HUB_ID", help="a saved model (default: the trained captioner)")


def add_caption(commands: Any) -> None:
    """`updown caption`."""
    parser = add_command(
        commands, "caption", run_caption, summary="describe photos", example="updown caption dog.jpg --draw look.png"
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="a file, a folder of photos, or a URL")
    add_model(parser)
    parser.add_argument(
        "--num-beams", type=positive, metavar="K", help="beam search with K beams (default: the model's)"
    )
    parser.add_argument("--words", action="store_true", help="show the strongest region of each word")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw where each word looked; of several photos, PICTURE_name.png for each",
    )


def add_demo(commands: Any) -> None:
    """`updown demo`."""
    parser = add_command(
        commands, "demo", run_demo, summary="describe a few photos that come along", example="updown demo"
    )
    add_model(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("demo_output"), metavar="FOLDER", help="for the pictures (%(default)s)"
    )


def add_extract(commands: Any) -> None:
    """`updown extract`."""
    parser = add_command(
        commands,
        "extract",
        run_extract,
        summary="make the region features of photos; run again, it goes on where it stopped",
        example="updown extract photos/ --output regions/ --batch-size 64",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="a file or a folder of photos")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the region store to write")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="photos at a time (%(default)s)")
    parser.add_argument(
        "--source",
        metavar="DIR_OR_HUB_ID",
        help="a region source, or a model with one (default: the trained captioner's)",
    )


def add_evaluate(commands: Any) -> None:
    """`updown evaluate`."""
    parser = add_command(
        commands,
        "evaluate",
        run_evaluate,
        summary="score a model, or captions that something else wrote, as a recipe says",
        example="updown evaluate training/recipes/captioning_flickr8k.yaml --split val",
    )
    parser.add_argument("recipe", metavar="RECIPE.yaml", help="names the data and the metrics")
    parser.add_argument("--model", metavar="DIR", help="the model to score (default: the best one of the recipe's run)")
    parser.add_argument("--predictions", metavar="FILE.json", help="score these captions and no model")
    parser.add_argument("--split", help="the part of the data (default: the recipe's final split)")
    parser.add_argument("--num-beams", type=positive, metavar="K", help="default: the recipe's final_num_beams")
    parser.add_argument("--java", action="store_true", help="METEOR and SPICE too, which need Java")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a value of the recipe")
    parser.add_argument("--output", metavar="FILE.json", help="where to write the figures as well")


def add_convert_checkpoint(commands: Any) -> None:
    """`updown convert-checkpoint`."""
    parser = add_command(
        commands,
        "convert-checkpoint",
        run_convert_checkpoint,
        summary="turn another project's weights into a folder that from_pretrained loads",
        example="updown convert-checkpoint captioning-pytorch model.pth --config options.json --output converted/",
    )
    parser.add_argument("format", metavar="FORMAT", help="whose weights, such as captioning-pytorch")
    parser.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="a .safetensors, .pth, .pt or .bin file of tensors"
    )
    parser.add_argument("--config", type=Path, metavar="CONFIG.json", help="that project's options and vocabulary")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write")


def add_push(commands: Any) -> None:
    """`updown push`."""
    parser = add_command(
        commands,
        "push",
        run_push,
        summary="publish a saved model on the Hub, with its code and a card of measured figures",
        example="updown push runs/captioning/best my-name/my-captioner --dry-run --output published/",
    )
    parser.add_argument("folder", metavar="DIR", help="what save_pretrained wrote: weights, config, processor")
    parser.add_argument("repo_id", metavar="REPO", help="NAME or OWNER/NAME on the Hub")
    parser.add_argument("--dry-run", action="store_true", help="everything but the upload")
    parser.add_argument("--output", metavar="FOLDER", help="keep the folder as it stands on the Hub here")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument("--half", action="store_true", help="keep the weights in float16, half the size")
    parser.add_argument("--evaluation", metavar="FILE.json", help="figures for the card (default: DIR/evaluation.json)")


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def run_caption(arguments: argparse.Namespace) -> int:
    """Describe each photo; one that cannot be read is named and passed over."""
    from modeling_updown import draw_attention, load_photo

    photos = photo_paths(arguments.photos)
    captioner = load_captioner(arguments.model)
    options = {"num_beams": arguments.num_beams} if arguments.num_beams else {}
    broken = 0
    for path in photos:
        try:
            photo = load_photo(path)
        except (OSError, ValueError) as error:
            print(f"updown caption: skipped: {one_sentence(error)}", file=sys.stderr)
            broken += 1
            continue
        result = describe(captioner, photo, **options)
        print(f"{path}: {result['generated_text']}")
        if arguments.words:
            print_words(result, size=photo.size)
        if arguments.draw:
            picture = picture_path(arguments.draw, path, alone=len(photos) == 1)
            draw_attention(photo, result, path=picture)
            print(f"  drawn: {picture}")
    return exit_code(broken, of=len(photos))


def exit_code(broken: int, *, of: int) -> int:
    """0 where every photo was read, 1 where some were not, 2 where none was."""
    if not broken:
        return 0
    return 2 if broken == of else 1


def run_demo(arguments: argparse.Namespace) -> int:
    """Describe the photos of scikit-image, with the strongest region of each word and a picture of the attention."""
    from modeling_updown import draw_attention

    photos = demo_photos()
    captioner = load_captioner(arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, photo in photos.items():
        result = describe(captioner, photo)
        print(f"{name}: {result['generated_text']}")
        print_words(result, size=photo.size)
        picture = arguments.output / f"demo_{name}.png"
        draw_attention(photo, result, path=picture)
        print(f"  drawn: {picture}")
    return 0


def run_extract(arguments: argparse.Namespace) -> int:
    """Region features of every photo into a store."""
    paths = photo_paths(arguments.photos)
    names = [Path(path).name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"several photos are called {twice[0]}, which would be their id: extract the folders one by one"
        )

    from datasets import Dataset

    from training.extract_regions import extract_regions

    source, image_processor = load_region_source(arguments.source)
    rows = Dataset.from_dict({"image_id": names, "image": paths})
    broken = extract_regions(
        rows, source=source, image_processor=image_processor, output=arguments.output, batch_size=arguments.batch_size
    )
    print(f"{arguments.output}: the regions of {len(paths) - len(broken)} photos")
    return exit_code(len(broken), of=len(paths))


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Score, and print the figures."""
    from training.evaluate import evaluate_recipe

    evaluation = evaluate_recipe(
        arguments.recipe,
        model=arguments.model,
        predictions=arguments.predictions,
        split=arguments.split,
        num_beams=arguments.num_beams,
        output=arguments.output,
        changes=arguments.set,
        java=arguments.java,
    )
    print_figures(evaluation)
    return 0


def run_convert_checkpoint(arguments: argparse.Namespace) -> int:
    """Convert, and say where the result lies."""
    config = read_options(arguments.config) if arguments.config else None

    from training.convert_checkpoint import convert_checkpoint

    convert_checkpoint(arguments.format, arguments.weights, config=config, output=arguments.output)
    print(f"{arguments.output}: load it with from_pretrained, or `updown caption PHOTO --model {arguments.output}`")
    return 0


def run_push(arguments: argparse.Namespace) -> int:
    """Publish, or do everything but that."""
    from training.push_to_hub import push

    with quiet():
        place = push(
            arguments.folder,
            arguments.repo_id,
            dry_run=arguments.dry_run,
            output=arguments.output,
            private=arguments.private,
            evaluation=arguments.evaluation,
            half=arguments.half,
        )
    print(f"{place}: as it would stand at {arguments.repo_id}" if arguments.dry_run else f"published: {place}")
    return 0


def photo_paths(arguments: Sequence[str]) -> list[str]:
    """Files and URLs as they are, and each folder's photos in the order of their names.

    Raises `ValueError` for a folder without any photo.
    """
    paths = []
    for argument in arguments:
        if not Path(argument).is_dir():
            paths.append(argument)
            continue
        inside = sorted(str(path) for path in Path(argument).iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
        if not inside:
            raise ValueError(f"{argument} holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
        paths += inside
    return paths


def picture_path(picture: Path, photo: str, *, alone: bool) -> Path:
    """Where the attention of a photo is drawn: `look.png`, or `look_dog.png` where there are several photos."""
    return picture if alone else picture.with_stem(f"{picture.stem}_{Path(photo).stem}")


def model_folder(model: str | None) -> str:
    """The model that was asked for, or the trained captioner where it lies beside the code.

    Raises `ValueError` that says how to come by one.
    """
    if model is None:
        if not (TRAINED_CAPTIONER / "config.json").is_file():
            raise ValueError(
                f"the trained captioner is not at {TRAINED_CAPTIONER}: name a model with --model (a folder or a "
                "Hub id), or train one (accelerate launch -m training.train training/recipes/captioning_flickr8k.yaml)"
            )
        return str(TRAINED_CAPTIONER)
    if not Path(model).is_dir() and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise ValueError(f"there is no model folder {model}, and a Hub id is written OWNER/NAME")
    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise ValueError(f"{model} holds no config.json: give a folder that save_pretrained wrote")
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and notes, which bury the few lines that were asked for."""
    from transformers.utils import logging as notes

    notes.set_verbosity_error()
    notes.disable_progress_bar()
    yield


def load_captioner(model: str | None) -> Any:
    """The image-to-text pipeline of a model."""
    folder = model_folder(model)

    from transformers import pipeline

    import modeling_updown  # noqa: F401  registers the models and the task

    with quiet():
        return pipeline("image-to-text", model=folder)


def load_region_source(model: str | None) -> tuple[Any, Any]:
    """A saved region source, or the one that a saved model owns, and its image processor."""
    folder = model_folder(model)

    from transformers import AutoConfig, AutoImageProcessor, PreTrainedModel

    import modeling_updown

    with quiet():
        config = AutoConfig.from_pretrained(folder)
        kind = getattr(modeling_updown, (config.architectures or [""])[0], None)
        if not inspect.isclass(kind) or not issubclass(kind, PreTrainedModel):
            raise ValueError(f"{folder} holds none of UpDown's models, but {config.architectures}")
        loaded = kind.from_pretrained(folder)  # type: ignore[attr-defined]
        source = getattr(loaded, "region_source", loaded)
        if source is None:
            raise ValueError(f"the model in {folder} owns no region source: name one with --source")
        return source, AutoImageProcessor.from_pretrained(folder)


def demo_photos() -> dict[str, Any]:
    """A few photos that come inside scikit-image, by name."""
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError("the demo's photos come with scikit-image: pip install 'updown[demo]'") from error
    from modeling_updown import load_photo

    folder = Path(data.__file__).parent
    return {name: load_photo(folder / file) for name, file in DEMO_PHOTOS.items()}


def describe(captioner: Any, photo: Any, **options: Any) -> Mapping[str, Any]:
    """The pipeline's first caption of a photo, with its words and the regions they looked at."""
    result = captioner(photo, return_regions=True, **options)
    return result[0] if isinstance(result, list) else result


def print_words(result: Mapping[str, Any], *, size: tuple[int, int]) -> None:
    """Each word with its strongest region, in pixels of a photo of `size` (width, height)."""
    width, height = size
    for word, weights in zip(result["words"], result["region_weights"], strict=True):
        strongest = max(range(len(weights)), key=lambda region: float(weights[region]))
        left, top, right, bottom = (float(side) for side in result["region_boxes"][strongest])
        place = f"{left * width:.0f},{top * height:.0f} to {right * width:.0f},{bottom * height:.0f}"
        print(f"  {word:<14} {float(weights[strongest]):4.0%} on region {strongest} at {place} pixels")


def print_figures(evaluation: Mapping[str, Any]) -> None:
    """Each figure on a line, and what was not computed with its reason."""
    dataset = evaluation["dataset"]
    print(f"{dataset['name']} {dataset['split']}, {dataset.get('num_photos', '?')} photos")
    for name, value in evaluation["metrics"].items():
        print(f"  {name:<16} {value:8.2f}")
    for name, reason in evaluation.get("not_computed", {}).items():
        print(f"  {name:<16} not computed: {reason}")


def read_options(path: Path) -> dict[str, Any]:
    """A JSON file of options; errors name it."""
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} holds no options: it should be a JSON object")
    return options


if __name__ == "__main__":
    sys.exit(main())
