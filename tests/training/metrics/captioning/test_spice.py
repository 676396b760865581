"""The scoring half of SPICE against the official program's scores, and by hand."""

import gzip
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.shared_files import shared
from training.metrics.captioning.spice import Synonyms, category_words, scene_graph, tuple_scores


def golden() -> Any:
    return json.loads(gzip.decompress(shared("golden/metrics/spice_scorer.json.gz").read_bytes()))


def spice_folder() -> Path:
    spec = find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs pycocoevalcap, whose jars hold the synonyms")
    return Path(next(iter(spec.submodule_search_locations))) / "spice"


def test_exact_words_score_as_the_official_program_without_synonyms() -> None:
    data = golden()
    for item, expected in zip(data["inputs"]["items"], data["expected"]["scores_no_synsets"], strict=True):
        assert tuple_scores(item["test"], item["refs"])["all"] == pytest.approx(expected, abs=1e-12)


def test_synonyms_and_categories_score_as_the_official_program() -> None:
    data, folder = golden(), spice_folder()
    synonyms = Synonyms.from_jar(folder / "lib/Meteor-1.5.jar")
    categories = category_words(folder / "spice-1.0.jar")
    overall = []
    for item, expected in zip(data["inputs"]["items"], data["expected"]["scores"], strict=True):
        scores = tuple_scores(item["test"], item["refs"], synonyms=synonyms, categories=categories)
        overall.append(scores["all"].f)
        for name, official in expected.items():
            known = [math.nan if value is None else value for value in official]
            assert scores[name.lower()] == pytest.approx(known, abs=1e-12, nan_ok=True)
    assert sum(overall) / len(overall) == pytest.approx(data["expected"]["mean_f_all"], abs=1e-12)


def test_scores_by_hand() -> None:
    # Candidate: dog, (dog, black), (dog, ball, chase), ball; the references know dog, ball and the chase, and a park.
    candidate = [["dog"], ["dog", "black"], ["dog", "ball", "be chase"]]
    references = [[["dog", "ball", "chase"]], [["dog"], ["park"]]]
    scores = tuple_scores(candidate, references, categories={"color": frozenset(["black"])})
    assert scores["all"] == pytest.approx((3 / 4, 3 / 4, 3 / 4, 3, 1, 1))
    assert scores["object"] == pytest.approx((4 / 5, 1, 2 / 3, 2, 0, 1))
    assert scores["relation"].f == 1
    assert math.isnan(scores["color"].f)
    assert scores["color"].false_positives == 1


def test_synonyms_merge_objects_and_match() -> None:
    synonyms = Synonyms({"dog": frozenset("1"), "hound": frozenset("1"), "run": frozenset("2")}, {"ran": ["run"]})
    assert len(scene_graph([["dog"], ["hounds"], ["dog", "black"], ["hound", "black"]], synonyms=synonyms)) == 2
    assert tuple_scores([["hounds", "runs"]], [[["dog", "ran"]]], synonyms=synonyms)["all"].f == 1
    assert tuple_scores([["hound", "runs"]], [[["dog", "ran"]]])["all"].f == 0


def test_nothing_against_nothing() -> None:
    scores = tuple_scores([], [[]])
    assert scores["all"].f == 0
    assert math.isnan(scores["object"].f)
    assert tuple_scores([], [[["dog"]]])["all"] == pytest.approx((0, 0, 0, 0, 0, 1))


def test_a_tuple_of_four_is_named() -> None:
    with pytest.raises(ValueError, match="has 4 parts"):
        tuple_scores([["a", "b", "c", "d"]], [[]])
