"""Any names for a detector's regions: by how near each region's vector is to those of the names (open vocabulary).

    names --embed_names (the text encoder that the detector learnt phrases with)--> name_embeds (N, E)
    image --detector(name_embeds=...)--> name_logits (B, R, N) --open_regions--> regions with the likeliest names

The scores of Zareian et al. 2021 (OVR-CNN), cosines over a temperature in a softmax over the names that are asked for,
times how sure the detector is that there is an object at all.
"""

import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch.nn import functional as F

from .masks_updown import mask_of_region
from .outputs_updown import UpDownDetectorOutput

PROMPT = "a {}"  # as phrases of captions speak of things
TEXTS_AT_A_TIME = 256
MOST_WORD_PIECES = 64
FEWEST_NAMES = 2


def embed_names(names: Sequence[str], encoder: str, *, prompt: str = PROMPT) -> torch.Tensor:
    """Names (N) -> their vectors (N, E) of length 1, as `UpDownDetector.forward` takes them (`name_embeds`).

    Args:
        names: any words, each name once.
        encoder: a folder or Hub id of the sentence encoder that the detector learnt phrases with, with its tokenizer.
        prompt: what is read, the name in the place of `{}`; "a" becomes "an" before a vowel.

    Raises:
        ValueError: for no name, an empty one, one that stands twice, a prompt without `{}`, and for no text encoder.
    """
    from transformers import AutoModel, AutoTokenizer

    texts = prompted(names, prompt)
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).float().eval()
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"no text encoder with its tokenizer in {encoder} ({first})") from error
    return torch.cat(list(text_vectors(texts, model, tokenizer)))


def prompted(names: Sequence[str], prompt: str = PROMPT) -> list[str]:
    """What is read of each name; `ValueError` as `embed_names` has it.

    >>> prompted(["red car", "orange cat"])
    ['a red car', 'an orange cat']
    """
    if isinstance(names, str) or not len(names):
        raise ValueError(f"the names are {names!r}: give a list of one or more")
    if "{}" not in prompt:
        raise ValueError(f"the prompt {prompt!r} has no place for the name: write {{}} there, as in {PROMPT!r}")
    bare = [name.strip() if isinstance(name, str) else "" for name in names]
    if not all(bare):
        raise ValueError(f"a name is empty or no text: {list(names)}")
    if len({name.lower() for name in bare}) < len(bare):
        raise ValueError(f"a name stands twice: {list(names)}")
    return [re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", prompt.replace("{}", name)) for name in bare]


@torch.no_grad()
def text_vectors(texts: Sequence[str], model: Any, tokenizer: Any) -> Iterator[torch.Tensor]:
    """Texts -> parts of their vectors (n, E) of length 1, float32, on the CPU.

    The mean of the last layer's states over the words, as sentence-transformers' all-MiniLM models pool (Reimers and
    Gurevych 2019).
    """
    for start in range(0, len(texts), TEXTS_AT_A_TIME):
        batch = list(texts[start : start + TEXTS_AT_A_TIME])
        words = tokenizer(batch, padding=True, truncation=True, max_length=MOST_WORD_PIECES, return_tensors="pt")
        words = words.to(model.device)
        states = model(**words).last_hidden_state  # (n, T, E)
        mask = words["attention_mask"][..., None].to(states.dtype)
        yield F.normalize((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1), dim=1).cpu()


def name_scores(output: UpDownDetectorOutput) -> torch.Tensor:
    """A detector's output with `name_logits` -> (B, R, N) in 0..1: how likely a region is an object of that name.

    Raises `ValueError` for an output without names, and for a single one, which every region would have.
    """
    logits, sure = output.name_logits, output.region_scores
    if logits is None or sure is None:
        raise ValueError("no names were asked for: give the detector name_embeds, which embed_names makes")
    if logits.shape[-1] < FEWEST_NAMES:
        raise ValueError(
            "a region is scored by how much more one name fits than the others: give two names or more, such as what "
            "else may be there"
        )
    return sure[..., None] * logits.softmax(dim=-1)


def open_regions(
    output: UpDownDetectorOutput, names: Sequence[str], *, threshold: float = 0.0, masks: bool = False
) -> list[list[dict[str, Any]]]:
    """A detector's output -> for each image its regions with the likeliest of the names, the best first, without cells.

    Each is a dict of `label`, `score` (0..1) and `box` (four floats, xyxy in 0..1), as `draw_regions` takes them; with
    `masks` also `mask`, a tensor (M, M) in 0..1 inside the box. Raises `ValueError` as `name_scores` does, for other
    names than were embedded, and for masks of a detector that makes none.

    >>> logits, box = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 0.5, 1.0]]])
    >>> regions = {"region_features": torch.zeros(1, 1, 4), "region_boxes": box, "region_mask": torch.ones(1, 1).bool()}
    >>> output = UpDownDetectorOutput(**regions, region_scores=torch.tensor([[0.5]]), name_logits=logits)
    >>> (found,) = open_regions(output, ["dog", "cat"])[0]
    >>> found["label"], round(found["score"], 2)
    ('dog', 0.44)
    """
    scores, best = name_scores(output).max(dim=-1)  # (B, R)
    if len(names) != output.name_logits.shape[-1]:  # type: ignore[union-attr]
        raise ValueError(f"{len(names)} names, but {output.name_logits.shape[-1]} were embedded: give the same")  # type: ignore[union-attr]
    kept = output.region_mask if output.cell_mask is None else output.region_mask & ~output.cell_mask
    images = []
    for image, mask in enumerate(kept & (scores >= threshold)):
        regions = [
            {
                "label": names[int(best[image, row])],
                "score": scores[image, row].item(),
                "box": output.region_boxes[image, row].tolist(),
            }
            | ({"mask": mask_of_region(output, image, row)} if masks else {})
            for row in mask.nonzero().flatten().tolist()
        ]
        images.append(sorted(regions, key=itemgetter("score"), reverse=True))
    return images
