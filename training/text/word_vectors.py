"""Pretrained vectors for the words of a question vocabulary, from a GloVe file or from any Hugging Face model.

    words + glove.6B.300d.txt --glove_vectors--> (W, D) --> the word embedding of a VQA model, before training
    words + a tokenizer's folder or Hub id --tokenizer_vectors--> (W, D)

Pennington et al. 2014 (GloVe; Anderson et al. 2018 start with its 300 numbers per word). Words without a vector get
zeros, as in hengyuan-hu/bottom-up-attention-vqa. A file is read line by line and only the given words are kept, so the
memory depends only on the words; nothing in a file is executed.
"""

import contextlib
import gzip
import io
import itertools
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, AutoTokenizer

from modeling_updown import UpDownTokenizer
from modeling_updown.modeling_vqa import WORD_STD
from modeling_updown.tags_updown import TAG_STD, RegionTags
from training.console import one_line
from training.data.files import PathLike, read_json

LONGEST_LINE_BYTES = 2**20
LARGEST_SIZE = 16_384  # numbers per word
BUFFER_BYTES = 2**18
BROKEN_ARCHIVE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, RuntimeError)
LOADING_ERRORS = (OSError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError)
TEXT_SUFFIXES = (".txt", ".vec", ".gz", ".zip")
WEIGHTS_FILE = "model.safetensors"

logger = logging.getLogger(__name__)


