"""POPE's figures against the official script's, answers read by hand, and captions as answers."""

import gzip
import json
import math
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.vqa.pope import caption_answers, pope, says_yes


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/pope.json.gz").read_bytes()))


def test_every_figure_is_the_official_scripts() -> None:
    data = golden()
    stopped = 0
    for case, expected in zip(data["inputs"]["score"], data["expected"]["score"], strict=True):
        number = min(len(case["answers"]), len(case["labels"]))
        found = pope(case["answers"][:number], case["labels"][:number])
        if "error" in expected:
            assert math.isnan(found["precision"]) or math.isnan(found["recall"]) or math.isnan(found["f1"])
            stopped += 1
            continue
        counts = found["counts"]
        assert [expected[name] for name in ("TP", "FP", "TN", "FN")] == list(counts.values())
        for name, theirs in {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "f1"}.items():
            assert found[name] == pytest.approx(expected[theirs], abs=1e-12)
        if number == len(case["answers"]):
            assert found["yes_share"] == pytest.approx(expected["yes_ratio"], abs=1e-12)
        assert [int(said) for said in found["said_yes"]] == expected["pred"][:number]
    assert stopped < len(data["expected"]["score"])


@pytest.mark.parametrize(
    ("answer", "official", "corrected"),
    [
        ("no", False, False),
        ("No, there is not.", False, False),
        ("NO", True, False),
        ("nope", True, False),
        ("There isn't any", True, False),
        ("There isn\u2019t any", True, False),
        ("I see nothing", True, False),
        ("Yes. No, wait", True, True),
        ("yes, not only one", False, True),
        ("a dog but no cat", False, False),
        ("red", True, True),
        ("", True, False),
    ],
)
def test_answers_by_hand(answer: str, official: bool, corrected: bool) -> None:
    assert says_yes(answer) is official and says_yes(answer, variant="corrected") is corrected


def test_figures_by_hand() -> None:
    found = pope(["yes", "yes", "no", "no", "no"], ["yes", "no", "yes", "yes", "no"])
    assert (found["accuracy"], found["precision"], found["yes_share"]) == (0.4, 0.5, 0.4)
    assert found["recall"] == pytest.approx(1 / 3) and found["f1"] == pytest.approx(0.4)
    assert found["per_item"] == [1, 0, 0, 0, 1]
    never = pope(["no", "no"], ["yes", "no"])
    assert math.isnan(never["precision"]) and never["recall"] == 0 and math.isnan(never["f1"])


def test_captions_answer_by_what_they_name() -> None:
    captions = ["Two men on a bus with a cell phone", "a potted palm and an aardvark", ""]
    assert caption_answers(captions, ["person", "potted plant", "dog"]) == ["yes", "no", "no"]
    assert caption_answers(captions[:1] * 3, ["bus", "cell phone", "man"]) == ["yes", "yes", "yes"]
    assert caption_answers(captions[1:], ["aardvark", "aardvark"]) == ["yes", "no"]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="1 answers to 2 questions"):
        pope(["yes"], ["yes", "no"])
    with pytest.raises(ValueError, match="0 answers"):
        pope([], [])
    with pytest.raises(ValueError, match="'maybe' is neither yes nor no"):
        pope(["yes"], ["maybe"])
    with pytest.raises(ValueError, match="no variant 'own' of POPE"):
        pope(["yes"], ["yes"], variant="own")  # type: ignore[arg-type]
    for answers in ("ny", ["yes", None]):
        with pytest.raises(TypeError, match="answers should be a list of strings"):
            pope(answers, ["yes", "no"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 captions but 2 objects"):
        caption_answers(["a dog"], ["dog", "cat"])


def test_objects_are_asked_of_in_any_case() -> None:
    assert caption_answers(["a dog on a bus"] * 3, ["Bus", "DOG", "Cat"]) == ["yes", "yes", "no"]
