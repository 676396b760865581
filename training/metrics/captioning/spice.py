"""The scoring part of SPICE (Anderson et al. 2016): scene-graph tuples -> F-scores.

SPICE parses captions into tuples, (object), (object, attribute) and (subject, relation, object), and scores the overlap
of the candidate's tuples with those of the references. The Java program (`training.metrics.captioning.java.spice`)
parses and scores. This module scores the tuples of any parser, in the program's order: `["dog"]`, `["dog", "black"]`,
`["dog", "ball", "chase"]` (subject, object, relation); `training.metrics.captioning.spice_spacy` gives it those of
spaCy.

Words match if they are equal or, given a `Synonyms`, if they or their base forms share a WordNet synset. `Synonyms`
reads them from WordNet's own files, or from the jars of `pycocoevalcap`, whose table has the synsets of WordNet 3.0;
without either only equal words match.
"""

import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from training.metrics.vqa.wordnet import FILE_OF, WordNet

# WordNet's rules of detachment (Morphy): ending of a noun, verb or adjective -> ending of its base form.
ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
    ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
)  # fmt: skip
TUPLE_LENGTHS = {"object": 1, "attribute": 2, "relation": 3}
WORD_LIST_NAMES = {"cardinality": "smallNumbers", "color": "commonColors", "size": "sizeAdjectives"}
# the attribute words of the program's categories, as `category_words` reads them from its source
COLORS = """
    black brown blue red yellow pink gray grey green dark light white cream orange purple maroon beige violet
"""
NUMBERS = """
    one two three four five six seven eight nine ten
"""
SIZES = """
    baby beefy big bony boundless brawny broad bulky chunky colossal compact corpulent cosmic cubby curvy elfin
    emaciated endless enormous epic expansive extensive fat fleshy full-size gargantuan gaunt giant gigantic
    grand great heavy hefty huge hulking illimitable immeasurable immense infinitesimal lanky large lean
    life-size limitless little mammoth massive meager measly microscopic mini miniature minuscule minute narrow
    obese outsized oversize overweight paltry petite pint-size plump pocket-size portly pudgy puny rotund scanty
    scraggy scrawny short sizable skeletal skimpy skinny slender slim small squat stocky stout strapping sturdy
    tall teensy teeny teeny-tiny teeny-weeny thick thickset thin tiny titanic towering trifling trim tubby
    undersized underweight unlimited vast wee whopping wide
"""
CATEGORIES = {
    "color": frozenset(COLORS.split()),
    "cardinality": frozenset(NUMBERS.split()),
    "size": frozenset(SIZES.split()),
}


class TupleScore(NamedTuple):
    """An F-score with its precision, recall and counts; the scores are in 0..1, or NaN without reference tuples."""

    f: float
    precision: float
    recall: float
    true_positives: int
    false_positives: int
    false_negatives: int


class Synonyms:
    """WordNet's synsets of words, from the synonym dictionary of Meteor."""

    def __init__(self, synsets: Mapping[str, frozenset[str]], base_forms: Mapping[str, Sequence[str]]) -> None:
        self.synsets = synsets
        self.base_forms = base_forms
        self._senses: dict[str, frozenset[str]] = {}

    @classmethod
    def from_jar(cls, jar: Path) -> "Synonyms":
        """Read them from `pycocoevalcap/spice/lib/Meteor-1.5.jar` (or `pycocoevalcap/meteor/meteor-1.5.jar`)."""
        with zipfile.ZipFile(jar) as archive:
            synsets = archive.read("synonym/english.synsets").decode().splitlines()
            exceptions = archive.read("synonym/english.exceptions").decode().splitlines()
        base_forms: dict[str, list[str]] = {}
        for base, forms in zip(exceptions[::2], exceptions[1::2], strict=True):
            for form in forms.split():
                base_forms.setdefault(form, []).append(base)
        ids = (frozenset(line.split()) for line in synsets[1::2])
        return cls(dict(zip(synsets[::2], ids, strict=True)), base_forms)

    @classmethod
    def from_wordnet(cls, wordnet: WordNet) -> "Synonyms":
        """Read them from WordNet's files (about ten seconds on a slow core).

        With WordNet 3.0 they are those of `from_jar`, but for 282 pairs of synsets of different parts of speech that
        the table in the jar takes for one ("boil" and "noncellular"), since its ids are WordNet's offsets alone, and
        for three irregular forms (aurar, involucra, offer).
        """
        synsets: dict[str, set[str]] = {}
        base_forms: dict[str, list[str]] = {}
        for part in FILE_OF:
            for lemma, offsets in wordnet.lemmas(part).items():
                synsets.setdefault(lemma, set()).update(f"{part}{offset}" for offset in offsets)
            for form, bases in wordnet.irregular_forms(part).items():
                base_forms.setdefault(form, []).extend(bases)
        return cls({lemma: frozenset(ids) for lemma, ids in synsets.items()}, base_forms)

    def senses(self, phrase: str) -> frozenset[str]:
        """The synsets of a word or phrase and of its base forms; empty if it is unknown."""
        if phrase not in self._senses:
            self._senses[phrase] = self._looked_up(phrase)
        return self._senses[phrase]

    def _looked_up(self, phrase: str) -> frozenset[str]:
        word = phrase.replace(" ", "_")
        forms = [word, *self.base_forms.get(word, [])]
        forms += [word.removesuffix(ending) + base for ending, base in ENDINGS if word.endswith(ending)]
        return frozenset().union(*(self.synsets.get(form, frozenset()) for form in forms))


