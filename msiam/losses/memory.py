"""Cross-batch memory: another loss with the items of earlier batches as candidates (XBM, 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic
import torch
from torch import Tensor

from msiam.errors import RecipeError
from msiam.losses.base import Given, Targets
from msiam.losses.wrapper import Wrapper, WrapperOptions

#: The buffers: (size, columns, D), (size, columns) and (size,). The first batch makes them.
KEPT = ("vectors", "groups", "same")


class MemoryOptions(WrapperOptions):
    size: int = pydantic.Field(4096, gt=0, description="how many rows are kept, the latest")
    start: float = pydantic.Field(
        0.1,
        ge=0,
        description="a share of the training's steps, or from 1 on a number of them, that are "
        "taken without the memory; with a tower that follows by momentum, 0",
    )


class Memory(Wrapper):
    """L(batch and memory), where only the rows of the batch are anchors.

    Takes what the loss L takes, if the rows of a batch are each other's candidates in it. The
    embeddings of the last ``size`` rows, (size, D) by column, are kept as they were when their
    batch was trained on, with their groups and labels. They are candidates like the batch's own: a
    positive or a negative by their group, left out where L leaves items of one group out. No
    gradient goes to them, and none of them is an anchor, so that B anchors meet B + size
    candidates at the price of B·(B + size) similarities.

    While a model still learns fast, what it said some batches ago misleads, so that the first steps
    go without the memory; it fills meanwhile. Only training fills it.

    - Of towers that all learn it is XBM: embeddings drift slowly enough to be reused.
    - Around infonce, with one column on a tower that follows the other's by momentum, it is the
      queue of MoCo.

    Papers: Wang, Zhang, Huang and Scott, Cross-Batch Memory for Embedding Learning, CVPR 2020,
    which compares the batch with the memory alone, itself in it; He et al., Momentum Contrast for
    Unsupervised Visual Representation Learning, CVPR 2020.
    """

    Options = MemoryOptions
    where = "loss (memory)"

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.columns = tuple(filter(self.inner.in_batch, self.columns)) or self.columns
        for name in KEPT:
            self.register_buffer(name, None)
        self.rows = self.batches = 0  # that it has been given while training
        self.warm = int(options.start) if options.start >= 1 else 0

    def lasts(self, steps: int) -> None:
        super().lasts(steps)
        if self.options.start < 1:
            self.warm = round(self.options.start * steps)

    def check(self, name: str, given: Given) -> None:
        """Whether the inner loss fits what it will be given, and has a use for a memory.

        Raises:
            RecipeError: it does not, or has not.
        """
        super().check(name, given)
        if not self.inner.in_batch(len(given.columns)):
            raise RecipeError(
                f"{self.where}.loss.name: {self.options.loss.name} of {len(given.columns)} columns "
                "compares no row with the others, so that a memory of more rows is nothing to it; "
                "take infonce, supcon, triplet of one or two columns, or tuple with in_batch: true"
            )

    def in_batch(self, columns: int) -> bool:
        return False  # a memory of a memory would keep every row twice

    def forward(self, embeddings: Mapping[str, Tensor], targets: Targets) -> Tensor:
        if self.rows and self.batches >= self.warm:
            cost = self.inner(*self._with_memory(embeddings, targets))
        else:
            cost = self.inner(embeddings, targets)
        if self.training:
            self._keep(embeddings, targets)
        return self.options.loss.weight * cost

    def _with_memory(
        self, embeddings: Mapping[str, Tensor], targets: Targets
    ) -> tuple[dict[str, Tensor], Targets]:
        """The rows of the batch, and below them those of the memory, which do not ask."""
        device = next(iter(embeddings.values())).device
        kept = min(self.rows, self.options.size)
        old, of_old, same = (getattr(self, name)[:kept].to(device) for name in KEPT)
        vectors, groups = {}, {}
        for place, (column, vector) in enumerate(embeddings.items()):
            vectors[column] = torch.cat([vector, old[:, place].to(vector.dtype)])
            groups[column] = torch.cat([targets.groups[column], of_old[:, place]])
        return vectors, Targets(
            groups,
            same=None if targets.same is None else torch.cat([targets.same, same]),
            anchors=torch.arange(len(vector) + kept, device=device) < len(vector),
            share=targets.share,
        )

    @torch.no_grad()
    def _keep(self, embeddings: Mapping[str, Tensor], targets: Targets) -> None:
        """Put the rows of a batch in the places of the oldest."""
        vectors = torch.stack(list(embeddings.values()), dim=1)
        groups = torch.stack([targets.groups[column] for column in embeddings], dim=1)
        same = targets.positive(len(vectors), vectors.device)
        stop, size = self.rows + len(vectors), self.options.size
        places = torch.arange(max(self.rows, stop - size), stop, device=vectors.device) % size
        for name, new in zip(KEPT, (vectors, groups, same), strict=True):
            old = getattr(self, name)
            new = new if targets.share is None else targets.share.in_order(new)
            old = new.new_zeros(size, *new.shape[1:]) if old is None else old.to(new.device)
            setattr(self, name, old.index_copy_(0, places, new[-size:].to(old.dtype)))
        self.rows, self.batches = stop, self.batches + 1

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.rows, self.batches])

    def set_extra_state(self, state: Tensor) -> None:
        self.rows, self.batches = state.tolist()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name in KEPT:  # they have no shape before a batch has come
            saved = state_dict.get(prefix + name)
            setattr(self, name, None if saved is None else torch.empty_like(saved))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
