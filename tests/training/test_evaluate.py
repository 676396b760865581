"""Evaluation: of a saved model, and of captions or answers from a file, with a command that gives the figures again."""

import json
import math
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

import training.metrics.captioning.java as caption_java
import training.metrics.captioning.spice_spacy as caption_spice
from tests.tiny import rewrite_weights
from tests.training.metrics.captioning.tiny_meteor import write_meteor
from tests.training.tiny_run import (
    tiny_detection_recipe,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_statements_recipe,
    tiny_vqa_recipe,
    train_here,
    write_questions,
)
from training.cli import build_parser
from training.cli import main as updown
from training.data.files import read_table
from training.evaluate import evaluate_command, evaluate_recipe, score_file
from training.metrics.captioning.scene_graph_parser import SceneGraphParser
from training.metrics.captioning.scores import caption_scores
from training.metrics.captioning.unavailable import NotComputed
from training.metrics.vqa import vqa_accuracy
from training.recipe_sections import EvaluateRecipe, Recipe
from training.scenes.draw import draw_scene
from training.tasks.captioning_scores import captions_of
from training.tasks.vqa_recipe import VqaRecipe

REFERENCES = {
    1: ["a red dog runs", "the dog runs fast"],
    2: ["two cats sleep on a mat", "cats asleep"],
    3: ["a man with a hat", "the man wears a hat"],
    4: ["a blue bus", "a bus in the street"],
}
CAPTIONS = {1: "a dog runs", 2: "two cats sleep", 3: "a man with a", 4: "a blue bus in the street"}
DOMAINS = {1: "in-domain", 2: "in-domain", 3: "out-domain", 4: "out-domain"}


