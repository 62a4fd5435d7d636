"""What never becomes a request: over real sockets, with uvicorn."""

from __future__ import annotations

import json
import socket
import threading

import pytest

pytest.importorskip("uvicorn")

import uvicorn

from msiam.serving import connection
from msiam.serving.connection import Connection

LARGE = b"x" * 50_000_000


async def application(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body = LARGE if scope["path"] == "/large" else b"well"
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch):
    """Of a server that gives a request half a second."""
    monkeypatch.setattr(connection, "GRACE", 0.25)
    config = uvicorn.Config(
        application, http=Connection.limited(0.25), ws="none", lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def client(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as made:
        yield made


def rest(client):
    """All that the server says until it hangs up."""
    found = b""
    try:
        while piece := client.recv(1 << 16):
            found += piece
    except ConnectionResetError:
        pass
    return found


GET = b"GET /small HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"G", b"GET / HTTP/1.1\r\nHost: here\r\nA: b"])
def test_a_head_that_never_ends_is_cut_off(client, said):
    client.sendall(said)
    assert rest(client) == b""


def test_nor_does_a_second_one_hang(client):
    client.sendall(GET)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    client.sendall(GET[:-2])
    assert b"HTTP" not in rest(client)


def test_several_requests_one_after_the_other_and_at_once(client):
    client.sendall(GET * 3)
    found = b""
    while found.count(b"well") < 3:
        found += client.recv(1 << 16)
    client.sendall(GET)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


def test_who_does_not_read_the_answer_is_cut_off(client):
    client.sendall(b"GET /large HTTP/1.1\r\nHost: here\r\n\r\n" + GET)
    ended = threading.Event()
    ended.wait(2)
    assert len(rest(client)) < len(LARGE)


LONG = b"GET /small HTTP/1.1\r\nHost: here\r\n"


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA b\r\n\r\n", 400),
        (b"GET /" + b"x" * 100_000, 431),
        (LONG + b"A: " + b"x" * 100_000, 431),
        (LONG + b"A: b\r\n" * 20_000, 431),
    ],
)
def test_what_is_no_request_is_a_problem_document(client, said, status):
    client.sendall(said)
    head, _, body = rest(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status) and b"application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_a_large_body_is_no_large_head(client):
    head = b"POST /small HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n"
    client.sendall(head + b"x" * 1_000_000)
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
