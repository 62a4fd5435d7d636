"""What every request passes: who may ask, how much, how long; and what every answer carries."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from msiam.serving.limits import Limits
from msiam.serving.metrics import Metrics
from msiam.serving.problems import ProblemError, busy

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: What needs no token: it holds nothing of the gallery.
OPEN = ("/", "/page.css", "/page.js", "/healthz")
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
        self._app = app
        self._limits = limits
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
            try:
                async with asyncio.timeout(self._limits.seconds):
                    self._admit(scope)
                    await self._app(scope, self._counted(scope, receive), answer)
            except TimeoutError:
                detail = f"it took longer than {self._limits.seconds:g} s"
                raise ProblemError(504, detail) from None
        except ProblemError as problem:
            if status == 0:
                await problem.response()(scope, receive, answer)
        finally:
            self._at_once -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, time.perf_counter() - began)

    def _admit(self, scope: Scope) -> None:
        """Raises ProblemError: too many requests, another host's name, no token or a wrong one."""
        if self._at_once > self._limits.requests:
            raise busy(f"{self._limits.requests} requests are being answered")
        headers = Headers(scope=scope)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            raise ProblemError(400, f"the header Host must name {' or '.join(self._hosts)}")
        if self._token is not None and scope["path"] not in OPEN:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self._token)
            if scheme.lower() != "bearer" or not right:
                detail = "give the server's token: Authorization: Bearer …"
                raise ProblemError(401, detail, {"WWW-Authenticate": "Bearer"})

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """The body, up to its limit. What is beyond is thrown away, and then refused."""
        most = self._limits.body
        found = 0

        async def read() -> Message:
            nonlocal found
            message = await receive()
            found += len(message.get("body", b""))
            if found <= most:
                return message
            while message.get("more_body", False) and found <= DRAINED * most:
                message = await receive()
                found += len(message.get("body", b""))
            # The framework takes this one through; any other error it would call a 400.
            raise HTTPException(413, f"the body has more than {most:,} bytes")

        return read


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
