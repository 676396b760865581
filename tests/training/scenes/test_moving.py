"""Moving scenes: the graph is what is drawn, and words alone tell no answer."""

from collections import Counter, defaultdict
from dataclasses import replace

import datasets
import numpy as np
import pytest

from processors.image_processing_updown import load_image
from training.data.clips.strips import frames_of_strip
from training.scenes.draw import COLOURS
from training.scenes.moving import (
    NUM_FRAMES,
    REPEATED,
    MovingScene,
    draw_moving_scene,
    make_moving_scene,
    reversed_scene,
    state_at,
)
from training.scenes.moving_questions import KINDS, moving_questions
from training.scenes.moving_rows import moving_scenes_dataset, read_moving_moments, read_moving_questions
from training.scenes.moving_texts import event_sentence, moving_captions, object_phrase, verb_phrase

MANY = 1200


@pytest.fixture(scope="module")
def scenes() -> list[MovingScene]:
    return [make_moving_scene(index, seed=5) for index in range(MANY)]


def pixels(scene: MovingScene, index: int) -> np.ndarray:
    """(frames, side, side, 3) int"""
    return np.stack([np.asarray(frame, dtype=int) for frame in draw_moving_scene(scene, index=index, seed=5)])


@pytest.mark.parametrize("index", range(25))
def test_spans_are_the_drawn_motion(index: int, scenes: list[MovingScene]) -> None:
    """Frames differ from the one before in exactly those that the graph names, and only in the actor's lane or way."""
    scene = scenes[index]
    drawn = pixels(scene, index)
    changed = [number for number in range(1, NUM_FRAMES) if (drawn[number] != drawn[number - 1]).any()]
    said = [n for event in scene.events for n in range(event.first_frame, event.first_frame + event.num_frames)]
    assert changed == said
    for event in scene.events:
        assert event.span == (event.first_frame / 4, (event.first_frame + event.num_frames) / 4)
        assert event.span[0] > 0 and event.span[1] <= NUM_FRAMES / 4


def test_what_is_said_to_happen_is_seen(scenes: list[MovingScene]) -> None:
    """Measured from pixels of the object's colour: where it is, how large, before and after."""
    seen = Counter[str]()
    for index, scene in enumerate(scenes[:60]):
        drawn = pixels(scene, index)
        for event in scene.events:
            first, last = event.first_frame - 1, event.first_frame + event.num_frames - 1
            colour = state_at(scene, event.actor, first).colour
            before, after = where(drawn[first], colour), where(drawn[last], colour)
            if event.kind in ("left", "right"):
                moved = after[0] - before[0]
                assert moved == pytest.approx(0.3 * 72 * (1 if event.kind == "right" else -1), abs=1.0)
            elif event.kind == "turn":
                assert before[2] > 20 and after[2] < 3 and where(drawn[last], COLOURS[event.colour])[2] > 20
            elif event.kind in ("appear", "disappear"):
                assert (before[2] == 0, after[2] == 0) == (event.kind == "appear", event.kind == "disappear")
            else:
                assert before == after and where(drawn[event.first_frame], colour) != before  # there and back
            if event.kind == "meet":
                other = where(drawn[last], state_at(scene, event.other, first).colour)
                there = where(drawn[event.first_frame + 1], colour)
                assert 10 < np.hypot(there[0] - other[0], there[1] - other[1]) < 16 and there[0] == pytest.approx(
                    other[0], abs=1
                )
            if event.kind in REPEATED:
                times = sum(where(drawn[n], colour) != before for n in range(event.first_frame, last + 1))
                assert times == event.times
            seen[event.kind] += 1
    assert set(seen) == {*REPEATED, "left", "right", "turn", "meet", "appear", "disappear"}


def where(frame: np.ndarray, colour: tuple[float, ...]) -> tuple[float, float, int]:
    """Middle x, y and number of the pixels of a colour."""
    found = np.argwhere(np.abs(frame - np.array(colour)).max(axis=-1) <= 3)
    return (*(found.mean(axis=0)[::-1].round(3).tolist() if len(found) else (-1.0, -1.0)), len(found))


