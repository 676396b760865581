"""Tables as people write them: commas nobody quoted, quotation marks without a reason, lines too short and too long."""

from pathlib import Path

import pytest

from training.data.captions.formats import load_captions
from training.data.csv_rows import csv_rows
from training.data.questions.formats import load_vqa


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file_name,caption\n0.jpg,a dog, running,fast\n", ("0.jpg", "a dog, running,fast")),
        ("file_name,caption\r\n0.jpg, a dog,\r\n", ("0.jpg", "a dog")),
        ("file_name\tcaption\n0.jpg\ta dog\trunning\n", ("0.jpg", "a dog\trunning")),
        ("caption,file_name\na dog, running,0.jpg\n", ("0.jpg", "a dog, running")),
        ('file_name,caption\n0.jpg,"a dog, ""running"", fast"\n', ("0.jpg", 'a dog, "running", fast')),
        ('file_name,caption\n0.jpg,"a dog" runs\n', ("0.jpg", '"a dog" runs')),
        ('file_name\tcaption\n0.jpg\t"a dog\n', ("0.jpg", '"a dog')),
        ("\n\nfile_name,caption\n\n0.jpg,a dog\n\n", ("0.jpg", "a dog")),
        ("file_name,caption,\n0.jpg,a dog, running,\n", ("0.jpg", "a dog, running")),
        ("file_name,caption,\n0.jpg,a dog, running\n", ("0.jpg", "a dog, running")),
        ("file_name;caption\n0.jpg;a dog, running\n", ("0.jpg", "a dog, running")),
    ],
)
def test_the_whole_caption(text: str, expected: tuple[str, str]) -> None:
    (row,) = csv_rows(text, "captions.csv")
    assert (row["file_name"], row["caption"]) == expected


def test_a_short_line_has_holes() -> None:
    assert csv_rows("a,b,c\n1,2\n", "a.csv") == [{"a": "1", "b": "2", "c": None}]
    assert csv_rows("a,b\n1,2,,\n", "a.csv") == [{"a": "1", "b": "2"}]
    assert csv_rows("a,b,c,,\n1,2,3,,\n4,5,6,\n7,8\n", "a.csv") == [
        {"a": "1", "b": "2", "c": "3"},
        {"a": "4", "b": "5", "c": "6"},
        {"a": "7", "b": "8", "c": None},
    ]
    assert csv_rows("", "a.csv") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file_name,caption,split\n0.jpg,a dog,val\n1.jpg,a dog, running,val\n",
            "a.csv, line 3 has 4 fields, but the header 3: '1.jpg,a dog, running,val'; put quotation marks",
        ),
        (
            "image,caption,source\n0.jpg,a dog, running,\n",
            "a.csv, line 2 has 4 fields, but the header 3: .*; put quotation marks .*, or where every line ends in ','",
        ),
        ("image,question,answer,\n0.jpg,is it red, or blue?,red\n", "line 2 has 4 fields, but the header 3"),
        ("image,question,answer,\n0.jpg,red?,red,\n1.jpg,is it red, or blue?,red,\n", "line 3 has 5 fields, but the h"),
        ("image,question,answer\n0.jpg,red?,red,,\n", "line 2 has 5 fields, but the header 3"),
        ("file_name,score\n0.jpg,1,5\n", "line 2 has 3 fields, but the header 2"),
        ('file_name,caption\n"0.jpg",a dog, running\n', "line 2 has 3 fields"),
        ('file_name,caption\n0.jpg,"a dog\n1.jpg,"a cat"\n', "a.csv, line 2: .*; is a quotation mark left open"),
        ('file_name,caption\n0.jpg,"a dog\n1.jpg,a cat, black\n', "line 2: unexpected end of data; is a quot"),
    ],
)
def test_what_would_be_cut_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        csv_rows(text, "a.csv")


def test_captions_and_questions_keep_their_commas(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").touch()
    (tmp_path / "captions.csv").write_text("file_name,caption\n0.jpg,a dog, running, fast\n")
    assert load_captions("folder", folder=tmp_path)["captions"] == [["a dog, running, fast"]]
    (tmp_path / "captions.csv").write_text("photo,sentence\n0.jpg,a dog, running, fast\n")
    options = {"image_column": "photo", "caption_column": "sentence"}
    assert load_captions("folder", folder=tmp_path, **options)["captions"] == [["a dog, running, fast"]]
    (tmp_path / "asked.tsv").write_text('image\tquestion\n"0.jpg"\twhat is it\treally?\n')
    with pytest.raises(ValueError, match="asked.tsv, line 2 has 3 fields"):
        load_vqa("table", table=tmp_path / "asked.tsv")
    (tmp_path / "asked.csv").write_text("image,question\n0.jpg,what is it, really?\n")
    assert load_vqa("table", table=tmp_path / "asked.csv")["question"] == ["what is it, really?"]
    (tmp_path / "asked.csv").write_text("image,question,answer\n0.jpg,what is it, really?,a dog\n")
    with pytest.raises(ValueError, match="asked.csv, line 2 has 4 fields, but the header 3"):
        load_vqa("table", table=tmp_path / "asked.csv")
