"""Configs whose labels say how many outputs a model has: a detector's classes, a question answerer's answers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from transformers import PreTrainedConfig

# what id 0 of a detector's names may be called; the last is what transformers calls it
NAMES_OF_NOTHING = frozenset({"background", "bg", "no object", "no attribute", "none", "label 0"})


class LabelledConfig(PreTrainedConfig):
    """A config whose labels say how many outputs there are, whenever and however they are set.

    label_fields: {field that counts: (field that names, what id 0 is called where it does not count, or None)}.
    """

    label_fields: ClassVar[dict[str, tuple[str, str | None]]] = {}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers does it; new labels, or a new number of them, take the place of the saved ones."""
        fields = dict(config_dict)
        if "label2id" in kwargs and "id2label" not in kwargs:
            kwargs["id2label"] = {int(i): name for name, i in kwargs["label2id"].items()}
        kwargs.pop("label2id", None)
        for count, (names, nothing) in cls.label_fields.items():
            if names == "id2label" and kwargs.get("num_labels") is not None:
                kwargs.setdefault(count, kwargs.pop("num_labels") - (nothing is not None))
            if kwargs.get(names) is not None:
                kwargs.pop(count, None)
                fields[names] = kwargs.pop(names)
            elif kwargs.get(count) is not None and kwargs[count] != fields.get(count):
                fields[count], fields[names] = kwargs.pop(count), None
        return super().from_dict(fields, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field; new labels set their number, and `label2id`, too."""
        nothing = next((nothing for names, nothing in self.label_fields.values() if name == names), None)
        if nothing is not None and value is not None:
            value = with_nothing_first(name, value, nothing=nothing)
        super().__setattr__(name, value)
        for count, (names, nothing) in self.label_fields.items():
            if name == names and value is not None:
                setattr(self, count, len(value) - (nothing is not None))
        if name == "id2label" and value is not None and self.label_fields:
            self.label2id = {label: int(i) for i, label in value.items()}


def with_nothing_first(field: str, names: Mapping[Any, str], *, nothing: str) -> dict[int, str]:
    """Names of the ids 0 .. C, of which 0 stands for none of the others; where it has no name it gets `nothing`.

    Raises:
        ValueError: id 0 names something, so that it would never be found, or an id between is missing.

    >>> with_nothing_first("id2label", {1: "cat", 2: "dog"}, nothing="background")
    {0: 'background', 1: 'cat', 2: 'dog'}
    """
    named = dict(sorted((int(i), name) for i, name in names.items()))
    first = str(named.setdefault(0, nothing))
    if first.strip("_ ").replace("_", " ").casefold() not in NAMES_OF_NOTHING:
        raise ValueError(
            f"{field} calls id 0 {first!r:.60}, but a detector's id 0 is the {nothing!r}: number the names from 1, or "
            f"put 0: {nothing!r} before them"
        )
    named = dict(sorted(named.items()))
    missing = next((i for i in range(len(named)) if i not in named), None)
    if missing is not None:
        raise ValueError(f"{field} names {len(named) - 1} ids beside 0, but not {missing}: number them 1, 2, 3, ...")
    return named
