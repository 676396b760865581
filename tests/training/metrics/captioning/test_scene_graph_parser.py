"""Captions into SPICE's tuples: agreement with 100 captions parsed by hand, and each rule by itself."""

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import pytest

import training.metrics.captioning.scene_graph_parser as parsing
from tests.training.metrics.captioning.parsed_words import ParsedCaption, RecordedPipeline, hand_parsed, parse
from training.metrics.captioning.dependencies import collapsed_dependencies
from training.metrics.captioning.ptb_tokenizer import ptb_tokenize
from training.metrics.captioning.scene_graph_parser import SceneGraphParser, load_pipeline, scene_tuples
from training.metrics.captioning.unavailable import NotComputed

Tuples = set[tuple[str, ...]]


def with_objects(tuples: Iterable[Sequence[str]]) -> Tuples:
    """The tuples and the objects that they imply, as a scene graph has them."""
    found = {tuple(item) for item in tuples}
    return found | {(item[0],) for item in found} | {(item[1],) for item in found if len(item) == 3}


def agreement(parsed: Sequence[Iterable[Sequence[str]]]) -> dict[int, tuple[int, int, int]]:
    """Length of tuples -> (in both, parsed alone, by hand alone) over the 100 captions; 0 for all lengths."""
    counts = {name: Counter[int]() for name in ("both", "parsed", "hand")}
    for row, tuples in zip(hand_parsed(), parsed, strict=True):
        ours, by_hand = with_objects(tuples), with_objects(row["tuples"])
        for name, items in (("both", ours & by_hand), ("parsed", ours - by_hand), ("hand", by_hand - ours)):
            counts[name].update(len(item) for item in items)
            counts[name][0] += len(items)
    return {length: tuple(counts[name][length] for name in ("both", "parsed", "hand")) for length in range(4)}


def tuples_of(text: str) -> Tuples:
    return {item for graph in collapsed_dependencies(parse(text)) for item in scene_tuples(graph)}


def test_agreement_with_captions_parsed_by_hand() -> None:
    """Precision 0.939 and recall 0.945 of all tuples; 0.976 and 0.986 of objects, 0.943 and 0.967 of attributes, 0.876
    and 0.866 of relations, whose errors are mostly prepositional phrases that hang on the noun before."""
    documents = [ParsedCaption(row["words"]) for row in hand_parsed()]
    parsed = [[item for graph in collapsed_dependencies(doc) for item in scene_tuples(graph)] for doc in documents]
    assert agreement(parsed) == {0: (553, 36, 32), 1: (282, 7, 4), 2: (116, 7, 4), 3: (155, 22, 24)}


def test_spacy_itself_agrees_as_well() -> None:
    try:
        parser = SceneGraphParser.find()
    except NotComputed as reason:
        pytest.skip(str(reason))
    parsed = parser.parse(ptb_tokenize([row["caption"] for row in hand_parsed()]))
    both, extra, missing = agreement(parsed)[0]
    assert both / (both + extra) > 0.9 and both / (both + missing) > 0.9  # other models and versions parse differently


def test_hand_parses_are_whole() -> None:
    rows = hand_parsed()
    assert len({row["caption"] for row in rows}) == 100
    assert all(with_objects(row["tuples"]) == {tuple(item) for item in row["tuples"]} for row in rows)
    for row in rows:  # what spaCy read is the caption, tokenised, with a capital and a full stop
        assert [word[0].lower() for word in row["words"]] == [*ptb_tokenize([row["caption"]])[0].split(), "."]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a lot of people are standing on the sidewalk",
            {("people", "a"), ("lot",), ("people", "sidewalk", "stand on")},
        ),
        ("dozens of kites fly high above the beach", {("kite", "dozen"), ("kite", "beach", "fly above")}),
        ("a man gives a girl a flower", {("man", "girl", "give"), ("man", "flower", "give")}),
        ("a woman's purse is on the bench", {("woman", "purse", "have"), ("purse", "bench", "on")}),
        ("a boy kicks the ball while his friends watch him", {("boy", "friend", "have"), ("friend", "boy", "watch")}),
        ("a dog that is wet shakes its fur", {("that", "wet"), ("dog", "fur", "have")}),
        ("the man is a baseball player", {("man", "player"), ("player", "baseball"), ("man",)}),
    ],
)
def test_rules_on_hand_parsed_captions(caption: str, expected: Tuples) -> None:
    row = next(row for row in hand_parsed() if row["caption"] == caption)
    graph = collapsed_dependencies(ParsedCaption(row["words"]))[0]
    assert expected <= set(scene_tuples(graph))


