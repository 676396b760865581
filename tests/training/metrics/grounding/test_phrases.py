"""Recall, upper bound and pointing of phrases: the official figures, a slow twin, sums by hand, and what is refused."""

import gzip
import json
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from training.data.boxes.entities_files import parse_sentence
from training.metrics.grounding import flickr30k_entities, phrase_recall, phrases

NAMES = {1: "recall_1", 5: "recall_5", 10: "recall_10", -1: "upper_bound"}
SENTENCES = {"7": ["[/EN#1/people/animals A man] and [/EN#0/notvisual it] .", "no phrase", "[/EN#2/other A hat] ."]}
BOXES = {"7": {"1": [[0, 0, 10, 10], [20, 0, 30, 10]], "2": [[0, 0, 4, 4]]}}
PREDICTIONS: list[dict[str, Any]] = [
    {"image_id": "7", "sentence_id": 0, "boxes": [[[0, 0, 10, 9], [0, 0, 30, 10]]]},
    {"image_id": 7, "sentence_id": "2", "boxes": [[]]},
]


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/flickr30k_entities.json.gz").read_bytes()))


def slow_iou(one: list[float], other: list[float]) -> float:
    width = max(0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0, min(one[3], other[3]) - max(one[1], other[1]))
    joint = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - width * height
    return width * height / joint if joint else 0.0


