"""What comes along with the code: recipes, the demo's images, and the card's template and captioner of `hub_cards/`.

In a checkout they lie where they are kept; a wheel puts what is in no package under `share/updown/`.
"""

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "modeling-updown"
CODE = Path(__file__).resolve().parents[1]
RECIPES = CODE / "training" / "recipes"
DEMO_FOLDER = CODE / "training" / "demo_photos"
SHARE = Path("share", "updown")


def published(name: str) -> Path:
    """A file or folder of `hub_cards/`: beside the code in a checkout, or where the installer put it.

    Where it is in neither, the checkout's place, which then does not exist.
    """
    beside = CODE / "hub_cards" / name
    # what `pip install --target` puts beside the packages is on no list
    places = [beside, CODE / SHARE / name, *(folder / name for folder in installed_shares())]
    return next((place for place in places if place.exists()), beside)


def installed_shares() -> list[Path]:
    """The folder `share/updown` that the installer's list of files names; none in a checkout."""
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # the code is merely on PYTHONPATH
        return []
    above = (parent for file in files for parent in Path(str(file.locate())).resolve().parents)
    return [parent for parent in above if parent.parts[-2:] == SHARE.parts][:1]
