"""What the API answers: these are in the OpenAPI schema."""

from __future__ import annotations

from typing import Any

import pydantic
import pydantic_core
from fastapi import Response


class Record(pydantic.BaseModel):
    """A record of the gallery, its columns as the table had them."""

    id: str
    record: dict[str, Any]


class FoundRecord(Record):
    """A record that a search found."""

    score: float = pydantic.Field(description="The inner product with the query; a cosine mostly.")


class Found(pydantic.BaseModel):
    """The hits of one query, the best first."""

    hits: list[FoundRecord]


class SearchAnswer(pydantic.BaseModel):
    """The hits of each query, in the order of the queries."""

    results: list[Found]


class MatchAnswer(pydantic.BaseModel):
    """Whether two items belong together, by the run's threshold."""

    similarity: float
    same: bool
    decision: str = pydantic.Field(description="What the run calls it: same, different, genuine…")
    probability: float
    threshold: float


class EmbedAnswer(pydantic.BaseModel):
    """The embedding of each item, and the model's column that read it."""

    columns: list[str]
    dim: int
    vectors: list[list[float]]


class RecordsAnswer(pydantic.BaseModel):
    """Records, and where the next page begins."""

    records: list[Record]
    total: int
    next: int | None = None


class GalleryAnswer(pydantic.BaseModel):
    """What is searched, and by what."""

    records: int
    column: str
    columns: list[str] = pydantic.Field(description="The columns of the records.")
    pictures: list[str] = pydantic.Field(description="Those of them with pictures.")
    texts: list[str] = pydantic.Field(description="Those with texts that the model reads.")
    queries: list[str] = pydantic.Field(description="What a query may be: text, picture.")
    threshold: float | None = pydantic.Field(description="The run's, if it has one.")


class Health(pydantic.BaseModel):
    status: str


def as_json(content: object) -> Response:
    """JSON of dataclasses, dates and the like. A number that JSON has not is null."""
    body = pydantic_core.to_json(content, inf_nan_mode="null", bytes_mode="base64", fallback=str)
    return Response(body, media_type="application/json")
