"""Helpers that keep nothing: one of each serves all tests, hypothesis's many examples as well."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from msiam.losses import tiles
from msiam.losses.base import Targets
from msiam.registry.options import parse_options


@pytest.fixture(scope="session")
def make() -> Callable:
    """A loss with the options of a recipe: ``make(Contrastive, margin=0.5)``."""

    def make(cls, **options):
        return cls(parse_options(cls, options, "loss"))

    return make


@pytest.fixture(scope="session")
def unit() -> Callable[..., Tensor]:
    """Random vectors of length 1, (rows, width), in float64 unless told otherwise."""

    def unit(rows: int, width: int = 6, seed: int = 0, dtype=torch.float64) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        vectors = torch.randn(rows, width, generator=random, dtype=torch.float64)
        return torch.nn.functional.normalize(vectors, dim=1).to(dtype)

    return unit


@pytest.fixture(scope="session")
def targets() -> Callable[..., Targets]:
    """Targets of two columns "a" and "b".

    Every row is a group of its own, unless ``groups`` says otherwise. A row that is not the same
    has a partner of a group that nobody else is in.
    """

    def targets(rows: int, groups=None, same=None) -> Targets:
        of_a = torch.arange(rows) if groups is None else torch.tensor(groups)
        of_b = of_a.clone()
        if same is not None:
            same = torch.tensor(same, dtype=torch.bool)
            of_b[~same] = 1000 + torch.arange(rows)[~same]
        return Targets({"a": of_a, "b": of_b}, same)

    return targets


@pytest.fixture(scope="session")
def value_and_gradients() -> Callable:
    """A loss's value and its gradients: ``value_and_gradients(function, a, b, …)``."""

    def run(function, *vectors: Tensor) -> tuple[Tensor, list[Tensor]]:
        leaves = [vector.detach().clone().requires_grad_() for vector in vectors]
        value = function(*leaves)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
        filled = [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]
        return value.detach(), filled

    return run


@pytest.fixture(scope="session")
def agree(value_and_gradients) -> Callable:
    """Whether a loss in float32 is its float64 reference, in value and gradient, to 1e-5.

    Which pairs are hard may hang on the last digit; such losses are compared in float64 as well.
    """

    def agree(loss, reference, *vectors: Tensor, dtype=torch.float32) -> None:
        right, slopes = value_and_gradients(reference, *(v.double() for v in vectors))
        value, gradients = value_and_gradients(loss, *(v.to(dtype) for v in vectors))
        assert value.shape == ()
        torch.testing.assert_close(value.double(), right, rtol=1e-5, atol=1e-5)
        for gradient, slope in zip(gradients, slopes, strict=True):
            torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=1e-5)

    return agree


@pytest.fixture(scope="session")
def any_batch(unit, targets) -> Callable:
    """Targets and vectors as hypothesis draws them, walked in blocks of a size that it draws.

    Of two columns "a" and "b" unless told otherwise; of two, rows may be labelled.
    """

    @contextlib.contextmanager
    def any_batch(data, columns: int = 2, labelled: bool | None = None) -> Iterator[Any]:
        rows, width = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 5))

        def of_each(what):
            return data.draw(st.lists(what, min_size=rows, max_size=rows))

        groups = of_each(st.integers(0, 3))
        if columns == 1:
            given = Targets({"a": torch.tensor(groups)})
        else:
            told = data.draw(st.booleans()) if labelled is None else labelled
            given = targets(rows, groups, of_each(st.booleans()) if told else None)
        seed = data.draw(st.integers(0, 99))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "TILE", data.draw(st.integers(1, 80)))
            yield given, [unit(rows, width, seed + place) for place in range(columns)]

    return any_batch


@pytest.fixture(scope="session")
def of_one_tower() -> Callable:
    """A loss as a function of five items, of which several stand in more than one of its columns.

    ``of_one_tower(loss, 2)`` for two columns of 7 rows.
    """
    places = [[0, 1, 2, 0, 4, 3, 0], [1, 4, 3, 1, 1, 2, 2], [3, 3, 0, 2, 0, 1, 4]]
    places.append([2, 0, 1, 4, 3, 0, 1])

    def of_one_tower(loss, columns: int) -> Callable:
        return lambda items: loss(*(items[place] for place in places[:columns]))

    return of_one_tower


@pytest.fixture(scope="session")
def learnt() -> Callable:
    """A loss with a vector of each class, as a function of its columns and of those vectors."""

    def learnt(module, classes, groups):
        module.begin(torch.tensor(classes), 6)
        of_rows = torch.tensor(groups, dtype=torch.long)

        def run(*vectors: Tensor) -> Tensor:
            *columns, weights = vectors
            embeddings = dict(zip("abc", columns, strict=False))
            targets = Targets(dict.fromkeys(embeddings, of_rows))
            return torch.func.functional_call(module, {"weights": weights}, (embeddings, targets))

        return run

    return learnt
