"""METEOR 1.5 of captions (Denkowski and Lavie 2014), equal to the official evaluator's, without Java.

    captions --ptb_tokenize, meteor_words--> words --Phrases.matches, chosen_matches--> alignments
    alignments --meteor_statistics--> 23 numbers per image --meteor_scores, corpus_meteor--> 0..1

The official evaluator runs the Java program with `-l en -norm`. Of several references the one with the best score
counts. The data come from `pycocoevalcap`, whose program is not run: see `meteor_resources`.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from .cider import check_captions
from .meteor_alignment import chosen_matches
from .meteor_matches import Matches, Phrases
from .meteor_resources import MeteorResources, meteor_words
from .ptb_tokenizer import ptb_tokenize

ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)  # exact, stem, synonym, paraphrase
NUM_STATISTICS = 23
CHUNKS = 20  # the column of the chunks
DIVIDER = "|||"  # between the captions that the program is given
BLOCK_CODES = 2**21  # pairs of phrases compared at once


def meteor(
    candidates: list[str], references: list[list[str]], resources: MeteorResources | None = None
) -> tuple[float, list[float]]:
    """METEOR in 0..1 of raw captions: the corpus value and one value per image.

    Args:
        candidates: one raw caption per image.
        references: for each image, in the same order, its raw reference captions (at least one).
        resources: METEOR's data; by default `MeteorResources.find()`.

    As in the official evaluator, the corpus value is computed from the summed statistics of the images; it is not the
    mean of their values.

    Raises:
        OSError, ValueError: as `MeteorResources.find`.
        ValueError, TypeError: as `caption_scores`.
    """
    check_captions(candidates, references)
    tokenised = iter(ptb_tokenize([reference for image in references for reference in image]))
    by_image = [[next(tokenised) for _ in image] for image in references]
    statistics = meteor_statistics(ptb_tokenize(candidates), by_image, resources or MeteorResources.find())
    return corpus_meteor(statistics), meteor_scores(statistics).tolist()


def meteor_statistics(
    candidates: Sequence[str], references: Sequence[Sequence[str]], resources: MeteorResources
) -> np.ndarray:
    """The 23 statistics (N, 23) of tokenised captions, one per image, with the reference that scores best.

    They are: the two lengths and numbers of function words (caption, reference); for each of the four stages the
    matched content words and function words of each (4 x 4); the chunks; and the matched words of each. As in the
    official evaluator, "|||" divides a reference into two, and is left out of a caption.
    """
    hypotheses = [text.replace(DIVIDER, "") for text in candidates]
    divided = [[part for text in image for part in text.split(DIVIDER)] for image in references]
    numbers: dict[tuple[str, ...], int] = {}
    words = [[meteor_words(text, resources.prefixes) for text in texts] for texts in (hypotheses, *divided)]
    captions, *others = ([numbers.setdefault(caption, len(numbers)) for caption in texts] for texts in words)
    owner = np.repeat(np.arange(len(captions)), [len(image) for image in divided])
    columns = [np.array(captions, int)[owner], np.array(list(itertools.chain.from_iterable(others)), int)]
    pairs, pair_of = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    rows = _aligned(Phrases(list(numbers), resources), pairs[:, 0], pairs[:, 1])[pair_of.reshape(-1)]
    scores = meteor_scores(rows)
    # the first of the best references: a stable sort by image, then from the best score to the worst
    order = np.lexsort((-scores, owner))
    return rows[order[np.searchsorted(owner[order], np.arange(len(captions)))]]


def _aligned(phrases: Phrases, captions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The statistics (P, 23) of pairs of captions, in blocks of pairs with references of about the same length."""
    statistics = np.zeros((len(captions), NUM_STATISTICS))
    sizes = phrases.num_of_caption[captions], phrases.num_of_caption[references]
    order = np.lexsort((sizes[0], sizes[1], phrases.lengths[references]))
    start = 0
    while start < len(order):
        widest = np.maximum.accumulate(sizes[0][order[start:]]) * np.maximum.accumulate(sizes[1][order[start:]])
        fit = int(np.searchsorted(widest * np.arange(1, len(widest) + 1), BLOCK_CODES, side="right"))
        block = order[start : start + max(fit, 1)]
        statistics[block] = _block_statistics(phrases, captions[block], references[block])
        start += len(block)
    return statistics


