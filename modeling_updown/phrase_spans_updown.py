"""Phrases of a sentence as characters, and as the tokens that a grounding model reads.

"the dog" in "a boy and the dog" --phrase_places--> characters 10 to 17 --token_spans--> tokens (4, 6)
"""

from collections.abc import Sequence

Span = tuple[int, int]
NO_SPAN = (-1, -1)


def phrase_places(text: str, phrases: Sequence[str | Span]) -> list[Span]:
    """Where phrases stand in a text: of each its first character and the one after its last.

    A phrase is looked for after the one before it, else from the start, in capitals or not, and whole words come first.
    Characters may be given as they are. Raises `ValueError` for a phrase that is empty or not in the text.

    >>> phrase_places("The dog and the dog", ["the dog", "the dog", (4, 7)])
    [(0, 7), (12, 19), (4, 7)]
    """
    found: list[Span] = []
    last = 0
    for phrase in phrases:
        if not isinstance(phrase, str):
            start, end = phrase
            if not 0 <= start < end <= len(text):
                raise ValueError(f"the characters {start} to {end} are none of {text!r}, which has {len(text)}")
        else:
            words = phrase.strip()
            if not words:
                raise ValueError(f"a phrase of {text!r} is empty: give words of the text")
            start = next((place for place in places_of(words, text, last)), -1)
            if start < 0:
                raise ValueError(f"the phrase {words!r} is not in {text!r}: give words of the text as they stand there")
            end = start + len(words)
        found.append((start, end))
        last = end
    return found


def places_of(words: str, text: str, last: int) -> list[int]:
    """Where words stand in a text, the best place first: whole words before parts of some, after `last` before it.

    >>> places_of("man", "a woman and a man", 0)
    [14, 4]
    """
    lower, wanted, places = text.lower(), words.lower(), []
    place = lower.find(wanted)
    while place >= 0:
        around = lower[place - 1 : place] + lower[place + len(wanted) : place + len(wanted) + 1]
        places.append((any(letter.isalnum() for letter in around), place < last, place))
        place = lower.find(wanted, place + 1)
    return [place for *_, place in sorted(places)]


def token_spans(offsets: Sequence[Span], places: Sequence[Span]) -> list[Span]:
    """The tokens of each phrase, the first and the one after the last; (-1, -1) where the text was cut before it.

    offsets: of each token its characters, as a fast tokenizer has them; special tokens have none, (0, 0). places: of
    `phrase_places`.

    >>> token_spans([(0, 0), (0, 3), (4, 6), (6, 7), (0, 0)], [(4, 7), (9, 12)])
    [(2, 4), (-1, -1)]
    """
    spans = []
    for start, end in places:
        inside = [i for i, (first, last) in enumerate(offsets) if first < last and first < end and last > start]
        spans.append((inside[0], inside[-1] + 1) if inside else NO_SPAN)
    return spans
