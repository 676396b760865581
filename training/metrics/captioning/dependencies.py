"""A caption's grammatical relations, in the form that SPICE's rules read: collapsed Universal Dependencies (version 1).

    spaCy's parse (a `Doc`) --collapsed_dependencies--> Dependencies --scene_graph_parser--> tuples

spaCy's English models write ClearNLP's relations over a tree; SPICE's program reads the graph of Stanford CoreNLP 3.6
in which prepositions are part of a relation ("nmod:on top of"), a copula depends on its predicate, and conjuncts share
what governs the first of them and its subject (de Marneffe et al. 2014; Schuster and Manning 2016, "CC processed").
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# prepositions of two and three words that Universal Dependencies counts as one
TWO_WORD_PREPOSITIONS = frozenset(
    {
        ("across", "from"), ("along", "with"), ("apart", "from"), ("aside", "from"), ("away", "from"),
        ("because", "of"), ("close", "by"), ("close", "to"), ("far", "from"), ("inside", "of"), ("instead", "of"),
        ("near", "to"), ("next", "to"), ("off", "of"), ("out", "of"), ("outside", "of"), ("together", "with"),
    }
)  # fmt: skip
THREE_WORD_PREPOSITIONS = frozenset(
    {("in", "front", "of"), ("on", "top", "of"), ("in", "place", "of"), ("in", "addition", "to")}
)
NOUN = re.compile(r"NNP?S?")
# spaCy's relation -> that of Universal Dependencies, where one word stands for the other
RENAMED = {"relcl": "acl:relcl", "prt": "compound:prt", "poss": "nmod:poss", "nmod": "compound", "dative": "iobj"}
KEPT = frozenset(
    {"nsubj", "nsubjpass", "dobj", "acl", "amod", "nummod", "compound", "det", "advcl", "xcomp", "ccomp", "conj", "aux",
     "auxpass", "advmod", "appos", "mark", "dep", "pcomp"}
)  # fmt: skip
UNSHARED = frozenset({"conj", "compound:prt", "det", "case"})  # relations that conjuncts do not share
# "riding", "rides": a base form of one syllable that ends in one consonant doubles it ("ridding") or ends in a mute -e
MUTE_E_STEM = re.compile(r"[^aeiou]+[aeiou][^aeiouwxysz]")


class Word(NamedTuple):
    """A word of a caption: its place (from 0), text in small letters, base form and Penn Treebank tag."""

    place: int
    text: str
    lemma: str
    tag: str

    @property
    def is_noun(self) -> bool:
        """Whether the tag is NN, NNS, NNP or NNPS."""
        return NOUN.fullmatch(self.tag) is not None

    @property
    def is_plural(self) -> bool:
        """Whether the tag is NNS or NNPS."""
        return self.tag in ("NNS", "NNPS")


class Edge(NamedTuple):
    """One relation between two words, given by their places."""

    governor: int
    relation: str
    dependent: int


@dataclass
class Dependencies:
    """The words of one sentence, the relations between them, and the place of the word at their root.

    cases: place of a noun that is a predicate ("a bird is in the tree") -> its preposition.
    """

    words: dict[int, Word]
    edges: list[Edge]
    root: int
    cases: dict[int, str] = field(default_factory=dict)

    def children(self, governor: int, *relations: str) -> list[int]:
        """The dependents of a word by these relations (by any if none is given), in the order of the caption."""
        found = {
            e.dependent for e in self.edges if e.governor == governor and (not relations or e.relation in relations)
        }
        return sorted(found)

    def parents(self, dependent: int, *relations: str) -> list[int]:
        """The governors of a word by these relations (by any if none is given), in the order of the caption."""
        found = {
            e.governor for e in self.edges if e.dependent == dependent and (not relations or e.relation in relations)
        }
        return sorted(found)

    def replace_dependent(self, old: int, new: int) -> None:
        """Let what governs one word govern another one in its place."""
        self.edges = [e._replace(dependent=new) if e.dependent == old and e.governor != new else e for e in self.edges]
        self.root = new if self.root == old else self.root

    def replace_governor(self, old: int, new: int, *, but: frozenset[str] = frozenset()) -> None:
        """Let what depends on one word, except by the relations `but`, depend on another one."""
        self.edges = [
            e._replace(governor=new) if e.governor == old and e.dependent != new and e.relation not in but else e
            for e in self.edges
        ]

    def remove(self, edge: Edge) -> None:
        """Remove a relation, if it is there."""
        self.edges = [other for other in self.edges if other != edge]


def collapsed_dependencies(doc: Any) -> list[Dependencies]:
    """The graphs of a parsed caption (a spaCy `Doc` with tags, lemmas, heads and sentences), one per sentence.

    Example: "a bird sits on top of a red car" has the relations nsubj(sits, bird), nmod:on top of(sits, car) and
    amod(car, red), besides determiners.
    """
    return [_of_sentence(list(sentence)) for sentence in doc.sents if len(sentence)]


def _of_sentence(tokens: list[Any]) -> Dependencies:
    words = {token.i: Word(token.i, token.text.lower(), base_form(token), token.tag_) for token in tokens}
    root = next(token.i for token in tokens if token.head.i == token.i or token.head.i not in words)
    graph = Dependencies(words, list(_edges(tokens, words)), root)
    for token in tokens:
        if token.lemma_ == "be" and token.dep_ not in ("aux", "auxpass"):
            _promote_predicate(graph, token)
    _turn_participles(graph, tokens)
    _share_among_conjuncts(graph)
    return graph


def base_form(token: Any) -> str:
    """The base form of a verb or a plural noun; of other words the word itself, as CoreNLP's morphology has it.

    spaCy reduces "riding" to "rid"; stems such as this, which would have doubled their consonant, get their -e back.
    """
    text = str(token.text).lower()
    if token.tag_.startswith("V"):
        lemma = str(token.lemma_).lower()
        for ending in ("ing", "ed", "es"):
            stem = text.removesuffix(ending)
            if stem != text and stem == lemma and MUTE_E_STEM.fullmatch(stem):
                return f"{stem}e"
        return lemma
    return str(token.lemma_).lower() if token.tag_ in ("NNS", "NNPS") else text


def _edges(tokens: list[Any], words: dict[int, Word]) -> Iterator[Edge]:
    """The relations of the tree, prepositions collapsed; conjuncts hang on the first of them."""
    for token in tokens:
        relation, governor = token.dep_, token.head.i
        if relation in ("prep", "agent") or (relation in ("dative", "conj") and token.tag_ in ("IN", "TO")):
            yield from _prepositional(token)
        elif relation == "conj":
            yield Edge(_first_conjunct(token).i, "conj", token.i)
        elif relation == "amod" and words[token.i].is_noun:
            yield Edge(governor, "compound", token.i)
        elif relation == "expl":
            yield Edge(governor, "expl", token.i)
        elif relation in ("attr", "acomp", "oprd"):
            yield Edge(governor, relation, token.i)
        elif (relation in KEPT or relation in RENAMED) and not (relation == "prt" and _begins_two_words(token)):
            yield Edge(governor, RENAMED.get(relation, relation), token.i)


def _first_conjunct(token: Any) -> Any:
    while token.dep_ == "conj":
        token = token.head
    return token


def _prepositional(preposition: Any) -> Iterator[Edge]:
    """`nmod:PREPOSITION` from what a preposition belongs to, to each of its nouns."""
    if _ends_three_words(preposition):
        return
    governor, name = _governor_and_name(preposition)
    for child in preposition.children:
        if child.dep_ != "pobj":
            continue
        inner = [other for other in child.children if _ends_three_words(other)]
        passive = preposition.dep_ == "agent" and any(other.dep_ == "auxpass" for other in governor.children)
        if not inner:
            yield Edge(governor.i, "nmod:agent" if passive else f"nmod:{name}", child.i)
            continue
        whole = f"nmod:{name} {child.text.lower()} {inner[0].text.lower()}"
        yield from (Edge(governor.i, whole, noun.i) for noun in inner[0].children if noun.dep_ == "pobj")


def _governor_and_name(preposition: Any) -> tuple[Any, str]:
    """The word that a preposition's nouns belong to, and the whole preposition ("next to", "out of")."""
    governor, name = preposition.head, preposition.text.lower()
    if preposition.dep_ == "conj":  # "over the hill and through the woods"
        governor = _first_conjunct(preposition).head
    if preposition.i > preposition.doc[0].i and _begins_two_words(preposition.nbor(-1)):
        before = preposition.nbor(-1)
        if before.dep_ in ("advmod", "prep", "prt", "pcomp"):
            governor = before.head if governor.i == before.i else governor
            name = f"{before.text.lower()} {name}"
    while governor.dep_ in ("prep", "pcomp", "advmod", "prt") and governor.pos_ in ("ADV", "ADP", "SCONJ", "PART"):
        governor = governor.head  # "high above the beach", "from behind the tree"
    return governor, name