def test_compounds_are_attributes_and_no_objects() -> None:
    text = "A a DT DET det 2\nfire fire NN NOUN compound 2\nhydrant hydrant NN NOUN ROOT 2"
    assert tuples_of(text) == {("hydrant", "fire")}


def test_one_of_a_thing_has_no_number() -> None:
    assert tuples_of("One one CD NUM nummod 1\ndog dog NN NOUN ROOT 1") == {("dog",)}
    assert tuples_of("Two two CD NUM nummod 1\nsheep sheep NN NOUN ROOT 1") == {("sheep",), ("sheep", "two")}
    assert tuples_of("Cars car NNS NOUN ROOT 0\n5 5 CD NUM nummod 0") == {("car",)}  # as in "numbers 5"


def test_two_of_the_dogs_are_dogs() -> None:
    text = """
        Two two CD NUM nsubj 4
        of of IN ADP prep 0
        the the DT DET det 3
        dogs dog NNS NOUN pobj 1
        bark bark VBP VERB ROOT 4
        """
    assert tuples_of(text) == {("dog", "bark"), ("dog", "two"), ("dog",)}


def test_a_singular_pronoun_means_no_plural_noun() -> None:
    text = """
        Players player NNS NOUN nsubj 1
        watch watch VBP VERB ROOT 1
        {} - PRP$ PRON poss 3
        dog dog NN NOUN dobj 1
        """
    assert ("player", "dog", "have") in tuples_of(text.format("their"))
    assert ("player", "dog", "have") not in tuples_of(text.format("his"))


def test_relative_clauses_and_lone_participles_give_no_relation() -> None:
    text = """
        Girl girl NN NOUN ROOT 0
        who who WP PRON nsubj 2
        wears wear VBZ VERB relcl 0
        hats hat NNS NOUN dobj 2
        """
    assert tuples_of(text) == {("girl",), ("hat",)}
    assert tuples_of("Girl girl NN NOUN ROOT 0\nsmiling smile VBG VERB acl 0") == {("girl",)}
    assert tuples_of("Girl girl NN NOUN nsubj 1\nsmiles smile VBZ VERB ROOT 1") == {("girl",), ("girl", "smile")}


def test_each_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    row = hand_parsed()[0]
    pipeline = RecordedPipeline({row["caption"]: row["words"], "": []})
    parser = SceneGraphParser(pipeline)
    monkeypatch.setattr(parser, "_doc", lambda words: words)
    first = parser.parse([row["caption"], "", row["caption"]])
    assert first[0] == first[2] and first[1] == []
    assert parser.parse([row["caption"]]) == first[:1]
    assert pipeline.asked == [row["caption"], ""]


def test_what_is_missing_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    there: set[str] = set()
    monkeypatch.setattr(parsing, "find_spec", lambda name: name if name in there else None)
    with pytest.raises(NotComputed, match=r"spaCy is not installed; pip install 'modeling-updown\[spice\]'"):
        load_pipeline()
    there.add("spacy")
    with pytest.raises(NotComputed, match="no English model of spaCy is installed; .*spacy download"):
        load_pipeline()
    there.add("en_core_web_sm")
    monkeypatch.setattr(parsing, "import_module", broken)
    with pytest.raises(NotComputed, match=r"en_core_web_sm could not be loaded \(another version\); pip install"):
        load_pipeline()


def broken(name: str) -> Any:
    raise ImportError("another version")


def test_the_vendored_model_is_loaded_from_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        """Stands for spaCy and for the package of its model."""

        @staticmethod
        def load(place: str, *, exclude: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
            return place, exclude

        @staticmethod
        def model_path() -> str:
            return "somewhere"

    monkeypatch.setattr(parsing, "find_spec", lambda name: name if name in ("spacy", parsing.VENDORED_MODEL) else None)
    monkeypatch.setattr(parsing, "import_module", lambda name: Stand)
    assert load_pipeline() == ("somewhere", ("ner", "senter"))


def test_spacy_is_there_to_make_documents() -> None:
    if find_spec("spacy") is None:
        pytest.skip("needs spaCy (pip install 'modeling-updown[spice]')")
    from spacy.lang.en import English

    doc = SceneGraphParser(English())._doc(["a", "dog", "'s", "ball"])
    assert [word.text for word in doc] == ["A", "dog", "'s", "ball", "."]
