"""Pair tests: scores reach their texts and images, figures by hand, controls, thresholds, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import CAPTIONS, save_tiny_entailment, save_tiny_retrieval, tiny_image
from training.data.pair_tests.rows import CaptionPairs, CaptionSquares, Statements
from training.probes.pair_tests import asked_scores, figures_of, labels_of, main, shuffled_images, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, a retrieval model, and small files of every test."""
    folder = tmp_path_factory.mktemp("pair_tests")
    (folder / "images").mkdir()
    for number in range(3):
        tiny_image(number).save(folder / "images" / f"{number}.png")
    save_tiny_retrieval(folder / "model")
    pairs = [{"filename": f"{n}.png", "caption": CAPTIONS[n], "negative_caption": CAPTIONS[n + 1]} for n in range(3)]
    (folder / "sugarcrepe").mkdir()
    (folder / "sugarcrepe" / "swap_obj.json").write_text(json.dumps(pairs))
    same = [{**pairs[1], "negative_caption": CAPTIONS[1]}]
    (folder / "sugarcrepe" / "add_att.json").write_text(json.dumps(same))
    foils = {
        str(n): {"image_file": f"{n}.png", "caption": CAPTIONS[n], "foil": CAPTIONS[n + 1], "mturk": {"caption": n}}
        for n in range(3)
    }
    (folder / "existence.json").write_text(json.dumps(foils))
    squares = [{"image_0": "0", "image_1": "1", "caption_0": CAPTIONS[0], "caption_1": CAPTIONS[1]}]
    (folder / "examples.jsonl").write_text(json.dumps(squares[0]))
    lines = [{"image": f"{n}.png", "caption": CAPTIONS[n], "label": n % 2, "relation": "on"} for n in range(3)]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


