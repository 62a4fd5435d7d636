"""Queries and items as they come over HTTP, checked: nothing here names a file of the server."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar

import numpy as np
import pydantic
from PIL import Image

from msiam.serving.limits import (
    LONGEST_FILTER,
    LONGEST_NAME,
    LONGEST_TEXT,
    MOST_HITS,
    MOST_HITS_TOGETHER,
    MOST_QUERIES,
    WIDEST,
)
from msiam.serving.problems import ProblemError

#: What Pillow reads itself; some of its other readers start programs, as for PostScript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")

_M = TypeVar("_M", bound=pydantic.BaseModel)


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair stands in it") from None
    return text


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return _whole(text)


Text = Annotated[
    str,
    pydantic.Field(min_length=1, max_length=LONGEST_TEXT, pattern=r"\S"),
    pydantic.AfterValidator(_said),
]
Name = Annotated[
    str, pydantic.Field(min_length=1, max_length=LONGEST_NAME), pydantic.AfterValidator(_whole)
]
Where = Annotated[str, pydantic.Field(max_length=LONGEST_FILTER), pydantic.AfterValidator(_whole)]
Count = Annotated[int, pydantic.Field(ge=1, le=MOST_HITS)]
Threshold = pydantic.FiniteFloat | Literal["run"]


class Strict(pydantic.BaseModel):
    """What a client sends: no unknown keys, no "10" for 10."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class Item(Strict):
    """A text, or a picture's file in base64: one of the two."""

    text: Text | None = None
    picture: Annotated[str, pydantic.Field(min_length=1)] | None = None

    @pydantic.model_validator(mode="after")
    def _one(self) -> Item:
        return only_one(self, "text", "picture")

    def raw(self) -> bytes | None:
        """The picture's bytes, if it is one.

        Raises:
            ProblemError: 422, it is not base64.
        """
        if self.picture is None:
            return None
        try:
            return base64.b64decode(self.picture, validate=True)
        except (binascii.Error, ValueError):
            raise ProblemError(422, "picture: is not base64 of a picture's file") from None


class Query(Item):
    """What to search for: a text, a picture in base64, a vector, or a record's id."""

    vector: Annotated[list[pydantic.FiniteFloat], pydantic.Field(max_length=WIDEST)] | None = None
    id: Name | None = None

    @property
    def is_item(self) -> bool:
        return self.text is not None or self.picture is not None

    @pydantic.model_validator(mode="after")
    def _one(self) -> Query:
        return only_one(self, "text", "picture", "vector", "id")


class Filtered(Strict):
    """How to search."""

    k: Count = pydantic.Field(10, description="How many hits a query.")
    where: Where | None = pydantic.Field(
        None, description="Only such records: price < 50 and colour = 'Blue'."
    )
    threshold: Threshold | None = pydantic.Field(
        None, description="Only hits from this score on; 'run': from the run's own threshold on."
    )
    group: Name | None = pydantic.Field(
        None, description="A column of the records: only the best hit of each of its values."
    )
    column: Name | None = pydantic.Field(
        None, description="The model's column that reads the queries."
    )
    exact: bool = pydantic.Field(False, description="Compare with every vector.")


class SearchRequest(Filtered):
    """Queries, and how to search."""

    queries: Annotated[list[Query], pydantic.Field(min_length=1, max_length=MOST_QUERIES)]

    @pydantic.model_validator(mode="after")
    def _not_too_many(self) -> SearchRequest:
        if self.k * len(self.queries) > MOST_HITS_TOGETHER:
            raise ValueError(
                f"{len(self.queries)} queries of {self.k} hits; a request may have "
                f"{MOST_HITS_TOGETHER:,} together"
            )
        return self


class MatchRequest(Strict):
    """Two items."""

    a: Item
    b: Item


class EmbedRequest(Strict):
    """Items, and the model's column that reads them."""

    items: Annotated[list[Item], pydantic.Field(min_length=1, max_length=MOST_QUERIES)]
    column: Name | None = None


def only_one(model: _M, *names: str) -> _M:
    """The model, if just one of these is given.

    Raises:
        ValueError: none is, or several.
    """
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise ValueError(f"found {found} of {', '.join(names)}; give one of them")
    return model


def read_items(sent: Iterable[Item], most_pixels: int) -> list[str | bytes]:
    """What towers read of each item: the text, or the picture's bytes.

    Args:
        most_pixels: of all pictures together, since the model's thread decodes one after another.

    Raises:
        ProblemError: as ``checked_picture``; 422, a picture is not base64.
    """
    found: list[str | bytes] = []
    room = most_pixels
    for item in sent:
        raw = item.raw()
        if raw is not None:
            room -= checked_picture(raw, room)
        found.append(raw if raw is not None else item.text or "")
    return found


def checked_picture(raw: bytes, most_pixels: int) -> int:
    """How many pixels a picture has, by its file's header.

    Raises:
        ProblemError: 422, it is no picture; 413, it has too many.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise ProblemError(413, f"picture: more than {most_pixels:,} pixels") from None
    except Exception:  # Pillow's readers raise nearly anything on a broken file
        raise ProblemError(422, f"picture: is none ({', '.join(FORMATS)})") from None
    if width * height > most_pixels:
        detail = f"picture: {width:,} × {height:,} pixels; {most_pixels:,} may be, in one request"
        raise ProblemError(413, detail)
    return width * height


def checked_vector(values: list[float], dim: int, where: str) -> np.ndarray:
    """A vector, (dim,) float32, that a gallery can search with.

    Raises:
        ProblemError: 422, another width, zero, or beyond what float32 holds.
    """
    if len(values) != dim:
        raise ProblemError(422, f"{where}: has {len(values)} numbers; the gallery's have {dim}")
    with np.errstate(over="ignore"):
        vector = np.asarray(values, dtype=np.float32)
    if not np.isfinite(vector).all():
        raise ProblemError(422, f"{where}: holds a number beyond what float32 holds")
    if not vector.any():
        raise ProblemError(422, f"{where}: is zero, which is equally far from everything")
    return vector
