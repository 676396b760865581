"""Questions from captions: what is read by hand, what is balanced by count, and no "no" to what a caption names."""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.shared_files import shared
from training.data.captions.formats import load_captions
from training.data.captions.phrases import COLOURS, KIND_OF, NAMES, VERB_FORMS, read_caption
from training.data.questions.formats import load_vqa
from training.data.questions.from_captions import ASKED, NEAR_COLOURS, caption_questions
from training.data.questions.rows import VQA_FEATURES


def caption_rows(images: Mapping[str, Sequence[str]], splits: Sequence[str] | None = None) -> datasets.Dataset:
    columns = {"image_id": list(images), "captions": list(images.values()), "split": splits or ["train"] * len(images)}
    features = datasets.Features(
        {
            "image_id": datasets.Value("string"),
            "captions": datasets.List(datasets.Value("string")),
            "split": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_dict(columns, features=features)


def asked_of(captions: Sequence[str], **options: Any) -> dict[str, list[str]]:
    """The open-ended questions on a single image and their answers."""
    columns = caption_questions(caption_rows({"a": captions}), per_image=1000, largest_share=1, **options)
    return dict(zip(columns["question"], columns["answers"], strict=True))


def drawn_captions(rng: random.Random) -> list[str]:
    """Five sentences of one made-up image, three of which say more than the others."""
    who, colour = rng.choice(("dog", "man", "woman", "horse", "girl")), rng.choice(("red", "blue", "green"))
    thing, place = rng.choice(("ball", "frisbee", "kite", "boat", "guitar")), rng.choice(("grass", "street", "park"))
    doing = rng.choice(("runs", "runs", "sits", "stands"))
    said = f"A {who} {doing} in the {place} with a {colour} {thing} ."
    return [said, said, said, f"A {who} near a {thing}", f"The {who} {doing} ."]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[str]]:
    rng = random.Random(0)
    return {f"image {number}": drawn_captions(rng) for number in range(150)}


PHRASES = [
    ("A brown and white dog", [("dog", 1, "brown and white", True)]),
    ("two young boys and a girl in t-shirts", [("boy", 2, "", True), ("girl", 1, "", True), ("shirt", 0, "", False)]),
    ("A couple of guys look at the camera", [("man", 2, "", True), ("camera", 1, "", False)]),
    ("a large group of people", [("person", 0, "", True)]),
    ("A picture of a cat", [("cat", 1, "", True)]),
    ("the man 's red hat", [("hat", 1, "red", False)]),
    ("a man sits while the man", [("man", 1, "", True)]),
    ("A train station and a mountain bike rider", [("person", 1, "", True)]),
    ("A pink tank top drinking beer", [("tank top", 1, "pink", True), ("beer", 1, "", False)]),
    ("a dog swings", [("dog", 1, "", True)]),
    ("a dog on swings", [("dog", 1, "", True), ("swing", 0, "", False)]),
    ("over a snow covered log", [("log", 1, "", False)]),
    ("a girl covered in snow", [("girl", 1, "", True), ("snow", 1, "", False)]),
    ("a stuffed animal", [("teddy bear", 1, "", True)]),
    ("A silver car by an orange", [("car", 1, "gray", True)]),
    ("", []),
    ("狗 🐕 ,,, 's and and 7", []),
]


@pytest.mark.parametrize(("text", "expected"), PHRASES, ids=[text[:30] or "empty" for text, _ in PHRASES])
def test_what_a_caption_names(text: str, expected: list[tuple[str, int, str, bool]]) -> None:
    found = read_caption(text).phrases
    assert [(one.name, one.number, one.colour, one.leads) for one in found] == expected


DEEDS = [
    ("A dog leaps over a log", [("dog", "jumping", "over", "log")]),
    ("Dogs run through the grass", [("dog", "running", "through", "grass")]),
    ("a man in a red shirt is riding his bike", [("man", "riding bike", "", "bike")]),
    ("a surfer rides a wave", [("person", "surfing", "", "wave")]),
    ("Two girls playing soccer", [("girl", "playing soccer", "", "")]),
    ("A man plays the guitar", [("man", "playing guitar", "", "guitar")]),
    ("A boy who jumps and splashes", [("boy", "jumping", "", ""), ("boy", "splashing", "", "")]),
    ("a man with a dog running", []),
    ("a man with a lady who is running", []),
    ("a boy in swimming trunks", []),
    ("A woman watches her dog jump", [("woman", "watching", "", "dog")]),
    ("a man prepares to jump", []),
    ("A cat is laying on a couch", [("cat", "lying", "on", "couch")]),
]


@pytest.mark.parametrize(("text", "expected"), DEEDS, ids=[text for text, _ in DEEDS])
def test_who_does_what(text: str, expected: list[tuple[str, str, str, str]]) -> None:
    caption = read_caption(text)
    names = [one.name for one in caption.phrases]
    found = [(names[d.doer], d.doing, d.preposition, names[d.target] if d.target >= 0 else "") for d in caption.deeds]
    assert found == expected


def test_where_things_are() -> None:
    for text, expected in (
        ("A dog with a ball runs along the beach", [("dog", "beach")]),
        ("On the beach a dog runs", []),
        ("the sand", []),
        ("a man sits on a bench in the park", [("man", "bench"), ("man", "park")]),
    ):
        caption = read_caption(text)
        assert [(caption.phrases[position].name, place) for position, place in caption.places] == expected


def test_the_questions_on_one_image_by_hand() -> None:
    captions = [
        "A brown dog leaps over a log in the grass .",
        "A brown dog with a blue collar jumps over a fallen log .",
        "The tan dog is jumping over a log on the grass",
        "Puppy runs over a log",
        "A dog outside .",
    ]
    assert asked_of(captions) == {
        "what color is the dog?": ["brown", "brown", "tan"],
        "what color is the collar?": ["blue"],
        "what is the dog doing?": ["jumping", "jumping", "jumping", "running"],
        "what is the dog jumping over?": ["log", "log", "log"],
        "what is the dog running over?": ["log"],
        "what is jumping over the log?": ["dog", "dog", "dog"],
        "what is running over the log?": ["dog"],
        "what animal is this?": ["dog"] * 5,
        "where is the dog?": ["grass", "grass"],
        "how many dogs are there?": ["1"] * 5,
    }


def test_questions_on_people_name_them_as_most_captions_do() -> None:
    captions = ["A man in a red shirt holds a guitar", "A guy in a red shirt", "A musician holding a guitar", "A woman"]
    assert asked_of(captions) == {
        "what color is the man's shirt?": ["red", "red"],
        "what is the man holding?": ["guitar", "guitar"],
        "who is holding the guitar?": ["man"],
        "how many people are there?": ["1"] * 4,
    }
    assert "what color is the shirt?" not in asked_of(["A boy and a man in a red shirt"] * 3), "whose?"


@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["Two dogs run", "Two brown dogs", "Dogs"], ["2", "2"]),
        (["A black dog and a white dog", "two dogs", "2 dogs"], ["2"] * 3),
        (["A dog", "A dog", "The dog"], ["1"] * 3),
        (["A dog", "A dog", "Dogs"], []),
        (["A dog", "A dog"], []),
        (["Two dogs", "Three dogs"], []),
        (["A dog watches as another runs", "A dog", "A dog", "A dog"], []),
        (["several dogs", "many dogs", "a pack of dogs"], []),
    ],
)
def test_how_many_dogs(captions: list[str], expected: list[str]) -> None:
    assert asked_of(captions).get("how many dogs are there?", []) == expected


