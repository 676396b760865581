"""Dense captioning's mAP: the official figures, a slow twin, sums by hand, and what is refused."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shared_files import shared
from tests.training.metrics.captioning.tiny_meteor import VOCABULARY, write_meteor
from training.metrics.captioning.meteor import meteor_scores, meteor_statistics
from training.metrics.captioning.meteor_resources import MeteorResources
from training.metrics.dense_caption import densecap_map
from training.metrics.dense_captioning.densecap import average_precision, merge_true_boxes

Records = list[dict[str, Any]]


def golden_images() -> tuple[Any, Records, Records]:
    data = json.loads(gzip.decompress(shared("golden/metrics/densecap_map.json.gz").read_bytes()))
    predictions, references = [], []
    for image in data["inputs"]["images"]:
        names = {"boxes": "pred_boxes_xcycwh", "scores": "pred_score", "captions": "pred_captions"}
        predictions.append({name: image[theirs] for name, theirs in names.items()})
        references.append({"boxes": image["gt_boxes_xcycwh"], "captions": image["gt_captions"]})
    return data["expected"], predictions, references


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeteorResources:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return MeteorResources.find(write_meteor(tmp_path))


def slow_densecap(predictions: Records, references: Records, resources: MeteorResources) -> dict[str, float]:
    """The definition with loops: pixels with +1 around centres, a detection at a time, a point of recall at a time."""
    records, npos = [], 0
    for found, wanted in zip(predictions, references, strict=True):
        left = list(range(len(wanted["boxes"])))
        groups = []
        while left:
            near = [[j for j in left if slow_iou(wanted["boxes"][i], wanted["boxes"][j]) >= 0.7] for i in left]
            groups.append(max(near, key=len))
            left = [i for i in left if i not in groups[-1]]
        merged = [[sum(wanted["boxes"][i][c] for i in own) / len(own) for c in range(4)] for own in groups]
        npos, used = npos + len(groups), set()
        for n in sorted(range(len(found["boxes"])), key=lambda n: -found["scores"][n]):
            overlap, place = 0.0, len(groups) - 1
            for number, box in enumerate(merged):
                if slow_iou(found["boxes"][n], box) > overlap:
                    overlap, place = slow_iou(found["boxes"][n], box), number
            texts = [wanted["captions"][i] for i in groups[place]] if overlap else []
            records.append(
                (found["scores"][n], overlap, place not in used and bool(groups), found["captions"][n], texts)
            )
            used.add(place)
    records.sort(key=lambda record: -record[0])
    near = [(caption, texts) for *_, caption, texts in records if texts]
    scores = iter(meteor_scores(meteor_statistics(*map(list, zip(*near, strict=True)), resources)))
    meteors = [next(scores) if texts else 0 for *_, texts in records]
    values: dict[str, list[float]] = {"map": [], "detmap": []}
    for least in (0.3, 0.4, 0.5, 0.6, 0.7):
        for least_meteor in (-1, 0, 0.05, 0.1, 0.15, 0.2, 0.25):
            hits = [
                overlap >= least and first and meteor > least_meteor
                for (_, overlap, first, *_), meteor in zip(records, meteors, strict=True)
            ]
            values["detmap" if least_meteor == -1 else "map"].append(slow_precision(hits, npos))
    return {name: sum(own) / len(own) for name, own in values.items()}


def slow_precision(hits: list[bool], npos: int) -> float:
    point, total, so_far = 0.0, 0.0, [sum(hits[:n]) for n in range(1, len(hits) + 1)]
    for _ in range(100):
        total += max((right / n for n, right in enumerate(so_far, start=1) if right / npos >= point), default=0)
        point += 0.01
    return total / 100


def slow_iou(one: list[float], other: list[float]) -> float:
    """The official overlap of boxes xcycwh."""
    first, second = ([b[0] - (b[2] - 1) / 2, b[1] - (b[3] - 1) / 2, b[2], b[3]] for b in (one, other))
    sides = [
        min(a + c, b + d) - 1 - max(a, b) + 1 for a, b, c, d in zip(first, second, first[2:], second[2:], strict=False)
    ]
    if min(sides) <= 0:
        return 0.0
    return sides[0] * sides[1] / (one[2] * one[3] + other[2] * other[3] - sides[0] * sides[1])


def random_images(number: int) -> tuple[Records, Records]:
    generator = random.Random(0)
    texts = [" ".join(generator.choices(VOCABULARY, k=generator.randint(1, 5))) for _ in range(12)]
    predictions, references = [], []
    for image in range(number):
        true = []
        for _ in range(generator.randint(1, 4) if image else 0):
            box = [generator.uniform(20, 300), generator.uniform(20, 300), *generator.choices(range(20, 90), k=2)]
            true += [[value + generator.uniform(-2, 2) for value in box] for _ in range(generator.randint(1, 3))]
        captions = generator.choices(texts, k=len(true))
        found, said = [], []
        for _ in range(generator.randint(0, 8)):
            place = generator.randrange(len(true)) if true else 0
            near = true[place] if true and generator.random() < 0.8 else [900, 900, 10, 10]
            found.append([value + generator.uniform(-8, 8) for value in near])
            said.append(captions[place] if true and generator.random() < 0.5 else generator.choice(texts))
        scores = [generator.uniform(-3, 3) for _ in found]
        predictions.append({"boxes": found, "scores": scores, "captions": said})
        references.append({"boxes": true, "captions": captions})
    return predictions, references


def test_every_figure_is_the_official_one() -> None:
    expected, predictions, references = golden_images()
    try:
        scores = densecap_map(predictions, references, box_format="xcycwh")
    except FileNotFoundError as reason:
        pytest.skip(str(reason))
    assert scores["map"] == pytest.approx(expected["map"], abs=1e-9)
    assert scores["detmap"] == pytest.approx(expected["detmap"], abs=1e-9)
    assert scores["ap_breakdown"] == pytest.approx(expected["ap_breakdown"], abs=1e-9)
    assert scores["det_breakdown"] == pytest.approx(expected["det_breakdown"], abs=1e-9)
    assert scores["npos"] == expected["npos"]
    columns = ("image", "first", "overlap", "num_references", "meteor")
    ours = np.array([scores["per_detection"][name] for name in columns], dtype=float).T
    ours[:, 0] += 1
    np.testing.assert_allclose(ours, np.array(expected["records"], dtype=float), atol=1e-6)  # the overlaps are float32


def test_figures_equal_a_slow_twins(tiny: MeteorResources) -> None:
    predictions, references = random_images(14)
    scores = densecap_map(predictions, references, box_format="xcycwh", resources=tiny)
    twin = slow_densecap(predictions, references, tiny)
    assert scores["map"] == pytest.approx(twin["map"], abs=1e-12)
    assert scores["detmap"] == pytest.approx(twin["detmap"], abs=1e-12)
    assert 0.05 < scores["map"] < scores["detmap"] < 0.95
    assert scores["npos"] < sum(len(image["boxes"]) for image in references)
    assert any(not image["boxes"] for image in predictions)


def test_figures_do_not_depend_on_the_unit_or_the_format(tiny: MeteorResources) -> None:
    predictions, references = random_images(5)
    expected = densecap_map(predictions, references, box_format="xcycwh", resources=tiny)
    for side in (predictions, references):
        for image in side:
            image["boxes"] = [
                [(x - w / 2) / 512, (y - h / 2) / 256, (x + w / 2) / 512, (y + h / 2) / 256]
                for x, y, w, h in image["boxes"]
            ]
    scores = densecap_map(predictions, references, resources=tiny)
    assert scores["ap_breakdown"] == pytest.approx(expected["ap_breakdown"])
    assert scores["det_breakdown"] == pytest.approx(expected["det_breakdown"])


def test_figures_by_hand(tiny: MeteorResources) -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [90, 90, 99, 99]]
    found = {"boxes": boxes, "scores": [0.9, 0.8, 0.7, 0.6], "captions": ["man", "man", "car", "man"]}
    true = {"boxes": [[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], "captions": ["car", "man", "man"]}
    scores = densecap_map([found], [true], resources=tiny)
    per_detection = scores["per_detection"]
    # the second is of a box that is taken; the third's caption is wrong; the fourth overlaps nothing
    assert per_detection["first"] == [True, False, True, False]
    assert per_detection["num_references"] == [2, 2, 1, 0]
    assert per_detection["overlap"] == pytest.approx([0.95, 0.95, 1, 0])
    assert per_detection["meteor"] == [1, 1, 0, 0]
    assert scores["npos"] == 2
    # up to recall 0.5 (fifty points: the sum of fifty times 0.01 oversteps it) precision is 1, then 2 / 3 without
    # regard to captions, and nothing with regard to them
    assert scores["det_breakdown"] == pytest.approx(dict.fromkeys(scores["det_breakdown"], 0.5 + 0.5 * 2 / 3))
    assert scores["map"] == pytest.approx(0.5) and scores["map_x100"] == pytest.approx(50)


def test_a_detection_that_overlaps_nothing_takes_the_last_box(tiny: MeteorResources) -> None:
    true = {"boxes": [[0, 0, 10, 10], [50, 50, 60, 60]], "captions": ["car", "man"]}
    found = {"boxes": [[90, 90, 99, 99], [50, 50, 60, 60]], "scores": [0.9, 0.8], "captions": ["man", "man"]}
    assert densecap_map([found], [true], resources=tiny)["per_detection"]["first"] == [True, False]
    found["scores"] = [0.8, 0.9]
    assert densecap_map([found], [true], resources=tiny)["per_detection"]["first"] == [True, False]


def test_groups_of_true_boxes() -> None:
    row = np.array([[x, 0.0, x + 10, 10] for x in (0, 1, 2, 3, 30)])
    # IoU of neighbours 9/11, two apart 8/12: the second box has most neighbours, and takes the first and the third
    assert [own.tolist() for own in merge_true_boxes(row)] == [[0, 1, 2], [3], [4]]
    assert [own.tolist() for own in merge_true_boxes(row, min_iou=0.6)] == [[0, 1, 2, 3], [4]]
    assert merge_true_boxes(np.zeros((0, 4))) == []


def test_precision_is_looked_at_below_recall_1() -> None:
    assert average_precision(np.array([True, True]), 2) == 1
    assert average_precision(np.array([True, False]), 2) == pytest.approx(0.5)
    assert average_precision(np.array([False, True]), 1) == 0.5
    assert average_precision(np.zeros(0, bool), 3) == average_precision(np.zeros(4, bool), 3) == 0


def test_images_without_boxes(tiny: MeteorResources) -> None:
    none: dict[str, list[Any]] = {"boxes": [], "scores": [], "captions": []}
    found = {"boxes": [[0, 0, 10, 10]], "scores": [0.5], "captions": ["man"]}
    true = {"boxes": [[0, 0, 10, 10]], "captions": ["man"]}
    assert densecap_map([found], [true], resources=tiny)["map"] == 1
    assert densecap_map([none, none], [true, true], resources=tiny)["detmap"] == 0
    missed = densecap_map([found, none], [true, true], resources=tiny)
    assert missed["npos"] == 2 and missed["map"] == pytest.approx(0.5)
    surer = {**found, "scores": [0.9]}
    invented = densecap_map([surer, found], [{"boxes": [], "captions": []}, true], resources=tiny)
    assert invented["npos"] == 1 and invented["map"] == invented["detmap"] == 0.5


FOUND = {"boxes": [[0, 0, 10, 10]], "scores": [0.5], "captions": ["man"]}
TRUE = {"boxes": [[0, 0, 10, 10]], "captions": ["man"]}


@pytest.mark.parametrize(
    ("found", "true", "reason"),
    [
        ([], [], "0 predictions but 0 references; give one of each per image"),
        ([FOUND], [], "1 predictions but 0 references"),
        ([{"boxes": []}], [TRUE], r"predictions\[0\] has no scores and no captions; give boxes, scores, captions"),
        ([FOUND], [{**TRUE, "captions": []}], r"references\[0\] has 1 boxes, 0 captions; give one of each per box"),
        ([{**FOUND, "scores": [float("nan")]}], [TRUE], r"predictions\[0\] has a score that is no finite number"),
        ([{**FOUND, "scores": ["sure"]}], [TRUE], r"predictions\[0\] has a score that is no finite number"),
        ([{**FOUND, "captions": [None]}], [TRUE], r"predictions\[0\] has a caption that is None"),
        ([{**FOUND, "boxes": [[0, 0, float("nan"), 1]]}], [TRUE], r"predictions\[0\] has the box"),
        ([FOUND], [{**TRUE, "boxes": [[3, 3, 3, 9]]}], r"references\[0\] has the box .*positive width and height"),
        ([FOUND], [{"boxes": [], "captions": []}], "no image has a true box; give images with captioned boxes"),
        (
            [{**FOUND, "boxes": [[0, 0, 1, 0.5]]}],
            [{**TRUE, "boxes": [[0, 0, 99, 99]]}],
            "both in pixels or both in 0..1",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(found: Any, true: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        densecap_map(found, true)
