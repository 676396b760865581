"""Words that a caption must hold: text -> token ids -> a finite automaton, whose states constrained beams are kept for.

    ["cat|kitten", "dog"] --required_token_ids--> alternatives per constraint --RequiredWords--> next_state (S, V)

A state is the set of constraints that are met, with the beginning of a phrase that the last words may be completing
(Anderson et al. 2017, "Guided Open Vocabulary Image Captioning with Constrained Beam Search", section 3.2).
`constrained_beams_updown` searches with it.
"""

import difflib
import weakref
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch

MAX_STATES = 256
# stand for a token: the caption's beginning, a word of no constraint, and a piece that lengthens the word before it
BEGINNING, OTHER, CONTINUATION = -1, -2, -3

Phrase = tuple[int, ...]
State = tuple[int, int, Phrase]  # bits of the constraints met, of those met unless the last word goes on, phrase so far

_CONTINUATIONS: weakref.WeakKeyDictionary[Any, tuple[int, frozenset[int]]] = weakref.WeakKeyDictionary()


class RequiredWords:
    """The automaton of several constraints, each met by any of its alternatives, each alternative one or more tokens.

    Tokens of an alternative follow each other. One token may meet several constraints.

    Args:
        constraints: for each constraint its alternatives as token ids in 0..vocab_size - 1.
        vocab_size: V, the number of scores that the model gives.
        continuing: tokens that lengthen the word before them (`continuing_token_ids`): an alternative that is followed
            by one is not met, and an alternative that starts with one may only stand at the caption's beginning.

    Attributes:
        next_state: (S, V) long, the state after each token from each of the S states.
        complete: (S,) bool, True = every constraint is met if the caption ends here.
        distance: (S,) long, the fewest tokens until a complete state.
        start: the state before the first word.

    Raises:
        ValueError: for no constraint, an empty one, ids out of range, and for more than 256 states.

    >>> words = RequiredWords([[(4,), (5, 6)], [(7,)]], vocab_size=9)
    >>> len(words.complete), words.distance[words.start].item()
    (6, 2)
    >>> [words.complete[words.after(tokens)].item() for tokens in ([5, 7, 6], [5, 6, 7], [7, 1, 4])]
    [False, True, True]
    """

    def __init__(
        self, constraints: Sequence[Iterable[Sequence[int]]], *, vocab_size: int, continuing: Collection[int] = ()
    ):
        self.continuing = frozenset(continuing)
        self.constraints = [[self._placed(tuple(phrase)) for phrase in phrases] for phrases in constraints]
        check_constraints(self.constraints, vocab_size=vocab_size)
        self.everything = (1 << len(self.constraints)) - 1
        states = self._reachable()
        numbers = {state: number for number, state in enumerate(states)}
        self.start = 0
        self.next_state = torch.empty(len(states), vocab_size, dtype=torch.long)
        pieces = torch.tensor(sorted(self.continuing), dtype=torch.long)
        named = sorted(self._named_tokens())
        for row, state in zip(self.next_state, states, strict=True):
            row.fill_(numbers[self._step(state, OTHER)])
            if len(pieces):
                row[pieces] = numbers[self._step(state, CONTINUATION)]
            for token in named:
                row[token] = numbers[self._step(state, token)]
        self.complete = torch.tensor([(met | pending) == self.everything for met, pending, _ in states])
        self.distance = self._distances()

    def after(self, tokens: Iterable[int], *, state: int | None = None) -> int:
        """The state after tokens, from `state` (default: the start)."""
        state = self.start if state is None else state
        for token in tokens:
            state = int(self.next_state[state, token])
        return state

    def _placed(self, phrase: Phrase) -> Phrase:
        """An alternative that starts inside a word can only stand where no word is before it."""
        return (BEGINNING, *phrase) if phrase and phrase[0] in self.continuing else phrase

    def _named_tokens(self) -> set[int]:
        return {token for phrases in self.constraints for phrase in phrases for token in phrase} - {BEGINNING}

    def _reachable(self) -> list[State]:
        """Every state, the start first."""
        tokens = [*sorted(self._named_tokens()), OTHER, *([CONTINUATION] if self.continuing else [])]
        states: dict[State, None] = {(0, 0, self._open_phrase((BEGINNING,), met=0)): None}
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            found = {self._step(state, token): None for token in tokens}
            waiting += [new for new in found if new not in states]
            states |= found
            if len(states) > MAX_STATES:
                raise ValueError(
                    f"required_words need more than {MAX_STATES} states, each with beams of its own: "
                    "require fewer words, or phrases of fewer tokens, in one caption"
                )
        return list(states)

    def _step(self, state: State, token: int) -> State:
        met, pending, phrase = state
        if token != CONTINUATION and token not in self.continuing:
            met |= pending
        text = (*phrase, token)
        pending = sum(
            1 << number
            for number, phrases in enumerate(self.constraints)
            if not met >> number & 1 and any(text[-len(one) :] == one for one in phrases)
        )
        if not self.continuing:
            met, pending = met | pending, 0
        return met, pending, self._open_phrase(text, met=met)

    def _open_phrase(self, text: Phrase, *, met: int) -> Phrase:
        """The longest end of the text that begins an alternative of a constraint that is not met, and is not all."""
        open_phrases = [
            phrase for number, phrases in enumerate(self.constraints) if not met >> number & 1 for phrase in phrases
        ]
        for length in range(len(text), 0, -1):
            end = text[-length:]
            if any(len(phrase) > length and phrase[:length] == end for phrase in open_phrases):
                return end
        return ()

    def _distances(self) -> torch.Tensor:
        far = len(self.complete) + 1
        distance = torch.where(self.complete, 0, far)
        for _ in range(len(self.complete)):
            distance = torch.minimum(distance, distance[self.next_state].amin(dim=1) + 1)
        return distance