def _ends_three_words(preposition: Any) -> bool:
    """Whether a preposition is the last word of one such as "in front of"."""
    noun, place = preposition.head, preposition.i
    if (
        preposition.dep_ != "prep"
        or place < preposition.doc[0].i + 2
        or (noun.i, noun.head.i) != (place - 1, place - 2)
    ):
        return False
    return (noun.head.text.lower(), noun.text.lower(), preposition.text.lower()) in THREE_WORD_PREPOSITIONS


def _begins_two_words(token: Any) -> bool:
    """Whether a word and the next one are a preposition such as "out of"."""
    last = token.i == token.doc[-1].i
    return not last and (token.text.lower(), token.nbor(1).text.lower()) in TWO_WORD_PREPOSITIONS


def _promote_predicate(graph: Dependencies, copula: Any) -> None:
    """Let the complement of "be" govern the sentence, as in Universal Dependencies."""
    there = graph.children(copula.i, "expl")
    for complement in graph.children(copula.i, "attr"):
        if there:
            graph.remove(Edge(copula.i, "attr", complement))
            graph.edges.append(Edge(copula.i, "nsubj", complement))
    complements = graph.children(copula.i, "attr", "acomp")
    placed = [e for e in graph.edges if e.governor == copula.i and e.relation.startswith("nmod:")]
    if complements:
        predicate = complements[0]
    elif placed and not there and graph.children(copula.i, "nsubj"):
        predicate = placed[0].dependent
        graph.cases[predicate] = placed[0].relation.removeprefix("nmod:")
    else:
        return
    graph.edges = [e for e in graph.edges if (e.governor, e.dependent) != (copula.i, predicate)]
    graph.replace_governor(copula.i, predicate)
    graph.replace_dependent(copula.i, predicate)
    graph.edges.append(Edge(predicate, "cop", copula.i))


