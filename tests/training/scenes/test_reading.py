"""Drawn images with writing: deterministic, every answer follows from the words, and words alone tell too little."""

import json
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.data.reading.formats import READING_FORMATS, load_reading
from training.data.reading.rows import READING_FEATURES
from training.metrics.reading import copied_answers
from training.scenes.draw import COLOURS
from training.scenes.reading import SMALLEST_SIDE, read_reading_scenes, reading_scene_rows, written_questions
from training.scenes.written import KINDS, LEAST_DIFFERENCE, draw_written


@pytest.fixture(scope="module")
def rows() -> Any:
    return reading_scene_rows(40, image_size=128)


def test_the_same_seed_draws_the_same(rows: Any) -> None:
    again = reading_scene_rows(8, image_size=128)
    assert again.features == READING_FEATURES and rows.features == READING_FEATURES
    for one, other in zip(again, rows, strict=False):
        assert np.array_equal(np.asarray(one.pop("image")), np.asarray(other.pop("image"))) and one == other


def test_splits_and_seeds_draw_others(rows: Any) -> None:
    texts = {}
    for name, options in {"val": {"split": "val"}, "seed": {"seed": 1}}.items():
        texts[name] = {word["text"] for own in reading_scene_rows(8, **options)["words"] for word in own}
    trained = {word["text"] for own in rows["words"] for word in own}
    for found in texts.values():
        new = [text for text in found - trained if text[-1] != ":"]
        assert len(new) > 0.7 * len([text for text in found if text[-1] != ":"])
    joined = read_reading_scenes(2, split="train+val", image_size=128)
    assert set(joined["split"][:]) == {"train", "val"}


def test_copied_answers_are_written_in_the_image(rows: Any) -> None:
    texts = [[word["text"] for word in own] for own in rows["words"]]
    found = copied_answers(rows["answers"][:], texts, normalize=str)
    copied = [json.loads(details)["copied"] for details in rows["details"]]
    assert [bool(steps) for steps in found["per_item"]["steps"]] == copied
    assert 0.5 < np.mean(copied) < 0.9 and max(found["per_item"]["steps"]) > 1


def bars_of(words: list[dict[str, Any]]) -> dict[str, int]:
    """A second program that knows the boxes alone: the value of a bar is the number over its name."""
    names = [word for word in words if word["box"][1] > 0.88]
    values = [word for word in words if 0.1 < word["box"][1] < 0.87]
    middles = [(word["box"][0] + word["box"][2]) / 2 for word in values]
    bars = {}
    for name in names:
        middle = (name["box"][0] + name["box"][2]) / 2
        nearest = min(range(len(values)), key=lambda place: abs(middles[place] - middle))
        bars[name["text"]] = int(values[nearest]["text"])
    return bars


def chart_answer(kind: str, question: str, bars: dict[str, int]) -> str:
    asked = question.rstrip("?").split()
    if kind == "charts_value":
        return str(bars[asked[-1]])
    if kind == "charts_more":
        return "yes" if bars[asked[1]] > bars[asked[-1]] else "no"
    if kind == "charts_compare":
        return max((asked[-3].rstrip(","), asked[-1]), key=bars.__getitem__)
    return (max if kind == "charts_most" else min)(bars, key=bars.__getitem__)


def test_answers_of_charts_follow_from_where_the_words_are(rows: Any) -> None:
    checked = Counter(kind for kind in rows["question_type"] if kind.startswith("charts"))
    for row in rows:
        if row["question_type"] in checked:
            assert row["answer"] == chart_answer(row["question_type"], row["question"], bars_of(row["words"]))
    assert sum(checked.values()) == 40 and len(checked) == 5


def lines_of(words: list[dict[str, Any]]) -> dict[str, str]:
    """The fields of a form by the colons of their names, after the title."""
    lines: dict[str, list[str]] = {}
    for word in words[2:]:
        if word["text"].endswith(":"):
            lines[word["text"][:-1]] = []
        else:
            lines[list(lines)[-1]].append(word["text"])
    return {key: " ".join(value) for key, value in lines.items()}


