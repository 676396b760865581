"""Evaluation: of a saved model, and of captions from a file, with a command that gives the figures again."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

import training.metrics.caption_java as caption_java
from tests.training.tiny_run import tiny_recipe, train_here
from training.cli import build_parser
from training.evaluate import captions_of, evaluate_command, evaluate_recipe, score_predictions
from training.metrics.caption import caption_scores

REFERENCES = {
    1: ["a red dog runs", "the dog runs fast"],
    2: ["two cats sleep on a mat", "cats asleep"],
    3: ["a man with a hat", "the man wears a hat"],
    4: ["a blue bus", "a bus in the street"],
}
CAPTIONS = {1: "a dog runs", 2: "two cats sleep", 3: "a man with a", 4: "a blue bus in the street"}
DOMAINS = {1: "in-domain", 2: "in-domain", 3: "out-domain", 4: "out-domain"}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """The `data` section of four photos with domains, of which only the captions are there."""
    notes = [{"image_id": i, "caption": text} for i, texts in REFERENCES.items() for text in texts]
    images = [{"id": i, "file_name": f"{i}.jpg", "domain": DOMAINS[i]} for i in REFERENCES]
    (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return {"format": "nocaps", "annotations": {"val": str(tmp_path / "val.json")}, "images": "/nowhere"}


def write_predictions(folder: Path, captions: dict[Any, str]) -> Path:
    path = folder / "predictions.json"
    path.write_text(json.dumps([{"image_id": i, "caption": text} for i, text in captions.items()]))
    return path


def hundredfold(ids: list[int]) -> dict[str, float]:
    scores = caption_scores([CAPTIONS[i] for i in ids], [REFERENCES[i] for i in ids])
    return {name: value for name, value in scores.items() if name.endswith("_x100")}


def test_a_file_of_captions_is_scored_without_model_or_photos(tmp_path: Path, data: dict[str, Any]) -> None:
    backwards = {str(i): CAPTIONS[i] for i in (4, 3, 2, 1)}
    found = score_predictions(data, write_predictions(tmp_path, backwards), split="val", name="nocaps validation")
    assert found["metrics"] == pytest.approx(hundredfold([1, 2, 3, 4]))
    assert found["domains"]["in-domain"] == pytest.approx(hundredfold([1, 2]))
    assert found["domains"]["out-domain"] == pytest.approx(hundredfold([3, 4]))
    assert found["bad_endings_share"] == 0.25
    assert found["dataset"] == {"name": "nocaps validation", "type": "nocaps", "split": "val", "num_photos": 4}
    assert set(found["not_computed"]) == {"meteor", "spice"}


@pytest.mark.parametrize(
    ("captions", "sentence"),
    [
        ({1: "a", 2: "b"}, r"\(2 x caption missing: 3, 4\)"),
        ({**CAPTIONS, 9: "a"}, r"\(1 x photo unknown: 9\)"),
        ({**CAPTIONS, "1": "a"}, r"\(1 x caption given twice: 1\)"),
    ],
)
def test_ids_are_checked(tmp_path: Path, data: dict[str, Any], captions: dict[Any, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        score_predictions(data, write_predictions(tmp_path, captions), split="val")


@pytest.mark.parametrize(
    "content", ["{}", "[]", "[1]", '[{"image_id": 1}]', '[{"image_id": [1], "caption": "a"}]', "[{"]
)
def test_files_of_another_layout_are_refused(tmp_path: Path, data: dict[str, Any], content: str) -> None:
    (tmp_path / "wrong.json").write_text(content)
    with pytest.raises(ValueError, match="wrong.json"):
        score_predictions(data, tmp_path / "wrong.json", split="val")
    with pytest.raises(ValueError, match="data.annotations names no split 'test'; it has val"):
        score_predictions(data, tmp_path / "wrong.json", split="test")


def test_a_split_without_captions_cannot_be_scored(tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}))
    with pytest.raises(ValueError, match="no caption"):
        data = {"format": "coco", "annotations": str(tmp_path / "test.json")}
        score_predictions(data, write_predictions(tmp_path, CAPTIONS), split="test")


def test_java_scores_or_the_reason_why_not(
    tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_spice(*arguments: Any, **options: Any) -> Any:
        raise caption_java.NotComputed("Java is not there")

    monkeypatch.setattr(caption_java, "meteor", lambda *arguments, **options: (0.25, [0.25] * 4))
    monkeypatch.setattr(caption_java, "spice", no_spice)
    found = score_predictions(data, write_predictions(tmp_path, CAPTIONS), split="val", java=True)
    assert found["metrics"]["meteor_x100"] == 25.0
    assert found["not_computed"] == {"spice": "Java is not there"}


def test_a_recipes_best_model_is_scored(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"epochs": 1, "mixed_precision": "bf16"})
    trained = train_here(recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    best = tmp_path / "run" / "best"
    after_training = json.loads((best / "evaluation.json").read_text())
    assert after_training["command"] == f"accelerate launch -m training.train {recipe.output}/recipe.yaml"
    again = evaluate_recipe(path)  # not under bf16, as the evaluation after training was not
    assert again["metrics"] == trained and again["command"] == f"updown evaluate {path} --split test"
    predictions = best / "predictions.json"
    from_file = evaluate_recipe(path, predictions=predictions, output=tmp_path / "figures.json")
    assert from_file["metrics"] == pytest.approx(again["metrics"])
    assert json.loads((tmp_path / "figures.json").read_text()) == from_file
    other = evaluate_recipe(path, model=str(best), split="val", num_beams=1, changes=["seed=3"])
    assert other["command"] == f"updown evaluate {path} --model {best} --split val --num-beams 1 --set seed=3"
    assert (other["seed"], other["decoding"], other["dataset"]["split"]) == (3, {"num_beams": 1}, "val")


def test_the_command_is_one_that_the_command_line_takes() -> None:
    command = evaluate_command("my recipe.yaml", {"--model": "m", "--split": "val"}, changes=[], java=False)
    parsed = build_parser().parse_args(shlex.split(command)[1:])
    assert (parsed.recipe, parsed.model, parsed.split) == ("my recipe.yaml", "m", "val")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(tmp_path).as_dict()))
    with pytest.raises(ValueError, match=r"best is not there: train first \(accelerate launch -m training.train"):
        evaluate_recipe(path)
    with pytest.raises(ValueError, match="there is no model folder runs/no/where"):
        evaluate_recipe(path, model="runs/no/where")
    with pytest.raises(ValueError, match="none.yaml is not there"):
        evaluate_recipe(tmp_path / "none.yaml")


def test_captions_come_in_the_order_of_the_ids() -> None:
    assert captions_of([("b", "2"), ("a", "1")], ["a", "b"], source="x") == ["1", "2"]
