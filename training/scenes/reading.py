"""Questions about the writing in the drawn images of `training/scenes/written.py`, with the true OCR words.

    drawn image --written_questions--> (kind, question, answer) --reading_scene_rows--> rows of READING_FEATURES

Answers are copied (a word, a number, a value, the name of a bar, several words of a field) or of a small vocabulary
(yes and no, colours). Everything follows from (seed, split, index). In the spirit of TextVQA, DocVQA and ChartQA,
without their images.
"""

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import datasets

from processors.words_updown import word_rows
from training.data.questions.rows import vqa_splits
from training.data.reading.rows import READING_FEATURES
from training.data.splits import SPLITS
from training.scenes.questions import YES_NO
from training.scenes.written import KINDS, Written, draw_written

SMALLEST_SIDE = 96  # of an image in which the writing can be read


class Asked(NamedTuple):
    """A question about an image: its kind, its words and the answer; `copied` where the answer is written in it."""

    kind: str
    question: str
    answer: str
    copied: bool


def read_reading_scenes(
    num_scenes: int,
    *,
    seed: int = 0,
    image_size: int = 256,
    split: str | None = None,
    kinds: Sequence[str] = tuple(KINDS),
    per_scene: int = 4,
) -> datasets.Dataset:
    """`reading_scene_rows` of one or several splits (`"train+val"`), by default train; arguments as there."""
    parts = [
        reading_scene_rows(num_scenes, seed=seed, image_size=image_size, split=word, kinds=kinds, per_scene=per_scene)
        for word in sorted(vqa_splits(split or "train", "the drawn images"))
    ]
    return datasets.concatenate_datasets(parts)


def reading_scene_rows(
    num_scenes: int,
    *,
    seed: int = 0,
    image_size: int = 256,
    split: str = "train",
    kinds: Sequence[str] = tuple(KINDS),
    per_scene: int = 4,
) -> datasets.Dataset:
    """Draws images with writing and asks about it.

    Kinds of images, in turn: `objects` (shapes with words and numbers), `signs`, `forms` (fields and values) and
    `charts` (bars with values).

    Args:
        num_scenes: images of the split.
        seed: another seed draws others; so does another split of the same seed.
        image_size: side of the square images, pixels.
        split: train, val, test or restval.
        kinds: some of the four.
        per_scene: questions an image, at most.

    Returns:
        Rows of `READING_FEATURES`: one answer each, which `answers` and `answer` both hold, as it is written in the
        image; `question_type` is `objects_word`, `objects_number`, `objects_colour`, `signs_line`, `signs_number`,
        `signs_word`, `forms_field`, `forms_has`, `charts_value`, `charts_most`, `charts_least`, `charts_compare` or
        `charts_more`; `words` are the true ones, with score 1; `details` is JSON with `copied`.

    Raises:
        ValueError: for an unknown split or kind, no image, no question, or images too small to read.

    >>> rows = reading_scene_rows(1, kinds=["signs"], per_scene=1)
    >>> rows[0]["answer"].split()[0] in [word["text"] for word in rows[0]["words"]]
    True
    """
    odd = [kind for kind in kinds if kind not in KINDS]
    if odd or not kinds:
        raise ValueError(f"kinds are {list(kinds)}; choose some of {', '.join(KINDS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits of the drawn images are {', '.join(SPLITS)}")
    if num_scenes < 1 or per_scene < 1 or image_size < SMALLEST_SIDE:
        raise ValueError(
            f"num_scenes {num_scenes} and per_scene {per_scene} must be at least 1, image_size {image_size} at least "
            f"{SMALLEST_SIDE}"
        )
    split_seed = len(SPLITS) * seed + SPLITS.index(split)
    columns: dict[str, list[Any]] = {name: [] for name in READING_FEATURES}
    for index in range(num_scenes):
        drawn = draw_written(kinds[index % len(kinds)], index, seed=split_seed, image_size=image_size)
        image_id = f"reading-{drawn.kind}-{split}-{seed}-{index}"
        rng = random.Random(f"questions-{image_id}")
        for row in _rows(drawn, image_id=image_id, split=split, asked=chosen_questions(drawn, rng, most=per_scene)):
            for name, value in row.items():
                columns[name].append(value)
    return datasets.Dataset.from_dict(columns, features=READING_FEATURES)


