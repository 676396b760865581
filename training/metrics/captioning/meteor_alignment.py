"""METEOR's search for the best alignment of a caption with a reference, many pairs at once.

    Matches --chosen_matches--> which of them the alignment consists of --alignment_statistics--> METEOR's 23 numbers

An alignment uses every word once at most. A match that shares no word with another is part of it. The others are chosen
by a beam search from the reference's first word to its last: of the paths that have come so far the 40 best go on, and
each either takes one of the matches that start at the next word or leaves the word unmatched. Better paths have more
matched words, then fewer chunks (runs of words that are adjacent in both captions), then a shorter distance.

Equal to the Java program, with three of its particulars: matches that are not exact count half, rounded down, on each
side, so that a match of single words by stem or synonym counts nothing; the distance of a match is added to the path
that it left and to those that branch off later, not to its own; between equal paths the earlier one wins.
"""

from typing import NamedTuple

import numpy as np

from .meteor_matches import EXACT, Matches

BEAM_SIZE = 40
CLOSED = -1  # no chunk is open
NOTHING = -1  # no match is chosen
WORD_BITS = 64
KEY_BITS = 63


class Paths(NamedTuple):
    """Paths of the search (N,), by pair and then from the best to the worst."""

    pair: np.ndarray
    matched: np.ndarray  # matched words of both captions, as they count
    chunks: np.ndarray
    distance: np.ndarray
    next_word: np.ndarray  # the reference's first word that is not yet decided
    chunk_end: np.ndarray  # the caption's word after the last match of the open chunk, or CLOSED
    used: np.ndarray  # (N, ceil(L / 64)) uint64: bits of the caption's words that are matched

    def at(self, rows: np.ndarray) -> "Paths":
        """Some of the paths."""
        return Paths(*(column[rows] for column in self))


class Options(NamedTuple):
    """Matches (K,) with what the search needs of them."""

    gain: np.ndarray
    distance: np.ndarray
    mask: np.ndarray  # (K, ceil(L / 64)) uint64
    first: np.ndarray  # (P, L + 1): of each pair and word of the reference, the number of matches before it
    fixed: np.ndarray  # (K,) bool


def chosen_matches(matches: Matches, lengths: np.ndarray, reference_lengths: np.ndarray) -> np.ndarray:
    """Which matches (K,) the best alignments of P pairs consist of; lengths (P,) of the captions and references."""
    fixed = _fixed_matches(matches, lengths, reference_lengths)
    chosen = fixed.copy()
    searched = np.zeros(len(lengths), bool)
    searched[matches.pair[~fixed]] = True
    kept = np.flatnonzero(searched[matches.pair])
    if not len(kept):
        return chosen
    renumbered = np.cumsum(searched) - 1
    some = Matches(*(column[kept] for column in matches))._replace(pair=renumbered[matches.pair[kept]])
    lengths, reference_lengths = lengths[searched], reference_lengths[searched]
    options = _options(some, fixed[kept], int(lengths.max()), int(reference_lengths.max()), len(lengths))
    chosen[kept[_search(some, options, reference_lengths)]] = True
    return chosen


def _fixed_matches(matches: Matches, lengths: np.ndarray, reference_lengths: np.ndarray) -> np.ndarray:
    """Which matches (K,) share no word with any other match of their pair, on either side."""
    first, reference_first = (np.concatenate([[0], np.cumsum(sizes)]) for sizes in (lengths, reference_lengths))
    alone = np.ones(len(matches.pair), bool)
    for begins, starts, sizes in (
        (first, matches.caption_start, matches.caption_length),
        (reference_first, matches.start, matches.length),
    ):
        place = begins[matches.pair] + starts
        covered = np.zeros(begins[-1] + 1, int)
        longest = int(sizes.max(initial=0))
        for step in range(longest):
            covered += np.bincount(place[sizes > step] + step, minlength=len(covered))
        for step in range(longest):
            alone &= (sizes <= step) | (covered[np.minimum(place + step, begins[-1])] == 1)
    return alone


