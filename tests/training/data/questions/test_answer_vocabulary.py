"""Answer vocabularies: counted by hand and by a slow twin, written and read."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from processors.answer_text_updown import normalize_answer
from tests.shared_files import shared
from training.data.questions.answer_vocabulary import AnswerVocabulary, build_answers, read_answers, write_answers
from training.data.questions.answers import learned_answers
from training.data.questions.rows import VQA_FEATURES

FEATURES = datasets.Features({name: VQA_FEATURES[name] for name in ("answer", "answers", "answer_type")})


def questions(
    answer: Sequence[str], answers: Sequence[Sequence[str]] | None = None, types: Sequence[str] | None = None
) -> datasets.Dataset:
    """Rows with these columns of `VQA_FEATURES`."""
    columns = {
        "answer": list(answer),
        "answers": [list(texts) for texts in answers or [[]] * len(answer)],
        "answer_type": list(types or [""] * len(answer)),
    }
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def random_answers(seed: int, *, num_questions: int = 200) -> list[list[str]]:
    """Lists of 0 to 12 answers, many of them spellings of the same."""
    draw = np.random.default_rng(seed)
    spellings = ["dog", "Dog.", "a dog", "two", "2", "on the table", "on table", "", " ", "the", "café", "yes", "no"]
    return [draw.choice(spellings, size=draw.integers(0, 13)).tolist() for _ in range(num_questions)]


# -- building ----------------------------------------------------------------------------------------------------------


def test_answers_are_counted_normalised() -> None:
    rows = questions(["two", "2", "The dog.", "dog", "Two", "cat", "zebra", "ant"])
    vocabulary = build_answers(rows, min_count=2)
    assert vocabulary.answers == ["2", "dog"] and vocabulary.counts == [3, 2]
    assert build_answers(rows, min_count=3).answers == ["2"]
    assert build_answers(rows, top=4).answers == ["2", "dog", "ant", "cat"]  # ties: the alphabet, not the rows
    assert build_answers(rows, top=99).counts == [3, 2, 1, 1, 1]
    assert build_answers(rows, top=4, order="first_seen").answers == ["2", "dog", "cat", "ant"]
    assert build_answers(rows.select([7, 6, 5, 4, 3, 2, 1, 0]), top=4) == build_answers(rows, top=4)


def test_answers_may_keep_their_commonest_spelling() -> None:
    rows = questions(["t-shirt", " T shirt", "t-shirt", "in the mirror", "in a mirror", "t-shirt "])
    vocabulary = build_answers(rows, top=5, spelling="as_written")
    assert vocabulary.answers == ["t-shirt", "in a mirror"] and vocabulary.counts == [4, 2]
    assert build_answers(rows, top=5).answers == ["t shirt", "in mirror"]
    assert vocabulary.ids_of(["T shirt", "in mirror", "shirt"]).tolist() == [0, 1, -1]


def test_the_commonest_human_answer_stands_in_for_a_missing_one() -> None:
    rows = questions(
        ["", "cat", " ", "", ""],
        [["dog", "cat", "Cat.", "dog"], ["dog"] * 3, ["two", "2", "red", "red", "2"], [], ["", " "]],
    )
    codes, texts = learned_answers(rows)
    assert [texts[code] if code >= 0 else None for code in codes] == ["dog", "cat", "two", None, None]
    vocabulary = build_answers(rows, top=9)
    assert vocabulary.answers == ["2", "cat", "dog"] and vocabulary.counts == [1, 1, 1]
    codes, texts = learned_answers(rows.select([3, 2]))
    assert codes[0] == -1 and texts[codes[1]] == "two"


def test_answers_that_normalise_to_nothing_are_one_answer() -> None:
    """As in VQA v2's 3,129: "a" is what stands on a sign."""
    vocabulary = build_answers(questions(["a", "The", "?", "dog"]), top=3)
    assert vocabulary.answers == ["", "dog"] and vocabulary.counts == [3, 1]
    assert vocabulary.id_of("an") == 0


def test_learned_answers_equal_a_slow_twin() -> None:
    answers = random_answers(9)
    given = [texts[0] if i % 3 == 0 and texts else "" for i, texts in enumerate(answers)]
    codes, texts = learned_answers(questions(given, answers))
    for code, single, humans in zip(codes, given, answers, strict=True):
        named = [normalize_answer(text) for text in humans if text.strip()]
        expected = normalize_answer(single) if single.strip() else max(named, key=named.count, default=None)
        assert (normalize_answer(texts[code]) if code >= 0 else None) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of min_count"),
        ({"min_count": 9, "top": 3129}, "give one of min_count"),
        ({"min_count": 0}, "min_count is 0, but must be 1 or more"),
        ({"top": -1}, "top is -1, but must be 1 or more"),
        ({"min_count": 9}, "no answer is seen 9 times; the commonest, 'dog', is seen 2 times: lower the minimum"),
    ],
)
def test_limits_that_leave_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_answers(questions(["cat", "dog", "dog"]), **options)


