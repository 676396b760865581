"""A METEOR of a few words: the files of its data in a folder, and its search written the slow way.

`write_meteor` writes an archive and a table of paraphrases with the real names and layouts. `slow_statistics` scores a
caption against one reference, word by word and path by path, as the program's description says.
"""

import gzip
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FUNCTION_WORDS = ("a", "the", "in", "of")
SYNSETS = {"car": "11", "auto": "11 12", "truck": "12", "run": "20", "flow": "20", "mouse": "30", "rodent": "30"}
EXCEPTIONS = {"run": "ran", "mouse": "mice"}  # base form -> irregular forms
PARAPHRASES = (
    ("big", "large"),
    ("big", "very large"),
    ("in front", "before"),
    ("in front of", "before"),
    ("in front of the", "before"),
    ("large", "big"),
    ("of the", "the"),
    ("the car", "it"),
    ("the man", "he"),
)
VOCABULARY = (
    *("a", "the", "in", "of", "front", "before", "big", "large", "very", "car", "cars", "auto", "truck", "man", "men"),
    *("he", "it", "run", "runs", "running", "ran", "flow", "mice", "rodent", "as", "c5"),
)


def write_meteor(folder: Path, paraphrases: Sequence[tuple[str, str]] = PARAPHRASES) -> Path:
    """METEOR's data of these words in a folder."""
    with zipfile.ZipFile(folder / "meteor-1.5.jar", "w") as archive:
        archive.writestr("function/english.words", "".join(f"{word}\n" for word in FUNCTION_WORDS))
        archive.writestr("nonbreaking/english.prefixes", "#any\nrev\n\npp #NUMERIC_ONLY#\n")
        archive.writestr("synonym/english.synsets", "".join(f"{word}\n{ids}\n" for word, ids in SYNSETS.items()))
        forms = "".join(f"{base}\n{irregular}\n" for base, irregular in EXCEPTIONS.items())
        archive.writestr("synonym/english.exceptions", forms)
    (folder / "data").mkdir()
    lines = "".join(f"0.5\n{phrase}\n{paraphrase}\n" for phrase, paraphrase in paraphrases)
    (folder / "data/paraphrase-en.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


class Match(NamedTuple):
    start: int
    length: int
    caption_start: int
    caption_length: int
    stage: int


STEMS = {"cars": "car", "runs": "run", "running": "run"}
COLLISIONS = {"c5": "as"}  # these two have the same hash in Java
SENSES: Mapping[str, set[str]] = {
    **{word: set(ids.split()) for word, ids in SYNSETS.items()},
    "cars": {"11"},
    "runs": {"20"},
    "ran": {"20"},
    "mice": {"30"},
}


def slow_matches(caption: Sequence[str], reference: Sequence[str]) -> list[list[Match]]:
    """For each word of the reference the matches that start there, in the program's order."""
    found: list[list[Match]] = [[] for _ in reference]
    same = [[COLLISIONS.get(a, a) == COLLISIONS.get(b, b) for a in caption] for b in reference]
    identical = len(caption) == len(reference) and all(same[i][i] for i in range(len(caption)))
    for stage in range(1 if identical else 3):
        for j, b in enumerate(reference):
            for i, a in enumerate(caption):
                stems = STEMS.get(a, a) == STEMS.get(b, b) or same[j][i]
                senses = SENSES.get(a, set()) & SENSES.get(b, set())
                if same[j][i] if stage == 0 else (stems if stage == 1 else senses) and not same[j][i]:
                    found[j].append(Match(j, 1, i, 1, stage))
    if identical:
        return found
    for j in range(len(reference)):
        for length, phrase in phrases_at(reference, j):
            for i in places(phrase, caption):
                found[j].append(Match(j, length, i, len(phrase), 3))
    for i in range(len(caption)):
        for length, phrase in phrases_at(caption, i):
            for j in places(phrase, reference):
                found[j].append(Match(j, len(phrase), i, length, 3))
    return found


def phrases_at(words: Sequence[str], start: int) -> list[tuple[int, list[str]]]:
    """(length, paraphrase) of each phrase of the table that starts there, shorter ones first."""
    return [
        (length, paraphrase.split())
        for length in range(1, len(words) - start + 1)
        for phrase, paraphrase in PARAPHRASES
        if phrase.split() == list(words[start : start + length])
    ]


def places(phrase: Sequence[str], words: Sequence[str]) -> list[int]:
    """Where the words hold the phrase."""
    return [i for i in range(len(words)) if list(words[i : i + len(phrase)]) == list(phrase)]


class SearchPath:
    """One path of the search; `used` holds the caption's matched words."""

    def __init__(self, other: Any = None) -> None:
        self.matches: list[Match] = list(other.matches) if other else []
        self.used: set[int] = set(other.used) if other else set()
        self.gain, self.chunks, self.distance = (other.gain, other.chunks, other.distance) if other else (0, 0, 0)
        self.next, self.end = (other.next, other.end) if other else (0, -1)

    def rank(self) -> tuple[int, int, int]:
        return -self.gain, self.chunks, self.distance

    def take(self, match: Match) -> None:
        weight = 1 if match.stage == 0 else 0.5
        self.gain += int(match.length * weight) + int(match.caption_length * weight)
        self.chunks += self.end not in (-1, match.caption_start)
        self.used |= {match.caption_start + k for k in range(match.caption_length)}
        self.next, self.end = match.start + match.length, match.caption_start + match.caption_length
        self.matches.append(match)


def slow_alignment(matches: Sequence[Sequence[Match]], *, beam: int = 40) -> list[Match]:
    """The matches of the best path."""
    everything = [match for here in matches for match in here]
    fixed = {match.start: match for match in everything if not any(overlap(match, m) for m in everything)}
    paths = [SearchPath()]
    for word, here in enumerate(matches):
        following = []
        for path in sorted(paths, key=SearchPath.rank)[:beam]:
            if path.next > word:
                following.append(path)
                continue
            if word in fixed:
                path.take(fixed[word])
                path.distance += abs(fixed[word].start - fixed[word].caption_start)
                following.append(path)
                continue
            for match in here:
                if path.used.isdisjoint(range(match.caption_start, match.caption_start + match.caption_length)):
                    branch = SearchPath(path)
                    branch.take(match)
                    path.distance += abs(match.start - match.caption_start)
                    following.append(branch)
            path.chunks += path.end != -1
            path.end, path.next = -1, word + 1
            following.append(path)
        paths = following
    paths = sorted(paths, key=SearchPath.rank)[:beam]
    for path in paths:
        path.chunks += path.end != -1
    return sorted(paths, key=SearchPath.rank)[0].matches


def overlap(one: Match, other: Match) -> bool:
    """Whether two different matches share a word on either side."""
    if one is other:
        return False
    return bool(
        set(range(one.start, one.start + one.length)) & set(range(other.start, other.start + other.length))
        or set(range(one.caption_start, one.caption_start + one.caption_length))
        & set(range(other.caption_start, other.caption_start + other.caption_length))
    )


def slow_statistics(caption: Sequence[str], reference: Sequence[str]) -> list[int]:
    """The 23 statistics of a caption and one reference."""
    chosen = slow_alignment(slow_matches(caption, reference))
    is_function = [[word in FUNCTION_WORDS for word in words] for words in (caption, reference)]
    table = [[0] * 4 for _ in range(4)]
    for match in chosen:
        spans = (match.caption_start, match.caption_length), (match.start, match.length)
        for side, (start, length) in enumerate(spans):
            for place in range(start, start + length):
                table[match.stage][2 * is_function[side][place] + side] += 1
    chunks = 0
    for k, match in enumerate(chosen):
        before = chosen[k - 1] if k else None
        ends = before and (before.start + before.length, before.caption_start + before.caption_length)
        chunks += ends != (match.start, match.caption_start)
    matched = [sum(m.caption_length for m in chosen), sum(m.length for m in chosen)]
    sizes = [len(caption), len(reference), *map(sum, is_function)]
    return [*sizes, *(number for row in table for number in row), chunks, *matched]