def word_vectors(source: PathLike, words: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
    """`glove_vectors` of a file (an existing one, or a name in `.txt`, `.vec`, `.gz` or `.zip`), else
    `tokenizer_vectors` of a folder or Hub id."""
    is_file = Path(source).is_file() or Path(source).suffix.lower() in TEXT_SUFFIXES
    return (glove_vectors if is_file else tokenizer_vectors)(source, words)


def glove_vectors(path: PathLike, words: Sequence[str], *, size: int | None = None) -> tuple[torch.Tensor, list[str]]:
    """Reads the vectors of some words from a text file of word vectors.

    A word is looked up unchanged, then lower-cased; if the file has a word twice, the first vector is used.

    Args:
        path: text with lines `word v1 ... vD`, such as GloVe's (words may contain blanks, as some in its 840B file), or
            with a first line `COUNT D` as word2vec's and fastText's; or the same as `.gz`; or a `.zip` with one
            `.txt` in it, with several named as `glove.6B.zip/glove.6B.300d.txt`.
        words: W words.
        size: D, if the file must have a certain one.

    Returns:
        The vectors (W, D) float32, zeros for words without one, and the words that have one, in the order of `words`.

    Raises:
        ValueError: naming file and line, for a line that is not UTF-8, too long, or has too few or too many numbers,
            and for a wanted word's vector that is not finite numbers; for a file without vectors of `size`, and for an
            archive without exactly one text.
    """
    reader = _VectorReader(path, words, size=size)
    with _open_text(Path(path)) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            reader.read(line, number)
    if not reader.size:
        raise ValueError(f"{path} holds no word vectors; expected lines such as `dog 0.1 -0.2 ...`")
    found = [word for word, rank in zip(words, reader.ranks, strict=True) if rank]
    _log_found(found, words, path)
    return torch.from_numpy(reader.vectors), found


def tokenizer_vectors(folder_or_id: PathLike, words: Sequence[str]) -> tuple[torch.Tensor, list[str]]:
    """Makes vectors of words from the input embeddings of any Hugging Face model: the mean over a word's pieces.

    A word is split as inside a sentence; a word with an unknown piece is looked up lower-cased. Of `.safetensors`
    weights only the embedding matrix is read.

    Args:
        folder_or_id: a saved model with its tokenizer, or a Hub id (offline if it is in the cache).
        words: W words.

    Returns:
        As `glove_vectors`; D is the width of the model's input embeddings.

    Raises:
        ValueError: if no model with a tokenizer and word embeddings can be loaded from there, the tokenizer has ids
            without a row in the embeddings, or a word's embedding is not finite.
    """
    tokenizer, embeddings = _load_tokenizer(folder_or_id), _load_embeddings(folder_or_id)  # (V, D)
    pieces = _pieces(tokenizer, words)
    lower = _pieces(tokenizer, [word.lower() for word in words])
    pieces = [as_is or lowered for as_is, lowered in zip(pieces, lower, strict=True)]
    largest = max((max(ids) for ids in pieces if ids), default=0)
    if largest >= len(embeddings):
        raise ValueError(
            f"{folder_or_id}: the tokenizer has the id {largest}, but the model embeds {len(embeddings)} pieces; are "
            "they of one model?"
        )
    vectors = torch.zeros(len(words), embeddings.shape[1])
    for row, ids in enumerate(pieces):
        if ids:
            vectors[row] = embeddings[ids].float().mean(0)
    if not torch.isfinite(vectors).all():
        raise ValueError(f"{folder_or_id}: the embeddings hold numbers that are not finite; are the weights whole?")
    found = [word for word, ids in zip(words, pieces, strict=True) if ids]
    _log_found(found, words, folder_or_id)
    return vectors, found


class _VectorReader:
    """Reads a file line by line and keeps the vectors of wanted words.

    `ranks`: how each word was found: 0 not, 1 lower-cased, 2 unchanged.
    """

    def __init__(self, path: PathLike, words: Sequence[str], *, size: int | None):
        self.path, self.wanted_size = path, size
        self.size = 0  # D, once the first vector is seen
        self.vectors = np.zeros((len(words), 0), dtype=np.float32)
        self.ranks = [0] * len(words)
        self.wanted: dict[str, list[tuple[int, int]]] = {}  # spelling -> (row, rank)
        for row, word in enumerate(words):
            self.wanted.setdefault(word, []).append((row, 2))
            if word.lower() != word:
                self.wanted.setdefault(word.lower(), []).append((row, 1))

    def read(self, line: bytes, number: int) -> None:
        """Read one line, `number` from 1; raises `ValueError` for a line without a word and its vector."""
        line = line.rstrip()
        if not line or (number == 1 and _is_header(line)):
            return
        if not self.size:
            self.begin(line, number)
        word = self.word_of(line, number)
        places = [(row, rank) for row, rank in self.wanted.get(word, ()) if rank > self.ranks[row]]
        if places:
            vector = self.numbers_of(line, word, number)
            for row, rank in places:
                self.vectors[row], self.ranks[row] = vector, rank

    def begin(self, line: bytes, number: int) -> None:
        """Set D to the number of numbers in the first line."""
        size = sum(1 for _ in itertools.takewhile(_is_number, reversed(line.split(b" ")[1:])))
        if not size:
            raise ValueError(
                f"{self.path}, line {number} is not a word with numbers, separated by blanks: {_shown(line)}"
            )
        if self.wanted_size not in (None, size):
            raise ValueError(f"{self.path} has {size} numbers per word, not {self.wanted_size}: choose another file")
        if size > LARGEST_SIZE:
            raise ValueError(f"{self.path} has {size} numbers per word, more than {LARGEST_SIZE}: {_shown(line)}")
        self.size = size
        self.vectors = np.zeros((len(self.ranks), size), dtype=np.float32)

    def word_of(self, line: bytes, number: int) -> str:
        """The text before the line's last D numbers; raises `ValueError` if there are fewer or more numbers."""
        blanks = line.count(b" ")
        head = line[: line.find(b" ")] if blanks == self.size else line.rsplit(b" ", self.size)[0].rstrip(b" ")
        if blanks < self.size or (blanks > self.size and _is_number(head.rpartition(b" ")[2]) and b" " in head):
            raise ValueError(
                f"{self.path}, line {number} has {len(line.split()) - 1} numbers, not {self.size} as the first line: "
                f"{_shown(line)}; is the file cut short?"
            )
        try:
            return head.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path}, line {number} is not UTF-8: {_shown(line)}; save the vectors as text in UTF-8"
            ) from error

    def numbers_of(self, line: bytes, word: str, number: int) -> np.ndarray:
        """The line's last D fields as float32 (D,); raises `ValueError` if one is not a finite number."""
        try:
            with np.errstate(over="ignore"):
                vector = np.array([float(field) for field in line.rsplit(b" ", self.size)[1:]], dtype=np.float32)
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}, the word {word!r}: {error}") from error
        if not np.isfinite(vector).all():
            raise ValueError(f"{self.path}, line {number}: the vector of {word!r} holds a number that is not finite")
        return vector


