"""The door: light to import, complete, known to transformers without a word from the user, and not to be mistaken."""

import ast
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import transformers.pipelines
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForObjectDetection,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoTokenizer,
)

import modeling_updown
from modeling_updown import registration_updown
from modeling_updown.registration_updown import PublishedPipelines, Tripwire
from tests import tiny

CHECKOUT = Path(modeling_updown.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture
def tables() -> Iterator[list[Any]]:
    """Two tables with tripwires, and a list of the times that the classes were registered."""
    made = [SimpleNamespace(_extra_content={"theirs": 1}) for _ in range(2)]
    for table in made:
        Tripwire(table)
    yield made
    Tripwire.take_away()


def run_python(code: str, *, first_on_path: Path | None = None, check: bool = True) -> subprocess.CompletedProcess:
    """Run code in a fresh process that finds our packages, and `first_on_path` before them."""
    places = [str(place) for place in (first_on_path, CHECKOUT) if place is not None]
    prefix = f"import sys; sys.path[:0] = {places!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", prefix + textwrap.dedent(code)], capture_output=True, text=True, check=check
    )


@pytest.mark.parametrize("first", ["from modeling_updown import *", "from transformers import pipeline"])
def test_the_tasks_are_registered_whatever_is_imported_first(first: str) -> None:
    code = f"""
        import modeling_updown
        {first}
        from transformers.pipelines import PIPELINE_REGISTRY
        for task in ("image-to-text", "visual-question-answering", "vqa"):
            name, found, _ = PIPELINE_REGISTRY.check_task(task)
            print(name, found["impl"].__name__, found["pt"][0].__name__)
    """
    answerer = "visual-question-answering UpDownVisualQuestionAnsweringPipeline AutoModelForVisualQuestionAnswering"
    assert run_python(code).stdout.splitlines() == [
        "image-to-text UpDownImageToTextPipeline AutoModelForImageTextToText",
        answerer,
        answerer,
    ]


def test_every_name_is_there() -> None:
    for name in modeling_updown.HOMES:
        assert getattr(modeling_updown, name).__name__ == name
    assert set(modeling_updown.__all__) == set(modeling_updown.HOMES) <= set(dir(modeling_updown))
    with pytest.raises(AttributeError, match="no attribute 'UpDownGird'; its names are .*UpDownGrid"):
        _ = modeling_updown.UpDownGird


