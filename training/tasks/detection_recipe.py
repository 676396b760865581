"""What the recipes of detection say beside the common sections: the phrases that regions are learnt to match, and the
names that are held out.
"""

from dataclasses import dataclass, field

from training.data.boxes.held_out import listed_names
from training.data.boxes.names import COCO_NAMES
from training.recipe_sections import Recipe, key


@dataclass
class PhrasesRecipe:
    """Phrases said of places in the images, which the data's `regions` hold (Visual Genome's, Flickr30k Entities').

    A region is learnt to match its own phrases among those of the batch, beside the class losses; the model's
    `phrase_loss_weight` and `phrase_temperature` say how.

    encoder: a folder or Hub id of a sentence encoder, such as `sentence-transformers/all-MiniLM-L6-v2`, whose frozen
        vectors the phrases are learnt by; empty learns no phrases.
    an_image: at most so many phrases of an image, drawn anew every epoch.
    """

    encoder: str = ""
    an_image: int = key(8, lowest=1)


@dataclass
class HeldOutRecipe:
    """What training must not learn, for open sets (`training/data/boxes/held_out.py`).

    names: of objects, attributes or in phrases, `[dog, red star]`, or `coco_novel`, COCO's 17 classes that are usually
        held out: their boxes are neither objects nor background of the training split, their phrases are left out.
        Other splits keep them. The config of the model says what was held out (`held_out_names`).
    """

    names: list[str] = field(default_factory=list)


@dataclass
class DetectionRecipe(Recipe):
    """A recipe with `phrases` and `held_out`."""

    phrases: PhrasesRecipe = field(default_factory=PhrasesRecipe)
    held_out: HeldOutRecipe = field(default_factory=HeldOutRecipe)


def check_recipe(recipe: DetectionRecipe) -> None:
    """`ValueError` for regions from elsewhere, since a detector makes its own, for held-out names that NanoDet has
    learnt, and for two ways to size images.
    """
    for name, cure in (
        ("store", "a detector is trained on pixels"),
        ("source", "a detector's fields stand in model"),
        ("pretrained", "a detector goes on from init_from"),
    ):
        if getattr(recipe.regions, name):
            raise ValueError(f"{cure}: leave regions.{name} empty")
    known = set(listed_names(recipe.held_out.names)) & set(COCO_NAMES)
    if known and (recipe.regions.proposal_weights or recipe.model.get("proposal_model") == "nanodet"):
        raise ValueError(
            f"held_out.names has {sorted(known)[0]!r}, which NanoDet has learnt, as all of COCO's 80 classes: take a "
            "proposal network that learns here (detection/lite)"
        )
    shapes = recipe.train.image_shapes
    if shapes and recipe.train.image_size:
        raise ValueError("train.image_size and train.image_shapes are both given: leave one out")
    if any(len(shape) != 2 or min(shape) < 1 for shape in shapes):
        raise ValueError(f"train.image_shapes is {shapes}: give lists of two, height and width in pixels")