def test_people_are_counted_over_their_names() -> None:
    asked = asked_of(["A man and two children sit on a bench", "A father and his two kids", "Three people"])
    assert asked["how many people are there?"] == ["3"] * 3
    assert asked["how many children are there?"] == ["2", "2"]
    assert "how many men are there?" not in asked


def test_an_answer_must_be_the_commonest() -> None:
    assert "what color is the dog?" not in asked_of(["A brown dog", "A white dog"])
    assert asked_of(["A brown dog", "A white dog", "a brown dog"])["what color is the dog?"] == ["brown"] * 2 + [
        "white"
    ]
    assert "what is the dog doing?" not in asked_of(["A dog runs", "A dog"]), "an activity needs two captions"


def test_yes_and_no_are_even_for_every_question(drawn: dict[str, list[str]]) -> None:
    columns = caption_questions(caption_rows(drawn))
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer, kind in zip(columns["question"], columns["answer"], columns["answer_type"], strict=True):
        if kind == "yes/no":
            answers[question][answer] += 1
    assert {"is there a boat?", "is there a kite?", "is the ball red?"} <= set(answers) and len(answers) > 12
    assert all(counts["yes"] == counts["no"] > 0 for counts in answers.values())
    of_image = Counter(columns["image_row"])
    checks = Counter(
        r for r, kind in zip(columns["image_row"], columns["answer_type"], strict=True) if kind == "yes/no"
    )
    assert max(of_image.values()) <= 8 and max(checks.values()) <= 3


