"""Penn Treebank tokenisation of captions as in the official caption evaluator, in Python.

The official evaluator runs Stanford's PTBTokenizer 3.4.1 (`-preserveLines -lowerCase`) in Java and drops punctuation.
`ptb_tokenize` gives the same words without Java: at every place of the caption it applies the rule with the longest
match (the earlier one of equally long ones); a rule may require a certain text after its token.

It differs where the official output depends on a neighbouring caption: each caption is read as if a line that starts
with an ordinary lower-case word followed it, and a carriage return, vertical tab, form feed or Unicode line separator
inside a caption is a space (officially it shifts every later caption by one).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable

# Brackets are kept, since the official list of punctuation has them in upper case ("-LRB-"), the tokens in lower case.
PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

LINE_BREAKS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
NEXT_LINE = "\nx x"  # the text that is assumed after a caption


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
_LETTERS = _character_class(c for c in _PLANE if unicodedata.category(c)[0] == "L")
_DIGITS = _character_class(c for c in _PLANE if unicodedata.category(c) == "Nd")
# Marks of the scripts in the official tokenizer: part of a word, but not of the tokens of plain letters below.
_MARKS = (
    "\u00ad\u02c2-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670"
    "\u06d6-\u06e4\u06e7-\u06ed\u0730-\u074c\u07a6-\u07b0\u07eb-\u07f3\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962"
    "\u0963\u0981-\u0983\u09bc\u09be-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc\u0abe-\u0acf"
    "\u0b82\u0bbe-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d48\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd"
)
_SYMBOLS = (
    "$%&*;<=>\\\\^`|~\u00a1\u00a5-\u00a9\u00ac\u00ae-\u00b4\u00b6-\u00b9\u00bf\u00d7\u00f7\u0387\u05be\u05c0\u05c3\u05f3"
    "\u05f4\u0609-\u060c\u061b\u061e\u061f\u066a\u066d\u06d4\u0964\u0965\u0e3f\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038"
    "\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u20a4\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002"
    "\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)

_SPACE = "[ \t\u00a0\u2000-\u200a\u3000]"
_BLANKS = re.compile(f"{_SPACE}+")
_SPACE_OR_LINE = "[ \t\u00a0\u2000-\u200a\u3000\n]"
_APOSTROPHE = "(?:['\u0092\u2019]|&(?ai:apos);)"
_QUOTE_LIKE = "(?:['\u0092\u2019`\u0091\u2018\u201b]|&(?ai:apos);)"
_ACCENTED = "&[aeiouAEIOU](?ai:acute|grave|uml);"
_LETTER = f"(?:[{_LETTERS}{_MARKS}]|{_ACCENTED})"
_LETTER_OR_DIGIT = f"(?:[{_LETTERS}{_MARKS}{_DIGITS}]|{_ACCENTED})"
_ALNUM = f"[{_LETTERS}{_DIGITS}]"
_DIGIT = f"[{_DIGITS}]"
_WORD = f"{_LETTER}{_LETTER_OR_DIGIT}*(?:[.!?]{_LETTER}{_LETTER_OR_DIGIT}*)*"
_HYPHEN = "[-_\u058a\u2010\u2011]"
_PART = f"(?:[dDoOlL]{_QUOTE_LIKE}{_ALNUM})?{_ALNUM}+"
_THING = f"{_PART}(?:{_HYPHEN}{_PART})*"
_NUMBER = f"(?:{_DIGIT}*(?:[.:,\u00ad\u066b\u066c]{_DIGIT}+)+|{_DIGIT}+)"
_AUXILIARY = f"{_APOSTROPHE}(?:[msdMSD]|[rR][eE]|[vV][eE]|[lL][lL])"
_NOT = f"[nN]{_QUOTE_LIKE}[tT]"
_ELISION = (
    f"{_APOSTROPHE}[nN]{_APOSTROPHE}?|[lLdDjJ]{_APOSTROPHE}|[dD]unkin{_APOSTROPHE}|(?ai:somethin){_APOSTROPHE}|"
    f"[oO][lL]{_APOSTROPHE}|{_APOSTROPHE}(?ai:em|cause|till?)|{_APOSTROPHE}[2-9]0[sS]|[cC]{_APOSTROPHE}(?ai:mon)|"
    f"[cC]ont{_APOSTROPHE}d\\.|[nN]or{_APOSTROPHE}easter|[sS]{_APOSTROPHE}mores|[eE]v{_APOSTROPHE}ry|"
    f"[lL]i{_APOSTROPHE}l|[nN]at{_APOSTROPHE}l|[oOeE]{_APOSTROPHE}er|[oO]{_QUOTE_LIKE}[oO]"
)
_DOMAIN = r"[^ \t\n\f\r\"<>|.!?(){},]+\."
_PLAIN_DOMAIN = r"[^ \t\n\f\r\"`'<>|.!?(){},-_$]+\."  # `,-_` is a range: no digits, no capitals
_PATH = r"[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},-]"
_LOOSE_PATH = r"[^ \t\n\f\r\"<>|()]+[^ \t\n\f\r\"<>|.!?(){},-]"
_ADDRESS = rf"(?:(?ai:www)\.(?:{_DOMAIN})+[a-zA-Z]{{2,4}}|(?:{_PLAIN_DOMAIN})+(?ai:com|net|org|edu))(?:/{_LOOSE_PATH})?"
_LOCAL = r"[^ \t\n\f\r\"<>|(){}\u00a0]"
_HOST = r"[^ \t\n\f\r\"<>|(){}.\u00a0]+"
_FILE_ENDING = (
    "bat|bmp|cgi|class|cpp|c|dll|docx?|exe|gif|gz|html?|h|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|"
    "wav|xml|x|zip"
)
# With their full stop: abbreviations that may end a sentence (some only with a capital), others, and those of numbers.
_ENDING = (
    "(?ai:ala|al|apr|ariz|assn|aug|bancorp|bhd|bldg|blvd|bros|calif|colo|conn|corp|cos?|ct|dak|dec|ed\\.d|esq|est|etc|ext|"
    "feb|fla|fri|ga|inc|ind|intl|jan|jr|jul|jun|kans?|ky|ltd|mar|md|mich|minn|mont?|mo|neb|nev|nov|oct|okla|penn|"
    "ph\\.d|plc|rd|rt|sept?|seq|sq|sr|sys|tel|tenn|thu|thurs|tues?|univ|va|vt|wed|wisc?|wyo)|[pP]p?t[ye]s?|"
    "(?:A(?ai:rk|z)|D(?ai:el)|I(?ai:ll)|L(?ai:a)|M(?ai:ass|iss)|O(?ai:re)|P(?ai:a)|T(?ai:ex)|W(?ai:ash))"
)
_TITLE = (
    "(?ai:adj|adm|adv|alex|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|drs?|elec|ens|ft|gen|govs?|hon|"
    "insp|invt|jos|lieut|lt|maj|messrs|mlle|mme|mr|mrs|ms|msgr|mt|natl|pfc|ph|pres|profs?|pvt|reps?|rev|sens?|sfc|"
    "sgt|spc|st|ste|supts?|vs|wm)|[mM][ft]g"
)
_NUMBERED = "(?ai:art|ca|figs?|nos?|op|pp|prop)"
_SENTENCE_STARTS = (
    "(?=[A-Z])(?ai:A|About|According|Additionally|After|An|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|Many|More|"
    "Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|Then|There|These|They|This|We|What|When|While|Yet|You|M[rs]\\.)"
)
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+|(?ai:(?:canada|sino|korean|eu|japan|non)-u\.s|u\.s\.-(?:u\.k|u\.s\.s\.r))"
_LETTERS_JOINED = "[A-Z]+(?:(?:[+&]|(?ai:&amp;))[A-Z]+)+"
_HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:(?:{_ACRONYM})\.|[A-Za-z0-9\u00ad]+))+"
_PHONE = (
    r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
    r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}|"
    r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
_TAG = (
    r"<(?:[!?][A-Za-z-][^>\r\n]*|/?[A-Za-z][A-Za-z0-9:._-]*(?:[ ]+(?:[A-Za-z][A-Za-z0-9:._-]*[ ]*=[ ]*"
    r"(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[A-Za-z][A-Za-z0-9:._-]*)|[A-Za-z][A-Za-z0-9:._-]*))*[ ]*/?)[ ]*>"
)


SYMBOL_NAMES = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "&lt;": "<", "&gt;": ">",
    "\u00a2": "cents", "\u00a3": "#", "\u20ac": "$", "\u0080": "$", "\u00a4": "$", "\u20a0": "$",
    "\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3",
}  # fmt: skip
QUOTE_NAMES = {'"': ""} | dict.fromkeys("\u2018\u0091\u201b\u2039", "`") | dict.fromkeys("\u2019\u0092\u203a", "'")
QUOTE_NAMES |= dict.fromkeys("\u201c\u0093\u00ab", "``") | dict.fromkeys("\u201d\u0094\u00bb", "''")
QUOTE_CHARACTERS = str.maketrans(QUOTE_NAMES)


def _same(token: str) -> str:
    return token


def _nothing(token: str) -> str:
    return ""


def _without_soft_hyphens(token: str) -> str:
    return token.replace("\u00ad", "") or "-"


def _spaces_kept(token: str) -> str:
    """A space inside a token becomes a no-break space."""
    return token.replace(" ", "\u00a0")


def _round_brackets(token: str) -> str:
    return token.replace("(", "-lrb-").replace(")", "-rrb-")


def _phone(token: str) -> str:
    return _round_brackets(_spaces_kept(token))


def _ampersands(token: str) -> str:
    return re.sub("(?ai:&amp;)", "&", token)


def _symbol(token: str) -> str:
    return SYMBOL_NAMES.get(token.lower(), token)


def _quotes(token: str) -> str:
    return token.replace("&apos;", "'").replace("&quot;", "").translate(QUOTE_CHARACTERS)


# Rules: the first character (L letter, D digit, O other), the token, the text that must follow, how it is written.
Rule = tuple[str, str, str, Callable[[str], str]]
_RULES: list[Rule] = [
    ("L", "(?ai:can)", "(?ai:not)", _same),
    ("L", "(?ai:gon|wan)", "(?ai:na)", _same),
    ("L", "(?ai:got)", "(?ai:ta)", _same),
    ("L", "(?ai:lem|gim)", "(?ai:me)", _same),
    ("O", "'(?ai:t)", "(?ai:is|was)", _same),
    ("O", _TAG, "", _spaces_kept),
    ("O", "(?ai:&(?:md|mdash|ndash);)|[\u0096\u0097\u2013\u2014\u2015]", "", _nothing),
    ("O", "(?ai:&amp;)", "", _ampersands),
    ("O", "(?ai:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)", "", _same),
    ("O", "(?ai:&[lg]t;)", "", _symbol),
    ("LO", _WORD, _AUXILIARY, _without_soft_hyphens),
    ("L", "[A-Za-z]*[A-MO-Za-mo-z]\u00ad*", _NOT, _without_soft_hyphens),
    ("LO", _ELISION, "", _same),
    ("L", f"[A-HJ-XZn]{_QUOTE_LIKE}[{_LETTERS}]{{2,}}", "", _same),
    ("L", f"[{_LETTERS}]+[aeiouyAEIOUY]{_QUOTE_LIKE}[aeiouA-Z][{_LETTERS}]*", "", _same),
    ("L", f"[yY]{_APOSTROPHE}", f"[{_LETTERS}]", _same),
    ("LO", _WORD, "", _without_soft_hyphens),
    ("L", "(?ai:https?://)" + _PATH, "", _same),
    ("LDO", _ADDRESS, "", _same),
    ("LDO", f"(?ai:&lt;|<)?(?ai:mailto:)?[a-zA-Z0-9]{_LOCAL}*@(?:{_HOST}\\.)*{_HOST}(?ai:&gt;|>)?", "", _same),
    ("O", "[@\uff20][a-zA-Z_][a-zA-Z_0-9]*", "", _same),
    ("O", f"#{_LETTER}+", "", _same),
    ("O", _AUXILIARY, "[^A-Za-z]", _quotes),
    ("L", _NOT, "[^A-Za-z]", _quotes),
    ("D", f"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}", "", _same),
    ("DO", f"[-+]?{_NUMBER}", "", _without_soft_hyphens),
    ("O", "[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)", "", _same),
    ("D", f"(?:{_DIGIT}{{1,4}}[- \u00a0])?{_DIGIT}{{1,4}}(?:\\\\?/|\u2044){_DIGIT}{{1,4}}", "", _spaces_kept),
    (
        "L",
        "(?ai:pro|anti)-|(?ai:s&(?:amp;)?p-500|s&(?:amp;)?ls)|[cC]ap" + _APOSTROPHE + "n|[cC]" + _APOSTROPHE + "est",
        "",
        _ampersands,
    ),
    ("O", "(?ai:-(?:RRB|LRB|RCB|LCB|RSB|LSB)-)", "", _same),
    ("O", f"{_APOSTROPHE}[0-9][0-9]", _SPACE_OR_LINE, _same),
    ("LD", _THING, "", _same),
    ("L", _LETTERS_JOINED, "", _ampersands),
    ("LD", r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", "", _same),
    ("L", rf"(?:{_ENDING})\.", "(?s:..)", _same),
    ("LD", _HYPHENATED, "", _without_soft_hyphens),
    ("L", r"[cC]\+\+|[cCfF]#|[A-Z]+\$", "", _same),
    ("L", r"(?ai:C\.D\.s)", "", _same),
    ("L", rf"(?:{_TITLE})\.", "", _same),
    ("L", rf"{_NUMBERED}\.", f"{_SPACE}?{_DIGIT}", _same),
    ("L", r"[A-Za-z]", rf"\.{_SPACE_OR_LINE}+(?:{_SENTENCE_STARTS}{_SPACE_OR_LINE}|{_TAG})", _same),
    ("L", rf"(?:{_ACRONYM})\.|[A-Za-z]\.", "", _same),
    *(
        ("LD", rf"(?:{token})\.", "[,;:\u3001]", _without_soft_hyphens)
        for token in (_WORD, _THING, _LETTERS_JOINED, _HYPHENATED)
    ),
    (
        "LD",
        rf"(?:{_LETTER_OR_DIGIT})+(?:\.{_LETTER_OR_DIGIT}+)*\.(?ai:{_FILE_ENDING})",
        rf"{_SPACE_OR_LINE}|[.?!,]",
        _same,
    ),
    ("DO", _PHONE, "", _phone),
    ("O", r"[<>]?[:;=][-o*']?[()DPdpO\\@|\]\[{]", "[^A-Za-z0-9]", _round_brackets),
    ("LO", r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][-_.]?[-^x=~<>'`]\)", "", _round_brackets),
    ("O", "'", "[A-Za-z][^ \t\n\u00a0]", _nothing),
    ("O", _AUXILIARY, "", _quotes),
    (
        "O",
        "''|[`\u2018\u2019\u201b\u201c\u201d\u0091\u0092\u0093\u0094\u2039\u203a\u00ab\u00bb]{1,2}|" + _APOSTROPHE,
        "",
        _quotes,
    ),
    ("O", '"|(?ai:&quot;)', "", _quotes),
    ("O", r"\.{3,5}|(?:\.[ \u00a0]){2,4}\.|\u2026", "", _nothing),
    ("O", "<<|>>", "", _same),
    ("O", "-{5,}", "", _same),
    ("O", "-{1,4}", "", _nothing),
    ("O", r"[?!]+", "", _same),
    ("O", r"_+|#+|@+|\*+|(?:\\\*){1,3}", "", _same),
    ("O", r"[()\[\]{}]", "", _symbol),
    ("O", f"(?ai:&nbsp;)|[.,;:]|{_SPACE}+", "", _nothing),
    ("O", f"[-/+\u00a2\u00a3\u20ac\u0080\u00a4\u20a0\u00bc\u00bd\u00be\u2153\u2154{_SYMBOLS}]", "", _symbol),
]


def _readers(start: str) -> tuple[re.Pattern[str], list[Callable[[str], str]]]:
    """All rules for one first character as a pattern: groups 2i+1 and 2i+2 are rule i's token and the text after it."""
    rules = [rule for rule in _RULES if start in rule[0]]
    pattern = "".join(f"(?:(?=({token})({following})))?" for _, token, following, _ in rules)
    return re.compile(pattern), [write for *_, write in rules]


