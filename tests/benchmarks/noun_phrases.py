"""Our rules for noun phrases beside spaCy's parser: how often heads, adjectives and objects agree.

    python -m tests.benchmarks.noun_phrases --annotations data/flickr8k/entities.json.gz --vocabulary DIR
    python -m tests.benchmarks.noun_phrases --annotations data/flickr8k/entities.json.gz --vocabulary DIR --sample 100

Every phrase with a box of the split, in its sentence, which spaCy parses whole with the words as they stand. Its head
is the root of the phrase's words (the noun behind "of" where the root is a word of amount or place, as ours), its
adjectives are what depends on the head as amod, compound or nmod, and on those by "and". Both go through the same
vocabulary. `--disagree N` lists N phrases drawn by seed 0 whose object differs, to be judged by hand; `--sample N`
lists N of all phrases and N of the different ones with what the rules read in them, and needs no spaCy.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.boxes.entities_files import Phrase, joined_image, joined_records
from training.data.boxes.noun_phrases import AMOUNTS, PLACES, Head, PhraseReader, split_phrase
from training.data.boxes.visual_genome import read_vocabularies

ADJECTIVES = ("amod", "compound", "nmod", "nummod")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True, help="the joined JSON of Flickr30k Entities")
    parser.add_argument("--vocabulary", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--parser", default="en_core_web_md", help="a model of spaCy, by name or folder")
    parser.add_argument("--disagree", type=int, default=0, help="list so many phrases whose object differs")
    parser.add_argument("--sample", type=int, default=0, help="list so many phrases as the rules read them, no more")
    args = parser.parse_args()
    reader = PhraseReader(*read_vocabularies(args.vocabulary))
    if args.sample:
        show_sample(args, reader)
    else:
        compare(args, reader)


def show_sample(args: argparse.Namespace, reader: PhraseReader) -> None:
    """What the rules read in phrases drawn by seed 14: of all, and of the different ones."""
    drawn = [(p.text, p.kinds, several) for p, _, _, several in boxed_phrases(args.annotations, args.split)]
    different = list(dict.fromkeys((text.lower(), kinds, several) for text, kinds, several in drawn))
    for what, phrases in (("all", drawn), ("different", different)):
        print(f"of {len(phrases)} phrases ({what}):")
        for text, kinds, several in random.Random(14).sample(phrases, args.sample):
            names = reader.read(text, kinds=kinds, several=several)
            objects = "/".join(reader.objects.names[i - 1] for i in names.objects)
            attributes = ", ".join(reader.attributes.names[i - 1] for i in names.attributes)
            print(f"{text:50} {','.join(kinds):10} {'several' if several else 'one':7} {objects} | {attributes}")


def compare(args: argparse.Namespace, reader: PhraseReader) -> None:
    """Agreement with spaCy."""
    import spacy

    language = spacy.load(args.parser, exclude=["ner", "lemmatizer"])
    counts: Counter[str] = Counter()
    differing = []
    for phrase, span, several in parsed_phrases(args.annotations, args.split, language):
        ours, theirs = split_phrase(phrase.text.lower().split(), nouns=reader.nouns), parsed_head(span)
        options: dict[str, Any] = {"kinds": phrase.kinds, "several": several}
        our_names, their_names = reader.read(phrase.text, **options), reader.named(theirs, **options)
        counts["phrases"] += 1
        counts["same head"] += bool(ours) and ours[-1].words[-1:] == theirs.words[-1:]
        counts["same object"] += our_names.objects[:1] == their_names.objects[:1]
        counts["same attributes"] += set(our_names.attributes) == set(their_names.attributes)
        counts["with attributes"] += bool(our_names.attributes or their_names.attributes)
        counts["with attributes, the same"] += bool(our_names.attributes) and set(our_names.attributes) == set(
            their_names.attributes
        )
        if our_names.objects[:1] != their_names.objects[:1]:
            told = [[reader.objects.names[i - 1] for i in names.objects[:1]] for names in (our_names, their_names)]
            differing.append(f"{phrase.text!r} {phrase.kinds} several={several}: ours {told[0]}, spaCy's {told[1]}")
    for name in ("same head", "same object", "same attributes"):
        print(f"{name}: {counts[name]} of {counts['phrases']} phrases, {counts[name] / counts['phrases']:.1%}")
    described = counts["with attributes"]
    print(f"of {described} with attributes: {counts['with attributes, the same'] / described:.1%} the same")
    for line in random.Random(0).sample(differing, min(args.disagree, len(differing))):
        print(line)


def boxed_phrases(path: Path, split: str) -> Iterator[tuple[Phrase, str, int, bool]]:
    """Phrases with a box, their sentence, where they stand in its words, and whether their chain has several boxes."""
    for record in joined_records(path).values():
        if record["split"] != split:
            continue
        image = joined_image(record, source=path)
        for sentence in image.sentences:
            end = 0
            for phrase in sentence.phrases:
                start = place_of(phrase.text.split(" "), sentence.text.split(" "), after=end)
                end = start + len(phrase.text.split(" "))
                if phrase.chain in image.boxes:
                    yield phrase, sentence.text, start, len(image.boxes[phrase.chain]) > 1


def parsed_phrases(path: Path, split: str, language: Any) -> Iterator[tuple[Phrase, Any, bool]]:
    """`boxed_phrases` with their words in the sentence as spaCy parses it."""
    from spacy.tokens import Doc

    phrases = list(boxed_phrases(path, split))
    texts = list(dict.fromkeys(text for _, text, _, _ in phrases))
    docs = dict(zip(texts, language.pipe(Doc(language.vocab, words=text.split(" ")) for text in texts), strict=True))
    for phrase, text, start, several in phrases:
        yield phrase, docs[text][start : start + len(phrase.text.split(" "))], several


def place_of(words: Sequence[str], sentence: Sequence[str], *, after: int) -> int:
    """Where the words stand in a sentence."""
    return next(i for i in range(after, len(sentence)) if list(sentence[i : i + len(words)]) == list(words))


def parsed_head(span: Any) -> Head:
    """The head of a parsed phrase with the words before it that describe it."""
    root, amount = span.root, ""
    while root.lower_ in AMOUNTS | PLACES:
        behind = [t for child in root.children if child.lower_ == "of" for t in child.children if t.dep_ == "pobj"]
        behind = [token for token in behind if span.start <= token.i < span.end]
        if not behind:
            break
        amount, root = amount or (root.lower_ if root.lower_ in AMOUNTS else ""), behind[0]
    if root.pos_ in ("DET", "PRON", "NUM"):
        return Head(())
    describing = [token for token in root.lefts if token.dep_ in ADJECTIVES and token.pos_ != "NUM"]
    for token in describing:  # grows by what "and" joins to them, and by what describes them
        describing += [t for t in token.children if t.dep_ in (*ADJECTIVES, "conj", "advmod") and t.i < root.i]
    words = [token.lower_ for token in sorted(describing, key=position) if token.i >= span.start]
    return Head((*words, root.lower_), amount)


def position(token: Any) -> int:
    return int(token.i)


if __name__ == "__main__":
    main()
