"""VisDial v0.9 and v1.0 (Das et al. 2017): dialogues on an image, a hundred candidate answers to each question.

    visdial_1.0_train.json + images --read_visdial--> ChoiceData: an item for each round of each dialogue

The file has its questions and answers once, and dialogues name them by number. Relevances of candidates (v1.0) lie in
files of their own. Written after the documented layout; the real files were not at hand.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from training.data.boxes.rows import ImageListing, keep_images
from training.data.choices.rows import HIDDEN, ChoiceData, ChoiceItem, ChoiceText, choice_data
from training.data.files import IMAGE_SUFFIXES, PathLike, read_json, records
from training.data.splits import NoSuchSplitError, split_name

NUMBERED = re.compile(r"(\d+)$")  # COCO_train2014_000000378466.jpg, VisualDialog_val2018_000000185565.jpg
RELEVANCES = ("gt_relevance", "relevance")  # of val and of train


def read_visdial(
    annotations: PathLike,
    *,
    images: PathLike | None = None,
    relevance: PathLike | None = None,
    split: str = "train",
    file_split: str | None = None,
    rounds: Literal["all", "rated"] = "all",
) -> ChoiceData:
    """Reads VisDial's files as they are released.

    Args:
        annotations: `visdial_1.0_train.json` and its kin, with `data` (`dialogs`, `questions`, `answers`).
        images: the folder of the images, whose names end in the dialogue's image id; also of the folders in it.
        relevance: `visdial_1.0_val_dense_annotations.json` (or train's): how relevant people found each candidate.
        split: must be the file's.
        file_split: the file's split, where it is not its own word for it (`split`).
        rounds: `rated` keeps those with relevances alone (dense fine-tuning).

    Returns:
        Items of the kind `round` (`group`: the image), `IMAGE-ROUND` from round 1. Of v1.0's test set the rounds whose
        candidates are given, the last of each dialogue, whose right answers are hidden.

    Raises:
        ValueError: for a broken file, numbers of questions or answers that the file does not have, an answer that is
            not among its candidates, relevances of another number of candidates or of no dialogue of the file.
    """
    content = read_json(annotations)
    data = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(data, Mapping):
        raise ValueError(f"{annotations} has no data with dialogs; is it a file of VisDial?")
    name = split_name(file_split or word_of(content, split), annotations)
    if name != split_name(split, annotations):
        raise NoSuchSplitError(f"{annotations} has no dialogue of the split {split!r}; it has {name}", present=[name])
    dialogues = records(data, "dialogs", annotations)
    texts = {key: [ChoiceText(text) for text in texts_of(data, key, annotations)] for key in ("questions", "answers")}
    rated = {} if relevance is None else read_relevances(relevance)
    if rounds == "rated":
        if not rated:
            raise ValueError(
                "rounds is 'rated', but there are no ratings: name the file of dense annotations in relevance"
            )
        dialogues = [dialogue for dialogue in dialogues if any(str(dialogue.get("image_id")) == i for i, _ in rated)]
    listings = keep_images(listed_images(dialogues, images, name, annotations), split=name, source=annotations)
    kept = {image.image_id: image for image in listings}
    used: set[tuple[str, int]] = set()
    items = (
        item
        for dialogue in dialogues
        if str(dialogue["image_id"]) in kept
        for item in dialogue_items(dialogue, kept[str(dialogue["image_id"])], texts, (rated, used), annotations)
        if rounds == "all" or item.relevance
    )
    found = choice_data(items, source=annotations)
    check_used(rated, used, kept, (relevance, annotations))
    return found


def check_used(
    rated: Collection[tuple[str, int]],
    used: Collection[tuple[str, int]],
    images: Collection[str],
    sources: tuple[Any, PathLike],
) -> None:
    """`ValueError` for rated rounds of those images that the dialogues do not have, or where none was met."""
    lost = [key for key in rated if key not in used and key[0] in images]
    if lost or (rated and not used):
        raise ValueError(
            f"{sources[0]} rates {len(lost) or len(rated)} rounds that {sources[1]} does not have, such as "
            f"{(lost or list(rated))[0]}: is it of another split?"
        )


def word_of(content: Mapping[str, Any], split: str) -> str:
    """A file's own word for its split (`val2018`), or that which is wanted where it has none."""
    word = content.get("split")
    return re.sub(r"\d+$", "", word) if isinstance(word, str) and word else split


def texts_of(data: Mapping[str, Any], key: str, source: PathLike) -> list[str]:
    """The questions or answers of a file."""
    texts = data.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{source} has no list of texts under {key}; is it a file of VisDial?")
    return texts


def read_relevances(path: PathLike) -> dict[tuple[str, int], tuple[float, ...]]:
    """Relevances by image id and round, from 1."""
    found: dict[tuple[str, int], tuple[float, ...]] = {}
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} holds no list of rated rounds")
    for number, row in enumerate(rows):
        values = next((row[key] for key in RELEVANCES if key in row), None) if isinstance(row, dict) else None
        if not isinstance(values, list) or "image_id" not in row or not isinstance(row.get("round_id"), int):
            raise ValueError(f"{path}: record {number} has no image_id, round_id and {' or '.join(RELEVANCES)}")
        key = (str(row["image_id"]), row["round_id"])
        if key in found:
            raise ValueError(f"{path}: round {key[1]} of image {key[0]} is rated twice")
        found[key] = tuple(map(float, values))
    return found


