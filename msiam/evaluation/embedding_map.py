"""Where held-out items lie among each other, flattened to two dimensions, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from msiam.data.examples import Examples
from msiam.evaluation.evaluator import Embedded, percent

CLASSES = 8  # as many as colours can be told apart


@dataclass(frozen=True)
class Point:
    """An item on the map.

    Attributes:
        x, y: where, from 0 to 1.
        kind: its place in ``EmbeddingMap.kinds``.
        false: it only claims to be of that class.
    """

    item: Any
    x: float
    y: float
    kind: int
    false: bool = False


@dataclass(frozen=True)
class EmbeddingMap:
    """Held-out items, with what belongs together.

    Attributes:
        kinds: what each colour stands for: classes, or else columns.
        lines: two places in ``points`` each, and whether the pair belongs together.
        caption: what is drawn, and how.
    """

    points: list[Point]
    kinds: list[str]
    lines: list[tuple[int, int, bool]]
    caption: str

    @property
    def claims(self) -> bool:
        """Whether an item here only claims to be of its class."""
        return any(point.false for point in self.points)


def embedding_map(
    embedded: Embedded,
    values: Mapping[str, Sequence[Any]],
    classes: Sequence[str] = (),
    most: int = 160,
) -> EmbeddingMap | None:
    """A map of about ``most`` items: of a few classes where there are any, else of rows.

    They are projected to the two directions in which they vary most (PCA), or by UMAP where
    ``umap-learn`` is installed. Both see the items drawn alone.

    Args:
        values: by tower, its raw items by number.
        classes: their names by number.

    Returns:
        None where there are too few items, or vectors of several widths.

    Papers: Pearson, On lines and planes of closest fit, 1901; McInnes, Healy and Melville, UMAP:
    Uniform Manifold Approximation and Projection for Dimension Reduction, 2018.
    """
    examples, towers = embedded.examples, embedded.towers
    rng = np.random.default_rng(0)
    if examples.classed:
        rows, kinds = _of_classes(examples, classes, most, rng)
    else:
        rows, kinds = _of_rows(examples, most, rng), []
    places: dict[tuple[str, int], int] = {}
    found: list[tuple[str, int, int, bool]] = []  # tower, number, kind, whether it only claims
    lines = set()
    columns = list(examples.columns)
    by_column = not examples.classed and len({towers[c] for c in columns}) > 1
    for row, kind in rows:
        at = []
        for number, column in enumerate(columns):
            key = towers[column], int(examples.columns[column][row])
            if key not in places:
                places[key] = len(found)
                claims = examples.claims is not None and (
                    examples.claims[row] != examples.groups[column][row]
                )
                found.append((*key, number if by_column else kind, bool(claims)))
            at.append(places[key])
        if not examples.classed:
            same = examples.same is None or bool(examples.same[row])
            lines |= {(one, two, same) for one, two in pairwise(at)}
    vectors = [embedded.vectors[tower][number] for tower, number, *_ in found]
    if len(vectors) < 4 or len({len(vector) for vector in vectors}) > 1:
        return None
    flat, how = _flat(np.stack(vectors))
    points = [
        Point(values[tower][number], float(x), float(y), kind, false)
        for (tower, number, kind, false), (x, y) in zip(found, flat, strict=True)
    ]
    drawn = f"{len(points)} held-out items" + (f" of {len(kinds)} classes" if kinds else "")
    caption = f"{drawn}, drawn at random. {how}"
    return EmbeddingMap(points, columns if by_column else kinds, sorted(lines), caption)


Rows = list[tuple[int, int]]


def _of_classes(
    examples: Examples, names: Sequence[str], most: int, rng: np.random.Generator
) -> tuple[Rows, list[str]]:
    """Rows of a few classes that have some, each with its class's place among those."""
    column = next(iter(examples.columns))
    of = examples.groups[column] if examples.claims is None else examples.claims
    numbers, counts = np.unique(of, return_counts=True)
    able = numbers[counts > 1] if (counts > 1).any() else numbers
    chosen = np.sort(rng.choice(able, min(CLASSES, len(able)), replace=False))
    rows: Rows = []
    for kind, number in enumerate(chosen):
        inside = rng.permutation(np.flatnonzero(of == number))[: most // len(chosen)]
        rows += [(int(row), kind) for row in inside]
    return rows, [names[n] if n < len(names) else f"class {n}" for n in chosen]


def _of_rows(examples: Examples, most: int, rng: np.random.Generator) -> Rows:
    """Rows at random; of labelled ones, equally many that belong together and that do not."""
    every = rng.permutation(len(examples))
    count = most // max(2, len(examples.columns))
    if examples.same is not None:
        same = examples.same[every]
        half = count // 2
        every = np.concatenate([every[same][:half], every[~same][:half]])
    return [(int(row), 0) for row in every[:count]]


def _flat(vectors: np.ndarray) -> tuple[np.ndarray, str]:
    """Vectors (n, D) as places (n, 2) from 0 to 1, and how that was done, in a sentence."""
    width = vectors.shape[1]
    try:
        from umap import UMAP
    except ImportError:
        flat, share = _pca(vectors)
        how = f"The two directions in which they vary most (PCA) hold {percent(share)} of that"
    else:
        near = min(15, len(vectors) - 1)
        made = UMAP(n_neighbors=near, metric="cosine", random_state=0, n_jobs=1)
        flat, how = np.asarray(made.fit_transform(vectors)), "By UMAP, which keeps neighbours"
    low, high = flat.min(axis=0), flat.max(axis=0)
    flat = (flat - low) / np.maximum(high - low, 1e-12)
    return flat, f"{how}; what is near here need not be near in all {width} dimensions."


def _pca(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """(n, 2) along the first two principal axes, and the share of the variance along them."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    left, scale, axes = np.linalg.svd(centred, full_matrices=False)
    if len(axes) == 1:
        left, scale = np.c_[left, np.zeros(len(left))], np.r_[scale, 0.0]
        axes = np.r_[axes, axes]
    # An axis has no sign of its own: its largest weight shall be positive.
    sign = np.sign(axes[range(2), np.abs(axes[:2]).argmax(axis=1)])
    whole = float((scale**2).sum())
    return left[:, :2] * scale[:2] * sign, float((scale[:2] ** 2).sum()) / whole if whole else 0.0
