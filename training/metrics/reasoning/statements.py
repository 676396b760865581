"""Whether statements about images are judged right: SNLI-VE's accuracy, NLVR2's and NLVR's accuracy and consistency.

a class a statement + the true ones --snli_ve--> accuracy, and of each class
the same + which statements share a sentence --nlvr2--> accuracy, and the share of sentences that are always right
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from training.metrics.box_arrays import with_hundredfold


def snli_ve(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Accuracy of visual entailment.

    Args:
        predictions: one class a statement.
        references: the true one of each, in the same order; SNLI-VE has none without (its authors removed "-").

    Returns:
        `accuracy` in 0..1 and `accuracy_x100`; `per_class`, of each true class `[right, statements]`; `per_item`, 1.0
        where a statement is right.

    Raises:
        ValueError: for none, or another number of predictions.

    >>> scores = snli_ve(["entailment", "neutral", "neutral"], ["entailment", "neutral", "contradiction"])
    >>> round(scores["accuracy"], 4), scores["per_class"]["contradiction"]
    (0.6667, [0, 1])
    """
    right = _right(predictions, references)
    totals, hits = Counter(references), Counter(name for name, hit in zip(references, right, strict=True) if hit)
    per_class = {name: [hits[name], total] for name, total in totals.items()}
    return with_hundredfold({"accuracy": float(np.mean(right))}) | {
        "per_class": per_class,
        "per_item": [float(hit) for hit in right],
    }


def nlvr2(predictions: Sequence[str], references: Sequence[str], *, groups: Sequence[str]) -> dict[str, Any]:
    """Accuracy and consistency of statements about pairs of images, as NLVR2's and NLVR's official scripts have them.

    Args:
        predictions: one class a statement, `true` or `false`, in any case.
        references: the true one of each, in the same order.
        groups: what statements with one sentence share (`group` of the rows).

    Returns:
        `accuracy`, `consistency` (the share of groups that are right throughout), in 0..1 and `_x100`; `per_item`, and
        `per_group`: group -> 1.0 where all of it is right.

    Raises:
        ValueError: for none, or another number of predictions or groups.

    >>> scores = nlvr2(["True", "false", "true"], ["true", "false", "false"], groups=["a", "a", "b"])
    >>> round(scores["accuracy"], 4), scores["consistency"], scores["per_group"]
    (0.6667, 0.5, {'a': 1.0, 'b': 0.0})
    """
    right = _right([name.lower() for name in predictions], [name.lower() for name in references])
    if len(groups) != len(right):
        raise ValueError(f"{len(groups)} groups for {len(right)} statements: give one for each")
    whole: dict[str, float] = dict.fromkeys(groups, 1.0)
    for group, hit in zip(groups, right, strict=True):
        whole[group] *= hit
    figures = {"accuracy": float(np.mean(right)), "consistency": float(np.mean(list(whole.values())))}
    return with_hundredfold(figures) | {"per_item": [float(hit) for hit in right], "per_group": whole}


def _right(predictions: Sequence[str], references: Sequence[str]) -> list[bool]:
    if not references or len(predictions) != len(references):
        raise ValueError(
            f"{len(predictions)} predictions for {len(references)} statements: give one for each of at least one"
        )
    return [found == true for found, true in zip(predictions, references, strict=True)]
