"""Marks of images: the same for the same content, wherever it lies; another one for every other content."""

from pathlib import Path

import pytest

from training.regions.image_marks import BLOCK, UNKNOWN, changed_images, check_same_images, image_mark


@pytest.mark.parametrize("length", [1, 100, BLOCK, 3 * BLOCK, 3 * BLOCK + 1, 50 * BLOCK])
def test_a_mark_follows_from_the_content_alone(tmp_path: Path, length: int) -> None:
    content = bytes(number * number % 251 for number in range(length))
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(content)
    marks = {image_mark({"path": str(tmp_path / name), "bytes": None}) for name in ("a.jpg", "b.jpg")}
    assert marks == {image_mark({"path": None, "bytes": content})} and 0 < marks.pop() < 2**63


@pytest.mark.parametrize("place", [0, BLOCK - 1, 25 * BLOCK, 50 * BLOCK - 1])
def test_other_content_has_another_mark(place: int) -> None:
    content = bytearray(50 * BLOCK)
    before = image_mark({"bytes": bytes(content)})
    content[place] = 1
    assert image_mark({"bytes": bytes(content)}) != before
    assert image_mark({"bytes": bytes(50 * BLOCK + 1)}) != before


def test_what_cannot_be_read_has_no_mark(tmp_path: Path) -> None:
    for image in (None, {"path": None, "bytes": None}, {"path": "https://example.org/a.jpg"}, {"path": str(tmp_path)}):
        assert image_mark(image) == UNKNOWN
    assert image_mark({"path": str(tmp_path / "absent.jpg"), "bytes": b""}) == UNKNOWN


def test_only_two_known_marks_can_differ() -> None:
    assert changed_images(["a", "b", "c", "d"], [1, 1, 0, 1], known={"a": 1, "b": 2, "c": 3, "d": 0}) == ["b"]
    with pytest.raises(ValueError, match=r"2 of 9 images are not those that S holds under the same ids \(b, c\): move"):
        check_same_images(["b", "c"], of=9, place="S", cure="move")
    check_same_images([], of=9, place="S", cure="move")
