"""Rows of statements: what is left out is counted, and mistakes are named."""

from pathlib import Path

import pytest
from PIL import Image

from training.data.statements.formats import ENTAILMENT_FORMATS, load_statements
from training.data.statements.rows import ENTAILMENT, Statement, statement_dataset


def statement(number: int, **changes) -> Statement:
    fields = {"statement_id": str(number), "names": (f"{number}.png",), "text": "a dog", "label": "neutral"}
    return Statement(**{**fields, "split": "train", **changes})


def dataset(statements, **changes):
    return statement_dataset(
        statements, **{"labels": ENTAILMENT, "images": None, "split": None, "source": "s.jsonl", **changes}
    )


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path) -> None:
    for name in ("0", "5"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    given = [
        statement(0, label="Neutral"),
        statement(1, text=" "),
        statement(2, label="-"),
        statement(0, text="again"),
        statement(3, text=7),
        statement(4),
        statement(5, names=("5.png", "0.png")),
    ]
    with pytest.warns(UserWarning) as told:
        rows = dataset(given, images=tmp_path)
    assert rows["statement_id"][:] == ["0", "5"] and rows["label"][:] == ["neutral", "neutral"]
    assert rows["image_ids"][:] == [["0"], ["5", "0"]] and rows[1]["images"][1].size == (4, 4)
    texts = [str(one.message) for one in told]
    assert any(
        "2 statements that are empty or no text (first: 1); 1 statements whose class is none of entailment, neutral, "
        "contradiction (first: 2); 1 statements whose id stood before (first: 0); 1 statements of which an image is "
        "missing (first: 4)" in text
        for text in texts
    )


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="s.jsonl has no statement that can be used"):
        dataset([statement(0, label="-")])
    with pytest.raises(ValueError, match="has no image of the split 'test'; it has train"):
        dataset([statement(0)], split="test")
    with pytest.raises(ValueError, match="there is no image folder"):
        dataset([statement(0)], images=tmp_path / "nothing")
    with pytest.raises(ValueError, match="unknown statements format 'snli'"):
        load_statements("snli", formats=ENTAILMENT_FORMATS)
    with pytest.raises(ValueError, match="does not take pictures; its options are annotations, images"):
        load_statements("snli_ve", formats=ENTAILMENT_FORMATS, annotations="a.jsonl", pictures="x")
