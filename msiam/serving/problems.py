"""What goes wrong, as problem documents (RFC 9457)."""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Fault(pydantic.BaseModel):
    """One part of a request that is not right."""

    pointer: str = pydantic.Field(description="Where it stands, as a JSON pointer.")
    detail: str


class Problem(pydantic.BaseModel):
    """A problem document."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


class ProblemError(HTTPException):
    """Ends a request with a problem document, from wherever the framework calls.

    Args:
        status: the HTTP status.
        detail: what was found and what would have been right. It is for the client: no paths.
        headers: further headers of the answer.
        errors: each part that is wrong, where there are several.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Iterable[Fault] = (),
    ) -> None:
        super().__init__(status, detail, headers)
        self.errors = list(errors)

    def response(self) -> Response:
        """The answer that it is."""
        title = http.HTTPStatus(self.status_code).phrase
        problem = Problem(
            title=title, status=self.status_code, detail=self.detail, errors=self.errors
        )
        body = problem.model_dump_json(exclude=None if self.errors else {"errors"})
        return Response(body, self.status_code, self.headers, MEDIA_TYPE)


def busy(what: str, seconds: int = 1) -> ProblemError:
    """503: ask again in ``seconds``."""
    detail = f"{what}; ask again in {seconds} s"
    return ProblemError(503, detail, {"Retry-After": str(seconds)})


def on_http(request: Request, error: Exception) -> Response:
    """A problem, or what the framework refuses: an unknown path, a method, a body that is none."""
    if isinstance(error, ProblemError):
        return error.response()
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = "there is nothing at this path; see /openapi.json"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        detail = f"this path does not take {request.method}; it takes {allowed}"
    return ProblemError(error.status_code, detail, error.headers).response()


def on_invalid(request: Request, error: Exception) -> Response:
    """A request that does not fit the schema. What was found is told, values are not repeated."""
    assert isinstance(error, RequestValidationError)
    faults = [Fault(pointer=_pointer(e["loc"]), detail=e["msg"]) for e in error.errors()][:20]
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return ProblemError(400, "the body is no JSON", errors=faults).response()
    first = f"{faults[0].pointer}: {faults[0].detail}" if faults else "the request is not right"
    return ProblemError(422, first, errors=faults).response()


def _pointer(location: Iterable[Any]) -> str:
    """``#/queries/0/text`` for a place in the body, ``limit`` for a parameter."""
    where, *parts = map(str, location)
    if where in ("query", "header", "path"):
        return "/".join(parts)
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


#: For the OpenAPI schema: what any call may be answered with.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": http.HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 404, 413, 422, 503, 504)
}
