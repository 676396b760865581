"""Where the tests find real images and golden figures, which stand beside the checkout and are not part of it.

`UPDOWN_TEST_SHARED` names another folder of the same form: sizes and counts come from its golden files, not from tests.
"""

import os
from pathlib import Path

import pytest

SHARED_FOLDER = Path(os.environ.get("UPDOWN_TEST_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")


def shared(relative: str) -> Path:
    """The path of a file or folder of real data; skips the calling test, with the reason, where it is absent."""
    path = SHARED_FOLDER / relative
    if not path.exists():
        pytest.skip(f"needs shared/{relative} beside the checkout (real images or golden figures)")
    return path
