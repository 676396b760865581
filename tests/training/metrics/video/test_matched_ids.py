"""Predictions in the order of the annotations, and ids that do not match."""

from typing import Any

import pytest

from training.metrics.video.matched_ids import matched_predictions

TRUTH = [{"qid": 3}, {"qid": 1}, {"qid": 2}]


def test_predictions_come_in_the_order_of_the_annotations() -> None:
    found = [{"qid": "1", "own": "b"}, {"qid": 2.0, "own": "c"}, {"qid": 3, "own": "a"}]
    assert [record["own"] for record in matched_predictions(found, TRUTH, key="qid")] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([{"qid": 1}, {"qid": 2}], "1 queries have no prediction: 3; predict every query of the split exactly once"),
        ([{"qid": q} for q in (1, 2, 3, 9)], "1 predictions have no query: 9; predict"),
        ([{"qid": 7}], "3 queries have no prediction: 3, 1, 2; 1 predictions have no query: 7"),
        ([{"qid": 1}, {"qid": "1"}], "predictions has the qid 1 twice"),
        ([{"qid": 1}, {"query": 2}], r"predictions\[1\] has no 'qid': {'query': 2}"),
        ([], "predictions holds no record"),
    ],
)
def test_ids_that_do_not_match_are_named(predictions: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matched_predictions(predictions, TRUTH, key="qid")
