"""`updown convert-checkpoint`: another project's weights -> a folder that from_pretrained loads."""

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from training.commands.shared import add_command
from training.console import say
from training.data.files import read_lines, read_text

FORMAT_HELP = "captioning-pytorch, vqa-pytorch, frcnn-vg, detectron2-vg, uniter, visualbert or moment-detr"
COMMANDS = {  # model type -> a command that tries the converted model
    "updown_captioning": "updown caption IMAGE --model {folder}",
    "updown_vqa": 'updown ask IMAGE "QUESTION?" --model {folder}',
    "updown_detector": "updown detect IMAGE --model {folder}",
}


def add_convert_checkpoint(commands: Any) -> None:
    """`updown convert-checkpoint`."""
    parser = add_command(
        commands,
        "convert-checkpoint",
        run_convert_checkpoint,
        summary="turn another project's weights into a folder that from_pretrained loads",
        example="updown convert-checkpoint captioning-pytorch model.pth --config options.json --output converted/\n"
        "  updown convert-checkpoint frcnn-vg model.bin --config config.yaml --objects objects_vocab.txt "
        "--attributes attributes_vocab.txt --output detector/",
    )
    parser.add_argument("format", metavar="FORMAT", help=FORMAT_HELP)
    parser.add_argument(
        "weights", type=Path, metavar="WEIGHTS", help="a .safetensors, .pth, .pt or .bin file of tensors"
    )
    parser.add_argument("--config", type=Path, metavar="CONFIG", help="that project's options and words, JSON or YAML")
    parser.add_argument("--objects", type=Path, metavar="FILE.txt", help="a detector's object names, one per line")
    parser.add_argument(
        "--attributes", type=Path, metavar="FILE.txt", help="a detector's attribute names, one per line"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write")


def run_convert_checkpoint(arguments: argparse.Namespace) -> int:
    """Convert, and print how the result is used."""
    config = read_options(arguments.config) if arguments.config else {}

    from training.convert.checkpoint import convert_checkpoint

    for name in ("objects", "attributes"):
        if getattr(arguments, name):
            config[name] = read_lines(getattr(arguments, name))
    converted = convert_checkpoint(arguments.format, arguments.weights, config=config, output=arguments.output)
    command = COMMANDS.get(converted.model.config.model_type)
    if type(converted.model).__name__ == "UpDownFusionForVisualQuestionAnswering":
        command = 'updown ask IMAGE "QUESTION?" --model {folder} --regions DETECTOR'
    if type(converted.model).__name__ == "UpDownFusionForGrounding":
        command = 'updown ground IMAGE "EXPRESSION" --model {folder} --regions DETECTOR'
    tried = "" if command is None else f", or `{command.format(folder=arguments.output)}`"
    say(f"{arguments.output}: load it with {type(converted.model).__name__}.from_pretrained{tried}")
    return 0


def read_options(path: Path) -> dict[str, Any]:
    """The options in a JSON file, or in a YAML file if its name says so; raises `ValueError` naming the file."""
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    try:
        text = read_text(path)
        options = yaml.safe_load(text) if is_yaml else json.loads(text)
    except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not valid {'YAML' if is_yaml else 'JSON'}: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} holds no options: it should be a {'YAML mapping' if is_yaml else 'JSON object'}")
    return options
