"""Facts of captions of moving scenes, beside the scenes' own captions and captions that are wrong by one word."""

import json
from pathlib import Path

import pytest

from training.probes import moving_facts as probe
from training.scenes.moving_facts import fact_scores, scene_of, told_facts
from training.scenes.moving_texts import event_sentence, moving_captions

CLIPS = [f"moving-test-0-{number}" for number in range(40)]


def test_true_captions_are_exact() -> None:
    for number, clip in enumerate(CLIPS):
        scene = scene_of(clip)
        captions = moving_captions(scene, seed=number)
        scores = fact_scores(captions, [scene] * len(captions))
        assert scores["exact"] == [1.0] * len(captions) and set(scores["order"]) <= {1.0, None}


def test_one_wrong_word_is_one_wrong_fact() -> None:
    """Another colour, another count, another order, another number of shapes, and words of no form."""
    scene = next(scene for scene in map(scene_of, CLIPS) if scene.events[0].times == 2)
    first, second, _ = (event_sentence(scene, event) for event in scene.events)
    wrong = {
        first.replace("twice", "three times"): {"event": [False]},
        f"{first} and then {second}": {"event": [True, True], "order": [True]},
        f"{second} and then {first}": {"event": [True, True], "order": [False]},
        f"five shapes and {first}": {"shapes": [False], "event": [True]},
        "a dog runs": {"event": [False]},
        f"{first} and then a dog runs": {"event": [True, False]},
        "": {},
    }
    for caption, expected in wrong.items():
        found: dict[str, list[bool]] = {}
        for fact in told_facts(caption, scene):
            found.setdefault(fact.kind, []).append(fact.true)
        assert found == expected, caption
    assert fact_scores([""], [scene])["exact"] == [0.0]


def test_the_table_of_two_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One says the truth, the other one the truth of the next clip."""
    truth = [event_sentence(scene, scene.events[0]) for scene in map(scene_of, CLIPS)]
    for name, captions, mark in (("all", truth, ""), ("one", truth[1:] + truth[:1], "-1-of-18")):
        (tmp_path / name).mkdir()
        told = [{"image_id": clip + mark, "caption": own} for clip, own in zip(CLIPS, captions, strict=True)]
        (tmp_path / name / "predictions.json").write_text(json.dumps(told))
    output = tmp_path / "facts.json"
    assert not probe.main([f"all={tmp_path}/all", f"one={tmp_path}/one", "--output", str(output)])
    best, worse = json.loads(output.read_text())["rows"]
    assert best["metrics"]["exact"] == 100 and worse["metrics"]["exact"] < 10
    mean, low, high = worse["difference"]
    assert mean == pytest.approx(worse["metrics"]["exact"] - 100) and low <= mean <= high < -80
    assert "| all | 100.0 | 100.0 |" in capsys.readouterr().out


def test_other_predictions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, said in (([{"image_id": "dog.jpg", "caption": "a dog"}], "is not the image_id of a moving scene"),
                          ([{"question_id": 1}], "holds no captions"), ([], "holds no caption"),
                          ([{"moment_id": "a", "caption": "b"}], "holds no captions")):  # fmt: skip
        (tmp_path / "predictions.json").write_text(json.dumps(content))
        assert probe.main([str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
