"""Recipes that train in a second on a few drawn scenes, and processes of their own to run them in."""

import importlib
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from tests.tiny import tiny_pyramid_config
from tests.training.written_forms import written_questions
from training.checkpoints import checkpoints
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe, TrainRecipe
from training.regions.store import RegionStoreWriter
from training.scenes.draw import NUMBERS, PHRASES, Scene, draw_scene
from training.tasks import TASKS
from training.tasks.vqa_recipe import AnswersRecipe
from training.train import train

NUM_SCENES = {"train": 24, "val": 8, "test": 8}


def tiny_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Scenes of 32 pixels, a random ViT whose regions lie in a store beside the run, 6 steps an epoch."""
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 3e-3, "warmup_steps": 0, "min_word_count": 1}
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    model = {"hidden_size": 24, "word_embedding_size": 16, "attention_size": 16, "initializer_range": 0.1}
    values: dict[str, Any] = {
        "task": "captioning",
        "output": str(folder / "run"),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(source=source, random_backbone=True, store=str(folder / "store")),
        "model": model,
        "train": TrainRecipe(**{**settings, "max_words": 12, **(train or {})}),
    }
    return recipe_of({**values, **changes})


def tiny_detection_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Scenes of 64 pixels, cropped and mirrored, and the tiny pyramid detector, weights random; 6 steps an epoch."""
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "region_learning_rate": 1e-3, "warmup_steps": 0}
    values: dict[str, Any] = {
        "task": "detection",
        "output": str(folder / "run"),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 64},
        "regions": RegionsRecipe(
            random_backbone=True,
            flips=True,
            crops=0.5,
            processor={"size": {"shortest_edge": 64, "longest_edge": 96}},
        ),
        "model": config_fields(tiny_pyramid_config(region_batch_size=16, rpn_batch_size=32)),
        "train": TrainRecipe(**{**settings, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="map_50", batch_size=4),
    }
    return recipe_of({**values, **changes})


def tiny_vqa_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Questions on scenes of 32 pixels, regions as in `tiny_recipe`, two questions a group; `images` is made if absent.

    Give `data` for other questions.
    """
    settings = {"objective": "binary_cross_entropy", "epochs": 2, "batch_size": 8, "questions_per_image": 2}
    settings |= {"learning_rate": 3e-3, "warmup_steps": 0, "min_word_count": 1}
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    if "data" not in changes and not (folder / "photos").exists():
        write_scene_questions(folder / "photos")
    values: dict[str, Any] = {
        "task": "vqa",
        "output": str(folder / "run"),
        "data": {"format": "folder", "folder": str(folder / "photos")},
        "regions": RegionsRecipe(source=source, random_backbone=True, store=str(folder / "store")),
        "model": {"hidden_size": 24, "word_embedding_size": 16},
        "answers": AnswersRecipe(top=9),
        "train": TrainRecipe(**{**settings, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="accuracy", batch_size=3),
    }
    return recipe_of({**values, **changes})


def tiny_retrieval_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Captions of scenes and regions as in `tiny_recipe`, a BERT of two layers with word pieces of the captions."""
    settings = {"objective": "mixed", "epochs": 2, "batch_size": 8, "captions_per_image": 2, "max_words": 12}
    settings |= {"learning_rate": 5e-3, "warmup_steps": 5}
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "initializer_range": 0.05}
    values: dict[str, Any] = {
        "task": "retrieval",
        "output": str(folder / "run"),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(source=source, random_backbone=True, store=str(folder / "store")),
        "text": TextRecipe(vocabulary_size=320),
        "model": {"text_config": sizes, "projection_size": 16, "pooling": "mean", "initializer_range": 0.05},
        "train": TrainRecipe(**{**settings, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="rsum", batch_size=3, rerank=3),
    }
    return recipe_of({**values, **changes})


def tiny_grounding_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Phrases of scenes and regions as in `tiny_recipe`, a BERT of two layers with word pieces of the sentences."""
    settings = {"objective": "mixed", "epochs": 2, "batch_size": 8, "captions_per_image": 2, "max_words": 24}
    settings |= {"learning_rate": 5e-3, "warmup_steps": 5}
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "initializer_range": 0.05}
    values: dict[str, Any] = {
        "task": "grounding",
        "output": str(folder / "run"),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(source=source, random_backbone=True, store=str(folder / "store")),
        "text": TextRecipe(vocabulary_size=320),
        "model": {"text_config": sizes, "initializer_range": 0.05},
        "train": TrainRecipe(**{**settings, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="recall_1", batch_size=3),
    }
    return recipe_of({**values, **changes})


def tiny_dense_captioning_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Descriptions of scenes' shapes, regions of a 2 x 2 grid as in `tiny_recipe`, ranked by the model's own scores."""
    settings = {"epochs": 2, "batch_size": 8, "captions_per_image": 3, "learning_rate": 5e-3, "warmup_steps": 0}
    settings |= {"min_word_count": 1, "max_words": 8}
    source = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
    sizes = {"hidden_size": 24, "word_embedding_size": 16, "attention_size": 16, "initializer_range": 0.1}
    values: dict[str, Any] = {
        "task": "dense_captioning",
        "output": str(folder / "run"),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32},
        "regions": RegionsRecipe(source=source, random_backbone=True, store=str(folder / "store")),
        "model": {**sizes, "region_embedding_size": 24},
        "train": TrainRecipe(**{**settings, **(train or {})}),
        "evaluate": EvaluateRecipe(batch_size=3, final_num_beams=2),
    }
    return recipe_of({**values, **changes})


