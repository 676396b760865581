"""Python programs in processes that have imported torch and transformers, but nothing of ours, before they start.

    run(command) --a line of JSON--> one server a test process, which imports once --fork--> the program

A new interpreter takes seconds to import those. A fork of one that has done so runs what a stranger's interpreter
would run, in a tenth of the time. What is tested in a new interpreter nevertheless: imports, a model that is uploaded
and loaded back (test_push.py), and a machine without `peft`.
"""

import contextlib
import functools
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OWN_PACKAGES = ("modeling_updown", "processors", "training", "tests")
PRELOADED = """
import peft, timm, torch, torchvision.transforms.v2.functional, transformers.pipelines, transformers.trainer_utils
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers import BertModel, GenerationMixin, GPT2LMHeadModel, PreTrainedTokenizerFast, dynamic_module_utils
from PIL import Image
Image.init()
"""


def run(
    command: list[str], *, env: Mapping[str, str] | None = None, cwd: str | Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """`subprocess.run` of `[sys.executable, "-P" or "-I" or neither, "-c" and a program or a file, ...]`.

    env: by default that of this process. `options` may only ask for what is done anyway. Raises `ValueError` for
    another command.
    """
    done_anyway = {"capture_output": True, "text": True, "check": False}
    if command[0] != sys.executable or any(done_anyway.get(name) != value for name, value in options.items()):
        raise ValueError("fresh_python runs Python programs alone, and captures what they print")
    arguments = command[2:] if command[1] in ("-P", "-I") else command[1:]
    env = dict(os.environ if env is None else env)
    if command[1] == "-I":
        env.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        request = {"arguments": arguments, "env": env, "cwd": str(cwd or os.getcwd()), "outputs": outputs}
        returncode = int(asked(request))
        stdout, stderr = (Path(path).read_text(encoding="utf-8") for path in outputs)
    return subprocess.CompletedProcess(command, returncode, stdout, stderr)


@functools.cache
def server() -> subprocess.Popen[str]:
    """The process that forks; it ends when this one does, since nobody writes to it then."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started = subprocess.Popen(
        [sys.executable, "-P", __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return started


def asked(request: dict[str, Any]) -> str:
    """The server's answer to a request: an exit code."""
    process = server()
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError("the server of fresh_python has ended; above stands what it said")
    return answer


def serve() -> None:
    """Answer each request on standard input with the exit code of its program."""
    gc.disable()
    exec(PRELOADED, {})
    found = [name for name in sys.modules if name.split(".")[0] in OWN_PACKAGES]
    assert not found, f"a stranger's interpreter has {found}"
    gc.enable()
    gc.freeze()  # so that a fork's collections leave the shared pages as they are
    for line in sys.stdin:
        process = os.fork()
        if not process:
            run_program(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def run_program(arguments: list[str], env: dict[str, str], cwd: str, outputs: list[str]) -> None:
    """Become the program that a new interpreter with these arguments and this environment would be; never returns."""
    returncode = 0
    try:
        enter(env, cwd, outputs)
        if arguments[0] == "-c":
            main = types.ModuleType("__main__")
            sys.modules["__main__"], sys.argv = main, ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as ending:
        returncode = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        if returncode and isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        returncode = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(returncode)


def enter(env: dict[str, str], cwd: str, outputs: list[str]) -> None:
    """Take over environment, folder and outputs; code that is loaded with a model goes where `env` says."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:0] = [place for place in env.get("PYTHONPATH", "").split(os.pathsep) if place]
    modules = env.get("HF_MODULES_CACHE") or os.path.join(env["HF_HOME"], "modules")
    sys.modules["transformers.dynamic_module_utils"].HF_MODULES_CACHE = modules  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve()
