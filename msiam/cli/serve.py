"""msiam serve: a gallery over HTTP, with a search page."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import re
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import progress
from msiam.errors import MsiamError

TOKEN = "MSIAM_TOKEN"
SHORTEST_TOKEN = 16


def serve(
    gallery: Annotated[Path, typer.Argument(help="A gallery's folder.")],
    host: Annotated[
        str, typer.Option(help="Where to listen. Beyond the loopback MSIAM_TOKEN must be set.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    run: Annotated[
        Path | None, typer.Option(help="The run, where it is not where the gallery was built.")
    ] = None,
    body: Annotated[int, typer.Option(help="The most MiB of a request.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="The most that a request may take.", min=0.1)] = 20,
    waiting: Annotated[
        int, typer.Option(help="The most queries that wait; one beyond is answered 503.", min=1)
    ] = 512,
) -> None:
    """Serve a gallery: /search, /match, /embed, /records, /metrics, and a search page at /.

    Each client brings the token that the environment variable MSIAM_TOKEN holds, if it is set:
    Authorization: Bearer TOKEN.
    """
    loopback = _is_loopback(host)
    token = _token(host, loopback)
    # Requests are read and answered beside the model: a processor is theirs. (This has to be said
    # before torch and FAISS come in.) And neither waits for long for the other to go on.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _processors() - 1)))
    sys.setswitchinterval(0.001)
    try:
        import uvicorn

        from msiam.run import open_with_run
        from msiam.serving.app import create_app
        from msiam.serving.connection import Connection
        from msiam.serving.guard import LOOPBACK
        from msiam.serving.limits import Limits
        from msiam.serving.service import Service
    except ModuleNotFoundError as error:
        raise MsiamError(
            f"msiam serve: {error.name} is not installed; pip install 'msiam[serve]'"
        ) from error

    listening = _listen(host, port)
    opened, made_by = open_with_run(gallery, run)
    limits = Limits(body=body * 2**20, seconds=seconds, waiting=waiting)
    hosts = {*LOOPBACK, host} if loopback and token is None else None
    app = create_app(Service(opened, made_by), limits, token, hosts)
    config = uvicorn.Config(
        app, http=Connection.limited(seconds), ws="none", log_level="warning", access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=int(seconds) + 1,
    )  # fmt: skip
    listening.listen(config.backlog)  # who comes from here on waits, and is not refused
    # What is there now stays: the collector, which libraries give a million objects to go through,
    # would take a fifth of the time under load.
    gc.collect()
    gc.freeze()
    shown = f"[{host}]" if ":" in host else host
    place = f"http://{shown}:{listening.getsockname()[1]}"
    progress.print(f"{len(opened):,} records: {place} (Ctrl-C ends it)", soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):  # raised again when all requests are answered
        uvicorn.Server(config).run(sockets=[listening])
    progress.print("ended")


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _token(host: str, loopback: bool) -> str | None:
    """What clients must bring.

    Raises:
        MsiamError: there is none though others may reach the server, or it is easily guessed.
    """
    token = os.environ.get(TOKEN)
    if token is None and not loopback:
        raise MsiamError(
            f"--host {host}: others may reach it, so that it needs a token; set {TOKEN}, for "
            f"example to what openssl rand -hex 32 prints"
        )
    if token is not None and not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},}}", token):
        raise MsiamError(
            f"{TOKEN}: give {SHORTEST_TOKEN} characters or more, of letters, digits and signs of "
            f"ASCII, with no blanks"
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a port that is taken is told before the model is loaded.

    Raises:
        MsiamError: it is taken, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise MsiamError(
            f"{host}:{port}: cannot be listened on ({error.strerror}); give another --port"
        ) from error
    return listening