def test_hidden_answers_make_no_vocabulary() -> None:
    for rows in (questions(["", ""]), questions([])):
        with pytest.raises(ValueError, match=f"none of the {len(rows)} questions has an answer; test files hide them"):
            build_answers(rows, top=5)


# -- the list and its files --------------------------------------------------------------------------------------------


def test_a_list_is_written_and_read(tmp_path: Path) -> None:
    vocabulary = build_answers(questions(["yes", "yes", "café", "a", "日本"]), top=9)
    write_answers(tmp_path / "answers.json", vocabulary)
    assert json.loads((tmp_path / "answers.json").read_text(encoding="utf-8")) == ["yes", "", "café", "日本"]
    again = read_answers(tmp_path / "answers.json")
    assert list(again.answers) == list(vocabulary.answers) and again.counts == () and len(again) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["answers.json"]


def test_other_layouts_are_read(tmp_path: Path) -> None:
    (tmp_path / "ans2label.json").write_text('{"no": 1, "yes": 0, "2": 2}')
    assert read_answers(tmp_path / "ans2label.json").answers == ["yes", "no", "2"]
    (tmp_path / "answers.txt").write_bytes("\ufeffyes\r\n\r\nred and white\r\n".encode())
    assert read_answers(str(tmp_path / "answers.txt")).answers == ["yes", "red and white"]


@pytest.mark.parametrize(("folder", "size", "some"), [("vqav2", 3129, {"", "net"}), ("gqa", 1842, {"t-shirt"})])
def test_lxmerts_lists(folder: str, size: int, some: set[str]) -> None:
    place = shared(f"data/official_formats/{folder}")
    answers = read_answers(place / "lxmert_trainval_label2ans.json")
    assert len(answers) == size and some <= set(answers.answers)
    assert read_answers(place / "lxmert_trainval_ans2label.json") == answers
    assert answers.ids_of(answers.answers).tolist() == list(range(size))
    assert answers.ids_of(answers.answers, counted="raw").tolist() == list(range(size))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "there is no answer in the list"),
        ('["yes", 2]', "answer 1 is '2', which is no text"),
        ('["yes", null]', "answer 1 is 'None', which is no text"),
        ('"yes"', "a vocabulary is a list of answers, not 'yes'"),
        (
            '["yes", "no", "yes"]',
            "of 3 answers, 1 stand .* 'yes' (id 0) = 'yes' (id 2); keep one of each",
        ),
        (
            '["2", "dog", "two", "a dog"]',
            "normalised: '2' (id 0) = 'two' (id 2); 'dog' (id 1) = 'a dog'",
        ),
        ('["yes"', "is not valid JSON (line 1"),
        ("{}", "there is no answer in the list"),
        ('{"yes": 0, "no": "1"}', "the id of 'no' is '1', which is no whole number"),
        ('{"yes": true}', "the id of 'yes' is 'True', which is no whole number"),
        ('{"yes": 0, "no": 2}', "the ids of the 2 answers are not 0 to 1, each once"),
        ('{"yes": 0, "no": 0}', "are not 0 to 1, each once"),
        ('{"yes": 99999999999999}', "the ids of the 1 answers are not 0 to 0"),
    ],
)
def test_broken_lists_are_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{pattern}"):
        read_answers(path)


def test_only_five_doubles_are_told() -> None:
    with pytest.raises(ValueError, match="of 60 answers, 20 stand there more than once") as caught:
        AnswerVocabulary([f"word{number % 20}" for number in range(60)])
    assert "'word4' (id 4) = 'word4' (id 24) = 'word4' (id 44), ...; keep" in str(caught.value)
    assert "word5" not in str(caught.value)
    with pytest.raises(ValueError, match="2 answers have 1 counts"):
        AnswerVocabulary(["yes", "no"], counts=[3])


def test_files_that_are_no_lists_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="cannot read .*gone.json"):
        read_answers(tmp_path / "gone.json")
    (tmp_path / "label2ans.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="label2ans.pkl is a pickle, .* write its list as JSON"):
        read_answers(tmp_path / "label2ans.pkl")
    (tmp_path / "answers.json").write_bytes(b'["caf\xe9"]')
    with pytest.raises(ValueError, match="answers.json is not UTF-8"):
        read_answers(tmp_path / "answers.json")
    monkeypatch.setattr("training.data.questions.answer_vocabulary.LARGEST_FILE_BYTES", 5)
    with pytest.raises(ValueError, match="answers.json has 8 bytes, too many"):
        read_answers(tmp_path / "answers.json")
