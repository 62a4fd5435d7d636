"""Same or not: how well a threshold on the similarity tells pairs apart."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import pydantic

from msiam.errors import DataError
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, Evaluator, Result, percent
from msiam.evaluation.pairs import Pairs, find_pairs
from msiam.evaluation.references import reference_scores
from msiam.evaluation.roc import Roc, auc_interval, eer_interval
from msiam.registry.options import Options

Rate = Annotated[float, pydantic.Field(gt=0, lt=1)]


class VerificationOptions(Options):
    """``far``: the false acceptance rates at which the true acceptance rate is given.

    ``references``: of one column with classes, judge items by their mean similarity with so many
    of their class as well.
    """

    far: Annotated[tuple[Rate, ...], pydantic.Field(min_length=1)] = (0.1, 0.01, 0.001)
    references: int | None = pydantic.Field(None, gt=1)


class Verification(Evaluator):
    """ROC AUC, equal error rate, accuracy and F1, TAR at FAR, average precision, Brier score.

    With a calibration, ``accuracy`` and ``f1`` are those at its two thresholds, chosen on
    validation, and ``brier`` and ``ece`` judge its probability. Without one, the thresholds are
    chosen on these very pairs and the metrics are named ``best_accuracy`` and ``best_f1``.
    The rows compared are those of ``find_pairs``. Where it makes several kinds of different pairs,
    AUC and equal error rate are also given for the positives against each kind, as ``hard/auc``.
    """

    Options: ClassVar[type[Options]] = VerificationOptions
    primary: ClassVar[str] = "auc"

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        pairs = find_pairs(embedded)
        sides = [some.scores(embedded) for some in pairs]
        scores, same = np.concatenate(sides), np.concatenate([some.same for some in pairs])
        if same.all() or not same.any():
            raise DataError(
                f"verification needs pairs that are the same and pairs that are not; all "
                f"{len(same)} pairs of the {len(embedded.examples)} rows measured on are "
                f"{'the same' if same.any() else 'different'}: give rows of both kinds, or more"
            )
        roc = Roc.of(scores, same)
        metrics = self._metrics(roc) | _of_kinds(pairs, sides)
        if calibration is None:
            metrics |= {"best_accuracy": roc.accuracy.max(), "best_f1": roc.f1.max()}
            metrics |= _chance(roc, "best_accuracy", "best_f1")
        else:
            metrics |= _at_thresholds(calibration, scores, same)
            metrics |= _chance(roc, "accuracy", "f1")
        metrics |= _eer_ends(embedded, pairs, scores, same)
        several, said = self._by_references(embedded, calibration)
        metrics = {name: float(value) for name, value in (metrics | several).items()}
        headline = _headline(metrics) + said
        return Result(metrics, _curves(roc, scores, same, calibration), headline)

    @property
    def references(self) -> int | None:
        return self.options.references

    def _by_references(
        self, embedded: Embedded, calibration: Calibration | None
    ) -> tuple[dict[str, float], str]:
        """The figures of decisions by several references, as ``5_references/eer``; a sentence."""
        count = self.options.references
        if count is None:
            return {}, ""
        scores, same, classes = reference_scores(embedded, count)
        roc = Roc.of(scores, same)
        low, high = eer_interval(scores, same, classes)
        found = {
            "pairs": len(scores),
            "same": roc.same,
            **_auc_and_eer(roc),
            "eer/low": low,
            "eer/high": high,
        }
        several = calibration.references.get(count) if calibration else None
        if several is not None:
            found["accuracy"] = float(np.mean(several.same(scores) == same))
            found["chance/accuracy"] = max(roc.accuracy[0], roc.accuracy[-1])
        said = f" By {count} reference items, the equal error rate is {percent(found['eer'])}."
        return {f"{count}_references/{name}": value for name, value in found.items()}, said

    def _metrics(self, roc: Roc) -> dict[str, float]:
        return {
            "pairs": roc.same + roc.different,
            "same": roc.same,
            **_auc_and_eer(roc),
            **_auc_ends(roc),
            "average_precision": roc.average_precision(),
            "chance/average_precision": roc.same / (roc.same + roc.different),
            **{f"tar@far={far:g}": roc.tar_at(far) for far in self.options.far},
            **{f"chance/tar@far={far:g}": far for far in self.options.far},
        }


def _auc_and_eer(roc: Roc) -> dict[str, float]:
    return {
        "auc": roc.auc(),
        "chance/auc": 0.5,
        "eer": roc.equal_error_rate(),
        "chance/eer": 0.5,
    }


def _auc_ends(roc: Roc) -> dict[str, float]:
    """A 95 % interval of the AUC, of pairs that are independent."""
    low, high = auc_interval(roc.auc(), roc.same, roc.different)
    return {"auc/low": low, "auc/high": high}


def _of_kinds(found: list[Pairs], scores: list[np.ndarray]) -> dict[str, float]:
    """The pairs that are the same, which come first, against each kind of different ones."""
    metrics: dict[str, float] = {}
    for pairs, side in zip(found, scores, strict=True):
        if not pairs.kind:
            continue
        same = np.concatenate([found[0].same, pairs.same])
        roc = Roc.of(np.concatenate([scores[0], side]), same)
        figures = {"different": roc.different, **_auc_and_eer(roc), **_auc_ends(roc)}
        metrics |= {f"{pairs.kind}/{name}": value for name, value in figures.items()}
    return metrics


def _eer_ends(
    embedded: Embedded, found: list[Pairs], scores: np.ndarray, same: np.ndarray
) -> dict[str, float]:
    """A 95 % interval of the equal error rate over classes, of one column that has some."""
    examples = embedded.examples
    if not examples.classed or len(examples.columns) > 1:
        return {}
    (column,) = examples.columns
    of = np.concatenate([examples.groups[column][pairs.examples] for pairs in found])
    low, high = eer_interval(scores, same, of)
    return {"eer/low": low, "eer/high": high}


def _chance(roc: Roc, accuracy: str, f1: str) -> dict[str, float]:
    """What giving all pairs the same answer reaches: the commoner one, and always "same"."""
    return {
        f"chance/{accuracy}": max(roc.accuracy[0], roc.accuracy[-1]),
        f"chance/{f1}": roc.f1[-1],
    }


def _at_thresholds(
    calibration: Calibration, scores: np.ndarray, same: np.ndarray
) -> dict[str, float]:
    said = scores >= calibration.f1_threshold
    probability = calibration.probability(scores)
    return {
        "accuracy": np.mean(calibration.same(scores) == same),
        "f1": 2 * np.sum(said & same) / (said.sum() + same.sum()),
        "brier": np.mean((probability - same) ** 2),
        "ece": calibration_error(probability, same),
    }


def calibration_error(probability: np.ndarray, same: np.ndarray, bins: int = 10) -> float:
    """The expected calibration error: |how often - how probable|, weighted, over equal bins."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=probability - same, minlength=bins)
    return float(np.abs(gaps).sum() / len(same))


def _curves(
    roc: Roc, scores: np.ndarray, same: np.ndarray, calibration: Calibration | None
) -> dict[str, Any]:
    far, tar = roc.thinned()
    counts, edges = np.histogram(scores, bins=40)
    same_counts, _ = np.histogram(scores[same], bins=edges)
    return {
        "roc": {"far": far.tolist(), "tar": tar.tolist()},
        "histogram": {
            "edges": edges.tolist(),
            "same": same_counts.tolist(),
            "different": (counts - same_counts).tolist(),
            "threshold": calibration.threshold if calibration else None,
        },
    }


def _headline(metrics: dict[str, float]) -> str:
    name, how = "best_accuracy", "the best threshold for these very pairs"
    if "accuracy" in metrics:
        name, how = "accuracy", "the threshold chosen on validation"
    return (
        f"ROC AUC is {metrics['auc']:.3f}, where chance is 0.5. At {how} it judges "
        f"{percent(metrics[name])} of {metrics['pairs']:,.0f} held-out pairs rightly; giving all "
        f"the same answer would get {percent(metrics[f'chance/{name}'])}."
    )
