"""Words that carry regions: "why is [person1] smiling?" and which regions person1 is -> links of tokens to regions.

    text + tags --plain_text--> words without brackets, with the characters that carry regions
    characters of tokens + these --word_links--> (T, K) region numbers, -1 for none: `word_regions` of a model

After R2C and VL-BERT (Zellers et al. 2019, Su et al. 2020), where a word of VCR stands for an object with a box.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

TAG = re.compile(r"\[(\w+)\]")
NO_REGION = -1


class RegionLink(NamedTuple):
    """Characters `start` to `end` of a text, and the numbers of the regions that they carry."""

    start: int
    end: int
    regions: tuple[int, ...]


def plain_text(text: str, tags: Mapping[str, Sequence[int]]) -> tuple[str, list[RegionLink]]:
    """A text whose tags stand in brackets -> the text without brackets, and what its tags carry.

    Args:
        text: "why does [person1] look at [cup2]?"
        tags: of each tag the regions that it names, one or several ("two": [0, 3]).

    Raises:
        ValueError: for a tag that names no region.

    >>> plain_text("is [person1] here?", {"person1": [2]})
    ('is person1 here?', [RegionLink(start=3, end=10, regions=(2,))])
    """
    found, links, last = "", [], 0
    for match in TAG.finditer(text):
        tag = match.group(1)
        regions = tuple(tags.get(tag, ()))
        if not regions:
            known = ", ".join(f"[{name}]" for name in tags) or "none"
            raise ValueError(f"the text has the tag [{tag}], which names no region; its regions have the tags {known}")
        found += text[last : match.start()]
        links.append(RegionLink(len(found), len(found) + len(tag), regions))
        found, last = found + tag, match.end()
    return found + text[last:], links


def word_links(offsets: Sequence[tuple[int, int]], links: Sequence[RegionLink]) -> list[list[int]]:
    """The regions of each token, -1 where it has fewer than another; [] a token where none of them has any.

    Args:
        offsets: the characters of each token, (0, 0) of special ones, as a fast tokenizer gives them.
        links: of the same text.

    >>> word_links([(0, 0), (0, 2), (3, 9), (9, 10), (0, 0)], [RegionLink(3, 10, (2, 5))])
    [[-1, -1], [-1, -1], [2, 5], [2, 5], [-1, -1]]
    """
    own = [
        [region for link in links if start < link.end and link.start < end for region in link.regions]
        for start, end in offsets
    ]
    most = max(map(len, own), default=0)
    return [regions + [NO_REGION] * (most - len(regions)) for regions in own]


def padded_links(texts: Sequence[Sequence[Sequence[int]]], *, length: int, left: bool = False) -> list[list[list[int]]]:
    """Links of N texts' tokens (T_i, K_i) -> (N, length, K), -1 on padding; left: the side that texts are padded on.

    >>> padded_links([[[3]], [[0, 1], [2, -1]]], length=2)
    [[[3, -1], [-1, -1]], [[0, 1], [2, -1]]]
    """
    most = max((len(regions) for words in texts for regions in words), default=0)
    nothing = [NO_REGION] * most
    made = []
    for words in texts:
        own = [[*regions, *nothing[len(regions) :]] for regions in words]
        padding = [nothing] * (length - len(own))
        made.append([*padding, *own] if left else [*own, *padding])
    return made
