"""WUPS against the official script where WordNet is there, and by hand on a tiny taxonomy everywhere."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from tests.training.metrics.vqa.tiny_wordnet import write_wordnet
from training.metrics.vqa.wordnet import Synset, WordNet
from training.metrics.vqa.wups import WordSimilarity, answer_items, fuzzy_match, fuzzy_match_of_known, wups


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    folder = tmp_path_factory.mktemp("wordnet")
    write_wordnet(folder)
    return WordNet(folder)


class Counting:
    """A taxonomy in which all known words are half alike, and that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def synsets(self, word: str, *, parts_of_speech: str = "nvar") -> list[Synset]:
        return [] if word.startswith("un") else [Synset("n", len(word))]

    def wup_similarity(self, first: Synset, second: Synset) -> float:
        self.asked += 1
        return 0.5


@pytest.mark.parametrize(("alpha", "name"), [(0.0, "0"), (0.9, "0.9")])
def test_phrases_score_as_the_official_script(alpha: float, name: str) -> None:
    pytest.importorskip("nltk", reason="needs nltk, whose tokeniser the official script uses")
    try:
        net = WordNet.find()
    except OSError as error:
        pytest.skip(str(error))
    data = json.loads(gzip.decompress(shared("golden/metrics/wups.json.gz").read_bytes()))
    scores = wups(data["inputs"]["pairs"], alpha, taxonomy=net)
    assert scores["per_item"] == pytest.approx(data["expected"][f"wups_{name}"], abs=1e-9)
    assert scores["wups"] == pytest.approx(data["expected"][f"mean_{name}"], abs=1e-9)


def test_items_score_by_hand(tiny: WordNet) -> None:
    pairs = [
        ("dog", "cat"),  # 0.75, a tenth below 0.9
        ("hound", "dog"),
        ("cat, dog", "dog, cat"),
        ("dog", "dog, cat"),  # cat is 0.075 like dog
        ("garbage bin", "garbage_bin"),
        ("zebra", "zebra"),  # unknown to the taxonomy, but the same
        ("zebra, dog", "dog"),  # nothing is like a zebra
        ("club", "bat"),  # the second sense of bat
        ("run", "run"),
        ("run", "dash"),  # no nouns
    ]
    scores = wups(pairs, 0.9, form="daquar", taxonomy=tiny)
    assert scores["per_item"] == pytest.approx([0.075, 1, 1, 0.075, 1, 1, 0, 1, 1, 0])
    assert scores["wups_x100"] == pytest.approx(100 * scores["wups"])
    assert scores["wups"] == pytest.approx(sum(scores["per_item"]) / 10)
    assert wups(pairs[:1], 0.0, form="daquar", taxonomy=tiny)["wups"] == pytest.approx(0.75)
    assert wups(pairs[:1], 0.75, form="daquar", taxonomy=tiny)["wups"] == pytest.approx(0.75)  # not below the threshold


def test_phrases_score_by_hand(tiny: WordNet) -> None:
    pytest.importorskip("nltk", reason="needs nltk, whose tokeniser the official script uses")
    pairs = [
        ("dog zebra", "dog"),  # what is like nothing is skipped
        ("zebra", "yak"),
        ("", "dog"),
        ("club", "bat"),  # the first sense of bat is the animal
        ("big dog", "cat dog"),  # big is skipped; cat is 0.075 like dog
        ("dogs", "dog"),
    ]
    scores = wups(pairs, 0.9, taxonomy=tiny)
    assert scores["per_item"] == pytest.approx([1, 0, 0, 0.1 * 2 * 2 / 8, 0.075, 1])


def test_each_pair_of_words_is_looked_up_once() -> None:
    counting = Counting()
    scores = wups([("dog, cat", "cup")] * 50, 0.4, form="daquar", taxonomy=counting)
    assert scores["wups"] == pytest.approx(0.25)
    assert counting.asked == 4  # dog-cup, cat-cup, and back
    similarity = WordSimilarity(counting, form="next_oe", alpha=0.9)
    assert [similarity(*pair) for pair in (("a", "b"), ("a", "unknown"), ("unknown", "unknown"))] == [0.05, 0, 1]


def test_the_two_products_differ_in_what_is_like_nothing() -> None:
    table = {("a", "x"): 0.5, ("a", "y"): 0.25}
    assert fuzzy_match("ab", "xy", lambda first, second: table.get((first, second), 0.0)) == 0
    assert fuzzy_match_of_known("ab", "xy", lambda first, second: table.get((first, second), 0.0)) == 0.5
    assert fuzzy_match_of_known("b", "xy", lambda first, second: 0.0) == 0
    assert fuzzy_match("a", [], lambda first, second: 1.0) == 0


def test_answers_are_split_at_commas() -> None:
    assert answer_items("book,  garbage bin , 3") == ["book", "garbage_bin", "3"]
    assert answer_items("") == [""]


def test_without_nltk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tiny: WordNet) -> None:
    monkeypatch.setitem(sys.modules, "nltk.tokenize", None)
    with pytest.raises(ImportError, match=r"pip install 'modeling-updown\[wups\]', or use form='daquar'"):
        wups([("a dog", "dog")], taxonomy=tiny)
    assert wups([("dog", "dog")], form="daquar", taxonomy=tiny)["wups"] == 1


@pytest.mark.parametrize(
    ("pairs", "options", "error", "message"),
    [
        ([], {}, ValueError, "there are no pairs"),
        (["ab"], {}, TypeError, r"pairs\[0\] is 'ab'; it must be two strings"),
        ([("a", "b"), ("a", None)], {}, TypeError, r"pairs\[1\] is \('a', None\)"),
        ([("a", "b")], {"alpha": 90}, ValueError, "alpha is 90; a similarity is in 0..1"),
        ([("a", "b")], {"form": "best"}, ValueError, "form is 'best'; it can be one of daquar, next_oe"),
    ],
)
def test_ugly_inputs_are_named(pairs: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wups(pairs, **options)


def test_wordnet_is_looked_for_when_none_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: WordNet
) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tiny.place))
    assert wups([("dog", "cat")], 0, form="daquar")["wups"] == pytest.approx(0.75)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    with pytest.raises(OSError, match="apt install wordnet-base"):
        wups([("dog", "cat")], form="daquar")
