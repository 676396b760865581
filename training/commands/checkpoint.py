"""`updown convert-checkpoint`: another project's weights -> a folder that from_pretrained loads."""

import argparse
import json
from pathlib import Path
from typing import Any

from training.commands.shared import add_command


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


def run_convert_checkpoint(arguments: argparse.Namespace) -> int:
    """Convert, and say where the result lies."""
    config = read_options(arguments.config) if arguments.config else None

    from training.convert_checkpoint import convert_checkpoint

    convert_checkpoint(arguments.format, arguments.weights, config=config, output=arguments.output)
    print(f"{arguments.output}: load it with from_pretrained, or `updown caption PHOTO --model {arguments.output}`")
    return 0


def read_options(path: Path) -> dict[str, Any]:
    """A JSON file of options; errors name it."""
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(options, dict):
        raise ValueError(f"{path} holds no options: it should be a JSON object")
    return options
