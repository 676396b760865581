"""A batch of images through a region source in passes of as many as the device is fast with.

inputs of P images --in_passes--> regions of all, equal to those of one pass

A store is written batch by batch, whatever the passes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from modeling_updown.clips_updown import images_at_once
from modeling_updown.regions_updown import pad_regions_to


def in_passes(
    source: Callable[..., Mapping[str, Any]],
    inputs: Mapping[str, torch.Tensor],
    *,
    columns: Sequence[str],
    **options: Any,
) -> dict[str, Any]:
    """The regions of P images as columns of a store, (P, R, ...) padded to the most regions of any of them.

    Args:
        source: of regions, called with some of the inputs at a time and the options.
        inputs: (P, ...) each; their device decides how many images a pass has (`images_at_once`).
        columns: that are wanted, `region_mask` among them; those that the source does not give are left out.
    """
    number = len(next(iter(inputs.values())))
    step = images_at_once(next(iter(inputs.values())).device)
    parts = []
    for start in range(0, number, step):
        found = source(**{name: value[start : start + step] for name, value in inputs.items()}, **options)
        parts.append({name: found[name] for name in columns if found.get(name) is not None})
    return join_passes(parts)


def join_passes(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of several passes as those of one: tensors (P, R, ...), or P lists of R strings.

    >>> one, two = {"region_mask": torch.ones(1, 1).bool()}, {"region_mask": torch.ones(1, 2).bool()}
    >>> join_passes([one, two])["region_mask"].tolist()
    [[True, False], [True, True]]
    """
    if len(parts) == 1:
        return dict(parts[0])
    longest = max(part["region_mask"].shape[1] for part in parts)
    joined: dict[str, Any] = {}
    for name, first in parts[0].items():
        values = [part[name] for part in parts]
        if isinstance(first, torch.Tensor):
            joined[name] = torch.cat([pad_regions_to(value, longest) for value in values])
        else:
            joined[name] = [[*row, *[""] * (longest - len(row))] for value in values for row in value]
    return joined
