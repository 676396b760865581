"""METEOR's words, senses and files: its normaliser by hand, and what is said of data that are absent or broken."""

import zipfile
from pathlib import Path

import pytest

from tests.training.metrics.captioning.tiny_meteor import write_meteor
from training.metrics.captioning import meteor_resources
from training.metrics.captioning.meteor_resources import MeteorResources, java_hash, meteor_words

PREFIXES = {"rev": False, "pp": True}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a dog", "a dog"),
        ("U.S. troops", "us troops"),
        ("the u.s.-based firm", "the us based firm"),
        ("u.s.-", "u.s.-"),
        ("rev. 5 pp. 5 pp. x no. 5 end.", "rev. 5 pp. 5 pp. x no . 5 end ."),
        ("wait ... what..no....", "wait ... what .. no ...."),
        ("1,000 dogs,cats 5,a", "1,000 dogs , cats 5 , a"),
        ("o'brien's 1990's '80s ''x'' ‘y’ “z”", "o 'brien 's 1990 's ' 80s \" x \" ' y ' \" z \""),
        ("white-black - x--y a–b", "white black - x y a - b"),
        ("a\u00a0b\u3000c é© ß", "a b c é © ß"),
        ("\x1c a \x0b", "a"),
        ("", ""),
    ],
)
def test_the_normaliser(caption: str, words: str) -> None:
    assert meteor_words(caption, PREFIXES) == tuple(words.split(" ") if words else ())


def test_words_are_compared_by_javas_hash() -> None:
    assert java_hash("dog") == 99644
    assert java_hash("\U0001f600") == 31 * 0xD83D + 0xDE00
    assert java_hash("polygenelubricants") == 2**31  # known for Java's smallest number


def test_senses_are_those_of_the_word_and_of_one_base_form(tmp_path: Path) -> None:
    senses = MeteorResources.find(write_meteor(tmp_path)).senses
    assert senses("auto") == {"11", "12"} and senses("unknown") == senses("") == frozenset()
    assert senses("cars") == senses("car") == {"11"}
    assert senses("mice") == {"30"} and senses("running") == frozenset()  # "runn" and "runne" are no words
    assert senses("carss") == frozenset()


def test_data_that_are_absent_or_broken_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="lacks meteor-1.5.jar or data/paraphrase-en.gz: pip install pycoco"):
        MeteorResources.find(tmp_path)
    monkeypatch.setattr(meteor_resources, "find_spec", lambda name: None)
    monkeypatch.delenv("METEOR_FOLDER", raising=False)
    with pytest.raises(FileNotFoundError, match="METEOR's data were not found: pip install pycocoevalcap"):
        MeteorResources.find()
    monkeypatch.setenv("METEOR_FOLDER", str(write_meteor(tmp_path)))
    assert MeteorResources.find().function_words == {"a", "the", "in", "of"}
    meteor_resources._read.cache_clear()
    (tmp_path / "meteor-1.5.jar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is not METEOR 1.5"):
        MeteorResources.find()
    with zipfile.ZipFile(tmp_path / "meteor-1.5.jar", "w") as archive:
        archive.writestr("function/english.words", "a\n")
    with pytest.raises(ValueError, match="is not METEOR 1.5"):
        MeteorResources.find()
