"""Rows of all processes: a contrastive loss over two or three of them is that of one with the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from modeling_updown.losses_updown import first_row, gather_owners, gather_rows, itc_loss
from tests.tiny import tiny_retrieval
from tests.training.tiny_run import in_processes

OWNERS = [0, 0, 1, 4, 4, 4, 2, -1]  # image 3 has no text, image 4 has three, the last text has no image
SHARES = {  # images and texts of each process; an image's texts stand with it
    2: [([0, 1, 2], [0, 1, 2, 6]), ([3, 4], [3, 4, 5, 7])],
    3: [([0, 1, 2, 4], [0, 1, 2, 6, 3, 4, 5]), ([], []), ([3], [7])],
}
WHOLE = [([0, 1, 2, 3, 4], list(range(8)))]


class Encoders(nn.Module):
    """Two projections and a temperature; the loss over all processes, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = nn.Linear(6, 4, dtype=torch.float64), nn.Linear(3, 4, dtype=torch.float64)
        self.temperature = nn.Parameter(torch.tensor(0.07, dtype=torch.float64))

    def forward(self, images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        image_embeds, text_embeds = F.normalize(self.image(images), dim=-1), F.normalize(self.text(texts), dim=-1)
        return itc_loss(
            gather_rows(image_embeds),
            gather_rows(text_embeds),
            temperature=self.temperature,
            owners=gather_owners(owners, len(images)),
        )


def share(images: list[int], texts: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of these images and texts of the batch, and the row of each text's image among the images."""
    generator = torch.Generator().manual_seed(1)
    all_images = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    all_texts = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    owners = [images.index(OWNERS[text]) if OWNERS[text] >= 0 else -1 for text in texts]
    return all_images[images], all_texts[texts], torch.tensor(owners, dtype=torch.long)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def learn_a_share(folder: str, num_processes: int) -> None:
    """What each process does: the loss of its share, with both weighings that `gather_rows` names, and the rest."""
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    images, texts, owners = share(*SHARES[num_processes][rank])
    model = Encoders()
    parallel = DistributedDataParallel(model)
    found = {"loss": (loss := parallel(images, texts, owners)).detach()}
    loss.backward()
    found |= {f"averaged {name}": value for name, value in gradients(model).items()}
    model.zero_grad()
    total = parallel(images, texts, owners) * len(texts)
    (total * num_processes).backward()  # as the training loop does: the mean over processes becomes their sum
    found |= {f"weighed {name}": value / len(OWNERS) for name, value in gradients(model).items()}
    rows = torch.arange(2 * (rank + 1)).view(-1, 2) + 100 * rank
    found |= {
        "owners": gather_owners(owners, len(images)),
        "first": torch.tensor(first_row(len(images))),
        "rows": gather_rows(rows),
        "real": gather_rows(rows % 2 == 0),
        "half": gather_rows(rows.bfloat16()),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("num_processes", [2, 3])
def test_itc_over_processes_is_that_of_the_whole_batch(tmp_path: Path, num_processes: int) -> None:
    """Unequal shares, several captions an image; in three processes one has nothing at all."""
    alone = Encoders()
    order = SHARES[num_processes]
    loss = alone(*share(*WHOLE[0]))
    loss.backward()
    expected = gradients(alone)
    assert len(expected) == 5 and min(value.abs().max() for value in expected.values()) > 1e-2

    assert in_processes(learn_a_share, str(tmp_path), num_processes, num_processes=num_processes) == [0] * num_processes
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(num_processes)]
    image_order = [image for images, _ in order for image in images]
    known_owners = [
        image_order.index(OWNERS[text]) if OWNERS[text] >= 0 else -1 for _, texts in order for text in texts
    ]
    rows = [torch.arange(2 * (rank + 1)).view(-1, 2) + 100 * rank for rank in range(num_processes)]
    for rank, result in enumerate(found):
        assert result["loss"].item() == pytest.approx(loss.item(), abs=1e-10)
        for name, value in expected.items():
            for weighing in ("averaged", "weighed"):
                torch.testing.assert_close(result[f"{weighing} {name}"], value, atol=1e-10, rtol=0)
        assert result["owners"].tolist() == known_owners
        assert result["first"] == sum(len(images) for images, _ in order[:rank])
        assert torch.equal(result["rows"], torch.cat(rows))
        assert torch.equal(result["real"], torch.cat(rows) % 2 == 0)
        assert torch.equal(result["half"], torch.cat(rows).bfloat16())


def test_one_process_gets_back_what_it_gave() -> None:
    rows, owners = torch.ones(2, 3), torch.tensor([0, 1, -1])
    assert gather_rows(rows) is rows
    assert gather_owners(owners, 2) is owners
    assert first_row(2) == 0


HELD = [10, 11, 11, 12]  # images and, next to each other, texts of two processes: one image is on both


def retrieval_of(places: list[int], images: list[int]) -> tuple[Any, torch.Tensor]:
    """The model, and its ITC of these texts (places in `HELD`) and images (their numbers)."""
    model = tiny_retrieval(vision_config=None, region_feature_size=6, objectives={"itc": 1.0})
    chance = torch.Generator().manual_seed(2)
    features, boxes = torch.randn(13, 3, 6, generator=chance), torch.rand(13, 3, 4, generator=chance)
    words = torch.randint(5, 40, (len(HELD), 5), generator=chance)
    owners = torch.tensor([images.index(HELD[place]) for place in places])
    regions = {"region_features": features[images], "region_boxes": boxes[images]}
    loss = model(words[places], **regions, image_index=owners, image_ids=torch.tensor(images), return_loss=True).loss
    return model, loss


def learn_a_repeated_image(folder: str) -> None:
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    places = [2 * rank, 2 * rank + 1]
    model, loss = retrieval_of(places, [HELD[place] for place in places])
    loss.backward()
    torch.save({"loss": loss.detach(), **gradients(model)}, Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_an_image_on_two_processes_is_one(tmp_path: Path) -> None:
    """Loss and gradients of one process with the whole batch, in which the image stands once."""
    alone, loss = retrieval_of([0, 1, 2, 3], [10, 11, 12])
    loss.backward()
    assert in_processes(learn_a_repeated_image, str(tmp_path), num_processes=2) == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for result in found:
        assert result["loss"].item() == pytest.approx(loss.item(), abs=1e-6)
    expected = gradients(alone)
    assert len(expected) > 20
    for name, value in expected.items():  # each process's share of the loss is the mean
        torch.testing.assert_close((found[0][name] + found[1][name]) / 2, value, atol=1e-6, rtol=1e-4)


def test_rows_of_one_image_in_one_process_are_one_too() -> None:
    _, once = retrieval_of([0, 1, 2, 3], [10, 11, 12])
    _, twice = retrieval_of([0, 1, 2, 3], [10, 11, 12, 11])
    assert twice.item() == pytest.approx(once.item(), abs=1e-6)
