"""Every data set, model and region store that a shipped recipe names, tiny, at the paths that the recipes name."""

from pathlib import Path

from tests.training import (
    recipe_boxes,
    recipe_captions,
    recipe_choices,
    recipe_clips,
    recipe_moments,
    recipe_phrases,
    recipe_questions,
    recipe_reading,
    recipe_statements,
)
from tests.training.recipe_files import drawn_scenes
from tests.training.recipe_models import write_models, write_stores

WRITERS = (  # each writes below the folder `data`, in this order
    recipe_captions.write_coco,
    recipe_captions.write_flickr,
    recipe_captions.write_nocaps,
    recipe_captions.write_vizwiz,
    recipe_captions.write_pairs,
    recipe_captions.write_my_own,
    recipe_questions.write_vqa,
    recipe_questions.write_knowledge,
    recipe_questions.write_aokvqa,
    recipe_questions.write_pope,
    recipe_questions.write_gqa,
    recipe_questions.write_lxmert,
    recipe_boxes.write_visual_genome,
    recipe_questions.write_visual7w,
    recipe_questions.write_daquar,
    recipe_boxes.write_pseudo_boxes,
    recipe_phrases.write_texts,
    recipe_phrases.write_entities,
    recipe_phrases.write_refcoco,
    recipe_phrases.write_densecap_splits,
    recipe_phrases.write_pointing,
    recipe_phrases.write_guesswhat,
    recipe_phrases.write_descriptions,
    recipe_statements.write_statements,
    recipe_choices.write_choices,
    recipe_moments.write_moments,
    recipe_clips.write_clips,
    recipe_reading.write_reading,
)


def write_world(root: Path) -> None:
    """Everything that recipes read and no recipe makes: images in `pool`, data sets, models, region stores."""
    pool = root / "pool"
    pool.mkdir(parents=True)
    for drawn in drawn_scenes():
        drawn.image.save(pool / f"{drawn.number}.jpg")
    for write in WRITERS:
        write(root / "data")
    write_models(root)
    write_stores(root / "runs" / "regions")