@pytest.mark.parametrize("index", range(15))
def test_a_reversed_clip_changes_order_and_not_objects(index: int, scenes: list[MovingScene]) -> None:
    """Its frames are the same backwards, pixel by pixel; answers about frames stay, those about order turn round."""
    scene = scenes[index]
    back = reversed_scene(scene)
    assert np.array_equal(pixels(back, index), pixels(scene, index)[::-1])
    assert [event.kind for event in reversed_scene(back).events] == [event.kind for event in scene.events]
    asked, again = ({q.question: q for q in moving_questions(one, seed=index)} for one in (scene, back))
    turned = any(event.kind == "turn" for event in scene.events)
    for question, one in asked.items():
        if one.kind == "number" or (one.kind in ("color", "object", "count", "action") and not turned):
            assert again[question].answer == one.answer
        if one.kind == "order":
            assert order_of(scene, question) == one.answer
            assert order_of(back, question) in ({"yes": "no", "no": "yes"}[one.answer], "")  # "": a move the other way
        if one.kind == "transition" and all(event.kind in (*REPEATED, "meet") for event in scene.events_of(0)):
            word, other = ("after", "before") if " after " in question else ("before", "after")
            assert again[question.replace(f" {word} ", f" {other} ")].answer == one.answer and question not in again


def order_of(scene: MovingScene, question: str) -> str:
    """The answer to a question of order by the graph; "" where one of its events is not there."""
    first, second = question.removeprefix("does ").removesuffix("?").split(" before ")
    starts = {}
    for event in scene.events:
        for asked in (True, False):
            words = f"{object_phrase(scene, event.actor)} {verb_phrase(scene, event, asked=asked)}"
            starts[words] = event.first_frame
    return ("yes" if starts[first] < starts[second] else "no") if {first, second} <= starts.keys() else ""


def test_answers_about_order_turn_round(scenes: list[MovingScene]) -> None:
    """Of many scenes, by their graphs."""
    turned = Counter[bool]()
    for index, scene in enumerate(scenes[:300]):
        for asked in moving_questions(scene, seed=index):
            if asked.kind == "order" and order_of(reversed_scene(scene), asked.question):
                turned[order_of(reversed_scene(scene), asked.question) != asked.answer] += 1
    assert turned[True] > 50 and not turned[False]


def test_no_words_tell_the_answer(scenes: list[MovingScene]) -> None:
    """The commonest answer of each form of question is hardly likelier than chance: what words alone could reach."""
    answers, places = defaultdict(Counter), Counter[int]()
    for index, scene in enumerate(scenes):
        for asked in moving_questions(scene, seed=index):
            assert asked.choices == () or (len(set(asked.choices)) == 5 and asked.answer in asked.choices)
            words = asked.question.split()
            form = " ".join([asked.kind, *(word for word in words if word in ("after", "before", "times"))])
            once = asked.kind == "transition" and any(word in asked.choices for word in ("appears", "disappears"))
            answer = asked.answer
            if once:  # of things that differ in their names alone
                answer = answer if answer.startswith("moves") else answer.split()[0]
            answers[f"{form} {'once' if once else ''}"][answer] += 1
            if asked.choices:
                places[asked.choices.index(asked.answer)] += 1
    chances = {"action": 1 / 5, "transition": 1 / 5, "count": 1 / 3, "color": 1 / 7, "object": 1 / 5, "number": 1 / 2,
               "order": 1 / 2}  # fmt: skip
    assert {form.split()[0] for form in answers} == set(KINDS)
    for form, counts in answers.items():
        chance, total = chances[form.split()[0]], sum(counts.values())
        share = counts.most_common(1)[0][1] / total
        assert share < chance + 3.5 * (chance * (1 - chance) / total) ** 0.5, (form, counts)
    assert max(places.values()) / places.total() < 0.2 + 3.5 * (0.16 / places.total()) ** 0.5


def test_orders_are_even_whatever_is_asked(scenes: list[MovingScene]) -> None:
    """Also for each verb that comes first in the question."""
    yes, total = Counter[str](), Counter[str]()
    for index, scene in enumerate(scenes):
        for asked in moving_questions(scene, seed=index):
            if asked.kind == "order":
                verb = asked.question.split()[4]
                total[verb] += 1
                yes[verb] += asked.answer == "yes"
    assert len(total) == 8 and min(total.values()) > 40  # moves both ways, and whoever is met, are one verb
    for verb, count in total.items():
        assert abs(yes[verb] / count - 0.5) < 3.5 * 0.5 / count**0.5, (verb, yes[verb], count)


