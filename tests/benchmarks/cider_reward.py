"""How fast the self-critical reward is, against the same formula in plain Python and against the machine itself.

    python -m tests.benchmarks.cider_reward

Prints captions a second for both (5 samples of 50 images a batch, 5 references an image), their ratio, and captions for
each GFLOP that this machine's matrix product did in the same run.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from training.metrics.captioning.scores import CiderD

IMAGES, REFERENCES, VOCABULARY = 2000, 5, 9487
BATCH_IMAGES, SAMPLES, STEPS = 50, 5, 16
END = 0

Ngrams = Counter[tuple[int, ...]]


def ngrams(caption: Sequence[int], order: int) -> Ngrams:
    return Counter(tuple(caption[i : i + order]) for i in range(len(caption) - order + 1))


def counted_documents(references: Sequence[Sequence[Sequence[int]]]) -> Ngrams:
    """In how many images each n-gram stands."""
    frequencies: Ngrams = Counter()
    for image in references:
        frequencies.update({ngram for caption in image for order in range(1, 5) for ngram in ngrams(caption, order)})
    return frequencies


def naive_cider_d(
    candidate: Sequence[int], references: Sequence[Sequence[int]], *, frequencies: Ngrams, num_images: int
) -> float:
    """CIDEr-D straight from its formula, one caption at a time."""
    total = 0.0
    for order in range(1, 5):
        weighted = tf_idf(candidate, order, frequencies=frequencies, num_images=num_images)
        for reference in references:
            other = tf_idf(reference, order, frequencies=frequencies, num_images=num_images)
            shared = sum(min(value, other[ngram]) * other[ngram] for ngram, value in weighted.items() if ngram in other)
            norm = math.hypot(*weighted.values()) * math.hypot(*other.values())
            gap = max(len(candidate) - 1, 0) - max(len(reference) - 1, 0)
            total += math.exp(-(gap**2) / 72) * shared / norm if norm else 0.0
    return 10 * total / 4 / len(references)


def naive_rewards(
    captions: Sequence[Sequence[int]],
    references: Sequence[Sequence[Sequence[int]]],
    *,
    frequencies: Ngrams,
    num_images: int,
) -> list[float]:
    return [
        naive_cider_d(caption, image, frequencies=frequencies, num_images=num_images)
        for caption, image in zip(captions, references, strict=True)
    ]


def tf_idf(caption: Sequence[int], order: int, *, frequencies: Ngrams, num_images: int) -> dict[tuple[int, ...], float]:
    return {
        ngram: count * (math.log(num_images) - math.log(max(1, frequencies[ngram])))
        for ngram, count in ngrams(caption, order).items()
    }


def random_caption(generator: np.random.Generator) -> list[int]:
    """8 to 13 words, as frequent as words are (Zipf), and the end token."""
    words = 1 + np.minimum(generator.pareto(0.9, generator.integers(8, 14)) * 3, VOCABULARY - 2).astype(int)
    return [*words.tolist(), END]


def random_batch(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sampled token ids (250, 16), padded with the end token, and their images (250,)."""
    images = np.repeat(generator.permutation(IMAGES)[:BATCH_IMAGES], SAMPLES)
    sequences = np.full((len(images), STEPS), END)
    for row in sequences:
        caption = random_caption(generator)
        row[: len(caption)] = caption
    return sequences, images


def best_seconds(work: Callable[[], object], *, repeats: int) -> float:
    """The shortest of several runs, in seconds of this process's time."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def main() -> None:
    generator = np.random.default_rng(0)
    references = [[random_caption(generator) for _ in range(REFERENCES)] for _ in range(IMAGES)]
    scorer = CiderD.from_token_ids(references, end_token_id=END)
    frequencies = counted_documents(references)
    sequences, images = random_batch(generator)
    captions = [row[: row.index(END) + 1] for row in sequences.tolist()]

    images_references = [references[image] for image in images.tolist()]
    naive = partial(naive_rewards, captions, images_references, frequencies=frequencies, num_images=IMAGES)
    assert np.allclose(scorer.reward(sequences, images), naive(), atol=1e-9)
    matrix = np.ones((1024, 1024), np.float32)
    giga_flops = 2 * 1024**3 / 1e9 / best_seconds(partial(np.matmul, matrix, matrix), repeats=5)
    fast = len(captions) / best_seconds(partial(scorer.reward, sequences, images), repeats=30)
    slow = len(captions) / best_seconds(naive, repeats=3)
    print(f"reward {fast:,.0f} captions/s, plain Python {slow:,.0f} captions/s, ratio {fast / slow:.0f}")
    print(f"matrix product {giga_flops:.0f} GFLOP/s; reward {fast / giga_flops:,.0f} captions for each GFLOP")


if __name__ == "__main__":
    main()
