"""The journal of a long run: every batch kept, broken lines dropped, other settings refused; a killed run goes on."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from training.teachers import pseudo_boxes
from training.teachers.box_journal import BoxJournal
from training.teachers.detections import Detections
from training.teachers.made_boxes import detect, folder_rows

SETTINGS = {"teacher": "one.onnx", "threshold": 0.5}
BATCHES = [{"images": [{"id": "hünd"}], "area": 0.1 + 0.2}, {"images": []}, {"images": [{"id": 3}], "broken": ["x\ny"]}]


class Killed(BaseException):
    """As a user's Ctrl-C or the end of the machine."""


class ColourTeacher:
    """A dog whose width is the number in an image's red channel; is killed at a call if told so."""

    def __init__(self, *, calls_to_live: int = 10**6) -> None:
        self.seen: list[int] = []
        self.left = iter(range(calls_to_live))

    def __call__(self, images: Sequence[Image.Image]) -> list[Detections]:
        if next(self.left, None) is None:
            raise Killed
        numbers = [image.getpixel((0, 0))[0] for image in images]  # type: ignore[index]
        self.seen += numbers
        return [
            Detections(torch.tensor([[0.0, 0, number, 9]]), torch.tensor([0.9 - number / 1000]), ["dog"])
            for number in numbers
        ]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eleven images of different red, and one that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(1, 12):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(folder / f"dog{number:02}.png")
    (folder / "dog05b.png").write_bytes(b"cut")
    return folder


def filled(path: Path) -> bytes:
    journal = BoxJournal(path, SETTINGS)
    for number in (0, 2, 1):
        journal.add(number, BATCHES[number])
    journal.close()
    return path.read_bytes()


def test_batches_are_there_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "boxes.json.unfinished"
    filled(path)
    journal = BoxJournal(path, SETTINGS)
    assert journal.made == dict(enumerate(BATCHES))
    journal.remove()
    assert not path.exists() and BoxJournal(path, SETTINGS).made == {}


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = filled(path)
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    assert len(ends) == 4
    for cut in {*range(0, len(content), 17), *(end + step for end in ends[:-1] for step in (-1, 0, 1))}:
        path.write_bytes(content[:cut])
        journal = BoxJournal(path, SETTINGS)
        whole = max(0, sum(end <= cut for end in ends) - 1)
        assert [*journal.made] == [0, 2, 1][:whole]
        journal.add(7, "later")
        journal.close()
        assert BoxJournal(path, SETTINGS).made == {**{n: BATCHES[n] for n in [0, 2, 1][:whole]}, 7: "later"}


def test_a_damaged_line_and_those_after_it_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = filled(path)
    third = content.splitlines(keepends=True)[2]
    for damaged in (third.replace(b"x", b"y"), third.upper(), b"\n", b"12345678 {}\n"):
        path.write_bytes(content.replace(third, damaged))
        assert [*BoxJournal(path, SETTINGS).made] == [0]


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = filled(path)
    with pytest.raises(ValueError, match=r"threshold 0.5, now 0.6, size None, now 3\): give the same"):
        BoxJournal(path, {**SETTINGS, "threshold": 0.6, "size": 3})
    with pytest.raises(ValueError, match="teacher 'one.onnx', now None"):
        BoxJournal(path, {"threshold": 0.5})
    assert path.read_bytes() == content


@pytest.mark.parametrize("workers", [1, 3])
def test_a_killed_run_goes_on(images: Path, tmp_path: Path, workers: int) -> None:
    """Killed at every batch: what was made is not made again, and the end is that of an undisturbed run."""
    rows = folder_rows(images)
    whole = ColourTeacher()
    expected = detect(rows, whole, folder=images, batch_size=3)
    assert len(expected["images"]) == 11 and whole.seen == list(range(1, 12))
    assert detect(rows, ColourTeacher(), folder=images, batch_size=3, workers=4) == expected
    for calls in range(4):
        path = tmp_path / f"journal{calls}"
        journal = BoxJournal(path, SETTINGS)
        with pytest.raises(Killed):
            detect(
                rows, ColourTeacher(calls_to_live=calls), folder=images, batch_size=3, workers=workers, journal=journal
            )
        journal.close()
        journal, teacher = BoxJournal(path, SETTINGS), ColourTeacher()
        kept = {record["file_name"] for batch in journal.made.values() for record in batch["images"]}
        assert len(journal.made) == calls
        assert detect(rows, teacher, folder=images, batch_size=3, workers=workers, journal=journal) == expected
        assert len(teacher.seen) == 11 - len(kept)


def test_the_command_goes_on_and_clears_up(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, unfinished = tmp_path / "boxes.json", tmp_path / "boxes.json.unfinished"
    weights = tmp_path / "teacher.onnx"
    weights.write_bytes(b"first")
    common = ["detect", str(images), "--teacher", str(weights), "--output", str(output), "--batch-size", "2"]
    teachers = iter([ColourTeacher(calls_to_live=3), ColourTeacher(), ColourTeacher(), ColourTeacher()])
    monkeypatch.setattr(pseudo_boxes, "load_teacher", lambda *_, **__: next(teachers))
    with pytest.raises(Killed):
        pseudo_boxes.main(common)
    assert unfinished.exists() and not output.exists()
    assert pseudo_boxes.main([*common, "--threshold", "0.7"]) == 2
    assert "threshold 0.6, now 0.7" in capsys.readouterr().err
    weights.write_bytes(b"other")
    assert pseudo_boxes.main(common) == 2
    assert "weights " in capsys.readouterr().err
    weights.write_bytes(b"first")
    assert pseudo_boxes.main([*common, "--workers", "2"]) == 0
    said = capsys.readouterr().err
    assert "going on from 3 batches" in said and "dog05b.png" in said
    assert not unfinished.exists()
    content = json.loads(output.read_text())
    assert [note["bbox"][2] for note in content["annotations"]] == list(range(1, 12))


def test_an_image_added_since_is_noticed(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = iter([ColourTeacher(calls_to_live=1), ColourTeacher()])
    monkeypatch.setattr(pseudo_boxes, "load_teacher", lambda *_, **__: next(teachers))
    common = ["detect", str(images), "--teacher", "hub/name", "--output", str(tmp_path / "boxes.json")]
    with pytest.raises(Killed):
        pseudo_boxes.main([*common, "--batch-size", "2"])
    Image.new("RGB", (20, 10)).save(images / "a.png")
    assert pseudo_boxes.main([*common, "--batch-size", "2"]) == 2
