"""The rules of the house that a machine can check: sizes, documentation, directions of import, what is installed."""

import ast
import re
import runpy
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig

from modeling_updown import choice_words_updown, detector_batch_updown, losses_updown
from modeling_updown.saving_updown import write_code
from processors import masking_updown, region_batching_updown, region_links_updown
from training.publish.push import code_files

ROOT = Path(__file__).resolve().parents[1]
CODE_FOLDERS = ("modeling_updown", "processors", "training")
LONGEST_FILE, LONGEST_FUNCTION, LARGEST_FILE_BYTES = 600, 60, 2**20
# short methods that say all by their name, and overrides that transformers documents
SELF_EXPLAINING_LINES = 6
# never part of a published folder
AT_THE_DOOR = {
    *("__init__.py", "registration_updown.py", "open_names_updown.py"),
    *("drawing_updown.py", "drawing_boxes_updown.py", "drawing_regions_updown.py", "drawing_phrases_updown.py"),
}
# the files that may use what other libraries do not document
TOUCHING_OTHERS = {"compat_updown.py", "registration_updown.py", "code_updown.py"}
UNDOCUMENTED = {
    *("get_relative_imports", "get_relative_import_files", "custom_object_save", "cached_file"),
    *("pt_utils", "create_causal_mask", "is_compileable", "base_layer", "generate_random_fingerprint"),
}
OWN_IMPORTS = re.compile(r"^\s*(?:from|import)\s+(modeling_updown|processors|training)\b", flags=re.MULTILINE)
# of training/, the lowest first
LAYERS = (
    ("data",),
    ("convert", "metrics", "text"),
    ("regions",),
    ("scenes", "search", "teachers"),
    ("tasks",),
    ("probes", "publish"),
    ("commands",),
)
TRAINING_IMPORTS = re.compile(r"^\s*(?:from|import)\s+training\.(\w+)", flags=re.MULTILINE)
# homes and scratch folders of some machine; put together so that this file does not name them itself
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:" + "|".join(("home", "root", "tmp", "work", "Users", "mnt")) + r")/\w")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: str) -> list[Path]:
    """Every Python file of ours in the folders, and setup.py where all are meant."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return found if folders == ("tests",) else [*found, ROOT / "setup.py"]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def published_files() -> list[Path]:
    """The project's files: what git tracks, else (in an unpacked archive) everything that is not hidden or made."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    return [path for path in paths if path.is_file()] or [
        path for folder in (*CODE_FOLDERS, "tests") for path in (ROOT / folder).rglob("*.py")
    ]


@pytest.mark.parametrize("path", python_files(*CODE_FOLDERS, "tests"), ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE, "split the file"
    in_tests = path.is_relative_to(ROOT / "tests")
    long = [
        f"{function.name} has {length} lines"
        for function in functions(ast.parse(text))
        if (length := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION and not in_tests
    ]
    assert not long


@pytest.mark.parametrize("path", python_files(*CODE_FOLDERS), ids=name_of)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module says neither what it is nor where it stands"
    undocumented = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, Function | ast.ClassDef)
        and not node.name.startswith("_")
        and node.name != "forward"  # what a model takes stands in its class's docstring
        and not ast.get_docstring(node)
        and (isinstance(node, ast.ClassDef) or (node.end_lineno or 0) - node.lineno >= SELF_EXPLAINING_LINES)
    ]
    assert not undocumented


