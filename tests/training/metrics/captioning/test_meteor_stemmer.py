"""The stemmer against stems that the official program's class prints, for every rule and for odd words."""

from training.metrics.captioning.meteor_stemmer import english_stem

# word:stem
OFFICIAL = """
skis:ski skies:sky dying:die idly:idl gently:gentl early:earli only:onli sky:sky news:news atlas:atlas
innings:inning inning:inning proceed:proceed exceed:exceed succeed:succeed herring:herring caresses:caress
cries:cri ties:tie gas:gas this:this gaps:gap kiwis:kiwi bus:bus focus:focus agreed:agre feed:feed agreedly:agre
bleed:bleed hopping:hop hoped:hope hoping:hope falling:fall luxuriated:luxuri troubled:troubl sized:size
hissing:hiss filing:file fitted:fit bed:bed bing:bing sing:sing shedly:shed rapping:rap rap:rap eyed:eye y:y
yes:yes say:say cry:cri by:by sayings:say toying:toy boyish:boyish youth:youth syzygy:syzygi conditional:condit
rational:ration valenci:valenc hesitanci:hesit digitizer:digit conformabli:conform radicalli:radic
differentli:differ vileli:vile analogousli:analog vietnamization:vietnam predication:predic operator:oper
feudalism:feudal decisiveness:decis hopefulness:hope callousness:callous formaliti:formal sensitiviti:sensit
sensibiliti:sensibl analogi:analog apologi:apolog possibly:possibl quickly:quick badly:bad oddli:odd bili:bili
triplicate:triplic formative:format formalize:formal electriciti:electr electrical:electr hopeful:hope
goodness:good relational:relat native:nativ revival:reviv allowance:allow inference:infer airliner:airlin
gyroscopic:gyroscop adjustable:adjust defensible:defens irritant:irrit replacement:replac adjustment:adjust
dependent:depend adoption:adopt opinion:opinion homologou:homologou communism:communism activate:activ
angulariti:angular homologous:homolog effective:effect bowdlerize:bowdler probate:probat rate:rate cease:ceas
controll:control roll:roll hoe:hoe e:e ee:ee the:the generate:generat generously:generous general:general
generic:generic communal:communal communication:communic arsenal:arsenal arsenic:arsenic 's:'s o'clock:o'clock
'tis:tis dog's:dog dogs':dog x's':x '':'' ''':' 80s:80s 1990s:1990s b2b:b2b re-used:re-us naïve:naïv café:café
中文:中文 yyy:yyy sayyy:sayyy eyeing:eye
"""


def test_stems_are_the_official_programs() -> None:
    for word, stem in (pair.split(":") for pair in OFFICIAL.split()):
        assert english_stem(word) == stem, word