def test_nothing_that_a_caption_names_gets_a_no(drawn: dict[str, list[str]]) -> None:
    """The slow twin: the text of the captions, searched for the object, and for the colours of the thing."""
    columns = caption_questions(caption_rows(drawn), seed=4)
    for row, question, answer in zip(columns["image_row"], columns["question"], columns["answer"], strict=True):
        text = " ".join(drawn[f"image {row}"])
        thing = re.fullmatch(r"is there (?:an? )?(\w+)\?", question)
        colour = re.fullmatch(r"is the (\w+) (\w+)\?", question)
        if thing and thing[1] not in ("person", "child"):
            assert (f" {thing[1]} " in text) == (answer == "yes"), (question, text)
        if colour:
            assert (f"{colour[2]} {colour[1]}" in text) == (answer == "yes"), (question, text)


@pytest.mark.parametrize(
    ("caption", "question"),
    [
        ("A surfer", "is there a surfboard?"),
        ("A surfer", "is there a man?"),
        ("Some people", "is there a woman?"),
        ("A duck", "is there a bird?"),
        ("An animal", "is there a dog?"),
        ("A dog with a toy", "is there a ball?"),
        ("A puppy house", "is there a dog?"),
    ],
)
def test_what_may_be_there_is_not_denied(caption: str, question: str) -> None:
    other = question.removeprefix("is there a ").removesuffix("?")
    images = {"a": [caption] * 3, "b": [f"A {other} indoors"] * 3, "c": ["A chair"] * 3}
    columns = caption_questions(caption_rows(images))
    found = {
        (image_id, answer)
        for image_id, q, answer in zip(columns["image_id"], columns["question"], columns["answer"], strict=True)
        if q == question
    }
    assert ("a", "no") not in found and found


def test_no_answer_is_right_too_often(drawn: dict[str, list[str]]) -> None:
    rows = caption_rows(drawn)
    for share in (0.5, 0.7):
        columns = caption_questions(rows, largest_share=share, per_image=1000)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for question, answer in zip(columns["question"], columns["answer"], strict=True):
            counts[question][answer] += 1
        large = {q: c for q, c in counts.items() if c.most_common(1)[0][1] > 3}
        assert "what is the dog doing?" in large
        assert all(c.most_common(1)[0][1] <= share * c.total() + 1 for c in large.values())
    everything = caption_questions(rows, largest_share=1, per_image=1000)
    assert everything["question"].count("how many dogs are there?") > 30
    assert columns["question"].count("how many dogs are there?") == 3, "one answer only"


def test_everything_follows_from_seed_and_image(drawn: dict[str, list[str]]) -> None:
    rows = caption_rows(drawn)
    order = random.Random(1).sample(range(len(rows)), len(rows))
    columns, shuffled = caption_questions(rows, seed=3), caption_questions(rows.select(order), seed=3)
    again, other = caption_questions(rows, seed=3), caption_questions(rows, seed=2)
    assert again == columns and other != columns
    facts = ("question_id", "image_id", "question", "answer", "details")
    assert set(zip(*(columns[name] for name in facts), strict=True)) == set(
        zip(*(shuffled[name] for name in facts), strict=True)
    )
    assert len(set(columns["question_id"])) == len(columns["question_id"])


def test_splits_are_kept_apart(drawn: dict[str, list[str]]) -> None:
    splits = ["train" if number % 3 else "val" for number in range(len(drawn))]
    rows = caption_rows(drawn, splits)
    columns = caption_questions(rows)
    assert [splits[row] for row in columns["image_row"]] == columns["split"]
    for split in ("train", "val"):
        alone = caption_questions(rows.filter(lambda name, wanted=split: name == wanted, input_columns="split"))
        ids = {q for q, name in zip(columns["question_id"], columns["split"], strict=True) if name == split}
        assert set(alone["question_id"]) == ids


