"""Evaluation by what images show: what captions invent (--objects), several captions (--samples), POPE's questions."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.tiny_run import tiny_recipe, tiny_vqa_recipe, train_here
from training.cli import main as updown
from training.compare import compare_models
from training.data.boxes.object_names import read_object_names
from training.evaluate import evaluate_recipe, read_objects, score_file
from training.metrics.captioning.chair import chair
from training.metrics.captioning.diversity import caption_diversity
from training.metrics.captioning.scores import caption_scores
from training.recipe_sections import Recipe
from training.tasks.vqa_recipe import VqaRecipe

REFERENCES = {1: ["a red dog runs", "the dog runs fast"], 2: ["two cats sleep on a mat"], 3: ["a man with a hat"]}
CAPTIONS = {1: "a dog and a cat", 2: "two cats on a bed", 3: "a man with a hat", 4: "a bus by a bench"}
BOXES = {1: ["dog"], 2: ["cat", "bed"], 4: ["bus"]}
CLASSES = {1: "dog", 2: "cat", 3: "bed", 4: "bus"}


@pytest.fixture
def instances(tmp_path: Path) -> Path:
    ids = {name: number for number, name in CLASSES.items()}
    notes = [{"image_id": i, "category_id": ids[name]} for i, names in BOXES.items() for name in names]
    return write(tmp_path / "instances.json", instances_of(notes))


def instances_of(notes: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [{"id": number, "name": name} for number, name in CLASSES.items()]
    owners = dict.fromkeys(note["image_id"] for note in notes)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in owners]
    boxed = [{"id": n, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0, **note} for n, note in enumerate(notes, 1)]
    return {"images": images, "annotations": boxed, "categories": categories}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """The `data` section of four images, the last without captions."""
    notes = [{"image_id": i, "caption": text} for i, texts in REFERENCES.items() for text in texts]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2, 3, 4)]
    path = write(tmp_path / "test.json", {"images": images, "annotations": notes})
    return {"format": "coco", "annotations": {"test": str(path)}, "images": "/nowhere"}


def predictions_of(folder: Path, captions: dict[int, str]) -> Path:
    return write(folder / "said.json", [{"image_id": i, "caption": text} for i, text in captions.items()])


def recipe_file(folder: Path, data: dict[str, Any], task: str = "captioning") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"task": task, "output": str(folder / "run"), "data": data}))
    return path


def test_captions_of_images_with_boxes_are_scored_by_chair(
    tmp_path: Path, data: dict[str, Any], instances: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images 1 to 3 have captions, 1, 2 and 4 boxes: every figure is of its own images."""
    path, said = recipe_file(tmp_path, data), predictions_of(tmp_path, CAPTIONS)
    command = ["evaluate", str(path), "--predictions", str(said), "--split", "test", "--objects", str(instances)]
    assert updown([*command, "--output", str(tmp_path / "one")]) == 0
    assert "4 images, 3 images captioned, 3 images boxed" in capsys.readouterr().out
    found = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    told = [CAPTIONS[i] for i in REFERENCES]
    scores = caption_scores(told, list(REFERENCES.values()))
    assert found["metrics"]["cider_x100"] == pytest.approx(scores["cider_x100"])
    boxed = [CAPTIONS[i] for i in BOXES], [REFERENCES.get(i, []) for i in BOXES], list(BOXES.values())
    official, corrected = chair(*boxed), chair(*boxed, variant="corrected")
    assert found["metrics"]["chair_s_x100"] == pytest.approx(100 * official["chair_s"]) == pytest.approx(200 / 3)
    assert found["metrics"]["chair_i_x100"] == pytest.approx(100 * official["chair_i"]) == pytest.approx(40)
    assert found["metrics"]["chair_recall_x100"] == pytest.approx(75)
    assert (
        found["metrics"]["chair_i_corrected_x100"]
        == pytest.approx(100 * corrected["chair_i"])
        == pytest.approx(100 / 3)
    )
    assert f"--objects {instances}" in found["command"]
    items = json.loads((tmp_path / "one" / "item_scores.json").read_text())
    assert items["chair_s"] == {"ids": ["1", "2", "4"], "values": [1, 0, 1]}
    assert items["chair_i"] == {"ids": ["1", "2", "4"], "values": [0.5, 0, 1], "own_weights": [2, 2, 1]}
    assert items["cider_d"]["ids"] == ["1", "2", "3"]
    assert len(json.loads((tmp_path / "one" / "predictions.json").read_text())) == 4