def _options(matches: Matches, fixed: np.ndarray, length: int, reference_length: int, num_pairs: int) -> Options:
    half = matches.stage != EXACT
    gain = (matches.caption_length >> half) + (matches.length >> half)
    mask = np.zeros((len(fixed), length // WORD_BITS + 1), np.uint64)
    rows = np.arange(len(fixed))
    for step in range(int(matches.caption_length.max(initial=0))):
        there = matches.caption_length > step
        word = matches.caption_start[there] + step
        mask[rows[there], word // WORD_BITS] |= np.uint64(1) << (word % WORD_BITS).astype(np.uint64)
    places = matches.pair * (reference_length + 1) + matches.start
    counts = np.bincount(places, minlength=num_pairs * (reference_length + 1))
    first = np.concatenate([[0], np.cumsum(counts)])
    return Options(gain, np.abs(matches.start - matches.caption_start), mask, first, fixed)


def _search(matches: Matches, options: Options, lengths: np.ndarray) -> np.ndarray:
    """The numbers of the matches in the best alignments of pairs whose references have these lengths (P,)."""
    num_pairs, zeros = len(lengths), np.zeros(len(lengths), int)
    used = np.zeros((num_pairs, options.mask.shape[1]), np.uint64)
    paths = Paths(np.arange(num_pairs), zeros, zeros, zeros, zeros, zeros + CLOSED, used)
    longest = int(lengths.max())
    history: list[tuple[np.ndarray, np.ndarray]] = []  # per word: each path's earlier path, and the match it took
    chosen: list[np.ndarray] = []
    for word in range(longest + 1):
        rows = _best_rows(paths)
        paths = paths.at(rows)
        if history:
            history[-1] = tuple(column[rows] for column in history[-1])
        ended = lengths[paths.pair] == word
        if ended.any():
            ends = np.flatnonzero(ended)
            last = paths.at(ends)
            last = last._replace(chunks=last.chunks + (last.chunk_end != CLOSED))
            ends = ends[_best_rows(last, beam=1)]
            chosen.append(_traced(history, ends))
        paths, earlier, match = _step(paths, np.flatnonzero(~ended), word, longest, matches, options)
        history.append((earlier, match))
    return np.concatenate(chosen)


def _traced(history: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """The matches that these paths took, all in one array."""
    taken = [np.zeros(0, int)]
    for earlier, match in reversed(history):
        taken.append(match[rows][match[rows] != NOTHING])
        rows = earlier[rows]
    return np.concatenate(taken)


def _best_rows(paths: Paths, beam: int = BEAM_SIZE) -> np.ndarray:
    """The rows of each pair's best paths, by pair and from the best to the worst, the earlier of two equal first."""
    if not len(paths.pair):
        return np.zeros(0, int)
    columns = (
        paths.pair,
        paths.matched.max() - paths.matched,
        paths.chunks,
        paths.distance,
        np.arange(len(paths.pair)),
    )
    bits = [int(column.max()).bit_length() for column in columns]
    if sum(bits) <= KEY_BITS:
        key = columns[0]
        for column, size in zip(columns[1:], bits[1:], strict=True):
            key = (key << size) | column
        rows = np.sort(key) & ((1 << bits[-1]) - 1)
    else:
        rows = np.lexsort(columns[::-1])
    pairs = paths.pair[rows]
    starts = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1]))
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return rows[rank < beam]


def _step(
    paths: Paths, going: np.ndarray, word: int, longest: int, matches: Matches, options: Options
) -> tuple[Paths, np.ndarray, np.ndarray]:
    """Decide a word of the reference for the paths whose rows are `going`.

    Returns the paths that follow, in the program's order, the row of the path that each comes from, and the match that
    it took.
    """
    place = paths.pair[going] * (longest + 1) + word
    first, counts = options.first[place], options.first[place + 1] - options.first[place]
    undecided = paths.next_word[going] == word
    counts = np.where(undecided, counts, 0)
    # One row for every match that a path might take, without those whose words it has used.
    owner = np.repeat(np.arange(len(going)), counts)
    match = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(len(owner))
    free = ((paths.used[going[owner]] & options.mask[match]) == 0).all(axis=1)
    owner, match = owner[free], match[free]
    # Each path's new paths stand before itself, which leaves the word unmatched; a fixed match is always taken.
    is_fixed = np.zeros(len(going), bool)
    is_fixed[owner[options.fixed[match]]] = True
    stays = ~is_fixed
    num_taken = np.bincount(owner, minlength=len(going))
    row_of_path = np.cumsum(num_taken + stays) - 1
    row_of_match = np.arange(len(match)) + (np.cumsum(stays) - stays)[owner]
    parent = np.empty(len(match) + int(stays.sum()), int)
    parent[row_of_match], parent[row_of_path[stays]] = owner, np.flatnonzero(stays)
    taken = np.full(len(parent), NOTHING)
    taken[row_of_match] = match
    so_far = np.concatenate([[0], np.cumsum(options.distance[match])])
    before_path = so_far[np.cumsum(num_taken) - num_taken]  # (N,)
    distance = np.empty(len(parent), int)
    added = so_far[:-1] - before_path[owner]
    distance[row_of_match] = np.where(options.fixed[match], options.distance[match], added)
    distance[row_of_path[stays]] = (so_far[np.cumsum(num_taken)] - before_path)[stays]
    new = paths.at(going[parent])
    new = new._replace(distance=new.distance + distance)
    _take(new, row_of_match, match, matches, options)
    _skip(new, row_of_path[stays & undecided])
    return new, going[parent], taken


def _take(paths: Paths, rows: np.ndarray, match: np.ndarray, matches: Matches, options: Options) -> None:
    """Add a match to each of these paths, in place."""
    chunk_end, start = paths.chunk_end[rows], matches.caption_start[match]
    paths.matched[rows] += options.gain[match]
    paths.chunks[rows] += (chunk_end != CLOSED) & (chunk_end != start)
    paths.next_word[rows] = matches.start[match] + matches.length[match]
    paths.chunk_end[rows] = start + matches.caption_length[match]
    paths.used[rows] |= options.mask[match]


def _skip(paths: Paths, rows: np.ndarray) -> None:
    """Leave the next word unmatched in each of these paths, in place."""
    paths.chunks[rows] += paths.chunk_end[rows] != CLOSED
    paths.chunk_end[rows] = CLOSED
    paths.next_word[rows] += 1
