"""Whether the exemplar is found where it is, in held-out pairs of crops."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field

from msiam import Embedded, Evaluator, Options, Result, errors
from msiam_tracking.loss import as_maps, correlate, middle, offsets

CHUNK = 64


class FoundOptions(Options):
    """The options of found."""

    radius: float = Field(16, gt=0, description="how far from the middle, in pixels, is found")


class Found(Evaluator):
    """The share of pairs whose score map is highest within ``radius`` of the target.

    The target is in the middle of both crops, which the network cannot know: it pads nothing, and
    sees all places alike. ``chance`` is the share of places that are as near.
    """

    Options = FoundOptions
    primary = "found"

    def evaluate(self, embedded: Embedded, calibration: Any) -> Result:
        """Measure pairs.

        Raises:
            DataError: these are no pairs of two columns.
        """
        columns = list(embedded.examples.columns)
        if len(columns) != 2:
            raise errors.DataError(
                f"evaluate.name: found looks for one column's target in another's; there are "
                f"{len(columns)} columns ({', '.join(columns)})"
            )
        one, other = (torch.from_numpy(embedded.rows(column)) for column in columns)
        near = (offsets() <= self.options.radius).flatten()
        hits = [
            near[correlate(middle(as_maps(a)), as_maps(b)).flatten(1).argmax(1)]
            for a, b in zip(one.split(CHUNK), other.split(CHUNK), strict=True)
        ]
        hit = torch.cat(hits).double()
        low, high = wilson(float(hit.mean()), len(hit))
        chance = float(near.double().mean())
        share = float(hit.mean())
        return Result(
            {"found": share, "found/low": low, "found/high": high, "chance/found": chance},
            headline=f"The target is found in {100 * share:.1f} % of {len(hit)} held-out pairs "
            f"(by chance {100 * chance:.1f} %).",
        )


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The ends of Wilson's 95 % interval of a share of ``count``."""
    middle_of = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / count) ** 2 / 4)
    return max(0.0, middle_of - half), min(1.0, middle_of + half)