def test_what_captions_invent_is_compared(tmp_path: Path, data: dict[str, Any], instances: Path) -> None:
    path, folders = recipe_file(tmp_path, data), {}
    for name, captions in {"first": CAPTIONS, "second": {**CAPTIONS, 1: "a dog", 4: "a bus"}}.items():
        folders[name] = tmp_path / name
        said = predictions_of(tmp_path, captions)
        evaluate_recipe(path, predictions=said, split="test", objects=instances, output=folders[name])
    differences = compare_models(folders)[1]["differences"]
    assert differences["chair_s"]["difference_x100"] == pytest.approx(-66.67)
    assert differences["chair_i"]["difference_x100"] == pytest.approx(-40)  # 2 of 5 named, then 0 of 3
    low, high = differences["chair_i"]["interval_x100"]
    assert low < -40 < high <= 0


def test_without_objects_nothing_changes(tmp_path: Path, data: dict[str, Any]) -> None:
    said = predictions_of(tmp_path, {i: CAPTIONS[i] for i in REFERENCES})
    found, scored = score_file(Recipe("captioning", "x", data), said, split="test")
    assert found["dataset"] == {"name": "coco", "type": "coco", "split": "test", "num_photos": 3}
    assert not any(name.startswith("chair") for name in (*found["metrics"], *scored.items))


def test_captions_that_name_nothing_have_no_chair_i(tmp_path: Path, data: dict[str, Any], instances: Path) -> None:
    said = predictions_of(tmp_path, dict.fromkeys(CAPTIONS, "something"))
    found = evaluate_recipe(recipe_file(tmp_path, data), predictions=said, split="test", objects=instances)
    assert "chair_i_x100" not in found["metrics"] and found["metrics"]["chair_s_x100"] == 0
    assert found["not_computed"]["chair_i"] == "no caption names one of COCO's 80 objects"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "holds no boxes"),
        (
            {"images": [{"id": 1}], "annotations": [{"image_id": 1, "category_id": 9}], "categories": []},
            "unlisted category_id 9",
        ),
        ([], "instances.json"),
        ({"images": [], "annotations": [{"image_id": 1}], "categories": []}, "category_id"),
    ],
)
def test_files_without_boxes_are_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_object_names(write(tmp_path / "instances.json", content))


def test_images_in_which_nobody_drew_boxes_are_left_out(tmp_path: Path) -> None:
    content = instances_of([{"image_id": 1, "category_id": 1}])
    content["images"] += [{"id": 2}, {"id": 3}]
    assert read_object_names(write(tmp_path / "all.json", content)) == {"1": {"dog"}, "2": set(), "3": set()}
    for image, source in zip(content["images"], ("people", "people", None), strict=True):
        image["box_source"] = source
    assert read_object_names(write(tmp_path / "some.json", content)) == {"1": {"dog"}, "2": set()}


def test_options_that_cannot_be_met_are_refused(tmp_path: Path, data: dict[str, Any], instances: Path) -> None:
    path, said = recipe_file(tmp_path, data), predictions_of(tmp_path, CAPTIONS)
    elsewhere = write(tmp_path / "other.json", instances_of([{"image_id": 77, "category_id": 1}]))
    with pytest.raises(ValueError, match="none of the 4 images of the split 'test', such as 1, has boxes"):
        evaluate_recipe(path, predictions=said, split="test", objects=elsewhere)
    others = instances_of([{"image_id": 1, "category_id": 1}])
    others["categories"] = [{"id": 1, "name": "Sky"}]
    with pytest.raises(ValueError, match="called by one of COCO's 80 objects, but 'sky' and the like"):
        evaluate_recipe(path, predictions=said, split="test", objects=write(tmp_path / "others.json", others))
    with pytest.raises(ValueError, match="--samples are drawn from a model: leave --predictions out"):
        evaluate_recipe(path, predictions=said, split="test", num_samples=5)
    with pytest.raises(ValueError, match="draw at least 2 of each image"):
        evaluate_recipe(path, split="test", num_samples=1)
    vqa = tiny_vqa_recipe(tmp_path)
    with pytest.raises(ValueError, match="--objects is for a recipe of captioning, prefix_lm, and this one is"):
        read_objects(vqa, instances)
    written = tmp_path / "vqa.yaml"
    written.write_text(yaml.safe_dump(vqa.as_dict()))
    with pytest.raises(ValueError, match="--samples is for a recipe of captioning, prefix_lm"):
        evaluate_recipe(written, num_samples=5)


