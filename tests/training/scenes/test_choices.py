"""The one format of drawn scenes for multiple choice: what is asked is an option."""

from training.scenes.choices import ASKS, read_scene_choices


def test_each_kind_is_read_with_its_options() -> None:
    kinds = {asks: set(read_scene_choices(3, asks=asks, image_size=32, seed=2).rows["kind"]) for asks in ASKS}
    assert kinds == {"commonsense": {"answer", "rationale"}, "dialogues": {"round"}}
