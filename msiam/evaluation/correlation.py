"""How alike: whether similarities follow the scores that rows were given."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, Evaluator, Result
from msiam.evaluation.roc import Z95

DRAWN = 1000  # rows that the report's drawing has at most


class Correlation(Evaluator):
    """Spearman's ρ and Pearson's r of the rows' scores with the model's similarities.

    Of two columns the similarity is that of the two items; of three it is how much more alike the
    first two are than the first and the third. ρ is r of the ranks, where ties have their mean
    rank. A model that gives all rows one similarity follows nothing: 0. The 95 % intervals are
    Fisher's, tanh(atanh(r) ± 1.96 / √(n − 3)), for ρ with the variance (1 + ρ²/2) / (n − 3) of
    Bonett and Wright (2000).
    """

    primary: ClassVar[str] = "spearman"

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        scores = embedded.examples.scores
        if scores is None:
            raise DataError(
                "correlation needs scores; add 'score: {column: ..., same: ...}' to data"
            )
        if len(np.unique(scores)) < 2:
            raise DataError(
                f"correlation needs scores that differ; all {len(scores)} rows here have "
                f"{scores[0]:g}: give more rows"
            )
        found = similarities(embedded)
        rho, r = pearson(mean_ranks(scores), mean_ranks(found)), pearson(scores, found)
        metrics: dict[str, float] = {"pairs": len(scores)}
        for name, value, widening in (("spearman", rho, 1 + rho**2 / 2), ("pearson", r, 1.0)):
            low, high = fisher_interval(value, len(scores), widening)
            metrics |= {name: value, f"{name}/low": low, f"{name}/high": high}
            metrics |= {f"chance/{name}": 0.0}
        drawn = np.linspace(0, len(scores) - 1, min(len(scores), DRAWN)).astype(int)
        drawing = {"score": scores[drawn].tolist(), "similarity": found[drawn].tolist()}
        headline = (
            f"Over {len(scores):,} held-out rows, similarities follow the scores with Spearman's ρ "
            f"{rho:.3f}; chance is 0, and 1 would be the very same order."
        )
        return Result(metrics, {"scatter": drawing}, headline)


def similarities(embedded: Embedded) -> np.ndarray:
    """(n,) float64: what the model says where each row has its score."""
    first, second, *third = embedded.examples.columns

    def between(other: str) -> np.ndarray:
        left, right = embedded.rows(first), embedded.rows(other)
        return np.einsum("nd,nd->n", left, right, dtype=np.float64)

    return between(second) - between(third[0]) if third else between(second)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """(n,) ranks from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[which]


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r; 0 where one of the two does not vary."""
    a, b = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (a, b))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(np.clip((a @ b) / scale, -1, 1)) if scale > 0 else 0.0


def fisher_interval(r: float, n: int, widening: float = 1.0) -> tuple[float, float]:
    """A 95 % confidence interval of a correlation over ``n`` rows; of 3 or less, all there is.

    Args:
        widening: by how much the variance of atanh(r) is above 1 / (n − 3).
    """
    if n <= 3:
        return -1.0, 1.0
    if abs(r) == 1:
        return r, r
    middle, spread = np.arctanh(r), Z95 * np.sqrt(widening / (n - 3))
    return float(np.tanh(middle - spread)), float(np.tanh(middle + spread))
