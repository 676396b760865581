"""Three small images in a folder."""

from pathlib import Path

import pytest

from tests.tiny import tiny_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        tiny_image(number, width=16, height=12).save(folder / f"{number}.png")
    return folder
