"""Answers as text: the official VQA normalisation, and the soft scores of answers from many annotators.

Used for labels before they enter the vocabulary, and for predictions and human answers before they are compared
(`training.metrics.vqa.accuracy`).

    "The two  dogs!" --strip_punctuation--> "The two  dogs" --normalize_words--> "2 dogs"

Rules and tables are those of the VQA evaluator (Antol et al. 2015, `VQAEval`), including the peculiarities that affect
published numbers: full stops are kept only before a digit, and only the first 32 are removed (`re.UNICODE`, which is
32, is passed as the count); capitalised entries of the contractions never match, so "im" and "ive" are unchanged;
"somebody'd" loses its apostrophe.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
ARTICLES = frozenset(("a", "an", "the"))
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBER_WORDS)}
# Contractions that the evaluator restores from every spelling that lacks exactly one of their apostrophes.
CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
CONTRACTIONS = {"somebody'd": "somebodyd"} | {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
}

MOST_STOPS = 32
CACHED_TEXTS = 2**18  # VQA v2 has 4.4 million answers but about 150 thousand different ones
SOFT_SCORE_FORMS = ("leave_one_out", "table", "agree_of_three")
SCORE_TABLE = (0.0, 0.3, 0.6, 0.9, 1.0)

_PUNCTUATION_MARK = re.compile(f"[{re.escape(PUNCTUATION)}]")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")


def clean_answer(text: str) -> str:
    """The evaluator's first step: line breaks and tabs become spaces, and the ends are stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=CACHED_TEXTS)
def normalize_answer(text: str) -> str:
    """The official normalisation: `strip_punctuation`, then `normalize_words`.

    The evaluator applies `clean_answer` before; that matters only if a mark touches a line break or the ends of the
    text.

    >>> normalize_answer("The two  dogs!"), normalize_answer("dont know."), normalize_answer("10,000")
    ('2 dogs', "don't know", '10000')
    """
    return normalize_words(strip_punctuation(text))


@lru_cache(maxsize=CACHED_TEXTS)
def normalize_answer_evalai(text: str) -> str:
    """The normalisation of the challenge server and of TextVQA: lower case, no "," and "?", "'s" separated, and then
    `normalize_answer`.

    >>> normalize_answer_evalai("McDonald's, 2?")
    "mcdonald 's 2"
    """
    lowered = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return normalize_answer(clean_answer(lowered))


def strip_punctuation(text: str) -> str:
    """The first step: each mark is removed or becomes a space, and full stops that are not before a digit are removed.

    A mark is removed if it is next to a space anywhere in the text, and all marks are if the text has digit,digit; else
    it becomes a space. The original text decides for all marks.

    >>> strip_punctuation("red/white"), strip_punctuation("red /white"), strip_punctuation("1,000/2 p.m.")
    ('red white', 'red white', '10002 pm')
    """
    marks = set(_PUNCTUATION_MARK.findall(text))
    if marks:
        in_number = _COMMA_IN_NUMBER.search(text) is not None
        removed = {mark for mark in marks if in_number or f"{mark} " in text or f" {mark}" in text}
        text = text.translate({ord(mark): None if mark in removed else " " for mark in marks})
    return _STOP.sub("", text, count=MOST_STOPS) if "." in text else text


def normalize_words(text: str) -> str:
    """The second step: lower case, number words to ten as digits, no articles, apostrophes of contractions restored.

    >>> normalize_words("None of  the dogs isnt")
    "0 of dogs isn't"
    """
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def soft_scores(answers: Sequence[str], *, form: str = "leave_one_out") -> dict[str, float]:
    """Answer -> score in 0..1, from the annotators' answers to one question: the targets of the sigmoid answers.

    Answers are counted unchanged: pass normalised ones for the evaluator's numbers; the reimplementation counts raw
    ones.

    Args:
        answers: the annotators' answers; [] gives {}.
        form: see `soft_score`.

    >>> soft_scores(["dog"] * 2 + ["cat"] * 8)
    {'dog': 0.6, 'cat': 1.0}
    """
    counts = Counter(answers)
    return {answer: soft_score(count, num_answers=len(answers), form=form) for answer, count in counts.items()}


@lru_cache(maxsize=2**12)
def soft_score(count: int, *, num_answers: int = 10, form: str = "leave_one_out") -> float:
    """The score, 0..1, of an answer that `count` of `num_answers` annotators gave.

    Args:
        count: the number of annotators who gave it, 0..num_answers.
        num_answers: the number of annotators, at least one.
        form: "leave_one_out", the VQA evaluator's: the mean, over the annotators left out, of min(n/3, 1) with n of the
            others agreeing (a single annotator's answer scores 0, since there are no others); "table", that of the
            popular reimplementation (hengyuan-hu): 0, .3, .6, .9, 1 for 0, 1, 2, 3, more; "agree_of_three":
            min(n/3, 1) (Anderson et al. 2018, and A-OKVQA's direct answers).

    Raises:
        ValueError: for an unknown form, or a count out of range.

    >>> [soft_score(count) for count in range(5)]
    [0.0, 0.3, 0.6, 0.9, 1.0]
    """
    if not 0 <= count <= num_answers or num_answers < 1:
        raise ValueError(f"{count} of {num_answers} annotators cannot agree; give a count from 0 to their number")
    if form == "leave_one_out":
        # the annotator left out agrees, or does not; in thirds, so that only the division rounds
        thirds = count * min(count - 1, 3) + (num_answers - count) * min(count, 3)
        return thirds / (3 * num_answers)
    if form == "table":
        return SCORE_TABLE[min(count, len(SCORE_TABLE) - 1)]
    if form == "agree_of_three":
        return min(count, 3) / 3
    raise ValueError(f"form is {form!r}; it can be one of {', '.join(SOFT_SCORE_FORMS)}")
