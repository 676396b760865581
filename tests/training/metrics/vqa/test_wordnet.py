"""WordNet's files on a tiny taxonomy in the real format: senses, base forms, similarities by hand, broken files."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.training.metrics.vqa.tiny_wordnet import write_wordnet
from training.metrics.vqa import wordnet
from training.metrics.vqa.wordnet import Synset, WordNet, usual_places


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[WordNet, dict[str, int]]:
    folder = tmp_path_factory.mktemp("wordnet")
    offsets = write_wordnet(folder)
    return WordNet(folder), offsets


def similarity(net: WordNet, first: str, second: str) -> float:
    """Of the first senses of two words."""
    return net.wup_similarity(net.synsets(first)[0], net.synsets(second)[0])


def test_senses_come_in_the_order_of_the_index_nouns_first(tiny: tuple[WordNet, dict[str, int]]) -> None:
    net, offsets = tiny
    senses = net.synsets("bat")
    assert senses[:2] == [Synset("n", offsets["bat"]), Synset("n", offsets["club"])]
    assert [sense.part_of_speech for sense in senses] == ["n", "n", "v"]
    assert net.synsets("bat", parts_of_speech="v") == senses[2:]
    assert net.synsets("unheard_of") == net.synsets("") == []


@pytest.mark.parametrize(
    ("inflected", "base"),
    [("dogs", "dog"), ("Mice", "mouse"), ("DOG", "dog"), ("garbage_bins", "garbage_bin"), ("beasts", "animal")],
)
def test_inflected_nouns_are_led_back(tiny: tuple[WordNet, dict[str, int]], inflected: str, base: str) -> None:
    net, _ = tiny
    assert net.synsets(inflected) == net.synsets(base) != []


def test_inflected_verbs_are_led_back(tiny: tuple[WordNet, dict[str, int]]) -> None:
    net, _ = tiny
    assert net.synsets("saw") == net.synsets("seeing") == net.synsets("sees") == net.synsets("see")
    assert net.synsets("ran", parts_of_speech="n") == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("dog", "cat", 2 * 3 / (4 + 4)),  # under animal, the third from the top
        ("dog", "hound", 1.0),
        ("dog", "animal", 2 * 3 / (4 + 3)),
        ("dog", "club", 2 * 2 / (4 + 4)),  # under thing
        ("mouse", "dog", 2 * 3 / (4 + 4)),  # the way over animal
        ("mouse", "club", 2 * 3 / (4 + 4)),  # and over tool
        ("rex", "dog", 2 * 4 / (5 + 4)),  # an instance is below what it is an instance of
        ("run", "see", 2 * 1 / (2 + 2)),  # verbs have no top of their own, so a root above all is one
        ("dog", "run", 2 * 1 / (5 + 2)),  # and that is all that different parts of speech share
    ],
)
def test_similarities_by_hand(tiny: tuple[WordNet, dict[str, int]], first: str, second: str, expected: float) -> None:
    net, _ = tiny
    assert similarity(net, first, second) == pytest.approx(expected)
    assert similarity(net, second, first) == pytest.approx(expected)


def test_verbs_right_below_the_root_depend_on_the_order_as_in_nltk(tiny: tuple[WordNet, dict[str, int]]) -> None:
    net, _ = tiny
    assert similarity(net, "run", "dash") == pytest.approx(2 * 1 / (1 + 2))  # run is above dash
    assert similarity(net, "dash", "run") == pytest.approx(2 * 1 / (3 + 2))  # the root comes first in the alphabet


def test_a_zip_file_reads_like_its_folder(tiny: tuple[WordNet, dict[str, int]], tmp_path: Path) -> None:
    net, _ = tiny
    packed = tmp_path / "wordnet.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in net.place.iterdir():
            archive.write(path, f"wordnet/{path.name}")
    assert similarity(WordNet(packed), "dog", "cat") == pytest.approx(0.75)


def test_it_is_found_where_it_is_said_to_be(
    tiny: tuple[WordNet, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny[0].place
    monkeypatch.setattr(wordnet, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("NLTK_DATA", os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "data")]))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    assert WordNet.find(folder).place == folder
    assert tmp_path / "data" / "corpora" / "wordnet.zip" in usual_places()
    shutil.copytree(folder, tmp_path / "data" / "corpora" / "wordnet")
    assert WordNet.find().place == tmp_path / "data" / "corpora" / "wordnet"
    monkeypatch.setenv("WNSEARCHDIR", str(folder))
    assert WordNet.find().place == folder
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "none"))
    with pytest.raises(OSError, match="none does not hold WordNet's dictionary files; install WordNet's files"):
        WordNet.find()


def test_without_wordnet_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordnet, "usual_places", lambda: [tmp_path])
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    with pytest.raises(
        OSError, match="WordNet is not on this machine; install .*apt install wordnet-base.*WNSEARCHDIR"
    ):
        WordNet.find()


def test_broken_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wordnet(tmp_path)
    data = (tmp_path / "data.noun").read_text()
    (tmp_path / "data.noun").write_text(data.replace("\n", "\r\n"))
    with pytest.raises(ValueError, match=r"the sense at \d+ of data.noun is missing; index and data are of different"):
        similarity(WordNet(tmp_path), "dog", "cat")
    (tmp_path / "data.noun").write_text(data.replace(" 001 @", " 009 @"))
    with pytest.raises(ValueError, match="of data.noun is broken"):
        similarity(WordNet(tmp_path), "dog", "cat")
    (tmp_path / "index.noun").write_text("dog n\n")
    with pytest.raises(ValueError, match="'dog' of index.noun is broken"):
        WordNet(tmp_path).synsets("dog")
    (tmp_path / "noun.exc").unlink()
    with pytest.raises(OSError, match="lacks noun.exc"):
        WordNet(tmp_path).synsets("dog")
    monkeypatch.setattr(wordnet, "LARGEST_FILE_BYTES", 3)
    with pytest.raises(ValueError, match="index.verb has over 3 bytes and is not a file of WordNet"):
        WordNet(tmp_path)._read("index.verb")
    packed = tmp_path / "wordnet.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("wordnet/index.noun", "dog n\n")
    with pytest.raises(ValueError, match="index.noun has over 3 bytes"):
        WordNet(packed)._read("index.noun")
    with pytest.raises(OSError, match=r"wordnet.zip lacks data.noun"):
        WordNet(packed)._read("data.noun")


def test_a_circle_of_senses_comes_to_an_end(tmp_path: Path) -> None:
    write_wordnet(tmp_path, {"a": ("hen", "b"), "b": ("egg", "a"), "c": ("alone", "c")})
    net = WordNet(tmp_path)
    assert 0 < similarity(net, "hen", "egg") < 1
    assert similarity(net, "hen", "hen") == similarity(net, "alone", "alone") == 1
    assert similarity(net, "hen", "alone") == 0  # nothing connects them