def test_captions_are_true_and_short(scenes: list[MovingScene]) -> None:
    for index, scene in enumerate(scenes[:200]):
        captions = moving_captions(scene, seed=index)
        assert len(set(captions)) == 5 and max(len(caption.split()) for caption in captions) <= 20
        for caption in captions[1:]:
            parts = caption.split(" and then ")
            if len(parts) == 2:
                told = [[event_sentence(scene, event) for event in scene.events].index(part) for part in parts]
                assert told == sorted(told)


def test_rows_are_clips_with_their_seconds() -> None:
    """The same again for the same arguments, others for another split; a single frame is the one in the middle."""
    rows, again = (moving_scenes_dataset(3, seed=1, split="val") for _ in range(2))
    files = [bytes_of(one) for one in (rows, again)]
    assert files[0] == files[1] and rows["captions"][:] == again["captions"][:]
    assert rows["image_id"][:] == [f"moving-val-1-{index}" for index in range(3)]
    assert bytes_of(moving_scenes_dataset(3, seed=1, split="train")) != files[0]
    both = moving_scenes_dataset(3, seed=1, split="train+val")
    assert both["split"][:] == ["train"] * 3 + ["val"] * 3 and bytes_of(both)[3:] == files[0]
    clip, middle = (frames_of_strip(load_image(bytes_of(moving_scenes_dataset(1, frames=n))[0])) for n in (0, 1))
    assert clip is not None and middle is not None
    assert clip[1] == [number / 4 for number in range(18)] and middle[1] == [9 / 4]
    assert np.array_equal(np.asarray(middle[0][0]), np.asarray(clip[0][9])) and clip[0][0].size == (72, 72)
    scene = make_moving_scene(0, seed=0)
    drawn = draw_moving_scene(scene, index=0, seed=0)
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in zip(drawn, clip[0], strict=True))


def test_questions_and_moments_are_of_the_same_clips() -> None:
    captions = moving_scenes_dataset(2, image_size=40)
    questions, moments = read_moving_questions(2, image_size=40), read_moving_moments(2, image_size=40)
    assert set(questions["image_id"]) == set(moments["image_id"]) == set(captions["image_id"])
    assert bytes_of(questions)[0] == bytes_of(moments)[0] == bytes_of(captions)[0]
    scene = make_moving_scene(0, seed=0)
    assert [row["spans"] for row in moments.select(range(3))] == [[list(event.span)] for event in scene.events]
    assert moments["caption"][:3] == [event_sentence(scene, event) for event in scene.events]
    assert set(moments["duration_seconds"]) == {4.5} and len(set(moments["moment_id"])) == 6
    few = read_moving_questions(2, image_size=40, kinds=["count"])
    assert set(few["question_type"]) == {"count"} and set(few["answer_type"]) == {"number"}
    assert all(row["choices"][row["correct_choice"]] == row["answer"] for row in questions if row["choices"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_scenes": 0}, "num_scenes 0 must be at least 1"),
        ({"num_scenes": 1, "image_size": 8}, "image_size 8 at least 32"),
        ({"num_scenes": 1, "frames": -1}, "frames is -1"),
        ({"num_scenes": 1, "split": "nowhere"}, "unknown split 'nowhere'"),
        ({"num_scenes": 1, "kinds": ["colour"]}, "kinds names colour; the kinds of questions are action"),
        ({"num_scenes": 1, "kinds": []}, "kinds names none"),
    ],
)
def test_mistakes_are_told(options: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_moving_questions(**options)


def test_an_object_is_as_it_was_before_anything_happens(scenes: list[MovingScene]) -> None:
    still = replace(scenes[0], events=())
    assert state_at(still, 0, 17) == state_at(still, 0, 0) and state_at(still, 0, 0).scale == 1


def bytes_of(rows: datasets.Dataset) -> list[bytes]:
    return [row["image"]["bytes"] for row in rows.cast_column("image", datasets.Image(decode=False))]
