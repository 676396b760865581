"""The open-set probe: its rows, figures of models that know all or mistake all, the command, and mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel

from modeling_updown import UpDownImageProcessor
from tests.tiny import (
    save_tiny_grounding,
    tiny_encoder_config,
    tiny_pyramid_config,
    tiny_pyramid_detector,
    tiny_tokenizer,
)
from training.probes.name_scores import ScoredImage
from training.probes.open_set import figures, main, named_rows, shuffled_names
from training.scenes.boxes import read_scene_boxes

NAMES = ["star", "circle", "square"]
SCENES = ["--recipe", "detection/scenes", "--set", "data.num_scenes={train: 3, val: 3, test: 3}"]
SCENES += ["--set", "data.image_size=64"]


def test_rows_hold_the_boxes_of_the_names_alone():
    data = read_scene_boxes(6, image_size=32, split="test")
    found = named_rows(data.rows, NAMES, id2label=data.id2label)
    for row, own in zip(data.rows, found, strict=True):
        names = [data.id2label[i] for i in row["object_ids"]]
        kept = [place for place, name in enumerate(names) if name in NAMES]
        assert [NAMES[i - 1] for i in own["object_ids"]] == [names[place] for place in kept]
        assert own["boxes"] == [row["boxes"][place] for place in kept] and own["crowd"] == [False] * len(kept)
    with pytest.raises(ValueError, match="no box of the data has any of the names, such as 'wug'"):
        named_rows(data.rows, ["wug"], id2label=data.id2label)


@pytest.mark.parametrize("count", [2, 3, 17, 65])
def test_no_name_keeps_its_place(count):
    orders = [shuffled_names(count, seed=seed) for seed in range(5)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(count)) and (order != np.arange(count)).all()
    assert count < 17 or len({tuple(order) for order in orders}) == 5


def scored(row, right):
    """An image whose regions are the true boxes, and which says of each what `right` makes of its name."""
    ids = np.array([right(own) for own in row["object_ids"]], dtype=int).reshape(-1)
    scores = 0.1 + 0.8 * (ids[:, None] == np.arange(1, 4))
    return ScoredImage(np.array(row["boxes"], dtype=float).reshape(-1, 1, 4), scores, scores)


def test_models_that_know_all_and_that_mistake_all():
    data = read_scene_boxes(12, image_size=32, split="test")
    rows = named_rows(data.rows, NAMES, id2label=data.id2label)
    known = figures([scored(row, int) for row in rows], rows, num_known=2)
    assert known["known_map_50_x100"] == known["novel_map_50_x100"] == pytest.approx(100)
    assert known["known_unknown"]["auroc"] == 1 and (known["known_names"], known["novel_names"]) == (2, 1)
    assert known["known_unknown"]["num_unknown"] == sum(row["object_ids"].count(3) for row in rows)
    wrong = figures([scored(row, lambda own: own % 3 + 1) for row in rows], rows, num_known=2)
    assert max(wrong["known_map_50"], wrong["novel_map_50"]) < 0.5 and 0 < wrong["known_unknown"]["auroc"] < 0.6
    alone = [{**row, "crowd": [name == 3 for name in row["object_ids"]]} for row in rows]
    assert figures([scored(row, int) for row in rows], alone, num_known=2)["known_unknown"] is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Models: a detector with phrases and one without, a grounding model, and a text encoder."""
    root = tmp_path_factory.mktemp("models")
    labels = dict(enumerate(["background", *NAMES, *(f"thing {i}" for i in range(9))]))
    fields = {"phrase_embedding_size": 32, "id2label": labels, "held_out_names": ["square"]}
    for name, own in (("asked", fields), ("plain", {"id2label": labels})):
        tiny_pyramid_detector(**own).save_pretrained(root / name)
        UpDownImageProcessor(size={"height": 64, "width": 64}).save_pretrained(root / name)
    save_tiny_grounding(root / "grounding", vision_config=tiny_pyramid_config())
    save_tiny_grounding(root / "cells")
    torch.manual_seed(0)
    BertModel(tiny_encoder_config()).save_pretrained(root / "encoder")
    tiny_tokenizer().save_pretrained(root / "encoder")
    return root


def test_the_command_prints_a_line_a_model_and_control(folder, tmp_path, capsys):
    models = [f"det={folder / 'asked'}", f"ground={folder / 'grounding'}"]
    options = ["--encoder", str(folder / "encoder"), "--output", str(tmp_path / "found.json")]
    assert main([*models, *SCENES, "--novel", "square", "diamond", "--first", "3", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:] == [
        *("det", "det: names shuffled", "det: class scores (no class: triangle, diamond)"),
        *("ground", "ground: names shuffled"),
    ]
    assert "det: its training held out 1 of the 2 novel names" in lines
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["known"] == ["circle", "triangle", "star"] and found["novel"] == ["square", "diamond"]
    assert found["num_images"] == 3 and len(found["lines"]) == 5 and found["prompt"] == "a {}"
    assert all(0 <= line["all_map_50"] <= 1 for line in found["lines"])


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("plain", ["--novel", "square", "--encoder", "encoder"], "this detector learnt no phrases"),
        ("plain", ["--novel", "square"], "this detector learnt no phrases"),
        ("asked", ["--novel", "square"], "name the one that it learnt with in --encoder"),
        ("asked", [], "no name is novel: give --novel"),
        ("asked", ["--novel", "square", "--known", "square", "star"], "'square' is known and novel"),
        ("asked", ["--novel", "wug", "--known", "blick"], "no box of the data has any of the names"),
        ("cells", ["--novel", "square"], "owns no detector"),
        ("encoder", ["--novel", "square"], "holds bert: name a detector or a grounding model"),
        (
            "asked",
            ["--novel", "square", "--recipe", "grounding/scenes"],
            "is a recipe of grounding: name one of",
        ),
    ],
)
def test_mistakes(folder, monkeypatch, capsys, model, more, message):
    monkeypatch.chdir(folder)
    assert main([model, *SCENES, *more]) == 2
    assert message in capsys.readouterr().err