@pytest.fixture(autouse=True)
def no_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No parser, whether or not this machine has one."""

    def missing(*arguments: Any) -> Any:
        raise NotComputed("spaCy is not there; install it")

    monkeypatch.setattr(SceneGraphParser, "find", missing)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """The `data` section of four images with domains, of which only the captions are there."""
    notes = [{"image_id": i, "caption": text} for i, texts in REFERENCES.items() for text in texts]
    images = [{"id": i, "file_name": f"{i}.jpg", "domain": DOMAINS[i]} for i in REFERENCES]
    (tmp_path / "val.json").write_text(json.dumps({"images": images, "annotations": notes}))
    return {"format": "nocaps", "annotations": {"val": str(tmp_path / "val.json")}, "images": "/nowhere"}


def write_predictions(folder: Path, captions: dict[Any, str]) -> Path:
    path = folder / "predictions.json"
    path.write_text(json.dumps([{"image_id": i, "caption": text} for i, text in captions.items()]))
    return path


def score_predictions(data: dict[str, Any], path: Path, *, split: str, name: str = "", java: bool = False) -> Any:
    return score_file(Recipe("captioning", "x", data, data_name=name), path, split=split, java=java)[0]


def score_answers(data: dict[str, Any], path: Path, *, split: str, name: str = "") -> Any:
    return score_file(VqaRecipe("vqa", "x", data, data_name=name), path, split=split)[0]


def hundredfold(ids: list[int]) -> dict[str, float]:
    scores = caption_scores([CAPTIONS[i] for i in ids], [REFERENCES[i] for i in ids])
    return {name: value for name, value in scores.items() if name.endswith("_x100")}


def test_a_file_of_captions_is_scored_without_model_or_images(tmp_path: Path, data: dict[str, Any]) -> None:
    backwards = {str(i): CAPTIONS[i] for i in (4, 3, 2, 1)}
    found = score_predictions(data, write_predictions(tmp_path, backwards), split="val", name="nocaps validation")
    assert found["metrics"] == pytest.approx(hundredfold([1, 2, 3, 4]))
    assert found["domains"]["in-domain"] == pytest.approx(hundredfold([1, 2]))
    assert found["domains"]["out-domain"] == pytest.approx(hundredfold([3, 4]))
    assert found["bad_endings_share"] == 0.25
    assert found["dataset"] == {"name": "nocaps validation", "type": "nocaps", "split": "val", "num_photos": 4}
    no_meteor = {"meteor"} - {name[:6] for name in found["metrics"]}
    assert set(found["not_computed"]) == {"spice", "spice_spacy"} | no_meteor
    assert found["not_computed"]["spice_spacy"] == "spaCy is not there; install it"


@pytest.mark.parametrize(
    ("captions", "sentence"),
    [
        ({1: "a", 2: "b"}, r"\(2 x caption missing: 3, 4\)"),
        ({**CAPTIONS, 9: "a"}, r"\(1 x image unknown: 9\)"),
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

    monkeypatch.setattr(caption_java, "spice", no_spice)
    monkeypatch.setenv("METEOR_FOLDER", str(write_meteor(tmp_path)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = score_predictions(data, write_predictions(tmp_path, CAPTIONS), split="val", java=True)
    assert found["not_computed"] == {"spice": "Java is not there", "spice_spacy": "spaCy is not there; install it"}
    assert found["metrics"]["meteor_x100"] == hundredfold([1, 2, 3, 4])["meteor_x100"] > 0
    assert score_predictions(data, write_predictions(tmp_path, CAPTIONS), split="val")["metrics"] == found["metrics"]
    monkeypatch.setenv("METEOR_FOLDER", str(tmp_path / "nowhere"))
    found = score_predictions(data, write_predictions(tmp_path, CAPTIONS), split="val")
    assert "pip install pycocoevalcap" in found["not_computed"]["meteor"]
    assert not any(name.startswith("meteor") for name in found["metrics"])


def test_spice_by_spacy_with_its_categories_domains_and_items(
    tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("all", "object", "attribute", "relation", "color", "cardinality", "size")

    pipeline = SimpleNamespace(meta={"lang": "en", "name": "core_web_md", "version": "3.8.0"})
    parser = SceneGraphParser(pipeline)

    def scored(candidates: list[str], references: list[list[str]], **options: Any) -> Any:
        assert options == {"parser": parser}
        assert (candidates, references) == (list(CAPTIONS.values()), list(REFERENCES.values()))
        values = [dict.fromkeys(names, math.nan) | {"all": 0.1 * i, "color": 1.0} for i in range(1, 4)]
        return {}, [*values, dict.fromkeys(names, math.nan) | {"all": 0.4}]

    monkeypatch.setattr(SceneGraphParser, "find", lambda: parser)
    monkeypatch.setattr(caption_spice, "spice_spacy", scored)
    predictions = write_predictions(tmp_path, {str(i): CAPTIONS[i] for i in (4, 3, 2, 1)})
    found, scores = score_file(Recipe("captioning", "x", data), predictions, split="val")
    spice = {name: value for name, value in found["metrics"].items() if name.startswith("spice")}
    assert spice == pytest.approx({"spice_spacy_x100": 25, "spice_spacy_color_x100": 100})  # no size: NaN is left out
    assert found["domains"]["in-domain"]["spice_spacy_x100"] == pytest.approx(15)
    assert found["domains"]["out-domain"]["spice_spacy_x100"] == pytest.approx(35)
    assert found["spice_parser"] == "en_core_web_md 3.8.0"
    assert set(found["not_computed"]) == {"spice"} | ({"meteor"} - {name[:6] for name in found["metrics"]})
    assert scores.items["spice_spacy"] == {"ids": ["1", "2", "3", "4"], "values": [0.1, 0.2, 0.3, 0.4]}
    assert scores.items["spice_spacy_color"] == {"ids": ["1", "2", "3"], "values": [1, 1, 1]}
    assert "spice_spacy_size" not in scores.items


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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_evaluation_leaves_the_card_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the recipe's own run, on another split, with other beams, of a changed recipe: written only with --save."""
    recipe = tiny_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    path, best = tmp_path / "recipe.yaml", tmp_path / "run" / "best"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    before = contents(best)
    assert {"evaluation.json", "predictions.json", "item_scores.json"} <= set(before)
    capsys.readouterr()
    for more in (
        [],
        ["--split", "val"],
        ["--num-beams", "2"],
        ["--set", "data.num_scenes.test=4"],
        ["--model", str(best)],
    ):
        assert updown(["evaluate", str(path), *more]) == 0
        assert "written nowhere: --output FOLDER keeps them, --save puts them beside" in capsys.readouterr().err
        assert contents(best) == before
    scored = tmp_path / "scored"
    assert updown(["evaluate", str(path), "--split", "val", "--output", str(scored)]) == 0
    assert set(contents(scored)) == {"evaluation.json", "predictions.json", "item_scores.json"}
    assert contents(best) == before
    assert updown(["evaluate", str(path), "--split", "val", "--save"]) == 0
    assert json.loads((best / "evaluation.json").read_text())["dataset"]["split"] == "val"
    assert contents(best)["item_scores.json"] == contents(scored)["item_scores.json"]
    assert updown(["evaluate", str(path), "--update-card"]) == 0  # as it was called; training's figures again
    assert {name: text for name, text in contents(best).items() if name != "evaluation.json"} == {
        name: text for name, text in before.items() if name != "evaluation.json"
    }
    assert updown(["evaluate", str(path), "--predictions", str(best / "predictions.json"), "--save"]) == 2
    assert "--submission and --save are of a model" in capsys.readouterr().err


