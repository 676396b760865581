"""OCR words of images -> the arguments of a model that reads them: texts as pieces and bytes, boxes, mask.

One word is a mapping with `text` and `box`, xyxy in 0..1 of the image's width and height, and, where a model reads it,
`feature` (D,), its region's, and `score` in 0..1; other keys are ignored. Words of an image stand in reading order.
`split_lines` takes lines of several words apart, `kept_words` says which words a model is given.

OCR engine or data set --words--> split_lines --> kept_words --> ocr_inputs --> arguments of `UpDownForTextReading`
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .word_spaces_updown import line_words
from .words_updown import fault_of, most_confident, moved_inside, word_of_row

MOST_WORDS = 50  # of an image, as M4C has it
MOST_PIECES = 8  # of a word; what follows is cut
MOST_BYTES = 32  # of a word in UTF-8
MOST_CHARACTERS = 200  # of a word that is taken apart into pieces

Words = Sequence[Mapping[str, Any]]


def kept_words(words: Words, *, most: int = MOST_WORDS) -> list[dict[str, Any]]:
    """The words of one image that a model is given: those with a text and a box inside the image, in their order.

    Texts are cleaned and boxes cut to the image as `words_updown` does it. Of more words than `most`, the most
    confident are read (of equal scores, or of none, the first), with a warning.

    Raises:
        ValueError: as `word_of_row`.

    >>> kept_words([{"text": " STOP ", "box": [-0.1, 0, 0.5, 1]}, {"text": "", "box": [0, 0, 1, 1]}])
    [{'text': 'STOP', 'box': [0.0, 0.0, 0.5, 1.0]}]
    """
    kept, scores = [], []
    for number, row in enumerate(words):
        word = word_of_row(row, number=number)
        if not fault_of(word):
            inside = moved_inside(word)
            kept.append({**row, "text": inside.text, "box": list(inside.box)})
            scores.append(inside.score)
    if len(kept) > most:
        told = "the most confident" if len(set(scores)) > 1 else "the first"
        warnings.warn(f"an image has {len(kept)} OCR words, of which {told} {most} are read", stacklevel=2)
    return [kept[place] for place in most_confident(scores, most)]


def split_lines(words: Words) -> list[dict[str, Any]]:
    """The same words, but in place of every line of several words these, each with its part of the line's box.

    Whatever else is said of a line, such as its `feature`, holds of each of its words. Raises `ValueError` as
    `word_of_row`.

    >>> [(word["text"], word["box"]) for word in split_lines([{"text": "go on", "box": [0, 0, 1, 1]}])]
    [('go', [0.0, 0.0, 0.4, 1.0]), ('on', [0.6, 0.0, 1.0, 1.0])]
    """
    made: list[dict[str, Any]] = []
    for number, row in enumerate(words):
        word = word_of_row(row, number=number)
        if len(word.text.split()) < 2:
            made.append(dict(row))
        else:
            made += [{**row, "text": part.text, "box": list(part.box)} for part in line_words(word)]
    return made


def ocr_inputs(images: Sequence[Words], tokenizer: Any) -> dict[str, torch.Tensor]:
    """The OCR words of P images, as `kept_words` has them, as arguments of a model; {} where no image has any.

    Args:
        images: the words of each image.
        tokenizer: that of the model's text encoder, which takes words apart.

    Returns:
        `ocr_boxes` (P, W, 4) float32; `ocr_mask` (P, W) bool, True = a word; `ocr_input_ids` (P, W, K), the pieces of
        each word without special tokens, filled with the padding token, K at most 8; `ocr_characters` (P, W, C), the
        bytes of each word in UTF-8 plus 1, filled with 0, C at most 32; where the words have features `ocr_features`
        (P, W, D) float32. W, K and C are the most of the batch.

    Raises:
        ValueError: where some words have a feature and others none.
    """
    count = max(map(len, images), default=0)
    if not count:
        return {}
    padding = tokenizer.pad_token_id
    texts = [word["text"] for words in images for word in words]
    read = [text[:MOST_CHARACTERS] for text in texts]
    pieces = [ids[:MOST_PIECES] for ids in tokenizer(read, add_special_tokens=False)["input_ids"]]
    codes = [[byte + 1 for byte in text.encode("utf-8")[:MOST_BYTES]] for text in texts]
    boxes = torch.zeros(len(images), count, 4)
    mask = torch.arange(count) < torch.tensor([len(words) for words in images])[:, None]  # (P, W)
    boxes[mask] = torch.tensor([word["box"] for words in images for word in words], dtype=torch.float32)
    inputs = {
        "ocr_boxes": boxes,
        "ocr_mask": mask,
        "ocr_input_ids": padded(pieces, mask, filling=padding),
        "ocr_characters": padded(codes, mask, filling=0),
    }
    features = [word.get("feature") for words in images for word in words]
    if any(feature is not None for feature in features):
        if any(feature is None for feature in features):
            raise ValueError(
                "some OCR words have a feature and others none: give the feature of every word, or of none"
            )
        own = torch.stack([torch.as_tensor(feature, dtype=torch.float32) for feature in features])
        inputs["ocr_features"] = torch.zeros(*mask.shape, own.shape[-1])
        inputs["ocr_features"][mask] = own
    return inputs


def padded(rows: Sequence[Sequence[int]], mask: torch.Tensor, *, filling: int) -> torch.Tensor:
    """The numbers of each word where mask (P, W) is True, in order, as (P, W, K), `filling` elsewhere; K is 1 or more.

    >>> padded([[7, 8], [9]], torch.tensor([[True, True], [False, False]]), filling=0).tolist()
    [[[7, 8], [9, 0]], [[0, 0], [0, 0]]]
    """
    longest = max(1, max(map(len, rows)))
    whole = torch.full((*mask.shape, longest), filling)
    whole[mask] = torch.tensor([[*row, *[filling] * (longest - len(row))] for row in rows])
    return whole


def split_words(regions: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The regions of one image, of which some carry a text: the objects among them, and the words.

    regions: as `region_batching_updown` has them, R rows with `region_texts`. The objects have the same names, without
    `region_texts`; words are as `kept_words` takes them, with their `feature`, and their `score` where there is one.

    >>> regions = {"region_features": torch.zeros(2, 3), "region_boxes": torch.tensor([[0, 0, 1, 1], [0, 0, 0.5, 1]])}
    >>> objects, [word] = split_words({**regions, "region_texts": ["", "STOP"]})
    >>> len(objects["region_boxes"]), word["text"], word["box"]
    (1, 'STOP', [0.0, 0.0, 0.5, 1.0])
    """
    texts = regions.get("region_texts")
    if texts is None:
        return dict(regions), []
    rows = [row for row, text in enumerate(texts) if text.strip()]
    others = [row for row, text in enumerate(texts) if not text.strip()]
    scores = regions.get("region_scores")
    words = []
    for row in rows:
        box = [float(corner) for corner in regions["region_boxes"][row]]
        word = {"text": texts[row], "box": box, "feature": regions["region_features"][row]}
        words.append(word if scores is None else {**word, "score": float(scores[row])})
    objects = {name: rows_of(values, others) for name, values in regions.items() if name != "region_texts"}
    return objects, words


def rows_of(values: Any, rows: Sequence[int]) -> Any:
    """Those rows of an array or tensor; what has none, such as a clip's id, as it is."""
    return values[list(rows)] if getattr(values, "ndim", 0) else values
