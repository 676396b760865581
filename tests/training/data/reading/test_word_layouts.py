"""Words of other people's OCR, in files written in each documented layout, since no real one is at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from processors.words_updown import word_in_box
from training.data.reading.word_layouts import open_words, words_in

ROSETTA = {
    "dataset_type": "train",
    "data": [
        {
            "image_id": "a1",
            "ocr_tokens": ["Main", "St"],
            "ocr_info": [
                {
                    "word": "Main",
                    "bounding_box": {
                        "top_left_x": 0.1,
                        "top_left_y": 0.2,
                        "width": 0.3,
                        "height": 0.1,
                        "rotation": 0,
                        "roll": 0,
                        "pitch": 0,
                        "yaw": 0,
                    },
                },
                {"word": "St", "bounding_box": {"topLeftX": 0.5, "topLeftY": 0.2, "width": 0.1, "height": 0.1}},
            ],
        },
        {"image_id": 7, "ocr_tokens": [], "ocr_info": []},
    ],
}
READ = {
    "status": "Succeeded",
    "recognitionResults": [
        {
            "page": 1,
            "width": 200,
            "height": 100,
            "unit": "pixel",
            "lines": [
                {
                    "boundingBox": [20, 10, 120, 10, 120, 30, 20, 30],
                    "text": "Dear Sir",
                    "words": [
                        {"boundingBox": [20, 10, 60, 10, 60, 30, 20, 30], "text": "Dear", "confidence": "Low"},
                        {"boundingBox": [70, 10, 120, 10, 120, 30, 70, 30], "text": "Sir"},
                    ],
                }
            ],
        }
    ],
}
TEXTRACT_WORD = {
    "BlockType": "WORD",
    "Confidence": 90.0,
    "Text": "42%",
    "Geometry": {
        "BoundingBox": {"Width": 0.5, "Height": 0.25, "Left": 0.25, "Top": 0.5},
        "Polygon": [{"X": 0.25, "Y": 0.5}, {"X": 0.75, "Y": 0.5}, {"X": 0.75, "Y": 0.75}, {"X": 0.25, "Y": 0.75}],
    },
}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def test_rosettas_boxes_are_upright(tmp_path: Path) -> None:
    words = open_words(write(tmp_path / "TextVQA_Rosetta_OCR_v0.2_train.json", ROSETTA))
    assert [word.text for word in words["a1"]] == ["Main", "St"] and words["7"] == []
    assert words["a1"][0].box == pytest.approx((0.1, 0.2, 0.4, 0.3))
    assert words["a1"][1].box == pytest.approx((0.5, 0.2, 0.6, 0.3))


def test_microsofts_words_are_in_the_pages_unit() -> None:
    words = words_in(READ, place="x.json")
    assert [(word.text, word.score) for word in words] == [("Dear", 0.5), ("Sir", 1.0)]
    assert words[1].box == pytest.approx((0.35, 0.1, 0.6, 0.3))
    newer = {"analyzeResult": {"readResults": [dict(READ["recognitionResults"][0])]}}  # type: ignore[call-overload]
    assert words_in(newer, place="x.json") == words


def test_amazons_words_come_grouped_or_as_blocks() -> None:
    for content in ({"WORD": [TEXTRACT_WORD], "LINE": []}, {"Blocks": [{"BlockType": "PAGE"}, TEXTRACT_WORD]}):
        (word,) = words_in(content, place="x.json")
        assert word.text == "42%" and word.score == pytest.approx(0.9) and word.box == (0.25, 0.5, 0.75, 0.75)
    boxed = {**TEXTRACT_WORD, "Geometry": {"BoundingBox": {"Width": 0.5, "Height": 0.25, "Left": 0.25, "Top": 0.5}}}
    assert words_in({"WORD": [boxed]}, place="x.json")[0].box == (0.25, 0.5, 0.75, 0.75)


def test_plain_words_are_in_the_unit_square_or_in_pixels() -> None:
    unit = [{"text": "go", "box": [0.25, 0.5, 0.5, 1.0], "score": 0.5}]
    pixels = {"width": 200, "height": 100, "words": [{"text": "go", "box": [50, 50, 100, 100], "score": 0.5}]}
    corners = [{"text": "go", "corners": [[0.25, 0.5], [0.5, 0.5], [0.5, 1], [0.25, 1]], "score": 0.5}]
    for content in (unit, pixels, corners):
        assert words_in(content, place="x.json") == [word_in_box("go", (0.25, 0.5, 0.5, 1), score=0.5)]


def test_a_folder_has_a_file_an_image_and_is_read_as_asked(tmp_path: Path) -> None:
    write(tmp_path / "doc_1.json", READ)
    (tmp_path / "doc_2.json").write_text("{", encoding="utf-8")
    words = open_words(tmp_path)
    assert sorted(words) == ["doc_1", "doc_2"] and words["doc_1"][0].text == "Dear"
    with pytest.raises(ValueError, match="doc_2.json is not valid JSON"):
        words["doc_2"]


def test_several_sources_are_asked_in_turn(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", {"a": [{"text": "first", "box": [0, 0, 1, 1]}]})
    two = write(tmp_path / "two.json", {"a": [{"text": "second", "box": [0, 0, 1, 1]}], "b": []})
    words = open_words([one, two])
    assert words["a"][0].text == "first" and words["b"] == [] and len(words) == 2


def test_words_that_cannot_be_regions_are_told(tmp_path: Path) -> None:
    content = [
        {"text": "", "box": [0, 0, 1, 1]},
        {"text": "off", "box": [2, 2, 3, 3]},
        {"text": "in", "box": [0, 0, 1, 1]},
    ]
    with pytest.warns(UserWarning, match=r"x\.json: 1 words have no text .*; 1 words lie outside of the image"):
        assert [word.text for word in words_in(content, place="x.json")] == ["in"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": []}, "holds the keys boxes, words in no layout that is known"),
        (3, "holds int, words in no layout"),
        ([{"text": "a", "box": [0, 0, 1]}], r"\[0, 0, 1\] should be 4 numbers"),
        ([{"text": "a", "box": [0, 0, 1, "x"]}], "should be 4 numbers"),
        ([{"text": "a", "corners": [[0, 0]]}], "should be 8 numbers"),
        ([{"text": "a", "corners": 3}], "should be 8 numbers"),
        (["a"], "should be a list of objects"),
        ({"width": 0, "height": 5, "words": []}, "the page is 0.0 x 5.0"),
        ({"width": None, "height": 5, "words": []}, "should be 2 numbers"),
        ({"WORD": [{"Text": "a", "Geometry": {}}]}, "this Geometry has neither a polygon nor a box"),
        ({"recognitionResults": [{"lines": []}]}, "should be 2 numbers"),
        ({"recognitionResults": 3}, "should be a list of objects"),
    ],
)
def test_broken_words_are_named(content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"x.json.*{message}"):
        words_in(content, place="x.json")


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read"):
        open_words(tmp_path / "absent.json")
    with pytest.raises(ValueError, match="holds no .json file of words"):
        open_words(tmp_path)
    with pytest.raises(ValueError, match="holds a list; words of several images are"):
        open_words(write(tmp_path / "list.json", []))
    odd = {"data": [{"image_id": "a", "ocr_info": [{"word": "x", "bounding_box": None}]}]}
    with pytest.raises(ValueError, match="a: this word has no bounding_box of numbers"):
        open_words(write(tmp_path / "rosetta.json", odd))
    with pytest.raises(ValueError, match="a record of data has no image_id"):
        open_words(write(tmp_path / "rosetta.json", {"data": [3]}))
