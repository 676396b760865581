"""Answer normalisation and soft scores against the official evaluators' outputs, by hand, and against naive twins."""

import json
import random
import re
from typing import Any

import pytest

from processors.answer_text_updown import (
    CONTRACTIONS,
    PUNCTUATION,
    clean_answer,
    normalize_answer,
    normalize_answer_evalai,
    normalize_words,
    soft_score,
    soft_scores,
    strip_punctuation,
)
from tests.shared_files import shared


def golden(name: str) -> Any:
    return json.loads(shared(f"golden/{name}").read_text())


def naive_strip_punctuation(text: str) -> str:
    """As the evaluator words it: mark by mark, the tests on the original text."""
    result = text
    for mark in PUNCTUATION:
        touches_a_space = mark + " " in text or " " + mark in text
        result = result.replace(mark, "" if touches_a_space or re.search(r"(\d)(\,)(\d)", text) else " ")
    return re.sub(r"(?!<=\d)(\.)(?!\d)", "", result, count=32)


def naive_soft_score(answer: str, answers: list[str]) -> float:
    scores = []
    for left_out in range(len(answers)):
        others = [other for number, other in enumerate(answers) if number != left_out]
        scores.append(min(1, others.count(answer) / 3))
    return sum(scores) / len(scores)


def test_answers_normalise_as_the_reference_implementation() -> None:
    rows = golden("reference/vqa.json")["answer_normalisation"]
    assert rows
    for row in rows:
        assert normalize_answer(row["raw"]) == row["normalised"]
        assert strip_punctuation(row["raw"]) == row["after_punctuation"]
        assert normalize_words(row["raw"]) == row["after_digit_article_only"]


def test_answers_normalise_as_the_official_evaluators() -> None:
    data = golden("metrics/vqa_normalisation.json")
    strings, expected = data["inputs"]["strings"], data["expected"]
    assert [[strip_punctuation(s), normalize_words(s), normalize_answer(s)] for s in strings] == expected["vqa"]
    assert [normalize_answer_evalai(s) for s in strings] == expected["evalai"]


def test_soft_scores_are_the_reference_implementations() -> None:
    data = golden("reference/vqa.json")
    for count, expected in data["get_score"].items():
        assert soft_score(int(count), form="table") == expected
    labels = data["soft_scores"]["ans2label"]
    for row in data["soft_scores"]["rows"]:
        scores = soft_scores(row["answers"], form="table")
        known = [(labels[answer], score) for answer, score in scores.items() if answer in labels]
        assert known == list(zip(row["labels"], row["scores"], strict=True))


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("The  Dog.", "dog"),
        ("a red-and-white bus", "red and white bus"),
        ("well-known - yes", "wellknown yes"),  # the mark touches a space once, so it goes everywhere
        ("1,000/2", "10002"),  # digit,digit: every mark goes
        ("u.s. 5.5 .5 5.", "us 5.5 .5 5"),  # a full stop stays before a digit alone
        ("None", "0"),
        ("ten of eleven", "10 of eleven"),
        ("an hour", "hour"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("'ows'at", "'ow's'at"),
        ("Im", "im"),  # the evaluator lists "Im", which no lower-cased word is
        ("Id've", "id've"),
        ("lets", "lets"),
        ("the", ""),
        ("", ""),
        ("?", ""),
        ("it's 3 o'clock", "it's 3 o'clock"),
        ("café – naïve 🐶", "café – naïve 🐶"),  # only the listed marks are marks
        ("٣,٤ a/b", "٣٤ ab"),  # digits of any script
    ],
)
def test_answers_normalise_by_hand(raw: str, normalised: str) -> None:
    assert normalize_answer(raw) == normalised


def test_every_contraction_of_the_evaluator_that_can_match_is_there() -> None:
    assert len(CONTRACTIONS) == 114
    assert all(key.replace("'", "") == value.replace("'", "") for key, value in CONTRACTIONS.items())
    assert {len(value) - len(key) for key, value in CONTRACTIONS.items() if key != "somebody'd"} == {1}
    assert CONTRACTIONS["y'all'dve"] == CONTRACTIONS["yall'd've"] == "y'all'd've"


def test_no_more_than_32_stops_go() -> None:
    assert strip_punctuation("." * 40) == "." * 8
    assert strip_punctuation("a" + ".b" * 33) == "a" + "b" * 32 + ".b"


def test_punctuation_goes_as_in_a_naive_twin() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        text = "".join(draw.choices("ab1 2.,'" + PUNCTUATION, k=draw.randint(0, 9)))
        assert strip_punctuation(text) == naive_strip_punctuation(text), text


def test_cleaning_takes_line_breaks_and_ends() -> None:
    assert clean_answer("\tstop\nsign \n") == "stop sign"
    assert normalize_answer("a-b\n-c") == "b c"
    assert normalize_answer(clean_answer("a-b\n-c")) == "ab c"  # what the evaluator does: now the mark touches a space


def test_the_challenge_server_splits_off_the_genitive() -> None:
    assert normalize_answer_evalai("The Dog's, 2?") == "dog 's 2"
    assert normalize_answer_evalai(" It's\n") == "it 's"


def test_leave_one_out_is_the_mean_over_annotators() -> None:
    draw = random.Random(1)
    for _ in range(200):
        answers = draw.choices("abcd", weights=(5, 3, 1, 1), k=draw.randint(1, 12))
        for answer, score in soft_scores(answers).items():
            assert score == pytest.approx(naive_soft_score(answer, answers), abs=1e-15)


def test_soft_scores_by_hand() -> None:
    answers = ["yes"] * 3 + ["no"] * 2 + ["maybe"]
    assert soft_scores(answers) == pytest.approx({"yes": 5 / 6, "no": 5 / 9, "maybe": 5 / 18})
    assert soft_scores(answers, form="table") == {"yes": 0.9, "no": 0.6, "maybe": 0.3}
    assert soft_scores(answers, form="agree_of_three") == pytest.approx({"yes": 1, "no": 2 / 3, "maybe": 1 / 3})
    assert soft_scores(["dog"]) == {"dog": 0}  # nobody is left to agree
    assert soft_scores([]) == {}


def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match="form is 'soft'; it can be one of leave_one_out, table, agree_of_three"):
        soft_scores(["a"], form="soft")
    with pytest.raises(ValueError, match="11 of 10 annotators cannot agree"):
        soft_score(11)


def test_a_text_is_normalised_once() -> None:
    normalize_answer.cache_clear()
    assert {normalize_answer(text) for text in ["The dog", "a dog!"] * 500} == {"dog"}
    assert normalize_answer.cache_info().misses == 2