def start_from_vectors(model: Any, tokenizer: UpDownTokenizer, source: str) -> None:
    """Give words the vectors of a GloVe file or of another model; words that it lacks keep their new ones.

    Vectors are scaled to the size of new ones, since every source has its own.

    Raises `ValueError` where their width is not the model's.
    """
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    vectors, found = word_vectors(source, words)
    embedding = model.embed_tokens.weight
    if vectors.shape[1] != embedding.shape[1]:
        raise ValueError(
            f"train.word_vectors are {vectors.shape[1]} wide: set model.word_embedding_size to that, not "
            f"{embedding.shape[1]}"
        )
    there = set(found)
    special = set(tokenizer.all_special_ids)  # "<pad>" may be three pieces to another tokenizer, but stays zero here
    known = [number for number, word in enumerate(words) if word in there and number not in special]
    scale = WORD_STD / vectors[known].std().clamp(min=1e-6)
    embedding.data[known] = scale * vectors[known]


def start_tags_from_vectors(model: Any, source: str) -> None:
    """Give the classes of a model's tags the vectors of their names: of the name if `source` has one, or the mean of
    its words'; classes without any keep their new ones.

    model: with `config.tag_kinds`. source: as for `word_vectors`. Vectors are scaled to the size of new ones.

    Raises `ValueError` where the names are not known or none has a vector, or the width is not the model's.
    """
    config, tags = model.config, next(module for module in model.modules() if isinstance(module, RegionTags))
    names = {kind.name: getattr(config, kind.names) for kind in config.tag_kinds}
    unnamed = next((kind for kind, classes in names.items() if not classes), None)
    if unnamed:
        raise ValueError(
            f"regions.tag_vectors are those of the classes' names, and the region store says none of {unnamed}: give "
            f"them as model.{unnamed.removesuffix('s')}_names, or extract the regions anew"
        )
    wanted = list(dict.fromkeys(word for classes in names.values() for name in classes for word in spellings(name)))
    vectors, found = word_vectors(source, wanted)
    if vectors.shape[1] != config.tag_embedding_size:
        raise ValueError(
            f"regions.tag_vectors are {vectors.shape[1]} wide: set model.tag_embedding_size to that, not "
            f"{config.tag_embedding_size}"
        )
    there = set(found)
    if not there:
        raise ValueError(f"regions.tag_vectors: {source} has a vector of no class, such as {wanted[0]!r}")
    scale = TAG_STD / vectors[[word in there for word in wanted]].std().clamp(min=1e-6)
    vector_of = dict(zip(wanted, scale * vectors, strict=True))
    for kind, classes in names.items():
        for place, name in enumerate(classes):
            whole, *parts = spellings(name)
            known = [whole] if whole in there else [word for word in parts if word in there]
            if known:
                column = torch.stack([vector_of[word] for word in known]).mean(dim=0)
                tags.embeddings[kind].weight.data[:, place] = column  # type: ignore[operator, union-attr]


def spellings(name: str) -> list[str]:
    """A class's name as it stands (the first of several), and each of its words.

    >>> spellings("t-shirt,tee"), spellings("tennis racket")
    (['t-shirt', 't', 'shirt'], ['tennis racket', 'tennis', 'racket'])
    """
    first = name.split(",")[0].strip()
    return [first, *re.findall(r"[^\W_]+", first)]


def _lines(file: BinaryIO, path: PathLike) -> Iterator[bytes]:
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES):
        number += 1
        if len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n"):
            raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE_BYTES:,} bytes; is it a text file?")
        yield line


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a text, a `.gz`, or a text in a `.zip`; raises `ValueError` if there is no such file."""
    archive = path.parent if path.parent.suffix.lower() == ".zip" and path.parent.is_file() else path
    if not archive.is_file():
        raise ValueError(f"there is no file {path}; GloVe's vectors are published as glove.6B.zip and other zip files")
    try:
        with contextlib.ExitStack() as opened:
            if archive.suffix.lower() == ".zip":
                texts = opened.enter_context(zipfile.ZipFile(archive))
                member = _text_in(texts, archive, named=path.name if archive != path else "")
                file: Any = opened.enter_context(texts.open(member))
            else:
                opener = gzip.open if path.suffix.lower() == ".gz" else open
                file = opened.enter_context(opener(path, "rb"))
            yield opened.enter_context(io.BufferedReader(file, BUFFER_BYTES))
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"{archive} cannot be unpacked ({error}); is it cut short, or encrypted?") from error


def _text_in(archive: zipfile.ZipFile, path: Path, *, named: str) -> str:
    """The name of the only text in an archive, or of the text called `named`, in any of its folders."""
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
    texts = [name for name in names if (PurePosixPath(name).name == named if named else name.lower().endswith(".txt"))]
    if len(texts) != 1:
        listed = ", ".join((texts or names)[:5]) or "nothing"
        wanted = f"not one {named}" if named else f"{len(texts)} texts: name one, as {path}/NAME.txt"
        raise ValueError(f"{path} holds {listed}: {wanted}")
    return texts[0]


def _is_header(line: bytes) -> bool:
    """Whether a first line is `COUNT D`, as in word2vec's text files."""
    fields = line.split(b" ")
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("utf-8", errors="replace"))


