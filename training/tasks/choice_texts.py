"""The texts of multiple choice as token ids, and contexts of them that fit a text encoder.

    ChoiceData.texts --encoded_texts--> EncodedTexts --context_of--> [CLS] text [SEP] text, with each token's objects

The separator before a candidate is the candidate's own, since UNITER gives it the candidate's token type.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from processors.region_links_updown import NO_REGION, RegionLink, word_links

TEXTS_AT_ONCE = 10_000
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


def encoded_texts(texts: Dataset, tokenizer: Any, *, max_words: int) -> EncodedTexts:
    """The texts of `TEXT_FEATURES` as token ids without special ones, each cut to `max_words`.

    A text without a word is the tokenizer's unknown word.
    """
    ids: list[np.ndarray] = []
    links: dict[int, list[list[int]]] = {}
    number = 0
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = texts[start : start + TEXTS_AT_ONCE]
        asked = any(batch["links"])
        options: Any = {"add_special_tokens": False, "truncation": True, "max_length": max_words}
        tokens = tokenizer(batch["text"], return_offsets_mapping=asked, **options)
        for place, own in enumerate(tokens["input_ids"]):
            ids.append(np.array(own or [tokenizer.unk_token_id], dtype=np.int32))
            if batch["links"][place]:
                spans = [RegionLink(one["start"], one["end"], tuple(one["objects"])) for one in batch["links"][place]]
                links[number] = [
                    [known for known in found if known != NO_REGION]
                    for found in word_links(tokens["offset_mapping"][place], spans)
                ]
            number += 1
    starts = np.concatenate([[0], np.cumsum([len(own) for own in ids], dtype=np.int64)])
    return EncodedTexts(np.concatenate(ids) if ids else np.zeros(0, dtype=np.int32), starts, links)


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
