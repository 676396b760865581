"""A WordNet of a dozen senses in the real file format, for the tests of WUPS."""

from pathlib import Path

# sense -> its words and the senses right above it
NOUNS = {
    "entity": ("entity", ""),
    "thing": ("thing", "entity"),
    "animal": ("animal beast", "thing"),
    "dog": ("dog hound", "animal"),
    "cat": ("cat", "animal"),
    "bat": ("bat", "animal"),
    "tool": ("tool", "thing"),
    "club": ("bat club", "tool"),
    "mouse": ("mouse", "tool animal"),  # a sense with two above it
    "rex": ("Rex", "=dog"),  # an instance
    "bin": ("garbage_bin bin", "tool"),
}
VERBS = {"run": ("run bat", ""), "dash": ("dash", "run"), "see": ("see", "")}
# the order of senses of words that have several, commonest first
ORDER = {("n", "bat"): ["bat", "club"]}
EXCEPTIONS = {"n": "mice mouse\n", "v": "ran run\nsaw see\n"}
FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}


def write_wordnet(folder: Path, nouns: dict[str, tuple[str, str]] = NOUNS) -> dict[str, int]:
    """Write index, data and exception files of all four parts of speech; returns sense -> offset of the nouns."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets: dict[str, int] = {}
    for part, senses in (("a", {}), ("r", {}), ("v", VERBS), ("n", nouns)):
        offsets = _offsets(part, senses)
        name = FILES[part]
        (folder / f"data.{name}").write_text("".join(_lines(part, senses, offsets)))
        (folder / f"index.{name}").write_text("".join(_index(part, senses, offsets)))
        (folder / f"{name}.exc").write_text(EXCEPTIONS.get(part, ""))
    return offsets


def _offsets(part: str, senses: dict[str, tuple[str, str]]) -> dict[str, int]:
    """Offsets have eight digits whatever they are, so that lines written with zeros are as long as the real ones."""
    place, offsets = len(_header()), {}
    for sense, line in zip(senses, _lines(part, senses, dict.fromkeys(senses, 0))[1:], strict=True):
        offsets[sense] = place
        place += len(line)
    return offsets


def _header() -> str:
    return "  1 a line of the licence, which starts with spaces\n"


def _lines(part: str, senses: dict[str, tuple[str, str]], offsets: dict[str, int]) -> list[str]:
    lines = [_header()]
    for sense, (words, above) in senses.items():
        listed = " ".join(f"{word} 0" for word in words.split())
        pointers = " ".join(
            f"{'@i' if other.startswith('=') else '@'} {offsets[other.removeprefix('=')]:08d} {part} 0000"
            for other in above.split()
        )
        count = f"{len(words.split()):02x}"
        pointers = f"{len(above.split()):03d} {pointers}".strip()
        lines.append(f"{offsets[sense]:08d} 03 {part} {count} {listed} {pointers} | what it is  \n")
    return lines


def _index(part: str, senses: dict[str, tuple[str, str]], offsets: dict[str, int]) -> list[str]:
    found: dict[str, list[str]] = {}
    for sense, (words, _) in senses.items():
        for word in words.lower().split():
            found.setdefault(word, []).append(sense)
    lines = [_header()]
    for word in sorted(found):
        numbers = [f"{offsets[sense]:08d}" for sense in ORDER.get((part, word), found[word])]
        lines.append(f"{word} {part} {len(numbers)} 1 @ {len(numbers)} 0 {' '.join(numbers)}  \n")
    return lines
