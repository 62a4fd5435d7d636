"""The contract of a table of vectors in an engine elsewhere, such as a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import numpy as np
import pydantic

from msiam.gallery.backend_url import without_secret
from msiam.registry.options import Options


class TableOptions(Options):
    """Where the engine is. An engine's own options are fields beside it, which have defaults."""

    # Somebody may try an option called password: its value stays out of the traceback too.
    model_config = pydantic.ConfigDict(hide_input_in_errors=True)

    url: str = pydantic.Field(
        min_length=1, description="where the engine is; never with a password in it"
    )

    @pydantic.field_validator("url")
    @classmethod
    def _without_secret(cls, url: str) -> str:
        return without_secret(url)


OptionsT = TypeVar("OptionsT", bound=TableOptions)


class VectorTable(ABC, Generic[OptionsT]):
    """One table of an engine, with the columns position and vector. A plugin subclasses this.

    ``TableBackend`` calls it, and turns the engine's own errors into those of msiam. Nothing is
    connected before it is needed; what has lost its connection connects again.

    Attributes:
        failures: the engine's exceptions that mean that it cannot do what it was asked.
        secrets: the environment's variables whose values no message may hold.
        ordered: whether ``nearest`` gives equal scores in the order of positions, all of them.
        most: the largest k of ``nearest``, if there is one.
        rows: how many vectors ``insert`` is given, and ``vectors`` is asked for, at most.
        reconstructs: whether ``vectors`` gives back what ``insert`` was given.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = ()
    secrets: ClassVar[tuple[str, ...]] = ()
    ordered: ClassVar[bool] = False
    most: ClassVar[int | None] = None
    rows: ClassVar[int] = 1 << 16
    reconstructs: ClassVar[bool] = False

    def __init__(self, options: OptionsT, name: str, dim: int) -> None:
        self.options = options
        self.name = name
        self.dim = dim

    @abstractmethod
    def create(self) -> None:
        """Make it, empty. Refuses at once what could not be indexed in the end."""

    @abstractmethod
    def insert(self, start: int, vectors: np.ndarray) -> None:
        """Append vectors, (n, dim) float32: their positions are ``start``, ``start`` + 1, …"""

    @abstractmethod
    def finish(self, count: int) -> None:
        """Build the index that the options ask for, over all ``count`` vectors."""

    def publish(self) -> None:
        """Let others see the table. Until then it may be a transaction's own."""

    @abstractmethod
    def count(self) -> int | None:
        """How many vectors the engine says are there; None: there is no such table."""

    @abstractmethod
    def nearest(
        self, queries: np.ndarray, k: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inner products, (q, k) float32, and positions, (q, k) int64, of the nearest.

        Where fewer are found, the rest has −inf and −1. ``among`` is given only to a backend that
        ``filters``.
        """

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at distinct positions, ascending: (n, dim) float32. Of one that
        ``reconstructs``; where it does not, the gallery keeps a file of them."""
        raise NotImplementedError

    @abstractmethod
    def drop(self) -> None:
        """Remove the table; that it is not there is no error."""

    def close(self) -> None:
        """Let go of the connection. What was not published is then gone, or is dropped later."""