@pytest.mark.parametrize("path", python_files(*CODE_FOLDERS), ids=name_of)
def test_no_function_hides_in_another(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nested = [inner.name for outer in functions(tree) for inner in functions(outer) if inner is not outer]
    assert not nested


@pytest.mark.parametrize("path", published_files(), ids=name_of)
def test_no_file_is_large_or_names_a_machine(path: Path) -> None:
    if path.suffix == ".safetensors" and path.is_relative_to(ROOT / "hub_cards"):
        return  # the published weights themselves
    content = path.read_bytes()
    assert len(content) <= LARGEST_FILE_BYTES, "large files stay out of the repository"
    if b"\0" in content:
        return
    text = content.decode("utf-8")
    assert not MACHINE_PATHS.findall(text)
    assert not re.findall(r"\b(?:TODO|FIXME|XXX)\b", text) or path == Path(__file__)


@pytest.mark.parametrize("folder", sorted(path.parent for path in ROOT.glob("hub_cards/*/config.json")), ids=name_of)
def test_published_code_is_linked(folder: Path, tmp_path: Path) -> None:
    """A folder in hub_cards is laid out as its Hub repository, its code as links; `make cards` brings it up to date."""
    config = AutoConfig.from_pretrained(folder)
    write_code(tmp_path, code_files(folder, config), config=config)
    found = {path.name: path for path in folder.glob("*.py")}
    assert {name: path.read_text() for name, path in found.items()} == {
        path.name: path.read_text() for path in tmp_path.glob("*.py")
    }, "run `make cards`"
    generated = {name for name, path in found.items() if not path.is_symlink()}
    assert generated <= {"region_sources_updown.py"}  # which names the region source that this folder's model owns
    for name in found.keys() - generated:
        sources = {("..", "..", package, name) for package in ("modeling_updown", "processors")}
        assert found[name].readlink().parts in sources


def test_private_names_of_others_have_one_home() -> None:
    """What other libraries keep private, or do not document, is used where test_compat.py watches over it."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in python_files(*CODE_FOLDERS)}
    own = {name for tree in trees.values() for node in ast.walk(tree) for name in names_made(node)}
    own.add("_replace")  # of a NamedTuple, where it is public
    used = [
        f"{name_of(path)} uses {name}"
        for path, tree in trees.items()
        if path.name not in TOUCHING_OTHERS
        for node in ast.walk(tree)
        for name in names_used(node)
        if name in UNDOCUMENTED or (re.match("_[a-z]", name) and name not in own)
    ]
    assert not used


def names_made(node: ast.AST) -> list[str]:
    """The names that a node defines or sets."""
    if isinstance(node, Function | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
        return [node.attr] if node.value.id in ("self", "cls") else []
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def names_used(node: ast.AST) -> list[str]:
    """The attributes and imported names that a node reads, those named by a string among them."""
    if isinstance(node, ast.Attribute):
        return [node.attr]
    if isinstance(node, ast.ImportFrom):
        return [alias.name for alias in node.names]
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    if named and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):  # type: ignore[attr-defined]
        return [str(node.args[1].value)]  # type: ignore[attr-defined]
    return []


def test_data_flows_one_way() -> None:
    """Files that go to the Hub know only their siblings; the models meet the processors at the public door."""
    for folder, allowed in (("processors", set()), ("modeling_updown", AT_THE_DOOR)):
        for path in (ROOT / folder).glob("*.py"):
            text = re.sub(r'"""(?s:.*?)"""', "", path.read_text(encoding="utf-8"))  # examples import the public door
            assert path.name in allowed or not OWN_IMPORTS.findall(text), path
            assert "from .." not in text, path


def test_folders_of_training_import_downwards_only() -> None:
    """A folder imports itself and folders of layers before its own."""
    layer_of = {folder: number for number, folders in enumerate(LAYERS) for folder in folders}
    folders = [path.parent for path in (ROOT / "training").glob("*/__init__.py")]
    assert {folder.name for folder in folders} == layer_of.keys()
    upwards = [
        f"{name_of(path)} imports training.{found}"
        for folder in folders
        for path in folder.rglob("*.py")
        for found in TRAINING_IMPORTS.findall(path.read_text(encoding="utf-8"))
        if found != folder.name and layer_of.get(found, -1) >= layer_of[folder.name]
    ]
    assert not upwards


def test_hub_files_have_names_of_their_own() -> None:
    """They lie flat in one folder there."""
    names = [path.name for folder in ("modeling_updown", "processors") for path in (ROOT / folder).glob("[!_]*.py")]
    assert len(names) == len(set(names))


def test_facts_that_two_packages_state_agree() -> None:
    """Their published files cannot import each other."""
    assert losses_updown.IGNORED_LABEL == masking_updown.IGNORED_LABEL == torch.nn.CrossEntropyLoss().ignore_index
    assert choice_words_updown.NO_REGION == region_links_updown.NO_REGION
    assert detector_batch_updown.BOX_TOLERANCE == region_batching_updown.BOX_SLACK


def test_setup_lists_every_package() -> None:
    """Every folder of code has an `__init__.py`, without which it would not be installed."""
    listed = runpy.run_path(str(ROOT / "setup.py"))["PACKAGES"]
    folders = {path.parent.relative_to(ROOT) for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert sorted(listed) == sorted(".".join(folder.parts) for folder in folders)


@pytest.mark.parametrize("path", sorted((ROOT / "training" / "recipes").glob("*/*.yaml")), ids=name_of)
def test_recipes_parse_and_open_with_their_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert isinstance(yaml.safe_load(text), dict)
    assert text.startswith("# ") and name_of(path) in text.splitlines()[0]


def test_licence_is_there() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text and "APPENDIX" in text
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["license"] == "Apache-2.0"


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and "make test" in script.read_text(encoding="utf-8")
    targets = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    assert {
        "demo",
        "test",
        "lint",
        "format",
        "benchmarks",
        "common-tests",
        "test-oldest",
        "test-newest",
        "lock",
    } <= set(re.findall(r"make ([a-z-]+)", targets))


def test_tests_have_no_network() -> None:
    with pytest.raises(OSError, match="without a network, yet one looks up hub.example"):
        socket.create_connection(("hub.example", 80), timeout=1)
    with socket.socket() as client, pytest.raises(OSError, match="without a network, yet one connects to 192.0.2.1"):
        client.connect(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass  # loopback is free
