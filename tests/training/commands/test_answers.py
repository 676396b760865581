"""`updown build-answers` as a user types it: the list, the printed coverage, and mistakes on one line."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.shared_files import shared
from training.commands.answers import add_build_answers
from training.commands.shared import one_sentence
from training.data.questions.answer_vocabulary import read_answers

ANSWERS = {
    "train": [("yes", "yes/no"), ("yes", "yes/no"), ("no", "yes/no"), ("two", "number"), ("red", "other")],
    "val": [("no", "yes/no"), ("yes", "yes/no"), ("2", "number"), ("a blue", "other")],
}


def run(*arguments: Any) -> int:
    """The command alone; errors are raised."""
    parser = argparse.ArgumentParser(prog="updown")
    add_build_answers(parser.add_subparsers(dest="command"))
    parsed = parser.parse_args(["build-answers", *map(str, arguments)])
    return parsed.run(parsed)


def write_official_files(folder: Path, split: str) -> dict[str, str]:
    """Question and annotation files of VQA v2; of ten people, one says "maybe" and one says what is in `ANSWERS`, with
    a full stop."""
    first = 1000 * (split == "val")
    questions, annotations = [], []
    for number, (answer, kind) in enumerate(ANSWERS[split], start=first):
        about = {"question_id": number, "image_id": number % 3}
        said = [answer] * 8 + [f"{answer}.", "maybe"]
        questions.append({**about, "question": "what is it?"})
        annotations.append(
            {
                **about,
                "question_type": "what is",
                "answer_type": kind,
                "multiple_choice_answer": answer,
                "answers": [
                    {"answer": text, "answer_confidence": "yes", "answer_id": i + 1} for i, text in enumerate(said)
                ],
            }
        )
    paths = {name: str(folder / f"{split}_{name}.json") for name in ("questions", "annotations")}
    facts = {"data_type": "mscoco", "data_subtype": f"{split}2014", "info": {}, "license": {}}
    Path(paths["questions"]).write_text(json.dumps({**facts, "task_type": "Open-Ended", "questions": questions}))
    Path(paths["annotations"]).write_text(json.dumps({**facts, "annotations": annotations}))
    return paths


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose splits lie in files of their own; its images are nowhere."""
    by_split = {split: write_official_files(tmp_path, split) for split in ANSWERS}
    data: dict[str, Any] = {"format": "vqa_v2", "images": str(tmp_path / "no_images")}
    for name in ("questions", "annotations"):
        data[name] = {split: paths[name] for split, paths in by_split.items()}
    path = tmp_path / "vqa.yaml"
    path.write_text(yaml.safe_dump({"task": "vqa", "output": str(tmp_path / "run"), "data": data}))
    return path


