"""Reads WordNet's dictionary files, and computes the similarity of two senses for WUPS.

    folder or zip --WordNet.find--> WordNet: word --synsets--> senses --wup_similarity--> 0..1

Nothing is downloaded: the files come with `apt install wordnet-base` or with nltk's data. They are read here, since
nltk's reader refuses folders outside its data path and folders without `lexnames`, such as Debian's. The similarity is
nltk's to the last digit (Wu and Palmer 1994): the common ancestor is the one with the longest shortest path to the
root, and its depth is that of its longest path; all parts of speech except nouns get an additional common root, and for
verbs directly below it the order of the two senses matters. Figures in papers use WordNet 3.0. File formats: wndb(5WN)
and morphy(7WN) of WordNet's manual.
"""

import os
import sys
import zipfile
from collections import deque
from pathlib import Path
from typing import NamedTuple

FILE_OF = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
# Rules of detachment: ending -> ending of the base form, for each part of speech.
ENDINGS = {
    "n": (("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
          ("men", "man"), ("ies", "y")),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
HYPERNYM_POINTERS = (b"@", b"@i")
LARGEST_FILE_BYTES = 2**27  # the largest file of WordNet 3.1 has 16 MB
FOLDER_VARIABLE = "WNSEARCHDIR"  # the environment variable of WordNet's own programs
SYSTEM_FOLDERS = ("/usr/share/wordnet", "/usr/local/share/wordnet")
NLTK_FOLDERS = ("nltk_data", "share/nltk_data", "lib/nltk_data")
CURE = (
    f"install WordNet's files (apt install wordnet-base, or nltk.download('wordnet')), or set {FOLDER_VARIABLE} to the "
    "folder that holds index.noun and data.noun"
)


class Synset(NamedTuple):
    """A sense: its part of speech (n, v, a or r) and the byte where its line starts in that part's data file."""

    part_of_speech: str
    offset: int


ROOT = Synset("", -1)  # the additional root of the parts of speech that have several roots


class WordNet:
    """The senses of words and their similarities, read from WordNet's dictionary files on first use.

    Args:
        place: the folder that holds index.noun, data.noun, noun.exc and so on, or nltk's wordnet.zip.

    Raises:
        OSError: if there are no such files.
        ValueError: if a file is broken or too large; raised by the method that reads it.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = Path(place)
        if not _holds_wordnet(self.place):
            raise FileNotFoundError(f"{self.place} does not hold WordNet's dictionary files; {CURE}")
        self._indexes: dict[str, dict[str, bytes]] = {}
        self._exceptions: dict[str, dict[str, list[str]]] = {}
        self._data: dict[str, bytes] = {}
        self._hypernyms: dict[Synset, tuple[Synset, ...]] = {}
        self._ancestors: dict[Synset, dict[Synset, int]] = {ROOT: {ROOT: 0}}
        self._longest_ways: dict[Synset, int] = {ROOT: 0}

    @classmethod
    def find(cls, place: str | Path | None = None) -> "WordNet":
        """WordNet in `place`, else in the folder of WNSEARCHDIR, else in the folders of Debian or nltk.

        Raises:
            OSError: if it is in none of them; the message names the cure.
        """
        named = place or os.environ.get(FOLDER_VARIABLE)
        if named:
            return cls(named)
        for usual in usual_places():
            if _holds_wordnet(usual):
                return cls(usual)
        raise FileNotFoundError(f"WordNet is not on this machine; {CURE}")

    def synsets(self, word: str, *, parts_of_speech: str = "nvar") -> list[Synset]:
        """The senses of a word or of a phrase with underscores, the most common first within each part of speech.

        Inflected forms are reduced to their base forms; an unknown word has no senses.
        """
        return [
            Synset(part, offset)
            for part in parts_of_speech
            for form in self._base_forms(word.lower(), part)
            for offset in self._offsets(form, part)
        ]

    def lemmas(self, part: str) -> dict[str, list[int]]:
        """Every lemma of a part of speech (n, v, a or r), with underscores for blanks -> the offsets of its senses."""
        return {lemma: self._offsets(lemma, part) for lemma in self._index(part)}

    def irregular_forms(self, part: str) -> dict[str, list[str]]:
        """Irregular form of a part of speech (n, v, a or r) -> its base forms ("mice" -> ["mouse"])."""
        if part not in self._exceptions:
            lines = self._read(f"{FILE_OF[part]}.exc").decode(errors="replace").splitlines()
            self._exceptions[part] = {words[0]: words[1:] for words in map(str.split, lines) if words}
        return self._exceptions[part]

    def wup_similarity(self, first: Synset, second: Synset) -> float:
        """Wu and Palmer's similarity, 0..1, as nltk computes it; 0 without a common ancestor."""
        rooted = first.part_of_speech != "n" or second.part_of_speech != "n"
        common = set(self._distances(first)) & set(self._distances(second)) | ({ROOT} if rooted else set())
        if not common:
            return 0.0
        shortest_ways = {synset: self._shortest_way(synset) for synset in common}
        deepest = max(shortest_ways.values())
        lowest = [synset for synset in common if shortest_ways[synset] == deepest]
        subsumer = first if first in lowest else min(lowest, key=self._name)
        depth = self._longest_way(subsumer) + 1
        lengths = [self._path_length(synset, subsumer, rooted=rooted) + depth for synset in (first, second)]
        return 2.0 * depth / sum(lengths)

    def hypernyms(self, synset: Synset) -> tuple[Synset, ...]:
        """The direct hypernyms of a sense, including those it is an instance of."""
        if synset not in self._hypernyms:
            self._hypernyms[synset] = () if synset == ROOT else self._read_hypernyms(synset)
        return self._hypernyms[synset]

    def _read_hypernyms(self, synset: Synset) -> tuple[Synset, ...]:
        fields = self._line(synset)
        try:
            start = 5 + 2 * int(
                fields[3], 16
            )  # after three fields, the words' count, each word and its id, and a count
            end = start + 4 * int(fields[start - 1])
            if end > len(fields):
                raise ValueError(f"the line is too short for {fields[start - 1]!r} pointers")
            return tuple(
                Synset(fields[place + 2].decode(), int(fields[place + 1]))
                for place in range(start, end, 4)
                if fields[place] in HYPERNYM_POINTERS
            )
        except (IndexError, ValueError) as error:
            raise ValueError(f"{self._described(synset)} is broken; {CURE}") from error

    def _distances(self, synset: Synset) -> dict[Synset, int]:
        """The sense and all its ancestors, with the length of the shortest path to each."""
        if synset not in self._ancestors:
            distances: dict[Synset, int] = {}
            waiting = deque([(synset, 0)])
            while waiting:
                above, distance = waiting.popleft()
                if above not in distances:
                    distances[above] = distance
                    waiting.extend((hypernym, distance + 1) for hypernym in self.hypernyms(above))
            self._ancestors[synset] = distances
        return self._ancestors[synset]

    def _shortest_way(self, synset: Synset) -> int:
        """The length of the path to the nearest sense without hypernyms."""
        ways = [distance for above, distance in self._distances(synset).items() if not self.hypernyms(above)]
        return min(ways, default=0)

    def _longest_way(self, synset: Synset) -> int:
        """The length of the path to the farthest sense without hypernyms; a cycle ends the path."""
        if synset not in self._longest_ways:
            self._longest_ways[synset] = 0
            above = [self._longest_way(hypernym) for hypernym in self.hypernyms(synset)]
            self._longest_ways[synset] = 1 + max(above) if above else 0
        return self._longest_ways[synset]

    def _path_length(self, synset: Synset, other: Synset, *, rooted: bool) -> int:
        """The shortest path between the two over a common ancestor; with `rooted`, ROOT is one."""
        if synset == other:
            return 0
        ways = (self._distances(synset), self._distances(other))
        lengths = [distance + ways[1][above] for above, distance in ways[0].items() if above in ways[1]]
        if rooted:
            lengths.append(sum(way[ROOT] if ROOT in way else max(way.values()) + 1 for way in ways))
        return min(lengths)

    def _name(self, synset: Synset) -> str:
        """nltk's name of the sense ("dog.n.01"), which decides between equally low common ancestors."""
        if synset == ROOT:
            return "*ROOT*"
        fields = self._line(synset)
        lemma = fields[4].decode(errors="replace").lower()
        offsets = self._offsets(lemma, synset.part_of_speech)
        number = offsets.index(synset.offset) + 1 if synset.offset in offsets else 0
        return f"{lemma}.{fields[2].decode()}.{number:02d}"

    def _base_forms(self, form: str, part: str) -> list[str]:
        exceptions = self.irregular_forms(part)
        others = exceptions.get(form) or [form[: -len(old)] + new for old, new in ENDINGS[part] if form.endswith(old)]
        index = self._index(part)
        return [known for known in dict.fromkeys([form, *others]) if known in index]

    def _offsets(self, lemma: str, part: str) -> list[int]:
        fields = self._index(part).get(lemma, b"").split()
        try:
            return [int(offset) for offset in fields[-int(fields[1]) :]] if fields else []
        except (IndexError, ValueError) as error:
            raise ValueError(f"{self.place}: {lemma!r} of index.{FILE_OF[part]} is broken; {CURE}") from error

    def _index(self, part: str) -> dict[str, bytes]:
        """Lemma -> the rest of its line: part of speech, number of senses, ..., the senses' offsets."""
        if part not in self._indexes:
            lines = self._read(f"index.{FILE_OF[part]}").splitlines()
            split = (line.partition(b" ") for line in lines if line and not line.startswith(b" "))
            self._indexes[part] = {lemma.decode(errors="replace"): rest for lemma, _, rest in split}
        return self._indexes[part]

    def _line(self, synset: Synset) -> list[bytes]:
        """The fields of a sense's line in the data file, without the gloss."""
        part = "a" if synset.part_of_speech == "s" else synset.part_of_speech
        if part not in self._data:
            self._data[part] = self._read(f"data.{FILE_OF[part]}")
        fields = self._data[part][synset.offset : synset.offset + 2**14].partition(b"|")[0].split()
        if len(fields) < 6 or fields[0] != b"%08d" % synset.offset:
            raise ValueError(f"{self._described(synset)} is missing; index and data are of different WordNets")
        return fields

    def _described(self, synset: Synset) -> str:
        return f"{self.place}: the sense at {synset.offset} of data.{FILE_OF.get(synset.part_of_speech, '?')}"

    def _read(self, name: str) -> bytes:
        if self.place.is_dir():
            path = self.place / name
            if not path.is_file():
                raise FileNotFoundError(f"{self.place} lacks {name}; {CURE}")
            if path.stat().st_size > LARGEST_FILE_BYTES:
                raise ValueError(f"{path} has over {LARGEST_FILE_BYTES:,} bytes and is not a file of WordNet; {CURE}")
            return path.read_bytes()
        try:
            with zipfile.ZipFile(self.place) as archive:
                return self._read_member(archive, name)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.place} is a broken zip file; {CURE}") from error

    def _read_member(self, archive: zipfile.ZipFile, name: str) -> bytes:
        members = [info for info in archive.infolist() if info.filename.rpartition("/")[2] == name]
        if len(members) != 1:
            raise FileNotFoundError(f"{self.place} lacks {name}; {CURE}")
        if members[0].file_size > LARGEST_FILE_BYTES:
            raise ValueError(f"{self.place}: {name} has over {LARGEST_FILE_BYTES:,} bytes; {CURE}")
        return archive.read(members[0])


def usual_places() -> list[Path]:
    """The folders of Debian's WordNet and of nltk's downloader, in the order in which they are tried."""
    data = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    data += [Path.home() / "nltk_data", *(Path(sys.prefix) / folder for folder in NLTK_FOLDERS)]
    data += [Path("/usr") / level / folder for level in ("", "local") for folder in NLTK_FOLDERS[1:]]
    corpora = [folder / "corpora" / name for folder in data for name in ("wordnet", "wordnet.zip")]
    return [*map(Path, SYSTEM_FOLDERS), *corpora]


def _holds_wordnet(place: Path) -> bool:
    return (place / "index.noun").is_file() or (place.is_file() and zipfile.is_zipfile(place))