def test_a_model_is_scored_by_objects_and_samples(tmp_path: Path) -> None:
    """Its figures are those of its files; the samples are drawn again the same, and the caption's figures stay."""
    recipe = tiny_recipe(tmp_path, train={"max_steps": 2})
    plain = train_here(recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict()))
    ids = [row["image_id"] for row in json.loads((tmp_path / "run" / "best" / "predictions.json").read_text())]
    boxes = write(tmp_path / "boxes.json", instances_of([{"image_id": i, "category_id": 1} for i in ids[1:]]))
    options: dict[str, Any] = {"objects": boxes, "num_samples": 3}
    found = evaluate_recipe(path, output=tmp_path / "out", **options)
    assert found["dataset"]["num_photos_boxed"] == len(ids) - 1
    assert {name: found["metrics"][name] for name in plain} == pytest.approx(plain)
    assert found["samples"] == {"num_samples": 3, "do_sample": True, "top_k": 0, "temperature": 1.0}
    drawn = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert [row["image_id"] for row in drawn] == ids and {len(row["captions"]) for row in drawn} == {3}
    assert evaluate_recipe(path, output=tmp_path / "again", **options)["metrics"] == found["metrics"]
    from training.tasks.captions import caption_rows

    references = caption_rows(recipe.data, split="test")["captions"][:]
    scores = caption_diversity([row["captions"] for row in drawn], references)
    for name in ("div_1_x100", "mbleu_4_x100", "self_cider_x100", "oracle_cider_x100", "distinct_words"):
        assert found["metrics"][name] == pytest.approx(scores[name])
    items = json.loads((tmp_path / "out" / "item_scores.json").read_text())
    assert items["oracle_cider"]["values"] == pytest.approx(scores["per_item"]["oracle_cider"], abs=1e-6)
    evaluate_recipe(path, output=tmp_path / "out")
    assert not (tmp_path / "out" / "samples.json").exists()


# -- POPE ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pope_data(tmp_path: Path) -> dict[str, Any]:
    """Questions on an image of a dog and one of a cat."""
    asked = [("dog", 1, "yes"), ("cat", 1, "no"), ("cat", 2, "yes"), ("apple", 2, "no")]
    lines = [
        {"question_id": n, "image": f"{image}.jpg", "text": f"Is there a {name} in the image?", "label": label}
        for n, (name, image, label) in enumerate(asked, start=1)
    ]
    path = tmp_path / "coco_pope_popular.json"
    path.write_text("\n".join(map(json.dumps, lines)))
    return {"format": "pope", "questions": str(path)}


def test_answers_to_pope_are_scored_as_pope_scores_them(tmp_path: Path, pope_data: dict[str, Any]) -> None:
    said = ["Yes.", "no, it is not", "There is no cat", "red"]
    path = write(tmp_path / "said.json", [{"question_id": n, "answer": text} for n, text in enumerate(said, start=1)])
    found, scored = score_file(VqaRecipe("vqa", "x", pope_data), path, split="test")
    assert found["metrics"] == pytest.approx(
        {"accuracy_x100": 50, "precision_x100": 50, "recall_x100": 50, "f1_x100": 50, "yes_share_x100": 50}
    )
    assert found["domains"]["sampling: popular"]["questions"] == 4
    assert scored.items["accuracy"]["values"] == [1, 1, 0, 0] and scored.items["yes_share"]["values"] == [1, 0, 0, 1]


def test_captions_answer_pope(tmp_path: Path, pope_data: dict[str, Any]) -> None:
    said = predictions_of(tmp_path, {1: "two dogs and a cat", 2: "a kitten"})
    found, scored = score_file(VqaRecipe("vqa", "x", pope_data), said, split="test")
    assert [row["answer"] for row in scored.predictions] == ["yes", "yes", "yes", "no"]
    assert found["metrics"]["accuracy_x100"] == 75 and found["metrics"]["recall_x100"] == 100
    with pytest.raises(ValueError, match="lacks 1 captions of images that POPE asks of, such as 2"):
        score_file(VqaRecipe("vqa", "x", pope_data), predictions_of(tmp_path, {1: "a dog"}), split="test")
    answers = write(tmp_path / "few.json", [{"question_id": 1, "answer": "yes"}])
    with pytest.raises(ValueError, match="lacks 3 answers to questions that POPE asks of, such as 2"):
        score_file(VqaRecipe("vqa", "x", pope_data), answers, split="test")
    never = predictions_of(tmp_path, {1: "a bench", 2: "a bench"})
    found = score_file(VqaRecipe("vqa", "x", pope_data), never, split="test")[0]
    assert "precision_x100" not in found["metrics"] and "divides by zero" in found["not_computed"]["precision"]