BROKEN = {  # kind of recipe -> a weight of its model, and what becomes no number with it
    tiny_recipe: ("lm_head.weight", "scores of words"),
    tiny_vqa_recipe: ("answers.weight", "scores of answers"),
    tiny_retrieval_recipe: ("image_projection.weight", "embeddings of images"),
    tiny_detection_recipe: ("heads.box_deltas.weight", "boxes of regions"),
}


@pytest.mark.parametrize("make_recipe", list(BROKEN), ids=lambda make: make.__name__)
def test_a_model_whose_numbers_are_none_gets_no_figures(
    make_recipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = make_recipe(tmp_path, train={"epochs": 1})
    train_here(recipe)
    path, best = tmp_path / "recipe.yaml", tmp_path / "run" / "best"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    name, what = BROKEN[make_recipe]
    rewrite_weights(best, lambda weights: {**weights, name: torch.full_like(weights[name], torch.nan)})
    before = contents(best)
    capsys.readouterr()
    assert updown(["evaluate", str(path), "--model", str(best), "--save"]) == 2
    told = capsys.readouterr()
    assert f"{best} makes {what} that are no numbers (NaN or infinity): its weights are damaged" in told.err
    assert told.out == "" and contents(best) == before


@pytest.mark.parametrize("format", ["coco", "nocaps"])
def test_captions_of_images_that_have_none_are_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    """Every image of the test file once, its id a number, in the order of the file; the card stays as it was."""
    recipe = tiny_recipe(tmp_path, train={"max_steps": 1})
    train_here(recipe)
    image_folder = tmp_path / "photos"
    image_folder.mkdir()
    ids = [30, 7, 12]
    for number in ids:
        draw_scene(number, seed=0, image_size=32)[0].save(image_folder / f"{number:012d}.png")
    images = [{"id": number, "file_name": f"{number:012d}.png", "width": 32, "height": 32} for number in ids]
    info = tmp_path / "image_info_test2014.json"
    info.write_text(json.dumps({"images": images, "licenses": []}))
    recipe.data = {"format": format, "annotations": {"test": str(info)}, "images": str(image_folder)}
    recipe.regions.store = str(tmp_path / "test_regions")
    path, best, upload = tmp_path / "recipe.yaml", tmp_path / "run" / "best", tmp_path / "new" / "upload.json"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    before = contents(best)
    capsys.readouterr()
    assert updown(["evaluate", str(path), "--submission", str(upload)]) == 0
    printed = capsys.readouterr().out.splitlines()
    reason = "the captions of this split are hidden; its organisers score them"
    assert printed == [f"{format} test, 3 images", f"  captions         not computed: {reason}"]
    submitted = json.loads(upload.read_text())
    assert [row["image_id"] for row in submitted] == ids
    assert all(set(row) == {"image_id", "caption"} for row in submitted)
    assert all(isinstance(row["caption"], str) for row in submitted) and contents(best) == before
    assert updown(["evaluate", str(path)]) == 2
    assert "or write what its organisers score with updown evaluate --submission FILE.json" in capsys.readouterr().err
    (image_folder / f"{7:012d}.png").write_bytes(b"no image")
    command = ["evaluate", str(path), "--submission", str(upload), "--set", f"regions.store={tmp_path / 'others'}"]
    assert updown(command) == 2
    assert "1 of the 3 images of 'test' have no regions, such as 7, and a submission" in capsys.readouterr().err


def test_images_that_have_captions_are_scored_beside_the_submission(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, train={"max_steps": 1})
    figures = train_here(recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    found = evaluate_recipe(path, submission=tmp_path / "upload.json")
    assert found["metrics"] == pytest.approx(figures)
    assert len(json.loads((tmp_path / "upload.json").read_text())) == 8
    with pytest.raises(ValueError, match="leave one of both out"):
        evaluate_recipe(path, submission=tmp_path / "upload.json", java=True)


def test_one_image_has_no_cider_and_the_other_figures(
    tmp_path: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = {"id": 1, "file_name": "1.jpg", "domain": "in-domain"}
    notes = [{"image_id": 1, "caption": text} for text in REFERENCES[1]]
    (tmp_path / "val.json").write_text(json.dumps({"images": [image], "annotations": notes}))
    with pytest.warns(UserWarning, match="CIDEr of a single image"):
        found = score_predictions(data, write_predictions(tmp_path, {1: CAPTIONS[1]}), split="val")
    without_data = {"bleu_1_x100", "bleu_2_x100", "bleu_3_x100", "bleu_4_x100", "rouge_l_x100"}
    assert set(found["metrics"]) - {"meteor_x100"} == without_data
    assert found["metrics"]["bleu_1_x100"] == pytest.approx(100 * math.exp(1 - 4 / 3))  # all words, one too few
    assert "CIDEr of a single image is 0 whatever the caption" in found["not_computed"]["cider"]
    assert not any(name.startswith("cider") for name in found["domains"]["in-domain"])

    def no_spice(*arguments: Any, **options: Any) -> Any:
        raise caption_java.NotComputed("Java is not there")

    monkeypatch.setattr(caption_java, "spice", no_spice)
    with pytest.warns(UserWarning, match="CIDEr of a single image"):
        with_java = score_predictions(data, write_predictions(tmp_path, {1: CAPTIONS[1]}), split="val", java=True)
    assert with_java["not_computed"] == found["not_computed"] | {"spice": "Java is not there"}


def test_cider_cannot_pick_the_best_of_models_that_caption_one_image(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, evaluate=EvaluateRecipe(max_images=1))
    with pytest.raises(ValueError, match="'val' with one image alone, and evaluate.metric is 'cider_d'"):
        train_here(recipe)
    recipe = tiny_recipe(tmp_path, evaluate=EvaluateRecipe(max_images=1, metric="bleu_1"), train={"max_steps": 1})
    assert train_here(recipe)["cider_x100"] >= 0


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


def test_beams_of_what_is_not_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_statements_recipe(tmp_path).as_dict()))
    with pytest.raises(ValueError, match="--num-beams is for what a model writes, and this recipe writes nothing"):
        evaluate_recipe(path, num_beams=2)
    with pytest.raises(ValueError, match="and this recipe ranks answers: leave it out"):
        evaluate_recipe("vqa/scenes_prefix", num_beams=2, changes=["evaluate.answers=rank"])


def test_captions_come_in_the_order_of_the_ids() -> None:
    assert captions_of([("b", "2"), ("a", "1")], ["a", "b"], source="x") == ["1", "2"]


# -- answers ---------------------------------------------------------------------------------------------------------

PEOPLE = {"1": ["red"] * 10, "2": ["two"] * 3 + ["3"] * 7, "3": ["no"] * 9 + ["yes"], "4": ["a dog"] * 2 + ["cat"] * 8}
SAID = {"1": "red", "2": "2", "3": "yes", "4": "dog"}


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """The `data` section of four questions; their images are nowhere."""
    rows = [
        {"question_id": name, "image": f"{name}.png", "question": "What?", "answers": people, "split": "val"}
        for name, people in PEOPLE.items()
    ]
    table = write_questions(tmp_path / "asked.jsonl", rows)
    return {"format": "table", "table": str(table), "images": "/nowhere"}


def write_answers(folder: Path, content: Any) -> Path:
    path = folder / "answers.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("names", [("question_id", "answer"), ("questionId", "prediction"), ()])
def test_a_file_of_answers_is_scored_without_model_or_images(
    tmp_path: Path, asked: dict[str, Any], names: tuple[str, ...]
) -> None:
    listed = (
        [dict(zip(names, (int(name), said), strict=True)) for name, said in reversed(SAID.items())] if names else SAID
    )
    found = score_answers(asked, write_answers(tmp_path, listed), split="val", name="four questions")
    expected = vqa_accuracy([SAID[name] for name in PEOPLE], list(PEOPLE.values()))
    assert found["metrics"] == pytest.approx({"accuracy_x100": expected["accuracy_x100"]})
    assert found["metrics"]["accuracy_x100"] == pytest.approx(100 * (1 + 0.9 + 0.3 + 0.6) / 4)
    assert found["dataset"] == {"name": "four questions", "type": "table", "split": "val", "num_questions": 4}
    assert found["not_computed"] == {} and found["task"] == "visual-question-answering"


def test_answers_that_do_not_match_are_listed_and_the_rest_is_scored(tmp_path: Path, asked: dict[str, Any]) -> None:
    pairs = [("1", "blue"), ("1", "red"), ("2", "2"), ("77", "no"), ("78", "no")]
    path = write_answers(tmp_path, [{"question_id": name, "answer": said} for name, said in pairs])
    with pytest.warns(UserWarning) as caught:
        found = score_answers(asked, path, split="val")
    (told,) = [str(warning.message) for warning in caught if "do not match" in str(warning.message)]
    assert "2 questions without a prediction, which count as wrong (3, 4)" in told
    assert "2 predictions of unknown questions, which are ignored (77, 78)" in told
    assert "1 questions predicted more than once, whose last prediction counts (1)" in told
    assert found["metrics"]["accuracy_x100"] == pytest.approx(100 * (1 + 0.9) / 4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (3, "is no list of answers: write"),
        ("red", "is no list of answers: write"),
        ([], "none of 0 predictions"),
        ({"annotations": []}, "none of 1 predictions .annotations. belongs to any of 4 questions .1, 2, 3, 4."),
        ([1], r"predictions.0. is 1; it needs a question_id and an answer"),
        ([{"question_id": 1}], r"predictions.0. is .*; it needs a question_id and an answer"),
        ([{"question_id": 1, "answer": 2}], "the answer to question 1 is no text; write it in quotation marks"),
        ([{"question_id": 9, "answer": "2"}], "are they of another split?"),
    ],
)
def test_files_that_hold_no_answers_are_refused(
    tmp_path: Path, asked: dict[str, Any], content: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"answers.json.*{sentence}"):
        score_answers(asked, write_answers(tmp_path, content), split="val")