class Concept:
    """An object, attribute or relation of a scene graph, with all its words and their senses."""

    def __init__(self, phrase: str, synonyms: Synonyms | None) -> None:
        self.words = {phrase}
        self.senses = set(synonyms.senses(phrase.lower())) if synonyms else set()

    def same_as(self, other: "Concept") -> bool:
        """Whether the two share a word or a sense."""
        return not (self.words.isdisjoint(other.words) and self.senses.isdisjoint(other.senses))

    def merge(self, other: "Concept") -> None:
        """Add the other's words and senses."""
        self.words |= other.words
        self.senses |= other.senses


Graph = list[tuple[Concept, ...]]


def scene_graph(tuples: Iterable[Sequence[str]], *, synonyms: Synonyms | None = None) -> Graph:
    """Merge the tuples of one or several captions of an image: matching objects, attributes and relations become one.

    Returns the graph's tuples as concepts: (object,), (object, attribute), (subject, relation, object).
    """
    graph: Graph = []
    for item in tuples:
        if not 1 <= len(item) <= 3:
            raise ValueError(f"{list(item)} has {len(item)} parts; SPICE tuples have one, two or three")
        subject = _found_or_added(graph, (), Concept(item[0], synonyms))
        if len(item) == 2:
            _found_or_added(graph, (subject,), Concept(item[1], synonyms))
        elif len(item) == 3:
            target = _found_or_added(graph, (), Concept(item[1], synonyms))
            _relate(graph, subject, Concept(item[2].removeprefix("be "), synonyms), target)
    return graph


def _found_or_added(graph: Graph, beginning: tuple[Concept, ...], concept: Concept) -> Concept:
    """The last concept of the tuple with this beginning whose last concept matches `concept`, which is merged into it;
    without such a tuple, add one."""
    for item in graph:
        if len(item) == len(beginning) + 1 and item[:-1] == beginning and item[-1].same_as(concept):
            item[-1].merge(concept)
            return item[-1]
    graph.append((*beginning, concept))
    return concept


def _relate(graph: Graph, subject: Concept, relation: Concept, target: Concept) -> None:
    for item in graph:
        if len(item) == 3 and item[0] is subject and item[2] is target and item[1].same_as(relation):
            item[1].merge(relation)
            return
    graph.append((subject, relation, target))


def tuple_scores(
    candidate: Iterable[Sequence[str]],
    references: Iterable[Iterable[Sequence[str]]],
    *,
    synonyms: Synonyms | None = None,
    categories: Mapping[str, frozenset[str]] | None = None,
) -> dict[str, TupleScore]:
    """SPICE of one image.

    Args:
        candidate: the candidate caption's tuples.
        references: the tuples of each reference caption, which are merged into one scene graph.
        categories: name -> attribute words; by default none. `category_words` gives the official ones.

    Returns:
        `all`, `object`, `attribute`, `relation` and each category: a `TupleScore`; the scores of `all` are 0, not NaN,
        without reference tuples.

    Example:
        >>> tuple_scores([["dog"], ["dog", "black"]], [[["dog"]], [["dog", "ball", "chase"]]])["all"].f
        0.4
    """
    candidate_graph = scene_graph(candidate, synonyms=synonyms)
    reference_graph = scene_graph((item for caption in references for item in caption), synonyms=synonyms)
    graphs = (candidate_graph, reference_graph)
    scores = {"all": _score(*graphs, without_references=0.0)}
    for name, length in TUPLE_LENGTHS.items():
        parts = [[item for item in graph if len(item) == length] for graph in graphs]
        scores[name] = _score(*parts, without_references=math.nan)
    for name, words in (categories or {}).items():
        single = [{word} for word in words]  # as officially, an attribute merged from several words has no category
        parts = [[item for item in graph if len(item) == 2 and item[1].words in single] for graph in graphs]
        scores[name] = _score(*parts, without_references=math.nan)
    return scores


def _score(candidate: Graph, references: Graph, *, without_references: float) -> TupleScore:
    found = sum(any(_similar(item, other) for other in references) for item in candidate)
    counts = (found, len(candidate) - found, len(references) - found)
    if not references:
        return TupleScore(without_references, without_references, without_references, *counts)
    precision = found / len(candidate) if candidate else 0.0
    recall = found / len(references)
    f = 2 * precision * recall / (precision + recall) if found else 0.0
    return TupleScore(f, precision, recall, *counts)


def _similar(item: tuple[Concept, ...], other: tuple[Concept, ...]) -> bool:
    return len(item) == len(other) and all(a.same_as(b) for a, b in zip(item, other, strict=True))


def category_words(jar: Path) -> dict[str, frozenset[str]]:
    """The attribute words of `cardinality`, `color` and `size`, read from the source inside `spice-1.0.jar`."""
    with zipfile.ZipFile(jar) as archive:
        source = archive.read("edu/anu/spice/TupleFilter.java").decode()
    found = {}
    for category, name in WORD_LIST_NAMES.items():
        listed = re.search(rf"{name}\b[^;]*?asList\((.*?)\)", source, re.DOTALL)
        if listed is None:
            raise ValueError(f"{jar} does not list {name}; is it the SPICE 1.0 of pycocoevalcap?")
        found[category] = frozenset(re.findall(r'"([^"]+)"', listed[1]))
    return found
