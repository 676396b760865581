"""METEOR against the official program's figures, a slow twin of its search, and sums by hand."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from tests.training.metrics.captioning.tiny_meteor import PARAPHRASES, VOCABULARY, slow_statistics, write_meteor
from training.metrics.captioning.meteor import corpus_meteor, meteor, meteor_scores, meteor_statistics
from training.metrics.captioning.meteor_resources import MeteorResources
from training.metrics.captioning.scores import caption_scores, ptb_tokenize

# Tokenised captions, their references, and the 23 statistics that `meteor-1.5.jar -l en -norm` prints of them.
OFFICIAL = [
    ("a dog runs", ["a dog runs"], "3 3 1 1 2 2 1 1 0 0 0 0 0 0 0 0 0 0 0 0 1 3 3"),
    ("a cat sits on the mat", ["the cat sat on a mat"], "6 6 3 3 2 2 3 3 0 0 0 0 1 1 0 0 0 0 0 0 4 6 6"),
    # stems alone count nothing in the search, so leaving the words unmatched has fewer chunks
    ("two dogs running quickly", ["a dog runs quick"], "4 4 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
    ("a big automobile stops", ["a large car stopped"], "4 4 1 1 0 0 1 1 1 1 0 0 2 2 0 0 0 0 0 0 1 4 4"),
    (
        "the man stands in front of the house",
        ["the man stands before the house", "a man in front of a home"],
        "8 6 4 2 3 3 1 1 0 0 0 0 0 0 0 0 1 1 3 1 1 8 6",
    ),
    (
        "the woman is able to swim",
        ["the woman can swim", "the woman has the ability to swim"],
        "6 4 3 2 2 2 1 1 0 0 0 0 0 0 0 0 1 0 2 1 1 6 4",
    ),
    (
        "in order to win he is running at the moment",
        ["to win he currently runs"],
        "10 5 6 2 1 1 2 2 0 0 0 0 0 0 0 0 1 1 2 0 2 6 4",
    ),
    (
        "a man and a woman and a dog and a cat in a boat",
        ["a boat with a cat and a dog and a woman and a man"],
        "14 14 9 9 5 5 8 8 0 0 0 0 0 0 0 0 0 0 0 0 6 13 13",
    ),
    # more paths than the beam holds
    (
        "a a a a b a a a a a c a a a a",
        ["a b a a a a c a a a a a a b a"],
        "15 15 13 12 2 2 12 12 0 0 0 0 0 0 0 0 0 0 0 0 4 14 14",
    ),
    (
        "the the man the men a man man the",
        ["man the the men a the man men the"],
        "9 9 5 5 3 3 5 5 0 0 0 0 0 0 0 0 0 0 0 0 4 8 8",
    ),
    # words are compared by Java's hash, and these two have the same
    ("as", ["c5"], "1 1 1 0 0 1 1 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1"),
    (
        "the u.s. flag and the t-shirt cost $ 5.50 .",
        ["the us flag and a t shirt cost $ 5.50", "flags"],
        "11 10 5 4 6 6 3 3 0 0 0 0 0 0 0 0 0 0 0 0 2 9 9",
    ),
    (
        "rev. jones reads pp. 5 and no. 7 by dr. who ...",
        ["rev. jones reads pp . 5 and no . 7 by dr who ..."],
        "13 14 5 6 6 6 5 5 0 0 0 0 0 0 0 0 0 0 0 0 3 11 11",
    ),
    (
        "o'brien 's dog does n't bark",
        ["o'brien 's dogs do not bark"],
        "9 8 3 3 3 3 2 2 1 1 0 0 0 0 0 0 0 0 0 0 2 6 6",
    ),
    (
        "caf\u00e9 \U0001f600 -lrb- open -rrb-",
        ["the caf\u00e9 is open \U0001f600 -rrb-"],
        "5 6 2 3 3 3 1 1 0 0 0 0 0 0 0 0 0 0 0 0 4 4 4",
    ),
    ("", ["a dog"], "0 2 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
    ("a dog", [""], "2 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
    ("", ["", "a"], "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0"),
    (
        "a small brown dog",
        ["a brown dog", "small dog a brown", "a small dog"],
        "4 3 1 1 2 2 1 1 0 0 0 0 0 0 0 0 0 0 0 0 2 3 3",
    ),
    (
        "a dog on the beach",
        ["a dog in the water", "a dog on the sand", "the dog on a beach"],
        "5 5 3 3 2 2 3 3 0 0 0 0 0 0 0 0 0 0 0 0 4 5 5",
    ),
    (
        "skiing skier skis skied",
        ["ski skiers skiing", "a skier is skiing down"],
        "4 5 0 2 2 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2 2 2",
    ),
    # more words than a machine word has bits
    (
        " ".join(["a man", "the dog", "red balls"] * 12),
        [" ".join(["red ball", "a dog", "the man"] * 12)],
        "72 72 24 24 36 36 24 24 12 12 0 0 0 0 0 0 0 0 0 0 49 72 72",
    ),
]
OFFICIAL_CORPUS = 0.40293924289052674  # what the program prints for them all together


def golden(name: str) -> Any:
    return json.loads(gzip.decompress(shared(f"golden/metrics/{name}.json.gz").read_bytes()))


@pytest.fixture(scope="module")
def resources() -> MeteorResources:
    """METEOR's real data; the first run on a machine builds the index of paraphrases in the user's cache folder."""
    try:
        return MeteorResources.find()
    except FileNotFoundError as reason:
        pytest.skip(str(reason))


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeteorResources:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return MeteorResources.find(write_meteor(tmp_path))


@pytest.mark.parametrize("name", ["caption_coco1000", "caption_adversarial"])
def test_every_statistic_and_score_is_the_official_programs(name: str, resources: MeteorResources) -> None:
    data = golden(name)
    expected = data["expected"]
    official = np.array([[float(number) for number in line.split()] for line in expected["meteor_stats"]])
    references = [ptb_tokenize(image) for image in data["inputs"]["references"]]
    statistics = meteor_statistics(ptb_tokenize(data["inputs"]["candidate"]), references, resources)
    np.testing.assert_array_equal(statistics, official)
    corpus, per_item = meteor(data["inputs"]["candidate"], data["inputs"]["references"], resources)
    assert per_item == pytest.approx(expected["per_item"]["METEOR"], abs=1e-12)
    name = "METEOR" if "METEOR" in expected["corpus"] else "METEOR_over_valid"
    assert corpus == pytest.approx(expected["corpus"][name], abs=1e-12)


def test_captions_that_try_the_programs_particulars(resources: MeteorResources) -> None:
    captions, references, expected = zip(*OFFICIAL, strict=True)
    statistics = meteor_statistics(captions, references, resources)
    for row, line, caption in zip(statistics, expected, captions, strict=True):
        assert " ".join(f"{number:g}" for number in row) == line, caption
    assert corpus_meteor(statistics) == pytest.approx(OFFICIAL_CORPUS, abs=1e-12)


def test_the_search_equals_its_slow_twin(tiny: MeteorResources) -> None:
    generator = random.Random(0)
    phrases = [text for pair in PARAPHRASES for text in pair]
    captions, references = [], []
    for number in range(600):
        pieces = (generator.sample(VOCABULARY, 4), VOCABULARY, phrases)[number % 3]
        for texts in (captions, references):
            texts.append(" ".join(generator.choice(pieces) for _ in range(generator.randint(0, 14))))
    statistics = meteor_statistics(captions, [[text] for text in references], tiny)
    for caption, reference, row in zip(captions, references, statistics.astype(int).tolist(), strict=True):
        assert row == slow_statistics(caption.split(), reference.split()), (caption, reference)
    matched_by_stage = statistics[:, 4:20].reshape(-1, 4, 4).sum(axis=(0, 2))
    assert (matched_by_stage > [2000, 15, 50, 300]).all()


def test_a_caption_scores_alone_what_it_scores_among_others(tiny: MeteorResources) -> None:
    generator = random.Random(1)
    texts = [" ".join(generator.choices(VOCABULARY, k=generator.randint(1, 12))) for _ in range(60)]
    references = [generator.sample(texts, 3) for _ in texts]
    together = meteor_statistics(texts, references, tiny)
    alone = [meteor_statistics([text], [image], tiny)[0] for text, image in zip(texts, references, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_scores_by_hand() -> None:
    # Four content words on both sides; two match exactly, in two chunks: P = R = F = 1/2, fragmentation 1.
    halves = [4, 4, 0, 0, 2, 2, 0, 0, *[0] * 12, 2, 2, 2]
    # A content and a function word of the caption match by synonym those of the reference, in one chunk of three words.
    synonyms = [2, 3, 1, 1, *[0] * 8, 1, 1, 1, 1, *[0] * 4, 1, 2, 2]
    perfect = [3, 3, 1, 1, 2, 2, 1, 1, *[0] * 12, 1, 3, 3]
    rows = np.array([halves, synonyms, perfect, [0] * 23], float)
    precision, recall = 0.8, 0.8 * (0.75 + 0.25) / (2 * 0.75 + 0.25)
    mean = 1 / (0.15 / precision + 0.85 / recall)
    assert meteor_scores(rows) == pytest.approx([0.5 * 0.4, mean * (1 - 0.6 * 0.5**0.2), 1.0, 0.0])
    # The chunk of a caption that equals its reference does not count in the corpus: 2 chunks in 5 matched words.
    matched = 0.75 * 2 + 0.75 * 2 + 0.25
    share = matched / (0.75 * 4 + 0.75 * 2 + 0.25)
    assert corpus_meteor(rows[[0, 2]]) == pytest.approx(share * (1 - 0.6 * (2 / 5) ** 0.2))
    assert corpus_meteor(rows[[2, 2]]) == pytest.approx(1.0)


def test_the_first_of_the_best_references_counts_and_bars_divide_references(tiny: MeteorResources) -> None:
    first, second = "the car", "car the"  # both match one word of three exactly, in as many words
    rows = meteor_statistics(["man big car"] * 2, [[first, second], ["he", f"{second}|||{first}"]], tiny)
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[0, 1] == 2
    whole, parts = meteor_statistics(["man car", "man ||| car"], [["man ||| car"], ["man", "car"]], tiny)
    assert whole.tolist() == parts.tolist()


@pytest.mark.parametrize(
    ("captions", "references", "error", "message"),
    [
        (["a man", "a car"], [[], ["a man"]], ValueError, r"references\[0\] is empty"),
        (["a man"], ["a man"], TypeError, r"references\[0\] is one string"),
        (["a man"], [["a man"], ["a car"]], ValueError, "1 candidates but 2 lists of references"),
        ([], [], ValueError, "no candidates"),
    ],
)
def test_references_that_belong_to_no_caption_are_refused(tiny: MeteorResources, captions, references, error, message):
    """The first was scored against the next image's references, the second against single letters."""
    with pytest.raises(error, match=message):
        meteor(captions, references, tiny)


def test_caption_scores_hold_meteor_or_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions, references = ["The big car.", "he runs"], [["a large auto"], ["the man ran", "it"]]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("METEOR_FOLDER", str(tmp_path / "nowhere"))
    scores = caption_scores(captions, references)
    assert "meteor" not in scores and "meteor" not in scores["per_item"]
    assert "pip install pycocoevalcap" in scores["not_computed"]["meteor"]
    monkeypatch.setenv("METEOR_FOLDER", str(write_meteor(tmp_path)))
    scores = caption_scores(captions, references)
    corpus, per_item = meteor(captions, references)
    assert scores["not_computed"] == {}
    assert (scores["meteor"], scores["meteor_x100"], scores["per_item"]["meteor"]) == (corpus, 100 * corpus, per_item)
    # "big" = "large", "car" ~ "auto": P = R = (0.6 + 0.8) 0.75 / (2 * 0.75 + 0.25) in one chunk of two words.
    assert per_item[0] == pytest.approx((0.6 + 0.8) * 0.75 / 1.75 * (1 - 0.6 * (1 / 2) ** 0.2))