_READERS = {start: _readers(start) for start in "LDO"}
_STARTS_WORD = re.compile(f"[{_LETTERS}{_MARKS}]")
_PLAIN_WORD = re.compile("[A-Za-z]+(?=,? )")
_SPLIT_WORDS = frozenset(["cannot", "gonna", "wanna", "gotta", "lemme", "gimme"])
_SIMPLE_WORD = r'"?[A-Za-z]+(?:-[A-Za-z]+)*(?:\'s)?"?'
_SIMPLE_CAPTION = re.compile(rf" *{_SIMPLE_WORD}(?:(?: ?[.,;:!?])? +{_SIMPLE_WORD})* *[.!?]? *")
_SIMPLE_PUNCTUATION = str.maketrans(dict.fromkeys('.,;:!?"', " "))
_STOPPED_WORD = re.compile(r"\b[A-Za-z]+(?=\.)")
_KEEPS_ITS_STOP = re.compile(f"[A-Za-z]|{_ENDING}|{_TITLE}|{_NUMBERED}")


def ptb_tokenize(captions: list[str]) -> list[str]:
    """Tokenise captions as the official caption evaluator does: lower-case words separated by single spaces.

    A few tokens contain a no-break space, as in the official output (phone numbers, "1 1/2", tags with attributes).

    Raises:
        TypeError: for one string instead of a list, or an item that is not a string.

    Example:
        >>> ptb_tokenize(["A man's dog can't run; it's tired.", "(two) cats"])
        ["a man 's dog ca n't run it 's tired", '-lrb- two -rrb- cats']
    """
    if isinstance(captions, str):
        raise TypeError("captions is one string; pass a list of captions")
    return [_tokenized(caption) for caption in captions]


