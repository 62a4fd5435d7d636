"""A client's connection: how long a request may take on it, how large a head may be, and what is
no HTTP at all.

The application knows of a request once its head is there, and until its answer is handed over. A
client that sends a head byte by byte or without an end, or never reads its answer, is cut off here.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from msiam.serving.problems import ProblemError

GRACE = 5.0  # seconds beyond the application's own limit, so that it can say what went wrong
LARGEST_HEAD = 64 * 2**10  # bytes, and of all that is no body


class Connection(HttpToolsProtocol):
    """A connection of uvicorn's, cut off ``seconds`` after a request on it began and is not over.

    A connection that is new has to begin one in that time.
    """

    seconds = 20.0
    _deadline: asyncio.TimerHandle | None = None
    _head = 0  # bytes of this request that are no body

    @classmethod
    def limited(cls, seconds: float) -> type[Connection]:
        """One whose requests the application gives up after ``seconds``."""
        return type("LimitedConnection", (cls,), {"seconds": seconds + GRACE})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._begin()
        self._head += len(data)
        super().data_received(data)
        if self._head > LARGEST_HEAD:
            self._refuse(431, f"the request has more than {LARGEST_HEAD:,} bytes beside its body")

    def on_body(self, body: bytes) -> None:
        self._head -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._end()
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request was here already
            self._begin()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is no HTTP/1.1 request")

    def _refuse(self, status: int, detail: str) -> None:
        """Say why, if no other answer is under way, and hang up."""
        if self.cycle is None or self.cycle.response_complete:
            answer = ProblemError(status, detail, {"Connection": "close"}).response()
            lines = [b"HTTP/1.1 %d" % status, *map(b": ".join, answer.raw_headers), b"", b""]
            self.transport.write(b"\r\n".join(lines) + bytes(answer.body))
        self.transport.close()

    def _begin(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self.transport.abort)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
