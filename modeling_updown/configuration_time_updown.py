"""What the configs of top-down models say of time: when a region is seen, for the regions of a clip's frames.

The configs themselves are in `configuration_updown.py` and `configuration_text_updown.py`, the numbers that models read
of seconds in `time_updown.py`.
"""

from typing import Any, Literal

from .configuration_tags_updown import TaggedRegionsConfig

TIME_WAVES = 16  # sines, and as many cosines, that describe a time
TIME_SIZES = {"": 0, "seconds": 2 * TIME_WAVES, "relative": 2 * TIME_WAVES, "both": 4 * TIME_WAVES}
OLD_TIMES = {True: "seconds", False: ""}  # the field was a flag before there was a choice


class TimedRegionsConfig(TaggedRegionsConfig):
    r"""A config whose model may read when each region is seen, as `region_seconds` say.

    time_embedding (`""`, `"seconds"`, `"relative"` or `"both"`, defaults to `""`):
        What a model reads of `region_seconds`: nothing, the seconds, the place between the first and the last second of
        the row's regions (0 to 1, and 0 in a row of one frame), or both. `True` stands for `"seconds"`, `False` for
        `""`.
    """

    time_embedding: Literal["", "seconds", "relative", "both"] | bool = ""

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.time_embedding, bool):
            self.time_embedding = OLD_TIMES[self.time_embedding]  # type: ignore[assignment]
        super().__post_init__(**kwargs)

    @property
    def time_size(self) -> int:
        """How many numbers describe a time; 0 where none is read."""
        return TIME_SIZES[self.time_embedding]  # type: ignore[index]
