"""The counts at every cut of scored pairs, and what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054  # the normal quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class Roc:
    """How many pairs each cut accepts, from none (cut 0) to all (the last).

    Cut i accepts the pairs with ``score >= thresholds[i]``. Pairs of equal score are never cut
    apart, so that every figure is exact in the presence of ties. A threshold lies half way
    between the lowest score that it accepts and the highest that it does not.

    Attributes:
        thresholds: (cuts,) float64, descending.
        hits: (cuts,) int64, the accepted pairs that are the same.
        alarms: (cuts,) int64, the accepted pairs that are different.
    """

    thresholds: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, same: np.ndarray) -> Roc:
        """Scores (n,), at least one of them, and whether each pair is the same (n,) bool."""
        same = np.asarray(same, dtype=bool)
        levels, level = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
        hits = np.bincount(level[same], minlength=len(levels))
        alarms = np.bincount(level[~same], minlength=len(levels))
        levels = levels[::-1]
        middle = (levels[:-1] + levels[1:]) / 2
        # Two neighbouring floats have no number between them: the upper one is then the cut.
        middle = np.where(middle > levels[1:], middle, levels[:-1])
        thresholds = np.r_[np.nextafter(levels[0], np.inf), middle, levels[-1]]
        return cls(thresholds, np.r_[0, hits[::-1].cumsum()], np.r_[0, alarms[::-1].cumsum()])

    @property
    def same(self) -> int:
        return int(self.hits[-1])

    @property
    def different(self) -> int:
        return int(self.alarms[-1])

    @property
    def tar(self) -> np.ndarray:
        """(cuts,): the true acceptance rate, recall, sensitivity."""
        return self.hits / self.same

    @property
    def far(self) -> np.ndarray:
        """(cuts,): the false acceptance rate, fall-out."""
        return self.alarms / self.different

    @property
    def accuracy(self) -> np.ndarray:
        """(cuts,)"""
        return (self.hits + self.different - self.alarms) / (self.same + self.different)

    @property
    def f1(self) -> np.ndarray:
        """(cuts,): the harmonic mean of precision and recall; 0 where nothing is the same."""
        return 2 * self.hits / np.maximum(self.hits + self.alarms + self.same, 1)

    def auc(self) -> float:
        """The chance that a same pair scores above a different one; a tie counts as half."""
        above = np.diff(self.alarms) * (self.hits[1:] + self.hits[:-1])
        return float(above.sum() / (2 * self.same * self.different))

    def average_precision(self) -> float:
        """The mean, over the same pairs, of the precision at the cut that first accepts them."""
        precision = self.hits[1:] / (self.hits[1:] + self.alarms[1:])
        return float((np.diff(self.hits) * precision).sum() / self.same)

    def equal_error_rate(self) -> float:
        """Where false acceptances and false rejections are equally frequent.

        The empirical ROC is a polyline, one corner a cut (so a tie is a slanted piece); this is
        where it crosses the line FAR = 1 - TAR, interpolated linearly. It is not the ROC's convex
        hull (Brümmer), which would be a little lower.
        """
        gap = self.far + self.tar - 1  # from -1 to 1, and each cut adds to it
        after = int(np.argmax(gap >= 0))
        share = -gap[after - 1] / (gap[after] - gap[after - 1])
        before = self.far[after - 1]
        return float(before + share * (self.far[after] - before))

    def tar_at(self, far: float) -> float:
        """The highest TAR of a cut whose FAR is at most ``far``; nothing is interpolated."""
        return float(self.tar[self.far <= far].max())

    def thinned(self, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """FAR and TAR at no more than about ``points`` cuts, evenly spaced along the curve."""
        far, tar = self.far, self.tar
        wanted = np.linspace(0, 2, points)
        keep = np.unique(np.searchsorted(far + tar, wanted).clip(0, len(far) - 1))
        return far[keep], tar[keep]


def eer_interval(
    scores: np.ndarray, same: np.ndarray, classes: np.ndarray, draws: int = 200, seed: int = 0
) -> tuple[float, float]:
    """A 95 % confidence interval of the equal error rate, over classes drawn with replacement.

    Pairs of one class are alike, so that the classes (n,) and not the pairs are what is sampled
    (the bootstrap of clusters, Field and Welsh, 2007). A draw without pairs of both kinds is left
    out; where all are, nothing is known: from 0 to 1.
    """
    rng = np.random.default_rng(seed)
    _, number = np.unique(classes, return_inverse=True)
    count = int(number.max()) + 1
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.bincount(number, minlength=count).cumsum()[:-1])
    found = []
    for drawn in rng.integers(count, size=(draws, count)):
        rows = np.concatenate([parts[c] for c in drawn])
        if same[rows].any() and not same[rows].all():
            found.append(Roc.of(scores[rows], same[rows]).equal_error_rate())
    if not found:
        return 0.0, 1.0
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def auc_interval(auc: float, same: int, different: int) -> tuple[float, float]:
    """A 95 % confidence interval of a ROC AUC.

    Newcombe (2006), method 5: the values θ with (auc - θ)² <= z² V(θ), where V is the variance of
    Hanley and McNeil (1982). Unlike auc ± z·σ it stays within [0, 1] and does not shrink to a
    point where the classes are perfectly separated.
    """
    mean_size = (same + different) / 2 - 1

    def outside(theta: float) -> bool:
        spread = 1 + mean_size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 > Z95**2 * theta * (1 - theta) * spread / (same * different)

    def end(edge: float) -> float:
        out, inside = edge, auc
        if not outside(edge):
            return edge
        for _ in range(50):
            theta = (out + inside) / 2
            out, inside = (theta, inside) if outside(theta) else (out, theta)
        return inside

    return end(0.0), end(1.0)


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """A 95 % confidence interval of a share seen in ``n`` trials (Wilson, 1927)."""
    centre = share + Z95**2 / (2 * n)
    spread = Z95 * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return max(0.0, min(share, float(low))), min(1.0, max(share, float(high)))  # rounding aside
