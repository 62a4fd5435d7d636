"""From a similarity to a decision and to a probability, both chosen on validation pairs."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from msiam.errors import DataError, ModelError
from msiam.evaluation.roc import Roc


@dataclass(frozen=True)
class Calibration:
    """How to read a similarity. Kept with the run.

    The probability supposes that as large a share of pairs is the same as in the pairs it was
    fitted on.

    Attributes:
        threshold: a pair is called the same from this score on; the best accuracy.
        f1_threshold: the same, for the best F1.
        slope, intercept: the probability is 1 / (1 + exp(-(slope · score + intercept))).
        references: number of reference items → the same for an item's mean similarity with them.
    """

    threshold: float
    f1_threshold: float
    slope: float
    intercept: float
    references: dict[int, Calibration] = field(default_factory=dict)

    @classmethod
    def fit(cls, scores: np.ndarray, same: np.ndarray) -> Calibration:
        """Choose both thresholds and the probability on scores (n,) and labels (n,) bool.

        A threshold lies half way between two neighbouring scores. Of several that are equally
        good the highest is taken, so in doubt a pair is different. Where every pair is the same
        the threshold is the lowest score; where none is, it is just above the highest.

        Raises:
            DataError: there are no pairs.
        """
        scores, same = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
        if not len(scores):
            raise DataError("calibration: no pairs to choose a threshold on; give validation rows")
        roc = Roc.of(scores, same)
        threshold = roc.thresholds[np.argmax(roc.accuracy)]
        f1_threshold = roc.thresholds[np.argmax(roc.f1)]
        return cls(float(threshold), float(f1_threshold), *fit_logistic(scores, same))

    def same(self, score: Any) -> Any:
        """Whether a pair with this score, or each of an array of them, is called the same."""
        return np.asarray(score)[()] >= self.threshold

    def probability(self, score: Any) -> Any:
        """How probable it is that a pair with this score, or each of an array, is the same."""
        # The identity with tanh keeps exp from overflowing.
        logit = self.slope * np.asarray(score, dtype=np.float64) + self.intercept
        return (0.5 * (1 + np.tanh(logit / 2)))[()]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """What ``to_json`` wrote, to the last bit.

        Raises:
            ModelError: the text is something else.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name != "references"]

        def one(content: Any) -> Calibration:
            several = content.get("references", {}).items()  # once there were none
            numbers = {name: float(content[name]) for name in names}
            return cls(**numbers, references={int(count): one(of) for count, of in several})

        try:
            return one(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"calibration: is damaged ({type(error).__name__}: {error}); it should be a JSON "
                f"object with the numbers {', '.join(names)}"
            ) from error


def fit_logistic(scores: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of Platt's (1999) probability, by the method of Lin et al. (2007).

    The targets are smoothed, (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), which keeps the slope finite
    where the classes are perfectly separated. Newton's method with backtracking, on standardised
    scores, so that neither their scale nor their origin matters.
    """
    positives = int(same.sum())
    target = np.where(same, (positives + 1) / (positives + 2), 1 / (len(same) - positives + 2))
    centre, scale = scores.mean(), scores.std()
    if scale <= 1e-12 * max(1.0, abs(centre)):  # constant scores say nothing: the base rate
        return 0.0, float(np.log(target.mean() / (1 - target.mean())))
    design = np.stack([(scores - centre) / scale, np.ones(len(scores))], axis=1)

    def loss(weights: np.ndarray) -> float:
        logit = design @ weights
        return float((np.logaddexp(0, logit) - target * logit).sum())

    weights = np.array([0.0, np.log(target.mean() / (1 - target.mean()))])
    for _ in range(100):
        probability = 0.5 * (1 + np.tanh(design @ weights / 2))
        gradient = design.T @ (probability - target)
        if np.abs(gradient).max() < 1e-9 * len(scores):
            break
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        size, before = 1.0, loss(weights)
        while size > 1e-10 and loss(weights - size * step) > before - 1e-4 * size * gradient @ step:
            size /= 2
        if size <= 1e-10:  # as low as rounding lets the loss get
            break
        weights = weights - size * step
    slope = weights[0] / scale
    return float(slope), float(weights[1] - slope * centre)
