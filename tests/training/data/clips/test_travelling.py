"""Travelling cameras: true spans, windows on their boxes, orders that words alone do not tell."""

import gzip
import json
import random
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from processors.image_processing_updown import load_image
from tests.shared_files import shared
from training.data.boxes.rows import size_in_file
from training.data.clips import travelling_rows
from training.data.clips.strips import frames_of_strip
from training.data.clips.travelling import (
    FRAMES_PER_SECOND,
    MOST_SEEN,
    Place,
    Stop,
    Travel,
    camera_windows,
    choose_stops,
    film,
    frame_size,
    order_sentences,
    places_of,
    share_seen,
    window_on,
)
from training.data.clips.travelling_rows import (
    read_travelling_captions,
    read_travelling_moments,
    read_travelling_questions,
    read_travels,
)

IMAGE, FRAME = (400, 300), (96, 72)
LEFT, RIGHT = Place("a man", (0.05, 0.3, 0.2, 0.7)), Place("a dog", (0.7, 0.4, 0.9, 0.6))
MIDDLE = Place("a red ball", (0.4, 0.1, 0.5, 0.2))
NUM_CLIPS, NUM_IMAGES = 40, 160


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The phrases of the first images of the test split alone."""
    with gzip.open(shared("data/flickr8k/entities.json.gz")) as file:
        records = [record for record in json.load(file) if record["split"] == "test"]
    path = tmp_path_factory.mktemp("entities") / "entities.json"
    path.write_text(json.dumps(records[:NUM_IMAGES]))
    return str(path)


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return {"images": shared("data/flickr8k/images"), "split": "test", "num_clips": NUM_CLIPS}


@pytest.fixture(scope="module")
def travels(entities: str, options: dict[str, Any]) -> list[Travel]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_travels(entities, **options)


def test_the_camera_rests_on_each_box_in_its_span() -> None:
    """Stops without an edge in their way: the window's middle is the box's; the image's shape is kept all along."""
    drawn = random.Random(0)
    for _ in range(50):
        stops = choose_stops([LEFT, RIGHT, MIDDLE], image=IMAGE, frame=FRAME, rng=drawn)
        assert len(stops) == 3 and stops[0].start_seconds == 0
        windows, seconds = camera_windows(stops)
        assert seconds == [n / FRAMES_PER_SECOND for n in range(len(windows))]
        assert len(windows) == round(FRAMES_PER_SECOND * stops[-1].end_seconds)
        rests = [[stop.start_seconds <= second < stop.end_seconds for stop in stops] for second in seconds]
        for window, resting in zip(windows, rests, strict=True):
            assert min(window) >= 0 and window[2] <= IMAGE[0] and window[3] <= IMAGE[1]
            assert (window[2] - window[0]) / (window[3] - window[1]) == pytest.approx(4 / 3)
            assert window[2] - window[0] >= 0.3 * IMAGE[0] - 1e-6
            for stop, rest in zip(stops, resting, strict=True):
                if rest:
                    assert window == pytest.approx(stop.window, abs=1e-6)
        moves = [(window[0] + window[2]) / 2 for window in windows]
        largest = max(abs(a - b) for a, b in pairwise(moves))
        assert largest <= 0.7 * IMAGE[0]  # no jump, even between the two farthest in half a second
        for stop in stops:
            middle = [(stop.window[axis] + stop.window[axis + 2]) / 2 for axis in (0, 1)]
            box = [(stop.place.box[axis] + stop.place.box[axis + 2]) / 2 * IMAGE[axis] for axis in (0, 1)]
            half = (stop.window[2] - stop.window[0]) / 2, (stop.window[3] - stop.window[1]) / 2
            inside = [min(max(box[axis], half[axis]), IMAGE[axis] - half[axis]) for axis in (0, 1)]
            assert middle == pytest.approx(inside) and share_seen(stop.place.box, stop.window, image=IMAGE) == 1


def test_a_window_shows_the_pixels_of_its_box() -> None:
    """A white box on black: in its span the frame's middle is white, in the other's black."""
    pixels = np.zeros((300, 400, 3), dtype=np.uint8)
    pixels[120:180, 280:360] = 255  # RIGHT's box
    stops = choose_stops([LEFT, RIGHT], image=IMAGE, frame=FRAME, rng=random.Random(1))
    windows, seconds = camera_windows(stops)
    frames = film(Image.fromarray(pixels), windows, frame=FRAME)
    assert {frame.size for frame in frames} == {FRAME}
    for frame, second in zip(frames, seconds, strict=True):
        bright = np.asarray(frame)[30:42, 40:56].mean()
        for stop in stops:
            if stop.start_seconds <= second < stop.end_seconds:
                assert bright == (255 if stop.place is RIGHT else 0)


