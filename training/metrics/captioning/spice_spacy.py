"""SPICE without Java (`spice_spacy`): spaCy parses, the rules and the scoring are those of SPICE's program.

    captions --ptb_tokenize--> words --scene_graph_parser.py--> tuples --spice.py (WordNet's synonyms)--> F-scores

The scoring half equals the program's. The parsing half does not, since the program reads Stanford CoreNLP's parses: so
the figures have a name of their own and stand beside no published SPICE. On 100 captions parsed by hand by the
program's rules, spaCy's en_core_web_md gives tuples of precision 0.939 and recall 0.945 (relations 0.876 and 0.866).
"""

from functools import lru_cache

from training.metrics.vqa.wordnet import WordNet

from .cider import check_captions
from .java import spice_means
from .ptb_tokenizer import ptb_tokenize
from .scene_graph_parser import SceneGraphParser
from .spice import CATEGORIES, Synonyms, tuple_scores
from .unavailable import NotComputed


def spice_spacy(
    candidates: list[str],
    references: list[list[str]],
    *,
    parser: SceneGraphParser | None = None,
    synonyms: Synonyms | None = None,
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """SPICE (Anderson et al. 2016) in 0..1 of raw captions with spaCy's parses: for the corpus and for each image a
    dict of categories to F-scores.

    Args:
        candidates: one raw caption per image.
        references: for each image, in the same order, its raw reference captions (at least one).
        parser: by default `SceneGraphParser.find()`; it keeps what it has parsed.
        synonyms: by default those of the WordNet on this machine.

    Returns:
        `all`, `object`, `attribute`, `relation`, `color`, `cardinality` and `size`. An image without reference tuples
        of a category has NaN there, and the corpus value is the mean of the others, as in SPICE's program.

    Raises:
        NotComputed: spaCy, its English model or WordNet is missing; the message names the cure.
        ValueError, TypeError: as `caption_scores`.
    """
    check_captions(candidates, references)
    parser = parser or SceneGraphParser.find()
    synonyms = synonyms or wordnet_synonyms()
    texts = ptb_tokenize([*candidates, *(text for image in references for text in image)])
    parsed = iter(parser.parse(texts))
    of_candidates = [next(parsed) for _ in candidates]
    per_item = []
    for candidate, image in zip(of_candidates, references, strict=True):
        of_image = [next(parsed) for _ in image]
        scores = tuple_scores(candidate, of_image, synonyms=synonyms, categories=CATEGORIES)
        per_item.append({name: score.f for name, score in scores.items()})
    return spice_means(per_item), per_item


@lru_cache(maxsize=1)
def wordnet_synonyms() -> Synonyms:
    """The synonyms of the WordNet on this machine, read once in a process; `NotComputed` where there is none."""
    try:
        return Synonyms.from_wordnet(WordNet.find())
    except (OSError, ValueError) as error:
        raise NotComputed(str(error)) from error