class Lengths:
    """Scores a text with image n by its length plus 100 n; without an image, by its length alone."""

    names = ("itc", "match")

    def read(self, texts: list[str]) -> None:
        self.texts = texts

    def regions(self, path: str) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(100.0 * int(Path(path).stem))}

    def no_regions(self) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(0.0)}

    def scores(self, chosen: np.ndarray, regions: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        lengths = np.array([len(self.texts[number]) for number in chosen.tolist()], dtype=float)
        return {"itc": lengths + float(regions["number"]), "match": -lengths}


@pytest.fixture
def paths(folder: Path) -> list[Path]:
    return [folder / "images" / f"{number}.png" for number in range(3)]


def test_scores_reach_their_texts_and_images(paths: list[Path]) -> None:
    test = CaptionPairs(paths, ["x", "x", "y"], np.array([2, 0, 2]), ["a", "bb", "ccc"], ["dddd", "a", "bb"])
    others = shuffled_images(np.tile(test.images, 2), 3, seed=0)
    found = asked_scores(Lengths(), test)
    lengths = np.array([1, 2, 3, 4, 1, 2])
    assert found["itc"].tolist() == (lengths + 100 * np.array([2, 0, 2, 2, 0, 2])).tolist()
    assert found["itc, images shuffled"].tolist() == (lengths + 100 * others).tolist()
    assert found["itc, image withheld"].tolist() == lengths.tolist()
    assert found["match"].tolist() == (-lengths).tolist() and len(found) == 6
    squares = CaptionSquares(paths, ["z"], np.array([[2, 1]]), [("a", "bb")])
    assert {name: values.tolist() for name, values in asked_scores(Lengths(), squares).items()} == {
        "itc": [201, 101, 202, 102],
        "match": [-1, -1, -2, -2],
    }


def test_figures_of_pairs_and_of_telling_right_from_wrong(paths: list[Path]) -> None:
    test = CaptionPairs(paths, ["x", "x", "y"], np.array([0, 1, 2]), ["a", "b", "c"], ["d", "e", "f"])
    scores = np.array([2.0, -1.0, 1.0, 1.0, -2.0, 3.0])  # right: 2, -1, 1; wrong: 1, -2, 3
    found = figures_of(test, scores, threshold=0.0)
    assert found["per_item"] == [True, True, False] and found["mean_of_kinds_x100"] == 50
    told = found["told_apart"]["all"]
    assert told["true_x100"] == pytest.approx(200 / 3) and told["false_x100"] == pytest.approx(100 / 3)
    assert told["accuracy_x100"] == pytest.approx(50) and told["balanced_x100"] == pytest.approx(50)
    assert found["all"]["roc_x100"] == told["roc_x100"] == pytest.approx(100 * 4.5 / 9)
    assert "told_apart" not in figures_of(test, scores, threshold=None)
    assert labels_of(test).tolist() == [True] * 3 + [False] * 3
    assert "| x (2) | y (1) | mean of kinds |" in table(test, [{"name": "m", "score": "match", "figures": found}])


def test_figures_of_squares_and_statements(paths: list[Path]) -> None:
    squares = CaptionSquares(paths, ["x", "y"], np.array([[0, 1], [1, 2]]), [("a", "b"), ("c", "d")])
    scores = np.array([0.9, 0.1, 0.2, 0.8, 0.9, 0.8, 0.2, 0.7])
    found = figures_of(squares, scores, threshold=None)
    assert found["all"]["text_x100"] == 50 and found["all"]["image_x100"] == 100
    assert labels_of(squares).tolist() == [True, False, False, True] * 2
    lines = table(squares, [{"name": "m", "score": "itc", "figures": found}]).splitlines()
    assert lines[2].startswith("| m | itc | 50.0 (0.0 to 100.0) | 100.0 (100.0 to 100.0) | 50.0 ")
    assert lines[3] == "| chance |  | 25.0 | 25.0 | 16.7 |"
    test = Statements(paths, ["on", "in", "on"], np.array([0, 1, 2]), ["a", "b", "c"], np.array([True, False, True]))
    judged = figures_of(test, np.array([0.3, 0.1, -0.2]), threshold=0.0)
    assert judged["per_item"] == [True, False, False] and judged["all"]["roc_x100"] == 50
    assert figures_of(test, np.array([0.3, 0.1, -0.2]), threshold=None) == {"all": {"roc_x100": 50.0}}
    rows = [{"name": "m", "score": "match", "figures": judged}]
    rows.append({"name": "m", "score": "itc", "figures": {"all": {"roc_x100": 50.0}}})
    lines = table(test, rows).splitlines()
    assert lines[0] == "| model | score | accuracy (95 % interval), 3 | true ones | false ones | ROC | threshold |"
    assert lines[2].endswith("| 50.0 | 0.0 | 50.0 | 0.000 |") and lines[3] == "| m | itc | - | - | - | 50.0 | - |"


@pytest.mark.parametrize("num_images", [2, 3, 10])
def test_every_text_is_shown_another_image(num_images: int) -> None:
    images = np.random.default_rng(1).integers(0, num_images, 40)
    others = shuffled_images(images, num_images, seed=0)
    assert (images != others).all() and len({(a, b) for a, b in zip(images, others, strict=True)}) <= num_images
    with pytest.raises(ValueError, match="only one"):
        shuffled_images(np.zeros(3, dtype=int), 1, seed=0)


def run(folder: Path, test: str, annotations: str, *more: Any) -> int:
    given = ["--annotations", folder / annotations, "--images", folder / "images", *more]
    return main([test, f"tiny={folder / 'model'}", *map(str, given)])


def test_the_command_prints_a_line_a_score(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "sugarcrepe", "sugarcrepe", "--output", tmp_path / "figures.json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| model | score | add_att (1) | swap_obj (3) | mean of kinds |")
    controls = ("", ", image withheld", ", images shuffled")
    assert [line.split(" | ")[1] for line in lines[2:]] == [
        f"{name}{which}" for name in ("itc", "match") for which in controls
    ]
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert rows[0]["figures"]["kinds"]["add_att"]["num_ties"] == 1  # the same caption twice
    assert "told_apart" not in rows[0]["figures"] and rows[3]["figures"]["told_apart"]["threshold"] == 0


def test_the_command_takes_every_test(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "winoground", "examples.jsonl") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "| chance |  | 25.0 | 25.0 | 16.7 |"
    with pytest.warns(UserWarning, match="left out 2 foils"):
        assert run(folder, "valse", "existence.json") == 2
    assert "images cannot be shuffled where there is only one" in capsys.readouterr().err
    assert run(folder, "valse", "existence.json", "--all-foils") == 0
    assert "| tiny | match |" in capsys.readouterr().out
    assert run(folder, "vsr", "test.jsonl") == 0
    lines = capsys.readouterr().out.splitlines()
    itc, match = lines[2], lines[5]
    assert itc.startswith("| tiny | itc | - ") and " | 0.000 |" in match


def test_a_validation_split_gives_every_score_its_threshold(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best on the test itself, where it is also the validation split."""
    given = ("--validation", folder / "test.jsonl", "--output", tmp_path / "a.json")
    with pytest.warns(UserWarning, match="thresholds are chosen on the test itself, which flatters it"):
        assert run(folder, "vsr", "test.jsonl", *given) == 0
    rows = json.loads((tmp_path / "a.json").read_text())
    assert all(row["figures"]["all"]["accuracy_x100"] >= 66 for row in rows)  # two of three are false
    assert len({row["figures"]["threshold"] for row in rows}) > 1 and "| - |" not in capsys.readouterr().out


def test_an_entailment_model_is_scored_too(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = save_tiny_entailment(tmp_path / "judge")
    given = ["--annotations", str(folder / "test.jsonl"), "--images", str(folder / "images")]
    assert main(["vsr", str(judge), *given]) == 0
    assert [line.split(" | ")[1] for line in capsys.readouterr().out.splitlines()[2:]] == [
        *("entailment", "entailment, image withheld", "entailment, images shuffled")
    ]


def test_mistakes_take_one_sentence(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "test.jsonl").read_text().splitlines()
    (tmp_path / "true.jsonl").write_text("\n".join(line for line in lines if json.loads(line)["label"]))
    for arguments, message in (
        (("vsr", "gone.jsonl"), "cannot read"),
        (("vsr", "test.jsonl", "--all-foils"), "--all-foils keeps foils of valse, and the test is vsr"),
        (("winoground", "examples.jsonl", "--validation", "x"), "has no threshold: leave --validation out"),
        (("vsr", "test.jsonl", "--validation", tmp_path / "true.jsonl"), "holds no true or no false statement"),
        (("vsr", "test.jsonl", "--output", tmp_path), "is a folder: name a file in it"),
    ):
        assert run(folder, *arguments) == 2
        said = capsys.readouterr()
        assert (
            message in said.err and said.err.startswith("pair_tests: ") and said.err.count("\n") == 1 and not said.out
        )
    given = ["--annotations", str(folder / "test.jsonl"), "--images", str(folder / "images")]
    assert main(["vsr", str(tmp_path), *given]) == 2
    assert "pair_tests: " in capsys.readouterr().err
