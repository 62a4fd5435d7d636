"""The contract of an encoder: what turns items of one modality into vectors."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from msiam.registry.options import Options

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Rejected:
    """What ``prepare`` returns in the place of an item that it cannot read, and why not."""

    reason: str


@dataclass(frozen=True)
class Continuous:
    """A tensor of a batch that may take any value from ``low`` to ``high``.

    ``forward`` takes it as floats too, in the same units, and has a gradient with respect to it.
    """

    tensor: str
    low: float
    high: float


class Encoder(nn.Module, ABC):
    """Items of one modality in, vectors out. A plugin subclasses this.

    An encoder is made with its options alone and has no weights yet. It comes to life in one of
    two ways: ``fit`` learns from the data what must be learnt before training (a vocabulary) or
    loads pretrained weights; ``restore`` rebuilds it, weights unset, from what ``save`` wrote.
    After either, ``dim`` is known and every parameter exists.

    Items become vectors in three steps, so that the first is done once and kept:
    ``prepare`` (items to features: pure, no gradient), ``collate`` (features to a
    batch of tensors) and ``forward`` (a batch to vectors, with augmentation while training).
    """

    Options: ClassVar[type[Options]] = Options
    modality: ClassVar[str]
    #: Whether a string item names a file. If so, it is looked up beside the table it stands in.
    reads_files: ClassVar[bool] = False
    #: What the features of one batch may cost together, padding included, when nothing is trained.
    budget: ClassVar[int] = 64
    #: What of a batch an adversary may change a little; None: nothing, as words have no in-between.
    continuous: ClassVar[Continuous | None] = None
    #: Whether fit loads weights that a high learning rate would spoil.
    pretrained: bool = False

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.options = options

    @property
    @abstractmethod
    def dim(self) -> int:
        """The width d of what ``forward`` returns. Known after ``fit`` or ``restore``."""

    @classmethod
    @abstractmethod
    def accepts(cls, item: object) -> bool:
        """Whether an item of this type can be read at all (its content may still be rejected)."""

    @abstractmethod
    def prepare(self, items: Sequence[Any]) -> list[np.ndarray | Rejected]:
        """Items to features, one array each. Never raises for an item: returns ``Rejected``."""

    @abstractmethod
    def collate(self, features: Sequence[np.ndarray]) -> Batch:
        """B features to one batch of tensors, on the CPU."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """A batch of B items to their vectors, (B, d)."""

    @property
    def variants(self) -> int:
        """How many things training makes of an item, each of a class of its own; 1: itself."""
        return 1

    def variant(self, feature: np.ndarray, number: int) -> np.ndarray:
        """What ``prepare`` would return for variant 1 … ``variants`` − 1 of the feature's item."""
        raise NotImplementedError

    def layers(self) -> Sequence[nn.Module]:
        """The parts that run one after another, each once a batch, first to last.

        ``train.compile``, ``train.gradient_checkpointing`` and a tower's ``freeze: 4`` go by these.
        An encoder that names none does without.
        """
        return ()

    def split_states(self, states: Tensor, batch: Batch) -> Sequence[Tensor] | None:
        """What a layer made of a batch, by item: B tensors (n, …), for an n of each one's own.

        A tower's ``freeze: 4`` then runs the first four layers once an item and goes on from what
        they made, which is kept on disk. None: they run in each step, as they must where forward
        varies items before them.
        """
        return None

    def join_states(self, states: Sequence[Tensor]) -> tuple[Batch, Tensor]:
        """The other way: a batch to stand in for these B items, and what a layer makes of it.

        ``forward`` is run on the batch with the first layers left out and the last of them giving
        this; so of the batch all that counts is what the layers behind take from it (a mask).
        """
        raise NotImplementedError

    def fit(self, items: Iterable[Any]) -> None:
        """Learn from the training items, or load pretrained weights; build every parameter."""

    def save(self, folder: Path) -> None:
        """Write, into an empty folder, what ``restore`` needs besides options and weights."""

    def restore(self, folder: Path) -> None:
        """Build every parameter, values unset, from what ``save`` wrote. No network, no data."""
        self.fit([])

    def cost(self, feature: np.ndarray) -> int:
        """How long the feature is (tokens), by which batches hold items of like length.

        What a batch costs is its longest feature's cost times its items, at most ``budget``.
        """
        return 1

    def fingerprint(self) -> str:
        """Changes whenever what ``prepare`` or ``forward`` would return changes.

        This one covers class, options and weights. An encoder whose ``save`` writes more than
        that (a vocabulary) adds it.
        """
        kind = type(self)
        digest = hashlib.sha256(
            f"{kind.__module__}:{kind.__qualname__}\n{self.options!r}\n".encode()
        )
        add_weights(digest, self)
        return digest.hexdigest()[:16]

    def features_fingerprint(self) -> str:
        """Changes whenever what ``prepare`` would return changes; kept features go by it.

        Unless an encoder says what its features depend on, this is the fingerprint of all of it,
        and whatever changes a weight makes what is kept of no use.
        """
        return self.fingerprint()


def add_weights(digest: Any, module: nn.Module) -> None:
    """Feed every weight of a module, with its name, shape and kind, into a digest."""
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
