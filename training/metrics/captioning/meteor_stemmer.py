"""The English stemmer of METEOR: Snowball's "english" (Porter2), as the release of METEOR 1.5 has it.

    >>> [english_stem(word) for word in ("running", "ponies", "skis", "generously", "cat")]
    ['run', 'poni', 'ski', 'generous', 'cat']

Source: the algorithm's description, snowballstem.org/algorithms/english/stemmer.html; later releases of Snowball
changed some words, this one has the rules of 2010. R1 and R2 are the parts of a word after its first, and its second,
consonant that follows a vowel.
"""

import re
from functools import lru_cache

VOWELS = frozenset("aeiouy")
NOT_AFTER_SHORT_VOWEL = VOWELS | frozenset("wxY")
SPECIAL_STEMS = {
    "skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl", "gently": "gentl",
    "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl",
} | {word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")}  # fmt: skip
UNCHANGED_AFTER_PLURALS = {"inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"}
FIRST_REGION_AFTER = ("gener", "commun", "arsen")
REGION = re.compile(r"[aeiouy][^aeiouy]")
Y_AFTER_VOWEL = re.compile(r"([aeiouy])y")
DOUBLES = ("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")
APOSTROPHES = ("'", "'s", "'s'")
LI_ENDINGS = frozenset("cdeghkmnrt")
# Endings in R1 and what replaces them; the longest that a word ends in counts alone.
DERIVATIONS = {
    "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able", "entli": "ent", "izer": "ize", "ization": "ize",
    "ational": "ate", "ation": "ate", "ator": "ate", "alism": "al", "aliti": "al", "alli": "al", "fulness": "ful",
    "ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive", "biliti": "ble", "bli": "ble", "ogi": "og",
    "fulli": "ful", "lessli": "less", "li": "",
}  # fmt: skip
QUALITIES = {
    "tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic", "ful": "",
    "ness": "", "ative": "",
}  # fmt: skip
# Endings that fall off in R2.
SUFFIXES = ("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ism", "ate", "iti", "ous",
            "ive", "ize", "ion")  # fmt: skip


@lru_cache(maxsize=2**16)
def english_stem(word: str) -> str:
    """The Porter2 stem of a lower-case word; words of one or two letters are their own stem."""
    if word in SPECIAL_STEMS:
        return SPECIAL_STEMS[word]
    if len(word) < 3:
        return word
    word = word.removeprefix("'")
    word = Y_AFTER_VOWEL.sub(r"\1Y", "Y" + word[1:] if word[0] == "y" else word)
    first, second = _regions(word)
    word = _without_plural(word[: len(word) - len(_longest_ending(word, APOSTROPHES))])
    if word not in UNCHANGED_AFTER_PLURALS:
        word = _without_verb_ending(word, first)
        if len(word) > 2 and word[-1] in "yY" and word[-2] not in VOWELS:
            word = word[:-1] + "i"
        word = _replaced(word, DERIVATIONS, first, second)
        word = _replaced(word, QUALITIES, first, second)
        word = _without_suffix(word, second)
        word = _without_last_letter(word, first, second)
    return word.replace("Y", "y")


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 begin."""
    prefix = next((prefix for prefix in FIRST_REGION_AFTER if word.startswith(prefix)), None)
    found = None if prefix else REGION.search(word)
    first = len(prefix) if prefix else found.end() if found else len(word)
    found = REGION.search(word, first)
    return first, found.end() if found else len(word)


def _without_plural(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _has_vowel(word[:-2]):
        return word[:-1]
    return word


def _without_verb_ending(word: str, first: int) -> str:
    ending = _longest_ending(word, ("eed", "eedly", "ed", "edly", "ing", "ingly"))
    stem = word[: len(word) - len(ending)]
    if ending.startswith("eed"):
        return stem + "ee" if len(stem) >= first else word
    if not ending or not _has_vowel(stem):
        return word
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem.endswith(DOUBLES):
        return stem[:-1]
    return stem + "e" if len(stem) == first and _ends_in_short_syllable(stem) else stem


def _replaced(word: str, rules: dict[str, str], first: int, second: int) -> str:
    """The word with its longest ending of the rules replaced, if that ending is in R1 and stands after fit letters."""
    ending = _longest_ending(word, tuple(rules))
    stem = word[: len(word) - len(ending)]
    unfit = (
        not ending
        or len(stem) < first
        or (ending == "ogi" and not stem.endswith("l"))
        or (ending == "li" and stem[-1:] not in LI_ENDINGS)
        or (ending == "ative" and len(stem) < second)
    )
    return word if unfit else stem + rules[ending]


def _without_suffix(word: str, second: int) -> str:
    ending = _longest_ending(word, SUFFIXES)
    stem = word[: len(word) - len(ending)]
    kept = not ending or len(stem) < second or (ending == "ion" and not stem.endswith(("s", "t")))
    return word if kept else stem


def _without_last_letter(word: str, first: int, second: int) -> str:
    stem = word[:-1]
    if word.endswith("e"):
        dropped = len(stem) >= second or (len(stem) >= first and not _ends_in_short_syllable(stem))
    else:
        dropped = word.endswith("ll") and len(stem) >= second
    return stem if dropped else word


def _longest_ending(word: str, endings: tuple[str, ...]) -> str:
    """The longest of the endings that the word ends in, or ''."""
    return max((ending for ending in endings if word.endswith(ending)), key=len, default="")


def _has_vowel(part: str) -> bool:
    return not VOWELS.isdisjoint(part)


def _ends_in_short_syllable(stem: str) -> bool:
    """Whether it ends in consonant, vowel, consonant other than w, x and Y, or is a vowel and a consonant."""
    if len(stem) == 2:
        return stem[0] in VOWELS and stem[1] not in VOWELS
    return len(stem) > 2 and stem[-1] not in NOT_AFTER_SHORT_VOWEL and stem[-2] in VOWELS and stem[-3] not in VOWELS
