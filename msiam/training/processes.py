"""One training on several processes, as torchrun starts them: who writes, who waits, who has what.

A global batch is cut into one share of rows a process. Where a loss compares rows, its value
depends on all of them: each process gathers the embeddings, in the order of the ranks, and computes
the loss of the whole batch. Gradients then equal those of one process on the same batch.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from msiam.errors import RecipeError, TrainingError
from msiam.losses.base import Targets, WeightedSum

Result = TypeVar("Result")

#: The others wait while the first learns a vocabulary or evaluates, which may take hours. A process
#: that dies is not waited for: torchrun ends the others.
PATIENCE = timedelta(days=7)

#: What torch says when a process on the other side is gone.
_GONE = re.compile(r"gloo|nccl|connection (was )?(closed|reset|refused)|socket|broken pipe", re.I)


def launched() -> bool:
    """Whether torchrun has started several processes, this one among them."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def wait() -> None:
    """Go on once all processes have come this far."""
    if count() > 1:
        distributed.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """The first process goes through alone; the others follow, and find what it has written."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def from_main(make: Callable[[], Result]) -> Result:
    """What ``make`` returns in the first process; the others do not call it, and wait for it."""
    found: list[Any] = [make() if is_main() else None]
    if count() > 1:
        distributed.broadcast_object_list(found)
    return found[0]


def mean(value: Tensor) -> Tensor:
    """The mean of a number over all processes, without gradient."""
    value = value.detach().clone()
    if count() > 1:
        distributed.all_reduce(value)
    return value / count()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Meet the other processes that torchrun has started. A process alone does nothing.

    Raises:
        TrainingError: one of the others is gone.
    """
    if launched():
        PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not _GONE.search(str(error)):
            raise
        reason = re.sub(r"^\[.*?\] ", "", str(error)).partition(". ")[0][:100]
        raise TrainingError(
            f"another process of this training has ended ({reason}); what it printed says why; the "
            "last checkpoint is kept"
        ) from error


def check_chunks(chunk: int | None) -> None:
    """Whether items can be embedded a chunk at a time, in two passes.

    Raises:
        RecipeError: parameters are sharded (FSDP). They are whole only while FSDP runs the model
            forward, and the second pass comes in backward.
    """
    if chunk is not None and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1"):
        raise RecipeError(
            f"train.chunk: found {chunk}, and FSDP, which shards what the second pass needs whole; "
            "leave train.chunk out, or start the processes with torchrun, without FSDP"
        )


def gather(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """(n, …) rows of this process to the (N, …) rows of all, in the order of the ranks.

    In backward each process takes the gradient of its own rows, times the number of processes W:
    all of them compute the same loss, and DDP divides what their parameters' gradients add up to
    by W. A loss's own parameters, which are not gathered, get W times the same gradient, divided
    by W. For W = 1 it returns its argument.

    Args:
        counts: how many rows each process has; see ``row_counts``. All processes must call this,
            in the same order, with rows of one type and one shape but for n.
    """
    return rows if len(counts) == 1 else _Gather.apply(rows, counts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        own = rows.new_zeros(longest, *rows.shape[1:])
        own[: len(rows)] = rows
        found = rows.new_empty(len(counts) * longest, *rows.shape[1:])
        distributed.all_gather_into_tensor(found, own)
        if min(counts) == longest:
            return found
        parts = zip(found.split(longest), counts, strict=True)
        return torch.cat([part[:number] for part, number in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        start = sum(ctx.counts[: rank()])
        own = gradient[start : start + ctx.counts[rank()]]
        return own * len(ctx.counts), None


def row_counts(rows: Tensor) -> list[int]:
    """How many rows each process has."""
    return [number for (number,) in _of_all([len(rows)], rows.device)]


def _of_all(numbers: Sequence[int], device: torch.device) -> list[list[int]]:
    """Some numbers of each process."""
    own = torch.tensor([numbers], device=device)
    if count() == 1:
        return own.tolist()
    found = own.new_empty(count(), len(numbers))
    distributed.all_gather_into_tensor(found, own)
    return found.tolist()


def global_loss(loss: WeightedSum, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
    """The loss of the global batch, of which this process has the rows that are given.

    Averaged over the processes, as DDP does, its gradients equal those of one process with all of
    the rows. Where rows are compared (``Loss.gathers``) each process computes the whole loss, with
    the same random numbers for the miners that draw. A mean over rows stays where the rows are,
    and weighs by how many they are.

    Args:
        embeddings: by column, (n, D); n may differ by process.
    """
    if count() == 1:
        return loss(embeddings, targets)
    first = next(iter(embeddings.values()))
    facts = _of_all([len(first), int(torch.randint(2**62, ()))], first.device)
    counts, (seed, *_) = zip(*facts, strict=True)
    if not loss.gathers:
        return loss(embeddings, targets) * (len(first) * len(counts) / sum(counts))
    columns = {column: gather(vectors, counts) for column, vectors in embeddings.items()}
    everything = Targets(
        {column: gather(group, counts) for column, group in targets.groups.items()},
        *(
            known if known is None else gather(known, counts)
            for known in (targets.same, targets.scores)
        ),
    )
    with torch.random.fork_rng([] if first.device.type == "cpu" else [first.device]):
        torch.manual_seed(seed)
        return loss(columns, everything)
