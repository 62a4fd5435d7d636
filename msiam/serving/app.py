"""The application: an HTTP API over one gallery, and its search page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Collection
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from msiam.errors import BackendError, MsiamError
from msiam.serving.batching import Batcher
from msiam.serving.guard import LOOPBACK, Guard
from msiam.serving.limits import Limits
from msiam.serving.metrics import Metrics
from msiam.serving.page import FILES, page_routes
from msiam.serving.problems import Problem, ProblemError, busy, on_http, on_invalid
from msiam.serving.routes import api_routes
from msiam.serving.service import Service

log = logging.getLogger(__name__)


def create_app(
    service: Service,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: Collection[str] | None = LOOPBACK,
) -> FastAPI:
    """The application, an ASGI one. Its thread begins and ends with its lifespan.

    Args:
        token: what clients must bring; None: nothing.
        hosts: the names by which the server may be called; None: any.
    """
    limits = limits or Limits()
    metrics = Metrics()
    batcher: Batcher[Any, Any] = Batcher(service.work, limits.waiting, limits.batch, metrics.batch)
    metrics.follow(lambda: batcher.waiting, lambda: len(service.gallery))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        watching = asyncio.create_task(_watch(service, limits.refresh, metrics))
        yield
        watching.cancel()
        await anyio.to_thread.run_sync(batcher.close)

    app = FastAPI(
        title="msiam",
        summary="Search in a gallery, and match.",
        docs_url=None,  # they load scripts from other hosts
        redoc_url=None,
        telemetry={"operation_spans": False},  # within a request; they cost more than its checks
        lifespan=lifespan,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token else None,
    )
    app.include_router(api_routes(service, batcher, metrics, limits))
    app.include_router(page_routes())
    paths = {*app.openapi()["paths"], *FILES}
    app.openapi()["components"]["schemas"]["Problem"] = Problem.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    app.add_middleware(Guard, limits=limits, metrics=metrics, token=token, hosts=hosts, paths=paths)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)

    def on_mistake(request: Request, error: Exception) -> Response:
        """A client's mistake, as the library words it, without the server's paths."""
        if isinstance(error, BackendError):
            log.error("%s", error)
            return busy("the engine that holds the vectors does not answer", 5).response()
        return ProblemError(422, spoken(service, error)).response()

    app.add_exception_handler(MsiamError, on_mistake)
    return app


def spoken(service: Service, error: Exception) -> str:
    """An error's message with no path of the server in it."""
    message = str(error)
    gallery = service.gallery
    for place in (gallery.folder, gallery.folder.resolve(), gallery.root, gallery.run):
        if place is not None:
            message = message.removeprefix(f"{place}: ")
            # A folder may be called as any word is.
            message = re.sub(rf"(?<![\w/.-]){re.escape(str(place))}(?=[/:])", "…", message)
    return message


async def _watch(service: Service, seconds: float, metrics: Metrics) -> None:
    """Look every so often whether the gallery was written, and open the newer one.

    What is wrong with one that cannot be opened is told once, however often it is tried.
    """
    told = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            if await anyio.to_thread.run_sync(service.refresh):
                metrics.refreshed.labels("opened").inc()
                log.info("the gallery has changed: %d records", len(service.gallery))
                told = ""
        except Exception as error:
            metrics.refreshed.labels("refused").inc()
            if str(error) != told:
                told = str(error)
                trace = None if isinstance(error, MsiamError) else error
                what = "the gallery has changed and cannot be opened: %s"
                log.error(what, error, exc_info=trace)
