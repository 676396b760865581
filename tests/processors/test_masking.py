"""What pretraining hides, against slow twins and by counting: shares, whole words, neighbours, blocks, swaps."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from processors.masking_updown import (
    askable_regions,
    corrupt_regions,
    mask_blocks,
    mask_regions,
    mask_words,
    word_starts,
)
from processors.tokenization_updown import UpDownTokenizer

MASK_ID, VOCAB = 4, 1000
SENTENCES = ["Two dogs, unbelievably wet, run.", "A snowboarder snowboards.", "Dogs run; a dog runs wet."] * 20
LARGE = (200, 500)  # enough that counted shares lie within a percent or two of what they are drawn with


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(shape: tuple[int, int] = LARGE) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids from 10 on, and which may be masked: all but the first, the last and, in odd rows, the second half."""
    ids = torch.randint(10, VOCAB, shape, generator=chance(7))
    maskable = torch.ones(shape, dtype=torch.bool)
    maskable[:, [0, -1]] = False
    maskable[1::2, shape[1] // 2 :] = False
    return ids, maskable


# -- words -----------------------------------------------------------------------------------------------------------


def test_fifteen_percent_of_which_most_are_masked() -> None:
    ids, maskable = texts()
    masked, labels = mask_words(ids, maskable, mask_token_id=MASK_ID, vocab_size=VOCAB, generator=chance())
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(masked[~chosen], ids[~chosen])
    assert not chosen[~maskable].any()
    assert chosen.sum() / maskable.sum() == pytest.approx(0.15, abs=0.005)
    to_mask, kept = masked[chosen] == MASK_ID, masked[chosen] == ids[chosen]
    assert to_mask.float().mean() == pytest.approx(0.8, abs=0.015)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.015)
    others = masked[chosen][~to_mask & ~kept]
    assert others.min() < 20 and others.max() > VOCAB - 20 and others.double().mean() == pytest.approx(500, abs=30)


def test_random_pieces_come_from_those_named() -> None:
    ids, maskable = texts()
    masked, labels = mask_words(
        ids,
        maskable,
        mask_token_id=MASK_ID,
        vocab_size=VOCAB,
        generator=chance(),
        random_ids=torch.tensor([5, 7]),
    )
    replaced = masked[(labels != -100) & (masked != MASK_ID) & (masked != ids)]
    counts = Counter(replaced.tolist())
    assert set(counts) == {5, 7} and counts[5] / len(replaced) == pytest.approx(0.5, abs=0.05)


def test_every_text_that_can_has_a_piece_to_guess() -> None:
    maskable = torch.zeros(300, 8, dtype=torch.bool)
    maskable[:200, 2] = True  # a single piece
    maskable[100:200, 5] = True  # one of two
    ids = torch.full((300, 8), 11)
    _, labels = mask_words(ids, maskable, mask_token_id=MASK_ID, vocab_size=VOCAB, generator=chance(), probability=0.0)
    chosen = labels != -100
    assert chosen.sum(dim=1).tolist() == [1] * 200 + [0] * 100
    assert chosen[:, 2].sum() == pytest.approx(150, abs=20)
    _, labels = mask_words(ids, maskable, mask_token_id=MASK_ID, vocab_size=VOCAB, generator=chance(), probability=1.0)
    assert torch.equal(labels != -100, maskable)


def slow_words(starts: list[bool], maskable: list[bool]) -> list[list[int]]:
    """The pieces of each word: a piece joins the one before it unless it starts a word or that may not be masked."""
    words: list[list[int]] = []
    for place, (start, allowed) in enumerate(zip(starts, maskable, strict=True)):
        if allowed and not start and place and maskable[place - 1]:
            words[-1].append(place)
        elif allowed:
            words.append([place])
    return words


