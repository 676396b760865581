"""Expressions written for boxes: whether the boxes are found again, beside people's, the command, and mistakes."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tasks.test_grounding import scene_regions, scenes_recipe
from tests.training.tiny_run import new_accelerator
from training.metrics.captioning.scores import caption_scores
from training.probes import written_expressions as probe
from training.probes.written_expressions import (
    Written,
    human_expressions,
    mean_of_images,
    next_boxes,
    of_other_images,
    of_some_images,
    read_written,
)
from training.scenes.expressions import read_scene_phrases
from training.tasks import build_task

OPTIONS: dict[str, Any] = {"image_size": 32, "expressions": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Regions of scenes, a model that has learnt nothing, its recipe, and expressions for boxes of the test split."""
    folder = tmp_path_factory.mktemp("written")
    scene_regions(folder)
    recipe = scenes_recipe(folder)
    recipe.data |= {"expressions": 4}
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    task.save(task.model, folder / "model")
    (folder / "recipe.yaml").write_text(json.dumps(recipe.as_dict()))
    (folder / "written.json").write_text(json.dumps([one._asdict() for one in written()]))
    return folder


@cache
def rows() -> Any:
    """The test split of the scenes."""
    return read_scene_phrases(24, split="test", **OPTIONS)


def written() -> list[Written]:
    """For every box of the first images words that only sometimes are people's."""
    found = []
    for row in rows().select(range(8)):
        for text, (phrase,) in zip(row["captions"], row["phrases"], strict=True):
            if len(phrase["boxes"]) == 1:
                found.append(Written(row["image_id"], tuple(phrase["boxes"][0]), text.replace("the ", "a ")))
    return found


def test_human_expressions_are_those_of_the_same_box() -> None:
    texts = human_expressions(rows(), written())
    for one, own in zip(written(), texts, strict=True):
        assert one.expression.replace("a ", "the ") in own
    moved = written()[0]
    shifted = moved._replace(box=tuple(np.clip(np.array(moved.box) + 0.1, 0, 1).tolist()))
    assert human_expressions(rows(), [shifted, moved._replace(image_id="absent")]) == [[], []]


