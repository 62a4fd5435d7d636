"""The tests that every index backend must pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msiam.errors import GalleryError
from msiam.registry.conformance.common import check_options, require

if TYPE_CHECKING:
    from msiam.gallery.backend import Backend

COUNT, DIM, QUERIES, K = 500, 16, 20, 10


def check_backend(cls: type[Backend], options: Mapping[str, Any] | None = None) -> None:
    """Build, search, save and open on random unit vectors.

    A backend that says it is ``exact`` is compared with brute force; any other must be better
    than chance. One that ``filters`` must find exactly the nearest among any positions, and one
    that ``reconstructs`` must give its vectors back; any other must refuse to.

    Raises:
        AssertionError: the backend breaks the contract; the message says which part of it.
    """
    parsed = check_options(cls, options or {})
    vectors, queries = _unit(COUNT, seed=0), _unit(QUERIES, seed=1)
    index = cls.build(_chunks(vectors), DIM, parsed)
    require(len(index) == COUNT, f"len() is {len(index)} after {COUNT} vectors in chunks")
    require(index.dim == DIM, f"dim is {index.dim} after vectors of width {DIM}")

    found = index.search(queries, K)
    _check_form(*found, k=K)
    _check_nearest(index.exact, vectors, queries, *found)
    _check_form(*index.search(queries, COUNT + 7), k=COUNT + 7)
    _check_form(*index.search(queries[:0], K), k=K, count=0)
    _check_among(index, vectors, queries)
    _check_reconstruct(index, vectors)
    _check_round_trip(cls, index, parsed, queries, found)

    def build_from(*chunks: np.ndarray) -> None:
        cls.build(iter(chunks), DIM, parsed)

    def search(wrong: np.ndarray) -> None:
        index.search(wrong, K)

    _refuses("no vectors at all", build_from)
    for what, wrong in {"narrow": vectors[:, :-1], "NaN": np.full_like(vectors, np.nan)}.items():
        _refuses(f"vectors to build from ({what})", build_from, vectors, wrong)
        _refuses(f"queries ({what})", search, wrong)


def _check_form(
    scores: np.ndarray, positions: np.ndarray, k: int, count: int = QUERIES, some: bool = True
) -> None:
    for name, array, dtype in (("scores", scores, "float32"), ("positions", positions, "int64")):
        right = array.shape == (count, k) and array.dtype == dtype
        require(right, f"{name} are {array.shape} {array.dtype}, not ({count}, {k}) {dtype}")
    require(bool((scores[:, :-1] >= scores[:, 1:]).all()), "scores do not descend")
    none = positions == -1
    require(bool(((positions >= 0) & (positions < COUNT) | none).all()), "positions out of range")
    require(bool((np.isneginf(scores) == none).all()), "score -inf and position -1 must coincide")
    for row in positions:
        kept = row[row >= 0]
        require(len(np.unique(kept)) == len(kept), "a position is there twice for one query")
    if count and some:
        require(not none[:, 0].any(), "nothing at all is found for a query")


def _check_nearest(
    exact: bool,
    vectors: np.ndarray,
    queries: np.ndarray,
    scores: np.ndarray,
    positions: np.ndarray,
) -> None:
    products = queries @ vectors.T
    best = np.argsort(-products, axis=1)[:, :K]
    if exact:
        true = np.take_along_axis(products, best, axis=1)
        require(np.allclose(scores, true, atol=1e-5), "an exact backend misses the best scores")
        require(bool((positions == best).all()), "an exact backend names other positions")
    shared = [len(np.intersect1d(p, b)) for p, b in zip(positions, best, strict=True)]
    recall = sum(shared) / best.size
    require(recall > 5 * K / COUNT, f"recall@{K} is {recall:.2f}, which is hardly more than chance")


def _check_among(index: Backend, vectors: np.ndarray, queries: np.ndarray) -> None:
    """Half of the positions, a few, one, none."""
    order = np.random.default_rng(2).permutation(COUNT)
    if not index.filters:
        mask = np.ones(COUNT, dtype=bool)
        _refuses("among, without filters", lambda: index.search(queries, K, among=mask))
        return
    for count in (COUNT // 2, 3 * K, 1, 0):
        mask = np.zeros(COUNT, dtype=bool)
        mask[order[:count]] = True
        scores, positions = index.search(queries, K, among=mask)
        _check_form(scores, positions, k=K, some=count > 0)
        require(bool(mask[positions[positions >= 0]].all()), "finds what is not among")
        products = np.where(mask, queries @ vectors.T, -np.inf).astype(np.float32)
        true = -np.sort(-products, axis=1)[:, :K]
        require(np.allclose(scores, true, atol=1e-5), f"misses the best among {count} positions")
    wrong = np.ones(COUNT - 1, dtype=bool)
    _refuses("among (short)", lambda: index.search(queries, K, among=wrong))


def _check_reconstruct(index: Backend, vectors: np.ndarray) -> None:
    """Some in any order, one of them twice; all; none."""
    some = np.array([COUNT - 1, 3, 3, 77])
    if not index.reconstructs:
        _refuses("reconstruct, which it says it does not", index.reconstruct, some)
        return
    for positions in (some, np.arange(COUNT), some[:0]):
        found = index.reconstruct(positions)
        right = found.shape == (len(positions), DIM) and found.dtype == np.float32
        require(right, f"reconstruct gives {found.shape} {found.dtype}")
        require(np.array_equal(found, vectors[positions]), "reconstructs other vectors")


def _check_round_trip(
    cls: type[Backend],
    index: Backend,
    options: Any,
    queries: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index.save(path)
        require(path.is_file(), "save() wrote no file where it was told to")
        again = cls.open(path, options)
        same = (len(again), again.dim, again.exact) == (len(index), index.dim, index.exact)
        same = same and (again.filters, again.reconstructs) == (index.filters, index.reconstructs)
        require(same, "len(), dim, exact, filters or reconstructs differ after save and open")
        for before, after in zip(found, again.search(queries, K), strict=True):
            require(np.array_equal(before, after), "finds something else after save and open")
        _check_reconstruct(again, _unit(COUNT, seed=0))
        cls.discard(path)
        path.unlink()
        cls.discard(path)
        try:
            cls.open(path, options)
        except FileNotFoundError:
            return
        except Exception as error:
            raise AssertionError(f"a missing file: {type(error).__name__}: {error}") from error
    raise AssertionError("a missing file is opened; FileNotFoundError is right")


def _refuses(what: str, action: Callable[..., object], *arguments: np.ndarray) -> None:
    """Require one clear line about what is wrong: a GalleryError."""
    try:
        action(*arguments)
    except GalleryError as error:
        require(bool(str(error)) and "\n" not in str(error), f"{what}: the error is not one line")
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__} instead of GalleryError") from error
    else:
        raise AssertionError(f"{what}: accepted; GalleryError is right")


def _unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _chunks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    yield vectors[:1]
    yield vectors[1:300]
    yield vectors[300:]
