"""What the configs of top-down models say of tags: names of a region's objects and attributes beside its feature.

The configs themselves are in `configuration_updown.py` and `configuration_text_updown.py`, the module that makes tags
of probabilities in `tags_updown.py`.
"""

from typing import Any, NamedTuple

from transformers import PreTrainedConfig


class TagKind(NamedTuple):
    """A kind of names: where regions have the probabilities, and a detector's config the number of names and names."""

    name: str  # of the config's field that counts the classes
    probs: str
    number: str
    labels: str

    @property
    def names(self) -> str:
        """The config's field that names the classes."""
        return f"{self.name.removesuffix('s')}_names"


TAG_KINDS = (
    TagKind("object_tags", "object_probs", "num_objects", "id2label"),
    TagKind("attribute_tags", "attribute_probs", "num_attributes", "attribute_id2label"),
)


class TaggedRegionsConfig(PreTrainedConfig):
    r"""A config whose model may read the names of a region's objects and attributes beside its feature.

    A region is then [feature, object tag, attribute tag], `region_size` numbers; see `RegionTags`.

    object_tags, attribute_tags (`int`, default to 0):
        Classes C of which every region has probabilities (`object_probs`, `attribute_probs` of C + 1 columns), without
        the background; 0 leaves these tags out.
    object_tag_names, attribute_tag_names (`list[str]`, *optional*):
        Names of the classes 1 .. C; by default those of `vision_config`. Their number is that of the classes.
    tag_embedding_size (`int`, defaults to 300):
        Width of one class's vector (GloVe's).
    tag_top_k (`int`, defaults to 0):
        Only so many of a region's likeliest classes count; 0 takes all.
    region_feature_dropout (`float`, defaults to 0.0):
        In training: the probability that all regions of an image lose their features and keep their tags.
    """

    object_tags: int = 0
    attribute_tags: int = 0
    object_tag_names: list[str] | None = None
    attribute_tag_names: list[str] | None = None
    tag_embedding_size: int = 300
    tag_top_k: int = 0
    region_feature_dropout: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        for kind in TAG_KINDS:
            self._settle(kind)
        self.check_tags()

    def check_tags(self) -> None:
        """Raises `ValueError` for fields of tags that are out of their range or mean nothing together."""
        if self.tag_embedding_size < 1 or self.tag_top_k < 0 or not 0 <= self.region_feature_dropout < 1:
            raise ValueError(
                f"tag_embedding_size={self.tag_embedding_size} must be 1 or more, tag_top_k={self.tag_top_k} 0 or "
                f"more, and region_feature_dropout={self.region_feature_dropout} at least 0 and below 1"
            )
        if self.region_feature_dropout and not self.tag_kinds:
            raise ValueError(
                "region_feature_dropout leaves a region nothing but its tags: set object_tags as well, or leave it out"
            )

    def _settle(self, kind: TagKind) -> None:
        """Number and names of one kind of tags, by what is given and by the region source."""
        names, source = getattr(self, kind.names), getattr(self, "vision_config", None)
        number = getattr(self, kind.name) or len(names or [])
        if number < 0 or (names is not None and number != len(names)):
            raise ValueError(
                f"{kind.name}={number}, but {kind.names} has {len(names or [])} names: leave one out, or give as many"
            )
        if number and source is not None:
            theirs = class_names(source, kind)
            if number != len(theirs) or (names is not None and names != theirs):
                told = f"which names {len(theirs)} such classes" if theirs else "which names none"
                raise ValueError(
                    f"{kind.name}={number} reads the {kind.probs} of the region source, a {source.model_type!r}, "
                    f"{told}{', of other names' if number == len(theirs) else ''}: take its number and names, or "
                    "another region source"
                )
            names = theirs
        setattr(self, kind.name, number)
        setattr(self, kind.names, names)

    @property
    def tag_kinds(self) -> list[TagKind]:
        """The kinds of tags that are read."""
        return [kind for kind in TAG_KINDS if getattr(self, kind.name)]

    @property
    def region_size(self) -> int:
        """Width of a region as the model reads it: its feature and its tags."""
        return self.region_feature_size + self.tag_embedding_size * len(self.tag_kinds)  # type: ignore[attr-defined]


def class_names(source: PreTrainedConfig, kind: TagKind) -> list[str]:
    """What a region source's config calls the classes 1 .. C of a kind; [] for a source that knows none, as a grid."""
    labels = getattr(source, kind.labels, None) or {}
    return [labels[number] for number in range(1, getattr(source, kind.number, 0) + 1)]
