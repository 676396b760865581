"""The texts of multiple choice, a third of a million in VisDial, as token ids: each is read by the tokenizer once.

ChoiceData.texts --encoded_texts--> EncodedTexts, of which `choice_words_updown` makes contexts and candidates
"""

from typing import Any

import numpy as np
from datasets import Dataset

from modeling_updown.choice_words_updown import EncodedTexts
from processors.region_links_updown import NO_REGION, RegionLink, word_links

TEXTS_AT_ONCE = 10_000


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
