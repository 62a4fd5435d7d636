"""Whether the exemplar is found where it is, in held-out pairs of crops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from msiam import Embedded, Evaluator, Options, Result, Verdict, errors, wilson_interval
from msiam_tracking.geometry import EXEMPLAR, SCORES, SEARCH, STRIDE
from msiam_tracking.loss import as_maps, correlate, middle, offsets
from msiam_tracking.overlay import boxed

CHUNK = 64
SHOWN = 6  # pairs in the report


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
        best = torch.cat(
            [
                correlate(middle(as_maps(a)), as_maps(b)).flatten(1).argmax(1)
                for a, b in zip(one.split(CHUNK), other.split(CHUNK), strict=True)
            ]
        )
        hit = near[best].double()
        low, high = wilson_interval(float(hit.mean()), len(hit))
        chance = float(near.double().mean())
        share = float(hit.mean())
        return Result(
            {"found": share, "found/low": low, "found/high": high, "chance/found": chance},
            headline=f"The target is found in {100 * share:.1f} % of {len(hit)} held-out pairs "
            f"(by chance {100 * chance:.1f} %).",
            shown=_shown(embedded, best, hit > 0),
        )


def _shown(embedded: Embedded, best: Tensor, hit: Tensor) -> dict[str, list[Verdict]]:
    """The first pairs as crops, with the place that was found and the true one."""
    columns = list(embedded.examples.columns)
    if any(embedded.towers[column] not in embedded.features for column in columns):
        return {}
    verdicts = []
    for row in range(min(SHOWN, len(best))):
        crops = [
            np.asarray(embedded.features[embedded.towers[c]][embedded.examples.columns[c][row]])
            for c in columns
        ]
        down, across = divmod(int(best[row]), SCORES)
        dy, dx = ((place - SCORES // 2) * STRIDE for place in (down, across))
        start = (SEARCH - EXEMPLAR) // 2
        items = {
            columns[0]: Image.fromarray(
                crops[0][start : start + EXEMPLAR, start : start + EXEMPLAR]
            ),
            columns[1]: boxed(Image.fromarray(crops[1]), _square(dx, dy), _square(0, 0)),
        }
        verdicts.append(
            Verdict(
                items,
                said=f"Found {math.hypot(dx, dy):.0f} pixels from the middle (red)",
                truth="the target is there (green)",
                row=int(embedded.examples.rows[row]),
                right=bool(hit[row]),
            )
        )
    return {"Sample crops": verdicts}


def _square(dx: float, dy: float) -> tuple[float, float, float, float]:
    """x, y, w, h of a target that is so far from the middle: half as wide as an exemplar."""
    side, middle_of = EXEMPLAR / 2, SEARCH / 2
    return middle_of + dx - side / 2, middle_of + dy - side / 2, side, side