def test_places_that_cannot_be_told_apart_are_no_stops() -> None:
    """Overlapping boxes, one phrase alone, two phrases of one head."""
    near = Place("a cat", (0.06, 0.3, 0.22, 0.7))
    for places in ([LEFT], [LEFT, near], [LEFT, Place("another man", RIGHT.box)]):
        assert choose_stops(places, image=IMAGE, frame=FRAME, rng=random.Random(0)) == []
    assert len(choose_stops([LEFT, near, RIGHT], image=IMAGE, frame=FRAME, rng=random.Random(0))) == 2
    for box in ((0.2, 0.2, 0.2, 0.6), (0.5, 0.5, 0.4, 0.9), (0.5, 0.5, 1.2, 0.9), (float("nan"), 0, 1, 1)):
        with pytest.raises(ValueError, match="must have a size and lie in 0..1"):
            window_on(box, image=IMAGE, frame=FRAME)
    whole = window_on((0.0, 0.0, 1.0, 1.0), image=IMAGE, frame=FRAME)
    assert whole == pytest.approx((0, 0, 400, 300))


def test_phrases_of_no_single_box_or_size_are_no_places() -> None:
    box, flat = [0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.11, 0.5]
    phrases = [[{"start": 0, "end": 5, "boxes": boxes} for boxes in ([box, flat], [flat])],
               [{"start": 0, "end": 6, "boxes": [box]}, {"start": 11, "end": 13, "boxes": [[0.2, 0.2, 0.6, 0.6]]}],
               [{"start": 0, "end": 5, "boxes": [box]}]]  # fmt: skip
    places = places_of(phrases, ["A man walks", "A BOY sees it", "A girl sits"])
    assert places == [Place("a boy", tuple(box))]


def test_clips_of_real_images(travels: list[Travel]) -> None:
    assert len(travels) == NUM_CLIPS
    for travel in travels:
        found = frames_of_strip(load_image(travel.row["image"]["bytes"]))
        assert found is not None and travel.row["split"] == "test"
        frames, seconds = found
        path = shared(f"data/flickr8k/images/{travel.row['image_id'].removeprefix('travel-0-')}.jpg")
        size = size_in_file(str(path))
        assert frames[0].size == frame_size(*size, side=96) and max(frames[0].size) == 96
        assert seconds[-1] + 0.25 == travel.stops[-1].end_seconds
        assert all(2 * stop.start_seconds == int(2 * stop.start_seconds) for stop in travel.stops)
        for stop in travel.stops:
            for other in travel.stops:
                assert other is stop or share_seen(other.place.box, stop.window, image=size) <= MOST_SEEN


