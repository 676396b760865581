"""SugarCrepe's pairs: reading, scoring with a tiny retrieval model, the control, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownProcessor
from tests.shared_files import shared
from tests.tiny import CAPTIONS, save_tiny_retrieval, tiny_image
from training.probes.sugarcrepe import main, pair_scores, read_sugarcrepe, shuffled_images
from training.saved_models import load_with_processor
from training.search.embedding import Embedder


def pair(name: str, right: str, wrong: str) -> dict[str, Any]:
    return {"filename": name, "caption": right, "negative_caption": wrong}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        tiny_image(number).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    swaps = [pair("0.png", CAPTIONS[0], CAPTIONS[1]), pair("2.png", CAPTIONS[2], CAPTIONS[3])]
    adds = {"0": pair("0.png", CAPTIONS[1], CAPTIONS[2]), "1": pair("1.png", CAPTIONS[3], CAPTIONS[3])}
    (folder / "swap_obj.json").write_text(json.dumps(swaps))
    (folder / "add_att.json").write_text(json.dumps(adds))  # as the authors write it
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_retrieval(tmp_path_factory.mktemp("retrieval"))


def test_pairs_are_read_in_both_layouts(pairs: Path, images: Path) -> None:
    found = read_sugarcrepe(pairs, images=images)
    assert found.kinds == ["add_att", "add_att", "swap_obj", "swap_obj"]
    assert [found.paths[place].name for place in found.images] == ["0.png", "1.png", "0.png", "2.png"]
    assert found.right[2] == CAPTIONS[0] and found.wrong[2] == CAPTIONS[1]


def test_pairs_without_their_image_are_counted(pairs: Path, images: Path, tmp_path: Path) -> None:
    (images / "0.png").unlink()
    with pytest.warns(UserWarning, match="left out 2 pairs whose image is not there"):
        assert len(read_sugarcrepe(pairs, images=images).kinds) == 2
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="none of the pairs' images"):
        read_sugarcrepe(pairs, images=tmp_path)
    with pytest.raises(ValueError, match="holds no JSON of pairs"):
        read_sugarcrepe(images, images=images)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"filename": "0.png", "caption": "a"}], "pair 0 lacks 'negative_caption'"),
        ([pair("0.png", " ", "b")], "pair 0 lacks 'caption'"),
        ("text", "holds no pairs"),
        ([1], "holds no pairs"),
    ],
)
def test_broken_pairs_are_refused(content: Any, message: str, pairs: Path, images: Path) -> None:
    (pairs / "swap_obj.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_sugarcrepe(pairs, images=images)


def test_scores_are_those_of_the_model_pair_by_pair(pairs: Path, images: Path, model: Path) -> None:
    found = read_sugarcrepe(pairs, images=images)
    loaded, processor = load_with_processor(model, UpDownFusionForImageTextRetrieval, UpDownProcessor)
    others = shuffled_images(found.images, 3, seed=0)
    scores = pair_scores(Embedder(loaded, processor, batch_size=3), found, shuffled=others)
    assert {*scores} == {"itc", "match", "itc, images shuffled", "match, images shuffled"}
    for number in range(4):
        for which, place in (("", found.images[number]), (", images shuffled", others[number])):
            image = tiny_image(int(found.paths[place].stem))
            for side, text in enumerate((found.right[number], found.wrong[number])):
                inputs = processor(images=image, text=[text], return_tensors="pt")
                with torch.no_grad():
                    output = loaded(**inputs)
                    match = loaded.match(**inputs, image_index=torch.tensor([0]))
                cosine = float(output.image_embeds[0] @ output.text_embeds[0])
                assert scores[f"itc{which}"][side, number] == pytest.approx(cosine, abs=1e-4)
                assert scores[f"match{which}"][side, number] == pytest.approx(float(match[0]), abs=1e-3)


@pytest.mark.parametrize("num_images", [2, 3, 10])
def test_every_pair_is_shown_another_image(num_images: int) -> None:
    images = np.random.default_rng(1).integers(0, num_images, 40)
    others = shuffled_images(images, num_images, seed=0)
    assert (images != others).all() and len({(a, b) for a, b in zip(images, others, strict=True)}) <= num_images
    with pytest.raises(ValueError, match="only one"):
        shuffled_images(np.zeros(3, dtype=int), 1, seed=0)


def test_the_command_prints_a_line_a_score(
    pairs: Path, images: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--pairs", str(pairs), "--images", str(images), "--output", str(tmp_path / "figures.json")]
    assert main([f"tiny={model}", *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| model | score | add_att (2) | swap_obj (2) | mean of kinds |")
    assert [line.split(" | ")[1] for line in lines[2:]] == [
        *("itc", "itc, images shuffled", "match", "match, images shuffled")
    ]
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert rows[0]["accuracy"]["kinds"]["add_att"]["num_ties"] == 1  # the same caption twice
    assert main([str(tmp_path), *given]) == 2
    assert "sugarcrepe: " in capsys.readouterr().err


def test_the_pairs_on_images_we_hold() -> None:
    folder = shared("data/sugarcrepe")
    found = read_sugarcrepe(folder, images=shared("data/coco_subset/images"))
    assert len(found.kinds) == 661 and len(set(found.kinds)) == 7
