"""Words of English text as the Penn Treebank splits them, equal to NLTK's `word_tokenize` on captions, without NLTK.

CHAIR's official script reads captions with it. Text is split into sentences first, since only the last full stop of a
sentence is a word of its own; in lower-case text a sentence ends at `.`, `?` or `!` before white space, unless the
full stop belongs to an abbreviation.
"""

import re

# of English Punkt's list, those met in captions and addresses; a full stop behind them ends no sentence
ABBREVIATIONS = """
    a.m p.m u.s u.k u.n i.e e.g d.c n.y l.a ph.d dr mr mrs ms jr sr st ave inc corp co ltd bros vs etc no gen gov sen
    rep rev prof sgt lt col capt maj ft jan feb aug sept oct nov dec mon tues wed thurs fri"""
SENTENCE_END = re.compile(r"(?<!\S)(?P<word>\S*)[.?!][)\]}\"'’”]*(?=\s)")
OPENING_MARK = re.compile(r"[«“‘„]|``|`")
OPENING_QUOTE = re.compile(r"^\"|(?<=[ (\[{<])(?:\"|'')")
APOSTROPHE_BEFORE_WORD = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)")
LAST_FULL_STOP = re.compile(r"(?<=[^.])\.(?=[])}>\"'»”’ ]*$)")
COLON_OR_COMMA = re.compile(r"[:,](?=\D|$)")
ALWAYS_APART = re.compile(r"\.{2,}|--|[;@#$%&?!*\[\](){}<>»”’]")
CLOSING_QUOTE = re.compile(r"''|\"")
LONE_APOSTROPHE = re.compile(r"(?<=[^'])'(?= )")
ENDINGS = [re.compile(rf"(?<=[^' ])({ending})(?= )") for ending in ("'[smd]|'", "'ll|'re|'ve|n't")]
JOINED_WORDS = re.compile(
    r"\b(?:(can)(not)|(d)('ye)|(gim)(me)|(gon)(na)|(got)(ta)|(lem)(me)|(more)('n)|(wan)(na)(?=\s))\b"
)
TIS = re.compile(r"(?<= )('t)(is|was)\b")
_ABBREVIATIONS = frozenset(ABBREVIATIONS.split())


def treebank_tokenize(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case: "man's" is two words, quotes become `` and ''.

    Source: the Penn Treebank's tokenisation as NLTK 3 applies it after Punkt's split into sentences; Punkt's learnt
    abbreviations are a short list here, which decides only whether their full stops stand apart.

    >>> treebank_tokenize("The man's dog can't run. It sits!")
    ['the', 'man', "'s", 'dog', 'ca', "n't", 'run', '.', 'it', 'sits', '!']
    """
    return [word for sentence in sentences(text.lower()) for word in sentence_words(sentence)]


def sentences(text: str) -> list[str]:
    """The sentences of a lower-case text.

    >>> sentences("a dog. a cat on elm st. corner... asleep")
    ['a dog.', 'a cat on elm st. corner... asleep']
    """
    found, start = [], 0
    for match in SENTENCE_END.finditer(text):
        word, mark = match["word"], text[match.end("word")]
        if mark == "." and (word.endswith(".") or word.lstrip("([{\"'") in _ABBREVIATIONS):
            continue
        found.append(text[start : match.end()])
        start = match.end()
    return [sentence for part in (*found, text[start:]) if (sentence := part.strip())]


def sentence_words(text: str) -> list[str]:
    """The words of one lower-case sentence."""
    text = OPENING_MARK.sub(r" \g<0> ", text)
    text = OPENING_QUOTE.sub(" `` ", text)
    text = APOSTROPHE_BEFORE_WORD.sub("' ", text)
    text = LAST_FULL_STOP.sub(" . ", text)
    text = COLON_OR_COMMA.sub(r" \g<0> ", text)
    text = ALWAYS_APART.sub(r" \g<0> ", text)
    text = LONE_APOSTROPHE.sub(" ' ", text)
    text = CLOSING_QUOTE.sub(" '' ", f" {text} ")
    text = f" {' '.join(text.split())} "
    for ending in ENDINGS:
        text = ending.sub(r" \1", text)
    text = JOINED_WORDS.sub(spaced, text)
    return TIS.sub(r"\1 \2", text).split()


def spaced(match: re.Match[str]) -> str:
    """The groups of a match that took part, between blanks."""
    return f" {' '.join(group for group in match.groups() if group)} "