def test_answers_of_forms_follow_from_their_lines(rows: Any) -> None:
    checked = 0
    for row in rows:
        lines, asked = lines_of(row["words"]) if row["question_type"].startswith("forms") else {}, row["question"]
        if row["question_type"] == "forms_field":
            assert row["answer"] == lines[asked.rstrip("?").split()[-1]]
        elif row["question_type"] == "forms_has":
            key, value = asked.removeprefix("is the ").rstrip("?").split(" ", 1)
            assert row["answer"] == ("yes" if lines[key] == value else "no")
        checked += bool(lines)
    assert checked == 40


def test_boxes_hold_the_ink_of_their_words() -> None:
    for kind in KINDS:
        drawn = draw_written(kind, 3, seed=0, image_size=256)
        pixels = np.asarray(drawn.image.convert("L"), dtype=np.float32)
        for word in drawn.words:
            left, top, right, bottom = (round(256 * edge) for edge in word.box)
            inside = pixels[top:bottom, left:right]
            assert min(inside.shape) >= 3 and np.ptp(inside) > 100, (kind, word)


def test_words_stand_in_reading_order() -> None:
    form = draw_written("forms", 0, seed=0, image_size=128)
    keys = [word.text for word in form.words if word.text.endswith(":")]
    assert keys == [f"{key}:" for key in form.facts["fields"]]
    sign = draw_written("signs", 0, seed=0, image_size=128)
    assert [word.text for word in sign.words] == " ".join(sign.facts["lines"]).split()


def test_values_of_bars_are_told_apart() -> None:
    for index in range(30):
        bars = draw_written("charts", index, seed=0, image_size=96).facts["bars"]
        values = sorted(bars.values())
        assert 3 <= len(values) <= 5 and min(np.diff(values)) >= LEAST_DIFFERENCE


def test_questions_alone_do_not_tell_the_answer() -> None:
    rows = reading_scene_rows(240, image_size=SMALLEST_SIDE, split="val")
    by_kind = defaultdict(list)
    for kind, answer in zip(rows["question_type"][:], rows["answer"][:], strict=True):
        by_kind[kind].append(answer)
    for kind in ("forms_has", "charts_more"):
        assert 0.35 < by_kind[kind].count("yes") / len(by_kind[kind]) < 0.65
    for kind, answers in by_kind.items():
        most = Counter(answers).most_common(1)[0][1] / len(answers)
        assert most < (0.65 if kind in ("forms_has", "charts_more") else 0.35), kind
    assert set(by_kind["objects_colour"]) <= set(COLOURS)


def test_every_question_of_an_image_is_different() -> None:
    for kind in KINDS:
        for index in range(20):
            asked = list(written_questions(draw_written(kind, index, seed=5, image_size=96)))
            answers = defaultdict(set)
            for one in asked:
                answers[one.question].add(one.answer)
            if kind != "objects":  # where two shapes of one name and colour cannot be, but two words may be alike
                assert all(len(found) == 1 for found in answers.values())


def test_as_a_format_of_recipes() -> None:
    rows = load_reading(
        "scenes", formats={**READING_FORMATS, "scenes": read_reading_scenes}, num_scenes=2, kinds=["signs"], per_scene=2
    )
    assert len(rows) == 4 and isinstance(rows[0]["image"], Image.Image) and rows[0]["image"].size == (256, 256)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["posters"]}, r"kinds are \['posters'\]; choose some of objects, signs, forms, charts"),
        ({"kinds": []}, "kinds are"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"num_scenes": 0}, "must be at least 1"),
        ({"per_scene": 0}, "must be at least 1"),
        ({"image_size": 64}, "image_size 64 at least 96"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reading_scene_rows(**{"num_scenes": 1, **options})
