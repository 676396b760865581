"""The door: light to import, complete, known to transformers without a word from the user, and not to be mistaken."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers.pipelines
from transformers import (
    CONFIG_MAPPING,
    IMAGE_PROCESSOR_MAPPING,
    PROCESSOR_MAPPING,
    TOKENIZER_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForObjectDetection,
    AutoModelForVisualQuestionAnswering,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import ModelOutput

import modeling_updown
from modeling_updown import configuration_updown, registration_updown
from modeling_updown.heads_updown import (
    ANY_WORDS,
    ARCHITECTURES,
    HEADS,
    OWN_WORDS,
    PIPELINES,
    REGION_SOURCES,
    Architecture,
    Head,
    heads_of,
)
from modeling_updown.modeling_base import CHECKING_PIPELINES
from modeling_updown.registration_updown import PublishedPipelines
from tests import fresh_python, tiny

CHECKOUT = Path(modeling_updown.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_captioner(tmp_path_factory.mktemp("captioner"))


def run_python(
    code: str, *, first_on_path: Path | None = None, check: bool = True, run: Callable[..., Any] = fresh_python.run
) -> subprocess.CompletedProcess[str]:
    """Run code in a process that finds our packages, and `first_on_path` before them.

    run: `subprocess.run` where nothing may be imported before; else torch and transformers are.
    """
    places = [str(place) for place in (first_on_path, CHECKOUT) if place is not None]
    prefix = f"import sys; sys.path[:0] = {places!r}\n"
    done: subprocess.CompletedProcess[str] = run(
        [sys.executable, "-I", "-c", prefix + textwrap.dedent(code)], capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stderr
    return done


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
    assert run_python(code, run=subprocess.run).stdout.splitlines() == [
        "image-to-text UpDownImageToTextPipeline AutoModelForImageTextToText",
        answerer,
        answerer,
    ]


@pytest.mark.parametrize("first", ["from transformers import pipeline", "import modeling_updown"])
def test_published_folders_need_no_flag_whatever_is_imported_first(first: str) -> None:
    """Of every config `custom_pipelines` reads empty; `pipeline()` refuses others without `trust_remote_code=True`."""
    code = f"""
        {first}
        import modeling_updown
        from modeling_updown.heads_updown import ARCHITECTURES
        for kind in ARCHITECTURES:
            config = getattr(modeling_updown, kind.config)()
            config.custom_pipelines = {{"task": 1}}
            print(kind.config, config.custom_pipelines)
    """
    said = run_python(code, run=subprocess.run).stdout.splitlines()
    assert said == [f"{kind.config} {{}}" for kind in ARCHITECTURES]


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
    """At most 0.5 s over `import transformers`: it takes milliseconds, since only three of our files are loaded."""
    result = run_python(
        """
        import json, time, transformers
        before, start = set(sys.modules), time.process_time()
        import modeling_updown
        print(json.dumps([time.process_time() - start, sorted(set(sys.modules) - before)]))
    """,
        run=subprocess.run,
    )
    seconds, loaded = json.loads(result.stdout)
    assert seconds < 0.5
    assert loaded == [
        "modeling_updown",
        "modeling_updown.heads_updown",
        "modeling_updown.registration_updown",
        *(f"transformers.models.{kind.model_type}" for kind in sorted(ARCHITECTURES)),
    ]


def test_first_look_imports(folder: Path) -> None:
    """In a fresh process: importing transformers' own modules does not load our models, looking for them does."""
    result = run_python(
        f"""
        import modeling_updown
        import transformers.modeling_layers, transformers.models.bert.modeling_bert, transformers.modelcard
        from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline
        print("modeling_updown.modeling_captioning" in sys.modules)
        print(type(AutoProcessor.from_pretrained({str(folder)!r})).__name__)
        print(type(AutoModelForImageTextToText.from_pretrained({str(folder)!r})).__name__)
        print(type(pipeline("image-to-text", model={str(folder)!r})).__name__)
    """,
        run=subprocess.run,
    )
    assert result.stdout.split() == [
        "False",
        "UpDownProcessor",
        "UpDownForImageCaptioning",
        "UpDownImageToTextPipeline",
    ]


