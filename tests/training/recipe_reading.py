"""What shipped recipes read of questions with OCR words, tiny, at the paths that they name."""

from pathlib import Path

from tests.training.recipe_files import write_json
from tests.training.written_forms import written_questions

NUMBERS = {"train": 40, "val": 6, "test": 6}


def write_reading(data: Path) -> None:
    """The files of every split."""
    for number, (split, count) in enumerate(NUMBERS.items()):
        write_json(data / "reading" / f"{split}.json", written_questions(count, seed=number))
