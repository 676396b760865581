"""What is handed in of a question answerer's predictions: who takes answers, and what each entry says.

predictions of `vqa.py` --submitted--> what `training/data/questions/submission.py` writes
"""

from collections.abc import Mapping
from typing import Any

from training.metrics.vqa.scores import scored_format

SUBMITTED_AS = {  # format -> the kind of upload file
    **dict.fromkeys(("vqa_v2", "lxmert_vqa"), "vqa"),
    **dict.fromkeys(("gqa", "lxmert_gqa"), "gqa"),
    **{name: name for name in ("aokvqa", "visual7w")},
}


def submission_kind(data: Mapping[str, Any], split: str) -> str:
    """The kind of upload file of a recipe's data set; `ValueError` where nobody takes any."""
    format = scored_format(data, split)
    if format not in SUBMITTED_AS:
        raise ValueError(f"nobody takes answers to {format!r}; there are {', '.join(SUBMITTED_AS)}")
    return SUBMITTED_AS[format]


def submitted(found: Mapping[str, Any], kind: str) -> Any:
    """What the upload file says of one prediction: A-OKVQA wants choice and answer, Visual7W the choice."""
    if kind == "aokvqa":
        return {
            key: found[name]
            for key, name in (("multiple_choice", "choice"), ("direct_answer", "answer"))
            if name in found
        }
    return found.get("choice", found["answer"]) if kind == "visual7w" else found["answer"]
