"""One training on several processes, as torchrun starts them: who writes, who waits, who has what.

A global batch is cut into one share of rows a process. Where a loss compares rows, its value
depends on all of them: each process gathers the embeddings and computes its share of the loss, or
the whole of one that cannot be shared. Gradients then equal those of one process on the same batch.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from msiam.errors import RecipeError, TrainingError
from msiam.losses.base import Loss, Targets, WeightedSum, each
from msiam.losses.share import Share

Result = TypeVar("Result")

#: The others wait while the first learns a vocabulary or evaluates, which may take hours. A process
#: that dies is not waited for: torchrun ends the others.
PATIENCE = timedelta(days=7)

#: Seconds within which threads that were busy at the end of a group have surely become idle.
SETTLES = 0.2

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
def together(work: str = "training", kept: str = "the last checkpoint is kept") -> Iterator[None]:
    """Meet the other processes that torchrun has started. A process alone does nothing.

    Args:
        work, kept: for the message: what they do, and what is not lost.

    Raises:
        TrainingError: one of the others is gone.
    """
    if launched() and not distributed.is_initialized():
        PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)
        atexit.register(_part)
    try:
        yield
    except RuntimeError as error:
        if count() == 1 or not _GONE.search(str(error)):
            raise
        reason = re.sub(r"^\[.*?\] ", "", str(error)).partition(". ")[0][:100]
        raise TrainingError(
            f"another process of this {work} has ended ({reason}); what it printed says why; {kept}"
        ) from error


def _part() -> None:
    """End the group while Python still runs, or a process that is done may abort all the same.

    Threads of gloo let go of the tensors of a collective a moment after it is over. One that then
    finds Python ending aborts the process, and torchrun calls the training failed. DDP keeps the
    threads alive beyond the group, so that nobody can wait for them: hence the moment of sleep.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        time.sleep(SETTLES)


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


def gather(rows: Tensor, counts: Sequence[int], first: int = 0) -> Tensor:
    """(n, …) rows of this process to the (N, …) rows of all.

    Rows go from each process in turn straight to their place: nobody has the rows of all twice. In
    backward, what all processes have found for a row is summed up where the row is from. For one
    process it returns its argument.

    Args:
        counts: how many rows each process has; see ``row_counts``. All processes must call this,
            in the same order, with rows of one type and one shape but for n.
        first: the rank whose rows come first; those of the next ranks follow, and those of rank 0
            come after those of the last.
    """
    return rows if len(counts) == 1 else _Gather.apply(rows, counts, first)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int], first: int) -> Tensor:
        ctx.places, ctx.kind = _places(counts, first), rows.dtype
        found = rows.new_empty(sum(counts), *rows.shape[1:])
        for source, place in enumerate(ctx.places):
            if source == rank():
                found[place] = rows
            distributed.broadcast(found[place], source)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        wide = torch.promote_types(ctx.kind, torch.float32)  # a sum wants more digits than bf16 has
        own = gradient[:0]
        for source, place in enumerate(ctx.places):
            # What is sent may be changed, and the gradient is not ours.
            part = gradient[place].to(wide, copy=True, memory_format=torch.contiguous_format)
            distributed.reduce(part, source)
            own = part if source == rank() else own
        return own.to(ctx.kind), None, None


def _places(counts: Sequence[int], first: int) -> list[slice]:
    """By rank, where its rows are among those of all."""
    starts, start = [0] * len(counts), 0
    for turn in range(len(counts)):
        one = (first + turn) % len(counts)
        starts[one], start = start, start + counts[one]
    return [slice(start, start + many) for start, many in zip(starts, counts, strict=True)]


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
    the rows. Of a loss whose work is shared (``Loss.shares``), each process asks its own rows. What
    else compares rows (``Loss.gathers``) each computes as a whole, with the same random numbers. A
    mean over rows stays where the rows are, and weighs by how many they are.

    Args:
        embeddings: by column, (n, D); n may differ by process.
    """
    if count() == 1:
        return loss(embeddings, targets)
    device = next(iter(embeddings.values())).device
    rows = len(next(iter(embeddings.values())))
    counts, (seed, *_) = zip(*_of_all([rows, int(torch.randint(2**62, ()))], device), strict=True)
    share = Share(rows, sum(counts[: rank()]), device)

    @functools.cache
    def of_all(shared: bool) -> tuple[dict[str, Tensor], Targets]:
        """All rows: this rank's on top if the work is shared, else in the order of the ranks.

        These are two gathers on rank 0 as well, or it would not meet the others in the second.
        """
        first = rank() if shared else 0
        same, scores = (
            known if known is None else gather(known, counts, first)
            for known in (targets.same, targets.scores)
        )
        groups = {name: gather(group, counts, first) for name, group in targets.groups.items()}
        columns = {name: gather(vectors, counts, first) for name, vectors in embeddings.items()}
        return columns, Targets(groups, same, scores)

    def cost(one: Loss) -> Tensor:
        if not one.gathers:
            return one(embeddings, targets) * (rows * len(counts) / sum(counts))
        if not one.shares(len(embeddings)):
            return one(*of_all(False))
        columns, everything = of_all(True)
        return one(columns, replace(everything, share=share)) * len(counts)

    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        terms = zip(each(loss.losses), loss.weights, strict=True)
        return torch.stack([weight * cost(one) for one, weight in terms]).sum()
