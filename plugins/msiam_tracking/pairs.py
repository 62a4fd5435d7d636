"""The table that a tracker learns from: pairs of crops round one target."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from pydantic import Field, field_validator

from msiam import Options, errors, open_table, resolve
from msiam_tracking.frames import sequence_of, sequences_of
from msiam_tracking.geometry import SEARCH, centre, crop, search_side

Pair = tuple[Image.Image, Image.Image]


class PairsOptions(Options):
    """The options of track_pairs."""

    videos: str | None = Field(None, description="an archive of sequences with their true boxes")
    without: list[str] = Field([], description="sequences that are left out, to be tracked later")
    gap: int = Field(100, gt=0, description="most frames between the two of a pair")
    partners: int = Field(6, gt=0, description="pairs that each frame of a video begins")
    stills: str | None = Field(None, description="a table with a column `image`")
    still_pairs: int = Field(3000, gt=0, description="how many of its pictures give a pair")
    shift: float = Field(0.03, ge=0, le=0.06, description="most that a still's target moves, of a "
                         "crop's side; the loss takes it for unmoved")  # fmt: skip
    scale: float = Field(0.15, ge=0, lt=1, description="most that a still is enlarged or shrunk")
    blur: float = Field(0.4, ge=0, le=1, description="share of stills that are blurred, as moved")
    light: float = Field(0.4, ge=0, lt=1, description="most change of a still's brightness")
    seed: int = Field(0, description="of all that is drawn")

    @field_validator("without", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class TrackPairs:
    """Rows of two columns, ``exemplar`` and ``search``: crops of 255 × 255 with one target amid.

    Two frames of a video, at most ``gap`` apart, make a pair. A still makes one with itself,
    shifted, scaled, blurred and lit otherwise, round a patch of it that has some contrast: there is
    no box in it, and tracking is asked to follow whatever it is shown.
    """

    Options = PairsOptions

    def __init__(self, options: PairsOptions) -> None:
        self.options = options

    def read(self) -> datasets.Dataset:
        """The rows.

        Raises:
            DataError: neither videos nor stills; a sequence to leave out that is not there.
        """
        options = self.options
        if options.videos is None and options.stills is None:
            raise errors.DataError("track_pairs: give videos, stills or both")
        random = np.random.default_rng(options.seed)
        rows: list[dict[str, Any]] = []
        if options.videos is not None:
            rows += self._of_videos(options.videos, random)
        if options.stills is not None:
            for pair in self._of_stills(options.stills, random):
                rows.append(dict(zip(("exemplar", "search"), map(_encoded, pair), strict=True)))
        picture = datasets.Image(decode=False)
        features = datasets.Features({"exemplar": picture, "search": picture})
        return datasets.Dataset.from_list(rows, features=features)

    def _of_videos(self, videos: str, random: np.random.Generator) -> list[dict[str, Any]]:
        archive, rows = resolve(videos), []
        if not archive.is_file():
            raise errors.DataError(f"{videos}: no such file; track_pairs.videos is an archive")
        names = sequences_of(archive)
        for name in self.options.without:
            if name not in names:
                raise errors.DataError(
                    f"track_pairs.without: no '{name}' in {videos}; {errors.one_of(name, names)}"
                )
        for name in [name for name in names if name not in self.options.without]:
            crops = list(_crops(archive, name))
            for number in range(len(crops) - 1):
                last = min(number + self.options.gap, len(crops) - 1)
                for other in set(random.integers(number + 1, last + 1, self.options.partners)):
                    rows.append({"exemplar": crops[number], "search": crops[int(other)]})
        return rows

    def _of_stills(self, stills: str, random: np.random.Generator) -> Iterator[Pair]:
        table = open_table(stills)
        table.require("image")
        chosen = random.permutation(len(table))[: self.options.still_pairs]
        for row in np.sort(chosen).tolist():
            item = table.dataset[row]["image"]
            try:
                with Image.open(io.BytesIO(item["bytes"]) if item["bytes"] else item["path"]) as it:
                    picture = it.convert("RGB")
            except Exception as error:  # Pillow's readers raise nearly anything on a broken file
                raise errors.DataError(
                    f"{stills}: row {row} (from 0): its picture cannot be read ({error}); mend or "
                    "drop the row"
                ) from error
            yield self._varied(picture, random)

    def _varied(self, picture: Image.Image, random: np.random.Generator) -> Pair:
        """Two crops round one patch of a still, of which the second is varied."""
        options, box = self.options, patch(picture, random)
        side, (x, y) = search_side(*box[2:]), centre(box)
        shift = random.uniform(-options.shift, options.shift, 2) * side
        larger = (1 + options.scale) ** random.uniform(-1, 1)
        first = crop(picture, (x, y), side, SEARCH)
        second = crop(picture, (x + shift[0], y + shift[1]), side * larger, SEARCH)
        if random.random() < options.blur:
            second = second.filter(ImageFilter.BoxBlur(tuple(random.uniform(0, 8, 2))))
        bright = 1 + random.uniform(-options.light, options.light)
        second = ImageEnhance.Brightness(second).enhance(bright)
        return (first, second) if random.random() < 0.5 else (second, first)


def patch(picture: Image.Image, random: np.random.Generator) -> tuple[float, float, float, float]:
    """A box in a still: of four drawn at random, that with the most contrast."""
    grey, least = np.asarray(picture.convert("L"), np.float32), min(picture.size)
    found, best = (0.0, 0.0, float(least), float(least)), -1.0
    for _ in range(4):
        w, h = random.uniform(0.12, 0.3, 2) * least
        x, y = random.uniform(0, picture.width - w), random.uniform(0, picture.height - h)
        contrast = grey[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1].std()
        if contrast > best:
            found, best = (x, y, w, h), float(contrast)
    return found


def _crops(archive: Any, name: str) -> Iterator[dict[str, Any]]:
    """The search region round the target of each frame whose box is known."""
    video = sequence_of(archive, name)
    if video.truth is None:
        raise errors.DataError(f"{video.name}: has no true boxes to cut crops by")
    for box, picture in zip(video.truth.tolist(), video.read(), strict=True):
        if np.isfinite(box).all() and box[2] > 0 and box[3] > 0:
            yield _encoded(crop(picture, centre(box), search_side(*box[2:]), SEARCH))


def _encoded(picture: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return {"bytes": buffer.getvalue(), "path": None}