def chosen_questions(drawn: Written, rng: random.Random, *, most: int) -> list[Asked]:
    """Up to `most` different questions on an image, kinds in turn; of yes and no, one as often as the other."""
    groups: dict[str, dict[str, list[Asked]]] = {}
    for asked in written_questions(drawn):
        own = groups.setdefault(asked.kind, {})
        own.setdefault(asked.answer if asked.answer in YES_NO else "", []).append(asked)
    kinds = sorted(groups)
    chosen: list[Asked] = []
    rng.shuffle(kinds)
    while kinds and len(chosen) < most:
        kind = kinds.pop(0)
        answer = rng.choice(sorted(groups[kind]))
        left = groups[kind][answer]
        chosen.append(left.pop(rng.randrange(len(left))))
        if not left:
            del groups[kind][answer]
        if groups[kind]:
            kinds.append(kind)
    return chosen


def written_questions(drawn: Written) -> Iterator[Asked]:
    """Every question on an image that makes sense."""
    return QUESTIONS[drawn.kind](drawn.facts)


def object_questions(facts: Mapping[str, Any]) -> Iterator[Asked]:
    """What is written on a shape, and which colour the shape with a word is."""
    things = facts["things"]
    names, texts = Counter(thing["name"] for thing in things), Counter(thing["text"] for thing in things)
    for thing in things:
        number = thing["text"].isdecimal()
        what, kind = ("number", "objects_number") if number else ("word", "objects_word")
        yield Asked(kind, f"what {what} is on the {thing['colour']} {thing['name']}?", thing["text"], True)
        if names[thing["name"]] == 1:
            yield Asked(kind, f"what {what} is on the {thing['name']}?", thing["text"], True)
        if texts[thing["text"]] == 1:
            question = f"what color is the shape that says {thing['text']}?"
            yield Asked("objects_colour", question, thing["colour"], False)


def sign_questions(facts: Mapping[str, Any]) -> Iterator[Asked]:
    """What a sign says, line by line, and its number."""
    first, second = facts["lines"]
    word, number = second.split()
    yield Asked("signs_line", "what does the first line of the sign say?", first, True)
    yield Asked("signs_line", "what does the second line of the sign say?", second, True)
    yield Asked("signs_number", "what number is on the sign?", number, True)
    yield Asked("signs_word", f"what word is before the number {number}?", word, True)
    yield Asked("signs_word", "what is the first word on the sign?", first.split()[0], True)


def form_questions(facts: Mapping[str, Any]) -> Iterator[Asked]:
    """The value of each field, and whether it has a value: its own, or another of the same form."""
    for key, value in facts["fields"].items():
        yield Asked("forms_field", f"what is the {key}?", value, True)
        yield Asked("forms_has", f"is the {key} {value}?", "yes", False)
    for key, other in facts["others"].items():
        yield Asked("forms_has", f"is the {key} {other}?", "no", False)


def chart_questions(facts: Mapping[str, Any]) -> Iterator[Asked]:
    """The value of a bar, the highest and the lowest, and which of two is higher."""
    bars: Mapping[str, int] = facts["bars"]
    for label, value in bars.items():
        yield Asked("charts_value", f"what is the value of {label}?", str(value), True)
    yield Asked("charts_most", "which bar is the highest?", max(bars, key=lambda label: bars[label]), True)
    yield Asked("charts_least", "which bar is the lowest?", min(bars, key=lambda label: bars[label]), True)
    for one in bars:
        for other in bars:
            if one == other:
                continue
            higher = one if bars[one] > bars[other] else other
            yield Asked("charts_compare", f"which is higher, {one} or {other}?", higher, True)
            answer = YES_NO[bars[one] > bars[other]]
            yield Asked("charts_more", f"is {one} higher than {other}?", answer, False)


QUESTIONS: dict[str, Callable[[Mapping[str, Any]], Iterator[Asked]]] = {
    "objects": object_questions,
    "signs": sign_questions,
    "forms": form_questions,
    "charts": chart_questions,
}


def _rows(drawn: Written, *, image_id: str, split: str, asked: Sequence[Asked]) -> Iterator[dict[str, Any]]:
    png = io.BytesIO()
    drawn.image.save(png, format="PNG", compress_level=1)
    words = word_rows(drawn.words)
    for number, (kind, question, answer, copied) in enumerate(asked):
        in_numbers = answer.replace(".", "").lstrip("$").isdecimal()
        yield {
            "question_id": f"{image_id}-{number}",
            "image_id": image_id,
            "image": {"bytes": png.getvalue(), "path": None},
            "question": question,
            "answers": [answer],
            "answer": answer,
            "question_type": kind,
            "answer_type": "yes/no" if answer in YES_NO else "number" if in_numbers else "other",
            "choices": [],
            "correct_choice": -1,
            "split": split,
            "details": json.dumps({"copied": copied}),
            "words": words,
        }