def test_whole_words_are_chosen_together() -> None:
    ids, maskable = texts()
    maskable &= torch.rand(LARGE, generator=chance(3)) < 0.9
    starts = torch.rand(LARGE, generator=chance(4)) < 0.5
    masked, labels = mask_words(
        ids, maskable, mask_token_id=MASK_ID, vocab_size=VOCAB, generator=chance(), word_starts=starts
    )
    chosen, taken, total = (labels != -100).tolist(), 0, 0
    for row in range(len(ids)):
        for word in slow_words(starts[row].tolist(), maskable[row].tolist()):
            assert len({chosen[row][place] for place in word}) == 1
            taken, total = taken + chosen[row][word[0]], total + 1
    assert taken / total == pytest.approx(0.15, abs=0.01)
    assert not (labels != -100)[~maskable].any()
    assert (masked[labels != -100] == MASK_ID).float().mean() == pytest.approx(0.8, abs=0.015)


def test_the_generator_alone_decides_and_nothing_given_is_changed() -> None:
    ids, maskable = texts((4, 30))
    before = ids.clone()
    runs = [
        mask_words(ids, maskable, mask_token_id=MASK_ID, vocab_size=VOCAB, generator=chance(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][1], runs[2][1])
    assert torch.equal(ids, before)


# -- where words start -----------------------------------------------------------------------------------------------


def trained(model: models.Model, trainer: trainers.Trainer, splitter: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), splitter
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Small ones of the kinds there are, each with [CLS] and [SEP]."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    settings: dict[str, Any] = {"special_tokens": special, "show_progress": False, "vocab_size": 60}
    made = {
        "wordpiece": trained(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(**settings),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "bytes": trained(
            models.BPE(),
            trainers.BpeTrainer(
                **{**settings, "vocab_size": 275}, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ),
        "sentencepiece": trained(
            models.Unigram(), trainers.UnigramTrainer(**settings, unk_token="[UNK]"), pre_tokenizers.Metaspace()
        ),
        "ends": trained(
            models.BPE(end_of_word_suffix="</w>"),
            trainers.BpeTrainer(**settings, end_of_word_suffix="</w>"),
            pre_tokenizers.BertPreTokenizer(),
        ),
    }
    made["sentencepiece"].decoder = decoders.Metaspace()
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return {
        kind: PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)
        for kind, tokenizer in made.items()
    }


def words_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """The text's words as whole-word masking takes them, without the markers."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    starts = word_starts(tokenizer)[torch.tensor(ids)].tolist()
    pieces = [piece.lstrip("#").strip("Ġ▁") for piece in tokenizer.convert_ids_to_tokens(ids)]
    return ["".join(pieces[place] for place in word) for word in slow_words(starts, [True] * len(ids))]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wordpiece", ["a", "snowboarder", ",", "unbelievably", "wet"]),
        ("bytes", ["a", "snowboarder,", "unbelievably", "wet"]),
        ("sentencepiece", ["a", "snowboarder,", "unbelievably", "wet"]),
    ],
)
def test_words_are_found_in_pieces(kind: str, words: list[str]) -> None:
    tokenizer = tokenizers()[kind]
    assert len(tokenizer.tokenize("a snowboarder, unbelievably wet")) > 6
    assert words_of(tokenizer, "a snowboarder, unbelievably wet") == words
    starts = word_starts(tokenizer)
    assert starts.shape == (len(tokenizer),) and starts[tokenizer.all_special_ids].all()


def test_whole_words_and_those_marked_at_their_end() -> None:
    whole = UpDownTokenizer.from_captions(SENTENCES, min_count=1)
    assert word_starts(whole).all() and len(word_starts(whole)) == len(whole)
    with pytest.raises(ValueError, match="marks where words end, not where they start: mask single pieces instead"):
        word_starts(tokenizers()["ends"])


# -- regions ---------------------------------------------------------------------------------------------------------


def crowded_boxes(images: int, regions: int, *, seed: int = 0) -> torch.Tensor:
    """Boxes as a detector finds them: of all sizes, around a few things each, so that many overlap."""
    centres = torch.rand(images, 6, 2, generator=chance(seed))
    near = torch.randint(6, (images, regions, 1), generator=chance(seed + 1)).expand(-1, -1, 2)
    centre = centres.gather(1, near) + 0.05 * torch.randn(images, regions, 2, generator=chance(seed + 2))
    side = 0.1 + 0.25 * torch.rand(images, regions, 2, generator=chance(seed + 3))
    return torch.cat([centre - side / 2, centre + side / 2], dim=-1).clamp(0, 1)


def slow_iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - shared
    return shared / union if union > 0 else 0.0


def test_cells_are_drawn_independently() -> None:
    real = torch.arange(100) < torch.tensor([100, 60])[:, None].repeat(200, 1)  # (400, 100)
    hidden = mask_regions(real, generator=chance())
    assert not hidden[~real].any()
    counts = hidden.sum(dim=1).double()
    assert hidden.sum() / real.sum() == pytest.approx(0.15, abs=0.005)
    for start, regions in ((0, 100), (1, 60)):
        assert counts[start::2].var() == pytest.approx(regions * 0.15 * 0.85, rel=0.25)  # a binomial's
    shares = hidden.double().sum(dim=0)[:60] / 400
    assert shares.min() > 0.08 and shares.max() < 0.22


@pytest.mark.parametrize("with_boxes", [False, True])
@pytest.mark.parametrize("probability", [0.0, 0.15, 1.0])
def test_one_region_is_hidden_and_one_stays(with_boxes: bool, probability: float) -> None:
    """Also where every box is the same, so that each overlaps all others; and images of one and of no region."""
    real = torch.arange(6) < torch.tensor([0, 1, 2, 6]).repeat(100)[:, None]
    boxes = torch.tensor([0.2, 0.2, 0.6, 0.8]).expand(400, 6, 4) if with_boxes else None
    hidden = mask_regions(real, boxes, generator=chance(), probability=probability)
    counts = hidden.sum(dim=1).view(100, 4)
    assert not hidden[~real].any()
    assert counts[:, 0].eq(0).all() and counts[:, 1].eq(1).all() and counts[:, 2].eq(1).all()
    if with_boxes or probability == 1:
        assert counts[:, 3].eq(5).all()
        assert hidden[3::4].double().mean(dim=0).min() > 0.7  # no place is the one that always stays
    elif probability == 0:
        assert counts[:, 3].eq(1).all()


def slow_regions(boxes: list[list[float]], turns: list[int], wanted: int, overlap: float) -> set[int]:
    """Draw regions in turn, each with those it overlaps, until as many as wanted are hidden."""
    hidden: set[int] = set()
    for drawn in turns:
        if len(hidden) >= wanted:
            break
        hidden |= {r for r, box in enumerate(boxes) if r == drawn or slow_iou(boxes[drawn], box) > overlap}
    return hidden


@pytest.mark.parametrize("overlap", [0.1, 0.4, 1.0, None])
def test_overlapping_regions_are_hidden_together(overlap: float | None) -> None:
    """The same draw, one image at a time, by a loop."""
    boxes = crowded_boxes(50, 20)
    real = torch.ones(50, 20, dtype=torch.bool)
    hidden = mask_regions(real, boxes, generator=chance(), overlap=overlap)
    draws = torch.rand(50, 20, generator=chance())
    for image in range(50):
        wanted = max(1, int((draws[image] < 0.15).sum()))
        turns = draws[image].argsort().tolist()
        limit = 2.0 if overlap is None else overlap
        known = slow_regions(boxes[image].tolist(), turns, wanted, limit)
        assert set(hidden[image].nonzero().flatten().tolist()) == known
    askable = askable_regions(hidden, real, boxes, overlap=overlap)
    for image in range(50):
        visible = [box for box, gone in zip(boxes[image].tolist(), hidden[image].tolist(), strict=True) if not gone]
        for region in range(20):
            leaks = any(slow_iou(boxes[image, region].tolist(), box) > (overlap or 1.0) for box in visible)
            assert askable[image, region].item() == (hidden[image, region].item() and not leaks)


def test_heavy_overlap_does_not_hide_the_image() -> None:
    """36 boxes of which most overlap another: the share hidden stays near 15 %, and most of it may be asked for."""
    boxes, real = crowded_boxes(500, 36), torch.ones(500, 36, dtype=torch.bool)
    hidden = mask_regions(real, boxes, generator=chance())
    assert 0.15 <= hidden.double().mean() < 0.2
    assert hidden.sum(dim=1).max() <= 18
    askable = askable_regions(hidden, real, boxes)
    assert askable.any(dim=1).all()  # what was drawn can always be asked for
    alone = mask_regions(real, generator=chance())
    safe_alone = askable_regions(alone, real, boxes).sum() / alone.sum()
    assert safe_alone < 0.35 < 0.6 < askable.sum() / hidden.sum()


def test_padded_and_empty_boxes_hide_nobody() -> None:
    boxes = crowded_boxes(30, 8)
    boxes[:, 3] = boxes[:, 3, [0, 1, 0, 1]]  # no width, no height
    real = torch.arange(8).expand(30, 8) < 6
    boxes[~real] = math.nan
    hidden = mask_regions(real, boxes, generator=chance())
    assert hidden.any(dim=1).all() and not hidden[~real].any()
    zeros = mask_regions(real, boxes.nan_to_num(0.0), generator=chance())
    assert torch.equal(hidden, zeros)
    assert hidden[:, 3].any()


# -- blocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid_size", "probability"), [((14, 14), 0.4), ((7, 10), 0.15), ((1, 5), 0.5), ((3, 3), 1.0)])
def test_blocks_hide_exactly_the_share(grid_size: tuple[int, int], probability: float) -> None:
    cells = grid_size[0] * grid_size[1]
    real = torch.arange(cells) < torch.tensor([cells, max(cells - 3, 1), 1, 0]).repeat(50)[:, None]
    hidden = mask_blocks(real, grid_size=grid_size, generator=chance(), probability=probability)
    for row in range(200):
        number = int(real[row].sum())
        wanted = min(max(min(round(number * probability), number - 1), 1), number)
        assert hidden[row].sum() == wanted and not hidden[row][~real[row]].any()


def pairs_side_by_side(hidden: torch.Tensor) -> float:
    """How often the cell to the right of a hidden one is hidden: (B, rows, columns)."""
    return (hidden[:, :, :-1] & hidden[:, :, 1:]).sum().item() / hidden[:, :, :-1].sum().item()


def test_blocks_hang_together() -> None:
    real = torch.ones(300, 196, dtype=torch.bool)
    blocks = mask_blocks(real, grid_size=(14, 14), generator=chance()).view(300, 14, 14)
    cells = mask_regions(real, generator=chance(), probability=0.4).view(300, 14, 14)
    assert pairs_side_by_side(cells) == pytest.approx(0.4, abs=0.02)
    assert pairs_side_by_side(blocks) > 0.8
    assert blocks.double().mean(dim=0).min() > 0.1  # every cell has its turn, though blocks avoid corners


def test_a_single_block_is_a_rectangle_of_the_ratios_allowed() -> None:
    real = torch.ones(400, 400, dtype=torch.bool)
    hidden = mask_blocks(real, grid_size=(20, 20), generator=chance(), probability=0.1, smallest_block=40)
    hidden = hidden.view(400, 20, 20)
    heights, widths = hidden.any(dim=2).sum(dim=1), hidden.any(dim=1).sum(dim=1)
    whole = heights * widths == 40  # where 40 cells made a rectangle, and no second block filled up
    assert set(heights[whole].tolist()) == {4, 5, 8, 10}  # 4 : 10 is over 0.3, 2 : 20 would not be
    bent = hidden[~whole].sum(dim=(1, 2))
    assert len(bent) and (bent == 40).all()


def test_blocks_keep_to_their_largest_size() -> None:
    real = torch.ones(400, 400, dtype=torch.bool)
    options: dict[str, Any] = {"grid_size": (20, 20), "probability": 0.1}
    cells = mask_blocks(real, generator=chance(), smallest_block=1, largest_block=1, **options)
    assert pairs_side_by_side(cells.view(400, 20, 20)) == pytest.approx(0.1, abs=0.02)  # as random cells are
    pairs = mask_blocks(real, generator=chance(), smallest_block=2, largest_block=2, **options)
    assert 0.2 < pairs_side_by_side(pairs.view(400, 20, 20)) < 0.5  # half of the pairs lie side by side


def test_blocks_need_the_grid() -> None:
    with pytest.raises(ValueError, match="48 regions are not a grid of 7 x 7 cells: give the source's grid_size"):
        mask_blocks(torch.ones(1, 48, dtype=torch.bool), grid_size=(7, 7), generator=chance())


# -- what is shown ---------------------------------------------------------------------------------------------------


def numbered_features(images: int, regions: int) -> torch.Tensor:
    """Region r of image b holds 1000 b + r + 1 everywhere."""
    return (1000.0 * torch.arange(images)[:, None] + torch.arange(regions) + 1)[..., None].repeat(1, 1, 3)


def test_hidden_regions_are_zero_by_default() -> None:
    features = numbered_features(2, 4)
    features[1, 3] = math.nan  # padding
    hidden = torch.tensor([[True, False, False, True], [False, True, False, True]])
    shown = corrupt_regions(features, hidden, generator=chance())
    assert shown[hidden].abs().max() == 0 and torch.equal(shown[~hidden], features[~hidden])
    assert shown[1, 2, 0] == 1003 and features[0, 0, 0] == 1


def test_shares_are_swapped_with_real_regions_of_other_images() -> None:
    features = numbered_features(5, 400)
    real = torch.arange(400) < torch.tensor([400, 1, 300, 0, 200])[:, None]
    features[~real] = math.nan
    hidden = real & (torch.rand(5, 400, generator=chance(5)) < 0.9)
    shown = corrupt_regions(features, hidden, generator=chance(), region_mask=real, swapped=0.3, kept=0.2)
    assert torch.equal(shown[real & ~hidden], features[real & ~hidden])
    zeroed, kept = shown[hidden][:, 0] == 0, shown[hidden][:, 0] == features[hidden][:, 0]
    swapped = ~zeroed & ~kept
    assert zeroed.double().mean() == pytest.approx(0.5, abs=0.04) and kept.double().mean() == pytest.approx(
        0.2, abs=0.04
    )
    values, image = shown[hidden][swapped], hidden.nonzero()[:, 0][swapped]
    assert torch.equal(values, values[:, :1].expand(-1, 3)) and values.isfinite().all()
    donor_image, donor_region = (values[:, 0].long() - 1) // 1000, (values[:, 0].long() - 1) % 1000
    assert (donor_image != image).all() and real[donor_image, donor_region].all()
    from_first = Counter(donor_image[image == 0].tolist())  # of 1 + 300 + 200 others
    assert from_first[2] / from_first.total() == pytest.approx(0.6, abs=0.1)


def test_nobody_to_swap_with() -> None:
    features, hidden = numbered_features(1, 4), torch.tensor([[True, True, False, True]])
    shown = corrupt_regions(features, hidden, generator=chance(), swapped=1.0)
    assert shown[0, :, 0].tolist() == [0, 0, 3, 0]
    empty = torch.tensor([[True] * 4, [False] * 4])
    shown = corrupt_regions(numbered_features(2, 4), empty & hidden, generator=chance(), region_mask=empty, swapped=1.0)
    assert shown[0, :, 0].tolist() == [0, 0, 3, 0] and shown[1, :, 0].tolist() == [1001, 1002, 1003, 1004]


def test_gradients_pass_through_what_is_shown() -> None:
    features = numbered_features(3, 40).requires_grad_()
    hidden = torch.rand(3, 40, generator=chance(1)) < 0.5
    (gradient,) = torch.autograd.grad(corrupt_regions(features, hidden, generator=chance()).sum(), features)
    assert torch.equal(gradient[..., 0], (~hidden).float())
    swapped = corrupt_regions(features, hidden, generator=chance(), swapped=1.0)
    (gradient,) = torch.autograd.grad(swapped.sum(), features)
    assert gradient[..., 0].sum() == 120 and gradient.isfinite().all()
