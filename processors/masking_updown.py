"""Masking for pretraining: word pieces (MLM), regions (MRC, MRFR), blocks of a grid's cells (MIM).

Used in the collation of a batch: word pieces and regions -> masks -> the model's inputs and labels. Devlin et al. 2019
for words; Chen et al. 2020 (UNITER), Tan & Bansal 2019 (LXMERT) and Lu et al. 2020 (12-in-1) for regions; Bao et al.
2022 (BEiT) for blocks. All random numbers come from the given generator, on its device, so a seed determines a batch.
B images, R regions, N texts, T tokens, V vocabulary; masks are bool, True = real or True = masked.
"""

import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

IGNORED_LABEL = -100  # transformers' label of positions that the loss ignores
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen word pieces; the rest is unchanged
ASPECT_RATIO = 0.3  # a block's longer side is at most 1 / 0.3 times its shorter one
CONTINUES_WORD, BEGINS_WORD = ("##",), ("Ġ", "▁")


def mask_words(
    input_ids: torch.Tensor,
    maskable: torch.Tensor,
    *,
    mask_token_id: int,
    vocab_size: int,
    generator: torch.Generator,
    probability: float = 0.15,
    word_starts: torch.Tensor | None = None,
    random_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Chooses word pieces to predict: 80 % become the mask token, 10 % a random piece, 10 % stay (Devlin et al. 2019).

    Every maskable piece is chosen with `probability`; in a text without a chosen piece, the one with the lowest draw.

    Args:
        input_ids: (N, T) int64.
        maskable: (N, T) bool, False for padding, [CLS], [SEP] and other pieces that are never predicted.
        mask_token_id: the tokenizer's.
        vocab_size: V; random pieces are drawn from 0 .. V - 1.
        generator: the source of random numbers.
        probability: 0..1, of a piece, or of a word.
        word_starts: (N, T) bool, `word_starts(tokenizer)[input_ids]`: if given, whole words are chosen. A piece that
            does not start a word belongs to the word before it; a maskable piece after one that is not maskable starts
            a word. Each piece of a chosen word is masked, replaced or kept independently, as in BERT.
        random_ids: (K,) int64: the pieces from which random ones are drawn, such as those that are not special tokens.

    Returns:
        masked_ids (N, T), and labels (N, T): the true piece at chosen positions, -100 elsewhere.

    >>> ids, all_real = torch.tensor([[5, 6, 7, 8]]), torch.ones(1, 4, dtype=torch.bool)
    >>> chance = torch.Generator().manual_seed(2)
    >>> mask_words(ids, all_real, mask_token_id=1, vocab_size=9, generator=chance)
    (tensor([[5, 1, 7, 8]]), tensor([[-100,    6, -100, -100]]))
    """
    draws = _uniform(input_ids.shape, generator, device=input_ids.device)  # (N, T)
    if word_starts is not None:
        after_another = F.pad(maskable, (1, -1))  # (N, T): the piece before it is maskable too
        word = (word_starts | ~after_another).cumsum(dim=1) - 1  # (N, T) number of the piece's word
        draws = draws.gather(1, word)  # one draw per word
    draws = draws.masked_fill(~maskable, torch.inf)
    chosen = maskable & ((draws < probability) | (draws == draws.amin(dim=1, keepdim=True)))
    kind = _uniform(input_ids.shape, generator, device=input_ids.device)
    pool = torch.arange(vocab_size) if random_ids is None else random_ids
    picks = torch.randint(len(pool), input_ids.shape, generator=generator, device=generator.device)
    others = pool.to(generator.device)[picks].to(input_ids.device)  # (N, T)
    masked_ids = input_ids.masked_fill(chosen & (kind < MASKED_SHARE), mask_token_id)
    replaced = chosen & (kind >= MASKED_SHARE) & (kind < MASKED_SHARE + RANDOM_SHARE)
    return torch.where(replaced, others, masked_ids), input_ids.masked_fill(~chosen, IGNORED_LABEL)


def word_starts(tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """Which ids of a tokenizer start a word: (V,) bool, for whole-word masking.

    Recognised by the most frequent marker: WordPiece's `##` before a piece that continues a word, or `Ġ` (byte-level
    BPE) or `▁` (sentencepiece) before a piece that starts one. With the latter two, a full stop or comma belongs to
    the word before it. Special tokens start a word; without any marker all pieces do.

    Raises:
        ValueError: for a tokenizer that marks the ends of words (`</w>`, as CLIP's).
    """
    vocabulary = tokenizer.get_vocab()
    count = {
        marker: sum(len(piece) > len(marker) and piece.startswith(marker) for piece in vocabulary)
        for marker in (*CONTINUES_WORD, *BEGINS_WORD)
    }
    marker = max(count, key=lambda name: count[name])
    if sum(piece.endswith("</w>") for piece in vocabulary) > count[marker]:
        raise ValueError(
            f"{type(tokenizer).__name__} marks where words end, not where they start: mask single pieces instead"
        )
    starts = torch.ones(max(vocabulary.values()) + 1, dtype=torch.bool)
    if not count[marker]:
        return starts
    special = set(tokenizer.all_special_ids)
    for piece, index in vocabulary.items():
        starts[index] = index in special or piece.startswith(marker) != (marker in CONTINUES_WORD)
    return starts


def mask_regions(
    region_mask: torch.Tensor,
    region_boxes: torch.Tensor | None = None,
    *,
    generator: torch.Generator,
    probability: float = 0.15,
    overlap: float | None = 0.4,
) -> torch.Tensor:
    """Chooses regions to hide, together with overlapping ones, so that a region cannot be inferred from its neighbours.

    A region is drawn with `probability`, and with it every region whose IoU with it is over `overlap` (Lu et al. 2020:
    0.4). In each image the drawing ends when as many regions are hidden as independent draws would have hidden, so the
    share stays near `probability` also if boxes overlap. At least one region of an image is hidden and, if it has two
    or more, at least one is kept (if one draw hides all, the region that would be drawn last).

    Only neighbours of a drawn region are hidden, not neighbours of neighbours: the 36 boxes of a detector form chains
    of overlaps, and hiding whole chains would leave only a few boxes. Such a neighbour may itself overlap a visible
    region; `askable_regions` returns those that do not.

    Args:
        region_mask: (B, R) bool, True = real.
        region_boxes: (B, R, 4) xyxy in 0..1; without them regions are drawn independently, as cells of a grid.
        generator: the source of random numbers.
        probability: 0..1, the share of real regions to hide.
        overlap: IoU; None or 1 hides no neighbours.

    Returns:
        (B, R) bool, True = hidden; never a padded region.
    """
    turn = _uniform(region_mask.shape, generator, device=region_mask.device).masked_fill(~region_mask, torch.inf)
    real = region_mask.sum(dim=1, keepdim=True)  # (B, 1)
    wanted = _bounded((turn < probability).sum(dim=1, keepdim=True), real)  # (B, 1)
    hidden_at = turn  # (B, R) the turn at which each region is hidden: its turn, or a neighbour's
    if region_boxes is not None and overlap is not None:
        near = _overlapping(region_boxes, overlap=overlap)  # (B, R, R)
        hidden_at = torch.where(near, turn[:, None, :], torch.inf).amin(dim=2).masked_fill(~region_mask, torch.inf)
    last = hidden_at.sort(dim=1).values.gather(1, wanted - 1)  # (B, 1)
    hidden = region_mask & (hidden_at <= last)
    latest = turn.masked_fill(~region_mask, -torch.inf).argmax(dim=1, keepdim=True)  # (B, 1)
    too_many = (hidden == region_mask).all(dim=1, keepdim=True) & (real > 1)
    return hidden & ~torch.zeros_like(hidden).scatter(1, latest, too_many)


def askable_regions(
    masked: torch.Tensor,
    region_mask: torch.Tensor,
    region_boxes: torch.Tensor,
    *,
    overlap: float | None = 0.4,
) -> torch.Tensor:
    """The hidden regions without a visible one of an IoU over `overlap`: (B, R) bool, those that a loss predicts.

    masked, region_mask (B, R) bool, region_boxes (B, R, 4) xyxy in 0..1.
    """
    if overlap is None:
        return masked
    visible = region_mask & ~masked
    return masked & ~(_overlapping(region_boxes, overlap=overlap) & visible[:, None, :]).any(dim=2)


def mask_blocks(
    region_mask: torch.Tensor,
    *,
    grid_size: tuple[int, int],
    generator: torch.Generator,
    probability: float = 0.4,
    smallest_block: int = 16,
    largest_block: int | None = None,
) -> torch.Tensor:
    """Chooses cells of a grid to hide, in rectangular blocks that may overlap, until the share is reached (BEiT).

    Args:
        region_mask: (B, R) bool, R the cells in reading order, as in `grid_boxes`; False = never hidden.
        grid_size: rows and columns of the grid.
        generator: the source of random numbers.
        probability: 0..1, the share of the real cells to hide, rounded; at least one cell of an image is hidden and, if
            it has two or more, at least one is kept.
        smallest_block: cells; a block is smaller if fewer are left to hide, or if this number of cells does not form a
            rectangle that fits the grid.
        largest_block: cells; None: as many as are left to hide.

    Returns:
        (B, R) bool, True = hidden. A block's area is uniform between the bounds, its height : width uniform in the
        logarithm between 0.3 and 1 / 0.3; it contains a cell that is not hidden yet. The last block is truncated in
        reading order, so that the share is exact.

    Raises:
        ValueError: if R is not rows x columns.
    """
    rows, columns = grid_size
    if region_mask.shape[1] != rows * columns:
        raise ValueError(
            f"{region_mask.shape[1]} regions are not a grid of {rows} x {columns} cells: give the source's grid_size, "
            "or mask single regions"
        )
    real = region_mask.sum(dim=1, keepdim=True)
    wanted = torch.minimum(_bounded((real * probability).round().long(), real), real)  # (B, 1), 0 if none is real
    hidden, left = torch.zeros_like(region_mask), wanted  # left (B, 1): cells still to hide
    while bool((left > 0).any()):
        free = region_mask & ~hidden
        largest = left if largest_block is None else left.clamp(max=largest_block)
        block = free & _random_block(
            free, grid_size=grid_size, smallest=largest.clamp(max=smallest_block), largest=largest, generator=generator
        )
        hidden |= block & (block.cumsum(dim=1) <= left)
        left = wanted - hidden.sum(dim=1, keepdim=True)
    return hidden


def corrupt_regions(
    features: torch.Tensor,
    masked: torch.Tensor,
    *,
    generator: torch.Generator,
    region_mask: torch.Tensor | None = None,
    swapped: float = 0.0,
    kept: float = 0.0,
) -> torch.Tensor:
    """The model's input for hidden regions: zeros, or for a share of them another image's region or the true one.

    LXMERT uses `swapped=0.1, kept=0.1`, UNITER 0 for both.

    Args:
        features: (B, R, D).
        masked: (B, R) bool, True = hidden.
        generator: the source of random numbers.
        region_mask: (B, R) bool: the regions that may be swapped in; by default all.
        swapped: 0..1, the share of hidden regions replaced by a random true region of another image of the batch; by
            zeros if there is no other image with a region.
        kept: 0..1, the share that is not replaced.

    Returns:
        (B, R, D), equal to `features` where nothing is hidden.
    """
    kind = _uniform(masked.shape, generator, device=masked.device)  # (B, R)
    swap = masked & (kind < swapped)
    zeroed = masked & (kind >= swapped + kept)
    usable = torch.ones_like(masked) if region_mask is None else region_mask
    donors = usable.flatten().nonzero().squeeze(1)  # (M,) image by image
    own = usable.sum(dim=1, keepdim=True)  # (B, 1)
    first = own.cumsum(dim=0) - own  # (B, 1) where an image's regions begin among the donors
    others = len(donors) - own
    zeroed |= swap & (others == 0)
    pick = (_uniform(masked.shape, generator, device=masked.device).double() * others).long()  # (B, R) in 0 .. others-1
    pick = torch.where(pick >= first, pick + own, pick)  # skips the image's regions
    swap &= others > 0
    shown = features.masked_fill(zeroed[..., None], 0.0)
    shown[swap] = features.flatten(0, 1)[donors[pick[swap]]]
    return shown


def _uniform(shape: torch.Size, generator: torch.Generator, *, device: torch.device) -> torch.Tensor:
    """Uniform numbers in 0..1, without 1, on the given device."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def _bounded(wanted: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """`wanted` limited to at least one and, if there are two or more real ones, not all; (B, 1) both."""
    return torch.minimum(wanted, real - 1).clamp(min=1)


def _overlapping(boxes: torch.Tensor, *, overlap: float) -> torch.Tensor:
    """Boxes (B, R, 4) -> (B, R, R) bool: IoU over `overlap`; True for each box and itself, also if it is empty."""
    top_left = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])  # (B, R, R, 2)
    bottom_right = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=-1)  # (B, R, R)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)  # (B, R)
    union = area[:, :, None] + area[:, None, :] - shared
    itself = torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return (shared > overlap * union) | itself


def _random_block(
    free: torch.Tensor,
    *,
    grid_size: tuple[int, int],
    smallest: torch.Tensor,
    largest: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """One block per image around one of its free cells: free (B, R) bool, areas (B, 1) in cells -> (B, R) bool.

    No block has more than max(1, `largest`) cells.
    """
    rows, columns = grid_size
    size = free.new_tensor(grid_size, dtype=torch.float32)  # (2,)
    chance = _uniform(torch.Size((len(free), 4)), generator, device=free.device)  # area, aspect, two places
    area = smallest + (chance[:, :1] * (largest - smallest + 1)).floor()  # (B, 1)
    aspect = ASPECT_RATIO ** (1 - 2 * chance[:, 1:2])  # (B, 1) height : width
    height = torch.minimum((area * aspect).sqrt().round().clamp(min=1), area.clamp(min=1, max=rows))
    width = (area / height).floor().clamp(min=1, max=columns)
    sides = torch.cat([height, width], dim=1)  # (B, 2)
    cell = _uniform(free.shape, generator, device=free.device).masked_fill(~free, -1.0).argmax(dim=1)
    place = torch.stack([cell // columns, cell % columns], dim=1)  # (B, 2)
    start = (place - (chance[:, 2:] * sides).floor()).clamp(min=0)
    start = torch.minimum(start, size - sides)
    row, column = torch.arange(rows, device=free.device), torch.arange(columns, device=free.device)
    inside_rows = (row >= start[:, :1]) & (row < (start + sides)[:, :1])  # (B, rows)
    inside_columns = (column >= start[:, 1:]) & (column < (start + sides)[:, 1:])  # (B, columns)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).flatten(1)
