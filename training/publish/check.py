"""Loads a model folder or Hub repository and returns its classes, their outputs on one image and two texts, and each
task's output.

`push` compares two calls of `outputs_of`: one here, on the model that is published, and one in a separate interpreter
that runs this file as a script and cannot import this package. So this file imports nothing of ours.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OWN_PACKAGES = ("modeling_updown", "processors", "training")
# the arguments of a task's pipeline besides the image
QUESTIONS: dict[str, dict[str, Any]] = {
    "visual-question-answering": {"question": "what colour is the circle?"},
    "object-detection": {"threshold": 0.01},
    "zero-shot-object-detection": {"candidate_labels": ["a red circle", "a dog"], "threshold": 0.01},
    "phrase-grounding": {"text": "a red circle and a dog", "phrases": ["a red circle", "a dog"]},
    "moment-retrieval": {"sentences": ["a red circle is seen", "a dog runs"]},
    "text-reading": {
        "question": "what does the sign say?",
        "words": [{"text": "stop", "box": [0.1, 0.1, 0.4, 0.3]}, {"text": "here", "box": [0.5, 0.1, 0.9, 0.3]}],
    },
    "visual-entailment": {"text": ["a red circle is there", "nothing is there"]},
    "visual-reasoning": {"text": "a red circle is in both"},
    "visual-multiple-choice": {"text": "what is there?", "choices": ["a red circle", "two dogs"]},
    "zero-shot-image-classification": {"candidate_labels": ["a red circle", "two dogs on a beach"]},
}
TEXTS = ["a red circle", "two dogs run on a beach."]  # of different length, so that one is padded
WORDS = [{"text": "red", "box": [0.2, 0.2, 0.6, 0.4]}, {"text": "CIRCLE", "box": [0.2, 0.5, 0.6, 0.7]}]
NUMBERS = 32  # how many numbers of each output are compared
RETRIEVAL = "AutoModelForZeroShotImageClassification"


class OwnPackageBlocker(MetaPathFinder):
    """Blocks the import of this package, as if it were not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raises `ImportError` for our packages; returns None for others, which later finders import."""
        if fullname.split(".")[0] in OWN_PACKAGES:
            raise ImportError(f"the published code imports {fullname}, which others do not have")
        return None


def drawn_image() -> Any:
    """A test image: a red circle on a blue-green gradient, 96 x 64 pixels."""
    from PIL import Image, ImageDraw

    image = Image.merge("RGB", [Image.new("L", (96, 64)), *[Image.linear_gradient("L").resize((96, 64))] * 2])
    ImageDraw.Draw(image).ellipse((20, 12, 60, 52), fill=(220, 30, 40))
    return image


def outputs_of(
    model: str, *, auto_classes: Sequence[str], tasks: Sequence[str], revision: str | None = None, trust: bool = False
) -> dict[str, Any]:
    """Load `model` with all its Auto classes and pipelines, and run it.

    Args:
        model: a folder or a Hub id.
        auto_classes: names of transformers' Auto classes to load it with.
        tasks: names of pipelines to run on `drawn_image`.
        revision: a commit of the Hub repository.
        trust: run the code in the model's folder.

    Returns:
        `classes`: {Auto class: name of the class it loads}; `outputs`: {Auto class of a model: `numbers_of` it};
        `tasks`: {task: what its pipeline returns}.

    Raises:
        ValueError: if the folder lacks weights that one of its classes needs.
    """
    import transformers

    options = {"revision": revision or "main", "trust_remote_code": trust}
    processor = transformers.AutoProcessor.from_pretrained(model, **options)
    image_processor = transformers.AutoImageProcessor.from_pretrained(model, **options)
    classes, outputs = {}, {}
    for name in auto_classes:
        auto = getattr(transformers, name)
        if name.startswith("AutoModel"):
            loaded, info = auto.from_pretrained(
                model, output_loading_info=True, ignore_mismatched_sizes=True, **options
            )
            loaded.eval().check_whole(info)
            outputs[name] = numbers_of(loaded, inputs_of(processor), compares=name != RETRIEVAL)
        else:
            loaded = auto.from_pretrained(model, **options)
        classes[name] = type(loaded).__name__
    classes |= {"AutoProcessor": type(processor).__name__, "AutoImageProcessor": type(image_processor).__name__}
    answers = {}
    for task in tasks:
        transformers.set_seed(0)
        run, image = transformers.pipeline(task, model=model, **options), drawn_image()
        several = getattr(run, "num_images", 1)  # that it reads together
        answers[task] = run(image if several == 1 else [image] * several, **QUESTIONS.get(task, {}))
    return {"classes": classes, "outputs": outputs, "tasks": answers}


def inputs_of(processor: Any) -> dict[str, Any]:
    """`drawn_image` and, if the processor has a tokenizer, `TEXTS`, as model inputs."""
    if not hasattr(processor, "tokenizer"):
        return dict(processor(images=drawn_image(), return_tensors="pt"))
    read = {"words": WORDS} if "words" in inspect.signature(type(processor).__call__).parameters else {}
    settings: dict[str, Any] = {"padding": True, "truncation": True, "return_tensors": "pt"}
    return dict(processor(images=drawn_image(), text=TEXTS, **read, **settings))


def numbers_of(model: Any, inputs: dict[str, Any], *, compares: bool = True) -> dict[str, list[float]]:
    """Up to `NUMBERS` evenly spaced numbers of every output of a model, by field.

    A retrieval model is run only for the objectives it was trained with: `forward` for `itc`, and `match`, the match
    logits of each text and the image, for `itm`. `compares`: run `forward` in any case.
    """
    import torch

    objectives = getattr(model.config, "objectives", None) or {}
    taken = inspect.signature(model.forward).parameters
    given = {name: tensor for name, tensor in inputs.items() if name in taken}
    if "region_index" in taken:  # each text is of a region of its own
        given["region_index"] = torch.arange(len(given["input_ids"]))
    if getattr(model.config, "num_images", 1) > 1 and "image_index" in taken:  # the one image in every place
        given["image_index"] = torch.zeros(len(given["input_ids"]), model.config.num_images, dtype=torch.long)
    found: dict[str, Any] = {}
    with torch.no_grad():
        if compares or objectives.get("itc"):
            found |= dict(model(**given).items())
        if hasattr(model, "match") and objectives.get("itm"):
            found["match"] = model.match(**given)
    return {name: chosen_numbers(tensor) for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}


def chosen_numbers(tensor: Any) -> list[float]:
    """Evenly spaced numbers of a tensor, including the first and the last."""
    import torch

    flat = tensor.float().flatten()
    return flat[torch.linspace(0, max(0, len(flat) - 1), min(len(flat), NUMBERS)).long()].tolist()


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
