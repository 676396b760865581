"""Paths of the files that are shipped with the code: recipes, the demo's images, the card template and the captioner.

In a checkout they are in their folders; a wheel installs those outside of packages under `share/updown/`.
"""

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "modeling-updown"
CODE = Path(__file__).resolve().parents[1]
RECIPES = CODE / "training" / "recipes"
DEMO_FOLDER = CODE / "training" / "demo_photos"
SHARE = Path("share", "updown")


def published(name: str) -> Path:
    """The path of a file or folder of `hub_cards/`, in a checkout or where the installer put it.

    If it is in neither, the path in a checkout, which then does not exist.
    """
    in_checkout = CODE / "hub_cards" / name
    # `pip install --target` puts `share` next to the packages and lists it nowhere
    places = [in_checkout, CODE / SHARE / name, *(folder / name for folder in installed_shares())]
    return next((place for place in places if place.exists()), in_checkout)


def installed_shares() -> list[Path]:
    """The folder `share/updown` in the installer's list of files; empty in a checkout."""
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # the code is only on PYTHONPATH
        return []
    above = (parent for file in files for parent in Path(str(file.locate())).resolve().parents)
    return [parent for parent in above if parent.parts[-2:] == SHARE.parts][:1]