def test_the_columns_are_those_of_a_vqa_data_set(drawn: dict[str, list[str]]) -> None:
    columns = caption_questions(caption_rows(drawn))
    assert [name for name in VQA_FEATURES if name != "image"] == list(columns)[:-1] and "image_row" in columns
    sizes = {len(values) for values in columns.values()}
    assert len(sizes) == 1
    del columns["image_row"]
    features = datasets.Features({name: VQA_FEATURES[name] for name in columns})
    assert len(datasets.Dataset.from_dict(columns, features=features)) == sizes.pop()
    kinds = {(json.loads(d)["kind"], a) for d, a in zip(columns["details"], columns["answer_type"], strict=True)}
    assert kinds == {
        *((kind, "other") for kind in ("object", "colour", "location", "activity")),
        ("number", "number"),
        ("yes/no", "yes/no"),
    }
    types = dict(zip(columns["question"], columns["question_type"], strict=True))
    assert types["is there a boat?"] == "is there a" and types["how many people are there?"] == "how many people are"
    assert types["what color is the ball?"] == "what color is the" and types["where is the dog?"] == "where is the"
    assert types["what is the man doing?"] == "what is the man"
    for answers, answer in zip(columns["answers"], columns["answer"], strict=True):
        assert answer == answers[0] == Counter(answers).most_common(1)[0][0]
        assert re.fullmatch(r"[a-z]+( and [a-z]+| [a-z]+)?|\d", answer)


def test_ugly_captions_and_images_without_any() -> None:
    images = {
        "a": ["", "🐕" * 50, "A dog jumps, " * 30_000, "and , 's of dog in"],
        "b": [],
        "c": ["A dog"] * 3,
        "d": ["Snow"] * 3,
    }
    columns = caption_questions(caption_rows(images))
    assert set(columns["image_id"]) <= {"a", "c", "d"}
    assert caption_questions(caption_rows({}))["question"] == []
    assert caption_questions(caption_rows({"a": []}))["question"] == []
    assert caption_questions(caption_rows({"c": ["A dog runs"] * 3}), per_image=1)["image_row"] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_image": 0}, "per_image 0 must be at least 1"),
        ({"largest_share": 0}, "largest_share 0 over 0"),
        ({"largest_share": 1.5}, "largest_share 1.5 over 0"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_questions(caption_rows({"a": ["A dog"]}), **options)  # type: ignore[arg-type]


def test_rows_that_are_no_captions() -> None:
    with pytest.raises(ValueError, match="no column captions, image_id, split; read them with load_captions"):
        caption_questions(datasets.Dataset.from_dict({"text": ["a"]}))


def test_lists_hold_together() -> None:
    nouns = Counter(noun for groups in NAMES.values() for group in groups for noun in group)
    assert nouns.most_common(1)[0][1] == 1, "a noun with two names"
    assert set(KIND_OF) >= ASKED and set().union(*NEAR_COLOURS) == set(COLOURS)
    pairs = {"run": "running", "ski": "skiing", "lie": "lying", "lay": "lying", "dive": "diving", "leap": "jumping"}
    assert {base: VERB_FORMS[base][0] for base in pairs} == pairs
    assert VERB_FORMS["carries"] == ("carrying", "s") and VERB_FORMS["catches"] == ("catching", "s")


def test_questions_on_real_captions() -> None:
    rows = load_captions("karpathy", annotations=shared("data/flickr8k/dataset_flickr8k.json"), split="val")
    rows = rows.select(range(400))
    columns = caption_questions(rows)
    kinds = Counter(json.loads(text)["kind"] for text in columns["details"])
    assert set(kinds) == {"object", "number", "colour", "location", "activity", "yes/no"}
    assert len(columns["question"]) >= 5 * len(rows) and min(kinds.values()) >= 80
    yes = Counter(columns["answer"])
    assert yes["yes"] == yes["no"]


def test_only_the_kinds_asked_for(tmp_path: Path) -> None:
    """They are those of the whole set, word for word."""
    names = [f"{number}.jpg" for number in range(6)]
    sentences = [[{"raw": f"two dogs run in the snow {'' if turn else 'fast'}"} for turn in range(5)] for _ in names]
    images = [{"filename": n, "split": "train", "sentences": own} for n, own in zip(names, sentences, strict=True)]
    (tmp_path / "d.json").write_text(json.dumps({"images": images}))
    options: dict[str, Any] = {"captions": {"format": "karpathy", "annotations": str(tmp_path / "d.json")}}
    everything = load_vqa("captions", **options)
    counted = load_vqa("captions", **options, answer_types=["number"])
    expected = [row for row in everything if row["answer_type"] == "number"]
    assert 0 < len(counted) < len(everything) and list(counted) == expected
    with pytest.raises(ValueError, match="answer_types is .*'count'.*; it is a list of yes/no, number, other"):
        load_vqa("captions", **options, answer_types=["count"])
    with pytest.raises(ValueError, match="answer_types is 'number'"):
        load_vqa("captions", **options, answer_types="number")
