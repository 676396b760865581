"""What a model folder or Hub repository gives when somebody loads it: its classes, and each task's output on one photo.

`push_to_hub` calls `outputs_of` twice: here, on the model that is published, and in an interpreter of its own that
runs this file as a script, where this package cannot be imported. So this file imports nothing of ours.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OWN_PACKAGES = ("modeling_updown", "processors", "training")
# what a task's pipeline takes beside the photo
QUESTIONS: dict[str, dict[str, Any]] = {
    "visual-question-answering": {"question": "what colour is the circle?"},
    "object-detection": {"threshold": 0.01},
}


class OwnPackageBlocker(MetaPathFinder):
    """Makes an interpreter in which this package is installed behave as one in which it is not."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuses our packages, and leaves every other name to the finders after this one."""
        if fullname.split(".")[0] in OWN_PACKAGES:
            raise ImportError(f"the published code imports {fullname}, which others do not have")
        return None


def drawn_photo() -> Any:
    """A photo to try a model on, the same everywhere: a red circle on a blue-green slope, 96 x 64 pixels."""
    from PIL import Image, ImageDraw

    photo = Image.merge("RGB", [Image.new("L", (96, 64)), *[Image.linear_gradient("L").resize((96, 64))] * 2])
    ImageDraw.Draw(photo).ellipse((20, 12, 60, 52), fill=(220, 30, 40))
    return photo


def outputs_of(
    model: str, *, auto_classes: Sequence[str], tasks: Sequence[str], revision: str | None = None, trust: bool = False
) -> dict[str, Any]:
    """Load `model` in every way it offers.

    Args:
        model: a folder or a Hub id.
        auto_classes: names of transformers' Auto classes to load it with.
        tasks: names of pipelines to run on `drawn_photo`.
        revision: a commit of the Hub repository.
        trust: run the code that lies with the model.

    Returns:
        `classes`: {Auto class: name of the class it loads}; `tasks`: {task: what its pipeline returns}.
    """
    import transformers

    options = {"revision": revision or "main", "trust_remote_code": trust}
    names = [*auto_classes, "AutoProcessor", "AutoImageProcessor"]
    loaded = {name: getattr(transformers, name).from_pretrained(model, **options) for name in names}
    answers = {}
    for task in tasks:
        transformers.set_seed(0)
        answers[task] = transformers.pipeline(task, model=model, **options)(drawn_photo(), **QUESTIONS.get(task, {}))
    return {"classes": {name: type(thing).__name__ for name, thing in loaded.items()}, "tasks": answers}


def main() -> None:
    """Print the outputs of a model, loaded without this package, as the last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--auto-classes", nargs="*", default=[])
    parser.add_argument("--tasks", nargs="*", default=[])
    parser.add_argument("--revision")
    arguments = parser.parse_args()
    sys.meta_path.insert(0, OwnPackageBlocker())
    found = outputs_of(
        arguments.model,
        auto_classes=arguments.auto_classes,
        tasks=arguments.tasks,
        revision=arguments.revision,
        trust=True,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
