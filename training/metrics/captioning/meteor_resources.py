"""What METEOR reads: the words, stems and synonyms of English, and the table of paraphrases.

    folder --MeteorResources.find--> MeteorResources: function words, word --senses--> synsets, paraphrases
    tokenised caption --meteor_words--> METEOR's words

Nothing is downloaded or executed: `meteor-1.5.jar` (an archive of data beside its program) and
`data/paraphrase-en.gz` are read where `pip install pycocoevalcap` put them, or from the folder of METEOR_FOLDER.
"""

import os
import re
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from .meteor_paraphrases import Paraphrases
from .spice import ENDINGS, Synonyms

FOLDER_VARIABLE = "METEOR_FOLDER"
JAR, TABLE = Path("meteor-1.5.jar"), Path("data/paraphrase-en.gz")
FUNCTION_WORDS, PREFIXES = "function/english.words", "nonbreaking/english.prefixes"
BEFORE_NUMBERS = "#NUMERIC_ONLY#"
CURE = (
    f"pip install pycocoevalcap, which contains METEOR's data, or set {FOLDER_VARIABLE} to the folder that holds "
    f"{JAR} and {TABLE}"
)

LETTERS = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ"
PLAIN = re.compile("[0-9A-Za-z ]*")
DOTS = re.compile(r"(\.\.+)")
LETTER = re.compile(f"[{LETTERS}]")
# What METEOR's normaliser replaces, in its order.
SYMBOL = (re.compile(rf"([^0-9{LETTERS}\s.'`,\-‘’])", re.ASCII), r" \1 ")
REPLACEMENTS = (
    (re.compile("([^0-9]),([^0-9])"), r"\1 , \2"),
    (re.compile("([0-9]),([^0-9])"), r"\1 , \2"),
    (re.compile("([^0-9]),([0-9])"), r"\1 , \2"),
    (re.compile("[`‘’]"), "'"),
    (re.compile("[“”]|''"), ' " '),
    (re.compile("–"), "-"),
    (re.compile("--"), "-"),
    (re.compile(rf"([0-9{LETTERS}.])-([0-9{LETTERS}])"), r"\1 \2"),
    (re.compile(f"([^{LETTERS}])'([^{LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([^0-9{LETTERS}])'([{LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([{LETTERS}])'([^{LETTERS}])"), r"\1 ' \2"),
    (re.compile(f"([{LETTERS}])'([{LETTERS}])"), r"\1 '\2"),
    (re.compile("([0-9])'(s)"), r"\1 '\2"),
)
JAVA_SPACES = re.compile(r"[ \t\n\r\f]+")
UNICODE_SPACES = re.compile("[ \u2000-\u200a\u202f\u205f\u3000\u00a0]+")
TRIMMED = "".join(map(chr, range(33)))  # what Java's `String.trim` takes away


class MeteorResources:
    """METEOR's English data.

    Args:
        function_words: words that count less than others.
        prefixes: what a dot belongs to -> whether only before a number.
        synonyms: WordNet's synsets of words.
        paraphrases: pairs of phrases.
    """

    def __init__(
        self,
        function_words: frozenset[str],
        prefixes: Mapping[str, bool],
        synonyms: Synonyms,
        paraphrases: Paraphrases,
    ) -> None:
        self.function_words, self.prefixes = function_words, prefixes
        self.synonyms, self.paraphrases = synonyms, paraphrases

    @classmethod
    def find(cls, folder: str | Path | None = None) -> "MeteorResources":
        """The data in `folder`, else in the folder of METEOR_FOLDER, else in the installed `pycocoevalcap`.

        Raises:
            OSError: it is in none of them; the message names the cure.
            ValueError: a file is broken.
        """
        return _read(meteor_folder(folder).resolve())

    def senses(self, word: str) -> frozenset[str]:
        """The synsets of a word and of its base form: that of irregular words, else that of the first fit ending."""
        known, bases = self.synonyms.synsets, self.synonyms.base_forms.get(word)
        if bases is None:
            if len(word) <= 2 or word.endswith("ss"):
                bases = ()
            else:
                regular = (word.removesuffix(ending) + base for ending, base in ENDINGS if word.endswith(ending))
                bases = [form for form in regular if form in known][:1]
        return frozenset().union(*(known.get(form, frozenset()) for form in (word, *bases)))