def listed_images(
    dialogues: Sequence[Mapping[str, Any]], folder: PathLike | None, split: str, source: PathLike
) -> list[ImageListing]:
    """The image of each dialogue: the file whose name ends in its number."""
    absent = next((number for number, dialogue in enumerate(dialogues) if "image_id" not in dialogue), None)
    if absent is not None:
        raise ValueError(f"{source}: dialogue {absent} has no image_id")
    ids = [str(dialogue["image_id"]) for dialogue in dialogues]
    files = {} if folder is None else numbered_files(Path(folder))
    return [ImageListing(image_id, files.get(image_id, f"{image_id}.jpg"), folder, split) for image_id in ids]


def numbered_files(folder: Path) -> dict[str, str]:
    """The images of a folder and of those in it, relative to it, by the number that their names end in."""
    if not folder.is_dir():
        return {}  # what is wrong with it is told where images are looked for
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found: dict[str, str] = {}
    for place in places:
        for path in sorted(place.iterdir()):
            number = NUMBERED.search(path.stem)
            if number and path.suffix.lower() in IMAGE_SUFFIXES:
                found.setdefault(str(int(number.group(1))), str(path.relative_to(folder)))
    return found


def dialogue_items(
    dialogue: Mapping[str, Any],
    image: ImageListing,
    texts: Mapping[str, Sequence[ChoiceText]],
    relevances: tuple[Mapping[tuple[str, int], tuple[float, ...]], set[tuple[str, int]]],
    source: PathLike,
) -> Iterator[ChoiceItem]:
    """The rounds of one dialogue whose candidates are given; `relevances`: all, and those that were met."""
    place = f"{source}: the dialogue on image {image.image_id}"
    caption, said = dialogue.get("caption"), dialogue.get("dialog")
    if not isinstance(caption, str) or not isinstance(said, list):
        raise ValueError(f"{place} has no caption and dialog")
    history, (rated, used) = [ChoiceText(caption)], relevances
    for number, turn in enumerate(said, start=1):
        where = f"{place}, round {number}"
        if not isinstance(turn, dict) or "question" not in turn:
            raise ValueError(f"{where} has no question")
        history.append(text_of(texts["questions"], turn["question"], where, "question"))
        options = turn.get("answer_options")
        if options is not None:
            key = (image.image_id, number)
            used.update([key] if key in rated else [])
            yield ChoiceItem(
                f"{image.image_id}-{number}",
                group=image.image_id,
                kind="round",
                image=image,
                context=tuple(history),
                candidates=tuple(text_of(texts["answers"], option, where, "candidate") for option in options),
                label=right_of(turn, options, where),
                relevance=rated.get(key, ()),
            )
        if "answer" in turn:
            history.append(text_of(texts["answers"], turn["answer"], where, "answer"))
        elif number < len(said):
            raise ValueError(f"{where} has no answer, though the dialogue goes on")


def right_of(turn: Mapping[str, Any], options: Sequence[int], where: str) -> int:
    """The place of the right answer among the candidates, `HIDDEN` where the file does not say."""
    if "gt_index" in turn:
        right = turn["gt_index"]
        if type(right) is not int or not 0 <= right < len(options):
            raise ValueError(f"{where} has the gt_index {right!r}, which names none of its {len(options)} candidates")
        if "answer" in turn and options[right] != turn["answer"]:
            raise ValueError(f"{where}: candidate {right} is not the answer that the round was given")
        return right
    if "answer" not in turn:
        return HIDDEN
    if turn["answer"] not in options:
        raise ValueError(f"{where}: the answer is not among its {len(options)} candidates")
    return options.index(turn["answer"])


def text_of(texts: Sequence[ChoiceText], number: Any, where: str, what: str) -> ChoiceText:
    """A question or answer by its number."""
    if type(number) is not int or not 0 <= number < len(texts):
        raise ValueError(f"{where}: the {what} is number {number!r}, but the file has {len(texts)} of them")
    return texts[number]