def test_tables_that_are_there_already_are_filled(folder: Path) -> None:
    result = run_python(f"""
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, pipeline
        import modeling_updown
        print("modeling_updown.modeling_captioning" in sys.modules)
        print(type(AutoModelForImageTextToText.from_pretrained({str(folder)!r})).__name__)
        print(type(pipeline("image-to-text", model={str(folder)!r})).__name__)
    """)
    assert result.stdout.split() == ["False", "UpDownForImageCaptioning", "UpDownImageToTextPipeline"]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.model} by {head.auto.name}")
def test_every_line_of_the_table_holds(head: Head) -> None:
    model, config = getattr(modeling_updown, head.model), getattr(modeling_updown, head.architecture.config)
    assert model.config_class is config and config.model_type == head.architecture.model_type
    assert getattr(transformers, head.auto.name)._model_mapping[config] is model
    assert CONFIG_MAPPING[head.architecture.model_type] is config
    assert issubclass(getattr(modeling_updown, head.output), ModelOutput)
    assert head.output in inspect.getsource(sys.modules[model.__module__])


@pytest.mark.parametrize("kind", ARCHITECTURES, ids=lambda kind: kind.model_type)
def test_inputs_of_every_architecture_are_known(kind: Architecture) -> None:
    config = getattr(modeling_updown, kind.config)
    backends = {"torchvision": modeling_updown.UpDownImageProcessor, "pil": modeling_updown.UpDownImageProcessorPil}
    assert IMAGE_PROCESSOR_MAPPING[config] == backends
    expected = {None: None, OWN_WORDS: modeling_updown.UpDownTokenizer, ANY_WORDS: PreTrainedTokenizerFast}
    assert TOKENIZER_MAPPING.get(config, None) is expected[kind.tokenizer]
    assert PROCESSOR_MAPPING.get(config, None) is (modeling_updown.UpDownProcessor if kind.tokenizer else None)


def test_every_model_has_a_line() -> None:
    """Every class of a modeling file that can be called; the others share code."""
    found = {
        name
        for file in Path(modeling_updown.__file__).parent.glob("modeling_*.py")
        for name, kind in vars(importlib.import_module(f"modeling_updown.{file.stem}")).items()
        if isinstance(kind, type) and issubclass(kind, PreTrainedModel) and kind.forward is not PreTrainedModel.forward
    }
    assert found == {head.model for head in HEADS}


def test_region_sources_are_those_that_models_import() -> None:
    """The published files have a table of their own, of what a model may own."""
    lines = [heads_of(kind.model_type)[0] for kind in REGION_SOURCES]
    assert {
        head.architecture.model_type: (
            getattr(configuration_updown, head.architecture.config),
            f"{head.file}.{head.model}",
        )
        for head in lines
    } == configuration_updown.REGION_SOURCES


def test_our_pipelines_check_the_weights_themselves() -> None:
    assert set(CHECKING_PIPELINES) == set(PIPELINES)


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


def test_registering_again_changes_nothing() -> None:
    before = transformers.pipelines._resolve_deprecated_task, dict(transformers.pipelines.SUPPORTED_TASKS)
    registration_updown.register_pipelines()
    assert (transformers.pipelines._resolve_deprecated_task, transformers.pipelines.SUPPORTED_TASKS) == before


def test_a_module_keeps_its_own_loader() -> None:
    """The hook acts once a module has run, and leaves it as it is: its source is found, and it can be loaded again."""
    result = run_python(
        """
        import inspect
        from importlib import reload
        from importlib.machinery import SourceFileLoader
        from modeling_updown.registration_updown import AFTER_IMPORT
        AFTER_IMPORT["colorsys"] = lambda module: print("acted on", module.rgb_to_hls.__name__)
        import colorsys, quopri
        import colorsys
        print(type(colorsys.__loader__) is type(colorsys.__spec__.loader) is SourceFileLoader)
        print(len(inspect.getsource(colorsys)) > 1000)
        reload(colorsys)
    """,
        run=subprocess.run,
    )
    assert result.stdout.splitlines() == ["acted on rgb_to_hls", "True", "True", "acted on rgb_to_hls"]


def test_a_module_that_fails_is_not_acted_on(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    code = """
        from modeling_updown.registration_updown import AFTER_IMPORT
        AFTER_IMPORT["broken"] = print
        for name in ("broken", "absent"):
            try:
                __import__(name)
            except Exception as error:
                print(type(error).__name__)
    """
    assert run_python(code, first_on_path=tmp_path).stdout.split() == ["ZeroDivisionError", "ModuleNotFoundError"]


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
