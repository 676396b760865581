"""The README as a newcomer uses it: its Python runs as written, its commands parse, what it names is there."""

import re
import shlex
from pathlib import Path

import pytest

from training import cli
from training.recipe import recipe_path
from training.shipped import published

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
YOUR_MODEL = "my-name/my-captioner"  # no such repository: a folder stands in for it
CAPTIONER = str(published("updown-captioning-flickr8k"))
BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", README)


def commands(text: str, program: str) -> list[str]:
    """The command lines of a text's blocks and examples, continued lines as one."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip().startswith(f"{program} ")]


# the first is run below, the Trainer's on a small model in modeling_updown/test_trainer.py
@pytest.mark.parametrize("block", [block for block in BLOCKS[1:] if "TrainingArguments" not in block])
def test_python_runs_as_written(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    exec(compile(block.replace(YOUR_MODEL, CAPTIONER), "README.md", "exec"), {})


def test_the_first_caption_is_the_one_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    *lines, call, shown = BLOCKS[0].strip().splitlines()
    names: dict[str, object] = {}
    exec("\n".join(lines), names)
    assert eval(call, names) == eval(shown.removeprefix("# "))


def test_the_demo_prints_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Captions and regions; the percentages may round otherwise elsewhere. Drawing takes most of the time."""
    monkeypatch.setattr("modeling_updown.draw_attention", lambda *_, **__: None)
    block = next(block for block in re.findall(r"(?ms)^```\n(.*?)^```", README) if block.startswith("elephant: "))
    assert cli.main(["demo", "--output", str(tmp_path)]) == 0
    printed = [re.sub(r" +\d+%", "", line) for line in capsys.readouterr().out.splitlines()]
    for line in block.splitlines():
        if line.strip() != "..." and "drawn:" not in line:
            assert re.sub(r" +\d+%", "", line) in printed


@pytest.mark.parametrize("text", [README, TRAINING, cli.EXAMPLES], ids=["README", "training/README", "--help"])
def test_commands_parse(text: str) -> None:
    lines = commands(text, "updown")
    assert lines
    for line in lines:
        line = re.split(r"\s{3,}[a-z]", line)[0]  # --help explains its examples after a gap
        words = shlex.split(line, comments=True)[1:]
        if words == ["--version"]:
            continue
        parsed = cli.build_parser().parse_args(words)
        if hasattr(parsed, "recipe") and parsed.recipe != "RECIPE" and not parsed.recipe.startswith("runs/"):
            assert recipe_path(parsed.recipe).is_file(), line


@pytest.mark.parametrize("text", [README, TRAINING, cli.EXAMPLES], ids=["README", "training/README", "--help"])
def test_trained_recipes_come_along(text: str) -> None:
    named = re.findall(r"-m training\.train ([\w./]+)", text)
    assert named and all(recipe_path(name).is_file() for name in named if name not in ("RECIPE", "RECIPE.yaml"))


def test_targets_are_in_the_makefile() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(re.findall(r"`make ([a-z-]+)`", README)) | {"demo", "test"} <= set(targets)


@pytest.mark.parametrize(
    ("text", "folder"), [(README, ROOT), (TRAINING, ROOT / "training")], ids=["README", "training"]
)
def test_links_lead_somewhere(text: str, folder: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", text):
        assert target.startswith("https://") or (folder / target).exists(), target
    for path in re.findall(r"(?:training/demo_photos|hub_cards)/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path
