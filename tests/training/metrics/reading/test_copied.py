"""Answers that OCR words can write: against every sequence of words on small inputs, and real receipts."""

import itertools
import json
import random

import pytest

from processors.answer_text_updown import normalize_answer_evalai
from tests.shared_files import shared
from training.metrics.reading import copied_answers, textvqa_accuracy
from training.metrics.reading.copied import fewest_pieces


def test_it_equals_every_sequence() -> None:
    draw = random.Random(0)
    for _ in range(300):
        pieces = [" ".join(draw.choices("abc", k=draw.randint(1, 2))) for _ in range(draw.randrange(1, 5))]
        words = draw.choices("abc", k=draw.randint(1, 4))
        tried = (
            length
            for length in range(1, 5)
            for chosen in itertools.product(pieces, repeat=length)
            if " ".join(chosen).split() == words
        )
        assert fewest_pieces(words, {tuple(piece.split()) for piece in pieces}) == next(tried, 0)


def test_the_best_answers_score_is_the_bound() -> None:
    answers = [["Coca Cola"] * 3 + ["coke"] * 7, ["stop"] * 10, ["blue"] * 10]
    words = [["COLA", "Coca"], ["STOP!"], ["Bus", "12"]]
    found = copied_answers(answers, words, normalize=normalize_answer_evalai)
    assert found["per_item"] == {"steps": [2, 1, 0], "answer": ["Coca Cola", "stop", ""]}
    assert found["copied_x100"] == pytest.approx(200 / 3) and found["in_one_step"] == pytest.approx(1 / 3)
    assert textvqa_accuracy(found["per_item"]["answer"], answers)["per_item"] == pytest.approx([0.9, 1, 0])
    more = copied_answers(answers, words, vocabulary=["blue", "coke"], normalize=normalize_answer_evalai)
    assert more["per_item"]["answer"] == ["coke", "stop", "blue"] and more["copied"] == 1


def test_long_answers_and_images_without_words_cannot_be_copied() -> None:
    found = copied_answers([["a b a"], ["a"], [""], []], [["a", "b"], [], ["", " "], ["a"]], max_steps=2)
    assert found["per_item"] == {"steps": [0, 0, 0, 0], "answer": ["", "", "", ""]}
    assert copied_answers([["a b a"]], [["a", "b"]], max_steps=3)["per_item"]["steps"] == [3]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="answers of 1 questions and words of 2"):
        copied_answers([["a"]], [["a"], ["b"]])
    with pytest.raises(ValueError, match="max_steps is 0"):
        copied_answers([["a"]], [["a"]], max_steps=0)


def test_real_receipts_have_a_bound() -> None:
    folder = shared("data/sroie")
    answers, words = [], []
    for path in sorted((folder / "key").glob("*.json"))[:20]:
        lines = (folder / "box" / f"{path.stem}.csv").read_text(encoding="utf-8").splitlines()
        for value in json.loads(path.read_text(encoding="utf-8")).values():
            answers.append([value])
            words.append([line.split(",", 8)[8] for line in lines])
    by_line = copied_answers(answers, words)
    by_word = copied_answers(answers, [[word for line in row for word in line.split()] for row in words], max_steps=50)
    assert 0 < by_line["copied"] < by_word["copied"] < 1
