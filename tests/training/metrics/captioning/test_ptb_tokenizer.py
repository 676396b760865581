"""The Python tokenizer against the official one: golden captions, its jar where there is Java, and captions by hand."""

import gzip
import json
import random
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.shared_files import shared
from training.metrics.captioning.ptb_tokenizer import PUNCTUATION, ptb_tokenize

NO_BREAK_SPACE = "\u00a0"
BY_HAND = {
    "A man's dog can't run; it's \"tired\".": "a man 's dog ca n't run it 's tired",
    "Don't, won't, I'M and they’ve": "do n't wo n't i 'm and they 've",
    "You cannot, we're gonna, 'tis": "you can not we 're gon na 't is",
    "rock'n'roll at five o'clock, y'all": "rock 'n' roll at five o'clock y' all",
    "(two) [cats] {birds} <a fish>": f"-lrb- two -rrb- -lsb- cats -rsb- -lcb- birds -rcb- <a{NO_BREAK_SPACE}fish>",
    "Mr. Smith of the U.S. Army, etc.": "mr. smith of the u.s. army etc.",
    "Vitamin C. The plan B. runs": "vitamin c the plan b. runs",
    "It says no.": "it says no",
    "No. 5 and no. five": "no. 5 and no five",
    "a half-eaten t-shirt - or -- two": "a half-eaten t-shirt or two",
    "1,000 people, 1 1/2 cups, ½ cup": f"1,000 people 1{NO_BREAK_SPACE}1/2 cups 1/2 cup",
    "call (555) 123-4567 now": f"call -lrb-555-rrb-{NO_BREAK_SPACE}123-4567 now",
    "$5, £6, €7 and 50¢": "$ 5 # 6 $ 7 and 50 cents",
    "R&D &amp; a&b &lt;ok&gt;": "r&d & a & b < ok >",
    "see http://a.org/b?c=d, www.ab.com or me@ab.org.": "see http://a.org/b?c=d www.ab.com or me@ab.org",
    "#1 #dog @home **": "# 1 #dog @home **",
    ":-) :D ^_^": ":--rrb- :d ^_^",
    "lots!!! of?? things... here": "lots !!! of ?? things here",
    "C++ and .NET, v2.0 at 10:30pm": "c++ and net v2 .0 at 10:30 pm",
    "emoji 😀 dog\u200bhouse": "emoji dog house",
    "the '90s and 1980's": "the '90s and 1980 's",
    "his/her/its and/or w/": "his/her/its and/or w /",
    "line\nbreak\r\nand\u2028more": "line break and more",
    "": "",
    " . ": "",
}
PIECES = (
    "a the Man cats. dog, U.S. Mr. etc. no. No. 5 10 1/2 1,000 .5 $5 £3 it's don’t dogs' 'tis cannot gonna o'clock "
    "(two) [x] half-eaten - -- ... ? !! & a&b AT&T <b> &lt; #tag @you me@x.org www.x.com x.jpg 'em '90s 10:30 5th :-) "
    '"hi" “yes” ‘no’ n\'t D.C. Ph.D. and/or w/ The A In 50% ½ café C++ a.m. *'
)


def test_golden_captions() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/ptb_tokenizer.json.gz").read_bytes()))
    # Every caption by itself: where the official tokens depend on the next caption, the file's neighbours are plain.
    assert ptb_tokenize(data["inputs"]["captions"]) == data["expected"]["tokens"]


def test_a_line_break_inside_a_caption_shifts_no_other_caption() -> None:
    data = json.loads(gzip.decompress(shared("golden/metrics/ptb_tokenizer.json.gz").read_bytes()))
    for captions in data["inputs"]["line_shift_inputs"]:
        tokens = ptb_tokenize(captions)
        assert len(tokens) == len(captions) and tokens == [" ".join(caption.split()) for caption in captions]


@pytest.mark.parametrize("caption", BY_HAND)
def test_captions_by_hand(caption: str) -> None:
    assert ptb_tokenize([caption]) == [BY_HAND[caption]]


def official_tokens(captions: list[str]) -> list[str]:
    """What the official tokenizer's jar says, each caption standing before a line of plain words."""
    spec = find_spec("pycocoevalcap")
    if shutil.which("java") is None or spec is None or not spec.submodule_search_locations:
        pytest.skip("needs Java and pycocoevalcap, whose jar is the referee")
    jar = Path(next(iter(spec.submodule_search_locations))) / "tokenizer/stanford-corenlp-3.4.1.jar"
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = "".join(f"{caption}\nx x\n" for caption in captions)
    done = subprocess.run(command, input=lines.encode(), capture_output=True, check=True, timeout=120)
    answered = done.stdout.decode().split("\n")[: 2 * len(captions) : 2]
    return [" ".join(word for word in line.split(" ") if word and word not in PUNCTUATION) for line in answered]


def test_random_captions_and_those_by_hand_against_the_jar() -> None:
    generator = random.Random(0)
    pieces = PIECES.split()
    captions = [generator.choice(["", " "]).join(generator.choices(pieces, k=4)) for _ in range(1500)]
    captions += [" ".join(generator.choices(pieces, k=6)) for _ in range(1500)]
    captions += [caption for caption in BY_HAND if not set(caption) & set("\n\r\u2028")]
    assert ptb_tokenize(captions) == official_tokens(captions)


@pytest.mark.parametrize("unit", ["a", "<a ", ".", "a@", "a-", "'", "(", "1,", "&", " "])
def test_long_nonsense_is_read_to_its_end(unit: str) -> None:
    tokens = ptb_tokenize([unit * 2000 + " end"])[0]
    assert tokens.split()[-1] == "end"


def test_what_is_no_caption_is_named() -> None:
    with pytest.raises(TypeError, match="captions is one string"):
        ptb_tokenize("a dog")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a caption is a NoneType"):
        ptb_tokenize([None])  # type: ignore[list-item]
