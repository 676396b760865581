"""Travelling cameras over images with grounded phrases, as rows of captions, questions and moments.

    Flickr30k Entities' layout --read_flickr30k_entities--> phrases --travelling.py--> clips --> rows

Each clip is a strip of frames (`strips.py`), its split is its image's. `frames` keeps so many frames of each clip,
evenly spread: 1 is what a model sees that looks at a single image. Images without two phrases that can be told apart
are left out, and one warning counts them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets

from processors.image_processing_updown import load_image
from training.data.boxes.rows import LeftOut, dataset_of, size_in_file
from training.data.captions.rows import CAPTION_FEATURES
from training.data.clips.rows import CLIP_MOMENT_FEATURES
from training.data.clips.strips import frame_strip, frames_mark, sampled
from training.data.clips.travelling import (
    Travel,
    camera_windows,
    choose_stops,
    film,
    frame_size,
    order_sentences,
    places_of,
)
from training.data.files import PathLike
from training.data.phrases.flickr30k_entities import read_flickr30k_entities
from training.data.questions.rows import VQA_FEATURES

SMALLEST_SIDE = 32  # pixels, the longer side of a frame
KINDS = ("order", "exist")
Splits = PathLike | Mapping[str, PathLike] | None


def read_travelling_captions(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: Splits = None,
    split: str | None = None,
    seed: int = 0,
    side: int = 96,
    frames: int = 0,
    most_stops: int = 3,
    num_clips: int = 0,
    captions: str = "order",
) -> datasets.Dataset:
    """Clips with captions.

    Args:
        annotations, images, split_lists, split, seed, side, frames, most_stops, num_clips: as for `read_travels`.
        captions: `order` for sentences of the order of stops ("first a man, then a dog"), or `image` for the image's
            own captions, which its clip shares.

    Returns:
        Rows of `CAPTION_FEATURES`.

    Raises:
        ValueError: as `read_travels`, and for another value of `captions`.
    """
    if captions not in ("order", "image"):
        raise ValueError(f"captions is {captions!r}; choose order or image")
    travels = read_travels(
        annotations,
        images=images,
        split_lists=split_lists,
        split=split,
        seed=seed,
        side=side,
        frames=frames,
        most_stops=most_stops,
        num_clips=num_clips,
    )
    rows = (
        travel.row
        | {"captions": order_sentences(travel.texts) if captions == "order" else list(travel.captions), "domain": ""}
        for travel in travels
    )
    return dataset_of(rows, CAPTION_FEATURES)


def read_travelling_questions(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: Splits = None,
    split: str | None = None,
    seed: int = 0,
    side: int = 96,
    frames: int = 0,
    most_stops: int = 3,
    num_clips: int = 0,
    kinds: list[str] | None = None,
) -> datasets.Dataset:
    """Clips with questions of yes or no.

    Kinds: `order` ("is a man seen before a dog?", asked as it was or the other way round, drawn evenly) and `exist`
    ("is a dog seen?"): of two clips each phrase that the captions of one image have and those of the other have not is
    asked about both, so that no phrase tells its answer.

    Args:
        annotations, images, split_lists, split, seed, side, frames, most_stops, num_clips: as for `read_travels`.
        kinds: only questions of these kinds.

    Returns:
        Rows of `VQA_FEATURES`; `question_type` is the kind.

    Raises:
        ValueError: as `read_travels`, and for an unknown kind.
    """
    wanted = KINDS if kinds is None else tuple(kinds)
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown or not wanted:
        raise ValueError(f"kinds names {', '.join(unknown) or 'none'}; the kinds of questions are {', '.join(KINDS)}")
    travels = read_travels(
        annotations,
        images=images,
        split_lists=split_lists,
        split=split,
        seed=seed,
        side=side,
        frames=frames,
        most_stops=most_stops,
        num_clips=num_clips,
    )
    return dataset_of((row for row in question_rows(travels) if row["question_type"] in wanted), VQA_FEATURES)


def read_travelling_moments(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: Splits = None,
    split: str | None = None,
    seed: int = 0,
    side: int = 96,
    frames: int = 0,
    most_stops: int = 3,
    num_clips: int = 0,
) -> datasets.Dataset:
    """Clips with the span of each phrase: while the camera rests on its box.

    Args:
        annotations, images, split_lists, split, seed, side, frames, most_stops, num_clips: as for `read_travels`.

    Returns:
        Rows of `CLIP_MOMENT_FEATURES`; `clip` is null, there being no file.

    Raises:
        ValueError: as `read_travels`.
    """
    travels = read_travels(
        annotations,
        images=images,
        split_lists=split_lists,
        split=split,
        seed=seed,
        side=side,
        frames=frames,
        most_stops=most_stops,
        num_clips=num_clips,
    )
    rows = (
        dict.fromkeys(CLIP_MOMENT_FEATURES)
        | travel.row
        | {
            "moment_id": f"{travel.row['image_id']}-{number}",
            "clip_id": travel.row["image_id"],
            "caption": stop.place.text,
            "duration_seconds": travel.stops[-1].end_seconds,
            "spans": [[stop.start_seconds, stop.end_seconds]],
        }
        for travel in travels
        for number, stop in enumerate(travel.stops)
    )
    return dataset_of(rows, CLIP_MOMENT_FEATURES)


def read_travels(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    split_lists: Splits = None,
    split: str | None = None,
    seed: int = 0,
    side: int = 96,
    frames: int = 0,
    most_stops: int = 3,
    num_clips: int = 0,
) -> list[Travel]:
    """The clips of images with grounded phrases, the same for the same arguments.

    Args:
        annotations, images, split_lists, split: as for `read_flickr30k_entities`; images are needed.
        seed: another seed draws other stops, orders and times.
        side: the longer side of the frames, pixels; the other one is in the image's shape, to multiples of 8.
        frames: of each clip so many frames, evenly spread; 0 keeps all, a quarter of a second apart.
        most_stops: two to so many stops a clip.
        num_clips: only the first so many clips; 0 takes all.

    Raises:
        ValueError: for no image folder, frames too small to see anything in, numbers out of their range, or where no
            image has two phrases that can be told apart; and as `read_flickr30k_entities`.
    """
    if images is None:
        raise ValueError("a camera travels over images: name their folder in data.images")
    if side < SMALLEST_SIDE or most_stops < 2 or num_clips < 0:
        raise ValueError(
            f"side {side} must be at least {SMALLEST_SIDE} pixels, most_stops {most_stops} at least 2 and num_clips "
            f"{num_clips} 0 (all) or more"
        )
    sampled(1, frames)  # refuses a number below 0
    rows = read_flickr30k_entities(annotations, images=images, split_lists=split_lists, split=split)
    left_out, found = LeftOut(annotations), []
    for row in rows.cast_column("image", datasets.Image(decode=False)):
        travel = travel_over(row, seed=seed, side=side, frames=frames, most_stops=most_stops)
        if travel is None:
            left_out.add("images without two phrases that a camera can tell apart", row["image_id"])
        else:
            found.append(travel)
        if num_clips and len(found) == num_clips:
            break
    if not found:
        raise ValueError(f"no image of {annotations} has two phrases that a camera can tell apart; take more images")
    left_out.warn()
    return found


def travel_over(row: Mapping[str, Any], *, seed: int, side: int, frames: int, most_stops: int) -> Travel | None:
    """The clip of an image, a row of `PHRASE_FEATURES` whose `image` is undecoded; None where it has none."""
    places = places_of(row["phrases"], row["captions"])
    if len(places) < 2:
        return None
    path, name = row["image"]["path"], f"travelling-{seed}-{row['image_id']}"
    size = size_in_file(path)
    frame = frame_size(*size, side=side)
    stops = choose_stops(places, image=size, frame=frame, rng=random.Random(name), most=most_stops)
    if not stops:
        return None
    image = load_image(path)
    if image.size != size:  # an image of very many pixels is reduced
        stops = choose_stops(places, image=image.size, frame=frame, rng=random.Random(name), most=most_stops)
    windows, seconds = camera_windows(stops)
    kept = sampled(len(windows), frames)
    shown = film(image, [windows[number] for number in kept], frame=frame)
    strip = frame_strip(shown, [seconds[number] for number in kept], jpeg=True)
    clip = {
        "image_id": f"travel-{seed}-{row['image_id']}{frames_mark(len(kept), len(windows))}",
        "image": {"bytes": strip, "path": None},
        "split": row["split"],
    }
    return Travel(clip, tuple(stops), tuple(row["captions"]))


def question_rows(travels: Sequence[Travel]) -> Iterator[dict[str, Any]]:
    """Rows of `VQA_FEATURES` of both kinds; `exist` about clips in pairs, the first and second and so on."""
    for travel in travels:
        rng = random.Random(f"order-{travel.row['image_id']}")
        one, other = sorted(rng.sample(range(len(travel.stops)), 2))
        answer = rng.choice(("yes", "no"))
        first, second = (one, other) if answer == "yes" else (other, one)
        yield _row(travel, "order", f"is {travel.texts[first]} seen before {travel.texts[second]}?", answer)
    for travel, partner in zip(travels[::2], travels[1::2], strict=False):
        own, theirs = absent_phrase(travel, partner), absent_phrase(partner, travel)
        for text, seen, unseen in ((own, travel, partner), (theirs, partner, travel)):
            if text:
                yield _row(seen, "exist", f"is {text} seen?", "yes", number=1)
                yield _row(unseen, "exist", f"is {text} seen?", "no", number=2)


def absent_phrase(travel: Travel, other: Travel) -> str:
    """A phrase of a clip whose last word no caption of the other's image has; "" where there is none."""
    words = {word for caption in other.captions for word in caption.lower().split()}
    return next((stop.place.text for stop in travel.stops if stop.place.head not in words), "")


def _row(travel: Travel, kind: str, question: str, answer: str, *, number: int = 0) -> dict[str, Any]:
    return travel.row | {
        "question_id": f"{travel.row['image_id']}-{number}",
        "question": question,
        "answers": [answer],
        "answer": answer,
        "question_type": kind,
        "answer_type": "yes/no",
        "choices": [],
        "correct_choice": -1,
        "details": "",
    }
