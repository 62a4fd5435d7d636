"""A client's connection: how long a request may take on it, and what is no HTTP at all.

The application knows of a request once its head is there, and until its answer is handed over. A
client that sends a head byte by byte, or never reads its answer, is cut off here.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from msiam.serving.problems import MEDIA_TYPE, ProblemError

GRACE = 5.0  # seconds beyond the application's own limit, so that it can say what went wrong


class Connection(H11Protocol):
    """A connection of uvicorn's, cut off ``seconds`` after a request on it began and is not over.

    A connection that is new has to begin one in that time.
    """

    seconds = 20.0
    _deadline: asyncio.TimerHandle | None = None

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
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._end()
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request was here already
            self._begin()

    def send_400_response(self, msg: str) -> None:
        """A problem document, as for any other mistake."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = bytes(ProblemError(400, "this is no HTTP/1.1 request").response().body)
            headers = [("Content-Type", MEDIA_TYPE), ("Connection", "close")]
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _begin(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self.transport.abort)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
