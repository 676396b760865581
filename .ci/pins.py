"""Exact versions: the oldest ones that setup.py allows, and those of an environment that passed the tests.

    python .ci/pins.py oldest                           -> `name==version` for every stated lower bound
    ENVIRONMENT/bin/python .ci/pins.py lock             -> constraints.txt and TESTED in versions_updown.py, rewritten

Called by the Makefile; nothing outside the standard library is needed.
"""

import platform
import re
import runpy
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
TESTED_HOME = ROOT / "modeling_updown" / "versions_updown.py"
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<lowest>[\d.]+)(?P<upper>,<[\d.]+)?")
NOT_LOCKED = {"pip", "modeling-updown"}  # what installs, and we ourselves
# what torch brings for NVIDIA's GPUs; other systems get other versions or none
GPU_ONLY = re.compile(r"nvidia-|cuda-|triton$")
HEADER = """\
# What `make demo` and `make test` install: resolved on {system} {machine} with Python {python}.
# `make lock` resolves it anew, runs style, types and tests, and only then writes it.
"""


def main(arguments: list[str]) -> int:
    """Run one of the two verbs."""
    if arguments == ["oldest"]:
        print("\n".join(oldest()))
        return 0
    if arguments == ["lock"]:
        pins = installed()
        LOCK.write_text(lock_text(pins), encoding="utf-8")
        TESTED_HOME.write_text(with_tested(TESTED_HOME.read_text(encoding="utf-8"), pins), encoding="utf-8")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


def requirements(*extras: str) -> dict[str, str]:
    """Normalized name -> lowest version of what setup.py requires, and of its extras.

    Raises `ValueError` for a requirement without a lower bound.
    """
    setup = runpy.run_path(str(ROOT / "setup.py"))
    lowest = {}
    for line in [*setup["REQUIRED"], *(line for extra in extras for line in setup["EXTRAS"][extra])]:
        parts = REQUIREMENT.fullmatch(line)
        if not parts:
            raise ValueError(f"setup.py: {line!r} is not written NAME>=LOWEST, or NAME>=LOWEST,<LIMIT")
        lowest[normalized(parts["name"])] = parts["lowest"]
    return lowest


def oldest() -> list[str]:
    """A pin at the lower bound of everything that the tests need."""
    return [f"{name}=={lowest}" for name, lowest in sorted(requirements("test").items())]


def normalized(name: str) -> str:
    """A distribution's name as the package index writes it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Normalized name -> version of this environment's distributions, without the build that a version may name."""
    found = {normalized(each.metadata["Name"]): each.version.partition("+")[0] for each in metadata.distributions()}
    return {name: found[name] for name in sorted(found) if name not in NOT_LOCKED}


def lock_text(pins: dict[str, str]) -> str:
    """The lock: a pin a line; those of one system only are marked so, and other systems pass over them."""
    system, machine = platform.system(), platform.machine()
    here = f'sys_platform == "{sys.platform}" and platform_machine == "{machine}"'
    lines = [f"{name}=={pin}" + (f" ; {here}" if GPU_ONLY.match(name) else "") for name, pin in pins.items()]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return HEADER.format(system=system, machine=machine, python=python) + "\n".join(lines) + "\n"


def with_tested(text: str, pins: dict[str, str]) -> str:
    """The module with the minor release of each required library put into its table `TESTED`."""
    minors = {name: ".".join(pins[name].split(".")[:2]) for name in requirements()}
    table = "".join(f'    "{name}": "{minor}",\n' for name, minor in sorted(minors.items()))
    written, count = re.subn(r"(?s)(?<=\nTESTED = \{\n).*?(?=\}\n)", table, text)
    if count != 1:
        raise ValueError("modeling_updown/versions_updown.py holds no table `TESTED = {...}`")
    return written


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
