"""Rows of all processes side by side, with gradients: how the contrastive losses see every pair of a large batch.

`gather_rows` of embeddings and `gather_owners` of what belongs to what stand between the encoders and the ITC loss.
Without `torch.distributed`, or with one process, both return what they are given.
"""

from typing import Any

import torch
from torch import distributed


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of every process, in the order of the processes: (n, ...) -> (all n, ...), each process its own n.

    Every process gets the same rows and so computes the same loss L over the whole batch. In the backward pass a row's
    gradient is the sum of what all processes send it. With process k calling backward on c_k x L, the sum of a
    parameter's gradients over the processes is therefore (sum of c_k) x dL: the gradient of the whole batch in one
    process, for encoders behind the gather and for a temperature used after it alike. So

    - `total = L * n_k` on each process, gradients summed and divided by the sum of n_k (as the training loop does),
    - or `L` on each process under DistributedDataParallel, which averages,

    both give dL exactly. Nothing is to be multiplied by the number of processes.

    Every process has to call it, as often and in the same order, with the same trailing shape, type and
    `requires_grad`, and has to use the result in what it calls backward on: both ways are collective, and a process
    that stays away lets the others wait.
    """
    if not _has_others():
        return tensor
    return _GatherRows.apply(tensor, _rows_of_processes(len(tensor), tensor.device))


def gather_owners(owners: torch.Tensor, num_photos: int) -> torch.Tensor:
    """The owners of all processes' texts, as rows of `gather_rows(image_embeds)`: (n,) int64 -> (all n,).

    owners: the row of each text's photo among the `num_photos` of its own process; below 0 for a text of no photo,
    which stays below 0.
    """
    if not _has_others():
        return owners
    shifted = owners + first_row(num_photos, device=owners.device)
    return gather_rows(torch.where(owners < 0, owners, shifted))


def one_row_a_photo(photo_ids: torch.Tensor, text_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first row of each photo, (M,), and which of those each text's photo is, (N,); -1 for a photo of no row.

    photo_ids (P,), text_ids (N,): gathered ids. A photo that several processes hold would be a wrong one for its own
    texts; among those of one batch it stands once.

    >>> one_row_a_photo(torch.tensor([7, 3, 7]), torch.tensor([3, 7, 7, 5]))
    (tensor([1, 0]), tensor([ 0,  1,  1, -1]))
    """
    ids, place = photo_ids.unique(return_inverse=True)
    numbers = torch.arange(len(photo_ids), device=photo_ids.device)
    rows = torch.full_like(ids, len(photo_ids)).scatter_reduce(0, place, numbers, "amin")
    same = text_ids[:, None] == ids[None, :]  # (N, M)
    return rows, torch.where(same.any(dim=1), same.long().argmax(dim=1), -1)


def first_row(num_rows: int, *, device: torch.device | str = "cpu") -> int:
    """Where this process's rows begin in `gather_rows` of a tensor of `num_rows` rows here; 0 without other processes.

    device: one that the processes can talk on (the GPU under NCCL). Collective, as `gather_rows` is.
    """
    if not _has_others():
        return 0
    return sum(_rows_of_processes(num_rows, device)[: distributed.get_rank()])


def _has_others() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _rows_of_processes(num_rows: int, device: torch.device | str) -> list[int]:
    """The number of rows of every process."""
    counts = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([num_rows], device=device))
    return torch.cat(counts).tolist()


class _GatherRows(torch.autograd.Function):
    """torch's own all_gather wants as many rows of every process, and its gradient is not defined under gloo."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, counts: list[int]) -> torch.Tensor:
        """Pads every process's rows to the most that one has, gathers, and cuts the padding away."""
        ctx.counts = counts
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        gathered = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(gathered, padded)
        return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The sum over processes of the gradients of this process's rows."""
        total = gradient.to(torch.promote_types(gradient.dtype, torch.float32), copy=True).contiguous()
        distributed.all_reduce(total)  # in float32: half precision would round each addition
        start = sum(ctx.counts[: distributed.get_rank()])
        return total[start : start + ctx.counts[distributed.get_rank()]].to(gradient.dtype), None