def test_names_of_type_checkers_are_those_of_the_door() -> None:
    tree = ast.parse(Path(modeling_updown.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: f"modeling_updown.{node.module}" if node.level else node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == modeling_updown.HOMES


def test_import_is_light() -> None:
    """At most 0.5 s over `import transformers`: it takes milliseconds, since nothing but two of our files is loaded."""
    result = run_python("""
        import json, time, transformers
        before, start = set(sys.modules), time.process_time()
        import modeling_updown
        print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - before)]))
    """)
    seconds, loaded = json.loads(result.stdout)
    assert seconds < 0.5
    assert loaded == ["modeling_updown", "modeling_updown.registration_updown"]


def test_first_look_registers(folder: Path) -> None:
    """In a fresh process: importing transformers' own modules does not load our models, the first Auto class does."""
    result = run_python(f"""
        import modeling_updown
        import transformers.modeling_layers, transformers.models.bert.modeling_bert, transformers.modelcard
        from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline
        print("modeling_updown.modeling_captioning" in sys.modules)
        print(type(AutoProcessor.from_pretrained({str(folder)!r})).__name__)
        print(type(AutoModelForImageTextToText.from_pretrained({str(folder)!r})).__name__)
        print(len(modeling_updown.registration_updown.Tripwire.placed))
        print(type(pipeline("image-to-text", model={str(folder)!r})).__name__)
    """)
    assert result.stdout.split() == [
        "False",
        "UpDownProcessor",
        "UpDownForImageCaptioning",
        "0",
        "UpDownImageToTextPipeline",
    ]


def test_auto_classes_know_ours(folder: Path) -> None:
    assert AutoConfig.for_model("updown_grid", grid_size=7).num_regions == 49
    assert isinstance(AutoConfig.from_pretrained(folder), modeling_updown.UpDownCaptioningConfig)
    assert isinstance(AutoModel.from_config(tiny.tiny_grid_config()), modeling_updown.UpDownGrid)
    detector = tiny.tiny_detector_config()
    for auto in (AutoModel, AutoModelForObjectDetection):
        assert isinstance(auto.from_config(detector), modeling_updown.UpDownDetector)
    assert AutoConfig.for_model("updown_detector", num_objects=80, num_attributes=0).num_labels == 81
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, modeling_updown.UpDownForImageCaptioning)
    assert isinstance(AutoProcessor.from_pretrained(folder), modeling_updown.UpDownProcessor)
    assert isinstance(AutoTokenizer.from_pretrained(folder), modeling_updown.UpDownTokenizer)
    assert isinstance(AutoImageProcessor.from_pretrained(folder), modeling_updown.UpDownImageProcessor)
    twin = AutoImageProcessor.from_pretrained(folder, backend="pil")
    assert isinstance(twin, modeling_updown.UpDownImageProcessorPil)
    assert twin.size["height"] == tiny.IMAGE_SIDE


def test_private_names_of_transformers_are_still_there() -> None:
    """Fails where a new transformers has moved what registration stands on: then read `registration_updown` again."""
    redirect = getattr(transformers.pipelines, "_resolve_deprecated_task", None)
    assert redirect is not None, "transformers no longer redirects dropped tasks in _resolve_deprecated_task"
    assert getattr(redirect, "func", None) is registration_updown.resolve_task
    for module, names in registration_updown.TABLES.items():
        for name in names:
            table = getattr(sys.modules[module], name)
            assert hasattr(table, "_extra_content"), f"{module}.{name} no longer keeps _extra_content"


def test_registering_again_changes_nothing() -> None:
    before = transformers.pipelines._resolve_deprecated_task, dict(transformers.pipelines.SUPPORTED_TASKS)
    registration_updown.register_pipelines(transformers.pipelines)
    assert (transformers.pipelines._resolve_deprecated_task, transformers.pipelines.SUPPORTED_TASKS) == before


def test_a_loader_of_many_modules_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pytest's is, which rewrites the modules that it is told of: only the watched one is acted on."""
    ran: list[str] = []
    acted: list[str] = []
    loader = SimpleNamespace(exec_module=lambda module: ran.append(module.__name__))
    finder = SimpleNamespace(find_spec=lambda name, path, target: SimpleNamespace(loader=loader))
    monkeypatch.setattr(sys, "meta_path", [registration_updown.Watcher(), finder])
    monkeypatch.setitem(registration_updown.WATCHED, "watched", lambda module: acted.append(module.__name__))
    for _ in range(2):
        assert sys.meta_path[0].find_spec("watched", None, None).loader is loader  # type: ignore[union-attr]
    for name in ("watched", "other"):
        loader.exec_module(ModuleType(name))
    assert ran == ["watched", "other"] and acted == ["watched"]


def test_question_answerers_are_known(tmp_path: Path) -> None:
    folder = tiny.save_tiny_vqa(tmp_path)
    model = AutoModelForVisualQuestionAnswering.from_pretrained(folder)
    assert isinstance(model, modeling_updown.UpDownForVisualQuestionAnswering)
    assert isinstance(AutoProcessor.from_pretrained(folder), modeling_updown.UpDownProcessor)
    loaded = transformers.pipelines.pipeline("vqa", model=str(folder), device="cpu")
    assert type(loaded) is modeling_updown.UpDownVisualQuestionAnsweringPipeline
    assert modeling_updown.normalize_answer("Two dogs!") == "2 dogs"


def test_other_tasks_are_left_to_transformers() -> None:
    assert transformers.pipelines.check_task("image-to-text")[0] == "image-to-text"
    for name in ("vqa", "visual-question-answering"):
        assert transformers.pipelines.check_task(name)[0] == "visual-question-answering"
    assert transformers.pipelines.check_task("ner")[0] == "token-classification"
    with pytest.raises(KeyError, match="has been removed"):
        transformers.pipelines.check_task("summarization")


def test_published_pipelines_are_kept_but_not_shown() -> None:
    config = modeling_updown.UpDownCaptioningConfig(custom_pipelines={"image-to-text": {"impl": "a.B"}})
    assert isinstance(type(config).__dict__["custom_pipelines"], PublishedPipelines)
    assert config.custom_pipelines == {}
    assert config.to_dict()["custom_pipelines"] == {"image-to-text": {"impl": "a.B"}}
    assert "custom_pipelines" not in modeling_updown.UpDownCaptioningConfig().to_dict()


@pytest.mark.parametrize(
    "look",
    [
        len,
        list,
        dict,
        lambda entries: entries.get("updown_grid"),
        lambda entries: entries.get(modeling_updown.UpDownGridConfig),
    ],
)
def test_any_look_at_a_table_registers_once(look: Any, tables: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def register() -> None:
        calls.append(list(tables[0]._extra_content))  # registering looks as well, and must not start again
        tables[0]._extra_content["updown_grid"] = 2

    monkeypatch.setattr(registration_updown, "register_classes", register)
    tables[1]._extra_content["late"] = 3  # another package registers and looks up its own: no reason to load ours
    assert tables[1]._extra_content["late"] == 3
    assert "bert" not in tables[1]._extra_content
    assert not calls
    wire = tables[1]._extra_content
    look(wire)
    look(wire)
    assert calls == [["theirs"]]
    assert [table._extra_content for table in tables] == [{"theirs": 1, "updown_grid": 2}, {"theirs": 1, "late": 3}]


def test_failed_registration_is_tried_again(tables: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("No module named 'timm'")

    monkeypatch.setattr(registration_updown, "register_classes", fail)
    for _ in range(2):
        with pytest.raises(ImportError, match="timm"):
            "updown_grid" in tables[0]._extra_content  # noqa: B015
    monkeypatch.setattr(registration_updown, "register_classes", lambda: tables[0]._extra_content.update(updown_grid=2))
    assert "updown_grid" in tables[0]._extra_content


def test_second_thread_waits_for_registration(tables: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def register_slowly() -> None:
        time.sleep(0.1)
        tables[0]._extra_content["updown_grid"] = 2

    monkeypatch.setattr(registration_updown, "register_classes", register_slowly)
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append("updown_grid" in tables[0]._extra_content)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4


def test_tables_kept_otherwise_are_filled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(registration_updown, "register_classes", lambda: calls.append(1))
    name = "transformers.models.auto.processing_auto"
    registration_updown.place_tripwires(SimpleNamespace(__name__=name, PROCESSOR_MAPPING={}))  # type: ignore[arg-type]
    assert calls == [1]


@pytest.mark.parametrize("intruder", ["processors/__init__.py", "processors.py"])
def test_foreign_processors_are_refused(intruder: str, tmp_path: Path) -> None:
    (tmp_path / intruder).parent.mkdir(exist_ok=True)
    (tmp_path / intruder).write_text("names = []\n")
    result = run_python("import modeling_updown", first_on_path=tmp_path, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: modeling_updown needs its own package `processors`, but Python finds")
    assert str(tmp_path / intruder) in last
    assert f"put {CHECKOUT} before it on PYTHONPATH" in last


def test_foreign_processors_imported_earlier_are_refused(tmp_path: Path) -> None:
    (tmp_path / "processors.py").write_text("")
    code = f"sys.path.insert(0, {str(tmp_path)!r}); import processors; del sys.path[0]; import modeling_updown"
    assert str(tmp_path / "processors.py") in run_python(code, check=False).stderr


def test_empty_folder_named_processors_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "processors").mkdir()
    code = "import modeling_updown; print(modeling_updown.HOMES['load_image'])"
    assert run_python(code, first_on_path=tmp_path).stdout == "processors\n"


@pytest.mark.parametrize(("old", "new"), modeling_updown.OLD_NAMES.items())
def test_names_of_before_work_on(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"^{old} is now called {new}$"):
        found = getattr(modeling_updown, old)
    assert found is getattr(modeling_updown, new) and old not in modeling_updown.__all__
