"""Predictions as the file that QVHighlights' evaluation server takes.

windows and saliency scores by query + the rows of the split --write_qvhighlights--> hl_val_submission.jsonl
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.data.clips.rows import is_number, span_fault
from training.data.files import PathLike, listed, write_atomically


def write_qvhighlights(
    predictions: Mapping[str, Mapping[str, Any]], path: PathLike, *, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes the file to upload, a JSON object a line; it is there whole or not at all.

    Args:
        predictions: by `moment_id`: `windows`, (n, 3) starts and ends in seconds and scores, and `saliency_scores`, a
            number for each clip of 2 s; either may be absent from all. Windows are written with the best first.
        path: the JSONL file; the server takes `hl_val_submission.jsonl` and `hl_test_submission.jsonl` in one ZIP.
        rows: all rows of the split, as `read_qvhighlights` reads them.

    Raises:
        ValueError: for queries without a prediction and predictions without a query (up to five ids, and how many), and
            for windows or scores that are no finite numbers, start after they end or lie outside of the clip.
    """
    found = list(rows)
    ids = [row["moment_id"] for row in found]
    absent, strange = [i for i in ids if i not in predictions], sorted(predictions.keys() - set(ids))
    if absent or strange:
        faults = [
            f"{len(names)} {words}: {listed(names)}"
            for names, words in ((absent, "queries have no prediction"), (strange, "predictions have no query"))
            if names
        ]
        raise ValueError(f"{'; '.join(faults)}; predict every query of the split exactly once")
    keys = {key for own in predictions.values() for key in own}
    if not keys or keys - {"windows", "saliency_scores"}:
        raise ValueError(
            f"predictions have {listed(sorted(keys)) or 'nothing'}; give windows, saliency_scores, or both"
        )
    lines = [json.dumps(_line(row, predictions[row["moment_id"]], keys), ensure_ascii=False) for row in found]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(Path(path), "".join(f"{line}\n" for line in lines).encode())


def _line(row: Mapping[str, Any], own: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    name = row["moment_id"]
    lacking = [key for key in sorted(keys) if own.get(key) is None or not len(own[key])]
    if lacking:
        raise ValueError(f"the prediction of {name} has no {', '.join(lacking)}; give them to all queries, or to none")
    line: dict[str, Any] = {
        "qid": int(name) if name.isdecimal() else name,
        "query": row["caption"],
        "vid": row["clip_id"],
    }
    if "windows" in keys:
        line["pred_relevant_windows"] = _windows(own["windows"], name, row["duration_seconds"])
    if "saliency_scores" in keys:
        scores = list(own["saliency_scores"])
        if not all(map(is_number, scores)):
            raise ValueError(f"the saliency scores of {name} are not all finite numbers")
        line["pred_saliency_scores"] = scores
    return line


def _windows(windows: Sequence[Sequence[float]], name: str, duration: float) -> list[list[float]]:
    for window in windows:
        if len(window) != 3 or not all(map(is_number, window)) or span_fault(list(window[:2]), duration):
            raise ValueError(
                f"the prediction of {name} has the window {list(window)}; windows are three finite numbers, "
                f"start before they end and lie in their clip of {duration:g} s"
            )
    return [list(window) for window in sorted(windows, key=lambda window: -window[2])]
