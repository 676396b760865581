"""A saved model without the word pieces that its texts never use: for these the same outputs, from a smaller file.

    python -m training.text.fewer_pieces runs/entailment_snli_ve/best --output small/ \\
        --texts captions.txt.gz data/snli_ve/flickr8k_subset.jsonl:hypothesis

texts --used_pieces--> pieces in the order of the old vocabulary --fewer_pieces--> folder of `save_pretrained`

WordPiece (as BERT and MiniLM read) takes the longest piece of its vocabulary that a word goes on with, so that a word
whose pieces are all kept is read as before. Single characters of ASCII are kept, too: a word that the texts never say
is spelt in shorter pieces rather than unknown; with `--letters` all pieces of the letters a to z are, so that English
words are read as before, whatever the texts say.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedConfig

import modeling_updown
from modeling_updown.heads_updown import FUSION, heads_of
from training.console import one_line, say
from training.data.captions.texts import read_texts
from training.data.files import read_json, write_json
from training.saved_models import no_config, saved_class

CONTINUES = "##"  # before a piece inside a word
AT_ONCE = 1000  # texts
READERS = tuple(  # heads on the fusion model that write no words
    head.model
    for head in heads_of(FUSION.model_type)
    if head.model not in ("UpDownFusionForPreTraining", "UpDownFusionForMaskedLM")
)
CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"


def used_pieces(tokenizer: Tokenizer, texts: Iterable[str], *, letters: bool = False) -> dict[str, int]:
    """The pieces of a WordPiece tokenizer that texts are read as, its special tokens and single characters of ASCII.

    letters: all pieces of ASCII letters as well. Returns their ids by name, in order. Raises `ValueError` for a
    tokenizer of another kind.

    >>> from tokenizers.models import WordPiece
    >>> vocabulary = {"[UNK]": 0, "a": 1, "dog": 2, "##s": 3, "cat": 4}
    >>> used_pieces(Tokenizer(WordPiece(vocabulary, unk_token="[UNK]")), ["dogs"])
    {'[UNK]': 0, 'a': 1, 'dog': 2, '##s': 3}
    """
    kind = type(tokenizer.model).__name__
    if kind != "WordPiece":
        raise ValueError(f"its tokenizer is {kind}: pieces are left out of WordPiece alone, as BERT and MiniLM have it")
    kept = {token.content for token in tokenizer.get_added_tokens_decoder().values()} | {tokenizer.model.unk_token}
    plain = {piece: piece.removeprefix(CONTINUES) for piece in tokenizer.get_vocab() if piece.isascii()}
    kept |= {piece for piece, word in plain.items() if len(word) == 1 or (letters and word.isalpha())}
    tokenizer.no_truncation()
    texts = list(texts)
    for start in range(0, len(texts), AT_ONCE):
        for encoding in tokenizer.encode_batch(texts[start : start + AT_ONCE]):
            kept.update(encoding.tokens)
    ids = tokenizer.get_vocab()
    return {piece: ids[piece] for piece in sorted(kept, key=ids.__getitem__)}


def fewer_pieces(
    folder: str | Path, output: str | Path, texts: Iterable[str], *, letters: bool = False
) -> dict[str, int]:
    """Writes a saved fusion model again, with the pieces of `used_pieces` alone.

    Args:
        folder: of `save_pretrained`, with its processor; a run's `best`, say.
        output: a new folder. Weights keep the type that they are saved in.
        texts: what the model will read, the training texts above all.
        letters: keep all pieces of the letters a to z.

    Returns:
        `pieces` before, `kept` now, and the `bytes` that the weights lose.

    Raises:
        ValueError: for a folder without a model, a tokenizer of another kind than WordPiece, a model that
            writes words, and an `output` that is there.
    """
    folder, output = Path(folder), Path(output)
    if not (folder / CONFIG).is_file():
        raise ValueError(no_config(folder))
    if output.exists():
        raise ValueError(f"{output} is there: name a new folder")
    config = AutoConfig.from_pretrained(folder)
    number, name = word_weights(config, folder)
    if not (folder / TOKENIZER).is_file():
        raise ValueError(f"{folder} has no {TOKENIZER}: give a folder that holds a processor, too")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    kept = used_pieces(tokenizer, texts, letters=letters)
    weights = load_file(folder / WEIGHTS)
    words = weights[name]
    weights[name] = words[list(kept.values())].contiguous()
    renumber(config, {old: new for new, old in enumerate(kept.values())})
    output.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in (WEIGHTS, TOKENIZER, CONFIG):
            shutil.copy2(path, output / path.name)
    config.save_pretrained(output)
    write_json(output / TOKENIZER, with_pieces(read_json(folder / TOKENIZER), list(kept)))
    save_file(weights, output / WEIGHTS, metadata={"format": "pt"})  # last: a folder without it is not whole
    bytes_of_one = words.shape[1] * words.element_size()
    return {"pieces": number, "kept": len(kept), "bytes": (number - len(kept)) * bytes_of_one}


def word_weights(config: PreTrainedConfig, folder: Path) -> tuple[int, str]:
    """How many pieces a saved model reads, and the name of their vectors among its weights.

    Raises `ValueError` for a model of another kind than `READERS`.
    """
    kind = saved_class(str(folder))
    if config.model_type != "updown_fusion" or kind not in READERS:
        raise ValueError(
            f"{folder} holds {kind or config.model_type}: pieces are left out of {', '.join(READERS)} alone, which "
            "write no words"
        )
    with torch.device("meta"):  # names without weights
        model = getattr(modeling_updown, kind)(config)
    words = model.get_input_embeddings().weight
    return len(words), next(name for name, weight in model.named_parameters() if weight is words)


def renumber(config: PreTrainedConfig, new_ids: Mapping[int, int]) -> None:
    """Sets the number of pieces and the ids of special tokens in a fusion model's config."""
    config.text_config.vocab_size = len(new_ids)
    for part in (config, config.text_config):
        for name in ("pad_token_id", "cls_token_id", "bos_token_id", "eos_token_id", "sep_token_id"):
            if getattr(part, name, None) is not None:
                setattr(part, name, new_ids[getattr(part, name)])


