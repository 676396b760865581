"""The words of multiple choice as a model reads them: contexts that fit, candidates, and what words carry.

    EncodedTexts --context_of--> [CLS] text [SEP] text, with each token's objects --padded_tokens--> (N, T)
    --candidate_of--> [SEP] candidate [SEP]        objects --object_regions--> regions --linked_regions--> (N, T, K)

The separator before a candidate is the candidate's own, since UNITER gives it the candidate's token type. Training
(`training/tasks/multiple_choice.py`) and `pipeline_multiple_choice.py` both lay out their texts so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .boxes_updown import pairwise_iou

NO_REGION = -1
QUESTION, ANSWER, RATIONALE = 0, 2, 3  # UNITER's token types; 1 is that of regions
KIND_TYPES = {"answer": ANSWER, "rationale": RATIONALE, "round": ANSWER}


@dataclass
class Tokens:
    """Token ids (T,), the objects that each carries, T lists, and the token types (T,)."""

    ids: list[int]
    objects: list[list[int]]
    kinds: list[int]

    def add(self, ids: Sequence[int], objects: Sequence[Sequence[int]], *, kind: int) -> None:
        self.ids += ids
        self.objects += [list(own) for own in objects]
        self.kinds += [kind] * len(ids)


@dataclass
class EncodedTexts:
    """Token ids of all texts one after the other, where each begins (one more than there are texts), and the objects
    that the tokens of some texts carry."""

    ids: np.ndarray
    starts: np.ndarray
    links: dict[int, list[list[int]]]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Of each text, in tokens."""
        return np.diff(self.starts)

    def tokens_of(self, number: int) -> tuple[list[int], list[list[int]]]:
        """A text's token ids, and the objects that each carries."""
        ids = self.ids[self.starts[number] : self.starts[number + 1]].tolist()
        return ids, self.links.get(number, [[] for _ in ids])


def context_room(text_config: Any, lengths: np.ndarray, *, padding: int | None, asked: int = 0) -> int:
    """How many tokens of a context are read: `asked`, or as many as fit beside the longest candidate.

    lengths: of candidates in tokens; padding: the position of the text encoder's padding, before which it has no word's
    (`compat_updown.padding_position`); asked: 0 for as many as fit. Raises `ValueError` where not two fit.
    """
    most = getattr(text_config, "max_position_embeddings", None)
    if most is None:
        return asked or 2**31
    fits = most - (0 if padding is None else padding + 1) - int(lengths.max()) - 2
    if fits < 2:
        raise ValueError(
            f"the longest candidate has {lengths.max()} word pieces, and the text encoder reads {most}: shorten it (in "
            "a recipe, set train.max_words to fewer)"
        )
    return min(asked or fits, fits)


def kept_context(context: Sequence[int], lengths: np.ndarray, *, kind: str, longest: int) -> list[int]:
    """The texts of a context that fit into `longest` tokens, each with its separator; lengths: of all texts.

    A dialogue, its caption, then questions and answers in turn, loses its oldest rounds, then its caption; any other
    context its first texts. The last text stays, whatever its length.

    >>> kept_context([0, 1, 2, 3], np.array([4, 2, 2, 3]), kind="round", longest=10)
    [0, 3]
    """
    kept = list(context)
    while len(kept) > 1 and sum(int(lengths[number]) + 1 for number in kept) > longest:
        if kind == "round" and len(kept) > 3:
            del kept[1:3]
        else:
            del kept[0]
    return kept


def context_of(
    context: Sequence[int], texts: EncodedTexts, *, kind: str, longest: int, special: tuple[int, int]
) -> Tokens:
    """[CLS] and the texts of a context that fit, a separator between them; special: the ids of [CLS] and [SEP].

    A last text that is too long by itself loses its end.
    """
    begin, separator = special
    tokens = Tokens([begin], [[]], [QUESTION])
    for place, number in enumerate(kept_context(context, texts.lengths, kind=kind, longest=longest)):
        own = ANSWER if place and kind == "rationale" else QUESTION
        ids, objects = texts.tokens_of(number)
        if place:
            ids, objects = [separator, *ids], [[], *objects]
        tokens.add(ids, objects, kind=own)
    for part in (tokens.ids, tokens.objects, tokens.kinds):
        del part[max(longest, 1) :]
    return tokens


def candidate_of(number: int, texts: EncodedTexts, *, kind: str, separator: int) -> Tokens:
    """[SEP] candidate [SEP]."""
    ids, objects = texts.tokens_of(number)
    tokens = Tokens([], [], [])
    tokens.add([separator, *ids, separator], [[], *objects, []], kind=KIND_TYPES[kind])
    return tokens


def padded_tokens(rows: Sequence[Tokens], *, padding: int) -> dict[str, torch.Tensor]:
    """Tokens of N texts -> `ids`, `mask` and `kinds` (N, T)."""
    most = max((len(row.ids) for row in rows), default=0)
    ids = torch.full((len(rows), most), padding, dtype=torch.long)
    kinds, mask = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        kinds[place, : len(row.ids)] = torch.tensor(row.kinds)
        mask[place, : len(row.ids)] = True
    return {"ids": ids, "mask": mask, "kinds": kinds}


def linked_regions(rows: Sequence[Tokens], regions: Sequence[Sequence[int]], *, length: int) -> torch.Tensor:
    """The regions that each token of N texts carries, (N, length, K), -1 for none.

    regions: of each text, the region of each object of its image, -1 for one that no region covers.
    """
    own = [
        [[known[number] for number in objects if known[number] != NO_REGION] for objects in row.objects]
        for row, known in zip(rows, regions, strict=True)
    ]
    most = max((len(found) for row in own for found in row), default=0)
    links = torch.full((len(rows), length, most), NO_REGION, dtype=torch.long)
    for place, row in enumerate(own):
        for word, found in enumerate(row):
            links[place, word, : len(found)] = torch.tensor(found, dtype=torch.long)
    return links


def object_regions(
    boxes: Sequence[Sequence[Sequence[float]]], regions: dict[str, torch.Tensor], owners: np.ndarray
) -> list[list[int]]:
    """The region of each object of N items: the one that covers it best by IoU, -1 where none touches it.

    boxes: of each item, xyxy in 0..1; regions: `region_boxes` (P, R, 4) and `region_mask` of their images.
    """
    found: list[list[int]] = []
    for own, owner in zip(boxes, owners.tolist(), strict=True):
        if not own:
            found.append([])
            continue
        overlaps = pairwise_iou(torch.tensor(own), regions["region_boxes"][owner].float())  # (M, R)
        if "region_mask" in regions:
            overlaps = overlaps.masked_fill(~regions["region_mask"][owner], 0)
        best = overlaps.max(dim=1)
        found.append(best.indices.masked_fill(best.values <= 0, -1).tolist())
    return found