def tiny_multiple_choice_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Questions with rationales on scenes and regions as in `tiny_recipe`, a BERT of two layers."""
    settings = {"objective": "cross_entropy", "epochs": 2, "batch_size": 8, "questions_per_image": 2, "max_words": 24}
    grounding = tiny_grounding_recipe(folder)
    values: dict[str, Any] = {
        **{name: getattr(grounding, name) for name in ("output", "regions", "text", "model")},
        "task": "multiple_choice",
        "data": {"format": "scenes", "asks": "commonsense", "num_scenes": NUM_SCENES, "image_size": 32},
        "train": TrainRecipe(**{**settings, "learning_rate": 5e-3, "warmup_steps": 5, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="choice_accuracy", batch_size=6),
    }
    return recipe_of({**values, **changes})


def tiny_statements_recipe(
    folder: Path, *, task: str = "entailment", train: dict[str, Any] | None = None, **changes: Any
) -> Recipe:
    """Statements (of `entailment`, or of `pairs`) on scenes and regions as in `tiny_grounding_recipe`."""
    values: dict[str, Any] = {
        "task": task,
        "evaluate": EvaluateRecipe(metric="accuracy", batch_size=7),
        "data": {"format": "scenes", "num_scenes": NUM_SCENES, "image_size": 32, "per_scene": 3},
    }
    values["train"] = {"objective": "cross_entropy", **(train or {})}
    values["train"].setdefault("captions_per_image", TrainRecipe.captions_per_image)
    return tiny_grounding_recipe(folder, **{**values, **changes})


def tiny_reading_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Questions about the words of drawn scenes, regions as in `tiny_grounding_recipe`, a BERT of two layers."""
    if not (folder / "photos").exists():
        write_forms(folder)
    files = {split: str(folder / f"{split}.json") for split in NUM_SCENES}
    grounding = tiny_grounding_recipe(folder)
    values: dict[str, Any] = {
        **{name: getattr(grounding, name) for name in ("output", "regions", "text")},
        "task": "reading",
        "data": {"format": "written_questions", "annotations": files, "images": str(folder / "photos")},
        "model": {**grounding.model, "reading_max_steps": 3, "reading_max_ocr": 8},
        "train": TrainRecipe(
            **{"objective": "binary_cross_entropy", "epochs": 2, "batch_size": 8, "max_words": 12, "warmup_steps": 5}
            | {"learning_rate": 5e-3, **(train or {})}
        ),
        "evaluate": EvaluateRecipe(metric="reading_exact_match", batch_size=6),
    }
    return recipe_of({**values, **changes})


def write_forms(folder: Path) -> None:
    """The files of `recipe_reading` of every split, and a photo of each form."""
    (folder / "photos").mkdir(parents=True)
    for seed, (split, count) in enumerate(NUM_SCENES.items()):
        questions = written_questions(count, seed=seed)
        for number, question in enumerate(questions):
            question["image"] = f"{question['image_id']}.png"
            draw_scene(number, seed=seed, image_size=32)[0].save(folder / "photos" / question["image"])
        (folder / f"{split}.json").write_text(json.dumps(questions))


