"""What one request may ask for, and what the server takes on at once."""

from __future__ import annotations

from dataclasses import dataclass

#: These stand in the OpenAPI schema, and are the same on every server.
MOST_HITS = 1000
MOST_HITS_TOGETHER = 10_000  # of all queries of a request: an answer is made in memory
MOST_QUERIES = 64
MOST_RECORDS = 1000
MOST_SIDE = 2048  # pixels of a thumbnail's longer side
LONGEST_TEXT = 10_000
LONGEST_FILTER = 2_000
LONGEST_NAME = 1_000  # of an id or a column
WIDEST = 65_536


@dataclass(frozen=True)
class Limits:
    """What an operator may set.

    Attributes:
        body: the most bytes of a request.
        bodies: the most bytes of all requests at once; one beyond is answered 503.
        pixels: the most pixels of a request's pictures together. They are read from a picture's
            header, before it is decoded, since a file of a few kB may hold billions.
        seconds: the most that a request may take, with waiting; then it is answered 504.
        waiting: the most queries that wait; a request beyond is answered 503 at once.
        batch: the most queries embedded in one forward.
        requests: the most requests at once, whatever they ask for; one beyond is answered 503.
        refresh: seconds between two looks whether the gallery has changed.
    """

    body: int = 8 * 2**20
    bodies: int = 128 * 2**20
    pixels: int = 50_000_000
    seconds: float = 20.0
    waiting: int = 512
    batch: int = 64
    requests: int = 1024
    refresh: float = 2.0