def test_the_same_arguments_give_the_same_clips(entities: str, travels: list[Travel], options: dict[str, Any]) -> None:
    few = {**options, "num_clips": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again, other = read_travels(entities, **few), read_travels(entities, seed=1, **few)
        middle = read_travels(entities, frames=1, **few)
    assert again == travels[:4] and other != again
    for whole, one in zip(again, middle, strict=True):
        clip, single = (frames_of_strip(load_image(travel.row["image"]["bytes"])) for travel in (whole, one))
        assert clip is not None and single is not None and len(single[0]) == 1
        assert single[1][0] == clip[1][len(clip[1]) // 2]


def test_no_words_tell_the_answer(travels: list[Travel]) -> None:
    """Orders are even, and each phrase that is asked for is seen in one clip and not in another."""
    rows = list(travelling_rows.question_rows(travels))
    orders = Counter(row["answer"] for row in rows if row["question_type"] == "order")
    assert orders.total() == NUM_CLIPS and max(orders.values()) / NUM_CLIPS < 0.5 + 3.5 * 0.5 / NUM_CLIPS**0.5
    by_question: dict[str, Counter[str]] = {}
    for row in rows:
        if row["question_type"] == "exist":
            by_question.setdefault(row["question"], Counter())[row["answer"]] += 1
    assert len(by_question) > 20 and all(found["yes"] == found["no"] for found in by_question.values())
    assert len({row["question_id"] for row in rows}) == len(rows)


def test_a_reversed_clip_turns_orders_round_and_leaves_what_is_seen(travels: list[Travel]) -> None:
    back = [Travel(travel.row, travel.stops[::-1], travel.captions) for travel in travels]
    asked, again = (
        {(row["image_id"], row["question"]): row["answer"] for row in travelling_rows.question_rows(own)}
        for own in (travels, back)
    )
    turned = {"yes": "no", "no": "yes"}
    for travel, reverse in zip(travels, back, strict=True):
        for text in travel.texts:
            for other in travel.texts:
                if text != other:
                    order = travel.texts.index(text) < travel.texts.index(other)
                    key = (travel.row["image_id"], f"is {text} seen before {other}?")
                    assert asked.get(key, "yes" if order else "no") == ("yes" if order else "no")
                    assert again.get(key, "no" if order else "yes") == turned["yes" if order else "no"]
        assert sorted(travel.texts) == sorted(reverse.texts)
    seen = [key for key in asked if " before " not in key[1] and key in again]
    assert len(seen) > 10 and all(asked[key] == again[key] for key in seen)


def test_rows_of_every_task(entities: str, travels: list[Travel], options: dict[str, Any]) -> None:
    few = {**options, "num_clips": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        captions, own = (read_travelling_captions(entities, captions=kind, **few) for kind in ("order", "image"))
        questions, moments = read_travelling_questions(entities, **few), read_travelling_moments(entities, **few)
        orders = read_travelling_questions(entities, kinds=["order"], **few)
    ids = [travel.row["image_id"] for travel in travels[:6]]
    assert captions["image_id"][:] == own["image_id"][:] == orders["image_id"][:] == ids
    assert captions["captions"][0] == order_sentences(travels[0].texts)
    assert own["captions"][0] == list(travels[0].captions)
    assert set(orders["question_type"]) == {"order"} and set(questions["question_type"]) == {"order", "exist"}
    stops = [(travel, stop) for travel in travels[:6] for stop in travel.stops]
    assert moments["caption"][:] == [stop.place.text for _, stop in stops]
    assert [row["spans"] for row in moments] == [[[stop.start_seconds, stop.end_seconds]] for _, stop in stops]
    assert moments["duration_seconds"][:] == [travel.stops[-1].end_seconds for travel, _ in stops]
    assert isinstance(captions.features["image"], datasets.Image)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": None}, "name their folder in data.images"),
        ({"side": 8}, "side 8 must be at least 32"),
        ({"most_stops": 1}, "most_stops 1 at least 2"),
        ({"num_clips": -1}, "num_clips -1 0 .all. or more"),
        ({"frames": -1}, "frames is -1"),
        ({"captions": "both"}, "captions is 'both'; choose order or image"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        read_travelling_captions(tmp_path / "absent.json", **{"images": tmp_path, **changes})
    if "captions" not in changes:
        with pytest.raises(ValueError, match="kinds names where"):
            read_travelling_questions(tmp_path / "absent.json", kinds=["where"], images=tmp_path)


def test_images_with_one_phrase_are_left_out(tmp_path: Path) -> None:
    """Told in one warning; none at all is an error."""
    boxes = {"1": [[0.05, 0.3, 0.2, 0.7]], "2": [[0.7, 0.4, 0.9, 0.6]]}
    records = []
    for name, known in (("two", ("1", "2")), ("one", ("1",))):
        Image.new("RGB", (80, 60)).save(tmp_path / f"{name}.jpg")
        told = {"1": "A man", "2": "a dog"}
        phrases = [{"phrase": told[chain], "chain": chain, "types": ["other"]} for chain in known]
        records.append({"filename": f"{name}.jpg", "split": "train", "orig_width": 80, "orig_height": 60,
                        "boxes": {chain: boxes[chain] for chain in known},
                        "sentences": [{"tokens": ["A", "man", "and", "a", "dog"], "phrases": phrases}]})  # fmt: skip
    (tmp_path / "both.json").write_text(json.dumps(records))
    with pytest.warns(UserWarning, match=r"left out 1 images without two phrases .* \(first: one\)"):
        rows = read_travelling_moments(tmp_path / "both.json", images=tmp_path)
    assert sorted(rows["caption"]) == ["a dog", "a man"] and set(rows["image_id"]) == {"travel-0-two"}
    (tmp_path / "one.json").write_text(json.dumps(records[1:]))
    with pytest.raises(ValueError, match="no image of .* has two phrases"):
        read_travels(tmp_path / "one.json", images=tmp_path)


def test_a_stop_is_where_and_when() -> None:
    stop = Stop(LEFT, window_on(LEFT.box, image=IMAGE, frame=FRAME), 0.0, 1.0)
    assert camera_windows([stop])[0] == [stop.window] * 4 and LEFT.head == "man"
