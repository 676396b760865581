"""SPICE by spaCy: figures by hand, the jar's word lists, WordNet's synsets against the jar's."""

import math
from pathlib import Path
from typing import Any

import pytest

import training.metrics.captioning.spice_spacy as module
from tests.training.metrics.captioning.parsed_words import RecordedPipeline, hand_parsed
from tests.training.metrics.captioning.test_spice import golden, spice_folder
from tests.training.metrics.vqa.tiny_wordnet import write_wordnet
from training.metrics.captioning.ptb_tokenizer import ptb_tokenize
from training.metrics.captioning.scene_graph_parser import SceneGraphParser
from training.metrics.captioning.spice import CATEGORIES, Synonyms, category_words, tuple_scores
from training.metrics.captioning.spice_spacy import spice_spacy, wordnet_synonyms
from training.metrics.captioning.unavailable import NotComputed
from training.metrics.vqa.wordnet import WordNet

BLACK_DOG = "a black dog runs through the green grass"
TWO_DOGS = "two dogs play with a red ball in the snow"
BIRD = "a bird is in the tree"
NO_SYNONYMS = Synonyms({}, {})


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> SceneGraphParser:
    """A parser of the hand-parsed captions alone."""
    tokenised = {ptb_tokenize([row["caption"]])[0]: row["words"] for row in hand_parsed()}
    made = SceneGraphParser(RecordedPipeline(tokenised))
    monkeypatch.setattr(made, "_doc", lambda words: words)
    return made


def test_figures_by_hand(parser: SceneGraphParser) -> None:
    # parsed: dog, grass, (dog, black), (grass, green), dog runs through grass; of the references: dog, ball, snow,
    # (dog, two), (ball, red), dog plays with ball, ball in snow, and bird, tree, bird in tree
    corpus, (first, second) = spice_spacy(
        [BLACK_DOG, BIRD], [[TWO_DOGS, BIRD], [BIRD]], parser=parser, synonyms=NO_SYNONYMS
    )
    assert first["all"] == pytest.approx(2 / 15)  # one of 5 against one of 10
    assert first["object"] == pytest.approx(2 / 7)  # dog; of 2 and 5
    assert (first["attribute"], first["relation"], first["color"], first["cardinality"]) == (0, 0, 0, 0)
    assert math.isnan(first["size"])
    assert (second["all"], second["object"], second["relation"]) == (1, 1, 1)
    assert corpus["all"] == pytest.approx((2 / 15 + 1) / 2)
    assert corpus["color"] == 0 and math.isnan(corpus["size"])  # the mean of the images that have a colour


def test_a_caption_equals_itself(parser: SceneGraphParser) -> None:
    captions = [row["caption"] for row in hand_parsed()]
    corpus, per_item = spice_spacy(captions, [[caption] for caption in captions], parser=parser, synonyms=NO_SYNONYMS)
    assert all(scores["all"] == 1 for scores in per_item)
    assert [corpus[name] for name in ("object", "attribute", "relation", "color", "cardinality", "size")] == [1.0] * 6


def test_ugly_captions_are_refused(parser: SceneGraphParser) -> None:
    with pytest.raises(ValueError, match="1 candidates but 2 lists"):
        spice_spacy([BIRD], [[BIRD], [BIRD]], parser=parser, synonyms=NO_SYNONYMS)


def test_without_wordnet_the_cure_is_named(parser: SceneGraphParser, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any) -> Any:
        raise FileNotFoundError("WordNet is not on this machine; install it")

    monkeypatch.setattr(module.WordNet, "find", missing)
    wordnet_synonyms.cache_clear()
    with pytest.raises(NotComputed, match="WordNet is not on this machine; install it"):
        spice_spacy([BIRD], [[BIRD]], parser=parser)


def test_the_word_lists_are_the_programs() -> None:
    assert category_words(spice_folder() / "spice-1.0.jar") == CATEGORIES


def test_synonyms_of_wordnets_files(tmp_path: Path) -> None:
    write_wordnet(tmp_path)
    synonyms = Synonyms.from_wordnet(WordNet(tmp_path))
    assert synonyms.senses("dogs") == synonyms.senses("hound") != frozenset()
    assert synonyms.senses("mice") == synonyms.senses("mouse")
    assert synonyms.senses("saw") == synonyms.senses("see")
    assert synonyms.senses("garbage bins") == synonyms.senses("garbage bin")
    assert len(synonyms.senses("bat")) == 3  # an animal, a club, to run
    assert synonyms.senses("unicorn") == frozenset()
    assert tuple_scores([["hounds"]], [[["dog"]]], synonyms=synonyms)["all"].f == 1


def test_wordnets_synonyms_score_as_the_official_program() -> None:
    data = golden()
    try:
        synonyms = Synonyms.from_wordnet(WordNet.find())
    except OSError:
        pytest.skip("needs WordNet 3.0 (apt install wordnet-base)")
    for item, expected in zip(data["inputs"]["items"], data["expected"]["scores"], strict=True):
        scores = tuple_scores(item["test"], item["refs"], synonyms=synonyms, categories=CATEGORIES)
        for name, official in expected.items():
            known = [math.nan if value is None else value for value in official]
            assert scores[name.lower()] == pytest.approx(known, abs=1e-12, nan_ok=True)
