"""How fast and how small retrieval's metrics are, against a sort of the collection for each query.

    python -m tests.benchmarks.retrieval

Prints seconds of both on 5,000 images x 25,000 texts (COCO's test split), their ratio, and the memory that each took at
its peak, once for scores as a trained model gives them and once for random ones, the worst case; then seconds and
memory for embeddings of the same size, and of 40,000 images and 200,000 texts, whose 8 * 10^9 scores are never held.
Every measurement has a process of its own, so that its memory is its own too.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from training.metrics.retrieval.recall import retrieval_scores, retrieval_scores_of_embeddings

IMAGES, TEXTS, WIDTH = 5000, 25_000, 256
LARGE_IMAGES, LARGE_TEXTS, LARGE_WIDTH = 40_000, 200_000, 64
LIFT = {"trained": 4.0, "random": 0.0}  # of the correct pairs' scores over the others', whose deviation is 1
RAM_UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in MiB

Measured = Mapping[str, float]


def random_scores(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A similarity matrix float32 (P, N), and the image of each text (N,), in no order."""
    generator = np.random.default_rng(0)
    owners = generator.permutation(np.arange(TEXTS) % IMAGES)
    similarity = generator.standard_normal((IMAGES, TEXTS), dtype=np.float32)
    similarity[owners, np.arange(TEXTS)] += LIFT[kind]
    return similarity, owners


def naive_ranks(similarity: np.ndarray, owners: np.ndarray) -> tuple[list[int], list[int]]:
    """The rank of each image and of each text, from 1, by one argsort a query."""
    own: list[list[int]] = [[] for _ in similarity]
    for text, image in enumerate(owners.tolist()):
        own[image].append(text)
    images, texts = [], []
    for row, correct in zip(similarity, own, strict=True):
        ranks = np.empty(len(row), np.int64)
        ranks[np.argsort(-row)] = np.arange(1, len(row) + 1)
        images.append(int(ranks[correct].min()))
    for column, image in zip(similarity.T, owners, strict=True):
        texts.append(1 + int(np.flatnonzero(np.argsort(-column) == image)[0]))
    return images, texts


def measured(work: Callable[..., object], *arguments: Any, repeats: int) -> tuple[Measured, object]:
    """The shortest of several runs in `seconds`, MiB of memory `before` them and at the `peak`; and the last result."""
    before, seconds = peak_mib(), []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work(*arguments)
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "before": before, "peak": peak_mib()}, result


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / RAM_UNIT


def ours(kind: str) -> tuple[Measured, tuple[list[float], list[float]]]:
    found, scores = measured(retrieval_scores, *random_scores(kind), repeats=5)
    assert isinstance(scores, dict)
    return found, (scores["per_item"]["i2t_rank"], scores["per_item"]["t2i_rank"])


def naive(kind: str) -> tuple[Measured, Any]:
    return measured(naive_ranks, *random_scores(kind), repeats=1)


def embeddings(images: int, texts: int, width: int) -> Measured:
    """Scores of embeddings of length 1, each text's a noisy copy of its image's."""
    generator = np.random.default_rng(0)
    image_vectors = generator.standard_normal((images, width), dtype=np.float32)
    owners = generator.permutation(np.arange(texts) % images)
    captions = image_vectors[owners] + 2 * generator.standard_normal((texts, width), dtype=np.float32)
    for rows in (image_vectors, captions):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return measured(retrieval_scores_of_embeddings, image_vectors, captions, owners, repeats=1)[0]


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of the work in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def told(name: str, found: Measured) -> str:
    return f"{name}: {found['seconds']:.2f} s, peak {found['peak']:,.0f} MiB ({found['before']:,.0f} before)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--skip-large", action="store_true", help="leave out the 40,000 x 200,000 embeddings")
    skip_large = parser.parse_args().skip_large
    for kind in LIFT:
        (fast, ranks), (slow, naive_result) = alone(ours, kind), alone(naive, kind)
        apart = np.concatenate(ranks) - np.concatenate(naive_result)
        assert np.abs(apart).max() < 2 and np.mean(apart != 0) < 0.01  # float32 scores coincide now and then
        print(f"{IMAGES:,} x {TEXTS:,} scores, {kind}")
        print(f"  {told('counted', fast)}; {told('sorted for each query', slow)}")
        print(f"  ratio {slow['seconds'] / fast['seconds']:.1f}")
    sizes = [(IMAGES, TEXTS, WIDTH), (LARGE_IMAGES, LARGE_TEXTS, LARGE_WIDTH)]
    for images, texts, width in sizes[:1] if skip_large else sizes:
        found = alone(embeddings, images, texts, width)
        print(told(f"{images:,} x {texts:,} embeddings of width {width}", found))


if __name__ == "__main__":
    main()
