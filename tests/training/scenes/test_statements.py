"""Statements about drawn scenes: each class by a slow look at the scene, words that tell nothing, the same again."""

from collections import Counter, defaultdict

import pytest

from training.scenes.draw import PHRASES, scenes_dataset
from training.scenes.statements import (
    MORE,
    read_scene_pairs,
    read_scene_statements,
    scene_pair_rows,
    scene_statement_rows,
)

NUMBER, SIZE = 60, 32


@pytest.fixture(scope="module")
def scenes():
    rows = scenes_dataset(NUMBER, image_size=SIZE, split="val").remove_columns("image")
    return {row["image_id"]: row for row in rows}


@pytest.fixture(scope="module")
def statements():
    return scene_statement_rows(NUMBER, image_size=SIZE, split="val", per_scene=6)


@pytest.fixture(scope="module")
def pairs():
    return scene_pair_rows(NUMBER, image_size=SIZE, split="val", per_scene=6)


def fitting(things, words):
    """The places of the things that a noun fits, "red star", "star", "red thing"."""
    words = [word for word in words if word != "thing"]
    return [place for place, thing in enumerate(things) if {*words} <= {thing["name"], thing["colour"]}]


def judged(scene, sentence):
    """The class of a statement, by its words alone."""
    subject, _, rest = sentence.removeprefix("the ").partition(" is ")
    things = scene["objects"]
    found = fitting(things, subject.split())
    where = next((name for name in ("left of", "right of", "above", "below") if f"{name} the " in rest), "")
    if not where:
        if not found:
            return "neutral"
        (place,) = found
        value = rest.removeprefix("a ")
        holds = value in (things[place]["size"], things[place]["colour"], things[place]["name"])
        return "entailment" if holds else "contradiction"
    other = fitting(things, rest.split(" the ")[-1].split())
    if not found or not other:
        return "neutral"
    told = [(r["subject"], r["predicate"], r["object"]) for r in scene["relations"]]
    assert rest.startswith(PHRASES.get(where, where)) and len(found) == len(other) == 1
    return "entailment" if (found[0], where, other[0]) in told else "contradiction"


def test_every_class_is_what_the_scene_says(statements, scenes) -> None:
    for ids, sentence, label in zip(*(statements[name] for name in ("image_ids", "statement", "label")), strict=True):
        assert judged(scenes[ids[0]], sentence) == label, (sentence, label)
    assert max(Counter(ids[0] for ids in statements["image_ids"]).values()) <= 6
    assert sum(" of the " in text or " above " in text for text in statements["statement"]) > 10


@pytest.mark.parametrize("rows", ["statements", "pairs"])
def test_words_alone_say_nothing(rows: str, request: pytest.FixtureRequest) -> None:
    """Every sentence stands as often with each class, so whatever is guessed from words is right by chance, exactly."""
    given, classes = request.getfixturevalue(rows), {"statements": 3, "pairs": 2}[rows]
    of_sentence: dict[str, Counter] = defaultdict(Counter)
    for sentence, label in zip(given["statement"], given["label"], strict=True):
        of_sentence[sentence][label] += 1
    assert all(len(own) == classes and len({*own.values()}) == 1 for own in of_sentence.values())
    assert len(given) > 150 and len(of_sentence) > 30
    assert len({*given["statement_id"]}) == len(given)


def test_pairs_are_what_the_scenes_say(pairs, scenes) -> None:
    columns = (pairs[name] for name in ("image_ids", "statement", "label"))
    forms = Counter()
    for ids, sentence, label in zip(*columns, strict=True):
        left, right = (scenes[image]["objects"] for image in ids)
        if sentence == MORE:
            truth = len(left) > len(right)
        else:
            words = sentence.partition(" a ")[2] or sentence.partition(" an ")[2]
            shown = tuple(bool(fitting(side, words.split())) for side in (left, right))
            truth = {
                "both images show": shown == (True, True),
                "only one of": shown in ((True, False), (False, True)),
                "only the left": shown == (True, False),
                "only the right": shown == (False, True),
            }[" ".join(sentence.split()[:3])]
        assert truth is (label == "true"), (sentence, label)
        assert ids[0] != ids[1]
        forms[sentence.split()[2]] += 1
    assert min(forms.values()) > 5 and len(forms) == 5
    groups = Counter(pairs["group"])
    assert set(groups.values()) == {2}


def test_the_same_rows_again_and_others_of_another_seed(statements) -> None:
    again = scene_statement_rows(NUMBER, image_size=SIZE, split="val", per_scene=6)
    assert again["statement_id"][:] == statements["statement_id"][:]
    other = read_scene_statements(30, seed=1, image_size=SIZE, split="train+val", per_scene=2)
    assert {*other["split"]} == {"train", "val"} and not {*other["statement_id"]} & {*statements["statement_id"]}
    assert {*read_scene_pairs(10, image_size=SIZE)["split"]} == {"train"}


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="per_scene is 0; state at least one"):
        scene_statement_rows(5, per_scene=0)
    with pytest.raises(ValueError, match="1 scenes of train give no sentence all three classes: draw more"):
        scene_statement_rows(1, image_size=SIZE)
    with pytest.raises(ValueError, match="1 scenes of train give no sentence both classes: draw more"):
        scene_pair_rows(1, image_size=SIZE, per_scene=1)
    with pytest.raises(ValueError, match="unknown split 'night'"):
        read_scene_statements(5, split="night")
