"""The contract of an evaluator: a held-out part, embedded, in; figures and curves out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from msiam.errors import TrainingError
from msiam.registry.options import Options

if TYPE_CHECKING:
    from msiam.data.examples import Examples
    from msiam.evaluation.calibration import Calibration
    from msiam.evaluation.verdict import Verdict
    from msiam.towers.model import Model


@dataclass(frozen=True)
class Embedded:
    """A held-out part, embedded. The similarity of two vectors is their inner product.

    Attributes:
        examples: the rows; a row names an item of each column by its number.
        vectors: by tower, (items, D) float32, L2-normalised, in the order of the item numbers.
        towers: the tower of each column.
        values: by tower, its raw items by number.
        negatives: kinds of different pairs to make of rows that all belong together, by name:
            "random" or "bm25"; see ``msiam.evaluation.pairs.find_pairs``.
        features: by tower, what its encoder prepared of each item, by number.
        model: what embedded them, for evaluators that ask it again; None: vectors are all there is.

    Raises:
        TrainingError: a vector of these rows is not finite. Comparisons with NaN are false, so
            that a model which has diverged would otherwise rank every answer first.
    """

    examples: Examples
    vectors: dict[str, np.ndarray]
    towers: dict[str, str]
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    negatives: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    model: Model | None = None

    def __post_init__(self) -> None:
        for column, numbers in self.examples.columns.items():
            used = np.unique(numbers)
            broken = used[~np.isfinite(self.of(column)[used]).all(axis=1)]
            if len(broken):
                raise TrainingError(
                    f"tower '{self.towers[column]}' embeds {len(broken)} of the {len(used)} items "
                    f"of '{column}' as no number (NaN or infinite); the model has diverged: "
                    "train with a lower learning rate"
                )

    def of(self, column: str) -> np.ndarray:
        """(items, D): the vectors of the column's tower, by item number."""
        return self.vectors[self.towers[column]]

    def rows(self, column: str) -> np.ndarray:
        """(n, D): the vectors of the column's items, in the order of the examples."""
        return self.of(column)[self.examples.columns[column]]


@dataclass(frozen=True)
class Decision:
    """To which of several classes a query was said to belong, for the report.

    Attributes:
        column: the column of all items here.
        query: the item's number.
        candidates: of each class, the numbers of its examples.
        scores: how near the query is to each class; it is said to be of the nearest.
        right: which class it is of.
    """

    column: str
    query: int
    candidates: list[list[int]]
    scores: list[float]
    right: int


@dataclass
class Result:
    """What an evaluator found.

    Attributes:
        metrics: flat names, such as ``auc`` or ``title_to_body/recall@1``. What guessing would
            reach stands under ``chance/`` (``title_to_body/chance/recall@1``), the ends of a 95 %
            confidence interval under ``/low`` and ``/high``.
        curves: what the report draws, as JSON can hold it: any of ``roc``, ``histogram``,
            ``scatter`` and ``recall``, in the shapes that ``msiam.evaluation.plots`` describes.
        headline: the main figures beside chance, in a plain sentence.
        shown: heading → what else the report shows, items side by side with what was said of them.
        decisions: samples that the report shows as grids.
    """

    metrics: dict[str, float]
    curves: dict[str, Any] = field(default_factory=dict)
    headline: str = ""
    shown: dict[str, list[Verdict]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)


class Evaluator(ABC):
    """Measures a model on a held-out part. A plugin subclasses this."""

    Options: ClassVar[type[Options]] = Options
    #: The metric that early stopping watches: always there, and larger is better.
    primary: ClassVar[str]

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @property
    def references(self) -> int | None:
        """Of how many reference items a decision is made as well, with a threshold of its own."""
        return None

    @property
    def reads(self) -> Collection[str]:
        """The table's columns that it needs as ``embedded.examples.attributes``."""
        return ()

    @abstractmethod
    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        """Measure; ``calibration`` is what was chosen on validation, where that is known.

        Raises:
            DataError: these examples cannot be measured in this way; the message says why.
        """


def percent(share: float) -> str:
    """A share as people read it: 81.2 %; close to nothing or to all, two digits: 0.025 %.

    The space does not break, so that the sign never begins a line.
    """
    rest = 100 * min(share, 1 - share)
    if rest <= 0:
        return f"{100 * share:.0f}\u00a0%"
    if rest < 0.0001:
        return "under\u00a00.0001\u00a0%" if share < 0.5 else "over\u00a099.9999\u00a0%"
    digits = 1 if rest >= 1 else 1 - math.floor(math.log10(rest))
    return f"{100 * share:.{digits}f}\u00a0%"