def _log_found(found: Sequence[str], words: Sequence[str], source: PathLike) -> None:
    share = 100 * len(found) / max(len(words), 1)
    logger.info("%s has vectors for %d of %d words (%.1f %%)", source, len(found), len(words), share)


def _pieces(tokenizer: Any, words: Sequence[str]) -> list[list[int]]:
    """The ids of each word's pieces, after a blank as inside a sentence, or without one if these are fewer; [] for a
    word with an unknown piece."""
    if not words:
        return []
    inside, alone = (
        tokenizer([before + word for word in words], add_special_tokens=False)["input_ids"] for before in (" ", "")
    )
    usable = [
        [ids for ids in both if ids and tokenizer.unk_token_id not in ids] for both in zip(inside, alone, strict=True)
    ]
    return [min(both, key=len, default=[]) for both in usable]


def _load_tokenizer(place: PathLike) -> Any:
    try:
        return AutoTokenizer.from_pretrained(place)
    except LOADING_ERRORS as error:
        raise ValueError(f"no tokenizer can be loaded from {place}: {one_line(error, limit=300)}") from error


def _load_embeddings(place: PathLike) -> torch.Tensor:
    """The input embeddings (V, D) of a saved model; other weights are not read if they are `.safetensors`."""
    try:
        with torch.device("meta"):  # names and shapes without weights
            model = AutoModel.from_config(AutoConfig.from_pretrained(place))
        weight = model.get_input_embeddings().weight
        if weight.ndim != 2:
            raise ValueError("its model has no word embeddings")
        name = next((name for name, parameter in model.named_parameters() if parameter is weight), "")
        stored = _stored_tensor(place, name, shape=weight.shape)
        if stored is None:
            loaded, info = AutoModel.from_pretrained(place, output_loading_info=True)
            if name in info["missing_keys"]:
                raise ValueError(f"its weights lack {name}")
            stored = loaded.get_input_embeddings().weight.detach()
        return stored
    except (*LOADING_ERRORS, SafetensorError) as error:
        raise ValueError(f"no word embeddings can be read from {place}: {one_line(error, limit=300)}") from error


def _stored_tensor(place: PathLike, name: str, *, shape: torch.Size) -> torch.Tensor | None:
    """A tensor of a model's `.safetensors` by its name, or by its name after a head's prefix; None if none or several
    match."""
    file_of = _stored_keys(place)
    keys = [key for key in file_of if key.endswith(f".{name}")]
    if name in file_of:
        keys = [name]
    if len(keys) != 1:
        return None
    with safe_open(_file_of(place, file_of[keys[0]]), framework="pt") as tensors:
        stored = tensors.get_tensor(keys[0])
    return stored if stored.shape == shape else None


def _stored_keys(place: PathLike) -> dict[str, str]:
    """Tensor name -> file of a model's `.safetensors`; {} if it has no such file."""
    with contextlib.suppress(OSError):  # raised for a missing file
        return read_json(_file_of(place, "model.safetensors.index.json"))["weight_map"]
    with contextlib.suppress(OSError), safe_open(_file_of(place, WEIGHTS_FILE), framework="pt") as tensors:
        return dict.fromkeys(tensors.keys(), WEIGHTS_FILE)
    return {}


def _file_of(place: PathLike, name: str) -> str:
    """The path of a file of a folder or Hub repository; raises `OSError` if it does not exist."""
    path = Path(place) / name
    if not Path(place).is_dir():
        return hf_hub_download(str(place), name)
    if not path.is_file():
        raise FileNotFoundError(f"{place} holds no {name}")
    return str(path)
