"""The sampler that a recipe names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from msiam.data.examples import Examples
from msiam.data.samplers import BatchSampler, NoDuplicates, PerClass, Shuffled
from msiam.data.samplers_by_length import ByLength
from msiam.errors import DataError
from msiam.recipe import Train


def build_sampler(
    settings: Train,
    examples: Examples,
    share: tuple[int, int] = (0, 1),
    lengths: Callable[[], np.ndarray] | None = None,
) -> BatchSampler:
    """The sampler that ``train.sampler`` names.

    Args:
        lengths: makes the length of each row, (n,); for ``by_length`` alone.

    Raises:
        DataError: the rows do not suffice for it, or for so many processes.
    """
    size, seed = settings.batch_size, settings.seed
    if min(size, len(examples)) < share[1]:
        raise DataError(
            f"train.batch_size: a batch of {min(size, len(examples))} of the {len(examples)} "
            f"training rows cannot be shared by {share[1]} processes; start fewer"
        )
    if settings.sampler.name == "no_duplicates":
        return NoDuplicates(examples, size, seed, share)
    if settings.sampler.per_class is not None:
        return PerClass(examples, size, settings.sampler.per_class, seed, share)
    if settings.sampler.name == "by_length":
        assert lengths is not None, "by_length needs the rows' lengths"
        return ByLength(lengths(), size, seed, share)
    return Shuffled(len(examples), size, seed, share)
