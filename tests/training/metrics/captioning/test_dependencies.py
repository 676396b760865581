"""spaCy's trees as collapsed Universal Dependencies: prepositions, copulas, conjuncts, participles."""

import pytest

from tests.training.metrics.captioning.parsed_words import ParsedCaption, hand_parsed, parse
from training.metrics.captioning.dependencies import Dependencies, base_form, collapsed_dependencies


def relations(caption: str) -> set[str]:
    """The relations of a hand-parsed caption as "relation(governor, dependent)", without determiners."""
    row = next(row for row in hand_parsed() if row["caption"] == caption)
    return written(collapsed_dependencies(ParsedCaption(row["words"]))[0])


def written(graph: Dependencies) -> set[str]:
    return {
        f"{edge.relation}({graph.words[edge.governor].text}, {graph.words[edge.dependent].text})"
        for edge in graph.edges
        if edge.relation != "det"
    }


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "a cat is sleeping in front of a fireplace",
            {"nsubj(sleeping, cat)", "nmod:in front of(sleeping, fireplace)"},
        ),
        ("a man is standing next to his bicycle", {"nmod:next to(standing, bicycle)", "nmod:poss(bicycle, his)"}),
        ("the bear is big and brown", {"nsubj(big, bear)", "nsubj(brown, bear)", "cop(big, is)", "conj(big, brown)"}),
        ("the man is a baseball player", {"nsubj(player, man)", "cop(player, is)", "compound(player, baseball)"}),
        ("a bird is in the tree", {"nsubj(tree, bird)", "cop(tree, is)"}),
        ("there are two cats on the couch", {"nsubj(are, cats)", "nummod(cats, two)", "expl(are, there)"}),
        ("a little boy is being held by his father", {"nsubjpass(held, boy)", "nmod:agent(held, father)"}),
        ("a small boat floats on a calm lake surrounded by mountains", {"nmod:by(surrounded, mountains)"}),
        ("a dog and a cat are lying on a bed together", {"nsubj(lying, dog)", "nsubj(lying, cat)"}),
        ("the boy is tall and is holding a basketball", {"nsubj(tall, boy)", "nsubj(holding, boy)"}),
    ],
)
def test_relations_of_a_caption(caption: str, expected: set[str]) -> None:
    assert expected <= relations(caption)


def test_the_words_of_a_long_preposition_have_no_relation_of_their_own() -> None:
    found = relations("a cat is sleeping in front of a fireplace")
    assert not any("front" in relation.split("(")[1] for relation in found)


def test_a_predicate_after_be_is_the_root_and_keeps_its_preposition() -> None:
    row = next(row for row in hand_parsed() if row["caption"] == "a bird is in the tree")
    graph = collapsed_dependencies(ParsedCaption(row["words"]))[0]
    assert graph.words[graph.root].text == "tree"
    assert graph.cases == {graph.root: "in"}


def test_a_participle_without_auxiliary_hangs_on_its_noun() -> None:
    # "Dogs running": spaCy may take it for a sentence
    doc = parse("Dogs dog NNS NOUN nsubj 1\nrunning run VBG VERB ROOT 1")
    graph = collapsed_dependencies(doc)[0]
    assert written(graph) == {"acl(dogs, running)"}
    assert graph.words[graph.root].text == "dogs"


def test_conjoined_prepositions_belong_to_one_verb() -> None:
    doc = parse(
        """
        Boys boy NNS NOUN nsubj 1
        run run VBP VERB ROOT 1
        over over IN ADP prep 1
        hills hill NNS NOUN pobj 2
        and and CC CCONJ cc 2
        through through IN ADP conj 2
        woods wood NNS NOUN pobj 5
        """
    )
    assert {"nmod:over(run, hills)", "nmod:through(run, woods)"} <= written(collapsed_dependencies(doc)[0])


@pytest.mark.parametrize(
    ("row", "base"),
    [
        (["riding", "rid", "VBG"], "ride"),
        (["Rides", "rid", "VBZ"], "ride"),
        (["sitting", "sit", "VBG"], "sit"),
        (["playing", "play", "VBG"], "play"),
        (["boxing", "box", "VBG"], "box"),
        (["goes", "go", "VBZ"], "go"),
        (["Dogs", "dog", "NNS"], "dog"),
        (["taller", "tall", "JJR"], "taller"),
        (["left", "leave", "JJ"], "left"),
    ],
)
def test_base_forms(row: list[str], base: str) -> None:
    assert base_form(ParsedCaption([[*row, "X", "ROOT", 0]])[0]) == base


def test_nothing_has_no_sentences() -> None:
    assert collapsed_dependencies(ParsedCaption([])) == []
