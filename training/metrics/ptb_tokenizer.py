"""Penn Treebank tokenisation of captions as the official caption evaluator does it, in Python.

The official evaluator runs Stanford's PTBTokenizer 3.4.1 (`-preserveLines -lowerCase`) in Java and drops punctuation.
`ptb_tokenize` gives the same words without Java: like that tokenizer it takes, at every place of the caption, the rule
that reads furthest (the earlier rule where two read as far), where a rule may also look at what follows its token.

Known differences, where the official output depends on a neighbouring caption: each caption here is read as if a line
that starts with an ordinary lower-case word followed it, and a carriage return, vertical tab, form feed or Unicode line
separator inside a caption is a space (there it shifts every later caption by one).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

# Brackets are missing from the official list of punctuation once it is lower-cased ("-lrb-"), so they stay.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

LINE_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
NEXT_LINE = "\nx x"  # what a caption is read before
MEMO_SIZE = 1 << 16


def _character_class(characters: Iterable[str]) -> str:
    """The inside of a regular expression's [...] for single characters, as ranges."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, characters)):
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(re.escape(chr(a)) + (f"-{re.escape(chr(b))}" if b > a else "") for a, b in ranges)


_PLANE = [chr(code) for code in range(0x10000)]
_LETTERS = _character_class(c for c in _PLANE if unicodedata.category(c)[0] == "L" and not "\u02c2" <= c <= "\u02ff")
_DIGITS = _character_class(c for c in _PLANE if unicodedata.category(c) == "Nd")
# Modifiers and marks that may stand in a word but do not make one of the simpler tokens below.
_MARKS = "\u00ad\u02c2-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0670\u0900-\u0903\u093c\u093e-\u094e"
_SYMBOLS = (
    "$%&*;<=>\\\\^`|~\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7\u2016\u2017\u201a\u201e-\u2023"
    "\u2030-\u2038\u203b\u203e-\u2042\u2070\u2074-\u207e\u2080-\u208e\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002"
    "\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)

_SPACE = "[ \t\u00a0\u2000-\u200a\u3000]"
_SPACE_OR_LINE = "[ \t\u00a0\u2000-\u200a\u3000\n]"
_APOSTROPHE = "(?:['\u0092\u2019]|&apos;)"
_QUOTE_LIKE = "(?:['\u0092\u2019`\u0091\u2018\u201b]|&apos;)"
_ACCENTED = "&[aeiouAEIOU](?:acute|grave|uml);"
_LETTER = f"(?:[{_LETTERS}{_MARKS}]|{_ACCENTED})"
_LETTER_OR_DIGIT = f"(?:[{_LETTERS}{_MARKS}{_DIGITS}]|{_ACCENTED})"
_ALNUM = f"[{_LETTERS}{_DIGITS}]"
_DIGIT = f"[{_DIGITS}]"
_WORD = f"{_LETTER}{_LETTER_OR_DIGIT}*(?:[.!?]{_LETTER}{_LETTER_OR_DIGIT}*)*"
_HYPHEN = "[-_\u058a\u2010\u2011]"
_NUMBER = f"(?:{_DIGIT}*(?:[.:,\u00ad\u066b\u066c]{_DIGIT}+)+|{_DIGIT}+)"
_AUXILIARY = f"{_APOSTROPHE}(?:[msdMSD]|[rR][eE]|[vV][eE]|[lL][lL])"
_NOT = f"[nN]{_QUOTE_LIKE}[tT]"
_DOMAIN = r"[^ \t\n\f\r\"<>|.!?(){},]+\."
_PLAIN_DOMAIN = r"[^ \t\n\f\r\"`'<>|.!?(){},-_$]+\."  # `,-_` is a range: no digits, no capitals
_PATH = r"[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},-]"
_LOCAL = r"[^ \t\n\f\r\"<>|(){}\u00a0]"
_HOST = r"[^ \t\n\f\r\"<>|(){}.\u00a0]+"
_FILE_ENDINGS = (
    "3gp|avi|bat|bmp|bz2|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|pptx?|ps|py|sql|tar|"
    "txt|wav|xlsx?|xml|zip"
)
# Abbreviations that may end a sentence, any that must start with a capital, and those that do not end one.
_ENDING = (
    "ala|apr|ariz|assn|aug|bancorp|bhd|bldg|blvd|bros|calif|colo|conn|corp|cos?|ct|dak|dec|ed\\.d|esq|est|etc|ext|feb|fla|fri|ga|"
    "inc|ind|intl|jan|jr|jul|jun|kans?|ky|ltd|mar|md|mich|minn|mon|mont?|neb|nev|nov|oct|okla|penn|ph\\.d|plc|"
    "pp?t[ye]s?|rd|rt|sept?|seq|sq|sr|sys|tel|tenn|thurs?|tues?|univ|va|vt|wed|wisc?|wyo|al"
)
_CAPITAL_ENDING = "A[lrzLRZ]k?|D[eE][lL]|I[lL][lL]|L[aA]|M[aA][sS][sS]|M[iI][sS][sS]|O[rR][eE]|P[aA]|T[eE][xX]|W[aA][sS][hH]|A[rR][kK]"
_TITLES = (
    "adj|adm|adv|alex|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|drs?|elec|ens|ft|gen|govs?|hon|insp|invt|jos|"
    "lieut|lt|maj|messrs|mfg|mlle|mme|mr|mrs|ms|msgr|mt|mtg|natl|pfc|ph|pres|profs?|pvt|reps?|rev|sens?|sfc|sgt|spc|st|ste|supts?|"
    "vs|wm"
)
_NUMBERED = "art|ca|figs?|nos?|op|pp|prop"
_SENTENCE_STARTS = (
    "a|about|according|additionally|after|an|as|at|but|he|her|here|however|if|in|it|last|many|more|now|once|one|other|our|she|since|"
    "so|some|such|that|the|their|then|there|these|they|this|we|what|when|while|yet|you"
)