def _block_statistics(phrases: Phrases, captions: np.ndarray, references: np.ndarray) -> np.ndarray:
    lengths, reference_lengths = phrases.lengths[captions], phrases.lengths[references]
    matches = phrases.matches(captions, references)
    kept = chosen_matches(matches, lengths, reference_lengths)
    matches = Matches(*(column[kept] for column in matches))
    statistics = np.zeros((len(captions), NUM_STATISTICS))
    before = phrases.function_words_before
    sides = (captions, matches.caption_start, matches.caption_length), (references, matches.start, matches.length)
    for side, (numbers, starts, sizes) in enumerate(sides):
        begins = phrases.first[numbers]
        statistics[:, side] = phrases.lengths[numbers]
        statistics[:, 2 + side] = before[begins + phrases.lengths[numbers]] - before[begins]
        places = begins[matches.pair] + starts
        function_words = before[places + sizes] - before[places]
        _add(statistics, matches.pair, 4 + 4 * matches.stage + side, sizes - function_words)
        _add(statistics, matches.pair, 6 + 4 * matches.stage + side, function_words)
        _add(statistics, matches.pair, CHUNKS + 1 + side, sizes)
    _add(statistics, matches.pair, CHUNKS, ~_continued(matches))
    return statistics


def _add(table: np.ndarray, rows: np.ndarray, columns: np.ndarray | int, values: np.ndarray) -> None:
    """Add values (K,) to cells of the table, in place; a cell may be named several times."""
    cells = np.bincount(rows * table.shape[1] + columns, weights=values, minlength=table.size)
    table += cells.reshape(table.shape)


def _continued(matches: Matches) -> np.ndarray:
    """Which matches (K,) of alignments continue the chunk of the match before them."""
    continued = np.zeros(len(matches.pair), bool)
    continued[1:] = (
        (matches.pair[1:] == matches.pair[:-1])
        & (matches.start[1:] == (matches.start + matches.length)[:-1])
        & (matches.caption_start[1:] == (matches.caption_start + matches.caption_length)[:-1])
    )
    return continued


def meteor_scores(statistics: np.ndarray) -> np.ndarray:
    """METEOR 1.5 for English (N,) from its statistics (N, 23); 0 where nothing matches.

    The operations are in the program's order, so that equal scores of two references are equal here too.
    """
    length, reference_length, function_words, reference_function_words = statistics[:, :4].T
    by_stage = statistics[:, 4:CHUNKS].reshape(-1, 4, 4).transpose(2, 1, 0)
    content, reference_content, function, reference_function = by_stage
    chunks, matched, reference_matched = statistics[:, CHUNKS:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = _matched_share(content, function, length, function_words)
        recall = _matched_share(reference_content, reference_function, reference_length, reference_function_words)
        mean = 1.0 / ((1.0 - ALPHA) / precision + ALPHA / recall)
        fragmentation = chunks / ((matched + reference_matched) / 2)
        fragmentation[_perfect(statistics)] = 0
        scores = mean * (1.0 - GAMMA * fragmentation**BETA)
    return np.where(np.isnan(scores), 0.0, np.maximum(scores, 0.0))


def corpus_meteor(statistics: np.ndarray) -> float:
    """METEOR of a corpus from the statistics (N, 23) of its images, which are summed.

    As in the Java program, the chunk of an image whose caption equals a reference is not counted.
    """
    total = statistics.sum(axis=0)
    total[CHUNKS] -= statistics[_perfect(statistics), CHUNKS].sum()
    return float(meteor_scores(total[None])[0])


def _perfect(statistics: np.ndarray) -> np.ndarray:
    """Which rows (N,) have every word of both captions matched, in one chunk."""
    all_words = (statistics[:, CHUNKS + 1 :] == statistics[:, :2]).all(axis=1)
    return all_words & (statistics[:, CHUNKS] == 1)


def _matched_share(
    content: np.ndarray, function: np.ndarray, length: np.ndarray, function_words: np.ndarray
) -> np.ndarray:
    """The weighted share (N,) of matched words, from the matches (4, N) of each stage."""
    matched = np.zeros(len(length))
    for weight, words in zip(STAGE_WEIGHTS, content, strict=True):
        matched += words * weight * DELTA
    for weight, words in zip(STAGE_WEIGHTS, function, strict=True):
        matched += words * weight * (1.0 - DELTA)
    return matched / (DELTA * (length - function_words) + (1.0 - DELTA) * function_words)
