"""Pairs under attack: their scores after the worst change of one item, size by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args

import numpy as np
import pydantic
import torch
from torch import Tensor

from msiam.evaluation.attacks import Gain, Worst, fgsm, pgd
from msiam.evaluation.swaps import Changes, Synonyms, greedy, typos, words_of
from msiam.recipe import Norm
from msiam.registry.options import Options
from msiam.towers.embedding import embed_items
from msiam.towers.inference import How, for_inference
from msiam.towers.perturbing import Ball, continuous_input
from msiam.towers.tower import Tower

Sizes = Annotated[
    tuple[pydantic.NonNegativeFloat, ...], pydantic.AfterValidator(lambda v: tuple(sorted(set(v))))
]
SHOWN = 4  # attacked pairs in the report, of each attack
TOGETHER = 64  # pairs attacked at once
PLAIN = How(optimize=False)  # gradients go through the layers as they are


class AdversarialOptions(Options):
    """How the attacker may change one item of each pair, and how hard it tries."""

    column: str | None = pydantic.Field(None, description="whose items; the first column's")
    linf: Sizes = pydantic.Field(
        (1, 2, 4, 8), description="most that each value may change; of pictures, in 255ths"
    )
    l2: Sizes = pydantic.Field(
        (64, 128, 256), description="greatest length of the change, in the same units"
    )
    steps: int = pydantic.Field(20, gt=0, description="of PGD")
    swaps: int = pydantic.Field(3, gt=0, description="of texts: most changes of a text")
    tries: int = pydantic.Field(32, gt=0, description="changes of a text tried for each of them")
    synonyms: int = pydantic.Field(8, gt=0, description="words that count as near a word")
    pairs: int = pydantic.Field(500, gt=0, description="most that are attacked, drawn at random")
    seed: int = 0

    @pydantic.model_validator(mode="after")
    def _some_size(self) -> AdversarialOptions:
        if not self.linf and not self.l2:
            raise ValueError("linf and l2 are both empty; give one of them a size")
        return self


@dataclass
class Decisions:
    """The pairs attacked: whose item, what is right, and the score from which a pair is the same.

    Attributes:
        column: of the items attacked.
        items: (n,) the numbers of the items attacked.
        others: (n,) those of the items they are compared with.
        others_column: (n,) the column of each of these.
        rows: (n,) row numbers in the table.
        same: (n,) bool.
        scores: (n,) before the attack.
        threshold: of the score.
    """

    column: str
    items: np.ndarray
    others: np.ndarray
    others_column: list[str]
    rows: np.ndarray
    same: np.ndarray
    scores: np.ndarray
    threshold: float

    def __len__(self) -> int:
        return len(self.same)

    @property
    def signs(self) -> np.ndarray:
        """(n,): what the attacker wants of the score, 1 for more of it and −1 for less."""
        return np.where(self.same, -1.0, 1.0)

    def turned(self, scores: np.ndarray, start: int = 0) -> np.ndarray:
        """The pairs from ``start`` on that were judged rightly, and are not at these scores."""
        part = slice(start, start + len(scores))
        return start + np.flatnonzero(self.right(self.scores)[part] & ~self.right(scores, part))

    def right(self, scores: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        """(n,) bool: which decisions are right at these scores, of all pairs or some of them."""
        return (scores >= self.threshold) == self.same[part]


@dataclass
class Attacked:
    """What an attack of one size came to.

    Attributes:
        size: how much may change.
        scores: (n,) of the pairs after it.
        turned: of up to SHOWN pairs whose decision it turned, the changed item: a text, or an
            array like a feature.
    """

    size: float
    scores: np.ndarray
    turned: dict[int, Any] = field(default_factory=dict)


def attack_inputs(
    tower: Tower,
    features: Sequence[np.ndarray],
    against: np.ndarray,
    pairs: Decisions,
    options: AdversarialOptions,
) -> dict[str, list[Attacked]]:
    """FGSM and PGD on each feature, by norm (``fgsm_linf``, ``pgd_linf`` …) and ascending size.

    Args:
        features: n, of the items attacked.
        against: (n, D), what each is compared with.

    Raises:
        RecipeError: nothing of the encoder's input is continuous.
    """
    changed = continuous_input(tower, "evaluate (adversarial)")
    device = next(tower.parameters()).device
    generator = torch.Generator().manual_seed(options.seed)
    sizes: dict[Norm, Sequence[float]] = {norm: getattr(options, norm) for norm in get_args(Norm)}
    found = {
        f"{attack}_{norm}": [Attacked(size, np.empty(len(pairs))) for size in sizes[norm]]
        for norm in sizes
        for attack in ("fgsm", "pgd")
        if sizes[norm]
    }
    with for_inference(tower, PLAIN):
        for start in range(0, len(pairs), TOGETHER):
            part = slice(start, start + TOGETHER)
            batch = tower.encoder.collate(features[part])
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            gain = _gain(tower, batch, changed.tensor, against[part], pairs.signs[part])
            centre = batch[changed.tensor].float()
            with torch.no_grad():
                clean = Worst(centre, gain(centre))
            for norm in sizes:
                once, often = clean, clean
                for place, size in enumerate(sizes[norm]):
                    ball = Ball(norm, size, centre, changed.low, changed.high)
                    once = fgsm(gain, ball, once)
                    often = often.copy()
                    often.see(once.points, once.gain)
                    often = pgd(gain, ball, often, options.steps, generator)
                    _keep(found[f"fgsm_{norm}"][place], once, pairs, start)
                    _keep(found[f"pgd_{norm}"][place], often, pairs, start)
    return found


def _gain(
    tower: Tower, batch: Mapping[str, Tensor], name: str, against: np.ndarray, signs: np.ndarray
) -> Gain:
    """Changed inputs (B, …) to how far they move the scores to the wrong side, (B,)."""
    others = torch.from_numpy(against).to(batch[name].device)
    wanted = torch.from_numpy(signs).to(others)

    def gain(points: Tensor) -> Tensor:
        return wanted * (tower({**batch, name: points}).float() * others).sum(1)

    return gain


def _keep(attacked: Attacked, worst: Worst, pairs: Decisions, start: int) -> None:
    """The scores of some pairs, and a few of the points that turned their decisions."""
    part = slice(start, start + len(worst.gain))
    scores = pairs.signs[part] * worst.gain.double().cpu().numpy()
    attacked.scores[part] = scores
    for pair in pairs.turned(scores, start)[: SHOWN - len(attacked.turned)].tolist():
        attacked.turned[pair] = worst.points[pair - start].cpu().numpy()


def attack_texts(
    tower: Tower,
    texts: Sequence[str],
    against: np.ndarray,
    pairs: Decisions,
    options: AdversarialOptions,
) -> dict[str, list[Attacked]]:
    """Letters and words of each text swapped, by kind (``typos``, ``synonyms``) and their number.

    Words are near each other as the tower embeds them alone.
    """

    def gain(candidates: list[str], owners: np.ndarray) -> np.ndarray:
        vectors, rejected = embed_items(tower, candidates)
        gains = np.full(len(candidates), -np.inf)
        read = np.setdiff1d(np.arange(len(candidates)), [number for number, _ in rejected])
        scores = np.einsum("nd,nd->n", vectors, against[owners[read]], dtype=np.float64)
        gains[read] = pairs.signs[owners[read]] * scores
        return gains

    found: dict[str, list[Attacked]] = {}
    kinds: dict[str, Changes] = {
        "typos": typos,
        "synonyms": _synonyms(tower, texts, options),
    }
    for name, changes in kinds.items():
        before = pairs.signs * pairs.scores
        steps = greedy(gain, texts, before, changes, options.swaps, options.tries, options.seed)
        found[name] = []
        for swaps, (swapped, gains) in enumerate(steps, start=1):
            scores = pairs.signs * gains
            some = pairs.turned(scores)[:SHOWN].tolist()
            found[name].append(Attacked(swaps, scores, {pair: swapped[pair] for pair in some}))
    return found


def _synonyms(tower: Tower, texts: Sequence[str], options: AdversarialOptions) -> Synonyms:
    """Of the texts' words, those that the tower embeds alike; not those that it cannot read."""
    words = words_of(texts)
    vectors, rejected = embed_items(tower, words)
    for number, _ in reversed(rejected):
        del words[number]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return Synonyms(words, vectors / np.maximum(lengths, 1e-30), options.synonyms)