def test_choices_are_scored_beside_the_answers(tmp_path: Path) -> None:
    rows = [
        {"question_id": i, "image": "1.png", "question": "What?", "choices": ["cat", "dog"], "correct_choice": 1}
        | {"split": "train"}
        for i in range(3)
    ]
    records = [
        {"image_id": 1, "question": "What?", "direct_answers": ["dog"] * 2 + ["cow"] * 8, "split": "val"}
        | {"question_id": f"a{i}", "choices": ["cat", "dog"], "correct_choice_idx": 1, "difficult_direct_answer": False}
        for i in range(3)
    ]
    table = write_questions(tmp_path / "asked.jsonl", rows)
    (tmp_path / "aokvqa.json").write_text(json.dumps(records))
    chosen = [
        {"question_id": 0, "answer": "dog", "choice": "dog"},
        {"question_id": 1, "answer": "cat", "choice": "dog"},
        {"question_id": 2, "answer": "dog", "choice": "cat"},
    ]
    found = score_answers({"format": "table", "table": str(table)}, write_answers(tmp_path, chosen), split="train")
    assert found["metrics"] == pytest.approx({"accuracy_x100": 200 / 3, "multiple_choice_x100": 200 / 3})
    upload = {f"a{i}": {"multiple_choice": "dog", "direct_answer": said} for i, said in enumerate(["dog", "cow", "x"])}
    upload["a2"].pop("multiple_choice")
    data = {"format": "aokvqa", "annotations": str(tmp_path / "aokvqa.json")}
    found = score_answers(data, write_answers(tmp_path, upload), split="val")
    assert found["metrics"] == pytest.approx({"accuracy_x100": 100 * (2 / 3 + 1) / 3, "multiple_choice_x100": 200 / 3})


