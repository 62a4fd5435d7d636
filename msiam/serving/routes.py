"""The calls of the API."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from fastapi import APIRouter, File, Form, Query, Response, UploadFile

from msiam.gallery.searchable import SearchOptions
from msiam.serving.answers import (
    EmbedAnswer,
    GalleryAnswer,
    Health,
    MatchAnswer,
    RecordsAnswer,
    SearchAnswer,
    as_json,
)
from msiam.serving.batching import Batcher
from msiam.serving.items import (
    Count,
    EmbedRequest,
    Filtered,
    MatchRequest,
    Name,
    SearchRequest,
    Where,
    checked_picture,
    checked_vector,
    read_items,
)
from msiam.serving.limits import MOST_QUERIES, MOST_RECORDS, MOST_SIDE, Limits
from msiam.serving.metrics import Metrics
from msiam.serving.pictures import picture_of
from msiam.serving.problems import PROBLEMS, ProblemError
from msiam.serving.service import Embed, Search, Service


def api_routes(
    service: Service, batcher: Batcher[Any, Any], metrics: Metrics, limits: Limits
) -> APIRouter:
    """All of them, over one service."""
    router = APIRouter(responses=PROBLEMS)

    def how(asked: Filtered) -> SearchOptions:
        """The options of the search that are not as they would be anyway."""
        found: SearchOptions = {}
        if asked.where is not None and asked.where.strip():
            found["where"] = asked.where
        if asked.threshold is not None:
            found["threshold"] = asked.threshold
        if asked.group is not None:
            found["group"] = asked.group
        if asked.exact:
            found["exact"] = True
        return found

    async def search(queries: list[Any], asked: Filtered) -> Response:
        job = Search(queries, asked.k, how(asked))
        results = await batcher.submit(job, len(queries))
        return as_json({"results": [{"hits": hits} for hits in results]})

    @router.post("/search", responses={200: {"model": SearchAnswer}})
    async def search_records(asked: SearchRequest) -> Response:
        """The records nearest to each query: a text, a picture, a vector or a record's id."""
        queries: list[Any] = []
        items = iter(read_items((q for q in asked.queries if q.is_item), limits.pixels))
        for number, query in enumerate(asked.queries):
            if query.id is not None:
                queries.append(query.id)
            elif query.vector is not None:
                where = f"#/queries/{number}/vector"
                queries.append(checked_vector(query.vector, service.gallery.dim, where))
            else:
                item = next(items)
                queries.append((service.query_column(item, asked.column), item))
        return await search(queries, asked)

    @router.post("/search/picture", responses={200: {"model": SearchAnswer}})
    async def search_with_a_picture(
        picture: Annotated[UploadFile, File(description="A picture's file.")],
        k: Annotated[Count, Form()] = 10,
        where: Annotated[Where | None, Form()] = None,
        threshold: Annotated[str | None, Form(description="A number, or run.")] = None,
        group: Annotated[Name | None, Form()] = None,
        column: Annotated[Name | None, Form()] = None,
        exact: Annotated[bool, Form(description="Compare with every vector.")] = False,
    ) -> Response:
        """The records nearest to a picture that is sent as a form."""
        raw = await picture.read()
        checked_picture(raw, limits.pixels)
        asked = Filtered(k=k, where=where, group=group, column=column, exact=exact)
        asked.threshold = _number(threshold)
        return await search([(service.query_column(raw, column), raw)], asked)

    @router.post("/match", responses={200: {"model": MatchAnswer}})
    async def match(asked: MatchRequest) -> Response:
        """Whether two items belong together, by the run's threshold."""
        a, b = read_items((asked.a, asked.b), limits.pixels)
        one, other = service.columns_of(a, b)
        left, right = await batcher.submit(Embed([(one, a), (other, b)]), 2)
        return as_json(service.decide(float(left @ right)))

    @router.post("/embed", responses={200: {"model": EmbedAnswer}})
    async def embed(asked: EmbedRequest) -> Response:
        """The embeddings of texts and pictures."""
        items = read_items(asked.items, limits.pixels)
        placed = [(service.column_for(item, None, asked.column), item) for item in items]
        vectors = await batcher.submit(Embed(placed), len(placed))
        columns = [column for column, _ in placed]
        return as_json({"columns": columns, "dim": vectors.shape[1], "vectors": vectors.tolist()})

    @router.get("/records", responses={200: {"model": RecordsAnswer}})
    def records(
        id: Annotated[list[Name] | None, Query(max_length=MOST_QUERIES)] = None,
        offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_RECORDS)] = 50,
    ) -> Response:
        """Records by their ids, or page by page."""
        if id:
            return as_json({"records": service.records_of(id), "total": len(service.gallery)})
        found, total = service.page(offset, limit)
        end = offset + len(found)
        following = end if found and end < total else None
        return as_json({"records": found, "total": total, "next": following})

    @router.get(
        "/pictures",
        response_class=Response,
        responses={200: {"description": "The file.", "content": {"image/*": {}}}},
    )
    def picture(
        id: Name,
        column: Name | None = None,
        side: Annotated[int, Query(ge=16, le=MOST_SIDE)] = MOST_SIDE,
    ) -> Response:
        """The picture of a record; a smaller one, where a side of it is longer than ``side``."""
        column = column or next(iter(service.pictures), "")
        (record,) = service.records_of([id])
        content, media_type = picture_of(
            service.gallery.root, record["record"].get(column), side, limits.pixels
        )
        headers = {"Cache-Control": "private, max-age=60"}
        return Response(content, media_type=media_type, headers=headers)

    @router.get("/gallery", responses={200: {"model": GalleryAnswer}})
    def gallery() -> Response:
        """What is searched, and by what."""
        return as_json(service.describe())

    @router.get("/healthz", responses={200: {"model": Health}})
    async def healthz() -> Response:
        """Whether it works."""
        if not batcher.alive:
            raise ProblemError(503, "the model's thread has ended", {"Retry-After": "5"})
        return as_json({"status": "ok"})

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"description": "Figures.", "content": {"text/plain": {}}}},
    )
    def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _number(text: str | None) -> Any:
    """A threshold as a form has it."""
    if text is None or not text.strip() or text == "run":
        return (text or "").strip() or None
    try:
        return pydantic.TypeAdapter(pydantic.FiniteFloat).validate_python(text)
    except pydantic.ValidationError:
        raise ProblemError(422, "threshold: is neither a number nor 'run'") from None