def _tokenized(caption: str) -> str:
    if not isinstance(caption, str):
        raise TypeError(f"a caption is a {type(caption).__name__}, not a string")
    if _SIMPLE_CAPTION.fullmatch(caption) and not any(map(_KEEPS_ITS_STOP.fullmatch, _STOPPED_WORD.findall(caption))):
        words = caption.lower().translate(_SIMPLE_PUNCTUATION).replace("'s", " 's").split()
        if _SPLIT_WORDS.isdisjoint(words):
            return " ".join(words)
    return " ".join(_tokens(LINE_BREAKS.sub(" ", caption)))


def _tokens(caption: str) -> list[str]:
    text, place, tokens = caption + NEXT_LINE, 0, []
    while place < len(caption):
        plain = _PLAIN_WORD.match(text, place)
        if plain and plain[0].lower() not in _SPLIT_WORDS:
            place, token = plain.end(), plain[0]
        else:
            place, token = _next_token(text, place)
        if token and token not in PUNCTUATION:
            tokens.append(token.lower())
    return tokens


def _next_token(text: str, place: int) -> tuple[int, str]:
    """The place after the token that starts at `place`, and the token as it is written ("" for a blank)."""
    if text[place] in " \t":
        blanks = _BLANKS.match(text, place)
        return (blanks.end() if blanks else place + 1), ""
    first = text[place]
    pattern, writers = _READERS["D" if first.isdecimal() else "L" if _STARTS_WORD.match(first) else "O"]
    match = pattern.match(text, place)
    ends = [match.end(group) for group in range(2, 2 * len(writers) + 1, 2)] if match else []  # -1 if a rule fails
    furthest = max(ends, default=-1)
    if furthest < 0:
        return place + 1, ""  # a character the official tokenizer drops
    rule = ends.index(furthest)
    token = text[place : match.end(2 * rule + 1)] if match else ""
    return place + len(token), writers[rule](token)