def write_official_files(images: Path, folder: Path) -> dict[str, Any]:
    """The scenes' questions as VQA v2's files, answers of the test split hidden; returns the `data` section."""
    data: dict[str, Any] = {"format": "vqa_v2", "images": str(images), "questions": {}, "annotations": {"test": None}}
    rows = list(enumerate(read_table(images / "questions.jsonl")))
    for split, subtype in {"train": "train2014", "val": "val2014", "test": "test2015"}.items():
        chosen = [(number, row) for number, row in rows if row["split"] == split]
        questions = [
            {"question_id": number, "image_id": row["image_id"], "question": row["question"]} for number, row in chosen
        ]
        notes = [
            {"question_id": number, "image_id": row["image_id"], "multiple_choice_answer": row["answer"]}
            | {"question_type": row["question_type"], "answer_type": row["answer_type"]}
            | {"answers": [{"answer": said, "answer_id": i} for i, said in enumerate(row["answers"])]}
            for number, row in chosen
        ]
        contents = {
            "questions": {"data_subtype": subtype, "questions": questions},
            "annotations": {"annotations": notes},
        }
        for name, content in contents.items() if split != "test" else [("questions", contents["questions"])]:
            data[name][split] = str(folder / f"{split}_{name}.json")
            Path(data[name][split]).write_text(json.dumps(content))
    return data


