"""What an answer is read with: OCR words as vectors, earlier predictions as vectors, and the pointer (Hu et al. 2020).

    o_w = LN(W_p pieces + W_c characters + W_f feature) + LN(W_b box) [+ order_w]            M4C, equation 2
    d_t = LN(row of the classifier) or LN(o_w) of what was predicted before, + LN(step_t + kind)
    p_tw = (W_q z_t + b_q) . (W_k z_w + b_k) / sqrt(size), -10,000 added where there is no OCR word      equation 4

Shapes: P images or N rows, W OCR words, S steps, C characters, H the text encoder's width, V entries of the vocabulary.
Characters are the bytes of a word in UTF-8 plus 1, 0 where it has fewer.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .boxes_updown import box_geometry
from .configuration_text_updown import UpDownFusionConfig
from .linear_updown import float_type
from .modeling_attention import GatedLayer, QuestionAttention, TextRows

NO_OCR = -10_000.0  # finite, as M4C has it, so that the loss stays a number
NUM_CODES = 257  # a byte plus 1, and 0
CODE_SIZE, WINDOW = 32, 5  # of the learnt characters
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LEVELS = (2, 3, 4, 5)
BIGRAM_LEVEL = 2
BIGRAMS = (  # the fifty commonest of English, as in PHOC's own code
    *("th", "he", "in", "er", "an", "re", "es", "on", "st", "nt", "en", "at", "ed", "nd", "to", "or", "ea", "ti"),
    *("ar", "te", "ng", "al", "it", "as", "is", "ha", "et", "se", "ou", "of", "le", "sa", "ve", "ro", "ra", "ri"),
    *("hi", "ne", "me", "de", "co", "ta", "ec", "si", "ll", "so", "na", "li", "la", "el"),
)
PHOC_SIZE = sum(LEVELS) * len(LETTERS) + BIGRAM_LEVEL * len(BIGRAMS)  # 604


class OcrEmbedding(nn.Module):
    """OCR words as input embeddings of the fusion model; see the module's docstring.

    Example:

    >>> config = UpDownFusionConfig(text_config={"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2})
    >>> layer = OcrEmbedding(config, size=8)
    >>> words = {"pieces": torch.randn(1, 2, 8), "characters": torch.tensor([[[98, 99], [0, 0]]])}
    >>> boxes, mask = torch.tensor([[[0, 0, 0.5, 0.1]] * 2]), torch.tensor([[True, False]])
    >>> layer(boxes, mask, **words).shape, layer(boxes, mask, **words)[0, 1].abs().max().item()
    (torch.Size([1, 2, 8]), 0.0)
    """

    def __init__(self, config: UpDownFusionConfig, *, size: int):
        super().__init__()
        eps, self.dropout = getattr(config.text_config, "layer_norm_eps", 1e-12), config.reading_dropout
        self.of_pieces = nn.Linear(size, size) if config.reading_subwords else None  # W_p
        self.of_phoc = nn.Linear(PHOC_SIZE, size) if config.reading_characters == "phoc" else None  # W_c
        self.of_windows = CharacterWindows(size) if config.reading_characters == "convolution" else None
        self.of_features = nn.Linear(config.region_feature_size, size) if config.reading_appearance else None  # W_f
        ordered = config.reading_order or config.reading_head == "lorra"
        self.of_order = nn.Embedding(config.reading_max_ocr, size) if ordered else None
        self.norm_words = nn.LayerNorm(size, eps=eps)
        self.of_boxes = nn.Linear(7, size)  # W_b
        self.norm_boxes = nn.LayerNorm(size, eps=eps)

    def forward(
        self,
        boxes: torch.Tensor,
        mask: torch.Tensor,
        *,
        pieces: torch.Tensor | None = None,
        characters: torch.Tensor | None = None,
        features: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """boxes (P, W, 4), mask (P, W), mean pieces (P, W, H), characters (P, W, C), features (P, W, D) -> (P, W, H), 0
        on padding, whatever stands there"""
        dtype, gaps = float_type(self.of_boxes), ~mask[..., None]
        parts = []
        if self.of_pieces is not None and pieces is not None:
            parts.append(self.of_pieces(pieces.to(dtype)))
        if self.of_phoc is not None and characters is not None:
            parts.append(self.of_phoc(phoc(characters).to(dtype)))
        if self.of_windows is not None and characters is not None:
            parts.append(self.of_windows(characters))
        if self.of_features is not None and features is not None:
            parts.append(self.of_features(features.masked_fill(gaps, 0).to(dtype)))
        places = box_geometry(boxes.masked_fill(gaps, 0)).to(dtype)
        embedded = self.norm_words(torch.stack(parts).sum(dim=0)) + self.norm_boxes(self.of_boxes(places))
        if self.of_order is not None:
            embedded = embedded + self.of_order.weight[: mask.shape[1]]
        return F.dropout(embedded, self.dropout, self.training).masked_fill(gaps, 0)


class CharacterWindows(nn.Module):
    """The largest answer of each learnt window of five bytes over a word (after Kim et al. 2016, with one width)."""

    def __init__(self, size: int):
        super().__init__()
        self.of_codes = nn.Embedding(NUM_CODES, CODE_SIZE)
        self.of_window = nn.Linear(WINDOW * CODE_SIZE, size)

    def forward(self, characters: torch.Tensor) -> torch.Tensor:
        """characters (..., C) -> (..., size), 0 for a word without any"""
        there = (characters > 0)[..., None]
        codes = self.of_codes(characters) * there  # (..., C, E)
        around = F.pad(codes, (0, 0, WINDOW // 2, WINDOW // 2)).unfold(-2, WINDOW, 1)  # (..., C, E, window)
        return (self.of_window(around.flatten(-2)).relu() * there).amax(dim=-2)


@torch.no_grad()
def phoc(characters: torch.Tensor) -> torch.Tensor:
    """Pyramidal histogram of characters (Almazan et al. 2014): characters (..., C) -> (..., 604) of 0 and 1, float32.

    Which letters and digits stand in each half, third, quarter and fifth of a word, and which common pairs of letters
    in each half: a letter stands where at least half of its width does. Capitals count as small letters; what is
    neither letter nor digit is left out first.

    >>> word = torch.tensor([[98, 99]])  # "ab"
    >>> found = phoc(word)[0]
    >>> found.shape, found[:72].nonzero().flatten().tolist()  # a in the first half, b in the second
    (torch.Size([604]), [0, 37])
    """
    table = torch.full((NUM_CODES,), -1, device=characters.device)
    for number, letter in enumerate(LETTERS):
        table[ord(letter) + 1] = table[ord(letter.upper()) + 1] = number
    letters = table[characters]  # (..., C), -1 for what is left out
    order = (letters < 0).byte().argsort(dim=-1, stable=True)
    letters = letters.gather(-1, order)
    length = (letters >= 0).sum(dim=-1, keepdim=True)  # (..., 1)
    shown = F.one_hot(letters.clamp(min=0), len(LETTERS)).float() * (letters >= 0)[..., None]
    parts = [histogram(shown, length, level=level, letters=1) for level in LEVELS]
    first, second = letters[..., :-1], letters[..., 1:]
    pairs = torch.tensor([[LETTERS.index(letter) for letter in pair] for pair in BIGRAMS], device=characters.device)
    met = (first[..., None] == pairs[:, 0]) & (second[..., None] == pairs[:, 1])  # (..., C - 1, pairs)
    parts.append(histogram(met.float(), length, level=BIGRAM_LEVEL, letters=2))
    return torch.cat(parts, dim=-1)


def histogram(shown: torch.Tensor, length: torch.Tensor, *, level: int, letters: int) -> torch.Tensor:
    """Which kinds are shown in each of `level` equal parts of a word: shown (..., C, kinds), length (..., 1), what runs
    from each place over so many letters -> (..., level x kinds). In whole numbers: a letter is `level` wide, a part
    `length`."""
    start = level * torch.arange(shown.shape[-2], device=shown.device)[:, None]  # (C, 1)
    part = torch.arange(level, device=shown.device)
    begins, ends = part * length[..., None], (part + 1) * length[..., None]  # (..., 1, level)
    overlap = torch.minimum(start + letters * level, ends) - torch.maximum(start, begins)  # (..., C, level)
    inside = (2 * overlap >= letters * level).float()
    return (inside.transpose(-1, -2) @ shown).gt(0).float().flatten(-2)


def mean_pieces(embeddings: nn.Module, pieces: torch.Tensor, *, padding: int) -> torch.Tensor:
    """The mean embedding of each word's pieces (P, W, K), `padding` where it has fewer, -> (P, W, E); 0 of none."""
    there = (pieces != padding)[..., None]
    embedded = embeddings(pieces)
    return (embedded * there).sum(dim=-2) / there.sum(dim=-2).clamp(min=1).to(embedded.dtype)


class PreviousEmbedding(nn.Module):
    """What was predicted at each step before, as an input embedding; see the module's docstring.

    An entry of the vocabulary is embedded by its row of the classifier, an OCR word by its own input embedding.
    """

    def __init__(self, *, size: int, max_steps: int, eps: float):
        super().__init__()
        self.norm_answers = nn.LayerNorm(size, eps=eps)
        self.norm_ocr = nn.LayerNorm(size, eps=eps)
        self.of_steps = nn.Embedding(max_steps, size)
        self.of_kinds = nn.Embedding(2, size)  # of the vocabulary, copied
        self.norm_steps = nn.LayerNorm(size, eps=eps)

    def forward(self, previous: torch.Tensor, answers: torch.Tensor, ocr: torch.Tensor) -> torch.Tensor:
        """previous (N, S) in 0 .. V + W - 1, answers (V, H), ocr (N, W, H) -> (N, S, H)"""
        count = len(answers)
        copied = previous >= count
        embedded = self.norm_answers(answers)[previous.masked_fill(copied, 0)]
        if ocr.shape[1]:
            slots = (previous - count).clamp(min=0)[..., None].expand(-1, -1, ocr.shape[-1])
            embedded = torch.where(copied[..., None], self.norm_ocr(ocr).gather(1, slots), embedded)
        steps = self.of_steps.weight[: previous.shape[1]]
        return embedded + self.norm_steps(steps + self.of_kinds(copied.long()))


class DynamicPointer(nn.Module):
    """How well each OCR word fits each step; see the module's docstring.

    Example:

    >>> pointer, mask = DynamicPointer(size=8, pointer_size=4), torch.tensor([[True, True, False]])
    >>> scores = pointer(torch.randn(1, 2, 8), torch.randn(1, 3, 8), mask)
    >>> scores.shape, bool((scores[..., 2] < -9000).all())
    (torch.Size([1, 2, 3]), True)
    """

    def __init__(self, *, size: int, pointer_size: int):
        super().__init__()
        self.query = nn.Linear(size, pointer_size)  # W_q
        self.key = nn.Linear(size, pointer_size)  # W_k

    def forward(self, steps: torch.Tensor, ocr: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """steps (N, S, H), ocr (N, W, H), mask (N, W) -> (N, S, W)"""
        products = torch.bmm(self.query(steps), self.key(ocr).transpose(1, 2)) / self.query.out_features**0.5
        return products + (~mask[:, None]).to(products.dtype) * NO_OCR


class SinglePassScores(nn.Module):
    """LoRRA's scores: a question attends to objects and to OCR words; see the module's docstring."""

    def __init__(self, config: UpDownFusionConfig, *, size: int):
        super().__init__()
        hidden: Any = {"hidden_size": size, "attention": "concat", "activation": "gated_tanh"}
        self.of_objects: QuestionAttention | None = None
        if config.reading_objects:
            self.of_objects = QuestionAttention(region_size=size, query_size=size, **hidden)
        self.of_ocr = QuestionAttention(region_size=size, query_size=size, **hidden)
        self.of_query = GatedLayer(size, size, activation="gated_tanh")  # f_q
        self.of_seen = GatedLayer((1 + config.reading_objects) * size, size, activation="gated_tanh")  # f_v
        self.score = nn.Linear(size, config.num_labels + config.reading_max_ocr)  # W_o

    def forward(
        self, query: torch.Tensor, objects: tuple[torch.Tensor, torch.Tensor], ocr: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """query (N, H), objects (N, R, H) and OCR words (N, W, H) with their masks -> scores (N, V + most W), and how
        objects and OCR words were weighed (N, R + W)"""
        read = [(self.of_objects, *objects)] if self.of_objects is not None else []
        seen, weights = zip(*(attended(query, *one) for one in (*read, (self.of_ocr, *ocr))), strict=True)
        joint = self.of_query(query) * self.of_seen(torch.cat(seen, dim=-1))
        return self.score(joint), torch.cat(weights, dim=-1)


def attended(
    query: torch.Tensor, attention: QuestionAttention, vectors: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (N, R, H) as the query (N, H) weighs them, (N, H), and the weights (N, R); both 0 where mask has none."""
    if not mask.shape[1]:
        return torch.zeros_like(query), query.new_zeros(len(query), 0)
    rows = TextRows.of(None, num_texts=len(query), num_images=len(query), device=query.device)
    some = mask.any(dim=1, keepdim=True)
    weights, _ = attention(query, attention.project_regions(vectors), mask | ~some, rows)  # (N, 1, R)
    weights = weights * some[:, None]
    return torch.bmm(weights, vectors).squeeze(1), weights.squeeze(1)
