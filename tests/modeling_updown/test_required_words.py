"""Words that captions must hold: the automaton against a search of the text itself, and how words become token ids."""

import itertools
from typing import Any

import pytest
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from modeling_updown.required_words_updown import RequiredWords, continuing_token_ids, required_token_ids
from tests import tiny
from tests.modeling_updown.test_prefix_lm_life import byte_pair_tokenizer

VOCAB_SIZE = 6
CONSTRAINTS: list[list[list[tuple[int, ...]]]] = [
    [[(3,)]],
    [[(3,), (4,)], [(5,)]],
    [[(3,)], [(3,), (4,)]],  # one token meets both
    [[(3, 4)], [(4,)]],
    [[(3, 3, 4)]],  # 3 3 3 4 holds it
    [[(3, 4, 3), (4, 3, 5)], [(3, 5), (1,)]],
    [[(3,), (3, 4)], [(4, 4)]],
]


def holds(tokens: tuple[int, ...], constraints: Any, continuing: frozenset[int] = frozenset()) -> bool:
    """Whether every constraint has an alternative somewhere in the tokens, as whole words."""
    return all(any(stands_in(tokens, phrase, continuing) for phrase in alternatives) for alternatives in constraints)


def stands_in(tokens: tuple[int, ...], phrase: tuple[int, ...], continuing: frozenset[int]) -> bool:
    for start in range(len(tokens) - len(phrase) + 1):
        end = start + len(phrase)
        goes_on = end < len(tokens) and tokens[end] in continuing
        begins_inside = start > 0 and phrase[0] in continuing
        if tokens[start:end] == phrase and not goes_on and not begins_inside:
            return True
    return False


@pytest.mark.parametrize("continuing", [frozenset(), frozenset({1, 4})])
@pytest.mark.parametrize("constraints", CONSTRAINTS)
def test_states_are_those_of_a_search_of_the_text(constraints: Any, continuing: frozenset[int]) -> None:
    words = RequiredWords(constraints, vocab_size=VOCAB_SIZE, continuing=continuing)
    shortest = {}
    for length in range(6):
        for tokens in itertools.product(range(VOCAB_SIZE), repeat=length):
            found = words.complete[words.after(tokens)].item()
            assert found == holds(tokens, constraints, continuing), tokens
            shortest.setdefault(found, length)
    assert words.distance[words.start].item() == shortest[True]


def test_single_words_need_a_state_for_each_set_of_them() -> None:
    for count in (1, 2, 3, 4):
        words = RequiredWords([[(token,)] for token in range(count)], vocab_size=9)
        assert len(words.complete) == 2**count and words.complete.sum() == 1
        assert words.distance[words.start].item() == count
    phrase = RequiredWords([[(1, 2, 3)]], vocab_size=9)
    assert len(phrase.complete) == 4
    assert [phrase.distance[phrase.after(tokens)].item() for tokens in ([], [1], [1, 2], [1, 1, 2], [1, 2, 1])] == [
        *(3, 2, 1, 1, 2)
    ]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([], "required_words is empty: name a word, or leave it out"),
        ([[(1,)], []], r"required_words\[1\] has an empty alternative"),
        ([[(1,), ()]], r"required_words\[0\] has an empty alternative"),
        ([[(9,)]], r"required_words\[0\] holds the token id 9, but the model scores 9 tokens: use the model's own"),
        ([[(-3,)]], "holds the token id -3"),
        ([[(token,)] for token in range(9)], "more than 256 states, each with beams of its own: require fewer words"),
    ],
)
def test_constraints_that_are_none(constraints: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RequiredWords(constraints, vocab_size=9)


def test_words_become_token_ids() -> None:
    tokenizer = tiny.tiny_processor().tokenizer
    dog, ball, red, men = tokenizer.convert_tokens_to_ids(["dog", "ball", "red", "men"])
    wanted = [[(dog,), (ball,)], [(red, men)]]
    assert required_token_ids(["dog| Ball", "red men"], tokenizer) == wanted
    assert required_token_ids([["dog", "Dog!", ball], [("red men")]], tokenizer) == wanted
    assert required_token_ids([[dog, [ball]], [(red, men)]]) == wanted
    assert required_token_ids("dog|ball", tokenizer) == wanted[:1]
    assert continuing_token_ids(tokenizer, 99, after=dog) == frozenset()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["dogs"], ValueError, "vocabulary has no word 'dogs', so no caption can hold it: name another form, such as"),
        (["dog|zyx"], ValueError, "no word 'zyx', so no caption can hold it: name another word"),
        (["red xyz"], ValueError, "no word 'xyz'"),
        (["dog|"], ValueError, "holds '', in which there is no word"),
        ([" !? "], ValueError, r"holds ' !\? ', in which there is no word"),
        (["dog <eos>"], ValueError, "holds 'dog <eos>', in which there is no word"),
        (5, TypeError, "required_words is 5: give a list of words"),
        ([5], TypeError, "holds 5: give each constraint as a list of alternatives"),
        ([[5.0]], TypeError, r"holds 5\.0: give strings, token ids or lists of token ids"),
        ([[["dog"]]], TypeError, "give strings, token ids or lists of token ids"),
    ],
)
def test_words_that_are_none(words: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        required_token_ids(words, tiny.tiny_processor().tokenizer)


def test_strings_need_a_tokenizer() -> None:
    with pytest.raises(ValueError, match="holds the string 'dog': give tokenizer= as well, or token ids"):
        required_token_ids(["dog"])


@pytest.mark.parametrize("prefix_space", [True, False])
def test_pieces_of_words_do_not_make_a_word_of_another(prefix_space: bool) -> None:
    """In byte pairs "dog" may go on to "dogs" or stand in "hotdog": neither holds the word."""
    byte_pairs = byte_pair_tokenizer()
    byte_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_pairs, eos_token="<end>")
    constraints = required_token_ids(["dog"], tokenizer)
    assert len(constraints[0]) == (1 if prefix_space else 2)  # with the blank before it, and without
    pieces = continuing_token_ids(tokenizer, len(tokenizer), after=constraints[0][0][-1])
    words = RequiredWords(constraints, vocab_size=len(tokenizer), continuing=pieces)
    for text, held in {
        "dog": True,
        "a dog": True,
        "a dog.": True,
        "a dog's ball": True,
        "dog days": True,
        "a dogs": False,
        "dogs": False,
        "hotdog": False,
        "a hotdog": False,
        "a hotdog dog": True,
        "a do g": False,
    }.items():
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        assert words.complete[words.after(tokens)].item() == held, text