def test_a_question_answerer_is_scored_and_its_answers_submitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_vqa_recipe(tmp_path, train={"epochs": 1}, data_name="scenes")
    recipe.data, recipe.evaluate.final_split = write_official_files(tmp_path / "photos", tmp_path), "val"
    trained = train_here(recipe)
    path, best = tmp_path / "recipe.yaml", tmp_path / "run" / "best"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    capsys.readouterr()
    upload, asked = tmp_path / "new" / "upload.json", tmp_path / "asked"
    after_training = contents(best)
    command = ["evaluate", str(path), "--split", "test", "--submission", str(upload), "--output", str(asked)]
    assert updown(command) == 0
    assert contents(best) == after_training  # the card keeps its figures
    printed = capsys.readouterr().out.splitlines()
    number = len(json.loads(Path(recipe.data["questions"]["test"]).read_text())["questions"])
    reason = "the answers of this split are hidden; its organisers score them"
    assert printed == [f"scenes test, {number} questions", f"  accuracy         not computed: {reason}"]
    submitted = json.loads(upload.read_text())
    predictions = json.loads((asked / "predictions.json").read_text())
    assert [(str(row["question_id"]), row["answer"]) for row in submitted] == [
        (row["question_id"], row["answer"]) for row in predictions
    ]
    assert len(submitted) == number and {type(row["question_id"]) for row in submitted} == {int}

    assert updown(["evaluate", str(path), "--save"]) == 0
    printed = capsys.readouterr().out.splitlines()
    evaluation = json.loads((best / "evaluation.json").read_text())
    assert evaluation["metrics"] == trained
    assert printed[:2] == ["scenes val, 31 questions", f"  accuracy_x100    {trained['accuracy_x100']:8.2f}"]
    told = {line.split("  ")[2]: line for line in printed[2:]}
    assert {"answers: number", "answers: other", "answers: yes/no", "questions: How"} <= set(told)
    assert told["answers: number"].endswith(" of 8 questions")
    assert evaluation["command"] == f"updown evaluate {path} --split val"
    again = updown([*shlex.split(evaluation["command"])[1:], "--save"])
    assert again == 0 and json.loads((best / "evaluation.json").read_text()) == evaluation
    blind = evaluate_recipe(
        path, changes=["train.withhold=image"], output=tmp_path / "blind.json"
    )  # a model only loaded
    assert blind["withheld"] == "image" and blind["dataset"] == evaluation["dataset"]
    assert json.loads((best / "evaluation.json").read_text()) == evaluation
    from_file = evaluate_recipe(path, predictions=best / "predictions.json", output=tmp_path / "figures.json")
    assert from_file["metrics"] == pytest.approx(trained) and from_file["domains"] == evaluation["domains"]
    assert json.loads((tmp_path / "figures.json").read_text()) == from_file


def test_what_cannot_be_submitted_is_told_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_vqa_recipe(tmp_path, data={"format": "folder", "folder": str(tmp_path)})
    path, upload = tmp_path / "recipe.yaml", str(tmp_path / "upload.json")
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    (tmp_path / "model").mkdir()
    command = ["evaluate", str(path), "--model", str(tmp_path / "model"), "--submission", upload]
    assert updown(command) == 2
    assert "nobody takes answers to 'folder'; there are vqa_v2, lxmert_vqa, gqa" in capsys.readouterr().err
    assert updown([*command, "--predictions", "x.json"]) == 2
    assert "leave --predictions out" in capsys.readouterr().err
    assert not Path(upload).exists()