def _turn_participles(graph: Dependencies, tokens: list[Any]) -> None:
    """ "two dogs running" is a noun with a clause (acl), not a sentence, since no auxiliary makes it one."""
    for token in tokens:
        subjects = graph.children(token.i, "nsubj")
        if token.i == graph.root and token.tag_ == "VBG" and subjects and not graph.children(token.i, "aux"):
            graph.edges = [e for e in graph.edges if e != Edge(token.i, "nsubj", subjects[0])]
            graph.edges.append(Edge(subjects[0], "acl", token.i))
            graph.root = subjects[0]


def _share_among_conjuncts(graph: Dependencies) -> None:
    """Copy to each conjunct what governs the first one, and the subject of a predicate to its conjuncts."""
    conjuncts: dict[int, list[int]] = {}
    for edge in graph.edges:
        if edge.relation == "conj":
            conjuncts.setdefault(edge.governor, []).append(edge.dependent)
    shared = [
        edge._replace(dependent=other)
        for edge in graph.edges
        if edge.relation not in UNSHARED
        for other in conjuncts.get(edge.dependent, [])
        if other != edge.governor
    ]
    graph.edges += [edge for edge in shared if edge not in graph.edges]
    for first, others in conjuncts.items():
        for other in others:
            if graph.words[other].is_noun or graph.children(other, "nsubj", "nsubjpass"):
                continue
            for edge in [e for e in graph.edges if e.governor == first and e.relation in ("nsubj", "nsubjpass")]:
                tag = graph.words[other].tag
                passive = graph.children(other, "auxpass") or (edge.relation == "nsubjpass" and tag == "VBN")
                graph.edges.append(Edge(other, "nsubjpass" if passive else "nsubj", edge.dependent))