def check_constraints(constraints: Sequence[Sequence[Phrase]], *, vocab_size: int) -> None:
    """Raises `ValueError` unless every constraint has alternatives of one token or more, each in 0..vocab_size - 1."""
    if not constraints:
        raise ValueError("required_words is empty: name a word, or leave it out")
    for number, phrases in enumerate(constraints):
        if not phrases or not all(phrases):
            raise ValueError(f"required_words[{number}] has an empty alternative: give each at least one token")
        for token in (token for phrase in phrases for token in phrase if token != BEGINNING):
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"required_words[{number}] holds the token id {token}, but the model scores {vocab_size} tokens: "
                    "use the model's own tokenizer"
                )


def required_token_ids(required_words: Any, tokenizer: Any = None) -> list[list[Phrase]]:
    """What `generate` and the pipeline take as required words -> for each constraint its alternatives as token ids.

    Args:
        required_words: a list of constraints (one string is one constraint). A constraint is a string whose
            alternatives are separated by `|`, such as `"cat|kitten"`, or a list of alternatives: strings of one word or
            more, token ids, or lists of token ids.
        tokenizer: of the model; needed for strings alone.

    Raises:
        ValueError: for a word that the tokenizer does not have, or that is only special tokens; an empty alternative;
            strings without a tokenizer.
        TypeError: for something else than the above.

    >>> required_token_ids([[5, (6, 7)], [[8]]])
    [[(5,), (6, 7)], [(8,)]]
    """
    if isinstance(required_words, str):
        required_words = [required_words]
    if not isinstance(required_words, Sequence):
        raise TypeError(f'required_words is {required_words!r}: give a list of words, such as ["cat|kitten", "dog"]')
    constraints = []
    for constraint in required_words:
        alternatives = constraint.split("|") if isinstance(constraint, str) else constraint
        if not isinstance(alternatives, Sequence):
            raise TypeError(f"required_words holds {constraint!r}: give each constraint as a list of alternatives")
        phrases: dict[Phrase, None] = {}
        for alternative in alternatives:
            phrases |= dict.fromkeys(_spellings(alternative, tokenizer))
        constraints.append(list(phrases))
    return constraints


def _spellings(alternative: Any, tokenizer: Any) -> list[Phrase]:
    """The token ids of an alternative: of a string those at a caption's beginning and those after another word."""
    if isinstance(alternative, int):
        return [(alternative,)]
    if not isinstance(alternative, str):
        if not isinstance(alternative, Sequence) or not all(isinstance(token, int) for token in alternative):
            raise TypeError(f"required_words holds {alternative!r}: give strings, token ids or lists of token ids")
        return [tuple(alternative)]
    if tokenizer is None:
        raise ValueError(f"required_words holds the string {alternative!r}: give tokenizer= as well, or token ids")
    text = alternative.strip()
    ids = [tuple(tokenizer(spelt, add_special_tokens=False).input_ids) for spelt in (text, f" {text}") if text]
    special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
    if not ids or not all(ids) or any(special & {*phrase} for phrase in ids):
        raise ValueError(f"required_words holds {alternative!r}, in which there is no word: name one, or leave it out")
    if tokenizer.unk_token_id is not None and any(tokenizer.unk_token_id in phrase for phrase in ids):
        raise ValueError(_unknown_word(text, tokenizer))
    return list(dict.fromkeys(ids))


def _unknown_word(text: str, tokenizer: Any) -> str:
    unknown = [
        word for word in text.split() if tokenizer.unk_token_id in tokenizer(word, add_special_tokens=False).input_ids
    ]
    word = unknown[0] if unknown else text
    known = [str(name) for name in tokenizer.get_vocab() if name not in tokenizer.all_special_tokens]
    meant = difflib.get_close_matches(word.lower(), known, n=3)
    cure = f"name another form, such as {' or '.join(map(repr, meant))}" if meant else "name another word"
    return f"the model's vocabulary has no word {word!r}, so no caption can hold it: {cure}"


def continuing_token_ids(tokenizer: Any, vocab_size: int, *, after: int) -> frozenset[int]:
    """The tokens below `vocab_size` that lengthen the word before them, such as "egory" after "cat" in byte pairs.

    None in a vocabulary of whole words. after: a token that ends in a letter or digit. They are found by decoding each
    token after that one, once for every tokenizer.
    """
    size = min(vocab_size, len(tokenizer))
    known = _CONTINUATIONS.get(tokenizer)
    if known is None or known[0] != size:
        before = tokenizer.decode([after]).strip()
        texts = tokenizer.batch_decode([[after, token] for token in range(size)])
        rests = [text.strip().removeprefix(before) for text in texts]
        pieces = frozenset(token for token, rest in enumerate(rests) if rest[:1].isalnum())
        known = _CONTINUATIONS[tokenizer] = (size, pieces)
    return known[1]