def with_pieces(content: dict[str, Any], kept: Sequence[str]) -> dict[str, Any]:
    """What `tokenizer.json` holds, with these pieces alone, numbered in this order."""
    ids = {piece: number for number, piece in enumerate(kept)}
    added = [{**token, "id": ids[token["content"]]} for token in content["added_tokens"]]
    frame = dict(content.get("post_processor") or {})
    if frame.get("special_tokens"):  # what stands before and after a text
        said = frame["special_tokens"].items()
        frame["special_tokens"] = {name: {**one, "ids": [ids[each] for each in one["tokens"]]} for name, one in said}
    for name in ("sep", "cls"):  # BERT's own form of it
        if name in frame:
            frame[name] = [frame[name][0], ids[frame[name][0]]]
    model = {**content["model"], "vocab": ids}
    return {**content, "added_tokens": added, "post_processor": frame or None, "model": model}


def read_all(places: Sequence[str]) -> Iterator[str]:
    """The texts of files: captions, as `read_texts` knows them, or `FILE.jsonl:COLUMN`, a column of lines of JSON.

    Raises `ValueError` for a line without that column, and what `read_texts` raises.
    """
    for place in places:
        file, _, column = place.rpartition(":")
        if not file.endswith(".jsonl"):
            for row in read_texts(place)["captions"]:
                yield from row
            continue
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield str(json.loads(line)[column])
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{file}, line {number}: no {column!r} ({one_line(error)})") from error


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training.text.fewer_pieces",
        description="Save a model again without the word pieces that texts never use.",
    )
    parser.add_argument(
        "folder", metavar="FOLDER", help="of a fusion model that only reads: retrieval, entailment, ..."
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the new one")
    parser.add_argument(
        "--texts",
        nargs="+",
        required=True,
        metavar="FILE",
        help="what it will read: captions (COCO's JSON, or lines, also of id<tab>caption or .gz), or FILE.jsonl:COLUMN",
    )
    parser.add_argument("--letters", action="store_true", help="keep all pieces of the letters a to z as well")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 2 for what is wrong with its arguments or files."""
    parsed = build_parser().parse_args(arguments)
    try:
        told = fewer_pieces(parsed.folder, parsed.output, read_all(parsed.texts), letters=parsed.letters)
    except (OSError, ValueError) as error:
        say(f"fewer_pieces: {one_line(error)}", file=sys.stderr)
        return 2
    say(f"{told['kept']:,} of {told['pieces']:,} pieces kept, {told['bytes'] / 1e6:.1f} MB less: {parsed.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
