"""What every request passes: who may ask, how much, how long; and what every answer carries."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msiam.serving.limits import Limits
from msiam.serving.metrics import Metrics
from msiam.serving.page import FILES
from msiam.serving.problems import ProblemError, busy

log = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: What needs no token: it holds nothing of the gallery.
OPEN = frozenset(FILES) | {"/healthz"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
DRAINED = 4  # times the body's limit is read and thrown away, so that the client hears why


class Guard:
    """The outermost layer of the application.

    Args:
        token: what ``Authorization: Bearer`` must bring; None: nothing is asked for.
        hosts: the names by which the server may be called; None: any. Without a token it is only
            the loopback's, so that no page of another site reaches it by a name of its own.
        paths: those that figures are kept of, each on its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        token: str | None,
        hosts: Collection[str] | None,
        paths: Collection[str],
    ) -> None:
        self.limits = limits
        self.held = 0  # bytes of the bodies of all requests that are not answered yet
        self._app = app
        self._metrics = metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._paths = frozenset(paths)
        self._at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        body = _Body(self, receive)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        self._at_once += 1
        try:
            problem = await self._passed(scope, body.read, answer)
            if problem is not None and status == 0:
                await problem.response()(scope, receive, answer)
        finally:
            self._at_once -= 1
            self.held -= body.held
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, time.perf_counter() - began)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> ProblemError | None:
        """Pass a request on; what ends it, if the application has not answered."""
        seconds = self.limits.seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                self._admit(scope)
                await self._app(scope, receive, send)
        except ProblemError as problem:
            return problem
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return ProblemError(504, f"it took longer than {seconds:g} s")
            log.exception("a request failed: %s %s", scope["method"], scope["path"])
            return ProblemError(500, "the server failed; its log says more")
        return None

    def _admit(self, scope: Scope) -> None:
        """Raises ProblemError: too many requests, another host's name, no token or a wrong one."""
        if self._at_once > self.limits.requests:
            raise busy(f"{self.limits.requests} requests are being answered")
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            raise ProblemError(400, f"the header Host must name {' or '.join(self._hosts)}")
        if self._token is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self._token)
            if scheme.lower() != "bearer" or not right:
                detail = "give the server's token: Authorization: Bearer …"
                raise ProblemError(401, detail, {"WWW-Authenticate": "Bearer"})


class _Body:
    """A request's body as the application reads it, counted as it comes."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self._guard = guard
        self._receive = receive
        self.held = 0

    async def read(self) -> Message:
        """The next piece.

        Raises:
            ProblemError: 413, the body is too large; 503, all bodies together are.
        """
        message = await self._receive()
        size = len(message.get("body", b""))
        self.held += size
        self._guard.held += size
        limits = self._guard.limits
        if self.held > limits.body:
            await self._drain(message)
            raise ProblemError(413, f"the body has more than {limits.body:,} bytes")
        if self._guard.held > limits.bodies:
            await self._drain(message)
            raise busy("the requests that are being answered fill the memory set aside for them")
        return message

    async def _drain(self, message: Message) -> None:
        """Throw the rest away, within reason: a client that still sends hears of no answer."""
        found = 0
        while message.get("more_body", False) and found <= DRAINED * self._guard.limits.body:
            message = await self._receive()
            found += len(message.get("body", b""))


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