def meteor_folder(folder: str | Path | None = None) -> Path:
    """The folder with METEOR's data; see `MeteorResources.find`."""
    named = folder or os.environ.get(FOLDER_VARIABLE)
    spec = None if named else find_spec("pycocoevalcap")
    places = [Path(named)] if named else [Path(p) / "meteor" for p in (spec and spec.submodule_search_locations) or ()]
    for place in places:
        if (place / JAR).is_file() and (place / TABLE).is_file():
            return place
    where = f"{named} lacks {JAR} or {TABLE}" if named else "METEOR's data were not found"
    raise FileNotFoundError(f"{where}: {CURE}")


@lru_cache(maxsize=1)
def _read(folder: Path) -> MeteorResources:
    try:
        with zipfile.ZipFile(folder / JAR) as archive:
            words = archive.read(FUNCTION_WORDS).decode()
            prefixes = _prefixes(archive.read(PREFIXES).decode())
        synonyms = Synonyms.from_jar(folder / JAR)
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{folder / JAR} is not METEOR 1.5 ({error}): {CURE}") from error
    return MeteorResources(frozenset(words.splitlines()), prefixes, synonyms, Paraphrases.read(folder / TABLE))


def _prefixes(text: str) -> dict[str, bool]:
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: words[1:2] == [BEFORE_NUMBERS] for words in lines if words and not words[0].startswith("#")}


def meteor_words(caption: str, prefixes: Mapping[str, bool]) -> tuple[str, ...]:
    """The words of a tokenised caption after METEOR's normaliser (`-norm`), in lower case, with punctuation.

    Args:
        caption: words and punctuation, separated by spaces.
        prefixes: what a dot belongs to -> whether only before a number.

    >>> meteor_words("the u.s. team's t-shirts cost $ 5.50 .", {})
    ('the', 'us', 'team', "'s", 't', 'shirts', 'cost', '$', '5.50', '.')
    """
    if not PLAIN.fullmatch(caption):
        # Several dots are a word, which no rule reaches across.
        parts = DOTS.split(SYMBOL[0].sub(SYMBOL[1], f" {caption} "))
        parts[::2] = [_normalised(part, prefixes) for part in parts[::2]]
        caption = UNICODE_SPACES.sub(" ", " ".join(parts)).strip(TRIMMED)
    return tuple(word for word in JAVA_SPACES.split(caption.lower()) if word)


def _normalised(part: str, prefixes: Mapping[str, bool]) -> str:
    """A part of a caption without several dots in a row, its words and punctuation separated by spaces."""
    part = f" {part} "
    for pattern, replacement in REPLACEMENTS:
        part = pattern.sub(replacement, part)
    words = [word for word in JAVA_SPACES.split(part) if word]
    return " ".join(_with_dot(word, after, prefixes) for word, after in zip(words, [*words[1:], ""], strict=False))


def _with_dot(word: str, after: str, prefixes: Mapping[str, bool]) -> str:
    """A word that may end in a dot: the dot is kept, set apart or, with those within the word, left out."""
    stem = word[:-1]
    if not stem or not word.endswith("."):
        return word
    if "." in stem and LETTER.search(stem):
        return word.replace(".", "")
    followed = "a" <= after[:1] <= "z" or (prefixes.get(stem, False) and "0" <= after[:1] <= "9")
    return word if followed or prefixes.get(stem) is False else f"{stem} ."


def java_hash(word: str) -> int:
    """Java's `String.hashCode`, modulo 2^32: METEOR compares words, and stems, by it.

    >>> java_hash("as") == java_hash("c5")
    True
    """
    value = 0
    for unit in memoryview(word.encode("utf-16-le", "surrogatepass")).cast("H"):
        value = (31 * value + unit) % 2**32
    return value
