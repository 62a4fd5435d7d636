"""How far same/different decisions survive an attacker who knows the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from msiam.errors import DataError
from msiam.evaluation.adversaries import (
    SHOWN,
    AdversarialOptions,
    Attacked,
    Decisions,
    attack_inputs,
    attack_texts,
)
from msiam.evaluation.calibration import Calibration
from msiam.evaluation.evaluator import Embedded, Evaluator, Result, percent
from msiam.evaluation.pairs import Pairs, find_pairs
from msiam.evaluation.pictures import from_pixels
from msiam.evaluation.roc import Roc, wilson_interval
from msiam.evaluation.verdict import Verdict
from msiam.registry.options import Options


class Adversarial(Evaluator):
    """The share of pairs still judged rightly after the worst change of one of their items.

    The attacker knows the weights and the other item, and moves the score across the threshold:
    down where the pair is the same, up where it is not. A pair that is misjudged as it is counts
    as lost. The threshold is that of the calibration; without one, the best for these pairs.

    Where the encoder says what of its input is continuous (``Encoder.continuous``, pixels), FGSM
    takes one step and PGD ``steps`` of them from a random start, within each size of change in
    turn. Of all points seen, the worst is kept, and an attacker who may do more may do less: PGD
    begins with what FGSM found, and each size with what a smaller one did. So the curve never
    rises with the size, nor is PGD ever above FGSM.

    A text is changed by ``typos`` (neighbouring letters) and ``synonyms`` (words that the tower
    embeds alike), one to ``swaps`` of them, the worst of ``tries`` each time.

    ``accuracy`` is that without an attack, ``pgd_linf/accuracy@4`` that under PGD with ε = 4.
    ``robust_accuracy`` is the mean over the sizes, of PGD or else of both kinds of swaps.
    """

    Options: ClassVar[type[Options]] = AdversarialOptions
    primary: ClassVar[str] = "robust_accuracy"

    def evaluate(self, embedded: Embedded, calibration: Calibration | None) -> Result:
        if embedded.model is None:
            raise DataError("adversarial attacks the model itself; these vectors came without one")
        pairs = self._pairs(embedded, calibration)
        name = embedded.towers[pairs.column]
        tower = embedded.model.tower(name)
        against = np.stack(
            [embedded.of(c)[i] for c, i in zip(pairs.others_column, pairs.others, strict=True)]
        )
        if tower.encoder.modality == "text":
            texts = [embedded.values[name][number] for number in pairs.items]
            attacked = attack_texts(tower, texts, against, pairs, self.options)
        else:
            features = [embedded.features[name][number] for number in pairs.items]
            attacked = attack_inputs(tower, features, against, pairs, self.options)
        metrics, curves = self._measure(pairs, attacked)
        shown = _shown(embedded, pairs, attacked)
        return Result(metrics, {"survival": curves}, _headline(metrics, curves), shown)

    def _pairs(self, embedded: Embedded, calibration: Calibration | None) -> Decisions:
        found = find_pairs(embedded)
        column = self.options.column or found[0].columns[0]
        for pairs in found:
            if column not in pairs.columns:
                raise DataError(
                    f"evaluate (adversarial): column: found '{column}'; the pairs compared are of "
                    f"{' and '.join(pairs.columns)}"
                )
        parts = [_sides(pairs, column) for pairs in found]
        others_column = [c for _, _, c, pairs in parts for _ in pairs.same]
        items, others = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        same, scores, rows = (
            np.concatenate(values)
            for values in (
                [pairs.same for pairs in found],
                [pairs.scores(embedded) for pairs in found],
                [embedded.examples.rows[pairs.examples] for pairs in found],
            )
        )
        rng = np.random.default_rng(self.options.seed)
        drawn = np.sort(rng.permutation(len(same))[: self.options.pairs])
        if calibration is not None:
            threshold = calibration.threshold
        else:
            roc = Roc.of(scores, same)
            threshold = float(roc.thresholds[np.argmax(roc.accuracy)])
        return Decisions(
            column,
            items[drawn],
            others[drawn],
            [others_column[i] for i in drawn],
            rows[drawn],
            same[drawn],
            scores[drawn],
            threshold,
        )

    def _measure(
        self, pairs: Decisions, attacked: Mapping[str, list[Attacked]]
    ) -> tuple[dict[str, float], dict[str, Any]]:
        count = len(pairs)
        clean = float(pairs.right(pairs.scores).mean())
        figures: dict[str, float] = {}
        curves: dict[str, Any] = {}
        for name, by_size in attacked.items():
            shares = [float(pairs.right(found.scores).mean()) for found in by_size]
            for found, share in zip(by_size, shares, strict=True):
                key = f"{name}/accuracy@{found.size:g}"
                low, high = wilson_interval(share, count)
                figures |= {key: share, f"{key}/low": low, f"{key}/high": high}
            sizes = [float(found.size) for found in by_size]
            curves[name] = {"size": [0.0, *sizes], "accuracy": [clean, *shares]}
        strong = [name for name in curves if not name.startswith("fgsm")]
        robust = np.mean([np.mean(curves[name]["accuracy"][1:]) for name in strong])
        low, high = wilson_interval(clean, count)
        commoner = max(pairs.same.mean(), 1 - pairs.same.mean())
        return {
            "pairs": float(count),
            "accuracy": clean,
            "accuracy/low": low,
            "accuracy/high": high,
            "chance/accuracy": float(commoner),
            "robust_accuracy": float(robust),
            **figures,
        }, curves


def _sides(pairs: Pairs, column: str) -> tuple[np.ndarray, np.ndarray, str, Pairs]:
    """The items of the column, those they are compared with, the column of these, and the pairs."""
    own = pairs.columns.index(column)
    return pairs.items[own], pairs.items[1 - own], pairs.columns[1 - own], pairs


def _headline(metrics: Mapping[str, float], curves: Mapping[str, Any]) -> str:
    name, curve = next((n, c) for n, c in curves.items() if not n.startswith("fgsm"))
    said = ", ".join(
        f"{percent(share)} at {size:g}"
        for size, share in zip(curve["size"][1:], curve["accuracy"][1:], strict=True)
    )
    return (
        f"Of {metrics['pairs']:,.0f} pairs it judges {percent(metrics['accuracy'])} rightly, and "
        f"after the attack {name} {said}."
    )


def _shown(
    embedded: Embedded, pairs: Decisions, attacked: Mapping[str, list[Attacked]]
) -> dict[str, list[Verdict]]:
    """Decisions that an attack turned, each at the smallest change that did."""
    cards: dict[str, list[Verdict]] = {}
    for name, by_size in attacked.items():
        if name.startswith("fgsm"):
            continue
        turned: dict[int, Attacked] = {}
        for found in by_size:
            for pair in found.turned:
                turned.setdefault(pair, found)
        if turned:
            cards[f"Turned by {name}"] = [
                _card(embedded, pairs, pair, found) for pair, found in [*turned.items()][:SHOWN]
            ]
    return cards


def _card(embedded: Embedded, pairs: Decisions, pair: int, found: Attacked) -> Verdict:
    column, other = pairs.column, pairs.others_column[pair]
    own, others = (embedded.values[embedded.towers[c]] for c in (column, other))
    changed = found.turned[pair]
    items = {
        column: own[pairs.items[pair]],
        "attacked": changed if isinstance(changed, str) else from_pixels(changed),
        f"compared with ({other})": others[pairs.others[pair]],
    }
    was, now = ("same", "different") if pairs.same[pair] else ("different", "same")
    return Verdict(
        items,
        said=f"Said {now} at score {found.scores[pair]:.3f}, after a change of {found.size:g}",
        truth=f"before it, {was} at {pairs.scores[pair]:.3f}, with the threshold at "
        f"{pairs.threshold:.3f}",
        score=float(found.scores[pair]),
        row=int(pairs.rows[pair]),
    )