def tiny_moments_recipe(folder: Path, *, train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Sentences on the clips of `write_clips`, a BERT of one layer; their store lies beside the run."""
    if not (folder / "clips").exists():
        write_clips(folder / "clips", folder / "store")
    settings = {"objective": "mixed", "epochs": 2, "batch_size": 8, "max_words": 12}
    sizes: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {"moment_hidden_size": 16, "moment_num_heads": 2, "moment_ffn_size": 24, "moment_queries": 4}
    files = {split: str(folder / "clips" / f"charades_sta_{split}.txt") for split in ("train", "val", "test")}
    values: dict[str, Any] = {
        "task": "moments",
        "output": str(folder / "run"),
        "data": {"format": "charades_sta", "annotations": files, "durations": str(folder / "clips" / "lengths.csv")},
        "regions": RegionsRecipe(store=str(folder / "store")),
        "text": TextRecipe(vocabulary_size=320),
        "model": {"text_config": {**sizes, "intermediate_size": 32}, "moment_inputs": "embeddings", **model},
        "train": TrainRecipe(**{**settings, "learning_rate": 3e-3, "warmup_steps": 5, **(train or {})}),
        "evaluate": EvaluateRecipe(metric="r1_iou_50", batch_size=7),
    }
    return recipe_of({**values, **changes})


EVENTS = ("jumps", "sleeps", "eats", "turns")


def write_clips(folder: Path, store: Path, *, num_clips: Mapping[str, int] = NUM_SCENES) -> None:
    """Charades-STA's files of clips of eight steps of 2 s, in each of which two of `EVENTS` happen one after the other;
    a store of two regions a step, of which one says what happens and the other, as both elsewhere, that nothing is."""
    draw, lengths = np.random.default_rng(0), ["id,length"]
    folder.mkdir(parents=True)
    with RegionStoreWriter(store, fingerprint={"made": "events"}) as writer:
        for split, number in num_clips.items():
            lines = []
            for clip in range(number):
                name = f"{split}{clip}"
                lengths.append(f"{name},16.0")
                features = 0.1 * draw.standard_normal((1, 16, len(EVENTS) + 1))
                features[..., -1] += 1
                first, second = draw.permutation(len(EVENTS))[:2]
                cut, start, end = sorted(draw.permutation(7)[:3] + 1)
                for event, (begin, stop) in ((first, (0, cut)), (second, (start, end))):
                    features[0, 2 * begin : 2 * stop : 2, event] += 1
                    features[0, 2 * begin : 2 * stop : 2, -1] -= 1
                    lines.append(f"{name} {2.0 * begin} {2.0 * stop}##{EVENTS[event]}")
                seconds = torch.arange(8.0).repeat_interleave(2)[None] * 2
                boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 16, 4)
                regions = {"region_features": torch.from_numpy(features).float(), "region_boxes": boxes}
                writer.append([name], {**regions, "region_seconds": seconds})
            (folder / f"charades_sta_{split}.txt").write_text("\n".join(lines) + "\n")
    (folder / "lengths.csv").write_text("\n".join(lengths) + "\n")


def tiny_multi_recipe(
    folder: Path, *, train: dict[str, Any] | None = None, parts: Mapping[str, Any] | None = None, **changes: Any
) -> Recipe:
    """Several tasks on scenes and regions as in `tiny_recipe`; parts: name -> recipe, by default two of statements."""
    settings = {"epochs": 2, "learning_rate": 5e-3, "warmup_steps": 5}
    parts = parts or {task: tiny_statements_recipe(folder, task=task) for task in ("entailment", "pairs")}
    values: dict[str, Any] = {
        "task": "multi",
        "output": str(folder / "run"),
        "data": {"format": "recipes", "parts": {name: {"recipe": one, "weight": 1.0} for name, one in parts.items()}},
        "train": TrainRecipe(**{**settings, **(train or {})}),
    }
    return recipe_of({**values, **changes})


def recipe_of(values: dict[str, Any]) -> Any:
    """A recipe of its task's class."""
    return TASKS[values["task"]].recipe(**values)


def write_scene_questions(folder: Path, *, num_scenes: Mapping[str, int] = NUM_SCENES) -> None:
    """A folder of drawn scenes, `train-3.png`, and `questions.jsonl` on them: of ten people, six to eight are right."""
    rows: list[dict[str, Any]] = []
    folder.mkdir(parents=True)
    for seed, (split, number) in enumerate(num_scenes.items()):
        for index in range(number):
            image, scene = draw_scene(index, seed=seed, image_size=32)
            image.save(folder / f"{split}-{index}.png")
            for question, kind, answer in scene_questions(scene):
                people = [answer] * 6 + [f"{answer.title()}."] * (index % 3) + ["maybe"] * (4 - index % 3)
                about = {"image": f"{split}-{index}.png", "image_id": f"{split}-{index}", "split": split}
                asked = {"question_id": f"{split}-{len(rows)}", "question": question, "answers": people}
                kinds = {"answer_type": kind, "question_type": question.split()[0]}
                rows.append({**about, **asked, "answer": answer, **kinds})
    write_questions(folder / "questions.jsonl", rows)


def scene_questions(scene: Scene) -> list[tuple[str, str, str]]:
    """Question, kind of answer and answer: a number, a colour, yes or no, and a side where two objects have one."""
    first, total = scene.objects[0], len(scene.objects)
    found = [
        ("How many shapes are there?", "number", NUMBERS[total]),
        ("What color is the first shape?", "other", first.colour),
        (f"Is there a {'red' if total % 2 else first.colour} thing?", "yes/no", "no" if total % 2 else "yes"),
    ]
    sides = [PHRASES[predicate] for _, predicate, _ in scene.relations if predicate in PHRASES]
    return found + [(f"What is {side} another?", "other", first.name) for side in sides[:1]]


def write_questions(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A JSONL table of questions, as `training/data/questions/tables.py` reads it; returns its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config_fields(config: Any) -> dict[str, Any]:
    """What a recipe would write of a detector's config; classes and attributes are those of the data."""
    of_the_data = ("model_type", "num_objects", "num_attributes", "attribute_id2label")
    return {name: getattr(config, name) for name in type(config).__annotations__ if name not in of_the_data}


def new_accelerator(**options: Any) -> Accelerator:
    """An accelerator on the CPU that knows nothing of those before it in this process."""
    forget_accelerators()
    return Accelerator(cpu=True, **options)


def forget_accelerators() -> None:
    """accelerate keeps precision and processes for the whole life of a process; tests need a fresh start."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def train_here(recipe: Recipe) -> dict[str, float]:
    """Train in this process, from a fresh start."""
    forget_accelerators()
    try:
        return train(recipe, cpu=True)
    finally:
        forget_accelerators()


def log_of(recipe: Recipe, key: str) -> list[float]:
    """One value of every line of the run's log that has it."""
    lines = [json.loads(line) for line in (Path(recipe.output) / "log.jsonl").read_text().splitlines()]
    return [line[key] for line in lines if key in line]


def ending(recipe: Recipe) -> dict[str, bytes]:
    """All that a run leaves, by a name: the files of its newest checkpoint and of its best model, and its log.

    Two runs took the same steps where these are equal, bit for bit.
    """
    output = Path(recipe.output)
    newest = checkpoints(output / "checkpoints")[-1]
    files = {f"checkpoint/{path.name}": path.read_bytes() for path in newest.iterdir()}
    files |= {f"best/{path.name}": path.read_bytes() for path in (output / "best").iterdir()}
    evaluation = json.loads(files["best/evaluation.json"])
    figures = {name: value for name, value in evaluation.items() if name != "command"}
    files["best/evaluation.json"] = json.dumps(figures).encode()
    return {**files, "name": newest.name.encode(), "log.jsonl": (output / "log.jsonl").read_bytes()}


def differences(found: dict[str, bytes], expected: dict[str, bytes]) -> list[str]:
    """The names under which two endings differ."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def train_in_processes(recipe: Recipe, *, num_processes: int = 1, kill: str = "") -> list[int]:
    """Train in new processes; returns their exit codes. For `kill` see `in_processes`."""
    return in_processes(train_on_cpu, recipe, num_processes=num_processes, kill=kill)


def train_on_cpu(recipe: Recipe) -> None:
    """`train`, as processes of their own are given it."""
    train(recipe, cpu=True)


def in_processes(task: Callable[..., Any], *arguments: Any, num_processes: int = 1, kill: str = "") -> list[int]:
    """Call a function in new processes as `torchrun` would start them; returns their exit codes.

    `kill` = `MODULE:NAME:N` lets each process end itself with SIGKILL as the N-th call of that function ends.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        new_process(task, *arguments, rank=rank, world=(num_processes, port, kill)) for rank in range(num_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
        process.kill()  # does nothing to one that has ended
        process.join()
    return [int(process.exitcode or 0) for process in processes]


def new_process(
    task: Callable[..., Any], *arguments: Any, rank: int = 0, world: tuple[int, int, str] = (1, 0, "")
) -> Any:
    """A process that stands before its start; `world` is the number of processes, their port, and `kill`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.train"])
    return context.Process(target=one_of_several, args=(task, arguments, rank, *world))


def one_of_several(
    task: Callable[..., Any], arguments: tuple[Any, ...], rank: int, num_processes: int, port: int, kill: str
) -> None:
    """What a process of `in_processes` does."""
    if num_processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    if kill:
        die_at(*kill.split(":"))
    task(*arguments)


def die_at(module: str, name: str, times: str) -> None:
    """Make `module.name` kill this process on its N-th call, after it did its work."""
    place: Any = importlib.import_module(module)
    *owners, last = name.split(".")
    for owner in owners:
        place = getattr(place, owner)
    original = getattr(place, last)
    calls: list[None] = []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        result = original(*args, **kwargs)
        if len(calls) == int(times):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, last, dying)