def test_the_list_and_how_far_it_reaches(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "answers.json"
    assert run(recipe, "--split", "train+val", "--min-count", 2, "--output", output) == 0
    assert json.loads(output.read_text()) == ["yes", "2", "no"]  # equal counts in alphabetical order
    assert capsys.readouterr().out.splitlines() == [
        f"{output}: 3 answers, each seen at least 2 times",
        "from the 9 questions of train+val",
        "          questions  answer listed  any human answer listed  highest accuracy",
        "  all             9          77.8%                    77.8%             77.8%",
        "  yes/no          5         100.0%                   100.0%            100.0%",
        "  number          2         100.0%                   100.0%            100.0%",
        "  other           2           0.0%                     0.0%              0.0%",
        "commonest: yes (3); 2 (2); no (2)",
    ]


def test_the_split_is_the_one_to_train_on(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "answers.json"
    assert run(recipe, "--top", 2, "--output", output) == 0
    assert json.loads(output.read_text()) == ["yes", "2"]
    assert "from the 5 questions of train\n" in capsys.readouterr().out
    assert run(recipe, "--top", 2, "--output", output, "--set", "train.split=val") == 0
    assert json.loads(output.read_text()) == ["2", "blue"]
    assert run(recipe, "--top", 9, "--output", output, "--as-written", "--split", "val") == 0
    assert json.loads(output.read_text()) == ["2", "a blue", "no", "yes"]


def test_one_file_for_all_splits(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    for name in ("questions", "annotations"):
        content["data"][name] = list(content["data"][name].values())
    recipe.write_text(yaml.safe_dump(content))
    assert run(recipe, "--split", "train+val", "--top", 3, "--output", tmp_path / "answers.json") == 0
    assert read_answers(tmp_path / "answers.json").answers == ["yes", "2", "no"]


def test_hidden_answers_are_told(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(recipe.read_text())
    path = Path(content["data"]["annotations"]["val"])
    notes = json.loads(path.read_text())
    for note in notes["annotations"][:3]:
        note["answers"], note["multiple_choice_answer"] = [], ""
    path.write_text(json.dumps(notes))
    assert run(recipe, "--split", "val", "--top", 3, "--output", tmp_path / "answers.json") == 0
    assert "from the 4 questions of val, 3 of them without any answer\n" in capsys.readouterr().out


def test_the_rarest_are_shown(
    tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setitem(ANSWERS, "train", [(f"word{i:02}", "other") for i in range(24) for _ in range(30 - i)])
    monkeypatch.setitem(ANSWERS, "train", [*ANSWERS["train"], *[("the", "other")] * 40])
    write_official_files(tmp_path, "train")
    assert run(recipe, "--top", 22, "--output", tmp_path / "answers.json") == 0
    *_, commonest, rarest = capsys.readouterr().out.splitlines()
    assert commonest.startswith("commonest: nothing (40); word00 (30); word01 (29); ") and commonest.endswith(
        "; word08 (22)"
    )
    assert rarest.startswith("rarest: word11 (19); ") and rarest.endswith("; word19 (11); word20 (10)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-count", "50"], "no answer is seen 50 times; the commonest, 'yes', is seen 2 times: lower the minimum"),
        (["--top", "5", "--split", "test"], "data.questions names no split 'test'; it has train, val"),
        (["--top", "5", "--split", "train+test"], "data.questions names no split 'test'; it has train, val"),
        (["--top", "5", "--set", "data.format=vqa9"], "data.format is 'vqa9'; the task vqa takes vqa_v2"),
        (
            ["--top", "5", "--set", "task=captioning", "--set", "data.format=scenes"],
            "is of the task captioning, which has no answers",
        ),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: list[str], message: str, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as raised:
        run(recipe, *arguments, "--output", tmp_path / "answers.json")
    assert message in one_sentence(raised.value)
    assert not (tmp_path / "answers.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "a.json"], "one of the arguments --min-count --top is required"),
        (["--output", "a.json", "--min-count", "9", "--top", "9"], "not allowed with argument"),
        (["--output", "a.json", "--top", "0"], "'0' is not a whole number above 0"),
        (["--output", "a.txt", "--top", "9"], "'a.txt' is not a FILE.json"),
        (["--top", "9"], "the following arguments are required: --output"),
    ],
)
def test_arguments_are_checked_first(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("absent.yaml", *arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "example:\n  updown build-answers vqa/v2 " in capsys.readouterr().out


def test_real_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"format": "daquar", "pairs": str(shared("data/daquar/all_qa_pairs.txt"))}
    path = tmp_path / "daquar.yaml"
    path.write_text(yaml.safe_dump({"task": "vqa", "output": str(tmp_path / "run"), "data": data}))
    assert run(path, "--top", 100, "--as-written", "--output", tmp_path / "answers.json") == 0
    first, second, _, overall, commonest, _ = capsys.readouterr().out.splitlines()
    assert first.endswith("100 answers, each seen at least 10 times")
    assert second == "from the 6,795 questions of train" and overall.split() == ["all", "6,795", *["75.4%"] * 3]
    assert commonest.startswith("commonest: 2 (272); table (222); chair (200); 3 (184)")
