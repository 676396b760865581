"""The releases that UpDown was tested with, and one warning where something newer is installed.

The table is written by `make lock`, from the environment that passed the tests.
"""

import warnings
from functools import cache
from importlib import metadata

TESTED = {
    "accelerate": "1.15",
    "datasets": "5.2",
    "evaluate": "0.4",
    "huggingface-hub": "2.4",
    "jinja2": "3.1",
    "matplotlib": "3.11",
    "numpy": "2.4",
    "pillow": "13.0",
    "pycocotools": "2.0",
    "pyyaml": "6.0",
    "safetensors": "0.8",
    "timm": "1.0",
    "tokenizers": "0.23",
    "torch": "2.14",
    "torchvision": "0.29",
    "transformers": "5.24",
}


@cache
def warn_of_newer_libraries() -> None:
    """Warn once of libraries whose minor release is newer than the tested one; what is not installed is passed over."""
    found = ((name, installed_version(name), tested) for name, tested in TESTED.items())
    newer = [
        f"{name} {version} (tested: {tested})" for name, version, tested in found if minor(version) > minor(tested)
    ]
    if newer:
        warnings.warn(
            f"UpDown has not been tested with {', '.join(newer)}. Should something fail, install the tested release",
            stacklevel=2,
        )


def installed_version(name: str) -> str:
    """A distribution's version, or "0" where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "0"


def minor(version: str) -> tuple[int, ...]:
    """Major and minor number of a release.

    >>> minor("2.14.1+cpu"), minor("5.25.0.dev0"), minor("26")
    ((2, 14), (5, 25), (26,))
    """
    numbers = []
    for part in version.partition("+")[0].split(".")[:2]:
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
