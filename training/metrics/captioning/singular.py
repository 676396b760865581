"""Singulars of English nouns as `pattern.en` 3.6 makes them, right or wrong: what CHAIR's official figures rest on.

It takes the final s off words that are singular ("bus" -> "bu", "tennis" -> "tenni") and changes words that are no
plurals at all ("four" -> "fmy"). The tables are facts about that function; nothing else here should use it.
"""

import re
from functools import lru_cache

PREPOSITIONS = """
    about above across after among around at athwart before behind below beneath beside besides between betwixt
    beyond but by during except for from in into near of off on onto out over since till to under until unto upon
    with"""
# a word is left as it is where it is the end of one of these
SAME_IN_BOTH = """
    bison bream breeches britches carp chassis christmas clippers cod contretemps corps debris diabetes djinn eland
    elk flounder gallows georgia graffiti headquarters herpes high-jinks homework innings jackanapes mackerel measles
    mews mumps news pincers pliers proceedings rabies salmon scissors series shears species swine swiss trout tuna
    whiting wildebeest advice bread butter cheese electricity equipment fruit furniture garbage gravel happiness
    information ketchup knowledge love luggage mathematics mayonnaise meat mustard progress research rice sand software
    understanding water"""
# a word is left as it is where it ends in one of these and an s
PLURALS_KEPT = """
    alergie auntie beanie birdie bogie bombie collie cookie cutie doggie eyrie freebie goonie groupie
    hankie hippie hoagie hottie indie junkie laddie laramie lingerie meanie newbie nightie oldie pixie quickie reverie
    rookie softie sortie stoolie sweetie techie toughie valkyrie veggie weenie yuppie zombie"""
# the ends of words, in the order in which they are tried
IRREGULAR = """
    atlantes:atlas atlases:atlas axes:axe beeves:beef brethren:brother children:child corpora:corpus
    corpuses:corpus ephemerides:ephemeris feet:foot ganglia:ganglion geese:goose genera:genus genii:genie
    graffiti:graffito helves:helve kine:cow leaves:leaf loaves:loaf men:man mongooses:mongoose monies:money moves:move
    mythoi:mythos numena:numen occipita:occiput octopodes:octopus opera:opus opuses:opus our:my oxen:ox penes:penis
    penises:penis people:person sexes:sex soliloquies:soliloquy teeth:tooth testes:testis trilbys:trilby turves:turf
    zoa:zoon"""
# the first pattern that is found counts; what it covers is replaced
RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=.)ae$", "a"),
        (r"(?<=.)itis$", "itis"),
        (r"(?<=.)eaux$", "eau"),
        (r"(?<=quiz)zes$", ""),
        (r"(?<=matr)ices$", "ix"),
        (r"(?<=ap)ices$|(?<=vert)ices$|(?<=ind)ices$", "ex"),
        (r"^oxen", "ox"),
        (r"(?<=alias)es$|(?<=status)es$", ""),
        (r"(?<=[octpvir|])i$", "us"),
        (r"(?<=cris)es$|(?<=ax)es$|(?<=test)es$", "is"),
        (r"(?<=shoe)s$", ""),
        (r"(?<=o)es$|(?<=bus)es$", ""),
        (r"(?<=[ml|])ice$", "ouse"),
        (r"(?<=x)es$|(?<=ch)es$|(?<=ss)es$|(?<=sh)es$", ""),
        (r"(?<=movie)s$|(?<=.ombie)s$", ""),
        (r"series$", "series"),
        (r"(?<=[^aeiouy])ies$|(?<=qu)ies$", "y"),
        (r"(?<=[aeo]l)ves$|(?<=[^d]ea)ves$", "f"),
        (r"arves$", "arf"),
        (r"(?<=erve)s$", ""),
        (r"(?<=[nlw]i)ves$", "fe"),
        (r"(?<=[lr])ves$", "f"),
        (r"(?<=[aeo]ve)s$|(?<=sive)s$|(?<=tive)s$|(?<=hive)s$", ""),
        (r"(?<=[^f])ves$", "fe"),
        (r"(?<=^analy)ses$|(?<=analy)ses$|(?<=ba)ses$|(?<=diagno)ses$|(?<=parenthe)ses$|(?<=progno)ses$", "sis"),
        (r"(?<=synop)ses$|(?<=the)ses$|(?<=.op)ses$|(?<=.y)ses$", "sis"),
        (r"(?<=[hdronbp]ose)s$|(?<=close)s$", ""),
        (r"(?:fruct|gluc|galact|lact|ket|malt|rib|sacchar|cellul)ose$", r"\g<0>"),
        (r"(?<=.)oses$", "osis"),
        (r"(?<=[ti])a$", "um"),
        (r"news$", "news"),
        (r"s$", ""),
    )
]


_PREPOSITIONS, _SAME_IN_BOTH = frozenset(PREPOSITIONS.split()), SAME_IN_BOTH.split()
_KEPT_ENDS = tuple(f"{word}s" for word in PLURALS_KEPT.split())
_IRREGULAR = dict(pair.split(":") for pair in IRREGULAR.split())


@lru_cache(maxsize=1 << 16)
def pattern_singular(word: str) -> str:
    """The singular of a lower-case word, equal to `singularize` of clips/pattern 3.6 (`pattern/text/en/inflect.py`).

    >>> [pattern_singular(word) for word in ("dogs", "women", "glasses", "bus", "cookies")]
    ['dog', 'woman', 'glass', 'bu', 'cookies']
    """
    parts = word.split("-")
    if len(parts) > 1 and parts[1] in _PREPOSITIONS:
        return "-".join([pattern_singular(parts[0]), *parts[1:]])
    if word.endswith("'"):
        return pattern_singular(word[:-1]) + "'s"
    if any(same.endswith(word) for same in _SAME_IN_BOTH) or word.endswith(_KEPT_ENDS):
        return word
    for plural, singular in _IRREGULAR.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + singular
    for pattern, replacement in RULES:
        if pattern.search(word):
            return pattern.sub(replacement, word)
    return word