def slow_recall(predictions: Any, references: Any, types: Any, *, protocol: str, at: list[int]) -> dict[str, Any]:
    """`phrase_recall`, phrase by phrase and box by box: name of a type, or "all" -> [phrases, hits at each K ...]."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * (len(at) + 3))
    for boxes, true, own in zip(predictions, references, types, strict=True):
        if protocol == "merge_boxes":
            true = [
                [min(b[0] for b in true), min(b[1] for b in true), max(b[2] for b in true), max(b[3] for b in true)]
            ]
        hits = []
        for k in [*at, len(boxes)]:
            hits.append(any(slow_iou(box, one) >= 0.5 for box in boxes[:k] for one in true))
        centre = [(boxes[0][i] + boxes[0][i + 2]) / 2 for i in (0, 1)] if boxes else None
        hits.append(any(centre and b[0] <= centre[0] <= b[2] and b[1] <= centre[1] <= b[3] for b in true))
        for name in ["all", *own]:
            counts[name] = [a + b for a, b in zip(counts[name], [1, *hits], strict=True)]
    return counts


def random_phrases(number: int) -> tuple[list[Any], list[Any], list[list[str]]]:
    generator = random.Random(0)

    def boxes(count: int) -> list[list[float]]:
        corners = [(generator.uniform(0, 60), generator.uniform(0, 60)) for _ in range(count)]
        return [[x, y, x + generator.uniform(5, 40), y + generator.uniform(5, 40)] for x, y in corners]

    predictions = [boxes(generator.choice([0, 1, 3, 7])) for _ in range(number)]
    references = [boxes(generator.choice([1, 1, 2, 4])) for _ in range(number)]
    types = [generator.sample(["people", "scene", "other"], generator.randint(0, 2)) for _ in range(number)]
    return predictions, references, types


def test_every_recall_is_the_official_one() -> None:
    data = golden()
    inputs, expected = data["inputs"], data["expected"]
    scores = flickr30k_entities(inputs["predictions"], inputs["sentences"], inputs["boxes"])
    for protocol, by_k in expected["recall"].items():
        for k, by_type in by_k.items():
            name = NAMES[int(k)]
            found = {"all": scores[protocol], **scores[protocol]["per_type"]}
            assert {kind: own[name] for kind, own in found.items()} == pytest.approx(by_type, abs=1e-12)
    assert scores["any_box"]["num_phrases"] == data["n_cases"] == len(scores["phrases"])


def test_the_scored_phrases_are_the_official_ones() -> None:
    data = golden()
    inputs, expected = data["inputs"], data["expected"]["parsed_phrases"]
    for image_id, sentences in inputs["sentences"].items():
        for sentence, wanted in zip(sentences, expected[image_id], strict=True):
            own = [phrase for phrase in parse_sentence(sentence).phrases if phrase.chain in inputs["boxes"][image_id]]
            theirs = [(text, chain, tuple(kinds)) for text, _, chain, kinds in wanted or []]
            assert [(phrase.text, phrase.chain, phrase.kinds) for phrase in own] == theirs


@pytest.mark.parametrize("pairs_at_once", [3, 1 << 18])
@pytest.mark.parametrize("protocol", ["any_box", "merge_boxes"])
def test_figures_equal_a_slow_twins(protocol: Any, pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phrases, "PAIRS_AT_ONCE", pairs_at_once)
    predictions, references, types = random_phrases(300)
    scores = phrase_recall(predictions, references, types=types, protocol=protocol, at=[1, 3, 5])
    counts = slow_recall(predictions, references, types, protocol=protocol, at=[1, 3, 5])
    assert scores["per_type"].keys() == counts.keys() - {"all"}
    for name, (number, *hits) in counts.items():
        found = scores if name == "all" else scores["per_type"][name]
        assert found["num_phrases"] == number
        figures = [found[key] for key in ("recall_1", "recall_3", "recall_5", "upper_bound", "pointing")]
        assert figures == pytest.approx([hit / number for hit in hits], abs=1e-12)
        assert found["upper_bound_x100"] == 100 * found["upper_bound"]
    assert 0 < scores["recall_1"] < scores["recall_3"] < scores["upper_bound"] < 1 and scores["pointing"] > 0
    assert {key: np.mean(values) for key, values in scores["per_item"].items()} == pytest.approx(
        {key: scores[key] for key in scores["per_item"]}
    )


def test_both_protocols_by_hand() -> None:
    scores = flickr30k_entities(PREDICTIONS, SENTENCES, BOXES)
    assert scores["phrases"] == [("7", 0, "A man"), ("7", 2, "A hat")]
    # the first box covers one man of two (IoU 0.9), the second the space of both
    expected: dict[str, tuple[list[float], list[float]]] = {
        "any_box": ([1, 0], [1, 0]),
        "merge_boxes": ([0, 0], [1, 0]),
    }
    for protocol, (first, five) in expected.items():
        found = scores[protocol]
        assert found["per_item"]["recall_1"] == first and found["per_item"]["recall_5"] == five
        assert found["per_item"]["pointing"] == [1, 0]
        assert found["per_type"].keys() == {"people", "animals", "other"}
        assert found["per_type"]["animals"]["recall_5"] == 1 and found["per_type"]["other"]["upper_bound"] == 0
        assert found["recall_5_x100"] == 50
    parsed = {"7": [parse_sentence(line) for line in SENTENCES["7"]]}
    assert flickr30k_entities(PREDICTIONS, parsed, {7: {1: BOXES["7"]["1"], "2": BOXES["7"]["2"]}}) == scores  # type: ignore[dict-item]


def test_an_edge_is_a_hit_and_pixels_are_shares() -> None:
    found, true = [[[0, 0, 10, 5]], [[10, 10, 30, 10]]], [[[0, 0, 10, 10]], [[20, 0, 40, 10]]]
    scores = phrase_recall(found, true, at=[1])
    assert scores["per_item"] == {"recall_1": [1, 0], "upper_bound": [1, 0], "pointing": [1, 1]}
    shares = [[[[value / 40 for value in box] for box in own] for own in side] for side in (found, true)]
    assert phrase_recall(*shares, at=[1]) == scores
    assert phrase_recall(found, true, at=[1], min_iou=0.51)["recall_1"] == 0


def test_phrases_without_any_predicted_box_are_missed() -> None:
    scores = phrase_recall([[], []], [[[0, 0, 10, 10]]] * 2)
    assert [scores[name] for name in ("num_phrases", "recall_10", "upper_bound", "pointing")] == [2, 0, 0, 0]


def test_predictions_that_are_not_needed_are_named() -> None:
    more = [
        *PREDICTIONS,
        {"image_id": "7", "sentence_id": 1, "boxes": [[[0, 0, 1, 1]]]},
        {**PREDICTIONS[0], "boxes": []},
    ]
    with pytest.warns(UserWarning) as told:
        assert flickr30k_entities(more, SENTENCES, BOXES) == flickr30k_entities(PREDICTIONS, SENTENCES, BOXES)
    assert [str(warning.message) for warning in told] == [
        "predictions of 1 sentences without scored phrases are ignored: ('7', 1)",
        "predictions of 1 sentences predicted again are ignored: ('7', 0)",
    ]


@pytest.mark.parametrize(
    ("predictions", "reason"),
    [
        ([], r"2 of 2 sentences have phrases but no prediction .*give one for each"),
        (PREDICTIONS[:1], r"1 of 2 sentences have phrases but no prediction \(\('7', 2\)\)"),
        ([{"image_id": "7"}], r"predictions\[0\] has no sentence_id, boxes"),
        ([{**PREDICTIONS[0], "sentence_id": "first"}], r"predictions\[0\] has the sentence_id 'first'"),
        (
            [{**PREDICTIONS[0], "boxes": [[], []]}],
            "boxes of 2 phrases, but 1 of its phrases have true boxes .A man.; give",
        ),
    ],
)
def test_predictions_that_do_not_fit_the_sentences_are_refused(predictions: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        flickr30k_entities(predictions, SENTENCES, BOXES)


def test_sentences_without_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="no phrase of the sentences has a box; do the ids"):
        flickr30k_entities(PREDICTIONS, SENTENCES, {"8": BOXES["7"], "7": {"1": []}})
    with pytest.raises(ValueError, match="the mark of a phrase is not closed"):
        flickr30k_entities(PREDICTIONS, {"7": ["[/EN#1/people A man runs ."]}, BOXES)


ONE = [[[0, 0, 10, 10]]]


@pytest.mark.parametrize(
    ("found", "true", "options", "reason"),
    [
        ([], [], {}, "predictions of 0 phrases, true boxes of 0"),
        (ONE, ONE * 2, {}, "predictions of 1 phrases, true boxes of 2 and types of 2; give one of each per phrase"),
        (ONE, ONE, {"types": []}, "types of 0"),
        (ONE * 2, [*ONE, []], {}, r"references\[1\] has no true box; leave out phrases that have none"),
        (ONE * 2, [*ONE, [[0, 0, 5, 5], [1, 1, 1, 4]]], {}, r"references\[1\] has the box .*positive width and height"),
        ([*ONE, [[0, 0, float("nan"), 5]]], ONE * 2, {}, r"predictions\[1\] has the box .*nan.*give finite xyxy"),
        ([[0, 0, 10, 10]], ONE, {}, r"predictions\[0\] has boxes of shape \(4,\); give a list of boxes"),
        ([[[0, 0, 10, 10], [1]]], ONE, {}, r"predictions\[0\] holds no boxes of four numbers"),
        ([[[0, 0, 0.5, 1]]], [[[0, 0, 100, 200]]], {}, "give both in pixels or both in 0..1"),
        (ONE, ONE, {"at": [0]}, "the numbers of boxes are .0.; give at least one, each once and from 1"),
        (ONE, ONE, {"at": []}, "give at least one, each once and from 1"),
        (ONE, ONE, {"min_iou": 50}, "min_iou is 50; give an overlap above 0 and up to 1"),
        (ONE, ONE, {"protocol": "all"}, "protocol is 'all'; choose any_box or merge_boxes"),
    ],
)
def test_what_cannot_be_scored_is_refused(found: Any, true: Any, options: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        phrase_recall(found, true, **options)
