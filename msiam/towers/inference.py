"""A model that is only read from: in which precision, and on which kernels."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from msiam.errors import RecipeError
from msiam.towers.device import use_bf16
from msiam.towers.fused import fused
from msiam.towers.prepacked import prepacked

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class How:
    """How to embed.

    Attributes:
        batch_size: the most items of a batch; None: as the encoder's ``budget`` has it.
        precision: fp32 is exact; bf16 is faster where the machine multiplies in it, and turns an
            embedding by about half a degree; auto: bf16 there, fp32 elsewhere.
        optimize: on a CPU, multiply by oneDNN with weights laid out for it, and fuse what follows
            a convolution into it; False: as PyTorch does.
        keep: vectors of a frozen encoder are kept on disk, if they are exact, and read where they
            are there already.

    Raises:
        RecipeError: another precision.
    """

    batch_size: int | None = None
    precision: Precision = "fp32"
    optimize: bool = True
    keep: bool = False

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise RecipeError(f"precision: found {self.precision!r}; give auto, fp32 or bf16")


EXACT = How()
_ALONE = threading.RLock()
#: For the items of a table, which come again.
KEPT = How(keep=True)


@contextlib.contextmanager
def for_inference(module: nn.Module, how: How = EXACT) -> Iterator[None]:
    """Inside, the module is in evaluation mode, and as fast as it can be.

    One thread at a time: what one has changed in the module, another would put back.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    half = use_bf16(how.precision, device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ALONE)
        training = module.training
        module.eval()
        try:
            if how.optimize and device.type == "cpu":
                dtype = torch.bfloat16 if half else torch.float32
                stack.enter_context(prepacked(module, dtype))
                stack.enter_context(fused(module, dtype))
            if half:
                stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
            yield
        finally:
            module.train(training)
