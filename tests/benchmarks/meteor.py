"""METEOR beside the official Java program: the same figures, and the seconds of both in one run.

    python -m tests.benchmarks.meteor [dataset_flickr8k.json] [--images 5000] [--first 0]

Takes images with five captions of a file in Karpathy's layout, Flickr8k's by default. Every other image is given its
first caption, and its others are the references; the rest are given the first caption of the next image. Needs Java and
pycocoevalcap. Prints how many images have the same 23 statistics, both corpus values, and the seconds of each: elapsed,
and of the processor. Both read their data in that time; our index of paraphrases is built before.
"""

import argparse
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.shared_files import SHARED_FOLDER
from training.data.files import read_json
from training.metrics.captioning.meteor import corpus_meteor, meteor_statistics
from training.metrics.captioning.meteor_resources import JAR, MeteorResources, _read, meteor_folder
from training.metrics.captioning.ptb_tokenizer import ptb_tokenize

PROGRAM = ("java", "-Xmx2G", "-jar", str(JAR), "-", "-", "-stdio", "-l", "en", "-norm")


def captions_of(path: Path, num_images: int, first: int) -> tuple[list[str], list[list[str]]]:
    """Tokenised captions and the references of images."""
    images = [image["sentences"] for image in read_json(path)["images"] if len(image["sentences"]) >= 5]
    chosen = [ptb_tokenize([sentence["raw"] for sentence in image]) for image in images[first : first + num_images]]
    own = [image[0] for image in chosen]
    candidates = [own[i] if i % 2 else own[(i + 1) % len(own)] for i in range(len(own))]
    return candidates, [image[1:] if i % 2 else image for i, image in enumerate(chosen)]


def program_answers(
    candidates: Sequence[str], references: Sequence[Sequence[str]], statistics: np.ndarray
) -> tuple[np.ndarray, float]:
    """The official program's statistics (N, 23) of captions, and its corpus value for the statistics that are given."""
    lines = [" ||| ".join(["SCORE", *image, caption]) for caption, image in zip(candidates, references, strict=True)]
    lines.append(" ||| ".join(["EVAL", *(" ".join(map(str, row)) for row in statistics.tolist())]))
    text = "".join(f"{line}\n" for line in lines)
    done = subprocess.run(PROGRAM, cwd=meteor_folder(), input=text, capture_output=True, encoding="utf-8", check=True)
    answers = done.stdout.splitlines()
    official = [[float(number) for number in line.split()] for line in answers[: len(candidates)]]
    return np.array(official), float(answers[-1])


def our_statistics(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Ours, with the data read anew."""
    _read.cache_clear()
    return meteor_statistics(candidates, references, MeteorResources.find())


def timed(work: Callable[[], Any], who: int) -> tuple[Any, float, float]:
    """What the work returns, and the elapsed and the processor's seconds of this process or of its children."""
    before, start = resource.getrusage(who), time.perf_counter()
    result = work()
    elapsed, after = time.perf_counter() - start, resource.getrusage(who)
    return result, elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="METEOR beside the official Java program.")
    parser.add_argument("captions", nargs="?", type=Path, default=SHARED_FOLDER / "data/flickr8k/dataset_flickr8k.json")
    parser.add_argument("--images", type=int, default=5000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first image of the file that is taken")
    arguments = parser.parse_args()
    given = captions_of(arguments.captions, arguments.images, arguments.first)
    MeteorResources.find()
    ours, elapsed, used = timed(lambda: our_statistics(*given), resource.RUSAGE_SELF)
    answers, java_elapsed, java_used = timed(lambda: program_answers(*given, ours), resource.RUSAGE_CHILDREN)
    official, corpus = answers
    print(f"{(ours == official).all(axis=1).sum()} of {len(ours)} images have the program's statistics")
    print(f"corpus value {corpus_meteor(ours)}, the program's {corpus}")
    print(f"ours {elapsed:.1f} s ({used:.1f} s of the processor), Java {java_elapsed:.1f} s ({java_used:.1f} s)")
    print(f"ratio {java_elapsed / elapsed:.1f} ({java_used / used:.1f} of the processor's time)")


if __name__ == "__main__":
    main()