def test_boxes_are_found_again_as_the_task_finds_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(folder / "written.json"), "--recipe", str(folder / "recipe.yaml"), "--model", str(folder / "model")]
    assert probe.main([*command, "--output", str(folder / "figures.json")]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((folder / "figures.json").read_text())
    assert "| written | " in printed and "| people's | " in printed and "| the next box's | " in printed
    task: Any = build_task(scenes_recipe(folder), new_accelerator())
    model, _ = task.load(folder / "model")
    own, data = written(), rows()
    prepared = task.images.prepare(data)
    found: dict[str, list[bool]] = {}
    people = [one._replace(expression=texts[0]) for one, texts in zip(own, human_expressions(data, own), strict=True)]
    for who, asked in (
        ("written", own),
        ("people's", people),
        ("the next box's", next_boxes(own)),
        ("another image's", of_other_images(own, seed=0)),
    ):
        hits = found[who] = []
        for one in asked:  # an expression at a time, by the model itself
            index = data["image_id"][:].index(one.image_id)
            ids = [task.processor.tokenizer(one.expression)["input_ids"]]
            images = task.image_inputs(prepared, np.array([index]))
            output = model(torch.tensor(ids), **images, phrase_spans=torch.tensor([[[1, len(ids[0]) - 1]]]))
            best = output.pred_boxes[0, 0, output.logits[0, 0].argmax()].tolist()
            hits.append(probe.overlap(best, one.box) >= 0.5)
        assert figures["found"][who]["number"] == len(asked)
        assert figures["found"][who]["found_x100"] == pytest.approx(100 * np.mean(hits))
        low, high = figures["found"][who]["interval_x100"]
        assert low <= figures["found"][who]["found_x100"] <= high
    more = 100 * (np.mean(found["people's"]) - np.mean(found["written"]))
    assert figures["people_less_written"]["difference_x100"] == pytest.approx(more)
    assert f"People's less written, on the same boxes: {more:+.1f} (" in printed
    references = human_expressions(rows(), own)
    expected = caption_scores([one.expression for one in own], references)
    assert figures["captions"]["cider_x100"] == pytest.approx(expected["cider_x100"])
    assert figures["num_compared"] == len(own) == figures["found"]["people's"]["number"]


def test_a_better_reader_finds_more() -> None:
    """One that knows what each expression means finds its box (but for the first of several), and not the next one."""
    truth = {
        (row["image_id"], text.replace("the ", "a ")): phrase["boxes"]
        for row in rows()
        for text, (phrase,) in zip(row["captions"], row["phrases"], strict=True)
    }

    class Knowing:
        class images:  # noqa: N801 (as the task names it)
            prepare = staticmethod(lambda rows: rows)

        @staticmethod
        def grounded(model: Any, rows: Any) -> list[Any]:
            return [
                type("Found", (), {"boxes": truth.get((row["image_id"], text.replace("the ", "a ")), [])})
                for row in rows
                for text in row["captions"]
            ]

    scores = probe.written_scores(Knowing(), None, rows(), written())
    assert scores["found"]["written"]["found_x100"] == 100 and scores["found"]["people's"]["found_x100"] > 80
    assert scores["found"]["the next box's"]["found_x100"] < 15
    more = scores["found"]["people's"]["found_x100"] - scores["found"]["written"]["found_x100"]
    assert scores["people_less_written"]["difference_x100"] == pytest.approx(more)


def test_expressions_of_other_images() -> None:
    own = written()
    drawn = of_other_images(own, seed=3)
    assert [(one.image_id, one.box) for one in drawn] == [(one.image_id, one.box) for one in own]
    images = {(one.image_id, one.expression) for one in own}
    for one, before in zip(drawn, own, strict=True):
        assert any(image_id != before.image_id and text == one.expression for image_id, text in images)
    assert drawn == of_other_images(own, seed=3) != of_other_images(own, seed=4)
    assert of_other_images([one for one in own if one.image_id == own[0].image_id], seed=0) == []


def test_some_images_are_drawn_whole() -> None:
    own = written()
    drawn = of_some_images(own, 3, seed=1)
    images = {one.image_id for one in drawn}
    assert len(images) == 3 and drawn == [one for one in own if one.image_id in images]
    assert of_some_images(own, 100, seed=1) == own and of_some_images(own, 3, seed=2) != drawn


def test_means_are_of_expressions_and_intervals_of_images() -> None:
    """An image with many expressions is one draw: of two such images the interval is all there is."""
    asked = [Written("a", (), "")] * 50 + [Written("b", (), "")] * 50
    mean, ends = mean_of_images(np.repeat([1.0, 0.0], 50), asked, seed=0)
    assert mean == 50 and ends == [0, 100]


def test_boxes_that_people_wrote_nothing_for_are_told(folder: Path) -> None:
    strange = [one._replace(box=(0.0, 0.0, 0.01, 0.01)) for one in written()[:2]]
    task: Any = build_task(scenes_recipe(folder), new_accelerator())
    model, _ = task.load(folder / "model")
    with pytest.warns(UserWarning, match="left out 2 boxes of caption metrics that people wrote nothing for"):
        scores = probe.written_scores(task, model, rows(), [*written()[:3], *strange])
    assert scores["num_compared"] == 3 and scores["found"]["written"]["number"] == 5
    with pytest.raises(ValueError, match="people wrote expressions for none of the 2 boxes"):
        probe.written_scores(task, model, rows(), strange)
    with pytest.raises(ValueError, match="1 images, such as 'absent', are not in this split"):
        probe.found_again(task, model, rows(), [written()[0]._replace(image_id="absent")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no list of expressions"),
        ([], "holds no list of expressions"),
        ([{"image_id": 7, "box": [0, 0, 1, 1]}], "record 0 is no expression; it needs image_id, box and expression"),
        ([{"image_id": 7, "expression": "a dog"}], "record 0 has no box of four numbers"),
        ([{"image_id": 7, "box": [0, 0, 30, 40], "expression": "a dog"}], "give x1, y1, x2, y2 in 0..1 of the image's"),
        ([{"image_id": 7, "box": [0.5, 0, 0.4, 1], "expression": "a dog"}], "give x1, y1, x2, y2 in 0..1"),
        ([{"image_id": 7, "box": [0, 0, 1, 1], "expression": " "}], "has an empty expression"),
    ],
)
def test_files_that_are_none(content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "written.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_written(path)
    assert probe.main([str(path), "--recipe", "vqa/scenes_grid", "--model", "x"]) == 2
    assert "is a recipe of vqa: name one of grounding" in capsys.readouterr().err
