"""Moving scenes as rows of captions, questions and moments, each clip a strip of its frames.

    (seed, index) --moving.py--> frames, MovingScene --> rows of captions/rows.py, questions/rows.py, clips/rows.py

`frames` keeps so many frames of each clip, evenly spread: 1 is what a model sees that looks at a single image.
"""

from collections.abc import Iterator
from typing import Any

import datasets

from training.data.boxes.rows import dataset_of
from training.data.captions.rows import CAPTION_FEATURES
from training.data.clips.rows import CLIP_MOMENT_FEATURES
from training.data.clips.strips import frame_strip, frames_mark, sampled
from training.data.questions.rows import VQA_FEATURES
from training.data.splits import SPLITS, split_name
from training.scenes.moving import FRAMES_PER_SECOND, NUM_FRAMES, MovingScene, draw_moving_scene, make_moving_scene
from training.scenes.moving_questions import KINDS, moving_questions
from training.scenes.moving_texts import event_sentence, moving_captions
from training.scenes.questions import answer_type

SMALLEST_SIDE = 32  # pixels, in which a shape is five wide


def moving_scenes_dataset(
    num_scenes: int, *, seed: int = 0, image_size: int = 72, split: str = "train", frames: int = 0
) -> datasets.Dataset:
    """Draws moving scenes into rows of captions.

    Args:
        num_scenes: clips.
        seed: another seed gives other scenes; so does another split of the same seed.
        image_size: side of the square frames, pixels.
        split: train, val, test or restval; several: `"train+val"`, as many of each.
        frames: of each clip so many frames, evenly spread; 0 keeps all 18, a quarter of a second apart.

    Returns:
        Rows of `CAPTION_FEATURES`: five captions each, `image` a strip of frames (`training/data/clips/strips.py`).

    Raises:
        ValueError: for an unknown split, no scene, frames too small to see anything in, or a number of them below 0.
    """
    clips = _clips(num_scenes, seed=seed, image_size=image_size, split=split, frames=frames)
    rows = (clip | {"captions": moving_captions(scene, seed=index), "domain": ""} for index, scene, clip in clips)
    return dataset_of(rows, CAPTION_FEATURES)


def read_moving_questions(
    num_scenes: int,
    *,
    seed: int = 0,
    image_size: int = 72,
    split: str | None = None,
    frames: int = 0,
    kinds: list[str] | None = None,
) -> datasets.Dataset:
    """Draws moving scenes and asks about them.

    Args:
        num_scenes, seed, image_size, split, frames: as for `moving_scenes_dataset`; by default the split is train.
        kinds: only questions of these kinds, of `moving_questions.KINDS`.

    Returns:
        Rows of `VQA_FEATURES`, about eight a clip: `question_type` is the kind; actions and transitions have five
        `choices`.

    Raises:
        ValueError: as `moving_scenes_dataset`, and for an unknown kind.
    """
    wanted = KINDS if kinds is None else tuple(kinds)
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown or not wanted:
        raise ValueError(f"kinds names {', '.join(unknown) or 'none'}; the kinds of questions are {', '.join(KINDS)}")
    clips = _clips(num_scenes, seed=seed, image_size=image_size, split=split or "train", frames=frames)
    return dataset_of((row for clip in clips for row in _question_rows(*clip, kinds=wanted)), VQA_FEATURES)


def read_moving_moments(
    num_scenes: int, *, seed: int = 0, image_size: int = 72, split: str | None = None, frames: int = 0
) -> datasets.Dataset:
    """Draws moving scenes and says when each of their three events is.

    Args:
        num_scenes, seed, image_size, split, frames: as for `moving_scenes_dataset`; by default the split is train.

    Returns:
        Rows of `CLIP_MOMENT_FEATURES`, `image` a strip of frames; `clip` is null, there being no file.

    Raises:
        ValueError: as `moving_scenes_dataset`.
    """
    clips = _clips(num_scenes, seed=seed, image_size=image_size, split=split or "train", frames=frames)
    rows = (
        dict.fromkeys(CLIP_MOMENT_FEATURES)
        | clip
        | {
            "moment_id": f"{clip['image_id']}-{number}",
            "clip_id": clip["image_id"],
            "caption": event_sentence(scene, event),
            "duration_seconds": NUM_FRAMES / FRAMES_PER_SECOND,
            "spans": [list(event.span)],
        }
        for _, scene, clip in clips
        for number, event in enumerate(scene.events)
    )
    return dataset_of(rows, CLIP_MOMENT_FEATURES)


def _clips(
    num_scenes: int, *, seed: int, image_size: int, split: str, frames: int
) -> Iterator[tuple[int, MovingScene, dict[str, Any]]]:
    """Number, graph and `image_id`, `image`, `split` of each clip of one split or several."""
    words = [split_name(word, "the moving scenes") for word in split.split("+")]
    if num_scenes < 1 or image_size < SMALLEST_SIDE:
        raise ValueError(
            f"num_scenes {num_scenes} must be at least 1 and image_size {image_size} at least {SMALLEST_SIDE}"
        )
    kept = sampled(NUM_FRAMES, frames)
    return (_clip(index, word, seed, image_size, kept) for word in words for index in range(num_scenes))


def _clip(
    index: int, split: str, seed: int, image_size: int, kept: list[int]
) -> tuple[int, MovingScene, dict[str, Any]]:
    split_seed = len(SPLITS) * seed + SPLITS.index(split)
    scene = make_moving_scene(index, seed=split_seed)
    drawn = draw_moving_scene(scene, index=index, seed=split_seed, image_size=image_size)
    strip = frame_strip([drawn[frame] for frame in kept], [frame / FRAMES_PER_SECOND for frame in kept])
    name = f"moving-{split}-{seed}-{index}{frames_mark(len(kept), NUM_FRAMES)}"
    return index, scene, {"image_id": name, "image": {"bytes": strip, "path": None}, "split": split}


def _question_rows(
    index: int, scene: MovingScene, clip: dict[str, Any], *, kinds: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for number, asked in enumerate(moving_questions(scene, seed=index)):
        if asked.kind in kinds:
            yield clip | {
                "question_id": f"{clip['image_id']}-{number}",
                "question": asked.question,
                "answers": [asked.answer],
                "answer": asked.answer,
                "question_type": asked.kind,
                "answer_type": answer_type(asked.answer),
                "choices": list(asked.choices),
                "correct_choice": asked.choices.index(asked.answer) if asked.choices else -1,
                "details": "",
            }
